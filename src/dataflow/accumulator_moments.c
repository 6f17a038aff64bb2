/*-------------------------------------------------------------------------
 *
 * accumulator_moments.c
 *	  Variance, covariance, correlation and regression of floats.
 *
 * Kept are exact sums (exact_sum.c) of x, y and of their products, so rows may go as they came, in any order:
 * a product of two numbers is the sum of two, the rounded one and what fma() says is missing.  What the
 * server calls Sxx, the sum of the squares of the differences from the mean, is
 *
 *		(N sum(x^2) - sum(x)^2) / N
 *
 * in which nearly everything may cancel out.  So it is computed exactly from the leading parts of the sums, and
 * rounded once.  The results are the server's formulas (float8_var_pop and so on) over these; its own Sxx
 * depends on the order of rows in the last digits.
 *
 * Values that are not finite make the moments NaN, as long as they are there; they are counted apart.  So
 * are those whose squares are too large for a number: then there is an overflow, as it is
 * with the server if the values are not all the same.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "utils/float.h"
#include "utils/fmgroids.h"

#include "dataflow/accumulator_internal.h"

/* Products of larger numbers, and sums of those, may be too large. */
#define LARGEST_FACTOR	1e140

/* Leading parts of a sum: more than twice the digits that count. */
#define NPARTS			4

typedef enum Sum
{
	SUM_X,
	SUM_XX,
	SUM_Y,
	SUM_YY,
	SUM_XY
} Sum;
#define NUM_SUMS	(SUM_XY + 1)

typedef struct Moments
{
	IvmExactSum *sums[NUM_SUMS];
	int64		odd_x;			/* values that are not finite */
	int64		odd_y;
	int64		huge;			/* rows with a value that is too large */
} Moments;

static bool
has_two(IvmAccumulatorCall *call)
{
	return call->nargs == 2;
}

static int
count_sums(IvmAccumulatorCall *call)
{
	return has_two(call) ? NUM_SUMS : SUM_Y;
}

static void
moments_create(IvmAccumulatorCall *call)
{
	call->commutes = true;
}

static Oid
moments_type(IvmAccumulatorCall *call)
{
	return BYTEAOID;
}

static void
moments_init(IvmAccumulatorCall *call, IvmAccumulatorState *state, MemoryContext context)
{
	Moments    *moments = MemoryContextAllocZero(context, sizeof(Moments));

	for (int i = 0; i < count_sums(call); i++)
		moments->sums[i] = ivm_exact_sum_create(context);
	state->own = moments;
}

/* Stored are the counts, and then the sums, each behind its length. */
static Datum
moments_store(IvmAccumulatorCall *call, IvmAccumulatorState *state, bool *isnull)
{
	Moments    *moments = state->own;
	bytea	   *images[NUM_SUMS];
	Size		size = VARHDRSZ + sizeof(int64) * 3;
	bytea	   *result;
	char	   *place;

	for (int i = 0; i < count_sums(call); i++)
	{
		images[i] = ivm_exact_sum_serialize(moments->sums[i]);
		size += sizeof(int32) + VARSIZE_ANY(images[i]);
	}
	result = palloc0(size);
	SET_VARSIZE(result, size);
	place = VARDATA(result);
	memcpy(place, &moments->odd_x, sizeof(int64));
	memcpy(place + sizeof(int64), &moments->odd_y, sizeof(int64));
	memcpy(place + sizeof(int64) * 2, &moments->huge, sizeof(int64));
	place += sizeof(int64) * 3;
	for (int i = 0; i < count_sums(call); i++)
	{
		int32		length = VARSIZE_ANY(images[i]);

		memcpy(place, &length, sizeof(int32));
		memcpy(place + sizeof(int32), images[i], length);
		place += sizeof(int32) + length;
	}
	return PointerGetDatum(result);
}

static void
moments_load(IvmAccumulatorCall *call, IvmAccumulatorState *state, Datum value, bool isnull, MemoryContext context)
{
	bytea	   *stored = DatumGetByteaPP(value);
	char	   *place = VARDATA_ANY(stored);
	Moments    *moments = MemoryContextAllocZero(context, sizeof(Moments));

	memcpy(&moments->odd_x, place, sizeof(int64));
	memcpy(&moments->odd_y, place + sizeof(int64), sizeof(int64));
	memcpy(&moments->huge, place + sizeof(int64) * 2, sizeof(int64));
	place += sizeof(int64) * 3;
	for (int i = 0; i < count_sums(call); i++)
	{
		int32		length;
		bytea	   *image;

		memcpy(&length, place, sizeof(int32));
		/* where it is aligned */
		image = palloc(length);
		memcpy(image, place + sizeof(int32), length);
		moments->sums[i] = ivm_exact_sum_deserialize(image, context);
		pfree(image);
		place += sizeof(int32) + length;
	}
	state->own = moments;
}

static void
add_product(IvmExactSum *sum, double a, double b, int64 weight)
{
	double		product = a * b;

	ivm_exact_sum_add(sum, product, weight);
	ivm_exact_sum_add(sum, fma(a, b, -product), weight);
}

static double
float_argument(IvmAccumulatorCall *call, Datum value)
{
	return linitial_oid(call->aggref->aggargtypes) == FLOAT4OID ? (double) DatumGetFloat4(value) : DatumGetFloat8(value);
}

static bool
moments_add(IvmAccumulatorCall *call, IvmAccumulatorState *state, NullableDatum *args, int64 weight,
			MemoryContext context)
{
	Moments    *moments = state->own;
	double		x;
	double		y = 0;

	if (args[1].isnull || (has_two(call) && args[2].isnull))
		return true;
	/* with two arguments the first is y */
	x = float_argument(call, args[has_two(call) ? 2 : 1].value);
	if (has_two(call))
		y = float_argument(call, args[1].value);
	state->base.count += weight;
	ivm_exact_sum_add(moments->sums[SUM_X], x, weight);
	if (has_two(call))
		ivm_exact_sum_add(moments->sums[SUM_Y], y, weight);

	if (isinf(x) || isnan(x))
		moments->odd_x += weight;
	if (isinf(y) || isnan(y))
		moments->odd_y += weight;
	if (isinf(x) || isnan(x) || isinf(y) || isnan(y))
	{
		/* the other one's squares still count */
		if (!isinf(x) && !isnan(x) && fabs(x) <= LARGEST_FACTOR)
			add_product(moments->sums[SUM_XX], x, x, weight);
		if (has_two(call) && !isinf(y) && !isnan(y) && fabs(y) <= LARGEST_FACTOR)
			add_product(moments->sums[SUM_YY], y, y, weight);
		return true;
	}
	if (fabs(x) > LARGEST_FACTOR || fabs(y) > LARGEST_FACTOR)
	{
		moments->huge += weight;
		return true;
	}
	add_product(moments->sums[SUM_XX], x, x, weight);
	if (has_two(call))
	{
		add_product(moments->sums[SUM_YY], y, y, weight);
		add_product(moments->sums[SUM_XY], x, y, weight);
	}
	return true;
}

static void
take_parts(IvmExactSum *sum, double *parts)
{
	bytea	   *image = ivm_exact_sum_serialize(sum);
	IvmExactSum *rest = ivm_exact_sum_deserialize(image, CurrentMemoryContext);

	for (int i = 0; i < NPARTS; i++)
	{
		parts[i] = ivm_exact_sum_value(rest);
		ivm_exact_sum_add(rest, parts[i], -1);
	}
}

/* (N sum(ab) - sum(a) sum(b)) / N */
static double
moment(IvmAccumulatorState *state, Sum product, Sum a, Sum b)
{
	Moments    *moments = state->own;
	IvmExactSum *total = ivm_exact_sum_create(CurrentMemoryContext);
	double		count = (double) state->base.count;
	double		products[NPARTS];
	double		a_parts[NPARTS];
	double		b_parts[NPARTS];

	if (moments->huge > 0)
	{
		if (state->base.count > 1)
			float_overflow_error();
		return 0;
	}
	if ((a == SUM_X || b == SUM_X) && moments->odd_x > 0)
		return get_float8_nan();
	if ((a == SUM_Y || b == SUM_Y) && moments->odd_y > 0)
		return get_float8_nan();
	take_parts(moments->sums[product], products);
	take_parts(moments->sums[a], a_parts);
	take_parts(moments->sums[b], b_parts);
	for (int i = 0; i < NPARTS; i++)
	{
		add_product(total, products[i], count, 1);
		for (int k = 0; k < NPARTS; k++)
			add_product(total, -a_parts[i], b_parts[k], 1);
	}
	return ivm_exact_sum_value(total) / count;
}

static Datum
moments_finish(IvmAccumulatorCall *call, IvmAccumulatorState *state, bool *isnull)
{
	Moments    *moments = state->own;
	Oid			function = call->aggref->aggfnoid;
	double		n = (double) state->base.count;
	double		sxx = 0;
	double		syy = 0;
	double		sxy = 0;
	double		result = 0;

	if (function == F_REGR_COUNT)
		return Int64GetDatum(state->base.count);
	if (state->base.count < 1)
	{
		*isnull = true;
		return (Datum) 0;
	}
	if (function != F_REGR_AVGX && function != F_REGR_AVGY)
	{
		sxx = moment(state, SUM_XX, SUM_X, SUM_X);
		if (has_two(call))
		{
			syy = moment(state, SUM_YY, SUM_Y, SUM_Y);
			sxy = moment(state, SUM_XY, SUM_X, SUM_Y);
		}
	}
	switch (function)
	{
		case F_VAR_POP_FLOAT4:
		case F_VAR_POP_FLOAT8:
			result = sxx / n;
			break;
		case F_STDDEV_POP_FLOAT4:
		case F_STDDEV_POP_FLOAT8:
			result = sqrt(sxx / n);
			break;
		case F_VAR_SAMP_FLOAT4:
		case F_VAR_SAMP_FLOAT8:
		case F_VARIANCE_FLOAT4:
		case F_VARIANCE_FLOAT8:
			*isnull = n <= 1;
			result = sxx / (n - 1);
			break;
		case F_STDDEV_SAMP_FLOAT4:
		case F_STDDEV_SAMP_FLOAT8:
		case F_STDDEV_FLOAT4:
		case F_STDDEV_FLOAT8:
			*isnull = n <= 1;
			result = sqrt(sxx / (n - 1));
			break;
		case F_REGR_AVGX:
			result = ivm_exact_sum_value(moments->sums[SUM_X]) / n;
			break;
		case F_REGR_AVGY:
			result = ivm_exact_sum_value(moments->sums[SUM_Y]) / n;
			break;
		case F_REGR_SXX:
			result = sxx;
			break;
		case F_REGR_SYY:
			result = syy;
			break;
		case F_REGR_SXY:
			result = sxy;
			break;
		case F_COVAR_POP:
			result = sxy / n;
			break;
		case F_COVAR_SAMP:
			*isnull = n <= 1;
			result = sxy / (n - 1);
			break;
		case F_CORR:
			*isnull = sxx == 0 || syy == 0;
			result = sxy / sqrt(sxx * syy);
			break;
		case F_REGR_R2:
			*isnull = sxx == 0;
			result = syy == 0 ? 1.0 : (sxy * sxy) / (sxx * syy);
			break;
		case F_REGR_SLOPE:
			*isnull = sxx == 0;
			result = sxy / sxx;
			break;
		case F_REGR_INTERCEPT:
			*isnull = sxx == 0;
			result = (ivm_exact_sum_value(moments->sums[SUM_Y]) -
					  ivm_exact_sum_value(moments->sums[SUM_X]) * sxy / sxx) / n;
			break;
		default:
			elog(ERROR, "aggregate %u is not made of moments", function);
	}
	return Float8GetDatum(result);
}

const IvmAccumulatorRoutine ivm_accumulator_moments = {
	moments_create, moments_type, moments_init, moments_load, moments_store, moments_add, moments_finish
};
