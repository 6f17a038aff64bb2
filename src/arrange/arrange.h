/*-------------------------------------------------------------------------
 *
 * arrange.h
 *	  Looking rows up by a key: base arrangements, scans, state tables.
 *
 * A lookup always gives the new state of the arrangement's input.  The old
 * state is the new one minus the batch's delta: the reader subtracts.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_ARRANGE_H
#define IVM_ARRANGE_H

#include "postgres.h"

#include "executor/tuptable.h"
#include "memory/arena.h"
#include "plan/plan.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

/* Run-time side of an IvmArrangement; made once for a plan, used in many batches. */
typedef struct IvmLookup IvmLookup;

/*
 * Gets each row found: the slot has the shape of the arrangement's input's output row.  Returns false if it
 * wants no more.
 */
typedef bool (*IvmLookupReceiver) (void *context, TupleTableSlot *row, int64 weight);

/*
 * Makes the run-time side, in the current context.  "relid" is the view (names
 * its private state tables).
 */
extern IvmLookup *ivm_lookup_create(IvmArrangement *arrangement, Oid relid);

/*
 * Opens relations and indexes for one batch; reads are under "snapshot", memory in "arena" and the current context.
 * "populate": a shared state table, which others keep up to date, may be at another snapshot than this one;
 * its rows are read from the tables instead.
 */
extern void ivm_lookup_begin(IvmLookup *lookup, Snapshot snapshot, IvmArena *arena, bool populate);

/*
 * Hint before a run of probes: about that many will come.  A base arrangement
 * of a small table then reads the table once instead of probing its index.
 */
extern void ivm_lookup_expect(IvmLookup *lookup, int64 probes);

/*
 * Calls the receiver for every row whose key equals the probe values (NULL
 * equals nothing, but NULL if the arrangement is null-safe), until that says false; then so does the function, and
 * nothing more is read.  It may give rows that do not match (the caller tests
 * the join's clauses anyhow), never leave one out.
 */
extern bool ivm_lookup_probe(IvmLookup *lookup, const Datum *values, const bool *isnull,
							 IvmLookupReceiver receiver, void *context);

/*
 * Can there be no more than one row with a key, under the snapshot?  True only if a unique index that is in force says so.
 */
extern bool ivm_lookup_is_unique(IvmLookup *lookup);

/* How many pages the tables have that it looks rows up in; -1 if these are not tables. */
extern int64 ivm_lookup_pages(IvmLookup *lookup);

/* Reads all rows of these tables: calls the receiver for each one of the input's. */
extern void ivm_lookup_read(IvmLookup *lookup, IvmLookupReceiver receiver, void *context);

extern void ivm_lookup_end(IvmLookup *lookup);

/*
 * True if the index is there and gives all rows that the snapshot sees (it is valid, ready, not indcheckxmin for it).
 * Where it is not a scan of the table always serves.
 */
extern bool ivm_index_is_usable(Relation index, Snapshot snapshot);

/* Name of the state table that serves a STATE arrangement of that view. */
extern char *ivm_arrangement_state_name(IvmArrangement *arrangement, Oid relid);

/*
 * Applies the delta of the arrangement's input to its state table (private and shared ones); "fill": that is empty,
 * and this is all that it gets.
 */
struct IvmZset;
extern void ivm_arrangement_apply(IvmArrangement *arrangement, Oid state_table, struct IvmZset *delta, Snapshot snapshot,
								  bool fill);

#endif							/* IVM_ARRANGE_H */
