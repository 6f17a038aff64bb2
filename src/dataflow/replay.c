/*-------------------------------------------------------------------------
 *
 * replay.c
 *	  States of aggregate functions from all rows of their groups.
 *
 * A call needs the rows of its group if its result is all that is stored (percentiles, array_agg, what has DISTINCT
 * or ORDER BY), or if its state cannot give back what has gone.  A pass computes such
 * calls for any number of groups at once: of each row that passes the filter the call's arguments are put
 * into a sort (zset/group_sort.c) by the number of the group and the call's
 * order, and then the groups are gone through one after the other.  A state that rows
 * can be added to gets them so; for the others the executor runs the aggregate (fragment.c).
 *
 * The order in which an aggregate sees its rows is the call's ORDER BY, which the compiler has made
 * complete where it matters (compile/aggregate_order.c), and behind it, whatever the function, all
 * arguments: so rows of one image come together, and what cancels out is not there.  The
 * result is a function of the group's rows alone.  As they are sorted, and their
 * DISTINCT done, before they come to the executor, it has neither to do.
 *
 * Direct arguments of ordered-set aggregates are parameters of the fragment, set for each
 * group.
 *
 * Costs: a copy and the sort of the arguments of all rows of the groups, for each call; some microseconds a
 * group for the executor to start again.
 *
 * Memory: the sorts share ivm_pin_limit(), and the executor's own get twice that as work_mem, a
 * quarter of what the process may hold.  One result.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_type_d.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/typcache.h"

#include "arrange/projection.h"
#include "dataflow/accumulator_internal.h"
#include "dataflow/fragment.h"
#include "dataflow/replay.h"
#include "memory/reclaim.h"
#include "zset/group_sort.h"
#include "zset/key.h"

/* The server's, in kilobytes. */
#define LEAST_WORK_MEM	64

/* How one call is computed. */
typedef struct ReplayCall
{
	IvmAccumulatorCall *call;
	TupleDesc	desc;			/* arguments, and what they are sorted by */
	ExprState **columns;
	IvmGroupOrder order;
	int			ndistinct;
	AttrNumber *distinct;
	FmgrInfo   *distinct_equal;
	Oid		   *distinct_collations;
	Plan	   *plan;			/* NULL: rows are added to the state */
	ParamListInfo params;
	List	   *param_states;	/* ExprState over the group's columns */
} ReplayCall;

struct IvmReplay
{
	int			ncalls;
	ReplayCall *calls;
	ExprContext *econtext;
};

/* One call in a pass. */
typedef struct PassCall
{
	ReplayCall *call;
	IvmGroupSort *sort;			/* NULL: no row has come */
	IvmFragment *fragment;		/* NULL: not started */

	/* of the present group */
	int64		group;
	int64		count;			/* rows so far */
	int64		again;			/* the present row comes so many times more */
	Datum	   *values;
	bool	   *isnull;
	bool		has_last;		/* for DISTINCT, of the last row */
	Datum	   *last;
	bool	   *last_isnull;
} PassCall;

struct IvmReplayPass
{
	IvmReplay  *replay;
	Snapshot	snapshot;
	bool		results_only;
	MemoryContext context;
	MemoryContext distinct_context;
	Size		memory;
	int			nest_level;
	PassCall   *calls;
	Datum	   *values;
	bool	   *isnull;
};

/*
 * How a call is computed
 */

static Oid
image_less(void)
{
	return OpernameGetOprid(list_make2(makeString("pg_catalog"), makeString("*<")), RECORDOID, RECORDOID);
}

/* The sort clause of an argument, or NULL. */
static SortGroupClause *
clause_of(List *clauses, TargetEntry *entry)
{
	ListCell   *lc;

	foreach(lc, clauses)
	{
		SortGroupClause *clause = lfirst_node(SortGroupClause, lc);

		if (entry->ressortgroupref != 0 && clause->tleSortGroupRef == entry->ressortgroupref)
			return clause;
	}
	return NULL;
}

static void
add_order(IvmGroupOrder *order, AttrNumber column, Oid operator, Oid collation, bool nulls_first)
{
	order->columns[order->ncolumns] = column;
	order->operators[order->ncolumns] = operator;
	order->collations[order->ncolumns] = collation;
	order->nulls_first[order->ncolumns++] = nulls_first;
}

/*
 * Sets the order of the arguments, and makes it complete.  Returns the arguments, and
 * behind them what else is sorted by.
 */
static List *
make_order(ReplayCall *call, Aggref *aggref)
{
	List	   *clauses = aggref->aggdistinct != NIL ? aggref->aggdistinct : aggref->aggorder;
	List	   *columns = NIL;
	int			size = list_length(clauses) + list_length(aggref->args) + 1;
	Oid			image = image_less();
	bool		complete = true;
	ListCell   *lc;

	call->order.columns = palloc(sizeof(AttrNumber) * size);
	call->order.operators = palloc(sizeof(Oid) * size);
	call->order.collations = palloc(sizeof(Oid) * size);
	call->order.nulls_first = palloc(sizeof(bool) * size);
	foreach(lc, clauses)
	{
		SortGroupClause *clause = lfirst_node(SortGroupClause, lc);
		TargetEntry *entry = get_sortgroupclause_tle(clause, aggref->args);

		add_order(&call->order, entry->resno, clause->sortop, exprCollation((Node *) entry->expr),
				  clause->nulls_first);
	}
	foreach(lc, aggref->args)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, lc);
		Oid			type = exprType((Node *) entry->expr);
		Oid			collation = exprCollation((Node *) entry->expr);
		SortGroupClause *clause = clause_of(clauses, entry);
		Oid			equality = clause == NULL ? InvalidOid : clause->eqop;

		columns = lappend(columns, entry->expr);
		if (IsA(entry->expr, Const) || (clause != NULL && clause->sortop == image))
			continue;
		if (clause == NULL && type != RECORDOID)
		{
			TypeCacheEntry *cache = lookup_type_cache(type, TYPECACHE_LT_OPR | TYPECACHE_EQ_OPR);

			if (OidIsValid(cache->lt_opr) && OidIsValid(cache->eq_opr))
			{
				equality = cache->eq_opr;
				add_order(&call->order, entry->resno, cache->lt_opr, collation, false);
			}
		}
		complete &= OidIsValid(equality) && ivm_equality_is_of_images(type, equality, collation);
	}
	if (!complete)
	{
		RowExpr    *row = makeNode(RowExpr);

		row->args = columns;
		row->row_typeid = RECORDOID;
		row->row_format = COERCE_EXPLICIT_CALL;
		row->location = -1;
		foreach(lc, columns)
			row->colnames = lappend(row->colnames, makeString(psprintf("f%d", foreach_current_index(lc) + 1)));
		columns = lappend(list_copy(columns), row);
		add_order(&call->order, list_length(columns), image, InvalidOid, false);
	}
	return columns;
}

static void
make_distinct(ReplayCall *call, Aggref *aggref)
{
	ListCell   *lc;

	call->distinct = palloc(sizeof(AttrNumber) * Max(list_length(aggref->aggdistinct), 1));
	call->distinct_equal = palloc(sizeof(FmgrInfo) * Max(list_length(aggref->aggdistinct), 1));
	call->distinct_collations = palloc(sizeof(Oid) * Max(list_length(aggref->aggdistinct), 1));
	foreach(lc, aggref->aggdistinct)
	{
		SortGroupClause *clause = lfirst_node(SortGroupClause, lc);
		TargetEntry *entry = get_sortgroupclause_tle(clause, aggref->args);

		call->distinct[call->ndistinct] = entry->resno;
		call->distinct_collations[call->ndistinct] = exprCollation((Node *) entry->expr);
		fmgr_info(get_opcode(clause->eqop), &call->distinct_equal[call->ndistinct++]);
	}
}

/* The aggregate over the leaf's rows, which come in order and once. */
static void
make_plan(ReplayCall *call, Aggref *aggref)
{
	Agg		   *agg = makeNode(Agg);
	List	   *args = NIL;
	bool		ordered_set = AGGKIND_IS_ORDERED_SET(aggref->aggkind);
	ListCell   *lc;

	aggref = copyObject(aggref);
	foreach(lc, aggref->args)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, lc);
		Node	   *expression = (Node *) entry->expr;

		if (!ordered_set && entry->resjunk)
			continue;
		entry->expr = (Expr *) makeVar(OUTER_VAR, entry->resno, exprType(expression), exprTypmod(expression),
									   exprCollation(expression), 0);
		if (!ordered_set)
			entry->ressortgroupref = 0;
		args = lappend(args, entry);
	}
	aggref->args = args;
	if (!ordered_set)
		aggref->aggorder = NIL;
	aggref->aggdistinct = NIL;
	aggref->aggfilter = NULL;
	aggref->aggno = 0;
	aggref->aggtransno = 0;
	if (aggref->aggdirectargs != NIL)
		call->params = makeParamList(list_length(aggref->aggdirectargs));
	foreach(lc, aggref->aggdirectargs)
	{
		Node	   *expression = lfirst(lc);
		Param	   *param = makeNode(Param);
		ParamExternData *data = &call->params->params[foreach_current_index(lc)];

		call->param_states = lappend(call->param_states, ExecInitExpr((Expr *) expression, NULL));
		param->paramkind = PARAM_EXTERN;
		param->paramid = foreach_current_index(lc) + 1;
		param->paramtype = exprType(expression);
		param->paramtypmod = exprTypmod(expression);
		param->paramcollid = exprCollation(expression);
		param->location = -1;
		data->ptype = param->paramtype;
		data->isnull = true;
		lfirst(lc) = param;
	}

	agg->aggstrategy = AGG_PLAIN;
	agg->aggsplit = AGGSPLIT_SIMPLE;
	agg->numGroups = 1;
	agg->plan.targetlist = list_make1(makeTargetEntry((Expr *) aggref, 1, NULL, false));
	agg->plan.lefttree = ivm_fragment_leaf(call->desc);
	call->plan = (Plan *) agg;
}

static void
make_call(ReplayCall *call, IvmAccumulatorCall *accumulator)
{
	Aggref	   *aggref = accumulator->aggref;
	List	   *columns = make_order(call, aggref);
	ListCell   *lc;

	call->call = accumulator;
	call->desc = ExecTypeFromExprList(columns);
	call->columns = palloc(sizeof(ExprState *) * Max(list_length(columns), 1));
	foreach(lc, columns)
		call->columns[foreach_current_index(lc)] = ExecInitExpr(lfirst(lc), NULL);
	make_distinct(call, aggref);
	if (accumulator->kind == IVM_ACC_REPLAY)
		make_plan(call, aggref);
}

IvmReplay *
ivm_replay_create(IvmAccumulators *accumulators)
{
	IvmReplay  *replay = palloc0(sizeof(IvmReplay));
	IvmAccumulatorCall *calls = ivm_accumulators_calls(accumulators, &replay->ncalls);

	replay->econtext = ivm_expr_context_create();
	replay->calls = palloc0(sizeof(ReplayCall) * Max(replay->ncalls, 1));
	for (int i = 0; i < replay->ncalls; i++)
		make_call(&replay->calls[i], &calls[i]);
	return replay;
}

/*
 * A pass
 */

IvmReplayPass *
ivm_replay_begin(IvmReplay *replay, Snapshot snapshot, bool results_only)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "ivm replay", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	IvmReplayPass *pass = palloc0(sizeof(IvmReplayPass));
	int			width = 1;

	pass->replay = replay;
	pass->snapshot = snapshot;
	pass->results_only = results_only;
	pass->context = context;
	pass->distinct_context = AllocSetContextCreate(context, "ivm distinct value", ALLOCSET_SMALL_SIZES);
	pass->memory = ivm_spill_is_forced("aggregate") ? 0 : ivm_pin_limit() / Max(replay->ncalls, 1);
	pass->calls = palloc0(sizeof(PassCall) * Max(replay->ncalls, 1));
	for (int i = 0; i < replay->ncalls; i++)
	{
		pass->calls[i].call = &replay->calls[i];
		pass->calls[i].last = palloc(sizeof(Datum) * Max(replay->calls[i].ndistinct, 1));
		pass->calls[i].last_isnull = palloc(sizeof(bool) * Max(replay->calls[i].ndistinct, 1));
		width = Max(width, replay->calls[i].desc->natts);
	}
	pass->values = palloc(sizeof(Datum) * width);
	pass->isnull = palloc(sizeof(bool) * width);
	MemoryContextSwitchTo(old);
	return pass;
}

/* Is the call computed in this pass, if its state says that it needs rows? */
static inline bool
computes(IvmReplayPass *pass, ReplayCall *call)
{
	return !pass->results_only || call->plan != NULL;
}

void
ivm_replay_add(IvmReplayPass *pass, int64 group, IvmAccumulatorState *states, TupleTableSlot *row, int64 weight)
{
	ExprContext *econtext = pass->replay->econtext;

	ResetExprContext(econtext);
	econtext->ecxt_scantuple = row;
	for (int i = 0; i < pass->replay->ncalls; i++)
	{
		ReplayCall *call = &pass->replay->calls[i];

		if (!states[i].incomplete || !computes(pass, call))
			continue;
		if (call->call->filter != NULL)
		{
			bool		isnull;
			Datum		passes = ExecEvalExprSwitchContext(call->call->filter, econtext, &isnull);

			if (isnull || !DatumGetBool(passes))
				continue;
		}
		for (int k = 0; k < call->desc->natts; k++)
			pass->values[k] = ExecEvalExprSwitchContext(call->columns[k], econtext, &pass->isnull[k]);
		if (pass->calls[i].sort == NULL)
		{
			MemoryContext old = MemoryContextSwitchTo(pass->context);

			pass->calls[i].sort = ivm_group_sort_create(call->desc, &call->order, pass->memory);
			MemoryContextSwitchTo(old);
		}
		ivm_group_sort_add(pass->calls[i].sort, group, pass->values, pass->isnull, weight);
	}
}

void
ivm_replay_perform(IvmReplayPass *pass)
{
	Size		kilobytes = ivm_pin_limit() * 2 / 1024;
	char	   *work_mem_text;

	kilobytes = Min(Max(kilobytes, LEAST_WORK_MEM), (Size) MAX_KILOBYTES);
	work_mem_text = psprintf("%d", (int) kilobytes);
	for (int i = 0; i < pass->replay->ncalls; i++)
		if (pass->calls[i].sort != NULL)
			ivm_group_sort_perform(pass->calls[i].sort);
	pass->nest_level = NewGUCNestLevel();
	(void) set_config_option("work_mem", work_mem_text, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	pfree(work_mem_text);
}

/* Does the present row differ from the last in what is distinct?  It is the last one then. */
static bool
is_distinct(IvmReplayPass *pass, PassCall *call)
{
	ReplayCall *plan = call->call;
	bool		equal = call->has_last;
	MemoryContext old = MemoryContextSwitchTo(pass->distinct_context);

	for (int i = 0; i < plan->ndistinct && equal; i++)
	{
		int			column = plan->distinct[i] - 1;

		if (call->isnull[column] || call->last_isnull[i])
			equal = call->isnull[column] && call->last_isnull[i];
		else
			equal = DatumGetBool(FunctionCall2Coll(&plan->distinct_equal[i], plan->distinct_collations[i],
												   call->last[i], call->values[column]));
	}
	if (!equal)
	{
		MemoryContextReset(pass->distinct_context);
		for (int i = 0; i < plan->ndistinct; i++)
		{
			int			column = plan->distinct[i] - 1;
			Form_pg_attribute attribute = TupleDescAttr(plan->desc, column);

			call->last_isnull[i] = call->isnull[column];
			call->last[i] = call->isnull[column] ? (Datum) 0 :
				datumCopy(call->values[column], attribute->attbyval, attribute->attlen);
		}
		call->has_last = true;
	}
	MemoryContextSwitchTo(old);
	return !equal;
}

/* Goes to the next row of the present group; "again" is set to its weight. */
static bool
next_row(IvmReplayPass *pass, PassCall *call)
{
	while (call->sort != NULL &&
		   ivm_group_sort_next(call->sort, call->group, &call->values, &call->isnull, &call->again))
	{
		if (call->again < 0)
			ivm_moving_complain();
		if (call->call->ndistinct == 0)
			return true;
		call->again = 1;
		if (is_distinct(pass, call))
			return true;
	}
	return false;
}

/* What the executor's leaf asks. */
typedef struct Feed
{
	IvmReplayPass *pass;
	PassCall   *call;
} Feed;

static bool
feed_row(void *context, Datum *values, bool *isnull)
{
	Feed	   *feed = context;
	PassCall   *call = feed->call;
	int			natts = call->call->desc->natts;

	CHECK_FOR_INTERRUPTS();
	if (call->again == 0 && !next_row(feed->pass, call))
		return false;
	call->again--;
	call->count++;
	memcpy(values, call->values, sizeof(Datum) * natts);
	memcpy(isnull, call->isnull, sizeof(bool) * natts);
	return true;
}

/* The result of the aggregate over the group's rows, by the executor. */
static void
run_aggregate(IvmReplayPass *pass, PassCall *call, IvmAccumulatorState *state, TupleTableSlot *group_row,
			  MemoryContext context)
{
	ExprContext *econtext = pass->replay->econtext;
	Feed		feed = {pass, call};
	TupleTableSlot *result;
	MemoryContext old;
	ListCell   *lc;

	ResetExprContext(econtext);
	econtext->ecxt_scantuple = group_row;
	foreach(lc, call->call->param_states)
	{
		ParamExternData *data = &call->call->params->params[foreach_current_index(lc)];

		data->value = ExecEvalExprSwitchContext(lfirst(lc), econtext, &data->isnull);
	}
	if (call->fragment == NULL)
	{
		old = MemoryContextSwitchTo(pass->context);
		call->fragment = ivm_fragment_start(call->call->plan, call->call->params, pass->snapshot);
		MemoryContextSwitchTo(old);
	}
	ivm_fragment_run(call->fragment, feed_row, &feed);
	result = ivm_fragment_next(call->fragment);
	if (result == NULL)
		elog(ERROR, "an aggregate gave no row");
	state->base.value = slot_getattr(result, 1, &state->base.isnull);
	state->base.count = call->count;
	if (!state->base.isnull)
	{
		Form_pg_attribute attribute = TupleDescAttr(result->tts_tupleDescriptor, 0);

		old = MemoryContextSwitchTo(context);
		state->base.value = datumCopy(state->base.value, attribute->attbyval, attribute->attlen);
		MemoryContextSwitchTo(old);
	}
}

/* Adds the group's rows to an empty state. */
static void
add_rows(IvmReplayPass *pass, PassCall *call, IvmAccumulatorState *state, MemoryContext context)
{
	IvmAccumulatorCall *accumulator = call->call->call;
	NullableDatum args[FUNC_MAX_ARGS + 1];

	memset(state, 0, sizeof(IvmAccumulatorState));
	accumulator->routine->init(accumulator, state, context);
	while (next_row(pass, call))
	{
		CHECK_FOR_INTERRUPTS();
		for (int k = 0; k < accumulator->nargs; k++)
		{
			args[k + 1].value = call->values[k];
			args[k + 1].isnull = call->isnull[k];
		}
		(void) accumulator->routine->add(accumulator, state, args, call->again, context);
	}
}

void
ivm_replay_finish(IvmReplayPass *pass, int64 group, IvmAccumulatorState *states,
				  TupleTableSlot *group_row, MemoryContext context)
{
	for (int i = 0; i < pass->replay->ncalls; i++)
	{
		PassCall   *call = &pass->calls[i];

		if (!states[i].incomplete || !computes(pass, call->call))
			continue;
		call->group = group;
		call->count = 0;
		call->again = 0;
		call->has_last = false;
		if (call->call->plan != NULL)
			run_aggregate(pass, call, &states[i], group_row, context);
		else
			add_rows(pass, call, &states[i], context);
		states[i].incomplete = false;
	}
}

void
ivm_replay_end(IvmReplayPass *pass)
{
	for (int i = 0; i < pass->replay->ncalls; i++)
	{
		if (pass->calls[i].fragment != NULL)
			ivm_fragment_end(pass->calls[i].fragment);
		if (pass->calls[i].sort != NULL)
			ivm_group_sort_destroy(pass->calls[i].sort);
	}
	AtEOXact_GUC(true, pass->nest_level);
	MemoryContextDelete(pass->context);
}
