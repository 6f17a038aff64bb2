/*-------------------------------------------------------------------------
 *
 * state.h
 *	  A view's private state tables, and the snapshot that sees them change.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_APPLY_STATE_H
#define IVM_APPLY_STATE_H

#include "postgres.h"

#include "plan/plan.h"
#include "utils/snapshot.h"

/*
 * Makes the state tables that the plan needs, drops others, and empties them
 * all, as is due before a population.
 */
extern void ivm_view_reset_state(Oid relid, IvmPlan *plan);

/*
 * Pushes a copy of the snapshot that sees in addition everything that the
 * transaction itself writes, at once, and returns it.  PopActiveSnapshot
 * undoes it.
 */
extern Snapshot ivm_push_advanced_snapshot(Snapshot snapshot);

#endif							/* IVM_APPLY_STATE_H */
