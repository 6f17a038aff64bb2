/*-------------------------------------------------------------------------
 *
 * consumer.h
 *	  What an apply worker keeps of a view, or of a shared arrangement.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_CONSUMER_H
#define IVM_CONSUMER_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "lib/ilist.h"
#include "storage/itemptr.h"
#include "capture/capture.h"
#include "compile/compiled.h"
#include "dataflow/dataflow.h"
#include "metadata/metadata.h"
#include "plan/plan.h"
#include "stats/stats.h"
#include "maintain/guard.h"

/* Least time between two reports of a view's operators. */
#define IVM_OPERATOR_REPORT_MS	1000

/* Somebody who waits for a verification, if he still does. */
typedef struct IvmVerification
{
	struct IvmRequest *request;
	uint64		number;			/* its number then */
} IvmVerification;

typedef struct IvmConsumer
{
	Oid			relid;			/* the view, or the arrangement's state table */
	MemoryContext context;		/* of the consumer itself */
	bool		is_arrangement; /* a shared arrangement, not a view */

	IvmCompiled *compiled;		/* what it is compiled to; equal settings are
								 * one list */

	/*
	 * While it rests (rest.c) there is no plan, and none of these, which are
	 * in the plan's context.
	 */
	IvmDataflow *dataflow;
	IvmArrangement *arrangement;	/* of a shared arrangement */
	dlist_node	rest;			/* in rest.c's list */
	Size		compiled_bytes;
	TimestampTz last_use;

	/* What is known of the plan all the same; in "context". */
	List	   *arrangements;	/* oid: shared arrangements that it reads */
	List	   *upstream;		/* oid: incremental views that its query names */
	List	   *own;			/* oid: itself, its state tables, their
								 * indexes */

	/* Where it belongs, as of the last reload. */
	Oid			component;		/* the same for all that sit together */
	int			level;			/* slow.h: of the component */
	IvmWatch	watch;			/* in a batch */
	bool		measured;		/* some batch of it got done */
	int			usual;			/* ms that it takes in a batch */
	int			cancels;		/* in a row: it took longer than others could
								 * wait */

	/*
	 * Partitions and children that came and went since the contents were
	 * computed (members.c); in "context".
	 */
	bool		members_differ; /* from the stored fingerprint */
	List	   *joined;			/* oid */
	List	   *left;			/* IvmMember */
	IvmRowVersion members_version;	/* the row of ivm.view that says so */
	uint64		members_generation; /* of the registry, to be acknowledged */

	IvmAppliedSnapshot *applied;	/* as last read or written */
	IvmRowVersion row_version;	/* of the row in ivm.view at that time */
	bool		leaving;		/* belongs to another worker from "leaving_at"
								 * on */
	uint64		leaving_at;		/* generation */

	/*
	 * the first transaction in the log that concerns it and is not applied; 0
	 * if none
	 */
	uint64		pending;
	XLogRecPtr	pending_lsn;
	TimestampTz pending_time;	/* of its commit */
	bool		pending_invisible;	/* it was tried, and S did not see it yet */

	uint64		pending_fxid;
	XLogRecPtr	complete_lsn;	/* while it is invisible: what is before this
								 * and was visible ... */
	uint64		complete_sync;	/* ... when that sync began is applied */
	TimestampTz retry_at;		/* not before, after a failure or a lock not
								 * had */
	bool		behind;			/* it was left out of the last batch for a
								 * lock */
	int			failures;		/* in a row */
	bool		given_up;		/* left to the builder: it comes back as
								 * another one */
	bool		behind_reported;	/* the statistics say that it is behind ... */
	TimestampTz reported_since; /* ... since then */
	List	   *verify;			/* IvmVerification, in "context" */
	bool		operators_changed;	/* since operators_reported */
	TimestampTz operators_reported;
	TimestampTz operators_measured;

	/* within a batch */
	bool		in_batch;
	bool		truncated;		/* its changes cannot be had ... */
	const char *truncated_reason;	/* ... since */
	uint64		changes;		/* rows received */
	uint64		txn_sequence;	/* the transaction that "txn_contained" is
								 * about */
	bool		txn_contained;
	uint64		next_pending;	/* what "pending" is after the commit */
	XLogRecPtr	next_pending_lsn;
	TimestampTz next_pending_time;
	uint64		next_pending_fxid;
	IvmAppliedSnapshot *next_applied;
	IvmBatchReport report;
} IvmConsumer;

/* Incremental views that the plan's query names, at any depth; in a transaction, palloc'd. */
extern List *ivm_plan_upstream(IvmPlan *plan);

/*
 * Why a view cannot be maintained for the sake of one of these views or shared
 * arrangements that it reads, or NULL; "rows" is ivm_metadata_list()'s.  In a transaction, palloc'd.
 */
extern char *ivm_upstream_problem(List *upstream, List *rows);

/*
 * The rows of ivm.view as they are now.  A process may have written counters of
 * a view after its drop: those go.
 */
extern void ivm_stats_retain_rows(List *rows);

/*
 * Compiles a consumer from its metadata row, in a transaction.  "rows" are
 * those of all consumers (a shared arrangement is compiled from a view that has it).
 * NULL if what it was computed from is not what is stored; *reason then tells why,
 * or is NULL if it is a shared arrangement that no plan reads any more.  Errors of
 * the compiler are raised.
 */
extern IvmConsumer *ivm_consumer_load(IvmViewRow *row, List *rows, const char **reason);
extern void ivm_consumer_free(IvmConsumer *consumer);

/*
 * The stored applied snapshot was read ("applied", in the consumer's context, which has it now).  If it is not
 * what this process stored last, somebody else changed the contents.
 */
extern void ivm_consumer_read_applied(IvmConsumer *consumer, IvmAppliedSnapshot *applied);

/* Frees plan and dataflow: the consumer rests until it is compiled again. */
extern void ivm_consumer_rest(IvmConsumer *consumer);

/*
 * Compiles a consumer again that is stale, outdated or at rest; false, with the reason as above, if the
 * result differs.  In a transaction.
 */
extern bool ivm_consumer_refresh(IvmConsumer *consumer, IvmViewRow *row, List *rows, const char **reason);

/* Registers the tables that the plan reads; returns the generation to wait for. */
extern uint64 ivm_plan_register(IvmDatabase *database, IvmPlan *plan);

/*
 * No plan reads the arrangement any more: takes it from the views that had it, and
 * drops it.  False, to be rolled back, if that would have to wait.  In a
 * transaction.
 */
extern bool ivm_arrangement_end(Oid relid);

#endif							/* IVM_CONSUMER_H */
