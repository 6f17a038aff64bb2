/*-------------------------------------------------------------------------
 *
 * settings.c
 *	  The extension's configuration parameters.
 *
 * What a parameter is for stands in its description, which is what SHOW ALL
 * and pg_settings print.  Here is why each can be changed when it can:
 *
 *	apply_workers		at server start only.  Who maintains which view follows
 *						from the number, and all processes have to agree on it.
 *	intervals, naptime,
 *	sizes of memory and
 *	log					by reload: the processes look at them each time.
 *	view_timeout		by anybody, for a role or a database of his, as statement_timeout;
 *						in a session it does nothing.
 *	fallback, refresh,
 *	materialized_views,
 *	statement_syntax	by anybody, for a session: they concern its statements.
 *	debug_...			by superusers: an armed point can stop a process.
 *	debug_hash_bits		at server start only, and only in a debug build: hashes are
 *						stored, and have to be the same for all processes.
 *
 * The default of memory_budget is a quarter of shared_buffers, which are known
 * by the time the library is loaded, and at least 64 MB.
 *
 * ivm.debug_points is defined here with its checks in debug_point.c, so that
 * all parameters stand together.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "miscadmin.h"
#include "utils/guc.h"

#include "base/debug_point.h"
#include "base/settings.h"

#define MINIMUM_BUDGET	65536	/* kB */

int			ivm_apply_workers = 2;
int			ivm_batch_interval = 3;
int			ivm_batch_patience = 500;
int			ivm_view_timeout = 0;
int			ivm_flush_interval = 3;
int			ivm_naptime = 10000;
int			ivm_memory_budget = 65536;
int			ivm_delta_log_memory = 65536;
int			ivm_delta_log_limit = 16 * 1024 * 1024;
int			ivm_cache_memory = 4096;
int			ivm_fallback = IVM_FALLBACK_RECOMPUTE;
int			ivm_refresh = IVM_REFRESH_SYNC;
bool		ivm_materialized_views = false;
bool		ivm_statement_syntax = true;
char	   *ivm_debug_points = NULL;
char	   *ivm_debug_spill = NULL;
double		ivm_debug_alloc_failures = 0;
bool		ivm_debug_check_old = false;
#ifdef IVM_DEBUG
int			ivm_debug_hash_bits = 64;
#endif

static const struct config_enum_entry fallback_options[] = {
	{"recompute", IVM_FALLBACK_RECOMPUTE, false},
	{"error", IVM_FALLBACK_ERROR, false},
	{NULL, 0, false}
};

static const struct config_enum_entry refresh_options[] = {
	{"sync", IVM_REFRESH_SYNC, false},
	{"rebuild", IVM_REFRESH_REBUILD, false},
	{NULL, 0, false}
};

/*
 * Defines every parameter and reserves the prefix "ivm", so that a misspelt
 * name in postgresql.conf is reported.  To be called once, while the server
 * loads shared_preload_libraries: ivm.apply_workers cannot be defined later.
 */
void
ivm_settings_define(void)
{
	DefineCustomIntVariable("ivm.apply_workers",
							"Number of processes in each database that apply changes to incremental views.",
							NULL,
							&ivm_apply_workers,
							2, 1, 32,
							PGC_POSTMASTER, 0,
							NULL, NULL, NULL);

	DefineCustomIntVariable("ivm.batch_interval",
							"Average time between two batches of an apply worker under load.",
							"A longer interval makes each batch larger and cheaper for a row, and views older.",
							&ivm_batch_interval,
							3, 0, 60000,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);

	DefineCustomIntVariable("ivm.batch_patience",
							"Time that a view's part of a batch may take while other views wait for it.",
							"A view that takes longer is maintained by a process for slow views.  0 turns this off.",
							&ivm_batch_patience,
							500, 0, 3600000,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);

	DefineCustomIntVariable("ivm.view_timeout",
							"Time that a view's part of a batch, or its rebuild, may take at all.",
							"The value of the view's owner counts, or else the database's.  0 turns this off.",
							&ivm_view_timeout,
							0, 0, INT_MAX,
							PGC_USERSET, GUC_UNIT_MS,
							NULL, NULL, NULL);

	DefineCustomIntVariable("ivm.flush_interval",
							"Least time between two flushes of asynchronously committed WAL by the decoder.",
							"Concerns transactions with synchronous_commit off, which become visible before their WAL is flushed.",
							&ivm_flush_interval,
							3, 0, 60000,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);

	DefineCustomIntVariable("ivm.naptime",
							"Longest sleep of a process that has nothing to do.",
							"Changes wake the processes at once; this is for what nobody tells them.",
							&ivm_naptime,
							10000, 10, 3600000,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);

	DefineCustomIntVariable("ivm.memory_budget",
							"Memory for all processes that maintain incremental views, in all databases.",
							"What does not fit is written to temporary files.",
							&ivm_memory_budget,
							Max(MINIMUM_BUDGET, NBuffers / 4 * (BLCKSZ / 1024)), 1024, MAX_KILOBYTES,
							PGC_SIGHUP, GUC_UNIT_KB,
							NULL, NULL, NULL);

	DefineCustomIntVariable("ivm.cache_memory",
							"Most memory for rows that joins look up often, for each apply worker.",
							"It is part of ivm.memory_budget.  0 turns the cache off.",
							&ivm_cache_memory,
							4096, 0, MAX_KILOBYTES,
							PGC_SIGHUP, GUC_UNIT_KB,
							NULL, NULL, NULL);

	DefineCustomIntVariable("ivm.delta_log_memory",
							"Most memory for decoded changes that wait to be applied, for each database.",
							"What does not fit is written to temporary files.",
							&ivm_delta_log_memory,
							65536, 64, MAX_KILOBYTES,
							PGC_SIGHUP, GUC_UNIT_KB,
							NULL, NULL, NULL);

	DefineCustomIntVariable("ivm.delta_log_limit",
							"Size of each database's decoded changes in temporary files from which on its views are rebuilt instead.",
							NULL,
							&ivm_delta_log_limit,
							16 * 1024 * 1024, 1024, MAX_KILOBYTES,
							PGC_SIGHUP, GUC_UNIT_KB,
							NULL, NULL, NULL);

	DefineCustomEnumVariable("ivm.fallback",
							 "What to do with a part of a view's query that cannot be maintained by deltas.",
							 "\"recompute\" evaluates the part anew when its input changes, \"error\" refuses the view.",
							 &ivm_fallback,
							 IVM_FALLBACK_RECOMPUTE, fallback_options,
							 PGC_USERSET, 0,
							 NULL, NULL, NULL);

	DefineCustomEnumVariable("ivm.refresh",
							 "What REFRESH MATERIALIZED VIEW does with an incremental view that is maintained.",
							 "\"sync\" waits until the view contains everything committed before, \"rebuild\" computes it anew.",
							 &ivm_refresh,
							 IVM_REFRESH_SYNC, refresh_options,
							 PGC_USERSET, 0,
							 NULL, NULL, NULL);

	DefineCustomBoolVariable("ivm.materialized_views",
							 "Makes incremental views of materialized views that are created without USING, where that can be done.",
							 NULL,
							 &ivm_materialized_views,
							 false,
							 PGC_USERSET, 0,
							 NULL, NULL, NULL);

	DefineCustomBoolVariable("ivm.statement_syntax",
							 "Accepts CREATE, ALTER, DROP and REFRESH INCREMENTAL VIEW.",
							 NULL,
							 &ivm_statement_syntax,
							 true,
							 PGC_USERSET, 0,
							 NULL, NULL, NULL);

	DefineCustomStringVariable("ivm.debug_points",
							   "Places in the code at which processes wait or fail, for tests.",
							   "A list of name=action; actions are wait, error, io, fatal and panic.",
							   &ivm_debug_points,
							   "",
							   PGC_SUSET, GUC_NOT_IN_SAMPLE,
							   ivm_debug_points_check, ivm_debug_points_assign, NULL);

	DefineCustomStringVariable("ivm.debug_spill",
							   "What is written to temporary files as early as possible, for tests.",
							   "A list of log, zset, aggregate, lookup and output.",
							   &ivm_debug_spill,
							   "",
							   PGC_SUSET, GUC_NOT_IN_SAMPLE | GUC_LIST_INPUT,
							   NULL, NULL, NULL);

	DefineCustomRealVariable("ivm.debug_alloc_failures",
							 "Share of allocations in arenas that fail, for tests.",
							 NULL,
							 &ivm_debug_alloc_failures,
							 0, 0, 1,
							 PGC_SUSET, GUC_NOT_IN_SAMPLE,
							 NULL, NULL, NULL);

	DefineCustomBoolVariable("ivm.debug_check_old",
							 "Checks that no row was there less than zero times before a batch, for tests.",
							 "A batch that finds one fails.",
							 &ivm_debug_check_old,
#ifdef IVM_DEBUG
							 true,
#else
							 false,
#endif
							 PGC_SUSET, GUC_NOT_IN_SAMPLE,
							 NULL, NULL, NULL);

#ifdef IVM_DEBUG
	DefineCustomIntVariable("ivm.debug_hash_bits",
							"Bits that are left of the hashes of rows and keys, for tests.",
							"It has to stay the same as long as there are incremental views.",
							&ivm_debug_hash_bits,
							64, 1, 64,
							PGC_POSTMASTER, GUC_NOT_IN_SAMPLE,
							NULL, NULL, NULL);
#endif

	MarkGUCPrefixReserved("ivm");
}
