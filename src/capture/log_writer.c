/*-------------------------------------------------------------------------
 *
 * log_writer.c
 *	  The decoder's side of the delta log: where records go.
 *
 * A segment is in memory as long as there is some: within
 * ivm.delta_log_memory and the budget.  Otherwise it is in a file:
 * its records pass through a small buffer, which is written when it is full and
 * before a transaction is published, and a record that is larger than the buffer
 * is written as it is.  A file goes on until it is large, or until there is
 * plenty of memory again.  What is in memory stays there: it is the older part,
 * which is read first.  Only if the budget gets smaller than what is held
 * are segments of memory written to files, the newest first (ivm_log_give_back).
 *
 * Before the log goes to files the decoder stops for a while, if that is any use
 * (decoder.c asks ivm_log_is_short and ivm_log_is_busy).
 *
 * The limit.  When the log has on disk what ivm.delta_log_limit allows, or the
 * disk is full, rows are not taken up any more: the plugin logs, for each
 * table and transaction, that it changed in an unknown way, and the table's readers
 * rebuild.  That goes on, from one transaction to the next, until the log has come
 * down to half of the limit.  So the log takes the limit and, beyond it,
 * only those records: about a hundred bytes for a transaction.  Nothing that
 * was logged is lost: when a write fails, what waits in the buffer goes to memory,
 * whether the budget allows it or not.
 *
 * Memory: one segment more than is written, made in advance; the buffer, while the log
 * goes to files.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/settings.h"
#include "capture/capture_internal.h"
#include "memory/reclaim.h"
#include "stats/stats.h"

#define BUFFER_SIZE		((Size) 64 * 1024)
#define SMALL_FILE		((Size) 1024 * 1024)	/* is not worth its place */
#define LARGE_FILE		((Size) 16 * 1024 * 1024)
#define MOST_FILES		1024	/* of a log at its limit */
#define FORCED_FILE		((Size) 16 * 1024)	/* for tests */
#define FULL_DISK_DELAY	10000	/* ms, before it is tried again */

/* The decoder's side of the log it writes. */
static IvmDatabase *database;
static IvmLog *current;
static IvmLogSegment *segment;	/* the tail; NULL: none yet */
static Size offset;				/* where the next record goes */
static uint64 next_number;		/* of the next segment */
static uint64 sequence;			/* of the transaction being written, or the
								 * next */
static uint64 rows;				/* in that transaction */
static bool resting;			/* the tail may have been freed */

/* the tail in memory */
static dsm_segment *mapping;	/* NULL: it is in a file */
static char *data;
static dsm_segment *spare;		/* the next one, made in advance */
static Size ask_again;			/* not before the tail is so long, since it
								 * was refused */

/* the tail in a file */
static bool file_is_made;
static Size written;			/* what is in the file */
static char *buffer;			/* what follows */
static Size buffered;

/* beyond the limit */
static bool over = false;
static uint64 over_until;		/* bytes on disk */
static TimestampTz over_since;	/* of a full disk; 0: the limit */

/*
 * Starts a new, empty log, whose contents will be the transactions that commit
 * at or after start_lsn.  This process has become the database's decoder.
 */
void
ivm_log_start(IvmDatabase *db, XLogRecPtr start_lsn)
{
	FileSet		files;
	dsa_pointer pointer;

	ivm_database_attach(db);
	ivm_log_file_choose(&files);

	pointer = dsa_allocate0(ivm_database_area(db), sizeof(IvmLog));
	database = db;
	current = ivm_log_of(db, pointer);
	segment = NULL;
	next_number = 1;
	sequence = db->next_sequence;
	rows = 0;
	current->head = current->tail = InvalidDsaPointer;
	current->files = files;
	pg_atomic_write_u32(&db->over_limit, 0);
	pg_atomic_init_u64(&current->published, sequence);

	LWLockAcquire(&db->lock, LW_EXCLUSIVE);
	for (dsa_pointer p = db->log; DsaPointerIsValid(p); p = ivm_log_of(db, p)->older)
		ivm_log_of(db, p)->closed = true;
	current->incarnation = ++db->incarnations;
	pg_atomic_write_u64(&db->newest_incarnation, db->incarnations);
	current->older = db->log;
	db->log = pointer;
	pg_atomic_write_u64(&db->decoded, start_lsn);
	ivm_lag_decoded(db, start_lsn);
	ivm_log_trim(db);
	LWLockRelease(&db->lock);
}

static bool
tail_is_file(void)
{
	return segment != NULL && segment->handle == DSM_HANDLE_INVALID;
}

/* Follows temp_tablespaces, if nothing is in files now. */
void
ivm_log_reload(void)
{
	FileSet		files;

	if (current == NULL || current->holds || !ivm_log_file_is_elsewhere() || pg_atomic_read_u64(&database->log_disk) > 0 ||
		(!resting && tail_is_file()))
		return;
	ivm_log_file_choose(&files);
	LWLockAcquire(&database->lock, LW_EXCLUSIVE);
	if (current->has_files)
		FileSetDeleteAll(&current->files);
	current->has_files = false;
	current->files = files;
	LWLockRelease(&database->lock);
}

/* Frees what was made in advance. */
static void
free_spare(void)
{
	dsm_handle	handle = dsm_segment_handle(spare);
	Size		size = dsm_segment_map_length(spare);

	dsm_detach(spare);
	spare = NULL;
	ivm_log_memory_free(database, handle, size);
}

/* Lets go of the memory of the tail, and of the next one. */
static void
let_go(void)
{
	if (mapping != NULL)
		dsm_detach(mapping);
	mapping = NULL;
	data = NULL;
	if (spare != NULL)
		free_spare();
}

/* The decoder ends: its log is kept for those who are reading it, no longer. */
void
ivm_log_stop(IvmDatabase *db)
{
	if (current == NULL)
		return;
	let_go();
	LWLockAcquire(&db->lock, LW_EXCLUSIVE);
	db->spilling = InvalidDsaPointer;
	current->closed = true;
	current = NULL;
	ivm_log_trim(db);
	LWLockRelease(&db->lock);
}

/* Somebody needs memory: what is only made in advance goes. */
void
ivm_log_yield(void)
{
	if (spare != NULL)
		free_spare();
}

/* The decoder has nothing to do: what all have read goes, to the last byte. */
void
ivm_log_rest(void)
{
	let_go();
	if (buffer != NULL)
		pfree(buffer);
	buffer = NULL;
	if (segment == NULL || resting)
		return;
	Assert(buffered == 0);
	LWLockAcquire(&database->lock, LW_EXCLUSIVE);
	current->resting = resting = true;
	ivm_log_trim(database);
	LWLockRelease(&database->lock);
}

/* It has something to write: the tail, if it is still there, is ours again. */
static void
rise(void)
{
	LWLockAcquire(&database->lock, LW_EXCLUSIVE);
	current->resting = resting = false;
	if (!DsaPointerIsValid(current->tail))
		segment = NULL;
	LWLockRelease(&database->lock);
	if (segment == NULL)
		return;
	if (segment->handle != DSM_HANDLE_INVALID)
	{
		mapping = ivm_log_memory_attach(segment->handle);
		data = dsm_segment_address(mapping);
	}
	else
		buffer = MemoryContextAlloc(TopMemoryContext, BUFFER_SIZE);
}

/*
 * Writing
 */

static Size
file_size(void)
{
	if (ivm_spill_is_forced("log"))
		return FORCED_FILE;
	return Max(LARGE_FILE, (Size) ivm_delta_log_limit * 1024 / MOST_FILES);
}

/* Rows are not taken up from now on. */
void
ivm_log_refuse(bool disk_is_full)
{
	uint64		disk = pg_atomic_read_u64(&database->log_disk);
	uint64		limit = ivm_log_file_limit();

	if (over)
		return;
	over = true;
	over_until = Min(disk, limit) / 2;
	over_since = disk_is_full ? GetCurrentTimestamp() : 0;
	pg_atomic_write_u32(&database->over_limit, 1);
	ivm_stats_worker_state("delta log at limit");
	if (disk_is_full)
		ereport(LOG,
				(errcode(ERRCODE_DISK_FULL),
				 errmsg("delta log cannot be written: no space left on device"),
				 errdetail("Incremental views whose tables change now are going to be rebuilt."),
				 errhint("Make room in the tablespaces of temporary files, or increase \"ivm.memory_budget\".")));
	else
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("delta log has reached its limit on disk of " UINT64_FORMAT " kB", ivm_log_file_limit() / 1024),
				 errdetail("Incremental views whose tables change now are going to be rebuilt."),
				 errhint("Increase \"ivm.delta_log_limit\", or \"temp_file_limit\" if that is lower.")));
}

/* May files of the log, those of open transactions among them, take so much more? */
bool
ivm_log_has_disk(Size more)
{
	return pg_atomic_read_u64(&database->log_disk) + more <= ivm_log_file_limit();
}

/* The log that is written, whose files those of open transactions lie with. */
IvmLog *
ivm_log_current(void)
{
	return current;
}

/* There are files of open transactions from now on, or none any more. */
void
ivm_log_keep_files(bool keep)
{
	LWLockAcquire(&database->lock, LW_EXCLUSIVE);
	current->holds = keep;
	if (!keep)
		ivm_log_trim(database);
	LWLockRelease(&database->lock);
}

/* Has the log come down far enough? */
static bool
episode_is_over(void)
{
	if (pg_atomic_read_u64(&database->log_disk) > over_until)
		return false;
	return over_since == 0 ||
		TimestampDifferenceExceeds(over_since, GetCurrentTimestamp(), FULL_DISK_DELAY);
}

/* True while rows would not be taken up. */
bool
ivm_log_is_over(void)
{
	return over;
}

/* Between two transactions. */
void
ivm_log_next_transaction(void)
{
	if (over && episode_is_over())
	{
		over = false;
		pg_atomic_write_u32(&database->over_limit, 0);
		ivm_stats_worker_state("running");
	}
}

/*
 * Appends an empty segment, in that memory or in a file, which is the tail from now
 * on; the one before is sealed.
 */
static void
add_segment(dsm_segment *memory)
{
	dsa_pointer pointer = dsa_allocate0(ivm_database_area(database), sizeof(IvmLogSegment));
	IvmLogSegment *made = ivm_segment_of(database, pointer);

	if (tail_is_file())
		ivm_budget_count_spill(written);
	if (mapping != NULL)
		dsm_detach(mapping);
	mapping = memory;
	data = NULL;

	made->number = next_number++;
	made->next = InvalidDsaPointer;
	if (memory != NULL)
	{
		made->handle = dsm_segment_handle(memory);
		made->capacity = dsm_segment_map_length(memory);
		data = dsm_segment_address(memory);
	}
	else
	{
		made->handle = DSM_HANDLE_INVALID;
		made->on_file = true;
		if (buffer == NULL)
			buffer = MemoryContextAlloc(TopMemoryContext, BUFFER_SIZE);
	}

	LWLockAcquire(&database->lock, LW_EXCLUSIVE);
	if (segment != NULL)
	{
		segment->used = offset;
		segment->next = pointer;
		pg_write_barrier();
		segment->sealed = true;
	}
	current->tail = pointer;
	if (!DsaPointerIsValid(current->head))
		current->head = pointer;
	ivm_log_trim(database);
	LWLockRelease(&database->lock);

	segment = made;
	offset = 0;
	ask_again = 0;
	written = 0;
	buffered = 0;
	file_is_made = false;
}

/* What waits in the buffer cannot be written: it begins a segment in memory. */
static void
leave_file(void)
{
	Size		left = buffered;
	dsm_segment *memory;

	ivm_log_refuse(true);
	memory = ivm_log_memory_make(database, BUFFER_SIZE + 8192, true);
	if (memory == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DISK_FULL),
				 errmsg("delta log can neither be written nor be kept in memory")));

	/*
	 * All of it is of one transaction, since the buffer is written before one
	 * is published.  If that begins with it, the file's descriptor goes on to
	 * say that it begins there: where the file ends a reader goes on to what
	 * follows.
	 */
	offset = written;
	add_segment(memory);
	memcpy(data, buffer, left);
	offset = left;
	segment->last_sequence = sequence;
}

/* Writes to the end of the tail's file; false if the disk is full. */
static bool
write_file(const char *what, Size length, Size where)
{
	bool		make = !file_is_made;

	/* also if it is full: there may be a part of it */
	file_is_made = true;
	if (!ivm_log_file_write(current, segment->number, make, what, length, where))
	{
		file_is_made = !make;
		return false;
	}
	return true;
}

static void
count_written(Size length)
{
	written += length;
	segment->disk += length;
	pg_atomic_fetch_add_u64(&database->log_disk, length);
}

/* Writes the buffer to the tail's file.  False if that is full: the tail is another then. */
static bool
flush(void)
{
	if (buffered == 0)
		return true;
	if (!write_file(buffer, buffered, written))
	{
		leave_file();
		return false;
	}
	count_written(buffered);
	buffered = 0;
	ivm_log_give_back(database);
	return true;
}

/* A tail with room for a record, in memory if there is some. */
static void
next_segment(Size length)
{
	dsm_segment *memory;

	if (tail_is_file() && !flush())
		return;
	if (!tail_is_file())
		ivm_log_give_back(database);
	memory = spare;
	spare = NULL;
	if (memory == NULL && !ivm_spill_is_forced("log") && length <= ivm_log_segment_size(database))
		memory = ivm_log_memory_make(database, ivm_log_segment_size(database), false);
	add_segment(memory);
}

static void
fill_header(char *to, IvmRecordKind kind, Oid relid, uint32 layout, Size length)
{
	IvmRecordHeader *header = (IvmRecordHeader *) to;

	header->length = length;
	header->kind = kind;
	header->relid = relid;
	header->layout = layout;
}

/* Writes a record that is larger than the buffer to the tail's file. */
static bool
append_large(IvmRecordKind kind, Oid relid, uint32 layout, const char *payload, Size size, Size length)
{
	char		header[IVM_RECORD_HEADER_SIZE] = {0};
	char		padding[MAXIMUM_ALIGNOF] = {0};

	fill_header(header, kind, relid, layout, length);
	if (!write_file(header, IVM_RECORD_HEADER_SIZE, written) ||
		!write_file(payload, size, written + IVM_RECORD_HEADER_SIZE) ||
		!write_file(padding, length - IVM_RECORD_HEADER_SIZE - size, written + IVM_RECORD_HEADER_SIZE + size))
	{
		ivm_log_refuse(true);
		return false;
	}
	count_written(length);
	offset = written;
	segment->last_sequence = sequence;
	return true;
}

/*
 * Appends a record.  False if it is a row, and the log is over its limit.
 */
static bool
append(IvmRecordKind kind, Oid relid, uint32 layout, const void *payload, Size size)
{
	Size		length = IVM_RECORD_HEADER_SIZE + MAXALIGN(size);
	bool		is_row = kind == IVM_RECORD_INSERT || kind == IVM_RECORD_DELETE;
	char	   *to;

	if (resting)
		rise();
	for (;;)
	{
		if (over && is_row)
			return false;
		if (mapping != NULL && offset + length <= segment->capacity)
		{
			to = data + offset;
			break;
		}
		if (!tail_is_file() || offset >= file_size())
		{
			next_segment(length);
			continue;
		}
		if (is_row && !ivm_log_has_disk(buffered + length))
		{
			ivm_log_refuse(false);
			return false;
		}
		if (buffered + length > BUFFER_SIZE && !flush())
			continue;
		if (length > BUFFER_SIZE)
			return append_large(kind, relid, layout, payload, size, length);
		to = buffer + buffered;
		buffered += length;
		break;
	}

	fill_header(to, kind, relid, layout, length);
	if (size > 0)
		memcpy(to + IVM_RECORD_HEADER_SIZE, payload, size);
	if (kind == IVM_RECORD_BEGIN && segment->first_sequence == 0)
	{
		segment->first_begin = offset;
		pg_write_barrier();
		segment->first_sequence = sequence;
	}
	offset += length;
	segment->last_sequence = sequence;
	return true;
}

/* Begins the next transaction; its number is given here. */
void
ivm_log_append_begin(const IvmLogTxn *txn)
{
	IvmLogTxn	stored = *txn;

	stored.sequence = sequence;
	/* back to memory, if that lasts */
	if (tail_is_file() && !resting && offset >= SMALL_FILE && ivm_log_has_room(database))
		next_segment(0);
	(void) append(IVM_RECORD_BEGIN, InvalidOid, 0, &stored, sizeof(stored));
}

/* False if the log is over its limit: then the change is an unknown one. */
bool
ivm_log_append_row(Oid relid, bool insert, uint32 layout, MinimalTuple tuple)
{
	if (!append(insert ? IVM_RECORD_INSERT : IVM_RECORD_DELETE, relid, layout, tuple, tuple->t_len))
		return false;
	rows++;
	return true;
}

void
ivm_log_append_truncate(Oid relid)
{
	(void) append(IVM_RECORD_TRUNCATE, relid, 0, NULL, 0);
}

/* The table changed, and the log is over its limit. */
void
ivm_log_append_lost(Oid relid)
{
	(void) append(IVM_RECORD_LOST, relid, 0, NULL, 0);
}

/* Ends the transaction and lets readers see it. */
void
ivm_log_publish(TimestampTz commit_time)
{
	(void) append(IVM_RECORD_END, InvalidOid, 0, NULL, 0);
	if (tail_is_file() && flush())
		segment->used = written;
	segment->last_end = sequence;

	sequence++;
	database->next_sequence = sequence;
	ivm_lag_published(database, sequence, commit_time);
	pg_write_barrier();
	pg_atomic_write_u64(&current->published, sequence);

	pg_atomic_fetch_add_u64(&database->transactions, 1);
	pg_atomic_fetch_add_u64(&database->rows, rows);
	rows = 0;
}

/*
 * Room
 */

/* Is there plenty of memory, so that it pays to leave a file for it? */
bool
ivm_log_has_room(IvmDatabase *db)
{
	uint64		allowance = ivm_account_allowance(&db->account);
	uint64		limit = Min((uint64) ivm_delta_log_memory * 1024, allowance);

	return !ivm_spill_is_forced("log") && pg_atomic_read_u64(&db->log_memory) <= limit / 2;
}

/*
 * True if the log goes to files, or is about to.  Asked between two transactions;
 * makes the next segment's memory in advance.  A refusal stands until something more was
 * written, or one looks "again".
 */
bool
ivm_log_is_short(IvmDatabase *db, bool again)
{
	if (segment == NULL || resting)
		return false;
	if (tail_is_file())
		return !ivm_spill_is_forced("log") && !ivm_log_has_room(db);
	if (spare != NULL || offset <= segment->capacity / 2)
		return false;
	if (!again && offset < ask_again)
		return true;
	spare = ivm_log_memory_make(db, ivm_log_segment_size(db), false);
	ask_again = offset + segment->capacity / 8;
	return spare == NULL;
}

/* The newest segment that is full and only in memory; pinned for us. */
static IvmLogSegment *
pin_newest_in_memory(void)
{
	dsa_pointer found = InvalidDsaPointer;

	LWLockAcquire(&database->lock, LW_EXCLUSIVE);
	for (dsa_pointer p = current->head; DsaPointerIsValid(p); p = ivm_segment_of(database, p)->next)
	{
		IvmLogSegment *seg = ivm_segment_of(database, p);

		if (seg->sealed && !seg->on_file && seg->handle != DSM_HANDLE_INVALID)
			found = p;
	}
	database->spilling = found;
	LWLockRelease(&database->lock);
	return ivm_segment_of(database, found);
}

/*
 * The log may hold more than it is allowed to, since that was made less: writes
 * segments to files until it does not, the newest first.  Looked at between two
 * transactions and, since a large one takes long, for each piece that is written of one.
 */
void
ivm_log_give_back(IvmDatabase *db)
{
	while (pg_atomic_read_u64(&db->log_memory) > (uint64) ivm_delta_log_memory * 1024 ||
		   ivm_account_is_over(&db->account))
	{
		IvmLogSegment *seg;
		dsm_segment *memory;
		dsa_pointer pinned;
		bool		done;

		if (spare != NULL)
		{
			free_spare();
			continue;
		}
		if (!over && ivm_held_to_file())
			continue;
		seg = over ? NULL : pin_newest_in_memory();
		if (seg == NULL)
			break;
		memory = ivm_log_memory_attach(seg->handle);
		done = pg_atomic_read_u64(&db->log_disk) + seg->used <= ivm_log_file_limit() &&
			ivm_log_file_write(current, seg->number, true, dsm_segment_address(memory), seg->used, 0);
		dsm_detach(memory);

		LWLockAcquire(&db->lock, LW_EXCLUSIVE);
		if (done)
		{
			seg->on_file = true;
			seg->disk = seg->used;
			pg_atomic_fetch_add_u64(&db->log_disk, seg->used);
			ivm_budget_count_spill(seg->used);
		}
		else
			ivm_log_file_delete(current, seg->number);
		pinned = db->spilling;
		db->spilling = InvalidDsaPointer;
		ivm_segment_unpinned(db, pinned);
		ivm_log_trim(db);
		LWLockRelease(&db->lock);
		if (!done)
			break;
	}
}
