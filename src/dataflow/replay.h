/*-------------------------------------------------------------------------
 *
 * replay.h
 *	  States of aggregate functions from all rows of their groups.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_REPLAY_H
#define IVM_REPLAY_H

#include "postgres.h"

#include "utils/snapshot.h"

#include "dataflow/accumulator.h"

/* How to do that for the calls of a node; made once. */
typedef struct IvmReplay IvmReplay;

/* One pass over some groups, which are numbered. */
typedef struct IvmReplayPass IvmReplayPass;

/* In the current context. */
extern IvmReplay *ivm_replay_create(IvmAccumulators *accumulators);

/*
 * Begins a pass in a context under the current one.  "results_only": for the calls whose results are stored;
 * what others lack is left so.
 */
extern IvmReplayPass *ivm_replay_begin(IvmReplay *replay, Snapshot snapshot, bool results_only);

/* A row of a group, for the calls that need it. */
extern void ivm_replay_add(IvmReplayPass *pass, int64 group, IvmAccumulatorState *states,
						   TupleTableSlot *row, int64 weight);

/* All rows are there. */
extern void ivm_replay_perform(IvmReplayPass *pass);

/*
 * Computes the states of a group that are not complete; "group_row" has its columns.  They are in
 * "context".  Groups come in the order of their numbers.
 */
extern void ivm_replay_finish(IvmReplayPass *pass, int64 group, IvmAccumulatorState *states,
							  TupleTableSlot *group_row, MemoryContext context);

extern void ivm_replay_end(IvmReplayPass *pass);

#endif							/* IVM_REPLAY_H */
