# A view that process after process has in hand when it dies: in a batch, a fill, a rebuild; and the decoding of a
# transaction.  Each death takes the whole server through recovery; the third one
# in a row is the last.
#
# kills: its own processes

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $node = new_node('deaths', 'ivm.apply_workers = 1');

sub recoveries
{
	my ($offset) = @_;
	my $log = slurp_file($node->logfile, $offset);
	my @found = $log =~ /all server processes terminated; reinitializing/g;
	return scalar @found;
}

# Waits until the view is in that state, through any number of restarts.
sub wait_for_stored_state
{
	my ($view, $state) = @_;
	wait_until($node, "SELECT state = '$state' FROM ivm.view WHERE relid = '$view'::regclass", "$view is in state $state");
	return;
}

# After each crash the launcher waits longer than after the one before; a restart ends that.
sub begin
{
	$node->restart;
	sync_each('beside', 'other_view');
	return -s $node->logfile;
}

sub sync_each
{
	$node->safe_psql('postgres', "SELECT ivm.sync('$_', '3 min')") foreach @_;
	return;
}

my $reason = 'the process that maintained it died three times in a row';

sub is_stopped
{
	my ($view, $offset, $deaths, $name) = @_;

	wait_for_stored_state($view, 'e');
	is(recoveries($offset), $deaths, "$name: so many recoveries");
	is($node->safe_psql('postgres', "SELECT reason FROM ivm.view WHERE relid = '$view'::regclass"), $reason, "$name: and the reason is told");
	return;
}

$node->safe_psql('postgres', <<'EOS');
CREATE EXTENSION ivm_ext;
CREATE FUNCTION kill_myself() RETURNS void LANGUAGE plpgsql AS $$
BEGIN COPY (SELECT 1) TO PROGRAM 'kill -9 $PPID'; END $$;
CREATE FUNCTION poison(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
	IF i = 999 THEN PERFORM public.kill_myself(); PERFORM pg_catalog.pg_sleep(10); END IF;
	RETURN i;
END $$;
CREATE TABLE t (id int);
CREATE TABLE other (id int);
EOS
$node->safe_psql('postgres', $_) foreach (
	'CREATE INCREMENTAL VIEW deadly AS SELECT poison(id) AS x FROM t',
	'CREATE INCREMENTAL VIEW beside AS SELECT id FROM t',
	'CREATE INCREMENTAL VIEW above AS SELECT x, count(*) AS n FROM deadly GROUP BY x',
	'CREATE INCREMENTAL VIEW other_view AS SELECT id, count(*) AS n FROM other GROUP BY id');

# ---- a batch ----

# The first death is in the hands of all that the batch serves, the second and third in those of one.
my $log = -s $node->logfile;
$node->psql('postgres', 'INSERT INTO t VALUES (1), (999); INSERT INTO other VALUES (1)');
is_stopped('deadly', $log, 3, 'a batch');
is_exact($node, $_, "$_ is exact beside it") foreach ('beside', 'other_view');
wait_for_stored_state('above', 'e');
is_value($node, "SELECT reason <> '$reason' FROM ivm.view WHERE relid = 'above'::regclass", 't', 'what reads it is stopped for that');
like(slurp_file($node->logfile, $log), qr/died while it had incremental view with OID \d+ of database \d+ in hand/, 'the log names it');

# ---- only REFRESH tries again ----

$log = begin();
$node->safe_psql('postgres', "INSERT INTO t VALUES (2); INSERT INTO other VALUES (2)");
is_exact($node, $_, "$_ goes on") foreach ('beside', 'other_view');
$node->psql('postgres', 'REFRESH MATERIALIZED VIEW deadly');
is_stopped('deadly', $log, 1, 'REFRESH tries once');

$log = begin();
is_exact($node, 'beside', 'others go on after a restart of the server');
is_value($node, q{SELECT state FROM ivm.view WHERE relid = 'deadly'::regclass}, 'e', 'it is still stopped');
$node->psql('postgres', 'REFRESH MATERIALIZED VIEW deadly');
is_stopped('deadly', $log, 1, 'REFRESH tries once after that, too');

$log = begin();
$node->safe_psql('postgres', 'DELETE FROM t WHERE id = 999; REFRESH MATERIALIZED VIEW deadly');
$node->safe_psql('postgres', 'REFRESH MATERIALIZED VIEW above');
$node->safe_psql('postgres', 'INSERT INTO t VALUES (3)');
are_exact($node, 'after the repair it is maintained again');
is(recoveries($log), 0, 'and nothing dies');

# ---- a rebuild ----

$log = -s $node->logfile;
$node->safe_psql('postgres', 'DROP MATERIALIZED VIEW above');
$node->psql('postgres', 'BEGIN; TRUNCATE t; INSERT INTO t VALUES (999); COMMIT');
is_stopped('deadly', $log, 3, 'a rebuild');
is_exact($node, $_, "$_ is exact beside it") foreach ('beside', 'other_view');

# ---- a creation: the session is gone with the first crash ----

$log = begin();
$node->psql('postgres', 'CREATE INCREMENTAL VIEW stillborn AS SELECT poison(id) + 1 AS x FROM t');
wait_until($node, q{SELECT NOT EXISTS (SELECT FROM pg_class WHERE relname = 'stillborn') OR
	(SELECT state = 'e' FROM ivm.view WHERE relid = 'stillborn'::regclass)}, 'it is over');
cmp_ok(recoveries($log), '<=', 3, 'a creation kills no more than three times');
is_exact($node, $_, "$_ is exact beside it") foreach ('beside', 'other_view');
$node->safe_psql('postgres', 'DROP MATERIALIZED VIEW stillborn; DROP MATERIALIZED VIEW deadly');

# ---- who is ended with the others is no suspect ----

$log = begin();
set_points($node, 'apply-before=wait');
$node->safe_psql('postgres', 'INSERT INTO other VALUES (3)');
wait_for_point($node, 'apply-before');
kill_process($node, (worker_pids($node, 'decoder'))[0]);
wait_for_point($node, 'apply-before');
unlike(slurp_file($node->logfile, $log), qr/in hand/, 'who is ended with the others is no suspect');
set_points($node, '');
are_exact($node, 'and everything goes on');

# ---- a kill now and then is no reason to stop a view ----

foreach my $i (1 .. 3)
{
	begin() if $i == 1;
	set_points($node, 'apply-before=wait');
	$node->safe_psql('postgres', "INSERT INTO other VALUES (10 + $i)");
	wait_for_point($node, 'apply-before');
	kill_process($node, (worker_pids($node, 'apply worker'))[0]);
	set_points($node, '');
	are_exact($node, "a batch that goes well after death $i");
}
is_value($node, q{SELECT count(*) FROM ivm.view WHERE state <> 'a'}, 0, 'deaths that are not in a row stop nothing');

# ---- the decoder ----

$log = begin();
set_points($node, 'decoder-after-decode=panic');
$node->psql('postgres', 'INSERT INTO other VALUES (20)');
$node->wait_for_log(qr/died while it decoded the WAL of database \d+ at [\dA-F]+\/[\dA-F]+\n.*Deaths in a row there: 2/, $log);
wait_until($node, q{SELECT state_detail ~ 'The decoder has died at [\dA-F]+/[\dA-F]+ \(deaths in a row: \d+\)'
	FROM pg_stat_ivm WHERE relid = 'other_view'::regclass}, 'the state tells');
set_points($node, '');
are_exact($node, 'a decoder that dies at one position says so, and is tried again');
is_value($node, q{SELECT count(*) FROM pg_stat_ivm WHERE state_detail ~ 'died'}, 0, 'when it is past that nothing is left of it');

$node->stop;
done_testing();
