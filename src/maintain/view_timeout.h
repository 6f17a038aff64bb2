/*-------------------------------------------------------------------------
 *
 * view_timeout.h
 *	  How long a view's batch may take at all.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_VIEW_TIMEOUT_H
#define IVM_VIEW_TIMEOUT_H

#include "postgres.h"

/*
 * ivm.view_timeout as a session of this role would find it, in ms; 0: no limit.  In a
 * transaction, for all of which it stays what it is at the first question.
 */
extern int	ivm_view_timeout_of(Oid owner);

#endif							/* IVM_VIEW_TIMEOUT_H */
