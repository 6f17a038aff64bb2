/*-------------------------------------------------------------------------
 *
 * roles.c
 *	  The roles whose rights decide what a plan reads.
 *
 * Which policies are somebody's, whether he is above them, and what he may read
 * at all goes by the roles that he is a member of, and by attributes of all of
 * these on the way.  It is looked at when a plan is made.  Roles are made and
 * granted all the time on some servers, hardly ever with anything to do with a
 * view; so before a plan is made again for that, it is asked whether anything is
 * another than before.
 *
 * Memory: results in the current context.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_auth_members.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "common/hashfn.h"
#include "compile/compiler.h"
#include "miscadmin.h"
#include "utils/catcache.h"
#include "utils/syscache.h"

List *
ivm_statement_roles(PlannedStmt *statement, Oid owner)
{
	List	   *roles = list_make1_oid(owner);
	ListCell   *lc;

	foreach(lc, statement->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if (OidIsValid(rte->checkAsUser))
			roles = list_append_unique_oid(roles, rte->checkAsUser);
	}
	return roles;
}

List *
ivm_roles_with_granted(List *roles)
{
	ListCell   *lc;

	/* the list grows while it is read */
	roles = list_copy(roles);
	foreach(lc, roles)
	{
		CatCList   *list = SearchSysCacheList1(AUTHMEMMEMROLE, ObjectIdGetDatum(lfirst_oid(lc)));

		for (int i = 0; i < list->n_members; i++)
			roles = list_append_unique_oid(roles, ((Form_pg_auth_members) GETSTRUCT(&list->members[i]->tuple))->roleid);
		ReleaseSysCacheList(list);
	}
	return roles;
}

static uint64
hash_numbers(uint64 a, uint64 b)
{
	uint64		numbers[2] = {a, b};

	return DatumGetUInt64(hash_any_extended((unsigned char *) numbers, sizeof(numbers), 0));
}

/* What decides of one role, and of whom it is a member: a sum, since these come in any order. */
static uint64
hash_role(Oid role)
{
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(role));
	CatCList   *list;
	uint64		result;

	if (!HeapTupleIsValid(tuple))
		return 0;
	result = DatumGetUInt64(hash_any_extended((unsigned char *) GETSTRUCT(tuple),
											  offsetof(FormData_pg_authid, rolcreaterole), 0));
	result += hash_numbers(role, ((Form_pg_authid) GETSTRUCT(tuple))->rolbypassrls);
	ReleaseSysCache(tuple);

	list = SearchSysCacheList1(AUTHMEMMEMROLE, ObjectIdGetDatum(role));
	for (int i = 0; i < list->n_members; i++)
		result += hash_numbers(role, ((Form_pg_auth_members) GETSTRUCT(&list->members[i]->tuple))->roleid);
	ReleaseSysCacheList(list);
	return result;
}

uint64
ivm_roles_hash(List *roles)
{
	HeapTuple	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(MyDatabaseId));
	uint64		result = 0;
	ListCell   *lc;

	/* a database's owner is a member of pg_database_owner */
	if (HeapTupleIsValid(tuple))
	{
		result = hash_numbers(((Form_pg_database) GETSTRUCT(tuple))->datdba, 0);
		ReleaseSysCache(tuple);
	}
	roles = ivm_roles_with_granted(roles);
	foreach(lc, roles)
		result += hash_role(lfirst_oid(lc));
	list_free(roles);
	return result;
}
