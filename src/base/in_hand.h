/*-------------------------------------------------------------------------
 *
 * in_hand.h
 *	  What each process has in hand, kept where a crash does not reach.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_IN_HAND_H
#define IVM_IN_HAND_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "nodes/pg_list.h"

typedef enum IvmWork
{
	IVM_WORK_NONE,
	IVM_WORK_COMPILE,
	IVM_WORK_BATCH,
	IVM_WORK_BUILD,
	IVM_WORK_DECODE
} IvmWork;

/* So many deaths in a row, and the view is not worked on any more. */
#define IVM_MAX_DEATHS	3

/* In the postmaster, while it loads the library: once in its life. */
extern void ivm_in_hand_init(void);

/* A process of a database begins, or ends well; before it has anything in hand. */
extern void ivm_in_hand_open(Oid dboid);

/*
 * It begins to work on these views (oids), or is done, be it with an error.  Within, it works on one of them
 * alone from now on (InvalidOid: on all again).  Nothing is done in a process that was not opened.
 */
extern void ivm_in_hand_begin(IvmWork work, List *relids);
extern void ivm_in_hand_begin_one(IvmWork work, Oid relid);
extern void ivm_in_hand_only(Oid relid);
extern void ivm_in_hand_end(void);

/* A decoder begins to decode what stands at this position of the WAL. */
extern void ivm_in_hand_decode(XLogRecPtr position);

/*
 * After a crash, when all processes are gone and before new ones begin: whoever died with something in
 * hand, but was not ended by the postmaster, makes that suspect.  Says so in the log.
 */
extern void ivm_in_hand_collect(void);

/* False: nothing is suspected in any database. */
extern bool ivm_suspects_exist(void);

/* How often in a row a process of ours died with this view (InvalidOid: the decoder) in hand; 0: it is no suspect. */
extern int	ivm_suspect_deaths(Oid dboid, Oid relid);

/* Where the decoder died. */
extern XLogRecPtr ivm_suspect_position(Oid dboid);

/* It is none any more: it was worked on, alone, and nothing happened; or is gone. */
extern void ivm_suspect_clear(Oid dboid, Oid relid);

/* It gets one more try. */
extern void ivm_suspect_parole(Oid dboid, Oid relid);

#endif							/* IVM_IN_HAND_H */
