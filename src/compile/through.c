/*-------------------------------------------------------------------------
 *
 * through.c
 *	  Looking up an operator's rows without storing them for it.
 *
 * Asked for "rows of X by these keys", where X is no table:
 *
 *		map			the rows of its input, by the keys put in terms of that
 *		append		the rows of each input
 *		join		the rows of one input that has some of the keys, and from there
 *					the path that a change of it takes (join_path.c)
 *		outer		the rows of one side that has the keys, or of both if they are merged
 *					ones, with what they match on the other (outer.c)
 *		aggregate	its own state table, by the hash of the group columns, if each of them
 *					is one of the keys; if it keeps none (group_rows.c) the rows of its input
 *					by the group columns, which are aggregated
 *		recompute	the state table with its last output, which is kept by the first keys that
 *					anybody asks for
 *
 * Each of these is exact if the lookups in the inputs are, and gives the new state if they
 * do; so by induction is the whole, and the old state is the reader's business.  All but
 * the aggregate store nothing.  Rows that do not match may come, since the reader tests its
 * conditions: keys that an input does not have are left out.
 *
 * It is not done where it would read much more than it gives: an aggregate by a part
 * of its group columns reads all rows of whole groups, a join by keys of several inputs all that one of
 * them has.  There a private state table is made, unless the statistics say that few rows are read; they are asked when
 * contents are made, and later the table is there or it is not.  The table is of the input of a map if that has several readers, which then share it,
 * else of what the map's filter leaves.
 *
 * Nor is it done where a lookup would end in very many places: each of them is
 * opened and prepared for each place that looks up, and of joins of joins there are twice as many at
 * each level.
 *
 * The equality of a key need not be that of the grouping.  They only have to
 * be hashed alike: what the one finds equal then has one hash in the other.
 *
 * All else follows from the plan alone.  Which index serves in the end is no matter.
 *
 * Memory: everything in the plan's context, which is current.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "compile/compiler.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "plan/column.h"
#include "plan/plan_text.h"
#include "zset/key.h"

/* In more places than this no lookup ends. */
#define MOST_ENDS 32

/* So many rows are read, by the statistics, rather than those that are wanted of them stored. */
#define MOST_READ_ROWS 64

/* A key of an arrangement below, and which of the keys above it is. */
typedef struct BelowKey
{
	Node	   *key;
	char	   *text;
	int			number;
} BelowKey;

static int
compare_below_keys(const ListCell *a, const ListCell *b)
{
	return strcmp(((BelowKey *) lfirst(a))->text, ((BelowKey *) lfirst(b))->text);
}

void
ivm_arrangement_add_below(IvmCompiler *compiler, IvmArrangement *arrangement, IvmPlanNode *input,
						  List *keys, List *numbers)
{
	List	   *below_keys = NIL;
	List	   *sorted_keys = NIL;
	List	   *sorted_numbers = NIL;
	List	   *operators = NIL;
	List	   *collations = NIL;
	const char *last = NULL;
	ListCell   *lc;
	ListCell   *lc2;

	/* in canonical order, since arrangements are shared by their text */
	forboth(lc, keys, lc2, numbers)
	{
		BelowKey   *key = (BelowKey *) palloc(sizeof(BelowKey));

		key->key = (Node *) lfirst(lc);
		key->text = ivm_expression_text(key->key);
		key->number = lfirst_int(lc2);
		below_keys = lappend(below_keys, key);
	}
	list_sort(below_keys, compare_below_keys);
	foreach(lc, below_keys)
	{
		BelowKey   *key = (BelowKey *) lfirst(lc);

		/* what two of the keys above come from is one key below */
		if (last != NULL && strcmp(last, key->text) == 0)
			continue;
		last = key->text;
		sorted_keys = lappend(sorted_keys, key->key);
		sorted_numbers = lappend_int(sorted_numbers, key->number);
		operators = lappend_oid(operators, list_nth_oid(arrangement->operators, key->number));
		collations = lappend_oid(collations, list_nth_oid(arrangement->collations, key->number));
	}
	arrangement->kind = IVM_ARRANGE_THROUGH;
	arrangement->below = lappend(arrangement->below,
								 ivm_arrangement_make(compiler, input, sorted_keys, operators, collations,
													  arrangement->null_safe));
	arrangement->below_keys = lappend(arrangement->below_keys, sorted_numbers);
}

/* How many places a lookup through these ends in. */
static int
count_ends(IvmArrangement *arrangement)
{
	int			result = 0;
	ListCell   *lc;
	ListCell   *lc2;

	foreach(lc, arrangement->below)
		result += ((IvmArrangement *) lfirst(lc))->nends;
	foreach(lc, arrangement->paths)
	{
		foreach(lc2, ((IvmJoinPath *) lfirst(lc))->stages)
			result += ((IvmJoinStage *) lfirst(lc2))->arrangement->nends;
	}
	return result;
}

void
ivm_arrangements_drop(IvmCompiler *compiler, int before)
{
	IvmPlan    *plan = compiler->plan;

	for (int i = before; i < list_length(plan->arrangements); i++)
	{
		IvmArrangement *made = (IvmArrangement *) list_nth(plan->arrangements, i);

		if (made->whole)
			made->input->kept = NULL;
	}
	plan->arrangements = list_truncate(plan->arrangements, before);
}

/* Makes it what it was when it was new: a state table. */
static void
undo_push(IvmCompiler *compiler, IvmArrangement *arrangement, int before)
{
	/* those that were made for it serve nobody else */
	ivm_arrangements_drop(compiler, before);
	arrangement->kind = IVM_ARRANGE_STATE;
	arrangement->nends = 1;
	arrangement->own_keys = NIL;
	arrangement->below = NIL;
	arrangement->below_keys = NIL;
	arrangement->paths = NIL;
}

static void
push_once(IvmCompiler *compiler, IvmArrangement *arrangement)
{
	int			before = list_length(compiler->plan->arrangements);

	if (!ivm_node_kind(arrangement->input)->push(compiler, arrangement) ||
		arrangement->kind != IVM_ARRANGE_THROUGH)
		return;
	arrangement->nends = count_ends(arrangement);
	if (arrangement->nends > MOST_ENDS)
		undo_push(compiler, arrangement, before);
}

/* Is it better to read more rows than are given than to store them?  In contexts that are there that has been decided. */
static bool
reads_few_rows(IvmCompiler *compiler, IvmArrangement *arrangement)
{
	double		read;
	double		found;

	if (compiler->stored != NULL)
		return strstr(compiler->stored, psprintf("\narrangement %s\n", arrangement->text)) == NULL;
	return ivm_arrangement_estimate(arrangement, &read, &found) && read >= 0 && read <= MOST_READ_ROWS;
}

void
ivm_arrangement_push(IvmCompiler *compiler, IvmArrangement *arrangement)
{
	IvmNodeKind kind = arrangement->input->kind;
	int			before = list_length(compiler->plan->arrangements);
	bool		amplifies = compiler->amplifies;

	compiler->amplifies = false;
	push_once(compiler, arrangement);
	if (arrangement->kind == IVM_ARRANGE_STATE && arrangement->keys != NIL &&
		(kind == IVM_JOIN || kind == IVM_OUTER || kind == IVM_AGGREGATE))
	{
		compiler->amplifies = true;
		push_once(compiler, arrangement);
		if (arrangement->kind == IVM_ARRANGE_THROUGH && !reads_few_rows(compiler, arrangement))
			undo_push(compiler, arrangement, before);
	}
	compiler->amplifies = amplifies;
}

static int
count_readers(IvmPlan *plan, IvmPlanNode *input)
{
	int			result = 0;
	ListCell   *lc;

	foreach(lc, plan->nodes)
		result += list_member_ptr(((IvmPlanNode *) lfirst(lc))->inputs, input);
	return result;
}

bool
ivm_push_map(IvmCompiler *compiler, IvmArrangement *arrangement)
{
	IvmPlan    *plan = compiler->plan;
	IvmPlanNode *map = arrangement->input;
	IvmPlanNode *input = (IvmPlanNode *) linitial(map->inputs);
	IvmArrangement *below;
	int			before = list_length(plan->arrangements);
	List	   *keys = arrangement->keys;
	List	   *own = NIL;
	List	   *numbers = NIL;

	/* all rows of the input for a part of them */
	if (keys == NIL && map->quals != NIL)
		return false;
	if (map->tlist != NIL)
	{
		List	   *lists[1];

		lists[0] = map->tlist;
		keys = (List *) ivm_expression_substitute((Node *) keys, 1, lists);
	}
	for (int i = 0; i < list_length(keys); i++)
	{
		Node	   *key = (Node *) list_nth(keys, i);

		/* a constant finds nothing, or everything */
		if (!contain_var_clause(key))
			continue;
		own = lappend(own, key);
		numbers = lappend_int(numbers, i);
	}
	if (own == NIL && keys != NIL)
		return false;
	ivm_arrangement_add_below(compiler, arrangement, input, own, numbers);

	/* a table for this map alone is better of its own rows */
	below = (IvmArrangement *) linitial(arrangement->below);
	if (below->kind == IVM_ARRANGE_STATE && !below->shared && !below->whole &&
		list_length(plan->arrangements) > before && count_readers(plan, input) == 1)
	{
		plan->arrangements = list_truncate(plan->arrangements, before);
		arrangement->kind = IVM_ARRANGE_STATE;
		arrangement->below = NIL;
		arrangement->below_keys = NIL;
		return false;
	}
	return true;
}

bool
ivm_push_append(IvmCompiler *compiler, IvmArrangement *arrangement)
{
	List	   *numbers = NIL;
	ListCell   *lc;

	for (int i = 0; i < list_length(arrangement->keys); i++)
		numbers = lappend_int(numbers, i);
	foreach(lc, arrangement->input->inputs)
		ivm_arrangement_add_below(compiler, arrangement, (IvmPlanNode *) lfirst(lc), arrangement->keys, numbers);
	return true;
}

/* Which of the keys is that column of the raw row, and is hashed as the group is; -1 if none. */
static int
key_of_group(IvmArrangement *arrangement, List *raw_keys, int column)
{
	IvmPlanNode *aggregate = arrangement->input;

	for (int i = 0; i < list_length(raw_keys); i++)
	{
		Var		   *var = (Var *) list_nth(raw_keys, i);

		while (IsA(var, RelabelType))
			var = (Var *) ((RelabelType *) var)->arg;
		if (IsA(var, Var) && var->varattno == column + 1 &&
			list_nth_oid(arrangement->collations, i) == list_nth_oid(aggregate->group_collations, column) &&
			ivm_equalities_hash_alike(list_nth_oid(arrangement->operators, i),
									  list_nth_oid(aggregate->group_operators, column)))
			return i;
	}
	return -1;
}

/*
 * The rows of the groups by those group columns that are keys; "own_keys" says by group column which key it is.  False if
 * none is.
 */
static bool
push_to_rows(IvmCompiler *compiler, IvmArrangement *arrangement, List *own_keys)
{
	IvmPlanNode *aggregate = arrangement->input;
	IvmPlanNode *input = (IvmPlanNode *) linitial(aggregate->inputs);
	List	   *columns = NIL;
	List	   *numbers = NIL;
	ListCell   *lc;
	ListCell   *lc2;

	forboth(lc, own_keys, lc2, aggregate->group_columns)
	{
		if (lfirst_int(lc) < 0)
			continue;
		columns = lappend(columns, ivm_column_of(input->desc, lfirst_int(lc2)));
		numbers = lappend_int(numbers, lfirst_int(lc));
	}
	if (columns == NIL)
		return false;
	ivm_arrangement_add_below(compiler, arrangement, input, columns, numbers);
	return true;
}

bool
ivm_push_aggregate(IvmCompiler *compiler, IvmArrangement *arrangement)
{
	IvmPlanNode *aggregate = arrangement->input;
	List	   *lists[1];
	List	   *keys;
	List	   *own_keys = NIL;
	bool		all = true;

	if (arrangement->keys != NIL)
	{
		lists[0] = aggregate->tlist;
		keys = (List *) ivm_expression_substitute((Node *) arrangement->keys, 1, lists);
		for (int i = 0; i < list_length(aggregate->group_columns); i++)
		{
			int			key = key_of_group(arrangement, keys, i);

			all &= key >= 0;
			own_keys = lappend_int(own_keys, key);
		}
	}
	arrangement->own_keys = own_keys;
	if (aggregate->keyed)
		return (all || compiler->amplifies) && push_to_rows(compiler, arrangement, own_keys);
	if (all)
		arrangement->kind = IVM_ARRANGE_OPERATOR;
	return all;
}

/* One state table serves for the last output and for lookups by one key. */
bool
ivm_push_recompute(IvmCompiler *compiler, IvmArrangement *arrangement)
{
	IvmPlanNode *recompute = arrangement->input;

	if (arrangement->keys == NIL)
	{
		arrangement->kind = IVM_ARRANGE_OPERATOR;
		return true;
	}
	if (recompute->kept == NULL)
	{
		recompute->kept = arrangement;
		arrangement->whole = true;
		arrangement->text = psprintf("%s whole", arrangement->text);
	}
	return false;
}
