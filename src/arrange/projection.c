/*-------------------------------------------------------------------------
 *
 * projection.c
 *	  Filter and projection of one row, as a plan node has them.
 *
 * The executor's own expression evaluation, without a plan state: the row is
 * the scan tuple.  What evaluation allocates is in the per-tuple context, which
 * is reset before the next row.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "utils/memutils.h"

#include "arrange/projection.h"

ExprContext *
ivm_expr_context_create(void)
{
	ExprContext *result = makeNode(ExprContext);

	result->caseValue_isNull = true;
	result->domainValue_isNull = true;
	result->ecxt_per_query_memory = CurrentMemoryContext;
	result->ecxt_per_tuple_memory = AllocSetContextCreate(CurrentMemoryContext, "ExprContext",
														  ALLOCSET_START_SMALL_SIZES);
	return result;
}

IvmProjection *
ivm_projection_create(List *tlist, List *quals, TupleDesc desc)
{
	IvmProjection *result = palloc0(sizeof(IvmProjection));

	result->econtext = ivm_expr_context_create();
	result->qual = ExecInitQual(quals, NULL);
	if (tlist != NIL)
	{
		List	   *entries = NIL;
		ListCell   *cell;

		foreach(cell, tlist)
			entries = lappend(entries, makeTargetEntry(lfirst(cell), list_length(entries) + 1, NULL, false));
		result->projection = ExecBuildProjectionInfo(entries, result->econtext,
													 MakeSingleTupleTableSlot(desc, &TTSOpsVirtual),
													 NULL, NULL);
	}
	return result;
}

TupleTableSlot *
ivm_projection_apply(IvmProjection *projection, TupleTableSlot *row)
{
	ResetExprContext(projection->econtext);
	projection->econtext->ecxt_scantuple = row;
	if (!ExecQual(projection->qual, projection->econtext))
		return NULL;
	return projection->projection != NULL ? ExecProject(projection->projection) : row;
}
