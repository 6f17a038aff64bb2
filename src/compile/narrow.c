/*-------------------------------------------------------------------------
 *
 * narrow.c
 *	  Removing columns that nobody reads from a plan tree.
 *
 * The planner lets scans return whole rows where that saves the executor a
 * projection.  A delta plan wants the opposite: a row without the columns that
 * nobody needs is equal to more other rows, so that more changes cancel out,
 * fewer columns are decoded, and state tables stay small.
 *
 * The columns asked for go down the tree, from each node's expressions to its
 * children; on the way back target lists are cut and references renumbered.
 * Every node's output afterwards is exactly what was asked for, in the old
 * order: column k becomes column number "how many of the needed ones are <= k".
 * The result is a plan that the executor can run, so that a delta plan's nodes
 * can keep its subtrees as the definition of what they yield.
 *
 * Where nothing is asked for (below count(*)), one constant column is left:
 * a row of no columns cannot be told from "the row as it is".
 *
 * A reference to a whole row of a subquery is a reference to each of its
 * columns; it is written as one first.
 *
 * A node that this file does not know keeps its columns, and gets a Result on
 * top that drops what is too much.  That is slower but never wrong.
 *
 * Memory: the tree is changed in place, new pieces are in the current context.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "compile/compiler.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "plan/plan_walk.h"
#include "plan/column.h"

/* References of one varno, and their new numbers (0: not needed). */
typedef struct Renumbering
{
	int			varno;
	int			natts;
	int		   *numbers;		/* 1-based */
} Renumbering;

typedef struct RenumberContext
{
	int			count;
	Renumbering renumberings[2];
} RenumberContext;

/* The subquery whose whole rows are referred to. */
typedef struct RowContext
{
	int			varno;
	List	   *targetlist;
	List	   *names;
} RowContext;

typedef struct ColumnsContext
{
	int			varno;
	Bitmapset  *columns;
} ColumnsContext;

/* ---- whole rows ---- */

static Node *
expand_rows_mutator(Node *node, RowContext *context)
{
	Var		   *var = (Var *) node;
	RowExpr    *row;
	ListCell   *lc;

	if (node == NULL)
		return NULL;
	if (!IsA(node, Var) || var->varno != context->varno || var->varattno != InvalidAttrNumber)
		return expression_tree_mutator(node, expand_rows_mutator, context);

	row = makeNode(RowExpr);
	row->row_typeid = var->vartype;
	row->row_format = COERCE_IMPLICIT_CAST;
	row->colnames = copyObject(context->names);
	row->location = -1;
	foreach(lc, context->targetlist)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (!tle->resjunk)
			row->args = lappend(row->args, makeVarFromTargetEntry(context->varno, tle));
	}
	return (Node *) row;
}

static bool
expand_rows(Plan *plan, void *statement)
{
	PlannedStmt *stmt = (PlannedStmt *) statement;
	RowContext	context;

	if (IsA(plan, SubqueryScan))
		context.targetlist = ((SubqueryScan *) plan)->subplan->targetlist;
	else if (IsA(plan, CteScan))
		context.targetlist = ((Plan *) list_nth(stmt->subplans, ((CteScan *) plan)->ctePlanId - 1))->targetlist;
	else
		return false;
	context.varno = ((Scan *) plan)->scanrelid;
	context.names = rt_fetch(context.varno, stmt->rtable)->eref->colnames;
	plan->targetlist = (List *) expand_rows_mutator((Node *) plan->targetlist, &context);
	plan->qual = (List *) expand_rows_mutator((Node *) plan->qual, &context);
	return false;
}

void
ivm_plan_expand_rows(PlannedStmt *statement)
{
	ivm_plan_walk(statement, statement->planTree, expand_rows, statement);
}

/* ---- columns ---- */

static bool
find_columns(Node *node, ColumnsContext *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;

		if (var->varno == context->varno && var->varattno > 0)
			context->columns = bms_add_member(context->columns, var->varattno);
		return false;
	}
	return expression_tree_walker(node, find_columns, context);
}

static Bitmapset *
columns_used(void *expressions, int varno, Bitmapset *columns)
{
	ColumnsContext context;

	context.varno = varno;
	context.columns = columns;
	find_columns((Node *) expressions, &context);
	return context.columns;
}

static Bitmapset *
all_columns(Plan *plan)
{
	int			natts = list_length(plan->targetlist);

	return natts == 0 ? NULL : bms_add_range(NULL, 1, natts);
}

Bitmapset *
ivm_plan_visible_columns(Plan *plan)
{
	Bitmapset  *columns = NULL;
	ListCell   *lc;

	foreach(lc, plan->targetlist)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (!tle->resjunk)
			columns = bms_add_member(columns, tle->resno);
	}
	return columns;
}

static void
add_renumbering(RenumberContext *context, int varno, int natts, Bitmapset *needed)
{
	Renumbering *renumbering = &context->renumberings[context->count++];
	int			next = 0;

	renumbering->varno = varno;
	renumbering->natts = natts;
	renumbering->numbers = (int *) palloc0(sizeof(int) * (natts + 1));
	for (int i = 1; i <= natts; i++)
	{
		if (bms_is_member(i, needed))
			renumbering->numbers[i] = ++next;
	}
}

static int
renumbered(Renumbering *renumbering, int attno)
{
	if (attno < 1 || attno > renumbering->natts || renumbering->numbers[attno] == 0)
		elog(ERROR, "column %d of a plan's input was dropped", attno);
	return renumbering->numbers[attno];
}

static Node *
renumber_mutator(Node *node, RenumberContext *context)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;

		for (int i = 0; i < context->count; i++)
		{
			if (var->varno == context->renumberings[i].varno && var->varattno > 0)
			{
				Var		   *result = copyObject(var);

				result->varattno = renumbered(&context->renumberings[i], var->varattno);
				return (Node *) result;
			}
		}
		return (Node *) copyObject(var);
	}
	node = expression_tree_mutator(node, renumber_mutator, context);
	if (IsA(node, GroupingFunc))
	{
		GroupingFunc *function = (GroupingFunc *) node;
		List	   *cols = NIL;
		ListCell   *lc;

		foreach(lc, function->cols)
			cols = lappend_int(cols, renumbered(&context->renumberings[0], lfirst_int(lc)));
		function->cols = cols;
	}
	return node;
}

#define renumber(expressions, context) ((void *) renumber_mutator((Node *) (expressions), (context)))

static void
renumber_array(AttrNumber *columns, int count, RenumberContext *context)
{
	for (int i = 0; i < count; i++)
		columns[i] = renumbered(&context->renumberings[0], columns[i]);
}

static List *
constant_targetlist(void)
{
	return list_make1(makeTargetEntry((Expr *) makeBoolConst(true, false), 1, NULL, false));
}

/* The needed entries of a target list that can hold expressions. */
static List *
keep(List *targetlist, Bitmapset *needed)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, targetlist)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (!bms_is_member(tle->resno, needed))
			continue;
		tle = flatCopyTargetEntry(tle);
		tle->resno = list_length(result) + 1;
		tle->resjunk = false;
		tle->ressortgroupref = 0;
		result = lappend(result, tle);
	}

	return result == NIL ? constant_targetlist() : result;
}

/* A target list that passes a child's columns on, as nodes that cannot project have it. */
static List *
pass_on(List *child_targetlist)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, child_targetlist)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);
		Var		   *var = ivm_column_like(OUTER_VAR, tle->resno, (Node *) tle->expr);

		result = lappend(result, makeTargetEntry((Expr *) var, tle->resno, tle->resname, false));
	}
	return result;
}

/* Puts a projection onto the columns "needed" above a plan that yields the columns "has". */
static Plan *
project(Plan *plan, Bitmapset *has, Bitmapset *needed)
{
	Result	   *result;
	RenumberContext context = {0};
	Bitmapset  *columns = NULL;
	int			column = -1;

	if (bms_equal(has, needed))
		return plan;

	add_renumbering(&context, OUTER_VAR, bms_is_empty(has) ? 0 : bms_prev_member(has, -1), has);
	while ((column = bms_next_member(needed, column)) >= 0)
		columns = bms_add_member(columns, renumbered(&context.renumberings[0], column));

	result = makeNode(Result);
	result->plan.startup_cost = plan->startup_cost;
	result->plan.total_cost = plan->total_cost;
	result->plan.plan_rows = plan->plan_rows;
	result->plan.plan_width = plan->plan_width;
	result->plan.plan_node_id = plan->plan_node_id;
	result->plan.targetlist = keep(pass_on(plan->targetlist), columns);
	result->plan.lefttree = plan;
	result->plan.extParam = bms_copy(plan->extParam);
	result->plan.allParam = bms_copy(plan->allParam);
	return (Plan *) result;
}

static Plan *
narrow_join(Plan *plan, Bitmapset *needed)
{
	Join	   *join = (Join *) plan;
	Plan	   *outer = plan->lefttree;
	Plan	   *inner = plan->righttree;
	Bitmapset  *outer_needed;
	Bitmapset  *inner_needed;
	List	   *others = NIL;
	RenumberContext context = {0};

	plan->targetlist = keep(plan->targetlist, needed);

	others = lappend(others, plan->targetlist);
	others = lappend(others, plan->qual);
	others = lappend(others, join->joinqual);
	if (IsA(plan, HashJoin))
	{
		others = lappend(others, ((HashJoin *) plan)->hashclauses);
		others = lappend(others, ((HashJoin *) plan)->hashkeys);
	}
	else if (IsA(plan, MergeJoin))
		others = lappend(others, ((MergeJoin *) plan)->mergeclauses);

	outer_needed = columns_used(others, OUTER_VAR, NULL);
	inner_needed = columns_used(others, INNER_VAR, NULL);
	if (IsA(inner, Hash))
		inner_needed = columns_used(((Hash *) inner)->hashkeys, OUTER_VAR, inner_needed);

	add_renumbering(&context, OUTER_VAR, list_length(outer->targetlist), outer_needed);
	add_renumbering(&context, INNER_VAR, list_length(inner->targetlist), inner_needed);

	plan->lefttree = ivm_plan_narrow(outer, outer_needed);
	plan->righttree = ivm_plan_narrow(inner, inner_needed);

	plan->targetlist = renumber(plan->targetlist, &context);
	plan->qual = renumber(plan->qual, &context);
	join->joinqual = renumber(join->joinqual, &context);
	if (IsA(plan, HashJoin))
	{
		HashJoin   *hash_join = (HashJoin *) plan;

		hash_join->hashclauses = renumber(hash_join->hashclauses, &context);
		hash_join->hashkeys = renumber(hash_join->hashkeys, &context);
	}
	else if (IsA(plan, MergeJoin))
	{
		MergeJoin  *merge_join = (MergeJoin *) plan;

		merge_join->mergeclauses = renumber(merge_join->mergeclauses, &context);
	}
	return plan;
}

/* Nodes with one input and a target list of expressions over it: Result, Agg, Group. */
static Plan *
narrow_projecting(Plan *plan, Bitmapset *needed, AttrNumber *columns, int ncolumns)
{
	Bitmapset  *used;
	RenumberContext context = {0};

	plan->targetlist = keep(plan->targetlist, needed);
	if (plan->lefttree == NULL)
		return plan;

	used = columns_used(plan->targetlist, OUTER_VAR, NULL);
	used = columns_used(plan->qual, OUTER_VAR, used);
	for (int i = 0; i < ncolumns; i++)
		used = bms_add_member(used, columns[i]);

	add_renumbering(&context, OUTER_VAR, list_length(plan->lefttree->targetlist), used);
	plan->lefttree = ivm_plan_narrow(plan->lefttree, used);
	plan->targetlist = renumber(plan->targetlist, &context);
	plan->qual = renumber(plan->qual, &context);
	renumber_array(columns, ncolumns, &context);
	return plan;
}

/*
 * The grouping columns of all passes are used.  A pass that is chained has a Sort without an input, whose columns are the
 * same ones.
 */
static Plan *
narrow_grouping_sets(Plan *plan, Bitmapset *needed)
{
	List	   *passes = lcons(plan, list_copy(((Agg *) plan)->chain));
	Bitmapset  *used;
	RenumberContext context = {0};
	ListCell   *lc;

	plan->targetlist = keep(plan->targetlist, needed);
	used = columns_used(plan->targetlist, OUTER_VAR, NULL);
	used = columns_used(plan->qual, OUTER_VAR, used);
	foreach(lc, passes)
	{
		Agg		   *pass = lfirst_node(Agg, lc);

		for (int i = 0; i < pass->numCols; i++)
			used = bms_add_member(used, pass->grpColIdx[i]);
	}

	add_renumbering(&context, OUTER_VAR, list_length(plan->lefttree->targetlist), used);
	plan->lefttree = ivm_plan_narrow(plan->lefttree, used);
	plan->targetlist = renumber(plan->targetlist, &context);
	plan->qual = renumber(plan->qual, &context);
	foreach(lc, passes)
	{
		Agg		   *pass = lfirst_node(Agg, lc);
		Sort	   *sort = (Sort *) pass->plan.lefttree;

		renumber_array(pass->grpColIdx, pass->numCols, &context);
		if (&pass->plan != plan && sort != NULL)
			renumber_array(sort->sortColIdx, sort->numCols, &context);
	}
	return plan;
}

/* True if each child yields the columns that the node passes on. */
static bool
passes_all_columns(Plan *plan, List *children)
{
	int			natts = list_length(plan->targetlist);
	ListCell   *lc;

	if (children == NIL)
		return plan->lefttree != NULL && list_length(plan->lefttree->targetlist) == natts;

	foreach(lc, children)
	{
		if (list_length(((Plan *) lfirst(lc))->targetlist) != natts)
			return false;
	}
	return true;
}

/*
 * Nodes that pass rows on as they are, but look at some columns: the input gets
 * these too, and they are dropped above.
 */
static Plan *
narrow_passing(Plan *plan, Bitmapset *needed, Bitmapset *others, AttrNumber *columns, int ncolumns, List *children)
{
	Bitmapset  *used = bms_union(needed, others);
	RenumberContext context = {0};
	ListCell   *lc;
	Plan	   *first = NULL;

	if (!passes_all_columns(plan, children))
		return project(plan, all_columns(plan), needed);

	for (int i = 0; i < ncolumns; i++)
		used = bms_add_member(used, columns[i]);
	add_renumbering(&context, OUTER_VAR, list_length(plan->targetlist), used);

	if (children == NIL)
		first = plan->lefttree = ivm_plan_narrow(plan->lefttree, used);
	else
	{
		foreach(lc, children)
		{
			lfirst(lc) = ivm_plan_narrow((Plan *) lfirst(lc), used);
			if (first == NULL)
				first = (Plan *) lfirst(lc);
		}
	}

	/* keep the node's own column names where it has some */
	if (bms_is_empty(used))
		plan->targetlist = pass_on(first->targetlist);
	else
	{
		List	   *names = keep(plan->targetlist, used);
		ListCell   *lc2;

		plan->targetlist = pass_on(first->targetlist);
		forboth(lc, plan->targetlist, lc2, names)
		{
			TargetEntry *tle = lfirst_node(TargetEntry, lc);

			tle->resname = lfirst_node(TargetEntry, lc2)->resname;
		}
	}

	renumber_array(columns, ncolumns, &context);
	return project(plan, used, needed);
}

Plan *
ivm_plan_narrow(Plan *plan, Bitmapset *needed)
{
	check_stack_depth();
	CHECK_FOR_INTERRUPTS();

	switch (nodeTag(plan))
	{
		case T_SeqScan:
		case T_SampleScan:
		case T_IndexScan:
		case T_IndexOnlyScan:
		case T_BitmapHeapScan:
		case T_TidScan:
		case T_TidRangeScan:
		case T_FunctionScan:
		case T_ValuesScan:
		case T_TableFuncScan:
		case T_CteScan:
			plan->targetlist = keep(plan->targetlist, needed);
			return plan;

		case T_SubqueryScan:
			{
				SubqueryScan *scan = (SubqueryScan *) plan;
				Bitmapset  *used;
				RenumberContext context = {0};

				plan->targetlist = keep(plan->targetlist, needed);
				used = columns_used(plan->targetlist, scan->scan.scanrelid, NULL);
				used = columns_used(plan->qual, scan->scan.scanrelid, used);
				add_renumbering(&context, scan->scan.scanrelid,
								list_length(scan->subplan->targetlist), used);
				scan->subplan = ivm_plan_narrow(scan->subplan, used);
				plan->targetlist = renumber(plan->targetlist, &context);
				plan->qual = renumber(plan->qual, &context);
				return plan;
			}

		case T_Result:
			return narrow_projecting(plan, needed, NULL, 0);

		case T_Agg:
			if (((Agg *) plan)->groupingSets != NIL)
				return narrow_grouping_sets(plan, needed);
			return narrow_projecting(plan, needed, ((Agg *) plan)->grpColIdx, ((Agg *) plan)->numCols);

		case T_Group:
			return narrow_projecting(plan, needed, ((Group *) plan)->grpColIdx, ((Group *) plan)->numCols);

		case T_Hash:
			{
				Hash	   *hash = (Hash *) plan;
				RenumberContext context = {0};

				/* the join above has asked for the hash keys' columns too */
				if (!passes_all_columns(plan, NIL))
					break;
				add_renumbering(&context, OUTER_VAR, list_length(plan->targetlist), needed);
				hash->hashkeys = renumber(hash->hashkeys, &context);
				return narrow_passing(plan, needed, NULL, NULL, 0, NIL);
			}

		case T_Material:
			return narrow_passing(plan, needed, NULL, NULL, 0, NIL);

		case T_Sort:
		case T_IncrementalSort:
			return narrow_passing(plan, needed, NULL, ((Sort *) plan)->sortColIdx, ((Sort *) plan)->numCols, NIL);

		case T_Append:
			if (((Append *) plan)->appendplans == NIL)
				break;
			return narrow_passing(plan, needed, NULL, NULL, 0, ((Append *) plan)->appendplans);

		case T_MergeAppend:
			if (((MergeAppend *) plan)->mergeplans == NIL)
				break;
			return narrow_passing(plan, needed, NULL, ((MergeAppend *) plan)->sortColIdx,
								  ((MergeAppend *) plan)->numCols, ((MergeAppend *) plan)->mergeplans);

		case T_Limit:
			/* which rows are the first is decided by what the input is ordered by */
			return narrow_passing(plan, needed, ivm_plan_ordered_columns(plan->lefttree),
								  ((Limit *) plan)->uniqColIdx, ((Limit *) plan)->uniqNumCols, NIL);

		case T_Unique:
			/* the same for DISTINCT ON */
			if (((Unique *) plan)->numCols > 0 && ((Unique *) plan)->numCols < list_length(plan->targetlist))
				return narrow_passing(plan, needed, ivm_plan_ordered_columns(plan->lefttree),
									  ((Unique *) plan)->uniqColIdx, ((Unique *) plan)->numCols, NIL);
			/* fall through */

		case T_SetOp:
			{
				Bitmapset  *all = all_columns(plan);

				/* every column decides which rows are equal */
				plan->lefttree = ivm_plan_narrow(plan->lefttree, all);
				return project(plan, all, needed);
			}

		case T_NestLoop:
			if (((NestLoop *) plan)->nestParams != NIL)
				break;
			return narrow_join(plan, needed);

		case T_HashJoin:
		case T_MergeJoin:
			return narrow_join(plan, needed);

		default:
			break;
	}

	return project(plan, all_columns(plan), needed);
}
