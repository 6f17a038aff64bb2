/*-------------------------------------------------------------------------
 *
 * node_text.c
 *	  Deterministic text of delta plans, and the digests that name state tables.
 *
 * A plan is compiled wherever it is needed, and compared with the one that the
 * view was filled by through its text: equal texts mean that the view's
 * contents and its state tables go on being right.  So the text has everything
 * that decides about rows, and nothing else:
 *
 *	- the format of state, since what was written in another cannot be read;
 *	- operators and their expressions (plan_text.c);
 *	- for a recomputed part the planner's subtree;
 *	- private arrangements, since their state tables hold what they say;
 *	- the key, since the view's index relies on it;
 *	- where statistics decided whether groups are stored, how they did;
 *
 * but not which index serves an arrangement, or that the table is small, and not
 * which partitions or children a table has: of the scans of a tree there is one
 * text, in terms of the table that the query names, if it is the same for
 * all.  The tree's members are in the fingerprint.
 *
 * A digest is of one node's text and of its inputs' digests: of all that decides about its rows, and
 * of nothing that stands above it or beside it.  So a state table has the same name whatever the rest of the
 * plan is like.  The format is in the digest: no table of another format is ever opened.
 *
 * The text is never read back, but for its first line.
 *
 * Memory: results, and garbage, in the current context.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "plan/order_key.h"
#include "plan/plan_text.h"
#include "plan/shape.h"

/*
 * The format of state: of texts, and of what is in state tables.  To be increased with each
 * change of these; then every view is rebuilt when it is next loaded.
 */
#define STATE_FORMAT 5

/* Where the text of a node goes. */
typedef struct NodeText
{
	StringInfoData buffer;
	bool		of_tree;		/* a scan is told in terms of its tree's table */
	PlannedStmt *statement;		/* NULL: subtrees of the planner are left out */
} NodeText;

/* ---- what decides about a node's rows, but for its inputs ---- */

static void
append_integers(StringInfo buffer, const char *label, List *list)
{
	ListCell   *lc;

	if (list == NIL)
		return;
	appendStringInfo(buffer, " %s (", label);
	foreach(lc, list)
		appendStringInfo(buffer, "%s%u", lc == list_head(list) ? "" : " ",
						 IsA(list, OidList) ? lfirst_oid(lc) : (Oid) lfirst_int(lc));
	appendStringInfoChar(buffer, ')');
}

static void
map_text(NodeText *text, IvmPlanNode *node)
{
	ivm_text_append_row_type(&text->buffer, node);
	ivm_text_append_expressions(&text->buffer, "columns", node->tlist);
	ivm_text_append_expressions(&text->buffer, "filter", node->quals);
}

#define append_text map_text

static void
scan_text(NodeText *text, IvmPlanNode *node)
{
	if (text->of_tree && OidIsValid(node->tree))
		appendStringInfoString(&text->buffer, ivm_scan_text(node));
	else
	{
		appendStringInfo(&text->buffer, " member %u", node->relid);
		map_text(text, node);
	}
}

static void
join_text(NodeText *text, IvmPlanNode *node)
{
	map_text(text, node);
	ivm_text_append_expressions(&text->buffer, "clauses", node->clauses);
}

static void
outer_text(NodeText *text, IvmPlanNode *node)
{
	join_text(text, node);
	appendStringInfo(&text->buffer, " type %d", (int) node->jointype);
}

static void
aggregate_text(NodeText *text, IvmPlanNode *node)
{
	ListCell   *lc;

	map_text(text, node);
	if (node->grand)
		appendStringInfoString(&text->buffer, " grand");
	append_integers(&text->buffer, "group", node->group_columns);
	append_integers(&text->buffer, "operators", node->group_operators);
	append_integers(&text->buffer, "collations", node->group_collations);
	if (node->flag_column != 0)
		appendStringInfo(&text->buffer, " set operation %d by %d", (int) node->set_operation, node->flag_column);
	foreach(lc, node->calls)
	{
		IvmAggregateCall *call = (IvmAggregateCall *) lfirst(lc);

		appendStringInfo(&text->buffer, " call %d %s", (int) call->kind,
						 ivm_expression_text((Node *) call->aggref));
	}
}

static void
topk_text(NodeText *text, IvmPlanNode *node)
{
	map_text(text, node);
	append_integers(&text->buffer, "key", node->key_columns);
	append_integers(&text->buffer, "operators", node->key_operators);
	append_integers(&text->buffer, "collations", node->key_collations);
	ivm_order_append_text(&text->buffer, node->order);
	appendStringInfo(&text->buffer, " offset " INT64_FORMAT " count " INT64_FORMAT "%s", node->offset, node->count,
					 node->with_ties ? " with ties" : "");
}

/*
 * Without a statement the subtree cannot be written; whoever asks for a node's text alone
 * asks for scans and appends of them.
 */
static void
static_text(NodeText *text, IvmPlanNode *node)
{
	map_text(text, node);
	if (text->statement != NULL)
		appendStringInfo(&text->buffer, " plan %s", ivm_subplan_text(text->statement, node->plan));
}

#define recompute_text static_text

#define TEXT(kind, word) [kind] = word##_text,

static void (*const text_of_kind[]) (NodeText *text, IvmPlanNode *node) = {
	IVM_NODE_KINDS(TEXT)
};

/* ---- names ---- */

static const char *
aggregate_name(IvmPlanNode *node)
{
	if (node->flag_column != 0)
	{
		switch (node->set_operation)
		{
			case SETOPCMD_INTERSECT:
				return "Intersect";
			case SETOPCMD_INTERSECT_ALL:
				return "Intersect All";
			case SETOPCMD_EXCEPT:
				return "Except";
			case SETOPCMD_EXCEPT_ALL:
				return "Except All";
		}
	}
	return node->calls == NIL && !node->grand ? "Distinct" : "Aggregate";
}

static const char *
outer_name(IvmPlanNode *node)
{
	switch (node->jointype)
	{
		case JOIN_LEFT:
			return "Left Join";
		case JOIN_FULL:
			return "Full Join";
		case JOIN_SEMI:
			return "Semi Join";
		default:
			return "Anti Join";
	}
}

#define scan_name(node)			"Scan"
#define map_name(node)			"Map"
#define append_name(node)		"Append"
#define join_name(node)			"Join"
#define topk_name(node)			"Top"
#define recompute_name(node)	"Recompute"
#define static_name(node)		"Static"

const char *
ivm_plan_node_name(IvmPlanNode *node)
{
#define NAME(kind, word) case kind: return word##_name(node);

	switch (node->kind)
	{
		IVM_NODE_KINDS(NAME)
	}
	return "?";
}

/* ---- texts ---- */

static void
append_own(NodeText *text, IvmPlanNode *node)
{
	appendStringInfo(&text->buffer, " %s", ivm_plan_node_name(node));
	text_of_kind[node->kind] (text, node);
}

/* Of this very operator: its table is the one that it reads, its inputs have their numbers. */
char *
ivm_plan_operator_text(PlannedStmt *statement, IvmPlanNode *node)
{
	NodeText	text = {.of_tree = false, .statement = statement};
	List	   *numbers = NIL;
	ListCell   *lc;

	initStringInfo(&text.buffer);
	foreach(lc, node->inputs)
		numbers = lappend_int(numbers, ((IvmPlanNode *) lfirst(lc))->node_id);
	append_integers(&text.buffer, "of", numbers);
	append_own(&text, node);
	return text.buffer.data;
}

/* Appends the nodes below and including "node" that are not yet in the list, inputs first. */
static List *
collect_nodes(List *nodes, IvmPlanNode *node)
{
	ListCell   *lc;

	check_stack_depth();
	if (list_member_ptr(nodes, node))
		return nodes;
	foreach(lc, node->inputs)
		nodes = collect_nodes(nodes, (IvmPlanNode *) lfirst(lc));
	return lappend(nodes, node);
}

/* The shapes of a node's inputs. */
static List *
input_shapes(IvmShapes *shapes, IvmPlanNode *node)
{
	List	   *numbers = NIL;
	ListCell   *lc;

	if (node->kind == IVM_APPEND)
		return ivm_input_shapes(shapes, node);
	foreach(lc, node->inputs)
		numbers = lappend_int(numbers, ivm_shape_number(shapes, (IvmPlanNode *) lfirst(lc)));
	return numbers;
}

static void
append_nodes(NodeText *text, IvmPlanNode *root)
{
	IvmShapes		shapes = {0};
	ListCell   *lc;

	foreach(lc, collect_nodes(NIL, root))
	{
		IvmPlanNode *node = (IvmPlanNode *) lfirst(lc);

		if (!ivm_shape_add(&shapes, node))
			continue;
		appendStringInfo(&text->buffer, "%d", ivm_shape_number(&shapes, node));
		append_integers(&text->buffer, "of", input_shapes(&shapes, node));
		append_own(text, node);
		appendStringInfoChar(&text->buffer, '\n');
	}
}

char *
ivm_plan_node_text(IvmPlanNode *node)
{
	NodeText	text = {.of_tree = true, .statement = NULL};

	initStringInfo(&text.buffer);
	append_nodes(&text, node);
	return text.buffer.data;
}

static int
compare_strings(const ListCell *a, const ListCell *b)
{
	return strcmp((char *) lfirst(a), (char *) lfirst(b));
}

char *
ivm_group_choice_label(IvmPlanNode *aggregate)
{
	return psprintf("groups %s", ivm_digest_text(aggregate->digest));
}

/* How groups are kept, once for all nodes of a digest. */
static void
append_choices(StringInfo buffer, IvmPlan *plan)
{
	List	   *lines = NIL;
	const char *last = "";
	ListCell   *lc;

	foreach(lc, plan->nodes)
	{
		IvmPlanNode *node = (IvmPlanNode *) lfirst(lc);

		if (node->has_choice)
			lines = lappend(lines, psprintf("%s %s " INT64_FORMAT "\n", ivm_group_choice_label(node),
											node->keyed ? "keyed" : "stored", node->group_rows));
	}
	list_sort(lines, compare_strings);
	foreach(lc, lines)
	{
		if (strcmp(last, (char *) lfirst(lc)) != 0)
			appendStringInfoString(buffer, (char *) lfirst(lc));
		last = (char *) lfirst(lc);
	}
}

char *
ivm_plan_text(IvmPlan *plan)
{
	NodeText	text = {.of_tree = true, .statement = plan->statement};
	List	   *private = NIL;
	ListCell   *lc;

	initStringInfo(&text.buffer);
	appendStringInfoString(&text.buffer, ivm_format_text());
	append_nodes(&text, plan->root);

	foreach(lc, plan->arrangements)
	{
		IvmArrangement *arrangement = (IvmArrangement *) lfirst(lc);

		if (arrangement->kind == IVM_ARRANGE_STATE && !arrangement->shared)
			private = lappend(private, psprintf("arrangement %s\n", arrangement->text));
	}
	list_sort(private, compare_strings);
	foreach(lc, private)
		appendStringInfoString(&text.buffer, (char *) lfirst(lc));

	append_choices(&text.buffer, plan);
	if (plan->single_row)
		appendStringInfoString(&text.buffer, "single row\n");
	if (plan->key != NIL)
	{
		appendStringInfoString(&text.buffer, "key");
		append_integers(&text.buffer, "columns", plan->key);
		append_integers(&text.buffer, "operators", plan->key_operators);
		appendStringInfoChar(&text.buffer, '\n');
	}
	return text.buffer.data;
}

/* ---- the format, and digests ---- */

char *
ivm_format_text(void)
{
	return psprintf("format %d\n", STATE_FORMAT);
}

bool
ivm_text_has_format(const char *text)
{
	char	   *format = ivm_format_text();

	return strncmp(text, format, strlen(format)) == 0;
}

IvmDigest
ivm_text_digest(const char *text)
{
	IvmDigest	result;

	for (int i = 0; i < lengthof(result.parts); i++)
		result.parts[i] = hash_bytes_extended((const unsigned char *) text, strlen(text), i);
	return result;
}

char *
ivm_digest_text(IvmDigest digest)
{
	return psprintf("%016" INT64_MODIFIER "x%016" INT64_MODIFIER "x", digest.parts[0], digest.parts[1]);
}

static bool
digests_are_equal(IvmDigest a, IvmDigest b)
{
	return a.parts[0] == b.parts[0] && a.parts[1] == b.parts[1];
}

/* The node of that shape that was the first. */
static IvmPlanNode *
node_of_shape(IvmShapes *shapes, int number)
{
	ListCell   *lc;
	ListCell   *lc2;

	forboth(lc, shapes->nodes, lc2, shapes->numbers)
	{
		if (lfirst_int(lc2) == number)
			return (IvmPlanNode *) lfirst(lc);
	}
	elog(ERROR, "no node of a plan has shape %d", number);
	return NULL;				/* keep compiler quiet */
}

/* How many nodes before it have that digest, and another shape? */
static int
count_equal(IvmShapes *shapes, IvmPlanNode *node, IvmDigest digest)
{
	int			result = 0;
	ListCell   *lc;

	foreach(lc, shapes->nodes)
	{
		IvmPlanNode *other = (IvmPlanNode *) lfirst(lc);

		result += other != node && other->shape_id != node->shape_id && digests_are_equal(other->digest, digest);
	}
	return result;
}

void
ivm_plan_identify_nodes(IvmPlan *plan)
{
	IvmShapes		shapes = {0};
	ListCell   *lc;
	ListCell   *lc2;

	foreach(lc, plan->nodes)
	{
		IvmPlanNode *node = (IvmPlanNode *) lfirst(lc);
		NodeText	text = {.of_tree = true, .statement = plan->statement};
		bool		is_new = ivm_shape_add(&shapes, node);
		int			before;

		node->shape_id = ivm_shape_number(&shapes, node);
		if (!is_new)
		{
			node->digest = node_of_shape(&shapes, node->shape_id)->digest;
			continue;
		}
		initStringInfo(&text.buffer);
		appendStringInfoString(&text.buffer, ivm_format_text());
		append_own(&text, node);
		appendStringInfoString(&text.buffer, " of");
		foreach(lc2, input_shapes(&shapes, node))
			appendStringInfo(&text.buffer, " %s", ivm_digest_text(node_of_shape(&shapes, lfirst_int(lc2))->digest));
		node->digest = ivm_text_digest(text.buffer.data);

		/*
		 * Two that read different members of a tree in the same way: each has
		 * its own state
		 */
		before = count_equal(&shapes, node, node->digest);
		if (before > 0)
		{
			appendStringInfo(&text.buffer, " again %d", before);
			node->digest = ivm_text_digest(text.buffer.data);
		}
	}
}
