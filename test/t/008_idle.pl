# Waking and sleeping.  ivm.naptime is an hour: whatever happens in time happens
# because somebody was woken, and whoever has nothing to do sleeps.
#
# kills: nothing

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;
use Time::HiRes qw(time usleep);

my $node = new_node('idle', 'ivm.refresh = rebuild', 'autovacuum = off', 'checkpoint_timeout = 1h', 'ivm.naptime = 1h',
	'wal_writer_delay = 10s');
$node->safe_psql('postgres', 'CREATE DATABASE second');
make_sales($node);
make_sales($node, 'second', 100);

# A test: the view comes to equal its query, though nobody calls ivm.sync.
sub comes_by_itself
{
	my ($view, $name, $dbname) = @_;
	$dbname ||= 'postgres';
	wait_until($node, 'SELECT ' . differs($view, $dbname) . ' = 0', "$view follows: $name", $dbname);
	pass("the view follows by itself: $name");
	return;
}

# An expression: how many rows a view has too much or too few.
sub differs
{
	my ($view, $dbname) = @_;
	my $query = $node->safe_psql($dbname, "SELECT rtrim(pg_get_viewdef('$view'), ';')");
	return "(SELECT count(*) FROM ((TABLE $view EXCEPT ALL ($query)) UNION ALL (($query) EXCEPT ALL TABLE $view)) d)";
}

# ---- woken by commits ----

$node->safe_psql('postgres', 'UPDATE sale SET amount = amount + 1 WHERE id = 1');
comes_by_itself('per_name', 'a commit');

# visible before it is flushed, and the WAL writer is slow
$node->safe_psql('postgres', 'SET synchronous_commit = off; UPDATE sale SET amount = amount + 1 WHERE id = 2');
comes_by_itself('per_name', 'an asynchronous commit');

$node->safe_psql('postgres', q{BEGIN; UPDATE sale SET amount = amount + 1 WHERE id = 3; PREPARE TRANSACTION 'p'});
$node->safe_psql('postgres', q{COMMIT PREPARED 'p'});
comes_by_itself('per_name', 'COMMIT PREPARED');
$node->safe_psql('postgres', q{BEGIN; UPDATE sale SET amount = amount + 1 WHERE id = 3; PREPARE TRANSACTION 'p'});
$node->safe_psql('postgres', q{SET synchronous_commit = off; COMMIT PREPARED 'p'});
comes_by_itself('per_name', 'an asynchronous COMMIT PREPARED');

$node->safe_psql('postgres', 'DO $$ BEGIN UPDATE sale SET amount = amount + 1 WHERE id = 4; COMMIT; UPDATE sale SET amount = amount + 1 WHERE id = 5; COMMIT; END $$');
comes_by_itself('per_name', 'commits inside a statement');

$node->safe_psql('second', 'UPDATE sale SET amount = amount + 1 WHERE id = 1');
comes_by_itself('per_name', 'a commit in the other database', 'second');

# ---- a commit that is decoded, but visible later ----

# It waits for a standby that is not there.  Meanwhile no view may show it, and
# one that waits itself would never come.
$node->safe_psql('postgres', q{ALTER SYSTEM SET synchronous_standby_names = 'nobody'});
reload($node);
my $waiting = connection($node);
$waiting->query_until(qr/begun/, <<'EOS');
\echo begun
UPDATE sale SET amount = amount + 1000 WHERE id <= 10;
EOS
wait_until($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'}, 'a commit waits for a standby');
$node->safe_psql('postgres', 'SET synchronous_commit = local; UPDATE sale SET amount = amount + 1 WHERE id = 11');
comes_by_itself('per_name', 'while a commit that was decoded before it waits for a standby');
comes_by_itself('largest', 'and no view is ahead of what a reader sees');
is_value($node, 'SELECT max(amount) < 1000 FROM sale', 't', 'the commit is still waiting');
is_value($node, 'SELECT amount < 1000 FROM largest', 't', 'and in no view');
$node->safe_psql('postgres', q{SET synchronous_commit = local; ALTER SYSTEM RESET synchronous_standby_names});
reload($node);
wait_until($node, 'SELECT max(amount) > 1000 FROM sale', 'the commit is visible');
comes_by_itself('largest', 'when it is visible it comes');
$waiting->query('SELECT 1');
$waiting->quit;

# ---- woken by statements ----

$node->safe_psql('postgres', 'TRUNCATE region');
comes_by_itself('per_name', 'TRUNCATE');
$node->safe_psql('postgres', q{INSERT INTO region SELECT i, 'region ' || i FROM generate_series(1, 20) i});
comes_by_itself('listed', 'and what comes after it');
$node->safe_psql('postgres', <<'EOS');
CREATE MATERIALIZED VIEW made USING incremental AS SELECT note, count(*) AS n FROM sale GROUP BY note;
EOS
$node->safe_psql('postgres', 'UPDATE sale SET note = id WHERE id < 20');
comes_by_itself('made', 'a new view');
$node->safe_psql('postgres', <<'EOS');
BEGIN;
UPDATE sale SET note = 'before' WHERE id < 10;
CREATE MATERIALIZED VIEW in_block USING incremental AS SELECT note, count(*) AS n FROM sale GROUP BY note;
UPDATE sale SET note = 'after' WHERE id < 5;
COMMIT;
EOS
comes_by_itself('in_block', 'a view made in a block, after writes and before others');
$node->safe_psql('postgres', 'BEGIN; REFRESH MATERIALIZED VIEW made; UPDATE sale SET note = $$once more$$ WHERE id < 30; COMMIT');
comes_by_itself('made', 'REFRESH in a block');

# a lock is given back: nobody tells that
my $locker = connection($node);
$locker->query_safe('BEGIN; LOCK TABLE region');
$node->safe_psql('postgres', 'UPDATE sale SET amount = amount + 1 WHERE id < 50');
wait_until($node, q{SELECT state = 'waiting for lock' FROM pg_stat_ivm WHERE relname = 'per_name'}, 'per_name waits for a lock');
comes_by_itself('per_region', 'while another one cannot be locked');
$locker->query_safe('COMMIT');
$locker->quit;
comes_by_itself('per_name', 'when it can be locked again');

# ---- silence ----

# Nor is there a reason to move for a transaction that is open, for a view that
# has failed or one that was never filled.
$node->safe_psql('postgres', 'CREATE TABLE divisor (id int PRIMARY KEY, d int); INSERT INTO divisor VALUES (1, 1)');
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW failing AS SELECT id, 1 / d AS q FROM divisor');
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW unfilled AS SELECT id FROM divisor WITH NO DATA');
$node->safe_psql('postgres', 'INSERT INTO divisor VALUES (2, 0)');
wait_for_state($node, 'failing', 'error');
my $open = connection($node);
$open->query_safe('BEGIN; UPDATE sale SET amount = 0 WHERE id = 100');
sync($node, 'second');

sub switches
{
	my %result;
	foreach my $line (split /\n/, $node->safe_psql('postgres', q{SELECT pid || ' ' || worker_type FROM pg_stat_ivm_worker}))
	{
		my ($pid, $type) = split / /, $line, 2;
		my $status = slurp_file("/proc/$pid/status");
		$result{"$type $pid"} = $status =~ /^voluntary_ctxt_switches:\s+(\d+)/m ? $1 : die "no count of switches";
	}
	return \%result;
}

sub wal_position
{
	return $node->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()');
}

# Nobody moves for three seconds; they get some time to calm down.
my $end = time + 60;
my ($moved, $wal, $processes);
do
{
	my $before = switches();
	my $from = wal_position();
	my $until = time + 3;

	usleep(100_000) while time < $until;
	my $after = switches();
	# a builder stays for an hour after its work
	$processes = grep { !/^builder/ } keys %$after;
	$moved = join(', ', map { "$_: " . ($after->{$_} - ($before->{$_} // 0)) }
		  grep { !defined $before->{$_} || $after->{$_} != $before->{$_} } sort keys %$after);
	$wal = $from eq wal_position() ? '' : "from $from";
} while (($moved ne '' || $wal ne '') && time < $end);
is($processes, 7, 'a launcher, two decoders, four apply workers');
is($moved, '', 'none of them was awake in three seconds');
is($wal, '', 'nor was any WAL written');

$open->query_safe('COMMIT');
$open->quit;
comes_by_itself('per_name', 'the transaction that was open');
$node->safe_psql('postgres', 'DELETE FROM divisor WHERE d = 0');
$node->safe_psql('postgres', 'REFRESH MATERIALIZED VIEW failing; REFRESH MATERIALIZED VIEW unfilled');

# ---- the slot moves once in a while ----

# What concerns no view wakes nobody; ivm.naptime is the limit.
is_value($node, q{SELECT state FROM pg_stat_ivm WHERE relname = 'failing'}, 'active', 'REFRESH repaired the one that had failed');
$node->append_conf('postgresql.conf', 'ivm.naptime = 100ms');
reload($node);
$node->safe_psql('postgres', 'CREATE TABLE other (a int, b text)');
my $begun = wal_position();
$node->safe_psql('postgres', q{INSERT INTO other SELECT i, repeat('x', 500) FROM generate_series(1, 60000) i; CHECKPOINT});
wait_until($node, "SELECT bool_and(confirmed_flush_lsn > '$begun') FROM pg_replication_slots", 'the slots move');
pass('a shorter naptime is in force at once, and the slots of both databases move');

are_exact($node, 'exact at the end');
are_exact($node, 'and in the other database', 'second');
$node->stop;
done_testing();
