/*-------------------------------------------------------------------------
 *
 * view_index.c
 *	  The index by which a view's rows are found, and the hash behind it.
 *
 * A row that leaves the view is given by its contents.  Its place in the heap
 * is found by one of three indexes, the best that the view has:
 *
 * - unique on the columns that the plan knows to be a key.  One candidate for
 *	 each row, and as the key of a changed row stays the same, the update can
 *	 be HOT.  One that the user made does as well as ours.
 * - on a hash of the key columns, ivm.row_hash(ROW(a, b)).  The same, for
 *	 keys that a B-tree cannot take: more than 32 columns, types without a
 *	 B-tree operator class, and values that are too long.  An entry of a
 *	 B-tree has at most a third of a page, and a view must not fail because
 *	 somebody groups by a longer text: it has the unique index until such a
 *	 value comes.  Then the batch fails, and the rebuild that follows puts the
 *	 hash in its place.
 * - on a hash of the whole row, ivm.row_hash(v.*), for views without a key.
 *	 Every change of a row changes its entry, so no update is HOT.
 *
 * The index narrows the search, it never decides: a candidate is the row only
 * if its image is equal.  So a collision of hashes, or a user's index with an
 * equality of its own, costs a comparison and cannot cause a wrong result.
 *
 * The hash is one of the detoasted image.  It needs no equality or hash
 * function of the types, tells 1.0 from 1.00, and is stored in indexes: it
 * must not change between versions of the extension.  It must not depend on
 * what ALTER ... SET STORAGE does either, hence ivm_row_hash_desc.
 *
 * A view whose output has at most one row needs no index.
 *
 * What is a key may change under a view: a base table loses its primary key,
 * say.  Then a unique index of ours would be a constraint that nobody asked
 * for, and it is dropped when the view is rebuilt.  Ours are known by their
 * names (_ivm_key and so on at the end); one that was renamed is the user's.
 *
 * Index expressions and opclass functions run with the rights of the current
 * user: whoever builds or writes indexes here has become the view's owner, in
 * a security-restricted operation.  (DefineIndex sees to that by itself.)
 *
 * Rejected: one row-hash index for all.  It would defeat HOT for aggregates,
 * whose rows are updated most.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "access/htup_details.h"
#include "access/nbtree.h"
#include "access/table.h"
#include "access/transam.h"
#include "catalog/dependency.h"
#include "catalog/heap.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_am_d.h"
#include "catalog/pg_class_d.h"
#include "catalog/pg_opclass.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type_d.h"
#include "commands/defrem.h"
#include "nodes/makefuncs.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "apply/apply.h"
#include "apply/view_index.h"
#include "base/attempt.h"
#include "metadata/metadata.h"

#define LOCK_PATIENCE	"100ms"

/* What ivm.row_hash remembers between calls. */
typedef struct RowHashCache
{
	Oid			type;
	int32		typmod;
	TupleDesc	desc;
	Datum	   *values;
	bool	   *isnull;
	MemoryContext row_context;
} RowHashCache;

/* For create_key_index. */
typedef struct ViewAndPlan
{
	Relation	view;
	IvmPlan    *plan;
} ViewAndPlan;

static bool same_columns(List *a, List *b);
static bool name_is_ours(const char *name);
static bool classify_hash(Relation index, IvmPlan *plan, IvmViewIndex *result);
static bool key_has_btree(Relation view, IvmPlan *plan);
static bool create_key_index(void *view_and_plan);
static void create_hash_index(Relation view, IvmPlan *plan);
static Node *hash_expression(Relation view, List *columns);
static void drop_index(Oid index);
static void lock_against_readers(Relation view);
static void define_index(Relation view, const char *label, List *elements, bool unique);

PG_FUNCTION_INFO_V1(ivm_row_hash);

/*
 * ivm.row_hash(record) returns bigint: hash of the row's image.
 */
Datum
ivm_row_hash(PG_FUNCTION_ARGS)
{
	HeapTupleHeader record = PG_GETARG_HEAPTUPLEHEADER(0);
	Oid			type = HeapTupleHeaderGetTypeId(record);
	int32		typmod = HeapTupleHeaderGetTypMod(record);
	RowHashCache *cache = (RowHashCache *) fcinfo->flinfo->fn_extra;
	HeapTupleData tuple;
	MemoryContext caller;
	uint64		hash;

	if (cache == NULL || cache->type != type || cache->typmod != typmod)
	{
		MemoryContext context = fcinfo->flinfo->fn_mcxt;
		TupleDesc	desc = lookup_rowtype_tupdesc(type, typmod);

		caller = MemoryContextSwitchTo(context);
		cache = palloc(sizeof(RowHashCache));
		cache->type = type;
		cache->typmod = typmod;
		cache->desc = ivm_row_hash_desc(desc);
		cache->values = palloc(Max(desc->natts, 1) * sizeof(Datum));
		cache->isnull = palloc(Max(desc->natts, 1) * sizeof(bool));
		cache->row_context = AllocSetContextCreate(context, "row hash", ALLOCSET_SMALL_SIZES);
		MemoryContextSwitchTo(caller);
		ReleaseTupleDesc(desc);
		fcinfo->flinfo->fn_extra = cache;
	}

	tuple.t_len = HeapTupleHeaderGetDatumLength(record);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = record;

	caller = MemoryContextSwitchTo(cache->row_context);
	heap_deform_tuple(&tuple, cache->desc, cache->values, cache->isnull);
	hash = ivm_row_image_hash(ivm_row_form_values(cache->desc, cache->values, cache->isnull));
	MemoryContextSwitchTo(caller);
	MemoryContextReset(cache->row_context);

	PG_RETURN_INT64((int64) hash);
}

TupleDesc
ivm_row_hash_desc(TupleDesc desc)
{
	TupleDesc	copy = CreateTupleDescCopy(desc);

	for (int i = 0; i < copy->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(copy, i);

		attribute->attcacheoff = -1;
		if (!attribute->attisdropped)
			attribute->attstorage = get_typstorage(attribute->atttypid);
	}
	return copy;
}

TupleDesc
ivm_row_hash_columns_desc(TupleDesc desc, List *columns)
{
	TupleDesc	result;
	ListCell   *lc;
	AttrNumber	number = 0;

	if (columns == NIL)
		return ivm_row_hash_desc(desc);

	result = CreateTemplateTupleDesc(list_length(columns));
	foreach(lc, columns)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, lfirst_int(lc) - 1);

		TupleDescInitEntry(result, ++number, NULL, attribute->atttypid, attribute->atttypmod, 0);
	}
	return result;
}

/* True if the two lists of columns are the same as sets. */
static bool
same_columns(List *a, List *b)
{
	return list_length(a) == list_length(b) &&
		list_difference_int(a, b) == NIL && list_difference_int(b, a) == NIL;
}

void
ivm_view_index_classify(Relation index, IvmPlan *plan, Snapshot snapshot, IvmViewIndex *result)
{
	Form_pg_index form = index->rd_index;
	List	   *columns = NIL;

	result->kind = IVM_VIEW_INDEX_NONE;
	result->index = NULL;
	result->columns = NIL;

	if (index->rd_rel->relam != BTREE_AM_OID ||
		!form->indislive || !form->indisready || !form->indisvalid ||
		RelationGetIndexPredicate(index) != NIL)
		return;

	/* Broken HOT chains: the index lacks versions that older snapshots see. */
	if (snapshot != NULL && form->indcheckxmin &&
		!TransactionIdPrecedes(HeapTupleHeaderGetXmin(index->rd_indextuple->t_data), snapshot->xmin))
		return;

	if (classify_hash(index, plan, result))
		return;

	if (!form->indisunique || plan->key == NIL)
		return;
	for (int i = 0; i < form->indnkeyatts; i++)
	{
		if (form->indkey.values[i] <= 0)
			return;
		columns = lappend_int(columns, form->indkey.values[i]);
	}
	if (!same_columns(columns, plan->key))
		return;

	result->kind = IVM_VIEW_INDEX_KEY;
	result->index = index;
	result->columns = columns;
}

/* Recognises our two hash indexes by their expression, whatever their name. */
static bool
classify_hash(Relation index, IvmPlan *plan, IvmViewIndex *result)
{
	List	   *expressions;
	FuncExpr   *function;
	Node	   *argument;
	List	   *columns = NIL;

	if (index->rd_index->indnkeyatts != 1 || index->rd_index->indkey.values[0] != 0)
		return false;
	expressions = RelationGetIndexExpressions(index);
	function = (FuncExpr *) linitial(expressions);
	if (!IsA(function, FuncExpr) || list_length(function->args) != 1 ||
		function->funcid != ivm_row_hash_function())
		return false;

	argument = (Node *) linitial(function->args);
	if (IsA(argument, Var) && ((Var *) argument)->varattno == InvalidAttrNumber)
	{
		result->kind = IVM_VIEW_INDEX_ROW_HASH;
		result->index = index;
		return true;
	}
	if (IsA(argument, RowExpr))
	{
		ListCell   *lc;

		foreach(lc, ((RowExpr *) argument)->args)
		{
			Var		   *var = (Var *) lfirst(lc);

			if (!IsA(var, Var) || var->varattno <= 0)
				return false;
			columns = lappend_int(columns, var->varattno);
		}
		/* Of other columns than the key's, too many rows could have one hash. */
		if (columns == NIL || !same_columns(columns, plan->key))
			return false;
		result->kind = IVM_VIEW_INDEX_KEY_HASH;
		result->index = index;
		result->columns = columns;
		return true;
	}
	return false;
}

bool
ivm_view_has_index(Relation view, IvmPlan *plan)
{
	List	   *indexes;
	ListCell   *lc;
	bool		found = false;

	if (plan->single_row)
		return true;

	indexes = RelationGetIndexList(view);
	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);
		IvmViewIndex fit;

		ivm_view_index_classify(index, plan, NULL, &fit);
		index_close(index, NoLock);
		if (fit.kind != IVM_VIEW_INDEX_NONE &&
			(plan->key == NIL || fit.kind != IVM_VIEW_INDEX_ROW_HASH))
			found = true;
	}
	list_free(indexes);
	return found;
}

void
ivm_view_create_index(Oid relid, IvmPlan *plan)
{
	Relation	view;

	if (plan->single_row)
		return;

	view = table_open(relid, ShareLock);
	if (!ivm_view_has_index(view, plan))
	{
		ViewAndPlan arg = {view, plan};

		if (plan->key == NIL || !key_has_btree(view, plan) ||
			ivm_view_index_trial(create_key_index, &arg) != 0)
			create_hash_index(view, plan);
	}
	table_close(view, NoLock);
}

static bool
create_key_index(void *view_and_plan)
{
	ViewAndPlan *arg = view_and_plan;
	List	   *elements = NIL;
	ListCell   *lc;

	foreach(lc, arg->plan->key)
	{
		IndexElem  *element = makeNode(IndexElem);

		element->name = pstrdup(NameStr(TupleDescAttr(RelationGetDescr(arg->view), lfirst_int(lc) - 1)->attname));
		element->ordering = SORTBY_DEFAULT;
		element->nulls_ordering = SORTBY_NULLS_DEFAULT;
		elements = lappend(elements, element);
	}
	define_index(arg->view, "ivm_key", elements, true);
	return true;
}

static void
create_hash_index(Relation view, IvmPlan *plan)
{
	IndexElem  *element = makeNode(IndexElem);

	element->expr = hash_expression(view, plan->key);
	element->indexcolname = pstrdup("hash");
	element->ordering = SORTBY_DEFAULT;
	element->nulls_ordering = SORTBY_NULLS_DEFAULT;
	define_index(view, plan->key != NIL ? "ivm_key_hash" : "ivm_row_hash", list_make1(element), false);
}

int
ivm_view_index_trial(bool (*action) (void *), void *arg)
{
	ErrorData  *error = ivm_attempt(action, arg);

	if (error == NULL)
		return 0;
	if (error->sqlerrcode != ERRCODE_PROGRAM_LIMIT_EXCEEDED &&
		error->sqlerrcode != ERRCODE_DATA_CORRUPTED && error->sqlerrcode != ERRCODE_INDEX_CORRUPTED)
		ReThrowError(error);
	return error->sqlerrcode;
}

/*
 * There may be no moment at which nobody reads the view, so readers have to
 * queue behind us; but not for long.
 */
static void
lock_against_readers(Relation view)
{
	int			nest_level = NewGUCNestLevel();

	(void) set_config_option("lock_timeout", LOCK_PATIENCE, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	LockRelationOid(RelationGetRelid(view), AccessExclusiveLock);
	AtEOXact_GUC(false, nest_level);
}

bool
ivm_view_replace_key_index(Relation view, IvmPlan *plan)
{
	List	   *indexes = RelationGetIndexList(view);
	Oid			own = InvalidOid;
	ListCell   *lc;

	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);
		IvmViewIndex fit;

		ivm_view_index_classify(index, plan, NULL, &fit);
		if (fit.kind == IVM_VIEW_INDEX_KEY && name_is_ours(RelationGetRelationName(index)))
			own = lfirst_oid(lc);
		index_close(index, NoLock);
	}
	list_free(indexes);
	if (!OidIsValid(own))
		return false;

	lock_against_readers(view);
	drop_index(own);
	create_hash_index(view, plan);
	return true;
}

void
ivm_view_reindex(Relation view)
{
	ReindexParams params = {0};

	lock_against_readers(view);
	(void) reindex_relation(RelationGetRelid(view), 0, &params);
	CommandCounterIncrement();
}

/* Is it the name of an index that define_index made? */
static bool
name_is_ours(const char *name)
{
	static const char *const labels[] = {"_ivm_key", "_ivm_key_hash", "_ivm_row_hash"};
	size_t		length = strlen(name);

	/* A number, where the name was taken. */
	while (length > 0 && isdigit((unsigned char) name[length - 1]))
		length--;
	for (int i = 0; i < lengthof(labels); i++)
	{
		size_t		label = strlen(labels[i]);

		if (length > label && strncmp(name + length - label, labels[i], label) == 0)
			return true;
	}
	return false;
}

void
ivm_view_drop_obsolete_indexes(Relation view, IvmPlan *plan)
{
	List	   *indexes = RelationGetIndexList(view);
	List	   *obsolete = NIL;
	ListCell   *lc;

	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);
		IvmViewIndex fit;

		ivm_view_index_classify(index, plan, NULL, &fit);
		if (name_is_ours(RelationGetRelationName(index)) &&
			(plan->single_row || fit.kind == IVM_VIEW_INDEX_NONE ||
			 (plan->key != NIL && fit.kind == IVM_VIEW_INDEX_ROW_HASH)))
			obsolete = lappend_oid(obsolete, lfirst_oid(lc));
		index_close(index, NoLock);
	}
	list_free(indexes);

	if (obsolete == NIL ||
		!ConditionalLockRelationOid(RelationGetRelid(view), AccessExclusiveLock))
		return;
	foreach(lc, obsolete)
		drop_index(lfirst_oid(lc));
}

static void
drop_index(Oid index)
{
	ObjectAddress address;

	ObjectAddressSet(address, RelationRelationId, index);
	performDeletion(&address, DROP_RESTRICT, PERFORM_DELETION_INTERNAL);
	CommandCounterIncrement();
}

/*
 * Can the key be that of a B-tree, with the equality that makes it a key?
 */
static bool
key_has_btree(Relation view, IvmPlan *plan)
{
	ListCell   *lc;
	ListCell   *lc_operator;

	if (list_length(plan->key) > INDEX_MAX_KEYS)
		return false;

	forboth(lc, plan->key, lc_operator, plan->key_operators)
	{
		Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(view), lfirst_int(lc) - 1);
		Oid			opclass = GetDefaultOpClass(attribute->atttypid, BTREE_AM_OID);

		if (!OidIsValid(opclass) ||
			get_op_opfamily_strategy(lfirst_oid(lc_operator), get_opclass_family(opclass)) != BTEqualStrategyNumber)
			return false;
	}
	return true;
}

/* ivm.row_hash(v.*), or ivm.row_hash(ROW(columns)). */
static Node *
hash_expression(Relation view, List *columns)
{
	Node	   *argument;

	if (columns == NIL)
		argument = (Node *) makeVar(1, InvalidAttrNumber, view->rd_rel->reltype, -1, InvalidOid, 0);
	else
	{
		RowExpr    *row = makeNode(RowExpr);
		ListCell   *lc;
		int			number = 0;

		foreach(lc, columns)
		{
			Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(view), lfirst_int(lc) - 1);

			row->args = lappend(row->args,
								makeVar(1, attribute->attnum, attribute->atttypid, attribute->atttypmod,
										attribute->attcollation, 0));
			row->colnames = lappend(row->colnames, makeString(psprintf("f%d", ++number)));
		}
		row->row_typeid = RECORDOID;
		row->row_format = COERCE_EXPLICIT_CALL;
		row->location = -1;
		argument = (Node *) row;
	}
	return (Node *) makeFuncExpr(ivm_row_hash_function(), INT8OID, list_make1(argument),
								 InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
}

/* Builds the index the way CREATE INDEX does, under a name that is free. */
static void
define_index(Relation view, const char *label, List *elements, bool unique)
{
	Oid			namespace = RelationGetNamespace(view);
	IndexStmt  *statement = makeNode(IndexStmt);

	statement->idxname = ChooseRelationName(RelationGetRelationName(view), NULL, label, namespace, false);
	statement->relation = makeRangeVar(get_namespace_name(namespace),
									   pstrdup(RelationGetRelationName(view)), -1);
	statement->accessMethod = pstrdup("btree");
	statement->indexParams = elements;
	statement->unique = unique;
	statement->transformed = true;

	DefineIndex(RelationGetRelid(view), statement,
				InvalidOid, InvalidOid, InvalidOid,
				false,			/* is_alter_table */
				false,			/* check_rights */
				false,			/* check_not_in_use: the caller has it open */
				false,			/* skip_build */
				true);			/* quiet */
	CommandCounterIncrement();
}
