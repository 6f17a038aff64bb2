/*-------------------------------------------------------------------------
 *
 * assignment.c
 *	  Which apply worker has which consumer.
 *
 * It is a function of the metadata and the catalogs alone, so that all workers
 * come to the same answer: consumers that must sit together form a component,
 * named by its smallest oid, whose hash gives the worker.
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

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "metadata/metadata.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

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

/* Asks the catalogs what some views read. */
static void
ask_reads(List *views)
{
	Datum	   *elements = palloc(sizeof(Datum) * list_length(views));
	Oid			type = OIDARRAYOID;
	Datum		argument;
	int			n = 0;
	int			code;
	MemoryContext old;
	ListCell   *cell;

	foreach(cell, views)
	{
		Oid			relid = lfirst_oid(cell);
		Reads	   *reads = hash_search(known_reads, &relid, HASH_ENTER, NULL);

		reads->relids = NIL;
		elements[n++] = ObjectIdGetDatum(relid);
	}
	argument = PointerGetDatum(construct_array(elements, n, OIDOID, sizeof(Oid), true, TYPALIGN_INT));

	SPI_connect();
	code = SPI_execute_with_args("WITH RECURSIVE reads(view, relation) AS ("
								 " SELECT r.ev_class, d.refobjid FROM pg_catalog.pg_rewrite r"
								 "  JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass"
								 "   AND d.objid = r.oid AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass"
								 "   AND d.refobjid <> r.ev_class"
								 "  WHERE r.ev_class = ANY ($1)"
								 " UNION SELECT reads.view, below.relation FROM reads, LATERAL ("
								 "  SELECT d.refobjid FROM pg_catalog.pg_rewrite r"
								 "   JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass"
								 "    AND d.objid = r.oid AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass"
								 "    AND d.refobjid <> r.ev_class"
								 "   WHERE r.ev_class = reads.relation"
								 "  UNION ALL SELECT d.refobjid FROM pg_catalog.pg_policy p"
								 "   JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass"
								 "    AND d.objid = p.oid AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass"
								 "    AND d.refobjid <> p.polrelid"
								 "   WHERE p.polrelid = reads.relation) AS below(relation))"
								 " SELECT view, relation FROM reads",
								 1, &type, &argument, NULL, true, 0);
	if (code != SPI_OK_SELECT)
		elog(ERROR, "could not read dependencies of incremental views: %s", SPI_result_code_string(code));
	old = MemoryContextSwitchTo(TopMemoryContext);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		Oid			view = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
		Oid			relation = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull));
		Reads	   *reads = hash_search(known_reads, &view, HASH_FIND, NULL);

		/* it may have been invalidated meanwhile, see below */
		if (reads == NULL)
		{
			reads = hash_search(known_reads, &view, HASH_ENTER, NULL);
			reads->relids = NIL;
		}
		reads->relids = lappend_oid(reads->relids, relation);
	}
	MemoryContextSwitchTo(old);
	SPI_finish();
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
 * Joins views that read views.  What is asked anew is seen by a snapshot that is younger than
 * all invalidations that have been heard of; if one comes while it is asked, the answer
 * is good for this time only.
 */
static void
join_readers(IvmAssignment *assignments, int count, List *rows)
{
	List	   *missing = NIL;
	uint64		before = invalidations;
	ListCell   *cell;
	ListCell   *inner;

	foreach(cell, rows)
	{
		IvmViewRow *row = lfirst(cell);

		if (row->kind == 'v' && hash_search(known_reads, &row->relid, HASH_FIND, NULL) == NULL)
			missing = lappend_oid(missing, row->relid);
	}
	if (missing != NIL)
	{
		PushActiveSnapshot(GetLatestSnapshot());
		PG_TRY();
		{
			ask_reads(missing);
		}
		PG_CATCH();
		{
			relation_invalidated((Datum) 0, InvalidOid);
			PG_RE_THROW();
		}
		PG_END_TRY();
		PopActiveSnapshot();
	}

	foreach(cell, rows)
	{
		IvmViewRow *row = lfirst(cell);
		Reads	   *reads = hash_search(known_reads, &row->relid, HASH_FIND, NULL);

		if (reads == NULL)
			continue;
		foreach(inner, reads->relids)
			join_components(assignments, count, row->relid, lfirst_oid(inner));
	}

	if (before != invalidations)
	{
		foreach(cell, missing)
		{
			Oid			relid = lfirst_oid(cell);
			Reads	   *reads = hash_search(known_reads, &relid, HASH_FIND, NULL);

			if (reads != NULL)
				forget_reads(reads);
		}
	}
}

IvmAssignment *
ivm_consumer_assign(List *rows, int *count)
{
	IvmAssignment *result = palloc(sizeof(IvmAssignment) * Max(list_length(rows), 1));
	ListCell   *cell;
	int			n = 0;

	foreach(cell, rows)
	{
		result[n].relid = ((IvmViewRow *) lfirst(cell))->relid;
		result[n].component = result[n].relid;
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
	*count = n;
	return result;
}

int
ivm_consumer_worker(const IvmAssignment *assignments, int count, Oid relid, int workers)
{
	IvmAssignment *assignment = find_assignment(assignments, count, relid);

	if (assignment == NULL)
		return 0;
	return murmurhash32(assignment->component) % workers;
}
