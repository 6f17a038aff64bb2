/*-------------------------------------------------------------------------
 *
 * apply_main.c
 *	  An apply worker: its views, its place in the delta log, its batches.
 *
 * Around its latch the worker goes: take over what changed in ivm.view
 * (consumer_list.c), look at what is new in the log (progress.c), run a batch
 * (batch.c) over the consumers that something waits for, tell how far it is.
 * A consumer that nothing happened to costs nothing.
 *
 * Under load batches keep a distance, so that their fixed cost is shared: on
 * average there is at most one in ivm.batch_interval.  Below that rate each
 * begins at once, also a few that come close together.  Before a batch the
 * worker waits, holding nothing, until the decoder is near the end of the WAL.
 *
 * Memory: what a batch needed is given back when it has ended, or when nothing
 * comes for a second if it was little.  A batch that was refused memory is
 * rolled back, and begun again with the overdraft token (pressure.c).  The worker waits for
 * that in its loop, with no transaction, no lock and nothing but its minimum, so that it
 * keeps taking over what others wait for.  Before a large batch it waits a moment if others hold
 * so much that it would have to write files.
 *
 * Failures: an error rolls the batch back.  It is done again by components,
 * then by single consumers, until the culprit is alone.  What may go away by
 * itself (locks, resources, cancels) is tried again after a pause, anything
 * else makes the builder rebuild the view; if its query fails as well the view goes
 * to state error.  See failure.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/procarray.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "arrange/cache.h"
#include "base/debug_point.h"
#include "base/in_hand.h"
#include "base/settings.h"
#include "memory/budget.h"
#include "memory/reclaim.h"
#include "maintain/ailing.h"
#include "maintain/apply_worker.h"
#include "maintain/failure.h"
#include "process/process.h"
#include "maintain/rest.h"
#include "maintain/trial.h"

#define UNFLUSHED_RETRY		200 /* ms */
#define TRIM_THRESHOLD		(1024 * 1024)
#define TRIM_DELAY			1000	/* ms without a batch */
#define OVERDRAFT_PATIENCE	1000	/* ms, then it looks what else there is */
#define LARGE_BATCH_BYTES	(4 * 1024 * 1024)
#define SHORTAGE_PATIENCE	1000	/* ms */
#define SHORTAGE_LOOK		20
#define BATCH_BURST			10	/* batches that need not keep their distance */
#define LARGE_BATCH			6	/* changes for each interval that a batch
								 * takes */
#define MAX_INTERVALS		4
#define AILING_LOOK			1000	/* ms between looks for what may have mended
									 * views in error */
#define SLOWER_START		100 /* ms between looks for the worker of the level
								 * below */

static IvmApplyWorker this_worker;

static void
worker_exit(int code, Datum argument)
{
	/* a function that would not be cancelled: the next time it is elsewhere */
	if (OidIsValid(ivm_guard_culprit()))
	{
		ivm_pace_expel(&this_worker, ivm_guard_culprit());
		ivm_in_hand_end();
	}
	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	this_worker.shared->pid = 0;
	this_worker.shared->latch = NULL;
	LWLockRelease(ivm_control->lock);
	ConditionVariableBroadcast(&ivm_control->changed);
	ivm_control_wake_launcher();
}

/* Milliseconds until the next batch may begin. */
static long
batch_delay(IvmApplyWorker *worker)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz limit = TimestampTzPlusMilliseconds(now, (BATCH_BURST + MAX_INTERVALS) * ivm_batch_interval);
	TimestampTz earliest;

	/* it is later if the clock was set back, or the interval shortened */
	worker->paced = Min(worker->paced, limit);
	earliest = TimestampTzPlusMilliseconds(worker->paced, -BATCH_BURST * ivm_batch_interval);
	return TimestampDifferenceMilliseconds(now, earliest);
}

/*
 * A batch ran: it takes its interval, be it in advance.  A large one takes up to
 * four: under that much load the next is better larger than soon.
 */
static void
count_batch(IvmApplyWorker *worker)
{
	int			intervals = Max(1, Min(worker->batch_changes / LARGE_BATCH, MAX_INTERVALS));
	TimestampTz now = GetCurrentTimestamp();

	worker->paced = TimestampTzPlusMilliseconds(Max(worker->paced, now),
												intervals * ivm_batch_interval);
}

static void
drop_truncated(IvmApplyWorker *worker)
{
	ListCell   *cell;
	bool		any = false;

	foreach(cell, list_copy(worker->consumers))
	{
		IvmConsumer *consumer = lfirst(cell);

		if (!consumer->truncated)
			continue;
		ivm_stats_view_state(MyDatabaseId, consumer->relid, "rebuild");
		ivm_stats_view_rebuild(MyDatabaseId, consumer->relid, consumer->truncated_reason);
		ivm_consumer_list_forget(worker, consumer);
		any = true;
	}
	if (any)
	{
		ivm_consumer_list_index(worker);
		ivm_control_changed(MyDatabaseId, true);
	}
}

/*
 * Runs a batch over the consumers; where it fails, over smaller parts of them.
 */
static IvmBatchResult
run_batch(IvmApplyWorker *worker, List *consumers)
{
	IvmBatchResult result = IVM_BATCH_DONE;
	volatile bool failed = false;
	volatile bool is_short = false;
	volatile IvmCancel cancel = IVM_CANCEL_NONE;
	volatile Oid culprit = InvalidOid;
	MemoryContext old = CurrentMemoryContext;
	List	   *parts = NIL;
	ListCell   *cell;
	TimestampTz start;

	PG_TRY();
	{
		result = ivm_batch_run(worker, consumers);
	}
	PG_CATCH();
	{
		Oid			relid;

		failed = true;
		cancel = ivm_guard_end(&relid);
		culprit = relid;
		is_short = cancel == IVM_CANCEL_NONE && ivm_failure_is_shortage();
		MemoryContextSwitchTo(old);
		ivm_failure_save(cancel);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	if (!failed)
		return result;

	ivm_pace_learn(worker, consumers, cancel);
	ivm_batch_abort(worker, consumers);
	switch (cancel)
	{
		case IVM_CANCEL_NONE:
			break;
		case IVM_CANCEL_CROWD:
			ivm_failure_forget();
			return IVM_BATCH_DONE;
		case IVM_CANCEL_PATIENCE:
			ivm_failure_forget();
			ivm_pace_expel(worker, culprit);
			return IVM_BATCH_DONE;
		case IVM_CANCEL_GIVE_WAY:
			/* whoever waited has the lock by now: it is found to be taken */
			ivm_failure_forget();
			return IVM_BATCH_DONE;
		case IVM_CANCEL_BLOCKING:
		case IVM_CANCEL_TIMEOUT:
			if (ivm_consumer_list_find(worker, culprit) != NULL)
				ivm_failure_blame(worker, ivm_consumer_list_find(worker, culprit));
			else
				ivm_failure_forget();
			return IVM_BATCH_DONE;
	}
	if (is_short)
	{
		/* again, as it is */
		ivm_failure_forget();
		worker->wants_overdraft = true;
		return IVM_BATCH_DONE;
	}

	/* the arrangements alone, then each consumer with those that it reads */
	foreach(cell, consumers)
	{
		IvmConsumer *consumer = lfirst(cell);
		ListCell   *inner;
		List	   *part = NIL;

		foreach(inner, consumers)
		{
			IvmConsumer *other = lfirst(inner);

			if (list_member_oid(consumer->arrangements, other->relid))
				part = lappend(part, other);
		}
		part = lappend(part, consumer);
		if (list_length(part) < list_length(consumers))
			parts = lappend(parts, part);
	}
	if (list_length(parts) < list_length(consumers))
	{
		/* the last one is the view, after what it reads; it is to blame */
		ivm_failure_blame(worker, llast(consumers));
		return IVM_BATCH_DONE;
	}
	ivm_failure_forget();
	start = GetCurrentTimestamp();
	foreach(cell, parts)
	{
		List	   *part = lfirst(cell);
		IvmConsumer *consumer = llast(part);

		if (ivm_consumer_list_find(worker, consumer->relid) == consumer &&
			(consumer->pending != 0 || consumer->members_differ) &&
			ivm_upstream_is_ready(worker, consumer, GetCurrentTimestamp()))
			result = run_batch(worker, part);

		/* the rest is still due, and maybe others are by now */
		if (worker->level == 0 && ivm_batch_patience > 0 &&
			TimestampDifferenceExceeds(start, GetCurrentTimestamp(), ivm_batch_patience))
			break;
	}
	return result;
}

static bool
verification_is_taken(IvmConsumer *consumer, IvmRequest *request)
{
	ListCell   *cell;

	foreach(cell, consumer->verify)
	{
		IvmVerification *verification = lfirst(cell);

		if (verification->request == request && verification->number == request->number)
			return true;
	}
	return false;
}

/* Takes requests for verification of this worker's views. */
static void
take_verifications(IvmApplyWorker *worker)
{
	LWLockAcquire(ivm_control->lock, LW_SHARED);
	for (int i = 0; i < IVM_MAX_REQUESTS; i++)
	{
		IvmRequest *request = &ivm_control->requests[i];
		IvmConsumer *consumer;
		IvmVerification *verification;
		MemoryContext old;

		if (request->kind != IVM_REQUEST_VERIFY || request->status != IVM_REQUEST_WAITING ||
			request->dboid != MyDatabaseId)
			continue;
		consumer = ivm_consumer_list_find(worker, request->relid);
		if (consumer == NULL || verification_is_taken(consumer, request))
			continue;
		old = MemoryContextSwitchTo(consumer->context);
		verification = palloc(sizeof(IvmVerification));
		verification->request = request;
		verification->number = request->number;
		consumer->verify = lappend(consumer->verify, verification);
		MemoryContextSwitchTo(old);
	}
	LWLockRelease(ivm_control->lock);
}

/*
 * Reports what the operators of each view have counted, at most every second.
 * Lowers *sleep_ms to when the next report is due, if there is going to be one.
 */
static void
report_operators(IvmApplyWorker *worker, long *sleep_ms)
{
	TimestampTz now = GetCurrentTimestamp();
	ListCell   *cell;

	foreach(cell, worker->consumers)
	{
		IvmConsumer *consumer = lfirst(cell);
		IvmOperatorReport *reports;
		IvmOperatorCounters counters;
		int			n = 0;
		long		wait;

		if (consumer->is_arrangement || consumer->leaving || !consumer->operators_changed)
			continue;
		wait = TimestampDifferenceMilliseconds(now,
											   TimestampTzPlusMilliseconds(consumer->operators_reported, IVM_OPERATOR_REPORT_MS));
		if (wait > 0)
		{
			*sleep_ms = Min(*sleep_ms, wait);
			continue;
		}
		consumer->operators_changed = false;
		consumer->operators_reported = now;
		reports = palloc0(sizeof(IvmOperatorReport) * list_length(consumer->compiled->plan->nodes));
		while (n < list_length(consumer->compiled->plan->nodes) &&
			   ivm_dataflow_take_counters(consumer->dataflow, n, &counters))
		{
			reports[n].node_id = counters.node_id;
			reports[n].parent_id = counters.parent_id;
			strlcpy(reports[n].name, counters.name, NAMEDATALEN);
			reports[n].rows_in = counters.rows_in;
			reports[n].rows_out = counters.rows_out;
			reports[n].state_bytes = counters.state_bytes;
			reports[n].total_time = counters.total_time;
			n++;
		}
		ivm_stats_operators(MyDatabaseId, consumer->relid, n, reports);
		pfree(reports);
	}
}

static void
report_cache(void)
{
	IvmStatsCache cache;

	ivm_cache_stats(&cache);
	ivm_stats_worker_cache(&cache);
}

/*
 * After a batch: gives back what it needed, unless it was little.  The batch's arena is empty now,
 * but has its pages.
 */
static void
trim(IvmApplyWorker *worker)
{
	worker->untrimmed = true;
	if (ivm_arena_resident(worker->arena) > TRIM_THRESHOLD || ivm_overdraft_is_mine())
	{
		ivm_arena_process_trim();
		worker->untrimmed = false;
	}
	if (!worker->wants_overdraft)
		ivm_overdraft_end();
}

/* When idle: gives back the rest, if nothing has come for a while. */
static void
trim_idle(IvmApplyWorker *worker, long *sleep_ms)
{
	long		wait;

	if (!worker->untrimmed)
		return;
	wait = TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
										   TimestampTzPlusMilliseconds(Max(worker->last_batch, worker->last_trim), TRIM_DELAY));
	if (wait > 0)
	{
		*sleep_ms = Min(*sleep_ms, wait);
		return;
	}
	ivm_arena_process_trim();
	worker->untrimmed = false;
	worker->last_trim = GetCurrentTimestamp();
}

/*
 * Before a large batch: lets others give back what they hold, if they hold most of it.  The log is none of them: it
 * holds what the batch is about to read.
 */
static void
wait_for_memory(IvmApplyWorker *worker)
{
	IvmAccount *account = ivm_budget_account();
	IvmAccount *log = ivm_log_account(worker->capture);
	TimestampTz start = GetCurrentTimestamp();

	if (account == NULL || worker->pending_bytes < LARGE_BATCH_BYTES || !ivm_account_is_short(account, log))
		return;
	ivm_stats_worker_state("waiting for memory");
	ivm_arena_process_trim();
	ivm_budget_ask();
	ivm_budget_stall_begin();
	while (ivm_account_is_short(account, log) &&
		   !TimestampDifferenceExceeds(start, GetCurrentTimestamp(), SHORTAGE_PATIENCE))
		ivm_process_wait(SHORTAGE_LOOK);
	ivm_budget_stall_end();
}

/* A worker for slow views that has none ends; the launcher starts another one when there are some. */
static void
end_if_unused(IvmApplyWorker *worker)
{
	char		name[NAMEDATALEN];

	if (worker->consumers != NIL || worker->missing != NIL || worker->missing_left_at != 0 || !ivm_slow_worker_ends(worker->control, worker->level))
		return;
	ivm_registry_retain(worker->capture, NULL, NULL);
	ivm_cursor_release(worker->cursor);
	snprintf(name, sizeof(name), "apply %d", worker->number);
	ivm_cursor_drop(worker->capture, name);
	proc_exit(0);
}

/*
 * What may mend a view in error (a grant, an index that is dropped) is in no log: it comes as an invalidation, some moments
 * after the commit.  So the next commit of anybody wakes this process, which looks then, and once more
 * after AILING_LOOK.  While nothing is committed it sleeps.
 */
static void
look_for_repairs(IvmApplyWorker *worker, long *sleep_ms)
{
	static TimestampTz looked_at = 0;
	TimestampTz now = GetCurrentTimestamp();

	if (!TimestampDifferenceExceeds(looked_at, now, AILING_LOOK))
		*sleep_ms = Min(*sleep_ms, AILING_LOOK);
	else if (ivm_wake_watch(worker->capture, worker->number))
	{
		looked_at = now;
		*sleep_ms = Min(*sleep_ms, AILING_LOOK);
	}
}

void
ivm_apply_main(Datum unused)
{
	IvmProcessArgument argument;
	IvmApplyWorker *worker = &this_worker;
	MemoryContext loop_context;

	ivm_process_init(&argument);
	ivm_process_open_account(IVM_MINIMUM_WORKER, false);
	worker->number = argument.number;
	worker->control = ivm_control_my_database();
	worker->capture = worker->control->capture;
	worker->shared = &worker->control->apply[worker->number];
	worker->level = Max(0, worker->number - worker->control->apply_workers + 1);
	worker->batch_context = AllocSetContextCreate(TopMemoryContext, "ivm batch", ALLOCSET_DEFAULT_SIZES);
	worker->arena = ivm_arena_create("batch", TopMemoryContext);
	ivm_cache_enable();

	ivm_process_join(&argument, &worker->shared->pid, &worker->shared->latch);
	pg_atomic_write_u64(&worker->shared->adopted, 0);
	pg_atomic_write_u64(&worker->shared->looked, 0);
	before_shmem_exit(worker_exit, (Datum) 0);

	ivm_database_attach(worker->capture);
	ivm_wake_register_consumer(worker->capture, worker->number);
	ivm_pace_init(worker);
	while (worker->level > 0 && !ivm_slow_worker_starts(worker->control, worker->level))
		ivm_process_wait(SLOWER_START);
	loop_context = AllocSetContextCreate(TopMemoryContext, "ivm loop", ALLOCSET_DEFAULT_SIZES);

	for (;;)
	{
		long		sleep_ms = ivm_naptime;
		long		until_rest;
		uint64		generation = pg_atomic_read_u64(&worker->control->generation);
		List	   *due;
		bool		unflushed;
		bool		late = false;

		CHECK_FOR_INTERRUPTS();
		ivm_give_back();
		ivm_rest_caches();
		MemoryContextReset(loop_context);
		MemoryContextSwitchTo(loop_context);
		if (generation != pg_atomic_read_u64(&worker->shared->adopted) ||
			(worker->missing != NIL && worker->reload_at <= GetCurrentTimestamp()))
		{
			generation = ivm_consumer_list_reload(worker);
			/* what was promised was not about the new ones */
			(void) ivm_progress_publish(worker);
			pg_atomic_write_u64(&worker->shared->adopted, generation);
			ConditionVariableBroadcast(&ivm_control->changed);
			ivm_control_wake_workers(worker->control);
		}
		ivm_consumer_list_release(worker);
		ivm_pace_return(worker);
		if (worker->level > 0)
			end_if_unused(worker);
		/* a look that begins later sees what was committed before the sync, and goes by what was reloaded */
		worker->looking = pg_atomic_read_u64(&worker->control->syncs);
		pg_memory_barrier();
		ivm_process_reload();
		ivm_debug_point("apply-look");
		ivm_consumer_list_refresh(worker);
		ivm_debug_point("apply-looked");
		ivm_progress_scout(worker);
		ivm_progress_give_up(worker);
		ivm_ailing_tell();
		if (ivm_ailing_any())
			look_for_repairs(worker, &sleep_ms);
		take_verifications(worker);

		if (worker->missing != NIL)
			ivm_sleep_until(worker->reload_at, &sleep_ms);
		due = ivm_due_consumers(worker, &sleep_ms);
		if (due != NIL && ivm_decoder_state(worker->capture) == IVM_DECODER_RUNNING)
		{
			long		delay = batch_delay(worker);

			if (delay > 0)
			{
				ivm_wake_mute(worker->capture, worker->number, true);
				ivm_process_wait(delay);
				ivm_wake_mute(worker->capture, worker->number, false);
				continue;
			}
			if (!ivm_decoder_is_near_end(worker->capture))
			{
				ivm_stats_worker_state("waiting for decoder");
				(void) ivm_decoder_wait(worker->capture, ivm_wal_end(), 1000);
				continue;
			}
			if (worker->wants_overdraft)
			{
				ivm_stats_worker_state("waiting for memory");
				if (!ivm_overdraft_wait(OVERDRAFT_PATIENCE))
					continue;
				worker->wants_overdraft = false;
			}
			else
				wait_for_memory(worker);
			if (!ivm_consumer_list_wake(worker, due))
			{
				worker->wants_overdraft |= ivm_overdraft_is_mine();
				ivm_overdraft_end();
				continue;
			}
			if (worker->level > 0)
				(void) ivm_progress_publish(worker);	/* it may take long */
			if (run_batch(worker, due) == IVM_BATCH_DECODER_LATE)
				late = true;
			count_batch(worker);
			trim(worker);
			report_cache();
			drop_truncated(worker);
			report_operators(worker, &sleep_ms);
			(void) ivm_rest_some(&sleep_ms);
			ivm_progress_store(worker);
			(void) ivm_progress_publish(worker);
			if (late)
				(void) ivm_decoder_wait(worker->capture, ivm_wal_end(), 1000);
			continue;
		}
		ivm_progress_store(worker);
		unflushed = ivm_progress_publish(worker);
		report_operators(worker, &sleep_ms);
		worker->untrimmed |= ivm_rest_some(&sleep_ms);
		if (unflushed)
			sleep_ms = Min(sleep_ms, UNFLUSHED_RETRY);
		if (pg_atomic_read_u64(&worker->control->wanted_position) > pg_atomic_read_u64(&worker->shared->position) &&
			ivm_decoder_state(worker->capture) == IVM_DECODER_RUNNING)
		{
			/* somebody waits for a position: the decoder has to come there */
			if (!ivm_decoder_wait(worker->capture, pg_atomic_read_u64(&worker->control->wanted_position), 100))
				continue;
			if (ivm_log_end(worker->capture).decoded_lsn > worker->scouted_lsn)
				continue;
		}
		if (due == NIL)
			worker->wants_overdraft = false;	/* what wanted it has gone */
		trim_idle(worker, &sleep_ms);
		report_cache();
		ivm_stats_worker_state("idle");
		until_rest = ivm_cursor_rest();
		ivm_process_wait(Min(sleep_ms, until_rest));
	}
}
