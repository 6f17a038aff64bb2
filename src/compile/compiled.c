/*-------------------------------------------------------------------------
 *
 * compiled.c
 *	  A plan together with what it was compiled from, and whether that is
 *	  still so.
 *
 * A process that keeps a plan has to learn of every change of what the planner,
 * or the fingerprint, looked at.  The server tells by invalidations, at moments
 * of its own: also in the middle of compiling, whenever a lock is taken.  What
 * a plan depends on is known when it is finished, so an invalidation that comes
 * between the planner's look at an object and the end would concern nobody, and the
 * view would be maintained by a wrong plan from then on.
 *
 * So an object is on the list of those that invalidations reach before the
 * first look at anything.  While it is being compiled they are kept; when what it
 * depends on is known they are judged by that.  Whatever a compilation has looked
 * at is among its dependencies, so one that changed after the look is found;
 * and nothing else counts, so that a database in which tables are made all the time
 * does not keep its views from ever being ready.
 *
 * The plan's text and the fingerprint say whether the contents can be carried on
 * by another plan; that is for those to compare who know what is stored.  Here it
 * is only decided that somebody has to look:
 *
 *	- relations by oid: also of views, of composite types, and where policies,
 *	  rules, columns, indexes or partitions changed;
 *	- functions, types, roles and other entries of system caches by their hash
 *	  values, as the planner or the fingerprint names them; of caches in which
 *	  little changes, all.  A function that is not in the plan may be called by what
 *	  is: it does not change the contents, but what the executor knows of it, so the
 *	  plan is compiled again before it is used.
 *
 * Identity: whatever compiles or evaluates a view's expressions is its owner,
 * restricted, under the settings that are stored with it.  There is no other way
 * to become that than the one here.
 *
 * Memory: an object and all it has is in a context of its own.  The list is the
 * process's.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "common/hashfn.h"
#include "compile/compile.h"
#include "compile/compiled.h"
#include "compile/compiler.h"
#include "base/debug_point.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#define RELATION		(-1)

/* More than these in one compilation count as a change of everything. */
#define MAX_ARRIVED		256

static dlist_head all_compiled = DLIST_STATIC_INIT(all_compiled);
static bool callbacks_registered = false;

/* ---- invalidations ---- */

static int
compare_items(const void *a, const void *b)
{
	const IvmInvalidated *item_a = a;
	const IvmInvalidated *item_b = b;

	if (item_a->cache != item_b->cache)
		return item_a->cache < item_b->cache ? -1 : 1;
	if (item_a->value != item_b->value)
		return item_a->value < item_b->value ? -1 : 1;
	return 0;
}

static bool
has_item(IvmCompiled *compiled, IvmInvalidated what)
{
	return compiled->nitems > 0 &&
		bsearch(&what, compiled->items, compiled->nitems, sizeof(IvmInvalidated), compare_items) != NULL;
}

static bool
depends_on(IvmCompiled *compiled, IvmInvalidated what)
{
	IvmInvalidated any = {what.cache, 0};

	if (what.cache == RELATION)
		return what.value == compiled->relid || list_member_oid(compiled->depends, what.value);
	return has_item(compiled, what) || has_item(compiled, any);
}

static bool
is_about_roles(IvmInvalidated what)
{
	return what.cache == AUTHOID || what.cache == AUTHMEMROLEMEM || what.cache == DATABASEOID;
}

static void
judge(IvmCompiled *compiled, IvmInvalidated what)
{
	bool		concerned = what.value == 0 || depends_on(compiled, what);
	if (concerned && is_about_roles(what))
	{
		if (!compiled->stale)
			compiled->only_roles = true;
		compiled->role_generations++;
	}
	else if (concerned)
		compiled->only_roles = false;
	if (concerned)
		compiled->stale = true;
	if (concerned || what.cache == PROCOID)
		compiled->generation++;
}

static void
tell_all(int cache, uint32 value)
{
	IvmInvalidated what = {cache, value};
	dlist_iter	iter;

	dlist_foreach(iter, &all_compiled)
	{
		IvmCompiled *compiled = dlist_container(IvmCompiled, node, iter.cur);

		if (compiled->arrived != NULL)
		{
			if (compiled->narrived < MAX_ARRIVED)
				compiled->arrived[compiled->narrived] = what;
			compiled->narrived++;
		}
		judge(compiled, what);
	}
}

static void
relation_invalidated(Datum argument, Oid relid)
{
	tell_all(RELATION, relid);
}

static void
cache_invalidated(Datum argument, int cache, uint32 hash_value)
{
	tell_all(cache, hash_value);
}

static void
register_callbacks(void)
{
	static const int caches[] = {PROCOID, TYPEOID, AGGFNOID, ENUMOID, CONSTROID, OPEROID, AMOPOPID, CLAOID,
		CASTSOURCETARGET, AUTHOID, AUTHMEMROLEMEM, DATABASEOID, TSCONFIGOID, TSCONFIGMAP, TSDICTOID
	};

	if (callbacks_registered)
		return;
	callbacks_registered = true;
	CacheRegisterRelcacheCallback(relation_invalidated, (Datum) 0);
	for (int i = 0; i < lengthof(caches); i++)
		CacheRegisterSyscacheCallback(caches[i], cache_invalidated, (Datum) 0);
}

/* ---- the object ---- */

static void
leave_list(void *argument)
{
	dlist_delete(&((IvmCompiled *) argument)->node);
}

IvmCompiled *
ivm_compiled_create(Oid relid, List *settings, MemoryContext parent)
{
	MemoryContext context = AllocSetContextCreate(parent, "ivm compiled", ALLOCSET_SMALL_SIZES);
	IvmCompiled *compiled = MemoryContextAllocZero(context, sizeof(IvmCompiled));

	register_callbacks();
	compiled->context = context;
	compiled->relid = relid;
	compiled->settings = settings;
	compiled->generation = 1;
	compiled->leave.func = leave_list;
	compiled->leave.arg = compiled;
	dlist_push_tail(&all_compiled, &compiled->node);
	MemoryContextRegisterResetCallback(context, &compiled->leave);
	return compiled;
}

void
ivm_compiled_free(IvmCompiled *compiled)
{
	MemoryContextDelete(compiled->context);
}

bool
ivm_compiled_is_current(IvmCompiled *compiled)
{
	return compiled->plan_generation == compiled->generation;
}

void
ivm_compiled_set_stale(IvmCompiled *compiled)
{
	compiled->stale = true;
	compiled->only_roles = false;
	compiled->generation++;
}

bool
ivm_compiled_settle_roles(IvmCompiled *compiled)
{
	uint64		generations;

	if (!compiled->stale || !compiled->only_roles)
		return false;
	do
	{
		/* more may be heard of while we look */
		generations = compiled->role_generations;
		if (ivm_roles_hash(compiled->roles) != compiled->roles_hash)
			compiled->only_roles = false;
	} while (compiled->only_roles && generations != compiled->role_generations);
	if (!compiled->only_roles)
		return false;

	/* of a function that was replaced, if there was one, it still has to take note */
	compiled->plan_generation += generations;
	compiled->role_generations = 0;
	compiled->only_roles = false;
	compiled->stale = false;
	return true;
}

void
ivm_compiled_begin(IvmCompiled *compiled)
{
	if (compiled->arrived == NULL)
		compiled->arrived = MemoryContextAlloc(compiled->context, MAX_ARRIVED * sizeof(IvmInvalidated));
	compiled->narrived = 0;
}

void
ivm_compiled_end(IvmCompiled *compiled, IvmPlan *plan)
{
	MemoryContext old = MemoryContextSwitchTo(compiled->context);
	List	   *relids = list_copy(plan->relids);
	List	   *depends = list_union_oid(plan->relids, plan->statement->relationOids);
	IvmInvalidated *items = palloc(Max(list_length(plan->statement->invalItems), 1) * sizeof(IvmInvalidated));
	IvmInvalidated *arrived = compiled->arrived;
	List	   *roles = ivm_statement_roles(plan->statement, compiled->owner);
	uint64		roles_hash = ivm_roles_hash(roles);
	int			narrived;
	int			nitems = 0;
	ListCell   *lc;

	MemoryContextSwitchTo(old);
	Assert(arrived != NULL);
	narrived = compiled->narrived;
	foreach(lc, plan->statement->invalItems)
	{
		PlanInvalItem *item = lfirst_node(PlanInvalItem, lc);

		items[nitems].cache = item->cacheId;
		items[nitems++].value = item->hashValue;
	}
	qsort(items, nitems, sizeof(IvmInvalidated), compare_items);

	list_free(compiled->relids);
	list_free(compiled->depends);
	list_free(compiled->roles);
	compiled->roles = roles;
	compiled->roles_hash = roles_hash;
	if (compiled->items != NULL)
		pfree(compiled->items);
	compiled->relids = relids;
	compiled->depends = depends;
	compiled->items = items;
	compiled->nitems = nitems;
	compiled->hash = ivm_plan_hash(plan->text, plan->fingerprint);

	compiled->plan_generation = compiled->generation;
	compiled->stale = compiled->only_roles = false;
	compiled->role_generations = 0;
	compiled->arrived = NULL;
	if (narrived > MAX_ARRIVED)
		ivm_compiled_set_stale(compiled);
	for (int i = 0; i < Min(narrived, MAX_ARRIVED); i++)
		judge(compiled, arrived[i]);
	compiled->only_roles = false;	/* the plan may be of what was before */
	pfree(arrived);
}

void
ivm_compiled_set_plan(IvmCompiled *compiled, IvmPlan *plan, MemoryContext plan_context)
{
	ivm_compiled_drop_plan(compiled);
	MemoryContextSetParent(plan_context, compiled->context);
	compiled->plan_context = plan_context;
	compiled->plan = plan;
}

void
ivm_compiled_drop_plan(IvmCompiled *compiled)
{
	if (compiled->plan_context != NULL)
		MemoryContextDelete(compiled->plan_context);
	compiled->plan_context = NULL;
	compiled->plan = NULL;
}

IvmPlan *
ivm_compiled_make(IvmCompiled *compiled, List *owned_state)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "ivm plan", ALLOCSET_START_SMALL_SIZES);
	IvmPlan    *plan;

	ivm_compiled_begin(compiled);
	compiled->owner = ivm_relation_owner(compiled->relid);
	plan = ivm_plan_for_view(compiled->relid, compiled->settings, owned_state, NULL, context);
	ivm_compiled_end(compiled, plan);
	ivm_compiled_set_plan(compiled, plan, context);
	return plan;
}

uint64
ivm_plan_hash(const char *text, const char *fingerprint)
{
	if (text == NULL || fingerprint == NULL)
		return 0;
	return hash_combine64(DatumGetUInt64(hash_any_extended((const unsigned char *) text, strlen(text), 0)),
						  DatumGetUInt64(hash_any_extended((const unsigned char *) fingerprint, strlen(fingerprint), 0)));
}

/* ---- identity ---- */

Oid
ivm_relation_owner(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid)));
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

void
ivm_identity_enter(IvmIdentity *saved, Oid owner, List *settings)
{
	GetUserIdAndSecContext(&saved->userid, &saved->security_context);
	SetUserIdAndSecContext(owner, saved->security_context | SECURITY_RESTRICTED_OPERATION);
	saved->nest_level = ivm_settings_enter(settings);
}

void
ivm_identity_leave(IvmIdentity *saved)
{
	AtEOXact_GUC(false, saved->nest_level);
	SetUserIdAndSecContext(saved->userid, saved->security_context);
}

IvmPlan *
ivm_plan_for_view(Oid relid, List *settings, List *owned_state, const char *stored, MemoryContext parent)
{
	IvmIdentity saved;
	IvmPlan    *plan;

	ivm_identity_enter(&saved, ivm_relation_owner(relid), settings);
	plan = ivm_compile_view(relid, settings, owned_state, stored, parent);
	ivm_identity_leave(&saved);
	return plan;
}
