/*-------------------------------------------------------------------------
 *
 * rebuild.c
 *	  Bring a view that has contents back to its query: rebuild and verify.
 *
 * Both compare what the query gives with what the view holds, as multisets:
 * every row of the query counts +1, every row of the view -1, and what does
 * not cancel out is the difference.
 *
 * A rebuild takes the query's rows from the dataflow itself, run over the full
 * inputs with an empty state.  Rows are compared by image: a row that differs
 * from the stored one only in its image, like 1.0 from 1.00, is replaced, so
 * that afterwards the view holds the images that the operators will name when
 * they take rows back.  The difference is written like a batch, in place:
 * readers go on, and rows that were right are not touched.  A view that has
 * no index to find its rows by (PostgreSQL filled it, or the user dropped it)
 * gets one.
 *
 * Verifying must not trust the dataflow.  It runs the query as the planner
 * made it and compares what images leave over by the types' equality, as
 * EXCEPT ALL would.  One thing more is forgiven.  A sum of floating-point
 * numbers depends on the order of its additions: the view's is exact, the
 * executor's is not.  So where a plan has such a sum, floating-point columns
 * are equal within a relative difference of 1e-9.
 *
 * Memory: both sides' differing rows in an arena, at most the view and the
 * query's result together.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <float.h>
#include <math.h>

#include "apply/apply.h"
#include "apply/state.h"
#include "apply/view_index.h"
#include "dataflow/dataflow.h"
#include "memory/arena.h"
#include "stats/stats.h"
#include "zset/key.h"
#include "zset/zset.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type_d.h"
#include "commands/matview.h"
#include "miscadmin.h"
#include "utils/datum.h"
#include "utils/float.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/typcache.h"

/* Relative difference up to which floating-point sums count as equal. */
#define FLOAT_TOLERANCE	1e-9

/* Rows collected on their way to being compared. */
typedef struct Collection
{
	IvmZset    *zset;
	MemoryContext row_context;
	uint64		received;
} Collection;

/* What a rebuild writes. */
typedef struct Difference
{
	Relation	view;
	IvmPlan    *plan;
	IvmZset    *delta;
	Snapshot	snapshot;
	IvmApplyCounts *counts;
} Difference;

/* How rows are compared when their images differ. */
typedef struct RowComparison
{
	TupleDesc	desc;
	int			nkeys;
	int		   *key_columns;	/* those with an equality, 0-based */
	IvmKey	   *key;
	int			nfloats;
	int		   *float_columns;	/* those compared within the tolerance */
	int			nimages;
	int		   *image_columns;	/* those whose types have no equality */
} RowComparison;

/* A row that images left over. */
typedef struct LeftRow
{
	uint64		hash;
	int64		weight;
	Datum	   *values;
	bool	   *isnull;
	Datum	   *keys;
	bool	   *keys_isnull;
} LeftRow;

static void write_difference(void *difference);
static void collect_row(void *context, TupleTableSlot *row, int64 weight);
static void collect_view(Collection *collection, Relation view, Snapshot snapshot);
static void cancel_equal_rows(IvmZset *difference, IvmPlan *plan, int64 *missing, int64 *extra);
static RowComparison *make_comparison(TupleDesc desc, IvmPlan *plan);
static bool plan_has_float_sum(IvmPlan *plan);
static void fill_left_row(RowComparison *comparison, LeftRow *left, IvmRow *row);
static int	compare_left_rows(const void *a, const void *b);
static bool left_rows_equal(RowComparison *comparison, LeftRow *a, LeftRow *b);
static bool floats_match(Oid type, Datum a, Datum b);

void
ivm_view_rebuild(Oid relid, IvmPlan *plan, Snapshot snapshot, IvmApplyCounts *counts)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "ivm rebuild", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	IvmArena   *arena = ivm_arena_create("rebuild", context);
	Collection	collection;
	IvmDataflow *dataflow;
	IvmZset    *result;
	Difference	difference;
	Relation	view;

	view = table_open(relid, RowExclusiveLock);
	PushActiveSnapshot(snapshot);
	ivm_view_reset_state(relid, plan);
	PopActiveSnapshot();

	snapshot = ivm_push_advanced_snapshot(snapshot);
	collection.zset = ivm_zset_create(arena, plan->root->desc);
	collection.row_context = AllocSetContextCreate(context, "ivm rebuild row", ALLOCSET_DEFAULT_SIZES);
	collection.received = 0;

	ivm_stats_build_phase("running query");
	dataflow = ivm_dataflow_create(plan, context);
	ivm_dataflow_begin(dataflow, snapshot, arena, true);
	ivm_dataflow_set_receiver(dataflow, collect_row, &collection);
	ivm_dataflow_populate(dataflow);
	result = ivm_dataflow_finish(dataflow);
	if (result != NULL)
	{
		IvmZsetParts parts;
		IvmRow	  **rows;
		int64		count;

		ivm_zset_parts_begin(result, &parts);
		while ((rows = ivm_zset_parts_next(&parts, &count)) != NULL)
			for (int64 i = 0; i < count; i++)
			{
				CHECK_FOR_INTERRUPTS();
				ivm_zset_add_tuple(collection.zset, ivm_row_tuple(rows[i]), rows[i]->weight);
			}
		ivm_zset_parts_end(&parts);
	}
	ivm_dataflow_end(dataflow);
	ivm_dataflow_destroy(dataflow);

	ivm_stats_build_phase("comparing");
	collect_view(&collection, view, snapshot);

	ivm_stats_build_phase("writing differences");
	ivm_view_drop_obsolete_indexes(view, plan);
	difference.view = view;
	difference.plan = plan;
	difference.delta = collection.zset;
	difference.snapshot = snapshot;
	difference.counts = counts;
	if (!ivm_view_within_limits(write_difference, &difference))
	{
		/*
		 * a key has grown too long for its index; any other limit is raised
		 * again
		 */
		(void) ivm_view_replace_key_index(view, plan);
		write_difference(&difference);
	}
	CommandCounterIncrement();
	ivm_view_create_index(relid, plan);
	ivm_zset_close(collection.zset);
	PopActiveSnapshot();

	if (!RelationIsPopulated(view))
		SetMatViewPopulatedState(view, true);
	table_close(view, NoLock);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
}

static void
write_difference(void *difference)
{
	Difference *what = difference;

	ivm_view_apply(what->view, what->plan, what->delta, what->snapshot, what->counts);
}

void
ivm_view_verify(Oid relid, IvmPlan *plan, Snapshot snapshot, int64 *missing, int64 *extra)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "ivm verify", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	IvmArena   *arena = ivm_arena_create("verify", context);
	Collection	collection;
	Relation	view;

	view = table_open(relid, AccessShareLock);
	PushActiveSnapshot(snapshot);
	collection.zset = ivm_zset_create(arena, plan->root->desc);
	collection.row_context = AllocSetContextCreate(context, "ivm verify row", ALLOCSET_DEFAULT_SIZES);
	collection.received = 0;

	ivm_execute_subtree(plan, plan->statement->planTree, snapshot, collect_row, &collection);
	collect_view(&collection, view, snapshot);
	cancel_equal_rows(collection.zset, plan, missing, extra);
	ivm_zset_close(collection.zset);

	PopActiveSnapshot();
	table_close(view, NoLock);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
}

static void
collect_row(void *context, TupleTableSlot *row, int64 weight)
{
	Collection *collection = context;
	MemoryContext caller;

	CHECK_FOR_INTERRUPTS();
	MemoryContextReset(collection->row_context);
	caller = MemoryContextSwitchTo(collection->row_context);
	ivm_zset_add(collection->zset, row, weight);
	MemoryContextSwitchTo(caller);
	if (++collection->received % 10000 == 0)
		ivm_stats_build_tuples(collection->received);
}

/* Subtracts the view's contents. */
static void
collect_view(Collection *collection, Relation view, Snapshot snapshot)
{
	TupleTableSlot *slot = table_slot_create(view, NULL);
	TableScanDesc scan = table_beginscan_strat(view, snapshot, 0, NULL, true, false);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
		collect_row(collection, slot, -1);
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
}

/* The same for a part of the difference: adds to the counts. */
static void
cancel_part(RowComparison *comparison, IvmRow **part, int64 n, int64 *missing, int64 *extra)
{
	LeftRow    *rows = MemoryContextAllocHuge(CurrentMemoryContext, Max(n, 1) * sizeof(LeftRow));
	int64		end;

	for (int64 i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		fill_left_row(comparison, &rows[i], part[i]);
	}
	qsort(rows, n, sizeof(LeftRow), compare_left_rows);

	/* Equal rows have equal hashes; within a hash, missing ones stand first. */
	for (int64 first = 0; first < n; first = end)
	{
		int64		negative = first;

		end = first + 1;
		while (end < n && rows[end].hash == rows[first].hash)
			end++;
		while (negative < end && rows[negative].weight > 0)
			negative++;
		for (int64 i = first; i < negative; i++)
		{
			for (int64 j = negative; j < end && rows[i].weight > 0; j++)
			{
				int64		both;

				CHECK_FOR_INTERRUPTS();
				if (rows[j].weight == 0 || !left_rows_equal(comparison, &rows[i], &rows[j]))
					continue;
				both = Min(rows[i].weight, -rows[j].weight);
				rows[i].weight -= both;
				rows[j].weight += both;
			}
		}
	}

	for (int64 i = 0; i < n; i++)
	{
		if (rows[i].weight > 0)
			*missing += rows[i].weight;
		else
			*extra -= rows[i].weight;
	}
	pfree(rows);
}

/*
 * Counts what is left of a difference when rows that are equal to their types
 * have cancelled out as well.
 */
static void
cancel_equal_rows(IvmZset *difference, IvmPlan *plan, int64 *missing, int64 *extra)
{
	RowComparison *comparison;
	IvmZsetParts parts;
	IvmRow	  **rows;
	int64		count;

	*missing = 0;
	*extra = 0;
	if (ivm_zset_is_empty(difference))
		return;

	comparison = make_comparison(ivm_zset_desc(difference), plan);
	ivm_zset_parts_begin(difference, &parts);
	while ((rows = ivm_zset_parts_next(&parts, &count)) != NULL)
		cancel_part(comparison, rows, count, missing, extra);
	ivm_zset_parts_end(&parts);
}

/* Sorts the columns by the way in which they are compared. */
static RowComparison *
make_comparison(TupleDesc desc, IvmPlan *plan)
{
	RowComparison *comparison = palloc0(sizeof(RowComparison));
	Oid		   *operators = palloc(desc->natts * sizeof(Oid));
	Oid		   *collations = palloc(desc->natts * sizeof(Oid));
	bool		tolerant = plan_has_float_sum(plan);

	comparison->desc = desc;
	comparison->key_columns = palloc(desc->natts * sizeof(int));
	comparison->float_columns = palloc(desc->natts * sizeof(int));
	comparison->image_columns = palloc(desc->natts * sizeof(int));
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);
		TypeCacheEntry *type = lookup_type_cache(attribute->atttypid, TYPECACHE_EQ_OPR);

		if (tolerant && (attribute->atttypid == FLOAT4OID || attribute->atttypid == FLOAT8OID))
			comparison->float_columns[comparison->nfloats++] = i;
		else if (OidIsValid(type->eq_opr))
		{
			operators[comparison->nkeys] = type->eq_opr;
			collations[comparison->nkeys] = attribute->attcollation;
			comparison->key_columns[comparison->nkeys++] = i;
		}
		else
			comparison->image_columns[comparison->nimages++] = i;
	}
	comparison->key = ivm_key_create(comparison->nkeys, operators, collations, true);
	return comparison;
}

static bool
plan_has_float_sum(IvmPlan *plan)
{
	ListCell   *lc;
	ListCell   *lc_call;

	foreach(lc, plan->nodes)
	{
		foreach(lc_call, ((IvmPlanNode *) lfirst(lc))->calls)
		{
			if (((IvmAggregateCall *) lfirst(lc_call))->kind == IVM_ACC_FLOAT_SUM)
				return true;
		}
	}
	return false;
}

static void
fill_left_row(RowComparison *comparison, LeftRow *left, IvmRow *row)
{
	int			natts = comparison->desc->natts;
	MinimalTuple tuple = ivm_row_tuple(row);
	HeapTupleData heap_tuple;

	heap_tuple.t_len = tuple->t_len + MINIMAL_TUPLE_OFFSET;
	heap_tuple.t_data = (HeapTupleHeader) ((char *) tuple - MINIMAL_TUPLE_OFFSET);
	ItemPointerSetInvalid(&heap_tuple.t_self);
	heap_tuple.t_tableOid = InvalidOid;

	left->weight = row->weight;
	left->values = palloc(Max(natts, 1) * sizeof(Datum));
	left->isnull = palloc(Max(natts, 1) * sizeof(bool));
	left->keys = palloc(Max(comparison->nkeys, 1) * sizeof(Datum));
	left->keys_isnull = palloc(Max(comparison->nkeys, 1) * sizeof(bool));
	heap_deform_tuple(&heap_tuple, comparison->desc, left->values, left->isnull);
	for (int i = 0; i < comparison->nkeys; i++)
	{
		left->keys[i] = left->values[comparison->key_columns[i]];
		left->keys_isnull[i] = left->isnull[comparison->key_columns[i]];
	}
	left->hash = ivm_key_hash_right(comparison->key, left->keys, left->keys_isnull);
}

static int
compare_left_rows(const void *a, const void *b)
{
	const LeftRow *row_a = a;
	const LeftRow *row_b = b;

	CHECK_FOR_INTERRUPTS();
	if (row_a->hash != row_b->hash)
		return row_a->hash < row_b->hash ? -1 : 1;
	if ((row_a->weight > 0) != (row_b->weight > 0))
		return row_a->weight > 0 ? -1 : 1;
	return 0;
}

static bool
left_rows_equal(RowComparison *comparison, LeftRow *a, LeftRow *b)
{
	for (int i = 0; i < comparison->nfloats; i++)
	{
		int			column = comparison->float_columns[i];

		if (a->isnull[column] != b->isnull[column])
			return false;
		if (!a->isnull[column] &&
			!floats_match(TupleDescAttr(comparison->desc, column)->atttypid,
						  a->values[column], b->values[column]))
			return false;
	}
	for (int i = 0; i < comparison->nimages; i++)
	{
		int			column = comparison->image_columns[i];
		Form_pg_attribute attribute = TupleDescAttr(comparison->desc, column);

		if (a->isnull[column] != b->isnull[column])
			return false;
		if (!a->isnull[column] &&
			!datumIsEqual(a->values[column], b->values[column], attribute->attbyval, attribute->attlen))
			return false;
	}
	return ivm_key_equal(comparison->key, a->keys, a->keys_isnull, b->keys, b->keys_isnull);
}

static bool
floats_match(Oid type, Datum a, Datum b)
{
	double		value_a = type == FLOAT4OID ? DatumGetFloat4(a) : DatumGetFloat8(a);
	double		value_b = type == FLOAT4OID ? DatumGetFloat4(b) : DatumGetFloat8(b);
	double		tolerance = type == FLOAT4OID ? FLT_EPSILON * 4 : FLOAT_TOLERANCE;

	if (float8_eq(value_a, value_b))
		return true;
	if (isinf(value_a) || isinf(value_b) || isnan(value_a) || isnan(value_b))
		return false;
	return fabs(value_a - value_b) <= tolerance * Max(fabs(value_a), fabs(value_b));
}
