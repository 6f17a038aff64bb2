/*-------------------------------------------------------------------------
 *
 * order.c
 *	  Which rows come first: LIMIT and OFFSET over an ordered input, WITH TIES, DISTINCT ON.
 *
 * The planner's tree does not say which order a LIMIT is about; it makes sure that its input comes in that order.
 * So the order is the one that the input has: of a Sort the sort's, of nodes that keep the
 * order of what they read that node's, as far as its columns are passed on.  It is
 * the order asked for, or a finer one, which gives rows that the query allows too.  Of a node that is not known
 * here nothing is known, and what is above it is recomputed: a guess would give other rows.
 *
 * WITH TIES is about the order that was asked for, so there the input's has to begin with just these columns.
 *
 * DISTINCT ON is a Unique node of fewer columns than the row has, over an input that is ordered by these
 * first: the first row of each key.
 *
 * A LIMIT without any order may show any rows.  It shows those that come first by the hashes of their images: they are a
 * function of the input's rows, so that what the view shows can be told from the tables alone.  Of these it keeps only the
 * first (dataflow/prefix.c).
 *
 * Memory: everything in the plan's context, which is current.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_operator_d.h"
#include "catalog/pg_type.h"
#include "compile/compiler.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "plan/order_key.h"
#include "plan/column.h"
#include "utils/builtins.h"

static List *
sort_columns(int ncolumns, AttrNumber *columns, Oid *operators, Oid *collations, bool *nulls_first)
{
	List	   *result = NIL;

	for (int i = 0; i < ncolumns; i++)
	{
		IvmOrderedColumn *column = (IvmOrderedColumn *) palloc(sizeof(IvmOrderedColumn));

		column->column = columns[i];
		column->sort_operator = operators[i];
		column->collation = collations[i];
		column->nulls_first = nulls_first[i];
		result = lappend(result, column);
	}
	return result;
}

/* The order as far as its columns are passed on by the target list, whose Vars of the input have that number. */
static List *
project_order(List *order, List *targetlist, int varno)
{
	List	   *result = NIL;
	ListCell   *lc;
	ListCell   *lc2;

	foreach(lc, order)
	{
		IvmOrderedColumn *column = (IvmOrderedColumn *) palloc(sizeof(IvmOrderedColumn));
		bool		found = false;

		*column = *(IvmOrderedColumn *) lfirst(lc);
		foreach(lc2, targetlist)
		{
			TargetEntry *tle = lfirst_node(TargetEntry, lc2);
			Var		   *var = (Var *) tle->expr;

			if (IsA(var, Var) && var->varno == varno && var->varattno == column->column)
			{
				result = lappend(result, column);
				column->column = tle->resno;
				found = true;
				break;
			}
		}
		if (!found)
			break;
	}
	return result;
}

/* The order of one input, through a projection. */
static bool
find_projected_order(Plan *input, List *targetlist, int varno, List **order)
{
	if (!ivm_plan_order(input, order))
		return false;
	*order = project_order(*order, targetlist, varno);
	return true;
}

/* Are these in no order? */
static bool
have_no_order(List *plans)
{
	ListCell   *lc;

	foreach(lc, plans)
	{
		List	   *order;

		if (!ivm_plan_order((Plan *) lfirst(lc), &order) || order != NIL)
			return false;
	}
	return true;
}

bool
ivm_plan_order(Plan *plan, List **order)
{
	check_stack_depth();
	*order = NIL;
	switch (nodeTag(plan))
	{
		case T_Sort:
		case T_IncrementalSort:
			{
				Sort	   *sort = (Sort *) plan;

				*order = sort_columns(sort->numCols, sort->sortColIdx, sort->sortOperators,
									  sort->collations, sort->nullsFirst);
				return true;
			}

		case T_MergeAppend:
			{
				MergeAppend *append = (MergeAppend *) plan;

				*order = sort_columns(append->numCols, append->sortColIdx, append->sortOperators,
									  append->collations, append->nullsFirst);
				return true;
			}

		case T_Limit:
		case T_Material:
		case T_Unique:
		case T_Hash:
			return ivm_plan_order(plan->lefttree, order);

		case T_Agg:
			if (((Agg *) plan)->groupingSets != NIL || ((Agg *) plan)->chain != NIL)
				return false;
			if (((Agg *) plan)->aggstrategy == AGG_SORTED)
				return find_projected_order(plan->lefttree, plan->targetlist, OUTER_VAR, order);
			return true;

		case T_Group:
		case T_WindowAgg:
		case T_ProjectSet:
			return find_projected_order(plan->lefttree, plan->targetlist, OUTER_VAR, order);

		case T_Result:
			if (plan->lefttree == NULL)
				return true;
			return find_projected_order(plan->lefttree, plan->targetlist, OUTER_VAR, order);

		case T_SubqueryScan:
			return find_projected_order(((SubqueryScan *) plan)->subplan, plan->targetlist,
										((Scan *) plan)->scanrelid, order);

		case T_NestLoop:
		case T_MergeJoin:
			switch (((Join *) plan)->jointype)
			{
				case JOIN_INNER:
				case JOIN_LEFT:
				case JOIN_SEMI:
				case JOIN_ANTI:
					return find_projected_order(plan->lefttree, plan->targetlist, OUTER_VAR, order);
				default:
					return true;
			}

		case T_SetOp:
			if (((SetOp *) plan)->strategy == SETOP_SORTED)
				return ivm_plan_order(plan->lefttree, order);
			return true;

		case T_Append:
			/* of ordered inputs it may be ordered itself, if it knows which begins */
			return have_no_order(((Append *) plan)->appendplans);

		case T_SeqScan:
		case T_SampleScan:
		case T_HashJoin:
		case T_ValuesScan:
		case T_CteScan:
		case T_RecursiveUnion:
		case T_WorkTableScan:
			return true;

		default:
			/* a function may number its rows */
			return false;
	}
}

Bitmapset *
ivm_plan_ordered_columns(Plan *plan)
{
	Bitmapset  *result = NULL;
	List	   *order;
	ListCell   *lc;

	if (!ivm_plan_order(plan, &order))
		return bms_add_range(NULL, 1, Max(list_length(plan->targetlist), 1));
	foreach(lc, order)
		result = bms_add_member(result, ((IvmOrderedColumn *) lfirst(lc))->column);
	return result;
}

static Var *
column_of(Plan *plan, AttrNumber column)
{
	return ivm_column_like(1, column, (Node *) list_nth_node(TargetEntry, plan->targetlist, column - 1)->expr);
}

/* An order over the plan's output, as a node has it; NIL, with the reason set, if it cannot be kept. */
static List *
make_order(IvmCompiler *compiler, Plan *plan, List *columns)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, columns)
	{
		IvmOrderedColumn *column = (IvmOrderedColumn *) lfirst(lc);
		IvmOrderKey *key = (IvmOrderKey *) palloc(sizeof(IvmOrderKey));
		bool		descending;

		key->expr = (Expr *) column_of(plan, column->column);
		key->sort_operator = column->sort_operator;
		key->collation = column->collation;
		key->nulls_first = column->nulls_first;
		if (!ivm_order_key_can_be_stored(key) || !OidIsValid(ivm_order_key_class(key, &descending)))
		{
			compiler->reason = ivm_reason(IVM_REASON_LIMIT_ORDER, "the first rows in an order by a value of type %s",
										  format_type_be(exprType((Node *) key->expr)));
			return NIL;
		}
		result = lappend(result, key);
	}
	return result;
}

/* Where no order is asked for: that of the hashes of the rows' images. */
static List *
order_of_images(Plan *plan)
{
	IvmOrderKey *key = (IvmOrderKey *) palloc0(sizeof(IvmOrderKey));
	List	   *columns = NIL;

	for (int i = 1; i <= list_length(plan->targetlist); i++)
		columns = lappend(columns, column_of(plan, i));
	key->expr = ivm_row_hash_expression(columns);
	key->sort_operator = Int8LessOperator;
	return list_make1(key);
}

/* *value, or what NULL and no expression mean; false if it is not a constant, or one that is an error. */
static bool
constant_value(Node *expression, int64 *value)
{
	Const	   *constant = (Const *) expression;

	if (expression == NULL)
		return true;
	if (!IsA(constant, Const) || constant->consttype != INT8OID)
		return false;
	if (constant->constisnull)
		return true;
	*value = DatumGetInt64(constant->constvalue);
	return *value >= 0;
}

/* The first columns of the order are those that decide about ties, in their order. */
static bool
is_order_of_ties(Limit *limit, List *columns)
{
	if (list_length(columns) < limit->uniqNumCols)
		return false;
	for (int i = 0; i < limit->uniqNumCols; i++)
	{
		if (((IvmOrderedColumn *) list_nth(columns, i))->column != limit->uniqColIdx[i])
			return false;
	}
	return true;
}

IvmPlanNode *
ivm_translate_limit(IvmCompiler *compiler, Plan *plan)
{
	Limit	   *limit = (Limit *) plan;
	bool		with_ties = limit->limitOption == LIMIT_OPTION_WITH_TIES;
	int64		offset = 0;
	int64		count = -1;
	List	   *columns;
	List	   *order;
	IvmPlanNode *input;
	IvmPlanNode *node;

	if (!constant_value(limit->limitOffset, &offset) || !constant_value(limit->limitCount, &count))
	{
		compiler->reason = ivm_reason(IVM_REASON_LIMIT_NOT_CONSTANT, "LIMIT or OFFSET that is not a constant");
		return NULL;
	}
	if (!ivm_plan_order(plan->lefttree, &columns))
	{
		compiler->reason = ivm_reason(IVM_REASON_LIMIT_ORDER, "LIMIT of rows whose order is not known");
		return NULL;
	}
	if (with_ties)
	{
		if (!is_order_of_ties(limit, columns))
		{
			compiler->reason = ivm_reason(IVM_REASON_LIMIT_ORDER, "WITH TIES in an order of which a column is redundant");
			return NULL;
		}
		columns = list_truncate(columns, limit->uniqNumCols);
	}
	order = columns == NIL ? order_of_images(plan->lefttree) : make_order(compiler, plan->lefttree, columns);
	if (order == NIL)
		return NULL;

	input = ivm_translate(compiler, ivm_plan_skip_passive(plan->lefttree));
	if (input == NULL)
		return NULL;
	node = ivm_node_create(compiler, IVM_TOPK, plan);
	node->inputs = list_make1(input);
	node->order = order;
	node->offset = offset;
	node->count = count;
	node->with_ties = with_ties;
	node->any_rows = columns == NIL;
	return node;
}

IvmPlanNode *
ivm_translate_distinct_on(IvmCompiler *compiler, Plan *plan)
{
	Unique	   *unique = (Unique *) plan;
	Bitmapset  *wanted = NULL;
	Bitmapset  *leading = NULL;
	List	   *columns;
	List	   *order;
	IvmPlanNode *input;
	IvmPlanNode *node;
	ListCell   *lc;

	compiler->reason = unique->numCols == 0 ? ivm_reason(IVM_REASON_DISTINCT_CONSTANT, "DISTINCT of constants") :
		ivm_reason(IVM_REASON_DISTINCT_ON, "DISTINCT ON");
	if (unique->numCols == 0 || !ivm_plan_order(plan->lefttree, &columns))
		return NULL;
	for (int i = 0; i < unique->numCols; i++)
		wanted = bms_add_member(wanted, unique->uniqColIdx[i]);
	foreach(lc, columns)
	{
		if (bms_equal(leading, wanted))
			break;
		leading = bms_add_member(leading, ((IvmOrderedColumn *) lfirst(lc))->column);
	}
	if (!bms_equal(leading, wanted))
		return NULL;
	order = make_order(compiler, plan->lefttree, columns);
	if (order == NIL)
		return NULL;

	input = ivm_translate(compiler, ivm_plan_skip_passive(plan->lefttree));
	if (input == NULL)
		return NULL;
	node = ivm_node_create(compiler, IVM_TOPK, plan);
	node->inputs = list_make1(input);
	node->order = order;
	node->count = 1;
	for (int i = 0; i < unique->numCols; i++)
	{
		if (list_member_int(node->key_columns, unique->uniqColIdx[i]))
			continue;
		node->key_columns = lappend_int(node->key_columns, unique->uniqColIdx[i]);
		node->key_operators = lappend_oid(node->key_operators, unique->uniqOperators[i]);
		node->key_collations = lappend_oid(node->key_collations, unique->uniqCollations[i]);
	}
	return node;
}

void
ivm_topk_complete(IvmCompiler *compiler, IvmPlanNode *node)
{
	IvmPlanNode *input = (IvmPlanNode *) linitial(node->inputs);
	List	   *keys = ivm_columns_of(input->desc, node->key_columns);

	node->ordered = ivm_arrangement_make_ordered(compiler, input, keys, node->key_operators,
												 node->key_collations, node->order, false,
												 node->any_rows && node->count >= 0 ? node : NULL);
}
