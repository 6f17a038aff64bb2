/*-------------------------------------------------------------------------
 *
 * worker.h
 *	  Processes, and what statements ask of them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_WORKER_H
#define IVM_WORKER_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "nodes/pg_list.h"

/* Shared memory, hooks and the launcher; called once, while the server starts. */
extern void ivm_worker_init(void);

/* ---- requests of sessions (request.c) ---- */

/*
 * Asks for the population or rebuild of a view whose metadata row (state
 * building or rebuild) is committed, and waits until it is active.  Returns the number
 * of rows.  Called outside of any transaction's snapshot and locks: the
 * caller has just committed.  On failure of the build the error is *returned* (an ErrorData copy in
 * the current context) so that the caller can clean up first.  After two seconds of waiting for old transactions
 * it says so with their pids (NOTICE).  If the wait is interrupted and "drop_if_abandoned", the builder drops the view.
 */
extern ErrorData *ivm_request_build(Oid relid, bool drop_if_abandoned, uint64 *rows);

/* Tells the workers after commit that ivm.view changed (views created, dropped, altered, to be rebuilt). */
extern void ivm_request_refresh_at_commit(void);

/* Waits until every view of the list is at or past everything committed before the call; error on timeout. */
extern void ivm_request_sync(List *relids, int64 timeout_ms);

/* Runs ivm.verify in the view's worker, inside a batch. */
extern void ivm_request_verify(Oid relid, int64 *missing, int64 *extra);

/*
 * Stops all processes of a database and waits until they are gone; they stay
 * stopped until ivm_request_resume_database or the end of this session's transaction
 * (commit or abort).  Its slot stays (DROP DATABASE drops inactive slots itself).
 */
extern void ivm_request_stop_database(Oid dboid);
extern void ivm_request_resume_database(Oid dboid);

/* Lets the launcher look into a database (by oid) after the commit, as after CREATE DATABASE ... TEMPLATE. */
extern void ivm_request_inspect_at_commit(Oid dboid);

/*
 * Checks before anything is made: library preloaded, wal_level, a free replication slot and
 * worker processes.  Raises the error with its hint.
 */
extern void ivm_request_check_server(void);

#endif							/* IVM_WORKER_H */
