/*-------------------------------------------------------------------------
 *
 * arranger.c
 *	  Keeps the private state tables of an operator's rows.
 *
 * Where an operator's rows have to be found by a key, and cannot be found in what it keeps or
 * reads itself (compile/through.c), they are in a state table.  Its readers
 * may be many, and far above; so no one of them keeps it, but an arranger, which is one more
 * reader of the operator.  It collects the delta and writes the tables as soon as the
 * operator has been finished, before any other reader is.  So every lookup is
 * in the new state.
 *
 * Each row of a table is written once in a batch, so no command updates its
 * own row; the next command sees them.
 *
 * Costs: the delta, collected once for all tables of the operator; a lookup and a write
 * for each row of it and each table.
 *
 * Memory: the delta in a Z-set, which is spilled.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"

#include "arrange/ordered_table.h"
#include "arrange/state_table.h"
#include "dataflow/arranger.h"

struct IvmArranger
{
	IvmOperator *op;
	List	   *arrangements;	/* IvmArrangement */

	/* of the batch */
	IvmZset    *delta;
};

void
ivm_arrangers_create(IvmDataflow *dataflow)
{
	ListCell   *cell;

	foreach(cell, dataflow->plan->arrangements)
	{
		IvmArrangement *arrangement = lfirst(cell);
		IvmOperator *op;

		if (arrangement->kind != IVM_ARRANGE_STATE || arrangement->shared || arrangement->whole ||
			arrangement->first_of != NULL)
			continue;
		op = ivm_dataflow_operator(dataflow, arrangement->input);
		if (op->arranger == NULL)
		{
			op->arranger = palloc0(sizeof(IvmArranger));
			op->arranger->op = op;
		}
		op->arranger->arrangements = lappend(op->arranger->arrangements, arrangement);
	}
}

void
ivm_arranger_begin(IvmArranger *arranger, IvmDataflow *dataflow)
{
	arranger->delta = ivm_zset_create(dataflow->arena, arranger->op->node->desc);
}

void
ivm_arranger_receive(IvmArranger *arranger, TupleTableSlot *row, int64 weight)
{
	ivm_zset_add(arranger->delta, row, weight);
}

void
ivm_arranger_finish(IvmArranger *arranger)
{
	IvmDataflow *dataflow = arranger->op->dataflow;
	ListCell   *cell;

	if (ivm_zset_is_empty(arranger->delta))
		return;
	foreach(cell, arranger->arrangements)
	{
		IvmArrangement *arrangement = lfirst(cell);
		char	   *name = ivm_arrangement_state_name(arrangement, dataflow->plan->relid);
		Oid			relid = ivm_state_table_get(name);

		if (arrangement->order == NIL)
			ivm_arrangement_apply(arrangement, relid, arranger->delta, dataflow->snapshot, dataflow->populating);
		else
			ivm_ordered_table_write(arrangement, relid, arranger->delta, dataflow->snapshot, dataflow->populating);
	}
	ivm_zset_clear(arranger->delta);
	CommandCounterIncrement();
}

void
ivm_arranger_end(IvmArranger *arranger)
{
	ivm_zset_close(arranger->delta);
}

List *
ivm_arranger_state_names(IvmArranger *arranger)
{
	List	   *names = NIL;
	ListCell   *cell;

	foreach(cell, arranger->arrangements)
		names = lappend(names, ivm_arrangement_state_name(lfirst(cell), arranger->op->dataflow->plan->relid));
	return names;
}
