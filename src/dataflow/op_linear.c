/*-------------------------------------------------------------------------
 *
 * op_linear.c
 *	  Operators that work on one row at a time: scan, map, append, static.
 *
 * They are linear: the delta of the output is the operator applied to the delta
 * of the input, so they keep nothing and emit at once.  A static operator's rows
 * depend on no table: it has no delta, and gives its rows in population only,
 * through the executor.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "dataflow/operator.h"

static void
linear_init(IvmOperator *op)
{
	op->projection = ivm_projection_create(op->node->tlist, op->node->quals, op->node->desc);
}

static void
linear_receive(IvmOperator *op, int input, TupleTableSlot *row, int64 weight)
{
	ivm_operator_emit_projected(op, row, weight);
}

static void
receive_replayed(void *context, TupleTableSlot *row, int64 weight)
{
	ivm_operator_emit_projected(context, row, weight);
}

static void
linear_replay(IvmOperator *op)
{
	for (int i = 0; i < list_length(op->node->inputs); i++)
		ivm_operator_replay(ivm_operator_input(op, i), receive_replayed, op);
}

static void
static_receive(IvmOperator *op, int input, TupleTableSlot *row, int64 weight)
{
	elog(ERROR, "a static operator has no input");
}

const IvmOperatorRoutine ivm_op_scan = {
	.init = linear_init,
	.receive = linear_receive,
};

const IvmOperatorRoutine ivm_op_map = {
	.init = linear_init,
	.receive = linear_receive,
	.replay = linear_replay,
	.finder = &ivm_linear_finder,
};

const IvmOperatorRoutine ivm_op_append = {
	.init = linear_init,
	.receive = linear_receive,
	.replay = linear_replay,
	.finder = &ivm_linear_finder,
};

const IvmOperatorRoutine ivm_op_static = {
	.init = linear_init,
	.receive = static_receive,
};
