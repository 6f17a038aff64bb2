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
 * Where the query leaves open which rows are the first, they are those that the dataflow takes (compile/tie_break.c).
 *
 * Permissions are checked by the executor for the current user, who is the view's owner.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"
#include "tcop/dest.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "compile/compile.h"
#include "dataflow/dataflow.h"

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

void
ivm_execute_subtree(IvmPlan *plan, Plan *subtree, Snapshot snapshot,
					IvmRowReceiver receiver, void *context)
{
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "ivm subtree", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(memory);
	PlannedStmt *statement = makeNode(PlannedStmt);
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
	QueryDesc  *query;
	ListCell   *cell;

	if (subtree == NULL)
		elog(ERROR, "a node of the delta plan has no planner's tree");
	memcpy(statement, plan->statement, sizeof(PlannedStmt));
	statement->planTree = copyObject(subtree);
	foreach(cell, statement->planTree->targetlist)
		lfirst_node(TargetEntry, cell)->resjunk = false;
	ivm_statement_break_ties(statement);
	statement->rowMarks = NIL;
	statement->canSetTag = false;

	query = CreateQueryDesc(statement, "", snapshot, InvalidSnapshot, &destination.pub, NULL, NULL, 0);
	ExecutorStart(query, 0);
	ExecutorRun(query, ForwardScanDirection, 0, true);
	ExecutorFinish(query);
	ExecutorEnd(query);
	FreeQueryDesc(query);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(memory);
}
