/*-------------------------------------------------------------------------
 *
 * reads.c
 *	  What the expressions of a plan read in the catalogs when they are
 *	  evaluated.
 *
 * The plan's text says which functions are called on which columns.  Some of
 * them look further at that moment: the text of an enum is its label, that of
 * a row may have the names of its columns, a word becomes a lexeme by what its text
 * search configuration says, arrays are equal if the default operator class of
 * their elements says so.  Here it is collected what that is; fingerprint.c
 * writes it down.
 *
 * A value is made a text, or the other way round, by CoerceViaIO, by XML and by
 * functions that take or give any type.  PostgreSQL's own functions of this
 * kind are not immutable, since those of some types are not; so one that is immutable
 * does not do it.  A function of the user's may, and what it calls is not known.
 * What is inside of a value counts with it: elements, attributes, bounds, the type
 * under a domain.  A row of an anonymous type does not tell what is in it: if
 * any is made a text then all are.
 *
 * Too much is no harm, but for a rebuild that changes nothing.
 *
 * Memory: results in the current context.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/nbtree.h"
#include "access/table.h"
#include "access/transam.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_range.h"
#include "catalog/pg_type.h"
#include "compile/compiler.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_coerce.h"
#include "parser/parsetree.h"
#include "plan/plan_walk.h"
#include "utils/array.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

/* What is done with values of a type. */
#define SEEN		0			/* taken apart, or compared */
#define PRINTED		1			/* made a text */
#define PARSED		2			/* made of a text */

typedef struct ReadsContext
{
	PlannedStmt *statement;
	IvmReads   *reads;
	List	   *types[4];		/* oids: done, by what is done with them */
	List	   *anonymous;		/* oids: what is in rows of anonymous types */
	int			anonymous_use;
} ReadsContext;

static bool read_expression(Node *node, ReadsContext *context);

/* ---- functions ---- */

static bool
read_function(Oid function, void *context)
{
	IvmReads   *reads = ((ReadsContext *) context)->reads;

	if (function >= FirstNormalObjectId)
		reads->functions = list_append_unique_oid(reads->functions, function);
	return false;
}

/* A function that makes a text of a value, or the other way round. */
static void
read_io_function(Oid function, ReadsContext *context)
{
	if (OidIsValid(function) &&
		(function >= FirstNormalObjectId || func_volatile(function) != PROVOLATILE_IMMUTABLE))
		context->reads->io_functions = list_append_unique_oid(context->reads->io_functions, function);
	(void) read_function(function, context);
}

static void
read_aggregate(Oid function, ReadsContext *context)
{
	HeapTuple	tuple;
	Form_pg_aggregate form;

	if (function < FirstNormalObjectId)
		return;
	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(function));
	if (!HeapTupleIsValid(tuple))
		return;
	form = (Form_pg_aggregate) GETSTRUCT(tuple);
	context->reads->aggregates = list_append_unique_oid(context->reads->aggregates, function);
	(void) read_function(form->aggtransfn, context);
	(void) read_function(form->aggfinalfn, context);
	(void) read_function(form->aggcombinefn, context);
	(void) read_function(form->aggserialfn, context);
	(void) read_function(form->aggdeserialfn, context);
	(void) read_function(form->aggmtransfn, context);
	(void) read_function(form->aggminvtransfn, context);
	(void) read_function(form->aggmfinalfn, context);
	ReleaseSysCache(tuple);
}

/* An operator that sorts or groups, with the function of its operator class that does it. */
static void
read_operator(Oid operator, ReadsContext *context)
{
	Oid			opfamily;
	Oid			opcintype;
	int16		strategy;

	if (operator < FirstNormalObjectId)
		return;
	(void) read_function(get_opcode(operator), context);
	if (get_ordering_op_properties(operator, &opfamily, &opcintype, &strategy))
		(void) read_function(get_opfamily_proc(opfamily, opcintype, opcintype, BTORDER_PROC), context);
}

static void
read_operators(int count, Oid *operators, ReadsContext *context)
{
	for (int i = 0; i < count; i++)
		read_operator(operators[i], context);
}

static void
read_clauses(List *clauses, ReadsContext *context)
{
	ListCell   *lc;

	foreach(lc, clauses)
	{
		read_operator(lfirst_node(SortGroupClause, lc)->eqop, context);
		read_operator(lfirst_node(SortGroupClause, lc)->sortop, context);
	}
}

/* ---- types ---- */

static void read_type(Oid type, int use, ReadsContext *context);

static void
read_domain(Oid type, ReadsContext *context)
{
	DomainConstraintRef *constraints = palloc(sizeof(DomainConstraintRef));
	ListCell   *lc;

	context->reads->domains = list_append_unique_oid(context->reads->domains, type);
	InitDomainConstraintRef(type, constraints, CurrentMemoryContext, false);
	foreach(lc, constraints->constraints)
	{
		DomainConstraintState *constraint = lfirst_node(DomainConstraintState, lc);

		(void) read_expression((Node *) constraint->check_expr, context);
	}
}

static void
read_row(Oid relid, Oid type, int use, ReadsContext *context)
{
	TupleDesc	desc = lookup_rowtype_tupdesc_copy(type, -1);

	context->reads->rows = list_append_unique_oid(context->reads->rows, relid);
	for (int i = 0; i < desc->natts; i++)
	{
		if (!TupleDescAttr(desc, i)->attisdropped)
			read_type(TupleDescAttr(desc, i)->atttypid, use, context);
	}
}

static void
read_range(Oid type, int use, ReadsContext *context)
{
	TypeCacheEntry *entry = lookup_type_cache(type, TYPECACHE_RANGE_INFO);

	(void) read_function(entry->rng_cmp_proc_finfo.fn_oid, context);
	if (OidIsValid(entry->rng_canonical_finfo.fn_oid))
		(void) read_function(entry->rng_canonical_finfo.fn_oid, context);
	read_type(entry->rngelemtype->type_id, use, context);
}

/*
 * By what values of a type are told apart, and put in order.  Any type may have an
 * operator class of the user's, also one of the server's that has none of its own.
 */
static void
read_comparison(Oid type, ReadsContext *context)
{
	TypeCacheEntry *entry = lookup_type_cache(type, TYPECACHE_EQ_OPR | TYPECACHE_CMP_PROC | TYPECACHE_HASH_PROC |
											  TYPECACHE_HASH_EXTENDED_PROC);

	if (OidIsValid(entry->eq_opr))
		(void) read_function(get_opcode(entry->eq_opr), context);
	(void) read_function(entry->cmp_proc, context);
	(void) read_function(entry->hash_proc, context);
	(void) read_function(entry->hash_extended_proc, context);
}

/* A type that is not made of others. */
static void
read_scalar(Oid type, int use, ReadsContext *context)
{
	Oid			function;
	Oid			ioparam;
	bool		is_varlena;

	if (use == PRINTED)
	{
		getTypeOutputInfo(type, &function, &is_varlena);
		read_io_function(function, context);
	}
	else if (use == PARSED)
	{
		getTypeInputInfo(type, &function, &ioparam);
		read_io_function(function, context);
	}
	if (type >= FirstNormalObjectId)
		context->reads->types = list_append_unique_oid(context->reads->types, type);
}

Oid
ivm_json_cast(Oid type)
{
	Oid			function = InvalidOid;

	if (find_coercion_pathway(JSONOID, type, COERCION_EXPLICIT, &function) != COERCION_PATH_FUNC)
		return InvalidOid;
	return function;
}

static void
read_type(Oid type, int use, ReadsContext *context)
{
	Oid			element;

	check_stack_depth();
	if (!OidIsValid(type) || list_member_oid(context->types[use], type))
		return;
	context->types[use] = lappend_oid(context->types[use], type);

	if (type == RECORDOID || type == RECORDARRAYOID)
	{
		context->anonymous_use |= use;
		return;
	}
	read_comparison(type, context);
	element = get_element_type(type);
	if (OidIsValid(element))
	{
		read_type(element, use, context);
		return;
	}
	if (use == PRINTED && type >= FirstNormalObjectId)
	{
		context->reads->types = list_append_unique_oid(context->reads->types, type);
		(void) read_function(ivm_json_cast(type), context);
	}
	switch (get_typtype(type))
	{
		case TYPTYPE_DOMAIN:
			if (use == PARSED)
				read_domain(type, context);
			read_type(getBaseType(type), use, context);
			break;
		case TYPTYPE_COMPOSITE:
			read_row(get_typ_typrelid(type), type, use, context);
			break;
		case TYPTYPE_ENUM:
			if (use != SEEN)
				context->reads->enums = list_append_unique_oid(context->reads->enums, type);
			break;
		case TYPTYPE_RANGE:
			read_range(type, use, context);
			break;
		case TYPTYPE_MULTIRANGE:
			read_type(get_multirange_range(type), use, context);
			break;
		case TYPTYPE_BASE:
			read_scalar(type, use, context);
			break;
		default:
			break;
	}
}

/* ---- constants ---- */

static void read_record(HeapTupleHeader record, ReadsContext *context);

static void
read_record_array(ArrayType *array, ReadsContext *context)
{
	Datum	   *elements;
	bool	   *isnull;
	int			count;

	deconstruct_array(array, RECORDOID, -1, false, TYPALIGN_DOUBLE, &elements, &isnull, &count);
	for (int i = 0; i < count; i++)
	{
		if (!isnull[i])
			read_record(DatumGetHeapTupleHeader(elements[i]), context);
	}
}

/* Notes what is in a row of an anonymous type. */
static void
read_record(HeapTupleHeader record, ReadsContext *context)
{
	TupleDesc	desc = lookup_rowtype_tupdesc_copy(HeapTupleHeaderGetTypeId(record),
												   HeapTupleHeaderGetTypMod(record));
	HeapTupleData tuple;

	check_stack_depth();
	tuple.t_len = HeapTupleHeaderGetDatumLength(record);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = record;
	for (int i = 0; i < desc->natts; i++)
	{
		Oid			type = TupleDescAttr(desc, i)->atttypid;
		bool		isnull;
		Datum		value = heap_getattr(&tuple, i + 1, desc, &isnull);

		if (type == RECORDOID && !isnull)
			read_record(DatumGetHeapTupleHeader(value), context);
		else if (type == RECORDARRAYOID && !isnull)
			read_record_array(DatumGetArrayTypeP(value), context);
		else
			context->anonymous = list_append_unique_oid(context->anonymous, type);
	}
}

static void
read_constant(Const *constant, ReadsContext *context)
{
	if (constant->constisnull)
		return;
	if (constant->consttype == RECORDOID)
		read_record(DatumGetHeapTupleHeader(constant->constvalue), context);
	else if (constant->consttype == RECORDARRAYOID)
		read_record_array(DatumGetArrayTypeP(constant->constvalue), context);
}

/* ---- text search ---- */

/* A configuration or dictionary that is named, or, if that comes with the row, any. */
static void
read_text_search(Node *argument, Oid type, ReadsContext *context)
{
	IvmReads   *reads = context->reads;
	Const	   *constant = (Const *) argument;

	reads->text_search = true;
	if (!IsA(argument, Const))
		reads->any_text_search = true;
	else if (!constant->constisnull && type == REGCONFIGOID)
		reads->configurations = list_append_unique_oid(reads->configurations, DatumGetObjectId(constant->constvalue));
	else if (!constant->constisnull)
		reads->dictionaries = list_append_unique_oid(reads->dictionaries, DatumGetObjectId(constant->constvalue));
}

/* ---- calls ---- */

static bool
is_text_search_type(Oid type)
{
	return type == TSVECTOROID || type == TSQUERYOID || type == REGCONFIGOID;
}

/*
 * A function with its arguments; "result" is the type of what it yields.
 */
static void
read_call(Oid function, List *arguments, Oid result, ReadsContext *context)
{
	bool		is_own = function >= FirstNormalObjectId;
	char		volatility = func_volatile(function);
	bool		is_immutable = !is_own && volatility == PROVOLATILE_IMMUTABLE;
	bool		text_search = is_text_search_type(result) || function == F_TS_MATCH_TT || function == F_TS_MATCH_TQ;
	bool		named = false;
	ListCell   *lc;

	foreach(lc, arguments)
	{
		Node	   *argument = (Node *) lfirst(lc);
		Oid			type;

		if (IsA(argument, TargetEntry))
			argument = (Node *) ((TargetEntry *) argument)->expr;
		type = exprType(argument);
		read_type(type, is_immutable ? SEEN : PRINTED, context);
		text_search |= is_text_search_type(type);
		if (!is_own && (type == REGCONFIGOID || type == REGDICTIONARYOID))
		{
			read_text_search(argument, type, context);
			named = true;
		}
	}
	read_type(result, is_immutable ? SEEN : PARSED, context);
	if (!is_own && !is_immutable && text_search && !named)
		context->reads->text_search = context->reads->default_configuration = true;
}

static void
read_xml(XmlExpr *xml, ReadsContext *context)
{
	ListCell   *lc;

	foreach(lc, xml->named_args)
		read_type(exprType((Node *) lfirst(lc)), PRINTED, context);
	foreach(lc, xml->args)
		read_type(exprType((Node *) lfirst(lc)), PRINTED, context);
}

static void
read_types(List *types, int use, ReadsContext *context)
{
	ListCell   *lc;

	foreach(lc, types)
		read_type(lfirst_oid(lc), use, context);
}

static void
read_collation(Oid collation, ReadsContext *context)
{
	if (OidIsValid(collation))
		context->reads->collations = list_append_unique_oid(context->reads->collations, collation);
}

static bool
read_expression(Node *node, ReadsContext *context)
{
	ListCell   *lc;

	if (node == NULL)
		return false;
	read_collation(exprInputCollation(node), context);
	switch (nodeTag(node))
	{
		case T_Var:
			{
				Var		   *var = (Var *) node;

				if (!IS_SPECIAL_VARNO(var->varno) && var->varattno == 0)
				{
					RangeTblEntry *rte = rt_fetch(var->varno, context->statement->rtable);

					if (rte->rtekind == RTE_RELATION)
						read_row(rte->relid, get_rel_type_id(rte->relid), SEEN, context);
				}
				read_type(var->vartype, SEEN, context);
				read_collation(var->varcollid, context);
				break;
			}
		case T_Const:
			read_type(((Const *) node)->consttype, SEEN, context);
			read_constant((Const *) node, context);
			break;
		case T_FuncExpr:
			read_call(((FuncExpr *) node)->funcid, ((FuncExpr *) node)->args, exprType(node), context);
			break;
		case T_OpExpr:
		case T_DistinctExpr:
		case T_NullIfExpr:
			set_opfuncid((OpExpr *) node);
			read_call(((OpExpr *) node)->opfuncid, ((OpExpr *) node)->args, exprType(node), context);
			break;
		case T_ScalarArrayOpExpr:
			set_sa_opfuncid((ScalarArrayOpExpr *) node);
			read_call(((ScalarArrayOpExpr *) node)->opfuncid, ((ScalarArrayOpExpr *) node)->args, BOOLOID, context);
			break;
		case T_Aggref:
			{
				Aggref	   *aggref = (Aggref *) node;

				read_call(aggref->aggfnoid, aggref->aggdirectargs, aggref->aggtype, context);
				read_call(aggref->aggfnoid, aggref->args, aggref->aggtype, context);
				read_aggregate(aggref->aggfnoid, context);
				read_clauses(aggref->aggorder, context);
				read_clauses(aggref->aggdistinct, context);
				break;
			}
		case T_WindowFunc:
			read_call(((WindowFunc *) node)->winfnoid, ((WindowFunc *) node)->args, exprType(node), context);
			read_aggregate(((WindowFunc *) node)->winfnoid, context);
			break;
		case T_CoerceViaIO:
			read_type(exprType((Node *) ((CoerceViaIO *) node)->arg), PRINTED, context);
			read_type(((CoerceViaIO *) node)->resulttype, PARSED, context);
			break;
		case T_CoerceToDomain:
			read_domain(((CoerceToDomain *) node)->resulttype, context);
			break;
		case T_RowExpr:
			if (((RowExpr *) node)->row_typeid == RECORDOID)
			{
				foreach(lc, ((RowExpr *) node)->args)
					context->anonymous = list_append_unique_oid(context->anonymous, exprType((Node *) lfirst(lc)));
			}
			else
				read_type(((RowExpr *) node)->row_typeid, SEEN, context);
			break;
		case T_ConvertRowtypeExpr:
		case T_FieldSelect:
		case T_ArrayExpr:
		case T_MinMaxExpr:
		case T_RelabelType:
		case T_Param:
			read_type(exprType(node), SEEN, context);
			break;
		case T_XmlExpr:
			read_xml((XmlExpr *) node, context);
			break;
		case T_TableFunc:
			read_types(((TableFunc *) node)->coltypes, PARSED, context);
			break;
		case T_RangeTblFunction:
			read_types(((RangeTblFunction *) node)->funccoltypes, PARSED, context);
			context->anonymous = list_concat_unique_oid(context->anonymous, ((RangeTblFunction *) node)->funccoltypes);
			break;
		default:
			break;
	}
	check_functions_in_node(node, read_function, context);
	return expression_tree_walker(node, read_expression, context);
}

/* ---- plans ---- */

static bool
read_plan(Plan *plan, void *argument)
{
	ReadsContext *context = (ReadsContext *) argument;
	ListCell   *lc;

	foreach(lc, ivm_plan_expressions(plan))
		(void) read_expression((Node *) lfirst(lc), context);

	switch (nodeTag(plan))
	{
		case T_Sort:
		case T_IncrementalSort:
			read_operators(((Sort *) plan)->numCols, ((Sort *) plan)->sortOperators, context);
			break;
		case T_MergeAppend:
			read_operators(((MergeAppend *) plan)->numCols, ((MergeAppend *) plan)->sortOperators, context);
			break;
		case T_Agg:
			read_operators(((Agg *) plan)->numCols, ((Agg *) plan)->grpOperators, context);
			foreach(lc, ((Agg *) plan)->chain)
				(void) read_plan((Plan *) lfirst(lc), context);
			break;
		case T_Group:
			read_operators(((Group *) plan)->numCols, ((Group *) plan)->grpOperators, context);
			break;
		case T_Unique:
			read_operators(((Unique *) plan)->numCols, ((Unique *) plan)->uniqOperators, context);
			break;
		case T_SetOp:
			read_operators(((SetOp *) plan)->numCols, ((SetOp *) plan)->dupOperators, context);
			break;
		case T_RecursiveUnion:
			read_operators(((RecursiveUnion *) plan)->numCols, ((RecursiveUnion *) plan)->dupOperators, context);
			break;
		case T_Limit:
			read_operators(((Limit *) plan)->uniqNumCols, ((Limit *) plan)->uniqOperators, context);
			break;
		case T_WindowAgg:
			read_operators(((WindowAgg *) plan)->partNumCols, ((WindowAgg *) plan)->partOperators, context);
			read_operators(((WindowAgg *) plan)->ordNumCols, ((WindowAgg *) plan)->ordOperators, context);
			(void) read_function(((WindowAgg *) plan)->startInRangeFunc, context);
			(void) read_function(((WindowAgg *) plan)->endInRangeFunc, context);
			break;
		default:
			break;
	}
	return false;
}

IvmReads *
ivm_statement_reads(PlannedStmt *statement)
{
	ReadsContext context = {0};

	context.statement = statement;
	context.reads = palloc0(sizeof(IvmReads));
	(void) ivm_plan_walk(statement, statement->planTree, read_plan, &context);
	if (context.anonymous_use & PRINTED)
		read_types(context.anonymous, PRINTED, &context);
	if (context.anonymous_use & PARSED)
		read_types(context.anonymous, PARSED, &context);
	read_types(context.anonymous, SEEN, &context);
	return context.reads;
}
