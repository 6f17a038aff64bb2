/*-------------------------------------------------------------------------
 *
 * plan_walk.c
 *	  Walking the planner's finished plan trees.
 *
 * The server has walkers for expressions and for plan states, but none for
 * finished plans.  What a plan node contains is listed here once: its
 * children, its expressions, the subplans that it refers to.  Everybody who
 * asks "which tables are read below here" or "which functions are called"
 * goes through it, so a field forgotten here would be a table whose changes
 * go unnoticed: when a server version adds a plan node or a field, this is the
 * file to look at.
 *
 * Expressions that a node keeps twice (in original form, for EXPLAIN or for
 * rechecks) are listed once.  Expressions of run-time partition pruning are
 * left out: they repeat quals that the pruned children have.
 *
 * Memory: result lists in the current context; no state.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "parser/parsetree.h"
#include "plan/plan_walk.h"

typedef struct SubplanContext
{
	Bitmapset  *subplans;
} SubplanContext;

typedef struct WalkContext
{
	PlannedStmt *statement;
	Bitmapset  *visited;		/* subplans */
	IvmPlanVisitor visit;
	void	   *context;
} WalkContext;

typedef struct RelidContext
{
	PlannedStmt *statement;
	List	   *relids;
} RelidContext;

List *
ivm_plan_children(Plan *plan)
{
	List	   *children = NIL;

	if (plan->lefttree != NULL)
		children = lappend(children, plan->lefttree);
	if (plan->righttree != NULL)
		children = lappend(children, plan->righttree);

	switch (nodeTag(plan))
	{
		case T_Append:
			children = list_concat(children, ((Append *) plan)->appendplans);
			break;
		case T_MergeAppend:
			children = list_concat(children, ((MergeAppend *) plan)->mergeplans);
			break;
		case T_BitmapAnd:
			children = list_concat(children, ((BitmapAnd *) plan)->bitmapplans);
			break;
		case T_BitmapOr:
			children = list_concat(children, ((BitmapOr *) plan)->bitmapplans);
			break;
		case T_SubqueryScan:
			children = lappend(children, ((SubqueryScan *) plan)->subplan);
			break;
		case T_CustomScan:
			children = list_concat(children, ((CustomScan *) plan)->custom_plans);
			break;
		default:
			break;
	}

	return children;
}

List *
ivm_plan_expressions(Plan *plan)
{
	List	   *trees = NIL;
	ListCell   *lc;

#define ADD(field) \
	do { \
		if ((field) != NULL) \
			trees = lappend(trees, (void *) (field)); \
	} while (0)

	ADD(plan->targetlist);
	ADD(plan->qual);
	ADD(plan->initPlan);

	switch (nodeTag(plan))
	{
		case T_Result:
			ADD(((Result *) plan)->resconstantqual);
			break;
		case T_SampleScan:
			ADD(((SampleScan *) plan)->tablesample);
			break;
		case T_IndexScan:
			ADD(((IndexScan *) plan)->indexqual);
			ADD(((IndexScan *) plan)->indexorderby);
			break;
		case T_IndexOnlyScan:
			ADD(((IndexOnlyScan *) plan)->indexqual);
			ADD(((IndexOnlyScan *) plan)->recheckqual);
			ADD(((IndexOnlyScan *) plan)->indexorderby);
			break;
		case T_BitmapIndexScan:
			ADD(((BitmapIndexScan *) plan)->indexqual);
			break;
		case T_BitmapHeapScan:
			ADD(((BitmapHeapScan *) plan)->bitmapqualorig);
			break;
		case T_TidScan:
			ADD(((TidScan *) plan)->tidquals);
			break;
		case T_TidRangeScan:
			ADD(((TidRangeScan *) plan)->tidrangequals);
			break;
		case T_FunctionScan:
			ADD(((FunctionScan *) plan)->functions);
			break;
		case T_ValuesScan:
			ADD(((ValuesScan *) plan)->values_lists);
			break;
		case T_TableFuncScan:
			ADD(((TableFuncScan *) plan)->tablefunc);
			break;
		case T_ForeignScan:
			ADD(((ForeignScan *) plan)->fdw_exprs);
			ADD(((ForeignScan *) plan)->fdw_recheck_quals);
			break;
		case T_CustomScan:
			ADD(((CustomScan *) plan)->custom_exprs);
			break;
		case T_NestLoop:
			ADD(((Join *) plan)->joinqual);
			foreach(lc, ((NestLoop *) plan)->nestParams)
				ADD(((NestLoopParam *) lfirst(lc))->paramval);
			break;
		case T_MergeJoin:
			ADD(((Join *) plan)->joinqual);
			ADD(((MergeJoin *) plan)->mergeclauses);
			break;
		case T_HashJoin:
			ADD(((Join *) plan)->joinqual);
			ADD(((HashJoin *) plan)->hashclauses);
			ADD(((HashJoin *) plan)->hashkeys);
			break;
		case T_Hash:
			ADD(((Hash *) plan)->hashkeys);
			break;
		case T_Memoize:
			ADD(((Memoize *) plan)->param_exprs);
			break;
		case T_WindowAgg:
			ADD(((WindowAgg *) plan)->startOffset);
			ADD(((WindowAgg *) plan)->endOffset);
			ADD(((WindowAgg *) plan)->runCondition);
			break;
		case T_Limit:
			ADD(((Limit *) plan)->limitOffset);
			ADD(((Limit *) plan)->limitCount);
			break;
		default:
			break;
	}
#undef ADD

	return trees;
}

static bool
find_subplans(Node *node, SubplanContext *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, SubPlan))
		context->subplans = bms_add_member(context->subplans, ((SubPlan *) node)->plan_id);
	return expression_tree_walker(node, find_subplans, context);
}

Bitmapset *
ivm_plan_subplans(Plan *plan)
{
	SubplanContext context = {NULL};
	List	   *trees = ivm_plan_expressions(plan);
	ListCell   *lc;

	foreach(lc, trees)
		find_subplans((Node *) lfirst(lc), &context);
	if (IsA(plan, CteScan))
		context.subplans = bms_add_member(context.subplans, ((CteScan *) plan)->ctePlanId);
	list_free(trees);

	return context.subplans;
}

static bool
walk(Plan *plan, WalkContext *context)
{
	Bitmapset  *subplans;
	List	   *children;
	ListCell   *lc;
	int			number = -1;

	if (plan == NULL)
		return false;

	check_stack_depth();
	CHECK_FOR_INTERRUPTS();

	if (context->visit(plan, context->context))
		return true;

	subplans = ivm_plan_subplans(plan);
	while ((number = bms_next_member(subplans, number)) >= 0)
	{
		if (bms_is_member(number, context->visited))
			continue;
		context->visited = bms_add_member(context->visited, number);
		if (walk((Plan *) list_nth(context->statement->subplans, number - 1), context))
			return true;
	}

	children = ivm_plan_children(plan);
	foreach(lc, children)
	{
		if (walk((Plan *) lfirst(lc), context))
			return true;
	}
	list_free(children);

	return false;
}

bool
ivm_plan_walk(PlannedStmt *statement, Plan *plan, IvmPlanVisitor visit, void *context)
{
	WalkContext walk_context;

	walk_context.statement = statement;
	walk_context.visited = NULL;
	walk_context.visit = visit;
	walk_context.context = context;

	return walk(plan, &walk_context);
}

static bool
collect_subplans(Plan *plan, void *context)
{
	Bitmapset **subplans = (Bitmapset **) context;

	*subplans = bms_join(*subplans, ivm_plan_subplans(plan));
	return false;
}

Bitmapset *
ivm_plan_all_subplans(PlannedStmt *statement, Plan *plan)
{
	Bitmapset  *subplans = NULL;

	(void) ivm_plan_walk(statement, plan, collect_subplans, &subplans);
	return subplans;
}

Index
ivm_plan_scan_relation(PlannedStmt *statement, Plan *plan)
{
	Index		scanrelid;

	switch (nodeTag(plan))
	{
		case T_SeqScan:
		case T_SampleScan:
		case T_IndexScan:
		case T_IndexOnlyScan:
		case T_BitmapHeapScan:
		case T_TidScan:
		case T_TidRangeScan:
		case T_ForeignScan:
		case T_CustomScan:
			scanrelid = ((Scan *) plan)->scanrelid;
			break;
		default:
			return 0;
	}

	if (scanrelid == 0 ||
		rt_fetch(scanrelid, statement->rtable)->rtekind != RTE_RELATION)
		return 0;
	return scanrelid;
}

static bool
collect_relid(Plan *plan, void *context)
{
	RelidContext *relids = (RelidContext *) context;
	Bitmapset  *scanned = NULL;
	int			number = ivm_plan_scan_relation(relids->statement, plan);

	/* a custom scan may read several at once */
	if (IsA(plan, CustomScan))
		scanned = bms_copy(((CustomScan *) plan)->custom_relids);
	if (number != 0)
		scanned = bms_add_member(scanned, number);

	number = -1;
	while ((number = bms_next_member(scanned, number)) >= 0)
	{
		RangeTblEntry *rte = rt_fetch(number, relids->statement->rtable);

		if (rte->rtekind == RTE_RELATION)
			relids->relids = list_append_unique_oid(relids->relids, rte->relid);
	}
	return false;
}

List *
ivm_plan_relids(PlannedStmt *statement, Plan *plan)
{
	RelidContext context;

	context.statement = statement;
	context.relids = NIL;
	ivm_plan_walk(statement, plan, collect_relid, &context);
	list_sort(context.relids, list_oid_cmp);

	return context.relids;
}
