/*-------------------------------------------------------------------------
 *
 * reason.c
 *	  Why a part of a query is recomputed: a code for programs, a text for people.
 *
 * The codes are said by ivm.explain and listed in the README.  One that has been there stays what it is.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "plan/plan.h"

#define REASON_NAME(code, name) [code] = name,

static const char *const names[] = {
	IVM_REASONS(REASON_NAME)
};

IvmReason *
ivm_reason(IvmReasonCode code, const char *format,...)
{
	IvmReason  *result = (IvmReason *) palloc(sizeof(IvmReason));
	StringInfoData text;

	initStringInfo(&text);
	for (;;)
	{
		va_list		args;
		int			needed;

		va_start(args, format);
		needed = appendStringInfoVA(&text, format, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&text, needed);
	}
	result->code = code;
	result->text = text.data;
	return result;
}

const char *
ivm_reason_name(IvmReason *reason)
{
	return names[reason->code];
}
