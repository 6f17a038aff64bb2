/*-------------------------------------------------------------------------
 *
 * zset.h
 *	  A consolidated Z-set: rows with weights, equal rows added up.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_ZSET_H
#define IVM_ZSET_H

#include "postgres.h"

#include "zset/row.h"

typedef struct IvmZset IvmZset;

/* An empty Z-set of rows of that shape.  Rows live in the arena; the handle and its table too. */
extern IvmZset *ivm_zset_create(IvmArena *arena, TupleDesc desc);

/* Adds "weight" copies of the slot's row. */
extern void ivm_zset_add(IvmZset *zset, TupleTableSlot *slot, int64 weight);

/* The same with a canonical tuple (ivm_row_form's), which is copied. */
extern void ivm_zset_add_tuple(IvmZset *zset, MinimalTuple tuple, int64 weight);

/* Number of rows with a weight other than zero. */
extern int64 ivm_zset_count(IvmZset *zset);

typedef struct IvmZsetIterator
{
	IvmZset    *zset;
	uint64		position;
} IvmZsetIterator;

/*
 * Iterates over rows with a weight other than zero, in no particular order.
 * The Z-set must not grow meanwhile.  row->hash is the image hash.
 */
extern void ivm_zset_iterate(IvmZset *zset, IvmZsetIterator *iterator);
extern IvmRow *ivm_zset_next(IvmZsetIterator *iterator);

/* All rows as an array in the arena (iteration order); sets *count. */
extern IvmRow **ivm_zset_rows(IvmZset *zset, int64 *count);

extern TupleDesc ivm_zset_desc(IvmZset *zset);

#endif							/* IVM_ZSET_H */
