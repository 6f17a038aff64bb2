/*-------------------------------------------------------------------------
 *
 * accumulator.h
 *	  The running states of the aggregate functions of one group.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_ACCUMULATOR_H
#define IVM_ACCUMULATOR_H

#include "postgres.h"

#include "executor/tuptable.h"

#include "base/moving_aggregate.h"
#include "plan/plan.h"

/* How to run the aggregate calls of a node; made once. */
typedef struct IvmAccumulators IvmAccumulators;

/* The states of one group: an array with an element for each call. */
typedef struct IvmAccumulatorState
{
	IvmMovingState base;		/* of kinds that are not moving: a value and a
								 * count of values */
	void	   *own;			/* what the kind has besides */
	bool		incomplete;		/* of no use: it has to be computed from all
								 * rows of the group */
} IvmAccumulatorState;

extern IvmAccumulators *ivm_accumulators_create(List *calls);

/* True if values may be taken away before they come: only what is there in the end counts. */
extern bool ivm_accumulators_commute(IvmAccumulators *accumulators);

/* Number of columns in which the states are stored, and their types. */
extern int	ivm_accumulators_width(IvmAccumulators *accumulators);
extern void ivm_accumulators_describe(IvmAccumulators *accumulators, TupleDesc desc, AttrNumber first);

/* The states of an empty group.  They, and all that is added later, are in "context". */
extern IvmAccumulatorState *ivm_accumulators_init(IvmAccumulators *accumulators, MemoryContext context);

/*
 * The same, but those of calls whose result may depend on the order of rows are incomplete, so that they are computed from
 * sorted rows; and whether there are such calls.
 */
extern IvmAccumulatorState *ivm_accumulators_init_in_order(IvmAccumulators *accumulators, MemoryContext context);
extern bool ivm_accumulators_need_order(IvmAccumulators *accumulators);

/* Does the executor give the same images as these, whatever the order of rows? */
extern bool ivm_accumulators_are_exact(IvmAccumulators *accumulators);

/* The states from stored columns, beginning with the given one (1-based); in "context". */
extern IvmAccumulatorState *ivm_accumulators_load(IvmAccumulators *accumulators, TupleTableSlot *row,
												  AttrNumber first, MemoryContext context);

/* Columns to store; values may point into the states or the current context. */
extern void ivm_accumulators_store(IvmAccumulators *accumulators, IvmAccumulatorState *states,
								   Datum *values, bool *isnull);

/*
 * Adds a row "weight" times, or takes it away if the weight is negative.  States of calls that
 * cannot do that become incomplete.
 */
extern void ivm_accumulators_add(IvmAccumulators *accumulators, IvmAccumulatorState *states,
								 TupleTableSlot *row, int64 weight, MemoryContext context);

/* Completes the state of a call of min and the like: its value is that of the row, or there is none. */
extern void ivm_accumulators_set_extreme(IvmAccumulators *accumulators, IvmAccumulatorState *states, int number,
										 TupleTableSlot *row, MemoryContext context);

/* Are all states complete, so that they can be stored and give results? */
extern bool ivm_accumulators_are_complete(IvmAccumulators *accumulators, IvmAccumulatorState *states);

/* Makes states of no rows, all of which are incomplete; or a copy of states.  In "context". */
extern IvmAccumulatorState *ivm_accumulators_init_incomplete(IvmAccumulators *accumulators, MemoryContext context);
extern IvmAccumulatorState *ivm_accumulators_copy(IvmAccumulators *accumulators, IvmAccumulatorState *states,
												  MemoryContext context);

/* The calls, as many as *ncalls. */
extern struct IvmAccumulatorCall *ivm_accumulators_calls(IvmAccumulators *accumulators, int *ncalls);

/* Results of the calls, in the current context or in the states. */
extern void ivm_accumulators_finish(IvmAccumulators *accumulators, IvmAccumulatorState *states,
									Datum *values, bool *isnull);

/* ---- exact sums of floats (exact_sum.c) ---- */

typedef struct IvmExactSum IvmExactSum;

extern IvmExactSum *ivm_exact_sum_create(MemoryContext context);
extern void ivm_exact_sum_add(IvmExactSum *sum, double value, int64 weight);

/* The sum, from zero on; and as sum() has it, which begins with the first of the "count" values. */
extern double ivm_exact_sum_value(IvmExactSum *sum);
extern double ivm_exact_sum_total(IvmExactSum *sum, int64 count);
extern bytea *ivm_exact_sum_serialize(IvmExactSum *sum);
extern IvmExactSum *ivm_exact_sum_deserialize(bytea *image, MemoryContext context);

#endif							/* IVM_ACCUMULATOR_H */
