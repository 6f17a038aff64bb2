/*-------------------------------------------------------------------------
 *
 * in_hand.c
 *	  What each process has in hand, kept where a crash does not reach.
 *
 * A batch that ends its process by a signal (a fault in a function in C, the
 * kernel's memory killer) takes the whole server through recovery, and when that is
 * over it is tried again.  So that this has an end, it must be known afterwards
 * what was being done.  Shared memory is made anew by then, but the postmaster
 * lives on: a piece of memory that it mapped before it forked anybody is the same
 * in every process, now and later.  Each of ours has a place there, where it
 * notes the views that it is going to work on, and takes them back when it is done.
 *
 * When one process dies the postmaster ends all others by SIGQUIT, in the midst of
 * what they do.  Those say so, in the signal handler, and are no suspects.  (One
 * that does not come to it, and is killed after some seconds, is suspected with the
 * guilty one; it clears itself.)
 *
 * A function can end its process without a crash, too, by exit() or an error that is fatal.  Then
 * the process accuses on its way out, unless it was told to end.
 *
 * The first launcher after the crash makes suspects of what the dead had in hand.
 * A suspect is worked on alone.  If that goes well it is none any more; after
 * IVM_MAX_DEATHS deaths in a row it is not tried again, until REFRESH gives it one
 * more try.  The decoder is suspected by its position: it goes on being tried,
 * since without it nothing in the database is maintained, but says where it dies.
 *
 * Whoever crashes may write anything here before.  So there is no pointer, no lock that
 * could stay locked and no length that is not checked; the postmaster itself
 * never reads it.  The number of places is fixed: one for each background worker.
 * A note that finds no room, or names more views than there is room for, is cut:
 * what it would have told is missed, no more.
 *
 * Suspects are forgotten with the postmaster.  That a view is in state error is not: it is
 * in ivm.view.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/mman.h>
#include <unistd.h>

#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "postmaster/bgworker_internals.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"

#include "base/in_hand.h"

#define MAX_IN_HAND		128
#define MAX_SUSPECTS	256

/* A process's. */
typedef struct Place
{
	pg_atomic_uint32 pid;		/* 0: free */
	Oid			dboid;
	IvmWork		work;
	bool		ended;			/* by the postmaster, or told to end */
	XLogRecPtr	position;
	Oid			only;
	int			n;
	Oid			relids[MAX_IN_HAND];
} Place;

typedef struct Suspect
{
	pg_atomic_uint64 key;		/* database and view; 0: free */
	pg_atomic_uint32 deaths;
	pg_atomic_uint64 position;
} Suspect;

typedef struct Kept
{
	pg_atomic_uint32 nsuspects; /* so that nobody looks for them in vain */
	Suspect		suspects[MAX_SUSPECTS];
	Place		places[FLEXIBLE_ARRAY_MEMBER];
} Kept;

static Kept *kept = NULL;
static int	nplaces = 0;		/* what is in there may have been overwritten */
static volatile Place *mine = NULL;

void
ivm_in_hand_init(void)
{
	Size		size;

	nplaces = max_worker_processes;
	size = offsetof(Kept, places) + nplaces * sizeof(Place);
	kept = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (kept == MAP_FAILED)
		ereport(FATAL,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("could not map %zu bytes of shared memory: %m", size)));
	pg_atomic_init_u32(&kept->nsuspects, 0);
	for (int i = 0; i < MAX_SUSPECTS; i++)
	{
		pg_atomic_init_u64(&kept->suspects[i].key, 0);
		pg_atomic_init_u32(&kept->suspects[i].deaths, 0);
		pg_atomic_init_u64(&kept->suspects[i].position, 0);
	}
	for (int i = 0; i < nplaces; i++)
		pg_atomic_init_u32(&kept->places[i].pid, 0);
}

/* ---- a process ---- */

static void
ended_by_postmaster(SIGNAL_ARGS)
{
	if (mine != NULL)
		mine->ended = true;
	/* as SignalHandlerForCrashExit: nothing can be cleaned up */
	_exit(2);
}

static void close_place(int code, Datum argument);

static void
told_to_end(SIGNAL_ARGS)
{
	if (mine != NULL)
		mine->ended = true;
	die(postgres_signal_arg);
}

void
ivm_in_hand_open(Oid dboid)
{
	Assert(mine == NULL);
	for (int i = 0; i < nplaces; i++)
	{
		Place	   *place = &kept->places[i];
		uint32		nobody = 0;

		if (!pg_atomic_compare_exchange_u32(&place->pid, &nobody, MyProcPid))
			continue;
		place->dboid = dboid;
		place->work = IVM_WORK_NONE;
		place->ended = false;
		mine = place;
		break;
	}
	pqsignal(SIGQUIT, ended_by_postmaster);
	pqsignal(SIGTERM, told_to_end);
	on_proc_exit(close_place, (Datum) 0);
}

/* What a killed process leaves is what it had stored: the compiler must not store "work" any earlier. */
static void
begin_work(IvmWork work)
{
	mine->only = InvalidOid;
	pg_write_barrier();
	mine->work = work;
}

void
ivm_in_hand_begin(IvmWork work, List *relids)
{
	ListCell   *cell;
	int			n = 0;

	if (mine == NULL)
		return;
	mine->work = IVM_WORK_NONE;
	foreach(cell, relids)
		if (n < MAX_IN_HAND)
			mine->relids[n++] = lfirst_oid(cell);
	mine->n = n;
	begin_work(work);
}

void
ivm_in_hand_begin_one(IvmWork work, Oid relid)
{
	if (mine == NULL)
		return;
	mine->work = IVM_WORK_NONE;
	mine->relids[0] = relid;
	mine->n = 1;
	begin_work(work);
}

void
ivm_in_hand_only(Oid relid)
{
	if (mine != NULL)
		mine->only = relid;
}

void
ivm_in_hand_end(void)
{
	if (mine != NULL)
		mine->work = IVM_WORK_NONE;
}

void
ivm_in_hand_decode(XLogRecPtr position)
{
	if (mine == NULL)
		return;
	mine->position = position;
	mine->work = IVM_WORK_DECODE;
}

/* ---- suspects ---- */

static inline uint64
suspect_key(Oid dboid, Oid relid)
{
	return ((uint64) dboid << 32) | relid;
}

/* The suspect, or with "create" a free entry that becomes its; NULL if there is none. */
static Suspect *
find_suspect(Oid dboid, Oid relid, bool create)
{
	uint64		key = suspect_key(dboid, relid);

	if (kept == NULL || !OidIsValid(dboid) || (!create && !ivm_suspects_exist()))
		return NULL;
	for (int i = 0; i < MAX_SUSPECTS; i++)
		if (pg_atomic_read_u64(&kept->suspects[i].key) == key)
			return &kept->suspects[i];
	for (int i = 0; i < MAX_SUSPECTS && create; i++)
	{
		Suspect    *suspect = &kept->suspects[i];
		uint64		nobody = 0;

		if (pg_atomic_read_u64(&suspect->key) != 0)
			continue;
		pg_atomic_write_u32(&suspect->deaths, 0);
		if (pg_atomic_compare_exchange_u64(&suspect->key, &nobody, key))
		{
			pg_atomic_fetch_add_u32(&kept->nsuspects, 1);
			return suspect;
		}
	}
	return NULL;
}

static void
accuse_view(Oid dboid, Oid relid, IvmWork work, uint32 pid)
{
	Suspect    *suspect = OidIsValid(relid) ? find_suspect(dboid, relid, true) : NULL;
	uint32		deaths;

	if (suspect == NULL)
		return;
	deaths = pg_atomic_add_fetch_u32(&suspect->deaths, 1);
	ereport(LOG,
			(errmsg("process %u died while it had incremental view with OID %u of database %u in hand",
					pid, relid, dboid),
			 errdetail("It was %s.  Deaths in a row: %u.",
					   work == IVM_WORK_BUILD ? "filling it" :
					   work == IVM_WORK_COMPILE ? "compiling it" : "applying changes to it", deaths)));
}

static void
accuse_decoder(Oid dboid, XLogRecPtr position, uint32 pid)
{
	Suspect    *suspect = find_suspect(dboid, InvalidOid, true);

	if (suspect == NULL)
		return;
	if (pg_atomic_read_u64(&suspect->position) != position)
		pg_atomic_write_u32(&suspect->deaths, 0);
	pg_atomic_write_u64(&suspect->position, position);
	ereport(LOG,
			(errmsg("process %u died while it decoded the WAL of database %u at %X/%X",
					pid, dboid, LSN_FORMAT_ARGS(position)),
			 errdetail("Deaths in a row there: %u.", pg_atomic_add_fetch_u32(&suspect->deaths, 1))));
}

/* Whoever had this in hand has died of it, or of something else meanwhile. */
static void
accuse(const Place *place, uint32 pid)
{
	switch (place->work)
	{
		case IVM_WORK_COMPILE:
		case IVM_WORK_BATCH:
		case IVM_WORK_BUILD:
			if (OidIsValid(place->only))
				accuse_view(place->dboid, place->only, place->work, pid);
			else
				for (int j = 0; j < Min(place->n, MAX_IN_HAND); j++)
					accuse_view(place->dboid, place->relids[j], place->work, pid);
			break;
		case IVM_WORK_DECODE:
			accuse_decoder(place->dboid, place->position, pid);
			break;
		default:
			break;
	}
}

static void
close_place(int code, Datum argument)
{
	if (mine == NULL)
		return;
	/* an error that ends the process, or exit() */
	if (!mine->ended && mine->work != IVM_WORK_DECODE)
		accuse((const Place *) mine, MyProcPid);
	mine->work = IVM_WORK_NONE;
	pg_atomic_write_u32((pg_atomic_uint32 *) &mine->pid, 0);
	mine = NULL;
}

void
ivm_in_hand_collect(void)
{
	for (int i = 0; i < nplaces; i++)
	{
		Place		place = kept->places[i];
		uint32		pid = pg_atomic_read_u32(&kept->places[i].pid);

		pg_atomic_write_u32(&kept->places[i].pid, 0);
		if (pid == 0 || place.ended || !OidIsValid(place.dboid))
			continue;
		accuse(&place, pid);
	}
}

bool
ivm_suspects_exist(void)
{
	return kept != NULL && pg_atomic_read_u32(&kept->nsuspects) != 0;
}

int
ivm_suspect_deaths(Oid dboid, Oid relid)
{
	Suspect    *suspect = find_suspect(dboid, relid, false);

	uint32		deaths = suspect == NULL ? 0 : pg_atomic_read_u32(&suspect->deaths);

	return (int) Min(deaths, PG_INT16_MAX);
}

XLogRecPtr
ivm_suspect_position(Oid dboid)
{
	Suspect    *suspect = find_suspect(dboid, InvalidOid, false);

	return suspect == NULL ? InvalidXLogRecPtr : pg_atomic_read_u64(&suspect->position);
}

void
ivm_suspect_clear(Oid dboid, Oid relid)
{
	Suspect    *suspect = find_suspect(dboid, relid, false);

	if (suspect != NULL && pg_atomic_exchange_u64(&suspect->key, 0) != 0)
		pg_atomic_fetch_sub_u32(&kept->nsuspects, 1);
}

void
ivm_suspect_parole(Oid dboid, Oid relid)
{
	Suspect    *suspect = find_suspect(dboid, relid, true);

	if (suspect != NULL)
		pg_atomic_write_u32(&suspect->deaths, IVM_MAX_DEATHS - 1);
}
