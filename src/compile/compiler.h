/*-------------------------------------------------------------------------
 *
 * compiler.h
 *	  What the compiler's files share.
 *
 * The stages, in their order:
 *
 *		planning.c		query -> planner's plan tree
 *		check_support.c refuses what cannot be maintained at all
 *		narrow.c		plan tree without the columns that nobody reads
 *		aggregate_order.c the order made complete in which aggregates see rows
 *		translate.c		plan tree -> delta plan, with join.c, outer.c,
 *						aggregate.c, distinct_calls.c, grouping_sets.c and setop.c
 *		node_kind.c		what there is to know of each kind of node
 *		join_path.c		the paths through each join
 *		join_order.c	which input is looked up next
 *		order.c			which rows come first
 *		arrangement.c	where each path looks rows up
 *		through.c		looking up rows of operators without storing them
 *		key.c			a unique key of the result
 *		reads.c			what its expressions read in the catalogs
 *		roles.c			whose rights decide what it reads
 *		fingerprint.c	what else the result was computed from
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_COMPILER_H
#define IVM_COMPILER_H

#include "postgres.h"

#include "compile/compile.h"
#include "nodes/pathnodes.h"
#include "nodes/plannodes.h"
#include "plan/plan.h"

/* One compilation.  It works in a context that goes away; the result is copied from there. */
typedef struct IvmCompiler
{
	IvmPlan    *plan;
	PlannedStmt *statement;
	const char *view_name;
	List	   *owned_state;	/* texts of arrangements that have a state
								 * table */
	const char *stored;			/* text of the plan by which the contents were
								 * made; NULL: they are to be made */
	SubPlan   **init_plans;		/* by parameter number: the init plan that
								 * sets it */
	IvmPlanNode **shared;		/* by subplan number - 1: its translation,
								 * made once */
	bool	   *shared_failed;
	IvmReason **shared_reason;
	bool		amplifies;		/* lookups may be pushed where they read more
								 * than they give */
	bool		has_barrier;	/* a security barrier somewhere in the query */
	IvmReason  *reason;			/* why the last translation failed */
} IvmCompiler;

/* ---- planning.c ---- */

/*
 * Plans the query (which is scribbled upon) without indexes and statistics.
 * Locks what it reads.  *rewritten is the query as the planner got it, views
 * expanded; read it before planning by the callback, since planning destroys it.
 */
typedef void (*IvmQueryCheck) (Query *query, void *context);
extern PlannedStmt *ivm_query_plan(Query *query, IvmQueryCheck check, void *context);

/* The share of rows that an input's filter lets pass, by the planner's estimate without statistics. */
extern double ivm_planned_share(IvmPlanNode *input);

extern void ivm_planning_init(void);

/* ---- tree.c ---- */

/* Oids of the relations that a query names, rewritten and expanded, at any depth; before it is planned. */
extern List *ivm_query_relations(Query *query);

/* Finds the trees of a plan's scans. */
extern void ivm_plan_find_trees(IvmPlan *plan, List *named);

/*
 * Does the plan read the table as a member of a table's tree, *tree, and nowhere else?  Not so the table
 * that is named itself.
 */
extern bool ivm_plan_is_member(IvmPlan *plan, Oid relid, Oid *tree);

/* While the planner makes its paths: the tree under this relation has the size of one table. */
extern void ivm_tree_set_size(PlannerInfo *root, RelOptInfo *rel, Index rti, RangeTblEntry *rte);


/* ---- check_support.c ---- */

/* What cannot be maintained, and why: the texts of an error.  NULL: nothing. */
typedef struct IvmUnsupported
{
	int			sqlerrcode;
	char	   *detail;
	char	   *hint;			/* or NULL */
} IvmUnsupported;

extern IvmUnsupported *ivm_query_check(Query *query);
extern IvmUnsupported *ivm_statement_check(PlannedStmt *statement);
extern void ivm_unsupported_raise(IvmUnsupported *unsupported, const char *view_name, bool exists) pg_attribute_noreturn();

/*
 * True if the expression's value depends on its input and nothing else,
 * and only functions of the server itself are called: anybody may evaluate it
 * with any settings.
 */
extern bool ivm_expression_is_universal(Node *expression);

/* ---- narrow.c ---- */

/* Writes references to whole rows of subqueries, in all of the statement, as rows of their columns. */
extern void ivm_plan_expand_rows(PlannedStmt *statement);

/*
 * Removes from a plan tree, which is scribbled upon, the output columns that
 * nobody reads.  The result yields the columns in "needed" (numbers from 1) in
 * their order, or one constant column if there are none.
 */
extern Plan *ivm_plan_narrow(Plan *plan, Bitmapset *needed);

/* The columns of a target list that are not junk. */
extern Bitmapset *ivm_plan_visible_columns(Plan *plan);

/* ---- expression.c ---- */

/*
 * False, with compiler->reason set, if the expression needs what a delta plan
 * does not have: subqueries, parameters, window functions.
 */
extern bool ivm_expression_is_plain(IvmCompiler *compiler, Node *expression);

/* A copy whose Vars, all of "varno", are of new_varno. */
extern Node *ivm_expression_renumber(Node *expression, int varno, int new_varno);

/* A copy in which Var(varno i, attno k) is a copy of the k-th expression of lists[i - 1]. */
extern Node *ivm_expression_substitute(Node *expression, int nlists, List **lists);

/* Would substituting "inner" (for varno 1) evaluate something costly more than once? */
extern bool ivm_substitution_repeats_work(List *tlist, List *quals, List *inner);

/* The expressions of a target list, in order. */
extern List *ivm_tlist_expressions(List *targetlist);

/* A copy in which a column of the outer or the inner plan is a copy of the expression in that list. */
extern Node *ivm_expression_of_sides(Node *expression, List *outer, List *inner);

/* Vars for all columns of a node's row. */
extern List *ivm_node_columns(IvmPlanNode *node, int varno);

/* True if the list is Var 1, Var 2, ... of varno, "width" long. */
extern bool ivm_tlist_is_identity(List *expressions, int varno, int width);

/* ivm.row_hash of the row of these expressions. */
extern Expr *ivm_row_hash_expression(List *columns);

/* ---- translate.c ---- */

/*
 * Translates a subtree, falling back to recomputing it.  NULL with
 * compiler->reason set if not even that can be done here but only further up.
 */
extern IvmPlanNode *ivm_translate(IvmCompiler *compiler, Plan *plan);

extern IvmPlanNode *ivm_node_create(IvmCompiler *compiler, IvmNodeKind kind, Plan *plan);

/* Fills in column names that the plan does not have from where the columns come from. */
extern void ivm_node_name_columns(IvmPlanNode *node);

/* A projection and filter above "child", merged into it where that is right. */
extern IvmPlanNode *ivm_node_map(IvmCompiler *compiler, IvmPlanNode *child, List *tlist, List *quals, Plan *plan);

/* Skips plan nodes that neither change nor drop a row (Sort, Hash, Material). */
extern Plan *ivm_plan_skip_passive(Plan *plan);

/* ---- node_kind.c ---- */

typedef struct IvmNodeRoutine
{
	/* Copies what only nodes of this kind have, in a copy of the node. */
	void		(*copy) (IvmPlanNode *node);

	/* The name of the column that the target list's Var passes on; NULL: none is known. */
	const char *(*column_name) (IvmPlanNode *node, Var *var);

	/* Can these conditions, and a projection above them, be the node's own? */
	bool		(*absorbs) (List *quals);

	/* The tree is final, and its nodes are numbered: makes what needs that. */
	void		(*complete) (IvmCompiler *compiler, IvmPlanNode *node);

	/*
	 * Makes the arrangement, of such a node, one of what the node keeps or reads
	 * anyway; false if that cannot be.
	 */
	bool		(*push) (IvmCompiler *compiler, IvmArrangement *arrangement);
} IvmNodeRoutine;

extern const IvmNodeRoutine *ivm_node_kind(IvmPlanNode *node);

/* ---- join.c ---- */
extern IvmPlanNode *ivm_translate_join(IvmCompiler *compiler, Plan *plan);

/* Conditions that a join node tests for a pair of rows, in the executor's order; not those on what comes out of it. */
extern List *ivm_match_conditions(Plan *plan);

/* ---- outer.c ---- */
extern IvmPlanNode *ivm_translate_outer(IvmCompiler *compiler, Plan *plan);

/* Is the inner join one with groups that only say whether there is a match? */
extern bool ivm_join_is_uniquified(Plan *plan);
extern bool ivm_push_outer(IvmCompiler *compiler, IvmArrangement *arrangement);

/* ---- join_path.c ---- */
extern void ivm_join_make_paths(IvmCompiler *compiler, IvmPlanNode *join);
extern void ivm_outer_make_paths(IvmCompiler *compiler, IvmPlanNode *outer);
extern bool ivm_push_join(IvmCompiler *compiler, IvmArrangement *arrangement);

/* Is it an equality that a lookup can use: symmetric, a member of an operator family, and false for NULL? */
extern bool ivm_clause_is_equality(Node *clause);

/* Is one row of the join's input at most found by these expressions over it (varno input + 1)? */
extern bool ivm_join_keys_are_unique(IvmCompiler *compiler, IvmPlanNode *join, int input, List *keys);

/* ---- join_order.c ---- */

/*
 * The input of a join that had better be looked up next: of those that are found by a unique key ("single") the one that stops
 * most rows, itself or by what it leads to.  -1: none stops any.  By input: what its filter lets pass, and whether it is
 * bound; "leads", by two of them: a row of the first says which one of the second.
 */
extern int	ivm_join_most_selective(int ninputs, const double *passing, const bool *bound, const bool *single, const bool *leads);

/* ---- through.c ---- */

/* Makes the new arrangement, a state table of an operator's rows, one that stores nothing, if that is right. */
extern void ivm_arrangement_push(IvmCompiler *compiler, IvmArrangement *arrangement);

/* Forgets the arrangements that were made last, all but so many of the plan's; nobody has them. */
extern void ivm_arrangements_drop(IvmCompiler *compiler, int before);

extern bool ivm_push_map(IvmCompiler *compiler, IvmArrangement *arrangement);
extern bool ivm_push_append(IvmCompiler *compiler, IvmArrangement *arrangement);
extern bool ivm_push_aggregate(IvmCompiler *compiler, IvmArrangement *arrangement);
extern bool ivm_push_recompute(IvmCompiler *compiler, IvmArrangement *arrangement);

/*
 * Makes it an arrangement through one more of the input's inputs, of which the keys are these expressions; "numbers"
 * (integer) says which of the arrangement's keys each is.
 */
extern void ivm_arrangement_add_below(IvmCompiler *compiler, IvmArrangement *arrangement, IvmPlanNode *input,
									  List *keys, List *numbers);

/* ---- aggregate.c ---- */

/* What a stored group has besides its columns and a column for each aggregate call (op_aggregate.c). */
#define IVM_GROUP_OTHER_COLUMNS	3

/* An aggregate over the plan's input, with these group columns and nothing else; NULL with compiler->reason set. */
extern IvmPlanNode *ivm_group_node_create(IvmCompiler *compiler, Plan *plan, int ncolumns, AttrNumber *columns,
										  Oid *operators, Oid *collations);

/* The same over an input that has been translated; it does not fail. */
extern IvmPlanNode *ivm_group_node_over(IvmCompiler *compiler, Plan *plan, IvmPlanNode *input, int ncolumns,
										AttrNumber *columns, Oid *operators, Oid *collations);

/* Gives it the target list and conditions of a plan node, and the calls in these; NULL with compiler->reason set. */
extern IvmPlanNode *ivm_group_node_finish(IvmCompiler *compiler, IvmPlanNode *node, List *targetlist, List *quals);


extern IvmPlanNode *ivm_translate_aggregate(IvmCompiler *compiler, Plan *plan);
extern IvmPlanNode *ivm_translate_group(IvmCompiler *compiler, Plan *plan);
extern IvmPlanNode *ivm_translate_unique(IvmCompiler *compiler, Plan *plan);

/*
 * The order in which the values are that the call, of an argument, gives one end of; *backward: which.  NULL: the
 * operator has none.
 */
extern IvmOrderKey *ivm_order_of_extreme(Aggref *aggref, Oid sort_operator, bool *backward);

/* ---- group_rows.c ---- */

/* Where the rows of its groups are found, if a call needs them; and whether anything else is stored. */
extern void ivm_aggregate_complete(IvmCompiler *compiler, IvmPlanNode *aggregate);

/* ---- estimate.c ---- */

/*
 * About how many rows a lookup reads and finds; below zero: not known.  False: it is not of base tables, or is of a table
 * for whose smallness there is no promise.
 */
extern bool ivm_arrangement_estimate(IvmArrangement *arrangement, double *read, double *found);

/* ---- grouping_sets.c ---- */
extern IvmPlanNode *ivm_translate_grouping_sets(IvmCompiler *compiler, Plan *plan);

/* ---- setop.c ---- */
extern IvmPlanNode *ivm_translate_set_operation(IvmCompiler *compiler, Plan *plan);

/* Keys of what INTERSECT and EXCEPT give, as ivm_plan_keys. */
extern List *ivm_set_operation_keys(PlannedStmt *statement, Plan *plan);

/* ---- distinct_calls.c ---- */

/* Are the values that are distinct, in a group, those of a unique key of the input?  Arguments read OUTER_VAR. */
extern bool ivm_distinct_is_of_key(IvmCompiler *compiler, IvmPlanNode *node, Aggref *aggref);

/* Can distinct arguments be stored? */
extern bool ivm_distinct_can_be_stream(Aggref *aggref);

/*
 * Lets the calls that still have DISTINCT, but those that are replayed, read streams of distinct values;
 * false, with the reason set, if there are too many columns.
 */
extern bool ivm_aggregate_add_streams(IvmCompiler *compiler, IvmPlanNode *node);

/* ---- aggregate_order.c ---- */

/*
 * Makes the order complete in which aggregate functions see their rows, where they depend on it: in a query, and in what
 * the planner made of it.
 */
extern void ivm_query_order_aggregates(Query *query);
extern void ivm_statement_order_aggregates(PlannedStmt *statement);

/* Does a function depend on the order, which the query gives or does not? */
extern bool ivm_aggregate_depends_on_order(Oid function, bool given);

/* Adds to the call's order what makes it complete. */
extern void ivm_aggregate_complete_order(Aggref *aggref);

/* ---- arrangement.c ---- */

/*
 * The arrangement of "input" by these keys: an equal one made before, or a new one.
 * Keys are in canonical order already.  "null_safe": NULL finds NULL.
 */
extern IvmArrangement *ivm_arrangement_make(IvmCompiler *compiler, IvmPlanNode *input,
											List *keys, List *operators, List *collations,
											bool null_safe);

/*
 * The same for rows that come in an order (IvmOrderKey over the input's row), and by keys of which NULL equals
 * NULL.  "ends" as for ivm_ordered_index: then a table's rows that are equal come in any order.  "first_of": the node
 * that keeps only the first of the rows, or NULL.
 */
extern IvmArrangement *ivm_arrangement_make_ordered(IvmCompiler *compiler, IvmPlanNode *input,
													List *keys, List *operators, List *collations,
													List *order, bool ends, IvmPlanNode *first_of);

/* ---- ordered_index.c ---- */

/*
 * The index of a scan's table that gives its rows by these keys in that order; NULL: none does.  "ends": one row
 * from either end is wanted, none with NULL, and of equal ones any.
 */
extern IvmIndexProbe *ivm_ordered_index(IvmPlanNode *scan, List *keys, List *operators, List *collations,
										List *order, bool ends);

/* ---- order.c ---- */

/* A column of a plan's output that its rows are ordered by. */
typedef struct IvmOrderedColumn
{
	AttrNumber	column;
	Oid			sort_operator;
	Oid			collation;
	bool		nulls_first;
} IvmOrderedColumn;

/* The order of a plan's rows (IvmOrderedColumn), NIL if there is none; false if that is not known. */
extern bool ivm_plan_order(Plan *plan, List **order);

extern IvmPlanNode *ivm_translate_limit(IvmCompiler *compiler, Plan *plan);
extern IvmPlanNode *ivm_translate_distinct_on(IvmCompiler *compiler, Plan *plan);

/* Columns of a plan's output by which its rows are ordered, as far as that is known. */
extern Bitmapset *ivm_plan_ordered_columns(Plan *plan);

/* Makes the arrangement that the node's rows are read from. */
extern void ivm_topk_complete(IvmCompiler *compiler, IvmPlanNode *node);

/* ---- key.c ---- */

/*
 * Unique keys of a plan's output: a list of integer lists of column numbers,
 * the best first; an empty list in it says that there is at most one row.
 * NULLs count as equal.  Key columns are compared by their types' default
 * equality and their own collation.
 */
extern List *ivm_plan_keys(PlannedStmt *statement, Plan *plan);

/* The key that grouping by these columns makes, of columns of the input, as ivm_plan_keys. */
extern List *ivm_group_keys(List *input_targetlist, int ncolumns, AttrNumber *columns, Oid *operators, Oid *collations);

/* The partitioned tables that all of these relations are partitions of, the nearest first; NIL if there is none. */
extern List *ivm_common_ancestors(List *relids);

/* The type's default equality operator, or InvalidOid. */
extern Oid	ivm_type_equality(Oid type);

/* ---- plan_copy.c ---- */

/*
 * Copies a plan into the current context, but for the statement, which must be
 * there already.
 */
extern IvmPlan *ivm_plan_copy(IvmPlan *plan);

/* ---- reads.c ---- */

/* What is read in the catalogs when a plan is executed.  Lists of oids, in no order; of functions and types the user's own. */
typedef struct IvmReads
{
	List	   *rows;			/* relations whose rows are taken apart or
								 * shown */
	List	   *functions;		/* called, as far as that is known */
	List	   *aggregates;
	List	   *io_functions;	/* make a text of a value or the other way
								 * round: of PostgreSQL's own those that are
								 * not immutable */
	List	   *enums;			/* whose labels are shown or looked for */
	List	   *domains;		/* whose constraints are checked */
	List	   *types;			/* that are made of no others, or shown */
	List	   *collations;
	bool		text_search;
	bool		default_configuration;	/* the one that is set */
	bool		any_text_search;	/* configurations that come with the rows */
	List	   *configurations;
	List	   *dictionaries;
} IvmReads;

/* Of the statement's plan tree; in the current context. */
extern IvmReads *ivm_statement_reads(PlannedStmt *statement);

/* The function by which JSON functions show values of a type of the user's, or InvalidOid. */
extern Oid	ivm_json_cast(Oid type);

/* ---- roles.c ---- */

/* The owner's, and the owners' of views in the query. */
extern List *ivm_statement_roles(PlannedStmt *statement, Oid owner);

/* These, and all that they are members of. */
extern List *ivm_roles_with_granted(List *roles);

/* A hash value of what these may do: attributes and memberships.  In a transaction. */
extern uint64 ivm_roles_hash(List *roles);

/* ---- fingerprint.c ---- */

/*
 * As text.  What it depends on is added to the statement's relationOids and
 * invalItems.  By the user who is going to evaluate it, with his settings in force.
 */
extern char *ivm_plan_fingerprint(IvmPlan *plan);

#endif							/* IVM_COMPILER_H */
