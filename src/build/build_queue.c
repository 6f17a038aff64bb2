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
 * comes a little later each time.
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

#include "compile/compile.h"
#include "stats/stats.h"
#include "build/build_queue.h"
#include "maintain/consumer.h"
#include "process/control.h"

#define POSTPONEMENT			100 /* ms, doubled with each failure */
#define MAX_POSTPONEMENT_SHIFT	4

/* A view whose build failed, and is not tried again before its time. */
typedef struct Postponed
{
	Oid			relid;
	int			failures;
	TimestampTz until;
} Postponed;

static List *postponed = NIL;	/* in TopMemoryContext */

static Postponed *
find_postponed(Oid relid)
{
	ListCell   *cell;

	foreach(cell, postponed)
		if (((Postponed *) lfirst(cell))->relid == relid)
		return lfirst(cell);
	return NULL;
}

int
ivm_build_failures(Oid relid)
{
	Postponed  *view = find_postponed(relid);

	return view == NULL ? 0 : view->failures;
}

void
ivm_build_postpone(Oid relid)
{
	Postponed  *view = find_postponed(relid);

	if (view == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		view = palloc0(sizeof(Postponed));
		view->relid = relid;
		postponed = lappend(postponed, view);
		MemoryContextSwitchTo(old);
	}
	view->until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
											  POSTPONEMENT << Min(view->failures, MAX_POSTPONEMENT_SHIFT));
	view->failures++;
}

void
ivm_build_forget_failures(Oid relid)
{
	Postponed  *view = find_postponed(relid);

	if (view == NULL)
		return;
	postponed = list_delete_ptr(postponed, view);
	pfree(view);
}

/* Views whose next attempt has not come yet. */
static List *
postponed_relids(TimestampTz now)
{
	List	   *result = NIL;
	ListCell   *cell;

	foreach(cell, postponed)
	{
		Postponed  *view = lfirst(cell);

		if (view->until > now)
			result = lappend_oid(result, view->relid);
	}
	return result;
}

/*
 * Nothing is to be built now: those whose time has come are wanted by nobody.
 * Milliseconds to the time of the first of the others; 0 if there is none.
 */
static long
next_attempt(TimestampTz now)
{
	long		result = 0;
	ListCell   *cell;

	foreach(cell, list_copy(postponed))
	{
		Postponed  *view = lfirst(cell);
		long		wait = TimestampDifferenceMilliseconds(now, view->until) + 1;

		if (view->until <= now)
			ivm_build_forget_failures(view->relid);
		else
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

/*
 * The next row that waits and is not postponed, or NULL.  A view whose session
 * undoes its statement is the session's.
 */
IvmViewRow *
ivm_build_next_row(long *sleep_ms)
{
	TimestampTz now = GetCurrentTimestamp();
	List	   *later = postponed_relids(now);
	IvmViewRow *result = NULL;
	MemoryContext old = CurrentMemoryContext;
	List	   *rows;
	ListCell   *cell;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(old);
	if (ivm_metadata_is_installed())
	{
		rows = list_and_adopt();
		ivm_stats_retain_rows(rows);
		foreach(cell, rows)
		{
			IvmViewRow *row = lfirst(cell);
			bool		failed = false;

			if ((row->state != IVM_STATE_BUILDING && row->state != IVM_STATE_REBUILD) ||
				list_member_oid(later, row->relid))
				continue;
			LWLockAcquire(ivm_control->lock, LW_SHARED);
			for (int i = 0; i < IVM_MAX_REQUESTS; i++)
			{
				IvmRequest *request = &ivm_control->requests[i];

				if (request->kind == IVM_REQUEST_BUILD && request->relid == row->relid &&
					request->dboid == MyDatabaseId && request->undo &&
					(request->abandoned || request->status == IVM_REQUEST_FAILED))
					failed = true;
			}
			LWLockRelease(ivm_control->lock);
			if (!failed && row->kind == 'v')
			{
				result = row;
				break;
			}
		}
		if (result == NULL)
		{
			/* an arrangement alone: some view that reads it rebuilds it */
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
						!list_member_oid(later, view->relid))
						result = view;
				}
			}
		}
		if (result != NULL)
			ivm_metadata_complete(result);
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(old);
	*sleep_ms = result == NULL ? next_attempt(now) : 0;
	return result;
}
