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
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/shmem.h"

#include "base/settings.h"
#include "memory/budget_internal.h"

/* An account's excess is at most so many times what it leaves free. */
#define FLOATING_SHARE		4

/* Of the budget, for a decoder. */
#define DECODING_SHARE		16
#define MINIMUM_DECODING	((Size) 1024 * 1024)

Budget	   *ivm_budget = NULL;
BudgetEntry *ivm_budget_my_entry = NULL;

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

	ivm_budget = ShmemInitStruct("ivm_ext budget", ivm_budget_shmem_size(), &found);
	if (found)
		return;
	memset(ivm_budget, 0, ivm_budget_shmem_size());
	SpinLockInit(&ivm_budget->mutex);
	ConditionVariableInit(&ivm_budget->overdraft_free);
	ivm_budget->nentries = entry_count();
	ivm_budget->budget = (Size) ivm_memory_budget * 1024;
}

/* ---- arithmetic; all with the mutex held ---- */

/* What floats in all, held or not. */
static inline Size
floating_total(void)
{
	return ivm_budget->budget > ivm_budget->guaranteed ? ivm_budget->budget - ivm_budget->guaranteed : 0;
}

static inline bool
is_entry(const IvmAccount *account)
{
	return (const char *) account >= (const char *) ivm_budget->entries &&
		(const char *) account < (const char *) (ivm_budget->entries + ivm_budget->nentries);
}

/* Sets what an account holds, and everything that follows from it. */
static void
set_held(IvmAccount *account, Size held)
{
	Size		excess_before = ivm_account_excess(account);
	Size		before = account->held;

	account->held = held;
	ivm_budget->floating += ivm_account_excess(account) - excess_before;
	ivm_budget->held += held - before;
	if (!is_entry(account))
		ivm_budget->logs += held - before;
	ivm_budget->peak = Max(ivm_budget->peak, ivm_budget->held);
}

static bool
take(IvmAccount *account, Size bytes)
{
	Size		held = account->held + bytes;

	if (held > account->minimum)
	{
		Size		wanted = held - account->minimum;
		Size		others = ivm_budget->floating - ivm_account_excess(account);
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
	ivm_budget->guaranteed -= account->minimum;
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
	ivm_budget->arenas -= entry->arenas;
	entry->arenas = 0;
	add_counters(&ivm_budget->ended, &entry->counters);
	entry->pid = 0;
	entry->waiting = false;
}

void
ivm_budget_wake_others(void)
{
	for (int i = 0; i < ivm_budget->nentries; i++)
		if (ivm_budget->entries[i].pid != 0 && &ivm_budget->entries[i] != ivm_budget_my_entry)
			SetLatch(&GetPGProcByNumber(i)->procLatch);
}

/* ---- the budget ---- */

void
ivm_budget_publish(Size bytes)
{
	bool		changed;

	SpinLockAcquire(&ivm_budget->mutex);
	changed = ivm_budget->budget != bytes;
	ivm_budget->budget = bytes;
	SpinLockRelease(&ivm_budget->mutex);
	if (changed)
		ivm_budget_wake_others();
}

void
ivm_budget_reap(void)
{
	bool		freed = false;

	for (int i = 0; i < ivm_budget->nentries; i++)
	{
		BudgetEntry *entry = &ivm_budget->entries[i];
		pid_t		pid = entry->pid;

		if (pid == 0 || kill(pid, 0) == 0 || errno != ESRCH)
			continue;
		SpinLockAcquire(&ivm_budget->mutex);
		if (entry->pid == pid)
		{
			close_entry(entry);
			if (ivm_budget->overdraft_pid == pid)
			{
				ivm_budget->overdraft_pid = 0;
				freed = true;
			}
		}
		SpinLockRelease(&ivm_budget->mutex);
	}
	if (freed)
		ConditionVariableSignal(&ivm_budget->overdraft_free);
}

bool
ivm_budget_fits(Size bytes, Size *missing)
{
	Size		wanted;
	Size		total;

	SpinLockAcquire(&ivm_budget->mutex);
	wanted = ivm_budget->guaranteed + bytes;
	total = ivm_budget->budget;
	SpinLockRelease(&ivm_budget->mutex);
	*missing = wanted > total ? wanted - total : 0;
	return wanted <= total;
}

Size
ivm_budget_decoding_share(Size configured)
{
	/*
	 * the setting as it is here: the launcher may have published it later
	 * than others read it
	 */
	Size		total = (Size) ivm_memory_budget * 1024;

	return Min(Max(total / DECODING_SHARE, MINIMUM_DECODING), configured);
}

void
ivm_budget_status(IvmBudgetStatus *status)
{
	memset(status, 0, sizeof(*status));
	if (ivm_budget == NULL)
		return;
	SpinLockAcquire(&ivm_budget->mutex);
	status->budget = ivm_budget->budget;
	status->guaranteed = ivm_budget->guaranteed;
	status->floating = ivm_budget->floating;
	status->held = ivm_budget->held;
	status->arenas = ivm_budget->arenas;
	status->logs = ivm_budget->logs;
	status->peak = ivm_budget->peak;
	status->overdraft_pid = ivm_budget->overdraft_pid;
	status->counters = ivm_budget->ended;
	for (int i = 0; i < ivm_budget->nentries; i++)
	{
		BudgetEntry *entry = &ivm_budget->entries[i];

		if (entry->pid == 0)
			continue;
		status->waiters += entry->waiting;
		add_counters(&status->counters, &entry->counters);
	}
	SpinLockRelease(&ivm_budget->mutex);
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

	SpinLockAcquire(&ivm_budget->mutex);
	fits = force || ivm_budget->guaranteed - account->minimum + minimum <= ivm_budget->budget;
	if (fits)
	{
		Size		before = ivm_account_excess(account);

		ivm_budget->guaranteed += minimum - account->minimum;
		account->minimum = minimum;
		account->is_open = true;
		ivm_budget->floating += ivm_account_excess(account) - before;
	}
	is_short = ivm_budget->floating > floating_total();
	SpinLockRelease(&ivm_budget->mutex);
	if (is_short)
		ivm_budget_ask();
	return fits;
}

void
ivm_account_close(IvmAccount *account)
{
	SpinLockAcquire(&ivm_budget->mutex);
	if (account->is_open)
		close_account(account);
	SpinLockRelease(&ivm_budget->mutex);
}

bool
ivm_account_take(IvmAccount *account, Size bytes)
{
	bool		taken;

	SpinLockAcquire(&ivm_budget->mutex);
	taken = take(account, bytes);
	SpinLockRelease(&ivm_budget->mutex);
	return taken;
}

void
ivm_account_force(IvmAccount *account, Size bytes)
{
	SpinLockAcquire(&ivm_budget->mutex);
	set_held(account, account->held + bytes);
	SpinLockRelease(&ivm_budget->mutex);
}

void
ivm_account_give(IvmAccount *account, Size bytes)
{
	SpinLockAcquire(&ivm_budget->mutex);
	give(account, bytes);
	SpinLockRelease(&ivm_budget->mutex);
}

Size
ivm_account_allowance(IvmAccount *account)
{
	Size		others;
	Size		total;
	Size		allowance;

	SpinLockAcquire(&ivm_budget->mutex);
	others = ivm_budget->floating - ivm_account_excess(account);
	total = floating_total();
	allowance = account->minimum;
	if (total > others)
		allowance += (total - others) / (FLOATING_SHARE + 1) * FLOATING_SHARE;
	SpinLockRelease(&ivm_budget->mutex);
	return allowance;
}

bool
ivm_account_is_over(IvmAccount *account)
{
	bool		over;

	SpinLockAcquire(&ivm_budget->mutex);
	over = account->held > account->minimum && ivm_budget->floating > floating_total();
	SpinLockRelease(&ivm_budget->mutex);
	return over;
}

bool
ivm_account_is_short(IvmAccount *account, IvmAccount *read)
{
	Size		others;
	Size		total;

	SpinLockAcquire(&ivm_budget->mutex);
	others = ivm_budget->floating - ivm_account_excess(account) - ivm_account_excess(read);
	total = floating_total();
	SpinLockRelease(&ivm_budget->mutex);
	return others > total / 4 * 3;
}

/* ---- this process ---- */

static void
close_mine(void)
{
	if (ivm_budget_my_entry == NULL)
		return;
	ivm_pressure_end();
	SpinLockAcquire(&ivm_budget->mutex);
	close_entry(ivm_budget_my_entry);
	SpinLockRelease(&ivm_budget->mutex);
	ivm_budget_my_entry = NULL;
}

static void
process_exit(int code, Datum argument)
{
	close_mine();
}

bool
ivm_budget_open(Size minimum, bool force)
{
	static bool registered = false;
	BudgetEntry *entry;

	if (ivm_budget == NULL || MyProc->pgprocno >= ivm_budget->nentries)
		return true;
	if (!registered)
		on_shmem_exit(process_exit, (Datum) 0);
	registered = true;

	entry = &ivm_budget->entries[MyProc->pgprocno];
	if (ivm_budget_my_entry == NULL)
	{
		/* what a predecessor may have left */
		SpinLockAcquire(&ivm_budget->mutex);
		if (entry->pid != 0)
			close_entry(entry);
		memset(entry, 0, sizeof(BudgetEntry));
		entry->pid = MyProcPid;
		entry->answered = ivm_budget->asked;
		SpinLockRelease(&ivm_budget->mutex);
		ivm_budget_my_entry = entry;
	}
	if (ivm_account_open(&entry->account, minimum, force))
		return true;
	if (!entry->account.is_open)
		close_mine();
	return false;
}

void
ivm_budget_reserve(Size minimum)
{
	IvmAccount *reserve = &ivm_budget->reserve;
	bool		exceeded;

	SpinLockAcquire(&ivm_budget->mutex);
	exceeded = ivm_budget->guaranteed > ivm_budget->budget;
	SpinLockRelease(&ivm_budget->mutex);
	if (minimum == 0 || exceeded)
		ivm_account_close(reserve);
	else if (!reserve->is_open)
		(void) ivm_account_open(reserve, minimum, false);
}

Size
ivm_budget_reserved(void)
{
	return ivm_budget->reserve.minimum;
}

bool
ivm_budget_open_reserved(Size minimum)
{
	bool		taken;

	if (ivm_budget_open(minimum, false))
		return true;
	SpinLockAcquire(&ivm_budget->mutex);
	taken = ivm_budget->reserve.minimum >= minimum;
	if (taken)
		close_account(&ivm_budget->reserve);
	SpinLockRelease(&ivm_budget->mutex);
	return taken && ivm_budget_open(minimum, true);
}

IvmAccount *
ivm_budget_account(void)
{
	return ivm_budget_my_entry == NULL ? NULL : &ivm_budget_my_entry->account;
}

bool
ivm_budget_take_arena(Size bytes)
{
	bool		taken;

	if (ivm_budget_my_entry == NULL)
		return true;
	SpinLockAcquire(&ivm_budget->mutex);
	taken = take(&ivm_budget_my_entry->account, bytes);
	if (taken)
	{
		ivm_budget_my_entry->arenas += bytes;
		ivm_budget->arenas += bytes;
	}
	SpinLockRelease(&ivm_budget->mutex);
	return taken;
}

void
ivm_budget_force_arena(Size bytes)
{
	if (ivm_budget_my_entry == NULL)
		return;
	SpinLockAcquire(&ivm_budget->mutex);
	set_held(&ivm_budget_my_entry->account, ivm_budget_my_entry->account.held + bytes);
	ivm_budget_my_entry->arenas += bytes;
	ivm_budget->arenas += bytes;
	SpinLockRelease(&ivm_budget->mutex);
}

void
ivm_budget_give_arena(Size bytes)
{
	if (ivm_budget_my_entry == NULL)
		return;
	SpinLockAcquire(&ivm_budget->mutex);
	Assert(ivm_budget_my_entry->arenas >= bytes);
	give(&ivm_budget_my_entry->account, bytes);
	ivm_budget_my_entry->arenas -= bytes;
	ivm_budget->arenas -= bytes;
	SpinLockRelease(&ivm_budget->mutex);
}

bool
ivm_budget_of_process(pid_t pid, IvmBudgetProcess *process)
{
	bool		found = false;

	memset(process, 0, sizeof(*process));
	if (ivm_budget == NULL || pid == 0)
		return false;
	SpinLockAcquire(&ivm_budget->mutex);
	for (int i = 0; i < ivm_budget->nentries && !found; i++)
	{
		BudgetEntry *entry = &ivm_budget->entries[i];

		if (entry->pid != pid)
			continue;
		process->minimum = entry->account.minimum;
		process->held = entry->account.held;
		process->arenas = entry->arenas;
		process->waiting = entry->waiting;
		process->counters = entry->counters;
		found = true;
	}
	SpinLockRelease(&ivm_budget->mutex);
	return found;
}
