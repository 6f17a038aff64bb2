/*-------------------------------------------------------------------------
 *
 * accumulator.c
 *	  The running states of the aggregate functions of one group.
 *
 * Kinds:
 *
 *		count			a number, by addition
 *		moving			the aggregate's own moving-aggregate functions
 *						(base/moving_aggregate.c)
 *		moving serial	the same with a state of type internal, stored through
 *						the aggregate's serialization function
 *		float sum		an exact sum (exact_sum.c)
 *		bool			counts of what is not null and what is true
 *
 * Sums of integers know their number of values, and are no other when it was less than
 * zero in between: values may be taken away before they come.  So it is with all
 * kinds that are not moving.  The state of no value is then the initial one
 * or one of zero values, which are the same.
 *
 * Stored are the counts of all calls in one column and a value for each call: a
 * row has room for some 1600 columns.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "utils/float.h"
#include "utils/fmgroids.h"

#include "arrange/projection.h"
#include "dataflow/accumulator.h"

/* One aggregate call. */
typedef struct Call
{
	IvmAccumulatorKind kind;
	Aggref	   *aggref;
	int			nargs;
	ExprState  *filter;
	ExprState **args;

	IvmMovingAggregate *moving; /* moving kinds */
	bool		commutes;		/* a value may be taken away before it comes */
} Call;

struct IvmAccumulators
{
	int			ncalls;
	Call	   *calls;
	bool		commute;		/* all of them */
	ExprContext *econtext;
};

IvmAccumulators *
ivm_accumulators_create(List *calls)
{
	IvmAccumulators *result = palloc0(sizeof(IvmAccumulators));
	ListCell   *cell;

	result->calls = palloc0(sizeof(Call) * Max(list_length(calls), 1));
	result->commute = true;
	result->econtext = ivm_expr_context_create();
	foreach(cell, calls)
	{
		IvmAggregateCall *plan = lfirst(cell);
		Call	   *call = &result->calls[result->ncalls++];
		ListCell   *inner;

		call->kind = plan->kind;
		call->aggref = plan->aggref;
		call->filter = plan->aggref->aggfilter != NULL ? ExecInitExpr(plan->aggref->aggfilter, NULL) : NULL;
		call->args = palloc(sizeof(ExprState *) * Max(list_length(plan->aggref->args), 1));
		foreach(inner, plan->aggref->args)
			call->args[call->nargs++] = ExecInitExpr(lfirst_node(TargetEntry, inner)->expr, NULL);
		if (call->kind == IVM_ACC_MOVING || call->kind == IVM_ACC_MOVING_SERIAL)
			call->moving = ivm_moving_create(call->aggref, call->kind == IVM_ACC_MOVING_SERIAL);
		call->commutes = call->moving == NULL || ivm_moving_commutes(call->moving);
		result->commute &= call->commutes;
	}
	return result;
}

bool
ivm_accumulators_commute(IvmAccumulators *accumulators)
{
	return accumulators->commute;
}

int
ivm_accumulators_width(IvmAccumulators *accumulators)
{
	return accumulators->ncalls == 0 ? 0 : 1 + accumulators->ncalls;
}

void
ivm_accumulators_describe(IvmAccumulators *accumulators, TupleDesc desc, AttrNumber first)
{
	if (accumulators->ncalls > 0)
		TupleDescInitEntry(desc, first++, NULL, BYTEAOID, -1, 0);
	for (int i = 0; i < accumulators->ncalls; i++)
	{
		Call	   *call = &accumulators->calls[i];
		Oid			type = BYTEAOID;

		if (call->kind == IVM_ACC_COUNT || call->kind == IVM_ACC_BOOL)
			type = INT8OID;
		else if (call->moving != NULL)
			type = ivm_moving_stored_type(call->moving);
		TupleDescInitEntry(desc, first++, NULL, type, -1, 0);
	}
}

IvmAccumulatorState *
ivm_accumulators_init(IvmAccumulators *accumulators, MemoryContext context)
{
	IvmAccumulatorState *states = MemoryContextAllocZero(context,
														 sizeof(IvmAccumulatorState) * Max(accumulators->ncalls, 1));

	for (int i = 0; i < accumulators->ncalls; i++)
	{
		Call	   *call = &accumulators->calls[i];

		if (call->kind == IVM_ACC_FLOAT_SUM)
			states[i].sum = ivm_exact_sum_create(context);
		else if (call->moving != NULL)
			ivm_moving_reset(call->moving, &states[i].base, context);
	}
	return states;
}

IvmAccumulatorState *
ivm_accumulators_load(IvmAccumulators *accumulators, TupleTableSlot *row, AttrNumber first, MemoryContext context)
{
	IvmAccumulatorState *states = MemoryContextAllocZero(context,
														 sizeof(IvmAccumulatorState) * Max(accumulators->ncalls, 1));
	const char *counts = NULL;

	if (accumulators->ncalls > 0)
	{
		bool		isnull;
		bytea	   *stored = DatumGetByteaPP(slot_getattr(row, first++, &isnull));

		counts = VARDATA_ANY(stored);
	}
	for (int i = 0; i < accumulators->ncalls; i++)
	{
		Call	   *call = &accumulators->calls[i];
		IvmAccumulatorState *state = &states[i];
		bool		isnull;
		Datum		value = slot_getattr(row, first++, &isnull);
		MemoryContext old = MemoryContextSwitchTo(context);

		memcpy(&state->base.count, counts + sizeof(int64) * i, sizeof(int64));
		switch (call->kind)
		{
			case IVM_ACC_COUNT:
			case IVM_ACC_BOOL:
				state->base.value = value;
				break;
			case IVM_ACC_FLOAT_SUM:
				state->sum = ivm_exact_sum_deserialize(DatumGetByteaPP(value), context);
				break;
			case IVM_ACC_MOVING:
			case IVM_ACC_MOVING_SERIAL:
				if (!ivm_moving_load(call->moving, &state->base, value, isnull, context))
					elog(ERROR, "state of aggregate %u cannot go on", call->aggref->aggfnoid);
				break;
		}
		MemoryContextSwitchTo(old);
	}
	return states;
}

void
ivm_accumulators_store(IvmAccumulators *accumulators, IvmAccumulatorState *states,
					   Datum *values, bool *isnull)
{
	Size		size = VARHDRSZ + sizeof(int64) * accumulators->ncalls;
	bytea	   *counts;

	if (accumulators->ncalls == 0)
		return;
	counts = palloc(size);
	SET_VARSIZE(counts, size);
	*values++ = PointerGetDatum(counts);
	*isnull++ = false;
	for (int i = 0; i < accumulators->ncalls; i++)
	{
		Call	   *call = &accumulators->calls[i];
		IvmAccumulatorState *state = &states[i];

		if (state->base.count < 0)
			ivm_moving_complain();
		memcpy(VARDATA(counts) + sizeof(int64) * i, &state->base.count, sizeof(int64));
		isnull[i] = state->base.isnull;
		values[i] = state->base.value;
		if (call->kind == IVM_ACC_FLOAT_SUM)
		{
			isnull[i] = false;
			values[i] = PointerGetDatum(ivm_exact_sum_serialize(state->sum));
		}
		else if (call->moving != NULL)
			values[i] = ivm_moving_store(call->moving, &state->base, &isnull[i]);
	}
}

bool
ivm_accumulators_add(IvmAccumulators *accumulators, IvmAccumulatorState *states,
					 TupleTableSlot *row, int64 weight, MemoryContext context)
{
	bool		ok = true;

	ResetExprContext(accumulators->econtext);
	accumulators->econtext->ecxt_scantuple = row;
	for (int i = 0; i < accumulators->ncalls && ok; i++)
	{
		Call	   *call = &accumulators->calls[i];
		IvmAccumulatorState *state = &states[i];
		NullableDatum args[FUNC_MAX_ARGS + 1];

		if (call->filter != NULL)
		{
			bool		isnull;
			Datum		pass = ExecEvalExprSwitchContext(call->filter, accumulators->econtext, &isnull);

			if (isnull || !DatumGetBool(pass))
				continue;
		}
		for (int k = 0; k < call->nargs; k++)
			args[k + 1].value = ExecEvalExprSwitchContext(call->args[k], accumulators->econtext, &args[k + 1].isnull);

		switch (call->kind)
		{
			case IVM_ACC_COUNT:
				if (call->nargs == 0 || !args[1].isnull)
					state->base.count += weight;
				break;
			case IVM_ACC_BOOL:
				if (!args[1].isnull)
				{
					state->base.count += weight;
					if (DatumGetBool(args[1].value))
						state->base.value = Int64GetDatum(DatumGetInt64(state->base.value) + weight);
				}
				break;
			case IVM_ACC_FLOAT_SUM:
				if (!args[1].isnull)
				{
					Oid			fn = call->aggref->aggfnoid;
					double		value = fn == F_SUM_FLOAT4 || fn == F_AVG_FLOAT4 ?
						(double) DatumGetFloat4(args[1].value) : DatumGetFloat8(args[1].value);

					state->base.count += weight;
					ivm_exact_sum_add(state->sum, value, weight);
				}
				break;
			case IVM_ACC_MOVING:
			case IVM_ACC_MOVING_SERIAL:
				ok = ivm_moving_add(call->moving, &state->base, args, weight, context);
				break;
		}
	}
	return ok;
}

void
ivm_accumulators_finish(IvmAccumulators *accumulators, IvmAccumulatorState *states,
						Datum *values, bool *isnull)
{
	for (int i = 0; i < accumulators->ncalls; i++)
	{
		Call	   *call = &accumulators->calls[i];
		IvmAccumulatorState *state = &states[i];
		Oid			fn = call->aggref->aggfnoid;

		isnull[i] = false;
		values[i] = (Datum) 0;
		switch (call->kind)
		{
			case IVM_ACC_COUNT:
				values[i] = Int64GetDatum(state->base.count);
				break;
			case IVM_ACC_BOOL:
				isnull[i] = state->base.count == 0;
				if (fn == F_BOOL_OR)
					values[i] = BoolGetDatum(DatumGetInt64(state->base.value) > 0);
				else
					values[i] = BoolGetDatum(DatumGetInt64(state->base.value) == state->base.count);
				break;
			case IVM_ACC_FLOAT_SUM:
				isnull[i] = state->base.count == 0;
				if (isnull[i])
					break;
				if (fn == F_SUM_FLOAT4)
				{
					double		sum = ivm_exact_sum_total(state->sum, state->base.count);

					if (isinf((float4) sum) && !isinf(sum))
						float_overflow_error();
					values[i] = Float4GetDatum((float4) sum);
				}
				else if (fn == F_SUM_FLOAT8)
					values[i] = Float8GetDatum(ivm_exact_sum_total(state->sum, state->base.count));
				else
					values[i] = Float8GetDatum(ivm_exact_sum_value(state->sum) / state->base.count);
				break;
			case IVM_ACC_MOVING:
			case IVM_ACC_MOVING_SERIAL:
				values[i] = ivm_moving_finish(call->moving, &state->base, &isnull[i]);
				break;
		}
	}
}
