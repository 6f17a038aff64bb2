/*-------------------------------------------------------------------------
 *
 * sync.h
 *	  Waiting until views contain what was committed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_SYNC_H
#define IVM_SYNC_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "datatype/timestamp.h"
#include "metadata/metadata.h"
#include "nodes/pg_list.h"
#include "process/control.h"
#include "process/request.h"

/* Somebody who waits.  What a snapshot taken at "begin" sees is to be in the views. */
typedef struct IvmSync
{
	IvmControlDatabase *database;	/* NULL: not known in time */
	TimestampTz started;
	int64		timeout_ms;		/* -1: no limit */
	XLogRecPtr	target;			/* end of the WAL at that time */
	uint64		number;			/* of this sync, in its database */
	IvmProcessWatch watch;		/* without a limit, ... */
	bool		is_watching;	/* ... once it has to wait */
} IvmSync;

typedef enum IvmSyncResult
{
	IVM_SYNC_REACHED,
	IVM_SYNC_LATE,				/* the time is up */
	IVM_SYNC_STOPPED			/* in state error, not populated, or gone:
								 * nobody brings it there */
} IvmSyncResult;

/* Errors during recovery, otherwise none. */
extern void ivm_sync_begin(IvmSync *sync, int64 timeout_ms);

/*
 * Waits for one view, until the sync's time is up or, with patience_ms >= 0, that long.  Nothing
 * that happens to other views, and no process but those that this view needs, delays it.
 * Interrupts are raised; so is, if the sync has no limit, that there are no processes to wait for.
 */
extern IvmSyncResult ivm_sync_wait(IvmSync *sync, Oid relid, int64 patience_ms);

/* Is there a decoder at work?  One that is starting waits for transactions. */
extern bool ivm_sync_has_decoder(void);

/* Waits for that view; errors if it does not get there. */
extern void ivm_sync_view(Oid relid, int64 timeout_ms);

/*
 * Waits for every populated view of the list that is maintained; error if the time is up.  Then warns of
 * those that are not, as far as the user may know of them.
 */
extern void ivm_sync_all(List *relids, int64 timeout_ms);

/* May the current user read what went wrong in that view?  It may hold anybody's data. */
extern bool ivm_may_read_reason(Oid relid);

/* Raises the error for a view that nobody maintains; the row is NULL if it is gone. */
extern void ivm_report_unmaintained(Oid relid, IvmViewRow *row) pg_attribute_noreturn();

#endif							/* IVM_SYNC_H */
