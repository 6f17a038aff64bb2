/*-------------------------------------------------------------------------
 *
 * aggregate_finder.c
 *	  Groups of an aggregate by their columns, found in its own state table.
 *
 * The state table has a row for each group, by the hash of its columns.  Values that are looked
 * for are hashed by the functions of the operators that they are looked for by, which
 * give what the grouping's give for all that is equal (the compiler has seen to that); what the
 * group shows is computed from its states, as when it was written.  So each row is the
 * very one that was emitted.
 *
 * Without keys all groups are given.
 *
 * Costs: a lookup in the state table, and the final functions.
 *
 * Memory: one group in a context of its own, until its receiver returns.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "dataflow/aggregate_internal.h"

typedef struct AggregateFinder
{
	IvmOperator *op;
	bool		all;			/* there are no keys */
	int			ncolumns;
	bool		null_safe;
	int		   *keys;			/* of each group column: which of the values
								 * is its */
	IvmKey	   *key;
	Datum	   *values;
	bool	   *isnull;
	TupleTableSlot *state_row;
	TupleTableSlot *raw_row;
	IvmProjection *projection;
	MemoryContext group_context;

	/* of the batch */
	MemoryContext batch_context;
	IvmStateTable *table;		/* NULL: not opened yet */
} AggregateFinder;

static void *
aggregate_finder_create(IvmOperator *op, IvmArrangement *arrangement)
{
	AggregateFinder *finder = palloc0(sizeof(AggregateFinder));
	AggregateRun *run = op->state;
	int			ncolumns = run->ncolumns;
	Oid		   *operators = palloc(sizeof(Oid) * Max(ncolumns, 1));
	Oid		   *collations = palloc(sizeof(Oid) * Max(ncolumns, 1));

	finder->op = op;
	finder->all = arrangement->keys == NIL;
	finder->null_safe = arrangement->null_safe;
	finder->keys = palloc(sizeof(int) * Max(ncolumns, 1));
	finder->values = palloc(sizeof(Datum) * Max(ncolumns, 1));
	finder->isnull = palloc(sizeof(bool) * Max(ncolumns, 1));
	finder->state_row = MakeSingleTupleTableSlot(run->state_desc, &TTSOpsMinimalTuple);
	finder->raw_row = MakeSingleTupleTableSlot(run->raw_desc, &TTSOpsVirtual);
	finder->projection = ivm_projection_create(op->node->tlist, op->node->quals, op->node->desc);
	finder->group_context = AllocSetContextCreate(CurrentMemoryContext, "ivm found group", ALLOCSET_SMALL_SIZES);
	if (finder->all)
		return finder;
	finder->ncolumns = ncolumns;
	for (int i = 0; i < ncolumns; i++)
	{
		finder->keys[i] = list_nth_int(arrangement->own_keys, i);
		operators[i] = list_nth_oid(arrangement->operators, finder->keys[i]);
		collations[i] = list_nth_oid(arrangement->collations, finder->keys[i]);
	}
	finder->key = ivm_key_create(ncolumns, operators, collations, false);
	return finder;
}

static void
aggregate_finder_begin(void *context)
{
	AggregateFinder *finder = context;

	finder->batch_context = CurrentMemoryContext;
	finder->table = NULL;
}

static void
aggregate_finder_expect(void *context, int64 probes)
{
}

/* Computes what a stored group shows, and gives it. */
static bool
give_group(AggregateFinder *finder, MinimalTuple tuple, IvmLookupReceiver receiver, void *context)
{
	AggregateRun *run = finder->op->state;
	TupleTableSlot *raw = finder->raw_row;
	TupleTableSlot *stored = finder->state_row;
	TupleTableSlot *result;
	MemoryContext old;
	IvmAccumulatorState *states;
	int64		weight;

	MemoryContextReset(finder->group_context);
	old = MemoryContextSwitchTo(finder->group_context);
	/* the table's own tuple is gone with its next row */
	ExecStoreMinimalTuple(heap_copy_minimal_tuple(tuple), stored, false);
	slot_getallattrs(stored);
	states = ivm_accumulators_load(run->accumulators, stored, run->ncolumns + 3, finder->group_context);
	ExecClearTuple(raw);
	memcpy(raw->tts_values, stored->tts_values, sizeof(Datum) * run->ncolumns);
	memcpy(raw->tts_isnull, stored->tts_isnull, sizeof(bool) * run->ncolumns);
	ivm_accumulators_finish(run->accumulators, states, raw->tts_values + run->ncolumns, raw->tts_isnull + run->ncolumns);
	ExecStoreVirtualTuple(raw);
	MemoryContextSwitchTo(old);

	weight = ivm_group_weight(run, raw);
	if (weight == 0)
		return true;
	result = ivm_projection_apply(finder->projection, raw);
	return result == NULL || receiver(context, result, weight);
}

static bool
aggregate_finder_find(void *context, const Datum *values, const bool *isnull,
					  IvmLookupReceiver receiver, void *receiver_context)
{
	AggregateFinder *finder = context;
	IvmStateRow *row;
	uint64		hash = 0;
	bool		more = true;

	for (int i = 0; i < finder->ncolumns; i++)
	{
		finder->values[i] = values[finder->keys[i]];
		finder->isnull[i] = isnull[finder->keys[i]];
		if (finder->isnull[i] && !finder->null_safe)
			return true;
	}
	if (finder->ncolumns > 0)
	{
		MemoryContext old = MemoryContextSwitchTo(finder->group_context);

		MemoryContextReset(finder->group_context);
		hash = ivm_key_hash_left(finder->key, finder->values, finder->isnull);
		MemoryContextSwitchTo(old);
	}
	if (finder->table == NULL)
	{
		IvmDataflow *dataflow = finder->op->dataflow;
		MemoryContext old = MemoryContextSwitchTo(finder->batch_context);
		char	   *name = ivm_operator_state_name(finder->op->node, dataflow->plan->relid);

		finder->table = ivm_state_table_open(ivm_state_table_get(name), dataflow->snapshot);
		MemoryContextSwitchTo(old);
	}
	if (finder->all)
		ivm_state_table_scan(finder->table);
	else
		ivm_state_table_find(finder->table, hash);
	while (more && (row = ivm_state_table_next(finder->table)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		more = give_group(finder, row->tuple, receiver, receiver_context);
	}
	ExecClearTuple(finder->state_row);
	ExecClearTuple(finder->raw_row);
	return more;
}

static void
aggregate_finder_end(void *context)
{
	AggregateFinder *finder = context;

	if (finder->table != NULL)
		ivm_state_table_close(finder->table);
	finder->table = NULL;
}

const IvmFinderRoutine ivm_aggregate_finder = {
	.create = aggregate_finder_create,
	.begin = aggregate_finder_begin,
	.expect = aggregate_finder_expect,
	.find = aggregate_finder_find,
	.end = aggregate_finder_end,
};
