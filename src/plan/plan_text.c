/*-------------------------------------------------------------------------
 *
 * plan_text.c
 *	  Deterministic text of expressions and of the planner's subtrees.
 *
 * They are in the server's own node notation, with objects by oid and without
 * positions in the query's source.  A constant of an anonymous row type is told by
 * columns and values: its bytes contain a number that each process gives out in
 * its own order.  A subtree of the planner has no costs, its relations are
 * told by oid instead of by their place in the range table, and it has one scan for
 * those of a tree's members.
 *
 * Texts are never read back.
 *
 * Memory: results, and garbage, in the current context.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/pathnodes.h"
#include "parser/parsetree.h"
#include "plan/plan_text.h"
#include "plan/plan_walk.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

typedef struct NormalizeContext
{
	PlannedStmt *statement;
	List	   *numbers;		/* range table indexes in the order of their
								 * first use */
} NormalizeContext;

/* ---- expressions ---- */

/*
 * Removes " :location n" from a node's text.  A string in the text cannot be
 * mistaken for it, since blanks in strings are escaped there.
 */
static char *
without_locations(char *text)
{
	static const char field[] = " :location ";
	char	   *from = text;
	char	   *to = text;

	while (*from != '\0')
	{
		if (*from == ' ' && strncmp(from, field, sizeof(field) - 1) == 0)
		{
			from += sizeof(field) - 1;
			from += strspn(from, "-0123456789");
			continue;
		}
		*to++ = *from++;
	}
	*to = '\0';
	return text;
}

/*
 * Constants of anonymous row types.  Each value names its type by a number that is
 * the process's own, so in a text the value is spelled out.
 */

static bool
is_record_constant(Const *constant)
{
	return !constant->constisnull &&
		(constant->consttype == RECORDOID || constant->consttype == RECORDARRAYOID);
}

static void append_value(StringInfo buffer, Oid type, Datum value, bool isnull);

static void
append_record(StringInfo buffer, HeapTupleHeader record)
{
	TupleDesc	desc = lookup_rowtype_tupdesc_copy(HeapTupleHeaderGetTypeId(record),
												   HeapTupleHeaderGetTypMod(record));
	Datum	   *values = palloc(sizeof(Datum) * Max(desc->natts, 1));
	bool	   *isnull = palloc(sizeof(bool) * Max(desc->natts, 1));
	HeapTupleData tuple;

	tuple.t_len = HeapTupleHeaderGetDatumLength(record);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = record;
	heap_deform_tuple(&tuple, desc, values, isnull);

	appendStringInfoString(buffer, "row (");
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		appendStringInfo(buffer, "%s%s %d %u ", i == 0 ? "" : ", ",
						 quote_identifier(NameStr(attribute->attname)),
						 attribute->atttypmod, attribute->attcollation);
		append_value(buffer, attribute->atttypid, values[i], isnull[i]);
	}
	appendStringInfoChar(buffer, ')');
}

static void
append_record_array(StringInfo buffer, ArrayType *array)
{
	Datum	   *elements;
	bool	   *isnull;
	int			count;

	deconstruct_array(array, RECORDOID, -1, false, TYPALIGN_DOUBLE, &elements, &isnull, &count);
	appendStringInfoString(buffer, "array");
	for (int i = 0; i < ARR_NDIM(array); i++)
		appendStringInfo(buffer, " [%d:%d]", ARR_LBOUND(array)[i], ARR_DIMS(array)[i]);
	appendStringInfoString(buffer, " (");
	for (int i = 0; i < count; i++)
	{
		appendStringInfoString(buffer, i == 0 ? "" : ", ");
		append_value(buffer, RECORDOID, elements[i], isnull[i]);
	}
	appendStringInfoChar(buffer, ')');
}

static void
append_value(StringInfo buffer, Oid type, Datum value, bool isnull)
{
	int16		length;
	bool		by_value;

	check_stack_depth();
	if (!isnull && type == RECORDOID)
		append_record(buffer, DatumGetHeapTupleHeader(value));
	else if (!isnull && type == RECORDARRAYOID)
		append_record_array(buffer, DatumGetArrayTypeP(value));
	else
	{
		get_typlenbyval(type, &length, &by_value);
		if (!isnull && length == -1)
			value = PointerGetDatum(PG_DETOAST_DATUM(value));
		appendStringInfoString(buffer, nodeToString(makeConst(type, -1, InvalidOid, length, value, isnull, by_value)));
	}
}

/* Puts the text of such a constant, in place, where its bytes are. */
static void
spell_constant(Const *constant)
{
	StringInfoData buffer;

	if (!is_record_constant(constant))
		return;
	initStringInfo(&buffer);
	append_value(&buffer, constant->consttype, constant->constvalue, false);
	constant->constvalue = PointerGetDatum(cstring_to_text_with_len(buffer.data, buffer.len));
}

static bool
find_record_constant(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Const))
		return is_record_constant((Const *) node);
	return expression_tree_walker(node, find_record_constant, context);
}

static bool
spell_constants(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Const))
		spell_constant((Const *) node);
	return expression_tree_walker(node, spell_constants, context);
}

char *
ivm_expression_text(Node *expression)
{
	if (find_record_constant(expression, NULL))
	{
		expression = copyObject(expression);
		(void) spell_constants(expression, NULL);
	}
	return without_locations(nodeToString(expression));
}

/* ---- subtrees of the planner ---- */

static int
new_number(NormalizeContext *context, int number)
{
	ListCell   *lc;
	int			result = 0;

	foreach(lc, context->numbers)
	{
		result++;
		if (lfirst_int(lc) == number)
			return result;
	}
	context->numbers = lappend_int(context->numbers, number);
	return result + 1;
}

static bool
normalize_expression(Node *node, NormalizeContext *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;

		if (!IS_SPECIAL_VARNO(var->varno))
			var->varno = new_number(context, var->varno);
		var->varnosyn = 0;
		var->varattnosyn = 0;
		return false;
	}
	if (IsA(node, Const))
		spell_constant((Const *) node);
	if (IsA(node, TargetEntry))
	{
		/* names of columns inside a query */
		((TargetEntry *) node)->resname = NULL;
		((TargetEntry *) node)->ressortgroupref = 0;
	}
	if (IsA(node, SubPlan))
	{
		((SubPlan *) node)->startup_cost = 0;
		((SubPlan *) node)->per_call_cost = 0;
	}
	return expression_tree_walker(node, normalize_expression, context);
}

/* Whose member that is, of the relations of the range table; NULL if it is none. */
static AppendRelInfo *
find_parent(PlannedStmt *statement, Index child)
{
	ListCell   *lc;

	foreach(lc, statement->appendRelations)
	{
		AppendRelInfo *info = lfirst_node(AppendRelInfo, lc);

		if (info->child_relid == child && OidIsValid(info->parent_reloid))
			return info;
	}
	return NULL;
}

/* Puts columns of the parent in the place of the member's, in place; true if there is none for one of them. */
static bool
rename_to_parent(Node *node, AppendRelInfo *info)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;

		if (var->varno != info->child_relid)
			return false;
		if (var->varattno > 0 && var->varattno <= info->num_child_cols)
			var->varattno = info->parent_colnos[var->varattno - 1];
		else if (var->varattno > 0)
			var->varattno = 0;
		var->varno = info->parent_relid;
		return var->varattno == 0;
	}
	return expression_tree_walker(node, rename_to_parent, info);
}

/* The scan of a member, in terms of the table that the query names; NULL if it is none, or cannot be told so. */
static Plan *
scan_of_tree(Plan *plan, PlannedStmt *statement)
{
	AppendRelInfo *info;
	SeqScan    *scan;

	if (!IsA(plan, SeqScan) || find_parent(statement, ((SeqScan *) plan)->scan.scanrelid) == NULL)
		return NULL;
	scan = copyObject((SeqScan *) plan);
	while ((info = find_parent(statement, scan->scan.scanrelid)) != NULL)
	{
		ListCell   *lc;

		foreach(lc, ivm_plan_expressions((Plan *) scan))
		{
			if (rename_to_parent((Node *) lfirst(lc), info))
				return NULL;
		}
		scan->scan.scanrelid = info->parent_relid;
	}
	return (Plan *) scan;
}

static void normalize_plan(Plan *plan, NormalizeContext *context);

/* Of the scans of a tree one is left, if they are the same but for the member. */
static List *
normalize_appended(List *plans, NormalizeContext *context)
{
	List	   *result = NIL;
	List	   *texts = NIL;
	ListCell   *lc;
	ListCell   *lc2;

	foreach(lc, plans)
	{
		Plan	   *plan = (Plan *) lfirst(lc);
		Plan	   *scan = scan_of_tree(plan, context->statement);
		char	   *text;
		bool		found = false;

		normalize_plan(scan != NULL ? scan : plan, context);
		if (scan == NULL)
		{
			result = lappend(result, plan);
			continue;
		}
		text = without_locations(nodeToString(scan));
		foreach(lc2, texts)
			found |= strcmp((char *) lfirst(lc2), text) == 0;
		if (found)
			continue;
		texts = lappend(texts, text);
		result = lappend(result, scan);
	}
	return result;
}

/* Takes out of a plan, in place, what does not decide about its rows. */
static void
normalize_plan(Plan *plan, NormalizeContext *context)
{
	List	  **appended = NULL;
	ListCell   *lc;

	check_stack_depth();
	CHECK_FOR_INTERRUPTS();

	plan->startup_cost = 0;
	plan->total_cost = 0;
	plan->plan_rows = 0;
	plan->plan_width = 0;
	plan->plan_node_id = 0;

	switch (nodeTag(plan))
	{
		case T_SeqScan:
		case T_SampleScan:
		case T_IndexScan:
		case T_IndexOnlyScan:
		case T_BitmapHeapScan:
		case T_BitmapIndexScan:
		case T_TidScan:
		case T_TidRangeScan:
		case T_SubqueryScan:
		case T_FunctionScan:
		case T_ValuesScan:
		case T_TableFuncScan:
		case T_CteScan:
		case T_NamedTuplestoreScan:
		case T_WorkTableScan:
		case T_ForeignScan:
		case T_CustomScan:
			if (((Scan *) plan)->scanrelid != 0)
				((Scan *) plan)->scanrelid = new_number(context, ((Scan *) plan)->scanrelid);
			break;
		case T_Append:
			((Append *) plan)->apprelids = NULL;
			((Append *) plan)->part_prune_info = NULL;
			((Append *) plan)->nasyncplans = 0;
			((Append *) plan)->first_partial_plan = 0;
			appended = &((Append *) plan)->appendplans;
			break;
		case T_MergeAppend:
			((MergeAppend *) plan)->apprelids = NULL;
			((MergeAppend *) plan)->part_prune_info = NULL;
			break;
		case T_Agg:
			((Agg *) plan)->numGroups = 0;
			((Agg *) plan)->transitionSpace = 0;
			foreach(lc, ((Agg *) plan)->chain)
				normalize_plan((Plan *) lfirst(lc), context);
			break;
		case T_Hash:
			((Hash *) plan)->rows_total = 0;
			break;
		case T_Memoize:
			((Memoize *) plan)->est_entries = 0;
			break;
		case T_SetOp:
			((SetOp *) plan)->numGroups = 0;
			break;
		case T_RecursiveUnion:
			((RecursiveUnion *) plan)->numGroups = 0;
			break;
		case T_WindowAgg:
			/* the same as runCondition, for EXPLAIN */
			((WindowAgg *) plan)->runConditionOrig = NIL;
			break;
		default:
			break;
	}

	foreach(lc, ivm_plan_expressions(plan))
		normalize_expression((Node *) lfirst(lc), context);
	if (appended != NULL)
	{
		*appended = normalize_appended(*appended, context);
		return;
	}
	foreach(lc, ivm_plan_children(plan))
		normalize_plan((Plan *) lfirst(lc), context);
}

char *
ivm_subplan_text(PlannedStmt *statement, Plan *plan)
{
	NormalizeContext context;
	StringInfoData buffer;
	Bitmapset  *subplans = ivm_plan_all_subplans(statement, plan);
	int			number = -1;
	ListCell   *lc;

	context.statement = statement;
	context.numbers = NIL;
	initStringInfo(&buffer);

	plan = copyObject(plan);
	normalize_plan(plan, &context);
	appendStringInfoString(&buffer, without_locations(nodeToString(plan)));

	while ((number = bms_next_member(subplans, number)) >= 0)
	{
		Plan	   *subplan = copyObject((Plan *) list_nth(statement->subplans, number - 1));

		normalize_plan(subplan, &context);
		appendStringInfo(&buffer, " subplan %d %s", number, without_locations(nodeToString(subplan)));
	}

	appendStringInfoString(&buffer, " relations (");
	foreach(lc, context.numbers)
	{
		RangeTblEntry *rte = rt_fetch(lfirst_int(lc), statement->rtable);

		appendStringInfo(&buffer, " %u", rte->rtekind == RTE_RELATION ? rte->relid : InvalidOid);
	}
	appendStringInfoString(&buffer, ")");
	return buffer.data;
}
