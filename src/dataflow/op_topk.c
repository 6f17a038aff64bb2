/*-------------------------------------------------------------------------
 *
 * op_topk.c
 *	  The first rows in an order: ORDER BY with LIMIT and OFFSET, WITH TIES, DISTINCT ON.
 *
 * Rows of a key have places in the canonical order (arrange/row_order.h): by the order that the query asks
 * for, and where that leaves it open by the rows' images.  The output has the rows at the places from
 * "offset" on, "count" of them, and with ties those that the order does not tell from the last
 * one.
 *
 * For each key that the delta has rows of, the new and the old output are found by one walk
 * through the new state, merged with the delta: at each row the new weight is that of
 * the new state, the old one is it minus the delta's, and each counts on in places of its own.  It
 * is over when both have passed the last place.  So it reads offset + count rows, those that were added before
 * them and the ties, however many the key has.
 *
 * Where there is one key, the last row of the output is remembered from one batch to the next.  A delta
 * with nothing but rows behind it changes nothing, and is not walked.
 *
 * The operator keeps no state: its input's rows are in an ordered arrangement.  Where no order is asked for it keeps
 * the first of them itself (prefix.c), and reads on in the input when they are too few.  In population there are no old
 * rows.  Of one key the walk is the same; of many all rows are sorted as they come, and give the output
 * without any walk.
 *
 * The executor must not stand in for it: it leaves ties to chance.
 *
 * Memory: the delta in a Z-set and, where it is more than a row, a sort; the row remembered in a context of the
 * dataflow's.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/datum.h"
#include "utils/memutils.h"

#include "arrange/walk.h"
#include "dataflow/operator.h"
#include "dataflow/prefix.h"

/* How far one side, old or new, has come in the places of a key. */
typedef struct Side
{
	int64		place;			/* rows before this one */
	bool		has_last;		/* the last place was reached, at: */
	Datum	   *values;
	bool	   *isnull;
	bool		done;
} Side;

typedef struct TopkRun
{
	IvmWalk    *walk;
	IvmPrefix  *prefix;			/* keeps the first rows alone; NULL: all are
								 * there */
	IvmOrderedShape *shape;
	IvmRowOrder *sort_order;	/* the shape's, for sorting at the same time */
	int64		end;			/* the place behind the last one;
								 * PG_INT64_MAX: all */
	int			nkeys;
	MemoryContext boundary_context;
	bool		has_boundary;
	Datum	   *boundary_values;	/* the order's, of the last row */
	bool	   *boundary_isnull;
	uint64		boundary_image;
	MinimalTuple boundary;

	/* of the batch */
	bool		ignored;		/* what is received */
	IvmZset    *delta;
	MemoryContext context;		/* of the present key */
	IvmRowSort *sorted;
	IvmSortedRow *next;			/* of the delta */
	uint64		key_hash;
	Datum	   *key_values;
	bool	   *key_isnull;
	TupleTableSlot *row;
	TupleTableSlot *other;
	Datum	   *values;			/* the order's, of a row */
	bool	   *isnull;
	Side		old_side;
	Side		new_side;
} TopkRun;

static void
topk_init(IvmOperator *op)
{
	IvmPlanNode *node = op->node;
	TopkRun    *run = palloc0(sizeof(TopkRun));
	int			ncolumns = Max(list_length(node->order), 1);
	Side	   *sides[] = {&run->old_side, &run->new_side};

	op->state = run;
	run->walk = ivm_walk_create(node->ordered, op->dataflow->plan->relid);
	run->shape = ivm_walk_shape(run->walk);
	run->sort_order = ivm_row_order_create(node->ordered->order, node->desc);
	run->end = node->count < 0 || node->count > PG_INT64_MAX - node->offset ? PG_INT64_MAX : node->offset + node->count;
	run->nkeys = list_length(node->key_columns);
	if (node->ordered->first_of != NULL)
		run->prefix = ivm_prefix_create(node->ordered, run->end);
	run->boundary_context = AllocSetContextCreate(CurrentMemoryContext, "ivm boundary", ALLOCSET_SMALL_SIZES);
	run->boundary_values = palloc(sizeof(Datum) * ncolumns);
	run->boundary_isnull = palloc(sizeof(bool) * ncolumns);
	run->key_values = palloc(sizeof(Datum) * Max(run->nkeys, 1));
	run->key_isnull = palloc(sizeof(bool) * Max(run->nkeys, 1));
	run->row = MakeSingleTupleTableSlot(node->desc, &TTSOpsMinimalTuple);
	run->other = MakeSingleTupleTableSlot(node->desc, &TTSOpsMinimalTuple);
	run->values = palloc(sizeof(Datum) * ncolumns);
	run->isnull = palloc(sizeof(bool) * ncolumns);
	for (int i = 0; i < lengthof(sides); i++)
	{
		sides[i]->values = palloc(sizeof(Datum) * ncolumns);
		sides[i]->isnull = palloc(sizeof(bool) * ncolumns);
	}
}

static void
topk_begin(IvmOperator *op)
{
	TopkRun    *run = op->state;

	run->ignored = op->dataflow->populating && run->nkeys == 0 && run->prefix == NULL;
	run->delta = ivm_zset_create(op->dataflow->arena, op->node->desc);
	run->context = AllocSetContextCreate(CurrentMemoryContext, "ivm topk key", ALLOCSET_DEFAULT_SIZES);
	run->sorted = NULL;
	if (op->dataflow->populating && run->nkeys > 0)
		run->sorted = ivm_row_sort_create(run->sort_order);
	if (run->prefix != NULL)
		ivm_prefix_begin(run->prefix, op->dataflow);
	ivm_walk_begin(run->walk, op->dataflow->snapshot);
}

static void
sort_row(TopkRun *run, MinimalTuple tuple, int64 weight)
{
	ExecStoreMinimalTuple(tuple, run->other, false);
	ivm_row_sort_add(run->sorted, ivm_ordered_hash_row(run->shape, run->other), tuple, weight);
	ExecClearTuple(run->other);
}

static bool
topk_wants(IvmOperator *op, int input)
{
	return !((TopkRun *) op->state)->ignored;
}

static void
topk_receive(IvmOperator *op, int input, TupleTableSlot *row, int64 weight)
{
	TopkRun    *run = op->state;

	if (run->sorted != NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(run->context);

		sort_row(run, ivm_row_form(op->node->desc, row), weight);
		MemoryContextSwitchTo(old);
		MemoryContextReset(run->context);
	}
	else if (run->ignored)
		return;
	else if (run->prefix != NULL && op->dataflow->populating)
		ivm_prefix_collect(run->prefix, row, weight);
	else if (run->prefix == NULL || ivm_prefix_keeps(run->prefix, row))
		ivm_zset_add(run->delta, row, weight);
}

/* ---- places ---- */

/* Are the order's values, of the row at hand, those of the side's last place? */
static bool
is_tie(TopkRun *run, Side *side)
{
	return ivm_row_order_compare(run->shape->order, run->shape->order->ncolumns, run->values, run->isnull,
								 side->values, side->isnull) == 0;
}

/* So many copies of the row at hand come: how many of them are in the output? */
static int64
pass(IvmOperator *op, Side *side, int64 weight)
{
	TopkRun    *run = op->state;
	int64		begin = side->place;
	int64		end = begin + weight;
	int64		result;

	if (weight == 0 || side->done)
		return 0;
	if (side->has_last && !is_tie(run, side))
	{
		side->done = true;
		return 0;
	}
	side->place = end;
	if (side->has_last)
		return weight;
	result = Max(Min(end, run->end) - Max(begin, op->node->offset), 0);
	if (end < run->end)
		return result;
	if (!op->node->with_ties || run->end <= op->node->offset)
	{
		side->done = true;
		return result;
	}

	/* the rest of its copies tie with it, as may the next rows */
	side->has_last = true;
	result = end - Max(begin, op->node->offset);
	for (int i = 0; i < run->shape->order->ncolumns; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(run->context);

		side->isnull[i] = run->isnull[i];
		side->values[i] = run->isnull[i] ? (Datum) 0 :
			datumCopy(run->values[i], run->shape->order->byval[i], run->shape->order->lengths[i]);
		MemoryContextSwitchTo(old);
	}
	return result;
}

/* The row that is remembered of a single key: the one at the last place, of the new state. */
static void
remember_boundary(TopkRun *run, MinimalTuple tuple)
{
	MemoryContext old;

	MemoryContextReset(run->boundary_context);
	old = MemoryContextSwitchTo(run->boundary_context);
	run->boundary = heap_copy_minimal_tuple(tuple);
	run->boundary_image = ivm_row_image_hash(tuple);
	for (int i = 0; i < run->shape->order->ncolumns; i++)
	{
		run->boundary_isnull[i] = run->isnull[i];
		run->boundary_values[i] = run->isnull[i] ? (Datum) 0 :
			datumCopy(run->values[i], run->shape->order->byval[i], run->shape->order->lengths[i]);
	}
	run->has_boundary = true;
	MemoryContextSwitchTo(old);
}

/*
 * The next row of the key: in the order of which run->values are the values.  Returns false when
 * nothing that follows can make a difference.
 */
static bool
take(IvmOperator *op, TupleTableSlot *row, MinimalTuple tuple, int64 new_weight, int64 delta)
{
	TopkRun    *run = op->state;
	int64		old_weight = new_weight - delta;
	int64		difference;
	bool		was_full = run->new_side.done || run->new_side.has_last;

	if (old_weight < 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg_internal("a row of node %d was there " INT64_FORMAT " times before the batch",
								 ((IvmPlanNode *) linitial(op->node->inputs))->node_id, old_weight)));
	difference = pass(op, &run->new_side, new_weight);
	if (run->nkeys == 0 && !was_full && (run->new_side.done || run->new_side.has_last))
		remember_boundary(run, tuple);
	difference -= pass(op, &run->old_side, old_weight);
	if (difference != 0)
		ivm_operator_emit(op, row, difference);
	return !run->new_side.done || !run->old_side.done;
}

/* Is the delta's next row one of the present key? */
static bool
delta_has_key(TopkRun *run)
{
	bool		result;

	if (run->next == NULL || run->next->hash != run->key_hash)
		return false;
	ExecStoreMinimalTuple(run->next->tuple, run->other, false);
	result = ivm_ordered_row_has_key(run->shape, run->other, run->key_values, run->key_isnull);
	ExecClearTuple(run->other);
	return result;
}

/* Takes the sort's next row. */
static bool
take_row(IvmOperator *op, int64 new_weight, int64 delta)
{
	TopkRun    *run = op->state;
	IvmSortedRow *next = run->next;
	bool		more;

	for (int i = 0; i < run->shape->order->ncolumns; i++)
	{
		run->values[i] = next->values[i];
		run->isnull[i] = next->isnull[i];
	}
	ExecStoreMinimalTuple(next->tuple, run->row, false);
	more = take(op, run->row, next->tuple, new_weight, delta);
	ExecClearTuple(run->row);
	return more;
}

/* Takes the delta's next row, which is in no row of the new state, and goes on to the one behind it. */
static bool
take_delta(IvmOperator *op, int64 new_weight)
{
	TopkRun    *run = op->state;
	bool		more = take_row(op, new_weight, run->next->weight);

	run->next = ivm_row_sort_next(run->sorted);
	return more;
}

/* A row of the new state: the delta's rows before it, then itself. */
static bool
take_stored(void *context, TupleTableSlot *row, int64 weight)
{
	IvmOperator *op = context;
	TopkRun    *run = op->state;
	IvmRowOrder *order = run->shape->order;
	MinimalTuple tuple = ExecFetchSlotMinimalTuple(row, NULL);
	uint64		image = ivm_row_image_hash(tuple);
	int64		delta = 0;

	CHECK_FOR_INTERRUPTS();
	for (;;)
	{
		int			result = 1;

		ivm_row_order_values(order, row, run->values, run->isnull);
		if (delta_has_key(run))
		{
			result = ivm_row_order_compare(order, order->ncolumns, run->next->values, run->next->isnull,
										   run->values, run->isnull);
			if (result == 0)
				result = ivm_row_order_compare_images(run->next->image, run->next->tuple, image, tuple);
		}
		if (result == 0)
		{
			delta = run->next->weight;
			run->next = ivm_row_sort_next(run->sorted);
		}
		if (result >= 0)
			break;
		if (!take_delta(op, 0))
			return false;
	}
	return take(op, row, tuple, weight, delta);
}

static void
begin_key(TopkRun *run)
{
	Side	   *sides[] = {&run->old_side, &run->new_side};

	MemoryContextReset(run->context);
	for (int i = 0; i < lengthof(sides); i++)
	{
		sides[i]->place = 0;
		sides[i]->has_last = false;
		sides[i]->done = run->end == 0;
	}
}

/* The key of the delta's next row. */
static void
set_key(TopkRun *run)
{
	MemoryContext old = MemoryContextSwitchTo(run->context);
	int			i = 0;
	ListCell   *cell;

	run->key_hash = run->next->hash;
	ExecStoreMinimalTuple(heap_copy_minimal_tuple(run->next->tuple), run->other, false);
	/* columns of the row, which is kept as long as the key */
	foreach(cell, run->shape->arrangement->keys)
	{
		Var		   *var = lfirst_node(Var, cell);

		run->key_values[i] = slot_getattr(run->other, var->varattno, &run->key_isnull[i]);
		i++;
	}
	ExecClearTuple(run->other);
	MemoryContextSwitchTo(old);
}

/*
 * The rows that are kept were too few: those that come next, of the new state.  Of the old one nothing is looked for,
 * as then they were not.
 */
static void
extend(IvmOperator *op)
{
	TopkRun    *run = op->state;

	while (!run->new_side.done && !ivm_prefix_is_all(run->prefix))
	{
		IvmRowSort *sort = ivm_row_sort_create(run->sort_order);
		IvmZset    *extension = ivm_prefix_extend(run->prefix, ivm_operator_input(op, 0));
		IvmZsetParts parts;
		IvmRow	  **rows;
		int64		count;

		ivm_zset_parts_begin(extension, &parts);
		while ((rows = ivm_zset_parts_next(&parts, &count)) != NULL)
			for (int64 i = 0; i < count; i++)
				ivm_row_sort_add(sort, 0, ivm_row_tuple(rows[i]), rows[i]->weight);
		ivm_zset_parts_end(&parts);
		ivm_row_sort_perform(sort);
		while ((run->next = ivm_row_sort_next(sort)) != NULL && take_row(op, run->next->weight, 0))
			continue;
		run->next = NULL;
		ivm_row_sort_end(sort);
	}
}

/* The whole delta, key by key; "alone": there is nothing else. */
static void
run_keys(IvmOperator *op, bool alone)
{
	TopkRun    *run = op->state;

	run->next = ivm_row_sort_next(run->sorted);
	while (run->next != NULL)
	{
		bool		more = true;

		begin_key(run);
		set_key(run);
		if (!alone)
			more = ivm_walk_rows(run->walk, run->key_values, run->key_isnull, take_stored, op);
		while (delta_has_key(run))
		{
			if (more)
				more = take_delta(op, alone ? run->next->weight : 0);
			else
				run->next = ivm_row_sort_next(run->sorted);
		}
		if (run->prefix != NULL)
			extend(op);
	}
}

/* Does the row come behind the last row of the output, and of those that tie with it? */
static bool
is_behind_boundary(IvmOperator *op, IvmRow *row)
{
	TopkRun    *run = op->state;
	IvmRowOrder *order = run->shape->order;
	MinimalTuple tuple = ivm_row_tuple(row);
	int			result;

	ExecStoreMinimalTuple(tuple, run->other, false);
	ivm_row_order_values(order, run->other, run->values, run->isnull);
	result = ivm_row_order_compare(order, order->ncolumns, run->values, run->isnull,
								   run->boundary_values, run->boundary_isnull);
	if (result == 0 && !op->node->with_ties)
		result = ivm_row_order_compare_images(ivm_row_image_hash(tuple), tuple, run->boundary_image, run->boundary);
	ExecClearTuple(run->other);
	return result > 0;
}

/* The output of all keys from nothing: the sorted rows are all that there is. */
static void
finish_sorted(IvmOperator *op)
{
	TopkRun    *run = op->state;

	ivm_row_sort_perform(run->sorted);
	run_keys(op, true);
	ivm_row_sort_end(run->sorted);
	run->sorted = NULL;
}

static void
finish_batch(IvmOperator *op)
{
	TopkRun    *run = op->state;
	IvmZsetParts parts;
	IvmRow	  **rows;
	int64		count;
	bool		behind = run->has_boundary;

	if (ivm_zset_is_empty(run->delta))
		return;
	if (run->prefix != NULL)
		ivm_prefix_apply(run->prefix, run->delta);
	run->sorted = ivm_row_sort_create(run->sort_order);
	ivm_zset_parts_begin(run->delta, &parts);
	while ((rows = ivm_zset_parts_next(&parts, &count)) != NULL)
		for (int64 i = 0; i < count; i++)
		{
			CHECK_FOR_INTERRUPTS();
			behind = behind && is_behind_boundary(op, rows[i]);
			sort_row(run, ivm_row_tuple(rows[i]), rows[i]->weight);
		}
	ivm_zset_parts_end(&parts);
	if (!behind)
	{
		run->has_boundary = false;
		ivm_row_sort_perform(run->sorted);
		run_keys(op, false);
	}
	ivm_row_sort_end(run->sorted);
	run->sorted = NULL;
	if (run->prefix != NULL)
		ivm_prefix_settle(run->prefix);
}

/* The output of the only key, from nothing. */
static void
walk_all(IvmOperator *op)
{
	TopkRun    *run = op->state;

	begin_key(run);
	run->old_side.done = true;
	run->next = NULL;
	if (run->end > 0)
		(void) ivm_walk_rows(run->walk, run->key_values, run->key_isnull, take_stored, op);
	if (run->prefix != NULL)
		extend(op);
}

static void
topk_finish(IvmOperator *op)
{
	TopkRun    *run = op->state;

	if (run->prefix != NULL && op->dataflow->populating)
		ivm_prefix_fill(run->prefix);
	if (op->dataflow->populating && run->nkeys == 0)
	{
		walk_all(op);
		if (run->prefix != NULL)
			ivm_prefix_settle(run->prefix);
	}
	else if (run->sorted != NULL)
		finish_sorted(op);
	else
		finish_batch(op);
}

static void
receive_replayed(void *context, TupleTableSlot *row, int64 weight)
{
	topk_receive(context, 0, row, weight);
}

static void
topk_replay(IvmOperator *op)
{
	TopkRun    *run = op->state;

	if (run->nkeys == 0)
	{
		walk_all(op);
		return;
	}
	run->sorted = ivm_row_sort_create(run->sort_order);
	ivm_operator_replay(ivm_operator_input(op, 0), receive_replayed, op);
	finish_sorted(op);
}

static void
topk_end(IvmOperator *op)
{
	TopkRun    *run = op->state;

	ivm_zset_close(run->delta);
	ivm_walk_end(run->walk);
	if (run->prefix != NULL)
		ivm_prefix_end(run->prefix);
}

static void
topk_forget(IvmOperator *op)
{
	TopkRun    *run = op->state;

	run->has_boundary = false;
	if (run->prefix != NULL)
		ivm_prefix_forget(run->prefix);
}

const IvmOperatorRoutine ivm_op_topk = {
	.own_output = true,
	.init = topk_init,
	.begin = topk_begin,
	.receive = topk_receive,
	.wants = topk_wants,
	.finish = topk_finish,
	.replay = topk_replay,
	.end = topk_end,
	.forget = topk_forget,
};
