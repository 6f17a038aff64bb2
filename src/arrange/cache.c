/*-------------------------------------------------------------------------
 *
 * cache.c
 *	  Rows of hot keys of arrangements, from one batch to the next.
 *
 * An entry has the values of a key that was looked for, and all rows that were found:
 * those of the new state under the snapshot of the last batch.  A key without
 * rows has an entry, too.
 *
 * Why that is exact.  A consumer gets every change of the tables that it reads between
 * its applied snapshot and the batch's, and nothing else: the deltas of a join's
 * inputs are the difference between the two states.  (The old state is the
 * new one minus the delta, as joins compute it, for the same reason.)  They have
 * passed filters and projections, so they are in the shape of the arrangement.  So the
 * rows of a key have changed only if the delta has a row with that key.  Before the
 * first probe of a batch all keys of the delta are forgotten; what is left is
 * right for the new state, and what is found by probes from then on is of the new state
 * anyhow.  Equal keys have equal hashes, whatever their types, scales
 * and cases are, so by forgetting all entries with the hash of a row's key none is
 * missed; keys that are looked for are compared byte for byte, so
 * 1.0 and 1.00 have two entries with one hash.
 *
 * All that holds between two batches of one dataflow that follow each other.  The
 * caller has everything forgotten when
 *
 *		a batch is rolled back: rows were found under a snapshot that nobody
 *			has applied
 *		the applied snapshot is not what this process committed last: the view was filled
 *			anew, or another process had it in between
 *
 * and a plan that is compiled anew makes new caches.  A table that was truncated makes the
 * view be rebuilt, so one of these applies.  Only apply workers take part
 * (ivm_cache_enable), and populations and replays do not.  An index on
 * fewer columns than the key gives rows of other keys, whose changes would not be
 * noticed; these arrangements have no cache.
 *
 * All entries of the process are in one hash table and in one arena, under one limit
 * (ivm.cache_memory, and at most a quarter of what the process may hold).  If it is reached, entries are
 * evicted by the clock algorithm: one that was hit since the hand last came by
 * stays for another turn.  If memory is short anywhere in the process all goes at once.
 * Entries whose rows are being gone through are pinned: a receiver may do
 * anything, so they stay in place for it.
 *
 * Where most lookups find nothing, since a filter leaves few rows, the keys that have rows are collected (key_set.c) when
 * as many were looked up in vain as reading the table costs.
 *
 * A cache that is not hit costs the collecting of rows (cache_fill.c) and their entries.  When
 * it has filled as many entries as the limit might hold, and fewer than an eighth as
 * many probes have been hits, it is emptied and pauses for many probes.
 *
 * Memory: entries and the table in the arena.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "executor/executor.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "utils/datum.h"
#include "utils/memutils.h"

#include "arrange/cache_internal.h"
#include "base/settings.h"
#include "memory/reclaim.h"

/* Of ivm_pin_limit, which is an eighth of what the process may hold. */
#define SHARE_OF_PIN_LIMIT	2

#define FIRST_BUCKETS		1024

/* A cache is judged after so many fills. */
#define EXPECTED_ENTRY		256 /* bytes */
#define MIN_WINDOW			1024
#define MAX_WINDOW			65536
#define FILLS_PER_HIT		8	/* more are poor */
#define PAUSE				16	/* windows */

/* Lookups in vain after which keys are collected: at least, and for each page that is read for it. */
#define MIN_EMPTY			1000
#define EMPTY_PER_PAGE		2
#define MAX_KEY_PAGES		32768
#define KEYS_SHARE			4	/* of the limit, for the keys of one cache */

typedef struct CacheEntry
{
	struct CacheEntry *next;	/* in the bucket */
	dlist_node	clock_node;
	IvmCache   *cache;
	uint64		hash;
	uint32		size;			/* of all of it */
	uint16		rows;			/* where they begin */
	uint16		pins;
	bool		used;			/* since the hand came by */
	bool		refused;		/* too many rows: there are none here */
	/* the key's values (Datum), what they point to, rows */
} CacheEntry;

#define entry_key(entry) ((Datum *) ((char *) (entry) + MAXALIGN(sizeof(CacheEntry))))

/* Of the process. */
static IvmArena *arena = NULL;	/* NULL: it has no cache */
static IvmReclaimer reclaimer;	/* its bytes are those of entries and table */
static dlist_head caches = DLIST_STATIC_INIT(caches);
static dlist_head entry_clock = DLIST_STATIC_INIT(entry_clock);
static CacheEntry **buckets = NULL;
static uint64 nbuckets = 0;		/* a power of two */
static uint64 nentries = 0;
static uint64 npins = 0;
static uint32 last_number = 0;	/* of a cache */
static Size limit = 0;
static IvmStatsCache counters;

static void reclaim_cache(IvmReclaimer *self);

void
ivm_cache_enable(void)
{
	arena = ivm_arena_create("cache", TopMemoryContext);
	reclaimer.kind = IVM_RECLAIM_CACHE;
	reclaimer.arena = arena;
	reclaimer.reclaim = reclaim_cache;
}

/* Of the sets of keys. */
static Size
keys_bytes(void)
{
	Size		sum = 0;
	dlist_iter	iter;

	dlist_foreach(iter, &caches)
		sum += dlist_container(IvmCache, node, iter.cur)->keys.reclaimer.bytes;
	return sum;
}

void
ivm_cache_stats(IvmStatsCache *stats)
{
	*stats = counters;
	stats->bytes = reclaimer.bytes + keys_bytes();
}

/*
 * Caches
 */

static void
cache_context_gone(void *argument)
{
	IvmCache   *cache = argument;

	ivm_cache_forget(cache);
	dlist_delete(&cache->node);
}

/* Does a probe find the rows of its own key only? */
static bool
finds_keys_exactly(IvmArrangement *arrangement)
{
	ListCell   *cell;

	if (arrangement->keys == NIL)
		return false;
	foreach(cell, arrangement->probes)
	{
		IvmIndexProbe *probe = lfirst(cell);

		if (OidIsValid(probe->index) && list_length(probe->key_numbers) < list_length(arrangement->keys))
			return false;
	}
	foreach(cell, arrangement->below_keys)
		if (list_length(lfirst(cell)) < list_length(arrangement->keys))
			return false;
	return true;
}

IvmCache *
ivm_cache_create(IvmArrangement *arrangement, IvmKey *key, List *key_states,
				 const int16 *lengths, const bool *byval)
{
	IvmCache   *cache;

	if (arena == NULL || !finds_keys_exactly(arrangement))
		return NULL;
	cache = palloc0(sizeof(IvmCache));
	cache->arrangement = arrangement;
	ivm_value_row_shape(&cache->shape, arrangement->input->desc);
	cache->nkeys = list_length(arrangement->keys);
	cache->key = key;
	cache->key_states = key_states;
	cache->lengths = lengths;
	cache->byval = byval;
	cache->salt = hash_bytes_uint32_extended(++last_number, 0);
	cache->miss_share = 1;
	dlist_push_tail(&caches, &cache->node);
	cache->callback.func = cache_context_gone;
	cache->callback.arg = cache;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &cache->callback);
	return cache;
}

bool
ivm_cache_serves(IvmCache *cache, IvmArrangement *arrangement, const int16 *lengths, const bool *byval)
{
	return cache->arrangement == arrangement &&
		memcmp(cache->lengths, lengths, sizeof(int16) * cache->nkeys) == 0 &&
		memcmp(cache->byval, byval, sizeof(bool) * cache->nkeys) == 0;
}

IvmPlanNode *
ivm_cache_input(IvmCache *cache)
{
	return cache->arrangement->input;
}

/*
 * Entries
 */

static inline CacheEntry **
bucket_of(IvmCache *cache, uint64 hash)
{
	return &buckets[(hash ^ cache->salt) & (nbuckets - 1)];
}

static void
remove_entry(CacheEntry *entry)
{
	CacheEntry **link = bucket_of(entry->cache, entry->hash);

	while (*link != entry)
		link = &(*link)->next;
	*link = entry->next;
	dlist_delete(&entry->clock_node);
	entry->cache->nentries--;
	nentries--;
	npins -= entry->pins;
	reclaimer.bytes -= entry->size;
	ivm_arena_free(arena, entry);
}

static void
forget_entries(IvmCache *cache)
{
	dlist_mutable_iter iter;

	if (cache->nentries > 0)
		dlist_foreach_modify(iter, &entry_clock)
	{
		CacheEntry *entry = dlist_container(CacheEntry, clock_node, iter.cur);

		if (entry->cache == cache)
			remove_entry(entry);
	}
	cache->fills = cache->hits = 0;
	cache->miss_share = 1;
	cache->run_probes = cache->run_misses = 0;
}

void
ivm_cache_forget(IvmCache *cache)
{
	forget_entries(cache);
	ivm_key_set_drop(&cache->keys);
	cache->empty = 0;
	cache->keys_refused = false;
}

/* All at once, but for what is pinned. */
static void
forget_everything(void)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &caches)
		dlist_container(IvmCache, node, iter.cur)->miss_share = 1;
	if (npins > 0)
	{
		dlist_foreach_modify(iter, &entry_clock)
		{
			CacheEntry *entry = dlist_container(CacheEntry, clock_node, iter.cur);

			if (entry->pins == 0)
				remove_entry(entry);
		}
	}
	else
	{
		dlist_foreach_modify(iter, &caches)
			dlist_container(IvmCache, node, iter.cur)->nentries = 0;
		dlist_init(&entry_clock);
		buckets = NULL;
		nbuckets = nentries = 0;
		reclaimer.bytes = 0;
		ivm_arena_reset(arena);
	}
	ivm_arena_trim(arena);
}

static void
reclaim_cache(IvmReclaimer *self)
{
	counters.evictions += nentries;
	forget_everything();
	counters.evictions -= nentries;
}

/* Makes room for so many bytes; false if that cannot be. */
static bool
evict(Size needed)
{
	uint64		turns = 2 * nentries;

	while (reclaimer.bytes + needed > limit)
	{
		CacheEntry *entry;

		if (nentries == 0 || turns-- == 0)
			return false;
		entry = dlist_tail_element(CacheEntry, clock_node, &entry_clock);
		if (entry->pins > 0 || entry->used)
		{
			entry->used = false;
			dlist_move_head(&entry_clock, &entry->clock_node);
			continue;
		}
		remove_entry(entry);
		counters.evictions++;
	}
	return true;
}

/* Keeps the buckets short; without memory they become longer.  False if there are none. */
static bool
grow_table(void)
{
	uint64		count = nbuckets == 0 ? FIRST_BUCKETS : nbuckets * 2;
	CacheEntry **table;
	dlist_iter	iter;

	if (nentries < nbuckets)
		return true;
	table = ivm_arena_try_alloc(arena, sizeof(CacheEntry *) * count);
	if (table == NULL)
		return nbuckets > 0;
	memset(table, 0, sizeof(CacheEntry *) * count);
	ivm_arena_free(arena, buckets);
	reclaimer.bytes += sizeof(CacheEntry *) * (count - nbuckets);
	buckets = table;
	nbuckets = count;
	dlist_foreach(iter, &entry_clock)
	{
		CacheEntry *entry = dlist_container(CacheEntry, clock_node, iter.cur);
		CacheEntry **bucket = bucket_of(entry->cache, entry->hash);

		entry->next = *bucket;
		*bucket = entry;
	}
	return true;
}

static CacheEntry *
find_entry(IvmCache *cache, uint64 hash, const Datum *values)
{
	if (nbuckets == 0)
		return NULL;
	for (CacheEntry *entry = *bucket_of(cache, hash); entry != NULL; entry = entry->next)
	{
		Datum	   *key = entry_key(entry);
		int			i;

		if (entry->hash != hash || entry->cache != cache)
			continue;
		for (i = 0; i < cache->nkeys; i++)
			if (cache->byval[i] ? values[i] != key[i] :
				!datum_image_eq(values[i], key[i], false, cache->lengths[i]))
				break;
		if (i == cache->nkeys)
			return entry;
	}
	return NULL;
}

char *
ivm_cache_add_entry(IvmCache *cache, uint64 hash, const Datum *values, Size row_bytes, bool refused)
{
	Size		head = MAXALIGN(sizeof(CacheEntry)) + sizeof(Datum) * cache->nkeys;
	Size		rows = head;
	CacheEntry *entry;
	CacheEntry **bucket;

	/* the receivers of its rows may have looked for the same key */
	if (find_entry(cache, hash, values) != NULL)
		return NULL;
	for (int i = 0; i < cache->nkeys; i++)
		if (!cache->byval[i])
			rows = MAXALIGN(rows) + ivm_value_size(values[i], cache->lengths[i]);
	rows = MAXALIGN(rows);
	/* one that would drive out most others is not worth it */
	if (rows + row_bytes > limit / 4 || !evict(rows + row_bytes) || !grow_table())
		return NULL;
	entry = ivm_arena_try_alloc(arena, rows + row_bytes);
	if (entry == NULL)
		return NULL;
	entry->cache = cache;
	entry->hash = hash;
	entry->size = rows + row_bytes;
	entry->rows = rows;
	entry->pins = 0;
	entry->used = false;
	entry->refused = refused;
	rows = head;
	for (int i = 0; i < cache->nkeys; i++)
	{
		Size		length;

		entry_key(entry)[i] = values[i];
		if (cache->byval[i])
			continue;
		rows = MAXALIGN(rows);
		length = ivm_value_size(values[i], cache->lengths[i]);
		ivm_value_copy((char *) entry + rows, values[i], cache->lengths[i], length);
		entry_key(entry)[i] = PointerGetDatum((char *) entry + rows);
		rows += length;
	}

	bucket = bucket_of(cache, hash);
	entry->next = *bucket;
	*bucket = entry;
	dlist_push_head(&entry_clock, &entry->clock_node);
	cache->nentries++;
	nentries++;
	reclaimer.bytes += entry->size;
	ivm_reclaimer_add(&reclaimer);
	return (char *) entry + entry->rows;
}

/*
 * Deltas
 */

static void
forget_hash(IvmCache *cache, uint64 hash)
{
	CacheEntry *next;

	for (CacheEntry *entry = *bucket_of(cache, hash); entry != NULL; entry = next)
	{
		next = entry->next;
		if (entry->hash == hash && entry->cache == cache)
			remove_entry(entry);
	}
}

void
ivm_cache_apply_delta(IvmCache *cache, IvmZset *delta)
{
	ExprContext *econtext;
	TupleTableSlot *slot;
	IvmZsetParts parts;
	IvmRow	  **rows;
	int64		count;

	if (cache->nentries == 0 && !cache->keys.complete)
		return;
	econtext = CreateStandaloneExprContext();
	slot = MakeSingleTupleTableSlot(cache->shape.desc, &TTSOpsMinimalTuple);
	ivm_zset_parts_begin(delta, &parts);
	while ((rows = ivm_zset_parts_next(&parts, &count)) != NULL)
	{
		/* forgetting all may happen meanwhile: memory can be short */
		for (int64 r = 0; r < count && (cache->nentries > 0 || cache->keys.complete); r++)
		{
			uint64		hash;

			CHECK_FOR_INTERRUPTS();
			ExecStoreMinimalTuple(ivm_row_tuple(rows[r]), slot, false);
			/* nobody finds a row with a NULL key */
			if (!ivm_key_hash_row(cache->key, cache->key_states, econtext, slot, &hash))
				continue;
			if (cache->nentries > 0)
				forget_hash(cache, hash);
			ivm_key_set_add(&cache->keys, hash);
		}
		ExecClearTuple(slot);
	}
	ivm_zset_parts_end(&parts);
	ExecDropSingleTupleTableSlot(slot);
	FreeExprContext(econtext, true);
}

/*
 * Probes
 */

static int64
window(void)
{
	return Min(Max(limit / EXPECTED_ENTRY, MIN_WINDOW), MAX_WINDOW);
}

void
ivm_cache_judge(IvmCache *cache)
{
	if (++cache->fills < window())
		return;
	if (cache->hits * FILLS_PER_HIT < cache->fills)
	{
		forget_entries(cache);
		cache->pause = PAUSE * window();
	}
	cache->fills = cache->hits = 0;
}

int64
ivm_cache_start(IvmCache *cache, int64 expected)
{
	Size		share = SHARE_OF_PIN_LIMIT * ivm_pin_limit();
	Size		keys = keys_bytes();

	limit = Min((Size) ivm_cache_memory * 1024, share);
	limit = limit > keys ? limit - keys : 0;
	if (reclaimer.bytes > limit && !evict(0))
		forget_everything();
	if (cache->run_probes > 0)
		cache->miss_share = (cache->miss_share + (double) cache->run_misses / cache->run_probes) / 2;
	cache->run_probes = cache->run_misses = 0;
	return (int64) (expected * cache->miss_share);
}

bool
ivm_cache_wants(IvmCache *cache)
{
	if (limit > 0 && cache->pause == 0)
		return true;
	cache->run_probes++;
	cache->run_misses++;
	if (limit > 0)
	{
		cache->pause--;
		counters.misses++;
	}
	return false;
}

bool
ivm_cache_give(IvmCache *cache, uint64 hash, const Datum *values,
			   IvmCacheReceiver receiver, void *context, bool *more, bool *fill)
{
	CacheEntry *entry = find_entry(cache, hash, values);
	int			natts = cache->shape.desc->natts;

	cache->run_probes++;
	*fill = entry == NULL;
	*more = true;
	if (entry != NULL)
		entry->used = true;
	if (entry == NULL || entry->refused)
	{
		cache->run_misses++;
		counters.misses++;
		return false;
	}
	counters.hits++;
	cache->hits++;
	if (entry->rows == entry->size)
		return true;

	entry->pins++;
	npins++;
	for (uint32 position = entry->rows; position < entry->size && *more;)
	{
		IvmValueRow *row = (IvmValueRow *) ((char *) entry + position);

		*more = receiver(context, ivm_value_row_values(row), ivm_value_row_isnull(row, natts), row->weight);
		position += row->size;
	}
	entry->pins--;
	npins--;
	return true;
}

/*
 * Which keys have rows
 */

bool
ivm_cache_has_keys(IvmCache *cache)
{
	return cache->keys.complete;
}

bool
ivm_cache_excludes(IvmCache *cache, uint64 hash)
{
	if (!ivm_key_set_lacks(&cache->keys, hash))
		return false;
	cache->run_probes++;
	counters.hits++;
	return true;
}

void
ivm_cache_found_nothing(IvmCache *cache)
{
	cache->empty++;
}

/* Are rows left out by a filter of the tables that are looked up? */
static bool
is_filtered(IvmArrangement *arrangement)
{
	ListCell   *cell;

	foreach(cell, arrangement->probes)
		if (((IvmIndexProbe *) lfirst(cell))->scan->quals != NIL)
			return true;
	return false;
}

/* Tests have it with the first one. */
static bool
collects_at_once(void)
{
	return ivm_debug_spill[0] != '\0' && ivm_spill_is_forced("lookup");
}

bool
ivm_cache_misses_keys(IvmCache *cache)
{
	return cache->empty >= (collects_at_once() ? 1 : MIN_EMPTY) && !cache->keys.complete && !cache->keys_refused &&
		is_filtered(cache->arrangement);
}

bool
ivm_cache_begin_keys(IvmCache *cache, int64 pages)
{
	if (pages > MAX_KEY_PAGES)
		cache->keys_refused = true;
	if (cache->keys_refused || (cache->empty < pages * EMPTY_PER_PAGE && !collects_at_once()))
		return false;
	cache->empty = 0;
	return ivm_key_set_begin(&cache->keys, limit / KEYS_SHARE);
}

void
ivm_cache_add_key(IvmCache *cache, uint64 hash)
{
	ivm_key_set_add(&cache->keys, hash);
}

void
ivm_cache_end_keys(IvmCache *cache)
{
	ivm_key_set_finish(&cache->keys);
	cache->keys_refused = !cache->keys.complete;
}
