/*-------------------------------------------------------------------------
 *
 * view_writer.h
 *	  Writing a view whose indexes are not built yet.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_VIEW_WRITER_H
#define IVM_VIEW_WRITER_H

#include "apply/apply.h"

/* ivm_view_apply, but indexes are neither used nor written. */
extern void ivm_view_apply_unindexed(Relation view, IvmPlan *plan, IvmZset *delta,
									 Snapshot snapshot, IvmApplyCounts *counts);

#endif							/* IVM_VIEW_WRITER_H */
