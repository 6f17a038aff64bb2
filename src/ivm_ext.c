/*-------------------------------------------------------------------------
 *
 * ivm_ext.c
 *	  Loads the extension.
 *
 * Everything is set up while the postmaster loads its preload libraries:
 * shared memory, settings, hooks, the launcher.  A library that is loaded
 * later (by one of its functions, because shared_preload_libraries does not
 * name it) sets up nothing; its functions say what is missing.
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
		return;
	ivm_settings_define();
	ivm_worker_init();
	ivm_compile_init();
	ivm_ddl_init();
	ivm_statement_syntax_init();
}
