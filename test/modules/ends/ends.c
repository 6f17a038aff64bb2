/*-------------------------------------------------------------------------
 *
 * ends.c
 *	  A function that ends the process that calls it, if that is one of the server's own.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(ends);

/*
 * ends(integer) returns integer: 2 calls exit(), 3 is a fatal error, all others are
 * returned.
 */
Datum
ends(PG_FUNCTION_ARGS)
{
	int32		how = PG_GETARG_INT32(0);

	if (IsBackgroundWorker && how == 2)
		exit(0);
	if (IsBackgroundWorker && how == 3)
		ereport(FATAL, (errmsg("this is the end")));
	PG_RETURN_INT32(how);
}
