/*-------------------------------------------------------------------------
 *
 * budget_internal.h
 *	  The budget's shared memory, for budget.c and pressure.c only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_BUDGET_INTERNAL_H
#define IVM_BUDGET_INTERNAL_H

#include "postgres.h"

#include "storage/condition_variable.h"
#include "storage/spin.h"
#include "utils/timestamp.h"

#include "memory/budget.h"

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
	IvmAccount	reserve;		/* of a process that is not there yet */
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

/* NULL where the library was not loaded at server start. */
extern Budget *ivm_budget;

/* This process's; NULL if it has no account. */
extern BudgetEntry *ivm_budget_my_entry;

/* Wakes all processes that have an account but this one.  Without the mutex. */
extern void ivm_budget_wake_others(void);

/* Before its entry is closed: this process waits for nothing any more, and has no token. */
extern void ivm_pressure_end(void);

/* What an account holds above its minimum.  With the mutex held. */
static inline Size
ivm_account_excess(const IvmAccount *account)
{
	return account->held > account->minimum ? account->held - account->minimum : 0;
}

#endif							/* IVM_BUDGET_INTERNAL_H */
