/*-------------------------------------------------------------------------
 *
 * ailing.h
 *	  Views in state error, as an apply worker watches them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_AILING_H
#define IVM_AILING_H

#include "postgres.h"

#include "nodes/pg_list.h"

#include "capture/capture.h"

/* These (rows of ivm.view) are the ones that this worker watches from now on. */
extern void ivm_ailing_set(IvmDatabase *capture, List *rows);

/* Are there any? */
extern bool ivm_ailing_any(void);

/* Does one of them read the table? */
extern bool ivm_ailing_reads(Oid table);

/* The table changed, as the log says: those that read it are tried soon. */
extern void ivm_ailing_touched(Oid table);

/* Tells what has happened since the last call; outside of transactions. */
extern void ivm_ailing_tell(void);

#endif							/* IVM_AILING_H */
