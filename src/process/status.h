/*-------------------------------------------------------------------------
 *
 * status.h
 *	  How a view is, worked out by whoever looks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_STATUS_H
#define IVM_STATUS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "lib/stringinfo.h"

/*
 * At or before the time of the oldest commit that a view of the current database lacks, as far as
 * it is maintained: 0 if it lacks none, DT_NOBEGIN if nothing is known.
 */
extern TimestampTz ivm_status_missing_since(Oid relid);

/* The state of a view that is to be maintained, if it lacks a process or the like; NULL if not. */
extern const char *ivm_status_missing(Oid relid);

/* This apply worker does not keep the view any more: leaves since when it lacks what it lacks. */
extern void ivm_status_let_go(Oid relid, int worker_number);

/* The same for one that another is to take over, and which is kept till then. */
extern void ivm_status_leave(Oid relid, int worker_number);

/* Appends the pids of those that run transactions with an xid, this one's aside; how many there are. */
extern int	ivm_status_old_transactions(StringInfo pids);

#endif							/* IVM_STATUS_H */
