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
#include "access/tupmacs.h"
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
static IvmCachedRow *
make_room(IvmCacheFill *fill, Size size)
{
	if (fill->nrows == MAX_ROWS || fill->used + size > MAX_ROW_BYTES)
		return NULL;
	if (fill->used + size > fill->size)
	{
		fill->size = Max(fill->size * 2, fill->used + size);
		fill->buffer = repalloc(fill->buffer, fill->size);
	}
	return (IvmCachedRow *) (fill->buffer + fill->used);
}

/*
 * A value as it can be kept: nothing that is elsewhere, or compressed.  False if it is
 * too large.
 */
static bool
keep_value(Datum *value, int16 length, Size most)
{
	if (length == -1 && VARATT_IS_EXTENDED(DatumGetPointer(*value)) &&
		!VARATT_IS_SHORT(DatumGetPointer(*value)))
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
	int			natts = cache->desc->natts;
	Size		head = sizeof(IvmCachedRow) + (sizeof(Datum) + sizeof(bool)) * natts;
	Size		size = head;
	MemoryContext old;
	Datum	   *kept;
	IvmCachedRow *row;
	Datum	   *own;

	if (fill->refused)
		return;
	old = MemoryContextSwitchTo(temporary);
	kept = cache->nreferences > 0 ? palloc(sizeof(Datum) * cache->nreferences) : NULL;
	for (int i = 0; i < cache->nreferences && !fill->refused; i++)
	{
		int			column = cache->references[i];
		Form_pg_attribute attribute = TupleDescAttr(cache->desc, column);

		if (isnull[column])
			continue;
		kept[i] = values[column];
		fill->refused = !keep_value(&kept[i], attribute->attlen, MAX_ROW_BYTES);
		if (fill->refused)
			break;
		size = att_align_datum(size, attribute->attalign, attribute->attlen, kept[i]);
		size += datumGetSize(kept[i], false, attribute->attlen);
	}
	size = MAXALIGN(size);
	row = fill->refused ? NULL : make_room(fill, size);
	fill->refused = row == NULL;
	if (row != NULL)
	{
		row->size = size;
		row->weight = weight;
		own = (Datum *) (row + 1);
		memcpy(own, values, sizeof(Datum) * natts);
		memcpy(own + natts, isnull, sizeof(bool) * natts);
		size = head;
		for (int i = 0; i < cache->nreferences; i++)
		{
			int			column = cache->references[i];
			Form_pg_attribute attribute = TupleDescAttr(cache->desc, column);
			Size		length;

			if (isnull[column])
				continue;
			length = datumGetSize(kept[i], false, attribute->attlen);
			size = att_align_datum(size, attribute->attalign, attribute->attlen, kept[i]);
			memcpy((char *) row + size, DatumGetPointer(kept[i]), length);
			own[column] = (Datum) size;
			size += length;
		}
		fill->used += row->size;
		fill->nrows++;
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(temporary);
}

/* Offsets become pointers. */
static void
set_pointers(IvmCache *cache, char *rows, Size bytes)
{
	int			natts = cache->desc->natts;

	if (cache->nreferences == 0)
		return;
	for (Size position = 0; position < bytes;)
	{
		IvmCachedRow *row = (IvmCachedRow *) (rows + position);
		Datum	   *columns = (Datum *) (row + 1);
		bool	   *isnull = (bool *) (columns + natts);

		for (int i = 0; i < cache->nreferences; i++)
		{
			int			column = cache->references[i];

			if (!isnull[column])
				columns[column] = PointerGetDatum((char *) row + columns[column]);
		}
		position += row->size;
	}
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
		set_pointers(cache, rows, bytes);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(temporary);
	ivm_cache_judge(cache);
}
