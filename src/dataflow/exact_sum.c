/*-------------------------------------------------------------------------
 *
 * exact_sum.c
 *	  Sums of floats that never drift.
 *
 * The sum is kept as an expansion: doubles that do not overlap, in order of
 * magnitude, whose exact sum is the exact sum of all that was added and
 * subtracted (J. R. Shewchuk, Adaptive Precision Floating-Point Arithmetic and
 * Fast Robust Geometric Predicates, 1997, algorithm GROW-EXPANSION).  So taking
 * a value away leaves exactly what would be there without it.  The result is the
 * exact sum rounded once.  NaN and the infinities are counted on the side, and
 * so are negative zeros, of which nothing but their sum is one.
 *
 * An expansion has at most about forty components, as many as fit into the
 * range of exponents.
 *
 * The query itself rounds at each addition, in the order in which it meets the rows;
 * results agree as far as that goes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "utils/float.h"

#include "dataflow/accumulator.h"

struct IvmExactSum
{
	MemoryContext context;
	int64		nans;
	int64		positive_infinities;
	int64		negative_infinities;
	int64		negative_zeros;
	int			n;
	int			allocated;
	double	   *parts;			/* increasing magnitude, not zero */
};

IvmExactSum *
ivm_exact_sum_create(MemoryContext context)
{
	IvmExactSum *sum = MemoryContextAllocZero(context, sizeof(IvmExactSum));

	sum->context = context;
	sum->allocated = 8;
	sum->parts = MemoryContextAlloc(context, sizeof(double) * sum->allocated);
	return sum;
}

/* Adds one finite value: each step splits a sum into its rounded value and the exact error. */
static void
grow(IvmExactSum *sum, double value)
{
	int			n = 0;

	if (isinf(value))
		float_overflow_error();
	if (sum->n + 1 > sum->allocated)
	{
		sum->allocated *= 2;
		sum->parts = repalloc(sum->parts, sizeof(double) * sum->allocated);
	}
	for (int i = 0; i < sum->n; i++)
	{
		double		part = sum->parts[i];
		volatile double total = value + part;
		volatile double virtual_part = total - value;
		volatile double error = (value - (total - virtual_part)) + (part - virtual_part);

		if (isinf(total))
			float_overflow_error();
		if (error != 0)
			sum->parts[n++] = error;
		value = total;
	}
	if (value != 0)
		sum->parts[n++] = value;
	sum->n = n;
}

void
ivm_exact_sum_add(IvmExactSum *sum, double value, int64 weight)
{
	if (isnan(value))
		sum->nans += weight;
	else if (isinf(value))
	{
		if (value > 0)
			sum->positive_infinities += weight;
		else
			sum->negative_infinities += weight;
	}
	else if (value == 0)
	{
		if (signbit(value))
			sum->negative_zeros += weight;
	}
	else
	{
		uint64		copies = weight < 0 ? -(uint64) weight : (uint64) weight;

		/* a number times a power of two is exact */
		if (weight < 0)
			value = -value;
		for (int power = 0; copies != 0; power++, copies >>= 1)
			if (copies & 1)
				grow(sum, ldexp(value, power));
	}
}

double
ivm_exact_sum_value(IvmExactSum *sum)
{
	int			i = sum->n;
	double		high;
	volatile double low = 0;

	if (sum->nans > 0 || (sum->positive_infinities > 0 && sum->negative_infinities > 0))
		return get_float8_nan();
	if (sum->positive_infinities > 0)
		return get_float8_infinity();
	if (sum->negative_infinities > 0)
		return -get_float8_infinity();
	if (i == 0)
		return 0;

	/* from the largest down, until something is left over */
	high = sum->parts[--i];
	while (i > 0)
	{
		double		before = high;
		double		part = sum->parts[--i];
		volatile double total = before + part;
		volatile double rest = total - before;

		high = total;
		low = part - rest;
		if (low != 0)
			break;
	}

	/* half way between two doubles: the next part tells which is nearer */
	if (i > 0 && ((low < 0 && sum->parts[i - 1] < 0) || (low > 0 && sum->parts[i - 1] > 0)))
	{
		double		doubled = low * 2;
		volatile double candidate = high + doubled;

		if (doubled == candidate - high)
			high = candidate;
	}
	return high;
}

double
ivm_exact_sum_total(IvmExactSum *sum, int64 count)
{
	return sum->negative_zeros == count ? -0.0 : ivm_exact_sum_value(sum);
}

typedef struct SumImage
{
	int64		nans;
	int64		positive_infinities;
	int64		negative_infinities;
	int64		negative_zeros;
	double		parts[FLEXIBLE_ARRAY_MEMBER];
} SumImage;

bytea *
ivm_exact_sum_serialize(IvmExactSum *sum)
{
	Size		length = offsetof(SumImage, parts) + sizeof(double) * sum->n;
	bytea	   *result = palloc(VARHDRSZ + length);
	char	   *data = VARDATA(result);

	SET_VARSIZE(result, VARHDRSZ + length);
	memcpy(data + offsetof(SumImage, nans), &sum->nans, sizeof(int64));
	memcpy(data + offsetof(SumImage, positive_infinities), &sum->positive_infinities, sizeof(int64));
	memcpy(data + offsetof(SumImage, negative_infinities), &sum->negative_infinities, sizeof(int64));
	memcpy(data + offsetof(SumImage, negative_zeros), &sum->negative_zeros, sizeof(int64));
	memcpy(data + offsetof(SumImage, parts), sum->parts, sizeof(double) * sum->n);
	return result;
}

IvmExactSum *
ivm_exact_sum_deserialize(bytea *image, MemoryContext context)
{
	IvmExactSum *sum = MemoryContextAllocZero(context, sizeof(IvmExactSum));
	const char *data = VARDATA_ANY(image);

	sum->context = context;
	sum->n = (VARSIZE_ANY_EXHDR(image) - offsetof(SumImage, parts)) / sizeof(double);
	sum->allocated = sum->n + 8;
	sum->parts = MemoryContextAlloc(context, sizeof(double) * sum->allocated);
	memcpy(&sum->nans, data + offsetof(SumImage, nans), sizeof(int64));
	memcpy(&sum->positive_infinities, data + offsetof(SumImage, positive_infinities), sizeof(int64));
	memcpy(&sum->negative_infinities, data + offsetof(SumImage, negative_infinities), sizeof(int64));
	memcpy(&sum->negative_zeros, data + offsetof(SumImage, negative_zeros), sizeof(int64));
	memcpy(sum->parts, data + offsetof(SumImage, parts), sizeof(double) * sum->n);
	return sum;
}
