/*-------------------------------------------------------------------------
 *
 * rank.h
 *	  Values at places in an order: what accumulator_rank.c and rank_search.c share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_RANK_H
#define IVM_RANK_H

#include "postgres.h"

#include "utils/sortsupport.h"

#include "arrange/walk.h"
#include "dataflow/accumulator_internal.h"

/* A call; made once. */
typedef struct IvmRankCall
{
	SortSupportData order;
	Oid			type;			/* of the values */
	int16		length;
	bool		byval;
	char		align;
	int16		result_length;
	bool		result_byval;
	bool		continuous;		/* percentile_cont */
	bool		several;		/* of an array of fractions */
	ExprState  *fractions;		/* over the group's columns */
	ExprContext *econtext;
} IvmRankCall;

/* A value and where it stands. */
typedef struct IvmRankPlace
{
	Datum		value;
	int64		before;			/* values of the group before it */
	int64		equal;			/* and so many equal to it, which may be none */
	bool		touched;		/* some of these came or went */
} IvmRankPlace;

/* Of a group. */
typedef struct IvmRankState
{
	int			nplaces;
	IvmRankPlace *places;
} IvmRankState;

/* While the places of a group are looked for. */
typedef struct IvmRankSearch
{
	IvmAccumulatorCall *call;
	IvmWalk    *walk;
	const Datum *key_values;
	const bool *key_isnull;
	int64		count;			/* values of the group */
	IvmRankState *old;			/* as it was, with all that has come and gone
								 * counted */
	IvmRankState *new;			/* what was found, in the context */
	MemoryContext context;
} IvmRankSearch;

/* The value with so many before it, which is noted in the new state; good as long as that. */
extern Datum ivm_rank_find(IvmRankSearch *search, int64 target);

/* Brings the result and the places of a group's state, in which all values have been counted, up to date. */
extern void ivm_rank_complete(IvmAccumulatorCall *call, IvmAccumulatorState *state, IvmWalk *walk,
							  const Datum *key_values, const bool *key_isnull, TupleTableSlot *group_row,
							  MemoryContext context);

#endif							/* IVM_RANK_H */
