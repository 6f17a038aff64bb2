/*-------------------------------------------------------------------------
 *
 * lookup_ordered.c
 *	  Rows of an arrangement that has an order: those of a key, from the first on.
 *
 * The rows are in an ordered state table (ordered_table.c), or in a table that has an index in that order.
 * Rows of such a table pass the scan's filter and projection; those that do not are read for
 * nothing.  No two are equal in keys and order (compile/ordered_index.c), so there are no ties.
 *
 * An index that cannot be used under the snapshot after all is replaced by a sort of the table's rows.
 *
 * What is read is opened with the first walk of a batch: one that is not used costs nothing.
 *
 * Memory: what is open in the context that is current when the batch begins.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "storage/bufmgr.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "arrange/arrange.h"
#include "arrange/projection.h"
#include "arrange/state_table.h"
#include "arrange/walk.h"
#include "zset/row.h"

struct IvmWalk
{
	IvmArrangement *arrangement;
	Oid			relid;
	IvmOrderedShape *shape;
	IvmIndexProbe *probe;		/* NULL: it is a state table */
	IvmProjection *projection;	/* of the scan */

	/* of the batch */
	Snapshot	snapshot;
	MemoryContext context;
	IvmOrderedTable *table;		/* NULL: not opened yet */
	Relation	heap;			/* NULL: not opened yet */
	Relation	index;			/* NULL: not to be used */
	IndexScanDesc scan;
	ScanKey		keys;
	TupleTableSlot *slot;		/* of the heap */
	TupleTableSlot *row;		/* as it is given */
	MemoryContext row_context;
};

IvmWalk *
ivm_walk_create(IvmArrangement *arrangement, Oid relid)
{
	IvmWalk    *walk = palloc0(sizeof(IvmWalk));

	walk->arrangement = arrangement;
	walk->relid = relid;
	walk->shape = ivm_ordered_shape_create(arrangement);
	if (arrangement->kind == IVM_ARRANGE_INDEX)
	{
		walk->probe = linitial(arrangement->probes);
		walk->projection = ivm_projection_create(walk->probe->scan->tlist, walk->probe->scan->quals,
												 walk->probe->scan->desc);
	}
	return walk;
}

IvmOrderedShape *
ivm_walk_shape(IvmWalk *walk)
{
	return walk->shape;
}

void
ivm_walk_begin(IvmWalk *walk, Snapshot snapshot)
{
	walk->snapshot = snapshot;
	walk->context = CurrentMemoryContext;
	walk->table = NULL;
	walk->heap = NULL;
	walk->index = NULL;
	walk->scan = NULL;
}

void
ivm_walk_end(IvmWalk *walk)
{
	if (walk->table != NULL)
		ivm_ordered_table_close(walk->table);
	walk->table = NULL;
	if (walk->heap == NULL)
		return;
	ExecDropSingleTupleTableSlot(walk->slot);
	ExecDropSingleTupleTableSlot(walk->row);
	if (walk->scan != NULL)
		index_endscan(walk->scan);
	if (walk->index != NULL)
		index_close(walk->index, NoLock);
	table_close(walk->heap, NoLock);
	walk->heap = NULL;
}

/* ---- tables with an index ---- */

/* Scan keys for the index's first columns, which are the keys. */
static void
prepare_keys(IvmWalk *walk)
{
	int			nkeys = list_length(walk->probe->key_numbers);

	walk->keys = palloc0(sizeof(ScanKeyData) * (nkeys + 1));
	for (int i = 0; i < nkeys; i++)
	{
		Oid			operator = list_nth_oid(walk->arrangement->operators, list_nth_int(walk->probe->key_numbers, i));
		Oid			left;
		Oid			right;

		op_input_types(operator, &left, &right);
		ScanKeyEntryInitialize(&walk->keys[i], 0, i + 1, BTEqualStrategyNumber, right,
							   walk->index->rd_indcollation[i], get_opcode(operator), (Datum) 0);
	}
}

static void
open_heap(IvmWalk *walk)
{
	walk->heap = table_open(walk->probe->scan->relid, AccessShareLock);
	walk->slot = table_slot_create(walk->heap, NULL);
	walk->row = MakeSingleTupleTableSlot(walk->shape->desc, &TTSOpsMinimalTuple);
	walk->row_context = AllocSetContextCreate(walk->context, "ivm walked row", ALLOCSET_DEFAULT_SIZES);
	if (!SearchSysCacheExists1(INDEXRELID, ObjectIdGetDatum(walk->probe->index)))
		return;
	walk->index = index_open(walk->probe->index, AccessShareLock);
	if (!ivm_index_is_usable(walk->index, walk->snapshot))
	{
		index_close(walk->index, NoLock);
		walk->index = NULL;
		return;
	}
	prepare_keys(walk);
}

/* The canonical row of what is in the heap's slot, in the row context; NULL if the scan's filter refuses it. */
static MinimalTuple
projected_row(IvmWalk *walk)
{
	TupleTableSlot *result = ivm_projection_apply(walk->projection, walk->slot);
	MemoryContext old;
	MinimalTuple tuple;

	CHECK_FOR_INTERRUPTS();
	if (result == NULL)
		return NULL;
	MemoryContextReset(walk->row_context);
	old = MemoryContextSwitchTo(walk->row_context);
	tuple = ivm_row_form(walk->shape->desc, result);
	MemoryContextSwitchTo(old);
	return tuple;
}

static bool
give(IvmWalk *walk, MinimalTuple tuple, const Datum *values, const bool *isnull,
	 IvmLookupReceiver receiver, void *context)
{
	bool		more = true;

	ExecStoreMinimalTuple(tuple, walk->row, false);
	if (ivm_ordered_row_has_key(walk->shape, walk->row, values, isnull))
		more = receiver(context, walk->row, 1);
	ExecClearTuple(walk->row);
	return more;
}

/* The rows from the index, from the first on, or from the last back; "not_null": without those that have no value. */
static bool
walk_index(IvmWalk *walk, const Datum *values, const bool *isnull, bool forward, bool not_null,
		   IvmLookupReceiver receiver, void *context)
{
	MemoryContext old = MemoryContextSwitchTo(walk->context);
	int			nkeys = list_length(walk->probe->key_numbers);
	ScanDirection direction = forward != walk->probe->backward ? ForwardScanDirection : BackwardScanDirection;
	bool		more = true;

	for (int i = 0; i < nkeys; i++)
	{
		int			number = list_nth_int(walk->probe->key_numbers, i);

		walk->keys[i].sk_argument = values[number];
		walk->keys[i].sk_flags = isnull[number] ? SK_ISNULL | SK_SEARCHNULL : 0;
	}
	if (not_null)
	{
		ScanKeyEntryInitialize(&walk->keys[nkeys], SK_ISNULL | SK_SEARCHNOTNULL, nkeys + 1, InvalidStrategy,
							   InvalidOid, InvalidOid, InvalidOid, (Datum) 0);
		nkeys++;
	}
	if (walk->scan == NULL)
		walk->scan = index_beginscan(walk->heap, walk->index, walk->snapshot, nkeys, 0);
	index_rescan(walk->scan, walk->keys, nkeys, NULL, 0);
	while (more && index_getnext_slot(walk->scan, direction, walk->slot))
	{
		MinimalTuple tuple = projected_row(walk);

		if (tuple == NULL)
			continue;
		MemoryContextSwitchTo(old);
		more = give(walk, tuple, values, isnull, receiver, context);
		MemoryContextSwitchTo(walk->context);
	}
	ExecClearTuple(walk->slot);
	MemoryContextSwitchTo(old);
	return more;
}

/* The rows of the whole table, sorted; "forward" as above. */
static bool
walk_sorted(IvmWalk *walk, const Datum *values, const bool *isnull, IvmLookupReceiver receiver, void *context)
{
	MemoryContext old = MemoryContextSwitchTo(walk->context);
	IvmRowSort *sort = ivm_row_sort_create(walk->shape->order);
	TableScanDesc scan = table_beginscan(walk->heap, walk->snapshot, 0, NULL);
	IvmSortedRow *sorted;
	bool		more = true;

	while (table_scan_getnextslot(scan, ForwardScanDirection, walk->slot))
	{
		MinimalTuple tuple = projected_row(walk);

		if (tuple == NULL)
			continue;
		ExecStoreMinimalTuple(tuple, walk->row, false);
		if (ivm_ordered_row_has_key(walk->shape, walk->row, values, isnull))
			ivm_row_sort_add(sort, 0, tuple, 1);
		ExecClearTuple(walk->row);
	}
	ExecClearTuple(walk->slot);
	table_endscan(scan);
	ivm_row_sort_perform(sort);
	MemoryContextSwitchTo(old);
	while (more && (sorted = ivm_row_sort_next(sort)) != NULL)
		more = give(walk, sorted->tuple, values, isnull, receiver, context);
	ivm_row_sort_end(sort);
	return more;
}

/* The first or last row of the key with a value, of the whole table. */
static void
find_end(IvmWalk *walk, const Datum *values, const bool *isnull, bool last,
		 IvmLookupReceiver receiver, void *context)
{
	MemoryContext old = MemoryContextSwitchTo(walk->context);
	TableScanDesc scan = table_beginscan(walk->heap, walk->snapshot, 0, NULL);
	IvmRowOrder *order = walk->shape->order;
	Datum	   *present = palloc(sizeof(Datum) * order->ncolumns);
	bool	   *present_isnull = palloc(sizeof(bool) * order->ncolumns);
	Datum	   *best_values = palloc(sizeof(Datum) * order->ncolumns);
	bool	   *best_isnull = palloc(sizeof(bool) * order->ncolumns);
	TupleTableSlot *best = MakeSingleTupleTableSlot(walk->shape->desc, &TTSOpsMinimalTuple);

	while (table_scan_getnextslot(scan, ForwardScanDirection, walk->slot))
	{
		MinimalTuple tuple = projected_row(walk);

		if (tuple == NULL)
			continue;
		ExecStoreMinimalTuple(tuple, walk->row, false);
		if (ivm_ordered_row_has_key(walk->shape, walk->row, values, isnull))
		{
			ivm_row_order_values(order, walk->row, present, present_isnull);
			if (!present_isnull[0] &&
				(TTS_EMPTY(best) ||
				 ivm_row_order_compare(order, order->ncolumns, present, present_isnull,
									   best_values, best_isnull) * (last ? -1 : 1) < 0))
			{
				ExecCopySlot(best, walk->row);
				/* in the copy; a computed one is computed again there */
				ivm_row_order_values(order, best, best_values, best_isnull);
				for (int i = 0; i < order->ncolumns; i++)
					if (!best_isnull[i])
						best_values[i] = datumCopy(best_values[i], order->byval[i], order->lengths[i]);
			}
		}
		ExecClearTuple(walk->row);
	}
	ExecClearTuple(walk->slot);
	table_endscan(scan);
	MemoryContextSwitchTo(old);
	if (!TTS_EMPTY(best))
		(void) receiver(context, best, 1);
	ExecDropSingleTupleTableSlot(best);
}

/* ---- both ---- */

static void
open_rows(IvmWalk *walk)
{
	MemoryContext old = MemoryContextSwitchTo(walk->context);

	if (walk->probe != NULL && walk->heap == NULL)
		open_heap(walk);
	else if (walk->probe == NULL && walk->table == NULL)
	{
		Oid			relid = ivm_state_table_get(ivm_arrangement_state_name(walk->arrangement, walk->relid));

		walk->table = ivm_ordered_table_open(walk->shape, relid, walk->snapshot);
	}
	MemoryContextSwitchTo(old);
}

bool
ivm_walk_rows(IvmWalk *walk, const Datum *values, const bool *isnull,
			  IvmLookupReceiver receiver, void *context)
{
	open_rows(walk);
	if (walk->table != NULL)
		return ivm_ordered_table_walk(walk->table, values, isnull, receiver, context);
	if (walk->index != NULL)
		return walk_index(walk, values, isnull, true, false, receiver, context);
	return walk_sorted(walk, values, isnull, receiver, context);
}

void
ivm_walk_end_row(IvmWalk *walk, const Datum *values, const bool *isnull, bool last,
				 IvmLookupReceiver receiver, void *context)
{
	open_rows(walk);
	if (walk->table != NULL)
		ivm_ordered_table_end(walk->table, values, isnull, last, receiver, context);
	else if (walk->index != NULL)
		(void) walk_index(walk, values, isnull, !last, true, receiver, context);
	else
		find_end(walk, values, isnull, last, receiver, context);
}

bool
ivm_walk_has_far(IvmWalk *walk, const Datum *values, const bool *isnull)
{
	open_rows(walk);
	return ivm_ordered_table_has_far(walk->table, values, isnull);
}

bool
ivm_walk_values(IvmWalk *walk, const Datum *values, const bool *isnull, const Datum *bound, bool inclusive,
				bool forward, IvmValueReceiver receiver, void *context)
{
	open_rows(walk);
	return ivm_ordered_table_values(walk->table, values, isnull, bound, inclusive, forward, receiver, context);
}
