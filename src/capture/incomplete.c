/*-------------------------------------------------------------------------
 *
 * incomplete.c
 *	  Open transactions that were decoded without a table.
 *
 * A transaction that is decoded while it is written may have changed a table before that was registered, or
 * with fewer columns than are registered now.  Its rows of that table are incomplete, and will be so in the log.
 * So whoever registers the table waits until that transaction is over: his snapshot sees it then, or it
 * has not happened.  That is known for each pair of a transaction and a table, since others need not wait: neither those of
 * other tables, nor those who register nothing new.  But who comes later for the same table has to.
 *
 * The decoder notes the pairs when it takes a generation over, before it is acknowledged.  They go when their
 * transactions do not run any more, not before: also a decoder that begins anew leaves them, since it may not decode such a
 * transaction again.
 *
 * Memory: 8 bytes a pair, in the database's dynamic shared area.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "storage/procarray.h"

#include "capture/capture_internal.h"

#define INITIAL_SIZE	32

struct IvmIncomplete
{
	TransactionId xid;
	Oid			relid;
};

/* A copy, in the current context: no lock is taken while ours is held. */
static IvmIncomplete *
copy_pairs(IvmDatabase *database, uint64 holders, int *count)
{
	IvmIncomplete *result = NULL;

	*count = 0;
	LWLockAcquire(&database->lock, LW_SHARED);
	if (database->nincomplete > 0)
	{
		IvmIncomplete *pairs = dsa_get_address(ivm_database_area(database), database->incomplete);

		result = palloc(database->nincomplete * sizeof(IvmIncomplete));
		for (int i = 0; i < database->nincomplete; i++)
			if (holders == 0 || ivm_registry_is_held(database, pairs[i].relid, holders))
				result[(*count)++] = pairs[i];
	}
	LWLockRelease(&database->lock);
	return result;
}

void
ivm_incomplete_prune(IvmDatabase *database)
{
	int			count;
	int			kept = 0;
	IvmIncomplete *pairs;

	/* nobody else changes them */
	if (database->nincomplete == 0)
		return;
	pairs = copy_pairs(database, 0, &count);
	for (int i = 0; i < count; i++)
		if (TransactionIdIsInProgress(pairs[i].xid))
			pairs[kept++] = pairs[i];
	LWLockAcquire(&database->lock, LW_EXCLUSIVE);
	memcpy(dsa_get_address(ivm_database_area(database), database->incomplete), pairs, kept * sizeof(IvmIncomplete));
	database->nincomplete = kept;
	LWLockRelease(&database->lock);
	pfree(pairs);
}

void
ivm_incomplete_add(IvmDatabase *database, TransactionId xid, Oid relid)
{
	dsa_area   *area = ivm_database_area(database);
	IvmIncomplete *pairs = NULL;

	LWLockAcquire(&database->lock, LW_EXCLUSIVE);
	if (DsaPointerIsValid(database->incomplete))
		pairs = dsa_get_address(area, database->incomplete);
	if (database->nincomplete == database->incomplete_size)
	{
		int			size = Max(INITIAL_SIZE, 2 * database->incomplete_size);
		dsa_pointer larger = dsa_allocate(area, size * sizeof(IvmIncomplete));

		if (pairs != NULL)
		{
			memcpy(dsa_get_address(area, larger), pairs, database->nincomplete * sizeof(IvmIncomplete));
			dsa_free(area, database->incomplete);
		}
		database->incomplete = larger;
		database->incomplete_size = size;
		pairs = dsa_get_address(area, larger);
	}
	pairs[database->nincomplete].xid = xid;
	pairs[database->nincomplete].relid = relid;
	database->nincomplete++;
	LWLockRelease(&database->lock);
}

bool
ivm_registry_is_incomplete(IvmDatabase *database)
{
	bool		result = false;
	int			count;
	IvmIncomplete *pairs;

	ivm_database_attach(database);
	pairs = copy_pairs(database, UINT64CONST(1) << ivm_wake_consumer_number(), &count);
	for (int i = 0; i < count && !result; i++)
		result = TransactionIdIsInProgress(pairs[i].xid);
	if (pairs != NULL)
		pfree(pairs);
	return result;
}
