/*-------------------------------------------------------------------------
 *
 * settings.c
 *	  The settings that can change a query's result.
 *
 * Casts and functions that depend on settings alone are allowed in a view's
 * query.  The settings in force when the view was created are stored with it
 * and are put in force again wherever the view is evaluated, whoever does it
 * and whatever their own session says: here is the list of them.
 *
 * The search path is not among them.  It is set to a safe one, as REFRESH does
 * in newer servers, since what it could change (functions that look names up)
 * is refused in a view's query anyhow.
 *
 * State: none; memory: results in the current context.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "compile/compile.h"
#include "nodes/value.h"
#include "utils/guc.h"

/* All of them can be set by any user, so that the view's owner can put them in force. */
static const char *const result_settings[] = {
	"array_nulls",
	"bytea_output",
	"DateStyle",
	"default_text_search_config",
	"extra_float_digits",
	"IntervalStyle",
	"lc_monetary",
	"lc_numeric",
	"lc_time",
	"quote_all_identifiers",
	"TimeZone",
	"timezone_abbreviations",
	"xmlbinary",
	"xmloption"
};

List *
ivm_settings_capture(void)
{
	List	   *result = NIL;

	for (int i = 0; i < lengthof(result_settings); i++)
	{
		const char *value = GetConfigOption(result_settings[i], true, false);

		if (value == NULL)
			continue;
		result = lappend(result, list_make2(makeString(pstrdup(result_settings[i])),
											makeString(pstrdup(value))));
	}
	return result;
}

/* Most often nothing has to change, and some settings take long to set. */
static void
set_local(const char *name, const char *value)
{
	const char *current = GetConfigOption(name, true, false);

	if (current != NULL && strcmp(current, value) == 0)
		return;
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

int
ivm_settings_enter(List *settings)
{
	int			nest_level = NewGUCNestLevel();
	ListCell   *lc;

	set_local("search_path", "pg_catalog, pg_temp");
	set_local("row_security", "on");
	set_local("gin_fuzzy_search_limit", "0");	/* else an index scan may leave rows out */

	/*
	 * What a function of a query writes would be in no log: our own writes
	 * are not decoded.  (Views are not written by statements.)
	 */
	set_local("transaction_read_only", "on");

	/*
	 * what our processes override for themselves (process.c), for sessions
	 * that evaluate a view
	 */
	set_local("synchronize_seqscans", "off");
	set_local("transform_null_equals", "off");
	set_local("standard_conforming_strings", "on");
	set_local("backslash_quote", "safe_encoding");
	foreach(lc, settings)
	{
		List	   *pair = (List *) lfirst(lc);

		set_local(strVal(linitial(pair)), strVal(lsecond(pair)));
	}
	return nest_level;
}
