/*-------------------------------------------------------------------------
 *
 * aggregate.c
 *	  Grouping: how each aggregate function is kept up to date.
 *
 * A group is kept as one accumulator for each aggregate call.  What an
 * accumulator needs is a way to take a row out again:
 *
 *	- count() counts;
 *	- a function with a moving-aggregate implementation brings its inverse;
 *	- one whose moving state has the type "internal" can be stored if it is the
 *	  same state that the function's serialization functions know, which is so
 *	  if plain and moving implementation share their transition function, and if
 *	  a trial shows that a stored state goes on as before;
 *	- sums of floats, and of their products, are kept exactly, since adding and subtracting them rounded
 *	  would drift away from what the query gives;
 *	- bool_and and bool_or are counts, bit_and, bit_or and bit_xor one for each bit;
 *
 *	- min, max and whatever else gives the first value in the order of an operator keep the value, and find
 *	  the next one in an ordered arrangement (accumulator_extreme.c);
 *	- a function with a combine function, which says that the order of rows is no matter, and
 *	  a state that can be stored goes forward with what comes; when something goes, the rows
 *	  of the group are read again;
 *	- of all others the result is stored, and computed from the rows of the group when
 *	  that changes: ordered-set aggregates, what depends on the order of rows
 *	  (aggregate_order.c).  Of percentiles that may have large groups the places are kept instead
 *	  (group_rows.c, accumulator_rank.c).
 *
 * With DISTINCT the first of these read a stream of distinct values (distinct_calls.c), the others
 * count among the last.
 *
 * For the latter two the rows are looked up by the group columns; without GROUP BY all of
 * them are read.  If one call of a node has a result that cannot be stored, the whole node is
 * recomputed.
 *
 * The group columns are the node's, and behind them every other column of the
 * input that the target list or HAVING reads outside of aggregate calls: the
 * planner drops group columns that depend on others by a primary key.
 *
 * DISTINCT is grouping by all columns without any call.
 *
 * Memory: everything in the plan's context, which is current.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/transam.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_operator_d.h"
#include "catalog/pg_type.h"
#include "base/moving_aggregate.h"
#include "compile/compiler.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "plan/order_key.h"
#include "plan/plan_text.h"
#include "plan/column.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "zset/key.h"

/* While the expressions of an Agg node are taken apart. */
typedef struct AggregateContext
{
	IvmCompiler *compiler;
	IvmPlanNode *node;
	bool		failed;
} AggregateContext;

static Node *number_mutator(Node *node, AggregateContext *context);

static char *
function_name(Oid function)
{
	char	   *name = get_func_name(function);

	return name != NULL ? name : "?";
}

/* Can the call be taken back by the function's own inverse, and the state be stored?  Sets *kind. */
static bool
has_inverse(Aggref *aggref, Form_pg_aggregate form, IvmAccumulatorKind *kind)
{
	if (!OidIsValid(form->aggmtransfn) || !OidIsValid(form->aggminvtransfn))
		return false;
	if (form->aggmfinalmodify != AGGMODIFY_READ_ONLY ||
		aggref->aggvariadic || form->aggmfinalextra || IsPolymorphicType(form->aggmtranstype))
		return false;
	*kind = IVM_ACC_MOVING;
	if (form->aggmtranstype != INTERNALOID)
		return true;
	*kind = IVM_ACC_MOVING_SERIAL;
	return form->aggtranstype == INTERNALOID &&
		form->aggtransfn == form->aggmtransfn &&
		OidIsValid(form->aggserialfn) && OidIsValid(form->aggdeserialfn) &&
		OidIsValid(form->aggcombinefn) &&
		ivm_moving_survives_storing(aggref);
}

/* Can rows be added to a stored state, in any order? */
static bool
goes_forward(Aggref *aggref, Form_pg_aggregate form)
{
	return OidIsValid(form->aggcombinefn) &&
		form->aggfinalmodify == AGGMODIFY_READ_ONLY &&
		get_typtype(aggref->aggtranstype) != TYPTYPE_PSEUDO &&
		!ivm_aggregate_depends_on_order(aggref->aggfnoid, false);
}

IvmOrderKey *
ivm_order_of_extreme(Aggref *aggref, Oid sort_operator, bool *backward)
{
	IvmOrderKey *key = (IvmOrderKey *) palloc0(sizeof(IvmOrderKey));
	Oid			family;
	Oid			type;
	int16		strategy;

	if (!get_ordering_op_properties(sort_operator, &family, &type, &strategy))
		return NULL;
	*backward = strategy == BTGreaterStrategyNumber;
	key->expr = linitial_node(TargetEntry, aggref->args)->expr;
	key->sort_operator = get_opfamily_member(family, type, type, BTLessStrategyNumber);
	key->collation = aggref->inputcollid;
	return key;
}

/* Is it the first value in an order that can be kept? */
static bool
is_extreme(Aggref *aggref, Form_pg_aggregate form)
{
	IvmOrderKey *key;
	bool		backward;

	if (!OidIsValid(form->aggsortop) || list_length(aggref->args) != 1 || aggref->aggvariadic ||
		exprType((Node *) linitial_node(TargetEntry, aggref->args)->expr) != aggref->aggtype)
		return false;
	key = ivm_order_of_extreme(aggref, form->aggsortop, &backward);
	return key != NULL && OidIsValid(key->sort_operator) && ivm_order_key_can_be_stored(key) &&
		OidIsValid(ivm_order_key_class(key, &backward));
}

static Oid
aggregate_sort_operator(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(function));
	Oid			result;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for aggregate %u", function);
	result = ((Form_pg_aggregate) GETSTRUCT(tuple))->aggsortop;
	ReleaseSysCache(tuple);
	return result;
}

static IvmAccumulatorKind
kind_of_function(Aggref *aggref)
{
	IvmAccumulatorKind kind = IVM_ACC_REPLAY;
	HeapTuple	tuple;
	Form_pg_aggregate form;

	switch (aggref->aggfnoid)
	{
		case F_COUNT_:
		case F_COUNT_ANY:
			return IVM_ACC_COUNT;
		case F_SUM_FLOAT4:
		case F_SUM_FLOAT8:
		case F_AVG_FLOAT4:
		case F_AVG_FLOAT8:
			return IVM_ACC_FLOAT_SUM;
		case F_BOOL_AND:
		case F_BOOL_OR:
		case F_EVERY:
			return IVM_ACC_BOOL;
		case F_BIT_AND_INT2:
		case F_BIT_AND_INT4:
		case F_BIT_AND_INT8:
		case F_BIT_OR_INT2:
		case F_BIT_OR_INT4:
		case F_BIT_OR_INT8:
		case F_BIT_XOR_INT2:
		case F_BIT_XOR_INT4:
		case F_BIT_XOR_INT8:
			return IVM_ACC_BITS;
		case F_VAR_POP_FLOAT4:
		case F_VAR_POP_FLOAT8:
		case F_VAR_SAMP_FLOAT4:
		case F_VAR_SAMP_FLOAT8:
		case F_VARIANCE_FLOAT4:
		case F_VARIANCE_FLOAT8:
		case F_STDDEV_POP_FLOAT4:
		case F_STDDEV_POP_FLOAT8:
		case F_STDDEV_SAMP_FLOAT4:
		case F_STDDEV_SAMP_FLOAT8:
		case F_STDDEV_FLOAT4:
		case F_STDDEV_FLOAT8:
		case F_REGR_COUNT:
		case F_REGR_SXX:
		case F_REGR_SYY:
		case F_REGR_SXY:
		case F_REGR_AVGX:
		case F_REGR_AVGY:
		case F_REGR_R2:
		case F_REGR_SLOPE:
		case F_REGR_INTERCEPT:
		case F_COVAR_POP:
		case F_COVAR_SAMP:
		case F_CORR:
			return IVM_ACC_MOMENTS;
		default:
			break;
	}

	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(aggref->aggfnoid));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for aggregate %u", aggref->aggfnoid);
	form = (Form_pg_aggregate) GETSTRUCT(tuple);
	if (is_extreme(aggref, form))
		kind = IVM_ACC_EXTREME;
	else if (!has_inverse(aggref, form, &kind))
		kind = goes_forward(aggref, form) ? IVM_ACC_FORWARD : IVM_ACC_REPLAY;
	ReleaseSysCache(tuple);
	return kind;
}

/* The arguments without those that are only ordered by. */
static void
drop_order(Aggref *aggref)
{
	List	   *args = NIL;
	ListCell   *lc;

	foreach(lc, aggref->args)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, lc);

		entry->ressortgroupref = 0;
		if (!entry->resjunk)
			args = lappend(args, entry);
	}
	aggref->args = args;
	aggref->aggorder = NIL;
}

/* Is the result the same whether a value is there once or several times? */
static bool
is_idempotent(Aggref *aggref)
{
	switch (aggref->aggfnoid)
	{
		case F_BOOL_AND:
		case F_BOOL_OR:
		case F_EVERY:
		case F_BIT_AND_INT2:
		case F_BIT_AND_INT4:
		case F_BIT_AND_INT8:
		case F_BIT_OR_INT2:
		case F_BIT_OR_INT4:
		case F_BIT_OR_INT8:
			return true;
		default:
			return false;
	}
}

/* Sets *kind, and simplifies the call; or returns why it has no accumulator. */
static IvmReason *
classify(AggregateContext *context, Aggref *aggref, IvmAccumulatorKind *kind)
{
	*kind = IVM_ACC_REPLAY;
	/* the first value in an order is the same however often and in whichever order values come */
	if (aggref->aggkind == AGGKIND_NORMAL && OidIsValid(aggregate_sort_operator(aggref->aggfnoid)))
	{
		drop_order(aggref);
		aggref->aggdistinct = NIL;
	}
	if (aggref->aggkind == AGGKIND_NORMAL && aggref->aggdistinct != NIL &&
		(is_idempotent(aggref) ||
		 (!ivm_aggregate_depends_on_order(aggref->aggfnoid, true) &&
		  ivm_distinct_is_of_key(context->compiler, context->node, aggref))))
		aggref->aggdistinct = NIL;
	if (aggref->aggkind == AGGKIND_NORMAL &&
		!ivm_aggregate_depends_on_order(aggref->aggfnoid, aggref->aggorder != NIL || aggref->aggdistinct != NIL))
	{
		IvmAccumulatorKind plain = kind_of_function(aggref);

		if (aggref->aggdistinct == NIL)
		{
			drop_order(aggref);
			*kind = plain;
		}
		else if (plain != IVM_ACC_FORWARD && plain != IVM_ACC_REPLAY && ivm_distinct_can_be_stream(aggref))
			*kind = plain;
	}
	if (*kind == IVM_ACC_REPLAY && get_typtype(aggref->aggtype) == TYPTYPE_PSEUDO)
		return ivm_reason(IVM_REASON_AGGREGATE_STATE, "aggregate %s(), whose result cannot be stored", function_name(aggref->aggfnoid));
	return NULL;
}

/* Number of the group column that is the input's column, added if there is none; 0 on failure. */
static int
group_column(AggregateContext *context, Var *var)
{
	IvmPlanNode *node = context->node;
	Oid			equality;
	ListCell   *lc;
	int			number = 0;

	foreach(lc, node->group_columns)
	{
		number++;
		if (lfirst_int(lc) == var->varattno)
			return number;
	}

	equality = ivm_type_equality(var->vartype);
	if (!OidIsValid(equality))
	{
		context->compiler->reason = ivm_reason(IVM_REASON_NO_EQUALITY, "grouping by a column of type %s, which has no equality",
											   format_type_be(var->vartype));
		context->failed = true;
		return 0;
	}
	node->group_columns = lappend_int(node->group_columns, var->varattno);
	node->group_operators = lappend_oid(node->group_operators, equality);
	node->group_collations = lappend_oid(node->group_collations, var->varcollid);
	return number + 1;
}

/* Number of the call, added if there is no equal one; 0 on failure. */
static int
aggregate_call(AggregateContext *context, Aggref *aggref)
{
	IvmPlanNode *node = context->node;
	IvmAggregateCall *call;
	IvmAccumulatorKind kind = IVM_ACC_MOVING;
	IvmReason  *reason;
	ListCell   *lc;
	int			number = 0;

	if (!ivm_expression_is_plain(context->compiler, (Node *) aggref->args) ||
		!ivm_expression_is_plain(context->compiler, (Node *) aggref->aggdirectargs) ||
		!ivm_expression_is_plain(context->compiler, (Node *) aggref->aggfilter))
	{
		context->failed = true;
		return 0;
	}
	aggref = copyObject(aggref);
	reason = classify(context, aggref, &kind);
	if (reason != NULL)
	{
		context->compiler->reason = reason;
		context->failed = true;
		return 0;
	}

	/* over the group's columns */
	aggref->aggdirectargs = (List *) number_mutator((Node *) aggref->aggdirectargs, context);
	if (context->failed)
		return 0;
	aggref->args = (List *) ivm_expression_renumber((Node *) aggref->args, OUTER_VAR, 1);
	aggref->aggfilter = (Expr *) ivm_expression_renumber((Node *) aggref->aggfilter, OUTER_VAR, 1);

	/* what the planner shares by number differs in nothing else */
	aggref->aggno = -1;
	aggref->aggtransno = -1;

	foreach(lc, node->calls)
	{
		number++;
		if (equal(((IvmAggregateCall *) lfirst(lc))->aggref, aggref))
			return number;
	}

	call = (IvmAggregateCall *) palloc0(sizeof(IvmAggregateCall));
	call->aggref = aggref;
	call->kind = kind;
	if (kind == IVM_ACC_EXTREME)
		call->sort_operator = aggregate_sort_operator(aggref->aggfnoid);
	node->calls = lappend(node->calls, call);
	return number + 1;
}

/*
 * First pass: finds group columns and calls.  The second one, below, numbers
 * them: calls come behind all group columns, whose number is known only then.
 */
static bool
collect(Node *node, AggregateContext *context)
{
	if (node == NULL || context->failed)
		return context->failed;
	if (IsA(node, Var))
	{
		group_column(context, (Var *) node);
		return context->failed;
	}
	if (IsA(node, Aggref))
	{
		aggregate_call(context, (Aggref *) node);
		return context->failed;
	}
	switch (nodeTag(node))
	{
		case T_GroupingFunc:
			return false;
		case T_Param:
		case T_SubPlan:
		case T_AlternativeSubPlan:
			ivm_expression_is_plain(context->compiler, node);
			context->failed = true;
			return true;
		default:
			break;
	}
	return expression_tree_walker(node, collect, context);
}

static Node *
number_mutator(Node *node, AggregateContext *context)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var))
		return (Node *) ivm_column_like(1, group_column(context, (Var *) node), node);
	if (IsA(node, Aggref))
		return (Node *) ivm_column_like(1, list_length(context->node->group_columns) +
								   aggregate_call(context, (Aggref *) node), node);
	/* there is one set, with all columns; else it has been replaced (grouping_sets.c) */
	if (IsA(node, GroupingFunc))
		return (Node *) makeConst(INT4OID, -1, InvalidOid, sizeof(int32), Int32GetDatum(0), false, true);
	return expression_tree_mutator(node, number_mutator, context);
}

IvmPlanNode *
ivm_group_node_over(IvmCompiler *compiler, Plan *plan, IvmPlanNode *input, int ncolumns, AttrNumber *columns,
					Oid *operators, Oid *collations)
{
	IvmPlanNode *node = ivm_node_create(compiler, IVM_AGGREGATE, plan);

	node->inputs = list_make1(input);
	for (int i = 0; i < ncolumns; i++)
	{
		if (list_member_int(node->group_columns, columns[i]))
			continue;
		node->group_columns = lappend_int(node->group_columns, columns[i]);
		node->group_operators = lappend_oid(node->group_operators, operators[i]);
		node->group_collations = lappend_oid(node->group_collations, collations[i]);
	}
	return node;
}

IvmPlanNode *
ivm_group_node_create(IvmCompiler *compiler, Plan *plan, int ncolumns, AttrNumber *columns,
					  Oid *operators, Oid *collations)
{
	IvmPlanNode *input = ivm_translate(compiler, ivm_plan_skip_passive(plan->lefttree));

	if (input == NULL)
		return NULL;
	return ivm_group_node_over(compiler, plan, input, ncolumns, columns, operators, collations);
}

IvmPlanNode *
ivm_group_node_finish(IvmCompiler *compiler, IvmPlanNode *node, List *targetlist, List *quals)
{
	List	   *expressions = ivm_tlist_expressions(targetlist);
	AggregateContext context;

	context.compiler = compiler;
	context.node = node;
	context.failed = false;

	collect((Node *) expressions, &context);
	if (!context.failed)
		collect((Node *) quals, &context);
	if (context.failed)
		return NULL;
	if (list_length(node->group_columns) + list_length(node->calls) + IVM_GROUP_OTHER_COLUMNS > MaxTupleAttributeNumber)
	{
		compiler->reason = ivm_reason(IVM_REASON_TOO_MANY_COLUMNS, "more columns and aggregates than a row can have");
		return NULL;
	}

	node->tlist = (List *) number_mutator((Node *) expressions, &context);
	node->quals = (List *) number_mutator((Node *) quals, &context);
	if (!ivm_aggregate_add_streams(compiler, node))
		return NULL;
	return node;
}

IvmPlanNode *
ivm_translate_aggregate(IvmCompiler *compiler, Plan *plan)
{
	Agg		   *agg = (Agg *) plan;
	IvmPlanNode *node;

	if (agg->aggsplit != AGGSPLIT_SIMPLE)
	{
		compiler->reason = ivm_reason(IVM_REASON_AGGREGATE_PARTIAL, "partial aggregation");
		return NULL;
	}
	if (agg->groupingSets != NIL)
		return ivm_translate_grouping_sets(compiler, plan);

	node = ivm_group_node_create(compiler, plan, agg->numCols, agg->grpColIdx,
								 agg->grpOperators, agg->grpCollations);
	if (node == NULL)
		return NULL;
	node->grand = agg->aggstrategy == AGG_PLAIN;
	return ivm_group_node_finish(compiler, node, plan->targetlist, plan->qual);
}

IvmPlanNode *
ivm_translate_group(IvmCompiler *compiler, Plan *plan)
{
	Group	   *group = (Group *) plan;
	IvmPlanNode *node;

	node = ivm_group_node_create(compiler, plan, group->numCols, group->grpColIdx,
								 group->grpOperators, group->grpCollations);
	if (node == NULL)
		return NULL;
	return ivm_group_node_finish(compiler, node, plan->targetlist, plan->qual);
}

/* DISTINCT by sorting; DISTINCT ON keeps the first row of each group instead (order.c). */
IvmPlanNode *
ivm_translate_unique(IvmCompiler *compiler, Plan *plan)
{
	Unique	   *unique = (Unique *) plan;
	IvmPlanNode *node;
	Bitmapset  *columns = NULL;

	for (int i = 0; i < unique->numCols; i++)
		columns = bms_add_member(columns, unique->uniqColIdx[i]);
	if (bms_num_members(columns) != list_length(plan->targetlist))
		return ivm_translate_distinct_on(compiler, plan);

	node = ivm_group_node_create(compiler, plan, unique->numCols, unique->uniqColIdx,
								 unique->uniqOperators, unique->uniqCollations);
	if (node == NULL)
		return NULL;
	return ivm_group_node_finish(compiler, node, plan->targetlist, NIL);
}
