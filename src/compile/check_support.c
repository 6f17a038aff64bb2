/*-------------------------------------------------------------------------
 *
 * check_support.c
 *	  What cannot be maintained at all, by name.
 *
 * Whatever is deterministic is accepted.  Refused is:
 *
 *	- what is not in the log, or not as rows: temporary, unlogged, foreign and
 *	  system relations, sequences, the extension's own tables (its processes'
 *	  writes are not decoded), system columns other than tableoid;
 *	- what is no question about the database: parameters, FOR UPDATE,
 *	  TABLESAMPLE, data-modifying WITH;
 *	- what has another answer each time: volatile functions, and stable ones
 *	  that depend on the clock, on the session or on tables.
 *
 * Stable functions that depend on settings alone are accepted, since the
 * settings are stored with the view.  The server does not tell which ones these
 * are, so the list is here.  It contains the input and output functions of types:
 * that of a date knows the word 'now', but a column that contains it is beyond
 * help.  Functions of the user that are declared stable are refused: what they
 * depend on cannot be known.
 *
 * Functions are looked for in the finished plan, when the planner has inlined
 * and folded what it can; relations in the query, before the planner drops
 * those that contribute nothing, and in the plan, which knows the partitions.
 *
 * The analysis returns what it finds; one function raises it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/transam.h"
#include "catalog/catalog.h"
#include "catalog/heap.h"
#include "catalog/namespace.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "compile/compiler.h"
#include "metadata/metadata.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "plan/plan_walk.h"
#include "rewrite/rewriteManip.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

typedef struct CheckContext
{
	PlannedStmt *statement;
	IvmUnsupported *found;
} CheckContext;

/* Stable functions whose result depends on their arguments and on settings that are stored with a view. */
static const Oid settings_functions[] = {
	F_ANYTEXTCAT,
	F_ARRAY_IN,
	F_ARRAY_OUT,
	F_ARRAY_TO_JSON_ANYARRAY,
	F_ARRAY_TO_JSON_ANYARRAY_BOOL,
	F_ARRAY_TO_STRING_ANYARRAY_TEXT,
	F_ARRAY_TO_STRING_ANYARRAY_TEXT_TEXT,
	F_CASH_IN,
	F_CASH_OUT,
	F_CONCAT,
	F_CONCAT_WS,
	F_CONVERT,
	F_CONVERT_FROM,
	F_CONVERT_TO,
	F_DATE_CMP_TIMESTAMPTZ,
	F_DATE_EQ_TIMESTAMPTZ,
	F_DATE_GE_TIMESTAMPTZ,
	F_DATE_GT_TIMESTAMPTZ,
	F_DATE_IN,
	F_DATE_LE_TIMESTAMPTZ,
	F_DATE_LT_TIMESTAMPTZ,
	F_DATE_NE_TIMESTAMPTZ,
	F_DATE_OUT,
	F_DATE_PART_TEXT_TIMESTAMPTZ,
	F_DATE_TIMESTAMPTZ,
	F_DATE_TRUNC_TEXT_TIMESTAMPTZ,
	F_DATE_TRUNC_TEXT_TIMESTAMPTZ_TEXT,
	F_DOMAIN_IN,
	F_ENUM_IN,
	F_ENUM_OUT,
	F_EXTRACT_TEXT_TIMESTAMPTZ,
	F_FORMAT_TEXT,
	F_FORMAT_TEXT_ANY,
	F_GENERATE_SERIES_TIMESTAMPTZ_TIMESTAMPTZ_INTERVAL,
	F_GET_CURRENT_TS_CONFIG,
	F_INTERVAL_IN,
	F_INTERVAL_OUT,
	F_INTERVAL_PL_TIMESTAMPTZ,
	F_IN_RANGE_TIMESTAMPTZ_TIMESTAMPTZ_INTERVAL_BOOL_BOOL,
	F_JSONB_AGG,
	F_JSONB_AGG_FINALFN,
	F_JSONB_AGG_TRANSFN,
	F_JSONB_BUILD_ARRAY_,
	F_JSONB_BUILD_ARRAY_ANY,
	F_JSONB_BUILD_OBJECT_,
	F_JSONB_BUILD_OBJECT_ANY,
	F_JSONB_OBJECT_AGG_FINALFN,
	F_JSONB_OBJECT_AGG_TRANSFN,
	F_JSONB_PATH_EXISTS_TZ,
	F_JSONB_PATH_MATCH_TZ,
	F_JSONB_PATH_QUERY_ARRAY_TZ,
	F_JSONB_PATH_QUERY_FIRST_TZ,
	F_JSONB_PATH_QUERY_TZ,
	F_JSONB_POPULATE_RECORD,
	F_JSONB_POPULATE_RECORDSET,
	F_JSONB_TO_RECORD,
	F_JSONB_TO_RECORDSET,
	F_JSONB_TO_TSVECTOR_JSONB_JSONB,
	F_JSON_AGG,
	F_JSON_AGG_TRANSFN,
	F_JSON_BUILD_ARRAY_,
	F_JSON_BUILD_ARRAY_ANY,
	F_JSON_BUILD_OBJECT_,
	F_JSON_BUILD_OBJECT_ANY,
	F_JSON_OBJECT_AGG,
	F_JSON_OBJECT_AGG_TRANSFN,
	F_JSON_POPULATE_RECORD,
	F_JSON_POPULATE_RECORDSET,
	F_JSON_TO_RECORD,
	F_JSON_TO_RECORDSET,
	F_JSON_TO_TSVECTOR_JSON_JSONB,
	F_LENGTH_BYTEA_NAME,
	F_MAKE_TIMESTAMPTZ_INT4_INT4_INT4_INT4_INT4_FLOAT8,
	F_MAKE_TIMESTAMPTZ_INT4_INT4_INT4_INT4_INT4_FLOAT8_TEXT,
	F_MONEY_INT4,
	F_MONEY_INT8,
	F_MONEY_NUMERIC,
	F_MULTIRANGE_IN,
	F_MULTIRANGE_OUT,
	F_NUMERIC_MONEY,
	F_OVERLAPS_TIMESTAMPTZ_INTERVAL_TIMESTAMPTZ_INTERVAL,
	F_OVERLAPS_TIMESTAMPTZ_INTERVAL_TIMESTAMPTZ_TIMESTAMPTZ,
	F_OVERLAPS_TIMESTAMPTZ_TIMESTAMPTZ_TIMESTAMPTZ_INTERVAL,
	F_PHRASETO_TSQUERY_TEXT,
	F_PLAINTO_TSQUERY_TEXT,
	F_QUOTE_LITERAL_ANYELEMENT,
	F_QUOTE_NULLABLE_ANYELEMENT,
	F_RANGE_IN,
	F_RANGE_OUT,
	F_RECORD_IN,
	F_RECORD_OUT,
	F_ROW_TO_JSON_RECORD,
	F_ROW_TO_JSON_RECORD_BOOL,
	F_TEXTANYCAT,
	F_TIMESTAMPTZ_CMP_DATE,
	F_TIMESTAMPTZ_CMP_TIMESTAMP,
	F_TIMESTAMPTZ_DATE,
	F_TIMESTAMPTZ_DATE_TIME,
	F_TIMESTAMPTZ_EQ_DATE,
	F_TIMESTAMPTZ_EQ_TIMESTAMP,
	F_TIMESTAMPTZ_GE_DATE,
	F_TIMESTAMPTZ_GE_TIMESTAMP,
	F_TIMESTAMPTZ_GT_DATE,
	F_TIMESTAMPTZ_GT_TIMESTAMP,
	F_TIMESTAMPTZ_IN,
	F_TIMESTAMPTZ_LE_DATE,
	F_TIMESTAMPTZ_LE_TIMESTAMP,
	F_TIMESTAMPTZ_LT_DATE,
	F_TIMESTAMPTZ_LT_TIMESTAMP,
	F_TIMESTAMPTZ_MI_INTERVAL,
	F_TIMESTAMPTZ_NE_DATE,
	F_TIMESTAMPTZ_NE_TIMESTAMP,
	F_TIMESTAMPTZ_OUT,
	F_TIMESTAMPTZ_PL_INTERVAL,
	F_TIMESTAMPTZ_TIMESTAMP,
	F_TIMESTAMP_CMP_TIMESTAMPTZ,
	F_TIMESTAMP_EQ_TIMESTAMPTZ,
	F_TIMESTAMP_GE_TIMESTAMPTZ,
	F_TIMESTAMP_GT_TIMESTAMPTZ,
	F_TIMESTAMP_IN,
	F_TIMESTAMP_LE_TIMESTAMPTZ,
	F_TIMESTAMP_LT_TIMESTAMPTZ,
	F_TIMESTAMP_NE_TIMESTAMPTZ,
	F_TIMESTAMP_OUT,
	F_TIMESTAMP_TIMESTAMPTZ,
	F_TIMETZ_TIMESTAMPTZ,
	F_TIME_IN,
	F_TIME_TIMESTAMPTZ,
	F_TO_CHAR_FLOAT4_TEXT,
	F_TO_CHAR_FLOAT8_TEXT,
	F_TO_CHAR_INT4_TEXT,
	F_TO_CHAR_INT8_TEXT,
	F_TO_CHAR_INTERVAL_TEXT,
	F_TO_CHAR_NUMERIC_TEXT,
	F_TO_CHAR_TIMESTAMPTZ_TEXT,
	F_TO_CHAR_TIMESTAMP_TEXT,
	F_TO_DATE,
	F_TO_JSON,
	F_TO_JSONB,
	F_TO_NUMBER,
	F_TO_TIMESTAMP_TEXT_TEXT,
	F_TO_TSQUERY_TEXT,
	F_TO_TSVECTOR_JSON,
	F_TO_TSVECTOR_JSONB,
	F_TO_TSVECTOR_TEXT,
	F_TS_HEADLINE_JSONB_TSQUERY,
	F_TS_HEADLINE_JSONB_TSQUERY_TEXT,
	F_TS_HEADLINE_JSON_TSQUERY,
	F_TS_HEADLINE_JSON_TSQUERY_TEXT,
	F_TS_HEADLINE_TEXT_TSQUERY,
	F_TS_HEADLINE_TEXT_TSQUERY_TEXT,
	F_TS_MATCH_TQ,
	F_TS_MATCH_TT,
	F_WEBSEARCH_TO_TSQUERY_TEXT,
	F_XML,
	F_XML_IN,
	F_XML_IS_WELL_FORMED
};

/* Stable or volatile ones that are about the time of the call. */
static const Oid clock_functions[] = {
	F_NOW,
	F_TRANSACTION_TIMESTAMP,
	F_STATEMENT_TIMESTAMP,
	F_CLOCK_TIMESTAMP,
	F_TIMEOFDAY,
	F_AGE_TIMESTAMP,
	F_AGE_TIMESTAMPTZ,
	F_TIMETZ_IN,
	F_TIMETZ_TIME,
	F_TIMEZONE_TEXT_TIMETZ
};

static bool
is_listed(Oid function, const Oid *list, int length)
{
	for (int i = 0; i < length; i++)
	{
		if (list[i] == function)
			return true;
	}
	return false;
}

static IvmUnsupported *
unsupported(int sqlerrcode, char *detail, const char *hint)
{
	IvmUnsupported *result = (IvmUnsupported *) palloc(sizeof(IvmUnsupported));

	result->sqlerrcode = sqlerrcode;
	result->detail = detail;
	result->hint = hint == NULL ? NULL : pstrdup(hint);
	return result;
}

void
ivm_unsupported_raise(IvmUnsupported *unsupported, const char *view_name, bool exists)
{
	ereport(ERROR,
			(errcode(unsupported->sqlerrcode),
			 view_name == NULL ?
			 errmsg("cannot create an incremental view of this query") :
			 exists ?
			 errmsg("cannot maintain incremental view \"%s\"", view_name) :
			 errmsg("cannot create incremental view \"%s\"", view_name),
			 errdetail_internal("%s", unsupported->detail),
			 unsupported->hint != NULL ? errhint("%s", unsupported->hint) : 0));
}

/* ---- functions ---- */

static const char *
function_name(Oid function)
{
	char	   *name = get_func_name(function);

	return name != NULL ? name : "?";
}

static IvmUnsupported *
clock_function(const char *what)
{
	return unsupported(ERRCODE_FEATURE_NOT_SUPPORTED,
					   psprintf("%s depends on the time at which it is called.", what),
					   "Compare with the current time in the queries that read the view.");
}

static IvmUnsupported *
check_function(Oid function)
{
	char		volatility = func_volatile(function);
	const char *name;

	if (volatility == PROVOLATILE_IMMUTABLE)
		return NULL;

	name = function_name(function);
	if (is_listed(function, clock_functions, lengthof(clock_functions)))
		return clock_function(psprintf("Function %s()", name));
	if (volatility == PROVOLATILE_VOLATILE)
		return unsupported(ERRCODE_FEATURE_NOT_SUPPORTED,
						   psprintf("Function %s() is volatile.", name),
						   "Use a deterministic expression, or create a plain materialized view.");
	if (is_listed(function, settings_functions, lengthof(settings_functions)))
		return NULL;
	if (function >= FirstNormalObjectId)
		return unsupported(ERRCODE_FEATURE_NOT_SUPPORTED,
						   psprintf("Function %s() is declared stable: its result may depend on more than its arguments.", name),
						   psprintf("If it depends on its arguments alone, declare it: ALTER FUNCTION %s IMMUTABLE.", name));
	return unsupported(ERRCODE_FEATURE_NOT_SUPPORTED,
					   psprintf("Function %s() depends on the session or on the system catalogs.", name),
					   "Use it in the queries that read the view, or create a plain materialized view.");
}

/* The functions behind an aggregate of the user's; the server's own are known to be good. */
static IvmUnsupported *
check_aggregate(Oid function)
{
	HeapTuple	tuple;
	Form_pg_aggregate form;
	Oid			functions[6];
	IvmUnsupported *found = NULL;

	if (function < FirstNormalObjectId)
		return NULL;

	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(function));
	if (!HeapTupleIsValid(tuple))
		return NULL;
	form = (Form_pg_aggregate) GETSTRUCT(tuple);
	functions[0] = form->aggtransfn;
	functions[1] = form->aggfinalfn;
	functions[2] = form->aggcombinefn;
	functions[3] = form->aggmtransfn;
	functions[4] = form->aggminvtransfn;
	functions[5] = form->aggmfinalfn;
	ReleaseSysCache(tuple);

	for (int i = 0; i < lengthof(functions) && found == NULL; i++)
	{
		if (OidIsValid(functions[i]))
			found = check_function(functions[i]);
	}
	return found;
}

static bool
check_called_function(Oid function, void *context)
{
	CheckContext *check = (CheckContext *) context;

	check->found = check_function(function);
	return check->found != NULL;
}

static IvmUnsupported *
check_value_function(SQLValueFunction *value)
{
	switch (value->op)
	{
		case SVFOP_CURRENT_DATE:
			return clock_function("CURRENT_DATE");
		case SVFOP_CURRENT_TIME:
		case SVFOP_CURRENT_TIME_N:
			return clock_function("CURRENT_TIME");
		case SVFOP_CURRENT_TIMESTAMP:
		case SVFOP_CURRENT_TIMESTAMP_N:
			return clock_function("CURRENT_TIMESTAMP");
		case SVFOP_LOCALTIME:
		case SVFOP_LOCALTIME_N:
			return clock_function("LOCALTIME");
		case SVFOP_LOCALTIMESTAMP:
		case SVFOP_LOCALTIMESTAMP_N:
			return clock_function("LOCALTIMESTAMP");
		case SVFOP_CURRENT_ROLE:
		case SVFOP_CURRENT_USER:
		case SVFOP_USER:
		case SVFOP_SESSION_USER:
			return unsupported(ERRCODE_FEATURE_NOT_SUPPORTED,
							   pstrdup("The name of the current user depends on the session."),
							   "Use it in the queries that read the view, or create a plain materialized view.");
		case SVFOP_CURRENT_CATALOG:
		case SVFOP_CURRENT_SCHEMA:
			break;
	}
	return unsupported(ERRCODE_FEATURE_NOT_SUPPORTED,
					   pstrdup("CURRENT_CATALOG and CURRENT_SCHEMA depend on the session."),
					   "Use them in the queries that read the view, or create a plain materialized view.");
}

static bool
check_expression(Node *node, CheckContext *context)
{
	if (node == NULL)
		return false;

	switch (nodeTag(node))
	{
		case T_Var:
			{
				Var		   *var = (Var *) node;

				if (!IS_SPECIAL_VARNO(var->varno) && var->varattno < 0 &&
					var->varattno != TableOidAttributeNumber)
					context->found = unsupported(ERRCODE_FEATURE_NOT_SUPPORTED,
												 psprintf("System column \"%s\" is not part of a row's data.",
														  NameStr(SystemAttributeDefinition(var->varattno)->attname)),
												 "Of the system columns only tableoid can be used.");
				return context->found != NULL;
			}
		case T_Param:
			if (((Param *) node)->paramkind == PARAM_EXTERN)
				context->found = unsupported(ERRCODE_FEATURE_NOT_SUPPORTED,
											 pstrdup("The query has parameters."),
											 "Write the values into the query.");
			return context->found != NULL;
		case T_SQLValueFunction:
			context->found = check_value_function((SQLValueFunction *) node);
			return true;
		case T_NextValueExpr:
			context->found = check_function(F_NEXTVAL);
			return true;
		case T_Aggref:
			context->found = check_aggregate(((Aggref *) node)->aggfnoid);
			break;
		case T_WindowFunc:
			context->found = check_aggregate(((WindowFunc *) node)->winfnoid);
			break;
		default:
			break;
	}
	if (context->found != NULL)
		return true;
	if (check_functions_in_node(node, check_called_function, context))
		return true;
	return expression_tree_walker(node, check_expression, context);
}

/* ---- relations ---- */

static IvmUnsupported *
unsupported_relation(const char *kind, Oid relid, const char *hint)
{
	return unsupported(ERRCODE_FEATURE_NOT_SUPPORTED,
					   psprintf("\"%s\" is %s.", get_rel_name(relid), kind), hint);
}

static IvmUnsupported *
check_relation(Oid relid, char relkind)
{
	switch (relkind)
	{
		case RELKIND_RELATION:
		case RELKIND_PARTITIONED_TABLE:
		case RELKIND_MATVIEW:
			break;
		case RELKIND_VIEW:
			return NULL;
		case RELKIND_FOREIGN_TABLE:
			return unsupported_relation("a foreign table", relid,
										"Changes of foreign tables are not in this server's log; create a plain materialized view.");
		case RELKIND_SEQUENCE:
			return unsupported_relation("a sequence", relid, "Create a plain materialized view.");
		default:
			return unsupported_relation("not a table", relid, NULL);
	}

	if (IsCatalogRelationOid(relid) || relid < FirstNormalObjectId)
		return unsupported_relation("a system table", relid, "Create a plain materialized view.");
	if (ivm_relation_is_internal(relid))
		return unsupported_relation("a table of the extension itself", relid, "Create a plain materialized view.");

	switch (get_rel_persistence(relid))
	{
		case RELPERSISTENCE_TEMP:
			return unsupported_relation("a temporary table", relid, "Use a permanent table.");
		case RELPERSISTENCE_UNLOGGED:
			return unsupported_relation("an unlogged table", relid,
										psprintf("Make it logged: ALTER TABLE %s SET LOGGED.", get_rel_name(relid)));
		default:
			break;
	}
	return NULL;
}

/* ---- the query ---- */

static bool check_query(Query *query, CheckContext *context);

static bool
check_query_walker(Node *node, CheckContext *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
		return check_query((Query *) node, context);
	if (IsA(node, Param) && ((Param *) node)->paramkind == PARAM_EXTERN)
	{
		context->found = unsupported(ERRCODE_FEATURE_NOT_SUPPORTED,
									 pstrdup("The query has parameters."),
									 "Write the values into the query.");
		return true;
	}
	return expression_tree_walker(node, check_query_walker, context);
}

static bool
check_query(Query *query, CheckContext *context)
{
	ListCell   *lc;
	int			number = 0;

	check_stack_depth();
	CHECK_FOR_INTERRUPTS();

	if (query->commandType != CMD_SELECT || query->utilityStmt != NULL)
		context->found = unsupported(ERRCODE_FEATURE_NOT_SUPPORTED,
									 pstrdup("The query is, or contains, a statement that is not a SELECT."), NULL);
	else if (query->hasModifyingCTE)
		context->found = unsupported(ERRCODE_FEATURE_NOT_SUPPORTED,
									 pstrdup("The query modifies data in WITH."), NULL);
	else if (query->rowMarks != NIL)
		context->found = unsupported(ERRCODE_FEATURE_NOT_SUPPORTED,
									 pstrdup("The query locks rows (FOR UPDATE or FOR SHARE)."),
									 "Leave the locking clause out.");

	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		number++;
		if (context->found != NULL)
			break;
		if (rte->rtekind == RTE_NAMEDTUPLESTORE)
			context->found = unsupported(ERRCODE_FEATURE_NOT_SUPPORTED,
										 pstrdup("The query reads a transition table."), NULL);
		if (rte->rtekind != RTE_RELATION || !rangeTableEntry_used((Node *) query, number, 0))
			continue;
		if (rte->tablesample != NULL)
			context->found = unsupported(ERRCODE_FEATURE_NOT_SUPPORTED,
										 psprintf("Table \"%s\" is read with TABLESAMPLE.", get_rel_name(rte->relid)),
										 "Filter by a hash of a column instead.");
		else
			context->found = check_relation(rte->relid, rte->relkind);
	}

	if (context->found != NULL)
		return true;
	return query_tree_walker(query, check_query_walker, context, 0);
}

IvmUnsupported *
ivm_query_check(Query *query)
{
	CheckContext context = {0};

	(void) check_query(query, &context);
	return context.found;
}

/* ---- the plan ---- */

static bool
check_plan(Plan *plan, void *context)
{
	CheckContext *check = (CheckContext *) context;
	List	   *trees = ivm_plan_expressions(plan);
	Index		scanned = ivm_plan_scan_relation(check->statement, plan);
	ListCell   *lc;

	if (IsA(plan, LockRows))
		check->found = unsupported(ERRCODE_FEATURE_NOT_SUPPORTED,
								   pstrdup("The query locks rows (FOR UPDATE or FOR SHARE)."),
								   "Leave the locking clause out.");
	else if (IsA(plan, ModifyTable))
		check->found = unsupported(ERRCODE_FEATURE_NOT_SUPPORTED,
								   pstrdup("The query modifies data in WITH."), NULL);
	else if (scanned != 0)
	{
		Oid			relid = rt_fetch(scanned, check->statement->rtable)->relid;

		check->found = check_relation(relid, get_rel_relkind(relid));

		/* the query's own have been replaced by what they stand for */
		if (check->found == NULL && ivm_relation_is_incremental(relid))
			check->found = unsupported(ERRCODE_FEATURE_NOT_SUPPORTED,
									   psprintf("A function of the query reads incremental view \"%s\".", get_rel_name(relid)),
									   "Name the view in the query itself.");
	}

	foreach(lc, trees)
	{
		if (check->found != NULL)
			break;
		check_expression((Node *) lfirst(lc), check);
	}
	return check->found != NULL;
}

IvmUnsupported *
ivm_statement_check(PlannedStmt *statement)
{
	CheckContext context;
	ListCell   *lc;

	context.statement = statement;
	context.found = NULL;

	if (!ivm_plan_walk(statement, statement->planTree, check_plan, &context))
	{
		/*
		 * subplans that nothing refers to any more do no harm, but cost
		 * nothing to check
		 */
		foreach(lc, statement->subplans)
		{
			if (lfirst(lc) != NULL && ivm_plan_walk(statement, (Plan *) lfirst(lc), check_plan, &context))
				break;
		}
	}
	if (context.found == NULL)
	{
		/* what values inside of others are made a text by, or of one */
		foreach(lc, ivm_statement_reads(statement)->io_functions)
		{
			context.found = check_function(lfirst_oid(lc));
			if (context.found != NULL)
				break;
		}
	}
	return context.found;
}

/* ---- sharing ---- */

static bool
is_not_universal(Oid function, void *context)
{
	return function >= FirstNormalObjectId || func_volatile(function) != PROVOLATILE_IMMUTABLE;
}

static bool
find_not_universal(Node *node, void *context)
{
	if (node == NULL)
		return false;

	/*
	 * a domain's constraints may call anything; the user's name depends on
	 * the user
	 */
	if (IsA(node, CoerceToDomain) || IsA(node, SQLValueFunction) || IsA(node, NextValueExpr))
		return true;
	if (check_functions_in_node(node, is_not_universal, context))
		return true;
	return expression_tree_walker(node, find_not_universal, context);
}

bool
ivm_expression_is_universal(Node *expression)
{
	return !find_not_universal(expression, NULL);
}
