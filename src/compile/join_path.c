/*-------------------------------------------------------------------------
 *
 * join_path.c
 *	  The paths through a join of N inputs.
 *
 * A change of input i is walked from there through all others, one lookup at a
 * time, along whatever conditions connect them: a path.  So are the rows of
 * input i that have a key, where the join's own rows are looked up by that key.
 *
 * The order of a path's stages is chosen by what the catalog promises, since
 * statistics must not have a say in a plan:
 *
 *	1. inputs of which the lookup finds at most one row (a unique key);
 *	2. those of which a key of the rows found so far is a foreign one;
 *	3. those that share any other equality with them;
 *	4. those that share nothing: every row matches.
 *
 * Of the first kind those come before that stop most rows (join_order.c).  Ties go to the input that comes first.
 *
 * Conditions are tested as soon as the inputs that they mention are bound, in
 * the planner's order.  In a query with a security barrier, where the nesting of
 * joins may keep rows from conditions that could tell about them, conditions that
 * may leak are tested last, when all others have been.
 *
 * Memory: everything in the plan's context, which is current.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "compile/join_graph.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "plan/plan_text.h"
#include "plan/column.h"
#include "utils/lsyscache.h"

/* How good a lookup is; lower is better. */
typedef enum LookupRank
{
	LOOKUP_UNIQUE,
	LOOKUP_FOREIGN_KEY,
	LOOKUP_EQUALITY,
	LOOKUP_ALL
} LookupRank;

static LookupRank
rank_lookup(IvmJoinGraph *graph, int input, Bitmapset *bound, List *clauses)
{
	int			other = -1;

	if (ivm_join_covers_unique_key(graph, input, clauses, true))
		return LOOKUP_UNIQUE;
	if (clauses == NIL)
		return LOOKUP_ALL;
	while ((other = bms_next_member(bound, other)) >= 0)
	{
		if (graph->unique_keys[other] != NIL && ivm_join_covers_unique_key(graph, other, clauses, false))
			return LOOKUP_FOREIGN_KEY;
	}
	return LOOKUP_EQUALITY;
}

/* ---- paths ---- */

/* Sorts by the key's text, so that equal sets of keys are equal lists. */
static int
compare_key_clauses(const ListCell *a, const ListCell *b)
{
	IvmKeyClause *left = (IvmKeyClause *) lfirst(a);
	IvmKeyClause *right = (IvmKeyClause *) lfirst(b);

	return strcmp(ivm_expression_text((Node *) left->key),
				  ivm_expression_text((Node *) right->key));
}

/* Conditions that can be tested once "bound" is, and could not when "before" was. */
static List *
new_conditions(IvmCompiler *compiler, IvmJoinGraph *graph, Bitmapset *bound, Bitmapset *before)
{
	List	   *result = NIL;
	List	   *leaking = NIL;
	ListCell   *lc;
	int			i = 0;

	foreach(lc, graph->join->clauses)
	{
		Bitmapset  *inputs = graph->clause_inputs[i++];

		if (!bms_is_subset(inputs, bound) ||
			(before != NULL && bms_is_subset(inputs, before)))
			continue;
		if (compiler->has_barrier && contain_leaked_vars((Node *) lfirst(lc)))
			leaking = lappend(leaking, lfirst(lc));
		else
			result = lappend(result, lfirst(lc));
	}
	return list_concat(result, leaking);
}

static IvmJoinStage *
make_stage(IvmCompiler *compiler, IvmJoinGraph *graph, int input, List *clauses, List *quals)
{
	IvmJoinStage *stage = (IvmJoinStage *) palloc0(sizeof(IvmJoinStage));
	List	   *keys = NIL;
	List	   *operators = NIL;
	List	   *collations = NIL;
	ListCell   *lc;

	list_sort(clauses, compare_key_clauses);
	foreach(lc, clauses)
	{
		IvmKeyClause *clause = (IvmKeyClause *) lfirst(lc);

		keys = lappend(keys, ivm_expression_renumber((Node *) clause->key, input + 1, 1));
		operators = lappend_oid(operators, clause->operator);
		collations = lappend_oid(collations, clause->collation);
		stage->probes = lappend(stage->probes, clause->probe);
	}

	stage->input = input;
	stage->arrangement = ivm_arrangement_make(compiler,
											  (IvmPlanNode *) list_nth(graph->join->inputs, input),
											  keys, operators, collations, false);
	stage->quals = quals;
	return stage;
}

static IvmJoinPath *
make_path(IvmCompiler *compiler, IvmJoinGraph *graph, int start)
{
	IvmJoinPath *path = (IvmJoinPath *) palloc0(sizeof(IvmJoinPath));
	Bitmapset  *bound = bms_make_singleton(start);

	path->start = start;
	path->quals = new_conditions(compiler, graph, bound, NULL);

	for (int step = 1; step < graph->ninputs; step++)
	{
		LookupRank	best_rank = LOOKUP_ALL;
		int			best = -1;
		List	   *best_clauses = NIL;
		int			selective = ivm_join_graph_most_selective(graph, bound);
		Bitmapset  *now_bound;

		for (int i = 0; i < graph->ninputs; i++)
		{
			List	   *clauses;
			LookupRank	rank;

			if (bms_is_member(i, bound))
				continue;
			clauses = ivm_join_usable_keys(graph, i, bound);
			rank = rank_lookup(graph, i, bound, clauses);
			if (best < 0 || rank < best_rank || i == selective)
			{
				best = i;
				best_rank = rank;
				best_clauses = clauses;
			}
		}

		now_bound = bms_add_member(bms_copy(bound), best);
		path->stages = lappend(path->stages,
							   make_stage(compiler, graph, best, best_clauses,
										  new_conditions(compiler, graph, now_bound, bound)));
		bound = now_bound;
	}
	return path;
}

/* Can the rows of a node ever change? */
static bool
node_can_change(IvmPlanNode *node)
{
	ListCell   *lc;

	check_stack_depth();
	if (node->relids != NIL)
		return true;
	foreach(lc, node->inputs)
	{
		if (node_can_change((IvmPlanNode *) lfirst(lc)))
			return true;
	}
	return false;
}

/*
 * Makes the paths of a join, and the arrangements that they need.  Called when
 * the tree is final and its nodes are numbered.
 */
void
ivm_join_make_paths(IvmCompiler *compiler, IvmPlanNode *join)
{
	IvmJoinGraph *graph = ivm_join_graph_make(compiler, join);
	ListCell   *lc;
	int			i = 0;

	foreach(lc, join->inputs)
	{
		if (node_can_change((IvmPlanNode *) lfirst(lc)))
			join->paths = lappend(join->paths, make_path(compiler, graph, i));
		i++;
	}
}

/* Do these keys, over one input, bind every column of a unique key of it? */
static bool
keys_are_unique(IvmJoinGraph *graph, int input, List *keys)
{
	List	   *clauses = NIL;
	ListCell   *lc;

	foreach(lc, keys)
	{
		IvmKeyClause *clause = (IvmKeyClause *) palloc0(sizeof(IvmKeyClause));

		clause->key = (Expr *) lfirst(lc);
		clauses = lappend(clauses, clause);
	}
	return ivm_join_covers_unique_key(graph, input, clauses, true);
}

/* Is the clause one of the equalities that the input is looked up by? */
static bool
is_key_of_stage(Node *clause, IvmJoinStage *stage, int input)
{
	OpExpr	   *op = (OpExpr *) clause;
	ListCell   *lc;
	ListCell   *lc2;
	int			i = 0;

	if (!ivm_clause_is_equality(clause))
		return false;
	forboth(lc, stage->probes, lc2, stage->arrangement->keys)
	{
		Oid			operator = list_nth_oid(stage->arrangement->operators, i);
		Oid			collation = list_nth_oid(stage->arrangement->collations, i);

		i++;
		if (collation != op->inputcollid)
			continue;
		for (int side = 0; side < 2; side++)
		{
			Node	   *probe = (Node *) list_nth(op->args, side);
			Node	   *key = (Node *) list_nth(op->args, 1 - side);
			Bitmapset  *inputs = ivm_join_expression_inputs(key);

			if (operator == (side == 0 ? op->opno : get_commutator(op->opno)) &&
				equal(probe, lfirst(lc)) &&
				bms_membership(inputs) == BMS_SINGLETON && bms_is_member(input, inputs) &&
				equal(ivm_expression_renumber(key, input + 1, 1), lfirst(lc2)))
				return true;
		}
	}
	return false;
}

/* Makes the paths of an outer join, as of a join. */
void
ivm_outer_make_paths(IvmCompiler *compiler, IvmPlanNode *outer)
{
	IvmJoinGraph *graph = ivm_join_graph_make(compiler, outer);
	ListCell   *lc;
	ListCell   *lc2;

	outer->paths = list_make1(make_path(compiler, graph, 0));
	if (outer->jointype == JOIN_FULL || node_can_change((IvmPlanNode *) lsecond(outer->inputs)))
		outer->paths = lappend(outer->paths, make_path(compiler, graph, 1));
	outer->key_decides = true;
	foreach(lc, outer->paths)
	{
		IvmJoinStage *stage = (IvmJoinStage *) linitial(((IvmJoinPath *) lfirst(lc))->stages);

		foreach(lc2, outer->clauses)
		{
			if (!is_key_of_stage((Node *) lfirst(lc2), stage, stage->input))
				outer->key_decides = false;
		}
	}
}

bool
ivm_join_keys_are_unique(IvmCompiler *compiler, IvmPlanNode *join, int input, List *keys)
{
	return keys_are_unique(ivm_join_graph_make(compiler, join), input, keys);
}

/* ---- looking up the join's own rows ---- */

/*
 * The key as an expression over one input alone: as it is, or as an equality of the join says that it is
 * equal to one.  NULL if there is none.  Only an equality of the very operator that the key is looked up by counts.
 */
static Expr *
key_of_input(IvmJoinGraph *graph, Expr *key, Oid operator, Oid collation, int input)
{
	Bitmapset  *inputs = ivm_join_expression_inputs((Node *) key);
	ListCell   *lc;

	if (bms_membership(inputs) == BMS_SINGLETON && bms_is_member(input, inputs))
		return key;
	foreach(lc, graph->key_clauses)
	{
		IvmKeyClause *clause = (IvmKeyClause *) lfirst(lc);

		if (clause->input == input && clause->operator == operator && clause->collation == collation &&
			get_commutator(operator) == operator && equal(clause->probe, key))
			return clause->key;
	}
	return NULL;
}

/*
 * Rows of the join with some keys: the rows of one input with those of the keys that
 * are that input's, and from there the same path as a change of that input takes.  The
 * reader tests all conditions, so the rest of the keys need not be looked at.
 *
 * But if there is a rest, many rows might be read for few, unless no more than one row of
 * the input has its keys.  So the input is one of which a unique key is bound, or one that has all keys.
 */
bool
ivm_push_join(IvmCompiler *compiler, IvmArrangement *arrangement)
{
	IvmPlanNode *join = arrangement->input;
	IvmJoinGraph *graph;
	List	   *lists[1];
	List	   *keys;
	int			best = -1;
	bool		best_unique = false;
	List	   *best_keys = NIL;
	List	   *best_numbers = NIL;

	if (arrangement->keys == NIL)
		return false;
	graph = ivm_join_graph_make(compiler, join);
	lists[0] = join->tlist;
	keys = (List *) ivm_expression_substitute((Node *) arrangement->keys, 1, lists);
	for (int i = 0; i < graph->ninputs; i++)
	{
		List	   *own = NIL;
		List	   *numbers = NIL;
		bool		unique;

		for (int k = 0; k < list_length(keys); k++)
		{
			Expr	   *key = key_of_input(graph, (Expr *) list_nth(keys, k),
										   list_nth_oid(arrangement->operators, k),
										   list_nth_oid(arrangement->collations, k), i);

			if (key == NULL)
				continue;
			own = lappend(own, key);
			numbers = lappend_int(numbers, k);
		}
		if (own == NIL)
			continue;
		unique = keys_are_unique(graph, i, own);
		if (best < 0 || (unique && !best_unique) ||
			(unique == best_unique && list_length(own) > list_length(best_keys)))
		{
			best = i;
			best_unique = unique;
			best_keys = own;
			best_numbers = numbers;
		}
	}
	if (best_keys == NIL || (!best_unique && list_length(best_keys) < list_length(keys) && !compiler->amplifies))
		return false;
	arrangement->paths = list_make1(make_path(compiler, graph, best));
	ivm_arrangement_add_below(compiler, arrangement, (IvmPlanNode *) list_nth(join->inputs, best),
							  (List *) ivm_expression_renumber((Node *) best_keys, best + 1, 1), best_numbers);
	return true;
}
