/*-------------------------------------------------------------------------
 *
 * debug_point.c
 *	  Places in the code at which a test can hold or break a process.
 *
 * Crash safety is tested by stopping a process at a known place and killing
 * it there.  A place is a call of ivm_debug_point("name"), which costs the test
 * of one variable unless some point is armed by the setting ivm.debug_points,
 * for instance
 *
 *		ivm.debug_points = 'apply-before-commit=wait, decoder-start=error'
 *
 * The list is searched at every point reached while any is armed; no more
 * than tests need, and there is no state that could disagree with the setting.
 *
 * A waiting process serves interrupts and rereads the configuration, so that
 * taking the point off the list (and reloading) lets it go on, and it can be
 * cancelled and terminated.  It holds whatever it held.
 *
 * Points must not stand where interrupts are held off or a spinlock is held.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "storage/latch.h"
#include "utils/wait_event.h"

#include "base/debug_point.h"
#include "base/settings.h"

typedef enum DebugAction
{
	DEBUG_NONE,
	DEBUG_WAIT,
	DEBUG_ERROR,
	DEBUG_IO,
	DEBUG_FATAL,
	DEBUG_PANIC
} DebugAction;

static const struct
{
	const char *name;
	DebugAction action;
}			actions[] = {
	{"wait", DEBUG_WAIT},
	{"error", DEBUG_ERROR},
	{"io", DEBUG_IO},
	{"fatal", DEBUG_FATAL},
	{"panic", DEBUG_PANIC}
};

bool		ivm_debug_points_armed = false;
void		(*ivm_debug_point_report) (const char *name) = NULL;

/* A piece of the setting's text. */
typedef struct Word
{
	const char *start;
	size_t		length;
} Word;

static bool
word_is(Word word, const char *text)
{
	return strlen(text) == word.length && memcmp(word.start, text, word.length) == 0;
}

static Word
trimmed(const char *start, const char *end)
{
	while (start < end && strchr(" \t\n\r", *start))
		start++;
	while (start < end && strchr(" \t\n\r", end[-1]))
		end--;
	return (Word)
	{
		start, end - start
	};
}

/*
 * Takes the next name=action from *text.  False at the end of the list.  A
 * malformed element gives an empty name or no action.
 */
static bool
next_point(const char **text, Word *name, DebugAction *action)
{
	for (;;)
	{
		const char *start = *text;
		const char *end = start + strcspn(start, ",");
		const char *equals;
		Word		word = trimmed(start, end);

		if (word.length == 0 && *end == '\0')
			return false;
		*text = (*end == ',') ? end + 1 : end;
		if (word.length == 0)
			continue;

		*action = DEBUG_NONE;
		equals = memchr(word.start, '=', word.length);
		*name = trimmed(word.start, equals ? equals : word.start);
		if (equals)
		{
			Word		verb = trimmed(equals + 1, word.start + word.length);

			for (int i = 0; i < lengthof(actions); i++)
			{
				if (word_is(verb, actions[i].name))
					*action = actions[i].action;
			}
		}
		return true;
	}
}

/* What the setting says about a point. */
static DebugAction
find_action(const char *point)
{
	const char *text = ivm_debug_points ? ivm_debug_points : "";
	Word		name;
	DebugAction action;

	while (next_point(&text, &name, &action))
	{
		if (word_is(name, point))
			return action;
	}
	return DEBUG_NONE;
}

/* GUC check hook: refuses what would silently arm nothing. */
bool
ivm_debug_points_check(char **newval, void **extra, GucSource source)
{
	const char *text = *newval ? *newval : "";
	Word		name;
	DebugAction action;

	while (next_point(&text, &name, &action))
	{
		if (name.length == 0 || action == DEBUG_NONE)
		{
			GUC_check_errdetail("Each element must be name=action, with an action of wait, error, io, fatal or panic.");
			return false;
		}
	}
	return true;
}

/* GUC assign hook */
void
ivm_debug_points_assign(const char *newval, void *extra)
{
	const char *text = newval ? newval : "";
	Word		name;
	DebugAction action;

	ivm_debug_points_armed = next_point(&text, &name, &action);
}

/*
 * Waits until the setting no longer says "wait" about the point.  The latch is
 * left set, since wakeups meant for the caller may have been swallowed.
 */
static void
wait_at(const char *point)
{
	if (ivm_debug_point_report)
		ivm_debug_point_report(point);

	for (;;)
	{
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		if (find_action(point) != DEBUG_WAIT)
			break;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, -1L, PG_WAIT_EXTENSION);
	}

	if (ivm_debug_point_report)
		ivm_debug_point_report(NULL);
	SetLatch(MyLatch);
}

/*
 * Does what the setting says about the point.  Called by the macro only, while
 * some point is armed.
 */
void
ivm_debug_point_reached(const char *name)
{
	DebugAction action = find_action(name);

	if (action == DEBUG_WAIT)
	{
		wait_at(name);
		/* it may have been given another action instead of being disarmed */
		action = find_action(name);
	}

	switch (action)
	{
		case DEBUG_NONE:
		case DEBUG_WAIT:
			break;
		case DEBUG_IO:
			ereport(ERROR,
					(errcode(ERRCODE_IO_ERROR),
					 errmsg("could not read at debug point \"%s\"", name)));
			break;
		case DEBUG_ERROR:
		case DEBUG_FATAL:
		case DEBUG_PANIC:
			ereport(action == DEBUG_ERROR ? ERROR : action == DEBUG_FATAL ? FATAL : PANIC,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("reached debug point \"%s\"", name)));
	}
}
