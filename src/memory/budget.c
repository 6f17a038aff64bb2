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
