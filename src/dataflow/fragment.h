/*-------------------------------------------------------------------------
 *
 * fragment.h
 *	  A piece of a plan that the executor runs over rows that we feed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_FRAGMENT_H
#define IVM_FRAGMENT_H

#include "postgres.h"

#include "executor/tuptable.h"
#include "nodes/params.h"
#include "nodes/plannodes.h"
#include "utils/snapshot.h"

typedef struct IvmFragment IvmFragment;

/*
 * Gives the next row: its values and nulls, which are good until the next call.  False: there is none.
 */
typedef bool (*IvmFragmentSource) (void *context, Datum *values, bool *isnull);

/* The plan node at the bottom of a fragment, whose output are rows of that shape; in the current context. */
extern Plan *ivm_fragment_leaf(TupleDesc desc);

/*
 * Prepares a plan with one such leaf, in a context under the current one.  Expressions of the plan may have
 * external parameters: "params", whose values may change between two runs; or NULL.
 */
extern IvmFragment *ivm_fragment_start(Plan *plan, ParamListInfo params, Snapshot snapshot);

/* Begins a run: nothing is left of the one before. */
extern void ivm_fragment_run(IvmFragment *fragment, IvmFragmentSource source, void *context);

/* The next row of the run's output, good until the next call; or NULL. */
extern TupleTableSlot *ivm_fragment_next(IvmFragment *fragment);

/* Not called after an error: all is gone with the transaction and the context then. */
extern void ivm_fragment_end(IvmFragment *fragment);

#endif							/* IVM_FRAGMENT_H */
