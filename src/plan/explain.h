/*-------------------------------------------------------------------------
 *
 * explain.h
 *	  Pieces of what EXPLAIN shows of a plan, for those who show it in another form.
 *
 * All results are in the current context; all need a transaction.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_EXPLAIN_H
#define IVM_EXPLAIN_H

#include "postgres.h"

#include "plan/plan.h"

/* A line of a node's own: "label: text". */
typedef struct IvmExplainProperty
{
	char	   *label;
	char	   *text;
	List	   *values;			/* C strings that the text is made of; NIL:
								 * the text is one thing */
} IvmExplainProperty;

/* The relation's name with its schema. */
extern char *ivm_relation_name(Oid relid);

/* What a node says of itself (IvmExplainProperty), but for its lookups. */
extern List *ivm_plan_node_properties(IvmPlan *plan, IvmPlanNode *node);

/* Its first line: the kind, and what there is to know at a glance. */
extern char *ivm_plan_node_title(IvmPlan *plan, IvmPlanNode *node);

/* What an arrangement is looked up by, C strings; NIL: it gives every row. */
extern List *ivm_arrangement_key_texts(IvmPlan *plan, IvmArrangement *arrangement);

/* The order in which the rows of a key come, or NULL. */
extern char *ivm_arrangement_order_text(IvmPlan *plan, IvmArrangement *arrangement);

/* Where its rows are. */
extern char *ivm_arrangement_place(IvmPlan *plan, IvmArrangement *arrangement);

/* The arrangements that a lookup goes through; NIL: it ends there. */
extern List *ivm_arrangement_parts(IvmArrangement *arrangement);

#endif							/* IVM_EXPLAIN_H */
