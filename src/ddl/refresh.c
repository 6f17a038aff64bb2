/*-------------------------------------------------------------------------
 *
 * refresh.c
 *	  REFRESH MATERIALIZED VIEW of an incremental view: populate, or rebuild.
 *
 * Alone, the statement has the builder do it: a view with contents is compared
 * with its query and keeps being readable, so CONCURRENTLY makes no difference
 * and needs no unique index.  Elsewhere the server refreshes the view for the
 * transaction's own eyes, and the builder repeats it after the commit.
 * WITH NO DATA empties the view and ends its maintenance until the next refresh.
 *
 * The consumer's claim is taken before anything else, so that no batch and no
 * build that has read the old state can write it afterwards.  It comes before
 * every lock on the view and its tables, because a builder that holds the
 * claim waits for those.  It never waits for this transaction invisibly: it
 * takes the claim after it has had all that it needs from other processes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/event_trigger.h"
#include "commands/tablecmds.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "compile/compile.h"
#include "ddl/statement.h"
#include "metadata/metadata.h"
#include "process/request.h"

/* Owner and populated flag of the view; false if it is gone. */
static bool
read_class(Oid relid, Oid *owner, bool *populated)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Form_pg_class form;

	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_class) GETSTRUCT(tuple);
	*owner = form->relowner;
	*populated = form->relispopulated;
	ReleaseSysCache(tuple);
	return true;
}

/* Claims the view and keeps it from being dropped, or having another name, meanwhile. */
static Oid
lock_view(RangeVar *name)
{
	for (;;)
	{
		Oid			relid = RangeVarGetRelidExtended(name, NoLock, 0, RangeVarCallbackOwnsTable, NULL);

		(void) ivm_claim(relid, true);
		LockRelationOid(relid, AccessShareLock);
		if (RangeVarGetRelid(name, NoLock, true) == relid)
			return relid;
		UnlockRelationOid(relid, AccessShareLock);
		CHECK_FOR_INTERRUPTS();
	}
}

/* The server does not get to see the statement, but those who watch it shall. */
static void
fire_event_triggers(Node *stmt, Oid relid)
{
	bool		is_complete_query = EventTriggerBeginCompleteQuery();

	PG_TRY();
	{
		ObjectAddress address;

		ObjectAddressSet(address, RelationRelationId, relid);
		EventTriggerDDLCommandStart(stmt);
		EventTriggerCollectSimpleCommand(address, InvalidObjectAddress, stmt);
		EventTriggerDDLCommandEnd(stmt);
	}
	PG_FINALLY();
	{
		if (is_complete_query)
			EventTriggerEndCompleteQuery();
	}
	PG_END_TRY();
}

/* A view that could not be filled is what it was, unless somebody else has asked for it meanwhile. */
static void
undo_population(Oid relid)
{
	IvmViewRow *row;

	(void) ivm_claim(relid, true);
	row = ivm_metadata_get(relid);
	if (row != NULL && row->state == IVM_STATE_BUILDING && !ivm_request_build_is_shared())
		ivm_metadata_set_state(relid, IVM_STATE_UNPOPULATED, NULL);
}

void
ivm_refresh_execute(IvmStatement *statement)
{
	RefreshMatViewStmt *stmt = (RefreshMatViewStmt *) statement->pstmt->utilityStmt;
	Oid			relid = RangeVarGetRelidExtended(stmt->relation, NoLock, RVR_MISSING_OK,
												 NULL, NULL);
	IvmViewRow *row;
	IvmPlan    *plan;
	Oid			owner;
	bool		populated;
	bool		alone;
	List	   *identities;
	uint64		rows;

	if (!OidIsValid(relid) || !ivm_relation_is_incremental(relid))
	{
		ivm_statement_execute(statement);
		return;
	}
	PreventCommandIfReadOnly("REFRESH MATERIALIZED VIEW");
	PreventCommandDuringRecovery("REFRESH MATERIALIZED VIEW");
	alone = ivm_statement_is_alone(statement);
	relid = lock_view(stmt->relation);
	if (!read_class(relid, &owner, &populated))
		elog(ERROR, "cache lookup failed for relation %u", relid);

	if (stmt->skipData)
	{
		ivm_statement_execute(statement);
		row = ivm_metadata_get(relid);
		if (row != NULL)
		{
			ivm_metadata_set_state(relid, IVM_STATE_UNPOPULATED, NULL);
			ivm_applied_delete(relid);
		}
		ivm_request_refresh_at_commit();
		return;
	}

	ivm_request_check_server();
	if (stmt->concurrent && !populated)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("CONCURRENTLY cannot be used when the materialized view is not populated")));

	row = ivm_metadata_get(relid);
	if (row == NULL)
	{
		/* made while the library was not loaded */
		row = palloc0(sizeof(IvmViewRow));
		row->relid = relid;
		row->kind = 'v';
		row->settings = ivm_settings_capture();
		row->state = IVM_STATE_UNPOPULATED;
		ivm_metadata_put(row);
	}

	/* Everything that can be said about the query now is said now. */
	plan = ivm_build_compile(ivm_build_view_query(relid), relid, get_rel_name(relid),
							 owner, row->settings);
	if (row->text == NULL)
		ivm_compile_report_fallbacks(plan, get_rel_name(relid));
	identities = ivm_base_table_identities(plan);

	if (!alone)
	{
		ivm_base_table_set_identities(identities);
		ivm_statement_execute(statement);
		ivm_metadata_set_state(relid, IVM_STATE_REBUILD, "REFRESH MATERIALIZED VIEW");
		ivm_build_after_commit(relid);
		return;
	}

	fire_event_triggers((Node *) stmt, relid);
	rows = ivm_build_finish(relid, identities,
							populated ? IVM_STATE_REBUILD : IVM_STATE_BUILDING, false,
							populated ? NULL : undo_population);
	if (statement->qc)
		SetQueryCompletion(statement->qc, CMDTAG_REFRESH_MATERIALIZED_VIEW, rows);
}
