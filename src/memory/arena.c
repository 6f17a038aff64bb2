/*-------------------------------------------------------------------------
 *
 * arena.c
 *	  Memory of the dataflow: jemalloc arenas, counted and given back.
 *
 * A process that maintains views lives for months.  The C library's malloc
 * returns memory only from the end of its heap, so one long-lived block above
 * a burst keeps all of the burst.  jemalloc's arenas return any page that is
 * free, but only when told to, and only such an arena can be thrown away as a
 * whole.
 *
 * What an arena takes from the kernel passes its extent hooks.  A hook takes the
 * bytes from the process's account (budget.c), maps and unmaps memory, and counts;
 * it raises no error, allocates nothing with palloc and never waits.  If the
 * budget or the kernel refuses, the hook returns NULL, and so does the
 * allocation.  Then ivm_arena_alloc lets the process give back what it can
 * (reclaim.c) and tries again; at the very last it takes the cluster's one overdraft token.
 *
 * The count is exact because no hook lets pages go behind its back: purging,
 * after which pages come back by being touched, is not offered.  Large extents
 * that jemalloc does not use any more are unmapped.  Small ones are
 * decommitted (their pages go back to the kernel, their addresses are kept) and
 * committed when they are used again; the hooks see both.  Unmapping them would
 * leave a hole for each, and a process can have only so many mappings (65530 by
 * default): an arena with that many holes could not grow any more.  Memory that
 * is mapped or committed is populated at once: then what is counted is there,
 * and hundreds of page faults are one system call.
 *
 * An arena's own bookkeeping stands in blocks of 2 MB, of which little is ever
 * touched.  They are told apart by their alignment and not counted by the hooks:
 * where statistics are asked for, the kernel says which pages of them are there, and
 * these are added to the account.  jemalloc's map from pages to extents is in blocks that
 * we do not know, eight bytes for each page: it is taken to be that.  What it needs
 * to begin with, about 300 kB, comes with the library, and is not counted.
 *
 * Each arena has an explicit thread cache, emptied before the arena is reset
 * or trimmed: without one, every allocation would take the arena's locks.
 *
 * An arena belongs to a memory context, whose callback destroys it, so that
 * no error can leak it.  The handle itself is palloc'd there.
 *
 * Counters belong to the process; there are no threads, and no locks.
 *
 * Compiled with -DIVM_NO_ACCOUNTING (make COPT=-DIVM_NO_ACCOUNTING) the hooks leave
 * the budget alone, to measure what it costs.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <jemalloc/jemalloc.h>
#include <sys/mman.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "common/pg_prng.h"
#include "lib/ilist.h"
#include "utils/memutils.h"

#include "base/settings.h"
#include "memory/arena.h"
#include "memory/budget.h"
#include "memory/reclaim.h"

/*
 * Read by jemalloc when it starts.  retain: ask the kernel for what is needed
 * and no more; our hooks decide what address space is kept.  narenas: one for
 * jemalloc's own needs; ours are made by hand.  No threads in a server
 * process.  slab_sizes: sizes that are powers of two would be allocated from
 * single pages, and each mapping costs a system call and 128 bytes of
 * bookkeeping.
 */
const char *ivm_je_malloc_conf = "retain:false,narenas:1,background_thread:false,"
"slab_sizes:64-64:4|128-128:4|256-256:4|512-512:4|1024-1024:4|2048-2048:4";

/* Only bookkeeping blocks are asked for with that alignment. */
#define BOOKKEEPING_ALIGNMENT	((Size) 2 * 1024 * 1024)

/* Each is larger than the one before, so that there are never so many. */
#define MAX_BOOKKEEPING			16

/* jemalloc's map from pages to extents has eight bytes for each page. */
#define MAP_SHARE				512

/* Smaller extents are decommitted instead of unmapped. */
#define UNMAP_MINIMUM			((Size) 4 * 1024 * 1024)

struct IvmArena
{
	extent_hooks_t hooks;		/* must be first */
	const char *name;
	unsigned	index;			/* of jemalloc's arena */
	int			flags;			/* for allocation */
	int			free_flags;
	unsigned	tcache;
	Size		resident;		/* bytes in mapped and committed extents */
	Size		retained;		/* bytes in decommitted ones */
	bool		is_closing;		/* only bookkeeping is left to be unmapped */
	int			nblocks;		/* of bookkeeping */
	void	   *blocks[MAX_BOOKKEEPING];
	Size		block_sizes[MAX_BOOKKEEPING];
	MemoryContextCallback callback;
	dlist_node	node;			/* in "arenas" */
};

static dlist_head arenas = DLIST_STATIC_INIT(arenas);

/* Sums and high marks of this process, over all its arenas. */
static Size process_resident = 0;
static Size process_peak = 0;
static uint64 process_trims = 0;
static Size process_trim_bytes = 0;

/* Bookkeeping that the account contains. */
static Size process_bookkeeping = 0;

/* The allocation that runs may exceed the budget. */
static bool may_overdraw = false;

/* ---- extent hooks ---- */

/* False if the budget refuses. */
static bool
count_resident(IvmArena *arena, Size size)
{
#ifndef IVM_NO_ACCOUNTING
	if (!ivm_budget_take_arena(size))
	{
		if (!may_overdraw)
			return false;
		ivm_budget_force_arena(size);
	}
#endif
	arena->resident += size;
	process_resident += size;
	process_peak = Max(process_peak, process_resident);
	return true;
}

static void
uncount_resident(IvmArena *arena, Size size)
{
#ifndef IVM_NO_ACCOUNTING
	ivm_budget_give_arena(size);
#endif
	arena->resident -= size;
	process_resident -= size;
}

/*
 * Maps memory whose address is a multiple of "alignment" (a power of two), with
 * pages behind it if "populate".
 */
static void *
map_aligned(Size size, Size alignment, bool populate)
{
	const int	protection = PROT_READ | PROT_WRITE;
	const int	flags = MAP_PRIVATE | MAP_ANONYMOUS | (populate ? MAP_POPULATE : 0);
	char	   *address = mmap(NULL, size, protection, flags, -1, 0);
	Size		before;
	Size		after;

	if (address == MAP_FAILED)
		return NULL;
	if (((uintptr_t) address & (alignment - 1)) == 0)
		return address;

	/* again with room to choose from, and cut off what is too much */
	munmap(address, size);
	if (size + alignment < size)
		return NULL;
	address = mmap(NULL, size + alignment, protection, flags & ~MAP_POPULATE, -1, 0);
	if (address == MAP_FAILED)
		return NULL;
	before = (alignment - ((uintptr_t) address & (alignment - 1))) & (alignment - 1);
	after = alignment - before;
	if (before > 0)
		munmap(address, before);
	if (after > 0)
		munmap(address + before + size, after);
	return address + before;
}

static void *
extent_alloc(extent_hooks_t * hooks, void *new_addr, size_t size, size_t alignment,
			 bool *zero, bool *commit, unsigned arena_ind)
{
	IvmArena   *arena = (IvmArena *) hooks;
	bool		is_bookkeeping = alignment >= BOOKKEEPING_ALIGNMENT;
	void	   *address;

	/* A certain address is only asked for to grow in place. */
	if (new_addr != NULL)
		return NULL;

	if (!is_bookkeeping && !count_resident(arena, size))
		return NULL;
	address = map_aligned(size, alignment, !is_bookkeeping);
	if (address == NULL)
	{
		if (!is_bookkeeping)
			uncount_resident(arena, size);
		return NULL;
	}
	if (is_bookkeeping && arena->nblocks < MAX_BOOKKEEPING)
	{
		arena->blocks[arena->nblocks] = address;
		arena->block_sizes[arena->nblocks] = size;
		arena->nblocks++;
	}
	*zero = true;
	*commit = true;
	return address;
}

/* Unmaps; tells jemalloc to keep what should not or cannot be unmapped. */
static bool
extent_dalloc(extent_hooks_t * hooks, void *addr, size_t size, bool committed, unsigned arena_ind)
{
	IvmArena   *arena = (IvmArena *) hooks;

	if (size < UNMAP_MINIMUM && !arena->is_closing)
		return true;
	if (munmap(addr, size) != 0)
		return true;
	if (arena->is_closing)
		return false;
	if (committed)
		uncount_resident(arena, size);
	else
		arena->retained -= size;
	return false;
}

/*
 * The end of extents that were kept.  If they cannot be unmapped, the address
 * space is lost, but no page is.
 */
static void
extent_destroy(extent_hooks_t * hooks, void *addr, size_t size, bool committed, unsigned arena_ind)
{
	IvmArena   *arena = (IvmArena *) hooks;

	if (munmap(addr, size) != 0)
		(void) madvise(addr, size, MADV_DONTNEED);
	if (committed)
		uncount_resident(arena, size);
	else
		arena->retained -= size;
}

static bool
extent_commit(extent_hooks_t * hooks, void *addr, size_t size, size_t offset, size_t length,
			  unsigned arena_ind)
{
	IvmArena   *arena = (IvmArena *) hooks;

	if (!count_resident(arena, length))
		return true;
	/* a kernel that does not know how will do it page by page */
#ifdef MADV_POPULATE_WRITE
	(void) madvise((char *) addr + offset, length, MADV_POPULATE_WRITE);
#endif
	arena->retained -= length;
	return false;
}

static bool
extent_decommit(extent_hooks_t * hooks, void *addr, size_t size, size_t offset, size_t length,
				unsigned arena_ind)
{
	IvmArena   *arena = (IvmArena *) hooks;

	if (madvise((char *) addr + offset, length, MADV_DONTNEED) != 0)
		return true;
	if (arena->is_closing)
		return false;
	uncount_resident(arena, length);
	arena->retained += length;
	return false;
}

/* Mappings can be cut and joined anywhere; nothing is kept for each. */
static bool
extent_split(extent_hooks_t * hooks, void *addr, size_t size, size_t size_a, size_t size_b,
			 bool committed, unsigned arena_ind)
{
	return false;
}

static bool
extent_merge(extent_hooks_t * hooks, void *addr_a, size_t size_a, void *addr_b, size_t size_b,
			 bool committed, unsigned arena_ind)
{
	return false;
}

static const extent_hooks_t extent_hooks = {
	.alloc = extent_alloc,
	.dalloc = extent_dalloc,
	.destroy = extent_destroy,
	.commit = extent_commit,
	.decommit = extent_decommit,
	.purge_lazy = NULL,
	.purge_forced = NULL,
	.split = extent_split,
	.merge = extent_merge
};

/* ---- jemalloc's control interface ---- */

/* Does something to one arena: "arena.<index>.<verb>". */
static void
arena_control(IvmArena *arena, const char *verb)
{
	char		name[64];
	int			error;

	snprintf(name, sizeof(name), "arena.%u.%s", arena->index, verb);
	error = ivm_je_mallctl(name, NULL, NULL, NULL, 0);
	if (error != 0)
		elog(WARNING, "jemalloc control \"%s\" failed: %s", name, strerror(error));
}

/* Returns the thread cache's memory to the arena. */
static void
flush_tcache(IvmArena *arena)
{
	(void) ivm_je_mallctl("tcache.flush", NULL, NULL, &arena->tcache, sizeof(arena->tcache));
}

/* A statistic of one arena, of type size_t; 0 where there is none. */
static Size
read_stat(unsigned index, const char *what)
{
	char		name[64];
	size_t		value = 0;
	size_t		length = sizeof(value);

	snprintf(name, sizeof(name), "stats.arenas.%u.%s", index, what);
	if (ivm_je_mallctl(name, &value, &length, NULL, 0) != 0)
		return 0;
	return value;
}

/* ---- life of an arena ---- */

/*
 * Memory context callback: the end of an arena.  Its extents go first, so that
 * the hooks know the bookkeeping that follows, which nobody has counted.
 */
static void
destroy_arena(void *argument)
{
	IvmArena   *arena = argument;

	ivm_reclaim_forget(arena);
	(void) ivm_je_mallctl("tcache.destroy", NULL, NULL, &arena->tcache, sizeof(arena->tcache));
	arena_control(arena, "reset");
	arena_control(arena, "purge");
	Assert(arena->resident == 0);
	arena->is_closing = true;
	arena_control(arena, "destroy");
	dlist_delete(&arena->node);
}

/*
 * Creates an arena that is destroyed when "owner" is deleted or reset.
 * "name" is for error messages and must live as long.  Raises
 * ERRCODE_OUT_OF_MEMORY.
 */
IvmArena *
ivm_arena_create(const char *name, MemoryContext owner)
{
	IvmArena   *arena = MemoryContextAllocZero(owner, sizeof(IvmArena));
	extent_hooks_t *hooks = &arena->hooks;
	size_t		length;
	int			error;

	arena->hooks = extent_hooks;
	arena->name = name;

	length = sizeof(arena->index);
	error = ivm_je_mallctl("arenas.create", &arena->index, &length, &hooks, sizeof(hooks));
	if (error == 0)
	{
		length = sizeof(arena->tcache);
		error = ivm_je_mallctl("tcache.create", &arena->tcache, &length, NULL, 0);
		if (error != 0)
			arena_control(arena, "destroy");
	}
	if (error != 0)
	{
		pfree(arena);
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory"),
				 errdetail("Could not create memory arena \"%s\": %s.", name, strerror(error))));
	}
	arena->flags = MALLOCX_ARENA(arena->index) | MALLOCX_TCACHE(arena->tcache);
	arena->free_flags = MALLOCX_TCACHE(arena->tcache);

	dlist_push_tail(&arenas, &arena->node);
	arena->callback.func = destroy_arena;
	arena->callback.arg = arena;
	MemoryContextRegisterResetCallback(owner, &arena->callback);
	return arena;
}

/* ---- allocation ---- */

/* True for the share of allocations that a test wants to fail. */
static inline bool
is_to_fail(void)
{
	return unlikely(ivm_debug_alloc_failures > 0) &&
		pg_prng_double(&pg_global_prng_state) < ivm_debug_alloc_failures;
}

/*
 * An allocation that was refused: again after everything that gives memory
 * back, and at last beyond the budget.
 */
static void *
allocate_short(IvmArena *arena, Size size, int flags)
{
	void	   *pointer;
	bool		reclaimed;

	do
	{
		reclaimed = ivm_reclaim();
		pointer = ivm_je_mallocx(size, flags);
	} while (pointer == NULL && reclaimed);

	if (pointer == NULL && ivm_overdraft_try())
	{
		may_overdraw = true;
		pointer = ivm_je_mallocx(size, flags);
		may_overdraw = false;
	}
	if (pointer == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory"),
				 errdetail("Failed on request of size %zu in memory arena \"%s\", within ivm.memory_budget of %d kB.",
						   size, arena->name, ivm_memory_budget),
				 errhint("Increase ivm.memory_budget.")));
	return pointer;
}

/*
 * Allocates "size" bytes (0 gives a pointer as well), MAXALIGNed, until they
 * are freed or the arena is reset.  What is registered in reclaim.c may be called.
 * Raises ERRCODE_OUT_OF_MEMORY.
 */
void *
ivm_arena_alloc(IvmArena *arena, Size size)
{
	void	   *pointer = is_to_fail() ? NULL : ivm_je_mallocx(Max(size, 1), arena->flags);

	if (unlikely(pointer == NULL))
		pointer = allocate_short(arena, Max(size, 1), arena->flags);
	return pointer;
}

/*
 * The same, filled with zeroes.
 */
void *
ivm_arena_alloc0(IvmArena *arena, Size size)
{
	const int	flags = arena->flags | MALLOCX_ZERO;
	void	   *pointer = is_to_fail() ? NULL : ivm_je_mallocx(Max(size, 1), flags);

	if (unlikely(pointer == NULL))
		pointer = allocate_short(arena, Max(size, 1), flags);
	return pointer;
}

/*
 * Like ivm_arena_alloc, but returns NULL where the arena may not grow, and
 * nothing is asked to give memory back.
 */
void *
ivm_arena_try_alloc(IvmArena *arena, Size size)
{
	return is_to_fail() ? NULL : ivm_je_mallocx(Max(size, 1), arena->flags);
}

/*
 * Frees one allocation of this arena; NULL is nothing.
 */
void
ivm_arena_free(IvmArena *arena, void *pointer)
{
	if (pointer != NULL)
		ivm_je_dallocx(pointer, arena->free_flags);
}

/*
 * Frees everything in the arena at once.  Its pages stay with it, to be used
 * again, until a trim.
 */
void
ivm_arena_reset(IvmArena *arena)
{
	ivm_reclaim_forget(arena);
	flush_tcache(arena);
	arena_control(arena, "reset");
}

/*
 * Gives unused pages of the arena back to the kernel.
 */
void
ivm_arena_trim(IvmArena *arena)
{
	Size		before = arena->resident;

	flush_tcache(arena);
	arena_control(arena, "decay");
	arena_control(arena, "purge");

	process_trims++;
	if (arena->resident < before)
		process_trim_bytes += before - arena->resident;
}

/*
 * The same for all arenas of this process; returns how much that gave.
 */
Size
ivm_arena_process_purge(void)
{
	Size		before = process_resident;
	dlist_iter	iter;

	dlist_foreach(iter, &arenas)
		ivm_arena_trim(dlist_container(IvmArena, node, iter.cur));
	return before - process_resident;
}

/*
 * Trims all arenas of this process, jemalloc's own, and returns to the kernel
 * what the C library holds of freed memory contexts.
 */
void
ivm_arena_process_trim(void)
{
	(void) ivm_arena_process_purge();
	(void) ivm_je_mallctl("arena.0.purge", NULL, NULL, NULL, 0);
#ifdef __GLIBC__
	(void) malloc_trim(0);
#endif
}

/* ---- statistics ---- */

/*
 * Bytes that the arena holds from the kernel, by its hooks' count.
 */
Size
ivm_arena_resident(IvmArena *arena)
{
	return arena->resident;
}

/* Bytes of the arena's bookkeeping that are in memory. */
static Size
bookkeeping_resident(IvmArena *arena, Size page)
{
	Size		resident = 0;
	unsigned char present[512];

	for (int i = 0; i < arena->nblocks; i++)
	{
		Size		step = page * sizeof(present);

		for (Size offset = 0; offset < arena->block_sizes[i]; offset += step)
		{
			Size		length = Min(step, arena->block_sizes[i] - offset);

			if (mincore((char *) arena->blocks[i] + offset, length, present) != 0)
				continue;
			for (Size j = 0; j < length / page; j++)
				resident += (present[j] & 1) * page;
		}
	}
	return resident;
}

/* Brings what the account contains of the bookkeeping to what it is now. */
static void
count_bookkeeping(Size bytes)
{
#ifndef IVM_NO_ACCOUNTING
	if (bytes > process_bookkeeping)
		ivm_budget_force_arena(bytes - process_bookkeeping);
	else
		ivm_budget_give_arena(process_bookkeeping - bytes);
#endif
	process_bookkeeping = bytes;
}

/*
 * Sums over all arenas of this process, jemalloc's bookkeeping included in
 * resident and peak; trims since the process started.  Costs some
 * microseconds for each arena.
 */
void
ivm_arena_process_stats(IvmArenaStats *stats)
{
	size_t		page = 0;
	size_t		length = sizeof(page);
	uint64		epoch = 1;
	Size		bookkeeping;
	dlist_iter	iter;

	memset(stats, 0, sizeof(*stats));

	/* makes jemalloc take a new picture, which the reads below see */
	(void) ivm_je_mallctl("epoch", NULL, NULL, &epoch, sizeof(epoch));

	(void) ivm_je_mallctl("arenas.page", &page, &length, NULL, 0);

	bookkeeping = process_peak / MAP_SHARE;
	dlist_foreach(iter, &arenas)
	{
		IvmArena   *arena = dlist_container(IvmArena, node, iter.cur);

		stats->allocated += read_stat(arena->index, "small.allocated");
		stats->allocated += read_stat(arena->index, "large.allocated");
		stats->active += read_stat(arena->index, "pactive") * page;
		stats->retained += arena->retained;
		bookkeeping += bookkeeping_resident(arena, page);
	}
	if (dlist_is_empty(&arenas))
		bookkeeping = 0;
	count_bookkeeping(bookkeeping);
	stats->resident = process_resident + bookkeeping;
	stats->peak = process_peak + bookkeeping;
	stats->trims = process_trims;
	stats->trim_bytes = process_trim_bytes;
}
