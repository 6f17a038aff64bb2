/*-------------------------------------------------------------------------
 *
 * join_finder.c
 *	  Rows of a join by a key, found in what the join reads.
 *
 * The rows of one input that have the key, or what of it is that input's, start the
 * path that a change of that input would take, all stages in the new state.  So nothing is
 * stored, and what is read is what the inputs have of the rows that are given.
 *
 * Nothing is cached or counted here: a cache belongs to who knows the deltas of what it
 * keeps, which is the reader of the join.
 *
 * Memory: as join_walk.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "dataflow/join_walk.h"
#include "dataflow/source.h"

typedef struct JoinFinder
{
	IvmSource  *source;			/* of the start */
	int			nkeys;
	int		   *keys;			/* which of the values are those of the start */
	Datum	   *values;
	bool	   *isnull;
	IvmJoinWalk *walk;
	IvmProjection *projection;

	/* of the batch */
	MemoryContext batch_context;
	int64		expected;
	bool		started;

	/* of the lookup */
	IvmLookupReceiver receiver;
	void	   *context;
} JoinFinder;

static void *
join_finder_create(IvmOperator *op, IvmArrangement *arrangement)
{
	JoinFinder *finder = palloc0(sizeof(JoinFinder));
	IvmPlanNode *node = op->node;
	List	   *numbers = linitial(arrangement->below_keys);

	finder->source = ivm_source_create(op->dataflow, linitial(arrangement->below));
	finder->keys = palloc(sizeof(int) * list_length(numbers));
	finder->values = palloc(sizeof(Datum) * list_length(numbers));
	finder->isnull = palloc(sizeof(bool) * list_length(numbers));
	while (finder->nkeys < list_length(numbers))
	{
		finder->keys[finder->nkeys] = list_nth_int(numbers, finder->nkeys);
		finder->nkeys++;
	}
	finder->walk = ivm_join_walk_create(op, linitial(arrangement->paths), NULL);
	finder->projection = ivm_projection_create(ivm_join_widen(node, node->tlist), ivm_join_widen(node, node->quals),
											   node->desc);
	return finder;
}

static void
join_finder_begin(void *context)
{
	JoinFinder *finder = context;

	ivm_source_begin(finder->source);
	ivm_join_walk_begin(finder->walk);
	finder->batch_context = CurrentMemoryContext;
	finder->expected = 0;
	finder->started = false;
}

static void
join_finder_expect(void *context, int64 probes)
{
	JoinFinder *finder = context;

	finder->expected = probes;
	ivm_source_expect(finder->source, probes);
}

static bool
give_joined(void *context, TupleTableSlot *wide, int64 weight)
{
	JoinFinder *finder = context;
	TupleTableSlot *result = ivm_projection_apply(finder->projection, wide);

	return result == NULL || finder->receiver(finder->context, result, weight);
}

static bool
found_start(void *context, TupleTableSlot *row, int64 weight)
{
	JoinFinder *finder = context;

	slot_getallattrs(row);
	return ivm_join_walk_from(finder->walk, row->tts_values, row->tts_isnull, weight, give_joined, finder);
}

static bool
join_finder_find(void *context, const Datum *values, const bool *isnull,
				 IvmLookupReceiver receiver, void *receiver_context)
{
	JoinFinder *finder = context;

	if (!finder->started)
	{
		MemoryContext old = MemoryContextSwitchTo(finder->batch_context);

		ivm_join_walk_start(finder->walk, NULL, NULL, finder->expected, false);
		MemoryContextSwitchTo(old);
		finder->started = true;
	}
	finder->receiver = receiver;
	finder->context = receiver_context;
	for (int i = 0; i < finder->nkeys; i++)
	{
		finder->values[i] = values[finder->keys[i]];
		finder->isnull[i] = isnull[finder->keys[i]];
	}
	return ivm_source_find(finder->source, finder->values, finder->isnull, found_start, finder);
}

static void
join_finder_end(void *context)
{
	JoinFinder *finder = context;

	if (finder->started)
		ivm_join_walk_stop(finder->walk);
	ivm_join_walk_end(finder->walk);
	ivm_source_end(finder->source);
}

const IvmFinderRoutine ivm_join_finder = {
	.create = join_finder_create,
	.begin = join_finder_begin,
	.expect = join_finder_expect,
	.find = join_finder_find,
	.end = join_finder_end,
};
