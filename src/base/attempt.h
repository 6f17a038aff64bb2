/*-------------------------------------------------------------------------
 *
 * attempt.h
 *	  A step that may fail without ending the transaction.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_ATTEMPT_H
#define IVM_ATTEMPT_H

#include "postgres.h"

/*
 * Runs a step in a subtransaction, which is rolled back if the step returns false or raises an
 * error.  Returns the error, in the current context, or NULL.
 */
extern ErrorData *ivm_attempt(bool (*step) (void *), void *argument);

#endif							/* IVM_ATTEMPT_H */
