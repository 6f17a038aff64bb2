/*-------------------------------------------------------------------------
 *
 * pressure.c
 *	  What processes that share the memory budget ask of each other.
 *
 * The overdraft token is for what is larger than its process could get: its
 * holder may exceed the budget.  There is one, so that the budget is exceeded
 * by one such thing at a time.  Whoever waits for it holds nothing that another
 * process could wait for; see README.md.
 *
 * A process that is short asks the others to give back what they do not need.
 * A request is a number: each process remembers the last one that it has
 * answered, so that none is answered twice, nor lost while a process is at work.
 *
 * A process's waits for memory, and what it writes to files for want of it,
 * are counted in its entry.  All shared fields are guarded by the budget's spinlock.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "portability/instr_time.h"

#include "memory/budget_internal.h"

/* While processes are short of memory others are not asked more often, nor for less. */
#define ASK_INTERVAL_MS		100
#define ASK_MINIMUM			((Size) 1024 * 1024)

static uint64 my_asked = 0;		/* the request that this process is answering */
static bool my_overdraft = false;
static bool my_overdraft_wait = false;	/* counted in overdraft_waiters */
static bool my_stall = false;
static instr_time my_stall_start;

void
ivm_pressure_end(void)
{
	if (my_stall)
		ivm_budget_stall_end();
	ivm_overdraft_end();
	if (my_overdraft_wait)
	{
		SpinLockAcquire(&ivm_budget->mutex);
		ivm_budget->overdraft_waiters--;
		SpinLockRelease(&ivm_budget->mutex);
	}
	my_overdraft_wait = false;
}

/* ---- the overdraft token ---- */

static bool
take_overdraft(bool in_turn)
{
	bool		taken = false;

	SpinLockAcquire(&ivm_budget->mutex);
	if (ivm_budget->overdraft_pid == 0 && (in_turn || ivm_budget->overdraft_waiters == 0))
	{
		ivm_budget->overdraft_pid = MyProcPid;
		taken = true;
	}
	SpinLockRelease(&ivm_budget->mutex);
	my_overdraft |= taken;
	return taken;
}

/*
 * Those that wait come first: else one whose batch fails might do so for ever,
 * while others come and go.
 */
bool
ivm_overdraft_try(void)
{
	return my_overdraft || (ivm_budget_my_entry != NULL && take_overdraft(false));
}

bool
ivm_overdraft_wait(long timeout_ms)
{
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);

	if (my_overdraft || ivm_budget_my_entry == NULL)
		return my_overdraft;

	ivm_budget_stall_begin();
	SpinLockAcquire(&ivm_budget->mutex);
	ivm_budget->overdraft_waiters++;
	SpinLockRelease(&ivm_budget->mutex);
	my_overdraft_wait = true;

	PG_TRY();
	{
		ConditionVariablePrepareToSleep(&ivm_budget->overdraft_free);
		while (!take_overdraft(true))
		{
			long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), end);

			if (left <= 0)
				break;
			(void) ConditionVariableTimedSleep(&ivm_budget->overdraft_free, left, PG_WAIT_EXTENSION);
		}
	}
	PG_FINALLY();
	{
		ConditionVariableCancelSleep();
		SpinLockAcquire(&ivm_budget->mutex);
		ivm_budget->overdraft_waiters--;
		SpinLockRelease(&ivm_budget->mutex);
		my_overdraft_wait = false;
		ivm_budget_stall_end();
	}
	PG_END_TRY();
	return my_overdraft;
}

void
ivm_overdraft_end(void)
{
	if (!my_overdraft)
		return;
	my_overdraft = false;
	SpinLockAcquire(&ivm_budget->mutex);
	if (ivm_budget->overdraft_pid == MyProcPid)
		ivm_budget->overdraft_pid = 0;
	SpinLockRelease(&ivm_budget->mutex);
	ConditionVariableBroadcast(&ivm_budget->overdraft_free);
}

bool
ivm_overdraft_is_mine(void)
{
	return my_overdraft;
}

/* ---- pressure ---- */

/* Makes a request, with the mutex held. */
static void
ask(TimestampTz now)
{
	ivm_budget->asked++;
	ivm_budget->asked_at = now;
	/* who asks has done what it can */
	if (ivm_budget_my_entry != NULL)
		ivm_budget_my_entry->answered = ivm_budget->asked;
}

void
ivm_budget_ask(void)
{
	TimestampTz now = GetCurrentTimestamp();
	Size		mine;
	bool		useful;

	SpinLockAcquire(&ivm_budget->mutex);
	mine = ivm_budget_my_entry != NULL ? ivm_account_excess(&ivm_budget_my_entry->account) : 0;
	useful = ivm_budget->floating - mine >= ASK_MINIMUM &&
		(now < ivm_budget->asked_at || now - ivm_budget->asked_at >= ASK_INTERVAL_MS * INT64CONST(1000));
	if (useful)
		ask(now);
	SpinLockRelease(&ivm_budget->mutex);
	if (useful)
		ivm_budget_wake_others();
}

uint64
ivm_budget_ask_all(void)
{
	TimestampTz now = GetCurrentTimestamp();
	uint64		number;

	SpinLockAcquire(&ivm_budget->mutex);
	ask(now);
	number = ivm_budget->asked;
	SpinLockRelease(&ivm_budget->mutex);
	ivm_budget_wake_others();
	return number;
}

bool
ivm_budget_asked(void)
{
	if (ivm_budget_my_entry == NULL)
		return false;
	/* read without the lock: what comes in between also sets our latch */
	my_asked = *(volatile uint64 *) &ivm_budget->asked;
	return my_asked != ivm_budget_my_entry->answered;
}

void
ivm_budget_answer(Size given_back)
{
	if (ivm_budget_my_entry == NULL)
		return;
	SpinLockAcquire(&ivm_budget->mutex);
	ivm_budget->given_back += given_back;
	ivm_budget_my_entry->answered = my_asked;
	SpinLockRelease(&ivm_budget->mutex);
}

Size
ivm_budget_given_back(void)
{
	Size		bytes;

	SpinLockAcquire(&ivm_budget->mutex);
	bytes = ivm_budget->given_back;
	SpinLockRelease(&ivm_budget->mutex);
	return bytes;
}

bool
ivm_budget_all_answered(uint64 number)
{
	bool		answered = true;

	SpinLockAcquire(&ivm_budget->mutex);
	for (int i = 0; i < ivm_budget->nentries && answered; i++)
		answered = ivm_budget->entries[i].pid == 0 || ivm_budget->entries[i].answered >= number;
	SpinLockRelease(&ivm_budget->mutex);
	return answered;
}

/* ---- counters ---- */

void
ivm_budget_stall_begin(void)
{
	if (ivm_budget_my_entry == NULL || my_stall)
		return;
	my_stall = true;
	INSTR_TIME_SET_CURRENT(my_stall_start);
	SpinLockAcquire(&ivm_budget->mutex);
	ivm_budget_my_entry->waiting = true;
	ivm_budget_my_entry->counters.stalls++;
	SpinLockRelease(&ivm_budget->mutex);
}

void
ivm_budget_stall_end(void)
{
	instr_time	duration;

	if (ivm_budget_my_entry == NULL || !my_stall)
		return;
	my_stall = false;
	INSTR_TIME_SET_CURRENT(duration);
	INSTR_TIME_SUBTRACT(duration, my_stall_start);
	SpinLockAcquire(&ivm_budget->mutex);
	ivm_budget_my_entry->waiting = false;
	ivm_budget_my_entry->counters.stall_time += INSTR_TIME_GET_MILLISEC(duration);
	SpinLockRelease(&ivm_budget->mutex);
}

void
ivm_budget_count_spill(Size bytes)
{
	if (ivm_budget_my_entry == NULL)
		return;
	SpinLockAcquire(&ivm_budget->mutex);
	ivm_budget_my_entry->counters.spills++;
	ivm_budget_my_entry->counters.spill_bytes += bytes;
	SpinLockRelease(&ivm_budget->mutex);
}
