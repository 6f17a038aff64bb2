/*-------------------------------------------------------------------------
 *
 * ordered_write.c
 *	  Writing ordered state tables: a batch's delta, or all rows at once.
 *
 * A row is found by all columns of the index, so no change is a walk over rows of the same key or value.
 * In a fill the heap gets its rows first, in as few WAL records as may be, and the index is built when all are there.
 *
 * Costs: for each row of a delta a descent in the index, and a write; in a fill some microseconds a row.
 *
 * Memory: one row; in a fill a buffer of rows, and the build of the index.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "arrange/ordered_internal.h"
#include "arrange/state_table.h"
#include "base/insert_buffer.h"
#include "zset/row.h"

/* Longer values do not fit into an entry of a B-tree, whatever else is in it. */
#define LONGEST_VALUES	1900

/* A fill with so many rows at most is not worth building an index at the end. */
#define FEW_ROWS	10000

/* In the place of a key's hash in the row that has the bound; without key columns that is 0. */
#define HASH_OF_BOUND	1

/* Scan keys for one row: each column of the index, of the order those of the opclasses' equality. */
static void
prepare_place_keys(IvmOrderedTable *table)
{
	int			n = table->shape->order->ncolumns;
	int			column = FIRST_COLUMN;

	table->place_keys = palloc0(sizeof(ScanKeyData) * (FIRST_COLUMN + n));
	ScanKeyInit(&table->place_keys[0], COLUMN_HASH, BTEqualStrategyNumber, F_INT8EQ, (Datum) 0);
	ScanKeyInit(&table->place_keys[1], COLUMN_FAR, BTEqualStrategyNumber, F_BOOLEQ, (Datum) 0);
	for (int i = 0; i < n; i++, column++)
	{
		Oid			type = table->index->rd_opcintype[column - 1];
		Oid			equality = get_opfamily_member(table->index->rd_opfamily[column - 1], type, type,
												   BTEqualStrategyNumber);

		if (!OidIsValid(equality))
			elog(ERROR, "no equality for type %u in operator family %u", type,
				 table->index->rd_opfamily[column - 1]);
		ScanKeyEntryInitialize(&table->place_keys[column - 1], 0, column, BTEqualStrategyNumber, InvalidOid,
							   table->index->rd_indcollation[column - 1], get_opcode(equality), (Datum) 0);
	}
	ScanKeyInit(&table->place_keys[column - 1], column, BTEqualStrategyNumber, F_INT8EQ, (Datum) 0);
}

/* Puts the order's values of a row into those of a stored one; are they too long? */
static bool
set_order_values(IvmOrderedTable *table, TupleTableSlot *row, Datum *values, bool *isnull)
{
	IvmRowOrder *order = table->shape->order;
	Size		bytes = 0;

	ivm_row_order_values(order, row, values, isnull);
	for (int i = 0; i < order->ncolumns; i++)
	{
		if (isnull[i] || order->byval[i])
			continue;
		if (order->lengths[i] == -1)
			values[i] = PointerGetDatum(PG_DETOAST_DATUM_PACKED(values[i]));
		bytes += datumGetSize(values[i], false, order->lengths[i]);
	}
	if (bytes <= LONGEST_VALUES)
		return false;
	for (int i = 0; i < order->ncolumns; i++)
	{
		values[i] = (Datum) 0;
		isnull[i] = true;
	}
	return true;
}

/* The write slot with that row, in the row context, which is current. */
static void
store(IvmOrderedTable *table, MinimalTuple tuple, uint64 image, int64 weight)
{
	TupleTableSlot *slot = table->write_slot;
	int			n = table->shape->order->ncolumns;
	bytea	   *row = ivm_row_to_bytes(CurrentMemoryContext, tuple);

	ExecClearTuple(slot);
	memset(slot->tts_isnull, 0, sizeof(bool) * slot->tts_tupleDescriptor->natts);
	ExecStoreMinimalTuple(tuple, table->row, false);
	slot->tts_values[COLUMN_HASH - 1] = Int64GetDatum((int64) ivm_ordered_hash_row(table->shape, table->row));
	slot->tts_values[COLUMN_FAR - 1] =
		BoolGetDatum(set_order_values(table, table->row, slot->tts_values + FIRST_COLUMN - 1,
									  slot->tts_isnull + FIRST_COLUMN - 1));
	slot->tts_values[FIRST_COLUMN - 1 + n + BEHIND_IMAGE] = Int64GetDatum((int64) image);
	slot->tts_values[FIRST_COLUMN - 1 + n + BEHIND_WEIGHT] = Int64GetDatum(weight);
	slot->tts_values[FIRST_COLUMN - 1 + n + BEHIND_ROW] = PointerGetDatum(row);
	ExecStoreVirtualTuple(slot);
}

/* The write slot with the bound, in the row context, which is current. */
static void
store_bound(IvmOrderedTable *table, int64 bound, int64 nrows)
{
	TupleTableSlot *slot = table->write_slot;
	bytea	   *nothing = palloc(VARHDRSZ);

	SET_VARSIZE(nothing, VARHDRSZ);
	ExecClearTuple(slot);
	memset(slot->tts_isnull, 0, sizeof(bool) * slot->tts_tupleDescriptor->natts);
	slot->tts_values[COLUMN_HASH - 1] = Int64GetDatum(HASH_OF_BOUND);
	slot->tts_values[COLUMN_FAR - 1] = BoolGetDatum(false);
	slot->tts_values[FIRST_COLUMN - 1] = Int64GetDatum(bound);
	slot->tts_values[FIRST_COLUMN + BEHIND_IMAGE] = Int64GetDatum(0);
	slot->tts_values[FIRST_COLUMN + BEHIND_WEIGHT] = Int64GetDatum(nrows);
	slot->tts_values[FIRST_COLUMN + BEHIND_ROW] = PointerGetDatum(nothing);
	ExecStoreVirtualTuple(slot);
}

/* Finds the stored row that is in the write slot; its place and weight, or false. */
static bool
find_stored(IvmOrderedTable *table, MinimalTuple tuple, ItemPointer tid, int64 *weight)
{
	MemoryContext old = MemoryContextSwitchTo(table->context);
	TupleTableSlot *wanted = table->write_slot;
	int			nkeys = FIRST_COLUMN + table->shape->order->ncolumns;
	bool		found = false;

	if (table->place_scan == NULL)
	{
		prepare_place_keys(table);
		table->place_scan = index_beginscan(table->heap, table->index, table->snapshot, nkeys, 0);
	}
	for (int i = 0; i < nkeys; i++)
	{
		table->place_keys[i].sk_argument = wanted->tts_values[i];
		table->place_keys[i].sk_flags &= ~(SK_ISNULL | SK_SEARCHNULL);
		if (wanted->tts_isnull[i])
			table->place_keys[i].sk_flags |= SK_ISNULL | SK_SEARCHNULL;
	}
	index_rescan(table->place_scan, table->place_keys, nkeys, NULL, 0);
	while (!found && index_getnext_slot(table->place_scan, ForwardScanDirection, table->slot))
	{
		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(table->slot);
		MemoryContextSwitchTo(table->row_context);
		found = ivm_row_image_equal(ivm_ordered_stored_tuple(table), tuple);
		MemoryContextSwitchTo(table->context);
	}
	if (found)
	{
		*tid = table->slot->tts_tid;
		*weight = ivm_ordered_stored_number(table, BEHIND_WEIGHT);
	}
	ExecClearTuple(table->slot);
	MemoryContextSwitchTo(old);
	return found;
}

/* Writes what is in the write slot: a new row, or the one at that place anew. */
static void
write_row(IvmOrderedTable *table, ItemPointer tid)
{
	TM_FailureData failure;
	LockTupleMode lock_mode;
	bool		update_index = true;

	if (tid == NULL)
		table_tuple_insert(table->heap, table->write_slot, GetCurrentCommandId(true), 0, NULL);
	else
		ivm_state_check_write(table->heap,
							  table_tuple_update(table->heap, tid, table->write_slot, GetCurrentCommandId(true),
												 table->snapshot, InvalidSnapshot, false,
												 &failure, &lock_mode, &update_index));
	if (update_index)
		ivm_state_insert_entries(&table->entries, table->context, table->heap, table->write_slot);
}

/* Adds to the weight of a row, which appears, or goes at zero. */
static void
add_row(IvmOrderedTable *table, MinimalTuple tuple, int64 weight)
{
	MemoryContext old = MemoryContextSwitchTo(table->row_context);
	uint64		image = ivm_row_image_hash(tuple);
	ItemPointerData tid;
	int64		present = 0;
	bool		found;

	store(table, tuple, image, weight);
	found = find_stored(table, tuple, &tid, &present);
	if (present + weight < 0)
		ivm_state_lacks_row(table->heap);
	if (!found)
		write_row(table, NULL);
	else if (present + weight == 0)
		ivm_state_row_delete(table->heap, &tid, table->snapshot);
	else
	{
		store(table, tuple, image, present + weight);
		write_row(table, &tid);
	}
	ExecClearTuple(table->write_slot);
	ExecClearTuple(table->row);
	MemoryContextSwitchTo(old);
	MemoryContextReset(table->row_context);
}

/* Row by row. */
static void
apply(IvmArrangement *arrangement, Oid relid, IvmZset *delta, Snapshot snapshot)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "ivm ordered delta", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	IvmOrderedTable *table = ivm_ordered_table_open(ivm_ordered_shape_create(arrangement), relid, snapshot);
	IvmZsetParts parts;
	int64		count;
	IvmRow	  **rows;

	ivm_zset_parts_begin(delta, &parts);
	while ((rows = ivm_zset_parts_next(&parts, &count)) != NULL)
		for (int64 i = 0; i < count; i++)
		{
			CHECK_FOR_INTERRUPTS();
			add_row(table, ivm_row_tuple(rows[i]), rows[i]->weight);
		}
	ivm_zset_parts_end(&parts);
	ivm_ordered_table_close(table);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/* A table that has no rows: the index is built when all are there. */
static void
fill(IvmArrangement *arrangement, Oid relid, IvmZset *delta, Snapshot snapshot)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "ivm ordered fill", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	IvmOrderedTable *table = ivm_ordered_table_open(ivm_ordered_shape_create(arrangement), relid, snapshot);
	IvmInsertBuffer *buffer = ivm_insert_buffer_create(table->heap, GetCurrentCommandId(true), 0, true, NULL, NULL);
	IvmZsetParts parts;
	int64		count;
	IvmRow	  **rows;

	ivm_zset_parts_begin(delta, &parts);
	while ((rows = ivm_zset_parts_next(&parts, &count)) != NULL)
		for (int64 i = 0; i < count; i++)
		{
			MinimalTuple tuple = ivm_row_tuple(rows[i]);

			CHECK_FOR_INTERRUPTS();
			if (rows[i]->weight < 0)
				ivm_state_lacks_row(table->heap);
			MemoryContextSwitchTo(table->row_context);
			store(table, tuple, ivm_row_image_hash(tuple), rows[i]->weight);
			ivm_insert_buffer_add(buffer, table->write_slot);
			ExecClearTuple(table->write_slot);
			ExecClearTuple(table->row);
			MemoryContextSwitchTo(context);
			MemoryContextReset(table->row_context);
		}
	ivm_zset_parts_end(&parts);
	ivm_insert_buffer_end(buffer);
	ivm_ordered_table_close(table);
	ivm_state_build_indexes(relid);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

void
ivm_ordered_table_write(IvmArrangement *arrangement, Oid relid, IvmZset *delta, Snapshot snapshot, bool empty)
{
	if (empty && ivm_zset_count(delta) > FEW_ROWS)
		fill(arrangement, relid, delta, snapshot);
	else
		apply(arrangement, relid, delta, snapshot);
}

/* ---- the bound of a table that keeps the first rows alone ---- */

/* Is there one?  Then its row is in the slot. */
static bool
find_bound(IvmOrderedTable *table)
{
	MemoryContext old = MemoryContextSwitchTo(table->context);
	IndexScanDesc scan = index_beginscan(table->heap, table->index, table->snapshot, 1, 0);
	ScanKeyData key;
	bool		found;

	ScanKeyInit(&key, COLUMN_HASH, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(HASH_OF_BOUND));
	index_rescan(scan, &key, 1, NULL, 0);
	found = index_getnext_slot(scan, ForwardScanDirection, table->slot);
	if (found)
		slot_getallattrs(table->slot);
	index_endscan(scan);
	MemoryContextSwitchTo(old);
	return found;
}

void
ivm_ordered_table_get_bound(IvmOrderedTable *table, int64 *bound, int64 *nrows)
{
	*bound = PG_INT64_MIN;
	*nrows = 0;
	if (!find_bound(table))
		return;
	*bound = DatumGetInt64(table->slot->tts_values[FIRST_COLUMN - 1]);
	*nrows = ivm_ordered_stored_number(table, BEHIND_WEIGHT);
	ExecClearTuple(table->slot);
}

void
ivm_ordered_table_set_bound(IvmOrderedTable *table, int64 bound, int64 nrows)
{
	bool		found = find_bound(table);
	ItemPointerData tid = table->slot->tts_tid;
	MemoryContext old;

	ExecClearTuple(table->slot);
	old = MemoryContextSwitchTo(table->row_context);
	store_bound(table, bound, nrows);
	write_row(table, found ? &tid : NULL);
	ExecClearTuple(table->write_slot);
	MemoryContextSwitchTo(old);
	MemoryContextReset(table->row_context);
}
