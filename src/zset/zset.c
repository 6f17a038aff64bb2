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
 * Not promised: an order, or that a row keeps its address while rows are
 * added (one at zero may be freed).
 *
 * Memory: all of it in the arena, and given back by the arena's reset alone.
 * If the arena may not grow, the error leaves the Z-set as it was.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/int.h"

#include "zset/zset.h"

#define MINIMUM_BITS	6

typedef struct ZsetElement
{
	uint64		hash;
	IvmRow	   *row;			/* NULL: free */
} ZsetElement;

struct IvmZset
{
	IvmArena   *arena;
	TupleDesc	desc;
	uint64		multiplier;		/* odd; see above */
	int			bits;			/* the table has 2 ^ bits elements */
	uint64		limit;			/* grow when "used" would exceed it */
	uint64		used;			/* elements with a row */
	int64		count;			/* those with a weight other than zero */
	ZsetElement *elements;
};

static inline uint64
table_size(IvmZset *zset)
{
	return UINT64CONST(1) << zset->bits;
}

/* Where the search for a hash begins. */
static inline uint64
home_position(IvmZset *zset, uint64 hash)
{
	return (hash * zset->multiplier) >> (64 - zset->bits);
}

/*
 * An empty Z-set of rows of that shape; "desc" must live as long.
 */
IvmZset *
ivm_zset_create(IvmArena *arena, TupleDesc desc)
{
	static uint64 state = 0;
	uint64		random;
	IvmZset    *zset = ivm_arena_alloc0(arena, sizeof(IvmZset));

	zset->arena = arena;
	zset->desc = desc;

	/*
	 * Multipliers must not be small multiples of each other, which would keep
	 * part of the order: so not a sequence of numbers, but their hashes.
	 */
	random = ++state * UINT64CONST(0x9e3779b97f4a7c15);
	random = (random ^ (random >> 29)) * UINT64CONST(0xbf58476d1ce4e5b9);
	random = (random ^ (random >> 32)) * UINT64CONST(0x94d049bb133111eb);
	zset->multiplier = (random ^ (random >> 29)) | 1;

	zset->bits = MINIMUM_BITS;
	zset->limit = table_size(zset) / 4 * 3;
	zset->elements = ivm_arena_alloc0(arena, sizeof(ZsetElement) * table_size(zset));
	return zset;
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
	ZsetElement *old_elements = zset->elements;
	uint64		old_size = table_size(zset);
	int			bits = zset->bits;
	ZsetElement *elements;
	uint64		mask;

	if (zset->count > zset->limit / 2)
		bits++;
	elements = ivm_arena_alloc0(zset->arena, sizeof(ZsetElement) << bits);

	zset->bits = bits;
	zset->limit = table_size(zset) / 4 * 3;
	zset->used = zset->count;
	zset->elements = elements;
	mask = table_size(zset) - 1;

	for (uint64 i = 0; i < old_size; i++)
	{
		IvmRow	   *row = old_elements[i].row;
		uint64		position;

		if (row == NULL)
			continue;
		if (row->weight == 0)
		{
			ivm_arena_free(zset->arena, row);
			continue;
		}
		position = home_position(zset, old_elements[i].hash);
		while (elements[position].row != NULL)
			position = (position + 1) & mask;
		elements[position] = old_elements[i];
	}
	ivm_arena_free(zset->arena, old_elements);
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
 * error if a weight leaves the range of bigint.
 */
void
ivm_zset_add_tuple(IvmZset *zset, MinimalTuple tuple, int64 weight)
{
	uint64		hash;
	uint64		mask;
	uint64		position;
	IvmRow	   *row;

	if (weight == 0)
		return;
	if (zset->used >= zset->limit)
		make_room(zset);

	hash = ivm_row_image_hash(tuple);
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

	row = ivm_row_make(zset->arena, tuple, weight, hash);
	zset->elements[position].hash = hash;
	zset->elements[position].row = row;
	zset->used++;
	zset->count++;
}

/*
 * Number of rows with a weight other than zero (not the sum of weights).
 */
int64
ivm_zset_count(IvmZset *zset)
{
	return zset->count;
}

/*
 * Begins an iteration over the rows with a weight other than zero, in no
 * particular order.  Nothing may be added until it is over.
 */
void
ivm_zset_iterate(IvmZset *zset, IvmZsetIterator *iterator)
{
	iterator->zset = zset;
	iterator->position = 0;
}

/*
 * The next row, or NULL.  It is in the arena; row->hash is the image's hash,
 * row->next is the caller's to use.
 */
IvmRow *
ivm_zset_next(IvmZsetIterator *iterator)
{
	IvmZset    *zset = iterator->zset;
	uint64		size = table_size(zset);

	while (iterator->position < size)
	{
		IvmRow	   *row = zset->elements[iterator->position++].row;

		if (row != NULL && row->weight != 0)
			return row;
	}
	return NULL;
}

/*
 * All rows with a weight other than zero as an array in the arena, in the
 * order of iteration.  The array is the caller's, the rows stay the Z-set's.
 */
IvmRow	  **
ivm_zset_rows(IvmZset *zset, int64 *count)
{
	IvmRow	  **rows = ivm_arena_alloc(zset->arena, sizeof(IvmRow *) * Max(zset->count, 1));
	IvmZsetIterator iterator;
	IvmRow	   *row;
	int64		n = 0;

	ivm_zset_iterate(zset, &iterator);
	while ((row = ivm_zset_next(&iterator)) != NULL)
		rows[n++] = row;
	Assert(n == zset->count);
	*count = n;
	return rows;
}

/*
 * The shape given at creation.
 */
TupleDesc
ivm_zset_desc(IvmZset *zset)
{
	return zset->desc;
}
