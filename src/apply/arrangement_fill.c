/*-------------------------------------------------------------------------
 *
 * arrangement_fill.c
 *	  The first fill of a shared arrangement's state table.
 *
 * The arrangement's input has no state of its own (a scan, or scans appended),
 * so its rows come straight from PostgreSQL's executor.  They are consolidated
 * in chunks of bounded size, and each chunk is applied like a delta.  A row
 * that occurs in two chunks finds its entry of the first: a later chunk reads
 * the state table under a snapshot that sees what the earlier ones wrote.
 *
 * Memory: one chunk, as much as may stay in memory while it is worked on, in an
 * arena that is reset after each.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "apply/apply.h"
#include "apply/state.h"
#include "arrange/arrange.h"
#include "dataflow/dataflow.h"
#include "memory/arena.h"
#include "memory/reclaim.h"
#include "stats/stats.h"
#include "zset/zset.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

typedef struct Fill
{
	Oid			state_table;
	IvmArrangement *arrangement;
	Snapshot	snapshot;
	IvmArena   *arena;
	IvmZset    *chunk;
	uint64		received;
	MemoryContext context;		/* of the whole */
	MemoryContext row_context;
	MemoryContext chunk_context;
} Fill;

static void receive_row(void *context, TupleTableSlot *row, int64 weight);
static void apply_chunk(Fill *fill);

void
ivm_arrangement_populate(Oid state_table, IvmPlan *plan, IvmArrangement *arrangement, Snapshot snapshot)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "ivm arrangement fill", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	Fill		fill;

	if (arrangement->input->plan == NULL)
		elog(ERROR, "input of a shared arrangement has no plan");

	fill.state_table = state_table;
	fill.arrangement = arrangement;
	fill.snapshot = snapshot;
	fill.arena = ivm_arena_create("arrangement fill", context);
	fill.chunk = ivm_zset_create(fill.arena, arrangement->input->desc);
	fill.context = context;
	fill.received = 0;
	fill.row_context = AllocSetContextCreate(context, "ivm arrangement fill row", ALLOCSET_DEFAULT_SIZES);
	fill.chunk_context = AllocSetContextCreate(context, "ivm arrangement fill chunk", ALLOCSET_DEFAULT_SIZES);

	PushActiveSnapshot(snapshot);
	ivm_execute_subtree(plan, arrangement->input->plan, snapshot, receive_row, &fill);
	apply_chunk(&fill);
	ivm_zset_close(fill.chunk);
	PopActiveSnapshot();

	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
}

static void
receive_row(void *context, TupleTableSlot *row, int64 weight)
{
	Fill	   *fill = context;
	MemoryContext caller;
	MinimalTuple tuple;

	CHECK_FOR_INTERRUPTS();
	MemoryContextReset(fill->row_context);
	caller = MemoryContextSwitchTo(fill->row_context);
	tuple = ivm_row_form(fill->arrangement->input->desc, row);
	ivm_zset_add_tuple(fill->chunk, tuple, weight);
	MemoryContextSwitchTo(caller);

	if (ivm_zset_bytes(fill->chunk) >= ivm_pin_limit())
		apply_chunk(fill);
	if (++fill->received % 10000 == 0)
		ivm_stats_build_tuples(fill->received);
}

/* Applies what was collected and begins the next chunk. */
static void
apply_chunk(Fill *fill)
{
	MemoryContext caller;

	if (!ivm_zset_is_empty(fill->chunk))
	{
		Snapshot	advanced = ivm_push_advanced_snapshot(fill->snapshot);

		caller = MemoryContextSwitchTo(fill->chunk_context);
		ivm_arrangement_apply(fill->arrangement, fill->state_table, fill->chunk, advanced, false);
		MemoryContextSwitchTo(caller);
		MemoryContextReset(fill->chunk_context);
		PopActiveSnapshot();
		CommandCounterIncrement();
	}
	ivm_zset_close(fill->chunk);
	ivm_arena_reset(fill->arena);
	caller = MemoryContextSwitchTo(fill->context);
	fill->chunk = ivm_zset_create(fill->arena, fill->arrangement->input->desc);
	MemoryContextSwitchTo(caller);
}
