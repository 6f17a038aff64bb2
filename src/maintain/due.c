/*-------------------------------------------------------------------------
 *
 * due.c
 *	  Which consumers the next batch of an apply worker is for.
 *
 * One that something waits for is due, unless it pauses, or what waits is not visible yet.
 * With it come the shared arrangements and the views that it reads.  Consumers share a
 * batch but for the slow ones, those that are suspect, and those that take turns (pace.c).
 *
 * Memory: lists in the current context.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/procarray.h"
#include "utils/timestamp.h"

#include "base/settings.h"
#include "maintain/apply_worker.h"
#include "maintain/trial.h"

#define INVISIBLE_RETRY		100 /* ms */
#define MAX_BATCH_LOCKS		320 /* a twentieth of what the server has room for
								 * by default */
#define LOCKS_OF_A_VIEW		6	/* itself and its claim, indexes, state tables */

/* Who is to be in a batch, where some are known to take long. */
typedef enum Turn
{
	EVERYBODY,
	SHORT_ONES,
	LONG_ONES
} Turn;

static bool
is_due(IvmApplyWorker *worker, IvmConsumer *consumer, TimestampTz now, long *sleep_ms)
{
	if (consumer->leaving || (consumer->pending == 0 && consumer->verify == NIL && !consumer->members_differ))
		return false;
	if (consumer->retry_at > now)
	{
		*sleep_ms = Min(*sleep_ms, TimestampDifferenceMilliseconds(now, consumer->retry_at) + 1);
		return false;
	}
	if (consumer->pending_invisible && consumer->verify == NIL &&
		worker->looking <= consumer->complete_sync &&
		TransactionIdIsInProgress((TransactionId) consumer->pending_fxid) &&
		!TimestampDifferenceExceeds(worker->last_batch, now, INVISIBLE_RETRY))
	{
		*sleep_ms = Min(*sleep_ms, INVISIBLE_RETRY);
		return false;
	}
	return true;
}

bool
ivm_upstream_is_ready(IvmApplyWorker *worker, IvmConsumer *consumer, TimestampTz now)
{
	ListCell   *cell;

	foreach(cell, consumer->upstream)
	{
		IvmConsumer *view = ivm_consumer_list_find(worker, lfirst_oid(cell));

		if (view == NULL || view->leaving || view->retry_at > now)
			return false;
	}
	return true;
}

/*
 * Adds a consumer to those to run, after the shared arrangements and the views that it reads.
 * These take part also if nothing is known to wait for them: the batch may find more.
 * False if one of them is being built, or failed.
 */
static bool
add_due(IvmApplyWorker *worker, IvmConsumer *consumer, TimestampTz now, List **due)
{
	ListCell   *cell;

	check_stack_depth();
	if (list_member_ptr(*due, consumer))
		return true;
	foreach(cell, consumer->arrangements)
	{
		IvmConsumer *arrangement = ivm_consumer_list_find(worker, lfirst_oid(cell));

		if (arrangement == NULL || arrangement->leaving || arrangement->retry_at > now)
			return false;
		if (!list_member_ptr(*due, arrangement))
			*due = lcons(arrangement, *due);
	}
	foreach(cell, consumer->upstream)
	{
		if (!add_due(worker, ivm_consumer_list_find(worker, lfirst_oid(cell)), now, due))
			return false;
	}
	*due = lappend(*due, consumer);
	return true;
}

/* Locks that a batch takes for these, roughly. */
static int
count_locks(List *consumers)
{
	int			result = 0;
	ListCell   *cell;

	foreach(cell, consumers)
		result += LOCKS_OF_A_VIEW + 2 * list_length(((IvmConsumer *) lfirst(cell))->compiled->relids);
	return result;
}

/*
 * Can this one be in the batch with those that are?  Slow ones have batches by components; an outcast has
 * one only if nobody else is due.
 */
static bool
goes_together(IvmApplyWorker *worker, IvmConsumer *consumer, List *due, IvmConsumer **outcast)
{
	IvmConsumer *first = due != NIL ? linitial(due) : NULL;

	if (ivm_pace_is_outcast(worker, consumer))
	{
		if (*outcast == NULL)
			*outcast = consumer;
		return false;
	}
	return worker->level == 0 || first == NULL || first->component == consumer->component;
}

/*
 * Those that take some time do so by turns with the others, who would lose their work, too, where one of them has to
 * be cancelled.
 */
static Turn
whose_turn(IvmApplyWorker *worker)
{
	TimestampTz now = GetCurrentTimestamp();
	bool		is_due_now[2] = {false, false};
	ListCell   *cell;

	if (worker->level > 0 || ivm_batch_patience == 0)
		return EVERYBODY;
	foreach(cell, worker->consumers)
	{
		IvmConsumer *consumer = lfirst(cell);
		long		sleep_ms = 0;
		bool		is_long = ivm_pace_takes_turns(worker, consumer);

		if (!is_due_now[is_long] && !ivm_pace_is_outcast(worker, consumer) && is_due(worker, consumer, now, &sleep_ms))
			is_due_now[is_long] = true;
	}
	worker->turn_of_long = is_due_now[true] && !(worker->turn_of_long && is_due_now[false]);
	if (worker->turn_of_long)
		return LONG_ONES;
	return is_due_now[true] ? SHORT_ONES : EVERYBODY;
}

/*
 * Consumers to run, of those whose turn it is.  If these are very many, a part of them: the next batch goes on where this one
 * left off.  Each has an applied snapshot of its own, so it is all the same to them; those that read each
 * other are in one part.
 */
static List *
due_of_turn(IvmApplyWorker *worker, Turn turn, long *sleep_ms)
{
	List	   *due = NIL;
	TimestampTz now = GetCurrentTimestamp();
	ListCell   *cell;
	bool		invisible = false;
	int			count = list_length(worker->consumers);
	IvmConsumer *outcast = NULL;
	Oid			component = InvalidOid;
	int			next = -1;
	int			expected = 0;

	/*
	 * a commit after this wakes us, one before it is seen by the looks that
	 * follow
	 */
	foreach(cell, worker->consumers)
	{
		IvmConsumer *consumer = lfirst(cell);

		invisible |= consumer->pending_invisible && consumer->pending != 0;
	}
	ivm_wake_set_pending(worker->capture, worker->number, invisible);
	worker->others_due = false;
	worker->others_cancels = PG_INT16_MAX;

	for (int i = 0; i < count; i++)
	{
		int			position = (worker->due_next + i) % count;
		IvmConsumer *consumer = list_nth(worker->consumers, position);
		bool		trial;

		if (!is_due(worker, consumer, now, sleep_ms))
			continue;
		if (!OidIsValid(component))
			component = consumer->component;
		worker->others_due |= consumer->component != component;
		if (!goes_together(worker, consumer, due, &outcast))
			continue;
		trial = ivm_trial_is_needed(worker, consumer);
		if (trial && due != NIL)
		{
			/* the next batch begins with it */
			next = next < 0 ? position : next;
			continue;
		}
		if (turn != EVERYBODY)
		{
			int			more = ivm_pace_expected(worker, consumer);
			bool		is_long = ivm_pace_takes_turns(worker, consumer);

			if (is_long != (turn == LONG_ONES) ||
				(is_long && expected > 0 && expected + more > ivm_batch_patience / 2))
			{
				if (is_long)
					next = next < 0 ? position : next;
				continue;
			}
			expected += more;
		}
		if (!ivm_upstream_is_ready(worker, consumer, now) || !add_due(worker, consumer, now, &due))
		{
			consumer->behind = true;
			*sleep_ms = Min(*sleep_ms, 1000);
			continue;
		}
		if (worker->level > 0)
			worker->due_next = position + 1;	/* the others have their turns */
		if (trial || count_locks(due) >= MAX_BATCH_LOCKS)
		{
			next = next < 0 ? position + 1 : next;
			worker->others_due |= worker->several;
			break;
		}
	}
	if (next >= 0)
		worker->due_next = next;
	if (worker->level > 1 && due != NIL)
	{
		foreach(cell, worker->consumers)
		{
			IvmConsumer *consumer = lfirst(cell);

			if (consumer->component != ((IvmConsumer *) linitial(due))->component && !consumer->leaving)
				worker->others_cancels = Min(worker->others_cancels, consumer->cancels);
		}
	}
	if (due == NIL && turn == EVERYBODY && outcast != NULL && ivm_upstream_is_ready(worker, outcast, now))
		(void) add_due(worker, outcast, now, &due);
	return due;
}

List *
ivm_due_consumers(IvmApplyWorker *worker, long *sleep_ms)
{
	Turn		turn = whose_turn(worker);
	List	   *due = due_of_turn(worker, turn, sleep_ms);

	/* those whose turn it is may have to wait for something */
	if (due == NIL && turn != EVERYBODY)
		due = due_of_turn(worker, EVERYBODY, sleep_ms);
	return due;
}
