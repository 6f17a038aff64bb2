/*-------------------------------------------------------------------------
 *
 * kernel.c
 *	  What the kernel says about a process's memory.
 *
 * Linux tells it in /proc/<pid>/smaps_rollup, of any process of the same user.
 * Elsewhere nothing is known.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "storage/fd.h"

#include "memory/kernel.h"

bool
ivm_kernel_anonymous_memory(pid_t pid, Size *bytes)
{
	char		path[64];
	char		line[256];
	FILE	   *file;
	bool		found = false;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int) pid);
	file = AllocateFile(path, "r");
	if (file == NULL)
		return false;
	while (!found && fgets(line, sizeof(line), file) != NULL)
	{
		Size		kilobytes;

		if (sscanf(line, "Anonymous: %zu kB", &kilobytes) == 1)
		{
			*bytes = kilobytes * 1024;
			found = true;
		}
	}
	FreeFile(file);
	return found;
}
