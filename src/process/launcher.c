/*-------------------------------------------------------------------------
 *
 * launcher.c
 *	  The one process that starts all others, and moves the states of databases.
 *
 * It is connected to no database, and waits for nothing but its latch: not for an
 * end of a process, nor a lock, nor a pause.  What there is to wait for is a
 * state that it finds again when it is woken.  Others ask (control.h) and wake
 * it; README has the states and what moves them:
 *
 *		unknown		it is looked up in pg_database, then inspected, unless
 *					somebody has told meanwhile that there are views
 *		inspecting	a process looks for incremental views (inspect.c)
 *		wanted		its processes run, all or none of them (family.c)
 *		not wanted	no process, no slot; then no entry
 *		held		no process, the slot stays; afterwards unknown again
 *		gone		as not wanted; its counters go, too
 *
 * When the launcher starts, all databases but template0 are inspected, since
 * neither slots nor anything else in shared state tells reliably where incremental
 * views are; a few at a time, beside everything else.  One that cannot be looked
 * into (somebody holds a lock on ivm.view, say) is tried again with growing pauses
 * and keeps nobody waiting but those who want something there.
 *
 * A crash makes the server initialize shared memory and restart this process;
 * the number of such restarts is counted where the postmaster keeps it, and makes
 * the launcher start nothing for a while.  After an error of the launcher alone its
 * predecessor's processes are still there, without handles: the entries' pids tell
 * of those that have joined, which are told to end before another is started there, and
 * those that join later find that they are not expected (ivm_process_join).
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
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/in_hand.h"
#include "base/settings.h"
#include "capture/capture.h"
#include "memory/budget.h"
#include "stats/stats.h"
#include "process/family.h"
#include "process/launcher.h"
#include "process/process.h"

#define ORPHAN_LOOK			100 /* ms */
#define MAX_LOOKS			4	/* inspections at a time ... */
#define LOOK_PATIENCE		1000	/* ... of those that take no longer, in ms */
#define INVALID_DATABASE	(-2)	/* datconnlimit of one whose DROP was
									 * interrupted */

/* Databases that are to be looked into, and have no entry yet. */
static List *unseen = NIL;

static bool scan_wanted = true; /* of pg_database, for those that have an
								 * entry */
static bool full_scan_wanted = true;	/* and for those that have none */

/* Counted in the postmaster, inherited by fork. */
static int	reinitializations = 0;
static TimestampTz last_initialization = 0;

void
ivm_launcher_count_start(void)
{
	TimestampTz now = GetCurrentTimestamp();

	if (last_initialization != 0)
	{
		if (TimestampDifferenceExceeds(last_initialization, now, 5 * IVM_MAX_RESTART_DELAY))
			reinitializations = 0;
		reinitializations++;
	}
	last_initialization = now;
}

void
ivm_launcher_register(void)
{
	BackgroundWorker worker;

	/* pg_upgrade starts a server with half of a catalog, in which nothing is to be maintained */
	if (IsBinaryUpgrade)
		return;
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
 * Which databases there are
 */

/* The entry's family; a new one if the entry is another database's than at the last look. */
static IvmFamily *
family_of(IvmDatabase *entry)
{
	IvmFamily  *family = &ivm_families[ivm_database_number(entry)];
	Oid			dboid = ivm_database_oid(entry);

	if (family->dboid != dboid)
	{
		IvmControlDatabase *control = family->control;

		memset(family, 0, sizeof(IvmFamily));
		family->control = control;
		family->dboid = dboid;
		family->orphaned = OidIsValid(dboid);
	}
	return family;
}

/*
 * Looks into pg_database.  An entry that is made meanwhile may be of a database that is
 * too young for the look, so that only those that were there before are judged.  If
 * somebody has locked the catalog, against all sessions, the look comes later.
 */
static void
scan_databases(long *sleep_ms)
{
	Relation	relation;
	TableScanDesc scan;
	HeapTuple	tuple;
	bool		full;

	StartTransactionCommand();
	if (!ConditionalLockRelationOid(DatabaseRelationId, AccessShareLock))
	{
		CommitTransactionCommand();
		MemoryContextSwitchTo(TopMemoryContext);
		*sleep_ms = Min(*sleep_ms, IVM_MIN_RESTART_DELAY);
		return;
	}

	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	full = full_scan_wanted || ivm_control->asked_scan;
	ivm_control->asked_scan = false;
	for (int i = 0; i < ivm_database_count(); i++)
		family_of(ivm_database_entry(i))->presence = IVM_IS_NOT_THERE;
	LWLockRelease(ivm_control->lock);

	(void) GetTransactionSnapshot();
	relation = table_open(DatabaseRelationId, NoLock);
	scan = table_beginscan_catalog(relation, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);
		IvmFamily  *family = NULL;

		/*
		 * one that nobody may connect to has a slot all the same, and may be
		 * opened again
		 */
		if (form->oid == Template0DbOid || form->datconnlimit == INVALID_DATABASE)
			continue;
		for (int i = 0; i < ivm_database_count(); i++)
			if (ivm_families[i].dboid == form->oid)
				family = &ivm_families[i];
		if (family != NULL)
			family->presence = IVM_IS_THERE;
		if (full)
		{
			MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

			unseen = list_append_unique_oid(unseen, form->oid);
			MemoryContextSwitchTo(old);
		}
	}
	table_endscan(scan);
	table_close(relation, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(TopMemoryContext);
	scan_wanted = full_scan_wanted = false;
}

/*
 * If there is no room for another entry: one that could not be looked into goes back to the
 * list, so that it keeps no other from being looked into.
 */
static void
make_room(void)
{
	for (int i = 0; i < ivm_database_count(); i++)
	{
		IvmFamily  *family = &ivm_families[i];
		IvmControlDatabase *control = family->control;
		bool		released = false;

		if (!OidIsValid(family->dboid) || family->orphaned || ivm_child_is_running(&family->inspector))
			continue;
		LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
		if (control->state == IVM_DATABASE_UNKNOWN && control->holds == 0 && !control->asked_wanted)
		{
			ivm_database_release(control->capture);
			released = true;
		}
		LWLockRelease(ivm_control->lock);
		if (released)
		{
			unseen = list_append_unique_oid(unseen, family->dboid);
			return;
		}
	}
}

/* Takes entries for databases that are to be looked into, as many as are looked into at a time. */
static void
look_into_unseen(long *sleep_ms)
{
	int			nlooks = 0;

	for (int i = 0; i < ivm_database_count(); i++)
	{
		IvmFamily  *family = &ivm_families[i];
		IvmChild   *child = &family->inspector;
		TimestampTz late = TimestampTzPlusMilliseconds(child->started_at, LOOK_PATIENCE);

		if (!OidIsValid(family->dboid) || child->delay > 0 ||
			(child->handle == NULL && !family->control->asked_inspect))
			continue;

		/* one that has failed waits, and one may hang: no other waits for it */
		if (child->handle == NULL || GetCurrentTimestamp() < late)
		{
			nlooks++;
			if (unseen != NIL && child->handle != NULL)
				ivm_sleep_until(late, sleep_ms);
		}
	}
	while (unseen != NIL && nlooks < MAX_LOOKS)
	{
		Oid			dboid = linitial_oid(unseen);
		IvmControlDatabase *control;

		LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
		control = ivm_control_find(dboid, true);
		if (control != NULL)
		{
			control->asked_inspect = true;
			family_of(control->capture);
		}
		LWLockRelease(ivm_control->lock);
		if (control == NULL)
		{
			make_room();
			*sleep_ms = Min(*sleep_ms, IVM_MIN_RESTART_DELAY);
			return;
		}
		unseen = list_delete_first(unseen);
		nlooks++;
		*sleep_ms = 0;
	}
}

/*
 * The states
 */

/*
 * Moves the database to its next state, if there is reason to.  The inspector's end is seen
 * before: what it has left in the entry is all of it then.
 */
static void
move(IvmFamily *family)
{
	IvmControlDatabase *control = family->control;
	bool		looking = ivm_child_is_running(&family->inspector);
	IvmDatabaseState next;

	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	next = control->state;
	if (control->holds > 0)
		next = IVM_DATABASE_HELD;
	else if (family->presence == IVM_IS_NOT_THERE && control->state != IVM_DATABASE_HELD)
		next = IVM_DATABASE_GONE;
	else
		switch (control->state)
		{
			case IVM_DATABASE_UNKNOWN:
				if (family->presence != IVM_IS_THERE)
					break;
				if (control->asked_wanted)
					next = IVM_DATABASE_WANTED;
				else if (looking)
					next = IVM_DATABASE_INSPECTING;
				else if (!control->asked_inspect)
					next = IVM_DATABASE_NOT_WANTED;
				break;
			case IVM_DATABASE_INSPECTING:
				if (control->asked_wanted)
					next = IVM_DATABASE_WANTED;
				else if (!looking)
					next = control->asked_inspect ? IVM_DATABASE_UNKNOWN : IVM_DATABASE_NOT_WANTED;
				break;
			case IVM_DATABASE_WANTED:
				control->asked_wanted = false;
				if (control->empty_generation == pg_atomic_read_u64(&control->generation))
					next = IVM_DATABASE_NOT_WANTED;
				break;
			case IVM_DATABASE_NOT_WANTED:
				if (control->asked_wanted)
					next = IVM_DATABASE_WANTED;
				else if (control->asked_inspect)
					next = IVM_DATABASE_UNKNOWN;
				break;
			case IVM_DATABASE_HELD:
				/* it may have been dropped */
				next = IVM_DATABASE_UNKNOWN;
				control->asked_wanted |= family->was_wanted;
				break;
			case IVM_DATABASE_GONE:
				break;
		}
	if (next != control->state)
	{
		if (next == IVM_DATABASE_HELD)
			family->was_wanted = control->state == IVM_DATABASE_WANTED;
		if (next == IVM_DATABASE_UNKNOWN)
			family->presence = IVM_NOT_LOOKED;
		if (next == IVM_DATABASE_WANTED)
			control->asked_wanted = false;
		control->stopped = false;
		control->state = next;
	}
	LWLockRelease(ivm_control->lock);
}

/*
 * What an earlier launcher has left in the database: told to end.  True when nothing is left.
 */
static bool
stop_orphans(IvmFamily *family, long *sleep_ms)
{
	IvmControlDatabase *control = family->control;
	int			pids[IVM_APPLY_SLOTS + 3];
	int			n = 0;
	bool		any = false;

	if (!family->orphaned)
		return true;
	LWLockAcquire(ivm_control->lock, LW_SHARED);
	pids[n++] = control->inspector_pid;
	pids[n++] = control->builder_pid;
	pids[n++] = control->decoder_pid;
	for (int i = 0; i < IVM_APPLY_SLOTS; i++)
		pids[n++] = control->apply[i].pid;
	for (int i = 0; i < n; i++)
		if (pids[i] != 0)
		{
			any = true;
			kill(pids[i], SIGTERM);
		}
	LWLockRelease(ivm_control->lock);
	family->orphaned = any;
	if (any)
		*sleep_ms = Min(*sleep_ms, ORPHAN_LOOK);
	return !any;
}

/* Nothing of the database is left but its entry, and that goes too unless somebody has asked for something. */
static void
forget(IvmFamily *family, long *sleep_ms)
{
	IvmControlDatabase *control = family->control;

	if (!ivm_replication_slot_drop(family->dboid))
	{
		*sleep_ms = Min(*sleep_ms, IVM_MIN_RESTART_DELAY);
		return;
	}
	if (control->state == IVM_DATABASE_GONE)
		ivm_stats_database_drop(family->dboid);
	ivm_database_empty(control->capture);

	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	for (int i = 0; i < IVM_APPLY_SLOTS; i++)
	{
		/* registry and logs have gone */
		control->apply[i].registered = false;
		pg_atomic_write_u64(&control->apply[i].read_incarnation, 0);
	}
	if (control->holds == 0 &&
		(control->state == IVM_DATABASE_GONE || !(control->asked_wanted || control->asked_inspect)))
		ivm_database_release(control->capture);
	else
		*sleep_ms = 0;
	LWLockRelease(ivm_control->lock);
	ConditionVariableBroadcast(&ivm_control->changed);
}

/*
 * Brings one database a step towards what is wanted.
 */
static void
step(IvmFamily *family, long *sleep_ms)
{
	IvmControlDatabase *control = family->control;
	bool		may_start = GetCurrentTimestamp() >= ivm_control->starts_at;

	if (!stop_orphans(family, sleep_ms))
		return;
	move(family);
	switch (control->state)
	{
		case IVM_DATABASE_UNKNOWN:
			if (family->presence == IVM_NOT_LOOKED)
			{
				scan_wanted = true;
				*sleep_ms = 0;
			}
			else if (may_start && ivm_family_inspect(family, sleep_ms))
				move(family);
			break;
		case IVM_DATABASE_INSPECTING:
			break;				/* told when it ends */
		case IVM_DATABASE_WANTED:
			if (!may_start)
				break;
			ivm_family_run(family, sleep_ms);
			/* asked for before that was known: it also cleans up */
			if (family->started && control->asked_inspect)
				(void) ivm_family_inspect(family, sleep_ms);
			break;
		case IVM_DATABASE_NOT_WANTED:
		case IVM_DATABASE_GONE:
			if (ivm_family_stop(family))
				forget(family, sleep_ms);
			break;
		case IVM_DATABASE_HELD:
			if (!ivm_family_stop(family) || control->stopped)
				break;
			LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
			control->stopped = true;
			LWLockRelease(ivm_control->lock);
			ConditionVariableBroadcast(&ivm_control->changed);
			break;
	}
}

/*
 * The process
 */

static void
launcher_exit(int code, Datum argument)
{
	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	ivm_control->launcher_pid = 0;
	ivm_control->launcher_latch = NULL;
	LWLockRelease(ivm_control->lock);
}

/* When the first process may be started. */
static TimestampTz
first_start(void)
{
	int			delay;

	if (reinitializations == 0)
		return 0;
	delay = IVM_MIN_RESTART_DELAY << Min(reinitializations - 1, 6);
	return TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
									   Min(delay, IVM_MAX_RESTART_DELAY) - IVM_MIN_RESTART_DELAY);
}

void
ivm_launcher_main(Datum argument)
{
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	ivm_process_override_settings();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);

	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	ivm_control->launcher_pid = MyProcPid;
	ivm_control->launcher_latch = MyLatch;
	ivm_control->launchers++;
	ivm_control->starts_at = first_start();
	LWLockRelease(ivm_control->lock);
	before_shmem_exit(launcher_exit, (Datum) 0);
	ivm_stats_worker_start(IVM_WORKER_LAUNCHER, InvalidOid);
	ivm_budget_publish((Size) ivm_memory_budget * 1024);

	/* the first one after the server's start, or after a crash: none of ours has been started yet */
	if (ivm_control->launchers == 1)
		ivm_in_hand_collect();

	MemoryContextSwitchTo(TopMemoryContext);
	ivm_families_init();

	for (;;)
	{
		long		sleep_ms = 60 * 60 * 1000L;

		ivm_stats_worker_state("running");
		if (scan_wanted || full_scan_wanted || ivm_control->asked_scan)
			scan_databases(&sleep_ms);
		if (GetCurrentTimestamp() < ivm_control->starts_at)
			ivm_sleep_until(ivm_control->starts_at, &sleep_ms);
		else
			look_into_unseen(&sleep_ms);
		for (int i = 0; i < ivm_database_count(); i++)
		{
			IvmFamily  *family;

			LWLockAcquire(ivm_control->lock, LW_SHARED);
			family = family_of(ivm_database_entry(i));
			LWLockRelease(ivm_control->lock);
			if (OidIsValid(family->dboid))
				step(family, &sleep_ms);
		}
		ivm_families_reserve(&sleep_ms);
		if (sleep_ms > 0)
		{
			ivm_stats_worker_state("idle");
			launcher_wait(sleep_ms);
		}
		else
			CHECK_FOR_INTERRUPTS();
	}
}
