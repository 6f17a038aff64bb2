/*-------------------------------------------------------------------------
 *
 * distinct_calls.c
 *	  Aggregate functions with DISTINCT, from a stream of the distinct values.
 *
 * f(DISTINCT x) FILTER (WHERE p) is f over the rows of
 *
 *		SELECT DISTINCT g, x FROM input WHERE p
 *
 * which is an operator of its own (an aggregate without calls) that tells which values
 * come and go.  An aggregate with such calls reads the input and those streams as one:
 *
 *		Aggregate
 *		  Append
 *		    Map: the input's columns, stream 0, NULLs
 *		    Map: group columns and else NULLs, stream 1, values of the first stream, else NULLs
 *		      Distinct
 *		        Map: group columns, values, filter
 *		    ...
 *
 * and each call has a filter by the stream.  So the aggregate takes rows up, spills them and looks
 * them up as it always does.  A group is there if it has rows of any stream, which is so if it has some of
 * the input.  What a stream shows of equal values that look different is there, so it
 * does for the looks of a group, too.
 *
 * A stream keeps a row for each different value of each group; equal arguments and filters
 * share one.  A changed row costs a group of the stream and one of the aggregate.
 *
 * There is no stream where DISTINCT makes no difference: the function is the same for one value
 * or several (min, bool_and, bit_or), or a unique key of the input is among the group columns and
 * arguments.  Nor for functions that would need all values when one goes: those read the
 * group's rows, in order (dataflow/replay.c).
 *
 * Memory: everything in the plan's context, which is current.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_operator_d.h"
#include "catalog/pg_type.h"
#include "compile/compiler.h"
#include "plan/column.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

/* The calls that read one stream. */
typedef struct Stream
{
	List	   *values;			/* expressions over the input's row */
	List	   *operators;		/* oid: equality */
	Expr	   *filter;			/* or NULL */
	int			first;			/* column of the first value in what the
								 * aggregate reads */
} Stream;

bool
ivm_distinct_is_of_key(IvmCompiler *compiler, IvmPlanNode *node, Aggref *aggref)
{
	Bitmapset  *columns = NULL;
	ListCell   *lc;
	ListCell   *lc2;

	foreach(lc, aggref->aggdistinct)
	{
		SortGroupClause *clause = lfirst_node(SortGroupClause, lc);
		Var		   *var = (Var *) get_sortgroupclause_expr(clause, aggref->args);

		if (IsA(var, Var) && clause->eqop == ivm_type_equality(var->vartype))
			columns = bms_add_member(columns, var->varattno);
	}
	foreach(lc, node->group_columns)
	{
		Form_pg_attribute attribute = TupleDescAttr(((IvmPlanNode *) linitial(node->inputs))->desc, lfirst_int(lc) - 1);

		if (list_nth_oid(node->group_operators, foreach_current_index(lc)) == ivm_type_equality(attribute->atttypid))
			columns = bms_add_member(columns, lfirst_int(lc));
	}
	foreach(lc, ivm_plan_keys(compiler->statement, node->plan->lefttree))
	{
		bool		all = true;

		foreach(lc2, (List *) lfirst(lc))
			all &= bms_is_member(lfirst_int(lc2), columns);
		if (all)
			return true;
	}
	return false;
}

bool
ivm_distinct_can_be_stream(Aggref *aggref)
{
	ListCell   *lc;

	foreach(lc, aggref->args)
	{
		if (get_typtype(exprType((Node *) lfirst_node(TargetEntry, lc)->expr)) == TYPTYPE_PSEUDO)
			return false;
	}
	return true;
}

static Const *
stream_number(int number)
{
	return makeConst(INT4OID, -1, InvalidOid, sizeof(int32), Int32GetDatum(number), false, true);
}

/* A map that is run by the dataflow. */
static IvmPlanNode *
make_map(IvmPlanNode *input, List *tlist, List *quals)
{
	IvmPlanNode *node = (IvmPlanNode *) palloc0(sizeof(IvmPlanNode));

	node->kind = IVM_MAP;
	node->node_id = -1;
	node->inputs = list_make1(input);
	node->tlist = tlist;
	node->quals = quals;
	node->desc = ExecTypeFromExprList(tlist);
	ivm_node_name_columns(node);
	return node;
}

/* SELECT DISTINCT group columns, values FROM input WHERE filter */
static IvmPlanNode *
make_distinct(IvmPlanNode *aggregate, IvmPlanNode *input, Stream *stream)
{
	IvmPlanNode *node = (IvmPlanNode *) palloc0(sizeof(IvmPlanNode));
	List	   *tlist = NIL;
	IvmPlanNode *map;
	ListCell   *lc;

	foreach(lc, aggregate->group_columns)
		tlist = lappend(tlist, ivm_column_of(input->desc, lfirst_int(lc)));
	tlist = list_concat(tlist, copyObject(stream->values));
	map = make_map(input, tlist, stream->filter == NULL ? NIL : list_make1(copyObject(stream->filter)));

	node->kind = IVM_AGGREGATE;
	node->node_id = -1;
	node->inputs = list_make1(map);
	node->desc = CreateTupleDescCopy(map->desc);
	node->group_operators = list_concat_copy(aggregate->group_operators, stream->operators);
	node->group_collations = list_copy(aggregate->group_collations);
	foreach(lc, stream->values)
		node->group_collations = lappend_oid(node->group_collations, exprCollation((Node *) lfirst(lc)));
	for (int i = 1; i <= map->desc->natts; i++)
	{
		node->group_columns = lappend_int(node->group_columns, i);
		node->tlist = lappend(node->tlist, ivm_column_of(map->desc, i));
	}
	return node;
}

/* The call's stream, a new one if need be; its number, from 1 on. */
static int
find_stream(List **streams, Aggref *aggref)
{
	Stream	   *stream = (Stream *) palloc0(sizeof(Stream));
	ListCell   *lc;
	ListCell   *lc2;

	stream->filter = aggref->aggfilter;
	foreach(lc, aggref->args)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, lc);
		Oid			equality = InvalidOid;

		foreach(lc2, aggref->aggdistinct)
		{
			SortGroupClause *clause = lfirst_node(SortGroupClause, lc2);

			if (clause->tleSortGroupRef == entry->ressortgroupref)
				equality = clause->eqop;
		}
		stream->values = lappend(stream->values, entry->expr);
		stream->operators = lappend_oid(stream->operators, equality);
	}
	foreach(lc, *streams)
	{
		Stream	   *other = (Stream *) lfirst(lc);

		if (equal(other->values, stream->values) && equal(other->operators, stream->operators) &&
			equal(other->filter, stream->filter))
			return foreach_current_index(lc) + 1;
	}
	*streams = lappend(*streams, stream);
	return list_length(*streams);
}

/* stream = number AND filter */
static Expr *
filter_by_stream(int column, int number, Expr *filter)
{
	Const	   *constant = stream_number(number);
	Var		   *var = ivm_column_like(1, column, (Node *) constant);
	OpExpr	   *test;

	test = (OpExpr *) make_opclause(Int4EqualOperator, BOOLOID, false, (Expr *) var, (Expr *) constant,
									InvalidOid, InvalidOid);
	test->opfuncid = F_INT4EQ;
	return filter == NULL ? (Expr *) test : makeBoolExpr(AND_EXPR, list_make2(test, filter), -1);
}

/* A call that reads that stream. */
static Aggref *
read_stream(Aggref *aggref, Stream *stream, int column, int number)
{
	ListCell   *lc;

	aggref = copyObject(aggref);
	foreach(lc, aggref->args)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, lc);

		entry->expr = (Expr *) ivm_column_like(1, stream->first + foreach_current_index(lc), (Node *) entry->expr);
		entry->ressortgroupref = 0;
	}
	aggref->aggdistinct = NIL;
	aggref->aggorder = NIL;
	aggref->aggfilter = filter_by_stream(column, number, NULL);
	return aggref;
}

/* The columns of a row of that stream; "source" has the group columns first, and then its values. */
static List *
stream_columns(IvmPlanNode *aggregate, IvmPlanNode *input, List *streams, int number, IvmPlanNode *source)
{
	List	   *result = NIL;
	int			ngroups = list_length(aggregate->group_columns);
	ListCell   *lc;
	ListCell   *lc2;

	for (int i = 1; i <= input->desc->natts; i++)
	{
		Var		   *var = ivm_column_of(input->desc, i);
		int			group = 0;

		foreach(lc, aggregate->group_columns)
		{
			if (lfirst_int(lc) == i)
				group = foreach_current_index(lc) + 1;
		}
		if (number == 0)
			result = lappend(result, var);
		else if (group > 0)
			result = lappend(result, ivm_column_of(source->desc, group));
		else
			result = lappend(result, makeNullConst(var->vartype, var->vartypmod, var->varcollid));
	}
	result = lappend(result, stream_number(number));
	foreach(lc, streams)
	{
		Stream	   *stream = (Stream *) lfirst(lc);

		foreach(lc2, stream->values)
		{
			Node	   *value = (Node *) lfirst(lc2);

			if (number == foreach_current_index(lc) + 1)
				result = lappend(result, ivm_column_of(source->desc, ngroups + foreach_current_index(lc2) + 1));
			else
				result = lappend(result, makeNullConst(exprType(value), exprTypmod(value), exprCollation(value)));
		}
	}
	return result;
}

bool
ivm_aggregate_add_streams(IvmCompiler *compiler, IvmPlanNode *node)
{
	IvmPlanNode *input = (IvmPlanNode *) linitial(node->inputs);
	int			column = input->desc->natts + 1;
	int			width = column;
	List	   *streams = NIL;
	IvmPlanNode *append;
	ListCell   *lc;

	foreach(lc, node->calls)
	{
		IvmAggregateCall *call = (IvmAggregateCall *) lfirst(lc);

		if (call->kind != IVM_ACC_REPLAY && call->aggref->aggdistinct != NIL)
			call->stream = find_stream(&streams, call->aggref);
	}
	if (streams == NIL)
		return true;
	foreach(lc, streams)
	{
		Stream	   *stream = (Stream *) lfirst(lc);

		stream->first = width + 1;
		width += list_length(stream->values);
	}
	if (width > MaxTupleAttributeNumber)
	{
		compiler->reason = ivm_reason(IVM_REASON_TOO_MANY_COLUMNS, "more columns and aggregates than a row can have");
		return false;
	}

	append = (IvmPlanNode *) palloc0(sizeof(IvmPlanNode));
	append->kind = IVM_APPEND;
	append->node_id = -1;
	append->inputs = list_make1(make_map(input, stream_columns(node, input, streams, 0, NULL), NIL));
	foreach(lc, streams)
	{
		IvmPlanNode *distinct = make_distinct(node, input, (Stream *) lfirst(lc));
		List	   *columns = stream_columns(node, input, streams, foreach_current_index(lc) + 1, distinct);

		append->inputs = lappend(append->inputs, make_map(distinct, columns, NIL));
	}
	append->desc = CreateTupleDescCopy(((IvmPlanNode *) linitial(append->inputs))->desc);
	foreach(lc, node->calls)
	{
		IvmAggregateCall *call = (IvmAggregateCall *) lfirst(lc);

		call->shown = call->aggref;
		if (call->stream > 0)
			call->aggref = read_stream(call->aggref, (Stream *) list_nth(streams, call->stream - 1), column, call->stream);
		else
		{
			call->aggref = copyObject(call->aggref);
			call->aggref->aggfilter = filter_by_stream(column, 0, call->aggref->aggfilter);
		}
	}
	node->inputs = list_make1(append);
	return true;
}
