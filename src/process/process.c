/*-------------------------------------------------------------------------
 *
 * process.c
 *	  Starting a background process, and its first steps.
 *
 * A process connects as the bootstrap superuser; what belongs to a view is
 * evaluated as the view's owner.  Settings of the server, the database or a role
 * that would end a batch or change what it computes are overridden here, those that
 * change how values look are set for each view.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "replication/origin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"

#include "base/debug_point.h"
#include "base/in_hand.h"
#include "base/settings.h"
#include "memory/budget.h"
#include "memory/reclaim.h"
#include "process/control.h"
#include "process/process.h"

StaticAssertDecl(sizeof(IvmProcessArgument) <= BGW_EXTRALEN, "argument too large");

/*
 * The server's settings, as far as a database or a role can set them, one by one.
 * Each is of one of these kinds; test/t/096_settings.pl has the names of all,
 * and fails when the server has one that is in none.
 *
 * Overridden here, before the process connects, so that what is set for the
 * database or a role never counts (max_stack_depth and, in the decoder, dynamic_library_path stay what
 * they are for the server):
 *
 *	- what ends a process, a transaction or a wait that is ours to end, or makes it fail;
 *	- what a transaction is, and how it commits;
 *	- what changes a result, or the text of a plan, behind everybody's back;
 *	- where our own relations are made;
 *	- what reads damaged or outdated data as if it were sound;
 *	- what keeps autovacuum from coming, or makes catalogs slow;
 *	- a delay at the process's start.
 *
 * Set for each view (compile/settings.c): what its expressions print or decide by, as it was
 * when the view was created; and what makes an index scan leave rows out.
 *
 * Set where it is needed: what the planner may do while a view is compiled
 * (compile/planning.c), the decoder's memory and files, and its plugin (capture/).
 *
 * Left as they are, since they
 *	- say how much memory, disk, processors or I/O there are, and what they cost: a
 *	  small one makes a process slower, and an error that comes of one (temp_file_limit)
 *	  is no final one;
 *	- choose among ways to the same result (enable_..., geqo, parallel query);
 *	- log, trace, measure or name: more lines in the server's log, at most;
 *	- concern clients, their connections, passwords and messages, which we do not have;
 *	- concern commands that we do not run: VACUUM, CREATE FUNCTION, large objects;
 *	- are set anew when a transaction begins (transaction_...);
 *	- say where the database's own functions and libraries are; those to be preloaded
 *	  by a session are not loaded by a background process at all;
 *	- are ours, and do what they say.
 */
static const char *const overridden_settings[][2] = {
	{"exit_on_error", "off"},
	{"statement_timeout", "0"},
	{"transaction_timeout", "0"},
	{"lock_timeout", "0"},
	{"idle_in_transaction_session_timeout", "0"},
	{"idle_session_timeout", "0"},

	/* less and what waits for a lock would be ended by what it may well get; more, and nobody would */
	{"deadlock_timeout", "1s"},

	/* refuses what a view may read */
	{"restrict_nonsystem_relation_kind", ""},

	{"default_transaction_isolation", "read committed"},
	{"default_transaction_read_only", "off"},
	{"default_transaction_deferrable", "off"},
	{"synchronous_commit", "off"},
	{"session_replication_role", "origin"},

	{"row_security", "on"},
	{"search_path", "pg_catalog, pg_temp"},
	{"check_function_bodies", "on"},
	{"transform_null_equals", "off"},
	{"backslash_quote", "safe_encoding"},
	{"standard_conforming_strings", "on"},
	{"array_nulls", "on"},
	{"xmlbinary", "base64"},

	/*
	 * what is run again begins where it began the last time, whoever reads
	 * the table meanwhile
	 */
	{"synchronize_seqscans", "off"},

	{"default_tablespace", ""},
	{"default_table_access_method", "heap"},

	{"zero_damaged_pages", "off"},
	{"ignore_checksum_failure", "off"},
	{"composite_type_mismatch", "error"},

	{"track_counts", "on"},
	{"ignore_system_indexes", "off"},
	{"post_auth_delay", "0"},
	{"jit", "off"},
};

bool
ivm_process_start(const char *function, const char *name, const IvmProcessArgument *argument,
				  BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker;
	IvmProcessArgument extra = *argument;

	extra.launcher = ivm_control->launchers;
	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = MyProcPid;
	strlcpy(worker.bgw_library_name, "ivm_ext", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, function, BGW_MAXLEN);
	strlcpy(worker.bgw_name, name, BGW_MAXLEN);
	strlcpy(worker.bgw_type, name, BGW_MAXLEN);
	memcpy(worker.bgw_extra, &extra, sizeof(IvmProcessArgument));
	return RegisterDynamicBackgroundWorker(&worker, handle);
}

static void
report_debug_point(const char *name)
{
	ivm_stats_worker_state(name != NULL ? name : "running");
}

/* Before the process connects: whatever the database says it stays what it is for the server. */
static void
keep_servers_value(const char *name)
{
	SetConfigOption(name, GetConfigOption(name, false, false), PGC_POSTMASTER, PGC_S_OVERRIDE);
}

/* Some of them came with a newer server, or with a newer minor release. */
void
ivm_process_override_settings(void)
{
	for (int i = 0; i < lengthof(overridden_settings); i++)
		if (GetConfigOption(overridden_settings[i][0], true, false) != NULL)
			SetConfigOption(overridden_settings[i][0], overridden_settings[i][1], PGC_POSTMASTER, PGC_S_OVERRIDE);

	/* what was compiled by one process has to be compiled by all */
	keep_servers_value("max_stack_depth");
}

void
ivm_process_init(IvmProcessArgument *argument)
{
	memcpy(argument, MyBgworkerEntry->bgw_extra, sizeof(IvmProcessArgument));

	pqsignal(SIGINT, StatementCancelHandler);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	ivm_in_hand_open(argument->dboid);
	BackgroundWorkerUnblockSignals();

	ivm_process_override_settings();
	/* it loads this library once more, as a plugin, and nothing that the database has a path for */
	if (argument->type == IVM_WORKER_DECODER)
		keep_servers_value("dynamic_library_path");
	BackgroundWorkerInitializeConnectionByOid(argument->dboid, InvalidOid, BGWORKER_BYPASS_ALLOWCONN);

	ivm_debug_point_report = report_debug_point;
	ivm_stats_worker_start(argument->type, argument->dboid);
}

void
ivm_process_join(const IvmProcessArgument *argument, int *pid, Latch **latch)
{
	bool		expected;

	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	expected = argument->launcher == ivm_control->launchers;
	if (expected)
	{
		*pid = MyProcPid;
		if (latch != NULL)
			*latch = MyLatch;
	}
	LWLockRelease(ivm_control->lock);
	if (!expected)
		proc_exit(0);
}

void
ivm_process_open_account(Size minimum, bool reserved)
{
	Size		missing;

	if (reserved ? ivm_budget_open_reserved(minimum) : ivm_budget_open(minimum, false))
		return;
	(void) ivm_budget_fits(minimum, &missing);
	ereport(FATAL,
			(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
			 errmsg("ivm.memory_budget has no room for another process"),
			 errhint("Increase ivm.memory_budget by %zu kB.", (missing + 1023) / 1024)));
}

void
ivm_process_impatient(bool impatient)
{
	SetConfigOption("lock_timeout", impatient ? "100ms" : "0", PGC_SUSET, PGC_S_OVERRIDE);
}

void
ivm_process_release_locks(void)
{
	LockReleaseAll(USER_LOCKMETHOD, true);
}

void
ivm_process_reload(void)
{
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

void
ivm_process_wait(long timeout_ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (timeout_ms >= 0 ? WL_TIMEOUT : 0),
					 timeout_ms, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	ivm_process_reload();
	ivm_give_back();
}

void
ivm_sleep_until(TimestampTz then, long *sleep_ms)
{
	long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), then) + 1;

	*sleep_ms = Min(*sleep_ms, left);
}
