# ivm.sync waits for what it names, and for what can be waited for: not for other views' processes, not for
# a view that is broken, not for a commit that nobody can see yet.  And it tells nobody what went wrong in a view
# that is not his.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use IvmTest;

my $node = new_node('sync', 'ivm.apply_workers = 2');
my $views = 16;
my ($ret, $stdout, $stderr);

$node->safe_psql('postgres', <<'EOS');
CREATE EXTENSION ivm_ext;
CREATE TABLE slow (id int);
CREATE FUNCTION slow(id int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(42); RETURN id; END $$;
INSERT INTO slow VALUES (0);
CREATE TABLE broken (id int, v int);
INSERT INTO broken VALUES (1, 1);
CREATE TABLE secret_people (name text);
EOS
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW slow_v AS SELECT public.slow(id) AS id FROM slow');
foreach my $i (1 .. $views)
{
	$node->safe_psql('postgres', "CREATE TABLE t$i (id int)");
	$node->safe_psql('postgres', "CREATE INCREMENTAL VIEW v$i AS SELECT count(*) AS n FROM t$i");
}
are_exact($node, 'exact at the beginning');

# ---- a process that is at work for long, and views that it does not have ----

my $holder = connection($node);
my $at_work = q{SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type LIKE 'ivm%' AND wait_event = 'advisory'};
$holder->query_safe('SELECT pg_advisory_lock(42)');
$node->safe_psql('postgres', 'INSERT INTO slow VALUES (30)');
wait_until($node, $at_work, 'the slow view is at work');
my ($synced, $created, $refreshed, $verified) = (0, 0, 0, 0);
foreach my $i (1 .. $views)
{
	$node->safe_psql('postgres', "INSERT INTO t$i VALUES (1)");
	($ret) = $node->psql('postgres', "SELECT ivm.sync('v$i', '1s')");
	next if $ret;
	$synced++;
	next if $synced > 4;
	is_value($node, "SELECT n FROM v$i", '1', 'a view is fresh after its sync');
	($ret) = $node->psql('postgres', "SET statement_timeout = '5s'; REFRESH MATERIALIZED VIEW v$i");
	$refreshed++ if $ret == 0;
	($ret) = $node->psql('postgres', "SET statement_timeout = '5s'; SELECT ivm.verify('v$i')");
	$verified++ if $ret == 0;
}
cmp_ok($synced, '>', 0, "views of other processes are synced at once ($synced)");
is($refreshed, $synced > 4 ? 4 : $synced, 'and refreshed');
is($verified, $synced > 4 ? 4 : $synced, 'and verified');
foreach my $i (1 .. 12)
{
	($ret) = $node->psql('postgres', "SET statement_timeout = '2s'; CREATE INCREMENTAL VIEW more$i AS SELECT sum(id) AS n FROM t$i");
	$created++ if $ret == 0;
	last if $created > 3;
}
cmp_ok($created, '>', 0, 'and views are created that the process does not get');
is_value($node, $at_work, 't', 'all that while the slow one was at work');
$holder->quit;
are_exact($node, 'exact after that');

# ---- a view that is broken ----

$node->safe_psql('postgres', 'CREATE ROLE stranger; CREATE ROLE reader; CREATE ROLE auditor; GRANT pg_monitor TO auditor');
$node->safe_psql('postgres', q{CREATE MATERIALIZED VIEW theirs USING incremental AS SELECT name, name::int AS number FROM secret_people WHERE name <> ''});
$node->safe_psql('postgres', 'GRANT SELECT ON theirs, v1 TO reader; GRANT SELECT ON v1 TO stranger');
$node->safe_psql('postgres', q{INSERT INTO secret_people VALUES ('Mary Jane')});
wait_for_state($node, 'theirs', 'error');
$node->safe_psql('postgres', 'INSERT INTO t1 SELECT generate_series(1, 50000)');
foreach my $case ([ 'postgres', 1 ], [ 'auditor', 1 ], [ 'reader', 1 ], [ 'stranger', 0 ])
{
	my ($role, $named) = @$case;
	my $before = $node->safe_psql('postgres', 'INSERT INTO t1 VALUES (1); SELECT count(*) FROM t1');

	($ret, $stdout, $stderr) = $node->psql('postgres', "SET ROLE $role; SELECT ivm.sync()");
	is($ret, 0, "ivm.sync() of $role succeeds");
	is_value($node, 'SELECT n FROM v1', $before, 'and has waited for the other views');
	unlike($stderr, qr/Mary/, 'it does not tell the error');
	if ($named)
	{
		like($stderr, qr/WARNING:  1 incremental view is in state error.*DETAIL:  public\.theirs/s, 'but which view it is');
	}
	else
	{
		is($stderr, '', 'nor that there is such a view');
	}
}
foreach my $case ([ 'postgres', 1 ], [ 'auditor', 1 ], [ 'reader', 0 ])
{
	my ($role, $told) = @$case;

	$node->safe_psql('postgres', 'GRANT SELECT ON theirs TO auditor');
	foreach my $call ('sync', 'verify')
	{
		($ret, $stdout, $stderr) = $node->psql('postgres', "SET ROLE $role; SELECT ivm.$call('theirs')");
		like($stderr, qr/ERROR:  incremental view "theirs" is in state error/, "ivm.$call says to $role that it is broken");
		$told ? like($stderr, qr/Mary/, 'and why') : unlike($stderr, qr/Mary/, 'and not what is in it');
	}
}
foreach my $call ('sync', 'verify')
{
	($ret, $stdout, $stderr) = $node->psql('postgres', "SET ROLE stranger; SELECT ivm.$call('theirs')");
	like($stderr, qr/permission denied for materialized view theirs/, "ivm.$call is not for strangers");
}
$node->safe_psql('postgres', 'DROP MATERIALIZED VIEW theirs');

# ---- a commit that waits for a standby ----

$node->safe_psql('postgres', q{ALTER SYSTEM SET synchronous_standby_names = 'missing'; ALTER SYSTEM SET synchronous_commit = local});
reload($node);
wait_until($node, q{SELECT current_setting('synchronous_standby_names') = 'missing'}, 'there is no standby');
$node->safe_psql('postgres', 'TRUNCATE t2');
$node->safe_psql('postgres', 'SELECT ivm.sync()');
my $waiting = connection($node);
my $pid = $waiting->query_safe('SELECT pg_backend_pid()');
$waiting->query_safe('SET synchronous_commit = on');
$waiting->{stdin} .= "INSERT INTO t2 VALUES (1);\n\\echo the end\n";
$waiting->{run}->pump_nb;
wait_until($node, "SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = $pid", 'a commit waits for the standby');
my $late = 0;
foreach my $i (1 .. 10)
{
	$node->safe_psql('postgres', 'INSERT INTO t2 VALUES (2)');
	($ret) = $node->psql('postgres', "SELECT ivm.sync('v2', '10s')");
	$late++ if $ret || $node->safe_psql('postgres', 'SELECT n FROM v2') != $i;
}
is($late, 0, 'a commit that nobody can see holds up no sync');
$node->safe_psql('postgres', q{SELECT ivm.sync(timeout => '10s')});
$node->safe_psql('postgres', q{SET statement_timeout = '10s'; REFRESH MATERIALIZED VIEW v2});
is_value($node, q{SET statement_timeout = '10s'; SELECT * FROM ivm.verify('v2')}, '0|0', 'nor a REFRESH or a verification');
$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
wait_until_true(sub { $waiting->{run}->pump_nb; return $waiting->{stdout} =~ /the end/ }, 'it is visible');
$node->safe_psql('postgres', "SELECT ivm.sync('v2')");
is_value($node, 'SELECT n FROM v2', '11', 'when it is visible a sync waits for it');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET ALL');
reload($node);
leave($waiting);
are_exact($node, 'exact at the end');
$node->stop;
done_testing();
