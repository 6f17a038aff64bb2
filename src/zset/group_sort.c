/*-------------------------------------------------------------------------
 *
 * group_sort.c
 *	  Rows of numbered groups, each group's in an order and consolidated.
 *
 * A sort of the server's over the number of the group, the columns of the order, and the weight
 * beside them.  The order is complete up to rows of one image, so these come one after the
 * other, and their weights are added up as they are read.
 *
 * It is interrupted as the server's sorts are, and its files go with the transaction.
 *
 * Costs: a copy of each row, n log n comparisons.
 *
 * Memory: the sort's, one row and the one after it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_operator_d.h"
#include "catalog/pg_type_d.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/tuplesort.h"

#include "zset/group_sort.h"

/* Columns of what is sorted; the row's own follow. */
#define GROUP_COLUMN	1
#define WEIGHT_COLUMN	2
#define OWN_COLUMNS		2

/* What the server's sorts take at least. */
#define LEAST_MEMORY	(64 * 1024)

struct IvmGroupSort
{
	MemoryContext context;
	TupleDesc	desc;			/* of what is sorted */
	TupleTableSlot *input;
	TupleTableSlot *row;		/* that was given */
	TupleTableSlot *ahead;		/* the one after it */
	bool		ended;			/* there is none */
	Tuplesortstate *sort;
};

IvmGroupSort *
ivm_group_sort_create(TupleDesc desc, const IvmGroupOrder *order, Size memory)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "ivm group sort", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	IvmGroupSort *sort = palloc0(sizeof(IvmGroupSort));
	int			n = order->ncolumns + 1;
	AttrNumber *columns = palloc(sizeof(AttrNumber) * n);
	Oid		   *operators = palloc(sizeof(Oid) * n);
	Oid		   *collations = palloc(sizeof(Oid) * n);
	bool	   *nulls_first = palloc(sizeof(bool) * n);

	sort->context = context;
	sort->desc = CreateTemplateTupleDesc(desc->natts + OWN_COLUMNS);
	TupleDescInitEntry(sort->desc, GROUP_COLUMN, "group", INT8OID, -1, 0);
	TupleDescInitEntry(sort->desc, WEIGHT_COLUMN, "weight", INT8OID, -1, 0);
	for (int i = 0; i < desc->natts; i++)
		TupleDescCopyEntry(sort->desc, i + 1 + OWN_COLUMNS, desc, i + 1);
	sort->input = MakeSingleTupleTableSlot(sort->desc, &TTSOpsVirtual);
	sort->row = MakeSingleTupleTableSlot(sort->desc, &TTSOpsMinimalTuple);
	sort->ahead = MakeSingleTupleTableSlot(sort->desc, &TTSOpsMinimalTuple);

	columns[0] = GROUP_COLUMN;
	operators[0] = Int8LessOperator;
	collations[0] = InvalidOid;
	nulls_first[0] = false;
	for (int i = 0; i < order->ncolumns; i++)
	{
		columns[i + 1] = order->columns[i] + OWN_COLUMNS;
		operators[i + 1] = order->operators[i];
		collations[i + 1] = order->collations[i];
		nulls_first[i + 1] = order->nulls_first[i];
	}
	sort->sort = tuplesort_begin_heap(sort->desc, n, columns, operators, collations, nulls_first,
									  (int) (Min(Max(memory, LEAST_MEMORY), (Size) MAX_KILOBYTES * 1024) / 1024),
									  NULL, TUPLESORT_NONE);
	MemoryContextSwitchTo(old);
	return sort;
}

void
ivm_group_sort_add(IvmGroupSort *sort, int64 group, const Datum *values, const bool *isnull, int64 weight)
{
	TupleTableSlot *input = sort->input;
	int			natts = sort->desc->natts - OWN_COLUMNS;

	ExecClearTuple(input);
	input->tts_values[GROUP_COLUMN - 1] = Int64GetDatum(group);
	input->tts_isnull[GROUP_COLUMN - 1] = false;
	input->tts_values[WEIGHT_COLUMN - 1] = Int64GetDatum(weight);
	input->tts_isnull[WEIGHT_COLUMN - 1] = false;
	memcpy(input->tts_values + OWN_COLUMNS, values, sizeof(Datum) * natts);
	memcpy(input->tts_isnull + OWN_COLUMNS, isnull, sizeof(bool) * natts);
	ExecStoreVirtualTuple(input);
	tuplesort_puttupleslot(sort->sort, input);
	ExecClearTuple(input);
}

static void
look_ahead(IvmGroupSort *sort)
{
	/* the sort's own memory ends with its next row, and two are looked at */
	if (!tuplesort_gettupleslot(sort->sort, true, true, sort->ahead, NULL))
		sort->ended = true;
	else
		slot_getallattrs(sort->ahead);
}

void
ivm_group_sort_perform(IvmGroupSort *sort)
{
	MemoryContext old = MemoryContextSwitchTo(sort->context);

	tuplesort_performsort(sort->sort);
	look_ahead(sort);
	MemoryContextSwitchTo(old);
}

/* Are the row and the one after it of one image? */
static bool
same_image(IvmGroupSort *sort)
{
	TupleTableSlot *a = sort->row;
	TupleTableSlot *b = sort->ahead;

	for (int i = OWN_COLUMNS; i < sort->desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(sort->desc, i);

		if (a->tts_isnull[i] != b->tts_isnull[i] ||
			(!a->tts_isnull[i] && !datum_image_eq(a->tts_values[i], b->tts_values[i], attribute->attbyval,
												  attribute->attlen)))
			return false;
	}
	return true;
}

static int64
group_ahead(IvmGroupSort *sort)
{
	return DatumGetInt64(sort->ahead->tts_values[GROUP_COLUMN - 1]);
}

bool
ivm_group_sort_next(IvmGroupSort *sort, int64 group, Datum **values, bool **isnull, int64 *weight)
{
	MemoryContext old = MemoryContextSwitchTo(sort->context);
	bool		found = false;

	while (!sort->ended && group_ahead(sort) < group)
		look_ahead(sort);
	while (!found && !sort->ended && group_ahead(sort) == group)
	{
		TupleTableSlot *row = sort->ahead;

		CHECK_FOR_INTERRUPTS();
		sort->ahead = sort->row;
		sort->row = row;
		*weight = DatumGetInt64(row->tts_values[WEIGHT_COLUMN - 1]);
		look_ahead(sort);
		while (!sort->ended && group_ahead(sort) == group && same_image(sort))
		{
			*weight += DatumGetInt64(sort->ahead->tts_values[WEIGHT_COLUMN - 1]);
			look_ahead(sort);
		}
		found = *weight != 0;
	}
	*values = sort->row->tts_values + OWN_COLUMNS;
	*isnull = sort->row->tts_isnull + OWN_COLUMNS;
	MemoryContextSwitchTo(old);
	return found;
}

void
ivm_group_sort_destroy(IvmGroupSort *sort)
{
	tuplesort_end(sort->sort);
	ExecDropSingleTupleTableSlot(sort->input);
	ExecDropSingleTupleTableSlot(sort->row);
	ExecDropSingleTupleTableSlot(sort->ahead);
	MemoryContextDelete(sort->context);
}
