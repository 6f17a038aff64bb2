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
 * The planner makes an inner join of many an IN or EXISTS: with the different values of the inner side, that is with
 * groups without aggregates.  Taken literally the groups would be kept.  But each row of the other side has one group at
 * most, and has it if it has a match among the rows that are grouped; so if nobody reads the groups'
 * columns but the equalities by which they are found, it is a semi join with those rows.  The same is true of a
 * join with a subquery that is DISTINCT.  Where equal values always look the same the columns may be read as
 * well: they are the other side's.
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
#include "plan/column.h"
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
reads_varno(Node *node, int *varno)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
		return ((Var *) node)->varno == *varno;
	return expression_tree_walker(node, reads_varno, varno);
}

/* The groups of a join with groups, while it is looked at. */
typedef struct Groups
{
	int			varno;			/* OUTER_VAR or INNER_VAR: which side they are */
	Plan	   *input;			/* whose rows are grouped */
	List	   *columns;		/* integer: by output column the column of the
								 * input that it is, 0 if it is none */
	int			ngroups;
	AttrNumber *group_columns;	/* of the input */
	Oid		   *operators;
	Oid		   *collations;
	Bitmapset  *bound;			/* columns of the input for which there is an
								 * equality */
	Node	  **equals;			/* by output column, from 1 on: what looks the
								 * same on the other side; NULL: unknown */
} Groups;

/* Fills in the columns; those of the plan's input that its target list passes on. */
static void
passed_columns(Groups *groups, Plan *plan, int varno)
{
	List	   *columns = NIL;
	ListCell   *lc;

	foreach(lc, plan->targetlist)
	{
		Var		   *var = (Var *) lfirst_node(TargetEntry, lc)->expr;

		columns = lappend_int(columns, IsA(var, Var) && var->varno == varno ? var->varattno : 0);
	}
	groups->columns = columns;
}

/* Are the rows of the plan groups, and nothing but these? */
static bool
find_groups(Groups *groups, Plan *plan)
{
	List	   *outputs = NIL;
	ListCell   *lc;

	plan = ivm_plan_skip_passive(plan);
	if (IsA(plan, SubqueryScan) && plan->qual == NIL && plan->initPlan == NIL)
	{
		passed_columns(groups, plan, ((Scan *) plan)->scanrelid);
		outputs = groups->columns;
		plan = ivm_plan_skip_passive(((SubqueryScan *) plan)->subplan);
	}
	if (plan->qual != NIL || plan->initPlan != NIL)
		return false;
	switch (nodeTag(plan))
	{
		case T_Agg:
			{
				Agg		   *agg = (Agg *) plan;

				if (agg->groupingSets != NIL || agg->chain != NIL || agg->aggsplit != AGGSPLIT_SIMPLE)
					return false;
				groups->ngroups = agg->numCols;
				groups->group_columns = agg->grpColIdx;
				groups->operators = agg->grpOperators;
				groups->collations = agg->grpCollations;
				break;
			}
		case T_Group:
			groups->ngroups = ((Group *) plan)->numCols;
			groups->group_columns = ((Group *) plan)->grpColIdx;
			groups->operators = ((Group *) plan)->grpOperators;
			groups->collations = ((Group *) plan)->grpCollations;
			break;
		case T_Unique:
			groups->ngroups = ((Unique *) plan)->numCols;
			groups->group_columns = ((Unique *) plan)->uniqColIdx;
			groups->operators = ((Unique *) plan)->uniqOperators;
			groups->collations = ((Unique *) plan)->uniqCollations;
			break;
		default:
			return false;
	}
	if (groups->ngroups == 0)
		return false;
	groups->input = plan->lefttree;
	passed_columns(groups, plan, OUTER_VAR);
	if (outputs != NIL)
	{
		List	   *columns = NIL;

		foreach(lc, outputs)
			columns = lappend_int(columns,
								  lfirst_int(lc) == 0 ? 0 : list_nth_int(groups->columns, lfirst_int(lc) - 1));
		groups->columns = columns;
	}
	groups->equals = (Node **) palloc0(sizeof(Node *) * (list_length(groups->columns) + 1));
	return true;
}

/* What the columns of the groups stand for, in the rows that are grouped. */
static Node *
input_mutator(Node *node, Groups *groups)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;
		int			column = var->varno != groups->varno || var->varattno <= 0 ? 0 :
		list_nth_int(groups->columns, var->varattno - 1);

		if (column == 0)
			return (Node *) copyObject(var);
		return (Node *) copyObject(list_nth_node(TargetEntry, ivm_plan_skip_passive(groups->input)->targetlist,
												 column - 1)->expr);
	}
	return expression_tree_mutator(node, input_mutator, groups);
}

/*
 * Which group it is that an expression computes once more: the planner groups by an expression,
 * and passes on what it reads.
 */
static int
group_of_expression(Groups *groups, Node *side, Oid operator, Oid collation)
{
	List	   *columns = ivm_plan_skip_passive(groups->input)->targetlist;
	Node	   *expression = ivm_strip_relabel(input_mutator(side, groups));

	for (int i = 0; i < groups->ngroups; i++)
	{
		Node	   *column = (Node *) list_nth_node(TargetEntry, columns, groups->group_columns[i] - 1)->expr;

		if (equal(ivm_strip_relabel(column), expression) &&
			groups->collations[i] == collation &&
			groups->operators[i] == ivm_equality_of_right(operator))
			return i;
	}
	return -1;
}

/* Which group it is, by number, that the side of an equality with this operator and collation is; -1 if none. */
static int
group_of(Groups *groups, Node *side, Oid operator, Oid collation)
{
	Var		   *var = (Var *) ivm_strip_relabel(side);

	if (!IsA(var, Var))
		return reads_varno(side, &groups->varno) ? group_of_expression(groups, side, operator, collation) : -1;
	if (var->varno != groups->varno || var->varattno <= 0)
		return -1;
	for (int i = 0; i < groups->ngroups; i++)
	{
		if (groups->group_columns[i] == list_nth_int(groups->columns, var->varattno - 1) &&
			groups->collations[i] == collation &&
			groups->operators[i] == ivm_equality_of_right(operator))
			return i;
	}
	return -1;
}

/* Takes note of a condition that reads the groups; false if it is anything but an equality of one of them. */
static bool
bind_group(Groups *groups, OpExpr *clause)
{
	if (!ivm_clause_is_equality((Node *) clause))
		return false;
	for (int i = 0; i < 2; i++)
	{
		Node	   *own = (Node *) list_nth(clause->args, i);
		Node	   *other = (Node *) list_nth(clause->args, 1 - i);
		Oid			operator = i == 1 ? clause->opno : get_commutator(clause->opno);
		int			group = group_of(groups, own, operator, clause->inputcollid);

		if (group < 0 || reads_varno(other, &groups->varno))
			continue;
		groups->bound = bms_add_member(groups->bound, groups->group_columns[group]);
		if (IsA(own, Var) && exprType(own) == exprType(other) &&
			ivm_equality_is_of_images(exprType(own), operator, clause->inputcollid))
			groups->equals[((Var *) own)->varattno] = other;
		return true;
	}
	return false;
}

/* Does it read a column of the groups for which there is nothing on the other side that looks the same? */
static bool
reads_group(Node *node, Groups *groups)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;

		return var->varno == groups->varno && groups->equals[var->varattno] == NULL;
	}
	return expression_tree_walker(node, reads_group, groups);
}

/* Is one side of the inner join groups that only say whether there is a match? */
static bool
is_uniquified(Plan *plan, Groups *groups)
{
	List	   *conditions = list_concat(ivm_match_conditions(plan), list_copy(plan->qual));

	for (int side = 0; side < 2; side++)
	{
		bool		bound = true;
		ListCell   *lc;

		memset(groups, 0, sizeof(Groups));
		groups->varno = side == 0 ? INNER_VAR : OUTER_VAR;
		if (!find_groups(groups, side == 0 ? plan->righttree : plan->lefttree))
			continue;
		foreach(lc, conditions)
		{
			if (reads_varno((Node *) lfirst(lc), &groups->varno) && !bind_group(groups, (OpExpr *) lfirst(lc)))
				bound = false;
		}
		for (int i = 0; i < groups->ngroups; i++)
			bound &= bms_is_member(groups->group_columns[i], groups->bound);
		if (bound && !reads_group((Node *) plan->targetlist, groups))
			return true;
	}
	return false;
}

bool
ivm_join_is_uniquified(Plan *plan)
{
	Groups		groups;

	return is_uniquified(plan, &groups);
}

/* What the groups' columns are: those of the rows that are grouped, or what looks the same on the kept side. */
static List *
group_columns(Groups *groups, IvmPlanNode *input, List *kept)
{
	List	   *columns = ivm_node_columns(input, 2);
	List	   *result = NIL;
	int			column = 0;
	ListCell   *lc;

	foreach(lc, groups->columns)
	{
		Node	   *node;

		column++;
		if (kept != NIL)
			node = groups->equals[column] == NULL ? NULL :
				ivm_expression_of_sides(groups->equals[column], kept, kept);
		else
			node = lfirst_int(lc) == 0 ? NULL : (Node *) list_nth(columns, lfirst_int(lc) - 1);
		result = lappend(result, node);
	}
	return result;
}

/* A semi join with the rows that are grouped. */
static IvmPlanNode *
translate_uniquified(IvmCompiler *compiler, Plan *plan, Groups *groups)
{
	bool		swapped = groups->varno == OUTER_VAR;
	List	   *conditions = list_concat(ivm_match_conditions(plan), list_copy(plan->qual));
	IvmPlanNode *kept = ivm_translate(compiler, ivm_plan_skip_passive(swapped ? plan->righttree : plan->lefttree));
	IvmPlanNode *other;
	IvmPlanNode *node;
	List	   *columns;
	List	   *rows;
	List	   *seen;

	if (kept == NULL)
		return NULL;
	other = ivm_translate(compiler, ivm_plan_skip_passive(groups->input));
	if (other == NULL)
		return NULL;
	columns = ivm_node_columns(kept, 1);
	rows = group_columns(groups, other, NIL);
	seen = group_columns(groups, other, columns);

	node = ivm_node_create(compiler, IVM_OUTER, plan);
	node->jointype = JOIN_SEMI;
	node->inputs = list_make2(kept, other);
	node->clauses = (List *) ivm_expression_of_sides((Node *) conditions, swapped ? rows : columns,
													 swapped ? columns : rows);
	node->tlist = (List *) ivm_expression_of_sides((Node *) ivm_tlist_expressions(plan->targetlist),
												   swapped ? seen : columns, swapped ? columns : seen);
	return clauses_can_group(compiler, node->clauses) ? node : NULL;
}

/*
 * The operator of a join node that asks for matches, its paths still to be made; NULL with no reason set if there is
 * no rule.
 */
IvmPlanNode *
ivm_translate_outer(IvmCompiler *compiler, Plan *plan)
{
	JoinType	jointype = ((Join *) plan)->jointype;
	bool		swapped = jointype == JOIN_RIGHT;
	int			second = 2;
	List	   *expressions = ivm_tlist_expressions(plan->targetlist);
	List	   *clauses = ivm_match_conditions(plan);
	IvmPlanNode *kept;
	IvmPlanNode *other;
	IvmPlanNode *node;
	List	   *outer;
	List	   *inner;
	Groups		groups;

	compiler->reason = NULL;
	if (IsA(plan, NestLoop) && ((NestLoop *) plan)->nestParams != NIL)
		return NULL;
	if (!ivm_expression_is_plain(compiler, (Node *) expressions) ||
		!ivm_expression_is_plain(compiler, (Node *) clauses) ||
		!ivm_expression_is_plain(compiler, (Node *) plan->qual))
		return NULL;
	if (jointype == JOIN_INNER && is_uniquified(plan, &groups))
		return translate_uniquified(compiler, plan, &groups);
	if (jointype != JOIN_LEFT && jointype != JOIN_RIGHT && jointype != JOIN_FULL &&
		jointype != JOIN_SEMI && jointype != JOIN_ANTI)
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
	if (jointype == JOIN_SEMI && (reads_varno((Node *) node->tlist, &second) || reads_varno((Node *) node->quals, &second)))
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

		/* rows of the other side that are alone have NULLs for their keys */
		if (arrangement->null_safe && (input == 1 || is_full))
			continue;
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
		if (list_length(own) < list_length(keys) && !compiler->amplifies &&
			!ivm_join_keys_are_unique(compiler, outer, input, own))
			continue;
		push_to_input(compiler, arrangement, input, own, numbers);
		return true;
	}
	return is_full && !arrangement->null_safe && push_merged(compiler, arrangement, keys);
}
