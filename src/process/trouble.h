/*-------------------------------------------------------------------------
 *
 * trouble.h
 *	  When views in state error are tried again.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_TROUBLE_H
#define IVM_TROUBLE_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

/* Those beyond are tried again when there is room. */
#define IVM_MAX_TROUBLES	512

typedef struct IvmTrouble
{
	Oid			relid;
	int			tries;			/* that failed in a row */
	int			cost;			/* ms that the last one took */
	TimestampTz last;			/* when it ended */
	TimestampTz next;			/* 0: it is well again, since "last" */
} IvmTrouble;

/* In a database's shared entry, guarded like the rest of it. */
typedef struct IvmTroubles
{
	int			count;
	IvmTrouble	views[IVM_MAX_TROUBLES];
} IvmTroubles;

/* All of these take the lock, and do nothing where the database has no entry. */

/* The view is in state error, or still is after a try: the next one comes after a while. */
extern void ivm_trouble_failed(Oid dboid, Oid relid);

/* What the last try took, in ms. */
extern void ivm_trouble_cost(Oid dboid, Oid relid, int cost);

/* The same for one that may be known: one that is not is tried soon. */
extern void ivm_trouble_note(Oid dboid, Oid relid);

/* It is well; if it was not, whoever reads it may be so too: all others are tried soon. */
extern void ivm_trouble_healed(Oid dboid, Oid relid);

/*
 * Something happened that may have mended it (InvalidOid: any of them): it is tried soon, but not sooner than ten times what
 * the last try took after it, nor than a second.
 */
extern void ivm_trouble_hurry(Oid dboid, Oid relid);

/* When it is tried next; 0: never, it is not known.  And when the first of them is; 0: there is none. */
extern TimestampTz ivm_trouble_next(Oid dboid, Oid relid);
extern TimestampTz ivm_trouble_first(Oid dboid);

/* Forgets views that are not among "known"; those that are not among "failed" are not tried. */
extern void ivm_trouble_retain(Oid dboid, List *known, List *failed);

#endif							/* IVM_TROUBLE_H */
