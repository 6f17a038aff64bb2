/*-------------------------------------------------------------------------
 *
 * prefix.c
 *	  The first rows in the order of their hashes, which are all that is kept of an input.
 *
 * A LIMIT without an order shows the rows that come first by the hashes of their images (compile/order.c).  So
 * that not the whole input has to be kept in that order, an ordered table has its beginning: all rows
 * whose hash is not above the bound, which is stored in the table with the number of its rows.  They are more than
 * are shown, by at least as many again and by SPARE.
 *
 * A row behind the bound makes no difference and is not looked at.  A row before it comes in or goes.
 * When so many have gone that there are too few for what is shown, the input is read
 * once, and the rows that come next are kept, too: hashes are as good as random, so that of rows that
 * go only few are kept ones, and where it is just those that are shown that go, time and again, it is
 * one reading for SPARE rows at least.  It stops nowhere: what comes first by hash may stand anywhere.
 * In return the rows that are shown are a function of the input's rows alone, as everything that an
 * operator gives: a replacement by the first row that is met would depend on history, and could be told from
 * the tables by nobody.
 *
 * While rows are collected from an input of unknown size, the bound is lowered to the middle of the hashes
 * that are there, whenever there are too many.  The bound only decides how many rows are kept, never
 * which are shown.
 *
 * Costs: a hash for each changed row; a descent and a write for one that is kept.  In the table there are up to sixteen
 * times as many rows as are shown, or 16 * SPARE; beyond that those in the end are taken out.
 *
 * Memory: what is collected, in a Z-set, which spills.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"

#include "arrange/state_table.h"
#include "dataflow/prefix.h"

/* So many rows are kept at least beside those that are shown. */
#define SPARE	500

/* More than this many times as many as are needed are too many, in a collection and in the table. */
#define TOO_MANY	4
#define FAR_TOO_MANY	8

struct IvmPrefix
{
	IvmArrangement *arrangement;
	IvmOrderedShape *shape;
	int64		needed;			/* rows, to be kept after a reading of the
								 * input */
	TupleTableSlot *slot;

	/* what the table says, if it has been asked since something else may have written it */
	bool		is_known;
	int64		bound;			/* PG_INT64_MAX: all rows are kept */
	int64		nrows;			/* of the table; or somewhat less */

	/* of the batch */
	IvmDataflow *dataflow;
	IvmZset    *collected;		/* NULL: nothing is */
	int64		above;			/* only rows with a hash above that ... */
	bool		from_begin;		/* ... or all, are collected, */
	int64		upto;			/* up to that */
	int64		too_many;		/* collected rows */
};

IvmPrefix *
ivm_prefix_create(IvmArrangement *arrangement, int64 shown)
{
	IvmPrefix  *prefix = palloc0(sizeof(IvmPrefix));

	prefix->arrangement = arrangement;
	prefix->shape = ivm_ordered_shape_create(arrangement);
	prefix->needed = shown + Max(shown, SPARE);
	prefix->slot = MakeSingleTupleTableSlot(prefix->shape->desc, &TTSOpsMinimalTuple);
	return prefix;
}

void
ivm_prefix_begin(IvmPrefix *prefix, IvmDataflow *dataflow)
{
	prefix->dataflow = dataflow;
	prefix->collected = NULL;
}

void
ivm_prefix_end(IvmPrefix *prefix)
{
	if (prefix->collected != NULL)
		ivm_zset_close(prefix->collected);
	prefix->collected = NULL;
}

void
ivm_prefix_forget(IvmPrefix *prefix)
{
	prefix->is_known = false;
}

/* What rows are ordered by. */
static int64
hash_of(IvmPrefix *prefix, TupleTableSlot *row)
{
	Datum		value;
	bool		isnull;

	ivm_row_order_values(prefix->shape->order, row, &value, &isnull);
	return DatumGetInt64(value);
}

static int64
hash_of_stored(IvmPrefix *prefix, IvmRow *row)
{
	int64		hash;

	ExecStoreMinimalTuple(ivm_row_tuple(row), prefix->slot, false);
	hash = hash_of(prefix, prefix->slot);
	ExecClearTuple(prefix->slot);
	return hash;
}

/* ---- the table ---- */

static Oid
table_of(IvmPrefix *prefix)
{
	return ivm_state_table_get(ivm_arrangement_state_name(prefix->arrangement, prefix->dataflow->plan->relid));
}

static void
write_bound(IvmPrefix *prefix)
{
	IvmOrderedTable *table = ivm_ordered_table_open(prefix->shape, table_of(prefix), prefix->dataflow->snapshot);

	ivm_ordered_table_set_bound(table, prefix->bound, prefix->nrows);
	ivm_ordered_table_close(table);
	CommandCounterIncrement();
}

static void
know_bound(IvmPrefix *prefix)
{
	MemoryContext old;
	IvmOrderedTable *table;

	if (prefix->is_known)
		return;
	old = MemoryContextSwitchTo(prefix->dataflow->batch_context);
	table = ivm_ordered_table_open(prefix->shape, table_of(prefix), prefix->dataflow->snapshot);
	ivm_ordered_table_get_bound(table, &prefix->bound, &prefix->nrows);
	ivm_ordered_table_close(table);
	prefix->is_known = true;
	MemoryContextSwitchTo(old);
}

bool
ivm_prefix_keeps(IvmPrefix *prefix, TupleTableSlot *row)
{
	know_bound(prefix);
	return prefix->bound == PG_INT64_MAX || hash_of(prefix, row) <= prefix->bound;
}

bool
ivm_prefix_is_all(IvmPrefix *prefix)
{
	know_bound(prefix);
	return prefix->bound == PG_INT64_MAX;
}

/* ---- collecting ---- */

/* Whose file, if it gets one, is in the batch's context: rows come in others. */
static IvmZset *
new_collection(IvmPrefix *prefix)
{
	MemoryContext old = MemoryContextSwitchTo(prefix->dataflow->batch_context);
	IvmZset    *result = ivm_zset_create(prefix->dataflow->arena, prefix->shape->desc);

	MemoryContextSwitchTo(old);
	return result;
}

static void
begin_collection(IvmPrefix *prefix)
{
	prefix->collected = new_collection(prefix);
	prefix->from_begin = !prefix->is_known;
	prefix->above = prefix->bound;
	prefix->upto = PG_INT64_MAX;
	prefix->too_many = prefix->needed * TOO_MANY;
}

/* The middle of the hashes that were collected; false if there is none between the first and the last. */
static bool
find_middle(IvmPrefix *prefix, int64 *middle)
{
	IvmZsetParts parts;
	IvmRow	  **rows;
	int64		count;
	int64		first = PG_INT64_MAX;
	int64		last = PG_INT64_MIN;

	ivm_zset_parts_begin(prefix->collected, &parts);
	while ((rows = ivm_zset_parts_next(&parts, &count)) != NULL)
		for (int64 i = 0; i < count; i++)
		{
			int64		hash = hash_of_stored(prefix, rows[i]);

			first = Min(first, hash);
			last = Max(last, hash);
		}
	ivm_zset_parts_end(&parts);
	if (first >= last)
		return false;
	*middle = (int64) ((uint64) first + ((uint64) last - (uint64) first) / 2);
	return true;
}

/* Leaves out those behind the middle, if enough are before it. */
static void
halve_collection(IvmPrefix *prefix)
{
	IvmZset    *kept = new_collection(prefix);
	IvmZsetParts parts;
	IvmRow	  **rows;
	int64		count;
	int64		middle = 0;
	int64		weight = 0;

	if (find_middle(prefix, &middle))
	{
		ivm_zset_parts_begin(prefix->collected, &parts);
		while ((rows = ivm_zset_parts_next(&parts, &count)) != NULL)
			for (int64 i = 0; i < count; i++)
			{
				CHECK_FOR_INTERRUPTS();
				if (hash_of_stored(prefix, rows[i]) > middle)
					continue;
				ivm_zset_add_tuple(kept, ivm_row_tuple(rows[i]), rows[i]->weight);
				weight += rows[i]->weight;
			}
		ivm_zset_parts_end(&parts);
	}
	if (weight < prefix->needed)
	{
		ivm_zset_close(kept);
		prefix->too_many *= 2;
		return;
	}
	ivm_zset_clear(prefix->collected);
	ivm_zset_close(prefix->collected);
	prefix->collected = kept;
	prefix->upto = middle;
}

void
ivm_prefix_collect(IvmPrefix *prefix, TupleTableSlot *row, int64 weight)
{
	int64		hash;

	if (prefix->collected == NULL)
		begin_collection(prefix);
	hash = hash_of(prefix, row);
	if (hash > prefix->upto || (!prefix->from_begin && hash <= prefix->above))
		return;
	ivm_zset_add(prefix->collected, row, weight);
	if (ivm_zset_count(prefix->collected) > prefix->too_many)
		halve_collection(prefix);
}

/* Puts what was collected into the table. */
static void
keep_collected(IvmPrefix *prefix, bool empty)
{
	ivm_ordered_table_write(prefix->arrangement, table_of(prefix), prefix->collected, prefix->dataflow->snapshot,
							empty);
	prefix->bound = prefix->upto;
	prefix->nrows += ivm_zset_count(prefix->collected);
	prefix->is_known = true;
	CommandCounterIncrement();
}

void
ivm_prefix_fill(IvmPrefix *prefix)
{
	prefix->is_known = false;
	prefix->nrows = 0;
	if (prefix->collected == NULL)
		begin_collection(prefix);
	keep_collected(prefix, true);
}

static void
receive_replayed(void *context, TupleTableSlot *row, int64 weight)
{
	CHECK_FOR_INTERRUPTS();
	ivm_prefix_collect(context, row, weight);
}

IvmZset *
ivm_prefix_extend(IvmPrefix *prefix, IvmOperator *input)
{
	know_bound(prefix);
	if (prefix->collected != NULL)
		ivm_zset_close(prefix->collected);
	begin_collection(prefix);
	ivm_operator_replay(input, receive_replayed, prefix);
	keep_collected(prefix, false);
	return prefix->collected;
}

/* ---- the delta ---- */

typedef struct Counting
{
	IvmPrefix  *prefix;
	int64		nrows;
	int64		weight;
	int64		last;			/* hash, of the rows that stay */
	IvmZset    *surplus;
} Counting;

static bool
count_row(void *context, TupleTableSlot *row, int64 weight)
{
	Counting   *counting = context;
	int64		hash = hash_of(counting->prefix, row);

	if (counting->weight >= counting->prefix->needed && counting->nrows >= counting->prefix->needed * 2 &&
		hash > counting->last)
		ivm_zset_add(counting->surplus, row, -weight);
	else
	{
		counting->nrows++;
		counting->weight += weight;
		counting->last = hash;
	}
	return true;
}

/* Takes rows out of the table, from the end, if it has become large. */
static void
shorten(IvmPrefix *prefix)
{
	Counting	counting = {.prefix = prefix};
	IvmOrderedTable *table = ivm_ordered_table_open(prefix->shape, table_of(prefix), prefix->dataflow->snapshot);

	counting.surplus = new_collection(prefix);
	(void) ivm_ordered_table_walk(table, NULL, NULL, count_row, &counting);
	ivm_ordered_table_close(table);
	prefix->nrows = counting.nrows;
	if (!ivm_zset_is_empty(counting.surplus))
	{
		ivm_ordered_table_write(prefix->arrangement, table_of(prefix), counting.surplus, prefix->dataflow->snapshot,
								false);
		prefix->bound = counting.last;
		CommandCounterIncrement();
	}
	ivm_zset_close(counting.surplus);
}

void
ivm_prefix_apply(IvmPrefix *prefix, IvmZset *delta)
{
	know_bound(prefix);
	ivm_ordered_table_write(prefix->arrangement, table_of(prefix), delta, prefix->dataflow->snapshot, false);
	CommandCounterIncrement();
	prefix->nrows += ivm_zset_count(delta);
}

void
ivm_prefix_settle(IvmPrefix *prefix)
{
	if (prefix->nrows > prefix->needed * FAR_TOO_MANY)
		shorten(prefix);
	write_bound(prefix);
}
