/*-------------------------------------------------------------------------
 *
 * planner_hooks.c
 *	  An extension with hooks that rely on each other.
 *
 * As extensions for time series do, it prepares in its planner_hook what its
 * hooks for paths use without a further look, keeps a frame for every execution
 * between start and end, expects that a utility statement that it began comes
 * back to it, and that both of its hooks for shared memory were called, once.
 * What does not hold ends the server, or is an error.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "optimizer/paths.h"
#include "optimizer/plancat.h"
#include "optimizer/planner.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "tcop/utility.h"
#include "utils/builtins.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(hook_calls);
void		_PG_init(void);

/* What planner_hook prepares. */
typedef struct Planning
{
	struct Planning *outer;
	int			calls;
} Planning;

static Planning *volatile current = NULL;
static int64 plannings = 0;
static int64 upper_paths = 0;
static int64 relations = 0;
static int64 executions = 0;
static int64 utilities = 0;
static int	depth = 0;
static int *requested = NULL;
static bool was_requested = false;

static planner_hook_type next_planner;
static create_upper_paths_hook_type next_upper_paths;
static set_rel_pathlist_hook_type next_rel_pathlist;
static set_join_pathlist_hook_type next_join_pathlist;
static get_relation_info_hook_type next_relation_info;
static ExecutorStart_hook_type next_start;
static ExecutorEnd_hook_type next_end;
static ProcessUtility_hook_type next_utility;
static shmem_request_hook_type next_request;
static shmem_startup_hook_type next_startup;

static PlannedStmt *
plan(Query *query, const char *source, int options, ParamListInfo params)
{
	Planning	planning = {current, 0};
	PlannedStmt *result;

	plannings++;
	current = &planning;
	PG_TRY();
	{
		result = next_planner ? next_planner(query, source, options, params) :
			standard_planner(query, source, options, params);
	}
	PG_FINALLY();
	{
		current = planning.outer;
	}
	PG_END_TRY();
	return result;
}

static void
add_upper_paths(PlannerInfo *root, UpperRelationKind stage, RelOptInfo *input, RelOptInfo *output, void *extra)
{
	current->calls++;
	upper_paths++;
	if (next_upper_paths)
		next_upper_paths(root, stage, input, output, extra);
}

static void
add_rel_paths(PlannerInfo *root, RelOptInfo *rel, Index rti, RangeTblEntry *rte)
{
	current->calls++;
	if (next_rel_pathlist)
		next_rel_pathlist(root, rel, rti, rte);
}

static void
add_join_paths(PlannerInfo *root, RelOptInfo *joinrel, RelOptInfo *outerrel, RelOptInfo *innerrel,
			   JoinType jointype, JoinPathExtraData *extra)
{
	current->calls++;
	if (next_join_pathlist)
		next_join_pathlist(root, joinrel, outerrel, innerrel, jointype, extra);
}

static void
look_at_relation(PlannerInfo *root, Oid relation, bool inhparent, RelOptInfo *rel)
{
	/* CREATE INDEX asks the planner, too */
	if (current != NULL)
		current->calls++;
	relations++;
	if (next_relation_info)
		next_relation_info(root, relation, inhparent, rel);
}

static void
start(QueryDesc *query, int flags)
{
	executions++;
	if (query->sourceText == NULL || query->plannedstmt->planTree == NULL)
		elog(PANIC, "an execution without a text or a plan");
	if (next_start)
		next_start(query, flags);
	else
		standard_ExecutorStart(query, flags);
	if (query->planstate == NULL || query->estate == NULL)
		elog(PANIC, "an execution that was not started");
}

static void
end(QueryDesc *query)
{
	if (query->estate == NULL)
		elog(PANIC, "an execution ends that was not started");
	if (next_end)
		next_end(query);
	else
		standard_ExecutorEnd(query);
}

static void
utility(PlannedStmt *statement, const char *source, bool read_only, ProcessUtilityContext context,
		ParamListInfo params, QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion)
{
	utilities++;
	depth++;
	PG_TRY();
	{
		if (next_utility)
			next_utility(statement, source, read_only, context, params, environment, dest, completion);
		else
			standard_ProcessUtility(statement, source, read_only, context, params, environment, dest, completion);
	}
	PG_FINALLY();
	{
		depth--;
	}
	PG_END_TRY();
}

static void
request(void)
{
	if (next_request)
		next_request();
	if (was_requested)
		elog(PANIC, "shared memory is requested twice");
	was_requested = true;
	RequestAddinShmemSpace(sizeof(int));
}

static void
startup(void)
{
	bool		found;

	if (next_startup)
		next_startup();
	if (!was_requested)
		elog(PANIC, "shared memory was not requested");
	requested = ShmemInitStruct("planner_hooks", sizeof(int), &found);
}

void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
#define TAKE(hook, next, ours) do { next = hook; hook = ours; } while (0)
	TAKE(planner_hook, next_planner, plan);
	TAKE(create_upper_paths_hook, next_upper_paths, add_upper_paths);
	TAKE(set_rel_pathlist_hook, next_rel_pathlist, add_rel_paths);
	TAKE(set_join_pathlist_hook, next_join_pathlist, add_join_paths);
	TAKE(get_relation_info_hook, next_relation_info, look_at_relation);
	TAKE(ExecutorStart_hook, next_start, start);
	TAKE(ExecutorEnd_hook, next_end, end);
	TAKE(ProcessUtility_hook, next_utility, utility);
	TAKE(shmem_request_hook, next_request, request);
	TAKE(shmem_startup_hook, next_startup, startup);
}

/* How often a hook was called in this process. */
Datum
hook_calls(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));

	PG_RETURN_INT64(strcmp(name, "planner") == 0 ? plannings :
					strcmp(name, "upper paths") == 0 ? upper_paths :
					strcmp(name, "relations") == 0 ? relations :
					strcmp(name, "utilities") == 0 ? utilities :
					strcmp(name, "executions") == 0 ? executions : -1);
}
