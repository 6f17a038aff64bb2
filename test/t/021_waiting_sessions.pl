# Sessions that wait for our processes and are cancelled or terminated, views
# that wait to be built, and what must not wait for either.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $node = new_node('waiting', 'ivm.refresh = rebuild');
make_sales($node);
are_exact($node, 'exact at the beginning');
$node->safe_psql('postgres', <<'EOS');
CREATE TABLE a (id int PRIMARY KEY, n int);
CREATE TABLE b (id int PRIMARY KEY, n int);
INSERT INTO a SELECT i, i % 7 FROM generate_series(1, 100) AS i;
INSERT INTO b SELECT i, i % 7 FROM generate_series(1, 100) AS i;
EOS
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW on_a AS SELECT n, count(*) FROM a GROUP BY n');

# ---- a verification that is cancelled leaves nothing behind ----

set_points($node, 'apply-locked=wait');
$node->safe_psql('postgres', 'INSERT INTO a VALUES (1000, 1)');
wait_for_point($node, 'apply-locked');
my $cancelled = 0;
foreach (1 .. 70)
{
	my ($ret, $stdout, $stderr) =
	  $node->psql('postgres', q{SET statement_timeout = '10ms'; SELECT ivm.verify('on_a')});
	$cancelled++ if $stderr =~ /canceling statement due to statement timeout/;
}
is($cancelled, 70, 'verifications that cannot be done are cancelled, each of them');
set_points($node, '');
is($node->safe_psql('postgres', q{SELECT * FROM ivm.verify('on_a')}), '0|0', 'another one is done');

# ---- a session that is terminated while its view is built ----

set_points($node, 'build-locked=wait');
my $session = connection($node);
my $pid = $session->query_safe('SELECT pg_backend_pid()');
$session->{stdin} .= "CREATE INCREMENTAL VIEW ended AS SELECT n, count(*) FROM b GROUP BY n;\n";
$session->{run}->pump_nb;
wait_for_point($node, 'build-locked');
terminate_process($node, $pid);
set_points($node, '');
wait_until($node, q{SELECT NOT EXISTS (SELECT FROM pg_class WHERE relname = 'ended')}, 'the view is dropped');
pass('a view goes with the session that was terminated while it was built');
is_value($node, q{SELECT count(*) FROM ivm.view WHERE relid NOT IN (SELECT oid FROM pg_class)}, '0', 'nothing is left of it');
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW ended AS SELECT n, count(*) FROM b GROUP BY n');
are_exact($node, 'and can be made again');

# ---- a view that cannot be built for a lock holds up no other ----

my $refresher = connection($node);
$refresher->query_safe('BEGIN; REFRESH MATERIALIZED VIEW on_a');
my $locker = connection($node);
my $locker_pid = $locker->query_safe('SELECT pg_backend_pid()');
$locker->{stdin} .= "BEGIN; LOCK TABLE a IN ACCESS EXCLUSIVE MODE;\n";
$locker->{run}->pump_nb;
wait_until($node, "SELECT count(*) > 0 FROM pg_locks WHERE pid = $locker_pid AND NOT granted", 'somebody waits for the lock');
$refresher->query_safe('COMMIT');
wait_until($node, "SELECT count(*) = 0 FROM pg_locks WHERE pid = $locker_pid AND NOT granted", 'he has the lock');
$node->safe_psql('postgres', q{SET statement_timeout = '30s'; CREATE INCREMENTAL VIEW on_b AS SELECT n, sum(id) FROM b GROUP BY n});
is_value($node, q{SELECT state FROM ivm.view WHERE relid = 'on_a'::regclass}, 'r', 'one view waits to be rebuilt');
is_value($node, q{SELECT state FROM ivm.view WHERE relid = 'on_b'::regclass}, 'a', 'another one was built meanwhile');
$locker->query_safe('COMMIT');
are_exact($node, 'both are exact when the lock is gone');
$_->quit foreach ($refresher, $locker);

# ---- a view that is dropped while its refresh waits for its turn ----

set_points($node, 'build-locked=wait');
my @refreshers = map { connection($node) } (1, 2);
my @pids = map { $_->query_safe('SELECT pg_backend_pid()') } @refreshers;
$refreshers[0]->{stdin} .= "REFRESH MATERIALIZED VIEW on_a;\n";
$refreshers[0]->{run}->pump_nb;
wait_for_point($node, 'build-locked');
$refreshers[1]->{stdin} .= "REFRESH MATERIALIZED VIEW on_b;\n";
$refreshers[1]->{run}->pump_nb;
wait_until($node, q{SELECT state = 'r' FROM ivm.view WHERE relid = 'on_b'::regclass}, 'the second one waits for the builder');
$node->safe_psql('postgres', 'DROP MATERIALIZED VIEW on_b');
wait_until($node, "SELECT state = 'idle' FROM pg_stat_activity WHERE pid = $pids[1]", 'it gives up');
is_value($node, "SELECT state FROM pg_stat_activity WHERE pid = $pids[0]", 'active', 'the refresh of a dropped view ends before its turn');
set_points($node, '');
$_->quit foreach @refreshers;
are_exact($node, 'and the other one is done');
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW on_b AS SELECT n, sum(id) FROM b GROUP BY n');

# ---- a long build while the launcher is started again ----

set_points($node, 'build-filled=wait');
$session = connection($node);
$session->{stdin} .= "CREATE INCREMENTAL VIEW long AS SELECT n, count(*) FROM b GROUP BY n;\n";
$session->{run}->pump_nb;
wait_for_point($node, 'build-filled');
# longer than a session waits for a launcher that is not there
wait_until($node, q{SELECT clock_timestamp() - query_start > '11s' FROM pg_stat_activity WHERE query ~ '^CREATE INCREMENTAL VIEW long'}, 'the build takes long');
my ($launcher) = worker_pids($node, 'launcher');
terminate_process($node, $launcher);
wait_for_restart($node, 'launcher', $launcher);
set_points($node, '');
$session->query('SELECT 1');
$session->quit;
is_value($node, q{SELECT count(*) FROM pg_class WHERE relname = 'long'}, '1', 'a session that has waited for long does not give up');
are_exact($node, 'and its view is exact');

# ---- two databases stopped in one transaction ----

foreach my $name ('one', 'two')
{
	$node->safe_psql('postgres', "CREATE DATABASE $name");
	$node->safe_psql($name, <<'EOS');
CREATE EXTENSION ivm_ext;
CREATE TABLE t (id int PRIMARY KEY);
INSERT INTO t SELECT generate_series(1, 10);
EOS
	$node->safe_psql($name, 'CREATE INCREMENTAL VIEW v AS SELECT count(*) FROM t');
}
$node->safe_psql('postgres', 'BEGIN; ALTER DATABASE one RENAME TO three; ALTER DATABASE two RENAME TO four; COMMIT');
foreach my $name ('three', 'four')
{
	$node->safe_psql($name, 'INSERT INTO t SELECT generate_series(11, 20)');
	are_exact($node, "the views of $name go on", $name);
}

# ---- the slot is lost while a view is filled ----

set_points($node, 'build-filled=wait');
$session = connection($node);
$session->{stdin} .= "CREATE INCREMENTAL VIEW filled AS SELECT n, count(*), sum(id) FROM b GROUP BY n;\n";
$session->{run}->pump_nb;
wait_for_point($node, 'build-filled');
my $dboid = $node->safe_psql('postgres', q{SELECT oid FROM pg_database WHERE datname = 'postgres'});
# the rows are in no slot: a new one cannot begin before this transaction has ended
lose_slot($node, "ivm_$dboid", 'INSERT INTO b SELECT i, i % 7 FROM generate_series(1001, 1100) AS i;');
wait_until($node, q{SELECT count(*) > 0 FROM pg_stat_ivm_worker WHERE state = 'creating replication slot'}, 'a new slot is being made');
set_points($node, '');
$session->query('SELECT 1');
$session->quit;
are_exact($node, 'a view that was filled while the slot was lost is exact');

# ---- the slot is lost while a transaction with an xid wants something of its views ----

$session = connection($node);
$session->query_safe('BEGIN; INSERT INTO b VALUES (2001, 1)');
lose_slot($node, "ivm_$dboid");
wait_until($node, q{SELECT count(*) > 0 FROM pg_stat_ivm_worker WHERE state = 'creating replication slot'}, 'a new slot waits for the transaction');
$session->query(q{SET statement_timeout = '60s'; SELECT * FROM ivm.verify('filled')});
like($session->{stderr}, qr/a replication slot waits for the end of this transaction.*HINT:  Commit first/s, 'a verification does not wait for its own transaction');
$session->{stderr} = '';
$session->query_safe('ROLLBACK');
$session->quit;
are_exact($node, 'and the views are rebuilt when it has ended');

# ---- the extension is dropped while a view is filled ----

set_points($node, 'build-filled=wait');
$session = connection($node);
$session->{stdin} .= "CREATE INCREMENTAL VIEW last AS SELECT n, count(*) FROM b GROUP BY n;\n";
$session->{run}->pump_nb;
wait_for_point($node, 'build-filled');
my $log = -s $node->logfile;
my $dropper = connection($node);
my $dropper_pid = $dropper->query_safe('SELECT pg_backend_pid()');
$dropper->{stdin} .= "DROP EXTENSION ivm_ext CASCADE;\n";
$dropper->{run}->pump_nb;
wait_until($node, "SELECT count(*) > 0 FROM pg_locks WHERE pid = $dropper_pid AND NOT granted", 'the drop waits for the fill');
set_points($node, '');
$_->query('SELECT 1') foreach ($session, $dropper);
$_->quit foreach ($session, $dropper);
$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_replication_slots WHERE slot_name = 'ivm_$dboid'")
  or die 'the slot stays';
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_class WHERE relname = 'last'}), '0', 'the extension and its views go');
unlike(slurp_file($node->logfile, $log), qr/could not open relation/, 'no process stumbles over it');

$node->stop;
done_testing();
