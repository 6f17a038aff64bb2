/*-------------------------------------------------------------------------
 *
 * trouble.c
 *	  When views in state error are tried again.
 *
 * What made a view fail is repaired by somebody, most often, who does not think of the
 * view: bad data is corrected, a right granted, a disk emptied.  So each is tried again: after a second,
 * then after twice as long each time, up to five minutes; sooner if something
 * happened that may have been the repair.  A try costs what a rebuild costs, so after one that took long the next
 * one does not come soon, whatever happens.
 *
 * A view that is well again is remembered for a while: one that fails again in that time goes on with the
 * pauses where it was, so that a view whose rebuilds succeed and whose batches fail is not
 * rebuilt all the time.
 *
 * The list is in shared memory, of fixed size, and lost with a restart: then all are tried soon,
 * as the apply workers find them.  The launcher starts a builder when the time of one has come.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "process/control.h"
#include "process/trouble.h"

#define MIN_PAUSE		1000	/* ms */
#define MAX_PAUSE		300000
#define MAX_SHIFT		9
#define COST_FACTOR		10
#define REMEMBERED		600000	/* ms that it is well */

static IvmTrouble *
find_trouble(IvmTroubles *troubles, Oid relid)
{
	for (int i = 0; i < troubles->count; i++)
		if (troubles->views[i].relid == relid)
			return &troubles->views[i];
	return NULL;
}

/* Room for one; NULL if all that there are are in trouble. */
static IvmTrouble *
add_trouble(IvmTroubles *troubles, Oid relid)
{
	IvmTrouble *result = NULL;

	if (troubles->count < IVM_MAX_TROUBLES)
		result = &troubles->views[troubles->count++];
	for (int i = 0; result == NULL && i < troubles->count; i++)
		if (troubles->views[i].next == 0)
			result = &troubles->views[i];
	if (result != NULL)
	{
		memset(result, 0, sizeof(IvmTrouble));
		result->relid = relid;
	}
	return result;
}

/* The database's list, with the lock held; NULL, and no lock, if it has none. */
static IvmTroubles *
open_troubles(Oid dboid, LWLockMode mode)
{
	IvmControlDatabase *database;

	LWLockAcquire(ivm_control->lock, mode);
	database = ivm_control_find(dboid, false);
	if (database != NULL)
		return &database->troubles;
	LWLockRelease(ivm_control->lock);
	return NULL;
}

/* A time was set: whoever waits for it looks.  Releases the lock. */
static void
close_and_tell(Oid dboid)
{
	IvmControlDatabase *database = ivm_control_find(dboid, false);

	if (database->builder_latch != NULL)
		SetLatch(database->builder_latch);
	LWLockRelease(ivm_control->lock);
	ivm_control_wake_launcher();
}

void
ivm_trouble_failed(Oid dboid, Oid relid)
{
	TimestampTz now = GetCurrentTimestamp();
	IvmTroubles *troubles = open_troubles(dboid, LW_EXCLUSIVE);
	IvmTrouble *view;

	if (troubles == NULL)
		return;
	view = find_trouble(troubles, relid);
	if (view == NULL)
		view = add_trouble(troubles, relid);
	if (view != NULL)
	{
		if (view->next == 0 && TimestampDifferenceExceeds(view->last, now, REMEMBERED))
			view->tries = 0;
		view->next = TimestampTzPlusMilliseconds(now, Min(MIN_PAUSE << Min(view->tries, MAX_SHIFT), MAX_PAUSE));
		view->tries++;
		view->last = now;
	}
	close_and_tell(dboid);
}

void
ivm_trouble_cost(Oid dboid, Oid relid, int cost)
{
	IvmTroubles *troubles = open_troubles(dboid, LW_EXCLUSIVE);
	IvmTrouble *view;

	if (troubles == NULL)
		return;
	view = find_trouble(troubles, relid);
	if (view != NULL)
		view->cost = cost;
	LWLockRelease(ivm_control->lock);
}

void
ivm_trouble_note(Oid dboid, Oid relid)
{
	IvmTroubles *troubles = open_troubles(dboid, LW_EXCLUSIVE);
	IvmTrouble *view;

	if (troubles == NULL)
		return;
	view = find_trouble(troubles, relid);
	if (view == NULL || view->next == 0)
	{
		LWLockRelease(ivm_control->lock);
		ivm_trouble_failed(dboid, relid);
		return;
	}
	LWLockRelease(ivm_control->lock);
}

/* Brings the next try forward.  Lock held. */
static void
hurry(IvmTrouble *view, TimestampTz now)
{
	int64		pause = Min(Max(MIN_PAUSE, (int64) COST_FACTOR * view->cost), MAX_PAUSE);

	if (view->next != 0)
		view->next = Min(view->next, Max(now, TimestampTzPlusMilliseconds(view->last, pause)));
}

void
ivm_trouble_healed(Oid dboid, Oid relid)
{
	TimestampTz now = GetCurrentTimestamp();
	IvmTroubles *troubles = open_troubles(dboid, LW_EXCLUSIVE);
	IvmTrouble *view;

	if (troubles == NULL)
		return;
	view = find_trouble(troubles, relid);
	if (view == NULL || view->next == 0)
	{
		LWLockRelease(ivm_control->lock);
		return;
	}
	view->next = 0;
	view->last = now;
	for (int i = 0; i < troubles->count; i++)
		hurry(&troubles->views[i], now);
	close_and_tell(dboid);
}

void
ivm_trouble_hurry(Oid dboid, Oid relid)
{
	TimestampTz now = GetCurrentTimestamp();
	IvmTroubles *troubles = open_troubles(dboid, LW_EXCLUSIVE);

	if (troubles == NULL)
		return;
	for (int i = 0; i < troubles->count; i++)
		if (!OidIsValid(relid) || troubles->views[i].relid == relid)
			hurry(&troubles->views[i], now);
	close_and_tell(dboid);
}

TimestampTz
ivm_trouble_next(Oid dboid, Oid relid)
{
	IvmTroubles *troubles = open_troubles(dboid, LW_SHARED);
	IvmTrouble *view;
	TimestampTz result;

	if (troubles == NULL)
		return 0;
	view = find_trouble(troubles, relid);
	result = view == NULL ? 0 : view->next;
	LWLockRelease(ivm_control->lock);
	return result;
}

TimestampTz
ivm_trouble_first(Oid dboid)
{
	IvmTroubles *troubles = open_troubles(dboid, LW_SHARED);
	TimestampTz result = 0;

	if (troubles == NULL)
		return 0;
	for (int i = 0; i < troubles->count; i++)
	{
		TimestampTz next = troubles->views[i].next;

		if (next != 0 && (result == 0 || next < result))
			result = next;
	}
	LWLockRelease(ivm_control->lock);
	return result;
}

void
ivm_trouble_retain(Oid dboid, List *known, List *failed)
{
	IvmTroubles *troubles = open_troubles(dboid, LW_EXCLUSIVE);

	if (troubles == NULL)
		return;
	for (int i = troubles->count - 1; i >= 0; i--)
	{
		IvmTrouble *view = &troubles->views[i];

		if (!list_member_oid(known, view->relid))
			*view = troubles->views[--troubles->count];
		else if (!list_member_oid(failed, view->relid))
			view->next = 0;
	}
	LWLockRelease(ivm_control->lock);
}
