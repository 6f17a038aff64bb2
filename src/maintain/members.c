/*-------------------------------------------------------------------------
 *
 * members.c
 *	  Partitions and children that come and go under a view.
 *
 * A table that is attached brings its rows into the tree without a row in
 * the WAL, and one that is detached takes them away.  A view's fingerprint lists the
 * members that its contents were computed from; when it is compiled with others, and
 * nothing else has changed, the next batch brings in the difference.  With A the applied
 * snapshot, S the batch's, and r(X) the rows of a table under X:
 *
 *	joined		+ r(S), read from the table.  What the log has of r up to S is in
 *				that, and is skipped.
 *	left		- r(A), which is r(S) less the changes of r between A and S: these
 *				are in the log, since r was registered while it was a member.
 *
 * The members that stay bring their changes as ever.  In joins the old state is the new one, of the
 * new members under S, less all of this.
 *
 * Why nothing of a joined table is lost: whoever attaches it locks it against writers, so
 * whatever changed it before is visible to S, which is taken with a lock on it.  Whatever changes it
 * later is decoded as a change of a registered table: S is not taken before the decoder has
 * acknowledged the registration, and all that it had decoded before is visible.
 *
 * What has left has to be there still, with the file and the columns that it had: a table
 * that is no member any more can be rewritten, or have its columns renamed, without a row in
 * the log.  Otherwise, and if it was truncated, the view is rebuilt.
 *
 * Its rows are pushed as if they came from a member that is left; each scan of the tree takes them
 * once.  A part of the query that is recomputed does not need them: it is run again, unless what has joined is
 * empty.  Where all that read it are such parts, what has left is not opened any more: it may be gone.  What the
 * log has of it makes them run again all the same: it may come back, with other rows, before there was a batch.
 *
 * The fingerprint is stored with the applied snapshot, so that a crash neither loses nor doubles anything.
 * Who else stores one (the builder) has the claim, as a batch has: a batch looks whether the row is still
 * the one that the difference was told from.
 *
 * Memory: lists in the consumer's context; rows in the batch's.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "compile/compile.h"
#include "maintain/members.h"

/* Has a table that was a member the file and the columns that it had?  It is locked, or gone. */
static bool
is_as_it_was(const IvmMember *member)
{
	Relation	relation = try_relation_open(member->relid, NoLock);
	bool		result;

	if (relation == NULL)
		return false;
	result = relation->rd_rel->relkind == RELKIND_RELATION &&
		relation->rd_rel->relfilenode == member->file &&
		relation->rd_rel->relpersistence == member->persistence &&
		relation->rd_rel->relreplident == member->identity &&
		ivm_fingerprint_columns(RelationGetDescr(relation)) == member->columns;
	relation_close(relation, NoLock);
	return result;
}

/*
 * A scan for each time that the plan reads the tree: those of one member that is read in every way in which
 * any is.  (What is not read in one of them was pruned there; where the same is asked of a tree, the same is
 * pruned.)  NIL if there is none, and so nobody can tell.
 */
static List *
scans_of_tree(IvmPlan *plan, Oid tree)
{
	List	   *shapes = NIL;
	List	   *members = NIL;
	ListCell   *cell;
	ListCell   *inner;

	foreach(cell, plan->nodes)
	{
		IvmPlanNode *node = lfirst(cell);

		if (node->tree != tree)
			continue;
		shapes = list_append_unique_int(shapes, node->shape_id);
		members = list_append_unique_oid(members, node->relid);
	}
	foreach(cell, members)
	{
		List	   *scans = NIL;

		foreach(inner, plan->nodes)
		{
			IvmPlanNode *node = lfirst(inner);

			if (node->tree == tree && node->relid == lfirst_oid(cell))
				scans = lappend(scans, node);
		}
		/* no two of them are of one shape */
		if (list_length(scans) == list_length(shapes))
			return scans;
	}
	return NIL;
}

/* Is the table, or what is below it, read by anything but parts that are recomputed? */
static bool
is_scanned(IvmPlan *plan, Oid relid)
{
	ListCell   *cell;

	foreach(cell, plan->nodes)
	{
		IvmPlanNode *node = lfirst(cell);

		if (node->kind == IVM_SCAN && (node->tree == relid || node->relid == relid))
			return true;
	}
	return false;
}

const char *
ivm_members_compare(IvmConsumer *consumer, IvmViewRow *row, IvmPlan *plan)
{
	List	   *joined;
	List	   *left;
	MemoryContext old;
	ListCell   *cell;

	if (row->fingerprint == NULL || !ivm_fingerprint_members(row->fingerprint, plan->fingerprint, &joined, &left))
		return "a relation or function that it reads was replaced";
	foreach(cell, left)
	{
		IvmMember  *member = lfirst(cell);

		if (!is_scanned(plan, member->tree))
			continue;
		if (scans_of_tree(plan, member->tree) == NIL)
			return "a partition or child of a table was taken away that it reads in several ways";

		/* one that is locked is looked at again with the batch's lock */
		if (!ConditionalLockRelationOid(member->relid, AccessShareLock))
			continue;
		if (!is_as_it_was(member))
			return "a partition or child of a table that it reads was dropped, or taken away and altered";
	}

	ivm_members_forget(consumer);
	old = MemoryContextSwitchTo(consumer->context);
	foreach(cell, joined)
		consumer->joined = lappend_oid(consumer->joined, ((IvmMember *) lfirst(cell))->relid);
	foreach(cell, left)
	{
		IvmMember  *member = lfirst(cell);

		consumer->left = lappend(consumer->left, memcpy(palloc(sizeof(IvmMember)), member, sizeof(IvmMember)));
	}
	MemoryContextSwitchTo(old);
	consumer->members_differ = true;
	consumer->members_version = row->version;
	consumer->members_generation = PG_UINT64_MAX;	/* not registered yet */
	return NULL;
}

void
ivm_members_forget(IvmConsumer *consumer)
{
	list_free(consumer->joined);
	list_free_deep(consumer->left);
	consumer->joined = NIL;
	consumer->left = NIL;
	consumer->members_differ = false;
}

void
ivm_members_register(IvmConsumer *consumer, IvmDatabase *database)
{
	ListCell   *cell;

	if (!consumer->members_differ)
		return;
	(void) ivm_plan_register(database, consumer->compiled->plan);
	foreach(cell, consumer->left)
		(void) ivm_registry_add(database, ((IvmMember *) lfirst(cell))->relid, NULL);
	consumer->members_generation = ivm_registry_ask(database);
}

bool
ivm_members_lock(IvmConsumer *consumer, IvmDatabase *database)
{
	IvmViewRow *row;
	ListCell   *cell;

	if (!consumer->members_differ)
		return true;
	if (!ivm_registry_is_acknowledged(database, consumer->members_generation))
		return false;
	row = ivm_metadata_get(consumer->relid);
	if (row == NULL || !ivm_row_version_equal(&row->version, &consumer->members_version))
	{
		ivm_compiled_set_stale(consumer->compiled);
		return false;
	}
	foreach(cell, consumer->left)
	{
		IvmMember  *member = lfirst(cell);

		if (!is_scanned(consumer->compiled->plan, member->tree))
			continue;
		if (!ConditionalLockRelationOid(member->relid, AccessShareLock))
			return false;
		if (!is_as_it_was(member))
		{
			ivm_compiled_set_stale(consumer->compiled);
			return false;
		}
	}
	return true;
}

bool
ivm_members_skip(IvmConsumer *consumer, Oid relid)
{
	ListCell   *cell;

	foreach(cell, consumer->left)
	{
		IvmMember  *member = lfirst(cell);

		/* parts that are recomputed are run again anyway */
		if (member->relid == relid && !is_scanned(consumer->compiled->plan, member->tree))
			return true;
	}
	return consumer->joined != NIL && list_member_oid(consumer->joined, relid);
}

/* Pushes a row of a member that has left through each scan of its tree. */
static void
push_left(IvmConsumer *consumer, IvmMember *member, TupleTableSlot *row, int64 weight)
{
	TupleDesc	from = row->tts_tupleDescriptor;
	ListCell   *cell;

	slot_getallattrs(row);
	foreach(cell, scans_of_tree(consumer->compiled->plan, member->tree))
	{
		IvmPlanNode *scan = lfirst(cell);
		Relation	relation = table_open(scan->relid, NoLock);
		TupleDesc	to = RelationGetDescr(relation);
		TupleTableSlot *slot = MakeSingleTupleTableSlot(to, &TTSOpsVirtual);

		for (int i = 0; i < to->natts; i++)
		{
			Form_pg_attribute attribute = TupleDescAttr(to, i);

			slot->tts_isnull[i] = true;
			slot->tts_values[i] = (Datum) 0;
			if (attribute->attisdropped || !bms_is_member(i + 1, scan->attributes))
				continue;
			for (int j = 0; j < from->natts; j++)
			{
				if (TupleDescAttr(from, j)->attisdropped ||
					strcmp(NameStr(TupleDescAttr(from, j)->attname), NameStr(attribute->attname)) != 0)
					continue;
				slot->tts_isnull[i] = row->tts_isnull[j];
				slot->tts_values[i] = row->tts_values[j];
			}
		}
		ExecStoreVirtualTuple(slot);
		slot->tts_tableOid = member->relid;
		ivm_dataflow_push_to(consumer->dataflow, scan, slot, weight);
		ExecDropSingleTupleTableSlot(slot);
		table_close(relation, NoLock);
	}
}

bool
ivm_members_push_change(IvmConsumer *consumer, Oid relid, TupleTableSlot *row, int64 weight)
{
	ListCell   *cell;

	foreach(cell, consumer->left)
	{
		IvmMember  *member = lfirst(cell);

		if (member->relid != relid)
			continue;
		push_left(consumer, member, row, weight);
		return true;
	}
	return false;
}

/* Reads a table, or only whether there is anything in it; as one that has left if "member" is given. */
static uint64
push_table(IvmConsumer *consumer, Oid relid, IvmMember *member, bool all, Snapshot snapshot)
{
	Relation	relation = table_open(relid, NoLock);
	TableScanDesc scan = table_beginscan(relation, snapshot, 0, NULL);
	TupleTableSlot *slot = table_slot_create(relation, NULL);
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "ivm member", ALLOCSET_DEFAULT_SIZES);
	uint64		rows = 0;

	while ((all || rows == 0) && table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		MemoryContext old = MemoryContextSwitchTo(context);

		CHECK_FOR_INTERRUPTS();
		if (member != NULL)
			push_left(consumer, member, slot, -1);
		else
			ivm_dataflow_push(consumer->dataflow, relid, slot, 1);
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
		rows++;
	}
	MemoryContextDelete(context);
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	table_close(relation, NoLock);
	return rows;
}

uint64
ivm_members_push(IvmConsumer *consumer, Snapshot snapshot)
{
	IvmPlan    *plan = consumer->compiled->plan;
	uint64		rows = 0;
	ListCell   *cell;

	foreach(cell, consumer->joined)
		rows += push_table(consumer, lfirst_oid(cell), NULL, is_scanned(plan, lfirst_oid(cell)), snapshot);
	foreach(cell, consumer->left)
	{
		IvmMember  *member = lfirst(cell);

		if (is_scanned(plan, member->tree))
			rows += push_table(consumer, member->relid, member, true, snapshot);
		rows += ivm_dataflow_touch(consumer->dataflow, member->tree);
	}
	return rows;
}

void
ivm_members_store(IvmConsumer *consumer)
{
	IvmViewRow *row = ivm_metadata_get(consumer->relid);

	row->fingerprint = consumer->compiled->plan->fingerprint;
	ivm_metadata_put(row);
	consumer->members_version = row->version;
}

void
ivm_members_committed(IvmConsumer *consumer)
{
	consumer->row_version = consumer->members_version;
	ivm_members_forget(consumer);
}
