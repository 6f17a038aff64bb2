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
 * Ties go to the input that comes first.
 *
 * Equalities that follow from others (a = b, b = c) are used to find lookups
 * but not tested: the conditions they follow from are.
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

#include "compile/compiler.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "plan/plan_text.h"
#include "plan/column.h"
#include "utils/lsyscache.h"

/* An equality by which rows of an input can be looked up. */
typedef struct KeyClause
{
	int			input;			/* whose rows */
	Expr	   *key;			/* over that input, Vars of varno input + 1 */
	Expr	   *probe;			/* over other inputs */
	Bitmapset  *probe_inputs;
	Oid			operator;		/* probe = key */
	Oid			collation;
} KeyClause;

/* What choosing a path needs to know about a join. */
typedef struct JoinGraph
{
	IvmPlanNode *join;
	int			ninputs;
	Bitmapset **clause_inputs;	/* by clause: what must be bound before it is
								 * tested */
	List	   *key_clauses;	/* KeyClause */
	List	  **unique_keys;	/* by input: lists of integer lists */
} JoinGraph;

typedef struct InputsContext
{
	Bitmapset  *inputs;
} InputsContext;

/* How good a lookup is; lower is better. */
typedef enum LookupRank
{
	LOOKUP_UNIQUE,
	LOOKUP_FOREIGN_KEY,
	LOOKUP_EQUALITY,
	LOOKUP_ALL
} LookupRank;

/* ---- the join graph ---- */

static bool
find_inputs(Node *node, InputsContext *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		context->inputs = bms_add_member(context->inputs, ((Var *) node)->varno - 1);
		return false;
	}
	return expression_tree_walker(node, find_inputs, context);
}

static Bitmapset *
expression_inputs(Node *node)
{
	InputsContext context = {NULL};

	find_inputs(node, &context);
	return context.inputs;
}

static void
add_key_clause(JoinGraph *graph, Expr *key, Expr *probe, Oid operator, Oid collation)
{
	Bitmapset  *key_inputs = expression_inputs((Node *) key);
	Bitmapset  *probe_inputs = expression_inputs((Node *) probe);
	KeyClause  *clause;
	int			input;
	ListCell   *lc;

	if (!OidIsValid(operator) ||
		!bms_get_singleton_member(key_inputs, &input) ||
		bms_is_empty(probe_inputs) ||
		bms_is_member(input, probe_inputs))
		return;

	foreach(lc, graph->key_clauses)
	{
		clause = (KeyClause *) lfirst(lc);
		if (clause->input == input && clause->operator == operator &&
			clause->collation == collation &&
			equal(clause->key, key) && equal(clause->probe, probe))
			return;
	}

	clause = (KeyClause *) palloc(sizeof(KeyClause));
	clause->input = input;
	clause->key = key;
	clause->probe = probe;
	clause->probe_inputs = probe_inputs;
	clause->operator = operator;
	clause->collation = collation;
	graph->key_clauses = lappend(graph->key_clauses, clause);
}

/* Is it an equality that a lookup can use: symmetric, a member of an operator family, and false for NULL? */
static bool
is_equality(Node *node, OpExpr **equality)
{
	OpExpr	   *op = (OpExpr *) node;
	Oid			left_type;

	if (!IsA(op, OpExpr) || list_length(op->args) != 2 || op->opretset)
		return false;
	left_type = exprType((Node *) linitial(op->args));
	if (!op_hashjoinable(op->opno, left_type) && !op_mergejoinable(op->opno, left_type))
		return false;
	if (!OidIsValid(get_commutator(op->opno)))
		return false;
	if (!op_strict(op->opno))
		return false;
	*equality = op;
	return true;
}

/*
 * Collects the lookups that the conditions allow, those by equalities that
 * follow from two others included.  Only equalities of one operator with equal
 * types on both sides are chained: there, transitivity needs no thought.
 */
static void
collect_key_clauses(JoinGraph *graph)
{
	List	   *chained = NIL;	/* OpExpr */
	List	   *todo = NIL;
	ListCell   *lc;
	ListCell   *lc2;

	foreach(lc, graph->join->clauses)
	{
		OpExpr	   *op;

		if (!is_equality((Node *) lfirst(lc), &op))
			continue;
		add_key_clause(graph, (Expr *) linitial(op->args), (Expr *) lsecond(op->args),
					   get_commutator(op->opno), op->inputcollid);
		add_key_clause(graph, (Expr *) lsecond(op->args), (Expr *) linitial(op->args),
					   op->opno, op->inputcollid);
		if (get_commutator(op->opno) == op->opno)
			todo = lappend(todo, op);
	}

	/*
	 * each new one against all before it; the list ends when nothing new
	 * follows
	 */
	foreach(lc, todo)
	{
		OpExpr	   *new = (OpExpr *) lfirst(lc);
		bool		known = false;

		CHECK_FOR_INTERRUPTS();

		foreach(lc2, chained)
		{
			OpExpr	   *old = (OpExpr *) lfirst(lc2);

			if (old->opno == new->opno && old->inputcollid == new->inputcollid &&
				((equal(linitial(old->args), linitial(new->args)) &&
				  equal(lsecond(old->args), lsecond(new->args))) ||
				 (equal(linitial(old->args), lsecond(new->args)) &&
				  equal(lsecond(old->args), linitial(new->args)))))
				known = true;
		}
		if (known || list_length(chained) >= 200)
			continue;

		foreach(lc2, chained)
		{
			OpExpr	   *old = (OpExpr *) lfirst(lc2);

			if (old->opno != new->opno || old->inputcollid != new->inputcollid)
				continue;
			for (int i = 0; i < 2; i++)
			{
				for (int j = 0; j < 2; j++)
				{
					OpExpr	   *derived;

					if (!equal(list_nth(old->args, i), list_nth(new->args, j)) ||
						equal(list_nth(old->args, 1 - i), list_nth(new->args, 1 - j)))
						continue;
					derived = copyObject(new);
					derived->args = list_make2(copyObject(list_nth(old->args, 1 - i)),
											   copyObject(list_nth(new->args, 1 - j)));
					todo = lappend(todo, derived);
				}
			}
		}
		chained = lappend(chained, new);

		add_key_clause(graph, (Expr *) linitial(new->args), (Expr *) lsecond(new->args),
					   new->opno, new->inputcollid);
		add_key_clause(graph, (Expr *) lsecond(new->args), (Expr *) linitial(new->args),
					   new->opno, new->inputcollid);
	}
}

/*
 * Do the equalities bind every column of a unique key of "input"?  "of_keys":
 * look at the key sides, else at the probe sides.
 */
static bool
covers_unique_key(JoinGraph *graph, int input, List *clauses, bool of_keys)
{
	ListCell   *lc;
	ListCell   *lc2;
	ListCell   *lc3;

	foreach(lc, graph->unique_keys[input])
	{
		bool		covered = true;

		foreach(lc2, (List *) lfirst(lc))
		{
			bool		found = false;

			foreach(lc3, clauses)
			{
				KeyClause  *clause = (KeyClause *) lfirst(lc3);
				Var		   *var = (Var *) ivm_strip_relabel((Node *) (of_keys ? clause->key : clause->probe));

				if (IsA(var, Var) && var->varno == input + 1 && var->varattno == lfirst_int(lc2))
					found = true;
			}
			if (!found)
			{
				covered = false;
				break;
			}
		}
		if (covered)
			return true;
	}
	return false;
}

/* The lookups of "input" that can be made when "bound" is, one for each key. */
static List *
usable_key_clauses(JoinGraph *graph, int input, Bitmapset *bound)
{
	List	   *result = NIL;
	ListCell   *lc;
	ListCell   *lc2;

	foreach(lc, graph->key_clauses)
	{
		KeyClause  *clause = (KeyClause *) lfirst(lc);
		bool		have_key = false;

		if (clause->input != input || !bms_is_subset(clause->probe_inputs, bound))
			continue;
		foreach(lc2, result)
		{
			if (equal(((KeyClause *) lfirst(lc2))->key, clause->key))
				have_key = true;
		}
		if (!have_key)
			result = lappend(result, clause);
	}
	return result;
}

static LookupRank
rank_lookup(JoinGraph *graph, int input, Bitmapset *bound, List *clauses)
{
	int			other = -1;

	if (covers_unique_key(graph, input, clauses, true))
		return LOOKUP_UNIQUE;
	if (clauses == NIL)
		return LOOKUP_ALL;
	while ((other = bms_next_member(bound, other)) >= 0)
	{
		if (graph->unique_keys[other] != NIL && covers_unique_key(graph, other, clauses, false))
			return LOOKUP_FOREIGN_KEY;
	}
	return LOOKUP_EQUALITY;
}

/* ---- paths ---- */

/* Sorts by the key's text, so that equal sets of keys are equal lists. */
static int
compare_key_clauses(const ListCell *a, const ListCell *b)
{
	KeyClause  *left = (KeyClause *) lfirst(a);
	KeyClause  *right = (KeyClause *) lfirst(b);

	return strcmp(ivm_expression_text((Node *) left->key),
				  ivm_expression_text((Node *) right->key));
}

/* Conditions that can be tested once "bound" is, and could not when "before" was. */
static List *
new_conditions(IvmCompiler *compiler, JoinGraph *graph, Bitmapset *bound, Bitmapset *before)
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
make_stage(IvmCompiler *compiler, JoinGraph *graph, int input, List *clauses, List *quals)
{
	IvmJoinStage *stage = (IvmJoinStage *) palloc0(sizeof(IvmJoinStage));
	List	   *keys = NIL;
	List	   *operators = NIL;
	List	   *collations = NIL;
	ListCell   *lc;

	list_sort(clauses, compare_key_clauses);
	foreach(lc, clauses)
	{
		KeyClause  *clause = (KeyClause *) lfirst(lc);

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
make_path(IvmCompiler *compiler, JoinGraph *graph, int start)
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
		Bitmapset  *now_bound;

		for (int i = 0; i < graph->ninputs; i++)
		{
			List	   *clauses;
			LookupRank	rank;

			if (bms_is_member(i, bound))
				continue;
			clauses = usable_key_clauses(graph, i, bound);
			rank = rank_lookup(graph, i, bound, clauses);
			if (best < 0 || rank < best_rank)
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

static JoinGraph *
make_graph(IvmCompiler *compiler, IvmPlanNode *join)
{
	JoinGraph  *graph = (JoinGraph *) palloc0(sizeof(JoinGraph));
	ListCell   *lc;
	int			i = 0;

	graph->join = join;
	graph->ninputs = list_length(join->inputs);

	graph->clause_inputs = (Bitmapset **) palloc0(sizeof(Bitmapset *) * (list_length(join->clauses) + 1));
	foreach(lc, join->clauses)
	{
		if (compiler->has_barrier && contain_leaked_vars((Node *) lfirst(lc)))
			graph->clause_inputs[i++] = bms_add_range(NULL, 0, graph->ninputs - 1);
		else
			graph->clause_inputs[i++] = expression_inputs((Node *) lfirst(lc));
	}

	graph->unique_keys = (List **) palloc0(sizeof(List *) * graph->ninputs);
	i = 0;
	foreach(lc, join->inputs)
		graph->unique_keys[i++] = ivm_plan_keys(compiler->statement, ((IvmPlanNode *) lfirst(lc))->plan);

	collect_key_clauses(graph);
	return graph;
}

bool
ivm_clause_is_equality(Node *clause)
{
	OpExpr	   *op;

	return is_equality(clause, &op);
}

/*
 * Makes the paths of a join, and the arrangements that they need.  Called when
 * the tree is final and its nodes are numbered.
 */
void
ivm_join_make_paths(IvmCompiler *compiler, IvmPlanNode *join)
{
	JoinGraph  *graph = make_graph(compiler, join);
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
keys_are_unique(JoinGraph *graph, int input, List *keys)
{
	List	   *clauses = NIL;
	ListCell   *lc;

	foreach(lc, keys)
	{
		KeyClause  *clause = (KeyClause *) palloc0(sizeof(KeyClause));

		clause->key = (Expr *) lfirst(lc);
		clauses = lappend(clauses, clause);
	}
	return covers_unique_key(graph, input, clauses, true);
}

/* Is the clause one of the equalities that the input is looked up by? */
static bool
is_key_of_stage(Node *clause, IvmJoinStage *stage, int input)
{
	OpExpr	   *op;
	ListCell   *lc;
	ListCell   *lc2;
	int			i = 0;

	if (!is_equality(clause, &op))
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
			Bitmapset  *inputs = expression_inputs(key);

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
	JoinGraph  *graph = make_graph(compiler, outer);
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
	return keys_are_unique(make_graph(compiler, join), input, keys);
}

/* ---- looking up the join's own rows ---- */

/*
 * The key as an expression over one input alone: as it is, or as an equality of the join says that it is
 * equal to one.  NULL if there is none.  Only an equality of the very operator that the key is looked up by counts.
 */
static Expr *
key_of_input(JoinGraph *graph, Expr *key, Oid operator, Oid collation, int input)
{
	Bitmapset  *inputs = expression_inputs((Node *) key);
	ListCell   *lc;

	if (bms_membership(inputs) == BMS_SINGLETON && bms_is_member(input, inputs))
		return key;
	foreach(lc, graph->key_clauses)
	{
		KeyClause  *clause = (KeyClause *) lfirst(lc);

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
	JoinGraph  *graph;
	List	   *lists[1];
	List	   *keys;
	int			best = -1;
	bool		best_unique = false;
	List	   *best_keys = NIL;
	List	   *best_numbers = NIL;

	if (arrangement->keys == NIL)
		return false;
	graph = make_graph(compiler, join);
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
	if (!best_unique && list_length(best_keys) < list_length(keys))
		return false;
	arrangement->paths = list_make1(make_path(compiler, graph, best));
	ivm_arrangement_add_below(compiler, arrangement, (IvmPlanNode *) list_nth(join->inputs, best),
							  (List *) ivm_expression_renumber((Node *) best_keys, best + 1, 1), best_numbers);
	return true;
}
