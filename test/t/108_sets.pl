# Set operations and grouping sets, in one another and with joins: filled with more groups than are written
# one by one, then changed while each kind of rows that collect goes to files as early as it can, while
# allocations fail, and while processes are killed at each step of a batch.
#
# kills: decoder, apply workers

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;
use MemoryTest;

my $node = new_node('sets', 'ivm.refresh = rebuild', 'ivm.memory_budget = 64MB', 'max_wal_size = 4GB');

$node->safe_psql('postgres', <<'EOS');
CREATE EXTENSION ivm_ext;
CREATE TABLE l (id int PRIMARY KEY, k int, n numeric, g int);
CREATE TABLE r (id int PRIMARY KEY, k int, n numeric, g int);
INSERT INTO l SELECT i, nullif(i % 15000, 7), (i % 12000)::numeric(10, 0), i % 50 FROM generate_series(1, 30000) i;
INSERT INTO r SELECT i, nullif(i % 20000, 7), (i % 11000)::numeric(10, 1), i % 40 FROM generate_series(1, 30000) i;
CREATE INCREMENTAL VIEW u AS SELECT k, n FROM l UNION SELECT k, n FROM r;
CREATE INCREMENTAL VIEW i AS SELECT k FROM l INTERSECT SELECT k FROM r;
CREATE INCREMENTAL VIEW i_all AS SELECT n, g FROM l INTERSECT ALL SELECT n, g FROM r;
CREATE INCREMENTAL VIEW e AS SELECT n FROM l EXCEPT SELECT n FROM r WHERE g < 30;
CREATE INCREMENTAL VIEW e_all AS SELECT k FROM l EXCEPT ALL SELECT k FROM r;
CREATE INCREMENTAL VIEW cubed AS SELECT g, k % 100 AS h, n, count(*), sum(k) FROM l GROUP BY CUBE (g, k % 100), ROLLUP (n);
CREATE INCREMENTAL VIEW joined AS SELECT l.id, d.k FROM l JOIN (SELECT k FROM l INTERSECT ALL (SELECT k FROM r EXCEPT SELECT g FROM r)) d USING (k);
CREATE INCREMENTAL VIEW by_part AS SELECT d.k, d.n, r.id FROM (SELECT k, n FROM l EXCEPT ALL SELECT k, n FROM r WHERE g = 3) d JOIN r ON r.k = d.k AND r.g < 3;
CREATE INCREMENTAL VIEW of_groups AS SELECT g, s, count(*) FROM (SELECT g, count(*) AS s FROM l GROUP BY ROLLUP (g, k) EXCEPT SELECT g, count(*) FROM r GROUP BY g) x GROUP BY CUBE (g, s);
CREATE INCREMENTAL VIEW kept AS SELECT l.id, x.k, x.m FROM l LEFT JOIN (SELECT k, count(*) AS m FROM r GROUP BY ROLLUP (k)) x ON x.k = l.k WHERE l.g = 1;
CREATE PROCEDURE change(step int) LANGUAGE plpgsql AS $$
BEGIN
	UPDATE l SET k = nullif((coalesce(k, 7) + step) % 15000, 7), n = CASE WHEN step % 2 = 0 THEN n * 1.0 ELSE trunc(n) END WHERE id % 200 = step % 200;
	UPDATE r SET n = n + step % 3, g = (g + 1) % 40 WHERE id % 150 = step % 150;
	DELETE FROM l WHERE id % 500 = step % 500;
	DELETE FROM r WHERE id % 400 = step % 400;
	INSERT INTO l SELECT i, i % 15000, i % 12000, i % 50 FROM generate_series(30000 + step * 300, 30000 + step * 300 + 100) i;
	INSERT INTO r SELECT i, i % 15000, i % 12000, i % 50 FROM generate_series(30000 + step * 300, 30000 + step * 300 + 100) i;
END
$$;
EOS
my $step = 0;
sub change { $node->safe_psql('postgres', 'CALL change(' . ++$step . ')') foreach 1 .. 3; return; }

is_value($node, q{SELECT string_agg(DISTINCT relname, ' ') FROM pg_stat_ivm, ivm.explain(relid) line WHERE line ~ 'Recompute'}, '', 'all by deltas');
are_exact($node, 'exact when filled');
# each row of a state table that was filled a page at a time is found by its index
is_value($node, <<'EOS', 0, 'no state table has two rows of a group');
SELECT count(*) FROM pg_class c, LATERAL (SELECT (xpath('/row/n/text()', query_to_xml(format('SELECT count(*) AS n FROM (SELECT hash, "row", image FROM %s GROUP BY 1, 2, 3 HAVING count(*) > 1) x', c.oid::regclass), false, true, '')))[1]::text::int AS n) s
WHERE relnamespace = 'ivm_state'::regnamespace AND relkind = 'm' AND relname LIKE 'v%' AND n > 0
EOS
change();
are_exact($node, 'and goes on from there');

foreach my $kind (qw(zset aggregate lookup), 'log, zset, aggregate, lookup, output')
{
	set($node, 'ivm.debug_spill' => $kind);
	change();
	are_exact($node, "exact, with files for: $kind");
}
$node->safe_psql('postgres', "REFRESH MATERIALIZED VIEW $_") foreach qw(u i_all cubed joined by_part of_groups);
are_exact($node, 'exact after a REFRESH, with files for all');
set($node, 'ivm.debug_spill' => '');

set($node, 'ivm.debug_alloc_failures' => 0.02);
change();
are_exact($node, 'exact while allocations fail');
$node->safe_psql('postgres', "REFRESH MATERIALIZED VIEW $_") foreach qw(u e_all joined);
are_exact($node, 'and filled while they do');
set($node, 'ivm.debug_alloc_failures' => 0);

my $log = -s $node->logfile;
foreach my $point (qw(decoder-after-decode apply-before apply-after))
{
	set_points($node, "$point=wait");
	change();
	my $pid = wait_for_point($node, $point);
	change();
	kill_held($node, $point, $pid);
	are_exact($node, "exact after a kill at $point");
}
is(rebuilds($node, $log), 0, 'no view had to be rebuilt');

# a fill that does not come to its end leaves nothing, in the new files of state tables as elsewhere
set_points($node, 'build-filled=error');
my ($status, $output, $messages) = $node->psql('postgres', 'CREATE MATERIALIZED VIEW made USING incremental AS SELECT k, n FROM l EXCEPT SELECT k, n FROM r');
isnt($status, 0, 'the fill has failed');
set_points($node, '');
$node->safe_psql('postgres', 'CREATE MATERIALIZED VIEW made USING incremental AS SELECT k, n FROM l EXCEPT SELECT k, n FROM r');
change();
are_exact($node, 'exact after a fill that failed, and was done again');

is_value($node, 'SELECT max(error_count) FROM pg_stat_ivm', 0, 'no view has failed');

$node->stop;
done_testing();
