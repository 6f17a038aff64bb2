/*-------------------------------------------------------------------------
 *
 * fingerprint.c
 *	  What a view was computed from, besides the text of its plan.
 *
 * Some things change a query's result without a row in the log and without
 * another plan:
 *
 *	- a table that is not logged for a while (SET UNLOGGED), or whose replica
 *	  identity changes, loses changes;
 *	- a plain materialized view gets a new file by REFRESH;
 *	- a whole-row reference sees columns that are added, and a composite value
 *	  shows the names of its attributes (row_to_json);
 *	- an enum that is made a text shows its labels;
 *	- a function of the user is replaced.
 *
 * These are collected here, sorted, as text; equal texts mean that nothing of
 * this kind has happened.  A rewrite that keeps the rows of a table is not seen,
 * and must not be.  What a function calls in turn is not known: the user declared
 * it immutable.
 *
 * Memory: the result, and garbage, in the current context.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/transam.h"
#include "catalog/pg_class.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_proc.h"
#include "compile/compiler.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "plan/plan_walk.h"
#include "utils/catcache.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

typedef struct FingerprintContext
{
	PlannedStmt *statement;
	List	   *whole_rows;		/* oids of relations */
	List	   *functions;		/* oids */
	List	   *enums;			/* oids of types whose labels are seen */
} FingerprintContext;

static bool
note_function(Oid function, void *context)
{
	FingerprintContext *fingerprint = (FingerprintContext *) context;

	if (function >= FirstNormalObjectId)
		fingerprint->functions = list_append_unique_oid(fingerprint->functions, function);
	return false;
}

/* A change of this entry of a system cache may change the fingerprint. */
static void
note_item(PlannedStmt *statement, int cache, Oid object)
{
	PlanInvalItem *item = makeNode(PlanInvalItem);

	item->cacheId = cache;
	item->hashValue = GetSysCacheHashValue1(cache, ObjectIdGetDatum(object));
	statement->invalItems = lappend(statement->invalItems, item);
}

static int
compare_labels(const ListCell *a, const ListCell *b)
{
	return strcmp(strVal(lfirst(a)), strVal(lfirst(b)));
}

/* Notes the composite types that values of the type are made of. */
static void
note_type(Oid type, FingerprintContext *context)
{
	Oid			element;
	Oid			relid;
	TupleDesc	desc;

	check_stack_depth();
	if (type < FirstNormalObjectId)
		return;
	type = getBaseType(type);
	element = get_element_type(type);
	if (OidIsValid(element))
	{
		note_type(element, context);
		return;
	}
	relid = get_typ_typrelid(type);
	if (!OidIsValid(relid) || list_member_oid(context->whole_rows, relid))
		return;
	context->whole_rows = lappend_oid(context->whole_rows, relid);

	desc = lookup_rowtype_tupdesc(type, -1);
	for (int i = 0; i < desc->natts; i++)
	{
		if (!TupleDescAttr(desc, i)->attisdropped)
			note_type(TupleDescAttr(desc, i)->atttypid, context);
	}
	ReleaseTupleDesc(desc);
}

/* A function or conversion may see the labels of an enum. */
static void
note_argument(Node *argument, FingerprintContext *context)
{
	Oid			type = getBaseType(exprType(argument));
	Oid			element = get_element_type(type);

	if (OidIsValid(element))
		type = getBaseType(element);
	if (type_is_enum(type))
		context->enums = list_append_unique_oid(context->enums, type);
}

static void
append_enum(StringInfo buffer, Oid type)
{
	CatCList   *list = SearchSysCacheList1(ENUMTYPOIDNAME, ObjectIdGetDatum(type));
	List	   *labels = NIL;
	ListCell   *lc;

	for (int i = 0; i < list->n_members; i++)
	{
		Form_pg_enum form = (Form_pg_enum) GETSTRUCT(&list->members[i]->tuple);

		labels = lappend(labels, makeString(psprintf("%u:%s", form->oid, NameStr(form->enumlabel))));
	}
	ReleaseSysCacheList(list);
	list_sort(labels, compare_labels);
	appendStringInfo(buffer, "enum %u", type);
	foreach(lc, labels)
		appendStringInfo(buffer, " %s", strVal(lfirst(lc)));
	appendStringInfoChar(buffer, '\n');
}

static bool
note_expression(Node *node, FingerprintContext *context)
{
	ListCell   *lc;

	if (node == NULL)
		return false;
	if (IsA(node, CoerceViaIO))
		note_argument((Node *) ((CoerceViaIO *) node)->arg, context);
	else if (IsA(node, FuncExpr))
	{
		foreach(lc, ((FuncExpr *) node)->args)
			note_argument((Node *) lfirst(lc), context);
	}
	else if (IsA(node, Aggref))
	{
		foreach(lc, ((Aggref *) node)->args)
			note_argument((Node *) lfirst_node(TargetEntry, lc)->expr, context);
	}
	switch (nodeTag(node))
	{
		case T_Var:
		case T_Const:
		case T_FuncExpr:
		case T_RowExpr:
		case T_ConvertRowtypeExpr:
		case T_CoerceViaIO:
		case T_FieldSelect:
			note_type(exprType(node), context);
			break;
		default:
			break;
	}
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;

		if (!IS_SPECIAL_VARNO(var->varno) && var->varattno == 0)
		{
			RangeTblEntry *rte = rt_fetch(var->varno, context->statement->rtable);

			if (rte->rtekind == RTE_RELATION)
				context->whole_rows = list_append_unique_oid(context->whole_rows, rte->relid);
		}
		return false;
	}
	check_functions_in_node(node, note_function, context);
	return expression_tree_walker(node, note_expression, context);
}

static bool
note_plan(Plan *plan, void *context)
{
	List	   *trees = ivm_plan_expressions(plan);
	ListCell   *lc;

	foreach(lc, trees)
		note_expression((Node *) lfirst(lc), (FingerprintContext *) context);
	return false;
}

char *
ivm_plan_fingerprint(IvmPlan *plan)
{
	FingerprintContext context;
	StringInfoData buffer;
	MemoryContext caller;
	ListCell   *lc;

	context.statement = plan->statement;
	context.whole_rows = NIL;
	context.functions = NIL;
	context.enums = NIL;
	ivm_plan_walk(plan->statement, plan->statement->planTree, note_plan, &context);
	list_sort(context.whole_rows, list_oid_cmp);

	/*
	 * Whoever keeps the plan has to hear of changes of these, too.  A change
	 * of a composite type is told as one of its relation.
	 */
	caller = MemoryContextSwitchTo(GetMemoryChunkContext(plan->statement));
	plan->statement->relationOids = list_concat_unique_oid(plan->statement->relationOids, context.whole_rows);
	foreach(lc, context.functions)
		note_item(plan->statement, PROCOID, lfirst_oid(lc));
	MemoryContextSwitchTo(caller);
	list_sort(context.functions, list_oid_cmp);
	list_sort(context.enums, list_oid_cmp);

	initStringInfo(&buffer);
	foreach(lc, plan->relids)
	{
		Relation	relation = relation_open(lfirst_oid(lc), NoLock);
		Form_pg_class form = relation->rd_rel;

		appendStringInfo(&buffer, "relation %u %c %c", RelationGetRelid(relation),
						 form->relpersistence, form->relreplident);
		if (form->relkind == RELKIND_MATVIEW)
			appendStringInfo(&buffer, " file %u", form->relfilenode);
		appendStringInfoChar(&buffer, '\n');
		relation_close(relation, NoLock);
	}

	foreach(lc, context.whole_rows)
	{
		Relation	relation = relation_open(lfirst_oid(lc), AccessShareLock);
		TupleDesc	desc = RelationGetDescr(relation);

		appendStringInfo(&buffer, "row %u", RelationGetRelid(relation));
		for (int i = 0; i < desc->natts; i++)
		{
			Form_pg_attribute attribute = TupleDescAttr(desc, i);

			if (attribute->attisdropped)
				appendStringInfoString(&buffer, " -");
			else
				appendStringInfo(&buffer, " %u:%d:%s", attribute->atttypid, attribute->atttypmod,
								 NameStr(attribute->attname));
		}
		appendStringInfoChar(&buffer, '\n');
		relation_close(relation, AccessShareLock);
	}

	foreach(lc, context.functions)
	{
		HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(lfirst_oid(lc)));

		if (!HeapTupleIsValid(tuple))
			elog(ERROR, "cache lookup failed for function %u", lfirst_oid(lc));
		appendStringInfo(&buffer, "function %u %u (%u,%u)\n", lfirst_oid(lc),
						 HeapTupleHeaderGetRawXmin(tuple->t_data),
						 ItemPointerGetBlockNumber(&tuple->t_self),
						 ItemPointerGetOffsetNumber(&tuple->t_self));
		ReleaseSysCache(tuple);
	}

	foreach(lc, context.enums)
		append_enum(&buffer, lfirst_oid(lc));
	return buffer.data;
}

/* Oids of the lines that begin so. */
static List *
oids_of_lines(const char *fingerprint, const char *begin)
{
	List	   *result = NIL;
	size_t		length = strlen(begin);

	for (const char *line = fingerprint; line != NULL && *line != '\0';)
	{
		const char *end = strchr(line, '\n');

		if (strncmp(line, begin, length) == 0)
			result = lappend_oid(result, (Oid) strtoul(line + length, NULL, 10));
		line = end == NULL ? NULL : end + 1;
	}
	return result;
}

List *
ivm_fingerprint_relids(const char *fingerprint)
{
	return oids_of_lines(fingerprint, "relation ");
}

/* The next line about a whole-row reference at or after "line"; NULL if there is none. */
static const char *
next_row_line(const char *line)
{
	while (line != NULL && strncmp(line, "row ", 4) != 0)
	{
		line = strchr(line, '\n');
		if (line != NULL)
			line++;
	}
	return line;
}

bool
ivm_fingerprint_rows_differ(const char *a, const char *b)
{
	a = next_row_line(a);
	b = next_row_line(b);
	while (a != NULL && b != NULL)
	{
		size_t		length = strcspn(a, "\n");

		if (strcspn(b, "\n") != length || memcmp(a, b, length) != 0)
			return true;
		a = next_row_line(a + length);
		b = next_row_line(b + length);
	}
	return a != NULL || b != NULL;
}
