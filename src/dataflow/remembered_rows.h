/*-------------------------------------------------------------------------
 *
 * remembered_rows.h
 *	  The rows of one key, as values, for as long as there is memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_REMEMBERED_ROWS_H
#define IVM_REMEMBERED_ROWS_H

#include "postgres.h"

#include "access/tupdesc.h"

#include "dataflow/probe.h"
#include "memory/arena.h"

typedef struct IvmRememberedRows IvmRememberedRows;

/* Made with the plan, in the current context; rows look like "desc", which must live as long. */
extern IvmRememberedRows *ivm_remembered_rows_create(TupleDesc desc);

/* Begin of a batch, or a population: rows are kept in that arena.  What there was is gone. */
extern void ivm_remembered_rows_begin(IvmRememberedRows *rows, IvmArena *arena);

/* Begin and end of a run of probes: they may take so much memory, and give it back. */
extern void ivm_remembered_rows_start(IvmRememberedRows *rows, Size memory);
extern void ivm_remembered_rows_stop(IvmRememberedRows *rows);

/*
 * Begin and end of adding the rows of a key, when those of another one have been cleared.  They
 * stay in place until the end, and may be dropped at any time from then on.
 */
extern void ivm_remembered_rows_begin_adding(IvmRememberedRows *rows);
extern void ivm_remembered_rows_end_adding(IvmRememberedRows *rows);

/* Adds a copy of a row; false if it does not fit: then all were dropped, and no more may be added. */
extern bool ivm_remembered_rows_add(IvmRememberedRows *rows, const Datum *values, const bool *isnull,
									int64 weight);

/* Are all rows that were added still there? */
extern bool ivm_remembered_rows_are_whole(IvmRememberedRows *rows);

/*
 * Gives all rows, in the order in which they were added; they stay in place for the receiver.  False if that
 * wanted no more.
 */
extern bool ivm_remembered_rows_give(IvmRememberedRows *rows, IvmProbeReceiver receiver, void *context);

/* Another key comes: drops the rows and keeps their memory for its own. */
extern void ivm_remembered_rows_clear(IvmRememberedRows *rows);

#endif							/* IVM_REMEMBERED_ROWS_H */
