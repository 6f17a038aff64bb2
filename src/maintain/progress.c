/*-------------------------------------------------------------------------
 *
 * progress.c
 *	  How far an apply worker is in the delta log, and whom it tells.
 *
 * The worker looks at each decoded transaction once (with a cursor of its own,
 * the scout) to see which of its consumers it concerns; the first such
 * transaction that is not applied makes a consumer pending.
 *
 * The worker's cursor stands at the first transaction that any consumer needs,
 * and lets the slot be confirmed up to the least position that is stored, in a
 * flushed commit, with any of them.  Positions of consumers that nothing
 * happens to are stored anew for each 16 MB of WAL, or the slot would keep the
 * WAL for ever.
 *
 * Sessions that wait for a position are told the least one that all consumers
 * contain, and apart from it those few that stay behind for a lock, after a
 * failure or since they are slow, so that a view that cannot be applied holds up only who waits for it.
 *
 * A transaction that the last batch's snapshot did not see, since it waits for a
 * synchronous standby, say, does not hold the position back: who asked before that
 * batch did not see it either (process/sync.c).  Who asks later has another batch run.
 *
 * What changes a view without a row in the WAL (a REFRESH of a materialized view
 * below it, say) is no transaction of the log: the position passes it.  It comes as an
 * invalidation, after the commit record.  So a session also waits until the worker
 * has looked at its invalidations after the sync began, and a consumer that was
 * invalidated is behind until it has been compiled anew or left to the builder.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "replication/origin.h"
#include "storage/lmgr.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "maintain/ailing.h"
#include "maintain/apply_worker.h"
#include "maintain/failure.h"

#define STORE_DISTANCE		(16 * 1024 * 1024)	/* bytes of WAL between stored
												 * positions */
#define STORE_INTERVAL		100 /* ms, at least, between two attempts */

static void tell_read(IvmApplyWorker *worker);

/* Stands at the beginning of the log again; everything is looked at anew. */
void
ivm_progress_begin(IvmApplyWorker *worker)
{
	char		name[NAMEDATALEN];
	ListCell   *cell;

	snprintf(name, sizeof(name), "apply %d", worker->number);
	worker->cursor = ivm_cursor_create(worker->capture, name, true);
	worker->unconfirmed = InvalidXLogRecPtr;
	if (worker->scout != NULL)
		ivm_cursor_release(worker->scout);
	snprintf(name, sizeof(name), "scout %d", worker->number);
	worker->scout = ivm_cursor_create(worker->capture, name, false);
	ivm_cursor_confirm(worker->scout, PG_UINT64_MAX);
	worker->scouted = 0;
	worker->scouted_lsn = InvalidXLogRecPtr;
	foreach(cell, worker->consumers)
	{
		IvmConsumer *consumer = lfirst(cell);

		consumer->pending = 0;
		consumer->pending_invisible = false;
	}
}

/*
 * What is known of a consumer that seems to be behind the slot's position is read
 * again: the worker that it comes from may have brought it further since it was
 * loaded.
 */
static void
read_positions(IvmApplyWorker *worker, XLogRecPtr confirmed_lsn)
{
	MemoryContext old = CurrentMemoryContext;
	ListCell   *cell;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	foreach(cell, worker->consumers)
	{
		IvmConsumer *consumer = lfirst(cell);
		IvmAppliedSnapshot *applied;

		if (consumer->leaving || consumer->applied->lsn >= confirmed_lsn)
			continue;
		MemoryContextSwitchTo(consumer->context);
		applied = ivm_applied_get(consumer->relid, GetActiveSnapshot());
		if (applied != NULL)
			ivm_consumer_read_applied(consumer, applied);
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(old);
}

/*
 * Another decoder began the log anew.  What it decodes begins at the slot's
 * confirmed position; a consumer whose stored position is before that has lost
 * changes (the slot was dropped, or is of another server).
 */
static void
check_positions(IvmApplyWorker *worker)
{
	IvmDecoderStatus status;
	ListCell   *cell;

	ivm_decoder_status(worker->capture, &status);
	read_positions(worker, status.confirmed_lsn);
	ivm_progress_begin(worker);
	foreach(cell, list_copy(worker->consumers))
	{
		IvmConsumer *consumer = lfirst(cell);
		Oid			relid = consumer->relid;
		IvmRowVersion version = consumer->row_version;

		if (consumer->leaving || consumer->applied->lsn >= status.confirmed_lsn)
			continue;
		ivm_consumer_list_forget(worker, consumer);
		(void) ivm_failure_rebuild(relid, &version, status.slot_is_new ?
								   "its replication slot was lost" :
								   "its replication slot is past its contents");
	}
	ivm_consumer_list_index(worker);
}

/* Looks at transactions that are new in the log. */
void
ivm_progress_scout(IvmApplyWorker *worker)
{
	IvmLogEnd	end;
	IvmLogTxn	txn;
	IvmLogRecord record;
	TimestampTz time;
	TimestampTz undecoded;

	if (ivm_decoder_state(worker->capture) != IVM_DECODER_RUNNING)
		return;
	worker->transactions = ivm_log_transactions(worker->capture);
	/* all that committed before this is decoded up to the end, or is not known to be */
	time = GetCurrentTimestamp();
	undecoded = ivm_undecoded_since(worker->capture);
	if (undecoded != 0)
		time = undecoded;
	end = ivm_log_end(worker->capture);
	if (end.incarnation != worker->incarnation)
	{
		worker->incarnation = end.incarnation;
		check_positions(worker);
		end = ivm_log_end(worker->capture);
		if (end.incarnation != worker->incarnation)
			return;
	}

	while (worker->scouted < end.sequence && ivm_log_next_txn(worker->scout, &txn))
	{
		Oid			last_relid = InvalidOid;
		IvmInterest *interest = NULL;

		while (ivm_log_next_record(worker->scout, &record))
		{
			ListCell   *cell;

			if (record.relid == last_relid)
			{
				if (interest != NULL && record.kind == IVM_LOG_ROW)
					worker->pending_bytes += record.tuple->t_len;
				continue;
			}
			last_relid = record.relid;
			ivm_ailing_touched(record.relid);
			interest = hash_search(worker->interest, &record.relid, HASH_FIND, NULL);
			if (interest == NULL)
				continue;
			foreach(cell, interest->consumers)
			{
				IvmConsumer *consumer = lfirst(cell);

				if (consumer->pending == 0 && !ivm_applied_contains(consumer->applied, txn.fxid))
				{
					consumer->pending = txn.sequence;
					consumer->pending_lsn = txn.commit_lsn;
					consumer->pending_time = txn.commit_time;
					consumer->pending_fxid = txn.fxid;
					consumer->pending_invisible = false;
				}
			}
		}
		worker->scouted = txn.sequence + 1;
		worker->read_time = Max(worker->read_time, txn.commit_time);
		CHECK_FOR_INTERRUPTS();
	}
	worker->scouted = Max(worker->scouted, end.sequence);
	worker->scouted_lsn = Max(worker->scouted_lsn, end.decoded_lsn);
	worker->scouted_time = Max(worker->scouted_time, time);
	ivm_cursor_advance(worker->scout, worker->scouted);
	tell_read(worker);
}

void
ivm_progress_give_up(IvmApplyWorker *worker)
{
	ListCell   *cell;
	bool		any = false;

	if (!ivm_log_is_over_limit(worker->capture))
		return;
	foreach(cell, list_copy(worker->consumers))
	{
		IvmConsumer *consumer = lfirst(cell);
		Oid			relid = consumer->relid;
		IvmRowVersion version = consumer->row_version;

		if (consumer->leaving || consumer->pending == 0 || !(consumer->behind || consumer->failures > 0 || consumer->level > 0))
			continue;
		ivm_consumer_list_forget(worker, consumer);
		(void) ivm_failure_rebuild(relid, &version, IVM_LOST_REASON);
		any = true;
	}
	if (any)
		ivm_consumer_list_index(worker);
}

/* Does it lack something for a reason of its own, that the others need not wait for? */
static bool
is_left_behind(IvmApplyWorker *worker, IvmConsumer *consumer)
{
	return consumer->pending != 0 && (consumer->behind || consumer->failures > 0 || consumer->level > 0 ||
									  ivm_pace_takes_turns(worker, consumer));
}

/*
 * What the statistics say of a consumer that is behind, or not any more.
 */
static void
report_behind(IvmApplyWorker *worker, IvmConsumer *consumer, bool behind)
{
	TimestampTz since = behind ? consumer->pending_time : 0;

	if (consumer->is_arrangement || consumer->leaving ||
		(consumer->behind_reported == behind && (!behind || consumer->reported_since == since)))
		return;
	/* what waits for it is not known before all was read */
	if (!behind && worker->scouted_lsn == InvalidXLogRecPtr)
		return;
	consumer->behind_reported = behind;
	consumer->reported_since = since;
	ivm_stats_view_behind(MyDatabaseId, consumer->relid, since);
	ivm_stats_view_state(MyDatabaseId, consumer->relid,
						 !behind ? "active" : consumer->level > 0 ? "slow" :
						 consumer->failures > 0 ? "retrying" :
						 consumer->behind ? "waiting for lock" : "active");
}

/* Commit time of the first transaction that waits to be applied, but to those that are reported apart; 0 if none does. */
static TimestampTz
oldest_pending(IvmApplyWorker *worker)
{
	TimestampTz oldest = 0;
	ListCell   *cell;

	foreach(cell, worker->consumers)
	{
		IvmConsumer *consumer = lfirst(cell);

		if (consumer->pending != 0 && !consumer->is_arrangement && !consumer->leaving &&
			!(consumer->behind_reported && is_left_behind(worker, consumer)) &&
			(oldest == 0 || consumer->pending_time < oldest))
			oldest = consumer->pending_time;
	}
	return oldest;
}

/*
 * Leaves for those who look (process/status.c) what was read, and what of it waits.  The order matters:
 * they look at the first thing here last.  Before the log was read from its beginning nothing is new.
 */
static void
tell_read(IvmApplyWorker *worker)
{
	IvmApplyShared *shared = worker->shared;

	if (worker->scouted_lsn == InvalidXLogRecPtr)
		return;
	pg_atomic_write_u64(&shared->oldest_pending, (uint64) oldest_pending(worker));
	pg_write_barrier();
	pg_atomic_write_u64(&shared->read_time, (uint64) worker->read_time);
	pg_atomic_write_u64(&shared->read_incarnation, worker->incarnation);
	pg_write_barrier();
	pg_atomic_write_u64(&shared->read_sequence, worker->scouted);
	ivm_lag_read(worker->capture, worker->number, worker->scouted);
}

/*
 * Lets the slot be confirmed up to what is stored with all consumers, as soon as
 * the commit that stored it is flushed.  Under load there is always a later one
 * that is not, so what waits for its flush is not replaced until it had it.
 * Returns true if something is left to be confirmed.
 */
static bool
confirm_stored(IvmApplyWorker *worker, XLogRecPtr stored)
{
	XLogRecPtr	flushed = GetFlushRecPtr(NULL);

	if (worker->unconfirmed != InvalidXLogRecPtr && worker->unconfirmed_end <= flushed)
	{
		ivm_cursor_confirm(worker->cursor, worker->unconfirmed);
		worker->unconfirmed = InvalidXLogRecPtr;
	}
	if (worker->commit_end <= flushed)
	{
		if (stored != InvalidXLogRecPtr)
			ivm_cursor_confirm(worker->cursor, stored);
		worker->unconfirmed = InvalidXLogRecPtr;
		return false;
	}
	if (worker->unconfirmed == InvalidXLogRecPtr)
	{
		worker->unconfirmed = stored;
		worker->unconfirmed_end = worker->commit_end;
	}
	return true;
}

/*
 * Tells how far this worker is: to the log, to the slot, to sessions that wait.
 * Returns true if something is left to be told when the last commit is flushed.
 */
bool
ivm_progress_publish(IvmApplyWorker *worker)
{
	uint64		first = worker->scouted;
	XLogRecPtr	position = worker->scouted_lsn;
	XLogRecPtr	confirm = worker->scouted_lsn;
	int			nbehind = 0;
	Oid			behind[IVM_MAX_BEHIND];
	XLogRecPtr	behind_position[IVM_MAX_BEHIND];
	uint64		behind_looked[IVM_MAX_BEHIND];
	uint64		all_looked = worker->looking;
	ListCell   *cell;
	bool		unflushed = false;
	bool		is_news = false;

	foreach(cell, worker->consumers)
	{
		IvmConsumer *consumer = lfirst(cell);
		XLogRecPtr	contained;
		uint64		looked = worker->looking;

		confirm = Min(confirm, consumer->applied->lsn);
		if (is_left_behind(worker, consumer))
			report_behind(worker, consumer, true);
		contained = worker->scouted_lsn;
		if (consumer->pending != 0)
		{
			first = Min(first, consumer->pending);
			contained = consumer->pending_lsn;
		}
		if (consumer->pending_invisible)
		{
			contained = consumer->complete_lsn;
			looked = Min(looked, consumer->complete_sync);
		}
		if ((consumer->compiled->stale || consumer->members_differ) && !consumer->leaving)
			contained = Min(contained, consumer->applied->lsn);
		else if (consumer->pending == 0)
			continue;
		if ((is_left_behind(worker, consumer) || consumer->compiled->stale ||
			 consumer->members_differ || consumer->pending_invisible) && nbehind < IVM_MAX_BEHIND)
		{
			behind[nbehind] = consumer->relid;
			behind_looked[nbehind] = looked;
			behind_position[nbehind++] = contained;
		}
		else
		{
			position = Min(position, contained);
			all_looked = Min(all_looked, looked);
		}
	}

	/* of what could not be loaded nothing is known, so all is kept */
	foreach(cell, worker->missing)
	{
		if (nbehind < IVM_MAX_BEHIND)
		{
			behind[nbehind] = lfirst_oid(cell);
			behind_looked[nbehind] = 0;
			behind_position[nbehind++] = InvalidXLogRecPtr;
		}
		else
			position = InvalidXLogRecPtr;
	}
	if (worker->cursor != NULL && worker->missing == NIL && worker->missing_left_at == 0)
	{
		ivm_cursor_advance(worker->cursor, first);
		unflushed = confirm_stored(worker, confirm);
	}

	if (position != pg_atomic_read_u64(&worker->shared->position) || nbehind != worker->shared->nbehind || nbehind > 0 ||
		all_looked != pg_atomic_read_u64(&worker->shared->looked))
	{
		LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
		worker->shared->nbehind = nbehind;
		memcpy(worker->shared->behind, behind, sizeof(Oid) * nbehind);
		memcpy(worker->shared->behind_position, behind_position, sizeof(XLogRecPtr) * nbehind);
		memcpy(worker->shared->behind_looked, behind_looked, sizeof(uint64) * nbehind);
		pg_atomic_write_u64(&worker->shared->position, position);
		pg_atomic_write_u64(&worker->shared->looked, all_looked);
		LWLockRelease(ivm_control->lock);
		is_news = true;
	}
	tell_read(worker);
	/* after that, so that what still waits for one is told at any time */
	foreach(cell, worker->consumers)
	{
		if (!is_left_behind(worker, lfirst(cell)))
			report_behind(worker, lfirst(cell), false);
	}
	/* whoever is woken sees all of it */
	if (is_news)
		ConditionVariableBroadcast(&ivm_control->changed);
	ivm_stats_worker_report(position, unflushed ? InvalidXLogRecPtr : confirm);
	return unflushed;
}

/*
 * Claims and locks one consumer whose position is to be stored, without waiting:
 * who drops or alters it has the one, who refreshes it has the other, until the
 * end of his transaction.
 */
static bool
lock_for_store(IvmConsumer *consumer)
{
	return ivm_claim(consumer->relid, false) && ConditionalLockRelationOid(consumer->relid, RowExclusiveLock);
}

/* The transaction of ivm_progress_store; palloc's in the current context. */
static void
store_positions(IvmApplyWorker *worker)
{
	MemoryContext old = CurrentMemoryContext;
	List	   *claimed = NIL;
	List	   *stored = NIL;
	ListCell   *cell;
	ListCell   *inner;

	StartTransactionCommand();
	replorigin_session_origin = DoNotReplicateId;
	MemoryContextSwitchTo(old);
	foreach(cell, worker->consumers)
	{
		IvmConsumer *consumer = lfirst(cell);

		if (!consumer->leaving && consumer->pending == 0 && !consumer->members_differ &&
			worker->scouted_lsn > consumer->applied->lsn + STORE_DISTANCE / 2 && lock_for_store(consumer))
			claimed = lappend(claimed, consumer);
	}
	/* after the claims: what is read is the last that was committed */
	PushActiveSnapshot(GetTransactionSnapshot());
	foreach(cell, claimed)
	{
		IvmConsumer *consumer = lfirst(cell);
		IvmAppliedSnapshot *applied = ivm_applied_get(consumer->relid, GetActiveSnapshot());

		if (applied != NULL && applied->lsn == consumer->applied->lsn)
		{
			applied->lsn = worker->scouted_lsn;
			applied->time = Max(applied->time, worker->scouted_time);
			ivm_applied_put(consumer->relid, applied, GetActiveSnapshot());
		}
		else
			applied = NULL;
		stored = lappend(stored, applied);
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(old);

	/* they may be confirmed from now on */
	forboth(cell, claimed, inner, stored)
	{
		IvmConsumer *consumer = lfirst(cell);
		IvmAppliedSnapshot *applied = lfirst(inner);

		if (applied != NULL)
		{
			consumer->applied->lsn = applied->lsn;
			consumer->applied->time = applied->time;
		}
	}
}

/*
 * Stores the position of consumers that nothing has happened to for long.  It is
 * only for the WAL that it keeps, so what goes wrong is tried again later.
 */
void
ivm_progress_store(IvmApplyWorker *worker)
{
	MemoryContext old = CurrentMemoryContext;
	TimestampTz now;
	ListCell   *cell;
	bool		any = false;

	foreach(cell, worker->consumers)
	{
		IvmConsumer *consumer = lfirst(cell);

		if (!consumer->leaving && consumer->pending == 0 && !consumer->members_differ &&
			worker->scouted_lsn > consumer->applied->lsn + STORE_DISTANCE)
			any = true;
	}
	now = any ? GetCurrentTimestamp() : 0;
	if (!any || worker->store_at > now)
		return;

	/* one that cannot be locked would have us come again at once */
	worker->store_at = TimestampTzPlusMilliseconds(now, STORE_INTERVAL);
	PG_TRY();
	{
		store_positions(worker);
		worker->commit_end = Max(worker->commit_end, XactLastCommitEnd);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(old);
		ivm_failure_save(IVM_CANCEL_NONE);
		ivm_failure_forget();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
}
