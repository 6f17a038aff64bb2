/*-------------------------------------------------------------------------
 *
 * cache.h
 *	  Rows of hot keys of arrangements, from one batch to the next.
 *
 * Only apply workers have it.  It is never needed for a right answer: what it does not
 * have is looked up.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_CACHE_H
#define IVM_CACHE_H

#include "postgres.h"

#include "plan/plan.h"
#include "stats/stats.h"
#include "zset/key.h"
#include "zset/zset.h"

/* The cached keys of one arrangement, for one join. */
typedef struct IvmCache IvmCache;

/* The rows of a key while they are being found, to be cached. */
typedef struct IvmCacheFill IvmCacheFill;

/* Gets each row of a key; the values are good until it returns.  False: it wants no more. */
typedef bool (*IvmCacheReceiver) (void *context, const Datum *values, const bool *isnull, int64 weight);

/* This process, which sees all deltas in batches, has a cache; caches made before are not used. */
extern void ivm_cache_enable(void);

/*
 * A cache in the current context, which it goes with, or NULL if it would be no use here.  All
 * pointers must live as long.  "lengths" and "byval" are of the values that are
 * looked for.
 */
extern IvmCache *ivm_cache_create(IvmArrangement *arrangement, IvmKey *key, List *key_states,
								  const int16 *lengths, const bool *byval);

/* Is it a cache of that arrangement, for values of those types? */
extern bool ivm_cache_serves(IvmCache *cache, IvmArrangement *arrangement,
							 const int16 *lengths, const bool *byval);

/* Whose rows they are. */
extern IvmPlanNode *ivm_cache_input(IvmCache *cache);

/*
 * Before the first probe of each batch that changes the arrangement's input: forgets the keys of
 * the rows of its delta.
 */
extern void ivm_cache_apply_delta(IvmCache *cache, IvmZset *delta);

/* Forgets all. */
extern void ivm_cache_forget(IvmCache *cache);

/*
 * A run of probes begins, about so many.  Returns how many of them may have to be
 * looked up elsewhere.
 */
extern int64 ivm_cache_start(IvmCache *cache, int64 expected);

/*
 * True if the key's rows were in the cache: the receiver has got them.  Else they have to be looked up, and put
 * into the cache if *fill.  *more is what the receiver said last.  No value is NULL; "hash" is ivm_key_hash_left's.
 */
extern bool ivm_cache_give(IvmCache *cache, uint64 hash, const Datum *values,
						   IvmCacheReceiver receiver, void *context, bool *more, bool *fill);

/* Is it worth the hash of a key to ask?  Counts the probe as a miss if not. */
extern bool ivm_cache_wants(IvmCache *cache);

/* Is it known which keys have rows?  Then those that have none need not be looked up. */
extern bool ivm_cache_has_keys(IvmCache *cache);

/* Is it known that the key with that hash has no rows?  Counts the probe if so. */
extern bool ivm_cache_excludes(IvmCache *cache, uint64 hash);

/* A lookup elsewhere found nothing. */
extern void ivm_cache_found_nothing(IvmCache *cache);

/*
 * Would it be of use to know which keys have rows?  To find out, all of them are added between begin and end; "pages" are those that
 * have to be read for it, and begin says whether it is worth it by now.
 */
extern bool ivm_cache_misses_keys(IvmCache *cache);
extern bool ivm_cache_begin_keys(IvmCache *cache, int64 pages);
extern void ivm_cache_add_key(IvmCache *cache, uint64 hash);
extern void ivm_cache_end_keys(IvmCache *cache);

/* Made in the current context; for one key after the other. */
extern IvmCacheFill *ivm_cache_fill_create(IvmCache *cache);
extern void ivm_cache_fill_begin(IvmCacheFill *fill);
extern void ivm_cache_fill_add(IvmCacheFill *fill, const Datum *values, const bool *isnull, int64 weight);

/* All rows of that key were added: it is cached, if there is room. */
extern void ivm_cache_fill_end(IvmCacheFill *fill, uint64 hash, const Datum *values);

/* Of this process. */
extern void ivm_cache_stats(IvmStatsCache *stats);

#endif							/* IVM_CACHE_H */
