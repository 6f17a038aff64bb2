/*-------------------------------------------------------------------------
 *
 * aggregate_order.c
 *	  The order in which an aggregate function sees its rows.
 *
 * Where the result depends on that order the query leaves it open, in whole or where its
 * ORDER BY has ties, and the server takes the rows as they come.  A view has to be
 * a function of the tables' rows.  So the order is made complete, in the statement: behind
 * what the query asks for come the arguments, each by the default order of its
 * type, and where equal values may look different, ROW(arguments) by the
 * operator *<, which compares images.  It holds for whatever runs the statement or a part
 * of it: the accumulators, the executor when it recomputes, ivm.verify.
 *
 * It is made complete in the query, before that is planned, since an aggregation by hash cannot sort the rows of
 * a group, and the planner has to know; and once more in the plan, for what it took from functions: there an
 * aggregation that has become one by hash is left as it is.
 *
 * The server's own functions that depend on order are known by their names: that one has a combine
 * function says nothing of them.  Of the user's, one without a combine function and without an
 * inverse is taken for such.  Where DISTINCT is asked for as well, the order is that of the
 * distinct values, which have no ties.
 *
 * Costs: where the executor runs the query, a sort for each group.
 *
 * Memory: in the statement's context, which is current.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/namespace.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_type.h"
#include "compile/compiler.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_clause.h"
#include "plan/plan_walk.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"
#include "zset/key.h"

static const char *const ordered_functions[] = {
	"array_agg", "string_agg", "json_agg", "json_agg_strict", "jsonb_agg", "jsonb_agg_strict",
	"json_object_agg", "json_object_agg_strict", "json_object_agg_unique", "json_object_agg_unique_strict",
	"jsonb_object_agg", "jsonb_object_agg_strict", "jsonb_object_agg_unique", "jsonb_object_agg_unique_strict",
	"xmlagg", "any_value"
};

bool
ivm_aggregate_depends_on_order(Oid function, bool given)
{
	HeapTuple	tuple;
	Form_pg_aggregate form;
	bool		result;

	if (function < FirstNormalObjectId)
	{
		char	   *name = get_func_name(function);

		for (int i = 0; name != NULL && i < lengthof(ordered_functions); i++)
		{
			if (strcmp(name, ordered_functions[i]) == 0)
				return true;
		}
		return false;
	}
	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(function));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for aggregate %u", function);
	form = (Form_pg_aggregate) GETSTRUCT(tuple);
	result = !OidIsValid(form->aggcombinefn) && (given || !OidIsValid(form->aggminvtransfn));
	ReleaseSysCache(tuple);
	return result;
}

static Oid
image_operator(const char *name)
{
	return OpernameGetOprid(list_make2(makeString("pg_catalog"), makeString(pstrdup(name))), RECORDOID, RECORDOID);
}

static SortGroupClause *
make_clause(Aggref *aggref, TargetEntry *entry, Oid less, Oid equal)
{
	SortGroupClause *clause = makeNode(SortGroupClause);

	clause->tleSortGroupRef = assignSortGroupRef(entry, aggref->args);
	clause->sortop = less;
	clause->eqop = equal;
	return clause;
}

/* The row of the arguments. */
static TargetEntry *
row_of_arguments(Aggref *aggref)
{
	RowExpr    *row = makeNode(RowExpr);
	ListCell   *lc;

	row->row_typeid = RECORDOID;
	row->row_format = COERCE_EXPLICIT_CALL;
	row->location = -1;
	foreach(lc, aggref->args)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, lc);

		if (entry->resjunk)
			continue;
		row->args = lappend(row->args, copyObject(entry->expr));
		row->colnames = lappend(row->colnames, makeString(psprintf("f%d", list_length(row->args))));
	}
	return makeTargetEntry((Expr *) row, list_length(aggref->args) + 1, NULL, true);
}

void
ivm_aggregate_complete_order(Aggref *aggref)
{
	Oid			image_less = image_operator("*<");
	bool		looks_vary = false;
	ListCell   *lc;
	ListCell   *lc2;

	foreach(lc, aggref->aggorder)
	{
		if (lfirst_node(SortGroupClause, lc)->sortop == image_less)
			return;
	}
	foreach(lc, aggref->args)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, lc);
		Oid			type = exprType((Node *) entry->expr);
		TypeCacheEntry *cache;
		Oid			equality = InvalidOid;

		if (entry->resjunk || IsA(entry->expr, Const))
			continue;
		foreach(lc2, aggref->aggorder)
		{
			SortGroupClause *clause = lfirst_node(SortGroupClause, lc2);

			if (equal(get_sortgroupclause_expr(clause, aggref->args), entry->expr))
				equality = clause->eqop;
		}
		if (!OidIsValid(equality) && type != RECORDOID)
		{
			cache = lookup_type_cache(type, TYPECACHE_LT_OPR | TYPECACHE_EQ_OPR);
			if (OidIsValid(cache->lt_opr) && OidIsValid(cache->eq_opr))
			{
				equality = cache->eq_opr;
				aggref->aggorder = lappend(aggref->aggorder, make_clause(aggref, entry, cache->lt_opr, equality));
			}
		}
		looks_vary |= !OidIsValid(equality) ||
			!ivm_equality_is_of_images(type, equality, exprCollation((Node *) entry->expr));
	}
	if (looks_vary)
	{
		TargetEntry *entry = row_of_arguments(aggref);

		aggref->args = lappend(aggref->args, entry);
		aggref->aggorder = lappend(aggref->aggorder, make_clause(aggref, entry, image_less, image_operator("*=")));
	}
}

/* Is it a call?  Its order is made complete then, if that matters. */
static bool
complete_order_of(Node *node)
{
	Aggref	   *aggref = (Aggref *) node;

	if (!IsA(node, Aggref))
		return false;
	if (aggref->aggkind == AGGKIND_NORMAL && aggref->aggdistinct == NIL && aggref->args != NIL &&
		ivm_aggregate_depends_on_order(aggref->aggfnoid, aggref->aggorder != NIL))
		ivm_aggregate_complete_order(aggref);
	return true;
}

static bool
complete_orders(Node *node, void *context)
{
	if (node == NULL)
		return false;
	return complete_order_of(node) ? false : expression_tree_walker(node, complete_orders, context);
}

static bool
complete_query(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, complete_query, context, 0);
	(void) complete_order_of(node);
	return expression_tree_walker(node, complete_query, context);
}

void
ivm_query_order_aggregates(Query *query)
{
	(void) query_tree_walker(query, complete_query, NULL, 0);
}

static bool
visit_node(Plan *plan, void *context)
{
	ListCell   *lc;

	if (IsA(plan, Agg) && (((Agg *) plan)->aggstrategy == AGG_HASHED || ((Agg *) plan)->aggstrategy == AGG_MIXED))
		return false;
	foreach(lc, ivm_plan_expressions(plan))
		(void) complete_orders((Node *) lfirst(lc), NULL);
	return false;
}

void
ivm_statement_order_aggregates(PlannedStmt *statement)
{
	ivm_plan_walk(statement, statement->planTree, visit_node, NULL);
}
