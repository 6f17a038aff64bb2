/*-------------------------------------------------------------------------
 *
 * family.c
 *	  The processes of one database: all of them, or none.
 *
 * A database is maintained by its apply workers and its decoder together; some of
 * them alone hold worker slots and memory, and do nothing with them.  So they
 * are started together.  Memory: only if the minimums of all fit into the budget
 * beside those of the others.  Worker slots: nobody can ask how many are free,
 * so one after the other is registered, and if one cannot be, those before it
 * are told to end; the database tries again after a pause that grows, and the slots
 * are there for the next one.  While an inspector has a slot nobody is told that there is none: that one
 * is free in a moment.  One that loses a process and finds no slot for it for
 * a while gives up the others too, if another database waits for slots.
 *
 * The decoder must not decode before all apply workers have registered: what it
 * decodes meanwhile would lack their tables.  It waits for that by itself
 * (decoder_main.c).  The workers' cursors are made here, before it can start, so that
 * nothing is confirmed that a worker that is still starting needs.  An apply worker
 * that is started again finds the registry as it was.
 *
 * Those that run keep their memory when the budget is lowered.  One more minimum
 * is reserved for a builder: without it, what has to be rebuilt under a budget that
 * others have filled would never be.  The builder is not one of those that have to be
 * there: it comes when there is something to build.  Nor are the workers of slow views
 * (slow.c): without them the others have these.  One that has died and for which there is no room any more is
 * given up, so that the others have its views again.
 *
 * What is missing is left in the shared entry, for whoever waits or looks.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "replication/reorderbuffer.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/settings.h"
#include "capture/capture.h"
#include "memory/budget.h"
#include "process/family.h"

#define SLOT_PATIENCE	5000	/* ms, before a family without a slot for one
								 * of its members gives up */
#define SLOT_LOOK		100		/* ms between looks whether what was given up
								 * is gone */
#define INSPECTION		1000	/* ms that an inspector takes, as a rule ... */
#define LONG_INSPECTION	60000	/* ... and on a machine that is busy */

IvmFamily  *ivm_families;

void
ivm_families_init(void)
{
	ivm_families = MemoryContextAllocZero(TopMemoryContext, ivm_database_count() * sizeof(IvmFamily));
	for (int i = 0; i < ivm_database_count(); i++)
		ivm_families[i].control = ivm_control_of(ivm_database_entry(i));
}

/* ---- what is missing ---- */

/*
 * Is there room in the budget for so much more, "reserved" of which is reserved
 * already?  If not, that is said once, to the log and to whoever waits.
 */
static bool
memory_fits(IvmFamily *family, Size bytes, Size reserved)
{
	Size		missing;
	bool		fits;
	bool		news;

	for (int i = 0; i < ivm_database_count(); i++)
	{
		IvmFamily  *other = &ivm_families[i];

		bytes += ivm_child_reserves(&other->decoder) + ivm_child_reserves(&other->builder);
		for (int j = 0; j < IVM_APPLY_SLOTS; j++)
			bytes += ivm_child_reserves(&other->apply[j]);
	}
	fits = ivm_budget_fits(bytes - reserved, &missing);

	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	news = family->control->missing_memory != missing;
	family->control->missing_memory = missing;
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

/* Has an inspector a slot, or had one just now?  The server takes it back a little later than it tells. */
static bool
slot_is_coming(void)
{
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < ivm_database_count(); i++)
	{
		IvmChild   *child = &ivm_families[i].inspector;
		int			patience = ivm_child_is_running(child) ? LONG_INSPECTION : INSPECTION;

		if (child->started_at != 0 && !TimestampDifferenceExceeds(child->started_at, now, patience))
			return true;
	}
	return false;
}

/* A process could be started, or found no worker slot.  The latter is said once. */
static void
tell_slot(IvmFamily *family, const char *name, bool found)
{
	bool		news;

	if (!found && slot_is_coming())
	{
		elog(DEBUG1, "no free background worker slot for process \"%s\" while an inspector has one", name);
		return;
	}
	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	/* who has asked since the last time waits for each */
	news = !found || family->control->starting_failed;
	family->control->starting_failed = !found;
	if (!found)
		family->control->failed_starts++;
	LWLockRelease(ivm_control->lock);
	if (news)
		ConditionVariableBroadcast(&ivm_control->changed);

	if (!found && !family->is_slotless)
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("could not start process \"%s\": no free background worker slot", name),
				 errhint("Increase max_worker_processes.")));
	family->is_slotless = !found;
}

/* Does another database wait for worker slots? */
static bool
another_is_slotless(IvmFamily *family)
{
	for (int i = 0; i < ivm_database_count(); i++)
	{
		IvmFamily  *other = &ivm_families[i];

		if (other != family && other->is_slotless && !other->started &&
			other->control->state == IVM_DATABASE_WANTED)
			return true;
	}
	return false;
}

/* ---- starting ---- */

static bool
start(IvmFamily *family, IvmChild *child, const char *function, const char *name,
	  IvmWorkerType type, int number, Size minimum)
{
	IvmProcessArgument argument;

	memset(&argument, 0, sizeof(argument));
	argument.dboid = family->dboid;
	argument.type = type;
	argument.number = number;
	return ivm_child_start(child, function, name, &argument, minimum);
}

static Size
decoder_minimum(void)
{
	return ivm_budget_decoding_share((Size) logical_decoding_work_mem * 1024);
}

/* Apply workers and decoder by their numbers; those that cannot be had come last. */
static bool
start_member(IvmFamily *family, int number)
{
	if (number < ivm_apply_workers)
		return start(family, &family->apply[number], "ivm_apply_main", "ivm apply worker",
					 IVM_WORKER_APPLY, number, IVM_MINIMUM_WORKER);
	return start(family, &family->decoder, "ivm_decoder_main", "ivm decoder",
				 IVM_WORKER_DECODER, 0, decoder_minimum());
}

static IvmChild *
member(IvmFamily *family, int number)
{
	return number < ivm_apply_workers ? &family->apply[number] : &family->decoder;
}

static const char *
member_name(int number)
{
	return number < ivm_apply_workers ? "ivm apply worker" : "ivm decoder";
}

/* The next try to start all of them comes after a while. */
static void
postpone(IvmFamily *family, long *sleep_ms)
{
	family->delay = Min(Max(family->delay * 2, IVM_MIN_RESTART_DELAY), IVM_MAX_RESTART_DELAY / 2);
	family->not_before = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), family->delay);
	ivm_sleep_until(family->not_before, sleep_ms);
}

static bool
stop_members(IvmFamily *family)
{
	bool		gone = true;

	for (int i = 0; i <= ivm_apply_workers; i++)
		gone &= ivm_child_stop(member(family, i));
	return gone;
}

/* Has a session come since the last try that waits for one? */
static bool
start_is_asked(IvmFamily *family)
{
	bool		asked;

	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	asked = family->control->asked_start;
	family->control->asked_start = false;
	LWLockRelease(ivm_control->lock);
	return asked;
}

/* Starts all of them, or none. */
static void
start_all(IvmFamily *family, long *sleep_ms)
{
	if (!stop_members(family))
		return;					/* of the last try; told when they end */
	if (!start_is_asked(family) && family->not_before > GetCurrentTimestamp())
	{
		ivm_sleep_until(family->not_before, sleep_ms);
		return;
	}
	if (!memory_fits(family, ivm_apply_workers * IVM_MINIMUM_WORKER + decoder_minimum() + IVM_MINIMUM_LOG, 0))
	{
		/* told when the budget is raised, but not when somebody else ends */
		*sleep_ms = Min(*sleep_ms, IVM_MIN_RESTART_DELAY);
		return;
	}

	for (int i = 0; i < ivm_apply_workers; i++)
	{
		char		name[NAMEDATALEN];

		snprintf(name, sizeof(name), "apply %d", i);
		/* it stays, our handle need not */
		ivm_cursor_release(ivm_cursor_create(family->control->capture, name, true));
	}
	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	family->control->apply_workers = ivm_apply_workers;
	LWLockRelease(ivm_control->lock);

	for (int i = 0; i <= ivm_apply_workers; i++)
		if (!start_member(family, i))
		{
			tell_slot(family, member_name(i), false);
			(void) stop_members(family);
			postpone(family, sleep_ms);
			return;
		}
	tell_slot(family, NULL, true);
	family->started = true;
	family->delay = 0;
	family->not_before = 0;
}

/* Starts one that has ended, if it is time.  False if the family has to give up. */
static bool
restart(IvmFamily *family, int number, long *sleep_ms)
{
	IvmChild   *child = member(family, number);
	TimestampTz now = GetCurrentTimestamp();

	if (ivm_child_is_running(child))
		return true;
	if (child->not_before > now)
	{
		ivm_sleep_until(child->not_before, sleep_ms);
		return true;
	}
	if (!memory_fits(family, number < ivm_apply_workers ? IVM_MINIMUM_WORKER : decoder_minimum(), 0))
	{
		*sleep_ms = Min(*sleep_ms, IVM_MIN_RESTART_DELAY);
		return true;
	}
	if (start_member(family, number))
	{
		tell_slot(family, NULL, true);
		return true;
	}
	tell_slot(family, member_name(number), false);
	ivm_sleep_until(child->not_before, sleep_ms);
	return !TimestampDifferenceExceeds(child->slotless_since, now, SLOT_PATIENCE) ||
		!another_is_slotless(family);
}

/* One that need not be there, when its time has come and there is room; "reserved" of its minimum is reserved. */
static void
run_extra(IvmFamily *family, IvmChild *child, const char *function, const char *name,
		  IvmWorkerType type, int number, Size reserved, long *sleep_ms)
{
	bool		found;

	if (ivm_child_is_running(child))
		return;
	if (child->not_before > GetCurrentTimestamp())
	{
		ivm_sleep_until(child->not_before, sleep_ms);
		return;
	}
	if (!memory_fits(family, IVM_MINIMUM_WORKER, Min(IVM_MINIMUM_WORKER, reserved)))
	{
		*sleep_ms = Min(*sleep_ms, IVM_MIN_RESTART_DELAY);
		return;
	}
	found = start(family, child, function, name, type, number, IVM_MINIMUM_WORKER);
	/* nobody has to wait for a worker of slow views */
	if (found || type == IVM_WORKER_BUILDER)
		tell_slot(family, name, found);
	if (!found)
		ivm_sleep_until(child->not_before, sleep_ms);
}

/*
 * A worker of slow views that was given up: its cursor keeps the log for its views until those who are there have
 * taken them over.  True when nothing of it is left.
 */
static bool
leave_slow(IvmFamily *family, int slow, long *sleep_ms)
{
	IvmControlDatabase *control = family->control;
	uint64		generation = family->slow_given_up[slow];
	char		name[NAMEDATALEN];
	bool		adopted = true;

	if (generation == 0)
		return true;
	LWLockAcquire(ivm_control->lock, LW_SHARED);
	for (int i = 0; i < control->apply_workers + control->slow.workers; i++)
		adopted &= pg_atomic_read_u64(&control->apply[i].adopted) >= generation;
	LWLockRelease(ivm_control->lock);
	if (!ivm_child_stop(&family->apply[ivm_apply_workers + slow]) || !adopted)
	{
		*sleep_ms = Min(*sleep_ms, SLOT_LOOK);
		return false;
	}
	snprintf(name, sizeof(name), "apply %d", ivm_apply_workers + slow);
	ivm_cursor_drop(control->capture, name);
	family->slow_given_up[slow] = 0;
	return true;
}

/* Gives up a worker of slow views, and with it those above, if it is counted on and has been missing for a while. */
static void
give_up_slow(IvmFamily *family, int slow, long *sleep_ms)
{
	IvmControlDatabase *control = family->control;
	TimestampTz *since = &family->slow_gone_since[slow];
	TimestampTz now = GetCurrentTimestamp();
	bool		is_missing;
	uint64		generation;

	LWLockAcquire(ivm_control->lock, LW_SHARED);
	is_missing = control->slow.workers > slow && control->apply[ivm_apply_workers + slow].pid == 0;
	LWLockRelease(ivm_control->lock);
	if (!is_missing)
		*since = 0;
	else if (*since == 0)
		*since = now;
	if (*since == 0 || ivm_child_is_running(&family->apply[ivm_apply_workers + slow]))
		return;
	if (!TimestampDifferenceExceeds(*since, now, SLOT_PATIENCE))
	{
		ivm_sleep_until(TimestampTzPlusMilliseconds(*since, SLOT_PATIENCE), sleep_ms);
		return;
	}
	*since = 0;
	ereport(LOG,
			(errmsg("no process for slow views of database %u can be had: others maintain them", family->dboid)));
	generation = ivm_slow_worker_gone(control, slow + 1);
	for (int i = slow; i < IVM_SLOW_WORKERS; i++)
		family->slow_given_up[i] = generation;
	*sleep_ms = 0;
}

/* The workers of slow views; they end by themselves, when nothing is left for them. */
static void
run_slow(IvmFamily *family, long *sleep_ms)
{
	int			wanted;

	LWLockAcquire(ivm_control->lock, LW_SHARED);
	wanted = ivm_slow_highest(&family->control->slow);
	wanted = Max(wanted, family->control->slow.workers);
	LWLockRelease(ivm_control->lock);

	for (int i = 0; i < IVM_SLOW_WORKERS; i++)
	{
		IvmChild   *child = &family->apply[ivm_apply_workers + i];

		if (!leave_slow(family, i, sleep_ms))
			continue;
		if (i < wanted)
			run_extra(family, child, "ivm_apply_main", "ivm apply worker",
					  IVM_WORKER_APPLY, ivm_apply_workers + i, 0, sleep_ms);
		else if (!ivm_child_is_running(child))
			ivm_child_forgive(child);
		give_up_slow(family, i, sleep_ms);
	}
}

static void
run_builder(IvmFamily *family, long *sleep_ms)
{
	IvmChild   *child = &family->builder;
	bool		wanted;
	bool		done;
	TimestampTz next_try;

	LWLockAcquire(ivm_control->lock, LW_SHARED);
	wanted = family->control->build_wanted;
	done = family->control->builder_done;
	LWLockRelease(ivm_control->lock);

	if (ivm_child_is_running(child))
		return;
	if (done)
	{
		ivm_child_forgive(child);
		LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
		family->control->builder_done = false;
		LWLockRelease(ivm_control->lock);
	}
	/* a view in state error is tried again when its time has come */
	next_try = ivm_trouble_first(family->dboid);
	if (next_try != 0 && next_try <= GetCurrentTimestamp())
		wanted = true;
	else if (next_try != 0)
		ivm_sleep_until(next_try, sleep_ms);
	if (wanted)
		run_extra(family, child, "ivm_builder_main", "ivm builder",
				  IVM_WORKER_BUILDER, 0, ivm_budget_reserved(), sleep_ms);
}

/* When the next of what has ended may start, for those who look. */
static void
tell_next_start(IvmFamily *family)
{
	TimestampTz next = family->started ? 0 : family->not_before;

	for (int i = 0; family->started && i <= ivm_apply_workers; i++)
	{
		IvmChild   *child = member(family, i);

		if (child->handle == NULL)
			next = Max(next, child->not_before);
	}
	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	family->control->next_start = next;
	LWLockRelease(ivm_control->lock);
}

void
ivm_family_run(IvmFamily *family, long *sleep_ms)
{
	if (!family->started)
		start_all(family, sleep_ms);
	for (int i = 0; family->started && i <= ivm_apply_workers; i++)
		if (!restart(family, i, sleep_ms))
		{
			ereport(LOG,
					(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					 errmsg("processes of database %u give up their background worker slots for another database",
							family->dboid),
					 errhint("Increase max_worker_processes.")));
			(void) ivm_family_stop(family);
			postpone(family, sleep_ms);
		}
	if (family->started)
	{
		run_slow(family, sleep_ms);
		run_builder(family, sleep_ms);
	}
	tell_next_start(family);
}

/* ---- stopping, and the rest ---- */

bool
ivm_family_stop(IvmFamily *family)
{
	bool		gone = true;

	gone &= ivm_child_stop(&family->inspector);
	gone &= ivm_child_stop(&family->builder);
	for (int i = 0; i < IVM_SLOW_WORKERS; i++)
		gone &= ivm_child_stop(&family->apply[ivm_apply_workers + i]);
	gone &= stop_members(family);
	family->started = false;
	family->not_before = 0;
	family->delay = 0;
	return gone;
}

bool
ivm_family_inspect(IvmFamily *family, long *sleep_ms)
{
	IvmChild   *child = &family->inspector;

	if (ivm_child_is_running(child))
		return true;
	if (child->not_before > GetCurrentTimestamp())
	{
		ivm_sleep_until(child->not_before, sleep_ms);
		return false;
	}
	if (start(family, child, "ivm_inspect_main", "ivm inspector", IVM_WORKER_LAUNCHER, 0, 0))
	{
		if (!family->started)
			tell_slot(family, NULL, true);
		return true;
	}
	if (!family->started)
		tell_slot(family, "ivm inspector", false);
	ivm_sleep_until(child->not_before, sleep_ms);
	return false;
}

void
ivm_families_reserve(long *sleep_ms)
{
	bool		wanted = false;

	for (int i = 0; i < ivm_database_count(); i++)
	{
		IvmFamily  *family = &ivm_families[i];

		if (!family->started)
			continue;
		wanted = true;
		if (ivm_decoder_state(family->control->capture) != IVM_DECODER_RUNNING)
		{
			*sleep_ms = Min(*sleep_ms, IVM_MIN_RESTART_DELAY);
			return;
		}
	}
	ivm_budget_reserve(wanted ? IVM_MINIMUM_WORKER : 0);
}
