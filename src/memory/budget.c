/*-------------------------------------------------------------------------
 *
 * budget.c
 *	  One memory budget for all processes of all databases.
 *
 * An account has a guaranteed minimum; the sum of all minimums is kept within
 * the budget when accounts are opened.  What an account holds above its minimum
 * is its excess; the excesses together float in what the minimums leave:
 *
 *		floating + e <= budget - guaranteed
 *		excess + e	 <= 4 * (budget - guaranteed - floating - e)
 *
 * The second line leaves a fifth to whoever comes later: a lone account gets
 * four fifths of what floats, two get four ninths each.  So the sum of what is
 * held never exceeds the budget, however the accounts come and go, but for the
 * holder of the overdraft token, for what is forced, and for the moment in which
 * the budget was lowered.  Within its minimum nobody is refused anything.
 *
 * Everything here is guarded by one spinlock, held for some instructions.
 * It is taken when an arena maps or unmaps pages, which costs a hundred times
 * that, and the sums are exact at every moment, which counters of their own
 * would not be.
 *
 * A process's account is found by its place among all processes
 * (MyProc->pgprocno), is opened by the process, and closed by a callback when
 * it exits, which also gives back the overdraft token.  A process that is
 * killed makes the server end all others and initialize shared memory, and
 * this with it.  The launcher looks for accounts whose process is gone all the same.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "portability/instr_time.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/timestamp.h"

#include "base/settings.h"
#include "memory/budget.h"

/* An account's excess is at most so many times what it leaves free. */
#define FLOATING_SHARE		4

/* Of the budget, for a decoder. */
#define DECODING_SHARE		16
#define MINIMUM_DECODING	((Size) 1024 * 1024)

/* While processes are short of memory others are not asked more often, nor for less. */
#define ASK_INTERVAL_MS		100
#define ASK_MINIMUM			((Size) 1024 * 1024)

typedef struct BudgetEntry
{
	IvmAccount	account;
	pid_t		pid;			/* 0: no account */
	Size		arenas;			/* part of what it holds */
	bool		waiting;
	uint64		answered;		/* the last request that it has answered */
	IvmBudgetCounters counters;
} BudgetEntry;

typedef struct Budget
{
	slock_t		mutex;			/* guards all that follows */
	Size		budget;
	Size		guaranteed;
	Size		floating;
	Size		held;
	Size		arenas;
	Size		logs;			/* accounts that are not a process's */
	Size		peak;
	uint64		asked;			/* number of the last request to give back */
	TimestampTz asked_at;
	Size		given_back;		/* by those who were asked */
	pid_t		overdraft_pid;
	int			overdraft_waiters;
	IvmBudgetCounters ended;	/* of processes that have ended */
	ConditionVariable overdraft_free;	/* has a lock of its own */
	int			nentries;		/* constant */
	BudgetEntry entries[FLEXIBLE_ARRAY_MEMBER];
} Budget;

static Budget *budget = NULL;
static BudgetEntry *my_entry = NULL;	/* NULL: this process has no account */
static uint64 my_asked = 0;		/* the request that this process is answering */
static bool my_overdraft = false;
static bool my_overdraft_wait = false;	/* counted in overdraft_waiters */
static bool my_stall = false;
static instr_time my_stall_start;

/* ---- shared memory ---- */

static int
entry_count(void)
{
	return MaxBackends + NUM_AUXILIARY_PROCS;
}

Size
ivm_budget_shmem_size(void)
{
	return add_size(offsetof(Budget, entries), mul_size(entry_count(), sizeof(BudgetEntry)));
}

/*
 * Called with AddinShmemInitLock held.
 */
void
ivm_budget_shmem_init(void)
{
	bool		found;

	budget = ShmemInitStruct("ivm_ext budget", ivm_budget_shmem_size(), &found);
	if (found)
		return;
	memset(budget, 0, ivm_budget_shmem_size());
	SpinLockInit(&budget->mutex);
	ConditionVariableInit(&budget->overdraft_free);
	budget->nentries = entry_count();
	budget->budget = (Size) ivm_memory_budget * 1024;
}

/* ---- arithmetic; all with the mutex held ---- */

static inline Size
excess(const IvmAccount *account)
{
	return account->held > account->minimum ? account->held - account->minimum : 0;
}

/* What floats in all, held or not. */
static inline Size
floating_total(void)
{
	return budget->budget > budget->guaranteed ? budget->budget - budget->guaranteed : 0;
}

static inline bool
is_entry(const IvmAccount *account)
{
	return (const char *) account >= (const char *) budget->entries &&
		(const char *) account < (const char *) (budget->entries + budget->nentries);
}

/* Sets what an account holds, and everything that follows from it. */
static void
set_held(IvmAccount *account, Size held)
{
	Size		excess_before = excess(account);
	Size		before = account->held;

	account->held = held;
	budget->floating += excess(account) - excess_before;
	budget->held += held - before;
	if (!is_entry(account))
		budget->logs += held - before;
	budget->peak = Max(budget->peak, budget->held);
}

static bool
take(IvmAccount *account, Size bytes)
{
	Size		held = account->held + bytes;

	if (held > account->minimum)
	{
		Size		wanted = held - account->minimum;
		Size		others = budget->floating - excess(account);
		Size		total = floating_total();

		if (others + wanted > total || wanted > FLOATING_SHARE * (total - others - wanted))
			return false;
	}
	set_held(account, held);
	return true;
}

static void
give(IvmAccount *account, Size bytes)
{
	Assert(account->held >= bytes);
	set_held(account, account->held - Min(bytes, account->held));
}

static void
close_account(IvmAccount *account)
{
	set_held(account, 0);
	budget->guaranteed -= account->minimum;
	account->minimum = 0;
	account->is_open = false;
}

static void
add_counters(IvmBudgetCounters *sum, const IvmBudgetCounters *counters)
{
	sum->stalls += counters->stalls;
	sum->stall_time += counters->stall_time;
	sum->spills += counters->spills;
	sum->spill_bytes += counters->spill_bytes;
}

static void
close_entry(BudgetEntry *entry)
{
	close_account(&entry->account);
	budget->arenas -= entry->arenas;
	entry->arenas = 0;
	add_counters(&budget->ended, &entry->counters);
	entry->pid = 0;
	entry->waiting = false;
}

/* Wakes all processes that have an account but this one.  Without the mutex. */
static void
wake_others(void)
{
	for (int i = 0; i < budget->nentries; i++)
		if (budget->entries[i].pid != 0 && &budget->entries[i] != my_entry)
			SetLatch(&GetPGProcByNumber(i)->procLatch);
}

/* ---- the budget ---- */

void
ivm_budget_publish(Size bytes)
{
	bool		changed;

	SpinLockAcquire(&budget->mutex);
	changed = budget->budget != bytes;
	budget->budget = bytes;
	SpinLockRelease(&budget->mutex);
	if (changed)
		wake_others();
}

void
ivm_budget_reap(void)
{
	bool		freed = false;

	for (int i = 0; i < budget->nentries; i++)
	{
		BudgetEntry *entry = &budget->entries[i];
		pid_t		pid = entry->pid;

		if (pid == 0 || kill(pid, 0) == 0 || errno != ESRCH)
			continue;
		SpinLockAcquire(&budget->mutex);
		if (entry->pid == pid)
		{
			close_entry(entry);
			if (budget->overdraft_pid == pid)
			{
				budget->overdraft_pid = 0;
				freed = true;
			}
		}
		SpinLockRelease(&budget->mutex);
	}
	if (freed)
		ConditionVariableSignal(&budget->overdraft_free);
}

bool
ivm_budget_fits(Size bytes, Size *missing)
{
	Size		wanted;
	Size		total;

	SpinLockAcquire(&budget->mutex);
	wanted = budget->guaranteed + bytes;
	total = budget->budget;
	SpinLockRelease(&budget->mutex);
	*missing = wanted > total ? wanted - total : 0;
	return wanted <= total;
}

Size
ivm_budget_decoding_share(Size configured)
{
	Size		total = budget == NULL ? (Size) ivm_memory_budget * 1024 : budget->budget;

	return Min(Max(total / DECODING_SHARE, MINIMUM_DECODING), configured);
}

void
ivm_budget_status(IvmBudgetStatus *status)
{
	memset(status, 0, sizeof(*status));
	if (budget == NULL)
		return;
	SpinLockAcquire(&budget->mutex);
	status->budget = budget->budget;
	status->guaranteed = budget->guaranteed;
	status->floating = budget->floating;
	status->held = budget->held;
	status->arenas = budget->arenas;
	status->logs = budget->logs;
	status->peak = budget->peak;
	status->overdraft_pid = budget->overdraft_pid;
	status->counters = budget->ended;
	for (int i = 0; i < budget->nentries; i++)
	{
		BudgetEntry *entry = &budget->entries[i];

		if (entry->pid == 0)
			continue;
		status->waiters += entry->waiting;
		add_counters(&status->counters, &entry->counters);
	}
	SpinLockRelease(&budget->mutex);
}

/* ---- accounts ---- */

void
ivm_account_init(IvmAccount *account)
{
	memset(account, 0, sizeof(IvmAccount));
}

/*
 * The minimum may come out of what others hold of the floating rest at this
 * moment: they are asked for it.
 */
bool
ivm_account_open(IvmAccount *account, Size minimum, bool force)
{
	bool		fits;
	bool		is_short;

	SpinLockAcquire(&budget->mutex);
	fits = force || budget->guaranteed - account->minimum + minimum <= budget->budget;
	if (fits)
	{
		Size		before = excess(account);

		budget->guaranteed += minimum - account->minimum;
		account->minimum = minimum;
		account->is_open = true;
		budget->floating += excess(account) - before;
	}
	is_short = budget->floating > floating_total();
	SpinLockRelease(&budget->mutex);
	if (is_short)
		ivm_budget_ask();
	return fits;
}

void
ivm_account_close(IvmAccount *account)
{
	SpinLockAcquire(&budget->mutex);
	if (account->is_open)
		close_account(account);
	SpinLockRelease(&budget->mutex);
}

bool
ivm_account_take(IvmAccount *account, Size bytes)
{
	bool		taken;

	SpinLockAcquire(&budget->mutex);
	taken = take(account, bytes);
	SpinLockRelease(&budget->mutex);
	return taken;
}

void
ivm_account_force(IvmAccount *account, Size bytes)
{
	SpinLockAcquire(&budget->mutex);
	set_held(account, account->held + bytes);
	SpinLockRelease(&budget->mutex);
}

void
ivm_account_give(IvmAccount *account, Size bytes)
{
	SpinLockAcquire(&budget->mutex);
	give(account, bytes);
	SpinLockRelease(&budget->mutex);
}

Size
ivm_account_allowance(IvmAccount *account)
{
	Size		others;
	Size		total;
	Size		allowance;

	SpinLockAcquire(&budget->mutex);
	others = budget->floating - excess(account);
	total = floating_total();
	allowance = account->minimum;
	if (total > others)
		allowance += (total - others) / (FLOATING_SHARE + 1) * FLOATING_SHARE;
	SpinLockRelease(&budget->mutex);
	return allowance;
}

bool
ivm_account_is_over(IvmAccount *account)
{
	bool		over;

	SpinLockAcquire(&budget->mutex);
	over = account->held > account->minimum && budget->floating > floating_total();
	SpinLockRelease(&budget->mutex);
	return over;
}

bool
ivm_account_is_short(IvmAccount *account)
{
	Size		others;
	Size		total;

	SpinLockAcquire(&budget->mutex);
	others = budget->floating - excess(account);
	total = floating_total();
	SpinLockRelease(&budget->mutex);
	return others > total / 4 * 3;
}

/* ---- this process ---- */

static void
process_exit(int code, Datum argument)
{
	ivm_budget_close();
}

bool
ivm_budget_open(Size minimum, bool force)
{
	static bool registered = false;
	BudgetEntry *entry;

	if (budget == NULL || MyProc->pgprocno >= budget->nentries)
		return true;
	if (!registered)
		on_shmem_exit(process_exit, (Datum) 0);
	registered = true;

	entry = &budget->entries[MyProc->pgprocno];
	if (my_entry == NULL)
	{
		/* what a predecessor may have left */
		SpinLockAcquire(&budget->mutex);
		if (entry->pid != 0)
			close_entry(entry);
		memset(entry, 0, sizeof(BudgetEntry));
		entry->pid = MyProcPid;
		entry->answered = budget->asked;
		SpinLockRelease(&budget->mutex);
		my_entry = entry;
	}
	if (ivm_account_open(&entry->account, minimum, force))
		return true;
	if (!entry->account.is_open)
		ivm_budget_close();
	return false;
}

void
ivm_budget_close(void)
{
	if (my_entry == NULL)
		return;
	if (my_stall)
		ivm_budget_stall_end();
	ivm_overdraft_end();
	SpinLockAcquire(&budget->mutex);
	if (my_overdraft_wait)
		budget->overdraft_waiters--;
	close_entry(my_entry);
	SpinLockRelease(&budget->mutex);
	my_overdraft_wait = false;
	my_entry = NULL;
}

IvmAccount *
ivm_budget_account(void)
{
	return my_entry == NULL ? NULL : &my_entry->account;
}

bool
ivm_budget_take_arena(Size bytes)
{
	bool		taken;

	if (my_entry == NULL)
		return true;
	SpinLockAcquire(&budget->mutex);
	taken = take(&my_entry->account, bytes);
	if (taken)
	{
		my_entry->arenas += bytes;
		budget->arenas += bytes;
	}
	SpinLockRelease(&budget->mutex);
	return taken;
}

void
ivm_budget_force_arena(Size bytes)
{
	if (my_entry == NULL)
		return;
	SpinLockAcquire(&budget->mutex);
	set_held(&my_entry->account, my_entry->account.held + bytes);
	my_entry->arenas += bytes;
	budget->arenas += bytes;
	SpinLockRelease(&budget->mutex);
}

void
ivm_budget_give_arena(Size bytes)
{
	if (my_entry == NULL)
		return;
	SpinLockAcquire(&budget->mutex);
	Assert(my_entry->arenas >= bytes);
	give(&my_entry->account, bytes);
	my_entry->arenas -= bytes;
	budget->arenas -= bytes;
	SpinLockRelease(&budget->mutex);
}

bool
ivm_budget_of_process(pid_t pid, IvmBudgetProcess *process)
{
	bool		found = false;

	memset(process, 0, sizeof(*process));
	if (budget == NULL || pid == 0)
		return false;
	SpinLockAcquire(&budget->mutex);
	for (int i = 0; i < budget->nentries && !found; i++)
	{
		BudgetEntry *entry = &budget->entries[i];

		if (entry->pid != pid)
			continue;
		process->minimum = entry->account.minimum;
		process->held = entry->account.held;
		process->arenas = entry->arenas;
		process->waiting = entry->waiting;
		process->counters = entry->counters;
		found = true;
	}
	SpinLockRelease(&budget->mutex);
	return found;
}

/* ---- the overdraft token ---- */

static bool
take_overdraft(bool in_turn)
{
	bool		taken = false;

	SpinLockAcquire(&budget->mutex);
	if (budget->overdraft_pid == 0 && (in_turn || budget->overdraft_waiters == 0))
	{
		budget->overdraft_pid = MyProcPid;
		taken = true;
	}
	SpinLockRelease(&budget->mutex);
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
	return my_overdraft || (my_entry != NULL && take_overdraft(false));
}

bool
ivm_overdraft_wait(long timeout_ms)
{
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);

	if (my_overdraft || my_entry == NULL)
		return my_overdraft;

	ivm_budget_stall_begin();
	SpinLockAcquire(&budget->mutex);
	budget->overdraft_waiters++;
	SpinLockRelease(&budget->mutex);
	my_overdraft_wait = true;

	PG_TRY();
	{
		ConditionVariablePrepareToSleep(&budget->overdraft_free);
		while (!take_overdraft(true))
		{
			long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), end);

			if (left <= 0)
				break;
			(void) ConditionVariableTimedSleep(&budget->overdraft_free, left, PG_WAIT_EXTENSION);
		}
	}
	PG_FINALLY();
	{
		ConditionVariableCancelSleep();
		SpinLockAcquire(&budget->mutex);
		budget->overdraft_waiters--;
		SpinLockRelease(&budget->mutex);
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
	SpinLockAcquire(&budget->mutex);
	if (budget->overdraft_pid == MyProcPid)
		budget->overdraft_pid = 0;
	SpinLockRelease(&budget->mutex);
	ConditionVariableBroadcast(&budget->overdraft_free);
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
	budget->asked++;
	budget->asked_at = now;
	/* who asks has done what it can */
	if (my_entry != NULL)
		my_entry->answered = budget->asked;
}

void
ivm_budget_ask(void)
{
	TimestampTz now = GetCurrentTimestamp();
	Size		mine;
	bool		useful;

	SpinLockAcquire(&budget->mutex);
	mine = my_entry != NULL ? excess(&my_entry->account) : 0;
	useful = budget->floating - mine >= ASK_MINIMUM &&
		(now < budget->asked_at || now - budget->asked_at >= ASK_INTERVAL_MS * INT64CONST(1000));
	if (useful)
		ask(now);
	SpinLockRelease(&budget->mutex);
	if (useful)
		wake_others();
}

uint64
ivm_budget_ask_all(void)
{
	TimestampTz now = GetCurrentTimestamp();
	uint64		number;

	SpinLockAcquire(&budget->mutex);
	ask(now);
	number = budget->asked;
	SpinLockRelease(&budget->mutex);
	wake_others();
	return number;
}

bool
ivm_budget_asked(void)
{
	if (my_entry == NULL)
		return false;
	/* read without the lock: what comes in between also sets our latch */
	my_asked = *(volatile uint64 *) &budget->asked;
	return my_asked != my_entry->answered;
}

void
ivm_budget_answer(Size given_back)
{
	if (my_entry == NULL)
		return;
	SpinLockAcquire(&budget->mutex);
	budget->given_back += given_back;
	my_entry->answered = my_asked;
	SpinLockRelease(&budget->mutex);
}

Size
ivm_budget_given_back(void)
{
	Size		bytes;

	SpinLockAcquire(&budget->mutex);
	bytes = budget->given_back;
	SpinLockRelease(&budget->mutex);
	return bytes;
}

bool
ivm_budget_all_answered(uint64 number)
{
	bool		answered = true;

	SpinLockAcquire(&budget->mutex);
	for (int i = 0; i < budget->nentries && answered; i++)
		answered = budget->entries[i].pid == 0 || budget->entries[i].answered >= number;
	SpinLockRelease(&budget->mutex);
	return answered;
}

/* ---- counters ---- */

void
ivm_budget_stall_begin(void)
{
	if (my_entry == NULL || my_stall)
		return;
	my_stall = true;
	INSTR_TIME_SET_CURRENT(my_stall_start);
	SpinLockAcquire(&budget->mutex);
	my_entry->waiting = true;
	my_entry->counters.stalls++;
	SpinLockRelease(&budget->mutex);
}

void
ivm_budget_stall_end(void)
{
	instr_time	duration;

	if (my_entry == NULL || !my_stall)
		return;
	my_stall = false;
	INSTR_TIME_SET_CURRENT(duration);
	INSTR_TIME_SUBTRACT(duration, my_stall_start);
	SpinLockAcquire(&budget->mutex);
	my_entry->waiting = false;
	my_entry->counters.stall_time += INSTR_TIME_GET_MILLISEC(duration);
	SpinLockRelease(&budget->mutex);
}

void
ivm_budget_count_spill(Size bytes)
{
	if (my_entry == NULL)
		return;
	SpinLockAcquire(&budget->mutex);
	my_entry->counters.spills++;
	my_entry->counters.spill_bytes += bytes;
	SpinLockRelease(&budget->mutex);
}
