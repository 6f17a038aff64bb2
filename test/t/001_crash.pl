# kill -9 at each step of a change's way from WAL to view: of the process that
# is at that step, and of the postmaster.  Whatever was on its way then must be
# in the views afterwards, once: by the deltas that are decoded again, not by a
# rebuild that would hide a loss.
#
# kills: decoder, apply workers, builder, launcher, postmaster

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my @points = qw(
  decoder-after-decode decoder-before-confirm
  apply-locked apply-snapshot apply-before apply-after apply-committed
);

my $node = new_node('crash', 'autovacuum_naptime = 1s');
make_sales($node);
are_exact($node, 'exact before anything is killed');

my $log = -s $node->logfile;

foreach my $point (@points)
{
	foreach my $victim ('the process', 'the postmaster')
	{
		set_points($node, "$point=wait");
		change_sales($node);
		my $pid = wait_for_point($node, $point);

		# these come while the other is on its way
		change_sales($node);
		change_sales($node);

		forget_points($node);
		if ($victim eq 'the process')
		{
			kill_process($node, $pid);

			# the points are still armed: everybody comes there again
			$pid = wait_for_point($node, $point);
			change_sales($node);
			reload($node);
		}
		else
		{
			kill_server($node);
			$node->start;
		}
		are_exact($node, "exact after $victim was killed at $point");
		change_sales($node);
		are_exact($node, "and goes on from there, $point");
	}
}

is(rebuilds($node, $log), 0, 'no view had to be rebuilt');
is_value($node, 'SELECT count(*) FROM per_region WHERE n > 0', 25, 'and there is something to compare');

# Killed twice before anything of it was applied, and again in between.
set_points($node, 'apply-after=wait');
change_sales($node);
wait_for_point($node, 'apply-after');
foreach (1 .. 3)
{
	kill_server($node);
	$node->start;
	wait_for_point($node, 'apply-after');
}
set_points($node, '');
are_exact($node, 'exact after three crashes in a row');

# The builder, at each of its steps.  Who waited for it is gone, the view is made.
foreach my $point ('build-locked', 'build-filled', 'build-committed')
{
	foreach my $victim ('the builder', 'the postmaster')
	{
		set_points($node, "$point=wait");
		my $session = connection($node);
		$session->query_until(qr/begun/, <<'EOS');
\echo begun
CREATE MATERIALIZED VIEW made USING incremental AS SELECT note, sum(amount) AS total FROM sale GROUP BY note;
EOS
		my $pid = wait_for_point($node, $point);
		change_sales($node);
		forget_points($node);
		if ($victim eq 'the builder')
		{
			kill_process($node, $pid);
			reload($node);
		}
		else
		{
			kill_server($node);
			$node->start;
		}
		leave($session);
		change_sales($node);
		are_exact($node, "exact after $victim was killed at $point");
		is_value($node, q{SELECT count(*) FROM pg_stat_ivm WHERE relname = 'made'}, 1, "and the view is there, $point");
		$node->safe_psql('postgres', 'DROP MATERIALIZED VIEW made');
	}
}

# The launcher.
kill_process($node, worker_pids($node, 'launcher'));
change_sales($node);
are_exact($node, 'exact after the launcher was killed');

# One worker of two is done when the other one dies.
set_points($node, 'apply-committed=wait');
change_sales($node);
wait_for_point($node, 'apply-committed');
wait_until($node, "SELECT count(*) = 2 FROM pg_stat_ivm_worker WHERE state = 'apply-committed'",
	'both apply workers have committed');
my @pids = worker_pids($node, 'apply worker');
forget_points($node);
kill_process($node, $pids[1]);
reload($node);
are_exact($node, 'exact after one apply worker was killed behind its commit');

is(rebuilds($node, $log), 0, 'still no view had to be rebuilt');
$node->stop;
done_testing();
