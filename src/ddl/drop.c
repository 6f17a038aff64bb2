/*-------------------------------------------------------------------------
 *
 * drop.c
 *	  Relations that come and go, seen by the object access hook.
 *
 * A view can be dropped in many ways: by name, with its schema or its owner,
 * by CASCADE, with the extension.  The hook sees all of them; it removes the
 * view's rows from our tables at once.  Its state tables, and a shared arrangement that no view uses any more, are
 * dropped at the end of the transaction, as is its entry in the counters,
 * because a subtransaction may yet be rolled back.
 *
 * The hook also refuses what would create any other relation with our access
 * method, whichever statement it comes from.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_proc.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/relcache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "arrange/state_table.h"
#include "ddl/statement.h"
#include "metadata/metadata.h"
#include "stats/stats.h"
#include "process/request.h"

static object_access_hook_type previous_hook = NULL;

/* Of this transaction, in TopTransactionContext; may hold what was rolled back. */
static List *ended_views = NIL;
static List *ended_arrangements = NIL;	/* perhaps used no more */

/* Views that have really gone, decided just before the commit. */
static List *forgotten_views = NIL;

void
ivm_drop_metadata(Oid relid)
{
	IvmViewRow *row = ivm_metadata_get(relid);
	MemoryContext context;

	if (row != NULL)
	{
		context = MemoryContextSwitchTo(TopTransactionContext);
		if (row->kind == 'v')
			ended_views = list_append_unique_oid(ended_views, relid);
		ended_arrangements = list_concat_unique_oid(ended_arrangements, row->arrangements);
		MemoryContextSwitchTo(context);
		ivm_metadata_delete(relid);
	}
	ivm_request_refresh_at_commit();
}

/* Objects of class pg_class that depend on the relation. */
static List *
dependent_relations(Oid relid)
{
	Relation	depend = table_open(DependRelationId, AccessShareLock);
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *result = NIL;

	ScanKeyInit(&key[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(RelationRelationId));
	ScanKeyInit(&key[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(depend, DependReferenceIndexId, true, NULL, 2, key);
	while ((tuple = systable_getnext(scan)) != NULL)
	{
		Form_pg_depend form = (Form_pg_depend) GETSTRUCT(tuple);

		if (form->classid == RelationRelationId && form->objsubid == 0)
			result = list_append_unique_oid(result, form->objid);
	}
	systable_endscan(scan);
	table_close(depend, AccessShareLock);
	return result;
}

/* True if the index is computed by one of our functions. */
static bool
index_is_ours(Oid index)
{
	Relation	depend = table_open(DependRelationId, AccessShareLock);
	Oid			our_namespace = get_namespace_oid(IVM_SCHEMA, true);
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		result = false;

	ScanKeyInit(&key[0], Anum_pg_depend_classid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(RelationRelationId));
	ScanKeyInit(&key[1], Anum_pg_depend_objid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(index));
	scan = systable_beginscan(depend, DependDependerIndexId, true, NULL, 2, key);
	while ((tuple = systable_getnext(scan)) != NULL)
	{
		Form_pg_depend form = (Form_pg_depend) GETSTRUCT(tuple);

		if (form->refclassid == ProcedureRelationId &&
			OidIsValid(our_namespace) && get_func_namespace(form->refobjid) == our_namespace)
			result = true;
	}
	systable_endscan(scan);
	table_close(depend, AccessShareLock);
	return result;
}

void
ivm_drop_state(Oid relid)
{
	ListCell   *lc;

	ivm_state_tables_drop(ivm_state_tables_of_view(relid));
	foreach(lc, dependent_relations(relid))
	{
		Oid			object = lfirst_oid(lc);
		ObjectAddress address;

		if (get_rel_relkind(object) != RELKIND_INDEX || !index_is_ours(object))
			continue;
		ObjectAddressSet(address, RelationRelationId, object);
		performDeletion(&address, DROP_RESTRICT, PERFORM_DELETION_INTERNAL | PERFORM_DELETION_QUIETLY);
	}
}

static void
before_commit(void)
{
	ListCell   *lc;
	MemoryContext context;

	context = MemoryContextSwitchTo(TopTransactionContext);
	forgotten_views = NIL;
	foreach(lc, ended_views)
		if (!ivm_relation_is_incremental(lfirst_oid(lc)))
		forgotten_views = lappend_oid(forgotten_views, lfirst_oid(lc));
	MemoryContextSwitchTo(context);
	if (!ivm_metadata_is_installed())
		return;
	PushActiveSnapshot(GetTransactionSnapshot());
	foreach(lc, forgotten_views)
		ivm_state_tables_drop(ivm_state_tables_of_view(lfirst_oid(lc)));
	ivm_metadata_drop_unused(ended_arrangements);
	PopActiveSnapshot();
}

static void
at_transaction_end(XactEvent event, void *arg)
{
	ListCell   *lc;

	if (ended_views == NIL && ended_arrangements == NIL)
		return;
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			before_commit();
			break;
		case XACT_EVENT_COMMIT:
			foreach(lc, forgotten_views)
				ivm_stats_view_drop(MyDatabaseId, lfirst_oid(lc));
			/* FALLTHROUGH */
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			ended_views = ended_arrangements = forgotten_views = NIL;
			break;
		default:
			break;
	}
}


/* ---- the hook ---- */

/*
 * The new row of pg_class is not visible to the system caches yet.
 */
static void
relation_created(Oid relid)
{
	Oid			am = ivm_metadata_am_oid();
	Relation	rel;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	if (!OidIsValid(am))
		return;
	rel = table_open(RelationRelationId, AccessShareLock);
	ScanKeyInit(&key, Anum_pg_class_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(rel, ClassOidIndexId, true, SnapshotSelf, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_class form = (Form_pg_class) GETSTRUCT(tuple);

		ivm_own_schema_created(form->relnamespace, form->relkind, NameStr(form->relname));
		if (form->relam == am && form->relkind != RELKIND_MATVIEW)
			ereport(ERROR,
					(errcode(ERRCODE_WRONG_OBJECT_TYPE),
					 errmsg("cannot create table \"%s\" with access method \"incremental\"",
							NameStr(form->relname)),
					 errdetail("Only materialized views can use this access method."),
					 errhint("Create an incremental view of a query with CREATE MATERIALIZED VIEW ... USING incremental; for tables, set default_table_access_method to another access method.")));
		if (form->relam == am && !ivm_create_is_expected() && !IsBinaryUpgrade)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("cannot create incremental view \"%s\" as part of another statement",
							NameStr(form->relname)),
					 errhint("Use CREATE MATERIALIZED VIEW as a statement of its own.")));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

static void
relation_dropped(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Form_pg_class form;
	bool		is_consumer;
	bool		is_metadata;

	if (!HeapTupleIsValid(tuple))
		return;
	form = (Form_pg_class) GETSTRUCT(tuple);
	is_consumer = form->relkind == RELKIND_MATVIEW &&
		(form->relam == ivm_metadata_am_oid() || ivm_relation_is_state_table(relid));
	is_metadata = relid == ivm_metadata_view_relid();
	ReleaseSysCache(tuple);

	if (is_consumer)
		ivm_drop_metadata(relid);
	else if (is_metadata)
		ivm_request_refresh_at_commit();	/* the extension goes */
}

static void
object_access(ObjectAccessType access, Oid class_id, Oid object_id, int sub_id, void *arg)
{
	if (previous_hook)
		previous_hook(access, class_id, object_id, sub_id, arg);

	if (class_id != RelationRelationId || sub_id != 0)
		return;
	if (access == OAT_POST_CREATE && !((ObjectAccessPostCreate *) arg)->is_internal)
		relation_created(object_id);
	else if (access == OAT_DROP)
		relation_dropped(object_id);
}

void
ivm_drop_init(void)
{
	previous_hook = object_access_hook;
	object_access_hook = object_access;
	RegisterXactCallback(at_transaction_end, NULL);
}
