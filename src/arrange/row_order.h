/*-------------------------------------------------------------------------
 *
 * row_order.h
 *	  The canonical order of rows: by some expressions, then by the image.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_ROW_ORDER_H
#define IVM_ROW_ORDER_H

#include "postgres.h"

#include "access/htup_details.h"
#include "executor/tuptable.h"
#include "plan/plan.h"
#include "utils/sortsupport.h"

typedef struct IvmRowOrder
{
	TupleDesc	desc;			/* of the rows */
	int			ncolumns;		/* of the order */
	List	   *states;			/* ExprState over the row */
	struct ExprContext *econtext;
	SortSupport columns;
	Oid		   *types;			/* base types of the columns */
	Oid		   *operators;		/* sort operators */
	int16	   *lengths;
	bool	   *byval;
} IvmRowOrder;

/* Made in the current context, where functions keep their caches; "order" is of IvmOrderKey. */
extern IvmRowOrder *ivm_row_order_create(List *order, TupleDesc desc);

/* The order's values of a row, in memory that is good until the next call. */
extern void ivm_row_order_values(IvmRowOrder *order, TupleTableSlot *row, Datum *values, bool *isnull);

/* By the first "ncolumns" columns of the order; leaves nothing in the current context. */
extern int	ivm_row_order_compare(IvmRowOrder *order, int ncolumns, const Datum *a, const bool *a_isnull,
								  const Datum *b, const bool *b_isnull);

/* By the images of two rows that the order does not tell apart, the hashes of which are given. */
extern int	ivm_row_order_compare_images(uint64 a_hash, MinimalTuple a, uint64 b_hash, MinimalTuple b);

/*
 * A sort of rows in that order, which keeps within work_mem; its files go with the transaction.
 */
typedef struct IvmRowSort IvmRowSort;

/* One row as it comes; good until the next one. */
typedef struct IvmSortedRow
{
	uint64		hash;
	uint64		image;
	int64		weight;
	MinimalTuple tuple;
	Datum	   *values;			/* of the order */
	bool	   *isnull;
} IvmSortedRow;

/* In a context under the current one; rows are sorted by a hash first. */
extern IvmRowSort *ivm_row_sort_create(IvmRowOrder *order);
extern void ivm_row_sort_add(IvmRowSort *sort, uint64 hash, MinimalTuple tuple, int64 weight);

/* No more rows come. */
extern void ivm_row_sort_perform(IvmRowSort *sort);

/* The next row, or NULL.  Equal rows that were added are one, with the sum of their weights, which may be zero. */
extern IvmSortedRow *ivm_row_sort_next(IvmRowSort *sort);
extern void ivm_row_sort_end(IvmRowSort *sort);

#endif							/* IVM_ROW_ORDER_H */
