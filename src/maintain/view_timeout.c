/*-------------------------------------------------------------------------
 *
 * view_timeout.c
 *	  How long a view's batch may take at all.
 *
 * ivm.view_timeout is a setting of the view's owner: ALTER ROLE ... SET, perhaps IN
 * DATABASE, or of the database, or of the configuration file, in the order in which
 * they count for a session of his.  (A materialized view's own parameters are those of
 * heap, so it cannot be one of them.)  Our processes are another role's, so it is read
 * from the catalog, in which nothing tells of a change: in each transaction anew, since what begins
 * without a limit may never end; once for all views of an owner, by at most four probes of an index.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_db_role_setting.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/rel.h"

#include "base/settings.h"
#include "maintain/view_timeout.h"

#define SETTING		"ivm.view_timeout"
#define MAX_OWNERS	256			/* then they are asked anew */

typedef struct OwnerTimeout
{
	Oid			owner;			/* hash key */
	int			timeout;
	LocalTransactionId lxid;	/* that read it */
} OwnerTimeout;

/* Takes the setting out of an array of "name=value"; false if it is not there. */
static bool
find_setting(ArrayType *settings, int *result)
{
	Datum	   *elements;
	int			count;
	bool		found = false;

	deconstruct_array(settings, TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL, &count);
	for (int i = 0; i < count && !found; i++)
	{
		char	   *setting = TextDatumGetCString(elements[i]);

		found = pg_strncasecmp(setting, SETTING "=", strlen(SETTING "=")) == 0 &&
			parse_int(setting + strlen(SETTING "="), result, GUC_UNIT_MS, NULL);
		pfree(setting);
	}
	return found;
}

static bool
read_setting(Relation relation, Oid database, Oid role, int *result)
{
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found = false;

	ScanKeyInit(&keys[0], Anum_pg_db_role_setting_setdatabase, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(database));
	ScanKeyInit(&keys[1], Anum_pg_db_role_setting_setrole, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(role));
	scan = systable_beginscan(relation, DbRoleSettingDatidRolidIndexId, true, NULL, 2, keys);
	tuple = systable_getnext(scan);
	if (tuple != NULL)
	{
		bool		isnull;
		Datum		settings = heap_getattr(tuple, Anum_pg_db_role_setting_setconfig,
											RelationGetDescr(relation), &isnull);

		found = !isnull && find_setting(DatumGetArrayTypeP(settings), result);
	}
	systable_endscan(scan);
	return found;
}

int
ivm_view_timeout_of(Oid owner)
{
	static HTAB *owners = NULL;
	HASHCTL		control = {.keysize = sizeof(Oid),.entrysize = sizeof(OwnerTimeout)};
	OwnerTimeout *entry;
	Relation	relation;
	int			timeout = ivm_view_timeout;

	if (owners == NULL)
		owners = hash_create("ivm view timeouts", 16, &control, HASH_ELEM | HASH_BLOBS);
	entry = hash_search(owners, &owner, HASH_FIND, NULL);
	if (entry != NULL && entry->lxid == MyProc->lxid)
		return entry->timeout;

	relation = table_open(DbRoleSettingRelationId, AccessShareLock);
	if (!read_setting(relation, MyDatabaseId, owner, &timeout) &&
		!read_setting(relation, InvalidOid, owner, &timeout) &&
		!read_setting(relation, MyDatabaseId, InvalidOid, &timeout))
		(void) read_setting(relation, InvalidOid, InvalidOid, &timeout);
	table_close(relation, AccessShareLock);

	if (entry == NULL && hash_get_num_entries(owners) >= MAX_OWNERS)
	{
		hash_destroy(owners);
		owners = hash_create("ivm view timeouts", 16, &control, HASH_ELEM | HASH_BLOBS);
	}
	entry = hash_search(owners, &owner, HASH_ENTER, NULL);
	entry->timeout = timeout;
	entry->lxid = MyProc->lxid;
	return timeout;
}
