/*-------------------------------------------------------------------------
 *
 * decoder_main.c
 *	  The decoder as a process: who waits for it, and what if it fails.
 *
 * The work is capture's (ivm_decoder_run).  It begins when all apply workers
 * have registered their tables: what was decoded before would lack them.
 *
 * An error before the decoder runs
 * (no free replication slot, say) is given to the sessions that wait for a
 * view to be built, since without a decoder none can be.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "replication/reorderbuffer.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

#include "base/debug_point.h"
#include "base/settings.h"
#include "capture/capture.h"
#include "memory/budget.h"
#include "process/control.h"
#include "process/process.h"

static IvmControlDatabase *control;

static void
decoder_exit(int code, Datum argument)
{
	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	control->decoder_pid = 0;
	control->decoder_latch = NULL;
	LWLockRelease(ivm_control->lock);
	ConditionVariableBroadcast(&ivm_control->changed);
	ivm_control_wake_launcher();
}

static void
wait_for_registrations(void)
{
	for (;;)
	{
		bool		registered = true;

		LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
		for (int i = 0; i < control->apply_workers; i++)
			registered &= control->apply[i].registered;
		if (registered)
			control->decoder_latch = NULL;
		LWLockRelease(ivm_control->lock);
		if (registered)
			return;
		ivm_stats_worker_state("waiting for apply workers");
		ivm_process_wait(ivm_naptime);
	}
}

void
ivm_decoder_main(Datum unused)
{
	IvmProcessArgument argument;
	IvmDatabase *capture;
	uint64		newest;

	ivm_process_init(&argument);
	ivm_process_open_account(ivm_budget_decoding_share((Size) logical_decoding_work_mem * 1024), false);
	control = ivm_control_my_database();
	capture = control->capture;
	ivm_process_join(&argument, &control->decoder_pid, &control->decoder_latch);
	before_shmem_exit(decoder_exit, (Datum) 0);
	wait_for_registrations();
	ivm_database_attach(capture);
	newest = ivm_request_newest();

	PG_TRY();
	{
		control->decoder_problem[0] = '\0';
		ivm_debug_point("decoder-start");
		ivm_decoder_run(capture);
	}
	PG_CATCH();
	{
		if (ivm_decoder_state(capture) != IVM_DECODER_RUNNING)
		{
			MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
			ErrorData  *error = CopyErrorData();
			char	   *problem;

			problem = error->hint == NULL ? error->message : psprintf("%s. %s", error->message, error->hint);
			MemoryContextSwitchTo(old);
			LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
			memset(control->decoder_problem, 0, sizeof(control->decoder_problem));
			memcpy(control->decoder_problem, problem,
				   pg_mbcliplen(problem, strlen(problem), sizeof(control->decoder_problem) - 1));
			LWLockRelease(ivm_control->lock);
			ivm_debug_point("decoder-failed");
			ivm_request_fail_builds(InvalidOid, newest, error);
		}
		PG_RE_THROW();
	}
	PG_END_TRY();
}
