# What pg_stat_ivm says of a view does not depend on the processes that
# maintain it: its lag is at least the age of the oldest commit that is not in
# it, and its state says what is missing, whatever is stopped, dead, missing,
# busy, or kept from starting.
#
# kills: nothing
# alone: lags are compared with the clock

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);
use IvmTest;

my $node = new_node('lag', 'autovacuum = off', 'ivm.apply_workers = 1', 'ivm.naptime = 10s');

$node->safe_psql('postgres', <<'EOS');
CREATE EXTENSION ivm_ext;
CREATE TABLE base (a int);
CREATE TABLE other (a int);
CREATE INCREMENTAL VIEW v AS SELECT count(*) AS n FROM public.base;
EOS
my ($dboid) = $node->safe_psql('postgres', 'SELECT oid FROM pg_database WHERE datname = current_database()');
my $slot = "ivm_$dboid";

# Commits a change; a time that is no earlier than that.
sub change
{
	my ($statement) = @_;
	$node->safe_psql('postgres', $statement // 'INSERT INTO base VALUES (1)');
	return $node->safe_psql('postgres', 'SELECT clock_timestamp()');
}

# A test: the view lags behind that commit, and not much more; its state and the text about it.
sub is_behind
{
	my ($commit, $state, $detail, $name) = @_;

	usleep(1_200_000);
	wait_until($node, "SELECT state = '$state' AND coalesce(state_detail ~ '$detail', '$detail' = '') FROM pg_stat_ivm", "$name: $state, $detail")
	  if $state ne 'active';
	is_value($node, "SELECT state, coalesce(state_detail, '') ~ '$detail', lag_time >= now() - '$commit'::timestamptz,
		lag_time < now() - '$commit'::timestamptz + '1 s'::interval FROM pg_stat_ivm", "$state|t|t|t", $name)
	  or diag($node->safe_psql('postgres', "SELECT *, now() - '$commit' FROM pg_stat_ivm"));
	return;
}

# A test: everything is in the view, and it says so.
sub is_current
{
	my ($name) = @_;
	sync($node);
	is_value($node, 'SELECT (SELECT n FROM v) = (SELECT count(*) FROM base)', 't', "$name: exact");
	wait_until($node, q{SELECT state = 'active' AND lag_time = '0' AND state_detail IS NULL FROM pg_stat_ivm}, "$name: no lag");
	return;
}

sub stop_process { kill('STOP', $_[0]) or die; return; }
sub continue_process { kill('CONT', $_[0]) or die; return; }

is_current('at first');

# ---- nothing to do, and what concerns no view ----

my @samples;
usleep(2_500_000);
foreach (1 .. 10)
{
	change('INSERT INTO other VALUES (1)');
	push @samples, $node->safe_psql('postgres', q{SELECT lag_time < '1 s' FROM pg_stat_ivm});
}
usleep(2_500_000);
change('INSERT INTO other VALUES (1)');
foreach (1 .. 10)
{
	$node->safe_psql('postgres', q{BEGIN; INSERT INTO base VALUES (1); COMMIT; SELECT lag_time < '1 s' FROM pg_stat_ivm});
	push @samples, $node->safe_psql('postgres', q{SELECT lag_time < '1 s' FROM pg_stat_ivm});
}
is(scalar(grep { $_ ne 't' } @samples), 0, 'no lag that is longer than the commit is old');
is_current('after that');

# ---- the decoder is stopped ----

my ($decoder) = worker_pids($node, 'decoder');
stop_process($decoder);
my $commit = change();
is_behind($commit, 'active', "decoder .process $decoder. is stopped", 'a stopped decoder');
change();
is_behind($commit, 'active', "decoder .process $decoder. is stopped", 'and after another commit');
ok($node->safe_psql('postgres', 'SELECT lag_bytes FROM pg_stat_ivm') > 0, 'lag in bytes, too');
continue_process($decoder);
is_current('it goes on');

# commits of other kinds
foreach my $kind (
	['SET synchronous_commit = off; INSERT INTO base VALUES (1)', 'asynchronous'],
	['BEGIN; SAVEPOINT a; INSERT INTO base VALUES (1); RELEASE a; COMMIT', 'of a subtransaction'],
	[q{BEGIN; INSERT INTO base VALUES (1); PREPARE TRANSACTION 'p'}, ''],
	[q{COMMIT PREPARED 'p'}, 'prepared'])
{
	my ($statement, $name) = @$kind;
	stop_process($decoder);
	$commit = change($statement);
	is_behind($commit, 'active', "decoder .process $decoder. is stopped", "a commit, $name") if $name;
	is_value($node, q{SELECT lag_time = '0' FROM pg_stat_ivm}, 't', 'a transaction that is prepared is no commit') if !$name;
	continue_process($decoder);
	is_current("then, $name");
}

# ---- the apply worker is stopped, or busy ----

my ($worker) = worker_pids($node, 'apply worker');
stop_process($worker);
$commit = change();
is_behind($commit, 'active', "apply worker .process $worker. is stopped", 'a stopped apply worker');
change('INSERT INTO other VALUES (1)') foreach (1 .. 3);
is_behind($commit, 'active', "apply worker .process $worker. is stopped", 'and after commits that concern no view');
continue_process($worker);
is_current('it goes on');

set_points($node, 'apply-after=wait');
$commit = change();
wait_for_point($node, 'apply-after');
change();
is_behind($commit, 'active', "apply worker .process $worker. is in state", 'an apply worker in the midst of a batch');
set_points($node, '');
is_current('it goes on');

# ---- no decoder ----

set_points($node, 'decoder-start=error');
terminate_process($node, (worker_pids($node, 'decoder'))[0]);
$commit = change();
is_behind($commit, 'no decoder', 'debug point.*started again at', 'a decoder that ends at its start');
my $launcher = (worker_pids($node, 'launcher'))[0];
stop_process($launcher);
is_behind($commit, 'no decoder', '', 'and a launcher that is stopped');
continue_process($launcher);

# over a restart: nobody knows any more but what is stored
$node->restart;
wait_until($node, q{SELECT state = 'no decoder' FROM pg_stat_ivm}, 'no decoder after the restart');
is_value($node, "SELECT lag_time >= now() - '$commit'::timestamptz FROM pg_stat_ivm", 't', 'the same over a restart');
set_points($node, '');
forget_points($node);
is_current('with a decoder again');

# ---- a slot that cannot be had ----

sub lose_slot
{
	set_points($node, 'decoder-start=wait');
	terminate_process($node, (worker_pids($node, 'decoder'))[0]);
	wait_for_point($node, 'decoder-start');
	$node->safe_psql('postgres', "SELECT pg_drop_replication_slot('$slot')");
	return;
}

lose_slot();
my $old = connection($node);
$old->query_safe('BEGIN; INSERT INTO other VALUES (2)');
my $old_pid = $old->query_safe('SELECT pg_backend_pid()');
$commit = change();
set_points($node, '');
is_behind($commit, 'waiting for old transactions', "processes $old_pid", 'a lost slot');
$old->query_safe('COMMIT');
is_current('a new one');
leave($old);

lose_slot();
$node->safe_psql('postgres', "SELECT pg_create_physical_replication_slot('$slot')");
$commit = change();
set_points($node, '');
is_behind($commit, 'no decoder', "replication slot \"$slot\" was not made by this extension", q{somebody else's slot});
$node->safe_psql('postgres', "SELECT pg_drop_replication_slot('$slot')");
is_current('without it');

# ---- given up ----

$node->safe_psql('postgres', q{CREATE TABLE divided (a int, b int);
	INSERT INTO divided VALUES (1, 1);
	DROP MATERIALIZED VIEW v; CREATE INCREMENTAL VIEW v AS SELECT sum(a / b) AS n FROM public.divided});
sync($node);
$commit = change('INSERT INTO divided VALUES (1, 0)');
wait_until($node, q{SELECT state = 'error' FROM pg_stat_ivm}, 'an error');
change('INSERT INTO divided VALUES (2, 2)');
is_behind($commit, 'error', 'last_error', 'a view in state error');
$node->safe_psql('postgres', q{DELETE FROM divided; DROP MATERIALIZED VIEW v;
	CREATE INCREMENTAL VIEW v AS SELECT count(*) AS n FROM public.base});
is_current('another view');

# ---- too few worker slots, too little memory ----

my $offset = -s $node->logfile;
$commit = change();
sync($node);
$node->append_conf('postgresql.conf', "max_worker_processes = 3\nmax_parallel_workers = 0\n");
$node->restart;
$commit = change();
wait_until($node, q{SELECT state = 'no process' AND state_detail ~ 'max_worker_processes is too low' FROM pg_stat_ivm}, 'it says which setting is short');
is_value($node, "SELECT lag_time >= now() - '$commit'::timestamptz FROM pg_stat_ivm", 't', 'too few worker slots');
$node->append_conf('postgresql.conf', "max_worker_processes = 12\nivm.memory_budget = 4MB\n");
$node->restart;
wait_until($node, q{SELECT state = 'no process' AND state_detail ~ 'ivm.memory_budget is too low by \d+ kB' FROM pg_stat_ivm}, 'it says how much memory is lacking');
is_value($node, "SELECT lag_time >= now() - '$commit'::timestamptz FROM pg_stat_ivm", 't', 'too little memory');
$node->append_conf('postgresql.conf', 'ivm.memory_budget = 64MB');
reload($node);
is_current('with enough of both');

# ---- looked into, but a lock is in the way ----

$node->safe_psql('postgres', q{BEGIN; ALTER MATERIALIZED VIEW ivm.view SET TABLESPACE pg_default; PREPARE TRANSACTION 'p'});
$node->restart;
# who asks reads that table himself
my ($ret, $stdout, $stderr) = $node->psql('postgres',
	q{SELECT state, state_detail FROM ivm.view_status('v'::regclass, 'a', NULL, now() - '1 h'::interval)});
wait_until($node, q{SELECT state = 'no process' AND state_detail ~ 'lock timeout' AND lag_time >= '1 h'
	FROM ivm.view_status('v'::regclass, 'a', NULL, now() - '1 h'::interval)}, 'the launcher could not look into the database');
pass('a database that cannot be looked into');
$node->safe_psql('postgres', q{ROLLBACK PREPARED 'p'});
is_current('without the lock');

$node->stop;
done_testing();
