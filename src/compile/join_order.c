/*-------------------------------------------------------------------------
 *
 * join_order.c
 *	  Which of a join's inputs is looked up first, of those that have at most one row.
 *
 * Such inputs multiply nothing, so their order decides only how soon a row that
 * comes to nothing is given up.  An input with a filter stops most rows, and so does one
 * that leads to such an input: a supplier to the one nation that the query asks for.
 * Hence each chain of lookups of one row, from what is bound to an input with a filter, is
 * rated by the share of rows that it stops, divided by its length, and the
 * first lookup of the best chain is made.
 *
 * What a filter lets pass is the planner's estimate without statistics: an
 * equality is strict, an inequality is not.  So the choice is as stable as the plan.
 *
 * Costs: inputs squared for each lookup of a path; nothing if there is no filter.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "compile/compiler.h"

/* Longer chains are not looked for. */
#define LONGEST_CHAIN	4

/* A chain of lookups that ends at an input. */
typedef struct Chain
{
	int			first;			/* the input that it begins with */
	int			length;			/* 0: there is none */
	double		passing;		/* share of the rows that come out */
} Chain;

int
ivm_join_most_selective(int ninputs, const double *passing, const bool *bound, const bool *single, const bool *leads)
{
	Chain	   *chains = (Chain *) palloc0(sizeof(Chain) * ninputs);
	double		best_rate = 0;
	int			best = -1;

	for (int length = 1; length <= LONGEST_CHAIN; length++)
	{
		for (int i = 0; i < ninputs; i++)
		{
			double		rate;

			if (bound[i] || chains[i].length > 0)
				continue;
			if (length == 1 && single[i])
				chains[i] = (Chain) {i, 1, passing[i]};
			for (int from = 0; from < ninputs && length > 1; from++)
			{
				if (chains[from].length == length - 1 && leads[from * ninputs + i])
				{
					chains[i] = (Chain) {chains[from].first, length, chains[from].passing * passing[i]};
					break;
				}
			}
			if (chains[i].length == 0)
				continue;
			rate = (1 - chains[i].passing) / length;
			if (rate > best_rate)
			{
				best_rate = rate;
				best = chains[i].first;
			}
		}
	}
	pfree(chains);
	return best;
}
