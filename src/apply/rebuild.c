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
 * Where memory is short the rows of both sides go to temporary files, and the
 * difference comes in parts.  A rebuild writes it so (view_writer.c).  For
 * verifying, the parts are by the hash of the columns that have a type's
 * equality, so that rows which are equal come in one part.  That cannot
 * always be had: of a view with floating-point sums alone, say, all rows have
 * one hash.  So what the parts leave over is compared once more, and then each
 * missing row with each one that is too much: as many of the former as memory
 * holds against a reading of all of the latter, and so on.  Of a view that is
 * right nothing is left over, unless such rows fell into different parts.
 *
 * Memory: both sides' differing rows in an arena, or a part of them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <float.h>
#include <math.h>

#include "apply/apply.h"
#include "apply/state.h"
#include "apply/view_index.h"
#include "apply/view_writer.h"
#include "dataflow/dataflow.h"
#include "memory/arena.h"
#include "memory/reclaim.h"
#include "stats/stats.h"
#include "zset/key.h"
#include "zset/spill.h"
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

/* A row taken apart. */
typedef struct RowValues
{
	Datum	   *values;
	bool	   *isnull;
	Datum	   *keys;
	bool	   *keys_isnull;
} RowValues;

/* How rows are compared when their images differ. */
typedef struct RowComparison
{
	TupleDesc	desc;
	int			nkeys;
	int		   *key_columns;	/* those with an equality, from 1 on */
	IvmKey	   *key;
	IvmRowKey  *row_key;		/* the same, of a row */
	int			nfloats;
	int		   *float_columns;	/* those compared within the tolerance,
								 * 0-based */
	int			nimages;
	int		   *image_columns;	/* those whose types have no equality, 0-based */
	IvmArena   *arena;			/* for rows */
	RowValues	left;			/* the two rows in hand */
	RowValues	right;
	MemoryContext row_context;	/* for what comparing allocates */
} RowComparison;

/* Rows that the parts have left over. */
typedef struct LeftRows
{
	IvmSpill   *missing;		/* by the hash of their keys, NULL: none */
	IvmSpill   *extra;			/* the same, weights positive, too */
} LeftRows;

static void begin_collection(Collection *collection, IvmArena *arena, IvmPlan *plan,
							 IvmPartitionHash hash, void *hash_context);
static void collect_row(void *context, TupleTableSlot *row, int64 weight);
static void collect_view(Collection *collection, Relation view, Snapshot snapshot);
static void cancel_equal_rows(IvmZset *difference, RowComparison *comparison, int64 *missing, int64 *extra);
static void cancel_part(RowComparison *comparison, IvmRow **rows, int64 count);
static void keep_left_rows(LeftRows *left, IvmRow **rows, int64 count);
static int64 sum_of_weights(IvmSpill *spill, int partition);
static IvmSpill *cancel_block(RowComparison *comparison, IvmRow **block, int64 count, IvmSpill *extra, int partition);
static void cancel_partition(RowComparison *comparison, LeftRows *left, int partition, int64 *missing, int64 *extra);
static void cancel_left_rows(RowComparison *comparison, LeftRows *left, int64 *missing, int64 *extra);
static RowComparison *make_comparison(TupleDesc desc, IvmPlan *plan, IvmArena *arena);
static bool plan_has_float_sum(IvmPlan *plan);
static int	compare_rows(const void *a, const void *b);
static void make_row_values(RowComparison *comparison, RowValues *values);
static void take_apart(RowComparison *comparison, IvmRow *row, RowValues *values);
static void cancel_two(RowComparison *comparison, IvmRow *a, IvmRow *b);
static bool values_equal(RowComparison *comparison, RowValues *a, RowValues *b);
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
	IvmRowKey  *key = ivm_dataflow_output_key(plan);
	Relation	view;

	view = table_open(relid, RowExclusiveLock);
	PushActiveSnapshot(snapshot);
	ivm_view_reset_state(relid, plan);
	PopActiveSnapshot();

	snapshot = ivm_push_advanced_snapshot(snapshot);
	begin_collection(&collection, arena, plan, key == NULL ? NULL : ivm_row_key_hash, key);

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
	if (!ivm_view_apply_within_limits(view, plan, collection.zset, snapshot, counts))
	{
		/*
		 * a key has grown too long for its index; any other limit is raised
		 * again
		 */
		(void) ivm_view_replace_key_index(view, plan);
		ivm_view_apply(view, plan, collection.zset, snapshot, counts);
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

void
ivm_view_verify(Oid relid, IvmPlan *plan, Snapshot snapshot, int64 *missing, int64 *extra)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "ivm verify", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	IvmArena   *arena = ivm_arena_create("verify", context);
	RowComparison *comparison = make_comparison(plan->root->desc, plan, arena);
	Collection	collection;
	Relation	view;

	view = table_open(relid, AccessShareLock);
	PushActiveSnapshot(snapshot);
	begin_collection(&collection, arena, plan, ivm_row_key_hash, comparison->row_key);

	ivm_execute_subtree(plan, plan->statement->planTree, snapshot, collect_row, &collection);
	collect_view(&collection, view, snapshot);
	cancel_equal_rows(collection.zset, comparison, missing, extra);
	ivm_zset_close(collection.zset);

	PopActiveSnapshot();
	table_close(view, NoLock);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
}

/* An empty one in the current context; with "hash", partitioned by it. */
static void
begin_collection(Collection *collection, IvmArena *arena, IvmPlan *plan,
				 IvmPartitionHash hash, void *hash_context)
{
	collection->zset = ivm_zset_create(arena, plan->root->desc);
	if (hash != NULL)
		ivm_zset_partition_by(collection->zset, hash, hash_context);
	collection->row_context = AllocSetContextCreate(CurrentMemoryContext, "ivm collected row", ALLOCSET_DEFAULT_SIZES);
	collection->received = 0;
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

/*
 * Counts what is left of a difference when rows that are equal to their types
 * have cancelled out as well.
 */
static void
cancel_equal_rows(IvmZset *difference, RowComparison *comparison, int64 *missing, int64 *extra)
{
	LeftRows	left = {NULL, NULL};
	IvmZsetParts parts;
	IvmRow	  **rows;
	int64		count;

	*missing = 0;
	*extra = 0;
	if (ivm_zset_is_empty(difference))
		return;

	ivm_zset_parts_begin(difference, &parts);
	while ((rows = ivm_zset_parts_next(&parts, &count)) != NULL)
	{
		cancel_part(comparison, rows, count);
		if (parts.level != NULL)
		{
			keep_left_rows(&left, rows, count);
			continue;
		}
		for (int64 i = 0; i < count; i++)
		{
			if (rows[i]->weight > 0)
				*missing += rows[i]->weight;
			else
				*extra -= rows[i]->weight;
		}
	}
	ivm_zset_parts_end(&parts);
	cancel_left_rows(comparison, &left, missing, extra);
}

/* Takes from the weights of a part's rows what cancels out; sets their hashes to those of their keys. */
static void
cancel_part(RowComparison *comparison, IvmRow **rows, int64 count)
{
	int64		end;

	for (int64 i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		rows[i]->hash = ivm_row_key_hash(comparison->row_key, ivm_row_tuple(rows[i]));
	}
	qsort(rows, count, sizeof(IvmRow *), compare_rows);

	/* Equal rows have equal hashes; within a hash, missing ones stand first. */
	for (int64 first = 0; first < count; first = end)
	{
		int64		negative = first;

		end = first + 1;
		while (end < count && rows[end]->hash == rows[first]->hash)
			end++;
		while (negative < end && rows[negative]->weight > 0)
			negative++;
		if (negative == first || negative == end)
			continue;
		for (int64 i = first; i < negative; i++)
		{
			take_apart(comparison, rows[i], &comparison->left);
			for (int64 j = negative; j < end && rows[i]->weight > 0; j++)
				cancel_two(comparison, rows[i], rows[j]);
		}
	}
}

/* Puts what a part has left over into the files. */
static void
keep_left_rows(LeftRows *left, IvmRow **rows, int64 count)
{
	for (int64 i = 0; i < count; i++)
	{
		int64		weight = rows[i]->weight;
		IvmSpill  **spill = weight > 0 ? &left->missing : &left->extra;

		CHECK_FOR_INTERRUPTS();
		if (weight == 0)
			continue;
		if (*spill == NULL)
			*spill = ivm_spill_create(0);
		ivm_spill_put(*spill, ivm_row_tuple(rows[i]), Abs(weight), rows[i]->hash);
	}
}

static int64
sum_of_weights(IvmSpill *spill, int partition)
{
	IvmSpillReader reader;
	IvmRow	   *row;
	int64		sum = 0;

	if (spill == NULL || ivm_spill_rows(spill, partition) == 0)
		return 0;
	ivm_spill_read_begin(spill, partition, &reader);
	while ((row = ivm_spill_read_next(&reader)) != NULL)
		sum += row->weight;
	ivm_spill_read_end(&reader);
	return sum;
}

/* Compares a block of missing rows with all others of their partition; returns what is left of the latter. */
static IvmSpill *
cancel_block(RowComparison *comparison, IvmRow **block, int64 count, IvmSpill *extra, int partition)
{
	IvmSpill   *rest = ivm_spill_create(0);
	IvmSpillReader reader;
	IvmRow	   *row;

	qsort(block, count, sizeof(IvmRow *), compare_rows);
	ivm_spill_read_begin(extra, partition, &reader);
	while ((row = ivm_spill_read_next(&reader)) != NULL)
	{
		int64		low = 0;
		int64		high = count;

		while (low < high)
		{
			int64		middle = low + (high - low) / 2;

			if (block[middle]->hash < row->hash)
				low = middle + 1;
			else
				high = middle;
		}
		row->weight = -row->weight;
		if (low < count && block[low]->hash == row->hash)
			take_apart(comparison, row, &comparison->left);
		for (; low < count && block[low]->hash == row->hash && row->weight < 0; low++)
			cancel_two(comparison, row, block[low]);
		if (row->weight < 0)
			ivm_spill_put(rest, ivm_row_tuple(row), -row->weight, row->hash);
	}
	ivm_spill_read_end(&reader);
	ivm_spill_flush(rest);
	return rest;
}

/* Compares all missing rows of a partition with all others, block by block. */
static void
cancel_partition(RowComparison *comparison, LeftRows *left, int partition, int64 *missing, int64 *extra)
{
	Size		limit = ivm_spill_is_forced("output") ? 0 : ivm_pin_limit();
	IvmSpill   *others = left->extra;
	int64		allocated = 64;
	IvmRow	  **block = palloc(sizeof(IvmRow *) * allocated);
	IvmSpillReader reader;
	IvmRow	   *row;

	ivm_spill_read_begin(left->missing, partition, &reader);
	do
	{
		int64		count = 0;
		Size		bytes = 0;
		IvmSpill   *rest;

		while (bytes <= limit && (row = ivm_spill_read_next(&reader)) != NULL)
		{
			if (count == allocated)
				block = repalloc_huge(block, sizeof(IvmRow *) * (allocated *= 2));
			block[count++] = ivm_row_make(comparison->arena, ivm_row_tuple(row), row->weight, row->hash);
			bytes += ivm_row_tuple(row)->t_len + sizeof(IvmRow) + sizeof(IvmRow *);
		}
		rest = cancel_block(comparison, block, count, others, partition);
		if (others != left->extra)
			ivm_spill_destroy(others);
		others = rest;
		for (int64 i = 0; i < count; i++)
		{
			*missing += block[i]->weight;
			ivm_arena_free(comparison->arena, block[i]);
		}
	} while (row != NULL);
	ivm_spill_read_end(&reader);
	pfree(block);

	*extra += sum_of_weights(others, partition);
	if (others != left->extra)
		ivm_spill_destroy(others);
}

/* Cancels out what fell into different parts, and adds what is left then to the counts. */
static void
cancel_left_rows(RowComparison *comparison, LeftRows *left, int64 *missing, int64 *extra)
{
	if (left->missing != NULL)
		ivm_spill_flush(left->missing);
	if (left->extra != NULL)
		ivm_spill_flush(left->extra);

	for (int i = 0; i < IVM_SPILL_PARTITIONS; i++)
	{
		if (left->missing == NULL || left->extra == NULL ||
			ivm_spill_rows(left->missing, i) == 0 || ivm_spill_rows(left->extra, i) == 0)
		{
			*missing += sum_of_weights(left->missing, i);
			*extra += sum_of_weights(left->extra, i);
		}
		else
			cancel_partition(comparison, left, i, missing, extra);
	}

	if (left->missing != NULL)
		ivm_spill_destroy(left->missing);
	if (left->extra != NULL)
		ivm_spill_destroy(left->extra);
}

/* Sorts the columns by the way in which they are compared. */
static RowComparison *
make_comparison(TupleDesc desc, IvmPlan *plan, IvmArena *arena)
{
	RowComparison *comparison = palloc0(sizeof(RowComparison));
	Oid		   *operators = palloc(desc->natts * sizeof(Oid));
	Oid		   *collations = palloc(desc->natts * sizeof(Oid));
	bool		tolerant = plan_has_float_sum(plan);

	comparison->desc = desc;
	comparison->arena = arena;
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
			comparison->key_columns[comparison->nkeys++] = i + 1;
		}
		else
			comparison->image_columns[comparison->nimages++] = i;
	}
	comparison->key = ivm_key_create(comparison->nkeys, operators, collations, true);
	comparison->row_key = ivm_row_key_create(comparison->key, desc, comparison->key_columns);
	make_row_values(comparison, &comparison->left);
	make_row_values(comparison, &comparison->right);
	comparison->row_context = AllocSetContextCreate(CurrentMemoryContext, "ivm compared row", ALLOCSET_DEFAULT_SIZES);
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

static int
compare_rows(const void *a, const void *b)
{
	const IvmRow *row_a = *(IvmRow *const *) a;
	const IvmRow *row_b = *(IvmRow *const *) b;

	CHECK_FOR_INTERRUPTS();
	if (row_a->hash != row_b->hash)
		return row_a->hash < row_b->hash ? -1 : 1;
	if ((row_a->weight > 0) != (row_b->weight > 0))
		return row_a->weight > 0 ? -1 : 1;
	return 0;
}

static void
make_row_values(RowComparison *comparison, RowValues *values)
{
	values->values = palloc(Max(comparison->desc->natts, 1) * sizeof(Datum));
	values->isnull = palloc(Max(comparison->desc->natts, 1) * sizeof(bool));
	values->keys = palloc(Max(comparison->nkeys, 1) * sizeof(Datum));
	values->keys_isnull = palloc(Max(comparison->nkeys, 1) * sizeof(bool));
}

static void
take_apart(RowComparison *comparison, IvmRow *row, RowValues *values)
{
	MinimalTuple tuple = ivm_row_tuple(row);
	HeapTupleData heap_tuple;

	heap_tuple.t_len = tuple->t_len + MINIMAL_TUPLE_OFFSET;
	heap_tuple.t_data = (HeapTupleHeader) ((char *) tuple - MINIMAL_TUPLE_OFFSET);
	ItemPointerSetInvalid(&heap_tuple.t_self);
	heap_tuple.t_tableOid = InvalidOid;

	heap_deform_tuple(&heap_tuple, comparison->desc, values->values, values->isnull);
	for (int i = 0; i < comparison->nkeys; i++)
	{
		values->keys[i] = values->values[comparison->key_columns[i] - 1];
		values->keys_isnull[i] = values->isnull[comparison->key_columns[i] - 1];
	}
}

/*
 * Takes from the weights of two rows, one above zero and one below, what they
 * have in common if they are equal.  The first one is in comparison->left.
 */
static void
cancel_two(RowComparison *comparison, IvmRow *a, IvmRow *b)
{
	MemoryContext caller;
	int64		both = Min(Abs(a->weight), Abs(b->weight));

	CHECK_FOR_INTERRUPTS();
	if (both == 0)
		return;
	MemoryContextReset(comparison->row_context);
	caller = MemoryContextSwitchTo(comparison->row_context);
	take_apart(comparison, b, &comparison->right);
	if (values_equal(comparison, &comparison->left, &comparison->right))
	{
		a->weight += a->weight > 0 ? -both : both;
		b->weight += b->weight > 0 ? -both : both;
	}
	MemoryContextSwitchTo(caller);
}

static bool
values_equal(RowComparison *comparison, RowValues *a, RowValues *b)
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
