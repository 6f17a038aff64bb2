/*-------------------------------------------------------------------------
 *
 * value_row.c
 *	  A row as values, ready to be used, in one piece of memory.
 *
 * A minimal tuple has to be taken apart each time that it is used.  Rows that are
 * kept to be used often have the arrays of values and nulls that a receiver wants, and
 * behind them a copy of what the values point to.
 *
 * While a row is made its values have offsets for pointers, so that it can be moved
 * before it is used.
 *
 * Costs: nine bytes a column more than the values take.
 *
 * Memory: the caller's.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/tupmacs.h"
#include "utils/datum.h"
#include "utils/expandeddatum.h"

#include "zset/value_row.h"

static inline Size
head_size(const IvmValueRowShape *shape)
{
	return sizeof(IvmValueRow) + (sizeof(Datum) + sizeof(bool)) * shape->desc->natts;
}

static bool
is_expanded(Datum value, int16 length)
{
	return length == -1 && VARATT_IS_EXTERNAL_EXPANDED(DatumGetPointer(value));
}

Size
ivm_value_size(Datum value, int16 length)
{
	if (is_expanded(value, length))
		return EOH_get_flat_size(DatumGetEOHP(value));
	return datumGetSize(value, false, length);
}

void
ivm_value_copy(char *place, Datum value, int16 length, Size size)
{
	if (is_expanded(value, length))
		EOH_flatten_into(DatumGetEOHP(value), place, size);
	else
		memcpy(place, DatumGetPointer(value), size);
}

/* Where the value begins at or behind the offset. */
static Size
align_value(Size offset, Form_pg_attribute attribute, Datum value)
{
	if (is_expanded(value, attribute->attlen))
		return att_align_nominal(offset, attribute->attalign);
	return att_align_datum(offset, attribute->attalign, attribute->attlen, value);
}

void
ivm_value_row_shape(IvmValueRowShape *shape, TupleDesc desc)
{
	shape->desc = desc;
	shape->nreferences = 0;
	shape->references = palloc(sizeof(int) * Max(desc->natts, 1));
	for (int i = 0; i < desc->natts; i++)
		if (!TupleDescAttr(desc, i)->attbyval)
			shape->references[shape->nreferences++] = i;
}

Size
ivm_value_row_size(const IvmValueRowShape *shape, const Datum *values, const bool *isnull)
{
	Size		size = head_size(shape);

	for (int i = 0; i < shape->nreferences; i++)
	{
		int			column = shape->references[i];
		Form_pg_attribute attribute = TupleDescAttr(shape->desc, column);

		if (isnull[column])
			continue;
		size = align_value(size, attribute, values[column]);
		size += ivm_value_size(values[column], attribute->attlen);
	}
	return MAXALIGN(size);
}

void
ivm_value_row_fill(const IvmValueRowShape *shape, IvmValueRow *row, Size size,
				   const Datum *values, const bool *isnull, int64 weight)
{
	int			natts = shape->desc->natts;
	Datum	   *own = ivm_value_row_values(row);
	Size		offset = head_size(shape);

	row->size = size;
	row->weight = weight;
	memcpy(own, values, sizeof(Datum) * natts);
	memcpy(ivm_value_row_isnull(row, natts), isnull, sizeof(bool) * natts);
	for (int i = 0; i < shape->nreferences; i++)
	{
		int			column = shape->references[i];
		Form_pg_attribute attribute = TupleDescAttr(shape->desc, column);
		Size		length;

		if (isnull[column])
			continue;
		length = ivm_value_size(values[column], attribute->attlen);
		offset = align_value(offset, attribute, values[column]);
		ivm_value_copy((char *) row + offset, values[column], attribute->attlen, length);
		own[column] = (Datum) offset;
		offset += length;
	}
}

void
ivm_value_row_finish(const IvmValueRowShape *shape, IvmValueRow *row)
{
	Datum	   *values = ivm_value_row_values(row);
	bool	   *isnull = ivm_value_row_isnull(row, shape->desc->natts);

	for (int i = 0; i < shape->nreferences; i++)
	{
		int			column = shape->references[i];

		if (!isnull[column])
			values[column] = PointerGetDatum((char *) row + values[column]);
	}
}
