/*-------------------------------------------------------------------------
 *
 * slow.c
 *	  Which views of a database are slow, as all its processes know it.
 *
 * An apply worker that measures that a view's batches take long says so here,
 * and so does the one that finds it quick again.  Which worker has which view is
 * worked out by each of them from this list (assignment.c), so a change of it
 * is a change of the generation, and a view moves as it does when ivm.view
 * changes.
 *
 * A level has a process of its own.  What is too slow for the quick ones is of
 * level 1; what is too slow for that, of level 2, where only those wait for each
 * other that take long all of them.  A process that is not there is no reason to wait: its views
 * are with the one below, or, if there is none, with the quick ones, which give
 * them what time they have left.  So slow workers need not be started together
 * with the others, and their number is raised by themselves when they are ready.  If one dies and cannot be
 * had again the launcher lowers the number.
 *
 * The list is in shared memory, of fixed size, and lost with a restart: each
 * view is quick then, until it is measured.  A view that returned stays on it as long as there is room,
 * so that one that is slow again and again returns more and more seldom.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "process/control.h"
#include "process/slow.h"

static IvmSlowView *
find_view(const IvmSlow *slow, Oid relid)
{
	for (int i = 0; i < slow->count; i++)
		if (slow->views[i].relid == relid)
			return unconstify(IvmSlowView *, &slow->views[i]);
	return NULL;
}

/* Room for a view; NULL if all that there is are slow. */
static IvmSlowView *
add_view(IvmSlow *slow, Oid relid)
{
	IvmSlowView *result = NULL;

	if (slow->count < IVM_MAX_SLOW)
		result = &slow->views[slow->count++];
	else
	{
		for (int i = 0; i < slow->count; i++)
			if (slow->views[i].level == 0 && (result == NULL || slow->views[i].since < result->since))
				result = &slow->views[i];
	}
	if (result != NULL)
	{
		memset(result, 0, sizeof(IvmSlowView));
		result->relid = relid;
	}
	return result;
}

IvmSlow *
ivm_slow_copy(IvmControlDatabase *database, uint64 *generation)
{
	IvmSlow    *result = palloc(sizeof(IvmSlow));

	LWLockAcquire(ivm_control->lock, LW_SHARED);
	memcpy(result, &database->slow, offsetof(IvmSlow, views) + sizeof(IvmSlowView) * database->slow.count);
	*generation = pg_atomic_read_u64(&database->generation);
	LWLockRelease(ivm_control->lock);
	return result;
}

int
ivm_slow_level(const IvmSlow *slow, Oid relid)
{
	IvmSlowView *view = find_view(slow, relid);

	return view == NULL ? 0 : view->level;
}

int
ivm_slow_highest(const IvmSlow *slow)
{
	int			result = 0;

	for (int i = 0; i < slow->count; i++)
		result = Max(result, slow->views[i].level);
	return result;
}

/* What it means for the others: they look at the list, and so does the launcher.  Lock held. */
static void
changed(IvmControlDatabase *database)
{
	pg_atomic_fetch_add_u64(&database->generation, 1);
	for (int i = 0; i < lengthof(database->apply); i++)
		if (database->apply[i].latch != NULL)
			SetLatch(database->apply[i].latch);
	if (ivm_control->launcher_latch != NULL)
		SetLatch(ivm_control->launcher_latch);
}

bool
ivm_slow_mark(IvmControlDatabase *database, List *relids, int level)
{
	TimestampTz now = GetCurrentTimestamp();
	bool		any = false;
	bool		result = true;
	ListCell   *cell;

	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	foreach(cell, relids)
	{
		IvmSlowView *view = find_view(&database->slow, lfirst_oid(cell));

		if (view == NULL && level > 0)
			view = add_view(&database->slow, lfirst_oid(cell));
		if (view == NULL)
		{
			result &= level == 0;
			continue;
		}
		if (view->level != level)
		{
			if (level == 0)
				view->returns++;
			view->level = level;
			any = true;
		}
		view->since = now;
	}
	if (any)
		changed(database);
	LWLockRelease(ivm_control->lock);
	return result;
}

void
ivm_slow_renew(IvmControlDatabase *database, List *relids)
{
	TimestampTz now = GetCurrentTimestamp();
	ListCell   *cell;

	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	foreach(cell, relids)
	{
		IvmSlowView *view = find_view(&database->slow, lfirst_oid(cell));

		if (view != NULL)
			view->since = now;
	}
	LWLockRelease(ivm_control->lock);
}

void
ivm_slow_forget(IvmControlDatabase *database, List *relids)
{
	if (relids == NIL)
		return;
	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	for (int i = database->slow.count - 1; i >= 0; i--)
		if (list_member_oid(relids, database->slow.views[i].relid))
			database->slow.views[i] = database->slow.views[--database->slow.count];
	LWLockRelease(ivm_control->lock);
}

bool
ivm_slow_worker_starts(IvmControlDatabase *database, int level)
{
	bool		result;

	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	result = database->slow.workers >= level - 1;
	if (database->slow.workers == level - 1)
	{
		database->slow.workers = level;
		changed(database);
	}
	LWLockRelease(ivm_control->lock);
	return result;
}

uint64
ivm_slow_worker_gone(IvmControlDatabase *database, int level)
{
	uint64		result;

	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	if (database->slow.workers >= level)
	{
		database->slow.workers = level - 1;
		changed(database);
	}
	result = pg_atomic_read_u64(&database->generation);
	LWLockRelease(ivm_control->lock);
	return result;
}

bool
ivm_slow_worker_ends(IvmControlDatabase *database, int level)
{
	bool		result;

	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	result = database->slow.workers == level && ivm_slow_highest(&database->slow) < level;
	if (result)
	{
		database->slow.workers = level - 1;
		changed(database);
	}
	LWLockRelease(ivm_control->lock);
	return result;
}
