/*-------------------------------------------------------------------------
 *
 * op_join.c
 *	  Deltas through an inner join of N inputs.
 *
 * When a batch changes several inputs, the delta of the output is the sum of
 * one path per changed input.  Path i starts with the delta of input i and
 * looks the others up, one stage after the other (join_walk.c): in the new state if j < i, in
 * the old state if j > i, so that each combination of changes counts once:
 *
 *		d(A * B) = dA * B(old)  +  A(new) * dB
 *
 * A lookup always gives the new state: tables are read under the batch's
 * snapshot, and other inputs have been finished.  Where the old state is wanted, the delta's own
 * rows are given with the opposite weight after them: old = new - delta.
 *
 * The output is not consolidated: two paths may give a row with opposite weights.
 *
 * The rows that start a path are sorted by the hash of the first key looked
 * up if that is found by hash, or by the value of a number, so that the index is
 * read from one end to the other.
 *
 * In population the old state of everything is empty.  One path runs
 * with the full contents of its start, and all lookups are of the new state.
 *
 * Hot keys are in a cache in front of the lookups (arrange/cache.c), which
 * forgets the keys of all deltas before the first path runs.
 *
 * The operator keeps no state.  Work is proportional to the delta times its matches, never to a table.
 *
 * Memory: the inputs' deltas in the arena until the batch ends.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"
#include "miscadmin.h"

#include "dataflow/join_walk.h"
#include "dataflow/probe.h"

typedef struct JoinInput
{
	TupleDesc	desc;
	IvmZset    *delta;			/* of the batch */
	int64		count;			/* of the delta, when all inputs are complete */
	bool		ignored;		/* in population: nobody needs its rows */
} JoinInput;

typedef struct JoinWay
{
	IvmJoinPath *plan;
	IvmJoinWalk *walk;
} JoinWay;

typedef struct JoinRun
{
	int			ninputs;
	JoinInput  *inputs;
	int			npaths;
	JoinWay    *paths;
	List	   *caches;			/* IvmCache: of all stages */
} JoinRun;

static void
join_init(IvmOperator *op)
{
	IvmPlanNode *node = op->node;
	JoinRun    *state = palloc0(sizeof(JoinRun));
	ListCell   *cell;

	op->state = state;
	state->inputs = palloc0(sizeof(JoinInput) * list_length(node->inputs));
	foreach(cell, node->inputs)
		state->inputs[state->ninputs++].desc = ((IvmPlanNode *) lfirst(cell))->desc;
	state->paths = palloc0(sizeof(JoinWay) * Max(list_length(node->paths), 1));
	foreach(cell, node->paths)
	{
		JoinWay    *path = &state->paths[state->npaths++];

		path->plan = lfirst(cell);
		path->walk = ivm_join_walk_create(op, path->plan, &state->caches);
	}
	op->projection = ivm_projection_create(ivm_join_widen(node, node->tlist), ivm_join_widen(node, node->quals),
										   node->desc);
}

/*
 * The path that population runs: the one with the fewest lookups other than in tables and their indexes.
 * Rows of shared state tables are read from the tables, whole; those of groups have just been written, and are
 * few against the rows that they are of, so they had better start.
 */
static JoinWay *
population_path(JoinRun *state)
{
	JoinWay    *best = NULL;
	int			least = 0;

	for (int i = 0; i < state->npaths; i++)
	{
		JoinWay    *path = &state->paths[i];
		int			others = 0;
		ListCell   *cell;

		foreach(cell, path->plan->stages)
		{
			IvmArrangementKind kind = ((IvmJoinStage *) lfirst(cell))->arrangement->kind;

			others += kind != IVM_ARRANGE_INDEX && kind != IVM_ARRANGE_SCAN;
		}
		if (best == NULL || others < least)
		{
			best = path;
			least = others;
		}
	}
	return best;
}

static void
join_begin(IvmOperator *op)
{
	JoinRun    *state = op->state;
	JoinWay    *path = population_path(state);

	for (int i = 0; i < state->ninputs; i++)
	{
		state->inputs[i].delta = ivm_zset_create(op->dataflow->arena, state->inputs[i].desc);
		state->inputs[i].ignored = op->dataflow->populating && (path == NULL || path->plan->start != i);
	}
	for (int i = 0; i < state->npaths; i++)
		ivm_join_walk_begin(state->paths[i].walk);
}

static void
join_receive(IvmOperator *op, int input, TupleTableSlot *row, int64 weight)
{
	JoinRun    *state = op->state;

	if (!state->inputs[input].ignored)
		ivm_zset_add(state->inputs[input].delta, row, weight);
}

static bool
join_wants(IvmOperator *op, int input)
{
	return !((JoinRun *) op->state)->inputs[input].ignored;
}

static bool
emit_joined(void *context, TupleTableSlot *wide, int64 weight)
{
	ivm_operator_emit_projected(context, wide, weight);
	return true;
}

/*
 * Walks the path from each of these rows of its start, in the order of the first stage's probes.  That takes two
 * numbers, the second of which is kept in the link of the row.
 */
static void
run_part(IvmOperator *op, JoinWay *path, TupleTableSlot *slot, IvmRow **rows, int64 count)
{
	for (int64 r = 0; r < count; r++)
	{
		uint64		second;

		CHECK_FOR_INTERRUPTS();
		ExecStoreMinimalTuple(ivm_row_tuple(rows[r]), slot, false);
		slot_getallattrs(slot);
		ivm_join_walk_order(path->walk, slot->tts_values, slot->tts_isnull, &rows[r]->hash, &second);
		rows[r]->next = (IvmRow *) (uintptr_t) second;
	}
	qsort(rows, count, sizeof(IvmRow *), ivm_probe_compare_orders);

	for (int64 r = 0; r < count; r++)
	{
		ExecStoreMinimalTuple(ivm_row_tuple(rows[r]), slot, false);
		slot_getallattrs(slot);
		(void) ivm_join_walk_from(path->walk, slot->tts_values, slot->tts_isnull, rows[r]->weight, emit_joined, op);
	}
	ExecClearTuple(slot);
}

/* Prepares a path; in a batch some of its stages look up the old state. */
static void
start_path(IvmOperator *op, JoinWay *path, bool batch)
{
	JoinRun    *state = op->state;
	IvmZset   **deltas = palloc0(sizeof(IvmZset *) * state->ninputs);
	bool	   *old = palloc0(sizeof(bool) * state->ninputs);

	for (int i = 0; batch && i < state->ninputs; i++)
	{
		if (state->inputs[i].count > 0)
			deltas[i] = state->inputs[i].delta;
		old[i] = deltas[i] != NULL && i > path->plan->start;
	}
	ivm_join_walk_start(path->walk, deltas, old, state->inputs[path->plan->start].count, batch);
	pfree(deltas);
	pfree(old);
}

static void
run_path(IvmOperator *op, JoinWay *path)
{
	JoinRun    *state = op->state;
	JoinInput  *start = &state->inputs[path->plan->start];
	TupleTableSlot *slot = MakeSingleTupleTableSlot(start->desc, &TTSOpsMinimalTuple);
	IvmZsetParts parts;
	int64		count;
	IvmRow	  **rows;

	start_path(op, path, !op->dataflow->populating);
	ivm_zset_parts_begin(start->delta, &parts);
	while ((rows = ivm_zset_parts_next(&parts, &count)) != NULL)
		run_part(op, path, slot, rows, count);
	ivm_zset_parts_end(&parts);
	ivm_join_walk_stop(path->walk);
	ExecDropSingleTupleTableSlot(slot);
}

static void
join_finish(IvmOperator *op)
{
	JoinRun    *state = op->state;

	for (int i = 0; i < state->ninputs; i++)
		state->inputs[i].count = ivm_zset_count(state->inputs[i].delta);

	if (op->dataflow->populating)
	{
		if (state->npaths > 0)
			run_path(op, population_path(state));
		return;
	}
	for (int i = 0; i < state->ninputs; i++)
		if (state->inputs[i].count > 0)
			ivm_probe_caches_apply(state->caches, list_nth(op->node->inputs, i), state->inputs[i].delta);
	for (int i = 0; i < state->npaths; i++)
		if (state->inputs[state->paths[i].plan->start].count > 0)
			run_path(op, &state->paths[i]);
}

static void
replay_start(void *context, TupleTableSlot *row, int64 weight)
{
	IvmOperator *op = context;
	JoinRun    *state = op->state;

	slot_getallattrs(row);
	(void) ivm_join_walk_from(state->paths[0].walk, row->tts_values, row->tts_isnull, weight, emit_joined, op);
}

/* All of one input through the first path, all lookups in the new state. */
static void
join_replay(IvmOperator *op)
{
	JoinRun    *state = op->state;
	JoinWay    *path = &state->paths[0];

	start_path(op, path, false);
	ivm_operator_replay(ivm_operator_input(op, path->plan->start), replay_start, op);
	ivm_join_walk_stop(path->walk);
}

static void
join_end(IvmOperator *op)
{
	JoinRun    *state = op->state;

	for (int i = 0; i < state->ninputs; i++)
		ivm_zset_close(state->inputs[i].delta);
	for (int i = 0; i < state->npaths; i++)
		ivm_join_walk_end(state->paths[i].walk);
}

static void
join_forget(IvmOperator *op)
{
	JoinRun    *state = op->state;

	ivm_probe_caches_forget(state->caches);
	for (int i = 0; i < state->npaths; i++)
		ivm_join_walk_forget(state->paths[i].walk);
}

const IvmOperatorRoutine ivm_op_join = {
	.init = join_init,
	.begin = join_begin,
	.receive = join_receive,
	.wants = join_wants,
	.finish = join_finish,
	.replay = join_replay,
	.end = join_end,
	.forget = join_forget,
	.finder = &ivm_join_finder,
};
