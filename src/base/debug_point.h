/*-------------------------------------------------------------------------
 *
 * debug_point.h
 *	  Places in the code at which a test can hold or break a process.
 *
 * A superuser arms points with the reloadable setting ivm.debug_points, a
 * comma-separated list of name=action, where action is "wait" (until the
 * setting no longer names the point), "error", "io" (an I/O error), "fatal" or "panic".  A process
 * that waits shows the point's name as its state in pg_stat_ivm_worker and
 * holds whatever it held.  An unarmed point costs one test of a variable.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_DEBUG_POINT_H
#define IVM_DEBUG_POINT_H

#include "postgres.h"

#include "utils/guc.h"

extern bool ivm_debug_points_armed;

/* Called with the point's name when a process begins to wait, with NULL when it goes on. */
extern void (*ivm_debug_point_report) (const char *name);

extern void ivm_debug_point_reached(const char *name);

/* The setting's hooks, for settings.c. */
extern bool ivm_debug_points_check(char **newval, void **extra, GucSource source);
extern void ivm_debug_points_assign(const char *newval, void *extra);

#define ivm_debug_point(name) \
	do { \
		if (unlikely(ivm_debug_points_armed)) \
			ivm_debug_point_reached(name); \
	} while (0)

#endif							/* IVM_DEBUG_POINT_H */
