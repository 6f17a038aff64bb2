/*-------------------------------------------------------------------------
 *
 * accumulator_bits.c
 *	  bit_and, bit_or and bit_xor of integers.
 *
 * For each bit it is counted in how many values it is set.  So a bit is in the result of bit_or if that is
 * any, of bit_and if that is all values, of bit_xor if it is odd; and values may go in any
 * order.  Stored are the counts as far as the type has bits.
 *
 * Costs: the bits that are set in a value.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "port/pg_bitutils.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

#include "dataflow/accumulator_internal.h"

typedef enum BitsKind
{
	BITS_AND,
	BITS_OR,
	BITS_XOR
} BitsKind;

typedef struct BitsCall
{
	BitsKind	kind;
	int			nbits;
	Oid			type;
} BitsCall;

static void
bits_create(IvmAccumulatorCall *call)
{
	BitsCall   *bits = palloc(sizeof(BitsCall));

	bits->type = call->aggref->aggtype;
	bits->nbits = get_typlen(bits->type) * BITS_PER_BYTE;
	switch (call->aggref->aggfnoid)
	{
		case F_BIT_AND_INT2:
		case F_BIT_AND_INT4:
		case F_BIT_AND_INT8:
			bits->kind = BITS_AND;
			break;
		case F_BIT_OR_INT2:
		case F_BIT_OR_INT4:
		case F_BIT_OR_INT8:
			bits->kind = BITS_OR;
			break;
		default:
			bits->kind = BITS_XOR;
			break;
	}
	call->own = bits;
	call->commutes = true;
}

static Oid
bits_type(IvmAccumulatorCall *call)
{
	return BYTEAOID;
}

static void
bits_init(IvmAccumulatorCall *call, IvmAccumulatorState *state, MemoryContext context)
{
	state->own = MemoryContextAllocZero(context, sizeof(int64) * ((BitsCall *) call->own)->nbits);
}

static void
bits_load(IvmAccumulatorCall *call, IvmAccumulatorState *state, Datum value, bool isnull, MemoryContext context)
{
	bytea	   *stored = DatumGetByteaPP(value);

	bits_init(call, state, context);
	memcpy(state->own, VARDATA_ANY(stored), sizeof(int64) * ((BitsCall *) call->own)->nbits);
}

static Datum
bits_store(IvmAccumulatorCall *call, IvmAccumulatorState *state, bool *isnull)
{
	Size		size = sizeof(int64) * ((BitsCall *) call->own)->nbits;
	bytea	   *result = palloc(VARHDRSZ + size);

	SET_VARSIZE(result, VARHDRSZ + size);
	memcpy(VARDATA(result), state->own, size);
	return PointerGetDatum(result);
}

static bool
bits_add(IvmAccumulatorCall *call, IvmAccumulatorState *state, NullableDatum *args, int64 weight,
		 MemoryContext context)
{
	BitsCall   *bits = call->own;
	int64	   *counts = state->own;
	uint64		value;

	if (args[1].isnull)
		return true;
	value = bits->type == INT2OID ? (uint16) DatumGetInt16(args[1].value) :
		bits->type == INT4OID ? (uint32) DatumGetInt32(args[1].value) : (uint64) DatumGetInt64(args[1].value);
	state->base.count += weight;
	for (; value != 0; value &= value - 1)
		counts[pg_rightmost_one_pos64(value)] += weight;
	return true;
}

static Datum
bits_finish(IvmAccumulatorCall *call, IvmAccumulatorState *state, bool *isnull)
{
	BitsCall   *bits = call->own;
	int64	   *counts = state->own;
	uint64		result = 0;

	*isnull = state->base.count == 0;
	for (int i = 0; i < bits->nbits; i++)
	{
		bool		is_set = bits->kind == BITS_AND ? counts[i] == state->base.count :
			bits->kind == BITS_OR ? counts[i] > 0 : counts[i] % 2 != 0;

		if (is_set)
			result |= UINT64CONST(1) << i;
	}
	if (bits->type == INT2OID)
		return Int16GetDatum((int16) result);
	if (bits->type == INT4OID)
		return Int32GetDatum((int32) result);
	return Int64GetDatum((int64) result);
}

const IvmAccumulatorRoutine ivm_accumulator_bits = {
	bits_create, bits_type, bits_init, bits_load, bits_store, bits_add, bits_finish
};
