/*-------------------------------------------------------------------------
 *
 * rest.h
 *	  Which consumers of an apply worker keep their plans.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_REST_H
#define IVM_REST_H

#include "postgres.h"

#include "maintain/consumer.h"

/* It has been compiled; has been used in a batch; gives up its plan (no harm if it has none). */
extern void ivm_rest_add(IvmConsumer *consumer);
extern void ivm_rest_use(IvmConsumer *consumer);
extern void ivm_rest_remove(IvmConsumer *consumer);

/*
 * Lets rest whoever has not been used for long, or, if that is too much memory, whoever
 * has not been used for longest; true if somebody does.  Lowers *sleep_ms to when the next may be due.
 */
extern bool ivm_rest_some(long *sleep_ms);

/* A consumer was forgotten. */
extern void ivm_rest_gone(void);

/* Empties the server's caches of catalogs if many views that came and went have filled them.  Outside of transactions. */
extern void ivm_rest_caches(void);

#endif							/* IVM_REST_H */
