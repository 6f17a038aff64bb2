/*-------------------------------------------------------------------------
 *
 * family.h
 *	  The processes of one database, as the launcher looks after them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_FAMILY_H
#define IVM_FAMILY_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "process/child.h"
#include "process/control.h"

/* Is the database in pg_database? */
typedef enum IvmPresence
{
	IVM_NOT_LOOKED,
	IVM_IS_THERE,
	IVM_IS_NOT_THERE
} IvmPresence;

/* What the launcher knows of a database besides the shared entry; one for each entry. */
typedef struct IvmFamily
{
	Oid			dboid;			/* whom the entry belonged to at the last look */
	IvmControlDatabase *control;

	/* for the states of the database (launcher.c) */
	IvmPresence presence;
	bool		was_wanted;		/* before it was held */
	bool		orphaned;		/* processes of an earlier launcher are left */

	/* its processes (family.c) */
	IvmChild	inspector;
	IvmChild	decoder;
	IvmChild	builder;
	IvmChild	apply[IVM_APPLY_SLOTS];	/* the slow ones after the others */
	TimestampTz slow_gone_since[IVM_SLOW_WORKERS];	/* it is counted on, and not
													 * there; 0: it is */
	uint64		slow_given_up[IVM_SLOW_WORKERS];	/* generation in which it is
													 * not counted on any more,
													 * until the others know; 0 */
	bool		started;		/* apply workers and decoder were, all of them */
	TimestampTz not_before;		/* they are tried again; 0: at once */
	int			delay;			/* ms, before the try after that */
	bool		is_short;		/* of memory; that was said */
	bool		is_slotless;	/* no free worker slot; that was said */
} IvmFamily;

/* One for each entry. */
extern IvmFamily *ivm_families;

extern void ivm_families_init(void);

/* Starts what is to run and does not, or gives it up; lowers *sleep_ms to when it wants to be called again. */
extern void ivm_family_run(IvmFamily *family, long *sleep_ms);

/* Tells all of them to end; true when nothing is left. */
extern bool ivm_family_stop(IvmFamily *family);

/* Starts an inspector unless one runs or has to wait; false if it does not run then. */
extern bool ivm_family_inspect(IvmFamily *family, long *sleep_ms);

/* Keeps room in the memory budget for one builder, once all else that is to run does. */
extern void ivm_families_reserve(long *sleep_ms);

#endif							/* IVM_FAMILY_H */
