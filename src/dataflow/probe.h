/*-------------------------------------------------------------------------
 *
 * probe.h
 *	  Rows of one input of an operator by their key, in the new or the old state.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_PROBE_H
#define IVM_PROBE_H

#include "postgres.h"

#include "dataflow/dataflow.h"
#include "plan/plan.h"
#include "zset/zset.h"

typedef struct IvmProbe IvmProbe;

/* Gets each row found: as many values as the input has columns.  False: it wants no more. */
typedef bool (*IvmProbeReceiver) (void *context, const Datum *values, const bool *isnull, int64 weight);

/*
 * Made with the dataflow; "probes" are the expressions whose values are looked for.  *caches are those (IvmCache) of
 * all probes of an operator, which share them; NULL: this one has none.
 */
extern IvmProbe *ivm_probe_create(IvmDataflow *dataflow, IvmArrangement *arrangement, List *probes, List **caches);

/* Begin and end of a batch, or a population. */
extern void ivm_probe_begin(IvmProbe *probe);
extern void ivm_probe_end(IvmProbe *probe);

/* The next batch does not follow the last one. */
extern void ivm_probe_forget(IvmProbe *probe);

/*
 * Begin and end of a run of about so many probes.  "delta" is the batch's delta of the input, NULL if that has none; if
 * "old" they find the state of the input before it.  "memory" is what may be taken to remember rows.
 * "cached": it is a batch, and the caches know of its deltas and may be used.
 */
extern void ivm_probe_start(IvmProbe *probe, IvmZset *delta, bool old, int64 expected, Size memory, bool cached);
extern void ivm_probe_stop(IvmProbe *probe);

/*
 * Calls the receiver for all rows whose key equals the values, none of which is NULL, until that says
 * false, and then says so itself.  There may be
 * more, which do not match, and rows may come with weights that cancel out.  It
 * may use other probes meanwhile, not this one.
 */
extern bool ivm_probe_rows(IvmProbe *probe, const Datum *values, IvmProbeReceiver receiver, void *context);

/*
 * The place of a probe in the order that is best, equal keys together: by the first
 * number, then by the second.  Leaves memory in the current context.
 */
extern void ivm_probe_order(IvmProbe *probe, const Datum *values, uint64 *first, uint64 *second);

/* For qsort of an array of IvmRow *, whose hashes and links are these two numbers. */
extern int	ivm_probe_compare_orders(const void *a, const void *b);

/* The caches of an operator's probes forget the keys of that delta of its input; or everything. */
extern void ivm_probe_caches_apply(List *caches, IvmPlanNode *input, IvmZset *delta);
extern void ivm_probe_caches_forget(List *caches);

#endif							/* IVM_PROBE_H */
