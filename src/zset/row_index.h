/*-------------------------------------------------------------------------
 *
 * row_index.h
 *	  Rows found by a hash, or walked in its order: in memory, or in a file that is sorted by it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_ROW_INDEX_H
#define IVM_ROW_INDEX_H

#include "postgres.h"

#include "zset/row.h"

typedef struct IvmRowIndex IvmRowIndex;

/*
 * An empty one.  Rows are in the arena as long as it gives memory, otherwise in temporary
 * files of the top-level transaction, and in the current context.  Until it is destroyed, or
 * the arena reset, any allocation may write the rows to a file.
 */
extern IvmRowIndex *ivm_row_index_create(IvmArena *arena);

extern void ivm_row_index_destroy(IvmRowIndex *index);

/* The end before the arena is reset: closes its file. */
extern void ivm_row_index_close(IvmRowIndex *index);

/* Adds a row, which is copied; no hash is special.  Equal rows are not added up. */
extern void ivm_row_index_add(IvmRowIndex *index, MinimalTuple tuple, int64 weight, uint64 hash);

/* All rows are there: from now on they can be found, and none added. */
extern void ivm_row_index_finish(IvmRowIndex *index);

extern bool ivm_row_index_is_empty(IvmRowIndex *index);

/*
 * Rows with that hash, in no particular order: begin, then next until NULL.  A row is good until the next
 * call for the same index.  Others may be looked at meanwhile.
 */
extern void ivm_row_index_find(IvmRowIndex *index, uint64 hash);
extern IvmRow *ivm_row_index_next(IvmRowIndex *index);

/*
 * The hashes in ascending order: sets *hash to the least that some row has and that is not below *hash, or
 * says false if there is none.  Ends a look at rows that is under way.  A walk is a loop over this, with *hash one more each
 * time, and its rows may be found in between; in a file that reads from one end to the other.
 */
extern bool ivm_row_index_walk(IvmRowIndex *index, uint64 *hash);

#endif							/* IVM_ROW_INDEX_H */
