/*-------------------------------------------------------------------------
 *
 * batch_lock.c
 *	  What a batch claims and locks, without waiting.
 *
 * Whoever waits behind us for a stronger lock would wait for our wait for the decoder, too.  A
 * consumer that cannot be had at once is left behind, with those that read it, and tried again soon.
 *
 * Locks come before the snapshot: a TRUNCATE or a rewrite that slipped in between
 * would make the snapshot see an empty table.  All of them are kept to the end of the batch.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "storage/lmgr.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "arrange/state_table.h"
#include "maintain/apply_worker.h"
#include "maintain/members.h"

/*
 * Claims and locks one consumer; false if that would have to wait.  What was
 * locked before the refusal stays locked to the end of the batch.
 */
static bool
lock_consumer(IvmApplyWorker *worker, IvmConsumer *consumer)
{
	ListCell   *cell;

	if (!ivm_claim(consumer->relid, false) || !ivm_members_lock(consumer, worker->capture))
		return false;
	if (!ConditionalLockRelationOid(consumer->relid, RowExclusiveLock))
		return false;
	foreach(cell, consumer->compiled->relids)
		if (!ConditionalLockRelationOid(lfirst_oid(cell), AccessShareLock))
		return false;

	foreach(cell, consumer->compiled->plan->arrangements)
	{
		IvmArrangement *arrangement = lfirst(cell);
		ListCell   *inner;

		foreach(inner, arrangement->probes)
		{
			IvmIndexProbe *probe = lfirst(inner);

			if (OidIsValid(probe->index) &&
				!ConditionalLockRelationOid(probe->index, AccessShareLock))
				return false;
		}
	}

	if (!consumer->is_arrangement)
	{
		Relation	view = try_relation_open(consumer->relid, NoLock);
		List	   *indexes;
		bool		locked = true;

		if (view == NULL)
			return false;		/* dropped: the next look at ivm.view finds
								 * out */
		indexes = RelationGetIndexList(view);
		foreach(cell, indexes)
			locked = locked && ConditionalLockRelationOid(lfirst_oid(cell), RowExclusiveLock);
		relation_close(view, NoLock);

		/* REINDEX and VACUUM FULL come by state tables, too */
		foreach(cell, consumer->arrangements)
			locked = locked && ConditionalLockRelationOid(lfirst_oid(cell), RowExclusiveLock);
		foreach(cell, ivm_dataflow_state_names(consumer->compiled->plan, consumer->relid))
		{
			Oid			state = ivm_state_table_lookup(lfirst(cell));

			locked = locked && (!OidIsValid(state) || ConditionalLockRelationOid(state, RowExclusiveLock));
		}
		return locked;
	}
	return true;
}

/* Does it read one of these that is behind: a shared arrangement, or a view? */
static bool
reads_one_behind(IvmConsumer *consumer, List *consumers)
{
	ListCell   *cell;

	foreach(cell, consumers)
	{
		IvmConsumer *other = lfirst(cell);

		if (other->behind && (list_member_oid(consumer->arrangements, other->relid) ||
							  list_member_oid(consumer->upstream, other->relid)))
			return true;
	}
	return false;
}

static void
leave_behind(IvmConsumer *consumer)
{
	consumer->behind = true;
	consumer->retry_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), 50);
}

List *
ivm_batch_lock(IvmApplyWorker *worker, List *consumers)
{
	List	   *locked = NIL;
	bool		again = true;
	ListCell   *cell;

	foreach(cell, consumers)
	{
		IvmConsumer *consumer = lfirst(cell);

		consumer->behind = false;
		if (!reads_one_behind(consumer, consumers) && lock_consumer(worker, consumer))
			locked = lappend(locked, consumer);
		else
			leave_behind(consumer);
	}
	while (again)
	{
		again = false;
		foreach(cell, locked)
		{
			IvmConsumer *consumer = lfirst(cell);

			if (!reads_one_behind(consumer, consumers))
				continue;
			leave_behind(consumer);
			locked = foreach_delete_current(locked, cell);
			again = true;
		}
	}
	return locked;
}
