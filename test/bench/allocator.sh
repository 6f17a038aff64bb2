# shellcheck shell=bash
# The allocator's own test: what a process still has of a million blocks of 1 kB
# when all are freed but the last one, from an arena that is trimmed and from the C
# library's malloc.  Draws both as doc/allocator.svg.

blocks=$(scaled 1000000)
query <<'END'
CREATE FUNCTION ivm_test_allocator(allocator text, blocks int, size int,
	OUT phase text, OUT seconds float8, OUT allocated_bytes bigint, OUT resident_bytes bigint)
RETURNS SETOF record AS 'ivm_ext' LANGUAGE C STRICT;
CREATE TABLE looks (allocator text, phase text, seconds float8, resident float8);
END
for allocator in arena malloc; do
	query -c "INSERT INTO looks SELECT '$allocator', phase, seconds, resident_bytes / 1e6
		FROM ivm_test_allocator('$allocator', $blocks, 1024)"
	query -At -F ' ' -c "SELECT seconds, greatest(resident, 0) FROM looks
		WHERE allocator = '$allocator' ORDER BY seconds" >"$dir/$allocator.points"
done
kept() # allocator
{
	value "SELECT round((100 * max(resident) FILTER (WHERE phase = 'end') / max(resident))::numeric, 2)
		FROM looks WHERE allocator = '$1'"
}
peak() { value "SELECT round(max(resident)) FROM looks WHERE allocator = '$1'"; }

row "allocator, kept of the peak by an arena: %" "$(kept arena)" "<= 2" "peak $(peak arena) MB"
row "allocator, kept of the peak by malloc: %" "$(kept malloc)" ">= 90" "peak $(peak malloc) MB"
draw allocator "$blocks blocks of 1 kB: allocated, then freed but for the last one, then trimmed" \
	"seconds" "resident MB" "arena=$dir/arena.points" "the C library's malloc=$dir/malloc.points"
