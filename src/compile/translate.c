/*-------------------------------------------------------------------------
 *
 * translate.c
 *	  From the planner's plan tree to the delta plan.
 *
 * Each plan node that has a delta rule becomes an operator.  What has none
 * becomes a Recompute over the smallest subtree that can stand alone: its
 * plan can be run by itself (init plans that it needs are attached to a copy
 * of its root; a parameter that comes from further up forces the whole up to
 * there), and its rows have types that can be stored.
 *
 * A subtree that reads no table is Static, whatever it contains.
 *
 * Differences from the planner's tree:
 *
 *	- references are resolved to (input, column), so that a join can be walked
 *	  from any of its inputs;
 *	- nodes that only order, hash or keep rows are skipped;
 *	- projections and filters are merged into the operator below.  Filters stay
 *	  in their order, inner before outer, which is what keeps a condition that
 *	  leaks from seeing rows that a security barrier hides;
 *	- a CTE that is read more than once is one operator with several readers.
 *
 * To add an operator: a case in translate_by_rule, a file here that builds the
 * node, a kind in plan.h with its text, and its file in dataflow.
 *
 * Memory: everything in the plan's context, which is current.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/pg_type.h"
#include "compile/compiler.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "plan/plan_walk.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

typedef struct AttributeContext
{
	Bitmapset  *attributes;		/* positive ones */
	bool		whole_row;
} AttributeContext;

/* ---- nodes ---- */

/* The columns of a plan as a row type, with names where there are any. */
static TupleDesc
make_desc(Plan *plan)
{
	TupleDesc	desc = CreateTemplateTupleDesc(list_length(plan->targetlist));
	ListCell   *lc;

	foreach(lc, plan->targetlist)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		TupleDescInitEntry(desc, tle->resno, tle->resname,
						   exprType((Node *) tle->expr),
						   exprTypmod((Node *) tle->expr), 0);
		TupleDescInitEntryCollation(desc, tle->resno, exprCollation((Node *) tle->expr));
	}
	return desc;
}

void
ivm_node_name_columns(IvmPlanNode *node)
{
	ListCell   *lc;
	int			attno = 0;

	if (node->tlist == NIL)
	{
		TupleDesc	desc = node->inputs == NIL ? NULL : ((IvmPlanNode *) linitial(node->inputs))->desc;

		for (int i = 0; i < node->desc->natts; i++)
		{
			Form_pg_attribute attribute = TupleDescAttr(node->desc, i);

			if (NameStr(attribute->attname)[0] != '\0')
				continue;
			if (desc != NULL && i < desc->natts)
				namestrcpy(&attribute->attname, NameStr(TupleDescAttr(desc, i)->attname));
			else
				snprintf(NameStr(attribute->attname), NAMEDATALEN, "column%d", i + 1);
		}
		return;
	}

	foreach(lc, node->tlist)
	{
		Var		   *var = (Var *) lfirst(lc);
		Form_pg_attribute attribute = TupleDescAttr(node->desc, attno++);
		const char *name = NULL;

		if (NameStr(attribute->attname)[0] != '\0')
			continue;
		if (IsA(var, Var))
			name = ivm_node_kind(node)->column_name(node, var);
		if (name != NULL && name[0] != '\0')
			namestrcpy(&attribute->attname, name);
		else
			snprintf(NameStr(attribute->attname), NAMEDATALEN, "column%d", attno);
	}
}

/* Adds the init plans that set the parameters, and those that they need; false if somebody else sets one. */
static bool
collect_init_plans(IvmCompiler *compiler, Bitmapset *params, List *have, List **needed)
{
	int			param = -1;

	while ((param = bms_next_member(params, param)) >= 0)
	{
		SubPlan    *source = compiler->init_plans[param];
		Plan	   *plan;

		if (source == NULL)
			return false;
		if (list_member_ptr(have, source) || list_member_ptr(*needed, source))
			continue;
		*needed = lappend(*needed, source);
		plan = (Plan *) list_nth(compiler->statement->subplans, source->plan_id - 1);
		if (!collect_init_plans(compiler, plan->extParam, have, needed))
			return false;
	}
	return true;
}

/* The plan as something that can be run alone; NULL if it depends on what is above. */
static Plan *
stand_alone(IvmCompiler *compiler, Plan *plan)
{
	List	   *needed = NIL;
	Plan	   *result;

	if (bms_is_empty(plan->extParam))
		return plan;
	if (!collect_init_plans(compiler, plan->extParam, plan->initPlan, &needed))
		return NULL;
	if (needed == NIL)
		return plan;

	result = copyObject(plan);
	result->initPlan = list_concat(copyObject(needed), result->initPlan);
	result->extParam = NULL;
	return result;
}

static bool
output_can_be_stored(Plan *plan)
{
	ListCell   *lc;

	if (list_length(plan->targetlist) > MaxTupleAttributeNumber)
		return false;
	foreach(lc, plan->targetlist)
	{
		Oid			type = exprType((Node *) lfirst_node(TargetEntry, lc)->expr);

		if (get_typtype(getBaseType(type)) == TYPTYPE_PSEUDO)
			return false;
	}
	return true;
}

IvmPlanNode *
ivm_node_create(IvmCompiler *compiler, IvmNodeKind kind, Plan *plan)
{
	IvmPlanNode *node = (IvmPlanNode *) palloc0(sizeof(IvmPlanNode));

	node->kind = kind;
	node->node_id = -1;
	node->plan = plan;
	node->desc = make_desc(plan);
	return node;
}

/* A node's last touches: a plan that can be run, names. */
static IvmPlanNode *
finish_node(IvmPlanNode *node, Plan *plan, Plan *alone)
{
	/* else it is the node of something below, and finished */
	if (node->plan == plan)
	{
		node->plan = alone;
		ivm_node_name_columns(node);
	}
	return node;
}

static bool
is_shared(IvmCompiler *compiler, IvmPlanNode *node)
{
	for (int i = 0; i < list_length(compiler->statement->subplans); i++)
	{
		if (compiler->shared[i] == node)
			return true;
	}
	return false;
}

static bool
find_attributes(Node *node, AttributeContext *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;

		if (var->varattno > 0)
			context->attributes = bms_add_member(context->attributes, var->varattno);
		else if (var->varattno == 0)
			context->whole_row = true;
		return false;
	}
	return expression_tree_walker(node, find_attributes, context);
}

static void
set_scan_attributes(IvmPlanNode *scan)
{
	AttributeContext context = {0};

	find_attributes((Node *) scan->tlist, &context);
	find_attributes((Node *) scan->quals, &context);
	if (context.whole_row)
	{
		Relation	relation = relation_open(scan->relid, NoLock);
		TupleDesc	desc = RelationGetDescr(relation);

		for (int i = 1; i <= desc->natts; i++)
		{
			if (!TupleDescAttr(desc, i - 1)->attisdropped)
				context.attributes = bms_add_member(context.attributes, i);
		}
		relation_close(relation, NoLock);
	}
	scan->attributes = context.attributes;
}

/*
 * "tlist" and "quals" are over the child's output, as Vars of varno 1.
 */
IvmPlanNode *
ivm_node_map(IvmCompiler *compiler, IvmPlanNode *child, List *tlist, List *quals, Plan *plan)
{
	IvmPlanNode *node;
	bool		merge;

	if (quals == NIL && ivm_tlist_is_identity(tlist, 1, child->desc->natts))
	{
		/* the same rows; take over names that the child does not have */
		return child;
	}

	merge = !is_shared(compiler, child) && ivm_node_kind(child)->absorbs(quals) &&
		!ivm_substitution_repeats_work(tlist, quals, child->tlist);
	node = ivm_node_create(compiler, IVM_MAP, plan);
	if (merge)
	{
		IvmPlanNode own = *node;
		List	   *lists[1];

		lists[0] = child->tlist;
		*node = *child;
		node->plan = own.plan;
		node->desc = own.desc;
		node->tlist = (List *) ivm_expression_substitute((Node *) tlist, 1, lists);
		node->quals = list_concat_copy(child->quals,
									   (List *) ivm_expression_substitute((Node *) quals, 1, lists));
		if (node->kind == IVM_SCAN)
			set_scan_attributes(node);
	}
	else
	{
		node->inputs = list_make1(child);
		node->tlist = tlist;
		node->quals = quals;
	}
	return node;
}

/* ---- plan nodes ---- */

Plan *
ivm_plan_skip_passive(Plan *plan)
{
	for (;;)
	{
		switch (nodeTag(plan))
		{
			case T_Hash:
			case T_Material:
			case T_Sort:
			case T_IncrementalSort:
				if (plan->initPlan != NIL ||
					list_length(plan->lefttree->targetlist) != list_length(plan->targetlist))
					return plan;
				plan = plan->lefttree;
				break;
			default:
				return plan;
		}
	}
}

static IvmPlanNode *
translate_scan(IvmCompiler *compiler, Plan *plan)
{
	Index		scanrelid = ((Scan *) plan)->scanrelid;
	List	   *expressions = ivm_tlist_expressions(plan->targetlist);
	IvmPlanNode *node;

	if (!ivm_expression_is_plain(compiler, (Node *) expressions) ||
		!ivm_expression_is_plain(compiler, (Node *) plan->qual))
		return NULL;

	node = ivm_node_create(compiler, IVM_SCAN, plan);
	node->relid = rt_fetch(scanrelid, compiler->statement->rtable)->relid;
	node->relids = list_make1_oid(node->relid);
	node->tlist = (List *) ivm_expression_renumber((Node *) expressions, scanrelid, 1);
	node->quals = (List *) ivm_expression_renumber((Node *) plan->qual, scanrelid, 1);
	set_scan_attributes(node);
	return node;
}

/* Result, SubqueryScan, CteScan: a filter and a projection of one input. */
static IvmPlanNode *
translate_map(IvmCompiler *compiler, Plan *plan, IvmPlanNode *child, int varno, Node *constant_qual)
{
	List	   *expressions = ivm_tlist_expressions(plan->targetlist);
	List	   *quals = list_concat_copy((List *) constant_qual, plan->qual);

	if (child == NULL)
		return NULL;
	if (!ivm_expression_is_plain(compiler, (Node *) expressions) ||
		!ivm_expression_is_plain(compiler, (Node *) quals))
		return NULL;

	return ivm_node_map(compiler, child,
						(List *) ivm_expression_renumber((Node *) expressions, varno, 1),
						(List *) ivm_expression_renumber((Node *) quals, varno, 1),
						plan);
}

static IvmPlanNode *
translate_append(IvmCompiler *compiler, Plan *plan, List *children)
{
	List	   *inputs = NIL;
	IvmPlanNode *node;
	ListCell   *lc;

	foreach(lc, children)
	{
		Plan	   *child = ivm_plan_skip_passive((Plan *) lfirst(lc));
		IvmPlanNode *input = ivm_translate(compiler, child);

		if (input == NULL)
			return NULL;
		if (input->desc->natts != list_length(plan->targetlist))
			elog(ERROR, "input of an append has %d columns instead of %d",
				 input->desc->natts, list_length(plan->targetlist));
		if (input->kind == IVM_APPEND && !is_shared(compiler, input))
			inputs = list_concat(inputs, input->inputs);
		else
			inputs = lappend(inputs, input);
	}
	if (inputs == NIL)
		return NULL;

	node = ivm_node_create(compiler, IVM_APPEND, plan);
	node->inputs = inputs;
	return node;
}

/* The operator of a CTE, made when its first reader is met. */
static IvmPlanNode *
translate_cte(IvmCompiler *compiler, int subplan)
{
	int			i = subplan - 1;

	if (compiler->shared[i] == NULL && !compiler->shared_failed[i])
	{
		compiler->shared[i] = ivm_translate(compiler,
											ivm_plan_skip_passive((Plan *) list_nth(compiler->statement->subplans, i)));
		if (compiler->shared[i] == NULL)
		{
			compiler->shared_failed[i] = true;
			compiler->shared_reason[i] = compiler->reason;
		}
	}
	if (compiler->shared_failed[i])
		compiler->reason = compiler->shared_reason[i];
	return compiler->shared[i];
}

/* Why a node without a delta rule has none. */
static IvmReason *
missing_rule(Plan *plan)
{
	switch (nodeTag(plan))
	{
		case T_WindowAgg:
			return ivm_reason(IVM_REASON_WINDOW_FUNCTION, "a window function");
		case T_RecursiveUnion:
		case T_WorkTableScan:
			return ivm_reason(IVM_REASON_RECURSION, "a recursive query");
		case T_ProjectSet:
			return ivm_reason(IVM_REASON_SET_RETURNING_FUNCTION, "a set-returning function in the target list");
		case T_FunctionScan:
			return ivm_reason(IVM_REASON_LATERAL_FUNCTION, "a function in FROM that depends on other tables");
		case T_TableFuncScan:
			return ivm_reason(IVM_REASON_LATERAL_TABLE_FUNCTION, "a table function that depends on other tables");
		case T_ValuesScan:
			return ivm_reason(IVM_REASON_LATERAL_VALUES, "VALUES that depend on tables");
		case T_Result:
			return ivm_reason(IVM_REASON_SUBQUERY, "a subquery in an expression");
		case T_NestLoop:
		case T_HashJoin:
		case T_MergeJoin:
			return ivm_reason(IVM_REASON_LATERAL_JOIN, "a lateral join");
		default:
			return ivm_reason(IVM_REASON_PLAN_NODE, "a plan node of type %d", (int) nodeTag(plan));
	}
}

/* The operator of a plan node by its delta rule, or NULL with the reason set. */
static IvmPlanNode *
translate_by_rule(IvmCompiler *compiler, Plan *plan)
{
	IvmPlanNode *result;

	switch (nodeTag(plan))
	{
		case T_SeqScan:
			return translate_scan(compiler, plan);

		case T_Result:
			if (plan->lefttree != NULL)
				return translate_map(compiler, plan,
									 ivm_translate(compiler, ivm_plan_skip_passive(plan->lefttree)),
									 OUTER_VAR, ((Result *) plan)->resconstantqual);
			break;

		case T_SubqueryScan:
			return translate_map(compiler, plan,
								 ivm_translate(compiler, ivm_plan_skip_passive(((SubqueryScan *) plan)->subplan)),
								 ((Scan *) plan)->scanrelid, NULL);

		case T_CteScan:
			result = translate_cte(compiler, ((CteScan *) plan)->ctePlanId);
			if (result == NULL)
				return NULL;
			return translate_map(compiler, plan, result, ((Scan *) plan)->scanrelid, NULL);

		case T_Append:
			return translate_append(compiler, plan, ((Append *) plan)->appendplans);

		case T_MergeAppend:
			return translate_append(compiler, plan, ((MergeAppend *) plan)->mergeplans);

		case T_Hash:
		case T_Material:
		case T_Sort:
		case T_IncrementalSort:
			if (list_length(plan->lefttree->targetlist) == list_length(plan->targetlist))
				return ivm_translate(compiler, plan->lefttree);
			break;

		case T_HashJoin:
		case T_NestLoop:
		case T_MergeJoin:
			result = ivm_translate_join(compiler, plan);
			if (result == NULL && compiler->reason == NULL)
				result = ivm_translate_outer(compiler, plan);
			if (result != NULL || compiler->reason != NULL)
				return result;
			break;

		case T_Agg:
			return ivm_translate_aggregate(compiler, plan);

		case T_Group:
			return ivm_translate_group(compiler, plan);

		case T_Unique:
			return ivm_translate_unique(compiler, plan);

		case T_Limit:
			return ivm_translate_limit(compiler, plan);

		case T_SetOp:
			return ivm_translate_set_operation(compiler, plan);

		default:
			break;
	}

	compiler->reason = missing_rule(plan);
	return NULL;
}

IvmPlanNode *
ivm_translate(IvmCompiler *compiler, Plan *plan)
{
	IvmPlanNode *node;
	Plan	   *alone;
	List	   *relids;

	check_stack_depth();
	CHECK_FOR_INTERRUPTS();

	compiler->reason = NULL;
	if (!output_can_be_stored(plan))
	{
		compiler->reason = ivm_reason(IVM_REASON_NOT_STORABLE, "rows that cannot be stored");
		return NULL;
	}
	alone = stand_alone(compiler, plan);
	if (alone == NULL)
	{
		compiler->reason = ivm_reason(IVM_REASON_CORRELATED_SUBQUERY, "a correlated subquery");
		return NULL;
	}

	/* tables that only an init plan reads count too */
	relids = ivm_plan_relids(compiler->statement, alone);
	if (relids == NIL)
		return finish_node(ivm_node_create(compiler, IVM_STATIC, plan), plan, alone);

	node = translate_by_rule(compiler, plan);
	if (node == NULL)
	{
		node = ivm_node_create(compiler, IVM_RECOMPUTE, plan);
		node->relids = relids;
		node->reason = compiler->reason;
	}
	return finish_node(node, plan, alone);
}
