/*-------------------------------------------------------------------------
 *
 * populate.c
 *	  The first fill of a view.
 *
 * The dataflow is run once over the full contents of its inputs, with an
 * empty old state: what it gives is the view, and what its operators keep is
 * their state as of the same snapshot.  Rows go into the heap as they come.
 *
 * The heap gets a new file first, as with TRUNCATE, and rows are written
 * frozen, as REFRESH MATERIALIZED VIEW does.  Together this is safe: if the
 * transaction aborts, the file goes.  It saves the view from being written
 * again by hint bits and by the first vacuum.  A snapshot older than the
 * population sees the rows too; without that it would see a populated view
 * with nothing in it.
 *
 * Indexes are built after the rows, which is several times cheaper than
 * writing them along.  That holds for those of the user too, which are there
 * before the rows when a dump is restored: they are emptied with the heap, not
 * written, and rebuilt.  A violated unique index shows in the rebuild.
 *
 * Operators may take rows back that they have given (weights below zero).
 * Those wait for the last row and are then deleted in one pass over the heap,
 * before a unique index could see a key twice.
 *
 * Obvious, and rejected: a new heap and a swap, as REFRESH has it.  It does
 * the same with a transient relation in the catalogs, which every hook and
 * event trigger would see.
 *
 * Memory: one buffer of rows; what the dataflow keeps, in an arena.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "apply/apply.h"
#include "base/insert_buffer.h"
#include "apply/state.h"
#include "apply/view_index.h"
#include "apply/view_writer.h"
#include "dataflow/dataflow.h"
#include "memory/arena.h"
#include "stats/stats.h"
#include "zset/zset.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "commands/matview.h"
#include "commands/tablecmds.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/bufmgr.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#define ROWS_PER_REPORT	10000

/* What rows go through on their way into the heap. */
typedef struct Population
{
	IvmInsertBuffer *buffer;
	MemoryContext context;
	IvmArena   *arena;
	IvmZset    *retracted;		/* rows with negative weights, NULL: none yet */
	TupleDesc	desc;
	uint64		received;
} Population;

static void empty_view(Relation view);
static void receive_row(void *context, TupleTableSlot *row, int64 weight);
static void receive_result(Population *population, IvmZset *result);

uint64
ivm_view_populate(Oid relid, IvmPlan *plan, Snapshot snapshot)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "ivm population", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	Population	population;
	IvmDataflow *dataflow;
	Relation	view;
	uint64		rows;

	view = table_open(relid, AccessExclusiveLock);
	CheckTableNotInUse(view, "REFRESH MATERIALIZED VIEW");
	PushActiveSnapshot(snapshot);
	empty_view(view);
	ivm_view_reset_state(relid, plan);
	PopActiveSnapshot();

	ivm_stats_build_phase("running query");
	snapshot = ivm_push_advanced_snapshot(snapshot);
	population.arena = ivm_arena_create("population", context);
	population.context = context;
	population.retracted = NULL;
	population.desc = plan->root->desc;
	population.received = 0;
	population.buffer = ivm_insert_buffer_create(view, GetCurrentCommandId(true),
												 TABLE_INSERT_SKIP_FSM | TABLE_INSERT_FROZEN, true, NULL, NULL);

	dataflow = ivm_dataflow_create(plan, context);
	ivm_dataflow_begin(dataflow, snapshot, population.arena, true);
	ivm_dataflow_set_receiver(dataflow, receive_row, &population);
	ivm_dataflow_populate(dataflow);
	receive_result(&population, ivm_dataflow_finish(dataflow));
	ivm_dataflow_end(dataflow);
	ivm_dataflow_destroy(dataflow);

	ivm_insert_buffer_end(population.buffer);
	rows = population.buffer->inserted;
	ivm_stats_build_tuples(rows);
	CommandCounterIncrement();

	if (population.retracted != NULL)
	{
		IvmApplyCounts counts;

		ivm_view_apply_unindexed(view, plan, population.retracted, snapshot, &counts);
		CommandCounterIncrement();
		ivm_zset_close(population.retracted);
		rows -= counts.deleted;
	}

	ivm_stats_build_phase("building indexes");
	ivm_view_drop_obsolete_indexes(view, plan);
	if (view->rd_rel->relhasindex)
	{
		ReindexParams params = {0};

		reindex_relation(relid, REINDEX_REL_CHECK_CONSTRAINTS, &params);
		CommandCounterIncrement();
	}
	ivm_view_create_index(relid, plan);
	PopActiveSnapshot();

	SetMatViewPopulatedState(view, true);
	table_close(view, NoLock);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
	return rows;
}

/* Gives the view, its toast table and their indexes new, empty files. */
static void
empty_view(Relation view)
{
	Oid			relid = RelationGetRelid(view);
	Oid			toast_relid = view->rd_rel->reltoastrelid;
	ReindexParams params = {0};

	if (RelationGetNumberOfBlocks(view) > 0)
		pgstat_count_truncate(view);

	RelationSetNewRelfilenode(view, view->rd_rel->relpersistence);
	if (OidIsValid(toast_relid))
	{
		Relation	toast = table_open(toast_relid, AccessExclusiveLock);

		RelationSetNewRelfilenode(toast, toast->rd_rel->relpersistence);
		table_close(toast, NoLock);
	}
	reindex_relation(relid, REINDEX_REL_PROCESS_TOAST | REINDEX_REL_CHECK_CONSTRAINTS, &params);
	CommandCounterIncrement();
}

/* Takes a row of the view as the dataflow gives it. */
static void
receive_row(void *context, TupleTableSlot *row, int64 weight)
{
	Population *population = context;

	CHECK_FOR_INTERRUPTS();
	if (weight < 0)
	{
		if (population->retracted == NULL)
		{
			MemoryContext caller = MemoryContextSwitchTo(population->context);

			population->retracted = ivm_zset_create(population->arena, population->desc);
			MemoryContextSwitchTo(caller);
		}
		ivm_zset_add(population->retracted, row, weight);
		return;
	}
	for (int64 copy = 0; copy < weight; copy++)
	{
		CHECK_FOR_INTERRUPTS();
		ivm_insert_buffer_add(population->buffer, row);
		if (++population->received % ROWS_PER_REPORT == 0)
			ivm_stats_build_tuples(population->received);
	}
}

/* Takes the rows that the dataflow gives at its end, if it keeps any back. */
static void
receive_result(Population *population, IvmZset *result)
{
	IvmZsetParts parts;
	IvmRow	  **rows;
	int64		count;
	TupleTableSlot *slot;

	if (result == NULL || ivm_zset_is_empty(result))
		return;

	slot = MakeSingleTupleTableSlot(population->desc, &TTSOpsMinimalTuple);
	ivm_zset_parts_begin(result, &parts);
	while ((rows = ivm_zset_parts_next(&parts, &count)) != NULL)
		for (int64 i = 0; i < count; i++)
		{
			ExecStoreMinimalTuple(ivm_row_tuple(rows[i]), slot, false);
			receive_row(population, slot, rows[i]->weight);
		}
	ivm_zset_parts_end(&parts);
	ExecDropSingleTupleTableSlot(slot);
}
