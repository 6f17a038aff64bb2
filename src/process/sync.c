/*-------------------------------------------------------------------------
 *
 * sync.c
 *	  Waiting until views contain what was committed.
 *
 * What was committed before the call is what a snapshot taken at the call sees.
 * That is less than what is in the WAL: a transaction that waits for a synchronous
 * standby has its commit record there and is not visible to anybody, perhaps for
 * hours.  So a session asks for two things.
 *
 * The position of the view's process is at or past the end of the WAL as of now:
 * what is visible has its commit record before that.
 *
 * The process has begun its looks after the call.  It counts the syncs of the database
 * before it looks, and says which was the last when it has published what it
 * found; a transaction that its snapshot does not see then was not visible at the
 * call either, and counts as contained.  The same holds for what
 * leaves no row in the WAL (a REFRESH of a materialized view below, say): it comes as an invalidation.
 *
 * A view's state, the process that has it, and how far that is are read in this order, and the
 * process once more at the end:
 *
 *	- A view becomes active before a process has taken it over; until then it is in the
 *	  builder's hands, and what processes promise is not about it.
 *	- A process says that a view is its own before it says that it has taken over (adopted) the
 *	  generation in which it became so, and it takes its promise back in between.
 *	- Another one that had the view before goes on promising for it until then.
 *
 * So if the process is the same at both ends, the promise between them is about the view.  Where
 * none is told, for want of room, all have to agree that it may belong to, in one generation.
 *
 * Nothing is held meanwhile but what the caller holds.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "catalog/pg_authid.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "replication/walreceiver.h"
#include "storage/latch.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "capture/capture.h"
#include "metadata/metadata.h"
#include "process/control.h"
#include "process/request.h"
#include "process/status.h"
#include "process/sync.h"
#include "stats/stats.h"

#define LOOK		1000		/* ms, in case nobody wakes us */
#define REPLAY_LOOK	10			/* ms; nobody does that */

/* ---- who may know what ---- */

static bool
may_know_view(Oid relid)
{
	return pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) == ACLCHECK_OK ||
		has_privs_of_role(GetUserId(), ROLE_PG_MONITOR);
}

bool
ivm_may_read_reason(Oid relid)
{
	return pg_class_ownercheck(relid, GetUserId()) || has_privs_of_role(GetUserId(), ROLE_PG_MONITOR);
}

void
ivm_report_unmaintained(Oid relid, IvmViewRow *row)
{
	char	   *name = get_rel_name(relid);

	if (row == NULL || name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("incremental view with OID %u does not exist", relid)));
	if (row->state == IVM_STATE_UNPOPULATED)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("incremental view \"%s\" has not been populated", name),
				 errhint("Use the REFRESH MATERIALIZED VIEW command.")));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("incremental view \"%s\" is in state error", name),
			 row->reason != NULL && ivm_may_read_reason(relid) ? errdetail("%s", row->reason) : 0,
			 errhint("Use REFRESH MATERIALIZED VIEW to rebuild it.")));
}

static const char *
state_name(IvmViewState state)
{
	switch (state)
	{
		case IVM_STATE_UNPOPULATED:
			return "unpopulated";
		case IVM_STATE_BUILDING:
			return "building";
		case IVM_STATE_REBUILD:
			return "rebuild";
		case IVM_STATE_ACTIVE:
			return "active";
		case IVM_STATE_ERROR:
			return "error";
	}
	return "unknown";
}

/* The error of a wait that took too long. */
static void
report_late(IvmSync *sync, Oid relid)
{
	IvmViewRow *row = ivm_metadata_get(relid);
	XLogRecPtr	position = InvalidXLogRecPtr;
	uint64		looked;
	const char *state = "dropped";
	IvmControlDatabase *database;
	Size		missing;

	LWLockAcquire(ivm_control->lock, LW_SHARED);
	database = ivm_control_find(MyDatabaseId, false);
	missing = database != NULL ? database->missing_memory : 0;
	LWLockRelease(ivm_control->lock);
	if (database != NULL)
		ivm_control_view_progress(database, ivm_stats_view_keeper(MyDatabaseId, relid), relid, &position, &looked);
	if (row != NULL)
	{
		/* its worker knows better, if nothing is missing */
		state = row->state == IVM_STATE_ACTIVE ? ivm_status_missing(relid) : NULL;
		if (state == NULL && row->state == IVM_STATE_ACTIVE)
			state = ivm_stats_view_said_state(MyDatabaseId, relid);
		if (state == NULL)
			state = state_name(row->state);
	}
	ereport(ERROR,
			(errcode(ERRCODE_QUERY_CANCELED),
			 may_know_view(relid) ?
			 errmsg("incremental view \"%s\" did not reach the current position in time", get_rel_name(relid)) :
			 errmsg("an incremental view did not reach the current position in time"),
			 position == InvalidXLogRecPtr ?
			 errdetail("Its state is \"%s\", and no process maintains it yet.",
					   state) :
			 errdetail("Its state is \"%s\", and it is %llu bytes of WAL behind.",
					   state,
					   (unsigned long long) (position < sync->target ? sync->target - position : 0)),
			 missing > 0 ?
			 errhint("Increase ivm.memory_budget by %zu kB, so that processes can be started.",
					 (missing + 1023) / 1024) :
			 errhint("See pg_stat_ivm, or use a longer timeout.")));
}

/* ---- waiting ---- */

void
ivm_sync_begin(IvmSync *sync, int64 timeout_ms)
{
	uint64		wanted;

	sync->started = GetCurrentTimestamp();
	sync->timeout_ms = timeout_ms;
	sync->target = ivm_wal_end();
	sync->database = ivm_request_database(sync->started, timeout_ms);
	sync->is_watching = false;
	if (sync->database == NULL)
		return;

	wanted = pg_atomic_read_u64(&sync->database->wanted_position);
	while (wanted < sync->target &&
		   !pg_atomic_compare_exchange_u64(&sync->database->wanted_position, &wanted, sync->target))
		;
	sync->number = pg_atomic_add_fetch_u64(&sync->database->syncs, 1);
	ivm_control_wake_workers(sync->database);
}

/* See the top of the file. */
static bool
view_has_reached(IvmSync *sync, Oid relid)
{
	IvmControlDatabase *database = sync->database;
	uint64		generation;
	bool		building;
	int			keeper;
	XLogRecPtr	position;
	uint64		looked;

	LWLockAcquire(ivm_control->lock, LW_SHARED);
	building = database->building == relid;
	generation = pg_atomic_read_u64(&database->generation);
	LWLockRelease(ivm_control->lock);
	if (building)
		return false;

	keeper = ivm_stats_view_keeper(MyDatabaseId, relid);
	if (!ivm_control_has_adopted(database, keeper, relid, generation))
		return false;
	pg_read_barrier();
	ivm_control_view_progress(database, keeper, relid, &position, &looked);
	pg_read_barrier();
	return position >= sync->target && looked >= sync->number &&
		ivm_stats_view_keeper(MyDatabaseId, relid) == keeper &&
		(keeper != IVM_KEEPER_UNKNOWN || generation == pg_atomic_read_u64(&database->generation));
}

static IvmSyncResult
wait_for_view(IvmSync *sync, Oid relid, TimestampTz until)
{
	for (;;)
	{
		IvmViewRow *row = ivm_metadata_get(relid);
		int64		left;

		if (row == NULL || row->state == IVM_STATE_ERROR || row->state == IVM_STATE_UNPOPULATED)
			return IVM_SYNC_STOPPED;
		if (row->state == IVM_STATE_ACTIVE && sync->database != NULL && view_has_reached(sync, relid))
			return IVM_SYNC_REACHED;

		if (sync->timeout_ms < 0 && sync->is_watching)
			ivm_request_watch(&sync->watch);
		else if (sync->timeout_ms < 0)
		{
			ivm_request_watch_begin(&sync->watch);
			sync->is_watching = true;
		}
		left = until == 0 ? LOOK : TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);
		if (left <= 0)
			return IVM_SYNC_LATE;
		if (ConditionVariableTimedSleep(&ivm_control->changed, Min(left, LOOK), PG_WAIT_EXTENSION) &&
			sync->database != NULL)
			ivm_control_wake_workers(sync->database);
	}
}

IvmSyncResult
ivm_sync_wait(IvmSync *sync, Oid relid, int64 patience_ms)
{
	TimestampTz until = 0;
	IvmSyncResult result;

	if (sync->timeout_ms >= 0)
		until = TimestampTzPlusMilliseconds(sync->started, sync->timeout_ms);
	if (patience_ms >= 0)
	{
		TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), patience_ms);

		until = until == 0 ? end : Min(until, end);
	}
	ConditionVariablePrepareToSleep(&ivm_control->changed);
	result = wait_for_view(sync, relid, until);
	ConditionVariableCancelSleep();
	return result;
}

bool
ivm_sync_has_decoder(void)
{
	IvmDatabase *capture = ivm_database_get(MyDatabaseId);

	return capture != NULL && ivm_decoder_state(capture) == IVM_DECODER_RUNNING;
}

static void warn_of_broken(List *relids);

/*
 * On a standby: what the primary's views had applied when the WAL was sent that is here now has to be replayed.  What
 * is not here nobody can wait for.  A view that is not maintained is waited for, as on the primary.
 */
static IvmSyncResult
wait_for_replay(Oid relid, XLogRecPtr target, TimestampTz until)
{
	for (;;)
	{
		IvmViewRow *row = ivm_metadata_get(relid);
		bool		replayed = !RecoveryInProgress() || GetXLogReplayRecPtr(NULL) >= target;

		if (replayed && (row == NULL || row->state == IVM_STATE_ERROR || row->state == IVM_STATE_UNPOPULATED))
			return IVM_SYNC_STOPPED;
		if (replayed && row->state == IVM_STATE_ACTIVE)
			return IVM_SYNC_REACHED;
		if (GetCurrentTimestamp() >= until)
			break;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, REPLAY_LOOK, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	ereport(ERROR,
			(errcode(ERRCODE_QUERY_CANCELED),
			 may_know_view(relid) ?
			 errmsg("incremental view \"%s\" did not reach the current position in time", get_rel_name(relid)) :
			 errmsg("an incremental view did not reach the current position in time"),
			 GetXLogReplayRecPtr(NULL) >= target ?
			 errdetail("The primary has not completed it.") :
			 GetRecoveryPauseState() != RECOVERY_NOT_PAUSED ?
			 errdetail("Recovery is paused on this standby.") :
			 errdetail("This standby has %llu bytes of WAL to replay.",
					   (unsigned long long) (target - GetXLogReplayRecPtr(NULL))),
			 errhint("See pg_stat_ivm, or use a longer timeout.")));
	return IVM_SYNC_LATE;
}

static void
sync_standby(List *relids, bool all, int64 timeout_ms)
{
	XLogRecPtr	received = GetWalRcvFlushRecPtr(NULL, NULL);
	XLogRecPtr	replayed = GetXLogReplayRecPtr(NULL);
	XLogRecPtr	target = Max(received, replayed);
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);
	ListCell   *cell;

	foreach(cell, relids)
	{
		Oid			relid = lfirst_oid(cell);

		if (wait_for_replay(relid, target, until) == IVM_SYNC_STOPPED && !all)
			ivm_report_unmaintained(relid, ivm_metadata_get(relid));
	}
	if (all)
		warn_of_broken(relids);
}

void
ivm_sync_view(Oid relid, int64 timeout_ms)
{
	IvmSync		sync;

	if (RecoveryInProgress())
	{
		sync_standby(list_make1_oid(relid), false, timeout_ms);
		return;
	}
	ivm_sync_begin(&sync, timeout_ms);
	switch (ivm_sync_wait(&sync, relid, -1))
	{
		case IVM_SYNC_REACHED:
			break;
		case IVM_SYNC_LATE:
			report_late(&sync, relid);
			break;
		case IVM_SYNC_STOPPED:
			ivm_report_unmaintained(relid, ivm_metadata_get(relid));
			break;
	}
}

/* Tells of views that nobody waits for. */
static void
warn_of_broken(List *relids)
{
	StringInfoData names;
	int			count = 0;
	ListCell   *cell;

	initStringInfo(&names);
	foreach(cell, relids)
	{
		Oid			relid = lfirst_oid(cell);
		IvmViewRow *row = ivm_metadata_get(relid);
		char	   *name = get_rel_name(relid);

		/* dropped, emptied or repaired meanwhile */
		if (row == NULL || row->state != IVM_STATE_ERROR || name == NULL || !may_know_view(relid))
			continue;
		appendStringInfo(&names, "%s%s", count++ > 0 ? ", " : "",
						 quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), name));
	}
	if (count > 0)
		ereport(WARNING,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg_plural("%d incremental view is in state error and was not waited for",
							   "%d incremental views are in state error and were not waited for",
							   count, count),
				 errdetail("%s", names.data),
				 errhint("See pg_stat_ivm, and use REFRESH MATERIALIZED VIEW to rebuild.")));
	pfree(names.data);
}

void
ivm_sync_all(List *relids, int64 timeout_ms)
{
	IvmSync		sync;
	List	   *broken = NIL;
	ListCell   *cell;

	if (relids == NIL)
		return;
	if (RecoveryInProgress())
	{
		sync_standby(relids, true, timeout_ms);
		return;
	}
	ivm_sync_begin(&sync, timeout_ms);
	foreach(cell, relids)
	{
		Oid			relid = lfirst_oid(cell);

		switch (ivm_sync_wait(&sync, relid, -1))
		{
			case IVM_SYNC_REACHED:
				break;
			case IVM_SYNC_LATE:
				report_late(&sync, relid);
				break;
			case IVM_SYNC_STOPPED:
				broken = lappend_oid(broken, relid);
				break;
		}
	}
	warn_of_broken(broken);
}
