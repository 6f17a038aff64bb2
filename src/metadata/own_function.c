/*-------------------------------------------------------------------------
 *
 * own_function.c
 *	  Functions of the extension that expressions of ours call.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type_d.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

#include "metadata/metadata.h"

Oid
ivm_row_hash_function(void)
{
	Oid			argument = RECORDOID;
	oidvector  *arguments = buildoidvector(&argument, 1);
	Oid			function;

	function = GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid,
							   CStringGetDatum("row_hash"),
							   PointerGetDatum(arguments),
							   ObjectIdGetDatum(get_namespace_oid(IVM_SCHEMA, false)));
	if (!OidIsValid(function))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function ivm.row_hash(record) does not exist"),
				 errhint("Drop and create the extension \"ivm_ext\".")));
	pfree(arguments);
	return function;
}
