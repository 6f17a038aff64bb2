/*-------------------------------------------------------------------------
 *
 * guard.c
 *	  A watch over what evaluates expressions of views.
 *
 * A view's query can do anything that its owner may do, for as long as it likes:
 * read for minutes, sleep, loop, wait for a lock.  While it is evaluated in a process
 * that others need, a timer looks every TICK ms, in its signal handler,
 *
 *	- whose expression is being evaluated: that view gets the time since the last look.
 *	  A sample costs nothing where rows are pushed through many views in turns, and
 *	  tells the views apart well enough where one of them takes long;
 *	- whether that view has had more than it may while others wait, or more than
 *	  ivm.view_timeout at all;
 *	- whether several views, each of which may go on, have had more than that together;
 *	- whether somebody waits for a lock that this process holds.
 *
 * If so it cancels what runs, as pg_cancel_backend() does, so that whatever serves interrupts
 * ends: sleeps and waits for locks among them.  A function that catches the cancel is cancelled
 * again with each tick, and ends with the process if it catches MERCY of them; the process
 * is started again, and knows by then whom it was for.  What never looks for interrupts (a function
 * in C that does not) cannot be ended here.
 *
 * What a process waits for on behalf of no view (the decoder, memory, its latch) is
 * on nobody's account.  Nor is more than two ticks at once: a process that got no
 * processor for a second has not found a slow view.
 *
 * The handler takes no lock.  It reads the fields of other processes that say what they
 * wait for while these may change: a lock's tag is in shared memory that is
 * never given back, so that the worst that can come of it is a batch that is done twice.
 * PostgreSQL's deadlock detector cannot do this for us: nobody is deadlocked, and only
 * autovacuum gives way to those it blocks.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "maintain/guard.h"

#define TICK				25	/* ms */
#define MERCY				4	/* cancels that may be caught */
#define GIVE_WAY_AFTER		100 /* ms that others wait for a lock */
#define MAX_GIVE_WAY_SHIFT	16
#define MAX_LOCKS_LOOKED_AT	1000

IvmWatch   *volatile ivm_guard_current = NULL;

static TimeoutId timer;
static bool (*others_wait) (const IvmWatch *watch) = NULL;

/* what is watched */
static const Oid *locked;
static int	nlocked;
static int	nwritten;

/* of the handler, while the timer runs */
static volatile TimestampTz last_tick;
static volatile TimestampTz waiter_since;	/* 0: nobody waits */
static volatile int total;		/* ms of all views */
static volatile int crowd;		/* views that have had IVM_GUARD_SHORT or more */
static volatile int crowd_total;	/* ms of these */
static volatile int caught;		/* cancels */
static volatile IvmCancel cancel = IVM_CANCEL_NONE;
static volatile Oid culprit = InvalidOid;

/* How often in a row what ran has given way: whoever waits has to do so longer each time. */
static int	gave_way = 0;

/* Does this lock conflict with one of ours? */
static bool
is_in_the_way(const LOCKTAG *tag, LOCKMODE mode)
{
	switch (tag->locktag_type)
	{
		case LOCKTAG_RELATION:
			if (tag->locktag_field1 != MyDatabaseId || mode < ShareLock)
				return false;
			for (int i = 0; i < nlocked; i++)
				if (locked[i] == tag->locktag_field2)
					return i < nwritten || mode == AccessExclusiveLock;
			return false;
		case LOCKTAG_OBJECT:
			/* a claim */
			for (int i = 0; i < nwritten; i++)
				if (locked[i] == tag->locktag_field3)
					return tag->locktag_field1 == MyDatabaseId;
			return false;
		case LOCKTAG_VIRTUALTRANSACTION:
			/* an index is dropped or made concurrently */
			return tag->locktag_field1 == MyProc->backendId && tag->locktag_field2 == MyProc->lxid;
		case LOCKTAG_TRANSACTION:
			return TransactionIdIsValid(MyProc->xid) && tag->locktag_field1 == MyProc->xid;
		default:
			return false;
	}
}

/*
 * Is it a lock that no batch takes, so that some function has?  Advisory ones, and those by which others are kept from
 * reading or writing a relation.  Who holds it is in a list of our own process, which others only add to.
 */
static bool
is_held_by_a_function(const LOCK *lock, const LOCKTAG *tag, LOCKMODE mode)
{
	SHM_QUEUE  *queue;
	PROCLOCK   *held;

	if (tag->locktag_type != LOCKTAG_ADVISORY && tag->locktag_type != LOCKTAG_RELATION)
		return false;
	/* a view that gets an index is locked by ourselves */
	for (int i = 0; i < nwritten && tag->locktag_type == LOCKTAG_RELATION; i++)
		if (locked[i] == tag->locktag_field2)
			return false;
	queue = &MyProc->myProcLocks[LockHashPartition(LockTagHashCode(tag))];
	held = (PROCLOCK *) SHMQueueNext(queue, queue, offsetof(PROCLOCK, procLink));
	for (int i = 0; held != NULL && i < MAX_LOCKS_LOOKED_AT; i++)
	{
		if (held->tag.myLock == lock)
		{
			for (LOCKMODE own = ShareUpdateExclusiveLock; own <= AccessExclusiveLock; own++)
				if ((held->holdMask & LOCKBIT_ON(own)) && DoLockModesConflict(own, mode))
					return true;
			return false;
		}
		held = (PROCLOCK *) SHMQueueNext(queue, &held->procLink, offsetof(PROCLOCK, procLink));
	}
	return false;
}

/* What for, if somebody waits for a lock of ours: to give way, or since a function blocks others. */
static IvmCancel
somebody_waits_for_a_lock(void)
{
	for (uint32 i = 0; i < ProcGlobal->allProcCount; i++)
	{
		volatile PGPROC *proc = &ProcGlobal->allProcs[i];
		LOCK	   *lock = proc->waitLock;
		LOCKTAG		tag;

		if (lock == NULL || proc->pid == MyProcPid)
			continue;
		tag = lock->tag;
		if (is_in_the_way(&tag, proc->waitLockMode))
			return IVM_CANCEL_GIVE_WAY;
		if (is_held_by_a_function(lock, &tag, proc->waitLockMode))
			return IVM_CANCEL_BLOCKING;
	}
	return IVM_CANCEL_NONE;
}

/* Is it time to end what runs? */
static IvmCancel
judge(const IvmWatch *watch, TimestampTz now)
{
	IvmCancel	waiter;

	if (watch->timeout > 0 && watch->elapsed >= watch->timeout)
		return IVM_CANCEL_TIMEOUT;
	if (watch->patience > 0 && watch->elapsed >= watch->patience && others_wait(watch))
		return IVM_CANCEL_PATIENCE;
	/* those who have had little are not the ones to be done apart */
	if (watch->crowd > 0 && total >= watch->crowd && crowd > 1 && crowd_total >= watch->crowd / 2 && others_wait(watch))
		return IVM_CANCEL_CROWD;
	waiter = somebody_waits_for_a_lock();
	if (waiter == IVM_CANCEL_NONE)
		waiter_since = 0;
	else if (waiter_since == 0)
		waiter_since = now;
	else if (now - waiter_since >= (int64) 1000 * (GIVE_WAY_AFTER << (waiter == IVM_CANCEL_GIVE_WAY ? gave_way : 0)))
		return waiter;
	return IVM_CANCEL_NONE;
}

/* In a signal handler. */
static void
tick(void)
{
	IvmWatch   *watch = ivm_guard_current;
	TimestampTz now = GetCurrentTimestamp();
	int64		elapsed = (now - last_tick) / 1000;

	last_tick = now;
	if (watch == NULL)
		return;
	elapsed = Max(0, Min(elapsed, 2 * TICK));
	total += elapsed;
	if (watch->elapsed >= IVM_GUARD_SHORT)
		crowd_total += elapsed;
	else if (watch->elapsed + elapsed >= IVM_GUARD_SHORT)
	{
		crowd++;
		crowd_total += watch->elapsed + elapsed;
	}
	watch->elapsed += elapsed;
	if (cancel == IVM_CANCEL_NONE)
	{
		cancel = judge(watch, now);
		if (cancel == IVM_CANCEL_NONE)
			return;
		culprit = watch->relid;
		caught = 0;
	}
	else if (!QueryCancelPending)
		caught++;				/* it was served, and here we are again */
	if (caught >= MERCY)
		ProcDiePending = true;
	else
		QueryCancelPending = true;
	InterruptPending = true;
}

void
ivm_guard_init(bool (*callback) (const IvmWatch *watch))
{
	others_wait = callback;
	timer = RegisterTimeout(USER_TIMEOUT, tick);
}

void
ivm_guard_begin(const Oid *relids, int count, int written)
{
	locked = relids;
	nlocked = count;
	nwritten = written;
	waiter_since = 0;
	total = crowd = crowd_total = 0;
	if (cancel != IVM_CANCEL_NONE)
		QueryCancelPending = false;
	cancel = IVM_CANCEL_NONE;
	culprit = InvalidOid;
	ivm_guard_current = NULL;
	last_tick = GetCurrentTimestamp();
	enable_timeout_every(timer, TimestampTzPlusMilliseconds(last_tick, TICK), TICK);
}

IvmCancel
ivm_guard_end(Oid *relid)
{
	IvmCancel	result;

	ivm_guard_current = NULL;
	disable_timeout(timer, false);
	result = cancel;
	*relid = culprit;
	cancel = IVM_CANCEL_NONE;
	culprit = InvalidOid;
	if (result != IVM_CANCEL_NONE)
		QueryCancelPending = false;
	if (result == IVM_CANCEL_GIVE_WAY)
		gave_way = Min(gave_way + 1, MAX_GIVE_WAY_SHIFT);
	else if (result == IVM_CANCEL_NONE)
		gave_way = 0;
	return result;
}

Oid
ivm_guard_culprit(void)
{
	return cancel == IVM_CANCEL_PATIENCE || cancel == IVM_CANCEL_CROWD || cancel == IVM_CANCEL_BLOCKING ? culprit : InvalidOid;
}
