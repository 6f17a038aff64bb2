/*-------------------------------------------------------------------------
 *
 * refresh.c
 *	  REFRESH MATERIALIZED VIEW of an incremental view: wait for it, populate
 *	  it, or rebuild it.
 *
 * Of a view that is maintained (and with ivm.refresh = sync) the statement waits until
 * everything committed before is contained, as ivm.sync does: tools and schedulers refresh all
 * day long.  In a transaction block the same is right as long as the block has not touched
 * what the view is made of:
 *
 *	- If it has written to one of the tables (it has a lock like that on one), or what the query
 *	  compiles to is not what the view was computed from (it has replaced a function, say), the block is to
 *	  see that, and nobody but the server can show it: see below.
 *	- With a snapshot of its own for all its statements the block sees the view as it was at
 *	  its beginning, whoever waits.
 *	- A lock that the block holds on the view or a table may be what the view's process lacks.  While it waits
 *	  for long it therefore takes the locks of the query itself, where the deadlock detector sees it,
 *	  and has a look at its own; and the start of a decoder waits for all transactions that have an xid.
 *	  In these cases, too, the server does it.
 *
 * A view that is not maintained, or stops being it meanwhile, is repaired:
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

#include "access/genam.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/event_trigger.h"
#include "commands/tablecmds.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "apply/view_index.h"
#include "arrange/state_table.h"
#include "base/compat.h"
#include "base/settings.h"
#include "compile/compile.h"
#include "ddl/ddl.h"
#include "ddl/statement.h"
#include "maintain/consumer.h"
#include "maintain/trial.h"
#include "metadata/metadata.h"
#include "process/request.h"
#include "process/sync.h"

#define BLOCK_PATIENCE	200		/* ms, then a block looks whether it waits for itself */

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

/* Has this transaction a lock on the relation of that strength, or a greater one? */
static bool
has_lock(Oid relid, LOCKMODE lockmode)
{
	LOCKTAG		tag;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, relid);
	for (LOCKMODE mode = lockmode; mode <= MaxLockMode; mode++)
		if (lock_held_by_me_compat(&tag, mode))
			return true;
	return false;
}

/* Has this transaction changed what the view is made of, or the view? */
static bool
has_changed(Oid relid, IvmViewRow *row, IvmPlan *plan)
{
	ListCell   *lc;

	if (row->text == NULL || row->fingerprint == NULL ||
		strcmp(row->text, plan->text) != 0 || strcmp(row->fingerprint, plan->fingerprint) != 0)
		return true;
	foreach(lc, plan->relids)
		if (has_lock(lfirst_oid(lc), RowExclusiveLock))
			return true;
	return has_lock(relid, ShareLock);
}

/* The first of the relations that this transaction has a lock on of that strength, or InvalidOid. */
static Oid
first_locked(List *relids, LOCKMODE lockmode)
{
	ListCell   *lc;

	foreach(lc, relids)
		if (has_lock(lfirst_oid(lc), lockmode))
			return lfirst_oid(lc);
	return InvalidOid;
}

/*
 * The tables are read, and what belongs to the view is written; so are views that it reads, since
 * they are in the same batch.
 */
Oid
ivm_own_lock_in_the_way(Oid relid, IvmViewRow *row, IvmPlan *plan)
{
	List	   *written = list_copy(row->arrangements);
	List	   *views = lcons_oid(relid, ivm_plan_upstream(plan));
	Oid			result = first_locked(plan->relids, AccessExclusiveLock);
	ListCell   *lc;

	if (!OidIsValid(result))
		result = first_locked(views, ShareLock);
	foreach(lc, views)
		written = list_concat(written, ivm_state_tables_of_view(lfirst_oid(lc)));
	if (!OidIsValid(result))
		result = first_locked(written, ShareLock);
	return result;
}

/* Within a block.  False if the server has to do it. */
static bool
wait_in_block(Oid relid, IvmViewRow *row)
{
	bool		has_written = TransactionIdIsValid(GetTopTransactionIdIfAny());
	IvmPlan    *plan = NULL;
	IvmSync		sync;
	IvmSyncResult result;

	if (has_written)
	{
		plan = ivm_build_current_plan(relid, row);
		if (has_changed(relid, row, plan))
			return false;
	}
	if (IsolationUsesXactSnapshot())
		return true;

	ivm_sync_begin(&sync, -1);
	while ((result = ivm_sync_wait(&sync, relid, BLOCK_PATIENCE)) == IVM_SYNC_LATE)
	{
		if (plan == NULL)
			plan = ivm_build_current_plan(relid, row);
		if (OidIsValid(ivm_own_lock_in_the_way(relid, row, plan)) || (has_written && !ivm_sync_has_decoder()))
			return false;
	}
	return result == IVM_SYNC_REACHED;
}

/* Is there an index that the server can refresh the view CONCURRENTLY by? */
static bool
has_unique_index(Oid relid)
{
	Relation	view = table_open(relid, NoLock);
	bool		result = false;
	ListCell   *lc;

	foreach(lc, RelationGetIndexList(view))
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);
		Form_pg_index form = index->rd_index;

		result |= form->indisunique && form->indimmediate && form->indisvalid &&
			RelationGetIndexPredicate(index) == NIL && RelationGetIndexExpressions(index) == NIL;
		index_close(index, NoLock);
	}
	table_close(view, NoLock);
	return result;
}

/* Has it the index that its rows are found by?  Whoever dropped that wants the view repaired. */
static bool
has_index(Oid relid, IvmViewRow *row)
{
	Relation	view = try_relation_open(relid, AccessShareLock);
	bool		result;

	if (view == NULL)
		return true;
	result = ivm_view_has_index(view, ivm_build_current_plan(relid, row));
	relation_close(view, NoLock);
	return result;
}

/* True if there is nothing left to be done. */
static bool
refresh_by_waiting(IvmStatement *statement, Oid relid, bool alone)
{
	IvmViewRow *row = ivm_metadata_get(relid);
	IvmSync		sync;
	bool		result;

	if (ivm_refresh != IVM_REFRESH_SYNC ||
		(ivm_statement_is_literal() && statement->context == PROCESS_UTILITY_TOPLEVEL) ||
		row == NULL || row->state != IVM_STATE_ACTIVE ||
		ivm_metadata_is_uncommitted(relid))
		return false;

	ivm_request_check_server();
	if (!alone)
	{
		if (!wait_in_block(relid, row))
			return false;
		fire_event_triggers(statement->pstmt->utilityStmt, relid);
	}
	else
	{
		fire_event_triggers(statement->pstmt->utilityStmt, relid);
		ivm_statement_next_transaction();
		ivm_sync_begin(&sync, -1);
		result = ivm_sync_wait(&sync, relid, -1) == IVM_SYNC_REACHED;
		ivm_statement_last_transaction();
		row = ivm_metadata_get(relid);
		result = result && row != NULL && has_index(relid, row);
		if (!result)
			return false;
	}
	if (statement->qc)
		SetQueryCompletion(statement->qc, CMDTAG_REFRESH_MATERIALIZED_VIEW, 0);
	return true;
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
	if (!stmt->skipData)
	{
		relid = RangeVarGetRelidExtended(stmt->relation, NoLock, 0, RangeVarCallbackOwnsTable, NULL);
		if (refresh_by_waiting(statement, relid, alone))
			return;
	}
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

	ivm_trial_again(row);

	/* Everything that can be said about the query now is said now. */
	plan = ivm_build_compile(ivm_build_view_query(relid), relid, get_rel_name(relid),
							 owner, row->settings);
	if (row->text == NULL)
		ivm_compile_report_fallbacks(plan, get_rel_name(relid));
	identities = ivm_base_table_identities(plan);

	if (!alone)
	{
		ivm_base_table_set_identities(identities);
		if (stmt->concurrent && !has_unique_index(relid))
		{
			/* elsewhere no such index is needed */
			stmt = copyObject(stmt);
			stmt->concurrent = false;
			ivm_statement_execute_instead(statement, (Node *) stmt);
		}
		else
			ivm_statement_execute(statement);
		ivm_metadata_set_state(relid, IVM_STATE_REBUILD, "REFRESH MATERIALIZED VIEW");
		ivm_build_after_commit(relid);
		return;
	}

	fire_event_triggers((Node *) stmt, relid);
	rows = ivm_build_finish(relid, identities,
							populated ? IVM_STATE_REBUILD : IVM_STATE_BUILDING, false,
							populated ? NULL : undo_population, NULL);
	if (statement->qc)
		SetQueryCompletion(statement->qc, CMDTAG_REFRESH_MATERIALIZED_VIEW, rows);
}
