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
#include "utils/lsyscache.h"

#include "arrange/arrange.h"
#include "dataflow/operator.h"
#include "zset/key.h"

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
	IvmLookup  *lookup;
	List	   *probe_states;	/* over the wide row */
	ExprContext *probe_context;
	ExprState  *qual;
	ExprContext *qual_context;
	IvmKey	   *key;
	List	   *key_states;		/* over the input's row */

	/* of the batch: the input's delta by key, where the old state is wanted */
	bool		wants_old;
	uint64		nbuckets;
	IvmRow	  **buckets;
	TupleTableSlot *delta_row;
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
	IvmArrangement *arrangement = plan->arrangement;
	int			nkeys = list_length(arrangement->keys);
	Oid		   *operators = palloc(sizeof(Oid) * Max(nkeys, 1));
	Oid		   *collations = palloc(sizeof(Oid) * Max(nkeys, 1));

	for (int i = 0; i < nkeys; i++)
	{
		operators[i] = list_nth_oid(arrangement->operators, i);
		collations[i] = list_nth_oid(arrangement->collations, i);
	}
	stage->plan = plan;
	stage->lookup = ivm_lookup_create(arrangement, op->dataflow->plan->relid);
	stage->probe_states = ExecInitExprList((List *) widen((Node *) plan->probes, state), NULL);
	stage->probe_context = CreateStandaloneExprContext();
	stage->qual = ExecInitQual((List *) widen((Node *) plan->quals, state), NULL);
	stage->qual_context = CreateStandaloneExprContext();
	stage->key = ivm_key_create(nkeys, operators, collations, false);
	stage->key_states = ExecInitExprList(arrangement->keys, NULL);
	stage->probe_context->ecxt_scantuple = state->wide;
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
		path->qual_context = CreateStandaloneExprContext();
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
		{
			JoinStage  *stage = &state->paths[i].stages[k];

			ivm_lookup_begin(stage->lookup, op->dataflow->snapshot, op->dataflow->arena, op->dataflow->populating);
			stage->wants_old = false;
			stage->buckets = NULL;
			stage->delta_row = NULL;
		}
}

static void
join_receive(IvmOperator *op, int input, TupleTableSlot *row, int64 weight)
{
	JoinRun    *state = op->state;

	if (!state->inputs[input].ignored)
		ivm_zset_add(state->inputs[input].delta, row, weight);
}

/*
 * The delta of a stage's input, by key.
 */
static void
build_delta_buckets(IvmOperator *op, JoinRun *state, JoinStage *stage)
{
	JoinInput  *input = &state->inputs[stage->plan->input];
	IvmArena   *arena = op->dataflow->arena;
	ExprContext *econtext = stage->qual_context;
	IvmZsetParts parts;
	int64		count;
	IvmRow	  **rows;
	uint64		n = 16;
	int			nkeys = list_length(stage->key_states);
	Datum	   *values = palloc(sizeof(Datum) * Max(nkeys, 1));
	bool	   *isnull = palloc(sizeof(bool) * Max(nkeys, 1));

	while (n < input->count)
		n *= 2;
	stage->nbuckets = n;
	stage->buckets = ivm_arena_alloc0(arena, sizeof(IvmRow *) * n);
	stage->delta_row = MakeSingleTupleTableSlot(input->desc, &TTSOpsMinimalTuple);
	ivm_zset_parts_begin(input->delta, &parts);
	while ((rows = ivm_zset_parts_next(&parts, &count)) != NULL)
	 for (int64 r = 0; r < count; r++)
	{
		bool		null_key = false;
		uint64		hash = 0;
		IvmRow	   *copy;
		ListCell   *cell;
		int			i = 0;
		MemoryContext old;

		CHECK_FOR_INTERRUPTS();
		ExecStoreMinimalTuple(ivm_row_tuple(rows[r]), stage->delta_row, false);
		ResetExprContext(econtext);
		econtext->ecxt_scantuple = stage->delta_row;
		old = MemoryContextSwitchTo(econtext->ecxt_per_tuple_memory);
		foreach(cell, stage->key_states)
		{
			values[i] = ExecEvalExpr(lfirst(cell), econtext, &isnull[i]);
			null_key |= isnull[i++];
		}
		if (!null_key)
			hash = ivm_key_hash_right(stage->key, values, isnull);
		MemoryContextSwitchTo(old);
		if (null_key)
			continue;

		/* several stages may chain the same rows: each has its own */
		copy = ivm_row_make(arena, ivm_row_tuple(rows[r]), rows[r]->weight, hash);
		copy->next = stage->buckets[hash & (n - 1)];
		stage->buckets[hash & (n - 1)] = copy;
	}
	ivm_zset_parts_end(&parts);
	econtext->ecxt_scantuple = state->wide;
	ExecClearTuple(stage->delta_row);
	pfree(values);
	pfree(isnull);
}

static void walk(IvmOperator *op, JoinWay *path, int stage_number, int64 weight);

/* Puts a row into the wide row.  Its values stay the row's. */
static void
bind(JoinRun *state, int input_number, TupleTableSlot *row)
{
	JoinInput  *input = &state->inputs[input_number];

	slot_getallattrs(row);
	memcpy(state->wide->tts_values + input->offset, row->tts_values, sizeof(Datum) * input->desc->natts);
	memcpy(state->wide->tts_isnull + input->offset, row->tts_isnull, sizeof(bool) * input->desc->natts);
}

/* A row of the stage's input was found: test it, and go on to the next stage. */
static void
found_row(void *context, TupleTableSlot *row, int64 weight)
{
	JoinWalk   *position = context;
	JoinStage  *stage = &position->path->stages[position->stage];

	CHECK_FOR_INTERRUPTS();
	bind(position->op->state, stage->plan->input, row);
	ResetExprContext(stage->qual_context);
	if (ExecQual(stage->qual, stage->qual_context))
		walk(position->op, position->path, position->stage + 1, position->weight * weight);
}

/*
 * Binds the inputs from that stage on, and emits what comes out at the end.
 */
static void
walk(IvmOperator *op, JoinWay *path, int stage_number, int64 weight)
{
	JoinRun    *state = op->state;
	JoinStage  *stage;
	JoinWalk	position = {op, path, stage_number, weight};
	int			nkeys;
	Datum		values_buffer[8];
	bool		isnull_buffer[8];
	Datum	   *values = values_buffer;
	bool	   *isnull = isnull_buffer;
	ListCell   *cell;
	int			i = 0;

	if (stage_number == path->nstages)
	{
		ivm_operator_emit_projected(op, state->wide, weight);
		return;
	}

	check_stack_depth();
	stage = &path->stages[stage_number];
	ResetExprContext(stage->probe_context);
	nkeys = list_length(stage->probe_states);
	if (nkeys > lengthof(values_buffer))
	{
		values = MemoryContextAlloc(stage->probe_context->ecxt_per_tuple_memory, sizeof(Datum) * nkeys);
		isnull = MemoryContextAlloc(stage->probe_context->ecxt_per_tuple_memory, sizeof(bool) * nkeys);
	}
	foreach(cell, stage->probe_states)
	{
		values[i] = ExecEvalExprSwitchContext(lfirst(cell), stage->probe_context, &isnull[i]);
		if (isnull[i++])
			return;				/* a NULL key matches nothing */
	}

	ivm_lookup_probe(stage->lookup, values, isnull, found_row, &position);
	if (stage->wants_old)
	{
		MemoryContext old = MemoryContextSwitchTo(stage->probe_context->ecxt_per_tuple_memory);
		uint64		hash = ivm_key_hash_left(stage->key, values, isnull);

		MemoryContextSwitchTo(old);
		for (IvmRow *row = stage->buckets[hash & (stage->nbuckets - 1)]; row != NULL; row = row->next)
		{
			if (row->hash != hash)
				continue;
			ExecStoreMinimalTuple(ivm_row_tuple(row), stage->delta_row, false);
			found_row(&position, stage->delta_row, -row->weight);
		}
		ExecClearTuple(stage->delta_row);
	}
}

/*
 * The order in which the rows of a start are walked: by the first key of the
 * first stage, by its value where that is a number.
 */
static int
compare_starts(const void *a, const void *b)
{
	uint64		x = (*(IvmRow *const *) a)->hash;
	uint64		y = (*(IvmRow *const *) b)->hash;

	return x < y ? -1 : x > y;
}

static uint64
start_order(JoinStage *stage)
{
	ExprState  *probe;
	Oid			type;
	Datum		value;
	bool		isnull;
	MemoryContext old;
	uint64		hash;

	if (stage->probe_states == NIL)
		return 0;
	probe = linitial(stage->probe_states);
	value = ExecEvalExprSwitchContext(probe, stage->probe_context, &isnull);
	if (isnull)
		return 0;
	type = exprType(linitial(stage->plan->probes));
	if (stage->plan->arrangement->kind != IVM_ARRANGE_STATE && get_typbyval(type))
		return (uint64) value ^ (UINT64CONST(1) << 63);
	if (list_length(stage->probe_states) != 1)
		return 0;
	old = MemoryContextSwitchTo(stage->probe_context->ecxt_per_tuple_memory);
	hash = ivm_key_hash_left(stage->key, &value, &isnull);
	MemoryContextSwitchTo(old);
	return hash;
}

/* Walks the path from each of these rows of its start. */
static void
run_part(IvmOperator *op, JoinWay *path, TupleTableSlot *slot, IvmRow **rows, int64 count)
{
	JoinRun    *state = op->state;

	if (path->nstages > 0)
	{
		for (int64 r = 0; r < count; r++)
		{
			ExecStoreMinimalTuple(ivm_row_tuple(rows[r]), slot, false);
			bind(state, path->plan->start, slot);
			ResetExprContext(path->stages[0].probe_context);
			rows[r]->hash = start_order(&path->stages[0]);
			CHECK_FOR_INTERRUPTS();
		}
		qsort(rows, count, sizeof(IvmRow *), compare_starts);
	}

	for (int64 r = 0; r < count; r++)
	{
		CHECK_FOR_INTERRUPTS();
		ExecStoreMinimalTuple(ivm_row_tuple(rows[r]), slot, false);
		bind(state, path->plan->start, slot);
		ResetExprContext(path->qual_context);
		if (ExecQual(path->qual, path->qual_context))
			walk(op, path, 0, rows[r]->weight);
	}
	ExecClearTuple(slot);
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

	for (int k = 0; k < path->nstages; k++)
	{
		JoinStage  *stage = &path->stages[k];

		stage->wants_old = !op->dataflow->populating &&
			stage->plan->input > path->plan->start && state->inputs[stage->plan->input].count > 0;
		if (stage->wants_old)
			build_delta_buckets(op, state, stage);
		ivm_lookup_expect(stage->lookup, start->count);
	}

	ivm_zset_parts_begin(start->delta, &parts);
	while ((rows = ivm_zset_parts_next(&parts, &count)) != NULL)
		run_part(op, path, slot, rows, count);
	ivm_zset_parts_end(&parts);
	ExecDropSingleTupleTableSlot(slot);
	for (int k = 0; k < path->nstages; k++)
		if (path->stages[k].delta_row != NULL)
		{
			ExecDropSingleTupleTableSlot(path->stages[k].delta_row);
			path->stages[k].delta_row = NULL;
		}
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
	for (int i = 0; i < state->npaths; i++)
		if (state->inputs[state->paths[i].plan->start].count > 0)
			run_path(op, &state->paths[i]);
}

static void
replay_start(void *context, TupleTableSlot *row, int64 weight)
{
	IvmOperator *op = context;
	JoinRun    *state = op->state;
	JoinWay    *path = &state->paths[0];

	CHECK_FOR_INTERRUPTS();
	bind(state, path->plan->start, row);
	ResetExprContext(path->qual_context);
	if (ExecQual(path->qual, path->qual_context))
		walk(op, path, 0, weight);
}

/* All of one input through the first path, all lookups in the new state. */
static void
join_replay(IvmOperator *op)
{
	JoinRun    *state = op->state;
	JoinWay    *path = &state->paths[0];

	for (int k = 0; k < path->nstages; k++)
		path->stages[k].wants_old = false;
	ivm_operator_replay(ivm_operator_input(op, path->plan->start), replay_start, op);
}

static void
join_end(IvmOperator *op)
{
	JoinRun    *state = op->state;

	for (int i = 0; i < state->ninputs; i++)
		ivm_zset_close(state->inputs[i].delta);
	for (int i = 0; i < state->npaths; i++)
		for (int k = 0; k < state->paths[i].nstages; k++)
			ivm_lookup_end(state->paths[i].stages[k].lookup);
}

const IvmOperatorRoutine ivm_op_join = {
	.init = join_init,
	.begin = join_begin,
	.receive = join_receive,
	.finish = join_finish,
	.replay = join_replay,
	.end = join_end,
};
