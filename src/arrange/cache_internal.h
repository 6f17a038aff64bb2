/*-------------------------------------------------------------------------
 *
 * cache_internal.h
 *	  What the files of the cache share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_CACHE_INTERNAL_H
#define IVM_CACHE_INTERNAL_H

#include "postgres.h"

#include "lib/ilist.h"

#include "arrange/cache.h"
#include "arrange/key_set.h"
#include "zset/value_row.h"

struct IvmCache
{
	IvmArrangement *arrangement;
	IvmValueRowShape shape;		/* of its input */
	int			nkeys;
	IvmKey	   *key;
	List	   *key_states;		/* over the input's row */
	const int16 *lengths;
	const bool *byval;
	dlist_node	node;
	MemoryContextCallback callback;
	uint64		salt;			/* one number may be a key of many tables */
	int64		nentries;

	/* how good it is */
	int64		fills;			/* in this window */
	int64		hits;
	int64		pause;			/* probes that are still to be left alone */
	int64		run_probes;		/* since the last start */
	int64		run_misses;
	double		miss_share;		/* of the probes of a run */

	/* which keys have rows (key_set.c) */
	IvmKeySet	keys;
	int64		empty;			/* lookups that found nothing, since the set
								 * went or was thought of */
	bool		keys_refused;	/* it would be too large */
};

/*
 * Makes the entry of a key, with copies of its values, which must be neither out of line nor
 * compressed.  Returns where its rows, so many bytes, have to be put at once; NULL if the key has
 * an entry, or there is no room.  "refused": there are too many rows, which is all that it says.
 */
extern char *ivm_cache_add_entry(IvmCache *cache, uint64 hash, const Datum *values,
								 Size row_bytes, bool refused);

/* After each fill: a cache that is hit too seldom is emptied, and pauses. */
extern void ivm_cache_judge(IvmCache *cache);

#endif							/* IVM_CACHE_INTERNAL_H */
