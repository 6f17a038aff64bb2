/*-------------------------------------------------------------------------
 *
 * column.c
 *	  Columns of a node's input, as expressions.
 *
 * A Var has the numbers of the query's own tables beside those that count, for EXPLAIN.  They differ between
 * plans that are equal otherwise, so they are left out.
 *
 * Memory: the current context.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"

#include "plan/column.h"

static Var *
make_column(int varno, AttrNumber number, Oid type, int32 typmod, Oid collation)
{
	Var		   *var = makeVar(varno, number, type, typmod, collation, 0);

	var->varnosyn = 0;
	var->varattnosyn = 0;
	return var;
}

Var *
ivm_column_like(int varno, AttrNumber number, Node *like)
{
	return make_column(varno, number, exprType(like), exprTypmod(like), exprCollation(like));
}

Var *
ivm_column_of(TupleDesc desc, AttrNumber number)
{
	Form_pg_attribute attribute = TupleDescAttr(desc, number - 1);

	return make_column(1, number, attribute->atttypid, attribute->atttypmod, attribute->attcollation);
}

List *
ivm_columns_of(TupleDesc desc, List *numbers)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, numbers)
		result = lappend(result, ivm_column_of(desc, lfirst_int(lc)));
	return result;
}

Node *
ivm_strip_relabel(Node *node)
{
	while (node != NULL && IsA(node, RelabelType))
		node = (Node *) ((RelabelType *) node)->arg;
	return node;
}
