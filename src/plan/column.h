/*-------------------------------------------------------------------------
 *
 * column.h
 *	  Columns of a node's input, as expressions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_COLUMN_H
#define IVM_COLUMN_H

#include "postgres.h"

#include "access/tupdesc.h"
#include "nodes/primnodes.h"

/* All are made in the current context, without the query's own numbers. */

/* Column "number" of input "varno", of the type of "like". */
extern Var *ivm_column_like(int varno, AttrNumber number, Node *like);

/* Column "number" of the only input, whose rows are "desc"; and those with these numbers (int), in their order. */
extern Var *ivm_column_of(TupleDesc desc, AttrNumber number);
extern List *ivm_columns_of(TupleDesc desc, List *numbers);

/* What is relabelled: the value is the same. */
extern Node *ivm_strip_relabel(Node *node);

#endif							/* IVM_COLUMN_H */
