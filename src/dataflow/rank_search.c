/*-------------------------------------------------------------------------
 *
 * rank_search.c
 *	  The value at a place of a group's values in an order.
 *
 * The values are in an ordered arrangement of the input, by group.  Known are some places, from the last batch or
 * found for another fraction, and both ends.  From the nearest of these one walks, value by value, until the one is
 * reached that has the place; all that are equal to it are counted, so that later it is known without a walk
 * that a place is still among them.
 *
 * Values that are too long for the arrangement's index (arrange/ordered_table.c) are in no order there.  Where a group has
 * such, all of its values are sorted.
 *
 * Costs: a descent, and the rows between the two places; those that are equal to the value found.
 *
 * Memory: the value in hand; found ones in the group's context.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"
#include "utils/datum.h"
#include "utils/memutils.h"

#include "dataflow/rank.h"

/* The value, and the hash of its image (compile/group_rows.c). */
#define MOST_ORDER_COLUMNS	2

/* A walk on its way. */
typedef struct RankWalk
{
	IvmRankSearch *search;
	int64		target;
	bool		forward;
	int64		passed;			/* values before the present one; backward: up
								 * to it, and all that are equal */
	bool		has_value;
	Datum		value;
	int64		weight;			/* of those equal to it, so far */
	bool		found;
} RankWalk;

static Datum
copy_value(IvmRankSearch *search, Datum value)
{
	IvmRankCall *own = search->call->own;
	MemoryContext old = MemoryContextSwitchTo(search->context);

	/* as it is in the arrangement it may be compressed */
	if (own->length == -1)
		value = PointerGetDatum(PG_DETOAST_DATUM_COPY(value));
	else
		value = datumCopy(value, own->byval, own->length);
	MemoryContextSwitchTo(old);
	return value;
}

static void
free_value(IvmRankSearch *search, Datum value)
{
	if (!((IvmRankCall *) search->call->own)->byval)
		pfree(DatumGetPointer(value));
}

/* Has the present value, all of which have been counted, the place? */
static bool
is_there(RankWalk *walk)
{
	return walk->has_value &&
		(walk->forward ? walk->target < walk->passed + walk->weight : walk->target >= walk->passed - walk->weight);
}

static bool
take_value(void *context, Datum value, int64 weight)
{
	RankWalk   *walk = context;
	IvmRankCall *own = walk->search->call->own;

	if (walk->has_value && ApplySortComparator(value, false, walk->value, false, &own->order) == 0)
	{
		walk->weight += weight;
		if (!walk->forward && walk->search->call->plan->varies)
		{
			/* the first of them is shown */
			free_value(walk->search, walk->value);
			walk->value = copy_value(walk->search, value);
		}
		return true;
	}
	if (is_there(walk))
	{
		walk->found = true;
		return false;
	}
	if (walk->has_value)
	{
		walk->passed += walk->forward ? walk->weight : -walk->weight;
		free_value(walk->search, walk->value);
	}
	walk->has_value = true;
	walk->value = copy_value(walk->search, value);
	walk->weight = weight;
	return true;
}

/* A row of all that the group has, in order. */
static bool
take_row(void *context, TupleTableSlot *row, int64 weight)
{
	RankWalk   *walk = context;
	IvmRowOrder *order = ivm_walk_shape(walk->search->walk)->order;
	Datum		values[MOST_ORDER_COLUMNS];
	bool		isnull[MOST_ORDER_COLUMNS];

	ivm_row_order_values(order, row, values, isnull);
	return isnull[0] || take_value(context, values[0], weight);
}

/* Notes a place, and gives its value. */
static Datum
note(IvmRankSearch *search, Datum value, int64 before, int64 equal)
{
	IvmRankState *state = search->new;
	MemoryContext old = MemoryContextSwitchTo(search->context);
	IvmRankPlace *place;

	state->places = state->places == NULL ? palloc(sizeof(IvmRankPlace)) :
		repalloc(state->places, sizeof(IvmRankPlace) * (state->nplaces + 1));
	place = &state->places[state->nplaces++];
	place->value = value;
	place->before = before;
	place->equal = equal;
	place->touched = false;
	MemoryContextSwitchTo(old);
	return value;
}

static bool
take_look(void *context, Datum value, int64 weight)
{
	*(Datum *) context = value;
	return false;
}

/* A value that is in the arrangement, and looks like the first that is equal to it. */
static Datum
look_of(IvmRankSearch *search, IvmRankPlace *place)
{
	Datum		first = place->value;

	if (!search->call->plan->varies || !place->touched ||
		ivm_walk_has_far(search->walk, search->key_values, search->key_isnull))
		return place->value;
	(void) ivm_walk_values(search->walk, search->key_values, search->key_isnull, &place->value, true, true,
						   take_look, &first);
	return copy_value(search, first);
}

/* How far it is from the place to the target; *forward: in which direction. */
static int64
distance(IvmRankPlace *place, int64 target, bool *forward)
{
	*forward = target >= place->before;
	if (!*forward)
		return place->before - target;
	return Max(target - place->before - place->equal + 1, 0);
}

/* The known place that is nearest, or NULL if an end is nearer. */
static IvmRankPlace *
nearest_place(IvmRankSearch *search, int64 target, bool *forward)
{
	IvmRankState *states[] = {search->new, search->old};
	IvmRankPlace *result = NULL;
	int64		best = Min(target, search->count - 1 - target) + 1;

	*forward = target < search->count - target;
	for (int s = 0; s < lengthof(states); s++)
		for (int i = 0; i < states[s]->nplaces; i++)
		{
			bool		here_forward;
			int64		here = distance(&states[s]->places[i], target, &here_forward);

			if (here >= best)
				continue;
			best = here;
			result = &states[s]->places[i];
			*forward = here_forward;
		}
	return result;
}

Datum
ivm_rank_find(IvmRankSearch *search, int64 target)
{
	RankWalk	walk = {.search = search, .target = target};
	IvmRankPlace *place = nearest_place(search, target, &walk.forward);

	if (place != NULL && walk.forward && target < place->before + place->equal)
		return note(search, look_of(search, place), place->before, place->equal);
	if (ivm_walk_has_far(search->walk, search->key_values, search->key_isnull))
	{
		walk.forward = true;
		(void) ivm_walk_rows(search->walk, search->key_values, search->key_isnull, take_row, &walk);
	}
	else
	{
		if (place == NULL)
			walk.passed = walk.forward ? 0 : search->count;
		else
			walk.passed = walk.forward ? place->before + place->equal : place->before;
		(void) ivm_walk_values(search->walk, search->key_values, search->key_isnull,
							   place == NULL ? NULL : &place->value, false, walk.forward, take_value, &walk);
	}
	if (!walk.found && !is_there(&walk))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("a group has fewer rows in order than were counted"),
				 errhint("Use REFRESH MATERIALIZED VIEW to rebuild the view.")));
	return note(search, walk.value, walk.forward ? walk.passed : walk.passed - walk.weight, walk.weight);
}
