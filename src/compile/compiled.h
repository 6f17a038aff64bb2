/*-------------------------------------------------------------------------
 *
 * compiled.h
 *	  A plan together with what it was compiled from, and whether that is
 *	  still so.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_COMPILED_H
#define IVM_COMPILED_H

#include "postgres.h"

#include "lib/ilist.h"
#include "plan/plan.h"

/* What an invalidation was about. */
typedef struct IvmInvalidated
{
	int			cache;			/* the system cache, or -1: a relation */
	uint32		value;			/* its entry's hash value, or the relation's
								 * oid; 0: all of them */
} IvmInvalidated;

typedef struct IvmCompiled
{
	dlist_node	node;			/* in the list of those that invalidations
								 * reach */
	MemoryContext context;		/* of all this */
	MemoryContextCallback leave;	/* takes it off the list with its context */

	/* whose expressions, and how these are evaluated */
	Oid			relid;			/* the view, or an arrangement's state table */
	Oid			owner;			/* as of the last compilation */
	List	   *settings;		/* the caller's */

	/*
	 * What it was compiled to: plan_context holds the plan and what others
	 * have made of it.  NULL while there is none.
	 */
	MemoryContext plan_context;
	IvmPlan    *plan;

	/* What is known of it, with a plan or without. */
	List	   *relids;			/* oid: tables that it reads */
	List	   *depends;		/* oid: relations that it was compiled from
								 * ... */
	IvmInvalidated *items;		/* ... and entries of system caches, sorted */
	int			nitems;
	uint64		hash;			/* of its text and fingerprint */

	/*
	 * Counts the invalidations of what it was compiled from; the plan is of
	 * plan_generation.
	 */
	uint64		generation;
	uint64		plan_generation;
	bool		stale;			/* the contents may be concerned, too */

	/*
	 * Roles that decide, and a hash value of what they may do.  If it is
	 * stale only since some role has changed, by so many invalidations, it
	 * may be that nothing has.
	 */
	List	   *roles;
	uint64		roles_hash;
	bool		only_roles;
	uint64		role_generations;

	/* Invalidations that came while it was being compiled. */
	IvmInvalidated *arrived;	/* NULL: it is not */
	int			narrived;
} IvmCompiled;

/*
 * Puts an object without a plan on the list; it leaves it with its context, a
 * child of "parent".  "settings" have to live as long.
 */
extern IvmCompiled *ivm_compiled_create(Oid relid, List *settings, MemoryContext parent);
extern void ivm_compiled_free(IvmCompiled *compiled);

/*
 * Compiles the view as its owner and under its settings, in a transaction, as
 * ivm_compile_view does, for contents that are to be made; returns the plan, which the object has.  Whoever is
 * about to rely on it locks what it reads, accepts invalidations, and asks whether
 * it is current.
 */
extern IvmPlan *ivm_compiled_make(IvmCompiled *compiled, List *owned_state);

/*
 * The same in steps, for whoever compiles in another way, or compares before he
 * takes the new plan.  Between begin and end every invalidation is kept;
 * end, which is given a plan compiled meanwhile, notes what it depends on, and judges
 * them by that.  A begin without an end (after an error, for instance) changes
 * nothing.
 */
extern void ivm_compiled_begin(IvmCompiled *compiled);
extern void ivm_compiled_end(IvmCompiled *compiled, IvmPlan *plan);

/* The object gets another plan, in a context of its own that becomes the object's; the old one goes. */
extern void ivm_compiled_set_plan(IvmCompiled *compiled, IvmPlan *plan, MemoryContext plan_context);

/* Frees the plan; what is known of it stays. */
extern void ivm_compiled_drop_plan(IvmCompiled *compiled);

/* Nothing that it was compiled from has been invalidated since. */
extern bool ivm_compiled_is_current(IvmCompiled *compiled);

/*
 * True if it is stale for changes of roles only, and these do not concern it: it is
 * not stale then.  In a transaction.
 */
extern bool ivm_compiled_settle_roles(IvmCompiled *compiled);

/* It has to be compiled again whatever the invalidations say. */
extern void ivm_compiled_set_stale(IvmCompiled *compiled);

/* A hash value of what two equal plans have in common; 0 if there is none. */
extern uint64 ivm_plan_hash(const char *text, const char *fingerprint);

/* Compiles a view as its owner, under these settings; plan in "parent".  For a look: it is on no list. */
extern IvmPlan *ivm_plan_for_view(Oid relid, List *settings, List *owned_state, const char *stored,
								  MemoryContext parent);

/* Become the owner of a view, restricted, with its settings in force; and go back.  An error goes back by itself. */
typedef struct IvmIdentity
{
	Oid			userid;
	int			security_context;
	int			nest_level;
} IvmIdentity;

extern void ivm_identity_enter(IvmIdentity *saved, Oid owner, List *settings);
extern void ivm_identity_leave(IvmIdentity *saved);

/* Errors if there is no such relation. */
extern Oid	ivm_relation_owner(Oid relid);

#endif							/* IVM_COMPILED_H */
