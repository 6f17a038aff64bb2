/*-------------------------------------------------------------------------
 *
 * wake.c
 *	  Who wakes whom.
 *
 * A commit wakes the decoder, if it sleeps, and the consumers that wait for
 * decoded transactions to become visible; the callback runs when the transaction
 * has left the list of the running.  The decoder wakes the consumers when it has
 * published rows, and whoever waits for a position.
 *
 * A transaction that is decoded while it is written is not heard of before its commit.  While the WAL grows the decoder
 * looks by itself; when nothing has come for a while it dozes, and the first statement that writes tells it to look again.
 *
 * Each flag that says "wake me" is set by the sleeper before it looks a last
 * time, and read by the other after the event, with a barrier between: either
 * the sleeper sees the event or the other sees the flag.
 *
 * What it costs a session: a look at a few words of shared memory for a commit
 * that wrote WAL, what lag.c says, and a SetLatch for the first commit after the
 * decoder went to sleep; a look at a word for a statement that writes, and a SetLatch for the first
 * after the decoder began to doze.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "port/pg_bitutils.h"
#include "replication/origin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/timestamp.h"

#include "capture/capture_internal.h"

/* So many bytes of WAL are "a few records". */
#define NEAR_END	((XLogRecPtr) 16 * 1024)

static IvmDatabase *consumer_database;	/* where this process is a consumer */
static int	consumer_number;
static ExecutorStart_hook_type previous_executor_start = NULL;

static void
set_latch_of(int procno)
{
	if (procno >= 0)
		SetLatch(&ProcGlobal->allProcs[procno].procLatch);
}

static void
committed(XactEvent event, void *argument)
{
	static XLogRecPtr last_end = InvalidXLogRecPtr;
	IvmDatabase *database;
	uint64		pending;

	if (event != XACT_EVENT_COMMIT || XactLastCommitEnd == last_end)
		return;
	last_end = XactLastCommitEnd;

	/* Our own writes to views are not decoded. */
	if (replorigin_session_origin == DoNotReplicateId)
		return;
	database = ivm_database_mine();
	if (database == NULL)
		return;

	ivm_lag_committed(database, XactLastCommitEnd);
	if (synchronous_commit <= SYNCHRONOUS_COMMIT_OFF)
		ivm_raise(&database->commit_hint, XactLastCommitEnd);
	ivm_wake_decoder(database);

	pending = pg_atomic_read_u64(&database->pending);
	if (pending != 0)
		ivm_wake_consumers(database, pending);
	if (pg_atomic_read_u64(&database->watching) != 0)
		ivm_wake_consumers(database, pg_atomic_exchange_u64(&database->watching, 0));
}

void
ivm_wake_writes(void)
{
	IvmDatabase *database = ivm_database_mine();

	if (database == NULL || pg_atomic_read_u32(&database->dozing) == 0 ||
		replorigin_session_origin == DoNotReplicateId)
		return;
	if (pg_atomic_exchange_u32(&database->dozing, 0) != 0)
		set_latch_of(database->decoder_procno);
}

static void
executor_start(QueryDesc *query, int flags)
{
	if (query->operation != CMD_SELECT)
		ivm_wake_writes();
	if (previous_executor_start)
		previous_executor_start(query, flags);
	else
		standard_ExecutorStart(query, flags);
}

void
ivm_wake_init(void)
{
	previous_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = executor_start;
	RegisterXactCallback(committed, NULL);
}

/* Wakes the decoder if it sleeps.  Only the first of many does the work. */
void
ivm_wake_decoder(IvmDatabase *database)
{
	pg_memory_barrier();
	if (pg_atomic_read_u32(&database->sleeping) != 0 &&
		pg_atomic_exchange_u32(&database->sleeping, 0) != 0)
		set_latch_of(database->decoder_procno);
}

/* The same if it waits for memory: some was freed, or somebody waits for it. */
void
ivm_wake_stalled_decoder(IvmDatabase *database)
{
	pg_memory_barrier();
	if (pg_atomic_read_u32(&database->stalled) != 0 &&
		pg_atomic_exchange_u32(&database->stalled, 0) != 0)
		set_latch_of(database->decoder_procno);
}

void
ivm_wake_consumers(IvmDatabase *database, uint64 which)
{
	which &= pg_atomic_read_u64(&database->consumers);
	while (which != 0)
	{
		int			number = pg_rightmost_one_pos64(which);

		which &= which - 1;
		set_latch_of(database->consumer[number].procno);
	}
}

/*
 * Consumers
 */

static void
consumer_exit(int code, Datum argument)
{
	IvmConsumerShared *consumer = &consumer_database->consumer[consumer_number];
	uint64		mask = ~(UINT64CONST(1) << consumer_number);

	LWLockAcquire(&consumer_database->lock, LW_EXCLUSIVE);
	if (consumer->pid == MyProcPid)
	{
		pg_atomic_fetch_and_u64(&consumer_database->consumers, mask);
		pg_atomic_fetch_and_u64(&consumer_database->pending, mask);
		pg_atomic_fetch_and_u64(&consumer_database->watching, mask);
		consumer->procno = -1;
		consumer->pid = 0;
	}
	LWLockRelease(&consumer_database->lock);
}

void
ivm_wake_register_consumer(IvmDatabase *database, int number)
{
	IvmConsumerShared *consumer = &database->consumer[number];

	if (number < 0 || number >= IVM_MAX_CONSUMERS)
		elog(ERROR, "invalid consumer number %d", number);
	Assert(consumer_database == NULL || consumer_database == database);
	if (consumer_database == NULL)
		before_shmem_exit(consumer_exit, (Datum) 0);
	consumer_database = database;
	consumer_number = number;

	LWLockAcquire(&database->lock, LW_EXCLUSIVE);
	consumer->procno = MyProc->pgprocno;
	consumer->pid = MyProcPid;
	/* the builder, the last of them, tells of its lag by itself */
	if (number < IVM_MAX_CONSUMERS - 1 && pg_atomic_read_u32(&database->nnoted) <= number)
		pg_atomic_write_u32(&database->nnoted, number + 1);
	pg_atomic_fetch_and_u64(&database->pending, ~(UINT64CONST(1) << number));
	pg_atomic_fetch_or_u64(&database->consumers, UINT64CONST(1) << number);
	LWLockRelease(&database->lock);
}

/* What this process has registered as. */
int
ivm_wake_consumer_number(void)
{
	Assert(consumer_database != NULL);
	return consumer_number;
}

void
ivm_wake_set_pending(IvmDatabase *database, int number, bool pending)
{
	uint64		bit = UINT64CONST(1) << number;

	/* full barriers, both */
	if (pending)
		pg_atomic_fetch_or_u64(&database->pending, bit);
	else
		pg_atomic_fetch_and_u64(&database->pending, ~bit);
}

bool
ivm_wake_watch(IvmDatabase *database, int number)
{
	uint64		bit = UINT64CONST(1) << number;

	return (pg_atomic_fetch_or_u64(&database->watching, bit) & bit) == 0;
}

void
ivm_wake_mute(IvmDatabase *database, int number, bool mute)
{
	uint64		bit = UINT64CONST(1) << number;

	if (mute)
		pg_atomic_fetch_and_u64(&database->consumers, ~bit);
	else
		pg_atomic_fetch_or_u64(&database->consumers, bit);
}

/*
 * Positions
 */

XLogRecPtr
ivm_wal_end(void)
{
	XLogRecPtr	result = GetXLogInsertRecPtr();

	/*
	 * At the start of a page this is the place after the page's header, which
	 * is not there yet.  No record ends there: one that reaches into a page
	 * has at least a byte in it.
	 */
	if (XLogSegmentOffset(result, wal_segment_size) == SizeOfXLogLongPHD)
		result -= SizeOfXLogLongPHD;
	else if (result % XLOG_BLCKSZ == SizeOfXLogShortPHD)
		result -= SizeOfXLogShortPHD;
	return result;
}

/* The decoder has decoded up to there. */
void
ivm_wake_position_reached(IvmDatabase *database, XLogRecPtr decoded)
{
	pg_atomic_write_u64(&database->decoded, decoded);
	ivm_lag_decoded(database, decoded);
	pg_memory_barrier();
	if (decoded >= pg_atomic_read_u64(&database->wanted))
	{
		/* those who want more say so again */
		pg_atomic_exchange_u64(&database->wanted, PG_UINT64_MAX);
		ConditionVariableBroadcast(&database->decoded_changed);
	}
}

bool
ivm_decoder_wait(IvmDatabase *database, XLogRecPtr lsn, long timeout_ms)
{
	TimestampTz deadline = 0;
	bool		reached = false;

	if (pg_atomic_read_u64(&database->decoded) >= lsn)
		return true;
	if (timeout_ms >= 0)
		deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);
	if (GetFlushRecPtr(NULL) < lsn)
		XLogFlush(lsn);

	ConditionVariablePrepareToSleep(&database->decoded_changed);
	for (;;)
	{
		uint64		wanted = pg_atomic_read_u64(&database->wanted);
		long		left = 0;

		while (wanted > lsn && !pg_atomic_compare_exchange_u64(&database->wanted, &wanted, lsn))
			;
		pg_memory_barrier();
		reached = pg_atomic_read_u64(&database->decoded) >= lsn;
		if (reached)
			break;
		if (timeout_ms >= 0)
		{
			left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);
			if (left <= 0)
				break;
		}
		ivm_wake_decoder(database);
		ivm_wake_stalled_decoder(database);
		if (timeout_ms >= 0)
			(void) ConditionVariableTimedSleep(&database->decoded_changed, left, PG_WAIT_EXTENSION);
		else
			ConditionVariableSleep(&database->decoded_changed, PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
	return reached;
}

bool
ivm_decoder_is_near_end(IvmDatabase *database)
{
	if (pg_atomic_read_u64(&database->decoded) + NEAR_END >= GetFlushRecPtr(NULL))
		return true;

	/*
	 * it may be sleeping over what others than sessions of this database
	 * wrote
	 */
	ivm_wake_decoder(database);
	return false;
}
