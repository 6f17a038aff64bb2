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
 * Nothing here waits but ivm_overdraft_wait, and nothing but that raises errors:
 * extent hooks call it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_BUDGET_H
#define IVM_BUDGET_H

#include "postgres.h"

/* Guaranteed minimums.  Every batch can be finished within IVM_MINIMUM_WORKER. */
#define IVM_MINIMUM_WORKER		((Size) 4 * 1024 * 1024)
#define IVM_MINIMUM_LOG			((Size) 2 * 1024 * 1024)

/* Lives in shared memory, possibly as part of something larger; its fields are budget.c's. */
typedef struct IvmAccount
{
	Size		held;			/* bytes */
	Size		minimum;		/* guaranteed */
	bool		is_open;
} IvmAccount;

/* What a process counts about itself. */
typedef struct IvmBudgetCounters
{
	uint64		stalls;			/* waits for memory */
	double		stall_time;		/* ms */
	uint64		spills;			/* times that something was written to a file */
	uint64		spill_bytes;
} IvmBudgetCounters;

/* A process that has an account. */
typedef struct IvmBudgetProcess
{
	Size		minimum;
	Size		held;
	Size		arenas;			/* the part of held that is in arenas */
	bool		waiting;		/* for memory */
	IvmBudgetCounters counters;
} IvmBudgetProcess;

/* The whole. */
typedef struct IvmBudgetStatus
{
	Size		budget;
	Size		guaranteed;		/* sum of the minimums of open accounts */
	Size		floating;		/* held above the minimums */
	Size		held;			/* sum over all accounts */
	Size		arenas;			/* the part of held that is in arenas */
	Size		logs;			/* the part of held that is in delta logs */
	Size		peak;			/* highest held */
	int			waiters;		/* processes that wait for memory now */
	pid_t		overdraft_pid;	/* who has the overdraft token; 0: nobody */
	IvmBudgetCounters counters; /* of all processes, also of those that have
								 * ended */
} IvmBudgetStatus;

extern Size ivm_budget_shmem_size(void);
extern void ivm_budget_shmem_init(void);

/*
 * The launcher publishes ivm.memory_budget, at its start and after each reload; all look at what was
 * published.  Wakes whoever may be concerned.
 */
extern void ivm_budget_publish(Size bytes);

/* Closes the accounts of processes that are gone, and takes the token from them.  For the launcher. */
extern void ivm_budget_reap(void);

/* Would minimums of so many bytes more fit into the budget?  If not, *missing is how much it lacks. */
extern bool ivm_budget_fits(Size bytes, Size *missing);

/*
 * What a decoder may take for transactions that are not complete, and reserves as its minimum: a
 * sixteenth of the budget, at least 1 MB, at most what the server's setting says ("configured", in bytes).
 */
extern Size ivm_budget_decoding_share(Size configured);

extern void ivm_account_init(IvmAccount *account);

/*
 * Opens an account, or changes its minimum; false if the minimums would exceed the budget then (unless
 * "force").  No harm if it is open with that minimum.
 */
extern bool ivm_account_open(IvmAccount *account, Size minimum, bool force);

/* Closes it; what it holds is free.  No harm if it is not open. */
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
 * True if others leave the account less than a quarter of what it could have alone; "read" is no
 * other: what it holds goes when the account's owner has read it.
 */
extern bool ivm_account_is_short(IvmAccount *account, IvmAccount *read);

/*
 * This process's own account (one for each PGPROC).  "open" registers its closing at
 * exit; a process that never opened one has no account: NULL, and its arenas are refused
 * nothing (a server that was started without the library, a test).
 */
extern bool ivm_budget_open(Size minimum, bool force);

/*
 * A reserve: the minimum of one more process, which counts as guaranteed, so that a builder finds
 * room also where all others have filled the budget.  "reserve" opens it if there is room and
 * it is not open, and gives it up while the budget is too small for all minimums; 0 closes it.  "open_reserved" is
 * ivm_budget_open, with the reserve in case there is no other room.
 */
extern void ivm_budget_reserve(Size minimum);
extern Size ivm_budget_reserved(void);
extern bool ivm_budget_open_reserved(Size minimum);
extern IvmAccount *ivm_budget_account(void);

/*
 * For extent hooks: the same as take, force and give on this process's account, counted as arenas.
 */
extern bool ivm_budget_take_arena(Size bytes);
extern void ivm_budget_force_arena(Size bytes);
extern void ivm_budget_give_arena(Size bytes);

/* A process's account; false if it has none.  For monitoring. */
extern bool ivm_budget_of_process(pid_t pid, IvmBudgetProcess *process);
extern void ivm_budget_status(IvmBudgetStatus *status);

/*
 * The one overdraft token of the cluster: its holder's arenas may grow beyond the budget when nothing can be had back.  "try" takes it
 * if it is free and nobody waits for it.  "wait" waits for it, at most so long, and must be called without a lock and
 * without a transaction; it serves interrupts.  The token goes back with "end" or with the process.
 */
extern bool ivm_overdraft_try(void);
extern bool ivm_overdraft_wait(long timeout_ms);
extern void ivm_overdraft_end(void);
extern bool ivm_overdraft_is_mine(void);

/*
 * Pressure: a process that is short asks all others to give back what they hold and do not need
 * (caches, untrimmed pages), if they hold enough and were not asked just now.  They are woken.
 * "asked" is true until "answer", which says that this process has done so; see ivm_give_back in
 * reclaim.h.  "ask_all" asks in any case; "all_answered" tells whether all have answered that.
 */
extern void ivm_budget_ask(void);
extern uint64 ivm_budget_ask_all(void);
extern bool ivm_budget_asked(void);
extern void ivm_budget_answer(Size given_back);
extern bool ivm_budget_all_answered(uint64 number);

/* What all answers together gave back to the kernel, since the server started. */
extern Size ivm_budget_given_back(void);

/* Counters of this process.  A stall begins and ends; while it lasts the process is a waiter. */
extern void ivm_budget_stall_begin(void);
extern void ivm_budget_stall_end(void);
extern void ivm_budget_count_spill(Size bytes);

#endif							/* IVM_BUDGET_H */
