/*-------------------------------------------------------------------------
 *
 * stats.c
 *	  What every process tells about itself, in shared memory.
 *
 * A process takes a row when it starts and gives it back when it exits; only
 * it writes there.  There are as many rows as there can be background
 * workers, so each of ours finds one.  Reporting never fails and never waits
 * for more than a spinlock: it happens inside batches and while a transaction
 * is committed.  In a process without a row it does nothing.
 *
 * Memory is taken from the arenas' own counts.  That costs some ten
 * microseconds, which a small batch would feel, so that under load it is done
 * a few dozen times a second, and always when the process falls idle: what is
 * shown for an idle process is what it has.
 *
 * What is resident is not told here but in the budget's accounts, which the
 * hooks of the arenas keep.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "base/debug_point.h"
#include "stats/stats_internal.h"

/* Least time between two looks at the memory under load. */
#define MEMORY_INTERVAL_MS		20

IvmStatsShared *ivm_stats = NULL;
IvmStatsWorker *ivm_stats_workers = NULL;

static IvmStatsWorker *my_row = NULL;
static IvmArenaStats reported;	/* what the sums contain of this process */
static TimestampTz memory_time = 0;
static char state_before_point[IVM_STATS_STATE_LENGTH];

static void give_row_back(int code, Datum argument);
static void report_debug_point(const char *name);

/* ---- shared memory ---- */

/*
 * Bytes of shared memory; to be asked for while it is requested.
 */
Size
ivm_stats_shmem_size(void)
{
	Size		size = MAXALIGN(sizeof(IvmStatsShared));

	size = add_size(size, MAXALIGN(mul_size(max_worker_processes, sizeof(IvmStatsWorker))));
	return add_size(size, ivm_stats_first_chunk_size());
}

/*
 * Makes or finds it; the caller holds AddinShmemInitLock.
 */
void
ivm_stats_shmem_init(void)
{
	bool		found;
	char	   *place;

	place = ShmemInitStruct("ivm_ext statistics", ivm_stats_shmem_size(), &found);
	ivm_stats = (IvmStatsShared *) place;
	place += MAXALIGN(sizeof(IvmStatsShared));
	ivm_stats_workers = (IvmStatsWorker *) place;
	place += MAXALIGN(max_worker_processes * sizeof(IvmStatsWorker));

	if (!found)
	{
		memset(ivm_stats, 0, sizeof(IvmStatsShared));
		ivm_stats->tranche = LWLockNewTrancheId();
		LWLockInitialize(&ivm_stats->lock, ivm_stats->tranche);
		pg_atomic_init_u64(&ivm_stats->trims, 0);
		pg_atomic_init_u64(&ivm_stats->trim_bytes, 0);
		ivm_stats->nworkers = max_worker_processes;
		for (int i = 0; i < ivm_stats->nworkers; i++)
		{
			IvmStatsWorker *row = &ivm_stats_workers[i];

			memset(row, 0, sizeof(IvmStatsWorker));
			SpinLockInit(&row->mutex);
			pg_atomic_init_u64(&row->build_tuples, 0);
		}
	}
	LWLockRegisterTranche(ivm_stats->tranche, "ivm_stats");
	ivm_stats_chunks_init(place, !found);
}

/* ---- processes ---- */

/*
 * Takes a row for this process, given back at its exit.  If there is none free
 * the process is not shown.  Also makes debug points show themselves as states.
 */
void
ivm_stats_worker_start(IvmWorkerType type, Oid dboid)
{
	TimestampTz now = GetCurrentTimestamp();

	if (ivm_stats == NULL || my_row != NULL)
		return;

	LWLockAcquire(&ivm_stats->lock, LW_EXCLUSIVE);
	for (int i = 0; i < ivm_stats->nworkers && my_row == NULL; i++)
	{
		IvmStatsWorker *row = &ivm_stats_workers[i];

		SpinLockAcquire(&row->mutex);
		if (row->pid == 0)
		{
			row->pid = MyProcPid;
			row->type = type;
			row->dboid = dboid;
			strlcpy(row->state, "starting", sizeof(row->state));
			row->state_since = now;
			row->position = InvalidXLogRecPtr;
			row->confirmed = InvalidXLogRecPtr;
			row->slot_name[0] = '\0';
			row->restart_lsn = InvalidXLogRecPtr;
			row->log_memory = 0;
			row->log_disk = 0;
			memset(&row->memory, 0, sizeof(row->memory));
			memset(&row->cache, 0, sizeof(row->cache));
			row->build_relid = InvalidOid;
			my_row = row;
		}
		SpinLockRelease(&row->mutex);
	}
	LWLockRelease(&ivm_stats->lock);

	if (my_row == NULL)
		return;
	on_shmem_exit(give_row_back, (Datum) 0);
	if (ivm_debug_point_report == NULL)
		ivm_debug_point_report = report_debug_point;
}

static void
give_row_back(int code, Datum argument)
{
	if (my_row == NULL)
		return;
	memset(&reported, 0, sizeof(reported));
	SpinLockAcquire(&my_row->mutex);
	my_row->pid = 0;
	SpinLockRelease(&my_row->mutex);
	my_row = NULL;
}

/*
 * Publishes what the arenas hold.
 */
static void
report_memory(TimestampTz now)
{
	IvmArenaStats memory;

	memory_time = now;
	ivm_arena_process_stats(&memory);

	SpinLockAcquire(&my_row->mutex);
	my_row->memory = memory;
	SpinLockRelease(&my_row->mutex);

	if (memory.trims != reported.trims)
	{
		pg_atomic_fetch_add_u64(&ivm_stats->trims, memory.trims - reported.trims);
		pg_atomic_fetch_add_u64(&ivm_stats->trim_bytes, memory.trim_bytes - reported.trim_bytes);
	}
	reported = memory;
}

/*
 * Says what the process does, in a few words of ASCII.  "idle" also publishes
 * the memory.
 */
void
ivm_stats_worker_state(const char *state)
{
	TimestampTz now;

	if (my_row == NULL || strcmp(my_row->state, state) == 0)
		return;

	now = GetCurrentTimestamp();
	SpinLockAcquire(&my_row->mutex);
	strlcpy(my_row->state, state, sizeof(my_row->state));
	my_row->state_since = now;
	SpinLockRelease(&my_row->mutex);

	if (strcmp(state, "idle") == 0)
		report_memory(now);
}

/*
 * Publishes what an apply worker's cache has done.
 */
void
ivm_stats_worker_cache(const IvmStatsCache *cache)
{
	if (my_row == NULL)
		return;
	SpinLockAcquire(&my_row->mutex);
	my_row->cache = *cache;
	SpinLockRelease(&my_row->mutex);
}

/* A process that is held at a debug point shows the point's name. */
static void
report_debug_point(const char *name)
{
	if (my_row == NULL)
		return;
	if (name != NULL)
	{
		strlcpy(state_before_point, my_row->state, sizeof(state_before_point));
		ivm_stats_worker_state(name);
	}
	else
		ivm_stats_worker_state(state_before_point);
}

/*
 * Publishes how far the process has come: what it has processed and what it
 * allows the replication slot to forget (an invalid one leaves the old), and
 * now and then its memory.
 */
void
ivm_stats_worker_report(XLogRecPtr position, XLogRecPtr confirmed)
{
	TimestampTz now;

	if (my_row == NULL)
		return;

	SpinLockAcquire(&my_row->mutex);
	if (position != InvalidXLogRecPtr)
		my_row->position = position;
	if (confirmed != InvalidXLogRecPtr)
		my_row->confirmed = confirmed;
	SpinLockRelease(&my_row->mutex);

	now = GetCurrentTimestamp();
	if (TimestampDifferenceExceeds(memory_time, now, MEMORY_INTERVAL_MS))
		report_memory(now);
}

/*
 * The decoder's replication slot, and the bytes of its delta log in memory and
 * in files.
 */
void
ivm_stats_worker_slot(const char *slot_name, XLogRecPtr restart_lsn, Size log_memory, Size log_disk)
{
	if (my_row == NULL)
		return;
	SpinLockAcquire(&my_row->mutex);
	strlcpy(my_row->slot_name, slot_name ? slot_name : "", sizeof(my_row->slot_name));
	my_row->restart_lsn = restart_lsn;
	my_row->log_memory = log_memory;
	my_row->log_disk = log_disk;
	SpinLockRelease(&my_row->mutex);
}

bool
ivm_stats_process_state(pid_t pid, IvmProcessState *state)
{
	bool		found = false;

	for (int i = 0; i < ivm_stats->nworkers && !found; i++)
	{
		IvmStatsWorker *row = &ivm_stats_workers[i];

		SpinLockAcquire(&row->mutex);
		if (row->pid == pid)
		{
			found = true;
			strlcpy(state->state, row->state, sizeof(state->state));
			state->since = row->state_since;
		}
		SpinLockRelease(&row->mutex);
	}
	return found;
}

/* ---- a builder's progress ---- */

/*
 * A population or rebuild begins in this process; one at a time.
 */
void
ivm_stats_build_start(Oid dboid, Oid relid, bool rebuild)
{
	if (my_row == NULL)
		return;
	pg_atomic_write_u64(&my_row->build_tuples, 0);
	SpinLockAcquire(&my_row->mutex);
	my_row->build_relid = relid;
	my_row->build_is_rebuild = rebuild;
	strlcpy(my_row->build_phase, "initializing", sizeof(my_row->build_phase));
	SpinLockRelease(&my_row->mutex);
}

/*
 * What it does now, in a few words of ASCII.
 */
void
ivm_stats_build_phase(const char *phase)
{
	if (my_row == NULL)
		return;
	SpinLockAcquire(&my_row->mutex);
	strlcpy(my_row->build_phase, phase, sizeof(my_row->build_phase));
	SpinLockRelease(&my_row->mutex);
}

/*
 * Rows so far; cheap enough to be called for each.
 */
void
ivm_stats_build_tuples(uint64 tuples)
{
	if (my_row != NULL)
		pg_atomic_write_u64(&my_row->build_tuples, tuples);
}

/*
 * It is over, however it ended.  No harm without a start.
 */
void
ivm_stats_build_end(void)
{
	if (my_row == NULL)
		return;
	SpinLockAcquire(&my_row->mutex);
	my_row->build_relid = InvalidOid;
	SpinLockRelease(&my_row->mutex);
}
