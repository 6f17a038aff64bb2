/*-------------------------------------------------------------------------
 *
 * incremental_views.c
 *	  Which incremental views a database has, known to ivm.view or not.
 *
 * Each one that is made while the library is loaded has a row of ivm.view; those without
 * came with a restore or an upgrade.  To tell, all are wanted, and there is no
 * index of pg_class that finds them.  It is scanned once; after that only relations
 * that were invalidated are looked at: the question comes with every view that is
 * made, and there may be thousands.
 *
 * Memory: the list in TopMemoryContext, four bytes a view.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_class.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "metadata/metadata.h"

#define MAX_CHANGED		64

static List *views = NIL;		/* oids */
static Oid	changed[MAX_CHANGED];	/* relations that were invalidated since */
static int	nchanged = MAX_CHANGED + 1; /* > MAX_CHANGED: all */

static void
relation_invalidated(Datum argument, Oid relid)
{
	if (!OidIsValid(relid))
		nchanged = MAX_CHANGED + 1;
	if (nchanged > MAX_CHANGED || (nchanged > 0 && changed[nchanged - 1] == relid))
		return;
	if (nchanged < MAX_CHANGED)
		changed[nchanged] = relid;
	nchanged++;
}

/* Adds all to an empty list. */
static void
find_views(void)
{
	Relation	relation = table_open(RelationRelationId, AccessShareLock);
	TableScanDesc scan = table_beginscan_catalog(relation, 0, NULL);
	Oid			am = ivm_metadata_am_oid();
	HeapTuple	tuple;

	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_class form = (Form_pg_class) GETSTRUCT(tuple);

		if (form->relkind == RELKIND_MATVIEW && form->relam == am)
		{
			MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

			views = lappend_oid(views, form->oid);
			MemoryContextSwitchTo(old);
		}
	}
	table_endscan(scan);
	table_close(relation, AccessShareLock);
}

/* Brings the list up to what this process has heard of. */
static void
update_views(void)
{
	static bool is_registered = false;
	static Oid	known_am = InvalidOid;
	Oid			am = ivm_metadata_am_oid();

	if (!is_registered)
		CacheRegisterRelcacheCallback(relation_invalidated, (Datum) 0);
	is_registered = true;
	while (nchanged > 0 || am != known_am)
	{
		Oid			relids[MAX_CHANGED];
		int			n = nchanged;
		bool		all = n > MAX_CHANGED || am != known_am;

		/* what comes while we look counts, and after an error all is looked at again */
		nchanged = 0;
		known_am = InvalidOid;
		if (all)
		{
			list_free(views);
			views = NIL;
			find_views();
		}
		else
		{
			memcpy(relids, changed, sizeof(Oid) * n);
			for (int i = 0; i < n; i++)
			{
				bool		is_one = ivm_relation_is_incremental(relids[i]);
				MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

				views = list_delete_oid(views, relids[i]);
				if (is_one)
					views = lappend_oid(views, relids[i]);
				MemoryContextSwitchTo(old);
			}
		}
		known_am = am;
	}
}

static List *
views_without_row(List *rows)
{
	List	   *result = NIL;
	ListCell   *cell;

	foreach(cell, views)
	{
		if (ivm_metadata_find(rows, lfirst_oid(cell)) == NULL)
			result = lappend_oid(result, lfirst_oid(cell));
	}
	return result;
}

/*
 * A drop is heard of a moment after it can be seen, and whoever drops the last view asks for
 * a look in between: what seems to be unknown is looked for in pg_class.
 */
List *
ivm_unknown_views(List *rows)
{
	update_views();
	if (views_without_row(rows) == NIL)
		return NIL;
	nchanged = MAX_CHANGED + 1;
	update_views();
	return views_without_row(rows);
}
