/*-------------------------------------------------------------------------
 *
 * statement_syntax.c
 *	  CREATE, DROP, ALTER and REFRESH INCREMENTAL VIEW, spelled like that.
 *
 * The grammar has no extension point, and a statement is parsed before any
 * hook could see it.  But a statement that does not parse becomes an error,
 * and an error passes emit_log_hook on its way to log and client:
 *
 * 1. The hook sees a syntax error at the word INCREMENTAL, in a statement that
 *	  is the only one of a simple query, outside of a block.  It keeps the error
 *	  from log and client and registers a reset callback on MessageContext.
 *	  Nothing in the hook can raise an error: it compares, and its lexer
 *	  (statement_lexer.c) allocates nothing.
 * 2. The main loop aborts the transaction of the failed statement, in which nothing
 *	  has been done, and resets MessageContext before it tells the client that it is ready.
 * 3. The callback runs the statement as the main loop would have: a transaction,
 *	  a portal, statement_timeout, logging, the completion tag.  An error in
 *	  it is an ordinary error, caught by the main loop, and the callback is not
 *	  called again.
 *
 * The statement is parsed by the server's own scanner and grammar, with a list
 * of keywords in which "incremental" stands for MATERIALIZED.  The text stays
 * as the client sent it, so every error position, every log line and
 * everything else that shows or cuts it is right by itself.
 * (Rewriting the text was the alternative: it moves all positions.)
 *
 * Where the callback may not run, the syntax error stays and gets a hint with
 * the native spelling: in a block or a function, beside other statements,
 * which would share an implicit transaction, and in the extended protocol,
 * where a Parse must not execute anything.  A simple query outside of a block
 * is told by the process title, which is "idle" until the first statement of a simple query
 * has been parsed and is "PARSE" in a Parse message; with update_process_title off, by the place of
 * the query in the message buffer (begins_message).
 *
 * The hook is not called for errors below log_min_messages, and
 * ivm.statement_syntax switches it off.  Statements that parse never come here.
 *
 * Memory: a context of its own under MessageContext, deleted at the end, or
 * with the next reset after an error.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/printtup.h"
#include "access/xact.h"
#include "commands/createas.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "parser/analyze.h"
#include "parser/gramparse.h"
#include "parser/parser.h"
#include "pgstat.h"
#include "replication/walsender.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "tcop/dest.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/ps_status.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"

#include "base/compat.h"
#include "base/settings.h"
#include "ddl/ddl.h"
#include "ddl/statement_lexer.h"

#define KEYWORD			"incremental"
#define STANDS_FOR		"materialized"

static emit_log_hook_type previous_hook = NULL;

/* The statement to be run by the callback; it lies in MessageContext. */
static const char *pending = NULL;
static MemoryContextCallback callback;

/* True from the start of the callback until its success or its error. */
static bool running = false;

/* The keywords of the grammar and one more, made at server start. */
static ScanKeywordList keywords;
static uint16 *keyword_tokens;

bool
ivm_statement_is_literal(void)
{
	return running;
}


/* ---- parsing ---- */

/*
 * The one more has the last number.
 */
static int
keyword_hash(const void *key, size_t length)
{
	if (length == strlen(KEYWORD) && pg_strncasecmp(key, KEYWORD, length) == 0)
		return keywords.num_keywords - 1;
	return ScanKeywords.hash(key, length);
}

static void
make_keywords(void)
{
	int			n = ScanKeywords.num_keywords;
	Size		size = ScanKeywords.kw_offsets[n - 1] +
		strlen(GetScanKeyword(n - 1, &ScanKeywords)) + 1;
	int			original = ScanKeywordLookup(STANDS_FOR, &ScanKeywords);
	char	   *string = MemoryContextAlloc(TopMemoryContext, size + sizeof(KEYWORD));
	uint16	   *offsets = MemoryContextAlloc(TopMemoryContext, sizeof(uint16) * (n + 1));

	Assert(original >= 0);
	memcpy(string, ScanKeywords.kw_string, size);
	memcpy(string + size, KEYWORD, sizeof(KEYWORD));
	memcpy(offsets, ScanKeywords.kw_offsets, sizeof(uint16) * n);
	offsets[n] = (uint16) size;

	keyword_tokens = MemoryContextAlloc(TopMemoryContext, sizeof(uint16) * (n + 1));
	memcpy(keyword_tokens, ScanKeywordTokens, sizeof(uint16) * n);
	keyword_tokens[n] = ScanKeywordTokens[original];

	keywords = ScanKeywords;
	keywords.kw_string = string;
	keywords.kw_offsets = offsets;
	keywords.hash = keyword_hash;
	keywords.num_keywords = n + 1;
	keywords.max_kw_len = Max(ScanKeywords.max_kw_len, (int) strlen(KEYWORD));
}

/* raw_parser() with our keywords. */
static List *
parse(const char *string)
{
	base_yy_extra_type extra;
	core_yyscan_t scanner;
	int			result;

	scanner = scanner_init(string, &extra.core_yy_extra, &keywords, keyword_tokens);
	extra.have_lookahead = false;
	parser_init(&extra);
	result = base_yyparse(scanner);
	scanner_finish(scanner);
	return result == 0 ? extra.parsetree : NIL;
}

/*
 * What the grammar could not know: the access method of the new view.
 */
static void
adjust(RawStmt *statement, const char *string)
{
	CreateTableAsStmt *stmt;

	if (!IsA(statement->stmt, CreateTableAsStmt))
		return;
	stmt = (CreateTableAsStmt *) statement->stmt;
	if (stmt->into->accessMethod != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("an access method cannot be named for an incremental view"),
				 errhint("Leave the USING clause out.")));
	stmt->into->accessMethod = pstrdup(KEYWORD);
}


/* ---- running ---- */

/* What exec_simple_query does to the timeouts. */
static void
start_timeouts(void)
{
	if (StatementTimeout > 0)
	{
		if (!get_timeout_active(STATEMENT_TIMEOUT))
			enable_timeout_after(STATEMENT_TIMEOUT, StatementTimeout);
	}
	else if (get_timeout_active(STATEMENT_TIMEOUT))
		disable_timeout(STATEMENT_TIMEOUT, false);

	if (client_connection_check_interval > 0 && IsUnderPostmaster && MyProcPort &&
		!get_timeout_active(CLIENT_CONNECTION_CHECK_TIMEOUT))
		enable_timeout_after(CLIENT_CONNECTION_CHECK_TIMEOUT, client_connection_check_interval);
}

static void
report_duration(const char *string, bool was_logged)
{
	char		ms[32];

	switch (check_log_duration(ms, was_logged))
	{
		case 1:
			ereport(LOG,
					(errmsg("duration: %s ms", ms), errhidestmt(true)));
			break;
		case 2:
			ereport(LOG,
					(errmsg("duration: %s ms  statement: %s", ms, string), errhidestmt(true)));
			break;
	}
}

/*
 * Runs the statement from its text to its completion tag, as a simple query.
 */
static void
run(const char *string)
{
	MemoryContext context = AllocSetContextCreate(MessageContext, "incremental view statement",
												  ALLOCSET_DEFAULT_SIZES);
	CommandDest dest = whereToSendOutput;
	bool		was_logged = false;
	List	   *parsed;
	RawStmt    *statement;
	CommandTag	tag;
	List	   *plans;
	Portal		portal;
	DestReceiver *receiver;
	QueryCompletion qc;
	int16		format = 0;

	debug_query_string = string;
	pgstat_report_activity(STATE_RUNNING, string);
	if (log_statement_stats)
		ResetUsage();
	StartTransactionCommand();
	start_timeouts();

	MemoryContextSwitchTo(context);
	parsed = parse(string);
	if (list_length(parsed) != 1)
		elog(ERROR, "statement about an incremental view was read as %d statements", list_length(parsed));
	statement = linitial_node(RawStmt, parsed);
	adjust(statement, string);

	if (log_statement == LOGSTMT_ALL ||
		(log_statement != LOGSTMT_NONE && GetCommandLogLevel((Node *) statement) <= log_statement))
	{
		ereport(LOG,
				(errmsg("statement: %s", string), errhidestmt(true)));
		was_logged = true;
	}

	pgstat_report_query_id(0, true);
	tag = CreateCommandTag(statement->stmt);
	set_ps_display(GetCommandTagName(tag));
	BeginCommand(tag, dest);
	CHECK_FOR_INTERRUPTS();

	if (analyze_requires_snapshot(statement))
		PushActiveSnapshot(GetTransactionSnapshot());
	plans = pg_plan_queries(pg_analyze_and_rewrite_fixedparams(statement, string, NULL, 0, NULL),
							string, CURSOR_OPT_PARALLEL_OK, NULL);
	if (ActiveSnapshotSet())
		PopActiveSnapshot();
	CHECK_FOR_INTERRUPTS();

	portal = CreatePortal("", true, true);
	portal->visible = false;
	PortalDefineQuery(portal, NULL, string, tag, plans, NULL);
	PortalStart(portal, NULL, 0, InvalidSnapshot);
	PortalSetResultFormat(portal, 1, &format);
	receiver = CreateDestReceiver(dest);
	if (dest == DestRemote)
		SetRemoteDestReceiverParams(receiver, portal);
	MemoryContextSwitchTo(CurTransactionContext);
	(void) PortalRun(portal, FETCH_ALL, true, true, receiver, receiver, &qc);
	receiver->rDestroy(receiver);
	PortalDrop(portal, false);

	if (get_timeout_active(STATEMENT_TIMEOUT))
		disable_timeout(STATEMENT_TIMEOUT, false);
	CommitTransactionCommand();
	EndCommand(&qc, dest, false);
	report_duration(string, was_logged);
	if (log_statement_stats)
		ShowUsage("QUERY STATISTICS");
	debug_query_string = NULL;
	MemoryContextSwitchTo(MessageContext);
	MemoryContextDelete(context);
}

static void
run_pending(void *arg)
{
	const char *string = pending;

	pending = NULL;
	if (string == NULL || proc_exit_inprogress)
		return;
	running = true;				/* until the hook sees an error, or: */
	run(string);
	running = false;
}


/* ---- recognising ---- */

/*
 * True if the text begins the message that it came in, as in a simple query; a
 * Parse message begins with the name of a statement, be it empty.  The text
 * of a message is where it was received unless it had to be converted.
 */
static bool
begins_message(const char *string)
{
	if (pg_get_client_encoding() != GetDatabaseEncoding() &&
		pg_get_client_encoding() != PG_SQL_ASCII && GetDatabaseEncoding() != PG_SQL_ASCII)
		return false;
	return chunk_begins_compat(string, MessageContext);
}

/* True if the error was raised by parsing a simple query outside of a block. */
static bool
is_simple_query(void)
{
	const char *title;
	int			length;

	if (whereToSendOutput != DestRemote || am_walsender || MessageContext == NULL ||
		ActivePortal != NULL || IsTransactionBlock() || IsSubTransaction() ||
		!IsTransactionState() || TransactionIdIsValid(GetTopTransactionIdIfAny()))
		return false;
	if (!update_process_title)
		return begins_message(debug_query_string);
	title = get_ps_display(&length);
	return length >= 4 && strncmp(title, "idle", 4) == 0 && (title[4] == '\0' || title[4] == ' ');
}

/* The byte at which the character of that number, counted from 1, begins. */
static bool
byte_offset(const char *string, int position, size_t *offset)
{
	const char *p = string;

	if (position <= 0)
		return false;
	while (--position > 0)
	{
		int			length;

		if (*p == '\0')
			return false;
		length = pg_mblen(p);
		while (length-- > 0 && *p != '\0')
			p++;
	}
	*offset = p - string;
	return true;
}

static char *
native_spelling(char verb)
{
	switch (verb)
	{
		case 'c':
			return "Here it is spelled CREATE MATERIALIZED VIEW ... USING incremental AS ...; CREATE INCREMENTAL VIEW has to be sent alone, outside a transaction block, in the simple query protocol.";
		case 'd':
			return "Here it is spelled DROP MATERIALIZED VIEW; DROP INCREMENTAL VIEW has to be sent alone, outside a transaction block, in the simple query protocol.";
		case 'a':
			return "Here it is spelled ALTER MATERIALIZED VIEW; ALTER INCREMENTAL VIEW has to be sent alone, outside a transaction block, in the simple query protocol.";
		default:
			return "Here it is spelled REFRESH MATERIALIZED VIEW; REFRESH INCREMENTAL VIEW has to be sent alone, outside a transaction block, in the simple query protocol.";
	}
}

static void
see_error(ErrorData *edata)
{
	const char *string;
	size_t		offset;
	IvmSyntaxMatch match;
	char		verb;

	if (edata->elevel != ERROR)
		return;
	if (running)
	{
		/* the error of the statement that the callback ran */
		running = false;
		if (edata->internalquery == NULL)
			return;
	}
	if (!ivm_statement_syntax || edata->sqlerrcode != ERRCODE_SYNTAX_ERROR)
		return;

	string = edata->internalquery ? edata->internalquery : debug_query_string;
	if (string == NULL ||
		!byte_offset(string, edata->internalquery ? edata->internalpos : edata->cursorpos, &offset))
		return;
	match = ivm_syntax_match(string, offset, standard_conforming_strings, &verb);
	if (match == IVM_SYNTAX_OTHER)
		return;

	if (match == IVM_SYNTAX_ALONE && edata->internalquery == NULL && is_simple_query())
	{
		edata->output_to_server = false;
		edata->output_to_client = false;
		pending = string;
		callback.func = run_pending;
		callback.arg = NULL;
		MemoryContextRegisterResetCallback(MessageContext, &callback);
	}
	else if (edata->hint == NULL)
		edata->hint = native_spelling(verb);
}

static void
emit_log(ErrorData *edata)
{
	see_error(edata);
	if (previous_hook && edata->output_to_server)
		previous_hook(edata);
}

void
ivm_statement_syntax_init(void)
{
	make_keywords();
	previous_hook = emit_log_hook;
	emit_log_hook = emit_log;
}
