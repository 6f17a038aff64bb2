/*-------------------------------------------------------------------------
 *
 * build_internal.h
 *	  What the files of the builder share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_BUILD_INTERNAL_H
#define IVM_BUILD_INTERNAL_H

#include "postgres.h"

#include "access/xlogdefs.h"

#include "maintain/guard.h"
#include "metadata/metadata.h"
#include "plan/plan.h"

/* What came of filling a view.  All zero before. */
typedef struct IvmFill
{
	Oid			committed;		/* it is, but nobody has taken it over yet */
	uint64		rows;			/* written */
	uint64		answers;		/* the last request that was there when it
								 * began */
	bool		leaves_arrangements;	/* that the view does not read any more */
} IvmFill;

/*
 * Populates or rebuilds a view, and waits until it has been taken over.  False if it has to be begun again;
 * errors are raised, with a transaction left to be aborted.
 */
extern bool ivm_fill_view(IvmViewRow *row, bool is_asked_for, IvmFill *fill);

/* What it compiled is not needed any more. */
extern void ivm_fill_forget_plans(void);

/* Ends watching what it evaluates, after an error, too; says why it was cancelled, if it was. */
extern IvmCancel ivm_fill_end_watch(void);

/* Ends what a predecessor left unfinished. */
extern void ivm_hand_over_init(void);

/*
 * Takes the cursor, registers the plan's tables, and waits without any transaction until the decoder decodes
 * them.  Returns the position up to which a snapshot taken from now on contains everything.
 */
extern XLogRecPtr ivm_hand_over_begin(IvmPlan *plan);

/* Waits until the workers have taken over what is committed, and lets the cursor go. */
extern void ivm_hand_over(Oid relid, bool is_view);

/* Lets the cursor go. */
extern void ivm_hand_over_release(void);

/* Gives back the memory of a build, of which nothing is left, and the overdraft token. */
extern void ivm_build_give_memory_back(void);

#endif							/* IVM_BUILD_INTERNAL_H */
