/*-------------------------------------------------------------------------
 *
 * grouping_sets.c
 *	  GROUPING SETS, ROLLUP and CUBE: an aggregate for each set over one shared input, and an append of them.
 *
 * The planner makes an Agg for some of the sets, with others chained to it, one for each pass that the executor
 * would make.  All of them read the same rows: a Sort below a chained one has no input of its own.  A pass that
 * hashes has one set with all its columns; one that sorts, or needs no order, has several, each with the
 * first few of the pass's columns.
 *
 * In the target list and in HAVING, outside of aggregate calls, a column that is in some set but not in this one
 * is NULL, and GROUPING() is a constant: a bit for each of its arguments, 1 if that is not in the set.
 * The set without columns is one group, also over no rows.  A set that is named twice gives its rows twice.
 *
 * Memory: everything in the plan's context, which is current.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "compile/compiler.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"

/* One set. */
typedef struct PassSet
{
	Agg		   *pass;
	int			ncolumns;		/* the first ones of the pass */
} PassSet;

/* While the expressions of the node become those of one set. */
typedef struct SetContext
{
	Bitmapset  *all;			/* columns of the input that are in any set */
	Bitmapset  *own;			/* in this one */
} SetContext;

static PassSet *
make_set(Agg *pass, int ncolumns)
{
	PassSet *set = (PassSet *) palloc(sizeof(PassSet));

	set->pass = pass;
	set->ncolumns = ncolumns;
	return set;
}

/* Appends the sets of a pass. */
static List *
add_pass(List *sets, Agg *pass)
{
	ListCell   *lc;

	if (pass->aggstrategy == AGG_HASHED || pass->aggstrategy == AGG_MIXED)
		return lappend(sets, make_set(pass, pass->numCols));
	foreach(lc, pass->groupingSets)
		sets = lappend(sets, make_set(pass, list_length((List *) lfirst(lc))));
	return sets;
}

static Bitmapset *
set_columns(PassSet *set)
{
	Bitmapset  *columns = NULL;

	for (int i = 0; i < set->ncolumns; i++)
		columns = bms_add_member(columns, set->pass->grpColIdx[i]);
	return columns;
}

static Node *
set_mutator(Node *node, SetContext *context)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;

		if (bms_is_member(var->varattno, context->all) && !bms_is_member(var->varattno, context->own))
			return (Node *) makeNullConst(var->vartype, var->vartypmod, var->varcollid);
		return (Node *) copyObject(var);
	}
	if (IsA(node, Aggref))
	{
		Aggref	   *aggref = copyObject((Aggref *) node);

		/* its other arguments read the input's rows as they are */
		aggref->aggdirectargs = (List *) set_mutator((Node *) aggref->aggdirectargs, context);
		return (Node *) aggref;
	}
	if (IsA(node, GroupingFunc))
	{
		int			bits = 0;
		ListCell   *lc;

		foreach(lc, ((GroupingFunc *) node)->cols)
			bits = (bits << 1) | (bms_is_member(lfirst_int(lc), context->own) ? 0 : 1);
		return (Node *) makeConst(INT4OID, -1, InvalidOid, sizeof(int32), Int32GetDatum(bits), false, true);
	}
	return expression_tree_mutator(node, set_mutator, context);
}

/* The aggregate of one set. */
static IvmPlanNode *
translate_set(IvmCompiler *compiler, Plan *plan, IvmPlanNode *input, PassSet *set, Bitmapset *all)
{
	SetContext	context;
	IvmPlanNode *node;

	context.all = all;
	context.own = set_columns(set);
	node = ivm_group_node_over(compiler, plan, input, set->ncolumns, set->pass->grpColIdx,
							   set->pass->grpOperators, set->pass->grpCollations);
	node->grand = set->ncolumns == 0;
	return ivm_group_node_finish(compiler, node, (List *) set_mutator((Node *) plan->targetlist, &context),
								 (List *) set_mutator((Node *) plan->qual, &context));
}

IvmPlanNode *
ivm_translate_grouping_sets(IvmCompiler *compiler, Plan *plan)
{
	List	   *sets = add_pass(NIL, (Agg *) plan);
	List	   *nodes = NIL;
	Bitmapset  *all = NULL;
	IvmPlanNode *input;
	IvmPlanNode *result;
	ListCell   *lc;

	foreach(lc, ((Agg *) plan)->chain)
		sets = add_pass(sets, lfirst_node(Agg, lc));
	foreach(lc, sets)
		all = bms_add_members(all, set_columns((PassSet *) lfirst(lc)));

	input = ivm_translate(compiler, ivm_plan_skip_passive(plan->lefttree));
	if (input == NULL)
		return NULL;
	foreach(lc, sets)
	{
		IvmPlanNode *node = translate_set(compiler, plan, input, (PassSet *) lfirst(lc), all);

		if (node == NULL)
			return NULL;
		nodes = lappend(nodes, node);
	}
	if (list_length(nodes) == 1)
		return (IvmPlanNode *) linitial(nodes);

	foreach(lc, nodes)
	{
		IvmPlanNode *node = (IvmPlanNode *) lfirst(lc);

		/* the planner's tree gives the rows of all sets */
		node->plan = NULL;
		ivm_node_name_columns(node);
	}
	result = ivm_node_create(compiler, IVM_APPEND, plan);
	result->inputs = nodes;
	return result;
}
