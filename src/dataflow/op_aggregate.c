/*-------------------------------------------------------------------------
 *
 * op_aggregate.c
 *	  Groups and their aggregates; also DISTINCT, which has no aggregates.
 *
 * The state table has a row for each group: its columns, how many input rows it
 * has (and how many with these very columns), and the states of its aggregate
 * functions.  Without GROUP BY there is one group, always.  How one group gets
 * from its old row to the new one is in aggregate_groups.c.
 *
 * A batch collects the consolidated delta of its input.  If that stays small it is
 * sorted by group, and the groups are opened, changed and closed one
 * after the other.
 *
 * If the delta becomes large its rows are absorbed, as those of a hash aggregation
 * are: groups are opened and stay, and from then on a row that comes to an open group is
 * added to its states at once, and is gone.  What it would cancel out with later
 * does no harm: it is added and taken away again.  Rows that are to be
 * taken away wait in a Z-set, since all additions have to precede them, unless
 * the order makes no difference (counts, sums of integers).  Rows of groups
 * that are not open are collected as before, until there are enough of them to
 * open their groups in the order of the state table.  When the groups
 * have all the memory that they may have no more are opened: from there on rows of
 * other groups go to a file, in partitions by the hash of the group.  At the end
 * the open groups are closed, and each partition is treated like a batch of its own, with
 * the next bits of the hash.  Each pass opens at least one group, so this comes to an end even if
 * all hashes are the same.
 *
 * So a join may give any number of rows to a few groups, in no memory and at
 * the cost of a call of each transition function.
 *
 * In population there is no old state, so groups are opened by their first row
 * and absorb all.  Calls whose result is all that is stored (replay.c) get their arguments at
 * once.
 *
 * Costs: see aggregate_groups.c; groups are looked up and written in the order of the
 * hashes.  A row of a group that found no room is written and read once for each factor of 32
 * between groups and memory.
 *
 * Memory: the delta, as far as it is not absorbed, and what is to be taken away in the arena, in
 * Z-sets, which are spilled; open groups in a context of their own within ivm_pin_limit(), and so
 * are those that refused.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "dataflow/aggregate_internal.h"
#include "dataflow/source.h"
#include "memory/reclaim.h"

/* Between two measurements of open groups, whose states may grow. */
#define ROWS_PER_LOOK	1024

/* Rows that are collected at most, while absorbing, if spilling is forced. */
#define FORCED_ROWS		8

/* Rows of a file that wait to be read. */
typedef struct AggregatePartition
{
	IvmSpill   *spill;
	int			partition;
	int			level;
	bool		last;			/* the file is not needed afterwards */
} AggregatePartition;

static void
aggregate_init(IvmOperator *op)
{
	IvmPlanNode *node = op->node;
	AggregateRun *state = palloc0(sizeof(AggregateRun));
	IvmPlanNode *input = linitial(node->inputs);
	Oid		   *operators;
	Oid		   *collations;
	ListCell   *cell;

	op->state = state;
	state->ncolumns = list_length(node->group_columns);
	state->ncalls = list_length(node->calls);
	state->flag_column = node->flag_column;
	state->set_operation = node->set_operation;
	state->columns = palloc(sizeof(AttrNumber) * Max(state->ncolumns, 1));
	operators = palloc(sizeof(Oid) * Max(state->ncolumns, 1));
	collations = palloc(sizeof(Oid) * Max(state->ncolumns, 1));
	for (int i = 0; i < state->ncolumns; i++)
	{
		state->columns[i] = list_nth_int(node->group_columns, i);
		operators[i] = list_nth_oid(node->group_operators, i);
		collations[i] = list_nth_oid(node->group_collations, i);
		if (!ivm_equality_is_of_images(TupleDescAttr(input->desc, state->columns[i] - 1)->atttypid,
									   operators[i], collations[i]))
			state->varies = true;
	}
	state->key = ivm_key_create(state->ncolumns, operators, collations, true);
	state->accumulators = ivm_accumulators_create(node->calls);
	state->commutes = !state->varies && ivm_accumulators_commute(state->accumulators);
	foreach(cell, node->calls)
	{
		IvmAggregateCall *call = lfirst(cell);

		state->stores_results |= call->kind == IVM_ACC_REPLAY;
		state->has_streams |= call->stream > 0;
	}
	ivm_extremes_init(op);
	if (node->rows != NULL)
		state->source = ivm_source_create(op->dataflow, node->rows);
	state->keyed = node->keyed;
	state->in_order = node->keyed && ivm_accumulators_need_order(state->accumulators);
	if (node->keyed)
		ivm_keyed_init(op);

	state->input_desc = input->desc;
	state->key_desc = CreateTemplateTupleDesc(state->ncolumns);
	state->state_desc = CreateTemplateTupleDesc(state->ncolumns + 2 + ivm_accumulators_width(state->accumulators));
	state->raw_desc = CreateTemplateTupleDesc(state->ncolumns + state->ncalls);
	for (int i = 0; i < state->ncolumns; i++)
	{
		TupleDescCopyEntry(state->key_desc, i + 1, input->desc, state->columns[i]);
		TupleDescCopyEntry(state->state_desc, i + 1, input->desc, state->columns[i]);
		TupleDescCopyEntry(state->raw_desc, i + 1, input->desc, state->columns[i]);
	}
	TupleDescInitEntry(state->state_desc, state->ncolumns + 1, NULL, INT8OID, -1, 0);
	TupleDescInitEntry(state->state_desc, state->ncolumns + 2, NULL, INT8OID, -1, 0);
	ivm_accumulators_describe(state->accumulators, state->state_desc, state->ncolumns + 3);
	for (int i = 0; i < state->ncalls; i++)
	{
		IvmAggregateCall *call = list_nth(node->calls, i);

		TupleDescInitEntry(state->raw_desc, state->ncolumns + i + 1, NULL, call->aggref->aggtype, -1, 0);
		TupleDescInitEntryCollation(state->raw_desc, state->ncolumns + i + 1, call->aggref->aggcollid);
	}
	state->input_row = MakeSingleTupleTableSlot(state->input_desc, &TTSOpsMinimalTuple);
	state->key_row = MakeSingleTupleTableSlot(state->key_desc, &TTSOpsMinimalTuple);
	state->state_row = MakeSingleTupleTableSlot(state->state_desc, &TTSOpsMinimalTuple);
	state->raw_row = MakeSingleTupleTableSlot(state->raw_desc, &TTSOpsMinimalTuple);
	op->projection = ivm_projection_create(node->tlist, node->quals, node->desc);
}

static void
aggregate_begin(IvmOperator *op)
{
	AggregateRun *state = op->state;

	/* what a failed batch has left there is gone */
	state->context = NULL;
	state->from_nothing = op->dataflow->populating;
	if (state->source != NULL)
		ivm_source_begin(state->source);
	ivm_extremes_begin(op);
}

/* Of the batch, or of a partition: none has come yet. */
static void
start_rows(IvmOperator *op)
{
	AggregateRun *state = op->state;

	state->absorbing = state->from_nothing;
	if (state->from_nothing && (state->in_order || (state->stores_results && !state->keyed)))
		state->pass = ivm_groups_pass(op, state->context, !state->keyed);
	state->full = false;
}

/* The first row, or the end if there was none. */
static void
start_batch(IvmOperator *op)
{
	AggregateRun *state = op->state;
	MemoryContext old;

	state->context = AllocSetContextCreate(op->dataflow->batch_context, "ivm aggregate", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(state->context);
	state->scratch = AllocSetContextCreate(state->context, "ivm group", ALLOCSET_DEFAULT_SIZES);
	state->table = NULL;
	state->delta = ivm_zset_create(op->dataflow->arena, state->input_desc);
	state->removals = NULL;
	state->limit = ivm_pin_limit();
	ivm_groups_init(&state->open, state->context, state->limit);
	ivm_groups_init(&state->refused, state->context, state->limit);
	state->charge = palloc0(sizeof(AggregateCharge));
	state->charge->account = ivm_budget_account();
	state->charge->callback.func = ivm_groups_uncharge;
	state->charge->callback.arg = state->charge;
	MemoryContextRegisterResetCallback(state->context, &state->charge->callback);
	state->forced = ivm_spill_is_forced("aggregate");
	state->pass = NULL;
	state->numbered = 0;
	start_rows(op);
	state->absorbed = 0;
	state->level = 0;
	state->spill = NULL;
	state->partitions = NIL;
	MemoryContextSwitchTo(old);
}

/*
 * Rows that are all there
 */

/* In the order of the groups' hashes, which the rows get for their own. */
static void
sort_rows(AggregateRun *state, IvmRow **rows, int64 count)
{
	for (int64 i = 0; i < count; i++)
	{
		Datum		values[MaxTupleAttributeNumber];
		bool		isnull[MaxTupleAttributeNumber];

		CHECK_FOR_INTERRUPTS();
		ExecStoreMinimalTuple(ivm_row_tuple(rows[i]), state->input_row, false);
		rows[i]->hash = ivm_group_key(state, state->input_row, values, isnull, 0);
		MemoryContextReset(state->scratch);
	}
	qsort(rows, count, sizeof(IvmRow *), ivm_row_compare_hashes);
}

/*
 * Opens the group of rows[begin], which are sorted, and puts all rows of it in front.
 * Returns where they end.
 */
static int64
gather_group(IvmOperator *op, IvmRow **rows, int64 begin, int64 count, AggregateGroup **group)
{
	AggregateRun *state = op->state;
	TupleTableSlot *slot = state->input_row;
	uint64		hash = rows[begin]->hash;
	int64		end = begin + 1;
	Datum		values[MaxTupleAttributeNumber];
	bool		isnull[MaxTupleAttributeNumber];

	ExecStoreMinimalTuple(ivm_row_tuple(rows[begin]), slot, false);
	(void) ivm_group_key(state, slot, values, isnull, hash);
	*group = ivm_group_open(op, state->open.context, hash, values, isnull);
	for (int64 i = end; i < count && rows[i]->hash == hash; i++)
	{
		IvmRow	   *row = rows[i];

		CHECK_FOR_INTERRUPTS();
		ExecStoreMinimalTuple(ivm_row_tuple(row), slot, false);
		(void) ivm_group_key(state, slot, values, isnull, hash);
		if (!ivm_key_equal(state->key, values, isnull, (*group)->look.values, (*group)->look.isnull))
			continue;
		rows[i] = rows[end];
		rows[end++] = row;
	}
	return end;
}

/* Brings all rows to their groups, one group after the other. */
static void
change_groups(IvmOperator *op, IvmRow **rows, int64 count)
{
	AggregateRun *state = op->state;
	int64		end;

	sort_rows(state, rows, count);
	for (int64 begin = 0; begin < count; begin = end)
	{
		AggregateGroup *group;

		end = gather_group(op, rows, begin, count, &group);
		/* what comes before what goes */
		for (int sign = 1; sign >= -1; sign -= 2)
			for (int64 i = begin; i < end; i++)
			{
				CHECK_FOR_INTERRUPTS();
				if ((rows[i]->weight > 0) != (sign > 0))
					continue;
				ExecStoreMinimalTuple(ivm_row_tuple(rows[i]), state->input_row, false);
				ivm_group_add(state, group, state->input_row, rows[i]->weight);
			}
		ivm_group_close(op, group);
		ivm_groups_reset(state, &state->open);
		MemoryContextReset(state->scratch);
	}
	ExecClearTuple(state->input_row);
}

/*
 * Absorbing
 */

/* Adds a row to a Z-set; in input_row are canonical tuples only. */
static void
collect_row(AggregateRun *state, IvmZset *zset, TupleTableSlot *row, int64 weight)
{
	if (row == state->input_row)
		ivm_zset_add_tuple(zset, ExecFetchSlotMinimalTuple(row, NULL), weight);
	else
		ivm_zset_add(zset, row, weight);
}

static void
spill_row(AggregateRun *state, TupleTableSlot *row, int64 weight, uint64 hash)
{
	MinimalTuple tuple = row == state->input_row ? ExecFetchSlotMinimalTuple(row, NULL) :
		ivm_row_form(state->input_desc, row);

	if (state->spill == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(state->context);

		state->spill = ivm_spill_create(Min(state->level, IVM_SPILL_LEVELS - 1));
		MemoryContextSwitchTo(old);
	}
	ivm_spill_put(state->spill, tuple, weight, hash);
}

static void
remove_later(IvmOperator *op, TupleTableSlot *row, int64 weight)
{
	AggregateRun *state = op->state;

	if (state->removals == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(state->context);

		state->removals = ivm_zset_create(op->dataflow->arena, state->input_desc);
		MemoryContextSwitchTo(old);
	}
	collect_row(state, state->removals, row, weight);
}

/*
 * Takes a row up.  Returns false if its group is not open, but could be, and "open" does not say that it
 * should.
 */
static bool
absorb(IvmOperator *op, TupleTableSlot *row, int64 weight, uint64 hash, bool open)
{
	AggregateRun *state = op->state;
	MemoryContext old = MemoryContextSwitchTo(state->scratch);
	Datum		values[MaxTupleAttributeNumber];
	bool		isnull[MaxTupleAttributeNumber];
	AggregateGroup *group;
	bool		done = true;

	CHECK_FOR_INTERRUPTS();
	hash = ivm_group_key(state, row, values, isnull, hash);
	group = ivm_groups_find(state, &state->open, hash, values, isnull);
	if (group == NULL && open && !state->full)
	{
		group = ivm_group_open(op, state->open.context, hash, values, isnull);
		ivm_groups_insert(&state->open, group);
		state->full = !ivm_groups_charge(state);
	}
	if (group != NULL)
	{
		if (weight > 0 || state->commutes)
			ivm_group_add(state, group, row, weight);
		else
			remove_later(op, row, weight);
		if (++state->absorbed % ROWS_PER_LOOK == 0 && !ivm_groups_charge(state))
			state->full = true;
	}
	else if (state->full)
		spill_row(state, row, weight, hash);
	else
		done = false;
	MemoryContextSwitchTo(old);
	MemoryContextReset(state->scratch);
	return done;
}

/* Absorbs the rows that are collected. */
static void
absorb_delta(IvmOperator *op)
{
	AggregateRun *state = op->state;
	MemoryContext old = MemoryContextSwitchTo(state->scratch);
	IvmZsetParts parts;
	IvmRow	  **rows;
	int64		count;

	ivm_zset_parts_begin(state->delta, &parts);
	while ((rows = ivm_zset_parts_next(&parts, &count)) != NULL)
	{
		sort_rows(state, rows, count);
		for (int64 i = 0; i < count; i++)
		{
			ExecStoreMinimalTuple(ivm_row_tuple(rows[i]), state->input_row, false);
			(void) absorb(op, state->input_row, rows[i]->weight, rows[i]->hash, true);
		}
		ExecClearTuple(state->input_row);
	}
	ivm_zset_parts_end(&parts);
	ivm_zset_clear(state->delta);
	MemoryContextSwitchTo(old);
}

/* Half of what may stay in memory while it is looked at: the Z-set would spill more. */
static inline bool
delta_is_large(AggregateRun *state)
{
	return ivm_zset_bytes(state->delta) > state->limit / 2 ||
		(state->forced && ivm_zset_count(state->delta) > (state->absorbing ? FORCED_ROWS : 0));
}

static void
take_row(IvmOperator *op, TupleTableSlot *row, int64 weight, uint64 hash)
{
	AggregateRun *state = op->state;

	if (state->absorbing && absorb(op, row, weight, hash, state->from_nothing))
		return;
	collect_row(state, state->delta, row, weight);
	if ((!state->keyed || state->from_nothing) && delta_is_large(state))
	{
		state->absorbing = true;
		absorb_delta(op);
	}
}

static void
aggregate_receive(IvmOperator *op, int input, TupleTableSlot *row, int64 weight)
{
	AggregateRun *state = op->state;

	if (state->context == NULL)
		start_batch(op);
	take_row(op, row, weight, 0);
}

/* Takes away what was to be taken from the open groups. */
static void
remove_rows(IvmOperator *op)
{
	AggregateRun *state = op->state;
	IvmZsetParts parts;
	IvmRow	  **rows;
	int64		count;

	if (state->removals == NULL)
		return;
	ivm_zset_parts_begin(state->removals, &parts);
	while ((rows = ivm_zset_parts_next(&parts, &count)) != NULL)
		for (int64 i = 0; i < count; i++)
		{
			Datum		values[MaxTupleAttributeNumber];
			bool		isnull[MaxTupleAttributeNumber];
			uint64		hash;
			AggregateGroup *group;

			CHECK_FOR_INTERRUPTS();
			ExecStoreMinimalTuple(ivm_row_tuple(rows[i]), state->input_row, false);
			hash = ivm_group_key(state, state->input_row, values, isnull, 0);
			group = ivm_groups_find(state, &state->open, hash, values, isnull);
			if (group == NULL)
				elog(ERROR, "a row is to be removed from a group that is not open");
			ivm_group_add(state, group, state->input_row, rows[i]->weight);
			MemoryContextReset(state->scratch);
		}
	ExecClearTuple(state->input_row);
	ivm_zset_parts_end(&parts);
	ivm_zset_clear(state->removals);
}

static void
close_groups(IvmOperator *op)
{
	AggregateRun *state = op->state;
	IvmReplayPass *pass = state->pass;
	/* a table that is filled gets its index at the end */
	AggregateGroup **groups = pass != NULL ? ivm_groups_numbered(&state->open) :
	ivm_groups_list(&state->open, !state->from_nothing);

	state->pass = NULL;
	if (pass != NULL)
		ivm_replay_perform(pass);
	for (uint64 i = 0; i < state->open.ngroups; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (pass != NULL)
			ivm_group_replay(state, pass, groups[i], state->scratch);
		ivm_group_close(op, groups[i]);
		MemoryContextReset(state->scratch);
	}
	ivm_groups_reset(state, &state->open);
	if (pass != NULL)
		ivm_replay_end(pass);
}

/* What found no room is next. */
static void
push_partitions(AggregateRun *state)
{
	MemoryContext old = MemoryContextSwitchTo(state->context);
	bool		last = true;

	ivm_spill_flush(state->spill);
	for (int i = IVM_SPILL_PARTITIONS - 1; i >= 0; i--)
	{
		AggregatePartition *partition;

		if (ivm_spill_rows(state->spill, i) == 0)
			continue;
		partition = palloc(sizeof(AggregatePartition));
		partition->spill = state->spill;
		partition->partition = i;
		partition->level = state->level + 1;
		partition->last = last;
		state->partitions = lappend(state->partitions, partition);
		last = false;
	}
	state->spill = NULL;
	MemoryContextSwitchTo(old);
}

/* The rows of the batch, or of a partition, are complete. */
static void
finish_rows(IvmOperator *op)
{
	AggregateRun *state = op->state;

	if (state->keyed && !state->from_nothing)
	{
		ivm_keyed_change_groups(op);
		return;
	}
	if (!state->absorbing)
	{
		IvmZsetParts parts;
		IvmRow	  **rows;
		int64		count;

		ivm_zset_parts_begin(state->delta, &parts);
		/* of a file, a group's rows may come in several parts */
		state->absorbing = parts.level != NULL;
		if (!state->absorbing && (rows = ivm_zset_parts_next(&parts, &count)) != NULL)
			change_groups(op, rows, count);
		ivm_zset_parts_end(&parts);
	}
	if (state->absorbing)
	{
		absorb_delta(op);
		remove_rows(op);
		close_groups(op);
		if (state->spill != NULL)
			push_partitions(state);
	}
}

static void
read_partition(IvmOperator *op, AggregatePartition *partition)
{
	AggregateRun *state = op->state;
	IvmSpillReader reader;
	IvmRow	   *row;

	start_rows(op);
	state->level = partition->level;
	state->limit = ivm_pin_limit();
	ivm_zset_clear(state->delta);

	ivm_spill_read_begin(partition->spill, partition->partition, &reader);
	while ((row = ivm_spill_read_next(&reader)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		ExecStoreMinimalTuple(ivm_row_tuple(row), state->input_row, false);
		take_row(op, state->input_row, row->weight, row->hash);
	}
	ExecClearTuple(state->input_row);
	ivm_spill_read_end(&reader);
	if (partition->last)
		ivm_spill_destroy(partition->spill);
	pfree(partition);
}

/* The row over no rows. */
static void
open_grand_group(IvmOperator *op)
{
	AggregateRun *state = op->state;

	ivm_groups_insert(&state->open, ivm_group_open(op, state->open.context, 0, NULL, NULL));
}

static void
end_batch(IvmOperator *op)
{
	AggregateRun *state = op->state;

	if (state->context == NULL)
		return;
	if (state->table != NULL)
		ivm_state_table_close(state->table);
	if (state->spill != NULL)
		ivm_spill_destroy(state->spill);
	/* other operators may need the room */
	if (state->removals != NULL)
	{
		ivm_zset_clear(state->removals);
		ivm_zset_close(state->removals);
	}
	ivm_zset_clear(state->delta);
	ivm_zset_close(state->delta);
	MemoryContextDelete(state->context);
	state->context = NULL;
}

static void
aggregate_finish(IvmOperator *op)
{
	AggregateRun *state = op->state;
	bool		row_over_nothing = state->from_nothing && op->node->grand;
	MemoryContext old;

	if (state->context == NULL)
	{
		if (!row_over_nothing)
			return;
		start_batch(op);
	}
	old = MemoryContextSwitchTo(state->scratch);
	if (row_over_nothing && state->open.ngroups == 0)
		open_grand_group(op);
	finish_rows(op);
	while (state->partitions != NIL)
	{
		AggregatePartition *partition = llast(state->partitions);

		state->partitions = list_delete_last(state->partitions);
		read_partition(op, partition);
		finish_rows(op);
	}
	ivm_groups_recompute(op);
	MemoryContextSwitchTo(old);
	end_batch(op);
}

static void
aggregate_end(IvmOperator *op)
{
	AggregateRun *state = op->state;

	end_batch(op);
	if (state->source != NULL)
		ivm_source_end(state->source);
	ivm_extremes_end(op);
}

static void
replay_stored(IvmOperator *op)
{
	AggregateRun *state = op->state;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "ivm aggregate replay", ALLOCSET_DEFAULT_SIZES);
	IvmStateTable *table = ivm_state_table_open(ivm_state_table_get(ivm_operator_state_name(op->node, op->dataflow->plan->relid)),
												op->dataflow->snapshot);
	IvmStateRow *stored;

	ivm_state_table_scan(table);
	while ((stored = ivm_state_table_next(table)) != NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		TupleTableSlot *row = state->state_row;
		IvmAccumulatorState *states;

		ExecStoreMinimalTuple(stored->tuple, row, false);
		slot_getsomeattrs(row, state->ncolumns);
		states = ivm_accumulators_load(state->accumulators, row, state->ncolumns + 3, context);
		ivm_group_emit(op, row->tts_values, row->tts_isnull, states);
		ExecClearTuple(row);
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
	}
	ivm_state_table_close(table);
	MemoryContextDelete(context);
}

static void
receive_replayed(void *context, TupleTableSlot *row, int64 weight)
{
	aggregate_receive(context, 0, row, weight);
}

/* What stores nothing computes all of it from all of its input, as in population. */
static void
aggregate_replay(IvmOperator *op)
{
	AggregateRun *state = op->state;

	if (!state->keyed)
	{
		replay_stored(op);
		return;
	}
	state->from_nothing = true;
	ivm_operator_replay(ivm_operator_input(op, 0), receive_replayed, op);
	aggregate_finish(op);
	state->from_nothing = op->dataflow->populating;
}

const IvmOperatorRoutine ivm_op_aggregate = {
	.keeps_state = true,
	.init = aggregate_init,
	.begin = aggregate_begin,
	.receive = aggregate_receive,
	.finish = aggregate_finish,
	.replay = aggregate_replay,
	.end = aggregate_end,
	.own_finder = &ivm_aggregate_finder,
	.finder = &ivm_keyed_finder,
};
