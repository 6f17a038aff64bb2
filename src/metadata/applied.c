/*-------------------------------------------------------------------------
 *
 * applied.c
 *	  The table ivm.applied: at which snapshot a consumer's contents stand.
 *
 * The applied snapshot is written in the transaction that writes the view, so
 * the two cannot part, whatever crashes.  It is kept as 64-bit top-level
 * transaction ids: it may be much older than what a 32-bit id can name, and
 * decoding names transactions by their top-level id only.
 *
 * The row is written with each batch.  The table has a low fillfactor, so that updates are
 * HOT nearly always.
 *
 * Memory: results are palloc'd in the current context.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
#include "utils/pg_lsn.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "metadata/metadata.h"
#include "metadata/own_row.h"

/* Columns of ivm.applied. */
enum
{
	Anum_applied_relid = 1,
	Anum_applied_xmin,
	Anum_applied_xmax,
	Anum_applied_lsn,
	Anum_applied_time,
	Anum_applied_xip,
	Natts_applied = Anum_applied_xip
};

/* One piece of memory, so that one pfree ends it; with room for so many ids. */
static IvmAppliedSnapshot *
make_applied(int nxip)
{
	IvmAppliedSnapshot *result = palloc0(offsetof(IvmAppliedSnapshot, xip) + nxip * sizeof(uint64));

	result->nxip = nxip;
	return result;
}

IvmAppliedSnapshot *
ivm_applied_get(Oid relid, Snapshot snapshot)
{
	Oid			table = ivm_metadata_applied_relid();
	Relation	rel;
	HeapTuple	tuple;
	IvmAppliedSnapshot *result = NULL;

	if (!OidIsValid(table))
		return NULL;
	rel = try_table_open(table, AccessShareLock);
	if (rel == NULL)
		return NULL;			/* the extension has just been dropped */
	tuple = ivm_own_row_fetch(rel, relid, snapshot);
	if (tuple != NULL)
	{
		Datum		values[Natts_applied];
		bool		nulls[Natts_applied];
		ArrayType  *xip;
		Datum	   *elements;
		int			count;

		heap_deform_tuple(tuple, RelationGetDescr(rel), values, nulls);
		xip = DatumGetArrayTypeP(values[Anum_applied_xip - 1]);
		deconstruct_array(xip, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE,
						  &elements, NULL, &count);
		result = make_applied(count);
		result->xmin = (uint64) DatumGetInt64(values[Anum_applied_xmin - 1]);
		result->xmax = (uint64) DatumGetInt64(values[Anum_applied_xmax - 1]);
		result->lsn = DatumGetLSN(values[Anum_applied_lsn - 1]);
		result->time = DatumGetTimestampTz(values[Anum_applied_time - 1]);
		for (int i = 0; i < count; i++)
			result->xip[i] = (uint64) DatumGetInt64(elements[i]);

		/* the current context may be one that lives as long as a view */
		pfree(elements);
		if (PointerGetDatum(xip) != values[Anum_applied_xip - 1])
			pfree(xip);
		heap_freetuple(tuple);
	}
	table_close(rel, AccessShareLock);
	return result;
}

void
ivm_applied_put(Oid relid, IvmAppliedSnapshot *applied, Snapshot snapshot)
{
	Relation	rel = table_open(ivm_metadata_applied_relid(), RowExclusiveLock);
	HeapTuple	old = ivm_own_row_fetch(rel, relid, snapshot);
	HeapTuple	new;
	Datum		values[Natts_applied];
	bool		nulls[Natts_applied] = {0};
	Datum	   *elements = palloc(sizeof(Datum) * (applied->nxip + 1));

	values[Anum_applied_relid - 1] = ObjectIdGetDatum(relid);
	values[Anum_applied_xmin - 1] = Int64GetDatum((int64) applied->xmin);
	values[Anum_applied_xmax - 1] = Int64GetDatum((int64) applied->xmax);
	values[Anum_applied_lsn - 1] = LSNGetDatum(applied->lsn);
	values[Anum_applied_time - 1] = TimestampTzGetDatum(applied->time);
	for (int i = 0; i < applied->nxip; i++)
		elements[i] = Int64GetDatum((int64) applied->xip[i]);
	values[Anum_applied_xip - 1] =
		PointerGetDatum(construct_array(elements, applied->nxip, INT8OID, sizeof(int64),
										FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	new = heap_form_tuple(RelationGetDescr(rel), values, nulls);

	ivm_own_row_put(rel, old, new);
	heap_freetuple(new);
	table_close(rel, RowExclusiveLock);
}

void
ivm_applied_delete(Oid relid)
{
	Oid			table = ivm_metadata_applied_relid();
	Relation	rel;

	if (!OidIsValid(table))
		return;
	rel = table_open(table, RowExclusiveLock);
	ivm_own_row_delete(rel, relid);
	table_close(rel, RowExclusiveLock);
}

static int
compare_fxid(const void *a, const void *b)
{
	uint64		x = *(const uint64 *) a;
	uint64		y = *(const uint64 *) b;

	return (x > y) - (x < y);
}

/* The 64-bit id of a transaction that is at most two billion before the next one. */
static uint64
widen(TransactionId xid, FullTransactionId next)
{
	uint64		epoch = EpochFromFullTransactionId(next);

	if (xid > XidFromFullTransactionId(next))
		epoch--;
	return (epoch << 32) | xid;
}

/*
 * A snapshot taken while the server is no standby holds the running top-level transactions
 * in xip, and subtransactions elsewhere.
 */
IvmAppliedSnapshot *
ivm_applied_from_snapshot(Snapshot snapshot, XLogRecPtr lsn)
{
	FullTransactionId next = ReadNextFullTransactionId();
	IvmAppliedSnapshot *result = make_applied(snapshot->xcnt);
	int			n = 0;

	Assert(snapshot->snapshot_type == SNAPSHOT_MVCC && !snapshot->takenDuringRecovery);
	result->xmin = widen(snapshot->xmin, next);
	result->xmax = widen(snapshot->xmax, next);
	result->lsn = lsn;
	result->time = GetCurrentTransactionStartTimestamp();
	for (uint32 i = 0; i < snapshot->xcnt; i++)
		result->xip[i] = widen(snapshot->xip[i], next);
	qsort(result->xip, snapshot->xcnt, sizeof(uint64), compare_fxid);

	/*
	 * a prepared transaction may stand in the process array twice for a
	 * moment
	 */
	for (uint32 i = 0; i < snapshot->xcnt; i++)
		if (n == 0 || result->xip[n - 1] != result->xip[i])
			result->xip[n++] = result->xip[i];
	result->nxip = n;
	return result;
}

bool
ivm_applied_equal(const IvmAppliedSnapshot *a, const IvmAppliedSnapshot *b)
{
	return a->xmin == b->xmin && a->xmax == b->xmax && a->nxip == b->nxip &&
		memcmp(a->xip, b->xip, sizeof(uint64) * a->nxip) == 0;
}

bool
ivm_applied_contains(const IvmAppliedSnapshot *applied, uint64 fxid)
{
	if (fxid < applied->xmin)
		return true;
	if (fxid >= applied->xmax)
		return false;
	return bsearch(&fxid, applied->xip, applied->nxip, sizeof(uint64), compare_fxid) == NULL;
}
