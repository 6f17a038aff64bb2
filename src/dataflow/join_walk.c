/*-------------------------------------------------------------------------
 *
 * join_walk.c
 *	  A path through a join, from a row of one input through all others.
 *
 * The rows of all inputs lie side by side in one wide virtual slot, which is
 * filled stage by stage; a stage tests each clause all of whose inputs are bound, so a
 * lookup may give rows that do not match.  The walk is depth first: however
 * many rows a join makes, one of them exists at a time.
 *
 * A join walks so from its inputs' deltas (op_join.c), and from the rows of an input that
 * have a key, where its own rows are looked up by that: all stages are in the new state then.
 * Each such place has a walk of its own, so that one may be under way within another.
 *
 * Work is proportional to the rows of the start times their matches, never to a table.
 *
 * Memory: values of a stage in its own expression contexts, which are reset with each row.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"

#include "dataflow/join_walk.h"
#include "dataflow/probe.h"
#include "memory/reclaim.h"

typedef struct JoinStage
{
	IvmJoinStage *plan;
	int			offset;			/* of the input's columns in the wide row */
	int			natts;
	IvmProbe   *probe;
	List	   *value_states;	/* of the probe, over the wide row */
	ExprContext *value_context;
	Datum	   *values;
	ExprState  *qual;
	ExprContext *qual_context;
} JoinStage;

struct IvmJoinWalk
{
	TupleTableSlot *wide;
	int			offset;			/* of the start's columns */
	int			natts;
	ExprState  *qual;
	ExprContext *qual_context;
	int			nstages;
	JoinStage  *stages;

	/* of the walk that is under way */
	IvmJoinWalkReceiver receiver;
	void	   *context;
};

/* Where a walk is: one for each stage. */
typedef struct JoinPosition
{
	IvmJoinWalk *walk;
	int			stage;
	int64		weight;			/* of what is bound */
} JoinPosition;

/* Where the columns of an input begin in the wide row. */
static int
input_offset(IvmPlanNode *join, int input)
{
	int			offset = 0;

	for (int i = 0; i < input; i++)
		offset += ((IvmPlanNode *) list_nth(join->inputs, i))->desc->natts;
	return offset;
}

TupleDesc
ivm_join_wide_desc(IvmPlanNode *join)
{
	TupleDesc	desc = CreateTemplateTupleDesc(input_offset(join, list_length(join->inputs)));
	int			natts = 0;
	ListCell   *cell;

	foreach(cell, join->inputs)
	{
		TupleDesc	input = ((IvmPlanNode *) lfirst(cell))->desc;

		for (int k = 1; k <= input->natts; k++)
			TupleDescCopyEntry(desc, ++natts, input, k);
	}
	return desc;
}

/* Turns Var(i + 1, k) into the column of the wide row. */
static Node *
widen(Node *node, void *context)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var))
	{
		Var		   *var = copyObject((Var *) node);

		if (var->varattno <= 0)
			elog(ERROR, "join clause reads a whole row or a system column");
		var->varattno += input_offset(context, var->varno - 1);
		var->varno = 1;
		return (Node *) var;
	}
	return expression_tree_mutator(node, widen, context);
}

List *
ivm_join_widen(IvmPlanNode *join, List *expressions)
{
	return (List *) widen((Node *) expressions, join);
}

static void
init_stage(IvmOperator *op, IvmJoinWalk *walk, JoinStage *stage, IvmJoinStage *plan, List **caches)
{
	IvmPlanNode *input = list_nth(op->node->inputs, plan->input);

	stage->plan = plan;
	stage->offset = input_offset(op->node, plan->input);
	stage->natts = input->desc->natts;
	stage->probe = ivm_probe_create(op->dataflow, plan->arrangement, plan->probes, caches);
	stage->value_states = ExecInitExprList(ivm_join_widen(op->node, plan->probes), NULL);
	stage->value_context = ivm_expr_context_create();
	stage->value_context->ecxt_scantuple = walk->wide;
	stage->values = palloc(sizeof(Datum) * Max(list_length(plan->probes), 1));
	stage->qual = ExecInitQual(ivm_join_widen(op->node, plan->quals), NULL);
	stage->qual_context = ivm_expr_context_create();
	stage->qual_context->ecxt_scantuple = walk->wide;
}

IvmJoinWalk *
ivm_join_walk_create(IvmOperator *op, IvmJoinPath *path, List **caches)
{
	IvmJoinWalk *walk = palloc0(sizeof(IvmJoinWalk));
	TupleDesc	desc = ivm_join_wide_desc(op->node);
	ListCell   *cell;

	walk->wide = MakeSingleTupleTableSlot(desc, &TTSOpsVirtual);
	memset(walk->wide->tts_isnull, true, sizeof(bool) * desc->natts);
	ExecStoreVirtualTuple(walk->wide);
	walk->offset = input_offset(op->node, path->start);
	walk->natts = ((IvmPlanNode *) list_nth(op->node->inputs, path->start))->desc->natts;
	walk->qual = ExecInitQual(ivm_join_widen(op->node, path->quals), NULL);
	walk->qual_context = ivm_expr_context_create();
	walk->qual_context->ecxt_scantuple = walk->wide;
	walk->stages = palloc0(sizeof(JoinStage) * Max(list_length(path->stages), 1));
	foreach(cell, path->stages)
		init_stage(op, walk, &walk->stages[walk->nstages++], lfirst(cell), caches);
	return walk;
}

void
ivm_join_walk_begin(IvmJoinWalk *walk)
{
	for (int k = 0; k < walk->nstages; k++)
		ivm_probe_begin(walk->stages[k].probe);
}

void
ivm_join_walk_end(IvmJoinWalk *walk)
{
	for (int k = 0; k < walk->nstages; k++)
		ivm_probe_end(walk->stages[k].probe);
}

void
ivm_join_walk_forget(IvmJoinWalk *walk)
{
	for (int k = 0; k < walk->nstages; k++)
		ivm_probe_forget(walk->stages[k].probe);
}

void
ivm_join_walk_start(IvmJoinWalk *walk, IvmZset **deltas, const bool *old, int64 expected, bool cached)
{
	Size		memory = ivm_pin_limit() / Max(walk->nstages, 1);

	for (int k = 0; k < walk->nstages; k++)
	{
		JoinStage  *stage = &walk->stages[k];
		int			input = stage->plan->input;

		ivm_probe_start(stage->probe, deltas == NULL ? NULL : deltas[input], deltas != NULL && old[input],
						expected, memory, cached);
	}
}

void
ivm_join_walk_stop(IvmJoinWalk *walk)
{
	for (int k = 0; k < walk->nstages; k++)
		ivm_probe_stop(walk->stages[k].probe);
}

/*
 * Walking
 */

static bool walk_on(IvmJoinWalk *walk, int stage_number, int64 weight);

/* Puts a row into the wide row.  Its values stay the row's. */
static inline void
bind(IvmJoinWalk *walk, int offset, int natts, const Datum *values, const bool *isnull)
{
	memcpy(walk->wide->tts_values + offset, values, sizeof(Datum) * natts);
	memcpy(walk->wide->tts_isnull + offset, isnull, sizeof(bool) * natts);
}

/* A row of the stage's input was found: test it, and go on to the next stage. */
static bool
found_row(void *context, const Datum *values, const bool *isnull, int64 weight)
{
	JoinPosition *position = context;
	IvmJoinWalk *walk = position->walk;
	JoinStage  *stage = &walk->stages[position->stage];

	CHECK_FOR_INTERRUPTS();
	bind(walk, stage->offset, stage->natts, values, isnull);
	ResetExprContext(stage->qual_context);
	return !ExecQual(stage->qual, stage->qual_context) ||
		walk_on(walk, position->stage + 1, position->weight * weight);
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

/* Binds the inputs from that stage on, and gives what comes out at the end. */
static bool
walk_on(IvmJoinWalk *walk, int stage_number, int64 weight)
{
	JoinPosition position = {walk, stage_number, weight};
	JoinStage  *stage = &walk->stages[stage_number];

	if (stage_number == walk->nstages)
		return walk->receiver(walk->context, walk->wide, weight);
	check_stack_depth();
	return !compute_values(stage) || ivm_probe_rows(stage->probe, stage->values, found_row, &position);
}

bool
ivm_join_walk_from(IvmJoinWalk *walk, const Datum *values, const bool *isnull, int64 weight,
				   IvmJoinWalkReceiver receiver, void *context)
{
	CHECK_FOR_INTERRUPTS();
	walk->receiver = receiver;
	walk->context = context;
	bind(walk, walk->offset, walk->natts, values, isnull);
	ResetExprContext(walk->qual_context);
	return !ExecQual(walk->qual, walk->qual_context) || walk_on(walk, 0, weight);
}

void
ivm_join_walk_order(IvmJoinWalk *walk, const Datum *values, const bool *isnull, uint64 *first, uint64 *second)
{
	JoinStage  *stage = &walk->stages[0];

	*first = *second = 0;
	if (walk->nstages == 0)
		return;
	bind(walk, walk->offset, walk->natts, values, isnull);
	if (compute_values(stage))
	{
		MemoryContext old = MemoryContextSwitchTo(stage->value_context->ecxt_per_tuple_memory);

		ivm_probe_order(stage->probe, stage->values, first, second);
		MemoryContextSwitchTo(old);
	}
}
