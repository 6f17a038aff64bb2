/*-------------------------------------------------------------------------
 *
 * spill.h
 *	  Rows with weights in a temporary file, divided into partitions by a hash.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_SPILL_H
#define IVM_SPILL_H

#include "postgres.h"

#include "zset/row.h"

/* Partitions of a file; each level of recursion takes the next bits of the hash. */
#define IVM_SPILL_BITS			5
#define IVM_SPILL_PARTITIONS	(1 << IVM_SPILL_BITS)

/* Levels; at the last one all bits that count are used up. */
#define IVM_SPILL_LEVELS		8

typedef struct IvmSpill IvmSpill;

/*
 * Makes one that divides by the hash bits of that level, from 0 on.  The handle is in the current
 * context; the file is made with the first row, and is gone with the top-level transaction at the latest.
 */
extern IvmSpill *ivm_spill_create(int level);
extern void ivm_spill_destroy(IvmSpill *spill);

/* Adds a row.  "hash" is kept, and decides about the partition.  Raises errors of file access. */
extern void ivm_spill_put(IvmSpill *spill, MinimalTuple tuple, int64 weight, uint64 hash);

/* Writes what was put, and frees the memory that it waits in.  Counts as one spill. */
extern void ivm_spill_flush(IvmSpill *spill);

extern int	ivm_spill_partition(IvmSpill *spill, uint64 hash);

/* Number of rows, and bytes in the file, of one partition. */
extern uint64 ivm_spill_rows(IvmSpill *spill, int partition);
extern Size ivm_spill_bytes(IvmSpill *spill, int partition);

/* True if all rows of the partition have the same hash: another level would not divide it. */
extern bool ivm_spill_is_uniform(IvmSpill *spill, int partition);

/* Reads a partition; several may be read at once, and again.  Nothing may wait to be flushed. */
typedef struct IvmSpillReader
{
	IvmSpill   *spill;
	int			partition;
	int			extent;			/* next one */
	Size		position;		/* of the next row in the buffer */
	Size		length;			/* of what is in the buffer */
	Size		size;			/* of the buffer */
	char	   *buffer;			/* the present extent */
} IvmSpillReader;

extern void ivm_spill_read_begin(IvmSpill *spill, int partition, IvmSpillReader *reader);

/* The next row or NULL.  It is good until the next call; its hash is the one that it was put with. */
extern IvmRow *ivm_spill_read_next(IvmSpillReader *reader);
extern void ivm_spill_read_end(IvmSpillReader *reader);

#endif							/* IVM_SPILL_H */
