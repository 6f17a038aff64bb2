/*-------------------------------------------------------------------------
 *
 * apply.h
 *	  Writing views and state: deltas in, heap and index changes out.
 *
 * All of these run in the caller's transaction, and evaluate expressions of
 * the view's query and of its indexes: the caller has become the view's owner
 * in a security-restricted operation, with the plan's settings in force.
 * Snapshots are MVCC snapshots; they are made active here where need be.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_APPLY_H
#define IVM_APPLY_H

#include "postgres.h"

#include "plan/plan.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"
#include "zset/zset.h"

typedef struct IvmApplyCounts
{
	int64		inserted;
	int64		updated;
	int64		deleted;
} IvmApplyCounts;

/*
 * Writes a delta into the view's heap and indexes.  "view" is locked
 * RowExclusiveLock; existing rows are found under "snapshot".  Deletes first,
 * then updates, then inserts.  An old and a new row of the same key become one
 * update.  Sets *counts.  Raises ERRCODE_DATA_CORRUPTED if a row to be deleted
 * is not there, ERRCODE_T_R_SERIALIZATION_FAILURE if another process changes
 * it, and the index's own error where a user's unique index is violated.  The
 * command counter is the caller's to increment.
 */
extern void ivm_view_apply(Relation view, IvmPlan *plan, IvmZset *delta, Snapshot snapshot, IvmApplyCounts *counts);

/*
 * Makes the index by which rows are found, unless the view has a fitting one:
 * unique on the plan's key, or on a hash of the key or of the row.  Takes
 * ShareLock.
 */
extern void ivm_view_create_index(Oid relid, IvmPlan *plan);

/*
 * Fills an unpopulated view under "snapshot", creating and filling its private
 * state tables, then its indexes, and marks it populated.  Takes
 * AccessExclusiveLock; what the heap held is gone.  The caller has the view
 * not open.  Returns the number of rows.
 */
extern uint64 ivm_view_populate(Oid relid, IvmPlan *plan, Snapshot snapshot);

/*
 * Runs the query anew under "snapshot", compares it with the view's contents
 * and applies the difference; state tables are filled anew, and a missing
 * index is made.  Takes RowExclusiveLock on the view, ShareLock for the index.
 * Sets *counts.
 */
extern void ivm_view_rebuild(Oid relid, IvmPlan *plan, Snapshot snapshot, IvmApplyCounts *counts);

/*
 * Counts rows that the query has under "query_snapshot" and that the view, as
 * "view_snapshot" sees it, lacks, and rows that it has too much.  Writes nothing, and
 * takes memory as the current process's work_mem says.
 */
extern void ivm_view_verify(Relation view, IvmPlan *plan, Snapshot query_snapshot, Snapshot view_snapshot,
							int64 *missing, int64 *extra);

/* Creates (if missing) the private state tables of a view's plan; drops those that the plan has no use for. */
extern void ivm_view_create_state(Oid relid, IvmPlan *plan);

/* Fills a shared arrangement's state table, which is empty, under the snapshot. */
extern void ivm_arrangement_populate(Oid state_table, IvmPlan *plan, IvmArrangement *arrangement, Snapshot snapshot);

#endif							/* IVM_APPLY_H */
