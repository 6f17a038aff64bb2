/*-------------------------------------------------------------------------
 *
 * spill.c
 *	  Rows with weights in a temporary file, divided into partitions by a hash.
 *
 * All partitions share one file.  Rows of each are collected in a chunk of
 * memory, and a chunk that is full goes to the end of the file as an extent of
 * its partition; a row larger than a chunk is an extent by itself.  So the
 * number of partitions costs neither files nor buffers that stay: chunks live
 * from the first row that is put until the flush.
 *
 * A file is PostgreSQL's temporary file: temp_tablespaces, temp_file_limit and
 * log_temp_files apply.  It belongs to the top-level transaction, however deep the
 * subtransaction that made it.
 *
 * Costs: a row is copied into the chunk and written once; its overhead in the
 * file is 24 bytes.  Reading a partition reads its extents in the order in
 * which they were written.
 *
 * Memory: 16 kB for each partition while rows are put; 16 bytes for each
 * extent; a reader has a buffer as large as an extent.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/buffile.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "memory/budget.h"
#include "zset/spill.h"

#define CHUNK_SIZE	((Size) 16 * 1024)

/* A row as it is written: its tuple follows. */
typedef struct SpilledRow
{
	uint64		length;			/* with this header, MAXALIGNed; where an
								 * IvmRow has its link */
	int64		weight;
	uint64		hash;
} SpilledRow;

StaticAssertDecl(sizeof(SpilledRow) == sizeof(IvmRow) &&
				 offsetof(SpilledRow, weight) == offsetof(IvmRow, weight) &&
				 offsetof(SpilledRow, hash) == offsetof(IvmRow, hash),
				 "a row that was read is used in place");

typedef struct SpillExtent
{
	int64		offset;
	Size		length;
} SpillExtent;

typedef struct SpillPartition
{
	char	   *chunk;			/* NULL: no row waits */
	Size		used;			/* of the chunk */
	SpillExtent *extents;
	int			nextents;
	int			allocated;
	uint64		rows;
	Size		bytes;			/* in the file */
	uint64		first_hash;
	bool		uniform;
} SpillPartition;

struct IvmSpill
{
	MemoryContext context;
	int			level;
	BufFile    *file;
	int64		end;
	Size		unflushed;		/* written since the last flush */
	SpillPartition partitions[IVM_SPILL_PARTITIONS];
};

IvmSpill *
ivm_spill_create(int level)
{
	IvmSpill   *spill = palloc0(sizeof(IvmSpill));

	Assert(level >= 0 && level < IVM_SPILL_LEVELS);
	spill->context = CurrentMemoryContext;
	spill->level = level;
	return spill;
}

void
ivm_spill_destroy(IvmSpill *spill)
{
	if (spill->file != NULL)
		BufFileClose(spill->file);
	for (int i = 0; i < IVM_SPILL_PARTITIONS; i++)
	{
		if (spill->partitions[i].chunk != NULL)
			pfree(spill->partitions[i].chunk);
		if (spill->partitions[i].extents != NULL)
			pfree(spill->partitions[i].extents);
	}
	pfree(spill);
}

int
ivm_spill_partition(IvmSpill *spill, uint64 hash)
{
	return (hash >> (64 - IVM_SPILL_BITS * (spill->level + 1))) & (IVM_SPILL_PARTITIONS - 1);
}

/* Writes an extent to the end of the file. */
static void
write_extent(IvmSpill *spill, SpillPartition *partition, char *data, Size length)
{
	MemoryContext old = MemoryContextSwitchTo(spill->context);
	SpillExtent *extent;

	CHECK_FOR_INTERRUPTS();
	if (spill->file == NULL)
	{
		ResourceOwner owner = CurrentResourceOwner;

		CurrentResourceOwner = TopTransactionResourceOwner;
		spill->file = BufFileCreateTemp(false);
		CurrentResourceOwner = owner;
	}
	if (partition->nextents == partition->allocated)
	{
		partition->allocated = Max(8, partition->allocated * 2);
		if (partition->extents == NULL)
			partition->extents = palloc(sizeof(SpillExtent) * partition->allocated);
		else
			partition->extents = repalloc_huge(partition->extents, sizeof(SpillExtent) * partition->allocated);
	}
	if (BufFileSeek(spill->file, 0, spill->end, SEEK_SET) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not seek in temporary file of an incremental view")));
	BufFileWrite(spill->file, data, length);

	extent = &partition->extents[partition->nextents++];
	extent->offset = spill->end;
	extent->length = length;
	partition->bytes += length;
	spill->end += length;
	spill->unflushed += length;
	MemoryContextSwitchTo(old);
}

static void
write_chunk(IvmSpill *spill, SpillPartition *partition)
{
	Size		used = partition->used;

	partition->used = 0;
	if (used > 0)
		write_extent(spill, partition, partition->chunk, used);
}

void
ivm_spill_put(IvmSpill *spill, MinimalTuple tuple, int64 weight, uint64 hash)
{
	SpillPartition *partition = &spill->partitions[ivm_spill_partition(spill, hash)];
	Size		length = sizeof(SpilledRow) + MAXALIGN(tuple->t_len);
	bool		large = length > CHUNK_SIZE;
	char	   *place;
	SpilledRow *row;

	if (partition->rows == 0)
	{
		partition->first_hash = hash;
		partition->uniform = true;
	}
	else if (partition->first_hash != hash)
		partition->uniform = false;

	if (large)
		place = MemoryContextAllocHuge(spill->context, length);
	else
	{
		if (partition->chunk == NULL)
			partition->chunk = MemoryContextAlloc(spill->context, CHUNK_SIZE);
		else if (partition->used + length > CHUNK_SIZE)
			write_chunk(spill, partition);
		place = partition->chunk + partition->used;
		partition->used += length;
	}
	row = (SpilledRow *) place;
	row->length = length;
	row->weight = weight;
	row->hash = hash;
	memcpy(place + sizeof(SpilledRow), tuple, tuple->t_len);
	memset(place + sizeof(SpilledRow) + tuple->t_len, 0, length - sizeof(SpilledRow) - tuple->t_len);
	partition->rows++;
	if (large)
	{
		write_extent(spill, partition, place, length);
		pfree(place);
	}
}

void
ivm_spill_flush(IvmSpill *spill)
{
	for (int i = 0; i < IVM_SPILL_PARTITIONS; i++)
	{
		SpillPartition *partition = &spill->partitions[i];

		if (partition->chunk == NULL)
			continue;
		write_chunk(spill, partition);
		pfree(partition->chunk);
		partition->chunk = NULL;
	}
	if (spill->unflushed > 0)
		ivm_budget_count_spill(spill->unflushed);
	spill->unflushed = 0;
}

uint64
ivm_spill_rows(IvmSpill *spill, int partition)
{
	return spill->partitions[partition].rows;
}

Size
ivm_spill_bytes(IvmSpill *spill, int partition)
{
	return spill->partitions[partition].bytes;
}

bool
ivm_spill_is_uniform(IvmSpill *spill, int partition)
{
	return spill->partitions[partition].uniform;
}

/*
 * Reading
 */

void
ivm_spill_read_begin(IvmSpill *spill, int partition, IvmSpillReader *reader)
{
	Assert(spill->partitions[partition].chunk == NULL);
	reader->spill = spill;
	reader->partition = partition;
	reader->extent = 0;
	reader->position = 0;
	reader->length = 0;
	reader->size = CHUNK_SIZE;
	reader->buffer = MemoryContextAlloc(spill->context, CHUNK_SIZE);
}

/* The buffer grows for an extent that is one large row, and only for that. */
static void
fit_buffer(IvmSpillReader *reader, Size length)
{
	Size		size = Max(length, CHUNK_SIZE);

	if (reader->size == size)
		return;
	pfree(reader->buffer);
	reader->buffer = NULL;
	reader->buffer = MemoryContextAllocHuge(reader->spill->context, size);
	reader->size = size;
}

IvmRow *
ivm_spill_read_next(IvmSpillReader *reader)
{
	IvmSpill   *spill = reader->spill;
	SpillPartition *partition = &spill->partitions[reader->partition];
	SpilledRow *row;

	if (reader->position == reader->length)
	{
		SpillExtent *extent;

		CHECK_FOR_INTERRUPTS();
		if (reader->extent == partition->nextents)
			return NULL;
		extent = &partition->extents[reader->extent++];
		fit_buffer(reader, extent->length);
		if (BufFileSeek(spill->file, 0, extent->offset, SEEK_SET) != 0 ||
			BufFileRead(spill->file, reader->buffer, extent->length) != extent->length)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not read from temporary file of an incremental view")));
		reader->position = 0;
		reader->length = extent->length;
	}
	row = (SpilledRow *) (reader->buffer + reader->position);
	reader->position += row->length;
	row->length = 0;			/* now a link to nothing */
	return (IvmRow *) row;
}

void
ivm_spill_read_end(IvmSpillReader *reader)
{
	if (reader->buffer != NULL)
		pfree(reader->buffer);
	reader->buffer = NULL;
}
