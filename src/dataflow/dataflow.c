/*-------------------------------------------------------------------------
 *
 * dataflow.c
 *	  Running a delta plan.
 *
 * The plan is read-only; for each of its nodes there is an IvmOperator with the
 * state.  Rows are pushed: a scan gets a changed row, filters and projects it,
 * and hands it to its readers, and so on until an operator that has to see the
 * whole delta of its input (join, aggregate) keeps it.  When all has been pushed
 * the operators are finished in the order of the plan, inputs first, so each one
 * has its input complete.  Rows flow one at a time, depth first: nothing
 * collects but in the inputs of joins and aggregates and in the output,
 * and there it is consolidated.
 *
 * Population runs the same operators over the full contents, with weight +1
 * and an empty old state.  An operator without state, above others without
 * state, is not run at all: the executor runs the planner's tree for it, with
 * hash joins and all.  So the rows enter at the lowest operators that keep state,
 * and from there on up the dataflow computes them as it will go on to do.
 *
 * Costs: a plan's operators are made once; a batch begins and ends each of
 * them.
 *
 * Memory: operators and their expressions live in the dataflow's context.  What a
 * batch allocates is in the batch's context and arena, which the caller resets.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "arrange/arrange.h"
#include "arrange/state_table.h"
#include "dataflow/arranger.h"
#include "dataflow/operator.h"

#define ROUTINE(kind, word) [kind] = &ivm_op_##word,

static const IvmOperatorRoutine *const routines[] = {
	IVM_NODE_KINDS(ROUTINE)
};

static int
compare_table_readers(const void *a, const void *b)
{
	const IvmTableReader *x = a;
	const IvmTableReader *y = b;

	if (x->relid != y->relid)
		return x->relid < y->relid ? -1 : 1;
	return x->op < y->op ? -1 : x->op > y->op;
}

static void
list_table_readers(IvmDataflow *dataflow)
{
	int			size = 0;
	ListCell   *cell;

	for (int i = 0; i < dataflow->noperators; i++)
		size += list_length(dataflow->operators[i].node->relids);
	dataflow->table_readers = palloc(sizeof(IvmTableReader) * Max(size, 1));
	for (int i = 0; i < dataflow->noperators; i++)
	{
		IvmOperator *op = &dataflow->operators[i];

		foreach(cell, op->node->relids)
		{
			IvmTableReader *reader = &dataflow->table_readers[dataflow->ntable_readers++];

			reader->relid = lfirst_oid(cell);
			reader->op = op;
		}
	}
	qsort(dataflow->table_readers, dataflow->ntable_readers, sizeof(IvmTableReader), compare_table_readers);
}

static void
add_reader(IvmOperator *op, IvmOperator *reader, int input)
{
	if (op->readers == NULL)
		op->readers = palloc(sizeof(IvmReader));
	else
		op->readers = repalloc(op->readers, sizeof(IvmReader) * (op->nreaders + 1));
	op->readers[op->nreaders].op = reader;
	op->readers[op->nreaders++].input = input;
}

static bool
keeps_state(IvmPlanNode *node)
{
	return routines[node->kind]->keeps_state && !node->keyed;
}

IvmDataflow *
ivm_dataflow_create(IvmPlan *plan, MemoryContext parent)
{
	MemoryContext context = AllocSetContextCreate(parent, "ivm dataflow", ALLOCSET_START_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	IvmDataflow *dataflow = palloc0(sizeof(IvmDataflow));
	ListCell   *cell;

	dataflow->plan = plan;
	dataflow->context = context;
	dataflow->noperators = list_length(plan->nodes);
	dataflow->operators = palloc0(sizeof(IvmOperator) * dataflow->noperators);
	foreach(cell, plan->nodes)
	{
		IvmPlanNode *node = lfirst(cell);
		IvmOperator *op = &dataflow->operators[node->node_id];
		ListCell   *inner;
		int			input = 0;

		Assert(node->node_id == foreach_current_index(cell));
		op->routine = routines[node->kind];
		op->dataflow = dataflow;
		op->node = node;
		op->is_root = node == plan->root;
		op->is_stateful = keeps_state(node);
		op->has_state = op->is_stateful || op->routine->own_output ||
			(node->plan == NULL && node->inputs != NIL);
		op->counters.node_id = node->node_id;
		op->counters.parent_id = -1;
		op->counters.name = ivm_plan_node_name(node);
		foreach(inner, node->inputs)
		{
			IvmPlanNode *input_node = lfirst(inner);
			IvmOperator *input_op = &dataflow->operators[input_node->node_id];

			add_reader(input_op, op, input++);
			input_op->counters.parent_id = node->node_id;
			op->has_state |= input_op->has_state;
		}
		if (op->is_root)
			dataflow->root = op;
		op->routine->init(op);
	}
	ivm_arrangers_create(dataflow);
	list_table_readers(dataflow);
	dataflow->output_key = ivm_dataflow_output_key(plan);
	MemoryContextSwitchTo(old);
	return dataflow;
}

void
ivm_dataflow_destroy(IvmDataflow *dataflow)
{
	MemoryContextDelete(dataflow->context);
}

IvmRowKey *
ivm_dataflow_output_key(IvmPlan *plan)
{
	int			nkeys = list_length(plan->key);
	int		   *columns = palloc(sizeof(int) * Max(nkeys, 1));
	Oid		   *operators = palloc(sizeof(Oid) * Max(nkeys, 1));
	Oid		   *collations = palloc(sizeof(Oid) * Max(nkeys, 1));
	IvmRowKey  *result = NULL;

	for (int i = 0; i < nkeys; i++)
	{
		columns[i] = list_nth_int(plan->key, i);
		operators[i] = list_nth_oid(plan->key_operators, i);
		collations[i] = TupleDescAttr(plan->root->desc, columns[i] - 1)->attcollation;
	}
	if (nkeys > 0)
		result = ivm_row_key_create(ivm_key_create(nkeys, operators, collations, true),
									plan->root->desc, columns);
	pfree(columns);
	pfree(operators);
	pfree(collations);
	return result;
}

void
ivm_dataflow_begin(IvmDataflow *dataflow, Snapshot snapshot, IvmArena *arena, bool populate)
{
	dataflow->running = true;
	dataflow->populating = populate;
	dataflow->snapshot = snapshot;
	dataflow->arena = arena;
	dataflow->batch_context = CurrentMemoryContext;
	dataflow->receiver = NULL;
	dataflow->output = ivm_zset_create(arena, dataflow->root->node->desc);
	if (dataflow->output_key != NULL)
		ivm_zset_partition_by(dataflow->output, ivm_row_key_hash, dataflow->output_key);
	for (int i = 0; i < dataflow->noperators; i++)
	{
		IvmOperator *op = &dataflow->operators[i];

		op->replay = NULL;
		if (op->routine->begin != NULL)
			op->routine->begin(op);
		if (op->arranger != NULL)
			ivm_arranger_begin(op->arranger, dataflow);
	}
}

static void
receive(IvmOperator *op, int input, TupleTableSlot *row, int64 weight)
{
	op->counters.rows_in++;
	op->routine->receive(op, input, row, weight);
}

void
ivm_dataflow_push(IvmDataflow *dataflow, Oid relid, TupleTableSlot *row, int64 weight)
{
	int			low = 0;
	int			high = dataflow->ntable_readers;

	while (low < high)
	{
		int			middle = low + (high - low) / 2;

		if (dataflow->table_readers[middle].relid < relid)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < dataflow->ntable_readers && dataflow->table_readers[low].relid == relid; low++)
		receive(dataflow->table_readers[low].op, 0, row, weight);
}

bool
ivm_dataflow_touch(IvmDataflow *dataflow, Oid tree)
{
	bool		any = false;

	for (int i = 0; i < dataflow->noperators; i++)
	{
		IvmOperator *op = &dataflow->operators[i];

		if (op->node->kind != IVM_RECOMPUTE || !list_member_oid(op->node->trees, tree))
			continue;
		op->routine->receive(op, 0, NULL, 0);
		any = true;
	}
	return any;
}

void
ivm_dataflow_push_to(IvmDataflow *dataflow, IvmPlanNode *scan, TupleTableSlot *row, int64 weight)
{
	receive(&dataflow->operators[scan->node_id], 0, row, weight);
}

void
ivm_operator_emit(IvmOperator *op, TupleTableSlot *row, int64 weight)
{
	IvmDataflow *dataflow = op->dataflow;

	if (op->replay != NULL)
	{
		op->replay(op->replay_context, row, weight);
		return;
	}
	op->counters.rows_out++;
	if (op->arranger != NULL)
		ivm_arranger_receive(op->arranger, row, weight);
	for (int i = 0; i < op->nreaders; i++)
	{
		/* the executor gives the output of those */
		if (dataflow->populating && !op->readers[i].op->has_state)
			continue;
		receive(op->readers[i].op, op->readers[i].input, row, weight);
	}
	if (!op->is_root)
		return;
	if (dataflow->receiver != NULL)
		dataflow->receiver(dataflow->receiver_context, row, weight);
	else
		ivm_zset_add(dataflow->output, row, weight);
}

void
ivm_operator_emit_projected(IvmOperator *op, TupleTableSlot *row, int64 weight)
{
	TupleTableSlot *result = ivm_projection_apply(op->projection, row);

	if (result != NULL)
		ivm_operator_emit(op, result, weight);
}

IvmOperator *
ivm_dataflow_operator(IvmDataflow *dataflow, IvmPlanNode *node)
{
	return &dataflow->operators[node->node_id];
}

IvmOperator *
ivm_operator_input(IvmOperator *op, int input)
{
	return ivm_dataflow_operator(op->dataflow, list_nth(op->node->inputs, input));
}

/*
 * Where an operator keeps state, what the executor would give may differ from
 * what was emitted: a sum of floats in its last digits, 1.0 for 1.00.
 */
void
ivm_operator_replay(IvmOperator *op, IvmRowReceiver receiver, void *context)
{
	check_stack_depth();
	if (!op->has_state)
	{
		ivm_execute_subtree(op->dataflow->plan, op->node->plan, op->dataflow->snapshot, receiver, context);
		return;
	}
	op->replay = receiver;
	op->replay_context = context;
	op->routine->replay(op);
	op->replay = NULL;
}

static void
receive_executed(void *context, TupleTableSlot *row, int64 weight)
{
	ivm_operator_emit(context, row, weight);
	CHECK_FOR_INTERRUPTS();
}

void
ivm_dataflow_populate(IvmDataflow *dataflow)
{
	for (int i = 0; i < dataflow->noperators; i++)
	{
		IvmOperator *op = &dataflow->operators[i];
		bool		needed = op->is_root || op->arranger != NULL;

		if (op->has_state)
			continue;
		for (int j = 0; j < op->nreaders; j++)
		{
			IvmOperator *reader = op->readers[j].op;

			needed |= reader->has_state &&
				(reader->routine->wants == NULL || reader->routine->wants(reader, op->readers[j].input));
		}
		if (needed)
			ivm_execute_node(dataflow->plan, op->node, dataflow->snapshot, receive_executed, op);
	}
}

IvmZset *
ivm_dataflow_finish(IvmDataflow *dataflow)
{
	for (int i = 0; i < dataflow->noperators; i++)
	{
		IvmOperator *op = &dataflow->operators[i];
		bool		finishes = op->routine->finish != NULL && (!dataflow->populating || op->has_state);
		instr_time	start;
		instr_time	duration;

		if (!finishes && op->arranger == NULL)
			continue;
		CHECK_FOR_INTERRUPTS();
		INSTR_TIME_SET_CURRENT(start);
		if (finishes)
			op->routine->finish(op);
		if (op->arranger != NULL)
			ivm_arranger_finish(op->arranger);
		INSTR_TIME_SET_CURRENT(duration);
		INSTR_TIME_SUBTRACT(duration, start);
		op->counters.total_time += INSTR_TIME_GET_MILLISEC(duration);
	}
	return dataflow->output;
}

void
ivm_dataflow_set_receiver(IvmDataflow *dataflow, IvmRowReceiver receiver, void *context)
{
	dataflow->receiver = receiver;
	dataflow->receiver_context = context;
}

void
ivm_dataflow_end(IvmDataflow *dataflow)
{
	for (int i = 0; i < dataflow->noperators; i++)
	{
		IvmOperator *op = &dataflow->operators[i];

		if (op->routine->end != NULL)
			op->routine->end(op);
		if (op->arranger != NULL)
			ivm_arranger_end(op->arranger);
	}
	ivm_zset_close(dataflow->output);
	dataflow->running = false;
}

void
ivm_dataflow_forget(IvmDataflow *dataflow)
{
	for (int i = 0; i < dataflow->noperators; i++)
		if (dataflow->operators[i].routine->forget != NULL)
			dataflow->operators[i].routine->forget(&dataflow->operators[i]);
}

void
ivm_dataflow_abort(IvmDataflow *dataflow)
{
	/* what was open is gone with the transaction, its memory with the batch */
	dataflow->running = false;
	ivm_dataflow_forget(dataflow);
}

bool
ivm_dataflow_take_counters(IvmDataflow *dataflow, int i, IvmOperatorCounters *counters)
{
	IvmOperatorCounters *own;

	if (i >= dataflow->noperators)
		return false;
	own = &dataflow->operators[i].counters;
	*counters = *own;
	own->rows_in = own->rows_out = 0;
	own->total_time = 0;
	return true;
}

void
ivm_dataflow_inherit_counters(IvmDataflow *to, IvmDataflow *from)
{
	for (int i = 0; i < Min(to->noperators, from->noperators); i++)
	{
		IvmOperatorCounters *heir = &to->operators[i].counters;
		IvmOperatorCounters *counters = &from->operators[i].counters;

		if (to->operators[i].node->kind != from->operators[i].node->kind)
			continue;
		heir->rows_in = counters->rows_in;
		heir->rows_out = counters->rows_out;
		heir->total_time = counters->total_time;
	}
}

uint64
ivm_dataflow_recomputes(IvmDataflow *dataflow)
{
	uint64		sum = 0;

	for (int i = 0; i < dataflow->noperators; i++)
		sum += dataflow->operators[i].counters.recomputes;
	return sum;
}

/* Zero for one that is just being dropped: this is not worth waiting for a lock. */
static int64
state_size(const char *name)
{
	Oid			relid = ivm_state_table_lookup(name);

	if (!OidIsValid(relid) || !ConditionalLockRelationOid(relid, AccessShareLock) ||
		!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid)))
		return 0;
	return ivm_state_table_size(relid);
}

void
ivm_dataflow_measure(IvmDataflow *dataflow)
{
	Oid			relid = dataflow->plan->relid;

	for (int i = 0; i < dataflow->noperators; i++)
	{
		IvmOperator *op = &dataflow->operators[i];
		int64		size = 0;
		ListCell   *cell;

		if (op->is_stateful)
			size = state_size(ivm_operator_state_name(op->node, relid));
		if (op->node->ordered != NULL && op->node->ordered->first_of == op->node)
			size += state_size(ivm_arrangement_state_name(op->node->ordered, relid));
		if (op->arranger != NULL)
			foreach(cell, ivm_arranger_state_names(op->arranger))
				size += state_size(lfirst(cell));
		op->counters.state_bytes = size;
	}
}

char *
ivm_operator_state_name(IvmPlanNode *node, Oid relid)
{
	if (node->kept != NULL)
		return ivm_arrangement_state_name(node->kept, relid);
	return ivm_state_table_name(relid, node->digest);
}

char *
ivm_node_state_name(IvmPlanNode *node, Oid relid)
{
	return keeps_state(node) ? ivm_operator_state_name(node, relid) : NULL;
}

List *
ivm_dataflow_state_names(IvmPlan *plan, Oid relid)
{
	List	   *names = NIL;
	ListCell   *cell;

	foreach(cell, plan->nodes)
	{
		char	   *name = ivm_node_state_name(lfirst(cell), relid);

		if (name != NULL)
			names = lappend(names, name);
	}
	foreach(cell, plan->arrangements)
	{
		IvmArrangement *arrangement = lfirst(cell);

		if (arrangement->kind == IVM_ARRANGE_STATE && !arrangement->shared && !arrangement->whole)
			names = lappend(names, ivm_arrangement_state_name(arrangement, relid));
	}
	return names;
}
