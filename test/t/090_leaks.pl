# What comes and goes all day, tables and views, leaves nothing behind in our processes; a view that
# is made costs the same however many there are, and has counters.
#
# kills: nothing

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $tables = 20;
my $many = 400;
my $node = new_node('leaks', 'autovacuum = off', 'ivm.apply_workers = 1');

$node->safe_psql('postgres', join "\n", 'CREATE EXTENSION ivm_ext;',
	map { "CREATE TABLE t$_ (id int PRIMARY KEY, v int); INSERT INTO t$_ SELECT i, i FROM generate_series(1, 20) i;" } 0 .. $tables - 1);

# CPU of the apply worker so far, in ms: as the scheduler counts it, not as its ticks sample it.
sub cpu
{
	my ($pid) = worker_pids($node, 'apply worker');
	my ($nanoseconds) = split / /, slurp_file("/proc/$pid/schedstat");
	return $nanoseconds / 1e6;
}

sub create_views
{
	my ($from, $to) = @_;
	$node->safe_psql('postgres', join "\n", 'SET client_min_messages = warning;', map {
		"CREATE INCREMENTAL VIEW v$_ AS SELECT count(*), sum(v) FROM t" . $_ % $tables . " WHERE v > $_ % 7;" } $from .. $to);
	return;
}

sub change_all
{
	$node->safe_psql('postgres', join ' ', 'BEGIN;', (map { "UPDATE t$_ SET v = v + 1;" } 0 .. $tables - 1), 'COMMIT;');
	sync($node);
	return;
}

# ---- views ----

create_views(1, 20);
sync($node);
my $before_first = cpu();
create_views(21, 120);
my $first = cpu() - $before_first;
create_views(121, $many - 100);
my $before_last = cpu();
create_views($many - 99, $many);
my $last = cpu() - $before_last;
# the list of all is read, 2 us a view; if each were looked at it would be four times as much
cmp_ok($last, '<=', 2.75 * $first, sprintf "the last of %d views cost the apply worker no more than the first did, but for a list (%.0f and %.0f ms)", $many, $last, $first);

change_all();
is_value($node, 'SELECT count(*), min(batches) > 0 FROM pg_stat_ivm WHERE last_apply_time IS NOT NULL', "$many|t", 'each has counters');
is_value($node, 'SELECT count(DISTINCT relid) FROM pg_stat_ivm_operator', $many, 'and operators');

my ($apply) = worker_pids($node, 'apply worker');
my $before = contexts($node, $apply);
my $kept = 'v' . $many;

sub drop_but_one
{
	$node->safe_psql('postgres', join ' ', 'SET client_min_messages = warning;', map { "DROP MATERIALIZED VIEW v$_;" } 1 .. $many - 1);
	sync($node);
	return;
}
my $batches = $node->safe_psql('postgres', "SELECT batches FROM pg_stat_ivm WHERE relname = '$kept'");
drop_but_one();
is_value($node, 'SELECT string_agg(relname, \' \') FROM pg_stat_ivm', $kept, 'the others are dropped');
is_value($node, "SELECT batches FROM pg_stat_ivm WHERE relname = '$kept'", $batches, 'and the last one keeps its counters');

create_views(1, $many - 1);
change_all();
is((worker_pids($node, 'apply worker'))[0], $apply, 'the worker is the same');
my $after = contexts($node, $apply);
# plans are kept or rest as time passes
my @grown = grep { /^(TopMemoryContext|ivm (single rows|view reads|consumers|interest))$/ && $after->{$_} > $before->{$_} + 8192 } sort keys %$before;
is("@grown", '', 'views that were dropped and made again have left nothing in it');
is_value($node, 'SELECT count(*) FROM pg_stat_ivm WHERE batches > 0', $many, 'all have counters again');
is_exact($node, "v$_") foreach 1, $many;

# ---- settings that views are made under ----

# Views that are made under as many settings, and dropped.
sub other_settings
{
	my ($from, $to) = @_;
	$node->safe_psql('postgres', join "\n", 'SET client_min_messages = warning;',
		map { "SET timezone = '<x$_>-1'; CREATE INCREMENTAL VIEW w$_ AS SELECT id FROM t0 WHERE v = $_;" } $from .. $to);
	sync($node);
	$node->safe_psql('postgres', join "\n", map { "DROP MATERIALIZED VIEW w$_;" } $from .. $to);
	sync($node);
	return;
}
other_settings(1, 3);
$before = contexts($node, $apply);
other_settings(4, 40);
$after = contexts($node, $apply);
@grown = grep { /^(TopMemoryContext|ivm settings)$/ && $after->{$_} > $before->{$_} + 8192 } sort keys %$before;
is("@grown", '', 'settings go with the views that were made under them');

# ---- tables that no view reads ----

my ($decoder) = worker_pids($node, 'decoder');

sub make_tables
{
	my ($count) = @_;
	$node->safe_psql('postgres', <<"EOS");
SET synchronous_commit = off;
DO \$\$
BEGIN
	FOR i IN 1 .. $count LOOP
		CREATE TABLE passing (a int);
		INSERT INTO passing VALUES (1);
		COMMIT;
		DROP TABLE passing;
		COMMIT;
	END LOOP;
END
\$\$;
EOS
	$node->safe_psql('postgres', 'UPDATE t0 SET v = v + 1');
	sync($node);
	return;
}

make_tables(600);
$before = contexts($node, $decoder);
make_tables(1200);
is((worker_pids($node, 'decoder'))[0], $decoder, 'the decoder is the same');
$after = contexts($node, $decoder);
@grown = grep { /^ivm / && $after->{$_} > ($before->{$_} // 0) + 1024 } sort keys %$after;
is("@grown", '', 'tables that were changed and dropped have left nothing in the decoder');

$node->stop;
done_testing();
