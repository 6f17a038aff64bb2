/*-------------------------------------------------------------------------
 *
 * node_query.c
 *	  A part of a delta plan as a query again, to be planned for one run.
 *
 * The planner's tree that a view was compiled from was made without statistics and indexes
 * (planning.c): it has the right structure, but to run over the full contents of tables another
 * one may be many times faster.  So the parts without state that population needs are turned
 * into queries, which the planner plans as it would any other: each node a subquery, which it
 * pulls up.
 *
 * What comes out has the same columns and, as a multiset, the same rows with the very same images:
 * these are the expressions that the dataflow evaluates.
 *
 * Not all parts can be had so: full joins, whose conditions the planner may refuse where they
 * are put another way; what has no rule of its own; appends of very many inputs.  And none is where
 * row security or a security barrier says in which order conditions are tested.
 *
 * Memory: in the current context.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "compile/compile.h"
#include "compile/compiler.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "plan/column.h"

/* More inputs of an append are nested too deep. */
#define MOST_APPENDED	64

static Query *node_query(IvmPlan *plan, IvmPlanNode *node);

static Alias *
columns_alias(TupleDesc desc)
{
	Alias	   *alias = makeAlias("part", NIL);

	for (int i = 0; i < desc->natts; i++)
		alias->colnames = lappend(alias->colnames, makeString(pstrdup(NameStr(TupleDescAttr(desc, i)->attname))));
	return alias;
}

/* Adds an entry to the query's range table; its number is the input's, from 1. */
static RangeTblRef *
add_entry(Query *query, RangeTblEntry *rte)
{
	RangeTblRef *reference = makeNode(RangeTblRef);

	query->rtable = lappend(query->rtable, rte);
	reference->rtindex = list_length(query->rtable);
	return reference;
}

/* Adds an input as a subquery; NULL if it cannot be had. */
static RangeTblRef *
add_input(IvmPlan *plan, Query *query, IvmPlanNode *input)
{
	RangeTblEntry *rte = makeNode(RangeTblEntry);

	rte->rtekind = RTE_SUBQUERY;
	rte->subquery = node_query(plan, input);
	if (rte->subquery == NULL)
		return NULL;
	rte->eref = columns_alias(input->desc);
	rte->inFromCl = true;
	return add_entry(query, rte);
}

static Query *
make_query(void)
{
	Query	   *query = makeNode(Query);

	query->commandType = CMD_SELECT;
	query->querySource = QSRC_ORIGINAL;
	query->canSetTag = true;
	query->jointree = makeFromExpr(NIL, NULL);
	return query;
}

/* The node's output: its expressions, or the columns of its one input as they are; false if it is neither. */
static bool
set_output(Query *query, IvmPlanNode *node)
{
	List	   *expressions = node->tlist;
	ListCell   *lc;

	if (expressions == NIL && node->kind == IVM_MAP)
		expressions = ivm_node_columns(linitial(node->inputs), 1);
	if (list_length(expressions) != node->desc->natts)
		return false;
	foreach(lc, expressions)
	{
		int			number = foreach_current_index(lc);

		query->targetList = lappend(query->targetList,
									makeTargetEntry((Expr *) copyObject(lfirst(lc)), number + 1,
													pstrdup(NameStr(TupleDescAttr(node->desc, number)->attname)), false));
	}
	return true;
}

static void
add_conditions(Query *query, List *conditions)
{
	query->jointree->quals = (Node *) make_ands_explicit(list_concat(make_ands_implicit((Expr *) query->jointree->quals),
																	 copyObject(conditions)));
}

/* ---- nodes ---- */

static Query *
scan_query(IvmPlan *plan, IvmPlanNode *node)
{
	Query	   *query = make_query();
	RangeTblEntry *rte;

	if (node->plan == NULL || !IsA(node->plan, SeqScan))
		return NULL;
	rte = copyObject(rt_fetch(((Scan *) node->plan)->scanrelid, plan->statement->rtable));
	if (rte->rtekind != RTE_RELATION || rte->tablesample != NULL)
		return NULL;
	rte->inh = false;
	rte->lateral = false;
	rte->inFromCl = true;
	query->jointree->fromlist = list_make1(add_entry(query, rte));
	return query;
}

static Query *
join_query(IvmPlan *plan, IvmPlanNode *node)
{
	Query	   *query = make_query();
	ListCell   *lc;

	foreach(lc, node->inputs)
	{
		RangeTblRef *reference = add_input(plan, query, (IvmPlanNode *) lfirst(lc));

		if (reference == NULL)
			return NULL;
		query->jointree->fromlist = lappend(query->jointree->fromlist, reference);
	}
	add_conditions(query, node->clauses);
	return query;
}

static Query *
left_query(IvmPlan *plan, IvmPlanNode *node)
{
	Query	   *query = make_query();
	JoinExpr   *join = makeNode(JoinExpr);
	RangeTblEntry *rte = makeNode(RangeTblEntry);

	join->jointype = JOIN_LEFT;
	join->larg = (Node *) add_input(plan, query, linitial(node->inputs));
	join->rarg = (Node *) add_input(plan, query, lsecond(node->inputs));
	if (join->larg == NULL || join->rarg == NULL)
		return NULL;
	join->quals = (Node *) make_ands_explicit(copyObject(node->clauses));
	rte->rtekind = RTE_JOIN;
	rte->jointype = JOIN_LEFT;
	rte->eref = makeAlias("part", NIL);
	rte->inFromCl = true;
	join->rtindex = add_entry(query, rte)->rtindex;
	query->jointree->fromlist = list_make1(join);
	return query;
}

/* Conditions of two inputs for a subquery of the second: that is number 1 there, and the first one level up. */
static Node *
move_inside(Node *node, void *context)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) copyObject(node);

		if (var->varno == 1)
			var->varlevelsup = 1;
		var->varno = 1;
		return (Node *) var;
	}
	return expression_tree_mutator(node, move_inside, context);
}

/* Semi and anti join: EXISTS, or not. */
static Query *
exists_query(IvmPlan *plan, IvmPlanNode *node)
{
	Query	   *query = make_query();
	Query	   *inner = make_query();
	RangeTblRef *kept = add_input(plan, query, linitial(node->inputs));
	RangeTblRef *other = add_input(plan, inner, lsecond(node->inputs));
	SubLink    *link = makeNode(SubLink);
	Relids		shown = pull_varnos(NULL, (Node *) list_concat_copy(node->tlist, node->quals));

	if (kept == NULL || other == NULL || bms_is_member(2, shown))
		return NULL;
	query->jointree->fromlist = list_make1(kept);

	inner->targetList = list_make1(makeTargetEntry((Expr *) makeBoolConst(true, false), 1, pstrdup("match"), false));
	inner->jointree->fromlist = list_make1(other);
	add_conditions(inner, (List *) move_inside((Node *) node->clauses, NULL));

	link->subLinkType = EXISTS_SUBLINK;
	link->subselect = (Node *) inner;
	query->hasSubLinks = true;
	add_conditions(query, list_make1(node->jointype == JOIN_ANTI ?
									 (Node *) makeBoolExpr(NOT_EXPR, list_make1(link), -1) : (Node *) link));
	return query;
}

static Query *
map_query(IvmPlan *plan, IvmPlanNode *node)
{
	Query	   *query = make_query();
	RangeTblRef *reference = add_input(plan, query, linitial(node->inputs));

	if (reference == NULL)
		return NULL;
	query->jointree->fromlist = list_make1(reference);
	return query;
}

/* UNION ALL. */
static Query *
append_query(IvmPlan *plan, IvmPlanNode *node)
{
	Query	   *query = make_query();
	IvmPlanNode *first = linitial(node->inputs);
	Node	   *tree = NULL;
	ListCell   *lc;

	if (list_length(node->inputs) > MOST_APPENDED || node->tlist != NIL || node->quals != NIL)
		return NULL;
	foreach(lc, node->inputs)
	{
		RangeTblRef *reference = add_input(plan, query, (IvmPlanNode *) lfirst(lc));
		SetOperationStmt *union_all;

		if (reference == NULL)
			return NULL;
		((RangeTblEntry *) llast(query->rtable))->inFromCl = false;
		if (tree == NULL)
		{
			tree = (Node *) reference;
			continue;
		}
		union_all = makeNode(SetOperationStmt);
		union_all->op = SETOP_UNION;
		union_all->all = true;
		union_all->larg = tree;
		union_all->rarg = (Node *) reference;
		for (int i = 0; i < node->desc->natts; i++)
		{
			Form_pg_attribute column = TupleDescAttr(node->desc, i);

			union_all->colTypes = lappend_oid(union_all->colTypes, column->atttypid);
			union_all->colTypmods = lappend_int(union_all->colTypmods, column->atttypmod);
			union_all->colCollations = lappend_oid(union_all->colCollations, column->attcollation);
		}
		tree = (Node *) union_all;
	}
	if (!IsA(tree, SetOperationStmt))
		return linitial_node(RangeTblEntry, query->rtable)->subquery;
	query->setOperations = tree;
	for (int i = 0; i < node->desc->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(node->desc, i);

		query->targetList = lappend(query->targetList,
									makeTargetEntry((Expr *) makeVar(1, i + 1, column->atttypid, column->atttypmod,
																	 column->attcollation, 0),
													i + 1, pstrdup(NameStr(TupleDescAttr(first->desc, i)->attname)), false));
	}
	return query;
}

static Query *
node_query(IvmPlan *plan, IvmPlanNode *node)
{
	Query	   *query = NULL;

	check_stack_depth();
	switch (node->kind)
	{
		case IVM_SCAN:
			query = scan_query(plan, node);
			break;
		case IVM_JOIN:
			query = join_query(plan, node);
			break;
		case IVM_OUTER:
			if (node->jointype == JOIN_LEFT)
				query = left_query(plan, node);
			else if (node->jointype == JOIN_SEMI || node->jointype == JOIN_ANTI)
				query = exists_query(plan, node);
			break;
		case IVM_MAP:
			query = map_query(plan, node);
			break;
		case IVM_APPEND:
			return append_query(plan, node);
		default:
			break;
	}
	if (query == NULL || !set_output(query, node))
		return NULL;
	add_conditions(query, node->quals);
	return query;
}

Query *
ivm_node_query(IvmPlan *plan, IvmPlanNode *node)
{
	ListCell   *lc;

	if (plan->statement->dependsOnRole)
		return NULL;
	foreach(lc, plan->statement->rtable)
	{
		if (lfirst_node(RangeTblEntry, lc)->security_barrier)
			return NULL;
	}
	return node_query(plan, node);
}
