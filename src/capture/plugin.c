/*-------------------------------------------------------------------------
 *
 * plugin.c
 *	  The output plugin: changes of tracked tables become rows of the log.
 *
 * It is called by logical decoding in the decoder, once for every change of a
 * committed transaction, with the table as it was then (the historic
 * snapshot).  An update is its old row with weight -1 and its new one with
 * weight +1; where no needed column changed they cancel, and nothing is
 * written.  A transaction without anything to write leaves no trace in the log.
 *
 * Whether a table is tracked is decided by what is registered of it and of
 * its ancestors, partitioned tables and inheritance parents alike, since a
 * partition may be younger than every compiled plan.  Columns registered of an
 * ancestor are found by name, as PostgreSQL itself maps them.  The answer is
 * cached until an invalidation of the table or of an ancestor, as a change of
 * the inheritance tree always brings one of the child.  The cache keeps a few
 * thousand tables besides those that are tracked.
 *
 * Tables have replica identity FULL, so that the old row is complete in the
 * WAL, toasted values included; an unchanged toasted value is missing in the
 * new row and taken from the old.  Where a change cannot be represented (the
 * identity is another, a row is larger than memory can hold in one piece), a
 * record of kind truncate says that the table has changed in an unknown
 * way, and its readers rebuild.
 *
 * Nobody but our decoder may use the plugin: it keeps what views need, not
 * what a replication user may see.
 *
 * Memory: the cache in a context of its own, a row in one that is reset for
 * each change.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "replication/logical.h"
#include "replication/origin.h"
#include "replication/output_plugin.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "base/debug_point.h"
#include "capture/capture_internal.h"
#include "zset/row.h"

/* A row whose values take more than this together is not even tried. */
#define MAX_ROW_SIZE	((Size) MaxAllocSize - 1024 * 1024)

/* So many tables are not worth a look which could be forgotten, and so many that no view reads are too many. */
#define KEPT_RELATIONS	500
#define MANY_UNTRACKED	5000

/* What is known of a table that changed. */
typedef struct TrackedRelation
{
	Oid			relid;			/* hash key */
	bool		valid;
	bool		tracked;
	bool		all;			/* every column is needed */
	uint32		layout;			/* of its rows */
	bool		every_change;	/* also those that change no needed column */
	Bitmapset  *attributes;		/* else these, by its own attribute numbers */
	List	   *ancestors;		/* oids, all levels */
	uint64		unknown_in;		/* transaction for which an unknown change was
								 * logged */
} TrackedRelation;

static IvmDatabase *database;	/* NULL: this process is not a decoder */
static HTAB *relations;
static MemoryContext relations_context;
static MemoryContext change_context;

/* The transaction being decoded. */
static uint64 transactions;		/* counts them */
static bool txn_is_begun;		/* in the log */

static void
relation_invalidated(Datum argument, Oid relid)
{
	HASH_SEQ_STATUS status;
	TrackedRelation *entry;

	if (relations == NULL)
		return;
	hash_seq_init(&status, relations);
	while ((entry = hash_seq_search(&status)) != NULL)
		if (!OidIsValid(relid) || entry->relid == relid ||
			list_member_oid(entry->ancestors, relid))
			entry->valid = false;
}

/* Forgets tables that were dropped or altered, or also those that no view reads; how many of these are left. */
static long
forget_relations(bool untracked)
{
	HASH_SEQ_STATUS status;
	TrackedRelation *entry;
	long		left = 0;

	hash_seq_init(&status, relations);
	while ((entry = hash_seq_search(&status)) != NULL)
	{
		if (entry->valid && !(untracked && !entry->tracked))
		{
			left += !entry->tracked;
			continue;
		}
		bms_free(entry->attributes);
		list_free(entry->ancestors);
		(void) hash_search(relations, &entry->relid, HASH_REMOVE, NULL);
	}
	return left;
}

/*
 * Between transactions, when nobody holds on to an entry.  With very many tables that no view reads go the
 * server's own caches of them, which nothing else empties.
 */
static void
trim_relations(void)
{
	static long limit = KEPT_RELATIONS;

	if (hash_get_num_entries(relations) <= limit)
		return;
	if (forget_relations(false) > MANY_UNTRACKED)
	{
		(void) forget_relations(true);
		InvalidateSystemCaches();
	}
	limit = Max(KEPT_RELATIONS, 2 * hash_get_num_entries(relations));
}

/* This process becomes the decoder of the database. */
void
ivm_plugin_start(IvmDatabase *db)
{
	HASHCTL		control = {0};

	Assert(database == NULL);
	relations_context = AllocSetContextCreate(TopMemoryContext, "ivm tracked relations",
											  ALLOCSET_DEFAULT_SIZES);
	change_context = AllocSetContextCreate(TopMemoryContext, "ivm change",
										   ALLOCSET_DEFAULT_SIZES);
	control.keysize = sizeof(Oid);
	control.entrysize = sizeof(TrackedRelation);
	control.hcxt = relations_context;
	relations = hash_create("ivm tracked relations", 128, &control,
							HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	CacheRegisterRelcacheCallback(relation_invalidated, (Datum) 0);
	database = db;
}

/* The registry is another one now. */
void
ivm_plugin_registry_changed(void)
{
	relation_invalidated((Datum) 0, InvalidOid);
}

/* Adds the ancestors of a relation, of all levels, under the historic snapshot. */
static List *
add_ancestors(List *ancestors, Oid relid)
{
	Relation	inherits = table_open(InheritsRelationId, AccessShareLock);
	List	   *todo = list_make1_oid(relid);

	while (todo != NIL)
	{
		Oid			child = linitial_oid(todo);
		ScanKeyData key;
		SysScanDesc scan;
		HeapTuple	tuple;

		todo = list_delete_first(todo);
		ScanKeyInit(&key, Anum_pg_inherits_inhrelid, BTEqualStrategyNumber, F_OIDEQ,
					ObjectIdGetDatum(child));
		scan = systable_beginscan(inherits, InheritsRelidSeqnoIndexId, true, NULL, 1, &key);
		while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		{
			Oid			parent = ((Form_pg_inherits) GETSTRUCT(tuple))->inhparent;

			if (!list_member_oid(ancestors, parent))
			{
				ancestors = lappend_oid(ancestors, parent);
				todo = lappend_oid(todo, parent);
			}
		}
		systable_endscan(scan);
	}
	table_close(inherits, AccessShareLock);
	return ancestors;
}

/* Adds to "attributes" those of the relation that are named as an ancestor's registered ones. */
static Bitmapset *
add_attributes_by_name(Bitmapset *attributes, Relation relation, Oid ancestor, Bitmapset *registered)
{
	Relation	from = RelationIdGetRelation(ancestor);
	TupleDesc	desc = RelationGetDescr(relation);
	int			attnum = -1;

	if (!RelationIsValid(from))
		return attributes;
	while ((attnum = bms_next_member(registered, attnum)) >= 0)
	{
		Form_pg_attribute wanted;

		if (attnum < 1 || attnum > RelationGetNumberOfAttributes(from))
			continue;
		wanted = TupleDescAttr(RelationGetDescr(from), attnum - 1);
		if (wanted->attisdropped)
			continue;
		for (int i = 0; i < desc->natts; i++)
		{
			Form_pg_attribute attribute = TupleDescAttr(desc, i);

			if (!attribute->attisdropped &&
				strcmp(NameStr(attribute->attname), NameStr(wanted->attname)) == 0)
			{
				attributes = bms_add_member(attributes, i + 1);
				break;
			}
		}
	}
	RelationClose(from);
	return attributes;
}

/*
 * What is known of the relation; looked up if it is not known, or not any more.
 * Leaves garbage in the current context.
 */
static TrackedRelation *
get_tracked(Relation relation)
{
	Oid			relid = RelationGetRelid(relation);
	TrackedRelation *entry;
	IvmRegistration *registration;
	Bitmapset  *attributes = NULL;
	List	   *ancestors;
	MemoryContext old;
	bool		found;
	ListCell   *cell;

	entry = hash_search(relations, &relid, HASH_ENTER, &found);
	if (!found)
	{
		entry->attributes = NULL;
		entry->ancestors = NIL;
		entry->unknown_in = 0;
		entry->valid = false;
	}
	if (entry->valid)
		return entry;

	/* an invalidation while we look counts */
	entry->valid = true;
	bms_free(entry->attributes);
	entry->attributes = NULL;
	list_free(entry->ancestors);
	entry->ancestors = NIL;

	entry->layout = ivm_row_layout(RelationGetDescr(relation), RelationGetNumberOfAttributes(relation));
	entry->tracked = false;
	entry->all = false;
	entry->every_change = false;
	ancestors = add_ancestors(NIL, relid);
	registration = ivm_registry_find(relid);
	if (registration != NULL)
	{
		entry->tracked = true;
		if (registration->attributes == NULL)
			entry->all = true;
		else
			attributes = bms_copy(registration->attributes);
	}
	foreach(cell, ancestors)
	{
		Oid			ancestor = lfirst_oid(cell);

		registration = ivm_registry_find(ancestor);
		if (registration == NULL)
			continue;
		entry->tracked = true;
		if (registration->attributes == NULL)
			entry->all = true;
		else
		{
			attributes = add_attributes_by_name(attributes, relation, ancestor,
												registration->attributes);
			if (bms_is_member(0, registration->attributes))
				attributes = bms_add_member(attributes, 0);
		}
	}
	entry->every_change = bms_is_member(0, attributes);

	old = MemoryContextSwitchTo(relations_context);
	entry->attributes = bms_copy(attributes);
	entry->ancestors = list_copy(ancestors);
	MemoryContextSwitchTo(old);
	return entry;
}

/*
 * Rows
 */

/* The transaction's 64-bit id. */
static uint64
full_xid(TransactionId xid)
{
	FullTransactionId next = ReadNextFullTransactionId();
	uint32		epoch = EpochFromFullTransactionId(next);

	if (xid > XidFromFullTransactionId(next))
		epoch--;
	return ((uint64) epoch << 32) | xid;
}

/* Something of the transaction will be written: begins it in the log if that was not done. */
static void
need_txn(ReorderBufferTXN *txn)
{
	if (!txn_is_begun)
	{
		IvmLogTxn	begin = {
			.fxid = full_xid(txn->xid),
			.commit_lsn = txn->final_lsn,
			.end_lsn = txn->end_lsn,
			.commit_time = txn->xact_time.commit_time
		};

		ivm_log_append_begin(&begin);
		txn_is_begun = true;
	}
}

/* The relation changed in a way that cannot be told: it is unknown, or has no room in the log. */
static void
log_unknown_change(ReorderBufferTXN *txn, TrackedRelation *entry, bool no_room)
{
	if (entry->unknown_in == transactions)
		return;
	entry->unknown_in = transactions;
	need_txn(txn);
	if (no_room)
		ivm_log_append_lost(entry->relid);
	else
		ivm_log_append_truncate(entry->relid);
}

static void
log_row(ReorderBufferTXN *txn, TrackedRelation *entry, bool insert, MinimalTuple row)
{
	need_txn(txn);
	if (!ivm_log_append_row(entry->relid, insert, entry->layout, row))
		log_unknown_change(txn, entry, true);
}

/*
 * Takes a tuple apart, with the columns nobody needs set to NULL.  Values that
 * are missing because they did not change come from "old".  Returns false if
 * one cannot be had, or if all together are too large.
 */
static bool
deform(TrackedRelation *entry, TupleDesc desc, HeapTuple tuple, Datum *values, bool *nulls,
	   Datum *old_values, bool *old_nulls)
{
	Size		size = 0;

	heap_deform_tuple(tuple, desc, values, nulls);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		if (attribute->attisdropped || !(entry->all || bms_is_member(i + 1, entry->attributes)))
		{
			nulls[i] = true;
			continue;
		}
		if (nulls[i] || attribute->attlen != -1)
			continue;
		if (VARATT_IS_EXTERNAL_INDIRECT(DatumGetPointer(values[i])))
		{
			/* put together again by logical decoding: no copy of it is needed */
			struct varatt_indirect redirect;

			VARATT_EXTERNAL_GET_POINTER(redirect, DatumGetPointer(values[i]));
			values[i] = PointerGetDatum(redirect.pointer);
		}
		if (VARATT_IS_EXTERNAL_ONDISK(DatumGetPointer(values[i])))
		{
			if (old_values == NULL || old_nulls[i])
				return false;
			values[i] = old_values[i];
			if (VARATT_IS_EXTERNAL_ONDISK(DatumGetPointer(values[i])))
				return false;
		}
		size += VARATT_IS_EXTENDED(DatumGetPointer(values[i])) ?
			toast_raw_datum_size(values[i]) : VARSIZE(DatumGetPointer(values[i]));
	}
	return size <= MAX_ROW_SIZE;
}

static void
change(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, Relation relation,
	   ReorderBufferChange *change)
{
	TrackedRelation *entry;
	TupleDesc	desc = RelationGetDescr(relation);
	ReorderBufferTupleBuf *old_tuple = change->data.tp.oldtuple;
	ReorderBufferTupleBuf *new_tuple = change->data.tp.newtuple;
	MinimalTuple old_row = NULL;
	MinimalTuple new_row = NULL;
	Datum	   *old_values = NULL;
	bool	   *old_nulls = NULL;
	MemoryContext old_context;

	old_context = MemoryContextSwitchTo(change_context);
	entry = get_tracked(relation);
	if (!entry->tracked)
		goto done;
	if (ivm_log_is_over())
	{
		log_unknown_change(txn, entry, true);
		goto done;
	}
	if (change->action != REORDER_BUFFER_CHANGE_INSERT)
	{
		if (old_tuple == NULL || relation->rd_rel->relreplident != REPLICA_IDENTITY_FULL)
			goto unknown;
		old_values = palloc(desc->natts * sizeof(Datum));
		old_nulls = palloc(desc->natts * sizeof(bool));
		if (!deform(entry, desc, &old_tuple->tuple, old_values, old_nulls, NULL, NULL))
			goto unknown;
		old_row = ivm_row_form_values(desc, old_values, old_nulls);
	}
	if (change->action != REORDER_BUFFER_CHANGE_DELETE)
	{
		Datum	   *values = palloc(desc->natts * sizeof(Datum));
		bool	   *nulls = palloc(desc->natts * sizeof(bool));

		if (new_tuple == NULL ||
			!deform(entry, desc, &new_tuple->tuple, values, nulls, old_values, old_nulls))
			goto unknown;
		new_row = ivm_row_form_values(desc, values, nulls);
	}

	if (old_row == NULL || new_row == NULL || entry->every_change ||
		!ivm_row_image_equal(old_row, new_row))
	{
		if (old_row != NULL)
			log_row(txn, entry, false, old_row);
		if (new_row != NULL)
			log_row(txn, entry, true, new_row);
	}
	goto done;

unknown:
	log_unknown_change(txn, entry, false);
done:
	MemoryContextSwitchTo(old_context);
	MemoryContextReset(change_context);
}

static void
table_truncated(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, int nrelations,
				Relation changed[], ReorderBufferChange *change)
{
	MemoryContext old_context = MemoryContextSwitchTo(change_context);

	for (int i = 0; i < nrelations; i++)
	{
		TrackedRelation *entry = get_tracked(changed[i]);

		if (!entry->tracked)
			continue;
		need_txn(txn);
		ivm_log_append_truncate(entry->relid);
	}
	MemoryContextSwitchTo(old_context);
	MemoryContextReset(change_context);
}

static void
begin(LogicalDecodingContext *ctx, ReorderBufferTXN *txn)
{
	trim_relations();
	transactions++;
	txn_is_begun = false;
	ivm_log_next_transaction();
}

static void
commit(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, XLogRecPtr commit_lsn)
{
	ivm_decoder_committed(txn->xid, txn->xact_time.commit_time);
	if (!txn_is_begun)
		return;
	ivm_log_publish(txn->xact_time.commit_time);
	txn_is_begun = false;
	ivm_decoder_has_rows();
	ivm_debug_point("decoder-after-decode");
}

/* What our workers write into views and state tables is marked so. */
static bool
filter_by_origin(LogicalDecodingContext *ctx, RepOriginId origin)
{
	return origin == DoNotReplicateId;
}

static void
startup(LogicalDecodingContext *ctx, OutputPluginOptions *options, bool is_init)
{
	options->output_type = OUTPUT_PLUGIN_BINARY_OUTPUT;
	options->receive_rewrites = false;
}

void
_PG_output_plugin_init(OutputPluginCallbacks *callbacks)
{
	if (database == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("output plugin \"ivm_ext\" can only be used by the decoder of incremental views"),
				 errhint("Use another output plugin.")));

	callbacks->startup_cb = startup;
	callbacks->begin_cb = begin;
	callbacks->change_cb = change;
	callbacks->truncate_cb = table_truncated;
	callbacks->commit_cb = commit;
	callbacks->filter_by_origin_cb = filter_by_origin;
}
