/*-------------------------------------------------------------------------
 *
 * tree.c
 *	  Partitioned tables and inheritance: which scans read one table's tree.
 *
 * The planner puts the members of a tree in the place of the table that the query names, so
 * a delta plan has a scan for each, and another plan would come of each partition that
 * comes or goes.  The text of a plan therefore tells such scans in terms of the table
 * that is named (plan/plan_text.c), the fingerprint lists the members, and the
 * difference between two lists of members is brought into a view like other changes
 * (maintain/members.c).
 *
 * A scan is one of a tree only if there is no doubt: if a query names a table and one of its
 * partitions as well, the partition's scan could be either.  Nor is it if it
 * reads whole rows, whose type is the member's own.  Where there is doubt the member
 * is part of the text, and the view is built anew when it goes.
 *
 * A part that is recomputed has members, too: the text of the planner's subtree has one scan in the place of
 * those of a tree that say the same.  It is run again when one of them comes or goes.
 *
 * The planner, too, would see how many members there are, and choose another order of joins:
 * it is told that each tree has the same size.
 *
 * Memory: results in the current context.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_inherits.h"
#include "compile/compiler.h"
#include "nodes/nodeFuncs.h"
#include "nodes/pathnodes.h"
#include "optimizer/optimizer.h"
#include "utils/fmgroids.h"

/* What reading a tree costs, as the planner is told. */
#define TREE_COST	2000.0

/* ---- the tree of a scan ---- */

static bool
note_relations(Node *node, List **relids)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		ListCell   *lc;

		foreach(lc, ((Query *) node)->rtable)
		{
			RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

			if (rte->rtekind == RTE_RELATION)
				*relids = list_append_unique_oid(*relids, rte->relid);
		}
		return query_tree_walker((Query *) node, note_relations, relids, 0);
	}
	return expression_tree_walker(node, note_relations, relids);
}

List *
ivm_query_relations(Query *query)
{
	List	   *relids = NIL;

	(void) note_relations((Node *) query, &relids);
	return relids;
}

/* The table and those above it, at all levels. */
static List *
with_ancestors(Relation inherits, Oid relid)
{
	List	   *relids = list_make1_oid(relid);
	ListCell   *lc;

	foreach(lc, relids)
	{
		ScanKeyData key;
		SysScanDesc scan;
		HeapTuple	tuple;

		ScanKeyInit(&key, Anum_pg_inherits_inhrelid, BTEqualStrategyNumber, F_OIDEQ,
					ObjectIdGetDatum(lfirst_oid(lc)));
		scan = systable_beginscan(inherits, InheritsRelidSeqnoIndexId, true, NULL, 1, &key);
		while (HeapTupleIsValid(tuple = systable_getnext(scan)))
			relids = list_append_unique_oid(relids, ((Form_pg_inherits) GETSTRUCT(tuple))->inhparent);
		systable_endscan(scan);
	}
	return relids;
}

/* The one of these tables that it is, or is below; InvalidOid if there are several. */
static Oid
find_tree(Relation inherits, Oid relid, List *named)
{
	List	   *trees = NIL;
	ListCell   *lc;

	foreach(lc, with_ancestors(inherits, relid))
	{
		if (list_member_oid(named, lfirst_oid(lc)))
			trees = lappend_oid(trees, lfirst_oid(lc));
	}
	return list_length(trees) == 1 ? linitial_oid(trees) : InvalidOid;
}

void
ivm_plan_find_trees(IvmPlan *plan, List *named)
{
	Relation	inherits = table_open(InheritsRelationId, AccessShareLock);
	ListCell   *lc;

	foreach(lc, plan->nodes)
	{
		IvmPlanNode *node = (IvmPlanNode *) lfirst(lc);
		ListCell   *lc2;

		if (node->kind == IVM_SCAN)
		{
			Oid			tree = find_tree(inherits, node->relid, named);

			if (OidIsValid(tree) && ivm_scan_fits_tree(node, tree))
				node->tree = tree;
		}
		else if (node->kind == IVM_RECOMPUTE)
		{
			foreach(lc2, node->relids)
				node->trees = lappend_oid(node->trees, find_tree(inherits, lfirst_oid(lc2), named));
		}
	}
	table_close(inherits, AccessShareLock);
}

/* The tree of a table in a node that reads it; false if it does not. */
static bool
tree_in_node(IvmPlanNode *node, Oid relid, Oid *tree)
{
	ListCell   *lc;
	ListCell   *lc2;

	*tree = node->tree;
	if (node->kind == IVM_SCAN)
		return node->relid == relid;
	if (node->kind != IVM_RECOMPUTE)
		return false;
	forboth(lc, node->relids, lc2, node->trees)
	{
		*tree = lfirst_oid(lc2);
		if (lfirst_oid(lc) == relid)
			return true;
	}
	return false;
}

bool
ivm_plan_is_member(IvmPlan *plan, Oid relid, Oid *tree)
{
	ListCell   *lc;

	*tree = InvalidOid;
	foreach(lc, plan->nodes)
	{
		Oid			found;

		if (!tree_in_node((IvmPlanNode *) lfirst(lc), relid, &found))
			continue;
		if (!OidIsValid(found) || (OidIsValid(*tree) && found != *tree))
			return false;
		*tree = found;
	}
	return OidIsValid(*tree) && *tree != relid;
}

/* ---- its size ---- */

/* Tables that are read below a relation of the planner's. */
static int
count_members(PlannerInfo *root, Index rti)
{
	int			result = 0;
	ListCell   *lc;

	foreach(lc, root->append_rel_list)
	{
		AppendRelInfo *info = lfirst_node(AppendRelInfo, lc);
		RelOptInfo *child;

		if (info->parent_relid != rti)
			continue;
		child = root->simple_rel_array[info->child_relid];
		if (child == NULL || IS_DUMMY_REL(child))
			continue;
		result += root->simple_rte_array[info->child_relid]->inh ?
			count_members(root, info->child_relid) : 1;
	}
	return result;
}

void
ivm_tree_set_size(PlannerInfo *root, RelOptInfo *rel, Index rti, RangeTblEntry *rte)
{
	int			members;
	ListCell   *lc;

	if (rte->rtekind != RTE_RELATION || !rte->inh || IS_DUMMY_REL(rel))
		return;
	members = count_members(root, rti);
	if (members == 0)
		return;
	rel->rows = clamp_row_est(rel->rows / members);
	rel->tuples = clamp_row_est(rel->tuples / members);
	foreach(lc, rel->pathlist)
	{
		Path	   *path = (Path *) lfirst(lc);

		path->rows = rel->rows;
		path->startup_cost = 0;
		path->total_cost = TREE_COST;
	}
}
