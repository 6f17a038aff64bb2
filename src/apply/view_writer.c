/*-------------------------------------------------------------------------
 *
 * view_writer.c
 *	  Write a delta into a view's heap and indexes.
 *
 * The delta is a consolidated Z-set: rows that leave and rows that come.  It
 * is brought into the order of the index by which rows are found; old and new
 * rows that fall together there (of one key, that is, or of a view that has
 * one row at most) are paired into updates, and these are HOT if no indexed
 * column changes.  Which row is paired with which is a matter of speed only:
 * the heap's contents are the same.
 *
 * A delta that is larger than may stay in memory comes in parts (zset.h), and
 * each is found, paired and written before the next one is looked at.  The
 * dataflow sees to it that rows of one key come in one part; where they do
 * not, an update becomes a delete and an insert.
 *
 * Deletes come first, then updates, then inserts, so that a unique index never
 * sees a row that comes before the row that makes room for it.  With updates
 * alone that would not be enough: two rows may swap their values of a column
 * that has a unique index of its own.  An update that changes a column of any
 * other unique index than the one that pairs (or of its expressions or
 * predicate) is therefore taken apart again into a delete and an insert.  And
 * a row of a later part may make room for one of an earlier part: so the
 * inserts of all parts wait in a file until the last part has done its
 * deletes.  Updates need not wait, they claim nothing in a unique index.
 *
 * No part finds what an earlier one has written, although the snapshot sees
 * it: that are rows with the image of a new row, and equal images have been
 * added up, so nobody looks for one.  What an earlier part has deleted the
 * snapshot does not see.
 *
 * An unchanged large value that the old row has outside of the heap is kept
 * there: the new row takes the old one's pointer, so that updating a count
 * beside a long text does not write the text again.
 *
 * Nobody but the claim's holder writes the view, and rows of a materialized
 * view cannot be locked, so a row that the snapshot sees and that is being
 * changed all the same means that the claim was lost: an error, never a wait.
 *
 * The caller has become the view's owner in a security-restricted operation:
 * index expressions and predicates are evaluated here.
 *
 * Cost: a sort of each part, one index lookup for each row that leaves (or a
 * read of the heap for each part, if that is less or there is no index), one
 * heap change for each row.
 *
 * Memory: besides the present part some 50 bytes for each of its rows, which
 * is about as much as the rows themselves take at least, however many copies
 * of a row there are; palloc'd in a context that is gone on return.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "apply/apply.h"
#include "base/insert_buffer.h"
#include "apply/row_finder.h"
#include "apply/view_index.h"
#include "apply/view_writer.h"
#include "memory/reclaim.h"
#include "zset/spill.h"

#include "access/detoast.h"
#include "access/heaptoast.h"
#include "access/sysattr.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* Rows that are written together while parts are forced to be small. */
#define FORCED_ROWS		8

/* Everything that one call works with. */
typedef struct ViewWriter
{
	Relation	view;
	IvmPlan    *plan;
	IvmZset    *delta;
	Snapshot	snapshot;
	bool		indexed;		/* use and write indexes */
	MemoryContext context;		/* of all of this */
	MemoryContext part_context; /* reset for each part */
	MemoryContext row_context;	/* reset for each row */
	CommandId	cid;
	EState	   *estate;
	RangeTblEntry *rte;			/* collects the columns that updates change */
	ResultRelInfo *target;		/* the view with its indexes */
	IvmRowFinder finder;
	Bitmapset  *guarded;		/* columns (offset) that make an update a
								 * delete and an insert */
	bool		guards_row;		/* a unique index depends on the whole row */
	bool		compares;		/* must know which columns an update changes */
	IvmZsetParts parts;
	bool		in_parts;		/* there may be more than one */
	IvmSpill   *waiting;		/* rows to be inserted; NULL: none so far */
	IvmInsertBuffer *buffer;	/* NULL: nothing was inserted so far */

	/* the present part */
	IvmViewChange *changes;
	int64		count;

	IvmApplyCounts counts;
} ViewWriter;

static void init_writer(ViewWriter *writer, Relation view, IvmPlan *plan, IvmZset *delta,
						Snapshot snapshot, bool indexed);
static bool write_delta(void *view_writer);
static void write_part(ViewWriter *writer, IvmRow **rows, int64 count);
static void close_files(ViewWriter *writer);
static void open_target(ViewWriter *writer);
static void collect_changes(ViewWriter *writer, IvmRow **rows, int64 count);
static int	compare_changes(const void *a, const void *b, void *writer);
static void find_guarded_columns(ViewWriter *writer);
static void take_found_row(void *view_writer, IvmViewChange *change, ItemPointer tid);
static void pair_changes(ViewWriter *writer);
static bool note_changed_columns(ViewWriter *writer, IvmViewChange *old, IvmViewChange *new);
static void delete_row(ViewWriter *writer, ItemPointer tid);
static void delete_rows(ViewWriter *writer);
static void update_rows(ViewWriter *writer);
static void keep_stored_values(ViewWriter *writer, IvmViewChange *change, TupleTableSlot *slot);
static void insert_row(ViewWriter *writer, IvmRow *row, TupleTableSlot *slot);
static void insert_rows(ViewWriter *writer);
static void insert_waiting_rows(ViewWriter *writer);
static void check_result(ViewWriter *writer, TM_Result result);

void
ivm_view_apply(Relation view, IvmPlan *plan, IvmZset *delta, Snapshot snapshot, IvmApplyCounts *counts)
{
	ViewWriter	writer;

	memset(counts, 0, sizeof(IvmApplyCounts));
	if (ivm_zset_is_empty(delta))
		return;
	init_writer(&writer, view, plan, delta, snapshot, true);
	write_delta(&writer);
	*counts = writer.counts;
	MemoryContextDelete(writer.context);
}

void
ivm_view_apply_unindexed(Relation view, IvmPlan *plan, IvmZset *delta, Snapshot snapshot, IvmApplyCounts *counts)
{
	ViewWriter	writer;

	init_writer(&writer, view, plan, delta, snapshot, false);
	write_delta(&writer);
	*counts = writer.counts;
	MemoryContextDelete(writer.context);
}

int
ivm_view_apply_trial(Relation view, IvmPlan *plan, IvmZset *delta, Snapshot snapshot, IvmApplyCounts *counts)
{
	ViewWriter	writer;
	int			failure;

	memset(counts, 0, sizeof(IvmApplyCounts));
	if (ivm_zset_is_empty(delta))
		return 0;
	init_writer(&writer, view, plan, delta, snapshot, true);
	failure = ivm_view_index_trial(write_delta, &writer);
	if (failure == 0)
		*counts = writer.counts;
	else
		close_files(&writer);
	MemoryContextDelete(writer.context);
	return failure;
}

static void
init_writer(ViewWriter *writer, Relation view, IvmPlan *plan, IvmZset *delta, Snapshot snapshot, bool indexed)
{
	memset(writer, 0, sizeof(ViewWriter));
	writer->view = view;
	writer->plan = plan;
	writer->delta = delta;
	writer->snapshot = snapshot;
	writer->indexed = indexed;
	writer->context = AllocSetContextCreate(CurrentMemoryContext, "ivm view apply", ALLOCSET_DEFAULT_SIZES);
	writer->part_context = AllocSetContextCreate(writer->context, "ivm view part", ALLOCSET_DEFAULT_SIZES);
	writer->row_context = AllocSetContextCreate(writer->context, "ivm view change", ALLOCSET_DEFAULT_SIZES);
}

static bool
write_delta(void *view_writer)
{
	ViewWriter *writer = view_writer;
	MemoryContext caller = MemoryContextSwitchTo(writer->context);
	bool		forced = ivm_spill_is_forced("output");
	IvmRow	  **rows;
	int64		count;

	PushActiveSnapshot(writer->snapshot);
	writer->cid = GetCurrentCommandId(true);
	open_target(writer);
	ivm_row_finder_begin(&writer->finder, writer->view, writer->plan, ivm_zset_desc(writer->delta), writer->snapshot,
						 writer->target->ri_NumIndices, writer->target->ri_IndexRelationDescs);
	find_guarded_columns(writer);

	ivm_zset_parts_begin(writer->delta, &writer->parts);
	writer->in_parts = forced || writer->parts.level != NULL;
	while ((rows = ivm_zset_parts_next(&writer->parts, &count)) != NULL)
	{
		int64		step = forced ? FORCED_ROWS : Max(count, 1);

		for (int64 i = 0; i < count; i += step)
			write_part(writer, rows + i, Min(step, count - i));
	}
	insert_waiting_rows(writer);
	close_files(writer);

	if (writer->buffer != NULL)
	{
		ivm_insert_buffer_end(writer->buffer);
		if (writer->plan->single_row)
			ivm_row_finder_remember(&writer->finder, &writer->buffer->last_tid);
	}
	ivm_row_finder_end(&writer->finder);
	ExecCloseIndices(writer->target);
	FreeExecutorState(writer->estate);
	PopActiveSnapshot();
	MemoryContextSwitchTo(caller);
	return true;
}

static void
write_part(ViewWriter *writer, IvmRow **rows, int64 count)
{
	MemoryContext caller = MemoryContextSwitchTo(writer->part_context);

	collect_changes(writer, rows, count);
	ivm_row_finder_find(&writer->finder, writer->changes, writer->count, take_found_row, writer);
	pair_changes(writer);

	delete_rows(writer);
	update_rows(writer);
	insert_rows(writer);

	MemoryContextSwitchTo(caller);
	MemoryContextReset(writer->part_context);
}

/*
 * Files belong to the top-level transaction, so a subtransaction that fails
 * leaves them open.
 */
static void
close_files(ViewWriter *writer)
{
	if (writer->parts.zset != NULL)
		ivm_zset_parts_end(&writer->parts);
	if (writer->waiting != NULL)
		ivm_spill_destroy(writer->waiting);
	writer->waiting = NULL;
}

/* What the executor's index code wants to see of a statement that writes the view. */
static void
open_target(ViewWriter *writer)
{
	writer->estate = CreateExecutorState();
	writer->rte = makeNode(RangeTblEntry);
	writer->rte->rtekind = RTE_RELATION;
	writer->rte->relid = RelationGetRelid(writer->view);
	writer->rte->relkind = writer->view->rd_rel->relkind;
	writer->rte->rellockmode = RowExclusiveLock;
	ExecInitRangeTable(writer->estate, list_make1(writer->rte));
	writer->estate->es_output_cid = writer->cid;

	writer->target = makeNode(ResultRelInfo);
	InitResultRelInfo(writer->target, writer->view, 1, NULL, 0);
	if (writer->indexed)
		ExecOpenIndices(writer->target, false);
}

/* One change for each row, in the order of the index, old before new. */
static void
collect_changes(ViewWriter *writer, IvmRow **rows, int64 count)
{
	Size		key_size = writer->finder.key_size;
	char	   *keys = NULL;

	writer->count = count;
	writer->changes = MemoryContextAllocHuge(CurrentMemoryContext, Max(count, 1) * sizeof(IvmViewChange));
	if (key_size > 0)
		keys = MemoryContextAllocHuge(CurrentMemoryContext, Max(count, 1) * key_size);
	for (int64 i = 0; i < count; i++)
	{
		IvmViewChange *change = &writer->changes[i];

		CHECK_FOR_INTERRUPTS();
		change->row = rows[i];
		change->action = rows[i]->weight < 0 ? IVM_VIEW_DELETE : IVM_VIEW_INSERT;
		ItemPointerSetInvalid(&change->tid);
		ivm_row_finder_prepare(&writer->finder, change, keys + i * key_size);
	}
	qsort_arg(writer->changes, count, sizeof(IvmViewChange), compare_changes, writer);
}

static int
compare_changes(const void *a, const void *b, void *writer)
{
	const IvmViewChange *change_a = a;
	const IvmViewChange *change_b = b;
	int			result;

	CHECK_FOR_INTERRUPTS();
	result = ivm_row_finder_compare(change_a, change_b, &((ViewWriter *) writer)->finder);
	if (result != 0)
		return result;
	return (int) change_a->action - (int) change_b->action;
}

/* Which columns do the unique indexes depend on that do not find the rows? */
static void
find_guarded_columns(ViewWriter *writer)
{
	for (int i = 0; i < writer->target->ri_NumIndices; i++)
	{
		Relation	index = writer->target->ri_IndexRelationDescs[i];
		IndexInfo  *info = writer->target->ri_IndexRelationInfo[i];

		if (index == writer->finder.fit.index)
			continue;
		writer->compares = true;
		if (!info->ii_Unique)
			continue;
		for (int column = 0; column < info->ii_NumIndexKeyAttrs; column++)
		{
			if (info->ii_IndexAttrNumbers[column] != 0)
				writer->guarded = bms_add_member(writer->guarded,
												 info->ii_IndexAttrNumbers[column] - FirstLowInvalidHeapAttributeNumber);
		}
		pull_varattnos((Node *) info->ii_Expressions, 1, &writer->guarded);
		pull_varattnos((Node *) info->ii_Predicate, 1, &writer->guarded);
	}
	writer->guards_row = bms_is_member(0 - FirstLowInvalidHeapAttributeNumber, writer->guarded);
}

/*
 * A copy of an old row is there.  Of a row that has several all are deleted at
 * once: there is no end to how many it may have.
 */
static void
take_found_row(void *view_writer, IvmViewChange *change, ItemPointer tid)
{
	ViewWriter *writer = view_writer;

	change->tid = *tid;
	if (change->row->weight == -1)
		return;
	delete_row(writer, tid);
	change->action = IVM_VIEW_DONE;
}

/* Makes updates of old and new rows that stand together. */
static void
pair_changes(ViewWriter *writer)
{
	IvmRowFinder *finder = &writer->finder;
	int64		first;
	int64		end;

	/*
	 * Without a key nothing that stands together has more in common than a
	 * hash.
	 */
	if (!finder->plan->single_row &&
		finder->fit.kind != IVM_VIEW_INDEX_KEY && finder->fit.kind != IVM_VIEW_INDEX_KEY_HASH)
		return;

	for (first = 0; first < writer->count; first = end)
	{
		int64		old = first;
		int64		new = first;

		CHECK_FOR_INTERRUPTS();
		end = first + 1;
		while (end < writer->count &&
			   ivm_row_finder_compare(&writer->changes[first], &writer->changes[end], finder) == 0)
			end++;
		while (new < end && writer->changes[new].action != IVM_VIEW_INSERT)
			new++;
		for (int64 old_end = new; old < old_end && new < end; old++, new++)
		{
			IvmViewChange *old_change = &writer->changes[old];
			IvmViewChange *new_change = &writer->changes[new];

			/* A key has one row; if it has more, there is no need for speed. */
			if (old_change->action == IVM_VIEW_DONE || new_change->row->weight != 1)
				continue;
			if (writer->compares && !note_changed_columns(writer, old_change, new_change))
				continue;
			new_change->tid = old_change->tid;
			new_change->action = IVM_VIEW_UPDATE;
			old_change->action = IVM_VIEW_DONE;
		}
	}
}

/*
 * Adds the columns in which the rows differ to the range table entry, where
 * the index code looks for them.  Returns false, and adds nothing, if an
 * update would touch a guarded one.
 */
static bool
note_changed_columns(ViewWriter *writer, IvmViewChange *old, IvmViewChange *new)
{
	TupleDesc	desc = writer->finder.desc;
	MinimalTuple tuples[2];
	Datum	   *values[2];
	bool	   *isnull[2];
	Bitmapset  *changed = NULL;
	MemoryContext caller;
	bool		result;

	if (writer->guards_row)
		return false;

	MemoryContextReset(writer->row_context);
	caller = MemoryContextSwitchTo(writer->row_context);
	tuples[0] = ivm_row_tuple(old->row);
	tuples[1] = ivm_row_tuple(new->row);
	for (int i = 0; i < 2; i++)
	{
		HeapTupleData tuple;

		tuple.t_len = tuples[i]->t_len + MINIMAL_TUPLE_OFFSET;
		tuple.t_data = (HeapTupleHeader) ((char *) tuples[i] - MINIMAL_TUPLE_OFFSET);
		ItemPointerSetInvalid(&tuple.t_self);
		tuple.t_tableOid = InvalidOid;
		values[i] = palloc(desc->natts * sizeof(Datum));
		isnull[i] = palloc(desc->natts * sizeof(bool));
		heap_deform_tuple(&tuple, desc, values[i], isnull[i]);
	}
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		if (isnull[0][i] != isnull[1][i] ||
			(!isnull[0][i] &&
			 !datumIsEqual(values[0][i], values[1][i], attribute->attbyval, attribute->attlen)))
			changed = bms_add_member(changed, i + 1 - FirstLowInvalidHeapAttributeNumber);
	}
	result = !bms_overlap(changed, writer->guarded);
	MemoryContextSwitchTo(caller);

	if (result && !bms_is_subset(changed, writer->rte->updatedCols))
	{
		/* it is for all parts */
		caller = MemoryContextSwitchTo(writer->context);
		writer->rte->updatedCols = bms_add_members(writer->rte->updatedCols, changed);
		MemoryContextSwitchTo(caller);
	}
	return result;
}

static void
delete_row(ViewWriter *writer, ItemPointer tid)
{
	TM_FailureData failure;
	MemoryContext caller;
	TM_Result	result;

	MemoryContextReset(writer->row_context);
	caller = MemoryContextSwitchTo(writer->row_context);
	result = table_tuple_delete(writer->view, tid, writer->cid,
								writer->snapshot, InvalidSnapshot, false, &failure, false);
	MemoryContextSwitchTo(caller);
	check_result(writer, result);
	writer->counts.deleted++;
}

static void
delete_rows(ViewWriter *writer)
{
	for (int64 i = 0; i < writer->count; i++)
	{
		if (writer->changes[i].action != IVM_VIEW_DELETE)
			continue;
		CHECK_FOR_INTERRUPTS();
		delete_row(writer, &writer->changes[i].tid);
	}
}

static void
update_rows(ViewWriter *writer)
{
	TupleTableSlot *slot = NULL;

	for (int64 i = 0; i < writer->count; i++)
	{
		IvmViewChange *change = &writer->changes[i];
		TM_FailureData failure;
		LockTupleMode lock_mode;
		bool		update_indexes;
		MemoryContext caller;
		TM_Result	result;

		if (change->action != IVM_VIEW_UPDATE)
			continue;
		CHECK_FOR_INTERRUPTS();
		if (slot == NULL)
			slot = MakeSingleTupleTableSlot(RelationGetDescr(writer->view), &TTSOpsHeapTuple);

		MemoryContextReset(writer->row_context);
		ResetPerTupleExprContext(writer->estate);
		ExecForceStoreMinimalTuple(ivm_row_tuple(change->row), slot, false);
		if (ivm_row_tuple(change->row)->t_len > TOAST_TUPLE_THRESHOLD &&
			OidIsValid(writer->view->rd_rel->reltoastrelid))
			keep_stored_values(writer, change, slot);

		caller = MemoryContextSwitchTo(writer->row_context);
		result = table_tuple_update(writer->view, &change->tid, slot, writer->cid,
									writer->snapshot, InvalidSnapshot, false,
									&failure, &lock_mode, &update_indexes);
		MemoryContextSwitchTo(caller);
		check_result(writer, result);
		if (update_indexes)
			ExecInsertIndexTuples(writer->target, slot, writer->estate, true, false, NULL, NIL);
		if (writer->finder.plan->single_row)
			ivm_row_finder_remember(&writer->finder, &slot->tts_tid);
		writer->counts.updated++;
	}
	if (slot != NULL)
		ExecDropSingleTupleTableSlot(slot);
}

/*
 * Replaces values of the new row by the old row's toast pointers where the
 * value behind them is the same.
 */
static void
keep_stored_values(ViewWriter *writer, IvmViewChange *change, TupleTableSlot *slot)
{
	TupleDesc	desc = RelationGetDescr(writer->view);
	TupleTableSlot *stored = writer->finder.slot;
	Datum	   *values;
	bool	   *isnull;
	bool		kept = false;
	MemoryContext caller;

	if (!table_tuple_fetch_row_version(writer->view, &change->tid, writer->snapshot, stored))
		return;
	slot_getallattrs(stored);
	slot_getallattrs(slot);

	caller = MemoryContextSwitchTo(writer->row_context);
	values = palloc(desc->natts * sizeof(Datum));
	isnull = palloc(desc->natts * sizeof(bool));
	for (int i = 0; i < desc->natts; i++)
	{
		struct varlena *old_value;
		struct varlena *new_value;
		struct varlena *plain;

		values[i] = slot->tts_values[i];
		isnull[i] = slot->tts_isnull[i];
		if (TupleDescAttr(desc, i)->attlen != -1 || isnull[i] || stored->tts_isnull[i])
			continue;
		old_value = (struct varlena *) DatumGetPointer(stored->tts_values[i]);
		new_value = (struct varlena *) DatumGetPointer(values[i]);
		if (!VARATT_IS_EXTERNAL_ONDISK(old_value) ||
			toast_raw_datum_size(PointerGetDatum(old_value)) - VARHDRSZ != VARSIZE_ANY_EXHDR(new_value))
			continue;
		plain = detoast_attr(old_value);
		if (memcmp(VARDATA_ANY(plain), VARDATA_ANY(new_value), VARSIZE_ANY_EXHDR(new_value)) == 0)
		{
			values[i] = PointerGetDatum(old_value);
			kept = true;
		}
		pfree(plain);
	}

	if (kept)
	{
		ExecClearTuple(slot);
		memcpy(slot->tts_values, values, desc->natts * sizeof(Datum));
		memcpy(slot->tts_isnull, isnull, desc->natts * sizeof(bool));
		ExecStoreVirtualTuple(slot);
	}
	MemoryContextSwitchTo(caller);

	/*
	 * The pointers are in the old row's page: take a copy before letting it
	 * go.
	 */
	ExecMaterializeSlot(slot);
	ExecClearTuple(stored);
}

/* Inserts all copies of a row.  Without "slot" its memory stays until the buffer is flushed. */
static void
insert_row(ViewWriter *writer, IvmRow *row, TupleTableSlot *slot)
{
	if (writer->buffer == NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(writer->context);

		writer->buffer = ivm_insert_buffer_create(writer->view, writer->cid, 0, false,
												  writer->target, writer->estate);
		MemoryContextSwitchTo(caller);
	}
	if (slot != NULL)
		ExecStoreMinimalTuple(ivm_row_tuple(row), slot, false);
	for (int64 copy = 0; copy < row->weight; copy++)
	{
		if (slot != NULL)
			ivm_insert_buffer_add(writer->buffer, slot);
		else
			ivm_insert_buffer_add_tuple(writer->buffer, ivm_row_tuple(row));
	}
	writer->counts.inserted += row->weight;
}

/* Inserts what comes, or puts it to the rows that wait. */
static void
insert_rows(ViewWriter *writer)
{
	for (int64 i = 0; i < writer->count; i++)
	{
		IvmRow	   *row = writer->changes[i].row;

		if (writer->changes[i].action != IVM_VIEW_INSERT)
			continue;
		CHECK_FOR_INTERRUPTS();
		if (!writer->in_parts)
		{
			insert_row(writer, row, NULL);
			continue;
		}
		if (writer->waiting == NULL)
		{
			MemoryContext caller = MemoryContextSwitchTo(writer->context);

			writer->waiting = ivm_spill_create(0);
			MemoryContextSwitchTo(caller);
		}

		/*
		 * All in one partition: they are read in the order in which they
		 * came.
		 */
		ivm_spill_put(writer->waiting, ivm_row_tuple(row), row->weight, 0);
	}
	if (writer->buffer != NULL)
		ivm_insert_buffer_flush(writer->buffer);
}

/* All parts have done their deletes. */
static void
insert_waiting_rows(ViewWriter *writer)
{
	TupleTableSlot *slot;
	IvmSpillReader reader;
	IvmRow	   *row;

	if (writer->waiting == NULL)
		return;
	ivm_spill_flush(writer->waiting);
	slot = MakeSingleTupleTableSlot(ivm_zset_desc(writer->delta), &TTSOpsMinimalTuple);
	ivm_spill_read_begin(writer->waiting, 0, &reader);
	while ((row = ivm_spill_read_next(&reader)) != NULL)
	{
		bool		large = ivm_row_tuple(row)->t_len > IVM_INSERT_BUFFER_BYTES;

		CHECK_FOR_INTERRUPTS();
		insert_row(writer, row, large ? NULL : slot);
		if (large)
			ivm_insert_buffer_flush(writer->buffer);
	}
	ivm_spill_read_end(&reader);
	ExecDropSingleTupleTableSlot(slot);
}

/* The row was there a moment ago, and nobody else may write. */
static void
check_result(ViewWriter *writer, TM_Result result)
{
	if (result != TM_Ok)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not change a row of incremental view \"%s\": another process changes it",
						RelationGetRelationName(writer->view))));
}
