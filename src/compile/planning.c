/*-------------------------------------------------------------------------
 *
 * planning.c
 *	  Asking the planner for a plain logical tree.
 *
 * A delta plan must not depend on statistics or on which indexes happen to
 * exist, or every ANALYZE would make another one.  So while a view's query is
 * planned, hooks tell the planner that every table has the same size, no
 * indexes and no statistics, and all settings that influence plans have fixed
 * values, most of which only say: no parallelism, no merge joins, no index
 * paths.  What is left decides on what matters here, the structure.
 *
 * Incremental views in the query are replaced by their own queries, as the
 * rewriter does with ordinary views, so that a view on a view is maintained
 * from the tables.
 *
 * The row-security conditions that the rewriter adds are those of the view's
 * owner, who is the current user.  The user's name in them is replaced by what it
 * is now: it is part of the plan from then on.
 *
 * Other extensions have hooks in the planner, too: with what they add to a plan
 * or its paths there would be nothing to translate, and what they know of a query
 * was prepared in their planner_hook, which is not called here, since it may do
 * anything with the query.  So while we plan there are no hooks but our own.
 *
 * Partitions that the executor would leave out are read: to find out it opens their parents, which
 * nobody has locked, since they have no rows.
 *
 * Functions that the planner calls to fold constants leave no trace in the plan.
 * Which ones these were is noted, so that whoever keeps the plan hears of their
 * being replaced.
 *
 * Our hooks do nothing unless the process is in the middle of such a planning.
 *
 * Memory: everything in the current context.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/transam.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "compile/compiler.h"
#include "executor/executor.h"
#include "metadata/metadata.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/paths.h"
#include "optimizer/plancat.h"
#include "optimizer/planner.h"
#include "parser/parsetree.h"
#include "plan/plan_walk.h"
#include "rewrite/prs2lock.h"
#include "rewrite/rewriteHandler.h"
#include "rewrite/rewriteManip.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/selfuncs.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

/* What every table looks like to the planner. */
#define PLANNING_PAGES 1000
#define PLANNING_TUPLES 100000.0
#define PLANNING_WIDTH 8

typedef struct ExpandContext
{
	List	   *active;			/* views being expanded */
} ExpandContext;

/* Is the planner at work for us? */
static bool planning = false;

/* Functions that it calls, and that these call; NULL: nobody asks. */
static List *called = NIL;
static MemoryContext called_context = NULL;

static object_access_hook_type previous_access_hook = NULL;
static get_relation_info_hook_type previous_relation_info_hook = NULL;
static get_relation_stats_hook_type previous_relation_stats_hook = NULL;
static get_index_stats_hook_type previous_index_stats_hook = NULL;
static get_attavgwidth_hook_type previous_attavgwidth_hook = NULL;

/* Settings while planning: the server's defaults, but for what asks for a plain tree. */
static const struct
{
	const char *name;
	const char *value;
}			planning_settings[] = {
	{"enable_seqscan", "on"},
	{"enable_indexscan", "off"},
	{"enable_indexonlyscan", "off"},
	{"enable_bitmapscan", "off"},
	{"enable_tidscan", "off"},
	{"enable_nestloop", "off"},
	{"enable_mergejoin", "off"},
	{"enable_hashjoin", "on"},
	{"enable_hashagg", "on"},
	{"enable_sort", "on"},
	{"enable_incremental_sort", "off"},
	{"enable_material", "on"},
	{"enable_memoize", "off"},
	{"enable_gathermerge", "off"},
	{"enable_parallel_append", "off"},
	{"enable_parallel_hash", "off"},
	{"enable_partition_pruning", "on"},
	{"enable_partitionwise_aggregate", "off"},
	{"enable_partitionwise_join", "off"},
	{"max_parallel_workers_per_gather", "0"},
	{"force_parallel_mode", "off"},
	{"jit", "off"},
	{"constraint_exclusion", "partition"},
	{"cursor_tuple_fraction", "1"},
	{"recursive_worktable_factor", "10"},
	{"geqo", "on"},
	{"geqo_threshold", "12"},
	{"geqo_effort", "5"},
	{"geqo_pool_size", "0"},
	{"geqo_generations", "0"},
	{"geqo_selection_bias", "2"},
	{"geqo_seed", "0"},
	{"from_collapse_limit", "8"},
	{"join_collapse_limit", "8"},
	{"seq_page_cost", "1"},
	{"random_page_cost", "4"},
	{"cpu_tuple_cost", "0.01"},
	{"cpu_index_tuple_cost", "0.005"},
	{"cpu_operator_cost", "0.0025"},
	{"effective_cache_size", "4GB"},
	{"work_mem", "64MB"},
	{"hash_mem_multiplier", "2"}
};

/* ---- hooks ---- */

static void
relation_info_hook(PlannerInfo *root, Oid relid, bool inhparent, RelOptInfo *rel)
{
	if (!planning)
	{
		if (previous_relation_info_hook)
			previous_relation_info_hook(root, relid, inhparent, rel);
		return;
	}

	rel->indexlist = NIL;
	rel->statlist = NIL;
	rel->pages = PLANNING_PAGES;
	rel->tuples = PLANNING_TUPLES;
	rel->allvisfrac = 0;
	rel->rel_parallel_workers = -1;
}

static bool
relation_stats_hook(PlannerInfo *root, RangeTblEntry *rte, AttrNumber attnum, VariableStatData *vardata)
{
	if (planning)
	{
		vardata->statsTuple = NULL;
		return true;
	}
	if (previous_relation_stats_hook)
		return previous_relation_stats_hook(root, rte, attnum, vardata);
	return false;
}

static bool
index_stats_hook(PlannerInfo *root, Oid index, AttrNumber attnum, VariableStatData *vardata)
{
	if (planning)
	{
		vardata->statsTuple = NULL;
		return true;
	}
	if (previous_index_stats_hook)
		return previous_index_stats_hook(root, index, attnum, vardata);
	return false;
}

static int32
attavgwidth_hook(Oid relid, AttrNumber attnum)
{
	if (planning)
		return PLANNING_WIDTH;
	if (previous_attavgwidth_hook)
		return previous_attavgwidth_hook(relid, attnum);
	return 0;
}

static void
note_called_function(ObjectAccessType access, Oid class, Oid object, int subobject, void *argument)
{
	if (called_context != NULL && access == OAT_FUNCTION_EXECUTE && object >= FirstNormalObjectId)
	{
		MemoryContext old = MemoryContextSwitchTo(called_context);

		called = list_append_unique_oid(called, object);
		MemoryContextSwitchTo(old);
	}
	if (previous_access_hook)
		previous_access_hook(access, class, object, subobject, argument);
}

double
ivm_planned_share(IvmPlanNode *input)
{
	double		sum = 0;
	ListCell   *lc;

	if (input->kind == IVM_SCAN && input->quals != NIL)
		return Min(input->plan->plan_rows / PLANNING_TUPLES, 1);
	if (input->kind != IVM_APPEND || input->inputs == NIL)
		return 1;
	foreach(lc, input->inputs)
		sum += ivm_planned_share((IvmPlanNode *) lfirst(lc));
	return sum / list_length(input->inputs);
}

void
ivm_planning_init(void)
{
	previous_access_hook = object_access_hook;
	object_access_hook = note_called_function;
	previous_relation_info_hook = get_relation_info_hook;
	get_relation_info_hook = relation_info_hook;
	previous_relation_stats_hook = get_relation_stats_hook;
	get_relation_stats_hook = relation_stats_hook;
	previous_index_stats_hook = get_index_stats_hook;
	get_index_stats_hook = index_stats_hook;
	previous_attavgwidth_hook = get_attavgwidth_hook;
	get_attavgwidth_hook = attavgwidth_hook;
}

/* ---- expanding incremental views ---- */

static Query *expand(Query *query, ExpandContext *context);

static Query *
rewrite_select(Query *query)
{
	List	   *rewritten;

	AcquireRewriteLocks(query, true, false);
	rewritten = QueryRewrite(query);
	if (list_length(rewritten) != 1)
		elog(ERROR, "unexpected rewrite result for the query of a view");
	query = linitial_node(Query, rewritten);
	if (query->commandType != CMD_SELECT)
		elog(ERROR, "the query of a view is not a SELECT");
	return query;
}

/* The view's own query, rewritten; the view is locked. */
static Query *
view_query(Oid relid)
{
	Relation	relation = table_open(relid, NoLock);
	RewriteRule *rule;
	Query	   *query;

	if (relation->rd_rules == NULL || relation->rd_rules->numLocks < 1)
		elog(ERROR, "materialized view \"%s\" is missing rewrite information",
			 RelationGetRelationName(relation));
	rule = relation->rd_rules->rules[0];
	if (rule->event != CMD_SELECT || !rule->isInstead || list_length(rule->actions) != 1)
		elog(ERROR, "the rule for materialized view \"%s\" is not a SELECT INSTEAD OF rule",
			 RelationGetRelationName(relation));
	query = copyObject(linitial_node(Query, rule->actions));
	table_close(relation, NoLock);

	return rewrite_select(query);
}

static bool
expand_walker(Node *node, ExpandContext *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		(void) expand((Query *) node, context);
		return false;
	}
	return expression_tree_walker(node, expand_walker, context);
}

/* Replaces the current user's name by a constant. */
static Node *
fix_user_mutator(Node *node, void *context)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, SQLValueFunction))
	{
		SQLValueFunction *value = (SQLValueFunction *) node;

		if (value->op == SVFOP_CURRENT_USER || value->op == SVFOP_CURRENT_ROLE || value->op == SVFOP_USER)
		{
			Name		name = (Name) palloc0(NAMEDATALEN);

			namestrcpy(name, GetUserNameFromId(GetUserId(), false));
			return (Node *) makeConst(NAMEOID, -1, C_COLLATION_OID, NAMEDATALEN,
									  NameGetDatum(name), false, false);
		}
	}
	if (IsA(node, Query))
		return (Node *) query_tree_mutator((Query *) node, fix_user_mutator, context, 0);
	return expression_tree_mutator(node, fix_user_mutator, context);
}

/*
 * A view's contents are those of its query under the view's own settings.  Its
 * query, put into another one, is evaluated under that one's: where the result
 * may depend on them they have to be the same.
 */
static void
check_view_settings(Oid relid, Query *subquery)
{
	IvmViewRow *row;
	ListCell   *lc;

	if (!contain_mutable_functions((Node *) subquery))
		return;
	row = ivm_metadata_get(relid);
	if (row == NULL)
		return;
	foreach(lc, row->settings)
	{
		List	   *pair = (List *) lfirst(lc);
		const char *name = strVal(linitial(pair));
		const char *value = GetConfigOption(name, true, false);

		if (value == NULL || strcmp(value, strVal(lsecond(pair))) == 0)
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot read incremental view \"%s\" under other settings than its own",
						get_rel_name(relid)),
				 errdetail("The view was made with %s set to \"%s\", and its query may depend on that.",
						   name, strVal(lsecond(pair))),
				 errhint("Set %s to the same value before creating the view that reads it.", name)));
	}
}

/* Replaces incremental views in the query and in all its subqueries, in place. */
static Query *
expand(Query *query, ExpandContext *context)
{
	int			number = 0;
	ListCell   *lc;

	check_stack_depth();
	CHECK_FOR_INTERRUPTS();

	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		rte->securityQuals = (List *) fix_user_mutator((Node *) rte->securityQuals, NULL);
	}

	/*
	 * first what is there now, then what is put in: each level is visited
	 * once
	 */
	(void) query_tree_walker(query, expand_walker, context, 0);

	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);
		RangeTblEntry *old;
		Query	   *subquery;
		Oid			relid = rte->relid;

		number++;
		if (rte->rtekind != RTE_RELATION || rte->relkind != RELKIND_MATVIEW ||
			!rangeTableEntry_used((Node *) query, number, 0) ||
			!ivm_relation_is_incremental(relid))
			continue;

		if (list_member_oid(context->active, relid))
			elog(ERROR, "incremental view %u reads itself", relid);
		context->active = lappend_oid(context->active, relid);
		subquery = view_query(relid);
		check_view_settings(relid, subquery);
		subquery = expand(subquery, context);
		context->active = list_delete_last(context->active);

		query->hasRowSecurity |= subquery->hasRowSecurity;

		/*
		 * as the rewriter does with views; the right to read it is checked at
		 * its OLD entry
		 */
		rte->rtekind = RTE_SUBQUERY;
		rte->subquery = subquery;
		rte->security_barrier = false;
		rte->relkind = 0;
		rte->rellockmode = 0;
		rte->tablesample = NULL;
		rte->inh = false;

		old = rt_fetch(PRS2_OLD_VARNO, subquery->rtable);
		if (old->relid != relid)
			elog(ERROR, "the query of materialized view %u has no entry for itself", relid);
		old->requiredPerms = rte->requiredPerms;
		old->checkAsUser = rte->checkAsUser;
		old->selectedCols = rte->selectedCols;

		rte->requiredPerms = 0;
		rte->checkAsUser = InvalidOid;
		rte->selectedCols = NULL;
	}
	return query;
}

/* ---- planning ---- */

/* Hooks that a planning calls. */
typedef struct PlannerHooks
{
	planner_hook_type planner;
	create_upper_paths_hook_type upper_paths;
	set_rel_pathlist_hook_type rel_pathlist;
	set_join_pathlist_hook_type join_pathlist;
	join_search_hook_type join_search;
	get_relation_info_hook_type relation_info;
	get_relation_stats_hook_type relation_stats;
	get_index_stats_hook_type index_stats;
	get_attavgwidth_hook_type attavgwidth;
} PlannerHooks;

static PlannerHooks others;		/* while planning */

static PlannedStmt *plan_nested(Query *query, const char *source, int options, ParamListInfo params);

/* Those that we have none for have to be NULL. */
static const PlannerHooks ours = {
	.planner = plan_nested,
	.rel_pathlist = ivm_tree_set_size,
	.relation_info = relation_info_hook,
	.relation_stats = relation_stats_hook,
	.index_stats = index_stats_hook,
	.attavgwidth = attavgwidth_hook
};

static PlannerHooks
swap_hooks(PlannerHooks hooks)
{
	PlannerHooks old = {planner_hook, create_upper_paths_hook, set_rel_pathlist_hook, set_join_pathlist_hook, join_search_hook,
	get_relation_info_hook, get_relation_stats_hook, get_index_stats_hook, get_attavgwidth_hook};

	planner_hook = hooks.planner;
	create_upper_paths_hook = hooks.upper_paths;
	set_rel_pathlist_hook = hooks.rel_pathlist;
	set_join_pathlist_hook = hooks.join_pathlist;
	join_search_hook = hooks.join_search;
	get_relation_info_hook = hooks.relation_info;
	get_relation_stats_hook = hooks.relation_stats;
	get_index_stats_hook = hooks.index_stats;
	get_attavgwidth_hook = hooks.attavgwidth;
	return old;
}

/* A query of a function that the planner calls to fold a constant: that is planned as ever. */
static PlannedStmt *
plan_nested(Query *query, const char *source, int options, ParamListInfo params)
{
	PlannerHooks saved = others;
	PlannedStmt *statement;

	planning = false;
	(void) swap_hooks(saved);
	PG_TRY();
	{
		statement = planner(query, source, options, params);
	}
	PG_FINALLY();
	{
		/* whatever was planned in there has its own end */
		others = swap_hooks(ours);
		planning = true;
	}
	PG_END_TRY();
	return statement;
}

/* Makes the functions that were called while planning dependencies of the plan. */
static void
note_called(PlannedStmt *statement)
{
	ListCell   *lc;

	foreach(lc, called)
	{
		PlanInvalItem *item = makeNode(PlanInvalItem);

		item->cacheId = PROCOID;
		item->hashValue = GetSysCacheHashValue1(PROCOID, ObjectIdGetDatum(lfirst_oid(lc)));
		statement->invalItems = lappend(statement->invalItems, item);
	}
}

static bool
forget_pruning(Plan *plan, void *context)
{
	if (IsA(plan, Append))
		((Append *) plan)->part_prune_info = NULL;
	else if (IsA(plan, MergeAppend))
		((MergeAppend *) plan)->part_prune_info = NULL;
	return false;
}

PlannedStmt *
ivm_query_plan(Query *query, IvmQueryCheck check, void *context)
{
	ExpandContext expand_context = {NIL};
	PlannedStmt *statement;
	bool		pushed = false;
	int			nest_level;

	query = expand(rewrite_select(query), &expand_context);
	check(query, context);

	if (!ActiveSnapshotSet())
	{
		PushActiveSnapshot(GetTransactionSnapshot());
		pushed = true;
	}

	nest_level = NewGUCNestLevel();
	for (int i = 0; i < lengthof(planning_settings); i++)
		(void) set_config_option(planning_settings[i].name, planning_settings[i].value,
								 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);

	Assert(!planning);
	called = NIL;
	called_context = CurrentMemoryContext;
	others = swap_hooks(ours);
	PG_TRY();
	{
		planning = true;
		statement = standard_planner(query, NULL, 0, NULL);
		note_called(statement);
	}
	PG_FINALLY();
	{
		planning = false;
		called = NIL;
		called_context = NULL;
		(void) swap_hooks(others);
	}
	PG_END_TRY();

	AtEOXact_GUC(false, nest_level);
	if (pushed)
		PopActiveSnapshot();

	(void) ivm_plan_walk(statement, statement->planTree, forget_pruning, NULL);
	return statement;
}
