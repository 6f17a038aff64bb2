/*-------------------------------------------------------------------------
 *
 * insert_buffer.c
 *	  Inserting many rows into a relation of ours, a page at a time.
 *
 * Rows are collected and given to the table access method together, which
 * then locks a page and writes WAL once for all rows that fit on it.  Index
 * entries follow row by row, since a unique index has to check each.
 *
 * Our relations have no triggers, constraints, generated columns or row security, so
 * nothing else happens when a row is inserted.
 *
 * Memory: at most IVM_INSERT_BUFFER_ROWS rows, or the row that made it pass
 * IVM_INSERT_BUFFER_BYTES.  Slots are made as they are needed: most batches
 * insert a few rows.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/insert_buffer.h"

#include "access/tableam.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/rel.h"

static TupleTableSlot *next_slot(IvmInsertBuffer *buffer);

IvmInsertBuffer *
ivm_insert_buffer_create(Relation relation, CommandId cid, int options, bool bulk,
						 ResultRelInfo *target, EState *estate)
{
	IvmInsertBuffer *buffer = palloc0(sizeof(IvmInsertBuffer));

	buffer->relation = relation;
	buffer->target = target;
	buffer->estate = estate;
	buffer->cid = cid;
	buffer->options = options;
	buffer->bulk = bulk ? GetBulkInsertState() : NULL;
	buffer->context = CurrentMemoryContext;
	buffer->flush_context = AllocSetContextCreate(CurrentMemoryContext, "ivm insert", ALLOCSET_DEFAULT_SIZES);
	return buffer;
}

/* An empty slot for one more row. */
static TupleTableSlot *
next_slot(IvmInsertBuffer *buffer)
{
	if (buffer->nrows == IVM_INSERT_BUFFER_ROWS || buffer->bytes >= IVM_INSERT_BUFFER_BYTES)
		ivm_insert_buffer_flush(buffer);

	if (buffer->nrows == buffer->nslots)
	{
		MemoryContext caller = MemoryContextSwitchTo(buffer->context);

		buffer->slots[buffer->nslots++] =
			MakeSingleTupleTableSlot(RelationGetDescr(buffer->relation), &TTSOpsHeapTuple);
		MemoryContextSwitchTo(caller);
	}
	return buffer->slots[buffer->nrows++];
}

void
ivm_insert_buffer_add(IvmInsertBuffer *buffer, TupleTableSlot *row)
{
	TupleTableSlot *slot = next_slot(buffer);
	int			natts = RelationGetDescr(buffer->relation)->natts;

	/* A row may have columns behind the view's, which only sorting needed. */
	if (row->tts_tupleDescriptor->natts == natts)
		ExecCopySlot(slot, row);
	else
	{
		slot_getsomeattrs(row, natts);
		memcpy(slot->tts_values, row->tts_values, natts * sizeof(Datum));
		memcpy(slot->tts_isnull, row->tts_isnull, natts * sizeof(bool));
		ExecStoreVirtualTuple(slot);
		ExecMaterializeSlot(slot);
	}
	buffer->bytes += ((HeapTupleTableSlot *) slot)->tuple->t_len;
}

void
ivm_insert_buffer_add_tuple(IvmInsertBuffer *buffer, MinimalTuple tuple)
{
	TupleTableSlot *slot = next_slot(buffer);

	ExecForceStoreMinimalTuple(tuple, slot, false);
	buffer->bytes += tuple->t_len;
}

void
ivm_insert_buffer_flush(IvmInsertBuffer *buffer)
{
	MemoryContext caller;

	if (buffer->nrows == 0)
		return;
	CHECK_FOR_INTERRUPTS();

	caller = MemoryContextSwitchTo(buffer->flush_context);
	table_multi_insert(buffer->relation, buffer->slots, buffer->nrows,
					   buffer->cid, buffer->options, buffer->bulk);
	MemoryContextSwitchTo(caller);
	MemoryContextReset(buffer->flush_context);

	if (buffer->target != NULL && buffer->target->ri_NumIndices > 0)
	{
		for (int i = 0; i < buffer->nrows; i++)
		{
			CHECK_FOR_INTERRUPTS();
			ResetPerTupleExprContext(buffer->estate);
			ExecInsertIndexTuples(buffer->target, buffer->slots[i], buffer->estate, false, false, NULL, NIL);
		}
		ResetPerTupleExprContext(buffer->estate);
	}

	buffer->last_tid = buffer->slots[buffer->nrows - 1]->tts_tid;
	for (int i = 0; i < buffer->nrows; i++)
		ExecClearTuple(buffer->slots[i]);
	buffer->inserted += buffer->nrows;
	buffer->nrows = 0;
	buffer->bytes = 0;
}

void
ivm_insert_buffer_end(IvmInsertBuffer *buffer)
{
	ivm_insert_buffer_flush(buffer);
	for (int i = 0; i < buffer->nslots; i++)
		ExecDropSingleTupleTableSlot(buffer->slots[i]);
	if (buffer->bulk != NULL)
		FreeBulkInsertState(buffer->bulk);
	table_finish_bulk_insert(buffer->relation, buffer->options);
	MemoryContextDelete(buffer->flush_context);
}
