/*-------------------------------------------------------------------------
 *
 * own_row.h
 *	  Rows of the extension's own tables, one for each relation.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_OWN_ROW_H
#define IVM_OWN_ROW_H

#include "postgres.h"

#include "access/htup.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

/* The index by the relations' oids. */
extern Oid	ivm_own_row_index(Relation table);

/* A palloc'd copy of the relation's row that the snapshot sees (NULL: the latest), or NULL.  The table is open. */
extern HeapTuple ivm_own_row_fetch(Relation table, Oid relid, Snapshot snapshot);

/*
 * Puts "new" in the place of "old", or inserts it if that is NULL.  Raises ERRCODE_T_R_SERIALIZATION_FAILURE
 * if the old row was changed by somebody, or there is one.  The table is open in RowExclusiveLock.
 */
extern void ivm_own_row_put(Relation table, HeapTuple old, HeapTuple new);

/*
 * Deletes the relation's row, whatever version of it is the latest: a concurrent change is waited for,
 * and then deleted as well.  The table is open in RowExclusiveLock.
 */
extern void ivm_own_row_delete(Relation table, Oid relid);

#endif							/* IVM_OWN_ROW_H */
