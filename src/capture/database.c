/*-------------------------------------------------------------------------
 *
 * database.c
 *	  The shared memory of the capture, one entry a database.
 *
 * An entry is all that is known of a database in shared memory: the capture's
 * part, which is here, and behind it room for what processes and sessions tell
 * each other (process/control.h), the entry's state among it.  So there is one life
 * for both: the entry is taken by whoever asks something about the database,
 * and given back by the launcher, which alone moves its state.  Every database
 * with incremental views takes at least one background process, so
 * max_worker_processes entries are enough for these; a few more are for
 * databases that are being looked into, or held.
 *
 * An entry is some kilobytes of main shared memory: it is there before and after
 * any process of the database, which lets cursors outlive their owners.  Logs and
 * registered tables are in a dynamic shared area, made when the first process needs it
 * and pinned, so that it too stays until the entry is emptied.
 *
 * A process that is killed makes the server initialize all of this again.  One
 * that ends, however it does, is cleaned up after by callbacks at its exit.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/memutils.h"

#include "capture/capture_internal.h"

#define SPARE_ENTRIES	16

typedef struct CaptureShared
{
	LWLock	   *lock;			/* guards which entries are in use */
	int			tranche;
	int			ndatabases;
	Size		stride;			/* from one entry to the next */
	pg_atomic_uint32 nused;
	char		entries[FLEXIBLE_ARRAY_MEMBER];
} CaptureShared;

/* This process's mapping of an entry's area. */
typedef struct Mapping
{
	uint64		use;
	dsa_area   *area;
} Mapping;

static CaptureShared *capture;
static Mapping *mappings;

Size
ivm_capture_shmem_size(Size more)
{
	return add_size(MAXALIGN(offsetof(CaptureShared, entries)),
					mul_size(max_worker_processes + SPARE_ENTRIES,
							 add_size(MAXALIGN(sizeof(IvmDatabase)), MAXALIGN(more))));
}

int
ivm_database_count(void)
{
	return capture->ndatabases;
}

IvmDatabase *
ivm_database_entry(int number)
{
	return (IvmDatabase *) ((char *) capture + MAXALIGN(offsetof(CaptureShared, entries)) +
							number * capture->stride);
}

int
ivm_database_number(IvmDatabase *database)
{
	return ((char *) database - (char *) ivm_database_entry(0)) / capture->stride;
}

void	   *
ivm_database_more(IvmDatabase *database)
{
	return (char *) database + MAXALIGN(sizeof(IvmDatabase));
}

Oid
ivm_database_oid(IvmDatabase *database)
{
	return pg_atomic_read_u32(&database->dboid);
}

/* Makes an entry empty. */
static void
reset_entry(IvmDatabase *database)
{
	database->area = DSM_HANDLE_INVALID;
	database->registry = InvalidDsaPointer;
	database->nregistered = 0;
	database->incomplete = InvalidDsaPointer;
	database->nincomplete = 0;
	database->incomplete_size = 0;
	database->registry_size = 0;
	pg_atomic_write_u64(&database->generation, 0);
	pg_atomic_write_u64(&database->acknowledged, 0);
	database->next_sequence = 1;
	database->log = InvalidDsaPointer;
	database->spilling = InvalidDsaPointer;
	pg_atomic_write_u64(&database->log_memory, 0);
	pg_atomic_write_u64(&database->log_disk, 0);
	pg_atomic_write_u32(&database->over_limit, 0);
	for (int i = 0; i < IVM_MAX_CURSORS; i++)
	{
		database->cursors[i].in_use = false;
		database->cursors[i].pid = 0;
		database->cursors[i].epoch++;
	}
	database->decoder_procno = -1;
	database->decoder_pid = 0;
	pg_atomic_write_u32(&database->state, IVM_DECODER_STOPPED);
	pg_atomic_write_u32(&database->sleeping, 0);
	pg_atomic_write_u32(&database->dozing, 0);
	pg_atomic_write_u32(&database->stalled, 0);
	pg_atomic_write_u64(&database->decoded, InvalidXLogRecPtr);
	pg_atomic_write_u64(&database->confirmed, InvalidXLogRecPtr);
	pg_atomic_write_u64(&database->restart, InvalidXLogRecPtr);
	database->slot_is_new = false;
	pg_atomic_write_u64(&database->transactions, 0);
	pg_atomic_write_u64(&database->rows, 0);
	pg_atomic_write_u64(&database->last_commit, 0);
	pg_atomic_write_u64(&database->undecoded_since, 0);
	pg_atomic_write_u64(&database->reached, 0);
	pg_atomic_write_u64(&database->decoded_time, 0);
	pg_atomic_write_u64(&database->lost_since, 0);
	pg_atomic_write_u64(&database->published, 0);
	pg_atomic_write_u64(&database->newest_incarnation, 0);
	pg_atomic_write_u32(&database->nnoted, 0);
	pg_atomic_write_u64(&database->commit_hint, InvalidXLogRecPtr);
	pg_atomic_write_u64(&database->wanted, PG_UINT64_MAX);
	pg_atomic_write_u64(&database->pending, 0);
	pg_atomic_write_u64(&database->watching, 0);
	pg_atomic_write_u64(&database->consumers, 0);
	for (int i = 0; i < IVM_MAX_CONSUMERS; i++)
	{
		database->consumer[i].procno = -1;
		database->consumer[i].pid = 0;
		pg_atomic_write_u64(&database->consumer[i].unread_since, 0);
	}
}

void
ivm_capture_shmem_init(Size more, LWLock *lock)
{
	bool		found;

	capture = ShmemInitStruct("ivm capture", ivm_capture_shmem_size(more), &found);
	if (!found)
	{
		memset(capture, 0, ivm_capture_shmem_size(more));
		capture->tranche = LWLockNewTrancheId();
		capture->lock = lock;
		capture->ndatabases = max_worker_processes + SPARE_ENTRIES;
		capture->stride = MAXALIGN(sizeof(IvmDatabase)) + MAXALIGN(more);
		pg_atomic_init_u32(&capture->nused, 0);
		for (int i = 0; i < capture->ndatabases; i++)
		{
			IvmDatabase *database = ivm_database_entry(i);

			LWLockInitialize(&database->lock, capture->tranche);
			ConditionVariableInit(&database->acknowledged_changed);
			ConditionVariableInit(&database->decoded_changed);
			pg_atomic_init_u32(&database->dboid, InvalidOid);
			pg_atomic_init_u64(&database->generation, 0);
			pg_atomic_init_u64(&database->acknowledged, 0);
			pg_atomic_init_u32(&database->state, IVM_DECODER_STOPPED);
			pg_atomic_init_u32(&database->sleeping, 0);
			pg_atomic_init_u32(&database->dozing, 0);
			pg_atomic_init_u32(&database->stalled, 0);
			ivm_account_init(&database->account);
			pg_atomic_init_u64(&database->log_memory, 0);
			pg_atomic_init_u64(&database->log_disk, 0);
			pg_atomic_init_u32(&database->over_limit, 0);
			pg_atomic_init_u64(&database->decoded, 0);
			pg_atomic_init_u64(&database->confirmed, 0);
			pg_atomic_init_u64(&database->restart, 0);
			pg_atomic_init_u64(&database->transactions, 0);
			pg_atomic_init_u64(&database->rows, 0);
			pg_atomic_init_u64(&database->last_commit, 0);
			pg_atomic_init_u64(&database->undecoded_since, 0);
			pg_atomic_init_u64(&database->reached, 0);
			pg_atomic_init_u64(&database->decoded_time, 0);
			pg_atomic_init_u64(&database->lost_since, 0);
			pg_atomic_init_u64(&database->published, 0);
			pg_atomic_init_u64(&database->newest_incarnation, 0);
			pg_atomic_init_u32(&database->nnoted, 0);
			for (int j = 0; j < IVM_MAX_CONSUMERS; j++)
				pg_atomic_init_u64(&database->consumer[j].unread_since, 0);
			pg_atomic_init_u64(&database->commit_hint, 0);
			pg_atomic_init_u64(&database->wanted, PG_UINT64_MAX);
			pg_atomic_init_u64(&database->pending, 0);
			pg_atomic_init_u64(&database->watching, 0);
			pg_atomic_init_u64(&database->consumers, 0);
			for (int j = 0; j < IVM_MAX_CURSORS; j++)
				pg_atomic_init_u64(&database->cursors[j].confirm, 0);
			reset_entry(database);
		}
	}
	LWLockRegisterTranche(capture->tranche, "ivm_capture");
}

IvmDatabase *
ivm_database_find(Oid dboid)
{
	if (capture == NULL || !OidIsValid(dboid))
		return NULL;
	for (int i = 0; i < capture->ndatabases; i++)
		if (ivm_database_oid(ivm_database_entry(i)) == dboid)
			return ivm_database_entry(i);
	return NULL;
}

IvmDatabase *
ivm_database_get(Oid dboid)
{
	IvmDatabase *result;

	if (capture == NULL)
		return NULL;
	LWLockAcquire(capture->lock, LW_SHARED);
	result = ivm_database_find(dboid);
	LWLockRelease(capture->lock);
	return result;
}

IvmDatabase *
ivm_database_take(Oid dboid)
{
	for (int i = 0; i < capture->ndatabases; i++)
	{
		IvmDatabase *database = ivm_database_entry(i);

		if (OidIsValid(ivm_database_oid(database)))
			continue;
		database->use++;
		database->base = RecoveryInProgress() ? InvalidXLogRecPtr : ivm_wal_end();
		pg_atomic_write_u32(&database->dboid, dboid);
		pg_atomic_fetch_add_u32(&capture->nused, 1);
		return database;
	}
	return NULL;
}

/*
 * The current database's entry, or NULL; cheap enough for every commit.  No
 * lock: a stale answer costs a needless wake-up of some process.
 */
IvmDatabase *
ivm_database_mine(void)
{
	static IvmDatabase *mine = NULL;

	if (capture == NULL || !OidIsValid(MyDatabaseId) ||
		pg_atomic_read_u32(&capture->nused) == 0)
		return NULL;
	if (mine != NULL && pg_atomic_read_u32(&mine->dboid) == MyDatabaseId)
		return mine;
	for (int i = 0; i < capture->ndatabases; i++)
		if (ivm_database_oid(ivm_database_entry(i)) == MyDatabaseId)
			return mine = ivm_database_entry(i);
	return NULL;
}

void
ivm_database_empty(IvmDatabase *database)
{
	if (database->area != DSM_HANDLE_INVALID)
	{
		Mapping    *mapping;

		ivm_database_attach(database);
		mapping = &mappings[ivm_database_number(database)];
		/* logs whose readers went away without a word may still have files */
		LWLockAcquire(&database->lock, LW_EXCLUSIVE);
		for (int i = 0; i < IVM_MAX_CURSORS; i++)
			database->cursors[i].in_use = false;
		ivm_log_trim(database);
		LWLockRelease(&database->lock);
		dsa_unpin(mapping->area);
		dsa_detach(mapping->area);
		mapping->area = NULL;
		ivm_log_memory_close(database);
	}

	/* what processes have mapped of it is of no use any more */
	LWLockAcquire(&database->lock, LW_EXCLUSIVE);
	database->use++;
	reset_entry(database);
	LWLockRelease(&database->lock);

	/* Whoever still waited finds nothing, or the entry gone. */
	ConditionVariableBroadcast(&database->acknowledged_changed);
	ConditionVariableBroadcast(&database->decoded_changed);
}

void
ivm_database_release(IvmDatabase *database)
{
	pg_atomic_write_u32(&database->dboid, InvalidOid);
	pg_atomic_fetch_sub_u32(&capture->nused, 1);
}

void
ivm_database_attach(IvmDatabase *database)
{
	Mapping    *mapping;
	MemoryContext old;

	if (mappings == NULL)
		mappings = MemoryContextAllocZero(TopMemoryContext,
										  capture->ndatabases * sizeof(Mapping));
	mapping = &mappings[ivm_database_number(database)];
	if (mapping->area != NULL)
	{
		if (mapping->use == database->use)
			return;
		/* of a database that used the entry before */
		dsa_detach(mapping->area);
		mapping->area = NULL;
	}

	old = MemoryContextSwitchTo(TopMemoryContext);
	LWLockAcquire(&database->lock, LW_EXCLUSIVE);
	if (database->area == DSM_HANDLE_INVALID)
	{
		mapping->area = dsa_create(capture->tranche);
		dsa_pin(mapping->area);
		database->area = dsa_get_handle(mapping->area);
		ivm_log_memory_open(database);
	}
	else
		mapping->area = dsa_attach(database->area);
	mapping->use = database->use;
	dsa_pin_mapping(mapping->area);
	LWLockRelease(&database->lock);
	MemoryContextSwitchTo(old);
}

dsa_area   *
ivm_database_area(IvmDatabase *database)
{
	Mapping    *mapping = mappings == NULL ? NULL : &mappings[ivm_database_number(database)];

	if (mapping == NULL || mapping->area == NULL || mapping->use != database->use)
		elog(ERROR, "shared memory of database %u is not attached",
			 pg_atomic_read_u32(&database->dboid));
	return mapping->area;
}
