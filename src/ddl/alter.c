/*-------------------------------------------------------------------------
 *
 * alter.c
 *	  ALTER TABLE and ALTER MATERIALIZED VIEW: SET ACCESS METHOD, and changes
 *	  of tables that views read.
 *
 * SET ACCESS METHOD incremental turns a materialized view into an incremental
 * one.  The server rewrites it; the rows that it has stay readable, and the
 * builder compares them with the query.  Back to another access method, the
 * view keeps its rows and loses everything that belongs to its maintenance.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/defrem.h"
#include "commands/tablecmds.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "compile/compile.h"
#include "ddl/statement.h"
#include "metadata/metadata.h"
#include "process/request.h"

/* Gives a view that could not be built its old access method back. */
static void
undo_conversion(Oid relid)
{
	AlterTableCmd *cmd = makeNode(AlterTableCmd);

	if (!ivm_relation_is_incremental(relid))
		return;
	cmd->subtype = AT_SetAccessMethod;
	cmd->name = DEFAULT_TABLE_ACCESS_METHOD;
	AlterTableInternal(relid, list_make1(cmd), false);
	CommandCounterIncrement();
	ivm_drop_state(relid);
	ivm_drop_metadata(relid);
}

static void
convert(IvmStatement *statement, Oid relid)
{
	char	   *name = get_rel_name(relid);
	List	   *settings = ivm_settings_capture();
	bool		alone = ivm_statement_is_alone(statement);
	bool		populated;
	IvmViewRow	row = {.relid = relid,.kind = 'v'};
	HeapTuple	tuple;
	Oid			owner;
	IvmPlan    *plan;
	List	   *identities;

	if (!pg_class_ownercheck(relid, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_MATVIEW, name);
	/* the server takes a stronger one, but the query is read before */
	LockRelationOid(relid, ShareUpdateExclusiveLock);
	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation \"%s\" does not exist", name)));
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	populated = ((Form_pg_class) GETSTRUCT(tuple))->relispopulated;
	ReleaseSysCache(tuple);

	ivm_request_check_server();
	plan = ivm_build_compile(ivm_build_view_query(relid), relid, name, owner, settings);
	ivm_compile_report_fallbacks(plan, name);
	identities = ivm_base_table_identities(plan);
	if (!alone)
		ivm_base_table_set_identities(identities);

	ivm_statement_execute(statement);
	CommandCounterIncrement();
	if (!ivm_relation_is_incremental(relid))
		return;

	row.settings = settings;
	row.state = populated && !alone ? IVM_STATE_REBUILD : IVM_STATE_UNPOPULATED;
	ivm_metadata_put(&row);
	if (!alone)
	{
		ivm_build_after_commit(relid);
		return;
	}
	(void) ivm_build_finish(relid, identities,
							populated ? IVM_STATE_REBUILD : IVM_STATE_UNPOPULATED,
							false, undo_conversion, NULL);
}

/* Raises the error for a relation that cannot be an incremental view. */
static void
refuse_access_method(Oid relid)
{
	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 errmsg("cannot set access method \"incremental\" for \"%s\"", get_rel_name(relid)),
			 errdetail("Only materialized views can use this access method."),
			 errhint("Create an incremental view of a query with CREATE MATERIALIZED VIEW ... USING incremental.")));
}

void
ivm_alter_execute(IvmStatement *statement)
{
	AlterTableStmt *stmt = (AlterTableStmt *) statement->pstmt->utilityStmt;
	Oid			relid = RangeVarGetRelidExtended(stmt->relation, NoLock, RVR_MISSING_OK, NULL, NULL);
	Oid			am = ivm_metadata_am_oid();
	List	   *joined = NIL;
	ListCell   *lc;
	bool		was_incremental;

	if (!OidIsValid(relid) ||
		(stmt->objtype != OBJECT_TABLE && stmt->objtype != OBJECT_FOREIGN_TABLE &&
		 stmt->objtype != OBJECT_MATVIEW))
	{
		ivm_statement_execute(statement);
		return;
	}

	was_incremental = ivm_relation_is_incremental(relid);
	foreach(lc, stmt->cmds)
	{
		AlterTableCmd *cmd = lfirst_node(AlterTableCmd, lc);

		switch (cmd->subtype)
		{
			case AT_SetAccessMethod:
				if (get_table_am_oid(cmd->name, true) != am || was_incremental)
					break;
				switch (get_rel_relkind(relid))
				{
					case RELKIND_MATVIEW:
						convert(statement, relid);
						return;
					case RELKIND_RELATION:
						refuse_access_method(relid);
						break;
					default:
						break;	/* the server refuses it */
				}
				break;
			case AT_AttachPartition:
				joined = lappend(joined, ((PartitionCmd *) cmd->def)->name);
				break;
			case AT_AddInherit:
				joined = lappend(joined, stmt->relation);
				break;
			default:
				break;
		}
	}

	ivm_base_table_guard(relid, stmt);
	ivm_statement_execute(statement);
	CommandCounterIncrement();

	if (was_incremental && get_rel_name(relid) != NULL && !ivm_relation_is_incremental(relid))
	{
		ivm_drop_state(relid);
		ivm_drop_metadata(relid);
	}
	foreach(lc, joined)
	{
		relid = RangeVarGetRelid(lfirst_node(RangeVar, lc), NoLock, true);
		if (OidIsValid(relid))
			ivm_base_table_joined(relid);
	}
}
