/*-------------------------------------------------------------------------
 *
 * child.c
 *	  One background process that the launcher looks after.
 *
 * A process that ended is started again, after a pause that doubles with each
 * end, up to a minute; one that ran for longer than that begins anew.  The
 * server tells the launcher of each end, so nothing here waits for one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "memory/budget.h"
#include "process/child.h"

bool
ivm_child_is_running(IvmChild *child)
{
	pid_t		pid;
	TimestampTz now;

	if (child->handle == NULL)
		return false;
	switch (GetBackgroundWorkerPid(child->handle, &pid))
	{
		case BGWH_NOT_YET_STARTED:
		case BGWH_STARTED:
			return true;
		default:
			break;
	}

	pfree(child->handle);
	child->handle = NULL;
	now = GetCurrentTimestamp();
	if (TimestampDifferenceExceeds(child->started_at, now, IVM_MAX_RESTART_DELAY))
		child->delay = 0;
	child->not_before = TimestampTzPlusMilliseconds(now, child->delay);
	child->delay = Min(Max(child->delay * 2, IVM_MIN_RESTART_DELAY), IVM_MAX_RESTART_DELAY);
	return false;
}

bool
ivm_child_start(IvmChild *child, const char *function, const char *name,
				const IvmProcessArgument *argument, Size minimum)
{
	TimestampTz now = GetCurrentTimestamp();

	child->minimum = minimum;
	if (ivm_process_start(function, name, argument, &child->handle))
	{
		child->started_at = now;
		child->slotless_since = 0;
		return true;
	}
	child->handle = NULL;
	child->not_before = TimestampTzPlusMilliseconds(now, IVM_MIN_RESTART_DELAY);
	if (child->slotless_since == 0)
		child->slotless_since = now;
	return false;
}

bool
ivm_child_stop(IvmChild *child)
{
	if (!ivm_child_is_running(child))
	{
		ivm_child_forgive(child);
		return true;
	}
	TerminateBackgroundWorker(child->handle);
	return false;
}

void
ivm_child_forgive(IvmChild *child)
{
	child->delay = 0;
	child->not_before = 0;
	child->slotless_since = 0;
}

Size
ivm_child_reserves(IvmChild *child)
{
	IvmBudgetProcess process;
	pid_t		pid = 0;

	if (child->handle == NULL)
		return 0;
	switch (GetBackgroundWorkerPid(child->handle, &pid))
	{
		case BGWH_NOT_YET_STARTED:
			return child->minimum;
		case BGWH_STARTED:
			return ivm_budget_of_process(pid, &process) ? 0 : child->minimum;
		default:
			return 0;
	}
}
