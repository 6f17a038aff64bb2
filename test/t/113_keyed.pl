# Aggregates that store nothing: exact with everything in files, while allocations fail, after kills, with
# concurrent writers, after a restore; with a group that has become larger than the budget.
#
# kills: apply workers, postmaster

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;
use MemoryTest;

my $node = new_node('keyed', 'ivm.apply_workers = 1', 'ivm.debug_check_old = on', 'autovacuum = off');
$node->safe_psql('postgres', <<'EOS');
CREATE EXTENSION ivm_ext;
CREATE FUNCTION plus(float8, float8) RETURNS float8 LANGUAGE sql IMMUTABLE STRICT AS $$ SELECT $1 + $2 $$;
CREATE FUNCTION minus(float8, float8) RETURNS float8 LANGUAGE sql IMMUTABLE STRICT AS $$ SELECT $1 - $2 $$;
CREATE AGGREGATE moving_sum(float8) (sfunc = plus, stype = float8, initcond = '0',
	msfunc = plus, minvfunc = minus, mstype = float8, minitcond = '0');
EOS
my %views = (
	sums => 'SELECT k, count(*), sum(n), min(n), max(n), avg(x), bool_or(x > 5) AS b FROM b GROUP BY k',
	sorted => q{SELECT k, string_agg(n::text, ',' ORDER BY n::text) AS s, percentile_disc(0.5) WITHIN GROUP (ORDER BY x) AS p, moving_sum(x) FROM b GROUP BY k},
	words => 'SELECT DISTINCT k FROM b',
	common => 'SELECT id FROM a INTERSECT ALL SELECT k FROM b',
	histogram => 'SELECT m, count(*) FROM (SELECT a.id, count(b.k) AS m FROM a LEFT JOIN b ON b.k = a.id AND b.x <> 3 GROUP BY a.id) g GROUP BY m',
	joined => q{SELECT a.id, a.k, g.s, g.t FROM a JOIN (SELECT k, sum(x) AS s, string_agg(x::text, ',' ORDER BY x) AS t FROM b GROUP BY k) g ON g.k = a.id},
	by_part => 'SELECT a.id, g.m, g.c FROM a LEFT JOIN (SELECT k, x % 2 AS m, count(*) AS c, moving_sum(x) FROM b GROUP BY k, x % 2) g ON g.k = a.id',
	nested => 'SELECT k, max(c) AS m, count(*) FROM (SELECT a.k, g.c FROM a JOIN (SELECT k, count(*) AS c FROM b GROUP BY k) g ON g.k = a.id) q GROUP BY k');

sub make
{
	$node->safe_psql('postgres', <<'EOS');
CREATE TABLE a (id int PRIMARY KEY, k int);
CREATE TABLE b (id int PRIMARY KEY, k int, n numeric, x int);
CREATE INDEX ON a (k);
CREATE INDEX ON b (k);
INSERT INTO a SELECT i, nullif(i % 40, 7) FROM generate_series(1, 120) i;
INSERT INTO b SELECT i, nullif(i % 110, 3), (array['1', '1.0', '2.50'])[1 + i % 3]::numeric, i % 11 FROM generate_series(1, 600) i;
ANALYZE a, b;
EOS
	$node->safe_psql('postgres', "CREATE INCREMENTAL VIEW $_ AS $views{$_}") foreach sort keys %views;
	return;
}

# Views with state tables of their own, and how many.
sub stored
{
	my $found = $node->safe_psql('postgres', q{SELECT v.relid::regclass || ' ' || count(*) FROM pg_stat_ivm v, pg_class c
		WHERE c.relnamespace = 'ivm_state'::regnamespace AND c.relkind = 'm' AND c.relname LIKE 'v' || v.relid || '\_%'
		GROUP BY v.relid ORDER BY 1});
	return join ', ', split /\n/, $found;
}

my @transactions = (
	[ 'all tables' => 'INSERT INTO a SELECT 1000 + i, i FROM generate_series(1, 30) i; INSERT INTO b SELECT 1000 + i, i % 130, 1.00, i % 7 FROM generate_series(1, 200) i; DELETE FROM a WHERE id % 9 = 4' ],
	[ 'keys move' => 'UPDATE b SET k = (k + 1) % 110 WHERE id % 4 = 1; UPDATE a SET id = id + 2000 WHERE id % 10 = 3' ],
	[ 'images and NULLs' => 'UPDATE b SET n = n * 1.0 WHERE id % 3 = 0; UPDATE b SET k = NULL WHERE id % 17 = 0' ],
	[ 'and back' => 'UPDATE b SET n = trunc(n), x = x + 1; UPDATE b SET k = 5 WHERE k IS NULL' ],
	[ 'rows come and go' => 'DELETE FROM b WHERE k = 20; INSERT INTO b VALUES (5000, 20, 3, 3), (5001, 20, 3.0, 3); DELETE FROM b WHERE id = 5001' ],
	[ 'a group grows' => 'INSERT INTO b SELECT i, 21, i % 3, i % 9 FROM generate_series(10000, 13000) i' ],
	[ 'and goes' => 'DELETE FROM b WHERE k = 21' ],
	[ 'everything goes' => 'DELETE FROM a; DELETE FROM b' ],
	[ 'and comes' => 'INSERT INTO b SELECT i, i % 50, i, i % 5 FROM generate_series(1, 300) i; INSERT INTO a SELECT i, i FROM generate_series(1, 60) i' ]);

exact_under_settings($node, make => \&make, transactions => \@transactions, tables => 'a, b',
	first => sub { is(stored(), 'histogram 1', 'nothing is stored but the groups by a result') });

# ---- kills, writers, a restart ----

make();
exact_after_kills($node,
	change => sub { "UPDATE b SET k = (k + 1) % 110, x = x + 1 WHERE id % 3 = $_[0] % 3; UPDATE a SET k = k + 1 WHERE id % 4 = 1; DELETE FROM b WHERE id % 50 = $_[0]" });

$node->append_conf('postgresql.conf', 'ivm.apply_workers = 2');
my @writers;
foreach my $writer (1 .. 3)
{
	my $script = join "\n", map {
		"BEGIN; UPDATE b SET k = (k + $writer) % 110, x = x + 1 WHERE id % 60 = $_ AND id % 3 = $writer - 1;"
		  . "INSERT INTO b VALUES (" . (100000 * $writer + $_) . ", $_, $_, $writer); COMMIT;"
		  . "UPDATE a SET k = $_ WHERE id % 3 = $writer - 1 AND id % 20 = $_ % 20;"
		  . "DELETE FROM b WHERE id = " . (100000 * $writer + $_ - 3) . ';'
	} 1 .. 60;
	push @writers, IPC::Run::start([ 'psql', '-X', '-q', '-d', $node->connstr('postgres') ], '<', \$script);
}
$_->finish foreach @writers;
are_exact($node, 'three writers');
$node->restart;
are_exact($node, 'a restart');
is(stored(), 'histogram 1', 'the choice is what it was');
is_value($node, 'SELECT sum(rebuilds) + sum(error_count) FROM pg_stat_ivm', '0', 'by deltas');

# statistics that say something else change nothing
$node->safe_psql('postgres', 'INSERT INTO b SELECT i, 30, i, i % 5 FROM generate_series(600000, 605000) i; ANALYZE b');
$node->restart;
are_exact($node, 'statistics have changed');
is(stored(), 'histogram 1', 'and the choice has not');
is_value($node, 'SELECT sum(rebuilds) FROM pg_stat_ivm', '0', 'nothing was rebuilt for that');

# what comes from a dump has no statistics when it is filled
my $dump = $node->basedir . '/dump';
$node->command_ok([ 'pg_dump', '-f', $dump, 'postgres' ], 'dumped');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('restored'), '-f', $dump ], 'restored');
are_exact($node, 'the restored one', 'restored');
$node->safe_psql('restored', 'UPDATE b SET k = (k + 1) % 110 WHERE id % 4 = 1');
are_exact($node, 'and goes on', 'restored');
$node->stop;

# ---- a group that is larger than the budget ----

my $rows = $ENV{KEYED_ROWS} // 60_000;
$node = new_node('keyed_memory', 'ivm.apply_workers = 1', 'ivm.memory_budget = 64MB', 'ivm.batch_patience = 0', 'autovacuum = off', 'max_wal_size = 4GB');
$node->safe_psql('postgres', <<'EOS');
CREATE EXTENSION ivm_ext;
CREATE TABLE dim_a (id int);
CREATE TABLE a (id int PRIMARY KEY);
CREATE TABLE t (id int PRIMARY KEY, k int, x int, s text);
CREATE INDEX ON t (k);
INSERT INTO a SELECT generate_series(1, 2000);
INSERT INTO t SELECT i, i % 1000, i, 's' FROM generate_series(1, 5000) i;
ANALYZE;
CREATE INCREMENTAL VIEW plain AS SELECT k, count(*), sum(x), max(s) FROM t GROUP BY k;
CREATE INCREMENTAL VIEW sorted AS SELECT k, percentile_disc(0.5) WITHIN GROUP (ORDER BY x) AS p, mode() WITHIN GROUP (ORDER BY s) AS m FROM t GROUP BY k;
CREATE INCREMENTAL VIEW parts AS SELECT a.id, g.x, g.c FROM a JOIN (SELECT k, x, count(*) AS c FROM t GROUP BY k, x) g ON g.k = a.id;
EOS
foreach (
	[ 'a group becomes large' => "INSERT INTO t SELECT i, 1, i, repeat('s', 100) || i FROM generate_series(10001, 10000 + $rows) i" ],
	[ 'one row of it' => 'UPDATE t SET x = -1 WHERE id = 10001' ],
	[ 'the other side' => 'DELETE FROM a WHERE id = 1; INSERT INTO a VALUES (1), (5000)' ],
	[ 'all rows of it' => "UPDATE t SET k = 2, x = x % 1000 WHERE k = 1" ],
	[ 'it goes' => 'DELETE FROM t WHERE k = 2' ])
{
	my ($name, $statements) = @$_;
	my $sampling = start_sampling($node, 'SELECT count(*) FROM dim_a');

	$node->safe_psql('postgres', "BEGIN; $statements; COMMIT;");
	sync($node);
	my $sample = stop_sampling($sampling);
	is($sample->{largest_over}, 0, "$name: within the budget");
	is($sample->{restarts}, 0, "$name: no worker ended");
	are_exact($node, "$name: exact");
}
is_value($node, 'SELECT sum(state_bytes) FROM pg_stat_ivm_operator', '0', 'nothing is stored');
is_value($node, 'SELECT peak_bytes <= budget_bytes FROM pg_stat_ivm_memory', 't', 'the highest that was held is within the budget');
is_alive($node, 'nobody was killed, and nothing was rebuilt');
$node->stop;
done_testing();
