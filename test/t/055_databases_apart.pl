# Databases do not wait for each other: a lock on the metadata of some, over a
# restart; a drop while somebody looks into a database; worker slots for one
# of two; the launcher's end.
#
# kills: nothing

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $node = new_node('apart', 'max_worker_processes = 40', 'max_replication_slots = 12', 'ivm.memory_budget = 256MB', 'max_prepared_transactions = 10', 'autovacuum = off');

sub make_view
{
	my ($dbname) = @_;
	$node->safe_psql($dbname, <<'EOS');
CREATE TABLE base (k int, n int);
CREATE INCREMENTAL VIEW v AS SELECT k, sum(n) AS n FROM public.base GROUP BY k;
INSERT INTO base SELECT i % 5, i FROM generate_series(1, 100) i;
EOS
	return;
}

sub is_followed
{
	my ($dbname, $name) = @_;
	$node->safe_psql($dbname, 'INSERT INTO base VALUES (1, 1)');
	sync($node, $dbname);
	is_value($node, 'SELECT (SELECT sum(n) FROM v) = (SELECT sum(n) FROM base)', 't', $name, $dbname);
	return;
}

$node->safe_psql('postgres', 'CREATE EXTENSION ivm_ext');
$node->safe_psql('postgres', 'CREATE DATABASE free');
$node->safe_psql('free', 'CREATE EXTENSION ivm_ext');
make_view('free');
is_followed('free', 'a view');
$node->safe_psql('postgres', 'CREATE DATABASE second TEMPLATE free');
is_followed('second', 'a view in a copy');

# ---- locked while the server starts ----

# more than are looked into at a time
my @locked = map { "locked$_" } 1 .. 6;
foreach my $dbname (@locked)
{
	$node->safe_psql('postgres', "CREATE DATABASE $dbname TEMPLATE free");
	is_followed($dbname, "a view in $dbname") if $dbname eq 'locked1';
	$node->safe_psql($dbname, "BEGIN; ALTER MATERIALIZED VIEW ivm.view SET TABLESPACE pg_default; PREPARE TRANSACTION '$dbname'");
}
my $log = -s $node->logfile;
$node->restart;
is_followed('free', 'maintained while others are locked');
is_followed('second', 'and another one');
$node->wait_for_log(qr/could not look for incremental views in database \d+: canceling statement due to lock timeout/, $log);
pass('the log says so');
my ($ret, $stdout, $stderr) = $node->psql('locked1', q{SET statement_timeout = '2s'; SELECT ivm.sync('v', '300 ms')});
isnt($ret, 0, 'a locked one is not maintained');

# it can be dropped nevertheless, by whomever
$node->safe_psql('locked6', q{ROLLBACK PREPARED 'locked6'});
$node->safe_psql('postgres', 'DROP DATABASE locked6');
pop @locked;

foreach my $dbname (@locked)
{
	$node->safe_psql($dbname, "ROLLBACK PREPARED '$dbname'");
}
is_followed($_, "maintained when it is not locked any more: $_") foreach ($locked[0], $locked[-1]);
foreach my $dbname (@locked)
{
	$node->safe_psql('postgres', "DROP DATABASE $dbname");
}

# ---- dropped while somebody looks into it ----

$node->safe_psql('postgres', 'CREATE DATABASE short TEMPLATE free');
is_followed('short', 'a copy');
$node->safe_psql('postgres', q{ALTER SYSTEM SET ivm.debug_points = 'inspect=wait'});
$node->restart;
wait_until($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'ivm inspector' AND datname = 'short'},
	'somebody looks into it');
$node->safe_psql('postgres', 'DROP DATABASE short');
pass('dropped while somebody looks into it');
$log = -s $node->logfile;
set_points($node, '');
is_followed('free', 'the others are looked into');
wait_until($node, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'ivm inspector'}, 'no inspector is left');
unlike(slurp_file($node->logfile, $log), qr/FATAL/, 'and nobody looks for the one that was dropped');

# a template, too
$node->safe_psql('postgres', q{ALTER SYSTEM SET ivm.debug_points = 'inspect=wait'});
$node->restart;
wait_until($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'ivm inspector' AND datname = 'second'},
	'somebody looks into it');
$node->safe_psql('postgres', 'CREATE DATABASE copied TEMPLATE second');
set_points($node, '');
is_followed('copied', 'copied while somebody looked into it');
is_followed('second', 'which goes on, too');
$node->safe_psql('postgres', 'DROP DATABASE copied');

# ---- worker slots for one of two ----

# launcher, launcher of subscriptions, three for one database, two to spare
$node->append_conf('postgresql.conf', "max_worker_processes = 7\nmax_parallel_workers = 0\n");
$log = -s $node->logfile;
$node->restart;
my $counts = q{SELECT string_agg(n::text, ',' ORDER BY n) FROM (SELECT count(*) AS n FROM pg_stat_ivm_worker
	WHERE worker_type IN ('decoder', 'apply worker') GROUP BY datname) d};
$node->wait_for_log(qr/could not start process "ivm (apply worker|decoder)": no free background worker slot/, $log);
wait_until($node, "SELECT ($counts) = '3'", 'one is whole', 'free');
my $whole = $node->safe_psql('free', q{SELECT DISTINCT datname FROM pg_stat_ivm_worker WHERE worker_type = 'decoder'});
my $other = $whole eq 'free' ? 'second' : 'free';
is_followed($whole, 'the one that got slots is maintained');
$node->safe_psql($whole, 'DROP MATERIALIZED VIEW v');
is_followed($other, 'and the other when they are free');
wait_until($node, "SELECT ($counts) = '3'", 'the other is whole', $other);
pass('all or none of the processes of a database');
$node->append_conf('postgresql.conf', 'max_worker_processes = 40');
$node->restart;

# ---- the launcher ends ----

my @old = map { worker_pids($node, $_) } ('decoder', 'apply worker');
terminate_process($node, (worker_pids($node, 'launcher'))[0]);
wait_for_end(@old);
is_followed($other, 'maintained after the launcher was started again');
is_value($node, $counts, '3', 'by new processes, each once', $other);

# while it looks into databases
$node->safe_psql('postgres', q{ALTER SYSTEM SET ivm.debug_points = 'inspect=wait'});
$node->restart;
my $inspector = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'ivm inspector' AND datname = 'free'};
wait_until($node, "SELECT count(*) = 1 FROM ($inspector) i", 'somebody looks into it');
my $old = $node->safe_psql('postgres', $inspector);
terminate_process($node, (worker_pids($node, 'launcher'))[0]);
wait_for_end($old);
set_points($node, '');
is_followed($other, 'maintained after the launcher ended at its start');

$node->stop;
done_testing();
