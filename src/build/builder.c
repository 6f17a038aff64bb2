/*-------------------------------------------------------------------------
 *
 * builder.c
 *	  Population and rebuild of views and shared arrangements.
 *
 * A builder is started when some row of ivm.view waits (state building or
 * rebuild), does one after the other, and ends when nothing is left.  For each:
 *
 *	1.	compile, in a transaction that then ends;
 *	2.	take a cursor, so that the log and the WAL keep what comes from now on;
 *		register the tables, and wait, without any transaction, until the decoder
 *		decodes them and all that it decoded before is visible;
 *	3.	in a repeatable read transaction: claim, lock, check that the plan is
 *		still the right one, take the snapshot P, fill or compare, store P as
 *		the applied snapshot and "active" as the state;
 *	4.	count a new generation and wait, holding nothing but the cursor, until
 *		the apply workers have taken over; let the cursor go.
 *
 * A transaction is either visible to P, or decoded after step 2 and therefore
 * in the log at or after the cursor: nothing is lost and nothing comes twice.
 *
 * Shared arrangements that a view reads and that do not exist yet are built
 * before it in the same way.
 *
 * An error in step 3 rolls everything back.  If a session waits for the view
 * it gets the error and undoes its statement; otherwise the view is in state
 * error, and tried again here when its time has come.  A new view whose session has gone is dropped here.
 *
 * What a build evaluates is watched as in a batch (guard.c): it is cancelled when it has had its
 * turn and others wait (build_queue.c), when somebody waits for a lock that it holds, and, if nobody waits for it, after
 * ivm.view_timeout.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "replication/origin.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "apply/apply.h"
#include "arrange/arrange.h"
#include "arrange/state_table.h"
#include "base/debug_point.h"
#include "base/in_hand.h"
#include "base/settings.h"
#include "compile/compile.h"
#include "memory/budget.h"
#include "memory/reclaim.h"
#include "build/build_queue.h"
#include "maintain/consumer.h"
#include "maintain/guard.h"
#include "maintain/view_timeout.h"
#include "process/control.h"
#include "maintain/failure.h"
#include "maintain/trial.h"
#include "process/process.h"

#define MAX_TRANSIENT_FAILURES	8
#define FIRST_TURN				10	/* times ivm.batch_patience */
#define NEWCOMER_DOUBLINGS		3	/* of the first turn that one who had none
									 * waits for */
#define BUILDER_CURSOR			"builder"

static IvmDatabase *capture;
static IvmControlDatabase *control;
static IvmCursor *cursor = NULL;
static MemoryContext build_context;
static List *watched = NIL;		/* IvmCompiled: what is being built */
static Oid	built = InvalidOid; /* committed, but not taken over yet */
static uint64 built_rows;
static uint64 built_for;		/* the last request that was there when it was
								 * begun */
static bool unused_arrangements = true; /* there may be some */
static bool nothing_left = false;
static bool wants_overdraft = false;	/* the last build was refused memory */
static int	others = PG_INT16_MAX;	/* the fewest turns of those that waited
									 * when it was begun; this: nobody did */
static IvmWatch build_watch;	/* what it evaluates, and may take */

static void
builder_exit(int code, Datum argument)
{
	bool		unfinished;

	/*
	 * What it had in hand may be active, and taken over by nobody.  Our
	 * cursor stays until the next builder has seen to that.
	 */
	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	unfinished = OidIsValid(control->building);
	if (unfinished)
		pg_atomic_fetch_add_u64(&control->generation, 1);
	control->build_wanted |= !nothing_left;
	control->handing_over |= unfinished;
	control->builder_pid = 0;
	control->builder_latch = NULL;
	control->building = InvalidOid;
	LWLockRelease(ivm_control->lock);
	if (OidIsValid(built))
		ivm_build_request_finish(built, built_for, built_rows);
	ConditionVariableBroadcast(&ivm_control->changed);
	if (unfinished)
		ivm_control_wake_workers(control);
	ivm_control_wake_launcher();
}

/*
 * Others
 */

/*
 * Does anybody wait for the builder, for longer than the turn of what runs?  In a signal handler.
 */
static bool
others_wait(const IvmWatch *watch)
{
	int			turns = control->build_wanted ? 0 : others;

	if (turns == PG_INT16_MAX)
		return false;
	return watch->elapsed >= (int64) watch->patience << Min(watch->turns, turns + NEWCOMER_DOUBLINGS);
}

/* Before the evaluation of anything: how long it may take.  In a transaction. */
static void
set_limits(Oid relid, Oid owner, bool is_asked_for)
{
	build_watch.relid = relid;
	build_watch.elapsed = 0;
	build_watch.patience = (int) Min((int64) ivm_batch_patience * FIRST_TURN, PG_INT32_MAX);
	build_watch.crowd = 0;
	build_watch.turns = ivm_build_turns(relid);
	/* a session that waits has limits of its own */
	build_watch.timeout = is_asked_for ? 0 : ivm_view_timeout_of(owner);
}

/*
 * What follows is watched, also for those who wait for a lock on what is filled or on
 * these tables.
 */
static void
begin_watch(Oid filled, List *tables)
{
	Oid		   *relids = palloc(sizeof(Oid) * (1 + list_length(tables)));
	int			n = 0;
	ListCell   *cell;

	relids[n++] = filled;
	foreach(cell, tables)
		relids[n++] = lfirst_oid(cell);
	ivm_guard_begin(relids, n, 1);
	ivm_guard_enter(&build_watch);
}

static IvmCancel
end_watch(void)
{
	Oid			culprit;

	return ivm_guard_end(&culprit);
}

/*
 * Memory
 */

/*
 * A build that was refused memory is begun again with the overdraft token.  Nothing is
 * held while it waits for that; whoever gives up meanwhile interrupts it.
 */
static void
wait_for_overdraft(void)
{
	while (wants_overdraft)
	{
		ivm_stats_worker_state("waiting for memory");
		if (ivm_overdraft_wait(1000))
			wants_overdraft = false;
	}
	ivm_stats_worker_state("building");
}

/* Nothing of a build is left: gives back its memory, and the token before it waits for others. */
static void
give_memory_back(void)
{
	ivm_arena_process_trim();
	ivm_overdraft_end();
}

/*
 * Steps of a build
 */

/* Of cursor and tables; they outlive the process: see hand_over(). */
static void
release_cursor(void)
{
	ivm_registry_retain(capture, NULL, NULL);
	if (cursor != NULL)
	{
		ivm_cursor_release(cursor);
		ivm_cursor_drop(capture, BUILDER_CURSOR);
	}
	cursor = NULL;
}

/* Step 2.  Returns the position up to which P contains everything. */
static XLogRecPtr
register_plan(IvmPlan *plan)
{
	uint64		generation;
	XLogRecPtr	decoded;

	ivm_stats_build_phase("waiting for decoder");
	while (ivm_decoder_state(capture) != IVM_DECODER_RUNNING)
		ivm_process_wait(ivm_naptime > 100 ? 100 : ivm_naptime);
	release_cursor();
	cursor = ivm_cursor_create(capture, BUILDER_CURSOR, true);
	generation = ivm_plan_register(capture, plan);

	/*
	 * what is decoded by now P will see; of what comes while we wait nobody
	 * knows
	 */
	decoded = ivm_log_end(capture).decoded_lsn;
	ivm_registry_wait(capture, generation);
	return decoded;
}

/*
 * The quick workers know at once whose it is.  A slow one, which comes to look when its batch has
 * ended, is waited for only if it is the one: what sits together with slow views is on their list by the time that the
 * quick ones have looked.
 */
static bool
is_adopted(Oid relid, uint64 generation)
{
	bool		result = true;
	int			first;
	int			count;

	for (int i = 0; i < control->apply_workers; i++)
		result &= pg_atomic_read_u64(&control->apply[i].adopted) >= generation;
	LWLockAcquire(ivm_control->lock, LW_SHARED);
	ivm_control_workers_of(control, relid, &first, &count);
	if (!OidIsValid(relid))
		count = control->apply_workers + control->slow.workers;
	for (int i = first; i < first + count; i++)
		result &= pg_atomic_read_u64(&control->apply[i].adopted) >= generation;
	LWLockRelease(ivm_control->lock);
	return result;
}

/*
 * Step 4.  What was built is committed, and has to be taken over by the worker that gets it; which one
 * that is is known when it has been.  The others are not waited for.  For a view a cancel comes too late; one
 * that comes while an arrangement is handed over is about the view to come.  If
 * the process is ended here the cursor stays, and the next one does this again.
 */
static void
hand_over(Oid relid, bool is_view)
{
	uint64		generation = ivm_control_changed(MyDatabaseId, false);

	give_memory_back();
	ivm_stats_build_phase("handing over");
	HOLD_CANCEL_INTERRUPTS();
	for (;;)
	{
		int			keeper = ivm_stats_view_keeper(MyDatabaseId, relid);

		if ((keeper >= 0 && ivm_control_has_adopted(control, keeper, relid, generation)) ||
			is_adopted(relid, generation))
			break;
		ivm_process_wait(ivm_naptime);
	}
	release_cursor();
	if (is_view)
		QueryCancelPending = false;
	RESUME_CANCEL_INTERRUPTS();
}

/* Locks what the plan reads; the snapshot is taken after it. */
static void
lock_tables(IvmPlan *plan)
{
	ListCell   *cell;

	foreach(cell, plan->relids)
		LockRelationOid(lfirst_oid(cell), AccessShareLock);
}

static void
begin_fill(Oid relid, IvmPlan *plan, LOCKMODE lockmode)
{
	StartTransactionCommand();
	XactIsoLevel = XACT_REPEATABLE_READ;
	replorigin_session_origin = DoNotReplicateId;
	ivm_process_impatient(true);
	(void) ivm_claim(relid, true);
	LockRelationOid(relid, lockmode);
	lock_tables(plan);
	ivm_process_impatient(false);
	AcceptInvalidationMessages();
	ivm_debug_point("build-locked");
}

static Snapshot
push_snapshot(void)
{
	PushCopiedSnapshot(GetTransactionSnapshot());
	/* sees what this transaction writes, at once */
	GetActiveSnapshot()->curcid = InvalidCommandId - 1;
	return GetActiveSnapshot();
}

static void
store(IvmViewRow *row, IvmPlan *plan, XLogRecPtr lsn, Snapshot snapshot, List *arrangements)
{
	row->state = IVM_STATE_ACTIVE;
	row->text = plan->text;
	row->fingerprint = plan->fingerprint;
	row->reason = NULL;
	row->arrangements = arrangements;
	CommandCounterIncrement();
	ivm_metadata_put(row);
	ivm_applied_put(row->relid, ivm_applied_from_snapshot(snapshot, lsn), snapshot);
}

/* Something that a plan was compiled from changed since: start over.  The tables are locked. */
static bool
plan_is_stale(void)
{
	ListCell   *cell;

	foreach(cell, watched)
	{
		if (!ivm_compiled_is_current(lfirst(cell)))
			return true;
	}
	return false;
}

/* Before anything is compiled for it. */
static IvmCompiled *
watch(Oid relid, List *settings)
{
	IvmCompiled *compiled = ivm_compiled_create(relid, settings, CurrentMemoryContext);

	watched = lappend(watched, compiled);
	return compiled;
}

static void
watch_nothing(void)
{
	ListCell   *cell;

	foreach(cell, watched)
		ivm_compiled_free(lfirst(cell));
	list_free(watched);
	watched = NIL;
}

/* Leaves a fill that cannot go on. */
static void
abandon_fill(MemoryContext context)
{
	AbortCurrentTransaction();
	MemoryContextSwitchTo(context);
	release_cursor();
	unused_arrangements = true;
}

/*
 * Finds a shared arrangement and keeps it from being dropped until the
 * transaction ends; InvalidOid if there is none.
 */
static Oid
lock_arrangement(const char *text)
{
	Oid			relid;

	for (;;)
	{
		relid = ivm_metadata_find_arrangement(text);
		if (!OidIsValid(relid))
			return InvalidOid;
		LockRelationOid(relid, AccessShareLock);
		if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid)))
			return relid;
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * Builds a shared arrangement unless it is there.  Returns its oid, or
 * InvalidOid if the plan is not right any more.
 *
 * That the view reads the arrangement is stored with the arrangement's own
 * row: an apply worker compiles the one from the other, and whoever drops a
 * view drops the arrangements that no other one reads.  The view is locked
 * first, as its drop does.
 */
static Oid
build_arrangement(IvmPlan *view_plan, IvmArrangement *arrangement, IvmViewRow *view)
{
	Oid			relid;
	IvmViewRow *row;
	IvmViewRow *reader;
	bool		is_ours = false;
	IvmPlan    *plan = NULL;
	XLogRecPtr	lsn;
	Snapshot	snapshot;
	IvmIdentity saved;
	MemoryContext old = CurrentMemoryContext;

	StartTransactionCommand();
	ivm_process_impatient(true);
	(void) ivm_claim(view->relid, true);
	LockRelationOid(view->relid, AccessShareLock);
	/* the plan is of an earlier transaction */
	lock_tables(view_plan);
	ivm_process_impatient(false);
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(old);
	reader = ivm_metadata_get(view->relid);
	if (reader == NULL || plan_is_stale())
	{
		abandon_fill(old);
		return InvalidOid;
	}
	relid = lock_arrangement(arrangement->text);
	if (!OidIsValid(relid))
	{
		relid = ivm_state_table_create(ivm_arrangement_state_name(arrangement, view->relid));
		row = palloc0(sizeof(IvmViewRow));
		row->relid = relid;
		row->kind = 'a';
		row->state = IVM_STATE_BUILDING;
		row->definition = arrangement->text;
		row->settings = view->settings;
		ivm_metadata_put(row);
	}
	else
		row = ivm_metadata_get(relid);
	if (!list_member_oid(reader->arrangements, relid))
	{
		reader->arrangements = lappend_oid(reader->arrangements, relid);
		is_ours = ivm_row_version_equal(&reader->version, &view->version);
		ivm_metadata_put(reader);
	}
	if (row->state != IVM_STATE_ACTIVE)
	{
		IvmCompiled *compiled = watch(relid, view->settings);

		ivm_compiled_begin(compiled);
		plan = ivm_compile_arrangement(view_plan, arrangement, relid, old);
		ivm_compiled_end(compiled, plan);
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(old);
	if (is_ours)
		view->version = reader->version;
	if (row->state == IVM_STATE_ACTIVE)
		return relid;

	lsn = register_plan(plan);

	begin_fill(relid, plan, RowExclusiveLock);
	MemoryContextSwitchTo(old);
	if (plan_is_stale())
	{
		abandon_fill(old);
		return InvalidOid;
	}
	snapshot = push_snapshot();
	if (row->text !=NULL || row->state == IVM_STATE_REBUILD)
	{
		IvmStateTable *table = ivm_state_table_open(relid, snapshot);

		ivm_state_table_clear(table);
		ivm_state_table_close(table);
		CommandCounterIncrement();
	}
	ivm_in_hand_begin_one(IVM_WORK_BUILD, view->relid);
	begin_watch(relid, plan->relids);
	ivm_identity_enter(&saved, ivm_relation_owner(view->relid), view->settings);
	ivm_arrangement_populate(relid, plan, arrangement, snapshot);
	ivm_identity_leave(&saved);
	(void) end_watch();
	store(row, plan, lsn, snapshot, NIL);
	PopActiveSnapshot();
	CommitTransactionCommand();
	ivm_in_hand_end();
	MemoryContextSwitchTo(old);
	hand_over(relid, false);
	return relid;
}

/*
 * Populates or rebuilds a view.  Returns false if it has to be begun again.
 */
static bool
build_view(IvmViewRow *row, bool is_asked_for, uint64 *rows)
{
	MemoryContext old = CurrentMemoryContext;
	IvmPlan    *plan;
	List	   *arrangements = NIL;
	List	   *owned = NIL;
	XLogRecPtr	lsn;
	Snapshot	snapshot;
	IvmIdentity saved;
	bool		populated;
	bool		compare;
	Oid			owner;
	List	   *upstream;
	char	   *problem;
	ListCell   *cell;

	ivm_process_impatient(true);
	StartTransactionCommand();
	LockRelationOid(row->relid, AccessShareLock);
	if (ivm_metadata_get(row->relid) == NULL)
	{
		/* dropped since the row was read */
		abandon_fill(old);
		ivm_process_impatient(false);
		return false;
	}
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(old);
	foreach(cell, row->arrangements)
	{
		IvmViewRow *arrangement = ivm_metadata_get(lfirst_oid(cell));

		if (arrangement != NULL)
			owned = lappend(owned, arrangement->definition);
	}
	watch_nothing();
	set_limits(row->relid, ivm_relation_owner(row->relid), is_asked_for);
	ivm_in_hand_begin_one(IVM_WORK_COMPILE, row->relid);
	begin_watch(row->relid, NIL);
	plan = ivm_compiled_make(watch(row->relid, row->settings), owned);
	(void) end_watch();
	ivm_in_hand_end();
	upstream = ivm_plan_upstream(plan);
	problem = upstream == NIL ? NULL : ivm_upstream_problem(upstream, ivm_metadata_list());
	if (problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg_internal("%s", problem),
				 errhint("Use REFRESH MATERIALIZED VIEW to rebuild that one first.")));
	PopActiveSnapshot();
	CommitTransactionCommand();
	ivm_process_impatient(false);
	MemoryContextSwitchTo(old);

	foreach(cell, plan->arrangements)
	{
		IvmArrangement *arrangement = lfirst(cell);
		Oid			relid;

		if (arrangement->kind != IVM_ARRANGE_STATE || !arrangement->shared)
			continue;
		relid = build_arrangement(plan, arrangement, row);
		if (!OidIsValid(relid))
			return false;
		arrangements = list_append_unique_oid(arrangements, relid);
	}

	lsn = register_plan(plan);

	StartTransactionCommand();
	if (ivm_metadata_get(row->relid) == NULL)
	{
		/* dropped while nothing was held */
		abandon_fill(old);
		return false;
	}
	owner = ivm_relation_owner(row->relid);
	populated = ivm_relation_is_populated(row->relid);
	CommitTransactionCommand();
	MemoryContextSwitchTo(old);

	ivm_stats_build_phase("waiting for locks");

	/*
	 * what an index knows of stored rows does not hold for rows of another
	 * type
	 */
	compare = populated && !(row->fingerprint != NULL &&
							 ivm_fingerprint_rows_differ(row->fingerprint, plan->fingerprint));
	begin_fill(row->relid, plan, compare ? RowExclusiveLock : AccessExclusiveLock);
	MemoryContextSwitchTo(old);
	if (plan_is_stale() || ivm_metadata_get(row->relid) == NULL ||
		ivm_relation_is_populated(row->relid) != populated)
	{
		abandon_fill(old);
		return false;
	}

	/*
	 * claimed: who asks from here on cannot set the state before this is
	 * committed
	 */
	built_for = ivm_request_newest();
	snapshot = push_snapshot();
	ivm_stats_build_phase(compare ? "comparing" : "filling");
	ivm_in_hand_begin_one(IVM_WORK_BUILD, row->relid);
	ivm_view_create_state(row->relid, plan);
	CommandCounterIncrement();
	ivm_debug_point("build-reading");
	begin_watch(row->relid, plan->relids);
	ivm_identity_enter(&saved, owner, row->settings);
	if (compare)
	{
		IvmApplyCounts counts = {0};

		ivm_view_rebuild(row->relid, plan, snapshot, &counts);
		*rows = counts.inserted + counts.updated + counts.deleted;
	}
	else
		*rows = ivm_view_populate(row->relid, plan, snapshot);
	ivm_identity_leave(&saved);
	(void) end_watch();
	unused_arrangements |= list_difference_oid(row->arrangements, arrangements) != NIL;
	store(row, plan, lsn, snapshot, arrangements);
	ivm_debug_point("build-filled");
	PopActiveSnapshot();
	CommitTransactionCommand();
	ivm_in_hand_end();
	ivm_suspect_clear(MyDatabaseId, row->relid);
	built = row->relid;
	built_rows = *rows;
	MemoryContextSwitchTo(old);
	ivm_debug_point("build-committed");
	pgstat_report_stat(true);
	hand_over(row->relid, true);
	built = InvalidOid;
	return true;
}

static bool
is_still_there(Oid relid)
{
	MemoryContext old = CurrentMemoryContext;
	bool		result;

	StartTransactionCommand();
	result = ivm_metadata_get(relid) != NULL;
	CommitTransactionCommand();
	MemoryContextSwitchTo(old);
	return result;
}

/*
 * A build failed; "request" is the number of who waited for it then, 0 if nobody did, and "newest" of the last one that
 * is answered by it.  Says what is to be done next, if not, the view is stopped and whoever waits is told.
 */
static IvmBuildOutcome
judge(IvmViewRow *row, ErrorData *error, IvmCancel cancel, uint64 number, uint64 newest)
{
	IvmRequest *request = ivm_build_request_find(row->relid);
	int			failures = ivm_build_failures(row->relid);

	if (cancel == IVM_CANCEL_PATIENCE)
		return IVM_BUILD_TURN;
	if (cancel == IVM_CANCEL_GIVE_WAY || cancel == IVM_CANCEL_BLOCKING || error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE || wants_overdraft)
		return IVM_BUILD_POSTPONED;
	if (cancel == IVM_CANCEL_TIMEOUT)
		error->message = pstrdup(IVM_TIMEOUT_REASON);
	/* a cancel may come from one who has gone meanwhile */
	else if (error->sqlerrcode == ERRCODE_QUERY_CANCELED && number != 0 &&
			 (request == NULL || request->number != number))
		return IVM_BUILD_POSTPONED;
	/* what the server lacks is not the view's fault: it stays as it is */
	else if (request == NULL && row->state == IVM_STATE_REBUILD && ivm_failure_is_transient(error->sqlerrcode) &&
			 (failures < MAX_TRANSIENT_FAILURES || ivm_failure_is_resource(error->sqlerrcode)))
	{
		if (failures == 0)
			ereport(LOG,
					(errmsg("could not rebuild incremental view with OID %u, which is tried again: %s", row->relid, error->message)));
		ivm_stats_view_error(MyDatabaseId, row->relid, error->message);
		return ivm_failure_is_resource(error->sqlerrcode) ? IVM_BUILD_SHORT : IVM_BUILD_POSTPONED;
	}

	if (row->state == IVM_STATE_ERROR && row->reason != NULL && strcmp(row->reason, error->message) == 0)
		ivm_trouble_failed(MyDatabaseId, row->relid);	/* no news */
	/* whoever has asked since has set the state, or is about to */
	else if ((request == NULL || !request->undo) &&
			 !ivm_failure_stop(row->relid, &row->version, error->message))
		return IVM_BUILD_POSTPONED;
	ivm_debug_point("build-stopped");
	ivm_request_fail_builds(row->relid, newest, error);
	return IVM_BUILD_DONE;
}

/*
 * One view, with its error if there is one.
 */
static IvmBuildOutcome
build(IvmViewRow *row)
{
	IvmBuildOutcome outcome = IVM_BUILD_DONE;
	uint64		rows = 0;
	MemoryContext old = CurrentMemoryContext;
	bool		rebuild = row->state != IVM_STATE_BUILDING;
	bool		failed = row->state == IVM_STATE_ERROR;
	IvmRequest *request;
	ErrorData  *volatile error = NULL;
	volatile uint64 number = 0;
	volatile uint64 newest = 0;
	volatile IvmCancel cancel = IVM_CANCEL_NONE;
	TimestampTz begin = GetCurrentTimestamp();
	bool		done = false;

	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	control->building = row->relid;
	LWLockRelease(ivm_control->lock);
	ivm_stats_worker_state("building");
	ivm_stats_build_start(MyDatabaseId, row->relid, rebuild);
	if (!failed)
		ivm_stats_view_state(MyDatabaseId, row->relid, rebuild ? "rebuild" : "building");

	PG_TRY();
	{
		/*
		 * whoever asked may have given up meanwhile, or the view is gone, as
		 * he sees for himself
		 */
		request = ivm_build_request_find(row->relid);
		number = request != NULL ? request->number : 0;
		wait_for_overdraft();
		while (!done && (request == NULL || !request->abandoned) && is_still_there(row->relid))
		{
			newest = ivm_request_newest();
			done = build_view(row, request != NULL, &rows);
			if (!done)
				CHECK_FOR_INTERRUPTS();
			MemoryContextSwitchTo(old);
		}
		if (done)
		{
			ivm_stats_view_state(MyDatabaseId, row->relid, "active");
			ivm_build_request_finish(row->relid, built_for, rows);
		}
	}
	PG_CATCH();
	{
		cancel = end_watch();
		MemoryContextSwitchTo(old);
		error = CopyErrorData();
		wants_overdraft = ivm_failure_is_shortage();
		unused_arrangements = true;
		HOLD_INTERRUPTS();
		FlushErrorState();
		AbortCurrentTransaction();
		RESUME_INTERRUPTS();
		MemoryContextSwitchTo(old);
		ivm_process_impatient(false);
		release_cursor();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	ivm_process_release_locks();

	ivm_in_hand_end();
	if (error != NULL)
	{
		ivm_debug_point("build-failed");
		outcome = judge(row, error, cancel, number, newest);
		if (outcome == IVM_BUILD_DONE)
			ivm_trouble_cost(MyDatabaseId, row->relid, TimestampDifferenceMilliseconds(begin, GetCurrentTimestamp()));
	}
	else if (done)
	{
		if (failed)
			ereport(LOG,
					(errmsg("incremental view with OID %u is maintained again", row->relid)));
		ivm_trouble_healed(MyDatabaseId, row->relid);
		if (number == 0 && rebuild)
			outcome = IVM_BUILD_REBUILT;
	}

	give_memory_back();
	ivm_stats_build_end();
	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	control->building = InvalidOid;
	LWLockRelease(ivm_control->lock);
	QueryCancelPending = false; /* was about this view */
	return outcome;
}

/* The builder, or an apply worker, has died in its hands too often.  False if that has to be tried again. */
static bool
stop_deadly(IvmViewRow *row)
{
	uint64		newest = ivm_request_newest();
	ErrorData	error = {
		.sqlerrcode = ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
		.message = IVM_DEATH_REASON
	};

	if (!ivm_failure_stop(row->relid, &row->version, IVM_DEATH_REASON))
		return false;
	ivm_request_fail_builds(row->relid, newest, &error);
	return true;
}

void
ivm_builder_main(Datum unused)
{
	IvmProcessArgument argument;
	bool		idle = false;
	bool		unfinished;

	ivm_process_init(&argument);
	ivm_process_open_account(IVM_MINIMUM_WORKER, true);
	control = ivm_control_my_database();
	capture = control->capture;
	ivm_process_join(&argument, &control->builder_pid, &control->builder_latch);
	before_shmem_exit(builder_exit, (Datum) 0);
	ivm_database_attach(capture);
	ivm_wake_register_consumer(capture, IVM_BUILDER_NUMBER);
	ivm_guard_init(others_wait);
	build_context = AllocSetContextCreate(TopMemoryContext, "ivm build", ALLOCSET_DEFAULT_SIZES);

	LWLockAcquire(ivm_control->lock, LW_SHARED);
	unfinished = control->handing_over;
	LWLockRelease(ivm_control->lock);
	if (unfinished)
	{
		/* what the predecessor built, perhaps; the cursor is its own */
		cursor = ivm_cursor_create(capture, BUILDER_CURSOR, true);
		hand_over(InvalidOid, true);
		LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
		control->handing_over = false;
		LWLockRelease(ivm_control->lock);
	}

	for (;;)
	{
		IvmViewRow *row;
		long		sleep_ms;

		CHECK_FOR_INTERRUPTS();
		ivm_give_back();
		watch_nothing();
		MemoryContextReset(build_context);
		MemoryContextSwitchTo(build_context);

		LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
		control->build_wanted = false;
		LWLockRelease(ivm_control->lock);

		ivm_build_drop_orphans();
		if (unused_arrangements)
			ivm_build_drop_unused();
		unused_arrangements = false;
		row = ivm_build_next_row(&sleep_ms, &others);
		if (row != NULL)
		{
			if (ivm_trial_is_over(row->relid))
				ivm_build_note(row->relid, stop_deadly(row) ? IVM_BUILD_DONE : IVM_BUILD_POSTPONED);
			else
				ivm_build_note(row->relid, build(row));
			idle = false;
			continue;
		}
		if (sleep_ms > 0)
		{
			ivm_stats_worker_state("waiting for locks");
			ivm_process_wait(sleep_ms);
			idle = false;
			continue;
		}

		/* stay a while: views are often made one after the other */
		LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
		if (control->build_wanted)
			idle = false;
		else if (idle)
		{
			control->builder_latch = NULL;
			control->builder_done = nothing_left = true;
			LWLockRelease(ivm_control->lock);
			break;
		}
		else
			idle = true;
		LWLockRelease(ivm_control->lock);
		if (idle)
		{
			ivm_stats_worker_state("idle");
			ivm_process_wait(ivm_naptime);
		}
	}
	proc_exit(0);
}
