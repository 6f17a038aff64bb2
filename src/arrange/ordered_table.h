/*-------------------------------------------------------------------------
 *
 * ordered_table.h
 *	  State tables whose rows come in an order.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_ORDERED_TABLE_H
#define IVM_ORDERED_TABLE_H

#include "postgres.h"

#include "arrange/arrange.h"
#include "arrange/row_order.h"
#include "zset/key.h"
#include "zset/zset.h"

typedef struct IvmOrderedTable IvmOrderedTable;

/* How rows of an arrangement that has an order are compared; made once for a plan. */
typedef struct IvmOrderedShape
{
	IvmArrangement *arrangement;
	TupleDesc	desc;			/* of the rows */
	IvmRowOrder *order;
	IvmKey	   *key;			/* NULL equals NULL */
	List	   *key_states;		/* ExprState over the row */
	ExprContext *econtext;
	Datum	   *values;			/* of a row's key */
	bool	   *isnull;
} IvmOrderedShape;

/* Made in the current context. */
extern IvmOrderedShape *ivm_ordered_shape_create(IvmArrangement *arrangement);

/* Hash of a row's key; of a key that is looked for. */
extern uint64 ivm_ordered_hash_row(IvmOrderedShape *shape, TupleTableSlot *row);
extern uint64 ivm_ordered_hash_key(IvmOrderedShape *shape, const Datum *values, const bool *isnull);

/* Is that the row's key? */
extern bool ivm_ordered_row_has_key(IvmOrderedShape *shape, TupleTableSlot *row, const Datum *values, const bool *isnull);

/* Creates the state table of that name, as ivm_state_table_create does. */
extern Oid	ivm_ordered_table_create(const char *name, IvmArrangement *arrangement);

/* Opens it for reading under "snapshot" and for writing, with RowExclusiveLock that is kept. */
extern IvmOrderedTable *ivm_ordered_table_open(IvmOrderedShape *shape, Oid relid, Snapshot snapshot);
extern void ivm_ordered_table_close(IvmOrderedTable *table);

/*
 * Gives the rows of the key in the canonical order (row_order.h), each image once, until the receiver wants no
 * more; then returns false.
 */
extern bool ivm_ordered_table_walk(IvmOrderedTable *table, const Datum *values, const bool *isnull,
								   IvmLookupReceiver receiver, void *context);

/* Gives the first or the last row of the key, of those whose first value in the order is not NULL, if there is one. */
extern void ivm_ordered_table_end(IvmOrderedTable *table, const Datum *values, const bool *isnull, bool last,
								  IvmLookupReceiver receiver, void *context);

/* See walk.h. */
typedef bool (*IvmValueReceiver) (void *context, Datum value, int64 weight);
extern bool ivm_ordered_table_has_far(IvmOrderedTable *table, const Datum *values, const bool *isnull);
extern bool ivm_ordered_table_values(IvmOrderedTable *table, const Datum *values, const bool *isnull,
									 const Datum *bound, bool inclusive, bool forward,
									 IvmValueReceiver receiver, void *context);

/* Applies the delta of the arrangement's input; "empty": the table has no rows, so there may be a quicker way. */
extern void ivm_ordered_table_write(IvmArrangement *arrangement, Oid relid, IvmZset *delta, Snapshot snapshot, bool empty);

/*
 * Of a table without key that keeps the first rows of an input alone, in the order of an int8: all up to the bound;
 * and the number of its rows.  Where none was set, no row is kept, and it is PG_INT64_MIN.
 */
extern void ivm_ordered_table_get_bound(IvmOrderedTable *table, int64 *bound, int64 *nrows);
extern void ivm_ordered_table_set_bound(IvmOrderedTable *table, int64 bound, int64 nrows);

#endif							/* IVM_ORDERED_TABLE_H */
