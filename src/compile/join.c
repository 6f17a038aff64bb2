/*-------------------------------------------------------------------------
 *
 * join.c
 *	  Inner joins: flattening a tree of them.
 *
 * However the planner nests the inner joins of a query, together they are one
 * product of N inputs filtered by one set of conditions.  So a tree of them
 * becomes one operator with N inputs; the paths through it are made later
 * (join_path.c).  A join with groups that only say whether there is a match is none of them (outer.c).
 *
 * Memory: everything in the plan's context, which is current.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "compile/compiler.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "plan/plan_walk.h"

/* The inputs and conditions of a tree of joins, while it is flattened. */
typedef struct JoinTree
{
	List	   *inputs;			/* IvmPlanNode */
	List	   *clauses;
} JoinTree;

static List *flatten(IvmCompiler *compiler, JoinTree *tree, Plan *plan);

/* ---- flattening ---- */

/* One that is flattened. */
static bool
is_inner_join(Plan *plan)
{
	switch (nodeTag(plan))
	{
		case T_NestLoop:
			if (((NestLoop *) plan)->nestParams != NIL)
				return false;
			break;
		case T_HashJoin:
		case T_MergeJoin:
			break;
		default:
			return false;
	}
	return ((Join *) plan)->jointype == JOIN_INNER && !ivm_join_is_uniquified(plan);
}

List *
ivm_match_conditions(Plan *plan)
{
	List	   *result = NIL;

	if (IsA(plan, HashJoin))
		result = list_concat_copy(result, ((HashJoin *) plan)->hashclauses);
	else if (IsA(plan, MergeJoin))
		result = list_concat_copy(result, ((MergeJoin *) plan)->mergeclauses);
	return list_concat_copy(result, ((Join *) plan)->joinqual);
}

static List *
flatten_join(IvmCompiler *compiler, JoinTree *tree, Plan *plan)
{
	List	   *expressions = ivm_tlist_expressions(plan->targetlist);
	List	   *conditions = list_concat(ivm_match_conditions(plan), list_copy(plan->qual));
	List	   *outer;
	List	   *inner;

	if (!ivm_expression_is_plain(compiler, (Node *) expressions) ||
		!ivm_expression_is_plain(compiler, (Node *) conditions))
		return NIL;

	outer = flatten(compiler, tree, plan->lefttree);
	if (outer == NIL)
		return NIL;
	inner = flatten(compiler, tree, plan->righttree);
	if (inner == NIL)
		return NIL;

	tree->clauses = list_concat(tree->clauses,
								(List *) ivm_expression_of_sides((Node *) conditions, outer, inner));
	return (List *) ivm_expression_of_sides((Node *) expressions, outer, inner);
}

/*
 * Adds a plan's rows to the tree; returns its output columns as expressions
 * over the tree's inputs, or NIL with compiler->reason set.
 */
static List *
flatten(IvmCompiler *compiler, JoinTree *tree, Plan *plan)
{
	IvmPlanNode *input;

	check_stack_depth();
	plan = ivm_plan_skip_passive(plan);

	/* a part that reads no table is better left whole: it never changes */
	if (is_inner_join(plan) && ivm_plan_relids(compiler->statement, plan) != NIL)
		return flatten_join(compiler, tree, plan);

	/* look through a projection of a join */
	if (IsA(plan, SubqueryScan) && plan->qual == NIL)
	{
		SubqueryScan *scan = (SubqueryScan *) plan;
		Plan	   *below = ivm_plan_skip_passive(scan->subplan);
		List	   *expressions = ivm_tlist_expressions(plan->targetlist);

		if (is_inner_join(below) &&
			ivm_plan_relids(compiler->statement, below) != NIL &&
			ivm_expression_is_plain(compiler, (Node *) expressions))
		{
			List	   *lists[1];

			lists[0] = flatten_join(compiler, tree, below);
			if (lists[0] == NIL)
				return NIL;
			expressions = (List *) ivm_expression_renumber((Node *) expressions, scan->scan.scanrelid, 1);
			return (List *) ivm_expression_substitute((Node *) expressions, 1, lists);
		}
	}

	input = ivm_translate(compiler, plan);
	if (input == NULL)
		return NIL;

	tree->inputs = lappend(tree->inputs, input);
	return ivm_node_columns(input, list_length(tree->inputs));
}

/*
 * The operator of a join node, paths still to be made; NULL with no reason set
 * if it is not an inner join, with one if something in it cannot be translated.
 */
IvmPlanNode *
ivm_translate_join(IvmCompiler *compiler, Plan *plan)
{
	JoinTree	tree = {0};
	List	   *tlist;
	IvmPlanNode *node;

	compiler->reason = NULL;
	if (!is_inner_join(plan))
		return NULL;

	tlist = flatten_join(compiler, &tree, plan);
	if (tlist == NIL)
		return NULL;

	node = ivm_node_create(compiler, IVM_JOIN, plan);
	node->inputs = tree.inputs;
	node->clauses = tree.clauses;
	node->tlist = tlist;
	return node;
}
