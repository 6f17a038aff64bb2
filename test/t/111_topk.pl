# The first rows in an order, exact after each change of data full of ties: with everything in
# files, while allocations fail, and after kills on the way of a change.  All of it by deltas.
#
# kills: apply workers, postmaster

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $node = new_node('topk', 'ivm.apply_workers = 1', 'ivm.debug_check_old = on');

# what is shown is ordered by, so that each query has one result
my %views = (
	first_rows => 'SELECT a, n, id FROM t ORDER BY a, n DESC, id LIMIT 20',
	later => 'SELECT n, s FROM t ORDER BY n DESC, s OFFSET 10 LIMIT 25',
	behind => 'SELECT s FROM t ORDER BY s OFFSET 250',
	ties => 'SELECT id, a FROM t ORDER BY a DESC NULLS LAST FETCH FIRST 5 ROWS WITH TIES',
	each_first => 'SELECT DISTINCT ON (a) a, n, id FROM t ORDER BY a, n DESC, id',
	each_pair => 'SELECT DISTINCT ON (s, a) s, a, id FROM t ORDER BY a DESC, s, id DESC',
	of_groups => 'SELECT a, count(*) AS c FROM t GROUP BY a ORDER BY c DESC, a LIMIT 4',
	of_join => 'SELECT t.id, u.id AS other, u.y FROM t JOIN u ON u.t_id = t.id ORDER BY u.y, u.id, t.id LIMIT 15',
	joined => 'SELECT q.id, u.y FROM (SELECT id, a FROM t ORDER BY a, id LIMIT 40) q JOIN u ON u.t_id = q.id',
	joined_on => 'SELECT q.a, u.y FROM (SELECT DISTINCT ON (a) a, id FROM t ORDER BY a, id DESC) q LEFT JOIN u ON u.t_id = q.id',
	grouped => 'SELECT s, count(*) FROM (SELECT s FROM t ORDER BY id LIMIT 100) q GROUP BY s',
	of_first => 'SELECT a, id FROM (SELECT a, id FROM t ORDER BY id DESC LIMIT 60) q ORDER BY a, id LIMIT 10',
	long => 'SELECT l, id FROM t ORDER BY l DESC NULLS LAST, id LIMIT 12');

my @transactions = (
	['in front and behind' => <<'EOS'],
INSERT INTO t SELECT 1000 + i, i % 7, i % 3 + 0.0, 'n' || i % 2, NULL FROM generate_series(1, 60) i;
INSERT INTO u SELECT 1000 + i, i * 3, i % 4 FROM generate_series(1, 60) i;
EOS
	['equal values that look different, and NULL' => <<'EOS'],
UPDATE t SET n = n + 0.00 WHERE id % 3 = 0;
UPDATE t SET a = NULL WHERE a = 3;
UPDATE t SET n = NULL WHERE id % 17 = 0;
EOS
	['all that comes first goes' => <<'EOS'],
DELETE FROM t WHERE a IS NULL OR a = 0;
DELETE FROM u WHERE y = 0;
EOS
	['ties everywhere' => <<'EOS'],
UPDATE t SET a = 5, n = 1.00 WHERE id % 2 = 0;
UPDATE t SET s = 'same' WHERE id % 5 < 3;
EOS
	['what is ordered by moves' => <<'EOS'],
UPDATE t SET a = 9 - a, l = CASE WHEN l IS NULL THEN repeat('q', 2500) || id END WHERE id % 4 <> 1;
UPDATE u SET y = 7 - y, t_id = t_id + 1;
EOS
	['fewer than there should be' => 'DELETE FROM t WHERE id % 16 > 0; DELETE FROM u WHERE id % 8 > 0'],
	['and more again' => <<'EOS'],
INSERT INTO t SELECT 5000 + i, i % 9, i % 5, 's' || i % 11, repeat('r', i * 10) FROM generate_series(1, 300) i;
EOS
);

sub make_tables
{
	$node->safe_psql('postgres', <<'EOS');
CREATE TABLE t (id int PRIMARY KEY, a int, n numeric, s text, l text);
CREATE TABLE u (id int PRIMARY KEY, t_id int, y int);
INSERT INTO t SELECT i, nullif(i % 9, 8), i % 4, chr(97 + i % 5), repeat('l', 3000 * (i % 2)) || i % 50 FROM generate_series(1, 300) i;
INSERT INTO u SELECT i, i, i % 5 FROM generate_series(1, 200) i;
EOS
	$node->safe_psql('postgres', "CREATE INCREMENTAL VIEW $_ AS $views{$_}") foreach sort keys %views;
	return;
}

$node->safe_psql('postgres', 'CREATE EXTENSION ivm_ext');
exact_under_settings(
	$node,
	tables => 't, u',
	transactions => \@transactions,
	make => \&make_tables,
	first => sub { unlike($node->safe_psql('postgres', "SELECT ivm.explain(relid) FROM pg_stat_ivm"), qr/Recompute/, 'no part is recomputed') });

# ---- kills: what is remembered of a batch that did not commit is forgotten ----

make_tables();
exact_after_kills($node,
	change => sub { 'DELETE FROM t WHERE (a, id) IN (SELECT a, id FROM t ORDER BY a, n DESC, id LIMIT 5)' });

# a batch that is undone in the worker, which goes on with what it has in memory
set_points($node, 'apply-after=error');
$node->safe_psql('postgres', 'UPDATE t SET a = a - 1 WHERE id % 7 = 0');
$node->safe_psql('postgres', 'INSERT INTO t SELECT 9000 + i, -5 - i, 1, NULL, NULL FROM generate_series(1, 30) i');
set_points($node, '');
are_exact($node, 'exact after a batch that failed when it was done');
$node->safe_psql('postgres', 'DELETE FROM t WHERE id > 9000');
are_exact($node, 'and after the next one');

# ---- a row behind the last one that is shown: nothing is read ----

sub scans { return $node->safe_psql('postgres', "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'b_pkey'"); }

# Puts a row in front; its walk is counted after all those before it.
sub in_front
{
	my ($id, $least) = @_;
	$node->safe_psql('postgres', "INSERT INTO b VALUES ($id)");
	sync($node);
	wait_until($node, "SELECT idx_scan >= $least FROM pg_stat_user_indexes WHERE indexrelname = 'b_pkey'", 'a walk is counted');
	return;
}

$node->safe_psql('postgres', 'CREATE TABLE b (id int PRIMARY KEY); INSERT INTO b SELECT generate_series(1, 1000)');
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW w AS SELECT id FROM b ORDER BY id LIMIT 5');
wait_until($node, "SELECT idx_scan >= 1 FROM pg_stat_user_indexes WHERE indexrelname = 'b_pkey'", 'the fill is counted');
my $before = scans();
in_front(0, $before + 1);
foreach my $id (1 .. 10)
{
	$node->safe_psql('postgres', "INSERT INTO b VALUES (2000 + $id)");
	sync($node);
}
in_front(-1, $before + 2);
is(scans(), $before + 2, 'rows behind the last one are not looked at');
are_exact($node, 'and the view is exact');

$node->stop;
done_testing();
