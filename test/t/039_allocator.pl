# A million blocks of 1 kB, all freed but the last one: an arena gives their memory
# back to the kernel, and the C library's malloc does not.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $node = new_node('allocator');
$node->safe_psql('postgres', <<'EOS');
CREATE FUNCTION ivm_test_allocator(allocator text, blocks int, size int,
	OUT phase text, OUT seconds float8, OUT allocated_bytes bigint, OUT resident_bytes bigint)
RETURNS SETOF record AS 'ivm_ext' LANGUAGE C STRICT;
CREATE TABLE look AS
	SELECT 'arena' AS allocator, * FROM ivm_test_allocator('arena', 1000000, 1024)
	UNION ALL
	SELECT 'malloc' AS allocator, * FROM ivm_test_allocator('malloc', 1000000, 1024);
CREATE VIEW kept AS
	SELECT allocator, max(resident_bytes) AS peak,
		max(resident_bytes) FILTER (WHERE phase = 'end') AS kept
	FROM look GROUP BY allocator;
EOS

is_value($node, 'SELECT bool_and(peak BETWEEN 1024e6 AND 1.1 * 1024e6) FROM kept', 't', 'all blocks were resident at once');
is_value($node, q{SELECT kept <= 0.02 * peak FROM kept WHERE allocator = 'arena'}, 't', 'an arena keeps at most 2 % of it');
is_value($node, q{SELECT kept >= 0.9 * peak FROM kept WHERE allocator = 'malloc'}, 't', 'malloc keeps nearly all of it');
diag($node->safe_psql('postgres', 'SELECT *, round(100.0 * kept / peak, 2) AS percent FROM kept'));

$node->stop;
done_testing();
