/*-------------------------------------------------------------------------
 *
 * fragment.c
 *	  A piece of a plan that the executor runs over rows that we feed.
 *
 * What a function of a set of rows gives is best known to the executor: it runs the node of the
 * plan that has it, over a leaf that is a CustomScan and asks us for rows.  The plan is prepared
 * once and started again for each set of rows by ExecReScan, which forgets all of the run
 * before.
 *
 * No relation is in it, so it needs neither locks nor permissions but those to call the
 * functions, which are asked for as the user in force.
 *
 * Costs: some 20 us to prepare, one or a few to start again.
 *
 * Memory: the executor's, within work_mem where the nodes keep to it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"
#include "nodes/extensible.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "utils/memutils.h"

#include "dataflow/fragment.h"

typedef struct LeafState
{
	CustomScanState custom;
	IvmFragmentSource source;
	void	   *context;
} LeafState;

struct IvmFragment
{
	EState	   *estate;
	PlanState  *root;
	LeafState  *leaf;
	bool		used;			/* a run was begun */
};

static void
leaf_begin(CustomScanState *node, EState *estate, int eflags)
{
}

static TupleTableSlot *
leaf_next(CustomScanState *node)
{
	LeafState  *leaf = (LeafState *) node;
	TupleTableSlot *slot = node->ss.ss_ScanTupleSlot;

	ExecClearTuple(slot);
	if (!leaf->source(leaf->context, slot->tts_values, slot->tts_isnull))
		return slot;
	return ExecStoreVirtualTuple(slot);
}

static void
leaf_end(CustomScanState *node)
{
}

static void
leaf_rescan(CustomScanState *node)
{
	ExecClearTuple(node->ss.ss_ScanTupleSlot);
}

static const CustomExecMethods exec_methods = {
	.CustomName = "ivm rows",
	.BeginCustomScan = leaf_begin,
	.ExecCustomScan = leaf_next,
	.EndCustomScan = leaf_end,
	.ReScanCustomScan = leaf_rescan,
};

static Node *
leaf_create(CustomScan *scan)
{
	LeafState  *leaf = (LeafState *) newNode(sizeof(LeafState), T_CustomScanState);

	leaf->custom.methods = &exec_methods;
	return (Node *) leaf;
}

static const CustomScanMethods scan_methods = {
	.CustomName = "ivm rows",
	.CreateCustomScanState = leaf_create,
};

Plan *
ivm_fragment_leaf(TupleDesc desc)
{
	CustomScan *scan = makeNode(CustomScan);

	scan->methods = &scan_methods;
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		scan->custom_scan_tlist =
			lappend(scan->custom_scan_tlist,
					makeTargetEntry((Expr *) makeVar(1, i + 1, attribute->atttypid, attribute->atttypmod,
													 attribute->attcollation, 0), i + 1, NULL, false));
		scan->scan.plan.targetlist =
			lappend(scan->scan.plan.targetlist,
					makeTargetEntry((Expr *) makeVar(INDEX_VAR, i + 1, attribute->atttypid, attribute->atttypmod,
													 attribute->attcollation, 0), i + 1, NULL, false));
	}
	return (Plan *) scan;
}

static bool
find_leaf(PlanState *node, LeafState **leaf)
{
	if (IsA(node, CustomScanState) && ((CustomScanState *) node)->methods == &exec_methods)
	{
		*leaf = (LeafState *) node;
		return true;
	}
	return planstate_tree_walker(node, find_leaf, leaf);
}

IvmFragment *
ivm_fragment_start(Plan *plan, ParamListInfo params, Snapshot snapshot)
{
	IvmFragment *fragment = palloc0(sizeof(IvmFragment));
	EState	   *estate = CreateExecutorState();
	MemoryContext old = MemoryContextSwitchTo(estate->es_query_cxt);

	estate->es_snapshot = snapshot;
	estate->es_param_list_info = params;
	ExecInitRangeTable(estate, NIL);
	fragment->estate = estate;
	fragment->root = ExecInitNode(plan, estate, 0);
	if (!find_leaf(fragment->root, &fragment->leaf))
		elog(ERROR, "a fragment of a plan has no leaf");
	MemoryContextSwitchTo(old);
	return fragment;
}

void
ivm_fragment_run(IvmFragment *fragment, IvmFragmentSource source, void *context)
{
	fragment->leaf->source = source;
	fragment->leaf->context = context;
	if (fragment->used)
	{
		MemoryContext old = MemoryContextSwitchTo(fragment->estate->es_query_cxt);

		ExecReScan(fragment->root);
		MemoryContextSwitchTo(old);
	}
	fragment->used = true;
}

TupleTableSlot *
ivm_fragment_next(IvmFragment *fragment)
{
	MemoryContext old = MemoryContextSwitchTo(fragment->estate->es_query_cxt);
	TupleTableSlot *slot = ExecProcNode(fragment->root);

	MemoryContextSwitchTo(old);
	return TupIsNull(slot) ? NULL : slot;
}

void
ivm_fragment_end(IvmFragment *fragment)
{
	EState	   *estate = fragment->estate;

	ExecEndNode(fragment->root);
	ExecResetTupleTable(estate->es_tupleTable, false);
	FreeExecutorState(estate);
	pfree(fragment);
}
