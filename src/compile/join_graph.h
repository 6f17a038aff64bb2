/*-------------------------------------------------------------------------
 *
 * join_graph.h
 *	  What choosing the paths of a join needs to know about it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_JOIN_GRAPH_H
#define IVM_JOIN_GRAPH_H

#include "postgres.h"

#include "compile/compiler.h"

/* An equality by which rows of an input can be looked up. */
typedef struct IvmKeyClause
{
	int			input;			/* whose rows */
	Expr	   *key;			/* over that input, Vars of varno input + 1 */
	Expr	   *probe;			/* over other inputs */
	Bitmapset  *probe_inputs;
	Oid			operator;		/* probe = key */
	Oid			collation;
} IvmKeyClause;

/* What choosing a path needs to know about a join. */
typedef struct IvmJoinGraph
{
	IvmPlanNode *join;
	int			ninputs;
	Bitmapset **clause_inputs;	/* by clause: what must be bound before it is
								 * tested */
	List	   *key_clauses;	/* IvmKeyClause */
	List	  **unique_keys;	/* by input: lists of integer lists */
	double	   *passing;		/* by input: the share of rows that its filter
								 * lets pass */
	bool		filtered;		/* one has a filter */
	bool	   *leads;			/* by two inputs: a row of the first says which
								 * one of the second; NULL: not known yet */
} IvmJoinGraph;

/* In the current context. */
extern IvmJoinGraph *ivm_join_graph_make(IvmCompiler *compiler, IvmPlanNode *join);

/* The inputs that an expression over the join's inputs reads. */
extern Bitmapset *ivm_join_expression_inputs(Node *node);

/*
 * Do the equalities (IvmKeyClause) bind every column of a unique key of "input"?  "of_keys":
 * look at the key sides, else at the probe sides.
 */
extern bool ivm_join_covers_unique_key(IvmJoinGraph *graph, int input, List *clauses, bool of_keys);

/* The lookups of "input" that can be made when "bound" is, one for each key (IvmKeyClause). */
extern List *ivm_join_usable_keys(IvmJoinGraph *graph, int input, Bitmapset *bound);

/* Of the inputs with one row at most when "bound" is, the one that stops most rows (join_order.c); -1: none does. */
extern int ivm_join_graph_most_selective(IvmJoinGraph *graph, Bitmapset *bound);

#endif							/* IVM_JOIN_GRAPH_H */
