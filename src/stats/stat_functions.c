/*-------------------------------------------------------------------------
 *
 * stat_functions.c
 *	  The SQL functions behind the pg_stat_ivm views.
 *
 * Each set-returning function copies what it shows out of shared memory first
 * and makes rows of the copy, so that no lock is held while rows are stored.
 * Two rows may therefore be some microseconds apart.
 *
 * What processes hold of the memory budget is taken from there, at this moment:
 * it is true also in the midst of a batch, while the rest of the memory columns is as of
 * the process's last report.
 *
 * Views and operators are shown for the current database only, since their
 * relids mean nothing elsewhere; processes for the whole cluster.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlogdefs.h"
#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "memory/budget.h"
#include "memory/kernel.h"
#include "stats/stats_internal.h"

/* The most columns that any of the functions has. */
#define MAX_COLUMNS		32

/* A row while it is being filled, from left to right. */
typedef struct RowBuilder
{
	Datum		values[MAX_COLUMNS];
	bool		isnull[MAX_COLUMNS];
	int			n;
} RowBuilder;

PG_FUNCTION_INFO_V1(ivm_stat_views);
PG_FUNCTION_INFO_V1(ivm_stat_workers);
PG_FUNCTION_INFO_V1(ivm_stat_operators);
PG_FUNCTION_INFO_V1(ivm_stat_memory);
PG_FUNCTION_INFO_V1(ivm_stat_builds);
PG_FUNCTION_INFO_V1(ivm_stat_reset);

static void
put(RowBuilder *row, Datum value, bool isnull)
{
	Assert(row->n < lengthof(row->values));
	row->values[row->n] = value;
	row->isnull[row->n] = isnull;
	row->n++;
}

static void
put_int64(RowBuilder *row, int64 value)
{
	put(row, Int64GetDatum(value), false);
}

static void
put_float8(RowBuilder *row, double value)
{
	put(row, Float8GetDatum(value), false);
}

static void
put_oid(RowBuilder *row, Oid value)
{
	put(row, ObjectIdGetDatum(value), !OidIsValid(value));
}

static void
put_lsn(RowBuilder *row, XLogRecPtr value)
{
	put(row, LSNGetDatum(value), XLogRecPtrIsInvalid(value));
}

/* 0 is "never" */
static void
put_time(RowBuilder *row, TimestampTz value)
{
	put(row, TimestampTzGetDatum(value), value == 0);
}

/* the empty text is "none" */
static void
put_text(RowBuilder *row, const char *value)
{
	put(row, value[0] ? CStringGetTextDatum(value) : (Datum) 0, value[0] == '\0');
}

/*
 * What is kept of a view is for its owner, and for pg_monitor: the text of an
 * error may hold rows that not everybody may see.
 */
bool
ivm_stats_may_see(Oid dboid, Oid relid)
{
	return has_privs_of_role(GetUserId(), ROLE_PG_MONITOR) ||
		(dboid == MyDatabaseId && SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid)) &&
		 pg_class_ownercheck(relid, GetUserId()));
}

/* Prepares the result set, and refuses where there is nothing to show. */
static ReturnSetInfo *
begin_result(FunctionCallInfo fcinfo)
{
	if (ivm_stats == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("ivm_ext must be loaded via shared_preload_libraries"),
				 errhint("Add ivm_ext to shared_preload_libraries and restart the server.")));
	InitMaterializedSRF(fcinfo, 0);
	return (ReturnSetInfo *) fcinfo->resultinfo;
}

static void
emit(ReturnSetInfo *result, RowBuilder *row)
{
	CHECK_FOR_INTERRUPTS();
	Assert(row->n == result->setDesc->natts);
	tuplestore_putvalues(result->setResult, result->setDesc, row->values, row->isnull);
	row->n = 0;
}

/*
 * What the arenas of a process hold now.  It may be less than was in use at the last report.
 */
static void
update_memory(IvmArenaStats *memory, const IvmBudgetProcess *process)
{
	memory->resident = process->arenas;
	memory->active = Min(memory->active, memory->resident);
	memory->allocated = Min(memory->allocated, memory->active);
	memory->peak = Max(memory->peak, memory->resident);
}

static void
put_counters(RowBuilder *row, const IvmBudgetCounters *counters)
{
	put_int64(row, counters->stalls);
	put_float8(row, counters->stall_time);
	put_int64(row, counters->spills);
	put_int64(row, counters->spill_bytes);
}

/* Copies the rows of the running processes; sets *count. */
static IvmStatsWorker *
copy_workers(int *count)
{
	IvmStatsWorker *copies = palloc(sizeof(IvmStatsWorker) * Max(ivm_stats->nworkers, 1));

	*count = 0;
	for (int i = 0; i < ivm_stats->nworkers; i++)
	{
		IvmStatsWorker *row = &ivm_stats_workers[i];

		CHECK_FOR_INTERRUPTS();
		SpinLockAcquire(&row->mutex);
		copies[*count] = *row;
		SpinLockRelease(&row->mutex);
		if (copies[*count].pid != 0)
			(*count)++;
	}
	return copies;
}

/* Copies the entries of this database's views; sets *count. */
static IvmStatsView *
copy_views(int *count)
{
	int			size = 64;
	IvmStatsView *copies = palloc(sizeof(IvmStatsView) * size);

	*count = 0;
	if (!ivm_stats_lock(LW_SHARED))
		return copies;
	for (int i = 0; i < IVM_STATS_BUCKETS; i++)
	{
		for (uint32 number = ivm_stats->buckets[i]; number != 0;
			 number = ivm_stats_view_at(number)->next)
		{
			IvmStatsView *view = ivm_stats_view_at(number);

			if (view->dboid != MyDatabaseId)
				continue;
			if (*count == size)
			{
				size *= 2;
				copies = repalloc(copies, sizeof(IvmStatsView) * size);
			}
			SpinLockAcquire(&view->mutex);
			copies[*count] = *view;
			SpinLockRelease(&view->mutex);
			(*count)++;
		}
	}
	LWLockRelease(&ivm_stats->lock);
	return copies;
}

/*
 * A row a view that has counters.
 */
Datum
ivm_stat_views(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = begin_result(fcinfo);
	RowBuilder	row = {.n = 0};
	int			nviews;
	IvmStatsView *views = copy_views(&nviews);

	for (int i = 0; i < nviews; i++)
	{
		IvmStatsView *view = &views[i];

		if (!ivm_stats_may_see(view->dboid, view->relid))
			continue;
		put_oid(&row, view->relid);
		put_time(&row, view->last_apply_time);
		put_int64(&row, view->batches);
		put_int64(&row, view->changes_received);
		put_int64(&row, view->inserted);
		put_int64(&row, view->updated);
		put_int64(&row, view->deleted);
		put_float8(&row, view->apply_time);
		put_float8(&row, view->max_apply_time);
		put_int64(&row, view->recomputes);
		put_int64(&row, view->rebuilds);
		put_text(&row, view->last_rebuild_reason);
		put_int64(&row, view->error_count);
		put_text(&row, view->last_error);
		put_time(&row, view->last_error_time);
		put_time(&row, view->stats_reset);
		emit(result, &row);
	}
	return (Datum) 0;
}

static const char *
worker_type_name(IvmWorkerType type)
{
	switch (type)
	{
		case IVM_WORKER_LAUNCHER:
			return "launcher";
		case IVM_WORKER_DECODER:
			return "decoder";
		case IVM_WORKER_APPLY:
			return "apply worker";
		case IVM_WORKER_BUILDER:
			return "builder";
	}
	return "";
}

/*
 * A row a process of ours, in all databases.
 */
Datum
ivm_stat_workers(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = begin_result(fcinfo);
	RowBuilder	row = {.n = 0};
	int			count;
	IvmStatsWorker *workers = copy_workers(&count);

	for (int i = 0; i < count; i++)
	{
		IvmStatsWorker *worker = &workers[i];
		IvmBudgetProcess process;
		Size		anonymous = 0;
		bool		known;

		if (ivm_budget_of_process(worker->pid, &process))
			update_memory(&worker->memory, &process);
		known = ivm_kernel_anonymous_memory(worker->pid, &anonymous);
		put(&row, Int32GetDatum(worker->pid), false);
		put_text(&row, worker_type_name(worker->type));
		put_oid(&row, worker->dboid);
		put_text(&row, worker->state);
		put_text(&row, worker->slot_name);
		put_lsn(&row, worker->position);
		put_lsn(&row, worker->confirmed);
		put_lsn(&row, worker->restart_lsn);
		put_int64(&row, worker->log_memory);
		put_int64(&row, worker->log_disk);
		put_int64(&row, process.minimum);
		put_int64(&row, Max(process.minimum, process.held));
		put_int64(&row, worker->memory.allocated);
		put_int64(&row, worker->memory.active);
		put_int64(&row, worker->memory.resident);
		put_int64(&row, worker->memory.retained);
		put_int64(&row, worker->memory.peak);
		put(&row, Int64GetDatum(anonymous), !known);
		put_counters(&row, &process.counters);
		put_int64(&row, worker->memory.trims);
		put_int64(&row, worker->memory.trim_bytes);
		put_int64(&row, worker->cache.bytes);
		put_int64(&row, worker->cache.hits);
		put_int64(&row, worker->cache.misses);
		put_int64(&row, worker->cache.evictions);
		emit(result, &row);
	}
	return (Datum) 0;
}

/* An operator's row and whose it is. */
typedef struct OperatorCopy
{
	Oid			relid;
	IvmOperatorReport report;
} OperatorCopy;

/*
 * A row an operator of a view in this database.
 */
Datum
ivm_stat_operators(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = begin_result(fcinfo);
	RowBuilder	row = {.n = 0};
	int			size = 256;
	int			count = 0;
	OperatorCopy *copies = palloc(sizeof(OperatorCopy) * size);

	if (!ivm_stats_lock(LW_SHARED))
		return (Datum) 0;
	for (int i = 0; i < IVM_STATS_BUCKETS; i++)
	{
		for (uint32 number = ivm_stats->buckets[i]; number != 0;
			 number = ivm_stats_view_at(number)->next)
		{
			IvmStatsView *view = ivm_stats_view_at(number);

			if (view->dboid != MyDatabaseId)
				continue;
			for (uint32 op = view->operators; op != 0; op = ivm_stats_operator_at(op)->next)
			{
				if (count == size)
				{
					size *= 2;
					copies = repalloc(copies, sizeof(OperatorCopy) * size);
				}
				copies[count].relid = view->relid;
				copies[count].report = ivm_stats_operator_at(op)->report;
				count++;
			}
		}
	}
	LWLockRelease(&ivm_stats->lock);

	for (int i = 0; i < count; i++)
	{
		IvmOperatorReport *report = &copies[i].report;

		if (!ivm_stats_may_see(MyDatabaseId, copies[i].relid))
			continue;
		put_oid(&row, copies[i].relid);
		put(&row, Int32GetDatum(report->node_id), false);
		put(&row, Int32GetDatum(report->parent_id), report->parent_id < 0);
		put_text(&row, report->name);
		put_int64(&row, report->rows_in);
		put_int64(&row, report->rows_out);
		put_int64(&row, report->state_bytes);
		put_float8(&row, report->total_time);
		emit(result, &row);
	}
	return (Datum) 0;
}

/*
 * One row: the memory of all our processes.
 */
Datum
ivm_stat_memory(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = begin_result(fcinfo);
	RowBuilder	row = {.n = 0};
	IvmStatsWorker sum;
	IvmBudgetStatus status;
	int			count;
	IvmStatsWorker *workers = copy_workers(&count);

	memset(&sum, 0, sizeof(sum));
	ivm_budget_status(&status);
	for (int i = 0; i < count; i++)
	{
		IvmBudgetProcess process;

		if (ivm_budget_of_process(workers[i].pid, &process))
			update_memory(&workers[i].memory, &process);
		sum.memory.allocated += workers[i].memory.allocated;
		sum.memory.active += workers[i].memory.active;
		sum.memory.retained += workers[i].memory.retained;
		sum.log_memory += workers[i].log_memory;
		sum.log_disk += workers[i].log_disk;
	}

	put(&row, Int32GetDatum(count), false);
	put_int64(&row, status.budget);
	put_int64(&row, status.guaranteed);
	put_int64(&row, status.guaranteed + status.floating);
	put_int64(&row, (int64) status.budget - (int64) (status.guaranteed + status.floating));
	put_int64(&row, sum.memory.allocated);
	put_int64(&row, sum.memory.active);
	put_int64(&row, status.arenas + status.logs);
	put_int64(&row, sum.memory.retained);
	put_int64(&row, status.peak);
	put_int64(&row, sum.log_memory);
	put_int64(&row, sum.log_disk);
	put(&row, Int32GetDatum(status.waiters), false);
	put(&row, Int32GetDatum(status.overdraft_pid), status.overdraft_pid == 0);
	put_counters(&row, &status.counters);
	put_int64(&row, pg_atomic_read_u64(&ivm_stats->trims));
	put_int64(&row, pg_atomic_read_u64(&ivm_stats->trim_bytes));
	emit(result, &row);
	return (Datum) 0;
}

/*
 * A row a population or rebuild that is running, in all databases.
 */
Datum
ivm_stat_builds(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = begin_result(fcinfo);
	RowBuilder	row = {.n = 0};
	int			count;
	IvmStatsWorker *workers = copy_workers(&count);

	for (int i = 0; i < count; i++)
	{
		IvmStatsWorker *worker = &workers[i];

		if (!OidIsValid(worker->build_relid) || !ivm_stats_may_see(worker->dboid, worker->build_relid))
			continue;
		put(&row, Int32GetDatum(worker->pid), false);
		put_oid(&row, worker->dboid);
		put_oid(&row, worker->build_relid);
		put_text(&row, worker->build_is_rebuild ? "REBUILD" : "POPULATE");
		put_text(&row, worker->build_phase);
		put_int64(&row, pg_atomic_read_u64(&worker->build_tuples));
		emit(result, &row);
	}
	return (Datum) 0;
}

/* Sets the counters of a view and of its operators to zero; its state and positions stay. */
static void
reset_view(IvmStatsView *view, TimestampTz now)
{
	SpinLockAcquire(&view->mutex);
	view->last_apply_time = 0;
	view->batches = 0;
	view->changes_received = 0;
	view->inserted = 0;
	view->updated = 0;
	view->deleted = 0;
	view->recomputes = 0;
	view->apply_time = 0;
	view->max_apply_time = 0;
	view->rebuilds = 0;
	view->last_rebuild_reason[0] = '\0';
	view->error_count = 0;
	view->last_error[0] = '\0';
	view->last_error_time = 0;
	view->stats_reset = now;
	SpinLockRelease(&view->mutex);

	for (uint32 number = view->operators; number != 0; number = ivm_stats_operator_at(number)->next)
	{
		IvmOperatorReport *report = &ivm_stats_operator_at(number)->report;

		report->rows_in = 0;
		report->rows_out = 0;
		report->total_time = 0;
	}
}

/*
 * Resets the counters of one view, or of all in this database.
 */
Datum
ivm_stat_reset(PG_FUNCTION_ARGS)
{
	Oid			relid = PG_ARGISNULL(0) ? InvalidOid : PG_GETARG_OID(0);
	TimestampTz now = GetCurrentTimestamp();

	if (!ivm_stats_lock(LW_EXCLUSIVE))
		PG_RETURN_VOID();
	for (int i = 0; i < IVM_STATS_BUCKETS; i++)
	{
		for (uint32 number = ivm_stats->buckets[i]; number != 0;
			 number = ivm_stats_view_at(number)->next)
		{
			IvmStatsView *view = ivm_stats_view_at(number);

			if (view->dboid == MyDatabaseId && (!OidIsValid(relid) || view->relid == relid))
				reset_view(view, now);
		}
	}
	LWLockRelease(&ivm_stats->lock);
	PG_RETURN_VOID();
}
