/*-------------------------------------------------------------------------
 *
 * state.c
 *	  A view's private state tables: creating, dropping and emptying them.
 *
 * Which tables there must be follows from the plan; which there are, from the
 * dependencies on the view.  So nothing about them is stored, and a plan that
 * has changed leaves no table behind.  Shared state tables belong to no view
 * and are not touched here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "apply/apply.h"
#include "apply/state.h"
#include "arrange/state_table.h"
#include "dataflow/dataflow.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class_d.h"
#include "catalog/pg_depend.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

static List *existing_state_names(Oid relid);
static bool is_in(List *names, const char *name);

void
ivm_view_create_state(Oid relid, IvmPlan *plan)
{
	List	   *needed = ivm_dataflow_state_names(plan, relid);
	List	   *existing = existing_state_names(relid);
	ListCell   *lc;

	foreach(lc, existing)
	{
		if (!is_in(needed, lfirst(lc)))
			ivm_state_table_drop(lfirst(lc));
	}
	foreach(lc, needed)
	{
		if (!OidIsValid(ivm_state_table_lookup(lfirst(lc))))
			ivm_state_table_create(lfirst(lc), relid);
	}
	CommandCounterIncrement();
}

void
ivm_view_reset_state(Oid relid, IvmPlan *plan)
{
	ListCell   *lc;

	ivm_view_create_state(relid, plan);
	foreach(lc, ivm_dataflow_state_names(plan, relid))
	{
		IvmStateTable *table = ivm_state_table_open(ivm_state_table_lookup(lfirst(lc)), GetActiveSnapshot());

		ivm_state_table_clear(table);
		ivm_state_table_close(table);
	}
	CommandCounterIncrement();
}

Snapshot
ivm_push_advanced_snapshot(Snapshot snapshot)
{
	Snapshot	advanced;

	PushCopiedSnapshot(snapshot);
	advanced = GetActiveSnapshot();
	advanced->curcid = InvalidCommandId - 1;
	return advanced;
}

/* Names of the state tables that depend on the view: C strings. */
static List *
existing_state_names(Oid relid)
{
	Oid			namespace = get_namespace_oid("pg_ivm", true);
	Relation	depend;
	SysScanDesc scan;
	ScanKeyData keys[2];
	HeapTuple	tuple;
	List	   *names = NIL;

	if (!OidIsValid(namespace))
		return NIL;

	depend = table_open(DependRelationId, AccessShareLock);
	ScanKeyInit(&keys[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(RelationRelationId));
	ScanKeyInit(&keys[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(depend, DependReferenceIndexId, true, NULL, 2, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend form = (Form_pg_depend) GETSTRUCT(tuple);

		if (form->classid == RelationRelationId && form->objsubid == 0 &&
			get_rel_relkind(form->objid) == RELKIND_RELATION &&
			get_rel_namespace(form->objid) == namespace)
			names = lappend(names, get_rel_name(form->objid));
	}
	systable_endscan(scan);
	table_close(depend, AccessShareLock);
	return names;
}

static bool
is_in(List *names, const char *name)
{
	ListCell   *lc;

	foreach(lc, names)
	{
		if (strcmp(lfirst(lc), name) == 0)
			return true;
	}
	return false;
}
