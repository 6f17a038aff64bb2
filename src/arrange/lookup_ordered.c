/*-------------------------------------------------------------------------
 *
 * lookup_ordered.c
 *	  Rows of an arrangement that has an order: those of a key, from the first on.
 *
 * The rows are in an ordered state table (ordered_table.c).  It is
 * opened with the first walk of a batch: one that is not used costs nothing.
 *
 * Memory: what is open in the context that is current when the batch begins.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "arrange/state_table.h"
#include "arrange/walk.h"

struct IvmWalk
{
	IvmArrangement *arrangement;
	Oid			relid;
	IvmOrderedShape *shape;

	/* of the batch */
	Snapshot	snapshot;
	MemoryContext context;
	IvmOrderedTable *table;		/* NULL: not opened yet */
};

IvmWalk *
ivm_walk_create(IvmArrangement *arrangement, Oid relid)
{
	IvmWalk    *walk = palloc0(sizeof(IvmWalk));

	walk->arrangement = arrangement;
	walk->relid = relid;
	walk->shape = ivm_ordered_shape_create(arrangement);
	return walk;
}

IvmOrderedShape *
ivm_walk_shape(IvmWalk *walk)
{
	return walk->shape;
}

void
ivm_walk_begin(IvmWalk *walk, Snapshot snapshot)
{
	walk->snapshot = snapshot;
	walk->context = CurrentMemoryContext;
	walk->table = NULL;
}

void
ivm_walk_end(IvmWalk *walk)
{
	if (walk->table != NULL)
		ivm_ordered_table_close(walk->table);
	walk->table = NULL;
}

static void
open_table(IvmWalk *walk)
{
	MemoryContext old = MemoryContextSwitchTo(walk->context);
	char	   *name = ivm_arrangement_state_name(walk->arrangement, walk->relid);
	Oid			relid = ivm_state_table_lookup(name);

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("state table \"%s\" does not exist", name),
				 errhint("Use REFRESH MATERIALIZED VIEW to rebuild the view.")));
	walk->table = ivm_ordered_table_open(walk->shape, relid, walk->snapshot);
	MemoryContextSwitchTo(old);
}

bool
ivm_walk_rows(IvmWalk *walk, const Datum *values, const bool *isnull,
			  IvmLookupReceiver receiver, void *context)
{
	if (walk->table == NULL)
		open_table(walk);
	return ivm_ordered_table_walk(walk->table, values, isnull, receiver, context);
}
