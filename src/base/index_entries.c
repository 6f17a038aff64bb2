/*-------------------------------------------------------------------------
 *
 * index_entries.c
 *	  The entries of a row in all indexes of a relation.
 *
 * A relation of ours has one index of our own, and now and then others: REINDEX
 * CONCURRENTLY makes a second one beside the first, an interrupted one leaves an
 * invalid one behind, and an administrator may make what he likes.  An index
 * takes entries from when it says that it is ready; whether it may be searched
 * is another question.  So every ready index gets its entries, by the executor's
 * own code, which also knows of expressions and predicates.
 *
 * Cost: opening the indexes and an executor state, some microseconds.
 *
 * Memory: in the context that was current at the beginning; what a row takes is
 * given back with it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "executor/executor.h"
#include "nodes/execnodes.h"

#include "base/index_entries.h"

struct IvmIndexEntries
{
	EState	   *estate;
	ResultRelInfo *target;
};

IvmIndexEntries *
ivm_index_entries_open(Relation relation)
{
	IvmIndexEntries *entries = palloc(sizeof(IvmIndexEntries));

	entries->estate = CreateExecutorState();
	entries->target = makeNode(ResultRelInfo);
	InitResultRelInfo(entries->target, relation, 1, NULL, 0);
	ExecOpenIndices(entries->target, false);
	return entries;
}

void
ivm_index_entries_insert(IvmIndexEntries *entries, TupleTableSlot *slot)
{
	(void) ExecInsertIndexTuples(entries->target, slot, entries->estate, false, false, NULL, NIL);
	ResetPerTupleExprContext(entries->estate);
}

void
ivm_index_entries_close(IvmIndexEntries *entries)
{
	for (int i = 0; i < entries->target->ri_NumIndices; i++)
		index_close(entries->target->ri_IndexRelationDescs[i], NoLock);
	FreeExecutorState(entries->estate);
	pfree(entries);
}
