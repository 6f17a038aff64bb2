# Many views over few tables: what an idle one costs, who is woken by a commit, and
# a transaction that concerns them all.  MANY_VIEWS is their number.
#
# kills: nothing

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;
use Time::HiRes qw(time usleep);

my $tables = 20;
my $many = $ENV{MANY_VIEWS} // 120;
my $few = 40;
my $idle_limit = 64;			# kB for an idle view

$many > $few or die "MANY_VIEWS has to be more than $few";

my $node = new_node('many_views', 'autovacuum = off', 'ivm.apply_workers = 2');
$node->safe_psql('postgres', join "\n", 'CREATE EXTENSION ivm_ext;',
	'CREATE TABLE elsewhere (id int PRIMARY KEY, v int); INSERT INTO elsewhere VALUES (1, 0);',
	map { <<"EOS" } 0 .. $tables - 1);
CREATE TABLE t$_ (id int PRIMARY KEY, a int, b int, c text, r int);
INSERT INTO t$_ SELECT i, i % 10, i % 100, 'x' || i % 7, i * 7 % 100 + 1 FROM generate_series(1, 100) i;
EOS

$node->safe_psql('postgres', <<'EOS');
CREATE FUNCTION different() RETURNS SETOF regclass LANGUAGE plpgsql AS $$
DECLARE
	view regclass;
	query text;
	n bigint;
BEGIN
	FOR view, query IN SELECT relid::regclass, rtrim(pg_get_viewdef(relid), ';') FROM pg_stat_ivm LOOP
		EXECUTE format('WITH wanted AS NOT MATERIALIZED (%s) SELECT count(*) FROM ('
			'(TABLE wanted EXCEPT ALL TABLE %s) UNION ALL (TABLE %s EXCEPT ALL TABLE wanted)) d', query, view, view) INTO n;
		IF n > 0 THEN
			RETURN NEXT view;
		END IF;
	END LOOP;
END
$$;
EOS

# The query of a view, of seven shapes.
sub query_of
{
	my ($i) = @_;
	my ($t, $u, $v) = map { 't' . $_ % $tables } $i, $i * 7 + 3, $i * 11 + 5;
	my @shapes = (
		"SELECT id, a, b FROM $t WHERE b > " . $i % 50,
		"SELECT x.id, x.a, y.c, y.id AS y FROM $t x JOIN $u y ON y.id = x.r WHERE x.b > " . $i % 30,
		"SELECT a, count(*) AS n, sum(b) AS s FROM $t GROUP BY a",
		"SELECT y.a, count(*) AS n, sum(x.b) AS s, avg(x.b) AS v FROM $t x JOIN $u y ON y.id = x.r GROUP BY y.a",
		"SELECT DISTINCT a, c FROM $t",
		"SELECT id, a FROM $t WHERE b < 50 UNION ALL SELECT id, b FROM $u WHERE a < 50",
		"SELECT x.id, y.id AS y, z.id AS z, z.c FROM $t x JOIN $u y ON y.id = x.r JOIN $v z ON z.id = y.r");
	return $shapes[ $i % @shapes ];
}

sub create_views
{
	my ($from, $to) = @_;
	$node->safe_psql('postgres', join "\n", 'SET client_min_messages = warning;',
		map { "CREATE INCREMENTAL VIEW v$_ AS " . query_of($_) . ';' } $from .. $to);
	return;
}

# Our processes: pids by type.
sub processes
{
	my %pids = map { $_ => [ worker_pids($node, $_) ] } 'apply worker', 'decoder', 'launcher', 'builder';
	return \%pids;
}

# kB that the kernel has given to the processes and nobody shares.
sub private_memory
{
	my $sum = 0;
	foreach my $pid (map { @$_ } values %{ processes() })
	{
		# one that has nothing to do may just have ended
		my $text = eval { slurp_file("/proc/$pid/smaps_rollup") } // '';
		$sum += $1 if $text =~ /^Anonymous:\s+(\d+) kB/m;
	}
	return $sum;
}

# Waits until it is at most so much and the builder has gone, or a minute; returns what it is in the end.
sub memory_settles
{
	my ($limit) = @_;
	my $finish = time() + 60;
	my $memory;

	wait_until($node, q{SELECT count(*) = 0 FROM pg_stat_ivm_worker WHERE worker_type = 'builder'}, 'no builder');
	do
	{
		usleep(100_000) if defined $memory;
		$memory = private_memory();
	} until (!defined $limit || $memory <= $limit || time() > $finish);
	return $memory;
}

# How often the apply workers were woken.
sub wakes
{
	my $sum = 0;
	foreach my $pid (@{ processes()->{'apply worker'} })
	{
		slurp_file("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s+(\d+)/m or die "no switches of $pid";
		$sum += $1;
	}
	return $sum;
}

sub batches
{
	return { map { split /\|/ } split /\n/, $node->safe_psql('postgres', 'SELECT relname, batches FROM pg_stat_ivm') };
}

# A test: each view equals its query.  One statement for all, since there are many.
sub all_are_exact
{
	my ($name) = @_;

	sync($node);
	my $bad = $node->safe_psql('postgres', 'SELECT string_agg(different::text, \' \') FROM different()');
	is($bad, '', $name);
	is_value($node, q{SELECT string_agg(DISTINCT state, ' ') FROM pg_stat_ivm}, 'active', "and active: $name");
	return;
}

# Those that have had a batch since.
sub applied_since
{
	my ($before) = @_;
	my $now = batches();
	return join ' ', sort grep { $now->{$_} > $before->{$_} } keys %$now;
}

# ---- memory ----

create_views(1, $few);
sync($node);
my $base = memory_settles();
create_views($few + 1, $many);
sync($node);
my $limit = $base + $idle_limit * ($many - $few);
my $memory = memory_settles($limit);
cmp_ok($memory, '<=', $limit, "an idle view takes at most $idle_limit kB");
note(sprintf '%.1f kB for each of %d', ($memory - $base) / ($many - $few), $many - $few);

# ---- who is woken ----

my $before = batches();
my $wakes = wakes();
my $started = time();
$node->safe_psql('postgres',
	# apart, so that the decoder does not take them together
	'DO $$ BEGIN FOR i IN 1 .. 500 LOOP UPDATE elsewhere SET v = v + 1; COMMIT; PERFORM pg_sleep(0.002); END LOOP; END $$');
$wakes = wakes() - $wakes;
my $seconds = time() - $started;
# each looks around by itself now and then, and has its own reports
cmp_ok($wakes, '<', 100 + 20 * $seconds, "500 commits to a table that no view reads wake no apply worker ($wakes)");
sync($node);
is(applied_since($before), '', 'and no view has a batch for it');

foreach my $table ('t3', 't14')
{
	my $readers = join ' ', sort split /\n/, $node->safe_psql('postgres', <<"EOS");
SELECT DISTINCT r.ev_class::regclass FROM pg_rewrite r JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
WHERE d.refobjid = '$table'::regclass
EOS
	$before = batches();
	$node->safe_psql('postgres', "UPDATE $table SET b = b + 1 WHERE id = 3");
	sync($node);
	is(applied_since($before), $readers, "a commit to $table reaches its readers and nobody else");
}

# ---- all at once ----

my $all = join '; ', map { "UPDATE t$_ SET b = b + 1, a = id % 9 WHERE id % 3 = 0; DELETE FROM t$_ WHERE id = 50" } 0 .. $tables - 1;
$before = batches();
$node->safe_psql('postgres', "BEGIN; $all; COMMIT");
sync($node);
is(scalar(split / /, applied_since($before)), $many, 'one transaction reaches all views');

# what was applied together has the same transaction's id
is_value($node, 'SELECT max(n) <= 40 FROM (SELECT count(*) AS n FROM ivm.applied GROUP BY xmin::text) g', 't',
	'but a batch has only so many of them, or it would hold very many locks');
all_are_exact('and all are exact');

# ---- a function is replaced, a type made: whom that concerns ----

$node->safe_psql('postgres', <<'EOS');
CREATE FUNCTION twice(x int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN 2 * x; END $$;
CREATE INCREMENTAL VIEW doubled AS SELECT id, twice(b) AS b FROM t0;
EOS
sync($node);
my $rebuilds = 'SELECT sum(rebuilds) FROM pg_stat_ivm WHERE relname ';
my $others = $node->safe_psql('postgres', "$rebuilds <> 'doubled'");
$node->safe_psql('postgres', 'CREATE OR REPLACE FUNCTION twice(x int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN x + x + 0 * 1; END $$');
sync($node);
is_value($node, "$rebuilds = 'doubled'", '1', 'a function that it calls was replaced: the view is rebuilt');
is_value($node, "$rebuilds <> 'doubled'", $others, 'and no other');
$node->safe_psql('postgres', 'UPDATE t0 SET b = b + 1');
all_are_exact('exact after that');

# ---- after a restart, and gone ----

$node->restart;
$node->safe_psql('postgres', "BEGIN; $all; COMMIT");
all_are_exact('exact after a restart');
$memory = memory_settles($limit);
cmp_ok($memory, '<=', $limit, 'and what an idle view takes is the same');

$node->safe_psql('postgres', join ' ', 'SET client_min_messages = warning; DROP MATERIALIZED VIEW doubled;',
	map { "DROP MATERIALIZED VIEW v$_;" } 1 .. $many);
wait_until($node, 'SELECT count(*) = 0 FROM ivm.view', 'nothing is left');
wait_for_no_workers($node, 'postgres');
pass('all are dropped, and nobody maintains anything');

$node->stop;
done_testing();
