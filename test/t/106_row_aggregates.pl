# Aggregates that are computed from the rows of their groups, and those with streams of
# distinct values: in files, with allocations that fail, with a large group, interrupted.
#
# kills: apply workers, postmaster

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $node = new_node('rows', "ivm.debug_spill = 'zset,aggregate,lookup,output'", 'ivm.apply_workers = 2', 'ivm.debug_check_old = on');

$node->safe_psql('postgres', <<'EOS');
CREATE EXTENSION ivm_ext;
CREATE TABLE t (id int PRIMARY KEY, g int, x int, n numeric, f float8, word text, v tsvector);
CREATE INDEX ON t (g);
CREATE TABLE u (k int PRIMARY KEY, g int);
CREATE FUNCTION fill(first int, last int) RETURNS void LANGUAGE sql AS $$
	INSERT INTO t SELECT i, CASE WHEN i % 13 = 0 THEN NULL ELSE i % 23 END, nullif(i % 7, 3),
		CASE WHEN i % 9 = 0 THEN NULL ELSE (i % 5)::numeric * CASE i % 3 WHEN 0 THEN 1 WHEN 1 THEN 1.0 ELSE 1.00 END END,
		CASE i % 4 WHEN 0 THEN '-0'::float8 WHEN 1 THEN 0 ELSE i % 4 END, 'w' || i % 11, to_tsvector('simple', 'w' || i % 5)
	FROM generate_series(first, last) i
$$;
SELECT fill(1, 600);
INSERT INTO u SELECT i, i % 5 FROM generate_series(0, 6) i;
EOS
my %views = (
	ordered => q{SELECT g, string_agg(word, ',' ORDER BY x DESC, id) AS words, array_agg(n ORDER BY id) AS ns, count(*), sum(x) FROM t GROUP BY g},
	percentiles => 'SELECT g, percentile_cont(0.5) WITHIN GROUP (ORDER BY x) AS m, percentile_disc(0.9) WITHIN GROUP (ORDER BY word) AS p,'
	  . ' mode() WITHIN GROUP (ORDER BY x) AS o, rank(3) WITHIN GROUP (ORDER BY x) AS r FROM t GROUP BY g',
	streams => 'SELECT g, count(DISTINCT x) AS c, sum(DISTINCT n) AS s, count(DISTINCT word) FILTER (WHERE x > 2) AS w, avg(DISTINCT x) AS a, max(n) AS most, count(*) FROM t GROUP BY g',
	by_look => q{SELECT n, count(DISTINCT x) AS c, string_agg(word, ',' ORDER BY id) AS words, count(DISTINCT f) AS fs FROM t GROUP BY n},
	by_vector => 'SELECT v, count(DISTINCT x) AS c, array_agg(id ORDER BY id) AS ids, min(x) AS least FROM t GROUP BY v',
	joined => 'SELECT u.g, count(DISTINCT t.word) AS c, array_agg(t.id ORDER BY t.id) AS ids FROM t JOIN u ON u.k = t.x GROUP BY u.g',
	kept => 'SELECT u.g, count(t.id) AS n, array_agg(t.id ORDER BY t.id) AS ids, max(t.word) AS w FROM u LEFT JOIN t ON u.k = t.x AND t.id % 3 = 0 GROUP BY u.g',
	nullable => 'SELECT t.x, array_agg(u.k ORDER BY u.k) AS ks, count(DISTINCT u.g) AS c FROM u LEFT JOIN t ON u.k = t.x AND t.id < 50 GROUP BY t.x',
	full_join => 'SELECT coalesce(t.x, u.k) AS k, array_agg(t.id ORDER BY t.id) AS ids, array_agg(u.g ORDER BY u.g) AS gs FROM (SELECT * FROM t WHERE id % 2 = 0) t FULL JOIN u ON u.k = t.x GROUP BY 1',
	nested => 'SELECT c, array_agg(g ORDER BY g) AS gs FROM (SELECT g, count(DISTINCT x) AS c FROM t GROUP BY g) q GROUP BY c',
	grand => q{SELECT count(DISTINCT x) AS c, bit_xor(x) AS b, percentile_disc(0.3) WITHIN GROUP (ORDER BY id) AS p, string_agg(DISTINCT word, ',') AS words FROM t},
	bits => 'SELECT g, bit_and(x), bit_or(id), bit_xor(id) AS x FROM t GROUP BY g');
$node->safe_psql('postgres', "CREATE INCREMENTAL VIEW $_ AS $views{$_}") foreach sort keys %views;
are_exact($node, 'populated');
is_value($node, q{SELECT count(*) FROM pg_class c JOIN pg_am a ON a.oid = c.relam, ivm.explain(c.oid) line
	WHERE c.relkind = 'm' AND a.amname = 'incremental' AND c.relnamespace = 'public'::regnamespace AND line LIKE '%Recompute%'}, 0, 'nothing is recomputed');

my @changes = (
	[ 'rows come', 'SELECT fill(601, 900)' ],
	[ 'one row comes', 'SELECT fill(901, 901)' ],
	[ 'and goes', 'DELETE FROM t WHERE id = 901' ],
	[ 'all change', 'UPDATE t SET x = (x + 1) % 7, word = word || 1' ],
	[ 'looks change', 'UPDATE t SET n = n * 1.0, f = -f' ],
	[ 'looks go', 'UPDATE t SET n = trunc(n)' ],
	[ 'groups change', 'UPDATE t SET g = (g + 1) % 23 WHERE id % 3 = 0' ],
	[ 'NULL comes', 'UPDATE t SET g = NULL, x = NULL WHERE id % 10 = 0' ],
	[ 'groups go', 'DELETE FROM t WHERE g BETWEEN 3 AND 9' ],
	[ 'and come back', 'DELETE FROM t WHERE id > 500; SELECT fill(1000, 1100)' ],
	[ 'both sides change', 'BEGIN; UPDATE u SET g = (g + 1) % 5; UPDATE t SET x = (x + 3) % 7 WHERE id % 5 = 0; DELETE FROM u WHERE k = 2; COMMIT' ],
	[ 'rows change many times', 'BEGIN; ' . ('UPDATE t SET x = (x + 2) % 7, g = (g + 5) % 23; ' x 3) . 'COMMIT' ],
	[ 'everything goes', 'BEGIN; DELETE FROM t; DELETE FROM u; COMMIT' ],
	[ 'and comes back', 'SELECT fill(1, 200); INSERT INTO u SELECT i, i % 3 FROM generate_series(0, 6) i' ]);
foreach my $change (@changes)
{
	$node->safe_psql('postgres', $change->[1]);
	are_exact($node, $change->[0]);
}

# One in twenty allocations of arenas fails.
$node->append_conf('postgresql.conf', "ivm.debug_spill = ''\nivm.debug_alloc_failures = 0.05");
reload($node);
foreach my $round (1 .. 4)
{
	$node->safe_psql('postgres', 'SELECT fill(' . (2000 * $round) . ', ' . (2000 * $round + 300) . ')');
	$node->safe_psql('postgres', 'UPDATE t SET x = (x + 1) % 7, n = n + 0.10 WHERE id % 4 = 1; DELETE FROM t WHERE id % 9 = ' . $round);
	are_exact($node, "allocations fail, round $round");
}
$node->append_conf('postgresql.conf', 'ivm.debug_alloc_failures = 0');
reload($node);
is_value($node, 'SELECT sum(rebuilds) FROM pg_stat_ivm', '0', 'no view was computed anew meanwhile');

# A worker that dies in the midst, and one that is stopped.
$node->safe_psql('postgres', 'ALTER SYSTEM SET ivm.apply_workers = 1');
foreach my $mode ('immediate', 'fast')
{
	$node->safe_psql('postgres', 'SELECT fill(i, i + 50) FROM generate_series((SELECT max(id) + 1 FROM t), (SELECT max(id) + 2000 FROM t), 51) i');
	$node->stop($mode);
	$node->start;
	are_exact($node, "exact after a stop: $mode");
}
exact_after_kills($node,
	change => sub { 'UPDATE t SET x = (x + 1) % 7, g = (g + 1) % 23, word = word || 2 WHERE id % 3 = ' . $_[0] % 3 . '; UPDATE u SET g = (g + 1) % 5' });
$node->stop;

# ---- a large group ----

$node = new_node('large', 'ivm.apply_workers = 1', 'ivm.memory_budget = 64MB');
$node->safe_psql('postgres', <<'EOS');
CREATE EXTENSION ivm_ext;
CREATE TABLE t (id int PRIMARY KEY, g int, x float8);
CREATE INDEX ON t (g);
INSERT INTO t SELECT i, i % 2, i % 1000 FROM generate_series(1, 600000) i;
CREATE INCREMENTAL VIEW v AS SELECT g, percentile_cont(0.5) WITHIN GROUP (ORDER BY x) AS m, percentile_disc(0.1) WITHIN GROUP (ORDER BY id) AS d,
	count(DISTINCT id / 3) AS c FROM t GROUP BY g;
EOS
are_exact($node, 'a large group is populated');
$node->safe_psql('postgres', 'INSERT INTO t SELECT i, 1, -i FROM generate_series(700000, 800000) i');
are_exact($node, 'rows come');
$node->safe_psql('postgres', 'DELETE FROM t WHERE id % 5 = 0');
are_exact($node, 'rows go');
is_value($node, 'SELECT sum(rebuilds), max(error_count) FROM pg_stat_ivm', '0|0', 'all of it within the budget');
$node->stop;
done_testing();
