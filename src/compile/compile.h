/*-------------------------------------------------------------------------
 *
 * compile.h
 *	  From a view's query to its delta plan.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_COMPILE_H
#define IVM_COMPILE_H

#include "postgres.h"

#include "nodes/parsenodes.h"
#include "plan/plan.h"

/* Installs the planner hooks; called once. */
extern void ivm_compile_init(void);

/*
 * Compiles an analyzed, not yet rewritten query (the view's own).  It is
 * planned with the current user's rights, so the caller has become the owner
 * and has put the plan's settings in force (ivm_settings_enter).  "relid" is
 * the view, or InvalidOid before it exists; "view_name" is for messages, NULL if there is no name.  "owned_state" lists canonical
 * texts of arrangements for which a state table exists already, which makes the
 * compiler stay with it although the table is small.  "stored" is the text of the plan by which the view's contents were
 * made, which decides what had been decided by the size of tables; NULL: they are to be made, and statistics decide.
 *
 * Locks every relation read with AccessShareLock.  The plan is in a context of
 * its own under "parent".  Refuses, by name and with a hint, what section 6 of
 * the design refuses (volatile functions, relations that cannot be read, ...).
 */
extern IvmPlan *ivm_compile(Query *query, Oid relid, const char *view_name,
							List *settings, List *owned_state, const char *stored, MemoryContext parent);

/* Compiles an existing incremental view: takes its query from the relation. */
extern IvmPlan *ivm_compile_view(Oid relid, List *settings, List *owned_state, const char *stored,
								 MemoryContext parent);

/*
 * The plan that maintains a shared arrangement: the arrangement's input (a scan,
 * or an append of scans) as a plan of its own, whose rows go into the state
 * table.  "arrangement" belongs to "plan"; nodes are copied.
 */
extern IvmPlan *ivm_compile_arrangement(IvmPlan *plan, IvmArrangement *arrangement, Oid state_table, MemoryContext parent);

/* Oids of the relations that a view with this (stored) fingerprint reads; palloc'd. */
extern List *ivm_fingerprint_relids(const char *fingerprint);

/*
 * Do the row types that a view refers to as a whole differ between these two?
 * Such values in the view are as they were stored, dropped columns included.
 */
extern bool ivm_fingerprint_rows_differ(const char *a, const char *b);

/* A table that is read as a partition or a child of one that the query names. */
typedef struct IvmMember
{
	Oid			relid;
	Oid			tree;			/* the table that is named */
	Oid			file;			/* its file node then */
	uint32		columns;		/* ivm_fingerprint_columns() */
	uint32		attached;		/* tells one attachment from another */
	char		persistence;
	char		identity;
} IvmMember;

/* A hash value of the names and types of columns, and of their places. */
extern uint32 ivm_fingerprint_columns(TupleDesc desc);

/*
 * Do two fingerprints differ only in the members of trees, and none of these was altered while it was none?  Then these are the ones that
 * are only in the second, and only in the first (IvmMember, palloc'd).
 */
extern bool ivm_fingerprint_members(const char *from, const char *to, List **joined, List **left);

/* Emits one NOTICE for each recomputed part, or an error if ivm.fallback = error. */
extern void ivm_compile_report_fallbacks(IvmPlan *plan, const char *view_name);

/*
 * A part of the plan as a query, to be planned, which has the same columns and rows as the node; NULL if that cannot be.
 * In the current context.
 */
extern Query *ivm_node_query(IvmPlan *plan, IvmPlanNode *node);

/* The settings that can change a result, as they are now: String pairs name, value. */
extern List *ivm_settings_capture(void);

/*
 * Puts them in force (and a safe search_path) until AtEOXact_GUC(false, result).
 * Returns the nest level.
 */
extern int	ivm_settings_enter(List *settings);

/*
 * Lets the executor choose, where a statement leaves open which rows are the first, those that the dataflow
 * chooses.  Changes the plan tree in place, and puts a copy in the place of the list of subplans.
 */
extern void ivm_statement_break_ties(PlannedStmt *statement);

#endif							/* IVM_COMPILE_H */
