# Output that is written to a view in parts: with tiny parts, and with Z-sets that go to files
# every few rows.  All is exact, and nothing was repaired by a rebuild.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $node = new_node('output', 'ivm.refresh = rebuild', 'ivm.apply_workers = 1');

$node->safe_psql('postgres', <<'EOS');
CREATE EXTENSION ivm_ext;
CREATE TABLE a (id int PRIMARY KEY, u int, n int, body text);
ALTER TABLE a ALTER body SET STORAGE EXTERNAL;
INSERT INTO a SELECT i, i, i % 5, repeat(chr(97 + i % 26), 5000) FROM generate_series(1, 300) AS i;
CREATE TABLE b (k int, f float8);
INSERT INTO b SELECT i % 4, i / 7.0 FROM generate_series(1, 60) AS i;
CREATE TABLE c (g int, f float8);
INSERT INTO c SELECT g, g * i / 10.0 FROM generate_series(1, 200) AS g, generate_series(1, 9) AS i;
EOS
$node->safe_psql('postgres', $_) foreach (
	'CREATE INCREMENTAL VIEW keyed AS SELECT id, u, n FROM a',
	'CREATE UNIQUE INDEX keyed_u ON keyed (u)',
	'CREATE UNIQUE INDEX keyed_sum ON keyed ((u + 1)) WHERE u > 0',
	'CREATE INCREMENTAL VIEW bodies AS SELECT id, n, body FROM a',
	'CREATE INCREMENTAL VIEW one AS SELECT count(*), sum(u), max(n) FROM a',
	'CREATE INCREMENTAL VIEW many AS SELECT b.k FROM b JOIN b AS c ON b.k = c.k',
	'CREATE INCREMENTAL VIEW copies AS SELECT n, n % 2 AS odd FROM a',
	'CREATE INCREMENTAL VIEW sums AS SELECT sum(f) FROM b GROUP BY k, f',
	'CREATE INCREMENTAL VIEW bare AS SELECT id, u FROM a');

# The values of a unique column move around among all keys, keys move, and many copies come and go.
my @changes = (
	'UPDATE a SET u = u % 300 + 1',
	'UPDATE a SET u = 301 - u, n = n + 1',
	'UPDATE a SET id = -id',
	'UPDATE a SET id = -id, n = n - 1 WHERE id % 2 = 0',
	'DELETE FROM a WHERE u % 3 = 0',
	"INSERT INTO a SELECT (SELECT max(abs(id)) FROM a) + i, 3 * i, i, repeat('y', 4000) FROM generate_series(1, 100) AS i",
	'INSERT INTO b SELECT 1, i FROM generate_series(1, 60) AS i',
	'UPDATE b SET k = k % 4 + 1',
	'DELETE FROM b WHERE f > 8');

foreach my $kinds ('output', 'zset', 'output,zset')
{
	$node->append_conf('postgresql.conf', "ivm.debug_spill = '$kinds'");
	reload($node);
	my $before = rebuilds($node);
	foreach my $change (@changes)
	{
		$node->safe_psql('postgres', $change);
		are_exact($node, "$kinds: $change");
	}
	is(rebuilds($node), $before, "$kinds: without a rebuild");
	is_value($node, 'SELECT coalesce(sum(error_count), 0) FROM pg_stat_ivm', '0', "$kinds: without an error");

	# built anew where nothing differs, and where something does
	$node->safe_psql('postgres', "REFRESH MATERIALIZED VIEW $_")
	  foreach qw(keyed bodies one many copies sums bare);
	are_exact($node, "$kinds: refreshed");
	is_value($node, "SELECT missing || ' ' || extra FROM ivm.verify('$_')", '0 0', "$kinds: $_ is verified")
	  foreach qw(keyed bodies one many copies sums bare);
	$node->safe_psql('postgres', 'BEGIN; TRUNCATE b; INSERT INTO b SELECT i % 4, i / 7.0 FROM generate_series(1, 60) AS i; COMMIT');
	are_exact($node, "$kinds: after a truncation");
}

# Sums that differ in their last digits, of which nothing is left to divide rows by but their images.
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW loose AS SELECT sum(f) FROM c GROUP BY g');
sync($node);
is_value($node, 'SELECT count(*) > 20 FROM (SELECT sum FROM loose EXCEPT ALL SELECT sum(f) FROM c GROUP BY g) AS d', 't', 'sums differ in their images');
is_value($node, "SELECT missing || ' ' || extra FROM ivm.verify('loose')", '0 0', 'and are equal all the same');
$node->safe_psql('postgres', 'DROP MATERIALIZED VIEW loose');

# a toasted value that stays is not written again
my $size = "SELECT pg_relation_size(reltoastrelid) FROM pg_class WHERE relname = 'bodies'";
$node->append_conf('postgresql.conf', "ivm.debug_spill = 'zset'");
reload($node);
$node->safe_psql('postgres', 'ALTER MATERIALIZED VIEW bodies SET (toast.autovacuum_enabled = off)');
$node->safe_psql('postgres', 'VACUUM bodies');
sync($node);
my $toast = $node->safe_psql('postgres', $size);
$node->safe_psql('postgres', 'UPDATE a SET n = n + 1');
are_exact($node, 'beside large values');
is_value($node, $size, $toast, 'large values were not written again');

$node->stop;
done_testing();
