/*-------------------------------------------------------------------------
 *
 * ivm_ext.c
 *	  Loads the extension.
 *
 * Everything is set up while the postmaster loads its preload libraries:
 * shared memory, settings, hooks, the launcher.  A library that is loaded
 * later (by one of its functions, because shared_preload_libraries does not
 * name it) sets up nothing; its functions say what is missing.  pg_upgrade
 * loads it to see whether it can be; there the answer is given at once, before
 * anything has been restored.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"

#include "base/settings.h"
#include "compile/compile.h"
#include "ddl/ddl.h"
#include "process/request.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
	{
		if (IsBinaryUpgrade)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("ivm_ext must be loaded via shared_preload_libraries"),
					 errhint("Add ivm_ext to shared_preload_libraries of the new cluster.")));
		return;
	}
	ivm_settings_define();
	ivm_worker_init();
	ivm_compile_init();
	ivm_ddl_init();
	ivm_statement_syntax_init();
}
