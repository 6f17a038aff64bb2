/*-------------------------------------------------------------------------
 *
 * key.h
 *	  Keys: hashing and comparing some columns by their types' equality.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_KEY_H
#define IVM_KEY_H

#include "postgres.h"

#include "access/htup_details.h"
#include "access/tupdesc.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "nodes/execnodes.h"

/*
 * How to compare keys.  Left values are what is looked for, right values what
 * is stored; the two may have different types of one operator family.
 */
typedef struct IvmKey
{
	int			ncolumns;
	FmgrInfo   *equal;			/* left = right */
	FmgrInfo   *hash_left;		/* extended hash functions; fn_oid is invalid */
	FmgrInfo   *hash_right;		/* where the type has none */
	int16	   *image_length;	/* of those hashed by their image instead; 0:
								 * is not */
	Oid		   *collations;
	bool		null_equal;		/* NULL equals NULL (grouping), or nothing
								 * (joins) */
} IvmKey;

/*
 * Builds a key in the current context from equality operators (oids) and
 * collations.  Errors: none for valid operators; a type without hash support is
 * hashed by its image, if equal means the same there, else its column counts for
 * nothing in the hash.
 */
extern IvmKey *ivm_key_create(int ncolumns, const Oid *equal_operators, const Oid *collations, bool null_equal);

/* Never 0 is promised; equal keys have equal hashes, whichever side. */
extern uint64 ivm_key_hash_left(IvmKey *key, const Datum *values, const bool *isnull);
extern uint64 ivm_key_hash_right(IvmKey *key, const Datum *values, const bool *isnull);

/*
 * True if values of that type which the operator finds equal always look the
 * same: their images, detoasted, are the same bytes.
 */
extern bool ivm_equality_is_of_images(Oid type, Oid operator, Oid collation);

/*
 * Can what is kept by the hash of "stored", as a right side, be found by the hash of "looked_for", as a
 * left side?
 */
extern bool ivm_equalities_hash_alike(Oid looked_for, Oid stored);

/*
 * The equality operator that compares two right sides of this one as it compares a left with a right one;
 * InvalidOid if its operator family has none.
 */
extern Oid	ivm_equality_of_right(Oid operator);

extern bool ivm_key_equal(IvmKey *key, const Datum *left, const bool *left_isnull,
						  const Datum *right, const bool *right_isnull);

/*
 * Evaluates the key's expressions (ExprState) over a row, and hashes what they give as right values:
 * *hash.  False if one is NULL, and equals nothing.  Resets the expression context before, and leaves memory in its
 * per-tuple memory.
 */
extern bool ivm_key_hash_row(IvmKey *key, List *states, ExprContext *econtext, TupleTableSlot *row, uint64 *hash);

/* The key that some columns of a row of that shape are. */
typedef struct IvmRowKey
{
	IvmKey	   *key;
	TupleDesc	desc;
	int		   *columns;		/* numbers, from 1 on */
	Datum	   *values;
	bool	   *isnull;
} IvmRowKey;

/*
 * Makes one in the current context; "desc" and "key" must live as long, "columns" (as many as the
 * key has) are copied.
 */
extern IvmRowKey *ivm_row_key_create(IvmKey *key, TupleDesc desc, const int *columns);

/* Hash of that key, as a right side: an IvmPartitionHash (zset.h) over an IvmRowKey. */
extern uint64 ivm_row_key_hash(void *row_key, MinimalTuple tuple);

#endif							/* IVM_KEY_H */
