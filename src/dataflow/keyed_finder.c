/*-------------------------------------------------------------------------
 *
 * keyed_finder.c
 *	  Groups of an aggregate by their columns, computed from the rows of its input.
 *
 * The rows of the input are looked up by what the group columns are looked up by, and
 * aggregated.  They are aggregated as in a batch (aggregate_keyed.c), so each row is the very one
 * that was emitted.  Rows that are found and do not match are of groups of which others may be missing: they are
 * left out.
 *
 * By a part of the group columns several groups are found.  Their rows are collected by the hash of the group, and the groups
 * given one after the other.
 *
 * Costs: the rows of the groups, and the final functions.
 *
 * Memory: the states of a group in a context of their own, until the receiver returns; the rows of several groups in a
 * row index, which has a file if they are many.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "dataflow/aggregate_internal.h"
#include "dataflow/source.h"
#include "zset/row_index.h"

typedef struct KeyedFinder
{
	IvmOperator *op;
	IvmSource  *source;
	int			nbelow;			/* keys of the source */
	int		   *below;			/* which of the values they are */
	Datum	   *below_values;
	bool	   *below_isnull;
	bool		several;		/* groups are found */
	int			nkeys;
	int		   *columns;		/* group columns that are looked for, 0-based */
	int		   *keys;			/* which of the values is each one's */
	IvmKey	   *key;
	TupleTableSlot *row;		/* of the input */
	TupleTableSlot *key_row;
	TupleTableSlot *raw_row;
	IvmProjection *projection;
	MemoryContext context;		/* of what is found */
	MemoryContext row_context;

	/* of the batch */
	MemoryContext batch_context;

	/* of the lookup */
	Datum	   *values;			/* by key */
	bool	   *isnull;
	IvmRowIndex *rows;			/* of several groups, by their hashes */
	List	   *groups;			/* AggregateGroup; there is one, as a rule */
	IvmReplayPass *pass;
} KeyedFinder;

static void *
keyed_finder_create(IvmOperator *op, IvmArrangement *arrangement)
{
	KeyedFinder *finder = palloc0(sizeof(KeyedFinder));
	AggregateRun *run = op->state;
	List	   *numbers = linitial(arrangement->below_keys);
	Oid		   *operators = palloc(sizeof(Oid) * run->ncolumns);
	Oid		   *collations = palloc(sizeof(Oid) * run->ncolumns);

	finder->op = op;
	finder->source = ivm_source_create(op->dataflow, linitial(arrangement->below));
	finder->below = palloc(sizeof(int) * list_length(numbers));
	finder->below_values = palloc(sizeof(Datum) * list_length(numbers));
	finder->below_isnull = palloc(sizeof(bool) * list_length(numbers));
	while (finder->nbelow < list_length(numbers))
	{
		finder->below[finder->nbelow] = list_nth_int(numbers, finder->nbelow);
		finder->nbelow++;
	}
	finder->keys = palloc(sizeof(int) * run->ncolumns);
	finder->values = palloc(sizeof(Datum) * run->ncolumns);
	finder->isnull = palloc(sizeof(bool) * run->ncolumns);
	finder->columns = palloc(sizeof(int) * run->ncolumns);
	for (int i = 0; i < run->ncolumns; i++)
	{
		int			key = list_nth_int(arrangement->own_keys, i);

		if (key < 0)
			continue;
		finder->columns[finder->nkeys] = i;
		finder->keys[finder->nkeys] = key;
		operators[finder->nkeys] = list_nth_oid(arrangement->operators, key);
		collations[finder->nkeys++] = list_nth_oid(arrangement->collations, key);
	}
	finder->several = finder->nkeys < run->ncolumns;
	finder->key = ivm_key_create(finder->nkeys, operators, collations, arrangement->null_safe);
	finder->row = MakeSingleTupleTableSlot(run->input_desc, &TTSOpsMinimalTuple);
	finder->key_row = MakeSingleTupleTableSlot(run->key_desc, &TTSOpsMinimalTuple);
	finder->raw_row = MakeSingleTupleTableSlot(run->raw_desc, &TTSOpsMinimalTuple);
	finder->projection = ivm_projection_create(op->node->tlist, op->node->quals, op->node->desc);
	finder->context = AllocSetContextCreate(CurrentMemoryContext, "ivm computed group", ALLOCSET_SMALL_SIZES);
	finder->row_context = AllocSetContextCreate(CurrentMemoryContext, "ivm row of a group", ALLOCSET_SMALL_SIZES);
	return finder;
}

static void
keyed_finder_begin(void *context)
{
	KeyedFinder *finder = context;

	ivm_source_begin(finder->source);
	finder->batch_context = CurrentMemoryContext;
	/* what a failed batch has left there is gone */
	MemoryContextReset(finder->context);
	MemoryContextReset(finder->row_context);
}

static void
keyed_finder_expect(void *context, int64 probes)
{
	ivm_source_expect(((KeyedFinder *) context)->source, probes);
}

/* The group of a row that matches, a new one if need be. */
static AggregateGroup *
group_of(KeyedFinder *finder, Datum *values, bool *isnull)
{
	AggregateRun *run = finder->op->state;
	MemoryContext old;
	AggregateGroup *group;
	ListCell   *cell;

	foreach(cell, finder->groups)
	{
		group = lfirst(cell);
		if (ivm_key_equal(run->key, values, isnull, group->look.values, group->look.isnull))
			return group;
	}
	old = MemoryContextSwitchTo(finder->context);
	group = ivm_group_create(run, finder->context, 0, values, isnull);
	group->number = list_length(finder->groups);
	finder->groups = lappend(finder->groups, group);
	MemoryContextSwitchTo(old);
	return group;
}

static void
add_row(KeyedFinder *finder, TupleTableSlot *row, int64 weight, Datum *values, bool *isnull)
{
	AggregateRun *run = finder->op->state;
	AggregateGroup *group = group_of(finder, values, isnull);

	group->count += weight;
	if (finder->pass != NULL)
		ivm_replay_add(finder->pass, group->number, group->states, row, weight);
	ivm_accumulators_add(run->accumulators, group->states, row, weight, finder->context);
}

/* Are the group columns with these values those that are looked for? */
static bool
is_wanted(KeyedFinder *finder, Datum *values, bool *isnull)
{
	Datum		key_values[MaxTupleAttributeNumber];
	bool		key_isnull[MaxTupleAttributeNumber];

	for (int i = 0; i < finder->nkeys; i++)
	{
		key_values[i] = values[finder->columns[i]];
		key_isnull[i] = isnull[finder->columns[i]];
	}
	return ivm_key_equal(finder->key, finder->values, finder->isnull, key_values, key_isnull);
}

static bool
found_row(void *context, TupleTableSlot *row, int64 weight)
{
	KeyedFinder *finder = context;
	AggregateRun *run = finder->op->state;
	MemoryContext old = MemoryContextSwitchTo(finder->row_context);
	Datum		values[MaxTupleAttributeNumber];
	bool		isnull[MaxTupleAttributeNumber];
	uint64		hash;

	CHECK_FOR_INTERRUPTS();
	hash = ivm_group_key(run, row, values, isnull, finder->several ? 0 : 1);
	if (!is_wanted(finder, values, isnull))
		 /* others of its group may be missing */ ;
	else if (finder->several)
		ivm_row_index_add(finder->rows, ivm_row_form(run->input_desc, row), weight, hash);
	else
		add_row(finder, row, weight, values, isnull);
	MemoryContextSwitchTo(old);
	MemoryContextReset(finder->row_context);
	return true;
}

/* The row of a group, if it has one. */
static bool
give_group(KeyedFinder *finder, AggregateGroup *group, IvmLookupReceiver receiver, void *context)
{
	AggregateRun *run = finder->op->state;
	TupleTableSlot *result = NULL;
	int64		weight;

	if (group->count <= 0)
		return true;
	ExecStoreMinimalTuple(ivm_group_output(run, group), finder->raw_row, false);
	weight = ivm_group_weight(run, finder->raw_row);
	if (weight != 0)
		result = ivm_projection_apply(finder->projection, finder->raw_row);
	return result == NULL || receiver(context, result, weight);
}

static void
begin_groups(KeyedFinder *finder)
{
	MemoryContextReset(finder->context);
	finder->groups = NIL;
	finder->pass = ((AggregateRun *) finder->op->state)->in_order ? ivm_groups_pass(finder->op, finder->context, false) : NULL;
}

/* All rows of the groups have been added. */
static bool
give_groups(KeyedFinder *finder, IvmLookupReceiver receiver, void *context)
{
	MemoryContext old = MemoryContextSwitchTo(finder->context);
	bool		more = true;
	ListCell   *cell;

	if (finder->pass != NULL)
	{
		ivm_replay_perform(finder->pass);
		foreach(cell, finder->groups)
		{
			AggregateGroup *group = lfirst(cell);

			ExecStoreMinimalTuple(group->look.tuple, finder->key_row, false);
			ivm_replay_finish(finder->pass, group->number, group->states, finder->key_row, finder->context);
		}
		ExecClearTuple(finder->key_row);
		ivm_replay_end(finder->pass);
	}
	foreach(cell, finder->groups)
		more = more && give_group(finder, lfirst(cell), receiver, context);
	MemoryContextSwitchTo(old);
	ExecClearTuple(finder->raw_row);
	return more;
}

/* Computes the groups whose rows have been collected. */
static bool
give_several(KeyedFinder *finder, IvmLookupReceiver receiver, void *context)
{
	AggregateRun *run = finder->op->state;
	uint64		hash = 0;
	bool		more = true;

	ivm_row_index_finish(finder->rows);
	while (more && ivm_row_index_walk(finder->rows, &hash))
	{
		IvmRow	   *row;

		begin_groups(finder);
		ivm_row_index_find(finder->rows, hash);
		while ((row = ivm_row_index_next(finder->rows)) != NULL)
		{
			Datum		values[MaxTupleAttributeNumber];
			bool		isnull[MaxTupleAttributeNumber];
			MemoryContext old = MemoryContextSwitchTo(finder->row_context);

			CHECK_FOR_INTERRUPTS();
			ExecStoreMinimalTuple(ivm_row_tuple(row), finder->row, false);
			(void) ivm_group_key(run, finder->row, values, isnull, hash == 0 ? 1 : hash);
			add_row(finder, finder->row, row->weight, values, isnull);
			MemoryContextSwitchTo(old);
			MemoryContextReset(finder->row_context);
		}
		ExecClearTuple(finder->row);
		more = give_groups(finder, receiver, context);
		if (hash++ == PG_UINT64_MAX)
			break;
	}
	ivm_row_index_destroy(finder->rows);
	return more;
}

static bool
keyed_finder_find(void *context, const Datum *values, const bool *isnull,
				  IvmLookupReceiver receiver, void *receiver_context)
{
	KeyedFinder *finder = context;

	for (int i = 0; i < finder->nkeys; i++)
	{
		finder->values[i] = values[finder->keys[i]];
		finder->isnull[i] = isnull[finder->keys[i]];
	}
	for (int i = 0; i < finder->nbelow; i++)
	{
		finder->below_values[i] = values[finder->below[i]];
		finder->below_isnull[i] = isnull[finder->below[i]];
	}
	if (finder->several)
	{
		MemoryContext old = MemoryContextSwitchTo(finder->batch_context);

		finder->rows = ivm_row_index_create(finder->op->dataflow->arena);
		MemoryContextSwitchTo(old);
	}
	else
		begin_groups(finder);
	(void) ivm_source_find(finder->source, finder->below_values, finder->below_isnull, found_row, finder);
	return finder->several ? give_several(finder, receiver, receiver_context) :
		give_groups(finder, receiver, receiver_context);
}

static void
keyed_finder_end(void *context)
{
	ivm_source_end(((KeyedFinder *) context)->source);
}

const IvmFinderRoutine ivm_keyed_finder = {
	.create = keyed_finder_create,
	.begin = keyed_finder_begin,
	.expect = keyed_finder_expect,
	.find = keyed_finder_find,
	.end = keyed_finder_end,
};
