/*-------------------------------------------------------------------------
 *
 * ordered_internal.h
 *	  What the files of ordered state tables share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_ORDERED_INTERNAL_H
#define IVM_ORDERED_INTERNAL_H

#include "postgres.h"

#include "access/relscan.h"

#include "arrange/ordered_table.h"
#include "base/index_entries.h"

/* Columns, those of the order between these and those behind. */
enum
{
	COLUMN_HASH = 1,
	COLUMN_FAR,
	FIRST_COLUMN
};

enum
{
	BEHIND_IMAGE,
	BEHIND_WEIGHT,
	BEHIND_ROW,
	BEHIND_COLUMNS
};

/* One of the rows that have the same place but for their bytes. */
typedef struct PlacedRow
{
	MinimalTuple tuple;
	int64		weight;
} PlacedRow;

struct IvmOrderedTable
{
	IvmOrderedShape *shape;
	MemoryContext context;		/* holds this */
	MemoryContext row_context;	/* of the row that is written or looked for */
	MemoryContext place_context;	/* of the rows of one place */
	Relation	heap;
	Relation	index;
	IvmIndexEntries *entries;	/* NULL: nothing was written */
	Snapshot	snapshot;
	TupleTableSlot *slot;		/* as stored */
	TupleTableSlot *write_slot;
	TupleTableSlot *row;		/* as it is given */
	IndexScanDesc scan;			/* of a key's rows; NULL: none yet */
	IndexScanDesc end_scan;		/* from either end */
	IndexScanDesc place_scan;	/* of one row */
	ScanKey		place_keys;

	/* of a walk */
	const Datum *values;
	const bool *isnull;
	IvmLookupReceiver receiver;
	void	   *receiver_context;
	IvmRowSort *far;			/* NULL: there is none */
	IvmSortedRow *next_far;
	int			nplaced;
	int			size;
	PlacedRow  *placed;
	Datum	   *place_values;	/* of the order */
	bool	   *place_isnull;
	uint64		place_image;
};

/* A copy of the image of a stored row, whose columns have been taken out, in the current context. */
extern MinimalTuple ivm_ordered_stored_tuple(IvmOrderedTable *table);

/* The image's hash, or the weight, of it. */
extern int64 ivm_ordered_stored_number(IvmOrderedTable *table, int behind);

#endif							/* IVM_ORDERED_INTERNAL_H */
