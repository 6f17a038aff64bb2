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
 * none but for those whose time has not come, *sleep_ms is when to ask again, else 0; *others is
 * the least number of turns that another one had, or greater than any if there is none.
 */
extern IvmViewRow *ivm_build_next_row(long *sleep_ms, int *others);

/* What came of an attempt. */
typedef enum IvmBuildOutcome
{
	IVM_BUILD_DONE,				/* it is filled, or stopped, or gone */
	IVM_BUILD_REBUILT,			/* filled, and nobody had asked for it */
	IVM_BUILD_POSTPONED,		/* somebody holds a lock, most often: others go
								 * first */
	IVM_BUILD_SHORT,			/* the disk is full, or so: it pauses */
	IVM_BUILD_TURN				/* it took longer than the others could wait */
} IvmBuildOutcome;

extern void ivm_build_note(Oid relid, IvmBuildOutcome outcome);

/* How often in a row it was postponed, and how often it had its turn and was not done. */
extern int	ivm_build_failures(Oid relid);
extern int	ivm_build_turns(Oid relid);

/* Whether a relation is populated; false if it is gone.  In a transaction. */
extern bool ivm_relation_is_populated(Oid relid);

#endif							/* IVM_BUILD_QUEUE_H */
