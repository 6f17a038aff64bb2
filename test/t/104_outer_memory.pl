# A key that many rows of both sides of a join have which asks for a match, at a budget of 64 MB: changes of
# one row and of all rows are held within it, and other sessions go on.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;
use MemoryTest;

my $rows = $ENV{OUTER_ROWS} // 30_000;
my $node = new_node('outer_memory', 'ivm.apply_workers = 1', 'ivm.memory_budget = 64MB', 'ivm.batch_patience = 0', 'max_wal_size = 4GB');
$node->safe_psql('postgres', <<"EOS");
CREATE EXTENSION ivm_ext;
CREATE TABLE dim_a (id int);
CREATE TABLE a (id int PRIMARY KEY, k int, x int);
CREATE TABLE b (id int PRIMARY KEY, k int, y int, t text);
INSERT INTO a SELECT i, 1, i % 1000 FROM generate_series(1, $rows) i;
INSERT INTO b SELECT i, 1, i % 1000, repeat('b', 50) FROM generate_series(1, $rows) i;
CREATE INDEX ON a (k);
CREATE INDEX ON b (k);
VACUUM ANALYZE;
CREATE INCREMENTAL VIEW semi AS SELECT * FROM a WHERE EXISTS (SELECT FROM b WHERE b.k = a.k);
CREATE INCREMENTAL VIEW anti AS SELECT * FROM a WHERE NOT EXISTS (SELECT FROM b WHERE b.k = a.k);
CREATE INCREMENTAL VIEW semi_more AS SELECT * FROM a WHERE EXISTS (SELECT FROM b WHERE b.k = a.k AND b.id <> a.id AND b.t <> '');
CREATE INCREMENTAL VIEW anti_more AS SELECT id, k FROM a WHERE NOT EXISTS (SELECT FROM b WHERE b.k = a.k AND b.id <> a.id);
EOS

foreach (
	[ 'one row comes' => "INSERT INTO b VALUES (0, 1, 1, 'new')" ],
	[ 'and goes' => 'DELETE FROM b WHERE id = 0' ],
	[ 'all rows of the kept side' => 'UPDATE a SET x = x + 1' ],
	[ 'all rows of the other side' => 'UPDATE b SET y = y + 1' ],
	[ 'all matches go' => 'UPDATE b SET k = 2' ],
	[ 'and come again' => 'UPDATE b SET k = 1' ],
	[ 'both sides at once' => 'UPDATE a SET k = 3 WHERE id % 2 = 0; UPDATE b SET k = 3' ],
	[ 'one key on both sides' => 'UPDATE a SET k = 3; DELETE FROM b WHERE id % 3 = 0' ])
{
	my ($name, $statements) = @$_;
	my $sampling = start_sampling($node, 'SELECT count(*) FROM dim_a');

	$node->safe_psql('postgres', "BEGIN; $statements; COMMIT;");
	sync($node);
	my $sample = stop_sampling($sampling);
	is($sample->{largest_over}, 0, "$name: within the budget");
	cmp_ok($sample->{longest_query}, '<', 5000 * patience(), "$name: other sessions go on");
	is($sample->{restarts}, 0, "$name: no worker ended");
	are_exact($node, "$name: exact");
}
# whether there is a match is asked once for each row of the kept side, and does not read the other rows of the key
$node->safe_psql('postgres', <<'EOS');
DROP MATERIALIZED VIEW semi, anti, anti_more;
INSERT INTO a SELECT i, 3, i FROM generate_series(200001, 300000) i;
INSERT INTO b SELECT i, 3, i, repeat('b', 50) FROM generate_series(200001, 300000) i;
UPDATE a SET x = x + 1;
EOS
are_exact($node, 'a key of more rows than may be held at once');
$node->safe_psql('postgres', <<'EOS');
UPDATE a SET k = 7 WHERE id % 50 = 0;
INSERT INTO b SELECT i, 7, -i, 'b' FROM generate_series(400001, 400010) i;
CREATE INCREMENTAL VIEW beside AS SELECT id, x FROM a WHERE k % 10 = 7 AND EXISTS (SELECT FROM b WHERE b.k = a.k AND b.y > a.x);
EOS
are_exact($node, 'rows that have the key, and match nothing');
$node->safe_psql('postgres', "INSERT INTO b SELECT i, 7, i - 160000, 'b' FROM generate_series(410001, 415000) i");
are_exact($node, 'and many that match some, beside these');
$node->safe_psql('postgres', "INSERT INTO b SELECT i, 7, i - 140000, 'b' FROM generate_series(420001, 425000) i");
are_exact($node, 'and more');
# ---- a large batch does not wait for the memory of what it is to read ----

$node->safe_psql('postgres', <<'EOS');
DROP TABLE a, b CASCADE;
CREATE TABLE many (g int, v int);
CREATE INCREMENTAL VIEW totals AS SELECT g, count(*), sum(v) FROM many GROUP BY g;
EOS
my $stalls = $node->safe_psql('postgres', 'SELECT stalls FROM pg_stat_ivm_memory');
$node->safe_psql('postgres', 'INSERT INTO many SELECT i % 100, i FROM generate_series(1, 1000000) i');
are_exact($node, 'a large transaction');
is_value($node, 'SELECT stalls FROM pg_stat_ivm_memory', $stalls, 'nobody waited for memory');

is_value($node, 'SELECT peak_bytes <= budget_bytes FROM pg_stat_ivm_memory', 't', 'the highest that was held is within the budget');
is_alive($node, 'nobody was killed, and nothing was rebuilt');
$node->stop;
done_testing();
