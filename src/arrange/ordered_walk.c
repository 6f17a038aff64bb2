/*-------------------------------------------------------------------------
 *
 * ordered_walk.c
 *	  Rows of a key in an ordered state table: all in their order, or one at an end.
 *
 * The index has them in the canonical order (row_order.h) but for rows of one place, which differ in their bytes
 * alone: these are collected, and sorted before they are given.  Far rows of the key (ordered_table.c) are sorted, and
 * merged in.  Rows of another key with the same hash are passed over.
 *
 * Values alone, without the rows, come from a bound on in either direction.
 *
 * Costs: a descent in the index for the far rows, one for the others, and what is given.
 *
 * Memory: the rows of one place; far rows in a sort.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/tableam.h"
#include "catalog/pg_index.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "arrange/ordered_internal.h"
#include "zset/row.h"

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

/* Scan key for the rows whose first value in the order comes behind that one, or before it. */
static void
init_bound(IvmOrderedTable *table, ScanKey key, Datum bound, bool inclusive, bool forward)
{
	int			i = FIRST_COLUMN - 1;
	bool		greater = forward == ((table->index->rd_indoption[i] & INDOPTION_DESC) == 0);
	StrategyNumber strategy = greater ? (inclusive ? BTGreaterEqualStrategyNumber : BTGreaterStrategyNumber) :
		(inclusive ? BTLessEqualStrategyNumber : BTLessStrategyNumber);
	Oid			type = table->index->rd_opcintype[i];
	Oid			operator = get_opfamily_member(table->index->rd_opfamily[i], type, type, strategy);

	if (!OidIsValid(operator))
		elog(ERROR, "no operator %d for type %u in operator family %u", strategy, type,
			 table->index->rd_opfamily[i]);
	ScanKeyEntryInitialize(key, 0, FIRST_COLUMN, strategy, InvalidOid, table->index->rd_indcollation[i],
						   get_opcode(operator), bound);
}

/* The same for rows that are not far and whose first value in the order is not NULL, or beyond the bound. */
static void
begin_scan_not_null(IvmOrderedTable *table, uint64 hash, const Datum *bound, bool inclusive, bool forward)
{
	MemoryContext old = MemoryContextSwitchTo(table->context);
	ScanKeyData keys[3];

	if (table->end_scan == NULL)
		table->end_scan = index_beginscan(table->heap, table->index, table->snapshot, 3, 0);
	ScanKeyInit(&keys[0], COLUMN_HASH, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum((int64) hash));
	ScanKeyInit(&keys[1], COLUMN_FAR, BTEqualStrategyNumber, F_BOOLEQ, BoolGetDatum(false));
	if (bound == NULL)
		ScanKeyEntryInitialize(&keys[2], SK_ISNULL | SK_SEARCHNOTNULL, FIRST_COLUMN, InvalidStrategy, InvalidOid,
							   InvalidOid, InvalidOid, (Datum) 0);
	else
		init_bound(table, &keys[2], *bound, inclusive, forward);
	index_rescan(table->end_scan, keys, 3, NULL, 0);
	MemoryContextSwitchTo(old);
}

static bool
next_stored_in(IvmOrderedTable *table, IndexScanDesc scan, ScanDirection direction)
{
	MemoryContext old = MemoryContextSwitchTo(table->context);
	bool		found;

	CHECK_FOR_INTERRUPTS();
	found = index_getnext_slot(scan, direction, table->slot);
	MemoryContextSwitchTo(old);
	if (found)
		slot_getallattrs(table->slot);
	return found;
}

static bool
next_stored(IvmOrderedTable *table)
{
	return next_stored_in(table, table->scan, ForwardScanDirection);
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

	return table->nplaced > 0 && (uint64) ivm_ordered_stored_number(table, BEHIND_IMAGE) == table->place_image &&
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
		table->place_image = (uint64) ivm_ordered_stored_number(table, BEHIND_IMAGE);
		for (int i = 0; i < order->ncolumns; i++)
		{
			Datum		value = table->slot->tts_values[FIRST_COLUMN - 1 + i];

			table->place_isnull[i] = table->slot->tts_isnull[FIRST_COLUMN - 1 + i];
			table->place_values[i] = table->place_isnull[i] ? (Datum) 0 :
				datumCopy(value, order->byval[i], order->lengths[i]);
		}
	}
	table->placed[table->nplaced].tuple = ivm_ordered_stored_tuple(table);
	table->placed[table->nplaced++].weight = ivm_ordered_stored_number(table, BEHIND_WEIGHT);
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
		tuple = ivm_ordered_stored_tuple(table);
		ivm_row_sort_add(table->far, 0, tuple, ivm_ordered_stored_number(table, BEHIND_WEIGHT));
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

/* The first or last far row of the key: a copy in the place context, or NULL. */
static MinimalTuple
find_far_end(IvmOrderedTable *table, uint64 hash, bool last)
{
	IvmRowOrder *order = table->shape->order;
	MinimalTuple best = NULL;
	MemoryContext old = MemoryContextSwitchTo(table->place_context);
	Datum	   *values = palloc(sizeof(Datum) * order->ncolumns);
	bool	   *isnull = palloc(sizeof(bool) * order->ncolumns);

	begin_scan(table, hash, true);
	while (next_stored(table))
	{
		MinimalTuple tuple = ivm_ordered_stored_tuple(table);
		int			result = -1;

		ExecStoreMinimalTuple(tuple, table->row, false);
		if (ivm_ordered_row_has_key(table->shape, table->row, table->values, table->isnull))
		{
			ivm_row_order_values(order, table->row, values, isnull);
			if (isnull[0])
				result = 1;
			else if (best != NULL)
				result = ivm_row_order_compare(order, order->ncolumns, values, isnull,
											   table->place_values, table->place_isnull) * (last ? -1 : 1);
		}
		else
			result = 1;
		ExecClearTuple(table->row);
		if (result >= 0)
		{
			pfree(tuple);
			continue;
		}
		best = tuple;
		for (int i = 0; i < order->ncolumns; i++)
		{
			table->place_isnull[i] = isnull[i];
			table->place_values[i] = isnull[i] ? (Datum) 0 : datumCopy(values[i], order->byval[i], order->lengths[i]);
		}
	}
	MemoryContextSwitchTo(old);
	return best;
}

void
ivm_ordered_table_end(IvmOrderedTable *table, const Datum *values, const bool *isnull, bool last,
					  IvmLookupReceiver receiver, void *context)
{
	IvmRowOrder *order = table->shape->order;
	uint64		hash = ivm_ordered_hash_key(table->shape, values, isnull);
	MinimalTuple far;
	MinimalTuple tuple = NULL;
	MemoryContext old;

	table->values = values;
	table->isnull = isnull;
	MemoryContextReset(table->place_context);
	far = find_far_end(table, hash, last);

	begin_scan_not_null(table, hash, NULL, false, !last);
	old = MemoryContextSwitchTo(table->place_context);
	while (tuple == NULL && next_stored_in(table, table->end_scan, last ? BackwardScanDirection : ForwardScanDirection))
	{
		tuple = ivm_ordered_stored_tuple(table);
		ExecStoreMinimalTuple(tuple, table->row, false);
		if (!ivm_ordered_row_has_key(table->shape, table->row, values, isnull))
		{
			pfree(tuple);
			tuple = NULL;
		}
		ExecClearTuple(table->row);
	}
	MemoryContextSwitchTo(old);
	if (far != NULL &&
		(tuple == NULL ||
		 ivm_row_order_compare(order, order->ncolumns, table->place_values, table->place_isnull,
							   table->slot->tts_values + FIRST_COLUMN - 1,
							   table->slot->tts_isnull + FIRST_COLUMN - 1) * (last ? -1 : 1) < 0))
		tuple = far;
	if (tuple != NULL)
	{
		ExecStoreMinimalTuple(tuple, table->row, false);
		(void) receiver(context, table->row, 1);
		ExecClearTuple(table->row);
	}
	ExecClearTuple(table->slot);
}

bool
ivm_ordered_table_has_far(IvmOrderedTable *table, const Datum *values, const bool *isnull)
{
	bool		result;

	/* only a value whose length varies is too long */
	if (table->shape->order->lengths[0] != -1)
		return false;
	begin_scan(table, ivm_ordered_hash_key(table->shape, values, isnull), true);
	result = next_stored(table);
	ExecClearTuple(table->slot);
	return result;
}

/* Has the stored row the key that is looked for? */
static bool
stored_row_has_key(IvmOrderedTable *table, const Datum *values, const bool *isnull)
{
	MemoryContext old;
	bool		result;

	if (table->shape->key_states == NIL)
		return true;
	old = MemoryContextSwitchTo(table->place_context);
	ExecStoreMinimalTuple(ivm_ordered_stored_tuple(table), table->row, false);
	result = ivm_ordered_row_has_key(table->shape, table->row, values, isnull);
	ExecClearTuple(table->row);
	MemoryContextSwitchTo(old);
	MemoryContextReset(table->place_context);
	return result;
}

bool
ivm_ordered_table_values(IvmOrderedTable *table, const Datum *values, const bool *isnull, const Datum *bound,
						 bool inclusive, bool forward, IvmValueReceiver receiver, void *context)
{
	uint64		hash = ivm_ordered_hash_key(table->shape, values, isnull);
	bool		more = true;

	MemoryContextReset(table->place_context);
	begin_scan_not_null(table, hash, bound, inclusive, forward);
	while (more && next_stored_in(table, table->end_scan, forward ? ForwardScanDirection : BackwardScanDirection))
	{
		if (stored_row_has_key(table, values, isnull))
			more = receiver(context, table->slot->tts_values[FIRST_COLUMN - 1],
							ivm_ordered_stored_number(table, BEHIND_WEIGHT));
	}
	ExecClearTuple(table->slot);
	return more;
}
