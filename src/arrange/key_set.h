/*-------------------------------------------------------------------------
 *
 * key_set.h
 *	  Which keys an arrangement has rows of, by their hashes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_KEY_SET_H
#define IVM_KEY_SET_H

#include "postgres.h"

#include "memory/reclaim.h"

/* All zero: there is none. */
typedef struct IvmKeySet
{
	IvmReclaimer reclaimer;		/* must be first */
	uint64	   *slots;			/* hashes, 0 where there is none; NULL: it is
								 * not there */
	uint64		nslots;			/* a power of two */
	uint64		nkeys;
	Size		limit;
	bool		complete;		/* it may be asked */
} IvmKeySet;

/* Begins an empty one, of no more than so many bytes; false if there is no memory. */
extern bool ivm_key_set_begin(IvmKeySet *set, Size limit);

/* Adds a hash, if the set is there; a set that has no room for it is dropped. */
extern void ivm_key_set_add(IvmKeySet *set, uint64 hash);

/* All hashes that there are have been added: from now on it may be asked, and be gone at any time. */
extern void ivm_key_set_finish(IvmKeySet *set);

/* Is it certain that there is no such hash? */
extern bool ivm_key_set_lacks(IvmKeySet *set, uint64 hash);

/* The end of it. */
extern void ivm_key_set_drop(IvmKeySet *set);

#endif							/* IVM_KEY_SET_H */
