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
 * Costs: the rows of the group, and the final functions.
 *
 * Memory: the states of what is found, in a context of their own, until the receiver returns.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "dataflow/aggregate_internal.h"
#include "dataflow/source.h"

typedef struct KeyedFinder
{
	IvmOperator *op;
	IvmSource  *source;
	int			nbelow;			/* keys of the source */
	int		   *below;			/* which of the values they are */
	Datum	   *below_values;
	bool	   *below_isnull;
	int		   *keys;			/* of each group column: which of the values
								 * is its */
	IvmKey	   *key;
	TupleTableSlot *key_row;
	TupleTableSlot *raw_row;
	IvmProjection *projection;
	MemoryContext context;		/* of what is found */
	MemoryContext row_context;

	/* of the lookup */
	Datum	   *values;			/* by group column */
	bool	   *isnull;
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
	for (int i = 0; i < run->ncolumns; i++)
	{
		finder->keys[i] = list_nth_int(arrangement->own_keys, i);
		operators[i] = list_nth_oid(arrangement->operators, finder->keys[i]);
		collations[i] = list_nth_oid(arrangement->collations, finder->keys[i]);
	}
	finder->key = ivm_key_create(run->ncolumns, operators, collations, arrangement->null_safe);
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

static bool
found_row(void *context, TupleTableSlot *row, int64 weight)
{
	KeyedFinder *finder = context;
	AggregateRun *run = finder->op->state;
	MemoryContext old = MemoryContextSwitchTo(finder->row_context);
	Datum		values[MaxTupleAttributeNumber];
	bool		isnull[MaxTupleAttributeNumber];

	CHECK_FOR_INTERRUPTS();
	(void) ivm_group_key(run, row, values, isnull, 1);
	if (ivm_key_equal(finder->key, finder->values, finder->isnull, values, isnull))
	{
		AggregateGroup *group = group_of(finder, values, isnull);

		group->count += weight;
		if (finder->pass != NULL)
			ivm_replay_add(finder->pass, group->number, group->states, row, weight);
		ivm_accumulators_add(run->accumulators, group->states, row, weight, finder->context);
	}
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

static bool
keyed_finder_find(void *context, const Datum *values, const bool *isnull,
				  IvmLookupReceiver receiver, void *receiver_context)
{
	KeyedFinder *finder = context;
	AggregateRun *run = finder->op->state;
	MemoryContext old;
	bool		more = true;
	ListCell   *cell;

	for (int i = 0; i < run->ncolumns; i++)
	{
		finder->values[i] = values[finder->keys[i]];
		finder->isnull[i] = isnull[finder->keys[i]];
	}
	for (int i = 0; i < finder->nbelow; i++)
	{
		finder->below_values[i] = values[finder->below[i]];
		finder->below_isnull[i] = isnull[finder->below[i]];
	}
	MemoryContextReset(finder->context);
	finder->groups = NIL;
	finder->pass = run->in_order ? ivm_groups_pass(finder->op, finder->context, false) : NULL;
	(void) ivm_source_find(finder->source, finder->below_values, finder->below_isnull, found_row, finder);
	old = MemoryContextSwitchTo(finder->context);
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
		more = more && give_group(finder, lfirst(cell), receiver, receiver_context);
	MemoryContextSwitchTo(old);
	ExecClearTuple(finder->raw_row);
	return more;
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
