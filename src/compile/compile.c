/*-------------------------------------------------------------------------
 *
 * compile.c
 *	  From a view's query to its delta plan: the stages in their order.
 *
 * All work is done in a context that is thrown away at the end; a plan, which
 * lives for months, is copied out of it.
 *
 * Nodes are numbered when the tree is final, inputs before their readers, so
 * that a plan's numbers say nothing about how it was found.  Paths of joins come
 * after that.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "base/debug_point.h"
#include "base/settings.h"
#include "catalog/heap.h"
#include "catalog/pg_class.h"
#include "compile/compiler.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "plan/plan_text.h"
#include "plan/plan_walk.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/typcache.h"

typedef struct QueryCheckContext
{
	const char *view_name;
	bool		exists;
	List	   *relations;		/* that the query names */
} QueryCheckContext;

void
ivm_compile_init(void)
{
	ivm_planning_init();
}

static void
check_query(Query *query, void *context)
{
	QueryCheckContext *check = (QueryCheckContext *) context;
	IvmUnsupported *found = ivm_query_check(query);

	if (found != NULL)
		ivm_unsupported_raise(found, check->view_name, check->exists);
	check->relations = ivm_query_relations(query);
	ivm_query_order_aggregates(query);
}

/* ---- stages ---- */

static PlannedStmt *
plan_query(Query *query, const char *view_name, bool exists, List **relations)
{
	QueryCheckContext check;
	PlannedStmt *statement;
	IvmUnsupported *found;
	ListCell   *lc;

	check.view_name = view_name;
	check.exists = exists;
	statement = ivm_query_plan(copyObject(query), check_query, &check);

	found = ivm_statement_check(statement);
	if (found != NULL)
		ivm_unsupported_raise(found, view_name, exists);
	if (ivm_plan_visible_columns(statement->planTree) == NULL)
	{
		IvmUnsupported no_columns = {ERRCODE_FEATURE_NOT_SUPPORTED, "The query has no columns.", NULL};

		ivm_unsupported_raise(&no_columns, view_name, false);
	}

	/* before anything is made: a column of such a type could not be stored */
	foreach(lc, statement->planTree->targetlist)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (!tle->resjunk)
			CheckAttributeType(tle->resname, exprType((Node *) tle->expr),
							   exprCollation((Node *) tle->expr), NIL, 0);
	}

	/* the owner may have lost a right since the query was written */
	ExecCheckRTPerms(statement->rtable, true);
	*relations = check.relations;
	return statement;
}

static bool
find_shared_subplans(Plan *plan, void *context)
{
	Bitmapset **shared = (Bitmapset **) context;

	if (IsA(plan, CteScan))
		*shared = bms_add_member(*shared, ((CteScan *) plan)->ctePlanId);
	return false;
}

/* Settles the order of aggregates' rows; removes columns that nobody reads from the tree and from the CTEs. */
static void
narrow_statement(PlannedStmt *statement)
{
	Bitmapset  *shared = NULL;
	int			number = -1;

	ivm_plan_expand_rows(statement);
	ivm_statement_order_aggregates(statement);
	statement->planTree = ivm_plan_narrow(statement->planTree,
										  ivm_plan_visible_columns(statement->planTree));

	ivm_plan_walk(statement, statement->planTree, find_shared_subplans, &shared);
	while ((number = bms_next_member(shared, number)) >= 0)
	{
		ListCell   *cell = list_nth_cell(statement->subplans, number - 1);
		Plan	   *plan = (Plan *) lfirst(cell);
		int			natts = list_length(plan->targetlist);

		if (natts > 0)
			lfirst(cell) = ivm_plan_narrow(plan, bms_add_range(NULL, 1, natts));
	}
}

static bool
note_init_plans(Plan *plan, void *context)
{
	IvmCompiler *compiler = (IvmCompiler *) context;
	ListCell   *lc;
	ListCell   *lc2;

	foreach(lc, plan->initPlan)
	{
		SubPlan    *subplan = lfirst_node(SubPlan, lc);

		foreach(lc2, subplan->setParam)
			compiler->init_plans[lfirst_int(lc2)] = subplan;
	}
	return false;
}

/*
 * Numbers a node and those below it, inputs first, and returns it, or the one
 * equal to it that has been numbered before: equal subtrees are one operator with
 * several readers.
 */
static IvmPlanNode *
number_node(IvmPlan *plan, List **texts, IvmPlanNode *node)
{
	char	   *text;
	ListCell   *lc;
	ListCell   *lc2;

	check_stack_depth();
	if (node->node_id >= 0)
		return node;

	/* lists of inputs may belong to several nodes that were merged on the way */
	node->inputs = list_copy(node->inputs);
	foreach(lc, node->inputs)
		lfirst(lc) = number_node(plan, texts, (IvmPlanNode *) lfirst(lc));

	text = ivm_plan_operator_text(plan->statement, node);

	forboth(lc, *texts, lc2, plan->nodes)
	{
		if (strcmp((char *) lfirst(lc), text) == 0)
			return (IvmPlanNode *) lfirst(lc2);
	}

	node->node_id = list_length(plan->nodes);
	plan->nodes = lappend(plan->nodes, node);
	*texts = lappend(*texts, text);
	return node;
}

static void
collect_relids(IvmPlan *plan)
{
	ListCell   *lc;

	foreach(lc, plan->nodes)
	{
		plan->relids = list_concat_unique_oid(plan->relids, ((IvmPlanNode *) lfirst(lc))->relids);
	}
	list_sort(plan->relids, list_oid_cmp);
}

/* Can the columns be those of a unique index? */
static bool
key_can_be_indexed(TupleDesc desc, List *key)
{
	ListCell   *lc;

	foreach(lc, key)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, lfirst_int(lc) - 1);
		TypeCacheEntry *type = lookup_type_cache(attribute->atttypid,
												 TYPECACHE_BTREE_OPFAMILY | TYPECACHE_EQ_OPR);

		if (!OidIsValid(type->btree_opf) || !OidIsValid(type->eq_opr) ||
			!op_in_opfamily(type->eq_opr, type->btree_opf))
			return false;
	}
	return true;
}

static void
choose_key(IvmPlan *plan)
{
	List	   *keys = ivm_plan_keys(plan->statement, plan->statement->planTree);
	List	   *best = NIL;
	ListCell   *lc;

	foreach(lc, keys)
	{
		List	   *key = (List *) lfirst(lc);

		if (key == NIL)
		{
			plan->single_row = true;
			return;
		}
		if ((best == NIL || list_length(key) < list_length(best)) &&
			key_can_be_indexed(plan->root->desc, key))
			best = key;
	}

	plan->key = best;
	foreach(lc, best)
		plan->key_operators = lappend_oid(plan->key_operators,
										  ivm_type_equality(TupleDescAttr(plan->root->desc, lfirst_int(lc) - 1)->atttypid));
}

/* The view's own column names, where it exists. */
static void
name_output(IvmPlan *plan)
{
	Relation	relation;
	TupleDesc	desc;

	if (!OidIsValid(plan->relid))
		return;
	relation = relation_open(plan->relid, NoLock);
	desc = RelationGetDescr(relation);
	if (desc->natts == plan->root->desc->natts)
	{
		for (int i = 0; i < desc->natts; i++)
			namestrcpy(&TupleDescAttr(plan->root->desc, i)->attname,
					   NameStr(TupleDescAttr(desc, i)->attname));
	}
	relation_close(relation, NoLock);
}

static void
translate_statement(IvmCompiler *compiler, List *named)
{
	IvmPlan    *plan = compiler->plan;
	PlannedStmt *statement = plan->statement;
	int			nsubplans = list_length(statement->subplans);
	List	   *texts = NIL;
	ListCell   *lc;

	compiler->statement = statement;
	foreach(lc, statement->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if (rte->security_barrier)
			compiler->has_barrier = true;
	}
	compiler->init_plans = (SubPlan **) palloc0(sizeof(SubPlan *) * (list_length(statement->paramExecTypes) + 1));
	ivm_plan_walk(statement, statement->planTree, note_init_plans, compiler);
	compiler->shared = (IvmPlanNode **) palloc0(sizeof(IvmPlanNode *) * (nsubplans + 1));
	compiler->shared_failed = (bool *) palloc0(sizeof(bool) * (nsubplans + 1));
	compiler->shared_reason = (IvmReason **) palloc0(sizeof(IvmReason *) * (nsubplans + 1));

	plan->root = ivm_translate(compiler, statement->planTree);
	if (plan->root == NULL)
		elog(ERROR, "could not compile the query: %s", compiler->reason->text);

	plan->root = number_node(plan, &texts, plan->root);
	collect_relids(plan);
	ivm_plan_find_trees(plan, named);
	ivm_plan_identify_nodes(plan);
	foreach(lc, plan->nodes)
	{
		IvmPlanNode *node = (IvmPlanNode *) lfirst(lc);

		ivm_node_kind(node)->complete(compiler, node);
	}
}

/* ---- entry points ---- */

IvmPlan *
ivm_compile(Query *query, Oid relid, const char *view_name,
			List *settings, List *owned_state, const char *stored, MemoryContext parent)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "ivm plan", ALLOCSET_SMALL_SIZES);
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "ivm compile", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(scratch);
	IvmCompiler compiler = {0};
	IvmPlan    *plan = (IvmPlan *) palloc0(sizeof(IvmPlan));
	List	   *named;

	plan->context = context;
	plan->relid = relid;
	plan->settings = settings;

	compiler.plan = plan;
	compiler.view_name = view_name;
	compiler.owned_state = owned_state;
	compiler.stored = stored;

	/*
	 * nodes point into the planner's tree, so that has to be in its place
	 * first
	 */
	plan->statement = plan_query(query, view_name, OidIsValid(relid), &named);
	ivm_debug_point("compile-planned");
	narrow_statement(plan->statement);
	MemoryContextSwitchTo(context);
	plan->statement = copyObject(plan->statement);
	MemoryContextSwitchTo(scratch);

	translate_statement(&compiler, named);
	name_output(plan);
	choose_key(plan);
	plan->text = ivm_plan_text(plan);
	plan->fingerprint = ivm_plan_fingerprint(plan);

	MemoryContextSwitchTo(context);
	plan = ivm_plan_copy(plan);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(scratch);

	/* an error until here would have taken it away with the caller's context */
	MemoryContextSetParent(context, parent);
	return plan;
}

IvmPlan *
ivm_compile_view(Oid relid, List *settings, List *owned_state, const char *stored, MemoryContext parent)
{
	Relation	relation = table_open(relid, AccessShareLock);
	RewriteRule *rule;
	Query	   *query;
	IvmPlan    *plan;
	char	   *name;

	if (relation->rd_rel->relkind != RELKIND_MATVIEW ||
		relation->rd_rules == NULL || relation->rd_rules->numLocks != 1)
		elog(ERROR, "relation \"%s\" is not a materialized view", RelationGetRelationName(relation));
	rule = relation->rd_rules->rules[0];
	if (rule->event != CMD_SELECT || !rule->isInstead || list_length(rule->actions) != 1)
		elog(ERROR, "the rule for materialized view \"%s\" is not a SELECT INSTEAD OF rule",
			 RelationGetRelationName(relation));

	/* the relation's rules live as long as its cache entry does */
	query = copyObject(linitial_node(Query, rule->actions));
	name = pstrdup(RelationGetRelationName(relation));
	table_close(relation, NoLock);

	plan = ivm_compile(query, relid, name, settings, owned_state, stored, parent);
	return plan;
}

IvmPlan *
ivm_compile_arrangement(IvmPlan *plan, IvmArrangement *arrangement, Oid state_table, MemoryContext parent)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "ivm arrangement plan",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	IvmPlan		draft = {0};
	IvmPlan    *result;

	Assert(arrangement->kind == IVM_ARRANGE_STATE && arrangement->shared);

	draft.context = context;
	draft.relid = state_table;
	draft.settings = plan->settings;
	draft.nodes = list_copy(arrangement->input->inputs);
	draft.nodes = lappend(draft.nodes, arrangement->input);
	draft.root = arrangement->input;
	draft.arrangements = list_make1(arrangement);
	collect_relids(&draft);

	draft.statement = copyObject(plan->statement);
	draft.statement->planTree = copyObject(arrangement->input->plan);
	draft.text = arrangement->text;
	draft.fingerprint = ivm_plan_fingerprint(&draft);

	result = ivm_plan_copy(&draft);
	result->root->plan = result->statement->planTree;

	MemoryContextSwitchTo(caller);
	MemoryContextSetParent(context, parent);
	return result;
}

void
ivm_compile_report_fallbacks(IvmPlan *plan, const char *view_name)
{
	ListCell   *lc;
	ListCell   *lc2;

	foreach(lc, plan->nodes)
	{
		IvmPlanNode *node = (IvmPlanNode *) lfirst(lc);
		StringInfoData tables;

		if (node->kind != IVM_RECOMPUTE)
			continue;

		initStringInfo(&tables);
		foreach(lc2, node->relids)
			appendStringInfo(&tables, "%s\"%s\"", tables.len > 0 ? ", " : "",
							 get_rel_name(lfirst_oid(lc2)));

		if (ivm_fallback == IVM_FALLBACK_ERROR)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("incremental view \"%s\" cannot be maintained by deltas alone", view_name),
					 errdetail("There is no delta rule for %s.", node->reason->text),
					 errhint("Set ivm.fallback to \"recompute\" to have this part of the query run again when a table of it changes.")));
		ereport(NOTICE,
				(errmsg("a part of incremental view \"%s\" will be recomputed when a table of it changes", view_name),
				 errdetail("There is no delta rule for %s. Tables: %s.", node->reason->text, tables.data)));
	}
}
