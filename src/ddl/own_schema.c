/*-------------------------------------------------------------------------
 *
 * own_schema.c
 *	  The extension's own schemas: what statements may do there.
 *
 * Processes of ours find metadata, state tables and functions by schema and name, so
 * nothing of ours leaves or has another name, the schemas included, and nothing of anybody's comes:
 * relations cannot be made in these schemas, nor moved into or out of them.  What keeps rows and rights as they
 * are (VACUUM, CLUSTER, REINDEX, an index more, another tablespace) is the
 * server's business alone.  REFRESH of everything in pg_matviews meets our relations as
 * well; they are current, so there is nothing to do.
 *
 * Nor do default privileges reach into them.
 *
 * pg_upgrade makes the extension's members one by one, and the server lets
 * nobody make a view in pg_catalog; ours are let in there.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"

#include "arrange/state_table.h"
#include "ddl/statement.h"
#include "metadata/metadata.h"

PG_FUNCTION_INFO_V1(ivm_revoke_all);

/* True if it is a schema of ours, and the extension is not being made just now. */
static bool
is_closed(Oid namespace)
{
	Oid			extension;

	if (IsBinaryUpgrade || !OidIsValid(namespace) ||
		(namespace != get_namespace_oid(IVM_SCHEMA, true) &&
		 namespace != get_namespace_oid(IVM_STATE_SCHEMA, true)))
		return false;
	extension = get_extension_oid("ivm_ext", true);
	return OidIsValid(extension) &&
		getExtensionOfObject(NamespaceRelationId, namespace) == extension &&
		!(creating_extension && CurrentExtensionObject == extension);
}

/*
 * Takes all privileges on the extension's members from everybody but their
 * owner, during CREATE EXTENSION: default privileges that an administrator has
 * set for his tables and functions shall not open ours.
 */
Datum
ivm_revoke_all(PG_FUNCTION_ARGS)
{
	const char *query =
		"SELECT format('REVOKE ALL ON %s %s FROM %s CASCADE', o.kind, i.identity,"
		" CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END)"
		" FROM pg_depend d"
		" JOIN (SELECT 'SCHEMA', tableoid, oid, nspowner, nspacl FROM pg_namespace"
		" UNION ALL SELECT 'TABLE', tableoid, oid, relowner, relacl FROM pg_class"
		" UNION ALL SELECT 'FUNCTION', tableoid, oid, proowner, coalesce(proacl, acldefault('f', proowner)) FROM pg_proc)"
		" o (kind, classid, objid, owner, acl) ON o.classid = d.classid AND o.objid = d.objid"
		" CROSS JOIN pg_identify_object(d.classid, d.objid, 0) i"
		" CROSS JOIN LATERAL (SELECT DISTINCT grantee FROM aclexplode(o.acl)) a"
		" WHERE d.refclassid = 'pg_extension'::regclass AND d.refobjid = $1 AND d.deptype = 'e' AND a.grantee <> o.owner";
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(CurrentExtensionObject)};
	List	   *statements = NIL;
	ListCell   *lc;

	if (!creating_extension)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("function \"%s\" is for CREATE EXTENSION only", "ivm.revoke_all")));
	SPI_connect();
	if (SPI_execute_with_args(query, 1, types, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the privileges on the extension's members");
	for (uint64 i = 0; i < SPI_processed; i++)
		statements = lappend(statements, SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1));
	foreach(lc, statements)
	{
		if (SPI_execute(lfirst(lc), false, 0) != SPI_OK_UTILITY)
			elog(ERROR, "could not execute \"%s\"", (char *) lfirst(lc));
	}
	SPI_finish();
	PG_RETURN_VOID();
}

static void
refuse_schema(const char *message, const char *name, Oid namespace)
{
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg(message, name, get_namespace_name(namespace)),
			 errdetail("The schema is kept for relations of extension \"ivm_ext\"."),
			 errhint("Use another schema.")));
}

/* Oid of the relation that a statement names if it is one of ours, or InvalidOid. */
static Oid
internal_relation(RangeVar *name)
{
	Oid			relid = name == NULL ? InvalidOid : RangeVarGetRelid(name, NoLock, true);

	return ivm_relation_is_internal(relid) && is_closed(get_rel_namespace(relid)) ? relid : InvalidOid;
}

static void
refuse_change(Oid relid)
{
	if (OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot alter relation \"%s.%s\" in this way",
						get_namespace_name(get_rel_namespace(relid)), get_rel_name(relid)),
				 errdetail("It belongs to extension \"ivm_ext\", which finds it by its name.")));
}

/* A schema or a function of ours keeps its name and its place: the library looks for both by name. */
static void
refuse_object(ObjectType type, Node *object, const char *name)
{
	ObjectAddress address;
	Relation	rel;

	if (type == OBJECT_SCHEMA && is_closed(get_namespace_oid(name, true)))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot alter schema \"%s\" in this way", name),
				 errdetail("It belongs to extension \"ivm_ext\", which finds it by its name.")));
	if (type != OBJECT_FUNCTION && type != OBJECT_ROUTINE)
		return;
	address = get_object_address(type, object, &rel, AccessExclusiveLock, true);
	if (OidIsValid(address.objectId) && is_closed(get_func_namespace(address.objectId)) &&
		getExtensionOfObject(ProcedureRelationId, address.objectId) == get_extension_oid("ivm_ext", true))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot alter function %s in this way", format_procedure(address.objectId)),
				 errdetail("It belongs to extension \"ivm_ext\", which finds it by its name.")));
}

/*
 * An index of ours stays: metadata is found by its name, a state table's rows by
 * any that fits.  Those that others have made are theirs.
 */
static void
refuse_index(RangeVar *name)
{
	Oid			index = RangeVarGetRelid(name, NoLock, true);
	Oid			relid = OidIsValid(index) ? IndexGetRelation(index, true) : InvalidOid;
	bool		is_needed;

	if (!ivm_relation_is_internal(relid) || !is_closed(get_rel_namespace(relid)))
		return;
	if (ivm_relation_is_state_table(relid))
		is_needed = ivm_state_table_needs_index(relid, index);
	else
		is_needed = strcmp(get_rel_name(index), psprintf("%s_pkey", get_rel_name(relid))) == 0;
	if (is_needed)
		refuse_change(relid);
}

void
ivm_own_schema_created(Oid namespace, char relkind, const char *name)
{
	if (relkind != RELKIND_INDEX && relkind != RELKIND_TOASTVALUE && is_closed(namespace))
		refuse_schema("cannot create relation \"%s\" in schema \"%s\"", name, namespace);
}

void
ivm_own_schema_guard_move(AlterObjectSchemaStmt *stmt)
{
	Oid			namespace = get_namespace_oid(stmt->newschema, true);

	if (is_closed(namespace))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot move objects into schema \"%s\"", stmt->newschema),
				 errdetail("The schema is kept for objects of extension \"ivm_ext\"."),
				 errhint("Use another schema.")));
	refuse_change(internal_relation(stmt->relation));
	refuse_object(stmt->objectType, stmt->object, NULL);
}

void
ivm_own_schema_guard_rename(RenameStmt *stmt)
{
	refuse_change(internal_relation(stmt->relation));
	refuse_object(stmt->renameType, stmt->object, stmt->subname);
	if (stmt->renameType == OBJECT_INDEX)
		refuse_index(stmt->relation);
}

void
ivm_own_schema_guard_drop(DropStmt *stmt)
{
	ListCell   *lc;

	if (stmt->removeType != OBJECT_INDEX)
		return;
	foreach(lc, stmt->objects)
		refuse_index(makeRangeVarFromNameList(lfirst_node(List, lc)));
}

void
ivm_own_schema_guard_alter(AlterTableStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, stmt->cmds)
	{
		if (lfirst_node(AlterTableCmd, lc)->subtype == AT_SetAccessMethod)
			refuse_change(internal_relation(stmt->relation));
	}
}

bool
ivm_own_schema_refresh(RefreshMatViewStmt *stmt)
{
	Oid			relid = internal_relation(stmt->relation);

	if (OidIsValid(relid))
		ereport(NOTICE,
				(errmsg("relation \"%s.%s\" is kept by extension \"ivm_ext\", skipping",
						get_namespace_name(get_rel_namespace(relid)), get_rel_name(relid))));
	return OidIsValid(relid);
}

void
ivm_own_schema_restore(IvmStatement *statement)
{
	Node	   *node = statement->pstmt->utilityStmt;
	RangeVar   *view = IsA(node, ViewStmt) ? ((ViewStmt *) node)->view : NULL;
	int			nest_level;

	if (view == NULL || view->schemaname == NULL || strcmp(view->schemaname, "pg_catalog") != 0 ||
		(strncmp(view->relname, "pg_stat_ivm", strlen("pg_stat_ivm")) != 0 &&
		 strncmp(view->relname, "pg_stat_progress_ivm", strlen("pg_stat_progress_ivm")) != 0))
	{
		ivm_statement_execute(statement);
		return;
	}
	nest_level = NewGUCNestLevel();
	(void) set_config_option("allow_system_table_mods", "on", PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	ivm_statement_execute(statement);
	AtEOXact_GUC(true, nest_level);
}
