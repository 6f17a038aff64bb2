/*-------------------------------------------------------------------------
 *
 * fingerprint.c
 *	  What a view was computed from, besides the text of its plan.
 *
 * Some things change a query's result without a row in the log and without
 * another plan.  They are collected here, sorted, as text; equal texts mean that
 * nothing of this kind has happened.  A rewrite that keeps the rows of a table is
 * not seen, and must not be.
 *
 * The catalogs, one by one: what can an expression show, or decide by?
 *
 *	pg_aggregate	the functions behind an aggregate: the whole row
 *	pg_amop, pg_amproc, pg_opclass, pg_opfamily
 *					how values of a type are compared inside of arrays, rows
 *					and ranges: the user's functions in the default operator classes
 *					of each type
 *	pg_attribute	names and types of a row that is taken apart or shown; of
 *					columns the plan has number and type
 *	pg_auth_members, pg_authid
 *					which policies are the owner's, and whether he is above them,
 *					is in the plan; so is his name.  Who is a member of what he
 *					sees by a policy only
 *	pg_cast			the cast to json by which to_json shows a type of the user's;
 *					others are in the plan since the query was written
 *	pg_class		persistence and replica identity, and the file of a plain
 *					materialized view; names are shown by regclass only
 *	pg_collation, pg_database
 *					the version of the library's rules: it is another one after
 *					an upgrade of the operating system
 *	pg_constraint	of domains that a value is made one of; of tables they are
 *					in the plan where the planner uses them
 *	pg_enum			labels.  Their order among each other never changes
 *	pg_inherits		the partitions and children that are read; these with file
 *					and columns, since one that has left may be rewritten, or have its
 *					columns renamed, without a row in the log, and with what tells that
 *					it has come back since
 *	pg_partitioned_table, pg_policy, pg_rewrite
 *					are in the plan
 *	pg_proc			what the user's functions do: all but name, cost and rights
 *	pg_range		the functions of a range type of the user's
 *	pg_ts_config, pg_ts_config_map, pg_ts_dict
 *					what a text becomes: parser, dictionaries in their order, and
 *					the version of each dictionary's row, since it is altered also
 *					to say that its files changed
 *	pg_type			input and output functions of types of the user's; names are
 *					shown by regtype only
 *
 * Left out, since no query that is accepted can tell:
 *
 *	pg_am, pg_attrdef, pg_index, pg_statistic*, pg_trigger
 *					how rows are stored, written and found
 *	pg_conversion	the safe search path knows the server's own only
 *	pg_db_role_setting
 *					settings are stored with the view
 *	pg_default_acl, pg_init_privs, pg_namespace, pg_parameter_acl, pg_largeobject*, pg_sequence
 *					rights are checked when the view is compiled; functions that
 *					read large objects and sequences are volatile
 *	pg_depend, pg_description, pg_event_trigger, pg_extension, pg_foreign_*, pg_publication*,
 *	pg_replication_origin, pg_seclabel, pg_sh*, pg_subscription*, pg_tablespace, pg_user_mapping
 *					the functions that show them are refused
 *	pg_language, pg_transform, pg_ts_parser, pg_ts_template
 *					what is behind them is a library's code, of which a catalog says
 *					nothing
 *	pg_operator		the function of an operator cannot be altered
 *
 * Values of reg* types would show names of any object, so a query that makes a
 * text of one is refused, wherever it is hidden (check_support.c).  Not known is
 * what a function of the user's calls in turn: he declared it immutable; nor what is
 * no catalog: time zones, files of dictionaries, a library's code.
 *
 * To each of these belongs an invalidation, on which the plan is compiled again
 * and the text compared: see note_items().
 *
 * Memory: the result in the current context, garbage in one of its own.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/transam.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_database.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_ts_config.h"
#include "catalog/pg_ts_config_map.h"
#include "catalog/pg_ts_dict.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "compile/compiler.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "parser/parsetree.h"
#include "plan/plan_text.h"
#include "tsearch/ts_cache.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/pg_locale.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

/* ---- lines ---- */

/*
 * A hash value of what made a table a child, and its parents: the transactions that attached them.
 */
static uint32
attachment(Oid relid)
{
	Relation	inherits = table_open(InheritsRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	uint32		result = 0;

	check_stack_depth();
	ScanKeyInit(&key, Anum_pg_inherits_inhrelid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(inherits, InheritsRelidSeqnoIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Oid			parent = ((Form_pg_inherits) GETSTRUCT(tuple))->inhparent;

		result = hash_combine(result, murmurhash32(HeapTupleHeaderGetRawXmin(tuple->t_data)));
		result = hash_combine(result, hash_combine(murmurhash32(parent), attachment(parent)));
	}
	systable_endscan(scan);
	table_close(inherits, AccessShareLock);
	return result;
}

static void
append_relation(StringInfo buffer, IvmPlan *plan, Oid relid)
{
	Relation	relation = relation_open(relid, NoLock);
	Form_pg_class form = relation->rd_rel;
	Oid			tree;

	if (ivm_plan_is_member(plan, relid, &tree))
		appendStringInfo(buffer, "member %u of %u file %u columns %u attached %u %c %c\n", relid, tree, form->relfilenode,
						 ivm_fingerprint_columns(RelationGetDescr(relation)), attachment(relid),
						 form->relpersistence, form->relreplident);
	else
	{
		appendStringInfo(buffer, "relation %u %c %c", relid, form->relpersistence, form->relreplident);
		if (form->relkind == RELKIND_MATVIEW)
			appendStringInfo(buffer, " file %u", form->relfilenode);
		appendStringInfoChar(buffer, '\n');
	}
	relation_close(relation, NoLock);
}

static void
append_row(StringInfo buffer, Oid relid)
{
	Relation	relation = relation_open(relid, AccessShareLock);
	TupleDesc	desc = RelationGetDescr(relation);

	appendStringInfo(buffer, "row %u", relid);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		if (attribute->attisdropped)
			appendStringInfoString(buffer, " -");
		else
			appendStringInfo(buffer, " %u:%d:%s", attribute->atttypid, attribute->atttypmod,
							 NameStr(attribute->attname));
	}
	appendStringInfoChar(buffer, '\n');
	relation_close(relation, AccessShareLock);
}

/* A hash value of a column of variable length. */
static void
append_hash(StringInfo buffer, int cache, HeapTuple tuple, AttrNumber attribute)
{
	bool		isnull;
	Datum		value = SysCacheGetAttr(cache, tuple, attribute, &isnull);
	struct varlena *bytes;

	if (isnull)
	{
		appendStringInfoString(buffer, " -");
		return;
	}
	bytes = PG_DETOAST_DATUM_PACKED(value);
	appendStringInfo(buffer, " " UINT64_FORMAT,
					 DatumGetUInt64(hash_any_extended((unsigned char *) VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes), 0)));
}

static HeapTuple
fetch(int cache, Oid object)
{
	HeapTuple	tuple = SearchSysCache1(cache, ObjectIdGetDatum(object));

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for object %u in cache %d", object, cache);
	return tuple;
}

static void
append_function(StringInfo buffer, Oid function)
{
	HeapTuple	tuple = fetch(PROCOID, function);
	Form_pg_proc form = (Form_pg_proc) GETSTRUCT(tuple);

	appendStringInfo(buffer, "function %u %u %u %d%d%c %u", function, form->prolang, form->prorettype,
					 form->proisstrict, form->proretset, form->provolatile,
					 form->prosecdef ? form->proowner : InvalidOid);
	append_hash(buffer, PROCOID, tuple, Anum_pg_proc_prosrc);
	append_hash(buffer, PROCOID, tuple, Anum_pg_proc_probin);
	append_hash(buffer, PROCOID, tuple, Anum_pg_proc_prosqlbody);
	append_hash(buffer, PROCOID, tuple, Anum_pg_proc_proconfig);
	appendStringInfoChar(buffer, '\n');
	ReleaseSysCache(tuple);
}

static void
append_aggregate(StringInfo buffer, Oid function)
{
	HeapTuple	tuple = fetch(AGGFNOID, function);

	appendStringInfo(buffer, "aggregate %u " UINT64_FORMAT, function,
					 DatumGetUInt64(hash_any_extended((unsigned char *) GETSTRUCT(tuple), sizeof(FormData_pg_aggregate), 0)));
	append_hash(buffer, AGGFNOID, tuple, Anum_pg_aggregate_agginitval);
	append_hash(buffer, AGGFNOID, tuple, Anum_pg_aggregate_aggminitval);
	appendStringInfoChar(buffer, '\n');
	ReleaseSysCache(tuple);
}

static int
compare_strings(const ListCell *a, const ListCell *b)
{
	return strcmp((char *) lfirst(a), (char *) lfirst(b));
}

static void
append_strings(StringInfo buffer, List *strings)
{
	ListCell   *lc;

	list_sort(strings, compare_strings);
	foreach(lc, strings)
		appendStringInfo(buffer, " %s", (char *) lfirst(lc));
	appendStringInfoChar(buffer, '\n');
}

static void
append_enum(StringInfo buffer, Oid type)
{
	CatCList   *list = SearchSysCacheList1(ENUMTYPOIDNAME, ObjectIdGetDatum(type));
	List	   *labels = NIL;

	for (int i = 0; i < list->n_members; i++)
	{
		Form_pg_enum form = (Form_pg_enum) GETSTRUCT(&list->members[i]->tuple);

		labels = lappend(labels, psprintf("%u:%s", form->oid, NameStr(form->enumlabel)));
	}
	ReleaseSysCacheList(list);
	appendStringInfo(buffer, "enum %u", type);
	append_strings(buffer, labels);
}

static void
append_domain(StringInfo buffer, Oid type)
{
	DomainConstraintRef *constraints = palloc(sizeof(DomainConstraintRef));
	List	   *texts = NIL;
	ListCell   *lc;

	InitDomainConstraintRef(type, constraints, CurrentMemoryContext, false);
	foreach(lc, constraints->constraints)
	{
		DomainConstraintState *constraint = lfirst_node(DomainConstraintState, lc);

		texts = lappend(texts, constraint->constrainttype == DOM_CONSTRAINT_NOTNULL ? pstrdup("not null") :
						ivm_expression_text((Node *) constraint->check_expr));
	}
	appendStringInfo(buffer, "domain %u", type);
	append_strings(buffer, texts);
}

/* Which functions do the work; what these do is said by lines of their own. */
static void
append_type(StringInfo buffer, Oid type)
{
	TypeCacheEntry *entry = lookup_type_cache(type, TYPECACHE_EQ_OPR | TYPECACHE_CMP_PROC | TYPECACHE_HASH_PROC);

	appendStringInfo(buffer, "type %u %u %u %u %u\n", type, entry->eq_opr, entry->cmp_proc, entry->hash_proc,
					 ivm_json_cast(type));
}

static void
append_collation(StringInfo buffer, Oid collation)
{
	HeapTuple	tuple;
	char	   *name = NULL;
	char		provider;
	bool		isnull;
	Datum		value;
	int			cache = collation == DEFAULT_COLLATION_OID ? DATABASEOID : COLLOID;

	if (collation == DEFAULT_COLLATION_OID)
	{
		tuple = fetch(cache, MyDatabaseId);
		provider = ((Form_pg_database) GETSTRUCT(tuple))->datlocprovider;
		value = SysCacheGetAttr(cache, tuple, provider == COLLPROVIDER_ICU ?
								Anum_pg_database_daticulocale : Anum_pg_database_datcollate, &isnull);
	}
	else
	{
		tuple = fetch(cache, collation);
		provider = ((Form_pg_collation) GETSTRUCT(tuple))->collprovider;
		value = SysCacheGetAttr(cache, tuple, provider == COLLPROVIDER_ICU ?
								Anum_pg_collation_colliculocale : Anum_pg_collation_collcollate, &isnull);
	}
	if (!isnull)
		name = get_collation_actual_version(provider, TextDatumGetCString(value));
	if (name != NULL)
		appendStringInfo(buffer, "collation %u %s\n", collation, name);
	ReleaseSysCache(tuple);
}

static void
append_configuration(StringInfo buffer, Oid configuration, List **dictionaries)
{
	HeapTuple	tuple = fetch(TSCONFIGOID, configuration);
	CatCList   *list;
	List	   *entries = NIL;

	appendStringInfo(buffer, "configuration %u %u", configuration, ((Form_pg_ts_config) GETSTRUCT(tuple))->cfgparser);
	ReleaseSysCache(tuple);
	list = SearchSysCacheList1(TSCONFIGMAP, ObjectIdGetDatum(configuration));
	for (int i = 0; i < list->n_members; i++)
	{
		Form_pg_ts_config_map form = (Form_pg_ts_config_map) GETSTRUCT(&list->members[i]->tuple);

		entries = lappend(entries, psprintf("%d:%d:%u", form->maptokentype, form->mapseqno, form->mapdict));
		*dictionaries = list_append_unique_oid(*dictionaries, form->mapdict);
	}
	ReleaseSysCacheList(list);
	append_strings(buffer, entries);
}

static void
append_dictionary(StringInfo buffer, Oid dictionary)
{
	HeapTuple	tuple = fetch(TSDICTOID, dictionary);

	appendStringInfo(buffer, "dictionary %u %u %u\n", dictionary, ((Form_pg_ts_dict) GETSTRUCT(tuple))->dicttemplate,
					 HeapTupleHeaderGetRawXmin(tuple->t_data));
	ReleaseSysCache(tuple);
}

/* All of pg_ts_config or pg_ts_dict; the oid is the first column of both. */
static List *
all_objects(Oid catalog)
{
	Relation	relation = table_open(catalog, AccessShareLock);
	SysScanDesc scan = systable_beginscan(relation, InvalidOid, false, NULL, 0, NULL);
	HeapTuple	tuple;
	List	   *result = NIL;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool		isnull;

		result = lappend_oid(result, DatumGetObjectId(heap_getattr(tuple, 1, RelationGetDescr(relation), &isnull)));
	}
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return result;
}

static void
append_text_search(StringInfo buffer, IvmReads *reads)
{
	List	   *configurations = list_copy(reads->configurations);
	List	   *dictionaries = list_copy(reads->dictionaries);
	Oid			configuration = reads->default_configuration ? getTSCurrentConfig(false) : InvalidOid;
	ListCell   *lc;

	if (reads->any_text_search)
	{
		configurations = all_objects(TSConfigRelationId);
		dictionaries = all_objects(TSDictionaryRelationId);
	}
	if (OidIsValid(configuration))
		configurations = list_append_unique_oid(configurations, configuration);
	list_sort(configurations, list_oid_cmp);
	foreach(lc, configurations)
		append_configuration(buffer, lfirst_oid(lc), &dictionaries);
	list_sort(dictionaries, list_oid_cmp);
	foreach(lc, dictionaries)
		append_dictionary(buffer, lfirst_oid(lc));
}

static void
append_all(StringInfo buffer, List *objects, void (*append) (StringInfo buffer, Oid object))
{
	ListCell   *lc;

	list_sort(objects, list_oid_cmp);
	foreach(lc, objects)
		append(buffer, lfirst_oid(lc));
}

/* ---- invalidations ---- */

/* A change of this entry of a system cache may concern the plan; InvalidOid: of any of it. */
static void
note_item(PlannedStmt *statement, int cache, Oid object)
{
	PlanInvalItem *item = makeNode(PlanInvalItem);

	item->cacheId = cache;
	item->hashValue = OidIsValid(object) ? GetSysCacheHashValue1(cache, ObjectIdGetDatum(object)) : 0;
	statement->invalItems = lappend(statement->invalItems, item);
}

static void
note_items(PlannedStmt *statement, int cache, List *objects)
{
	ListCell   *lc;

	foreach(lc, objects)
		note_item(statement, cache, lfirst_oid(lc));
}

/*
 * Tells whoever keeps the plan of which changes he has to hear, besides those that
 * the planner knows of.  A change of a composite type is told as one of its relation.
 * What is rare is told as a whole.
 */
static void
note_dependencies(PlannedStmt *statement, IvmReads *reads)
{
	static const int whole_caches[] = {OPEROID, AMOPOPID, CLAOID, CASTSOURCETARGET, AUTHMEMROLEMEM,
	TSCONFIGOID, TSCONFIGMAP, TSDICTOID};
	List	   *roles = ivm_roles_with_granted(ivm_statement_roles(statement, GetUserId()));
	MemoryContext caller = MemoryContextSwitchTo(GetMemoryChunkContext(statement));

	statement->relationOids = list_concat_unique_oid(statement->relationOids, reads->rows);
	note_items(statement, PROCOID, reads->functions);
	note_items(statement, PROCOID, reads->io_functions);
	note_items(statement, PROCOID, reads->aggregates);
	note_items(statement, AGGFNOID, reads->aggregates);
	note_items(statement, TYPEOID, reads->enums);
	note_items(statement, TYPEOID, reads->domains);
	note_items(statement, TYPEOID, reads->types);
	note_items(statement, AUTHOID, roles);
	note_item(statement, DATABASEOID, MyDatabaseId);
	if (reads->enums != NIL)
		note_item(statement, ENUMOID, InvalidOid);
	if (reads->domains != NIL)
		note_item(statement, CONSTROID, InvalidOid);
	for (int i = 0; i < lengthof(whole_caches); i++)
		note_item(statement, whole_caches[i], InvalidOid);
	MemoryContextSwitchTo(caller);
}

/* ---- the text ---- */

char *
ivm_plan_fingerprint(IvmPlan *plan)
{
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "ivm fingerprint", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(scratch);
	IvmReads   *reads = ivm_statement_reads(plan->statement);
	StringInfoData buffer;
	char	   *result;
	ListCell   *lc;

	note_dependencies(plan->statement, reads);
	initStringInfo(&buffer);
	foreach(lc, plan->relids)
		append_relation(&buffer, plan, lfirst_oid(lc));
	append_all(&buffer, reads->rows, append_row);
	append_all(&buffer, reads->functions, append_function);
	append_all(&buffer, reads->aggregates, append_aggregate);
	append_all(&buffer, reads->enums, append_enum);
	append_all(&buffer, reads->domains, append_domain);
	append_all(&buffer, reads->types, append_type);
	append_all(&buffer, reads->collations, append_collation);
	if (reads->text_search)
		append_text_search(&buffer, reads);

	MemoryContextSwitchTo(caller);
	result = pstrdup(buffer.data);
	MemoryContextDelete(scratch);
	return result;
}

uint32
ivm_fingerprint_columns(TupleDesc desc)
{
	uint32		result = desc->natts;

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		if (attribute->attisdropped)
			result = hash_combine(result, 0);
		else
		{
			const char *name = NameStr(attribute->attname);

			result = hash_combine(result, hash_bytes((const unsigned char *) name, strlen(name)));
			result = hash_combine(result, murmurhash32(attribute->atttypid));
			result = hash_combine(result, murmurhash32(attribute->atttypmod));
			result = hash_combine(result, murmurhash32(attribute->attcollation));
		}
	}
	return result;
}

/* Oids of the lines that begin so. */
static List *
oids_of_lines(const char *fingerprint, const char *begin)
{
	List	   *result = NIL;
	size_t		length = strlen(begin);

	for (const char *line = fingerprint; line != NULL && *line != '\0';)
	{
		const char *end = strchr(line, '\n');

		if (strncmp(line, begin, length) == 0)
			result = lappend_oid(result, (Oid) strtoul(line + length, NULL, 10));
		line = end == NULL ? NULL : end + 1;
	}
	return result;
}

List *
ivm_fingerprint_relids(const char *fingerprint)
{
	return list_concat(oids_of_lines(fingerprint, "relation "), oids_of_lines(fingerprint, "member "));
}

/* Takes the lines about members out of a fingerprint, into a list. */
static char *
without_members(const char *fingerprint, List **members)
{
	StringInfoData rest;

	*members = NIL;
	initStringInfo(&rest);
	for (const char *line = fingerprint; *line != '\0';)
	{
		size_t		length = strcspn(line, "\n");
		IvmMember  *member = (IvmMember *) palloc0(sizeof(IvmMember));

		if (sscanf(line, "member %u of %u file %u columns %u attached %u %c %c", &member->relid, &member->tree, &member->file,
				   &member->columns, &member->attached, &member->persistence, &member->identity) == 7)
			*members = lappend(*members, member);
		else
		{
			appendBinaryStringInfo(&rest, line, length);
			appendStringInfoChar(&rest, '\n');
		}
		line += length + (line[length] == '\n');
	}
	return rest.data;
}

static IvmMember *
find_member(List *members, Oid relid)
{
	ListCell   *lc;

	foreach(lc, members)
	{
		if (((IvmMember *) lfirst(lc))->relid == relid)
			return (IvmMember *) lfirst(lc);
	}
	return NULL;
}

bool
ivm_fingerprint_members(const char *from, const char *to, List **joined, List **left)
{
	List	   *before;
	List	   *after;
	ListCell   *lc;

	*joined = *left = NIL;
	if (strcmp(without_members(from, &before), without_members(to, &after)) != 0)
		return false;
	foreach(lc, before)
	{
		IvmMember  *old = (IvmMember *) lfirst(lc);
		IvmMember  *new = find_member(after, old->relid);

		if (new == NULL)
			*left = lappend(*left, old);
		else if (new->tree != old->tree || new->persistence != old->persistence || new->identity != old->identity)
			return false;
		else if (new->attached != old->attached && (new->file != old->file || new->columns != old->columns))
			return false;		/* rewritten, or its columns renamed, while it was away */
	}
	foreach(lc, after)
	{
		if (find_member(before, ((IvmMember *) lfirst(lc))->relid) == NULL)
			*joined = lappend(*joined, lfirst(lc));
	}
	return true;
}

/* The next line about a whole-row reference at or after "line"; NULL if there is none. */
static const char *
next_row_line(const char *line)
{
	while (line != NULL && strncmp(line, "row ", 4) != 0)
	{
		line = strchr(line, '\n');
		if (line != NULL)
			line++;
	}
	return line;
}

bool
ivm_fingerprint_rows_differ(const char *a, const char *b)
{
	a = next_row_line(a);
	b = next_row_line(b);
	while (a != NULL && b != NULL)
	{
		size_t		length = strcspn(a, "\n");

		if (strcspn(b, "\n") != length || memcmp(a, b, length) != 0)
			return true;
		a = next_row_line(a + length);
		b = next_row_line(b + length);
	}
	return a != NULL || b != NULL;
}
