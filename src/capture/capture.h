/*-------------------------------------------------------------------------
 *
 * capture.h
 *	  From the write-ahead log to the delta log: what other layers use.
 *
 * Every database that has incremental views has one IvmDatabase in shared
 * memory.  Its decoder appends transactions to the delta log; consumers (the
 * apply workers and the builder) read it, each with a cursor.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_CAPTURE_H
#define IVM_CAPTURE_H

#include "postgres.h"

#include "access/htup_details.h"
#include "access/xlogdefs.h"
#include "datatype/timestamp.h"
#include "nodes/bitmapset.h"
#include "nodes/pg_list.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"
#include "utils/snapshot.h"

#include "memory/budget.h"

typedef struct IvmDatabase IvmDatabase;

/* ---- shared memory (database.c) ---- */

/*
 * Each entry has room for "more" bytes of the layer that moves the states of databases.  "lock" guards which
 * entries are in use, and all of that room.
 */
extern Size ivm_capture_shmem_size(Size more);
extern void ivm_capture_shmem_init(Size more, LWLock *lock);

/* The entries by number, whether they are in use or not; the room behind each; whose it is (InvalidOid: nobody's). */
extern int	ivm_database_count(void);
extern IvmDatabase *ivm_database_entry(int number);
extern int	ivm_database_number(IvmDatabase *database);
extern void *ivm_database_more(IvmDatabase *database);
extern Oid	ivm_database_oid(IvmDatabase *database);

/* The database's entry, or NULL.  "find" is called with the lock held, "get" takes it. */
extern IvmDatabase *ivm_database_find(Oid dboid);
extern IvmDatabase *ivm_database_get(Oid dboid);

/* Takes a free entry for the database, which has none; NULL if none is free.  Lock held exclusively. */
extern IvmDatabase *ivm_database_take(Oid dboid);

/* Lets everything go that the capture keeps of a database: all its processes have ended. */
extern void ivm_database_empty(IvmDatabase *database);

/* The entry, which was emptied, is free.  Lock held exclusively. */
extern void ivm_database_release(IvmDatabase *database);

/* Attach this process to the database's dynamic shared memory; idempotent. */
extern void ivm_database_attach(IvmDatabase *database);

/* ---- registry: which tables and columns are decoded (registry.c) ---- */

/*
 * Adds tables and the columns needed of them (all if "attributes" is NULL) to
 * what is decoded, for the consumer that this process is registered as (ivm_wake_register_consumer), which
 * holds them from then on.  Returns the generation that the decoder has
 * to reach.  Attribute 0 in the set means that every change is of interest: an
 * update that changes none of the registered columns is left out otherwise.
 */
extern uint64 ivm_registry_add(IvmDatabase *database, Oid relid, Bitmapset *attributes);

/*
 * This consumer lets go of the tables that it holds and that are not needed any more (of all if there is no
 * function to ask); what nobody holds is not decoded any more.  The function raises no error and takes no lock.
 */
extern void ivm_registry_retain(IvmDatabase *database, bool (*is_needed) (Oid relid, void *argument), void *argument);

/*
 * Returns when every transaction that commits from now on
 * will be decoded with the registered tables, and every transaction decoded
 * before is visible to a snapshot taken after the return.  Must be called
 * without a transaction, or in one that has no xid and holds no lock or
 * snapshot.  Waits on the latch with interrupts served.
 */
extern void ivm_registry_wait(IvmDatabase *database, uint64 generation);

/* The same for who cannot wait: asks for a generation of his own, and looks later whether it is acknowledged. */
extern uint64 ivm_registry_ask(IvmDatabase *database);
extern bool ivm_registry_is_acknowledged(IvmDatabase *database, uint64 generation);

/*
 * Does a transaction run that was decoded in part before a table that this consumer holds was registered as it is?
 * Asked when the registration is acknowledged: ivm_registry_wait() does not wait for such transactions, the others do.
 */
extern bool ivm_registry_is_incomplete(IvmDatabase *database);


/* ---- cursors and reading (delta_log.c) ---- */

typedef struct IvmCursor IvmCursor; /* backend-local handle of a shared cursor
									 * slot */

/*
 * A cursor at the oldest transaction still in the log.  The decoder keeps
 * what is at or after a cursor's position and confirms nothing past its
 * "confirm" position (InvalidXLogRecPtr initially: nothing may be confirmed;
 * PG_UINT64_MAX: this cursor never holds confirmation up).
 *
 * A persistent cursor outlives its process, so that what it holds stays held
 * until a successor takes it over by name (also the same process again: position oldest in
 * the log, confirm invalid again, so that nothing more is confirmed until it is set anew):
 * the launcher makes those of the apply workers before it starts the decoder.
 * Needs no dynamic shared memory attached to be made.  Others are released at process exit
 * at the latest.  While a database has no persistent cursor nothing is confirmed.
 */
extern IvmCursor *ivm_cursor_create(IvmDatabase *database, const char *name, bool persistent);

/* Forgets a persistent cursor of that name, if there is one. */
extern void ivm_cursor_drop(IvmDatabase *database, const char *name);
extern void ivm_cursor_release(IvmCursor *cursor);

typedef struct IvmLogTxn
{
	uint64		fxid;			/* top-level transaction, 64 bits */
	XLogRecPtr	commit_lsn;		/* start of the commit record */
	XLogRecPtr	end_lsn;		/* end of the commit record */
	TimestampTz commit_time;
	uint64		sequence;		/* its number in the log, ascending */
} IvmLogTxn;

typedef enum IvmLogRecordKind
{
	IVM_LOG_ROW,
	IVM_LOG_TRUNCATE,			/* or changed in an unknown way */
	IVM_LOG_LOST				/* the change had no room in the log */
} IvmLogRecordKind;

typedef struct IvmLogRecord
{
	IvmLogRecordKind kind;
	Oid			relid;
	int64		weight;			/* +1, -1 */
	uint32		layout;			/* of the tuple: ivm_row_layout, of the table
								 * as it was then */
	MinimalTuple tuple;			/* in the log or the reader's buffer: good
								 * until the next call */
} IvmLogRecord;

/* Snapshot of the log's end, for a batch: reads stop there. */
typedef struct IvmLogEnd
{
	uint64		sequence;		/* transactions with smaller numbers are
								 * complete in the log */
	XLogRecPtr	decoded_lsn;	/* everything that ends at or before it has
								 * been decoded */
	uint64		incarnation;	/* of the log; changes with each decoder
								 * process */
} IvmLogEnd;

extern IvmLogEnd ivm_log_end(IvmDatabase *database);

/* What the log holds in memory. */
extern IvmAccount *ivm_log_account(IvmDatabase *database);

/* A number that changes with each transaction that is published; may be called in a signal handler. */
extern uint64 ivm_log_transactions(IvmDatabase *database);

/*
 * Start reading at the cursor's position.  Returns false if the log was begun
 * anew by another decoder since the last call (the cursor then stands at its
 * beginning, and decoded_lsn may have gone back), or since the cursor was
 * made, or if there is no log.  A batch takes ivm_log_end first and rewinds
 * after: if that is true, the end is one of the log that is read, which stays
 * whole and readable until the next call, whatever becomes of its decoder.
 */
extern bool ivm_log_rewind(IvmCursor *cursor);

/* The next complete transaction, or false at the end of what is published.  Skips unread records. */
extern bool ivm_log_next_txn(IvmCursor *cursor, IvmLogTxn *txn);

/* The next record of the current transaction, or false at its end. */
extern bool ivm_log_next_record(IvmCursor *cursor, IvmLogRecord *record);

/* Moves the cursor's position: transactions with a smaller sequence are not needed any more. */
extern void ivm_cursor_advance(IvmCursor *cursor, uint64 sequence);

/*
 * Lets go of what this process's cursors look at, if they have read nothing for a second:
 * to be called before a long sleep, outside of a batch.  Returns after how many milliseconds it
 * wants to be called again.
 */
extern long ivm_cursor_rest(void);

/* True while changes are not taken up, since the log is at its limit (ivm.delta_log_limit). */
extern bool ivm_log_is_over_limit(IvmDatabase *database);

/* Sets up to where this consumer allows the slot to be confirmed (never goes back). */
extern void ivm_cursor_confirm(IvmCursor *cursor, XLogRecPtr lsn);

/* ---- waking and waiting (wake.c) ---- */

/* Transaction callback of every session: wakes the decoder, and waiting apply workers. */
extern void ivm_wake_init(void);

/* This session begins to write something: the decoder, if it dozes, looks for what comes. */
extern void ivm_wake_writes(void);

/* Registers MyProc as the process to wake when the log grows or a wanted position is reached. */
extern void ivm_wake_register_consumer(IvmDatabase *database, int number);

/* Tell that this consumer waits for decoded transactions to become visible (commits then wake it): before it looks whether they are. */
extern void ivm_wake_set_pending(IvmDatabase *database, int number, bool pending);

/*
 * From now on the next commit of a session of this database, whatever it wrote, wakes this consumer.  False if that
 * was so already, and nothing was committed since.
 */
extern bool ivm_wake_watch(IvmDatabase *database, int number);

/*
 * While a consumer waits for no more than time to pass, what the decoder publishes
 * and what commits need not wake it.  Afterwards it looks at everything anew.
 */
extern void ivm_wake_mute(IvmDatabase *database, int number, bool mute);

/*
 * Returns when the decoder has passed "lsn" (flushing up to it if need be), or
 * after timeout_ms (-1: none): false then.  Serves interrupts.
 */
extern bool ivm_decoder_wait(IvmDatabase *database, XLogRecPtr lsn, long timeout_ms);

/* True if the decoder has nothing left to decode within a few records of the end of the WAL. */
extern bool ivm_decoder_is_near_end(IvmDatabase *database);

/* End of the last WAL record inserted so far: what "now" means as a position. */
extern XLogRecPtr ivm_wal_end(void);

/* ---- since when something waits (lag.c) ---- */

/* What a consumer tells of how far it has read. */
typedef struct IvmReadFacts
{
	uint64		sequence;		/* transactions with smaller numbers were read */
	uint64		incarnation;	/* of the log that it reads */
	TimestampTz time;			/* of the last one's commit; 0: there was none */
} IvmReadFacts;

/*
 * At or before the time of the first commit that was not decoded, or not read by the consumer
 * (an apply worker's number): 0 if there is none, DT_NOBEGIN if nothing is known of it.  Need no process to be there.
 */
extern TimestampTz ivm_undecoded_since(IvmDatabase *database);
extern TimestampTz ivm_unread_since(IvmDatabase *database, int consumer, const IvmReadFacts *facts);

/* The farthest that was ever decoded. */
extern XLogRecPtr ivm_decoded_position(IvmDatabase *database);

/* A consumer has read all transactions with smaller numbers. */
extern void ivm_lag_read(IvmDatabase *database, int consumer, uint64 sequence);

/* Of the newest log. */
extern uint64 ivm_log_incarnation(IvmDatabase *database);

/* ---- decoder (decoder.c) ---- */

typedef enum IvmDecoderState
{
	IVM_DECODER_STOPPED,
	IVM_DECODER_STARTING,
	IVM_DECODER_CREATING_SLOT,	/* waits for the transactions that are running */
	IVM_DECODER_RUNNING
} IvmDecoderState;

extern IvmDecoderState ivm_decoder_state(IvmDatabase *database);

/* Positions for monitoring and for the checks at start. */
typedef struct IvmDecoderStatus
{
	IvmDecoderState state;
	pid_t		pid;
	XLogRecPtr	decoded_lsn;
	XLogRecPtr	confirmed_lsn;
	XLogRecPtr	restart_lsn;
	bool		slot_is_new;	/* this decoder made the slot: no consumer can
								 * have a place in it */
	Size		log_memory;		/* bytes of the delta log in memory */
	Size		log_disk;		/* bytes of the delta log in files */
	uint64		transactions;	/* decoded, with rows for some consumer */
	uint64		rows;
} IvmDecoderStatus;

extern void ivm_decoder_status(IvmDatabase *database, IvmDecoderStatus *status);

/*
 * The decoder's life: makes or takes the slot, decodes until it is told to stop
 * (SIGTERM).  The caller has connected to the database.  Errors leave the process.
 */
extern void ivm_decoder_run(IvmDatabase *database) pg_attribute_noreturn();

/* Name of the database's replication slot: ivm_<oid>. */
extern void ivm_replication_slot_name(Oid dboid, char *name);

/*
 * Drops the slot if it exists and is ours; waits for nobody.  False if somebody is using it: it has to be
 * tried again.
 */
extern bool ivm_replication_slot_drop(Oid dboid);

#endif							/* IVM_CAPTURE_H */
