/*-------------------------------------------------------------------------
 *
 * create.c
 *	  CREATE MATERIALIZED VIEW ... USING incremental.
 *
 * The view itself is made by the server, through the path of every
 * materialized view.  What is added: the server's readiness and the query are
 * checked before anything is made; the tables get the replica identity that
 * decoding needs; a row of ivm.view says what is to be done.
 *
 * Alone, the statement makes the view without data, commits, and waits for the
 * builder, which removes the view if nobody waits for it any more.  Otherwise
 * the server fills the view for the transaction's own eyes, and the builder
 * builds it anew after the commit (see build.c).
 *
 * With ivm.materialized_views, a statement that names no access method makes an incremental view if it
 * can.  Whether it can is found out in a subtransaction, whose error then is the reason for
 * an ordinary one; so is the want of a process or of memory that comes later.
 * What a dump creates is what it was, whatever the setting.
 *
 * Dump and restore create the view WITH NO DATA and refresh it at the end.
 * The planner is not run on its query then, because what the query needs may not be
 * complete yet (the server avoids it as well); a restore is told by
 * check_function_bodies, which is off for the same reason.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/createas.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "rewrite/rewriteHandler.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"

#include "base/attempt.h"
#include "base/settings.h"
#include "compile/compile.h"
#include "ddl/statement.h"
#include "metadata/metadata.h"
#include "process/request.h"

static bool expected = false;

bool
ivm_create_is_expected(void)
{
	return expected;
}

/* What is known of a view before it is made. */
typedef struct Preparation
{
	CreateTableAsStmt *stmt;
	List	   *settings;
	List	   *identities;		/* tables that lack the replica identity */
} Preparation;

/* Lets the server make the view.  Returns its oid. */
static Oid
create_relation(IvmStatement *statement, bool without_data)
{
	CreateTableAsStmt *stmt = copyObject((CreateTableAsStmt *) statement->pstmt->utilityStmt);
	RangeVar   *name = copyObject(stmt->into->rel);
	Oid			namespace_oid = RangeVarGetCreationNamespace(name);
	bool		was_expected = expected;
	Oid			relid;

	if (without_data)
		stmt->into->skipData = true;
	stmt->into->accessMethod = get_am_name(ivm_metadata_am_oid());
	PG_TRY();
	{
		expected = true;
		ivm_statement_execute_instead(statement, (Node *) stmt);
	}
	PG_FINALLY();
	{
		expected = was_expected;
	}
	PG_END_TRY();
	CommandCounterIncrement();
	relid = get_relname_relid(name->relname, namespace_oid);
	if (!OidIsValid(relid))
		elog(ERROR, "materialized view \"%s\" has not been created", name->relname);
	return relid;
}

static void
put_row(Oid relid, List *settings, IvmViewState state)
{
	IvmViewRow	row = {
		.relid = relid,
		.kind = 'v',
		.state = state,
		.settings = settings
	};

	ivm_metadata_put(&row);
}

/* The checks that come before anything is made; errors if the view cannot be. */
static bool
prepare(void *argument)
{
	Preparation *preparation = argument;
	CreateTableAsStmt *stmt = preparation->stmt;
	const char *name = stmt->into->rel->relname;
	bool		without_data = stmt->into->skipData;

	if (!without_data)
		ivm_request_check_server();
	preparation->settings = ivm_settings_capture();
	preparation->identities = NIL;
	if (!without_data || check_function_bodies)
	{
		IvmPlan    *plan = ivm_build_compile((Query *) stmt->query, InvalidOid, name, GetUserId(),
											 preparation->settings);

		ivm_compile_report_fallbacks(plan, name);
		preparation->identities = ivm_base_table_identities(plan);
	}
	return true;
}


/* Has the server make an ordinary materialized view, and says why. */
static void
create_plain(IvmStatement *statement, const char *name, ErrorData *error)
{
	CreateTableAsStmt *stmt = copyObject((CreateTableAsStmt *) statement->pstmt->utilityStmt);

	ereport(NOTICE,
			(errmsg("materialized view \"%s\" will not be maintained incrementally", name),
			 error->detail != NULL ?
			 errdetail("%s: %s", error->message, error->detail) : errdetail("%s", error->message),
			 error->hint != NULL ? errhint("%s", error->hint) : 0));
	/* transactions may have ended since the query was analyzed, and its locks with them */
	AcquireRewriteLocks(castNode(Query, stmt->query), true, false);
	ivm_statement_execute_instead(statement, (Node *) stmt);
}

void
ivm_create_execute(IvmStatement *statement)
{
	CreateTableAsStmt *stmt = (CreateTableAsStmt *) statement->pstmt->utilityStmt;
	IntoClause *into = stmt->into;
	const char *name = into->rel->relname;
	const char *method = into->accessMethod ? into->accessMethod : default_table_access_method;
	bool		is_wanted = get_table_am_oid(method, true) == ivm_metadata_am_oid();
	bool		if_it_can = !is_wanted && into->accessMethod == NULL &&
		ivm_materialized_views && check_function_bodies;
	bool		alone;
	bool		without_data = into->skipData;
	Preparation preparation = {.stmt = stmt};
	ErrorData  *error = NULL;
	Oid			relid;
	uint64		rows;

	if ((!is_wanted && !if_it_can) ||
		OidIsValid(get_relname_relid(name, RangeVarGetCreationNamespace(into->rel))))
	{
		/* not ours, or the server has to say that the name is taken */
		ivm_statement_execute(statement);
		return;
	}

	alone = ivm_statement_is_alone(statement);
	if (if_it_can)
		error = ivm_attempt(prepare, &preparation);
	else
		(void) prepare(&preparation);
	if (error != NULL)
	{
		if (!ivm_build_error_is_of_view(error))
			ThrowErrorData(error);
		create_plain(statement, name, error);
		return;
	}

	if (!alone)
		ivm_base_table_set_identities(preparation.identities);
	if (without_data)
	{
		relid = create_relation(statement, true);
		put_row(relid, preparation.settings, IVM_STATE_UNPOPULATED);
		ivm_request_refresh_at_commit();
		if (alone && preparation.identities != NIL)
			(void) ivm_build_finish(relid, preparation.identities, IVM_STATE_UNPOPULATED, true, ivm_drop_view, NULL);
	}
	else if (!alone)
	{
		relid = create_relation(statement, false);
		put_row(relid, preparation.settings, IVM_STATE_REBUILD);
		ivm_build_after_commit(relid);
	}
	else
	{
		relid = create_relation(statement, true);
		put_row(relid, preparation.settings, IVM_STATE_UNPOPULATED);
		rows = ivm_build_finish(relid, preparation.identities, IVM_STATE_BUILDING, true, ivm_drop_view,
								if_it_can ? &error : NULL);
		if (error != NULL)
			create_plain(statement, name, error);
		else if (statement->qc)
			SetQueryCompletion(statement->qc, CMDTAG_SELECT, rows);
	}
}
