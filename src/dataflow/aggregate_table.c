/*-------------------------------------------------------------------------
 *
 * aggregate_table.c
 *	  The groups that an aggregate has open, by the hash of their columns.
 *
 * A table grows with its groups.  What it holds is measured as the executor's hash aggregation does,
 * by its memory context, and counted in the account of the process; beyond a share of that
 * the aggregate puts further rows aside.
 *
 * Memory: all of it in the table's context.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "port/pg_bitutils.h"
#include "utils/memutils.h"

#include "dataflow/aggregate_internal.h"
#include "memory/reclaim.h"

#define FIRST_BUCKETS	64

/* Bytes that all aggregates of this process have charged. */
static Size charged = 0;

void
ivm_groups_init(AggregateGroups *groups, MemoryContext parent, Size limit)
{
	/* blocks that are small against the limit, as it is measured by blocks */
	Size		block_size = pg_prevpower2_size_t(Max(limit / 16, ALLOCSET_DEFAULT_INITSIZE));

	memset(groups, 0, sizeof(AggregateGroups));
	groups->context = AllocSetContextCreate(parent, "ivm groups", ALLOCSET_DEFAULT_MINSIZE,
											ALLOCSET_DEFAULT_INITSIZE, Min(block_size, ALLOCSET_DEFAULT_MAXSIZE));
}

void
ivm_groups_reset(AggregateRun *state, AggregateGroups *groups)
{
	groups->nbuckets = 0;
	groups->ngroups = 0;
	groups->buckets = NULL;
	MemoryContextReset(groups->context);
	if (state->charge->bytes > 0)
		(void) ivm_groups_charge(state);
}

static void
grow_buckets(AggregateGroups *groups)
{
	uint64		n = Max(groups->nbuckets * 2, FIRST_BUCKETS);
	AggregateGroup **buckets = MemoryContextAllocExtended(groups->context, sizeof(AggregateGroup *) * n,
														  MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);

	for (uint64 i = 0; i < groups->nbuckets; i++)
	{
		AggregateGroup *group = groups->buckets[i];

		while (group != NULL)
		{
			AggregateGroup *next = group->next;

			group->next = buckets[group->hash & (n - 1)];
			buckets[group->hash & (n - 1)] = group;
			group = next;
		}
	}
	if (groups->buckets != NULL)
		pfree(groups->buckets);
	groups->buckets = buckets;
	groups->nbuckets = n;
}

void
ivm_groups_insert(AggregateGroups *groups, AggregateGroup *group)
{
	AggregateGroup **bucket;

	if (groups->ngroups >= groups->nbuckets)
		grow_buckets(groups);
	bucket = &groups->buckets[group->hash & (groups->nbuckets - 1)];
	group->next = *bucket;
	*bucket = group;
	groups->ngroups++;
}

AggregateGroup *
ivm_groups_find(AggregateRun *state, AggregateGroups *groups, uint64 hash, const Datum *values, const bool *isnull)
{
	AggregateGroup *group;

	if (groups->nbuckets == 0)
		return NULL;
	for (group = groups->buckets[hash & (groups->nbuckets - 1)]; group != NULL; group = group->next)
		if (group->hash == hash &&
			ivm_key_equal(state->key, values, isnull, group->look.values, group->look.isnull))
			return group;
	return NULL;
}

static int
compare_groups(const void *a, const void *b)
{
	uint64		x = (*(AggregateGroup *const *) a)->hash;
	uint64		y = (*(AggregateGroup *const *) b)->hash;

	return x < y ? -1 : x > y;
}

AggregateGroup **
ivm_groups_list(AggregateGroups *groups, bool sorted)
{
	AggregateGroup **result = MemoryContextAllocHuge(groups->context,
													 sizeof(AggregateGroup *) * Max(groups->ngroups, 1));
	uint64		n = 0;

	for (uint64 i = 0; i < groups->nbuckets; i++)
		for (AggregateGroup *group = groups->buckets[i]; group != NULL; group = group->next)
			result[n++] = group;
	if (sorted)
		qsort(result, n, sizeof(AggregateGroup *), compare_groups);
	return result;
}

static int
compare_numbers(const void *a, const void *b)
{
	int64		x = (*(AggregateGroup *const *) a)->number;
	int64		y = (*(AggregateGroup *const *) b)->number;

	return x < y ? -1 : x > y;
}

AggregateGroup **
ivm_groups_numbered(AggregateGroups *groups)
{
	AggregateGroup **result = ivm_groups_list(groups, false);

	qsort(result, groups->ngroups, sizeof(AggregateGroup *), compare_numbers);
	return result;
}

/*
 * Brings the account up to date with what the contexts hold.  One eighth of
 * what the process may hold is for the groups of this aggregate, and two for all that
 * work at the same time.
 */
bool
ivm_groups_charge(AggregateRun *state)
{
	AggregateCharge *charge = state->charge;
	Size		held = MemoryContextMemAllocated(state->open.context, true) +
		MemoryContextMemAllocated(state->refused.context, true);
	bool		granted = true;

	if (held > charge->bytes)
	{
		Size		more = held - charge->bytes;

		while (charge->account != NULL && granted && !ivm_account_take(charge->account, more))
			granted = ivm_reclaim();
		if (!granted)
			ivm_account_force(charge->account, more);
		charged += more;
	}
	else if (held < charge->bytes)
	{
		Size		less = charge->bytes - held;

		if (charge->account != NULL)
			ivm_account_give(charge->account, less);
		charged -= less;
	}
	charge->bytes = held;
	return granted && held < state->limit && charged < 2 * state->limit &&
		!(state->forced && state->open.ngroups >= IVM_FORCED_GROUPS);
}

/* The contexts end, perhaps by an error. */
void
ivm_groups_uncharge(void *arg)
{
	AggregateCharge *charge = arg;

	if (charge->account != NULL)
		ivm_account_give(charge->account, charge->bytes);
	charged -= charge->bytes;
}
