/*-------------------------------------------------------------------------
 *
 * settings.h
 *	  The extension's configuration parameters.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_SETTINGS_H
#define IVM_SETTINGS_H

#include "postgres.h"

typedef enum IvmFallback
{
	IVM_FALLBACK_RECOMPUTE,
	IVM_FALLBACK_ERROR
} IvmFallback;

typedef enum IvmRefresh
{
	IVM_REFRESH_SYNC,
	IVM_REFRESH_REBUILD
} IvmRefresh;

extern int	ivm_apply_workers;	/* processes per database */
extern int	ivm_batch_patience; /* ms; 0: no limit */
extern int	ivm_view_timeout;	/* ms; 0: no limit; see ivm_view_timeout_of() */
extern int	ivm_batch_interval; /* ms between batches under load */
extern int	ivm_flush_interval; /* ms between flushes of asynchronous commits */
extern int	ivm_naptime;		/* ms, the longest sleep of an idle process */
extern int	ivm_memory_budget;	/* kB, for all processes of the cluster */
extern int	ivm_delta_log_limit;	/* kB of the log in files, a database */
extern int	ivm_delta_log_memory;	/* kB of the log held in memory, a
									 * database */
extern int	ivm_cache_memory;	/* kB, an apply worker */
extern int	ivm_fallback;		/* an IvmFallback */
extern int	ivm_refresh;		/* an IvmRefresh */
extern bool ivm_materialized_views;
extern bool ivm_statement_syntax;
extern char *ivm_debug_points;
extern char *ivm_debug_spill;
extern double ivm_debug_alloc_failures; /* 0 to 1 */
extern bool ivm_debug_check_old;	/* see dataflow/probe.c */
#ifdef IVM_DEBUG
extern int	ivm_debug_hash_bits;	/* what is left of the hashes of rows and
									 * keys */
#endif

/* Defines all of the above; called once, while the server starts. */
extern void ivm_settings_define(void);

#endif							/* IVM_SETTINGS_H */
