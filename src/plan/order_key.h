/*-------------------------------------------------------------------------
 *
 * order_key.h
 *	  The columns of an order.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_ORDER_KEY_H
#define IVM_ORDER_KEY_H

#include "postgres.h"

#include "lib/stringinfo.h"
#include "plan/plan.h"

/* The type of the column's values, domains aside. */
extern Oid	ivm_order_key_type(IvmOrderKey *key);

/*
 * The B-tree operator class that a column of that type is ordered by; *descending: the other way round.
 * InvalidOid if there is none.
 */
extern Oid	ivm_order_key_class(IvmOrderKey *key, bool *descending);

/*
 * Can the values be a column of a table of ours?  A table with a column of a row type keeps people from
 * altering the type.
 */
extern bool ivm_order_key_can_be_stored(IvmOrderKey *key);

/* Copies a list of IvmOrderKey. */
extern List *ivm_order_copy(List *order);

/* Deterministic text of a list of IvmOrderKey. */
extern void ivm_order_append_text(StringInfo buffer, List *order);

#endif							/* IVM_ORDER_KEY_H */
