/*-------------------------------------------------------------------------
 *
 * decoder_memory.c
 *	  When the decoder waits for memory, and what it gives back.
 *
 * The decoder does not read on while the log would go to files: the
 * WAL is the queue.  It does while nobody works on what is in the log, since waiting would help
 * nobody, and while somebody waits for it to reach a position.  It waits between two records,
 * holding nothing, for a second at most, then again after as much as STALL_DISTANCE
 * went to files.  Why nobody can wait in a circle: see memory/README.md.
 *
 * Memory.  The log has an account of its own.  Transactions that are not complete
 * are in PostgreSQL's reorder buffer, up to logical_decoding_work_mem: in this process that is the share
 * which the budget reserves for it.  Before it is full, what is there is decoded, though the transactions are open
 * (ivm_decoder_stream), and held as rows.  Beyond it PostgreSQL writes files of its own: for a row that is larger than half of
 * the share, and for what was open when the decoder started, which it does not give before it has committed.
 * What the limit does not know of is counted beside it: descriptors of transactions and subtransactions, what they
 * wrote to catalogs.  Not counted: the values that were stored out of line, put together again, of the row that is being
 * replayed; and what is read back of each subtransaction that went to files, up to 4096 changes at once.
 *
 * PostgreSQL's memory goes back to the kernel after bursts (ivm_decoder_trim).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "replication/logical.h"
#include "replication/reorderbuffer.h"
#include "replication/snapbuild.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/settings.h"
#include "capture/capture_internal.h"
#include "memory/arena.h"
#include "memory/reclaim.h"
#include "stats/stats.h"

#define STALL_TIME			1000	/* ms, the longest wait for memory */
#define STALL_DISTANCE		((uint64) 8 * 1024 * 1024)	/* bytes to files
														 * between two */
#define TRANSACTION_SIZE	450 /* of the reorder buffer, for each it knows */
#define TUPLECID_SIZE		88	/* for each row of a catalog that one wrote */
#define FORCED_SIZE			((Size) 1024)	/* for tests */
#define LARGE_BUFFER		(1024 * 1024)
#define SMALL_BUFFER		(5 * XLOG_BLCKSZ)

static IvmDatabase *database;

/* Waiting for memory. */
static TimestampTz stalled_since;	/* 0: it does not */
static uint64 stall_disk;		/* not before the log has this on disk, while
								 * it is short */

static XLogRecPtr trimmed_at;	/* place of the last trim */

/* This process is the decoder, and about to begin. */
void
ivm_decoder_memory_start(IvmDatabase *db)
{
	database = db;
	ivm_decoder_settings();
}

/*
 * Is there a reason to read no further now?  The log is short of memory; somebody is
 * working on it, so that there will be more; nobody waits for us.
 */
bool
ivm_decoder_should_stall(bool again)
{
	if (!ivm_log_is_short(database, again))
	{
		stall_disk = 0;
		return false;
	}
	return pg_atomic_read_u64(&database->log_disk) >= stall_disk &&
		pg_atomic_read_u64(&database->wanted) == PG_UINT64_MAX &&
		ivm_log_is_busy(database);
}

static void
end_stall(void)
{
	if (stalled_since == 0)
		return;
	stalled_since = 0;
	pg_atomic_write_u32(&database->stalled, 0);
	ivm_budget_stall_end();
	ivm_stats_worker_state(ivm_log_is_over() ? "delta log at limit" : "running");
}

/*
 * True if the decoder is to wait for memory now: until its latch is set or
 * IVM_STALL_CHECK has passed, then everything is looked at again.
 */
bool
ivm_decoder_must_stall(void)
{
	TimestampTz now;

	if (stalled_since == 0 && !ivm_decoder_should_stall(false))
		return false;

	/* whoever comes after the look that follows sets the latch */
	pg_atomic_write_u32(&database->stalled, 1);
	pg_memory_barrier();
	if (!ivm_decoder_should_stall(true))
	{
		pg_atomic_write_u32(&database->stalled, 0);
		end_stall();
		return false;
	}
	now = GetCurrentTimestamp();
	if (stalled_since == 0)
	{
		stalled_since = now;
		ivm_budget_stall_begin();
		ivm_stats_worker_state("waiting for memory");
	}
	else if (TimestampDifferenceExceeds(stalled_since, now, STALL_TIME))
	{
		/* it did not help: files, for a stretch */
		stall_disk = pg_atomic_read_u64(&database->log_disk) + STALL_DISTANCE;
		end_stall();
		return false;
	}
	return true;
}

/*
 * Called after each record: has what is in the reorder buffer decoded if it fills half of the share.
 *
 * PostgreSQL does that by itself when the whole share is full, but not with a transaction of which the last row is not
 * complete (chunks of a value, an insert that may be taken back): then it writes the largest to a file.  A row's end
 * comes soon, so we choose a moment at which there is enough that is complete.  It is made to look by a message
 * that is queued, which nobody gets, and to find the buffer too full by setting the limit to what must stay for this once.
 */
void
ivm_decoder_stream(LogicalDecodingContext *decoding)
{
	ReorderBuffer *reorder = decoding->reorder;
	bool		forced = ivm_debug_spill[0] != '\0' && ivm_spill_is_forced("log");
	int			share = logical_decoding_work_mem;
	Size		enough = forced ? FORCED_SIZE : (Size) share * 1024 / 2;
	Size		complete = 0;
	ReorderBufferTXN *largest = NULL;
	int			limit;
	dlist_iter	iter;

	if (reorder->size < enough)
		return;
	/* before, what comes was decoded already, by another process, and is not wanted */
	if (SnapBuildCurrentState(decoding->snapshot_builder) < SNAPBUILD_CONSISTENT ||
		SnapBuildXactNeedsSkip(decoding->snapshot_builder, decoding->reader->EndRecPtr))
		return;

	dlist_foreach(iter, &reorder->txns_by_base_snapshot_lsn)
	{
		ReorderBufferTXN *txn = dlist_container(ReorderBufferTXN, base_snapshot_node, iter.cur);

		if (rbtxn_has_partial_change(txn))
			continue;
		complete += txn->total_size;
		if (!txn->concurrent_abort && (largest == NULL || txn->total_size > largest->total_size))
			largest = txn;
	}
	if (largest == NULL || complete < enough / 3)
		return;

	/* what is not complete stays below this, and of small ones some do not go */
	limit = Max((reorder->size - complete) / 1024 + 1, forced ? 0 : share / 4);
	if (reorder->size < (Size) limit * 1024)
		return;
	logical_decoding_work_mem = limit;
	ReorderBufferQueueMessage(reorder, largest->xid, NULL, decoding->reader->ReadRecPtr, true, "", 0, "");
	logical_decoding_work_mem = share;
}

/* Tells the budget what the reorder buffer, and we of open transactions, hold of the share. */
void
ivm_decoder_count_reorder(LogicalDecodingContext *decoding)
{
	static Size counted = 0;
	IvmAccount *account = ivm_budget_account();
	Size		size = decoding->reorder->size + ivm_held_memory();
	dlist_iter	iter;

	if (account == NULL)
		return;
	dlist_foreach(iter, &decoding->reorder->toplevel_by_lsn)
	{
		ReorderBufferTXN *txn = dlist_container(ReorderBufferTXN, node, iter.cur);

		size += (1 + txn->nsubtxns) * TRANSACTION_SIZE + txn->ntuplecids * TUPLECID_SIZE +
			txn->ninvalidations * sizeof(SharedInvalidationMessage);
	}
	if (size > counted)
		ivm_account_force(account, size - counted);
	else
		ivm_account_give(account, counted - size);
	counted = size;
}

/*
 * What follows from settings, and is not looked at each time.  The share of the
 * budget is a part of it that others cannot take: this process's minimum.
 */
void
ivm_decoder_settings(void)
{
	const char *configured = GetConfigOptionResetString("logical_decoding_work_mem");
	Size		share = ivm_budget_decoding_share((Size) pg_strtoint32(configured) * 1024);
	char		kilobytes[32];

	snprintf(kilobytes, sizeof(kilobytes), "%zu", Max(share / 1024, (Size) 64));
	SetConfigOption("logical_decoding_work_mem", kilobytes, PGC_SUSET, PGC_S_SESSION);
	(void) ivm_budget_open(share, true);
	ivm_log_file_reload();
	ivm_log_reload();
}

/*
 * PostgreSQL keeps a buffer as large as the largest record that was read, and one
 * as large as the largest change that went through a file.  Neither holds anything between
 * two records.
 */
static void
shrink_buffers(LogicalDecodingContext *decoding)
{
	XLogReaderState *reader = decoding->reader;
	ReorderBuffer *reorder = decoding->reorder;

	if (reader->readRecordBufSize > LARGE_BUFFER)
	{
		char	   *small = MemoryContextAlloc(GetMemoryChunkContext(reader->readRecordBuf), SMALL_BUFFER);

		pfree(reader->readRecordBuf);
		reader->readRecordBuf = small;
		reader->readRecordBufSize = SMALL_BUFFER;
	}
	if (reorder->outbufsize > LARGE_BUFFER)
	{
		pfree(reorder->outbuf);
		reorder->outbuf = NULL;
		reorder->outbufsize = 0;
	}
}

/* Gives back what the C library holds, if so much was decoded since the last time. */
void
ivm_decoder_trim(LogicalDecodingContext *decoding, XLogRecPtr distance)
{
	if (decoding->reader->EndRecPtr < trimmed_at + distance)
		return;
	trimmed_at = decoding->reader->EndRecPtr;
	shrink_buffers(decoding);
	ivm_arena_process_trim();
}
