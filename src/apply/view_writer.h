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
 * ivm_view_apply in a subtransaction.  0, or with nothing written the code of an error that
 * other indexes would not have (view_index.h); the delta can be applied again.
 */
extern int	ivm_view_apply_trial(Relation view, IvmPlan *plan, IvmZset *delta,
								 Snapshot snapshot, IvmApplyCounts *counts);

#endif							/* IVM_VIEW_WRITER_H */
