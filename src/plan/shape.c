/*-------------------------------------------------------------------------
 *
 * shape.c
 *	  The shapes of a plan's nodes: what is left of them when it is no matter
 *	  which members a tree has.
 *
 * Where a query names a partitioned table, or one with children, the plan has a scan for
 * each member.  Those of them that say the same, in terms of the table that is named,
 * are of one shape, and so is an append of them; any other node has a shape of its own.
 * Numbers of shapes are the same whichever members there are, so the text of a plan uses
 * them.
 *
 * Memory: results, and garbage, in the current context.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "nodes/nodeFuncs.h"
#include "plan/plan_text.h"
#include "plan/shape.h"
#include "utils/lsyscache.h"

void
ivm_text_append_expressions(StringInfo buffer, const char *label, List *list)
{
	if (list != NIL)
		appendStringInfo(buffer, " %s %s", label, ivm_expression_text((Node *) list));
}

/* Puts the columns of the tree's table in the place of those of the scan's table, in place; true if one has none. */
static bool
rename_columns(Node *node, IvmPlanNode *scan)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;
		char	   *name;

		if (var->varattno < 0)
			return false;
		name = var->varattno == 0 ? NULL : get_attname(scan->relid, var->varattno, true);
		var->varattno = name == NULL ? InvalidAttrNumber : get_attnum(scan->tree, name);
		var->varattnosyn = 0;
		return var->varattno == InvalidAttrNumber;
	}
	return expression_tree_walker(node, rename_columns, scan);
}

bool
ivm_scan_fits_tree(IvmPlanNode *scan, Oid tree)
{
	IvmPlanNode copy = *scan;

	copy.tree = tree;
	return tree == scan->relid ||
		(!rename_columns((Node *) copyObject(scan->tlist), &copy) &&
		 !rename_columns((Node *) copyObject(scan->quals), &copy));
}

void
ivm_text_append_row_type(StringInfo buffer, IvmPlanNode *node)
{
	/*
	 * types of the columns: of nodes without expressions there is nothing
	 * else
	 */
	appendStringInfoString(buffer, " row (");
	for (int i = 0; i < node->desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(node->desc, i);

		appendStringInfo(buffer, "%s%u %d %u", i == 0 ? "" : ", ",
						 attribute->atttypid, attribute->atttypmod, attribute->attcollation);
	}
	appendStringInfoChar(buffer, ')');
}

char *
ivm_scan_text(IvmPlanNode *scan)
{
	StringInfoData buffer;
	List	   *tlist = scan->tlist;
	List	   *quals = scan->quals;

	if (scan->tree != scan->relid)
	{
		tlist = copyObject(tlist);
		quals = copyObject(quals);
		(void) rename_columns((Node *) tlist, scan);
		(void) rename_columns((Node *) quals, scan);
	}
	initStringInfo(&buffer);
	ivm_text_append_row_type(&buffer, scan);
	appendStringInfo(&buffer, " table %u", scan->tree);
	ivm_text_append_expressions(&buffer, "columns", tlist);
	ivm_text_append_expressions(&buffer, "filter", quals);
	return buffer.data;
}

int
ivm_shape_number(IvmShapes *shapes, IvmPlanNode *node)
{
	ListCell   *lc;
	ListCell   *lc2;

	forboth(lc, shapes->nodes, lc2, shapes->numbers)
	{
		if (lfirst(lc) == node)
			return lfirst_int(lc2);
	}
	return -1;
}

static int
count_input(IvmPlanNode *append, IvmPlanNode *input)
{
	int			count = 0;
	ListCell   *lc;

	foreach(lc, append->inputs)
		count += lfirst(lc) == input;
	return count;
}

List *
ivm_input_shapes(IvmShapes *shapes, IvmPlanNode *append)
{
	List	   *result = NIL;
	List	   *all = NIL;
	ListCell   *lc;
	ListCell   *lc2;

	foreach(lc, append->inputs)
		all = lappend_int(all, ivm_shape_number(shapes, (IvmPlanNode *) lfirst(lc)));
	forboth(lc, append->inputs, lc2, all)
	{
		int			count = count_input(append, (IvmPlanNode *) lfirst(lc));
		int			told = 0;
		ListCell   *lc3;

		foreach(lc3, result)
			told += lfirst_int(lc3) == lfirst_int(lc2);
		if (told != 0 && told != count)
			return all;
		for (; told < count; told++)
			result = lappend_int(result, lfirst_int(lc2));
	}
	return result;
}

static bool
is_tree_shape(IvmShapes *shapes, int number)
{
	ListCell   *lc;
	ListCell   *lc2;

	forboth(lc, shapes->numbers, lc2, shapes->texts)
	{
		if (lfirst_int(lc) == number && lfirst(lc2) != NULL)
			return true;
	}
	return false;
}

/* An append of a tree's scans alone, if it changes nothing: the shape of these. */
static int
append_shape(IvmShapes *shapes, IvmPlanNode *append)
{
	List	   *inputs = ivm_input_shapes(shapes, append);
	IvmPlanNode *input = (IvmPlanNode *) linitial(append->inputs);
	StringInfoData own;
	StringInfoData of_input;

	if (list_length(inputs) != 1 || append->tlist != NIL || append->quals != NIL ||
		!is_tree_shape(shapes, linitial_int(inputs)))
		return -1;
	initStringInfo(&own);
	initStringInfo(&of_input);
	ivm_text_append_row_type(&own, append);
	ivm_text_append_row_type(&of_input, input);
	return strcmp(own.data, of_input.data) == 0 ? linitial_int(inputs) : -1;
}

bool
ivm_shape_add(IvmShapes *shapes, IvmPlanNode *node)
{
	char	   *text = NULL;
	int			number = -1;
	bool		is_new;
	ListCell   *lc;
	ListCell   *lc2;

	if (node->kind == IVM_SCAN && OidIsValid(node->tree))
	{
		text = ivm_scan_text(node);
		forboth(lc, shapes->numbers, lc2, shapes->texts)
		{
			if (lfirst(lc2) != NULL && strcmp((char *) lfirst(lc2), text) == 0)
				number = lfirst_int(lc);
		}
	}
	else if (node->kind == IVM_APPEND)
		number = append_shape(shapes, node);
	is_new = number < 0;
	if (is_new)
		number = shapes->count++;
	shapes->nodes = lappend(shapes->nodes, node);
	shapes->numbers = lappend_int(shapes->numbers, number);
	shapes->texts = lappend(shapes->texts, text);
	return is_new;
}
