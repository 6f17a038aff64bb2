# Rows that are larger than anything that is set aside for them.  LARGE_ROW_MB is
# the size of the largest, 24 by default.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);
use IvmTest;
use MemoryTest;

my $size = ($ENV{LARGE_ROW_MB} || 24) * 1024 * 1024;
my $node = new_node('large_rows', 'dynamic_shared_memory_type = mmap', 'min_dynamic_shared_memory = 0',
	'ivm.apply_workers = 1', 'ivm.memory_budget = 32MB', 'ivm.delta_log_memory = 3MB');

# Memory of a process that is its own, in bytes.
sub own_memory
{
	my ($pid) = @_;
	my $text = slurp_file("/proc/$pid/smaps_rollup");
	my ($dirty) = $text =~ /^Private_Dirty:\s+(\d+) kB/m;
	return $dirty * 1024;
}

# The largest piece of dynamic shared memory.
sub largest_shared
{
	my $largest = 0;
	foreach my $file (glob($node->data_dir . '/pg_dynshmem/mmap.*'))
	{
		my $bytes = -s $file || 0;
		$largest = $bytes if $bytes > $largest;
	}
	return $largest;
}

$node->safe_psql('postgres', <<'EOS');
CREATE EXTENSION ivm_ext;
CREATE TABLE t (id int PRIMARY KEY, grp int, plain text, packed text);
ALTER TABLE t ALTER plain SET STORAGE EXTERNAL;
INSERT INTO t VALUES (1, 1, 'a', 'b');
EOS
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW v AS SELECT id, grp, plain, packed FROM t');
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW lengths AS SELECT grp, count(*) AS n, sum(length(plain)) AS bytes FROM t GROUP BY grp');
sync($node);

my ($decoder) = worker_pids($node, 'decoder');
my ($apply) = worker_pids($node, 'apply worker');
my $before = own_memory($decoder);
my $log = -s $node->logfile;
my $largest = 0;

sub compare
{
	my ($what) = @_;
	sync($node);
	is_value($node, 'SELECT count(*), sum(length(plain)), sum(length(packed)), md5(string_agg(md5(plain) || md5(packed), $$,$$ ORDER BY id)) FROM v',
		$node->safe_psql('postgres', 'SELECT count(*), sum(length(plain)), sum(length(packed)), md5(string_agg(md5(plain) || md5(packed), $$,$$ ORDER BY id)) FROM t'),
		"exact after $what");
	is_value($node, 'SELECT sum(bytes) FROM lengths', $node->safe_psql('postgres', 'SELECT sum(length(plain)) FROM t'), "in groups after $what");
	$largest = largest_shared() if largest_shared() > $largest;
	return;
}

# a piece of text that does not compress, as often as it takes
my $text = "(SELECT repeat(string_agg(md5(i::text), ''), $size / 32768) FROM generate_series(1, 1024) i)";
$node->safe_psql('postgres', "INSERT INTO t SELECT 2, 2, $text, 'small'");
compare('a large value');
$node->safe_psql('postgres', "INSERT INTO t SELECT 3, 2, 'small', repeat('0123456789', $size / 10)");
compare('one that is compressed');
$node->safe_psql('postgres', 'UPDATE t SET grp = 3 WHERE id = 2');
compare('an update that does not touch it');
$node->safe_psql('postgres', "INSERT INTO t SELECT 10 + i, 1, repeat(md5(i::text), CASE WHEN i % 10 = 5 THEN 50000 ELSE i END), md5(i::text) FROM generate_series(1, 200) i");
compare('large and small rows in one transaction');
$node->safe_psql('postgres', 'UPDATE t SET plain = $$x$$ WHERE id = 2');
compare('an update that replaces it');
$node->safe_psql('postgres', 'DELETE FROM t WHERE id > 1');
compare('a delete of all of them');
is(rebuilds($node, $log), 0, 'nothing was rebuilt');
cmp_ok($largest, '<=', 2 * 1024 * 1024, 'no large piece of shared memory was made');
# one for slow views may have come meanwhile
my %now = map { $_ => 1 } worker_pids($node, 'decoder'), worker_pids($node, 'apply worker');
is(join(' ', grep { !$now{$_} } $decoder, split(/ /, $apply)), '', 'all processes live');

# the decoder returns what it needed for them when it has been idle for a moment
if (kernel_knows())
{
	wait_until_true(sub { own_memory($decoder) < $before + 8 * 1024 * 1024 }, 'the decoder has given back its memory');
	pass('the decoder has given back its memory');
	diag(sprintf('decoder: %.1f MB before, %.1f MB after', $before / 1048576, own_memory($decoder) / 1048576));
}

$node->stop;
done_testing();
