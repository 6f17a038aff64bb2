# What nobody would come back to: builds whose builder or session has ended, the
# second of two sessions that wait for one view, and what an apply worker keeps
# in mind of its views and of the time; and a lock that never is free.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $node = new_node('abandoned', 'ivm.refresh = rebuild', 'ivm.apply_workers = 1');

$node->safe_psql('postgres', <<'EOS');
CREATE EXTENSION ivm_ext;
CREATE TABLE a (id int PRIMARY KEY, n int);
CREATE TABLE b (id int PRIMARY KEY, n int);
CREATE TABLE c (id int PRIMARY KEY, n int);
INSERT INTO a SELECT i, i % 7 FROM generate_series(1, 100) AS i;
INSERT INTO b SELECT i, i % 7 FROM generate_series(1, 100) AS i;
INSERT INTO c SELECT i, 1 + i % 7 FROM generate_series(1, 100) AS i;
EOS
$node->safe_psql('postgres', $_) foreach (
	'CREATE INCREMENTAL VIEW on_a AS SELECT n, count(*), sum(id) FROM a GROUP BY n',
	'CREATE INCREMENTAL VIEW on_b AS SELECT n, count(*), sum(id) FROM b GROUP BY n',
	'CREATE INCREMENTAL VIEW above_a AS SELECT sum(count) FROM on_a',
	'CREATE INCREMENTAL VIEW quotient AS SELECT id, 10 / n AS q FROM c');
are_exact($node, 'exact at the beginning');

my @sessions = map { connection($node) } (1 .. 3);
my @pids = map { $_->query_safe('SELECT pg_backend_pid()') } @sessions;

# Begins a statement in a session, without waiting for its end.
sub begin_statement
{
	my ($i, $statement) = @_;
	$sessions[$i]->{stdin} .= "$statement;\n";
	$sessions[$i]->{run}->pump_nb;
	return;
}

sub wait_for_idle
{
	my ($i, $what) = @_;
	wait_until($node, "SELECT state = 'idle' FROM pg_stat_activity WHERE pid = $pids[$i]", $what);
	return;
}

# What the session was told besides results.
sub notices_of
{
	my ($i) = @_;
	$sessions[$i]->query('SELECT 1');
	my $notices = $sessions[$i]->{stderr};
	$sessions[$i]->{stderr} = '';
	return $notices;
}

sub wait_for_view
{
	my ($view, $state) = @_;
	wait_until($node, "SELECT state = '$state' FROM ivm.view WHERE relid = '$view'::regclass", "$view is in state $state");
	return;
}

# ---- the builder ends while a view waits for a lock ----

$sessions[0]->query_safe('BEGIN; REFRESH MATERIALIZED VIEW on_a');
begin_statement(1, 'BEGIN; LOCK TABLE a IN ACCESS EXCLUSIVE MODE');
wait_until($node, "SELECT count(*) > 0 FROM pg_locks WHERE pid = $pids[1] AND NOT granted", 'somebody waits for the lock');
$sessions[0]->query_safe('COMMIT');
wait_until($node, q{SELECT count(*) > 0 FROM pg_stat_ivm_worker WHERE state = 'waiting for locks'}, 'the builder waits for the lock');
terminate_process($node, worker_pids($node, 'builder'));
$sessions[1]->query_safe('COMMIT');
are_exact($node, 'another builder goes on when the lock is gone');

# ---- two sessions wait for a view that cannot be built ----

$node->safe_psql('postgres', 'INSERT INTO c VALUES (1000, 0)');
wait_for_view('quotient', 'e');
set_points($node, 'build-locked=wait');
begin_statement(0, 'REFRESH MATERIALIZED VIEW on_b');
wait_for_point($node, 'build-locked');
begin_statement(1, 'REFRESH MATERIALIZED VIEW quotient');
wait_for_view('quotient', 'r');
begin_statement(2, 'REFRESH MATERIALIZED VIEW quotient');
wait_until($node, "SELECT xact_start IS NOT NULL AND wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = $pids[2]",
	'the second one waits for the builder, too');
set_points($node, '');
wait_for_idle($_, 'the builder has an answer') foreach (0 .. 2);
like(notices_of($_), qr/division by zero/, 'each of them gets the error') foreach (1, 2);
$node->safe_psql('postgres', 'DELETE FROM c WHERE n = 0; REFRESH MATERIALIZED VIEW quotient');
are_exact($node, 'and the view can be built again');

# ---- a view that is stopped while a REFRESH waits for its turn ----

set_points($node, 'build-locked=wait');
begin_statement(0, 'REFRESH MATERIALIZED VIEW on_b');
wait_for_point($node, 'build-locked');
begin_statement(1, 'REFRESH MATERIALIZED VIEW quotient');
wait_for_view('quotient', 'r');
write_metadata($node, 'ivm.view', q{UPDATE ivm.view SET state = 'e', reason = 'stopped' WHERE relid = 'quotient'::regclass});
wait_for_idle(1, 'the session does not wait for what nobody builds');
like(notices_of(1), qr/was stopped before it was built/, 'and says why');
set_points($node, '');
wait_for_idle(0, 'the other view is built');
$node->safe_psql('postgres', 'REFRESH MATERIALIZED VIEW quotient');
are_exact($node, 'the view can be built again');

# ---- a REFRESH that comes when another one is nearly done ----

set_points($node, 'build-committed=wait');
begin_statement(0, 'REFRESH MATERIALIZED VIEW on_b');
wait_for_point($node, 'build-committed');
begin_statement(1, 'REFRESH MATERIALIZED VIEW on_b');
wait_for_view('on_b', 'r');
set_points($node, 'build-locked=wait');
wait_for_point($node, 'build-locked');
wait_for_idle(0, 'the first one is done');
is_value($node, "SELECT state FROM pg_stat_activity WHERE pid = $pids[1]", 'active', 'the second one waits for its own build');
set_points($node, '');
wait_for_idle(1, 'the second one is done');
are_exact($node, 'after both');

# ---- a session ends while it undoes a REFRESH ----

$node->safe_psql('postgres', 'REFRESH MATERIALIZED VIEW above_a WITH NO DATA');
set_points($node, 'build-locked=wait');
begin_statement(0, 'REFRESH MATERIALIZED VIEW on_b');
wait_for_point($node, 'build-locked');
begin_statement(1, 'REFRESH MATERIALIZED VIEW above_a');
wait_for_view('above_a', 'b');
$sessions[2]->query_safe('BEGIN; REFRESH MATERIALIZED VIEW above_a');
$node->safe_psql('postgres', "SELECT pg_cancel_backend($pids[1])");
wait_until($node, "SELECT count(*) > 0 FROM pg_locks WHERE pid = $pids[1] AND NOT granted", 'the cancelled session waits');
set_points($node, '');
wait_for_idle(0, 'the other view is built');
wait_until($node, q{SELECT count(*) = 0 FROM pg_stat_ivm_worker WHERE worker_type = 'builder'}, 'the builder has nothing left to do');
terminate_process($node, $pids[1]);
$sessions[2]->query_safe('ROLLBACK');
wait_for_view('above_a', 'a');
are_exact($node, 'what the session could not undo is built');
leave($sessions[1]);

# ---- a view whose upstream is being built holds up no other ----

$sessions[0]->query_safe('BEGIN; REFRESH MATERIALIZED VIEW above_a');
$node->safe_psql('postgres', 'INSERT INTO a VALUES (2000, 1)');
wait_for_state($node, 'above_a', 'waiting for lock');
$sessions[0]->query_safe('ROLLBACK');
are_exact($node, 'a view that has waited for a lock');
set_points($node, 'build-locked=wait');
begin_statement(0, 'REFRESH MATERIALIZED VIEW on_a');
wait_for_point($node, 'build-locked');
$node->safe_psql('postgres', 'INSERT INTO a VALUES (2001, 1); INSERT INTO b VALUES (2001, 1)');
my ($ret, $stdout, $stderr) = $node->psql('postgres', q{SELECT ivm.sync('on_b', '20s')});
is($ret, 0, 'holds up no other when what it reads is built') or diag($stderr);
set_points($node, '');
wait_for_idle(0, 'it is built');
are_exact($node, 'all are exact again');

# ---- a view that was built between two looks does not keep the WAL ----

set_points($node, 'apply-begin=wait');
$node->safe_psql('postgres', 'INSERT INTO b VALUES (2002, 1)');
wait_for_point($node, 'apply-begin');
begin_statement(0, 'REFRESH MATERIALIZED VIEW quotient');
wait_until($node, q{SELECT count(*) > 0 FROM pg_stat_progress_ivm_build WHERE phase = 'handing over'}, 'the view is built');
set_points($node, '');
wait_for_idle(0, 'it is taken over');
my $position = $node->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()');
$node->safe_psql('postgres', 'SELECT pg_switch_wal()');
foreach (1, 2)
{
	$node->safe_psql('postgres', 'CREATE TABLE other (n int); DROP TABLE other; SELECT pg_switch_wal()');
}
$node->safe_psql('postgres', q{SELECT pg_current_xact_id()});
sync($node);
wait_until($node, "SELECT confirmed_flush_lsn > '$position' FROM pg_replication_slots", 'the slot is confirmed past the build');
pass('the slot is confirmed past a build that no worker has noticed');

# ---- the interval between batches is shortened ----

$node->safe_psql('postgres', q{ALTER SYSTEM SET ivm.batch_interval = '60s'});
reload($node);
wait_until($node, q{SELECT setting = '60000' FROM pg_settings WHERE name = 'ivm.batch_interval'}, 'the interval is long');
my $late = 0;
foreach (1 .. 15)
{
	$node->safe_psql('postgres', q{INSERT INTO b SELECT max(id) + 1, 3 FROM b});
	($ret, $stdout, $stderr) = $node->psql('postgres', q{SELECT ivm.sync('on_b', '2s')});
	$late = 1, last if $ret != 0;
}
is($late, 1, 'batches keep the interval');
$node->safe_psql('postgres', q{ALTER SYSTEM RESET ivm.batch_interval});
reload($node);
($ret, $stdout, $stderr) = $node->psql('postgres', q{SELECT ivm.sync('on_b', '20s')});
is($ret, 0, 'and a shorter one as soon as it is set') or diag($stderr);
are_exact($node, 'exact in the end');

# ---- a view that is read all the time gets another index ----

$node->safe_psql('postgres', q{CREATE TABLE words (id int PRIMARY KEY, word text); INSERT INTO words SELECT i, 'word ' || i % 10 FROM generate_series(1, 100) AS i});
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW on_words AS SELECT word, count(*) FROM words GROUP BY word');
my @readers = map { connection($node) } (1 .. 3);
my @reader_pids = map { $_->query_safe('SELECT pg_backend_pid()') } @readers;
foreach my $reader (@readers)
{
	$reader->{stdin} .= "SELECT count(*), pg_sleep(0.05 + 0.1 * random()) FROM on_words;\n" x 400;
	$reader->{run}->pump_nb;
}
wait_until($node, q{SELECT count(*) > 2 FROM pg_locks WHERE relation = 'on_words'::regclass AND mode = 'AccessShareLock'}, 'all read');
$node->safe_psql('postgres', q{INSERT INTO words SELECT 1000, string_agg(md5(i::text), '') FROM generate_series(1, 300) AS i});
($ret, $stdout, $stderr) = $node->psql('postgres', q{SELECT ivm.sync('on_words', '15s')});
is($ret, 0, 'a view that is read all the time gets an index for a long key') or diag($stderr);
is_value($node, "SELECT count(*) FROM pg_stat_activity WHERE pid IN (" . join(', ', @reader_pids) . ") AND state = 'active'", '3', 'while all read on');
terminate_process($node, $_) foreach @reader_pids;
leave($_) foreach @readers;
are_exact($node, 'exact with a long key');

$_->quit foreach @sessions[ 0, 2 ];
$node->stop;
done_testing();
