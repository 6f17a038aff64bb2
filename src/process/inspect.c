/*-------------------------------------------------------------------------
 *
 * inspect.c
 *	  A look into one database: are there incremental views?
 *
 * If there is an incremental view, or a row of ivm.view, the database is wanted,
 * and its apply workers set right what is missing.  What is too much is removed
 * here: a view that was dropped while the library was not loaded has left its
 * rows of metadata, its state tables, and perhaps a shared arrangement that nothing reads.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/snapmgr.h"

#include "arrange/state_table.h"
#include "metadata/metadata.h"
#include "process/control.h"
#include "process/process.h"

void
ivm_inspect_main(Datum unused)
{
	IvmProcessArgument argument;
	bool		wanted = false;

	ivm_process_init(&argument);
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (ivm_metadata_is_installed())
	{
		List	   *rows = ivm_metadata_list();

		wanted = rows != NIL || ivm_unknown_views(rows) != NIL;
	}
	PopActiveSnapshot();
	CommitTransactionCommand();

	if (wanted)
		(void) ivm_control_changed(argument.dboid, true);

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (ivm_metadata_is_installed())
	{
		ivm_metadata_delete_gone();
		ivm_state_tables_drop(ivm_state_tables_unused());
		ivm_metadata_drop_unused(ivm_metadata_unused_arrangements());
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
}
