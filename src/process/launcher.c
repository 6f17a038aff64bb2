/*-------------------------------------------------------------------------
 *
 * launcher.c
 *	  The one process that starts all others, and starts them again.
 *
 * It is connected to no database.  When it starts it lets a short-lived
 * process look into each database but template0 (ivm_inspect_main),
 * since neither slots nor anything else in shared state tells reliably where
 * incremental views are.  From then on it brings each database from the state
 * that it is in to the one that is wanted:
 *
 *		wanted, not held:	apply workers; when they have registered their tables,
 *							the decoder; when something is to be built and the
 *							decoder runs, the builder
 *		held by a session:	no process, the slot stays
 *		not wanted:			no process, no slot, no entry
 *
 * The decoder must not run before all apply workers have registered: what it
 * decodes meanwhile would lack their tables.  Their cursors are made here,
 * before the decoder starts, so that nothing is confirmed that a worker that
 * is still starting needs.
 *
 * A process is started only if the minimum that it is guaranteed fits into the
 * memory budget beside those of all others, and the first ones of a database
 * only all together: half of them would hold what they have and do nothing with
 * it.  Those that run keep theirs when the budget is lowered.  One more minimum
 * is reserved for a builder: without it, what has to be rebuilt under a budget that
 * others have filled would never be.
 *
 * A process that ended is started again, after a pause that doubles with each
 * failure, up to a minute.  A crash makes the server initialize shared memory
 * and restart this process; the number of such restarts is counted where the
 * postmaster keeps it, and makes the launcher pause before it starts anything.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "replication/reorderbuffer.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/settings.h"
#include "capture/capture.h"
#include "memory/budget.h"
#include "stats/stats.h"
#include "process/control.h"
#include "process/launcher.h"
#include "process/process.h"

#define MIN_RESTART_DELAY	1000	/* ms */
#define MAX_RESTART_DELAY	60000

/* A process that the launcher looks after. */
typedef struct Child
{
	BackgroundWorkerHandle *handle; /* NULL: not started */
	TimestampTz started_at;
	TimestampTz not_before;
	int			delay;			/* ms, before the next start */
	Size		minimum;		/* of its account */
} Child;

/* What the launcher knows of a database besides the shared entry. */
typedef struct Family
{
	Oid			dboid;			/* InvalidOid: free */
	Child		decoder;
	Child		builder;
	Child		apply[IVM_APPLY_SLOTS];
	bool		started;
	bool		is_short;		/* of memory; that was said */
} Family;

static Family *families;

/* Counted in the postmaster, inherited by fork. */
static int	reinitializations = 0;
static TimestampTz last_initialization = 0;

void
ivm_launcher_count_start(void)
{
	TimestampTz now = GetCurrentTimestamp();

	if (last_initialization != 0)
	{
		if (TimestampDifferenceExceeds(last_initialization, now, 5 * MAX_RESTART_DELAY))
			reinitializations = 0;
		reinitializations++;
	}
	last_initialization = now;
}

void
ivm_launcher_register(void)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 5;
	strlcpy(worker.bgw_library_name, "ivm_ext", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "ivm_launcher_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "ivm launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "ivm launcher", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}

/* Waits, and publishes a budget that was changed meanwhile. */
static void
launcher_wait(long timeout_ms)
{
	ivm_process_wait(timeout_ms);
	ivm_budget_publish((Size) ivm_memory_budget * 1024);
	ivm_budget_reap();
}

/*
 * Children
 */

static bool
child_is_running(Child *child)
{
	pid_t		pid;

	if (child->handle == NULL)
		return false;
	switch (GetBackgroundWorkerPid(child->handle, &pid))
	{
		case BGWH_NOT_YET_STARTED:
		case BGWH_STARTED:
			return true;
		default:
			break;
	}

	pfree(child->handle);
	child->handle = NULL;
	if (TimestampDifferenceExceeds(child->started_at, GetCurrentTimestamp(), MAX_RESTART_DELAY))
		child->delay = 0;
	child->not_before = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), child->delay);
	child->delay = Min(Max(child->delay * 2, MIN_RESTART_DELAY), MAX_RESTART_DELAY);
	return false;
}

/* The process has done its work: the next start need not wait. */
static void
child_forgive(Child *child)
{
	child->delay = 0;
	child->not_before = 0;
}

/* What the child is going to reserve, if it was started and has not done so yet. */
static Size
child_reserves(Child *child)
{
	IvmBudgetProcess process;
	pid_t		pid = 0;

	if (child->handle == NULL)
		return 0;
	switch (GetBackgroundWorkerPid(child->handle, &pid))
	{
		case BGWH_NOT_YET_STARTED:
			return child->minimum;
		case BGWH_STARTED:
			return ivm_budget_of_process(pid, &process) ? 0 : child->minimum;
		default:
			return 0;
	}
}

/*
 * Is there room in the budget for so much more, "reserved" of which is reserved
 * already?  If not, that is said once, to the log and to whoever waits.
 */
static bool
memory_fits(Family *family, Size bytes, Size reserved)
{
	IvmControlDatabase *database;
	Size		missing;
	bool		fits;
	bool		news = false;

	for (int i = 0; i < ivm_control->ndatabases; i++)
	{
		Family	   *other = &families[i];

		if (!OidIsValid(other->dboid))
			continue;
		bytes += child_reserves(&other->decoder) + child_reserves(&other->builder);
		for (int j = 0; j < IVM_APPLY_SLOTS; j++)
			bytes += child_reserves(&other->apply[j]);
	}
	fits = ivm_budget_fits(bytes - reserved, &missing);

	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	database = ivm_control_find(family->dboid, false);
	if (database != NULL && database->missing_memory != missing)
	{
		database->missing_memory = missing;
		news = true;
	}
	LWLockRelease(ivm_control->lock);
	if (news)
		ConditionVariableBroadcast(&ivm_control->changed);

	if (!fits && !family->is_short)
		ereport(LOG,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("ivm.memory_budget has no room for the processes of database %u", family->dboid),
				 errhint("Increase ivm.memory_budget by %zu kB.", (missing + 1023) / 1024)));
	family->is_short = !fits;
	return fits;
}

/*
 * Starts the child unless it runs or has to wait; lowers *sleep_ms to the time
 * at which it may be started.
 */
static void
child_ensure(Family *family, Child *child, const char *function, const char *name,
			 IvmWorkerType type, int number, Size minimum, long *sleep_ms)
{
	Oid			dboid = family->dboid;
	IvmProcessArgument argument = {.dboid = dboid,.type = type,.number = number};
	TimestampTz now = GetCurrentTimestamp();
	bool		started;

	if (child_is_running(child))
		return;
	if (child->not_before > now)
	{
		*sleep_ms = Min(*sleep_ms, TimestampDifferenceMilliseconds(now, child->not_before) + 1);
		return;
	}
	if (!memory_fits(family, minimum,
					 type == IVM_WORKER_BUILDER ? Min(minimum, ivm_budget_reserved()) : 0))
	{
		/* told when the budget is raised, but not when somebody else ends */
		*sleep_ms = Min(*sleep_ms, MIN_RESTART_DELAY);
		return;
	}
	child->minimum = minimum;
	child->started_at = now;
	started = ivm_process_start(function, name, &argument, &child->handle);
	if (!started)
	{
		child->handle = NULL;
		child->not_before = TimestampTzPlusMilliseconds(now, MIN_RESTART_DELAY);
		*sleep_ms = Min(*sleep_ms, MIN_RESTART_DELAY);
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("could not start process \"%s\": no free background worker slot", name),
				 errhint("Increase max_worker_processes.")));
	}

	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	{
		IvmControlDatabase *database = ivm_control_find(dboid, false);

		if (database != NULL && database->starting_failed != !started)
			database->starting_failed = !started;
	}
	LWLockRelease(ivm_control->lock);
	if (!started)
		ConditionVariableBroadcast(&ivm_control->changed);
}

static bool
child_stop(Child *child)
{
	if (!child_is_running(child))
	{
		child_forgive(child);
		return true;
	}
	TerminateBackgroundWorker(child->handle);
	return false;
}

static Family *
family_get(Oid dboid)
{
	Family	   *free_entry = NULL;

	for (int i = 0; i < ivm_control->ndatabases; i++)
	{
		if (families[i].dboid == dboid)
			return &families[i];
		if (!OidIsValid(families[i].dboid) && free_entry == NULL)
			free_entry = &families[i];
	}
	Assert(free_entry != NULL);
	memset(free_entry, 0, sizeof(Family));
	free_entry->dboid = dboid;
	return free_entry;
}

/* Stops everything of a family; true when nothing is left. */
static bool
family_stop(Family *family)
{
	bool		gone = true;

	gone &= child_stop(&family->builder);
	for (int i = 0; i < IVM_APPLY_SLOTS; i++)
		gone &= child_stop(&family->apply[i]);
	gone &= child_stop(&family->decoder);
	return gone;
}

/*
 * Brings one database a step towards what is wanted.
 */
static void
family_step(IvmControlDatabase *database, long *sleep_ms)
{
	Family	   *family = family_get(database->dboid);
	Oid			dboid = database->dboid;
	bool		run;
	bool		wanted;
	bool		build;
	bool		builder_done;
	int			slow;
	bool		registered = true;
	Size		decoding = ivm_budget_decoding_share((Size) logical_decoding_work_mem * 1024);
	IvmDatabase *capture;

	LWLockAcquire(ivm_control->lock, LW_SHARED);
	wanted = database->wanted;
	run = wanted && database->holds == 0;
	build = database->build_wanted;
	builder_done = database->builder_done;
	slow = Max(ivm_slow_highest(&database->slow), database->slow.workers);
	LWLockRelease(ivm_control->lock);

	if (!run)
	{
		if (!family_stop(family))
			return;				/* told when they end */
		if (!wanted)
		{
			ivm_replication_slot_drop(dboid);
			ivm_database_release(dboid);
		}
		LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
		database->stopped = true;
		for (int i = 0; !wanted && i < IVM_APPLY_SLOTS; i++)
			database->apply[i].registered = false;	/* the registry has gone */
		if (!database->wanted && database->holds == 0)
			database->dboid = InvalidOid;
		LWLockRelease(ivm_control->lock);
		family->dboid = InvalidOid;
		ConditionVariableBroadcast(&ivm_control->changed);
		return;
	}

	if (!family->started &&
		!memory_fits(family, ivm_apply_workers * IVM_MINIMUM_WORKER + decoding + IVM_MINIMUM_LOG, 0))
	{
		*sleep_ms = Min(*sleep_ms, MIN_RESTART_DELAY);
		return;
	}
	capture = ivm_database_get(dboid, true);
	if (!family->started)
	{
		family->started = true;
		for (int i = 0; i < ivm_apply_workers; i++)
		{
			char		name[NAMEDATALEN];

			snprintf(name, sizeof(name), "apply %d", i);
			/* it stays, our handle need not */
			ivm_cursor_release(ivm_cursor_create(capture, name, true));
		}
		LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
		database->stopped = false;
		database->apply_workers = ivm_apply_workers;
		LWLockRelease(ivm_control->lock);
	}

	for (int i = 0; i < ivm_apply_workers; i++)
	{
		child_ensure(family, &family->apply[i], "ivm_apply_main", "ivm apply worker",
					 IVM_WORKER_APPLY, i, IVM_MINIMUM_WORKER, sleep_ms);
		LWLockAcquire(ivm_control->lock, LW_SHARED);
		registered &= database->apply[i].registered;
		LWLockRelease(ivm_control->lock);
	}

	/* An apply worker that is started again finds the registry as it was. */
	if (registered || child_is_running(&family->decoder))
		child_ensure(family, &family->decoder, "ivm_decoder_main", "ivm decoder",
					 IVM_WORKER_DECODER, 0, decoding, sleep_ms);

	for (int i = 0; i < IVM_SLOW_WORKERS; i++)
	{
		Child	   *child = &family->apply[ivm_apply_workers + i];

		if (i < slow)
			child_ensure(family, child, "ivm_apply_main", "ivm apply worker",
						 IVM_WORKER_APPLY, ivm_apply_workers + i, IVM_MINIMUM_WORKER, sleep_ms);
		else if (!child_is_running(child))
			child_forgive(child);	/* it has ended, since nothing was left */
	}

	if (!child_is_running(&family->builder) && builder_done)
	{
		child_forgive(&family->builder);
		LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
		database->builder_done = false;
		LWLockRelease(ivm_control->lock);
	}
	if (build)
		child_ensure(family, &family->builder, "ivm_builder_main", "ivm builder",
					 IVM_WORKER_BUILDER, 0, IVM_MINIMUM_WORKER, sleep_ms);
}

/*
 * Keeps room for a builder, but not before all others have what they need.
 */
static void
reserve_for_builder(long *sleep_ms)
{
	bool		wanted = false;

	for (int i = 0; i < ivm_control->ndatabases; i++)
	{
		Family	   *family = &families[i];
		IvmDatabase *capture;

		if (!OidIsValid(family->dboid) || !family->started)
			continue;
		wanted = true;
		capture = ivm_database_get(family->dboid, false);
		if (capture == NULL || ivm_decoder_state(capture) != IVM_DECODER_RUNNING)
		{
			*sleep_ms = Min(*sleep_ms, MIN_RESTART_DELAY);
			return;
		}
	}
	ivm_budget_reserve(wanted ? IVM_MINIMUM_WORKER : 0);
}

/*
 * Looking into databases
 */

static List *
all_databases(MemoryContext context)
{
	List	   *result = NIL;
	Relation	relation;
	TableScanDesc scan;
	HeapTuple	tuple;
	MemoryContext caller = CurrentMemoryContext;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	relation = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(relation, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext old;

		/*
		 * one that nobody may connect to has a slot all the same, and may be
		 * opened again
		 */
		if (form->oid == Template0DbOid)
			continue;
		old = MemoryContextSwitchTo(context);
		result = lappend_oid(result, form->oid);
		MemoryContextSwitchTo(old);
	}
	table_endscan(scan);
	table_close(relation, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	return result;
}

/* Says, once, that there is no worker slot to look into databases. */
static void
report_inspection(bool failed)
{
	bool		changed;

	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	changed = ivm_control->inspection_failed != failed;
	ivm_control->inspection_failed = failed;
	LWLockRelease(ivm_control->lock);
	if (!failed || !changed)
		return;
	ConditionVariableBroadcast(&ivm_control->changed);
	ereport(LOG,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("could not start process \"%s\": no free background worker slot", "ivm inspector"),
			 errhint("Increase max_worker_processes.")));
}

/* Lets a process look into the database, and waits for its end. */
static void
inspect(Oid dboid)
{
	IvmProcessArgument argument = {.dboid = dboid,.type = IVM_WORKER_LAUNCHER};
	BackgroundWorkerHandle *handle;
	pid_t		pid;

	while (!ivm_process_start("ivm_inspect_main", "ivm inspector", &argument, &handle))
	{
		report_inspection(true);
		launcher_wait(MIN_RESTART_DELAY);
	}
	report_inspection(false);
	while (GetBackgroundWorkerPid(handle, &pid) != BGWH_STOPPED)
		launcher_wait(MIN_RESTART_DELAY);
	pfree(handle);
}

static bool
inspect_requested(void)
{
	Oid			dboid = InvalidOid;
	List	   *databases;

	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	for (int i = 0; i < lengthof(ivm_control->inspect); i++)
		if (OidIsValid(ivm_control->inspect[i]))
		{
			dboid = ivm_control->inspect[i];
			ivm_control->inspect[i] = InvalidOid;
			break;
		}
	LWLockRelease(ivm_control->lock);
	if (!OidIsValid(dboid))
		return false;

	databases = all_databases(CurrentMemoryContext);
	if (list_member_oid(databases, dboid))
		inspect(dboid);
	else
	{
		/* it was dropped: so is what we keep of it */
		IvmControlDatabase *database;

		LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
		database = ivm_control_find(dboid, false);
		if (database != NULL)
			database->wanted = false;
		LWLockRelease(ivm_control->lock);
		ivm_stats_database_drop(dboid);
	}
	list_free(databases);
	return true;
}

static void
launcher_exit(int code, Datum argument)
{
	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	ivm_control->launcher_pid = 0;
	ivm_control->launcher_latch = NULL;
	LWLockRelease(ivm_control->lock);
}

/*
 * After a restart of the launcher alone (an error in it) the processes of its
 * predecessor are still there, without handles: they are told to end.
 */
static void
stop_orphans(void)
{
	for (;;)
	{
		bool		any = false;

		LWLockAcquire(ivm_control->lock, LW_SHARED);
		for (int i = 0; i < ivm_control->ndatabases; i++)
		{
			IvmControlDatabase *database = &ivm_control->databases[i];
			int			pids[IVM_APPLY_SLOTS + 2];
			int			n = 0;

			if (!OidIsValid(database->dboid))
				continue;
			pids[n++] = database->builder_pid;
			pids[n++] = database->decoder_pid;
			for (int j = 0; j < IVM_APPLY_SLOTS; j++)
				pids[n++] = database->apply[j].pid;
			for (int j = 0; j < n; j++)
				if (pids[j] != 0)
				{
					any = true;
					kill(pids[j], SIGTERM);
				}
		}
		LWLockRelease(ivm_control->lock);
		if (!any)
			break;
		launcher_wait(100);
	}
}

void
ivm_launcher_main(Datum argument)
{
	List	   *databases;
	ListCell   *cell;

	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	ivm_process_override_settings();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);

	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	ivm_control->launcher_pid = MyProcPid;
	ivm_control->launcher_latch = MyLatch;
	LWLockRelease(ivm_control->lock);
	before_shmem_exit(launcher_exit, (Datum) 0);
	ivm_stats_worker_start(IVM_WORKER_LAUNCHER, InvalidOid);
	ivm_budget_publish((Size) ivm_memory_budget * 1024);

	families = MemoryContextAllocZero(TopMemoryContext,
									  ivm_control->ndatabases * sizeof(Family));

	stop_orphans();
	if (reinitializations > 0)
	{
		int			delay = MIN_RESTART_DELAY << Min(reinitializations - 1, 6);
		TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), Min(delay, MAX_RESTART_DELAY) - MIN_RESTART_DELAY);
		TimestampTz now;

		while ((now = GetCurrentTimestamp()) < until)
			launcher_wait(TimestampDifferenceMilliseconds(now, until) + 1);
	}

	MemoryContextSwitchTo(TopMemoryContext);
	databases = all_databases(TopMemoryContext);
	foreach(cell, databases)
		inspect(lfirst_oid(cell));
	list_free(databases);

	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	ivm_control->launcher_ready = true;
	LWLockRelease(ivm_control->lock);
	ConditionVariableBroadcast(&ivm_control->changed);

	for (;;)
	{
		long		sleep_ms = 60 * 60 * 1000L;

		ivm_stats_worker_state("running");
		while (inspect_requested())
			;
		for (int i = 0; i < ivm_control->ndatabases; i++)
		{
			IvmControlDatabase *database = &ivm_control->databases[i];
			Oid			dboid;

			LWLockAcquire(ivm_control->lock, LW_SHARED);
			dboid = database->dboid;
			LWLockRelease(ivm_control->lock);
			if (OidIsValid(dboid))
				family_step(database, &sleep_ms);
		}
		reserve_for_builder(&sleep_ms);
		if (sleep_ms > 0)
		{
			ivm_stats_worker_state("idle");
			launcher_wait(sleep_ms);
		}
	}
}
