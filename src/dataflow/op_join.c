/*-------------------------------------------------------------------------
 *
 * op_join.c
 *	  Deltas through an inner join of N inputs.
 *
 * When a batch changes several inputs, the delta of the output is the sum of
 * one path per changed input.  Path i starts with the delta of input i and
 * looks the others up, one stage after the other: in the new state if j < i, in
 * the old state if j > i, so that each combination of changes counts once:
 *
 *		d(A * B) = dA * B(old)  +  A(new) * dB
 *
 * A lookup always gives the new state: tables are read under the batch's
 * snapshot, and private state tables are brought to the new state before the
 * first path runs.  Where the old state is wanted, the delta's own rows are given with the
 * opposite weight after them: old = new - delta.
 *
 * The rows of all inputs lie side by side in one wide virtual slot, which is
 * filled stage by stage; a stage tests each clause all of whose inputs are bound, so a
 * lookup may give rows that do not match.  The walk is depth first: however
 * many rows a join makes, one of them exists at a time.  The output is not
 * consolidated: two paths may give a row with opposite weights.
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
 * Work is proportional to the delta times its matches, never to a table.
 *
 * Memory: the inputs' deltas in the arena until the batch ends; values of a
 * stage in its own expression contexts, which are reset with each row.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"

#include "arrange/arrange.h"
#include "arrange/cache.h"
#include "dataflow/join_probe.h"
#include "dataflow/operator.h"
#include "memory/reclaim.h"

typedef struct JoinInput
{
	TupleDesc	desc;
	int			offset;			/* of its columns in the wide row */
	IvmZset    *delta;			/* of the batch */
	int64		count;			/* of the delta, when all inputs are complete */
	bool		ignored;		/* in population: nobody needs its rows */
} JoinInput;

typedef struct JoinStage
{
	IvmJoinStage *plan;
	IvmJoinProbe *probe;
	List	   *value_states;	/* of the probe, over the wide row */
	ExprContext *value_context;
	Datum	   *values;
	ExprState  *qual;
	ExprContext *qual_context;
} JoinStage;

typedef struct JoinWay
{
	IvmJoinPath *plan;
	ExprState  *qual;
	ExprContext *qual_context;
	int			nstages;
	JoinStage  *stages;
} JoinWay;

typedef struct JoinRun
{
	int			ninputs;
	JoinInput  *inputs;
	int			npaths;
	JoinWay    *paths;
	TupleTableSlot *wide;
	List	   *arrangements;	/* IvmArrangement: private ones that this join
								 * keeps */
	List	   *caches;			/* IvmCache: of all stages */
} JoinRun;

/* Where a walk is: one for each stage of the path that runs. */
typedef struct JoinWalk
{
	IvmOperator *op;
	JoinWay    *path;
	int			stage;
	int64		weight;			/* of what is bound */
} JoinWalk;

/*
 * The private state tables that the join keeps: those of its own inputs.  The
 * same arrangement may serve several stages.
 */
List *
ivm_join_private_arrangements(IvmPlanNode *node)
{
	List	   *result = NIL;
	ListCell   *path_cell;
	ListCell   *stage_cell;

	foreach(path_cell, node->paths)
	{
		IvmJoinPath *path = lfirst(path_cell);

		foreach(stage_cell, path->stages)
		{
			IvmJoinStage *stage = lfirst(stage_cell);

			if (stage->arrangement->kind == IVM_ARRANGE_STATE && !stage->arrangement->shared)
				result = list_append_unique_ptr(result, stage->arrangement);
		}
	}
	return result;
}

bool
ivm_join_is_stateful(IvmPlanNode *node)
{
	return ivm_join_private_arrangements(node) != NIL;
}

/* Turns Var(i + 1, k) into the column of the wide row. */
static Node *
widen(Node *node, void *context)
{
	JoinRun    *state = context;

	if (node == NULL)
		return NULL;
	if (IsA(node, Var))
	{
		Var		   *var = copyObject((Var *) node);

		if (var->varattno <= 0)
			elog(ERROR, "join clause reads a whole row or a system column");
		var->varattno += state->inputs[var->varno - 1].offset;
		var->varno = 1;
		return (Node *) var;
	}
	return expression_tree_mutator(node, widen, context);
}

static void
init_stage(IvmOperator *op, JoinRun *state, JoinStage *stage, IvmJoinStage *plan)
{
	/* all changes of what it looks up come through this join */
	bool		is_own = list_nth(op->node->inputs, plan->input) == plan->arrangement->input;

	stage->plan = plan;
	stage->probe = ivm_join_probe_create(plan->arrangement, plan->probes, op->dataflow->plan->relid,
										 is_own ? &state->caches : NULL);
	stage->value_states = ExecInitExprList((List *) widen((Node *) plan->probes, state), NULL);
	stage->value_context = ivm_expr_context_create();
	stage->value_context->ecxt_scantuple = state->wide;
	stage->values = palloc(sizeof(Datum) * Max(list_length(plan->probes), 1));
	stage->qual = ExecInitQual((List *) widen((Node *) plan->quals, state), NULL);
	stage->qual_context = ivm_expr_context_create();
	stage->qual_context->ecxt_scantuple = state->wide;
}

static void
join_init(IvmOperator *op)
{
	IvmPlanNode *node = op->node;
	JoinRun    *state = palloc0(sizeof(JoinRun));
	TupleDesc	desc;
	int			natts = 0;
	ListCell   *cell;
	int			i = 0;

	op->state = state;
	state->ninputs = list_length(node->inputs);
	state->inputs = palloc0(sizeof(JoinInput) * state->ninputs);
	foreach(cell, node->inputs)
	{
		IvmPlanNode *input = lfirst(cell);

		state->inputs[i].desc = input->desc;
		state->inputs[i++].offset = natts;
		natts += input->desc->natts;
	}
	desc = CreateTemplateTupleDesc(natts);
	for (i = 0; i < state->ninputs; i++)
		for (int k = 0; k < state->inputs[i].desc->natts; k++)
			TupleDescCopyEntry(desc, state->inputs[i].offset + k + 1, state->inputs[i].desc, k + 1);
	state->wide = MakeSingleTupleTableSlot(desc, &TTSOpsVirtual);
	memset(state->wide->tts_isnull, true, sizeof(bool) * natts);
	ExecStoreVirtualTuple(state->wide);

	state->npaths = list_length(node->paths);
	state->paths = palloc0(sizeof(JoinWay) * Max(state->npaths, 1));
	i = 0;
	foreach(cell, node->paths)
	{
		JoinWay    *path = &state->paths[i++];
		ListCell   *inner;

		path->plan = lfirst(cell);
		path->qual = ExecInitQual((List *) widen((Node *) path->plan->quals, state), NULL);
		path->qual_context = ivm_expr_context_create();
		path->qual_context->ecxt_scantuple = state->wide;
		path->stages = palloc0(sizeof(JoinStage) * Max(list_length(path->plan->stages), 1));
		foreach(inner, path->plan->stages)
			init_stage(op, state, &path->stages[path->nstages++], lfirst(inner));
	}
	state->arrangements = ivm_join_private_arrangements(node);
	foreach(cell, op->dataflow->plan->nodes)
	{
		/*
		 * one that two joins read is kept by the first, which is finished
		 * first
		 */
		IvmPlanNode *other = lfirst(cell);

		if (other == node)
			break;
		if (other->kind == IVM_JOIN)
			state->arrangements = list_difference_ptr(state->arrangements, ivm_join_private_arrangements(other));
	}
	op->projection = ivm_projection_create((List *) widen((Node *) node->tlist, state),
										   (List *) widen((Node *) node->quals, state), node->desc);
}

/* The path that population runs: the one that has to read the fewest tables whole. */
static JoinWay *
population_path(JoinRun *state)
{
	JoinWay    *best = NULL;
	int			least = 0;

	for (int i = 0; i < state->npaths; i++)
	{
		JoinWay    *path = &state->paths[i];
		int			shared = 0;

		for (int k = 0; k < path->nstages; k++)
			shared += path->stages[k].plan->arrangement->shared;
		if (best == NULL || shared < least)
		{
			best = path;
			least = shared;
		}
	}
	return best;
}

/* Does population need the rows of that input? */
static bool
population_reads(IvmOperator *op, int input)
{
	JoinRun    *state = op->state;
	JoinWay    *path = population_path(state);
	ListCell   *cell;

	if (path != NULL && path->plan->start == input)
		return true;
	foreach(cell, state->arrangements)
	{
		if (((IvmArrangement *) lfirst(cell))->input == list_nth(op->node->inputs, input))
			return true;
	}
	return false;
}

static void
join_begin(IvmOperator *op)
{
	JoinRun    *state = op->state;

	for (int i = 0; i < state->ninputs; i++)
	{
		state->inputs[i].delta = ivm_zset_create(op->dataflow->arena, state->inputs[i].desc);
		state->inputs[i].ignored = op->dataflow->populating && !population_reads(op, i);
	}
	for (int i = 0; i < state->npaths; i++)
		for (int k = 0; k < state->paths[i].nstages; k++)
			ivm_join_probe_begin(state->paths[i].stages[k].probe, op->dataflow->snapshot,
								 op->dataflow->arena, op->dataflow->populating);
}

static void
join_receive(IvmOperator *op, int input, TupleTableSlot *row, int64 weight)
{
	JoinRun    *state = op->state;

	if (!state->inputs[input].ignored)
		ivm_zset_add(state->inputs[input].delta, row, weight);
}

static bool walk(IvmOperator *op, JoinWay *path, int stage_number, int64 weight);

/* Puts a row into the wide row.  Its values stay the row's. */
static inline void
bind(JoinRun *state, int input_number, const Datum *values, const bool *isnull)
{
	JoinInput  *input = &state->inputs[input_number];

	memcpy(state->wide->tts_values + input->offset, values, sizeof(Datum) * input->desc->natts);
	memcpy(state->wide->tts_isnull + input->offset, isnull, sizeof(bool) * input->desc->natts);
}

/* A row of the stage's input was found: test it, and go on to the next stage. */
static bool
found_row(void *context, const Datum *values, const bool *isnull, int64 weight)
{
	JoinWalk   *position = context;
	JoinStage  *stage = &position->path->stages[position->stage];

	CHECK_FOR_INTERRUPTS();
	bind(position->op->state, stage->plan->input, values, isnull);
	ResetExprContext(stage->qual_context);
	return !ExecQual(stage->qual, stage->qual_context) ||
		walk(position->op, position->path, position->stage + 1, position->weight * weight);
}

/* Computes what the stage looks for; false if a value is NULL, which matches nothing. */
static bool
compute_values(JoinStage *stage)
{
	ListCell   *cell;
	int			i = 0;

	ResetExprContext(stage->value_context);
	foreach(cell, stage->value_states)
	{
		bool		isnull;

		stage->values[i++] = ExecEvalExprSwitchContext(lfirst(cell), stage->value_context, &isnull);
		if (isnull)
			return false;
	}
	return true;
}

/*
 * Binds the inputs from that stage on, and emits what comes out at the end.
 * Returns true, as all rows are wanted.
 */
static bool
walk(IvmOperator *op, JoinWay *path, int stage_number, int64 weight)
{
	JoinRun    *state = op->state;
	JoinWalk	position = {op, path, stage_number, weight};
	JoinStage  *stage;

	if (stage_number == path->nstages)
	{
		ivm_operator_emit_projected(op, state->wide, weight);
		return true;
	}

	check_stack_depth();
	stage = &path->stages[stage_number];
	return !compute_values(stage) ||
		ivm_join_probe_rows(stage->probe, stage->values, found_row, &position);
}

/* Binds a row of the start, and goes on. */
static void
walk_from(IvmOperator *op, JoinWay *path, TupleTableSlot *row, int64 weight)
{
	CHECK_FOR_INTERRUPTS();
	slot_getallattrs(row);
	bind(op->state, path->plan->start, row->tts_values, row->tts_isnull);
	ResetExprContext(path->qual_context);
	if (ExecQual(path->qual, path->qual_context))
		(void) walk(op, path, 0, weight);
}

/*
 * The order in which the rows of a start are walked is that of the first stage's
 * probes.  It takes two numbers, the second of which is kept in the link of the row.
 */
static int
compare_starts(const void *a, const void *b)
{
	const IvmRow *x = *(IvmRow *const *) a;
	const IvmRow *y = *(IvmRow *const *) b;

	if (x->hash != y->hash)
		return x->hash < y->hash ? -1 : 1;
	return (uintptr_t) x->next < (uintptr_t) y->next ? -1 : (uintptr_t) x->next > (uintptr_t) y->next;
}

static void
set_order(JoinStage *stage, IvmRow *row)
{
	uint64		second = 0;
	MemoryContext old;

	row->hash = 0;
	if (compute_values(stage))
	{
		old = MemoryContextSwitchTo(stage->value_context->ecxt_per_tuple_memory);
		ivm_join_probe_order(stage->probe, stage->values, &row->hash, &second);
		MemoryContextSwitchTo(old);
	}
	row->next = (IvmRow *) (uintptr_t) second;
}

/* Walks the path from each of these rows of its start. */
static void
run_part(IvmOperator *op, JoinWay *path, TupleTableSlot *slot, IvmRow **rows, int64 count)
{
	if (path->nstages > 0)
	{
		for (int64 r = 0; r < count; r++)
		{
			CHECK_FOR_INTERRUPTS();
			ExecStoreMinimalTuple(ivm_row_tuple(rows[r]), slot, false);
			slot_getallattrs(slot);
			bind(op->state, path->plan->start, slot->tts_values, slot->tts_isnull);
			set_order(&path->stages[0], rows[r]);
		}
		qsort(rows, count, sizeof(IvmRow *), compare_starts);
	}

	for (int64 r = 0; r < count; r++)
	{
		ExecStoreMinimalTuple(ivm_row_tuple(rows[r]), slot, false);
		walk_from(op, path, slot, rows[r]->weight);
	}
	ExecClearTuple(slot);
}

/* Prepares the stages of a path; in a batch some of them look up the old state. */
static void
start_stages(IvmOperator *op, JoinWay *path, bool batch)
{
	JoinRun    *state = op->state;
	JoinInput  *start = &state->inputs[path->plan->start];
	Size		memory = ivm_pin_limit() / Max(path->nstages, 1);

	for (int k = 0; k < path->nstages; k++)
	{
		JoinStage  *stage = &path->stages[k];
		JoinInput  *input = &state->inputs[stage->plan->input];
		bool		wants_old = batch && stage->plan->input > path->plan->start && input->count > 0;

		ivm_join_probe_start(stage->probe, wants_old ? input->delta : NULL, start->count, memory, batch);
	}
}

static void
stop_stages(JoinWay *path)
{
	for (int k = 0; k < path->nstages; k++)
		ivm_join_probe_stop(path->stages[k].probe);
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

	start_stages(op, path, !op->dataflow->populating);
	ivm_zset_parts_begin(start->delta, &parts);
	while ((rows = ivm_zset_parts_next(&parts, &count)) != NULL)
		run_part(op, path, slot, rows, count);
	ivm_zset_parts_end(&parts);
	stop_stages(path);
	ExecDropSingleTupleTableSlot(slot);
}

/* Brings the private state tables of the inputs to the new state. */
static void
apply_arrangements(IvmOperator *op)
{
	JoinRun    *state = op->state;
	ListCell   *cell;
	bool		any = false;

	foreach(cell, state->arrangements)
	{
		IvmArrangement *arrangement = lfirst(cell);

		for (int i = 0; i < state->ninputs; i++)
		{
			if (list_nth(op->node->inputs, i) != arrangement->input)
				continue;
			if (state->inputs[i].count > 0)
			{
				char	   *name = ivm_arrangement_state_name(arrangement, op->dataflow->plan->relid);

				ivm_arrangement_apply(arrangement, ivm_operator_state_table(name),
									  state->inputs[i].delta, op->dataflow->snapshot);
				any = true;
			}
			break;				/* an input that stands twice has its delta
								 * twice */
		}
	}
	if (any)
		CommandCounterIncrement();
}

/* The caches forget what changed. */
static void
apply_to_caches(IvmOperator *op)
{
	JoinRun    *state = op->state;
	ListCell   *cell;

	foreach(cell, state->caches)
	{
		IvmCache   *cache = lfirst(cell);

		for (int i = 0; i < state->ninputs; i++)
			if (state->inputs[i].count > 0 && list_nth(op->node->inputs, i) == ivm_cache_input(cache))
				ivm_cache_apply_delta(cache, state->inputs[i].delta);
	}
}

static void
join_finish(IvmOperator *op)
{
	JoinRun    *state = op->state;

	for (int i = 0; i < state->ninputs; i++)
		state->inputs[i].count = ivm_zset_count(state->inputs[i].delta);
	apply_arrangements(op);

	if (op->dataflow->populating)
	{
		if (state->npaths > 0)
			run_path(op, population_path(state));
		return;
	}
	apply_to_caches(op);
	for (int i = 0; i < state->npaths; i++)
		if (state->inputs[state->paths[i].plan->start].count > 0)
			run_path(op, &state->paths[i]);
}

static void
replay_start(void *context, TupleTableSlot *row, int64 weight)
{
	IvmOperator *op = context;
	JoinRun    *state = op->state;

	walk_from(op, &state->paths[0], row, weight);
}

/* All of one input through the first path, all lookups in the new state. */
static void
join_replay(IvmOperator *op)
{
	JoinRun    *state = op->state;
	JoinWay    *path = &state->paths[0];

	start_stages(op, path, false);
	ivm_operator_replay(ivm_operator_input(op, path->plan->start), replay_start, op);
	stop_stages(path);
}

static void
join_end(IvmOperator *op)
{
	JoinRun    *state = op->state;

	for (int i = 0; i < state->ninputs; i++)
		ivm_zset_close(state->inputs[i].delta);
	for (int i = 0; i < state->npaths; i++)
		for (int k = 0; k < state->paths[i].nstages; k++)
			ivm_join_probe_end(state->paths[i].stages[k].probe);
}

static void
join_forget(IvmOperator *op)
{
	JoinRun    *state = op->state;
	ListCell   *cell;

	foreach(cell, state->caches)
		ivm_cache_forget(lfirst(cell));
}

const IvmOperatorRoutine ivm_op_join = {
	.init = join_init,
	.begin = join_begin,
	.receive = join_receive,
	.finish = join_finish,
	.replay = join_replay,
	.end = join_end,
	.forget = join_forget,
};
