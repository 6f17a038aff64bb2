/*-------------------------------------------------------------------------
 *
 * row_finder.c
 *	  From the contents of a view's rows to their places in its heap.
 *
 * The row at a place is the one that is looked for if the snapshot sees it
 * and its image is equal, byte for byte.  (Which of several equal rows is
 * taken makes no difference.)  Everything else here only says where to look
 * first:
 *
 * - at the place where the one row of a single-row view was written last by
 *	 this process.  The heap of such a view, updated all day, may hold many
 *	 dead versions while an old snapshot is held somewhere, and any index
 *	 would hold as many entries;
 * - in the index that view_index.c chose, in index order, which keeps
 *	 neighbouring lookups on the same pages;
 * - in the whole heap, once, with the wanted rows in a hash table: if there
 *	 is no index, or if there are so many rows that reading the heap is
 *	 cheaper than that many lookups.
 *
 * A row may be deleted as soon as it is found: the scan goes on behind it, and
 * the snapshot need not see that it is gone.
 *
 * Memory: scans allocate as they go, in the current context; row images are
 * formed in a context that is reset for each row.  Reading the whole heap takes
 * 16 to 32 bytes for each wanted row.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "apply/row_finder.h"

#include "access/genam.h"
#include "access/nbtree.h"
#include "access/relscan.h"
#include "access/tableam.h"
#include "catalog/pg_type_d.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

/*
 * Reading a page and forming the images of its rows costs about as much as
 * this many lookups.
 */
#define LOOKUPS_PER_PAGE	32

/* Below this, the size of the heap is not asked for. */
#define MANY_LOOKUPS		64

/* Where this process wrote the row of a single-row view. */
typedef struct LastPlace
{
	Oid			relid;			/* hash key */
	ItemPointerData tid;
} LastPlace;

static HTAB *last_places = NULL;

/* Who takes what is found. */
typedef struct Taker
{
	IvmFoundRow found;
	void	   *context;
} Taker;

static bool is_wanted_row(IvmRowFinder *finder, MinimalTuple wanted);
static bool find_by_last_place(IvmRowFinder *finder, IvmViewChange *changes, int64 count, Taker *taker);
static void find_by_index(IvmRowFinder *finder, IvmViewChange *changes, int64 count, Taker *taker);
static void find_by_scan(IvmRowFinder *finder, IvmViewChange *changes, int64 count, Taker *taker);
static void report_missing_row(IvmRowFinder *finder);

/* Which of a change's keys are NULL. */
static inline bool *
key_nulls(const IvmViewChange *change, int nkeys)
{
	return (bool *) (change->keys + nkeys);
}

static inline void
take(Taker *taker, IvmViewChange *change, ItemPointer tid)
{
	taker->found(taker->context, change, tid);
	change->wanted--;
}

void
ivm_row_finder_begin(IvmRowFinder *finder, Relation view, IvmPlan *plan, TupleDesc desc,
					 Snapshot snapshot, int nindexes, Relation *indexes)
{
	memset(finder, 0, sizeof(IvmRowFinder));
	finder->view = view;
	finder->plan = plan;
	finder->desc = desc;
	finder->snapshot = snapshot;
	finder->row_context = AllocSetContextCreate(CurrentMemoryContext, "ivm view row", ALLOCSET_DEFAULT_SIZES);
	finder->slot = table_slot_create(view, NULL);
	finder->fit.kind = IVM_VIEW_INDEX_NONE;

	for (int i = 0; i < nindexes && !plan->single_row; i++)
	{
		IvmViewIndex fit;

		ivm_view_index_classify(indexes[i], plan, snapshot, &fit);
		if (fit.kind > finder->fit.kind)
			finder->fit = fit;
	}

	if (finder->fit.kind == IVM_VIEW_INDEX_KEY)
	{
		Relation	index = finder->fit.index;

		finder->nkeys = list_length(finder->fit.columns);
		finder->key_size = MAXALIGN(finder->nkeys * (sizeof(Datum) + sizeof(bool)));
		finder->order = palloc0(finder->nkeys * sizeof(SortSupportData));
		for (int i = 0; i < finder->nkeys; i++)
		{
			SortSupport order = &finder->order[i];
			int16		option = index->rd_indoption[i];

			order->ssup_cxt = CurrentMemoryContext;
			order->ssup_collation = index->rd_indcollation[i];
			order->ssup_nulls_first = (option & INDOPTION_NULLS_FIRST) != 0;
			order->ssup_attno = i + 1;
			PrepareSortSupportFromIndexRel(index,
										   (option & INDOPTION_DESC) ? BTGreaterStrategyNumber : BTLessStrategyNumber,
										   order);
		}
	}
	else if (finder->fit.kind != IVM_VIEW_INDEX_NONE)
	{
		bool		as_it_is = finder->fit.columns == NIL;

		finder->hash_desc = ivm_row_hash_columns_desc(desc, finder->fit.columns);
		for (int i = 0; i < desc->natts && as_it_is; i++)
			as_it_is = TupleDescAttr(desc, i)->attstorage == TupleDescAttr(finder->hash_desc, i)->attstorage;
		if (as_it_is)
			finder->hash_desc = NULL;
	}
}

void
ivm_row_finder_prepare(IvmRowFinder *finder, IvmViewChange *change, void *space)
{
	MinimalTuple tuple = ivm_row_tuple(change->row);
	HeapTupleData heap_tuple;
	ListCell   *lc;
	int			i = 0;

	change->keys = NULL;
	change->hash = change->row->hash;

	if (finder->fit.kind == IVM_VIEW_INDEX_NONE ||
		(finder->fit.kind == IVM_VIEW_INDEX_ROW_HASH && finder->hash_desc == NULL))
		return;

	heap_tuple.t_len = tuple->t_len + MINIMAL_TUPLE_OFFSET;
	heap_tuple.t_data = (HeapTupleHeader) ((char *) tuple - MINIMAL_TUPLE_OFFSET);
	ItemPointerSetInvalid(&heap_tuple.t_self);
	heap_tuple.t_tableOid = InvalidOid;

	if (finder->fit.kind == IVM_VIEW_INDEX_KEY)
	{
		/* By-reference values point into the row, which outlives the change. */
		bool	   *isnull;

		change->keys = space;
		isnull = key_nulls(change, finder->nkeys);
		foreach(lc, finder->fit.columns)
		{
			change->keys[i] = heap_getattr(&heap_tuple, lfirst_int(lc), finder->desc, &isnull[i]);
			i++;
		}
	}
	else
	{
		MemoryContext caller;
		Datum	   *values;
		bool	   *isnull;

		MemoryContextReset(finder->row_context);
		caller = MemoryContextSwitchTo(finder->row_context);
		values = palloc(finder->hash_desc->natts * sizeof(Datum));
		isnull = palloc(finder->hash_desc->natts * sizeof(bool));
		if (finder->fit.columns == NIL)
			heap_deform_tuple(&heap_tuple, finder->desc, values, isnull);
		foreach(lc, finder->fit.columns)
		{
			values[i] = heap_getattr(&heap_tuple, lfirst_int(lc), finder->desc, &isnull[i]);
			i++;
		}
		change->hash = ivm_row_image_hash(ivm_row_form_values(finder->hash_desc, values, isnull));
		MemoryContextSwitchTo(caller);
	}
}

int
ivm_row_finder_compare(const IvmViewChange *a, const IvmViewChange *b, IvmRowFinder *finder)
{
	int64		hash_a;
	int64		hash_b;

	/* The row that replaces a single row belongs to it, whatever it is. */
	if (finder->plan->single_row)
		return 0;

	for (int i = 0; i < finder->nkeys; i++)
	{
		int			result = ApplySortComparator(a->keys[i], key_nulls(a, finder->nkeys)[i],
												 b->keys[i], key_nulls(b, finder->nkeys)[i],
												 &finder->order[i]);

		if (result != 0)
			return result;
	}
	if (finder->nkeys > 0)
		return 0;

	hash_a = (int64) a->hash;
	hash_b = (int64) b->hash;
	return hash_a < hash_b ? -1 : hash_a > hash_b ? 1 : 0;
}

void
ivm_row_finder_find(IvmRowFinder *finder, IvmViewChange *changes, int64 count,
					IvmFoundRow found, void *context)
{
	Taker		taker = {found, context};
	int64		wanted = 0;

	for (int64 i = 0; i < count; i++)
	{
		changes[i].wanted = 0;
		if (changes[i].action != IVM_VIEW_DELETE)
			continue;
		changes[i].wanted = -changes[i].row->weight;
		wanted += changes[i].wanted;
	}
	if (wanted == 0)
		return;

	if (wanted == 1 && find_by_last_place(finder, changes, count, &taker))
		return;
	if (finder->fit.kind == IVM_VIEW_INDEX_NONE ||
		(wanted >= MANY_LOOKUPS &&
		 wanted / LOOKUPS_PER_PAGE > RelationGetNumberOfBlocks(finder->view)))
		find_by_scan(finder, changes, count, &taker);
	else
		find_by_index(finder, changes, count, &taker);
}

/* A view that is dropped is forgotten; no other needs to be remembered. */
static void
view_invalidated(Datum argument, Oid relid)
{
	HASH_SEQ_STATUS status;
	LastPlace  *place;

	if (OidIsValid(relid))
	{
		(void) hash_search(last_places, &relid, HASH_REMOVE, NULL);
		return;
	}
	hash_seq_init(&status, last_places);
	while ((place = hash_seq_search(&status)) != NULL)
		(void) hash_search(last_places, &place->relid, HASH_REMOVE, NULL);
}

void
ivm_row_finder_remember(IvmRowFinder *finder, ItemPointer tid)
{
	Oid			relid = RelationGetRelid(finder->view);
	LastPlace  *place;

	if (last_places == NULL)
	{
		HASHCTL		control = {.keysize = sizeof(Oid),.entrysize = sizeof(LastPlace)};

		last_places = hash_create("ivm single rows", 16, &control, HASH_ELEM | HASH_BLOBS);
		CacheRegisterRelcacheCallback(view_invalidated, (Datum) 0);
	}
	place = hash_search(last_places, &relid, HASH_ENTER, NULL);
	place->tid = *tid;
}

void
ivm_row_finder_end(IvmRowFinder *finder)
{
	ExecDropSingleTupleTableSlot(finder->slot);
}

/* Is the row in finder->slot the wanted one? */
static bool
is_wanted_row(IvmRowFinder *finder, MinimalTuple wanted)
{
	MemoryContext caller;
	bool		result;

	MemoryContextReset(finder->row_context);
	caller = MemoryContextSwitchTo(finder->row_context);
	result = ivm_row_image_equal(ivm_row_form(finder->desc, finder->slot), wanted);
	MemoryContextSwitchTo(caller);
	return result;
}

/*
 * Looks where the row was written last.  The place may hold anything by now,
 * or be gone: the snapshot and the image tell.
 */
static bool
find_by_last_place(IvmRowFinder *finder, IvmViewChange *changes, int64 count, Taker *taker)
{
	Oid			relid = RelationGetRelid(finder->view);
	LastPlace  *place;
	ItemPointerData tid;
	bool		found = false;

	if (!finder->plan->single_row || last_places == NULL)
		return false;
	place = hash_search(last_places, &relid, HASH_FIND, NULL);
	if (place == NULL ||
		ItemPointerGetBlockNumber(&place->tid) >= RelationGetNumberOfBlocks(finder->view))
		return false;
	tid = place->tid;			/* an invalidation may forget it */

	for (int64 i = 0; i < count; i++)
	{
		if (changes[i].wanted == 0)
			continue;
		if (table_tuple_fetch_row_version(finder->view, &tid, finder->snapshot, finder->slot) &&
			is_wanted_row(finder, ivm_row_tuple(changes[i].row)))
		{
			take(taker, &changes[i], &tid);
			found = true;
		}
		ExecClearTuple(finder->slot);
	}
	return found;
}

/* Looks each row up in the index. */
static void
find_by_index(IvmRowFinder *finder, IvmViewChange *changes, int64 count, Taker *taker)
{
	Relation	index = finder->fit.index;
	int			nkeys = Max(finder->nkeys, 1);
	ScanKey		keys = palloc0(nkeys * sizeof(ScanKeyData));
	IndexScanDesc scan;

	if (finder->nkeys == 0)
		ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(0));
	for (int i = 0; i < finder->nkeys; i++)
	{
		Oid			type = index->rd_opcintype[i];
		Oid			equal = get_opfamily_member(index->rd_opfamily[i], type, type, BTEqualStrategyNumber);

		if (!OidIsValid(equal))
			elog(ERROR, "missing operator %d(%u,%u) in opfamily %u",
				 BTEqualStrategyNumber, type, type, index->rd_opfamily[i]);
		ScanKeyEntryInitialize(&keys[i], 0, i + 1, BTEqualStrategyNumber, InvalidOid,
							   index->rd_indcollation[i], get_opcode(equal), (Datum) 0);
	}

	scan = index_beginscan(finder->view, index, finder->snapshot, nkeys, 0);
	for (int64 i = 0; i < count; i++)
	{
		IvmViewChange *change = &changes[i];

		if (change->wanted == 0)
			continue;

		if (finder->nkeys == 0)
			keys[0].sk_argument = Int64GetDatum((int64) change->hash);
		for (int k = 0; k < finder->nkeys; k++)
		{
			bool		isnull = key_nulls(change, finder->nkeys)[k];

			keys[k].sk_flags = isnull ? SK_ISNULL | SK_SEARCHNULL : 0;
			keys[k].sk_strategy = isnull ? InvalidStrategy : BTEqualStrategyNumber;
			keys[k].sk_argument = isnull ? (Datum) 0 : change->keys[k];
		}

		index_rescan(scan, keys, nkeys, NULL, 0);
		while (change->wanted > 0 && index_getnext_slot(scan, ForwardScanDirection, finder->slot))
		{
			CHECK_FOR_INTERRUPTS();
			if (is_wanted_row(finder, ivm_row_tuple(change->row)))
				take(taker, change, &finder->slot->tts_tid);
		}
		if (change->wanted > 0)
			report_missing_row(finder);
	}
	index_endscan(scan);
	ExecClearTuple(finder->slot);
	pfree(keys);
}

/* Reads the heap once and picks the wanted rows. */
static void
find_by_scan(IvmRowFinder *finder, IvmViewChange *changes, int64 count, Taker *taker)
{
	int64		missing = 0;	/* rows with copies that are not found yet */
	uint64		mask;
	IvmViewChange **table;		/* open addressing by image hash */
	TableScanDesc scan;

	for (int64 i = 0; i < count; i++)
	{
		if (changes[i].wanted > 0)
			missing++;
	}
	mask = pg_nextpower2_64(Max(missing, 8) * 2) - 1;
	table = MemoryContextAllocExtended(CurrentMemoryContext, (mask + 1) * sizeof(IvmViewChange *),
									   MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (int64 i = 0; i < count; i++)
	{
		uint64		place = changes[i].row->hash & mask;

		if (changes[i].wanted == 0)
			continue;
		while (table[place] != NULL)
			place = (place + 1) & mask;
		table[place] = &changes[i];
	}

	scan = table_beginscan_strat(finder->view, finder->snapshot, 0, NULL, true, false);
	while (missing > 0 && table_scan_getnextslot(scan, ForwardScanDirection, finder->slot))
	{
		MemoryContext caller;
		MinimalTuple tuple;
		IvmViewChange *change;
		uint64		place;

		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(finder->row_context);
		caller = MemoryContextSwitchTo(finder->row_context);
		tuple = ivm_row_form(finder->desc, finder->slot);
		MemoryContextSwitchTo(caller);

		for (place = ivm_row_image_hash(tuple) & mask;
			 (change = table[place]) != NULL; place = (place + 1) & mask)
		{
			if (!ivm_row_image_equal(ivm_row_tuple(change->row), tuple))
				continue;
			if (change->wanted > 0)
			{
				take(taker, change, &finder->slot->tts_tid);
				if (change->wanted == 0)
					missing--;
			}
			break;
		}
	}
	table_endscan(scan);
	ExecClearTuple(finder->slot);
	pfree(table);

	if (missing > 0)
		report_missing_row(finder);
}

static void
report_missing_row(IvmRowFinder *finder)
{
	char	   *name = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(finder->view)),
												  RelationGetRelationName(finder->view));

	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("incremental view \"%s\" lacks a row that is to be deleted",
					RelationGetRelationName(finder->view)),
			 errhint("Compute the view anew with REFRESH MATERIALIZED VIEW %s.", name)));
}
