/*-------------------------------------------------------------------------
 *
 * assignment.c
 *	  Which apply worker has which consumer.
 *
 * It is a function of the metadata, the catalogs and the shared list of slow views alone,
 * so that all workers come to the same answer: consumers that must sit together form a component,
 * named by its smallest oid, whose hash gives the worker; if one of them is slow, its
 * level does.
 *
 * What a view reads, through ordinary views and policies too, is asked of the
 * catalogs once, and again when one of these relations is invalidated: the
 * question comes with every view that is made, and there may be a thousand.
 *
 * Memory: what views read in TopMemoryContext, the rest in the caller's.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_policy.h"
#include "catalog/pg_rewrite.h"
#include "common/hashfn.h"
#include "metadata/metadata.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "maintain/assignment.h"

/* What a view reads. */
typedef struct Reads
{
	Oid			relid;			/* hash key */
	List	   *relids;
} Reads;

static HTAB *known_reads = NULL;
static uint64 invalidations = 0;

static void
forget_reads(Reads *reads)
{
	list_free(reads->relids);
	(void) hash_search(known_reads, &reads->relid, HASH_REMOVE, NULL);
}

static void
keep_reads(Oid relid, List *relids)
{
	Reads	   *reads = hash_search(known_reads, &relid, HASH_ENTER, NULL);
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	reads->relids = NIL;
	reads->relids = list_copy(relids);
	MemoryContextSwitchTo(old);
}

static void
relation_invalidated(Datum argument, Oid relid)
{
	HASH_SEQ_STATUS status;
	Reads	   *reads;

	invalidations++;
	hash_seq_init(&status, known_reads);
	while ((reads = hash_seq_search(&status)) != NULL)
	{
		if (!OidIsValid(relid) || reads->relid == relid || list_member_oid(reads->relids, relid))
			forget_reads(reads);
	}
}

static void
init_reads(void)
{
	HASHCTL		control = {.keysize = sizeof(Oid),.entrysize = sizeof(Reads)};

	if (known_reads != NULL)
		return;
	known_reads = hash_create("ivm view reads", 64, &control, HASH_ELEM | HASH_BLOBS);
	CacheRegisterRelcacheCallback(relation_invalidated, (Datum) 0);
}

/* Forgets views that are gone. */
static void
retain_reads(List *rows)
{
	HASH_SEQ_STATUS status;
	Reads	   *reads;

	hash_seq_init(&status, known_reads);
	while ((reads = hash_seq_search(&status)) != NULL)
	{
		if (ivm_metadata_find(rows, reads->relid) == NULL)
			forget_reads(reads);
	}
}

/* Adds what the rules of a view, or the policies of a table, name. */
static List *
add_referenced(List *relids, Relation depend, Oid classid, Oid objid, Oid self)
{
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&keys[0], Anum_pg_depend_classid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(classid));
	ScanKeyInit(&keys[1], Anum_pg_depend_objid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(objid));
	scan = systable_beginscan(depend, DependDependerIndexId, true, NULL, 2, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend form = (Form_pg_depend) GETSTRUCT(tuple);

		if (form->refclassid == RelationRelationId && form->refobjid != self)
			relids = list_append_unique_oid(relids, form->refobjid);
	}
	systable_endscan(scan);
	return relids;
}

/*
 * Adds what the objects of a kind name that belong to a relation: its rules, or its policies.  These are in a
 * catalog whose column "owner" is the relation's oid, the first one of an index.
 */
static List *
add_referenced_by(List *relids, Relation depend, Oid catalog, Oid index, AttrNumber owner, Oid relid)
{
	Relation	relation = table_open(catalog, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, owner, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(relation, index, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool		isnull;
		Oid			oid = DatumGetObjectId(heap_getattr(tuple, 1, RelationGetDescr(relation), &isnull));

		relids = add_referenced(relids, depend, catalog, oid, relid);
	}
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return relids;
}

/* Asks the catalogs what a view reads, itself not among it. */
static List *
ask_reads(Oid relid)
{
	Relation	depend = table_open(DependRelationId, AccessShareLock);
	List	   *result;
	ListCell   *cell;

	result = add_referenced_by(NIL, depend, RewriteRelationId, RewriteRelRulenameIndexId,
							   Anum_pg_rewrite_ev_class, relid);
	foreach(cell, result)
	{
		CHECK_FOR_INTERRUPTS();
		result = add_referenced_by(result, depend, RewriteRelationId, RewriteRelRulenameIndexId,
								   Anum_pg_rewrite_ev_class, lfirst_oid(cell));
		result = add_referenced_by(result, depend, PolicyRelationId, PolicyPolrelidPolnameIndexId,
								   Anum_pg_policy_polrelid, lfirst_oid(cell));
	}
	table_close(depend, AccessShareLock);
	return list_delete_oid(result, relid);
}

static int
compare_assignments(const void *a, const void *b)
{
	Oid			x = ((const IvmAssignment *) a)->relid;
	Oid			y = ((const IvmAssignment *) b)->relid;

	return x < y ? -1 : x > y;
}

static IvmAssignment *
find_assignment(const IvmAssignment *assignments, int count, Oid relid)
{
	IvmAssignment key = {.relid = relid};

	return bsearch(&key, assignments, count, sizeof(IvmAssignment), compare_assignments);
}

/* Makes two consumers sit together: the larger component takes the smaller one's name. */
static void
join_components(IvmAssignment *assignments, int count, Oid a, Oid b)
{
	IvmAssignment *x = find_assignment(assignments, count, a);
	IvmAssignment *y = find_assignment(assignments, count, b);
	Oid			low;
	Oid			high;

	if (x == NULL || y == NULL || x->component == y->component)
		return;
	low = Min(x->component, y->component);
	high = Max(x->component, y->component);
	for (int i = 0; i < count; i++)
		if (assignments[i].component == high)
			assignments[i].component = low;
}

/*
 * Joins views that read views.  An invalidation that comes while the catalogs are asked makes the answer
 * good for this time only.
 */
static void
join_readers(IvmAssignment *assignments, int count, List *rows)
{
	ListCell   *cell;

	foreach(cell, rows)
	{
		IvmViewRow *row = lfirst(cell);
		Reads	   *reads;
		List	   *relids;
		ListCell   *inner;

		if (row->kind != 'v')
			continue;
		reads = hash_search(known_reads, &row->relid, HASH_FIND, NULL);
		if (reads != NULL)
			relids = reads->relids;
		else
		{
			uint64		before = invalidations;

			relids = ask_reads(row->relid);
			if (before == invalidations)
				keep_reads(row->relid, relids);
		}
		foreach(inner, relids)
			join_components(assignments, count, row->relid, lfirst_oid(inner));
	}
}

/* What sits together is as slow as its slowest. */
static void
set_levels(IvmAssignment *assignments, int count, const IvmSlow *slow)
{
	for (int i = 0; i < slow->count; i++)
	{
		IvmAssignment *assignment = find_assignment(assignments, count, slow->views[i].relid);

		if (assignment == NULL)
			continue;
		for (int j = 0; j < count; j++)
			if (assignments[j].component == assignment->component)
				assignments[j].level = Max(assignments[j].level, slow->views[i].level);
	}
}

IvmAssignment *
ivm_consumer_assign(List *rows, const IvmSlow *slow, int *count)
{
	IvmAssignment *result = palloc(sizeof(IvmAssignment) * Max(list_length(rows), 1));
	ListCell   *cell;
	int			n = 0;

	foreach(cell, rows)
	{
		result[n].relid = ((IvmViewRow *) lfirst(cell))->relid;
		result[n].component = result[n].relid;
		result[n].level = 0;
		n++;
	}
	qsort(result, n, sizeof(IvmAssignment), compare_assignments);

	foreach(cell, rows)
	{
		IvmViewRow *row = lfirst(cell);
		ListCell   *inner;

		foreach(inner, row->arrangements)
			join_components(result, n, row->relid, lfirst_oid(inner));
	}

	init_reads();
	retain_reads(rows);
	if (n > 1)
		join_readers(result, n, rows);
	set_levels(result, n, slow);
	*count = n;
	return result;
}

const IvmAssignment *
ivm_consumer_assignment(const IvmAssignment *assignments, int count, Oid relid)
{
	return find_assignment(assignments, count, relid);
}

int
ivm_consumer_worker(const IvmAssignment *assignments, int count, Oid relid, int workers, const IvmSlow *slow)
{
	const IvmAssignment *assignment = find_assignment(assignments, count, relid);
	int			level;

	if (assignment == NULL)
		return 0;
	level = Min(assignment->level, slow->workers);
	if (level > 0)
		return workers + level - 1;
	return murmurhash32(assignment->component) % workers;
}
