/*-------------------------------------------------------------------------
 *
 * log_file.c
 *	  The files that segments of the delta log are in.
 *
 * Files are PostgreSQL's temporary files, in the tablespaces that
 * temp_tablespaces names, one for each segment.  They outlive the transactions in
 * which decoding goes on, and those of their readers, so each access opens the
 * file and closes it.
 *
 * A full disk is no error here: who writes is told.  temp_file_limit is not
 * enforced for each write, as it is for queries, but bounds the log as a whole, as
 * ivm.delta_log_limit does: the decoder turns it off for itself.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/wait_event.h"

#include "base/settings.h"
#include "capture/capture_internal.h"

#define AT_ONCE		(16 * 1024 * 1024)	/* bytes between looks at interrupts */

/* What the last choice was made by. */
static char *chosen;

/* temp_file_limit as the server has it, kB; -1: none. */
static int	file_limit = -1;

/* This process is the decoder. */
void
ivm_log_file_start(void)
{
	SetConfigOption("temp_file_limit", "-1", PGC_SUSET, PGC_S_SESSION);
	ivm_log_file_reload();
}

/* Settings may have changed. */
void
ivm_log_file_reload(void)
{
	const char *limit = GetConfigOptionResetString("temp_file_limit");

	file_limit = limit == NULL ? -1 : pg_strtoint32(limit);
}

/* What the logs of a database may have on disk. */
uint64
ivm_log_file_limit(void)
{
	uint64		limit = (uint64) ivm_delta_log_limit * 1024;

	return file_limit < 0 ? limit : Min(limit, (uint64) file_limit * 1024);
}

/*
 * Where the log's files are going to be: said by temp_tablespaces, which needs a
 * look at the catalogs.  Not to be called in a transaction.
 */
void
ivm_log_file_choose(FileSet *files)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	/*
	 * a change of the setting stands for the database's own until a
	 * transaction has ended
	 */
	StartTransactionCommand();
	CommitTransactionCommand();
	StartTransactionCommand();
	FileSetInit(files);
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	if (chosen != NULL)
		pfree(chosen);
	chosen = MemoryContextStrdup(TopMemoryContext, GetConfigOption("temp_tablespaces", false, false));
}

/* Would it be another choice now? */
bool
ivm_log_file_is_elsewhere(void)
{
	return chosen == NULL || strcmp(chosen, GetConfigOption("temp_tablespaces", false, false)) != 0;
}

static void
file_name(uint64 number, char *name)
{
	snprintf(name, NAMEDATALEN, UINT64_FORMAT, number);
}

/* Makes the file; 0 if the disk is full. */
static File
make_file(FileSet *files, const char *name)
{
	MemoryContext context = CurrentMemoryContext;
	volatile File file = 0;

	/* directories may have to be made, whose errors are raised */
	PG_TRY();
	{
		file = FileSetCreate(files, name);
	}
	PG_CATCH();
	{
		if (geterrcode() != ERRCODE_DISK_FULL)
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		FlushErrorState();
		file = 0;
	}
	PG_END_TRY();
	return file;
}

static File
open_file(IvmLog *log, const char *name, int flags)
{
	File		file = FileSetOpen(&log->files, name, flags);

	if (file <= 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open temporary file \"%s\" of the delta log: %m", name)));
	return file;
}

/*
 * Writes to the file of a segment, which is made if "make".  False if the disk is
 * full: something may have been written all the same.
 */
bool
ivm_log_file_write(IvmLog *log, uint64 number, bool make, const char *data, Size length, Size offset)
{
	char		name[NAMEDATALEN];
	Size		done = 0;
	File		file;

	file_name(number, name);
	if (make)
	{
		log->has_files = true;
		file = make_file(&log->files, name);
		if (file <= 0)
			return false;
	}
	else
		file = open_file(log, name, O_RDWR);
	while (done < length)
	{
		int			chunk = Min(length - done, AT_ONCE);
		int			written;

		CHECK_FOR_INTERRUPTS();
		written = FileWrite(file, unconstify(char *, data) + done, chunk, offset + done,
							WAIT_EVENT_BUFFILE_WRITE);
		if (written != chunk)
		{
			/* a short write is a full disk; the next one will say so */
			if (written < 0 && errno != ENOSPC && errno != EDQUOT)
				ereport(ERROR,
						(errcode_for_file_access(),
						 errmsg("could not write to temporary file \"%s\": %m", FilePathName(file))));
			(void) FileTruncate(file, offset, WAIT_EVENT_BUFFILE_TRUNCATE);
			FileClose(file);
			return false;
		}
		done += chunk;
	}
	FileClose(file);
	return true;
}

/* Reads what has been written before. */
void
ivm_log_file_read(IvmLog *log, uint64 number, char *data, Size length, Size offset)
{
	ResourceOwner owner = CurrentResourceOwner;
	char		name[NAMEDATALEN];
	Size		done = 0;
	File		file;

	if (owner == NULL)
		CurrentResourceOwner = ResourceOwnerCreate(NULL, "ivm delta log");
	file_name(number, name);
	file = open_file(log, name, O_RDONLY);
	while (done < length)
	{
		int			chunk = Min(length - done, AT_ONCE);

		CHECK_FOR_INTERRUPTS();
		if (FileRead(file, data + done, chunk, offset + done, WAIT_EVENT_BUFFILE_READ) != chunk)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not read from temporary file \"%s\": %m", FilePathName(file))));
		done += chunk;
	}
	FileClose(file);
	if (owner == NULL)
	{
		ResourceOwner temporary = CurrentResourceOwner;

		CurrentResourceOwner = NULL;
		ResourceOwnerDelete(temporary);
	}
}

/* Deletes the file of a segment, if there is one; log_temp_files may say so. */
void
ivm_log_file_delete(IvmLog *log, uint64 number)
{
	char		name[NAMEDATALEN];

	file_name(number, name);
	FileSetDelete(&log->files, name, false);
}
