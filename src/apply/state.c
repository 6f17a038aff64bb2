/*-------------------------------------------------------------------------
 *
 * state.c
 *	  A view's private state tables: creating, dropping and emptying them.
 *
 * Which tables there must be follows from the plan; which there are, from their
 * names.  So nothing about them is stored, and a plan that
 * has changed leaves no table behind.  Shared state tables belong to no view
 * and are not touched here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "apply/apply.h"
#include "apply/state.h"
#include "arrange/arrange.h"
#include "arrange/ordered_table.h"
#include "arrange/state_table.h"
#include "dataflow/dataflow.h"

#include "access/xact.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

static bool is_in(List *names, const char *name);

void
ivm_view_create_state(Oid relid, IvmPlan *plan)
{
	List	   *needed = ivm_dataflow_state_names(plan, relid);
	List	   *surplus = NIL;
	ListCell   *lc;

	foreach(lc, ivm_state_tables_of_view(relid))
	{
		if (!is_in(needed, get_rel_name(lfirst_oid(lc))))
			surplus = lappend_oid(surplus, lfirst_oid(lc));
	}
	ivm_state_tables_drop(surplus);
	foreach(lc, plan->arrangements)
	{
		IvmArrangement *arrangement = lfirst(lc);
		char	   *name;

		if (arrangement->kind != IVM_ARRANGE_STATE || arrangement->order == NIL)
			continue;
		name = ivm_arrangement_state_name(arrangement, relid);
		if (!OidIsValid(ivm_state_table_lookup(name)))
			ivm_ordered_table_create(name, arrangement);
	}
	foreach(lc, needed)
	{
		if (!OidIsValid(ivm_state_table_lookup(lfirst(lc))))
			ivm_state_table_create(lfirst(lc));
	}
	CommandCounterIncrement();
}

void
ivm_view_reset_state(Oid relid, IvmPlan *plan)
{
	ListCell   *lc;

	ivm_view_create_state(relid, plan);
	foreach(lc, ivm_dataflow_state_names(plan, relid))
		ivm_state_table_clear(ivm_state_table_lookup(lfirst(lc)), GetActiveSnapshot());
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
