/*-------------------------------------------------------------------------
 *
 * base_table.c
 *	  The tables that incremental views read.
 *
 * A view is maintained from the old and new rows that the WAL holds, and the WAL holds
 * complete old rows only under REPLICA IDENTITY FULL.  So every table gets it
 * when a view over it is made, and also one that later becomes a partition or
 * a child of such a table; taking it away again, or the WAL itself (SET UNLOGGED), is refused
 * while a view reads the table.
 *
 * The identity takes an ACCESS EXCLUSIVE lock for a moment.  Whoever waits for one in the queue makes
 * everybody after him wait as well, readers too, for as long as a transaction that was there before likes to
 * stay open.  So it is waited for in short tries.  What a try locked is let go when it fails, so that two
 * statements that want the same tables do not wait for each other, but a block may have locks of
 * earlier statements: there each try looks for deadlocks.
 *
 * Which views read a table is asked of pg_depend: rules of views depend on
 * what their queries name.  A table that is read only through the body of a
 * SQL function has no such dependency; it is not guarded, but its identity is part of the
 * view's fingerprint, so that the view does not become silently stale.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_rewrite.h"
#include "commands/tablecmds.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "storage/sinvaladt.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/attempt.h"
#include "ddl/statement.h"
#include "metadata/metadata.h"

#define LOCK_TRY		100		/* ms that others may have to queue behind us */
#define LOCK_PAUSE		300		/* ms between two tries */
#define LOCK_REPORT		2000	/* ms until the client is told */

static char *
qualified_name(Oid relid)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
									  get_rel_name(relid));
}

/* True if the relation is one that needs REPLICA IDENTITY FULL and lacks it. */
static bool
lacks_identity(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Form_pg_class form;
	bool		result;

	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_class) GETSTRUCT(tuple);
	result = (form->relkind == RELKIND_RELATION || form->relkind == RELKIND_MATVIEW) &&
		form->relreplident != REPLICA_IDENTITY_FULL;
	ReleaseSysCache(tuple);
	return result;
}

static int
compare_oid(const ListCell *a, const ListCell *b)
{
	Oid			x = lfirst_oid(a);
	Oid			y = lfirst_oid(b);

	return (x > y) - (x < y);
}

List *
ivm_base_table_identities(IvmPlan *plan)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, plan->relids)
	{
		Oid			relid = lfirst_oid(lc);

		if (!lacks_identity(relid))
			continue;
		if (!pg_class_ownercheck(relid, GetUserId()))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("cannot read the changes of table \"%s\"", get_rel_name(relid)),
					 errdetail("The table does not have REPLICA IDENTITY FULL, and only its owner can give it."),
					 errhint("Ask the owner to run: ALTER TABLE %s REPLICA IDENTITY FULL;",
							 qualified_name(relid))));
		result = list_append_unique_oid(result, relid);
	}
	list_sort(result, compare_oid);
	return result;
}

static void
set_identities(List *relids)
{
	ListCell   *lc;

	foreach(lc, relids)
	{
		Oid			relid = lfirst_oid(lc);
		AlterTableCmd *cmd;
		ReplicaIdentityStmt *identity;

		CHECK_FOR_INTERRUPTS();
		if (!lacks_identity(relid))
			continue;
		identity = makeNode(ReplicaIdentityStmt);
		identity->identity_type = REPLICA_IDENTITY_FULL;
		cmd = makeNode(AlterTableCmd);
		cmd->subtype = AT_ReplicaIdentity;
		cmd->def = (Node *) identity;
		AlterTableInternal(relid, list_make1(cmd), false);
		ereport(NOTICE,
				(get_rel_relkind(relid) == RELKIND_MATVIEW ?
				 errmsg("materialized view \"%s\" gets REPLICA IDENTITY FULL", get_rel_name(relid)) :
				 errmsg("table \"%s\" gets REPLICA IDENTITY FULL", get_rel_name(relid)),
				 errdetail("An incremental view needs the old rows of the table in the WAL.")));
		CommandCounterIncrement();
	}
}

static void
set_local(const char *name, int ms)
{
	(void) set_config_option(name, psprintf("%dms", ms), PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

/* Locks all of them, or gives up after a moment. */
static bool
lock_tables(void *argument)
{
	List	   *relids = argument;
	int			nest_level = NewGUCNestLevel();
	ListCell   *lc;

	if (LockTimeout == 0 || LockTimeout > LOCK_TRY)
		set_local("lock_timeout", LOCK_TRY);
	/* others may wait for a lock that this transaction had before */
	set_local("deadlock_timeout", LOCK_TRY / 2);
	foreach(lc, relids)
		if (lacks_identity(lfirst_oid(lc)))
			LockRelationOid(lfirst_oid(lc), AccessExclusiveLock);
	AtEOXact_GUC(false, nest_level);
	return true;
}

bool
ivm_base_table_try_identities(List *relids, IvmLockTries *tries)
{
	ErrorData  *error;

	if (tries->started == 0)
		tries->started = GetCurrentTimestamp();
	error = ivm_attempt(lock_tables, relids);
	if (error == NULL)
	{
		set_identities(relids);
		return true;
	}
	if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE ||
		(LockTimeout > 0 && TimestampDifferenceExceeds(tries->started, GetCurrentTimestamp(), LockTimeout)))
		ThrowErrorData(error);
	FreeErrorData(error);
	return false;
}

/* Says who has these tables. */
static void
report_holders(List *relids)
{
	StringInfoData pids;
	int			n = 0;
	ListCell   *lc;

	initStringInfo(&pids);
	foreach(lc, relids)
	{
		Oid			relid = lfirst_oid(lc);
		LOCKTAG		tag;
		VirtualTransactionId *holders;
		int			count;
		char	   *name = get_rel_name(relid);

		if (name == NULL || !lacks_identity(relid))
			continue;
		SET_LOCKTAG_RELATION(tag, MyDatabaseId, relid);
		holders = GetLockConflicts(&tag, AccessExclusiveLock, &count);
		if (count == 0)
			continue;
		resetStringInfo(&pids);
		n = 0;
		for (int i = 0; i < count; i++)
		{
			PGPROC	   *proc = holders[i].backendId == InvalidBackendId ? NULL :
			BackendIdGetProc(holders[i].backendId);

			if (proc != NULL)
				appendStringInfo(&pids, "%s%d", n++ > 0 ? ", " : "", proc->pid);
		}
		ereport(NOTICE,
				(errmsg("waiting for a lock on \"%s\"", name),
				 n > 0 ? errdetail_plural("Process %s has it in use.", "Processes %s have it in use.", n, pids.data) :
				 errdetail("Prepared transactions have it in use, see pg_prepared_xacts.")));
	}
	pfree(pids.data);
}

void
ivm_base_table_pause(List *relids, IvmLockTries *tries)
{
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), LOCK_PAUSE);
	long		left;

	if (!tries->reported && TimestampDifferenceExceeds(tries->started, GetCurrentTimestamp(), LOCK_REPORT))
	{
		tries->reported = true;
		report_holders(relids);
	}
	while ((left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), end)) > 0)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, left, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

void
ivm_base_table_set_identities(List *relids)
{
	IvmLockTries tries = {0};

	if (relids == NIL)
		return;
	while (!ivm_base_table_try_identities(relids, &tries))
		ivm_base_table_pause(relids, &tries);
}


/* ---- who reads a table ---- */

/* Adds the views whose rules depend on the relation. */
static List *
add_readers(List *relations, Relation depend, Relation rewrite, Oid relid)
{
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(RelationRelationId));
	ScanKeyInit(&key[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(depend, DependReferenceIndexId, true, NULL, 2, key);
	while ((tuple = systable_getnext(scan)) != NULL)
	{
		Form_pg_depend form = (Form_pg_depend) GETSTRUCT(tuple);
		ScanKeyData rule_key;
		SysScanDesc rule_scan;
		HeapTuple	rule;

		CHECK_FOR_INTERRUPTS();
		if (form->classid != RewriteRelationId)
			continue;
		ScanKeyInit(&rule_key, Anum_pg_rewrite_oid, BTEqualStrategyNumber, F_OIDEQ,
					ObjectIdGetDatum(form->objid));
		rule_scan = systable_beginscan(rewrite, RewriteOidIndexId, true, NULL, 1, &rule_key);
		while ((rule = systable_getnext(rule_scan)) != NULL)
			relations = list_append_unique_oid(relations, ((Form_pg_rewrite) GETSTRUCT(rule))->ev_class);
		systable_endscan(rule_scan);
	}
	systable_endscan(scan);
	return relations;
}

/* Adds the parents of the relation, whether by partitioning or by inheritance. */
static List *
add_parents(List *relations, Relation inherits, Oid relid)
{
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_inherits_inhrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(inherits, InheritsRelidSeqnoIndexId, true, NULL, 1, &key);
	while ((tuple = systable_getnext(scan)) != NULL)
		relations = list_append_unique_oid(relations, ((Form_pg_inherits) GETSTRUCT(tuple))->inhparent);
	systable_endscan(scan);
	return relations;
}

Oid
ivm_base_table_view(Oid relid)
{
	List	   *relations = list_make1_oid(relid);
	Relation	depend = table_open(DependRelationId, AccessShareLock);
	Relation	rewrite = table_open(RewriteRelationId, AccessShareLock);
	Relation	inherits = table_open(InheritsRelationId, AccessShareLock);
	Oid			result = InvalidOid;

	/* the list grows while it is walked */
	for (int i = 0; i < list_length(relations); i++)
	{
		Oid			current = list_nth_oid(relations, i);

		CHECK_FOR_INTERRUPTS();
		if (current != relid && ivm_relation_is_incremental(current))
		{
			/* of several the oldest, so that messages do not depend on chance */
			result = OidIsValid(result) ? Min(result, current) : current;
			continue;
		}
		switch (get_rel_relkind(current))
		{
			case RELKIND_RELATION:
			case RELKIND_PARTITIONED_TABLE:
			case RELKIND_FOREIGN_TABLE:
				relations = add_parents(relations, inherits, current);
				relations = add_readers(relations, depend, rewrite, current);
				break;
			case RELKIND_VIEW:
				relations = add_readers(relations, depend, rewrite, current);
				break;
			case RELKIND_MATVIEW:

				/*
				 * what reads a plain materialized view does not read its
				 * tables
				 */
				if (current == relid)
					relations = add_readers(relations, depend, rewrite, current);
				break;
			default:
				break;
		}
	}
	table_close(inherits, AccessShareLock);
	table_close(rewrite, AccessShareLock);
	table_close(depend, AccessShareLock);
	list_free(relations);
	return result;
}

void
ivm_base_table_guard(Oid relid, AlterTableStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, stmt->cmds)
	{
		AlterTableCmd *cmd = lfirst_node(AlterTableCmd, lc);
		const char *what;
		char		relkind;
		Oid			view;

		if (cmd->subtype == AT_SetUnLogged)
			what = gettext_noop("cannot make table \"%s\" unlogged");
		else if (cmd->subtype == AT_ReplicaIdentity &&
				 ((ReplicaIdentityStmt *) cmd->def)->identity_type != REPLICA_IDENTITY_FULL)
			what = gettext_noop("cannot change the replica identity of table \"%s\"");
		else
			continue;
		relkind = get_rel_relkind(relid);
		if ((relkind != RELKIND_RELATION && relkind != RELKIND_MATVIEW) ||
			ivm_relation_is_incremental(relid) ||
			!pg_class_ownercheck(relid, GetUserId()))	/* the server says so */
			continue;

		/* a CREATE that is reading the table now shall be seen */
		LockRelationOid(relid, AccessExclusiveLock);
		view = ivm_base_table_view(relid);
		if (OidIsValid(view))
			ereport(ERROR,
					(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
					 errmsg(what, get_rel_name(relid)),
					 errdetail("Incremental view \"%s\" is maintained from the changes of the table.",
							   get_rel_name(view)),
					 errhint("Drop the view first, or use ALTER MATERIALIZED VIEW %s SET ACCESS METHOD heap to end its maintenance.",
							 qualified_name(view))));
	}
}

/*
 * A view over a tree reads the new member's tables from now on.  What cannot
 * be read is refused here rather than stopping the view.
 */
void
ivm_base_table_joined(Oid relid)
{
	Oid			view = ivm_base_table_view(relid);
	List	   *members;
	List	   *identities = NIL;
	ListCell   *lc;

	if (!OidIsValid(view))
		return;
	members = find_all_inheritors(relid, AccessShareLock, NULL);
	foreach(lc, members)
	{
		Oid			member = lfirst_oid(lc);
		char		relkind = get_rel_relkind(member);

		if (relkind == RELKIND_FOREIGN_TABLE ||
			get_rel_persistence(member) != RELPERSISTENCE_PERMANENT)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("cannot add table \"%s\" to a tree that incremental view \"%s\" reads",
							get_rel_name(member), get_rel_name(view)),
					 relkind == RELKIND_FOREIGN_TABLE ?
					 errdetail("Changes of a foreign table are not in the WAL.") :
					 errdetail("Changes of a temporary or unlogged table are not in the WAL."),
					 errhint("Use a permanent, logged table.")));
		if (lacks_identity(member))
			identities = lappend_oid(identities, member);
	}
	list_sort(identities, compare_oid);
	ivm_base_table_set_identities(identities);
}
