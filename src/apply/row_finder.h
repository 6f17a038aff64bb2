/*-------------------------------------------------------------------------
 *
 * row_finder.h
 *	  From the contents of a view's rows to their places in its heap.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_ROW_FINDER_H
#define IVM_ROW_FINDER_H

#include "postgres.h"

#include "access/tupdesc.h"
#include "apply/view_index.h"
#include "executor/tuptable.h"
#include "plan/plan.h"
#include "storage/itemptr.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"
#include "utils/sortsupport.h"
#include "zset/row.h"

/* What is to be done with one row. */
typedef enum IvmViewAction
{
	IVM_VIEW_DELETE,			/* the row leaves; before it is found, every
								 * old row */
	IVM_VIEW_INSERT,			/* the row comes */
	IVM_VIEW_UPDATE,			/* the row at "tid" becomes this one */
	IVM_VIEW_DONE				/* an old row that an update takes care of, or
								 * that is deleted already */
} IvmViewAction;

/* One row of a delta, with all its copies.  Small: there may be many. */
typedef struct IvmViewChange
{
	IvmRow	   *row;			/* its weight is the number of copies */
	Datum	   *keys;			/* columns of a key index, and behind them
								 * which are NULL; else NULL */
	uint64		hash;			/* what a hash index has for it */
	int64		wanted;			/* copies of an old row that are to be found */
	ItemPointerData tid;		/* place of an old row */
	uint8		action;			/* an IvmViewAction */
} IvmViewChange;

/* Takes the place of one copy of an old row; in the current context, which is not reset. */
typedef void (*IvmFoundRow) (void *context, IvmViewChange *change, ItemPointer tid);

typedef struct IvmRowFinder
{
	Relation	view;
	IvmPlan    *plan;
	TupleDesc	desc;			/* shape of the delta's rows */
	Snapshot	snapshot;
	IvmViewIndex fit;			/* the index to use */
	int			nkeys;			/* of a key index */
	Size		key_size;		/* bytes of a change's "keys" */
	SortSupport order;			/* of a key index, one for each column */
	TupleDesc	hash_desc;		/* of a hash index: what is hashed, NULL: the
								 * image as it is */
	TupleTableSlot *slot;		/* a row of the view */
	MemoryContext row_context;	/* reset for each row */
} IvmRowFinder;

/*
 * Prepares to find rows of the view, whose indexes are open.  Memory is in the
 * current context.
 */
extern void ivm_row_finder_begin(IvmRowFinder *finder, Relation view, IvmPlan *plan, TupleDesc desc,
								 Snapshot snapshot, int nindexes, Relation *indexes);

/* Sets the fields that order a change, whose row is set: its hash, or its keys, which stand in "space" (key_size bytes). */
extern void ivm_row_finder_prepare(IvmRowFinder *finder, IvmViewChange *change, void *space);

/* Order of two changes in the index; 0: they belong together. */
extern int	ivm_row_finder_compare(const IvmViewChange *a, const IvmViewChange *b, IvmRowFinder *finder);

/*
 * Finds all copies of the row of every change whose action is IVM_VIEW_DELETE.
 * Changes are sorted.  "found" may delete the row at once, but write nothing else
 * into the view.  A row that is not there is an error.  Memory is in the current
 * context.
 */
extern void ivm_row_finder_find(IvmRowFinder *finder, IvmViewChange *changes, int64 count,
								IvmFoundRow found, void *context);

/* The one row of a single-row view is now there: a hint for the next time. */
extern void ivm_row_finder_remember(IvmRowFinder *finder, ItemPointer tid);

extern void ivm_row_finder_end(IvmRowFinder *finder);

#endif							/* IVM_ROW_FINDER_H */
