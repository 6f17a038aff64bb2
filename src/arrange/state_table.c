/*-------------------------------------------------------------------------
 *
 * state_table.c
 *	  Rows kept by the extension in a heap table, found by a hash.
 *
 * One shape serves for everything: the hash of a key, the hash of the row's
 * image, a weight, and the bytes of a minimal tuple.  So no type needs a B-tree or hash operator class, no key
 * is too long for an index, NULL keys are no special case, and dropping or altering
 * a type cannot touch the table.  Whoever looks a key up gets all rows with
 * its hash and compares them with the key's real equality.
 *
 * The index is on both hashes.  A key that very many rows share would else
 * make each change of one of them a walk over all.  Where there is one row a
 * key (an aggregate's accumulators), which changes its image with every update,
 * the second hash is 0, so that these updates can be heap-only too.
 *
 * The table is written through the table access method and its index directly,
 * in the transaction of the batch.  The fill factor leaves room for updates
 * that keep the hash, which are then heap-only.
 *
 * A state table is a materialized view to the server, for the reasons at the head of
 * metadata.c, with a query that returns nothing.  It is a member of the
 * extension: that is what keeps it out of dumps, as it must be, for state belongs to one
 * server's files (pg_upgrade, which copies these, takes it along).  A member cannot depend on
 * a view as well, since dropping the view would then drop the extension: which
 * tables belong to a view is told by their names, and whoever drops the view drops them.
 * Default privileges do not apply.
 *
 * Costs: a row has 48 bytes of overhead besides its image.  Rows are not
 * found in the order of their keys.
 *
 * Memory: the handle and the current row are in a context under the one that
 * was current when the table was opened.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/reloptions.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/heap.h"
#include "catalog/index.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_index.h"
#include "catalog/pg_opfamily.h"
#include "catalog/pg_type.h"
#include "catalog/toasting.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "commands/matview.h"
#include "commands/tablespace.h"
#include "commands/view.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "parser/analyze.h"
#include "parser/parser.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "arrange/state_table.h"
#include "base/compat.h"
#include "base/index_entries.h"
#include "metadata/metadata.h"
#include "zset/row.h"

/* How the names of all private state tables of a view begin; takes its oid. */
#define NAME_PREFIX		"v%u_"

enum
{
	COLUMN_HASH = 1,
	COLUMN_IMAGE,
	COLUMN_WEIGHT,
	COLUMN_ROW
};

struct IvmStateTable
{
	MemoryContext context;		/* holds this */
	MemoryContext row_context;	/* holds the current row */
	Relation	heap;
	Relation	index;			/* the one to search */
	IvmIndexEntries *entries;	/* in all of them; NULL: nothing was written */
	Snapshot	snapshot;
	TupleTableSlot *slot;		/* to read */
	TupleTableSlot *write_slot;
	IndexScanDesc hash_scan;	/* kept open; by hash */
	IndexScanDesc image_scan;	/* kept open; by both hashes */
	IndexScanDesc index_scan;	/* which of them is under way */
	TableScanDesc table_scan;	/* while a full scan is under way */
	IvmStateRow row;
};

char *
ivm_state_table_name(Oid view, IvmDigest digest)
{
	return psprintf(NAME_PREFIX "%s", view, ivm_digest_text(digest));
}

Oid
ivm_state_table_lookup(const char *name)
{
	Oid			schema = get_namespace_oid(IVM_STATE_SCHEMA, true);

	return OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;
}

/* What a state table is defined as; it is never run. */
static Query *
state_query(void)
{
	const char *text = "SELECT NULL::pg_catalog.int8 AS hash, NULL::pg_catalog.int8 AS image,"
		" NULL::pg_catalog.int8 AS weight, NULL::pg_catalog.bytea AS \"row\" WHERE false";
	RawStmt    *statement = linitial_node(RawStmt, raw_parser(text, RAW_PARSE_DEFAULT));

	return parse_analyze_fixedparams(statement, text, NULL, 0, NULL);
}

static TupleDesc
state_tuple_desc(void)
{
	TupleDesc	desc = CreateTemplateTupleDesc(COLUMN_ROW);

	TupleDescInitEntry(desc, COLUMN_HASH, "hash", INT8OID, -1, 0);
	TupleDescInitEntry(desc, COLUMN_IMAGE, "image", INT8OID, -1, 0);
	TupleDescInitEntry(desc, COLUMN_WEIGHT, "weight", INT8OID, -1, 0);
	TupleDescInitEntry(desc, COLUMN_ROW, "row", BYTEAOID, -1, 0);
	return desc;
}

static IndexElem *
state_index_column(const char *name)
{
	IndexElem  *element = makeNode(IndexElem);

	element->name = pstrdup(name);
	return element;
}

Oid
ivm_state_table_create(const char *name)
{
	IndexStmt  *index = makeNode(IndexStmt);
	List	   *options = list_make1(makeDefElem("fillfactor", (Node *) makeInteger(70), -1));
	ObjectAddress table;
	ObjectAddress extension;
	Relation	heap;
	Oid			userid;
	int			security_context;
	Oid			relid;

	GetUserIdAndSecContext(&userid, &security_context);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, security_context | SECURITY_LOCAL_USERID_CHANGE);

	/* no statements: those would be seen by the event triggers of the users */
	relid = heap_create_with_catalog(name, get_namespace_oid(IVM_STATE_SCHEMA, false),
									 GetDefaultTablespace(RELPERSISTENCE_PERMANENT, false),
									 InvalidOid, InvalidOid, InvalidOid, BOOTSTRAP_SUPERUSERID,
									 HEAP_TABLE_AM_OID, state_tuple_desc(), NIL,
									 RELKIND_MATVIEW, RELPERSISTENCE_PERMANENT,
									 false, /* shared */
									 false, /* mapped */
									 ONCOMMIT_NOOP,
									 transformRelOptions((Datum) 0, options, NULL, NULL, false, false),
									 false, /* default privileges */
									 false, /* in system schemas */
									 true,	/* internal */
									 InvalidOid, NULL);
	CommandCounterIncrement();
	heap = table_open(relid, AccessExclusiveLock);
	SetMatViewPopulatedState(heap, true);
	table_close(heap, NoLock);
	CommandCounterIncrement();
	NewRelationCreateToastTable(relid, (Datum) 0);
	CommandCounterIncrement();
	StoreViewQuery(relid, state_query(), false);
	CommandCounterIncrement();

	index->relation = makeRangeVar(pstrdup(IVM_STATE_SCHEMA), pstrdup(name), -1);
	index->accessMethod = pstrdup("btree");
	index->indexParams = list_make2(state_index_column("hash"), state_index_column("image"));
	index->transformed = true;
	DefineIndex(relid, index, InvalidOid, InvalidOid, InvalidOid,
				false,			/* is_alter_table */
				false,			/* check_rights */
				false,			/* check_not_in_use */
				false,			/* skip_build */
				true);			/* quiet */
	CommandCounterIncrement();
	SetUserIdAndSecContext(userid, security_context);

	ObjectAddressSet(table, RelationRelationId, relid);
	ObjectAddressSet(extension, ExtensionRelationId, get_extension_oid("ivm_ext", false));
	recordDependencyOn(&table, &extension, DEPENDENCY_EXTENSION);
	return relid;
}

/* The view that a state table of this name belongs to, or InvalidOid. */
static Oid
owning_view(const char *name)
{
	unsigned int view;
	int			length = 0;

	return sscanf(name, NAME_PREFIX "%n", &view, &length) == 1 && length > 0 ? view : InvalidOid;
}

/*
 * State tables whose names are in [first, last): by the index on schema
 * and name, but for the rows that are not it is all one.
 */
static List *
state_tables_between(const char *first, const char *last, bool unused)
{
	Relation	classes;
	Oid			namespace = get_namespace_oid(IVM_STATE_SCHEMA, true);
	NameData	first_name;
	NameData	last_name;
	ScanKeyData keys[3];
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *result = NIL;

	if (!OidIsValid(namespace))
		return NIL;
	namestrcpy(&first_name, first);
	namestrcpy(&last_name, last);
	ScanKeyInit(&keys[0], Anum_pg_class_relname, BTGreaterEqualStrategyNumber, F_NAMEGE, NameGetDatum(&first_name));
	ScanKeyInit(&keys[1], Anum_pg_class_relname, BTLessStrategyNumber, F_NAMELT, NameGetDatum(&last_name));
	ScanKeyInit(&keys[2], Anum_pg_class_relnamespace, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(namespace));
	classes = table_open(RelationRelationId, AccessShareLock);
	scan = systable_beginscan(classes, ClassNameNspIndexId, true, NULL, 3, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_class form = (Form_pg_class) GETSTRUCT(tuple);

		if (form->relkind == RELKIND_MATVIEW &&
			(!unused || !ivm_relation_is_incremental(owning_view(NameStr(form->relname)))))
			result = lappend_oid(result, form->oid);
	}
	systable_endscan(scan);
	table_close(classes, AccessShareLock);
	return result;
}

List *
ivm_state_tables_of_view(Oid view)
{
	char	   *first = psprintf(NAME_PREFIX, view);
	char	   *last = pstrdup(first);

	last[strlen(last) - 1]++;	/* the underscore: nothing else is between */
	return state_tables_between(first, last, false);
}

List *
ivm_state_tables_unused(void)
{
	return state_tables_between("v", "w", true);
}

void
ivm_state_tables_drop(List *relids)
{
	ListCell   *lc;

	foreach(lc, relids)
	{
		Oid			relid = lfirst_oid(lc);

		LockRelationOid(relid, AccessExclusiveLock);
		if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid)))
			ivm_metadata_drop_state_table(relid);
	}
}

static bool
index_fits(Relation index)
{
	Form_pg_index form = index->rd_index;

	if (index->rd_rel->relam != BTREE_AM_OID || !form->indislive || !form->indisready || !form->indisvalid ||
		form->indnkeyatts != 2 || RelationGetIndexPredicate(index) != NIL)
		return false;

	/*
	 * No update that changes a hash has ever been heap-only, so there are no
	 * broken chains, and indcheckxmin need not be looked at.
	 */
	for (int i = 0; i < form->indnkeyatts; i++)
	{
		if (form->indkey.values[i] != COLUMN_HASH + i || index->rd_opfamily[i] != INTEGER_BTREE_FAM_OID)
			return false;
	}
	return true;
}

bool
ivm_state_table_needs_index(Oid relid, Oid index)
{
	Relation	heap = table_open(relid, AccessShareLock);
	List	   *fitting = NIL;
	ListCell   *lc;

	foreach(lc, RelationGetIndexList(heap))
	{
		Relation	candidate = index_open(lfirst_oid(lc), AccessShareLock);

		if (index_fits(candidate))
			fitting = lappend_oid(fitting, lfirst_oid(lc));
		index_close(candidate, AccessShareLock);
	}
	table_close(heap, AccessShareLock);
	return list_length(fitting) == 1 && linitial_oid(fitting) == index;
}

/* Opens an index by which rows can be found; which one makes no difference. */
static Relation
open_index(Relation heap)
{
	ListCell   *lc;

	foreach(lc, RelationGetIndexList(heap))
	{
		Relation	index = index_open(lfirst_oid(lc), RowExclusiveLock);

		if (index_fits(index))
			return index;
		index_close(index, NoLock);
	}
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("state table \"%s\" has no index on its hashes", RelationGetRelationName(heap)),
			 errhint("Use REFRESH MATERIALIZED VIEW to rebuild the view.")));
}

IvmStateTable *
ivm_state_table_open(Oid relid, Snapshot snapshot)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "ivm state table", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	IvmStateTable *table = palloc0(sizeof(IvmStateTable));

	table->context = context;
	table->row_context = AllocSetContextCreate(context, "ivm state row", ALLOCSET_DEFAULT_SIZES);
	table->snapshot = snapshot;
	table->heap = table_open(relid, RowExclusiveLock);
	table->index = open_index(table->heap);
	table->slot = table_slot_create(table->heap, NULL);
	table->write_slot = MakeSingleTupleTableSlot(RelationGetDescr(table->heap), &TTSOpsVirtual);
	MemoryContextSwitchTo(old);
	return table;
}

void
ivm_state_table_close(IvmStateTable *table)
{
	ExecClearTuple(table->slot);
	if (table->hash_scan != NULL)
		index_endscan(table->hash_scan);
	if (table->image_scan != NULL)
		index_endscan(table->image_scan);
	if (table->table_scan != NULL)
		table_endscan(table->table_scan);
	ExecDropSingleTupleTableSlot(table->slot);
	ExecDropSingleTupleTableSlot(table->write_slot);
	if (table->entries != NULL)
		ivm_index_entries_close(table->entries);
	index_close(table->index, NoLock);
	table_close(table->heap, NoLock);
	MemoryContextDelete(table->context);
}

static void
end_table_scan(IvmStateTable *table)
{
	if (table->table_scan != NULL)
	{
		ExecClearTuple(table->slot);
		table_endscan(table->table_scan);
		table->table_scan = NULL;
	}
}

/* Begins an index scan, by the hash or by both; *scan is where it is kept open. */
static void
begin_index_scan(IvmStateTable *table, IndexScanDesc *scan, int nkeys, uint64 hash, uint64 image)
{
	ScanKeyData keys[2];
	MemoryContext old = MemoryContextSwitchTo(table->context);

	end_table_scan(table);
	if (*scan == NULL)
		*scan = index_beginscan(table->heap, table->index, table->snapshot, nkeys, 0);
	ScanKeyInit(&keys[0], COLUMN_HASH, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum((int64) hash));
	ScanKeyInit(&keys[1], COLUMN_IMAGE, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum((int64) image));
	index_rescan(*scan, keys, nkeys, NULL, 0);
	table->index_scan = *scan;
	MemoryContextSwitchTo(old);
}

void
ivm_state_table_find(IvmStateTable *table, uint64 hash)
{
	begin_index_scan(table, &table->hash_scan, 1, hash, 0);
}

void
ivm_state_table_scan(IvmStateTable *table)
{
	MemoryContext old = MemoryContextSwitchTo(table->context);

	end_table_scan(table);
	table->table_scan = table_beginscan(table->heap, table->snapshot, 0, NULL);
	MemoryContextSwitchTo(old);
}

IvmStateRow *
ivm_state_table_next(IvmStateTable *table)
{
	MemoryContext old = MemoryContextSwitchTo(table->context);
	bool		found;
	bool		isnull;
	struct varlena *image;
	Size		length;

	CHECK_FOR_INTERRUPTS();
	if (table->table_scan != NULL)
		found = table_scan_getnextslot(table->table_scan, ForwardScanDirection, table->slot);
	else
		found = index_getnext_slot(table->index_scan, ForwardScanDirection, table->slot);
	if (!found)
	{
		end_table_scan(table);
		MemoryContextSwitchTo(old);
		return NULL;
	}

	MemoryContextReset(table->row_context);
	MemoryContextSwitchTo(table->row_context);
	table->row.tid = table->slot->tts_tid;
	table->row.hash = (uint64) DatumGetInt64(slot_getattr(table->slot, COLUMN_HASH, &isnull));
	table->row.weight = DatumGetInt64(slot_getattr(table->slot, COLUMN_WEIGHT, &isnull));
	image = PG_DETOAST_DATUM_PACKED(slot_getattr(table->slot, COLUMN_ROW, &isnull));
	length = VARSIZE_ANY_EXHDR(image);
	table->row.tuple = palloc(length);
	memcpy(table->row.tuple, VARDATA_ANY(image), length);
	if (table->row.tuple->t_len != length)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("state table \"%s\" has a row of wrong length",
						RelationGetRelationName(table->heap))));
	MemoryContextSwitchTo(old);
	return &table->row;
}

/* The write slot with these values; the image is palloc'd in the row context. */
static void
store(IvmStateTable *table, uint64 hash, uint64 image, int64 weight, MinimalTuple tuple)
{
	bytea	   *row = MemoryContextAlloc(table->row_context, VARHDRSZ + tuple->t_len);

	SET_VARSIZE(row, VARHDRSZ + tuple->t_len);
	memcpy(VARDATA(row), tuple, tuple->t_len);
	ExecClearTuple(table->write_slot);
	table->write_slot->tts_values[COLUMN_HASH - 1] = Int64GetDatum((int64) hash);
	table->write_slot->tts_values[COLUMN_IMAGE - 1] = Int64GetDatum((int64) image);
	table->write_slot->tts_values[COLUMN_WEIGHT - 1] = Int64GetDatum(weight);
	table->write_slot->tts_values[COLUMN_ROW - 1] = PointerGetDatum(row);
	memset(table->write_slot->tts_isnull, 0, sizeof(bool) * COLUMN_ROW);
	ExecStoreVirtualTuple(table->write_slot);
}

/* Of the row in the write slot. */
static void
insert_index_entries(IvmStateTable *table)
{
	if (table->entries == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(table->context);

		table->entries = ivm_index_entries_open(table->heap);
		MemoryContextSwitchTo(old);
	}
	ivm_index_entries_insert(table->entries, table->write_slot);
}

/*
 * Writes run in a context that is reset with each of them.  A row that was
 * read last (its tuple may be part of what is written) stays until then.
 */
static void
insert_row(IvmStateTable *table, uint64 hash, uint64 image, int64 weight, MinimalTuple tuple)
{
	MemoryContext old = MemoryContextSwitchTo(table->row_context);

	store(table, hash, image, weight, tuple);
	table_tuple_insert(table->heap, table->write_slot, GetCurrentCommandId(true), 0, NULL);
	insert_index_entries(table);
	ExecClearTuple(table->write_slot);
	MemoryContextSwitchTo(old);
	MemoryContextReset(table->row_context);
}

void
ivm_state_table_insert(IvmStateTable *table, uint64 hash, int64 weight, MinimalTuple tuple)
{
	insert_row(table, hash, 0, weight, tuple);
}

static void
check_write(IvmStateTable *table, TM_Result result)
{
	if (result != TM_Ok)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("state table \"%s\" was changed by another process",
						RelationGetRelationName(table->heap))));
}

static void
update_row(IvmStateTable *table, ItemPointer tid, uint64 hash, uint64 image, int64 weight, MinimalTuple tuple)
{
	MemoryContext old = MemoryContextSwitchTo(table->row_context);
	ItemPointerData target = *tid;
	TM_FailureData failure;
	LockTupleMode lock_mode;
	bool		update_index;

	store(table, hash, image, weight, tuple);
	check_write(table, table_tuple_update(table->heap, &target, table->write_slot, GetCurrentCommandId(true),
										  table->snapshot, InvalidSnapshot, false,
										  &failure, &lock_mode, &update_index));
	if (update_index)
		insert_index_entries(table);
	ExecClearTuple(table->write_slot);
	MemoryContextSwitchTo(old);
	MemoryContextReset(table->row_context);
}

void
ivm_state_table_update(IvmStateTable *table, ItemPointer tid, uint64 hash, int64 weight, MinimalTuple tuple)
{
	update_row(table, tid, hash, 0, weight, tuple);
}

void
ivm_state_table_delete(IvmStateTable *table, ItemPointer tid)
{
	TM_FailureData failure;

	check_write(table, table_tuple_delete(table->heap, tid, GetCurrentCommandId(true),
										  table->snapshot, InvalidSnapshot, false, &failure, false));
}

void
ivm_state_table_add(IvmStateTable *table, uint64 hash, MinimalTuple tuple, int64 weight)
{
	uint64		image = ivm_row_image_hash(tuple);
	IvmStateRow *row;

	begin_index_scan(table, &table->image_scan, 2, hash, image);
	while ((row = ivm_state_table_next(table)) != NULL)
		if (ivm_row_image_equal(row->tuple, tuple))
			break;
	if (row == NULL ? weight < 0 : row->weight + weight < 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("state table \"%s\" lacks a row that is to be removed",
						RelationGetRelationName(table->heap)),
				 errhint("Use REFRESH MATERIALIZED VIEW to rebuild the view.")));
	if (row == NULL)
		insert_row(table, hash, image, weight, tuple);
	else
	{
		ItemPointerData tid = row->tid;

		if (row->weight + weight == 0)
			ivm_state_table_delete(table, &tid);
		else
			update_row(table, &tid, hash, image, row->weight + weight, tuple);
	}
}

/*
 * Row by row rather than by a new file: the old rows stay visible to a batch
 * that is rolled back, and no stronger lock is needed.
 */
void
ivm_state_table_clear(IvmStateTable *table)
{
	IvmStateRow *row;

	ivm_state_table_scan(table);
	while ((row = ivm_state_table_next(table)) != NULL)
	{
		ItemPointerData tid = row->tid;

		ivm_state_table_delete(table, &tid);
	}
}

int64
ivm_state_table_size(Oid relid)
{
	Relation	relation = table_open(relid, AccessShareLock);
	int64		size = 0;
	ListCell   *cell;

	size = (int64) RelationGetNumberOfBlocks(relation) * BLCKSZ;
	foreach(cell, RelationGetIndexList(relation))
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);

		size += (int64) RelationGetNumberOfBlocks(index) * BLCKSZ;
		index_close(index, NoLock);
	}
	table_close(relation, NoLock);
	return size;
}
