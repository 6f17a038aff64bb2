/*-------------------------------------------------------------------------
 *
 * row_order.c
 *	  The canonical order of rows: by some expressions, then by the image.
 *
 * An order that a query asks for leaves open which of two rows with equal values comes first.  Here
 * the hash of their images, as an int8, decides, and then the bytes of the images: so the order of
 * different rows is a function of the rows, whatever they are stored in and whenever they came.
 *
 * A sort in that order is one of the server's.  Rows of one place in it, which differ
 * in their bytes alone, come together, and are put in order as they are read.
 *
 * Memory: a sort, of at most work_mem and what this process may pin, and the rows of one place.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_operator_d.h"
#include "catalog/pg_type_d.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/tuplesort.h"

#include "arrange/projection.h"
#include "arrange/row_order.h"
#include "base/settings.h"
#include "memory/reclaim.h"
#include "plan/order_key.h"
#include "zset/row.h"

/* The least that a sort of the server's takes: where spilling is forced, or memory is short. */
#define LEAST_SORT_MEMORY	64	/* kB */

/* Columns of what is sorted: the hash, those of the order, and then: */
enum
{
	BEHIND_IMAGE,
	BEHIND_WEIGHT,
	BEHIND_ROW,
	BEHIND_COLUMNS
};

struct IvmRowSort
{
	IvmRowOrder *order;
	MemoryContext context;		/* holds this */
	MemoryContext row_context;	/* while a row is added */
	MemoryContext group_context;	/* holds the rows of one place */
	Tuplesortstate *sort;
	TupleDesc	desc;			/* of what is sorted */
	TupleTableSlot *added;
	TupleTableSlot *row;		/* as it was added */
	TupleTableSlot *read;		/* not given yet */
	bool		has_read;
	int			ngroup;			/* rows of the present place */
	int			given;
	int			size;
	IvmSortedRow *group;
};

IvmRowOrder *
ivm_row_order_create(List *order, TupleDesc desc)
{
	IvmRowOrder *result = palloc0(sizeof(IvmRowOrder));
	int			ncolumns = list_length(order);
	ListCell   *cell;

	result->desc = desc;
	result->econtext = ivm_expr_context_create();
	result->columns = palloc0(sizeof(SortSupportData) * Max(ncolumns, 1));
	result->types = palloc(sizeof(Oid) * Max(ncolumns, 1));
	result->operators = palloc(sizeof(Oid) * Max(ncolumns, 1));
	result->lengths = palloc(sizeof(int16) * Max(ncolumns, 1));
	result->byval = palloc(sizeof(bool) * Max(ncolumns, 1));
	foreach(cell, order)
	{
		IvmOrderKey *key = lfirst(cell);
		int			i = result->ncolumns++;

		result->states = lappend(result->states, ExecInitExpr(key->expr, NULL));
		result->types[i] = ivm_order_key_type(key);
		result->operators[i] = key->sort_operator;
		get_typlenbyval(result->types[i], &result->lengths[i], &result->byval[i]);
		result->columns[i].ssup_cxt = CurrentMemoryContext;
		result->columns[i].ssup_collation = key->collation;
		result->columns[i].ssup_nulls_first = key->nulls_first;
		result->columns[i].ssup_attno = i + 1;
		PrepareSortSupportFromOrderingOp(key->sort_operator, &result->columns[i]);
	}
	return result;
}

void
ivm_row_order_values(IvmRowOrder *order, TupleTableSlot *row, Datum *values, bool *isnull)
{
	ListCell   *cell;
	int			i = 0;

	ResetExprContext(order->econtext);
	order->econtext->ecxt_scantuple = row;
	foreach(cell, order->states)
	{
		values[i] = ExecEvalExprSwitchContext(lfirst(cell), order->econtext, &isnull[i]);
		i++;
	}
}

int
ivm_row_order_compare(IvmRowOrder *order, int ncolumns, const Datum *a, const bool *a_isnull,
					  const Datum *b, const bool *b_isnull)
{
	int			result = 0;

	for (int i = 0; i < ncolumns && result == 0; i++)
		result = ApplySortComparator(a[i], a_isnull[i], b[i], b_isnull[i], &order->columns[i]);
	return result;
}

int
ivm_row_order_compare_images(uint64 a_hash, MinimalTuple a, uint64 b_hash, MinimalTuple b)
{
	int			result;

	if (a_hash != b_hash)
		return (int64) a_hash < (int64) b_hash ? -1 : 1;
	result = memcmp(a, b, Min(a->t_len, b->t_len));
	return result != 0 ? result : (a->t_len > b->t_len) - (a->t_len < b->t_len);
}

/* ---- sorting ---- */

/* In kB: no more than may be in memory while one works on it. */
static int
sort_memory(void)
{
	Size		limit = ivm_pin_limit() / 1024;

	if (ivm_debug_spill[0] != '\0' && ivm_spill_is_forced("lookup"))
		return LEAST_SORT_MEMORY;
	return Max((int) Min((Size) work_mem, limit), LEAST_SORT_MEMORY);
}

IvmRowSort *
ivm_row_sort_create(IvmRowOrder *order)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "ivm row sort", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	IvmRowSort *result = palloc0(sizeof(IvmRowSort));
	int			n = order->ncolumns;
	AttrNumber *columns = palloc(sizeof(AttrNumber) * (n + 2));
	Oid		   *operators = palloc(sizeof(Oid) * (n + 2));
	Oid		   *collations = palloc(sizeof(Oid) * (n + 2));
	bool	   *nulls_first = palloc(sizeof(bool) * (n + 2));

	result->order = order;
	result->context = context;
	result->row_context = AllocSetContextCreate(context, "ivm sorted row", ALLOCSET_DEFAULT_SIZES);
	result->group_context = AllocSetContextCreate(context, "ivm sorted rows", ALLOCSET_DEFAULT_SIZES);
	result->desc = CreateTemplateTupleDesc(1 + n + BEHIND_COLUMNS);
	TupleDescInitEntry(result->desc, 1, NULL, INT8OID, -1, 0);
	for (int i = 0; i < n; i++)
		TupleDescInitEntry(result->desc, i + 2, NULL, order->types[i], -1, 0);
	TupleDescInitEntry(result->desc, n + 2 + BEHIND_IMAGE, NULL, INT8OID, -1, 0);
	TupleDescInitEntry(result->desc, n + 2 + BEHIND_WEIGHT, NULL, INT8OID, -1, 0);
	TupleDescInitEntry(result->desc, n + 2 + BEHIND_ROW, NULL, BYTEAOID, -1, 0);

	for (int i = 0; i < n + 2; i++)
	{
		bool		own = i > 0 && i <= n;

		columns[i] = i + 1;
		operators[i] = own ? order->operators[i - 1] : Int8LessOperator;
		collations[i] = own ? order->columns[i - 1].ssup_collation : InvalidOid;
		nulls_first[i] = own && order->columns[i - 1].ssup_nulls_first;
	}
	result->sort = tuplesort_begin_heap(result->desc, n + 2, columns, operators, collations, nulls_first,
										sort_memory(), NULL, TUPLESORT_NONE);
	result->added = MakeSingleTupleTableSlot(result->desc, &TTSOpsVirtual);
	result->row = MakeSingleTupleTableSlot(order->desc, &TTSOpsMinimalTuple);
	result->read = MakeSingleTupleTableSlot(result->desc, &TTSOpsMinimalTuple);
	MemoryContextSwitchTo(old);
	return result;
}

void
ivm_row_sort_add(IvmRowSort *sort, uint64 hash, MinimalTuple tuple, int64 weight)
{
	MemoryContext old = MemoryContextSwitchTo(sort->row_context);
	TupleTableSlot *added = sort->added;
	int			n = sort->order->ncolumns;
	bytea	   *row = ivm_row_to_bytes(CurrentMemoryContext, tuple);

	ExecClearTuple(added);
	ExecStoreMinimalTuple(tuple, sort->row, false);
	memset(added->tts_isnull, 0, sizeof(bool) * sort->desc->natts);
	added->tts_values[0] = Int64GetDatum((int64) hash);
	ivm_row_order_values(sort->order, sort->row, added->tts_values + 1, added->tts_isnull + 1);
	added->tts_values[n + 1 + BEHIND_IMAGE] = Int64GetDatum((int64) ivm_row_image_hash(tuple));
	added->tts_values[n + 1 + BEHIND_WEIGHT] = Int64GetDatum(weight);
	added->tts_values[n + 1 + BEHIND_ROW] = PointerGetDatum(row);
	ExecStoreVirtualTuple(added);
	tuplesort_puttupleslot(sort->sort, added);
	ExecClearTuple(sort->row);
	MemoryContextSwitchTo(old);
	MemoryContextReset(sort->row_context);
}

void
ivm_row_sort_perform(IvmRowSort *sort)
{
	tuplesort_performsort(sort->sort);
	sort->has_read = tuplesort_gettupleslot(sort->sort, true, true, sort->read, NULL);
}

static int
compare_sorted(const void *a, const void *b)
{
	const IvmSortedRow *x = a;
	const IvmSortedRow *y = b;

	return ivm_row_order_compare_images(x->image, x->tuple, y->image, y->tuple);
}

/* Takes the row that was read into the group, if it has that place in the order. */
static bool
take_row(IvmRowSort *sort)
{
	TupleTableSlot *read = sort->read;
	int			n = sort->order->ncolumns;
	IvmSortedRow *row;
	MemoryContext old;
	bytea	   *image;

	if (!sort->has_read)
		return false;
	slot_getallattrs(read);
	if (sort->ngroup > 0)
	{
		IvmSortedRow *first = &sort->group[0];

		if ((uint64) DatumGetInt64(read->tts_values[n + 1 + BEHIND_IMAGE]) != first->image ||
			(uint64) DatumGetInt64(read->tts_values[0]) != first->hash ||
			ivm_row_order_compare(sort->order, n, first->values, first->isnull,
								  read->tts_values + 1, read->tts_isnull + 1) != 0)
			return false;
	}
	if (sort->ngroup == sort->size)
	{
		sort->size = Max(sort->size * 2, 4);
		old = MemoryContextSwitchTo(sort->context);
		sort->group = sort->group == NULL ? palloc(sizeof(IvmSortedRow) * sort->size) :
			repalloc(sort->group, sizeof(IvmSortedRow) * sort->size);
		MemoryContextSwitchTo(old);
	}
	row = &sort->group[sort->ngroup++];
	old = MemoryContextSwitchTo(sort->group_context);
	row->values = palloc(sizeof(Datum) * Max(n, 1));
	row->isnull = palloc(sizeof(bool) * Max(n, 1));
	image = DatumGetByteaPP(read->tts_values[n + 1 + BEHIND_ROW]);
	row->tuple = palloc(VARSIZE_ANY_EXHDR(image));
	memcpy(row->tuple, VARDATA_ANY(image), VARSIZE_ANY_EXHDR(image));
	ExecStoreMinimalTuple(row->tuple, sort->row, false);
	ivm_row_order_values(sort->order, sort->row, row->values, row->isnull);
	for (int i = 0; i < n; i++)
		if (!row->isnull[i] && !sort->order->byval[i])
			row->values[i] = datumCopy(row->values[i], false, sort->order->lengths[i]);
	ExecClearTuple(sort->row);
	row->hash = (uint64) DatumGetInt64(read->tts_values[0]);
	row->image = (uint64) DatumGetInt64(read->tts_values[n + 1 + BEHIND_IMAGE]);
	row->weight = DatumGetInt64(read->tts_values[n + 1 + BEHIND_WEIGHT]);
	MemoryContextSwitchTo(old);
	return true;
}

IvmSortedRow *
ivm_row_sort_next(IvmRowSort *sort)
{
	CHECK_FOR_INTERRUPTS();
	if (sort->given < sort->ngroup)
		return &sort->group[sort->given++];
	sort->ngroup = 0;
	MemoryContextReset(sort->group_context);
	while (take_row(sort))
		sort->has_read = tuplesort_gettupleslot(sort->sort, true, true, sort->read, NULL);
	if (sort->ngroup == 0)
		return NULL;
	if (sort->ngroup > 1)
	{
		int			n = 0;

		qsort(sort->group, sort->ngroup, sizeof(IvmSortedRow), compare_sorted);
		for (int i = 1; i < sort->ngroup; i++)
		{
			if (ivm_row_image_equal(sort->group[n].tuple, sort->group[i].tuple))
				sort->group[n].weight += sort->group[i].weight;
			else
				sort->group[++n] = sort->group[i];
		}
		sort->ngroup = n + 1;
	}
	sort->given = 1;
	return &sort->group[0];
}

void
ivm_row_sort_end(IvmRowSort *sort)
{
	tuplesort_end(sort->sort);
	ExecDropSingleTupleTableSlot(sort->added);
	ExecDropSingleTupleTableSlot(sort->row);
	ExecDropSingleTupleTableSlot(sort->read);
	MemoryContextDelete(sort->context);
}
