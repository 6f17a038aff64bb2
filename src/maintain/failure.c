/*-------------------------------------------------------------------------
 *
 * failure.c
 *	  What happens to a view whose maintenance fails.
 *
 * An error that may be gone the next time is tried again, with a pause that
 * grows to a minute.  Any other error leads to a rebuild: a path of a join may
 * evaluate an expression on a pair of rows that exists in no snapshot, which
 * the query itself never does.  The builder puts the view into state error if
 * the query fails as well.  A view that fails again right after each of three
 * rebuilds is in error, too: deltas do not work for it.  No state error is for good: the
 * builder tries again (process/trouble.c).
 *
 * The log gets one line for each change of state, not for each try.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/debug_point.h"
#include "memory/budget.h"
#include "metadata/metadata.h"
#include "stats/stats.h"
#include "process/control.h"
#include "process/trouble.h"
#include "maintain/failure.h"
#include "process/process.h"

#define MAX_TRANSIENT_FAILURES	8
#define MAX_REBUILDS			3
#define REBUILD_PERIOD			(10 * 60 * 1000)	/* ms */

/* Rebuilds after failed batches, by view, of the last REBUILD_PERIOD. */
typedef struct RebuildHistory
{
	Oid			relid;
	int			rebuilds;
	TimestampTz last;
} RebuildHistory;

static List *histories = NIL;
static ErrorData *saved_error = NULL;
static MemoryContext error_context;

void
ivm_failure_forget(void)
{
	if (saved_error != NULL)
		MemoryContextReset(error_context);
	saved_error = NULL;
}

void
ivm_failure_save(IvmCancel cancel)
{
	MemoryContext old = CurrentMemoryContext;

	ivm_failure_forget();
	/* of its own, since FreeErrorData does not free all that is copied */
	if (error_context == NULL)
		error_context = AllocSetContextCreate(TopMemoryContext, "ivm saved error", ALLOCSET_SMALL_SIZES);
	MemoryContextSwitchTo(error_context);
	HOLD_INTERRUPTS();
	saved_error = CopyErrorData();
	if (cancel == IVM_CANCEL_TIMEOUT)
	{
		/* a state of its own, so that nobody takes it for a user's cancel */
		saved_error->sqlerrcode = ERRCODE_CONFIGURATION_LIMIT_EXCEEDED;
		saved_error->message = pstrdup(IVM_TIMEOUT_REASON);
		saved_error->detail = NULL;
	}
	else if (cancel == IVM_CANCEL_BLOCKING)
	{
		saved_error->sqlerrcode = ERRCODE_OBJECT_IN_USE;
		saved_error->message = pstrdup(IVM_BLOCKING_REASON);
		saved_error->detail = NULL;
	}

	FlushErrorState();
	AbortCurrentTransaction();
	ivm_process_release_locks();
	RESUME_INTERRUPTS();
	MemoryContextSwitchTo(old);
}

bool
ivm_failure_is_shortage(void)
{
	return geterrcode() == ERRCODE_OUT_OF_MEMORY && ivm_budget_account() != NULL && !ivm_overdraft_is_mine();
}

static bool
is_timeout(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_CONFIGURATION_LIMIT_EXCEEDED && strcmp(error->message, IVM_TIMEOUT_REASON) == 0;
}

bool
ivm_failure_is_resource(int sqlerrcode)
{
	int			category = ERRCODE_TO_CATEGORY(sqlerrcode);

	return category == ERRCODE_TO_CATEGORY(ERRCODE_INSUFFICIENT_RESOURCES) ||
		category == ERRCODE_TO_CATEGORY(ERRCODE_IO_ERROR) ||
		category == ERRCODE_TO_CATEGORY(ERRCODE_CONNECTION_EXCEPTION);
}

bool
ivm_failure_is_transient(int sqlerrcode)
{
	int			category = ERRCODE_TO_CATEGORY(sqlerrcode);

	return category == ERRCODE_TO_CATEGORY(ERRCODE_T_R_SERIALIZATION_FAILURE) ||
		ivm_failure_is_resource(sqlerrcode) ||
		sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE || sqlerrcode == ERRCODE_OBJECT_IN_USE ||
		category == ERRCODE_TO_CATEGORY(ERRCODE_OPERATOR_INTERVENTION);
}

/* Its history; those that are too old to matter go meanwhile. */
static RebuildHistory *
history_of(Oid relid)
{
	TimestampTz now = GetCurrentTimestamp();
	RebuildHistory *history;
	RebuildHistory *result = NULL;
	MemoryContext old;
	ListCell   *cell;

	foreach(cell, histories)
	{
		history = lfirst(cell);
		if (history->relid == relid)
			result = history;
		else if (TimestampDifferenceExceeds(history->last, now, REBUILD_PERIOD))
		{
			histories = foreach_delete_current(histories, cell);
			pfree(history);
		}
	}
	if (result != NULL)
		return result;
	old = MemoryContextSwitchTo(TopMemoryContext);
	history = palloc0(sizeof(RebuildHistory));
	history->relid = relid;
	histories = lappend(histories, history);
	MemoryContextSwitchTo(old);
	return history;
}

/* A change of state is said once, with where it came from. */
static void
report(Oid relid, const char *what, const char *reason)
{
	const char *context = saved_error != NULL ? saved_error->context : NULL;

	ereport(LOG,
			(errmsg("incremental view with OID %u %s: %s", relid, what, reason),
			 context != NULL ? errcontext("%s", context) : 0));
}

/*
 * A statement that claims the view is about to change its row, if it has not done so: its change stands.
 * Whoever reads the row again finds what we have found, if that is still so.
 */
static bool
set_state(Oid relid, const IvmRowVersion *version, IvmViewState state, const char *reason)
{
	MemoryContext old = CurrentMemoryContext;
	volatile bool done = false;

	ivm_process_impatient(true);
	PG_TRY();
	{
		IvmViewRow *row;

		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		if (ivm_metadata_is_installed())
		{
			(void) ivm_claim(relid, true);
			row = ivm_metadata_get(relid);
			if (row != NULL && ivm_row_version_equal(&row->version, version))
			{
				ivm_metadata_set_state(relid, state, reason);
				done = true;
			}
		}
		PopActiveSnapshot();
		CommitTransactionCommand();
	}
	PG_CATCH();
	{
		if (geterrcode() != ERRCODE_T_R_SERIALIZATION_FAILURE && geterrcode() != ERRCODE_LOCK_NOT_AVAILABLE)
			PG_RE_THROW();
		MemoryContextSwitchTo(old);
		HOLD_INTERRUPTS();
		FlushErrorState();
		AbortCurrentTransaction();
		RESUME_INTERRUPTS();
		done = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	ivm_process_impatient(false);
	ivm_control_changed(MyDatabaseId, done && state == IVM_STATE_REBUILD);
	return done;
}

bool
ivm_failure_rebuild(Oid relid, const IvmRowVersion *version, const char *reason)
{
	if (!set_state(relid, version, IVM_STATE_REBUILD, reason))
		return false;
	report(relid, "is going to be rebuilt", reason);
	ivm_stats_view_state(MyDatabaseId, relid, "rebuild");
	ivm_stats_view_rebuild(MyDatabaseId, relid, reason);
	return true;
}

bool
ivm_failure_stop(Oid relid, const IvmRowVersion *version, const char *message)
{
	if (!set_state(relid, version, IVM_STATE_ERROR, message))
		return false;
	report(relid, "is in state error", message);
	ivm_trouble_failed(MyDatabaseId, relid);
	ivm_stats_view_state(MyDatabaseId, relid, "error");
	ivm_stats_view_error(MyDatabaseId, relid, message);
	return true;
}

bool
ivm_failure_stop_uncompilable(Oid relid, const IvmRowVersion *version, IvmCancel cancel)
{
	bool		stop;

	ivm_failure_save(cancel);
	stop = is_timeout(saved_error) || !ivm_failure_is_transient(saved_error->sqlerrcode);
	if (stop)
	{
		/* a view that is refused has its reason in the detail */
		char	   *message = saved_error->detail == NULL ? pstrdup(saved_error->message) :
			psprintf("%s: %s", saved_error->message, saved_error->detail);

		ivm_debug_point("apply-refused");
		stop = ivm_failure_stop(relid, version, message);
		pfree(message);
	}
	ivm_failure_forget();
	return stop;
}

void
ivm_failure_blame(IvmApplyWorker *worker, IvmConsumer *consumer)
{
	RebuildHistory *history = history_of(consumer->relid);
	TimestampTz now = GetCurrentTimestamp();

	ivm_stats_view_error(MyDatabaseId, consumer->relid, saved_error->message);
	if (!is_timeout(saved_error) && ivm_failure_is_transient(saved_error->sqlerrcode) &&
		consumer->failures < MAX_TRANSIENT_FAILURES)
	{
		if (consumer->failures == 0 && saved_error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
			report(consumer->relid, "failed in a batch, which is tried again", saved_error->message);
		consumer->retry_at = TimestampTzPlusMilliseconds(now, 250 << consumer->failures);
		consumer->failures++;
		ivm_failure_forget();
		return;
	}

	if (TimestampDifferenceExceeds(history->last, now, REBUILD_PERIOD))
		history->rebuilds = 0;
	history->last = now;

	/* the reload that follows drops it, even if it is rebuilt by then */
	consumer->given_up = true;
	consumer->retry_at = PG_INT64_MAX;
	ivm_debug_point("apply-failing");
	if (++history->rebuilds > MAX_REBUILDS || is_timeout(saved_error))
		(void) ivm_failure_stop(consumer->relid, &consumer->row_version, saved_error->message);
	else
		(void) ivm_failure_rebuild(consumer->relid, &consumer->row_version, saved_error->message);
	ivm_failure_forget();
	ivm_debug_point("apply-failed");
}
