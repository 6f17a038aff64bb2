/*-------------------------------------------------------------------------
 *
 * build_queue.c
 *	  What there is to build, and who waits for it.
 *
 * The queue is the states in ivm.view: a row that is "building" or "rebuild"
 * waits, across restarts.  Requests in shared memory only say which session
 * waits for one of them, and what is to be done if that fails: the session
 * that creates a view drops it if it cannot be filled or the wait is
 * interrupted; if the session itself has ended, that is done here.
 *
 * Nothing is taken off the queue: a build that succeeds, or stops the view,
 * changes the row's state in its own transaction.  One that fails for a passing
 * reason, a lock most often, lets the others go first, and its next attempt
 * comes a little later each time.  A view in state error is in the queue when its time has
 * come (process/trouble.c).
 *
 * The builder takes turns.  A build that takes longer than its turn while others wait is cancelled, and
 * begun again when those that had fewer turns are done or had theirs; its next turn is twice as long, so
 * that each gets done, at the price of at most twice its time again.  But one that has just come waits for
 * no more than eight times the first turn, however many turns the other one had.
 *
 * A view that has to be rebuilt right after it was rebuilt, a few times in a row, pauses: nobody has changed
 * anything, and it would have the builder and its tables busy for ever.  A table that is emptied is a
 * reason each time that it is; what somebody asks for does not pause.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/settings.h"
#include "compile/compile.h"
#include "stats/stats.h"
#include "build/build_queue.h"
#include "maintain/consumer.h"
#include "maintain/apply_worker.h"
#include "maintain/trial.h"
#include "process/control.h"
#include "process/trouble.h"

#define POSTPONEMENT			100 /* ms, doubled with each failure */
#define MAX_POSTPONEMENT_SHIFT	4
#define PAUSE					1000	/* ms, doubled each time */
#define MAX_PAUSE				300000
#define MAX_PAUSE_SHIFT			9
#define IN_A_ROW				1000	/* ms from a rebuild to the next one */
#define UNPAUSED_REBUILDS		3	/* in a row */
#define MAX_TURNS				20

/* What is known of a view whose builds did not go as they should; in TopMemoryContext. */
typedef struct Attempts
{
	Oid			relid;
	int			failures;		/* in a row */
	int			turns;			/* that it was not done in */
	int			rebuilds;		/* in a row, which nobody had asked for */
	TimestampTz until;			/* not before; 0: no limit */
	TimestampTz rebuilt;		/* when the last such rebuild ended; 0: the row
								 * has been seen since */
} Attempts;

static List *attempts = NIL;

static Attempts *
find_attempts(Oid relid)
{
	ListCell   *cell;

	foreach(cell, attempts)
		if (((Attempts *) lfirst(cell))->relid == relid)
		return lfirst(cell);
	return NULL;
}

static void
forget_attempts(Attempts *view)
{
	attempts = list_delete_ptr(attempts, view);
	pfree(view);
}

int
ivm_build_failures(Oid relid)
{
	Attempts   *view = find_attempts(relid);

	return view == NULL ? 0 : view->failures;
}

int
ivm_build_turns(Oid relid)
{
	Attempts   *view = find_attempts(relid);

	return view == NULL ? 0 : view->turns;
}

static int
pause_of(int times)
{
	return Min(PAUSE << Min(times, MAX_PAUSE_SHIFT), MAX_PAUSE);
}

void
ivm_build_note(Oid relid, IvmBuildOutcome outcome)
{
	Attempts   *view = find_attempts(relid);
	TimestampTz now = GetCurrentTimestamp();

	if (outcome == IVM_BUILD_DONE)
	{
		if (view != NULL)
			forget_attempts(view);
		return;
	}
	if (view == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		view = palloc0(sizeof(Attempts));
		view->relid = relid;
		attempts = lappend(attempts, view);
		MemoryContextSwitchTo(old);
	}
	view->until = 0;
	switch (outcome)
	{
		case IVM_BUILD_REBUILT:
			view->failures = view->turns = 0;
			view->rebuilt = now;
			break;
		case IVM_BUILD_POSTPONED:
			view->until = TimestampTzPlusMilliseconds(now, POSTPONEMENT << Min(view->failures, MAX_POSTPONEMENT_SHIFT));
			view->failures++;
			break;
		case IVM_BUILD_SHORT:
			view->until = TimestampTzPlusMilliseconds(now, pause_of(view->failures));
			view->failures++;
			break;
		case IVM_BUILD_TURN:
			view->turns = Min(view->turns + 1, MAX_TURNS);
			break;
		case IVM_BUILD_DONE:
			break;
	}
}

/*
 * A view waits to be rebuilt.  If it was rebuilt just now, and that a few times in a row, it is not
 * the tables that ask for it: something in its query comes out different each time that it is compiled, perhaps.
 */
static void
see_rebuild(IvmViewRow *row, TimestampTz now)
{
	Attempts   *view = find_attempts(row->relid);
	int			pause;

	if (view == NULL || view->rebuilt == 0)
		return;
	if (TimestampDifferenceExceeds(view->rebuilt, now, IN_A_ROW) ||
		(row->reason != NULL && strcmp(row->reason, IVM_TRUNCATED_REASON) == 0))
	{
		forget_attempts(view);
		return;
	}
	view->rebuilt = 0;
	view->rebuilds++;
	if (view->rebuilds < UNPAUSED_REBUILDS)
		return;
	pause = pause_of(view->rebuilds - UNPAUSED_REBUILDS);
	view->until = TimestampTzPlusMilliseconds(now, pause);
	if (view->rebuilds == UNPAUSED_REBUILDS)
		ereport(LOG,
				(errmsg("incremental view with OID %u is rebuilt again and again: rebuilds pause from now on", row->relid),
				 row->reason != NULL ? errdetail_log("The reason of the last one is: %s.", row->reason) : 0));
	ivm_stats_view_next_try(MyDatabaseId, row->relid, view->until);
	ivm_stats_view_state(MyDatabaseId, row->relid, "paused");
}

/* May it be built now? */
static bool
time_has_come(Oid relid, TimestampTz now)
{
	Attempts   *view = find_attempts(relid);

	return view == NULL || view->until <= now;
}

/*
 * Nothing is to be built now: those whose time has come are wanted by nobody.
 * Milliseconds to the time of the first of the others, views in error among them if they
 * come before the process would end; 0 if there is none.
 */
static long
next_attempt(TimestampTz now)
{
	TimestampTz first = ivm_trouble_first(MyDatabaseId);
	long		result = 0;
	ListCell   *cell;

	foreach(cell, list_copy(attempts))
	{
		Attempts   *view = lfirst(cell);
		long		wait = TimestampDifferenceMilliseconds(now, view->until) + 1;

		if (view->until > now)
			result = result == 0 ? wait : Min(result, wait);
		else if (view->rebuilt == 0 || TimestampDifferenceExceeds(view->rebuilt, now, IN_A_ROW))
			forget_attempts(view);
	}
	/* one whose time has come is not to be had for the moment */
	if (first > now && TimestampDifferenceMilliseconds(now, first) <= ivm_naptime)
	{
		long		wait = TimestampDifferenceMilliseconds(now, first) + 1;

		result = result == 0 ? wait : Min(result, wait);
	}
	return result;
}

IvmRequest *
ivm_build_request_find(Oid relid)
{
	IvmRequest *result = NULL;

	LWLockAcquire(ivm_control->lock, LW_SHARED);
	for (int i = 0; i < IVM_MAX_REQUESTS; i++)
	{
		IvmRequest *request = &ivm_control->requests[i];

		if (request->kind == IVM_REQUEST_BUILD && request->dboid == MyDatabaseId &&
			request->relid == relid && request->status == IVM_REQUEST_WAITING)
			result = request;
	}
	LWLockRelease(ivm_control->lock);
	return result;
}

void
ivm_build_request_finish(Oid relid, uint64 last, uint64 rows)
{
	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	for (int i = 0; i < IVM_MAX_REQUESTS; i++)
	{
		IvmRequest *request = &ivm_control->requests[i];

		if (request->kind != IVM_REQUEST_BUILD || request->dboid != MyDatabaseId ||
			request->relid != relid || request->status != IVM_REQUEST_WAITING || request->number > last)
			continue;
		request->result[0] = rows;
		request->status = IVM_REQUEST_DONE;
	}
	LWLockRelease(ivm_control->lock);
	ConditionVariableBroadcast(&ivm_control->changed);
}

/*
 * Drops views whose creating session has gone.
 */
void
ivm_build_drop_orphans(void)
{
	MemoryContext old = CurrentMemoryContext;

	for (int i = 0; i < IVM_MAX_REQUESTS; i++)
	{
		IvmRequest *request = &ivm_control->requests[i];
		Oid			relid = InvalidOid;

		LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
		if (request->kind == IVM_REQUEST_BUILD && request->dboid == MyDatabaseId && request->orphaned)
			relid = request->relid;
		LWLockRelease(ivm_control->lock);
		if (!OidIsValid(relid))
			continue;

		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		LockRelationOid(relid, AccessExclusiveLock);
		if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid)))
		{
			ObjectAddress address;

			ObjectAddressSet(address, RelationRelationId, relid);
			performDeletion(&address, DROP_CASCADE, PERFORM_DELETION_INTERNAL | PERFORM_DELETION_QUIETLY);
		}
		PopActiveSnapshot();
		CommitTransactionCommand();
		MemoryContextSwitchTo(old);
		LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
		request->kind = IVM_REQUEST_FREE;
		LWLockRelease(ivm_control->lock);
		ivm_control_changed(MyDatabaseId, false);
	}
}

/*
 * A view that is built anew may read other arrangements than before, when
 * indexes of its tables have come or gone.
 */
void
ivm_build_drop_unused(void)
{
	MemoryContext old = CurrentMemoryContext;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (ivm_metadata_is_installed())
		ivm_metadata_drop_unused(ivm_metadata_unused_arrangements());
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(old);
}

bool
ivm_relation_is_populated(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	bool		result;

	if (!HeapTupleIsValid(tuple))
		return false;
	result = ((Form_pg_class) GETSTRUCT(tuple))->relispopulated;
	ReleaseSysCache(tuple);
	return result;
}

/*
 * The rows of ivm.view.  An incremental view without one came with a restore or an
 * upgrade, and gets it.  One that is locked is being made, altered or dropped,
 * and looked at again after that.
 */
static List *
list_and_adopt(void)
{
	List	   *rows = ivm_metadata_list();
	bool		any = false;
	ListCell   *cell;

	foreach(cell, ivm_unknown_views(rows))
	{
		Oid			relid = lfirst_oid(cell);
		IvmViewRow	row = {0};

		if (!ConditionalLockRelationOid(relid, AccessShareLock))
			continue;
		/* it may be an ordinary materialized view by now, or gone, or have a row */
		if (!ivm_relation_is_incremental(relid) || ivm_metadata_get(relid) != NULL)
			continue;
		row.relid = relid;
		row.kind = 'v';
		row.state = ivm_relation_is_populated(relid) ? IVM_STATE_REBUILD : IVM_STATE_UNPOPULATED;
		row.reason = "it was not known to this server";
		row.settings = ivm_settings_capture();
		ivm_metadata_put(&row);
		any = true;
	}
	if (!any)
		return rows;
	CommandCounterIncrement();
	UpdateActiveSnapshotCommandId();
	return ivm_metadata_list();
}

/* Is there a session that undoes its statement, or is about to? */
static bool
is_being_undone(Oid relid)
{
	bool		result = false;

	LWLockAcquire(ivm_control->lock, LW_SHARED);
	for (int i = 0; i < IVM_MAX_REQUESTS; i++)
	{
		IvmRequest *request = &ivm_control->requests[i];

		if (request->kind == IVM_REQUEST_BUILD && request->relid == relid &&
			request->dboid == MyDatabaseId && request->undo &&
			(request->abandoned || request->status == IVM_REQUEST_FAILED))
			result = true;
	}
	LWLockRelease(ivm_control->lock);
	return result;
}

/* Does the view wait to be built, and is it its time? */
static bool
is_wanted(IvmViewRow *row, TimestampTz now)
{
	TimestampTz next;

	if (row->kind != 'v')
		return false;
	switch (row->state)
	{
		case IVM_STATE_REBUILD:
			if (ivm_build_request_find(row->relid) != NULL)
				return !is_being_undone(row->relid);	/* somebody waits */
			ivm_metadata_complete(row);
			see_rebuild(row, now);
			break;
		case IVM_STATE_BUILDING:
			break;
		case IVM_STATE_ERROR:
			next = ivm_trouble_next(MyDatabaseId, row->relid);
			if (next == 0 || next > now)
				return false;
			ivm_metadata_complete(row);
			if (ivm_trial_forbids(row))
				return false;
			break;
		default:
			return false;
	}
	return time_has_come(row->relid, now) && !is_being_undone(row->relid);
}

/* An arrangement alone waits: some view that reads it rebuilds it. */
static IvmViewRow *
reader_of_arrangement(List *rows, TimestampTz now)
{
	ListCell   *cell;

	foreach(cell, rows)
	{
		IvmViewRow *row = lfirst(cell);
		ListCell   *inner;

		if (row->kind != 'a' || (row->state != IVM_STATE_BUILDING && row->state != IVM_STATE_REBUILD))
			continue;
		foreach(inner, rows)
		{
			IvmViewRow *view = lfirst(inner);

			if (view->state == IVM_STATE_ACTIVE && list_member_oid(view->arrangements, row->relid) &&
				time_has_come(view->relid, now))
				return view;
		}
	}
	return NULL;
}

/* Views that are gone, or not in state error, are in no trouble; those that only REFRESH may try are not tried. */
static void
forget_troubles(List *rows)
{
	List	   *known = NIL;
	List	   *failed = NIL;
	ListCell   *cell;

	if (ivm_trouble_first(MyDatabaseId) == 0)
		return;
	foreach(cell, rows)
	{
		IvmViewRow *row = lfirst(cell);

		known = lappend_oid(known, row->relid);
		if (row->state != IVM_STATE_ERROR)
			continue;
		ivm_metadata_complete(row);
		if (!ivm_trial_forbids(row))
			failed = lappend_oid(failed, row->relid);
	}
	ivm_trouble_retain(MyDatabaseId, known, failed);
	list_free(known);
	list_free(failed);
}

/*
 * The next row that waits and whose time has come, or NULL: of those the one that had the fewest turns, so
 * that what takes long lets everything else go first.  A view whose session undoes its statement is the session's.
 */
IvmViewRow *
ivm_build_next_row(long *sleep_ms, int *others)
{
	TimestampTz now = GetCurrentTimestamp();
	IvmViewRow *result = NULL;
	int			least = 0;
	MemoryContext old = CurrentMemoryContext;
	List	   *rows;
	ListCell   *cell;

	*others = PG_INT16_MAX;
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(old);
	if (ivm_metadata_is_installed())
	{
		rows = list_and_adopt();
		ivm_stats_retain_rows(rows);
		forget_troubles(rows);
		foreach(cell, rows)
		{
			IvmViewRow *row = lfirst(cell);
			int			turns;

			if (!is_wanted(row, now))
				continue;
			turns = ivm_build_turns(row->relid);
			if (result != NULL)
				*others = Min(*others, Max(turns, least));
			if (result == NULL || turns < least)
			{
				result = row;
				least = turns;
			}
		}
		if (result == NULL)
			result = reader_of_arrangement(rows, now);
		if (result != NULL)
			ivm_metadata_complete(result);
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(old);
	*sleep_ms = result == NULL ? next_attempt(now) : 0;
	return result;
}
