/*-------------------------------------------------------------------------
 *
 * row.h
 *	  A row of a Z-set: a minimal tuple whose bytes are its identity.
 *
 * Two rows of one shape are equal by image if and only if their tuples have
 * the same bytes.  That holds because every variable-length value is stored
 * inline and uncompressed, and the tuple former zeroes its padding and picks
 * the header's length by the value alone.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_ROW_H
#define IVM_ROW_H

#include "postgres.h"

#include "access/htup_details.h"
#include "executor/tuptable.h"

#include "memory/arena.h"

typedef struct IvmRow
{
	struct IvmRow *next;		/* for the use of whoever holds the row */
	int64		weight;
	uint64		hash;			/* of the image, or of a key: see the holder */
	/* a MinimalTuple follows */
} IvmRow;

#define ivm_row_tuple(row) ((MinimalTuple) ((char *) (row) + MAXALIGN(sizeof(IvmRow))))

/*
 * Forms the canonical minimal tuple of a slot's values (of as many columns as
 * "desc" has), palloc'd in the current context.  Detoasts what is toasted.
 */
extern MinimalTuple ivm_row_form(TupleDesc desc, TupleTableSlot *slot);
extern MinimalTuple ivm_row_form_values(TupleDesc desc, Datum *values, bool *isnull);

/*
 * Hash of how the first natts columns lie in a tuple.  A tuple that was formed
 * with one descriptor may be taken apart with another only if both have the
 * same layout as far as the tuple goes.
 */
extern uint32 ivm_row_layout(TupleDesc desc, int natts);

/* A tuple as it is stored, palloc'd there. */
extern bytea *ivm_row_to_bytes(MemoryContext context, MinimalTuple tuple);

extern uint64 ivm_row_image_hash(MinimalTuple tuple);
extern bool ivm_row_image_equal(MinimalTuple a, MinimalTuple b);

/* Copies a tuple into the arena as a row with that weight and hash. */
extern IvmRow *ivm_row_make(IvmArena *arena, MinimalTuple tuple, int64 weight, uint64 hash);

/* For qsort of an array of IvmRow *: by their hashes. */
extern int	ivm_row_compare_hashes(const void *a, const void *b);

#endif							/* IVM_ROW_H */
