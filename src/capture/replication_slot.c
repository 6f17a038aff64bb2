/*-------------------------------------------------------------------------
 *
 * replication_slot.c
 *	  The database's replication slot: made, taken, dropped.
 *
 * The slot ivm_<database oid> says from where the WAL must be kept.  It is
 * ephemeral until decoding has found its start, so that nothing is left of one
 * whose making was cut short.
 *
 * A slot whose WAL is gone (max_slot_wal_keep_size) is of no use: it is
 * dropped, and another one made.  The consumers find out that their positions
 * are before its start, and rebuild.  PostgreSQL 15 does not check by itself
 * that a slot's WAL is there.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlogutils.h"
#include "miscadmin.h"
#include "replication/logical.h"
#include "replication/slot.h"
#include "utils/guc.h"

#include "capture/capture_internal.h"
#include "stats/stats.h"

#define PLUGIN	"ivm_ext"

static XLogReaderRoutine reader_routine = {
	.page_read = ivm_page_read,
	.segment_open = wal_segment_open,
	.segment_close = wal_segment_close
};

/* Was it made by us, for that database?  A name proves nothing. */
static bool
is_ours(ReplicationSlot *slot, Oid dboid)
{
	return slot->data.database == dboid && strcmp(NameStr(slot->data.plugin), PLUGIN) == 0;
}

void
ivm_replication_slot_name(Oid dboid, char *name)
{
	snprintf(name, NAMEDATALEN, "ivm_%u", dboid);
}

bool
ivm_replication_slot_drop(Oid dboid)
{
	char		name[NAMEDATALEN];
	bool		exists = false;
	volatile bool busy = false;
	MemoryContext context = CurrentMemoryContext;

	ivm_replication_slot_name(dboid, name);
	LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
	for (int i = 0; i < max_replication_slots; i++)
	{
		ReplicationSlot *slot = &ReplicationSlotCtl->replication_slots[i];

		if (!slot->in_use || strcmp(NameStr(slot->data.name), name) != 0 || !is_ours(slot, dboid))
			continue;
		exists = true;
		SpinLockAcquire(&slot->mutex);
		busy = slot->active_pid != 0;
		SpinLockRelease(&slot->mutex);
	}
	LWLockRelease(ReplicationSlotControlLock);
	if (!exists || busy)
		return !busy;

	PG_TRY();
	{
		ReplicationSlotDrop(name, true);
	}
	PG_CATCH();
	{
		/* somebody was quicker, to take it or to drop it */
		if (geterrcode() != ERRCODE_OBJECT_IN_USE && geterrcode() != ERRCODE_UNDEFINED_OBJECT)
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		busy = geterrcode() == ERRCODE_OBJECT_IN_USE;
		FlushErrorState();
	}
	PG_END_TRY();
	return !busy;
}

/*
 * The setting that says which output plugins may be named by replication users
 * exists in the newer minor releases.  Ours is used by this process alone, so
 * it is allowed here alone.
 */
static void
allow_plugin(void)
{
	if (GetConfigOption("output_plugin_libraries", true, false) != NULL)
		SetConfigOption("output_plugin_libraries", PLUGIN, PGC_SUSET, PGC_S_SESSION);
}

/* Makes the slot; waits for the transactions that are running. */
static void
make_slot(IvmDatabase *database, const char *name)
{
	LogicalDecodingContext *context;

	pg_atomic_write_u32(&database->state, IVM_DECODER_CREATING_SLOT);
	ivm_stats_worker_state("creating replication slot");
	ReplicationSlotCreate(name, true, RS_EPHEMERAL, false);
	context = CreateInitDecodingContext(PLUGIN, NIL, false, InvalidXLogRecPtr,
										&reader_routine, NULL, NULL, NULL);
	DecodingContextFindStartpoint(context);
	FreeDecodingContext(context);
	ReplicationSlotPersist();
	ereport(LOG,
			(errmsg("created replication slot \"%s\" for incremental views", name)));
}

/*
 * Makes this process the owner of the database's slot, which is made if there
 * is none that can be used.  Returns true if it was made.  Called outside of
 * any transaction, so that nobody's snapshot is held back by decoding.
 */
bool
ivm_replication_slot_take(IvmDatabase *database)
{
	char		name[NAMEDATALEN];

	ivm_replication_slot_name(MyDatabaseId, name);
	allow_plugin();
	CheckLogicalDecodingRequirements();

	if (SearchNamedReplicationSlot(name, true) != NULL)
	{
		/* a predecessor may be on its way out */
		ReplicationSlotAcquire(name, false);
		if (!is_ours(MyReplicationSlot, MyDatabaseId))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("replication slot \"%s\" was not made by this extension", name),
					 errhint("Drop the replication slot.")));
		if (!XLogRecPtrIsInvalid(MyReplicationSlot->data.restart_lsn) &&
			!XLogRecPtrIsInvalid(MyReplicationSlot->data.confirmed_flush))
			return false;

		ereport(LOG,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("replication slot \"%s\" was invalidated and is made anew", name)));
		ReplicationSlotRelease();
		ReplicationSlotDrop(name, true);
	}

	make_slot(database, name);
	return true;
}

/* The decoding context of the slot that was taken, about to read its first record. */
LogicalDecodingContext *
ivm_replication_slot_decode(void)
{
	LogicalDecodingContext *context = CreateDecodingContext(InvalidXLogRecPtr, NIL, false,
															&reader_routine, NULL, NULL, NULL);

	XLogBeginRead(context->reader, MyReplicationSlot->data.restart_lsn);
	return context;
}
