/*-------------------------------------------------------------------------
 *
 * build_queue.h
 *	  What there is to build, and who waits for it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_BUILD_QUEUE_H
#define IVM_BUILD_QUEUE_H

#include "postgres.h"

#include "metadata/metadata.h"
#include "process/control.h"

/* The request of a session that waits for this view, or NULL. */
extern IvmRequest *ivm_build_request_find(Oid relid);

/*
 * The view is filled: whoever waits is told the number of rows.  Requests with
 * greater numbers than "last" came too late: the view is going to be built again.
 */
extern void ivm_build_request_finish(Oid relid, uint64 last, uint64 rows);

/* Drops views whose creating session has gone, in transactions of its own. */
extern void ivm_build_drop_orphans(void);

/* Drops shared arrangements that no view reads any more, in a transaction of its own. */
extern void ivm_build_drop_unused(void);

/*
 * The next row that waits, or NULL; palloc'd in the current context.  In a
 * transaction of its own, which also makes rows for views that have none.  A
 * view whose session undoes its statement is left to the session.  If there is
 * none but for those that are postponed, *sleep_ms is when to ask again, else 0.
 */
extern IvmViewRow *ivm_build_next_row(long *sleep_ms);

/* The view's build failed for a reason that may pass: others go first. */
extern void ivm_build_postpone(Oid relid);
extern void ivm_build_forget_failures(Oid relid);

/* How often in a row it was postponed. */
extern int	ivm_build_failures(Oid relid);

/* Whether a relation is populated; false if it is gone.  In a transaction. */
extern bool ivm_relation_is_populated(Oid relid);

#endif							/* IVM_BUILD_QUEUE_H */
