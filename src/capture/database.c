/*-------------------------------------------------------------------------
 *
 * database.c
 *	  The shared memory of the capture, one entry a database.
 *
 * Every database with incremental views takes at least one background process,
 * so max_worker_processes entries are enough.  An entry is a few kilobytes of
 * main shared memory: it is there before and after any process of the
 * database, which lets cursors outlive their owners.  Logs and registered
 * tables are in a dynamic shared area, made when the first process needs it and
 * pinned, so that it too stays until the entry is released.
 *
 * A process that is killed makes the server initialize all of this again.  One
 * that ends, however it does, is cleaned up after by callbacks at its exit.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/memutils.h"

#include "capture/capture_internal.h"

typedef struct CaptureShared
{
	LWLock		lock;			/* guards which entries are in use */
	int			tranche;
	int			ndatabases;
	pg_atomic_uint32 nused;
	IvmDatabase databases[FLEXIBLE_ARRAY_MEMBER];
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
ivm_capture_shmem_size(void)
{
	return add_size(offsetof(CaptureShared, databases),
					mul_size(max_worker_processes, sizeof(IvmDatabase)));
}

/* Makes an entry empty. */
static void
reset_entry(IvmDatabase *database)
{
	pg_atomic_write_u32(&database->dboid, InvalidOid);
	database->area = DSM_HANDLE_INVALID;
	database->registry = InvalidDsaPointer;
	database->nregistered = 0;
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
	pg_atomic_write_u32(&database->stalled, 0);
	pg_atomic_write_u64(&database->decoded, InvalidXLogRecPtr);
	pg_atomic_write_u64(&database->confirmed, InvalidXLogRecPtr);
	pg_atomic_write_u64(&database->restart, InvalidXLogRecPtr);
	database->slot_is_new = false;
	pg_atomic_write_u64(&database->transactions, 0);
	pg_atomic_write_u64(&database->rows, 0);
	pg_atomic_write_u64(&database->commit_hint, InvalidXLogRecPtr);
	pg_atomic_write_u64(&database->wanted, PG_UINT64_MAX);
	pg_atomic_write_u64(&database->pending, 0);
	pg_atomic_write_u64(&database->consumers, 0);
	for (int i = 0; i < IVM_MAX_CONSUMERS; i++)
	{
		database->consumer[i].procno = -1;
		database->consumer[i].pid = 0;
	}
}

void
ivm_capture_shmem_init(void)
{
	bool		found;

	capture = ShmemInitStruct("ivm capture", ivm_capture_shmem_size(), &found);
	if (!found)
	{
		memset(capture, 0, ivm_capture_shmem_size());
		capture->tranche = LWLockNewTrancheId();
		LWLockInitialize(&capture->lock, capture->tranche);
		capture->ndatabases = max_worker_processes;
		pg_atomic_init_u32(&capture->nused, 0);
		for (int i = 0; i < capture->ndatabases; i++)
		{
			IvmDatabase *database = &capture->databases[i];

			LWLockInitialize(&database->lock, capture->tranche);
			ConditionVariableInit(&database->acknowledged_changed);
			ConditionVariableInit(&database->decoded_changed);
			pg_atomic_init_u32(&database->dboid, InvalidOid);
			pg_atomic_init_u64(&database->generation, 0);
			pg_atomic_init_u64(&database->acknowledged, 0);
			pg_atomic_init_u32(&database->state, IVM_DECODER_STOPPED);
			pg_atomic_init_u32(&database->sleeping, 0);
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
			pg_atomic_init_u64(&database->commit_hint, 0);
			pg_atomic_init_u64(&database->wanted, PG_UINT64_MAX);
			pg_atomic_init_u64(&database->pending, 0);
			pg_atomic_init_u64(&database->consumers, 0);
			for (int j = 0; j < IVM_MAX_CURSORS; j++)
				pg_atomic_init_u64(&database->cursors[j].confirm, 0);
			reset_entry(database);
		}
	}
	LWLockRegisterTranche(capture->tranche, "ivm_capture");
}

IvmDatabase *
ivm_database_get(Oid dboid, bool create)
{
	IvmDatabase *result = NULL;
	IvmDatabase *free_entry = NULL;

	if (capture == NULL || !OidIsValid(dboid))
		return NULL;

	LWLockAcquire(&capture->lock, create ? LW_EXCLUSIVE : LW_SHARED);
	for (int i = 0; i < capture->ndatabases; i++)
	{
		IvmDatabase *database = &capture->databases[i];
		Oid			oid = pg_atomic_read_u32(&database->dboid);

		if (oid == dboid)
		{
			result = database;
			break;
		}
		if (!OidIsValid(oid) && free_entry == NULL)
			free_entry = database;
	}
	if (result == NULL && create && free_entry != NULL)
	{
		result = free_entry;
		result->use++;
		pg_atomic_write_u32(&result->dboid, dboid);
		pg_atomic_fetch_add_u32(&capture->nused, 1);
	}
	LWLockRelease(&capture->lock);

	if (result == NULL && create)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many databases with incremental views"),
				 errhint("Increase max_worker_processes.")));
	return result;
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
		if (pg_atomic_read_u32(&capture->databases[i].dboid) == MyDatabaseId)
			return mine = &capture->databases[i];
	return NULL;
}

void
ivm_database_release(Oid dboid)
{
	IvmDatabase *database = ivm_database_get(dboid, false);

	if (database == NULL)
		return;

	if (database->area != DSM_HANDLE_INVALID)
	{
		Mapping    *mapping;

		ivm_database_attach(database);
		mapping = &mappings[database - capture->databases];
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

	LWLockAcquire(&capture->lock, LW_EXCLUSIVE);
	LWLockAcquire(&database->lock, LW_EXCLUSIVE);
	reset_entry(database);
	pg_atomic_fetch_sub_u32(&capture->nused, 1);
	LWLockRelease(&database->lock);
	LWLockRelease(&capture->lock);

	/* Whoever still waited finds the entry gone, or another's. */
	ConditionVariableBroadcast(&database->acknowledged_changed);
	ConditionVariableBroadcast(&database->decoded_changed);
}

void
ivm_database_attach(IvmDatabase *database)
{
	Mapping    *mapping;
	MemoryContext old;

	if (mappings == NULL)
		mappings = MemoryContextAllocZero(TopMemoryContext,
										  capture->ndatabases * sizeof(Mapping));
	mapping = &mappings[database - capture->databases];
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

dsa_area *
ivm_database_area(IvmDatabase *database)
{
	Mapping    *mapping = mappings == NULL ? NULL : &mappings[database - capture->databases];

	if (mapping == NULL || mapping->area == NULL || mapping->use != database->use)
		elog(ERROR, "shared memory of database %u is not attached",
			 pg_atomic_read_u32(&database->dboid));
	return mapping->area;
}
