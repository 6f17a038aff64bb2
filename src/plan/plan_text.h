/*-------------------------------------------------------------------------
 *
 * plan_text.h
 *	  Deterministic text of expressions and of the planner's subtrees.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_PLAN_TEXT_H
#define IVM_PLAN_TEXT_H

#include "postgres.h"

#include "plan/plan.h"

/*
 * Text of an expression (or list of them) that is equal for equal expressions,
 * wherever in a query they were written; palloc'd.
 */
extern char *ivm_expression_text(Node *expression);

/*
 * Text of a planner's subtree and of the subplans that it needs, equal for
 * subtrees that do the same in the same way: without costs, with its relations by oid.
 * palloc'd.
 */
extern char *ivm_subplan_text(PlannedStmt *statement, Plan *plan);

/*
 * Text of one operator alone, its inputs by their numbers: operators with equal
 * texts yield the same rows.  palloc'd.
 */
extern char *ivm_plan_operator_text(PlannedStmt *statement, IvmPlanNode *node);

#endif							/* IVM_PLAN_TEXT_H */
