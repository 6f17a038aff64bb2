/*-------------------------------------------------------------------------
 *
 * moving_aggregate.c
 *	  Calling an aggregate's moving-aggregate functions outside of the executor.
 *
 * The rules are those of nodeWindowAgg.c: strictness, the first value as the
 * state, empty again means initial again; those of nodeAgg.c are the same for plain functions, whose
 * state may also be NULL.  The functions see a window aggregate's
 * context, which is what moving-aggregate functions are made for.
 *
 * A state of type internal is stored through the serialization function.  What
 * the deserialization function gives back is made for the combine function
 * alone: it may lack whatever only further transitions need (numeric_deserialize
 * and its like, in minor releases before 15.20, do not say that squares are to be
 * summed).  So it is combined into no state at all, which makes one that the
 * combine function itself goes on with, as the executor does with the first
 * partial state that comes.
 *
 * That such a state goes on as one that was never stored is nothing that the
 * server promises, so it is tried: the same values are put in and taken out again
 * with and without storing in between, and all results have to be the same.  The
 * aggregate's own functions decide, on this release of the server.
 *
 * A weight of n is n calls of the transition function, as in the query itself.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "parser/parse_agg.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "base/moving_aggregate.h"

struct IvmMovingAggregate
{
	Oid			collation;
	int			nargs;
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
	bool		serial;
	FmgrInfo	serialfn;
	FmgrInfo	deserialfn;
	FmgrInfo	combinefn;
	bool		forward;		/* plain functions, no inverse */
	bool		commutes;		/* a value may be taken away before it comes */
	WindowAggState *agg_context;	/* what the functions take for their
									 * aggregate */
	MemoryContext call_context; /* of one call of a transition function */
};

static void
init_serialization(IvmMovingAggregate *aggregate, Form_pg_aggregate form)
{
	Oid			states[2] = {INTERNALOID, INTERNALOID};
	Expr	   *expr;

	build_aggregate_serialfn_expr(form->aggserialfn, &expr);
	fmgr_info(form->aggserialfn, &aggregate->serialfn);
	fmgr_info_set_expr((Node *) expr, &aggregate->serialfn);
	build_aggregate_deserialfn_expr(form->aggdeserialfn, &expr);
	fmgr_info(form->aggdeserialfn, &aggregate->deserialfn);
	fmgr_info_set_expr((Node *) expr, &aggregate->deserialfn);
	build_aggregate_transfn_expr(states, 2, 0, false, INTERNALOID, aggregate->collation,
								 form->aggcombinefn, InvalidOid, &expr, NULL);
	fmgr_info(form->aggcombinefn, &aggregate->combinefn);
	fmgr_info_set_expr((Node *) expr, &aggregate->combinefn);
}

static IvmMovingAggregate *
create(Aggref *aggref, bool serial, bool forward)
{
	IvmMovingAggregate *aggregate = palloc0(sizeof(IvmMovingAggregate));
	HeapTuple	tuple;
	Form_pg_aggregate form;
	Oid			transfn_oid;
	Oid			finalfn_oid;
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

	aggregate->agg_context = makeNode(WindowAggState);
	aggregate->call_context = AllocSetContextCreate(CurrentMemoryContext, "ivm transition", ALLOCSET_START_SMALL_SIZES);
	aggregate->collation = aggref->inputcollid;
	aggregate->nargs = ninputs;
	aggregate->forward = forward;
	transfn_oid = forward ? form->aggtransfn : form->aggmtransfn;
	finalfn_oid = forward ? form->aggfinalfn : form->aggmfinalfn;
	aggregate->transtype = resolve_aggregate_transtype(aggref->aggfnoid,
													   forward ? form->aggtranstype : form->aggmtranstype,
													   input_types, ninputs);
	get_typlenbyval(aggregate->transtype, &aggregate->transtype_length, &aggregate->transtype_byval);

	build_aggregate_transfn_expr(input_types, ninputs, 0, aggref->aggvariadic, aggregate->transtype,
								 aggref->inputcollid, transfn_oid, forward ? InvalidOid : form->aggminvtransfn,
								 &transfn, &inversefn);
	fmgr_info(transfn_oid, &aggregate->transfn);
	fmgr_info_set_expr((Node *) transfn, &aggregate->transfn);
	if (!forward)
	{
		aggregate->commutes = transfn_oid == F_INT2_AVG_ACCUM || transfn_oid == F_INT4_AVG_ACCUM ||
			transfn_oid == F_INT8_AVG_ACCUM;
		fmgr_info(form->aggminvtransfn, &aggregate->inversefn);
		fmgr_info_set_expr((Node *) inversefn, &aggregate->inversefn);
	}

	aggregate->has_final = OidIsValid(finalfn_oid);
	if (aggregate->has_final)
	{
		aggregate->final_nargs = (forward ? form->aggfinalextra : form->aggmfinalextra) ? ninputs + 1 : 1;
		build_aggregate_finalfn_expr(input_types, aggregate->final_nargs, aggregate->transtype,
									 aggref->aggtype, aggref->inputcollid, finalfn_oid, &expr);
		fmgr_info(finalfn_oid, &aggregate->finalfn);
		fmgr_info_set_expr((Node *) expr, &aggregate->finalfn);
	}

	aggregate->serial = serial;
	if (serial)
		init_serialization(aggregate, form);

	initial = SysCacheGetAttr(AGGFNOID, tuple, forward ? Anum_pg_aggregate_agginitval : Anum_pg_aggregate_aggminitval,
							  &aggregate->initial_isnull);
	if (!aggregate->initial_isnull)
	{
		Oid			input;
		Oid			ioparam;
		char	   *string = TextDatumGetCString(initial);

		getTypeInputInfo(aggregate->transtype, &input, &ioparam);
		aggregate->initial = OidInputFunctionCall(input, string, ioparam, -1);
		pfree(string);
	}
	ReleaseSysCache(tuple);
	return aggregate;
}

IvmMovingAggregate *
ivm_moving_create(Aggref *aggref, bool serial)
{
	return create(aggref, serial, false);
}

IvmMovingAggregate *
ivm_moving_create_forward(Aggref *aggref)
{
	return create(aggref, false, true);
}

Oid
ivm_moving_stored_type(IvmMovingAggregate *aggregate)
{
	return aggregate->serial ? BYTEAOID : aggregate->transtype;
}

bool
ivm_moving_commutes(IvmMovingAggregate *aggregate)
{
	return aggregate->commutes;
}

void
ivm_moving_complain(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("aggregate state lacks a value that is to be removed"),
			 errhint("Use REFRESH MATERIALIZED VIEW to rebuild the view.")));
}

void
ivm_moving_reset(IvmMovingAggregate *aggregate, IvmMovingState *state, MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);

	state->isnull = aggregate->initial_isnull;
	state->value = state->isnull ? (Datum) 0 :
		datumCopy(aggregate->initial, aggregate->transtype_byval, aggregate->transtype_length);
	state->count = 0;
	MemoryContextSwitchTo(old);
}

/*
 * Calls a function with the aggregate's context, in which internal states
 * live; the result and garbage are in the current one.
 */
static Datum
call_function(IvmMovingAggregate *aggregate, FmgrInfo *function, int nargs,
			  NullableDatum *args, MemoryContext context, bool *isnull)
{
	LOCAL_FCINFO(fcinfo, FUNC_MAX_ARGS);
	Datum		result;

	InitFunctionCallInfoData(*fcinfo, function, nargs, aggregate->collation,
							 (fmNodePtr) aggregate->agg_context, NULL);
	memcpy(fcinfo->args, args, sizeof(NullableDatum) * nargs);
	aggregate->agg_context->curaggcontext = context;
	result = FunctionCallInvoke(fcinfo);
	*isnull = fcinfo->isnull;
	return result;
}

/*
 * Takes the result of a transition: a new value is copied to where the state
 * lives, and takes the old one's place.
 */
static void
replace_value(IvmMovingAggregate *aggregate, IvmMovingState *state, Datum value, MemoryContext context)
{
	if (!aggregate->transtype_byval &&
		(state->isnull || DatumGetPointer(value) != DatumGetPointer(state->value)))
	{
		MemoryContext old = MemoryContextSwitchTo(context);

		value = datumCopy(value, aggregate->transtype_byval, aggregate->transtype_length);
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
advance(IvmMovingAggregate *aggregate, IvmMovingState *state, NullableDatum *args, MemoryContext context)
{
	Datum		value;
	bool		isnull;

	if (aggregate->transfn.fn_strict)
	{
		if (state->count == 0 && state->isnull)
		{
			/* the first value is the state */
			MemoryContext old = MemoryContextSwitchTo(context);

			state->value = datumCopy(args[1].value, aggregate->transtype_byval, aggregate->transtype_length);
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
	value = call_function(aggregate, &aggregate->transfn, aggregate->nargs + 1, args, context, &isnull);
	state->count++;
	if (!isnull)
		replace_value(aggregate, state, value, context);
	else if (aggregate->forward)
	{
		if (!state->isnull && !aggregate->transtype_byval)
			pfree(DatumGetPointer(state->value));
		state->value = (Datum) 0;
		state->isnull = true;
	}
	else
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("moving-aggregate transition function must not return null")));
}

/*
 * One call of the inverse transition function; see advance_windowaggregate_base.
 * False if it refuses.
 */
static bool
call_inverse(IvmMovingAggregate *aggregate, IvmMovingState *state, NullableDatum *args, MemoryContext context)
{
	Datum		value;
	bool		isnull;

	args[0].value = state->value;
	args[0].isnull = state->isnull;
	value = call_function(aggregate, &aggregate->inversefn, aggregate->nargs + 1, args, context, &isnull);
	if (isnull)
		return false;
	replace_value(aggregate, state, value, context);
	state->count--;
	return true;
}

static bool
retreat(IvmMovingAggregate *aggregate, IvmMovingState *state, NullableDatum *args, MemoryContext context)
{
	if (aggregate->commutes)
	{
		if (state->isnull)
		{
			/* there is no state before there is a value */
			advance(aggregate, state, args, context);
			if (!call_inverse(aggregate, state, args, context))
				return false;
		}
		return call_inverse(aggregate, state, args, context);
	}
	if (state->count <= 0)
		ivm_moving_complain();
	if (state->count == 1)
	{
		if (!state->isnull && !aggregate->transtype_byval)
			pfree(DatumGetPointer(state->value));
		ivm_moving_reset(aggregate, state, context);
		return true;
	}
	return call_inverse(aggregate, state, args, context);
}

bool
ivm_moving_add(IvmMovingAggregate *aggregate, IvmMovingState *state, NullableDatum *args,
			   int64 weight, MemoryContext context)
{
	MemoryContext old;
	bool		ok = true;

	for (int i = 1; i <= aggregate->nargs; i++)
		if (args[i].isnull && aggregate->transfn.fn_strict)
			return true;
	if (aggregate->forward && weight < 0)
		return false;

	old = MemoryContextSwitchTo(aggregate->call_context);
	for (; weight > 0; weight--)
	{
		advance(aggregate, state, args, context);
		MemoryContextReset(aggregate->call_context);
		CHECK_FOR_INTERRUPTS();
	}
	for (; weight < 0 && ok; weight++)
	{
		ok = retreat(aggregate, state, args, context);
		MemoryContextReset(aggregate->call_context);
		CHECK_FOR_INTERRUPTS();
	}
	MemoryContextSwitchTo(old);
	return ok;
}

Datum
ivm_moving_store(IvmMovingAggregate *aggregate, IvmMovingState *state, bool *isnull)
{
	NullableDatum args[1] = {{state->value, false}};

	*isnull = state->isnull;
	if (state->isnull || !aggregate->serial)
		return state->value;
	return call_function(aggregate, &aggregate->serialfn, 1, args, CurrentMemoryContext, isnull);
}

/*
 * A state of type internal from what the serialization function gave.  What goes away with
 * the call is none that could go on.
 */
static bool
load_serialized(IvmMovingAggregate *aggregate, IvmMovingState *state, Datum stored, MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(aggregate->call_context);
	NullableDatum deserial_args[2] = {{stored, false}, {(Datum) 0, false}};
	NullableDatum combine_args[2] = {{(Datum) 0, true}, {(Datum) 0, false}};
	bool		is_own;

	combine_args[1].value = call_function(aggregate, &aggregate->deserialfn, 2, deserial_args,
										  aggregate->call_context, &combine_args[1].isnull);
	state->value = call_function(aggregate, &aggregate->combinefn, 2, combine_args, context, &state->isnull);
	is_own = state->isnull || state->value != combine_args[1].value;
	MemoryContextSwitchTo(old);
	MemoryContextReset(aggregate->call_context);
	return is_own;
}

bool
ivm_moving_load(IvmMovingAggregate *aggregate, IvmMovingState *state, Datum stored, bool isnull,
				MemoryContext context)
{
	state->isnull = isnull;
	state->value = (Datum) 0;
	if (aggregate->serial && !isnull)
		return load_serialized(aggregate, state, stored, context);
	if (!isnull)
	{
		MemoryContext old = MemoryContextSwitchTo(context);

		state->value = datumCopy(stored, aggregate->transtype_byval, aggregate->transtype_length);
		MemoryContextSwitchTo(old);
	}
	return true;
}

Datum
ivm_moving_finish(IvmMovingAggregate *aggregate, IvmMovingState *state, bool *isnull)
{
	NullableDatum args[FUNC_MAX_ARGS + 1];

	*isnull = state->isnull;
	if (!aggregate->has_final)
		return state->value;
	if (aggregate->finalfn.fn_strict && (state->isnull || aggregate->final_nargs > 1))
	{
		*isnull = true;
		return (Datum) 0;
	}
	args[0].value = state->value;
	args[0].isnull = state->isnull;
	for (int k = 1; k < aggregate->final_nargs; k++)
	{
		args[k].value = (Datum) 0;
		args[k].isnull = true;
	}
	return call_function(aggregate, &aggregate->finalfn, aggregate->final_nargs, args,
						 CurrentMemoryContext, isnull);
}

/* ---- the proof ---- */

#define NSAMPLES	5

/*
 * Values of a type of the server, as text; NULL for others.  None has more decimal places
 * than the others: an inverse may refuse to take those away.
 */
static const char *const *
sample_texts(Oid type)
{
	static const char *const integers[NSAMPLES] = {"7", "2", "19", "2", "400"};
	static const char *const fractions[NSAMPLES] = {"7.25", "2.50", "19.75", "2.50", "400.25"};
	static const char *const booleans[NSAMPLES] = {"t", "f", "t", "t", "f"};
	static const char *const texts[NSAMPLES] = {"a", "bc", "", "bc", "a longer one"};
	static const char *const moments[NSAMPLES] = {"2001-01-01 00:00:00", "2024-02-29 12:30:00",
	"1969-12-31 23:59:59", "2024-02-29 12:30:00", "2100-07-04 06:00:00"};
	static const char *const intervals[NSAMPLES] = {"1 day", "2 hours", "3 mons", "2 hours", "1 year 1 day"};

	switch (type)
	{
		case INT2OID:
		case INT4OID:
		case INT8OID:
			return integers;
		case NUMERICOID:
		case FLOAT4OID:
		case FLOAT8OID:
			return fractions;
		case BOOLOID:
			return booleans;
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
			return texts;
		case DATEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			return moments;
		case INTERVALOID:
			return intervals;
		default:
			return NULL;
	}
}

/* One value of each argument. */
typedef struct Sample
{
	NullableDatum args[FUNC_MAX_ARGS + 1];
} Sample;

typedef struct Trial
{
	IvmMovingAggregate *aggregate;
	Sample	   *samples;
	int16		result_length;
	bool		result_byval;
} Trial;

typedef enum TrialKind
{
	TRIAL_PLAIN,				/* never stored */
	TRIAL_STORED,				/* stored, but goes on itself */
	TRIAL_LOADED				/* what was stored goes on */
} TrialKind;

/*
 * One way through the same values; results after each step.  A step is "+" or "-"
 * with the number of a sample, or "|": stored.  False if the inverse refused.
 */
static bool
run_trial(Trial *trial, TrialKind kind, const char *steps, NullableDatum *results)
{
	IvmMovingAggregate *aggregate = trial->aggregate;
	MemoryContext context = CurrentMemoryContext;
	IvmMovingState state;

	ivm_moving_reset(aggregate, &state, context);
	for (int i = 0; steps[i] != '\0'; i++)
	{
		results[i].isnull = true;
		if (steps[i] != '|')
		{
			int			sample = steps[i + 1] - '0';

			if (!ivm_moving_add(aggregate, &state, trial->samples[sample].args, steps[i] == '+' ? 1 : -1, context))
				return false;
			i++;
		}
		else if (kind != TRIAL_PLAIN)
		{
			bool		isnull;
			Datum		stored = ivm_moving_store(aggregate, &state, &isnull);

			if (kind == TRIAL_LOADED && !ivm_moving_load(aggregate, &state, stored, isnull, context))
				return false;
		}
		results[i].value = ivm_moving_finish(aggregate, &state, &results[i].isnull);
		if (!results[i].isnull)
			results[i].value = datumCopy(results[i].value, trial->result_byval, trial->result_length);
	}
	return true;
}

static bool
results_equal(Trial *trial, NullableDatum a, NullableDatum b)
{
	if (a.isnull || b.isnull)
		return a.isnull == b.isnull;
	return datum_image_eq(a.value, b.value, trial->result_byval, trial->result_length);
}

/* The trials, in the current context, which is left with garbage. */
static bool
try_storing(Aggref *aggref, const Oid *types, int ntypes)
{
	static const char *const steps = "+0+1+2||+3+4-0|-1+0|-2-3|+2|-2-4|-0|+1+4|";
	static const char *const rest = "+1+4";
	Trial		trial;
	NullableDatum plain[64];
	NullableDatum other[64];

	trial.aggregate = ivm_moving_create(aggref, true);
	get_typlenbyval(aggref->aggtype, &trial.result_length, &trial.result_byval);
	trial.samples = palloc0(sizeof(Sample) * NSAMPLES);
	for (int k = 0; k < ntypes; k++)
	{
		Oid			type = getBaseType(types[k]);
		const char *const *texts = sample_texts(type);
		Oid			input;
		Oid			ioparam;

		if (texts == NULL)
			return false;
		getTypeInputInfo(type, &input, &ioparam);
		for (int i = 0; i < NSAMPLES; i++)
			trial.samples[i].args[k + 1].value = OidInputFunctionCall(input, unconstify(char *, texts[i]), ioparam, -1);
	}

	if (!run_trial(&trial, TRIAL_PLAIN, steps, plain))
		return false;
	for (TrialKind kind = TRIAL_STORED; kind <= TRIAL_LOADED; kind++)
	{
		if (!run_trial(&trial, kind, steps, other))
			return false;
		for (int i = 0; steps[i] != '\0'; i++)
			if (!results_equal(&trial, plain[i], other[i]))
				return false;
	}

	/* and all of them are right: as if the rest had been all there ever was */
	return run_trial(&trial, TRIAL_PLAIN, rest, other) &&
		results_equal(&trial, plain[strlen(steps) - 1], other[strlen(rest) - 1]);
}

bool
ivm_moving_survives_storing(Aggref *aggref)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "ivm aggregate proof",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	Oid			types[FUNC_MAX_ARGS];
	int			ntypes = get_aggregate_argtypes(aggref, types);
	bool		result = try_storing(aggref, types, ntypes);

	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return result;
}
