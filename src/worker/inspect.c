/*-------------------------------------------------------------------------
 *
 * inspect.c
 *	  A look into one database: are there incremental views?
 *
 * If there is an incremental view, or a row of ivm.view, the database is wanted,
 * and its apply workers set right what is missing.  What is too much is removed
 * here: a view that was dropped while the library was not loaded has left its
 * rows of metadata, and perhaps a shared arrangement that nothing reads.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "storage/lmgr.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "metadata/metadata.h"
#include "worker/consumer.h"
#include "worker/control.h"
#include "worker/process.h"

static bool
arrangement_is_read(Oid relid)
{
	ListCell   *cell;

	foreach(cell, ivm_metadata_list())
		if (list_member_oid(((IvmViewRow *) lfirst(cell))->arrangements, relid))
			return true;
	return false;
}

/* Removes what belonged to views that are not there any more. */
static void
drop_leftovers(void)
{
	ListCell   *cell;

	ivm_metadata_delete_gone();
	foreach(cell, ivm_metadata_list())
	{
		IvmViewRow *row = lfirst(cell);
		ObjectAddress address;

		if (row->kind != 'a' || arrangement_is_read(row->relid))
			continue;
		/* a builder that is about to read it has locked it */
		LockRelationOid(row->relid, AccessExclusiveLock);
		if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(row->relid)) ||
			arrangement_is_read(row->relid))
			continue;
		ObjectAddressSet(address, RelationRelationId, row->relid);
		performDeletion(&address, DROP_RESTRICT, PERFORM_DELETION_INTERNAL | PERFORM_DELETION_QUIETLY);
	}
}

void
ivm_inspect_main(Datum unused)
{
	IvmProcessArgument argument;
	bool		wanted = false;

	ivm_process_init(&argument);
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (ivm_metadata_is_installed())
		wanted = ivm_metadata_list() != NIL || ivm_incremental_views() != NIL;
	PopActiveSnapshot();
	CommitTransactionCommand();

	if (wanted)
		(void) ivm_control_changed(argument.dboid, true);

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (ivm_metadata_is_installed())
		drop_leftovers();
	PopActiveSnapshot();
	CommitTransactionCommand();
}
