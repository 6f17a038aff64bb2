/*-------------------------------------------------------------------------
 *
 * accumulator.c
 *	  The running states of the aggregate functions of one group.
 *
 * Kinds:
 *
 *		count			a number, by addition
 *		moving			the aggregate's own moving-aggregate functions, with the
 *						rules of nodeWindowAgg.c (strictness, first value as state,
 *						empty again means initial again)
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
 * The functions see a window aggregate's context, which is what moving-aggregate
 * functions are made for.
 *
 * A weight of n is n calls of the transition function, as in the query itself.
 *
 * Stored are the counts of all calls in one column and a value for each call: a
 * row has room for some 1600 columns.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "nodes/makefuncs.h"
#include "parser/parse_agg.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/float.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

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

	/* moving kinds */
	Oid			transtype;
	int16		transtype_length;
	bool		transtype_byval;
	Datum		initial;
	bool		initial_isnull;
	FmgrInfo	transfn;
	FmgrInfo	inversefn;
	FmgrInfo	finalfn;
	bool		has_final;
	int			final_nargs;
	FmgrInfo	serialfn;
	FmgrInfo	deserialfn;
	int16		result_length;
	bool		result_byval;

	bool		commutes;		/* a value may be taken away before it comes */
} Call;

struct IvmAccumulators
{
	int			ncalls;
	Call	   *calls;
	bool		commute;		/* all of them */
	ExprContext *econtext;
	WindowAggState *agg_context;	/* what the functions take for their
									 * aggregate */
	MemoryContext call_context; /* of one call of a transition function */
};

static void
init_moving(Call *call)
{
	Aggref	   *aggref = call->aggref;
	HeapTuple	tuple;
	Form_pg_aggregate form;
	Oid			input_types[FUNC_MAX_ARGS];
	int			ninputs = get_aggregate_argtypes(aggref, input_types);
	Expr	   *transfn;
	Expr	   *inversefn;
	Expr	   *expr;
	Datum		initial;

	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(aggref->aggfnoid));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for aggregate %u", aggref->aggfnoid);
	form = (Form_pg_aggregate) GETSTRUCT(tuple);

	call->transtype = resolve_aggregate_transtype(aggref->aggfnoid, form->aggmtranstype, input_types, ninputs);
	get_typlenbyval(call->transtype, &call->transtype_length, &call->transtype_byval);
	get_typlenbyval(aggref->aggtype, &call->result_length, &call->result_byval);

	build_aggregate_transfn_expr(input_types, ninputs, 0, aggref->aggvariadic, call->transtype,
								 aggref->inputcollid, form->aggmtransfn, form->aggminvtransfn,
								 &transfn, &inversefn);
	fmgr_info(form->aggmtransfn, &call->transfn);
	fmgr_info_set_expr((Node *) transfn, &call->transfn);
	call->commutes = form->aggmtransfn == F_INT2_AVG_ACCUM || form->aggmtransfn == F_INT4_AVG_ACCUM ||
		form->aggmtransfn == F_INT8_AVG_ACCUM;
	fmgr_info(form->aggminvtransfn, &call->inversefn);
	fmgr_info_set_expr((Node *) inversefn, &call->inversefn);

	call->has_final = OidIsValid(form->aggmfinalfn);
	if (call->has_final)
	{
		call->final_nargs = form->aggmfinalextra ? ninputs + 1 : 1;
		build_aggregate_finalfn_expr(input_types, call->final_nargs, call->transtype,
									 aggref->aggtype, aggref->inputcollid, form->aggmfinalfn, &expr);
		fmgr_info(form->aggmfinalfn, &call->finalfn);
		fmgr_info_set_expr((Node *) expr, &call->finalfn);
	}

	if (call->kind == IVM_ACC_MOVING_SERIAL)
	{
		build_aggregate_serialfn_expr(form->aggserialfn, &expr);
		fmgr_info(form->aggserialfn, &call->serialfn);
		fmgr_info_set_expr((Node *) expr, &call->serialfn);
		build_aggregate_deserialfn_expr(form->aggdeserialfn, &expr);
		fmgr_info(form->aggdeserialfn, &call->deserialfn);
		fmgr_info_set_expr((Node *) expr, &call->deserialfn);
	}

	initial = SysCacheGetAttr(AGGFNOID, tuple, Anum_pg_aggregate_aggminitval, &call->initial_isnull);
	if (!call->initial_isnull)
	{
		Oid			input;
		Oid			ioparam;
		char	   *string = TextDatumGetCString(initial);

		getTypeInputInfo(call->transtype, &input, &ioparam);
		call->initial = OidInputFunctionCall(input, string, ioparam, -1);
		pfree(string);
	}
	ReleaseSysCache(tuple);
}

IvmAccumulators *
ivm_accumulators_create(List *calls)
{
	IvmAccumulators *result = palloc0(sizeof(IvmAccumulators));
	ListCell   *cell;

	result->calls = palloc0(sizeof(Call) * Max(list_length(calls), 1));
	result->commute = true;
	result->econtext = ivm_expr_context_create();
	result->agg_context = makeNode(WindowAggState);
	result->call_context = AllocSetContextCreate(CurrentMemoryContext, "ivm transition", ALLOCSET_START_SMALL_SIZES);
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
			init_moving(call);
		else
			call->commutes = true;
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
		else if (call->kind == IVM_ACC_MOVING)
			type = call->transtype;
		TupleDescInitEntry(desc, first++, NULL, type, -1, 0);
	}
}

/* The initial state of a moving aggregate. */
static void
reset_moving(Call *call, IvmAccumulatorState *state, MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);

	state->isnull = call->initial_isnull;
	state->value = state->isnull ? (Datum) 0 :
		datumCopy(call->initial, call->transtype_byval, call->transtype_length);
	state->count = 0;
	MemoryContextSwitchTo(old);
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
		else if (call->kind == IVM_ACC_MOVING || call->kind == IVM_ACC_MOVING_SERIAL)
			reset_moving(call, &states[i], context);
	}
	return states;
}

/*
 * Calls a function with the aggregate's context, in which internal states
 * live; the result and garbage are in the current one.
 */
static Datum
call_function(IvmAccumulators *accumulators, Call *call, FmgrInfo *function, int nargs,
			  NullableDatum *args, MemoryContext context, bool *isnull)
{
	LOCAL_FCINFO(fcinfo, FUNC_MAX_ARGS);
	Datum		result;

	InitFunctionCallInfoData(*fcinfo, function, nargs, call->aggref->inputcollid,
							 (fmNodePtr) accumulators->agg_context, NULL);
	memcpy(fcinfo->args, args, sizeof(NullableDatum) * nargs);
	accumulators->agg_context->curaggcontext = context;
	result = FunctionCallInvoke(fcinfo);
	*isnull = fcinfo->isnull;
	return result;
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
		Datum		value = slot_getattr(row, first++, &state->isnull);
		MemoryContext old = MemoryContextSwitchTo(context);

		memcpy(&state->count, counts + sizeof(int64) * i, sizeof(int64));
		switch (call->kind)
		{
			case IVM_ACC_COUNT:
			case IVM_ACC_BOOL:
				state->value = value;
				break;
			case IVM_ACC_FLOAT_SUM:
				state->sum = ivm_exact_sum_deserialize(DatumGetByteaPP(value), context);
				break;
			case IVM_ACC_MOVING:
				if (!state->isnull)
					state->value = datumCopy(value, call->transtype_byval, call->transtype_length);
				break;
			case IVM_ACC_MOVING_SERIAL:
				if (!state->isnull)
				{
					NullableDatum args[2] = {{value, false}, {(Datum) 0, true}};

					state->value = call_function(accumulators, call, &call->deserialfn, 2, args, context,
												 &state->isnull);
				}
				break;
		}
		MemoryContextSwitchTo(old);
	}
	return states;
}

static void
complain_about_lack(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("aggregate state lacks a value that is to be removed"),
			 errhint("Use REFRESH MATERIALIZED VIEW to rebuild the view.")));
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

		if (state->count < 0)
			complain_about_lack();
		memcpy(VARDATA(counts) + sizeof(int64) * i, &state->count, sizeof(int64));
		isnull[i] = state->isnull;
		values[i] = state->value;
		if (call->kind == IVM_ACC_FLOAT_SUM)
		{
			isnull[i] = false;
			values[i] = PointerGetDatum(ivm_exact_sum_serialize(state->sum));
		}
		else if (call->kind == IVM_ACC_MOVING_SERIAL && !state->isnull)
		{
			NullableDatum args[1] = {{state->value, false}};

			values[i] = call_function(accumulators, call, &call->serialfn, 1, args,
									  CurrentMemoryContext, &isnull[i]);
		}
	}
}

/*
 * Takes the result of a transition: a new value is copied to where the state
 * lives, and takes the old one's place.
 */
static void
replace_value(Call *call, IvmAccumulatorState *state, Datum value, MemoryContext context)
{
	if (!call->transtype_byval &&
		(state->isnull || DatumGetPointer(value) != DatumGetPointer(state->value)))
	{
		MemoryContext old = MemoryContextSwitchTo(context);

		value = datumCopy(value, call->transtype_byval, call->transtype_length);
		MemoryContextSwitchTo(old);
		if (!state->isnull)
			pfree(DatumGetPointer(state->value));
	}
	state->value = value;
	state->isnull = false;
}

/*
 * One call of the transition function; see advance_windowaggregate.
 */
static void
advance(IvmAccumulators *accumulators, Call *call, IvmAccumulatorState *state,
		NullableDatum *args, MemoryContext context)
{
	Datum		value;
	bool		isnull;

	if (call->transfn.fn_strict)
	{
		if (state->count == 0 && state->isnull)
		{
			/* the first value is the state */
			MemoryContext old = MemoryContextSwitchTo(context);

			state->value = datumCopy(args[1].value, call->transtype_byval, call->transtype_length);
			MemoryContextSwitchTo(old);
			state->isnull = false;
			state->count = 1;
			return;
		}
		if (state->isnull)
			return;
	}
	args[0].value = state->value;
	args[0].isnull = state->isnull;
	value = call_function(accumulators, call, &call->transfn, call->nargs + 1, args, context, &isnull);
	if (isnull)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("moving-aggregate transition function must not return null")));
	replace_value(call, state, value, context);
	state->count++;
}

/*
 * One call of the inverse transition function; see advance_windowaggregate_base.
 * False if it refuses.
 */
static bool
call_inverse(IvmAccumulators *accumulators, Call *call, IvmAccumulatorState *state,
			 NullableDatum *args, MemoryContext context)
{
	Datum		value;
	bool		isnull;

	args[0].value = state->value;
	args[0].isnull = state->isnull;
	value = call_function(accumulators, call, &call->inversefn, call->nargs + 1, args, context, &isnull);
	if (isnull)
		return false;
	replace_value(call, state, value, context);
	state->count--;
	return true;
}

static bool
retreat(IvmAccumulators *accumulators, Call *call, IvmAccumulatorState *state,
		NullableDatum *args, MemoryContext context)
{
	if (call->commutes)
	{
		if (state->isnull)
		{
			/* there is no state before there is a value */
			advance(accumulators, call, state, args, context);
			if (!call_inverse(accumulators, call, state, args, context))
				return false;
		}
		return call_inverse(accumulators, call, state, args, context);
	}
	if (state->count <= 0)
		complain_about_lack();
	if (state->count == 1)
	{
		if (!state->isnull && !call->transtype_byval)
			pfree(DatumGetPointer(state->value));
		reset_moving(call, state, context);
		return true;
	}
	return call_inverse(accumulators, call, state, args, context);
}

static bool
add_moving(IvmAccumulators *accumulators, Call *call, IvmAccumulatorState *state,
		   NullableDatum *args, int64 weight, MemoryContext context)
{
	MemoryContext old;
	bool		ok = true;

	for (int i = 1; i <= call->nargs; i++)
		if (args[i].isnull && call->transfn.fn_strict)
			return true;

	old = MemoryContextSwitchTo(accumulators->call_context);
	for (; weight > 0; weight--)
	{
		advance(accumulators, call, state, args, context);
		MemoryContextReset(accumulators->call_context);
		CHECK_FOR_INTERRUPTS();
	}
	for (; weight < 0 && ok; weight++)
	{
		ok = retreat(accumulators, call, state, args, context);
		MemoryContextReset(accumulators->call_context);
		CHECK_FOR_INTERRUPTS();
	}
	MemoryContextSwitchTo(old);
	return ok;
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
					state->count += weight;
				break;
			case IVM_ACC_BOOL:
				if (!args[1].isnull)
				{
					state->count += weight;
					if (DatumGetBool(args[1].value))
						state->value = Int64GetDatum(DatumGetInt64(state->value) + weight);
				}
				break;
			case IVM_ACC_FLOAT_SUM:
				if (!args[1].isnull)
				{
					Oid			fn = call->aggref->aggfnoid;
					double		value = fn == F_SUM_FLOAT4 || fn == F_AVG_FLOAT4 ?
						(double) DatumGetFloat4(args[1].value) : DatumGetFloat8(args[1].value);

					state->count += weight;
					ivm_exact_sum_add(state->sum, value, weight);
				}
				break;
			case IVM_ACC_MOVING:
			case IVM_ACC_MOVING_SERIAL:
				ok = add_moving(accumulators, call, state, args, weight, context);
				break;
		}
	}
	return ok;
}

static void
finish_moving(IvmAccumulators *accumulators, Call *call, IvmAccumulatorState *state,
			  Datum *value, bool *isnull)
{
	NullableDatum args[FUNC_MAX_ARGS + 1];

	*value = state->value;
	*isnull = state->isnull;
	if (!call->has_final)
		return;
	if (call->finalfn.fn_strict && (state->isnull || call->final_nargs > 1))
	{
		*isnull = true;
		return;
	}
	args[0].value = state->value;
	args[0].isnull = state->isnull;
	for (int k = 1; k < call->final_nargs; k++)
	{
		args[k].value = (Datum) 0;
		args[k].isnull = true;
	}
	*value = call_function(accumulators, call, &call->finalfn, call->final_nargs, args,
						   CurrentMemoryContext, isnull);
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
				values[i] = Int64GetDatum(state->count);
				break;
			case IVM_ACC_BOOL:
				isnull[i] = state->count == 0;
				if (fn == F_BOOL_OR)
					values[i] = BoolGetDatum(DatumGetInt64(state->value) > 0);
				else
					values[i] = BoolGetDatum(DatumGetInt64(state->value) == state->count);
				break;
			case IVM_ACC_FLOAT_SUM:
				isnull[i] = state->count == 0;
				if (isnull[i])
					break;
				if (fn == F_SUM_FLOAT4)
				{
					double		sum = ivm_exact_sum_total(state->sum, state->count);

					if (isinf((float4) sum) && !isinf(sum))
						float_overflow_error();
					values[i] = Float4GetDatum((float4) sum);
				}
				else if (fn == F_SUM_FLOAT8)
					values[i] = Float8GetDatum(ivm_exact_sum_total(state->sum, state->count));
				else
					values[i] = Float8GetDatum(ivm_exact_sum_value(state->sum) / state->count);
				break;
			case IVM_ACC_MOVING:
			case IVM_ACC_MOVING_SERIAL:
				finish_moving(accumulators, call, state, &values[i], &isnull[i]);
				break;
		}
	}
}
