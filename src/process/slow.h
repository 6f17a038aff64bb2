/*-------------------------------------------------------------------------
 *
 * slow.h
 *	  Which views of a database are slow, as all its processes know it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_SLOW_H
#define IVM_SLOW_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

/* Workers beyond ivm.apply_workers; a view of level n belongs to the n-th of them. */
#define IVM_SLOW_WORKERS		2

/* More than these are not known as slow: what they do stays with the quick ones. */
#define IVM_MAX_SLOW			512

typedef struct IvmSlowView
{
	Oid			relid;
	int			level;			/* 0: was slow once */
	int			returns;		/* how often it was */
	TimestampTz since;			/* when it was found slow the last time */
} IvmSlowView;

/* In a database's shared entry, guarded like the rest of it. */
typedef struct IvmSlow
{
	int			workers;		/* how many slow workers there are, with the
								 * lowest levels */
	int			count;
	IvmSlowView views[IVM_MAX_SLOW];
} IvmSlow;

struct IvmControlDatabase;

/* A copy of it, and the generation of ivm.view that goes with it: palloc'd.  Takes the lock. */
extern IvmSlow *ivm_slow_copy(struct IvmControlDatabase *database, uint64 *generation);

/* The level of a view; 0 if it is not slow.  Lock held, or of a copy. */
extern int	ivm_slow_level(const IvmSlow *slow, Oid relid);

/* The highest level that any view has.  Lock held, or of a copy. */
extern int	ivm_slow_highest(const IvmSlow *slow);

/*
 * These views, which sit together, are of a level now: a new generation if that is news, and
 * the launcher looks.  False if there is no room for them.  Takes the lock.
 */
extern bool ivm_slow_mark(struct IvmControlDatabase *database, List *relids, int level);

/* They were slow again: the time to their return begins anew.  Takes the lock. */
extern void ivm_slow_renew(struct IvmControlDatabase *database, List *relids);

/* Forgets views that are gone.  Takes the lock. */
extern void ivm_slow_forget(struct IvmControlDatabase *database, List *relids);

/*
 * A slow worker says that it is there, or, if there is nothing for it and none above it, that it
 * ends (false: it must not).  A new generation.  Takes the lock.
 */
extern bool ivm_slow_worker_starts(struct IvmControlDatabase *database, int level);
extern bool ivm_slow_worker_ends(struct IvmControlDatabase *database, int level);

/* It is not there any more, and those above it are not to be: the generation in which they are not.  Takes the lock. */
extern uint64 ivm_slow_worker_gone(struct IvmControlDatabase *database, int level);

#endif							/* IVM_SLOW_H */
