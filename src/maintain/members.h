/*-------------------------------------------------------------------------
 *
 * members.h
 *	  Partitions and children that have come or gone since a consumer's
 *	  contents were computed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_MEMBERS_H
#define IVM_MEMBERS_H

#include "postgres.h"

#include "maintain/consumer.h"

/*
 * A consumer is compiled, in a transaction, from that row, with another fingerprint than the row's.  NULL if the
 * difference can be brought into its contents, as the next batch then does, else why not.
 */
extern const char *ivm_members_compare(IvmConsumer *consumer, IvmViewRow *row, IvmPlan *plan);

/* It was compiled with the same fingerprint, or the difference was brought in. */
extern void ivm_members_forget(IvmConsumer *consumer);

/* The tables that it reads now are registered: asks for the acknowledgement that ivm_members_lock waits for. */
extern void ivm_members_register(IvmConsumer *consumer, IvmDatabase *database);

/*
 * In a batch, with the claim, before the snapshot: locks members that have left, without waiting.  False if the
 * consumer has to be left out of the batch; it may be stale then.
 */
extern bool ivm_members_lock(IvmConsumer *consumer, IvmDatabase *database);

/* Is what the log has of the table not looked at: it has joined, or has left and only recomputed parts read it? */
extern bool ivm_members_skip(IvmConsumer *consumer, Oid relid);

/* Pushes a change of a member that has left; false if the table is none. */
extern bool ivm_members_push_change(IvmConsumer *consumer, Oid relid, TupleTableSlot *row, int64 weight);

/* Pushes the rows of members that have come and gone, as the snapshot shows them; how many. */
extern uint64 ivm_members_push(IvmConsumer *consumer, Snapshot snapshot);

/* Stores the fingerprint that the contents have now. */
extern void ivm_members_store(IvmConsumer *consumer);

/* The batch was committed. */
extern void ivm_members_committed(IvmConsumer *consumer);

#endif							/* IVM_MEMBERS_H */
