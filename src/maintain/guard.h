/*-------------------------------------------------------------------------
 *
 * guard.h
 *	  A watch over what evaluates expressions of views.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_GUARD_H
#define IVM_GUARD_H

#include "postgres.h"

#include "nodes/pg_list.h"

/* Why the guard has cancelled what ran. */
typedef enum IvmCancel
{
	IVM_CANCEL_NONE,
	IVM_CANCEL_PATIENCE,		/* others wait, for longer than they should */
	IVM_CANCEL_CROWD,			/* so they do, for several that take it together */
	IVM_CANCEL_TIMEOUT,			/* ivm.view_timeout */
	IVM_CANCEL_GIVE_WAY,		/* somebody waits for a lock that it holds */
	IVM_CANCEL_BLOCKING			/* so he does, for one that a function of the
								 * view's took */
} IvmCancel;

/* One view's share of what runs. */
typedef struct IvmWatch
{
	Oid			relid;
	int			elapsed;		/* ms, roughly: from samples */
	int			patience;		/* ms that it may take while others wait; 0:
								 * no limit */
	int			crowd;			/* ms that all views watched may take together
								 * while others wait; 0: no limit */
	int			timeout;		/* ms that it may take; 0: no limit */
	int			turns;			/* that it has had and was not done in */
} IvmWatch;

/* Who takes less is not told from those whom a sample met by chance. */
#define IVM_GUARD_SHORT	50		/* ms */

/* What is being evaluated; NULL: nothing of any view.  See ivm_guard_enter. */
extern IvmWatch *volatile ivm_guard_current;

/*
 * Once for a process.  others_wait() says whether anybody waits for the end of what runs, for longer than he should; it is called
 * when the patience is over, in a signal handler, and may look at memory only.
 */
extern void ivm_guard_init(bool (*others_wait) (const IvmWatch *watch));

/*
 * From here to ivm_guard_end what runs is watched.  "relids" are relations (sorted as they come) that
 * it has locked: it gives way to whoever waits for a lock on one of these that conflicts with reading, or, of the
 * first "nwritten" of them, with writing.  The array is the caller's, and stays until the end.
 */
extern void ivm_guard_begin(const Oid *relids, int count, int nwritten);

/*
 * The end, by success or in a PG_CATCH block.  Says whether it was cancelled, and whose expression was
 * being evaluated then.  A cancel that came too late does not concern what follows.
 */
extern IvmCancel ivm_guard_end(Oid *culprit);

/* At the end of the process: the view that it ends for, since it would not be cancelled for others; InvalidOid: none. */
extern Oid	ivm_guard_culprit(void);

/* What follows is on this view's account, until another one is told, or NULL. */
static inline void
ivm_guard_enter(IvmWatch *watch)
{
	ivm_guard_current = watch;
}

#endif							/* IVM_GUARD_H */
