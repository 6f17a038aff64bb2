/*-------------------------------------------------------------------------
 *
 * budget.h
 *	  One memory budget for all processes of all databases.
 *
 * Whoever holds memory has an account.  A process has one of its own, in which
 * its arenas are counted; each delta log has one, which any process that frees
 * a part of the log may credit.  An account has a guaranteed minimum; what it
 * holds above that comes from the rest of the budget, which floats.
 *
 * Nothing here waits but ivm_budget_overdraft_wait, and nothing raises errors:
 * extent hooks call it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_BUDGET_H
#define IVM_BUDGET_H

#include "postgres.h"

#include "port/atomics.h"

/* Guaranteed minimums.  Every batch can be finished within IVM_MINIMUM_WORKER. */
#define IVM_MINIMUM_WORKER		((Size) 4 * 1024 * 1024)
#define IVM_MINIMUM_LOG			((Size) 4 * 1024 * 1024)

/* Lives in shared memory, possibly as part of something larger. */
typedef struct IvmAccount
{
	pg_atomic_uint64 held;		/* bytes */
	pg_atomic_uint64 minimum;	/* guaranteed; 0: closed */
} IvmAccount;

/* What this process counts about itself; read by any. */
typedef struct IvmBudgetCounters
{
	uint64		stalls;			/* waits for memory */
	double		stall_time;		/* ms */
	uint64		spills;			/* times that something was written to a file */
	uint64		spill_bytes;
} IvmBudgetCounters;

/* The whole. */
typedef struct IvmBudgetStatus
{
	Size		budget;
	Size		guaranteed;		/* sum of the minimums of open accounts */
	Size		floating;		/* held above the minimums */
	Size		held;			/* sum over all accounts */
	Size		peak;			/* highest held */
	int			waiters;		/* processes that wait for memory now */
	pid_t		overdraft_pid;	/* who has the overdraft token; 0: nobody */
} IvmBudgetStatus;

extern Size ivm_budget_shmem_size(void);
extern void ivm_budget_shmem_init(void);

/* The launcher publishes ivm.memory_budget; all look at what was published. */
extern void ivm_budget_publish(Size bytes);

extern void ivm_account_init(IvmAccount *account);

/* Opens an account; false if the minimums would exceed the budget then (unless "force").  Idempotent. */
extern bool ivm_account_open(IvmAccount *account, Size minimum, bool force);

/* Closes it; what it holds is free. */
extern void ivm_account_close(IvmAccount *account);

/*
 * Takes bytes from the budget, or refuses.  An account may hold above its minimum at
 * most some times of what it leaves free, so that whoever comes later finds something.
 */
extern bool ivm_account_take(IvmAccount *account, Size bytes);

/* The same, and never refuses: the budget may be exceeded.  For what is there already. */
extern void ivm_account_force(IvmAccount *account, Size bytes);
extern void ivm_account_give(IvmAccount *account, Size bytes);

/* How much the account could hold in all at this moment; at least its minimum. */
extern Size ivm_account_allowance(IvmAccount *account);

/* True if the account holds more than its minimum while the budget is exceeded (it was lowered). */
extern bool ivm_account_is_over(IvmAccount *account);

/*
 * This process's own account (one for each PGPROC).  "open" registers its closing at
 * exit; a process that never opened one has no account: NULL, and its arenas are refused
 * nothing (a server that was started without the library, a test).
 */
extern bool ivm_budget_open(Size minimum, bool force);
extern void ivm_budget_close(void);
extern IvmAccount *ivm_budget_account(void);

/* The account of some process; for monitoring.  Size in bytes of what it holds and may hold. */
extern bool ivm_budget_of_process(pid_t pid, Size *held, Size *minimum, IvmBudgetCounters *counters);

/* Sum of the counters over all processes that ever were, since the server started. */
extern void ivm_budget_status(IvmBudgetStatus *status, IvmBudgetCounters *counters);

/*
 * The one overdraft token of the cluster: its holder's arenas are refused nothing.  "try" takes it
 * if it is free.  "wait" waits for it, at most so long, and must be called without a lock and
 * without a transaction.  It goes back with "end" or with the process.
 */
extern bool ivm_overdraft_try(void);
extern bool ivm_overdraft_wait(long timeout_ms);
extern void ivm_overdraft_end(void);
extern bool ivm_overdraft_is_mine(void);

/*
 * Pressure: a process that is short asks all others to give back what they hold above
 * their minimums and do not need (caches, untrimmed pages).  They are woken.  "asked" is true once for
 * each time somebody did so, or somebody called ivm.trim().
 */
extern void ivm_budget_ask(void);
extern bool ivm_budget_asked(void);

/* Counters of this process.  A stall begins and ends; while it lasts the process is a waiter. */
extern void ivm_budget_stall_begin(void);
extern void ivm_budget_stall_end(void);
extern void ivm_budget_count_spill(Size bytes);

#endif							/* IVM_BUDGET_H */
