/*-------------------------------------------------------------------------
 *
 * key.c
 *	  Unique keys of a plan's output.
 *
 * The row of a view is found by a key where the query has one, and the order of
 * a join's lookups prefers inputs that are looked up by one.  A key is derived
 * bottom-up through the plan tree:
 *
 *	- a table has the columns of its unique indexes, if these are valid, checked
 *	  at once, not partial, not over expressions, and their columns NOT NULL;
 *	  a column that a filter fixes to a constant need not be in the key;
 *	- grouping and DISTINCT yield a row a group;
 *	- a join whose one side is determined by the other (equalities bind a key of
 *	  it) has the other side's keys, any other join the keys of both together;
 *	- partitions have the unique indexes of their partitioned table together;
 *	- whatever passes rows on passes keys on, as far as their columns are there.
 *
 * A wrong key would make a view wrong, a missing one only slower: where it is not
 * certain, there is none.  Only equality that is the default for the type,
 * under the column's own collation, makes a key; so a unique index on the view's
 * columns says the same.  NULLs count as equal: a grouped column may have one.
 *
 * Memory: result lists in the current context.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relation.h"
#include "catalog/partition.h"
#include "catalog/pg_index.h"
#include "compile/compiler.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/typcache.h"

/* More keys, or wider ones, than this are of no use to anybody. */
#define MAX_KEYS 8
#define MAX_KEY_COLUMNS 32

/* An equality between one column of a side of a join and something of the other side. */
typedef struct SideEquality
{
	int			column;			/* of this side */
	Node	   *other;			/* over the other side alone */
	Oid			operator;
	Oid			collation;
} SideEquality;

typedef struct SideContext
{
	bool		outer;
	bool		inner;
	bool		others;
} SideContext;

Oid
ivm_type_equality(Oid type)
{
	return lookup_type_cache(type, TYPECACHE_EQ_OPR)->eq_opr;
}

/* Is the column compared by its type's default equality and its own collation? */
static bool
is_default_equality(Node *column, Oid operator, Oid collation)
{
	return OidIsValid(operator) &&
		operator == ivm_type_equality(exprType(column)) &&
		collation == exprCollation(column);
}

/*
 * Is the operator an equality that agrees with the column's type's default one:
 * can only one value of the column be equal to a given other value?
 */
static bool
is_compatible_equality(Oid operator, Oid collation, Var *column)
{
	Oid			equality = ivm_type_equality(column->vartype);
	Oid			left_type;
	Oid			right_type;

	if (!OidIsValid(equality) || collation != column->varcollid)
		return false;
	if (operator == equality)
		return true;
	op_input_types(operator, &left_type, &right_type);
	return (op_mergejoinable(operator, left_type) || op_hashjoinable(operator, left_type)) &&
		equality_ops_are_compatible(operator, equality);
}

static List *
add_key(List *keys, List *key)
{
	ListCell   *lc;

	if (list_length(keys) >= MAX_KEYS || list_length(key) > MAX_KEY_COLUMNS)
		return keys;
	foreach(lc, keys)
	{
		if (equal(lfirst(lc), key))
			return keys;
	}
	return lappend(keys, key);
}

/* Number of the output column that is the input's column, or 0. */
static int
find_output(List *targetlist, int varno, int column)
{
	ListCell   *lc;

	foreach(lc, targetlist)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);
		Node	   *node = (Node *) tle->expr;

		/* a change of name only: the same values, compared the same way */
		while (IsA(node, RelabelType) &&
			   exprCollation(node) == exprCollation((Node *) ((RelabelType *) node)->arg) &&
			   ivm_type_equality(exprType(node)) == ivm_type_equality(exprType((Node *) ((RelabelType *) node)->arg)))
			node = (Node *) ((RelabelType *) node)->arg;

		if (IsA(node, Var) && ((Var *) node)->varno == varno && ((Var *) node)->varattno == column)
			return tle->resno;
	}
	return 0;
}

/* Keys of the input that survive a projection. */
static List *
project_keys(List *keys, List *targetlist, int varno)
{
	List	   *result = NIL;
	ListCell   *lc;
	ListCell   *lc2;

	foreach(lc, keys)
	{
		List	   *key = NIL;
		bool		complete = true;

		foreach(lc2, (List *) lfirst(lc))
		{
			int			output = find_output(targetlist, varno, lfirst_int(lc2));

			if (output == 0)
			{
				complete = false;
				break;
			}
			key = lappend_int(key, output);
		}
		if (complete)
			result = add_key(result, key);
	}
	return result;
}

/* ---- tables ---- */

/* Columns of the relation's unique indexes; the primary key first, then the older ones first. */
static List *
relation_keys(Oid relid)
{
	Relation	relation = relation_open(relid, NoLock);
	List	   *indexes = list_copy(RelationGetIndexList(relation));
	List	   *keys = NIL;
	ListCell   *lc;

	list_sort(indexes, list_oid_cmp);

	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);
		Form_pg_index form = index->rd_index;
		List	   *key = NIL;
		bool		usable;

		usable = form->indisunique && form->indimmediate && form->indisvalid &&
			form->indisready && form->indislive &&
			RelationGetIndexPredicate(index) == NIL;

		for (int i = 0; usable && i < form->indnkeyatts; i++)
		{
			AttrNumber	attno = form->indkey.values[i];
			Form_pg_attribute attribute;
			Oid			equality;

			if (attno <= 0)
			{
				usable = false;
				break;
			}
			attribute = TupleDescAttr(RelationGetDescr(relation), attno - 1);
			equality = ivm_type_equality(attribute->atttypid);
			if (!attribute->attnotnull ||
				!OidIsValid(equality) ||
				!op_in_opfamily(equality, index->rd_opfamily[i]) ||
				index->rd_indcollation[i] != attribute->attcollation)
			{
				usable = false;
				break;
			}
			key = list_append_unique_int(key, attno);
		}

		if (usable)
		{
			if (form->indisprimary)
				keys = lcons(key, keys);
			else
				keys = lappend(keys, key);
		}
		index_close(index, NoLock);
	}

	relation_close(relation, NoLock);
	return keys;
}

/* Columns that the filter fixes to one value each. */
static Bitmapset *
fixed_columns(List *quals, Index varno)
{
	Bitmapset  *fixed = NULL;
	ListCell   *lc;

	foreach(lc, quals)
	{
		OpExpr	   *op = (OpExpr *) lfirst(lc);

		if (!IsA(op, OpExpr) || list_length(op->args) != 2)
			continue;
		for (int i = 0; i < 2; i++)
		{
			Var		   *var = (Var *) list_nth(op->args, i);
			Node	   *other = (Node *) list_nth(op->args, 1 - i);

			if (IsA(var, Var) && var->varno == varno && var->varattno > 0 && IsA(other, Const) &&
				is_compatible_equality(op->opno, op->inputcollid, var))
				fixed = bms_add_member(fixed, var->varattno);
		}
	}
	return fixed;
}

static List *
scan_keys(PlannedStmt *statement, Plan *plan)
{
	Index		varno = ((Scan *) plan)->scanrelid;
	Bitmapset  *fixed = fixed_columns(plan->qual, varno);
	List	   *keys = NIL;
	ListCell   *lc;
	ListCell   *lc2;

	foreach(lc, relation_keys(rt_fetch(varno, statement->rtable)->relid))
	{
		List	   *key = NIL;

		foreach(lc2, (List *) lfirst(lc))
		{
			if (!bms_is_member(lfirst_int(lc2), fixed))
				key = lappend_int(key, lfirst_int(lc2));
		}
		keys = add_key(keys, key);
	}
	return project_keys(keys, plan->targetlist, varno);
}

List *
ivm_common_ancestors(List *relids)
{
	List	   *common = NIL;
	ListCell   *lc;
	ListCell   *lc2;

	foreach(lc, relids)
	{
		List	   *ancestors;
		List	   *both = NIL;

		if (!get_rel_relispartition(lfirst_oid(lc)))
			return NIL;
		ancestors = get_partition_ancestors(lfirst_oid(lc));
		foreach(lc2, ancestors)
		{
			if (lc == list_head(relids) || list_member_oid(common, lfirst_oid(lc2)))
				both = lappend_oid(both, lfirst_oid(lc2));
		}
		common = both;
	}
	return common;
}

/*
 * Partitions of one table: its own unique indexes hold over all of them.  Not so
 * if a partition is read twice.
 */
static List *
partition_keys(PlannedStmt *statement, List *children)
{
	List	   *leaves = NIL;
	List	   *ancestors;
	List	   *keys = NIL;
	Oid			root;
	ListCell   *lc;
	ListCell   *lc2;
	ListCell   *lc3;

	foreach(lc, children)
	{
		Plan	   *child = (Plan *) lfirst(lc);
		Oid			relid;

		if (!IsA(child, SeqScan))
			return NIL;
		relid = rt_fetch(((Scan *) child)->scanrelid, statement->rtable)->relid;
		if (list_member_oid(leaves, relid))
			return NIL;
		leaves = lappend_oid(leaves, relid);
	}
	ancestors = ivm_common_ancestors(leaves);
	if (ancestors == NIL)
		return NIL;
	root = llast_oid(ancestors);

	foreach(lc, relation_keys(root))
	{
		List	   *key = NIL;
		bool		complete = true;

		foreach(lc2, (List *) lfirst(lc))
		{
			char	   *name = get_attname(root, lfirst_int(lc2), false);
			int			output = 0;

			foreach(lc3, children)
			{
				Plan	   *child = (Plan *) lfirst(lc3);
				Index		varno = ((Scan *) child)->scanrelid;
				int			column = get_attnum(rt_fetch(varno, statement->rtable)->relid, name);
				int			here = find_output(child->targetlist, varno, column);

				if (here == 0 || (output != 0 && here != output))
				{
					complete = false;
					break;
				}
				output = here;
			}
			if (!complete)
				break;
			key = lappend_int(key, output);
		}
		if (complete)
			keys = add_key(keys, key);
	}
	return keys;
}

/* ---- joins ---- */

static bool
find_sides(Node *node, SideContext *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		if (((Var *) node)->varno == OUTER_VAR)
			context->outer = true;
		else if (((Var *) node)->varno == INNER_VAR)
			context->inner = true;
		return false;
	}
	if (IsA(node, Param) || IsA(node, SubPlan))
		context->others = true;
	return expression_tree_walker(node, find_sides, context);
}

/* The equalities that bind columns of one side (varno) to the other. */
static List *
side_equalities(List *clauses, int varno)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, clauses)
	{
		OpExpr	   *op = (OpExpr *) lfirst(lc);

		if (!IsA(op, OpExpr) || list_length(op->args) != 2)
			continue;
		for (int i = 0; i < 2; i++)
		{
			Var		   *var = (Var *) list_nth(op->args, i);
			Node	   *other = (Node *) list_nth(op->args, 1 - i);
			SideContext sides = {0};
			SideEquality *equality;

			while (IsA(var, RelabelType))
				var = (Var *) ((RelabelType *) var)->arg;
			if (!IsA(var, Var) || var->varno != varno)
				continue;
			find_sides(other, &sides);
			if (sides.others || (varno == OUTER_VAR ? sides.outer : sides.inner))
				continue;
			if (!is_compatible_equality(op->opno, op->inputcollid, var))
				continue;

			equality = (SideEquality *) palloc(sizeof(SideEquality));
			equality->column = var->varattno;
			equality->other = other;
			equality->operator = op->opno;
			equality->collation = op->inputcollid;
			result = lappend(result, equality);
		}
	}
	return result;
}

/* Do the equalities bind all columns of one of the keys? */
static bool
is_determined(List *keys, List *equalities)
{
	ListCell   *lc;
	ListCell   *lc2;
	ListCell   *lc3;

	foreach(lc, keys)
	{
		bool		bound = true;

		foreach(lc2, (List *) lfirst(lc))
		{
			bool		found = false;

			foreach(lc3, equalities)
			{
				if (((SideEquality *) lfirst(lc3))->column == lfirst_int(lc2))
					found = true;
			}
			if (!found)
				bound = false;
		}
		if (bound)
			return true;
	}
	return false;
}

/* Where the column of a side is in the output, itself or, in an inner join, something equal to it. */
static int
find_join_output(List *targetlist, int varno, int column, List *equalities)
{
	int			output = find_output(targetlist, varno, column);
	ListCell   *lc;

	if (output != 0)
		return output;
	foreach(lc, equalities)
	{
		SideEquality *equality = (SideEquality *) lfirst(lc);
		Var		   *other = (Var *) equality->other;

		if (equality->column != column || !IsA(other, Var) ||
			!is_default_equality((Node *) other, equality->operator, equality->collation))
			continue;
		output = find_output(targetlist, other->varno, other->varattno);
		if (output != 0)
			return output;
	}
	return 0;
}

/* A key made of one of each side (either may be missing), in output columns. */
static List *
add_join_key(List *keys, List *targetlist, List *outer_key, List *inner_key,
			 List *outer_equalities, List *inner_equalities)
{
	List	   *key = NIL;
	ListCell   *lc;

	foreach(lc, outer_key)
	{
		int			output = find_join_output(targetlist, OUTER_VAR, lfirst_int(lc), outer_equalities);

		if (output == 0)
			return keys;
		key = list_append_unique_int(key, output);
	}
	foreach(lc, inner_key)
	{
		int			output = find_join_output(targetlist, INNER_VAR, lfirst_int(lc), inner_equalities);

		if (output == 0)
			return keys;
		key = list_append_unique_int(key, output);
	}
	return add_key(keys, key);
}

static List *
join_keys(PlannedStmt *statement, Plan *plan)
{
	Join	   *join = (Join *) plan;
	List	   *clauses = list_concat_copy(join->joinqual, NIL);
	List	   *outer_keys;
	List	   *inner_keys;
	List	   *outer_equalities;
	List	   *inner_equalities;
	bool		outer_determined;
	bool		inner_determined;
	bool		is_inner = join->jointype == JOIN_INNER;
	List	   *keys = NIL;
	ListCell   *lc;
	ListCell   *lc2;

	if (IsA(plan, HashJoin))
		clauses = list_concat(clauses, ((HashJoin *) plan)->hashclauses);
	else if (IsA(plan, MergeJoin))
		clauses = list_concat(clauses, ((MergeJoin *) plan)->mergeclauses);
	if (is_inner)
		clauses = list_concat(clauses, plan->qual);

	outer_keys = ivm_plan_keys(statement, plan->lefttree);
	if (join->jointype == JOIN_SEMI || join->jointype == JOIN_ANTI)
		return project_keys(outer_keys, plan->targetlist, OUTER_VAR);
	if (!is_inner && join->jointype != JOIN_LEFT && join->jointype != JOIN_RIGHT)
		return NIL;
	inner_keys = ivm_plan_keys(statement, plan->righttree);

	outer_equalities = side_equalities(clauses, OUTER_VAR);
	inner_equalities = side_equalities(clauses, INNER_VAR);

	/* rows without a match determine nothing on the side that they lack */
	outer_determined = join->jointype != JOIN_LEFT && is_determined(outer_keys, outer_equalities);
	inner_determined = join->jointype != JOIN_RIGHT && is_determined(inner_keys, inner_equalities);
	if (!is_inner)
	{
		outer_equalities = NIL;
		inner_equalities = NIL;
	}

	if (inner_determined)
	{
		foreach(lc, outer_keys)
			keys = add_join_key(keys, plan->targetlist, (List *) lfirst(lc), NIL,
								outer_equalities, NIL);
	}
	if (outer_determined)
	{
		foreach(lc, inner_keys)
			keys = add_join_key(keys, plan->targetlist, NIL, (List *) lfirst(lc),
								NIL, inner_equalities);
	}
	if (!inner_determined && !outer_determined)
	{
		foreach(lc, outer_keys)
		{
			foreach(lc2, inner_keys)
				keys = add_join_key(keys, plan->targetlist, (List *) lfirst(lc), (List *) lfirst(lc2),
									outer_equalities, inner_equalities);
		}
	}
	return keys;
}

/* ---- grouping ---- */

List *
ivm_group_keys(List *input_targetlist, int ncolumns, AttrNumber *columns, Oid *operators, Oid *collations)
{
	List	   *key = NIL;

	for (int i = 0; i < ncolumns; i++)
	{
		TargetEntry *tle = (TargetEntry *) list_nth(input_targetlist, columns[i] - 1);

		if (!is_default_equality((Node *) tle->expr, operators[i], collations[i]))
			return NIL;
		key = list_append_unique_int(key, columns[i]);
	}
	return list_make1(key);
}

/* Keys of rows that are passed on as they are. */
static List *
identity_keys(PlannedStmt *statement, Plan *plan)
{
	if (plan->lefttree == NULL ||
		list_length(plan->lefttree->targetlist) != list_length(plan->targetlist))
		return NIL;
	return ivm_plan_keys(statement, plan->lefttree);
}

static bool
is_limit_one(Limit *limit)
{
	Const	   *count = (Const *) limit->limitCount;

	return count != NULL && IsA(count, Const) && !count->constisnull &&
		DatumGetInt64(count->constvalue) <= 1 && limit->limitOption == LIMIT_OPTION_COUNT;
}

List *
ivm_plan_keys(PlannedStmt *statement, Plan *plan)
{
	check_stack_depth();
	CHECK_FOR_INTERRUPTS();

	switch (nodeTag(plan))
	{
		case T_SeqScan:
			return scan_keys(statement, plan);

		case T_Append:
			return partition_keys(statement, ((Append *) plan)->appendplans);

		case T_Result:
			if (plan->lefttree == NULL)
				return list_make1(NIL);
			return project_keys(ivm_plan_keys(statement, plan->lefttree), plan->targetlist, OUTER_VAR);

		case T_WindowAgg:
			return project_keys(ivm_plan_keys(statement, plan->lefttree), plan->targetlist, OUTER_VAR);

		case T_SubqueryScan:
			return project_keys(ivm_plan_keys(statement, ((SubqueryScan *) plan)->subplan),
								plan->targetlist, ((Scan *) plan)->scanrelid);

		case T_CteScan:
			return project_keys(ivm_plan_keys(statement,
											  (Plan *) list_nth(statement->subplans, ((CteScan *) plan)->ctePlanId - 1)),
								plan->targetlist, ((Scan *) plan)->scanrelid);

		case T_Hash:
		case T_Material:
		case T_Memoize:
		case T_Sort:
		case T_IncrementalSort:
			return identity_keys(statement, plan);

		case T_Limit:
			if (is_limit_one((Limit *) plan))
				return list_make1(NIL);
			return identity_keys(statement, plan);

		case T_HashJoin:
		case T_NestLoop:
		case T_MergeJoin:
			return join_keys(statement, plan);

		case T_Agg:
			{
				Agg		   *agg = (Agg *) plan;

				if (agg->groupingSets != NIL || agg->chain != NIL)
					return NIL;
				if (agg->aggstrategy == AGG_PLAIN)
					return list_make1(NIL);
				return project_keys(ivm_group_keys(plan->lefttree->targetlist, agg->numCols,
												   agg->grpColIdx, agg->grpOperators, agg->grpCollations),
									plan->targetlist, OUTER_VAR);
			}

		case T_Group:
			{
				Group	   *group = (Group *) plan;

				return project_keys(ivm_group_keys(plan->lefttree->targetlist, group->numCols,
											   group->grpColIdx, group->grpOperators, group->grpCollations),
									plan->targetlist, OUTER_VAR);
			}

		case T_SetOp:
			return ivm_set_operation_keys(statement, plan);

		case T_Unique:
			{
				Unique	   *unique = (Unique *) plan;

				return ivm_group_keys(plan->lefttree->targetlist, unique->numCols,
								  unique->uniqColIdx, unique->uniqOperators, unique->uniqCollations);
			}

		default:
			return NIL;
	}
}
