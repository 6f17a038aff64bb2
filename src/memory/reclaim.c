/*-------------------------------------------------------------------------
 *
 * reclaim.c
 *	  What to do when an arena may not grow: drop caches, spill to files.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/varlena.h"

#include "base/settings.h"
#include "memory/budget.h"
#include "memory/reclaim.h"

static dlist_head reclaimers = DLIST_STATIC_INIT(reclaimers);

void
ivm_reclaimer_add(IvmReclaimer *reclaimer)
{
	if (!reclaimer->registered)
		dlist_push_tail(&reclaimers, &reclaimer->node);
	reclaimer->registered = true;
}

void
ivm_reclaimer_remove(IvmReclaimer *reclaimer)
{
	if (reclaimer->registered)
		dlist_delete(&reclaimer->node);
	reclaimer->registered = false;
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
}

bool
ivm_reclaim(void)
{
	return false;
}

Size
ivm_pin_limit(void)
{
	return 8 * 1024 * 1024;
}

bool
ivm_spill_is_forced(const char *kind)
{
	return strstr(ivm_debug_spill, kind) != NULL;
}
