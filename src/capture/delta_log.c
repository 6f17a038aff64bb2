/*-------------------------------------------------------------------------
 *
 * delta_log.c
 *	  The delta log: decoded transactions, in the order of their commits.
 *
 * A log is a list of segments, filled one after the other with records that
 * follow each other without gaps: the begin of a transaction, its rows and
 * truncations, its end.  A transaction may span segments, a record never does.
 * Only the decoder writes (log_writer.c), and it publishes a transaction as a
 * whole by raising the number "published": what lies before is never changed
 * again, so that it is read without a lock (cursor.c).
 *
 * A log belongs to one decoder process.  The next decoder reads the same
 * transactions again and starts a new log; readers notice when they rewind.
 * Until then the old log stays whole, so that a batch that is being read never
 * ends in the middle of a transaction.
 *
 * A segment is in memory (log_memory.c), in a file (log_file.c), or, while a
 * reader still looks at the memory of one that was written to a file, in both.
 * Segments are freed from the old end, when every cursor has passed all that
 * they contain and no reader looks at them.  The one that is being written goes
 * too when the decoder rests: a log that was drained takes nothing.
 *
 * Memory: descriptors in the database's dynamic shared area.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "storage/fd.h"

#include "capture/capture_internal.h"

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

/*
 * Freeing
 */

static bool
segment_is_pinned(IvmDatabase *db, dsa_pointer pointer)
{
	if (db->spilling == pointer)
		return true;
	for (int i = 0; i < IVM_MAX_CURSORS; i++)
		if (db->cursors[i].in_use && db->cursors[i].segment == pointer)
			return true;
	return false;
}

/* Frees the memory of a segment's contents. */
static void
free_memory(IvmDatabase *db, IvmLogSegment *seg)
{
	dsm_handle	handle = seg->handle;

	if (handle == DSM_HANDLE_INVALID)
		return;
	seg->handle = DSM_HANDLE_INVALID;
	ivm_log_memory_free(db, handle, seg->capacity);
	ivm_wake_stalled_decoder(db);
}

/*
 * A reader has turned away from a segment: memory that was kept for it alone is
 * freed.  The caller holds the lock exclusively.
 */
void
ivm_segment_unpinned(IvmDatabase *db, dsa_pointer pointer)
{
	IvmLogSegment *seg = ivm_segment_of(db, pointer);

	if (seg->on_file && !segment_is_pinned(db, pointer))
		free_memory(db, seg);
}

/* Frees the log's oldest segment. */
static void
free_head(IvmDatabase *db, IvmLog *of)
{
	dsa_pointer pointer = of->head;
	IvmLogSegment *seg = ivm_segment_of(db, pointer);

	free_memory(db, seg);
	if (seg->on_file)
	{
		ivm_log_file_delete(of, seg->number);
		pg_atomic_fetch_sub_u64(&db->log_disk, seg->disk);
	}
	of->head = seg->next;
	if (of->tail == pointer)
		of->tail = InvalidDsaPointer;
	dsa_free(ivm_database_area(db), pointer);
}

/*
 * What cursors keep, and let be confirmed
 */

void
ivm_cursor_drop(IvmDatabase *database, const char *name)
{
	ivm_database_attach(database);
	LWLockAcquire(&database->lock, LW_EXCLUSIVE);
	for (int i = 0; i < IVM_MAX_CURSORS; i++)
	{
		IvmCursorShared *shared = &database->cursors[i];

		if (shared->in_use && shared->persistent && strcmp(shared->name, name) == 0)
		{
			shared->in_use = false;
			shared->pid = 0;
			shared->reading = false;
			shared->busy = false;
			shared->segment = InvalidDsaPointer;
			shared->epoch++;
		}
	}
	/* it may have been the last that something was kept for */
	ivm_log_trim(database);
	LWLockRelease(&database->lock);
}

/*
 * The smallest position of all cursors, 0 if one has not come to that log yet;
 * false if there is no cursor.  The caller holds the lock.
 */
bool
ivm_cursor_minimum(IvmDatabase *database, uint64 incarnation, uint64 *position)
{
	bool		found = false;

	*position = PG_UINT64_MAX;
	for (int i = 0; i < IVM_MAX_CURSORS; i++)
	{
		IvmCursorShared *shared = &database->cursors[i];
		uint64		its_position = shared->incarnation == incarnation ? shared->position : 0;

		if (!shared->in_use)
			continue;
		found = true;
		*position = Min(*position, its_position);
	}
	return found;
}

/*
 * How far the slot may be confirmed; false if nothing may be, for there is no
 * persistent cursor or one that has not said yet.
 */
bool
ivm_cursor_confirmable(IvmDatabase *database, XLogRecPtr *lsn)
{
	bool		found = false;
	XLogRecPtr	minimum = PG_UINT64_MAX;

	LWLockAcquire(&database->lock, LW_SHARED);
	for (int i = 0; i < IVM_MAX_CURSORS; i++)
	{
		IvmCursorShared *shared = &database->cursors[i];
		XLogRecPtr	confirm = pg_atomic_read_u64(&shared->confirm);

		if (!shared->in_use)
			continue;
		found |= shared->persistent;
		minimum = Min(minimum, confirm);
	}
	LWLockRelease(&database->lock);
	*lsn = minimum;
	return found && minimum != InvalidXLogRecPtr;
}

/*
 * Frees what no cursor needs any more: segments of the newest log that all have
 * passed, and whole logs that their decoder and all readers have left.  The
 * caller holds the lock exclusively.
 */
void
ivm_log_trim(IvmDatabase *db)
{
	dsa_pointer *link = &db->log;

	while (DsaPointerIsValid(*link))
	{
		dsa_pointer pointer = *link;
		IvmLog	   *of = ivm_log_of(db, pointer);
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
				free_head(db, of);
			if (of->has_files)
				FileSetDeleteAll(&of->files);
			*link = of->older;
			dsa_free(ivm_database_area(db), pointer);
			continue;
		}

		if (is_newest && !of->closed && ivm_cursor_minimum(db, of->incarnation, &minimum))
		{
			while (DsaPointerIsValid(of->head) && (of->head != of->tail || of->resting))
			{
				IvmLogSegment *seg = ivm_segment_of(db, of->head);

				if (seg->last_sequence >= minimum ||
					segment_is_pinned(db, of->head))
					break;
				free_head(db, of);
			}
			/* the directory goes with the files: a resting decoder is not about to make one */
			if (of->resting && of->has_files && !of->holds && !DsaPointerIsValid(of->head))
			{
				FileSetDeleteAll(&of->files);
				of->has_files = false;
			}
		}
		link = &of->older;
	}
}

/* Is somebody working on what is in the log, so that it is worth waiting for him? */
bool
ivm_log_is_busy(IvmDatabase *db)
{
	bool		result = false;

	LWLockAcquire(&db->lock, LW_SHARED);
	for (int i = 0; i < IVM_MAX_CURSORS && !result; i++)
		result = db->cursors[i].in_use && db->cursors[i].pid != 0 && db->cursors[i].busy;
	LWLockRelease(&db->lock);
	return result;
}

/* Will somebody ever read what is in the log? */
bool
ivm_log_has_readers(IvmDatabase *db)
{
	bool		result = false;

	LWLockAcquire(&db->lock, LW_SHARED);
	for (int i = 0; i < IVM_MAX_CURSORS && !result; i++)
		result = db->cursors[i].in_use;
	LWLockRelease(&db->lock);
	return result;
}

bool
ivm_log_is_over_limit(IvmDatabase *db)
{
	return pg_atomic_read_u32(&db->over_limit) != 0;
}

uint64
ivm_log_transactions(IvmDatabase *database)
{
	return pg_atomic_read_u64(&database->transactions);
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
