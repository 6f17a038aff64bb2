/*-------------------------------------------------------------------------
 *
 * outer.c
 *	  Joins in which it matters whether a row has a match: left, right, full,
 *	  semi and anti joins.
 *
 * Each is one operator with two inputs, the first of which is the side that is
 * kept: a right join is a left one with its sides swapped.  They are nested as the
 * planner nests them: moving inner joins through them, or them through each other, would have
 * to be proved for each case, and gains nothing, since lookups go down through all of them.
 *
 * The conditions that decide what matches (ON, and what the planner made of IN and EXISTS) are the clauses of the
 * node; what is tested of the rows that come out is its filter.
 *
 * Rows of it by a key are looked up without storing them:
 *
 *		a key of the kept side		its rows, each with its matches or alone
 *		a key of the other side		its rows, each with its matches.  Rows that are alone
 *									have NULL for the key, and nothing that is looked for equals that, as
 *									long as the key is NULL where all columns of its side are
 *		a full join, by a key of one side	as by a key of the kept one
 *		a full join, by merged keys (USING): COALESCE(left, right)
 *									the left side's rows by the left parts, and those of
 *									the right side's that are alone by the right ones, as long as what matches
 *									has no NULL in the left parts
 *
 * Memory: everything in the plan's context, which is current.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "compile/compiler.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/lsyscache.h"
#include "zset/key.h"

/* ---- translation ---- */

/* Rows that change are told apart by their key: two of one side have to be compared. */
static bool
clauses_can_group(IvmCompiler *compiler, List *clauses)
{
	ListCell   *lc;

	foreach(lc, clauses)
	{
		Node	   *clause = (Node *) lfirst(lc);

		if (ivm_clause_is_equality(clause) &&
			(!OidIsValid(ivm_equality_of_right(((OpExpr *) clause)->opno)) ||
			 !OidIsValid(ivm_equality_of_right(get_commutator(((OpExpr *) clause)->opno)))))
		{
			compiler->reason = ivm_reason(IVM_REASON_OUTER_JOIN,
										  "an outer join by an equality of two types that is not completed by one for each");
			return false;
		}
	}
	return true;
}

static bool
reads_second(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
		return ((Var *) node)->varno == 2;
	return expression_tree_walker(node, reads_second, context);
}

/* The operator of a join node that is not inner, its paths still to be made; NULL with no reason set if there is no rule. */
IvmPlanNode *
ivm_translate_outer(IvmCompiler *compiler, Plan *plan)
{
	JoinType	jointype = ((Join *) plan)->jointype;
	bool		swapped = jointype == JOIN_RIGHT;
	List	   *expressions = ivm_tlist_expressions(plan->targetlist);
	List	   *clauses = ivm_match_conditions(plan);
	IvmPlanNode *kept;
	IvmPlanNode *other;
	IvmPlanNode *node;
	List	   *outer;
	List	   *inner;

	compiler->reason = NULL;
	if (IsA(plan, NestLoop) && ((NestLoop *) plan)->nestParams != NIL)
		return NULL;
	if (jointype != JOIN_LEFT && jointype != JOIN_RIGHT && jointype != JOIN_FULL &&
		jointype != JOIN_SEMI && jointype != JOIN_ANTI)
		return NULL;
	if (!ivm_expression_is_plain(compiler, (Node *) expressions) ||
		!ivm_expression_is_plain(compiler, (Node *) clauses) ||
		!ivm_expression_is_plain(compiler, (Node *) plan->qual))
		return NULL;

	kept = ivm_translate(compiler, ivm_plan_skip_passive(swapped ? plan->righttree : plan->lefttree));
	if (kept == NULL)
		return NULL;
	other = ivm_translate(compiler, ivm_plan_skip_passive(swapped ? plan->lefttree : plan->righttree));
	if (other == NULL)
		return NULL;

	outer = swapped ? ivm_node_columns(other, 2) : ivm_node_columns(kept, 1);
	inner = swapped ? ivm_node_columns(kept, 1) : ivm_node_columns(other, 2);
	clauses = (List *) ivm_expression_of_sides((Node *) clauses, outer, inner);
	if (!clauses_can_group(compiler, clauses))
		return NULL;

	node = ivm_node_create(compiler, IVM_OUTER, plan);
	node->jointype = swapped ? JOIN_LEFT : jointype;
	node->inputs = list_make2(kept, other);
	node->clauses = clauses;
	node->tlist = (List *) ivm_expression_of_sides((Node *) expressions, outer, inner);
	node->quals = (List *) ivm_expression_of_sides((Node *) plan->qual, outer, inner);
	if (jointype == JOIN_SEMI && (reads_second((Node *) node->tlist, NULL) || reads_second((Node *) node->quals, NULL)))
	{
		compiler->reason = ivm_reason(IVM_REASON_SEMI_JOIN, "a semi-join that shows what it matches");
		return NULL;
	}
	return node;
}

/* ---- looking up its rows ---- */

/* Which inputs the expression reads: one of these, or both. */
static int
input_of(Node *expression)
{
	Relids		inputs = pull_varnos(NULL, expression);
	int			input;

	return bms_get_singleton_member(inputs, &input) ? input - 1 : -1;
}

/* Is it NULL where all columns that it reads are? */
static bool
is_null_of_nulls(Node *node)
{
	ListCell   *lc;
	List	   *args;

	if (node == NULL)
		return false;
	switch (nodeTag(node))
	{
		case T_Var:
			return true;
		case T_Const:
			return ((Const *) node)->constisnull;
		case T_RelabelType:
			return is_null_of_nulls((Node *) ((RelabelType *) node)->arg);
		case T_CoerceViaIO:
			return is_null_of_nulls((Node *) ((CoerceViaIO *) node)->arg);
		case T_CoalesceExpr:
			foreach(lc, ((CoalesceExpr *) node)->args)
			{
				if (!is_null_of_nulls((Node *) lfirst(lc)))
					return false;
			}
			return true;
		case T_FuncExpr:
			if (!func_strict(((FuncExpr *) node)->funcid))
				return false;
			args = ((FuncExpr *) node)->args;
			break;
		case T_OpExpr:
			if (!op_strict(((OpExpr *) node)->opno))
				return false;
			args = ((OpExpr *) node)->args;
			break;
		default:
			return false;
	}
	foreach(lc, args)
	{
		if (is_null_of_nulls((Node *) lfirst(lc)))
			return true;
	}
	return false;
}

/* Without conversions that PostgreSQL itself puts in, none of which makes NULL of anything else. */
static Node *
strip_conversions(Node *node)
{
	for (;;)
	{
		if (IsA(node, RelabelType))
			node = (Node *) ((RelabelType *) node)->arg;
		else if (IsA(node, FuncExpr) && ((FuncExpr *) node)->funcformat == COERCE_IMPLICIT_CAST &&
				 ((FuncExpr *) node)->funcid < FirstNormalObjectId &&
				 list_length(((FuncExpr *) node)->args) == 1)
			node = (Node *) linitial(((FuncExpr *) node)->args);
		else
			return node;
	}
}

/* Does a clause say that the expression over the first input is not NULL in what matches? */
static bool
is_not_null_in_matches(IvmPlanNode *outer, Node *expression)
{
	ListCell   *lc;

	expression = strip_conversions(expression);
	foreach(lc, outer->clauses)
	{
		OpExpr	   *op = (OpExpr *) lfirst(lc);

		if (ivm_clause_is_equality((Node *) op) &&
			(equal(strip_conversions((Node *) linitial(op->args)), expression) ||
			 equal(strip_conversions((Node *) lsecond(op->args)), expression)))
			return true;
	}
	return false;
}

/* Takes a merged key apart; false if it is none that can be looked up. */
static bool
take_apart(IvmPlanNode *outer, Node *key, Node **left, Node **right)
{
	CoalesceExpr *merged = (CoalesceExpr *) key;

	if (!IsA(merged, CoalesceExpr) || list_length(merged->args) != 2)
		return false;
	*left = (Node *) linitial(merged->args);
	*right = (Node *) lsecond(merged->args);
	return input_of(*left) == 0 && input_of(*right) == 1 &&
		is_null_of_nulls(*left) && is_null_of_nulls(*right) &&
		is_not_null_in_matches(outer, *left);
}

/* By the keys (with these numbers) over one input. */
static void
push_to_input(IvmCompiler *compiler, IvmArrangement *arrangement, int input, List *keys, List *numbers)
{
	IvmPlanNode *outer = arrangement->input;

	ivm_arrangement_add_below(compiler, arrangement, (IvmPlanNode *) list_nth(outer->inputs, input),
							  (List *) ivm_expression_renumber((Node *) keys, input + 1, 1), numbers);
	arrangement->paths = lappend(arrangement->paths, list_nth(outer->paths, input));
}

static bool
push_merged(IvmCompiler *compiler, IvmArrangement *arrangement, List *keys)
{
	List	   *lefts = NIL;
	List	   *rights = NIL;
	List	   *numbers = NIL;
	ListCell   *lc;

	foreach(lc, keys)
	{
		Node	   *left;
		Node	   *right;

		if (!take_apart(arrangement->input, (Node *) lfirst(lc), &left, &right))
			return false;
		lefts = lappend(lefts, left);
		rights = lappend(rights, right);
		numbers = lappend_int(numbers, list_length(numbers));
	}
	push_to_input(compiler, arrangement, 0, lefts, numbers);
	push_to_input(compiler, arrangement, 1, rights, numbers);
	return true;
}

/*
 * The reader tests all its conditions, so keys that are no one side's can be left out.  But then one row of
 * that side at most must have the rest, or many might be read for few.
 */
bool
ivm_push_outer(IvmCompiler *compiler, IvmArrangement *arrangement)
{
	IvmPlanNode *outer = arrangement->input;
	bool		is_full = outer->jointype == JOIN_FULL;
	List	   *lists[1];
	List	   *keys;

	if (arrangement->keys == NIL)
		return false;
	lists[0] = outer->tlist;
	keys = (List *) ivm_expression_substitute((Node *) arrangement->keys, 1, lists);

	for (int input = 0; input < list_length(outer->paths); input++)
	{
		List	   *own = NIL;
		List	   *numbers = NIL;

		for (int i = 0; i < list_length(keys); i++)
		{
			Node	   *key = (Node *) list_nth(keys, i);

			if (input_of(key) != input || ((input == 1 || is_full) && !is_null_of_nulls(key)))
				continue;
			own = lappend(own, key);
			numbers = lappend_int(numbers, i);
		}
		if (own == NIL || (input == 1 && outer->jointype != JOIN_LEFT && !is_full))
			continue;
		if (list_length(own) < list_length(keys) && !ivm_join_keys_are_unique(compiler, outer, input, own))
			continue;
		push_to_input(compiler, arrangement, input, own, numbers);
		return true;
	}
	return is_full && push_merged(compiler, arrangement, keys);
}
