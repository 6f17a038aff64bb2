/*-------------------------------------------------------------------------
 *
 * key_set.c
 *	  Which keys an arrangement has rows of, by their hashes.
 *
 * Where a filter leaves few rows of a table, most keys that are looked up in it have none, and to find
 * that out takes an index and a row of the table each time.  A set of the hashes of the keys that have
 * rows takes 16 bytes a key or less, and says so at once.
 *
 * Why that is exact.  The set has the hash of every key of which there is a row in the new state; it may have more.
 * It is collected by reading the table under a batch's snapshot.  From then on the deltas of the
 * input, which are the difference between two batches' states (cache.c), can only bring keys, and the hash of each
 * row of a delta is added before the batch's first probe.  What goes stays in the set, and is looked up in vain.
 * Equal keys have equal hashes, so what the set lacks has no rows.
 *
 * Memory: open addressing, at most half full, in an arena of the process.  If memory is short, or the set would
 * exceed its limit, it is dropped; whoever asks looks rows up then.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "arrange/key_set.h"

#define FIRST_SLOTS		1024

static IvmArena *arena = NULL;	/* of the process; NULL: not yet */

static void
reclaim_set(IvmReclaimer *self)
{
	ivm_key_set_drop((IvmKeySet *) self);
}

static uint64 *
allocate(uint64 nslots)
{
	uint64	   *slots = ivm_arena_try_alloc(arena, sizeof(uint64) * nslots);

	if (slots != NULL)
		memset(slots, 0, sizeof(uint64) * nslots);
	return slots;
}

bool
ivm_key_set_begin(IvmKeySet *set, Size limit)
{
	ivm_key_set_drop(set);
	if (arena == NULL)
		arena = ivm_arena_create("key sets", TopMemoryContext);
	if (limit < sizeof(uint64) * FIRST_SLOTS)
		return false;
	set->slots = allocate(FIRST_SLOTS);
	if (set->slots == NULL)
		return false;
	set->nslots = FIRST_SLOTS;
	set->limit = limit;
	set->reclaimer.kind = IVM_RECLAIM_CACHE;
	set->reclaimer.arena = arena;
	set->reclaimer.reclaim = reclaim_set;
	set->reclaimer.bytes = sizeof(uint64) * FIRST_SLOTS;
	return true;
}

void
ivm_key_set_drop(IvmKeySet *set)
{
	if (set->slots == NULL)
		return;
	ivm_reclaimer_remove(&set->reclaimer);
	ivm_arena_free(arena, set->slots);
	memset(set, 0, sizeof(IvmKeySet));
}

/* The place of a hash, or the free one where it belongs. */
static uint64 *
find_slot(uint64 *slots, uint64 nslots, uint64 hash)
{
	uint64		i = hash & (nslots - 1);

	while (slots[i] != 0 && slots[i] != hash)
		i = (i + 1) & (nslots - 1);
	return &slots[i];
}

/* Makes it twice as large; false if that cannot be. */
static bool
grow(IvmKeySet *set)
{
	Size		size = sizeof(uint64) * set->nslots * 2;
	bool		registered = set->reclaimer.registered;
	uint64	   *slots;

	if (size > set->limit)
		return false;
	/* the allocation may take from others what it needs, not from this one */
	ivm_reclaimer_remove(&set->reclaimer);
	slots = allocate(set->nslots * 2);
	if (slots == NULL)
		return false;
	for (uint64 i = 0; i < set->nslots; i++)
		if (set->slots[i] != 0)
			*find_slot(slots, set->nslots * 2, set->slots[i]) = set->slots[i];
	ivm_arena_free(arena, set->slots);
	set->slots = slots;
	set->nslots *= 2;
	set->reclaimer.bytes = size;
	if (registered)
		ivm_reclaimer_add(&set->reclaimer);
	return true;
}

void
ivm_key_set_add(IvmKeySet *set, uint64 hash)
{
	uint64	   *slot;

	if (set->slots == NULL)
		return;
	if (hash == 0)
		hash = 1;
	slot = find_slot(set->slots, set->nslots, hash);
	if (*slot == hash)
		return;
	*slot = hash;
	if (++set->nkeys > set->nslots / 2 && !grow(set))
		ivm_key_set_drop(set);
}

void
ivm_key_set_finish(IvmKeySet *set)
{
	if (set->slots == NULL)
		return;
	set->complete = true;
	ivm_reclaimer_add(&set->reclaimer);
}

bool
ivm_key_set_lacks(IvmKeySet *set, uint64 hash)
{
	if (!set->complete)
		return false;
	if (hash == 0)
		hash = 1;
	return *find_slot(set->slots, set->nslots, hash) == 0;
}
