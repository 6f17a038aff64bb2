/*-------------------------------------------------------------------------
 *
 * ailing.c
 *	  Views in state error, as an apply worker watches them.
 *
 * A view in state error is no consumer: it holds no place in the log and has no plan.  What may mend it
 * is noticed all the same, so that it need not wait for its next try (process/trouble.c):
 *
 *	- a transaction of the log that changes a table that it reads.  The tables stay registered, without
 *	  columns, so that each change is decoded, and nothing of it is kept;
 *	- an invalidation of such a table or of the view itself (a grant, an index that was dropped),
 *	  of any function, type, operator or role.
 *
 * What is noticed is only told once a second at most, and what it costs is bounded by whoever
 * is told.  Invalidations come to a process when it looks, so the worker looks once a second while
 * there are such views.
 *
 * Tables are those of the fingerprint; a view that was never filled has none, and is tried by the clock alone.
 *
 * Memory: the list in a context of its own, made anew with each reload.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "nodes/bitmapset.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "compile/compile.h"
#include "maintain/ailing.h"
#include "metadata/metadata.h"
#include "process/trouble.h"

#define TELL_INTERVAL	1000	/* ms */

typedef struct Ailing
{
	Oid			relid;
	List	   *relids;			/* oid: tables that it reads */
	bool		touched;
} Ailing;

static List *ailing = NIL;		/* Ailing */
static MemoryContext ailing_context = NULL;
static bool all_touched = false;
static TimestampTz told_at = 0;

static void
relation_invalidated(Datum argument, Oid relid)
{
	ListCell   *cell;

	foreach(cell, ailing)
	{
		Ailing	   *view = lfirst(cell);

		if (!OidIsValid(relid) || view->relid == relid || list_member_oid(view->relids, relid))
			view->touched = true;
	}
}

static void
object_invalidated(Datum argument, int cacheid, uint32 hashvalue)
{
	all_touched = ailing != NIL;
}

/* There is room for few of these in a process: only where it is needed. */
static void
register_callbacks(void)
{
	static bool registered = false;

	if (registered)
		return;
	registered = true;
	CacheRegisterRelcacheCallback(relation_invalidated, (Datum) 0);
	CacheRegisterSyscacheCallback(PROCOID, object_invalidated, (Datum) 0);
	CacheRegisterSyscacheCallback(TYPEOID, object_invalidated, (Datum) 0);
	CacheRegisterSyscacheCallback(OPEROID, object_invalidated, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, object_invalidated, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, object_invalidated, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, object_invalidated, (Datum) 0);
	CacheRegisterSyscacheCallback(LANGOID, object_invalidated, (Datum) 0);
}

void
ivm_ailing_set(IvmDatabase *capture, List *rows)
{
	List	   *former = ailing;
	MemoryContext former_context = ailing_context;
	Bitmapset  *any_change = bms_make_singleton(0);
	MemoryContext old;
	ListCell   *cell;

	ailing = NIL;
	ailing_context = NULL;
	if (rows != NIL)
	{
		register_callbacks();
		ailing_context = AllocSetContextCreate(TopMemoryContext, "ivm views in error", ALLOCSET_SMALL_SIZES);
		old = MemoryContextSwitchTo(ailing_context);
		foreach(cell, rows)
		{
			IvmViewRow *row = lfirst(cell);
			Ailing	   *view = palloc0(sizeof(Ailing));
			ListCell   *inner;

			view->relid = row->relid;
			if (row->fingerprint != NULL)
				view->relids = ivm_fingerprint_relids(row->fingerprint);
			foreach(inner, former)
			{
				Ailing	   *before = lfirst(inner);

				if (before->relid == row->relid)
					view->touched = before->touched;
			}
			foreach(inner, view->relids)
				(void) ivm_registry_add(capture, lfirst_oid(inner), any_change);
			ailing = lappend(ailing, view);
			ivm_trouble_note(MyDatabaseId, view->relid);
		}
		MemoryContextSwitchTo(old);
	}
	if (former_context != NULL)
		MemoryContextDelete(former_context);
	bms_free(any_change);
}

bool
ivm_ailing_any(void)
{
	return ailing != NIL;
}

bool
ivm_ailing_reads(Oid table)
{
	ListCell   *cell;

	foreach(cell, ailing)
	{
		if (list_member_oid(((Ailing *) lfirst(cell))->relids, table))
			return true;
	}
	return false;
}

void
ivm_ailing_touched(Oid table)
{
	ListCell   *cell;

	foreach(cell, ailing)
	{
		Ailing	   *view = lfirst(cell);

		view->touched |= list_member_oid(view->relids, table);
	}
}

void
ivm_ailing_tell(void)
{
	TimestampTz now;
	ListCell   *cell;

	if (ailing == NIL)
		return;
	now = GetCurrentTimestamp();
	if (!TimestampDifferenceExceeds(told_at, now, TELL_INTERVAL))
		return;
	told_at = now;
	foreach(cell, ailing)
	{
		Ailing	   *view = lfirst(cell);

		if (view->touched || all_touched)
			ivm_trouble_hurry(MyDatabaseId, view->relid);
		view->touched = false;
	}
	all_touched = false;
}
