/*-------------------------------------------------------------------------
 *
 * tie_break.c
 *	  Where the executor leaves open which rows are the first, it takes the same ones as the dataflow.
 *
 * Of rows that an ORDER BY does not tell apart LIMIT and DISTINCT ON take any.  The dataflow takes those whose images
 * come first (arrange/row_order.h).  So that what the executor gives can be compared, with a view's
 * contents or with what it gave the last time, a part of a query that it runs for us gets, below each such node,
 * a sort by the order that is there already and by the hash of the row's image.  Rows with
 * equal hashes are left to chance.
 *
 * So it is where there is no order at all.  What comes in an order that is not known is left as it is.
 *
 * Memory: changes the tree in place; new pieces are in the current context.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_operator_d.h"
#include "catalog/pg_type_d.h"
#include "compile/compiler.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "plan/plan_walk.h"

/* Takes such a node any of some rows? */
static bool
chooses_rows(Plan *plan)
{
	if (IsA(plan, Limit))
		return true;
	return IsA(plan, Unique) && ((Unique *) plan)->numCols > 0 &&
		((Unique *) plan)->numCols < list_length(plan->targetlist);
}

static bool
find_choice(Plan *plan, void *context)
{
	List	   *order;

	return chooses_rows(plan) && ivm_plan_order(plan->lefttree, &order);
}

static List *
columns_of(Plan *plan, int ncolumns)
{
	List	   *result = NIL;

	for (int i = 1; i <= ncolumns; i++)
	{
		TargetEntry *entry = list_nth_node(TargetEntry, plan->targetlist, i - 1);
		Var		   *var = makeVarFromTargetEntry(OUTER_VAR, entry);

		result = lappend(result, makeTargetEntry((Expr *) var, i, entry->resname, false));
	}
	return result;
}

static void
put_above(Plan *plan, Plan *below)
{
	plan->lefttree = below;
	plan->extParam = bms_copy(below->extParam);
	plan->allParam = bms_copy(below->allParam);
	plan->plan_node_id = below->plan_node_id;
}

/* Puts a sort, between projections that add and drop the hash, below the node. */
static void
break_ties(Plan *plan, List *order)
{
	int			ncolumns = list_length(plan->lefttree->targetlist);
	int			nkeys = list_length(order) + 1;
	Result	   *adding = makeNode(Result);
	Result	   *dropping = makeNode(Result);
	Sort	   *sort = makeNode(Sort);
	ListCell   *lc;

	adding->plan.targetlist = columns_of(plan->lefttree, ncolumns);
	adding->plan.targetlist = lappend(adding->plan.targetlist,
									  makeTargetEntry(ivm_row_hash_expression(ivm_tlist_expressions(adding->plan.targetlist)), ncolumns + 1, NULL, false));
	put_above(&adding->plan, plan->lefttree);

	sort->plan.targetlist = columns_of(&adding->plan, ncolumns + 1);
	sort->sortColIdx = (AttrNumber *) palloc(sizeof(AttrNumber) * nkeys);
	sort->sortOperators = (Oid *) palloc(sizeof(Oid) * nkeys);
	sort->collations = (Oid *) palloc(sizeof(Oid) * nkeys);
	sort->nullsFirst = (bool *) palloc0(sizeof(bool) * nkeys);
	foreach(lc, order)
	{
		IvmOrderedColumn *column = (IvmOrderedColumn *) lfirst(lc);

		sort->sortColIdx[sort->numCols] = column->column;
		sort->sortOperators[sort->numCols] = column->sort_operator;
		sort->collations[sort->numCols] = column->collation;
		sort->nullsFirst[sort->numCols++] = column->nulls_first;
	}
	sort->sortColIdx[sort->numCols] = ncolumns + 1;
	sort->sortOperators[sort->numCols] = Int8LessOperator;
	sort->collations[sort->numCols++] = InvalidOid;
	put_above(&sort->plan, &adding->plan);

	dropping->plan.targetlist = columns_of(&sort->plan, ncolumns);
	put_above(&dropping->plan, &sort->plan);
	plan->lefttree = &dropping->plan;
}

static bool
break_ties_of(Plan *plan, void *context)
{
	List	   *order;

	if (chooses_rows(plan) && ivm_plan_order(plan->lefttree, &order))
		break_ties(plan, order);
	return false;
}

void
ivm_statement_break_ties(PlannedStmt *statement)
{
	if (!ivm_plan_walk(statement, statement->planTree, find_choice, NULL))
		return;
	statement->subplans = copyObject(statement->subplans);
	(void) ivm_plan_walk(statement, statement->planTree, break_ties_of, NULL);
}
