/*-------------------------------------------------------------------------
 *
 * apply_worker.h
 *	  The state of an apply worker, shared by its main loop, its list of
 *	  consumers, its progress and its batches.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_APPLY_WORKER_H
#define IVM_APPLY_WORKER_H

#include "postgres.h"

#include "capture/capture.h"
#include "memory/arena.h"
#include "utils/hsearch.h"
#include "maintain/consumer.h"
#include "process/control.h"
#include "process/slow.h"

typedef struct IvmApplyWorker
{
	int			number;
	int			level;			/* 0: of the quick ones; slow.h */
	IvmDatabase *capture;
	IvmControlDatabase *control;
	IvmApplyShared *shared;

	List	   *consumers;		/* IvmConsumer; shared arrangements first */
	HTAB	   *by_relid;		/* the same, by relation */
	int			due_next;		/* place in that list where the next batch
								 * looks first */
	bool		several;		/* they are of more than one component */
	bool		others_due;		/* one that is due is not of the component
								 * that a batch is about to serve */
	int			others_cancels; /* the least of the other components */
	uint64		transactions;	/* of the log, before the scout's last look */
	TimestampTz paced_at;		/* the last look for slow ones that are quick
								 * again */
	HTAB	   *interest;		/* IvmInterest by table */
	List	   *missing;		/* oid: consumers that could not be loaded yet */
	uint64		missing_left_at;	/* generation in which some of these went to
									 * another worker that has not taken over
									 * yet, or 0 */
	TimestampTz reload_at;		/* when to try again */
	int			reload_delay;	/* ms */

	IvmCursor  *cursor;			/* at the first transaction that some consumer
								 * needs */
	IvmCursor  *scout;			/* at the first transaction not looked at yet */
	uint64		scouted;		/* transactions with smaller numbers were
								 * looked at */
	XLogRecPtr	scouted_lsn;	/* and so was all that ends at or before it */
	TimestampTz scouted_time;	/* and all that committed before */
	TimestampTz read_time;		/* commit time of the last of them */
	uint64		looking;		/* the last sync that the last look at
								 * invalidations came after */
	uint64		batch_sync;		/* the last sync that the last batch's
								 * snapshot came after */
	uint64		incarnation;	/* of the log */

	IvmArena   *arena;			/* of the batch */
	MemoryContext batch_context;
	XLogRecPtr	commit_end;		/* end of the last batch's commit record */
	XLogRecPtr	unconfirmed;	/* what may be confirmed when the WAL is
								 * flushed up to ... */
	XLogRecPtr	unconfirmed_end;	/* ... here; invalid: nothing waits */
	TimestampTz store_at;		/* not before: positions of idle consumers */
	TimestampTz last_batch;		/* end of the last batch */
	uint64		batch_changes;	/* the most that a consumer of the last batch
								 * received */
	TimestampTz paced;			/* end of the intervals of all batches so far */
	uint64		pending_bytes;	/* of rows that came into the log since the
								 * last batch */
	bool		wants_overdraft;	/* the last batch was refused memory */
	TimestampTz crowded_at;		/* the last batch that took too long for
								 * several views */
	bool		turn_of_long;	/* the last batch was of those that take some
								 * time */
	bool		untrimmed;		/* a batch ran, or something was compiled,
								 * since the last trim */
	TimestampTz last_trim;		/* in idleness */
} IvmApplyWorker;

/* Who reads a table. */
typedef struct IvmInterest
{
	Oid			relid;			/* hash key */
	List	   *consumers;
	TupleTableSlot *row;		/* of the batch that runs, in its context */
	uint64		row_batch;		/* which batch that is */
	int			layout_natts;	/* tuples of so many columns ... */
	uint32		layout;			/* ... can be read if they have this layout */
} IvmInterest;

typedef enum IvmBatchResult
{
	IVM_BATCH_DONE,
	IVM_BATCH_DECODER_LATE,		/* the decoder did not come up in time:
								 * nothing was done */
	IVM_BATCH_STALE				/* some plan was invalidated, or the log begun
								 * anew: nothing was done */
} IvmBatchResult;

/*
 * Locks what it can; the rest is marked as behind and left out, with all that
 * reads it, in whatever order they come.
 */
extern List *ivm_batch_lock(IvmApplyWorker *worker, List *consumers);

/* Runs one batch over these consumers in one transaction; errors are raised, the transaction then is the caller's to abort. */
extern IvmBatchResult ivm_batch_run(IvmApplyWorker *worker, List *consumers);

/* Forgets a batch that raised an error, after its transaction was aborted. */
extern void ivm_batch_abort(IvmApplyWorker *worker, List *consumers);

/*
 * The list of consumers (consumer_list.c, loading.c).  Each of these may free consumers;
 * "index" has to follow "forget" before the log is looked at again.  None is
 * called within a transaction.
 */

/* The consumer of that relation, or NULL. */
extern IvmConsumer *ivm_consumer_list_find(IvmApplyWorker *worker, Oid relid);

/* Puts one on the list. */
extern void ivm_consumer_list_add(IvmApplyWorker *worker, IvmConsumer *consumer);

/*
 * Compiles one, from its row of ivm.view and all the others, and puts it on the list.  One that cannot be carried
 * on is left to the builder, one that cannot be compiled is in error.  False if it has to be tried again;
 * its tables are registered all the same.
 */
extern bool ivm_consumer_list_load(IvmApplyWorker *worker, IvmViewRow *row, List *rows);

/*
 * Compiles those of them that rest or are outdated.  False if one cannot be compiled now: it has
 * been put off, or taken off the list.
 */
extern bool ivm_consumer_list_wake(IvmApplyWorker *worker, List *consumers);

/* Takes a consumer off the list and frees it. */
extern void ivm_consumer_list_forget(IvmApplyWorker *worker, IvmConsumer *consumer);

/* Makes the table of who reads what anew. */
extern void ivm_consumer_list_index(IvmApplyWorker *worker);

/*
 * Reads ivm.view and takes over what belongs to this worker; returns the generation as of which.
 * If something is left to be taken over (missing), to be called again.
 */
extern uint64 ivm_consumer_list_reload(IvmApplyWorker *worker);

/* Recompiles what was invalidated. */
extern void ivm_consumer_list_refresh(IvmApplyWorker *worker);

/* Forgets consumers that another worker has taken over. */
extern void ivm_consumer_list_release(IvmApplyWorker *worker);

/*
 * The next batch (due.c).
 */

/* Consumers to run; lowers *sleep_ms to when another one may be due. */
extern List *ivm_due_consumers(IvmApplyWorker *worker, long *sleep_ms);

/*
 * Are the views that it reads there, and not left behind?  It is maintained from
 * the tables, but never ahead of what its query names.
 */
extern bool ivm_upstream_is_ready(IvmApplyWorker *worker, IvmConsumer *consumer, TimestampTz now);

/*
 * Slow views (pace.c).
 */

/* Does it wait for a slower worker than this one to be there? */
extern bool ivm_pace_is_outcast(IvmApplyWorker *worker, IvmConsumer *consumer);

/* Sets what a consumer may take in the batch that begins, or while it is compiled.  In a transaction. */
extern void ivm_pace_watch(IvmApplyWorker *worker, IvmWatch *watch, Oid relid, Oid owner, int cancels);

/* Somebody waits for the end of what the worker does; reads memory only. */
extern bool ivm_pace_others_wait(const IvmWatch *watch);
extern void ivm_pace_init(IvmApplyWorker *worker);

/* The view's batch, or its compilation, was cancelled, since it took longer than others can wait. */
extern void ivm_pace_expel(IvmApplyWorker *worker, Oid relid);

/* What it has to be reckoned with to take in the next batch, ms. */
extern int	ivm_pace_expected(IvmApplyWorker *worker, IvmConsumer *consumer);

/* Is that so much that it has batches by turns with the quick ones? */
extern bool ivm_pace_takes_turns(IvmApplyWorker *worker, IvmConsumer *consumer);

/* A batch ended early, by an error or a cancel: what is known by then of how long each view takes. */
extern void ivm_pace_learn(IvmApplyWorker *worker, List *consumers, IvmCancel cancel);

/* A batch was committed: what it says of the views' pace. */
extern void ivm_pace_measure(IvmApplyWorker *worker, List *consumers);

/* Slow views that have been quick for long return to the quick workers. */
extern void ivm_pace_return(IvmApplyWorker *worker);

/*
 * The place in the log (progress.c).
 */

/* Stands at the beginning of the log (again); everything is looked at anew. */
extern void ivm_progress_begin(IvmApplyWorker *worker);

/* Looks at transactions that are new in the log; consumers that they concern become pending. */
extern void ivm_progress_scout(IvmApplyWorker *worker);

/*
 * Tells how far this worker is: to the log, to the slot, to sessions that wait.
 * True if something is left to be told when the last commit is flushed.
 */
extern bool ivm_progress_publish(IvmApplyWorker *worker);

/* Why a view is rebuilt one of whose tables was emptied. */
#define IVM_TRUNCATED_REASON "a table that it reads was truncated or changed as a whole"

/* Why a view is rebuilt whose changes had no room in the log. */
#define IVM_LOST_REASON "the delta log exceeded ivm.delta_log_limit, or its disk was full"

/*
 * While the log is at its limit: leaves those to the builder that keep it from getting smaller, since
 * they were left behind for a lock or after a failure.
 */
extern void ivm_progress_give_up(IvmApplyWorker *worker);

/* Stores, in a transaction, the position of consumers that nothing has happened to for long. */
extern void ivm_progress_store(IvmApplyWorker *worker);

#endif							/* IVM_APPLY_WORKER_H */
