/*-------------------------------------------------------------------------
 *
 * copy_text.h
 *	  Text in fields of a fixed size.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_COPY_TEXT_H
#define IVM_COPY_TEXT_H

#include "postgres.h"

/*
 * Copies a text (NULL: an empty one) into a field of "size" bytes, cut at a character of the
 * database's encoding if it is too long.  Raises no errors.
 */
extern void ivm_copy_text(char *target, const char *source, Size size);

#endif							/* IVM_COPY_TEXT_H */
