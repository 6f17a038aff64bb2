/*-------------------------------------------------------------------------
 *
 * aggregate_keyed.c
 *	  An aggregate that stores nothing: groups are computed from their rows, old and new.
 *
 * For each group that the delta has rows of, the rows of the new state are looked up by the group
 * columns that its index has, once for all groups that it finds.  Those of the old state are they minus the delta, consolidated; the group is
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
 * Costs: the rows of the group, twice, and a lookup.  A group that has become large stays exact, and costs that.  Where a
 * lookup finds the rows of more groups than there is memory for, it is made several times.
 *
 * Memory: the delta in an index by the hash of what is looked up by, the old rows of the groups of a lookup in a Z-set,
 * both of which are spilled.  The states of the groups of a lookup, or, where rows are sorted, of as many as may
 * be in memory, as in aggregate_groups.c.
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

/* Bytes that a group takes, with what it was before: a guess. */
#define GROUP_SIZE	1024

/* Groups at a time while spilling is forced. */
#define FORCED_GROUPS	2

typedef struct KeyedChange
{
	IvmOperator *op;
	AggregateRun *state;
	IvmRowIndex *delta;			/* by the hash of what is looked up by */
	IvmZset    *before;			/* the old rows of the groups of that hash */
	List	   *groups;			/* AggregateGroup: of that hash, of this part */
	List	   *waiting;		/* whose rows are being sorted */
	uint64		nparts;
	uint64		part;
	int64		lookups;		/* so far; the present one */
} KeyedChange;

/*
 * What a lookup is made by
 */

void
ivm_keyed_init(IvmOperator *op)
{
	AggregateRun *state = op->state;
	IvmPlanNode *node = op->node;
	Oid		   *operators = palloc(sizeof(Oid) * state->ncolumns);
	Oid		   *collations = palloc(sizeof(Oid) * state->ncolumns);
	ListCell   *cell;

	op->has_state |= !ivm_accumulators_are_exact(state->accumulators);
	state->lookup_columns = palloc(sizeof(int) * state->ncolumns);
	foreach(cell, node->row_keys)
	{
		int			column = lfirst_int(cell);

		state->lookup_columns[state->nlookup] = column;
		operators[state->nlookup] = list_nth_oid(node->group_operators, column);
		collations[state->nlookup++] = list_nth_oid(node->group_collations, column);
	}
	state->lookup_key = ivm_key_create(state->nlookup, operators, collations, true);
}

/* Takes these of a group's columns. */
static void
take_lookup_columns(AggregateRun *state, const Datum *values, const bool *isnull, Datum *lookup_values, bool *lookup_isnull)
{
	for (int i = 0; i < state->nlookup; i++)
	{
		lookup_values[i] = values[state->lookup_columns[i]];
		lookup_isnull[i] = isnull[state->lookup_columns[i]];
	}
}

static uint64
lookup_hash(AggregateRun *state, TupleTableSlot *row)
{
	Datum		values[MaxTupleAttributeNumber];
	bool		isnull[MaxTupleAttributeNumber];
	Datum		lookup_values[MaxTupleAttributeNumber];
	bool		lookup_isnull[MaxTupleAttributeNumber];

	(void) ivm_group_key(state, row, values, isnull, 1);
	take_lookup_columns(state, values, isnull, lookup_values, lookup_isnull);
	return ivm_key_hash_right(state->lookup_key, lookup_values, lookup_isnull);
}

/* Are they looked up by the same? */
static bool
same_lookup(AggregateRun *state, AggregateGroup *a, AggregateGroup *b)
{
	Datum		values[2][MaxTupleAttributeNumber];
	bool		isnull[2][MaxTupleAttributeNumber];

	take_lookup_columns(state, a->look.values, a->look.isnull, values[0], isnull[0]);
	take_lookup_columns(state, b->look.values, b->look.isnull, values[1], isnull[1]);
	return ivm_key_equal(state->lookup_key, values[0], isnull[0], values[1], isnull[1]);
}

/*
 * The groups of one hash
 */

static void
index_delta(KeyedChange *change)
{
	AggregateRun *state = change->state;
	int64		lookups = 0;
	IvmZsetParts parts;
	IvmRow	  **rows;
	int64		count;

	change->delta = ivm_row_index_create(change->op->dataflow->arena);
	ivm_zset_parts_begin(state->delta, &parts);
	while ((rows = ivm_zset_parts_next(&parts, &count)) != NULL)
	{
		for (int64 i = 0; i < count; i++)
		{
			CHECK_FOR_INTERRUPTS();
			ExecStoreMinimalTuple(ivm_row_tuple(rows[i]), state->input_row, false);
			ivm_row_index_add(change->delta, ivm_row_tuple(rows[i]), rows[i]->weight,
							  lookup_hash(state, state->input_row));
			MemoryContextReset(state->scratch);
		}
		lookups += count;
	}
	ExecClearTuple(state->input_row);
	ivm_zset_parts_end(&parts);
	ivm_zset_clear(state->delta);
	ivm_row_index_finish(change->delta);
	ivm_source_expect(state->source, lookups);
}

/* The open group of a row, and its hash; NULL if it is not one of those that are looked at. */
static AggregateGroup *
group_of(KeyedChange *change, TupleTableSlot *row, uint64 *hash, Datum *values, bool *isnull)
{
	*hash = ivm_group_key(change->state, row, values, isnull, 0);
	if (change->nparts > 1 && *hash % change->nparts != change->part)
		return NULL;
	return ivm_groups_find(change->state, &change->state->open, *hash, values, isnull);
}

static void
open_group(KeyedChange *change, uint64 hash, Datum *values, bool *isnull)
{
	AggregateRun *state = change->state;
	MemoryContext context = state->open.context;
	AggregateGroup *group = ivm_group_create(state, context, hash, values, isnull);
	MemoryContext old = MemoryContextSwitchTo(context);

	/* a pass takes groups in the order of their numbers, in which they are finished */
	group->before = ivm_group_create(state, context, hash, values, isnull);
	ivm_groups_insert(&state->open, group);
	change->groups = lappend(change->groups, group);
	MemoryContextSwitchTo(old);
}

/* Opens the groups of this part that the delta has rows of with that hash. */
static void
open_groups(KeyedChange *change, uint64 hash)
{
	AggregateRun *state = change->state;
	IvmRow	   *row;

	change->groups = NIL;
	ivm_row_index_find(change->delta, hash);
	while ((row = ivm_row_index_next(change->delta)) != NULL)
	{
		Datum		values[MaxTupleAttributeNumber];
		bool		isnull[MaxTupleAttributeNumber];
		uint64		group_hash;

		CHECK_FOR_INTERRUPTS();
		ExecStoreMinimalTuple(ivm_row_tuple(row), state->input_row, false);
		if (group_of(change, state->input_row, &group_hash, values, isnull) == NULL &&
			group_hash % change->nparts == change->part)
			open_group(change, group_hash, values, isnull);
		MemoryContextReset(state->scratch);
	}
	ExecClearTuple(state->input_row);
}

/* A row was found that may be of one of the groups. */
static bool
found_row(void *context, TupleTableSlot *row, int64 weight)
{
	KeyedChange *change = context;
	AggregateRun *state = change->state;
	MemoryContext old = MemoryContextSwitchTo(state->scratch);
	Datum		values[MaxTupleAttributeNumber];
	bool		isnull[MaxTupleAttributeNumber];
	uint64		hash;
	AggregateGroup *group;

	CHECK_FOR_INTERRUPTS();
	group = group_of(change, row, &hash, values, isnull);
	/* rows of other groups may come, but not all of them */
	if (group != NULL && group->lookup == change->lookups)
	{
		ivm_group_add(state, group, row, weight);
		ivm_zset_add(change->before, row, weight);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(state->scratch);
	return true;
}

static void
look_up(KeyedChange *change, AggregateGroup *group)
{
	AggregateRun *state = change->state;
	Datum		values[MaxTupleAttributeNumber];
	bool		isnull[MaxTupleAttributeNumber];
	MemoryContext old;

	take_lookup_columns(state, group->look.values, group->look.isnull, values, isnull);
	/* scans keep what they allocate */
	old = MemoryContextSwitchTo(state->context);
	(void) ivm_source_find(state->source, values, isnull, found_row, change);
	MemoryContextSwitchTo(old);
}

/* Finds the rows of the groups, with one lookup for all that are looked up by the same: which is all of them, as a rule. */
static void
look_up_groups(KeyedChange *change)
{
	List	   *rest = change->groups;

	while (rest != NIL)
	{
		AggregateGroup *leader = linitial(rest);
		List	   *others = NIL;
		ListCell   *cell;

		change->lookups++;
		foreach(cell, rest)
		{
			AggregateGroup *group = lfirst(cell);

			if (!same_lookup(change->state, group, leader))
			{
				others = lappend(others, group);
				continue;
			}
			group->lookup = change->lookups;
		}
		look_up(change, leader);
		rest = others;
	}
}

/* Takes what the batch brought from the rows of the groups. */
static void
subtract_delta(KeyedChange *change, uint64 hash)
{
	AggregateRun *state = change->state;
	IvmRow	   *row;

	ivm_row_index_find(change->delta, hash);
	while ((row = ivm_row_index_next(change->delta)) != NULL)
	{
		Datum		values[MaxTupleAttributeNumber];
		bool		isnull[MaxTupleAttributeNumber];
		uint64		group_hash;

		CHECK_FOR_INTERRUPTS();
		ExecStoreMinimalTuple(ivm_row_tuple(row), state->input_row, false);
		if (group_of(change, state->input_row, &group_hash, values, isnull) != NULL)
			ivm_zset_add_tuple(change->before, ivm_row_tuple(row), -row->weight);
		MemoryContextReset(state->scratch);
	}
	ExecClearTuple(state->input_row);
}

/* Adds the rows of the old state to the groups as they were. */
static void
add_old_rows(KeyedChange *change)
{
	AggregateRun *state = change->state;
	IvmZsetParts parts;
	IvmRow	  **rows;
	int64		count;

	ivm_zset_parts_begin(change->before, &parts);
	while ((rows = ivm_zset_parts_next(&parts, &count)) != NULL)
		for (int64 i = 0; i < count; i++)
		{
			Datum		values[MaxTupleAttributeNumber];
			bool		isnull[MaxTupleAttributeNumber];
			uint64		hash;
			AggregateGroup *group;

			CHECK_FOR_INTERRUPTS();
			if (rows[i]->weight < 0)
				ereport(ERROR,
						(errcode(ERRCODE_DATA_CORRUPTED),
						 errmsg("a row of a group was there " INT64_FORMAT " times before the batch", rows[i]->weight),
						 errhint("Use REFRESH MATERIALIZED VIEW to rebuild the view.")));
			ExecStoreMinimalTuple(ivm_row_tuple(rows[i]), state->input_row, false);
			group = group_of(change, state->input_row, &hash, values, isnull);
			ivm_group_add(state, group->before, state->input_row, rows[i]->weight);
			MemoryContextReset(state->scratch);
		}
	ExecClearTuple(state->input_row);
	ivm_zset_parts_end(&parts);
	ivm_zset_clear(change->before);
}

/* All rows of it, and of what it was, have been added. */
static void
write_group(KeyedChange *change, AggregateGroup *group)
{
	if (group->before->count > 0)
		group->old_output = ivm_group_output(change->state, group->before);
	ivm_group_write(change->op, group);
	MemoryContextReset(change->state->scratch);
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
		AggregateGroup *group = lfirst(cell);

		CHECK_FOR_INTERRUPTS();
		ivm_group_replay(state, pass, group, state->scratch);
		ivm_group_replay(state, pass, group->before, state->scratch);
		write_group(change, group);
	}
	ivm_replay_end(pass);
	change->waiting = NIL;
}

/* Computes the groups of this part from their rows, or adds them to those whose rows are being sorted. */
static void
change_groups(KeyedChange *change, uint64 hash)
{
	AggregateRun *state = change->state;
	MemoryContext old;
	ListCell   *cell;

	if (state->in_order && state->pass == NULL)
		state->pass = ivm_groups_pass(change->op, state->context, false);
	open_groups(change, hash);
	old = MemoryContextSwitchTo(state->open.context);
	look_up_groups(change);
	MemoryContextSwitchTo(old);
	subtract_delta(change, hash);
	add_old_rows(change);

	if (state->pass == NULL)
	{
		foreach(cell, change->groups)
			write_group(change, lfirst(cell));
		ivm_groups_reset(state, &state->open);
		return;
	}
	old = MemoryContextSwitchTo(state->open.context);
	change->waiting = list_concat(change->waiting, change->groups);
	MemoryContextSwitchTo(old);
	if (!ivm_groups_charge(state))
	{
		finish_waiting(change);
		ivm_groups_reset(state, &state->open);
	}
}

/* In how many parts the groups of that hash are taken: there are as many as rows of the delta at most. */
static uint64
count_parts(KeyedChange *change, uint64 hash)
{
	AggregateRun *state = change->state;
	uint64		most = state->forced ? FORCED_GROUPS : Max(state->limit / GROUP_SIZE, FORCED_GROUPS);
	uint64		rows = 0;

	/* all of its groups are one if the columns that decide are all of them */
	if (state->nlookup == state->ncolumns)
		return 1;
	ivm_row_index_find(change->delta, hash);
	while (ivm_row_index_next(change->delta) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		rows++;
	}
	return (rows + most - 1) / most;
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
		change.nparts = count_parts(&change, hash);
		for (change.part = 0; change.part < change.nparts; change.part++)
			change_groups(&change, hash);
		if (hash++ == PG_UINT64_MAX)
			break;
	}
	if (state->pass != NULL)
	{
		finish_waiting(&change);
		ivm_groups_reset(state, &state->open);
	}
	MemoryContextSwitchTo(old);
	ivm_zset_close(change.before);
	ivm_row_index_destroy(change.delta);
}
