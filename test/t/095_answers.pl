# A request is answered by an attempt that began after it: what an earlier one
# has found is about the tables as they were, and neither an answer to whoever
# asks later nor a reason to change the state of what he has made of the view.
#
# In each case an attempt has failed, and is held before it says so; meanwhile
# the cause is removed and the view is refreshed.
#
# kills: nothing

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $node = new_node('answers', 'ivm.refresh = rebuild', 'ivm.apply_workers = 1', 'ivm.naptime = 100ms');

sub query { return $node->safe_psql('postgres', $_[0]); }

# Begins a statement in a session of its own; returns it when it waits for our processes.
sub begin
{
	my ($statement) = @_;
	my $session = connection($node);
	my $pid = $session->query_safe('SELECT pg_backend_pid()');

	$session->query_until(qr/begun/, "\\echo begun\n$statement;\n");
	wait_until($node,
		"SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = $pid", "$statement waits");
	return $session;
}

# What it has said to standard error by its end.
sub end
{
	my ($session) = @_;
	$session->query('SELECT 1');
	my $error = $session->{stderr};
	$session->quit;
	return $error;
}

sub stored_state
{
	my ($view) = @_;
	return query("SELECT state FROM ivm.view WHERE relid = '$view'::regclass");
}

query(<<'EOS');
CREATE EXTENSION ivm_ext;
CREATE TABLE t (id int PRIMARY KEY, x int NOT NULL);
INSERT INTO t VALUES (1, 5);
CREATE TABLE other (id int PRIMARY KEY);
EOS
query('CREATE INCREMENTAL VIEW quotient AS SELECT id, 100 / x AS y FROM t');
query('CREATE INCREMENTAL VIEW other_view AS SELECT id FROM other');

# ---- builds ----

foreach my $point ('build-failed', 'build-stopped')
{
	set_points($node, "$point=wait");
	query('INSERT INTO t VALUES (2, 0)');
	wait_for_point($node, $point);
	query('DELETE FROM t WHERE id = 2');
	my $refreshing = begin('REFRESH MATERIALIZED VIEW quotient');
	set_points($node, '');
	is(end($refreshing), '', "REFRESH succeeds after the repair, $point");
	is_exact($node, 'quotient', "and the view is exact, $point");
}

# two who fill a view, one before and one after the repair
query('REFRESH MATERIALIZED VIEW quotient WITH NO DATA; INSERT INTO t VALUES (2, 0)');
set_points($node, 'build-failed=wait');
my $first = begin('REFRESH MATERIALIZED VIEW quotient');
wait_for_point($node, 'build-failed');
query('DELETE FROM t WHERE id = 2');
my $second = begin('REFRESH MATERIALIZED VIEW quotient');
set_points($node, '');
like(end($first), qr/division by zero/, 'who asked before the repair is told why the view could not be filled');
is(end($second), '', 'who asked after it gets it filled');
is_exact($node, 'quotient', 'and it is exact');

# ---- batches ----

my $log = -s $node->logfile;

# The worker is in the middle of blaming the view, which the builder rebuilds meanwhile.
sub refresh_behind
{
	my ($point, $repair) = @_;

	wait_for_point($node, $point);
	query($repair);
	my $refreshing = begin('REFRESH MATERIALIZED VIEW quotient');
	wait_until($node, "SELECT count(*) = 1 FROM pg_stat_progress_ivm_build WHERE phase = 'handing over'", 'the view is built');
	set_points($node, '');
	return end($refreshing);
}

set_points($node, 'apply-failing=wait');
query('INSERT INTO t VALUES (2, 0)');
is(refresh_behind('apply-failing', 'DELETE FROM t WHERE id = 2'), '', 'REFRESH succeeds beside a failing batch');
is_exact($node, 'quotient', 'the view is exact');
is(rebuilds($node, $log), 0, 'and not rebuilt for what an earlier batch has found');

set_points($node, 'apply-failing=wait');
query('INSERT INTO t VALUES (2, 0)');
wait_for_point($node, 'apply-failing');
query('REFRESH MATERIALIZED VIEW quotient WITH NO DATA');
set_points($node, '');
query("INSERT INTO other VALUES (1); SELECT ivm.sync('other_view', '1 min')");
is(stored_state('quotient'), 'u', 'a view that was emptied beside a failing batch stays so');
query('DELETE FROM t WHERE id = 2; REFRESH MATERIALIZED VIEW quotient');

# ---- compiling ----

query('CREATE ROLE owner; GRANT SELECT ON t TO owner; GRANT CREATE ON SCHEMA public TO owner; ALTER MATERIALIZED VIEW quotient OWNER TO owner');
is_exact($node, 'quotient', 'a new owner');
set_points($node, 'apply-refused=wait');
query('REVOKE SELECT ON t FROM owner');
is(refresh_behind('apply-refused', 'GRANT SELECT ON t TO owner'), '', 'REFRESH succeeds beside a worker that may not read the table yet');
query("INSERT INTO other VALUES (2); SELECT ivm.sync('other_view', '1 min')");
is(stored_state('quotient'), 'a', 'and the view is not stopped for what it was before');
is_exact($node, 'quotient', 'it is exact');

# ---- the decoder's start ----

query('CREATE DATABASE starting');
$node->safe_psql('starting', 'CREATE EXTENSION ivm_ext; CREATE TABLE t (id int PRIMARY KEY)');
set_points($node, 'decoder-start=error, decoder-failed=wait');
my @creating = map { connection($node, 'starting') } 1, 2;
$creating[0]->query_until(qr/begun/, "\\echo begun\nCREATE INCREMENTAL VIEW v1 AS SELECT id FROM t;\n");
wait_for_point($node, 'decoder-failed');
set_points($node, 'decoder-failed=wait');
my $pid = $creating[1]->query_safe('SELECT pg_backend_pid()');
$creating[1]->query_until(qr/begun/, "\\echo begun\nCREATE INCREMENTAL VIEW v2 AS SELECT id FROM t;\n");
wait_until($node, "SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = $pid", 'the second CREATE waits');
set_points($node, '');
like(end($creating[0]), qr/reached debug point "decoder-start"/, 'who asked before the decoder failed to start is told so');
unlike(end($creating[1]), qr/ERROR/, 'who asked after it waits for the next one');
is_exact($node, 'v2', 'and has a view', 'starting');

# ---- worker slots ----

# A database has no processes, for want of worker slots, and the launcher tries again at growing intervals.
# When there are slots again a statement does not get the answer of the last try.
$node->adjust_conf('postgresql.conf', 'max_worker_processes', 5);
$node->adjust_conf('postgresql.conf', 'ivm.apply_workers', 1);
$node->adjust_conf('postgresql.conf', 'max_parallel_workers', 0);
my $offset = -s $node->logfile;
$node->restart;
$node->wait_for_log(qr/no free background worker slot/, $offset);
wait_until($node, q{SELECT count(DISTINCT datname) = 1 FROM pg_stat_ivm_worker WHERE worker_type = 'decoder'}, 'one database has processes');
my ($whole) = split /\n/, query(q{SELECT DISTINCT datname FROM pg_stat_ivm_worker WHERE worker_type = 'decoder'});
my $short = $whole eq 'postgres' ? 'starting' : 'postgres';
my ($ret, $stdout, $stderr) = $node->psql($short, 'CREATE TABLE late (id int); CREATE INCREMENTAL VIEW late_view AS SELECT id FROM late');
like($stderr, qr/no free background worker slot/, 'a statement for which there is no worker slot is told so');
$node->safe_psql($whole, 'DROP EXTENSION ivm_ext CASCADE');
wait_until($node, "SELECT count(*) = 0 FROM pg_stat_ivm_worker WHERE datname = '$whole'", "no processes in $whole", $short);
$node->safe_psql($short, 'CREATE INCREMENTAL VIEW late_view AS SELECT id FROM late');
is_exact($node, 'late_view', 'and one that comes when there is waits for the next try', $short);

$node->stop;
done_testing();
