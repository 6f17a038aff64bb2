/*-------------------------------------------------------------------------
 *
 * index_entries.h
 *	  The entries of a row in all indexes of a relation.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_INDEX_ENTRIES_H
#define IVM_INDEX_ENTRIES_H

#include "postgres.h"

#include "executor/tuptable.h"
#include "utils/relcache.h"

typedef struct IvmIndexEntries IvmIndexEntries;

/* Opens all indexes of a relation that is locked for writing; palloc'd in the current context. */
extern IvmIndexEntries *ivm_index_entries_open(Relation relation);

/* Closes them, and keeps their locks. */
extern void ivm_index_entries_close(IvmIndexEntries *entries);

/* Puts the row that has just been stored, the slot tells where, into each index that is ready. */
extern void ivm_index_entries_insert(IvmIndexEntries *entries, TupleTableSlot *slot);

#endif							/* IVM_INDEX_ENTRIES_H */
