/*-------------------------------------------------------------------------
 *
 * statement.h
 *	  What the files of this directory share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_STATEMENT_H
#define IVM_STATEMENT_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/parsenodes.h"
#include "nodes/plannodes.h"
#include "metadata/metadata.h"
#include "plan/plan.h"
#include "tcop/utility.h"

/* A utility statement on its way through the hook. */
typedef struct IvmStatement
{
	PlannedStmt *pstmt;
	const char *query_string;
	bool		read_only_tree;
	ProcessUtilityContext context;
	ParamListInfo params;
	QueryEnvironment *query_env;
	DestReceiver *dest;
	QueryCompletion *qc;
} IvmStatement;

/* ---- utility.c ---- */

/* True once the hooks are installed, that is, if the library was loaded at server start. */
extern bool ivm_ddl_is_active;

/* Has the statement executed as it would be without us, or another one in its place. */
extern void ivm_statement_execute(IvmStatement *statement);
extern void ivm_statement_execute_instead(IvmStatement *statement, Node *replacement);

/*
 * True if the statement may commit and go on in another transaction: sent by
 * the client alone, in no block, and nothing has been written yet.
 */
extern bool ivm_statement_is_alone(IvmStatement *statement);

/*
 * Commits and starts a new transaction without a snapshot.  Only where
 * ivm_statement_is_alone.  The current context becomes the portal's, which
 * outlives transactions.
 */
extern void ivm_statement_next_transaction(void);

/* Gives the statement's portal a snapshot again, as it had when the statement began. */
extern void ivm_statement_last_transaction(void);

/* ---- create.c ---- */

extern void ivm_create_execute(IvmStatement *statement);

/* True if that relation is being created as an incremental view by ivm_create_execute. */
extern bool ivm_create_is_expected(void);

/* ---- build.c ---- */

/* Undoes what a statement has made, in a transaction with an active snapshot. */
typedef void (*IvmUndo) (Oid relid);

/*
 * Compiles the query as the owner, for the checks that compilation makes.
 * The query is left as it is; the plan is in the current context.
 */
extern IvmPlan *ivm_build_compile(Query *query, Oid relid, const char *view_name,
								  Oid owner, List *settings);

/* A materialized view's own query, a copy. */
extern Query *ivm_build_view_query(Oid relid);

/* What a view's query compiles to now, as its owner and with its settings; in the current context.  Locks what it reads. */
extern IvmPlan *ivm_build_current_plan(Oid relid, IvmViewRow *row);

/* Drops a view with all that depends on it. */
extern void ivm_drop_view(Oid relid);

/*
 * Ends a statement that is alone: commits what it has done, gives the tables
 * their replica identity, puts the view into "state" and has it built.  What
 * fails is undone (if "undo") before the error is raised.  With
 * IVM_STATE_UNPOPULATED nothing is built.  Returns the number of rows.  With "error", one that
 * is of the view is returned there instead.
 */
extern uint64 ivm_build_finish(Oid relid, List *identities, char state,
							   bool drop_if_orphaned, IvmUndo undo, ErrorData **error);

/* Does the error say that the view cannot be maintained, rather than that the statement could not go on? */
extern bool ivm_build_error_is_of_view(const ErrorData *error);

/*
 * The same for a statement that is not alone: the view, whose metadata row says
 * what is to be done, is built right after the commit.
 */
extern void ivm_build_after_commit(Oid relid);

extern void ivm_build_init(void);

/* ---- alter.c, refresh.c ---- */

extern void ivm_refresh_execute(IvmStatement *statement);
extern void ivm_alter_execute(IvmStatement *statement);

/* ---- base_table.c ---- */

/*
 * The tables of the plan that have yet to get REPLICA IDENTITY FULL, by oid.
 * Errors if one of them does not belong to the current user.
 */
extern List *ivm_base_table_identities(IvmPlan *plan);

/*
 * Gives it to them, with a NOTICE each.  Locks them exclusively, until the end of the transaction:
 * for that it waits in short tries, with pauses, so that nobody queues behind it for long.
 */
extern void ivm_base_table_set_identities(List *relids);

/*
 * The same in steps, for a statement that is alone: one try, and what the next one has to know.  True when
 * it is done; otherwise nothing is held when the transaction has ended, and the pause comes in the next
 * one.
 */
typedef struct IvmLockTries
{
	TimestampTz started;		/* 0: not yet */
	bool		reported;		/* the client knows what is waited for */
} IvmLockTries;

extern bool ivm_base_table_try_identities(List *relids, IvmLockTries *tries);
extern void ivm_base_table_pause(List *relids, IvmLockTries *tries);

/* An incremental view that reads the relation, by itself or as part of a tree; InvalidOid if none. */
extern Oid	ivm_base_table_view(Oid relid);

/* Refuses what would take the old rows of a table that a view reads out of the WAL. */
extern void ivm_base_table_guard(Oid relid, AlterTableStmt *stmt);

/* A relation has become part of a tree: its tables get what those of the tree have. */
extern void ivm_base_table_joined(Oid relid);

/* ---- drop.c ---- */

extern void ivm_drop_init(void);

/* Removes what belongs to a view that ceases to be incremental, state tables and indexes. */
extern void ivm_drop_state(Oid relid);

/* Removes what is known of a view; what nobody uses any more goes at the end of the transaction. */
extern void ivm_drop_metadata(Oid relid);

/* ---- own_schema.c ---- */

/* Errors if the relation that has just been made is in a schema of the extension, and not the extension's. */
extern void ivm_own_schema_created(Oid namespace, char relkind, const char *name);

/* Error if the statement moves something into or out of these schemas, or renames, converts or drops what is there. */
extern void ivm_own_schema_guard_move(AlterObjectSchemaStmt *stmt);
extern void ivm_own_schema_guard_rename(RenameStmt *stmt);
extern void ivm_own_schema_guard_alter(AlterTableStmt *stmt);
extern void ivm_own_schema_guard_drop(DropStmt *stmt);

/* True, with a NOTICE, if the relation is one of the extension's own, which need no refresh. */
extern bool ivm_own_schema_refresh(RefreshMatViewStmt *stmt);

/* Executes a statement of pg_upgrade's restore. */
extern void ivm_own_schema_restore(IvmStatement *statement);

/* ---- explain_json.c ---- */

/* The delta plan as a JSON document, in the current context; in a transaction. */
extern char *ivm_explain_json(IvmPlan *plan);

/* ---- functions.c ---- */

/* Errors unless the library was loaded at server start. */
extern void ivm_require_preloaded(void);

/* Errors unless the relation is an incremental view that the user may read. */
extern void ivm_require_view(Oid relid);

/* Errors if the view is built after the commit of this very transaction. */
extern void ivm_require_no_own_work(Oid relid);

/*
 * A relation that this transaction has a lock on which keeps the view's process from its work, or InvalidOid.  Whoever
 * waits for that process then waits for himself, and the deadlock detector does not see it.
 */
extern Oid	ivm_own_lock_in_the_way(Oid relid, IvmViewRow *row, IvmPlan *plan);

/* ---- database.c ---- */

/* Executes a statement on databases that needs our processes out of the way. */
extern void ivm_database_execute(IvmStatement *statement);

#endif							/* IVM_STATEMENT_H */
