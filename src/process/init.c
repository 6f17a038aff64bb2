/*-------------------------------------------------------------------------
 *
 * init.c
 *	  Shared memory of all layers, and the launcher's registration.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "base/in_hand.h"
#include "capture/capture.h"
#include "memory/budget.h"
#include "stats/stats.h"
#include "process/control.h"
#include "process/launcher.h"
#include "process/request.h"

static shmem_request_hook_type previous_request = NULL;
static shmem_startup_hook_type previous_startup = NULL;

static void
request_shared_memory(void)
{
	if (previous_request)
		previous_request();
	RequestAddinShmemSpace(ivm_budget_shmem_size());
	RequestAddinShmemSpace(ivm_control_shmem_size());
	RequestAddinShmemSpace(ivm_capture_shmem_size(sizeof(IvmControlDatabase)));
	RequestAddinShmemSpace(ivm_stats_shmem_size());
	RequestNamedLWLockTranche("ivm_ext", 1);
}

static void
start_shared_memory(void)
{
	if (previous_startup)
		previous_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	ivm_budget_shmem_init();
	ivm_capture_shmem_init(sizeof(IvmControlDatabase), &(GetNamedLWLockTranche("ivm_ext"))->lock);
	ivm_control_shmem_init();
	ivm_stats_shmem_init();
	LWLockRelease(AddinShmemInitLock);
	if (!IsUnderPostmaster)
		ivm_launcher_count_start();
}

void
ivm_worker_init(void)
{
	previous_request = shmem_request_hook;
	shmem_request_hook = request_shared_memory;
	previous_startup = shmem_startup_hook;
	shmem_startup_hook = start_shared_memory;
	ivm_in_hand_init();
	ivm_wake_init();
	ivm_launcher_register();
}
