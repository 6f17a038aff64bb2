/*-------------------------------------------------------------------------
 *
 * delta_log.c
 *	  The delta log: decoded transactions, in the order of their commits.
 *
 * A log is a list of segments of 1 MB, filled one after the other with records
 * that follow each other without gaps: the begin of a transaction, its rows and
 * truncations, its end.  A transaction may span segments, a record never does
 * (a larger one has a segment of its own size).  Only the decoder writes, and
 * it publishes a transaction as a whole by raising the number "published":
 * what lies before is never changed again, so that it is read without a lock
 * (cursor.c).  A sealed segment ends with a record that says so; a reader
 * therefore needs neither the length of a segment nor anything else that the
 * decoder is still changing.
 *
 * A log belongs to one decoder process.  The next decoder reads the same
 * transactions again and starts a new log; readers notice when they rewind.
 * Until then the old log stays whole, so that a batch that is being read never
 * ends in the middle of a transaction.
 *
 * Segments are freed from the old end, when every cursor has passed all that
 * they contain and no reader looks at them.  When the log takes more memory
 * than ivm.delta_log_memory, each segment that gets full is written to a file
 * and only its descriptor stays: the newest first, since the oldest will be
 * read first.  A reader that looks at the segment at that moment keeps its
 * memory for the time being, so the limit can be passed by one segment a reader.
 *
 * What it doesn't promise: a bound on the disk taken.  While no cursor exists
 * the decoder stops at the memory limit (ivm_log_is_full).
 *
 * Memory: all in the database's dynamic shared area.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/fd.h"
#include "utils/wait_event.h"

#include "base/settings.h"
#include "capture/capture_internal.h"

/* The decoder's side of the log it writes. */
static IvmDatabase *database;
static IvmLog *current;
static IvmLogSegment *segment;	/* the tail; NULL: none yet */
static char *data;				/* of the tail */
static Size offset;				/* where the next record goes */
static uint64 next_number;		/* of the next segment */
static uint64 sequence;			/* of the transaction being written, or the
								 * next */
static uint64 rows;				/* in that transaction */

IvmLog *
ivm_log_of(IvmDatabase *db, dsa_pointer pointer)
{
	return DsaPointerIsValid(pointer) ? dsa_get_address(ivm_database_area(db), pointer) : NULL;
}

IvmLogSegment *
ivm_segment_of(IvmDatabase *db, dsa_pointer pointer)
{
	return DsaPointerIsValid(pointer) ? dsa_get_address(ivm_database_area(db), pointer) : NULL;
}

void
ivm_segment_file_name(uint64 number, char *name)
{
	snprintf(name, NAMEDATALEN, UINT64_FORMAT, number);
}

/*
 * Freeing
 */

static bool
segment_is_pinned(IvmDatabase *db, dsa_pointer pointer)
{
	for (int i = 0; i < IVM_MAX_CURSORS; i++)
		if (db->cursors[i].in_use && db->cursors[i].segment == pointer)
			return true;
	return false;
}

/* Frees the memory of a segment's contents. */
static void
free_data(dsa_area *area, IvmLog *of, IvmLogSegment *seg)
{
	if (!DsaPointerIsValid(seg->data))
		return;
	dsa_free(area, seg->data);
	seg->data = InvalidDsaPointer;
	pg_atomic_fetch_sub_u64(&of->memory, seg->capacity);
}

/*
 * A reader has turned away from a segment: memory that was kept for it alone is
 * freed.  The caller holds the lock exclusively.
 */
void
ivm_segment_unpinned(IvmDatabase *db, IvmLog *of, dsa_pointer pointer)
{
	IvmLogSegment *seg = ivm_segment_of(db, pointer);

	if (seg->on_file && !segment_is_pinned(db, pointer))
		free_data(ivm_database_area(db), of, seg);
}

/* Frees the log's oldest segment. */
static void
free_head(dsa_area *area, IvmLog *of)
{
	dsa_pointer pointer = of->head;
	IvmLogSegment *seg = dsa_get_address(area, pointer);

	free_data(area, of, seg);
	if (seg->on_file)
	{
		char		name[NAMEDATALEN];

		ivm_segment_file_name(seg->number, name);
		FileSetDelete(&of->files, name, false);
		pg_atomic_fetch_sub_u64(&of->disk, seg->used);
	}
	of->head = seg->next;
	if (of->tail == pointer)
		of->tail = InvalidDsaPointer;
	dsa_free(area, pointer);
}

/*
 * Frees what no cursor needs any more: segments of the newest log that all have
 * passed, and whole logs that their decoder and all readers have left.  The
 * caller holds the lock exclusively.
 */
void
ivm_log_trim(IvmDatabase *db)
{
	dsa_area   *area = ivm_database_area(db);
	dsa_pointer *link = &db->log;

	while (DsaPointerIsValid(*link))
	{
		dsa_pointer pointer = *link;
		IvmLog	   *of = dsa_get_address(area, pointer);
		bool		is_newest = link == &db->log;
		bool		is_read = false;
		uint64		minimum;

		for (int i = 0; i < IVM_MAX_CURSORS; i++)
		{
			IvmCursorShared *cursor = &db->cursors[i];

			if (cursor->in_use && cursor->reading && cursor->incarnation == of->incarnation)
				is_read = true;
		}

		if (of->closed && !is_read)
		{
			while (DsaPointerIsValid(of->head))
				free_head(area, of);
			if (of->has_files)
				FileSetDeleteAll(&of->files);
			*link = of->older;
			dsa_free(area, pointer);
			continue;
		}

		if (is_newest && !of->closed && ivm_cursor_minimum(db, of->incarnation, &minimum))
		{
			while (DsaPointerIsValid(of->head) && of->head != of->tail)
			{
				IvmLogSegment *seg = dsa_get_address(area, of->head);

				if (seg->last_sequence >= minimum ||
					segment_is_pinned(db, of->head))
					break;
				free_head(area, of);
			}
		}
		link = &of->older;
	}
}

/*
 * Starts a new, empty log, whose contents will be the transactions that commit
 * at or after start_lsn.  This process has become the database's decoder.
 */
void
ivm_log_start(IvmDatabase *db, XLogRecPtr start_lsn)
{
	dsa_area   *area;
	dsa_pointer pointer;

	ivm_database_attach(db);
	area = ivm_database_area(db);

	pointer = dsa_allocate0(area, sizeof(IvmLog));
	database = db;
	current = dsa_get_address(area, pointer);
	segment = NULL;
	next_number = 1;
	sequence = db->next_sequence;
	rows = 0;
	current->head = current->tail = InvalidDsaPointer;
	FileSetInit(&current->files);
	pg_atomic_init_u64(&current->published, sequence);
	pg_atomic_init_u64(&current->memory, 0);
	pg_atomic_init_u64(&current->disk, 0);

	LWLockAcquire(&db->lock, LW_EXCLUSIVE);
	for (dsa_pointer p = db->log; DsaPointerIsValid(p); p = ivm_log_of(db, p)->older)
		ivm_log_of(db, p)->closed = true;
	current->incarnation = ++db->incarnations;
	current->older = db->log;
	db->log = pointer;
	pg_atomic_write_u64(&db->decoded, start_lsn);
	ivm_log_trim(db);
	LWLockRelease(&db->lock);
}

/* The decoder ends: its log is kept for those who are reading it, no longer. */
void
ivm_log_stop(IvmDatabase *db)
{
	if (current == NULL)
		return;
	LWLockAcquire(&db->lock, LW_EXCLUSIVE);
	current->closed = true;
	current = NULL;
	ivm_log_trim(db);
	LWLockRelease(&db->lock);
}

/*
 * Writing
 */

/* Writes the tail, which is full, to a file; its memory is freed if nobody looks. */
static void
spill_tail(void)
{
	char		name[NAMEDATALEN];
	Size		done = 0;
	File		file;

	ivm_segment_file_name(segment->number, name);
	current->has_files = true;
	file = FileSetCreate(&current->files, name);
	while (done < segment->used)
	{
		int			chunk = Min(segment->used - done, (Size) 16 * 1024 * 1024);

		CHECK_FOR_INTERRUPTS();
		errno = 0;
		if (FileWrite(file, data + done, chunk, done, WAIT_EVENT_BUFFILE_WRITE) != chunk)
		{
			/* a short write that sets no errno is a full disk */
			if (errno == 0)
				errno = ENOSPC;
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not write to temporary file \"%s\": %m", FilePathName(file))));
		}
		done += chunk;
	}
	FileClose(file);

	LWLockAcquire(&database->lock, LW_EXCLUSIVE);
	segment->on_file = true;
	pg_atomic_fetch_add_u64(&current->disk, segment->used);
	if (!segment_is_pinned(database, current->tail))
		free_data(ivm_database_area(database), current, segment);
	LWLockRelease(&database->lock);
}

/* Seals the tail, if there is one, and makes a new one with room for a record of that size. */
static void
new_segment(Size size)
{
	dsa_area   *area = ivm_database_area(database);
	Size		capacity = Max(IVM_SEGMENT_SIZE, size + IVM_RECORD_HEADER_SIZE);
	dsa_pointer pointer;
	IvmLogSegment *made;

	if (segment != NULL)
	{
		IvmRecordHeader *header = (IvmRecordHeader *) (data + offset);

		header->length = IVM_RECORD_HEADER_SIZE;
		header->kind = IVM_RECORD_SEGMENT_END;
		header->relid = InvalidOid;
		header->layout = 0;
		segment->used = offset + IVM_RECORD_HEADER_SIZE;

		/* still the tail, so it cannot be freed meanwhile */
		if (pg_atomic_read_u64(&current->memory) + capacity > (uint64) ivm_delta_log_memory * 1024)
			spill_tail();
	}

	pointer = dsa_allocate0(area, sizeof(IvmLogSegment));
	made = dsa_get_address(area, pointer);
	made->number = next_number++;
	made->next = InvalidDsaPointer;
	made->capacity = capacity;
	made->data = dsa_allocate_extended(area, capacity, DSA_ALLOC_HUGE);
	pg_atomic_fetch_add_u64(&current->memory, capacity);

	LWLockAcquire(&database->lock, LW_EXCLUSIVE);
	if (segment != NULL)
	{
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
	data = dsa_get_address(area, made->data);
	offset = 0;
}

/* Room for a record; its header is filled in. */
static char *
reserve(IvmRecordKind kind, Oid relid, Size payload)
{
	Size		length = IVM_RECORD_HEADER_SIZE + MAXALIGN(payload);
	IvmRecordHeader *header;

	if (segment == NULL || offset + length + IVM_RECORD_HEADER_SIZE > segment->capacity)
		new_segment(length);

	header = (IvmRecordHeader *) (data + offset);
	header->length = length;
	header->kind = kind;
	header->relid = relid;
	header->layout = 0;
	offset += length;
	segment->last_sequence = sequence;
	return (char *) header + IVM_RECORD_HEADER_SIZE;
}

/* Begins the next transaction; its number is given here. */
void
ivm_log_append_begin(const IvmLogTxn *txn)
{
	IvmLogTxn  *stored = (IvmLogTxn *) reserve(IVM_RECORD_BEGIN, InvalidOid, sizeof(IvmLogTxn));

	*stored = *txn;
	stored->sequence = sequence;
	if (segment->first_sequence == 0)
	{
		segment->first_begin = (char *) stored - IVM_RECORD_HEADER_SIZE - data;
		pg_write_barrier();
		segment->first_sequence = sequence;
	}
}

void
ivm_log_append_row(Oid relid, bool insert, uint32 layout, MinimalTuple tuple)
{
	char	   *stored = reserve(insert ? IVM_RECORD_INSERT : IVM_RECORD_DELETE,
								 relid, tuple->t_len);

	((IvmRecordHeader *) (stored - IVM_RECORD_HEADER_SIZE))->layout = layout;
	memcpy(stored, tuple, tuple->t_len);
	rows++;
}

void
ivm_log_append_truncate(Oid relid)
{
	(void) reserve(IVM_RECORD_TRUNCATE, relid, 0);
}

/* Ends the transaction and lets readers see it. */
void
ivm_log_publish(void)
{
	(void) reserve(IVM_RECORD_END, InvalidOid, 0);
	segment->last_end = sequence;

	sequence++;
	database->next_sequence = sequence;
	pg_write_barrier();
	pg_atomic_write_u64(&current->published, sequence);

	pg_atomic_fetch_add_u64(&database->transactions, 1);
	pg_atomic_fetch_add_u64(&database->rows, rows);
	rows = 0;
}

/*
 * True if the decoder should wait: the log is at its limit, and there is nobody
 * who would ever read it.
 */
bool
ivm_log_is_full(IvmDatabase *db)
{
	bool		has_reader = false;

	if (pg_atomic_read_u64(&current->memory) < (uint64) ivm_delta_log_memory * 1024)
		return false;
	LWLockAcquire(&db->lock, LW_SHARED);
	for (int i = 0; i < IVM_MAX_CURSORS && !has_reader; i++)
		has_reader = db->cursors[i].in_use;
	LWLockRelease(&db->lock);
	return !has_reader;
}

/* What all logs of the database take; the caller holds the lock. */
Size
ivm_log_memory(IvmDatabase *db, Size *disk)
{
	Size		memory = 0;

	*disk = 0;
	for (dsa_pointer p = db->log; DsaPointerIsValid(p); p = ivm_log_of(db, p)->older)
	{
		memory += pg_atomic_read_u64(&ivm_log_of(db, p)->memory);
		*disk += pg_atomic_read_u64(&ivm_log_of(db, p)->disk);
	}
	return memory;
}

IvmLogEnd
ivm_log_end(IvmDatabase *db)
{
	IvmLogEnd	result = {0};
	IvmLog	   *newest;

	ivm_database_attach(db);
	LWLockAcquire(&db->lock, LW_SHARED);
	newest = ivm_log_of(db, db->log);
	if (newest != NULL)
	{
		/* the position first: what is published may only be more than it says */
		result.decoded_lsn = pg_atomic_read_u64(&db->decoded);
		pg_read_barrier();
		result.sequence = pg_atomic_read_u64(&newest->published);
		result.incarnation = newest->incarnation;
	}
	LWLockRelease(&db->lock);
	return result;
}
