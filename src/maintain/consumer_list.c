/*-------------------------------------------------------------------------
 *
 * consumer_list.c
 *	  Which consumers an apply worker has, and how it comes by them.
 *
 * When ivm.view changes, the generation that sessions and the builder count
 * makes the worker read it again.  A new consumer begins at the oldest
 * transaction in the log, which the builder's cursor holds until this worker
 * has said (adopted) that it took over; so the worker takes both of its cursors
 * anew.  A consumer that moves to another worker is kept (leaving), and what it
 * needs with it, until all workers have adopted that generation: one of them
 * holds the log back for it at any time.  So it is with one that moves before it could
 * be loaded.
 *
 * A consumer that cannot be loaded (loading.c) for want of a lock
 * (missing) is tried again, and holds up no other: its tables are
 * registered as its fingerprint names them, and the worker's cursor stays where
 * the log begins until all are there.
 *
 * Memory: consumers have contexts of their own; the list and the table of who
 * reads what are in TopMemoryContext.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compile/compile.h"
#include "maintain/ailing.h"
#include "maintain/apply_worker.h"
#include "maintain/assignment.h"
#include "maintain/failure.h"
#include "maintain/rest.h"
#include "maintain/trial.h"
#include "process/status.h"

#define RELOAD_RETRY		50	/* ms */
#define MAX_RELOAD_RETRY	1000

/* An element of the table of consumers by relation. */
typedef struct ByRelid
{
	Oid			relid;			/* hash key */
	IvmConsumer *consumer;
} ByRelid;

IvmConsumer *
ivm_consumer_list_find(IvmApplyWorker *worker, Oid relid)
{
	ByRelid    *entry = NULL;

	if (worker->by_relid != NULL)
		entry = hash_search(worker->by_relid, &relid, HASH_FIND, NULL);
	return entry == NULL ? NULL : entry->consumer;
}

void
ivm_consumer_list_add(IvmApplyWorker *worker, IvmConsumer *consumer)
{
	HASHCTL		control = {.keysize = sizeof(Oid),.entrysize = sizeof(ByRelid)};
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	ByRelid    *entry;

	if (worker->by_relid == NULL)
		worker->by_relid = hash_create("ivm consumers", 64, &control, HASH_ELEM | HASH_BLOBS);
	entry = hash_search(worker->by_relid, &consumer->relid, HASH_ENTER, NULL);
	entry->consumer = consumer;
	if (consumer->is_arrangement)
		worker->consumers = lcons(consumer, worker->consumers);
	else
		worker->consumers = lappend(worker->consumers, consumer);
	MemoryContextSwitchTo(old);
}

void
ivm_consumer_list_forget(IvmApplyWorker *worker, IvmConsumer *consumer)
{
	if (!consumer->is_arrangement)
		ivm_status_let_go(consumer->relid, worker->number);
	(void) hash_search(worker->by_relid, &consumer->relid, HASH_REMOVE, NULL);
	worker->consumers = list_delete_ptr(worker->consumers, consumer);
	ivm_consumer_free(consumer);
	worker->untrimmed = true;
}

static void
add_interest(IvmApplyWorker *worker, Oid relid, IvmConsumer *consumer)
{
	IvmInterest *interest;
	bool		found;

	interest = hash_search(worker->interest, &relid, HASH_ENTER, &found);
	if (!found)
	{
		interest->consumers = NIL;
		interest->row = NULL;
		interest->row_batch = 0;
	}
	interest->consumers = lappend(interest->consumers, consumer);
}

/* Of what is registered for this worker, is that read by anybody? */
static bool
is_read(Oid relid, void *argument)
{
	IvmApplyWorker *worker = argument;

	return hash_search(worker->interest, &relid, HASH_FIND, NULL) != NULL || ivm_ailing_reads(relid);
}

/* Sets the table of who reads what.  Tables that nobody reads are not decoded for this worker any more, if all is known. */
void
ivm_consumer_list_index(IvmApplyWorker *worker)
{
	HASHCTL		control = {.keysize = sizeof(Oid),.entrysize = sizeof(IvmInterest)};
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	ListCell   *cell;

	if (worker->interest != NULL)
	{
		HASH_SEQ_STATUS status;
		IvmInterest *interest;

		hash_seq_init(&status, worker->interest);
		while ((interest = hash_seq_search(&status)) != NULL)
			list_free(interest->consumers);
		hash_destroy(worker->interest);
	}
	worker->interest = hash_create("ivm interest", 64, &control, HASH_ELEM | HASH_BLOBS);

	foreach(cell, worker->consumers)
	{
		IvmConsumer *consumer = lfirst(cell);
		ListCell   *inner;

		foreach(inner, consumer->compiled->relids)
			add_interest(worker, lfirst_oid(inner), consumer);
		foreach(inner, consumer->left)
			add_interest(worker, ((IvmMember *) lfirst(inner))->relid, consumer);
	}
	MemoryContextSwitchTo(old);
	if (worker->missing == NIL && worker->missing_left_at == 0)
		ivm_registry_retain(worker->capture, is_read, worker);
}

static bool
assigned_to_me(IvmApplyWorker *worker, IvmViewRow *row, IvmAssignment *assignments, int count, const IvmSlow *slow)
{
	return assignments != NULL &&
		ivm_consumer_worker(assignments, count, row->relid, worker->control->apply_workers, slow) == worker->number;
}

/* The version of the row that the consumer was made from, or read its applied snapshot with? */
static bool
is_known_version(IvmViewRow *row, IvmConsumer *consumer)
{
	return ivm_row_version_equal(&row->version, &consumer->row_version);
}

/*
 * True if the row is about the same contents' definition as the consumer.  A row that is not complete was
 * known already.
 */
static bool
same_definition(IvmViewRow *row, IvmConsumer *consumer)
{
	return !row->complete ||
		(row->text !=NULL && row->fingerprint != NULL &&
		 ivm_plan_hash(row->text, row->fingerprint) == consumer->compiled->hash);
}

/*
 * The builder may have filled the view anew between two looks, with the same
 * plan: what is known of its contents is read again.  It stores the row of ivm.view
 * whenever it does.
 */
static void
read_applied(IvmConsumer *consumer, IvmViewRow *row)
{
	MemoryContext old = MemoryContextSwitchTo(consumer->context);
	IvmAppliedSnapshot *applied;

	applied = ivm_applied_get(consumer->relid, GetActiveSnapshot());
	MemoryContextSwitchTo(old);
	if (applied == NULL)
		return;
	ivm_consumer_read_applied(consumer, applied);
	consumer->row_version = row->version;
}

/* Reads what is new about these rows; in the transaction, and context, in which they were listed. */
static void
read_news(IvmApplyWorker *worker, List *rows, IvmAssignment *assignments, int count, const IvmSlow *slow)
{
	ListCell   *cell;

	foreach(cell, rows)
	{
		IvmViewRow *row = lfirst(cell);
		IvmConsumer *consumer = ivm_consumer_list_find(worker, row->relid);

		if (consumer != NULL && !consumer->given_up && is_known_version(row, consumer))
			continue;
		if (row->state == IVM_STATE_ACTIVE &&
			(consumer != NULL || assigned_to_me(worker, row, assignments, count, slow)))
			ivm_metadata_complete(row);
		if (consumer != NULL)
			read_applied(consumer, row);
	}
}

/* Stops the views that read one that is not maintained any more; true if there are any. */
static bool
stop_dependants(IvmApplyWorker *worker, List *rows)
{
	MemoryContext old = CurrentMemoryContext;
	bool		any = false;
	ListCell   *cell;

	foreach(cell, list_copy(worker->consumers))
	{
		IvmConsumer *consumer = lfirst(cell);
		Oid			relid = consumer->relid;
		IvmRowVersion version = consumer->row_version;
		char	   *problem;

		if ((consumer->upstream == NIL && consumer->arrangements == NIL) || consumer->leaving)
			continue;
		StartTransactionCommand();
		MemoryContextSwitchTo(old);
		problem = ivm_upstream_problem(list_union_oid(consumer->upstream, consumer->arrangements), rows);
		CommitTransactionCommand();
		MemoryContextSwitchTo(old);
		if (problem == NULL)
			continue;
		ivm_consumer_list_forget(worker, consumer);
		(void) ivm_failure_stop(relid, &version, problem);
		MemoryContextSwitchTo(old);
		any = true;
	}
	return any;
}

/* Keeps in mind what could not be loaded, and when to try again. */
static void
set_missing(IvmApplyWorker *worker, List *missing)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	list_free(worker->missing);
	worker->missing = list_copy(missing);
	MemoryContextSwitchTo(old);
	worker->reload_delay = missing == NIL ? 0 :
		Min(Max(worker->reload_delay * 2, RELOAD_RETRY), MAX_RELOAD_RETRY);
	worker->reload_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), worker->reload_delay);
}

/*
 * Notes where the consumers belong.  What sits together with a slow view and is not known as slow is
 * put on that list, by which others know which worker to ask; that is before this one has adopted
 * the generation.
 */
static void
set_components(IvmApplyWorker *worker, const IvmAssignment *assignments, int count, const IvmSlow *slow)
{
	Oid			first = InvalidOid;
	ListCell   *cell;

	worker->several = false;
	foreach(cell, worker->consumers)
	{
		IvmConsumer *consumer = lfirst(cell);
		const IvmAssignment *assignment = ivm_consumer_assignment(assignments, count, consumer->relid);

		if (assignment == NULL)
			continue;
		consumer->component = assignment->component;
		consumer->level = assignment->level;
		if (!OidIsValid(first))
			first = consumer->component;
		worker->several |= consumer->component != first && !consumer->leaving;
	}
	for (int i = 0; i < count; i++)
		if (assignments[i].level > ivm_slow_level(slow, assignments[i].relid))
			(void) ivm_slow_mark(worker->control, list_make1_oid(assignments[i].relid), assignments[i].level);
}

/* Views on the list of slow ones that there are no more. */
static List *
slow_and_gone(const IvmSlow *slow, List *rows)
{
	List	   *result = NIL;

	for (int i = 0; i < slow->count; i++)
		if (ivm_metadata_find(rows, slow->views[i].relid) == NULL)
			result = lappend_oid(result, slow->views[i].relid);
	return result;
}

uint64
ivm_consumer_list_reload(IvmApplyWorker *worker)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "ivm reload", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	List	   *rows;
	List	   *unknown;
	IvmAssignment *assignments;
	int			count;
	bool		build;
	bool		begin = worker->cursor == NULL;
	bool		reindex = worker->interest == NULL || worker->missing != NIL;
	uint64		generation;
	IvmSlow    *slow;
	List	   *added = NIL;
	List	   *missing = NIL;
	List	   *failed = NIL;
	Oid			building;
	ListCell   *cell;

	/* the list first: all that is on it is in ivm.view, or was dropped */
	slow = ivm_slow_copy(worker->control, &generation);
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(context);
	if (!ivm_metadata_is_installed())
	{
		rows = unknown = NIL;
		assignments = NULL;
		count = 0;
	}
	else
	{
		rows = ivm_metadata_list();
		unknown = ivm_unknown_views(rows);
		assignments = ivm_consumer_assign(rows, slow, &count);
		MemoryContextSwitchTo(context);
		read_news(worker, rows, assignments, count, slow);
		foreach(cell, rows)
		{
			IvmViewRow *row = lfirst(cell);

			if (row->kind != 'v' || row->state != IVM_STATE_ERROR || !assigned_to_me(worker, row, assignments, count, slow))
				continue;
			ivm_metadata_complete(row);
			if (!ivm_trial_forbids(row))
				failed = lappend(failed, row);
		}
	}
	MemoryContextSwitchTo(context);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);

	ivm_stats_retain_rows(rows);
	ivm_slow_forget(worker->control, slow_and_gone(slow, rows));
	ivm_ailing_set(worker->capture, failed);
	LWLockAcquire(ivm_control->lock, LW_SHARED);
	building = worker->control->building;
	LWLockRelease(ivm_control->lock);
	build = unknown != NIL;
	foreach(cell, rows)
	{
		IvmViewRow *row = lfirst(cell);
		IvmConsumer *consumer = ivm_consumer_list_find(worker, row->relid);
		bool		mine = assigned_to_me(worker, row, assignments, count, slow);

		/* one that the builder has in hand is not waiting for it */
		if ((row->state == IVM_STATE_BUILDING || row->state == IVM_STATE_REBUILD) && row->relid != building)
			build = true;
		if (consumer != NULL && !consumer->given_up &&
			row->state == IVM_STATE_ACTIVE && same_definition(row, consumer))
		{
			if (!mine && !consumer->leaving)
			{
				consumer->leaving_at = generation;
				if (!consumer->is_arrangement)
					ivm_status_leave(consumer->relid, worker->number);
			}
			if (mine && consumer->leaving)
			{
				ivm_progress_begin(worker);
				ivm_stats_view_adopt(MyDatabaseId, consumer->relid, worker->number, consumer->applied->time);
				consumer->behind_reported = true;
			}
			consumer->leaving = !mine;
			continue;
		}
		if (consumer != NULL)
		{
			ivm_consumer_list_forget(worker, consumer);
			reindex = true;
		}
		if (row->state == IVM_STATE_ACTIVE && mine)
			added = lappend(added, row);
	}
	foreach(cell, list_copy(worker->consumers))
	{
		IvmConsumer *consumer = lfirst(cell);

		if (ivm_metadata_find(rows, consumer->relid) == NULL)
		{
			ivm_consumer_list_forget(worker, consumer);
			reindex = true;
		}
	}

	foreach(cell, added)
	{
		IvmViewRow *row = lfirst(cell);

		if (ivm_consumer_list_load(worker, row, rows))
			begin = true;
		else
		{
			missing = lappend_oid(missing, row->relid);
			begin |= !list_member_oid(worker->missing, row->relid);
		}
		ivm_rest_caches();
		MemoryContextSwitchTo(context);
	}
	reindex |= stop_dependants(worker, rows);
	if (begin)
	{
		ivm_progress_begin(worker);
		worker->incarnation = 0;	/* what is new is checked against the
									 * slot, too */
	}
	foreach(cell, worker->missing)
	{
		IvmViewRow *row = ivm_metadata_find(rows, lfirst_oid(cell));

		if (row != NULL && row->state == IVM_STATE_ACTIVE && !assigned_to_me(worker, row, assignments, count, slow))
			worker->missing_left_at = generation;
	}
	set_missing(worker, missing);
	set_components(worker, assignments, count, slow);

	MemoryContextSwitchTo(old);
	if (reindex || added != NIL)
		ivm_consumer_list_index(worker);

	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	worker->shared->registered = true;
	if (rows == NIL && unknown == NIL)
		worker->control->empty_generation = generation;
	if (build)
		worker->control->build_wanted = true;
	LWLockRelease(ivm_control->lock);
	MemoryContextDelete(context);
	ivm_control_wake_launcher();
	return generation;
}

/* Forgets consumers that another worker has taken over. */
void
ivm_consumer_list_release(IvmApplyWorker *worker)
{
	uint64		adopted = PG_UINT64_MAX;
	int			workers;
	ListCell   *cell;
	bool		any = false;

	foreach(cell, worker->consumers)
		any |= ((IvmConsumer *) lfirst(cell))->leaving;
	if (!any && worker->missing_left_at == 0)
		return;

	workers = ivm_control_all_workers(worker->control);
	for (int i = 0; i < workers; i++)
	{
		uint64		its_adopted = pg_atomic_read_u64(&worker->control->apply[i].adopted);

		adopted = Min(adopted, its_adopted);
	}
	foreach(cell, list_copy(worker->consumers))
	{
		IvmConsumer *consumer = lfirst(cell);

		if (consumer->leaving && adopted >= consumer->leaving_at)
			ivm_consumer_list_forget(worker, consumer);
	}
	any |= worker->missing_left_at != 0;
	if (adopted >= worker->missing_left_at)
		worker->missing_left_at = 0;
	if (any)
		ivm_consumer_list_index(worker);
}
