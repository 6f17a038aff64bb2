/*-------------------------------------------------------------------------
 *
 * group_rows.c
 *	  Where an aggregate finds the rows of its groups, and whether it keeps anything but those.
 *
 * Calls that need the rows of a group look them up by the group columns; min and max look up the next value in
 * an ordered arrangement, and so do percentiles, unless the statistics say that groups have few rows, which base
 * tables have.
 *
 * An aggregate is *keyed* if it stores nothing: what a group shows is computed from its rows, the new row from what a
 * lookup finds, and the old one from that minus the batch's delta (dataflow/aggregate_keyed.c).  That is so where
 *
 *	- the rows of a group are found in base tables by their indexes, or through operators that store nothing for it;
 *	- of equal group columns all look the same: else it would be history that says which of them are shown;
 *	- there are no streams of distinct values, which keep what they need themselves;
 *	- by the statistics there are few rows in a group.
 *
 * Statistics are asked once, when the contents are made.  The answer stands in the plan's text, with the figure it
 * rests on, and whoever compiles for contents that are there reads it from the text that they were made by.  Only a
 * choice is told: where rows cannot be looked up so, there is none.
 *
 * Memory: everything in the plan's context, which is current.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/stratnum.h"
#include "catalog/pg_operator_d.h"
#include "catalog/pg_type_d.h"
#include "compile/compiler.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "plan/column.h"
#include "plan/order_key.h"
#include "plan/plan_text.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "zset/key.h"

/* Rows of a group at most, and rows that are read to find them, for nothing to be stored. */
#define MOST_GROUP_ROWS	64
#define MOST_READ_ROWS	256

/* By the statistics: a percentile of a group with so many rows at most is computed from all of them. */
#define MOST_REPLAYED_ROWS	1000

typedef struct RowKey
{
	Var		   *key;
	char	   *text;
	int			number;
} RowKey;

static int
compare_row_keys(const ListCell *a, const ListCell *b)
{
	return strcmp(((RowKey *) lfirst(a))->text, ((RowKey *) lfirst(b))->text);
}

/* The argument where the call's filter lets it pass, else NULL. */
static Expr *
filtered_argument(Aggref *aggref)
{
	Expr	   *arg = linitial_node(TargetEntry, aggref->args)->expr;
	CaseExpr   *result;
	CaseWhen   *when;

	if (aggref->aggfilter == NULL)
		return arg;
	when = makeNode(CaseWhen);
	when->expr = aggref->aggfilter;
	when->result = arg;
	when->location = -1;
	result = makeNode(CaseExpr);
	result->casetype = exprType((Node *) arg);
	result->casecollid = exprCollation((Node *) arg);
	result->args = list_make1(when);
	result->defresult = (Expr *) makeNullConst(result->casetype, exprTypmod((Node *) arg), result->casecollid);
	result->location = -1;
	return (Expr *) result;
}

/* ivm.row_hash of the value as a row: of equal values that look different it says which comes first. */
static IvmOrderKey *
order_of_images(Expr *value)
{
	IvmOrderKey *key = (IvmOrderKey *) palloc0(sizeof(IvmOrderKey));

	key->expr = ivm_row_hash_expression(list_make1(value));
	key->sort_operator = Int8LessOperator;
	return key;
}

/* In which order the values of a call are one end of which it gives. */
static List *
extreme_order(IvmAggregateCall *call)
{
	Aggref	   *aggref = call->shown != NULL ? call->shown : call->aggref;
	IvmOrderKey *key = ivm_order_of_extreme(aggref, call->sort_operator, &call->backward);
	Oid			family;
	Oid			type;
	int16		strategy;

	key->expr = filtered_argument(aggref);
	(void) get_ordering_op_properties(key->sort_operator, &family, &type, &strategy);
	call->varies = !ivm_equality_is_of_images(ivm_order_key_type(key),
											  get_opfamily_member(family, type, type, BTEqualStrategyNumber),
											  key->collation);
	return call->varies ? list_make2(key, order_of_images(key->expr)) : list_make1(key);
}

/* In which order a percentile has its values. */
static IvmOrderKey *
order_of_rank(IvmAggregateCall *call)
{
	Aggref	   *aggref = call->shown != NULL ? call->shown : call->aggref;
	SortGroupClause *clause = linitial_node(SortGroupClause, aggref->aggorder);
	IvmOrderKey *key = (IvmOrderKey *) palloc0(sizeof(IvmOrderKey));

	key->expr = filtered_argument(aggref);
	key->sort_operator = clause->sortop;
	key->collation = exprCollation((Node *) linitial_node(TargetEntry, aggref->args)->expr);
	key->nulls_first = clause->nulls_first;
	return key;
}

/* Where the next extreme value is found when one goes. */
static void
make_extremes(IvmCompiler *compiler, IvmPlanNode *aggregate, IvmAggregateCall *call)
{
	IvmPlanNode *input = (IvmPlanNode *) linitial(aggregate->inputs);
	List	   *order = extreme_order(call);

	/* of the rows themselves, without the streams beside them (distinct_calls.c) */
	if (call->shown != NULL)
		input = (IvmPlanNode *) linitial(((IvmPlanNode *) linitial(input->inputs))->inputs);
	call->extremes = ivm_arrangement_make_ordered(compiler, input,
												  ivm_columns_of(input->desc, aggregate->group_columns),
												  aggregate->group_operators,
												  aggregate->group_collations, order, true, NULL);
}

/* Is it a percentile, whose values can be kept in their order? */
static bool
can_be_rank(IvmAggregateCall *call)
{
	IvmOrderKey *key;
	bool		descending;

	if (call->kind != IVM_ACC_REPLAY)
		return false;
	switch (call->aggref->aggfnoid)
	{
		case F_PERCENTILE_CONT_FLOAT8_FLOAT8:
		case F_PERCENTILE_CONT__FLOAT8_FLOAT8:
		case F_PERCENTILE_CONT_FLOAT8_INTERVAL:
		case F_PERCENTILE_CONT__FLOAT8_INTERVAL:
		case F_PERCENTILE_DISC_FLOAT8_ANYELEMENT:
		case F_PERCENTILE_DISC__FLOAT8_ANYELEMENT:
			break;
		default:
			return false;
	}
	key = order_of_rank(call);
	return ivm_order_key_can_be_stored(key) && OidIsValid(ivm_order_key_class(key, &descending));
}

/* Where its values are found. */
static void
make_rank(IvmCompiler *compiler, IvmPlanNode *aggregate, IvmAggregateCall *call)
{
	IvmPlanNode *input = (IvmPlanNode *) linitial(aggregate->inputs);
	IvmOrderKey *key = order_of_rank(call);
	SortGroupClause *clause = linitial_node(SortGroupClause, call->aggref->aggorder);

	/* of the rows themselves, without the streams beside them (distinct_calls.c) */
	if (call->shown != NULL)
		input = (IvmPlanNode *) linitial(((IvmPlanNode *) linitial(input->inputs))->inputs);
	call->kind = IVM_ACC_RANK;
	call->varies = !ivm_equality_is_of_images(ivm_order_key_type(key), clause->eqop, key->collation);
	/* with the hash no table's index serves, where equal values would be in no order */
	call->extremes = ivm_arrangement_make_ordered(compiler, input,
												  ivm_columns_of(input->desc, aggregate->group_columns),
												  aggregate->group_operators, aggregate->group_collations,
												  list_make2(key, order_of_images(key->expr)), false, NULL);
}

/* The rows of "input" by the group columns; NULL or which of these keys alone, by their places. */
static IvmArrangement *
make_rows(IvmCompiler *compiler, IvmPlanNode *aggregate, IvmPlanNode *input, Bitmapset *places)
{
	List	   *row_keys = NIL;
	List	   *keys = NIL;
	List	   *operators = NIL;
	List	   *collations = NIL;
	ListCell   *lc;

	/* in canonical order, since arrangements are shared by their text */
	foreach(lc, aggregate->group_columns)
	{
		RowKey	   *row_key = (RowKey *) palloc(sizeof(RowKey));

		row_key->number = foreach_current_index(lc);
		row_key->key = ivm_column_of(input->desc, lfirst_int(lc));
		row_key->text = ivm_expression_text((Node *) row_key->key);
		row_keys = lappend(row_keys, row_key);
	}
	list_sort(row_keys, compare_row_keys);
	aggregate->row_keys = NIL;
	foreach(lc, row_keys)
	{
		RowKey	   *row_key = (RowKey *) lfirst(lc);

		if (places != NULL && !bms_is_member(foreach_current_index(lc), places))
			continue;
		keys = lappend(keys, row_key->key);
		operators = lappend_oid(operators, list_nth_oid(aggregate->group_operators, row_key->number));
		collations = lappend_oid(collations, list_nth_oid(aggregate->group_collations, row_key->number));
		aggregate->row_keys = lappend_int(aggregate->row_keys, row_key->number);
	}
	return ivm_arrangement_make(compiler, input, keys, operators, collations, true);
}

/* Do values of a column that are equal always look the same?  What has a length or a scale of its own is brought to it. */
static bool
looks_alike(Form_pg_attribute attribute, Oid operator, Oid collation)
{
	if (ivm_equality_is_of_images(attribute->atttypid, operator, collation))
		return true;
	if (attribute->atttypmod < (int32) VARHDRSZ)
		return false;
	return (attribute->atttypid == NUMERICOID && get_opcode(operator) == F_NUMERIC_EQ) ||
		(attribute->atttypid == BPCHAROID && get_opcode(operator) == F_BPCHAREQ &&
		 get_collation_isdeterministic(collation));
}

/* Which of the keys an index is looked up by, in the end: the others do not say what is read. */
static Bitmapset *
deciding_keys(IvmArrangement *arrangement)
{
	Bitmapset  *result = NULL;
	Bitmapset  *all = bms_add_range(NULL, 0, list_length(arrangement->keys) - 1);
	ListCell   *lc;
	ListCell   *lc2;

	check_stack_depth();
	if (arrangement->kind == IVM_ARRANGE_THROUGH)
	{
		forboth(lc, arrangement->below, lc2, arrangement->below_keys)
		{
			Bitmapset  *below = deciding_keys((IvmArrangement *) lfirst(lc));
			int			number = -1;

			while ((number = bms_next_member(below, number)) >= 0)
				result = bms_add_member(result, list_nth_int((List *) lfirst(lc2), number));
		}
		return result;
	}
	if (arrangement->kind != IVM_ARRANGE_INDEX)
		return all;
	foreach(lc, arrangement->probes)
	{
		IvmIndexProbe *probe = (IvmIndexProbe *) lfirst(lc);

		if (!OidIsValid(probe->index))
			return all;
		foreach(lc2, probe->key_numbers)
			result = bms_add_member(result, lfirst_int(lc2));
	}
	return result;
}

/* May equal group columns look different? */
static bool
groups_vary(IvmPlanNode *aggregate)
{
	IvmPlanNode *input = (IvmPlanNode *) linitial(aggregate->inputs);
	ListCell   *lc;

	foreach(lc, aggregate->group_columns)
	{
		int			i = foreach_current_index(lc);

		if (!looks_alike(TupleDescAttr(input->desc, lfirst_int(lc) - 1), list_nth_oid(aggregate->group_operators, i),
						 list_nth_oid(aggregate->group_collations, i)))
			return true;
	}
	return false;
}

/* A node with that digest before it, for which the choice is made. */
static IvmPlanNode *
decided_before(IvmPlan *plan, IvmPlanNode *aggregate)
{
	ListCell   *lc;

	foreach(lc, plan->nodes)
	{
		IvmPlanNode *node = (IvmPlanNode *) lfirst(lc);

		if (node == aggregate)
			return NULL;
		if (memcmp(&node->digest, &aggregate->digest, sizeof(IvmDigest)) == 0)
			return node;
	}
	return NULL;
}

/* Whether it is keyed, in contents that are there; false if that was no choice then. */
static bool
read_choice(const char *stored, IvmPlanNode *aggregate)
{
	char	   *label = psprintf("\n%s ", ivm_group_choice_label(aggregate));
	const char *line = strstr(stored, label);
	char		word[8];
	long long	rows;

	if (line == NULL || sscanf(line + strlen(label), "%7s %lld", word, &rows) != 2)
		return false;
	aggregate->keyed = strcmp(word, "keyed") == 0;
	aggregate->group_rows = rows;
	return true;
}

/*
 * The rows of groups of a keyed aggregate, by the columns alone that an index has: so one lookup finds the rows of
 * all groups that share these.
 */
static void
make_keyed_rows(IvmCompiler *compiler, IvmPlanNode *aggregate)
{
	IvmPlanNode *input = (IvmPlanNode *) linitial(aggregate->inputs);
	int			before = list_length(compiler->plan->arrangements);
	IvmArrangement *rows = make_rows(compiler, aggregate, input, NULL);
	Bitmapset  *places = deciding_keys(rows);

	if (bms_num_members(places) < list_length(rows->keys))
	{
		ivm_arrangements_drop(compiler, before);
		rows = make_rows(compiler, aggregate, input, places);
	}
	aggregate->rows = rows;
}

/*
 * Makes an aggregate keyed, if it can be and should.  Arrangements that were made for nothing are gone
 * then, unless "reads" says that its calls need the rows in any case.
 */
static void
choose_keyed(IvmCompiler *compiler, IvmPlanNode *aggregate, bool reads)
{
	IvmPlan    *plan = compiler->plan;
	int			before = list_length(plan->arrangements);
	IvmPlanNode *other = decided_before(plan, aggregate);
	double		read;
	double		found;

	if (groups_vary(aggregate))
		return;
	if (compiler->stored != NULL)
	{
		aggregate->has_choice = read_choice(compiler->stored, aggregate);
		/* if an index has gone since, the rows are found elsewhere, or the view is rebuilt */
		if (aggregate->keyed)
			make_keyed_rows(compiler, aggregate);
		return;
	}
	aggregate->rows = make_rows(compiler, aggregate, (IvmPlanNode *) linitial(aggregate->inputs), NULL);
	aggregate->has_choice = ivm_arrangement_estimate(aggregate->rows, &read, &found);
	if (aggregate->has_choice)
	{
		aggregate->keyed = found >= 0 && found <= MOST_GROUP_ROWS && read >= 0 && read <= MOST_READ_ROWS;
		/* what speaks against it, if it is not the rows of the group */
		if (read > MOST_READ_ROWS)
			found = read;
		aggregate->group_rows = found < 0 || read < 0 || found > 1e15 ? -1 : (int64) rint(found);
	}
	if (other != NULL)
	{
		aggregate->has_choice &= other->has_choice;
		aggregate->keyed &= other->keyed;
		aggregate->group_rows = other->group_rows;
	}
	if (reads && !aggregate->keyed)
		return;
	ivm_arrangements_drop(compiler, before);
	aggregate->rows = NULL;
	if (aggregate->keyed)
		make_keyed_rows(compiler, aggregate);
}

void
ivm_aggregate_complete(IvmCompiler *compiler, IvmPlanNode *aggregate)
{
	IvmPlanNode *input = (IvmPlanNode *) linitial(aggregate->inputs);
	int			before = list_length(compiler->plan->arrangements);
	bool		reads = false;
	bool		has_ranks = false;
	bool		has_streams = false;
	bool		small;
	ListCell   *lc;

	foreach(lc, aggregate->calls)
	{
		IvmAggregateCall *call = (IvmAggregateCall *) lfirst(lc);
		bool		is_rank = can_be_rank(call);

		has_ranks |= is_rank;
		reads |= !is_rank && (call->kind == IVM_ACC_FORWARD || call->kind == IVM_ACC_REPLAY);
		has_streams |= call->stream > 0;
	}
	if (aggregate->group_columns != NIL && !has_streams)
		choose_keyed(compiler, aggregate, reads || has_ranks);
	small = aggregate->keyed ||
		(aggregate->has_choice && aggregate->group_rows >= 0 && aggregate->group_rows <= MOST_REPLAYED_ROWS);
	if (small)
		reads |= has_ranks;
	else if (!reads && aggregate->rows != NULL)
	{
		ivm_arrangements_drop(compiler, before);
		aggregate->rows = NULL;
	}
	foreach(lc, aggregate->calls)
	{
		IvmAggregateCall *call = (IvmAggregateCall *) lfirst(lc);

		if (call->kind == IVM_ACC_EXTREME && aggregate->keyed)
			(void) extreme_order(call);
		else if (call->kind == IVM_ACC_EXTREME)
			make_extremes(compiler, aggregate, call);
		else if (!small && can_be_rank(call))
			make_rank(compiler, aggregate, call);
	}
	if (!reads || aggregate->group_columns == NIL || aggregate->rows != NULL)
		return;

	/* of the rows, not of the streams beside them */
	if (has_streams)
		input = (IvmPlanNode *) linitial(input->inputs);
	aggregate->rows = make_rows(compiler, aggregate, input, NULL);
}
