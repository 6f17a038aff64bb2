/*-------------------------------------------------------------------------
 *
 * request.c
 *	  What sessions ask of the processes, and how they wait for it.
 *
 * A session that waits holds no lock, no snapshot and no xid that a process
 * could need: statements commit before they come here.  Waits end with the
 * session's interrupts.  A session has one request at a time; if it ends
 * by an error, or with the session, the end of the transaction sees to it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "commands/dbcommands.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "replication/slot.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/attempt.h"
#include "base/settings.h"
#include "capture/capture.h"
#include "metadata/metadata.h"
#include "stats/stats.h"
#include "process/control.h"
#include "process/request.h"
#include "process/status.h"
#include "process/sync.h"

#define LAUNCHER_PATIENCE	10000	/* ms; it is restarted after five seconds */
#define MEMORY_PATIENCE		5000	/* ms; another database's builder may end */
#define DECODER_PATIENCE	10000	/* ms; what it lacks may come back */

/* What is to be told after this transaction. */
static bool changed_at_commit = false;
static Oid	inspect_at_commit = InvalidOid;
static List *held_databases = NIL;	/* in TopMemoryContext */

/* What this session waits for. */
static IvmRequest *my_request = NULL;
static bool drop_if_orphaned;	/* a build whose view goes with the statement */
static bool is_committed;		/* there is something to drop */

static void request_leave(void);

/* ---- at the end of transactions ---- */

/* Has the launcher look into a database; where there is no room for an entry it looks at all. */
static void
request_inspection(Oid dboid)
{
	IvmControlDatabase *database;

	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	database = ivm_control_find(dboid, true);
	if (database != NULL)
		database->asked_inspect = true;
	else
		ivm_control->asked_scan = true;
	LWLockRelease(ivm_control->lock);
	ivm_control_wake_launcher();
}

/* This transaction is over: the processes of a database that it had stopped may go on, if it is still there. */
static void
resume_database(Oid dboid)
{
	IvmControlDatabase *database;

	held_databases = list_delete_oid(held_databases, dboid);
	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	database = ivm_control_find(dboid, false);
	if (database != NULL && database->holds > 0)
		database->holds--;
	LWLockRelease(ivm_control->lock);
	ivm_control_wake_launcher();
}

static void
request_xact_callback(XactEvent event, void *argument)
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	while (held_databases != NIL)
		resume_database(linitial_oid(held_databases));
	if (event == XACT_EVENT_ABORT && my_request != NULL)
		request_leave();
	if (event == XACT_EVENT_COMMIT)
	{
		is_committed = true;
		if (changed_at_commit)
			(void) ivm_control_changed(MyDatabaseId, true);
		if (OidIsValid(inspect_at_commit))
			request_inspection(inspect_at_commit);
	}
	changed_at_commit = false;
	inspect_at_commit = InvalidOid;
}

static void
require_callback(void)
{
	static bool registered = false;

	if (!registered)
		RegisterXactCallback(request_xact_callback, NULL);
	registered = true;
}

void
ivm_request_refresh_at_commit(void)
{
	require_callback();
	changed_at_commit = true;
}

void
ivm_request_inspect_at_commit(Oid dboid)
{
	require_callback();
	inspect_at_commit = dboid;
}

/* ---- checks ---- */

void
ivm_request_check_server(void)
{
	int			slots = 0;
	bool		have_slot = false;
	char		name[NAMEDATALEN];

	if (ivm_control == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("ivm_ext must be loaded via shared_preload_libraries"),
				 errhint("Add ivm_ext to shared_preload_libraries and restart the server.")));
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot maintain incremental views during recovery")));
	if (wal_level < WAL_LEVEL_LOGICAL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("incremental views require wal_level to be \"logical\""),
				 errhint("Set wal_level to \"logical\" and restart the server.")));

	ivm_replication_slot_name(MyDatabaseId, name);
	LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
	for (int i = 0; i < max_replication_slots; i++)
	{
		ReplicationSlot *slot = &ReplicationSlotCtl->replication_slots[i];

		if (!slot->in_use)
			continue;
		slots++;
		have_slot |= strcmp(NameStr(slot->data.name), name) == 0;
	}
	LWLockRelease(ReplicationSlotControlLock);
	if (!have_slot && slots >= max_replication_slots)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("no free replication slot for incremental views of database \"%s\"",
						get_database_name(MyDatabaseId)),
				 errhint("Free a replication slot or increase max_replication_slots.")));
}

/* ---- requests ---- */

/* Makes a request, which is the session's only one. */
static void
request_create(IvmRequestKind kind, Oid relid)
{
	require_callback();
	Assert(my_request == NULL);
	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	for (int i = 0; i < IVM_MAX_REQUESTS && my_request == NULL; i++)
		if (ivm_control->requests[i].kind == IVM_REQUEST_FREE)
			my_request = &ivm_control->requests[i];
	if (my_request != NULL)
	{
		memset(my_request, 0, sizeof(IvmRequest));
		my_request->kind = kind;
		my_request->dboid = MyDatabaseId;
		my_request->relid = relid;
		my_request->status = IVM_REQUEST_WAITING;
		my_request->number = ++ivm_control->last_request;
	}
	LWLockRelease(ivm_control->lock);
	if (my_request == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many statements wait for incremental views"),
				 errhint("Try again later.")));
	is_committed = false;
}

static IvmRequestStatus
request_status(void)
{
	IvmRequestStatus status;

	LWLockAcquire(ivm_control->lock, LW_SHARED);
	status = my_request->status;
	LWLockRelease(ivm_control->lock);
	return status;
}

static void
request_free(void)
{
	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	my_request->kind = IVM_REQUEST_FREE;
	LWLockRelease(ivm_control->lock);
	my_request = NULL;
}

/*
 * The builder stops what it does for the current request, and does not begin
 * with it again.
 */
static void
request_stop_builder(void)
{
	IvmControlDatabase *database;

	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	my_request->abandoned = true;
	database = ivm_control_find(MyDatabaseId, false);
	if (database != NULL && database->building == my_request->relid && database->builder_pid != 0)
		kill(database->builder_pid, SIGINT);
	LWLockRelease(ivm_control->lock);
}

/* The transaction, or the session, ends in the midst of a request. */
static void
request_leave(void)
{
	if (my_request->kind == IVM_REQUEST_BUILD && drop_if_orphaned && is_committed)
	{
		request_stop_builder();
		LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
		my_request->orphaned = true;
		my_request = NULL;
		LWLockRelease(ivm_control->lock);
		(void) ivm_control_changed(MyDatabaseId, true);
	}
	else
	{
		bool		build = my_request->kind == IVM_REQUEST_BUILD && is_committed;

		request_free();
		/* what it was about to undo is the builder's again */
		if (build)
			(void) ivm_control_changed(MyDatabaseId, true);
	}
}

/* Takes the failure out of a request. */
static ErrorData *
request_error(void)
{
	IvmRequest *request = my_request;
	ErrorData  *error = palloc0(sizeof(ErrorData));

	LWLockAcquire(ivm_control->lock, LW_SHARED);
	error->elevel = ERROR;
	error->sqlerrcode = request->sqlerrcode;
	error->message = pstrdup(request->message);
	error->detail = request->detail[0] ? pstrdup(request->detail) : NULL;
	error->hint = request->hint[0] ? pstrdup(request->hint) : NULL;
	error->assoc_context = CurrentMemoryContext;
	LWLockRelease(ivm_control->lock);
	return error;
}

/*
 * Says which transactions the start of decoding waits for.
 */
static void
report_old_transactions(void)
{
	StringInfoData pids;
	int			n;

	initStringInfo(&pids);
	n = ivm_status_old_transactions(&pids);
	if (n > 0)
		ereport(NOTICE,
				(errmsg("waiting for transactions that are still running to end"),
				 errdetail_plural("Process: %s.", "Processes: %s.", n, pids.data)));
	else
		ereport(NOTICE,
				(errmsg("waiting for transactions that are still running to end"),
				 errdetail("They are prepared transactions, see pg_prepared_xacts, or have just ended.")));
	pfree(pids.data);
}

/*
 * After the server's start, or when the database came as a copy, it takes a
 * moment until the launcher knows of it.
 */
IvmControlDatabase *
ivm_request_database(TimestampTz started, int64 timeout_ms)
{
	IvmControlDatabase *database;
	bool		asked;

	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot maintain incremental views during recovery")));
	ConditionVariablePrepareToSleep(&ivm_control->changed);
	for (;;)
	{
		bool		known;
		int64		left = timeout_ms - TimestampDifferenceMilliseconds(started, GetCurrentTimestamp());

		LWLockAcquire(ivm_control->lock, LW_SHARED);
		database = ivm_control_find(MyDatabaseId, false);
		known = database != NULL && (database->state == IVM_DATABASE_WANTED || database->asked_wanted);
		asked = database != NULL && database->state != IVM_DATABASE_NOT_WANTED;
		LWLockRelease(ivm_control->lock);
		if (known || (timeout_ms >= 0 && left <= 0))
			break;
		if (!asked)
			request_inspection(MyDatabaseId);
		(void) ConditionVariableTimedSleep(&ivm_control->changed,
										   timeout_ms >= 0 ? Min(left, 100) : 100, PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
	return database;
}

void
ivm_request_build_begin(Oid relid, bool undo, bool drop)
{
	request_create(IVM_REQUEST_BUILD, relid);
	my_request->undo = undo;
	drop_if_orphaned = drop;
}

/* Is the view of the current request in the builder's hands? */
static bool
is_being_built(void)
{
	IvmControlDatabase *database;
	bool		result;

	LWLockAcquire(ivm_control->lock, LW_SHARED);
	database = ivm_control_find(MyDatabaseId, false);
	result = database != NULL && database->building == my_request->relid;
	LWLockRelease(ivm_control->lock);
	return result;
}

/*
 * What is asked for is committed.  Somebody else may have dropped or emptied the
 * view since: then nobody will build it.
 */
static void
check_is_to_be_built(const char *name)
{
	IvmViewRow *row = ivm_metadata_get(my_request->relid);
	IvmRequestStatus status = request_status();

	InvalidateCatalogSnapshot();
	if (row == NULL && status != IVM_REQUEST_DONE)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("incremental view \"%s\" was dropped while it was built", name != NULL ? name : "")));
	if (row != NULL && row->state == IVM_STATE_UNPOPULATED && status == IVM_REQUEST_WAITING)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("incremental view \"%s\" was emptied while it was built", name != NULL ? name : "")));

	/*
	 * a worker that has looked before the statement may stop the view after
	 * it
	 */
	if (row != NULL && row->state == IVM_STATE_ERROR && !is_being_built() &&
		request_status() == IVM_REQUEST_WAITING)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("incremental view \"%s\" was stopped before it was built", name != NULL ? name : ""),
				 row->reason != NULL ? errdetail("%s", row->reason) : 0,
				 errhint("Repeat the statement.")));
}

void
ivm_request_watch_begin(IvmProcessWatch *watch)
{
	IvmControlDatabase *database;

	watch->launcher_seen = watch->room_seen = watch->decoder_seen = GetCurrentTimestamp();
	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	database = ivm_control_find(MyDatabaseId, false);
	watch->failed_starts = database != NULL ? database->failed_starts : 0;
	if (database != NULL)
		database->asked_start = database->starting_failed;
	LWLockRelease(ivm_control->lock);
	ivm_control_wake_launcher();
}

void
ivm_request_watch(IvmProcessWatch *watch)
{
	IvmControlDatabase *database = ivm_control_my_database();
	IvmDecoderState decoder = ivm_decoder_state(database->capture);
	char		problem[sizeof(database->decoder_problem)];
	bool		failed;
	Size		missing;

	LWLockAcquire(ivm_control->lock, LW_SHARED);
	if (ivm_control->launcher_pid != 0)
		watch->launcher_seen = GetCurrentTimestamp();
	failed = (database->starting_failed && database->failed_starts != watch->failed_starts) ||
		TimestampDifferenceExceeds(watch->launcher_seen, GetCurrentTimestamp(), LAUNCHER_PATIENCE);
	missing = database->missing_memory;
	strlcpy(problem, database->decoder_problem, sizeof(problem));
	LWLockRelease(ivm_control->lock);
	if (decoder == IVM_DECODER_RUNNING || decoder == IVM_DECODER_CREATING_SLOT)
		watch->decoder_seen = GetCurrentTimestamp();
	else if (problem[0] != '\0' &&
			 TimestampDifferenceExceeds(watch->decoder_seen, GetCurrentTimestamp(), DECODER_PATIENCE))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("changes of the tables cannot be read from the WAL"),
				 errdetail("%s.", problem),
				 errhint("See pg_stat_ivm.")));
	if (missing == 0)
		watch->room_seen = GetCurrentTimestamp();
	else if (TimestampDifferenceExceeds(watch->room_seen, GetCurrentTimestamp(), MEMORY_PATIENCE))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("ivm.memory_budget has no room for the processes of this database"),
				 errhint("Increase ivm.memory_budget by %zu kB.", (missing + 1023) / 1024)));
	if (failed)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("no free background worker slot for incremental views"),
				 errhint("Increase max_worker_processes.")));
}

static bool
wait_for_build(void *unused)
{
	TimestampTz started = GetCurrentTimestamp();
	IvmProcessWatch watch;
	bool		reported = false;
	char	   *name = get_rel_name(my_request->relid);

	ivm_request_watch_begin(&watch);
	(void) ivm_control_changed(MyDatabaseId, true);
	ConditionVariablePrepareToSleep(&ivm_control->changed);
	while (request_status() == IVM_REQUEST_WAITING)
	{
		check_is_to_be_built(name);
		ivm_request_watch(&watch);

		if (!reported && TimestampDifferenceExceeds(started, GetCurrentTimestamp(), 2000) &&
			ivm_decoder_state(ivm_control_my_database()->capture) == IVM_DECODER_CREATING_SLOT)
		{
			reported = true;
			report_old_transactions();
		}
		(void) ConditionVariableTimedSleep(&ivm_control->changed, 500, PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
	check_is_to_be_built(name);
	return true;
}

ErrorData *
ivm_request_build_wait(uint64 *rows)
{
	/* an interrupt ends the wait, but not yet the statement */
	ErrorData  *error = ivm_attempt(wait_for_build, NULL);

	if (error != NULL)
	{
		if (my_request->undo)
			request_stop_builder();
	}
	else if (my_request->status == IVM_REQUEST_FAILED)
		error = request_error();
	else
		*rows = my_request->result[0];
	return error;
}

bool
ivm_request_build_is_shared(void)
{
	bool		result = false;

	LWLockAcquire(ivm_control->lock, LW_SHARED);
	for (int i = 0; i < IVM_MAX_REQUESTS; i++)
	{
		IvmRequest *request = &ivm_control->requests[i];

		result |= request != my_request && request->kind == IVM_REQUEST_BUILD && request->dboid == MyDatabaseId &&
			request->relid == my_request->relid && request->status == IVM_REQUEST_WAITING && !request->abandoned;
	}
	LWLockRelease(ivm_control->lock);
	return result;
}

void
ivm_request_build_end(void)
{
	bool		shared = ivm_request_build_is_shared();

	request_free();
	/* while this one was being undone the builder kept off the view */
	if (shared)
		(void) ivm_control_changed(MyDatabaseId, true);
}

bool
ivm_request_snapshot(Oid relid, int64 patience_ms)
{
	TimestampTz started = GetCurrentTimestamp();
	IvmControlDatabase *database = ivm_request_database(started, patience_ms);
	bool		done;

	if (database == NULL)
		return false;
	request_create(IVM_REQUEST_VERIFY, relid);
	PG_TRY();
	{
		ivm_control_wake_workers(database);
		ConditionVariablePrepareToSleep(&ivm_control->changed);
		while (!(done = request_status() != IVM_REQUEST_WAITING))
		{
			int64		left = patience_ms - TimestampDifferenceMilliseconds(started, GetCurrentTimestamp());
			IvmViewRow *row;

			if (left <= 0)
				break;
			if (ConditionVariableTimedSleep(&ivm_control->changed, Min(left, 1000), PG_WAIT_EXTENSION))
				ivm_control_wake_workers(database);
			row = ivm_metadata_get(relid);
			if (row == NULL || row->state == IVM_STATE_ERROR || row->state == IVM_STATE_UNPOPULATED)
				ivm_report_unmaintained(relid, row);
		}
		ConditionVariableCancelSleep();
	}
	PG_CATCH();
	{
		/* perhaps of a subtransaction only */
		ConditionVariableCancelSleep();
		request_free();
		PG_RE_THROW();
	}
	PG_END_TRY();
	request_free();
	return done;
}

/* ---- stopping a database ---- */

void
ivm_request_stop_database(Oid dboid)
{
	IvmControlDatabase *database;
	bool		stopped = false;
	MemoryContext old;

	if (ivm_control == NULL || list_member_oid(held_databases, dboid))
		return;
	require_callback();

	/* room for it, before there is something that must not be forgotten */
	old = MemoryContextSwitchTo(TopMemoryContext);
	held_databases = lappend_oid(held_databases, dboid);
	MemoryContextSwitchTo(old);

	/* also of one that nobody has looked into: the look would be in the way */
	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	database = ivm_control_find(dboid, true);
	if (database != NULL)
		database->holds++;
	else
		held_databases = list_delete_last(held_databases);
	LWLockRelease(ivm_control->lock);
	if (database == NULL)
		return;
	ivm_control_wake_launcher();

	ConditionVariablePrepareToSleep(&ivm_control->changed);
	for (;;)
	{
		LWLockAcquire(ivm_control->lock, LW_SHARED);
		stopped = (database->state == IVM_DATABASE_HELD && database->stopped) ||
			(ivm_control->launcher_pid == 0 && !ivm_control_has_processes(database));
		LWLockRelease(ivm_control->lock);
		if (stopped)
			break;
		(void) ConditionVariableTimedSleep(&ivm_control->changed, 1000, PG_WAIT_EXTENSION);
		ivm_control_wake_launcher();
	}
	ConditionVariableCancelSleep();
}
