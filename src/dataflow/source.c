/*-------------------------------------------------------------------------
 *
 * source.c
 *	  Rows of a node of the plan by their key, in the new state.
 *
 * They are in tables of the user's or in state tables, where arrange/lookup.c finds them; or
 * the node's operator finds them, in what it keeps itself or in what it reads (the
 * finders of operators).  For a map, an append and a join that is again a source for
 * each input that is looked up, so a lookup may go down through the plan and end in several tables.
 *
 * The finders of what works on one row at a time are here, too: a map filters and
 * projects what its input has, an append gives what all inputs have.
 *
 * Costs: what is read and put through operators to give a row.
 *
 * Memory: a row is in slots and contexts of the source that gives it until its receiver returns.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "dataflow/operator.h"
#include "dataflow/source.h"

struct IvmSource
{
	IvmDataflow *dataflow;
	IvmLookup  *lookup;			/* or NULL, and then: */
	const IvmFinderRoutine *routine;
	void	   *finder;
};

IvmSource *
ivm_source_create(IvmDataflow *dataflow, IvmArrangement *arrangement)
{
	IvmSource  *source = palloc0(sizeof(IvmSource));

	check_stack_depth();
	source->dataflow = dataflow;
	if (arrangement->kind == IVM_ARRANGE_OPERATOR || arrangement->kind == IVM_ARRANGE_THROUGH)
	{
		IvmOperator *op = ivm_dataflow_operator(dataflow, arrangement->input);

		source->routine = arrangement->kind == IVM_ARRANGE_OPERATOR ? op->routine->own_finder : op->routine->finder;
		source->finder = source->routine->create(op, arrangement);
	}
	else
		source->lookup = ivm_lookup_create(arrangement, dataflow->plan->relid);
	return source;
}

void
ivm_source_begin(IvmSource *source)
{
	if (source->lookup != NULL)
		ivm_lookup_begin(source->lookup, source->dataflow->snapshot, source->dataflow->arena,
						 source->dataflow->populating);
	else
		source->routine->begin(source->finder);
}

void
ivm_source_end(IvmSource *source)
{
	if (source->lookup != NULL)
		ivm_lookup_end(source->lookup);
	else
		source->routine->end(source->finder);
}

bool
ivm_source_is_unique(IvmSource *source)
{
	return source->lookup != NULL && ivm_lookup_is_unique(source->lookup);
}

int64
ivm_source_pages(IvmSource *source)
{
	return source->lookup != NULL ? ivm_lookup_pages(source->lookup) : -1;
}

void
ivm_source_read(IvmSource *source, IvmLookupReceiver receiver, void *context)
{
	ivm_lookup_read(source->lookup, receiver, context);
}

void
ivm_source_expect(IvmSource *source, int64 probes)
{
	if (source->lookup != NULL)
		ivm_lookup_expect(source->lookup, probes);
	else
		source->routine->expect(source->finder, probes);
}

bool
ivm_source_find(IvmSource *source, const Datum *values, const bool *isnull,
				IvmLookupReceiver receiver, void *context)
{
	if (source->lookup != NULL)
		return ivm_lookup_probe(source->lookup, values, isnull, receiver, context);
	return source->routine->find(source->finder, values, isnull, receiver, context);
}

/*
 * Map and append
 */

typedef struct LinearFinder
{
	IvmProjection *projection;
	int			ninputs;
	IvmSource **sources;
	int		  **keys;			/* of each source: which of the values are its
								 * own */
	int		   *nkeys;
	Datum	   *values;
	bool	   *isnull;

	/* of the lookup */
	IvmLookupReceiver receiver;
	void	   *context;
} LinearFinder;

static void *
linear_create(IvmOperator *op, IvmArrangement *arrangement)
{
	LinearFinder *finder = palloc0(sizeof(LinearFinder));
	int			nkeys = Max(list_length(arrangement->keys), 1);
	ListCell   *cell;
	ListCell   *cell2;

	finder->projection = ivm_projection_create(op->node->tlist, op->node->quals, op->node->desc);
	finder->sources = palloc(sizeof(IvmSource *) * list_length(arrangement->below));
	finder->keys = palloc(sizeof(int *) * list_length(arrangement->below));
	finder->nkeys = palloc(sizeof(int) * list_length(arrangement->below));
	finder->values = palloc(sizeof(Datum) * nkeys);
	finder->isnull = palloc(sizeof(bool) * nkeys);
	forboth(cell, arrangement->below, cell2, arrangement->below_keys)
	{
		List	   *numbers = lfirst(cell2);
		int			i = finder->ninputs++;

		finder->sources[i] = ivm_source_create(op->dataflow, lfirst(cell));
		finder->nkeys[i] = list_length(numbers);
		finder->keys[i] = palloc(sizeof(int) * nkeys);
		for (int k = 0; k < finder->nkeys[i]; k++)
			finder->keys[i][k] = list_nth_int(numbers, k);
	}
	return finder;
}

static void
linear_begin(void *context)
{
	LinearFinder *finder = context;

	for (int i = 0; i < finder->ninputs; i++)
		ivm_source_begin(finder->sources[i]);
}

static void
linear_end(void *context)
{
	LinearFinder *finder = context;

	for (int i = 0; i < finder->ninputs; i++)
		ivm_source_end(finder->sources[i]);
}

static void
linear_expect(void *context, int64 probes)
{
	LinearFinder *finder = context;

	for (int i = 0; i < finder->ninputs; i++)
		ivm_source_expect(finder->sources[i], probes);
}

static bool
give_projected(void *context, TupleTableSlot *row, int64 weight)
{
	LinearFinder *finder = context;
	TupleTableSlot *result = ivm_projection_apply(finder->projection, row);

	CHECK_FOR_INTERRUPTS();
	return result == NULL || finder->receiver(finder->context, result, weight);
}

static bool
linear_find(void *context, const Datum *values, const bool *isnull,
			IvmLookupReceiver receiver, void *receiver_context)
{
	LinearFinder *finder = context;
	bool		more = true;

	finder->receiver = receiver;
	finder->context = receiver_context;
	for (int i = 0; i < finder->ninputs && more; i++)
	{
		for (int k = 0; k < finder->nkeys[i]; k++)
		{
			finder->values[k] = values[finder->keys[i][k]];
			finder->isnull[k] = isnull[finder->keys[i][k]];
		}
		more = ivm_source_find(finder->sources[i], finder->values, finder->isnull, give_projected, finder);
	}
	return more;
}

const IvmFinderRoutine ivm_linear_finder = {
	.create = linear_create,
	.begin = linear_begin,
	.expect = linear_expect,
	.find = linear_find,
	.end = linear_end,
};
