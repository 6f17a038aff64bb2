/*-------------------------------------------------------------------------
 *
 * process.c
 *	  Starting a background process, and its first steps.
 *
 * A process connects as the bootstrap superuser; what belongs to a view is
 * evaluated as the view's owner.  Settings of the cluster or database that
 * would end a batch or change what it computes are overridden here, those that
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
#include "tcop/tcopprot.h"
#include "utils/guc.h"

#include "base/debug_point.h"
#include "base/settings.h"
#include "memory/budget.h"
#include "memory/reclaim.h"
#include "process/process.h"

StaticAssertDecl(sizeof(IvmProcessArgument) <= BGW_EXTRALEN, "argument too large");

static const char *const overridden_settings[][2] = {
	{"statement_timeout", "0"},
	{"lock_timeout", "0"},
	{"idle_in_transaction_session_timeout", "0"},
	{"idle_session_timeout", "0"},
	{"default_transaction_isolation", "read committed"},
	{"default_transaction_read_only", "off"},
	{"default_transaction_deferrable", "off"},
	{"synchronous_commit", "off"},
	{"row_security", "on"},
	{"search_path", "pg_catalog, pg_temp"},
	{"default_tablespace", ""},
	{"default_table_access_method", "heap"},
	{"check_function_bodies", "on"},
	{"transform_null_equals", "off"},
	{"backslash_quote", "safe_encoding"},
	{"session_replication_role", "origin"},
	{"array_nulls", "on"},
	{"xmlbinary", "base64"},
	{"log_duration", "off"},
	{"log_min_duration_statement", "-1"},
	{"jit", "off"},

	/*
	 * what is run again begins where it began the last time, whoever reads
	 * the table meanwhile
	 */
	{"synchronize_seqscans", "off"},
};

bool
ivm_process_start(const char *function, const char *name, const IvmProcessArgument *argument,
				  BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = MyProcPid;
	strlcpy(worker.bgw_library_name, "ivm_ext", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, function, BGW_MAXLEN);
	strlcpy(worker.bgw_name, name, BGW_MAXLEN);
	strlcpy(worker.bgw_type, name, BGW_MAXLEN);
	memcpy(worker.bgw_extra, argument, sizeof(IvmProcessArgument));
	return RegisterDynamicBackgroundWorker(&worker, handle);
}

static void
report_debug_point(const char *name)
{
	ivm_stats_worker_state(name != NULL ? name : "running");
}

void
ivm_process_init(IvmProcessArgument *argument)
{
	memcpy(argument, MyBgworkerEntry->bgw_extra, sizeof(IvmProcessArgument));

	pqsignal(SIGTERM, die);
	pqsignal(SIGINT, StatementCancelHandler);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();

	BackgroundWorkerInitializeConnectionByOid(argument->dboid, InvalidOid, BGWORKER_BYPASS_ALLOWCONN);

	for (int i = 0; i < lengthof(overridden_settings); i++)
		SetConfigOption(overridden_settings[i][0], overridden_settings[i][1],
						PGC_SUSET, PGC_S_OVERRIDE);

	ivm_debug_point_report = report_debug_point;
	ivm_stats_worker_start(argument->type, argument->dboid);
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
ivm_process_wait(long timeout_ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (timeout_ms >= 0 ? WL_TIMEOUT : 0),
					 timeout_ms, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
	ivm_give_back();
}
