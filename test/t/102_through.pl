# Lookups that go through operators down to tables and groups give the same rows as the query, with
# everything in files, and while allocations fail.  All of it by deltas.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $node = new_node('through', 'ivm.apply_workers = 1', 'ivm.debug_check_old = on');

my $j = 'j AS MATERIALIZED (SELECT a.id, a.k, c.t, c.v FROM a JOIN c ON c.a_id = a.id)';
my $g = 'g AS MATERIALIZED (SELECT k, count(*) AS n, sum(v) AS s FROM j GROUP BY k)';
my %views = (
	groups => 'SELECT a.id, g.s FROM a JOIN (SELECT k, sum(v) AS s FROM b GROUP BY k) g USING (k)',
	of_number => 'SELECT b.id, g.y, g.n FROM b JOIN (SELECT y, count(*) AS n FROM b GROUP BY y) g USING (y)',
	joined => "WITH $j SELECT x.id, y.t, y.v FROM j x JOIN j y ON x.k = y.id",
	joined_groups => "WITH $j, $g SELECT j.id, j.v, g.n, g.s FROM j JOIN g ON g.k = j.k",
	nested => "WITH $j, $g, h AS MATERIALIZED (SELECT g.n, b.y, b.k FROM g JOIN b ON b.k = g.k)"
	  . ' SELECT h.k, h.y, j.t FROM h JOIN j ON j.id = h.k WHERE h.n > 1',
	appended => "WITH $j, u AS MATERIALIZED (SELECT id, k FROM j UNION ALL SELECT k, count(*) FROM b GROUP BY k)"
	  . ' SELECT x.k, y.id FROM u x JOIN u y ON x.id = y.k',
	stored => 'SELECT a.id, g.n FROM a JOIN (SELECT k, y, count(*) AS n FROM b GROUP BY k, y) g USING (k)',
	grand => 'SELECT a.id, g.s FROM a JOIN (SELECT count(*) AS n, sum(v) AS s FROM b) g ON g.n % 7 > a.id % 7');

my @transactions = (
	['all tables' => <<'EOS'],
INSERT INTO a SELECT 1000 + i, i % 23, i FROM generate_series(1, 40) i;
INSERT INTO b SELECT 1000 + i, i % 23, i % 5, i FROM generate_series(1, 40) i;
INSERT INTO c SELECT 1000 + i, 1000 + i % 60, 'n' || i % 3, i FROM generate_series(1, 80) i;
EOS
	['equal groups that look different, and NULL' => <<'EOS'],
UPDATE b SET y = y + 0.00 WHERE id % 3 = 0;
UPDATE a SET k = NULL WHERE k = 3;
UPDATE c SET a_id = NULL WHERE id % 17 = 0;
EOS
	['one key everywhere' => <<'EOS'],
UPDATE a SET k = 5 WHERE id % 9 = 0;
INSERT INTO b SELECT 2000 + i, 5, 1.0, i FROM generate_series(1, 60) i;
UPDATE c SET a_id = 5 WHERE id % 11 = 0;
EOS
	['keys move' => <<'EOS'],
UPDATE a SET k = (k + 1) % 23 WHERE id % 4 = 0;
UPDATE b SET k = (k + 1) % 23, v = v + 1 WHERE id % 4 = 1;
UPDATE c SET a_id = a_id + 1 WHERE id % 4 = 2;
DELETE FROM a WHERE id % 10 = 7;
EOS
	['what was equal comes apart' => <<'EOS'],
DELETE FROM b WHERE y = 1 AND id % 2 = 0;
UPDATE b SET y = 2.50 WHERE y = 2;
DELETE FROM c WHERE id % 3 = 0;
EOS
);

$node->safe_psql('postgres', 'CREATE EXTENSION ivm_ext');
exact_under_settings(
	$node,
	tables => 'a, b, c',
	transactions => \@transactions,
	make => sub {
		$node->safe_psql('postgres', <<'EOS');
CREATE TABLE a (id int PRIMARY KEY, k int, v int);
CREATE TABLE b (id int PRIMARY KEY, k int, y numeric, v int);
CREATE TABLE c (id int PRIMARY KEY, a_id int, t text, v int);
CREATE INDEX ON a (k);
CREATE INDEX ON c (a_id);
INSERT INTO a SELECT i, nullif(i % 23, 0), i FROM generate_series(1, 200) i;
INSERT INTO b SELECT i, nullif(i % 23, 1), i % 4, i FROM generate_series(1, 200) i;
INSERT INTO c SELECT i, nullif(i % 150, 0), repeat('c', i % 30), i FROM generate_series(1, 200) i;
EOS
		$node->safe_psql('postgres', "CREATE INCREMENTAL VIEW $_ AS $views{$_}") foreach sort keys %views;
	});
$node->stop;
done_testing();
