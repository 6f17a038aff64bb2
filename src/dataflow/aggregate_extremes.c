/*-------------------------------------------------------------------------
 *
 * aggregate_extremes.c
 *	  The next value of min, max and the like when the present one has gone; the values of percentiles.
 *
 * It is the first, or the last, of the group in an ordered arrangement of the input, which is in the new state
 * as the input has been finished: one descent in an index, whatever the group's size.
 *
 * Percentiles walk on from where they were (rank_search.c).
 *
 * Memory: a copy of the value in the group's context.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "arrange/walk.h"
#include "dataflow/aggregate_internal.h"
#include "dataflow/rank.h"

void
ivm_extremes_init(IvmOperator *op)
{
	AggregateRun *state = op->state;

	for (int i = 0; i < state->ncalls; i++)
	{
		IvmAggregateCall *call = list_nth(op->node->calls, i);

		if (call->extremes == NULL)
			continue;
		if (state->walks == NULL)
			state->walks = palloc0(sizeof(IvmWalk *) * state->ncalls);
		for (int k = 0; k < i && state->walks[i] == NULL; k++)
			if (((IvmAggregateCall *) list_nth(op->node->calls, k))->extremes == call->extremes)
				state->walks[i] = state->walks[k];
		if (state->walks[i] == NULL)
			state->walks[i] = ivm_walk_create(call->extremes, op->dataflow->plan->relid);
	}
}

void
ivm_extremes_begin(IvmOperator *op)
{
	AggregateRun *state = op->state;

	for (int i = 0; i < state->ncalls && state->walks != NULL; i++)
		if (state->walks[i] != NULL)
			ivm_walk_begin(state->walks[i], op->dataflow->snapshot);
}

void
ivm_extremes_end(IvmOperator *op)
{
	AggregateRun *state = op->state;

	for (int i = 0; i < state->ncalls && state->walks != NULL; i++)
		if (state->walks[i] != NULL)
			ivm_walk_end(state->walks[i]);
}

/* While the extreme value of a group is looked for. */
typedef struct ExtremeSearch
{
	AggregateRun *state;
	AggregateGroup *group;
	int			call;
} ExtremeSearch;

static bool
take_extreme(void *context, TupleTableSlot *row, int64 weight)
{
	ExtremeSearch *search = context;

	ivm_accumulators_set_extreme(search->state->accumulators, search->group->states, search->call, row,
								 GetMemoryChunkContext(search->group));
	return false;
}

void
ivm_group_find_extremes(IvmOperator *op, AggregateGroup *group)
{
	AggregateRun *state = op->state;

	for (int i = 0; i < state->ncalls; i++)
	{
		ExtremeSearch search = {.state = state, .group = group, .call = i};
		IvmAggregateCall *call = list_nth(op->node->calls, i);

		if (state->walks[i] == NULL || call->kind != IVM_ACC_EXTREME || !group->states[i].incomplete)
			continue;
		ivm_walk_end_row(state->walks[i], group->look.values, group->look.isnull, call->backward,
						 take_extreme, &search);
		if (group->states[i].incomplete)
			ivm_accumulators_set_extreme(state->accumulators, group->states, i, NULL, GetMemoryChunkContext(group));
	}
}

void
ivm_group_find_ranks(IvmOperator *op, AggregateGroup *group)
{
	AggregateRun *state = op->state;
	int			ncalls;
	IvmAccumulatorCall *calls = ivm_accumulators_calls(state->accumulators, &ncalls);

	ExecStoreMinimalTuple(group->look.tuple, state->key_row, false);
	for (int i = 0; i < ncalls; i++)
		if (calls[i].kind == IVM_ACC_RANK)
			ivm_rank_complete(&calls[i], &group->states[i], state->walks[i], group->look.values, group->look.isnull,
							  state->key_row, GetMemoryChunkContext(group->states));
	ExecClearTuple(state->key_row);
}
