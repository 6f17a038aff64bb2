/*-------------------------------------------------------------------------
 *
 * kernel.h
 *	  What the kernel says about a process's memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_KERNEL_H
#define IVM_KERNEL_H

#include "postgres.h"

/*
 * Sets *bytes to the process's anonymous memory: heap, arenas and stack, but neither shared memory nor
 * files.  False where that cannot be had.  Costs a millisecond for some thousand mappings.
 */
extern bool ivm_kernel_anonymous_memory(pid_t pid, Size *bytes);

/* Is the process stopped by a signal (or a debugger)?  False where that cannot be found out. */
extern bool ivm_kernel_is_stopped(pid_t pid);

#endif							/* IVM_KERNEL_H */
