/*-------------------------------------------------------------------------
 *
 * metadata.h
 *	  The extension's own relations: ivm.view and ivm.applied, and where state
 *	  tables are.
 *
 * ivm.view has a row for every consumer: an incremental view (kind 'v') or a
 * shared arrangement (kind 'a').  ivm.applied has a row for each that has been
 * populated: the applied snapshot and the position that goes with it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_METADATA_H
#define IVM_METADATA_H

#include "postgres.h"

#include "access/htup.h"
#include "access/xlogdefs.h"
#include "nodes/pg_list.h"
#include "storage/lock.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

/* The extension's schemas: of its functions and metadata, and of state tables. */
#define IVM_SCHEMA			"ivm"
#define IVM_STATE_SCHEMA	"ivm_state"

/* Stored as one character. */
typedef enum IvmViewState
{
	IVM_STATE_UNPOPULATED = 'u',	/* WITH NO DATA */
	IVM_STATE_BUILDING = 'b',	/* waits for, or is in, its population */
	IVM_STATE_REBUILD = 'r',	/* has contents, waits for, or is in, a
								 * rebuild */
	IVM_STATE_ACTIVE = 'a',		/* maintained */
	IVM_STATE_ERROR = 'e'		/* not maintained: see "error" */
} IvmViewState;

/* Which version of a row of ivm.view.  Any change, also one to what it was before, makes another. */
typedef struct IvmRowVersion
{
	TransactionId xmin;
	ItemPointerData tid;
} IvmRowVersion;

typedef struct IvmViewRow
{
	Oid			relid;
	char		kind;			/* 'v', 'a' */
	IvmViewState state;
	char	   *text;			/* plan text; NULL before the first population */
	char	   *fingerprint;
	List	   *settings;		/* lists of two Strings: name, value */
	char	   *definition;		/* kind 'a': canonical text of the
								 * arrangement, else NULL */
	char	   *reason;			/* why rebuild or error; NULL */
	List	   *arrangements;	/* oid list: shared arrangements it reads */
	bool		complete;		/* not as ivm_metadata_list() leaves it */
	IvmRowVersion version;		/* as it was read, or put */
} IvmViewRow;

/* A snapshot as it is stored: 64-bit, top-level transactions only. */
typedef struct IvmAppliedSnapshot
{
	uint64		xmin;
	uint64		xmax;
	XLogRecPtr	lsn;			/* everything that ends at or before it is
								 * contained */
	TimestampTz time;			/* all that committed before it is contained */
	int			nxip;
	uint64		xip[FLEXIBLE_ARRAY_MEMBER]; /* sorted */
} IvmAppliedSnapshot;

/* True if the extension is installed in the current database. */
extern bool ivm_metadata_is_installed(void);

/* Oids of the access method and the tables, looked up by name and cached; InvalidOid if not installed. */
extern Oid	ivm_metadata_am_oid(void);
extern Oid	ivm_metadata_view_relid(void);
extern Oid	ivm_metadata_applied_relid(void);

/* True if the relation is an incremental view (matview with our access method). */
extern bool ivm_relation_is_incremental(Oid relid);

/* True if it is one of ours: ivm.view, ivm.applied, or a state table. */
extern bool ivm_relation_is_internal(Oid relid);

/* True if it is a state table. */
extern bool ivm_relation_is_state_table(Oid relid);

/* Drops a state table, which the caller has locked; the server lets nobody else drop a member of an extension. */
extern void ivm_metadata_drop_state_table(Oid relid);

/* Rows of ivm.view.  All palloc'd in the current context, read with the latest catalog-like snapshot. */
extern IvmViewRow *ivm_metadata_get(Oid relid); /* NULL if none */

/*
 * IvmViewRow, by relid; without rows whose relation went while the library was not loaded.  The texts that
 * are long (text, fingerprint), and settings but those of what has to do with shared arrangements, are left
 * out: there may be thousands of rows, and everybody reads them again at each change.
 */
extern List *ivm_metadata_list(void);

/*
 * Reads what the list left out, of the very version that is in it.  To be called under an active snapshot that
 * was there when the list was read.  If the extension has been dropped since, the row is one of a view without contents.
 */
extern void ivm_metadata_complete(IvmViewRow *row);

/* The row of that relation in such a list, or NULL. */
extern IvmViewRow *ivm_metadata_find(List *rows, Oid relid);
extern void ivm_metadata_put(IvmViewRow *row);	/* insert or update */
extern bool ivm_row_version_equal(const IvmRowVersion *a, const IvmRowVersion *b);
extern void ivm_metadata_set_state(Oid relid, IvmViewState state, const char *reason);
extern void ivm_metadata_delete(Oid relid); /* both tables; missing is fine */

/* All rows whose relation is gone, or is no incremental view any more; true if there were any. */
extern bool ivm_metadata_delete_gone(void);

/*
 * Shared arrangements that no view seems to read; and drops those of a list that
 * really are read by none, after waiting for whoever uses them.
 */
extern List *ivm_metadata_unused_arrangements(void);
extern void ivm_metadata_drop_unused(List *relids);
extern Oid	ivm_metadata_find_arrangement(const char *definition);

/* The applied snapshot, NULL if none; read under "snapshot". */
extern IvmAppliedSnapshot *ivm_applied_get(Oid relid, Snapshot snapshot);

/*
 * Stores it by a direct heap update (or insert); errors if the row was changed
 * by somebody whose change "snapshot" does not see.
 */
extern void ivm_applied_put(Oid relid, IvmAppliedSnapshot *applied, Snapshot snapshot);

extern void ivm_applied_delete(Oid relid);

/* Converts an MVCC snapshot; palloc'd. */
extern IvmAppliedSnapshot *ivm_applied_from_snapshot(Snapshot snapshot, XLogRecPtr lsn);

/* Do they contain the same transactions? */
extern bool ivm_applied_equal(const IvmAppliedSnapshot *a, const IvmAppliedSnapshot *b);

/* True if the (committed) top-level transaction is contained in it. */
extern bool ivm_applied_contains(const IvmAppliedSnapshot *applied, uint64 fxid);

/* True if this transaction has written the view's row: no other process knows of it yet. */
extern bool ivm_metadata_is_uncommitted(Oid relid);

/* Claims the right to write a consumer until the end of the transaction; false if another process has it. */
extern bool ivm_claim(Oid relid, bool wait);

/* Oids of the database's incremental views that have no row in that list, palloc'd; in a transaction. */
extern List *ivm_unknown_views(List *rows);

/* Oid of ivm.row_hash(record); looked up without regard to the current user's rights. */
extern Oid	ivm_row_hash_function(void);

#endif							/* IVM_METADATA_H */
