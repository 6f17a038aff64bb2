/*-------------------------------------------------------------------------
 *
 * op_recompute.c
 *	  Parts of a query without a delta rule: run again, and compared.
 *
 * The state table holds the last output: by the rows' hashes, or, if somebody looks rows up by a
 * key, by that of the key.  When a table that the part reads was
 * changed in the batch, the part is run under the batch's snapshot; what is new
 * in the output and what is gone is the delta.  Which rows changed does not
 * matter.
 *
 * Costs: a run of the part and a comparison of its whole output for each batch
 * that touches its tables.
 *
 * Memory: the difference in the arena; while it is computed, the output.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "arrange/state_table.h"
#include "dataflow/operator.h"
#include "miscadmin.h"

typedef struct RecomputeState
{
	bool		touched;
} RecomputeState;

static void
recompute_init(IvmOperator *op)
{
	op->state = palloc0(sizeof(RecomputeState));
}

static void
recompute_begin(IvmOperator *op)
{
	((RecomputeState *) op->state)->touched = op->dataflow->populating;
}

/* A row of one of its tables changed; which one is no matter. */
static void
recompute_receive(IvmOperator *op, int input, TupleTableSlot *row, int64 weight)
{
	((RecomputeState *) op->state)->touched = true;
}

static void
collect(void *context, TupleTableSlot *row, int64 weight)
{
	ivm_zset_add(context, row, weight);
	CHECK_FOR_INTERRUPTS();
}

static IvmStateTable *
open_table(IvmOperator *op)
{
	char	   *name = ivm_operator_state_name(op->node, op->dataflow->plan->relid);

	return ivm_state_table_open(ivm_state_table_get(name), op->dataflow->snapshot);
}

static void
recompute_finish(IvmOperator *op)
{
	RecomputeState *state = op->state;
	IvmDataflow *dataflow = op->dataflow;
	IvmZset    *difference;
	IvmStateTable *table;
	IvmStateRow *stored;
	TupleTableSlot *slot;
	IvmArrangement *kept = op->node->kept;
	IvmZsetParts parts;
	int64		count;
	IvmRow	  **rows;

	if (!state->touched)
		return;
	op->counters.recomputes++;
	difference = ivm_zset_create(dataflow->arena, op->node->desc);
	ivm_execute_subtree(dataflow->plan, op->node->plan, dataflow->snapshot, collect, difference);

	table = open_table(op);
	if (dataflow->populating)
		ivm_state_table_fill(table);
	else
	{
		ivm_state_table_scan(table);
		while ((stored = ivm_state_table_next(table)) != NULL)
			ivm_zset_add_tuple(difference, stored->tuple, -stored->weight);
	}

	slot = MakeSingleTupleTableSlot(op->node->desc, &TTSOpsMinimalTuple);
	ivm_zset_parts_begin(difference, &parts);
	while ((rows = ivm_zset_parts_next(&parts, &count)) != NULL)
		for (int64 i = 0; i < count; i++)
		{
			CHECK_FOR_INTERRUPTS();
			if (kept == NULL)
				ivm_state_table_add(table, rows[i]->hash, ivm_row_tuple(rows[i]), rows[i]->weight);
			ExecStoreMinimalTuple(ivm_row_tuple(rows[i]), slot, false);
			ivm_operator_emit(op, slot, rows[i]->weight);
		}
	ivm_zset_parts_end(&parts);
	ivm_state_table_close(table);
	if (kept != NULL)
		ivm_arrangement_apply(kept, ivm_state_table_get(ivm_operator_state_name(op->node, dataflow->plan->relid)),
							  difference, dataflow->snapshot, dataflow->populating);
	ivm_zset_close(difference);
	ExecDropSingleTupleTableSlot(slot);
}

static void
recompute_replay(IvmOperator *op)
{
	IvmStateTable *table = open_table(op);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(op->node->desc, &TTSOpsMinimalTuple);
	IvmStateRow *stored;

	ivm_state_table_scan(table);
	while ((stored = ivm_state_table_next(table)) != NULL)
	{
		ExecStoreMinimalTuple(stored->tuple, slot, false);
		ivm_operator_emit(op, slot, stored->weight);
	}
	ExecDropSingleTupleTableSlot(slot);
	ivm_state_table_close(table);
}

/*
 * All rows, for who has no key.
 */

typedef struct RecomputeFinder
{
	IvmOperator *op;
	TupleTableSlot *row;

	/* of the batch */
	MemoryContext batch_context;
	IvmStateTable *table;		/* NULL: not opened yet */
} RecomputeFinder;

static void *
recompute_finder_create(IvmOperator *op, IvmArrangement *arrangement)
{
	RecomputeFinder *finder = palloc0(sizeof(RecomputeFinder));

	finder->op = op;
	finder->row = MakeSingleTupleTableSlot(op->node->desc, &TTSOpsMinimalTuple);
	return finder;
}

static void
recompute_finder_begin(void *context)
{
	RecomputeFinder *finder = context;

	finder->batch_context = CurrentMemoryContext;
	finder->table = NULL;
}

static void
recompute_finder_expect(void *context, int64 probes)
{
}

static bool
recompute_finder_find(void *context, const Datum *values, const bool *isnull,
					  IvmLookupReceiver receiver, void *receiver_context)
{
	RecomputeFinder *finder = context;
	IvmStateRow *stored;
	bool		more = true;

	if (finder->table == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(finder->batch_context);

		finder->table = open_table(finder->op);
		MemoryContextSwitchTo(old);
	}
	ivm_state_table_scan(finder->table);
	while (more && (stored = ivm_state_table_next(finder->table)) != NULL)
	{
		ExecStoreMinimalTuple(stored->tuple, finder->row, false);
		more = receiver(receiver_context, finder->row, stored->weight);
	}
	ExecClearTuple(finder->row);
	return more;
}

static void
recompute_finder_end(void *context)
{
	RecomputeFinder *finder = context;

	if (finder->table != NULL)
		ivm_state_table_close(finder->table);
	finder->table = NULL;
}

static const IvmFinderRoutine recompute_finder = {
	.create = recompute_finder_create,
	.begin = recompute_finder_begin,
	.expect = recompute_finder_expect,
	.find = recompute_finder_find,
	.end = recompute_finder_end,
};

const IvmOperatorRoutine ivm_op_recompute = {
	.keeps_state = true,
	.init = recompute_init,
	.begin = recompute_begin,
	.receive = recompute_receive,
	.finish = recompute_finish,
	.replay = recompute_replay,
	.own_finder = &recompute_finder,
};
