/*-------------------------------------------------------------------------
 *
 * consumer.c
 *	  Compiled views and shared arrangements of an apply worker.
 *
 * A consumer is compiled when a worker takes it over, and again when
 * something that it was compiled from is invalidated (compile/compiled.c).  Its
 * plan's text and fingerprint are compared with those that are stored with its
 * contents: only if they are equal can the contents be carried on by deltas.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/relcache.h"

#include "arrange/state_table.h"
#include "compile/compile.h"
#include "maintain/consumer.h"
#include "maintain/members.h"
#include "maintain/rest.h"

static void free_plan(IvmConsumer *consumer);

/*
 * A view on views is maintained from the tables, since their queries are put in
 * the place of their names.  It stays with them all the same: it is never ahead of
 * what its query names, or it would contradict what that says to whoever runs it.
 */

List *
ivm_plan_upstream(IvmPlan *plan)
{
	List	   *result = NIL;
	ListCell   *cell;

	foreach(cell, plan->statement->relationOids)
		if (lfirst_oid(cell) != plan->relid && ivm_relation_is_incremental(lfirst_oid(cell)))
		result = list_append_unique_oid(result, lfirst_oid(cell));
	return result;
}

char *
ivm_upstream_problem(List *upstream, List *rows)
{
	IvmViewRow *worst = NULL;
	ListCell   *cell;

	/* of several the oldest, which the others read rather than the other way round */
	foreach(cell, rows)
	{
		IvmViewRow *row = lfirst(cell);

		if (!list_member_oid(upstream, row->relid) || (worst != NULL && worst->relid < row->relid))
			continue;
		if (row->state == IVM_STATE_ERROR || (row->state == IVM_STATE_UNPOPULATED && row->kind != 'a'))
			worst = row;
	}
	if (worst == NULL)
		return NULL;
	if (worst->kind == 'a')
		return pstrdup(worst->reason);
	return psprintf(worst->state == IVM_STATE_ERROR ? "incremental view \"%s\", which it reads, is in state error" :
					"incremental view \"%s\", which it reads, has not been populated",
					get_rel_name(worst->relid));
}

void
ivm_stats_retain_rows(List *rows)
{
	List	   *relids = NIL;
	ListCell   *cell;

	foreach(cell, rows)
		relids = lappend_oid(relids, ((IvmViewRow *) lfirst(cell))->relid);
	ivm_stats_view_known(relids);
	list_free(relids);
}

/*
 * Loading
 */

/* Canonical texts of the shared arrangements that exist: the compiler stays with them. */
static List *
owned_state(IvmViewRow *row, List *rows)
{
	List	   *result = NIL;
	ListCell   *cell;

	foreach(cell, rows)
	{
		IvmViewRow *other = lfirst(cell);

		if (other->kind == 'a' && list_member_oid(row->arrangements, other->relid))
			result = lappend(result, other->definition);
	}
	return result;
}

/*
 * The shared arrangements that a view's plan reads; as indexes come and go these
 * are not always those that it was built with.  False if one of them is not there.
 */
static bool
shared_arrangements(IvmPlan *plan, IvmViewRow *row, List *rows, List **relids)
{
	ListCell   *cell;

	*relids = NIL;
	foreach(cell, plan->arrangements)
	{
		IvmArrangement *arrangement = lfirst(cell);
		Oid			relid = InvalidOid;
		ListCell   *inner;

		if (arrangement->kind != IVM_ARRANGE_STATE || !arrangement->shared)
			continue;
		foreach(inner, rows)
		{
			IvmViewRow *other = lfirst(inner);

			if (list_member_oid(row->arrangements, other->relid) &&
				strcmp(other->definition, arrangement->text) == 0)
				relid = other->relid;
		}
		if (!OidIsValid(relid))
			return false;
		*relids = list_append_unique_oid(*relids, relid);
	}
	return true;
}

/* What belongs to the consumer alone; no matter if something is missing. */
static List *
own_relations(IvmPlan *plan)
{
	List	   *heaps = list_make1_oid(plan->relid);
	List	   *result = NIL;
	ListCell   *cell;

	foreach(cell, ivm_dataflow_state_names(plan, plan->relid))
		heaps = lappend_oid(heaps, ivm_state_table_lookup(lfirst(cell)));
	foreach(cell, heaps)
	{
		Oid			relid = lfirst_oid(cell);
		Relation	relation = NULL;

		if (OidIsValid(relid) && ConditionalLockRelationOid(relid, AccessShareLock))
			relation = try_relation_open(relid, NoLock);
		if (relation == NULL)
			continue;
		result = lappend_oid(result, relid);
		if (OidIsValid(relation->rd_rel->reltoastrelid))
			result = lappend_oid(result, relation->rd_rel->reltoastrelid);
		result = list_concat(result, RelationGetIndexList(relation));
		relation_close(relation, NoLock);
	}
	return result;
}

/*
 * Compiles the plan (and dataflow) of a row into the consumer, in a new plan
 * context.  Returns false, with the reason, if the contents cannot be carried on,
 * or without one if it is a shared arrangement that no plan reads any more.
 */
static bool
compile(IvmConsumer *consumer, IvmViewRow *row, List *rows, const char **reason)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "ivm plan", ALLOCSET_START_SMALL_SIZES);
	MemoryContext old = CurrentMemoryContext;	/* the transaction's: garbage
												 * goes with it */
	IvmCompiled *compiled = consumer->compiled;
	IvmPlan    *plan = NULL;
	IvmArrangement *arrangement = NULL;
	IvmDataflow *dataflow;
	IvmIdentity saved;
	List	   *upstream = NIL;
	List	   *arrangements = NIL;
	List	   *own;
	bool		complete = true;
	bool		same_members;

	ivm_compiled_begin(compiled);
	if (row->kind == 'v')
	{
		compiled->owner = ivm_relation_owner(row->relid);
		plan = ivm_plan_for_view(row->relid, row->settings, owned_state(row, rows), row->text, context);
		upstream = ivm_plan_upstream(plan);
		complete = shared_arrangements(plan, row, rows, &arrangements);
	}
	else
	{
		ListCell   *cell;

		foreach(cell, rows)
		{
			IvmViewRow *view = lfirst(cell);
			IvmPlan    *view_plan;
			ListCell   *inner;

			if (!list_member_oid(view->arrangements, row->relid))
				continue;
			ivm_metadata_complete(view);
			view_plan = ivm_plan_for_view(view->relid, view->settings, owned_state(view, rows), view->text, context);
			foreach(inner, view_plan->arrangements)
			{
				IvmArrangement *candidate = lfirst(inner);

				if (candidate->shared && strcmp(candidate->text, row->definition) == 0)
					arrangement = candidate;
			}
			if (arrangement != NULL)
			{
				plan = ivm_compile_arrangement(view_plan, arrangement, row->relid, context);
				compiled->owner = ivm_relation_owner(view->relid);
				break;
			}
		}
	}

	*reason = NULL;
	if (plan == NULL)
	{
		MemoryContextDelete(context);
		return false;
	}
	same_members = row->fingerprint != NULL && strcmp(row->fingerprint, plan->fingerprint) == 0;
	if (row->text == NULL || strcmp(row->text, plan->text) != 0)
		*reason = row->text == NULL || ivm_text_has_format(row->text) ? "the plan of its query changed" :
			"its state is in the format of another version of the extension";
	else if (!same_members)
		*reason = ivm_members_compare(consumer, row, plan);
	if (*reason == NULL && !complete)
		*reason = "a table that it looks up has lost an index, or has outgrown being read whole";
	if (*reason != NULL)
	{
		MemoryContextDelete(context);
		return false;
	}

	/*
	 * initial values of aggregates are evaluated here, rights to call
	 * functions checked
	 */
	ivm_identity_enter(&saved, compiled->owner, compiled->settings);
	dataflow = ivm_dataflow_create(plan, context);
	ivm_identity_leave(&saved);
	if (arrangement == NULL)
		ivm_dataflow_measure(dataflow);
	own = own_relations(plan);

	MemoryContextSwitchTo(consumer->context);
	upstream = list_copy(upstream);
	arrangements = list_copy(arrangements);
	own = list_copy(own);
	MemoryContextSwitchTo(old);

	ivm_compiled_end(compiled, plan);

	/* nothing can fail from here on */
	if (same_members)
		ivm_members_forget(consumer);
	if (consumer->dataflow != NULL)
		ivm_dataflow_inherit_counters(dataflow, consumer->dataflow);
	free_plan(consumer);
	list_free(consumer->upstream);
	list_free(consumer->arrangements);
	list_free(consumer->own);
	consumer->own = own;
	ivm_compiled_set_plan(compiled, plan, context);
	consumer->upstream = upstream;
	consumer->arrangements = arrangements;
	consumer->arrangement = arrangement;
	consumer->dataflow = dataflow;
	consumer->operators_changed = true;
	ivm_rest_add(consumer);
	return true;
}

/* Equal settings are kept once, as long as some consumer has them. */
typedef struct KnownSettings
{
	MemoryContext context;		/* of this */
	List	   *settings;
	int			consumers;
} KnownSettings;

static List *known_settings = NIL;

static void
release_settings(void *argument)
{
	KnownSettings *known = argument;

	if (--known->consumers > 0)
		return;
	known_settings = list_delete_ptr(known_settings, known);
	MemoryContextDelete(known->context);
}

static KnownSettings *
find_settings(List *settings)
{
	ListCell   *cell;

	foreach(cell, known_settings)
	{
		KnownSettings *known = lfirst(cell);

		if (equal(known->settings, settings))
			return known;
	}
	return NULL;
}

/* These settings, for whoever lives as long as the context "holder". */
static List *
share_settings(List *settings, MemoryContext holder)
{
	MemoryContextCallback *release = MemoryContextAlloc(holder, sizeof(MemoryContextCallback));
	KnownSettings *known = find_settings(settings);

	if (known == NULL)
	{
		MemoryContext context = AllocSetContextCreate(TopMemoryContext, "ivm settings", ALLOCSET_SMALL_SIZES);
		MemoryContext old = MemoryContextSwitchTo(context);

		known = palloc0(sizeof(KnownSettings));
		known->context = context;
		known->settings = copyObject(settings);
		MemoryContextSwitchTo(TopMemoryContext);
		known_settings = lappend(known_settings, known);
		MemoryContextSwitchTo(old);
	}
	known->consumers++;
	release->func = release_settings;
	release->arg = known;
	MemoryContextRegisterResetCallback(holder, release);
	return known->settings;
}

IvmConsumer *
ivm_consumer_load(IvmViewRow *row, List *rows, const char **reason)
{
	/* below one of their own: where they are many, others can still be told from them */
	static MemoryContext parent = NULL;
	MemoryContext context;
	IvmConsumer *consumer;

	if (parent == NULL)
		parent = AllocSetContextCreate(TopMemoryContext, "ivm all consumers", ALLOCSET_SMALL_SIZES);
	context = AllocSetContextCreate(parent, "ivm consumer", ALLOCSET_SMALL_SIZES);
	consumer = MemoryContextAllocZero(context, sizeof(IvmConsumer));
	consumer->context = context;
	consumer->relid = row->relid;
	consumer->is_arrangement = row->kind == 'a';
	consumer->compiled = ivm_compiled_create(row->relid, share_settings(row->settings, context), context);

	PG_TRY();
	{
		if (!compile(consumer, row, rows, reason))
		{
			MemoryContextDelete(context);
			consumer = NULL;
		}
	}
	PG_CATCH();
	{
		MemoryContextDelete(context);
		PG_RE_THROW();
	}
	PG_END_TRY();
	return consumer;
}

void
ivm_consumer_free(IvmConsumer *consumer)
{
	ivm_consumer_rest(consumer);
	ivm_rest_gone();
	MemoryContextDelete(consumer->context);
}

void
ivm_consumer_read_applied(IvmConsumer *consumer, IvmAppliedSnapshot *applied)
{
	if (consumer->applied != NULL)
	{
		if (consumer->dataflow != NULL && !ivm_applied_equal(consumer->applied, applied))
			ivm_dataflow_forget(consumer->dataflow);
		pfree(consumer->applied);
	}
	consumer->applied = applied;
}

static void
free_plan(IvmConsumer *consumer)
{
	if (consumer->compiled->plan == NULL)
		return;
	ivm_rest_remove(consumer);
	ivm_dataflow_destroy(consumer->dataflow);
	ivm_compiled_drop_plan(consumer->compiled);
	consumer->dataflow = NULL;
	consumer->arrangement = NULL;
	consumer->operators_changed = false;
}

void
ivm_consumer_rest(IvmConsumer *consumer)
{
	ListCell   *cell;

	free_plan(consumer);

	/* of the view itself the relation cache keeps the query as well */
	foreach(cell, consumer->own)
		RelationCacheInvalidateEntry(lfirst_oid(cell));
}

bool
ivm_arrangement_end(Oid relid)
{
	ListCell   *cell;

	foreach(cell, ivm_metadata_list())
	{
		IvmViewRow *row = lfirst(cell);

		if (!list_member_oid(row->arrangements, relid))
			continue;
		if (!ivm_claim(row->relid, false))
			return false;
		row = ivm_metadata_get(row->relid);
		if (row == NULL)
			continue;
		row->arrangements = list_delete_oid(row->arrangements, relid);
		ivm_metadata_put(row);
	}
	if (!ConditionalLockRelationOid(relid, AccessExclusiveLock))
		return false;
	ivm_metadata_drop_unused(list_make1_oid(relid));
	return true;
}

bool
ivm_consumer_refresh(IvmConsumer *consumer, IvmViewRow *row, List *rows, const char **reason)
{
	return compile(consumer, row, rows, reason);
}

uint64
ivm_plan_register(IvmDatabase *database, IvmPlan *plan)
{
	uint64		generation = 0;
	ListCell   *cell;

	foreach(cell, plan->nodes)
	{
		IvmPlanNode *node = lfirst(cell);
		ListCell   *inner;

		/* a change in a column that is not decoded is none */
		foreach(inner, node->relids)
			generation = ivm_registry_add(database, lfirst_oid(inner), node->attributes);
	}
	return generation;
}
