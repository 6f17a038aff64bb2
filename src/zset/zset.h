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

/*
 * An empty Z-set of rows of that shape.  Rows live in the arena; the handle and its table too.
 * While the arena may not grow, rows go to a file: in the current context and
 * transaction.  "desc" must live as long.
 */
extern IvmZset *ivm_zset_create(IvmArena *arena, TupleDesc desc);

/*
 * Before the first row: rows of one partition hash come in one part (below), as long as that can
 * be had.  Equal rows have equal hashes; the default is the image's.  The
 * function leaves nothing in the current context.
 */
typedef uint64 (*IvmPartitionHash) (void *context, MinimalTuple tuple);
extern void ivm_zset_partition_by(IvmZset *zset, IvmPartitionHash hash, void *context);

/* Adds "weight" copies of the slot's row. */
extern void ivm_zset_add(IvmZset *zset, TupleTableSlot *slot, int64 weight);

/* The same with a canonical tuple (ivm_row_form's), which is copied. */
extern void ivm_zset_add_tuple(IvmZset *zset, MinimalTuple tuple, int64 weight);

/* True if it is known to have no row with a weight other than zero. */
extern bool ivm_zset_is_empty(IvmZset *zset);

/* Number of rows with a weight other than zero; where rows are in a file, at most so many. */
extern int64 ivm_zset_count(IvmZset *zset);

/* Bytes in memory. */
extern Size ivm_zset_bytes(IvmZset *zset);

/* Frees everything but the handle: the Z-set is empty. */
extern void ivm_zset_clear(IvmZset *zset);

/* The end before the arena is reset: closes its file. */
extern void ivm_zset_close(IvmZset *zset);

/*
 * Looks at all rows with a weight other than zero, consolidated, part by part.  A part is as
 * much as may stay in memory while one works on it (ivm_pin_limit); usually there
 * is one.  The array and the rows are in the arena, good until the next call; the array may be
 * reordered, and row->hash (the image's) and row->next used.  Between begin and end the Z-set must
 * not grow; it can be looked at again afterwards, unless weights were changed.
 */
typedef struct IvmZsetParts
{
	IvmZset    *zset;
	struct IvmZsetLevel *level; /* of files, the innermost; NULL: all rows are
								 * in memory */
	IvmRow	  **rows;			/* of the present part */
	IvmZset    *loaded;			/* which holds them, if they are of a file */
	bool		begun;
} IvmZsetParts;

extern void ivm_zset_parts_begin(IvmZset *zset, IvmZsetParts *parts);
extern IvmRow **ivm_zset_parts_next(IvmZsetParts *parts, int64 *count);
extern void ivm_zset_parts_end(IvmZsetParts *parts);

extern TupleDesc ivm_zset_desc(IvmZset *zset);

#endif							/* IVM_ZSET_H */
