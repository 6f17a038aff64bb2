/*-------------------------------------------------------------------------
 *
 * failure.h
 *	  What happens to a view whose maintenance fails.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_FAILURE_H
#define IVM_FAILURE_H

#include "postgres.h"

#include "maintain/apply_worker.h"

/*
 * In a PG_CATCH block: copies the current error, clears it and aborts the
 * transaction.  The error is kept for ivm_failure_blame.  "cancel" is what ivm_guard_end said:
 * where that is the reason, the error is not what it says.
 */
extern void ivm_failure_save(IvmCancel cancel);

/*
 * In a PG_CATCH block: true if an arena was refused memory which it gets
 * if this is done again with the overdraft token.
 */
extern bool ivm_failure_is_shortage(void);
extern void ivm_failure_forget(void);

/* The saved error is this consumer's: it is tried again, rebuilt, or stopped. */
extern void ivm_failure_blame(IvmApplyWorker *worker, IvmConsumer *consumer);

/*
 * In a PG_CATCH block, for a view that could not be compiled: saves the error,
 * and puts the view into state error.  If the error may be gone the next time, or the view's row is not
 * this one any more, nothing is done but to return false.
 */
extern bool ivm_failure_stop_uncompilable(Oid relid, const IvmRowVersion *version, IvmCancel cancel);

/*
 * Leaves the view to the builder; puts it into state error.  Each in a transaction of its own, and only
 * if the view's row is still the one that the attempt began with: what an attempt finds says nothing of
 * what a statement (REFRESH, ALTER, DROP) has made of the view since.  False if there is such a one, or
 * it is under way.
 */
extern bool ivm_failure_rebuild(Oid relid, const IvmRowVersion *version, const char *reason);
extern bool ivm_failure_stop(Oid relid, const IvmRowVersion *version, const char *message);

/* Why a view is in state error whose batch or rebuild exceeded its time. */
#define IVM_BLOCKING_REASON "it holds a lock, taken by a function in its query, that others wait for"
#define IVM_TIMEOUT_REASON "its batch or rebuild took longer than ivm.view_timeout"

/* True for errors of the server's resources: disk, memory, files, connections. */
extern bool ivm_failure_is_resource(int sqlerrcode);

/* True for errors that may be gone the next time: locks, resources, cancels. */
extern bool ivm_failure_is_transient(int sqlerrcode);

#endif							/* IVM_FAILURE_H */
