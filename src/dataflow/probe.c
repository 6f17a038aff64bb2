/*-------------------------------------------------------------------------
 *
 * probe.c
 *	  Rows of one input of an operator by their key, in the new or the old state.
 *
 * A source (source.c) gives the new state of the input, whether that is a table or
 * another operator.  Where the
 * old state is wanted, the rows of the input's delta that have the key are given
 * after those, with the opposite weight: old = new - delta.  What was just
 * inserted comes twice then, and cancels out in the end.
 *
 * That is as cheap as it can be as long as each key is looked up once.  With n
 * rows on both sides that have one and the same key it would be 2 n * n rows which cancel
 * out, before those that count.  So a key that is looked up for the second
 * time in a row is remembered: its rows, with
 * new and delta added up, are kept in memory (remembered_rows.c) until another key
 * comes.  Probes are sorted by their key (ivm_probe_order), so equal ones
 * follow each other.  A key that comes once pays for a comparison and a copy of
 * the key.
 *
 * A table that is looked up by a unique key need not be asked for a key that is in its delta.  The one row that is there now is
 * the one that came; if none came, and the key was unique before the batch too, there is none.  What was there before is
 * the one that went.  "Before the batch too" is known from the second batch on that finds the index in force: the
 * plan is another one as soon as it is dropped.
 *
 * If the rows do not fit into the memory that there is for them, they are looked
 * up each time as before; but where new and delta were added up the sum is kept,
 * in a Z-set, which can be written to a file.
 *
 * Keys are the same if their images are: those find the same rows, whatever the
 * operators are.
 *
 * New minus delta is the old state only if the input gave its delta in the very images
 * in which it gives its rows.  One that does not is a wrong view as soon as
 * such a row goes; with ivm.debug_check_old it is an error at once, as a row of the old state
 * then has a weight below zero.
 *
 * Memory: the delta by key in a row index, which has a file if it is large.
 * The last key and the expressions in the contexts of the plan.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "arrange/arrange.h"
#include "arrange/cache.h"
#include "arrange/projection.h"
#include "base/settings.h"
#include "dataflow/operator.h"
#include "dataflow/probe.h"
#include "dataflow/remembered_rows.h"
#include "dataflow/source.h"
#include "zset/key.h"
#include "zset/row_index.h"
#include "zset/value_row.h"

/* A longer key is not compared with the next one. */
#define LONGEST_KEY			1024

typedef enum Remembered
{
	REMEMBERED_NOTHING,			/* so far */
	REMEMBERED_ROWS,			/* all rows of the last key, if they were not
								 * dropped meanwhile */
	REMEMBERED_SUM,				/* they are in "sum" */
	REMEMBERED_REFUSED			/* there are too many of them */
} Remembered;

struct IvmProbe
{
	IvmDataflow *dataflow;
	IvmPlanNode *input;			/* whose rows are found */
	TupleDesc	desc;			/* of it */
	IvmSource  *source;
	int			nkeys;
	IvmKey	   *key;
	bool		by_value;		/* an index is read in the order of the first
								 * value */
	List	   *key_states;		/* over the input's row */
	ExprContext *econtext;
	int16	   *lengths;		/* of the probe's values */
	bool	   *byval;
	bool	   *isnull;			/* all false */
	IvmCache   *cache;			/* of the new state; NULL: there is none */
	bool		was_single;		/* so had the state before the batch, one row
								 * of a key at most */

	/* of the batch */
	MemoryContext context;
	IvmCacheFill *fill;			/* NULL: none yet */

	/* of the run */
	bool		cached;			/* the cache is used */
	bool		filling;		/* rows that are found are added to it */
	bool		found;			/* the lookup has found a row */
	IvmRowIndex *delta;			/* by key; NULL: it is not needed */
	bool		old;			/* the old state is wanted */
	bool		single;			/* the new state has one row of a key at most */
	TupleTableSlot *row;		/* of the delta, or of the sum */

	/* the last probe */
	bool		has_last;
	MemoryContext last_context;
	Datum	   *last;
	Remembered	remembered;
	bool		remembering;	/* rows that are found are added */
	IvmRememberedRows *rows;
	IvmZset    *sum;
	IvmZset    *checked;		/* ivm.debug_check_old */

	IvmProbeReceiver receiver;
	void	   *receiver_context;
};

/* The cache that serves this probe, a new one if need be. */
static IvmCache *
share_cache(IvmProbe *probe, IvmArrangement *arrangement, List **caches)
{
	IvmCache   *cache;
	ListCell   *cell;

	foreach(cell, *caches)
	{
		cache = lfirst(cell);
		if (ivm_cache_serves(cache, arrangement, probe->lengths, probe->byval))
			return cache;
	}
	cache = ivm_cache_create(arrangement, probe->key, probe->key_states, probe->lengths, probe->byval);
	if (cache != NULL)
		*caches = lappend(*caches, cache);
	return cache;
}

IvmProbe *
ivm_probe_create(IvmDataflow *dataflow, IvmArrangement *arrangement, List *probes, List **caches)
{
	IvmProbe *probe = palloc0(sizeof(IvmProbe));
	int			nkeys = list_length(arrangement->keys);
	Oid		   *operators = palloc(sizeof(Oid) * Max(nkeys, 1));
	Oid		   *collations = palloc(sizeof(Oid) * Max(nkeys, 1));

	probe->dataflow = dataflow;
	probe->input = arrangement->input;
	probe->desc = arrangement->input->desc;
	probe->nkeys = nkeys;
	probe->lengths = palloc(sizeof(int16) * Max(nkeys, 1));
	probe->byval = palloc(sizeof(bool) * Max(nkeys, 1));
	probe->isnull = palloc0(sizeof(bool) * Max(nkeys, 1));
	probe->last = palloc(sizeof(Datum) * Max(nkeys, 1));
	for (int i = 0; i < nkeys; i++)
	{
		operators[i] = list_nth_oid(arrangement->operators, i);
		collations[i] = list_nth_oid(arrangement->collations, i);
		get_typlenbyval(exprType(list_nth(probes, i)), &probe->lengths[i], &probe->byval[i]);
	}
	probe->source = ivm_source_create(dataflow, arrangement);
	probe->key = ivm_key_create(nkeys, operators, collations, false);
	probe->key_states = ExecInitExprList(arrangement->keys, NULL);
	probe->econtext = ivm_expr_context_create();
	probe->by_value = nkeys > 0 && probe->byval[0] && arrangement->kind == IVM_ARRANGE_INDEX;
	probe->last_context = AllocSetContextCreate(CurrentMemoryContext, "ivm probe key", ALLOCSET_SMALL_SIZES);
	probe->rows = ivm_remembered_rows_create(probe->desc);
	probe->cache = caches == NULL ? NULL : share_cache(probe, arrangement, caches);
	return probe;
}

void
ivm_probe_begin(IvmProbe *probe)
{
	ivm_source_begin(probe->source);
	probe->context = CurrentMemoryContext;
	probe->fill = NULL;
	probe->filling = false;
	probe->delta = NULL;
	probe->row = NULL;
	probe->has_last = false;
	probe->remembered = REMEMBERED_NOTHING;
	probe->remembering = false;
	ivm_remembered_rows_begin(probe->rows, probe->dataflow->arena);
	probe->sum = NULL;
	probe->checked = NULL;
}

void
ivm_probe_end(IvmProbe *probe)
{
	ivm_source_end(probe->source);
}

void
ivm_probe_forget(IvmProbe *probe)
{
	probe->was_single = false;
}

/*
 * A run of probes
 */

/* Another key comes. */
static void
forget(IvmProbe *probe)
{
	if (probe->remembered == REMEMBERED_ROWS)
		ivm_remembered_rows_clear(probe->rows);
	if (probe->remembered == REMEMBERED_SUM)
		ivm_zset_clear(probe->sum);
	probe->remembered = REMEMBERED_NOTHING;
}

/* The delta by key. */
static void
index_delta(IvmProbe *probe, IvmZset *delta)
{
	IvmZsetParts parts;
	IvmRow	  **rows;
	int64		count;

	probe->delta = ivm_row_index_create(probe->dataflow->arena);
	ivm_zset_parts_begin(delta, &parts);
	while ((rows = ivm_zset_parts_next(&parts, &count)) != NULL)
	{
		for (int64 r = 0; r < count; r++)
		{
			uint64		hash;

			CHECK_FOR_INTERRUPTS();
			ExecStoreMinimalTuple(ivm_row_tuple(rows[r]), probe->row, false);
			/* a NULL key matches nothing */
			if (ivm_key_hash_row(probe->key, probe->key_states, probe->econtext, probe->row, &hash))
				ivm_row_index_add(probe->delta, ivm_row_tuple(rows[r]), rows[r]->weight, hash);
		}
		ExecClearTuple(probe->row);
	}
	ivm_zset_parts_end(&parts);
	ivm_row_index_finish(probe->delta);
}

static bool
add_key(void *context, TupleTableSlot *row, int64 weight)
{
	IvmProbe   *probe = context;
	uint64		hash;

	/* nobody finds a row with a NULL key */
	if (ivm_key_hash_row(probe->key, probe->key_states, probe->econtext, row, &hash))
		ivm_cache_add_key(probe->cache, hash);
	return true;
}

/* Finds out which keys have rows, if that is worth it. */
static void
collect_keys(IvmProbe *probe)
{
	int64		pages = ivm_source_pages(probe->source);

	if (pages < 0 || !ivm_cache_begin_keys(probe->cache, pages))
		return;
	ivm_source_read(probe->source, add_key, probe);
	ivm_cache_end_keys(probe->cache);
}

void
ivm_probe_start(IvmProbe *probe, IvmZset *delta, bool old, int64 expected, Size memory, bool cached)
{
	Assert(probe->delta == NULL && probe->row == NULL);
	probe->has_last = false;
	ivm_remembered_rows_start(probe->rows, memory);
	probe->row = MakeSingleTupleTableSlot(probe->desc, &TTSOpsMinimalTuple);
	probe->cached = cached && probe->cache != NULL;
	if (probe->cached)
		expected = ivm_cache_start(probe->cache, expected);
	ivm_source_expect(probe->source, expected);
	probe->old = old;
	/* asking opens the table */
	probe->single = cached && delta != NULL && ivm_source_is_unique(probe->source);
	if (delta != NULL && (old || probe->single))
		index_delta(probe, delta);
	if (probe->cached && ivm_cache_misses_keys(probe->cache))
		collect_keys(probe);
}

void
ivm_probe_stop(IvmProbe *probe)
{
	forget(probe);
	ivm_remembered_rows_stop(probe->rows);
	if (probe->sum != NULL)
		ivm_zset_close(probe->sum);
	probe->sum = NULL;
	if (probe->checked != NULL)
		ivm_zset_close(probe->checked);
	probe->checked = NULL;
	if (probe->delta != NULL)
		ivm_row_index_destroy(probe->delta);
	probe->delta = NULL;
	probe->was_single |= probe->single;
	ExecDropSingleTupleTableSlot(probe->row);
	probe->row = NULL;
}

void
ivm_probe_order(IvmProbe *probe, const Datum *values, uint64 *first, uint64 *second)
{
	*first = *second = 0;
	if (probe->by_value)
		*first = (uint64) values[0] ^ (UINT64CONST(1) << 63);
	if (!probe->by_value)
		*first = ivm_key_hash_left(probe->key, values, probe->isnull);
	else if (probe->nkeys > 1)
		*second = ivm_key_hash_left(probe->key, values, probe->isnull);
}

int
ivm_probe_compare_orders(const void *a, const void *b)
{
	const IvmRow *x = *(IvmRow *const *) a;
	const IvmRow *y = *(IvmRow *const *) b;

	if (x->hash != y->hash)
		return x->hash < y->hash ? -1 : 1;
	return (uintptr_t) x->next < (uintptr_t) y->next ? -1 : (uintptr_t) x->next > (uintptr_t) y->next;
}

void
ivm_probe_caches_apply(List *caches, IvmPlanNode *input, IvmZset *delta)
{
	ListCell   *cell;

	foreach(cell, caches)
		if (ivm_cache_input(lfirst(cell)) == input)
			ivm_cache_apply_delta(lfirst(cell), delta);
}

void
ivm_probe_caches_forget(List *caches)
{
	ListCell   *cell;

	foreach(cell, caches)
		ivm_cache_forget(lfirst(cell));
}

/*
 * One probe
 */

/* Is it the key of the last probe? */
static bool
is_last_key(IvmProbe *probe, const Datum *values)
{
	if (!probe->has_last)
		return false;
	for (int i = 0; i < probe->nkeys; i++)
	{
		if (probe->byval[i] ? values[i] != probe->last[i] :
			!datum_image_eq(values[i], probe->last[i], false, probe->lengths[i]))
			return false;
	}
	return true;
}

static void
keep_key(IvmProbe *probe, const Datum *values)
{
	MemoryContext old = MemoryContextSwitchTo(probe->last_context);

	MemoryContextReset(probe->last_context);
	probe->has_last = true;
	for (int i = 0; i < probe->nkeys && probe->has_last; i++)
	{
		if (probe->byval[i])
			probe->last[i] = values[i];
		else if (ivm_value_size(values[i], probe->lengths[i]) <= LONGEST_KEY)
			probe->last[i] = datumCopy(values[i], false, probe->lengths[i]);
		else
			probe->has_last = false;
	}
	MemoryContextSwitchTo(old);
}

static uint64
hash_of(IvmProbe *probe, const Datum *values)
{
	MemoryContext old = MemoryContextSwitchTo(probe->econtext->ecxt_per_tuple_memory);
	uint64		hash = ivm_key_hash_left(probe->key, values, probe->isnull);

	MemoryContextSwitchTo(old);
	ResetExprContext(probe->econtext);
	return hash;
}

/* Does the row, of the delta or of the sum, have that key? */
static bool
has_key(IvmProbe *probe, TupleTableSlot *row, const Datum *values)
{
	MemoryContext old;
	Datum	   *key;
	bool	   *isnull;
	ListCell   *cell;
	int			i = 0;
	bool		result;

	ResetExprContext(probe->econtext);
	probe->econtext->ecxt_scantuple = row;
	old = MemoryContextSwitchTo(probe->econtext->ecxt_per_tuple_memory);
	key = palloc(sizeof(Datum) * Max(probe->nkeys, 1));
	isnull = palloc(sizeof(bool) * Max(probe->nkeys, 1));
	foreach(cell, probe->key_states)
	{
		key[i] = ExecEvalExpr(lfirst(cell), probe->econtext, &isnull[i]);
		i++;
	}
	result = ivm_key_equal(probe->key, values, probe->isnull, key, isnull);
	MemoryContextSwitchTo(old);
	return result;
}

static bool
give_values(void *context, const Datum *values, const bool *isnull, int64 weight)
{
	IvmProbe *probe = context;

	if (probe->remembering)
		probe->remembering = ivm_remembered_rows_add(probe->rows, values, isnull, weight);
	return probe->receiver(probe->receiver_context, values, isnull, weight);
}

/* A row was found, by the lookup or elsewhere. */
static bool
give(void *context, TupleTableSlot *row, int64 weight)
{
	IvmProbe *probe = context;

	slot_getallattrs(row);
	probe->found = true;
	if (probe->filling)
		ivm_cache_fill_add(probe->fill, row->tts_values, row->tts_isnull, weight);
	return give_values(probe, row->tts_values, row->tts_isnull, weight);
}

/* Gives the rows of the new state: from the cache, or as they are found. */
static bool
look_up_new(IvmProbe *probe, const Datum *values)
{
	uint64		hash = 0;
	bool		more = true;

	probe->filling = false;
	if (probe->cached && ivm_cache_has_keys(probe->cache))
	{
		hash = hash_of(probe, values);
		if (ivm_cache_excludes(probe->cache, hash))
			return true;
	}
	if (probe->cached && ivm_cache_wants(probe->cache))
	{
		if (hash == 0)
			hash = hash_of(probe, values);
		if (ivm_cache_give(probe->cache, hash, values, give_values, probe, &more, &probe->filling))
			return more;
	}
	if (probe->filling && probe->fill == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(probe->context);

		probe->fill = ivm_cache_fill_create(probe->cache);
		MemoryContextSwitchTo(old);
	}
	if (probe->filling)
		ivm_cache_fill_begin(probe->fill);
	probe->found = false;
	more = ivm_source_find(probe->source, values, probe->isnull, give, probe);
	if (probe->cached && !probe->found)
		ivm_cache_found_nothing(probe->cache);
	/* some of the rows are no use */
	if (probe->filling && more)
		ivm_cache_fill_end(probe->fill, hash, values);
	probe->filling = false;
	return more;
}

/*
 * Gives the rows of a key of which there can be one only, from the delta alone; false if that does not say it all.
 */
static bool
look_up_delta(IvmProbe *probe, const Datum *values, uint64 hash, bool *more)
{
	int64		came = 0;
	int64		went = 0;
	IvmRow	   *row;

	ivm_row_index_find(probe->delta, hash);
	while ((row = ivm_row_index_next(probe->delta)) != NULL)
	{
		ExecStoreMinimalTuple(ivm_row_tuple(row), probe->row, false);
		if (!has_key(probe, probe->row, values))
			continue;
		if (row->weight > 0)
			came += row->weight;
		else
			went -= row->weight;
	}
	ExecClearTuple(probe->row);
	*more = true;
	if (came > 1 || went > 1 || (came == 0 && (went == 0 || !probe->was_single)))
		return false;
	if ((probe->old ? went : came) == 0)
		return true;

	ivm_row_index_find(probe->delta, hash);
	while (*more && (row = ivm_row_index_next(probe->delta)) != NULL)
	{
		if ((row->weight < 0) != probe->old)
			continue;
		ExecStoreMinimalTuple(ivm_row_tuple(row), probe->row, false);
		*more = give(probe, probe->row, 1);
	}
	ExecClearTuple(probe->row);
	return true;
}

/* Gives the rows as they are found. */
static bool
look_up(IvmProbe *probe, const Datum *values)
{
	bool		has_delta = probe->delta != NULL && !ivm_row_index_is_empty(probe->delta);
	uint64		hash = has_delta ? hash_of(probe, values) : 0;
	bool		more;

	if (has_delta && probe->single && look_up_delta(probe, values, hash, &more))
		return more;
	more = look_up_new(probe, values);
	if (more && has_delta && probe->old)
	{
		IvmRow	   *row;

		ivm_row_index_find(probe->delta, hash);
		while (more && (row = ivm_row_index_next(probe->delta)) != NULL)
		{
			ExecStoreMinimalTuple(ivm_row_tuple(row), probe->row, false);
			more = give(probe, probe->row, -row->weight);
		}
		ExecClearTuple(probe->row);
	}
	return more;
}

static bool
add_to_zset(void *context, TupleTableSlot *row, int64 weight)
{
	ivm_zset_add(context, row, weight);
	return true;
}

static bool
give_sum(IvmProbe *probe)
{
	IvmZsetParts parts;
	IvmRow	  **rows;
	int64		count;
	bool		more = true;

	ivm_zset_parts_begin(probe->sum, &parts);
	while (more && (rows = ivm_zset_parts_next(&parts, &count)) != NULL)
	{
		for (int64 i = 0; i < count && more; i++)
		{
			ExecStoreMinimalTuple(ivm_row_tuple(rows[i]), probe->row, false);
			more = give(probe, probe->row, rows[i]->weight);
		}
		ExecClearTuple(probe->row);
	}
	ivm_zset_parts_end(&parts);
	return more;
}

/* Adds up the rows of the key, new state and delta, in *sum; false if there is no delta of it. */
static bool
add_up(IvmProbe *probe, const Datum *values, IvmZset **sum)
{
	IvmRow	   *row;

	if (!probe->old || probe->delta == NULL || ivm_row_index_is_empty(probe->delta))
		return false;
	ivm_row_index_find(probe->delta, hash_of(probe, values));
	row = ivm_row_index_next(probe->delta);
	if (row == NULL)
		return false;
	if (*sum == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(probe->context);

		*sum = ivm_zset_create(probe->dataflow->arena, probe->desc);
		MemoryContextSwitchTo(old);
	}
	for (; row != NULL; row = ivm_row_index_next(probe->delta))
	{
		CHECK_FOR_INTERRUPTS();
		ivm_zset_add_tuple(*sum, ivm_row_tuple(row), -row->weight);
	}
	(void) ivm_source_find(probe->source, values, probe->isnull, add_to_zset, *sum);
	return true;
}

/* Raises an error if a row of that key was there less than zero times before the batch. */
static void
check_old(IvmProbe *probe, const Datum *values)
{
	IvmZsetParts parts;
	IvmRow	  **rows;
	int64		count;

	if (!add_up(probe, values, &probe->checked))
		return;
	ivm_zset_parts_begin(probe->checked, &parts);
	while ((rows = ivm_zset_parts_next(&parts, &count)) != NULL)
	{
		for (int64 i = 0; i < count; i++)
		{
			if (rows[i]->weight > 0)
				continue;
			/* of another key that has the same hash only the delta is there */
			ExecStoreMinimalTuple(ivm_row_tuple(rows[i]), probe->row, false);
			if (has_key(probe, probe->row, values))
				elog(ERROR, "a row of node %d (%s) was there " INT64_FORMAT " times before the batch",
					 probe->input->node_id, ivm_plan_node_name(probe->input), rows[i]->weight);
		}
		ExecClearTuple(probe->row);
	}
	ivm_zset_parts_end(&parts);
	ivm_zset_clear(probe->checked);
}

/* Gives the rows, and remembers them if they fit. */
static bool
look_up_and_remember(IvmProbe *probe, const Datum *values)
{
	bool		is_sum;
	bool		more;

	ivm_remembered_rows_begin_adding(probe->rows);
	is_sum = !probe->single && add_up(probe, values, &probe->sum);
	probe->remembering = true;
	more = is_sum ? give_sum(probe) : look_up(probe, values);

	if (probe->remembering && more)
		probe->remembered = REMEMBERED_ROWS;
	else if (is_sum)
		probe->remembered = REMEMBERED_SUM;
	else
		probe->remembered = more ? REMEMBERED_REFUSED : REMEMBERED_NOTHING;
	if (is_sum && probe->remembered == REMEMBERED_ROWS)
		ivm_zset_clear(probe->sum);
	probe->remembering = false;
	ivm_remembered_rows_end_adding(probe->rows);
	if (!more)
		ivm_remembered_rows_clear(probe->rows);
	return more;
}

bool
ivm_probe_rows(IvmProbe *probe, const Datum *values,
					IvmProbeReceiver receiver, void *context)
{
	probe->receiver = receiver;
	probe->receiver_context = context;
	if (!is_last_key(probe, values))
	{
		forget(probe);
		keep_key(probe, values);
		if (unlikely(ivm_debug_check_old))
			check_old(probe, values);
		return look_up(probe, values);
	}
	if (probe->remembered == REMEMBERED_ROWS && !ivm_remembered_rows_are_whole(probe->rows))
		probe->remembered = REMEMBERED_NOTHING;
	switch (probe->remembered)
	{
		case REMEMBERED_NOTHING:
			return look_up_and_remember(probe, values);
		case REMEMBERED_ROWS:
			return ivm_remembered_rows_give(probe->rows, receiver, context);
		case REMEMBERED_SUM:
			return give_sum(probe);
		case REMEMBERED_REFUSED:
			return look_up(probe, values);
	}
	return true;
}
