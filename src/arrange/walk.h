/*-------------------------------------------------------------------------
 *
 * walk.h
 *	  Rows of an arrangement that has an order: those of a key, from the first on.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_WALK_H
#define IVM_WALK_H

#include "postgres.h"

#include "arrange/arrange.h"
#include "arrange/ordered_table.h"

/* Run-time side of an IvmArrangement with an order; made once for a plan. */
typedef struct IvmWalk IvmWalk;

/* In the current context; "relid" is the view. */
extern IvmWalk *ivm_walk_create(IvmArrangement *arrangement, Oid relid);

/* How its rows are compared. */
extern IvmOrderedShape *ivm_walk_shape(IvmWalk *walk);

/* Begin and end of a batch; what it takes is in the current context. */
extern void ivm_walk_begin(IvmWalk *walk, Snapshot snapshot);
extern void ivm_walk_end(IvmWalk *walk);

/*
 * Gives the rows with that key, NULL equals NULL, in the canonical order (row_order.h) and each image once,
 * until the receiver wants no more; then returns false, having read little more than it gave.
 */
extern bool ivm_walk_rows(IvmWalk *walk, const Datum *values, const bool *isnull,
						  IvmLookupReceiver receiver, void *context);

/*
 * Gives the first or the last row of the key, by the order alone, if there is one whose first value in the order is not
 * NULL.
 */
extern void ivm_walk_end_row(IvmWalk *walk, const Datum *values, const bool *isnull, bool last,
							 IvmLookupReceiver receiver, void *context);

/*
 * Those two are of a state table.  Are there rows of the key, or of one with the same hash, whose values are in no order?
 * If not: gives the first value in the order, of each row of the key where it is not NULL, behind the bound, or before
 * it, backwards; with all that are equal to the bound, if "inclusive"; from the first or last one on, if the bound is
 * NULL; until the receiver wants no more, then returns false.  A value is good during the call, and may be toasted.
 */
extern bool ivm_walk_has_far(IvmWalk *walk, const Datum *values, const bool *isnull);
extern bool ivm_walk_values(IvmWalk *walk, const Datum *values, const bool *isnull, const Datum *bound,
							bool inclusive, bool forward, IvmValueReceiver receiver, void *context);

#endif							/* IVM_WALK_H */
