/*-------------------------------------------------------------------------
 *
 * cursor.c
 *	  Reading the delta log.
 *
 * A cursor is two things at once: a promise that what lies at or after its
 * position is kept, and a place to read from.  The promise is in shared memory
 * (IvmCursorShared) and can outlive the process; the place is local.
 *
 * A reader pins one segment, the one it looks at, by naming it in its cursor.
 * A pinned segment is not freed, and its memory, if it has some at that moment,
 * stays.  Rows of a segment in memory are handed out in place.  A segment
 * without memory is read from its file in pieces that end with a record; a record
 * that is larger than a piece makes one of its own, which is freed with the next.
 *
 * Who reads nothing for a second lets go of its segment (ivm_cursor_rest), so that
 * a log that all have read takes no memory.
 *
 * The place is found anew by each rewind: from the log's head along the
 * descriptors to the last segment in which a transaction begins that is not
 * past the position, then transaction by transaction.  Where the search ended
 * is remembered (by number, since segments may be gone next time), so that the
 * usual rewind, to where the last batch ended, reads nothing twice.
 *
 * Memory: a handle and, while the cursor reads a file, a piece of it, in TopMemoryContext.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "capture/capture_internal.h"

#define PIECE_SIZE		((Size) 64 * 1024)	/* of a file */
#define REST_DELAY		1000	/* ms */

struct IvmCursor
{
	IvmDatabase *database;
	uint64		use;			/* of the database's entry */
	IvmCursorShared *shared;
	uint64		epoch;			/* it is still ours while the shared one is
								 * the same */

	uint64		incarnation;
	IvmLog	   *log;			/* NULL: not come to it yet, or it is gone */

	/* where we read; no segment: the place is not known yet */
	dsa_pointer segment_pointer;
	IvmLogSegment *segment;
	dsm_segment *mapping;		/* its contents in memory; NULL: none, or not
								 * mapped yet */
	bool		in_file;		/* has been found to be in its file only */
	Size		offset;			/* of the next record */
	uint64		next_sequence;	/* of the next transaction from here */
	bool		in_txn;			/* reading next_sequence - 1 */

	/* a place where a transaction begins */
	uint64		place_segment;	/* segment's number; 0: none */
	Size		place_offset;
	uint64		place_sequence;

	char	   *piece;			/* of its file; NULL: none */
	Size		piece_size;		/* allocated */
	Size		piece_begin;	/* where it begins */
	Size		piece_end;
};

static IvmCursor *my_cursors[IVM_MAX_CURSORS];
static bool exit_registered = false;

static bool any_has_read;		/* since the last look of ivm_cursor_rest */
static TimestampTz quiet_since; /* 0: all have let go */

/* Gives up what this process holds; a persistent cursor stays. */
static void
cursors_exit(int code, Datum argument)
{
	for (int i = 0; i < IVM_MAX_CURSORS; i++)
	{
		IvmCursor  *cursor = my_cursors[i];

		if (cursor != NULL)
			ivm_cursor_release(cursor);
	}
}

static bool
cursor_is_ours(IvmCursor *cursor)
{
	return cursor->use == cursor->database->use && cursor->shared->in_use &&
		cursor->shared->epoch == cursor->epoch;
}

IvmCursor *
ivm_cursor_create(IvmDatabase *database, const char *name, bool persistent)
{
	IvmCursor  *cursor;
	IvmCursorShared *shared = NULL;
	int			mine = -1;

	for (int i = 0; i < IVM_MAX_CURSORS; i++)
	{
		/* an earlier handle of the same cursor, or one that was taken over */
		if (my_cursors[i] != NULL && my_cursors[i]->database == database &&
			(!cursor_is_ours(my_cursors[i]) ||
			 (persistent && strcmp(my_cursors[i]->shared->name, name) == 0)))
			ivm_cursor_release(my_cursors[i]);
		if (my_cursors[i] == NULL && mine < 0)
			mine = i;
	}
	if (mine < 0)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many readers of the delta log")));
	if (!exit_registered)
	{
		before_shmem_exit(cursors_exit, (Datum) 0);
		exit_registered = true;
	}
	cursor = MemoryContextAllocZero(TopMemoryContext, sizeof(IvmCursor));

	LWLockAcquire(&database->lock, LW_EXCLUSIVE);
	for (int i = 0; i < IVM_MAX_CURSORS; i++)
	{
		IvmCursorShared *candidate = &database->cursors[i];

		if (candidate->in_use && persistent && candidate->persistent &&
			strcmp(candidate->name, name) == 0)
		{
			shared = candidate;
			break;
		}
		if (!candidate->in_use && shared == NULL)
			shared = candidate;
	}
	if (shared == NULL)
	{
		LWLockRelease(&database->lock);
		pfree(cursor);
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many readers of the delta log")));
	}
	shared->in_use = true;
	shared->persistent = persistent;
	shared->pid = MyProcPid;
	shared->epoch++;
	strlcpy(shared->name, name, NAMEDATALEN);
	shared->incarnation = database->incarnations;
	shared->reading = false;
	shared->busy = false;
	shared->segment = InvalidDsaPointer;
	shared->position = 0;
	pg_atomic_write_u64(&shared->confirm, InvalidXLogRecPtr);
	cursor->epoch = shared->epoch;
	cursor->incarnation = shared->incarnation;
	LWLockRelease(&database->lock);

	cursor->database = database;
	cursor->use = database->use;
	cursor->shared = shared;
	my_cursors[mine] = cursor;
	return cursor;
}

/* Lets go of the contents of the segment that it looks at. */
static void
unload(IvmCursor *cursor)
{
	bool		is_shared = false;

	if (cursor->mapping != NULL)
	{
		for (int i = 0; i < IVM_MAX_CURSORS; i++)
			if (my_cursors[i] != NULL && my_cursors[i] != cursor &&
				my_cursors[i]->mapping == cursor->mapping)
				is_shared = true;
		if (!is_shared)
			dsm_detach(cursor->mapping);
	}
	cursor->mapping = NULL;
	cursor->in_file = false;
	if (cursor->piece != NULL)
		pfree(cursor->piece);
	cursor->piece = NULL;
}

void
ivm_cursor_release(IvmCursor *cursor)
{
	IvmDatabase *database = cursor->database;

	unload(cursor);
	LWLockAcquire(&database->lock, LW_EXCLUSIVE);
	if (cursor_is_ours(cursor))
	{
		IvmCursorShared *shared = cursor->shared;
		dsa_pointer segment = shared->segment;

		shared->segment = InvalidDsaPointer;
		shared->pid = 0;
		shared->reading = false;
		shared->busy = false;
		if (!shared->persistent)
			shared->in_use = false;
		if (cursor->log != NULL)
		{
			if (DsaPointerIsValid(segment))
				ivm_segment_unpinned(database, segment);
			ivm_log_trim(database);
		}
	}
	LWLockRelease(&database->lock);

	for (int i = 0; i < IVM_MAX_CURSORS; i++)
		if (my_cursors[i] == cursor)
			my_cursors[i] = NULL;
	pfree(cursor);
}

/*
 * Places
 */

static void
check_ownership(IvmCursor *cursor)
{
	if (!cursor_is_ours(cursor))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("cursor of the delta log was taken over by another process")));
}

/*
 * Looks at another segment, or at none.  The one looked at before is pinned, so
 * the one that follows it is there still.  The caller holds the lock exclusively.
 */
static void
enter_segment_locked(IvmCursor *cursor, dsa_pointer pointer)
{
	dsa_pointer left = cursor->shared->segment;

	if (left != pointer)
		unload(cursor);
	cursor->shared->segment = pointer;
	if (DsaPointerIsValid(left) && left != pointer)
		ivm_segment_unpinned(cursor->database, left);
	cursor->segment_pointer = pointer;
	cursor->segment = ivm_segment_of(cursor->database, pointer);
	cursor->offset = 0;
}

static void
enter_next_segment(IvmCursor *cursor)
{
	dsa_pointer next = cursor->segment->next;

	Assert(DsaPointerIsValid(next));
	LWLockAcquire(&cursor->database->lock, LW_EXCLUSIVE);
	enter_segment_locked(cursor, next);
	LWLockRelease(&cursor->database->lock);
}

/* True if nothing more comes in the segment.  What was published and is not there is in the next. */
static inline bool
segment_is_read(IvmCursor *cursor)
{
	if (!cursor->segment->sealed)
		return false;
	pg_read_barrier();
	return cursor->offset >= cursor->segment->used;
}

/*
 * Makes so many bytes of the file accessible from the cursor's place on, and what
 * follows as far as there is room.
 */
static char *
read_file(IvmCursor *cursor, Size length)
{
	IvmLogSegment *segment = cursor->segment;
	Size		used;
	Size		size;

	if (cursor->piece != NULL && cursor->offset >= cursor->piece_begin &&
		cursor->offset + length <= cursor->piece_end)
		return cursor->piece + (cursor->offset - cursor->piece_begin);

	size = Max(length, PIECE_SIZE);
	if (cursor->piece != NULL && cursor->piece_size != size)
	{
		pfree(cursor->piece);
		cursor->piece = NULL;
	}
	if (cursor->piece == NULL)
		cursor->piece = MemoryContextAllocHuge(TopMemoryContext, size);
	cursor->piece_size = size;
	cursor->piece_begin = cursor->piece_end = cursor->offset;
	/* what comes after that is still being written */
	used = ((volatile IvmLogSegment *) segment)->used;
	if (cursor->offset + length > used)
		elog(ERROR, "unexpected end of a segment of the delta log");
	size = Min(size, used - cursor->offset);
	ivm_log_file_read(cursor->log, segment->number, cursor->piece, size, cursor->offset);
	cursor->piece_end = cursor->offset + size;
	return cursor->piece;
}

/*
 * The record at the cursor's place, of which so much is needed: with its
 * contents, or only the header.
 */
static IvmRecordHeader *
current_record(IvmCursor *cursor, bool whole)
{
	IvmRecordHeader *header;

	if (cursor->mapping == NULL && !cursor->in_file)
	{
		dsm_handle	handle;

		/* what is in memory now stays as long as we look at it */
		LWLockAcquire(&cursor->database->lock, LW_SHARED);
		handle = cursor->segment->handle;
		LWLockRelease(&cursor->database->lock);
		if (handle == DSM_HANDLE_INVALID)
			cursor->in_file = true;
		else
			cursor->mapping = ivm_log_memory_attach(handle);
	}
	if (cursor->mapping != NULL)
		return (IvmRecordHeader *) ((char *) dsm_segment_address(cursor->mapping) + cursor->offset);

	header = (IvmRecordHeader *) read_file(cursor, IVM_RECORD_HEADER_SIZE);
	if (whole)
		header = (IvmRecordHeader *) read_file(cursor, header->length);
	return header;
}

/*
 * Finds the last segment in which a transaction begins that is not past the
 * position, or else the first in which one begins at all.  Leaves the cursor
 * without a segment if there is nothing yet.  The caller holds the lock
 * exclusively.
 */
static void
find_place(IvmCursor *cursor)
{
	IvmDatabase *database = cursor->database;
	uint64		position = cursor->shared->position;
	dsa_pointer found = InvalidDsaPointer;
	IvmLogSegment *segment;

	for (dsa_pointer p = cursor->log->head; DsaPointerIsValid(p);)
	{
		segment = ivm_segment_of(database, p);
		if (segment->first_sequence != 0)
		{
			if (DsaPointerIsValid(found) && segment->first_sequence > position)
				break;
			found = p;
			if (segment->number == cursor->place_segment &&
				cursor->place_sequence <= position)
				break;
		}
		p = segment->next;
	}

	cursor->in_txn = false;
	enter_segment_locked(cursor, found);
	if (!DsaPointerIsValid(found))
		return;
	pg_read_barrier();
	segment = cursor->segment;
	if (segment->number == cursor->place_segment && cursor->place_sequence <= position)
	{
		cursor->offset = cursor->place_offset;
		cursor->next_sequence = cursor->place_sequence;
	}
	else
	{
		cursor->offset = segment->first_begin;
		cursor->next_sequence = segment->first_sequence;
	}
}

/* Goes to the end of the current transaction. */
static void
skip_txn(IvmCursor *cursor)
{
	while (cursor->in_txn)
	{
		IvmRecordHeader *record;

		if (segment_is_read(cursor))
		{
			enter_next_segment(cursor);
			continue;
		}
		/* a segment that is in the middle of it need not even be loaded */
		if (cursor->offset == 0 && cursor->segment->sealed)
		{
			pg_read_barrier();
			if (cursor->segment->last_end < cursor->next_sequence - 1)
			{
				enter_next_segment(cursor);
				continue;
			}
			if (cursor->segment->first_sequence == cursor->next_sequence)
			{
				pg_read_barrier();
				cursor->offset = cursor->segment->first_begin;
				cursor->in_txn = false;
				break;
			}
		}

		CHECK_FOR_INTERRUPTS();
		record = current_record(cursor, false);
		cursor->offset += record->length;
		if (record->kind == IVM_RECORD_END)
			cursor->in_txn = false;
	}
}

/*
 * Comes to the log that was the newest when the cursor was made, if it still
 * is.  The caller holds the lock exclusively.
 */
static void
come_to_log(IvmCursor *cursor)
{
	IvmLog	   *newest = ivm_log_of(cursor->database, cursor->database->log);

	if (newest == NULL || newest->incarnation != cursor->incarnation)
		return;
	cursor->log = newest;
	cursor->shared->reading = true;
}

/* The same for who has not rewound; false if there is nothing to come to. */
static bool
have_log(IvmCursor *cursor)
{
	if (cursor->log != NULL)
		return true;
	ivm_database_attach(cursor->database);
	check_ownership(cursor);
	LWLockAcquire(&cursor->database->lock, LW_EXCLUSIVE);
	come_to_log(cursor);
	LWLockRelease(&cursor->database->lock);
	return cursor->log != NULL;
}

bool
ivm_log_rewind(IvmCursor *cursor)
{
	IvmDatabase *database = cursor->database;
	bool		same;

	ivm_database_attach(database);
	check_ownership(cursor);

	LWLockAcquire(&database->lock, LW_EXCLUSIVE);
	cursor->shared->busy = true;
	same = cursor->incarnation == database->incarnations;
	if (!same)
	{
		if (cursor->log != NULL)
			enter_segment_locked(cursor, InvalidDsaPointer);
		cursor->log = NULL;
		cursor->place_segment = 0;
		cursor->shared->reading = false;
		cursor->shared->position = 0;
		cursor->incarnation = cursor->shared->incarnation = database->incarnations;
		ivm_log_trim(database);
	}
	if (cursor->log == NULL)
		come_to_log(cursor);
	if (cursor->log != NULL)
		find_place(cursor);
	LWLockRelease(&database->lock);
	return same && cursor->log != NULL;
}

bool
ivm_log_next_txn(IvmCursor *cursor, IvmLogTxn *txn)
{
	IvmDatabase *database = cursor->database;

	if (!have_log(cursor))
		return false;
	if (cursor->in_txn)
		skip_txn(cursor);

	for (;;)
	{
		IvmRecordHeader *record;
		uint64		published = pg_atomic_read_u64(&cursor->log->published);

		pg_read_barrier();
		if (cursor->segment == NULL)
		{
			LWLockAcquire(&database->lock, LW_EXCLUSIVE);
			find_place(cursor);
			LWLockRelease(&database->lock);
			if (cursor->segment == NULL)
				return false;
		}
		if (cursor->next_sequence >= published)
		{
			if (cursor->piece != NULL)
				pfree(cursor->piece);
			cursor->piece = NULL;
			return false;
		}

		if (segment_is_read(cursor))
		{
			enter_next_segment(cursor);
			continue;
		}
		any_has_read = true;
		record = current_record(cursor, true);
		if (record->kind != IVM_RECORD_BEGIN)
			elog(ERROR, "unexpected record of kind %u in the delta log", record->kind);
		*txn = *(IvmLogTxn *) ((char *) record + IVM_RECORD_HEADER_SIZE);
		if (txn->sequence != cursor->next_sequence)
			elog(ERROR, "unexpected transaction " UINT64_FORMAT " in the delta log", txn->sequence);
		if (txn->sequence == cursor->shared->position)
		{
			cursor->place_segment = cursor->segment->number;
			cursor->place_offset = cursor->offset;
			cursor->place_sequence = txn->sequence;
		}
		cursor->offset += record->length;
		cursor->next_sequence++;
		cursor->in_txn = true;
		if (txn->sequence >= cursor->shared->position)
			return true;
		skip_txn(cursor);
	}
}

bool
ivm_log_next_record(IvmCursor *cursor, IvmLogRecord *result)
{
	while (cursor->in_txn)
	{
		IvmRecordHeader *record;

		if (segment_is_read(cursor))
		{
			enter_next_segment(cursor);
			continue;
		}
		record = current_record(cursor, true);
		cursor->offset += record->length;
		result->relid = record->relid;
		switch ((IvmRecordKind) record->kind)
		{
			case IVM_RECORD_INSERT:
			case IVM_RECORD_DELETE:
				result->kind = IVM_LOG_ROW;
				result->weight = record->kind == IVM_RECORD_INSERT ? 1 : -1;
				result->layout = record->layout;
				result->tuple = (MinimalTuple) ((char *) record + IVM_RECORD_HEADER_SIZE);
				return true;
			case IVM_RECORD_TRUNCATE:
			case IVM_RECORD_LOST:
				result->kind = record->kind == IVM_RECORD_TRUNCATE ? IVM_LOG_TRUNCATE : IVM_LOG_LOST;
				result->weight = 0;
				result->layout = 0;
				result->tuple = NULL;
				return true;
			case IVM_RECORD_END:
				cursor->in_txn = false;
				break;
			default:
				elog(ERROR, "unexpected record of kind %u in the delta log", record->kind);
		}
	}
	return false;
}

void
ivm_cursor_advance(IvmCursor *cursor, uint64 sequence)
{
	IvmDatabase *database = cursor->database;
	IvmLogSegment *head;
	uint64		published;

	check_ownership(cursor);
	cursor->shared->busy = false;
	ivm_wake_stalled_decoder(database);
	if (!have_log(cursor))
		return;
	published = pg_atomic_read_u64(&cursor->log->published);
	sequence = Min(sequence, published);
	if (sequence <= cursor->shared->position)
		return;

	/* most often all before was read, and nothing after */
	if (cursor->segment != NULL && !cursor->in_txn && cursor->next_sequence == sequence)
	{
		cursor->place_segment = cursor->segment->number;
		cursor->place_offset = cursor->offset;
		cursor->place_sequence = sequence;
	}

	LWLockAcquire(&database->lock, LW_SHARED);
	cursor->shared->position = sequence;
	head = ivm_segment_of(database, cursor->log->head);
	if (head != NULL && (cursor->log->head == cursor->log->tail || head->last_sequence >= sequence))
		head = NULL;
	LWLockRelease(&database->lock);

	/* there may be something to free */
	if (head != NULL)
	{
		LWLockAcquire(&database->lock, LW_EXCLUSIVE);
		ivm_log_trim(database);
		LWLockRelease(&database->lock);
	}
}

void
ivm_cursor_confirm(IvmCursor *cursor, XLogRecPtr lsn)
{
	check_ownership(cursor);
	if (lsn > pg_atomic_read_u64(&cursor->shared->confirm))
		pg_atomic_write_u64(&cursor->shared->confirm, lsn);
}

long
ivm_cursor_rest(void)
{
	TimestampTz now;
	bool		any = false;

	for (int i = 0; i < IVM_MAX_CURSORS && !any; i++)
		any = my_cursors[i] != NULL && my_cursors[i]->segment != NULL;
	if (!any)
	{
		any_has_read = false;
		quiet_since = 0;
		return PG_INT32_MAX;
	}
	now = GetCurrentTimestamp();
	if (any_has_read || quiet_since == 0)
	{
		any_has_read = false;
		quiet_since = now;
		return REST_DELAY;
	}
	if (!TimestampDifferenceExceeds(quiet_since, now, REST_DELAY))
		return TimestampDifferenceMilliseconds(now, TimestampTzPlusMilliseconds(quiet_since, REST_DELAY)) + 1;

	for (int i = 0; i < IVM_MAX_CURSORS; i++)
	{
		IvmCursor  *cursor = my_cursors[i];

		if (cursor == NULL || cursor->segment == NULL)
			continue;
		LWLockAcquire(&cursor->database->lock, LW_EXCLUSIVE);
		unload(cursor);
		if (cursor_is_ours(cursor))
		{
			enter_segment_locked(cursor, InvalidDsaPointer);
			ivm_log_trim(cursor->database);
		}
		LWLockRelease(&cursor->database->lock);
		cursor->segment = NULL;
		cursor->in_txn = false;
	}
	return PG_INT32_MAX;
}
