/*-------------------------------------------------------------------------
 *
 * cache_fill.c
 *	  The rows of a key while they are being found, to be cached.
 *
 * A lookup gives the rows of a key one by one, and their number is known only at the
 * end.  So they are collected here, and become an entry (cache.c) when all of them have
 * come.  They are in the form that they have in an entry, but what should be
 * pointers are offsets from the row's begin, as rows are moved twice: when the buffer
 * grows, and into the entry, where offsets become pointers.
 *
 * An entry outlives the batch, so there is nothing in it that is elsewhere: values that are
 * out of line or compressed are fetched, and kept plain.
 *
 * Keys with many rows are not cached, but there is an entry that says so, which saves
 * collecting their rows again.  The same goes for rows that are too large.  Keys that are
 * too large themselves have no entry.
 *
 * It costs two copies of each row, one if the rows are not kept in the end.
 *
 * Memory: what becomes an entry is collected in the batch's context.  Values that are
 * fetched are in a context of the process, which is reset after each row.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "utils/datum.h"
#include "utils/memutils.h"

#include "arrange/cache_internal.h"

/* What may become an entry. */
#define MAX_ROWS			64
#define MAX_ROW_BYTES		((Size) 16 * 1024)
#define MAX_KEY_BYTES		((Size) 1024)	/* of a column */

struct IvmCacheFill
{
	IvmCache   *cache;
	char	   *buffer;			/* rows; pointers are offsets */
	Size		size;
	Size		used;
	int			nrows;
	bool		refused;
};

static MemoryContext temporary = NULL;	/* of the process; NULL: not yet */

IvmCacheFill *
ivm_cache_fill_create(IvmCache *cache)
{
	IvmCacheFill *fill = palloc0(sizeof(IvmCacheFill));

	if (temporary == NULL)
		temporary = AllocSetContextCreate(TopMemoryContext, "ivm cache", ALLOCSET_DEFAULT_SIZES);
	fill->cache = cache;
	fill->size = 512;
	fill->buffer = palloc(fill->size);
	return fill;
}

void
ivm_cache_fill_begin(IvmCacheFill *fill)
{
	fill->used = 0;
	fill->nrows = 0;
	fill->refused = false;
}

/* Room for a row; NULL: the key has too many. */
static IvmValueRow *
make_room(IvmCacheFill *fill, Size size)
{
	if (fill->nrows == MAX_ROWS || fill->used + size > MAX_ROW_BYTES)
		return NULL;
	if (fill->used + size > fill->size)
	{
		fill->size = Max(fill->size * 2, fill->used + size);
		fill->buffer = repalloc(fill->buffer, fill->size);
	}
	return (IvmValueRow *) (fill->buffer + fill->used);
}

/*
 * A value as it can be kept: nothing that is elsewhere, or compressed.  False if it is
 * too large.
 */
static bool
keep_value(Datum *value, int16 length, Size most)
{
	if (length == -1 && (VARATT_IS_EXTERNAL(DatumGetPointer(*value)) || VARATT_IS_COMPRESSED(DatumGetPointer(*value))))
	{
		if (toast_raw_datum_size(*value) > most)
			return false;
		*value = PointerGetDatum(detoast_attr((struct varlena *) DatumGetPointer(*value)));
	}
	return datumGetSize(*value, false, length) <= most;
}

void
ivm_cache_fill_add(IvmCacheFill *fill, const Datum *values, const bool *isnull, int64 weight)
{
	IvmCache   *cache = fill->cache;
	const IvmValueRowShape *shape = &cache->shape;
	Size		bytes = sizeof(Datum) * shape->desc->natts;
	MemoryContext old;
	Datum	   *kept;
	Size		size;
	IvmValueRow *row = NULL;

	if (fill->refused)
		return;
	old = MemoryContextSwitchTo(temporary);
	kept = palloc(Max(bytes, 1));
	memcpy(kept, values, bytes);
	for (int i = 0; i < shape->nreferences && !fill->refused; i++)
	{
		int			column = shape->references[i];

		if (!isnull[column])
			fill->refused = !keep_value(&kept[column], TupleDescAttr(shape->desc, column)->attlen, MAX_ROW_BYTES);
	}
	if (!fill->refused)
	{
		size = ivm_value_row_size(shape, kept, isnull);
		row = make_room(fill, size);
	}
	fill->refused = row == NULL;
	if (row != NULL)
	{
		ivm_value_row_fill(shape, row, size, kept, isnull, weight);
		fill->used += size;
		fill->nrows++;
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(temporary);
}

void
ivm_cache_fill_end(IvmCacheFill *fill, uint64 hash, const Datum *values)
{
	IvmCache   *cache = fill->cache;
	MemoryContext old = MemoryContextSwitchTo(temporary);
	Datum	   *kept = palloc(sizeof(Datum) * cache->nkeys);
	Size		bytes = fill->refused ? 0 : fill->used;
	bool		small = true;
	char	   *rows = NULL;

	for (int i = 0; i < cache->nkeys && small; i++)
	{
		kept[i] = values[i];
		if (!cache->byval[i])
			small = keep_value(&kept[i], cache->lengths[i], MAX_KEY_BYTES);
	}
	if (small)
		rows = ivm_cache_add_entry(cache, hash, kept, bytes, fill->refused);
	if (rows != NULL)
	{
		memcpy(rows, fill->buffer, bytes);
		for (Size position = 0; position < bytes; position += ((IvmValueRow *) (rows + position))->size)
			ivm_value_row_finish(&cache->shape, (IvmValueRow *) (rows + position));
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(temporary);
	ivm_cache_judge(cache);
}
