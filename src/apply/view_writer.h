/*-------------------------------------------------------------------------
 *
 * view_writer.h
 *	  Other ways to write a delta into a view than ivm_view_apply.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_VIEW_WRITER_H
#define IVM_VIEW_WRITER_H

#include "apply/apply.h"

/* ivm_view_apply, but indexes are neither used nor written. */
extern void ivm_view_apply_unindexed(Relation view, IvmPlan *plan, IvmZset *delta,
									 Snapshot snapshot, IvmApplyCounts *counts);

/*
 * ivm_view_apply in a subtransaction.  False, with nothing written, if it raises
 * ERRCODE_PROGRAM_LIMIT_EXCEEDED; the delta can be applied again.
 */
extern bool ivm_view_apply_within_limits(Relation view, IvmPlan *plan, IvmZset *delta,
										 Snapshot snapshot, IvmApplyCounts *counts);

#endif							/* IVM_VIEW_WRITER_H */
