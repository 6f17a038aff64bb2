/*-------------------------------------------------------------------------
 *
 * aggregate_internal.h
 *	  What the files of the aggregate operator share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_AGGREGATE_INTERNAL_H
#define IVM_AGGREGATE_INTERNAL_H

#include "postgres.h"

#include "storage/itemptr.h"

#include "arrange/state_table.h"
#include "dataflow/accumulator.h"
#include "dataflow/operator.h"
#include "dataflow/replay.h"
#include "memory/budget.h"
#include "zset/key.h"
#include "zset/spill.h"

/* The group columns as they look in some row. */
typedef struct AggregateLook
{
	MinimalTuple tuple;
	Datum	   *values;			/* in the tuple */
	bool	   *isnull;
} AggregateLook;

typedef struct AggregateGroup
{
	struct AggregateGroup *next;	/* in its bucket */
	uint64		hash;
	AggregateLook look;			/* what it shows */
	int64		count;			/* input rows */
	int64		alike;			/* at least so many of them look like that */
	int64		came_alike;		/* so many that came do */
	AggregateLook other;		/* of a row that came and looks different */
	int64		other_alike;	/* at least so many rows look like that */
	IvmAccumulatorState *states;
	int64		number;			/* in a pass over groups' rows */
	struct AggregateGroup *before;	/* what it was before the batch, if nothing
									 * is stored */
	int64		lookup;			/* that finds its rows; 0: not known yet */
	bool		recount;		/* no row that looks like it is known */
	bool		stored;			/* it has a stored row */
	ItemPointerData tid;		/* of that */
	MinimalTuple old_output;	/* raw row, or NULL */
} AggregateGroup;

/* Groups by their columns, all of it in the context. */
typedef struct AggregateGroups
{
	MemoryContext context;
	uint64		nbuckets;
	uint64		ngroups;
	AggregateGroup **buckets;
} AggregateGroups;

/* What is counted in the process's account; in the context whose end gives it back. */
typedef struct AggregateCharge
{
	MemoryContextCallback callback;
	IvmAccount *account;		/* or NULL */
	Size		bytes;
} AggregateCharge;

typedef struct AggregateRun
{
	int			ncolumns;		/* of the group */
	AttrNumber *columns;		/* in the input row */
	IvmKey	   *key;
	bool		varies;			/* may the columns of a group's rows look
								 * different? */
	bool		commutes;		/* rows may go before they come */
	int			flag_column;	/* of a set operation, else 0 */
	SetOpCmd	set_operation;
	IvmAccumulators *accumulators;
	bool		stores_results; /* some call does */
	bool		keyed;			/* nothing is stored */
	bool		in_order;		/* it is, and some call needs its rows in an
								 * order */
	int			nlookup;		/* of that: columns that decide which rows a
								 * lookup finds, */
	int		   *lookup_columns; /* 0-based, */
	IvmKey	   *lookup_key;		/* and how they are compared */
	bool		from_nothing;	/* there is no old state: it is filled, or all
								 * of its output is wanted */
	bool		has_streams;	/* some call reads a stream of distinct values */
	IvmReplay  *replay;			/* NULL: not made yet */
	struct IvmSource *source;	/* of the input's rows by the group columns;
								 * NULL: there is none */
	struct IvmWalk **walks;		/* of each call whose next value is found so;
								 * NULL: of none */
	int			ncalls;
	TupleDesc	input_desc;
	TupleDesc	key_desc;		/* group columns */
	TupleDesc	state_desc;		/* group columns, numbers of rows and of those
								 * that look like them, states */
	TupleDesc	raw_desc;		/* group columns, results */
	TupleTableSlot *input_row;
	TupleTableSlot *key_row;
	TupleTableSlot *state_row;
	TupleTableSlot *raw_row;

	/* of the batch, made with its first row */
	MemoryContext context;
	MemoryContext scratch;		/* of one row or group */
	IvmStateTable *table;		/* opened when it is needed */
	IvmZset    *delta;			/* rows whose groups are not open */
	IvmZset    *removals;		/* rows to be taken from open groups */
	AggregateGroups open;
	AggregateGroups refused;	/* which need their rows */
	IvmReplayPass *pass;		/* population: of results, to which rows go at
								 * once; NULL: none needs that */
	int64		numbered;		/* groups in it */
	AggregateCharge *charge;
	bool		forced;			/* tests want it to spill */
	Size		limit;			/* bytes that groups may take, and the delta */
	bool		absorbing;		/* rows are added to open groups as they come */
	bool		full;			/* no group is opened any more */
	uint64		absorbed;		/* rows */
	int			level;			/* of the rows that are read: 0, or of their
								 * partition */
	IvmSpill   *spill;			/* rows of groups that found no room */
	List	   *partitions;		/* to be read, the last first */
} AggregateRun;

/* ---- set_operation.c ---- */

/* Is it one of the input rows that a group shows one of?  Of a set operation those of the left side are. */
extern bool ivm_group_shows(AggregateRun *state, TupleTableSlot *row);

/* How many times the group with that raw row is in the output, but for the node's conditions. */
extern int64 ivm_group_weight(AggregateRun *state, TupleTableSlot *raw);

/* ---- aggregate_table.c ---- */

/* Groups of a table at most while spilling is forced. */
#define IVM_FORCED_GROUPS	4

extern void ivm_groups_init(AggregateGroups *groups, MemoryContext parent, Size limit);
extern void ivm_groups_reset(AggregateRun *state, AggregateGroups *groups);
extern void ivm_groups_insert(AggregateGroups *groups, AggregateGroup *group);
extern AggregateGroup *ivm_groups_find(AggregateRun *state, AggregateGroups *groups, uint64 hash,
									   const Datum *values, const bool *isnull);

/* All of them, perhaps in the order of their hashes. */
extern AggregateGroup **ivm_groups_list(AggregateGroups *groups, bool sorted);

/* And in that of their numbers. */
extern AggregateGroup **ivm_groups_numbered(AggregateGroups *groups);

/* Counts the memory of groups; false if there should not be more of them. */
extern bool ivm_groups_charge(AggregateRun *state);
extern void ivm_groups_uncharge(void *charge);

/* ---- aggregate_groups.c; all is called in the scratch context, which the caller resets ---- */

extern uint64 ivm_group_key(AggregateRun *state, TupleTableSlot *row, Datum *values, bool *isnull, uint64 hash);

/* A group as it was before the batch; not in any table yet. */
extern AggregateGroup *ivm_group_open(IvmOperator *op, MemoryContext context, uint64 hash,
									  Datum *values, bool *isnull);

/* Adds a row to it, or takes it away; all that comes has to be there before anything goes. */
extern void ivm_group_add(AggregateRun *state, AggregateGroup *group, TupleTableSlot *row, int64 weight);

/* Writes its new row and emits the difference; or leaves that to ivm_groups_recompute. */
extern void ivm_group_close(IvmOperator *op, AggregateGroup *group);

/* Begins a pass over rows of groups, in that context; "results_only" as for ivm_replay_begin. */
extern IvmReplayPass *ivm_groups_pass(IvmOperator *op, MemoryContext context, bool results_only);

/* Completes the states of the group with the pass's rows. */
extern void ivm_group_replay(AggregateRun *state, IvmReplayPass *pass, AggregateGroup *group, MemoryContext context);

/* A group of no rows, in no table, of an aggregate that stores nothing. */
extern AggregateGroup *ivm_group_create(AggregateRun *state, MemoryContext context, uint64 hash, Datum *values, bool *isnull);

/* What it shows, raw. */
extern MinimalTuple ivm_group_output(AggregateRun *state, AggregateGroup *group);

/* Writes its new row, if groups are stored, and emits the difference to its old output. */
extern void ivm_group_write(IvmOperator *op, AggregateGroup *group);

/* Computes the groups that need their rows. */
extern void ivm_groups_recompute(IvmOperator *op);

extern void ivm_group_emit(IvmOperator *op, Datum *group_values, bool *group_isnull,
						   IvmAccumulatorState *states);

/* ---- aggregate_keyed.c ---- */

extern void ivm_keyed_init(IvmOperator *op);

/* Brings the groups up to date that the delta has rows of. */
extern void ivm_keyed_change_groups(IvmOperator *op);

/* ---- aggregate_extremes.c ---- */

/* Walks for the calls that need them, which may share them; and their begin and end with the operator's. */
extern void ivm_extremes_init(IvmOperator *op);
extern void ivm_extremes_begin(IvmOperator *op);
extern void ivm_extremes_end(IvmOperator *op);

/* Brings the states of a group's percentiles up to date, when all of its rows have been counted. */
extern void ivm_group_find_ranks(IvmOperator *op, AggregateGroup *group);

/* Completes the states of a group whose extreme values have gone. */
extern void ivm_group_find_extremes(IvmOperator *op, AggregateGroup *group);

#endif							/* IVM_AGGREGATE_INTERNAL_H */
