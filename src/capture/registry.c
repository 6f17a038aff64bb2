/*-------------------------------------------------------------------------
 *
 * registry.c
 *	  Which tables and columns are decoded.
 *
 * A table is registered by consumers of the log (apply workers and the builder), each of which holds it
 * until it says that it does not need it any more; what nobody holds goes.  That is like the cursors, and
 * as safe: a view's tables are held wherever its place in the log is.  A consumer's holds outlive its
 * process, and who takes a view over holds its tables before the other one lets go.  The columns of a table only
 * become more while it is registered.  Each addition that adds something, and each removal, is a new generation.
 *
 * The tables are sorted, so that one is found by halving.  The decoder has a hash table of its own, which is what
 * it asks for a change.
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
 * Transactions that are decoded while they are open are another matter: see incomplete.c.
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
static uint64 loaded;			/* their generation */
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

/* The entries, sorted by relid; NULL if there are none.  Lock held. */
static IvmRegistryEntry *
all_entries(IvmDatabase *database)
{
	if (!DsaPointerIsValid(database->registry))
		return NULL;
	return dsa_get_address(ivm_database_area(database), database->registry);
}

/* Where the table's entry is, or belongs.  Lock held. */
static int
find_place(IvmDatabase *database, Oid relid)
{
	IvmRegistryEntry *entries = all_entries(database);
	int			first = 0;
	int			last = database->nregistered;

	while (first < last)
	{
		int			middle = (first + last) / 2;

		if (entries[middle].relid < relid)
			first = middle + 1;
		else
			last = middle;
	}
	return first;
}

/* Room for that many entries, if it can be had.  Lock held exclusively. */
static bool
set_size(IvmDatabase *database, int size)
{
	dsa_area   *area = ivm_database_area(database);
	dsa_pointer registry = dsa_allocate_extended(area, size * sizeof(IvmRegistryEntry), DSA_ALLOC_NO_OOM);

	if (!DsaPointerIsValid(registry))
		return false;
	if (DsaPointerIsValid(database->registry))
	{
		memcpy(dsa_get_address(area, registry), all_entries(database), database->nregistered * sizeof(IvmRegistryEntry));
		dsa_free(area, database->registry);
	}
	database->registry = registry;
	database->registry_size = size;
	return true;
}

uint64
ivm_registry_add(IvmDatabase *database, Oid relid, Bitmapset *attributes)
{
	uint64		holder = UINT64CONST(1) << ivm_wake_consumer_number();
	dsa_area   *area;
	IvmRegistryEntry *entry;
	int			place;
	bool		found;
	Bitmapset  *before = NULL;
	Bitmapset  *after;
	dsa_pointer words = InvalidDsaPointer;
	uint64		result;

	ivm_database_attach(database);
	area = ivm_database_area(database);

	LWLockAcquire(&database->lock, LW_EXCLUSIVE);
	place = find_place(database, relid);
	entry = all_entries(database) + place;
	found = place < database->nregistered && entry->relid == relid;
	if (found)
		before = entry_attributes(area, entry);

	if (found && (entry->all || (attributes != NULL && bms_is_subset(attributes, before))))
	{
		entry->holders |= holder;
		result = entry->generation;
		LWLockRelease(&database->lock);
		return result;
	}

	/* All that can fail comes before anything is changed. */
	if (!found && database->nregistered == database->registry_size &&
		!set_size(database, Max(INITIAL_SIZE, database->registry_size * 2)))
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	after = bms_union(before, attributes);
	if (after != NULL)
	{
		words = dsa_allocate(area, after->nwords * sizeof(bitmapword));
		memcpy(dsa_get_address(area, words), after->words, after->nwords * sizeof(bitmapword));
	}
	entry = all_entries(database) + place;
	if (!found)
	{
		memmove(entry + 1, entry, (database->nregistered - place) * sizeof(IvmRegistryEntry));
		memset(entry, 0, sizeof(*entry));
		entry->words = InvalidDsaPointer;
		entry->relid = relid;
		database->nregistered++;
	}
	if (DsaPointerIsValid(entry->words))
		dsa_free(area, entry->words);
	entry->words = words;
	entry->nwords = after == NULL ? 0 : after->nwords;
	entry->all = attributes == NULL;
	entry->holders |= holder;
	result = entry->generation = pg_atomic_add_fetch_u64(&database->generation, 1);
	LWLockRelease(&database->lock);

	ivm_wake_decoder(database);
	return result;
}

void
ivm_registry_retain(IvmDatabase *database, bool (*is_needed) (Oid relid, void *argument), void *argument)
{
	uint64		holder = UINT64CONST(1) << ivm_wake_consumer_number();
	dsa_area   *area;
	IvmRegistryEntry *entries;
	int			kept = 0;
	bool		any = false;

	ivm_database_attach(database);
	area = ivm_database_area(database);

	LWLockAcquire(&database->lock, LW_EXCLUSIVE);
	entries = all_entries(database);
	for (int i = 0; i < database->nregistered; i++)
	{
		IvmRegistryEntry *entry = &entries[i];

		if ((entry->holders & holder) != 0 && (is_needed == NULL || !is_needed(entry->relid, argument)))
			entry->holders &= ~holder;
		if (entry->holders != 0)
			entries[kept++] = *entry;
		else if (DsaPointerIsValid(entry->words))
			dsa_free(area, entry->words);
	}
	if (kept < database->nregistered)
	{
		any = true;
		database->nregistered = kept;
		if (database->registry_size > INITIAL_SIZE && kept < database->registry_size / 4)
			(void) set_size(database, Max(INITIAL_SIZE, kept * 2));
		(void) pg_atomic_add_fetch_u64(&database->generation, 1);
	}
	LWLockRelease(&database->lock);
	if (any)
		ivm_wake_decoder(database);
}

void
ivm_registry_wait(IvmDatabase *database, uint64 generation)
{
	uint64		use = database->use;
	uint64		next;

	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		elog(ERROR, "cannot wait for the decoder in a transaction that has written");

	LWLockAcquire(&database->lock, LW_EXCLUSIVE);
	next = pg_atomic_add_fetch_u64(&database->generation, 1);
	generation = Max(generation, next);
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
	return pg_atomic_read_u64(&database->acknowledged) >= generation && !ivm_registry_is_incomplete(database);
}

/* Is the table held by one of these consumers?  Lock held. */
bool
ivm_registry_is_held(IvmDatabase *database, Oid relid, uint64 holders)
{
	int			place = find_place(database, relid);

	return place < database->nregistered && all_entries(database)[place].relid == relid &&
		(all_entries(database)[place].holders & holders) != 0;
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
	entries = all_entries(database);
	for (int i = 0; i < database->nregistered; i++)
	{
		IvmRegistration *registration = hash_search(registrations, &entries[i].relid, HASH_ENTER, NULL);

		registration->generation = entries[i].generation;
		registration->attributes = entries[i].all ? NULL : entry_attributes(area, &entries[i]);
	}
	LWLockRelease(&database->lock);
	MemoryContextSwitchTo(old);
	return loaded = generation;
}

uint64
ivm_registry_loaded(void)
{
	return loaded;
}

/* What is registered of a table itself, or NULL. */
IvmRegistration *
ivm_registry_find(Oid relid)
{
	return hash_search(registrations, &relid, HASH_FIND, NULL);
}
