/*-------------------------------------------------------------------------
 *
 * pace.c
 *	  Which views are slow, and what follows from it.
 *
 * The promise is that no view makes another one more than a second older, whatever its
 * query does.  All views of a worker wait for its batch, so:
 *
 *	- A view that takes longer than ivm.batch_patience while others wait has its batch
 *	  cancelled, and is of level 1 from then on: it belongs to a worker of its own kind,
 *	  which serves one component at a time and gives each twenty times the patience.  What takes
 *	  longer there, while others wait there, is of level 2, whose worker gives it forty times the
 *	  patience, and twice as long each time that it was cancelled, but never more than twice what those get who wait: so each gets
 *	  done, and each of them waits only for views that are as slow, one that never ends
 *	  among them.  So do operating systems treat their processes, which know as little of how
 *	  long one is going to take.
 *	- Several that each take less may take too long together.  What a view takes is remembered, and those that take any
 *	  time worth it have batches of their own, by turns with the quick ones: so much of them that it is half of the patience, or a single one.
 *	  Where that was not known before, the batch is cancelled as a whole; for CROWDED times the patience after that a
 *	  view that has had no batch yet is reckoned to take half of the patience.
 *	- One that nobody waits for goes on, with the snapshot that it began with.  When something was decoded since, and it has
 *	  taken as long as level 1 allows, it is cancelled, too: what it cannot get done may be gone.
 *	- A view that took as long with nobody waiting is moved, too, so that nobody need wait.
 *	- A view of level 1 or 2 whose batches have taken less than half of the patience for RETURN_AFTER
 *	  times the patience returns to the quick ones; the next time it has to be quick for twice as long.
 *	- While the process that it should move to is not there (for want of memory, of a worker
 *	  slot, or because it is just starting) a slow view is an outcast where it is: it has a batch of its
 *	  own when nobody else is due, which is cancelled when somebody is, and pauses after that for longer
 *	  each time.  The promise to the others holds; what it gets is what they leave.
 *
 * What counts is the time of the view itself, as the guard samples it, so that a view in a batch
 * with many is not held to account for them.  Components (views that read each other or share an arrangement)
 * move as a whole.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/settings.h"
#include "maintain/apply_worker.h"
#include "maintain/view_timeout.h"

#define LEVEL_1_PATIENCE	20	/* times ivm.batch_patience */
#define LEVEL_2_PATIENCE	40
#define MAX_SHIFT			16
#define MAX_PAUSE			60000	/* ms */
#define RETURN_AFTER		120 /* times ivm.batch_patience */
#define MAX_RETURN_AFTER	((int64) 3600 * 1000)	/* ms */
#define CROWDED				120 /* times ivm.batch_patience */
#define LOOK_INTERVAL		1000	/* ms between looks for who may return */

static IvmApplyWorker *this_worker;

void
ivm_pace_init(IvmApplyWorker *worker)
{
	this_worker = worker;
	ivm_guard_init(ivm_pace_others_wait);
}

bool
ivm_pace_is_outcast(IvmApplyWorker *worker, IvmConsumer *consumer)
{
	return consumer->level > worker->level;
}

/*
 * A turn of level 2: twice as long each time that it was not enough, but no more than twice what those
 * who wait need themselves.
 */
static int
turn_of(IvmApplyWorker *worker, const IvmWatch *watch)
{
	int			doublings = Min(Min(watch->turns, worker->others_cancels + 1), MAX_SHIFT);

	return (int) Min((int64) watch->patience << doublings, PG_INT32_MAX);
}

bool
ivm_pace_others_wait(const IvmWatch *watch)
{
	IvmApplyWorker *worker = this_worker;

	if (worker->level > 1 && watch->elapsed < turn_of(worker, watch))
		return false;
	if (worker->others_due ||
		pg_atomic_read_u64(&worker->control->generation) != pg_atomic_read_u64(&worker->shared->adopted))
		return true;

	/*
	 * Nobody else is here, but something came for it, perhaps: what made it
	 * slow may be gone, which its snapshot does not see.
	 */
	if (!worker->several)
		return (worker->level > 0 || watch->elapsed > (int64) LEVEL_1_PATIENCE * ivm_batch_patience) &&
			ivm_log_transactions(worker->capture) != worker->transactions;
	return ivm_log_transactions(worker->capture) != worker->transactions ||
		pg_atomic_read_u64(&worker->control->syncs) > worker->looking ||
		pg_atomic_read_u64(&worker->control->wanted_position) > pg_atomic_read_u64(&worker->shared->position);
}

void
ivm_pace_watch(IvmApplyWorker *worker, IvmWatch *watch, Oid relid, Oid owner, int cancels)
{
	int64		patience = ivm_batch_patience;

	if (worker->level > 0)
		patience *= worker->level == 1 ? LEVEL_1_PATIENCE : LEVEL_2_PATIENCE;
	watch->relid = relid;
	watch->elapsed = 0;
	watch->patience = (int) Min(patience, PG_INT32_MAX);
	watch->crowd = worker->level == 0 ? ivm_batch_patience : 0;
	watch->timeout = ivm_view_timeout_of(owner);
	watch->turns = cancels;
}

/* All that sits together with a view: oids, palloc'd. */
static List *
component_of(IvmApplyWorker *worker, Oid component)
{
	List	   *result = NIL;
	ListCell   *cell;

	foreach(cell, worker->consumers)
	{
		IvmConsumer *consumer = lfirst(cell);

		if (consumer->component == component)
			result = lappend_oid(result, consumer->relid);
	}
	return result;
}

static void
mark(IvmApplyWorker *worker, Oid relid, int level)
{
	IvmConsumer *consumer = ivm_consumer_list_find(worker, relid);
	List	   *relids = consumer != NULL ? component_of(worker, consumer->component) : list_make1_oid(relid);

	ereport(LOG,
			(errmsg("incremental view with OID %u takes longer than others can wait: it is maintained by itself", relid)));
	(void) ivm_slow_mark(worker->control, relids, level);
	list_free(relids);
}

void
ivm_pace_expel(IvmApplyWorker *worker, Oid relid)
{
	IvmConsumer *consumer = ivm_consumer_list_find(worker, relid);
	bool		outcast = consumer != NULL && ivm_pace_is_outcast(worker, consumer);
	int			pause = 0;
	ListCell   *cell;

	if (!outcast && worker->level < IVM_SLOW_WORKERS)
		mark(worker, relid, worker->level + 1);
	else
		ivm_slow_renew(worker->control, list_make1_oid(relid));
	if (consumer == NULL)
		return;
	if (outcast)
		pause = Min(ivm_batch_patience << Min(consumer->cancels, MAX_SHIFT), MAX_PAUSE);
	foreach(cell, worker->consumers)
	{
		IvmConsumer *member = lfirst(cell);

		if (member->component != consumer->component)
			continue;
		member->cancels++;
		/* until the list is read anew, which says where it is now */
		member->level = Max(member->level, Min(worker->level + 1, IVM_SLOW_WORKERS));
		member->retry_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), pause);
	}
}

int
ivm_pace_expected(IvmApplyWorker *worker, IvmConsumer *consumer)
{
	int			expected = consumer->usual;

	if (!consumer->measured && worker->crowded_at != 0 &&
		!TimestampDifferenceExceeds(worker->crowded_at, GetCurrentTimestamp(), CROWDED * ivm_batch_patience))
		expected = Max(expected, ivm_batch_patience / 2);
	return expected;
}

bool
ivm_pace_takes_turns(IvmApplyWorker *worker, IvmConsumer *consumer)
{
	return worker->level == 0 && ivm_batch_patience > 0 && ivm_pace_expected(worker, consumer) >= IVM_GUARD_SHORT;
}

void
ivm_pace_learn(IvmApplyWorker *worker, List *consumers, IvmCancel cancel)
{
	ListCell   *cell;

	foreach(cell, consumers)
	{
		IvmConsumer *consumer = lfirst(cell);

		consumer->usual = Max(consumer->usual, consumer->watch.elapsed);
	}
	if (cancel == IVM_CANCEL_CROWD)
		worker->crowded_at = GetCurrentTimestamp();
}

void
ivm_pace_measure(IvmApplyWorker *worker, List *consumers)
{
	ListCell   *cell;

	foreach(cell, consumers)
	{
		IvmConsumer *consumer = lfirst(cell);

		consumer->measured = true;
		consumer->usual = Max(consumer->watch.elapsed, (consumer->usual * 3 + consumer->watch.elapsed) / 4);
		/* what was enough is enough the next time, if it was needed */
		if (worker->level < 2)
			consumer->cancels = 0;
		else if (consumer->cancels > 0 && consumer->watch.elapsed < turn_of(worker, &consumer->watch) / 4)
			consumer->cancels--;
		if (ivm_batch_patience == 0)
			continue;
		if (consumer->level > 0)
		{
			if (consumer->watch.elapsed > ivm_batch_patience / 2)
				ivm_slow_renew(worker->control, component_of(worker, consumer->component));
		}
		else if (consumer->watch.elapsed >= ivm_batch_patience && worker->several && !consumer->leaving)
		{
			mark(worker, consumer->relid, 1);
			consumer->level = 1;
		}
	}
}

void
ivm_pace_return(IvmApplyWorker *worker)
{
	TimestampTz now = GetCurrentTimestamp();
	IvmSlow    *slow;
	uint64		generation;
	ListCell   *cell;

	if (worker->level == 0 || ivm_batch_patience == 0 || !TimestampDifferenceExceeds(worker->paced_at, now, LOOK_INTERVAL))
		return;
	worker->paced_at = now;
	slow = ivm_slow_copy(worker->control, &generation);
	foreach(cell, worker->consumers)
	{
		IvmConsumer *consumer = lfirst(cell);
		IvmSlowView *view = NULL;
		int64		after = (int64) RETURN_AFTER * ivm_batch_patience;

		for (int i = 0; i < slow->count && view == NULL; i++)
			if (slow->views[i].relid == consumer->relid)
				view = &slow->views[i];
		if (view == NULL || view->level == 0 || consumer->leaving || consumer->pending != 0)
			continue;
		after = Min(after << Min(view->returns, MAX_SHIFT), Max(after, MAX_RETURN_AFTER));
		if (TimestampDifferenceExceeds(view->since, now, (int) Min(after, PG_INT32_MAX)))
		{
			List	   *relids = component_of(worker, consumer->component);

			(void) ivm_slow_mark(worker->control, relids, 0);
			list_free(relids);
			break;				/* the rest at the next look */
		}
	}
	pfree(slow);
}
