/*-------------------------------------------------------------------------
 *
 * request.h
 *	  Processes, and what statements ask of them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_REQUEST_H
#define IVM_REQUEST_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "process/control.h"

/* Shared memory, hooks and the launcher; called once, while the server starts. */
extern void ivm_worker_init(void);

/* ---- requests of sessions (request.c) ---- */

/*
 * The three steps of a session that has a view built.  "begin" comes before
 * the view, or its state, is committed; "wait" when its metadata row (state
 * building or rebuild) is, outside of any snapshot and lock: the caller has just committed.
 * It returns when the view is active, with the number of rows.  If the build
 * fails, or the wait is interrupted, the error is *returned* (an ErrorData in
 * the current context).  With "undo" the caller then undoes what it has done,
 * and the builder keeps off the view until "end"; without, a view that cannot
 * be built is in state error, and a build that nobody waits for goes on.
 * A session that ends between the steps leaves the view to the builder, which
 * drops it if "drop_if_orphaned" and else builds it.
 *
 * After two seconds of waiting for old transactions "wait" says so with their
 * pids (NOTICE).
 */
extern void ivm_request_build_begin(Oid relid, bool undo, bool drop_if_orphaned);
extern ErrorData *ivm_request_build_wait(uint64 *rows);
extern void ivm_request_build_end(void);

/* Does another session wait for the view of the current request, too? */
extern bool ivm_request_build_is_shared(void);

/* Tells the workers after commit that ivm.view changed (views created, dropped, altered, to be rebuilt). */
extern void ivm_request_refresh_at_commit(void);

/* The entry of this database, which has incremental views; NULL if there is none after timeout_ms (-1: no limit). */
extern IvmControlDatabase *ivm_request_database(TimestampTz started, int64 timeout_ms);

/*
 * For waits without a limit: errors if this database's processes cannot be
 * started, for want of a worker slot or of memory, or cannot read the WAL, and that lasts.
 */
typedef struct IvmProcessWatch
{
	TimestampTz launcher_seen;
	TimestampTz room_seen;
	TimestampTz decoder_seen;
	uint64		failed_starts;	/* before: what they found is no answer */
} IvmProcessWatch;

extern void ivm_request_watch_begin(IvmProcessWatch *watch);
extern void ivm_request_watch(IvmProcessWatch *watch);

/*
 * Asks the view's worker to end a batch at a snapshot that is taken from now on, and to store it as the view's applied
 * snapshot, whether or not there is anything to apply.  True when that is committed; false if it takes
 * longer than patience_ms.  Errors if the view is not maintained.
 */
extern bool ivm_request_snapshot(Oid relid, int64 patience_ms);

/*
 * Stops all processes of a database and waits until they are gone; they stay
 * stopped until the end of this session's transaction (commit or abort).  Its
 * slot stays (DROP DATABASE drops inactive slots itself).
 */
extern void ivm_request_stop_database(Oid dboid);

/* Lets the launcher look into a database (by oid) after the commit, as after CREATE DATABASE ... TEMPLATE. */
extern void ivm_request_inspect_at_commit(Oid dboid);

/*
 * Checks before anything is made: library preloaded, wal_level, a free replication slot and
 * worker processes.  Raises the error with its hint.
 */
extern void ivm_request_check_server(void);

#endif							/* IVM_REQUEST_H */
