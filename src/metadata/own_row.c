/*-------------------------------------------------------------------------
 *
 * own_row.c
 *	  Rows of the extension's own tables, one for each relation.
 *
 * Both tables have the relation's oid as their first column and primary key.  A
 * row is changed by a direct heap update: it is a large part of a small batch's
 * fixed cost.  Indexes are touched only when the update is not HOT.
 *
 * Memory: palloc in the current context.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/xact.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "base/index_entries.h"
#include "metadata/own_row.h"

Oid
ivm_own_row_index(Relation table)
{
	char	   *name = psprintf("%s_pkey", RelationGetRelationName(table));
	Oid			result = get_relname_relid(name, RelationGetNamespace(table));

	if (!OidIsValid(result))
		elog(ERROR, "index ivm.%s is missing", name);
	pfree(name);
	return result;
}

HeapTuple
ivm_own_row_fetch(Relation table, Oid relid, Snapshot snapshot)
{
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(table, ivm_own_row_index(table), true, snapshot, 1, &key);
	tuple = systable_getnext(scan);
	if (tuple != NULL)
		tuple = heap_copytuple(tuple);
	systable_endscan(scan);
	return tuple;
}

static void
insert_index_entries(Relation table, HeapTuple tuple)
{
	IvmIndexEntries *entries = ivm_index_entries_open(table);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(table), &TTSOpsHeapTuple);

	ExecStoreHeapTuple(tuple, slot, false);
	ivm_index_entries_insert(entries, slot);
	ExecDropSingleTupleTableSlot(slot);
	ivm_index_entries_close(entries);
}

void
ivm_own_row_put(Relation table, HeapTuple old, HeapTuple new)
{
	TM_FailureData failure;
	LockTupleMode lockmode;
	TM_Result	result;

	if (old == NULL)
	{
		heap_insert(table, new, GetCurrentCommandId(true), 0, NULL);
		insert_index_entries(table, new);	/* which refuses a second one */
		return;
	}

	new->t_self = old->t_self;
	result = heap_update(table, &old->t_self, new, GetCurrentCommandId(true),
						 InvalidSnapshot, true, &failure, &lockmode);
	if (result == TM_Updated || result == TM_Deleted)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not change the state of an incremental view: it was changed concurrently"),
				 errhint("Repeat the statement.")));
	if (result != TM_Ok)
		elog(ERROR, "could not update ivm.%s: result %d", RelationGetRelationName(table), (int) result);
	if (!HeapTupleIsHeapOnly(new))
		insert_index_entries(table, new);
}

void
ivm_own_row_delete(Relation table, Oid relid)
{
	for (;;)
	{
		HeapTuple	tuple = ivm_own_row_fetch(table, relid, NULL);
		TM_FailureData failure;
		TM_Result	result;

		if (tuple == NULL)
			break;
		CHECK_FOR_INTERRUPTS();
		result = heap_delete(table, &tuple->t_self, GetCurrentCommandId(true),
							 InvalidSnapshot, true, &failure, false);
		if (result == TM_Ok)
			break;
		if (result != TM_Updated && result != TM_Deleted)
			elog(ERROR, "could not delete row %u of ivm.%s: result %d", relid,
				 RelationGetRelationName(table), (int) result);
	}
	CommandCounterIncrement();
}
