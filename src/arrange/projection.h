/*-------------------------------------------------------------------------
 *
 * projection.h
 *	  Filter and projection of one row, as a plan node has them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_PROJECTION_H
#define IVM_PROJECTION_H

#include "postgres.h"

#include "executor/tuptable.h"
#include "nodes/execnodes.h"

typedef struct IvmProjection
{
	ExprContext *econtext;
	ExprState  *qual;			/* NULL: every row */
	ProjectionInfo *projection; /* NULL: the row as it is */
} IvmProjection;

/*
 * CreateStandaloneExprContext, but with memory for a row that begins small: a worker has
 * thousands of these.
 */
extern ExprContext *ivm_expr_context_create(void);

/* Made in the current context: "tlist" are expressions, "quals" implicitly ANDed, "desc" is the output row. */
extern IvmProjection *ivm_projection_create(List *tlist, List *quals, TupleDesc desc);

/* The projected row, good until the next call; NULL if the row does not pass. */
extern TupleTableSlot *ivm_projection_apply(IvmProjection *projection, TupleTableSlot *row);

#endif							/* IVM_PROJECTION_H */
