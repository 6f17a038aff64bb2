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
 * How rows are read is in ordered_walk.c, how they are written in ordered_write.c.
 *
 * Costs: for each row a heap tuple with the order's values twice, and an entry in the index.
 *
 * Memory: the handle in a context under the one that was current when the table was opened.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_index.h"
#include "catalog/pg_opclass.h"
#include "catalog/pg_type_d.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/value.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "arrange/ordered_internal.h"
#include "arrange/state_table.h"
#include "plan/order_key.h"

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
	if (table->end_scan != NULL)
		index_endscan(table->end_scan);
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

MinimalTuple
ivm_ordered_stored_tuple(IvmOrderedTable *table)
{
	int			column = FIRST_COLUMN - 1 + table->shape->order->ncolumns + BEHIND_ROW;
	struct varlena *image = PG_DETOAST_DATUM_PACKED(table->slot->tts_values[column]);
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

int64
ivm_ordered_stored_number(IvmOrderedTable *table, int behind)
{
	return DatumGetInt64(table->slot->tts_values[FIRST_COLUMN - 1 + table->shape->order->ncolumns + behind]);
}
