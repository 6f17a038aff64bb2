# The memory budget as a whole: who is started, what a reload does, what comes back,
# and whether all of it is what the kernel says.
#
# alone: it looks at a batch before that has ended

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);
use IvmTest;

my $MB = 1024 * 1024;
my $node = new_node('budget', 'ivm.apply_workers = 2', 'autovacuum = off', 'ivm.cache_memory = 0');
my $forced = ($ENV{CHECK_SETTINGS} // '') =~ /debug_spill|debug_alloc/;

sub value
{
	my ($query) = @_;
	return $node->safe_psql('postgres', $query);
}

# Sets the budget, by reload, and returns at once.
sub set_budget
{
	my ($size) = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM SET ivm.memory_budget = '$size'");
	reload($node);
	return;
}

# Waits until a query says true; returns the seconds that took.
sub seconds_until
{
	my ($query, $what) = @_;
	my $start = time;

	wait_until($node, $query, $what);
	return time - $start;
}

# Anonymous memory of a process, by the kernel.
sub anonymous
{
	my ($pid) = @_;
	open(my $file, '<', "/proc/$pid/smaps_rollup") or return 0;
	my ($kilobytes) = map { /^Anonymous:\s+(\d+) kB/ ? $1 : () } <$file>;
	close($file);
	return $kilobytes * 1024;
}

$node->safe_psql('postgres', <<'EOS');
CREATE EXTENSION ivm_ext;
CREATE TABLE t (id int, x int, filler text);
INSERT INTO t SELECT i, i, repeat('x', 100) FROM generate_series(1, 100) i;
EOS

# ---- who is started ----

set_budget('10MB');
wait_until($node, "SELECT budget_bytes = 10 * $MB FROM pg_stat_ivm_memory", 'the budget is published');
my ($ret, $stdout, $stderr) = $node->psql('postgres', 'CREATE INCREMENTAL VIEW v AS SELECT x, count(*) AS n, sum(id) AS s FROM t GROUP BY x');
like($stderr, qr/ERROR:  ivm\.memory_budget has no room for the processes of this database.*HINT:  Increase ivm\.memory_budget by 1024 kB/s,
	'a view is refused where the minimums do not fit');
is_value($node, q{SELECT string_agg(worker_type, ',') FROM pg_stat_ivm_worker}, 'launcher', 'no process is started then, not even some of them');
my $log = slurp_file($node->logfile);
my @said = $log =~ /LOG:  ivm\.memory_budget has no room for the processes/g;
is(scalar @said, 1, 'and the log says so, once');

# workers 2 * 4 MB, decoder 1 MB, log 2 MB; the builder would need 4 MB more
set_budget('11MB');
($ret, $stdout, $stderr) = $node->psql('postgres', 'CREATE INCREMENTAL VIEW v AS SELECT x, count(*) AS n, sum(id) AS s FROM t GROUP BY x');
like($stderr, qr/Increase ivm\.memory_budget by 4096 kB/, 'nor where the builder does not fit');
set_budget('15MB');
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW v AS SELECT x, count(*) AS n, sum(id) AS s FROM t GROUP BY x');
are_exact($node, 'it is built where they just fit');
is_value($node, "SELECT guaranteed_bytes <= budget_bytes FROM pg_stat_ivm_memory", 't', 'the minimums fit');

# those that run keep their minimums when the budget is less than these
set_budget('4MB');
wait_until($node, "SELECT budget_bytes = 4 * $MB FROM pg_stat_ivm_memory", 'the budget is lower');
$node->safe_psql('postgres', 'INSERT INTO t SELECT i, i % 1000, repeat(\'x\', 100) FROM generate_series(1, 20000) i');
are_exact($node, 'and go on where the budget is lower than that');
cmp_ok(value('SELECT peak_bytes FROM pg_stat_ivm_memory'), '<=', 15 * $MB, 'within what was allowed');

# ---- while a batch runs ----

set_budget('512MB');
wait_until($node, "SELECT budget_bytes = 512 * $MB FROM pg_stat_ivm_memory", 'the budget is higher');
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW w AS SELECT id, x, filler FROM t');
sync($node);
my %before = map { $_ => anonymous($_) } worker_pids($node, 'apply worker');
my %resident = split /[|\n]/, value(q{SELECT pid, resident_bytes FROM pg_stat_ivm_worker WHERE worker_type = 'apply worker'});

set_points($node, 'apply-before=wait');
$node->safe_psql('postgres', 'INSERT INTO t SELECT i, i, repeat(\'x\', 100) FROM generate_series(20001, 320000) i');
my $pid = wait_for_point($node, 'apply-before');

SKIP:
{
	skip 'nothing stays in memory', 3 if $forced;

	cmp_ok(value('SELECT resident_bytes FROM pg_stat_ivm_memory'), '>', 32 * $MB, 'it holds more than what it is going to have');

	# arenas, and group states, which PostgreSQL's contexts hold
	my ($arenas, $granted, $process) = split /\|/,
	  value("SELECT resident_bytes, granted_bytes, process_bytes FROM pg_stat_ivm_worker WHERE pid = $pid");
	my $kernel = anonymous($pid);
	my $grown = $kernel - $before{$pid};
	my $held = $granted - $resident{$pid};

	cmp_ok(abs($grown - $held), '<=', $MB + $held / 50, "the process has grown by $grown bytes, what it holds by $held, of which $arenas in arenas");
	cmp_ok(abs($process - $kernel), '<=', $MB, 'process_bytes is what the kernel says');
}

# The budget goes down while a batch runs.
set_points($node, '');
$node->safe_psql('postgres', 'INSERT INTO t SELECT i, i, repeat(\'x\', 100) FROM generate_series(320001, 600000) i');
wait_until($node, "SELECT resident_bytes > 64 * $MB FROM pg_stat_ivm_memory", 'much is held');
set_budget('24MB');
my $seconds = seconds_until("SELECT budget_bytes = 24 * $MB FROM pg_stat_ivm_memory", 'the budget is lowered');
cmp_ok($seconds, '<', 1, 'a lower budget is known within a second');
# rows that are being written to a view at that moment stay until they are
$seconds += seconds_until("SELECT resident_bytes <= 24 * $MB AND granted_bytes <= 24 * $MB FROM pg_stat_ivm_memory", 'memory has come back');
is_value($node, q{SELECT count(*) FROM pg_stat_ivm WHERE lag_time > '0'}, 2, 'what is held above it comes back while the batch runs');
note("after $seconds s");
my $exceeded = 0;
while (value('SELECT bool_and(lag_time = \'0\') FROM pg_stat_ivm') ne 't')
{
	$exceeded++ if value("SELECT resident_bytes > 24 * $MB AND overdraft_pid IS NULL FROM pg_stat_ivm_memory") eq 't';
	usleep(10_000);
}
is($exceeded, 0, 'it stays within the budget until all is applied');
are_exact($node, 'and exact');
set_budget('256MB');
$seconds = seconds_until("SELECT budget_bytes = 256 * $MB AND free_bytes > 200 * $MB FROM pg_stat_ivm_memory", 'the budget is raised');
cmp_ok($seconds, '<', 1, 'a higher budget is known within a second');

# ---- afterwards ----

my $enough = join(' AND ', map { "(SELECT process_bytes FROM pg_stat_ivm_worker WHERE pid = $_) <= $before{$_} + 4 * $MB" } keys %before);
wait_until($node, "SELECT $enough", 'workers are as small as they were');
pass('idle workers have given back what they needed');
is_value($node, 'SELECT granted_bytes = guaranteed_bytes FROM pg_stat_ivm_memory', 't', 'nothing is held above the minimums');
is_value($node, 'SELECT waiters = 0 AND overdraft_pid IS NULL FROM pg_stat_ivm_memory', 't', 'nobody waits');

# ---- trim ----

# a small batch is not trimmed at once; ask before the worker does so by itself
$node->safe_psql('postgres', 'INSERT INTO t SELECT i, i, repeat(\'y\', 100) FROM generate_series(1, 2000) i');
sync($node);
my $given = value('SELECT ivm.trim()');
cmp_ok($given, '>', 0, 'ivm.trim gives back what a small batch left');
# but for a few pages, since the processes go on
cmp_ok(value('SELECT ivm.trim()'), '<=', 64 * 1024, 'and finds next to nothing the next time');
is_value($node, q{SELECT bool_and(resident_bytes - allocated_bytes < 1024 * 1024) FROM pg_stat_ivm_worker}, 't', 'what is resident is what is allocated');

$node->stop;
done_testing();
