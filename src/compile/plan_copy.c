/*-------------------------------------------------------------------------
 *
 * plan_copy.c
 *	  Copying a delta plan out of the compiler's memory.
 *
 * Compiling leaves much garbage, a plan lives long, and there may be a thousand
 * of them.  So a plan is built where it can be thrown away and copied when it is
 * finished.  Pointers between nodes are kept: nodes with several readers are
 * copied once.  The planner's subtrees that nodes point to are copied only if
 * they are not part of the plan's statement, which is in place already.
 *
 * Node numbers are the positions in the list of nodes afterwards.  What only nodes of
 * one kind have is copied by the kind's routine (node_kind.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "compile/compiler.h"
#include "nodes/bitmapset.h"
#include "plan/order_key.h"
#include "utils/memutils.h"

/* Old and new nodes and arrangements, by position. */
typedef struct CopyContext
{
	IvmPlan    *from;
	IvmPlan    *to;
} CopyContext;

static void *
counterpart(List *old_list, List *new_list, void *old)
{
	ListCell   *lc;
	ListCell   *lc2;

	forboth(lc, old_list, lc2, new_list)
	{
		if (lfirst(lc) == old)
			return lfirst(lc2);
	}
	elog(ERROR, "a plan refers to what is not part of it");
	return NULL;				/* keep compiler quiet */
}

static char *
copy_string(const char *string)
{
	return string == NULL ? NULL : pstrdup(string);
}

static Plan *
copy_subtree(Plan *plan)
{
	if (plan == NULL || GetMemoryChunkContext(plan) == CurrentMemoryContext)
		return plan;
	return copyObject(plan);
}

static IvmPlanNode *
copy_node(CopyContext *context, IvmPlanNode *node)
{
	IvmPlanNode *result = (IvmPlanNode *) palloc(sizeof(IvmPlanNode));
	ListCell   *lc;

	*result = *node;
	result->node_id = list_length(context->to->nodes);
	result->inputs = NIL;
	foreach(lc, node->inputs)
		result->inputs = lappend(result->inputs,
								 counterpart(context->from->nodes, context->to->nodes, lfirst(lc)));
	result->tlist = copyObject(node->tlist);
	result->quals = copyObject(node->quals);
	result->desc = CreateTupleDescCopy(node->desc);
	result->plan = copy_subtree(node->plan);
	result->relids = list_copy(node->relids);
	result->paths = NIL;		/* filled in when there are arrangements */
	ivm_node_kind(node)->copy(result);
	return result;
}

static IvmJoinPath *copy_path(CopyContext *context, IvmJoinPath *path);

/* Those that it is made of have been copied. */
static IvmArrangement *
copy_arrangement(CopyContext *context, IvmArrangement *arrangement)
{
	IvmArrangement *result = (IvmArrangement *) palloc(sizeof(IvmArrangement));
	ListCell   *lc;

	*result = *arrangement;
	result->input = counterpart(context->from->nodes, context->to->nodes, arrangement->input);
	if (arrangement->first_of != NULL)
		result->first_of = counterpart(context->from->nodes, context->to->nodes, arrangement->first_of);
	result->keys = copyObject(arrangement->keys);
	result->operators = list_copy(arrangement->operators);
	result->collations = list_copy(arrangement->collations);
	result->probes = NIL;
	foreach(lc, arrangement->probes)
	{
		IvmIndexProbe *probe = (IvmIndexProbe *) palloc(sizeof(IvmIndexProbe));

		*probe = *(IvmIndexProbe *) lfirst(lc);
		probe->scan = counterpart(context->from->nodes, context->to->nodes, probe->scan);
		probe->key_numbers = list_copy(probe->key_numbers);
		result->probes = lappend(result->probes, probe);
	}
	result->order = ivm_order_copy(arrangement->order);
	result->own_keys = list_copy(arrangement->own_keys);
	result->below = NIL;
	foreach(lc, arrangement->below)
		result->below = lappend(result->below,
								counterpart(context->from->arrangements, context->to->arrangements, lfirst(lc)));
	result->below_keys = NIL;
	foreach(lc, arrangement->below_keys)
		result->below_keys = lappend(result->below_keys, list_copy((List *) lfirst(lc)));
	result->paths = NIL;
	foreach(lc, arrangement->paths)
		result->paths = lappend(result->paths, copy_path(context, (IvmJoinPath *) lfirst(lc)));
	result->text = copy_string(arrangement->text);
	result->advice = copy_string(arrangement->advice);
	return result;
}

static IvmJoinPath *
copy_path(CopyContext *context, IvmJoinPath *path)
{
	IvmJoinPath *result = (IvmJoinPath *) palloc(sizeof(IvmJoinPath));
	ListCell   *lc;

	*result = *path;
	result->quals = copyObject(path->quals);
	result->stages = NIL;
	foreach(lc, path->stages)
	{
		IvmJoinStage *stage = (IvmJoinStage *) palloc(sizeof(IvmJoinStage));

		*stage = *(IvmJoinStage *) lfirst(lc);
		stage->arrangement = counterpart(context->from->arrangements, context->to->arrangements,
										 stage->arrangement);
		stage->probes = copyObject(stage->probes);
		stage->quals = copyObject(stage->quals);
		result->stages = lappend(result->stages, stage);
	}
	return result;
}

IvmPlan *
ivm_plan_copy(IvmPlan *plan)
{
	IvmPlan    *result = (IvmPlan *) palloc(sizeof(IvmPlan));
	CopyContext context;
	ListCell   *lc;
	ListCell   *lc2;
	ListCell   *lc3;

	*result = *plan;
	result->nodes = NIL;
	result->arrangements = NIL;
	context.from = plan;
	context.to = result;

	/* inputs stand before their readers */
	foreach(lc, plan->nodes)
		result->nodes = lappend(result->nodes, copy_node(&context, (IvmPlanNode *) lfirst(lc)));
	foreach(lc, plan->arrangements)
		result->arrangements = lappend(result->arrangements,
									   copy_arrangement(&context, (IvmArrangement *) lfirst(lc)));
	forboth(lc, plan->nodes, lc2, result->nodes)
	{
		IvmPlanNode *node = (IvmPlanNode *) lfirst(lc2);

		foreach(lc3, ((IvmPlanNode *) lfirst(lc))->paths)
			node->paths = lappend(node->paths, copy_path(&context, (IvmJoinPath *) lfirst(lc3)));
		if (node->rows != NULL)
			node->rows = counterpart(plan->arrangements, result->arrangements, node->rows);
		if (node->kept != NULL)
			node->kept = counterpart(plan->arrangements, result->arrangements, node->kept);
		foreach(lc3, node->calls)
		{
			IvmAggregateCall *call = (IvmAggregateCall *) lfirst(lc3);

			if (call->extremes != NULL)
				call->extremes = counterpart(plan->arrangements, result->arrangements, call->extremes);
		}
		if (node->ordered != NULL)
			node->ordered = counterpart(plan->arrangements, result->arrangements, node->ordered);
	}

	result->root = counterpart(plan->nodes, result->nodes, plan->root);
	result->relids = list_copy(plan->relids);
	result->key = list_copy(plan->key);
	result->key_operators = list_copy(plan->key_operators);
	result->settings = copyObject(plan->settings);
	result->text = copy_string(plan->text);
	result->fingerprint = copy_string(plan->fingerprint);
	return result;
}
