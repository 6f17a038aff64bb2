/*-------------------------------------------------------------------------
 *
 * inspect.c
 *	  A look into one database: are there incremental views?
 *
 * If there is an incremental view, or a row of ivm.view, the database is wanted,
 * and its apply workers set right what is missing.  What is too much is removed
 * here: a view that was dropped, or turned into an ordinary one, while the library was not loaded has left
 * its rows of metadata, its state tables, and perhaps a shared arrangement that nothing reads.
 *
 * The process is in nobody's way: it gives up a wait for a lock soon, and is
 * told to end when a session wants the database for itself.  However it ends before
 * it has done all, the launcher lets another one try, after a pause that grows.
 * Why it failed is kept in the shared entry, and said in the log when it is news.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "arrange/state_table.h"
#include "base/copy_text.h"
#include "base/debug_point.h"
#include "metadata/metadata.h"
#include "process/control.h"
#include "process/process.h"

static IvmControlDatabase *control;
static bool is_done = false;

static void
inspector_exit(int code, Datum argument)
{
	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	control->inspector_pid = 0;
	if (!is_done)
		control->asked_inspect = true;
	LWLockRelease(ivm_control->lock);
	ivm_control_wake_launcher();
}

static void
inspect(void)
{
	bool		wanted = false;
	bool		some_gone = false;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	ivm_debug_point("inspect");
	if (ivm_metadata_is_installed())
	{
		List	   *rows = ivm_metadata_list();

		wanted = rows != NIL || ivm_unknown_views(rows) != NIL;
	}
	PopActiveSnapshot();
	CommitTransactionCommand();

	if (wanted)
		(void) ivm_control_changed(MyDatabaseId, true);

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (ivm_metadata_is_installed())
	{
		some_gone = ivm_metadata_delete_gone();
		ivm_state_tables_drop(ivm_state_tables_unused());
		ivm_metadata_drop_unused(ivm_metadata_unused_arrangements());
	}
	PopActiveSnapshot();
	CommitTransactionCommand();

	/* who has taken them for views by now lets go of them */
	if (wanted && some_gone)
		(void) ivm_control_changed(MyDatabaseId, false);
}

/* Keeps why it failed; true if that is news. */
static bool
keep_problem(const char *message)
{
	char		problem[sizeof(control->inspection_problem)];
	bool		news;

	ivm_copy_text(problem, message, sizeof(problem));
	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	news = strcmp(problem, control->inspection_problem) != 0;
	strcpy(control->inspection_problem, problem);
	LWLockRelease(ivm_control->lock);
	return news;
}

void
ivm_inspect_main(Datum unused)
{
	IvmProcessArgument argument;

	ivm_process_init(&argument);
	control = ivm_control_my_database();
	ivm_process_join(&argument, &control->inspector_pid, NULL);
	before_shmem_exit(inspector_exit, (Datum) 0);
	ivm_process_impatient(true);

	/* who asks from here on wants another look */
	LWLockAcquire(ivm_control->lock, LW_EXCLUSIVE);
	control->asked_inspect = false;
	LWLockRelease(ivm_control->lock);

	PG_TRY();
	{
		inspect();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(TopMemoryContext);
		error = CopyErrorData();
		FlushErrorState();
		AbortCurrentTransaction();
		if (keep_problem(error->message))
			ereport(LOG,
					(errcode(error->sqlerrcode),
					 errmsg("could not look for incremental views in database %u: %s",
							MyDatabaseId, error->message),
					 errdetail("It is tried again.")));
		proc_exit(0);
	}
	PG_END_TRY();
	(void) keep_problem("");
	is_done = true;
}
