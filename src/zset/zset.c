/*-------------------------------------------------------------------------
 *
 * zset.c
 *	  Consolidated Z-sets.
 *
 * A Z-set maps rows to weights.  Adding a row that is there already adds the
 * weights, so that what was inserted and deleted again leaves nothing:
 *
 *		w(A + B, r) = w(A, r) + w(B, r)			rows at zero are not there
 *
 * It is a hash table with open addressing and linear probing; an element is
 * the hash of a row's image and a pointer to the row.  Rows at zero stay until
 * the table is full; then they are freed, and the table doubles only if what
 * is left needs it.  So a stream of changes that keep cancelling out takes
 * memory for the rows that are alive, not for all that ever were.
 *
 * The place of an element is taken from the hash by a multiplication with an
 * odd number that is different for each Z-set.  With the same function for
 * all, rows that are read from one Z-set in its order and added to a smaller
 * one would come sorted by place, and fill the beginning of the table into one
 * long run: the time would grow with the square.  When a table doubles, the
 * order is kept but stretched, which does no harm.
 *
 * Where the arena may not grow, the largest Z-set is spilled (reclaim.c): all
 * its rows go to a file, in partitions by bits of a hash that equal rows share
 * (spill.c), and it goes on empty.  The same row may then be in the file several
 * times, with weights that have to be added up.  That is done when the
 * rows are looked at, one partition after the other: its rows are added to a
 * Z-set of their own, which is spilled by the next bits if it becomes too
 * large.  So nothing but the rows of one part is ever in memory.  A partition
 * of one hash alone cannot be divided by it; if the hash is not the image's it is
 * divided by that, and the key comes in several parts.
 *
 * A spill may happen within any allocation, so also in the midst of adding to the
 * Z-set itself: "spills" tells that the table is another one.  While rows
 * are looked at they stay.
 *
 * Not promised: an order, or that a row keeps its address while rows are
 * added.
 *
 * Costs: a row that is spilled is written and read once for each level; there
 * is one for each factor of 32 between rows and memory.
 *
 * Memory: rows and tables in the arena, and given back by the arena's reset
 * alone; what belongs to files in the context in which the Z-set was made.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/int.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "base/settings.h"
#include "memory/budget.h"
#include "memory/reclaim.h"
#include "zset/spill.h"
#include "zset/zset.h"

#define MINIMUM_BITS	6

/* Rows that are held at most while spilling is forced. */
#define FORCED_ROWS		8

/* Between two looks whether the budget was lowered. */
#define ADDS_PER_LOOK	1024

typedef struct ZsetElement
{
	uint64		hash;
	IvmRow	   *row;			/* NULL: free */
} ZsetElement;

struct IvmZset
{
	IvmReclaimer reclaimer;		/* must be first */
	IvmArena   *arena;
	MemoryContext context;
	TupleDesc	desc;
	IvmPartitionHash partition_hash;	/* NULL: the image's */
	void	   *partition_context;
	uint64		multiplier;		/* odd; see above */
	int			bits;			/* the table has 2 ^ bits elements */
	uint64		limit;			/* grow when "used" would exceed it */
	uint64		used;			/* elements with a row */
	int64		count;			/* those with a weight other than zero */
	ZsetElement *elements;		/* NULL: no row yet */
	Size		row_bytes;
	uint64		adds;
	uint64		spills;
	int			level;			/* of its file */
	IvmSpill   *spill;			/* NULL: all is in memory */
};

/* A file that is looked at, within a partition of another one. */
typedef struct IvmZsetLevel
{
	struct IvmZsetLevel *outer;
	IvmSpill   *spill;
	bool		owned;			/* not the Z-set's own */
	bool		by_image;		/* its partitions are by the image's hash */
	int			number;			/* of the level */
	int			partition;		/* the next one */
} IvmZsetLevel;

static inline uint64
table_size(IvmZset *zset)
{
	return zset->elements == NULL ? 0 : UINT64CONST(1) << zset->bits;
}

static inline Size
row_size(MinimalTuple tuple)
{
	return MAXALIGN(sizeof(IvmRow)) + tuple->t_len;
}

/* Tells the reclaimer how much there is to be had. */
static inline void
measure(IvmZset *zset)
{
	zset->reclaimer.bytes = zset->row_bytes + sizeof(ZsetElement) * table_size(zset);
}

/* Where the search for a hash begins. */
static inline uint64
home_position(IvmZset *zset, uint64 hash)
{
	return (hash * zset->multiplier) >> (64 - zset->bits);
}

/* Frees the rows and the table. */
static void
free_rows(IvmZset *zset)
{
	for (uint64 i = 0; i < table_size(zset); i++)
		ivm_arena_free(zset->arena, zset->elements[i].row);
	ivm_arena_free(zset->arena, zset->elements);
	zset->elements = NULL;
	zset->bits = MINIMUM_BITS;
	zset->limit = 0;
	zset->used = 0;
	zset->count = 0;
	zset->row_bytes = 0;
	measure(zset);
}

/* Writes all rows to the file; the Z-set has none in memory afterwards. */
static void
spill_rows(IvmZset *zset)
{
	if (zset->count > 0)
	{
		if (zset->spill == NULL)
		{
			MemoryContext old = MemoryContextSwitchTo(zset->context);

			zset->spill = ivm_spill_create(zset->level);
			MemoryContextSwitchTo(old);
		}
		for (uint64 i = 0; i < table_size(zset); i++)
		{
			IvmRow	   *row = zset->elements[i].row;
			uint64		hash = zset->elements[i].hash;

			if (row == NULL || row->weight == 0)
				continue;
			CHECK_FOR_INTERRUPTS();
			if (zset->partition_hash != NULL)
				hash = zset->partition_hash(zset->partition_context, ivm_row_tuple(row));
			ivm_spill_put(zset->spill, ivm_row_tuple(row), row->weight, hash);
		}
		ivm_spill_flush(zset->spill);
	}
	free_rows(zset);
	zset->spills++;
}

static void
reclaim_zset(IvmReclaimer *reclaimer)
{
	spill_rows((IvmZset *) reclaimer);
}

/*
 * An empty Z-set of rows of that shape; "desc" must live as long.  Until the
 * arena is reset it may be spilled by any allocation.
 */
IvmZset *
ivm_zset_create(IvmArena *arena, TupleDesc desc)
{
	static uint64 state = 0;
	uint64		random;
	IvmZset    *zset = ivm_arena_alloc0(arena, sizeof(IvmZset));

	zset->arena = arena;
	zset->context = CurrentMemoryContext;
	zset->desc = desc;
	zset->bits = MINIMUM_BITS;

	/*
	 * Multipliers must not be small multiples of each other, which would keep
	 * part of the order: so not a sequence of numbers, but their hashes.
	 */
	random = ++state * UINT64CONST(0x9e3779b97f4a7c15);
	random = (random ^ (random >> 29)) * UINT64CONST(0xbf58476d1ce4e5b9);
	random = (random ^ (random >> 32)) * UINT64CONST(0x94d049bb133111eb);
	zset->multiplier = (random ^ (random >> 29)) | 1;

	zset->reclaimer.kind = IVM_RECLAIM_SPILL;
	zset->reclaimer.arena = arena;
	zset->reclaimer.reclaim = reclaim_zset;
	ivm_reclaimer_add(&zset->reclaimer);
	return zset;
}

/*
 * Rows for which "hash" gives the same come in one part as long as that can be had.
 * To be said before the first row.
 */
void
ivm_zset_partition_by(IvmZset *zset, IvmPartitionHash hash, void *context)
{
	Assert(zset->count == 0 && zset->spill == NULL);
	zset->partition_hash = hash;
	zset->partition_context = context;
}

/*
 * Makes room for one more row: drops rows at zero, and doubles the table if
 * more than half of the limit is in use without them.  Nothing is changed
 * before the new table is there, and nothing can fail afterwards, so this is
 * the one loop that serves no interrupts.
 */
static void
make_room(IvmZset *zset)
{
	ZsetElement *old_elements;
	ZsetElement *elements;
	uint64		old_size;
	uint64		mask;
	uint64		spills;
	int			bits;

	for (;;)
	{
		spills = zset->spills;
		bits = zset->bits;
		if (zset->elements != NULL && zset->count > zset->limit / 2)
			bits++;
		elements = ivm_arena_alloc0(zset->arena, sizeof(ZsetElement) << bits);
		if (zset->spills == spills)
			break;
		ivm_arena_free(zset->arena, elements);	/* more than is needed now */
	}

	old_elements = zset->elements;
	old_size = table_size(zset);
	zset->bits = bits;
	zset->elements = elements;
	zset->limit = table_size(zset) / 4 * 3;
	zset->used = zset->count;
	mask = table_size(zset) - 1;

	for (uint64 i = 0; i < old_size; i++)
	{
		IvmRow	   *row = old_elements[i].row;
		uint64		position;

		if (row == NULL)
			continue;
		if (row->weight == 0)
		{
			zset->row_bytes -= row_size(ivm_row_tuple(row));
			ivm_arena_free(zset->arena, row);
			continue;
		}
		position = home_position(zset, old_elements[i].hash);
		while (elements[position].row != NULL)
			position = (position + 1) & mask;
		elements[position] = old_elements[i];
	}
	ivm_arena_free(zset->arena, old_elements);
	measure(zset);
}

/*
 * Adds "weight" copies of the slot's row, which has at least the shape's
 * columns.  Detoasts; leaves nothing in the current context.
 */
void
ivm_zset_add(IvmZset *zset, TupleTableSlot *slot, int64 weight)
{
	MinimalTuple tuple;

	if (weight == 0)
		return;
	tuple = ivm_row_form(zset->desc, slot);
	ivm_zset_add_tuple(zset, tuple, weight);
	pfree(tuple);
}

/*
 * The same with a canonical tuple, which is copied if need be.  Raises an
 * error if a weight leaves the range of bigint, and those of writing files.
 */
void
ivm_zset_add_tuple(IvmZset *zset, MinimalTuple tuple, int64 weight)
{
	uint64		hash;

	if (weight == 0)
		return;
	if (unlikely(++zset->adds % ADDS_PER_LOOK == 0))
		ivm_give_back_working();
	if (unlikely(ivm_debug_spill[0] != '\0') && zset->reclaimer.registered &&
		zset->count >= FORCED_ROWS && ivm_spill_is_forced("zset"))
		spill_rows(zset);

	hash = ivm_row_image_hash(tuple);
	for (;;)
	{
		uint64		spills;
		uint64		mask;
		uint64		position;
		IvmRow	   *row;

		if (zset->used >= zset->limit)
			make_room(zset);

		mask = table_size(zset) - 1;
		position = home_position(zset, hash);
		while ((row = zset->elements[position].row) != NULL)
		{
			if (zset->elements[position].hash == hash &&
				ivm_row_image_equal(ivm_row_tuple(row), tuple))
			{
				int64		sum;

				if (pg_add_s64_overflow(row->weight, weight, &sum))
					ereport(ERROR,
							(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
							 errmsg("weight of a row is out of range")));
				zset->count += (sum != 0) - (row->weight != 0);
				row->weight = sum;
				return;
			}
			position = (position + 1) & mask;
		}

		spills = zset->spills;
		row = ivm_row_make(zset->arena, tuple, weight, hash);
		if (zset->spills != spills)
		{
			/* the table has gone to the file meanwhile */
			ivm_arena_free(zset->arena, row);
			continue;
		}
		zset->elements[position].hash = hash;
		zset->elements[position].row = row;
		zset->used++;
		zset->count++;
		zset->row_bytes += row_size(tuple);
		zset->reclaimer.bytes += row_size(tuple);
		return;
	}
}

/*
 * True if there is no row with a weight other than zero; false also if there is one
 * in the file that cancels out.
 */
bool
ivm_zset_is_empty(IvmZset *zset)
{
	return zset->count == 0 && zset->spill == NULL;
}

/*
 * Number of rows with a weight other than zero (not the sum of weights), or
 * somewhat more if some are in the file.
 */
int64
ivm_zset_count(IvmZset *zset)
{
	int64		count = zset->count;

	for (int i = 0; i < IVM_SPILL_PARTITIONS && zset->spill != NULL; i++)
		count += ivm_spill_rows(zset->spill, i);
	return count;
}

/*
 * Bytes of rows and table in memory.
 */
Size
ivm_zset_bytes(IvmZset *zset)
{
	return zset->reclaimer.bytes;
}

/*
 * Frees everything but the handle.
 */
void
ivm_zset_clear(IvmZset *zset)
{
	free_rows(zset);
	if (zset->spill != NULL)
		ivm_spill_destroy(zset->spill);
	zset->spill = NULL;
}

/*
 * The Z-set is not needed any more.  A file that is open when the transaction
 * commits would be taken for a leak; memory is the arena's to free.
 */
void
ivm_zset_close(IvmZset *zset)
{
	ivm_reclaimer_remove(&zset->reclaimer);
	if (zset->spill != NULL)
		ivm_spill_destroy(zset->spill);
	zset->spill = NULL;
}

/*
 * Looking at the rows
 */

static void
push_level(IvmZsetParts *parts, IvmSpill *spill, bool owned, int number, bool by_image)
{
	IvmZsetLevel *level = MemoryContextAlloc(parts->zset->context, sizeof(IvmZsetLevel));

	level->outer = parts->level;
	level->spill = spill;
	level->owned = owned;
	level->number = number;
	level->by_image = by_image;
	level->partition = 0;
	parts->level = level;
}

static void
pop_level(IvmZsetParts *parts)
{
	IvmZsetLevel *level = parts->level;

	parts->level = level->outer;
	if (level->owned)
		ivm_spill_destroy(level->spill);
	pfree(level);
}

/*
 * Begins a look at all rows.  What is more than may stay in memory is
 * written to the file first.
 */
void
ivm_zset_parts_begin(IvmZset *zset, IvmZsetParts *parts)
{
	memset(parts, 0, sizeof(IvmZsetParts));
	parts->zset = zset;
	if (zset->spill != NULL || (zset->count > 1 && ivm_zset_bytes(zset) > ivm_pin_limit()))
	{
		spill_rows(zset);
		push_level(parts, zset->spill, false, zset->level, zset->partition_hash == NULL);
	}
	ivm_reclaimer_remove(&zset->reclaimer);
}

/*
 * Reads the next partition of the innermost file into "loaded".  If it is too large, it becomes
 * a file of its own, one level further in, and the answer is false.
 */
static bool
load_partition(IvmZsetParts *parts)
{
	IvmZsetLevel *level = parts->level;
	int			partition = level->partition++;
	bool		uniform = ivm_spill_is_uniform(level->spill, partition);
	bool		divisible = true;
	IvmZset    *loaded = parts->loaded;
	IvmSpillReader reader;
	IvmRow	   *row;

	loaded->partition_hash = level->by_image ? NULL : parts->zset->partition_hash;
	loaded->partition_context = parts->zset->partition_context;
	loaded->level = level->number + 1;
	if (uniform && !level->by_image)
	{
		loaded->partition_hash = NULL;
		loaded->level = 0;
	}
	else if (uniform || loaded->level == IVM_SPILL_LEVELS)
		divisible = false;

	if (divisible)
		ivm_reclaimer_add(&loaded->reclaimer);
	ivm_spill_read_begin(level->spill, partition, &reader);
	while ((row = ivm_spill_read_next(&reader)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		if (divisible && loaded->count > 1 && ivm_zset_bytes(loaded) > ivm_pin_limit())
			spill_rows(loaded);
		ivm_zset_add_tuple(loaded, ivm_row_tuple(row), row->weight);
	}
	ivm_spill_read_end(&reader);
	ivm_reclaimer_remove(&loaded->reclaimer);

	if (loaded->spill == NULL)
		return true;
	spill_rows(loaded);
	push_level(parts, loaded->spill, true, loaded->level, loaded->partition_hash == NULL);
	loaded->spill = NULL;
	return false;
}

/*
 * The next part: its rows, in the order of nothing, and their number, which may be 0; or NULL.
 */
IvmRow	  **
ivm_zset_parts_next(IvmZsetParts *parts, int64 *count)
{
	IvmZset    *zset = parts->zset;
	IvmZset    *from = zset;
	int64		n = 0;

	if (parts->rows != NULL)
	{
		ivm_arena_free(zset->arena, parts->rows);
		parts->rows = NULL;
	}
	if (parts->level == NULL)
	{
		if (parts->begun)
			return NULL;
	}
	else
	{
		if (parts->loaded == NULL)
		{
			MemoryContext old = MemoryContextSwitchTo(zset->context);

			parts->loaded = ivm_zset_create(zset->arena, zset->desc);
			ivm_reclaimer_remove(&parts->loaded->reclaimer);
			MemoryContextSwitchTo(old);
		}
		from = parts->loaded;
		for (;;)
		{
			free_rows(from);
			while (parts->level->partition == IVM_SPILL_PARTITIONS)
			{
				if (parts->level->outer == NULL)
					return NULL;
				pop_level(parts);
			}
			if (ivm_spill_rows(parts->level->spill, parts->level->partition) == 0)
				parts->level->partition++;
			else if (load_partition(parts) && from->count > 0)
				break;
		}
	}
	parts->begun = true;

	parts->rows = ivm_arena_alloc(zset->arena, sizeof(IvmRow *) * Max(from->count, 1));
	for (uint64 i = 0; i < table_size(from); i++)
	{
		IvmRow	   *row = from->elements[i].row;

		if (row == NULL || row->weight == 0)
			continue;
		row->hash = from->elements[i].hash;
		row->next = NULL;
		parts->rows[n++] = row;
	}
	Assert(n == from->count);
	*count = n;
	return parts->rows;
}

/*
 * The look is over, at the end or before.  Rows may be added again.
 */
void
ivm_zset_parts_end(IvmZsetParts *parts)
{
	if (parts->rows != NULL)
		ivm_arena_free(parts->zset->arena, parts->rows);
	if (parts->loaded != NULL)
	{
		free_rows(parts->loaded);
		ivm_arena_free(parts->zset->arena, parts->loaded);
	}
	while (parts->level != NULL)
		pop_level(parts);
	ivm_reclaimer_add(&parts->zset->reclaimer);
	memset(parts, 0, sizeof(IvmZsetParts));
}

/*
 * The shape given at creation.
 */
TupleDesc
ivm_zset_desc(IvmZset *zset)
{
	return zset->desc;
}
