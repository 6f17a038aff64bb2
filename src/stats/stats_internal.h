/*-------------------------------------------------------------------------
 *
 * stats_internal.h
 *	  The counters' shared memory, for the files of this directory only.
 *
 * Locks.  "lock" is one LWLock, held for a microsecond at most, never while
 * anything can fail or wait for another lock than a spinlock:
 *
 *	exclusive	to take a worker's row, to make or remove a view's entry, to
 *				write operator rows
 *	shared		to look up a view's entry, to read operator rows
 *
 * Whoever is going to look at entries takes it by ivm_stats_lock(), which has
 * their memory mapped.
 * Each worker's row and each view's entry has a spinlock for its contents; that
 * of an entry is only taken under "lock", which keeps the entry in place.  A
 * worker's row is written by its process alone.  Fields that follow another
 * rule say so.
 *
 * Nothing is lost for good when the server resets shared memory after a crash:
 * the counters begin anew, like PostgreSQL's own.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_STATS_INTERNAL_H
#define IVM_STATS_INTERNAL_H

#include "postgres.h"

#include "port/atomics.h"
#include "storage/dsm.h"
#include "storage/lwlock.h"
#include "storage/spin.h"

#include "stats/stats.h"

/*
 * How many views the first chunk of memory has room for, and how many chunks there can be (chunks.c).
 * Views without counters are shown all the same.
 */
#define IVM_STATS_FIRST_VIEWS		128 /* a power of two */
#define IVM_STATS_OPERATORS_PER_VIEW	8
#define IVM_STATS_CHUNKS			14
#define IVM_STATS_BUCKETS			8192	/* a power of two */

#define IVM_STATS_STATE_LENGTH	64
#define IVM_STATS_TEXT_LENGTH	256

/* A running process.  Fields guarded by "mutex" unless they say otherwise. */
typedef struct IvmStatsWorker
{
	slock_t		mutex;
	pid_t		pid;			/* 0: free; taken under "lock" as well */
	IvmWorkerType type;
	Oid			dboid;
	char		state[IVM_STATS_STATE_LENGTH];
	TimestampTz state_since;

	XLogRecPtr	position;
	XLogRecPtr	confirmed;
	char		slot_name[NAMEDATALEN];
	XLogRecPtr	restart_lsn;
	Size		log_memory;
	Size		log_disk;
	IvmArenaStats memory;

	IvmStatsCache cache;		/* of an apply worker */

	/* a builder's work */
	Oid			build_relid;	/* InvalidOid: none */
	bool		build_is_rebuild;
	char		build_phase[IVM_STATS_STATE_LENGTH];
	pg_atomic_uint64 build_tuples;	/* no lock */
} IvmStatsWorker;

/*
 * A view's counters.  The key and the links are guarded by "lock", the rest
 * by "mutex".
 */
typedef struct IvmStatsView
{
	uint32		next;			/* in the bucket or the free list; see
								 * IvmStatsPool */
	Oid			dboid;
	Oid			relid;
	uint32		operators;		/* first operator's row */

	slock_t		mutex;
	char		state[IVM_STATS_STATE_LENGTH];	/* empty: none told */
	TimestampTz state_since;
	int			worker_number;	/* or an IVM_KEEPER_ value */
	TimestampTz behind_since;	/* 0: as complete as its worker says */
	TimestampTz stale_since;	/* 0: some worker has it */
	TimestampTz next_try;		/* of what the state says */
	XLogRecPtr	applied_lsn;
	TimestampTz last_apply_time;
	uint64		batches;
	uint64		changes_received;
	uint64		inserted;
	uint64		updated;
	uint64		deleted;
	uint64		recomputes;
	double		apply_time;
	double		max_apply_time;
	uint64		rebuilds;
	char		last_rebuild_reason[IVM_STATS_TEXT_LENGTH];
	uint64		error_count;
	char		last_error[IVM_STATS_TEXT_LENGTH];
	TimestampTz last_error_time;
	TimestampTz stats_reset;
} IvmStatsView;

/* An operator's row; all of it guarded by "lock". */
typedef struct IvmStatsOperator
{
	uint32		next;			/* of the view, or in the free list */
	IvmOperatorReport report;
} IvmStatsOperator;

/*
 * Numbers of free elements.  A number is the index plus one, 0 is
 * the end of a list.  Elements that were never used are not in the list, so
 * that their memory stays untouched.  Guarded by "lock".
 */
typedef struct IvmStatsPool
{
	uint32		free;			/* first of the list */
	uint32		used;			/* elements that have ever been used */
	uint32		taken;			/* of these, elements that are not free */
	uint32		size;
} IvmStatsPool;

typedef struct IvmStatsShared
{
	LWLock		lock;
	int			tranche;		/* constant after the start */
	int			nworkers;		/* constant after the start */

	/* sums over all processes, also of those that have ended: no lock */
	pg_atomic_uint64 trims;
	pg_atomic_uint64 trim_bytes;

	/* guarded by "lock" */
	IvmStatsPool view_pool;
	IvmStatsPool operator_pool;
	int			nchunks;
	dsm_handle	chunks[IVM_STATS_CHUNKS];	/* the first is not there */
	uint64		chunk_changes;	/* counts them */
	uint32		buckets[IVM_STATS_BUCKETS];
} IvmStatsShared;

/* All NULL where the library was not loaded at server start. */
extern IvmStatsShared *ivm_stats;
extern IvmStatsWorker *ivm_stats_workers;

/* ---- chunks.c ---- */

/* Size and place of the first one. */
extern Size ivm_stats_first_chunk_size(void);
extern void ivm_stats_chunks_init(void *first, bool fresh);

/*
 * Takes "lock" with all chunks mapped, so that every number leads to its element; false, and nothing taken, if
 * they cannot be mapped.  No errors.
 */
extern bool ivm_stats_lock(LWLockMode mode);
extern IvmStatsView *ivm_stats_view_at(uint32 number);
extern IvmStatsOperator *ivm_stats_operator_at(uint32 number);

/* Makes room for so many more views, if it can be had. */
extern void ivm_stats_chunks_grow(int views);

/* Gives back chunks at the end that nothing is in. */
extern void ivm_stats_chunks_shrink(void);

#endif							/* IVM_STATS_INTERNAL_H */
