/*-------------------------------------------------------------------------
 *
 * launcher.h
 *	  The launcher, as the server's start sees it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_LAUNCHER_H
#define IVM_LAUNCHER_H

/* Registers the launcher with the postmaster. */
extern void ivm_launcher_register(void);

/* Called in the postmaster whenever shared memory is initialized. */
extern void ivm_launcher_count_start(void);

#endif							/* IVM_LAUNCHER_H */
