/*-------------------------------------------------------------------------
 *
 * row.c
 *	  Forming, hashing and comparing the rows of Z-sets.
 *
 * Deltas are consolidated by the image of a row: two rows are the same if
 * their bytes are.  So the same values must always give the same bytes, by
 * whatever way they came: from the WAL, from the heap, out of an expression.
 * A value of variable length has many forms, and one of them is chosen:
 *
 *	external, expanded, compressed		inline and plain
 *	a header of one or four bytes		one byte wherever the type allows it
 *										and the value is short enough
 *
 * The same holds for what stands inside composite values, and for those
 * inside arrays, ranges and multiranges: PostgreSQL keeps no external values
 * in there, but compressed ones it does.  Only values with double alignment
 * can contain a composite, so no others are looked into.
 *
 * Values of dropped columns become NULL, since what a tuple still has of them
 * depends on when it was written.
 *
 * Image equality is finer than the types' equality (numeric 1.0 and 1.00 are
 * two images).  That is what a view needs: its rows are shown, not compared.
 * Where equality by type is meant there are keys (key.h).
 *
 * Not promised: equal images for equal values of two shapes.  In particular
 * a column's storage PLAIN is part of the shape.
 *
 * Memory: results in the current context, everything passing in a context of
 * our own that is reset for each row which needs it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/multirangetypes.h"
#include "utils/rangetypes.h"
#include "utils/typcache.h"

#include "base/compat.h"
#include "zset/hash.h"
#include "zset/row.h"

static Datum plain_value(Oid type, Datum value);
static bool plain_values(TupleDesc desc, Datum *values, const bool *isnull);

/* True if a value of the type is stored in pieces that may need work. */
static bool
type_may_nest(int16 length, char alignment)
{
	return length == -1 && alignment == TYPALIGN_DOUBLE;
}

/* True if the value has a form that is never stored in a row. */
static bool
value_has_other_form(Form_pg_attribute attribute, Datum value)
{
	struct varlena *pointer = (struct varlena *) DatumGetPointer(value);

	if (VARATT_IS_EXTERNAL(pointer) || VARATT_IS_COMPRESSED(pointer))
		return true;
	return VARATT_IS_SHORT(pointer) && attribute->attstorage == TYPSTORAGE_PLAIN;
}

/* The inside of a composite value. */
static Datum
plain_composite(Datum value)
{
	HeapTupleHeader header = DatumGetHeapTupleHeader(value);
	HeapTupleData tuple;
	TupleDesc	desc;
	Datum	   *values;
	bool	   *isnull;
	bool		changed = false;

	desc = lookup_rowtype_tupdesc_copy(HeapTupleHeaderGetTypeId(header),
									   HeapTupleHeaderGetTypMod(header));
	values = palloc(sizeof(Datum) * desc->natts);
	isnull = palloc(sizeof(bool) * desc->natts);

	tuple.t_len = HeapTupleHeaderGetDatumLength(header);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = header;
	heap_deform_tuple(&tuple, desc, values, isnull);

	for (int i = 0; i < desc->natts; i++)
		if (TupleDescAttr(desc, i)->attisdropped && !isnull[i])
			isnull[i] = changed = true;
	changed |= plain_values(desc, values, isnull);
	if (changed)
		value = heap_copy_tuple_as_datum(heap_form_tuple(desc, values, isnull), desc);
	return value;
}

/* The inside of an array's elements. */
static Datum
plain_array(TypeCacheEntry *element, Datum value)
{
	ArrayType  *array = DatumGetArrayTypeP(value);
	Datum	   *values;
	bool	   *isnull;
	int			count;
	bool		changed = false;

	deconstruct_array(array, element->type_id, element->typlen, element->typbyval,
					  element->typalign, &values, &isnull, &count);
	for (int i = 0; i < count; i++)
	{
		Datum		plain;

		CHECK_FOR_INTERRUPTS();
		if (isnull[i])
			continue;
		plain = plain_value(element->type_id, values[i]);
		changed |= (plain != values[i]);
		values[i] = plain;
	}
	if (changed)
		value = PointerGetDatum(construct_md_array(values, isnull, ARR_NDIM(array),
												   ARR_DIMS(array), ARR_LBOUND(array),
												   element->type_id, element->typlen,
												   element->typbyval, element->typalign));
	return value;
}

/* The inside of a range's bounds; "type" is its type cache entry with range information. */
static RangeType *
plain_range(TypeCacheEntry *type, RangeType *range)
{
	RangeBound	lower;
	RangeBound	upper;
	bool		empty;
	bool		changed = false;

	range_deserialize(type, range, &lower, &upper, &empty);
	if (!empty && !lower.infinite)
	{
		Datum		plain = plain_value(type->rngelemtype->type_id, lower.val);

		changed |= (plain != lower.val);
		lower.val = plain;
	}
	if (!empty && !upper.infinite)
	{
		Datum		plain = plain_value(type->rngelemtype->type_id, upper.val);

		changed |= (plain != upper.val);
		upper.val = plain;
	}
	return changed ? range_serialize(type, &lower, &upper, empty) : range;
}

/* The same for each range of a multirange. */
static Datum
plain_multirange(TypeCacheEntry *type, Datum value)
{
	TypeCacheEntry *range_type = type->rngtype;
	RangeType **ranges;
	int32		count;
	bool		changed = false;

	multirange_deserialize(range_type, DatumGetMultirangeTypeP(value), &count, &ranges);
	for (int32 i = 0; i < count; i++)
	{
		RangeType  *plain;

		CHECK_FOR_INTERRUPTS();
		plain = plain_range(range_type, ranges[i]);
		changed |= (plain != ranges[i]);
		ranges[i] = plain;
	}
	return changed ? PointerGetDatum(make_multirange(type->type_id, range_type, count, ranges)) : value;
}

/*
 * Gives a plain value whose inside is plain too: the same datum, if it was.
 */
static Datum
plain_value(Oid type, Datum value)
{
	TypeCacheEntry *entry;
	TypeCacheEntry *element;

	check_stack_depth();

	if (type == RECORDOID)
		return plain_composite(value);

	entry = lookup_type_cache(type, 0);
	switch (entry->typtype)
	{
		case TYPTYPE_COMPOSITE:
			return plain_composite(value);

		case TYPTYPE_DOMAIN:
			entry = lookup_type_cache(type, TYPECACHE_DOMAIN_BASE_INFO);
			return plain_value(entry->domainBaseType, value);

		case TYPTYPE_RANGE:
			entry = lookup_type_cache(type, TYPECACHE_RANGE_INFO);
			if (!type_may_nest(entry->rngelemtype->typlen, entry->rngelemtype->typalign))
				return value;
			return RangeTypePGetDatum(plain_range(entry, DatumGetRangeTypeP(value)));

		case TYPTYPE_MULTIRANGE:
			entry = lookup_type_cache(type, TYPECACHE_MULTIRANGE_INFO);
			element = entry->rngtype->rngelemtype;
			if (!type_may_nest(element->typlen, element->typalign))
				return value;
			return plain_multirange(entry, value);

		default:
			if (entry->typsubscript != F_ARRAY_SUBSCRIPT_HANDLER)
				return value;
			element = lookup_type_cache(entry->typelem, 0);
			if (!type_may_nest(element->typlen, element->typalign))
				return value;
			return plain_array(element, value);
	}
}

/*
 * Makes all values plain, in place.  Returns whether any was not.
 */
static bool
plain_values(TupleDesc desc, Datum *values, const bool *isnull)
{
	bool		changed = false;

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);
		Datum		value = values[i];

		if (isnull[i] || attribute->attlen != -1)
			continue;
		if (value_has_other_form(attribute, value))
			value = PointerGetDatum(detoast_attr((struct varlena *) DatumGetPointer(value)));
		if (type_may_nest(attribute->attlen, attribute->attalign) && !attribute->attisdropped)
			value = plain_value(attribute->atttypid, value);
		changed |= (value != values[i]);
		values[i] = value;
	}
	return changed;
}

/*
 * True if the values may be formed as they are.
 */
static bool
values_are_simple(TupleDesc desc, const Datum *values, const bool *isnull)
{
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		if (isnull[i])
			continue;
		if (attribute->attisdropped)
			return false;
		if (attribute->attlen != -1)
			continue;
		if (attribute->attalign == TYPALIGN_DOUBLE || value_has_other_form(attribute, values[i]))
			return false;
	}
	return true;
}

/*
 * Forms the canonical tuple of the slot's first desc->natts columns, in the
 * current context.  The slot must have that many.  May read a toast table
 * (under the active snapshot), so it belongs into a transaction or a decoding
 * context unless nothing is external.
 */
MinimalTuple
ivm_row_form(TupleDesc desc, TupleTableSlot *slot)
{
	Assert(slot->tts_tupleDescriptor->natts >= desc->natts);
	slot_getsomeattrs(slot, desc->natts);
	return ivm_row_form_values(desc, slot->tts_values, slot->tts_isnull);
}

/*
 * The same from arrays, which are not changed.
 */
MinimalTuple
ivm_row_form_values(TupleDesc desc, Datum *values, bool *isnull)
{
	static MemoryContext scratch = NULL;
	MemoryContext caller;
	MinimalTuple tuple;
	Datum	   *plain;
	bool	   *plain_isnull;

	if (values_are_simple(desc, values, isnull))
		return heap_form_minimal_tuple_compat(desc, values, isnull, 0);

	/* Reset before use: whatever an error left behind goes as well. */
	if (scratch == NULL)
		scratch = AllocSetContextCreate(TopMemoryContext, "ivm row forming", ALLOCSET_DEFAULT_SIZES);
	else
		MemoryContextReset(scratch);

	caller = MemoryContextSwitchTo(scratch);
	plain = palloc(sizeof(Datum) * desc->natts);
	plain_isnull = palloc(sizeof(bool) * desc->natts);
	memcpy(plain, values, sizeof(Datum) * desc->natts);
	for (int i = 0; i < desc->natts; i++)
		plain_isnull[i] = isnull[i] || TupleDescAttr(desc, i)->attisdropped;
	plain_values(desc, plain, plain_isnull);
	MemoryContextSwitchTo(caller);

	tuple = heap_form_minimal_tuple_compat(desc, plain, plain_isnull, 0);
	MemoryContextReset(scratch);
	return tuple;
}

/*
 * Length and alignment of each column are all that decides where the next one
 * begins, and a dropped column keeps both.
 */
uint32
ivm_row_layout(TupleDesc desc, int natts)
{
	uint32		result = natts;

	for (int i = 0; i < natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		result = hash_combine(result, murmurhash32(((uint32) (uint16) attribute->attlen << 8) |
												   (uint8) attribute->attalign));
	}
	return result;
}

bytea *
ivm_row_to_bytes(MemoryContext context, MinimalTuple tuple)
{
	bytea	   *result = MemoryContextAlloc(context, VARHDRSZ + tuple->t_len);

	SET_VARSIZE(result, VARHDRSZ + tuple->t_len);
	memcpy(VARDATA(result), tuple, tuple->t_len);
	return result;
}

/*
 * Hash of a canonical tuple's bytes.  The same in every process and on every
 * start of a server, so that it may be stored.
 */
uint64
ivm_row_image_hash(MinimalTuple tuple)
{
	return ivm_hash_finish(hash_bytes_extended((const unsigned char *) tuple, tuple->t_len, 0));
}

/*
 * True if two canonical tuples of one shape are the same row.
 */
bool
ivm_row_image_equal(MinimalTuple a, MinimalTuple b)
{
	return a->t_len == b->t_len && memcmp(a, b, a->t_len) == 0;
}

/*
 * Copies a canonical tuple into the arena as a row.  Raises
 * ERRCODE_OUT_OF_MEMORY where the arena may not grow.
 */
IvmRow *
ivm_row_make(IvmArena *arena, MinimalTuple tuple, int64 weight, uint64 hash)
{
	IvmRow	   *row = ivm_arena_alloc(arena, MAXALIGN(sizeof(IvmRow)) + tuple->t_len);

	row->next = NULL;
	row->weight = weight;
	row->hash = hash;
	memcpy(ivm_row_tuple(row), tuple, tuple->t_len);
	return row;
}

/*
 * Order of two rows (const IvmRow **) by their hashes.
 */
int
ivm_row_compare_hashes(const void *a, const void *b)
{
	uint64		x = (*(IvmRow *const *) a)->hash;
	uint64		y = (*(IvmRow *const *) b)->hash;

	return x < y ? -1 : x > y;
}
