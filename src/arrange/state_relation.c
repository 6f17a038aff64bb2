/*-------------------------------------------------------------------------
 *
 * state_relation.c
 *	  The relations that state is kept in: making, naming, dropping and emptying them.
 *
 * A state table is a materialized view to the server, for the reasons at the head of
 * metadata.c, with a query that returns nothing.  It is a member of the
 * extension: that is what keeps it out of dumps, as it must be, for state belongs to one
 * server's files (pg_upgrade, which copies these, takes it along).  A member cannot depend on
 * a view as well, since dropping the view would then drop the extension: which
 * tables belong to a view is told by their names, and whoever drops the view drops them.
 * Default privileges do not apply.
 *
 * There are two shapes, of state_table.c and of ordered_table.c.  Of both the last two columns are a weight
 * and an image, and one B-tree is on all others, in their order.
 *
 * Memory: results in the current context.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/reloptions.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/heap.h"
#include "catalog/index.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_index.h"
#include "catalog/pg_opfamily.h"
#include "catalog/pg_rewrite.h"
#include "catalog/pg_type.h"
#include "catalog/toasting.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "commands/matview.h"
#include "commands/tablespace.h"
#include "commands/view.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "parser/analyze.h"
#include "parser/parser.h"
#include "rewrite/rewriteSupport.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "arrange/state_table.h"
#include "base/compat.h"
#include "memory/reclaim.h"
#include "metadata/metadata.h"

/* How the names of all private state tables of a view begin; takes its oid. */
#define NAME_PREFIX		"v%u_"

/* Columns that are not in the index: weight and row. */
#define OTHER_COLUMNS	2

char *
ivm_state_table_name(Oid view, IvmDigest digest)
{
	return psprintf(NAME_PREFIX "%s", view, ivm_digest_text(digest));
}

Oid
ivm_state_table_lookup(const char *name)
{
	Oid			schema = get_namespace_oid(IVM_STATE_SCHEMA, true);

	return OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;
}

Oid
ivm_state_table_get(const char *name)
{
	Oid			relid = ivm_state_table_lookup(name);

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("state table \"%s\" does not exist", name),
				 errhint("Use REFRESH MATERIALIZED VIEW to rebuild the view.")));
	return relid;
}

/* What a state table of that shape is defined as; it is never run. */
static Query *
state_query(TupleDesc desc)
{
	const char *text = "SELECT 1 WHERE false";
	RawStmt    *statement = linitial_node(RawStmt, raw_parser(text, RAW_PARSE_DEFAULT));
	Query	   *query = parse_analyze_fixedparams(statement, text, NULL, 0, NULL);

	query->targetList = NIL;
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);
		Const	   *value = makeConst(attribute->atttypid, attribute->atttypmod, attribute->attcollation,
									  attribute->attlen, (Datum) 0, true, attribute->attbyval);

		query->targetList = lappend(query->targetList,
									makeTargetEntry((Expr *) value, i + 1, pstrdup(NameStr(attribute->attname)), false));
	}
	return query;
}

/*
 * The columns depend on their types.  The query must not: with its type a column can go alone, but
 * with the query all of the table would, and with that the extension.
 */
static void
forget_query_types(Oid relid, TupleDesc desc)
{
	Oid			rule = get_rewrite_oid(relid, ViewSelectRuleName, false);

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		(void) deleteDependencyRecordsForSpecific(RewriteRelationId, rule, DEPENDENCY_NORMAL,
												  TypeRelationId, attribute->atttypid);
		if (OidIsValid(attribute->attcollation))
			(void) deleteDependencyRecordsForSpecific(RewriteRelationId, rule, DEPENDENCY_NORMAL,
													  CollationRelationId, attribute->attcollation);
		/* the next column may be of the same type */
		CommandCounterIncrement();
	}
}

Oid
ivm_state_relation_create(const char *name, TupleDesc desc, List *columns)
{
	IndexStmt  *index = makeNode(IndexStmt);
	List	   *options = list_make1(makeDefElem("fillfactor", (Node *) makeInteger(70), -1));
	ObjectAddress table;
	ObjectAddress extension;
	Relation	heap;
	Oid			userid;
	int			security_context;
	Oid			relid;

	GetUserIdAndSecContext(&userid, &security_context);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, security_context | SECURITY_LOCAL_USERID_CHANGE);

	/* no statements: those would be seen by the event triggers of the users */
	relid = heap_create_with_catalog(name, get_namespace_oid(IVM_STATE_SCHEMA, false),
									 GetDefaultTablespace(RELPERSISTENCE_PERMANENT, false),
									 InvalidOid, InvalidOid, InvalidOid, BOOTSTRAP_SUPERUSERID,
									 HEAP_TABLE_AM_OID, desc, NIL,
									 RELKIND_MATVIEW, RELPERSISTENCE_PERMANENT,
									 false, /* shared */
									 false, /* mapped */
									 ONCOMMIT_NOOP,
									 transformRelOptions((Datum) 0, options, NULL, NULL, false, false),
									 false, /* default privileges */
									 false, /* in system schemas */
									 true,	/* internal */
									 InvalidOid, NULL);
	CommandCounterIncrement();
	heap = table_open(relid, AccessExclusiveLock);
	SetMatViewPopulatedState(heap, true);
	table_close(heap, NoLock);
	CommandCounterIncrement();
	NewRelationCreateToastTable(relid, (Datum) 0);
	CommandCounterIncrement();
	StoreViewQuery(relid, state_query(desc), false);
	CommandCounterIncrement();
	forget_query_types(relid, desc);
	CommandCounterIncrement();

	index->relation = makeRangeVar(pstrdup(IVM_STATE_SCHEMA), pstrdup(name), -1);
	index->accessMethod = pstrdup("btree");
	index->indexParams = columns;
	index->transformed = true;
	DefineIndex(relid, index, InvalidOid, InvalidOid, InvalidOid,
				false,			/* is_alter_table */
				false,			/* check_rights */
				false,			/* check_not_in_use */
				false,			/* skip_build */
				true);			/* quiet */
	CommandCounterIncrement();
	SetUserIdAndSecContext(userid, security_context);

	ObjectAddressSet(table, RelationRelationId, relid);
	ObjectAddressSet(extension, ExtensionRelationId, get_extension_oid("ivm_ext", false));
	recordDependencyOn(&table, &extension, DEPENDENCY_EXTENSION);
	return relid;
}

IndexElem *
ivm_state_index_column(const char *name)
{
	IndexElem  *element = makeNode(IndexElem);

	element->name = pstrdup(name);
	return element;
}

/* The view that a state table of this name belongs to, or InvalidOid. */
static Oid
owning_view(const char *name)
{
	unsigned int view;
	int			length = 0;

	return sscanf(name, NAME_PREFIX "%n", &view, &length) == 1 && length > 0 ? view : InvalidOid;
}

/*
 * State tables whose names are in [first, last): by the index on schema
 * and name, but for the rows that are not it is all one.
 */
static List *
state_tables_between(const char *first, const char *last, bool unused)
{
	Relation	classes;
	Oid			namespace = get_namespace_oid(IVM_STATE_SCHEMA, true);
	NameData	first_name;
	NameData	last_name;
	ScanKeyData keys[3];
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *result = NIL;

	if (!OidIsValid(namespace))
		return NIL;
	namestrcpy(&first_name, first);
	namestrcpy(&last_name, last);
	ScanKeyInit(&keys[0], Anum_pg_class_relname, BTGreaterEqualStrategyNumber, F_NAMEGE, NameGetDatum(&first_name));
	ScanKeyInit(&keys[1], Anum_pg_class_relname, BTLessStrategyNumber, F_NAMELT, NameGetDatum(&last_name));
	ScanKeyInit(&keys[2], Anum_pg_class_relnamespace, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(namespace));
	classes = table_open(RelationRelationId, AccessShareLock);
	scan = systable_beginscan(classes, ClassNameNspIndexId, true, NULL, 3, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_class form = (Form_pg_class) GETSTRUCT(tuple);

		if (form->relkind == RELKIND_MATVIEW &&
			(!unused || !ivm_relation_is_incremental(owning_view(NameStr(form->relname)))))
			result = lappend_oid(result, form->oid);
	}
	systable_endscan(scan);
	table_close(classes, AccessShareLock);
	return result;
}

List *
ivm_state_tables_of_view(Oid view)
{
	char	   *first = psprintf(NAME_PREFIX, view);
	char	   *last = pstrdup(first);

	last[strlen(last) - 1]++;	/* the underscore: nothing else is between */
	return state_tables_between(first, last, false);
}

List *
ivm_state_tables_unused(void)
{
	return state_tables_between("v", "w", true);
}

void
ivm_state_tables_drop(List *relids)
{
	ListCell   *lc;

	foreach(lc, relids)
	{
		Oid			relid = lfirst_oid(lc);

		LockRelationOid(relid, AccessExclusiveLock);
		if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid)))
			ivm_metadata_drop_state_table(relid);
	}
}

/* Is it on all of the table's columns but the last two, and can be searched? */
static bool
index_fits(Relation heap, Relation index)
{
	Form_pg_index form = index->rd_index;
	int			ncolumns = RelationGetDescr(heap)->natts - OTHER_COLUMNS;

	if (index->rd_rel->relam != BTREE_AM_OID || !form->indislive || !form->indisready || !form->indisvalid ||
		form->indnkeyatts != ncolumns || RelationGetIndexPredicate(index) != NIL)
		return false;

	/*
	 * No update that changes a hash has ever been heap-only, so there are no
	 * broken chains, and indcheckxmin need not be looked at.
	 */
	for (int i = 0; i < ncolumns; i++)
	{
		if (form->indkey.values[i] != i + 1 ||
			((i == 0 || i == ncolumns - 1) && index->rd_opfamily[i] != INTEGER_BTREE_FAM_OID))
			return false;
	}
	return true;
}

bool
ivm_state_table_needs_index(Oid relid, Oid index)
{
	Relation	heap = table_open(relid, AccessShareLock);
	List	   *fitting = NIL;
	ListCell   *lc;

	foreach(lc, RelationGetIndexList(heap))
	{
		Relation	candidate = index_open(lfirst_oid(lc), AccessShareLock);

		if (index_fits(heap, candidate))
			fitting = lappend_oid(fitting, lfirst_oid(lc));
		index_close(candidate, AccessShareLock);
	}
	table_close(heap, AccessShareLock);
	return list_length(fitting) == 1 && linitial_oid(fitting) == index;
}

Relation
ivm_state_index_open(Relation heap, IvmStateIndexTest fits, void *context)
{
	ListCell   *lc;

	foreach(lc, RelationGetIndexList(heap))
	{
		Relation	index = index_open(lfirst_oid(lc), RowExclusiveLock);

		if (index_fits(heap, index) && (fits == NULL || fits(context, index)))
			return index;
		index_close(index, NoLock);
	}
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("state table \"%s\" has no index on its hashes", RelationGetRelationName(heap)),
			 errhint("Use REFRESH MATERIALIZED VIEW to rebuild the view.")));
}

void
ivm_state_insert_entries(IvmIndexEntries **entries, MemoryContext context, Relation heap, TupleTableSlot *row)
{
	if (*entries == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(context);

		*entries = ivm_index_entries_open(heap);
		MemoryContextSwitchTo(old);
	}
	ivm_index_entries_insert(*entries, row);
}

void
ivm_state_check_write(Relation heap, TM_Result result)
{
	if (result != TM_Ok)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("state table \"%s\" was changed by another process",
						RelationGetRelationName(heap))));
}

void
ivm_state_lacks_row(Relation heap)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("state table \"%s\" lacks a row that is to be removed",
					RelationGetRelationName(heap)),
			 errhint("Use REFRESH MATERIALIZED VIEW to rebuild the view.")));
}

void
ivm_state_row_delete(Relation heap, ItemPointer tid, Snapshot snapshot)
{
	TM_FailureData failure;

	ivm_state_check_write(heap, table_tuple_delete(heap, tid, GetCurrentCommandId(true),
												   snapshot, InvalidSnapshot, false, &failure, false));
}

/*
 * Row by row rather than by a new file: the old rows stay visible to a batch
 * that is rolled back, and no stronger lock is needed.
 */
void
ivm_state_table_clear(Oid relid, Snapshot snapshot)
{
	Relation	heap = table_open(relid, RowExclusiveLock);
	TupleTableSlot *slot = table_slot_create(heap, NULL);
	TableScanDesc scan = table_beginscan(heap, snapshot, 0, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		ivm_state_row_delete(heap, &slot->tts_tid, snapshot);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	table_close(heap, NoLock);
}

int64
ivm_state_table_size(Oid relid)
{
	Relation	relation = table_open(relid, AccessShareLock);
	int64		size = 0;
	ListCell   *cell;

	size = (int64) RelationGetNumberOfBlocks(relation) * BLCKSZ;
	foreach(cell, RelationGetIndexList(relation))
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);

		size += (int64) RelationGetNumberOfBlocks(index) * BLCKSZ;
		index_close(index, NoLock);
	}
	table_close(relation, NoLock);
	return size;
}

void
ivm_state_build_indexes(Oid relid)
{
	int			nest_level = NewGUCNestLevel();
	ReindexParams params = {0};
	Size		limit = ivm_pin_limit() / 1024;
	int			kilobytes = (int) Max(Min((Size) maintenance_work_mem, limit), 1024);

	(void) set_config_option("maintenance_work_mem", psprintf("%dkB", kilobytes),
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	CommandCounterIncrement();
	reindex_relation(relid, 0, &params);
	CommandCounterIncrement();
	AtEOXact_GUC(false, nest_level);
}
