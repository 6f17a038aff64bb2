/*-------------------------------------------------------------------------
 *
 * aggregate_keyed.c
 *	  An aggregate that stores nothing: groups are computed from their rows, old and new.
 *
 * For each group that the delta has rows of, the rows of the new state are looked up by the group
 * columns.  Those of the old state are they minus the delta, consolidated; the group is
 * computed from both, and the difference is emitted.  Whatever has changed together, also rows that go from one
 * group to another: each touched group is taken once, with all of its input old, and all of it new.
 *
 * What goes is what came only if the result is a function of the rows alone.  So every state is made by adding the
 * rows to an empty one, nothing is ever taken away, and calls for which the order of rows could make a difference
 * get them sorted (replay.c), in the first fill, too.  Group columns that are equal and look different are
 * left to the aggregates that store what they show (compile/group_rows.c).
 *
 * A row of the old state that would have been there less than zero times is an error: something below gives
 * other rows when they are looked up than it gave when they changed.
 *
 * Costs: the rows of the group, twice, and a lookup.  A group that has become large stays exact, and costs that.
 *
 * Memory: the delta in an index by the group's hash, the old rows of one group in a Z-set, both of which are spilled.
 * The states of groups, of two at a time, or, where rows are sorted, of as many as may be in memory, as in
 * aggregate_groups.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "dataflow/aggregate_internal.h"
#include "dataflow/source.h"
#include "zset/row_index.h"

/* A touched group. */
typedef struct TouchedGroup
{
	AggregateGroup *new;
	AggregateGroup *old;
} TouchedGroup;

typedef struct KeyedChange
{
	IvmOperator *op;
	AggregateRun *state;
	IvmRowIndex *delta;			/* by the hash of the group */
	IvmZset    *before;			/* the old rows of one group */
	List	   *waiting;		/* TouchedGroup: their rows are being sorted */
	AggregateGroup *group;		/* whose rows are looked up */
} KeyedChange;

static void
index_delta(KeyedChange *change)
{
	AggregateRun *state = change->state;
	int64		groups = 0;
	IvmZsetParts parts;
	IvmRow	  **rows;
	int64		count;

	change->delta = ivm_row_index_create(change->op->dataflow->arena);
	ivm_zset_parts_begin(state->delta, &parts);
	while ((rows = ivm_zset_parts_next(&parts, &count)) != NULL)
	{
		for (int64 i = 0; i < count; i++)
		{
			Datum		values[MaxTupleAttributeNumber];
			bool		isnull[MaxTupleAttributeNumber];
			uint64		hash;

			CHECK_FOR_INTERRUPTS();
			ExecStoreMinimalTuple(ivm_row_tuple(rows[i]), state->input_row, false);
			hash = ivm_group_key(state, state->input_row, values, isnull, 0);
			ivm_row_index_add(change->delta, ivm_row_tuple(rows[i]), rows[i]->weight, hash);
			MemoryContextReset(state->scratch);
		}
		groups += count;
	}
	ExecClearTuple(state->input_row);
	ivm_zset_parts_end(&parts);
	ivm_zset_clear(state->delta);
	ivm_row_index_finish(change->delta);
	ivm_source_expect(state->source, groups);
}

/* Is the row one of that group? */
static bool
is_of_group(AggregateRun *state, TupleTableSlot *row, AggregateGroup *group)
{
	Datum		values[MaxTupleAttributeNumber];
	bool		isnull[MaxTupleAttributeNumber];

	(void) ivm_group_key(state, row, values, isnull, group->hash);
	return ivm_key_equal(state->key, values, isnull, group->look.values, group->look.isnull);
}

/* A row was found that may be of the group. */
static bool
found_row(void *context, TupleTableSlot *row, int64 weight)
{
	KeyedChange *change = context;
	AggregateRun *state = change->state;
	MemoryContext old = MemoryContextSwitchTo(state->scratch);

	CHECK_FOR_INTERRUPTS();
	if (is_of_group(state, row, change->group))
	{
		ivm_group_add(state, change->group, row, weight);
		ivm_zset_add(change->before, row, weight);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(state->scratch);
	return true;
}

/* Takes what the batch brought from the rows of the group. */
static void
subtract_delta(KeyedChange *change, AggregateGroup *group)
{
	AggregateRun *state = change->state;
	IvmRow	   *row;

	ivm_row_index_find(change->delta, group->hash);
	while ((row = ivm_row_index_next(change->delta)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		ExecStoreMinimalTuple(ivm_row_tuple(row), state->input_row, false);
		if (is_of_group(state, state->input_row, group))
			ivm_zset_add_tuple(change->before, ivm_row_tuple(row), -row->weight);
		MemoryContextReset(state->scratch);
	}
	ExecClearTuple(state->input_row);
}

/* Adds the rows of the old state to the group as it was. */
static void
add_old_rows(KeyedChange *change, AggregateGroup *group)
{
	AggregateRun *state = change->state;
	IvmZsetParts parts;
	IvmRow	  **rows;
	int64		count;

	ivm_zset_parts_begin(change->before, &parts);
	while ((rows = ivm_zset_parts_next(&parts, &count)) != NULL)
		for (int64 i = 0; i < count; i++)
		{
			CHECK_FOR_INTERRUPTS();
			if (rows[i]->weight < 0)
				ereport(ERROR,
						(errcode(ERRCODE_DATA_CORRUPTED),
						 errmsg("a row of a group was there " INT64_FORMAT " times before the batch", rows[i]->weight),
						 errhint("Use REFRESH MATERIALIZED VIEW to rebuild the view.")));
			ExecStoreMinimalTuple(ivm_row_tuple(rows[i]), state->input_row, false);
			ivm_group_add(state, group, state->input_row, rows[i]->weight);
			MemoryContextReset(state->scratch);
		}
	ExecClearTuple(state->input_row);
	ivm_zset_parts_end(&parts);
	ivm_zset_clear(change->before);
}

/* All rows of both have been added. */
static void
write_group(KeyedChange *change, TouchedGroup *touched)
{
	if (touched->old->count > 0)
		touched->new->old_output = ivm_group_output(change->state, touched->old);
	ivm_group_write(change->op, touched->new);
	MemoryContextReset(change->state->scratch);
}

/* Computes a group from its rows, or adds it to those whose rows are being sorted. */
static void
change_group(KeyedChange *change, AggregateGroup *group)
{
	AggregateRun *state = change->state;
	TouchedGroup touched = {.new = group};
	Datum		values[MaxTupleAttributeNumber];
	bool		isnull[MaxTupleAttributeNumber];

	for (int i = 0; i < state->ncolumns; i++)
	{
		int			column = list_nth_int(change->op->node->row_keys, i);

		values[i] = group->look.values[column];
		isnull[i] = group->look.isnull[column];
	}
	/* a pass takes groups in the order in which they are finished */
	group->number = state->numbered++;
	change->group = group;
	(void) ivm_source_find(state->source, values, isnull, found_row, change);
	subtract_delta(change, group);
	touched.old = ivm_group_create(state, state->open.context, group->hash, group->look.values, group->look.isnull);
	add_old_rows(change, touched.old);

	if (state->pass == NULL)
		write_group(change, &touched);
	else
	{
		MemoryContext old = MemoryContextSwitchTo(state->open.context);
		TouchedGroup *kept = palloc(sizeof(TouchedGroup));

		*kept = touched;
		change->waiting = lappend(change->waiting, kept);
		MemoryContextSwitchTo(old);
	}
}

/* Computes those whose rows have been sorted. */
static void
finish_waiting(KeyedChange *change)
{
	AggregateRun *state = change->state;
	IvmReplayPass *pass = state->pass;
	ListCell   *cell;

	state->pass = NULL;
	ivm_replay_perform(pass);
	foreach(cell, change->waiting)
	{
		TouchedGroup *touched = lfirst(cell);

		CHECK_FOR_INTERRUPTS();
		ivm_group_replay(state, pass, touched->new, state->scratch);
		ivm_group_replay(state, pass, touched->old, state->scratch);
		write_group(change, touched);
	}
	ivm_replay_end(pass);
	change->waiting = NIL;
}

/* Groups that the delta has rows of with that hash; they are among those that are open. */
static List *
touched_groups(KeyedChange *change, uint64 hash)
{
	AggregateRun *state = change->state;
	MemoryContext context = state->open.context;
	List	   *groups = NIL;
	IvmRow	   *row;

	ivm_row_index_find(change->delta, hash);
	while ((row = ivm_row_index_next(change->delta)) != NULL)
	{
		Datum		values[MaxTupleAttributeNumber];
		bool		isnull[MaxTupleAttributeNumber];
		MemoryContext old;

		CHECK_FOR_INTERRUPTS();
		ExecStoreMinimalTuple(ivm_row_tuple(row), state->input_row, false);
		(void) ivm_group_key(state, state->input_row, values, isnull, hash);
		if (ivm_groups_find(state, &state->open, hash, values, isnull) == NULL)
		{
			AggregateGroup *group = ivm_group_create(state, context, hash, values, isnull);

			ivm_groups_insert(&state->open, group);
			old = MemoryContextSwitchTo(context);
			groups = lappend(groups, group);
			MemoryContextSwitchTo(old);
		}
		MemoryContextReset(state->scratch);
	}
	ExecClearTuple(state->input_row);
	return groups;
}

void
ivm_keyed_change_groups(IvmOperator *op)
{
	AggregateRun *state = op->state;
	KeyedChange change = {.op = op, .state = state};
	MemoryContext old = MemoryContextSwitchTo(state->context);
	uint64		hash = 0;

	index_delta(&change);
	change.before = ivm_zset_create(op->dataflow->arena, state->input_desc);
	MemoryContextSwitchTo(state->scratch);
	while (ivm_row_index_walk(change.delta, &hash))
	{
		ListCell   *cell;

		CHECK_FOR_INTERRUPTS();
		if (state->in_order && state->pass == NULL)
			state->pass = ivm_groups_pass(op, state->context, false);
		foreach(cell, touched_groups(&change, hash))
			change_group(&change, lfirst(cell));
		if (state->pass == NULL || !ivm_groups_charge(state))
		{
			if (state->pass != NULL)
				finish_waiting(&change);
			ivm_groups_reset(state, &state->open);
		}
		if (hash++ == PG_UINT64_MAX)
			break;
	}
	if (state->pass != NULL)
		finish_waiting(&change);
	ivm_groups_reset(state, &state->open);
	MemoryContextSwitchTo(old);
	ivm_zset_close(change.before);
	ivm_row_index_destroy(change.delta);
}
