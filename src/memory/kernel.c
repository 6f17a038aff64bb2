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

bool
ivm_kernel_is_stopped(pid_t pid)
{
	char		path[64];
	char		line[256];
	FILE	   *file;
	char	   *state = NULL;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int) pid);
	file = AllocateFile(path, "r");
	if (file == NULL)
		return false;
	/* the name in parentheses may be anything */
	if (fgets(line, sizeof(line), file) != NULL)
		state = strrchr(line, ')');
	FreeFile(file);
	return state != NULL && (strncmp(state, ") T", 3) == 0 || strncmp(state, ") t", 3) == 0);
}
