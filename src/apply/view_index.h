/*-------------------------------------------------------------------------
 *
 * view_index.h
 *	  Which index of a view leads from a row's contents to its place.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_VIEW_INDEX_H
#define IVM_VIEW_INDEX_H

#include "postgres.h"

#include "plan/plan.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

/* From the worst to the best. */
typedef enum IvmViewIndexKind
{
	IVM_VIEW_INDEX_NONE,
	IVM_VIEW_INDEX_ROW_HASH,	/* ivm.row_hash(v.*) */
	IVM_VIEW_INDEX_KEY_HASH,	/* ivm.row_hash(ROW(key columns)) */
	IVM_VIEW_INDEX_KEY			/* unique on the key columns */
} IvmViewIndexKind;

typedef struct IvmViewIndex
{
	IvmViewIndexKind kind;
	Relation	index;			/* NULL for NONE */
	List	   *columns;		/* integer: view columns of the index's key,
								 * or below the hash; NIL for ROW_HASH */
} IvmViewIndex;

/*
 * What the (open) index is worth for finding rows of the view under the
 * snapshot; with a NULL snapshot, for finding them at some time.  Fills
 * *result, whose list is in the current context.
 */
extern void ivm_view_index_classify(Relation index, IvmPlan *plan, Snapshot snapshot, IvmViewIndex *result);

/* Has the view an index to find its rows by, if it needs one?  Takes AccessShareLock on its indexes, and keeps it. */
extern bool ivm_view_has_index(Relation view, IvmPlan *plan);

/*
 * Drops the indexes that we made and that the plan has no use for, if the view
 * can be locked AccessExclusiveLock at once.
 */
extern void ivm_view_drop_obsolete_indexes(Relation view, IvmPlan *plan);

/*
 * Runs the action in a subtransaction.  0, or with the subtransaction rolled back the
 * code of an error that another index would not have: ERRCODE_PROGRAM_LIMIT_EXCEEDED, which is
 * raised of a key that is too long, or one of damaged data.  Other errors are raised.
 */
extern int	ivm_view_index_trial(bool (*action) (void *), void *arg);

/*
 * Builds all indexes of the view anew.  Needs AccessExclusiveLock on the view, and raises
 * ERRCODE_LOCK_NOT_AVAILABLE if it cannot be had soon.
 */
extern void ivm_view_reindex(Relation view);

/*
 * Puts an index on the hash of the key in the place of our unique one on the key;
 * false if the view has none.  Needs AccessExclusiveLock on the view, and raises
 * ERRCODE_LOCK_NOT_AVAILABLE if it cannot be had soon.
 */
extern bool ivm_view_replace_key_index(Relation view, IvmPlan *plan);

/* Copy of a row shape for hashing: it depends on the columns' types alone, not on how a relation stores them. */
extern TupleDesc ivm_row_hash_desc(TupleDesc desc);

/* The shape of ROW(columns) for hashing; NIL means all. */
extern TupleDesc ivm_row_hash_columns_desc(TupleDesc desc, List *columns);

#endif							/* IVM_VIEW_INDEX_H */
