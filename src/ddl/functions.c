/*-------------------------------------------------------------------------
 *
 * functions.c
 *	  The SQL functions of schema ivm: sync, trim, and the guards
 *	  against a server that runs without the library.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "commands/event_trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "ddl/statement.h"
#include "memory/budget.h"
#include "metadata/metadata.h"
#include "process/request.h"
#include "process/sync.h"

PG_FUNCTION_INFO_V1(ivm_check_preloaded);
PG_FUNCTION_INFO_V1(ivm_guard_command);
PG_FUNCTION_INFO_V1(ivm_sync);
PG_FUNCTION_INFO_V1(ivm_trim);

#define TRIM_PATIENCE	1000	/* ms */
#define TRIM_LOOK		5

void
ivm_require_preloaded(void)
{
	if (!ivm_ddl_is_active)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("ivm_ext must be loaded via shared_preload_libraries"),
				 errhint("Add ivm_ext to shared_preload_libraries and restart the server.")));
}

Datum
ivm_check_preloaded(PG_FUNCTION_ARGS)
{
	ivm_require_preloaded();
	PG_RETURN_VOID();
}

/*
 * Event trigger function, at the end of commands that can make or change a
 * materialized view.  With the library loaded the hooks have done all this.
 */
Datum
ivm_guard_command(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be called as an event trigger", "ivm.guard_command")));
	if (ivm_ddl_is_active || IsBinaryUpgrade)
		PG_RETURN_NULL();

	/* not read-only: what the command has just made must be seen */
	SPI_connect();
	if (SPI_execute("SELECT 1 FROM pg_catalog.pg_event_trigger_ddl_commands() AS d"
					" JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) d.objid"
					" JOIN pg_catalog.pg_am AS a ON a.oid OPERATOR(pg_catalog.=) c.relam"
					" WHERE d.classid OPERATOR(pg_catalog.=) 1259::pg_catalog.oid"
					" AND (a.amname OPERATOR(pg_catalog.=) 'incremental'"
					" OR d.command_tag OPERATOR(pg_catalog.=) 'REFRESH MATERIALIZED VIEW'"
					" AND d.schema_name OPERATOR(pg_catalog.~) '^ivm(_state)?$')",
					false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read the commands of an event trigger");
	if (SPI_processed > 0)
		ivm_require_preloaded();
	SPI_finish();
	PG_RETURN_NULL();
}

void
ivm_require_view(Oid relid)
{
	AclResult	acl;
	char	   *name = get_rel_name(relid);

	ivm_require_preloaded();
	if (name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid)));
	if (!ivm_relation_is_incremental(relid))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not an incremental view", name),
				 get_rel_relkind(relid) == RELKIND_MATVIEW ?
				 errhint("Use ALTER MATERIALIZED VIEW %s SET ACCESS METHOD incremental to make it one.",
						 quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), name)) :
				 errhint("Incremental views are listed in pg_stat_ivm.")));
	acl = pg_class_aclcheck(relid, GetUserId(), ACL_SELECT);
	if (acl != ACLCHECK_OK)
		aclcheck_error(acl, OBJECT_MATVIEW, name);
}

void
ivm_require_no_own_work(Oid relid)
{
	if (ivm_metadata_is_uncommitted(relid))
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("incremental view \"%s\" has been created, refreshed or altered in this transaction",
						get_rel_name(relid)),
				 errdetail("It is maintained after the transaction has been committed."),
				 errhint("Commit first.")));
}

/*
 * Without a view all that have been populated are meant, since nobody can read the
 * others; those that are in error are told of, not waited for.
 */
Datum
ivm_sync(PG_FUNCTION_ARGS)
{
	List	   *relids = NIL;
	Interval   *timeout;
	double		ms;
	ListCell   *lc;

	ivm_require_preloaded();
	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("timeout must not be null")));
	timeout = PG_GETARG_INTERVAL_P(1);
	ms = (timeout->time / (double) USECS_PER_SEC +
		  ((double) timeout->day + (double) timeout->month * DAYS_PER_MONTH) * SECS_PER_DAY) * 1000.0;
	if (ms < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("timeout must not be negative")));

	if (!PG_ARGISNULL(0))
	{
		ivm_require_view(PG_GETARG_OID(0));
		relids = list_make1_oid(PG_GETARG_OID(0));
	}
	else
	{
		foreach(lc, ivm_metadata_list())
		{
			IvmViewRow *row = lfirst(lc);

			if (row->kind == 'v' && row->state != IVM_STATE_UNPOPULATED)
				relids = lappend_oid(relids, row->relid);
		}
	}
	foreach(lc, relids)
		ivm_require_no_own_work(lfirst_oid(lc));
	ms = Min(ms, (double) (PG_INT64_MAX / 2000));
	if (PG_ARGISNULL(0))
		ivm_sync_all(relids, (int64) ms);
	else
		ivm_sync_view(linitial_oid(relids), (int64) ms);
	PG_RETURN_VOID();
}

/*
 * Asks all processes to give back what they do not need, and returns how much
 * smaller that made them.  One that is at work may answer later than this waits.
 */
Datum
ivm_trim(PG_FUNCTION_ARGS)
{
	TimestampTz start = GetCurrentTimestamp();
	Size		before;
	uint64		number;

	ivm_require_preloaded();
	before = ivm_budget_given_back();
	number = ivm_budget_ask_all();
	while (!ivm_budget_all_answered(number) &&
		   !TimestampDifferenceExceeds(start, GetCurrentTimestamp(), TRIM_PATIENCE))
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, TRIM_LOOK, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	PG_RETURN_INT64(ivm_budget_given_back() - before);
}
