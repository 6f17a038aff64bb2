/*-------------------------------------------------------------------------
 *
 * lookup.c
 *	  Rows of an arrangement by their key.
 *
 * Three ways to the rows, of which the compiler chose one:
 *
 *		index	probe an index of each base table under the batch's snapshot; heap
 *				rows pass the scan's filter and projection
 *		scan	read the base tables once, into an index of rows (zset/row_index.c),
 *				which is in the arena or in a file
 *		state	the rows of a state table with the key's hash
 *
 * A shared state table is brought to a batch's snapshot before the batch reads
 * it.  Nobody does that for a population, so there its rows are read from the
 * base tables, like those of a scan.
 *
 * An index that cannot be used under the snapshot after all (gone, not valid, or
 * good only for younger snapshots: the planner checks that for queries, and we
 * have to for probes) makes its table be scanned.  So does the announcement of so
 * many probes that reading the table is cheaper.
 *
 * A lookup may return rows that do not match (an equal hash, an index on fewer
 * columns); the reader tests what it wants in any case.  A NULL in the probe matches
 * nothing, or NULL, as the arrangement says.
 *
 * Relations are opened with the first probe of a batch, so a lookup that is
 * not used costs nothing.  An IvmLookup is for one place in a plan: the receiver may
 * probe other lookups while one is under way, not the same.
 *
 * Memory: rows of scans in the arena as long as they are few, everything else of a
 * batch in the context that is current when the batch begins; expressions as
 * long as the lookup.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "catalog/pg_am.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "storage/bufmgr.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "arrange/arrange.h"
#include "arrange/projection.h"
#include "arrange/state_table.h"
#include "memory/reclaim.h"
#include "zset/key.h"
#include "zset/row_index.h"
#include "zset/zset.h"

/* Probes for each page of a table from which on reading it whole is cheaper. */
#define PROBES_PER_PAGE		15

#define MAX_CACHED_PAGES	8192	/* of a table that is read whole for that
									 * reason */

/* One base table. */
typedef struct LookupPart
{
	IvmIndexProbe *probe;
	IvmProjection *projection;

	/* of the batch */
	bool		open;
	bool		cached;			/* read whole: its rows are in the row index */
	Relation	heap;
	Relation	index;
	IndexScanDesc scan;
	TupleTableSlot *row;
	ScanKey		keys;
} LookupPart;

struct IvmLookup
{
	IvmArrangement *arrangement;
	Oid			relid;
	int			nkeys;
	IvmKey	   *key;
	List	   *key_states;		/* ExprState over the input's row */
	ExprContext *econtext;
	int			nparts;
	LookupPart *parts;

	/* of the batch */
	bool		from_tables;	/* not from the state table */
	Snapshot	snapshot;
	IvmArena   *arena;
	MemoryContext context;
	int64		expected;
	IvmRowIndex *rows;			/* of the cached parts; NULL: none is */
	TupleTableSlot *found;		/* a cached or stored row */
	IvmStateTable *state;
};

/* Makes the parts in the current context. */
static void
make_parts(IvmLookup *lookup, List *probes)
{
	ListCell   *cell;
	int			i = 0;

	lookup->nparts = list_length(probes);
	lookup->parts = palloc0(sizeof(LookupPart) * Max(lookup->nparts, 1));
	foreach(cell, probes)
	{
		LookupPart *part = &lookup->parts[i++];

		part->probe = lfirst(cell);
		part->projection = ivm_projection_create(part->probe->scan->tlist, part->probe->scan->quals,
												 part->probe->scan->desc);
	}
}

/* The tables of a shared state table, each to be read whole. */
static List *
table_probes(IvmArrangement *arrangement)
{
	List	   *scans = arrangement->input->kind == IVM_APPEND ? arrangement->input->inputs : list_make1(arrangement->input);
	List	   *result = NIL;
	ListCell   *cell;

	foreach(cell, scans)
	{
		IvmIndexProbe *probe = palloc0(sizeof(IvmIndexProbe));

		probe->scan = lfirst(cell);
		result = lappend(result, probe);
	}
	return result;
}

IvmLookup *
ivm_lookup_create(IvmArrangement *arrangement, Oid relid)
{
	IvmLookup  *lookup = palloc0(sizeof(IvmLookup));
	Oid		   *operators;
	Oid		   *collations;

	lookup->arrangement = arrangement;
	lookup->relid = relid;
	lookup->nkeys = list_length(arrangement->keys);
	operators = palloc(sizeof(Oid) * Max(lookup->nkeys, 1));
	collations = palloc(sizeof(Oid) * Max(lookup->nkeys, 1));
	for (int i = 0; i < lookup->nkeys; i++)
	{
		operators[i] = list_nth_oid(arrangement->operators, i);
		collations[i] = list_nth_oid(arrangement->collations, i);
	}
	lookup->key = ivm_key_create(lookup->nkeys, operators, collations, arrangement->null_safe);
	lookup->key_states = ExecInitExprList(arrangement->keys, NULL);
	lookup->econtext = ivm_expr_context_create();
	make_parts(lookup, arrangement->probes);
	return lookup;
}

void
ivm_lookup_begin(IvmLookup *lookup, Snapshot snapshot, IvmArena *arena, bool populate)
{
	if (lookup->arrangement->kind == IVM_ARRANGE_STATE)
	{
		lookup->from_tables = populate && lookup->arrangement->shared;
		make_parts(lookup, lookup->from_tables ? table_probes(lookup->arrangement) : NIL);
	}
	lookup->snapshot = snapshot;
	lookup->arena = arena;
	lookup->context = CurrentMemoryContext;
	lookup->expected = 0;
	lookup->rows = NULL;
	lookup->found = NULL;
	lookup->state = NULL;
	for (int i = 0; i < lookup->nparts; i++)
	{
		LookupPart *part = &lookup->parts[i];

		part->open = false;
		part->cached = false;
		part->heap = NULL;
		part->index = NULL;
		part->scan = NULL;
		part->row = NULL;
	}
}

void
ivm_lookup_expect(IvmLookup *lookup, int64 probes)
{
	lookup->expected = probes;
}

/* Hash of a key that is looked for. */
static uint64
probe_hash(IvmLookup *lookup, const Datum *values, const bool *isnull)
{
	MemoryContext old = MemoryContextSwitchTo(lookup->econtext->ecxt_per_tuple_memory);
	uint64		hash = ivm_key_hash_left(lookup->key, values, isnull);

	MemoryContextSwitchTo(old);
	ResetExprContext(lookup->econtext);
	return hash;
}

/*
 * Index probes
 */

/* plancat.c has the same test. */
bool
ivm_index_is_usable(Relation index, Snapshot snapshot)
{
	Form_pg_index form = index->rd_index;

	if (!form->indisvalid || !form->indisready || !form->indislive)
		return false;
	return !form->indcheckxmin ||
		TransactionIdPrecedes(HeapTupleHeaderGetXmin(index->rd_indextuple->t_data), snapshot->xmin);
}

/* Prepares the scan keys: column i of the index = key number "key_numbers[i]" of the probe. */
static void
prepare_index_scan(IvmLookup *lookup, LookupPart *part)
{
	int			nkeys = list_length(part->probe->key_numbers);
	StrategyNumber strategy = part->index->rd_rel->relam == HASH_AM_OID ?
		HTEqualStrategyNumber : BTEqualStrategyNumber;

	part->keys = palloc0(sizeof(ScanKeyData) * nkeys);
	for (int i = 0; i < nkeys; i++)
	{
		Oid			operator = list_nth_oid(lookup->arrangement->operators,
											list_nth_int(part->probe->key_numbers, i));
		Oid			probe_type;
		Oid			key_type;
		Oid			member;

		op_input_types(operator, &probe_type, &key_type);
		member = get_commutator(operator);
		if (!OidIsValid(member))
			elog(ERROR, "operator %u has no commutator", operator);
		ScanKeyEntryInitialize(&part->keys[i], 0, i + 1, strategy, probe_type,
							   part->index->rd_indcollation[i], get_opcode(member), (Datum) 0);
	}
	part->scan = index_beginscan(part->heap, part->index, lookup->snapshot, nkeys, 0);
}

static bool
probe_index(IvmLookup *lookup, LookupPart *part, const Datum *values, const bool *isnull,
			IvmLookupReceiver receiver, void *context)
{
	MemoryContext old = MemoryContextSwitchTo(lookup->context);
	int			nkeys = list_length(part->probe->key_numbers);
	bool		more = true;

	for (int i = 0; i < nkeys; i++)
	{
		int			key = list_nth_int(part->probe->key_numbers, i);

		part->keys[i].sk_argument = isnull[key] ? (Datum) 0 : values[key];
		part->keys[i].sk_flags = isnull[key] ? SK_ISNULL | SK_SEARCHNULL : 0;
	}
	index_rescan(part->scan, part->keys, nkeys, NULL, 0);
	while (more && index_getnext_slot(part->scan, ForwardScanDirection, part->row))
	{
		TupleTableSlot *result = ivm_projection_apply(part->projection, part->row);

		CHECK_FOR_INTERRUPTS();
		if (result != NULL)
		{
			MemoryContextSwitchTo(old);
			more = receiver(context, result, 1);
			MemoryContextSwitchTo(lookup->context);
		}
	}
	ExecClearTuple(part->row);
	MemoryContextSwitchTo(old);
	return more;
}

/*
 * Tables that are read whole
 */

/* Adds the rows of a part's table to the row index. */
static void
read_table(IvmLookup *lookup, LookupPart *part)
{
	TableScanDesc scan = table_beginscan(part->heap, lookup->snapshot, 0, NULL);
	MemoryContext row_context = AllocSetContextCreate(lookup->context, "ivm lookup row", ALLOCSET_DEFAULT_SIZES);

	if (lookup->rows == NULL)
		lookup->rows = ivm_row_index_create(lookup->arena);
	while (table_scan_getnextslot(scan, ForwardScanDirection, part->row))
	{
		TupleTableSlot *result = ivm_projection_apply(part->projection, part->row);
		uint64		hash;
		MemoryContext old;

		CHECK_FOR_INTERRUPTS();
		if (result == NULL || !ivm_key_hash_row(lookup->key, lookup->key_states, lookup->econtext, result, &hash))
			continue;
		old = MemoryContextSwitchTo(row_context);
		ivm_row_index_add(lookup->rows, ivm_row_form(lookup->arrangement->input->desc, result), 1, hash);
		MemoryContextSwitchTo(old);
		MemoryContextReset(row_context);
	}
	ExecClearTuple(part->row);
	table_endscan(scan);
	MemoryContextDelete(row_context);
}

static bool
probe_rows(IvmLookup *lookup, uint64 hash, IvmLookupReceiver receiver, void *context)
{
	IvmRow	   *row;
	bool		more = true;

	ivm_row_index_find(lookup->rows, hash);
	while (more && (row = ivm_row_index_next(lookup->rows)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		ExecStoreMinimalTuple(ivm_row_tuple(row), lookup->found, false);
		more = receiver(context, lookup->found, row->weight);
	}
	ExecClearTuple(lookup->found);
	return more;
}

/* Rows of the state table: all of them if there is no key. */
static bool
probe_state(IvmLookup *lookup, const Datum *values, const bool *isnull,
			IvmLookupReceiver receiver, void *context)
{
	IvmStateRow *row;
	bool		more = true;

	if (lookup->nkeys == 0)
		ivm_state_table_scan(lookup->state);
	else
		ivm_state_table_find(lookup->state, probe_hash(lookup, values, isnull));
	while (more && (row = ivm_state_table_next(lookup->state)) != NULL)
	{
		ExecStoreMinimalTuple(row->tuple, lookup->found, false);
		more = receiver(context, lookup->found, row->weight);
	}
	ExecClearTuple(lookup->found);
	return more;
}

/* Opens the base tables, and decides how each is looked up. */
static void
open_parts(IvmLookup *lookup)
{
	for (int i = 0; i < lookup->nparts; i++)
	{
		LookupPart *part = &lookup->parts[i];

		part->heap = table_open(part->probe->scan->relid, AccessShareLock);
		part->row = table_slot_create(part->heap, NULL);
		part->cached = !OidIsValid(part->probe->index);
		if (!part->cached)
		{
			BlockNumber pages = RelationGetNumberOfBlocks(part->heap);

			/* nor one that might not stay in memory: half of what this process may hold */
			part->cached = pages <= MAX_CACHED_PAGES && pages <= ivm_pin_limit() / BLCKSZ * 4 &&
				lookup->expected > (int64) pages * PROBES_PER_PAGE;
		}
		if (!part->cached)
		{
			if (SearchSysCacheExists1(INDEXRELID, ObjectIdGetDatum(part->probe->index)))
			{
				part->index = index_open(part->probe->index, AccessShareLock);
				part->cached = !ivm_index_is_usable(part->index, lookup->snapshot);
			}
			else
				part->cached = true;
		}
		if (part->cached)
			read_table(lookup, part);
		else
			prepare_index_scan(lookup, part);
		part->open = true;
	}
	if (lookup->rows != NULL)
		ivm_row_index_finish(lookup->rows);
}

static void
open_lookup(IvmLookup *lookup)
{
	MemoryContext old = MemoryContextSwitchTo(lookup->context);

	lookup->found = MakeSingleTupleTableSlot(lookup->arrangement->input->desc, &TTSOpsMinimalTuple);
	if (lookup->arrangement->kind == IVM_ARRANGE_STATE && !lookup->from_tables)
	{
		Oid			relid = ivm_state_table_get(ivm_arrangement_state_name(lookup->arrangement, lookup->relid));

		lookup->state = ivm_state_table_open(relid, lookup->snapshot);
	}
	else
		open_parts(lookup);
	MemoryContextSwitchTo(old);
}

bool
ivm_lookup_probe(IvmLookup *lookup, const Datum *values, const bool *isnull,
				 IvmLookupReceiver receiver, void *context)
{
	bool		more = true;

	for (int i = 0; i < lookup->nkeys; i++)
		if (isnull[i] && !lookup->arrangement->null_safe)
			return true;
	if (lookup->found == NULL)
		open_lookup(lookup);

	if (lookup->state != NULL)
		return probe_state(lookup, values, isnull, receiver, context);
	if (lookup->rows != NULL)
		more = probe_rows(lookup, probe_hash(lookup, values, isnull), receiver, context);
	for (int i = 0; i < lookup->nparts && more; i++)
		if (!lookup->parts[i].cached)
			more = probe_index(lookup, &lookup->parts[i], values, isnull, receiver, context);
	return more;
}

bool
ivm_lookup_is_unique(IvmLookup *lookup)
{
	if (lookup->nparts != 1 || !lookup->parts[0].probe->unique)
		return false;
	if (lookup->found == NULL)
		open_lookup(lookup);
	return !lookup->parts[0].cached;
}

int64
ivm_lookup_pages(IvmLookup *lookup)
{
	int64		pages = 0;

	if (lookup->found == NULL)
		open_lookup(lookup);
	if (lookup->state != NULL)
		return -1;
	for (int i = 0; i < lookup->nparts; i++)
		pages += RelationGetNumberOfBlocks(lookup->parts[i].heap);
	return pages;
}

void
ivm_lookup_read(IvmLookup *lookup, IvmLookupReceiver receiver, void *context)
{
	for (int i = 0; i < lookup->nparts; i++)
	{
		LookupPart *part = &lookup->parts[i];
		TableScanDesc scan = table_beginscan(part->heap, lookup->snapshot, 0, NULL);

		while (table_scan_getnextslot(scan, ForwardScanDirection, part->row))
		{
			TupleTableSlot *result = ivm_projection_apply(part->projection, part->row);

			CHECK_FOR_INTERRUPTS();
			if (result != NULL)
				(void) receiver(context, result, 1);
		}
		ExecClearTuple(part->row);
		table_endscan(scan);
	}
}

void
ivm_lookup_end(IvmLookup *lookup)
{
	if (lookup->found == NULL)
		return;
	for (int i = 0; i < lookup->nparts; i++)
	{
		LookupPart *part = &lookup->parts[i];

		if (part->row != NULL)
			ExecDropSingleTupleTableSlot(part->row);
		if (part->scan != NULL)
			index_endscan(part->scan);
		if (part->index != NULL)
			index_close(part->index, NoLock);
		if (part->heap != NULL)
			table_close(part->heap, NoLock);
	}
	if (lookup->state != NULL)
		ivm_state_table_close(lookup->state);
	if (lookup->rows != NULL)
		ivm_row_index_close(lookup->rows);
	ExecDropSingleTupleTableSlot(lookup->found);
	lookup->found = NULL;
}

/*
 * State tables of arrangements
 */

/*
 * The name tells what is in the table.  A number would not do: the order in
 * which a plan's arrangements are made depends on the base tables' unique indexes,
 * which come and go under a plan that stays the same.
 */
char *
ivm_arrangement_state_name(IvmArrangement *arrangement, Oid relid)
{
	IvmDigest	digest = ivm_text_digest(arrangement->text);

	if (arrangement->shared)
		return psprintf("a_%s", ivm_digest_text(digest));
	return ivm_state_table_name(relid, digest);
}

void
ivm_arrangement_apply(IvmArrangement *arrangement, Oid state_table, IvmZset *delta, Snapshot snapshot, bool fill)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "ivm arrangement", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	IvmLookup  *lookup = ivm_lookup_create(arrangement, InvalidOid);
	IvmStateTable *table = ivm_state_table_open(state_table, snapshot);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(arrangement->input->desc, &TTSOpsMinimalTuple);
	IvmZsetParts parts;
	int64		count;
	IvmRow	  **rows;

	if (fill)
		ivm_state_table_fill(table);
	ivm_zset_parts_begin(delta, &parts);
	while ((rows = ivm_zset_parts_next(&parts, &count)) != NULL)
	{
		int64		kept = 0;

		for (int64 i = 0; i < count; i++)
		{
			uint64		hash;

			CHECK_FOR_INTERRUPTS();
			ExecStoreMinimalTuple(ivm_row_tuple(rows[i]), slot, false);
			if (!ivm_key_hash_row(lookup->key, lookup->key_states, lookup->econtext, slot, &hash))
			{
				/* a NULL key never matches */
				if (!arrangement->whole)
					continue;
				hash = 0;		/* no key has that */
			}
			rows[i]->hash = hash;
			rows[kept++] = rows[i];
		}
		qsort(rows, kept, sizeof(IvmRow *), ivm_row_compare_hashes);
		for (int64 i = 0; i < kept; i++)
			ivm_state_table_add(table, rows[i]->hash, ivm_row_tuple(rows[i]), rows[i]->weight);
	}
	ivm_zset_parts_end(&parts);

	ExecDropSingleTupleTableSlot(slot);
	ivm_state_table_close(table);
	FreeExprContext(lookup->econtext, true);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}
