/*-------------------------------------------------------------------------
 *
 * statement_lexer.h
 *	  Recognises statements about incremental views in a query string.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_STATEMENT_LEXER_H
#define IVM_STATEMENT_LEXER_H

#include "postgres.h"

typedef enum IvmSyntaxMatch
{
	IVM_SYNTAX_OTHER,			/* something else */
	IVM_SYNTAX_ALONE,			/* the one statement of the string */
	IVM_SYNTAX_AMONG_OTHERS		/* one of several statements of the string */
} IvmSyntaxMatch;

/*
 * Looks whether the word at byte "offset" of the string is the INCREMENTAL of
 * CREATE, DROP, ALTER or REFRESH INCREMENTAL VIEW at the beginning of a
 * statement.  "verb" is set to the first letter of that word in lower case.  Raises no
 * error, allocates nothing.
 */
extern IvmSyntaxMatch ivm_syntax_match(const char *string, size_t offset,
									   bool standard_strings, char *verb);

#endif							/* IVM_STATEMENT_LEXER_H */
