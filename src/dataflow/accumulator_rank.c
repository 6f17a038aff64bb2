/*-------------------------------------------------------------------------
 *
 * accumulator_rank.c
 *	  percentile_cont and percentile_disc of large groups.
 *
 * The result is the value at a place, or between two, of the group's values in an order.  The state has, for each of
 * these places, the value that is there, how many values come before it, and how many are equal to it.  So a
 * value that comes or goes is compared with these, and is counted.  When all have been, the places are elsewhere, by no more
 * than so many values; from where they were one walks there in an ordered arrangement of the input (rank_search.c).
 *
 * That makes the cost of a change independent of the size of the group, with no more state than the numbers.  Blocks of
 * rows with counts, as in an order-statistic tree, would find any place, but would have to be
 * written with each change, split and merged; nobody asks for a place that is far from the last one, but for the first time.
 *
 * NULL is no value, nor is what the filter does not let pass.  Of equal values that look different the first
 * in the arrangement is shown: it is looked for again when one of them comes or goes.
 *
 * Stored are the result, and the places; the number of values is the count that every state has.
 *
 * Memory: values in the group's context.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type_d.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "arrange/projection.h"
#include "dataflow/rank.h"

static void
rank_create(IvmAccumulatorCall *call)
{
	IvmRankCall *own = palloc0(sizeof(IvmRankCall));
	TargetEntry *arg = linitial_node(TargetEntry, call->aggref->args);
	SortGroupClause *clause = linitial_node(SortGroupClause, call->aggref->aggorder);
	Oid			type = exprType((Node *) arg->expr);

	own->order.ssup_cxt = CurrentMemoryContext;
	own->order.ssup_collation = exprCollation((Node *) arg->expr);
	PrepareSortSupportFromOrderingOp(clause->sortop, &own->order);
	get_typlenbyvalalign(type, &own->length, &own->byval, &own->align);
	get_typlenbyval(call->aggref->aggtype, &own->result_length, &own->result_byval);
	own->type = type;
	own->fractions = ExecInitExpr(linitial(call->aggref->aggdirectargs), NULL);
	own->econtext = ivm_expr_context_create();
	own->several = exprType(linitial(call->aggref->aggdirectargs)) == FLOAT8ARRAYOID;
	switch (call->aggref->aggfnoid)
	{
		case F_PERCENTILE_CONT_FLOAT8_FLOAT8:
		case F_PERCENTILE_CONT__FLOAT8_FLOAT8:
		case F_PERCENTILE_CONT_FLOAT8_INTERVAL:
		case F_PERCENTILE_CONT__FLOAT8_INTERVAL:
			own->continuous = true;
			break;
		default:
			break;
	}
	call->own = own;
	call->commutes = true;
}

static Oid
rank_type(IvmAccumulatorCall *call)
{
	return BYTEAOID;
}

static void
rank_init(IvmAccumulatorCall *call, IvmAccumulatorState *state, MemoryContext context)
{
	state->base.isnull = true;
	state->own = MemoryContextAllocZero(context, sizeof(IvmRankState));
}

/*
 * Storing
 */

static void
put(StringInfo buffer, Datum value, bool isnull, bool byval, int16 length)
{
	char	   *end;

	if (!isnull && length == -1)
		value = PointerGetDatum(PG_DETOAST_DATUM(value));
	enlargeStringInfo(buffer, datumEstimateSpace(value, isnull, byval, length));
	end = buffer->data + buffer->len;
	datumSerialize(value, isnull, byval, length, &end);
	buffer->len = end - buffer->data;
}

static Datum
rank_store(IvmAccumulatorCall *call, IvmAccumulatorState *state, bool *isnull)
{
	IvmRankCall *own = call->own;
	IvmRankState *ranks = state->own;
	StringInfoData buffer;

	initStringInfo(&buffer);
	buffer.len = VARHDRSZ;
	put(&buffer, state->base.value, state->base.isnull, own->result_byval, own->result_length);
	appendBinaryStringInfo(&buffer, (char *) &ranks->nplaces, sizeof(int));
	for (int i = 0; i < ranks->nplaces; i++)
	{
		IvmRankPlace *place = &ranks->places[i];

		appendBinaryStringInfo(&buffer, (char *) &place->before, sizeof(int64));
		appendBinaryStringInfo(&buffer, (char *) &place->equal, sizeof(int64));
		appendBinaryStringInfo(&buffer, (char *) &place->touched, sizeof(bool));
		put(&buffer, place->value, false, own->byval, own->length);
	}
	SET_VARSIZE(buffer.data, buffer.len);
	return PointerGetDatum(buffer.data);
}

static void
take(char **from, void *to, Size size)
{
	memcpy(to, *from, size);
	*from += size;
}

static void
rank_load(IvmAccumulatorCall *call, IvmAccumulatorState *state, Datum value, bool isnull, MemoryContext context)
{
	IvmRankState *ranks = palloc0(sizeof(IvmRankState));
	char	   *from = VARDATA_ANY(DatumGetByteaPP(value));
	bool		value_isnull;

	state->own = ranks;
	state->base.value = datumRestore(&from, &state->base.isnull);
	take(&from, &ranks->nplaces, sizeof(int));
	ranks->places = palloc0(sizeof(IvmRankPlace) * Max(ranks->nplaces, 1));
	for (int i = 0; i < ranks->nplaces; i++)
	{
		IvmRankPlace *place = &ranks->places[i];

		take(&from, &place->before, sizeof(int64));
		take(&from, &place->equal, sizeof(int64));
		take(&from, &place->touched, sizeof(bool));
		place->value = datumRestore(&from, &value_isnull);
	}
}

/*
 * Counting
 */

static bool
rank_add(IvmAccumulatorCall *call, IvmAccumulatorState *state, NullableDatum *args, int64 weight,
		 MemoryContext context)
{
	IvmRankCall *own = call->own;
	IvmRankState *ranks = state->own;

	if (args[1].isnull)
		return true;
	state->base.count += weight;
	for (int i = 0; i < ranks->nplaces; i++)
	{
		IvmRankPlace *place = &ranks->places[i];
		int			order = ApplySortComparator(args[1].value, false, place->value, false, &own->order);

		if (order < 0)
			place->before += weight;
		else if (order == 0)
		{
			place->equal += weight;
			place->touched = true;
		}
	}
	return true;
}

static Datum
rank_finish(IvmAccumulatorCall *call, IvmAccumulatorState *state, bool *isnull)
{
	*isnull = state->base.isnull;
	return state->base.value;
}

const IvmAccumulatorRoutine ivm_accumulator_rank = {
	.create = rank_create,
	.stored_type = rank_type,
	.init = rank_init,
	.load = rank_load,
	.store = rank_store,
	.add = rank_add,
	.finish = rank_finish,
};

/*
 * The result
 */

static void
check_fraction(double fraction)
{
	if (fraction < 0 || fraction > 1 || isnan(fraction))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("percentile value %g is not between 0 and 1", fraction)));
}

/* The value that is so far behind the lower one on the way to the higher one, as the server's functions have it. */
static Datum
interpolate(Oid type, Datum lower, Datum higher, double proportion)
{
	Datum		difference;

	if (type == FLOAT8OID)
	{
		double		begin = DatumGetFloat8(lower);

		return Float8GetDatum(begin + proportion * (DatumGetFloat8(higher) - begin));
	}
	difference = DirectFunctionCall2(interval_mi, higher, lower);
	difference = DirectFunctionCall2(interval_mul, difference, Float8GetDatum(proportion));
	return DirectFunctionCall2(interval_pl, difference, lower);
}

/* What is shown for one fraction; places are found, or taken over, on the way.  There are values. */
static Datum
value_at(IvmRankSearch *search, double fraction)
{
	IvmRankCall *own = search->call->own;
	double		last = (double) (search->count - 1);
	int64		first;
	int64		second;
	Datum		lower;
	Datum		higher;

	if (!own->continuous)
	{
		first = (int64) ceil(fraction * search->count);
		return ivm_rank_find(search, Max(first, 1) - 1);
	}
	first = (int64) floor(fraction * last);
	second = (int64) ceil(fraction * last);
	lower = ivm_rank_find(search, first);
	if (first == second)
		return lower;
	higher = ivm_rank_find(search, second);
	return interpolate(own->type, lower, higher, fraction * last - first);
}

/* The array of results, of the shape of that of the fractions. */
static Datum
values_at(IvmRankSearch *search, ArrayType *fractions)
{
	IvmRankCall *own = search->call->own;
	int			count;
	Datum	   *values;
	bool	   *isnull;

	deconstruct_array(fractions, FLOAT8OID, sizeof(float8), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &values, &isnull, &count);
	if (count == 0)
		return PointerGetDatum(construct_empty_array(own->type));
	for (int i = 0; i < count; i++)
		if (!isnull[i])
			check_fraction(DatumGetFloat8(values[i]));
	for (int i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (!isnull[i])
			values[i] = value_at(search, DatumGetFloat8(values[i]));
	}
	return PointerGetDatum(construct_md_array(values, isnull, ARR_NDIM(fractions), ARR_DIMS(fractions),
											  ARR_LBOUND(fractions), own->type, own->length, own->byval, own->align));
}

void
ivm_rank_complete(IvmAccumulatorCall *call, IvmAccumulatorState *state, IvmWalk *walk,
				  const Datum *key_values, const bool *key_isnull, TupleTableSlot *group_row, MemoryContext context)
{
	IvmRankCall *own = call->own;
	IvmRankSearch search = {.call = call, .walk = walk, .key_values = key_values, .key_isnull = key_isnull,
		.count = state->base.count, .old = state->own, .context = context};
	Datum		fractions;
	bool		isnull;
	Datum		result = (Datum) 0;
	MemoryContext old;

	if (search.count < 0)
		ivm_moving_complain();
	search.new = MemoryContextAllocZero(context, sizeof(IvmRankState));
	ResetExprContext(own->econtext);
	own->econtext->ecxt_scantuple = group_row;
	fractions = ExecEvalExprSwitchContext(own->fractions, own->econtext, &isnull);
	if (!isnull && !own->several)
		check_fraction(DatumGetFloat8(fractions));
	isnull |= search.count == 0;
	if (!isnull)
		result = own->several ? values_at(&search, DatumGetArrayTypeP(fractions)) :
			value_at(&search, DatumGetFloat8(fractions));

	old = MemoryContextSwitchTo(context);
	state->base.value = isnull ? (Datum) 0 : datumCopy(result, own->result_byval, own->result_length);
	MemoryContextSwitchTo(old);
	state->base.isnull = isnull;
	state->own = search.new;
}
