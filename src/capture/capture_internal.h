/*-------------------------------------------------------------------------
 *
 * capture_internal.h
 *	  What the files of this directory share.
 *
 * Everything about a database is in its IvmDatabase, in the main shared
 * memory; what grows is in a dynamic shared area of its own.
 *
 * Locks.  "lock" of an IvmDatabase guards the cursors, the registry, the
 * list of consumers, the list of logs and which segments exist.  A log's
 * contents are written by the decoder alone and without a lock: a reader looks
 * only at what was published before, and at segments that it has pinned.  The
 * atomics are written by whoever is named, and read by any.  No lock is taken
 * while "lock" is held but those of dynamic shared memory and of the budget.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_CAPTURE_INTERNAL_H
#define IVM_CAPTURE_INTERNAL_H

#include "postgres.h"

#include "access/xlogreader.h"
#include "port/atomics.h"
#include "replication/logical.h"
#include "storage/condition_variable.h"
#include "storage/dsm.h"
#include "storage/fileset.h"
#include "storage/lwlock.h"
#include "utils/dsa.h"
#include "utils/relcache.h"
#include "utils/resowner.h"

#include "capture/capture.h"
#include "memory/budget.h"

#define IVM_MAX_CURSORS		128
#define IVM_MAX_CONSUMERS	64

/* A cursor's shared part. */
typedef struct IvmCursorShared
{
	bool		in_use;
	bool		persistent;
	pid_t		pid;			/* who reads with it; 0: nobody now */
	uint64		epoch;			/* counts the owners of this place */
	char		name[NAMEDATALEN];
	uint64		incarnation;	/* of the log that was the newest when it was
								 * made or rewound */
	bool		reading;		/* its owner has come to that log, and keeps
								 * it */
	bool		busy;			/* its owner is working on what it has read */
	dsa_pointer segment;		/* IvmLogSegment that its owner is looking at:
								 * pinned */
	uint64		position;		/* transactions with smaller numbers are not
								 * needed */
	pg_atomic_uint64 confirm;	/* 0: nothing may be confirmed; written by the
								 * owner */
} IvmCursorShared;

/* A process to wake. */
typedef struct IvmConsumerShared
{
	int			procno;			/* -1: none */
	pid_t		pid;
	pg_atomic_uint64 unread_since;	/* note of the decoder for it: lag.c */
} IvmConsumerShared;

/* A table to decode. */
typedef struct IvmRegistryEntry
{
	Oid			relid;
	bool		all;			/* every column */
	uint64		holders;		/* consumers that need it, by their numbers */
	uint64		generation;		/* in which it got its present columns */
	int			nwords;
	dsa_pointer words;			/* of a Bitmapset of attribute numbers */
} IvmRegistryEntry;

struct IvmDatabase
{
	pg_atomic_uint32 dboid;		/* InvalidOid: free */
	uint64		use;			/* counts the uses of this entry */
	LWLock		lock;
	dsa_handle	area;			/* DSM_HANDLE_INVALID: not made yet */

	/* registry */
	dsa_pointer registry;		/* IvmRegistryEntry[], by relid */
	int			nregistered;
	int			registry_size;	/* allocated */
	dsa_pointer incomplete;		/* IvmIncomplete[], by the decoder */
	int			nincomplete;
	int			incomplete_size;	/* allocated */
	pg_atomic_uint64 generation;	/* asked for; raised under "lock" */
	pg_atomic_uint64 acknowledged;	/* in force, and all before is visible; by
									 * the decoder */
	ConditionVariable acknowledged_changed;

	/* logs and their readers */
	uint64		next_sequence;	/* by the decoder */
	uint64		incarnations;	/* logs begun, so the newest one's */
	dsa_pointer log;			/* the newest, if any is left; "older" leads
								 * to those still read */
	IvmCursorShared cursors[IVM_MAX_CURSORS];
	dsa_pointer spilling;		/* segment that the decoder writes to a file:
								 * pinned */

	/* what all logs take, and may take */
	IvmAccount	account;
	pg_atomic_uint64 log_memory;	/* bytes, without the area */
	pg_atomic_uint64 log_disk;	/* bytes */
	pg_atomic_uint32 over_limit;	/* rows are not taken up; by the decoder */

	/* the decoder; its own, but where said otherwise */
	int			decoder_procno; /* -1: none */
	pid_t		decoder_pid;
	pg_atomic_uint32 state;		/* IvmDecoderState */
	pg_atomic_uint32 sleeping;	/* it wants its latch set by a commit, who
								 * resets this */
	pg_atomic_uint32 dozing;	/* it has had nothing to do for a while, and
								 * wants its latch set by who begins to write,
								 * who resets this */
	pg_atomic_uint32 stalled;	/* it waits for memory, and wants its latch
								 * set by who frees some or waits for it */
	pg_atomic_uint64 decoded;	/* everything that ends at or before was
								 * decoded */
	pg_atomic_uint64 confirmed;
	pg_atomic_uint64 restart;
	bool		slot_is_new;
	pg_atomic_uint64 transactions;
	pg_atomic_uint64 rows;

	/* since when something waits: lag.c */
	XLogRecPtr	base;			/* end of the WAL when the entry was taken */
	pg_atomic_uint64 last_commit;	/* end of the farthest commit; by sessions */
	pg_atomic_uint64 undecoded_since;	/* note of the sessions for the
										 * decoder */
	pg_atomic_uint64 reached;	/* the farthest that was decoded */
	pg_atomic_uint64 decoded_time;	/* of the last commit decoded */
	pg_atomic_uint64 lost_since;	/* what came then was not decoded, before
									 * the slot was made */
	pg_atomic_uint64 published; /* as the newest log's */
	pg_atomic_uint64 newest_incarnation;	/* as "incarnations" */
	pg_atomic_uint32 nnoted;	/* consumers that notes are left for */

	/* waking */
	pg_atomic_uint64 commit_hint;	/* farthest asynchronous commit; by
									 * sessions */
	pg_atomic_uint64 wanted;	/* nearest position waited for; by waiters */
	ConditionVariable decoded_changed;
	pg_atomic_uint64 pending;	/* consumers that wait for commits to be
								 * visible */
	pg_atomic_uint64 watching;	/* consumers that the next commit, whatever it
								 * wrote, is to wake */
	pg_atomic_uint64 consumers; /* those that are there */
	IvmConsumerShared consumer[IVM_MAX_CONSUMERS];
};

/*
 * The log.
 */

/* A stretch of the log: the descriptor of some shared memory, of a file, or of both. */
typedef struct IvmLogSegment
{
	dsa_pointer next;			/* set before the segment is sealed */
	uint64		number;
	dsm_handle	handle;			/* invalid: in its file only */
	bool		sealed;
	bool		on_file;
	Size		capacity;		/* of the memory */
	Size		used;			/* when sealed; until then, in a file: up to
								 * the last transaction that was published */
	Size		disk;			/* bytes in the file */
	Size		first_begin;	/* where the first transaction that begins
								 * here does */
	uint64		first_sequence; /* its number; 0: none begins here */
	uint64		last_end;		/* number of the last transaction that ends
								 * here; 0: none */
	uint64		last_sequence;	/* of the last transaction with anything here */
} IvmLogSegment;

/* What one decoder has written. */
typedef struct IvmLog
{
	dsa_pointer older;
	uint64		incarnation;
	bool		closed;			/* its decoder is gone */
	bool		resting;		/* its decoder does not hold on to the tail */
	bool		has_files;
	bool		holds;			/* files of open transactions among them */
	FileSet		files;			/* one for each segment that is not in memory */
	dsa_pointer head;			/* oldest segment that is kept */
	dsa_pointer tail;			/* the one being written */
	pg_atomic_uint64 published; /* transactions with smaller numbers are
								 * complete */
} IvmLog;

/* Kinds of records in a segment; each is MAXALIGNed and begins with IvmRecordHeader. */
typedef enum IvmRecordKind
{
	IVM_RECORD_BEGIN = 1,
	IVM_RECORD_INSERT,
	IVM_RECORD_DELETE,
	IVM_RECORD_TRUNCATE,
	IVM_RECORD_LOST,			/* a change that the limit left no room for */
	IVM_RECORD_END,				/* of the transaction */
	IVM_RECORD_XID				/* not in the log: what follows is of that
								 * (sub)transaction; its id is where the table
								 * is said otherwise */
} IvmRecordKind;

typedef struct IvmRecordHeader
{
	uint32		length;			/* with this header, MAXALIGNed */
	uint32		kind;
	Oid			relid;
	uint32		layout;			/* of a row's tuple */
	/* a MinimalTuple, or an IvmLogTxn, follows */
} IvmRecordHeader;

#define IVM_RECORD_HEADER_SIZE	MAXALIGN(sizeof(IvmRecordHeader))

/* ---- database.c ---- */

extern IvmDatabase *ivm_database_mine(void);
extern dsa_area *ivm_database_area(IvmDatabase *database);

/* ---- delta_log.c ---- */

extern IvmLog *ivm_log_of(IvmDatabase *database, dsa_pointer log);
extern IvmLogSegment *ivm_segment_of(IvmDatabase *database, dsa_pointer segment);
extern bool ivm_cursor_minimum(IvmDatabase *database, uint64 incarnation, uint64 *position);
extern bool ivm_cursor_confirmable(IvmDatabase *database, XLogRecPtr *lsn);
extern void ivm_log_trim(IvmDatabase *database);
extern void ivm_segment_unpinned(IvmDatabase *database, dsa_pointer segment);
extern bool ivm_log_is_busy(IvmDatabase *database);
extern bool ivm_log_has_readers(IvmDatabase *database);

/* ---- log_writer.c ---- */

extern void ivm_log_start(IvmDatabase *database, XLogRecPtr start_lsn);
extern void ivm_log_stop(IvmDatabase *database);
extern void ivm_log_reload(void);
extern void ivm_log_rest(void);
extern void ivm_log_yield(void);
extern void ivm_log_append_begin(const IvmLogTxn *txn);
extern bool ivm_log_append_row(Oid relid, bool insert, uint32 layout, MinimalTuple tuple);
extern void ivm_log_append_truncate(Oid relid);
extern void ivm_log_append_lost(Oid relid);
extern void ivm_log_publish(TimestampTz commit_time);
extern bool ivm_log_is_over(void);
extern void ivm_log_refuse(bool disk_is_full);
extern bool ivm_log_has_disk(Size more);
extern IvmLog *ivm_log_current(void);
extern void ivm_log_keep_files(bool keep);
extern void ivm_log_next_transaction(void);
extern bool ivm_log_is_short(IvmDatabase *database, bool again);
extern bool ivm_log_has_room(IvmDatabase *database);
extern void ivm_log_give_back(IvmDatabase *database);

/* ---- log_memory.c ---- */

extern void ivm_log_memory_open(IvmDatabase *database);
extern void ivm_log_memory_close(IvmDatabase *database);
extern Size ivm_log_segment_size(IvmDatabase *database);
extern dsm_segment *ivm_log_memory_make(IvmDatabase *database, Size size, bool force);
extern void ivm_log_memory_free(IvmDatabase *database, dsm_handle handle, Size size);
extern dsm_segment *ivm_log_memory_attach(dsm_handle handle);

/* ---- log_file.c ---- */

extern void ivm_log_file_start(void);
extern void ivm_log_file_reload(void);
extern uint64 ivm_log_file_limit(void);
extern void ivm_log_file_choose(FileSet *files);
extern bool ivm_log_file_is_elsewhere(void);
extern bool ivm_log_file_write(IvmLog *log, uint64 number, bool make,
							   const char *data, Size length, Size offset);
extern void ivm_log_file_read(IvmLog *log, uint64 number, char *data, Size length, Size offset);
extern void ivm_log_file_delete(IvmLog *log, uint64 number);

/* ---- registry.c ---- */

/* What the decoder needs of a table. */
typedef struct IvmRegistration
{
	Oid			relid;
	uint64		generation;		/* in which it got its present columns */
	Bitmapset  *attributes;		/* NULL: all */
} IvmRegistration;

extern uint64 ivm_registry_load(IvmDatabase *database);
extern uint64 ivm_registry_loaded(void);
extern IvmRegistration *ivm_registry_find(Oid relid);
extern bool ivm_registry_is_held(IvmDatabase *database, Oid relid, uint64 holder);

/* ---- incomplete.c ---- */

typedef struct IvmIncomplete IvmIncomplete;

/*
 * The table's rows in the open transaction are not all, or lack columns.  Called by the decoder, before it
 * acknowledges the generation that says so, and once for each pair.
 */
extern void ivm_incomplete_add(IvmDatabase *database, TransactionId xid, Oid relid);

/* Forgets the transactions that are over. */
extern void ivm_incomplete_prune(IvmDatabase *database);

/* ---- held.c ---- */

typedef struct IvmHeld IvmHeld; /* an open transaction */
typedef struct IvmHeldTable IvmHeldTable;

extern void ivm_held_start(IvmDatabase *database);
extern IvmHeld *ivm_held_make(TransactionId xid);

/* Adds a record of that (sub)transaction.  False: there is no room, and the table is to be lost. */
extern bool ivm_held_append(IvmHeld *held, TransactionId xid, IvmRecordKind kind, Oid relid, uint32 layout,
							const void *payload, Size size);

/* Where the next record will be; everything from such a place on goes. */
extern uint64 ivm_held_position(IvmHeld *held);
extern void ivm_held_truncate(IvmHeld *held, uint64 position);

/* The transaction changed the table, whose ancestors these are. */
extern IvmHeldTable *ivm_held_touch(IvmHeld *held, Oid relid, List *ancestors);
extern bool ivm_held_is_lost(IvmHeldTable *table);
extern void ivm_held_lose(IvmHeld *held, Oid relid);

/*
 * It has committed: what is of the top level or of a surviving subtransaction (which get sorted) goes to the log, but
 * for the end of the transaction.  False if that was nothing, and not even the transaction's begin.  Needs a resource owner.
 */
extern bool ivm_held_hand_over(IvmHeld *held, TransactionId *survivors, int nsurvivors, const IvmLogTxn *txn);
extern void ivm_held_drop(IvmHeld *held);

/* Notes those that are incomplete now that another generation is in force. */
extern void ivm_held_find_incomplete(void);

/* Writes some of what is in memory to a file; false if there is none, or no room. */
extern bool ivm_held_to_file(void);
extern void ivm_held_rest(void);
extern void ivm_held_stop(void);
extern Size ivm_held_memory(void);

/* Raises an atomic to a value. */
static inline void
ivm_raise(pg_atomic_uint64 *atomic, uint64 value)
{
	uint64		old = pg_atomic_read_u64(atomic);

	while (old < value && !pg_atomic_compare_exchange_u64(atomic, &old, value))
		;
}

/* ---- lag.c ---- */

extern void ivm_lag_committed(IvmDatabase *database, XLogRecPtr end);
extern void ivm_lag_decoded(IvmDatabase *database, XLogRecPtr decoded);
extern bool ivm_lag_is_noted_in_vain(IvmDatabase *database);
extern void ivm_lag_caught_up(IvmDatabase *database);
extern void ivm_lag_lost(IvmDatabase *database);
extern void ivm_lag_published(IvmDatabase *database, uint64 sequence, TimestampTz time);

/* ---- wake.c ---- */

extern int	ivm_wake_consumer_number(void);
extern void ivm_wake_decoder(IvmDatabase *database);
extern void ivm_wake_stalled_decoder(IvmDatabase *database);
extern void ivm_wake_consumers(IvmDatabase *database, uint64 which);
extern void ivm_wake_position_reached(IvmDatabase *database, XLogRecPtr decoded);

/* ---- page_reader.c ---- */

extern int	ivm_page_read(XLogReaderState *state, XLogRecPtr page, int length,
						  XLogRecPtr record, char *buffer);

/* ---- tracked.c ---- */

/* What is known of a table that changed. */
typedef struct IvmTracked
{
	Oid			relid;			/* hash key */
	bool		valid;
	bool		stale;			/* was invalidated while it was looked up */
	bool		tracked;
	bool		all;			/* every column is needed */
	uint32		layout;			/* of its rows */
	bool		every_change;	/* also those that change no needed column */
	Bitmapset  *attributes;		/* else these, by its own attribute numbers */
	List	   *ancestors;		/* oids, all levels */
	uint64		unknown_in;		/* transaction for which an unknown change was
								 * logged */
} IvmTracked;

extern void ivm_tracked_start(void);
extern void ivm_tracked_registry_changed(void);
extern void ivm_tracked_trim(void);
extern IvmTracked *ivm_tracked_get(Relation relation);

/* ---- plugin.c ---- */

extern void ivm_plugin_start(IvmDatabase *database);
extern void _PG_output_plugin_init(struct OutputPluginCallbacks *callbacks);

/* ---- replication_slot.c ---- */

extern bool ivm_replication_slot_take(IvmDatabase *database);
extern LogicalDecodingContext *ivm_replication_slot_decode(void);

/* ---- decoder_memory.c ---- */

#define IVM_STALL_CHECK		100 /* ms, between looks for lack of a wake-up */

extern void ivm_decoder_memory_start(IvmDatabase *database);
extern void ivm_decoder_settings(void);
extern void ivm_decoder_stream(LogicalDecodingContext *decoding);
extern bool ivm_decoder_should_stall(bool again);
extern bool ivm_decoder_must_stall(void);
extern void ivm_decoder_count_reorder(LogicalDecodingContext *decoding);
extern void ivm_decoder_trim(LogicalDecodingContext *decoding, XLogRecPtr distance);

/* ---- decoder.c ---- */

extern void ivm_decoder_sleep(XLogRecPtr upto, long timeout_ms);
extern ResourceOwner ivm_decoder_owner(void);
extern void ivm_decoder_committed(TransactionId xid, TimestampTz time);
extern void ivm_decoder_has_rows(void);

#endif							/* IVM_CAPTURE_INTERNAL_H */
