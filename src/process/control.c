/*-------------------------------------------------------------------------
 *
 * control.c
 *	  Shared memory of the processes: who runs, who waits, what is asked.
 *
 * The entries of databases are in the capture's shared memory, behind its own
 * part of each; here are besides them a fixed number of requests.
 * It is lost when the server stops or reinitializes, and made again by the
 * launcher from what it finds in the databases.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/shmem.h"

#include "base/copy_text.h"
#include "process/control.h"
#include "stats/stats.h"

IvmControl *ivm_control = NULL;

Size
ivm_control_shmem_size(void)
{
	return sizeof(IvmControl);
}

/*
 * Called with AddinShmemInitLock held, after the capture's memory was made.
 */
void
ivm_control_shmem_init(void)
{
	bool		found;

	ivm_control = ShmemInitStruct("ivm_ext control", ivm_control_shmem_size(), &found);
	if (found)
		return;
	memset(ivm_control, 0, ivm_control_shmem_size());
	ivm_control->lock = &(GetNamedLWLockTranche("ivm_ext"))->lock;
	ConditionVariableInit(&ivm_control->changed);
	for (int i = 0; i < ivm_database_count(); i++)
	{
		IvmControlDatabase *database = ivm_control_of(ivm_database_entry(i));

		database->capture = ivm_database_entry(i);
		pg_atomic_init_u64(&database->generation, 0);
		pg_atomic_init_u64(&database->wanted_position, 0);
		pg_atomic_init_u64(&database->syncs, 0);
		for (int j = 0; j < IVM_APPLY_SLOTS; j++)
		{
			pg_atomic_init_u64(&database->apply[j].adopted, 0);
			pg_atomic_init_u64(&database->apply[j].looked, 0);
			pg_atomic_init_u64(&database->apply[j].position, 0);
			pg_atomic_init_u64(&database->apply[j].oldest_pending, 0);
			pg_atomic_init_u64(&database->apply[j].read_time, 0);
			pg_atomic_init_u64(&database->apply[j].read_incarnation, 0);
			pg_atomic_init_u64(&database->apply[j].read_sequence, 0);
		}
	}
}

/* A new entry: nobody knows anything, and nothing runs. */
static void
reset(IvmControlDatabase *database)
{
	database->state = IVM_DATABASE_UNKNOWN;
	database->stopped = false;
	database->starting_failed = false;
	database->failed_starts = 0;
	database->asked_start = false;
	database->missing_memory = 0;
	database->next_start = 0;
	database->apply_workers = 0;
	database->asked_wanted = false;
	database->asked_inspect = false;
	database->empty_generation = 0;
	database->holds = 0;
	pg_atomic_write_u64(&database->generation, 1);
	database->inspector_pid = 0;
	database->inspection_problem[0] = '\0';
	database->build_wanted = false;
	database->builder_pid = 0;
	database->builder_done = false;
	database->builder_latch = NULL;
	database->building = InvalidOid;
	database->handing_over = false;
	database->decoder_pid = 0;
	database->decoder_latch = NULL;
	database->decoder_problem[0] = '\0';
	database->slow.workers = 0;
	database->slow.count = 0;
	database->troubles.count = 0;
	pg_atomic_write_u64(&database->wanted_position, 0);
	pg_atomic_write_u64(&database->syncs, 0);
	for (int j = 0; j < IVM_APPLY_SLOTS; j++)
	{
		IvmApplyShared *apply = &database->apply[j];

		apply->pid = 0;
		apply->latch = NULL;
		apply->registered = false;
		apply->nbehind = 0;
		pg_atomic_write_u64(&apply->adopted, 0);
		pg_atomic_write_u64(&apply->looked, 0);
		pg_atomic_write_u64(&apply->position, 0);
		pg_atomic_write_u64(&apply->oldest_pending, 0);
		pg_atomic_write_u64(&apply->read_time, 0);
		pg_atomic_write_u64(&apply->read_incarnation, 0);
		pg_atomic_write_u64(&apply->read_sequence, 0);
	}
}

IvmControlDatabase *
ivm_control_find(Oid dboid, bool create)
{
	IvmDatabase *entry = ivm_database_find(dboid);

	if (entry != NULL)
		return ivm_control_of(entry);
	if (!create)
		return NULL;
	entry = ivm_database_take(dboid);
	if (entry == NULL)
		return NULL;
	reset(ivm_control_of(entry));
	return ivm_control_of(entry);
}

IvmControlDatabase *
ivm_control_my_database(void)
{
	IvmControlDatabase *database;

	LWLockAcquire(ivm_control->lock, LW_SHARED);
	database = ivm_control_find(MyDatabaseId, false);
	LWLockRelease(ivm_control->lock);
	if (database == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("no incremental view is maintained in this database")));
	return database;
}

bool
ivm_control_has_processes(IvmControlDatabase *database)
{
	bool		result = database->inspector_pid != 0 || database->builder_pid != 0 || database->decoder_pid != 0;

	for (int i = 0; i < IVM_APPLY_SLOTS; i++)
		result |= database->apply[i].pid != 0;
	return result;
}

void
ivm_control_wake_launcher(void)
{
	LWLockAcquire(ivm_control->lock, LW_SHARED);
	if (ivm_control->launcher_latch != NULL)
		SetLatch(ivm_control->launcher_latch);
	LWLockRelease(ivm_control->lock);
}

void
ivm_control_wake_workers(IvmControlDatabase *database)
{
	LWLockAcquire(ivm_control->lock, LW_SHARED);
	for (int i = 0; i < IVM_APPLY_SLOTS; i++)
		if (database->apply[i].latch != NULL)
			SetLatch(database->apply[i].latch);
	if (database->builder_latch != NULL)
		SetLatch(database->builder_latch);
	if (database->decoder_latch != NULL)
		SetLatch(database->decoder_latch);
	LWLockRelease(ivm_control->lock);
}

uint64
ivm_control_changed(Oid dboid, bool build_wanted)
{
	IvmControlDatabase *database;
	uint64		generation = 0;

	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	database = ivm_control_find(dboid, true);
	if (database != NULL)
	{
		generation = pg_atomic_add_fetch_u64(&database->generation, 1);
		database->asked_wanted = true;
		if (build_wanted)
		{
			database->build_wanted = true;
			if (database->builder_latch != NULL)
				SetLatch(database->builder_latch);
		}
		for (int i = 0; i < IVM_APPLY_SLOTS; i++)
			if (database->apply[i].latch != NULL)
				SetLatch(database->apply[i].latch);
	}
	if (ivm_control->launcher_latch != NULL)
		SetLatch(ivm_control->launcher_latch);
	LWLockRelease(ivm_control->lock);
	return generation;
}

uint64
ivm_request_newest(void)
{
	uint64		result;

	LWLockAcquire(ivm_control->lock, LW_SHARED);
	result = ivm_control->last_request;
	LWLockRelease(ivm_control->lock);
	return result;
}

void
ivm_request_fail_builds(Oid relid, uint64 newest, const ErrorData *error)
{
	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	for (int i = 0; i < IVM_MAX_REQUESTS; i++)
	{
		IvmRequest *request = &ivm_control->requests[i];

		if (request->kind != IVM_REQUEST_BUILD || request->dboid != MyDatabaseId ||
			(OidIsValid(relid) && request->relid != relid) ||
			request->status != IVM_REQUEST_WAITING || request->abandoned || request->number > newest)
			continue;
		request->sqlerrcode = error->sqlerrcode;
		ivm_copy_text(request->message, error->message, sizeof(request->message));
		ivm_copy_text(request->detail, error->detail, sizeof(request->detail));
		ivm_copy_text(request->hint, error->hint, sizeof(request->hint));
		request->status = IVM_REQUEST_FAILED;
	}
	LWLockRelease(ivm_control->lock);
	ConditionVariableBroadcast(&ivm_control->changed);
}

void
ivm_control_workers_of(IvmControlDatabase *database, Oid relid, int *first, int *count)
{
	int			level = ivm_slow_level(&database->slow, relid);

	level = Min(level, database->slow.workers);
	*first = level > 0 ? database->apply_workers + level - 1 : 0;
	*count = level > 0 ? 1 : database->apply_workers;
}

int
ivm_control_all_workers(IvmControlDatabase *database)
{
	int			result;

	LWLockAcquire(ivm_control->lock, LW_SHARED);
	result = database->apply_workers + database->slow.workers;
	LWLockRelease(ivm_control->lock);
	return result;
}

/* The workers that a keeper, known or not, stands for.  Lock held. */
static void
workers_of_keeper(IvmControlDatabase *database, int keeper, Oid relid, int *first, int *count)
{
	*first = keeper;
	*count = keeper >= 0 ? 1 : 0;
	if (keeper == IVM_KEEPER_UNKNOWN)
		ivm_control_workers_of(database, relid, first, count);
}

bool
ivm_control_has_adopted(IvmControlDatabase *database, int keeper, Oid relid, uint64 generation)
{
	bool		result = true;
	int			first;
	int			count;

	LWLockAcquire(ivm_control->lock, LW_SHARED);
	workers_of_keeper(database, keeper, relid, &first, &count);
	LWLockRelease(ivm_control->lock);
	for (int i = first; i < first + count; i++)
		result &= pg_atomic_read_u64(&database->apply[i].adopted) >= generation;
	return result && count > 0;
}

void
ivm_control_view_progress(IvmControlDatabase *database, int keeper, Oid relid,
						  XLogRecPtr *position, uint64 *looked)
{
	int			first;
	int			count;

	*position = PG_UINT64_MAX;
	*looked = PG_UINT64_MAX;
	LWLockAcquire(ivm_control->lock, LW_SHARED);
	workers_of_keeper(database, keeper, relid, &first, &count);
	for (int i = first; i < first + count; i++)
	{
		IvmApplyShared *apply = &database->apply[i];
		XLogRecPtr	its_position = pg_atomic_read_u64(&apply->position);
		uint64		its_looked = pg_atomic_read_u64(&apply->looked);

		*position = Min(*position, its_position);
		for (int j = 0; j < Min(apply->nbehind, IVM_MAX_BEHIND); j++)
			if (apply->behind[j] == relid)
			{
				*position = Min(*position, apply->behind_position[j]);
				its_looked = apply->behind_looked[j];
			}
		*looked = Min(*looked, its_looked);
	}
	LWLockRelease(ivm_control->lock);
	if (count == 0)
	{
		*position = InvalidXLogRecPtr;
		*looked = 0;
	}
}
