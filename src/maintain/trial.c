/*-------------------------------------------------------------------------
 *
 * trial.c
 *	  Batches of views that processes had in hand when they died.
 *
 * What a process had in hand when it died is known after the crash (in_hand.c).
 * A batch serves many views, so most of them are suspected without reason.  Each
 * has a batch of its own then, in turns with one for all that are not
 * suspected, until it has had one that was committed.  The views and shared arrangements that it
 * reads take part, as in any batch, but are not suspected for that: only the one
 * that the batch is for, or the one that was just being written.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "base/in_hand.h"
#include "maintain/trial.h"

bool
ivm_trial_is_needed(IvmApplyWorker *worker, IvmConsumer *consumer)
{
	ListCell   *cell;

	if (!ivm_suspects_exist())
		return false;
	if (ivm_suspect_deaths(MyDatabaseId, consumer->relid) > 0)
		return true;
	check_stack_depth();
	foreach(cell, consumer->upstream)
	{
		IvmConsumer *view = ivm_consumer_list_find(worker, lfirst_oid(cell));

		if (view != NULL && ivm_trial_is_needed(worker, view))
			return true;
	}
	return false;
}

void
ivm_trial_begin(List *consumers)
{
	List	   *relids = NIL;
	ListCell   *cell;

	/* what others read comes first */
	if (ivm_suspect_deaths(MyDatabaseId, ((IvmConsumer *) llast(consumers))->relid) > 0)
		relids = list_make1_oid(((IvmConsumer *) llast(consumers))->relid);
	else
		foreach(cell, consumers)
		{
			IvmConsumer *consumer = lfirst(cell);

			if (!consumer->is_arrangement)
				relids = lappend_oid(relids, consumer->relid);
		}
	ivm_in_hand_begin(IVM_WORK_BATCH, relids);
	list_free(relids);
}

void
ivm_trial_committed(List *consumers)
{
	ListCell   *cell;

	ivm_in_hand_end();
	if (!ivm_suspects_exist())
		return;
	foreach(cell, consumers)
	{
		IvmConsumer *consumer = lfirst(cell);

		/* one that is left to the builder, or had nothing to do, has proved nothing */
		if (consumer->changes > 0 && !consumer->truncated)
			ivm_suspect_clear(MyDatabaseId, consumer->relid);
	}
}

bool
ivm_trial_is_over(Oid relid)
{
	return ivm_suspect_deaths(MyDatabaseId, relid) >= IVM_MAX_DEATHS;
}

bool
ivm_trial_forbids(const IvmViewRow *row)
{
	return row->reason != NULL && strcmp(row->reason, IVM_DEATH_REASON) == 0;
}

void
ivm_trial_again(const IvmViewRow *row)
{
	if (row->state == IVM_STATE_ERROR && ivm_trial_forbids(row))
		ivm_suspect_parole(MyDatabaseId, row->relid);
}
