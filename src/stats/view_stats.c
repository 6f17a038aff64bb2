/*-------------------------------------------------------------------------
 *
 * view_stats.c
 *	  Counters of views and of their operators, in shared memory.
 *
 * A view's entry is found by database and relation in a hash table with
 * chains, and has a list of operator rows.  Both come from memory that was made
 * before (chunks.c).
 *
 * The functions here may be called anywhere but under a spinlock.  They raise
 * no errors, and do nothing where the library was not loaded at server start.
 *
 * A transaction that reports and then rolls back has reported all the same:
 * the counters tell what was done, not what lasts.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "nodes/nodes.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/copy_text.h"
#include "stats/stats_internal.h"

/* An element by its number. */
#define view_entry(number)		ivm_stats_view_at(number)
#define operator_row(number)	ivm_stats_operator_at(number)

/* ---- numbers ---- */

/*
 * A free element's number, 0 if there is none.  "next" is where a free element
 * keeps the number of the next one.
 */
static uint32
take_view(void)
{
	IvmStatsPool *pool = &ivm_stats->view_pool;
	uint32		number = pool->free;

	if (number != 0)
		pool->free = view_entry(number)->next;
	else if (pool->used < pool->size)
		number = ++pool->used;
	if (number != 0)
		pool->taken++;
	return number;
}

static uint32
take_operator(void)
{
	IvmStatsPool *pool = &ivm_stats->operator_pool;
	uint32		number = pool->free;

	if (number != 0)
		pool->free = operator_row(number)->next;
	else if (pool->used < pool->size)
		number = ++pool->used;
	if (number != 0)
		pool->taken++;
	return number;
}

/* Frees an operator row and all that follow it. */
static void
free_operators(uint32 number)
{
	while (number != 0)
	{
		uint32		next = operator_row(number)->next;

		operator_row(number)->next = ivm_stats->operator_pool.free;
		ivm_stats->operator_pool.free = number;
		ivm_stats->operator_pool.taken--;
		number = next;
	}
}

/* ---- entries ---- */

static uint32 *
bucket_of(Oid dboid, Oid relid)
{
	uint32		hash = hash_combine(murmurhash32(dboid), murmurhash32(relid));

	return &ivm_stats->buckets[hash & (IVM_STATS_BUCKETS - 1)];
}

/* The link that leads to the entry, or the end of its chain. */
static uint32 *
find_link(Oid dboid, Oid relid)
{
	uint32	   *link = bucket_of(dboid, relid);

	while (*link != 0)
	{
		IvmStatsView *view = view_entry(*link);

		if (view->relid == relid && view->dboid == dboid)
			break;
		link = &view->next;
	}
	return link;
}

static IvmStatsView *
find_view(Oid dboid, Oid relid)
{
	uint32		number = *find_link(dboid, relid);

	return number ? view_entry(number) : NULL;
}

/* Makes an entry; NULL if there is no room.  Needs "lock" exclusively. */
static IvmStatsView *
make_view(Oid dboid, Oid relid)
{
	uint32		number = take_view();
	uint32	   *bucket;
	IvmStatsView *view;

	if (number == 0)
		return NULL;
	view = view_entry(number);
	memset(view, 0, sizeof(IvmStatsView));
	SpinLockInit(&view->mutex);
	view->dboid = dboid;
	view->relid = relid;
	view->worker_number = IVM_KEEPER_UNKNOWN;

	bucket = bucket_of(dboid, relid);
	view->next = *bucket;
	*bucket = number;
	return view;
}

/* Removes the entry that a link leads to.  Needs "lock" exclusively. */
static void
remove_view(uint32 *link)
{
	uint32		number = *link;
	IvmStatsView *view = view_entry(number);

	*link = view->next;
	free_operators(view->operators);
	view->next = ivm_stats->view_pool.free;
	ivm_stats->view_pool.free = number;
	ivm_stats->view_pool.taken--;
}

/*
 * The view's entry, made if need be, with "lock" and its spinlock held; NULL
 * and nothing held if there is none to be had.
 */
static IvmStatsView *
acquire_view(Oid dboid, Oid relid)
{
	IvmStatsView *view;

	if (!ivm_stats_lock(LW_SHARED))
		return NULL;
	view = find_view(dboid, relid);
	if (view == NULL)
	{
		LWLockRelease(&ivm_stats->lock);
		if (!ivm_stats_lock(LW_EXCLUSIVE))
			return NULL;
		view = find_view(dboid, relid);
		if (view == NULL)
			view = make_view(dboid, relid);
		if (view == NULL)
		{
			LWLockRelease(&ivm_stats->lock);
			return NULL;
		}
	}
	SpinLockAcquire(&view->mutex);
	return view;
}

static void
release_view(IvmStatsView *view)
{
	SpinLockRelease(&view->mutex);
	LWLockRelease(&ivm_stats->lock);
}

/* ---- reports ---- */

/*
 * Says in what state a view is, in the words of pg_stat_ivm.
 */
void
ivm_stats_view_state(Oid dboid, Oid relid, const char *state)
{
	TimestampTz now = GetCurrentTimestamp();
	IvmStatsView *view = acquire_view(dboid, relid);

	if (view == NULL)
		return;
	if (strcmp(view->state, state) != 0)
	{
		strlcpy(view->state, state, sizeof(view->state));
		view->state_since = now;
	}
	release_view(view);
}

char *
ivm_stats_view_said_state(Oid dboid, Oid relid)
{
	IvmStatsView *view = acquire_view(dboid, relid);
	char		state[sizeof(view->state)];

	if (view == NULL)
		return NULL;
	strlcpy(state, view->state, sizeof(state));
	release_view(view);
	return state[0] != '\0' ? pstrdup(state) : NULL;
}

/*
 * Adds a batch that was applied to a view.
 */
void
ivm_stats_view_batch(Oid dboid, Oid relid, const IvmBatchReport *report)
{
	TimestampTz now = GetCurrentTimestamp();
	IvmStatsView *view = acquire_view(dboid, relid);

	if (view == NULL)
		return;
	view->batches++;
	view->changes_received += report->changes_received;
	view->inserted += report->inserted;
	view->updated += report->updated;
	view->deleted += report->deleted;
	view->recomputes += report->recomputes;
	view->apply_time += report->apply_time;
	view->max_apply_time = Max(view->max_apply_time, report->apply_time);
	view->last_apply_time = now;
	if (report->applied_lsn != InvalidXLogRecPtr)
		view->applied_lsn = report->applied_lsn;
	release_view(view);
}

/*
 * Counts a rebuild and keeps why.
 */
void
ivm_stats_view_rebuild(Oid dboid, Oid relid, const char *reason)
{
	char		text[IVM_STATS_TEXT_LENGTH];
	IvmStatsView *view;

	ivm_copy_text(text, reason, sizeof(text));
	view = acquire_view(dboid, relid);
	if (view == NULL)
		return;
	view->rebuilds++;
	memcpy(view->last_rebuild_reason, text, sizeof(text));
	release_view(view);
}

/*
 * Counts an error and keeps its message.
 */
void
ivm_stats_view_error(Oid dboid, Oid relid, const char *message)
{
	TimestampTz now = GetCurrentTimestamp();
	char		text[IVM_STATS_TEXT_LENGTH];
	IvmStatsView *view;

	ivm_copy_text(text, message, sizeof(text));
	view = acquire_view(dboid, relid);
	if (view == NULL)
		return;
	view->error_count++;
	memcpy(view->last_error, text, sizeof(text));
	view->last_error_time = now;
	release_view(view);
}

/*
 * A worker has the view now.
 */
void
ivm_stats_view_adopt(Oid dboid, Oid relid, int worker_number, TimestampTz as_of)
{
	IvmStatsView *view = acquire_view(dboid, relid);

	if (view == NULL)
		return;
	if (view->stale_since != 0)
		view->behind_since = Max(view->stale_since, as_of);
	else if (view->worker_number != worker_number)
		view->behind_since = as_of;
	view->worker_number = worker_number;
	view->stale_since = 0;
	release_view(view);
}

void
ivm_stats_view_behind(Oid dboid, Oid relid, TimestampTz since)
{
	IvmStatsView *view = acquire_view(dboid, relid);

	if (view == NULL)
		return;
	view->behind_since = since;
	release_view(view);
}

int
ivm_stats_view_keeper(Oid dboid, Oid relid)
{
	IvmStatsView *view;
	int			result = IVM_KEEPER_UNKNOWN;

	if (!ivm_stats_lock(LW_SHARED))
		return result;
	view = find_view(dboid, relid);
	if (view != NULL)
	{
		SpinLockAcquire(&view->mutex);
		result = view->worker_number;
		SpinLockRelease(&view->mutex);
	}
	LWLockRelease(&ivm_stats->lock);
	return result;
}

/*
 * That worker does not keep the view any more; another one may have said before that it does.  The
 * view may be gone, and its entry too: none is made.
 */
void
ivm_stats_view_let_go(Oid dboid, Oid relid, int worker_number, TimestampTz since)
{
	IvmStatsView *view;

	if (!ivm_stats_lock(LW_SHARED))
		return;
	view = find_view(dboid, relid);
	if (view != NULL)
	{
		SpinLockAcquire(&view->mutex);
		if (view->worker_number == worker_number)
		{
			view->worker_number = IVM_KEEPER_NONE;
			if (view->stale_since == 0)
				view->stale_since = since;
		}
		SpinLockRelease(&view->mutex);
	}
	LWLockRelease(&ivm_stats->lock);
}

void
ivm_stats_view_leave(Oid dboid, Oid relid, int worker_number, TimestampTz since)
{
	IvmStatsView *view = acquire_view(dboid, relid);

	if (view == NULL)
		return;
	if (view->worker_number == worker_number && view->stale_since == 0)
		view->stale_since = since;
	release_view(view);
}

void
ivm_stats_view_next_try(Oid dboid, Oid relid, TimestampTz time)
{
	IvmStatsView *view = acquire_view(dboid, relid);

	if (view == NULL)
		return;
	view->next_try = time;
	release_view(view);
}

bool
ivm_stats_view_status(Oid dboid, Oid relid, IvmViewStatus *status)
{
	IvmStatsView *view = NULL;

	memset(status, 0, sizeof(IvmViewStatus));
	status->worker_number = IVM_KEEPER_UNKNOWN;
	if (ivm_stats == NULL)
		return false;
	LWLockAcquire(&ivm_stats->lock, LW_SHARED);
	view = find_view(dboid, relid);
	if (view != NULL)
	{
		SpinLockAcquire(&view->mutex);
		strlcpy(status->state, view->state, sizeof(status->state));
		status->state_since = view->state_since;
		status->worker_number = view->worker_number;
		status->behind_since = view->behind_since;
		status->stale_since = view->stale_since;
		status->next_try = view->next_try;
		status->applied_lsn = view->applied_lsn;
		SpinLockRelease(&view->mutex);
	}
	LWLockRelease(&ivm_stats->lock);
	return view != NULL;
}

/*
 * Forgets a view.
 */
void
ivm_stats_view_drop(Oid dboid, Oid relid)
{
	uint32	   *link;

	if (!ivm_stats_lock(LW_EXCLUSIVE))
		return;
	link = find_link(dboid, relid);
	if (*link != 0)
		remove_view(link);
	LWLockRelease(&ivm_stats->lock);
}

/*
 * Forgets all views of a database.
 */
void
ivm_stats_database_drop(Oid dboid)
{
	ivm_stats_view_retain(dboid, NIL);
}

/* Binary search; "relids" are in their order. */
static bool
is_among(List *relids, Oid relid)
{
	int			low = 0;
	int			high = list_length(relids);

	while (low < high)
	{
		int			middle = (low + high) / 2;
		Oid			candidate = list_nth_oid(relids, middle);

		if (candidate == relid)
			return true;
		if (candidate < relid)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}

void
ivm_stats_view_retain(Oid dboid, List *relids)
{
	if (!ivm_stats_lock(LW_EXCLUSIVE))
		return;
	for (int i = 0; i < IVM_STATS_BUCKETS; i++)
	{
		uint32	   *link = &ivm_stats->buckets[i];

		while (*link != 0)
		{
			if (view_entry(*link)->dboid == dboid && !is_among(relids, view_entry(*link)->relid))
				remove_view(link);
			else
				link = &view_entry(*link)->next;
		}
	}
	LWLockRelease(&ivm_stats->lock);
	ivm_stats_chunks_shrink();
}

/* Those of the list that have no entry. */
static int
count_missing(List *relids)
{
	int			result = 0;
	ListCell   *cell;

	if (!ivm_stats_lock(LW_SHARED))
		return 0;
	foreach(cell, relids)
	{
		if (find_view(MyDatabaseId, lfirst_oid(cell)) == NULL)
			result++;
	}
	LWLockRelease(&ivm_stats->lock);
	return result;
}

/*
 * While views are made, one after the other, nothing has to be looked for: what this process has
 * told of a view it has told before it heard that the view is gone.
 */
void
ivm_stats_view_known(List *relids)
{
	static List *known = NIL;	/* in TopMemoryContext */
	static bool is_known = false;
	bool		gone = !is_known;
	MemoryContext old;
	ListCell   *cell;

	if (is_known && equal(known, relids))
		return;
	foreach(cell, known)
	{
		if (!is_among(relids, lfirst_oid(cell)))
			gone = true;
	}
	if (gone)
		ivm_stats_view_retain(MyDatabaseId, relids);
	ivm_stats_chunks_grow(count_missing(relids));
	old = MemoryContextSwitchTo(TopMemoryContext);
	list_free(known);
	known = NIL;
	is_known = false;
	known = list_copy(relids);
	is_known = true;
	MemoryContextSwitchTo(old);
}

static void
add_report(IvmOperatorReport *sum, const IvmOperatorReport *report)
{
	IvmOperatorReport old = *sum;

	*sum = *report;
	if (old.node_id != report->node_id || old.parent_id != report->parent_id ||
		strcmp(old.name, report->name) != 0)
		return;
	sum->rows_in += old.rows_in;
	sum->rows_out += old.rows_out;
	sum->total_time += old.total_time;
}

/*
 * If the rows do not all fit the view has none: half a tree would mislead.
 * Where another operator stands at a place than before, it begins at zero.
 */
void
ivm_stats_operators(Oid dboid, Oid relid, int count, const IvmOperatorReport *reports)
{
	IvmStatsView *view;
	uint32	   *link;
	int			i;

	if (!ivm_stats_lock(LW_EXCLUSIVE))
		return;
	view = find_view(dboid, relid);
	if (view == NULL)
		view = make_view(dboid, relid);
	if (view != NULL)
	{
		link = &view->operators;
		for (i = 0; i < count; i++)
		{
			if (*link == 0)
			{
				uint32		number = take_operator();

				if (number == 0)
					break;
				operator_row(number)->next = 0;
				memset(&operator_row(number)->report, 0, sizeof(IvmOperatorReport));
				*link = number;
			}
			add_report(&operator_row(*link)->report, &reports[i]);
			link = &operator_row(*link)->next;
		}
		if (i < count)
			link = &view->operators;
		free_operators(*link);
		*link = 0;
	}
	LWLockRelease(&ivm_stats->lock);
}
