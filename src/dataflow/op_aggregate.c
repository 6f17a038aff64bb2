/*-------------------------------------------------------------------------
 *
 * op_aggregate.c
 *	  Groups and their aggregates; also DISTINCT, which has no aggregates.
 *
 * The state table has a row for each group: its columns, how many input rows it
 * has (and how many with these very columns), and the states of its aggregate
 * functions.  A batch collects the
 * consolidated delta of the input, and brings it to the groups one after the
 * other: the stored states give the group's old output row, the delta is added
 * (what comes before what goes, so that a state is never emptied in between), and
 * the new states give the new row.  A group without input rows goes, and comes
 * back like a new one.  Without GROUP BY there is one group, always.
 *
 * The net delta of a group is a multiset of rows of which the old input has at least
 * those that go: so an inverse transition function is never asked for a value that
 * is not there.  One that refuses all the same (it may return NULL) makes the
 * group be computed from its input, which is read once for all groups that refused.
 *
 * Output rows are made from the stored states, both the one that goes and the
 * one that comes, so what goes is what came.
 *
 * Equal columns may look different (1.0 and 1.00, or a collation that does not
 * know case).  A group shows those of one of its rows, whichever, as the query
 * does, but it has to be a row that is there.  So the rows that look like what is
 * shown are counted: not all of them, if the group has taken over the columns of a
 * row that came, but never too many.  When none is left, the group shows
 * a row of the batch; if that has none either, the group is computed from its
 * input like one whose inverse refused.
 *
 * In population rows are added to states in memory as they come, and nothing
 * is consolidated.
 *
 * Costs: a lookup and an update of the state table for each group that is
 * touched, in the order of the hashes; two calls of transition functions for an
 * updated row.
 *
 * Memory: the delta and the groups in the arena; states of one group at a
 * time in a context of its own; in population, and of groups that refused, all of
 * them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/datum.h"
#include "utils/memutils.h"

#include "arrange/state_table.h"
#include "dataflow/accumulator.h"
#include "dataflow/operator.h"
#include "zset/key.h"

/* A group that a batch touches. */
typedef struct AggregateGroup
{
	struct AggregateGroup *next;	/* in its bucket */
	uint64		hash;
	IvmRow	   *rows;			/* its part of the delta, by next */
	IvmRow	   *representative; /* a row of it */
	Datum	   *key_values;		/* of the first representative */
	bool	   *key_isnull;
	int64		count;			/* input rows; in population and of those that
								 * refused */
	int64		alike;			/* at least so many of them look like the
								 * representative; the same */
	IvmAccumulatorState *states;	/* the same */
	ItemPointerData tid;		/* of the stored row; of those that refused */
	bool		stored;
	MinimalTuple old_output;	/* the same: raw row, or NULL */
} AggregateGroup;

typedef struct AggregateRun
{
	int			ncolumns;		/* of the group */
	AttrNumber *columns;		/* in the input row */
	IvmKey	   *key;
	bool		varies;			/* may the columns of a group's rows look
								 * different? */
	IvmAccumulators *accumulators;
	int			ncalls;
	TupleDesc	input_desc;
	TupleDesc	state_desc;		/* group columns, numbers of rows and of those
								 * that look like them, states */
	TupleDesc	raw_desc;		/* group columns, results */
	TupleTableSlot *input_row;
	TupleTableSlot *other_row;	/* to compare with */
	TupleTableSlot *state_row;
	TupleTableSlot *raw_row;

	/* of the batch */
	IvmZset    *delta;
	MemoryContext context;		/* of the batch */
	MemoryContext group_context;	/* of one group */
	uint64		nbuckets;
	uint64		ngroups;
	AggregateGroup **buckets;
	IvmStateTable *table;
} AggregateRun;

static void
aggregate_init(IvmOperator *op)
{
	IvmPlanNode *node = op->node;
	AggregateRun *state = palloc0(sizeof(AggregateRun));
	IvmPlanNode *input = linitial(node->inputs);
	Oid		   *operators;
	Oid		   *collations;

	op->state = state;
	state->ncolumns = list_length(node->group_columns);
	state->ncalls = list_length(node->calls);
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

	state->input_desc = input->desc;
	state->state_desc = CreateTemplateTupleDesc(state->ncolumns + 2 + ivm_accumulators_width(state->accumulators));
	state->raw_desc = CreateTemplateTupleDesc(state->ncolumns + state->ncalls);
	for (int i = 0; i < state->ncolumns; i++)
	{
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
	state->other_row = MakeSingleTupleTableSlot(state->input_desc, &TTSOpsMinimalTuple);
	state->state_row = MakeSingleTupleTableSlot(state->state_desc, &TTSOpsMinimalTuple);
	state->raw_row = MakeSingleTupleTableSlot(state->raw_desc, &TTSOpsMinimalTuple);
	op->projection = ivm_projection_create(node->tlist, node->quals, node->desc);
}

/*
 * Groups of the batch
 */

static void
group_key(AggregateRun *state, TupleTableSlot *row, Datum *values, bool *isnull)
{
	for (int i = 0; i < state->ncolumns; i++)
		values[i] = slot_getattr(row, state->columns[i], &isnull[i]);
}

/* Do the group columns of a row look like these? */
static bool
looks_like(AggregateRun *state, TupleTableSlot *row, const Datum *values, const bool *isnull)
{
	if (!state->varies)
		return true;
	for (int i = 0; i < state->ncolumns; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(state->raw_desc, i);
		bool		row_isnull;
		Datum		value = slot_getattr(row, state->columns[i], &row_isnull);

		if (row_isnull != isnull[i] ||
			(!row_isnull && !datum_image_eq(value, values[i], attribute->attbyval, attribute->attlen)))
			return false;
	}
	return true;
}

/* Do they look like those of the group's representative? */
static bool
looks_representative(AggregateRun *state, AggregateGroup *group, TupleTableSlot *row)
{
	Datum		values[MaxTupleAttributeNumber];
	bool		isnull[MaxTupleAttributeNumber];
	bool		result;

	if (!state->varies)
		return true;
	ExecStoreMinimalTuple(ivm_row_tuple(group->representative), state->other_row, false);
	group_key(state, state->other_row, values, isnull);
	result = looks_like(state, row, values, isnull);
	ExecClearTuple(state->other_row);
	return result;
}

static IvmRow *
make_representative(IvmOperator *op, TupleTableSlot *row, uint64 hash)
{
	MinimalTuple tuple = ivm_row_form(((AggregateRun *) op->state)->input_desc, row);
	IvmRow	   *result = ivm_row_make(op->dataflow->arena, tuple, 0, hash);

	pfree(tuple);
	return result;
}

static void
grow_buckets(AggregateRun *state, IvmArena *arena)
{
	uint64		n = state->nbuckets * 2;
	AggregateGroup **buckets = ivm_arena_alloc0(arena, sizeof(AggregateGroup *) * n);

	for (uint64 i = 0; i < state->nbuckets; i++)
	{
		AggregateGroup *group = state->buckets[i];

		while (group != NULL)
		{
			AggregateGroup *next = group->next;

			group->next = buckets[group->hash & (n - 1)];
			buckets[group->hash & (n - 1)] = group;
			group = next;
		}
	}
	ivm_arena_free(arena, state->buckets);
	state->buckets = buckets;
	state->nbuckets = n;
}

/*
 * The group of a row of the input; made if it is missing and "create".  Leaves
 * garbage in the current context.
 */
static AggregateGroup *
find_group(IvmOperator *op, TupleTableSlot *row, bool create)
{
	AggregateRun *state = op->state;
	IvmArena   *arena = op->dataflow->arena;
	Datum		values[MaxTupleAttributeNumber];
	bool		isnull[MaxTupleAttributeNumber];
	uint64		hash;
	AggregateGroup *group;

	group_key(state, row, values, isnull);
	hash = state->ncolumns == 0 ? 0 : ivm_key_hash_right(state->key, values, isnull);
	for (group = state->buckets[hash & (state->nbuckets - 1)]; group != NULL; group = group->next)
	{
		if (group->hash != hash)
			continue;
		if (state->ncolumns == 0 || group->representative == NULL)
			return group;
		if (ivm_key_equal(state->key, values, isnull, group->key_values, group->key_isnull))
			return group;
	}
	if (!create)
		return NULL;

	group = ivm_arena_alloc0(arena, sizeof(AggregateGroup));
	group->hash = hash;
	group->representative = make_representative(op, row, hash);
	group->key_values = ivm_arena_alloc(arena, sizeof(Datum) * Max(state->ncolumns, 1));
	group->key_isnull = ivm_arena_alloc(arena, sizeof(bool) * Max(state->ncolumns, 1));
	ExecStoreMinimalTuple(ivm_row_tuple(group->representative), state->other_row, false);
	group_key(state, state->other_row, group->key_values, group->key_isnull);
	ExecClearTuple(state->other_row);
	if (++state->ngroups > state->nbuckets)
		grow_buckets(state, arena);
	group->next = state->buckets[hash & (state->nbuckets - 1)];
	state->buckets[hash & (state->nbuckets - 1)] = group;
	return group;
}

static void
aggregate_begin(IvmOperator *op)
{
	AggregateRun *state = op->state;

	state->delta = ivm_zset_create(op->dataflow->arena, state->input_desc);
	state->context = AllocSetContextCreate(op->dataflow->batch_context, "ivm aggregate", ALLOCSET_DEFAULT_SIZES);
	state->group_context = AllocSetContextCreate(state->context, "ivm group", ALLOCSET_DEFAULT_SIZES);
	state->nbuckets = 64;
	state->ngroups = 0;
	state->buckets = ivm_arena_alloc0(op->dataflow->arena, sizeof(AggregateGroup *) * state->nbuckets);
	state->table = NULL;
}

static void
aggregate_receive(IvmOperator *op, int input, TupleTableSlot *row, int64 weight)
{
	AggregateRun *state = op->state;
	AggregateGroup *group;
	MemoryContext old;

	if (!op->dataflow->populating || weight < 0)
	{
		ivm_zset_add(state->delta, row, weight);
		return;
	}
	old = MemoryContextSwitchTo(state->group_context);
	group = find_group(op, row, true);
	if (group->states == NULL)
		group->states = ivm_accumulators_init(state->accumulators, state->context);
	group->count += weight;
	if (looks_representative(state, group, row))
		group->alike += weight;
	MemoryContextSwitchTo(old);
	MemoryContextReset(state->group_context);
	(void) ivm_accumulators_add(state->accumulators, group->states, row, weight, state->context);
}

/*
 * Rows
 */

/* The raw output row: group columns and results; in the current context. */
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
stored_row(AggregateRun *state, const Datum *group_values, const bool *group_isnull,
		   int64 count, int64 alike, IvmAccumulatorState *states)
{
	Datum		values[MaxTupleAttributeNumber];
	bool		isnull[MaxTupleAttributeNumber];

	memcpy(values, group_values, sizeof(Datum) * state->ncolumns);
	memcpy(isnull, group_isnull, sizeof(bool) * state->ncolumns);
	values[state->ncolumns] = Int64GetDatum(count);
	isnull[state->ncolumns] = false;
	values[state->ncolumns + 1] = Int64GetDatum(alike);
	isnull[state->ncolumns + 1] = false;
	ivm_accumulators_store(state->accumulators, states, values + state->ncolumns + 2, isnull + state->ncolumns + 2);
	return ivm_row_form_values(state->state_desc, values, isnull);
}

static void
emit_raw(IvmOperator *op, MinimalTuple tuple, int64 weight)
{
	AggregateRun *state = op->state;

	ExecStoreMinimalTuple(tuple, state->raw_row, false);
	ivm_operator_emit_projected(op, state->raw_row, weight);
	ExecClearTuple(state->raw_row);
}

/* Gives the difference between the group's old and new output, either of which may be missing. */
static void
emit_difference(IvmOperator *op, MinimalTuple old_output, MinimalTuple new_output)
{
	if (old_output != NULL && new_output != NULL && ivm_row_image_equal(old_output, new_output))
		return;
	if (old_output != NULL)
		emit_raw(op, old_output, -1);
	if (new_output != NULL)
		emit_raw(op, new_output, 1);
}

/* Finds the stored row of a group: into state_row, which is cleared if there is none. */
static bool
load_stored(AggregateRun *state, AggregateGroup *group, ItemPointer tid)
{
	Datum		values[MaxTupleAttributeNumber];
	bool		isnull[MaxTupleAttributeNumber];
	Datum		stored_values[MaxTupleAttributeNumber];
	bool		stored_isnull[MaxTupleAttributeNumber];
	IvmStateRow *stored;

	ExecStoreMinimalTuple(ivm_row_tuple(group->representative), state->input_row, false);
	group_key(state, state->input_row, values, isnull);
	ivm_state_table_find(state->table, group->hash);
	while ((stored = ivm_state_table_next(state->table)) != NULL)
	{
		/*
		 * a copy, left to its context: the table's own is gone when something
		 * is written
		 */
		ExecStoreMinimalTuple(heap_copy_minimal_tuple(stored->tuple), state->state_row, false);
		for (int i = 0; i < state->ncolumns; i++)
			stored_values[i] = slot_getattr(state->state_row, i + 1, &stored_isnull[i]);
		if (state->ncolumns == 0 ||
			ivm_key_equal(state->key, values, isnull, stored_values, stored_isnull))
		{
			*tid = stored->tid;
			return true;
		}
	}
	ExecClearTuple(state->state_row);
	return false;
}

/* Writes the group's new row, or removes it. */
static void
write_stored(IvmOperator *op, AggregateGroup *group, bool stored, ItemPointer tid, int64 count, MinimalTuple row)
{
	AggregateRun *state = op->state;

	if (count < 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("a group has fewer rows than are to be removed"),
				 errhint("Use REFRESH MATERIALIZED VIEW to rebuild the view.")));
	if (count > 0 || op->node->grand)
	{
		if (stored)
			ivm_state_table_update(state->table, tid, group->hash, 1, row);
		else
			ivm_state_table_insert(state->table, group->hash, 1, row);
	}
	else if (stored)
		ivm_state_table_delete(state->table, tid);
}

/*
 * No row is left that looks like the group: takes over the columns of one that
 * came.  Returns how many of those there are; 0 if none came.
 */
static int64
change_looks(AggregateRun *state, AggregateGroup *group, Datum *values, bool *isnull)
{
	int64		alike = 0;

	for (IvmRow *row = group->rows; row != NULL; row = row->next)
	{
		CHECK_FOR_INTERRUPTS();
		if (row->weight < 0)
			continue;
		ExecStoreMinimalTuple(ivm_row_tuple(row), state->other_row, false);
		if (alike == 0)
			group_key(state, state->other_row, values, isnull);
		if (looks_like(state, state->other_row, values, isnull))
			alike += row->weight;
	}
	return alike;
}

/*
 * Brings the delta to one group.  Returns false if that cannot be done without
 * the rest of its input; then the old output is kept in the group.
 */
static bool
advance_group(IvmOperator *op, AggregateGroup *group)
{
	AggregateRun *state = op->state;
	MemoryContext context = state->group_context;
	ItemPointerData tid;
	bool		stored;
	Datum		values[MaxTupleAttributeNumber];
	bool		isnull[MaxTupleAttributeNumber];
	int64		count = 0;
	int64		alike = 0;
	IvmAccumulatorState *states;
	MinimalTuple old_output = NULL;
	MinimalTuple new_output = NULL;
	bool		refused = false;

	stored = load_stored(state, group, &tid);
	if (stored)
	{
		bool		unused;

		for (int i = 0; i < state->ncolumns; i++)
			values[i] = slot_getattr(state->state_row, i + 1, &isnull[i]);
		count = DatumGetInt64(slot_getattr(state->state_row, state->ncolumns + 1, &unused));
		alike = DatumGetInt64(slot_getattr(state->state_row, state->ncolumns + 2, &unused));
		states = ivm_accumulators_load(state->accumulators, state->state_row, state->ncolumns + 3, context);
		old_output = raw_output(state, values, isnull, states);
	}
	else
	{
		group_key(state, state->input_row, values, isnull);
		states = ivm_accumulators_init(state->accumulators, context);
	}

	/* what comes before what goes */
	for (int sign = 1; sign >= -1 && !refused; sign -= 2)
		for (IvmRow *row = group->rows; row != NULL && !refused; row = row->next)
		{
			CHECK_FOR_INTERRUPTS();
			if ((row->weight > 0) != (sign > 0))
				continue;
			ExecStoreMinimalTuple(ivm_row_tuple(row), state->other_row, false);
			count += row->weight;
			if (looks_like(state, state->other_row, values, isnull))
				alike += row->weight;
			refused = !ivm_accumulators_add(state->accumulators, states, state->other_row, row->weight, context);
		}

	if (!refused && count > 0 && alike <= 0)
	{
		alike = change_looks(state, group, values, isnull);
		refused = alike == 0;
	}
	if (refused)
	{
		group->stored = stored;
		group->tid = tid;
		if (old_output != NULL)
		{
			MemoryContext old = MemoryContextSwitchTo(state->context);

			group->old_output = heap_copy_minimal_tuple(old_output);
			MemoryContextSwitchTo(old);
		}
		return false;
	}

	if (count > 0 || op->node->grand)
		new_output = raw_output(state, values, isnull, states);
	write_stored(op, group, stored, &tid, count, stored_row(state, values, isnull, count, alike, states));
	emit_difference(op, old_output, new_output);
	return true;
}

/*
 * Groups that need their input
 */

static void
add_to_refused(void *context, TupleTableSlot *row, int64 weight)
{
	IvmOperator *op = context;
	AggregateRun *state = op->state;
	MemoryContext old = MemoryContextSwitchTo(state->group_context);
	AggregateGroup *group = find_group(op, row, false);

	CHECK_FOR_INTERRUPTS();
	if (group != NULL && group->states != NULL)
	{
		if (group->count == 0)
			group->representative = make_representative(op, row, group->hash);
		group->count += weight;
		if (looks_representative(state, group, row))
			group->alike += weight;
		(void) ivm_accumulators_add(state->accumulators, group->states, row, weight, state->context);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(state->group_context);
}

static void
write_group(IvmOperator *op, AggregateGroup *group)
{
	AggregateRun *state = op->state;
	Datum		values[MaxTupleAttributeNumber];
	bool		isnull[MaxTupleAttributeNumber];
	MinimalTuple output = NULL;
	MemoryContext old = MemoryContextSwitchTo(state->group_context);

	ExecStoreMinimalTuple(ivm_row_tuple(group->representative), state->input_row, false);
	group_key(state, state->input_row, values, isnull);
	if (group->count > 0 || op->node->grand)
		output = raw_output(state, values, isnull, group->states);
	write_stored(op, group, group->stored, &group->tid, group->count,
				 stored_row(state, values, isnull, group->count, group->alike, group->states));
	emit_difference(op, group->old_output, output);
	ExecClearTuple(state->input_row);
	MemoryContextSwitchTo(old);
	MemoryContextReset(state->group_context);
}

static int
compare_groups(const void *a, const void *b)
{
	uint64		x = (*(AggregateGroup *const *) a)->hash;
	uint64		y = (*(AggregateGroup *const *) b)->hash;

	return x < y ? -1 : x > y;
}

static AggregateGroup **
sorted_groups(IvmOperator *op)
{
	AggregateRun *state = op->state;
	AggregateGroup **groups = ivm_arena_alloc(op->dataflow->arena, sizeof(AggregateGroup *) * Max(state->ngroups, 1));
	uint64		n = 0;

	for (uint64 i = 0; i < state->nbuckets; i++)
		for (AggregateGroup *group = state->buckets[i]; group != NULL; group = group->next)
			groups[n++] = group;
	qsort(groups, n, sizeof(AggregateGroup *), compare_groups);
	return groups;
}

/* Rows of the delta to their groups. */
static void
distribute_rows(IvmOperator *op, IvmRow **rows, int64 count)
{
	AggregateRun *state = op->state;
	MemoryContext old = MemoryContextSwitchTo(state->group_context);

	for (int64 i = 0; i < count; i++)
	{
		IvmRow	   *row = rows[i];
		AggregateGroup *group;

		CHECK_FOR_INTERRUPTS();
		ExecStoreMinimalTuple(ivm_row_tuple(row), state->input_row, false);
		group = find_group(op, state->input_row, true);
		row->next = group->rows;
		group->rows = row;
		MemoryContextReset(state->group_context);
	}
	ExecClearTuple(state->input_row);
	MemoryContextSwitchTo(old);
}

static void
finish_part(IvmOperator *op, IvmRow **rows, int64 count)
{
	AggregateRun *state = op->state;
	AggregateGroup **groups;
	uint64		refused = 0;

	state->ngroups = 0;
	memset(state->buckets, 0, sizeof(AggregateGroup *) * state->nbuckets);
	distribute_rows(op, rows, count);
	groups = sorted_groups(op);
	for (uint64 i = 0; i < state->ngroups; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(state->group_context);

		CHECK_FOR_INTERRUPTS();
		if (!advance_group(op, groups[i]))
		{
			groups[i]->states = ivm_accumulators_init(state->accumulators, state->context);
			refused++;
		}
		ExecClearTuple(state->state_row);
		ExecClearTuple(state->input_row);
		ExecClearTuple(state->other_row);
		MemoryContextSwitchTo(old);
		MemoryContextReset(state->group_context);
	}
	if (refused == 0)
		return;

	op->counters.recomputes++;
	ivm_operator_replay(ivm_operator_input(op, 0), add_to_refused, op);
	for (uint64 i = 0; i < state->ngroups; i++)
		if (groups[i]->states != NULL)
			write_group(op, groups[i]);
}

static void
finish_batch(IvmOperator *op)
{
	AggregateRun *state = op->state;
	IvmZsetParts parts;
	IvmRow	  **rows;
	int64		count;

	ivm_zset_parts_begin(state->delta, &parts);
	while ((rows = ivm_zset_parts_next(&parts, &count)) != NULL)
		finish_part(op, rows, count);
	ivm_zset_parts_end(&parts);
}

/* Rows that population took back again (an input above other state may do so). */
static void
retract_populated(IvmOperator *op)
{
	AggregateRun *state = op->state;
	IvmZsetParts parts;
	IvmRow	  **rows;
	int64		count;

	ivm_zset_parts_begin(state->delta, &parts);
	while ((rows = ivm_zset_parts_next(&parts, &count)) != NULL)
	  for (int64 i = 0; i < count; i++)
	{
		IvmRow	   *row = rows[i];
		AggregateGroup *group;

		CHECK_FOR_INTERRUPTS();
		ExecStoreMinimalTuple(ivm_row_tuple(row), state->input_row, false);
		group = find_group(op, state->input_row, false);
		if (group == NULL)
			elog(ERROR, "population took a row back that it had not given");
		group->count += row->weight;
		if (looks_representative(state, group, state->input_row))
			group->alike += row->weight;
		if (group->count > 0 && group->alike <= 0)
			elog(ERROR, "population took back the row that a group shows");
		if (!ivm_accumulators_add(state->accumulators, group->states, state->input_row, row->weight, state->context))
			elog(ERROR, "an aggregate cannot take back what population gave");
		ExecClearTuple(state->input_row);
	}
	ivm_zset_parts_end(&parts);
}

static void
finish_population(IvmOperator *op)
{
	AggregateRun *state = op->state;
	AggregateGroup **groups;

	retract_populated(op);
	if (op->node->grand && state->ngroups == 0)
	{
		/*
		 * the row over no rows: there is nothing to read of the
		 * representative
		 */
		AggregateGroup *group = ivm_arena_alloc0(op->dataflow->arena, sizeof(AggregateGroup));
		Datum	   *values = palloc0(sizeof(Datum) * Max(state->input_desc->natts, 1));
		bool	   *isnull = palloc(sizeof(bool) * Max(state->input_desc->natts, 1));
		MinimalTuple tuple;

		memset(isnull, true, sizeof(bool) * Max(state->input_desc->natts, 1));
		tuple = ivm_row_form_values(state->input_desc, values, isnull);
		group->representative = ivm_row_make(op->dataflow->arena, tuple, 0, 0);
		group->states = ivm_accumulators_init(state->accumulators, state->context);
		state->buckets[0] = group;
		state->ngroups = 1;
	}
	groups = sorted_groups(op);
	for (uint64 i = 0; i < state->ngroups; i++)
	{
		CHECK_FOR_INTERRUPTS();
		write_group(op, groups[i]);
	}
}

static void
aggregate_finish(IvmOperator *op)
{
	AggregateRun *state = op->state;
	MemoryContext old;

	if (!op->dataflow->populating && ivm_zset_is_empty(state->delta))
		return;
	old = MemoryContextSwitchTo(state->context);
	state->table = ivm_state_table_open(ivm_operator_state_table(ivm_operator_state_name(op->node, op->dataflow->plan->relid)),
										op->dataflow->snapshot);
	if (op->dataflow->populating)
		finish_population(op);
	else
		finish_batch(op);
	ivm_state_table_close(state->table);
	state->table = NULL;
	ivm_zset_close(state->delta);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(state->context);
	state->context = NULL;
}

static void
aggregate_replay(IvmOperator *op)
{
	AggregateRun *state = op->state;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "ivm aggregate replay", ALLOCSET_DEFAULT_SIZES);
	IvmStateTable *table = ivm_state_table_open(ivm_operator_state_table(ivm_operator_state_name(op->node, op->dataflow->plan->relid)),
												op->dataflow->snapshot);
	Datum		values[MaxTupleAttributeNumber];
	bool		isnull[MaxTupleAttributeNumber];
	IvmStateRow *stored;

	ivm_state_table_scan(table);
	while ((stored = ivm_state_table_next(table)) != NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		IvmAccumulatorState *states;

		ExecStoreMinimalTuple(stored->tuple, state->state_row, false);
		for (int i = 0; i < state->ncolumns; i++)
			values[i] = slot_getattr(state->state_row, i + 1, &isnull[i]);
		states = ivm_accumulators_load(state->accumulators, state->state_row, state->ncolumns + 3, context);
		emit_raw(op, raw_output(state, values, isnull, states), 1);
		ExecClearTuple(state->state_row);
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
	}
	ivm_state_table_close(table);
	MemoryContextDelete(context);
}

const IvmOperatorRoutine ivm_op_aggregate = {
	.init = aggregate_init,
	.begin = aggregate_begin,
	.receive = aggregate_receive,
	.finish = aggregate_finish,
	.replay = aggregate_replay,
};
