/*-------------------------------------------------------------------------
 *
 * ordered_table.c
 *	  State tables whose rows come in an order.
 *
 * Columns: the hash of the key, "far", the values k1 ... kn that the rows are ordered by, the hash of the
 * image, the weight, the image.  A B-tree on all but the last two has the rows of a key together, in the canonical
 * order (row_order.h) but for rows that differ in their bytes alone.
 *
 * The columns k1 ... kn have the types of the order's expressions, domains aside, and are compared as the order
 * says: keys shortened to numbers would not tell apart just those that begin alike.  So the
 * table depends on these types, and DROP TYPE says so; a table with a column of a row type would keep
 * people from altering the row type, and is not made.
 *
 * Values that together are too long for an entry of an index are left out: such a row is "far", its
 * columns are NULL.  A walk sorts the far rows of its key and merges them in, so
 * its cost grows with their number.
 *
 * A table that is filled gets its rows first, and its index is built when all are there, which is several times
 * cheaper.  It needs a lock on the index that nobody else can have: only whoever keeps the view reads the table.
 *
 * Costs: for each row a heap tuple with the order's values twice, and an entry in the index.
 *
 * Memory: a handle and the rows of one place in contexts under the one that was current when the table was opened;
 * far rows in a sort.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_opclass.h"
#include "catalog/pg_type_d.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/value.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "arrange/ordered_table.h"
#include "arrange/state_table.h"
#include "base/index_entries.h"
#include "base/insert_buffer.h"
#include "memory/reclaim.h"
#include "plan/order_key.h"

/* Longer values do not fit into an entry of a B-tree, whatever else is in it. */
#define LONGEST_VALUES	1900

/* Columns, those of the order between these and those behind. */
enum
{
	COLUMN_HASH = 1,
	COLUMN_FAR,
	FIRST_COLUMN
};

enum
{
	BEHIND_IMAGE,
	BEHIND_WEIGHT,
	BEHIND_ROW,
	BEHIND_COLUMNS
};

/* One of the rows that have the same place but for their bytes. */
typedef struct PlacedRow
{
	MinimalTuple tuple;
	int64		weight;
} PlacedRow;

struct IvmOrderedTable
{
	IvmOrderedShape *shape;
	MemoryContext context;		/* holds this */
	MemoryContext row_context;	/* of the row that is written or looked for */
	MemoryContext place_context;	/* of the rows of one place */
	Relation	heap;
	Relation	index;
	IvmIndexEntries *entries;	/* NULL: nothing was written */
	Snapshot	snapshot;
	TupleTableSlot *slot;		/* as stored */
	TupleTableSlot *write_slot;
	TupleTableSlot *row;		/* as it is given */
	IndexScanDesc scan;			/* of a key's rows; NULL: none yet */
	IndexScanDesc place_scan;	/* of one row */
	ScanKey		place_keys;

	/* of a walk */
	const Datum *values;
	const bool *isnull;
	IvmLookupReceiver receiver;
	void	   *receiver_context;
	IvmRowSort *far;			/* NULL: there is none */
	IvmSortedRow *next_far;
	int			nplaced;
	int			size;
	PlacedRow  *placed;
	Datum	   *place_values;	/* of the order */
	bool	   *place_isnull;
	uint64		place_image;
};

/* ---- the table ---- */

/* The name of that operator class. */
static List *
class_name(Oid class)
{
	HeapTuple	tuple = SearchSysCache1(CLAOID, ObjectIdGetDatum(class));
	Form_pg_opclass form;
	List	   *result;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for operator class %u", class);
	form = (Form_pg_opclass) GETSTRUCT(tuple);
	result = list_make2(makeString(get_namespace_name(form->opcnamespace)), makeString(pstrdup(NameStr(form->opcname))));
	ReleaseSysCache(tuple);
	return result;
}

Oid
ivm_ordered_table_create(const char *name, IvmArrangement *arrangement)
{
	int			n = list_length(arrangement->order);
	TupleDesc	desc = CreateTemplateTupleDesc(FIRST_COLUMN - 1 + n + BEHIND_COLUMNS);
	List	   *columns = list_make2(ivm_state_index_column("hash"), ivm_state_index_column("far"));
	int			column = FIRST_COLUMN;
	ListCell   *cell;

	TupleDescInitEntry(desc, COLUMN_HASH, "hash", INT8OID, -1, 0);
	TupleDescInitEntry(desc, COLUMN_FAR, "far", BOOLOID, -1, 0);
	foreach(cell, arrangement->order)
	{
		IvmOrderKey *key = lfirst(cell);
		char	   *column_name = psprintf("k%d", column - FIRST_COLUMN + 1);
		IndexElem  *element = ivm_state_index_column(column_name);
		bool		descending;
		Oid			class = ivm_order_key_class(key, &descending);

		TupleDescInitEntry(desc, column, column_name, ivm_order_key_type(key), -1, 0);
		TupleDescInitEntryCollation(desc, column, key->collation);
		element->opclass = class_name(class);
		element->ordering = descending ? SORTBY_DESC : SORTBY_ASC;
		element->nulls_ordering = key->nulls_first ? SORTBY_NULLS_FIRST : SORTBY_NULLS_LAST;
		columns = lappend(columns, element);
		column++;
	}
	TupleDescInitEntry(desc, column + BEHIND_IMAGE, "image", INT8OID, -1, 0);
	TupleDescInitEntry(desc, column + BEHIND_WEIGHT, "weight", INT8OID, -1, 0);
	TupleDescInitEntry(desc, column + BEHIND_ROW, "row", BYTEAOID, -1, 0);
	columns = lappend(columns, ivm_state_index_column("image"));
	return ivm_state_relation_create(name, desc, columns);
}

/* Has the index that order? */
static bool
index_is_in_order(void *context, Relation index)
{
	IvmOrderedTable *table = context;
	int			i = FIRST_COLUMN - 1;
	ListCell   *cell;

	foreach(cell, table->shape->arrangement->order)
	{
		IvmOrderKey *key = lfirst(cell);
		bool		descending;
		Oid			class = ivm_order_key_class(key, &descending);
		int16		option = (descending ? INDOPTION_DESC : 0) | (key->nulls_first ? INDOPTION_NULLS_FIRST : 0);

		if (index->rd_opfamily[i] != get_opclass_family(class) || index->rd_indoption[i] != option ||
			index->rd_indcollation[i] != key->collation)
			return false;
		i++;
	}
	return true;
}

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

IvmOrderedTable *
ivm_ordered_table_open(IvmOrderedShape *shape, Oid relid, Snapshot snapshot)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "ivm ordered table", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	IvmOrderedTable *table = palloc0(sizeof(IvmOrderedTable));
	int			n = shape->order->ncolumns;

	table->shape = shape;
	table->context = context;
	table->row_context = AllocSetContextCreate(context, "ivm ordered row", ALLOCSET_DEFAULT_SIZES);
	table->place_context = AllocSetContextCreate(context, "ivm ordered rows", ALLOCSET_DEFAULT_SIZES);
	table->snapshot = snapshot;
	table->heap = table_open(relid, RowExclusiveLock);
	table->index = ivm_state_index_open(table->heap, index_is_in_order, table);
	table->slot = table_slot_create(table->heap, NULL);
	table->write_slot = MakeSingleTupleTableSlot(RelationGetDescr(table->heap), &TTSOpsVirtual);
	table->row = MakeSingleTupleTableSlot(shape->desc, &TTSOpsMinimalTuple);
	table->place_values = palloc(sizeof(Datum) * Max(n, 1));
	table->place_isnull = palloc(sizeof(bool) * Max(n, 1));
	MemoryContextSwitchTo(old);
	return table;
}

void
ivm_ordered_table_close(IvmOrderedTable *table)
{
	ExecClearTuple(table->slot);
	if (table->scan != NULL)
		index_endscan(table->scan);
	if (table->place_scan != NULL)
		index_endscan(table->place_scan);
	ExecDropSingleTupleTableSlot(table->slot);
	ExecDropSingleTupleTableSlot(table->write_slot);
	ExecDropSingleTupleTableSlot(table->row);
	if (table->entries != NULL)
		ivm_index_entries_close(table->entries);
	index_close(table->index, NoLock);
	table_close(table->heap, NoLock);
	MemoryContextDelete(table->context);
}

/* ---- walks ---- */

/* Begins a scan of the rows with that hash, of the far ones or of the others. */
static void
begin_scan(IvmOrderedTable *table, uint64 hash, bool far)
{
	MemoryContext old = MemoryContextSwitchTo(table->context);
	ScanKeyData keys[2];

	if (table->scan == NULL)
		table->scan = index_beginscan(table->heap, table->index, table->snapshot, 2, 0);
	ScanKeyInit(&keys[0], COLUMN_HASH, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum((int64) hash));
	ScanKeyInit(&keys[1], COLUMN_FAR, BTEqualStrategyNumber, F_BOOLEQ, BoolGetDatum(far));
	index_rescan(table->scan, keys, 2, NULL, 0);
	MemoryContextSwitchTo(old);
}

static bool
next_stored(IvmOrderedTable *table)
{
	MemoryContext old = MemoryContextSwitchTo(table->context);
	bool		found;

	CHECK_FOR_INTERRUPTS();
	found = index_getnext_slot(table->scan, ForwardScanDirection, table->slot);
	MemoryContextSwitchTo(old);
	if (found)
		slot_getallattrs(table->slot);
	return found;
}

/* A copy of the image of a stored row, in the current context. */
static MinimalTuple
stored_tuple(IvmOrderedTable *table, TupleTableSlot *slot)
{
	int			column = FIRST_COLUMN - 1 + table->shape->order->ncolumns + BEHIND_ROW;
	struct varlena *image = PG_DETOAST_DATUM_PACKED(slot->tts_values[column]);
	Size		length = VARSIZE_ANY_EXHDR(image);
	MinimalTuple tuple = palloc(length);

	memcpy(tuple, VARDATA_ANY(image), length);
	if (tuple->t_len != length)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("state table \"%s\" has a row of wrong length",
						RelationGetRelationName(table->heap))));
	return tuple;
}

static int64
stored_number(IvmOrderedTable *table, int behind)
{
	return DatumGetInt64(table->slot->tts_values[FIRST_COLUMN - 1 + table->shape->order->ncolumns + behind]);
}

/* Gives a row, if it has the key. */
static bool
give(IvmOrderedTable *table, MinimalTuple tuple, int64 weight)
{
	bool		more = true;

	ExecStoreMinimalTuple(tuple, table->row, false);
	if (ivm_ordered_row_has_key(table->shape, table->row, table->values, table->isnull))
		more = table->receiver(table->receiver_context, table->row, weight);
	ExecClearTuple(table->row);
	return more;
}

static int
compare_placed(const void *a, const void *b)
{
	return ivm_row_order_compare_images(0, ((const PlacedRow *) a)->tuple, 0, ((const PlacedRow *) b)->tuple);
}

/* Gives the far rows that come before that row; all of them if it is NULL. */
static bool
give_far(IvmOrderedTable *table, MinimalTuple before)
{
	IvmRowOrder *order = table->shape->order;
	bool		more = true;

	while (more && table->next_far != NULL)
	{
		IvmSortedRow *far = table->next_far;
		int			result = before == NULL ? -1 :
			ivm_row_order_compare(order, order->ncolumns, far->values, far->isnull,
								  table->place_values, table->place_isnull);

		if (result == 0)
			result = ivm_row_order_compare_images(far->image, far->tuple, table->place_image, before);
		if (result > 0)
			break;
		more = give(table, far->tuple, far->weight);
		table->next_far = ivm_row_sort_next(table->far);
	}
	return more;
}

/* Gives the rows of the present place, in the order of their bytes. */
static bool
give_placed(IvmOrderedTable *table)
{
	bool		more = true;

	if (table->nplaced > 1)
		qsort(table->placed, table->nplaced, sizeof(PlacedRow), compare_placed);
	for (int i = 0; i < table->nplaced && more; i++)
	{
		more = give_far(table, table->placed[i].tuple);
		if (more)
			more = give(table, table->placed[i].tuple, table->placed[i].weight);
	}
	table->nplaced = 0;
	MemoryContextReset(table->place_context);
	return more;
}

/* Has the stored row the present place? */
static bool
is_in_place(IvmOrderedTable *table)
{
	IvmRowOrder *order = table->shape->order;

	return table->nplaced > 0 && (uint64) stored_number(table, BEHIND_IMAGE) == table->place_image &&
		ivm_row_order_compare(order, order->ncolumns, table->place_values, table->place_isnull,
							  table->slot->tts_values + FIRST_COLUMN - 1,
							  table->slot->tts_isnull + FIRST_COLUMN - 1) == 0;
}

static void
place_row(IvmOrderedTable *table)
{
	IvmRowOrder *order = table->shape->order;
	MemoryContext old;

	if (table->nplaced == table->size)
	{
		table->size = Max(table->size * 2, 4);
		old = MemoryContextSwitchTo(table->context);
		table->placed = table->placed == NULL ? palloc(sizeof(PlacedRow) * table->size) :
			repalloc(table->placed, sizeof(PlacedRow) * table->size);
		MemoryContextSwitchTo(old);
	}
	old = MemoryContextSwitchTo(table->place_context);
	if (table->nplaced == 0)
	{
		table->place_image = (uint64) stored_number(table, BEHIND_IMAGE);
		for (int i = 0; i < order->ncolumns; i++)
		{
			Datum		value = table->slot->tts_values[FIRST_COLUMN - 1 + i];

			table->place_isnull[i] = table->slot->tts_isnull[FIRST_COLUMN - 1 + i];
			table->place_values[i] = table->place_isnull[i] ? (Datum) 0 :
				datumCopy(value, order->byval[i], order->lengths[i]);
		}
	}
	table->placed[table->nplaced].tuple = stored_tuple(table, table->slot);
	table->placed[table->nplaced++].weight = stored_number(table, BEHIND_WEIGHT);
	MemoryContextSwitchTo(old);
}

/* The far rows of that hash, sorted. */
static void
sort_far_rows(IvmOrderedTable *table, uint64 hash)
{
	MemoryContext old = MemoryContextSwitchTo(table->context);

	table->far = NULL;
	table->next_far = NULL;
	begin_scan(table, hash, true);
	while (next_stored(table))
	{
		MinimalTuple tuple;

		if (table->far == NULL)
			table->far = ivm_row_sort_create(table->shape->order);
		tuple = stored_tuple(table, table->slot);
		ivm_row_sort_add(table->far, 0, tuple, stored_number(table, BEHIND_WEIGHT));
		pfree(tuple);
	}
	if (table->far != NULL)
	{
		ivm_row_sort_perform(table->far);
		table->next_far = ivm_row_sort_next(table->far);
	}
	MemoryContextSwitchTo(old);
}

bool
ivm_ordered_table_walk(IvmOrderedTable *table, const Datum *values, const bool *isnull,
					   IvmLookupReceiver receiver, void *context)
{
	uint64		hash = ivm_ordered_hash_key(table->shape, values, isnull);
	bool		more = true;

	table->values = values;
	table->isnull = isnull;
	table->receiver = receiver;
	table->receiver_context = context;
	table->nplaced = 0;
	MemoryContextReset(table->place_context);

	sort_far_rows(table, hash);
	begin_scan(table, hash, false);
	while (more && next_stored(table))
	{
		if (table->nplaced > 0 && !is_in_place(table))
			more = give_placed(table);
		if (more)
			place_row(table);
	}
	more = more && give_placed(table) && give_far(table, NULL);
	ExecClearTuple(table->slot);
	if (table->far != NULL)
		ivm_row_sort_end(table->far);
	table->far = NULL;
	return more;
}

/* ---- writing ---- */

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
	bytea	   *row = palloc(VARHDRSZ + tuple->t_len);

	SET_VARSIZE(row, VARHDRSZ + tuple->t_len);
	memcpy(VARDATA(row), tuple, tuple->t_len);
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
		found = ivm_row_image_equal(stored_tuple(table, table->slot), tuple);
		MemoryContextSwitchTo(table->context);
	}
	if (found)
	{
		*tid = table->slot->tts_tid;
		*weight = stored_number(table, BEHIND_WEIGHT);
	}
	ExecClearTuple(table->slot);
	MemoryContextSwitchTo(old);
	return found;
}

static void
insert_index_entries(IvmOrderedTable *table)
{
	if (table->entries == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(table->context);

		table->entries = ivm_index_entries_open(table->heap);
		MemoryContextSwitchTo(old);
	}
	ivm_index_entries_insert(table->entries, table->write_slot);
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
	{
		table_tuple_insert(table->heap, table->write_slot, GetCurrentCommandId(true), 0, NULL);
		insert_index_entries(table);
	}
	else if (present + weight == 0)
		ivm_state_row_delete(table->heap, &tid, table->snapshot);
	else
	{
		TM_FailureData failure;
		LockTupleMode lock_mode;
		bool		update_index;

		store(table, tuple, image, present + weight);
		ivm_state_check_write(table->heap,
							  table_tuple_update(table->heap, &tid, table->write_slot, GetCurrentCommandId(true),
												 table->snapshot, InvalidSnapshot, false,
												 &failure, &lock_mode, &update_index));
		if (update_index)
			insert_index_entries(table);
	}
	ExecClearTuple(table->write_slot);
	ExecClearTuple(table->row);
	MemoryContextSwitchTo(old);
	MemoryContextReset(table->row_context);
}

void
ivm_ordered_table_apply(IvmArrangement *arrangement, Oid relid, IvmZset *delta, Snapshot snapshot)
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

void
ivm_ordered_table_fill(IvmArrangement *arrangement, Oid relid, IvmZset *delta, Snapshot snapshot)
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
