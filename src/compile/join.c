/*-------------------------------------------------------------------------
 *
 * join.c
 *	  Inner joins: flattening a tree of them.
 *
 * However the planner nests the inner joins of a query, together they are one
 * product of N inputs filtered by one set of conditions.  So a tree of them
 * becomes one operator with N inputs; the paths through it are made later
 * (join_path.c).
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
	return ((Join *) plan)->jointype == JOIN_INNER;
}

/* Conditions of a join node in the order in which the executor tests them. */
static List *
join_conditions(Plan *plan)
{
	List	   *result = NIL;

	if (IsA(plan, HashJoin))
		result = list_concat_copy(result, ((HashJoin *) plan)->hashclauses);
	else if (IsA(plan, MergeJoin))
		result = list_concat_copy(result, ((MergeJoin *) plan)->mergeclauses);
	result = list_concat_copy(result, ((Join *) plan)->joinqual);
	return list_concat_copy(result, plan->qual);
}

/*
 * Expressions over OUTER_VAR and INNER_VAR become ones over the tree's inputs.
 * substitute wants varnos 1 and 2, so the two are renumbered on the way.
 */
typedef struct SidesContext
{
	List	   *outer;
	List	   *inner;
} SidesContext;

static Node *
sides_mutator(Node *node, SidesContext *context)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;
		List	   *list;

		if (var->varno == OUTER_VAR)
			list = context->outer;
		else if (var->varno == INNER_VAR)
			list = context->inner;
		else
			elog(ERROR, "unexpected reference to %d in a join", var->varno);
		return (Node *) copyObject(list_nth(list, var->varattno - 1));
	}
	return expression_tree_mutator(node, sides_mutator, context);
}

static List *
flatten_join(IvmCompiler *compiler, JoinTree *tree, Plan *plan)
{
	List	   *expressions = ivm_tlist_expressions(plan->targetlist);
	List	   *conditions = join_conditions(plan);
	SidesContext context;

	if (!ivm_expression_is_plain(compiler, (Node *) expressions) ||
		!ivm_expression_is_plain(compiler, (Node *) conditions))
		return NIL;

	context.outer = flatten(compiler, tree, plan->lefttree);
	if (context.outer == NIL)
		return NIL;
	context.inner = flatten(compiler, tree, plan->righttree);
	if (context.inner == NIL)
		return NIL;

	tree->clauses = list_concat(tree->clauses,
								(List *) sides_mutator((Node *) conditions, &context));
	return (List *) sides_mutator((Node *) expressions, &context);
}

/*
 * Adds a plan's rows to the tree; returns its output columns as expressions
 * over the tree's inputs, or NIL with compiler->reason set.
 */
static List *
flatten(IvmCompiler *compiler, JoinTree *tree, Plan *plan)
{
	IvmPlanNode *input;
	List	   *result = NIL;

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
	for (int i = 0; i < input->desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(input->desc, i);
		Var		   *var = makeNode(Var);

		var->varno = list_length(tree->inputs);
		var->varattno = i + 1;
		var->vartype = attribute->atttypid;
		var->vartypmod = attribute->atttypmod;
		var->varcollid = attribute->attcollation;
		var->location = -1;
		result = lappend(result, var);
	}
	return result;
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
