/*-------------------------------------------------------------------------
 *
 * registry.c
 *	  Which tables and columns are decoded.
 *
 * The registry only grows, until the database's entry is released: a table
 * that no view reads any more costs its decoding, and nothing else, until
 * then.  Each addition that adds something is a new generation.
 *
 * The decoder takes the registry over between two transactions.  That alone is
 * not enough for who wants to fill a view: a transaction that was decoded before,
 * without the new tables, may have written its commit record and still be
 * running for everybody else's snapshots.  So the decoder remembers what it has
 * decoded until that is visible, and acknowledges a generation only when all
 * that it had decoded before taking it over is.  A snapshot that is
 * taken after the acknowledgement then sees every transaction that was decoded
 * without the tables, and all others are in the log.
 *
 * ivm_registry_wait asks for a generation of its own, although the tables may
 * have been registered long ago: the log may have been trimmed of transactions
 * that nobody needed but that are not visible yet.
 *
 * Memory: the registry in the shared area; the decoder's copy in a context of
 * its own.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "capture/capture_internal.h"

#define INITIAL_SIZE	32

static HTAB *registrations;		/* decoder: Oid -> IvmRegistration */
static MemoryContext registrations_context;

/* The registered columns of an entry as a set in the current context. */
static Bitmapset *
entry_attributes(dsa_area *area, IvmRegistryEntry *entry)
{
	Bitmapset  *result;

	if (entry->nwords == 0)
		return NULL;
	result = palloc0(offsetof(Bitmapset, words) + entry->nwords * sizeof(bitmapword));
	result->nwords = entry->nwords;
	memcpy(result->words, dsa_get_address(area, entry->words), entry->nwords * sizeof(bitmapword));
	return result;
}

uint64
ivm_registry_add(IvmDatabase *database, Oid relid, Bitmapset *attributes)
{
	dsa_area   *area;
	IvmRegistryEntry *entries;
	IvmRegistryEntry *entry = NULL;
	Bitmapset  *before = NULL;
	Bitmapset  *after;
	dsa_pointer words = InvalidDsaPointer;
	uint64		result;

	ivm_database_attach(database);
	area = ivm_database_area(database);

	LWLockAcquire(&database->lock, LW_EXCLUSIVE);
	entries = DsaPointerIsValid(database->registry) ? dsa_get_address(area, database->registry) : NULL;
	for (int i = 0; i < database->nregistered; i++)
		if (entries[i].relid == relid)
		{
			entry = &entries[i];
			before = entry_attributes(area, entry);
			break;
		}

	if (entry != NULL && (entry->all || (attributes != NULL && bms_is_subset(attributes, before))))
	{
		result = entry->generation;
		LWLockRelease(&database->lock);
		return result;
	}

	if (entry == NULL)
	{
		if (database->nregistered == database->registry_size)
		{
			int			size = Max(INITIAL_SIZE, database->registry_size * 2);
			dsa_pointer grown = dsa_allocate0(area, size * sizeof(IvmRegistryEntry));
			IvmRegistryEntry *to = dsa_get_address(area, grown);

			if (entries != NULL)
			{
				memcpy(to, entries, database->nregistered * sizeof(IvmRegistryEntry));
				dsa_free(area, database->registry);
			}
			database->registry = grown;
			database->registry_size = size;
			entries = to;
		}
		entry = &entries[database->nregistered];
		memset(entry, 0, sizeof(*entry));
		entry->words = InvalidDsaPointer;
		entry->relid = relid;
	}

	/* All that can fail comes before the entry is changed. */
	after = bms_union(before, attributes);
	if (after != NULL)
	{
		words = dsa_allocate(area, after->nwords * sizeof(bitmapword));
		memcpy(dsa_get_address(area, words), after->words, after->nwords * sizeof(bitmapword));
	}
	if (DsaPointerIsValid(entry->words))
		dsa_free(area, entry->words);
	entry->words = words;
	entry->nwords = after == NULL ? 0 : after->nwords;
	entry->all = attributes == NULL;
	if (entry == &entries[database->nregistered])
		database->nregistered++;
	result = entry->generation = pg_atomic_add_fetch_u64(&database->generation, 1);
	LWLockRelease(&database->lock);

	ivm_wake_decoder(database);
	return result;
}

void
ivm_registry_wait(IvmDatabase *database, uint64 generation)
{
	uint64		use = database->use;

	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		elog(ERROR, "cannot wait for the decoder in a transaction that has written");

	LWLockAcquire(&database->lock, LW_EXCLUSIVE);
	generation = Max(generation, pg_atomic_add_fetch_u64(&database->generation, 1));
	LWLockRelease(&database->lock);

	ConditionVariablePrepareToSleep(&database->acknowledged_changed);
	while (pg_atomic_read_u64(&database->acknowledged) < generation)
	{
		if (database->use != use)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_IN_USE),
					 errmsg("the processes of this database were stopped")));
		ivm_wake_decoder(database);
		ivm_wake_stalled_decoder(database);
		ConditionVariableSleep(&database->acknowledged_changed, PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
}

uint64
ivm_registry_ask(IvmDatabase *database)
{
	uint64		generation;

	LWLockAcquire(&database->lock, LW_EXCLUSIVE);
	generation = pg_atomic_add_fetch_u64(&database->generation, 1);
	LWLockRelease(&database->lock);
	ivm_wake_decoder(database);
	return generation;
}

bool
ivm_registry_is_acknowledged(IvmDatabase *database, uint64 generation)
{
	return pg_atomic_read_u64(&database->acknowledged) >= generation;
}

/*
 * The decoder's copy, made anew.  Returns the generation that it is of.
 */
uint64
ivm_registry_load(IvmDatabase *database)
{
	dsa_area   *area = ivm_database_area(database);
	MemoryContext old;
	IvmRegistryEntry *entries;
	HASHCTL		control = {0};
	uint64		generation;

	if (registrations_context == NULL)
		registrations_context = AllocSetContextCreate(TopMemoryContext, "ivm registry",
													  ALLOCSET_DEFAULT_SIZES);
	else
		MemoryContextReset(registrations_context);
	control.keysize = sizeof(Oid);
	control.entrysize = sizeof(IvmRegistration);
	control.hcxt = registrations_context;
	registrations = hash_create("ivm registry", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);

	old = MemoryContextSwitchTo(registrations_context);
	LWLockAcquire(&database->lock, LW_SHARED);
	generation = pg_atomic_read_u64(&database->generation);
	entries = DsaPointerIsValid(database->registry) ? dsa_get_address(area, database->registry) : NULL;
	for (int i = 0; i < database->nregistered; i++)
	{
		IvmRegistration *registration = hash_search(registrations, &entries[i].relid, HASH_ENTER, NULL);

		registration->attributes = entries[i].all ? NULL : entry_attributes(area, &entries[i]);
	}
	LWLockRelease(&database->lock);
	MemoryContextSwitchTo(old);
	return generation;
}

/* What is registered of a table itself, or NULL. */
IvmRegistration *
ivm_registry_find(Oid relid)
{
	return hash_search(registrations, &relid, HASH_FIND, NULL);
}
