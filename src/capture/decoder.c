/*-------------------------------------------------------------------------
 *
 * decoder.c
 *	  The decoder's life: from the slot to the end of the WAL, and back to sleep.
 *
 * The decoder reads the WAL up to what is flushed, and sleeps when there is no
 * more: a commit wakes it (wake.c), otherwise it looks again after ivm.naptime, or, while the WAL grows without commits
 * (transactions that are open write it), or may grow since somebody has begun to write, after LOOK_DELAY.
 * Between two records, so between two transactions, it
 *
 *	-	takes over what was registered, and acknowledges it as soon as every
 *		transaction that it decoded before is visible (registry.c);
 *	-	confirms the slot up to what all cursors allow, never further, and not at
 *		all while there is no persistent cursor;
 *	-	stops reading while the log is full and nobody reads it;
 *	-	stops for a while when the log would go to files: the WAL is the queue.
 *		Not while nobody works on what is in the log, which would help nobody,
 *		and not while somebody waits for it to reach a position; a second at
 *		most, then again after as much as STALL_DISTANCE went to files.
 *
 * With synchronous_commit = off a transaction is visible before it is flushed,
 * and its callback leaves a hint how far to flush.  The decoder does so, at
 * most once in ivm.flush_interval.
 *
 * What was decoded before.  A transaction's commit record can be older than
 * the start of decoding while the transaction still runs for all others: it
 * waits for a standby, or for a processor.  It will not be decoded.  So at the
 * start the list of those to wait for is filled with the transactions that run
 * and are marked as committed.  A backend that has written its commit record
 * but not yet that mark delays checkpoints meanwhile, for a similar reason;
 * the decoder lets those pass first.  This covers a new slot too, whose own
 * making has waited for the transactions that had not committed.
 *
 * The process never writes to the database: its decoding context is made
 * outside of any transaction, so its xid would be left out of every snapshot.
 *
 * After an error the process ends, and the launcher starts another, with a new
 * log.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "replication/decode.h"
#include "replication/logical.h"
#include "replication/slot.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/debug_point.h"
#include "base/in_hand.h"
#include "base/settings.h"
#include "capture/capture_internal.h"
#include "memory/budget.h"
#include "memory/reclaim.h"
#include "stats/stats.h"

#define RECORDS_AT_ONCE		1000	/* between two looks at everything else */
#define VISIBILITY_DELAY	10	/* ms, between looks for lack of a wake-up */
#define REPORT_DELAY		200 /* ms, between reports to the statistics */
#define BUSY_WAKE_DELAY		100 /* ms, between wake-ups of consumers while
								 * behind */
#define LOOK_DELAY			200 /* ms, between looks while the WAL grows */
#define REST_DELAY			1000	/* ms without anything to decode */
#define TRIM_DISTANCE		((XLogRecPtr) 4 * 1024 * 1024)	/* of WAL, between trims */
#define BUSY_TRIM_DISTANCE	((XLogRecPtr) 64 * 1024 * 1024)
#define NEAR_END			((XLogRecPtr) 16 * 1024)
#define FIRST_COMMITTED		256

static IvmDatabase *database;
static LogicalDecodingContext *decoding;
static ResourceOwner owner;
static MemoryContext loop_context;

/* Decoded transactions that may not be visible yet, in order. */
static TransactionId *committed;
static int	ncommitted;
static int	committed_size;
static bool prune_wanted;

/* The acknowledgement under way. */
static uint64 taken;			/* generation in force */
static bool acknowledging;		/* and not acknowledged yet, for the sake of
								 * ... */
static int	nbefore;			/* ... the first so many of "committed" */

static bool wake_wanted;		/* something was published for the consumers */
static TimestampTz last_busy_wake;
static XLogRecPtr suspect_position; /* where a predecessor died; invalid: none
									 * did, or we are past it */
static TimestampTz last_flush;
static TimestampTz last_report;
static bool position_changed;

static TimestampTz idle_since;	/* 0: it is not, or has let go of everything */

/* ---- what happens to decoded transactions ---- */

/* Forgets those that are visible now; keeps the order. */
static void
prune_committed(void)
{
	int			kept = 0;
	int			kept_before = 0;

	for (int i = 0; i < ncommitted; i++)
		if (TransactionIdIsInProgress(committed[i]))
		{
			committed[kept++] = committed[i];
			if (i < nbefore)
				kept_before++;
		}
	ncommitted = kept;
	nbefore = kept_before;
	prune_wanted = false;
}

/* Called by the plugin for every transaction that it has decoded, with rows or without. */
void
ivm_decoder_committed(TransactionId xid, TimestampTz time)
{
	if ((uint64) time > pg_atomic_read_u64(&database->decoded_time))
		pg_atomic_write_u64(&database->decoded_time, (uint64) time);
	if (ncommitted == committed_size)
	{
		/* the main loop prunes after each record, so that this is rare */
		committed_size *= 2;
		committed = repalloc(committed, committed_size * sizeof(TransactionId));
	}
	committed[ncommitted++] = xid;
	if (ncommitted >= committed_size / 2)
		prune_wanted = true;
}

ResourceOwner
ivm_decoder_owner(void)
{
	return owner;
}

/* Called by the plugin when it has published a transaction. */
void
ivm_decoder_has_rows(void)
{
	wake_wanted = true;
}

/*
 * Takes over what was registered since, and tells those who wait for it as soon
 * as everything decoded before that is visible.  One generation after the other.
 */
static void
acknowledge(void)
{
	for (;;)
	{
		if (!acknowledging)
		{
			if (pg_atomic_read_u64(&database->generation) == taken)
				return;
			taken = ivm_registry_load(database);
			ivm_tracked_registry_changed();
			ivm_held_find_incomplete();
			nbefore = ncommitted;
			acknowledging = true;
		}
		prune_committed();
		if (nbefore > 0)
			return;
		acknowledging = false;
		pg_atomic_write_u64(&database->acknowledged, taken);
		ConditionVariableBroadcast(&database->acknowledged_changed);
	}
}

/*
 * Remembers the transactions that committed before decoding starts, but run for
 * everybody else.
 */
static void
remember_earlier_commits(void)
{
	VirtualTransactionId *committing;
	int			ncommitting;
	Snapshot	snapshot;

	committing = GetVirtualXIDsDelayingChkpt(&ncommitting, DELAY_CHKPT_START);
	while (ncommitting > 0 &&
		   HaveVirtualXIDsDelayingChkpt(committing, ncommitting, DELAY_CHKPT_START))
	{
		CHECK_FOR_INTERRUPTS();
		pg_usleep(1000L);
	}
	pfree(committing);

	StartTransactionCommand();
	snapshot = GetTransactionSnapshot();
	for (uint32 i = 0; i < snapshot->xcnt; i++)
		if (TransactionIdDidCommit(snapshot->xip[i]))
			ivm_decoder_committed(snapshot->xip[i], 0);
	CommitTransactionCommand();
}

/* ---- sleeping ---- */

/*
 * Sleeps until somebody wakes the decoder, or the time is over; not at all if
 * there is more flushed than "upto".  Called by the page reader too.
 */
void
ivm_decoder_sleep(XLogRecPtr upto, long timeout_ms)
{
	pg_atomic_write_u32(&database->sleeping, 1);
	pg_memory_barrier();
	if (GetFlushRecPtr(NULL) <= upto)
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 timeout_ms, PG_WAIT_EXTENSION);
	pg_atomic_write_u32(&database->sleeping, 0);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* Does something else wait to be done, that came after we looked? */
static bool
has_work(void)
{
	pg_atomic_write_u32(&database->sleeping, 1);
	pg_memory_barrier();
	return pg_atomic_read_u64(&database->commit_hint) > GetFlushRecPtr(NULL) ||
		ivm_lag_is_noted_in_vain(database) ||
		(!acknowledging && pg_atomic_read_u64(&database->generation) != taken);
}

/* Waits without asking to be woken by commits. */
static void
pause_for(long timeout_ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 timeout_ms, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* ---- the main loop's parts ---- */

static void
wake_readers(void)
{
	if (!wake_wanted)
		return;
	ivm_wake_consumers(database, PG_UINT64_MAX);
	wake_wanted = false;
}

/*
 * Decodes some records, as far as the WAL is flushed.  False if there are none.
 */
static bool
decode(void)
{
	XLogRecPtr	flushed = GetFlushRecPtr(NULL);
	bool		did = false;

	if (decoding->reader->EndRecPtr >= flushed)
	{
		ivm_lag_caught_up(database);
		return false;
	}
	for (int i = 0; i < RECORDS_AT_ONCE && decoding->reader->EndRecPtr < flushed; i++)
	{
		char	   *error = NULL;
		XLogRecPtr	end;

		ivm_in_hand_decode(decoding->reader->EndRecPtr);
		/* the reader allocates what it keeps in the current context */
		MemoryContextSwitchTo(decoding->context);
		if (XLogReadRecord(decoding->reader, &error) != NULL)
		{
			LogicalDecodingProcessRecord(decoding, decoding->reader);
			ivm_decoder_stream(decoding);
		}
		else
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("could not read WAL at %X/%X: %s",
							LSN_FORMAT_ARGS(decoding->reader->EndRecPtr),
							error != NULL ? error : "no record")));
		/* replaying a transaction leaves others behind */
		MemoryContextSwitchTo(loop_context);
		CurrentResourceOwner = owner;
		did = true;

		/* before the slot's position nothing is decoded, and all is known */
		end = decoding->reader->EndRecPtr;
		if (end > pg_atomic_read_u64(&database->decoded))
			ivm_wake_position_reached(database, end);
		if (suspect_position != InvalidXLogRecPtr && end > suspect_position)
		{
			ivm_suspect_clear(MyDatabaseId, InvalidOid);
			suspect_position = InvalidXLogRecPtr;
		}

		if (prune_wanted)
		{
			prune_committed();
			if (ncommitted > committed_size / 4)
			{
				committed_size *= 2;
				committed = repalloc(committed, committed_size * sizeof(TransactionId));
			}
		}
		if (wake_wanted && end + NEAR_END >= flushed)
			wake_readers();
		CHECK_FOR_INTERRUPTS();
		if (!acknowledging && pg_atomic_read_u64(&database->generation) != taken)
			break;
		if (ivm_decoder_should_stall(false))
			break;
	}
	ivm_in_hand_end();
	position_changed |= did;

	/* far behind: let the readers begin nevertheless */
	if (wake_wanted)
	{
		TimestampTz now = GetCurrentTimestamp();

		if (TimestampDifferenceExceeds(last_busy_wake, now, BUSY_WAKE_DELAY))
		{
			last_busy_wake = now;
			wake_readers();
		}
	}
	return did;
}

/* Confirms the slot up to what all cursors allow. */
static void
confirm(void)
{
	XLogRecPtr	lsn;
	XLogRecPtr	decoded = pg_atomic_read_u64(&database->decoded);
	XLogRecPtr	restart = MyReplicationSlot->data.restart_lsn;

	if (!ivm_cursor_confirmable(database, &lsn))
		return;
	lsn = Min(lsn, decoded);
	if (lsn <= pg_atomic_read_u64(&database->confirmed))
		return;

	ivm_debug_point("decoder-before-confirm");
	LogicalConfirmReceivedLocation(lsn);
	pg_atomic_write_u64(&database->confirmed, lsn);
	if (MyReplicationSlot->data.restart_lsn != restart)
	{
		pg_atomic_write_u64(&database->restart, MyReplicationSlot->data.restart_lsn);
		ReplicationSlotsComputeRequiredLSN();
	}
}

/*
 * Flushes what is visible but not flushed, unless that was done a moment ago.
 * Returns how long to wait before, 0 if it was done, -1 if there is nothing.
 */
static long
flush(void)
{
	XLogRecPtr	hint = pg_atomic_read_u64(&database->commit_hint);
	TimestampTz now;
	long		wait;

	if (hint <= GetFlushRecPtr(NULL))
		return -1;
	now = GetCurrentTimestamp();
	wait = ivm_flush_interval - TimestampDifferenceMilliseconds(last_flush, now);
	if (wait > 0)
		return Min(wait, ivm_flush_interval);
	XLogFlush(hint);
	last_flush = now;
	return 0;
}

/*
 * Tells the statistics.  Returns false if it is too early to do so.
 */
static bool
report(void)
{
	TimestampTz now = GetCurrentTimestamp();
	char		name[NAMEDATALEN];
	Size		memory;
	Size		disk;

	if (!TimestampDifferenceExceeds(last_report, now, REPORT_DELAY))
		return false;
	last_report = now;
	position_changed = false;

	ivm_decoder_count_reorder(decoding);
	ivm_incomplete_prune(database);
	memory = pg_atomic_read_u64(&database->log_memory);
	disk = pg_atomic_read_u64(&database->log_disk);
	ivm_replication_slot_name(MyDatabaseId, name);
	/* who sees the position sees the rest as it was there, or later */
	ivm_stats_worker_slot(name, pg_atomic_read_u64(&database->restart), memory, disk);
	ivm_stats_worker_report(pg_atomic_read_u64(&database->decoded),
							pg_atomic_read_u64(&database->confirmed));
	(void) pgstat_report_stat(false);
	return true;
}

/* ---- begin and end ---- */

static void
decoder_exit(int code, Datum argument)
{
	LWLockAcquire(&database->lock, LW_EXCLUSIVE);
	database->decoder_procno = -1;
	database->decoder_pid = 0;
	LWLockRelease(&database->lock);
	pg_atomic_write_u32(&database->sleeping, 0);
	pg_atomic_write_u32(&database->dozing, 0);
	pg_atomic_write_u32(&database->stalled, 0);
	pg_atomic_write_u32(&database->state, IVM_DECODER_STOPPED);
	ivm_held_stop();
	ivm_log_stop(database);
	ConditionVariableBroadcast(&database->acknowledged_changed);
	ConditionVariableBroadcast(&database->decoded_changed);
}

/*
 * Gives back what is not needed now when there has been nothing to decode for a second.
 * Returns when to come again.
 */
static long
rest(void)
{
	TimestampTz now = GetCurrentTimestamp();

	if (idle_since == 0)
		return PG_INT32_MAX;
	if (!TimestampDifferenceExceeds(idle_since, now, REST_DELAY))
		return TimestampDifferenceMilliseconds(now, TimestampTzPlusMilliseconds(idle_since, REST_DELAY)) + 1;
	idle_since = 0;
	ivm_held_rest();
	ivm_log_rest();
	ivm_log_reload();
	ivm_decoder_trim(decoding, TRIM_DISTANCE);
	position_changed = true;
	return PG_INT32_MAX;
}

/* Takes the slot, starts the log and the decoding. */
static void
begin(void)
{
	pg_atomic_write_u32(&database->state, IVM_DECODER_STARTING);
	before_shmem_exit(decoder_exit, (Datum) 0);
	LWLockAcquire(&database->lock, LW_EXCLUSIVE);
	database->decoder_procno = MyProc->pgprocno;
	database->decoder_pid = MyProcPid;
	LWLockRelease(&database->lock);

	ivm_log_file_start();
	ivm_database_attach(database);
	ivm_plugin_start(database);

	database->slot_is_new = ivm_replication_slot_take(database);
	if (database->slot_is_new)
		ivm_lag_lost(database);
	CurrentResourceOwner = owner;
	pg_atomic_write_u64(&database->confirmed, MyReplicationSlot->data.confirmed_flush);
	pg_atomic_write_u64(&database->restart, MyReplicationSlot->data.restart_lsn);

	suspect_position = ivm_suspect_position(MyDatabaseId);
	remember_earlier_commits();
	MemoryContextSwitchTo(TopMemoryContext);
	CurrentResourceOwner = owner;

	taken = ivm_registry_load(database);
	nbefore = ncommitted;
	acknowledging = true;
	ivm_log_start(database, MyReplicationSlot->data.confirmed_flush);

	ivm_decoder_memory_start(database);
	MemoryContextSwitchTo(TopMemoryContext);
	decoding = ivm_replication_slot_decode();
	pg_atomic_write_u32(&database->state, IVM_DECODER_RUNNING);
	ivm_stats_worker_state("running");

	/* Whoever reads must come over to the new log. */
	ivm_wake_consumers(database, PG_UINT64_MAX);
	ConditionVariableBroadcast(&database->decoded_changed);
}

void
ivm_decoder_run(IvmDatabase *db)
{
	database = db;
	loop_context = AllocSetContextCreate(TopMemoryContext, "ivm decoder", ALLOCSET_DEFAULT_SIZES);
	owner = ResourceOwnerCreate(NULL, "ivm decoder");
	committed_size = FIRST_COMMITTED;
	committed = MemoryContextAlloc(TopMemoryContext, committed_size * sizeof(TransactionId));

	MemoryContextSwitchTo(TopMemoryContext);
	CurrentResourceOwner = owner;
	begin();
	MemoryContextSwitchTo(loop_context);

	for (;;)
	{
		long		wait;
		long		timeout;
		long		until_rest;
		bool		dozing;

		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(loop_context);
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			ivm_decoder_settings();
		}
		acknowledge();
		confirm();
		ivm_log_next_transaction();
		ivm_log_give_back(database);
		if (ivm_budget_asked())
		{
			ivm_log_yield();
			ivm_decoder_trim(decoding, 0);
			ivm_give_back();
		}

		if (ivm_log_is_short(database, false) && !ivm_log_has_readers(database))
		{
			pause_for(acknowledging ? VISIBILITY_DELAY : Min(ivm_naptime, 1000));
			continue;
		}
		if (ivm_decoder_must_stall())
		{
			pause_for(IVM_STALL_CHECK);
			continue;
		}
		if (decode())
		{
			idle_since = GetCurrentTimestamp();
			if (TimestampDifferenceExceeds(last_report, idle_since, 5 * REPORT_DELAY))
			{
				(void) report();
				ivm_decoder_trim(decoding, BUSY_TRIM_DISTANCE);
			}
			continue;
		}

		wake_readers();
		wait = flush();
		if (wait == 0)
			continue;
		if (wait > 0)
		{
			pause_for(wait);
			continue;
		}

		timeout = ivm_naptime;
		if (position_changed && !report())
			timeout = Min(timeout, REPORT_DELAY);
		if (acknowledging)
			timeout = Min(timeout, VISIBILITY_DELAY);
		until_rest = rest();
		timeout = Min(timeout, until_rest);
		/* nobody tells of what open transactions write, but of the first of it */
		dozing = idle_since == 0;
		if (!dozing)
			timeout = Min(timeout, LOOK_DELAY);
		pg_atomic_write_u32(&database->dozing, dozing);
		/* who comes after this look finds the flag up, and sets the latch */
		if (!has_work())
			ivm_decoder_sleep(decoding->reader->EndRecPtr, timeout);
		if (dozing && pg_atomic_exchange_u32(&database->dozing, 0) == 0)
			idle_since = GetCurrentTimestamp();
	}
}

/* ---- what others want to know ---- */

IvmDecoderState
ivm_decoder_state(IvmDatabase *db)
{
	return (IvmDecoderState) pg_atomic_read_u32(&db->state);
}

void
ivm_decoder_status(IvmDatabase *db, IvmDecoderStatus *status)
{
	ivm_database_attach(db);
	LWLockAcquire(&db->lock, LW_SHARED);
	status->state = (IvmDecoderState) pg_atomic_read_u32(&db->state);
	status->pid = db->decoder_pid;
	status->slot_is_new = db->slot_is_new;
	status->log_memory = pg_atomic_read_u64(&db->log_memory);
	status->log_disk = pg_atomic_read_u64(&db->log_disk);
	LWLockRelease(&db->lock);
	status->decoded_lsn = pg_atomic_read_u64(&db->decoded);
	status->confirmed_lsn = pg_atomic_read_u64(&db->confirmed);
	status->restart_lsn = pg_atomic_read_u64(&db->restart);
	status->transactions = pg_atomic_read_u64(&db->transactions);
	status->rows = pg_atomic_read_u64(&db->rows);
}
