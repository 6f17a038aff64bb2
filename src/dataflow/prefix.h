/*-------------------------------------------------------------------------
 *
 * prefix.h
 *	  The first rows in the order of their hashes, which are all that is kept of an input.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_PREFIX_H
#define IVM_PREFIX_H

#include "postgres.h"

#include "arrange/ordered_table.h"
#include "dataflow/operator.h"

typedef struct IvmPrefix IvmPrefix;

/*
 * In the current context, for an arrangement that keeps the first rows alone; "shown" are wanted.
 */
extern IvmPrefix *ivm_prefix_create(IvmArrangement *arrangement, int64 shown);

/* A batch begins. */
extern void ivm_prefix_begin(IvmPrefix *prefix, IvmDataflow *dataflow);

/* Is the row kept, if it is there?  Any other makes no difference. */
extern bool ivm_prefix_keeps(IvmPrefix *prefix, TupleTableSlot *row);

/* A row of all that there are, in population; then the table, which is empty, gets the first of them. */
extern void ivm_prefix_collect(IvmPrefix *prefix, TupleTableSlot *row, int64 weight);
extern void ivm_prefix_fill(IvmPrefix *prefix);

/* Applies the delta of the rows that are kept. */
extern void ivm_prefix_apply(IvmPrefix *prefix, IvmZset *delta);

/* When all has been read in a batch or a fill: takes rows out of the table if it has become large, and notes its bound. */
extern void ivm_prefix_settle(IvmPrefix *prefix);

/* Are all rows kept? */
extern bool ivm_prefix_is_all(IvmPrefix *prefix);

/*
 * Keeps more rows, of those that come next in what the operator gives now.  Returns them; good to the end of the
 * batch.
 */
extern IvmZset *ivm_prefix_extend(IvmPrefix *prefix, IvmOperator *input);

/* The end before the arena is reset. */
extern void ivm_prefix_end(IvmPrefix *prefix);

/* Forgets what it knows from earlier batches. */
extern void ivm_prefix_forget(IvmPrefix *prefix);

#endif							/* IVM_PREFIX_H */
