/*-------------------------------------------------------------------------
 *
 * arena.h
 *	  Memory of the dataflow: jemalloc arenas, counted and given back.
 *
 * Every byte that an arena takes from the kernel passes its extent hooks and
 * is counted.  An arena belongs to a memory context: it is destroyed by the
 * context's callback, so that an error cannot leak it.  Memory of an arena is
 * never passed to pfree, nor palloc'd memory to an arena.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_ARENA_H
#define IVM_ARENA_H

#include "postgres.h"

typedef struct IvmArena IvmArena;

typedef struct IvmArenaStats
{
	Size		allocated;		/* bytes in live allocations */
	Size		active;			/* bytes in pages that hold live allocations */
	Size		resident;		/* bytes that the kernel has given and not got
								 * back */
	Size		retained;		/* address space kept without memory behind it */
	Size		peak;			/* highest resident */
	uint64		trims;
	Size		trim_bytes;		/* given back by trims */
} IvmArenaStats;

/* Creates an arena that lives as long as "owner". */
extern IvmArena *ivm_arena_create(const char *name, MemoryContext owner);

/*
 * Allocates; MAXALIGNed.  Where the arena may not grow, whatever is registered in reclaim.h is
 * called; raises ERRCODE_OUT_OF_MEMORY if that does not help.
 */
extern void *ivm_arena_alloc(IvmArena *arena, Size size);
extern void *ivm_arena_alloc0(IvmArena *arena, Size size);

/* The same, but returns NULL at once where the arena may not grow. */
extern void *ivm_arena_try_alloc(IvmArena *arena, Size size);

extern void ivm_arena_free(IvmArena *arena, void *pointer);

/* Frees everything in the arena at once; its pages stay until a trim. */
extern void ivm_arena_reset(IvmArena *arena);

/* Gives unused pages of the arena back to the kernel. */
extern void ivm_arena_trim(IvmArena *arena);

/* Bytes that this arena holds from the kernel, without its own bookkeeping. */
extern Size ivm_arena_resident(IvmArena *arena);

/* The sum over all arenas of this process. */
extern void ivm_arena_process_stats(IvmArenaStats *stats);

/* Trims every arena of this process; returns the bytes that went back to the kernel. */
extern Size ivm_arena_process_purge(void);

/* The same, and what palloc holds from the C library. */
extern void ivm_arena_process_trim(void);

#endif							/* IVM_ARENA_H */
