/*-------------------------------------------------------------------------
 *
 * explain_json.c
 *	  A delta plan as a JSON document, for programs.
 *
 *		incremental		no part of it is recomputed
 *		recomputed		those that are, with the code of the reason (README.md has them all)
 *		key, single_row	how rows of the view are found
 *		nodes			operators, inputs before their readers: kind, title, inputs, what the kind has besides, and
 *						"lookups": when rows of "from" change, which other rows are looked up, in this order
 *		arrangements	where lookups go; "through" names the arrangements that one ends at
 *		state_tables	what is stored, by nodes and by arrangements; "name" is null before the view exists
 *
 * Nodes are told by node_id, as in pg_stat_ivm_operator, arrangements by their place.  Names of properties
 * are those of the text format in lower case.
 *
 * Memory: result and garbage in the current context.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "lib/stringinfo.h"
#include "nodes/value.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/lsyscache.h"

#include "arrange/arrange.h"
#include "dataflow/dataflow.h"
#include "ddl/statement.h"
#include "metadata/metadata.h"
#include "plan/explain.h"

typedef struct JsonWriter
{
	StringInfoData buffer;
	int			depth;
	bool		first;			/* nothing is yet in what is open */
} JsonWriter;

/* ---- writing ---- */

/* The next element; "name" is NULL in an array. */
static void
begin_element(JsonWriter *writer, const char *name)
{
	if (writer->depth > 0)
	{
		appendStringInfoString(&writer->buffer, writer->first ? "\n" : ",\n");
		appendStringInfoSpaces(&writer->buffer, writer->depth * 2);
	}
	if (name != NULL)
	{
		escape_json(&writer->buffer, name);
		appendStringInfoString(&writer->buffer, ": ");
	}
	writer->first = false;
}

static void
open_group(JsonWriter *writer, const char *name, char bracket)
{
	begin_element(writer, name);
	appendStringInfoChar(&writer->buffer, bracket);
	writer->depth++;
	writer->first = true;
}

static void
close_group(JsonWriter *writer, char bracket)
{
	writer->depth--;
	if (!writer->first)
	{
		appendStringInfoChar(&writer->buffer, '\n');
		appendStringInfoSpaces(&writer->buffer, writer->depth * 2);
	}
	appendStringInfoChar(&writer->buffer, bracket);
	writer->first = false;
}

static void
put_string(JsonWriter *writer, const char *name, const char *value)
{
	begin_element(writer, name);
	if (value == NULL)
		appendStringInfoString(&writer->buffer, "null");
	else
		escape_json(&writer->buffer, value);
}

static void
put_integer(JsonWriter *writer, const char *name, int value)
{
	begin_element(writer, name);
	appendStringInfo(&writer->buffer, "%d", value);
}

static void
put_bool(JsonWriter *writer, const char *name, bool value)
{
	begin_element(writer, name);
	appendStringInfoString(&writer->buffer, value ? "true" : "false");
}

/* An array of C strings, or of integers, in one line. */
static void
put_list(JsonWriter *writer, const char *name, List *values)
{
	ListCell   *lc;

	begin_element(writer, name);
	appendStringInfoChar(&writer->buffer, '[');
	foreach(lc, values)
	{
		if (lc != list_head(values))
			appendStringInfoString(&writer->buffer, ", ");
		if (IsA(values, IntList))
			appendStringInfo(&writer->buffer, "%d", lfirst_int(lc));
		else
			escape_json(&writer->buffer, (char *) lfirst(lc));
	}
	appendStringInfoChar(&writer->buffer, ']');
}

/* ---- parts of the plan ---- */

static int
arrangement_number(IvmPlan *plan, IvmArrangement *arrangement)
{
	int			number = 0;
	ListCell   *lc;

	foreach(lc, plan->arrangements)
	{
		if (lfirst(lc) == arrangement)
			return number;
		number++;
	}
	elog(ERROR, "an arrangement is not in its plan");
	return -1;					/* keep compiler quiet */
}

/* The state table's name with its schema; NULL if there is none of that name. */
static char *
state_table_name(const char *name)
{
	Oid			schema = get_namespace_oid(IVM_STATE_SCHEMA, true);

	if (!OidIsValid(schema) || !OidIsValid(get_relname_relid(name, schema)))
		return NULL;
	return quote_qualified_identifier(IVM_STATE_SCHEMA, name);
}

static List *
table_names(List *relids)
{
	List	   *names = NIL;
	ListCell   *lc;

	foreach(lc, relids)
		names = lappend(names, ivm_relation_name(lfirst_oid(lc)));
	return names;
}

static void
put_reason(JsonWriter *writer, IvmPlanNode *node)
{
	put_string(writer, "code", ivm_reason_name(node->reason));
	put_string(writer, "reason", node->reason->text);
	put_list(writer, "tables", table_names(node->relids));
}

static void
put_lookup(JsonWriter *writer, IvmPlan *plan, IvmPlanNode *from, IvmArrangement *arrangement)
{
	open_group(writer, NULL, '{');
	put_integer(writer, "from", from->node_id);
	put_integer(writer, "rows_of", arrangement->input->node_id);
	put_integer(writer, "arrangement", arrangement_number(plan, arrangement));
	close_group(writer, '}');
}

static void
put_lookups(JsonWriter *writer, IvmPlan *plan, IvmPlanNode *node)
{
	/* an aggregate's groups, and what comes next in an order, are looked up in the input that changed */
	List	   *own = NIL;
	ListCell   *lc;
	ListCell   *lc2;

	if (node->rows != NULL)
		own = lappend(own, node->rows);
	if (node->ordered != NULL)
		own = lappend(own, node->ordered);
	foreach(lc, node->calls)
	{
		IvmAggregateCall *call = (IvmAggregateCall *) lfirst(lc);

		if (call->extremes != NULL)
			own = list_append_unique_ptr(own, call->extremes);
	}
	if (node->paths == NIL && own == NIL)
		return;
	open_group(writer, "lookups", '[');
	foreach(lc, own)
		put_lookup(writer, plan, (IvmPlanNode *) linitial(node->inputs), (IvmArrangement *) lfirst(lc));
	foreach(lc, node->paths)
	{
		IvmJoinPath *path = (IvmJoinPath *) lfirst(lc);

		foreach(lc2, path->stages)
			put_lookup(writer, plan, (IvmPlanNode *) list_nth(node->inputs, path->start),
					   ((IvmJoinStage *) lfirst(lc2))->arrangement);
	}
	close_group(writer, ']');
}

/* "Group Key" is group_key. */
static char *
property_name(const char *label)
{
	char	   *name = pstrdup(label);

	for (char *c = name; *c != '\0'; c++)
		*c = *c == ' ' ? '_' : pg_tolower((unsigned char) *c);
	return name;
}

static void
put_node(JsonWriter *writer, IvmPlan *plan, IvmPlanNode *node)
{
	List	   *inputs = NIL;
	ListCell   *lc;

	foreach(lc, node->inputs)
		inputs = lappend_int(inputs, ((IvmPlanNode *) lfirst(lc))->node_id);

	open_group(writer, NULL, '{');
	put_integer(writer, "node_id", node->node_id);
	put_string(writer, "kind", ivm_plan_node_name(node));
	put_list(writer, "inputs", inputs);
	if (node->kind == IVM_SCAN)
		put_string(writer, "table", ivm_relation_name(node->relid));
	put_string(writer, "title", ivm_plan_node_title(plan, node));
	if (node->kind == IVM_RECOMPUTE)
		put_reason(writer, node);
	else
	{
		foreach(lc, ivm_plan_node_properties(plan, node))
		{
			IvmExplainProperty *property = (IvmExplainProperty *) lfirst(lc);
			char	   *name = property_name(property->label);

			if (property->values != NIL)
				put_list(writer, name, property->values);
			else
				put_string(writer, name, property->text);
		}
	}
	put_lookups(writer, plan, node);
	close_group(writer, '}');
}

static void
put_arrangement(JsonWriter *writer, IvmPlan *plan, IvmArrangement *arrangement)
{
	static const char *const kinds[] = {
		[IVM_ARRANGE_INDEX] = "index",
		[IVM_ARRANGE_SCAN] = "table",
		[IVM_ARRANGE_STATE] = "state_table",
		[IVM_ARRANGE_OPERATOR] = "operator",
		[IVM_ARRANGE_THROUGH] = "through"
	};
	List	   *through = NIL;
	ListCell   *lc;

	foreach(lc, ivm_arrangement_parts(arrangement))
		through = list_append_unique_int(through, arrangement_number(plan, (IvmArrangement *) lfirst(lc)));

	open_group(writer, NULL, '{');
	put_integer(writer, "arrangement", arrangement_number(plan, arrangement));
	put_integer(writer, "rows_of", arrangement->input->node_id);
	put_list(writer, "by", ivm_arrangement_key_texts(plan, arrangement));
	if (arrangement->order != NIL)
		put_string(writer, "order", ivm_arrangement_order_text(plan, arrangement));
	put_string(writer, "kind", kinds[arrangement->kind]);
	put_string(writer, "place", ivm_arrangement_place(plan, arrangement));
	if (arrangement->kind == IVM_ARRANGE_INDEX)
	{
		List	   *indexes = NIL;

		foreach(lc, arrangement->probes)
		{
			Oid			index = ((IvmIndexProbe *) lfirst(lc))->index;

			if (OidIsValid(index))
				indexes = list_append_unique_oid(indexes, index);
		}
		put_list(writer, "indexes", table_names(indexes));
	}
	if (arrangement->kind == IVM_ARRANGE_STATE)
		put_bool(writer, "shared", arrangement->shared);
	if (arrangement->kind == IVM_ARRANGE_THROUGH)
		put_list(writer, "through", through);
	if (arrangement->advice != NULL)
		put_string(writer, "advice", arrangement->advice);
	close_group(writer, '}');
}

static void
put_state_tables(JsonWriter *writer, IvmPlan *plan)
{
	ListCell   *lc;

	open_group(writer, "state_tables", '[');
	foreach(lc, plan->nodes)
	{
		IvmPlanNode *node = (IvmPlanNode *) lfirst(lc);
		char	   *name = ivm_node_state_name(node, plan->relid);

		if (name == NULL)
			continue;
		open_group(writer, NULL, '{');
		put_integer(writer, "node_id", node->node_id);
		put_string(writer, "name", state_table_name(name));
		close_group(writer, '}');
	}
	foreach(lc, plan->arrangements)
	{
		IvmArrangement *arrangement = (IvmArrangement *) lfirst(lc);

		/* what is an operator's own has been told */
		if (arrangement->kind != IVM_ARRANGE_STATE || arrangement->whole)
			continue;
		open_group(writer, NULL, '{');
		put_integer(writer, "arrangement", arrangement_number(plan, arrangement));
		put_string(writer, "name", state_table_name(ivm_arrangement_state_name(arrangement, plan->relid)));
		close_group(writer, '}');
	}
	close_group(writer, ']');
}

/* ---- the document ---- */

char *
ivm_explain_json(IvmPlan *plan)
{
	JsonWriter	writer = {.depth = 0};
	List	   *key = NIL;
	List	   *recomputed = NIL;
	ListCell   *lc;

	initStringInfo(&writer.buffer);
	foreach(lc, plan->key)
		key = lappend(key, NameStr(TupleDescAttr(plan->root->desc, lfirst_int(lc) - 1)->attname));
	foreach(lc, plan->nodes)
	{
		if (((IvmPlanNode *) lfirst(lc))->kind == IVM_RECOMPUTE)
			recomputed = lappend(recomputed, lfirst(lc));
	}

	open_group(&writer, NULL, '{');
	put_string(&writer, "view", OidIsValid(plan->relid) ? ivm_relation_name(plan->relid) : NULL);
	put_bool(&writer, "incremental", recomputed == NIL);
	open_group(&writer, "recomputed", '[');
	foreach(lc, recomputed)
	{
		IvmPlanNode *node = (IvmPlanNode *) lfirst(lc);

		open_group(&writer, NULL, '{');
		put_integer(&writer, "node_id", node->node_id);
		put_reason(&writer, node);
		close_group(&writer, '}');
	}
	close_group(&writer, ']');
	put_list(&writer, "key", key);
	put_bool(&writer, "single_row", plan->single_row);
	put_integer(&writer, "root", plan->root->node_id);
	open_group(&writer, "nodes", '[');
	foreach(lc, plan->nodes)
		put_node(&writer, plan, (IvmPlanNode *) lfirst(lc));
	close_group(&writer, ']');
	open_group(&writer, "arrangements", '[');
	foreach(lc, plan->arrangements)
		put_arrangement(&writer, plan, (IvmArrangement *) lfirst(lc));
	close_group(&writer, ']');
	put_state_tables(&writer, plan);
	open_group(&writer, "settings", '{');
	foreach(lc, plan->settings)
		put_string(&writer, strVal(linitial((List *) lfirst(lc))), strVal(lsecond((List *) lfirst(lc))));
	close_group(&writer, '}');
	close_group(&writer, '}');
	return writer.buffer.data;
}
