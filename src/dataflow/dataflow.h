/*-------------------------------------------------------------------------
 *
 * dataflow.h
 *	  Running a delta plan: deltas of tables in, delta of the output out.
 *
 * An IvmDataflow is the run-time side of one plan; it lives as long as the
 * plan and is used for one batch after the other:
 *
 *		ivm_dataflow_begin(...)
 *		ivm_dataflow_push(...)		for every row of every changed table
 *		ivm_dataflow_finish(...)	runs the stateful operators, gives the output
 *		ivm_dataflow_end(...)
 *
 * An error between begin and the commit leaves it to be ended by ivm_dataflow_abort
 * after the transaction was aborted; the next begin starts afresh.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_DATAFLOW_H
#define IVM_DATAFLOW_H

#include "postgres.h"

#include "executor/tuptable.h"
#include "memory/arena.h"
#include "plan/plan.h"
#include "utils/snapshot.h"
#include "zset/key.h"
#include "zset/zset.h"

typedef struct IvmDataflow IvmDataflow;

/* Counters of one operator since they were last taken. */
typedef struct IvmOperatorCounters
{
	int			node_id;
	int			parent_id;		/* -1 for the root */
	const char *name;
	uint64		rows_in;
	uint64		rows_out;
	uint64		recomputes;		/* since the dataflow was made */
	int64		state_bytes;	/* of its state tables, when they were last
								 * measured */
	double		total_time;		/* ms */
} IvmOperatorCounters;

/* Makes the run-time side in a context of its own under "parent". */
extern IvmDataflow *ivm_dataflow_create(IvmPlan *plan, MemoryContext parent);
extern void ivm_dataflow_destroy(IvmDataflow *dataflow);

/*
 * The key of the output of a view with a key, in the current context, else NULL.  Z-sets of output rows
 * are partitioned by it, so that the old and the new row of a key come in one part.
 */
extern IvmRowKey *ivm_dataflow_output_key(IvmPlan *plan);

/*
 * Starts a batch.  "snapshot" (registered by the caller) is what tables and
 * state tables are read under; "arena" is the batch's; palloc'd things of the
 * batch are in the current context, which outlives the batch's end.  "populate": the old state
 * is empty (state tables were cleared): ivm_dataflow_populate is going to be called instead of push.
 */
extern void ivm_dataflow_begin(IvmDataflow *dataflow, Snapshot snapshot, IvmArena *arena, bool populate);

/* One changed row of a table, in the table's shape (minimal or heap slot, tts_tableOid set). */
extern void ivm_dataflow_push(IvmDataflow *dataflow, Oid relid, TupleTableSlot *row, int64 weight);

/* The same for one scan of the plan only; the row is in the shape of that scan's table, whichever it comes from. */
extern void ivm_dataflow_push_to(IvmDataflow *dataflow, IvmPlanNode *scan, TupleTableSlot *row, int64 weight);

/* Some member of the table came or went: the parts that read it and are recomputed run again.  False if there is none. */
extern bool ivm_dataflow_touch(IvmDataflow *dataflow, Oid tree);

/*
 * Pushes the full contents of every input under the snapshot, with weight +1,
 * using PostgreSQL's executor for every subtree without state.
 */
extern void ivm_dataflow_populate(IvmDataflow *dataflow);

/*
 * Runs what waits for the end of the input, brings the state tables to the new
 * state, and returns the consolidated delta of the output (in the arena).
 */
extern IvmZset *ivm_dataflow_finish(IvmDataflow *dataflow);

/*
 * The same for a receiver that wants rows unconsolidated, as they come: used by population of stateless plans.
 */
typedef void (*IvmRowReceiver) (void *context, TupleTableSlot *row, int64 weight);
extern void ivm_dataflow_set_receiver(IvmDataflow *dataflow, IvmRowReceiver receiver, void *context);

extern void ivm_dataflow_end(IvmDataflow *dataflow);
extern void ivm_dataflow_abort(IvmDataflow *dataflow);

/*
 * What the next batch's deltas are added to is not what the last batch left: nothing that was kept in memory
 * is used any more.  Abort does this, too.
 */
extern void ivm_dataflow_forget(IvmDataflow *dataflow);

/* Takes the counters of operator "i", which begin at zero again; false past the last one. */
extern bool ivm_dataflow_take_counters(IvmDataflow *dataflow, int i, IvmOperatorCounters *counters);

/* What "from" has counted is counted by "to", made of the same plan, from now on. */
extern void ivm_dataflow_inherit_counters(IvmDataflow *to, IvmDataflow *from);

/* How often something was recomputed since the dataflow was made, in all operators. */
extern uint64 ivm_dataflow_recomputes(IvmDataflow *dataflow);

/* Measures the state tables; in a transaction. */
extern void ivm_dataflow_measure(IvmDataflow *dataflow);

/* Name (without schema) of the state table that the node's operator keeps itself, or NULL. */
extern char *ivm_node_state_name(IvmPlanNode *node, Oid relid);

/* Names (without schema) of the private state tables that the plan needs for this view: C strings. */
extern List *ivm_dataflow_state_names(IvmPlan *plan, Oid relid);

/*
 * Runs one subtree of a plan with PostgreSQL's executor under the snapshot;
 * the receiver gets every row.  Locks are the caller's.
 */
extern void ivm_execute_subtree(IvmPlan *plan, Plan *subtree, Snapshot snapshot,
								IvmRowReceiver receiver, void *context);

/* The same for a node without state, planned for this one run where that can be. */
extern void ivm_execute_node(IvmPlan *plan, IvmPlanNode *node, Snapshot snapshot,
							 IvmRowReceiver receiver, void *context);

#endif							/* IVM_DATAFLOW_H */
