/*-------------------------------------------------------------------------
 *
 * estimate.c
 *	  How many rows a lookup reads and finds, by the statistics of base tables.
 *
 * Statistics have no say in a plan but for one thing: whether it is better to compute something again
 * from a few rows than to store it.  That is asked when contents are made, and the answer is kept with
 * them (group_rows.c, through.c), so it is no matter what statistics say later.
 *
 * Of a column the rows are counted that have the value of a row taken at random: with values that
 * differ in how often they come that is more than the rows over the values, and it is what a change of a row
 * costs.  Of several columns the one with the least counts.  Where a column refers to another table's, there are at
 * least as many values as that has rows: samples of a table that is stored in the order of a column find too few.
 *
 * A filter is taken to let a third of the rows pass, whatever it is.
 *
 * Not known are tables and columns that were never analyzed, unless a unique index says that there is one row.
 *
 * Memory: garbage in the current context.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/pg_statistic.h"
#include "compile/compiler.h"
#include "miscadmin.h"
#include "plan/column.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/syscache.h"

#define UNKNOWN (-1.0)

/* Of the rows that are read, those that a filter lets pass: what the planner takes for a comparison that it knows nothing of. */
#define FILTER_SHARE (1.0 / 3)

/* Rows of the table as of its last ANALYZE or VACUUM. */
static double
table_rows(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	double		rows = UNKNOWN;

	if (HeapTupleIsValid(tuple))
	{
		rows = ((Form_pg_class) GETSTRUCT(tuple))->reltuples;
		ReleaseSysCache(tuple);
	}
	return rows;
}

/* Values that the column has at least, since it refers to a table's; 0 if it does not. */
static double
referenced_values(Relation relation, AttrNumber column)
{
	double		result = 0;
	ListCell   *lc;

	foreach(lc, RelationGetFKeyList(relation))
	{
		ForeignKeyCacheInfo *key = lfirst_node(ForeignKeyCacheInfo, lc);

		if (key->nkeys == 1 && key->conkey[0] == column)
		{
			double		rows = table_rows(key->confrelid);

			result = Max(result, rows);
		}
	}
	return result;
}

/*
 * Rows that share the value of one of them, in a column of a table or an index ("of") with so many rows.  NULLs count
 * if they can be looked for.
 */
static double
rows_like_one(Oid of, AttrNumber column, double rows, double least_values, bool nulls)
{
	HeapTuple	tuple = SearchSysCache3(STATRELATTINH, ObjectIdGetDatum(of), Int16GetDatum(column), BoolGetDatum(false));
	Form_pg_statistic statistic;
	AttStatsSlot slot;
	double		values;
	double		rest;
	double		result = 0;

	if (!HeapTupleIsValid(tuple))
		return UNKNOWN;
	statistic = (Form_pg_statistic) GETSTRUCT(tuple);
	values = statistic->stadistinct < 0 ? -statistic->stadistinct * rows : statistic->stadistinct;
	rest = 1.0 - statistic->stanullfrac;
	if (nulls)
		result += statistic->stanullfrac * statistic->stanullfrac;
	if (get_attstatsslot(&slot, tuple, STATISTIC_KIND_MCV, InvalidOid, ATTSTATSSLOT_NUMBERS))
	{
		for (int i = 0; i < slot.nnumbers; i++)
		{
			result += slot.numbers[i] * slot.numbers[i];
			rest -= slot.numbers[i];
		}
		values -= slot.nnumbers;
		least_values -= slot.nnumbers;
		free_attstatsslot(&slot);
	}
	ReleaseSysCache(tuple);
	values = Max(values, least_values);
	if (rest > 0)
		result += rest * rest / Max(values, 1.0);
	return Max(result * rows, 1.0);
}

/* The lesser of two numbers of rows, one of which may not be known. */
static double
lesser(double a, double b)
{
	if (a < 0 || b < 0)
		return Max(a, b);
	return Min(a, b);
}

/* Rows like one in a column of the table. */
static double
rows_by_column(Relation relation, AttrNumber column, bool nulls)
{
	double		rows = table_rows(RelationGetRelid(relation));

	if (rows < 0 || column <= 0)
		return UNKNOWN;
	return rows_like_one(RelationGetRelid(relation), column, rows, referenced_values(relation, column), nulls);
}

/* Do these columns (bits by number), all of which are compared, tell one row of the table? */
static bool
tell_one_row(Relation relation, Bitmapset *columns, bool nulls)
{
	bool		result = false;
	ListCell   *lc;

	foreach(lc, RelationGetIndexList(relation))
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);
		Form_pg_index form = index->rd_index;
		bool		covered = form->indisunique && form->indisvalid && form->indimmediate &&
			RelationGetIndexPredicate(index) == NIL;

		for (int i = 0; i < form->indnkeyatts && covered; i++)
		{
			AttrNumber	column = form->indkey.values[i];

			covered = column > 0 && bms_is_member(column, columns) &&
				(!nulls || form->indnullsnotdistinct || TupleDescAttr(RelationGetDescr(relation), column - 1)->attnotnull);
		}
		result |= covered;
		index_close(index, NoLock);
	}
	return result;
}

/* Of one base table's part of an arrangement. */
static void
estimate_probe(IvmArrangement *arrangement, IvmIndexProbe *probe, double *read, double *found)
{
	Relation	relation = relation_open(probe->scan->relid, NoLock);
	bool		nulls = arrangement->null_safe;
	Bitmapset  *columns = NULL;
	List	   *lists[1];
	List	   *keys;
	ListCell   *lc;

	lists[0] = probe->scan->tlist;
	keys = (List *) ivm_expression_substitute((Node *) arrangement->keys, 1, lists);
	*found = UNKNOWN;
	foreach(lc, keys)
	{
		Var		   *var = (Var *) ivm_strip_relabel((Node *) lfirst(lc));

		if (!IsA(var, Var) || var->varattno <= 0)
			continue;
		columns = bms_add_member(columns, var->varattno);
		*found = lesser(*found, rows_by_column(relation, var->varattno, nulls));
	}
	if (columns != NULL && tell_one_row(relation, columns, nulls))
		*found = 1;
	if (keys == NIL)
		*found = table_rows(probe->scan->relid);
	*read = *found;
	if (OidIsValid(probe->index))
	{
		Relation	index = index_open(probe->index, AccessShareLock);
		double		rows = table_rows(probe->scan->relid);
		Bitmapset  *used = NULL;

		*read = UNKNOWN;
		for (int i = 0; i < list_length(probe->key_numbers) && rows >= 0; i++)
		{
			AttrNumber	column = index->rd_index->indkey.values[i];

			used = bms_add_member(used, column);
			*read = lesser(*read, column > 0 ? rows_by_column(relation, column, nulls) :
						   rows_like_one(probe->index, i + 1, rows, 0, nulls));
		}
		if (used != NULL && tell_one_row(relation, used, nulls))
			*read = 1;
		*found = lesser(*found, *read);
		index_close(index, NoLock);
	}
	if (probe->scan->quals != NIL && *found >= 0)
		*found *= FILTER_SHARE;
	relation_close(relation, NoLock);
}

/* Sums, and products, of which a part may not be known. */
static double
plus(double a, double b)
{
	return a < 0 || b < 0 ? UNKNOWN : a + b;
}

static double
times(double a, double b)
{
	return a < 0 || b < 0 ? UNKNOWN : a * b;
}

static bool estimate(IvmArrangement *arrangement, bool first, double *read, double *found);

/* Through a join of either kind: from the rows of one input along a path. */
static bool
estimate_path(IvmJoinPath *path, double *read, double *found)
{
	ListCell   *lc;

	foreach(lc, path->stages)
	{
		IvmJoinStage *stage = (IvmJoinStage *) lfirst(lc);
		double		stage_read;
		double		stage_found;

		if (!estimate(stage->arrangement, false, &stage_read, &stage_found))
			return false;
		*read = plus(*read, times(*found, stage_read));
		*found = times(*found, stage_found);
	}
	return true;
}

/* "first": it is looked up for its own sake, not for each of some rows that were found. */
static bool
estimate(IvmArrangement *arrangement, bool first, double *read, double *found)
{
	ListCell   *lc;
	double		part_read;
	double		part_found;

	check_stack_depth();
	*read = *found = 0;
	switch (arrangement->kind)
	{
		case IVM_ARRANGE_STATE:
			return false;
		case IVM_ARRANGE_SCAN:
			/* small tables grow */
			if (first)
				return false;
			/* FALLTHROUGH */
		case IVM_ARRANGE_INDEX:
			foreach(lc, arrangement->probes)
			{
				estimate_probe(arrangement, (IvmIndexProbe *) lfirst(lc), &part_read, &part_found);
				*read = plus(*read, part_read);
				*found = plus(*found, part_found);
			}
			return true;
		case IVM_ARRANGE_OPERATOR:
			*read = *found = arrangement->keys == NIL ? UNKNOWN : 1;
			return true;
		case IVM_ARRANGE_THROUGH:
			foreach(lc, arrangement->below)
			{
				if (!estimate((IvmArrangement *) lfirst(lc), first, &part_read, &part_found))
					return false;
				if (arrangement->paths != NIL &&
					!estimate_path((IvmJoinPath *) list_nth(arrangement->paths, foreach_current_index(lc)),
								   &part_read, &part_found))
					return false;
				*read = plus(*read, part_read);
				*found = plus(*found, part_found);
			}
			/* by all of its columns one group is found */
			if (arrangement->input->kind == IVM_AGGREGATE && !list_member_int(arrangement->own_keys, -1))
				*found = lesser(*found, 1);
			return true;
	}
	return false;
}

bool
ivm_arrangement_estimate(IvmArrangement *arrangement, double *read, double *found)
{
	return estimate(arrangement, true, read, found);
}
