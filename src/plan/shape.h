/*-------------------------------------------------------------------------
 *
 * shape.h
 *	  The shapes of a plan's nodes, for its text.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_SHAPE_H
#define IVM_SHAPE_H

#include "postgres.h"

#include "plan/plan.h"

/* Numbers of the nodes of a list; zeroed, they are none. */
typedef struct IvmShapes
{
	List	   *nodes;
	List	   *numbers;		/* integer: of each of them */
	List	   *texts;			/* of each; NULL but for scans of trees */
	int			count;
} IvmShapes;

/* Adds a node whose inputs are there; true if it has a shape that none before it has. */
extern bool ivm_shape_add(IvmShapes *shapes, IvmPlanNode *node);

/* The node's number, -1 if it has not been added. */
extern int	ivm_shape_number(IvmShapes *shapes, IvmPlanNode *node);

/*
 * The shapes of an append's inputs in the order in which they come.  Of a tree that is read twice each member
 * is, too: its shape then comes twice.  Should members differ in that, each is
 * told.
 */
extern List *ivm_input_shapes(IvmShapes *shapes, IvmPlanNode *append);

/* What a scan of a tree does, but for which member it reads. */
extern char *ivm_scan_text(IvmPlanNode *scan);

/* Parts of a node's text: the types of its columns, and expressions with a label. */
extern void ivm_text_append_row_type(StringInfo buffer, IvmPlanNode *node);
extern void ivm_text_append_expressions(StringInfo buffer, const char *label, List *list);

#endif							/* IVM_SHAPE_H */
