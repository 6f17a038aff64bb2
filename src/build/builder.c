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
 * This file has the loop and what becomes of an attempt, fill.c the transactions of one,
 * hand_over.c steps 2 and 4, build_queue.c what comes next.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

#include "base/debug_point.h"
#include "base/in_hand.h"
#include "base/settings.h"
#include "build/build_internal.h"
#include "build/build_queue.h"
#include "maintain/consumer.h"
#include "maintain/failure.h"
#include "maintain/trial.h"
#include "process/control.h"
#include "memory/budget.h"
#include "memory/reclaim.h"
#include "process/process.h"

#define MAX_TRANSIENT_FAILURES	8
#define NEWCOMER_DOUBLINGS		3	/* of the first turn that one who had none
									 * waits for */

static IvmControlDatabase *control;
static MemoryContext build_context;
static IvmFill fill;
static bool unused_arrangements = true; /* there may be some */
static bool nothing_left = false;
static bool wants_overdraft = false;	/* the last build was refused memory */
static int	others = PG_INT16_MAX;	/* the fewest turns of those that waited
									 * when it was begun; this: nobody did */

static void
builder_exit(int code, Datum argument)
{
	bool		unfinished;

	/*
	 * What it had in hand may be active, and taken over by nobody.  Our
	 * cursor stays until the next builder has seen to that.
	 */
	/* a function that would not be cancelled is no death */
	if (OidIsValid(ivm_guard_culprit()))
		ivm_in_hand_end();
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
	if (OidIsValid(fill.committed))
		ivm_build_request_finish(fill.committed, fill.answers, fill.rows);
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
void
ivm_build_give_memory_back(void)
{
	ivm_arena_process_trim();
	ivm_overdraft_end();
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
			done = ivm_fill_view(row, request != NULL, &fill);
			unused_arrangements |= !done || fill.leaves_arrangements;
			if (!done)
				CHECK_FOR_INTERRUPTS();
			MemoryContextSwitchTo(old);
		}
		if (done)
		{
			ivm_stats_view_state(MyDatabaseId, row->relid, "active");
			ivm_build_request_finish(row->relid, fill.answers, fill.rows);
		}
	}
	PG_CATCH();
	{
		cancel = ivm_fill_end_watch();
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
		ivm_hand_over_release();
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

	ivm_build_give_memory_back();
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

	ivm_process_init(&argument);
	ivm_process_open_account(IVM_MINIMUM_WORKER, true);
	control = ivm_control_my_database();
	ivm_process_join(&argument, &control->builder_pid, &control->builder_latch);
	before_shmem_exit(builder_exit, (Datum) 0);
	ivm_database_attach(control->capture);
	ivm_wake_register_consumer(control->capture, IVM_BUILDER_NUMBER);
	ivm_guard_init(others_wait);
	build_context = AllocSetContextCreate(TopMemoryContext, "ivm build", ALLOCSET_DEFAULT_SIZES);

	ivm_hand_over_init();

	for (;;)
	{
		IvmViewRow *row;
		long		sleep_ms;

		CHECK_FOR_INTERRUPTS();
		ivm_give_back();
		ivm_fill_forget_plans();
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
