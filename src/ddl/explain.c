/*-------------------------------------------------------------------------
 *
 * explain.c
 *	  ivm.explain and ivm.explain_query: the delta plan of a view, and the one that a view of a query would have.
 *
 * A query is analyzed as the one of a CREATE MATERIALIZED VIEW is, and compiled as CREATE INCREMENTAL VIEW does it, by the
 * caller, with his rights and settings: what would be refused there is refused here, with the same detail and
 * hint.  But for the locks of a reader, which last until the transaction ends, nothing is left.  Whether the
 * tables may be given a replica identity is not asked.
 *
 * Formats: text, in EXPLAIN's look, a line a row; json, one document in one row.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/heap.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/analyze.h"
#include "parser/parser.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/tuplestore.h"

#include "compile/compile.h"
#include "compile/compiled.h"
#include "ddl/statement.h"
#include "metadata/metadata.h"

PG_FUNCTION_INFO_V1(ivm_explain);
PG_FUNCTION_INFO_V1(ivm_explain_query);

/* Is the format of that name json? */
static bool
format_is_json(const char *format)
{
	if (pg_strcasecmp(format, "json") == 0)
		return true;
	if (pg_strcasecmp(format, "text") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unrecognized format \"%s\"", format),
				 errhint("Use \"text\" or \"json\".")));
	return false;
}

static void
put_plan(FunctionCallInfo fcinfo, IvmPlan *plan, bool as_json)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	List	   *lines = as_json ? list_make1(ivm_explain_json(plan)) : ivm_plan_explain(plan);
	ListCell   *lc;

	foreach(lc, lines)
	{
		Datum		value = CStringGetTextDatum((char *) lfirst(lc));
		bool		isnull = false;

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &value, &isnull);
	}
}

/*
 * The plan as it would be compiled now, which is the one in use unless something
 * has just changed.
 */
Datum
ivm_explain(PG_FUNCTION_ARGS)
{
	Oid			relid = PG_GETARG_OID(0);
	bool		as_json = PG_NARGS() > 1 && format_is_json(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	IvmViewRow *row;
	IvmPlan    *plan;
	List	   *owned_state = NIL;
	IvmIdentity saved;
	ListCell   *lc;

	ivm_require_view(relid);
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);

	row = ivm_metadata_get(relid);
	foreach(lc, row ? row->arrangements : NIL)
	{
		IvmViewRow *arrangement = ivm_metadata_get(lfirst_oid(lc));

		if (arrangement != NULL && arrangement->definition != NULL)
			owned_state = lappend(owned_state, arrangement->definition);
	}
	ivm_identity_enter(&saved, ivm_relation_owner(relid), row ? row->settings : ivm_settings_capture());
	plan = ivm_compile_view(relid, row ? row->settings : NIL, owned_state, row ? row->text : NULL, CurrentMemoryContext);
	put_plan(fcinfo, plan, as_json);
	ivm_identity_leave(&saved);
	return (Datum) 0;
}

/* A position in an error is one in the query, not in the statement that calls us. */
static void
transpose_position(void *query)
{
	int			position = geterrposition();

	if (position > 0)
	{
		errposition(0);
		internalerrposition(position);
		internalerrquery((const char *) query);
	}
}

/* The columns that the view would have, with the checks that making it would make. */
static void
check_columns(Query *query)
{
	TupleDesc	desc = ExecCleanTypeFromTL(query->targetList);

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		if (!OidIsValid(attribute->attcollation) && type_is_collatable(attribute->atttypid))
			ereport(ERROR,
					(errcode(ERRCODE_INDETERMINATE_COLLATION),
					 errmsg("no collation was derived for column \"%s\" with collatable type %s",
							NameStr(attribute->attname), format_type_be(attribute->atttypid)),
					 errhint("Use the COLLATE clause to set the collation explicitly.")));
	}
	CheckAttributeNamesTypes(desc, RELKIND_MATVIEW, 0);
}

/* The query as a materialized view's, analyzed. */
static Query *
analyze_query(const char *source)
{
	List	   *statements = raw_parser(source, RAW_PARSE_DEFAULT);
	CreateTableAsStmt *create = makeNode(CreateTableAsStmt);
	RawStmt    *raw;
	Query	   *query;

	if (list_length(statements) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 statements == NIL ? errmsg("there is no query to explain") :
				 errmsg("cannot explain more than one statement")));
	raw = linitial_node(RawStmt, statements);
	if (!IsA(raw->stmt, SelectStmt))
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("cannot explain a statement that is not a query"),
				 errhint("Give the query of the view alone: a SELECT, VALUES or TABLE, with or without WITH.")));

	create->query = raw->stmt;
	create->into = makeNode(IntoClause);
	create->into->rel = makeRangeVar(NULL, "query", -1);
	create->objtype = OBJECT_MATVIEW;
	raw->stmt = (Node *) create;
	query = parse_analyze_fixedparams(raw, source, NULL, 0, NULL);
	return castNode(Query, castNode(CreateTableAsStmt, query->utilityStmt)->query);
}

Datum
ivm_explain_query(PG_FUNCTION_ARGS)
{
	char	   *source = text_to_cstring(PG_GETARG_TEXT_PP(0));
	bool		as_json = format_is_json(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	List	   *settings = ivm_settings_capture();
	ErrorContextCallback callback;
	IvmIdentity saved;
	Query	   *query;
	IvmPlan    *plan;

	ivm_require_preloaded();
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);

	callback.callback = transpose_position;
	callback.arg = source;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	query = analyze_query(source);
	ivm_identity_enter(&saved, GetUserId(), settings);
	plan = ivm_compile(query, InvalidOid, NULL, settings, NIL, NULL, CurrentMemoryContext);
	check_columns(query);
	put_plan(fcinfo, plan, as_json);
	ivm_identity_leave(&saved);
	error_context_stack = callback.previous;
	return (Datum) 0;
}
