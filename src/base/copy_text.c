/*-------------------------------------------------------------------------
 *
 * copy_text.c
 *	  Text in fields of a fixed size.
 *
 * Texts that a user may have had a hand in (errors quote data) go through shared memory in
 * fields of a fixed size.  Half a character there would be an invalid string
 * to whoever reads it, and to his client.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "base/copy_text.h"

void
ivm_copy_text(char *target, const char *source, Size size)
{
	int			length = source ? strlen(source) : 0;

	if (length >= size)
		length = pg_mbcliplen(source, length, size - 1);
	if (length > 0)
		memcpy(target, source, length);
	target[length] = '\0';
}
