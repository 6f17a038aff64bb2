/*-------------------------------------------------------------------------
 *
 * state_table.h
 *	  Rows kept by the extension in a heap table, found by a hash.
 *
 * Every state table has the columns (hash int8, image int8, weight int8, row bytea) and a
 * B-tree on the first two; "row" is the image of a minimal tuple, "image" its
 * hash, or 0 where there is one row for each key.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_STATE_TABLE_H
#define IVM_STATE_TABLE_H

#include "postgres.h"

#include "access/htup_details.h"
#include "access/tableam.h"
#include "base/index_entries.h"
#include "nodes/parsenodes.h"
#include "nodes/pg_list.h"
#include "plan/plan.h"
#include "storage/itemptr.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

typedef struct IvmStateTable IvmStateTable;

/* One stored row, as a scan returns it; good until the next call on the same table. */
typedef struct IvmStateRow
{
	ItemPointerData tid;
	uint64		hash;
	int64		weight;
	MinimalTuple tuple;			/* canonical (zset/row.h), palloc'd in the
								 * scan's row context */
} IvmStateRow;

/*
 * Creates a state table (with its index) named by "name" in the schema of
 * state tables, a member of the extension, owned by the bootstrap superuser and granted to nobody.
 * Returns its oid.  Runs in the caller's transaction.
 */
extern Oid	ivm_state_table_create(const char *name);

/* Oid of the state table of that name, or InvalidOid. */
extern Oid	ivm_state_table_lookup(const char *name);

/* The same, of one that has to be there. */
extern Oid	ivm_state_table_get(const char *name);

/* Name of a view's private state table of what has that digest; palloc'd. */
extern char *ivm_state_table_name(Oid view, IvmDigest digest);

/* Oids of a view's private state tables. */
extern List *ivm_state_tables_of_view(Oid view);

/* Those of views that are gone. */
extern List *ivm_state_tables_unused(void);

/* Locks and drops those of them that still exist. */
extern void ivm_state_tables_drop(List *relids);

/* True if rows of the state table can be found by this index and by no other. */
extern bool ivm_state_table_needs_index(Oid relid, Oid index);

/* Opens it for reading under "snapshot" and for writing; the lock is RowExclusiveLock, held to the end of the transaction. */
extern IvmStateTable *ivm_state_table_open(Oid relid, Snapshot snapshot);
extern void ivm_state_table_close(IvmStateTable *table);

/*
 * The table has no rows, and is filled: until it is closed, which makes them be found, rows are only inserted or
 * added, and none twice.  Nobody else has it open then.
 */
extern void ivm_state_table_fill(IvmStateTable *table);

/* Rows with that hash, one after the other: begin, then next until NULL. */
extern void ivm_state_table_find(IvmStateTable *table, uint64 hash);
extern IvmStateRow *ivm_state_table_next(IvmStateTable *table);

/* All rows: begin, then ivm_state_table_next until NULL. */
extern void ivm_state_table_scan(IvmStateTable *table);

/* For tables of one row a key: "image" is left 0. */
extern void ivm_state_table_insert(IvmStateTable *table, uint64 hash, int64 weight, MinimalTuple tuple);
extern void ivm_state_table_update(IvmStateTable *table, ItemPointer tid, uint64 hash, int64 weight, MinimalTuple tuple);
extern void ivm_state_table_delete(IvmStateTable *table, ItemPointer tid);

/*
 * Adds "weight" to the row of that hash and image, which appears, or goes when
 * its weight becomes zero.  Raises ERRCODE_DATA_CORRUPTED if it would become negative.
 */
extern void ivm_state_table_add(IvmStateTable *table, uint64 hash, MinimalTuple tuple, int64 weight);

/* Removes every row of any state table in the current transaction (for a rebuild). */
extern void ivm_state_table_clear(Oid relid, Snapshot snapshot);

/*
 * For tables of another shape (ordered_table.c): all columns but the last two are those of the index.
 */

/* As ivm_state_table_create; "columns" are the index's (IndexElem). */
extern Oid	ivm_state_relation_create(const char *name, TupleDesc desc, List *columns);

/* A column of the index by its name. */
extern IndexElem *ivm_state_index_column(const char *name);

/* Opens an index by which rows can be found, one that also passes the test, if there is one; or raises an error. */
typedef bool (*IvmStateIndexTest) (void *context, Relation index);
extern Relation ivm_state_index_open(Relation heap, IvmStateIndexTest fits, void *context);

/* Builds the indexes of one that has got its rows without entries in them, in no more memory than this process may hold. */
extern void ivm_state_build_indexes(Oid relid);

/* Inserts entries of a row into all indexes, which are opened for that in the context if they have not been yet. */
extern void ivm_state_insert_entries(IvmIndexEntries **entries, MemoryContext context, Relation heap, TupleTableSlot *row);

/* Raises an error if the row could not be written. */
extern void ivm_state_check_write(Relation heap, TM_Result result);
extern void ivm_state_row_delete(Relation heap, ItemPointer tid, Snapshot snapshot);
extern void ivm_state_lacks_row(Relation heap) pg_attribute_noreturn();

/* Size of table and index on disk. */
extern int64 ivm_state_table_size(Oid relid);

#endif							/* IVM_STATE_TABLE_H */
