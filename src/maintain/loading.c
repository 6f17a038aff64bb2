/*-------------------------------------------------------------------------
 *
 * loading.c
 *	  How an apply worker compiles its consumers: one that it takes over, and one
 *	  whose plan was invalidated.
 *
 * Each is compiled outside batches, in a transaction of its own, which gives up at once where it cannot
 * have a lock, and is tried again then.  Compiling evaluates expressions (constants are computed
 * by the planner), so it is watched like a batch: it can be cancelled for the sake of others.
 *
 * What cannot be carried on with the plan that it has now is left to the builder;
 * what cannot be compiled is in error.
 *
 * Memory: a consumer's is in a context of its own.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/in_hand.h"
#include "compile/compile.h"
#include "maintain/apply_worker.h"
#include "maintain/failure.h"
#include "maintain/members.h"
#include "maintain/rest.h"
#include "maintain/trial.h"
#include "process/process.h"

#define RECOMPILE_RETRY		50	/* ms */

/* Locks what will be compiled, without waiting; false if that cannot be had. */
static bool
lock_for_compilation(Oid relid, List *relids)
{
	ListCell   *cell;

	if (!ConditionalLockRelationOid(relid, AccessShareLock))
		return false;
	foreach(cell, relids)
		if (!ConditionalLockRelationOid(lfirst_oid(cell), AccessShareLock))
		return false;
	return true;
}

/*
 * Watches what compiling evaluates (constants are computed by the planner), like a batch.  The
 * tables, and the view itself, are locked as for reading.
 */
static void
begin_watch(IvmApplyWorker *worker, IvmWatch *watch, Oid relid, List *relids)
{
	Oid		   *locked = palloc(sizeof(Oid) * (1 + list_length(relids)));
	int			n = 0;
	ListCell   *cell;

	locked[n++] = relid;
	foreach(cell, relids)
		locked[n++] = lfirst_oid(cell);
	ivm_pace_watch(worker, watch, relid, ivm_relation_owner(relid), 0);
	worker->others_due = worker->several;
	ivm_guard_begin(locked, n, 0);
	ivm_guard_enter(watch);
}

/*
 * In a PG_CATCH block: ends that.  True if it was cancelled for the sake of others, and nothing is left
 * to be done but to try again.
 */
static bool
watch_cancelled(IvmApplyWorker *worker, IvmCancel *cancel)
{
	Oid			culprit;

	*cancel = ivm_guard_end(&culprit);
	if (*cancel != IVM_CANCEL_PATIENCE && *cancel != IVM_CANCEL_GIVE_WAY && *cancel != IVM_CANCEL_BLOCKING)
		return false;
	ivm_failure_save(*cancel);
	ivm_failure_forget();
	if (*cancel == IVM_CANCEL_PATIENCE)
		ivm_pace_expel(worker, culprit);
	return true;
}

static void
end_watch(void)
{
	Oid			culprit;

	(void) ivm_guard_end(&culprit);
}

/*
 * What could not be carried on: left to the builder, or ended if it is an
 * arrangement without a reader.  False if that has to be tried again.
 */
static bool
leave(Oid relid, const IvmRowVersion *version, const char *reason)
{
	MemoryContext old = CurrentMemoryContext;
	bool		done = true;

	if (reason != NULL)
		(void) ivm_failure_rebuild(relid, version, reason);
	else
	{
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		done = ivm_arrangement_end(relid);
		PopActiveSnapshot();
		if (done)
			CommitTransactionCommand();
		else
			AbortCurrentTransaction();
		if (done)
			ivm_control_changed(MyDatabaseId, false);
	}
	MemoryContextSwitchTo(old);
	return done;
}

/* In a PG_CATCH block: the view could not be compiled.  False if it is to be tried again, since its turn was over or the error may pass. */
static bool
stop_uncompilable(IvmApplyWorker *worker, Oid relid, const IvmRowVersion *version)
{
	IvmCancel	cancel;

	return !watch_cancelled(worker, &cancel) && ivm_failure_stop_uncompilable(relid, version, cancel);
}

bool
ivm_consumer_list_load(IvmApplyWorker *worker, IvmViewRow *row, List *rows)
{
	IvmConsumer *volatile consumer = NULL;
	const char *volatile reason = NULL;
	volatile bool failed = false;
	volatile bool loaded = true;
	List	   *relids = ivm_fingerprint_relids(row->fingerprint);
	IvmWatch	watch;
	MemoryContext old = CurrentMemoryContext;
	ListCell   *cell;

	if (ivm_trial_is_over(row->relid))
		return ivm_failure_stop(row->relid, &row->version, IVM_DEATH_REASON);
	worker->untrimmed = true;	/* compiling leaves much behind */
	ivm_process_impatient(true);
	ivm_in_hand_begin_one(IVM_WORK_COMPILE, row->relid);
	PG_TRY();
	{
		const char *why = NULL;

		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		loaded = lock_for_compilation(row->relid, relids);
		if (loaded)
		{
			begin_watch(worker, &watch, row->relid, relids);
			consumer = ivm_consumer_load(row, rows, &why);
			end_watch();
		}
		if (consumer != NULL)
		{
			MemoryContext inner = MemoryContextSwitchTo(consumer->context);

			consumer->applied = ivm_applied_get(row->relid, GetActiveSnapshot());
			consumer->row_version = row->version;
			MemoryContextSwitchTo(inner);
			if (consumer->applied == NULL)
			{
				ivm_consumer_free(consumer);
				consumer = NULL;
				why = "its applied snapshot is missing";
			}
			else
			{
				(void) ivm_plan_register(worker->capture, consumer->compiled->plan);
				ivm_members_register(consumer, worker->capture);
			}
		}
		reason = why;
		PopActiveSnapshot();
		CommitTransactionCommand();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(old);
		loaded = stop_uncompilable(worker, row->relid, &row->version);
		failed = true;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	ivm_in_hand_end();
	ivm_process_impatient(false);
	if (!loaded)
	{
		/* whichever columns it needs */
		foreach(cell, relids)
			(void) ivm_registry_add(worker->capture, lfirst_oid(cell), NULL);
		ivm_stats_view_state(MyDatabaseId, row->relid, "waiting for lock");
	}
	if (failed && consumer != NULL)
		ivm_consumer_free(consumer);
	if (failed || !loaded)
		return loaded;

	if (consumer == NULL)
		return leave(row->relid, &row->version, reason);
	ivm_consumer_list_add(worker, consumer);
	ivm_stats_view_adopt(MyDatabaseId, consumer->relid, worker->number, consumer->applied->time);
	consumer->behind_reported = true;	/* until all was read */
	ivm_stats_view_state(MyDatabaseId, consumer->relid, "active");
	return true;
}

/* The row of a consumer, and all that it is compiled from. */
static IvmViewRow *
read_rows(IvmConsumer *consumer, List **rows)
{
	IvmViewRow *row;

	*rows = NIL;
	if (!ivm_metadata_is_installed())
		return NULL;
	row = ivm_metadata_get(consumer->relid);
	if (row != NULL && !SearchSysCacheExists1(RELOID, ObjectIdGetDatum(row->relid)))
		return NULL;
	if (row != NULL && (row->kind == 'a' || row->arrangements != NIL))
	{
		*rows = ivm_metadata_list();
		row = ivm_metadata_find(*rows, consumer->relid);
		if (row != NULL)
			ivm_metadata_complete(row);
		return row;
	}
	if (row != NULL)
		*rows = list_make1(row);
	return row;
}

/*
 * Compiles a consumer again, in a transaction of its own.  If the result differs
 * from what is stored it is left to the builder; false if it is off the list then,
 * or put off.
 */
static bool
recompile(IvmApplyWorker *worker, IvmConsumer *consumer)
{
	const char *volatile reason = NULL;
	volatile bool kept = false;
	volatile bool failed = false;
	volatile bool stopped = false;
	volatile bool locked = true;
	volatile bool put_off = false;
	bool		again;
	MemoryContext old = CurrentMemoryContext;

	worker->untrimmed = true;	/* compiling leaves much behind */
	ivm_process_impatient(true);
	ivm_in_hand_begin_one(IVM_WORK_COMPILE, consumer->relid);
	PG_TRY();
	{
		List	   *rows;
		IvmViewRow *row;
		const char *why = NULL;

		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		row = read_rows(consumer, &rows);
		if (row == NULL || row->state != IVM_STATE_ACTIVE)
		{
			/*
			 * the next reload drops it; nobody asks for one if the drop was
			 * prepared
			 */
			if (row == NULL)
				(void) ivm_control_changed(MyDatabaseId, false);
			consumer->retry_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), 100);
			kept = put_off = true;
		}
		else if (lock_for_compilation(consumer->relid, consumer->compiled->relids))
		{
			begin_watch(worker, &consumer->watch, consumer->relid, consumer->compiled->relids);
			kept = ivm_consumer_refresh(consumer, row, rows, &why);
			end_watch();
			if (kept)
				ivm_members_register(consumer, worker->capture);
		}
		else
			locked = false;
		reason = why;
		PopActiveSnapshot();
		CommitTransactionCommand();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(old);
		stopped = stop_uncompilable(worker, consumer->relid, &consumer->row_version);
		failed = true;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	ivm_in_hand_end();
	ivm_process_impatient(false);
	if (failed)
		again = !stopped;
	else if (locked && !kept)
		again = !leave(consumer->relid, &consumer->row_version, reason);
	else
		again = !locked;
	if (again)
	{
		ivm_compiled_set_stale(consumer->compiled);
		consumer->retry_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), RECOMPILE_RETRY);
	}
	else if (!kept)
		ivm_consumer_list_forget(worker, consumer);
	else if (consumer->members_differ)
		ivm_consumer_list_index(worker);	/* it reads other tables */
	return !again && kept && !put_off;
}

/* Most changes of roles concern no view: that is found out for all of them at once. */
static void
settle_roles(IvmApplyWorker *worker)
{
	MemoryContext old = CurrentMemoryContext;
	bool		any = false;
	ListCell   *cell;

	foreach(cell, worker->consumers)
		any |= ((IvmConsumer *) lfirst(cell))->compiled->only_roles;
	if (!any)
		return;
	StartTransactionCommand();
	foreach(cell, worker->consumers)
		(void) ivm_compiled_settle_roles(((IvmConsumer *) lfirst(cell))->compiled);
	CommitTransactionCommand();
	MemoryContextSwitchTo(old);
}

/*
 * Compiles what was invalidated.  What rested rests again: this was only to see
 * whether its contents can be carried on.
 */
void
ivm_consumer_list_refresh(IvmApplyWorker *worker)
{
	ListCell   *cell;
	bool		any = false;

	AcceptInvalidationMessages();
	settle_roles(worker);
	foreach(cell, list_copy(worker->consumers))
	{
		IvmConsumer *consumer = lfirst(cell);
		bool		rests = consumer->compiled->plan == NULL;

		if (!consumer->compiled->stale || consumer->leaving || consumer->retry_at > GetCurrentTimestamp())
			continue;
		CHECK_FOR_INTERRUPTS();
		any = true;
		if (recompile(worker, consumer) && rests && !consumer->members_differ)
			ivm_consumer_rest(consumer);
	}
	if (any)
		ivm_consumer_list_index(worker);
}

bool
ivm_consumer_list_wake(IvmApplyWorker *worker, List *consumers)
{
	ListCell   *cell;

	foreach(cell, consumers)
	{
		IvmConsumer *consumer = lfirst(cell);

		if (consumer->compiled->plan != NULL && ivm_compiled_is_current(consumer->compiled))
			continue;
		CHECK_FOR_INTERRUPTS();
		if (!recompile(worker, consumer))
		{
			ivm_consumer_list_index(worker);
			return false;
		}
	}
	return true;
}
