# What the tests of the memory budget share: loads that are larger than the
# budget, and someone who looks at the memory meanwhile, from outside.

package MemoryTest;

use strict;
use warnings;

use Exporter 'import';
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(
  kernel_knows set set_budget guaranteed anonymous workers_memory start_sampling stop_sampling
  is_within_budget is_back make_join make_ten make_skew add is_alive oracle
);

my $deadline = $PostgreSQL::Test::Utils::timeout_default;

# The private memory that the kernel says the workers may have beside what they
# count: caches of catalogs and plans, and the like.
my $uncounted = 8 * 1024 * 1024;

# Where a sanitizer keeps memory beside each process, and what was freed for a while, the
# kernel is no judge of what is ours.
sub kernel_knows
{
	return ($ENV{SERVER} // '') ne 'sanitized';
}

# Sets parameters; each process sees it with its next wait, or batch.
sub set
{
	my ($node, %values) = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM SET $_ = '$values{$_}'") foreach sort keys %values;
	reload($node);
	return;
}

# Sets the budget to so many kB, and waits until it is that.
sub set_budget
{
	my ($node, $kilobytes) = @_;
	set($node, 'ivm.memory_budget' => "${kilobytes}kB");
	wait_until($node, "SELECT budget_bytes = $kilobytes * 1024 FROM pg_stat_ivm_memory", 'the budget is set');
	diag("budget ${kilobytes}kB");
	return;
}

# The sum of the guaranteed minimums, in kB.
sub guaranteed
{
	my ($node) = @_;
	return $node->safe_psql('postgres', 'SELECT guaranteed_bytes / 1024 FROM pg_stat_ivm_memory');
}

# Private memory of a process in bytes, by the kernel; 0 if it is gone.
sub anonymous
{
	my ($pid) = @_;
	open(my $in, '<', "/proc/$pid/smaps_rollup") or return 0;
	while (my $line = <$in>)
	{
		return $1 * 1024 if $line =~ /^Anonymous:\s+(\d+) kB/;
	}
	return 0;
}

# pid => that, for decoders and apply workers.
sub workers_memory
{
	my ($node) = @_;
	return map { $_ => anonymous($_) } (worker_pids($node, 'decoder'), worker_pids($node, 'apply worker'));
}

# Runs test/memory/sample until stop_sampling, with a query that another session
# repeats meanwhile.
sub start_sampling
{
	my ($node, $query) = @_;
	my ($output, $errors) = ('', '');
	my $sampling = { output => \$output, errors => \$errors };

	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	local $ENV{PGDATABASE} = 'postgres';
	$sampling->{points} = PostgreSQL::Test::Utils::tempdir . '/points';
	$sampling->{run} =
	  IPC::Run::start([ $^X, 'test/memory/sample', '-o', $sampling->{points}, $query ? ('-q', $query) : () ],
		'<', \undef, '>', $sampling->{output}, '2>', $sampling->{errors});
	wait_until_true(sub { !$sampling->{run}->pumpable || (-s $sampling->{points} // 0) > 0 }, 'the first sample');
	return $sampling;
}

# What it says, as a hash.
sub stop_sampling
{
	my ($sampling) = @_;

	$sampling->{run}->signal('TERM');
	$sampling->{run}->finish;
	diag(${ $sampling->{errors} }) if ${ $sampling->{errors} } ne '';
	my %result = ${ $sampling->{output} } =~ /^(\w+)=(\S+)$/mg;
	die 'the sampling ended early' if !$result{samples};
	return \%result;
}

# Tests: what was held never exceeded the budget, and what the workers count is what
# the kernel says.  Other sessions went on.
sub is_within_budget
{
	my ($sample, $name) = @_;

	cmp_ok($sample->{samples}, '>=', 10, "$name: it was looked at");
	is($sample->{largest_over}, 0, "$name: within the budget");
	cmp_ok($sample->{largest_excess}, '<=', $uncounted, "$name: the workers have what they say") if kernel_knows();
	cmp_ok($sample->{longest_query}, '<', 5000 * patience(), "$name: other sessions go on");
	is($sample->{restarts}, 0, "$name: no worker ended");
	diag(sprintf "%s: budget %.1f MB, held %.1f MB, workers by the kernel +%.1f MB, beside what they count %.1f MB; longest query %.0f ms, %d samples in %.1f s",
		$name, (map { $sample->{$_} / 1048576 } qw(budget largest_held largest_kernel largest_excess)),
		$sample->{longest_query}, $sample->{samples}, $sample->{seconds});
	return;
}

# A test: within 5 s all processes have no more than so much (8 MB) above what
# they had.
sub is_back
{
	my ($node, $name, %before) = @_;
	my $end = time + 5 * patience();
	my @more;

	return 1 if !kernel_knows();

	do
	{
		usleep(50_000);
		my %now = workers_memory($node);
		@more = map { my $more = $now{$_} - $before{$_}; $more > 8 * 1024 * 1024 ? "$_ has $more bytes more" : () }
		  grep { exists $before{$_} } keys %now;
	} while (@more && time < $end);
	diag($node->safe_psql('postgres', 'SELECT * FROM pg_stat_ivm_worker')) if @more;
	return is(join(', ', @more), '', $name);
}

# ---- loads ----

sub run_file
{
	my ($node, $file) = @_;
	$node->safe_psql('postgres', 'CREATE EXTENSION IF NOT EXISTS ivm_ext');
	$node->safe_psql('postgres', slurp_file("test/memory/$file"));
	return;
}

sub make_join { return run_file($_[0], 'join.sql'); }
sub make_ten { return run_file($_[0], 'ten.sql'); }
sub make_skew { return run_file($_[0], 'skew.sql'); }

# Calls add_facts, add_skew or add_product, and samples until all views have it.
# Tests what has to be true then; returns the sample.
sub add
{
	my ($node, $procedure, $number, $name) = @_;
	my %before = workers_memory($node);
	my $sampling = start_sampling($node, 'SELECT count(*) FROM dim_a');

	$node->safe_psql('postgres', "CALL $procedure($number)");
	sync($node);
	my $sample = stop_sampling($sampling);
	is_back($node, "$name: memory is back", %before);
	is_within_budget($sample, $name);
	are_exact($node, "$name: exact");
	return $sample;
}

# A test: no process was killed or gave up, no view was rebuilt or has failed.
sub is_alive
{
	my ($node, $name) = @_;
	my $log = slurp_file($node->logfile);
	my @bad = $log =~ /^.*(?:terminated by signal|PANIC:|out of memory|is going to be rebuilt|terminating any other).*$/mg;
	return is(join("\n", @bad), '', $name);
}

# Runs the oracle against a server, as one test.
sub oracle
{
	my ($node, $name, %environment) = @_;
	my $output;

	local %ENV = (%ENV, %environment,
		PGHOST => $node->host, PGPORT => $node->port, PGUSER => scalar getpwuid($<), PGDATABASE => 'postgres');
	my $status = IPC::Run::run([ $^X, 'test/oracle/run' ], '<', \undef, '>', \$output, '2>&1');
	diag($output =~ /^(# \d+ views.*)$/m);
	return ok($status, $name) || diag($output);
}

1;
