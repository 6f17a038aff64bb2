/*-------------------------------------------------------------------------
 *
 * fill.c
 *	  The transactions of a build: compile, wait for the decoder, fill, hand over.
 *
 * The order of the steps, and why it is right, stands at the head of builder.c.  Everything
 * that was compiled for a view stays on the list of what is invalidated until it is filled; what was
 * invalidated when its tables are locked is compiled again.
 *
 * What is evaluated is watched as in a batch (guard.c): it is cancelled when it has had its turn and others
 * wait (builder.c), when somebody waits for a lock that it holds, and, if nobody waits for it, after
 * ivm.view_timeout.
 *
 * Memory: the plans in the current context.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "replication/origin.h"
#include "storage/lmgr.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "apply/apply.h"
#include "arrange/arrange.h"
#include "arrange/state_table.h"
#include "base/debug_point.h"
#include "base/in_hand.h"
#include "base/settings.h"
#include "build/build_internal.h"
#include "build/build_queue.h"
#include "compile/compile.h"
#include "maintain/consumer.h"
#include "maintain/guard.h"
#include "maintain/view_timeout.h"
#include "process/process.h"

#define FIRST_TURN				10	/* times ivm.batch_patience */

static List *watched = NIL;		/* IvmCompiled: what is being built */
static IvmWatch build_watch;	/* what it evaluates, and may take */

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

IvmCancel
ivm_fill_end_watch(void)
{
	Oid			culprit;

	return ivm_guard_end(&culprit);
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

void
ivm_fill_forget_plans(void)
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
	ivm_hand_over_release();
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

	lsn = ivm_hand_over_begin(plan);

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
		ivm_state_table_clear(relid, snapshot);
		CommandCounterIncrement();
	}
	ivm_in_hand_begin_one(IVM_WORK_BUILD, view->relid);
	begin_watch(relid, plan->relids);
	ivm_identity_enter(&saved, ivm_relation_owner(view->relid), view->settings);
	ivm_arrangement_populate(relid, plan, arrangement, snapshot);
	ivm_identity_leave(&saved);
	(void) ivm_fill_end_watch();
	store(row, plan, lsn, snapshot, NIL);
	PopActiveSnapshot();
	CommitTransactionCommand();
	ivm_in_hand_end();
	MemoryContextSwitchTo(old);
	ivm_hand_over(relid, false);
	return relid;
}

bool
ivm_fill_view(IvmViewRow *row, bool is_asked_for, IvmFill *fill)
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

	memset(fill, 0, sizeof(*fill));
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
	ivm_fill_forget_plans();
	set_limits(row->relid, ivm_relation_owner(row->relid), is_asked_for);
	ivm_in_hand_begin_one(IVM_WORK_COMPILE, row->relid);
	begin_watch(row->relid, NIL);
	plan = ivm_compiled_make(watch(row->relid, row->settings), owned);
	(void) ivm_fill_end_watch();
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

	lsn = ivm_hand_over_begin(plan);

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
	fill->answers = ivm_request_newest();
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
		fill->rows = counts.inserted + counts.updated + counts.deleted;
	}
	else
		fill->rows = ivm_view_populate(row->relid, plan, snapshot);
	ivm_identity_leave(&saved);
	(void) ivm_fill_end_watch();
	fill->leaves_arrangements = list_difference_oid(row->arrangements, arrangements) != NIL;
	store(row, plan, lsn, snapshot, arrangements);
	ivm_debug_point("build-filled");
	PopActiveSnapshot();
	CommitTransactionCommand();
	ivm_in_hand_end();
	ivm_suspect_clear(MyDatabaseId, row->relid);
	fill->committed = row->relid;
	MemoryContextSwitchTo(old);
	ivm_debug_point("build-committed");
	pgstat_report_stat(true);
	ivm_hand_over(row->relid, true);
	fill->committed = InvalidOid;
	return true;
}
