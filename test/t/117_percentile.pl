# Percentiles of large groups: exact after each change of data full of ties, with everything in files, while allocations
# fail, and after kills on the way of a change; and one changed row reads a few rows, however many there are.
#
# kills: apply workers, postmaster

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $node = new_node('percentile', 'ivm.apply_workers = 1', 'ivm.debug_check_old = on');

my %views = (
	medians => 'SELECT g, percentile_cont(0.5) WITHIN GROUP (ORDER BY x) AS m, percentile_disc(0.5) WITHIN GROUP (ORDER BY s) AS s FROM t GROUP BY g',
	everything => 'SELECT percentile_disc(array[0.01, 0.5, 0.99]) WITHIN GROUP (ORDER BY n DESC) AS d, percentile_cont(0.75) WITHIN GROUP (ORDER BY x) AS c FROM t',
	filtered => 'SELECT g, percentile_disc(0.9) WITHIN GROUP (ORDER BY x DESC) FILTER (WHERE n > 2) AS p, count(DISTINCT s) AS c, max(x) AS m FROM t GROUP BY g',
	of_join => 'SELECT u.y, percentile_cont(array[0.3, 0.6]) WITHIN GROUP (ORDER BY t.x + u.id) AS p FROM t LEFT JOIN u ON u.t_id = t.id GROUP BY u.y',
	of_long => 'SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY l) AS l FROM t');

my @transactions = (
	[ 'in front and behind' => <<'EOS' ],
INSERT INTO t SELECT 1000 + i, i % 4, i % 3 * 100, i % 3 + 0.0, 'n' || i % 2, NULL FROM generate_series(1, 60) i;
INSERT INTO u SELECT 1000 + i, i * 3, i % 4 FROM generate_series(1, 60) i;
EOS
	[ 'equal values that look different, and NULL' => <<'EOS' ],
UPDATE t SET n = n + 0.00 WHERE id % 3 = 0;
UPDATE t SET g = NULL WHERE g = 3;
UPDATE t SET x = NULL, n = NULL WHERE id % 17 = 0;
EOS
	[ 'half goes' => 'DELETE FROM t WHERE x < (SELECT avg(x) FROM t); DELETE FROM u WHERE y = 0' ],
	[ 'ties everywhere' => "UPDATE t SET x = 5, n = 3.00 WHERE id % 2 = 0; UPDATE t SET s = 'same' WHERE id % 5 < 3" ],
	[ 'all moves' => <<'EOS' ],
UPDATE t SET x = 900 - x, l = CASE WHEN l IS NULL THEN repeat('q', 2500) || id END WHERE id % 4 <> 1;
UPDATE u SET y = 7 - y, t_id = t_id + 1;
EOS
	[ 'a group goes' => 'DELETE FROM t WHERE g = 1; DELETE FROM t WHERE id % 16 > 3' ],
	[ 'and comes again' => "INSERT INTO t SELECT 5000 + i, i % 4, i * 7 % 90, i % 5, 's' || i % 11, repeat('r', i) FROM generate_series(1, 300) i" ],
	[ 'nothing is left' => 'DELETE FROM t' ]);

sub make_tables
{
	$node->safe_psql('postgres', <<'EOS');
CREATE TABLE t (id int PRIMARY KEY, g int, x int, n numeric, s text, l text);
CREATE TABLE u (id int PRIMARY KEY, t_id int, y int);
INSERT INTO t SELECT i, i % 4, i * 37 % 100, i % 6, chr(97 + i % 5), repeat('l', 2500 * (i % 2)) || i % 50 FROM generate_series(1, 300) i;
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
	make => \&make_tables);

make_tables();
exact_after_kills($node,
	change => sub { my ($i) = @_; "DELETE FROM t WHERE id % 11 = $i; UPDATE t SET x = x + 50 WHERE id % 7 = $i" });
set_points($node, 'apply-after=error');
$node->safe_psql('postgres', 'UPDATE t SET x = x - 1 WHERE id % 7 = 5');
set_points($node, '');
are_exact($node, 'exact after a batch that failed when it was done');
$node->safe_psql('postgres', 'DROP TABLE t, u CASCADE');

# ---- what a changed row reads ----

$node->safe_psql('postgres', <<'EOS');
CREATE TABLE b (id int PRIMARY KEY, x int);
INSERT INTO b SELECT i, i * 7919 % 20000 FROM generate_series(1, 20000) i;
CREATE INCREMENTAL VIEW w AS SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY x) AS m, percentile_disc(array[0.1, 0.9]) WITHIN GROUP (ORDER BY x) AS p FROM b;
EOS
sync($node);
my $kept = q{SELECT sum(idx_tup_fetch) FROM pg_stat_all_tables WHERE schemaname = 'ivm_state'};
my $read = q{SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)) FROM pg_stat_all_tables WHERE schemaname = 'ivm_state' OR relname = 'b'};

# a change that is counted after all before it
sub counted
{
	my ($id) = @_;
	my $before = $node->safe_psql('postgres', $kept);
	$node->safe_psql('postgres', "INSERT INTO b VALUES ($id, 0)");
	sync($node);
	wait_until($node, "SELECT ($kept) > $before", 'a change is counted');
	return $node->safe_psql('postgres', $read);
}

my $before = counted(30000);
foreach my $i (1 .. 20)
{
	$node->safe_psql('postgres', $i % 2 ? "INSERT INTO b VALUES (30000 + $i, $i)" : "DELETE FROM b WHERE id = 1000 * $i");
	sync($node);
}
# the table's own deletes read by its key
cmp_ok(counted(40000) - $before, '<', 2000, 'twenty changes read a few rows each');
are_exact($node, 'and the view is exact');

$node->stop;
done_testing();
