#include "postgres.h"

#include "memory/budget.h"

IvmAccount *
ivm_budget_account(void)
{
	return NULL;
}

bool
ivm_account_is_over(IvmAccount *account)
{
	return false;
}

void
ivm_budget_count_spill(Size bytes)
{
}

bool
ivm_account_take(IvmAccount *account, Size bytes)
{
	return true;
}

void
ivm_account_force(IvmAccount *account, Size bytes)
{
}

void
ivm_account_give(IvmAccount *account, Size bytes)
{
}
