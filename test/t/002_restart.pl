# Each process ends in each way that does not take the others with it: an error
# or a FATAL at each step, SIGTERM; the server stops in each mode.  Afterwards
# the views are right, and the processes are there again.
#
# kills: nothing; but an immediate stop ends processes by signal

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $node = new_node('restart');
make_sales($node);
are_exact($node, 'exact at the beginning');
my $log = -s $node->logfile;

# A process that ends again and again is started after longer and longer
# pauses; a new server begins without.

# ---- errors inside ----

my @decoder_points = qw(decoder-after-decode decoder-before-confirm);
my @apply_points = qw(apply-locked apply-snapshot apply-before apply-after apply-committed);

foreach my $end ((map { "$_=error" } @decoder_points), (map { "$_=fatal" } @decoder_points, @apply_points))
{
	my $offset = -s $node->logfile;
	my ($point) = split /=/, $end;

	set_points($node, $end);
	change_sales($node);
	$node->wait_for_log(qr/reached debug point "$point"/, $offset);
	change_sales($node);
	set_points($node, '');
	are_exact($node, "exact after $end");
	$node->restart;
}
change_sales($node);
are_exact($node, 'and goes on');
is(rebuilds($node, $log), 0, 'no view had to be rebuilt');

# ---- SIGTERM ----

foreach my $type ('decoder', 'apply worker', 'launcher')
{
	my @old = worker_pids($node, $type);
	change_sales($node);
	terminate_process($node, $_) foreach @old;
	change_sales($node);
	wait_for_restart($node, $type, @old);
	are_exact($node, "exact after the end of: $type");
}
$node->restart;
are_exact($node, 'exact after a restart');

# an apply worker that holds a batch open, and the decoder meanwhile
set_points($node, 'apply-after=wait');
change_sales($node);
wait_for_point($node, 'apply-after');
my ($decoder) = worker_pids($node, 'decoder');
terminate_process($node, $decoder);
change_sales($node);
wait_for_restart($node, 'decoder', $decoder);
set_points($node, '');
are_exact($node, 'exact after the decoder ended under a batch');

set_points($node, 'decoder-after-decode=wait');
change_sales($node);
wait_for_point($node, 'decoder-after-decode');
terminate_process($node, $_) foreach worker_pids($node, 'apply worker');
set_points($node, '');
are_exact($node, 'exact after the apply workers ended while the decoder was held');

# ---- a cancel is no reason to give up ----

set_points($node, 'apply-before=wait');
change_sales($node);
my $pid = wait_for_point($node, 'apply-before');
$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
set_points($node, '');
are_exact($node, 'exact after a batch was cancelled');

# ---- the builder ----

foreach my $point ('build-locked', 'build-filled', 'build-committed')
{
	foreach my $action ('fatal', 'terminate')
	{
		set_points($node, $point . ($action eq 'fatal' ? '=fatal' : '=wait'));
		my $offset = -s $node->logfile;
		my $session = connection($node);
		$session->query_until(qr/begun/, <<"EOS");
\\echo begun
CREATE MATERIALIZED VIEW made USING incremental AS SELECT note, sum(amount) AS total FROM sale GROUP BY note;
EOS
		if ($action eq 'fatal')
		{
			$node->wait_for_log(qr/reached debug point "$point"/, $offset);
			change_sales($node);
			change_sales($node);
		}
		else
		{
			my $builder = wait_for_point($node, $point);
			change_sales($node);

			# the workers pass it by: the log must keep it for the new view
			$node->safe_psql('postgres', q{SELECT ivm.sync('per_region')}) if $point ne 'build-locked';
			terminate_process($node, $builder);
			change_sales($node);
		}
		set_points($node, '');
		$session->query('SELECT 1');
		$session->quit;
		change_sales($node);
		are_exact($node, "exact after the builder's end at $point ($action)");
		is_value($node, "SELECT count(*) FROM pg_class WHERE relname = 'made' AND relispopulated", 1,
			"the view was made nevertheless, $point ($action)");
		$node->safe_psql('postgres', 'DROP MATERIALIZED VIEW made');
	}
	$node->restart;
}

# ---- the server ----

foreach my $mode ('fast', 'immediate', 'smart')
{
	change_sales($node);
	$node->stop($mode);
	$node->start;
	change_sales($node);
	are_exact($node, "exact after a $mode stop");
}

set_points($node, 'apply-after=wait');
change_sales($node);
wait_for_point($node, 'apply-after');
forget_points($node);
$node->stop('fast');
$node->start;
are_exact($node, 'exact after a fast stop in a batch');

$node->stop('immediate');
$node->start;
$node->stop('immediate');
$node->start;
are_exact($node, 'exact after two immediate stops with nothing in between');

# ---- settings that take effect by a reload ----

$node->append_conf('postgresql.conf', "ivm.batch_interval = 20ms\nivm.naptime = 2s");
reload($node);
change_sales($node);
are_exact($node, 'exact after a reload');

# A worker that goes from one batch to the next hears of it between the two.
$node->append_conf('postgresql.conf', 'ivm.batch_patience = 0');
reload($node);
$node->safe_psql('postgres', <<'EOS');
CREATE FUNCTION held(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
  'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN i; END';
CREATE TABLE held (i int);
EOS
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW holding AS SELECT held(i) FROM held');
my $holder = connection($node);
$holder->query_safe('SELECT pg_advisory_lock(1)');
$node->safe_psql('postgres', 'INSERT INTO held VALUES (1)');
wait_until($node, q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 'a batch that waits');
set_points($node, 'apply-after=wait');
$node->safe_psql('postgres', 'INSERT INTO held VALUES (2)');
$holder->quit;
wait_for_point($node, 'apply-after');
is_value($node, 'SELECT count(*) FROM holding', 1, 'the next batch goes by the settings that were reloaded meanwhile');
set_points($node, '');
$node->safe_psql('postgres', 'DROP MATERIALIZED VIEW holding');

is(rebuilds($node, $log), 0, 'no view had to be rebuilt until here');

# ---- a batch that fails time and again ----

# A rebuild helps until the next change; after a few of them the view is given up.
set_points($node, 'apply-before=error');
foreach my $n (1 .. 3)
{
	change_sales($node);
	are_exact($node, "each view is rebuilt after failure $n");
	is_value($node, 'SELECT min(error_count) || $$ $$ || min(rebuilds) FROM pg_stat_ivm', "$n $n", 'and says so');
}
change_sales($node);
wait_until($node, q{SELECT bool_and(state = 'error') FROM pg_stat_ivm}, 'each view is in error');
is_value($node, 'SELECT DISTINCT state FROM pg_stat_ivm', 'error', 'a view that fails time and again is given up');
my ($ret, $stdout, $stderr) = $node->psql('postgres', q{SELECT ivm.sync('per_name')});
like($stderr, qr/"per_name" is in state error.*reached debug point/s, 'ivm.sync says what is wrong');
is_value($node, q{SELECT last_error ~ 'reached debug point' AND rebuilds > 0 FROM pg_stat_ivm WHERE relname = 'per_name'},
	't', 'so does pg_stat_ivm');
set_points($node, '');
$node->safe_psql('postgres', "REFRESH MATERIALIZED VIEW $_") foreach sales_views();
change_sales($node);
are_exact($node, 'REFRESH repairs what was in error');

# the view is rebuilt before the worker that gave it up looks again
$node->restart;
$node->safe_psql('postgres', 'SELECT ivm.stat_reset()');
set_points($node, 'apply-before=error, apply-failed=wait');
change_sales($node);
wait_until($node, q{SELECT count(*) = 2 FROM pg_stat_ivm_worker WHERE state = 'apply-failed'},
	'both apply workers have given up a view');
wait_until($node, q{SELECT count(*) > 0 FROM pg_stat_ivm JOIN ivm.view v USING (relid) WHERE rebuilds > 0 AND v.state = 'a'},
	'one of them is rebuilt');
set_points($node, '');
change_sales($node);
are_exact($node, 'a view that was given up is taken over again');
$node->stop;
done_testing();
