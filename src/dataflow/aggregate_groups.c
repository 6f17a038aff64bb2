/*-------------------------------------------------------------------------
 *
 * aggregate_groups.c
 *	  Groups of an aggregate: from the stored row to the new one.
 *
 * A group is opened: its stored states are loaded, and give its old output row.
 * Rows are added to it and taken away, and when it is closed the new states give
 * the new row, which is stored, and the difference of the two outputs is
 * emitted.  A group without input rows goes, and comes back like a new one.
 *
 * Output rows are made from the stored states, both the one that goes and the
 * one that comes, so what goes is what came.
 *
 * The rows that come to a group are added before those that go are taken away, and
 * the old input has at least those that go, if it has not come.  So an inverse
 * transition function is never asked for a value that is not there, and a state
 * is never emptied in between.  One that refuses all the same (it may return
 * NULL), and calls that cannot take rows away or keep a result alone, need all rows of the group.
 * (A value of min or max that goes is replaced by the next one, which is found in an ordered arrangement.)
 * Such groups are collected, as many as may be in memory, and their rows are looked up by the
 * group columns, or their input is read whole if it cannot be; replay.c computes
 * from them what is incomplete.
 *
 * Equal columns may look different (1.0 and 1.00, or a collation that does not
 * know case).  A group shows those of one of its rows, whichever, as the query
 * does, but it has to be a row that is there.  So the rows that look like what is
 * shown are counted: not all of them, if the group has taken over the columns of a
 * row that came, but never too many.  When none is left, the group shows those
 * of a row of the batch, the first that came and looked different, if a row like that is
 * left; else all of it is computed from its rows.
 *
 * Costs: a lookup and an update of the state table for each group; two calls of
 * transition functions for an updated row; for what needs the rows, all of the group's.
 *
 * Memory: groups in their table's context (aggregate_table.c); what is needed for
 * a moment in the scratch context.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/datum.h"
#include "utils/memutils.h"

#include "dataflow/aggregate_internal.h"
#include "dataflow/source.h"

/*
 * Keys and looks
 */

/* Takes the group columns of a row, and gives their hash; "hash" is that, if it is known, or 0. */
uint64
ivm_group_key(AggregateRun *state, TupleTableSlot *row, Datum *values, bool *isnull, uint64 hash)
{
	for (int i = 0; i < state->ncolumns; i++)
		values[i] = slot_getattr(row, state->columns[i], &isnull[i]);
	if (hash != 0 || state->ncolumns == 0)
		return hash;
	return ivm_key_hash_right(state->key, values, isnull);
}

static void
make_look(AggregateRun *state, MemoryContext context, Datum *values, bool *isnull, AggregateLook *look)
{
	MemoryContext old = MemoryContextSwitchTo(context);

	look->tuple = ivm_row_form_values(state->key_desc, values, isnull);
	look->values = palloc((sizeof(Datum) + sizeof(bool)) * Max(state->ncolumns, 1));
	look->isnull = (bool *) (look->values + state->ncolumns);
	ExecStoreMinimalTuple(look->tuple, state->key_row, false);
	slot_getallattrs(state->key_row);
	memcpy(look->values, state->key_row->tts_values, sizeof(Datum) * state->ncolumns);
	memcpy(look->isnull, state->key_row->tts_isnull, sizeof(bool) * state->ncolumns);
	ExecClearTuple(state->key_row);
	MemoryContextSwitchTo(old);
}

/* Do the group columns of a row look like these? */
static bool
looks_like(AggregateRun *state, TupleTableSlot *row, const AggregateLook *look)
{
	if (!state->varies)
		return true;
	for (int i = 0; i < state->ncolumns; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(state->key_desc, i);
		bool		isnull;
		Datum		value = slot_getattr(row, state->columns[i], &isnull);

		if (isnull != look->isnull[i] ||
			(!isnull && !datum_image_eq(value, look->values[i], attribute->attbyval, attribute->attlen)))
			return false;
	}
	return true;
}

/*
 * One group
 */

static IvmStateTable *
state_table(IvmOperator *op)
{
	AggregateRun *state = op->state;

	if (state->table == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(state->context);
		char	   *name = ivm_operator_state_name(op->node, op->dataflow->plan->relid);

		state->table = ivm_state_table_open(ivm_state_table_get(name), op->dataflow->snapshot);
		if (state->from_nothing)
			ivm_state_table_fill(state->table);
		pfree(name);
		MemoryContextSwitchTo(old);
	}
	return state->table;
}

/* Finds the stored row of a group: into state_row, with its columns taken out. */
static bool
load_stored(IvmOperator *op, uint64 hash, const Datum *values, const bool *isnull, ItemPointer tid)
{
	AggregateRun *state = op->state;
	IvmStateTable *table = state_table(op);
	TupleTableSlot *row = state->state_row;
	IvmStateRow *stored;

	ivm_state_table_find(table, hash);
	while ((stored = ivm_state_table_next(table)) != NULL)
	{
		/* the table's own tuple is gone with its next row */
		ExecStoreMinimalTuple(heap_copy_minimal_tuple(stored->tuple), row, false);
		slot_getsomeattrs(row, state->ncolumns + 2);
		if (ivm_key_equal(state->key, values, isnull, row->tts_values, row->tts_isnull))
		{
			*tid = stored->tid;
			return true;
		}
	}
	ExecClearTuple(row);
	return false;
}

/* The raw output row: group columns and results. */
static MinimalTuple
raw_output(AggregateRun *state, const Datum *group_values, const bool *group_isnull,
		   IvmAccumulatorState *states)
{
	Datum		values[MaxTupleAttributeNumber];
	bool		isnull[MaxTupleAttributeNumber];

	memcpy(values, group_values, sizeof(Datum) * state->ncolumns);
	memcpy(isnull, group_isnull, sizeof(bool) * state->ncolumns);
	ivm_accumulators_finish(state->accumulators, states, values + state->ncolumns, isnull + state->ncolumns);
	return ivm_row_form_values(state->raw_desc, values, isnull);
}

static MinimalTuple
copy_tuple(MemoryContext context, MinimalTuple tuple)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	MinimalTuple result = heap_copy_minimal_tuple(tuple);

	MemoryContextSwitchTo(old);
	return result;
}

AggregateGroup *
ivm_group_create(AggregateRun *state, MemoryContext context, uint64 hash, Datum *values, bool *isnull)
{
	AggregateGroup *group = MemoryContextAllocZero(context, sizeof(AggregateGroup));

	group->hash = hash;
	group->number = state->numbered++;
	make_look(state, context, values, isnull, &group->look);
	group->states = state->keyed ? ivm_accumulators_init_in_order(state->accumulators, context) :
		ivm_accumulators_init(state->accumulators, context);
	return group;
}

AggregateGroup *
ivm_group_open(IvmOperator *op, MemoryContext context, uint64 hash, Datum *values, bool *isnull)
{
	AggregateRun *state = op->state;
	AggregateGroup *group;
	ItemPointerData tid;
	TupleTableSlot *row = state->state_row;

	/* population begins with empty tables */
	if (state->from_nothing || !load_stored(op, hash, values, isnull, &tid))
		return ivm_group_create(state, context, hash, values, isnull);
	group = MemoryContextAllocZero(context, sizeof(AggregateGroup));
	group->hash = hash;
	group->number = state->numbered++;
	group->stored = true;
	group->tid = tid;
	make_look(state, context, row->tts_values, row->tts_isnull, &group->look);
	group->count = DatumGetInt64(row->tts_values[state->ncolumns]);
	group->alike = DatumGetInt64(row->tts_values[state->ncolumns + 1]);
	group->states = ivm_accumulators_load(state->accumulators, row, state->ncolumns + 3, context);
	group->old_output = copy_tuple(context, raw_output(state, group->look.values, group->look.isnull, group->states));
	ExecClearTuple(row);
	return group;
}

/*
 * If nothing is absorbed, the rows that go are rows of the old input, and take nothing from
 * those that came.
 */
void
ivm_group_add(AggregateRun *state, AggregateGroup *group, TupleTableSlot *row, int64 weight)
{
	MemoryContext context = GetMemoryChunkContext(group);

	group->count += weight;
	if (!ivm_group_shows(state, row))
		 /* it is only counted */ ;
	else if (looks_like(state, row, &group->look))
	{
		group->alike += weight;
		if (weight > 0)
			group->came_alike += weight;
	}
	else
	{
		if (group->other.tuple == NULL && weight > 0)
		{
			Datum		values[MaxTupleAttributeNumber];
			bool		isnull[MaxTupleAttributeNumber];

			(void) ivm_group_key(state, row, values, isnull, group->hash);
			make_look(state, context, values, isnull, &group->other);
		}
		if (group->other.tuple != NULL && (weight > 0 || state->absorbing) && looks_like(state, row, &group->other))
			group->other_alike += weight;
	}
	if (state->pass != NULL)
		ivm_replay_add(state->pass, group->number, group->states, row, weight);
	ivm_accumulators_add(state->accumulators, group->states, row, weight, context);
}

/*
 * No row may be left that looks like the group: takes over the columns of one that came.
 */
static bool
change_look(AggregateRun *state, AggregateGroup *group)
{
	if (!state->absorbing && group->came_alike > 0)
		group->alike = group->came_alike;
	else if (group->other_alike > 0)
	{
		group->look = group->other;
		group->alike = group->other_alike;
	}
	else
		return false;
	return true;
}

static MinimalTuple
stored_row(AggregateRun *state, AggregateGroup *group)
{
	Datum		values[MaxTupleAttributeNumber];
	bool		isnull[MaxTupleAttributeNumber];

	memcpy(values, group->look.values, sizeof(Datum) * state->ncolumns);
	memcpy(isnull, group->look.isnull, sizeof(bool) * state->ncolumns);
	values[state->ncolumns] = Int64GetDatum(group->count);
	isnull[state->ncolumns] = false;
	values[state->ncolumns + 1] = Int64GetDatum(group->alike);
	isnull[state->ncolumns + 1] = false;
	ivm_accumulators_store(state->accumulators, group->states, values + state->ncolumns + 2, isnull + state->ncolumns + 2);
	return ivm_row_form_values(state->state_desc, values, isnull);
}

/* The raw row as often as the group has it; "sign" is 1 or -1. */
static void
emit_raw(IvmOperator *op, MinimalTuple tuple, int sign)
{
	AggregateRun *state = op->state;
	int64		weight;

	ExecStoreMinimalTuple(tuple, state->raw_row, false);
	weight = ivm_group_weight(state, state->raw_row);
	if (weight != 0)
		ivm_operator_emit_projected(op, state->raw_row, sign * weight);
	ExecClearTuple(state->raw_row);
}

/* Is all that can be seen of two raw rows of a group the same? */
static bool
shows_the_same(AggregateRun *state, MinimalTuple old, MinimalTuple new)
{
	TupleTableSlot *row = state->raw_row;
	AggregateLook look;
	int64		weight;
	bool		result;

	if (ivm_row_image_equal(old, new))
		return true;
	if (state->flag_column == 0)
		return false;
	ExecStoreMinimalTuple(old, row, false);
	weight = ivm_group_weight(state, row);
	make_look(state, CurrentMemoryContext, row->tts_values, row->tts_isnull, &look);
	ExecStoreMinimalTuple(new, row, false);
	result = ivm_group_weight(state, row) == weight;
	slot_getallattrs(row);
	for (int i = 0; i < state->ncolumns && result; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(state->key_desc, i);

		result = row->tts_isnull[i] == look.isnull[i] &&
			(row->tts_isnull[i] ||
			 datum_image_eq(row->tts_values[i], look.values[i], attribute->attbyval, attribute->attlen));
	}
	ExecClearTuple(row);
	return result;
}

void
ivm_group_emit(IvmOperator *op, Datum *group_values, bool *group_isnull, IvmAccumulatorState *states)
{
	emit_raw(op, raw_output(op->state, group_values, group_isnull, states), 1);
}

MinimalTuple
ivm_group_output(AggregateRun *state, AggregateGroup *group)
{
	return raw_output(state, group->look.values, group->look.isnull, group->states);
}

/* Brings the table's row up to date, which may come or go. */
static void
store_group(IvmOperator *op, AggregateGroup *group, bool is_there)
{
	AggregateRun *state = op->state;
	IvmStateTable *table = state_table(op);

	if (is_there && group->stored)
		ivm_state_table_update(table, &group->tid, group->hash, 1, stored_row(state, group));
	else if (is_there)
		ivm_state_table_insert(table, group->hash, 1, stored_row(state, group));
	else if (group->stored)
		ivm_state_table_delete(table, &group->tid);
}

void
ivm_group_write(IvmOperator *op, AggregateGroup *group)
{
	AggregateRun *state = op->state;
	bool		is_there = group->count > 0 || op->node->grand;
	MinimalTuple output = NULL;

	if (group->count < 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("a group has fewer rows than are to be removed"),
				 errhint("Use REFRESH MATERIALIZED VIEW to rebuild the view.")));
	if (is_there && !state->keyed && state->walks != NULL)
		ivm_group_find_ranks(op, group);
	if (!state->keyed)
		store_group(op, group, is_there);
	if (is_there)
		output = ivm_group_output(state, group);
	if (group->old_output != NULL && output != NULL && shows_the_same(state, group->old_output, output))
		return;
	if (group->old_output != NULL)
		emit_raw(op, group->old_output, -1);
	if (output != NULL)
		emit_raw(op, output, 1);
}

/*
 * Groups that need their rows
 */

IvmReplayPass *
ivm_groups_pass(IvmOperator *op, MemoryContext context, bool results_only)
{
	AggregateRun *state = op->state;
	MemoryContext old;
	IvmReplayPass *pass;

	if (state->replay == NULL)
	{
		old = MemoryContextSwitchTo(op->dataflow->context);
		state->replay = ivm_replay_create(state->accumulators);
		MemoryContextSwitchTo(old);
	}
	old = MemoryContextSwitchTo(context);
	pass = ivm_replay_begin(state->replay, op->dataflow->snapshot, results_only);
	MemoryContextSwitchTo(old);
	return pass;
}

void
ivm_group_replay(AggregateRun *state, IvmReplayPass *pass, AggregateGroup *group, MemoryContext context)
{
	ExecStoreMinimalTuple(group->look.tuple, state->key_row, false);
	ivm_replay_finish(pass, group->number, group->states, state->key_row, context);
	ExecClearTuple(state->key_row);
}

/* Keeps what is needed of a group until its rows are read. */
static void
refuse(IvmOperator *op, AggregateGroup *group)
{
	AggregateRun *state = op->state;
	MemoryContext context = state->refused.context;
	AggregateGroup *kept = MemoryContextAllocZero(context, sizeof(AggregateGroup));

	kept->hash = group->hash;
	kept->stored = group->stored;
	kept->tid = group->tid;
	make_look(state, context, group->look.values, group->look.isnull, &kept->look);
	kept->recount = group->recount;
	if (group->recount)
		kept->states = ivm_accumulators_init_incomplete(state->accumulators, context);
	else
	{
		kept->count = group->count;
		kept->alike = group->alike;
		kept->states = ivm_accumulators_copy(state->accumulators, group->states, context);
	}
	if (group->old_output != NULL)
		kept->old_output = copy_tuple(context, group->old_output);
	ivm_groups_insert(&state->refused, kept);
	(void) ivm_groups_charge(state);
	if (MemoryContextMemAllocated(context, true) >= state->limit ||
		(state->forced && state->refused.ngroups >= IVM_FORCED_GROUPS))
		ivm_groups_recompute(op);
}

/* While the rows of groups are read. */
typedef struct Gathering
{
	IvmOperator *op;
	IvmReplayPass *pass;
	AggregateGroup *group;		/* whose rows are looked up; NULL: all are
								 * read */
} Gathering;

static void
gather(void *receiver_context, TupleTableSlot *row, int64 weight)
{
	Gathering  *gathering = receiver_context;
	AggregateRun *state = gathering->op->state;
	MemoryContext context = state->refused.context;
	MemoryContext old = MemoryContextSwitchTo(state->scratch);
	Datum		values[MaxTupleAttributeNumber];
	bool		isnull[MaxTupleAttributeNumber];
	AggregateGroup *group = gathering->group;

	CHECK_FOR_INTERRUPTS();
	if (group == NULL)
	{
		uint64		hash = ivm_group_key(state, row, values, isnull, 0);

		group = ivm_groups_find(state, &state->refused, hash, values, isnull);
	}
	else
	{
		(void) ivm_group_key(state, row, values, isnull, group->hash);
		if (!ivm_key_equal(state->key, values, isnull, group->look.values, group->look.isnull))
			group = NULL;
	}
	if (group != NULL)
	{
		if (group->recount)
		{
			bool		shows = ivm_group_shows(state, row);

			if (shows && group->alike == 0)
			{
				/* it shows a row that is there; the look that is looked up by stays */
				make_look(state, context, values, isnull, &group->look);
			}
			group->count += weight;
			if (shows && looks_like(state, row, &group->look))
				group->alike += weight;
		}
		ivm_replay_add(gathering->pass, group->number, group->states, row, weight);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(state->scratch);
}

static bool
gather_found(void *receiver_context, TupleTableSlot *row, int64 weight)
{
	gather(receiver_context, row, weight);
	return true;
}

/* Looks up the rows of one group. */
static void
look_up(Gathering *gathering, AggregateGroup *group)
{
	IvmOperator *op = gathering->op;
	AggregateRun *state = op->state;
	Datum		values[MaxTupleAttributeNumber];
	bool		isnull[MaxTupleAttributeNumber];

	for (int i = 0; i < state->ncolumns; i++)
	{
		int			column = list_nth_int(op->node->row_keys, i);

		values[i] = group->look.values[column];
		isnull[i] = group->look.isnull[column];
	}
	gathering->group = group;
	(void) ivm_source_find(state->source, values, isnull, gather_found, gathering);
}

/* Does the group need more than the rows that are looked up: those of its streams of distinct values? */
static bool
needs_streams(IvmOperator *op, AggregateGroup *group)
{
	ListCell   *cell;

	if (group->recount)
		return true;
	foreach(cell, op->node->calls)
	{
		if (((IvmAggregateCall *) lfirst(cell))->stream > 0 && group->states[foreach_current_index(cell)].incomplete)
			return true;
	}
	return false;
}

void
ivm_groups_recompute(IvmOperator *op)
{
	AggregateRun *state = op->state;
	Gathering	gathering = {.op = op};
	AggregateGroup **groups;
	bool		looks_up = state->source != NULL && !state->from_nothing;
	MemoryContext old;

	if (state->refused.ngroups == 0)
		return;
	old = MemoryContextSwitchTo(state->context);
	gathering.pass = ivm_groups_pass(op, state->context, false);
	groups = ivm_groups_list(&state->refused, true);
	for (uint64 i = 0; i < state->refused.ngroups; i++)
	{
		groups[i]->number = i;
		looks_up &= !state->has_streams || !needs_streams(op, groups[i]);
	}
	if (!looks_up)
	{
		op->counters.recomputes++;
		ivm_operator_replay(ivm_operator_input(op, 0), gather, &gathering);
	}
	else
	{
		ivm_source_expect(state->source, state->refused.ngroups);
		for (uint64 i = 0; i < state->refused.ngroups; i++)
			look_up(&gathering, groups[i]);
	}
	ivm_replay_perform(gathering.pass);
	MemoryContextSwitchTo(state->scratch);
	for (uint64 i = 0; i < state->refused.ngroups; i++)
	{
		CHECK_FOR_INTERRUPTS();
		ivm_group_replay(state, gathering.pass, groups[i], state->scratch);
		ivm_group_write(op, groups[i]);
		MemoryContextReset(state->scratch);
	}
	ivm_replay_end(gathering.pass);
	MemoryContextSwitchTo(old);
	ivm_groups_reset(state, &state->refused);
}

void
ivm_group_close(IvmOperator *op, AggregateGroup *group)
{
	AggregateRun *state = op->state;
	int64		shown = state->flag_column != 0 ? group->states[0].base.count : group->count;
	bool		is_there = group->count > 0 || op->node->grand;

	if (shown == 0)
		group->alike = 0;
	else if (shown > 0 && group->alike <= 0)
		group->recount = !change_look(state, group);
	if (is_there && !group->recount && state->walks != NULL)
		ivm_group_find_extremes(op, group);
	if (is_there && (group->recount || !ivm_accumulators_are_complete(state->accumulators, group->states)))
		refuse(op, group);
	else
		ivm_group_write(op, group);
}
