/*-------------------------------------------------------------------------
 *
 * ordered_shape.c
 *	  Keys and order of the rows of an arrangement that has an order.
 *
 * NULL is a key like any other here: what is looked up are groups and the keys of DISTINCT ON.
 * Without key columns all rows have one key, whose hash is 0.
 *
 * Memory: expressions and functions in the context that the shape was made in; a row's key in its expression
 * context's per-tuple memory.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"

#include "arrange/ordered_table.h"
#include "arrange/projection.h"

IvmOrderedShape *
ivm_ordered_shape_create(IvmArrangement *arrangement)
{
	IvmOrderedShape *shape = palloc0(sizeof(IvmOrderedShape));
	int			nkeys = list_length(arrangement->keys);
	Oid		   *operators = palloc(sizeof(Oid) * Max(nkeys, 1));
	Oid		   *collations = palloc(sizeof(Oid) * Max(nkeys, 1));

	for (int i = 0; i < nkeys; i++)
	{
		operators[i] = list_nth_oid(arrangement->operators, i);
		collations[i] = list_nth_oid(arrangement->collations, i);
	}
	shape->arrangement = arrangement;
	shape->desc = arrangement->input->desc;
	shape->order = ivm_row_order_create(arrangement->order, shape->desc);
	shape->key = ivm_key_create(nkeys, operators, collations, true);
	shape->key_states = ExecInitExprList(arrangement->keys, NULL);
	shape->econtext = ivm_expr_context_create();
	shape->values = palloc(sizeof(Datum) * Max(nkeys, 1));
	shape->isnull = palloc(sizeof(bool) * Max(nkeys, 1));
	return shape;
}

/* The key of a row, in the expression context's memory, which is current then. */
static MemoryContext
evaluate_key(IvmOrderedShape *shape, TupleTableSlot *row)
{
	MemoryContext old;
	ListCell   *cell;
	int			i = 0;

	ResetExprContext(shape->econtext);
	shape->econtext->ecxt_scantuple = row;
	old = MemoryContextSwitchTo(shape->econtext->ecxt_per_tuple_memory);
	foreach(cell, shape->key_states)
	{
		shape->values[i] = ExecEvalExpr(lfirst(cell), shape->econtext, &shape->isnull[i]);
		i++;
	}
	return old;
}

uint64
ivm_ordered_hash_row(IvmOrderedShape *shape, TupleTableSlot *row)
{
	MemoryContext old;
	uint64		hash;

	if (shape->key_states == NIL)
		return 0;
	old = evaluate_key(shape, row);
	hash = ivm_key_hash_right(shape->key, shape->values, shape->isnull);
	MemoryContextSwitchTo(old);
	return hash;
}

uint64
ivm_ordered_hash_key(IvmOrderedShape *shape, const Datum *values, const bool *isnull)
{
	MemoryContext old;
	uint64		hash;

	if (shape->key_states == NIL)
		return 0;
	ResetExprContext(shape->econtext);
	old = MemoryContextSwitchTo(shape->econtext->ecxt_per_tuple_memory);
	hash = ivm_key_hash_left(shape->key, values, isnull);
	MemoryContextSwitchTo(old);
	return hash;
}

bool
ivm_ordered_row_has_key(IvmOrderedShape *shape, TupleTableSlot *row, const Datum *values, const bool *isnull)
{
	MemoryContext old;
	bool		result;

	if (shape->key_states == NIL)
		return true;
	old = evaluate_key(shape, row);
	result = ivm_key_equal(shape->key, values, isnull, shape->values, shape->isnull);
	MemoryContextSwitchTo(old);
	return result;
}
