# The memory of the delta log: it stays within its limits, is made smaller when
# these are, goes to files where there is none, and is gone when the log is drained.
# Before it goes to files the decoder waits, if that is any use.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);
use IvmTest;

# Shared memory that the server makes is a file here, so that it can be looked at.
my $node = new_node('delta_log', 'dynamic_shared_memory_type = mmap', 'min_dynamic_shared_memory = 0',
	'ivm.apply_workers = 1', 'ivm.delta_log_memory = 3MB', 'log_temp_files = 0', 'max_parallel_workers_per_gather = 0');
my $forced = ($ENV{CHECK_SETTINGS} // '') =~ /debug_spill.*log/;
plan skip_all => 'everything is forced into files' if $forced;

# Bytes of shared memory that segments of the log take.  They are smaller here than
# those of PostgreSQL's shared areas, which are of a megabyte and more.
sub shared_memory
{
	my $sum = 0;
	foreach my $file (glob($node->data_dir . '/pg_dynshmem/mmap.*'))
	{
		my $size = -s $file || 0;
		$sum += $size if $size % 8192 == 0 && $size < 1024 * 1024;
	}
	return $sum;
}

# What the decoder says: memory, disk, state.
sub decoder
{
	return split /\|/,
	  $node->safe_psql('postgres', "SELECT log_memory_bytes, log_disk_bytes, state FROM pg_stat_ivm_worker WHERE worker_type = 'decoder'");
}

sub temporary_files
{
	my ($dir) = @_;
	my $sum = 0;
	$sum += -s $_ || 0 foreach glob("$dir/pgsql_tmp*/*.fileset/*");
	return $sum;
}

sub insert
{
	my ($from, $rows) = @_;
	$node->safe_psql('postgres', "INSERT INTO t SELECT $from + i, i % 10, repeat(md5(($from + i)::text), 3) FROM generate_series(1, $rows) i");
	return;
}

$node->safe_psql('postgres', <<'EOS');
CREATE EXTENSION ivm_ext;
CREATE TABLE t (id int PRIMARY KEY, grp int, filler text);
INSERT INTO t SELECT -i, i % 10, 'x' FROM generate_series(1, 100) i;
EOS
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW v AS SELECT grp, count(*) AS n, sum(hashtext(filler)) AS hash FROM t GROUP BY grp');

sub wait_until_empty
{
	my ($what) = @_;
	wait_until_true(sub { my ($memory, $disk) = decoder(); return shared_memory() == 0 && $memory == 0 && $disk == 0 },
		"an empty log $what");
	return;
}

# ---- drained ----

wait_until_empty('at first');
insert(0, 10);
is_exact($node, 'v', 'exact after a small transaction');
cmp_ok(shared_memory(), '>', 0, 'which took some memory');
wait_until_empty('after a small transaction');
insert(1000, 10_000);
is_exact($node, 'v', 'exact after a transaction that fits');
wait_until_empty('after a transaction that fits');
my $log = slurp_file($node->logfile);
unlike($log, qr/temporary file: path .*fileset/, 'nothing went to files');

# ---- while a batch is at work the decoder waits, then goes on to files ----

set_points($node, 'apply-before=wait');
insert(100_000, 10);
wait_for_point($node, 'apply-before');
my $pid = fork();
die "cannot fork: $!" unless defined $pid;
if ($pid == 0)
{
	# writes on its own, to be read behind the batch that is held
	foreach my $i (1 .. 40)
	{
		$node->psql('postgres', "INSERT INTO t SELECT 200000 + 10000 * $i + j, j % 10, repeat(md5(j::text), 3) FROM generate_series(1, 5000) j");
	}
	require POSIX;
	POSIX::_exit(0);
}
my $waited = 0;
my $disk_at_first = -1;
my $end = time + $PostgreSQL::Test::Utils::timeout_default;
my $disk = 0;
my $memory;
my $state;
my $limit = 3 * 1024 * 1024;
my $most = 0;
my $most_shared = 0;
while (time < $end && !($waited && $disk > 10 * 1024 * 1024))
{
	($memory, $disk, $state) = decoder();
	if ($state eq 'waiting for memory')
	{
		$disk_at_first = $disk if !$waited;
		$waited++;
	}
	$most = $memory if $memory > $most;
	$most_shared = shared_memory() if shared_memory() > $most_shared;
	usleep(10_000);
}
cmp_ok($waited, '>', 0, 'the decoder has waited for memory');
is($disk_at_first, 0, 'before anything went to files');
cmp_ok($disk, '>', 10 * 1024 * 1024, 'it did not wait for ever');
cmp_ok($most, '<=', $limit, 'the log stayed within its limit');
cmp_ok($most, '>', $limit / 2, 'which it has used');
cmp_ok($most_shared, '<=', $limit, 'and so says the shared memory that there was');
waitpid($pid, 0);
is_value($node, q{SELECT stalls > 0 AND stall_time > 500 AND spills > 0 AND spill_bytes > 8000000
	FROM pg_stat_ivm_worker WHERE worker_type = 'decoder'}, 't', 'its waits and what it has written are counted');

# ---- the limit is lowered: what is in memory goes to files ----

$node->safe_psql('postgres', q{ALTER SYSTEM SET ivm.delta_log_memory = '1MB'});
reload($node);
wait_until_true(sub { my ($memory) = decoder(); return $memory <= 1.75 * 1024 * 1024 }, 'a smaller log');
cmp_ok(shared_memory(), '<=', 1.75 * 1024 * 1024, 'shared memory is given back, but for what a reader looks at');
set_points($node, '');
is_exact($node, 'v', 'exact after all that');
wait_until_empty('after all that');
is(temporary_files($node->data_dir . '/base'), 0, 'so have all files');
$log = slurp_file($node->logfile);
like($log, qr/temporary file: path "base\/pgsql_tmp\/.*fileset.*", size \d+/, 'log_temp_files is honoured');
is_value($node, q{SELECT state FROM pg_stat_ivm WHERE relname = 'v'}, 'active', 'nothing was rebuilt');
is(rebuilds($node), 0, 'says the log');

# ---- nothing in memory; where files go ----

my $space = PostgreSQL::Test::Utils::tempdir();
my $other = PostgreSQL::Test::Utils::tempdir();
$node->safe_psql('postgres', "CREATE TABLESPACE space LOCATION '$space'");
$node->safe_psql('postgres', "CREATE TABLESPACE other LOCATION '$other'");
my $from = -s $node->logfile;
$node->safe_psql('postgres', q{ALTER SYSTEM SET ivm.debug_spill = 'log'});
$node->safe_psql('postgres', q{ALTER SYSTEM SET temp_tablespaces = 'space'});
reload($node);
# small transactions that share files, large ones that take many, and truncations
foreach my $i (1 .. 30)
{
	insert(1_000_000 + 10_000 * $i, $i % 10 == 0 ? 3000 : $i);
	$node->safe_psql('postgres', "UPDATE t SET grp = grp + 1 WHERE id % 7 = $i % 7 AND id < 2000");
	is_exact($node, 'v', "exact after $i transactions in files") if $i % 10 == 5;
}
is_exact($node, 'v', 'exact with nothing in memory');
($memory) = decoder();
is($memory, 0, 'nothing was in memory');
wait_until_empty('of files');
$log = slurp_file($node->logfile, $from);
like($log, qr/temporary file: path "pg_tblspc\/\d+\/PG_15_\d+\/pgsql_tmp\/.*fileset/, 'files were in temp_tablespaces');
$node->safe_psql('postgres', q{ALTER SYSTEM SET temp_tablespaces = 'other'});
reload($node);
wait_until_empty('before the files move');
insert(2_000_000, 3000);
is_exact($node, 'v', 'exact after another choice of tablespaces');
wait_until_empty('after the files moved');
my $oid = $node->safe_psql('postgres', q{SELECT oid FROM pg_tablespace WHERE spcname = 'other'});
like(slurp_file($node->logfile, $from), qr/temporary file: path "pg_tblspc\/$oid\//, 'which counts from then on');
$node->safe_psql('postgres', 'TRUNCATE t');
insert(0, 100);
are_exact($node, 'exact after TRUNCATE');

# ---- a decoder that ends leaves nothing behind ----

$node->safe_psql('postgres', 'ALTER SYSTEM RESET ivm.debug_spill');
set_points($node, 'apply-before=wait');
insert(10_000, 10);
wait_for_point($node, 'apply-before');
insert(3_000_000, 60_000);
wait_until($node, q{SELECT log_disk_bytes > 0 FROM pg_stat_ivm_worker WHERE worker_type = 'decoder'}, 'something in files');
my ($decoder) = worker_pids($node, 'decoder');
terminate_process($node, $decoder);
wait_for_restart($node, 'decoder', $decoder);
set_points($node, '');
are_exact($node, 'exact after the decoder was ended');
wait_until_empty('of the next decoder');
is(temporary_files($other . '/PG_15_*'), 0, 'so have all files');

# ---- nor does one that crashes: "kills" means all memory is made anew ----
# kills: the decoder

set_points($node, 'apply-before=wait');
insert(20_000, 10);
wait_for_point($node, 'apply-before');
insert(4_000_000, 60_000);
wait_until($node, q{SELECT log_disk_bytes > 0 FROM pg_stat_ivm_worker WHERE worker_type = 'decoder'}, 'something in files');
forget_points($node);
($decoder) = worker_pids($node, 'decoder');
kill_process($node, $decoder);
set_points($node, '');
are_exact($node, 'exact after the decoder was killed');
wait_until_empty('after the crash');

$node->stop;
done_testing();
