/*-------------------------------------------------------------------------
 *
 * plan.h
 *	  The delta plan: a read-only tree (with shared subtrees) of operators.
 *
 * A plan is made by the compiler and lives in one memory context.  Its nodes
 * stand in "nodes" with inputs before the operators that read them; node_id
 * is the index in that list.
 *
 * Expressions are executor expressions.  In a node with one input, and in a
 * scan, Var(varno 1, varattno k) is column k of the input's row (of the table,
 * for a scan; 0 the whole row, TableOidAttributeNumber its table).  In a join of either kind,
 * Var(varno i + 1, varattno k) is column k of input i.  In an aggregate,
 * arguments and filters read the input's row, tlist and quals read the raw
 * row: the group columns, then one column for each IvmAggregateCall.
 *
 * A kind of node is known by its line in IVM_NODE_KINDS.  What has to be known of each kind is a
 * routine whose name begins with the kind's word, in tables that are made of that list:
 *
 *		plan/node_text.c	its name, and its text
 *		plan/explain.c		what EXPLAIN shows of it
 *		compile/node_kind.c	how it is copied, where its columns come from, what it takes
 *							into itself, and what has to be made when nodes are numbered
 *		dataflow/dataflow.c	the operator
 *
 * so that a kind which lacks one does not compile.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_PLAN_H
#define IVM_PLAN_H

#include "postgres.h"

#include "access/tupdesc.h"
#include "nodes/plannodes.h"
#include "nodes/primnodes.h"

/*
 * scan			delta of a table, filtered and projected
 * map			filter and projection of one input
 * append		all inputs' rows
 * join			n-way inner join
 * outer		left, full, semi or anti join of two inputs
 * aggregate	groups, also DISTINCT, INTERSECT and EXCEPT
 * topk			the first rows in an order, of all or of each key
 * recompute	run again and compare
 * static		rows that no table determines
 */
#define IVM_NODE_KINDS(KIND) \
	KIND(IVM_SCAN, scan) \
	KIND(IVM_MAP, map) \
	KIND(IVM_APPEND, append) \
	KIND(IVM_JOIN, join) \
	KIND(IVM_OUTER, outer) \
	KIND(IVM_AGGREGATE, aggregate) \
	KIND(IVM_TOPK, topk) \
	KIND(IVM_RECOMPUTE, recompute) \
	KIND(IVM_STATIC, static)

#define IVM_KIND_NUMBER(kind, word) kind,

typedef enum IvmNodeKind
{
	IVM_NODE_KINDS(IVM_KIND_NUMBER)
} IvmNodeKind;

/* Why a part of a query has no delta rule: what programs know it by, all listed in README.md. */
#define IVM_REASONS(REASON) \
	REASON(IVM_REASON_WINDOW_FUNCTION, "window_function") \
	REASON(IVM_REASON_LIMIT_NOT_CONSTANT, "limit_not_constant") \
	REASON(IVM_REASON_LIMIT_ORDER, "limit_order") \
	REASON(IVM_REASON_DISTINCT_ON, "distinct_on") \
	REASON(IVM_REASON_DISTINCT_CONSTANT, "distinct_constant") \
	REASON(IVM_REASON_OUTER_JOIN, "outer_join") \
	REASON(IVM_REASON_SEMI_JOIN, "semi_join") \
	REASON(IVM_REASON_LATERAL_JOIN, "lateral_join") \
	REASON(IVM_REASON_LATERAL_FUNCTION, "lateral_function") \
	REASON(IVM_REASON_LATERAL_TABLE_FUNCTION, "lateral_table_function") \
	REASON(IVM_REASON_LATERAL_VALUES, "lateral_values") \
	REASON(IVM_REASON_SET_RETURNING_FUNCTION, "set_returning_function") \
	REASON(IVM_REASON_RECURSION, "recursion") \
	REASON(IVM_REASON_SUBQUERY, "subquery") \
	REASON(IVM_REASON_CORRELATED_SUBQUERY, "correlated_subquery") \
	REASON(IVM_REASON_AGGREGATE_STATE, "aggregate_state") \
	REASON(IVM_REASON_AGGREGATE_PARTIAL, "aggregate_partial") \
	REASON(IVM_REASON_AGGREGATE_PLACE, "aggregate_place") \
	REASON(IVM_REASON_NO_EQUALITY, "no_equality") \
	REASON(IVM_REASON_TOO_MANY_COLUMNS, "too_many_columns") \
	REASON(IVM_REASON_NOT_STORABLE, "not_storable") \
	REASON(IVM_REASON_PLAN_NODE, "plan_node")

#define IVM_REASON_CODE(code, name) code,

typedef enum IvmReasonCode
{
	IVM_REASONS(IVM_REASON_CODE)
} IvmReasonCode;

typedef struct IvmReason
{
	IvmReasonCode code;
	char	   *text;			/* what follows "no delta rule for" */
} IvmReason;

/* How an aggregate function is kept up to date. */
typedef enum IvmAccumulatorKind
{
	IVM_ACC_COUNT,				/* count(*), count(x): an int8 */
	IVM_ACC_MOVING,				/* moving-aggregate functions; state stored as
								 * such */
	IVM_ACC_MOVING_SERIAL,		/* the same, state "internal", stored
								 * serialized */
	IVM_ACC_FLOAT_SUM,			/* sum and avg of floats, exact */
	IVM_ACC_BOOL,				/* bool_and, bool_or, every: counts of true
								 * and not null */
	IVM_ACC_EXTREME,			/* min, max: the first value in an order, found
								 * in an ordered arrangement when it goes */
	IVM_ACC_BITS,				/* bit_and, bit_or, bit_xor of integers: a
								 * count for each bit */
	IVM_ACC_MOMENTS,			/* variances, covariances and the like of
								 * floats: exact sums */
	IVM_ACC_FORWARD,			/* plain transition functions: rows come, and
								 * when one goes the group is read */
	IVM_ACC_REPLAY,				/* the result is stored; with every change
								 * the group is read */
	IVM_ACC_RANK				/* percentiles of large groups: values at
								 * places in an order, found in an ordered
								 * arrangement */
} IvmAccumulatorKind;

/* What stands for a text where that would be too long. */
typedef struct IvmDigest
{
	uint64		parts[2];
} IvmDigest;

typedef struct IvmAggregateCall
{
	Aggref	   *aggref;			/* args (TargetEntry list) and aggfilter read
								 * the input's row, aggdirectargs the raw row */
	IvmAccumulatorKind kind;
	int			stream;			/* of distinct values that it reads; 0: the
								 * rows themselves */
	Aggref	   *shown;			/* what it was, for people; NULL: the same */

	/* EXTREME, RANK */
	Oid			sort_operator;	/* the result is the first value in its order */
	bool		varies;			/* may equal values look different? */
	bool		backward;		/* it is the last one in the arrangement */
	struct IvmArrangement *extremes;	/* the input's rows by the group columns,
										 * in the order of values */
} IvmAggregateCall;

/* One column of an order. */
typedef struct IvmOrderKey
{
	Expr	   *expr;			/* over the input's row */
	Oid			sort_operator;	/* of a B-tree family */
	Oid			collation;
	bool		nulls_first;
} IvmOrderKey;

/* Where rows of a join's input are looked up. */
typedef enum IvmArrangementKind
{
	IVM_ARRANGE_INDEX,			/* base arrangement: one index for each base
								 * table */
	IVM_ARRANGE_SCAN,			/* small base tables: read whole, once a batch */
	IVM_ARRANGE_STATE,			/* a state table */
	IVM_ARRANGE_OPERATOR,		/* the state that the input keeps anyway */
	IVM_ARRANGE_THROUGH			/* what the input reads: its inputs' rows,
								 * looked up and put through it */
} IvmArrangementKind;

/* One base table's part of a base arrangement. */
typedef struct IvmIndexProbe
{
	struct IvmPlanNode *scan;	/* the IVM_SCAN node */
	Oid			index;			/* InvalidOid: the table is small and read
								 * whole */
	List	   *key_numbers;	/* integer: which of the arrangement's keys
								 * feed the index's columns 1..n */
	bool		unique;			/* the keys are all columns of a unique index:
								 * it has one row of them at most */
	bool		backward;		/* of an arrangement with an order: it is read
								 * from the end */
} IvmIndexProbe;

typedef struct IvmArrangement
{
	IvmArrangementKind kind;
	struct IvmPlanNode *input;	/* whose rows */
	List	   *keys;			/* expressions over the input's row; NIL:
								 * every row matches */
	List	   *operators;		/* oid list: probe = key, hashable equality */
	List	   *collations;		/* oid list */
	bool		null_safe;		/* NULL finds NULL (groups), or nothing
								 * (joins) */
	List	   *order;			/* IvmOrderKey: the rows of a key come in this
								 * order, and a key may be NULL; NIL: in any */
	List	   *probes;			/* IvmIndexProbe, for INDEX and SCAN */
	List	   *own_keys;		/* of an aggregate: integer: by group column,
								 * which of the keys it equals, -1: none; NIL:
								 * all rows */
	List	   *below;			/* THROUGH: IvmArrangement, of each input of
								 * the input; of a join, of the paths' starts */
	List	   *below_keys;		/* THROUGH: of each of them an integer list:
								 * which of the keys are its keys */
	List	   *paths;			/* THROUGH a join of either kind: IvmJoinPath,
								 * for each of "below" the one that its rows
								 * start; looks up new states */
	int			nends;			/* in how many places a lookup ends */
	bool		shared;			/* STATE of base rows: a consumer of its own */
	bool		whole;			/* private STATE: it is what the input keeps
								 * itself, rows without a key included */
	bool		ends;			/* with an order: the first and the last row
								 * alone are asked for */
	struct IvmPlanNode *first_of;	/* STATE with an order: only the first
									 * rows are kept, by that node, for its
									 * own use; NULL: all are */
	char	   *text;			/* STATE: canonical definition; identity of a
								 * shared one; its digest names the table */
	char	   *advice;			/* STATE: "CREATE INDEX ON t (a)" that would
								 * replace it, or NULL */
} IvmArrangement;

/* One step of a path: look up one more input. */
typedef struct IvmJoinStage
{
	int			input;			/* index of the input that is looked up */
	IvmArrangement *arrangement;
	List	   *probes;			/* expressions over inputs bound before, one
								 * for each key */
	List	   *quals;			/* clauses that can be tested once it is bound
								 * (all clauses, key clauses too) */
} IvmJoinStage;

/* The walk from the delta of one input through all others. */
typedef struct IvmJoinPath
{
	int			start;			/* input whose delta starts it */
	List	   *quals;			/* clauses over the start alone */
	List	   *stages;			/* IvmJoinStage, every other input once */
} IvmJoinPath;

typedef struct IvmPlanNode
{
	IvmNodeKind kind;
	int			node_id;
	int			shape_id;		/* the same where the scans of a tree count as
								 * one, so that partitions may come and go */
	IvmDigest	digest;			/* of all that decides about its rows; names
								 * its state table */
	List	   *inputs;			/* IvmPlanNode */
	List	   *tlist;			/* Expr, one for each output column; NIL: the
								 * row as it is */
	List	   *quals;			/* Expr, implicitly ANDed */
	TupleDesc	desc;			/* output row; column names as far as known */
	Plan	   *plan;			/* the planner's subtree with the same output
								 * columns; NULL for the final projection */
	List	   *relids;			/* oid: tables whose rows it gets itself, not
								 * from an input */

	/* IVM_SCAN */
	Oid			relid;
	Oid			tree;			/* the table that the query names: itself, or
								 * one above it; InvalidOid: its place in the
								 * tree matters */
	Bitmapset  *attributes;		/* attnums read, no offset; NULL in other
								 * kinds: all */

	/* IVM_JOIN, IVM_OUTER */
	List	   *clauses;		/* all join clauses; of an outer join those
								 * that decide what matches */
	List	   *paths;			/* IvmJoinPath, one for each input that can
								 * change; of an outer join from the first
								 * input always, and from the second if that
								 * can change or has rows without a match */

	/* IVM_OUTER */
	JoinType	jointype;		/* LEFT, FULL, SEMI or ANTI */
	bool		key_decides;	/* there are no clauses but those that the
								 * inputs are looked up by */

	/* IVM_AGGREGATE */
	bool		grand;			/* no GROUP BY: one row always */
	List	   *group_columns;	/* integer: input columns */
	List	   *group_operators;	/* oid: equality */
	List	   *group_collations;	/* oid */
	List	   *calls;			/* IvmAggregateCall */
	int			flag_column;	/* of a set operation: the input column that
								 * is 0 in rows of the left side; the calls
								 * count both sides' rows.  0: it is none */
	SetOpCmd	set_operation;
	IvmArrangement *rows;		/* the input's rows by the group columns; NULL:
								 * nobody needs them, or there is no GROUP BY */
	List	   *row_keys;		/* integer: by key of that, which group column
								 * it is (0-based) */
	bool		keyed;			/* nothing is stored: groups are computed from
								 * "rows" */
	bool		has_choice;		/* statistics said whether it is to be so */
	int64		group_rows;		/* of a group, when they were asked; -1: that
								 * was not known */

	/* IVM_TOPK */
	List	   *key_columns;	/* integer: of the input; NIL: all rows are
								 * one key's */
	List	   *key_operators;	/* oid: equality */
	List	   *key_collations; /* oid */
	List	   *order;			/* IvmOrderKey; the key's columns first */
	int64		offset;
	int64		count;			/* -1: all */
	bool		with_ties;
	bool		any_rows;		/* no order is asked for: it is that of the
								 * images' hashes */
	IvmArrangement *ordered;	/* the input's rows by the key, in the order */

	/* IVM_RECOMPUTE */
	List	   *trees;			/* oid: "tree" of each of its tables */
	IvmReason  *reason;			/* why it has no delta rule */
	IvmArrangement *kept;		/* whose table has the last output; NULL: a
								 * table that nobody looks up by a key */
} IvmPlanNode;

typedef struct IvmPlan
{
	MemoryContext context;		/* holds all of it */
	Oid			relid;			/* the view; for a shared arrangement its
								 * state table */
	PlannedStmt *statement;		/* what the planner made */
	List	   *nodes;
	IvmPlanNode *root;			/* its output columns are the view's */
	List	   *arrangements;	/* IvmArrangement */
	List	   *relids;			/* oid: base tables that are read, leaves */
	List	   *key;			/* integer: view columns that are unique in
								 * the output, NULLs counting as equal; NIL if
								 * unknown */
	List	   *key_operators;	/* oid: equality operators of those */
	bool		single_row;		/* the output has at most one row (then key is
								 * NIL) */
	List	   *settings;		/* String pairs name, value: in force wherever
								 * it is evaluated */
	char	   *text;			/* deterministic: equal plans have equal text */
	char	   *fingerprint;	/* what else the view was computed from */
} IvmPlan;

/* Deterministic text of a node and what is below it; palloc'd. */
extern char *ivm_plan_node_text(IvmPlanNode *node);

/* What a line of a plan's text begins with that says how an aggregate's groups are kept; palloc'd. */
extern char *ivm_group_choice_label(IvmPlanNode *aggregate);

/* Deterministic text of a whole plan, without which index serves a base arrangement; palloc'd. */
extern char *ivm_plan_text(IvmPlan *plan);

/* Sets the nodes' shape_id and digest. */
extern void ivm_plan_identify_nodes(IvmPlan *plan);

/* The line that texts of plans and of shared arrangements begin with: the format of state. */
extern char *ivm_format_text(void);

/* Is that text, which is stored, of the format that this library writes and reads? */
extern bool ivm_text_has_format(const char *text);

extern IvmDigest ivm_text_digest(const char *text);

/* 32 hexadecimal digits, palloc'd. */
extern char *ivm_digest_text(IvmDigest digest);

/* Can the scan be told in terms of the columns of that table? */
extern bool ivm_scan_fits_tree(IvmPlanNode *scan, Oid tree);

/* The plan in EXPLAIN's look, one palloc'd C string a line. */
extern List *ivm_plan_explain(IvmPlan *plan);

extern const char *ivm_plan_node_name(IvmPlanNode *node);

/* A reason with that text, in the current context. */
extern IvmReason *ivm_reason(IvmReasonCode code, const char *format,...) pg_attribute_printf(2, 3);

/* Its code, as programs know it. */
extern const char *ivm_reason_name(IvmReason *reason);

#endif							/* IVM_PLAN_H */
