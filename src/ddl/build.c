/*-------------------------------------------------------------------------
 *
 * build.c
 *	  What creating, refreshing and converting a view have in common: check
 *	  its query first, have it built at the end.
 *
 * The steps of a statement that is alone, each in a transaction of its own:
 *
 *	1. checks, and the catalog entries of the view; it is "unpopulated"
 *	2. REPLICA IDENTITY FULL for the tables that lack it, each in a transaction of its own; then the view
 *	   becomes "building" (or "rebuild")
 *	3. the builder works; nothing is held but a virtual transaction id
 *
 * The replica identity is not set in the first transaction because that holds
 * weak locks on the tables already: two statements on the same tables would
 * deadlock.  It is not set before it either, so that a table is
 * not changed for a view that cannot be made.  While it is set the view stays
 * unpopulated, or else the builder might take it for one that is
 * ready.  Steps 1 and 2 are one where no table needs it.
 *
 * Whatever fails after the first commit is undone in a further transaction,
 * and the error is raised after that.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "rewrite/prs2lock.h"
#include "storage/lmgr.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "base/attempt.h"
#include "compile/compile.h"
#include "compile/compiled.h"
#include "ddl/statement.h"
#include "metadata/metadata.h"
#include "process/request.h"

IvmPlan *
ivm_build_compile(Query *query, Oid relid, const char *view_name, Oid owner, List *settings)
{
	IvmIdentity saved;
	IvmPlan    *plan;

	ivm_identity_enter(&saved, owner, settings);
	plan = ivm_compile(copyObject(query), relid, view_name, settings, NIL, NULL, CurrentMemoryContext);
	ivm_identity_leave(&saved);
	return plan;
}

Query *
ivm_build_view_query(Oid relid)
{
	Relation	rel = table_open(relid, AccessShareLock);
	Query	   *query;

	if (rel->rd_rules == NULL || rel->rd_rules->numLocks != 1)
		elog(ERROR, "materialized view \"%s\" has no query", RelationGetRelationName(rel));
	query = copyObject(linitial_node(Query, rel->rd_rules->rules[0]->actions));
	table_close(rel, AccessShareLock);
	return query;
}

IvmPlan *
ivm_build_current_plan(Oid relid, IvmViewRow *row)
{
	List	   *owned = NIL;
	ListCell   *lc;

	foreach(lc, row->arrangements)
	{
		IvmViewRow *arrangement = ivm_metadata_get(lfirst_oid(lc));

		if (arrangement != NULL && arrangement->definition != NULL)
			owned = lappend(owned, arrangement->definition);
	}
	return ivm_plan_for_view(relid, row->settings, owned, row->text, CurrentMemoryContext);
}

/*
 * Removes the view of a CREATE that failed.
 */
void
ivm_drop_view(Oid relid)
{
	ObjectAddress address;

	LockRelationOid(relid, AccessExclusiveLock);
	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid)))
		return;
	ObjectAddressSet(address, RelationRelationId, relid);
	performDeletion(&address, DROP_CASCADE, PERFORM_DELETION_INTERNAL | PERFORM_DELETION_QUIETLY);
}

/* Undoes the statement in a transaction of its own. */
static void
undo_statement(Oid relid, IvmUndo undo)
{
	if (undo == NULL)
		return;
	/* half a view is worse than a late cancel */
	HOLD_CANCEL_INTERRUPTS();
	PushActiveSnapshot(GetTransactionSnapshot());
	undo(relid);
	PopActiveSnapshot();
	ivm_statement_next_transaction();
	RESUME_CANCEL_INTERRUPTS();
}

/* The claim keeps out whoever acts upon the state as it was. */
static void
set_state(Oid relid, char state)
{
	if (state == IVM_STATE_UNPOPULATED)
		return;
	(void) ivm_claim(relid, true);
	ivm_metadata_set_state(relid, state, NULL);
}

/* A table that is to get its replica identity, and its view. */
typedef struct IdentityStep
{
	List	   *relids;			/* the table */
	IvmLockTries tries;
	bool		done;
} IdentityStep;

static bool
try_identity(void *argument)
{
	IdentityStep *step = argument;

	PushActiveSnapshot(GetTransactionSnapshot());
	step->done = ivm_base_table_try_identities(step->relids, &step->tries);
	PopActiveSnapshot();
	return step->done;
}

static bool
wait_before_next(void *argument)
{
	IdentityStep *step = argument;

	ivm_base_table_pause(step->relids, &step->tries);
	return true;
}

/*
 * Sets the replica identities, one table and one try a transaction, so that nothing is held
 * between them, or returns what went wrong.
 */
static ErrorData *
set_identities(List *identities)
{
	ErrorData  *error = NULL;
	ListCell   *lc;

	foreach(lc, identities)
	{
		IdentityStep step = {.relids = list_make1_oid(lfirst_oid(lc))};

		while (!step.done && error == NULL)
		{
			error = ivm_attempt(try_identity, &step);
			ivm_statement_next_transaction();
			if (!step.done && error == NULL)
				error = ivm_attempt(wait_before_next, &step);
		}
		if (error != NULL)
			break;
	}
	return error;
}

typedef struct StateStep
{
	Oid			relid;
	char		state;
} StateStep;

static bool
take_state(void *argument)
{
	StateStep  *step = argument;

	/* first of all locks: whoever has the claim may wait for the tables */
	(void) ivm_claim(step->relid, true);
	PushActiveSnapshot(GetTransactionSnapshot());
	set_state(step->relid, step->state);
	PopActiveSnapshot();
	return true;
}

bool
ivm_build_error_is_of_view(const ErrorData *error)
{
	int			category = ERRCODE_TO_CATEGORY(error->sqlerrcode);

	return category != ERRCODE_TO_CATEGORY(ERRCODE_OPERATOR_INTERVENTION) &&
		category != ERRCODE_TO_CATEGORY(ERRCODE_T_R_SERIALIZATION_FAILURE) &&
		error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE;
}

uint64
ivm_build_finish(Oid relid, List *identities, char state, bool drop_if_orphaned, IvmUndo undo,
				 ErrorData **error)
{
	ErrorData  *edata = NULL;
	uint64		rows = 0;

	ivm_request_build_begin(relid, undo != NULL, drop_if_orphaned);
	MemoryContextSwitchTo(PortalContext);
	identities = list_copy(identities);
	if (identities == NIL)
	{
		set_state(relid, state);
		ivm_statement_next_transaction();
	}
	else
	{
		StateStep	step = {relid, state};

		ivm_statement_next_transaction();
		edata = set_identities(identities);
		if (edata == NULL)
			edata = ivm_attempt(take_state, &step);
		ivm_statement_next_transaction();
	}

	if (edata == NULL && state != IVM_STATE_UNPOPULATED)
		edata = ivm_request_build_wait(&rows);
	if (edata != NULL)
		undo_statement(relid, undo);
	ivm_request_build_end();
	if (edata != NULL && (error == NULL || !ivm_build_error_is_of_view(edata)))
		ThrowErrorData(edata);
	if (error != NULL)
		*error = edata;
	ivm_statement_last_transaction();
	return rows;
}


/* ---- statements that are not alone ---- */

/* Views to be built after this transaction, in TopTransactionContext. */
static List *pending = NIL;

void
ivm_build_after_commit(Oid relid)
{
	MemoryContext context = MemoryContextSwitchTo(TopTransactionContext);

	pending = list_append_unique_oid(pending, relid);
	MemoryContextSwitchTo(context);
	ivm_request_refresh_at_commit();
}

/*
 * A prepared transaction is committed by another session, which does not know that
 * something is to be built; so such a transaction cannot be prepared.  What a
 * rolled back subtransaction did does not count.
 */
static void
at_transaction_end(XactEvent event, void *arg)
{
	ListCell   *lc;

	switch (event)
	{
		case XACT_EVENT_PRE_PREPARE:
			foreach(lc, pending)
			{
				IvmViewRow *row = ivm_metadata_get(lfirst_oid(lc));

				if (row != NULL &&
					(row->state == IVM_STATE_REBUILD || row->state == IVM_STATE_BUILDING))
					ereport(ERROR,
							(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
							 errmsg("cannot PREPARE a transaction that has created, refreshed or altered an incremental view"),
							 errhint("Create or refresh the view in a transaction of its own.")));
			}
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			pending = NIL;
			break;
		default:
			break;
	}
}

void
ivm_build_init(void)
{
	RegisterXactCallback(at_transaction_end, NULL);
}
