/*-------------------------------------------------------------------------
 *
 * setop.c
 *	  INTERSECT and EXCEPT, with and without ALL.
 *
 * The planner makes of them a SetOp over an Append of both sides, whose rows have one more column, a flag: 0 in
 * rows of the left side, 1 in those of the right one.  So it is grouping by all other columns with two
 * counts, and what a group gives is its row, as many times as the counts say (dataflow/set_operation.c).
 * UNION needs nothing of that: it is DISTINCT over an Append.
 *
 * Which side the planner puts first, and whether it would hash or sort, makes no difference.
 *
 * The flag's column is in the SetOp's own output, too, where nobody reads it: there it is that of the left side.
 *
 * All that comes out is in the left side, at most as many times.  So a key of that side is one of the result.
 *
 * Memory: everything in the plan's context, which is current.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "compile/compiler.h"
#include "plan/column.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"

/* The sides, as the flag has them (prepunion.c). */
#define LEFT_SIDE	0
#define RIGHT_SIDE	1

static Const *
make_flag(int side)
{
	return makeConst(INT4OID, -1, InvalidOid, sizeof(int32), Int32GetDatum(side), false, true);
}

/* count(*) FILTER (WHERE flag = side) */
static IvmAggregateCall *
count_side(int flag_column, int side)
{
	IvmAggregateCall *call = (IvmAggregateCall *) palloc0(sizeof(IvmAggregateCall));
	Const	   *flag = make_flag(side);
	Aggref	   *aggref = makeNode(Aggref);
	OpExpr	   *filter;

	filter = (OpExpr *) make_opclause(Int4EqualOperator, BOOLOID, false,
									  (Expr *) ivm_column_like(1, flag_column, (Node *) flag), (Expr *) flag,
									  InvalidOid, InvalidOid);
	filter->opfuncid = F_INT4EQ;
	aggref->aggfnoid = F_COUNT_;
	aggref->aggtype = INT8OID;
	aggref->aggtranstype = INT8OID;
	aggref->aggfilter = (Expr *) filter;
	aggref->aggstar = true;
	aggref->aggkind = AGGKIND_NORMAL;
	aggref->aggsplit = AGGSPLIT_SIMPLE;
	aggref->aggno = -1;
	aggref->aggtransno = -1;
	aggref->location = -1;
	call->aggref = aggref;
	call->kind = IVM_ACC_COUNT;
	return call;
}

IvmPlanNode *
ivm_translate_set_operation(IvmCompiler *compiler, Plan *plan)
{
	SetOp	   *setop = (SetOp *) plan;
	IvmPlanNode *node;
	ListCell   *lc;

	if (setop->numCols + 2 + IVM_GROUP_OTHER_COLUMNS > MaxTupleAttributeNumber)
	{
		compiler->reason = ivm_reason(IVM_REASON_TOO_MANY_COLUMNS, "more columns and aggregates than a row can have");
		return NULL;
	}
	node = ivm_group_node_create(compiler, plan, setop->numCols, setop->dupColIdx,
								 setop->dupOperators, setop->dupCollations);
	if (node == NULL)
		return NULL;
	node->flag_column = setop->flagColIdx;
	node->set_operation = setop->cmd;
	node->calls = list_make2(count_side(setop->flagColIdx, LEFT_SIDE), count_side(setop->flagColIdx, RIGHT_SIDE));

	foreach(lc, plan->targetlist)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);
		int			number = 0;

		if (tle->resno == setop->flagColIdx)
		{
			node->tlist = lappend(node->tlist, make_flag(LEFT_SIDE));
			continue;
		}
		for (int i = 0; i < list_length(node->group_columns); i++)
		{
			if (list_nth_int(node->group_columns, i) == tle->resno)
				number = i + 1;
		}
		if (number == 0)
			elog(ERROR, "column %d of a set operation is not compared", tle->resno);
		node->tlist = lappend(node->tlist, ivm_column_like(1, number, (Node *) tle->expr));
	}
	return node;
}

/* The input whose rows have the flag of the left side; NULL if that is not to be seen. */
static Plan *
left_side(SetOp *setop)
{
	Plan	   *append = ivm_plan_skip_passive(setop->plan.lefttree);
	ListCell   *lc;

	if (!IsA(append, Append))
		return NULL;
	foreach(lc, ((Append *) append)->appendplans)
	{
		Plan	   *side = (Plan *) lfirst(lc);
		TargetEntry *tle;

		if (list_length(side->targetlist) != list_length(setop->plan.targetlist))
			return NULL;
		tle = list_nth_node(TargetEntry, side->targetlist, setop->flagColIdx - 1);
		if (!IsA(tle->expr, Const))
			return NULL;
		if (DatumGetInt32(((Const *) tle->expr)->constvalue) == LEFT_SIDE)
			return side;
	}
	return NULL;
}

List *
ivm_set_operation_keys(PlannedStmt *statement, Plan *plan)
{
	SetOp	   *setop = (SetOp *) plan;
	Plan	   *left = left_side(setop);
	List	   *keys = left != NULL ? ivm_plan_keys(statement, left) : NIL;

	if (setop->cmd == SETOPCMD_INTERSECT || setop->cmd == SETOPCMD_EXCEPT)
		keys = list_concat(keys, ivm_group_keys(plan->lefttree->targetlist, setop->numCols, setop->dupColIdx,
												setop->dupOperators, setop->dupCollations));
	return keys;
}
