# Positions: the slot is confirmed never further than what every view contains
# durably, also while a new view is handed over; and where the two do not fit
# (a backup without the slot, a promoted standby, a slot that is ahead), the view
# is rebuilt.  Transactions that are open over many batches, and over a creation.
#
# kills: the postmaster

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;
use Time::HiRes qw(usleep);

# Only we flush WAL, and the decoder looks often.
my $node = new_node('position', 'autovacuum = off', 'checkpoint_timeout = 1h', 'wal_writer_delay = 10s',
	'bgwriter_delay = 10s', 'ivm.naptime = 10ms');

# ---- the slot of the first view waits for the transactions that are open ----

$node->safe_psql('postgres', 'CREATE EXTENSION ivm_ext; CREATE TABLE early (a int PRIMARY KEY, b int); ALTER TABLE early REPLICA IDENTITY FULL; INSERT INTO early SELECT i, i % 5 FROM generate_series(1, 100) i');
my $long = connection($node);
$long->query_safe('BEGIN; INSERT INTO early SELECT i, i % 5 FROM generate_series(101, 200) i');
my $long_pid = $long->query_safe('SELECT pg_backend_pid()');
my $creating = connection($node);
$creating->query_until(qr/begun/, <<'EOS');
\echo begun
CREATE INCREMENTAL VIEW of_early AS SELECT b, count(*) AS n FROM early GROUP BY b;
EOS
wait_until($node, q{SELECT count(*) = 1 FROM pg_stat_ivm_worker WHERE state = 'creating replication slot'}, 'the slot is being made');
ok($creating->{timeout} && pump_notice($creating, qr/waiting for transactions that are still running to end/), 'the session is told what it waits for');
like($creating->{stderr}, qr/Process: $long_pid\./, 'and for whom');
$long->query_safe('UPDATE early SET b = b + 1 WHERE a < 150; COMMIT');
$creating->query('SELECT 1');
are_exact($node, 'a transaction that was open while the first view was made is in it');
$creating->quit;

# Waits until the session has been sent a notice.
sub pump_notice
{
	my ($session, $pattern) = @_;
	$session->{run}->pump until $session->{stderr} =~ $pattern || $session->{timeout}->is_expired;
	return $session->{stderr} =~ $pattern;
}

make_sales($node);
are_exact($node, 'exact at the beginning');
$node->safe_psql('postgres', 'DROP TABLE early CASCADE');
my $log = -s $node->logfile;

sub position
{
	my ($what) = @_;
	return $node->safe_psql('postgres', "SELECT $what FROM pg_replication_slots WHERE slot_type = 'logical'");
}

# The processes have looked several times since: what they would do they have done.
sub wait_for_looks
{
	my %before = map { $_ => switches($_) } worker_pids($node, 'decoder'), worker_pids($node, 'apply worker');
	wait_until_true(sub { !grep { switches($_) < $before{$_} + 10 } keys %before }, 'the processes have looked');
	return;
}

sub switches
{
	my ($pid) = @_;
	return slurp_file("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s+(\d+)/m ? $1 : die 'no count of switches';
}

# ---- not before the batch is flushed ----

# Our processes do not wait for the flush of their commits.  Somebody else, like
# the WAL writer or the other worker's batch, may flush after the batch: then it
# is to be looked at anew.
my $tried = 0;
my $found;
do
{
	sync($node);
	my $before = $node->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()');
	my $changed = change_sales($node);
	wait_until($node, "SELECT min(lsn) > '$before' FROM ivm.applied", 'the change is applied');
	wait_for_looks();
	$found = $node->safe_psql('postgres', "SELECT CASE WHEN pg_current_wal_flush_lsn() > '$changed' THEN 'flushed' ELSE (confirmed_flush_lsn <= '$before')::text END FROM pg_replication_slots");
} while ($found eq 'flushed' && ++$tried < 20);
is($found, 'true', 'the slot is not confirmed while the batch is not flushed');
kill_server($node);
$node->start;
are_exact($node, 'exact when that batch was lost');

# And once it is flushed, it is.
change_sales($node);
sync($node);
my $behind = $node->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()');
$node->safe_psql('postgres', 'SELECT pg_switch_wal(); CHECKPOINT');
change_sales($node);
sync($node);
wait_until($node, "SELECT bool_and(confirmed_flush_lsn >= '$behind') FROM pg_replication_slots", 'the slot is confirmed');
pass('and is when it is flushed');

# ---- never past any view, whatever happens ----

sub is_not_past
{
	my ($name) = @_;
	wait_for_looks();
	is_value($node, 'SELECT (SELECT confirmed_flush_lsn FROM pg_replication_slots) <= (SELECT min(lsn) FROM ivm.applied)',
		't', "the slot is not past any view: $name");
	return;
}

is_not_past('all have the same changes');
$node->safe_psql('postgres', 'CREATE TABLE alone (a int PRIMARY KEY); INSERT INTO alone VALUES (1)');
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW of_alone AS SELECT count(*) AS n FROM alone');
foreach (1 .. 5) { change_sales($node); sync($node); }
$node->safe_psql('postgres', 'CHECKPOINT');
is_not_past('one has none');

# a view that cannot be locked has its changes still to come
my $locker = connection($node);
$locker->query_safe('BEGIN; LOCK TABLE region');
foreach (1 .. 5)
{
	change_sales_only();
	$node->safe_psql('postgres', q{SELECT ivm.sync('per_region')});
}
$node->safe_psql('postgres', 'CHECKPOINT');
is_not_past('some are behind');
$node->stop('fast');
leave($locker);
$node->start;
are_exact($node, 'exact after a restart with some behind');

sub change_sales_only
{
	$node->safe_psql('postgres', 'UPDATE sale SET amount = amount + 1, region = 1 + (region + 3) % 25 WHERE id % 10 = 3');
	return;
}

# a new view that nobody has taken over yet; the others would let the slot go
$node->safe_psql('postgres', 'DROP TABLE alone CASCADE');
foreach my $point ('build-locked', 'build-filled', 'build-committed')
{
	set_points($node, "$point=wait");
	$creating = connection($node);
	$creating->query_until(qr/begun/, <<'EOS');
\echo begun
CREATE MATERIALIZED VIEW made USING incremental AS SELECT note, count(*) AS n, sum(amount) AS total FROM sale GROUP BY note;
EOS
	wait_for_point($node, $point);
	my $before = $node->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()');
	foreach (1 .. 5)
	{
		change_sales($node);
		$node->safe_psql('postgres', q{SELECT ivm.sync('per_region')});
	}
	$node->safe_psql('postgres', 'CHECKPOINT');
	wait_for_looks();
	is(position("confirmed_flush_lsn <= '$before'"), 't', "the slot waits for the view that is being made, $point");
	is_not_past($point);

	# what is confirmed stays so in a shutdown
	forget_points($node);
	$node->stop('fast');
	$node->start;
	leave($creating);
	change_sales($node);
	are_exact($node, "exact after a restart at $point");
	is_value($node, q{SELECT count(*) FROM pg_stat_ivm WHERE relname = 'made' AND state = 'active'}, 1, 'and the view is there');
	$node->safe_psql('postgres', 'DROP MATERIALIZED VIEW made');
}
is(rebuilds($node, $log), 0, 'no view had to be rebuilt until here');

# ---- a transaction that is open over many batches ----

my $restart = position('restart_lsn');
$long = connection($node);
$long->query_safe('BEGIN; INSERT INTO sale SELECT 5000000 + i, i % 25, i % 60, $$long$$ FROM generate_series(1, 1000) i; SAVEPOINT a; UPDATE sale SET amount = amount + 1 WHERE id % 7 = 1 AND id < 1000');
foreach my $n (1 .. 4)
{
	change_sales_but_few();
	$long->query_safe("INSERT INTO sale VALUES (6000000 + $n, $n, 1, 'long'); SAVEPOINT s$n; DELETE FROM sale WHERE id = 6000000 + $n; " . ($n % 2 ? "ROLLBACK TO s$n" : "RELEASE s$n"));
	are_exact($node, "exact while a transaction is open, $n");
	if ($n == 2)
	{
		terminate_process($node, $_) foreach worker_pids($node, 'decoder');
	}
	elsif ($n == 3)
	{
		$node->safe_psql('postgres', 'CREATE MATERIALIZED VIEW during USING incremental AS SELECT note, count(*) AS n FROM sale GROUP BY note');
	}
}
is_value($node, q{SELECT count(*) FROM listed WHERE id > 5000000}, 0, 'nothing of it is in a view');
$long->query_safe('COMMIT');
$long->quit;
are_exact($node, 'when it commits it is, also in a view that was made meanwhile');
is_value($node, q{SELECT n FROM during WHERE note = 'long'}, 1002, 'as a whole');
$node->safe_psql('postgres', 'DROP MATERIALIZED VIEW during');

# changes that meet no row of the open transaction
sub change_sales_but_few
{
	$node->safe_psql('postgres', 'UPDATE sale SET amount = amount + 1 WHERE id BETWEEN 1001 AND 1500; UPDATE region SET name = name || $$.$$ WHERE id < 5');
	return;
}

# ---- a slot that is ahead of what is stored ----

# moved by hand: what is between is lost
my ($ret, $stdout, $stderr) = $node->psql('postgres', 'SELECT pg_logical_slot_peek_binary_changes(slot_name, NULL, NULL) FROM pg_replication_slots');
like($stderr, qr/is active for PID/, 'nobody reads from the slot while it is used');
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "''");
$node->restart;
# newer minor releases want plugins to be listed
($ret, $stdout, $stderr) = $node->psql('postgres', q{SET output_plugin_libraries = 'ivm_ext'; SELECT pg_logical_slot_peek_binary_changes(slot_name, NULL, NULL) FROM pg_replication_slots}, on_error_stop => 0);
like($stderr, qr/output plugin "ivm_ext" can only be used by the decoder of incremental views/, 'nor while it is not');
$node->safe_psql('postgres', q{UPDATE sale SET amount = amount + 1 WHERE id % 10 = 3});
$node->safe_psql('postgres', 'SELECT pg_replication_slot_advance(slot_name, pg_current_wal_lsn()) FROM pg_replication_slots');
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "'ivm_ext'");
$node->restart;
are_exact($node, 'exact when the slot was moved by hand');
is_value($node, q{SELECT bool_and(last_rebuild_reason = 'its replication slot is past its contents') FROM pg_stat_ivm}, 't', 'each view was rebuilt and says why');

# ahead of one view: that one alone
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "''");
$node->restart;
write_metadata($node, 'ivm.applied', q{UPDATE ivm.applied SET lsn = '0/1' WHERE relid = 'listed'::regclass});
$node->safe_psql('postgres', q{UPDATE sale SET amount = amount + 1 WHERE id % 10 = 3});
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "'ivm_ext'");
$node->restart;
$node->safe_psql('postgres', q{SELECT ivm.sync()});
are_exact($node, 'exact when the slot was ahead of one view');
is_value($node, q{SELECT string_agg(relname || ': ' || rebuilds || ' for ' || last_rebuild_reason, ', ') FROM pg_stat_ivm WHERE rebuilds > 0},
	'listed: 1 for its replication slot is past its contents', 'that view was rebuilt, the others were not');

# ---- a backup, which has no slot; a standby ----

change_sales($node);
$node->backup('backup');
change_sales($node);

my $restored = PostgreSQL::Test::Cluster->new('restored');
$restored->init_from_backup($node, 'backup');
$restored->start;
are_exact($restored, 'exact after a restore of a base backup');
is_value($restored, q{SELECT bool_and(last_rebuild_reason = 'its replication slot was lost') FROM pg_stat_ivm}, 't', 'each view was rebuilt and says why');
change_sales($restored);
are_exact($restored, 'and goes on');
$restored->stop;

my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
sync($node);
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
is_value($standby, 'SELECT sum(n) FROM per_region', $node->safe_psql('postgres', 'SELECT sum(n) FROM per_region'), 'a standby has the views');
is($standby->psql('postgres', 'SELECT ivm.sync()'), 0, 'and can wait for what has come to be replayed');
($ret, $stdout, $stderr) = $standby->psql('postgres', q{REFRESH MATERIALIZED VIEW per_region});
like($stderr, qr/in a read-only transaction/, 'but cannot maintain them');
is_value($standby, 'SELECT count(*) FROM pg_replication_slots', 0, 'nor does it try to');
change_sales($node);
sync($node);
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
$node->stop('immediate');
$standby->promote;
change_sales($standby);
are_exact($standby, 'exact after a promotion');
is_value($standby, q{SELECT bool_and(last_rebuild_reason = 'its replication slot was lost') FROM pg_stat_ivm}, 't', 'each view was rebuilt and says why');
$standby->restart;
change_sales($standby);
are_exact($standby, 'and goes on');

$standby->stop;
done_testing();
