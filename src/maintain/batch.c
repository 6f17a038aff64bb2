/*-------------------------------------------------------------------------
 *
 * batch.c
 *	  One batch: a transaction that brings some consumers to a new snapshot.
 *
 * The order of the steps is what makes a batch right:
 *
 *	1.	Claim every consumer.  Two processes can then never apply to one, even
 *		if one is a leftover that does not know of its successor.
 *	2.	Lock views, tables and indexes, without waiting: whoever waits behind us
 *		for a stronger lock would wait for our decoder wait, too.  Locks come
 *		before the snapshot: a TRUNCATE or a rewrite that slipped in between
 *		would make the snapshot see an empty table.
 *	3.	Accept invalidations: what the plans were compiled from is now fixed.
 *	4.	Take the snapshot S.
 *	5.	Wait until the decoder has passed the end of the WAL as of now: each
 *		transaction that S sees has its commit record before that.  If it does
 *		not get there in a tenth of a second let everything go.
 *	6.	Of every decoded transaction that S sees and the consumer's applied
 *		snapshot does not, push the rows.  One that S does not see yet stays
 *		pending.
 *	7.	Finish the dataflow, write the output, store S.  Commit.
 *
 * The applied snapshot is read under S, after the claim, so it is the last one
 * committed.  Tables are read under a copy of S that sees, in addition, what
 * this transaction has written itself.
 *
 * Whatever evaluates expressions of a view does so as its owner and under the
 * view's settings; consumers are therefore served in groups of one identity,
 * with one pass over the log for each.
 *
 * Memory: palloc in the batch context, rows in the batch arena; both are reset
 * at the end.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/index.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "replication/origin.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "apply/apply.h"
#include "arrange/arrange.h"
#include "base/debug_point.h"
#include "base/in_hand.h"
#include "maintain/apply_worker.h"
#include "maintain/members.h"
#include "maintain/rest.h"
#include "maintain/trial.h"
#include "process/process.h"
#include "zset/row.h"

#define DECODER_PATIENCE	100 /* ms */

static uint64 batch_number = 0;

/* Context of errors in a batch. */
typedef struct BatchErrorContext
{
	IvmConsumer *consumer;
	XLogRecPtr	lsn;
} BatchErrorContext;

static void
batch_error_callback(void *argument)
{
	BatchErrorContext *context = argument;

	if (context->consumer == NULL)
		return;
	errcontext("applying changes up to %X/%X to incremental view with OID %u",
			   LSN_FORMAT_ARGS(context->lsn), context->consumer->relid);
}

static TupleTableSlot *
interest_row(IvmInterest *interest)
{
	if (interest->row_batch != batch_number)
	{
		Relation	relation = table_open(interest->relid, NoLock);

		interest->row = MakeSingleTupleTableSlot(CreateTupleDescCopyConstr(RelationGetDescr(relation)),
												 &TTSOpsMinimalTuple);
		interest->row->tts_tableOid = interest->relid;
		interest->row_batch = batch_number;
		interest->layout_natts = -1;
		table_close(relation, NoLock);
	}
	return interest->row;
}

/*
 * Can the row be read with the table's present columns?  One that was retyped
 * since may have values in old rows all the same: some view needed it once.
 */
static bool
row_is_readable(IvmInterest *interest, const IvmLogRecord *record)
{
	TupleDesc	desc = interest_row(interest)->tts_tupleDescriptor;
	int			natts = HeapTupleHeaderGetNatts(record->tuple);

	if (natts > desc->natts)
		return false;
	if (natts != interest->layout_natts)
	{
		interest->layout = ivm_row_layout(desc, natts);
		interest->layout_natts = natts;
	}
	return interest->layout == record->layout;
}

/*
 * Begins to watch what the consumers do.  They are the ones that have been locked: what each
 * writes comes first.
 */
static void
begin_watch(IvmApplyWorker *worker, List *consumers)
{
	List	   *written = NIL;
	List	   *read = NIL;
	ListCell   *cell;
	Oid		   *relids;
	int			n = 0;

	foreach(cell, consumers)
	{
		IvmConsumer *consumer = lfirst(cell);

		ivm_pace_watch(worker, &consumer->watch, consumer->relid, consumer->compiled->owner, consumer->cancels);
		written = list_concat(lappend_oid(written, consumer->relid), consumer->own);
		read = list_concat(read, consumer->compiled->relids);
	}
	relids = palloc(sizeof(Oid) * (list_length(written) + list_length(read)));
	foreach(cell, written)
		relids[n++] = lfirst_oid(cell);
	foreach(cell, read)
		relids[n++] = lfirst_oid(cell);
	ivm_guard_begin(relids, n, list_length(written));
}

/* One record of a transaction, for one consumer. */
static void
consume(IvmConsumer *consumer, IvmInterest *interest, const IvmLogTxn *txn, bool visible,
		const IvmLogRecord *record)
{
	if (consumer->txn_sequence != txn->sequence)
	{
		consumer->txn_sequence = txn->sequence;
		consumer->txn_contained = ivm_applied_contains(consumer->applied, txn->fxid);
		if (!consumer->txn_contained && !visible && consumer->next_pending == 0)
		{
			consumer->next_pending = txn->sequence;
			consumer->next_pending_lsn = txn->commit_lsn;
			consumer->next_pending_time = txn->commit_time;
			consumer->next_pending_fxid = txn->fxid;
		}
	}
	if (consumer->txn_contained || !visible || ivm_members_skip(consumer, record->relid))
		return;
	if (record->kind != IVM_LOG_ROW || !row_is_readable(interest, record))
	{
		consumer->truncated = true;
		consumer->truncated_reason = record->kind == IVM_LOG_LOST ? IVM_LOST_REASON : IVM_TRUNCATED_REASON;
		return;
	}
	consumer->changes++;
	if (!consumer->truncated)
	{
		TupleTableSlot *row = interest_row(interest);

		ivm_guard_enter(&consumer->watch);
		ExecStoreMinimalTuple(record->tuple, row, false);
		if (!ivm_members_push_change(consumer, record->relid, row, record->weight))
			ivm_dataflow_push(consumer->dataflow, record->relid, row, record->weight);
		ExecClearTuple(row);
	}
}

/* The first transaction that some consumer of the pass is known to need; 0 if none is. */
static uint64
first_needed(IvmApplyWorker *worker)
{
	uint64		result = 0;
	ListCell   *cell;

	foreach(cell, worker->consumers)
	{
		IvmConsumer *consumer = lfirst(cell);

		if (consumer->in_batch && consumer->pending != 0 && (result == 0 || consumer->pending < result))
			result = consumer->pending;
	}
	return result;
}

/*
 * Reads the log from the first transaction that anybody needs to "end", and
 * pushes what the marked consumers take.  A log that begins later than that is an error, which leads to
 * rebuilds: without it the changes would be missing for ever, and nobody would know.
 */
static void
read_log(IvmApplyWorker *worker, Snapshot snapshot, IvmLogEnd end)
{
	IvmLogTxn	txn;
	IvmLogRecord record;
	IvmInterest *interest = NULL;
	Oid			last_relid = InvalidOid;
	uint64		needed = first_needed(worker);

	if (!ivm_log_rewind(worker->cursor))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("the delta log was begun anew during a batch")));

	while (ivm_log_next_txn(worker->cursor, &txn))
	{
		bool		visible;

		CHECK_FOR_INTERRUPTS();
		if (needed != 0 && txn.sequence > needed)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("the delta log lacks transactions that are needed"),
					 errdetail_internal("It was read from transaction " UINT64_FORMAT " on, and " UINT64_FORMAT " is the first that waits.",
										txn.sequence, needed)));
		needed = 0;
		if (txn.sequence >= end.sequence)
			break;
		visible = !XidInMVCCSnapshot((TransactionId) txn.fxid, snapshot);
		while (ivm_log_next_record(worker->cursor, &record))
		{
			ListCell   *cell;

			if (record.relid != last_relid)
			{
				interest = hash_search(worker->interest, &record.relid, HASH_FIND, NULL);
				last_relid = record.relid;
			}
			if (interest == NULL)
				continue;
			foreach(cell, interest->consumers)
			{
				IvmConsumer *consumer = lfirst(cell);

				if (consumer->in_batch)
					consume(consumer, interest, &txn, visible, &record);
			}
			ivm_guard_enter(NULL);
			CHECK_FOR_INTERRUPTS();
		}
	}
}

static bool
same_identity(IvmConsumer *a, IvmConsumer *b)
{
	return a->compiled->owner == b->compiled->owner && equal(a->compiled->settings, b->compiled->settings);
}

/* Pushes the log into all consumers, one pass for each identity. */
static void
push_changes(IvmApplyWorker *worker, List *consumers, Snapshot snapshot, IvmLogEnd end)
{
	List	   *left = list_copy(consumers);

	while (left != NIL)
	{
		IvmConsumer *first = linitial(left);
		IvmIdentity saved;
		ListCell   *cell;

		foreach(cell, left)
		{
			IvmConsumer *consumer = lfirst(cell);

			consumer->in_batch = same_identity(first, consumer);
		}
		ivm_identity_enter(&saved, first->compiled->owner, first->compiled->settings);
		read_log(worker, snapshot, end);
		ivm_identity_leave(&saved);
		foreach(cell, left)
		{
			IvmConsumer *consumer = lfirst(cell);

			if (consumer->in_batch)
				left = foreach_delete_current(left, cell);
			consumer->in_batch = false;
		}
	}
}

/* S is stored: whoever verifies the view can read it. */
static void
answer_verifications(IvmConsumer *consumer)
{
	ListCell   *cell;

	if (consumer->verify == NIL)
		return;
	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	foreach(cell, consumer->verify)
	{
		IvmVerification *verification = lfirst(cell);
		IvmRequest *request = verification->request;

		/* whoever asked may have gone, and another come */
		if (request->kind != IVM_REQUEST_FREE && request->number == verification->number)
			request->status = IVM_REQUEST_DONE;
	}
	LWLockRelease(ivm_control->lock);
	list_free_deep(consumer->verify);
	consumer->verify = NIL;
	ConditionVariableBroadcast(&ivm_control->changed);
}

/* Brings one consumer to S. */
static void
apply_consumer(IvmConsumer *consumer, Snapshot snapshot, XLogRecPtr lsn)
{
	IvmIdentity saved;
	instr_time	start;
	instr_time	duration;
	IvmApplyCounts counts = {0};
	uint64		recomputes = ivm_dataflow_recomputes(consumer->dataflow);
	MemoryContext old;

	INSTR_TIME_SET_CURRENT(start);
	if (consumer->truncated)
	{
		ivm_metadata_set_state(consumer->relid, IVM_STATE_REBUILD, consumer->truncated_reason);
		return;
	}

	if (consumer->members_differ)
	{
		ivm_identity_enter(&saved, consumer->compiled->owner, consumer->compiled->settings);
		consumer->changes += ivm_members_push(consumer, snapshot);
		ivm_identity_leave(&saved);
	}
	if (consumer->changes > 0)
	{
		IvmZset    *delta;

		ivm_identity_enter(&saved, consumer->compiled->owner, consumer->compiled->settings);
		delta = ivm_dataflow_finish(consumer->dataflow);
		if (consumer->is_arrangement)
			ivm_arrangement_apply(consumer->arrangement, consumer->relid, delta, snapshot, false);
		else
		{
			Relation	view = table_open(consumer->relid, NoLock);

			ivm_view_apply(view, consumer->compiled->plan, delta, snapshot, &counts);
			table_close(view, NoLock);
		}
		ivm_identity_leave(&saved);
		CommandCounterIncrement();
		consumer->operators_changed = true;
		if (TimestampDifferenceExceeds(consumer->operators_measured, GetCurrentTimestamp(),
									   IVM_OPERATOR_REPORT_MS))
		{
			ivm_dataflow_measure(consumer->dataflow);
			consumer->operators_measured = GetCurrentTimestamp();
		}
	}

	old = MemoryContextSwitchTo(consumer->context);
	consumer->next_applied = ivm_applied_from_snapshot(snapshot,
													   consumer->next_pending != 0 ? Min(lsn, consumer->next_pending_lsn) : lsn);
	MemoryContextSwitchTo(old);
	consumer->report.applied_lsn = consumer->next_applied->lsn;
	if (consumer->changes > 0 || (consumer->pending != 0 && consumer->next_pending == 0) ||
		consumer->members_differ || consumer->verify != NIL)
	{
		if (consumer->members_differ)
			ivm_members_store(consumer);
		ivm_applied_put(consumer->relid, consumer->next_applied, snapshot);
		CommandCounterIncrement();
	}
	else
	{
		/* nothing came: what is stored stays as it is */
		pfree(consumer->next_applied);
		consumer->next_applied = NULL;
	}

	INSTR_TIME_SET_CURRENT(duration);
	INSTR_TIME_SUBTRACT(duration, start);
	consumer->report.changes_received = consumer->changes;
	consumer->report.inserted = counts.inserted;
	consumer->report.updated = counts.updated;
	consumer->report.deleted = counts.deleted;
	consumer->report.recomputes = ivm_dataflow_recomputes(consumer->dataflow) - recomputes;
	consumer->report.apply_time = INSTR_TIME_GET_MILLISEC(duration);
}

/* After the commit: what the consumers are now. */
static void
batch_committed(IvmApplyWorker *worker, List *consumers, XLogRecPtr decoded_lsn)
{
	ListCell   *cell;
	bool		reindex = false;

	worker->batch_changes = 0;
	worker->pending_bytes = 0;

	foreach(cell, consumers)
	{
		IvmConsumer *consumer = lfirst(cell);

		worker->batch_changes = Max(worker->batch_changes, consumer->changes);
		if (consumer->truncated)
			continue;
		if (consumer->next_applied != NULL)
		{
			pfree(consumer->applied);
			consumer->applied = consumer->next_applied;
			consumer->next_applied = NULL;
		}
		if (consumer->members_differ)
		{
			reindex |= consumer->left != NIL;
			ivm_members_committed(consumer);
		}
		consumer->pending = consumer->next_pending;
		consumer->pending_lsn = consumer->next_pending_lsn;
		consumer->pending_time = consumer->next_pending_time;
		consumer->pending_fxid = consumer->next_pending_fxid;
		consumer->pending_invisible = consumer->pending != 0;
		consumer->complete_lsn = decoded_lsn;
		consumer->complete_sync = worker->batch_sync;
		consumer->failures = 0;
		ivm_rest_use(consumer);
		answer_verifications(consumer);
		if (!consumer->is_arrangement)
			ivm_stats_view_batch(MyDatabaseId, consumer->relid, &consumer->report);
	}
	if (reindex)
		ivm_consumer_list_index(worker);
}

/* Ends a batch before it has begun. */
static IvmBatchResult
give_up(IvmApplyWorker *worker, MemoryContext old, IvmBatchResult result)
{
	MemoryContextSwitchTo(old);
	AbortCurrentTransaction();
	MemoryContextReset(worker->batch_context);
	return result;
}

IvmBatchResult
ivm_batch_run(IvmApplyWorker *worker, List *consumers)
{
	Snapshot	snapshot;
	XLogRecPtr	target;
	IvmLogEnd	end;
	ListCell   *cell;
	List	   *locked;
	MemoryContext old;
	Oid			culprit;
	BatchErrorContext error_context = {NULL, InvalidXLogRecPtr};
	ErrorContextCallback callback;

	ivm_debug_point("apply-begin");
	batch_number++;
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	XactIsoLevel = XACT_REPEATABLE_READ;
	replorigin_session_origin = DoNotReplicateId;
	old = MemoryContextSwitchTo(worker->batch_context);

	locked = ivm_batch_lock(worker, consumers);
	AcceptInvalidationMessages();
	foreach(cell, locked)
	{
		IvmConsumer *consumer = lfirst(cell);

		if (!ivm_compiled_is_current(consumer->compiled))
			return give_up(worker, old, IVM_BATCH_STALE);
	}
	ivm_debug_point("apply-locked");

	worker->batch_sync = pg_atomic_read_u64(&worker->control->syncs);
	pg_memory_barrier();
	snapshot = GetTransactionSnapshot();
	PushCopiedSnapshot(snapshot);
	snapshot = GetActiveSnapshot();
	snapshot->curcid = InvalidCommandId - 1;	/* all that this transaction
												 * writes */
	target = ivm_wal_end();
	ivm_debug_point("apply-snapshot");
	ivm_stats_worker_state("waiting for decoder");
	if (locked == NIL)
		return give_up(worker, old, IVM_BATCH_DONE);
	if (!ivm_decoder_wait(worker->capture, target, DECODER_PATIENCE))
		return give_up(worker, old, IVM_BATCH_DECODER_LATE);
	end = ivm_log_end(worker->capture);
	if (end.incarnation != worker->incarnation)
		return give_up(worker, old, IVM_BATCH_STALE);	/* what is known to wait has its
														 * numbers from another log */
	ivm_stats_worker_state("applying");
	begin_watch(worker, locked);
	error_context.lsn = end.decoded_lsn;

	callback.callback = batch_error_callback;
	callback.arg = &error_context;
	callback.previous = error_context_stack;
	error_context_stack = &callback;

	foreach(cell, locked)
	{
		IvmConsumer *consumer = lfirst(cell);
		IvmAppliedSnapshot *applied;

		MemoryContextSwitchTo(consumer->context);
		applied = ivm_applied_get(consumer->relid, snapshot);
		MemoryContextSwitchTo(worker->batch_context);
		if (applied == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("incremental view with OID %u has no applied snapshot", consumer->relid)));
		ivm_consumer_read_applied(consumer, applied);
		consumer->changes = 0;
		consumer->truncated = false;
		consumer->txn_sequence = 0;
		consumer->next_pending = 0;
		consumer->next_pending_lsn = InvalidXLogRecPtr;
		consumer->next_pending_time = 0;
		memset(&consumer->report, 0, sizeof(consumer->report));
		ivm_guard_enter(&consumer->watch);
		ivm_dataflow_begin(consumer->dataflow, snapshot, worker->arena, false);
		ivm_guard_enter(NULL);
	}

	/* from here on it is the views' doing what happens */
	ivm_trial_begin(locked);
	push_changes(worker, locked, snapshot, end);
	ivm_debug_point("apply-before");
	foreach(cell, locked)
	{
		error_context.consumer = lfirst(cell);
		ivm_guard_enter(&error_context.consumer->watch);
		ivm_in_hand_only(error_context.consumer->is_arrangement ? InvalidOid : error_context.consumer->relid);
		apply_consumer(error_context.consumer, snapshot, end.decoded_lsn);
		ivm_dataflow_end(error_context.consumer->dataflow);
		ivm_guard_enter(NULL);
	}
	error_context.consumer = NULL;
	ivm_in_hand_only(InvalidOid);
	ivm_debug_point("apply-after");

	error_context_stack = callback.previous;
	MemoryContextSwitchTo(old);
	PopActiveSnapshot();
	(void) ivm_guard_end(&culprit);	/* that would be too late now */
	CommitTransactionCommand();
	ivm_process_release_locks();
	ivm_trial_committed(locked);
	ivm_debug_point("apply-committed");

	worker->commit_end = Max(worker->commit_end, XactLastCommitEnd);
	worker->last_batch = GetCurrentTimestamp();
	batch_committed(worker, locked, end.decoded_lsn);
	ivm_pace_measure(worker, locked);
	ivm_arena_reset(worker->arena);
	MemoryContextReset(worker->batch_context);
	pgstat_report_stat(true);
	return IVM_BATCH_DONE;
}

void
ivm_batch_abort(IvmApplyWorker *worker, List *consumers)
{
	ListCell   *cell;

	ivm_in_hand_end();
	foreach(cell, consumers)
	{
		IvmConsumer *consumer = lfirst(cell);

		consumer->in_batch = false;
		consumer->truncated = false;	/* its state was not stored */
		if (consumer->dataflow != NULL)
			ivm_dataflow_abort(consumer->dataflow);
		if (consumer->next_applied != NULL)
		{
			pfree(consumer->next_applied);
			consumer->next_applied = NULL;
		}
	}
	ivm_arena_reset(worker->arena);
	MemoryContextReset(worker->batch_context);
}
