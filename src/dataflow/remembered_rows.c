/*-------------------------------------------------------------------------
 *
 * remembered_rows.c
 *	  The rows of one key, as values, for as long as there is memory.
 *
 * A join that looks a key up again and again (probe.c) keeps its rows here,
 * ready to be used: values and nulls of all columns, as a receiver wants them, with a
 * copy of what the values point to.  There are those of one key at a time.
 *
 * They are a cache that can be dropped at any time but while they are gone through or
 * added to: a receiver may do anything, so they stay in place for it.  Some of a key's
 * rows are of no use: if one does not fit, all are dropped.  So either all rows that
 * were added are there, or none is, and "whole" says which; a key without rows is
 * whole, too.
 *
 * It costs a copy of each row, and no allocation for most: rows are put into chunks one
 * after the other, and the chunks are kept for the next key's.  The first chunk
 * is small, for the many keys that have few rows.
 *
 * Memory: chunks in the arena, within the limit given, until the run ends.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/settings.h"
#include "dataflow/remembered_rows.h"
#include "memory/reclaim.h"
#include "zset/value_row.h"

/* Sizes of chunks: the first one, which many keys use, and others. */
#define FIRST_CHUNK_SIZE	((Size) 8 * 1024)
#define CHUNK_SIZE			((Size) 64 * 1024)

/* Memory while spilling is forced. */
#define FORCED_MEMORY		((Size) 512)

typedef struct Chunk
{
	struct Chunk *next;
	Size		size;			/* with this header */
	Size		used;
} Chunk;

/* In the arena, since that forgets its reclaimers after plans are gone. */
typedef struct ChunkList
{
	IvmReclaimer reclaimer;		/* must be first */
	IvmRememberedRows *rows;
	Chunk	   *first;
	Chunk	   *last;			/* the last one that has rows */
} ChunkList;

struct IvmRememberedRows
{
	IvmValueRowShape shape;

	/* of the batch */
	IvmArena   *arena;

	/* of the run */
	Size		memory;			/* limit of the chunks */
	ChunkList  *chunks;			/* NULL: none yet */

	/* of the key */
	bool		whole;			/* all rows that were added are there */
};

IvmRememberedRows *
ivm_remembered_rows_create(TupleDesc desc)
{
	IvmRememberedRows *rows = palloc0(sizeof(IvmRememberedRows));

	ivm_value_row_shape(&rows->shape, desc);
	return rows;
}

void
ivm_remembered_rows_begin(IvmRememberedRows *rows, IvmArena *arena)
{
	rows->arena = arena;
	rows->memory = 0;
	rows->chunks = NULL;
	rows->whole = false;
}

void
ivm_remembered_rows_start(IvmRememberedRows *rows, Size memory)
{
	rows->memory = memory;
	if (ivm_debug_spill[0] != '\0' && ivm_spill_is_forced("lookup"))
		rows->memory = FORCED_MEMORY;
}

/*
 * Chunks
 */

static void
free_chunks(IvmRememberedRows *rows)
{
	Chunk	   *chunk;

	if (rows->chunks == NULL)
		return;
	ivm_reclaimer_remove(&rows->chunks->reclaimer);
	chunk = rows->chunks->first;
	while (chunk != NULL)
	{
		Chunk	   *next = chunk->next;

		ivm_arena_free(rows->arena, chunk);
		chunk = next;
	}
	ivm_arena_free(rows->arena, rows->chunks);
	rows->chunks = NULL;
}

static void
reclaim_chunks(IvmReclaimer *reclaimer)
{
	IvmRememberedRows *rows = ((ChunkList *) reclaimer)->rows;

	free_chunks(rows);
	rows->whole = false;
}

/* While rows are gone through they cannot be had back. */
static void
pin_chunks(IvmRememberedRows *rows)
{
	if (rows->chunks != NULL)
		ivm_reclaimer_remove(&rows->chunks->reclaimer);
}

static void
unpin_chunks(IvmRememberedRows *rows)
{
	if (rows->chunks != NULL)
		ivm_reclaimer_add(&rows->chunks->reclaimer);
}

/* Makes the next chunk; false if there is no memory for a row of that size. */
static bool
add_chunk(IvmRememberedRows *rows, Size size)
{
	ChunkList  *chunks = rows->chunks;
	Size		needed = MAXALIGN(sizeof(Chunk)) + size;
	Size		left;
	Chunk	   *chunk;

	if (chunks == NULL)
	{
		chunks = ivm_arena_try_alloc(rows->arena, sizeof(ChunkList));
		if (chunks == NULL)
			return false;
		memset(chunks, 0, sizeof(ChunkList));
		chunks->reclaimer.kind = IVM_RECLAIM_CACHE;
		chunks->reclaimer.arena = rows->arena;
		chunks->reclaimer.reclaim = reclaim_chunks;
		chunks->rows = rows;
		rows->chunks = chunks;
	}
	left = rows->memory - Min(rows->memory, chunks->reclaimer.bytes);
	if (needed > left)
		return false;
	needed = Max(needed, Min(chunks->first == NULL ? FIRST_CHUNK_SIZE : CHUNK_SIZE, left));
	chunk = ivm_arena_try_alloc(rows->arena, needed);
	if (chunk == NULL)
		return false;
	chunk->next = NULL;
	chunk->size = needed;
	chunk->used = MAXALIGN(sizeof(Chunk));
	if (chunks->last == NULL)
		chunks->first = chunk;
	else
		chunks->last->next = chunk;
	chunks->last = chunk;
	chunks->reclaimer.bytes += needed;
	return true;
}

/* Room for a remembered row; NULL: there is none. */
static IvmValueRow *
make_room(IvmRememberedRows *rows, Size size)
{
	Chunk	   *chunk = rows->chunks == NULL ? NULL : rows->chunks->last;
	IvmValueRow *row;

	/* chunks after the last one are empty */
	while (chunk != NULL && chunk->used + size > chunk->size && chunk->next != NULL)
		chunk = rows->chunks->last = chunk->next;
	if (chunk == NULL || chunk->used + size > chunk->size)
	{
		if (!add_chunk(rows, size))
			return NULL;
		chunk = rows->chunks->last;
	}
	row = (IvmValueRow *) ((char *) chunk + chunk->used);
	chunk->used += size;
	return row;
}

/*
 * Rows
 */

void
ivm_remembered_rows_begin_adding(IvmRememberedRows *rows)
{
	pin_chunks(rows);
	rows->whole = true;
}

void
ivm_remembered_rows_end_adding(IvmRememberedRows *rows)
{
	unpin_chunks(rows);
}

bool
ivm_remembered_rows_add(IvmRememberedRows *rows, const Datum *values, const bool *isnull, int64 weight)
{
	Size		size = ivm_value_row_size(&rows->shape, values, isnull);
	IvmValueRow *row;

	Assert(rows->whole);
	row = make_room(rows, size);
	if (row == NULL)
	{
		free_chunks(rows);
		rows->whole = false;
		return false;
	}
	ivm_value_row_fill(&rows->shape, row, size, values, isnull, weight);
	ivm_value_row_finish(&rows->shape, row);
	return true;
}

bool
ivm_remembered_rows_are_whole(IvmRememberedRows *rows)
{
	return rows->whole;
}

bool
ivm_remembered_rows_give(IvmRememberedRows *rows, IvmProbeReceiver receiver, void *context)
{
	int			natts = rows->shape.desc->natts;
	bool		more = true;

	if (rows->chunks == NULL)
		return true;			/* the key has no rows */
	pin_chunks(rows);
	for (Chunk *chunk = rows->chunks->first; chunk != NULL && more; chunk = chunk->next)
	{
		Size		position = MAXALIGN(sizeof(Chunk));

		while (position < chunk->used && more)
		{
			IvmValueRow *row = (IvmValueRow *) ((char *) chunk + position);

			more = receiver(context, ivm_value_row_values(row), ivm_value_row_isnull(row, natts), row->weight);
			position += row->size;
		}
	}
	unpin_chunks(rows);
	return more;
}

void
ivm_remembered_rows_clear(IvmRememberedRows *rows)
{
	rows->whole = false;
	if (rows->chunks == NULL)
		return;
	for (Chunk *chunk = rows->chunks->first; chunk != NULL && chunk != rows->chunks->last->next; chunk = chunk->next)
		chunk->used = MAXALIGN(sizeof(Chunk));
	rows->chunks->last = rows->chunks->first;
}

void
ivm_remembered_rows_stop(IvmRememberedRows *rows)
{
	free_chunks(rows);
	rows->whole = false;
}
