# Bursts, skew, a load of small transactions, and rest, over and over: what the processes have of
# the kernel's memory does not grow.
#
# It is looked at where each round ends, when the processes have had time to give back
# what they do not need.  Over the second half of the rounds a straight line is fitted
# to it, for each process: it must not rise, by more than twice the slope's own
# standard error and half a megabyte in all.
#
#	SOAK_MINUTES	default 2

use strict;
use warnings;

use IPC::Run;
use List::Util qw(sum);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;
use MemoryTest;
use Time::HiRes qw(time usleep);

my $minutes = $ENV{SOAK_MINUTES} || 2;
my $tolerance = 512 * 1024;

my $node = new_node('soak', 'ivm.apply_workers = 2', 'ivm.memory_budget = 64MB', 'max_wal_size = 4GB', 'autovacuum_naptime = 1s');
make_join($node);
make_ten($node);
make_skew($node);
make_sales($node);
sync($node);

my $dir = $node->basedir;
append_to_file("$dir/small.sql", <<'EOS');
\set id random(1, 2000)
UPDATE sale SET amount = amount + 1 WHERE id = :id;
EOS

sub round
{
	# a burst, which goes again in another one
	$node->safe_psql('postgres', 'CALL add_facts(60000)');
	$node->safe_psql('postgres', 'DELETE FROM fact');
	# skew
	$node->safe_psql('postgres', 'CALL add_skew(500)');
	$node->safe_psql('postgres', 'CALL add_product(150)');
	$node->safe_psql('postgres', 'DELETE FROM skew_l; DELETE FROM product_r; DELETE FROM skew_r; DELETE FROM product_l');
	# many small ones
	$node->command_ok([ 'pgbench', '-n', '-c', 2, '-T', 2, '-f', "$dir/small.sql", '-h', $node->host, '-p', $node->port, 'postgres' ],
		'a load of small transactions');
	change_sales($node);
	sync($node);
	return;
}

# Over points [x, y]: slope and its standard error.
sub fit
{
	my (@points) = @_;
	my $n = @points;
	my ($mx, $my) = (sum(map { $_->[0] } @points) / $n, sum(map { $_->[1] } @points) / $n);
	my $xx = sum(map { ($_->[0] - $mx)**2 } @points);
	my $slope = sum(map { ($_->[0] - $mx) * ($_->[1] - $my) } @points) / $xx;
	my $rest = sum(map { ($_->[1] - $my - $slope * ($_->[0] - $mx))**2 } @points);
	return ($slope, sqrt($rest / ($n - 2) / $xx));
}

my $start = time;
my $end = $start + 60 * $minutes;
my $rounds = 0;
my %looks;		# pid => [ time, bytes ] ...

while (time < $end || $rounds < 8)
{
	my %before = workers_memory($node);

	round();
	$rounds++;
	# the first round began with nothing in the caches
	$rounds == 1 ? usleep(5_000_000) : is_back($node, "memory is back after round $rounds", %before);
	usleep(1_000_000);
	my %now = workers_memory($node);
	push @{ $looks{$_} }, [ time - $start, $now{$_} ] foreach keys %now;
}
is(scalar(keys %looks), 3, 'the processes are still the same');
foreach my $pid (sort keys %looks)
{
	my @half = splice(@{ $looks{$pid} }, int(@{ $looks{$pid} } / 2));
	my ($slope, $error) = fit(@half);
	my $growth = ($slope - 2 * $error) * ($half[-1][0] - $half[0][0]);

	cmp_ok($growth, '<=', $tolerance, "process $pid does not grow");
	diag(sprintf 'process %d: %.1f MB, %+.0f kB a minute, standard error %.0f, over %d rounds', $pid, $half[-1][1] / 1048576,
		$slope * 60 / 1024, $error * 60 / 1024, scalar @half);
}
are_exact($node, "exact after $rounds rounds");
is_alive($node, 'nobody was killed');

$node->stop;
done_testing();
