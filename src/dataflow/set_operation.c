/*-------------------------------------------------------------------------
 *
 * set_operation.c
 *	  How many times a group of an INTERSECT or EXCEPT gives its row.
 *
 * Such an operator is an aggregate over the rows of both sides, which are told apart by a flag, with a
 * group for each different row.  With l rows of the left side and r of the right one,
 *
 *		INTERSECT		1 if l > 0 and r > 0
 *		INTERSECT ALL	min(l, r)
 *		EXCEPT			1 if l > 0 and r = 0
 *		EXCEPT ALL		max(l - r, 0)
 *
 * A batch changes a group in one step, whatever changed on which side, so the difference of these numbers is the
 * change of the output.  Groups that give nothing are kept, too: their counts are
 * needed when the other side changes.
 *
 * What is shown of rows that are equal but do not look the same is a row of the left side that is there
 * (aggregate_groups.c counts rows of that side only).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "dataflow/aggregate_internal.h"

bool
ivm_group_shows(AggregateRun *state, TupleTableSlot *row)
{
	bool		isnull;

	return state->flag_column == 0 || DatumGetInt32(slot_getattr(row, state->flag_column, &isnull)) == 0;
}

int64
ivm_group_weight(AggregateRun *state, TupleTableSlot *raw)
{
	bool		isnull;
	int64		left;
	int64		right;

	if (state->flag_column == 0)
		return 1;
	left = DatumGetInt64(slot_getattr(raw, state->ncolumns + 1, &isnull));
	right = DatumGetInt64(slot_getattr(raw, state->ncolumns + 2, &isnull));
	switch (state->set_operation)
	{
		case SETOPCMD_INTERSECT:
			return left > 0 && right > 0 ? 1 : 0;
		case SETOPCMD_INTERSECT_ALL:
			return Min(left, right);
		case SETOPCMD_EXCEPT:
			return left > 0 && right == 0 ? 1 : 0;
		case SETOPCMD_EXCEPT_ALL:
			return Max(left - right, 0);
	}
	return 0;
}
