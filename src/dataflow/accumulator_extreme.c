/*-------------------------------------------------------------------------
 *
 * accumulator_extreme.c
 *	  min, max, and every aggregate that gives the first value in the order of an operator.
 *
 * The state is the value.  A value that comes is compared with it.  One that goes and is
 * equal to it makes the state incomplete: the next value is the first of the group in an
 * ordered arrangement of the input, where one walk finds it (aggregate_groups.c).  All other
 * values that go make no difference.
 *
 * Of equal values that look different the one whose image comes first in the arrangement's order is the value: the
 * arrangement has the hash of the image behind the value then.
 *
 * Memory: a copy of the value in the group's context.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "nodes/nodeFuncs.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/sortsupport.h"

#include "dataflow/accumulator_internal.h"
#include "zset/row.h"

typedef struct ExtremeCall
{
	SortSupportData order;		/* the value is the first in it */
	TupleDesc	desc;			/* of the value as a row */
	int16		length;
	bool		byval;
} ExtremeCall;

static void
extreme_create(IvmAccumulatorCall *call)
{
	ExtremeCall *own = palloc0(sizeof(ExtremeCall));
	Expr	   *arg = linitial_node(TargetEntry, call->aggref->args)->expr;

	own->order.ssup_cxt = CurrentMemoryContext;
	own->order.ssup_collation = call->aggref->inputcollid;
	PrepareSortSupportFromOrderingOp(call->plan->sort_operator, &own->order);
	own->desc = CreateTemplateTupleDesc(1);
	TupleDescInitEntry(own->desc, 1, NULL, exprType((Node *) arg), exprTypmod((Node *) arg), 0);
	get_typlenbyval(call->aggref->aggtype, &own->length, &own->byval);
	call->own = own;
	call->commutes = false;
}

static Oid
extreme_type(IvmAccumulatorCall *call)
{
	return call->aggref->aggtype;
}

static void
extreme_init(IvmAccumulatorCall *call, IvmAccumulatorState *state, MemoryContext context)
{
	state->base.isnull = true;
}

static void
extreme_load(IvmAccumulatorCall *call, IvmAccumulatorState *state, Datum value, bool isnull, MemoryContext context)
{
	ExtremeCall *own = call->own;

	state->base.isnull = isnull;
	state->base.value = isnull ? (Datum) 0 : datumCopy(value, own->byval, own->length);
}

static Datum
extreme_store(IvmAccumulatorCall *call, IvmAccumulatorState *state, bool *isnull)
{
	*isnull = state->base.isnull;
	return state->base.value;
}

static int64
image_hash(ExtremeCall *own, Datum value)
{
	bool		isnull = false;
	MinimalTuple tuple = ivm_row_form_values(own->desc, &value, &isnull);
	int64		result = (int64) ivm_row_image_hash(tuple);

	pfree(tuple);
	return result;
}

/* Does the first of two equal values stand before the other in the order? */
static bool
looks_first(IvmAccumulatorCall *call, Datum a, Datum b)
{
	ExtremeCall *own = call->own;
	int64		x;
	int64		y;

	if (!call->plan->varies)
		return false;
	x = image_hash(own, a);
	y = image_hash(own, b);
	return call->plan->backward ? x > y : x < y;
}

void
ivm_extreme_set(IvmAccumulatorCall *call, IvmAccumulatorState *state, Datum value, bool isnull, MemoryContext context)
{
	ExtremeCall *own = call->own;
	MemoryContext old = MemoryContextSwitchTo(context);
	Datum		copy = isnull ? (Datum) 0 : datumCopy(value, own->byval, own->length);

	MemoryContextSwitchTo(old);
	if (!state->base.isnull && !own->byval)
		pfree(DatumGetPointer(state->base.value));
	state->base.value = copy;
	state->base.isnull = isnull;
	state->incomplete = false;
}

static bool
extreme_add(IvmAccumulatorCall *call, IvmAccumulatorState *state, NullableDatum *args, int64 weight,
			MemoryContext context)
{
	ExtremeCall *own = call->own;
	int			order;

	if (args[1].isnull)
		return true;
	if (own->length == -1)
		args[1].value = PointerGetDatum(PG_DETOAST_DATUM(args[1].value));
	order = state->base.isnull ? -1 :
		ApplySortComparator(args[1].value, false, state->base.value, false, &own->order);
	if (weight < 0)
		return order > 0;
	if (order < 0 || (order == 0 && looks_first(call, args[1].value, state->base.value)))
		ivm_extreme_set(call, state, args[1].value, false, context);
	return true;
}

const IvmAccumulatorRoutine ivm_accumulator_extreme = {
	.create = extreme_create,
	.stored_type = extreme_type,
	.init = extreme_init,
	.load = extreme_load,
	.store = extreme_store,
	.add = extreme_add,
	.finish = extreme_store,
};
