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

/* What of the metadata says which worker has which consumer. */
typedef struct IvmAssignment
{
	Oid			relid;
	Oid			component;		/* smallest oid of those that must sit
								 * together */
} IvmAssignment;

/*
 * Which worker has that consumer, among "workers" of them.  Consumers that share
 * an arrangement, and views that read each other, have the same one.  "rows" is
 * ivm_metadata_list()'s.  In a transaction; palloc's in the current context.
 */
extern IvmAssignment *ivm_consumer_assign(List *rows, int *count);
extern int	ivm_consumer_worker(const IvmAssignment *assignments, int count, Oid relid, int workers);

#endif							/* IVM_ASSIGNMENT_H */
