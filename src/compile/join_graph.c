/*-------------------------------------------------------------------------
 *
 * join_graph.c
 *	  What choosing the paths of a join needs to know about it.
 *
 * By which equalities the rows of each input can be looked up, which of these lookups find one
 * row at most, and how many rows the inputs' filters let pass.
 *
 * Equalities that follow from others (a = b, b = c) are used to find lookups
 * but not tested: the conditions they follow from are.
 *
 * Memory: everything in the current context.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "compile/join_graph.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "plan/column.h"
#include "utils/lsyscache.h"

typedef struct InputsContext
{
	Bitmapset  *inputs;
} InputsContext;

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

Bitmapset *
ivm_join_expression_inputs(Node *node)
{
	InputsContext context = {NULL};

	find_inputs(node, &context);
	return context.inputs;
}

static void
add_key_clause(IvmJoinGraph *graph, Expr *key, Expr *probe, Oid operator, Oid collation)
{
	Bitmapset  *key_inputs = ivm_join_expression_inputs((Node *) key);
	Bitmapset  *probe_inputs = ivm_join_expression_inputs((Node *) probe);
	IvmKeyClause *clause;
	int			input;
	ListCell   *lc;

	if (!OidIsValid(operator) ||
		!bms_get_singleton_member(key_inputs, &input) ||
		bms_is_empty(probe_inputs) ||
		bms_is_member(input, probe_inputs))
		return;

	foreach(lc, graph->key_clauses)
	{
		clause = (IvmKeyClause *) lfirst(lc);
		if (clause->input == input && clause->operator == operator &&
			clause->collation == collation &&
			equal(clause->key, key) && equal(clause->probe, probe))
			return;
	}

	clause = (IvmKeyClause *) palloc(sizeof(IvmKeyClause));
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
collect_key_clauses(IvmJoinGraph *graph)
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
bool
ivm_join_covers_unique_key(IvmJoinGraph *graph, int input, List *clauses, bool of_keys)
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
				IvmKeyClause *clause = (IvmKeyClause *) lfirst(lc3);
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
List *
ivm_join_usable_keys(IvmJoinGraph *graph, int input, Bitmapset *bound)
{
	List	   *result = NIL;
	ListCell   *lc;
	ListCell   *lc2;

	foreach(lc, graph->key_clauses)
	{
		IvmKeyClause *clause = (IvmKeyClause *) lfirst(lc);
		bool		have_key = false;

		if (clause->input != input || !bms_is_subset(clause->probe_inputs, bound))
			continue;
		foreach(lc2, result)
		{
			if (equal(((IvmKeyClause *) lfirst(lc2))->key, clause->key))
				have_key = true;
		}
		if (!have_key)
			result = lappend(result, clause);
	}
	return result;
}

IvmJoinGraph *
ivm_join_graph_make(IvmCompiler *compiler, IvmPlanNode *join)
{
	IvmJoinGraph *graph = (IvmJoinGraph *) palloc0(sizeof(IvmJoinGraph));
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
			graph->clause_inputs[i++] = ivm_join_expression_inputs((Node *) lfirst(lc));
	}

	graph->unique_keys = (List **) palloc0(sizeof(List *) * graph->ninputs);
	graph->passing = (double *) palloc(sizeof(double) * graph->ninputs);
	i = 0;
	foreach(lc, join->inputs)
	{
		IvmPlanNode *input = (IvmPlanNode *) lfirst(lc);

		graph->unique_keys[i] = ivm_plan_keys(compiler->statement, input->plan);
		graph->passing[i] = ivm_planned_share(input);
		graph->filtered |= graph->passing[i] < 1;
		i++;
	}

	collect_key_clauses(graph);
	return graph;
}

bool
ivm_clause_is_equality(Node *clause)
{
	OpExpr	   *op;

	return is_equality(clause, &op);
}

int
ivm_join_graph_most_selective(IvmJoinGraph *graph, Bitmapset *bound)
{
	int			n = graph->ninputs;
	bool	   *is_bound;
	bool	   *single;

	if (!graph->filtered)
		return -1;
	if (graph->leads == NULL)
	{
		graph->leads = (bool *) palloc(sizeof(bool) * n * n);
		for (int i = 0; i < n * n; i++)
		{
			List	   *clauses = ivm_join_usable_keys(graph, i % n, bms_make_singleton(i / n));

			graph->leads[i] = i / n != i % n && ivm_join_covers_unique_key(graph, i % n, clauses, true);
		}
	}
	is_bound = (bool *) palloc(sizeof(bool) * n);
	single = (bool *) palloc(sizeof(bool) * n);
	for (int i = 0; i < n; i++)
	{
		is_bound[i] = bms_is_member(i, bound);
		single[i] = !is_bound[i] && ivm_join_covers_unique_key(graph, i, ivm_join_usable_keys(graph, i, bound), true);
	}
	return ivm_join_most_selective(n, graph->passing, is_bound, single, graph->leads);
}
