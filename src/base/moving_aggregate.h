/*-------------------------------------------------------------------------
 *
 * moving_aggregate.h
 *	  Calling an aggregate's moving-aggregate functions outside of the executor.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_MOVING_AGGREGATE_H
#define IVM_MOVING_AGGREGATE_H

#include "postgres.h"

#include "nodes/execnodes.h"
#include "nodes/primnodes.h"

/* How to call the functions of one aggregate call. */
typedef struct IvmMovingAggregate IvmMovingAggregate;

/* The state of one group. */
typedef struct IvmMovingState
{
	Datum		value;			/* transition value */
	bool		isnull;
	int64		count;			/* values in it, as far as the transition
								 * function is strict or not */
} IvmMovingState;

/*
 * In the current context.  "serial": the state is of type internal, and stored by the
 * serialization functions; else it is stored as it is.
 */
extern IvmMovingAggregate *ivm_moving_create(Aggref *aggref, bool serial);

/* The same for the aggregate's plain functions, which have no inverse: it refuses always. */
extern IvmMovingAggregate *ivm_moving_create_forward(Aggref *aggref);

/* Type of what is stored. */
extern Oid	ivm_moving_stored_type(IvmMovingAggregate *aggregate);

/* True if values may be taken away before they come: only what is there in the end counts. */
extern bool ivm_moving_commutes(IvmMovingAggregate *aggregate);

/* The state of no value, in "context". */
extern void ivm_moving_reset(IvmMovingAggregate *aggregate, IvmMovingState *state, MemoryContext context);

/*
 * Adds a value "weight" times, or takes it away if the weight is negative.  The arguments are
 * args[1], args[2], ...; args[0] is scribbled upon.  The state lives in "context".
 * False if the inverse transition function refused: the state is then of no use.
 */
extern bool ivm_moving_add(IvmMovingAggregate *aggregate, IvmMovingState *state, NullableDatum *args,
						   int64 weight, MemoryContext context);

/* What is to be stored beside the count; it may point into the state or the current context. */
extern Datum ivm_moving_store(IvmMovingAggregate *aggregate, IvmMovingState *state, bool *isnull);

/*
 * The state from that, in "context"; the count is the caller's.  False for an aggregate whose
 * combine function makes no state of its own.
 */
extern bool ivm_moving_load(IvmMovingAggregate *aggregate, IvmMovingState *state, Datum stored, bool isnull,
							MemoryContext context);

/* The result, in the current context or in the state. */
extern Datum ivm_moving_finish(IvmMovingAggregate *aggregate, IvmMovingState *state, bool *isnull);

/* An error: a value is to be taken away that is not there. */
extern void ivm_moving_complain(void) pg_attribute_noreturn();

/*
 * Tries whether a state of type internal that was stored goes on as one that was
 * not.  Calls the aggregate's functions, whose errors come through.  False also if it
 * cannot be tried, for want of values of the arguments' types.
 */
extern bool ivm_moving_survives_storing(Aggref *aggref);

#endif							/* IVM_MOVING_AGGREGATE_H */
