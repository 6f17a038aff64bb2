/*-------------------------------------------------------------------------
 *
 * arena_test.c
 *	  What an arena keeps after a burst, beside what malloc keeps.
 *
 * A test of the allocator itself, for a session of a superuser.  The extension's script
 * does not declare the function; who wants it does:
 *
 *		CREATE FUNCTION ivm_test_allocator(allocator text, blocks int, size int,
 *			OUT phase text, OUT seconds float8, OUT allocated_bytes bigint,
 *			OUT resident_bytes bigint)
 *		RETURNS SETOF record AS 'ivm_ext' LANGUAGE C STRICT;
 *
 * Blocks are allocated and written to, then all are freed but the last one, then,
 * after an arena's trim, the process is looked at again.  The C library's
 * malloc goes the same way and has no trim: it gives memory back from the end
 * of its heap, where the last block is.
 *
 * What is resident is what the kernel says about this process, less what it said at
 * the beginning.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <unistd.h>

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "memory/arena.h"

/* Looks at the process while blocks are allocated, and again while they are freed. */
#define LOOKS	50

typedef struct AllocatorTest
{
	IvmArena   *arena;			/* NULL: the C library's malloc */
	void	  **blocks;
	Size		size;			/* of a block */
	int			live;			/* number of blocks */
	Size		resident;		/* at the beginning */
	instr_time	start;
	ReturnSetInfo *result;
} AllocatorTest;

PG_FUNCTION_INFO_V1(ivm_test_allocator);

/* Private memory of this process, in bytes. */
static Size
private_memory(void)
{
	FILE	   *file = AllocateFile("/proc/self/smaps_rollup", "r");
	char		line[256];
	Size		total = 0;
	Size		kilobytes;

	if (file == NULL)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", "/proc/self/smaps_rollup")));
	while (fgets(line, sizeof(line), file) != NULL)
	{
		if (sscanf(line, "Private_Clean: %zu kB", &kilobytes) == 1 ||
			sscanf(line, "Private_Dirty: %zu kB", &kilobytes) == 1)
			total += kilobytes * 1024;
	}
	FreeFile(file);
	return total;
}

static void
look(AllocatorTest *test, const char *phase)
{
	Size		resident = private_memory();
	instr_time	now;
	Datum		values[4];
	bool		isnull[4] = {false};

	CHECK_FOR_INTERRUPTS();
	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, test->start);
	values[0] = CStringGetTextDatum(phase);
	values[1] = Float8GetDatum(INSTR_TIME_GET_DOUBLE(now));
	values[2] = Int64GetDatum((int64) test->live * test->size);
	values[3] = Int64GetDatum((int64) resident - (int64) test->resident);
	tuplestore_putvalues(test->result->setResult, test->result->setDesc, values, isnull);
}

static void
allocate_block(AllocatorTest *test, int i)
{
	void	   *block;

	block = test->arena ? ivm_arena_alloc(test->arena, test->size) : malloc(test->size);
	if (block == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	memset(block, 0x5a, test->size);
	test->blocks[i] = block;
	test->live++;
}

static void
free_block(AllocatorTest *test, int i)
{
	if (test->arena)
		ivm_arena_free(test->arena, test->blocks[i]);
	else
		free(test->blocks[i]);
	test->live--;
}

Datum
ivm_test_allocator(PG_FUNCTION_ARGS)
{
	char	   *allocator = text_to_cstring(PG_GETARG_TEXT_PP(0));
	int			nblocks = PG_GETARG_INT32(1);
	int32		size = PG_GETARG_INT32(2);
	AllocatorTest test = {.arena = NULL};
	MemoryContext context;
	Size		array_size;

	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for function %s", "ivm_test_allocator")));
	if (nblocks < LOOKS || size < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("number or size of blocks is too small")));
	InitMaterializedSRF(fcinfo, 0);
	test.result = (ReturnSetInfo *) fcinfo->resultinfo;
	test.size = size;

	context = AllocSetContextCreate(CurrentMemoryContext, "ivm allocator test", ALLOCSET_SMALL_SIZES);
	if (strcmp(allocator, "arena") == 0)
		test.arena = ivm_arena_create("allocator test", context);
	else if (strcmp(allocator, "malloc") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unrecognized allocator \"%s\"", allocator)));

	/* touched now, so that it does not count */
	array_size = sizeof(void *) * nblocks;
	test.blocks = MemoryContextAllocExtended(context, array_size, MCXT_ALLOC_HUGE);
	memset(test.blocks, 0xff, array_size);
	test.resident = private_memory();
	INSTR_TIME_SET_CURRENT(test.start);

	look(&test, "start");
	for (int i = 0; i < nblocks; i++)
	{
		allocate_block(&test, i);
		if ((i + 1) % (nblocks / LOOKS) == 0)
			look(&test, "allocate");
	}
	look(&test, "full");
	for (int i = 0; i < nblocks - 1; i++)
	{
		free_block(&test, i);
		if ((i + 1) % (nblocks / LOOKS) == 0)
			look(&test, "free");
	}
	look(&test, "freed");
	if (test.arena)
		ivm_arena_trim(test.arena);
	look(&test, "end");

	free_block(&test, nblocks - 1);
	MemoryContextDelete(context);
	return (Datum) 0;
}
