/*-------------------------------------------------------------------------
 *
 * process.h
 *	  What the extension's background processes have in common.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_PROCESS_H
#define IVM_PROCESS_H

#include "postgres.h"

#include "postmaster/bgworker.h"
#include "storage/latch.h"
#include "stats/stats.h"

/* What a dynamic worker is told in bgw_extra. */
typedef struct IvmProcessArgument
{
	Oid			dboid;
	IvmWorkerType type;
	int			number;			/* of an apply worker */
	uint64		launcher;		/* by which it was started; filled in by
								 * ivm_process_start */
} IvmProcessArgument;

/*
 * Starts a process of a database; *handle is palloc'd in the current context.
 * False if there is no free worker slot.
 */
extern bool ivm_process_start(const char *function, const char *name, const IvmProcessArgument *argument,
							  BackgroundWorkerHandle **handle);

/* Settings that a process of ours has whatever is set for the server, the database or a role; before it connects. */
extern void ivm_process_override_settings(void);

/* First thing in a process's main function: signals, connection, settings, statistics row. */
extern void ivm_process_init(IvmProcessArgument *argument);

/*
 * Makes the process known in the shared entry of its database, by its pid and, if asked for, its latch.  Ends it if
 * the launcher that started it is gone: its successor knows nothing of it, and may have started another.
 */
extern void ivm_process_join(const IvmProcessArgument *argument, int *pid, Latch **latch);

/*
 * Opens this process's account in the memory budget, if need be and "reserved" in the place of the reserve
 * (ivm_budget_reserve); ends the process if that has no room.
 */
extern void ivm_process_open_account(Size minimum, bool reserved);

/*
 * From now on a wait for a lock is given up soon (ERRCODE_LOCK_NOT_AVAILABLE),
 * long before deadlock_timeout; or not any more.  A process that waits for a lock
 * while it has others would deadlock with statements that lock many relations (DROP SCHEMA).
 */
extern void ivm_process_impatient(bool impatient);

/* Reads the configuration again if it was asked to.  For whoever goes on for long without ivm_process_wait. */
extern void ivm_process_reload(void);

/*
 * Serves interrupts, a reload, and requests to give memory back; sleeps until the latch is set or the
 * time is over (-1: no limit).
 */
extern void ivm_process_wait(long timeout_ms);

extern PGDLLEXPORT void ivm_launcher_main(Datum argument);
extern PGDLLEXPORT void ivm_inspect_main(Datum argument);
extern PGDLLEXPORT void ivm_decoder_main(Datum argument);
extern PGDLLEXPORT void ivm_apply_main(Datum argument);
extern PGDLLEXPORT void ivm_builder_main(Datum argument);

/*
 * Between transactions: ends what functions have locked beyond theirs (advisory locks of the
 * session, which is ours).
 */
extern void ivm_process_release_locks(void);

/* Lowers *sleep_ms to the time until then. */
extern void ivm_sleep_until(TimestampTz then, long *sleep_ms);

#endif							/* IVM_PROCESS_H */
