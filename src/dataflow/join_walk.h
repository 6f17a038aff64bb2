/*-------------------------------------------------------------------------
 *
 * join_walk.h
 *	  A path through a join, from a row of one input through all others.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_JOIN_WALK_H
#define IVM_JOIN_WALK_H

#include "postgres.h"

#include "dataflow/operator.h"

typedef struct IvmJoinWalk IvmJoinWalk;

/*
 * Gets the rows that come out at the end, in the shape of ivm_join_wide_desc(): all inputs' columns side by side.
 * False: it wants no more.
 */
typedef bool (*IvmJoinWalkReceiver) (void *context, TupleTableSlot *wide, int64 weight);

/* The shape of the rows of all inputs side by side, and expressions over the inputs as ones over that. */
extern TupleDesc ivm_join_wide_desc(IvmPlanNode *join);
extern List *ivm_join_widen(IvmPlanNode *join, List *expressions);

/*
 * Made with the dataflow.  *caches: of the probes of all walks of the operator, which share them; NULL: it has
 * none.
 */
extern IvmJoinWalk *ivm_join_walk_create(IvmOperator *op, IvmJoinPath *path, List **caches);

/* Begin and end of a batch, or a population. */
extern void ivm_join_walk_begin(IvmJoinWalk *walk);
extern void ivm_join_walk_end(IvmJoinWalk *walk);

/* The next batch does not follow the last one. */
extern void ivm_join_walk_forget(IvmJoinWalk *walk);

/*
 * Begin and end of walking from about so many rows.  By input, "deltas" has its delta, or NULL, and "old" whether its old
 * state is to be looked up; both NULL: there is no batch.  "cached": see ivm_probe_start.
 */
extern void ivm_join_walk_start(IvmJoinWalk *walk, IvmZset **deltas, const bool *old, int64 expected, bool cached);
extern void ivm_join_walk_stop(IvmJoinWalk *walk);

/* Walks from a row of the path's start.  False: the receiver wants no more. */
extern bool ivm_join_walk_from(IvmJoinWalk *walk, const Datum *values, const bool *isnull, int64 weight,
							   IvmJoinWalkReceiver receiver, void *context);

/* The place of such a row in the order that is best: see ivm_probe_order.  Leaves no memory. */
extern void ivm_join_walk_order(IvmJoinWalk *walk, const Datum *values, const bool *isnull,
								uint64 *first, uint64 *second);

#endif							/* IVM_JOIN_WALK_H */
