/*-------------------------------------------------------------------------
 *
 * child.h
 *	  One background process that the launcher looks after.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_CHILD_H
#define IVM_CHILD_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "postmaster/bgworker.h"

#include "process/process.h"

#define IVM_MIN_RESTART_DELAY	1000	/* ms */
#define IVM_MAX_RESTART_DELAY	60000

/* All zero: not started, and free to be. */
typedef struct IvmChild
{
	BackgroundWorkerHandle *handle; /* NULL: not started */
	TimestampTz started_at;
	TimestampTz not_before;		/* of the next start */
	int			delay;			/* ms, before the start after that */
	Size		minimum;		/* of its account */
	TimestampTz slotless_since; /* when it first found no worker slot; 0: it
								 * did not */
} IvmChild;

/* Was it started, and has not ended?  What ended may be started again after a pause, which doubles each time. */
extern bool ivm_child_is_running(IvmChild *child);

/* Starts one that does not run; false if there is no free worker slot. */
extern bool ivm_child_start(IvmChild *child, const char *function, const char *name,
							const IvmProcessArgument *argument, Size minimum);

/* Tells it to end; true if it has. */
extern bool ivm_child_stop(IvmChild *child);

/* It has done its work: the next start need not wait. */
extern void ivm_child_forgive(IvmChild *child);

/* What it is going to reserve of the memory budget, if it was started and has not done so yet. */
extern Size ivm_child_reserves(IvmChild *child);

#endif							/* IVM_CHILD_H */
