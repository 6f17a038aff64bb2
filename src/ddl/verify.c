/*-------------------------------------------------------------------------
 *
 * verify.c
 *	  ivm.verify: a session compares a view with its query by itself.
 *
 * The view equals its query at its applied snapshot A, which is stored with it.
 * The session takes a snapshot of its own, T, that sees the view, reads A
 * under T, and compares the view under T with the query under A, while everybody goes on.
 *
 * That the tables still have what A sees of them is seen to by the session itself: it holds an
 * xmin, and takes only an A whose xmin is not before that.  So it needs an A that is
 * younger than its xmin, also of a view that nothing happens to: the view's process is asked to end a
 * batch, whose snapshot it stores.  For the verification it does no more than that.
 *
 * A holds top-level transactions only.  As a snapshot it is like one that has lost track of
 * subtransactions; pg_subtrans knows their parents as long as the xmin is held.  What this
 * transaction itself has written, A does not see: it would be of its command 0.
 *
 * Locks come before A, as in a batch: a TRUNCATE or a rewrite after A would make a table look empty
 * under it.  But who waits for a table behind our lock may be what the batch waits for.  So
 * the locks are taken in a subtransaction, and let go if the batch does not come soon; each
 * try is twice as patient as the last one.
 *
 * What is invalidated without a lock (a function that is replaced) may make a difference that is not one: it is
 * a difference only if the view was computed from what the query compiles to now, or if it is
 * still there a while later.
 *
 * The query runs as the view's owner, restricted, with the view's settings.  An error of it is for the owner's
 * eyes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "apply/apply.h"
#include "base/attempt.h"
#include "capture/capture.h"
#include "compile/compiled.h"
#include "ddl/statement.h"
#include "metadata/metadata.h"
#include "process/request.h"
#include "process/sync.h"

#define FIRST_PATIENCE	1000	/* ms that a try waits for its batch */
#define MAX_PATIENCE	60000
#define PAUSE			100		/* ms between two tries */
#define DOUBTS			5		/* tries that a difference has to survive if
								 * the query has changed */

PG_FUNCTION_INFO_V1(ivm_verify);

typedef struct Try
{
	Oid			relid;
	int64		patience;		/* ms */
	bool		done;
	bool		is_current;		/* the view is computed from what the query
								 * compiles to */
	int64		missing;
	int64		extra;
} Try;

static IvmViewRow *
maintained_row(Oid relid)
{
	IvmViewRow *row = ivm_metadata_get(relid);

	if (row == NULL || row->state == IVM_STATE_UNPOPULATED || row->state == IVM_STATE_ERROR)
		ivm_report_unmaintained(relid, row);
	return row;
}

static void
refuse_to_wait(Oid relid, const char *message, const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
			 errmsg(message, name),
			 errdetail("To verify incremental view \"%s\" another process has to end a batch of it.",
					   get_rel_name(relid)),
			 errhint("Commit first.")));
}

static void
require_no_own_lock(Oid relid, IvmViewRow *row, IvmPlan *plan)
{
	Oid			locked = ivm_own_lock_in_the_way(relid, row, plan);

	if (OidIsValid(locked))
		refuse_to_wait(relid, ivm_relation_is_incremental(locked) ?
					   "incremental view \"%s\" is locked against writing in this transaction" :
					   "table \"%s\" is locked exclusively in this transaction",
					   get_rel_name(locked));
}

/* A replication slot cannot be made while this transaction has an xid. */
static void
require_no_own_xid(Oid relid)
{
	IvmDatabase *capture = ivm_database_get(MyDatabaseId);

	if (TransactionIdIsValid(GetTopTransactionIdIfAny()) &&
		capture != NULL && ivm_decoder_state(capture) == IVM_DECODER_CREATING_SLOT)
		refuse_to_wait(relid, "a replication slot waits for the end of this transaction", NULL);
}

/*
 * The stored snapshot as one that the executor can use; NULL if what it sees may be gone.  What is
 * told by "base", a younger one of this session, is when it was taken, at the latest.
 */
static Snapshot
restore_snapshot(IvmAppliedSnapshot *applied, Snapshot base)
{
	Snapshot	result;

	if (!TransactionIdIsValid(MyProc->xmin) ||
		TransactionIdPrecedes((TransactionId) applied->xmin, MyProc->xmin))
		return NULL;
	result = palloc(sizeof(SnapshotData));
	*result = *base;
	result->xmin = (TransactionId) applied->xmin;
	result->xmax = (TransactionId) applied->xmax;
	result->xip = palloc(Max(applied->nxip, 1) * sizeof(TransactionId));
	result->xcnt = applied->nxip;
	for (int i = 0; i < applied->nxip; i++)
		result->xip[i] = (TransactionId) applied->xip[i];
	result->subxip = NULL;
	result->subxcnt = 0;
	result->suboverflowed = true;
	result->takenDuringRecovery = false;
	result->copied = false;
	result->active_count = 0;
	result->regd_count = 0;
	result->curcid = FirstCommandId;
	result->snapXactCompletionCount = 0;
	return result;
}

/* Compares as the view's owner. */
static void
compare(Try *verification, Relation view, IvmViewRow *row, IvmPlan *plan, Snapshot applied, Snapshot now)
{
	MemoryContext context = CurrentMemoryContext;
	bool		is_told = ivm_may_read_reason(verification->relid);
	IvmIdentity saved;

	ivm_identity_enter(&saved, view->rd_rel->relowner, row->settings);
	PG_TRY();
	{
		ivm_view_verify(view, plan, applied, now, &verification->missing, &verification->extra);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		if (is_told || !ivm_build_error_is_of_view(error))
			PG_RE_THROW();
		FlushErrorState();
		ereport(ERROR,
				(errcode(error->sqlerrcode),
				 errmsg("the query of incremental view \"%s\" failed", RelationGetRelationName(view)),
				 errdetail("What went wrong is told to its owner and to members of pg_monitor.")));
	}
	PG_END_TRY();
	ivm_identity_leave(&saved);
}

/* One try; if it is not done its locks go with the subtransaction. */
static bool
try_to_verify(void *argument)
{
	Try		   *verification = argument;
	Oid			relid = verification->relid;
	IvmViewRow *row;
	IvmPlan    *plan;
	Relation	view;
	Snapshot	held;
	Snapshot	now;
	IvmAppliedSnapshot *stored;
	Snapshot	applied;

	LockRelationOid(relid, AccessShareLock);
	row = maintained_row(relid);
	plan = ivm_build_current_plan(relid, row);
	require_no_own_lock(relid, row, plan);

	held = RegisterSnapshot(GetLatestSnapshot());
	if (ivm_request_snapshot(relid, verification->patience))
	{
		view = table_open(relid, NoLock);
		now = RegisterSnapshot(GetLatestSnapshot());
		row = maintained_row(relid);
		stored = ivm_applied_get(relid, now);
		applied = stored == NULL ? NULL : restore_snapshot(stored, held);
		if (applied != NULL && row->state == IVM_STATE_ACTIVE)
		{
			compare(verification, view, row, plan, applied, now);
			row = maintained_row(relid);
			verification->done = row->state == IVM_STATE_ACTIVE;
			verification->is_current = row->text != NULL && row->fingerprint != NULL &&
				ivm_plan_hash(row->text, row->fingerprint) == ivm_plan_hash(plan->text, plan->fingerprint);
		}
		UnregisterSnapshot(now);
		table_close(view, NoLock);
	}
	UnregisterSnapshot(held);
	return verification->done;
}

Datum
ivm_verify(PG_FUNCTION_ARGS)
{
	Oid			relid = PG_GETARG_OID(0);
	Try			verification = {.relid = relid,.patience = FIRST_PATIENCE};
	MemoryContext context;
	TupleDesc	desc;
	Datum		values[2];
	bool		nulls[2] = {false, false};
	IvmProcessWatch watch;
	int			doubts = 0;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	ivm_require_view(relid);
	(void) maintained_row(relid);
	ivm_require_no_own_work(relid);
	ivm_request_check_server();

	(void) ivm_request_database(GetCurrentTimestamp(), -1);
	ivm_request_watch_begin(&watch);
	context = AllocSetContextCreate(CurrentMemoryContext, "ivm verification", ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		MemoryContext caller = MemoryContextSwitchTo(context);
		ErrorData  *error;

		verification.done = false;
		error = ivm_attempt(try_to_verify, &verification);
		MemoryContextSwitchTo(caller);
		if (error != NULL)
			ThrowErrorData(error);
		if (verification.done &&
			((verification.missing == 0 && verification.extra == 0) || verification.is_current || ++doubts == DOUBTS))
			break;
		MemoryContextReset(context);
		if (!verification.done)
		{
			verification.patience = Min(verification.patience * 2, MAX_PATIENCE);
			require_no_own_xid(relid);
			ivm_request_watch(&watch);
		}
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, PAUSE, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	MemoryContextDelete(context);

	values[0] = Int64GetDatum(verification.missing);
	values[1] = Int64GetDatum(verification.extra);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
