/*-------------------------------------------------------------------------
 *
 * accumulator_internal.h
 *	  What the files of the accumulators share.
 *
 * To make a kind of accumulator: add it to plan/plan.h, write its routine, enter that into the table
 * in accumulator_kinds.c, and let compile/aggregate.c choose it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_ACCUMULATOR_INTERNAL_H
#define IVM_ACCUMULATOR_INTERNAL_H

#include "postgres.h"

#include "nodes/execnodes.h"

#include "dataflow/accumulator.h"

/* One aggregate call. */
typedef struct IvmAccumulatorCall
{
	const struct IvmAccumulatorRoutine *routine;
	IvmAccumulatorKind kind;
	IvmAggregateCall *plan;
	Aggref	   *aggref;
	int			nargs;
	ExprState  *filter;			/* or NULL */
	ExprState **args;
	bool		commutes;		/* a value may be taken away before it comes */
	void	   *own;			/* the kind's */
} IvmAccumulatorCall;

/* The contracts are those of the functions in accumulator.h, for one call. */
typedef struct IvmAccumulatorRoutine
{
	/* Sets "commutes" and "own". */
	void		(*create) (IvmAccumulatorCall *call);

	Oid			(*stored_type) (IvmAccumulatorCall *call);

	/* The state, which is zero, of no value; it may be incomplete. */
	void		(*init) (IvmAccumulatorCall *call, IvmAccumulatorState *state, MemoryContext context);

	/* The state, in which the count is set, from what was stored; the context is the current one. */
	void		(*load) (IvmAccumulatorCall *call, IvmAccumulatorState *state, Datum value, bool isnull,
						 MemoryContext context);

	/* What to store besides the count; *isnull is false before. */
	Datum		(*store) (IvmAccumulatorCall *call, IvmAccumulatorState *state, bool *isnull);

	/*
	 * A row that passes the filter; the arguments are args[1], args[2], ...,
	 * args[0] is for use.  False if the state is of no use from now on.
	 */
	bool		(*add) (IvmAccumulatorCall *call, IvmAccumulatorState *state, NullableDatum *args, int64 weight,
						MemoryContext context);

	/* The result; *isnull is false before. */
	Datum		(*finish) (IvmAccumulatorCall *call, IvmAccumulatorState *state, bool *isnull);
} IvmAccumulatorRoutine;

extern const IvmAccumulatorRoutine ivm_accumulator_extreme;

/* Makes this the value of a state of an extreme, which is complete then; a copy in the context. */
extern void ivm_extreme_set(IvmAccumulatorCall *call, IvmAccumulatorState *state, Datum value, bool isnull,
							MemoryContext context);
extern const IvmAccumulatorRoutine ivm_accumulator_moments;	/* accumulator_moments.c */
extern const IvmAccumulatorRoutine ivm_accumulator_bits;	/* accumulator_bits.c */
extern const IvmAccumulatorRoutine ivm_accumulator_rank;	/* accumulator_rank.c */

extern const IvmAccumulatorRoutine *ivm_accumulator_routine(IvmAccumulatorKind kind);

#endif							/* IVM_ACCUMULATOR_INTERNAL_H */
