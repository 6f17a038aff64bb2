/*-------------------------------------------------------------------------
 *
 * statement_lexer.c
 *	  A lexer that knows just enough of SQL to tell statements apart, and that
 *	  cannot fail.
 *
 * It runs while an error is being reported, where another error must not
 * happen: no allocation, no recursion, no lookup.  It needs to know what a
 * semicolon or a word is and what merely looks like one inside a string, a
 * quoted identifier, a dollar quote or a comment.  All server encodings have
 * only bytes above 127 in their multibyte characters, so bytes will do.
 *
 * The core scanner reads the statement again, where errors are allowed, before
 * anything is executed; a mistake here could only cost a better message.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "ddl/statement_lexer.h"

typedef enum TokenKind
{
	TOKEN_END,
	TOKEN_SEMICOLON,
	TOKEN_WORD,
	TOKEN_OTHER
} TokenKind;

typedef struct Token
{
	TokenKind	kind;
	const char *start;
	size_t		length;
} Token;

static inline bool
is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f';
}

static inline bool
is_word_start(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || IS_HIGHBIT_SET(c);
}

static inline bool
is_word_part(char c)
{
	return is_word_start(c) || (c >= '0' && c <= '9') || c == '$';
}

static bool
word_is(const Token *token, const char *word)
{
	return token->kind == TOKEN_WORD &&
		token->length == strlen(word) &&
		pg_strncasecmp(token->start, word, token->length) == 0;
}

/* Past white space and comments. */
static const char *
skip_space(const char *p)
{
	for (;;)
	{
		if (is_space(*p))
			p++;
		else if (p[0] == '-' && p[1] == '-')
		{
			while (*p != '\0' && *p != '\n' && *p != '\r')
				p++;
		}
		else if (p[0] == '/' && p[1] == '*')
		{
			int			depth = 0;

			do
			{
				if (p[0] == '/' && p[1] == '*')
				{
					depth++;
					p += 2;
				}
				else if (p[0] == '*' && p[1] == '/')
				{
					depth--;
					p += 2;
				}
				else if (*p == '\0')
					break;
				else
					p++;
			} while (depth > 0);
		}
		else
			return p;
	}
}

/* Past a string or identifier in quotes; p is at the opening one. */
static const char *
skip_quoted(const char *p, char quote, bool backslash)
{
	for (p++; *p != '\0'; p++)
	{
		if (backslash && *p == '\\' && p[1] != '\0')
			p++;
		else if (*p == quote)
		{
			if (p[1] != quote)
				return p + 1;
			p++;
		}
	}
	return p;
}

/* Past a dollar-quoted string, or past the dollar if it is none. */
static const char *
skip_dollar_quoted(const char *p)
{
	const char *tag_end = p + 1;
	size_t		length;

	if (is_word_start(*tag_end))
		while (is_word_part(*tag_end) && *tag_end != '$')
			tag_end++;
	if (*tag_end != '$')
		return p + 1;
	length = tag_end + 1 - p;
	for (const char *q = tag_end + 1; *q != '\0'; q++)
		if (*q == '$' && strncmp(q, p, length) == 0)
			return q + length;
	return tag_end + strlen(tag_end);
}

/* Reads the token at p and returns where the next one may begin. */
static const char *
next_token(const char *p, bool standard_strings, Token *token)
{
	p = skip_space(p);
	token->start = p;
	token->kind = TOKEN_OTHER;
	if (*p == '\0')
		token->kind = TOKEN_END;
	else if (*p == ';')
	{
		token->kind = TOKEN_SEMICOLON;
		p++;
	}
	else if ((*p == 'e' || *p == 'E') && p[1] == '\'')
		p = skip_quoted(p + 1, '\'', true);
	else if (*p == '\'')
		p = skip_quoted(p, '\'', !standard_strings);
	else if (*p == '"')
		p = skip_quoted(p, '"', false);
	else if (*p == '$')
		p = skip_dollar_quoted(p);
	else if (is_word_start(*p))
	{
		token->kind = TOKEN_WORD;
		while (is_word_part(*p))
			p++;
	}
	else if (*p >= '0' && *p <= '9')
	{
		/* a dollar right after a number begins no string */
		while (is_word_part(*p))
			p++;
	}
	else
		p++;
	token->length = p - token->start;
	return p;
}

IvmSyntaxMatch
ivm_syntax_match(const char *string, size_t offset, bool standard_strings, char *verb)
{
	const char *p = string;
	Token		first;
	Token		second;
	Token		third;
	int			statements = 0;
	int			depth;
	bool		found = false;

	for (;;)
	{
		p = next_token(p, standard_strings, &first);
		if (first.kind == TOKEN_END)
			break;
		if (first.kind == TOKEN_SEMICOLON)
			continue;
		statements++;

		/* at the first token of a statement */
		if (word_is(&first, "create") || word_is(&first, "drop") ||
			word_is(&first, "alter") || word_is(&first, "refresh"))
		{
			const char *q = next_token(p, standard_strings, &second);

			(void) next_token(q, standard_strings, &third);
			if (second.start == string + offset &&
				word_is(&second, "incremental") && word_is(&third, "view"))
			{
				found = true;
				*verb = pg_tolower((unsigned char) first.start[0]);
			}
		}

		/*
		 * to its end; a semicolon in parentheses separates the actions of a
		 * rule
		 */
		depth = first.start[0] == '(' ? 1 : 0;
		for (;;)
		{
			p = next_token(p, standard_strings, &second);
			if (second.kind == TOKEN_END || (second.kind == TOKEN_SEMICOLON && depth == 0))
				break;
			if (second.start[0] == '(')
				depth++;
			else if (second.start[0] == ')' && depth > 0)
				depth--;
		}
		if (second.kind == TOKEN_END)
			break;
	}
	if (!found)
		return IVM_SYNTAX_OTHER;
	return statements == 1 ? IVM_SYNTAX_ALONE : IVM_SYNTAX_AMONG_OTHERS;
}
