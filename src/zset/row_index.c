/*-------------------------------------------------------------------------
 *
 * row_index.c
 *	  Rows found by a hash: in memory, or in a file that is sorted by it.
 *
 * Rows are added, all of them, and then found by the hash that they were added
 * with, or walked in its order.  As long as there is memory they hang in the buckets of a hash table, which
 * are ranges of the hash, in order.
 * Otherwise they are put into a partitioned file (spill.c); when all are there,
 * its partitions, which are ranges of the hash, are sorted one after the other and
 * written to a second file, in which the rows stand in the order of the hash.
 * A partition that is too large to be sorted in memory is divided further;
 * one that has a single hash is in order as it is, however large.
 *
 * Of the sorted file there is a sparse index in memory: hash and offset of the first row
 * of each block of BLOCK_SIZE bytes.  If that gets too many entries, every second is
 * dropped, and blocks are twice as large from then on.  To find a hash is a binary search and a
 * scan from the beginning of one block, and the rows themselves are streamed: of
 * many rows with one hash, one is in memory.  If hashes are looked for in
 * ascending order the scan goes on where the last one ended.
 *
 * The file's own buffer is the cache: looking the same hash up again reads
 * nothing.
 *
 * An index in memory is a reclaimer: it goes to the file when memory is short
 * elsewhere.  That may happen within any allocation, so also in the midst of
 * adding or looking.  The rows that are just being looked at stay until that is over,
 * so there must not be more of one hash than ivm_pin_limit(); if there are, the
 * index goes to the file when they are looked for.
 *
 * Not done: keeping the smaller part of the rows in memory.  Probes come in an order that
 * the reader chooses, and a file that is read in order costs little.
 *
 * Costs in the file: 24 bytes a row, written and read once for each level of
 * partitions, and once more sorted.
 *
 * Memory: the handle, rows, buckets and sparse index in the arena; what belongs
 * to the files in the context in which the index was made.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/buffile.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "base/settings.h"
#include "memory/reclaim.h"
#include "zset/row_index.h"
#include "zset/spill.h"

#define BLOCK_SIZE			8192

/* The same while spilling is forced; and bytes that are sorted in memory. */
#define FORCED_BLOCK_SIZE	128
#define FORCED_SORT_SIZE	512

/* Entries of the sparse index: at first, at least, and while spilling is forced. */
#define FIRST_ENTRIES		64
#define MINIMUM_ENTRIES		1024
#define FORCED_ENTRIES		64

/* Hash and place of the first row of a block. */
typedef struct BlockEntry
{
	uint64		hash;
	int64		offset;
} BlockEntry;

/* What stands in front of a row's tuple in the file. */
typedef struct StoredRow
{
	uint64		length;			/* of the tuple */
	int64		weight;
	uint64		hash;
} StoredRow;

struct IvmRowIndex
{
	IvmReclaimer reclaimer;		/* must be first */
	IvmArena   *arena;
	MemoryContext context;
	bool		forced;			/* a test wants everything in the file */
	bool		finished;
	uint64		count;

	/* rows in memory */
	IvmRow	   *rows;			/* until all are added, linked */
	uint64		nbuckets;
	int			bucket_shift;	/* the bits of a hash above it are its
								 * bucket's number */
	IvmRow	  **buckets;
	bool		check_size;		/* one hash may have more than the limit */
	bool		measured;		/* as the one that was looked for last: */
	uint64		measured_hash;
	Size		measured_size;
	bool		looking;		/* a search is under way in memory */
	IvmRow	   *next;			/* of the search */
	IvmRow	   *held;			/* its bucket, when all others have gone to
								 * the file */

	/* rows in files */
	IvmSpill   *spill;			/* until all are added */
	BufFile    *file;			/* sorted; NULL: rows are in memory, or there
								 * is none */
	int64		end;
	int64		block_size;
	int64		next_block;		/* the block of a row from here on has no
								 * entry yet */
	BlockEntry *entries;
	int			nentries;
	int			allocated;

	uint64		wanted;			/* hash that is looked for */
	bool		ended;			/* no more rows of it */
	int64		position;		/* in the file, of the next row; rows before
								 * it have no hash above "wanted" */
	bool		positioned;		/* the file is there */
	IvmRow	   *found;
	Size		found_size;
};

static void reclaim_index(IvmReclaimer *reclaimer);

IvmRowIndex *
ivm_row_index_create(IvmArena *arena)
{
	IvmRowIndex *index = ivm_arena_alloc0(arena, sizeof(IvmRowIndex));

	index->arena = arena;
	index->context = CurrentMemoryContext;
	index->forced = ivm_debug_spill[0] != '\0' && ivm_spill_is_forced("lookup");
	index->block_size = index->forced ? FORCED_BLOCK_SIZE : BLOCK_SIZE;
	index->reclaimer.kind = IVM_RECLAIM_SPILL;
	index->reclaimer.arena = arena;
	index->reclaimer.reclaim = reclaim_index;
	ivm_reclaimer_add(&index->reclaimer);
	return index;
}

static void
free_chain(IvmRowIndex *index, IvmRow *chain)
{
	while (chain != NULL)
	{
		IvmRow	   *next = chain->next;

		ivm_arena_free(index->arena, chain);
		chain = next;
	}
}

/* Frees all rows in memory; the bucket that is being looked at is held. */
static void
free_rows(IvmRowIndex *index)
{
	free_chain(index, index->rows);
	index->rows = NULL;
	for (uint64 i = 0; i < index->nbuckets; i++)
	{
		if (index->looking && i == index->wanted >> index->bucket_shift)
			index->held = index->buckets[i];
		else
			free_chain(index, index->buckets[i]);
	}
	ivm_arena_free(index->arena, index->buckets);
	index->buckets = NULL;
	index->nbuckets = 0;
	index->reclaimer.bytes = 0;
}

static void
end_look(IvmRowIndex *index)
{
	index->looking = false;
	free_chain(index, index->held);
	index->held = NULL;
}

void
ivm_row_index_close(IvmRowIndex *index)
{
	ivm_reclaimer_remove(&index->reclaimer);
	if (index->spill != NULL)
		ivm_spill_destroy(index->spill);
	index->spill = NULL;
	if (index->file != NULL)
		BufFileClose(index->file);
	index->file = NULL;
}

void
ivm_row_index_destroy(IvmRowIndex *index)
{
	ivm_row_index_close(index);
	end_look(index);
	free_rows(index);
	ivm_arena_free(index->arena, index->entries);
	ivm_arena_free(index->arena, index->found);
	ivm_arena_free(index->arena, index);
}

/*
 * To the file
 */

static void
put_chain(IvmRowIndex *index, IvmRow *chain)
{
	for (; chain != NULL; chain = chain->next)
	{
		CHECK_FOR_INTERRUPTS();
		ivm_spill_put(index->spill, ivm_row_tuple(chain), chain->weight, chain->hash);
	}
}

/* All rows in memory to the partitioned file. */
static void
spill_rows(IvmRowIndex *index)
{
	if (index->spill == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(index->context);

		index->spill = ivm_spill_create(0);
		MemoryContextSwitchTo(old);
	}
	put_chain(index, index->rows);
	for (uint64 i = 0; i < index->nbuckets; i++)
		put_chain(index, index->buckets[i]);
	ivm_spill_flush(index->spill);
	free_rows(index);
}

/* Room for one more entry of the sparse index. */
static void
make_room_for_entry(IvmRowIndex *index)
{
	int			fitting = ivm_pin_limit() / 4 / sizeof(BlockEntry);
	int			most = index->forced ? FORCED_ENTRIES : Max(MINIMUM_ENTRIES, fitting);

	if (index->nentries < index->allocated)
		return;
	if (index->nentries < most)
	{
		int			size = Max(FIRST_ENTRIES, index->allocated * 2);
		BlockEntry *entries = ivm_arena_alloc(index->arena, sizeof(BlockEntry) * size);

		if (index->nentries > 0)
			memcpy(entries, index->entries, sizeof(BlockEntry) * index->nentries);
		ivm_arena_free(index->arena, index->entries);
		index->entries = entries;
		index->allocated = size;
		return;
	}
	index->nentries = (index->nentries + 1) / 2;
	for (int i = 0; i < index->nentries; i++)
		index->entries[i] = index->entries[i * 2];
	index->block_size *= 2;
}

/* Appends a row to the sorted file. */
static void
store_row(IvmRowIndex *index, IvmRow *row)
{
	MinimalTuple tuple = ivm_row_tuple(row);
	StoredRow	header = {tuple->t_len, row->weight, row->hash};

	CHECK_FOR_INTERRUPTS();
	if (index->end >= index->next_block)
	{
		make_room_for_entry(index);
		index->entries[index->nentries].hash = row->hash;
		index->entries[index->nentries++].offset = index->end;
		index->next_block = index->end + index->block_size;
	}
	BufFileWrite(index->file, &header, sizeof(header));
	BufFileWrite(index->file, tuple, tuple->t_len);
	index->end += sizeof(header) + tuple->t_len;
}

/* Sorts a partition in the memory that is given, and appends it. */
static void
store_sorted(IvmRowIndex *index, IvmSpill *spill, int partition, char *memory)
{
	uint64		count = ivm_spill_rows(spill, partition);
	IvmRow	  **rows = (IvmRow **) memory;
	char	   *place = memory + MAXALIGN(sizeof(IvmRow *) * count);
	uint64		n = 0;
	IvmSpillReader reader;
	IvmRow	   *row;

	ivm_spill_read_begin(spill, partition, &reader);
	while ((row = ivm_spill_read_next(&reader)) != NULL)
	{
		Size		size = MAXALIGN(sizeof(IvmRow)) + ivm_row_tuple(row)->t_len;

		memcpy(place, row, size);
		rows[n++] = (IvmRow *) place;
		place += MAXALIGN(size);
	}
	ivm_spill_read_end(&reader);
	Assert(n == count);
	qsort(rows, n, sizeof(IvmRow *), ivm_row_compare_hashes);
	for (uint64 i = 0; i < n; i++)
		store_row(index, rows[i]);
}

static void store_partitions(IvmRowIndex *index, IvmSpill *spill, int level);

/* Puts a partition into a file of its own, divided by the next bits, and goes on with that. */
static void
store_divided(IvmRowIndex *index, IvmSpill *spill, int partition, int level)
{
	IvmSpill   *inner = ivm_spill_create(level);
	IvmSpillReader reader;
	IvmRow	   *row;

	check_stack_depth();
	ivm_spill_read_begin(spill, partition, &reader);
	while ((row = ivm_spill_read_next(&reader)) != NULL)
		ivm_spill_put(inner, ivm_row_tuple(row), row->weight, row->hash);
	ivm_spill_read_end(&reader);
	ivm_spill_flush(inner);
	store_partitions(index, inner, level);
	ivm_spill_destroy(inner);
}

/* Appends all partitions of a file: by the rising bits of the hash, so in its order. */
static void
store_partitions(IvmRowIndex *index, IvmSpill *spill, int level)
{
	Size		limit = index->forced ? FORCED_SORT_SIZE : ivm_pin_limit();

	for (int partition = 0; partition < IVM_SPILL_PARTITIONS; partition++)
	{
		uint64		count = ivm_spill_rows(spill, partition);
		bool		is_last_level = level + 1 == IVM_SPILL_LEVELS;
		Size		size;
		char	   *memory = NULL;

		if (count == 0)
			continue;
		if (ivm_spill_is_uniform(spill, partition))
		{
			IvmSpillReader reader;
			IvmRow	   *row;

			ivm_spill_read_begin(spill, partition, &reader);
			while ((row = ivm_spill_read_next(&reader)) != NULL)
				store_row(index, row);
			ivm_spill_read_end(&reader);
			continue;
		}
		size = MAXALIGN(sizeof(IvmRow *) * count) + ivm_spill_bytes(spill, partition);
		if (is_last_level)
			memory = ivm_arena_alloc(index->arena, size);
		else if (size <= limit)
			memory = ivm_arena_try_alloc(index->arena, size);
		if (memory == NULL)
			store_divided(index, spill, partition, level + 1);
		else
			store_sorted(index, spill, partition, memory);
		ivm_arena_free(index->arena, memory);
	}
}

/* From the partitioned file to the sorted one. */
static void
sort_rows(IvmRowIndex *index)
{
	MemoryContext old = MemoryContextSwitchTo(index->context);
	ResourceOwner owner = CurrentResourceOwner;

	ivm_spill_flush(index->spill);
	CurrentResourceOwner = TopTransactionResourceOwner;
	index->file = BufFileCreateTemp(false);
	CurrentResourceOwner = owner;
	store_partitions(index, index->spill, 0);
	ivm_spill_destroy(index->spill);
	index->spill = NULL;
	MemoryContextSwitchTo(old);
}

/* All that is in memory to the file. */
static void
leave_memory(IvmRowIndex *index)
{
	ivm_reclaimer_remove(&index->reclaimer);
	spill_rows(index);
	if (index->finished)
		sort_rows(index);
}

static void
reclaim_index(IvmReclaimer *reclaimer)
{
	if (reclaimer->bytes > 0)
		leave_memory((IvmRowIndex *) reclaimer);
}

/*
 * Adding
 */

void
ivm_row_index_add(IvmRowIndex *index, MinimalTuple tuple, int64 weight, uint64 hash)
{
	Size		size = MAXALIGN(sizeof(IvmRow)) + tuple->t_len;
	IvmRow	   *row = NULL;

	Assert(!index->finished);
	index->count++;
	if (index->spill == NULL)
	{
		if (!index->forced)
			row = ivm_arena_try_alloc(index->arena, size);
		if (row == NULL)
			leave_memory(index);
	}
	if (index->spill != NULL)
	{
		ivm_arena_free(index->arena, row);
		ivm_spill_put(index->spill, tuple, weight, hash);
		return;
	}
	row->weight = weight;
	row->hash = hash;
	memcpy(ivm_row_tuple(row), tuple, tuple->t_len);
	row->next = index->rows;
	index->rows = row;
	index->reclaimer.bytes += size;
}

/* Hangs the rows into buckets; false if there is no memory for these. */
static bool
build_buckets(IvmRowIndex *index)
{
	uint64		n = 16;
	int			shift = 60;
	IvmRow	  **buckets;

	for (; n < index->count; shift--)
		n *= 2;
	buckets = ivm_arena_try_alloc(index->arena, sizeof(IvmRow *) * n);
	if (buckets == NULL)
		return false;
	if (index->spill != NULL)
	{
		/* the rows have gone to the file meanwhile */
		ivm_arena_free(index->arena, buckets);
		return false;
	}
	memset(buckets, 0, sizeof(IvmRow *) * n);
	for (IvmRow *row = index->rows, *next; row != NULL; row = next)
	{
		IvmRow	  **bucket = &buckets[row->hash >> shift];

		next = row->next;
		row->next = *bucket;
		*bucket = row;
	}
	index->rows = NULL;
	index->buckets = buckets;
	index->nbuckets = n;
	index->bucket_shift = shift;
	index->reclaimer.bytes += sizeof(IvmRow *) * n;
	return true;
}

void
ivm_row_index_finish(IvmRowIndex *index)
{
	if (index->count > 0 && index->spill == NULL && !build_buckets(index) && index->spill == NULL)
		leave_memory(index);
	if (index->spill != NULL)
		sort_rows(index);
	index->finished = true;
	index->check_size = index->reclaimer.bytes > ivm_pin_limit();
}

bool
ivm_row_index_is_empty(IvmRowIndex *index)
{
	return index->count == 0;
}

/*
 * Finding
 */

static void
file_error(void)
{
	ereport(ERROR,
			(errcode_for_file_access(),
			 errmsg("could not read from temporary file of an incremental view")));
}

static void
seek(IvmRowIndex *index, int64 offset)
{
	if (BufFileSeek(index->file, 0, offset, SEEK_SET) != 0)
		file_error();
	index->position = offset;
	index->positioned = true;
}

/* The last block that begins with a hash below the one wanted: rows with that one may be at its end. */
static int64
block_of(IvmRowIndex *index, uint64 hash)
{
	int			low = 0;
	int			high = index->nentries - 1;

	while (low < high)
	{
		int			middle = low + (high - low + 1) / 2;

		if (index->entries[middle].hash < hash)
			low = middle;
		else
			high = middle - 1;
	}
	return index->entries[low].offset;
}

static void
find_in_file(IvmRowIndex *index, uint64 hash)
{
	int64		offset = block_of(index, hash);

	if (!index->positioned || hash <= index->wanted || index->position < offset)
		seek(index, offset);
	else
		seek(index, index->position);
	index->wanted = hash;
	index->ended = false;
}

static IvmRow *
next_in_file(IvmRowIndex *index)
{
	while (!index->ended && index->position < index->end)
	{
		StoredRow	header;
		Size		size;

		if (BufFileRead(index->file, &header, sizeof(header)) != sizeof(header))
			file_error();
		if (header.hash > index->wanted)
			break;
		if (header.hash < index->wanted)
		{
			CHECK_FOR_INTERRUPTS();
			seek(index, index->position + sizeof(header) + header.length);
			continue;
		}
		size = MAXALIGN(sizeof(IvmRow)) + header.length;
		if (size > index->found_size)
		{
			ivm_arena_free(index->arena, index->found);
			index->found = NULL;
			index->found_size = 0;
			index->found = ivm_arena_alloc(index->arena, size);
			index->found_size = size;
		}
		if (BufFileRead(index->file, ivm_row_tuple(index->found), header.length) != header.length)
			file_error();
		index->position += sizeof(header) + header.length;
		index->found->next = NULL;
		index->found->weight = header.weight;
		index->found->hash = header.hash;
		return index->found;
	}
	index->ended = true;
	return NULL;
}

/*
 * Has one hash more rows than may be held in memory?  Whoever asks many times for the first row
 * of a key that many rows have need not pay for all of them each time.
 */
static bool
is_too_large(IvmRowIndex *index, uint64 hash)
{
	if (!index->measured || index->measured_hash != hash)
	{
		index->measured = true;
		index->measured_hash = hash;
		index->measured_size = 0;
		for (IvmRow *row = index->buckets[hash >> index->bucket_shift]; row != NULL; row = row->next)
		{
			if (row->hash == hash)
				index->measured_size += MAXALIGN(sizeof(IvmRow)) + ivm_row_tuple(row)->t_len;
		}
	}
	return index->measured_size > ivm_pin_limit();
}

void
ivm_row_index_find(IvmRowIndex *index, uint64 hash)
{
	Assert(index->finished);
	if (index->looking)
		end_look(index);
	if (index->buckets != NULL && index->check_size && is_too_large(index, hash))
		leave_memory(index);
	if (index->file != NULL)
		find_in_file(index, hash);
	else if (index->buckets != NULL)
	{
		index->wanted = hash;
		index->ended = true;	/* for the file, should it come to that */
		index->next = index->buckets[hash >> index->bucket_shift];
		index->looking = index->next != NULL;
	}
}

IvmRow *
ivm_row_index_next(IvmRowIndex *index)
{
	if (index->looking)
	{
		while (index->next != NULL)
		{
			IvmRow	   *row = index->next;

			index->next = row->next;
			if (row->hash == index->wanted)
				return row;
		}
		end_look(index);
		return NULL;
	}
	return index->file == NULL ? NULL : next_in_file(index);
}

/*
 * Walking
 */

static bool
walk_file(IvmRowIndex *index, uint64 *hash)
{
	find_in_file(index, *hash);
	index->ended = true;
	while (index->position < index->end)
	{
		StoredRow	header;

		if (BufFileRead(index->file, &header, sizeof(header)) != sizeof(header))
			file_error();
		if (header.hash >= *hash)
		{
			/* the row itself is for who looks for it */
			*hash = header.hash;
			return true;
		}
		CHECK_FOR_INTERRUPTS();
		seek(index, index->position + sizeof(header) + header.length);
	}
	return false;
}

bool
ivm_row_index_walk(IvmRowIndex *index, uint64 *hash)
{
	Assert(index->finished);
	if (index->looking)
		end_look(index);
	if (index->file != NULL)
		return walk_file(index, hash);
	for (uint64 i = *hash >> index->bucket_shift; i < index->nbuckets; i++)
	{
		uint64		least = 0;
		bool		found = false;

		for (IvmRow *row = index->buckets[i]; row != NULL; row = row->next)
		{
			if (row->hash < *hash || (found && row->hash >= least))
				continue;
			least = row->hash;
			found = true;
		}
		if (found)
		{
			*hash = least;
			return true;
		}
	}
	return false;
}
