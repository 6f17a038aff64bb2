/*-------------------------------------------------------------------------
 *
 * hand_over.c
 *	  How what was built comes to an apply worker without a gap.
 *
 * The builder takes a cursor before it fills, so that the log and the WAL keep what
 * comes from then on, and lets it go when the worker that gets the view has taken over, which has cursors
 * of its own by then.
 *
 * Memory: the cursor's.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "base/settings.h"
#include "build/build_internal.h"
#include "capture/capture.h"
#include "maintain/consumer.h"
#include "process/control.h"
#include "process/process.h"
#include "stats/stats.h"

#define BUILDER_CURSOR			"builder"
#define OPEN_DELAY		100		/* ms, between looks whether open transactions have ended */

static IvmControlDatabase *control;
static IvmDatabase *capture;
static IvmCursor *cursor = NULL;

/* Of cursor and tables; they outlive the process: see ivm_hand_over(). */
void
ivm_hand_over_release(void)
{
	ivm_registry_retain(capture, NULL, NULL);
	if (cursor != NULL)
	{
		ivm_cursor_release(cursor);
		ivm_cursor_drop(capture, BUILDER_CURSOR);
	}
	cursor = NULL;
}

/* Step 2.  Returns the position up to which P contains everything. */
XLogRecPtr
ivm_hand_over_begin(IvmPlan *plan)
{
	uint64		generation;
	XLogRecPtr	decoded;

	ivm_stats_build_phase("waiting for decoder");
	while (ivm_decoder_state(capture) != IVM_DECODER_RUNNING)
		ivm_process_wait(ivm_naptime > 100 ? 100 : ivm_naptime);
	ivm_hand_over_release();
	cursor = ivm_cursor_create(capture, BUILDER_CURSOR, true);
	generation = ivm_plan_register(capture, plan);

	/*
	 * what is decoded by now P will see; of what comes while we wait nobody
	 * knows
	 */
	decoded = ivm_log_end(capture).decoded_lsn;
	ivm_registry_wait(capture, generation);
	if (ivm_registry_is_incomplete(capture))
	{
		ivm_stats_build_phase("waiting for open transactions");
		do
			ivm_process_wait(OPEN_DELAY);
		while (ivm_registry_is_incomplete(capture));
	}
	return decoded;
}

/*
 * The quick workers know at once whose it is.  A slow one, which comes to look when its batch has
 * ended, is waited for only if it is the one: what sits together with slow views is on their list by the time that the
 * quick ones have looked.
 */
static bool
is_adopted(Oid relid, uint64 generation)
{
	bool		result = true;
	int			first;
	int			count;

	for (int i = 0; i < control->apply_workers; i++)
		result &= pg_atomic_read_u64(&control->apply[i].adopted) >= generation;
	LWLockAcquire(ivm_control->lock, LW_SHARED);
	ivm_control_workers_of(control, relid, &first, &count);
	if (!OidIsValid(relid))
		count = control->apply_workers + control->slow.workers;
	for (int i = first; i < first + count; i++)
		result &= pg_atomic_read_u64(&control->apply[i].adopted) >= generation;
	LWLockRelease(ivm_control->lock);
	return result;
}

/*
 * Step 4.  What was built is committed, and has to be taken over by the worker that gets it; which one
 * that is is known when it has been.  The others are not waited for.  For a view a cancel comes too late; one
 * that comes while an arrangement is handed over is about the view to come.  If
 * the process is ended here the cursor stays, and the next one does this again.
 */
void
ivm_hand_over(Oid relid, bool is_view)
{
	uint64		generation = ivm_control_changed(MyDatabaseId, false);

	ivm_build_give_memory_back();
	ivm_stats_build_phase("handing over");
	HOLD_CANCEL_INTERRUPTS();
	for (;;)
	{
		int			keeper = ivm_stats_view_keeper(MyDatabaseId, relid);

		if ((keeper >= 0 && ivm_control_has_adopted(control, keeper, relid, generation)) ||
			is_adopted(relid, generation))
			break;
		ivm_process_wait(ivm_naptime);
	}
	ivm_hand_over_release();
	if (is_view)
		QueryCancelPending = false;
	RESUME_CANCEL_INTERRUPTS();
}

void
ivm_hand_over_init(void)
{
	bool		unfinished;

	control = ivm_control_my_database();
	capture = control->capture;
	LWLockAcquire(ivm_control->lock, LW_SHARED);
	unfinished = control->handing_over;
	LWLockRelease(ivm_control->lock);
	if (!unfinished)
		return;

	/* what the predecessor built, perhaps; the cursor is its own */
	cursor = ivm_cursor_create(capture, BUILDER_CURSOR, true);
	ivm_hand_over(InvalidOid, true);
	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	control->handing_over = false;
	LWLockRelease(ivm_control->lock);
}
