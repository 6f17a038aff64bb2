/*-------------------------------------------------------------------------
 *
 * op_outer.c
 *	  Deltas through a join in which it matters whether a row has a match:
 *	  left, full, semi and anti joins.
 *
 * m(a) is how many rows of B a row a of A matches: a sum of weights.  The output is the pairs that match (left,
 * full) and rows a of the kept side that are alone, m(a) = 0, with NULLs for B; of a semi join the rows with
 * m(a) > 0, of an anti join those with m(a) = 0.  A full join has rows of B that are alone besides.  Each
 * part is linear in A for a fixed B, so that
 *
 *		d pairs	=  dA * B(new)  +  A(old) * dB
 *		d alone	=  the rows of dA with m(a) = 0 in B(new)
 *				+  rows of A(old) whose m(a) becomes 0, or is 0 no more, by dB
 *
 * and the other side of a full join likewise, with A and B exchanged.  Whatever changes at once, each is exact
 * by itself.
 *
 * Which rows of A(old) these are is asked key by key: the delta of B is walked in the order of its keys'
 * hashes, its keys are told apart, and each of them is looked up in A once.  With d = the sum of the weights of
 * the rows of dB that a matches, m_old(a) = m_new(a) - d, so
 *
 *		d = 0	nothing happens: an update that leaves the key alone costs nothing here
 *		d < 0	a had a match; has it one now?		The first match in B(new) decides.
 *		d > 0	a has one; had it one before?		The first match in B(new) beyond d decides.
 *
 * so no old state of B is needed, and at most d + 1 matches are read.  Where the clauses are equalities alone
 * all rows of A with the key share the answer, and without pairs rows of dB are not even compared with those of
 * A.  Otherwise (a residual condition) each row of A with the key is compared with the rows of dB, and those that match some
 * look for a match in B: that is as many rows of B as do not match before the first that
 * does.  If no pairs are wanted the comparison ends early: a match that went away was there before, and one that
 * came is there now, so who has both is no matter; if no row of B had the key before, one that came is enough; and
 * where many came, whoever matches one of them also matches, most often, a row of B that is none of these: that is told by
 * a filter of their images, and the rest of them need not be compared.
 *
 * Rows with a NULL key match nothing: they come and go with their own delta.  Keys are compared by their operators,
 * images never: 1.0 matches 1.00, and each comes out as it is.
 *
 * Without any equality there is one key, and all rows have it: a change of B reads A, and B for each row of
 * A that it concerns.
 *
 * In population A's rows (for a full join B's, too) look up their matches; there is no old state.  If the other side's
 * rows come as well, since an operator makes them, all of them are there by key, and nothing is looked up elsewhere.
 *
 * The operator keeps no state.
 *
 * Memory: the inputs' deltas, and once more by key, in the arena until the batch ends, or in files; the
 * different keys of one hash.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "dataflow/join_walk.h"
#include "dataflow/outer_match.h"
#include "zset/row_index.h"

/* Rows of a key of the delta for which a filter is made, and its memory in kB at most. */
#define MANY_ROWS			1000
#define FILTER_MEMORY		1024

typedef struct OuterInput
{
	TupleDesc	desc;
	IvmZset    *delta;			/* of the batch */
	int64		count;			/* of the delta, when all inputs are complete */
} OuterInput;

/* Of a key of the delta: had no row of its side the key before? */
typedef enum AllNew
{
	ALL_NEW_UNKNOWN,
	ALL_NEW,
	NOT_ALL_NEW
} AllNew;

/* A key of the delta of one side. */
typedef struct DeltaKey
{
	struct DeltaKey *next;
	MinimalTuple tuple;			/* of the first row that has it */
	Datum	   *values;			/* the key */
	bool	   *isnull;
	int64		weight;			/* of all rows that have it */
	int64		gained;			/* of those that were added */
	AllNew		all_new;
	bool		decided;		/* by a row of the kept side, for all of them */
	bool		crosses;
} DeltaKey;

typedef struct OuterRun
{
	OuterInput	inputs[2];
	IvmOuterMatch *match;
	List	   *caches;			/* IvmCache: of both lookups */
	MemoryContext keys_context; /* of the keys of one hash */
	MemoryContext key_context;	/* of one that is compared with them */

	/* of the batch, and of the side whose rows are kept at the moment */
	int			kept;
	bool		pairs;			/* wanted */
	bool		collected;		/* all rows of the other side are in "delta" */
	IvmRowIndex *delta;			/* the other side's, by key */
	TupleTableSlot *row;		/* of it */
	uint64		hash;			/* being looked at */
	int64		nrows;			/* that have it */
	bloom_filter *images;		/* of these, if they are many; or NULL */
	DeltaKey   *keys;
	DeltaKey   *key;			/* being looked up */
	TupleTableSlot *key_row;
	int64		weight;			/* of the row of the kept side in hand */
} OuterRun;

static void
outer_init(IvmOperator *op)
{
	OuterRun   *state = palloc0(sizeof(OuterRun));
	IvmPlanNode *node = op->node;

	op->state = state;
	state->inputs[0].desc = ((IvmPlanNode *) linitial(node->inputs))->desc;
	state->inputs[1].desc = ((IvmPlanNode *) lsecond(node->inputs))->desc;
	state->match = ivm_outer_match_create(op, node->paths, &state->caches);
	state->keys_context = AllocSetContextCreate(CurrentMemoryContext, "ivm outer keys", ALLOCSET_SMALL_SIZES);
	state->key_context = AllocSetContextCreate(CurrentMemoryContext, "ivm outer key", ALLOCSET_SMALL_SIZES);
	op->projection = ivm_projection_create(ivm_join_widen(node, node->tlist), ivm_join_widen(node, node->quals),
										   node->desc);
}

static void
outer_begin(IvmOperator *op)
{
	OuterRun   *state = op->state;

	for (int i = 0; i < 2; i++)
		state->inputs[i].delta = ivm_zset_create(op->dataflow->arena, state->inputs[i].desc);
	ivm_outer_match_begin(state->match);
}

/*
 * In population rows of the other side are looked up; but if they come anyway, from an operator that makes
 * them, they are collected instead.
 */
static bool
outer_wants(IvmOperator *op, int input)
{
	return input == 0 || op->node->jointype == JOIN_FULL || ivm_operator_input(op, input)->has_state;
}

static void
outer_receive(IvmOperator *op, int input, TupleTableSlot *row, int64 weight)
{
	OuterRun   *state = op->state;

	if (!op->dataflow->populating || outer_wants(op, input))
		ivm_zset_add(state->inputs[input].delta, row, weight);
}

/*
 * What comes out
 */

static void
emit(IvmOperator *op, int64 weight)
{
	ivm_operator_emit_projected(op, ivm_outer_match_wide(((OuterRun *) op->state)->match), weight);
}

/* The bound row of the kept side, so many times with a match or alone. */
static void
emit_alone(IvmOperator *op, bool matched, int64 weight)
{
	OuterRun   *state = op->state;

	if (matched != (op->node->jointype == JOIN_SEMI))
		weight = -weight;
	ivm_outer_match_clear(state->match, 1 - state->kept);
	emit(op, weight);
}

static bool
emit_pair(void *context, int64 weight)
{
	IvmOperator *op = context;

	emit(op, ((OuterRun *) op->state)->weight * weight);
	return true;
}

/* As ivm_outer_match_find, among the rows that are collected. */
static int64
find_collected(IvmOperator *op, int64 limit, IvmOuterReceiver receiver)
{
	OuterRun   *state = op->state;
	int			other = 1 - state->kept;
	int64		sum = 0;
	uint64		hash;
	IvmRow	   *row;

	if (!ivm_outer_match_can(state->match, state->kept) ||
		!ivm_outer_match_hash_sought(state->match, other, &hash))
		return 0;
	ivm_row_index_find(state->delta, hash);
	while (sum <= limit && (row = ivm_row_index_next(state->delta)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		ExecStoreMinimalTuple(ivm_row_tuple(row), state->row, false);
		slot_getallattrs(state->row);
		ivm_outer_match_bind(state->match, other, state->row->tts_values, state->row->tts_isnull);
		if (!ivm_outer_match_test(state->match))
			continue;
		sum += row->weight;
		if (receiver != NULL)
			(void) receiver(op, row->weight);
	}
	ExecClearTuple(state->row);
	return sum;
}

static int64
find_matches(IvmOperator *op, int64 limit, IvmOuterReceiver receiver)
{
	OuterRun   *state = op->state;

	if (state->collected)
		return find_collected(op, limit, receiver);
	return ivm_outer_match_find(state->match, state->kept, limit, receiver, op);
}

/* All that comes of the bound row of the kept side, with the other side as it is now. */
static void
emit_now(IvmOperator *op, int64 weight)
{
	OuterRun   *state = op->state;
	bool		matched;

	state->weight = weight;
	matched = find_matches(op, state->pairs ? PG_INT64_MAX : 0, state->pairs ? emit_pair : NULL) > 0;
	if (matched == (op->node->jointype == JOIN_SEMI))
	{
		ivm_outer_match_clear(state->match, 1 - state->kept);
		emit(op, weight);
	}
}

/*
 * The kept side's own delta
 */

static void
run_part(IvmOperator *op, TupleTableSlot *slot, IvmRow **rows, int64 count)
{
	OuterRun   *state = op->state;

	for (int64 r = 0; r < count; r++)
	{
		uint64		second;

		CHECK_FOR_INTERRUPTS();
		ExecStoreMinimalTuple(ivm_row_tuple(rows[r]), slot, false);
		slot_getallattrs(slot);
		ivm_outer_match_bind(state->match, state->kept, slot->tts_values, slot->tts_isnull);
		second = 0;
		if (!state->collected)
			ivm_outer_match_order(state->match, state->kept, &rows[r]->hash, &second);
		else if (!ivm_outer_match_hash_sought(state->match, 1 - state->kept, &rows[r]->hash))
			rows[r]->hash = 0;
		rows[r]->next = (IvmRow *) (uintptr_t) second;
	}
	qsort(rows, count, sizeof(IvmRow *), ivm_probe_compare_orders);

	for (int64 r = 0; r < count; r++)
	{
		ExecStoreMinimalTuple(ivm_row_tuple(rows[r]), slot, false);
		slot_getallattrs(slot);
		ivm_outer_match_bind(state->match, state->kept, slot->tts_values, slot->tts_isnull);
		emit_now(op, rows[r]->weight);
	}
	ExecClearTuple(slot);
}

static void
run_own_delta(IvmOperator *op)
{
	OuterRun   *state = op->state;
	OuterInput *input = &state->inputs[state->kept];
	TupleTableSlot *slot = MakeSingleTupleTableSlot(input->desc, &TTSOpsMinimalTuple);
	IvmZsetParts parts;
	int64		count;
	IvmRow	  **rows;

	ivm_zset_parts_begin(input->delta, &parts);
	while ((rows = ivm_zset_parts_next(&parts, &count)) != NULL)
		run_part(op, slot, rows, count);
	ivm_zset_parts_end(&parts);
	ExecDropSingleTupleTableSlot(slot);
}

/*
 * The other side's delta
 */

/* By the hash of its key: what of it could match anything. */
static void
index_delta(IvmOperator *op, int input)
{
	OuterRun   *state = op->state;
	IvmZsetParts parts;
	int64		count;
	IvmRow	  **rows;

	state->delta = ivm_row_index_create(op->dataflow->arena);
	ivm_zset_parts_begin(state->inputs[input].delta, &parts);
	while ((rows = ivm_zset_parts_next(&parts, &count)) != NULL)
	{
		for (int64 r = 0; r < count; r++)
		{
			uint64		hash;

			CHECK_FOR_INTERRUPTS();
			ExecStoreMinimalTuple(ivm_row_tuple(rows[r]), state->row, false);
			slot_getallattrs(state->row);
			ivm_outer_match_bind(state->match, input, state->row->tts_values, state->row->tts_isnull);
			if (ivm_outer_match_can(state->match, input) &&
				ivm_outer_match_hash(state->match, input, state->row, &hash))
				ivm_row_index_add(state->delta, ivm_row_tuple(rows[r]), rows[r]->weight, hash);
		}
		ExecClearTuple(state->row);
	}
	ivm_zset_parts_end(&parts);
	ivm_row_index_finish(state->delta);
}

/* Adds a row of the hash to its key, a new one if need be. */
static void
add_to_keys(OuterRun *state, int input, IvmRow *row)
{
	MemoryContext old = MemoryContextSwitchTo(state->key_context);
	DeltaKey   *new;
	Datum	   *values;
	bool	   *isnull;

	MemoryContextReset(state->key_context);
	ExecStoreMinimalTuple(ivm_row_tuple(row), state->key_row, false);
	ivm_outer_match_keys(state->match, input, state->key_row, &values, &isnull);
	MemoryContextSwitchTo(old);
	for (DeltaKey *key = state->keys; key != NULL; key = key->next)
	{
		CHECK_FOR_INTERRUPTS();
		if (!ivm_outer_match_same_keys(state->match, input, key->values, key->isnull, values, isnull))
			continue;
		key->weight += row->weight;
		key->gained += Max(row->weight, 0);
		return;
	}

	/* values may point into the tuple */
	new = palloc0(sizeof(DeltaKey));
	new->tuple = heap_copy_minimal_tuple(ivm_row_tuple(row));
	ExecStoreMinimalTuple(new->tuple, state->key_row, false);
	ivm_outer_match_keys(state->match, input, state->key_row, &new->values, &new->isnull);
	new->weight = row->weight;
	new->gained = Max(row->weight, 0);
	new->next = state->keys;
	state->keys = new;
}

/* The different keys of the rows with that hash, and what these weigh. */
static void
collect_keys(OuterRun *state, int input)
{
	MemoryContext old = MemoryContextSwitchTo(state->keys_context);
	IvmRow	   *row;

	MemoryContextReset(state->keys_context);
	state->keys = NULL;
	state->images = NULL;
	state->nrows = 0;
	ivm_row_index_find(state->delta, state->hash);
	while ((row = ivm_row_index_next(state->delta)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		state->nrows++;
		add_to_keys(state, input, row);
	}
	if (state->nrows >= MANY_ROWS)
	{
		state->images = bloom_create(state->nrows, FILTER_MEMORY, 0);
		ivm_row_index_find(state->delta, state->hash);
		while ((row = ivm_row_index_next(state->delta)) != NULL)
		{
			uint64		hash = ivm_row_image_hash(ivm_row_tuple(row));

			CHECK_FOR_INTERRUPTS();
			bloom_add_element(state->images, (unsigned char *) &hash, sizeof(hash));
		}
	}
	ExecClearTuple(state->key_row);
	MemoryContextSwitchTo(old);
}

/* What the bound row of the kept side matches in the delta. */
typedef struct DeltaMatches
{
	int64		weight;			/* of all of them */
	bool		gained;			/* one is there now */
	bool		lost;			/* one was there */
	bool		stays;			/* another one was there, and is */
	bool		enough;			/* the rest is no matter */
} DeltaMatches;

static void
match_row(IvmOperator *op, DeltaMatches *matches, int64 weight)
{
	OuterRun   *state = op->state;

	if (!ivm_outer_match_test(state->match))
		return;
	matches->weight += weight;
	if (state->pairs)
		emit(op, state->weight * weight);
	else if (weight > 0 && !matches->gained && !matches->lost && state->images != NULL && state->key->all_new != ALL_NEW)
		matches->stays = ivm_outer_match_find_beyond(state->match, state->kept, state->images);
	if (weight > 0)
		matches->gained = true;
	else
		matches->lost = true;
	matches->enough = !state->pairs &&
		(matches->lost || matches->stays || (matches->gained && state->key->all_new == ALL_NEW));
}

/* Goes through the delta's rows that have the hash; emits the pairs if they are wanted. */
static void
match_delta(IvmOperator *op, DeltaMatches *matches)
{
	OuterRun   *state = op->state;
	int			other = 1 - state->kept;
	IvmRow	   *row;

	if (op->node->key_decides && !state->pairs)
	{
		matches->weight = state->key->weight;
		return;
	}
	if (state->nrows == 1)
	{
		ivm_outer_match_bind(state->match, other, state->key_row->tts_values, state->key_row->tts_isnull);
		match_row(op, matches, state->key->weight);
		return;
	}
	ivm_row_index_find(state->delta, state->hash);
	while (!matches->enough && (row = ivm_row_index_next(state->delta)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		ExecStoreMinimalTuple(ivm_row_tuple(row), state->row, false);
		slot_getallattrs(state->row);
		ivm_outer_match_bind(state->match, other, state->row->tts_values, state->row->tts_isnull);
		match_row(op, matches, row->weight);
	}
	ExecClearTuple(state->row);
}

/*
 * Has the bound row of the kept side a match now, and had none, or the other way round?  matches->weight says which,
 * and is not exact where enough was known before.
 */
static bool
crosses(OuterRun *state, DeltaMatches *matches)
{
	if (matches->stays)
		return false;
	if (matches->lost || matches->weight < 0)
		return !(matches->gained && matches->lost) &&
			ivm_outer_match_find(state->match, state->kept, 0, NULL, NULL) == 0;
	return matches->enough ||
		ivm_outer_match_find(state->match, state->kept, matches->weight, NULL, NULL) <= matches->weight;
}

static bool
count_row(void *context, const Datum *values, const bool *isnull, int64 weight)
{
	int64	   *left = context;

	*left -= weight;
	return *left >= 0;
}

/* Was there no row of the other side that had the key in hand?  Looked for once, by a row of the kept side. */
static void
decide_all_new(OuterRun *state)
{
	DeltaKey   *key = state->key;
	int64		left = key->weight;

	if (key->all_new != ALL_NEW_UNKNOWN)
		return;
	if (key->weight == key->gained)
		ivm_outer_match_look_up(state->match, 1 - state->kept, count_row, &left);
	key->all_new = key->weight == key->gained && left == 0 ? ALL_NEW : NOT_ALL_NEW;
}

/* A row of the kept side as it was, which the key of the delta looked up. */
static bool
found_kept(void *context, const Datum *values, const bool *isnull, int64 weight)
{
	IvmOperator *op = context;
	OuterRun   *state = op->state;
	DeltaKey   *key = state->key;
	DeltaMatches matches = {0};

	CHECK_FOR_INTERRUPTS();
	ivm_outer_match_bind(state->match, state->kept, values, isnull);
	if (!ivm_outer_match_can(state->match, state->kept) ||
		!ivm_outer_match_looks_up(state->match, 1 - state->kept, key->values, key->isnull))
		return true;
	if (state->nrows > 1 && !state->pairs && !op->node->key_decides)
		decide_all_new(state);
	state->weight = weight;
	match_delta(op, &matches);
	if (matches.weight == 0 && !matches.lost)
		return true;
	if (!op->node->key_decides || !key->decided)
	{
		key->crosses = crosses(state, &matches);
		key->decided = true;
	}
	if (key->crosses)
		emit_alone(op, matches.weight > 0, weight);
	return true;
}

static void
run_other_delta(IvmOperator *op)
{
	OuterRun   *state = op->state;
	int			other = 1 - state->kept;

	index_delta(op, other);
	state->hash = 0;
	while (ivm_row_index_walk(state->delta, &state->hash))
	{
		collect_keys(state, other);
		for (DeltaKey *key = state->keys; key != NULL; key = key->next)
		{
			CHECK_FOR_INTERRUPTS();
			/* nothing would come of it */
			if (op->node->key_decides && !state->pairs && key->weight == 0)
				continue;
			state->key = key;
			ExecStoreMinimalTuple(key->tuple, state->key_row, false);
			slot_getallattrs(state->key_row);
			ivm_outer_match_bind(state->match, other, state->key_row->tts_values, state->key_row->tts_isnull);
			ivm_outer_match_look_up(state->match, state->kept, found_kept, op);
		}
		ExecClearTuple(state->key_row);
		if (++state->hash == 0)
			break;
	}
	MemoryContextReset(state->keys_context);
	ivm_row_index_destroy(state->delta);
}

/*
 * Both
 */

/* With that side as the one that is kept. */
static void
run(IvmOperator *op, int kept, bool pairs)
{
	OuterRun   *state = op->state;
	bool		batch = !op->dataflow->populating;
	int64		own = state->inputs[kept].count;
	int64		others = batch ? state->inputs[1 - kept].count : 0;

	state->kept = kept;
	state->pairs = pairs;
	state->collected = !batch && outer_wants(op, 1 - kept);
	state->row = MakeSingleTupleTableSlot(state->inputs[1 - kept].desc, &TTSOpsMinimalTuple);
	state->key_row = MakeSingleTupleTableSlot(state->inputs[1 - kept].desc, &TTSOpsMinimalTuple);
	ivm_outer_match_start(state->match, 1 - kept, others > 0 ? state->inputs[1 - kept].delta : NULL, false, own + others, batch);
	if (state->collected)
		index_delta(op, 1 - kept);
	if (own > 0)
		run_own_delta(op);
	if (state->collected)
		ivm_row_index_destroy(state->delta);
	if (others > 0)
	{
		ivm_outer_match_start(state->match, kept, own > 0 ? state->inputs[kept].delta : NULL, true, others, batch);
		run_other_delta(op);
		ivm_outer_match_stop(state->match, kept);
	}
	ivm_outer_match_stop(state->match, 1 - kept);
	ExecDropSingleTupleTableSlot(state->key_row);
	ExecDropSingleTupleTableSlot(state->row);
}

static void
outer_finish(IvmOperator *op)
{
	OuterRun   *state = op->state;
	bool		has_pairs = op->node->jointype == JOIN_LEFT || op->node->jointype == JOIN_FULL;

	for (int i = 0; i < 2; i++)
		state->inputs[i].count = ivm_zset_count(state->inputs[i].delta);
	if (state->inputs[0].count == 0 && state->inputs[1].count == 0)
		return;
	if (!op->dataflow->populating)
		for (int i = 0; i < 2; i++)
			if (state->inputs[i].count > 0)
				ivm_probe_caches_apply(state->caches, list_nth(op->node->inputs, i), state->inputs[i].delta);
	run(op, 0, has_pairs);
	if (op->node->jointype == JOIN_FULL)
		run(op, 1, false);
}

static void
replay_kept(void *context, TupleTableSlot *row, int64 weight)
{
	IvmOperator *op = context;
	OuterRun   *state = op->state;

	slot_getallattrs(row);
	ivm_outer_match_bind(state->match, state->kept, row->tts_values, row->tts_isnull);
	emit_now(op, weight);
}

static void
replay_side(IvmOperator *op, int kept, bool pairs)
{
	OuterRun   *state = op->state;

	state->kept = kept;
	state->pairs = pairs;
	state->collected = false;
	ivm_outer_match_start(state->match, 1 - kept, NULL, false, 0, false);
	ivm_operator_replay(ivm_operator_input(op, kept), replay_kept, op);
	ivm_outer_match_stop(state->match, 1 - kept);
}

static void
outer_replay(IvmOperator *op)
{
	replay_side(op, 0, op->node->jointype == JOIN_LEFT || op->node->jointype == JOIN_FULL);
	if (op->node->jointype == JOIN_FULL)
		replay_side(op, 1, false);
}

static void
outer_end(IvmOperator *op)
{
	OuterRun   *state = op->state;

	for (int i = 0; i < 2; i++)
		ivm_zset_close(state->inputs[i].delta);
	ivm_outer_match_end(state->match);
}

static void
outer_forget(IvmOperator *op)
{
	OuterRun   *state = op->state;

	ivm_probe_caches_forget(state->caches);
	ivm_outer_match_forget(state->match);
}

const IvmOperatorRoutine ivm_op_outer = {
	.init = outer_init,
	.begin = outer_begin,
	.receive = outer_receive,
	.wants = outer_wants,
	.finish = outer_finish,
	.replay = outer_replay,
	.end = outer_end,
	.forget = outer_forget,
	.finder = &ivm_outer_finder,
};
