/*-------------------------------------------------------------------------
 *
 * reclaim.h
 *	  What to do when an arena may not grow: drop caches, spill to files.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_RECLAIM_H
#define IVM_RECLAIM_H

#include "postgres.h"

#include "lib/ilist.h"

#include "memory/arena.h"

typedef enum IvmReclaimKind
{
	IVM_RECLAIM_CACHE,			/* can be forgotten: goes first, and whole */
	IVM_RECLAIM_SPILL			/* can be written to a file: the largest first */
} IvmReclaimKind;

/*
 * Something that can give memory back.  It is part of its owner, who keeps
 * "bytes" up to date; the callback frees what it can (setting "bytes" to
 * what is left), may raise errors, and may be called by any allocation in any arena of this
 * process while it is registered.
 */
typedef struct IvmReclaimer
{
	dlist_node	node;
	IvmReclaimKind kind;
	IvmArena   *arena;			/* whose end or reset forgets the reclaimer */
	Size		bytes;
	void		(*reclaim) (struct IvmReclaimer *self);
	bool		registered;
} IvmReclaimer;

/* Registers it; no harm if it is. */
extern void ivm_reclaimer_add(IvmReclaimer *reclaimer);

/* Nothing may be taken from it from now on (its rows are being looked at).  No harm if it is not registered. */
extern void ivm_reclaimer_remove(IvmReclaimer *reclaimer);

/* The arena is reset or destroyed: its reclaimers are gone with it. */
extern void ivm_reclaim_forget(IvmArena *arena);

/*
 * Makes room: drops all caches, else spills the largest.  False if there is nothing left
 * that is worth it.  Called by ivm_arena_alloc.
 */
extern bool ivm_reclaim(void);

/*
 * If this process was asked to give back what it does not need, or holds more than its minimum while the
 * budget is exceeded: drops its caches and trims.  For the loops of all processes.
 */
extern void ivm_give_back(void);

/*
 * The same in the midst of work, to be called now and then: also writes to files, if the
 * process holds more than its minimum while the budget is exceeded.
 */
extern void ivm_give_back_working(void);

/* Bytes that a structure may take that cannot be reclaimed while it is in use (an eighth of what this process may hold). */
extern Size ivm_pin_limit(void);

/*
 * ivm.debug_spill names the kinds of spilling that tests force; true if this one is named: it then
 * spills as early as it can.
 */
extern bool ivm_spill_is_forced(const char *kind);

#endif							/* IVM_RECLAIM_H */
