/*-------------------------------------------------------------------------
 *
 * group_sort.h
 *	  Rows of numbered groups, each group's in an order and consolidated.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_GROUP_SORT_H
#define IVM_GROUP_SORT_H

#include "postgres.h"

#include "access/tupdesc.h"
#include "executor/tuptable.h"

typedef struct IvmGroupSort IvmGroupSort;

/* Rows that it does not tell apart have to have the same image. */
typedef struct IvmGroupOrder
{
	int			ncolumns;
	AttrNumber *columns;
	Oid		   *operators;		/* "less" */
	Oid		   *collations;
	bool	   *nulls_first;
} IvmGroupOrder;

/*
 * An empty one, in a context under the current one.  It takes about that much memory, then temporary files
 * of the transaction.  "desc" and "order" must live as long.
 */
extern IvmGroupSort *ivm_group_sort_create(TupleDesc desc, const IvmGroupOrder *order, Size memory);

extern void ivm_group_sort_add(IvmGroupSort *sort, int64 group, const Datum *values, const bool *isnull, int64 weight);

/* No more rows come. */
extern void ivm_group_sort_perform(IvmGroupSort *sort);

/*
 * The next row of that group that is there any times, which is good until the next call; false if there is none
 * left.  Groups are asked for in ascending order; what was not taken of those before is passed over.
 */
extern bool ivm_group_sort_next(IvmGroupSort *sort, int64 group, Datum **values, bool **isnull, int64 *weight);

extern void ivm_group_sort_destroy(IvmGroupSort *sort);

#endif							/* IVM_GROUP_SORT_H */
