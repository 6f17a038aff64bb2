/*-------------------------------------------------------------------------
 *
 * source.h
 *	  Rows of a node of the plan by their key, in the new state.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_SOURCE_H
#define IVM_SOURCE_H

#include "postgres.h"

#include "arrange/arrange.h"
#include "dataflow/dataflow.h"

typedef struct IvmSource IvmSource;

/* Made with the dataflow, in the current context, for one place that looks up. */
extern IvmSource *ivm_source_create(IvmDataflow *dataflow, IvmArrangement *arrangement);

/* Begin and end of a batch, or a population. */
extern void ivm_source_begin(IvmSource *source);
extern void ivm_source_end(IvmSource *source);

/* As the functions of a lookup of these names (arrange/arrange.h).  The arrangement's input has to be finished. */
extern bool ivm_source_is_unique(IvmSource *source);
extern int64 ivm_source_pages(IvmSource *source);
extern void ivm_source_read(IvmSource *source, IvmLookupReceiver receiver, void *context);
extern void ivm_source_expect(IvmSource *source, int64 probes);
extern bool ivm_source_find(IvmSource *source, const Datum *values, const bool *isnull,
							IvmLookupReceiver receiver, void *context);

#endif							/* IVM_SOURCE_H */
