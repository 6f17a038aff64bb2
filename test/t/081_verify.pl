# ivm.verify: the session compares by itself, exactly, while everybody writes and the view's process
# goes on with other things; in little memory; whatever the columns are; and it can be cancelled.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use IvmTest;

my $node = new_node('verify', 'ivm.apply_workers = 1');
make_sales($node);
$node->safe_psql('postgres', <<'EOS');
CREATE TABLE kinds (id int PRIMARY KEY, n numeric, m money, p point, j json, ts tsvector, a money[], f float8, t text);
INSERT INTO kinds SELECT i, i % 7 + 0.10, (i % 5)::text::money, point(i % 3, 1), json_build_object('a', i % 4), to_tsvector('x' || i % 3),
	ARRAY[(i % 5)::text::money], i * 1.1, repeat('long ' || i % 4, 3000) FROM generate_series(1, 500) i;
CREATE TABLE slow (id int);
CREATE FUNCTION slow(id int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(42); RETURN id; END $$;
INSERT INTO slow VALUES (1);
-- for rows that somebody takes away or puts in behind everybody's back
CREATE FUNCTION damage(v regclass, statement text) RETURNS void LANGUAGE plpgsql SET allow_system_table_mods = on AS $$
BEGIN
	UPDATE pg_class SET relkind = 'r', relhasrules = false WHERE oid = v;
	EXECUTE statement;
	UPDATE pg_class SET relkind = 'm', relhasrules = true WHERE oid = v;
END
$$;
EOS
$node->safe_psql('postgres', $_)
  foreach ('CREATE INCREMENTAL VIEW no_key AS SELECT n, m, p, j, ts, a FROM kinds',
	'CREATE INCREMENTAL VIEW money_only AS SELECT m, a FROM kinds',
	'CREATE INCREMENTAL VIEW longs AS SELECT t, count(*) AS c FROM kinds GROUP BY t',
	'CREATE INCREMENTAL VIEW float_sums AS SELECT sum(f) AS f, sum(f * 3) AS g FROM kinds GROUP BY id % 50',
	'CREATE INCREMENTAL VIEW slow_v AS SELECT public.slow(id) AS id FROM slow');
my @views = (sales_views(), qw(no_key money_only longs float_sums));
my ($ret, $stdout, $stderr);

sub verified
{
	my ($view, $settings) = @_;
	return $node->safe_psql('postgres', ($settings // '') . "SELECT missing || '/' || extra FROM ivm.verify('$view')");
}

# ---- exact, whoever writes ----

is(verified($_), '0/0', "$_ at rest") foreach (@views, 'slow_v');
$node->safe_psql('postgres', 'UPDATE kinds SET n = 1.0 WHERE id % 3 = 0');
$node->safe_psql('postgres', 'UPDATE kinds SET n = 99 WHERE id IN (499, 500)');
$node->safe_psql('postgres', 'UPDATE kinds SET n = 1.00 WHERE id % 6 = 0');
is(verified('no_key'), '0/0', 'equal values that look different');

append_to_file($node->basedir . '/write.sql', <<'EOS');
\set i random(1, 2000)
\set d random(1, 20)
BEGIN;
UPDATE sale SET amount = amount + 1, region = :d WHERE id = :i;
SAVEPOINT a;
UPDATE kinds SET f = f + 0.1, n = n + 1, m = m + '1'::money WHERE id = 1 + :i / 10;
ROLLBACK TO a;
SAVEPOINT b;
UPDATE kinds SET f = f * 1.01 + 1e-7, n = n + 1 WHERE id = 1 + :i / 10;
RELEASE b;
DELETE FROM sale WHERE id = :i + 1;
INSERT INTO sale VALUES (:i + 1, :d, :i % 100, 'note') ON CONFLICT DO NOTHING;
UPDATE region SET name = name || '' WHERE id = :d;
END;
EOS
my $load = IPC::Run::start([ $node->installed_command('pgbench'), '-n', '-c', '3', '--max-tries=1000', '-T', '300', '-f', $node->basedir . '/write.sql', '-h', $node->host, '-p', $node->port, 'postgres' ],
	'>', \my $out, '2>', \my $err);
wait_until($node, q{SELECT batches > 20 FROM pg_stat_ivm WHERE relname = 'per_region'}, 'the load is there');
my @wrong;
foreach my $round (1 .. 6)
{
	foreach my $view (@views)
	{
		my $difference = verified($view, $round % 2 ? '' : "SET work_mem = '64kB';");
		push @wrong, "$view $difference" if $difference ne '0/0';
	}
}
is(join(', ', @wrong), '', 'exact while others write');
is_value($node, q{BEGIN; INSERT INTO sale SELECT 10000 + i, i % 20, i FROM generate_series(1, 500) i; DELETE FROM sale WHERE id > 10400; SELECT missing || '/' || extra FROM ivm.verify('per_name'); ROLLBACK}, '0/0', 'own writes that are not committed do not count');
is_value($node, q{BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) > 0 FROM sale; SELECT pg_sleep(0.2) IS NULL; SELECT missing || '/' || extra FROM ivm.verify('per_name'); COMMIT},
	"t\nf\n0/0", 'with an old snapshot of its own, too');

# wrong rows that nobody writes to are found all the same
$node->safe_psql('postgres', q{SELECT damage('no_key', 'DELETE FROM no_key WHERE n = 99')});
$node->safe_psql('postgres', q{SELECT damage('money_only', 'INSERT INTO money_only SELECT ''-77'', NULL FROM generate_series(1, 5)')});
is(verified('no_key'), '2/0', 'rows that are missing');
is(verified('money_only'), '0/5', 'rows that are too much');
$load->signal('TERM');
$load->finish;
sync($node);
$node->safe_psql('postgres', q{SELECT damage('per_region', 'DELETE FROM per_region WHERE region = 5')});
is(verified('per_region'), '1/0', 'a group that is missing');
$node->safe_psql('postgres', q{SELECT damage('float_sums', 'UPDATE float_sums SET f = f * (1 + 1e-12), g = g * (1 - 1e-12)')});
is(verified('float_sums'), '0/0', 'what the order of additions can do to a float is no difference');
$node->safe_psql('postgres', q{SELECT damage('float_sums', 'UPDATE float_sums SET g = g * (1 + 1e-6) WHERE ctid IN (SELECT ctid FROM float_sums LIMIT 4)')});
is(verified('float_sums'), '4/4', 'but what it cannot do is');
$node->safe_psql('postgres', q{SELECT damage('float_sums', 'DELETE FROM float_sums WHERE ctid IN (SELECT ctid FROM float_sums LIMIT 1)')});
like(verified('float_sums', "SET work_mem = '64kB';"), qr{^[45]/[34]$}, 'in little memory, too');
# a number next to a border of the grid that floats are hashed by
$node->safe_psql('postgres', 'CREATE TABLE border (id int, f float8); INSERT INTO border SELECT i, 8388609.5 / 16777216 FROM generate_series(1, 3) i');
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW border_v AS SELECT sum(f) AS f, sum(f) AS g FROM border GROUP BY id');
$node->safe_psql('postgres', q{SELECT damage('border_v', 'UPDATE border_v SET f = f * (1 - 1e-12), g = g * (1 - 1e-12)')});
is(verified('border_v'), '0/0', 'on either side of a border numbers are equal');
$node->safe_psql('postgres', q{SELECT damage('border_v', 'UPDATE border_v SET f = f * (1 - 1e-8) WHERE ctid IN (SELECT ctid FROM border_v LIMIT 1)')});
is(verified('border_v'), '1/1', 'or not');
# sums that are closer to each other than what counts as equal: each has its own counterpart
$node->safe_psql('postgres', 'CREATE TABLE dense AS SELECT i / 7 AS n, 1.0::float8 / 3 + (i * 7919 % 100003) * 1e-13 AS f FROM generate_series(1, 70000) AS i');
foreach my $columns ('sum(f) AS f', 'sum(f) AS f, avg(f) AS g')
{
	$node->safe_psql('postgres', "DROP MATERIALIZED VIEW IF EXISTS dense_v");
	$node->safe_psql('postgres', "CREATE INCREMENTAL VIEW dense_v AS SELECT $columns FROM dense GROUP BY n");
	is(verified('dense_v'), '0/0', "many numbers next to each other: $columns");
	$node->safe_psql('postgres', q{SELECT damage('dense_v', 'UPDATE dense_v SET f = f * (1 + 1e-5) WHERE f > 2 AND ctid IN (SELECT max(ctid) FROM dense_v)')});
	is(verified('dense_v'), '1/1', 'one of which is wrong');
}
foreach my $view (qw(no_key money_only per_region float_sums))
{
	$node->safe_psql('postgres', "REFRESH INCREMENTAL VIEW $view");
	is(verified($view), '0/0', "$view is repaired");
}

# ---- the process goes on meanwhile ----

my $holder = connection($node);
$holder->query_safe('SELECT pg_advisory_lock(42)');
my $verifier = connection($node);
my $pid = $verifier->query_safe('SELECT pg_backend_pid()');
$verifier->{stdin} .= "SELECT * FROM ivm.verify('slow_v');\n\\echo the end\n";
$verifier->{run}->pump_nb;
wait_until($node, "SELECT wait_event = 'advisory' FROM pg_stat_activity WHERE pid = $pid", 'a session verifies for long');
foreach my $i (1 .. 5)
{
	change_sales($node);
	($ret, $stdout, $stderr) = $node->psql('postgres', q{SELECT ivm.sync(timeout => '20s')});
	is($ret, 0, 'all views are kept up meanwhile') or diag($stderr);
}
is(verified('per_region', "SET statement_timeout = '20s';"), '0/0', 'and others are verified');
$node->safe_psql('postgres', q{SET statement_timeout = '20s'; CREATE INCREMENTAL VIEW made AS SELECT count(*) FROM kinds});
is_value($node, "SELECT wait_event FROM pg_stat_activity WHERE pid = $pid", 'advisory', 'all that while it verified');

# ---- a cancel ----

$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
wait_until_true(sub { $verifier->{run}->pump_nb; return $verifier->{stdout} =~ /the end/ }, 'it ends');
like($verifier->{stderr}, qr/canceling statement due to user request/, 'a verification can be cancelled');
is_value($node, "SELECT count(*) FROM pg_locks WHERE pid = $pid AND (locktype <> 'virtualxid')", '0', 'and leaves no lock');
is_value($node, "SELECT backend_xmin IS NULL FROM pg_stat_activity WHERE pid = $pid", 't', 'nor a snapshot');
$holder->query_safe('SELECT pg_advisory_unlock(42)');
is(verified('slow_v'), '0/0', 'the next one is done');
$_->{stderr} = '', $_->quit foreach ($holder, $verifier);

# ---- many groups that are floats alone ----

$node->safe_psql('postgres', q{CREATE TABLE many (g int, f float8); INSERT INTO many SELECT i % 32000, random() * 1e9 + random() FROM generate_series(1, 224000) i});
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW many_v AS SELECT sum(f) AS s, count(*) * 0.0::float8 AS zero FROM many GROUP BY g');
my $start = time;
my $files = $node->safe_psql('postgres', q{SELECT temp_bytes FROM pg_stat_database WHERE datname = 'postgres'});
is(verified('many_v', "SET work_mem = '1MB';"), '0/0', 'many sums of floats');
my $seconds = time - $start;
my $count = $node->safe_psql('postgres', q{SELECT ivm.sync('many_v'); EXPLAIN (ANALYZE, TIMING off, COSTS off) SELECT sum(f), sum(f) FROM many GROUP BY g ORDER BY 1, 2});
my ($query) = $count =~ /Execution Time: ([0-9.]+) ms/;
note("$seconds s, the query alone $query ms");
cmp_ok($seconds, '<', 1 + 20 * $query / 1000, 'take no more than some times the query');
wait_until($node, "SELECT temp_bytes > $files FROM pg_stat_database WHERE datname = 'postgres'", 'files are used for what does not fit');
is_value($node, q{SELECT count(*) FROM pg_ls_tmpdir()}, '0', 'and none is left');

# ---- a view that somebody changes meanwhile, and one that is not maintained ----

set_points($node, 'build-locked=wait');
my $builder = connection($node);
$builder->{stdin} .= "REFRESH INCREMENTAL VIEW per_region;\n\\echo the end\n";
$builder->{run}->pump_nb;
wait_for_point($node, 'build-locked');
$verifier = connection($node);
$verifier->{stdin} .= "SELECT missing || '/' || extra FROM ivm.verify('per_region');\n\\echo the end\n";
$verifier->{run}->pump_nb;
set_points($node, '');
wait_until_true(sub { $_->{run}->pump_nb foreach ($verifier, $builder); return $verifier->{stdout} =~ /the end/ && $builder->{stdout} =~ /the end/ }, 'both end');
like($verifier->{stdout}, qr{^0/0}, 'a view that is being rebuilt is verified after that');
$node->safe_psql('postgres', 'TRUNCATE sale');
is(verified('per_region'), '0/0', 'after a TRUNCATE');
$node->safe_psql('postgres', 'INSERT INTO sale SELECT i, 1 + i % 25, 1 FROM generate_series(1, 100) i; ALTER TABLE sale ADD COLUMN more int DEFAULT random(); VACUUM FULL sale');
is(verified('per_region'), '0/0', 'after a rewrite');
$node->safe_psql('postgres', 'REFRESH MATERIALIZED VIEW made WITH NO DATA');
($ret, $stdout, $stderr) = $node->psql('postgres', q{SELECT ivm.verify('made')});
like($stderr, qr/has not been populated.*HINT:  Use the REFRESH MATERIALIZED VIEW command/s, 'what is not maintained is not verified');
$_->quit foreach ($builder, $verifier);

# ---- who waits for a table behind a verification does not stop it ----

my $locker = connection($node);
$holder = connection($node);
$holder->query_safe('BEGIN; SELECT count(*) FROM kinds');
$locker->{stdin} .= "LOCK TABLE kinds IN ACCESS EXCLUSIVE MODE;\nBEGIN; LOCK TABLE kinds IN ACCESS EXCLUSIVE MODE; COMMIT;\n\\echo the end\n";
$locker->{run}->pump_nb;
wait_until($node, q{SELECT count(*) > 0 FROM pg_locks WHERE relation = 'kinds'::regclass AND NOT granted}, 'somebody waits');
$verifier = connection($node);
$verifier->{stdin} .= "SELECT missing || '/' || extra FROM ivm.verify('no_key');\n\\echo the end\n";
$verifier->{run}->pump_nb;
$holder->query_safe('COMMIT');
wait_until_true(sub { $_->{run}->pump_nb foreach ($verifier, $locker); return $verifier->{stdout} =~ /the end/ && $locker->{stdout} =~ /the end/ }, 'both end');
like($verifier->{stdout}, qr{^0/0}, 'nobody waits for the other for ever');
$_->{stderr} = '', $_->quit foreach ($holder, $locker, $verifier);
$node->stop;
done_testing();
