/*-------------------------------------------------------------------------
 *
 * plan_walk.h
 *	  Walking the planner's finished plan trees.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_PLAN_WALK_H
#define IVM_PLAN_WALK_H

#include "postgres.h"

#include "nodes/plannodes.h"

/* Called for a plan node; returns true to end the walk. */
typedef bool (*IvmPlanVisitor) (Plan *plan, void *context);

/* The plan nodes directly below one, in the order of execution's tree; a fresh list. */
extern List *ivm_plan_children(Plan *plan);

/*
 * The expression trees of one plan node (not of those below it), its SubPlan
 * expressions and init plans included; a fresh list of shared trees.
 */
extern List *ivm_plan_expressions(Plan *plan);

/* Numbers (from 1, in PlannedStmt.subplans) of the subplans that the node itself refers to. */
extern Bitmapset *ivm_plan_subplans(Plan *plan);

/* And of those that the node, all below it, and these subplans refer to. */
extern Bitmapset *ivm_plan_all_subplans(PlannedStmt *statement, Plan *plan);

/*
 * Visits the node and all below it, parents first, each subplan that is
 * referred to once.  Returns true if a visitor did.
 */
extern bool ivm_plan_walk(PlannedStmt *statement, Plan *plan, IvmPlanVisitor visit, void *context);

/* Oids of the relations scanned in the tree and in its subplans, sorted. */
extern List *ivm_plan_relids(PlannedStmt *statement, Plan *plan);

/* The number in the range table of the relation that the node scans, or 0. */
extern Index ivm_plan_scan_relation(PlannedStmt *statement, Plan *plan);

#endif							/* IVM_PLAN_WALK_H */
