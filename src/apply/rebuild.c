/*-------------------------------------------------------------------------
 *
 * rebuild.c
 *	  Bring a view that has contents back to its query.
 *
 * What the query gives is compared with what the view holds, as multisets:
 * every row of the query counts +1, every row of the view -1, and what does
 * not cancel out is the difference.
 *
 * A rebuild takes the query's rows from the dataflow itself, run over the full
 * inputs with an empty state.  Rows are compared by image: a row that differs
 * from the stored one only in its image, like 1.0 from 1.00, is replaced, so
 * that afterwards the view holds the images that the operators will name when
 * they take rows back.  The difference is written like a batch, in place:
 * readers go on, and rows that were right are not touched.  A view that has
 * no index to find its rows by (PostgreSQL filled it, or the user dropped it)
 * gets one.  Where an index proves to be damaged, since its order became
 * another one (a function of an operator class was replaced, the operating system
 * brought another collation) or by the disk, all are built anew.
 *
 * Where memory is short the rows of both sides go to temporary files, and the
 * difference comes in parts, which are written one after the other (view_writer.c).
 *
 * Memory: both sides' differing rows in an arena, or a part of them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "apply/apply.h"
#include "apply/state.h"
#include "apply/view_index.h"
#include "apply/view_writer.h"
#include "dataflow/dataflow.h"
#include "memory/arena.h"
#include "stats/stats.h"
#include "zset/key.h"
#include "zset/zset.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "commands/matview.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* Rows collected on their way to being compared. */
typedef struct Collection
{
	IvmZset    *zset;
	MemoryContext row_context;
	uint64		received;
} Collection;

static void begin_collection(Collection *collection, IvmArena *arena, IvmPlan *plan,
							 IvmPartitionHash hash, void *hash_context);
static void collect_row(void *context, TupleTableSlot *row, int64 weight);
static void collect_view(Collection *collection, Relation view, Snapshot snapshot);

void
ivm_view_rebuild(Oid relid, IvmPlan *plan, Snapshot snapshot, IvmApplyCounts *counts)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "ivm rebuild", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	IvmArena   *arena = ivm_arena_create("rebuild", context);
	Collection	collection;
	IvmDataflow *dataflow;
	IvmZset    *result;
	IvmRowKey  *key = ivm_dataflow_output_key(plan);
	Relation	view;
	int			failure;

	view = table_open(relid, RowExclusiveLock);
	PushActiveSnapshot(snapshot);
	ivm_view_reset_state(relid, plan);
	PopActiveSnapshot();

	snapshot = ivm_push_advanced_snapshot(snapshot);
	begin_collection(&collection, arena, plan, key == NULL ? NULL : ivm_row_key_hash, key);

	ivm_stats_build_phase("running query");
	dataflow = ivm_dataflow_create(plan, context);
	ivm_dataflow_begin(dataflow, snapshot, arena, true);
	ivm_dataflow_set_receiver(dataflow, collect_row, &collection);
	ivm_dataflow_populate(dataflow);
	result = ivm_dataflow_finish(dataflow);
	if (result != NULL)
	{
		IvmZsetParts parts;
		IvmRow	  **rows;
		int64		count;

		ivm_zset_parts_begin(result, &parts);
		while ((rows = ivm_zset_parts_next(&parts, &count)) != NULL)
			for (int64 i = 0; i < count; i++)
			{
				CHECK_FOR_INTERRUPTS();
				ivm_zset_add_tuple(collection.zset, ivm_row_tuple(rows[i]), rows[i]->weight);
			}
		ivm_zset_parts_end(&parts);
	}
	ivm_dataflow_end(dataflow);
	ivm_dataflow_destroy(dataflow);

	ivm_stats_build_phase("comparing");
	collect_view(&collection, view, snapshot);

	ivm_stats_build_phase("writing differences");
	ivm_view_drop_obsolete_indexes(view, plan);
	failure = ivm_view_apply_trial(view, plan, collection.zset, snapshot, counts);
	if (failure == ERRCODE_PROGRAM_LIMIT_EXCEEDED)
	{
		/*
		 * a key has grown too long for its index; any other limit is raised
		 * again
		 */
		(void) ivm_view_replace_key_index(view, plan);
		ivm_view_apply(view, plan, collection.zset, snapshot, counts);
	}
	else if (failure != 0)
	{
		/* what was read from the heap is there: an index does not lead to it */
		ivm_view_apply_unindexed(view, plan, collection.zset, snapshot, counts);
		CommandCounterIncrement();
		ivm_view_reindex(view);
	}
	CommandCounterIncrement();
	ivm_view_create_index(relid, plan);
	ivm_zset_close(collection.zset);
	PopActiveSnapshot();

	if (!RelationIsPopulated(view))
		SetMatViewPopulatedState(view, true);
	table_close(view, NoLock);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
}

/* An empty one in the current context; with "hash", partitioned by it. */
static void
begin_collection(Collection *collection, IvmArena *arena, IvmPlan *plan,
				 IvmPartitionHash hash, void *hash_context)
{
	collection->zset = ivm_zset_create(arena, plan->root->desc);
	if (hash != NULL)
		ivm_zset_partition_by(collection->zset, hash, hash_context);
	collection->row_context = AllocSetContextCreate(CurrentMemoryContext, "ivm collected row", ALLOCSET_DEFAULT_SIZES);
	collection->received = 0;
}

static void
collect_row(void *context, TupleTableSlot *row, int64 weight)
{
	Collection *collection = context;
	MemoryContext caller;

	CHECK_FOR_INTERRUPTS();
	MemoryContextReset(collection->row_context);
	caller = MemoryContextSwitchTo(collection->row_context);
	ivm_zset_add(collection->zset, row, weight);
	MemoryContextSwitchTo(caller);
	if (++collection->received % 10000 == 0)
		ivm_stats_build_tuples(collection->received);
}

/* Subtracts the view's contents. */
static void
collect_view(Collection *collection, Relation view, Snapshot snapshot)
{
	TupleTableSlot *slot = table_slot_create(view, NULL);
	TableScanDesc scan = table_beginscan_strat(view, snapshot, 0, NULL, true, false);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
		collect_row(collection, slot, -1);
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
}
