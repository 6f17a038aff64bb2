/*-------------------------------------------------------------------------
 *
 * chunks.c
 *	  Shared memory for the counters of views and operators, as much as they need.
 *
 * Entries are in chunks.  The first chunk is part of the
 * server's shared memory, so that few views need nothing else; further ones are dynamic shared
 * memory, and each doubles the number of places.  An entry's number tells its chunk, so that entries never move.
 *
 * Reports are made inside batches and commits, where neither an error nor a wait could
 * be borne.  So a report never makes a chunk: apply workers and the
 * builder do, when they read ivm.view, before there is anything to report of a new view.  What
 * finds no place all the same is not counted.  A process maps the chunks that are new to it
 * before it takes the lock; if that fails it does not report.
 *
 * Chunks at the end that nothing is in are given back when views are dropped.
 * One entry in the last chunk keeps all: the memory follows the most views that there
 * were at a time, until they are gone.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "port/pg_bitutils.h"
#include "storage/dsm.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "stats/stats_internal.h"

/* Views that all chunks before this one have room for together, and that it has room for itself. */
#define VIEWS_BEFORE(chunk)	((chunk) == 0 ? 0 : (uint32) IVM_STATS_FIRST_VIEWS << ((chunk) - 1))
#define VIEWS_IN(chunk)		((uint32) IVM_STATS_FIRST_VIEWS << ((chunk) == 0 ? 0 : (chunk) - 1))
#define VIEWS_SIZE(chunk)	MAXALIGN(VIEWS_IN(chunk) * sizeof(IvmStatsView))
#define CHUNK_SIZE(chunk) \
	(VIEWS_SIZE(chunk) + MAXALIGN(VIEWS_IN(chunk) * IVM_STATS_OPERATORS_PER_VIEW * sizeof(IvmStatsOperator)))

/* What this process has mapped. */
static char *places[IVM_STATS_CHUNKS];
static dsm_segment *segments[IVM_STATS_CHUNKS];
static dsm_handle handles[IVM_STATS_CHUNKS];
static uint64 mapped_changes = 0;

Size
ivm_stats_first_chunk_size(void)
{
	return CHUNK_SIZE(0);
}

static void
set_pool_sizes(int nchunks)
{
	ivm_stats->nchunks = nchunks;
	ivm_stats->view_pool.size = VIEWS_BEFORE(nchunks);
	ivm_stats->operator_pool.size = VIEWS_BEFORE(nchunks) * IVM_STATS_OPERATORS_PER_VIEW;
}

void
ivm_stats_chunks_init(void *first, bool fresh)
{
	places[0] = first;
	if (fresh)
		set_pool_sizes(1);
}

/* The chunk in which the view of that index is, or would be. */
static inline int
chunk_of(uint32 index)
{
	return index < IVM_STATS_FIRST_VIEWS ? 0 : pg_leftmost_one_pos32(index / IVM_STATS_FIRST_VIEWS) + 1;
}

IvmStatsView *
ivm_stats_view_at(uint32 number)
{
	int			chunk = chunk_of(number - 1);

	return (IvmStatsView *) places[chunk] + (number - 1 - VIEWS_BEFORE(chunk));
}

IvmStatsOperator *
ivm_stats_operator_at(uint32 number)
{
	int			chunk = chunk_of((number - 1) / IVM_STATS_OPERATORS_PER_VIEW);

	return (IvmStatsOperator *) (places[chunk] + VIEWS_SIZE(chunk)) +
		(number - 1 - VIEWS_BEFORE(chunk) * IVM_STATS_OPERATORS_PER_VIEW);
}

/*
 * Maps a chunk, or makes and maps one of that size if there is no handle.  NULL if that
 * cannot be had; no error.
 */
static dsm_segment *
map_chunk(dsm_handle handle, Size size)
{
	ResourceOwner caller = CurrentResourceOwner;
	MemoryContext context = CurrentMemoryContext;
	dsm_segment *volatile segment = NULL;
	ResourceOwner owner;

	/* what an error leaves behind is this owner's */
	owner = ResourceOwnerCreate(NULL, "ivm statistics");
	PG_TRY();
	{
		CurrentResourceOwner = owner;
		if (handle == DSM_HANDLE_INVALID)
			segment = dsm_create(size, DSM_CREATE_NULL_IF_MAXSEGMENTS);
		else
		{
			segment = dsm_find_mapping(handle);
			if (segment == NULL)
				segment = dsm_attach(handle);
		}
		if (segment != NULL)
			dsm_pin_mapping(segment);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		FlushErrorState();
		segment = NULL;
	}
	PG_END_TRY();
	CurrentResourceOwner = caller;
	ResourceOwnerRelease(owner, RESOURCE_RELEASE_BEFORE_LOCKS, false, true);
	ResourceOwnerDelete(owner);
	return segment;
}

/* Maps what is there, and unmaps what is not any more; or not, if that fails. */
static void
map_chunks(void)
{
	dsm_handle	present[IVM_STATS_CHUNKS];
	int			count;
	uint64		changes;

	LWLockAcquire(&ivm_stats->lock, LW_SHARED);
	count = ivm_stats->nchunks;
	changes = ivm_stats->chunk_changes;
	memcpy(present, ivm_stats->chunks, sizeof(present));
	LWLockRelease(&ivm_stats->lock);

	for (int i = 1; i < IVM_STATS_CHUNKS; i++)
	{
		dsm_handle	handle = i < count ? present[i] : DSM_HANDLE_INVALID;

		if (handle == handles[i])
			continue;
		if (segments[i] != NULL)
			dsm_detach(segments[i]);
		segments[i] = NULL;
		places[i] = NULL;
		handles[i] = DSM_HANDLE_INVALID;
		if (handle == DSM_HANDLE_INVALID)
			continue;
		segments[i] = map_chunk(handle, 0);
		if (segments[i] == NULL)
			return;
		places[i] = dsm_segment_address(segments[i]);
		handles[i] = handle;
	}
	mapped_changes = changes;
}

bool
ivm_stats_lock(LWLockMode mode)
{
	if (ivm_stats == NULL)
		return false;
	/* what is given back while it is being mapped is no failure */
	for (int tries = 0; tries < 10; tries++)
	{
		LWLockAcquire(&ivm_stats->lock, mode);
		if (mapped_changes == ivm_stats->chunk_changes)
			return true;
		LWLockRelease(&ivm_stats->lock);
		map_chunks();
	}
	return false;
}

/* Is there no room for so many more views, or hardly any for their operators? */
static bool
is_short(int views)
{
	IvmStatsPool *operators = &ivm_stats->operator_pool;

	if (views == 0 || ivm_stats->nchunks == IVM_STATS_CHUNKS)
		return false;
	return ivm_stats->view_pool.size - ivm_stats->view_pool.taken < views ||
		operators->size - operators->taken < IVM_STATS_FIRST_VIEWS;
}

void
ivm_stats_chunks_grow(int views)
{
	for (;;)
	{
		dsm_segment *segment;
		dsm_handle	handle;
		bool		added = false;
		bool		enough;
		int			chunk;

		if (!ivm_stats_lock(LW_SHARED))
			return;
		enough = !is_short(views);
		chunk = ivm_stats->nchunks;
		LWLockRelease(&ivm_stats->lock);
		if (enough)
			return;

		segment = map_chunk(DSM_HANDLE_INVALID, CHUNK_SIZE(chunk));
		if (segment == NULL)
			return;
		dsm_pin_segment(segment);
		handle = dsm_segment_handle(segment);
		if (ivm_stats_lock(LW_EXCLUSIVE))
		{
			if (ivm_stats->nchunks == chunk)
			{
				ivm_stats->chunks[chunk] = handle;
				set_pool_sizes(chunk + 1);
				ivm_stats->chunk_changes++;
				added = true;
			}
			LWLockRelease(&ivm_stats->lock);
		}
		if (added)
			continue;			/* it is found where it is mapped */
		dsm_detach(segment);
		dsm_unpin_segment(handle);
	}
}

/* Where a free element has its link. */
static uint32 *
view_link(uint32 number)
{
	return &ivm_stats_view_at(number)->next;
}

static uint32 *
operator_link(uint32 number)
{
	return &ivm_stats_operator_at(number)->next;
}

/* Are all elements free that come after the first "kept" ones? */
static bool
is_free_behind(IvmStatsPool *pool, uint32 *(*link_of) (uint32), uint32 kept)
{
	uint32		nfree = 0;

	if (pool->used <= kept)
		return true;
	for (uint32 number = pool->free; number != 0; number = *link_of(number))
		if (number > kept)
			nfree++;
	return pool->used - kept == nfree;
}

/* Then they go. */
static void
cut_pool(IvmStatsPool *pool, uint32 *(*link_of) (uint32), uint32 kept)
{
	uint32	   *link = &pool->free;

	while (*link != 0)
	{
		if (*link > kept)
			*link = *link_of(*link);
		else
			link = link_of(*link);
	}
	pool->used = Min(pool->used, kept);
}

void
ivm_stats_chunks_shrink(void)
{
	for (;;)
	{
		dsm_handle	gone = DSM_HANDLE_INVALID;
		int			last;
		uint32		views;
		uint32		operators;

		if (!ivm_stats_lock(LW_EXCLUSIVE))
			return;
		last = ivm_stats->nchunks - 1;
		views = VIEWS_BEFORE(last);
		operators = views * IVM_STATS_OPERATORS_PER_VIEW;

		/* some must be left free, or it would come and go with one view */
		if (last > 0 && ivm_stats->view_pool.taken <= views / 2 &&
			is_free_behind(&ivm_stats->view_pool, view_link, views) &&
			is_free_behind(&ivm_stats->operator_pool, operator_link, operators))
		{
			cut_pool(&ivm_stats->view_pool, view_link, views);
			cut_pool(&ivm_stats->operator_pool, operator_link, operators);
			gone = ivm_stats->chunks[last];
			set_pool_sizes(last);
			ivm_stats->chunk_changes++;
		}
		LWLockRelease(&ivm_stats->lock);
		if (gone == DSM_HANDLE_INVALID)
			return;
		dsm_unpin_segment(gone);
		map_chunks();
	}
}
