/*-------------------------------------------------------------------------
 *
 * outer_finder.c
 *	  Rows of an outer join by a key, found in what the join reads.
 *
 * The rows of one side that have the key are looked up, and what they match on the other.  Rows of that side which
 * are alone come out as long as they are kept; those of the other side have no such key.  By a merged key of a
 * full join (compile/outer.c) the left side's rows give all that has its part of the key, and the right side's only those
 * of their own that are alone.
 *
 * For a semi or an anti join the first match decides.
 *
 * Nothing is cached or counted here, as in join_finder.c.
 *
 * Memory: as outer_match.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "dataflow/join_walk.h"
#include "dataflow/outer_match.h"
#include "dataflow/source.h"

/* Rows of a side that are looked up. */
typedef struct OuterStart
{
	int			input;
	bool		pairs;			/* wanted */
	bool		alone;
	IvmSource  *source;
	int			nkeys;
	int		   *keys;			/* which of the values are its own */
} OuterStart;

typedef struct OuterFinder
{
	JoinType	jointype;
	IvmOuterMatch *match;
	int			nstarts;
	OuterStart	starts[2];
	Datum	   *values;
	bool	   *isnull;
	IvmProjection *projection;

	/* of the batch */
	MemoryContext batch_context;
	int64		expected;
	bool		started;

	/* of the lookup */
	IvmLookupReceiver receiver;
	void	   *context;
	OuterStart *start;
	int64		weight;			/* of the row that starts */
	bool		more;			/* are wanted */
} OuterFinder;

static void *
outer_finder_create(IvmOperator *op, IvmArrangement *arrangement)
{
	OuterFinder *finder = palloc0(sizeof(OuterFinder));
	IvmPlanNode *node = op->node;
	int			nkeys = list_length(arrangement->keys);
	bool		has_pairs = node->jointype == JOIN_LEFT || node->jointype == JOIN_FULL;
	ListCell   *cell;
	ListCell   *cell2;
	ListCell   *cell3;

	finder->jointype = node->jointype;
	finder->match = ivm_outer_match_create(op, arrangement->paths, NULL);
	finder->values = palloc(sizeof(Datum) * nkeys);
	finder->isnull = palloc(sizeof(bool) * nkeys);
	finder->projection = ivm_projection_create(ivm_join_widen(node, node->tlist), ivm_join_widen(node, node->quals),
											   node->desc);
	forthree(cell, arrangement->below, cell2, arrangement->below_keys, cell3, arrangement->paths)
	{
		OuterStart *start = &finder->starts[finder->nstarts];
		List	   *numbers = lfirst(cell2);

		start->input = ((IvmJoinPath *) lfirst(cell3))->start;
		start->pairs = has_pairs && finder->nstarts == 0;
		start->alone = start->input == 0 || node->jointype == JOIN_FULL;
		start->source = ivm_source_create(op->dataflow, lfirst(cell));
		start->keys = palloc(sizeof(int) * list_length(numbers));
		while (start->nkeys < list_length(numbers))
		{
			start->keys[start->nkeys] = list_nth_int(numbers, start->nkeys);
			start->nkeys++;
		}
		finder->nstarts++;
	}
	return finder;
}

static void
outer_finder_begin(void *context)
{
	OuterFinder *finder = context;

	for (int i = 0; i < finder->nstarts; i++)
		ivm_source_begin(finder->starts[i].source);
	ivm_outer_match_begin(finder->match);
	finder->batch_context = CurrentMemoryContext;
	finder->expected = 0;
	finder->started = false;
}

static void
outer_finder_expect(void *context, int64 probes)
{
	OuterFinder *finder = context;

	finder->expected = probes;
	for (int i = 0; i < finder->nstarts; i++)
		ivm_source_expect(finder->starts[i].source, probes);
}

/* Gives what is bound. */
static bool
give_bound(void *context, int64 weight)
{
	OuterFinder *finder = context;
	TupleTableSlot *result = ivm_projection_apply(finder->projection, ivm_outer_match_wide(finder->match));

	if (result != NULL)
		finder->more = finder->receiver(finder->context, result, finder->weight * weight);
	return finder->more;
}

static bool
found_start(void *context, TupleTableSlot *row, int64 weight)
{
	OuterFinder *finder = context;
	OuterStart *start = finder->start;
	bool		matched;

	slot_getallattrs(row);
	ivm_outer_match_bind(finder->match, start->input, row->tts_values, row->tts_isnull);
	finder->weight = weight;
	if (start->pairs)
		matched = ivm_outer_match_find(finder->match, start->input, PG_INT64_MAX, give_bound, finder) > 0;
	else
		matched = ivm_outer_match_find(finder->match, start->input, 0, NULL, NULL) > 0;
	if (finder->more && start->alone && matched == (finder->jointype == JOIN_SEMI))
	{
		ivm_outer_match_clear(finder->match, 1 - start->input);
		(void) give_bound(finder, 1);
	}
	return finder->more;
}

/* Which inputs are looked up for what they match. */
static void
start_matches(OuterFinder *finder)
{
	MemoryContext old = MemoryContextSwitchTo(finder->batch_context);

	for (int i = 0; i < finder->nstarts; i++)
		ivm_outer_match_start(finder->match, 1 - finder->starts[i].input, NULL, false, finder->expected, false);
	MemoryContextSwitchTo(old);
	finder->started = true;
}

static bool
outer_finder_find(void *context, const Datum *values, const bool *isnull,
				  IvmLookupReceiver receiver, void *receiver_context)
{
	OuterFinder *finder = context;

	if (!finder->started)
		start_matches(finder);
	finder->receiver = receiver;
	finder->context = receiver_context;
	finder->more = true;
	for (int i = 0; i < finder->nstarts && finder->more; i++)
	{
		OuterStart *start = &finder->starts[i];

		for (int k = 0; k < start->nkeys; k++)
		{
			finder->values[k] = values[start->keys[k]];
			finder->isnull[k] = isnull[start->keys[k]];
		}
		finder->start = start;
		(void) ivm_source_find(start->source, finder->values, finder->isnull, found_start, finder);
	}
	return finder->more;
}

static void
outer_finder_end(void *context)
{
	OuterFinder *finder = context;

	if (finder->started)
		for (int i = 0; i < finder->nstarts; i++)
			ivm_outer_match_stop(finder->match, 1 - finder->starts[i].input);
	ivm_outer_match_end(finder->match);
	for (int i = 0; i < finder->nstarts; i++)
		ivm_source_end(finder->starts[i].source);
}

const IvmFinderRoutine ivm_outer_finder = {
	.create = outer_finder_create,
	.begin = outer_finder_begin,
	.expect = outer_finder_expect,
	.find = outer_finder_find,
	.end = outer_finder_end,
};
