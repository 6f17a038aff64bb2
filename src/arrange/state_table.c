/*-------------------------------------------------------------------------
 *
 * state_table.c
 *	  Rows kept by the extension in a heap table, found by a hash.
 *
 * One shape serves for everything: the hash of a key, the hash of the row's
 * image, a weight, and the bytes of a minimal tuple.  So no type needs a B-tree or hash operator class, no key
 * is too long for an index, NULL keys are no special case, and dropping or altering
 * a type cannot touch the table.  Whoever looks a key up gets all rows with
 * its hash and compares them with the key's real equality.
 *
 * The index is on both hashes.  A key that very many rows share would else
 * make each change of one of them a walk over all.  Where there is one row a
 * key (an aggregate's accumulators), which changes its image with every update,
 * the second hash is 0, so that these updates can be heap-only too.
 *
 * The table is written through the table access method and its index directly,
 * in the transaction of the batch.  The fill factor leaves room for updates
 * that keep the hash, which are then heap-only.
 *
 * A table that is filled anew gets its rows a page at a time, and its index when they are all there.
 *
 * Costs: a row has 48 bytes of overhead besides its image.  Rows are not
 * found in the order of their keys.
 *
 * Memory: the handle and the current row are in a context under the one that
 * was current when the table was opened.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/bufmgr.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "arrange/state_table.h"
#include "base/index_entries.h"
#include "base/insert_buffer.h"
#include "zset/row.h"

/* So many rows of a table that is filled get their index entries one by one. */
#define ENTRIES_ONE_BY_ONE	10000

enum
{
	COLUMN_HASH = 1,
	COLUMN_IMAGE,
	COLUMN_WEIGHT,
	COLUMN_ROW
};

struct IvmStateTable
{
	MemoryContext context;		/* holds this */
	MemoryContext row_context;	/* holds the current row */
	Relation	heap;
	Relation	index;			/* the one to search */
	IvmIndexEntries *entries;	/* in all of them; NULL: nothing was written */
	bool		filling;		/* there is nothing in it but what is inserted */
	uint64		filled;			/* rows inserted */
	IvmInsertBuffer *buffer;	/* rows that have no index entries; NULL: there
								 * are none */
	Snapshot	snapshot;
	TupleTableSlot *slot;		/* to read */
	TupleTableSlot *write_slot;
	IndexScanDesc hash_scan;	/* kept open; by hash */
	IndexScanDesc image_scan;	/* kept open; by both hashes */
	IndexScanDesc index_scan;	/* which of them is under way */
	TableScanDesc table_scan;	/* while a full scan is under way */
	IvmStateRow row;
};

static TupleDesc
state_tuple_desc(void)
{
	TupleDesc	desc = CreateTemplateTupleDesc(COLUMN_ROW);

	TupleDescInitEntry(desc, COLUMN_HASH, "hash", INT8OID, -1, 0);
	TupleDescInitEntry(desc, COLUMN_IMAGE, "image", INT8OID, -1, 0);
	TupleDescInitEntry(desc, COLUMN_WEIGHT, "weight", INT8OID, -1, 0);
	TupleDescInitEntry(desc, COLUMN_ROW, "row", BYTEAOID, -1, 0);
	return desc;
}

Oid
ivm_state_table_create(const char *name)
{
	return ivm_state_relation_create(name, state_tuple_desc(),
									 list_make2(ivm_state_index_column("hash"), ivm_state_index_column("image")));
}

IvmStateTable *
ivm_state_table_open(Oid relid, Snapshot snapshot)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "ivm state table", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	IvmStateTable *table = palloc0(sizeof(IvmStateTable));

	table->context = context;
	table->row_context = AllocSetContextCreate(context, "ivm state row", ALLOCSET_DEFAULT_SIZES);
	table->snapshot = snapshot;
	table->heap = table_open(relid, RowExclusiveLock);
	table->index = ivm_state_index_open(table->heap, NULL, NULL);
	table->slot = table_slot_create(table->heap, NULL);
	table->write_slot = MakeSingleTupleTableSlot(RelationGetDescr(table->heap), &TTSOpsVirtual);
	MemoryContextSwitchTo(old);
	return table;
}

void
ivm_state_table_fill(IvmStateTable *table)
{
	table->filling = true;
}

void
ivm_state_table_close(IvmStateTable *table)
{
	Oid			relid = RelationGetRelid(table->heap);
	bool		build_index = table->buffer != NULL;

	if (build_index)
		ivm_insert_buffer_end(table->buffer);
	ExecClearTuple(table->slot);
	if (table->hash_scan != NULL)
		index_endscan(table->hash_scan);
	if (table->image_scan != NULL)
		index_endscan(table->image_scan);
	if (table->table_scan != NULL)
		table_endscan(table->table_scan);
	ExecDropSingleTupleTableSlot(table->slot);
	ExecDropSingleTupleTableSlot(table->write_slot);
	if (table->entries != NULL)
		ivm_index_entries_close(table->entries);
	index_close(table->index, NoLock);
	table_close(table->heap, NoLock);
	MemoryContextDelete(table->context);
	if (build_index)
		ivm_state_build_indexes(relid);
}

static void
end_table_scan(IvmStateTable *table)
{
	if (table->table_scan != NULL)
	{
		ExecClearTuple(table->slot);
		table_endscan(table->table_scan);
		table->table_scan = NULL;
	}
}

/* Begins an index scan, by the hash or by both; *scan is where it is kept open. */
static void
begin_index_scan(IvmStateTable *table, IndexScanDesc *scan, int nkeys, uint64 hash, uint64 image)
{
	ScanKeyData keys[2];
	MemoryContext old = MemoryContextSwitchTo(table->context);

	end_table_scan(table);
	if (*scan == NULL)
		*scan = index_beginscan(table->heap, table->index, table->snapshot, nkeys, 0);
	ScanKeyInit(&keys[0], COLUMN_HASH, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum((int64) hash));
	ScanKeyInit(&keys[1], COLUMN_IMAGE, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum((int64) image));
	index_rescan(*scan, keys, nkeys, NULL, 0);
	table->index_scan = *scan;
	MemoryContextSwitchTo(old);
}

void
ivm_state_table_find(IvmStateTable *table, uint64 hash)
{
	begin_index_scan(table, &table->hash_scan, 1, hash, 0);
}

void
ivm_state_table_scan(IvmStateTable *table)
{
	MemoryContext old = MemoryContextSwitchTo(table->context);

	end_table_scan(table);
	table->table_scan = table_beginscan(table->heap, table->snapshot, 0, NULL);
	MemoryContextSwitchTo(old);
}

IvmStateRow *
ivm_state_table_next(IvmStateTable *table)
{
	MemoryContext old = MemoryContextSwitchTo(table->context);
	bool		found;
	bool		isnull;
	struct varlena *image;
	Size		length;

	CHECK_FOR_INTERRUPTS();
	if (table->table_scan != NULL)
		found = table_scan_getnextslot(table->table_scan, ForwardScanDirection, table->slot);
	else
		found = index_getnext_slot(table->index_scan, ForwardScanDirection, table->slot);
	if (!found)
	{
		end_table_scan(table);
		MemoryContextSwitchTo(old);
		return NULL;
	}

	MemoryContextReset(table->row_context);
	MemoryContextSwitchTo(table->row_context);
	table->row.tid = table->slot->tts_tid;
	table->row.hash = (uint64) DatumGetInt64(slot_getattr(table->slot, COLUMN_HASH, &isnull));
	table->row.weight = DatumGetInt64(slot_getattr(table->slot, COLUMN_WEIGHT, &isnull));
	image = PG_DETOAST_DATUM_PACKED(slot_getattr(table->slot, COLUMN_ROW, &isnull));
	length = VARSIZE_ANY_EXHDR(image);
	table->row.tuple = palloc(length);
	memcpy(table->row.tuple, VARDATA_ANY(image), length);
	if (table->row.tuple->t_len != length)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("state table \"%s\" has a row of wrong length",
						RelationGetRelationName(table->heap))));
	MemoryContextSwitchTo(old);
	return &table->row;
}

/* The write slot with these values; the image is palloc'd in the row context. */
static void
store(IvmStateTable *table, uint64 hash, uint64 image, int64 weight, MinimalTuple tuple)
{
	bytea	   *row = ivm_row_to_bytes(table->row_context, tuple);

	ExecClearTuple(table->write_slot);
	table->write_slot->tts_values[COLUMN_HASH - 1] = Int64GetDatum((int64) hash);
	table->write_slot->tts_values[COLUMN_IMAGE - 1] = Int64GetDatum((int64) image);
	table->write_slot->tts_values[COLUMN_WEIGHT - 1] = Int64GetDatum(weight);
	table->write_slot->tts_values[COLUMN_ROW - 1] = PointerGetDatum(row);
	memset(table->write_slot->tts_isnull, 0, sizeof(bool) * COLUMN_ROW);
	ExecStoreVirtualTuple(table->write_slot);
}

/* Inserts the row in the write slot, with many others. */
static void
fill_row(IvmStateTable *table)
{
	if (table->buffer == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(table->context);

		table->buffer = ivm_insert_buffer_create(table->heap, GetCurrentCommandId(true), 0, true, NULL, NULL);
		MemoryContextSwitchTo(old);
	}
	ivm_insert_buffer_add(table->buffer, table->write_slot);
}

/*
 * Writes run in a context that is reset with each of them.  A row that was
 * read last (its tuple may be part of what is written) stays until then.
 */
static void
insert_row(IvmStateTable *table, uint64 hash, uint64 image, int64 weight, MinimalTuple tuple)
{
	MemoryContext old = MemoryContextSwitchTo(table->row_context);

	store(table, hash, image, weight, tuple);
	if (table->filling && ++table->filled > ENTRIES_ONE_BY_ONE)
		fill_row(table);
	else
	{
		table_tuple_insert(table->heap, table->write_slot, GetCurrentCommandId(true), 0, NULL);
		ivm_state_insert_entries(&table->entries, table->context, table->heap, table->write_slot);
	}
	ExecClearTuple(table->write_slot);
	MemoryContextSwitchTo(old);
	MemoryContextReset(table->row_context);
}

void
ivm_state_table_insert(IvmStateTable *table, uint64 hash, int64 weight, MinimalTuple tuple)
{
	insert_row(table, hash, 0, weight, tuple);
}

static void
update_row(IvmStateTable *table, ItemPointer tid, uint64 hash, uint64 image, int64 weight, MinimalTuple tuple)
{
	MemoryContext old = MemoryContextSwitchTo(table->row_context);
	ItemPointerData target = *tid;
	TM_FailureData failure;
	LockTupleMode lock_mode;
	bool		update_index;

	store(table, hash, image, weight, tuple);
	ivm_state_check_write(table->heap,
						  table_tuple_update(table->heap, &target, table->write_slot, GetCurrentCommandId(true),
											 table->snapshot, InvalidSnapshot, false,
											 &failure, &lock_mode, &update_index));
	if (update_index)
		ivm_state_insert_entries(&table->entries, table->context, table->heap, table->write_slot);
	ExecClearTuple(table->write_slot);
	MemoryContextSwitchTo(old);
	MemoryContextReset(table->row_context);
}

void
ivm_state_table_update(IvmStateTable *table, ItemPointer tid, uint64 hash, int64 weight, MinimalTuple tuple)
{
	update_row(table, tid, hash, 0, weight, tuple);
}

void
ivm_state_table_delete(IvmStateTable *table, ItemPointer tid)
{
	ivm_state_row_delete(table->heap, tid, table->snapshot);
}

void
ivm_state_table_add(IvmStateTable *table, uint64 hash, MinimalTuple tuple, int64 weight)
{
	uint64		image = ivm_row_image_hash(tuple);
	IvmStateRow *row = NULL;

	if (!table->filling)
	{
		begin_index_scan(table, &table->image_scan, 2, hash, image);
		while ((row = ivm_state_table_next(table)) != NULL)
			if (ivm_row_image_equal(row->tuple, tuple))
				break;
	}
	if (row == NULL ? weight < 0 : row->weight + weight < 0)
		ivm_state_lacks_row(table->heap);
	if (row == NULL)
		insert_row(table, hash, image, weight, tuple);
	else
	{
		ItemPointerData tid = row->tid;

		if (row->weight + weight == 0)
			ivm_state_table_delete(table, &tid);
		else
			update_row(table, &tid, hash, image, row->weight + weight, tuple);
	}
}
