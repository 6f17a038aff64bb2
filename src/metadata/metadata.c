/*-------------------------------------------------------------------------
 *
 * metadata.c
 *	  The relation ivm.view: which consumers there are and how they do.
 *
 * It is a materialized view, as ivm.applied and the state tables are: the
 * access method can write it, SQL cannot, whoever has been granted what.  The server
 * leaves materialized views out of publications, whose subscribers would not
 * know what to do with our rows, and pg_dump neither locks nor reads them.
 *
 * Access is direct, like that to a system catalog: by index, without SQL,
 * without privileges (sessions of ordinary users write these rows when they
 * create a view), under a snapshot taken for the read.  Everybody therefore
 * sees the latest committed state, also in a transaction that has pinned an
 * older snapshot, and reading pins none.
 *
 * A row is written by sessions (create, refresh, alter) and by workers
 * (populated, failed).  Those that decide by what they have read take the
 * consumer's claim first; a write that meets a concurrent one all the same
 * raises a serialization failure instead of overwriting it, since a lost
 * "rebuild" would leave a view silently stale.
 *
 * Names are looked up in the system caches at each call: cheap, and right
 * after DROP EXTENSION and CREATE EXTENSION without an invalidation callback.
 *
 * Memory: results are palloc'd in the current context.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/value.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "base/in_hand.h"
#include "metadata/metadata.h"
#include "metadata/own_row.h"

/* Columns of ivm.view. */
enum
{
	Anum_view_relid = 1,
	Anum_view_kind,
	Anum_view_state,
	Anum_view_plan_text,
	Anum_view_fingerprint,
	Anum_view_settings,
	Anum_view_definition,
	Anum_view_reason,
	Anum_view_arrangements,
	Natts_view = Anum_view_arrangements
};

static Oid	extension_relid(const char *name);
static IvmRowVersion version_of(HeapTuple tuple);
static IvmViewRow *row_from_tuple(TupleDesc desc, HeapTuple tuple);
static void complete_row(IvmViewRow *row, TupleDesc desc, HeapTuple tuple);
static HeapTuple tuple_from_row(TupleDesc desc, IvmViewRow *row);


bool
ivm_metadata_is_installed(void)
{
	return OidIsValid(ivm_metadata_am_oid()) &&
		OidIsValid(ivm_metadata_view_relid());
}

/*
 * An access method of that name with another handler is not ours.
 */
Oid
ivm_metadata_am_oid(void)
{
	HeapTuple	tuple = SearchSysCache1(AMNAME, CStringGetDatum("incremental"));
	Oid			result = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		Form_pg_am	am = (Form_pg_am) GETSTRUCT(tuple);

		if (am->amtype == AMTYPE_TABLE && am->amhandler == F_HEAP_TABLEAM_HANDLER)
			result = am->oid;
		ReleaseSysCache(tuple);
	}
	return result;
}

Oid
ivm_metadata_view_relid(void)
{
	return extension_relid("view");
}

Oid
ivm_metadata_applied_relid(void)
{
	return extension_relid("applied");
}

bool
ivm_relation_is_incremental(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	bool		result = false;

	if (HeapTupleIsValid(tuple))
	{
		Form_pg_class form = (Form_pg_class) GETSTRUCT(tuple);

		result = form->relkind == RELKIND_MATVIEW &&
			OidIsValid(form->relam) && form->relam == ivm_metadata_am_oid();
		ReleaseSysCache(tuple);
	}
	return result;
}

bool
ivm_relation_is_state_table(Oid relid)
{
	return get_rel_relkind(relid) == RELKIND_MATVIEW &&
		get_rel_namespace(relid) == get_namespace_oid(IVM_STATE_SCHEMA, true);
}

bool
ivm_relation_is_internal(Oid relid)
{
	return OidIsValid(relid) &&
		(relid == ivm_metadata_view_relid() || relid == ivm_metadata_applied_relid() ||
		 ivm_relation_is_state_table(relid));
}

void
ivm_metadata_drop_state_table(Oid relid)
{
	ObjectAddress address;

	ObjectAddressSet(address, RelationRelationId, relid);
	performDeletion(&address, DROP_RESTRICT,
					PERFORM_DELETION_INTERNAL | PERFORM_DELETION_QUIETLY | PERFORM_DELETION_SKIP_EXTENSIONS);
}

IvmViewRow *
ivm_metadata_get(Oid relid)
{
	Oid			table = ivm_metadata_view_relid();
	Relation	rel;
	Snapshot	snapshot;
	HeapTuple	tuple;
	IvmViewRow *row = NULL;

	if (!OidIsValid(table))
		return NULL;
	rel = try_table_open(table, AccessShareLock);
	if (rel == NULL)
		return NULL;			/* the extension has just been dropped */

	/* kept until long texts have been fetched from the TOAST table */
	snapshot = RegisterSnapshot(GetCatalogSnapshot(table));
	tuple = ivm_own_row_fetch(rel, relid, snapshot);
	if (tuple != NULL)
	{
		row = row_from_tuple(RelationGetDescr(rel), tuple);
		complete_row(row, RelationGetDescr(rel), tuple);
		heap_freetuple(tuple);
	}
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	return row;
}

bool
ivm_metadata_is_uncommitted(Oid relid)
{
	Relation	rel = table_open(ivm_metadata_view_relid(), AccessShareLock);
	HeapTuple	tuple = ivm_own_row_fetch(rel, relid, NULL);
	bool		result = tuple != NULL &&
		TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data));

	table_close(rel, AccessShareLock);
	return result;
}

List *
ivm_metadata_list(void)
{
	Oid			table = ivm_metadata_view_relid();
	Relation	rel;
	Relation	index;
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *rows = NIL;

	if (!OidIsValid(table))
		return NIL;
	rel = try_table_open(table, AccessShareLock);
	if (rel == NULL)
		return NIL;				/* the extension has just been dropped */
	index = index_open(ivm_own_row_index(rel), AccessShareLock);
	scan = systable_beginscan_ordered(rel, index, NULL, 0, NULL);
	while ((tuple = systable_getnext_ordered(scan, ForwardScanDirection)) != NULL)
	{
		IvmViewRow *row;

		CHECK_FOR_INTERRUPTS();
		row = row_from_tuple(RelationGetDescr(rel), tuple);

		/*
		 * Existence only: a row can be seen before the invalidation message
		 * that tells of a relation's new access method.
		 */
		if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(row->relid)))
			rows = lappend(rows, row);
	}
	systable_endscan_ordered(scan);
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
	return rows;
}

void
ivm_metadata_complete(IvmViewRow *row)
{
	Relation	rel;
	TupleTableSlot *slot;
	HeapTuple	tuple;
	bool		free_tuple;

	if (row->complete)
		return;
	Assert(ActiveSnapshotSet());
	rel = try_table_open(ivm_metadata_view_relid(), AccessShareLock);
	if (rel == NULL)
	{
		/* the extension has just been dropped */
		row->state = IVM_STATE_UNPOPULATED;
		return;
	}
	slot = table_slot_create(rel, NULL);
	if (!table_tuple_fetch_row_version(rel, &row->version.tid, SnapshotAny, slot))
		elog(ERROR, "row %u of ivm.view has gone", row->relid);
	tuple = ExecFetchSlotHeapTuple(slot, false, &free_tuple);
	Assert(HeapTupleHeaderGetRawXmin(tuple->t_data) == row->version.xmin);
	complete_row(row, RelationGetDescr(rel), tuple);
	if (free_tuple)
		heap_freetuple(tuple);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, AccessShareLock);
}

IvmViewRow *
ivm_metadata_find(List *rows, Oid relid)
{
	int			low = 0;
	int			high = list_length(rows);

	while (low < high)
	{
		int			middle = (low + high) / 2;
		IvmViewRow *row = list_nth(rows, middle);

		if (row->relid == relid)
			return row;
		if (row->relid < relid)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

void
ivm_metadata_put(IvmViewRow *row)
{
	Relation	rel = table_open(ivm_metadata_view_relid(), RowExclusiveLock);
	HeapTuple	old = ivm_own_row_fetch(rel, row->relid, NULL);
	HeapTuple	new = tuple_from_row(RelationGetDescr(rel), row);

	ivm_own_row_put(rel, old, new);
	row->version = version_of(new);
	table_close(rel, RowExclusiveLock);
	CommandCounterIncrement();
}

bool
ivm_row_version_equal(const IvmRowVersion *a, const IvmRowVersion *b)
{
	return a->xmin == b->xmin && ItemPointerEquals((ItemPointer) &a->tid, (ItemPointer) &b->tid);
}

/*
 * Errors if the consumer has no row: whoever sets a state has just seen it.
 */
void
ivm_metadata_set_state(Oid relid, IvmViewState state, const char *reason)
{
	Relation	rel = table_open(ivm_metadata_view_relid(), RowExclusiveLock);
	HeapTuple	old = ivm_own_row_fetch(rel, relid, NULL);
	HeapTuple	new;
	Datum		values[Natts_view] = {0};
	bool		nulls[Natts_view] = {0};
	bool		replaces[Natts_view] = {0};

	if (old == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("incremental view with OID %u is not known any more", relid)));
	replaces[Anum_view_state - 1] = true;
	values[Anum_view_state - 1] = CharGetDatum((char) state);
	replaces[Anum_view_reason - 1] = true;
	if (reason)
		values[Anum_view_reason - 1] = CStringGetTextDatum(reason);
	else
		nulls[Anum_view_reason - 1] = true;
	new = heap_modify_tuple(old, RelationGetDescr(rel), values, nulls, replaces);
	ivm_own_row_put(rel, old, new);
	table_close(rel, RowExclusiveLock);
	CommandCounterIncrement();
}

/*
 * The relation is being dropped or turned into another kind, so whatever
 * version of the row is the latest has to go: a concurrent change is waited for and then
 * deleted as well.
 */
void
ivm_metadata_delete(Oid relid)
{
	Oid			table = ivm_metadata_view_relid();
	Relation	rel;

	if (!OidIsValid(table))
		return;
	ivm_suspect_clear(MyDatabaseId, relid);
	rel = table_open(table, RowExclusiveLock);
	ivm_own_row_delete(rel, relid);
	table_close(rel, RowExclusiveLock);
	ivm_applied_delete(relid);
}

/*
 * Has the relation been given another access method while the library was not loaded?  If its lock is taken,
 * somebody is about to change it, with the library: nothing is known yet.
 */
static bool
is_view_no_more(Oid relid)
{
	bool		result;

	if (!ConditionalLockRelationOid(relid, AccessShareLock))
		return false;
	result = !ivm_relation_is_incremental(relid);
	UnlockRelationOid(relid, AccessShareLock);
	return result;
}

bool
ivm_metadata_delete_gone(void)
{
	Oid			table = ivm_metadata_view_relid();
	Relation	rel;
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *gone = NIL;
	ListCell   *lc;

	if (!OidIsValid(table))
		return false;
	rel = table_open(table, AccessShareLock);
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while ((tuple = systable_getnext(scan)) != NULL)
	{
		bool		isnull;
		Oid			relid = DatumGetObjectId(heap_getattr(tuple, Anum_view_relid,
														  RelationGetDescr(rel), &isnull));
		char		kind = DatumGetChar(heap_getattr(tuple, Anum_view_kind, RelationGetDescr(rel), &isnull));

		if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid)) || (kind == 'v' && is_view_no_more(relid)))
			gone = lappend_oid(gone, relid);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);

	foreach(lc, gone)
		ivm_metadata_delete(lfirst_oid(lc));
	return gone != NIL;
}

static bool
arrangement_is_read(List *rows, Oid relid)
{
	ListCell   *lc;

	foreach(lc, rows)
	{
		if (list_member_oid(((IvmViewRow *) lfirst(lc))->arrangements, relid))
			return true;
	}
	return false;
}

List *
ivm_metadata_unused_arrangements(void)
{
	List	   *result = NIL;
	List	   *rows = ivm_metadata_list();
	ListCell   *lc;

	foreach(lc, rows)
	{
		IvmViewRow *row = lfirst(lc);

		if (row->kind == 'a' && !arrangement_is_read(rows, row->relid))
			result = lappend_oid(result, row->relid);
	}
	return result;
}

/*
 * The lock comes before the decision: a builder that makes use of the table in a
 * transaction of its own has locked it, and after the wait its row is visible.
 * So is what another session did that dropped another reader.
 */
void
ivm_metadata_drop_unused(List *relids)
{
	ListCell   *lc;

	foreach(lc, relids)
	{
		Oid			relid = lfirst_oid(lc);

		LockRelationOid(relid, AccessExclusiveLock);
		if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid)) && !arrangement_is_read(ivm_metadata_list(), relid))
			ivm_metadata_drop_state_table(relid);
	}
}

Oid
ivm_metadata_find_arrangement(const char *definition)
{
	Oid			table = ivm_metadata_view_relid();
	Relation	rel;
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			result = InvalidOid;

	if (!OidIsValid(table))
		return InvalidOid;
	rel = table_open(table, AccessShareLock);
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while ((tuple = systable_getnext(scan)) != NULL)
	{
		bool		isnull;
		Datum		value;

		CHECK_FOR_INTERRUPTS();
		value = heap_getattr(tuple, Anum_view_kind, RelationGetDescr(rel), &isnull);
		if (isnull || DatumGetChar(value) != 'a')
			continue;
		value = heap_getattr(tuple, Anum_view_definition, RelationGetDescr(rel), &isnull);
		if (isnull || strcmp(TextDatumGetCString(value), definition) != 0)
			continue;
		value = heap_getattr(tuple, Anum_view_relid, RelationGetDescr(rel), &isnull);
		result = DatumGetObjectId(value);
		break;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return result;
}

/*
 * The lock is on the consumer's row of ivm.view, as an object of that table.
 */
bool
ivm_claim(Oid relid, bool wait)
{
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, ivm_metadata_view_relid(), relid, 0);
	return LockAcquire(&tag, ExclusiveLock, false, !wait) != LOCKACQUIRE_NOT_AVAIL;
}


/* ---- helpers ---- */

static Oid
extension_relid(const char *name)
{
	Oid			nspid = get_namespace_oid(IVM_SCHEMA, true);

	return OidIsValid(nspid) ? get_relname_relid(name, nspid) : InvalidOid;
}

static char *
text_column(HeapTuple tuple, TupleDesc desc, int attnum)
{
	bool		isnull;
	Datum		value = heap_getattr(tuple, attnum, desc, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

static IvmRowVersion
version_of(HeapTuple tuple)
{
	IvmRowVersion version = {.xmin = HeapTupleHeaderGetRawXmin(tuple->t_data),.tid = tuple->t_self};

	return version;
}

static List *
settings_column(HeapTuple tuple, TupleDesc desc)
{
	List	   *result = NIL;
	bool		isnull;
	Datum		value = heap_getattr(tuple, Anum_view_settings, desc, &isnull);
	Datum	   *elements;
	int			count;

	if (isnull)
		return NIL;
	deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL, &count);
	for (int i = 0; i + 1 < count; i += 2)
		result = lappend(result, list_make2(makeString(TextDatumGetCString(elements[i])),
											makeString(TextDatumGetCString(elements[i + 1]))));
	return result;
}

/* The row but for what complete_row() adds. */
static IvmViewRow *
row_from_tuple(TupleDesc desc, HeapTuple tuple)
{
	IvmViewRow *row = palloc0(sizeof(IvmViewRow));
	Datum		values[Natts_view];
	bool		nulls[Natts_view];

	heap_deform_tuple(tuple, desc, values, nulls);
	row->version = version_of(tuple);
	row->relid = DatumGetObjectId(values[Anum_view_relid - 1]);
	row->kind = DatumGetChar(values[Anum_view_kind - 1]);
	row->state = (IvmViewState) DatumGetChar(values[Anum_view_state - 1]);
	if (!nulls[Anum_view_definition - 1])
		row->definition = TextDatumGetCString(values[Anum_view_definition - 1]);
	if (!nulls[Anum_view_reason - 1])
		row->reason = TextDatumGetCString(values[Anum_view_reason - 1]);
	if (!nulls[Anum_view_arrangements - 1])
	{
		ArrayType  *array = DatumGetArrayTypeP(values[Anum_view_arrangements - 1]);

		/* mostly empty */
		for (int i = 0; i < ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array)); i++)
			row->arrangements = lappend_oid(row->arrangements, ((Oid *) ARR_DATA_PTR(array))[i]);
	}
	if (row->kind == 'a' || row->arrangements != NIL)
		row->settings = settings_column(tuple, desc);
	return row;
}

static void
complete_row(IvmViewRow *row, TupleDesc desc, HeapTuple tuple)
{
	row->text = text_column(tuple, desc, Anum_view_plan_text);
	row->fingerprint = text_column(tuple, desc, Anum_view_fingerprint);
	if (row->settings == NIL)
		row->settings = settings_column(tuple, desc);
	row->complete = true;
}

static HeapTuple
tuple_from_row(TupleDesc desc, IvmViewRow *row)
{
	Datum		values[Natts_view];
	bool		nulls[Natts_view] = {0};
	Datum	   *elements;
	ListCell   *lc;
	int			count;

	values[Anum_view_relid - 1] = ObjectIdGetDatum(row->relid);
	values[Anum_view_kind - 1] = CharGetDatum(row->kind);
	values[Anum_view_state - 1] = CharGetDatum((char) row->state);

#define PUT_TEXT(attnum, string) \
	do { \
		if ((string) != NULL) \
			values[(attnum) - 1] = CStringGetTextDatum(string); \
		else \
			nulls[(attnum) - 1] = true; \
	} while (0)

	PUT_TEXT(Anum_view_plan_text, row->text);
	PUT_TEXT(Anum_view_fingerprint, row->fingerprint);
	PUT_TEXT(Anum_view_definition, row->definition);
	PUT_TEXT(Anum_view_reason, row->reason);
#undef PUT_TEXT

	/* names and values in turns */
	elements = palloc(sizeof(Datum) * (2 * list_length(row->settings) + 1));
	count = 0;
	foreach(lc, row->settings)
	{
		List	   *pair = lfirst_node(List, lc);

		elements[count++] = CStringGetTextDatum(strVal(linitial(pair)));
		elements[count++] = CStringGetTextDatum(strVal(lsecond(pair)));
	}
	values[Anum_view_settings - 1] =
		PointerGetDatum(construct_array(elements, count, TEXTOID, -1, false, TYPALIGN_INT));

	elements = palloc(sizeof(Datum) * (list_length(row->arrangements) + 1));
	count = 0;
	foreach(lc, row->arrangements)
		elements[count++] = ObjectIdGetDatum(lfirst_oid(lc));
	values[Anum_view_arrangements - 1] =
		PointerGetDatum(construct_array(elements, count, OIDOID, sizeof(Oid), true, TYPALIGN_INT));

	return heap_form_tuple(desc, values, nulls);
}
