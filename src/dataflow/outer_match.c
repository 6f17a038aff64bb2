/*-------------------------------------------------------------------------
 *
 * outer_match.c
 *	  What a row of one side of an outer join matches on the other.
 *
 * The two rows that are looked at lie side by side in one wide virtual slot.  From either side the
 * other one is looked up by the equalities among the clauses, as in a join (join_walk.c), and whatever is
 * found is tested by all clauses.  In the state before the batch only rows are looked up; what matched then
 * is known by weights: before = now - delta.
 *
 * How many rows match is a sum of weights.  In the new state none is below zero, so a look for a match
 * ends at the first row that decides.
 *
 * Memory: values of a side in its own expression contexts, which are reset with each row.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"
#include "miscadmin.h"

#include "dataflow/join_walk.h"
#include "dataflow/outer_match.h"
#include "memory/reclaim.h"
#include "zset/key.h"

/* An input, how its rows are found from the other's, and what is tested when one starts. */
typedef struct OuterSide
{
	TupleDesc	desc;
	int			offset;			/* of its columns in the wide row */
	int			natts;

	/* of the path from it */
	ExprState  *start_qual;		/* over its row alone */
	ExprContext *start_context;

	/* of the path from the other input */
	IvmProbe   *probe;			/* NULL: it is never looked up */
	List	   *value_states;	/* what is looked for, over the wide row */
	ExprContext *value_context;
	Datum	   *values;
	bool	   *isnull;
	ExprState  *qual;
	ExprContext *qual_context;
	int			nkeys;
	IvmKey	   *key;			/* looked for, and its rows' */
	IvmKey	   *same;			/* its rows' and its rows' */
	List	   *key_states;		/* over its row */
	ExprContext *key_context;
} OuterSide;

struct IvmOuterMatch
{
	TupleTableSlot *wide;
	OuterSide	sides[2];
};

/* One find. */
typedef struct Finding
{
	IvmOuterMatch *match;
	OuterSide  *side;			/* whose rows are found */
	int64		limit;
	int64		sum;
	IvmOuterReceiver receiver;
	void	   *context;
	bloom_filter *images;		/* of rows that are not looked for */
} Finding;

/* What the path from one input says of it, and of the other one. */
static void
init_path(IvmOperator *op, IvmOuterMatch *match, IvmJoinPath *path, List **caches)
{
	IvmJoinStage *stage = linitial(path->stages);
	IvmArrangement *arrangement = stage->arrangement;
	OuterSide  *start = &match->sides[path->start];
	OuterSide  *side = &match->sides[stage->input];
	int			nkeys = list_length(arrangement->keys);
	Oid		   *operators = palloc(sizeof(Oid) * Max(nkeys, 1));
	Oid		   *same_operators = palloc(sizeof(Oid) * Max(nkeys, 1));
	Oid		   *collations = palloc(sizeof(Oid) * Max(nkeys, 1));

	start->start_qual = ExecInitQual(ivm_join_widen(op->node, path->quals), NULL);
	start->start_context = ivm_expr_context_create();
	start->start_context->ecxt_scantuple = match->wide;

	side->probe = ivm_probe_create(op->dataflow, arrangement, stage->probes, caches);
	side->value_states = ExecInitExprList(ivm_join_widen(op->node, stage->probes), NULL);
	side->value_context = ivm_expr_context_create();
	side->value_context->ecxt_scantuple = match->wide;
	side->values = palloc(sizeof(Datum) * Max(nkeys, 1));
	side->isnull = palloc0(sizeof(bool) * Max(nkeys, 1));
	side->qual = ExecInitQual(ivm_join_widen(op->node, stage->quals), NULL);
	side->qual_context = ivm_expr_context_create();
	side->qual_context->ecxt_scantuple = match->wide;

	for (int i = 0; i < nkeys; i++)
	{
		operators[i] = list_nth_oid(arrangement->operators, i);
		same_operators[i] = ivm_equality_of_right(operators[i]);
		collations[i] = list_nth_oid(arrangement->collations, i);
	}
	side->nkeys = nkeys;
	side->key = ivm_key_create(nkeys, operators, collations, false);
	side->same = ivm_key_create(nkeys, same_operators, collations, false);
	side->key_states = ExecInitExprList(arrangement->keys, NULL);
	side->key_context = ivm_expr_context_create();
}

IvmOuterMatch *
ivm_outer_match_create(IvmOperator *op, List *paths, List **caches)
{
	IvmOuterMatch *match = palloc0(sizeof(IvmOuterMatch));
	TupleDesc	desc = ivm_join_wide_desc(op->node);
	ListCell   *cell;

	match->wide = MakeSingleTupleTableSlot(desc, &TTSOpsVirtual);
	memset(match->wide->tts_isnull, true, sizeof(bool) * desc->natts);
	ExecStoreVirtualTuple(match->wide);
	for (int i = 0; i < 2; i++)
	{
		match->sides[i].desc = ((IvmPlanNode *) list_nth(op->node->inputs, i))->desc;
		match->sides[i].natts = match->sides[i].desc->natts;
	}
	match->sides[1].offset = match->sides[0].natts;
	foreach(cell, paths)
		init_path(op, match, lfirst(cell), caches);
	return match;
}

void
ivm_outer_match_begin(IvmOuterMatch *match)
{
	for (int i = 0; i < 2; i++)
		if (match->sides[i].probe != NULL)
			ivm_probe_begin(match->sides[i].probe);
}

void
ivm_outer_match_end(IvmOuterMatch *match)
{
	for (int i = 0; i < 2; i++)
		if (match->sides[i].probe != NULL)
			ivm_probe_end(match->sides[i].probe);
}

void
ivm_outer_match_forget(IvmOuterMatch *match)
{
	for (int i = 0; i < 2; i++)
		if (match->sides[i].probe != NULL)
			ivm_probe_forget(match->sides[i].probe);
}

void
ivm_outer_match_start(IvmOuterMatch *match, int input, IvmZset *delta, bool old, int64 expected, bool cached)
{
	ivm_probe_start(match->sides[input].probe, delta, old, expected, ivm_pin_limit() / 2, cached);
}

void
ivm_outer_match_stop(IvmOuterMatch *match, int input)
{
	ivm_probe_stop(match->sides[input].probe);
}

void
ivm_outer_match_bind(IvmOuterMatch *match, int input, const Datum *values, const bool *isnull)
{
	OuterSide  *side = &match->sides[input];

	memcpy(match->wide->tts_values + side->offset, values, sizeof(Datum) * side->natts);
	memcpy(match->wide->tts_isnull + side->offset, isnull, sizeof(bool) * side->natts);
}

void
ivm_outer_match_clear(IvmOuterMatch *match, int input)
{
	OuterSide  *side = &match->sides[input];

	memset(match->wide->tts_isnull + side->offset, true, sizeof(bool) * side->natts);
}

TupleTableSlot *
ivm_outer_match_wide(IvmOuterMatch *match)
{
	return match->wide;
}

/*
 * Matching
 */

/* A condition over the wide row. */
static bool
passes(ExprState *qual, ExprContext *context)
{
	ResetExprContext(context);
	return ExecQual(qual, context);
}

/* What the bound row of the other input looks for; false if a value is NULL, which matches nothing. */
static bool
compute_values(OuterSide *side)
{
	ListCell   *cell;
	int			i = 0;

	ResetExprContext(side->value_context);
	foreach(cell, side->value_states)
	{
		bool		isnull;

		side->values[i++] = ExecEvalExprSwitchContext(lfirst(cell), side->value_context, &isnull);
		if (isnull)
			return false;
	}
	return true;
}

bool
ivm_outer_match_can(IvmOuterMatch *match, int input)
{
	return passes(match->sides[input].start_qual, match->sides[input].start_context);
}

bool
ivm_outer_match_test(IvmOuterMatch *match)
{
	return ivm_outer_match_can(match, 0) && passes(match->sides[1].qual, match->sides[1].qual_context);
}

static bool
found_row(void *context, const Datum *values, const bool *isnull, int64 weight)
{
	Finding    *finding = context;
	OuterSide  *side = finding->side;

	CHECK_FOR_INTERRUPTS();
	ivm_outer_match_bind(finding->match, side - finding->match->sides, values, isnull);
	if (!passes(side->qual, side->qual_context))
		return true;
	finding->sum += weight;
	if (finding->receiver != NULL && !finding->receiver(finding->context, weight))
		return false;
	return finding->sum <= finding->limit;
}

int64
ivm_outer_match_find(IvmOuterMatch *match, int input, int64 limit, IvmOuterReceiver receiver, void *context)
{
	OuterSide  *side = &match->sides[1 - input];
	Finding		finding = {match, side, limit, 0, receiver, context, NULL};

	CHECK_FOR_INTERRUPTS();
	if (ivm_outer_match_can(match, input) && compute_values(side))
		(void) ivm_probe_rows(side->probe, side->values, found_row, &finding);
	return finding.sum;
}

/* A match, bound: the search ends with the first one whose image is not in the filter. */
static bool
is_in_filter(void *context, int64 weight)
{
	Finding    *finding = context;
	TupleTableSlot *wide = finding->match->wide;
	OuterSide  *side = finding->side;
	MemoryContext old = MemoryContextSwitchTo(side->qual_context->ecxt_per_tuple_memory);
	uint64		hash = ivm_row_image_hash(ivm_row_form_values(side->desc, wide->tts_values + side->offset,
															  wide->tts_isnull + side->offset));

	MemoryContextSwitchTo(old);
	return !bloom_lacks_element(finding->images, (unsigned char *) &hash, sizeof(hash));
}

bool
ivm_outer_match_find_beyond(IvmOuterMatch *match, int input, bloom_filter *images)
{
	OuterSide  *side = &match->sides[1 - input];
	Finding		finding = {match, side, PG_INT64_MAX, 0, is_in_filter, &finding, images};

	return ivm_outer_match_can(match, input) && compute_values(side) &&
		!ivm_probe_rows(side->probe, side->values, found_row, &finding);
}

void
ivm_outer_match_look_up(IvmOuterMatch *match, int input, IvmProbeReceiver receiver, void *context)
{
	OuterSide  *side = &match->sides[input];

	if (compute_values(side))
		(void) ivm_probe_rows(side->probe, side->values, receiver, context);
}

void
ivm_outer_match_order(IvmOuterMatch *match, int input, uint64 *first, uint64 *second)
{
	OuterSide  *side = &match->sides[1 - input];

	*first = *second = 0;
	if (compute_values(side))
	{
		MemoryContext old = MemoryContextSwitchTo(side->value_context->ecxt_per_tuple_memory);

		ivm_probe_order(side->probe, side->values, first, second);
		MemoryContextSwitchTo(old);
	}
}

/*
 * Keys
 */

bool
ivm_outer_match_hash(IvmOuterMatch *match, int input, TupleTableSlot *row, uint64 *hash)
{
	OuterSide  *side = &match->sides[input];

	return ivm_key_hash_row(side->key, side->key_states, side->key_context, row, hash);
}

bool
ivm_outer_match_hash_sought(IvmOuterMatch *match, int input, uint64 *hash)
{
	OuterSide  *side = &match->sides[input];
	MemoryContext old;

	if (!compute_values(side))
		return false;
	old = MemoryContextSwitchTo(side->value_context->ecxt_per_tuple_memory);
	*hash = ivm_key_hash_left(side->key, side->values, side->isnull);
	MemoryContextSwitchTo(old);
	return true;
}

void
ivm_outer_match_keys(IvmOuterMatch *match, int input, TupleTableSlot *row, Datum **values, bool **isnull)
{
	OuterSide  *side = &match->sides[input];
	ListCell   *cell;
	int			i = 0;

	*values = palloc(sizeof(Datum) * Max(side->nkeys, 1));
	*isnull = palloc(sizeof(bool) * Max(side->nkeys, 1));
	side->key_context->ecxt_scantuple = row;
	foreach(cell, side->key_states)
	{
		(*values)[i] = ExecEvalExpr(lfirst(cell), side->key_context, &(*isnull)[i]);
		i++;
	}
}

bool
ivm_outer_match_same_keys(IvmOuterMatch *match, int input, const Datum *values, const bool *isnull,
						  const Datum *values2, const bool *isnull2)
{
	OuterSide  *side = &match->sides[input];
	MemoryContext old;
	bool		result;

	ResetExprContext(side->key_context);
	old = MemoryContextSwitchTo(side->key_context->ecxt_per_tuple_memory);
	result = ivm_key_equal(side->same, values, isnull, values2, isnull2);
	MemoryContextSwitchTo(old);
	return result;
}

bool
ivm_outer_match_looks_up(IvmOuterMatch *match, int input, const Datum *values, const bool *isnull)
{
	OuterSide  *side = &match->sides[input];
	MemoryContext old;
	bool		result;

	if (!compute_values(side))
		return false;
	old = MemoryContextSwitchTo(side->value_context->ecxt_per_tuple_memory);
	result = ivm_key_equal(side->key, side->values, side->isnull, values, isnull);
	MemoryContextSwitchTo(old);
	return result;
}
