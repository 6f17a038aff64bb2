/*-------------------------------------------------------------------------
 *
 * trial.h
 *	  Batches of views that processes had in hand when they died.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_TRIAL_H
#define IVM_TRIAL_H

#include "postgres.h"

#include "maintain/apply_worker.h"

/* Why a view is in state error whose processes have died; it is not tried again until REFRESH. */
#define IVM_DEATH_REASON "the process that maintained it died three times in a row"

/* True if it has to have a batch of its own, with nothing but what it reads. */
extern bool ivm_trial_is_needed(IvmApplyWorker *worker, IvmConsumer *consumer);

/* Notes that a batch applies to these; and that it was committed.  Its failure is ivm_in_hand_end(). */
extern void ivm_trial_begin(List *consumers);
extern void ivm_trial_committed(List *consumers);

/* True if the view is not to be worked on any more. */
extern bool ivm_trial_is_over(Oid relid);

/* True if a view in state error is there for such deaths; the row is complete. */
extern bool ivm_trial_forbids(const IvmViewRow *row);

/* REFRESH: if the view is in state error for such deaths it is tried once more. */
extern void ivm_trial_again(const IvmViewRow *row);

#endif							/* IVM_TRIAL_H */
