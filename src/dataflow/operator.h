/*-------------------------------------------------------------------------
 *
 * operator.h
 *	  What an operator of the dataflow is to the others.
 *
 * To make an operator: add its kind to plan/plan.h, write its file with an
 * IvmOperatorRoutine, and let the compiler emit its node.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_OPERATOR_H
#define IVM_OPERATOR_H

#include "postgres.h"

#include "arrange/arrange.h"
#include "arrange/projection.h"
#include "dataflow/dataflow.h"

typedef struct IvmOperator IvmOperator;

/*
 * How rows of an operator's output are found by a key, for an arrangement of kind OPERATOR or
 * THROUGH: what ivm_source_... (source.h) is for those.  Each place in the plan that looks
 * up has a finder of its own, so one is never asked while it gives rows.
 */
typedef struct IvmFinderRoutine
{
	void	   *(*create) (IvmOperator *op, IvmArrangement *arrangement);
	void		(*begin) (void *finder);
	void		(*expect) (void *finder, int64 probes);
	bool		(*find) (void *finder, const Datum *values, const bool *isnull,
						 IvmLookupReceiver receiver, void *context);
	void		(*end) (void *finder);
} IvmFinderRoutine;

typedef struct IvmOperatorRoutine
{
	/* Has it a state table of its own, named by the node's digest?  Not if the node is keyed. */
	bool		keeps_state;

	/*
	 * May the executor give other rows than it emits, of those that the query leaves open?  Then it
	 * is never stood in for.
	 */
	bool		own_output;

	/* Makes the state that lives as long as the dataflow. */
	void		(*init) (IvmOperator *op);

	/* A batch begins; the current context is the batch's. */
	void		(*begin) (IvmOperator *op);

	/*
	 * A row of input number "input" changed, or of a table that the operator reads
	 * itself (then it is 0).  A recomputed part does not ask which.
	 */
	void		(*receive) (IvmOperator *op, int input, TupleTableSlot *row, int64 weight);

	/*
	 * Population, which has begun: does the operator want the rows of that
	 * input?  NULL: it does.
	 */
	bool		(*wants) (IvmOperator *op, int input);

	/* All inputs are complete: emit what was kept back.  NULL: nothing is. */
	void		(*finish) (IvmOperator *op);

	/*
	 * Emits all rows that the output consists of now, when all operators
	 * below are finished.  NULL: the operator has no state (the executor
	 * gives them).
	 */
	void		(*replay) (IvmOperator *op);

	/*
	 * The batch ends: close what is open.  Not called after an error.  NULL:
	 * nothing is.
	 */
	void		(*end) (IvmOperator *op);

	/*
	 * Forgets what it knows from earlier batches.  NULL: nothing.
	 */
	void		(*forget) (IvmOperator *op);

	/* For arrangements of its rows of kind OPERATOR, and THROUGH.  NULL: there are none. */
	const IvmFinderRoutine *own_finder;
	const IvmFinderRoutine *finder;
} IvmOperatorRoutine;

/* Who reads an operator's output. */
typedef struct IvmReader
{
	IvmOperator *op;
	int			input;
} IvmReader;

/* An operator that gets the rows of a table itself. */
typedef struct IvmTableReader
{
	Oid			relid;
	IvmOperator *op;
} IvmTableReader;

struct IvmOperator
{
	const IvmOperatorRoutine *routine;
	IvmDataflow *dataflow;
	IvmPlanNode *node;
	int			nreaders;
	IvmReader  *readers;
	bool		is_root;

	/*
	 * Keeps state or has an output of its own, or reads what does.  Population computes these operators
	 * from the rows of the others, which the executor gives.
	 */
	bool		has_state;
	bool		is_stateful;	/* keeps state itself */
	struct IvmArranger *arranger;	/* of private state tables of its rows;
									 * NULL: there are none */

	IvmRowReceiver replay;		/* while it is replayed: who gets the rows,
								 * instead of readers */
	void	   *replay_context;

	IvmProjection *projection;	/* of the node's quals and tlist */
	void	   *state;
	IvmOperatorCounters counters;
};

struct IvmDataflow
{
	IvmPlan    *plan;
	MemoryContext context;
	int			noperators;
	IvmOperator *operators;		/* inputs before their readers */
	IvmOperator *root;
	int			ntable_readers;
	IvmTableReader *table_readers;	/* by relid */
	IvmRowKey  *output_key;		/* NULL: the view has none */

	/* of the batch */
	bool		running;
	bool		populating;
	Snapshot	snapshot;
	IvmArena   *arena;
	MemoryContext batch_context;
	IvmZset    *output;
	IvmRowReceiver receiver;
	void	   *receiver_context;
};

/* Gives a row to all readers. */
extern void ivm_operator_emit(IvmOperator *op, TupleTableSlot *row, int64 weight);

/*
 * Gives the whole output of an operator, all inputs of which are finished, to the
 * receiver: the very rows whose deltas were emitted in all batches, and none that
 * are only equal to them.
 */
extern void ivm_operator_replay(IvmOperator *op, IvmRowReceiver receiver, void *context);

/* The operator of the node's input number "input". */
extern IvmOperator *ivm_operator_input(IvmOperator *op, int input);

/* Filters and projects the row as the node says, and emits the result. */
extern void ivm_operator_emit_projected(IvmOperator *op, TupleTableSlot *row, int64 weight);

/* Name of the state table of an aggregate or a recomputed part. */
extern char *ivm_operator_state_name(IvmPlanNode *node, Oid relid);

/* The operator of a node of the plan. */
extern IvmOperator *ivm_dataflow_operator(IvmDataflow *dataflow, IvmPlanNode *node);

extern const IvmOperatorRoutine ivm_op_scan;
extern const IvmOperatorRoutine ivm_op_map;
extern const IvmOperatorRoutine ivm_op_append;
extern const IvmOperatorRoutine ivm_op_static;
extern const IvmOperatorRoutine ivm_op_join;
extern const IvmOperatorRoutine ivm_op_outer;
extern const IvmOperatorRoutine ivm_op_aggregate;
extern const IvmOperatorRoutine ivm_op_recompute;
extern const IvmOperatorRoutine ivm_op_topk;

extern const IvmFinderRoutine ivm_linear_finder;	/* of map and append */
extern const IvmFinderRoutine ivm_join_finder;
extern const IvmFinderRoutine ivm_outer_finder;
extern const IvmFinderRoutine ivm_aggregate_finder;
extern const IvmFinderRoutine ivm_keyed_finder; /* of an aggregate, through its input */

#endif							/* IVM_OPERATOR_H */
