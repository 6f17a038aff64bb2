/*-------------------------------------------------------------------------
 *
 * execute.c
 *	  Running a part of the planner's tree with the executor.
 *
 * The part becomes the plan tree of a statement of its own, with the range table and
 * subplans of the whole; what it needs of init plans the compiler has attached
 * to it.  Columns that the planner marked as junk at the top are columns of the
 * part like any other here.
 *
 * That tree was made without statistics and indexes.  Where a node without state is run over full contents it is turned into a query
 * instead (compile/node_query.c), and planned for that run by the server's planner as it is set up: not in
 * parallel, since rows are written while they come.
 *
 * Where the query leaves open which rows are the first, they are those that the dataflow takes (compile/tie_break.c).
 *
 * Permissions are checked by the executor for the current user, who is the view's owner.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"
#include "optimizer/optimizer.h"
#include "tcop/dest.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "compile/compile.h"
#include "dataflow/dataflow.h"
#include "plan/plan_walk.h"

typedef struct SubtreeReceiver
{
	DestReceiver pub;
	IvmRowReceiver receiver;
	void	   *context;
} SubtreeReceiver;

static bool
receive_slot(TupleTableSlot *slot, DestReceiver *self)
{
	SubtreeReceiver *receiver = (SubtreeReceiver *) self;

	receiver->receiver(receiver->context, slot, 1);
	return true;
}

static void
start_receiver(DestReceiver *self, int operation, TupleDesc desc)
{
}

static void
end_receiver(DestReceiver *self)
{
}

/* Runs a statement; everything that it leaves is in the current context. */
static void
execute(PlannedStmt *statement, Snapshot snapshot, IvmRowReceiver receiver, void *context)
{
	SubtreeReceiver destination = {
		.pub = {
			.receiveSlot = receive_slot,
			.rStartup = start_receiver,
			.rShutdown = end_receiver,
			.rDestroy = end_receiver,
			.mydest = DestNone,
		},
		.receiver = receiver,
		.context = context,
	};
	QueryDesc  *query = CreateQueryDesc(statement, "", snapshot, InvalidSnapshot, &destination.pub, NULL, NULL, 0);

	ExecutorStart(query, 0);
	ExecutorRun(query, ForwardScanDirection, 0, true);
	ExecutorFinish(query);
	ExecutorEnd(query);
	FreeQueryDesc(query);
}

/*
 * The executor makes all subplans of a statement ready to run, those that nothing refers to included, whose tables
 * nobody has locked.
 */
static void
drop_unused_subplans(PlannedStmt *statement)
{
	Bitmapset  *used = ivm_plan_all_subplans(statement, statement->planTree);
	List	   *subplans = NIL;
	ListCell   *cell;

	foreach(cell, statement->subplans)
		subplans = lappend(subplans, bms_is_member(list_length(subplans) + 1, used) ? lfirst(cell) : NULL);
	statement->subplans = subplans;
}

static void
execute_subtree(IvmPlan *plan, Plan *subtree, Snapshot snapshot, IvmRowReceiver receiver, void *context)
{
	PlannedStmt *statement = makeNode(PlannedStmt);
	ListCell   *cell;

	if (subtree == NULL)
		elog(ERROR, "a node of the delta plan has no planner's tree");
	memcpy(statement, plan->statement, sizeof(PlannedStmt));
	statement->planTree = copyObject(subtree);
	foreach(cell, statement->planTree->targetlist)
		lfirst_node(TargetEntry, cell)->resjunk = false;
	drop_unused_subplans(statement);
	ivm_statement_break_ties(statement);
	statement->rowMarks = NIL;
	statement->canSetTag = false;
	execute(statement, snapshot, receiver, context);
}

void
ivm_execute_subtree(IvmPlan *plan, Plan *subtree, Snapshot snapshot,
					IvmRowReceiver receiver, void *context)
{
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "ivm subtree", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(memory);

	execute_subtree(plan, subtree, snapshot, receiver, context);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(memory);
}

void
ivm_execute_node(IvmPlan *plan, IvmPlanNode *node, Snapshot snapshot,
				 IvmRowReceiver receiver, void *context)
{
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "ivm subtree", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(memory);
	Query	   *query = ivm_node_query(plan, node);

	if (query == NULL)
		execute_subtree(plan, node->plan, snapshot, receiver, context);
	else
	{
		/* the query names leaves; rights may be on tables above them, and on views */
		ExecCheckRTPerms(plan->statement->rtable, true);
		execute(planner(query, "", 0, NULL), snapshot, receiver, context);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(memory);
}
