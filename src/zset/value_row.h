/*-------------------------------------------------------------------------
 *
 * value_row.h
 *	  A row as values, ready to be used, in one piece of memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_VALUE_ROW_H
#define IVM_VALUE_ROW_H

#include "postgres.h"

#include "access/tupdesc.h"

/* Values (Datum) and nulls (bool) of all columns follow, then what values point to. */
typedef struct IvmValueRow
{
	Size		size;			/* of all that, MAXALIGNed */
	int64		weight;
} IvmValueRow;

#define ivm_value_row_values(row) ((Datum *) ((IvmValueRow *) (row) + 1))
#define ivm_value_row_isnull(row, natts) ((bool *) (ivm_value_row_values(row) + (natts)))

/* What rows look like. */
typedef struct IvmValueRowShape
{
	TupleDesc	desc;
	int			nreferences;	/* columns that are passed by reference */
	int		   *references;
} IvmValueRowShape;

/*
 * Bytes of a value that is passed by reference, and a copy of it there.  One that is expanded in memory (utils/expandeddatum.h), which
 * functions return, becomes flat: a copy of its pointer would outlive it.
 */
extern Size ivm_value_size(Datum value, int16 length);
extern void ivm_value_copy(char *place, Datum value, int16 length, Size size);

/* Made in the current context; "desc" must live as long. */
extern void ivm_value_row_shape(IvmValueRowShape *shape, TupleDesc desc);

/* Bytes that a row of these values takes.  Nothing is followed that is out of line. */
extern Size ivm_value_row_size(const IvmValueRowShape *shape, const Datum *values, const bool *isnull);

/*
 * Makes a row of that size.  It can be moved, until "finish" lets its values point to where they
 * are now.
 */
extern void ivm_value_row_fill(const IvmValueRowShape *shape, IvmValueRow *row, Size size,
							   const Datum *values, const bool *isnull, int64 weight);
extern void ivm_value_row_finish(const IvmValueRowShape *shape, IvmValueRow *row);

#endif							/* IVM_VALUE_ROW_H */
