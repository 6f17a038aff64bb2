/*-------------------------------------------------------------------------
 *
 * ordered_index.c
 *	  A table's own index as an ordered arrangement of its rows.
 *
 * A B-tree serves if its first columns are the keys, in any order, and the next ones those of the order, all
 * in its direction or all in the opposite one.  Operator families and collations have to be the
 * index's, and NULLs at its end of the order where there may be any.
 *
 * And no two rows may be equal in all these columns, which a unique index on some of them says: an index has
 * equal rows in no order, and of which of them come first all would have to be read.  Who wants one row from either
 * end does not care, nor where the NULLs are, which he passes over.
 *
 * Which index serves is not part of a plan's identity, but that one does is: without it there is a state table.
 *
 * Memory: results in the current context.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/stratnum.h"
#include "catalog/pg_am.h"
#include "catalog/pg_index.h"
#include "compile/compiler.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "plan/order_key.h"
#include "plan/column.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"

/* While an index is looked at. */
typedef struct IndexMatch
{
	Relation	relation;
	List	   *keys;			/* over the table's row */
	List	   *operators;
	List	   *collations;
	List	   *order;			/* IvmOrderKey, those that are keys left out */
	List	   *order_columns;	/* their expressions over the table's row */
	bool		ends;			/* one row from either end is wanted, and none
								 * whose value is NULL */
} IndexMatch;

/* The table's column that the expression is, or 0. */
static AttrNumber
table_column(Node *expression)
{
	expression = ivm_strip_relabel(expression);
	return IsA(expression, Var) && ((Var *) expression)->varattno > 0 ? ((Var *) expression)->varattno : 0;
}

/* Does the column of the index come in the key's order (1), in the opposite one (-1), or in another (0)? */
static int
order_of_column(IndexMatch *match, Relation index, int column, Node *expression, IvmOrderKey *key)
{
	int16		option = index->rd_indoption[column];
	AttrNumber	attno = table_column(expression);
	bool		descending;
	Oid			class = ivm_order_key_class(key, &descending);
	bool		index_descending = (option & INDOPTION_DESC) != 0;
	bool		index_nulls_first = (option & INDOPTION_NULLS_FIRST) != 0;
	bool		has_nulls = !TupleDescAttr(RelationGetDescr(match->relation), attno - 1)->attnotnull;

	if (index->rd_index->indkey.values[column] != attno || !OidIsValid(class) ||
		index->rd_opfamily[column] != get_opclass_family(class) ||
		(OidIsValid(index->rd_indcollation[column]) && index->rd_indcollation[column] != key->collation))
		return 0;
	if (has_nulls && !match->ends && (index_nulls_first == key->nulls_first) != (index_descending == descending))
		return 0;
	return index_descending == descending ? 1 : -1;
}

/* Which of the keys the column of the index is, or -1. */
static int
key_of_column(IndexMatch *match, Relation index, int column)
{
	for (int i = 0; i < list_length(match->keys); i++)
	{
		Oid			operator = list_nth_oid(match->operators, i);

		if (table_column((Node *) list_nth(match->keys, i)) != index->rd_index->indkey.values[column] ||
			(OidIsValid(index->rd_indcollation[column]) &&
			 index->rd_indcollation[column] != list_nth_oid(match->collations, i)))
			continue;
		if (get_op_opfamily_strategy(operator, index->rd_opfamily[column]) == BTEqualStrategyNumber)
			return i;
	}
	return -1;
}

/* The index as a probe, or NULL if it does not serve. */
static IvmIndexProbe *
match_index(IndexMatch *match, Relation index, IvmPlanNode *scan)
{
	Form_pg_index form = index->rd_index;
	int			nkeys = list_length(match->keys);
	int			direction = 0;
	List	   *numbers = NIL;
	List	   *predicate;
	IvmIndexProbe *probe;

	if (!form->indisvalid || !form->indisready || !form->indislive || index->rd_rel->relam != BTREE_AM_OID ||
		index->rd_rel->relkind != RELKIND_INDEX || form->indnkeyatts < nkeys + list_length(match->order))
		return NULL;
	for (int i = 0; i < nkeys; i++)
	{
		int			number = key_of_column(match, index, i);

		if (number < 0 || list_member_int(numbers, number))
			return NULL;
		numbers = lappend_int(numbers, number);
	}
	for (int i = 0; i < list_length(match->order); i++)
	{
		int			here = order_of_column(match, index, nkeys + i, (Node *) list_nth(match->order_columns, i),
										   (IvmOrderKey *) list_nth(match->order, i));

		if (here == 0 || (direction != 0 && here != direction))
			return NULL;
		direction = here;
	}
	predicate = RelationGetIndexPredicate(index);
	if (predicate != NIL && !predicate_implied_by(predicate, scan->quals, false))
		return NULL;
	probe = (IvmIndexProbe *) palloc0(sizeof(IvmIndexProbe));
	probe->scan = scan;
	probe->index = RelationGetRelid(index);
	probe->key_numbers = numbers;
	probe->backward = direction < 0;
	return probe;
}

/* Does the index say that no two rows are equal in these columns, in the sense of the order and the keys? */
static bool
is_unique_among(IndexMatch *match, Relation index)
{
	Form_pg_index form = index->rd_index;

	if (!form->indisunique || !form->indimmediate || !form->indisvalid || !form->indisready || !form->indislive ||
		RelationGetIndexPredicate(index) != NIL)
		return false;
	for (int i = 0; i < form->indnkeyatts; i++)
	{
		AttrNumber	attno = form->indkey.values[i];
		bool		found = key_of_column(match, index, i) >= 0;

		if (attno <= 0 || !TupleDescAttr(RelationGetDescr(match->relation), attno - 1)->attnotnull)
			return false;
		for (int k = 0; k < list_length(match->order) && !found; k++)
		{
			IvmOrderKey *key = (IvmOrderKey *) list_nth(match->order, k);
			bool		descending;
			Oid			class = ivm_order_key_class(key, &descending);

			found = table_column((Node *) list_nth(match->order_columns, k)) == attno && OidIsValid(class) &&
				index->rd_opfamily[i] == get_opclass_family(class) &&
				(!OidIsValid(index->rd_indcollation[i]) || index->rd_indcollation[i] == key->collation);
		}
		if (!found)
			return false;
	}
	return true;
}

IvmIndexProbe *
ivm_ordered_index(IvmPlanNode *scan, List *keys, List *operators, List *collations, List *order, bool ends)
{
	List	   *lists[1];
	List	   *indexes;
	IndexMatch	match = {0};
	IvmIndexProbe *best = NULL;
	bool		unique = false;
	ListCell   *lc;

	lists[0] = scan->tlist;
	match.keys = (List *) ivm_expression_substitute((Node *) keys, 1, lists);
	match.operators = operators;
	match.collations = collations;
	match.ends = ends;
	foreach(lc, match.keys)
	{
		if (table_column((Node *) lfirst(lc)) == 0)
			return NULL;
	}
	foreach(lc, order)
	{
		IvmOrderKey *key = (IvmOrderKey *) lfirst(lc);
		Node	   *expression = ivm_expression_substitute((Node *) key->expr, 1, lists);
		ListCell   *lc2;
		bool		is_key = false;

		if (table_column(expression) == 0)
			return NULL;
		foreach(lc2, match.keys)
			is_key |= table_column((Node *) lfirst(lc2)) == table_column(expression);
		if (is_key)
			continue;
		match.order = lappend(match.order, key);
		match.order_columns = lappend(match.order_columns, expression);
	}

	/* an end is looked for in a column of the index */
	if (ends && match.order == NIL)
		return NULL;
	match.relation = relation_open(scan->relid, NoLock);
	indexes = list_copy(RelationGetIndexList(match.relation));
	list_sort(indexes, list_oid_cmp);
	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);

		if (best == NULL)
			best = match_index(&match, index, scan);
		unique |= is_unique_among(&match, index);
		index_close(index, NoLock);
	}
	relation_close(match.relation, NoLock);
	return unique || ends ? best : NULL;
}
