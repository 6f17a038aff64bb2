/*-------------------------------------------------------------------------
 *
 * stats.h
 *	  Counters in shared memory, and the functions behind the pg_stat_ivm views.
 *
 * Counters live until the server stops; a view's entry is made when a worker
 * first reports it, and removed when the view is dropped.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_STATS_H
#define IVM_STATS_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "memory/arena.h"

typedef enum IvmWorkerType
{
	IVM_WORKER_LAUNCHER,
	IVM_WORKER_DECODER,
	IVM_WORKER_APPLY,
	IVM_WORKER_BUILDER
} IvmWorkerType;

extern Size ivm_stats_shmem_size(void);
extern void ivm_stats_shmem_init(void);

/* ---- processes ---- */

/* Takes a row of pg_stat_ivm_worker for this process, given back at exit. */
extern void ivm_stats_worker_start(IvmWorkerType type, Oid dboid);

/* A short constant text: "idle", "waiting for decoder", ...; the pointer is copied by value of its text (64 bytes). */
extern void ivm_stats_worker_state(const char *state);

/* Publishes this process's arena and positions. */
extern void ivm_stats_worker_report(XLogRecPtr position, XLogRecPtr confirmed);
extern void ivm_stats_worker_slot(const char *slot_name, XLogRecPtr restart_lsn, Size log_memory, Size log_disk);

/* An apply worker's cache of rows that joins look up. */
typedef struct IvmStatsCache
{
	Size		bytes;			/* now */
	uint64		hits;			/* these since the process started */
	uint64		misses;
	uint64		evictions;
} IvmStatsCache;

extern void ivm_stats_worker_cache(const IvmStatsCache *cache);

/* ---- views ---- */

typedef struct IvmBatchReport
{
	uint64		changes_received;
	uint64		inserted;
	uint64		updated;
	uint64		deleted;
	uint64		recomputes;
	double		apply_time;		/* ms */
	XLogRecPtr	applied_lsn;
} IvmBatchReport;

/* State in words as pg_stat_ivm shows it: "unpopulated", "building", "rebuild", "active", "error", "waiting for lock". */
extern void ivm_stats_view_state(Oid dboid, Oid relid, const char *state);

/* The state that was said last, palloc'd; NULL if none was. */
extern char *ivm_stats_view_said_state(Oid dboid, Oid relid);
extern void ivm_stats_view_batch(Oid dboid, Oid relid, const IvmBatchReport *report);
extern void ivm_stats_view_rebuild(Oid dboid, Oid relid, const char *reason);
extern void ivm_stats_view_error(Oid dboid, Oid relid, const char *message);
extern void ivm_stats_view_drop(Oid dboid, Oid relid);

/*
 * A worker maintains the view from now on.  Until it has read what there is, all that is known is that the view
 * contained everything at "as_of"; if it had the view before, what it said then is still true.
 */
extern void ivm_stats_view_adopt(Oid dboid, Oid relid, int worker_number, TimestampTz as_of);

/* Commit time of the first transaction that the view lacks for a reason of its own; 0 if it keeps up with its worker. */
extern void ivm_stats_view_behind(Oid dboid, Oid relid, TimestampTz since);

/*
 * Which apply worker keeps it.  UNKNOWN: nobody has said so, or there was no room; NONE: the last one has
 * let the view go.  A worker tells that it keeps a view before it says that it has taken it over, and that it does not
 * when it forgets it, with a time: the view may lack what committed since then.
 */
#define IVM_KEEPER_UNKNOWN	(-1)
#define IVM_KEEPER_NONE		(-2)
extern int	ivm_stats_view_keeper(Oid dboid, Oid relid);
extern void ivm_stats_view_let_go(Oid dboid, Oid relid, int worker_number, TimestampTz since);

/* When something that was put off is tried again. */
extern void ivm_stats_view_next_try(Oid dboid, Oid relid, TimestampTz time);

/* Its keeper has done with it, and waits for another to take it over. */
extern void ivm_stats_view_leave(Oid dboid, Oid relid, int worker_number, TimestampTz since);

/* What was said of a view. */
typedef struct IvmViewStatus
{
	char		state[64];		/* empty: nothing */
	TimestampTz state_since;
	int			worker_number;	/* its keeper */
	TimestampTz behind_since;
	TimestampTz stale_since;
	TimestampTz next_try;
	XLogRecPtr	applied_lsn;
} IvmViewStatus;

/* False if nothing was; *status then says so. */
extern bool ivm_stats_view_status(Oid dboid, Oid relid, IvmViewStatus *status);

/* May the current user see how a view does?  Its owner may, and pg_monitor. */
extern bool ivm_stats_may_see(Oid dboid, Oid relid);

/* What a process says that it does. */
typedef struct IvmProcessState
{
	char		state[64];
	TimestampTz since;
} IvmProcessState;

extern bool ivm_stats_process_state(pid_t pid, IvmProcessState *state);

/* Forgets the views of a database that are not in the list of oids, which is sorted. */
extern void ivm_stats_view_retain(Oid dboid, List *relids);

/*
 * A process that tells of views, outside of batches: these are the views of its database now, in the order of
 * their oids.  Forgets others, and sees to it that there is room for these.
 */
extern void ivm_stats_view_known(List *relids);
extern void ivm_stats_database_drop(Oid dboid);

/* ---- operators ---- */

typedef struct IvmOperatorReport
{
	int			node_id;
	int			parent_id;
	char		name[NAMEDATALEN];
	uint64		rows_in;
	uint64		rows_out;
	int64		state_bytes;
	double		total_time;		/* ms */
} IvmOperatorReport;

/*
 * Adds to the counters of a view's operators what was counted since the last
 * report (called at most every second or so); the other fields are as they are now.
 */
extern void ivm_stats_operators(Oid dboid, Oid relid, int count, const IvmOperatorReport *reports);

/* ---- a running population or rebuild, for pg_stat_progress_ivm_build ---- */
extern void ivm_stats_build_start(Oid dboid, Oid relid, bool rebuild);
extern void ivm_stats_build_phase(const char *phase);
extern void ivm_stats_build_tuples(uint64 tuples);
extern void ivm_stats_build_end(void);

#endif							/* IVM_STATS_H */
