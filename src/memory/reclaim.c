/*-------------------------------------------------------------------------
 *
 * reclaim.c
 *	  What to do when an arena may not grow: drop caches, spill to files.
 *
 * Whatever can give memory back registers a reclaimer.  When an allocation is
 * refused they are called in the order of what it costs: unused pages of the
 * arenas go back to the kernel, then caches are dropped and other processes
 * are asked to do the same, then the largest of what can be written to a file is
 * written.  After each of these the allocation is tried again.
 *
 * A callback may allocate, so that there may be another refusal within it.  While
 * it runs its reclaimer is off the list; unless the callback, or what it calls,
 * takes it off for good, it is put back afterwards.  If it raises an error, it stays
 * off: the batch has failed, and the arena's reset forgets the others.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "base/settings.h"
#include "memory/budget.h"
#include "memory/kernel.h"
#include "memory/reclaim.h"

/* Less is not worth a file's buffer, nor a system call that gives pages back. */
#define SPILL_MINIMUM	((Size) 16 * 1024)
#define TRIM_MINIMUM	((Size) 64 * 1024)

/* What a structure may hold that cannot be reclaimed. */
#define PIN_SHARE		8
#define MINIMUM_PIN		((Size) 256 * 1024)

/* Without an account there is no limit, but no reason for more than this. */
#define ALLOWANCE		((Size) 64 * 1024 * 1024)

/* A reclaimer whose callback runs; callbacks within callbacks make a stack. */
typedef struct RunningReclaimer
{
	IvmReclaimer *reclaimer;	/* NULL: it was taken off the list for good */
	struct RunningReclaimer *outer;
} RunningReclaimer;

static dlist_head reclaimers = DLIST_STATIC_INIT(reclaimers);
static RunningReclaimer *running = NULL;

void
ivm_reclaimer_add(IvmReclaimer *reclaimer)
{
	if (!reclaimer->registered)
		dlist_push_tail(&reclaimers, &reclaimer->node);
	reclaimer->registered = true;
}

static void
forget_running(IvmReclaimer *reclaimer, IvmArena *arena)
{
	for (RunningReclaimer *run = running; run != NULL; run = run->outer)
		if (run->reclaimer != NULL &&
			(run->reclaimer == reclaimer || (arena != NULL && run->reclaimer->arena == arena)))
			run->reclaimer = NULL;
}

void
ivm_reclaimer_remove(IvmReclaimer *reclaimer)
{
	if (reclaimer->registered)
		dlist_delete(&reclaimer->node);
	reclaimer->registered = false;
	forget_running(reclaimer, NULL);
}

void
ivm_reclaim_forget(IvmArena *arena)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &reclaimers)
	{
		IvmReclaimer *reclaimer = dlist_container(IvmReclaimer, node, iter.cur);

		if (reclaimer->arena == arena)
			ivm_reclaimer_remove(reclaimer);
	}
	forget_running(NULL, arena);
}

/* Calls one; returns by how much it says that it became smaller. */
static Size
run(IvmReclaimer *reclaimer)
{
	RunningReclaimer this_run = {reclaimer, running};
	Size		before = reclaimer->bytes;
	Size		after = 0;

	dlist_delete(&reclaimer->node);
	reclaimer->registered = false;
	running = &this_run;
	PG_TRY();
	{
		reclaimer->reclaim(reclaimer);
	}
	PG_FINALLY();
	{
		running = this_run.outer;
	}
	PG_END_TRY();

	/* it may not even be there any more */
	if (this_run.reclaimer != NULL)
	{
		ivm_reclaimer_add(reclaimer);
		after = reclaimer->bytes;
	}
	return before > after ? before - after : 0;
}

static IvmReclaimer *
first_cache(void)
{
	dlist_iter	iter;

	dlist_foreach(iter, &reclaimers)
	{
		IvmReclaimer *reclaimer = dlist_container(IvmReclaimer, node, iter.cur);

		if (reclaimer->kind == IVM_RECLAIM_CACHE && reclaimer->bytes > 0)
			return reclaimer;
	}
	return NULL;
}

/*
 * One that has been called goes to the end of the list; so each is, once.
 */
static Size
drop_caches(void)
{
	Size		freed = 0;
	int			count = 0;
	dlist_iter	iter;

	dlist_foreach(iter, &reclaimers)
		count++;
	while (count-- > 0)
	{
		IvmReclaimer *reclaimer = first_cache();

		if (reclaimer == NULL)
			break;
		freed += run(reclaimer);
	}
	return freed;
}

/* The largest that has less than "limit". */
static IvmReclaimer *
largest_spill(Size limit)
{
	IvmReclaimer *largest = NULL;
	dlist_iter	iter;

	dlist_foreach(iter, &reclaimers)
	{
		IvmReclaimer *reclaimer = dlist_container(IvmReclaimer, node, iter.cur);

		if (reclaimer->kind == IVM_RECLAIM_SPILL && reclaimer->bytes >= SPILL_MINIMUM &&
			reclaimer->bytes < limit && (largest == NULL || reclaimer->bytes > largest->bytes))
			largest = reclaimer;
	}
	return largest;
}

bool
ivm_reclaim(void)
{
	IvmReclaimer *reclaimer;
	Size		limit = MaxAllocHugeSize;

	if (ivm_arena_process_purge() >= TRIM_MINIMUM)
		return true;
	ivm_budget_ask();
	if (drop_caches() >= SPILL_MINIMUM)
		return true;
	while ((reclaimer = largest_spill(limit)) != NULL)
	{
		limit = reclaimer->bytes;
		if (run(reclaimer) > 0)
			return true;
	}
	return false;
}

/* Does what this process was asked to do, and says by how much that made it smaller. */
static void
answer(void)
{
	Size		before = 0;
	Size		after = 0;
	bool		known = ivm_kernel_anonymous_memory(MyProcPid, &before);

	(void) drop_caches();
	ivm_arena_process_trim();
	known = known && ivm_kernel_anonymous_memory(MyProcPid, &after);
	ivm_budget_answer(known && before > after ? before - after : 0);
}

void
ivm_give_back(void)
{
	IvmAccount *account = ivm_budget_account();

	if (account == NULL)
		return;
	if (ivm_budget_asked())
		answer();
	else if (ivm_account_is_over(account))
	{
		(void) drop_caches();
		ivm_arena_process_trim();
	}
}

void
ivm_give_back_working(void)
{
	IvmAccount *account = ivm_budget_account();

	if (account == NULL)
		return;
	if (ivm_budget_asked())
		answer();
	if (ivm_account_is_over(account))
		(void) ivm_reclaim();
}

Size
ivm_pin_limit(void)
{
	IvmAccount *account = ivm_budget_account();
	Size		allowance = account != NULL ? ivm_account_allowance(account) : ALLOWANCE;

	return Max(allowance / PIN_SHARE, MINIMUM_PIN);
}

bool
ivm_spill_is_forced(const char *kind)
{
	return strstr(ivm_debug_spill, kind) != NULL;
}
