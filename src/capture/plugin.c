/*-------------------------------------------------------------------------
 *
 * plugin.c
 *	  The output plugin: changes of tracked tables become rows of the log.
 *
 * It is called by logical decoding in the decoder, once for every change, with the table as it was then (the
 * historic snapshot): when a transaction has committed, or, if that does not fit the decoder's share of memory, while it is
 * still open (decoder_memory.c chooses the moment).  An update is its old row with weight -1 and its new one with
 * weight +1; where no needed column changed they cancel, and nothing is
 * written.  A transaction without anything to write leaves no trace in the log.
 *
 * Tables have replica identity FULL, so that the old row is complete in the
 * WAL, toasted values included; an unchanged toasted value is missing in the
 * new row and taken from the old.  Where a change cannot be represented (the
 * identity is another, a row is larger than memory can hold in one piece), a
 * record of kind truncate says that the table has changed in an unknown
 * way, and its readers rebuild.
 *
 * Open transactions.  Their rows are held (held.c) with the id of the subtransaction that each is of.  At the
 * commit those of the top level and of the subtransactions that PostgreSQL still knows go to the log: it forgets a
 * subtransaction that is rolled back.  That it also tells of that is not relied on, since it does not when
 * everything of the subtransaction had gone through one of its own files; being told is a chance to free what
 * comes after the subtransaction's first row, which is its own, or its children's.
 *
 * When an open transaction aborts, a look at a catalog raises an error, the rest of the run is left out, and
 * decoding goes on in this process.  So everything is looked up before the first byte is written, nothing is left
 * half-made, and no error of ours has that code.  A transaction that was open when the decoder started comes
 * in the old way, whole, when it has committed.
 *
 * Nobody but our decoder may use the plugin: it keeps what views need, not
 * what a replication user may see.
 *
 * Memory: a row, in a context that is reset for each change.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "access/transam.h"
#include "replication/logical.h"
#include "replication/origin.h"
#include "replication/output_plugin.h"
#include "replication/reorderbuffer.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"

#include "base/compat.h"
#include "base/debug_point.h"
#include "capture/capture_internal.h"
#include "zset/row.h"

/* A row whose values take more than this together is not even tried. */
#define MAX_ROW_SIZE	((Size) MaxAllocSize - 1024 * 1024)

static IvmDatabase *database;	/* NULL: this process is not a decoder */
static MemoryContext change_context;

/* The transaction being decoded. */
static uint64 transactions;		/* counts them, and what is told of them at a time */
static bool txn_is_begun;		/* in the log */

/* It is open yet. */
static IvmHeld *held;			/* NULL: it is not */
static TransactionId change_xid;	/* whose change it is */

/* This process becomes the decoder of the database. */
void
ivm_plugin_start(IvmDatabase *db)
{
	Assert(database == NULL);
	change_context = AllocSetContextCreate(TopMemoryContext, "ivm change",
										   ALLOCSET_DEFAULT_SIZES);
	ivm_tracked_start();
	ivm_held_start(db);
	database = db;
}

/*
 * Rows
 */

/* The transaction's 64-bit id. */
static uint64
full_xid(TransactionId xid)
{
	FullTransactionId next = ReadNextFullTransactionId();
	uint32		epoch = EpochFromFullTransactionId(next);

	if (xid > XidFromFullTransactionId(next))
		epoch--;
	return ((uint64) epoch << 32) | xid;
}

static IvmLogTxn
as_logged(ReorderBufferTXN *txn)
{
	IvmLogTxn	result = {
		.fxid = full_xid(txn->xid),
		.commit_lsn = txn->final_lsn,
		.end_lsn = txn->end_lsn,
		.commit_time = txn->xact_time.commit_time
	};

	return result;
}

/* Something of the transaction will be written: begins it in the log if that was not done. */
static void
need_txn(ReorderBufferTXN *txn)
{
	if (!txn_is_begun)
	{
		IvmLogTxn	begin = as_logged(txn);

		ivm_log_append_begin(&begin);
		txn_is_begun = true;
	}
}

/* A change of the relation could not be taken up. */
static void
log_lost_change(ReorderBufferTXN *txn, IvmTracked *entry)
{
	if (held != NULL)
		ivm_held_lose(held, entry->relid);
	else if (entry->unknown_in != transactions)
	{
		entry->unknown_in = transactions;
		need_txn(txn);
		ivm_log_append_lost(entry->relid);
	}
}

/* The relation was truncated. */
static void
log_truncate(ReorderBufferTXN *txn, IvmTracked *entry)
{
	if (held != NULL)
	{
		if (!ivm_held_append(held, change_xid, IVM_RECORD_TRUNCATE, entry->relid, 0, NULL, 0))
			ivm_held_lose(held, entry->relid);
	}
	else
	{
		need_txn(txn);
		ivm_log_append_truncate(entry->relid);
	}
}

/* The relation changed in a way that cannot be told. */
static void
log_unknown_change(ReorderBufferTXN *txn, IvmTracked *entry)
{
	if (entry->unknown_in == transactions)
		return;
	entry->unknown_in = transactions;
	log_truncate(txn, entry);
}

static void
log_row(ReorderBufferTXN *txn, IvmTracked *entry, bool insert, MinimalTuple row)
{
	if (held != NULL)
	{
		if (!ivm_held_append(held, change_xid, insert ? IVM_RECORD_INSERT : IVM_RECORD_DELETE, entry->relid,
							 entry->layout, row, row->t_len))
			ivm_held_lose(held, entry->relid);
		return;
	}
	need_txn(txn);
	if (!ivm_log_append_row(entry->relid, insert, entry->layout, row))
		log_lost_change(txn, entry);
}

/*
 * Takes a tuple apart, with the columns nobody needs set to NULL.  Values that
 * are missing because they did not change come from "old".  Returns false if
 * one cannot be had, or if all together are too large.
 */
static bool
deform(IvmTracked *entry, TupleDesc desc, HeapTuple tuple, Datum *values, bool *nulls,
	   Datum *old_values, bool *old_nulls)
{
	Size		size = 0;

	heap_deform_tuple(tuple, desc, values, nulls);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		if (attribute->attisdropped || !(entry->all || bms_is_member(i + 1, entry->attributes)))
		{
			nulls[i] = true;
			continue;
		}
		if (nulls[i] || attribute->attlen != -1)
			continue;
		if (VARATT_IS_EXTERNAL_INDIRECT(DatumGetPointer(values[i])))
		{
			/* put together again by logical decoding: no copy of it is needed */
			struct varatt_indirect redirect;

			VARATT_EXTERNAL_GET_POINTER(redirect, DatumGetPointer(values[i]));
			values[i] = PointerGetDatum(redirect.pointer);
		}
		if (VARATT_IS_EXTERNAL_ONDISK(DatumGetPointer(values[i])))
		{
			if (old_values == NULL || old_nulls[i])
				return false;
			values[i] = old_values[i];
			if (VARATT_IS_EXTERNAL_ONDISK(DatumGetPointer(values[i])))
				return false;
		}
		size += VARATT_IS_EXTENDED(DatumGetPointer(values[i])) ?
			toast_raw_datum_size(values[i]) : VARSIZE(DatumGetPointer(values[i]));
	}
	return size <= MAX_ROW_SIZE;
}

static void
change(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, Relation relation,
	   ReorderBufferChange *change)
{
	IvmTracked *entry;
	TupleDesc	desc = RelationGetDescr(relation);
	ReorderBufferTupleBuf *old_tuple = change->data.tp.oldtuple;
	ReorderBufferTupleBuf *new_tuple = change->data.tp.newtuple;
	MinimalTuple old_row = NULL;
	MinimalTuple new_row = NULL;
	Datum	   *old_values = NULL;
	bool	   *old_nulls = NULL;
	MemoryContext old_context;

	old_context = MemoryContextSwitchTo(change_context);
	entry = ivm_tracked_get(relation);
	/* from here on nothing is looked up any more */
	if (held != NULL && ivm_held_is_lost(ivm_held_touch(held, entry->relid, entry->ancestors)))
		goto done;
	if (!entry->tracked)
		goto done;
	if (ivm_log_is_over())
	{
		log_lost_change(txn, entry);
		goto done;
	}
	if (change->action != REORDER_BUFFER_CHANGE_INSERT)
	{
		if (old_tuple == NULL || relation->rd_rel->relreplident != REPLICA_IDENTITY_FULL)
			goto unknown;
		old_values = palloc(desc->natts * sizeof(Datum));
		old_nulls = palloc(desc->natts * sizeof(bool));
		if (!deform(entry, desc, &old_tuple->tuple, old_values, old_nulls, NULL, NULL))
			goto unknown;
		old_row = ivm_row_form_values(desc, old_values, old_nulls);
	}
	if (change->action != REORDER_BUFFER_CHANGE_DELETE)
	{
		Datum	   *values = palloc(desc->natts * sizeof(Datum));
		bool	   *nulls = palloc(desc->natts * sizeof(bool));

		if (new_tuple == NULL ||
			!deform(entry, desc, &new_tuple->tuple, values, nulls, old_values, old_nulls))
			goto unknown;
		new_row = ivm_row_form_values(desc, values, nulls);
	}

	if (old_row == NULL || new_row == NULL || entry->every_change ||
		!ivm_row_image_equal(old_row, new_row))
	{
		if (old_row != NULL)
			log_row(txn, entry, false, old_row);
		if (new_row != NULL)
			log_row(txn, entry, true, new_row);
	}
	goto done;

unknown:
	log_unknown_change(txn, entry);
done:
	MemoryContextSwitchTo(old_context);
	MemoryContextReset(change_context);
}

static void
table_truncated(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, int nrelations,
				Relation changed[], ReorderBufferChange *change)
{
	MemoryContext old_context = MemoryContextSwitchTo(change_context);
	IvmTracked **entries = palloc(nrelations * sizeof(IvmTracked *));

	for (int i = 0; i < nrelations; i++)
		entries[i] = ivm_tracked_get(changed[i]);
	for (int i = 0; i < nrelations; i++)
	{
		if (held != NULL)
			(void) ivm_held_touch(held, entries[i]->relid, entries[i]->ancestors);
		if (entries[i]->tracked)
			log_truncate(txn, entries[i]);
	}
	MemoryContextSwitchTo(old_context);
	MemoryContextReset(change_context);
}

static void
begin(LogicalDecodingContext *ctx, ReorderBufferTXN *txn)
{
	ivm_tracked_trim();
	transactions++;
	txn_is_begun = false;
	ivm_log_next_transaction();
}

/* What is done when a transaction has committed, whether anything of it is in the log or not. */
static void
committed(ReorderBufferTXN *txn)
{
	ivm_decoder_committed(txn->xid, txn->xact_time.commit_time);
	if (!txn_is_begun)
		return;
	ivm_log_publish(txn->xact_time.commit_time);
	txn_is_begun = false;
	ivm_decoder_has_rows();
	ivm_debug_point("decoder-after-decode");
}

static void
commit(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, XLogRecPtr commit_lsn)
{
	committed(txn);
}

/*
 * Transactions that are open
 */

static void
stream_start(LogicalDecodingContext *ctx, ReorderBufferTXN *txn)
{
	ivm_tracked_trim();
	if (txn->output_plugin_private == NULL)
		txn->output_plugin_private = ivm_held_make(txn->xid);
	held = txn->output_plugin_private;
	change_xid = InvalidTransactionId;
	ivm_debug_point("decoder-in-open-transaction");
}

static void
stream_stop(LogicalDecodingContext *ctx, ReorderBufferTXN *txn)
{
	held = NULL;
}

/* Whose change it is, and where the first one of his is held. */
static void
note_subtransaction(ReorderBufferTXN *txn)
{
	if (txn->xid != change_xid)
	{
		change_xid = txn->xid;
		transactions++;
	}
	if (rbtxn_is_known_subxact(txn) && txn->output_plugin_private == NULL)
		txn->output_plugin_private = (void *) (uintptr_t) (ivm_held_position(held) + 1);
}

static void
stream_change(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, Relation relation,
			  ReorderBufferChange *what)
{
	note_subtransaction(what->txn);
	change(ctx, txn, relation, what);
}

static void
stream_truncate(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, int nrelations,
				Relation changed[], ReorderBufferChange *what)
{
	note_subtransaction(what->txn);
	table_truncated(ctx, txn, nrelations, changed, what);
}

/* A transaction, or a subtransaction, is over and was not committed. */
static void
stream_abort(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, XLogRecPtr abort_lsn)
{
	ReorderBufferTXN *top = rbtxn_toptxn_compat(txn);
	uintptr_t	first = (uintptr_t) txn->output_plugin_private;

	if (top->output_plugin_private == NULL)
		return;
	if (top == txn)
	{
		ivm_held_drop(top->output_plugin_private);
		top->output_plugin_private = NULL;
	}
	else if (first != 0)
		ivm_held_truncate(top->output_plugin_private, first - 1);
}

/* The subtransactions that did not abort. */
static TransactionId *
surviving_subtransactions(ReorderBufferTXN *txn, int *count)
{
	TransactionId *result;
	dlist_iter	iter;

	*count = 0;
	dlist_foreach(iter, &txn->subtxns)
		(*count)++;
	result = palloc_extended(Max(1, *count) * sizeof(TransactionId), MCXT_ALLOC_HUGE);
	*count = 0;
	dlist_foreach(iter, &txn->subtxns)
		result[(*count)++] = dlist_container(ReorderBufferTXN, node, iter.cur)->xid;
	return result;
}

/* Called outside of any transaction of the server's own. */
static void
stream_commit(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, XLogRecPtr commit_lsn)
{
	MemoryContext old_context = MemoryContextSwitchTo(change_context);
	ResourceOwner old_owner = CurrentResourceOwner;
	IvmHeld    *its = txn->output_plugin_private;

	CurrentResourceOwner = ivm_decoder_owner();
	txn_is_begun = false;
	ivm_log_next_transaction();
	if (its != NULL)
	{
		int			count;
		TransactionId *survivors = surviving_subtransactions(txn, &count);
		IvmLogTxn	begin = as_logged(txn);

		txn_is_begun = ivm_held_hand_over(its, survivors, count, &begin);
		ivm_held_drop(its);
		txn->output_plugin_private = NULL;
	}
	committed(txn);
	CurrentResourceOwner = old_owner;
	MemoryContextSwitchTo(old_context);
	MemoryContextReset(change_context);
}

/* What our workers write into views and state tables is marked so. */
static bool
filter_by_origin(LogicalDecodingContext *ctx, RepOriginId origin)
{
	return origin == DoNotReplicateId;
}

static void
startup(LogicalDecodingContext *ctx, OutputPluginOptions *options, bool is_init)
{
	options->output_type = OUTPUT_PLUGIN_BINARY_OUTPUT;
	options->receive_rewrites = false;
}

void
_PG_output_plugin_init(OutputPluginCallbacks *callbacks)
{
	if (database == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("output plugin \"ivm_ext\" can only be used by the decoder of incremental views"),
				 errhint("Use another output plugin.")));

	callbacks->startup_cb = startup;
	callbacks->begin_cb = begin;
	callbacks->change_cb = change;
	callbacks->truncate_cb = table_truncated;
	callbacks->commit_cb = commit;
	callbacks->filter_by_origin_cb = filter_by_origin;
	callbacks->stream_start_cb = stream_start;
	callbacks->stream_stop_cb = stream_stop;
	callbacks->stream_change_cb = stream_change;
	callbacks->stream_truncate_cb = stream_truncate;
	callbacks->stream_abort_cb = stream_abort;
	callbacks->stream_commit_cb = stream_commit;
}
