/*-------------------------------------------------------------------------
 *
 * rest.c
 *	  Which consumers of an apply worker keep their plans.
 *
 * A consumer's plan and dataflow take some ten kB, a hundred for a large join,
 * and most of a thousand views have nothing to do most of the time.  So
 * they are freed where nothing has happened to the consumer for a while, and
 * compiled again when something does: a millisecond or two for the first
 * batch after that.  What is left (consumer.h) tells which changes concern it.
 *
 * KEPT_BYTES are kept in any case, so that a worker of some thirty views never
 * compiles one twice.  What is beyond that rests after IDLE_MS.  Those in use all the time
 * may take a quarter of the memory budget, at least LIMIT_BYTES; beyond that
 * the least recently used rest at once.  It costs them time, but a batch never
 * fails for it.
 *
 * With the plan go the relation cache's entries of what belongs to the view alone.
 * What else the server's caches have of it (its columns, their types) stays there until the view is dropped,
 * and what they once took from the system does not go back to it even then.  So, while views
 * are compiled or dropped, they are emptied before they take much.  They fill again in some milliseconds; a compilation
 * costs one or two, and there are MANY_CHANGES between.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/catcache.h"
#include "utils/memutils.h"
#include "utils/relcache.h"
#include "utils/timestamp.h"

#include "base/settings.h"
#include "maintain/rest.h"

#define KEPT_BYTES		((Size) 2 * 1024 * 1024)
#define LIMIT_BYTES		((Size) 16 * 1024 * 1024)
#define IDLE_MS			5000

#define MANY_CHANGES	32
#define CACHE_BYTES		((Size) 640 * 1024)

static dlist_head compiled = DLIST_STATIC_INIT(compiled);	/* least recently used
															 * first */
static Size compiled_bytes = 0;
static int	changes = 0;		/* plans made, and consumers that went, since
								 * the server's caches were emptied */

static void
append(IvmConsumer *consumer)
{
	consumer->compiled_bytes = MemoryContextMemAllocated(consumer->compiled->plan_context, true);
	consumer->last_use = GetCurrentTimestamp();
	compiled_bytes += consumer->compiled_bytes;
	dlist_push_tail(&compiled, &consumer->rest);
}

static void
take_off(IvmConsumer *consumer)
{
	dlist_delete(&consumer->rest);
	compiled_bytes -= consumer->compiled_bytes;
}

void
ivm_rest_add(IvmConsumer *consumer)
{
	changes++;
	append(consumer);
}

void
ivm_rest_use(IvmConsumer *consumer)
{
	take_off(consumer);
	append(consumer);
}

void
ivm_rest_remove(IvmConsumer *consumer)
{
	take_off(consumer);
}

static Size
limit(void)
{
	return Max(LIMIT_BYTES, (Size) ivm_memory_budget * 1024 / 4);
}

bool
ivm_rest_some(long *sleep_ms)
{
	bool		any = false;
	TimestampTz now;
	dlist_mutable_iter iter;

	if (compiled_bytes <= KEPT_BYTES)
		return false;
	now = GetCurrentTimestamp();
	dlist_foreach_modify(iter, &compiled)
	{
		IvmConsumer *consumer = dlist_container(IvmConsumer, rest, iter.cur);
		long		wait = TimestampDifferenceMilliseconds(now, TimestampTzPlusMilliseconds(consumer->last_use, IDLE_MS));

		if (compiled_bytes <= KEPT_BYTES)
			break;
		if (wait > 0 && compiled_bytes <= limit())
		{
			*sleep_ms = Min(*sleep_ms, wait);
			break;
		}
		/* about to be used, or to be reported on */
		if (consumer->pending != 0 || consumer->verify != NIL || consumer->operators_changed ||
			consumer->members_differ)
			continue;
		ivm_consumer_rest(consumer);
		any = true;
	}
	return any;
}

void
ivm_rest_gone(void)
{
	changes++;
}

void
ivm_rest_caches(void)
{
	MemoryContextCounters counters = {0};

	if (changes < MANY_CHANGES)
		return;
	CacheMemoryContext->methods->stats(CacheMemoryContext, NULL, NULL, &counters, false);
	if (counters.totalspace - counters.freespace <= CACHE_BYTES)
		return;
	/* nothing has become invalid, so nobody is told */
	ResetCatalogCaches();
	RelationCacheInvalidate(false);
	changes = 0;
}
