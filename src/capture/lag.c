/*-------------------------------------------------------------------------
 *
 * lag.c
 *	  Since when something waits, as whoever looks can work it out.
 *
 * A process that is dead, stopped, busy or not there yet cannot say what it has not
 * done.  So those who come before it in the line leave a note for it: a commit for the
 * decoder, the decoder for each consumer.  The note is the time of the first thing that
 * came after everything before had been taken up; it stays as it is whatever comes later,
 * and is taken back by the one it is for, when that has taken up all.  Besides there is
 * how far the line is filled (last_commit, published) and how far it is taken
 * up (reached, the consumer's number): the note counts only while the first is ahead of
 * the second.
 *
 *		who fills		raises "filled"; then, if there is no note or a later one, leaves
 *						its time
 *		who takes up	reads the note, then "filled"; if all of that is taken up takes the
 *						note back, and looks at "filled" again: if it was raised meanwhile,
 *						by one who may have seen the note, it puts the note back
 *
 * With a full barrier between the two steps of each, either the first sees that there is no
 * note or the second sees that "filled" was raised.  The note put back is older than
 * need be, until the next time that all is taken up.
 *
 * Who is always behind but gets on never takes a note back.  But it knows the time of what
 * it took up last, and what comes later in the line was committed later (but for the moment
 * between the time and the place in the WAL of commits at once).  So the answer is the later
 * of the two; both are at or before the first commit that waits.
 *
 * It costs a commit one atomic operation on a word of shared memory, and a second one if it is
 * the first that waits.
 *
 * All is lost with a restart of the server.  What was in the WAL then (up to "base") came at
 * an unknown time; until the decoder has passed it, the time of what it took up last is all
 * that is known, or nothing: DT_NOBEGIN.
 *
 * Commits without a transaction id leave WAL too, as a SELECT does that prunes a page; nobody
 * flushes that soon, and it is no change.  COMMIT PREPARED is one that matters: it has flushed its WAL.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "utils/timestamp.h"

#include "capture/capture_internal.h"

/* Leaves a note, unless there is an older one.  "filled" was raised before. */
static void
leave_note(pg_atomic_uint64 *note, TimestampTz time)
{
	uint64		old;

	pg_memory_barrier();
	old = pg_atomic_read_u64(note);
	while ((old == 0 || time < (TimestampTz) old) &&
		   !pg_atomic_compare_exchange_u64(note, &old, (uint64) time))
		;
}

/* Takes a note back, if all is taken up. */
static void
take_back_note(pg_atomic_uint64 *note, pg_atomic_uint64 *filled, uint64 taken_up)
{
	uint64		old = pg_atomic_read_u64(note);
	uint64		none = 0;

	if (old == 0)
		return;
	pg_memory_barrier();
	if (pg_atomic_read_u64(filled) > taken_up || !pg_atomic_compare_exchange_u64(note, &old, 0))
		return;
	pg_memory_barrier();
	if (pg_atomic_read_u64(filled) > taken_up)
		(void) pg_atomic_compare_exchange_u64(note, &none, old);
}

/* What is known of the first that waits, after what was taken up at "last" (0: nothing was). */
static TimestampTz
first_waiting(pg_atomic_uint64 *note, bool complete, TimestampTz last)
{
	TimestampTz noted = complete ? (TimestampTz) pg_atomic_read_u64(note) : 0;

	if (noted == 0)
		return last != 0 ? last : DT_NOBEGIN;
	return Max(noted, last);
}

/* ---- from commits to the decoder ---- */

void
ivm_lag_committed(IvmDatabase *database, XLogRecPtr end)
{
	TimestampTz time = GetCurrentTransactionStopTimestamp();

	if (!TransactionIdIsValid(GetTopTransactionIdIfAny()))
	{
		if (GetFlushRecPtr(NULL) < end)
			return;
		time = GetCurrentStatementStartTimestamp();
	}
	ivm_raise(&database->last_commit, end);
	if (pg_atomic_read_u64(&database->reached) < end)
		leave_note(&database->undecoded_since, time);
}

void
ivm_lag_decoded(IvmDatabase *database, XLogRecPtr decoded)
{
	ivm_raise(&database->reached, decoded);
}

/* The decoder has nothing more to read, or may have: true if it should look again. */
bool
ivm_lag_is_noted_in_vain(IvmDatabase *database)
{
	return pg_atomic_read_u64(&database->undecoded_since) != 0 &&
		pg_atomic_read_u64(&database->last_commit) <= pg_atomic_read_u64(&database->reached);
}

void
ivm_lag_caught_up(IvmDatabase *database)
{
	take_back_note(&database->undecoded_since, &database->last_commit,
				   pg_atomic_read_u64(&database->reached));
}

/* The slot was made anew: what came before is lost to the consumers, as they are going to find out. */
void
ivm_lag_lost(IvmDatabase *database)
{
	TimestampTz since = ivm_undecoded_since(database);

	if (since != 0)
		pg_atomic_write_u64(&database->lost_since, (uint64) since);
}

TimestampTz
ivm_undecoded_since(IvmDatabase *database)
{
	XLogRecPtr	reached = pg_atomic_read_u64(&database->reached);
	XLogRecPtr	last_commit;

	pg_read_barrier();
	last_commit = pg_atomic_read_u64(&database->last_commit);
	if (Max(database->base, last_commit) <= reached)
		return 0;
	return first_waiting(&database->undecoded_since, reached >= database->base,
						 (TimestampTz) pg_atomic_read_u64(&database->decoded_time));
}

XLogRecPtr
ivm_decoded_position(IvmDatabase *database)
{
	return pg_atomic_read_u64(&database->reached);
}

/* ---- from the decoder to consumers ---- */

void
ivm_lag_published(IvmDatabase *database, uint64 sequence, TimestampTz time)
{
	int			n = pg_atomic_read_u32(&database->nnoted);

	pg_atomic_write_u64(&database->published, sequence);
	for (int i = 0; i < n; i++)
		leave_note(&database->consumer[i].unread_since, time);
}

void
ivm_lag_read(IvmDatabase *database, int consumer, uint64 sequence)
{
	take_back_note(&database->consumer[consumer].unread_since, &database->published, sequence);
}

uint64
ivm_log_incarnation(IvmDatabase *database)
{
	return pg_atomic_read_u64(&database->newest_incarnation);
}

TimestampTz
ivm_unread_since(IvmDatabase *database, int consumer, const IvmReadFacts *facts)
{
	TimestampTz result = 0;

	if (facts->sequence < pg_atomic_read_u64(&database->published))
		result = first_waiting(&database->consumer[consumer].unread_since, true, facts->time);

	/* it has not found out yet that a slot was lost */
	if (facts->incarnation != pg_atomic_read_u64(&database->newest_incarnation))
	{
		TimestampTz lost = (TimestampTz) pg_atomic_read_u64(&database->lost_since);

		if (lost != 0 && (result == 0 || lost < result))
			result = lost;
	}
	return result;
}
