/*-------------------------------------------------------------------------
 *
 * held.c
 *	  Rows of transactions that are still open.
 *
 * A transaction that is too large for the decoder's share of memory is decoded while it is written
 * (streaming.c).  Its rows are records as in the log, and are held here until it ends: then they go to the
 * log, or nowhere.  Which of its subtransactions each row is of is said by a record before it, wherever that
 * changes.
 *
 * Records pass through one buffer to files.  The contents of one are in memory, a few megabytes of all together, as long as the log has
 * plenty, of which they count as a part, or in a temporary file, which lies with those of the log and counts as its;
 * they go from memory to disk when the log has to give back, or the decoder has nothing to do.
 * A transaction that holds little shares a file with others of that kind, so that ten thousand small ones
 * need neither files nor buffers of their own; one that holds more gets files of its own, so that what is
 * left of a file is not kept for long by one that stays open.  A file goes as soon as nothing in it is
 * held any more.  What a transaction holds is a list of extents, pieces of such files; the last ones may be in
 * the buffer yet.
 *
 * When the log is over its limit, or the disk is full, a row is refused, and its table is "lost" in this
 * transaction: at the commit a record of that kind follows the rows, and the table's readers rebuild.  What waits
 * in the buffer when a write fails is lost in the same way.
 *
 * With the transaction are kept the tables that it changed, tracked or not, and the generation of the registry
 * with which its first change of each was decoded: a table that was registered, or got more columns, since
 * then is incomplete in this transaction (incomplete.c).
 *
 * Memory: the buffer while it holds something and until the decoder rests; a struct for each transaction, 24 bytes for an
 * extent, 40 for a table.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "base/settings.h"
#include "capture/capture_internal.h"
#include "memory/reclaim.h"

#define BUFFER_SIZE		((Size) 64 * 1024)
#define MEMORY_LIMIT	((Size) 4 * 1024 * 1024)	/* of what is in memory */
#define OWN_FILE		((Size) 256 * 1024) /* a transaction that holds so much has files of its own */
#define LARGE_FILE		((Size) 16 * 1024 * 1024)
#define LEAST_FILES		16		/* of a log at its limit: what is handed over is there twice, a file long */
#define FORCED_FILE		((Size) 16 * 1024)	/* for tests */

/* The log's segments have the numbers below. */
#define FIRST_NUMBER	(UINT64CONST(1) << 62)

typedef struct HeldFile
{
	uint64		number;
	Size		written;		/* on disk */
	char	   *tail;			/* what follows, if that is in memory, and all there will be */
	Size		tail_size;
	dlist_node	node;			/* in "in_memory", if there is a tail */
	Size		live;			/* bytes that are held */
	bool		made;
} HeldFile;

typedef struct HeldExtent
{
	HeldFile   *file;
	Size		offset;
	Size		length;
} HeldExtent;

/* A table that a held transaction changed. */
struct IvmHeldTable
{
	struct
	{
		TransactionId xid;
		Oid			relid;
	}			key;
	bool		lost;			/* some of its rows could not be taken up */
	bool		incomplete;		/* as everybody was told */
	uint64		generation;
	IvmHeldTable *next;			/* of the same transaction */
};

struct IvmHeld
{
	dlist_node	node;			/* in "all" */
	TransactionId xid;
	TransactionId last_xid;		/* of the last record; invalid: to be said again */
	uint64		bytes;
	int			nextents;
	int			extents_size;
	HeldExtent	   *extents;		/* in their order */
	HeldFile   *own;			/* the one that it writes to, if that is its own */
	IvmHeldTable *tables;
	IvmHeldTable *last_table;
};

static IvmDatabase *database;
static MemoryContext context;
static MemoryContext tails;
static dlist_head in_memory = DLIST_STATIC_INIT(in_memory);
static Size memory;				/* of those */
static dlist_head all = DLIST_STATIC_INIT(all);
static HTAB *tables;
static HeldFile *shared;		/* the file that small ones write to */
static uint64 next_number = FIRST_NUMBER;
static Size nfiles;

/* what waits to be written, of one file */
static HeldFile *buffer_of;
static char *buffer;
static Size buffered;

void
ivm_held_start(IvmDatabase *db)
{
	HASHCTL		control = {0};

	database = db;
	context = AllocSetContextCreate(TopMemoryContext, "ivm held transactions", ALLOCSET_DEFAULT_SIZES);
	tails = AllocSetContextCreate(TopMemoryContext, "ivm rows of held transactions", ALLOCSET_DEFAULT_SIZES);
	control.keysize = sizeof(((IvmHeldTable *) NULL)->key);
	control.entrysize = sizeof(IvmHeldTable);
	control.hcxt = context;
	tables = hash_create("ivm tables of held transactions", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

IvmHeld *
ivm_held_make(TransactionId xid)
{
	IvmHeld    *held = MemoryContextAllocZero(context, sizeof(IvmHeld));

	held->xid = xid;
	dlist_push_tail(&all, &held->node);
	return held;
}

/*
 * Files
 */

static HeldFile *
make_file(void)
{
	HeldFile   *file = MemoryContextAllocZero(context, sizeof(HeldFile));

	file->number = next_number++;
	if (nfiles++ == 0)
		ivm_log_keep_files(true);
	return file;
}

static void
free_tail(HeldFile *file)
{
	pfree(file->tail);
	file->tail = NULL;
	dlist_delete(&file->node);
	memory -= file->tail_size;
	pg_atomic_fetch_sub_u64(&database->log_memory, file->tail_size);
	ivm_account_give(&database->account, file->tail_size);
	file->tail_size = 0;
}

static void
free_file(HeldFile *file)
{
	if (file->tail != NULL)
		free_tail(file);
	if (buffer_of == file)
	{
		buffer_of = NULL;
		buffered = 0;
	}
	if (shared == file)
		shared = NULL;
	if (file->made)
		ivm_log_file_delete(ivm_log_current(), file->number);
	pg_atomic_fetch_sub_u64(&database->log_disk, file->written);
	if (file->written > 0)
		ivm_budget_count_spill(file->written);
	pfree(file);
	if (--nfiles == 0)
		ivm_log_keep_files(false);
}

static Size
file_end(HeldFile *file)
{
	return file->written + file->tail_size + (buffer_of == file ? buffered : 0);
}

/* The last so many bytes of a transaction are not held any more. */
static void
let_go(IvmHeld *held, uint64 bytes)
{
	while (bytes > 0)
	{
		HeldExtent	   *last = &held->extents[held->nextents - 1];
		Size		cut = Min(bytes, last->length);

		last->length -= cut;
		last->file->live -= cut;
		held->bytes -= cut;
		bytes -= cut;
		if (last->file->live == 0)
		{
			if (held->own == last->file)
				held->own = NULL;
			free_file(last->file);
		}
		if (last->length == 0)
			held->nextents--;
	}
	held->last_xid = InvalidTransactionId;
}

/* The disk is full: what waits in the buffer cannot be kept. */
static void
lose_buffer(void)
{
	HeldFile   *file = buffer_of;
	dlist_iter	iter;

	ivm_log_refuse(true);
	file->live++;				/* stays while we look */
	dlist_foreach(iter, &all)
	{
		IvmHeld    *held = dlist_container(IvmHeld, node, iter.cur);

		while (held->nextents > 0)
		{
			HeldExtent	   *last = &held->extents[held->nextents - 1];
			Size		end = last->offset + last->length;
			Size		from = Max(last->offset, file->written);

			if (last->file != file || end <= file->written)
				break;
			for (Size at = from; at < end;)
			{
				IvmRecordHeader *record = (IvmRecordHeader *) (buffer + (at - file->written));

				if (record->kind != IVM_RECORD_XID)
					ivm_held_lose(held, record->relid);
				at += record->length;
			}
			let_go(held, end - from);
		}
	}
	buffer_of = NULL;
	buffered = 0;
	if (--file->live == 0)
	{
		dlist_foreach(iter, &all)
		{
			IvmHeld    *held = dlist_container(IvmHeld, node, iter.cur);

			if (held->own == file)
				held->own = NULL;
		}
		free_file(file);
	}
}

static bool
write_file(HeldFile *file, const char *what, Size length, Size where)
{
	bool		make = !file->made;

	/* also if it is full: there may be a part of it */
	file->made = true;
	return ivm_log_file_write(ivm_log_current(), file->number, make, what, length, where);
}

static void
count_written(HeldFile *file, Size length)
{
	file->written += length;
	pg_atomic_fetch_add_u64(&database->log_disk, length);
}

/* Leaves what is in the buffer in memory, if there is plenty: the file ends with it. */
static bool
keep_in_memory(void)
{
	if (memory + buffered > MEMORY_LIMIT || ivm_spill_is_forced("log") || !ivm_log_has_room(database) ||
		!ivm_account_take(&database->account, buffered))
		return false;
	memory += buffered;
	pg_atomic_fetch_add_u64(&database->log_memory, buffered);
	buffer_of->tail = MemoryContextAlloc(tails, buffered);
	memcpy(buffer_of->tail, buffer, buffered);
	buffer_of->tail_size = buffered;
	dlist_push_tail(&in_memory, &buffer_of->node);
	return true;
}

bool
ivm_held_to_file(void)
{
	HeldFile   *file;
	Size		size;

	if (dlist_is_empty(&in_memory))
		return false;
	file = dlist_container(HeldFile, node, dlist_head_node(&in_memory));
	size = file->tail_size;
	if (!ivm_log_has_disk(size) || !write_file(file, file->tail, size, file->written))
		return false;
	free_tail(file);
	count_written(file, size);
	return true;
}

/* Empties the buffer.  False: the disk is full, and what was in it is lost. */
static bool
flush(void)
{
	if (buffered > 0 && !keep_in_memory())
	{
		if (!write_file(buffer_of, buffer, buffered, buffer_of->written))
		{
			lose_buffer();
			return false;
		}
		count_written(buffer_of, buffered);
	}
	buffer_of = NULL;
	buffered = 0;
	return true;
}

/* The file that the transaction's next record goes to. */
static HeldFile *
choose_file(IvmHeld *held)
{
	HeldFile  **place = held->bytes >= OWN_FILE ? &held->own : &shared;
	Size		limit = ivm_spill_is_forced("log") ? FORCED_FILE :
	Min(LARGE_FILE, (Size) ivm_delta_log_limit * 1024 / LEAST_FILES);

	if (*place == NULL || (*place)->tail != NULL || file_end(*place) >= limit)
		*place = make_file();
	return *place;
}

/* So many bytes at the end of the file are the transaction's. */
static void
add_bytes(IvmHeld *held, HeldFile *file, Size offset, Size length)
{
	HeldExtent	   *last = held->nextents > 0 ? &held->extents[held->nextents - 1] : NULL;

	if (last == NULL || last->file != file || last->offset + last->length != offset)
	{
		if (held->nextents == held->extents_size)
		{
			held->extents_size = Max(1, 2 * held->extents_size);
			held->extents = held->extents == NULL ?
				MemoryContextAlloc(context, held->extents_size * sizeof(HeldExtent)) :
				repalloc_huge(held->extents, held->extents_size * sizeof(HeldExtent));
		}
		last = &held->extents[held->nextents++];
		last->file = file;
		last->offset = offset;
		last->length = 0;
	}
	last->length += length;
	file->live += length;
	held->bytes += length;
}

static char *
fill_header(char *to, IvmRecordKind kind, Oid relid, uint32 layout, Size length)
{
	IvmRecordHeader *header = (IvmRecordHeader *) to;

	memset(to, 0, IVM_RECORD_HEADER_SIZE);
	header->length = length;
	header->kind = kind;
	header->relid = relid;
	header->layout = layout;
	return to + IVM_RECORD_HEADER_SIZE;
}

/* A record that is larger than the buffer, which is empty and this file's. */
static bool
append_large(IvmHeld *held, HeldFile *file, IvmRecordKind kind, Oid relid, uint32 layout,
			 const char *payload, Size size, Size length)
{
	char		header[IVM_RECORD_HEADER_SIZE];
	char		padding[MAXIMUM_ALIGNOF] = {0};
	Size		end = file->written;

	(void) fill_header(header, kind, relid, layout, length);
	if (!write_file(file, header, IVM_RECORD_HEADER_SIZE, end) ||
		!write_file(file, payload, size, end + IVM_RECORD_HEADER_SIZE) ||
		!write_file(file, padding, length - IVM_RECORD_HEADER_SIZE - size, end + IVM_RECORD_HEADER_SIZE + size))
	{
		ivm_log_refuse(true);
		return false;
	}
	count_written(file, length);
	add_bytes(held, file, end, length);
	return true;
}

bool
ivm_held_append(IvmHeld *held, TransactionId xid, IvmRecordKind kind, Oid relid, uint32 layout,
				const void *payload, Size size)
{
	Size		length = IVM_RECORD_HEADER_SIZE + MAXALIGN(size);
	Size		needed = length + (xid != held->last_xid ? IVM_RECORD_HEADER_SIZE : 0);
	HeldFile   *file;
	char	   *to;

	if (ivm_log_is_over())
		return false;
	if (!ivm_log_has_disk(buffered + needed))
	{
		ivm_log_refuse(false);
		return false;
	}
	file = choose_file(held);
	if (buffer_of != file || buffered + needed > BUFFER_SIZE)
	{
		if (!flush())
			return false;
		file = choose_file(held);
	}
	if (buffer == NULL)
		buffer = MemoryContextAlloc(context, BUFFER_SIZE);
	buffer_of = file;

	if (xid != held->last_xid)
	{
		(void) fill_header(buffer + buffered, IVM_RECORD_XID, (Oid) xid, 0, IVM_RECORD_HEADER_SIZE);
		add_bytes(held, file, file_end(file), IVM_RECORD_HEADER_SIZE);
		buffered += IVM_RECORD_HEADER_SIZE;
		held->last_xid = xid;
	}
	if (buffered + length > BUFFER_SIZE)
	{
		if (!flush())
			return false;
		/* who reads finds whose it is all the same */
		file = choose_file(held);
		if (length > BUFFER_SIZE)
			return append_large(held, file, kind, relid, layout, payload, size, length);
		buffer_of = file;
	}
	to = fill_header(buffer + buffered, kind, relid, layout, length);
	if (size > 0)
		memcpy(to, payload, size);
	add_bytes(held, file, file_end(file), length);
	buffered += length;
	return true;
}

uint64
ivm_held_position(IvmHeld *held)
{
	return held->bytes;
}

void
ivm_held_truncate(IvmHeld *held, uint64 position)
{
	if (held->bytes > position)
		let_go(held, held->bytes - position);
}

/*
 * Tables
 */

IvmHeldTable *
ivm_held_touch(IvmHeld *held, Oid relid, List *ancestors)
{
	IvmHeldTable *table = NULL;

	if (held->last_table != NULL && held->last_table->key.relid == relid)
		return held->last_table;
	for (int i = -1; i < list_length(ancestors); i++)
	{
		IvmHeldTable search = {0};
		IvmHeldTable *found;
		bool		exists;

		search.key.xid = held->xid;
		search.key.relid = i < 0 ? relid : list_nth_oid(ancestors, i);
		found = hash_search(tables, &search.key, HASH_ENTER, &exists);
		if (!exists)
		{
			found->lost = false;
			found->incomplete = false;
			found->generation = ivm_registry_loaded();
			found->next = held->tables;
			held->tables = found;
		}
		if (i < 0)
			table = found;
	}
	held->last_table = table;
	return table;
}

bool
ivm_held_is_lost(IvmHeldTable *table)
{
	return table->lost;
}

void
ivm_held_lose(IvmHeld *held, Oid relid)
{
	ivm_held_touch(held, relid, NIL)->lost = true;
}

/* Tells of tables that have been registered, or have got columns, since a transaction that is open changed them. */
void
ivm_held_find_incomplete(void)
{
	dlist_iter	iter;

	dlist_foreach(iter, &all)
	{
		IvmHeld    *held = dlist_container(IvmHeld, node, iter.cur);

		for (IvmHeldTable *table = held->tables; table != NULL; table = table->next)
		{
			IvmRegistration *registration = ivm_registry_find(table->key.relid);

			if (registration == NULL || table->incomplete || registration->generation <= table->generation)
				continue;
			ivm_incomplete_add(database, held->xid, table->key.relid);
			table->incomplete = true;
		}
	}
}

/*
 * The end of a transaction
 */

void
ivm_held_drop(IvmHeld *held)
{
	let_go(held, held->bytes);
	if (held->own != NULL)
		free_file(held->own);
	while (held->tables != NULL)
	{
		IvmHeldTable *table = held->tables;

		held->tables = table->next;
		(void) hash_search(tables, &table->key, HASH_REMOVE, NULL);
	}
	dlist_delete(&held->node);
	if (held->extents != NULL)
		pfree(held->extents);
	pfree(held);
}

static int
compare_xids(const void *a, const void *b)
{
	TransactionId x = *(const TransactionId *) a;
	TransactionId y = *(const TransactionId *) b;

	return x < y ? -1 : x > y;
}

typedef struct HeldReader
{
	HeldFile   *file;
	Size		begin;			/* of the piece in memory */
	Size		end;
	char	   *piece;
	Size		size;			/* allocated */
} HeldReader;

/* So many bytes from there on, and what follows up to "end" as far as there is room. */
static char *
read_file(HeldReader *reader, HeldFile *file, Size offset, Size length, Size end)
{
	Size		size = Max(length, BUFFER_SIZE);

	/* a record lies as a whole in one of the places */
	if (offset >= file->written)
		return (file->tail != NULL ? file->tail : buffer) + (offset - file->written);
	if (reader->file == file && offset >= reader->begin && offset + length <= reader->end)
		return reader->piece + (offset - reader->begin);
	if (reader->piece != NULL && reader->size != size)
	{
		pfree(reader->piece);
		reader->piece = NULL;
	}
	if (reader->piece == NULL)
		reader->piece = MemoryContextAllocHuge(context, size);
	reader->size = size;
	size = Min(size, Min(end, file->written) - offset);
	ivm_log_file_read(ivm_log_current(), file->number, reader->piece, size, offset);
	reader->file = file;
	reader->begin = offset;
	reader->end = offset + size;
	return reader->piece;
}

bool
ivm_held_hand_over(IvmHeld *held, TransactionId *survivors, int nsurvivors, const IvmLogTxn *txn)
{
	HeldReader		reader = {0};
	bool		begun = false;
	bool		survives = false;

	qsort(survivors, nsurvivors, sizeof(TransactionId), compare_xids);

	for (int i = 0; i < held->nextents; i++)
	{
		HeldExtent	   *extent = &held->extents[i];
		Size		end = extent->offset + extent->length;
		Size		at = extent->offset;

		CHECK_FOR_INTERRUPTS();
		while (at < end)
		{
			IvmRecordHeader *record = (IvmRecordHeader *) read_file(&reader, extent->file, at, IVM_RECORD_HEADER_SIZE, end);
			Size		length = record->length;

			if (record->kind == IVM_RECORD_XID)
			{
				TransactionId xid = (TransactionId) record->relid;

				survives = xid == held->xid ||
					bsearch(&xid, survivors, nsurvivors, sizeof(TransactionId), compare_xids) != NULL;
			}
			else if (survives)
			{
				if (!begun)
					ivm_log_append_begin(txn);
				begun = true;
				record = (IvmRecordHeader *) read_file(&reader, extent->file, at, length, end);
				if (record->kind == IVM_RECORD_TRUNCATE)
					ivm_log_append_truncate(record->relid);
				else if (!ivm_log_append_row(record->relid, record->kind == IVM_RECORD_INSERT, record->layout,
											 (MinimalTuple) ((char *) record + IVM_RECORD_HEADER_SIZE)))
					ivm_held_lose(held, record->relid);
			}
			at += length;
		}

		/* what is in the log now need not be on disk twice */
		held->bytes -= extent->length;
		extent->file->live -= extent->length;
		if (extent->file->live == 0)
		{
			if (held->own == extent->file)
				held->own = NULL;
			free_file(extent->file);
		}
	}
	held->nextents = 0;
	if (reader.piece != NULL)
		pfree(reader.piece);

	for (IvmHeldTable *table = held->tables; table != NULL; table = table->next)
	{
		if (!table->lost)
			continue;
		if (!begun)
			ivm_log_append_begin(txn);
		begun = true;
		ivm_log_append_lost(table->key.relid);
	}
	return begun;
}

/* The decoder has nothing to do. */
void
ivm_held_rest(void)
{
	(void) flush();
	if (buffer != NULL)
		pfree(buffer);
	buffer = NULL;
	while (ivm_held_to_file())
		;
	if (shared != NULL && shared->live == 0)
		free_file(shared);
}

/* The decoder ends: nobody will want what is held. */
void
ivm_held_stop(void)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &all)
		let_go(dlist_container(IvmHeld, node, iter.cur), dlist_container(IvmHeld, node, iter.cur)->bytes);
}

Size
ivm_held_memory(void)
{
	return context == NULL ? 0 : MemoryContextMemAllocated(context, true);
}
