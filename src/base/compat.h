/*-------------------------------------------------------------------------
 *
 * compat.h
 *	  Differences between the versions of PostgreSQL, one block each.
 *
 * A block says which version changed what, and gives the newest signature a
 * name with "_compat" that all of ours can call.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_COMPAT_H
#define IVM_COMPAT_H

#include "postgres.h"

#include "access/htup_details.h"

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 190000
#error "ivm_ext needs PostgreSQL 15, 16, 17 or 18"
#endif

/*
 * 16 moved the macros for variable-length values out of postgres.h.
 */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/*
 * 18 gave heap_form_minimal_tuple room for the caller's own bytes in front of
 * the tuple.
 */
#if PG_VERSION_NUM >= 180000
#define heap_form_minimal_tuple_compat(desc, values, isnull, extra) \
	heap_form_minimal_tuple(desc, values, isnull, extra)
#else
#define heap_form_minimal_tuple_compat(desc, values, isnull, extra) \
	(AssertMacro((extra) == 0), heap_form_minimal_tuple(desc, values, isnull))
#endif

#endif							/* IVM_COMPAT_H */
