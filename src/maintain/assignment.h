/*-------------------------------------------------------------------------
 *
 * assignment.h
 *	  Which apply worker has which consumer.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_ASSIGNMENT_H
#define IVM_ASSIGNMENT_H

#include "postgres.h"

#include "nodes/pg_list.h"

#include "process/slow.h"

/* What of the metadata says which worker has which consumer. */
typedef struct IvmAssignment
{
	Oid			relid;
	Oid			component;		/* smallest oid of those that must sit
								 * together */
	int			level;			/* the highest that any of them has: slow.h */
} IvmAssignment;

/*
 * Which worker has that consumer, among "workers" of them and the slow ones that there are.  Consumers that share
 * an arrangement, and views that read each other, have the same one.  "rows" is
 * ivm_metadata_list()'s.  In a transaction; palloc's in the current context.
 */
extern IvmAssignment *ivm_consumer_assign(List *rows, const IvmSlow *slow, int *count);
extern const IvmAssignment *ivm_consumer_assignment(const IvmAssignment *assignments, int count, Oid relid);
extern int	ivm_consumer_worker(const IvmAssignment *assignments, int count, Oid relid, int workers, const IvmSlow *slow);

#endif							/* IVM_ASSIGNMENT_H */
