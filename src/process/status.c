/*-------------------------------------------------------------------------
 *
 * status.c
 *	  How a view is, worked out by whoever looks.
 *
 * A process that is dead, stopped, busy or missing cannot say so.  So pg_stat_ivm does not
 * show what a view's processes say of themselves, but what the session that looks
 * concludes from what was left for them and how far they have come (capture/lag.c), from
 * what runs, and from why what should run does not (control.h).
 *
 * What a view may lack is looked for from the end of the line to the view: commits that
 * were not decoded, decoded transactions that its worker has not read, those that it has read
 * and not applied, and what the view itself is behind for a reason of its own.
 * Each process passes a commit on to the next place before it takes it from its own, and the looks
 * go in the same direction, so that one that is on its way is seen at least once.
 *
 * The time that is stored with a view's applied snapshot (as_of) bounds the answer from the other side: what
 * committed before is contained.  After a restart of the server, when all else is
 * lost until the processes have looked, it is all that is known.
 *
 * On a standby there is nothing but that: what the view shows is as old as its applied
 * snapshot, or as the last transaction replayed if that is all that there is.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"

#include "base/in_hand.h"
#include "capture/capture.h"
#include "memory/kernel.h"
#include "metadata/metadata.h"
#include "stats/stats.h"
#include "process/control.h"
#include "process/status.h"

#define UNREMARKABLE	1000	/* ms; who is behind for so long is asked why */

PG_FUNCTION_INFO_V1(ivm_view_status);

/* ---- since when ---- */

static void
take_earlier(TimestampTz *result, TimestampTz time)
{
	if (time != 0 && (*result == 0 || time < *result))
		*result = time;
}

static IvmControlDatabase *
my_entry(void)
{
	IvmControlDatabase *control;

	if (ivm_control == NULL)
		return NULL;
	LWLockAcquire(ivm_control->lock, LW_SHARED);
	control = ivm_control_find(MyDatabaseId, false);
	LWLockRelease(ivm_control->lock);
	return control;
}

/* The order of the looks matters: see the head of the file.  *view is as of the last one. */
static TimestampTz
missing_since(IvmControlDatabase *control, Oid relid, IvmViewStatus *view)
{
	TimestampTz result = 0;
	IvmReadFacts facts;
	IvmApplyShared *apply;
	int			number;

	if (!ivm_stats_view_status(MyDatabaseId, relid, view) || view->worker_number < 0 || control == NULL)
		return view->stale_since != 0 ? view->stale_since : DT_NOBEGIN;

	number = view->worker_number;
	apply = &control->apply[number];
	take_earlier(&result, ivm_undecoded_since(control->capture));
	pg_read_barrier();
	facts.sequence = pg_atomic_read_u64(&apply->read_sequence);
	facts.incarnation = pg_atomic_read_u64(&apply->read_incarnation);
	facts.time = (TimestampTz) pg_atomic_read_u64(&apply->read_time);
	take_earlier(&result, facts.incarnation == 0 ? DT_NOBEGIN :
				 ivm_unread_since(control->capture, number, &facts));
	pg_read_barrier();
	take_earlier(&result, (TimestampTz) pg_atomic_read_u64(&apply->oldest_pending));
	pg_read_barrier();
	(void) ivm_stats_view_status(MyDatabaseId, relid, view);
	take_earlier(&result, view->behind_since);
	take_earlier(&result, view->stale_since);
	/* it has moved to another worker meanwhile */
	if (view->worker_number != number)
		take_earlier(&result, DT_NOBEGIN);
	return result;
}

TimestampTz
ivm_status_missing_since(Oid relid)
{
	IvmViewStatus view;

	return missing_since(my_entry(), relid, &view);
}

void
ivm_status_let_go(Oid relid, int worker_number)
{
	TimestampTz since = ivm_status_missing_since(relid);

	ivm_stats_view_let_go(MyDatabaseId, relid, worker_number, since != 0 ? since : GetCurrentTimestamp());
}

void
ivm_status_leave(Oid relid, int worker_number)
{
	TimestampTz since = ivm_status_missing_since(relid);

	ivm_stats_view_leave(MyDatabaseId, relid, worker_number, since != 0 ? since : GetCurrentTimestamp());
}

/* ---- what is missing ---- */

int
ivm_status_old_transactions(StringInfo pids)
{
	int			n = 0;

	for (uint32 i = 0; i < ProcGlobal->allProcCount; i++)
	{
		PGPROC	   *proc = &ProcGlobal->allProcs[i];
		int			pid = proc->pid;

		if (!TransactionIdIsValid(((volatile PGPROC *) proc)->xid) || proc == MyProc || pid == MyProcPid)
			continue;
		if (pid == 0)
			continue;
		appendStringInfo(pids, "%s%d", n++ > 0 ? ", " : "", pid);
	}
	return n;
}

/* Why something that is to run in this database does not. */
static void
explain_start(IvmControlDatabase *control, const char *what, StringInfo detail)
{
	TimestampTz now = GetCurrentTimestamp();

	if (ivm_control->launcher_pid == 0)
		appendStringInfoString(detail, "The launcher does not run; the server starts it if max_worker_processes allows, 5 seconds after it ended.");
	else if (ivm_kernel_is_stopped(ivm_control->launcher_pid))
		appendStringInfo(detail, "The launcher (process %d) is stopped by a signal.", ivm_control->launcher_pid);
	else if (ivm_control->starts_at > now)
		appendStringInfo(detail, "The server has crashed repeatedly; processes are started at %s.",
						 timestamptz_to_str(ivm_control->starts_at));
	else if (control->starting_failed)
		appendStringInfo(detail, "There is no free background worker slot for %s: max_worker_processes is too low.", what);
	else if (control->missing_memory > 0)
		appendStringInfo(detail, "There is no room for %s: ivm.memory_budget is too low by %zu kB.",
						 what, (control->missing_memory + 1023) / 1024);
	else if (control->next_start > now)
		appendStringInfo(detail, "It is started again at %s.", timestamptz_to_str(control->next_start));
	else
		appendStringInfoString(detail, "It is being started.");
}

/*
 * The state of all views of the database, if something that they need is missing; NULL otherwise.
 */
static const char *
find_missing(IvmControlDatabase *control, int worker, StringInfo detail)
{
	StringInfoData pids;
	int			n;

	if (control == NULL)
	{
		appendStringInfoString(detail, ivm_control->launcher_pid == 0 ?
							   "The launcher does not run; the server starts it if max_worker_processes allows, 5 seconds after it ended." :
							   "The launcher has not looked into this database yet.");
		return "no process";
	}
	switch (control->state)
	{
		case IVM_DATABASE_UNKNOWN:
		case IVM_DATABASE_INSPECTING:
		case IVM_DATABASE_GONE:
			if (control->inspection_problem[0] != '\0')
				appendStringInfo(detail, "The launcher could not look into this database, and tries again: %s.",
								 control->inspection_problem);
			else
				explain_start(control, "a process that looks into this database", detail);
			return "no process";
		case IVM_DATABASE_HELD:
			appendStringInfoString(detail, "A statement on this database has stopped its processes until it ends.");
			return "no process";
		case IVM_DATABASE_WANTED:
		case IVM_DATABASE_NOT_WANTED:
			break;
	}

	if (control->decoder_pid == 0)
	{
		bool		any = false;

		for (int i = 0; i < control->apply_workers; i++)
			any |= control->apply[i].pid != 0;
		if (control->decoder_problem[0] != '\0')
		{
			appendStringInfoString(detail, control->decoder_problem);
			appendStringInfoString(detail, detail->data[detail->len - 1] == '.' ? " " : ". ");
		}
		explain_start(control, any ? "the decoder" : "the processes of this database", detail);
		return any ? "no decoder" : "no process";
	}
	switch (ivm_decoder_state(control->capture))
	{
		case IVM_DECODER_CREATING_SLOT:
			initStringInfo(&pids);
			n = ivm_status_old_transactions(&pids);
			if (n > 0)
				appendStringInfo(detail, "A replication slot can be made when those transactions have ended that ran before. Running are those of processes %s.",
								 pids.data);
			else
				appendStringInfoString(detail, "A replication slot can be made when prepared transactions have ended, see pg_prepared_xacts.");
			return "waiting for old transactions";
		case IVM_DECODER_STOPPED:
		case IVM_DECODER_STARTING:
			for (int i = 0; i < control->apply_workers; i++)
				if (!control->apply[i].registered)
				{
					appendStringInfo(detail, "The decoder (process %d) waits for apply worker (process %d), which has not read the views yet.",
									 control->decoder_pid, control->apply[i].pid);
					return "no decoder";
				}
			if (ivm_kernel_is_stopped(control->decoder_pid))
				appendStringInfo(detail, "The decoder (process %d) is stopped by a signal.", control->decoder_pid);
			else
				appendStringInfo(detail, "The decoder (process %d) is starting.", control->decoder_pid);
			return "no decoder";
		case IVM_DECODER_RUNNING:
			break;
	}
	if (worker >= 0 && control->apply[worker].pid == 0)
	{
		explain_start(control, "the apply worker", detail);
		return "no process";
	}
	return NULL;
}

const char *
ivm_status_missing(Oid relid)
{
	IvmControlDatabase *control = my_entry();
	StringInfoData detail;
	IvmViewStatus view;

	(void) missing_since(control, relid, &view);
	initStringInfo(&detail);
	return find_missing(control, view.worker_number, &detail);
}

/* Whom a view that is behind waits for. */
static void
explain_lag(IvmControlDatabase *control, int worker, StringInfo detail)
{
	IvmProcessState process;
	int			pid;

	pid = control->decoder_pid;
	if (pid != 0 && ivm_kernel_is_stopped(pid))
		appendStringInfo(detail, "The decoder (process %d) is stopped by a signal.", pid);
	else if (ivm_undecoded_since(control->capture) != 0)
	{
		XLogRecPtr	reached = ivm_decoded_position(control->capture);
		XLogRecPtr	flushed = GetFlushRecPtr(NULL);

		appendStringInfo(detail, "The decoder (process %d) has %llu bytes of WAL to read.", pid,
						 (unsigned long long) (flushed > reached ? flushed - reached : 0));
	}
	else if (worker >= 0)
	{
		pid = control->apply[worker].pid;
		if (pid != 0 && ivm_kernel_is_stopped(pid))
			appendStringInfo(detail, "The apply worker (process %d) is stopped by a signal.", pid);
		else if (pid != 0 && ivm_stats_process_state(pid, &process))
			appendStringInfo(detail, "The apply worker (process %d) is in state \"%s\" since %s.",
							 pid, process.state, timestamptz_to_str(process.since));
	}
}

/* ---- the SQL function ---- */

/* What is stored, and what the processes have said. */
static const char *
said_state(char stored, const IvmViewStatus *view)
{
	switch (stored)
	{
		case 'u':
			return "unpopulated";
		case 'b':
			return "building";
		case 'r':
			return strcmp(view->state, "paused") == 0 ? "paused" : "rebuild";
		case 'e':
			return "error";
		case 'a':
			return view->state[0] != '\0' ? view->state : "active";
		default:
			return view->state[0] != '\0' ? view->state : "unpopulated";
	}
}

static void
explain_build(IvmControlDatabase *control, Oid relid, StringInfo detail)
{
	if (find_missing(control, -1, detail) != NULL)
		return;
	if (control->builder_pid == 0)
		explain_start(control, "the builder", detail);
	else if (ivm_kernel_is_stopped(control->builder_pid))
		appendStringInfo(detail, "The builder (process %d) is stopped by a signal.", control->builder_pid);
	else if (OidIsValid(control->building) && control->building != relid)
	{
		char	   *name = get_rel_name(control->building);

		appendStringInfo(detail, "The builder (process %d) is at work on \"%s\".",
						 control->builder_pid, name != NULL ? name : "");
	}
}

/*
 * The view's state, since when, its position, lag and a text about its state; from what is stored with it: state,
 * position, and a time at which it contained everything.
 */
Datum
ivm_view_status(PG_FUNCTION_ARGS)
{
	Oid			relid = PG_GETARG_OID(0);
	char		stored = PG_ARGISNULL(1) ? '\0' : PG_GETARG_CHAR(1);
	XLogRecPtr	applied = PG_ARGISNULL(2) ? InvalidXLogRecPtr : PG_GETARG_LSN(2);
	TimestampTz as_of = PG_ARGISNULL(3) ? DT_NOBEGIN : PG_GETARG_TIMESTAMPTZ(3);
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz since;
	IvmViewStatus view;
	IvmControlDatabase *control = my_entry();
	StringInfoData detail;
	const char *state;
	bool		lacks_all = stored == 'u' || stored == 'b' || stored == '\0';
	TupleDesc	desc;
	Datum		values[5];
	bool		nulls[5] = {false};

	if (ivm_control == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("ivm_ext must be loaded via shared_preload_libraries"),
				 errhint("Add ivm_ext to shared_preload_libraries and restart the server.")));
	if (!ivm_stats_may_see(MyDatabaseId, relid))
		PG_RETURN_NULL();
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	initStringInfo(&detail);

	since = missing_since(control, relid, &view);
	state = said_state(stored, &view);
	if (RecoveryInProgress())
	{
		since = as_of;
		if (!lacks_all && GetXLogReplayRecPtr(NULL) <= applied)
		{
			TimestampTz latest = GetLatestXTime();

			since = Max(since, latest);
		}
		if (stored == 'a')
			state = "standby";
		else
			appendStringInfo(&detail, "It is maintained on the primary.");
	}
	else if (stored == 'a')
	{
		const char *missing = find_missing(control, view.worker_number, &detail);

		if (since != 0)
			since = Max(since, as_of);
		if (missing != NULL)
			state = missing;
		else if (since != 0 && now - since > UNREMARKABLE * INT64CONST(1000))
			explain_lag(control, view.worker_number, &detail);
	}
	else
	{
		/* what it lacked when it was given up, and all that came since */
		since = Max(view.stale_since != 0 ? view.stale_since : DT_NOBEGIN, as_of);
		if (strcmp(state, "paused") == 0)
			appendStringInfo(&detail, "It is rebuilt at %s.", timestamptz_to_str(view.next_try));
		else if (stored == 'b' || stored == 'r')
			explain_build(control, relid, &detail);
		else if (stored == 'e')
		{
			TimestampTz next = ivm_trouble_next(MyDatabaseId, relid);

			if (next > now)
				appendStringInfo(&detail, "See last_error. It is tried again at %s, or when something changes that it names.",
								 timestamptz_to_str(next));
			else if (next != 0)
				appendStringInfoString(&detail, "See last_error. It is being tried again.");
			else
				appendStringInfoString(&detail, "See last_error. REFRESH MATERIALIZED VIEW tries again.");
		}
	}

	if (ivm_suspect_deaths(MyDatabaseId, InvalidOid) > 0)
		appendStringInfo(&detail, "%sThe decoder has died at %X/%X (deaths in a row: %d).", detail.len > 0 ? " " : "",
						 LSN_FORMAT_ARGS(ivm_suspect_position(MyDatabaseId)),
						 ivm_suspect_deaths(MyDatabaseId, InvalidOid));

	applied = Max(applied, view.applied_lsn);
	if (stored == 'a' && control != NULL && view.worker_number >= 0 && view.behind_since == 0 && view.stale_since == 0)
	{
		XLogRecPtr	position = pg_atomic_read_u64(&control->apply[view.worker_number].position);

		applied = Max(applied, position);
	}
	if (since == 0 && control != NULL)
	{
		XLogRecPtr	decoded = ivm_decoded_position(control->capture);

		applied = Max(applied, decoded);
	}

	values[0] = CStringGetTextDatum(state);
	values[1] = TimestampTzGetDatum(view.state_since);
	nulls[1] = view.state_since == 0 || strcmp(state, view.state) != 0;
	values[2] = LSNGetDatum(applied);
	nulls[2] = applied == InvalidXLogRecPtr;
	nulls[3] = lacks_all || since == DT_NOBEGIN;
	if (since == 0)
		values[3] = PointerGetDatum(palloc0(sizeof(Interval)));
	else if (!nulls[3])
		values[3] = DirectFunctionCall2(timestamp_mi, TimestampTzGetDatum(Max(now, since)), TimestampTzGetDatum(since));
	values[4] = CStringGetTextDatum(detail.data);
	nulls[4] = detail.len == 0;
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
