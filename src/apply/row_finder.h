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
	IVM_VIEW_REPLACED			/* an old row that an update takes care of */
} IvmViewAction;

/* One row of a delta, one copy of it. */
typedef struct IvmViewChange
{
	IvmRow	   *row;
	Datum	   *keys;			/* columns of a key index, else NULL */
	bool	   *isnull;
	uint64		hash;			/* what a hash index has for it */
	ItemPointerData tid;		/* place of an old row; set by
								 * ivm_row_finder_find */
	IvmViewAction action;
} IvmViewChange;

typedef struct IvmRowFinder
{
	Relation	view;
	IvmPlan    *plan;
	TupleDesc	desc;			/* shape of the delta's rows */
	Snapshot	snapshot;
	IvmViewIndex fit;			/* the index to use */
	int			nkeys;			/* of a key index */
	SortSupport order;			/* of a key index, one for each column */
	TupleDesc	hash_desc;		/* of a hash index: what is hashed, NULL: the
								 * image as it is */
	TupleTableSlot *slot;		/* a row of the view */
	MemoryContext context;		/* of the whole call; scans keep memory here */
	MemoryContext row_context;	/* reset for each row */
} IvmRowFinder;

/*
 * Prepares to find rows of the view, whose indexes are open.  Memory is in the
 * current context, which is also used while finding.
 */
extern void ivm_row_finder_begin(IvmRowFinder *finder, Relation view, IvmPlan *plan, TupleDesc desc,
								 Snapshot snapshot, int nindexes, Relation *indexes);

/* Sets the fields that order a change: its keys or its hash. */
extern void ivm_row_finder_prepare(IvmRowFinder *finder, IvmViewChange *change, MinimalTuple tuple);

/* Order of two changes in the index; 0: they belong together. */
extern int	ivm_row_finder_compare(const IvmViewChange *a, const IvmViewChange *b, IvmRowFinder *finder);

/*
 * Sets "tid" of every change whose action is IVM_VIEW_DELETE.  Changes are
 * sorted; copies of one row stand together.  A row that is not there is an
 * error.
 */
extern void ivm_row_finder_find(IvmRowFinder *finder, IvmViewChange *changes, int64 count);

/* The one row of a single-row view is now there: a hint for the next time. */
extern void ivm_row_finder_remember(IvmRowFinder *finder, ItemPointer tid);

extern void ivm_row_finder_end(IvmRowFinder *finder);

#endif							/* IVM_ROW_FINDER_H */
