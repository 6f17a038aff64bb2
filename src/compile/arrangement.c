/*-------------------------------------------------------------------------
 *
 * arrangement.c
 *	  Where the rows of a join's input are looked up.
 *
 * For "rows of X by these keys", the first that fits:
 *
 *	1. X is a table, or several appended, and each has an index whose leading
 *	   columns are some of the keys: look up there.  Nothing is stored.
 *	2. X is made of tables so small that reading them whole is as cheap.
 *	3. X is an operator that keeps its rows by these keys, or what it reads can be looked
 *	   up by them (through.c).
 *	4. a state table of X's rows.  Of tables, it can be shared with every other
 *	   view that has the same need, and the user is told which index would make
 *	   it unnecessary.
 *
 * An index fits if it is valid, complete for the rows that are looked for (its
 * predicate follows from X's filter), of an access method that knows equality
 * (btree, hash), and if operator, operator family and collation of a key are the
 * ones it was built for.  Expressions match as the planner matches them.
 * Whether an index is too young for a snapshot (indcheckxmin) is known only when
 * it is used; whoever uses it must check.
 *
 * Which index serves is not part of a plan's identity: it may come and go
 * without a change in the view.  A private state table is.
 *
 * A shared state table is kept by another process under another user and other
 * settings than the view it was first made for.  So only an input whose
 * expressions depend on nothing but the row, and call nothing but the server's own
 * functions, is shared.
 *
 * Memory: everything in the plan's context, which is current.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/stratnum.h"
#include "catalog/pg_am.h"
#include "catalog/pg_index.h"
#include "catalog/pg_opclass.h"
#include "commands/defrem.h"
#include "compile/compiler.h"
#include "lib/stringinfo.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "plan/order_key.h"
#include "plan/plan_text.h"
#include "plan/column.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"

/* Pages that are read in about the time of a few lookups. */
#define SMALL_TABLE_BLOCKS 128

/* The scans that make up a base input, or NIL if it is not one. */
static List *
base_scans(IvmPlanNode *input)
{
	ListCell   *lc;

	if (input->kind == IVM_SCAN)
		return list_make1(input);
	if (input->kind != IVM_APPEND)
		return NIL;
	foreach(lc, input->inputs)
	{
		if (((IvmPlanNode *) lfirst(lc))->kind != IVM_SCAN)
			return NIL;
	}
	return input->inputs;
}

/* The keys in terms of a scan's table. */
static List *
keys_of_table(IvmPlanNode *scan, List *keys)
{
	List	   *lists[1];

	lists[0] = scan->tlist;
	return (List *) ivm_expression_substitute((Node *) keys, 1, lists);
}

/* ---- indexes ---- */

/* Does the key fit column "column" of the index? */
static bool
key_matches_column(Relation index, int column, Node *index_expression,
				   Node *key, Oid operator, Oid collation)
{
	AttrNumber	attno = index->rd_index->indkey.values[column];
	Oid			commutator;

	key = ivm_strip_relabel(key);
	if (attno != 0)
	{
		if (!IsA(key, Var) || ((Var *) key)->varattno != attno)
			return false;
	}
	else if (!equal(key, ivm_strip_relabel(index_expression)))
		return false;

	if (OidIsValid(index->rd_indcollation[column]) &&
		index->rd_indcollation[column] != collation)
		return false;

	/* the index is asked the other way round: column = probe */
	commutator = get_commutator(operator);
	if (!OidIsValid(commutator))
		return false;
	return get_op_opfamily_strategy(commutator, index->rd_opfamily[column]) ==
		(index->rd_rel->relam == HASH_AM_OID ? HTEqualStrategyNumber : BTEqualStrategyNumber);
}

/*
 * The keys (by number) that feed the index's leading columns, as many as there
 * are; NIL if the index cannot be used.
 */
static List *
match_index(Relation index, List *keys, List *operators, List *collations, bool null_safe, List *quals)
{
	Form_pg_index form = index->rd_index;
	List	   *predicate;
	List	   *expressions;
	List	   *numbers = NIL;
	ListCell   *next_expression;

	if (!form->indisvalid || !form->indisready || !form->indislive)
		return NIL;
	if (index->rd_rel->relam != BTREE_AM_OID && index->rd_rel->relam != HASH_AM_OID)
		return NIL;
	if (index->rd_rel->relkind != RELKIND_INDEX)
		return NIL;
	/* a hash index has no NULLs */
	if (null_safe && index->rd_rel->relam == HASH_AM_OID)
		return NIL;

	expressions = RelationGetIndexExpressions(index);
	next_expression = list_head(expressions);
	for (int column = 0; column < form->indnkeyatts; column++)
	{
		Node	   *expression = NULL;
		int			found = -1;

		if (form->indkey.values[column] == 0)
		{
			expression = (Node *) lfirst(next_expression);
			next_expression = lnext(expressions, next_expression);
		}
		for (int i = 0; i < list_length(keys) && found < 0; i++)
		{
			if (key_matches_column(index, column, expression, (Node *) list_nth(keys, i),
								   list_nth_oid(operators, i), list_nth_oid(collations, i)))
				found = i;
		}
		if (found < 0)
			break;
		numbers = lappend_int(numbers, found);
	}

	/* a hash index needs its one column, a B-tree the first */
	if (numbers == NIL)
		return NIL;

	predicate = RelationGetIndexPredicate(index);
	if (predicate != NIL && !predicate_implied_by(predicate, quals, false))
		return NIL;
	return numbers;
}

/* The best index of a scan's table for the keys, or NULL. */
static IvmIndexProbe *
choose_index(IvmPlanNode *scan, List *keys, List *operators, List *collations, bool null_safe)
{
	Relation	relation = relation_open(scan->relid, NoLock);
	List	   *indexes = list_copy(RelationGetIndexList(relation));
	List	   *table_keys = keys_of_table(scan, keys);
	IvmIndexProbe *best = NULL;
	bool		best_unique = false;
	int			best_width = 0;
	ListCell   *lc;

	list_sort(indexes, list_oid_cmp);
	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);
		List	   *numbers = match_index(index, table_keys, operators, collations, null_safe, scan->quals);

		if (numbers != NIL)
		{
			bool		unique = index->rd_index->indisunique &&
				list_length(numbers) == index->rd_index->indnkeyatts;
			int			width = index->rd_index->indnatts;

			/* unique; then the more columns are used; then the narrower index */
			if (best == NULL ||
				(unique && !best_unique) ||
				(unique == best_unique &&
				 (list_length(numbers) > list_length(best->key_numbers) ||
				  (list_length(numbers) == list_length(best->key_numbers) && width < best_width))))
			{
				if (best == NULL)
					best = (IvmIndexProbe *) palloc0(sizeof(IvmIndexProbe));
				best->scan = scan;
				best->index = lfirst_oid(lc);
				best->key_numbers = numbers;
				best->unique = unique && index->rd_index->indimmediate && !null_safe;
				best_unique = unique;
				best_width = width;
			}
		}
		index_close(index, NoLock);
	}
	relation_close(relation, NoLock);
	return best;
}

static BlockNumber
table_blocks(Oid relid)
{
	Relation	relation = relation_open(relid, NoLock);
	BlockNumber blocks = RelationGetNumberOfBlocks(relation);

	relation_close(relation, NoLock);
	return blocks;
}

/* ---- advice ---- */

/* The table on which an index would serve all scans: theirs, or the partitioned table above them. */
static Oid
advised_relation(List *scans)
{
	List	   *relids = NIL;
	List	   *ancestors;
	ListCell   *lc;

	if (list_length(scans) == 1)
		return ((IvmPlanNode *) linitial(scans))->relid;

	foreach(lc, scans)
		relids = lappend_oid(relids, ((IvmPlanNode *) lfirst(lc))->relid);
	ancestors = ivm_common_ancestors(relids);
	return ancestors == NIL ? InvalidOid : linitial_oid(ancestors);
}

/* One column of the advised index, or false if it could not be made or would not serve. */
static bool
append_index_column(StringInfo buffer, Oid relid, Node *key, Oid operator, Oid collation)
{
	Oid			type = exprType(key);
	Oid			opclass = GetDefaultOpClass(type, BTREE_AM_OID);
	Oid			commutator = get_commutator(operator);
	Node	   *column = ivm_strip_relabel(key);

	if (!OidIsValid(opclass) || !OidIsValid(commutator) ||
		get_op_opfamily_strategy(commutator, get_opclass_family(opclass)) != BTEqualStrategyNumber)
		return false;
	if (contain_mutable_functions(key))
		return false;

	if (IsA(column, Var))
	{
		if (((Var *) column)->varattno <= 0)
			return false;
		appendStringInfoString(buffer, quote_identifier(get_attname(relid, ((Var *) column)->varattno, false)));
	}
	else
		appendStringInfo(buffer, "(%s)",
						 deparse_expression(key, deparse_context_for(get_rel_name(relid), relid), false, false));

	if (OidIsValid(collation) && collation != exprCollation(column))
		appendStringInfo(buffer, " COLLATE %s", generate_collation_name(collation));
	return true;
}

/* The statement that would make the state table unnecessary, or NULL. */
static char *
make_advice(List *scans, List *keys, List *operators, List *collations)
{
	IvmPlanNode *scan = (IvmPlanNode *) linitial(scans);
	Oid			relid = advised_relation(scans);
	List	   *table_keys = keys_of_table(scan, keys);
	StringInfoData buffer;
	int			columns = 0;
	ListCell   *lc;
	ListCell   *lc2;
	ListCell   *lc3;

	if (!OidIsValid(relid) || keys == NIL)
		return NULL;

	initStringInfo(&buffer);
	appendStringInfo(&buffer, "CREATE INDEX ON %s (",
					 quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
												get_rel_name(relid)));
	forthree(lc, table_keys, lc2, operators, lc3, collations)
	{
		int			length = buffer.len;

		if (columns > 0)
			appendStringInfoString(&buffer, ", ");
		if (append_index_column(&buffer, scan->relid, (Node *) lfirst(lc), lfirst_oid(lc2), lfirst_oid(lc3)))
			columns++;
		else
		{
			buffer.len = length;
			buffer.data[length] = '\0';
		}
	}
	if (columns == 0)
		return NULL;
	appendStringInfoChar(&buffer, ')');
	return buffer.data;
}

/* ---- arrangements ---- */

/*
 * What the arrangement holds and how it is found in it.  For a shared one that
 * is its identity, so nothing of the asking view may be in it: what the probes'
 * types are is no matter, how the keys are hashed is.  It is looked at by people, so it tells what it
 * reads in full; of a private one, the plan's text does.
 */
static char *
make_text(IvmArrangement *arrangement)
{
	StringInfoData buffer;
	ListCell   *lc;
	ListCell   *lc2;
	ListCell   *lc3;

	initStringInfo(&buffer);
	if (arrangement->shared)
		appendStringInfo(&buffer, "%s%s\nby", ivm_format_text(), ivm_plan_node_text(arrangement->input));
	else
		appendStringInfo(&buffer, "of %s by", ivm_digest_text(arrangement->input->digest));
	forthree(lc, arrangement->keys, lc2, arrangement->operators, lc3, arrangement->collations)
	{
		RegProcedure left_hash = InvalidOid;
		RegProcedure right_hash = InvalidOid;

		(void) get_op_hash_functions(lfirst_oid(lc2), &left_hash, &right_hash);
		appendStringInfo(&buffer, " (%s hash %u collation %u", ivm_expression_text((Node *) lfirst(lc)),
						 right_hash, lfirst_oid(lc3));
		if (!arrangement->shared)
			appendStringInfo(&buffer, " operator %u", lfirst_oid(lc2));
		appendStringInfoChar(&buffer, ')');
	}
	ivm_order_append_text(&buffer, arrangement->order);
	if (arrangement->null_safe)
		appendStringInfoString(&buffer, " or null");
	if (arrangement->first_of != NULL)
		appendStringInfo(&buffer, " the first of %s", ivm_digest_text(arrangement->first_of->digest));
	return buffer.data;
}

static bool
can_be_shared(List *scans, List *keys)
{
	ListCell   *lc;

	if (!ivm_expression_is_universal((Node *) keys))
		return false;
	foreach(lc, scans)
	{
		IvmPlanNode *scan = (IvmPlanNode *) lfirst(lc);

		if (!ivm_expression_is_universal((Node *) scan->tlist) ||
			!ivm_expression_is_universal((Node *) scan->quals))
			return false;
	}
	return true;
}

/* Indexes for all scans, with small tables read whole where one has none; false if some table has neither. */
static bool
use_indexes(IvmArrangement *arrangement, List *scans)
{
	List	   *probes = NIL;
	bool		any = false;
	ListCell   *lc;

	if (arrangement->keys == NIL)
		return false;

	foreach(lc, scans)
	{
		IvmPlanNode *scan = (IvmPlanNode *) lfirst(lc);
		IvmIndexProbe *probe = choose_index(scan, arrangement->keys, arrangement->operators,
											arrangement->collations, arrangement->null_safe);

		if (probe != NULL)
			any = true;
		else if (table_blocks(scan->relid) <= SMALL_TABLE_BLOCKS / list_length(scans))
		{
			probe = (IvmIndexProbe *) palloc0(sizeof(IvmIndexProbe));
			probe->scan = scan;
			probe->index = InvalidOid;
		}
		else
			return false;
		probes = lappend(probes, probe);
	}
	if (!any)
		return false;
	arrangement->kind = IVM_ARRANGE_INDEX;
	arrangement->probes = probes;
	return true;
}

static void
use_scan(IvmArrangement *arrangement, List *scans)
{
	ListCell   *lc;

	arrangement->kind = IVM_ARRANGE_SCAN;
	foreach(lc, scans)
	{
		IvmIndexProbe *probe = (IvmIndexProbe *) palloc0(sizeof(IvmIndexProbe));

		probe->scan = (IvmPlanNode *) lfirst(lc);
		probe->index = InvalidOid;
		arrangement->probes = lappend(arrangement->probes, probe);
	}
}

static bool
is_small(List *scans)
{
	uint64		blocks = 0;
	ListCell   *lc;

	foreach(lc, scans)
		blocks += table_blocks(((IvmPlanNode *) lfirst(lc))->relid);
	return blocks <= SMALL_TABLE_BLOCKS;
}

static bool
has_filter(List *scans)
{
	ListCell   *lc;

	foreach(lc, scans)
	{
		if (((IvmPlanNode *) lfirst(lc))->quals != NIL)
			return true;
	}
	return false;
}

static bool
is_owned(IvmCompiler *compiler, const char *text)
{
	ListCell   *lc;

	foreach(lc, compiler->owned_state)
	{
		if (strcmp((char *) lfirst(lc), text) == 0)
			return true;
	}
	return false;
}

IvmArrangement *
ivm_arrangement_make(IvmCompiler *compiler, IvmPlanNode *input,
					 List *keys, List *operators, List *collations, bool null_safe)
{
	IvmPlan    *plan = compiler->plan;
	List	   *scans = base_scans(input);
	IvmArrangement *arrangement;
	ListCell   *lc;

	foreach(lc, plan->arrangements)
	{
		arrangement = (IvmArrangement *) lfirst(lc);
		if (arrangement->input == input && arrangement->order == NIL &&
			equal(arrangement->keys, keys) &&
			equal(arrangement->operators, operators) &&
			equal(arrangement->collations, collations) &&
			arrangement->null_safe == null_safe)
			return arrangement;
	}

	arrangement = (IvmArrangement *) palloc0(sizeof(IvmArrangement));
	arrangement->kind = IVM_ARRANGE_STATE;
	arrangement->input = input;
	arrangement->keys = keys;
	arrangement->operators = operators;
	arrangement->collations = collations;
	arrangement->null_safe = null_safe;
	arrangement->shared = scans != NIL && can_be_shared(scans, keys);
	arrangement->text = make_text(arrangement);
	arrangement->nends = 1;

	if (scans == NIL)
		ivm_arrangement_push(compiler, arrangement);
	else if (!use_indexes(arrangement, scans))
	{
		/*
		 * Without a key a lookup reads everything, and a state table is
		 * better than the table only if it holds less.
		 */
		if ((is_small(scans) && !is_owned(compiler, arrangement->text)) ||
			(keys == NIL && !has_filter(scans)))
			use_scan(arrangement, scans);
		else
			arrangement->advice = make_advice(scans, keys, operators, collations);
	}
	if (arrangement->kind != IVM_ARRANGE_STATE)
		arrangement->shared = false;

	/* behind those that it is made of */
	plan->arrangements = lappend(plan->arrangements, arrangement);
	return arrangement;
}

IvmArrangement *
ivm_arrangement_make_ordered(IvmCompiler *compiler, IvmPlanNode *input,
							 List *keys, List *operators, List *collations, List *order, bool ends,
							 IvmPlanNode *first_of)
{
	IvmPlan    *plan = compiler->plan;
	IvmArrangement *arrangement = (IvmArrangement *) palloc0(sizeof(IvmArrangement));
	ListCell   *lc;

	arrangement->kind = IVM_ARRANGE_STATE;
	arrangement->input = input;
	arrangement->keys = keys;
	arrangement->operators = operators;
	arrangement->collations = collations;
	arrangement->order = order;
	arrangement->first_of = first_of;
	arrangement->ends = ends;
	arrangement->nends = 1;
	arrangement->text = make_text(arrangement);
	foreach(lc, plan->arrangements)
	{
		IvmArrangement *other = (IvmArrangement *) lfirst(lc);

		/* in an index that gives the ends alone rows that are equal in the order are in none */
		if (other->input == input && other->order != NIL && strcmp(other->text, arrangement->text) == 0 &&
			(other->kind == IVM_ARRANGE_STATE || !other->ends || ends))
			return other;
	}
	if (input->kind == IVM_SCAN)
	{
		IvmIndexProbe *probe = ivm_ordered_index(input, keys, operators, collations,
												   ends ? list_make1(linitial(order)) : order, ends);

		if (probe != NULL)
		{
			arrangement->kind = IVM_ARRANGE_INDEX;
			arrangement->probes = list_make1(probe);
		}
	}
	plan->arrangements = lappend(plan->arrangements, arrangement);
	return arrangement;
}
