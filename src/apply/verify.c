/*-------------------------------------------------------------------------
 *
 * verify.c
 *	  Compare a view's contents with its query.
 *
 * The two are compared as multisets: every row of the query counts +1, every
 * row of the view -1, and what does not cancel out is the difference.
 * Verifying must not trust the dataflow: the query is run as the planner made
 * it.  Rows are equal if their types say so, as for EXCEPT ALL; where a type has
 * no equality, if their images are.
 *
 * One thing more is forgiven.  A sum of floating-point numbers depends on the
 * order of its additions: the view's is exact, the executor's is not.  So where
 * a plan has such a sum, or variances and the like, floating-point columns are equal within a relative
 * difference of 1e-9, or an absolute one that is next to nothing.
 *
 * All rows go through a sort of the server's, by a hash of their columns: it
 * keeps within work_mem, and its files go with the transaction.  Rows that are
 * equal come together, and a group is most often one row and its
 * counterpart.  Of different rows in a group each is compared with each, so groups have
 * to be small whatever the columns are: a column whose type cannot be hashed, or whose values cannot
 * always, is sorted by, too.
 *
 * To be equal within a tolerance is not transitive: of three sums that are close to each other the
 * middle one must not take the wrong one.  So the tolerance comes last, and only between what has found
 * no counterpart:
 *
 *	exact	all rows, floating-point columns like any others
 *	near	where there are several such columns: in the hash is their place in a grid that is much wider
 *			than the tolerance.  This keeps groups small of which only one column is not the same in all
 *	beside	by the hash of the other columns and then by the numbers themselves, so that those on either side
 *			of a border of the grid meet, too.  Each takes the smallest that it equals: with one
 *			such column nobody is left alone who need not be
 *
 * Cost: a sort of as many rows as view and query have, and two of those whose sums differ.  Not
 * promised: that a view with several floating-point columns, whose first one is the same in very many wrong rows,
 * is done in less than quadratic time, and if such rows exceed work_mem the older ones are counted without a
 * further look; and that rows with several such columns, each close to those of many others, find the right
 * counterparts.
 *
 * Memory: a context of its own, the sort's, and one for each group.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <float.h>
#include <math.h>

#include "access/htup_details.h"
#include "access/tableam.h"
#include "catalog/pg_operator_d.h"
#include "catalog/pg_type_d.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/datum.h"
#include "utils/float.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/tuplesort.h"
#include "utils/typcache.h"

#include "apply/apply.h"
#include "dataflow/dataflow.h"
#include "zset/key.h"

/* Relative differences up to which floating-point sums count as equal, and bits of the grids. */
#define FLOAT8_TOLERANCE	1e-9
#define FLOAT4_TOLERANCE	(FLT_EPSILON * 4)

/* What the executor leaves of a variance that is zero. */
#define NEAR_ZERO			1e-14

#define FLOAT8_GRID_BITS	24
#define FLOAT4_GRID_BITS	14

/* Columns of what is sorted; the row's own follow. */
#define HASH_COLUMN		1
#define WEIGHT_COLUMN	2
#define OWN_COLUMNS		2

/* A row, and how often the query has it more than the view. */
typedef struct Counted
{
	Datum	   *values;
	bool	   *isnull;
	int64		weight;
	Size		bytes;
} Counted;

/* See above: what floating-point columns have to be, to be equal. */
typedef enum Stage
{
	STAGE_EXACT,
	STAGE_NEAR,
	STAGE_BESIDE
} Stage;
#define NUM_STAGES	(STAGE_BESIDE + 1)

typedef struct Verification
{
	TupleDesc	desc;			/* of the view's rows */
	TupleDesc	sort_desc;		/* of what is sorted */
	TupleTableSlot *sort_slot;

	IvmKey	   *key;			/* the columns with an equality ... */
	int			nkeys;
	int		   *key_columns;	/* ... 0-based, as all of these */
	int			nimages;
	int		   *image_columns;	/* compared by image */
	int			nfloats;
	int		   *float_columns;	/* within the tolerance */
	int			nsorted;
	int		   *sorted_keys;	/* those of "key_columns" that are sorted by */
	Datum	   *key_values;
	bool	   *key_isnull;
	Datum	   *other_values;
	bool	   *other_isnull;

	Tuplesortstate *sorts[NUM_STAGES];	/* NULL: none or no more */
	Stage		stage;			/* that rows are compared in */

	MemoryContext row_context;	/* reset for each row */
	MemoryContext group_context;
	int64		missing;
	int64		extra;
} Verification;

static void
set_columns(Verification *verification, IvmPlan *plan)
{
	TupleDesc	desc = verification->desc;
	int			natts = Max(desc->natts, 1);
	Oid		   *operators = palloc(natts * sizeof(Oid));
	Oid		   *collations = palloc(natts * sizeof(Oid));
	bool		tolerant = false;
	ListCell   *lc;
	ListCell   *lc_call;

	foreach(lc, plan->nodes)
		foreach(lc_call, ((IvmPlanNode *) lfirst(lc))->calls)
		{
			IvmAggregateCall *call = lfirst(lc_call);

			tolerant |= call->kind == IVM_ACC_FLOAT_SUM || call->kind == IVM_ACC_MOMENTS ||
				((call->kind == IVM_ACC_FORWARD || call->kind == IVM_ACC_REPLAY) && call->aggref->aggtype == FLOAT8OID);
		}

	verification->key_columns = palloc(natts * sizeof(int));
	verification->image_columns = palloc(natts * sizeof(int));
	verification->float_columns = palloc(natts * sizeof(int));
	verification->sorted_keys = palloc(natts * sizeof(int));
	verification->key_values = palloc(natts * sizeof(Datum));
	verification->key_isnull = palloc(natts * sizeof(bool));
	verification->other_values = palloc(natts * sizeof(Datum));
	verification->other_isnull = palloc(natts * sizeof(bool));
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);
		TypeCacheEntry *type = lookup_type_cache(attribute->atttypid, TYPECACHE_EQ_OPR);

		if (tolerant && (attribute->atttypid == FLOAT4OID || attribute->atttypid == FLOAT8OID))
			verification->float_columns[verification->nfloats++] = i;
		else if (OidIsValid(type->eq_opr))
		{
			operators[verification->nkeys] = type->eq_opr;
			collations[verification->nkeys] = attribute->attcollation;
			verification->key_columns[verification->nkeys++] = i;
		}
		else
			verification->image_columns[verification->nimages++] = i;
	}
	verification->key = ivm_key_create(verification->nkeys, operators, collations, true);

	for (int i = 0; i < verification->nkeys; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, verification->key_columns[i]);
		TypeCacheEntry *type = lookup_type_cache(attribute->atttypid, TYPECACHE_LT_OPR);
		bool		may_contain = type->typtype != TYPTYPE_BASE || OidIsValid(get_element_type(attribute->atttypid));
		bool		is_hashed = OidIsValid(verification->key->hash_right[i].fn_oid) ||
		verification->key->image_length[i] != 0;

		if ((!is_hashed || may_contain) && OidIsValid(type->lt_opr) && attribute->atttypid != RECORDOID)
			verification->sorted_keys[verification->nsorted++] = i;
	}
}

/* The shape of a row with hash and weight before it. */
static void
set_shape(Verification *verification)
{
	TupleDesc	desc = verification->desc;
	TupleDesc	result = CreateTemplateTupleDesc(desc->natts + OWN_COLUMNS);

	TupleDescInitEntry(result, HASH_COLUMN, "hash", INT8OID, -1, 0);
	TupleDescInitEntry(result, WEIGHT_COLUMN, "weight", INT8OID, -1, 0);
	for (int i = 0; i < desc->natts; i++)
	{
		TupleDescCopyEntry(result, i + 1 + OWN_COLUMNS, desc, i + 1);
		TupleDescAttr(result, i + OWN_COLUMNS)->attisdropped = false;
	}
	verification->sort_desc = result;
	verification->sort_slot = MakeSingleTupleTableSlot(result, &TTSOpsVirtual);
}

/* The sort of a stage, begun when the first row comes. */
static Tuplesortstate *
sort_of(Verification *verification, Stage stage)
{
	int			natts = verification->desc->natts + OWN_COLUMNS;
	AttrNumber *columns = palloc(natts * sizeof(AttrNumber));
	Oid		   *operators = palloc(natts * sizeof(Oid));
	Oid		   *collations = palloc(natts * sizeof(Oid));
	bool	   *nulls_first = palloc0(natts * sizeof(bool));
	int			n = 0;

	if (verification->sorts[stage] != NULL)
		return verification->sorts[stage];
	columns[n] = HASH_COLUMN;
	operators[n] = Int8LessOperator;
	collations[n++] = InvalidOid;
	for (int i = 0; i < verification->nsorted + (stage == STAGE_EXACT ? 0 : verification->nfloats); i++)
	{
		int			column = i < verification->nsorted ? verification->key_columns[verification->sorted_keys[i]] :
		verification->float_columns[i - verification->nsorted];
		Form_pg_attribute attribute = TupleDescAttr(verification->desc, column);

		columns[n] = column + 1 + OWN_COLUMNS;
		operators[n] = lookup_type_cache(attribute->atttypid, TYPECACHE_LT_OPR)->lt_opr;
		collations[n++] = attribute->attcollation;
	}
	verification->sorts[stage] =
		tuplesort_begin_heap(verification->sort_desc, n, columns, operators, collations, nulls_first,
							 work_mem, NULL, TUPLESORT_NONE);
	return verification->sorts[stage];
}

static double
float_value(Form_pg_attribute attribute, Datum value)
{
	return attribute->atttypid == FLOAT4OID ? DatumGetFloat4(value) : DatumGetFloat8(value);
}

/* Hash of the number, or of its place in the grid. */
static uint64
hash_float(Form_pg_attribute attribute, Datum datum, Stage stage)
{
	double		value = float_value(attribute, datum);
	int			bits = attribute->atttypid == FLOAT4OID ? FLOAT4_GRID_BITS : FLOAT8_GRID_BITS;
	int			exponent = 0;
	int64		place;

	if (isnan(value) || isinf(value) || value == 0)
		place = isnan(value) ? 1 : value == 0 ? 2 : value > 0 ? 3 : 4;
	else if (stage == STAGE_EXACT)
		return hash_bytes_extended((unsigned char *) &value, sizeof(value), 0);
	else
		place = (int64) rint(ldexp(frexp(value, &exponent), bits));
	/* rounded up to the next power of two */
	if (Abs(place) == INT64CONST(1) << bits)
	{
		place /= 2;
		exponent++;
	}
	return hash_bytes_uint32_extended((uint32) place, (uint64) exponent);
}

/* Of the columns' values; leaves memory in the current context. */
static uint64
hash_row(Verification *verification, Datum *values, bool *isnull, Stage stage)
{
	uint64		hash;

	for (int i = 0; i < verification->nkeys; i++)
	{
		verification->key_values[i] = values[verification->key_columns[i]];
		verification->key_isnull[i] = isnull[verification->key_columns[i]];
	}
	hash = ivm_key_hash_right(verification->key, verification->key_values, verification->key_isnull);
	for (int i = 0; i < verification->nimages; i++)
	{
		int			column = verification->image_columns[i];
		Form_pg_attribute attribute = TupleDescAttr(verification->desc, column);

		hash = hash_combine64(hash, isnull[column] ? 0 :
							  datum_image_hash(values[column], attribute->attbyval, attribute->attlen));
	}
	for (int i = 0; stage != STAGE_BESIDE && i < verification->nfloats; i++)
	{
		int			column = verification->float_columns[i];

		hash = hash_combine64(hash, isnull[column] ? 0 :
							  hash_float(TupleDescAttr(verification->desc, column), values[column], stage));
	}
	return hash;
}

static void
put_row(Verification *verification, Stage stage, Datum *values, bool *isnull, int64 weight)
{
	TupleTableSlot *slot = verification->sort_slot;
	int			natts = verification->desc->natts;
	Tuplesortstate *sort = sort_of(verification, stage);
	MemoryContext caller;

	CHECK_FOR_INTERRUPTS();
	MemoryContextReset(verification->row_context);
	caller = MemoryContextSwitchTo(verification->row_context);
	ExecClearTuple(slot);
	slot->tts_values[HASH_COLUMN - 1] =
		Int64GetDatum((int64) hash_row(verification, values, isnull, stage));
	slot->tts_values[WEIGHT_COLUMN - 1] = Int64GetDatum(weight);
	slot->tts_isnull[HASH_COLUMN - 1] = slot->tts_isnull[WEIGHT_COLUMN - 1] = false;
	memcpy(slot->tts_values + OWN_COLUMNS, values, natts * sizeof(Datum));
	memcpy(slot->tts_isnull + OWN_COLUMNS, isnull, natts * sizeof(bool));
	ExecStoreVirtualTuple(slot);
	tuplesort_puttupleslot(sort, slot);
	MemoryContextSwitchTo(caller);
}

static void
receive_row(void *context, TupleTableSlot *row, int64 weight)
{
	Verification *verification = context;

	slot_getallattrs(row);
	put_row(verification, STAGE_EXACT, row->tts_values, row->tts_isnull, weight);
}

static bool
floats_match(Form_pg_attribute attribute, Datum a, Datum b, Stage stage)
{
	double		value_a = float_value(attribute, a);
	double		value_b = float_value(attribute, b);
	double		tolerance = attribute->atttypid == FLOAT4OID ? FLOAT4_TOLERANCE : FLOAT8_TOLERANCE;

	if (float8_eq(value_a, value_b))
		return true;
	if (stage == STAGE_EXACT || isinf(value_a) || isinf(value_b) || isnan(value_a) || isnan(value_b))
		return false;
	return fabs(value_a - value_b) <= Max(tolerance * Max(fabs(value_a), fabs(value_b)), NEAR_ZERO);
}

static bool
float_columns_match(Verification *verification, int column, Counted *a, Counted *b)
{
	return a->isnull[column] || b->isnull[column] ? a->isnull[column] == b->isnull[column] :
		floats_match(TupleDescAttr(verification->desc, column), a->values[column], b->values[column], verification->stage);
}

static bool
rows_match(Verification *verification, Counted *a, Counted *b)
{
	MemoryContext caller;
	bool		result = true;

	CHECK_FOR_INTERRUPTS();
	for (int i = 0; i < verification->nfloats; i++)
		if (!float_columns_match(verification, verification->float_columns[i], a, b))
			return false;

	MemoryContextReset(verification->row_context);
	caller = MemoryContextSwitchTo(verification->row_context);
	for (int i = 0; i < verification->nimages && result; i++)
	{
		int			column = verification->image_columns[i];
		Form_pg_attribute attribute = TupleDescAttr(verification->desc, column);

		result = a->isnull[column] || b->isnull[column] ? a->isnull[column] == b->isnull[column] :
			datum_image_eq(a->values[column], b->values[column], attribute->attbyval, attribute->attlen);
	}
	for (int i = 0; i < verification->nkeys; i++)
	{
		int			column = verification->key_columns[i];

		verification->key_values[i] = a->values[column];
		verification->key_isnull[i] = a->isnull[column];
		verification->other_values[i] = b->values[column];
		verification->other_isnull[i] = b->isnull[column];
	}
	result = result && ivm_key_equal(verification->key, verification->key_values, verification->key_isnull,
									 verification->other_values, verification->other_isnull);
	MemoryContextSwitchTo(caller);
	return result;
}

/* Do the columns that are sorted by, floats aside, have equal values? */
static bool
is_same_group(Verification *verification, Counted *a, Counted *b)
{
	bool		result = true;
	MemoryContext caller;

	MemoryContextReset(verification->row_context);
	caller = MemoryContextSwitchTo(verification->row_context);
	for (int i = 0; i < verification->nsorted && result; i++)
	{
		int			number = verification->sorted_keys[i];
		int			column = verification->key_columns[number];

		if (a->isnull[column] || b->isnull[column])
			result = a->isnull[column] == b->isnull[column];
		else
			result = DatumGetBool(FunctionCall2Coll(&verification->key->equal[number],
													verification->key->collations[number],
													a->values[column], b->values[column]));
	}
	MemoryContextSwitchTo(caller);
	return result;
}

/* A copy that pfree ends, in the current context. */
static Counted *
copy_row(Verification *verification, Counted *row)
{
	int			natts = verification->desc->natts;
	Size		head = MAXALIGN(sizeof(Counted)) + MAXALIGN(natts * sizeof(Datum)) + MAXALIGN(natts * sizeof(bool));
	Size		bytes = head;
	Counted    *result;
	char	   *place;

	for (int i = 0; i < natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(verification->desc, i);

		if (!row->isnull[i] && !attribute->attbyval)
			bytes += MAXALIGN(datumGetSize(row->values[i], false, attribute->attlen));
	}
	result = palloc(bytes);
	result->values = (Datum *) ((char *) result + MAXALIGN(sizeof(Counted)));
	result->isnull = (bool *) ((char *) result->values + MAXALIGN(natts * sizeof(Datum)));
	result->weight = row->weight;
	result->bytes = bytes;
	memcpy(result->values, row->values, natts * sizeof(Datum));
	memcpy(result->isnull, row->isnull, natts * sizeof(bool));
	place = (char *) result + head;
	for (int i = 0; i < natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(verification->desc, i);

		if (!row->isnull[i] && !attribute->attbyval)
		{
			Size		size = datumGetSize(row->values[i], false, attribute->attlen);

			memcpy(place, DatumGetPointer(row->values[i]), size);
			result->values[i] = PointerGetDatum(place);
			place += MAXALIGN(size);
		}
	}
	return result;
}

/* The next row of a sort, with its hash; it stays until the next one.  False at the end. */
static bool
next_row(Tuplesortstate *sort, TupleTableSlot *slot, uint64 *hash, Counted *row)
{
	CHECK_FOR_INTERRUPTS();
	if (!tuplesort_gettupleslot(sort, true, false, slot, NULL))
		return false;
	slot_getallattrs(slot);
	*hash = (uint64) DatumGetInt64(slot->tts_values[HASH_COLUMN - 1]);
	row->weight = DatumGetInt64(slot->tts_values[WEIGHT_COLUMN - 1]);
	row->values = slot->tts_values + OWN_COLUMNS;
	row->isnull = slot->tts_isnull + OWN_COLUMNS;
	return true;
}

static void
count(Verification *verification, int64 weight)
{
	if (weight > 0)
		verification->missing += weight;
	else
		verification->extra -= weight;
}

/* Two that are equal, of different signs. */
static void
cancel_out(Counted *a, Counted *b)
{
	int64		both = Min(Abs(a->weight), Abs(b->weight));

	a->weight += a->weight > 0 ? -both : both;
	b->weight += b->weight > 0 ? -both : both;
}

/* A group is complete: what its rows have left over is counted, or goes on to the next stage. */
static void
end_group(Verification *verification, List *group)
{
	ListCell   *lc;

	foreach(lc, group)
	{
		Counted    *row = lfirst(lc);

		if (row->weight == 0)
			continue;
		if (verification->nfloats == 0)
			count(verification, row->weight);
		else
			put_row(verification, verification->stage == STAGE_EXACT && verification->nfloats > 1 ? STAGE_NEAR : STAGE_BESIDE,
					row->values, row->isnull, row->weight);
	}
	MemoryContextReset(verification->group_context);
}

/* The first two stages: adds up rows that are equal, which come together. */
static void
compare_groups(Verification *verification)
{
	Tuplesortstate *sort = verification->sorts[verification->stage];
	TupleTableSlot *slot = MakeSingleTupleTableSlot(verification->sort_desc, &TTSOpsMinimalTuple);
	List	   *group = NIL;	/* different rows, in group_context */
	uint64		group_hash = 0;
	uint64		hash;
	Counted		row;

	tuplesort_performsort(sort);
	while (next_row(sort, slot, &hash, &row))
	{
		ListCell   *lc;
		MemoryContext caller;

		if (group != NIL && (hash != group_hash || !is_same_group(verification, linitial(group), &row)))
		{
			end_group(verification, group);
			group = NIL;
		}
		group_hash = hash;

		foreach(lc, group)
		{
			Counted    *other = lfirst(lc);

			if (row.weight == 0)
				break;
			if (verification->stage != STAGE_EXACT && (other->weight == 0 || (other->weight > 0) == (row.weight > 0)))
				continue;
			if (!rows_match(verification, other, &row))
				continue;
			if (verification->stage != STAGE_EXACT)
				cancel_out(other, &row);
			else
			{
				other->weight += row.weight;
				row.weight = 0;
			}
		}
		if (row.weight == 0)
			continue;
		caller = MemoryContextSwitchTo(verification->group_context);
		group = lappend(group, copy_row(verification, &row));
		MemoryContextSwitchTo(caller);
	}
	end_group(verification, group);
	ExecDropSingleTupleTableSlot(slot);
	tuplesort_end(sort);
}

/* The last stage: compares each with what is near. */
static void
compare_beside(Verification *verification)
{
	Tuplesortstate *sort = verification->sorts[STAGE_BESIDE];
	TupleTableSlot *slot = MakeSingleTupleTableSlot(verification->sort_desc, &TTSOpsMinimalTuple);
	int			first = verification->float_columns[0];
	List	   *nearby = NIL;
	Size		bytes = 0;
	uint64		nearby_hash = 0;
	uint64		hash;
	Counted		row;
	ListCell   *lc;

	tuplesort_performsort(sort);
	while (next_row(sort, slot, &hash, &row))
	{
		bool		is_full = bytes > work_mem * (Size) 1024;

		foreach(lc, nearby)
		{
			Counted    *other = lfirst(lc);

			if (other->weight != 0 && !is_full && hash == nearby_hash &&
				is_same_group(verification, other, &row) &&
				float_columns_match(verification, first, other, &row))
				continue;
			count(verification, other->weight);
			bytes -= other->bytes;
			nearby = foreach_delete_current(nearby, lc);
			pfree(other);
		}
		nearby_hash = hash;

		foreach(lc, nearby)
		{
			Counted    *other = lfirst(lc);

			if (row.weight == 0)
				break;
			if (other->weight != 0 && (other->weight > 0) != (row.weight > 0) &&
				rows_match(verification, other, &row))
				cancel_out(other, &row);
		}
		if (row.weight != 0)
		{
			Counted    *copy = copy_row(verification, &row);

			bytes += copy->bytes;
			nearby = lappend(nearby, copy);
		}
	}
	foreach(lc, nearby)
		count(verification, ((Counted *) lfirst(lc))->weight);
	ExecDropSingleTupleTableSlot(slot);
	tuplesort_end(sort);
}

void
ivm_view_verify(Relation view, IvmPlan *plan, Snapshot query_snapshot, Snapshot view_snapshot,
				int64 *missing, int64 *extra)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "ivm verify", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	Verification verification = {.desc = plan->root->desc};
	TupleTableSlot *slot;
	TableScanDesc scan;

	verification.row_context = AllocSetContextCreate(context, "ivm verified row", ALLOCSET_DEFAULT_SIZES);
	verification.group_context = AllocSetContextCreate(context, "ivm verified group", ALLOCSET_DEFAULT_SIZES);
	set_columns(&verification, plan);
	set_shape(&verification);
	(void) sort_of(&verification, STAGE_EXACT);

	PushCopiedSnapshot(query_snapshot);
	ivm_execute_subtree(plan, plan->statement->planTree, GetActiveSnapshot(), receive_row, &verification);

	slot = table_slot_create(view, NULL);
	scan = table_beginscan_strat(view, view_snapshot, 0, NULL, true, false);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
		receive_row(&verification, slot, -1);
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);

	for (int stage = STAGE_EXACT; stage < NUM_STAGES; stage++)
	{
		verification.stage = stage;
		if (verification.sorts[stage] == NULL)
			continue;
		if (stage == STAGE_BESIDE)
			compare_beside(&verification);
		else
			compare_groups(&verification);
	}
	PopActiveSnapshot();

	*missing = verification.missing;
	*extra = verification.extra;
	ExecDropSingleTupleTableSlot(verification.sort_slot);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
}
