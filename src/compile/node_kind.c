/*-------------------------------------------------------------------------
 *
 * node_kind.c
 *	  What the compiler has to know of each kind of node.
 *
 * See the head of plan/plan.h.  A kind that has nothing to do in one of these
 * routines says so.
 *
 * Memory: everything in the current context.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "compile/compiler.h"
#include "plan/order_key.h"
#include "utils/lsyscache.h"

/* ---- copy: what only this kind has, of a node that has been copied as it is ---- */

static void
scan_copy(IvmPlanNode *node)
{
	node->attributes = bms_copy(node->attributes);
}

/* Paths need arrangements, so they come later. */
static void
join_copy(IvmPlanNode *node)
{
	node->clauses = copyObject(node->clauses);
}

static void
aggregate_copy(IvmPlanNode *node)
{
	List	   *calls = node->calls;
	ListCell   *lc;

	node->group_columns = list_copy(node->group_columns);
	node->group_operators = list_copy(node->group_operators);
	node->group_collations = list_copy(node->group_collations);
	node->row_keys = list_copy(node->row_keys);
	node->calls = NIL;
	foreach(lc, calls)
	{
		IvmAggregateCall *call = (IvmAggregateCall *) palloc(sizeof(IvmAggregateCall));

		*call = *(IvmAggregateCall *) lfirst(lc);
		call->aggref = copyObject(call->aggref);
		call->shown = copyObject(call->shown);
		node->calls = lappend(node->calls, call);
	}
}

static void
recompute_copy(IvmPlanNode *node)
{
	node->trees = list_copy(node->trees);
	node->reason = ivm_reason(node->reason->code, "%s", node->reason->text);
}

static void
copy_nothing(IvmPlanNode *node)
{
}

static void
topk_copy(IvmPlanNode *node)
{
	node->key_columns = list_copy(node->key_columns);
	node->key_operators = list_copy(node->key_operators);
	node->key_collations = list_copy(node->key_collations);
	node->order = ivm_order_copy(node->order);
}

#define outer_copy		join_copy
#define map_copy		copy_nothing
#define append_copy		copy_nothing
#define static_copy		copy_nothing

/* ---- column_name: where a column comes from that the target list passes on ---- */

static const char *
scan_column_name(IvmPlanNode *node, Var *var)
{
	return var->varattno == 0 ? get_rel_name(node->relid) : get_attname(node->relid, var->varattno, true);
}

static const char *
input_column_name(IvmPlanNode *input, int column)
{
	return NameStr(TupleDescAttr(input->desc, column - 1)->attname);
}

static const char *
map_column_name(IvmPlanNode *node, Var *var)
{
	if (var->varattno <= 0)
		return NULL;
	return input_column_name((IvmPlanNode *) list_nth(node->inputs, var->varno - 1), var->varattno);
}

#define join_column_name map_column_name
#define outer_column_name map_column_name

static const char *
aggregate_column_name(IvmPlanNode *node, Var *var)
{
	if (var->varattno > list_length(node->group_columns))
		return NULL;
	return input_column_name((IvmPlanNode *) linitial(node->inputs),
							 list_nth_int(node->group_columns, var->varattno - 1));
}

/* Of those that have no target list. */
static const char *
no_column_name(IvmPlanNode *node, Var *var)
{
	return NULL;
}

#define append_column_name		no_column_name
#define topk_column_name		no_column_name
#define recompute_column_name	no_column_name
#define static_column_name		no_column_name

/* ---- absorbs: can a projection, and the filter below it, be done in the node itself? ---- */

static bool
absorbs_all(List *quals)
{
	return true;
}

static bool
absorbs_nothing(List *quals)
{
	return false;
}

/* A filter could run before the join's own conditions. */
static bool
join_absorbs(List *quals)
{
	return quals == NIL;
}

/* What matches has been decided before an outer join's filter is asked. */
#define outer_absorbs		absorbs_all
#define scan_absorbs		absorbs_all
#define map_absorbs			absorbs_all
#define aggregate_absorbs	absorbs_all
#define append_absorbs		absorbs_nothing
#define topk_absorbs		absorbs_nothing
#define recompute_absorbs	absorbs_nothing
#define static_absorbs		absorbs_nothing

/* ---- complete: what has to be made when the tree is final and its nodes have numbers ---- */

static void
complete_nothing(IvmCompiler *compiler, IvmPlanNode *node)
{
}

#define join_complete		ivm_join_make_paths
#define outer_complete		ivm_outer_make_paths
#define aggregate_complete	ivm_aggregate_complete
#define scan_complete		complete_nothing
#define map_complete		complete_nothing
#define topk_complete		ivm_topk_complete
#define append_complete		complete_nothing
#define recompute_complete	complete_nothing
#define static_complete		complete_nothing

/* ---- push: what the node's rows can be looked up in (through.c, join_path.c) ---- */

/* Scans are looked up in their tables (arrangement.c); the first rows in an order are few. */
static bool
cannot_push(IvmCompiler *compiler, IvmArrangement *arrangement)
{
	return false;
}

#define scan_push		cannot_push
#define map_push		ivm_push_map
#define append_push		ivm_push_append
#define join_push		ivm_push_join
#define outer_push		ivm_push_outer
#define aggregate_push	ivm_push_aggregate
#define topk_push		cannot_push
#define recompute_push	ivm_push_recompute
#define static_push		cannot_push

/* ---- the table ---- */

#define ROUTINES(kind, word) \
	[kind] = {word##_copy, word##_column_name, word##_absorbs, word##_complete, word##_push},

static const IvmNodeRoutine routines[] = {
	IVM_NODE_KINDS(ROUTINES)
};

const IvmNodeRoutine *
ivm_node_kind(IvmPlanNode *node)
{
	return &routines[node->kind];
}
