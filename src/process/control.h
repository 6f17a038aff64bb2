/*-------------------------------------------------------------------------
 *
 * control.h
 *	  What processes and sessions tell each other through shared memory.
 *
 * There is one shared entry for each database that is of interest.  Its first
 * part is the capture's (capture/database.c), the rest is IvmControlDatabase, with the
 * state, which the launcher alone moves: everybody else sets one of the fields under
 * "asked", and wakes it.  README has the states and who does what when.
 *
 * Locking: every field of IvmControl, its databases and requests is guarded by
 * IvmControl.lock, except the atomics, which are written by one process and
 * read by any.  Nobody waits, nor raises an error, while holding the lock.
 * "changed" is broadcast whenever something changed that a session may be
 * waiting for.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_CONTROL_H
#define IVM_CONTROL_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "storage/lwlock.h"

#include "capture/capture.h"
#include "process/slow.h"
#include "process/trouble.h"

#define IVM_MAX_APPLY_WORKERS	32
#define IVM_APPLY_SLOTS			(IVM_MAX_APPLY_WORKERS + IVM_SLOW_WORKERS)
#define IVM_MAX_BEHIND			64
#define IVM_MAX_REQUESTS		64
#define IVM_BUILDER_NUMBER		63	/* as a consumer to wake */

/* What an apply worker publishes. */
typedef struct IvmApplyShared
{
	int			pid;			/* 0: not running */
	Latch	   *latch;
	bool		registered;		/* its tables are in the registry */
	pg_atomic_uint64 adopted;	/* generation of ivm.view that it has taken
								 * over */
	pg_atomic_uint64 looked;	/* the last sync that its look at
								 * invalidations came after */
	pg_atomic_uint64 position;	/* its views contain all that committed
								 * before, but those behind */
	/* what is shown of it; first the last, in this order (status.c) */
	pg_atomic_uint64 oldest_pending;	/* commit time of the first transaction
										 * that its views lack, but those
										 * behind; 0: none */
	pg_atomic_uint64 read_time; /* commit time of the last one that it read */
	pg_atomic_uint64 read_incarnation;	/* of the log that it reads; 0: never
										 * told */
	pg_atomic_uint64 read_sequence; /* transactions with smaller numbers were
									 * read */
	int			nbehind;		/* > IVM_MAX_BEHIND: position is held back
								 * instead */
	Oid			behind[IVM_MAX_BEHIND];
	XLogRecPtr	behind_position[IVM_MAX_BEHIND];
	uint64		behind_looked[IVM_MAX_BEHIND];	/* instead of "looked" */
} IvmApplyShared;

typedef enum IvmDatabaseState
{
	IVM_DATABASE_UNKNOWN,		/* has it incremental views? */
	IVM_DATABASE_INSPECTING,	/* a process is looking */
	IVM_DATABASE_WANTED,		/* it has: its processes run, or are to */
	IVM_DATABASE_NOT_WANTED,	/* it has none: what is left of it goes */
	IVM_DATABASE_HELD,			/* a session wants no process there */
	IVM_DATABASE_GONE			/* it was dropped */
} IvmDatabaseState;

typedef struct IvmControlDatabase
{
	IvmDatabase *capture;		/* the entry; constant */

	/* written by the launcher alone */
	IvmDatabaseState state;
	bool		stopped;		/* held, and none of its processes is left */
	bool		starting_failed;	/* no worker slot could be had */
	uint64		failed_starts;	/* how often that was found */
	Size		missing_memory; /* what the budget lacks for a process that is
								 * wanted; 0: nothing */
	TimestampTz next_start;		/* of what ended, or could not be started; 0:
								 * nothing waits */
	int			apply_workers;	/* how many there are to be */

	/* asked of the launcher, by anybody */
	bool		asked_wanted;	/* there are incremental views; it takes this
								 * back */
	bool		asked_start;	/* do not wait with the next try to start its
								 * processes; it takes this back */
	bool		asked_inspect;	/* look into it; by who has looked, taken back */
	uint64		empty_generation;	/* of ivm.view, without a view in it */
	int			holds;			/* sessions that want its processes stopped */

	pg_atomic_uint64 generation;	/* of ivm.view; counts committed changes */
	int			inspector_pid;
	char		inspection_problem[128];	/* why the last look failed;
											 * empty: it did not */
	bool		build_wanted;	/* some view waits for the builder */
	int			builder_pid;
	bool		builder_done;	/* the last one ended because nothing was left */
	Latch	   *builder_latch;
	Oid			building;		/* the view in the builder's hands */
	bool		handing_over;	/* a builder died before what it built was
								 * taken over */
	int			decoder_pid;
	char		decoder_problem[256];	/* why the last one could not begin */
	Latch	   *decoder_latch;	/* while it waits for apply workers */
	pg_atomic_uint64 wanted_position;	/* the farthest that a session waits
										 * for */
	pg_atomic_uint64 syncs;		/* how many have been begun */
	IvmSlow		slow;			/* views that are not with those workers, but
								 * with the ones that follow */
	IvmTroubles troubles;		/* views in state error, and when they are
								 * tried again */
	IvmApplyShared apply[IVM_APPLY_SLOTS];
} IvmControlDatabase;

typedef enum IvmRequestKind
{
	IVM_REQUEST_FREE,
	IVM_REQUEST_BUILD,
	IVM_REQUEST_VERIFY
} IvmRequestKind;

typedef enum IvmRequestStatus
{
	IVM_REQUEST_WAITING,
	IVM_REQUEST_DONE,
	IVM_REQUEST_FAILED
} IvmRequestStatus;

typedef struct IvmRequest
{
	IvmRequestKind kind;
	IvmRequestStatus status;
	uint64		number;			/* no other request has or had it */
	bool		undo;			/* if it fails, the session undoes its
								 * statement */
	bool		abandoned;		/* that is what it does now: keep off the view */
	bool		orphaned;		/* it has gone before it could: drop the view */
	Oid			dboid;
	Oid			relid;
	int64		result[2];		/* rows; or missing and extra */
	int			sqlerrcode;
	char		message[1024];
	char		detail[1024];
	char		hint[512];
} IvmRequest;

typedef struct IvmControl
{
	LWLock	   *lock;
	ConditionVariable changed;
	int			launcher_pid;
	Latch	   *launcher_latch;
	uint64		launchers;		/* how many there have been; a process is of
								 * one of them */
	TimestampTz starts_at;		/* nothing is started before: the server has
								 * crashed again and again */
	bool		asked_scan;		/* there may be databases without an entry
								 * that are to be looked into */
	uint64		last_request;	/* number of the newest */
	IvmRequest	requests[IVM_MAX_REQUESTS];
} IvmControl;

extern IvmControl *ivm_control;

extern Size ivm_control_shmem_size(void);
extern void ivm_control_shmem_init(void);

/* What is here of an entry. */
#define ivm_control_of(database)	((IvmControlDatabase *) ivm_database_more(database))

/*
 * The database's entry, or NULL.  With "create" it is taken, in state unknown, for the launcher to look at; NULL then
 * means that there is no room.  Lock held, exclusively with "create".
 */
extern IvmControlDatabase *ivm_control_find(Oid dboid, bool create);

/* The entry of the current database; errors if there is none.  Takes the lock. */
extern IvmControlDatabase *ivm_control_my_database(void);

/* Is any process of the database known?  Lock held. */
extern bool ivm_control_has_processes(IvmControlDatabase *database);

/* Wakes the launcher, or the processes of a database.  Take the lock themselves. */
extern void ivm_control_wake_launcher(void);
extern void ivm_control_wake_workers(IvmControlDatabase *database);

/* A change of ivm.view was committed: a new generation, everybody looks. */
extern uint64 ivm_control_changed(Oid dboid, bool build_wanted);

/*
 * The number of the newest request.  An attempt that begins after this was asked answers requests with
 * this number and smaller ones; what it finds is no answer to whoever comes later.
 */
extern uint64 ivm_request_newest(void);

/*
 * Gives an error to the sessions that wait for this view to be built (InvalidOid: for any of this
 * database), do not undo their statement already, and have a number up to "newest".
 */
extern void ivm_request_fail_builds(Oid relid, uint64 newest, const ErrorData *error);

/*
 * Which apply workers promise for a view: "count" of them, from "first" on.  That is
 * so as long as the generation is the same.  Lock held.
 */
extern void ivm_control_workers_of(IvmControlDatabase *database, Oid relid, int *first, int *count);

/* How many apply workers there are to be now, slow ones included.  Takes the lock. */
extern int	ivm_control_all_workers(IvmControlDatabase *database);

/*
 * Has the apply worker that keeps a view (as ivm_stats_view_keeper says) taken over that generation of
 * ivm.view?  If it is unknown which one does: have all that promise for it?
 */
extern bool ivm_control_has_adopted(IvmControlDatabase *database, int keeper, Oid relid, uint64 generation);

/*
 * What that worker promises of the view: everything that committed before *position, and was visible when the
 * sync of number *looked began, is contained.
 */
extern void ivm_control_view_progress(IvmControlDatabase *database, int keeper, Oid relid,
									  XLogRecPtr *position, uint64 *looked);

#endif							/* IVM_CONTROL_H */
