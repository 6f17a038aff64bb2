/*-------------------------------------------------------------------------
 *
 * explain.c
 *	  The delta plan in EXPLAIN's look.
 *
 * One line for each operator with its number (that of pg_stat_ivm_operator),
 * its properties indented below it, its inputs below these.  A join lists, for
 * each input, how a change of it is walked through the others: what is looked up
 * by which key, and where, with the index that would make a state table
 * unnecessary.  An operator with several readers is shown in full once.
 *
 * Expressions are deparsed by the server, in terms of the input's columns,
 * which carry the tables' names as far up as they come from a table; those above
 * grouping in terms of what is grouped.
 *
 * Needs a transaction.  Memory: result and garbage in the current context.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/value.h"
#include "parser/parsetree.h"
#include "plan/explain.h"
#include "plan/order_key.h"
#include "plan/column.h"
#include "storage/lockdefs.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"

typedef struct ExplainState
{
	IvmPlan    *plan;
	List	   *lines;
	List	   *shown;			/* nodes */
	bool		of_one_node;	/* its properties are wanted, not lines */
	List	   *properties;		/* IvmExplainProperty */
} ExplainState;

typedef struct RawContext
{
	IvmPlanNode *node;
} RawContext;

static void
add_property(ExplainState *state, char *label, char *text, List *values)
{
	IvmExplainProperty *property = (IvmExplainProperty *) palloc(sizeof(IvmExplainProperty));

	property->label = label;
	property->text = text;
	property->values = values;
	state->properties = lappend(state->properties, property);
}

static void
			add_line(ExplainState *state, int indent, const char *format,...) pg_attribute_printf(3, 4);

static void
add_line(ExplainState *state, int indent, const char *format,...)
{
	StringInfoData buffer;
	va_list		args;

	initStringInfo(&buffer);
	appendStringInfoSpaces(&buffer, indent);
	for (;;)
	{
		int			needed;

		va_start(args, format);
		needed = appendStringInfoVA(&buffer, format, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&buffer, needed);
	}
	if (state->of_one_node)
	{
		char	   *colon = indent == 0 ? strstr(buffer.data, ": ") : NULL;

		/* what is below that is told in another way */
		if (colon != NULL)
			add_property(state, pnstrdup(buffer.data, colon - buffer.data), colon + 2, NIL);
	}
	else
		state->lines = lappend(state->lines, buffer.data);
}

char *
ivm_relation_name(Oid relid)
{
	char	   *name = get_rel_name(relid);
	char	   *schema;

	if (name == NULL)
		return psprintf("%u", relid);
	schema = get_namespace_name(get_rel_namespace(relid));
	return quote_qualified_identifier(schema, name);
}

/* ---- expressions ---- */

/* What the rows of a node are called in the query. */
static const char *
node_alias(IvmPlan *plan, IvmPlanNode *node)
{
	Plan	   *tree = node->plan;

	while (tree != NULL)
	{
		switch (nodeTag(tree))
		{
			case T_SeqScan:
			case T_SubqueryScan:
			case T_CteScan:
			case T_ValuesScan:
			case T_FunctionScan:
			case T_TableFuncScan:
				return rt_fetch(((Scan *) tree)->scanrelid, plan->statement->rtable)->eref->aliasname;
			case T_Append:
				tree = ((Append *) tree)->appendplans == NIL ? NULL :
					(Plan *) linitial(((Append *) tree)->appendplans);
				break;
			case T_Result:
			case T_Sort:
			case T_Material:
			case T_Hash:
				tree = tree->lefttree;
				break;
			default:
				tree = NULL;
				break;
		}
	}
	return NULL;
}

static RangeTblEntry *
make_entry(const char *alias, TupleDesc desc)
{
	RangeTblEntry *rte = makeNode(RangeTblEntry);
	List	   *names = NIL;

	for (int i = 0; i < desc->natts; i++)
		names = lappend(names, makeString(pstrdup(NameStr(TupleDescAttr(desc, i)->attname))));
	rte->rtekind = RTE_VALUES;
	rte->eref = makeAlias(alias, names);
	return rte;
}

static bool
name_is_used(List *names, const char *name)
{
	ListCell   *lc;

	foreach(lc, names)
	{
		if (strcmp((char *) lfirst(lc), name) == 0)
			return true;
	}
	return false;
}

/* Different names for the inputs of a node, as C strings. */
static List *
input_names(ExplainState *state, List *inputs)
{
	List	   *names = NIL;
	ListCell   *lc;

	foreach(lc, inputs)
	{
		IvmPlanNode *input = (IvmPlanNode *) lfirst(lc);
		const char *alias = node_alias(state->plan, input);
		char	   *name;

		if (alias == NULL)
			alias = psprintf("node_%d", input->node_id);
		name = pstrdup(alias);
		for (int i = 1; name_is_used(names, name); i++)
			name = psprintf("%s_%d", alias, i);
		names = lappend(names, name);
	}
	return names;
}

/* A context to deparse expressions over the rows of some nodes, or over a scan's table. */
static List *
deparse_context(ExplainState *state, List *inputs, IvmPlanNode *scan)
{
	PlannedStmt *statement = makeNode(PlannedStmt);
	List	   *names = NIL;
	ListCell   *lc;
	ListCell   *lc2;

	if (scan != NULL)
	{
		RangeTblEntry *rte = makeNode(RangeTblEntry);
		const char *alias = node_alias(state->plan, scan);

		if (alias == NULL)
			alias = get_rel_name(scan->relid);
		rte->rtekind = RTE_RELATION;
		rte->relid = scan->relid;
		rte->relkind = get_rel_relkind(scan->relid);
		rte->rellockmode = AccessShareLock;
		rte->eref = makeAlias(alias, NIL);
		statement->rtable = list_make1(rte);
		names = list_make1(pstrdup(alias));
	}

	if (inputs != NIL)
		names = input_names(state, inputs);
	forboth(lc, inputs, lc2, names)
		statement->rtable = lappend(statement->rtable,
									make_entry((char *) lfirst(lc2), ((IvmPlanNode *) lfirst(lc))->desc));
	return deparse_context_for_plan_tree(statement, names);
}

/* The expressions' texts, C strings. */
static List *
expression_texts(List *expressions, List *context, bool prefix)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, expressions)
		result = lappend(result, deparse_expression((Node *) lfirst(lc), context, prefix, false));
	return result;
}

static char *
join_texts(List *texts, const char *separator)
{
	StringInfoData buffer;
	ListCell   *lc;

	initStringInfo(&buffer);
	foreach(lc, texts)
		appendStringInfo(&buffer, "%s%s", lc == list_head(texts) ? "" : separator, (char *) lfirst(lc));
	return buffer.data;
}

static char *
expression_list(List *expressions, List *context, bool prefix, const char *separator)
{
	return join_texts(expression_texts(expressions, context, prefix), separator);
}

/* A line for the expressions, unless there are none. */
static void
add_expressions(ExplainState *state, int indent, char *label, List *expressions, List *context, bool prefix,
				const char *separator)
{
	List	   *texts = expression_texts(expressions, context, prefix);

	if (texts == NIL)
		return;
	if (state->of_one_node)
		add_property(state, label, join_texts(texts, separator), texts);
	else
		add_line(state, indent, "%s: %s", label, join_texts(texts, separator));
}

static Aggref *
shown_call(IvmAggregateCall *call)
{
	return call->shown != NULL ? call->shown : call->aggref;
}

/* Columns of an aggregate's raw row become what they stand for. */
static Node *
raw_mutator(Node *node, RawContext *context)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;
		int			ngroups = list_length(context->node->group_columns);
		Var		   *result;

		if (var->varattno > ngroups)
			return (Node *) copyObject(shown_call((IvmAggregateCall *) list_nth(context->node->calls,
																				var->varattno - ngroups - 1)));
		result = copyObject(var);
		result->varattno = list_nth_int(context->node->group_columns, var->varattno - 1);
		return (Node *) result;
	}
	return expression_tree_mutator(node, raw_mutator, context);
}

static List *
raw_expressions(IvmPlanNode *node, List *expressions)
{
	RawContext	context;

	context.node = node;
	return (List *) raw_mutator((Node *) expressions, &context);
}

/* ---- joins ---- */

/* What it is looked up by. */
static char *
arrangement_keys(ExplainState *state, IvmArrangement *arrangement)
{
	if (arrangement->keys == NIL)
		return pstrdup("every row");
	return psprintf("by %s", expression_list(arrangement->keys,
											 deparse_context (state, list_make1(arrangement->input), NULL),
											 false, ", "));
}

List *
ivm_arrangement_parts(IvmArrangement *arrangement)
{
	List	   *parts = list_copy(arrangement->below);
	ListCell   *lc;
	ListCell   *lc2;

	foreach(lc, arrangement->paths)
	{
		foreach(lc2, ((IvmJoinPath *) lfirst(lc))->stages)
			parts = lappend(parts, ((IvmJoinStage *) lfirst(lc2))->arrangement);
	}
	return parts;
}

static char *arrangement_place(ExplainState *state, IvmArrangement *arrangement);

/* The places where the rows of an arrangement through others come from in the end. */
static void
append_leaves(ExplainState *state, StringInfo buffer, IvmArrangement *arrangement)
{
	ListCell   *lc;

	check_stack_depth();
	if (arrangement->kind != IVM_ARRANGE_THROUGH)
	{
		appendStringInfo(buffer, "%s%s %s, %s", buffer->len > 0 ? "; " : "",
						 quote_identifier((char *) linitial(input_names(state, list_make1(arrangement->input)))),
						 arrangement_keys(state, arrangement), arrangement_place(state, arrangement));
		return;
	}
	foreach(lc, ivm_arrangement_parts(arrangement))
		append_leaves(state, buffer, (IvmArrangement *) lfirst(lc));
}

static char *
arrangement_place(ExplainState *state, IvmArrangement *arrangement)
{
	StringInfoData buffer;
	List	   *seen = NIL;
	bool		some_whole = false;
	ListCell   *lc;

	initStringInfo(&buffer);
	switch (arrangement->kind)
	{
		case IVM_ARRANGE_INDEX:
			foreach(lc, arrangement->probes)
			{
				IvmIndexProbe *probe = (IvmIndexProbe *) lfirst(lc);
				char	   *name;

				if (!OidIsValid(probe->index))
				{
					some_whole = true;
					continue;
				}
				if (list_member_oid(seen, probe->index))
					continue;
				name = get_rel_name(probe->index);
				appendStringInfo(&buffer, "%s%s", seen == NIL ? "" : ", ",
								 name == NULL ? "(dropped)" : quote_identifier(name));
				seen = lappend_oid(seen, probe->index);
			}
			return psprintf("%s %s%s", list_length(seen) > 1 ? "indexes" : "index", buffer.data,
							some_whole ? ", small tables read whole" : "");
		case IVM_ARRANGE_SCAN:
			return pstrdup(arrangement->keys == NIL ? "table read whole" : "small table read whole");
		case IVM_ARRANGE_STATE:
			if (arrangement->whole)
				return psprintf("rows of node %d", arrangement->input->node_id);
			if (arrangement->first_of != NULL)
				return pstrdup("the first of them, in an ordered state table");
			if (arrangement->order != NIL)
				return pstrdup("ordered state table");
			return pstrdup(arrangement->shared ? "shared state table" : "state table");
		case IVM_ARRANGE_OPERATOR:
			return psprintf("%s of node %d", arrangement->input->kind == IVM_AGGREGATE ? "groups" : "rows",
							arrangement->input->node_id);
		case IVM_ARRANGE_THROUGH:
			append_leaves(state, &buffer, arrangement);
			return psprintf("through: %s", buffer.data);
	}
	return NULL;
}

/* What would make a state table unnecessary that is used in the end. */
static void
explain_advice(ExplainState *state, IvmArrangement *arrangement, int indent)
{
	ListCell   *lc;

	if (arrangement->advice != NULL)
		add_line(state, indent, "Advice: %s", arrangement->advice);
	foreach(lc, ivm_arrangement_parts(arrangement))
		explain_advice(state, (IvmArrangement *) lfirst(lc), indent);
}

static void
explain_paths(ExplainState *state, IvmPlanNode *join, int indent)
{
	List	   *names = input_names(state, join->inputs);
	ListCell   *lc;
	ListCell   *lc2;

	foreach(lc, join->paths)
	{
		IvmJoinPath *path = (IvmJoinPath *) lfirst(lc);

		add_line(state, indent, "From %s:", quote_identifier((char *) list_nth(names, path->start)));
		foreach(lc2, path->stages)
		{
			IvmJoinStage *stage = (IvmJoinStage *) lfirst(lc2);
			IvmArrangement *arrangement = stage->arrangement;

			add_line(state, indent + 2, "%s %s  (%s)", quote_identifier((char *) list_nth(names, stage->input)),
					 arrangement_keys(state, arrangement), arrangement_place(state, arrangement));
			explain_advice(state, arrangement, indent + 4);
		}
	}
}

/* ---- nodes ---- */

static void
scan_explain(ExplainState *state, IvmPlanNode *node, int indent)
{
	List	   *context = deparse_context (state, node->inputs, node->kind == IVM_SCAN ? node : NULL);

	add_expressions(state, indent, "Output", node->tlist, context, false, ", ");
	add_expressions(state, indent, "Filter", node->quals, context, false, " AND ");
}

static void
join_explain(ExplainState *state, IvmPlanNode *node, int indent)
{
	List	   *context = deparse_context (state, node->inputs, NULL);

	add_expressions(state, indent, "Output", node->tlist, context, true, ", ");
	add_expressions(state, indent, "Join Cond", node->clauses, context, true, " AND ");
	add_expressions(state, indent, "Filter", node->quals, context, true, " AND ");
	explain_paths(state, node, indent);
}

/* The columns of an order over the rows of a node. */
static char *
order_list(ExplainState *state, List *order, IvmPlanNode *input)
{
	List	   *context = deparse_context (state, list_make1(input), NULL);
	StringInfoData buffer;
	ListCell   *lc;

	initStringInfo(&buffer);
	foreach(lc, order)
	{
		IvmOrderKey *key = (IvmOrderKey *) lfirst(lc);
		bool		descending = false;

		(void) ivm_order_key_class(key, &descending);
		appendStringInfo(&buffer, "%s%s%s%s", buffer.len > 0 ? ", " : "",
						 deparse_expression((Node *) key->expr, context, false, false),
						 descending ? " DESC" : "",
						 key->nulls_first == descending ? "" : key->nulls_first ? " NULLS FIRST" : " NULLS LAST");
	}
	return buffer.data;
}

/* Where the next extreme value is found when one goes, and those of percentiles. */
static void
explain_values(ExplainState *state, IvmPlanNode *node, IvmAccumulatorKind kind, const char *label, int indent)
{
	List	   *shown = NIL;
	StringInfoData buffer;
	ListCell   *lc;

	initStringInfo(&buffer);
	foreach(lc, node->calls)
	{
		IvmAggregateCall *call = (IvmAggregateCall *) lfirst(lc);
		IvmArrangement *extremes = call->extremes;

		if (extremes == NULL || call->kind != kind || list_member_ptr(shown, extremes))
			continue;
		appendStringInfo(&buffer, "%s%s, %s  (%s)", shown == NIL ? "" : "; ", arrangement_keys(state, extremes),
						 order_list(state, list_make1(linitial(extremes->order)), extremes->input),
						 arrangement_place(state, extremes));
		shown = lappend(shown, extremes);
	}
	if (shown != NIL)
		add_line(state, indent, "%s: %s", label, buffer.data);
}

/* Whether groups are stored, and why. */
static void
explain_choice(ExplainState *state, IvmPlanNode *node, int indent)
{
	if (!node->has_choice)
		return;
	if (node->group_rows < 0)
		add_line(state, indent, "Groups: stored  (there were no statistics of their rows)");
	else
		add_line(state, indent, "Groups: %s  (about " INT64_FORMAT " rows each by the statistics)",
				 node->keyed ? "computed from their rows" : "stored", node->group_rows);
}

static void
aggregate_explain(ExplainState *state, IvmPlanNode *node, int indent)
{
	List	   *context = deparse_context (state, node->inputs, NULL);
	IvmPlanNode *input = (IvmPlanNode *) linitial(node->inputs);
	List	   *groups = ivm_columns_of(input->desc, node->group_columns);
	List	   *calls = NIL;
	ListCell   *lc;

	/* those of a set operation count its sides' rows */
	if (node->flag_column == 0)
	{
		foreach(lc, node->calls)
			calls = lappend(calls, shown_call((IvmAggregateCall *) lfirst(lc)));
	}

	add_expressions(state, indent, "Group Key", groups, context, false, ", ");
	add_expressions(state, indent, "Accumulators", calls, context, false, ", ");
	explain_values(state, node, IVM_ACC_EXTREME, "Extremes", indent);
	explain_values(state, node, IVM_ACC_RANK, "Percentiles", indent);
	explain_choice(state, node, indent);
	if (node->rows != NULL)
	{
		add_line(state, indent, "Rows of a group: %s  (%s)", arrangement_keys(state, node->rows),
				 arrangement_place(state, node->rows));
		explain_advice(state, node->rows, indent);
	}
	add_expressions(state, indent, "Filter", raw_expressions(node, node->quals), context, false, " AND ");
	add_expressions(state, indent, "Output", raw_expressions(node, node->tlist), context, false, ", ");
}

static void
topk_explain(ExplainState *state, IvmPlanNode *node, int indent)
{
	IvmArrangement *ordered = node->ordered;

	add_expressions(state, indent, "Distinct On", ordered->keys, deparse_context (state, node->inputs, NULL), false, ", ");
	add_line(state, indent, "Rows: %s by %s  (%s)",
			 quote_identifier((char *) linitial(input_names(state, node->inputs))),
			 order_list(state, ordered->order, ordered->input), arrangement_place(state, ordered));
	explain_advice(state, ordered, indent + 2);
}

static void
recompute_explain(ExplainState *state, IvmPlanNode *node, int indent)
{
	List	   *tables = NIL;
	ListCell   *lc;

	foreach(lc, node->relids)
		tables = lappend(tables, ivm_relation_name(lfirst_oid(lc)));
	add_line(state, indent, "Reason: no delta rule for %s", node->reason->text);
	add_line(state, indent, "Tables: %s", join_texts(tables, ", "));
}

static void
explain_nothing(ExplainState *state, IvmPlanNode *node, int indent)
{
}

#define outer_explain	join_explain
#define map_explain		scan_explain
#define append_explain	explain_nothing
#define static_explain	explain_nothing

#define EXPLAIN(kind, word) [kind] = word##_explain,

static void (*const explain_of_kind[]) (ExplainState *state, IvmPlanNode *node, int indent) = {
	IVM_NODE_KINDS(EXPLAIN)
};

static char *
node_title(ExplainState *state, IvmPlanNode *node)
{
	const char *alias = node_alias(state->plan, node);
	const char *name;

	if (node->kind == IVM_SCAN)
	{
		name = get_rel_name(node->relid);
		if (alias != NULL && name != NULL && strcmp(alias, name) != 0)
			return psprintf("Scan on %s %s", ivm_relation_name(node->relid), quote_identifier(alias));
		return psprintf("Scan on %s", ivm_relation_name(node->relid));
	}
	if (node->kind == IVM_TOPK)
	{
		StringInfoData buffer;

		initStringInfo(&buffer);
		appendStringInfoString(&buffer, ivm_plan_node_name(node));
		if (node->count >= 0)
			appendStringInfo(&buffer, " " INT64_FORMAT, node->count);
		if (node->with_ties)
			appendStringInfoString(&buffer, " with ties");
		if (node->offset > 0)
			appendStringInfo(&buffer, " after " INT64_FORMAT, node->offset);
		appendStringInfo(&buffer, " by %s%s",
						 order_list(state, node->order, (IvmPlanNode *) linitial(node->inputs)),
						 node->with_ties ? "" : ", image");
		return buffer.data;
	}
	if (alias != NULL && (node->kind == IVM_MAP || node->kind == IVM_STATIC))
		return psprintf("%s %s", ivm_plan_node_name(node), quote_identifier(alias));
	return pstrdup(ivm_plan_node_name(node));
}

static void
explain_node(ExplainState *state, IvmPlanNode *node, int indent)
{
	ListCell   *lc;

	check_stack_depth();
	CHECK_FOR_INTERRUPTS();

	if (list_member_ptr(state->shown, node))
	{
		add_line(state, indent, "->  %s  (node=%d, see above)", node_title(state, node), node->node_id);
		return;
	}
	state->shown = lappend(state->shown, node);

	add_line(state, indent, "->  %s  (node=%d)", node_title(state, node), node->node_id);
	indent += 6;

	explain_of_kind[node->kind] (state, node, indent);
	foreach(lc, node->inputs)
		explain_node(state, (IvmPlanNode *) lfirst(lc), indent);
}

/* As many on a line as fit on a screen. */
static void
explain_settings(ExplainState *state, List *settings)
{
	const char *begin = "Settings: ";
	StringInfoData buffer;
	ListCell   *lc;

	initStringInfo(&buffer);
	foreach(lc, settings)
	{
		List	   *pair = (List *) lfirst(lc);
		char	   *setting = psprintf("%s = '%s'%s", strVal(linitial(pair)), strVal(lsecond(pair)),
									   lnext(settings, lc) != NULL ? "," : "");

		if (buffer.len > 0 && buffer.len + strlen(setting) > 70)
		{
			add_line(state, 2, "%s%s", begin, buffer.data);
			begin = "          ";
			resetStringInfo(&buffer);
		}
		appendStringInfo(&buffer, "%s%s", buffer.len > 0 ? " " : "", setting);
	}
	if (buffer.len > 0)
		add_line(state, 2, "%s%s", begin, buffer.data);
}

List *
ivm_plan_node_properties(IvmPlan *plan, IvmPlanNode *node)
{
	ExplainState state = {.plan = plan, .of_one_node = true};

	explain_of_kind[node->kind] (&state, node, 0);
	return state.properties;
}

List *
ivm_arrangement_key_texts(IvmPlan *plan, IvmArrangement *arrangement)
{
	ExplainState state = {.plan = plan};

	return expression_texts(arrangement->keys, deparse_context (&state, list_make1(arrangement->input), NULL), false);
}

char *
ivm_arrangement_place(IvmPlan *plan, IvmArrangement *arrangement)
{
	ExplainState state = {.plan = plan};

	return arrangement_place(&state, arrangement);
}

char *
ivm_arrangement_order_text(IvmPlan *plan, IvmArrangement *arrangement)
{
	ExplainState state = {.plan = plan};

	return arrangement->order == NIL ? NULL : order_list(&state, arrangement->order, arrangement->input);
}

char *
ivm_plan_node_title(IvmPlan *plan, IvmPlanNode *node)
{
	ExplainState state = {.plan = plan};

	return node_title(&state, node);
}

List *
ivm_plan_explain(IvmPlan *plan)
{
	ExplainState state = {0};
	StringInfoData buffer;
	ListCell   *lc;

	state.plan = plan;

	if (OidIsValid(plan->relid))
		add_line(&state, 0, "Incremental View %s", ivm_relation_name(plan->relid));
	else
		add_line(&state, 0, "Incremental View");

	initStringInfo(&buffer);
	foreach(lc, plan->key)
		appendStringInfo(&buffer, "%s%s", lc == list_head(plan->key) ? "" : ", ",
						 quote_identifier(NameStr(TupleDescAttr(plan->root->desc, lfirst_int(lc) - 1)->attname)));
	if (plan->single_row)
		add_line(&state, 2, "Key: none, at most one row");
	else if (plan->key != NIL)
		add_line(&state, 2, "Key: %s", buffer.data);
	else
		add_line(&state, 2, "Key: none, rows are found by their hash");

	explain_node(&state, plan->root, 2);

	explain_settings(&state, plan->settings);
	return state.lines;
}
