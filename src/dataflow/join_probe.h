/*-------------------------------------------------------------------------
 *
 * join_probe.h
 *	  Rows of one input of a join by their key, in the new or the old state.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_JOIN_PROBE_H
#define IVM_JOIN_PROBE_H

#include "postgres.h"

#include "plan/plan.h"
#include "utils/snapshot.h"
#include "zset/zset.h"

typedef struct IvmJoinProbe IvmJoinProbe;

/* Gets each row found: as many values as the input has columns.  False: it wants no more. */
typedef bool (*IvmJoinProbeReceiver) (void *context, const Datum *values, const bool *isnull, int64 weight);

/*
 * Made with the plan; "probes" are the expressions whose values are looked for.  *caches are those (IvmCache) of
 * all probes of a join, which share them; NULL: this one has none.
 */
extern IvmJoinProbe *ivm_join_probe_create(IvmArrangement *arrangement, List *probes, Oid relid, List **caches);

/* Begin and end of a batch, or a population: see ivm_lookup_begin. */
extern void ivm_join_probe_begin(IvmJoinProbe *probe, Snapshot snapshot, IvmArena *arena, bool populate);
extern void ivm_join_probe_end(IvmJoinProbe *probe);

/*
 * Begin and end of a run of about so many probes.  If "minus" is not NULL they find
 * the state of the input before that delta.  "memory" is what may be taken to remember rows.
 * "cached": the caches know of the batch's deltas, and may be used.
 */
extern void ivm_join_probe_start(IvmJoinProbe *probe, IvmZset *minus, int64 expected, Size memory, bool cached);
extern void ivm_join_probe_stop(IvmJoinProbe *probe);

/*
 * Calls the receiver for all rows whose key equals the values, none of which is NULL, until that says
 * false, and then says so itself.  There may be
 * more, which do not match, and rows may come with weights that cancel out.  It
 * may use other probes meanwhile, not this one.
 */
extern bool ivm_join_probe_rows(IvmJoinProbe *probe, const Datum *values,
								IvmJoinProbeReceiver receiver, void *context);

/*
 * The place of a probe in the order that is best, equal keys together: by the first
 * number, then by the second.  Leaves memory in the current context.
 */
extern void ivm_join_probe_order(IvmJoinProbe *probe, const Datum *values, uint64 *first, uint64 *second);

#endif							/* IVM_JOIN_PROBE_H */
