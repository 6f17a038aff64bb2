/*-------------------------------------------------------------------------
 *
 * accumulator_kinds.c
 *	  The kinds of accumulators that have a value and a count of values.
 *
 *		count			a number, by addition
 *		moving			the aggregate's own moving-aggregate functions
 *						(base/moving_aggregate.c)
 *		moving serial	the same with a state of type internal, stored through
 *						the aggregate's serialization function
 *		float sum		an exact sum (exact_sum.c)
 *		bool			counts of what is not null and what is true
 *		extreme			the value (accumulator_extreme.c)
 *		forward			the aggregate's plain functions: nothing is taken away
 *		replay			the result (replay.c), which no row can be added to
 *
 * Sums of integers know their number of values, and are no other when it was less than
 * zero in between: values may be taken away before they come.  So it is with all
 * kinds that are not moving.  The state of no value is then the initial one
 * or one of zero values, which are the same.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/datum.h"
#include "utils/float.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

#include "dataflow/accumulator_internal.h"

/* How a value is copied. */
typedef struct ValueType
{
	int16		length;
	bool		byval;
} ValueType;

/* ---- what a kind has that does nothing of its own ---- */

static void
create_nothing(IvmAccumulatorCall *call)
{
	call->commutes = true;
}

static void
init_nothing(IvmAccumulatorCall *call, IvmAccumulatorState *state, MemoryContext context)
{
}

/* ---- count and bool: numbers ---- */

static Oid
number_type(IvmAccumulatorCall *call)
{
	return INT8OID;
}

static void
number_load(IvmAccumulatorCall *call, IvmAccumulatorState *state, Datum value, bool isnull, MemoryContext context)
{
	state->base.value = value;
}

static Datum
number_store(IvmAccumulatorCall *call, IvmAccumulatorState *state, bool *isnull)
{
	return state->base.value;
}

static bool
count_add(IvmAccumulatorCall *call, IvmAccumulatorState *state, NullableDatum *args, int64 weight,
		  MemoryContext context)
{
	if (call->nargs == 0 || !args[1].isnull)
		state->base.count += weight;
	return true;
}

static Datum
count_finish(IvmAccumulatorCall *call, IvmAccumulatorState *state, bool *isnull)
{
	return Int64GetDatum(state->base.count);
}

static bool
bool_add(IvmAccumulatorCall *call, IvmAccumulatorState *state, NullableDatum *args, int64 weight,
		 MemoryContext context)
{
	if (args[1].isnull)
		return true;
	state->base.count += weight;
	if (DatumGetBool(args[1].value))
		state->base.value = Int64GetDatum(DatumGetInt64(state->base.value) + weight);
	return true;
}

static Datum
bool_finish(IvmAccumulatorCall *call, IvmAccumulatorState *state, bool *isnull)
{
	*isnull = state->base.count == 0;
	if (call->aggref->aggfnoid == F_BOOL_OR)
		return BoolGetDatum(DatumGetInt64(state->base.value) > 0);
	return BoolGetDatum(DatumGetInt64(state->base.value) == state->base.count);
}

/* ---- float sum ---- */

static Oid
float_sum_type(IvmAccumulatorCall *call)
{
	return BYTEAOID;
}

static void
float_sum_init(IvmAccumulatorCall *call, IvmAccumulatorState *state, MemoryContext context)
{
	state->own = ivm_exact_sum_create(context);
}

static void
float_sum_load(IvmAccumulatorCall *call, IvmAccumulatorState *state, Datum value, bool isnull, MemoryContext context)
{
	state->own = ivm_exact_sum_deserialize(DatumGetByteaPP(value), context);
}

static Datum
float_sum_store(IvmAccumulatorCall *call, IvmAccumulatorState *state, bool *isnull)
{
	return PointerGetDatum(ivm_exact_sum_serialize(state->own));
}

static bool
float_sum_add(IvmAccumulatorCall *call, IvmAccumulatorState *state, NullableDatum *args, int64 weight,
			  MemoryContext context)
{
	Oid			fn = call->aggref->aggfnoid;

	if (args[1].isnull)
		return true;
	state->base.count += weight;
	ivm_exact_sum_add(state->own,
					  fn == F_SUM_FLOAT4 || fn == F_AVG_FLOAT4 ?
					  (double) DatumGetFloat4(args[1].value) : DatumGetFloat8(args[1].value),
					  weight);
	return true;
}

static Datum
float_sum_finish(IvmAccumulatorCall *call, IvmAccumulatorState *state, bool *isnull)
{
	Oid			fn = call->aggref->aggfnoid;
	double		sum;

	*isnull = state->base.count == 0;
	if (*isnull)
		return (Datum) 0;
	if (fn == F_AVG_FLOAT4 || fn == F_AVG_FLOAT8)
		return Float8GetDatum(ivm_exact_sum_value(state->own) / state->base.count);
	sum = ivm_exact_sum_total(state->own, state->base.count);
	if (fn == F_SUM_FLOAT8)
		return Float8GetDatum(sum);
	if (isinf((float4) sum) && !isinf(sum))
		float_overflow_error();
	return Float4GetDatum((float4) sum);
}

/* ---- moving ---- */

static void
moving_create(IvmAccumulatorCall *call)
{
	call->own = ivm_moving_create(call->aggref, call->kind == IVM_ACC_MOVING_SERIAL);
	call->commutes = ivm_moving_commutes(call->own);
}

static void
forward_create(IvmAccumulatorCall *call)
{
	call->own = ivm_moving_create_forward(call->aggref);
}

static Oid
moving_type(IvmAccumulatorCall *call)
{
	return ivm_moving_stored_type(call->own);
}

static void
moving_init(IvmAccumulatorCall *call, IvmAccumulatorState *state, MemoryContext context)
{
	ivm_moving_reset(call->own, &state->base, context);
}

static void
moving_load(IvmAccumulatorCall *call, IvmAccumulatorState *state, Datum value, bool isnull, MemoryContext context)
{
	if (!ivm_moving_load(call->own, &state->base, value, isnull, context))
		elog(ERROR, "state of aggregate %u cannot go on", call->aggref->aggfnoid);
}

static Datum
moving_store(IvmAccumulatorCall *call, IvmAccumulatorState *state, bool *isnull)
{
	return ivm_moving_store(call->own, &state->base, isnull);
}

static bool
moving_add(IvmAccumulatorCall *call, IvmAccumulatorState *state, NullableDatum *args, int64 weight,
		   MemoryContext context)
{
	return ivm_moving_add(call->own, &state->base, args, weight, context);
}

static Datum
moving_finish(IvmAccumulatorCall *call, IvmAccumulatorState *state, bool *isnull)
{
	return ivm_moving_finish(call->own, &state->base, isnull);
}

/* ---- replay ---- */

static void
replay_create(IvmAccumulatorCall *call)
{
	ValueType *type = palloc(sizeof(ValueType));

	get_typlenbyval(call->aggref->aggtype, &type->length, &type->byval);
	call->own = type;
	call->commutes = true;
}

static Oid
replay_type(IvmAccumulatorCall *call)
{
	return call->aggref->aggtype;
}

static void
replay_init(IvmAccumulatorCall *call, IvmAccumulatorState *state, MemoryContext context)
{
	state->base.isnull = true;
	state->incomplete = true;
}

static void
replay_load(IvmAccumulatorCall *call, IvmAccumulatorState *state, Datum value, bool isnull, MemoryContext context)
{
	ValueType *type = call->own;

	state->incomplete = false;
	state->base.isnull = isnull;
	state->base.value = isnull ? (Datum) 0 : datumCopy(value, type->byval, type->length);
}

static Datum
replay_store(IvmAccumulatorCall *call, IvmAccumulatorState *state, bool *isnull)
{
	*isnull = state->base.isnull;
	return state->base.value;
}

static bool
replay_add(IvmAccumulatorCall *call, IvmAccumulatorState *state, NullableDatum *args, int64 weight,
		   MemoryContext context)
{
	return false;
}

/* ---- the table ---- */

static const IvmAccumulatorRoutine count_routine =
{create_nothing, number_type, init_nothing, number_load, number_store, count_add, count_finish};

static const IvmAccumulatorRoutine moving_routine =
{moving_create, moving_type, moving_init, moving_load, moving_store, moving_add, moving_finish};

static const IvmAccumulatorRoutine float_sum_routine =
{create_nothing, float_sum_type, float_sum_init, float_sum_load, float_sum_store, float_sum_add, float_sum_finish};

static const IvmAccumulatorRoutine bool_routine =
{create_nothing, number_type, init_nothing, number_load, number_store, bool_add, bool_finish};

static const IvmAccumulatorRoutine forward_routine =
{forward_create, moving_type, moving_init, moving_load, moving_store, moving_add, moving_finish};

static const IvmAccumulatorRoutine replay_routine =
{replay_create, replay_type, replay_init, replay_load, replay_store, replay_add, replay_store};

static const IvmAccumulatorRoutine *const routines[] = {
	[IVM_ACC_COUNT] = &count_routine,
	[IVM_ACC_MOVING] = &moving_routine,
	[IVM_ACC_MOVING_SERIAL] = &moving_routine,
	[IVM_ACC_FLOAT_SUM] = &float_sum_routine,
	[IVM_ACC_BOOL] = &bool_routine,
	[IVM_ACC_EXTREME] = &ivm_accumulator_extreme,
	[IVM_ACC_BITS] = &ivm_accumulator_bits,
	[IVM_ACC_MOMENTS] = &ivm_accumulator_moments,
	[IVM_ACC_FORWARD] = &forward_routine,
	[IVM_ACC_REPLAY] = &replay_routine,
	[IVM_ACC_RANK] = &ivm_accumulator_rank,
};

const IvmAccumulatorRoutine *
ivm_accumulator_routine(IvmAccumulatorKind kind)
{
	return routines[kind];
}
