/*-------------------------------------------------------------------------
 *
 * outer_match.h
 *	  What a row of one side of an outer join matches on the other.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_OUTER_MATCH_H
#define IVM_OUTER_MATCH_H

#include "postgres.h"

#include "lib/bloomfilter.h"

#include "dataflow/operator.h"
#include "dataflow/probe.h"

typedef struct IvmOuterMatch IvmOuterMatch;

/* Gets each match, when its row is bound.  False: it wants no more. */
typedef bool (*IvmOuterReceiver) (void *context, int64 weight);

/* As ivm_join_walk_create; rows are found along these paths of the node, one of each input or only one of them. */
extern IvmOuterMatch *ivm_outer_match_create(IvmOperator *op, List *paths, List **caches);

/* Begin and end of a batch, or a population. */
extern void ivm_outer_match_begin(IvmOuterMatch *match);
extern void ivm_outer_match_end(IvmOuterMatch *match);

/* The next batch does not follow the last one. */
extern void ivm_outer_match_forget(IvmOuterMatch *match);

/* Begin and end of looking up rows of that input: see ivm_probe_start. */
extern void ivm_outer_match_start(IvmOuterMatch *match, int input, IvmZset *delta, bool old, int64 expected, bool cached);
extern void ivm_outer_match_stop(IvmOuterMatch *match, int input);

/*
 * A row of each input can be bound; its values stay where they are.  All columns of an input that is cleared
 * are NULL.  The wide row has the columns of both.
 */
extern void ivm_outer_match_bind(IvmOuterMatch *match, int input, const Datum *values, const bool *isnull);
extern void ivm_outer_match_clear(IvmOuterMatch *match, int input);
extern TupleTableSlot *ivm_outer_match_wide(IvmOuterMatch *match);

/* Could the bound row of that input match anything? */
extern bool ivm_outer_match_can(IvmOuterMatch *match, int input);

/* Do the rows that are bound match? */
extern bool ivm_outer_match_test(IvmOuterMatch *match);

/*
 * Finds what the bound row of that input matches on the other side, and binds each match for the receiver, which may
 * be NULL.  Returns the sum of their weights; goes on only as long as that is not above "limit".
 */
extern int64 ivm_outer_match_find(IvmOuterMatch *match, int input, int64 limit,
								  IvmOuterReceiver receiver, void *context);

/*
 * Does it match a row whose image is not in the filter?  That image's hash is looked for, as
 * ivm_row_image_hash() says.  True is certain.
 */
extern bool ivm_outer_match_find_beyond(IvmOuterMatch *match, int input, bloom_filter *images);

/*
 * Gives all rows of the input that the bound row of the other one looks up, whether they match or not.
 */
extern void ivm_outer_match_look_up(IvmOuterMatch *match, int input, IvmProbeReceiver receiver, void *context);

/* The place of the bound row of that input in the order that is best for finding what it matches. */
extern void ivm_outer_match_order(IvmOuterMatch *match, int input, uint64 *first, uint64 *second);

/*
 * The keys by which rows of an input are found.  Hash of a row's; false if one is NULL, and it matches nothing.
 */
extern bool ivm_outer_match_hash(IvmOuterMatch *match, int input, TupleTableSlot *row, uint64 *hash);

/* The same hash of what the bound row of the other input looks for. */
extern bool ivm_outer_match_hash_sought(IvmOuterMatch *match, int input, uint64 *hash);

/* The keys of a row of the input, in the current context. */
extern void ivm_outer_match_keys(IvmOuterMatch *match, int input, TupleTableSlot *row, Datum **values, bool **isnull);

/* Are the keys of two rows of the input equal? */
extern bool ivm_outer_match_same_keys(IvmOuterMatch *match, int input, const Datum *values, const bool *isnull,
									  const Datum *values2, const bool *isnull2);

/* Does the bound row of the other input look up rows with these keys? */
extern bool ivm_outer_match_looks_up(IvmOuterMatch *match, int input, const Datum *values, const bool *isnull);

#endif							/* IVM_OUTER_MATCH_H */
