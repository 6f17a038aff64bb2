/*-------------------------------------------------------------------------
 *
 * database.c
 *	  Statements on databases that our processes would get in the way of.
 *
 * DROP DATABASE, ALTER DATABASE ... RENAME and SET TABLESPACE, and CREATE
 * DATABASE ... TEMPLATE want nobody to be connected to the database, and the
 * first an inactive slot besides.  Our processes of that database are stopped
 * before and go on when the transaction ends, if the database is still there.
 * The slot stays: DROP DATABASE drops it, and after a failure nothing is lost.
 * SET TABLESPACE alone makes it useless, and the views are rebuilt.
 *
 * A copy of a database has the template's views, but no slot.  The launcher
 * looks into it after the commit.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/syscache.h"

#include "capture/capture.h"
#include "ddl/statement.h"
#include "stats/stats.h"
#include "process/request.h"

/* True if the user may do with the database what stopping is for: the server checks it again. */
static bool
is_permitted(Oid dboid)
{
	HeapTuple	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(dboid));
	bool		is_template;

	if (!HeapTupleIsValid(tuple))
		return false;
	is_template = ((Form_pg_database) GETSTRUCT(tuple))->datistemplate;
	ReleaseSysCache(tuple);

	if (pg_database_ownercheck(dboid, GetUserId()))
		return true;
	if (!is_template)
		return false;

	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	if (HeapTupleIsValid(tuple))
	{
		is_template = ((Form_pg_authid) GETSTRUCT(tuple))->rolcreatedb;
		ReleaseSysCache(tuple);
	}
	return is_template;
}

/* The value of an option of a statement on databases, or the default. */
static const char *
option_value(List *options, const char *name, const char *default_value)
{
	ListCell   *lc;

	foreach(lc, options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, name) == 0 && option->arg != NULL)
			return defGetString(option);
	}
	return default_value;
}

void
ivm_database_execute(IvmStatement *statement)
{
	Node	   *node = statement->pstmt->utilityStmt;
	const char *name = NULL;
	bool		look_into_copy = false;
	Oid			dboid = InvalidOid;

	switch (nodeTag(node))
	{
		case T_CreatedbStmt:
			name = option_value(((CreatedbStmt *) node)->options, "template", "template1");
			break;
		case T_DropdbStmt:
			name = ((DropdbStmt *) node)->dbname;
			break;
		case T_AlterDatabaseStmt:
			if (option_value(((AlterDatabaseStmt *) node)->options, "tablespace", NULL))
				name = ((AlterDatabaseStmt *) node)->dbname;
			break;
		case T_RenameStmt:
			name = ((RenameStmt *) node)->subname;
			break;
		default:
			break;
	}

	/* where the server will refuse the statement nothing is stopped for it */
	if (name != NULL &&
		(IsA(node, RenameStmt) ||
		 !IsInTransactionBlock(statement->context == PROCESS_UTILITY_TOPLEVEL)))
		dboid = get_database_oid(name, true);
	if (OidIsValid(dboid) && dboid != Template0DbOid && is_permitted(dboid))
	{
		look_into_copy = true;
		if (dboid != MyDatabaseId || IsA(node, CreatedbStmt))
			ivm_request_stop_database(dboid);
	}

	ivm_statement_execute(statement);

	if (IsA(node, AlterDatabaseStmt) && OidIsValid(dboid))
	{
		/*
		 * The WAL so far names files where they were, and decoding cannot
		 * find out any more which relations these are.  The processes are
		 * there again, since the statement consists of several transactions.
		 */
		ivm_request_stop_database(dboid);
		ivm_replication_slot_drop(dboid);
	}
	if (IsA(node, CreatedbStmt) && look_into_copy)
	{
		CommandCounterIncrement();
		ivm_request_inspect_at_commit(get_database_oid(((CreatedbStmt *) node)->dbname, false));
	}
	if (IsA(node, DropdbStmt) && OidIsValid(dboid) &&
		!OidIsValid(get_database_oid(name, true)))
		ivm_stats_database_drop(dboid);
}
