/*-------------------------------------------------------------------------
 *
 * tracked.c
 *	  What the decoder knows of a table that changed.
 *
 * Whether a table is tracked is decided by what is registered of it and of
 * its ancestors, partitioned tables and inheritance parents alike, since a
 * partition may be younger than every compiled plan.  Columns registered of an
 * ancestor are found by name, as PostgreSQL itself maps them.  The answer is
 * cached until an invalidation of the table or of an ancestor, as a change of
 * the inheritance tree always brings one of the child.  The cache keeps a few
 * thousand tables besides those that are tracked.
 *
 * While a transaction is decoded that is still open, its abort makes any look at
 * a catalog raise an error, after which decoding goes on.  So an answer counts only when
 * all of it was found.
 *
 * Memory: the cache in a context of its own.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "capture/capture_internal.h"
#include "zset/row.h"

/* So many tables are not worth a look which could be forgotten, and so many that no view reads are too many. */
#define KEPT_RELATIONS	500
#define MANY_UNTRACKED	5000

static HTAB *relations;
static MemoryContext relations_context;

static void
relation_invalidated(Datum argument, Oid relid)
{
	HASH_SEQ_STATUS status;
	IvmTracked *entry;

	if (relations == NULL)
		return;
	hash_seq_init(&status, relations);
	while ((entry = hash_seq_search(&status)) != NULL)
		if (!OidIsValid(relid) || entry->relid == relid ||
			list_member_oid(entry->ancestors, relid))
		{
			entry->valid = false;
			entry->stale = true;
		}
}

/* Forgets tables that were dropped or altered, or also those that no view reads; how many of these are left. */
static long
forget_relations(bool untracked)
{
	HASH_SEQ_STATUS status;
	IvmTracked *entry;
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
void
ivm_tracked_trim(void)
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

/* This process becomes a decoder. */
void
ivm_tracked_start(void)
{
	HASHCTL		control = {0};

	relations_context = AllocSetContextCreate(TopMemoryContext, "ivm tracked relations",
											  ALLOCSET_DEFAULT_SIZES);
	control.keysize = sizeof(Oid);
	control.entrysize = sizeof(IvmTracked);
	control.hcxt = relations_context;
	relations = hash_create("ivm tracked relations", 128, &control,
							HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	CacheRegisterRelcacheCallback(relation_invalidated, (Datum) 0);
}

/* The registry is another one now. */
void
ivm_tracked_registry_changed(void)
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
IvmTracked *
ivm_tracked_get(Relation relation)
{
	Oid			relid = RelationGetRelid(relation);
	IvmTracked *entry;
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

	/* an invalidation while we look counts, and so does an error */
	entry->stale = false;
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
	entry->valid = !entry->stale;
	return entry;
}
