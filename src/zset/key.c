/*-------------------------------------------------------------------------
 *
 * key.c
 *	  Hashing and comparing keys by the equality of their types.
 *
 * A key is made of equality operators, which may have different types on
 * their two sides (int4 = int8).  Both sides' hash functions are those of one
 * hash operator family that contains the operator, whose law is that equal
 * values have equal hashes, also across types.
 *
 * Types without a hash function (bit strings, money) are hashed by their bytes,
 * if equal values always have the same ones.  A column that cannot be hashed
 * counts for nothing in the hash, so that all
 * its values collide: slow, but right, since candidates are always compared.
 * Whether it can is known from the operator, but for containers: the operator
 * families of arrays, composites, ranges and multiranges accept any contents,
 * and their functions raise an error for contents without hash support.  So
 * these are asked value by value what they contain; the type cache knows.
 *
 * Hashes are stored in state tables.  PostgreSQL's extended hash functions
 * with seed 0 are stable within a major version, and across them so far; the
 * way they are combined here must stay as it is.
 *
 * Memory: whatever the types' functions allocate (detoasted values) is left
 * in the current context, which should be a short-lived one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/hash.h"
#include "access/htup_details.h"
#include "access/nbtree.h"
#include "access/stratnum.h"
#include "catalog/pg_am.h"
#include "catalog/pg_amop.h"
#include "catalog/pg_type_d.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/catcache.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/multirangetypes.h"
#include "utils/rangetypes.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "base/compat.h"
#include "zset/hash.h"
#include "zset/key.h"

/* What NULL and values that cannot be hashed contribute. */
#define NULL_HASH			UINT64CONST(0x9ddfea08eb382d69)
#define UNHASHABLE_HASH		UINT64CONST(0xc3a5c85c97cb3127)
#define EMPTY_KEY_HASH		UINT64CONST(0xb492b66fbe98f273)

/*
 * Finds the hash functions for both sides of an equality operator in one
 * operator family; extended ones by preference, else plain ones, else none.  Of
 * several families the oldest: hashes are stored.
 */
static void
find_hash_functions(Oid operator, Oid *left, Oid *right)
{
	CatCList   *list = SearchSysCacheList1(AMOPOPID, ObjectIdGetDatum(operator));
	Oid			family = InvalidOid;

	*left = *right = InvalidOid;
	for (int extended = 1; extended >= 0 && !OidIsValid(*left); extended--)
	{
		int			procedure = extended ? HASHEXTENDED_PROC : HASHSTANDARD_PROC;

		for (int i = 0; i < list->n_members; i++)
		{
			Form_pg_amop member = (Form_pg_amop) GETSTRUCT(&list->members[i]->tuple);
			Oid			left_function;
			Oid			right_function;

			CHECK_FOR_INTERRUPTS();
			if (member->amopmethod != HASH_AM_OID || member->amopstrategy != HTEqualStrategyNumber ||
				(OidIsValid(family) && member->amopfamily > family))
				continue;
			left_function = get_opfamily_proc(member->amopfamily, member->amoplefttype,
											  member->amoplefttype, procedure);
			right_function = get_opfamily_proc(member->amopfamily, member->amoprighttype,
											   member->amoprighttype, procedure);
			if (OidIsValid(left_function) && OidIsValid(right_function))
			{
				family = member->amopfamily;
				*left = left_function;
				*right = right_function;
			}
		}
	}
	ReleaseSysCacheList(list);
}

bool
ivm_equality_is_of_images(Oid type, Oid operator, Oid collation)
{
	TypeCacheEntry *entry = lookup_type_cache(type, TYPECACHE_BTREE_OPFAMILY);
	Oid			proc;

	/*
	 * blanks at the end of a bpchar without a length count for nothing,
	 * whatever its operator class says
	 */
	if (!OidIsValid(entry->btree_opf) || getBaseType(type) == BPCHAROID ||
		(!OidIsValid(collation) && type_is_collatable(type)) ||
		get_op_opfamily_strategy(operator, entry->btree_opf) != BTEqualStrategyNumber)
		return false;
	proc = get_opfamily_proc(entry->btree_opf, entry->btree_opintype, entry->btree_opintype, BTEQUALIMAGE_PROC);
	return OidIsValid(proc) &&
		DatumGetBool(OidFunctionCall1Coll(proc, collation, ObjectIdGetDatum(entry->btree_opintype)));
}

/*
 * Length of the type whose images the operator compares (pg_type.typlen), or 0 if
 * it is another operator.
 */
static int16
find_image_length(Oid operator, Oid collation)
{
	Oid			left_type;
	Oid			right_type;
	int16		length;
	bool		byval;

	op_input_types(operator, &left_type, &right_type);
	if (left_type != right_type || !ivm_equality_is_of_images(left_type, operator, collation))
		return 0;
	get_typlenbyval(left_type, &length, &byval);
	return length == -1 || (byval && length == sizeof(Datum)) ? length : 0;
}

/*
 * Values without a hash function are hashed by their image or not at all, which depends on
 * more than the operator.
 */
bool
ivm_equalities_hash_alike(Oid looked_for, Oid stored)
{
	Oid			left;
	Oid			right;
	Oid			stored_left;
	Oid			stored_right;

	if (looked_for == stored)
		return true;
	find_hash_functions(looked_for, &left, &right);
	find_hash_functions(stored, &stored_left, &stored_right);
	return OidIsValid(right) && right == stored_right;
}

Oid
ivm_equality_of_right(Oid operator)
{
	Oid			left_type;
	Oid			right_type;
	CatCList   *list;
	Oid			result = InvalidOid;

	op_input_types(operator, &left_type, &right_type);
	if (left_type == right_type)
		return operator;
	list = SearchSysCacheList1(AMOPOPID, ObjectIdGetDatum(operator));
	for (int i = 0; i < list->n_members && !OidIsValid(result); i++)
	{
		Form_pg_amop member = (Form_pg_amop) GETSTRUCT(&list->members[i]->tuple);
		bool		is_equality = (member->amopmethod == HASH_AM_OID && member->amopstrategy == HTEqualStrategyNumber) ||
			(member->amopmethod == BTREE_AM_OID && member->amopstrategy == BTEqualStrategyNumber);

		if (is_equality)
			result = get_opfamily_member(member->amopfamily, right_type, right_type, member->amopstrategy);
	}
	ReleaseSysCacheList(list);
	return result;
}

/*
 * Builds a key in the current context.  operators and collations have
 * "ncolumns" elements and are copied.  An error only for an operator that
 * does not exist.
 */
IvmKey *
ivm_key_create(int ncolumns, const Oid *equal_operators, const Oid *collations, bool null_equal)
{
	IvmKey	   *key = palloc0(sizeof(IvmKey));

	key->ncolumns = ncolumns;
	key->equal = palloc0(sizeof(FmgrInfo) * Max(ncolumns, 1));
	key->hash_left = palloc0(sizeof(FmgrInfo) * Max(ncolumns, 1));
	key->hash_right = palloc0(sizeof(FmgrInfo) * Max(ncolumns, 1));
	key->image_length = palloc0(sizeof(int16) * Max(ncolumns, 1));
	key->collations = palloc0(sizeof(Oid) * Max(ncolumns, 1));
	key->null_equal = null_equal;

	for (int i = 0; i < ncolumns; i++)
	{
		Oid			function = get_opcode(equal_operators[i]);
		Oid			left;
		Oid			right;

		if (!OidIsValid(function))
			elog(ERROR, "cache lookup failed for operator %u", equal_operators[i]);
		fmgr_info(function, &key->equal[i]);
		find_hash_functions(equal_operators[i], &left, &right);
		if (OidIsValid(left))
		{
			fmgr_info(left, &key->hash_left[i]);
			fmgr_info(right, &key->hash_right[i]);
		}
		else
			key->image_length[i] = find_image_length(equal_operators[i], collations[i]);
		key->collations[i] = collations[i];
	}
	return key;
}

/* True if the type's values can be hashed with the extended function. */
static bool
type_is_hashable(Oid type)
{
	return OidIsValid(lookup_type_cache(type, TYPECACHE_HASH_EXTENDED_PROC)->hash_extended_proc);
}

/*
 * True if the hash function can be called with this value.  The value may be
 * replaced by its detoasted copy, so that this is not done twice.
 */
static bool
value_is_hashable(FmgrInfo *function, Datum *value)
{
	switch (function->fn_oid)
	{
		case InvalidOid:
			return false;

		case F_HASH_ARRAY:
		case F_HASH_ARRAY_EXTENDED:
			{
				AnyArrayType *array = DatumGetAnyArrayP(*value);

				if (VARATT_IS_EXPANDED_HEADER(array))
					*value = EOHPGetRODatum(&array->xpn.hdr);
				else
					*value = PointerGetDatum(array);
				return type_is_hashable(AARR_ELEMTYPE(array));
			}

		case F_HASH_RECORD:
		case F_HASH_RECORD_EXTENDED:
			{
				HeapTupleHeader header = DatumGetHeapTupleHeader(*value);
				TupleDesc	desc = lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(header),
														  HeapTupleHeaderGetTypMod(header));
				bool		hashable = true;

				for (int i = 0; i < desc->natts && hashable; i++)
				{
					Form_pg_attribute attribute = TupleDescAttr(desc, i);

					if (!attribute->attisdropped)
						hashable = type_is_hashable(attribute->atttypid);
				}
				ReleaseTupleDesc(desc);
				*value = PointerGetDatum(header);
				return hashable;
			}

		case F_HASH_RANGE:
		case F_HASH_RANGE_EXTENDED:
			{
				RangeType  *range = DatumGetRangeTypeP(*value);

				*value = RangeTypePGetDatum(range);
				return type_is_hashable(RangeTypeGetOid(range));
			}

		case F_HASH_MULTIRANGE:
		case F_HASH_MULTIRANGE_EXTENDED:
			{
				MultirangeType *multirange = DatumGetMultirangeTypeP(*value);

				*value = MultirangeTypePGetDatum(multirange);
				return type_is_hashable(MultirangeTypeGetOid(multirange));
			}

		default:
			return true;
	}
}

/* Hash of a value's bytes. */
static uint64
image_hash(Datum value, int16 length)
{
	struct varlena *image;

	if (length != -1)
		return hash_bytes_extended((const unsigned char *) &value, sizeof(Datum), 0);
	image = PG_DETOAST_DATUM_PACKED(value);
	return hash_bytes_extended((const unsigned char *) VARDATA_ANY(image), VARSIZE_ANY_EXHDR(image), 0);
}

/* One side's hash. */
static uint64
hash_side(IvmKey *key, FmgrInfo *functions, const Datum *values, const bool *isnull)
{
	uint64		hash = EMPTY_KEY_HASH;

	for (int i = 0; i < key->ncolumns; i++)
	{
		FmgrInfo   *function = &functions[i];
		Datum		value = values[i];
		uint64		one;

		if (isnull[i])
			one = NULL_HASH;
		else if (key->image_length[i] != 0)
			one = image_hash(value, key->image_length[i]);
		else if (!value_is_hashable(function, &value))
			one = UNHASHABLE_HASH;
		else if (function->fn_nargs == 2)
			one = DatumGetUInt64(FunctionCall2Coll(function, key->collations[i],
												   value, UInt64GetDatum(0)));
		else
			one = ivm_hash_spread(DatumGetUInt32(FunctionCall1Coll(function, key->collations[i], value)));
		hash = hash_combine64(hash, one);
	}

	/* combining is linear: spread it over all bits once */
	hash = ivm_hash_finish(ivm_hash_spread(hash));
	return hash != 0 ? hash : 1;
}

/*
 * Hash of a key that is looked for.  Never 0.  Keys that are equal have equal
 * hashes, whichever side they are on; so have all NULLs of one column.
 */
uint64
ivm_key_hash_left(IvmKey *key, const Datum *values, const bool *isnull)
{
	return hash_side(key, key->hash_left, values, isnull);
}

/*
 * Hash of a key that is stored.
 */
uint64
ivm_key_hash_right(IvmKey *key, const Datum *values, const bool *isnull)
{
	return hash_side(key, key->hash_right, values, isnull);
}

/*
 * Compares a key that is looked for with a stored one.  NULL equals NULL if
 * the key says so, and never anything else.
 */
bool
ivm_key_equal(IvmKey *key, const Datum *left, const bool *left_isnull,
			  const Datum *right, const bool *right_isnull)
{
	for (int i = 0; i < key->ncolumns; i++)
	{
		if (left_isnull[i] || right_isnull[i])
		{
			if (!key->null_equal || left_isnull[i] != right_isnull[i])
				return false;
			continue;
		}
		if (!DatumGetBool(FunctionCall2Coll(&key->equal[i], key->collations[i], left[i], right[i])))
			return false;
	}
	return true;
}

bool
ivm_key_hash_row(IvmKey *key, List *states, ExprContext *econtext, TupleTableSlot *row, uint64 *hash)
{
	MemoryContext old;
	Datum	   *values;
	bool	   *isnull;
	bool		null_key = false;
	ListCell   *cell;
	int			i = 0;

	ResetExprContext(econtext);
	econtext->ecxt_scantuple = row;
	old = MemoryContextSwitchTo(econtext->ecxt_per_tuple_memory);
	values = palloc(sizeof(Datum) * Max(key->ncolumns, 1));
	isnull = palloc(sizeof(bool) * Max(key->ncolumns, 1));
	foreach(cell, states)
	{
		values[i] = ExecEvalExpr(lfirst(cell), econtext, &isnull[i]);
		null_key |= isnull[i++];
	}
	null_key &= !key->null_equal;
	if (!null_key)
		*hash = ivm_key_hash_right(key, values, isnull);
	MemoryContextSwitchTo(old);
	return !null_key;
}

/*
 * The key that some columns of a row are.
 */
IvmRowKey *
ivm_row_key_create(IvmKey *key, TupleDesc desc, const int *columns)
{
	IvmRowKey  *row_key = palloc(sizeof(IvmRowKey));

	row_key->key = key;
	row_key->desc = desc;
	row_key->columns = palloc(sizeof(int) * Max(key->ncolumns, 1));
	memcpy(row_key->columns, columns, sizeof(int) * key->ncolumns);
	row_key->values = palloc(sizeof(Datum) * Max(key->ncolumns, 1));
	row_key->isnull = palloc(sizeof(bool) * Max(key->ncolumns, 1));
	return row_key;
}

/*
 * Hash of a row by its key alone; leaves nothing in the current context.
 */
uint64
ivm_row_key_hash(void *row_key, MinimalTuple tuple)
{
	static MemoryContext scratch = NULL;
	IvmRowKey  *which = row_key;
	HeapTupleData heap_tuple;
	MemoryContext caller;
	uint64		hash;

	/* Reset before use: whatever an error left behind goes as well. */
	if (scratch == NULL)
		scratch = AllocSetContextCreate(TopMemoryContext, "ivm row key", ALLOCSET_SMALL_SIZES);
	else
		MemoryContextReset(scratch);
	caller = MemoryContextSwitchTo(scratch);

	heap_tuple.t_len = tuple->t_len + MINIMAL_TUPLE_OFFSET;
	heap_tuple.t_data = (HeapTupleHeader) ((char *) tuple - MINIMAL_TUPLE_OFFSET);
	ItemPointerSetInvalid(&heap_tuple.t_self);
	heap_tuple.t_tableOid = InvalidOid;
	for (int i = 0; i < which->key->ncolumns; i++)
		which->values[i] = heap_getattr(&heap_tuple, which->columns[i], which->desc, &which->isnull[i]);
	hash = ivm_key_hash_right(which->key, which->values, which->isnull);

	MemoryContextSwitchTo(caller);
	return hash;
}
