/*-------------------------------------------------------------------------
 *
 * accumulator.c
 *	  The running states of the aggregate functions of one group.
 *
 * What a state is and how a row is added to it depends on the call's kind
 * (accumulator_kinds.c).
 *
 * Stored are the counts of all calls in one column and a value for each call: a
 * row has room for some 1600 columns.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"

#include "arrange/projection.h"
#include "dataflow/accumulator_internal.h"

struct IvmAccumulators
{
	int			ncalls;
	IvmAccumulatorCall *calls;
	bool		commute;		/* all of them */
	ExprContext *econtext;
};

IvmAccumulators *
ivm_accumulators_create(List *calls)
{
	IvmAccumulators *result = palloc0(sizeof(IvmAccumulators));
	ListCell   *cell;

	result->calls = palloc0(sizeof(IvmAccumulatorCall) * Max(list_length(calls), 1));
	result->commute = true;
	result->econtext = ivm_expr_context_create();
	foreach(cell, calls)
	{
		IvmAggregateCall *plan = lfirst(cell);
		IvmAccumulatorCall *call = &result->calls[result->ncalls++];
		ListCell   *inner;

		call->kind = plan->kind;
		call->plan = plan;
		call->aggref = plan->aggref;
		call->filter = plan->aggref->aggfilter != NULL ? ExecInitExpr(plan->aggref->aggfilter, NULL) : NULL;
		call->args = palloc(sizeof(ExprState *) * Max(list_length(plan->aggref->args), 1));
		foreach(inner, call->kind == IVM_ACC_REPLAY ? NIL : plan->aggref->args)
			call->args[call->nargs++] = ExecInitExpr(lfirst_node(TargetEntry, inner)->expr, NULL);
		call->routine = ivm_accumulator_routine(call->kind);
		call->routine->create(call);
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
		IvmAccumulatorCall *call = &accumulators->calls[i];

		TupleDescInitEntry(desc, first++, NULL, call->routine->stored_type(call), -1, 0);
	}
}

IvmAccumulatorState *
ivm_accumulators_init(IvmAccumulators *accumulators, MemoryContext context)
{
	IvmAccumulatorState *states = MemoryContextAllocZero(context,
														 sizeof(IvmAccumulatorState) * Max(accumulators->ncalls, 1));

	for (int i = 0; i < accumulators->ncalls; i++)
	{
		IvmAccumulatorCall *call = &accumulators->calls[i];

		call->routine->init(call, &states[i], context);
	}
	return states;
}

/* Functions of the user's may add in floating point. */
static bool
needs_order(IvmAccumulatorCall *call)
{
	switch (call->kind)
	{
		case IVM_ACC_FORWARD:
		case IVM_ACC_REPLAY:
			return true;
		case IVM_ACC_MOVING:
		case IVM_ACC_MOVING_SERIAL:
			return call->aggref->aggfnoid >= FirstNormalObjectId;
		default:
			return false;
	}
}

IvmAccumulatorState *
ivm_accumulators_init_in_order(IvmAccumulators *accumulators, MemoryContext context)
{
	IvmAccumulatorState *states = ivm_accumulators_init(accumulators, context);

	for (int i = 0; i < accumulators->ncalls; i++)
		states[i].incomplete |= needs_order(&accumulators->calls[i]);
	return states;
}

bool
ivm_accumulators_need_order(IvmAccumulators *accumulators)
{
	for (int i = 0; i < accumulators->ncalls; i++)
		if (needs_order(&accumulators->calls[i]))
			return true;
	return false;
}

bool
ivm_accumulators_are_exact(IvmAccumulators *accumulators)
{
	for (int i = 0; i < accumulators->ncalls; i++)
	{
		IvmAccumulatorCall *call = &accumulators->calls[i];

		if (needs_order(call) || call->kind == IVM_ACC_FLOAT_SUM || call->kind == IVM_ACC_MOMENTS ||
			(call->kind == IVM_ACC_EXTREME && call->plan->varies))
			return false;
	}
	return true;
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
		IvmAccumulatorCall *call = &accumulators->calls[i];
		IvmAccumulatorState *state = &states[i];
		bool		isnull;
		Datum		value = slot_getattr(row, first++, &isnull);
		MemoryContext old = MemoryContextSwitchTo(context);

		memcpy(&state->base.count, counts + sizeof(int64) * i, sizeof(int64));
		call->routine->load(call, state, value, isnull, context);
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
		IvmAccumulatorCall *call = &accumulators->calls[i];
		IvmAccumulatorState *state = &states[i];

		if (state->base.count < 0)
			ivm_moving_complain();
		memcpy(VARDATA(counts) + sizeof(int64) * i, &state->base.count, sizeof(int64));
		isnull[i] = false;
		values[i] = call->routine->store(call, state, &isnull[i]);
	}
}

void
ivm_accumulators_add(IvmAccumulators *accumulators, IvmAccumulatorState *states,
					 TupleTableSlot *row, int64 weight, MemoryContext context)
{
	ResetExprContext(accumulators->econtext);
	accumulators->econtext->ecxt_scantuple = row;
	for (int i = 0; i < accumulators->ncalls; i++)
	{
		IvmAccumulatorCall *call = &accumulators->calls[i];
		IvmAccumulatorState *state = &states[i];
		NullableDatum args[FUNC_MAX_ARGS + 1];

		if (state->incomplete)
			continue;
		if (call->filter != NULL)
		{
			bool		isnull;
			Datum		pass = ExecEvalExprSwitchContext(call->filter, accumulators->econtext, &isnull);

			if (isnull || !DatumGetBool(pass))
				continue;
		}
		for (int k = 0; k < call->nargs; k++)
			args[k + 1].value = ExecEvalExprSwitchContext(call->args[k], accumulators->econtext, &args[k + 1].isnull);

		state->incomplete = !call->routine->add(call, state, args, weight, context);
	}
}

void
ivm_accumulators_set_extreme(IvmAccumulators *accumulators, IvmAccumulatorState *states, int number,
							 TupleTableSlot *row, MemoryContext context)
{
	IvmAccumulatorCall *call = &accumulators->calls[number];
	Datum		value = (Datum) 0;
	bool		isnull = true;

	if (row != NULL)
	{
		ResetExprContext(accumulators->econtext);
		accumulators->econtext->ecxt_scantuple = row;
		value = ExecEvalExprSwitchContext(call->args[0], accumulators->econtext, &isnull);
	}
	ivm_extreme_set(call, &states[number], value, isnull, context);
}

bool
ivm_accumulators_are_complete(IvmAccumulators *accumulators, IvmAccumulatorState *states)
{
	for (int i = 0; i < accumulators->ncalls; i++)
		if (states[i].incomplete)
			return false;
	return true;
}

IvmAccumulatorState *
ivm_accumulators_init_incomplete(IvmAccumulators *accumulators, MemoryContext context)
{
	IvmAccumulatorState *states = ivm_accumulators_init(accumulators, context);

	for (int i = 0; i < accumulators->ncalls; i++)
		states[i].incomplete = true;
	return states;
}

IvmAccumulatorState *
ivm_accumulators_copy(IvmAccumulators *accumulators, IvmAccumulatorState *states, MemoryContext context)
{
	IvmAccumulatorState *result = ivm_accumulators_init(accumulators, context);

	for (int i = 0; i < accumulators->ncalls; i++)
	{
		IvmAccumulatorCall *call = &accumulators->calls[i];
		bool		isnull = false;
		Datum		value;
		MemoryContext old;

		result[i].incomplete = states[i].incomplete;
		if (states[i].incomplete)
			continue;
		value = call->routine->store(call, &states[i], &isnull);
		result[i].base.count = states[i].base.count;
		old = MemoryContextSwitchTo(context);
		call->routine->load(call, &result[i], value, isnull, context);
		MemoryContextSwitchTo(old);
	}
	return result;
}

IvmAccumulatorCall *
ivm_accumulators_calls(IvmAccumulators *accumulators, int *ncalls)
{
	*ncalls = accumulators->ncalls;
	return accumulators->calls;
}

void
ivm_accumulators_finish(IvmAccumulators *accumulators, IvmAccumulatorState *states,
						Datum *values, bool *isnull)
{
	for (int i = 0; i < accumulators->ncalls; i++)
	{
		IvmAccumulatorCall *call = &accumulators->calls[i];

		isnull[i] = false;
		values[i] = call->routine->finish(call, &states[i], &isnull[i]);
		if (isnull[i])
			values[i] = (Datum) 0;
	}
}
