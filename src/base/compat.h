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

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 160000
#error "ivm_ext needs PostgreSQL 15"
#endif

/*
 * 16 moved the macros for variable-length values out of postgres.h.
 */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/*
 * Until 16 the address of its context stood in front of each chunk of memory,
 * so that it could be asked of any readable address whether one begins there.
 */
#if PG_VERSION_NUM < 160000
#define chunk_begins_compat(pointer, context) \
	((const char *) MAXALIGN(pointer) == (const char *) (pointer) && \
	 memcmp((const char *) (pointer) - sizeof(void *), &(context), sizeof(void *)) == 0)
#else
#define chunk_begins_compat(pointer, context) false
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

/*
 * 17 lets LockHeldByMe ask for stronger modes, too.
 */
#if PG_VERSION_NUM >= 170000
#define lock_held_by_me_compat(tag, lockmode) LockHeldByMe(tag, lockmode, false)
#else
#define lock_held_by_me_compat(tag, lockmode) LockHeldByMe(tag, lockmode)
#endif

/*
 * 16 gave a name to the top-level transaction of a (sub)transaction that is
 * being decoded.
 */
#if PG_VERSION_NUM >= 160000
#define rbtxn_toptxn_compat(txn) rbtxn_get_toptxn(txn)
#else
#define rbtxn_toptxn_compat(txn) ((txn)->toptxn != NULL ? (txn)->toptxn : (txn))
#endif

#endif							/* IVM_COMPAT_H */
