/*-------------------------------------------------------------------------
 *
 * arranger.h
 *	  Keeps the private state tables of an operator's rows.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_ARRANGER_H
#define IVM_ARRANGER_H

#include "postgres.h"

#include "dataflow/operator.h"

typedef struct IvmArranger IvmArranger;

/* Gives an arranger to each operator that has to have one; has_state and is_stateful are not touched. */
extern void ivm_arrangers_create(IvmDataflow *dataflow);

extern void ivm_arranger_begin(IvmArranger *arranger, IvmDataflow *dataflow);
extern void ivm_arranger_receive(IvmArranger *arranger, TupleTableSlot *row, int64 weight);

/* All of the operator's rows have come: writes them. */
extern void ivm_arranger_finish(IvmArranger *arranger);
extern void ivm_arranger_end(IvmArranger *arranger);

/* Names of its state tables: C strings. */
extern List *ivm_arranger_state_names(IvmArranger *arranger);

#endif							/* IVM_ARRANGER_H */
