/*-------------------------------------------------------------------------
 *
 * utility.c
 *	  The utility hook: which statements are ours.
 *
 * An incremental view is a materialized view, so nearly every statement about
 * one is the server's own.  What remains: creating, refreshing and changing
 * the access method of one; changes of the tables that views read; and
 * statements on databases, which our processes would get in the way of.
 * Dropping is seen by the object access hook (drop.c), since there are many ways to it.
 *
 * A statement that the client sends alone goes through several transactions,
 * as CREATE INDEX CONCURRENTLY does, because it waits for processes that wait
 * for transactions.  Anything else (a block, a function, a transaction that
 * has written) must not wait: its work is done by the server and repeated by
 * the builder after the commit.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "miscadmin.h"
#include "tcop/pquery.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"

#include "capture/capture.h"
#include "ddl/ddl.h"
#include "ddl/statement.h"
#include "metadata/metadata.h"

bool		ivm_ddl_is_active = false;

static ProcessUtility_hook_type previous_hook = NULL;

void
ivm_statement_execute(IvmStatement *statement)
{
	if (previous_hook)
		previous_hook(statement->pstmt, statement->query_string, statement->read_only_tree,
					  statement->context, statement->params, statement->query_env,
					  statement->dest, statement->qc);
	else
		standard_ProcessUtility(statement->pstmt, statement->query_string, statement->read_only_tree,
								statement->context, statement->params, statement->query_env,
								statement->dest, statement->qc);
}

void
ivm_statement_execute_instead(IvmStatement *statement, Node *replacement)
{
	IvmStatement copy = *statement;

	copy.pstmt = copyObject(statement->pstmt);
	copy.pstmt->utilityStmt = replacement;
	copy.read_only_tree = false;
	ivm_statement_execute(&copy);
}

bool
ivm_statement_is_alone(IvmStatement *statement)
{
	return statement->context == PROCESS_UTILITY_TOPLEVEL &&
		!IsInTransactionBlock(true) &&
		!TransactionIdIsValid(GetTopTransactionIdIfAny()) &&
		ActivePortal != NULL;
}

void
ivm_statement_next_transaction(void)
{
	ForgetPortalSnapshots();
	CommitTransactionCommand();
	StartTransactionCommand();

	/*
	 * a pipelined message that follows must not become part of what is not a
	 * block
	 */
	MyXactFlags |= XACT_FLAGS_NEEDIMMEDIATECOMMIT;
	MemoryContextSwitchTo(PortalContext);
}

void
ivm_statement_last_transaction(void)
{
	EnsurePortalSnapshotExists();
}

/* A new partition or child, if it came into being, joins the tree of its parents. */
static void
create_table(IvmStatement *statement, CreateStmt *stmt)
{
	List	   *parents = stmt->inhRelations;

	ivm_statement_execute(statement);
	if (parents != NIL && ivm_metadata_is_installed())
	{
		Oid			relid;

		CommandCounterIncrement();
		relid = RangeVarGetRelid(stmt->relation, NoLock, true);
		if (OidIsValid(relid))
			ivm_base_table_joined(relid);
	}
}

static void
process_utility(PlannedStmt *pstmt, const char *query_string, bool read_only_tree,
				ProcessUtilityContext context, ParamListInfo params,
				QueryEnvironment *query_env, DestReceiver *dest, QueryCompletion *qc)
{
	IvmStatement statement = {
		.pstmt = pstmt,
		.query_string = query_string,
		.read_only_tree = read_only_tree,
		.context = context,
		.params = params,
		.query_env = query_env,
		.dest = dest,
		.qc = qc
	};
	Node	   *node = pstmt->utilityStmt;

	/* pg_upgrade restores metadata and views byte by byte. */
	if (IsBinaryUpgrade)
	{
		ivm_own_schema_restore(&statement);
		return;
	}

	switch (nodeTag(node))
	{
		case T_CopyStmt:
			if (((CopyStmt *) node)->is_from)
				ivm_wake_writes();
			break;
		case T_CreateTableAsStmt:
			if (((CreateTableAsStmt *) node)->objtype == OBJECT_MATVIEW &&
				ivm_metadata_is_installed())
			{
				ivm_create_execute(&statement);
				return;
			}
			break;
		case T_RefreshMatViewStmt:
			if (ivm_own_schema_refresh((RefreshMatViewStmt *) node))
				return;
			if (ivm_metadata_is_installed())
			{
				ivm_refresh_execute(&statement);
				return;
			}
			break;
		case T_AlterTableStmt:
			if (ivm_metadata_is_installed())
			{
				ivm_own_schema_guard_alter((AlterTableStmt *) node);
				ivm_alter_execute(&statement);
				return;
			}
			break;
		case T_DropStmt:
			ivm_own_schema_guard_drop((DropStmt *) node);
			break;
		case T_AlterObjectSchemaStmt:
			ivm_own_schema_guard_move((AlterObjectSchemaStmt *) node);
			break;
		case T_CreateStmt:
			create_table(&statement, (CreateStmt *) node);
			return;
		case T_CreateForeignTableStmt:
			create_table(&statement, &((CreateForeignTableStmt *) node)->base);
			return;
		case T_CreatedbStmt:
		case T_DropdbStmt:
		case T_AlterDatabaseStmt:
			ivm_database_execute(&statement);
			return;
		case T_RenameStmt:
			if (((RenameStmt *) node)->renameType == OBJECT_DATABASE)
			{
				ivm_database_execute(&statement);
				return;
			}
			ivm_own_schema_guard_rename((RenameStmt *) node);
			break;
		default:
			break;
	}
	ivm_statement_execute(&statement);
}

void
ivm_ddl_init(void)
{
	previous_hook = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
	ivm_build_init();
	ivm_drop_init();
	ivm_ddl_is_active = true;
}
