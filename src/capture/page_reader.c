/*-------------------------------------------------------------------------
 *
 * page_reader.c
 *	  Reading the write-ahead log without polling.
 *
 * The server's own reader for this purpose looks every millisecond whether
 * there is more.  This one waits on the latch, which a commit sets (wake.c).  WAL
 * that was inserted but not flushed, while a part of a record is needed from
 * it, is flushed here: nobody else may have a reason to.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xlogutils.h"
#include "miscadmin.h"

#include "base/settings.h"
#include "capture/capture_internal.h"

int
ivm_page_read(XLogReaderState *state, XLogRecPtr page, int length,
			  XLogRecPtr record, char *buffer)
{
	XLogRecPtr	needed = page + length;
	XLogRecPtr	available;
	TimeLineID	timeline;
	WALReadError error;

	for (;;)
	{
		available = GetFlushRecPtr(&timeline);
		XLogReadDetermineTimeline(state, page, length, timeline);
		if (state->currTLI != timeline)
		{
			/* from before a promotion: all of that timeline is there */
			available = state->currTLIValidUntil;
			break;
		}
		if (needed <= available)
			break;
		CHECK_FOR_INTERRUPTS();
		if (needed <= ivm_wal_end())
			XLogFlush(needed);
		else
			ivm_decoder_sleep(available, Min(ivm_naptime, 1000));
	}

	if (needed > available)
		return -1;
	if (!WALRead(state, buffer, page, XLOG_BLCKSZ, state->currTLI, &error))
		WALReadRaiseError(&error);
	return Min(available - page, XLOG_BLCKSZ);
}
