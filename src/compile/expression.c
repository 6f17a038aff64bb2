/*-------------------------------------------------------------------------
 *
 * expression.c
 *	  Expressions on their way from the planner's tree to a delta plan.
 *
 * The planner's finished expressions refer to columns of a node's inputs or of a
 * scanned relation; in a delta plan they refer to column k of input i.  The Vars
 * made here have no traces of the query they come from (source position, original
 * range table entry), so that equal expressions are equal as text too.
 *
 * Memory: results are new trees in the current context.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"
#include "compile/compiler.h"
#include "plan/column.h"
#include "metadata/metadata.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/value.h"

typedef struct RenumberContext
{
	int			varno;
	int			new_varno;
} RenumberContext;

typedef struct SubstituteContext
{
	int			nlists;
	List	  **lists;
} SubstituteContext;

typedef struct SidesContext
{
	List	   *outer;
	List	   *inner;
} SidesContext;

typedef struct CountContext
{
	int		   *counts;			/* by column */
	int			natts;
} CountContext;

static bool
find_not_plain(Node *node, IvmReason **reason)
{
	if (node == NULL)
		return false;
	switch (nodeTag(node))
	{
		case T_Param:
		case T_SubPlan:
		case T_AlternativeSubPlan:
			*reason = ivm_reason(IVM_REASON_SUBQUERY, "a subquery in an expression");
			return true;
		case T_Aggref:
		case T_GroupingFunc:
			*reason = ivm_reason(IVM_REASON_AGGREGATE_PLACE, "an aggregate in an expression");
			return true;
		case T_WindowFunc:
			*reason = ivm_reason(IVM_REASON_WINDOW_FUNCTION, "a window function");
			return true;
		default:
			break;
	}
	return expression_tree_walker(node, find_not_plain, reason);
}

bool
ivm_expression_is_plain(IvmCompiler *compiler, Node *expression)
{
	IvmReason  *reason;

	if (find_not_plain(expression, &reason))
	{
		compiler->reason = reason;
		return false;
	}
	return true;
}

static Node *
renumber_mutator(Node *node, RenumberContext *context)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;

		if (var->varno != context->varno)
			elog(ERROR, "unexpected reference to %d in a plan expression", var->varno);
		return (Node *) ivm_column_like(context->new_varno, var->varattno, (Node *) var);
	}
	return expression_tree_mutator(node, renumber_mutator, context);
}

Node *
ivm_expression_renumber(Node *expression, int varno, int new_varno)
{
	RenumberContext context;

	context.varno = varno;
	context.new_varno = new_varno;
	return renumber_mutator(expression, &context);
}

static Node *
substitute_mutator(Node *node, SubstituteContext *context)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;

		if (var->varno < 1 || var->varno > context->nlists ||
			var->varattno < 1 || var->varattno > list_length(context->lists[var->varno - 1]))
			elog(ERROR, "unexpected reference to column %d of %d in a plan expression",
				 var->varattno, var->varno);
		return (Node *) copyObject(list_nth(context->lists[var->varno - 1], var->varattno - 1));
	}
	return expression_tree_mutator(node, substitute_mutator, context);
}

Node *
ivm_expression_substitute(Node *expression, int nlists, List **lists)
{
	SubstituteContext context;

	context.nlists = nlists;
	context.lists = lists;
	return substitute_mutator(expression, &context);
}

static Node *
sides_mutator(Node *node, SidesContext *context)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;
		List	   *list;

		if (var->varno == OUTER_VAR)
			list = context->outer;
		else if (var->varno == INNER_VAR)
			list = context->inner;
		else
			elog(ERROR, "unexpected reference to %d in a join", var->varno);
		return (Node *) copyObject(list_nth(list, var->varattno - 1));
	}
	return expression_tree_mutator(node, sides_mutator, context);
}

Node *
ivm_expression_of_sides(Node *expression, List *outer, List *inner)
{
	SidesContext context;

	context.outer = outer;
	context.inner = inner;
	return sides_mutator(expression, &context);
}

List *
ivm_node_columns(IvmPlanNode *node, int varno)
{
	List	   *result = NIL;

	for (int i = 0; i < node->desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(node->desc, i);
		Var		   *var = makeNode(Var);

		var->varno = varno;
		var->varattno = i + 1;
		var->vartype = attribute->atttypid;
		var->vartypmod = attribute->atttypmod;
		var->varcollid = attribute->attcollation;
		var->location = -1;
		result = lappend(result, var);
	}
	return result;
}

List *
ivm_tlist_expressions(List *targetlist)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, targetlist)
		result = lappend(result, lfirst_node(TargetEntry, lc)->expr);
	return result;
}

bool
ivm_tlist_is_identity(List *expressions, int varno, int width)
{
	ListCell   *lc;
	int			attno = 0;

	if (list_length(expressions) != width)
		return false;
	foreach(lc, expressions)
	{
		Var		   *var = (Var *) lfirst(lc);

		attno++;
		if (!IsA(var, Var) || var->varno != varno || var->varattno != attno)
			return false;
	}
	return true;
}

static bool
count_references(Node *node, CountContext *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;

		if (var->varattno >= 1 && var->varattno <= context->natts)
			context->counts[var->varattno]++;
		return false;
	}
	return expression_tree_walker(node, count_references, context);
}

/* Would substituting "inner" into the expressions evaluate something costly more than once? */
bool
ivm_substitution_repeats_work(List *tlist, List *quals, List *inner)
{
	CountContext context;
	ListCell   *lc;
	int			attno = 0;
	bool		result = false;

	context.natts = list_length(inner);
	context.counts = (int *) palloc0(sizeof(int) * (context.natts + 1));
	count_references((Node *) tlist, &context);
	count_references((Node *) quals, &context);

	foreach(lc, inner)
	{
		Node	   *node = (Node *) lfirst(lc);

		attno++;
		while (IsA(node, RelabelType))
			node = (Node *) ((RelabelType *) node)->arg;
		if (context.counts[attno] > 1 && !IsA(node, Var) && !IsA(node, Const))
			result = true;
	}
	pfree(context.counts);
	return result;
}

Expr *
ivm_row_hash_expression(List *columns)
{
	RowExpr    *row = makeNode(RowExpr);
	ListCell   *lc;

	foreach(lc, columns)
	{
		row->args = lappend(row->args, copyObject(lfirst(lc)));
		row->colnames = lappend(row->colnames, makeString(psprintf("c%d", list_length(row->args))));
	}
	row->row_typeid = RECORDOID;
	row->row_format = COERCE_EXPLICIT_CALL;
	row->location = -1;
	return (Expr *) makeFuncExpr(ivm_row_hash_function(), INT8OID, list_make1(row),
								 InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
}
