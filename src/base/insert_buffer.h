/*-------------------------------------------------------------------------
 *
 * insert_buffer.h
 *	  Inserting many rows into a relation of ours, a page at a time.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_INSERT_BUFFER_H
#define IVM_INSERT_BUFFER_H

#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "executor/tuptable.h"
#include "nodes/execnodes.h"
#include "utils/relcache.h"

#define IVM_INSERT_BUFFER_ROWS	1000
#define IVM_INSERT_BUFFER_BYTES	65536

typedef struct IvmInsertBuffer
{
	Relation	relation;
	ResultRelInfo *target;		/* indexes to write; NULL: none */
	EState	   *estate;			/* of "target" */
	CommandId	cid;
	int			options;		/* TABLE_INSERT_xxx */
	BulkInsertState bulk;		/* NULL unless a whole relation is filled */
	TupleTableSlot *slots[IVM_INSERT_BUFFER_ROWS];
	int			nslots;			/* made */
	int			nrows;			/* filled */
	Size		bytes;
	uint64		inserted;		/* rows written so far */
	ItemPointerData last_tid;	/* place of the last one */
	MemoryContext context;		/* of the slots */
	MemoryContext flush_context;
} IvmInsertBuffer;

/* Makes a buffer in the current context. */
extern IvmInsertBuffer *ivm_insert_buffer_create(Relation relation, CommandId cid, int options, bool bulk,
												 ResultRelInfo *target, EState *estate);

/* Adds a copy of the slot's row. */
extern void ivm_insert_buffer_add(IvmInsertBuffer *buffer, TupleTableSlot *row);

/* Adds a row whose memory stays until the next flush. */
extern void ivm_insert_buffer_add_tuple(IvmInsertBuffer *buffer, MinimalTuple tuple);

/* Writes what is buffered. */
extern void ivm_insert_buffer_flush(IvmInsertBuffer *buffer);

/* Writes what is left and lets go of buffers and slots. */
extern void ivm_insert_buffer_end(IvmInsertBuffer *buffer);

#endif							/* IVM_INSERT_BUFFER_H */
