/*-------------------------------------------------------------------------
 *
 * log_memory.c
 *	  The memory that segments of the delta log are in.
 *
 * The contents of each segment are in a dynamic shared memory segment of its own.
 * So a segment of the log that is freed goes back to the kernel at once and as
 * a whole: a dynamic shared area gives back only what consisted of small
 * objects, and keeps the memory of large ones for ever.  The server makes such
 * memory resident when it makes it, so its size is what it takes.
 *
 * Every byte is taken from the account of the database's log before it is made,
 * and given back by whoever frees it.  Nobody maps a segment but the decoder
 * that writes it, and readers that have pinned it (cursor.c); it is freed when
 * neither does, so that it is gone at that moment.
 *
 * That the kernel has no more, or the server no more places for segments, is no
 * error here but shortage, as a refusal by the budget is.
 *
 * The account also holds the area in which descriptors and registry are: the one
 * megabyte that it begins with.  There are few descriptors, since a file takes
 * more than a segment of memory does.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/resowner.h"

#include "base/settings.h"
#include "capture/capture_internal.h"

#define AREA_SIZE			((Size) 1024 * 1024)	/* that dsa_create makes */
#define NORMAL_SIZE			((Size) 1024 * 1024)
#define SMALLEST_SIZE		((Size) 16 * 1024)

/* A log may be in so many segments; each takes one of the server's places. */
#define MOST_SEGMENTS		64

/* The database's area was made. */
void
ivm_log_memory_open(IvmDatabase *db)
{
	/* whether the minimums fit is asked before a process is started */
	(void) ivm_account_open(&db->account, IVM_MINIMUM_LOG, true);
	ivm_account_force(&db->account, AREA_SIZE);
}

void
ivm_log_memory_close(IvmDatabase *db)
{
	ivm_account_close(&db->account);
}

IvmAccount *
ivm_log_account(IvmDatabase *db)
{
	return &db->account;
}

/* Size of a new segment. */
Size
ivm_log_segment_size(IvmDatabase *db)
{
	Size		limit = (Size) ivm_delta_log_memory * 1024;
	Size		allowance = ivm_account_allowance(&db->account);
	Size		size = Max(NORMAL_SIZE, limit / MOST_SEGMENTS);

	/* readers can keep one each: of little memory they must not take much */
	size = Min(size, limit / 4);
	size = Min(size, allowance / 16);
	return Max(TYPEALIGN_DOWN(8192, size), SMALLEST_SIZE);
}

/*
 * Memory for a segment, mapped until it is let go.  NULL: there is none to be had;
 * "force" leaves only the kernel and the server to refuse.
 */
dsm_segment *
ivm_log_memory_make(IvmDatabase *db, Size size, bool force)
{
	static bool told = false;
	ResourceOwner caller = CurrentResourceOwner;
	MemoryContext context = CurrentMemoryContext;
	dsm_segment *volatile made = NULL;
	ResourceOwner owner;

	if (force)
		ivm_account_force(&db->account, size);
	else if (pg_atomic_read_u64(&db->log_memory) + size > (uint64) ivm_delta_log_memory * 1024)
		return NULL;
	else if (!ivm_account_take(&db->account, size))
	{
		ivm_budget_ask();
		return NULL;
	}

	/* what an error leaves behind is this owner's */
	owner = ResourceOwnerCreate(NULL, "ivm log memory");
	PG_TRY();
	{
		CurrentResourceOwner = owner;
		made = dsm_create(size, DSM_CREATE_NULL_IF_MAXSEGMENTS);
		if (made != NULL)
		{
			dsm_pin_mapping(made);
			dsm_pin_segment(made);
		}
	}
	PG_CATCH();
	{
		ErrorData  *error = NULL;

		MemoryContextSwitchTo(context);
		if (!told)
			error = CopyErrorData();
		FlushErrorState();
		if (error != NULL)
			ereport(LOG,
					(errcode(error->sqlerrcode),
					 errmsg("delta log does without more shared memory: %s", error->message)));
		told = true;
		made = NULL;
	}
	PG_END_TRY();
	CurrentResourceOwner = caller;
	ResourceOwnerRelease(owner, RESOURCE_RELEASE_BEFORE_LOCKS, false, true);
	ResourceOwnerDelete(owner);

	if (made == NULL)
	{
		ivm_account_give(&db->account, size);
		return NULL;
	}
	told = false;
	pg_atomic_fetch_add_u64(&db->log_memory, size);
	return made;
}

/* Nobody has it mapped. */
void
ivm_log_memory_free(IvmDatabase *db, dsm_handle handle, Size size)
{
	dsm_unpin_segment(handle);
	pg_atomic_fetch_sub_u64(&db->log_memory, size);
	ivm_account_give(&db->account, size);
}

/* Maps a segment until dsm_detach. */
dsm_segment *
ivm_log_memory_attach(dsm_handle handle)
{
	dsm_segment *result = dsm_find_mapping(handle);

	if (result == NULL)
	{
		result = dsm_attach(handle);
		if (result == NULL)
			elog(ERROR, "a segment of the delta log is gone");
		dsm_pin_mapping(result);
	}
	return result;
}
