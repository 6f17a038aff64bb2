/*-------------------------------------------------------------------------
 *
 * order_key.c
 *	  The columns of an order.
 *
 * A column is told by its sort operator, as the planner has it: "less" or "greater" of some B-tree
 * operator family.  An index in that order needs an operator class of the family, for the type that
 * the operator takes.
 *
 * Memory: results in the current context.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "catalog/pg_am.h"
#include "catalog/pg_opclass.h"
#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "plan/order_key.h"
#include "plan/plan_text.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

Oid
ivm_order_key_type(IvmOrderKey *key)
{
	return getBaseType(exprType((Node *) key->expr));
}

Oid
ivm_order_key_class(IvmOrderKey *key, bool *descending)
{
	Oid			family;
	Oid			type;
	int16		strategy;
	ScanKeyData scan_key;
	Relation	classes;
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			result = InvalidOid;

	if (!get_ordering_op_properties(key->sort_operator, &family, &type, &strategy))
		return InvalidOid;
	*descending = strategy == BTGreaterStrategyNumber;
	ScanKeyInit(&scan_key, Anum_pg_opclass_opcmethod, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(BTREE_AM_OID));
	classes = table_open(OperatorClassRelationId, AccessShareLock);
	scan = systable_beginscan(classes, OpclassAmNameNspIndexId, true, NULL, 1, &scan_key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_opclass form = (Form_pg_opclass) GETSTRUCT(tuple);

		/* the first of several, in an order that is the same in each process */
		if (form->opcfamily == family && form->opcintype == type && !OidIsValid(form->opckeytype) &&
			(!OidIsValid(result) || form->oid < result))
			result = form->oid;
	}
	systable_endscan(scan);
	table_close(classes, AccessShareLock);
	return result;
}

bool
ivm_order_key_can_be_stored(IvmOrderKey *key)
{
	Oid			type = ivm_order_key_type(key);

	for (;;)
	{
		Oid			element;

		switch (get_typtype(type))
		{
			case TYPTYPE_COMPOSITE:
			case TYPTYPE_PSEUDO:
				return false;
			case TYPTYPE_RANGE:
				element = get_range_subtype(type);
				break;
			case TYPTYPE_MULTIRANGE:
				element = get_multirange_range(type);
				break;
			default:
				element = get_base_element_type(type);
				break;
		}
		if (!OidIsValid(element))
			return true;
		type = getBaseType(element);
	}
}

List *
ivm_order_copy(List *order)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, order)
	{
		IvmOrderKey *key = (IvmOrderKey *) palloc(sizeof(IvmOrderKey));

		*key = *(IvmOrderKey *) lfirst(lc);
		key->expr = copyObject(key->expr);
		result = lappend(result, key);
	}
	return result;
}

void
ivm_order_append_text(StringInfo buffer, List *order)
{
	ListCell   *lc;

	foreach(lc, order)
	{
		IvmOrderKey *key = (IvmOrderKey *) lfirst(lc);

		appendStringInfo(buffer, " order (%s operator %u collation %u%s)", ivm_expression_text((Node *) key->expr),
						 key->sort_operator, key->collation, key->nulls_first ? " nulls first" : "");
	}
}
