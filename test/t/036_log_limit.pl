# A delta log beyond what it may have on disk, or on a full disk: rows are not taken up
# any more, the views are rebuilt and say why, and afterwards all goes on as before.
#
# small disk: 2m

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);
use IvmTest;

my $node = new_node('log_limit', 'ivm.apply_workers = 1', 'ivm.delta_log_memory = 64kB',
	'ivm.delta_log_limit = 1MB', 'log_temp_files = 0');

my $reason = 'the delta log exceeded ivm.delta_log_limit, or its disk was full';

sub disk
{
	return $node->safe_psql('postgres', "SELECT log_disk_bytes FROM pg_stat_ivm_worker WHERE worker_type = 'decoder'");
}

# Waits until rows are taken up again, and nothing is in the log.
sub wait_until_empty
{
	wait_until($node, "SELECT log_disk_bytes = 0 AND state = 'running' FROM pg_stat_ivm_worker WHERE worker_type = 'decoder'",
		'an empty log');
	return;
}

sub insert
{
	my ($table, $from, $rows) = @_;
	return $node->safe_psql('postgres', "INSERT INTO $table SELECT $from + i, i % 10, repeat('x', 100) FROM generate_series(1, $rows) i");
}

sub rebuilt
{
	my ($view) = @_;
	return $node->safe_psql('postgres', "SELECT rebuilds || ' ' || coalesce(last_rebuild_reason, '') FROM pg_stat_ivm WHERE relname = '$view'");
}

sub told
{
	my ($what) = @_;
	my $count = () = slurp_file($node->logfile) =~ /$what/g;
	return $count;
}

$node->safe_psql('postgres', <<'EOS');
CREATE EXTENSION ivm_ext;
CREATE TABLE t (id int PRIMARY KEY, grp int, filler text);
CREATE TABLE other (id int PRIMARY KEY, grp int, filler text);
EOS
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW v AS SELECT grp, count(*) AS n, sum(length(filler)) AS bytes FROM t GROUP BY grp');
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW o AS SELECT grp, count(*) AS n FROM other GROUP BY grp');

# Bytes of the log that lie in files.
my @spaces = ($node->data_dir . '/base');
sub in_files
{
	my $sum = 0;
	foreach my $space (@spaces)
	{
		$sum += -s $_ || 0 foreach glob("$space/pgsql_tmp*/*.fileset/*");
	}
	return $sum;
}

# ---- one transaction that is larger than the limit ----

insert('other', 0, 10);
insert('t', 0, 5000);
are_exact($node, 'exact below the limit');
is(rebuilt('v'), '0 ', 'nothing was rebuilt');

my $most = 0;
insert('t', 100_000, 50_000);
my $end = time + $PostgreSQL::Test::Utils::timeout_default;
while (time < $end && rebuilt('v') eq '0 ')
{
	my $now = in_files();
	$most = $now if $now > $most;
	usleep(5_000);
}
is_exact($node, 'v', 'exact after a transaction that exceeds the limit');
is(rebuilt('v'), "1 $reason", 'it was rebuilt, and says why');
is(rebuilt('o'), '0 ', 'a view of another table was not');
is(told('delta log has reached its limit on disk of 1024 kB'), 1, 'the log tells it once');
cmp_ok($most, '<=', 1024 * 1024 + 64 * 1024, 'the log had no more on disk');
wait_until_empty();
insert('t', 200_000, 10);
insert('other', 200_000, 10);
are_exact($node, 'exact afterwards');
is(rebuilt('v'), "1 $reason", 'by what changed, not by another rebuild');

# ---- many transactions while nobody applies any ----

set_points($node, 'apply-before=wait');
insert('other', 300_000, 10);
wait_for_point($node, 'apply-before');
insert('t', 300_000 + 1000 * $_, 800) foreach (1 .. 40);
insert('other', 350_000, 10);
wait_until_true(sub { told('delta log has reached its limit') == 2 }, 'the limit is reached');
# what comes now costs next to nothing
my $lsn = $node->safe_psql('postgres', 'SELECT pg_current_wal_lsn()');
insert('t', 400_000 + 1000 * $_, 800) foreach (1 .. 20);
wait_until($node, "SELECT position_lsn > '$lsn' FROM pg_stat_ivm_worker WHERE worker_type = 'decoder'", 'the decoder goes on');
is_value($node, q{SELECT state FROM pg_stat_ivm_worker WHERE worker_type = 'decoder'}, 'delta log at limit', 'its state says so');
cmp_ok(in_files(), '<=', 1024 * 1024 + 128 * 1024, 'the log does not grow');
set_points($node, '');
are_exact($node, 'exact after the limit was reached by many');
like(rebuilt('v'), qr/^[23] \Q$reason\E$/, 'it was rebuilt, and says why');
wait_until_empty();
insert('t', 500_000, 10);
are_exact($node, 'exact afterwards');

# ---- one view that cannot be locked keeps the log: it is given up, the rest goes on ----

is_exact($node, 'o', 'exact before');
my $others = rebuilt('o');
my $session = connection($node);
$session->query_safe('BEGIN');
$session->query_safe('CREATE INDEX ON v (bytes)');
insert('t', 550_000, 10);
wait_for_state($node, 'v', 'waiting for lock');
insert('t', 560_000 + 1000 * $_, 800) foreach (1 .. 20);
wait_until($node, q{SELECT state = 'rebuild' FROM pg_stat_ivm WHERE relname = 'v'}, 'the view is given up');
wait_until_empty();
insert('other', 560_000, 10);
is_exact($node, 'o', 'another view goes on');
is(rebuilt('o'), $others, 'it was not rebuilt');
$session->query_safe('COMMIT');
$session->quit;
are_exact($node, 'exact when the lock is gone');

# ---- temp_file_limit counts as well, and fails nothing ----

$node->safe_psql('postgres', q{ALTER SYSTEM SET ivm.delta_log_limit = '1GB'});
$node->safe_psql('postgres', q{ALTER SYSTEM SET temp_file_limit = '512kB'});
reload($node);
my ($decoder) = worker_pids($node, 'decoder');
insert('t', 600_000, 20_000);
is_exact($node, 'v', 'exact after a transaction that exceeds temp_file_limit');
is(told('delta log has reached its limit on disk of 512 kB'), 1, 'which is told');
is(join(' ', worker_pids($node, 'decoder')), $decoder, 'by the same decoder');
wait_until_empty();
$node->safe_psql('postgres', 'ALTER SYSTEM RESET temp_file_limit');
reload($node);
my $rebuilds = rebuilt('v');
insert('t', 700_000, 20_000);
is_exact($node, 'v', 'exact with enough room');
is(rebuilt('v'), $rebuilds, 'and applied');

# ---- a full disk ----

SKIP:
{
	my $space = $ENV{SMALL_DISK};
	skip 'no small file system: it takes root, and the right to mount', 12 unless $space;

	$node->safe_psql('postgres', "CREATE TABLESPACE small LOCATION '$space'");
	$node->safe_psql('postgres', q{ALTER SYSTEM SET temp_tablespaces = 'small'});
	reload($node);
	wait_until_empty();
	insert('t', 800_000, 40_000);
	is_exact($node, 'v', 'exact after the disk was full in a transaction');
	like(rebuilt('v'), qr/ \Q$reason\E$/, 'it was rebuilt, and says why');
	isnt(rebuilt('v'), $rebuilds, 'once more');
	$rebuilds = rebuilt('o');
	is(told('delta log cannot be written: no space left on device'), 1, 'the log tells it once');
	is(join(' ', worker_pids($node, 'decoder')), $decoder, 'the decoder lives');

	# a single row that does not fit
	$node->safe_psql('postgres', q{INSERT INTO t SELECT 900000, 1, string_agg(md5(i::text), '') FROM generate_series(1, 100000) i});
	is_exact($node, 'v', 'exact after a row that was too large for the disk');
	insert('other', 900_000, 10);
	is_exact($node, 'o', 'exact in the meantime');
	is(join(' ', worker_pids($node, 'decoder')), $decoder, 'the decoder lives');

	# room again
	$node->safe_psql('postgres', 'ALTER SYSTEM RESET temp_tablespaces');
	reload($node);
	wait_until_empty();
	$rebuilds = rebuilt('v');
	insert('t', 2_000_000, 5_000);
	are_exact($node, 'exact with room');
	is(rebuilt('v'), $rebuilds, 'and applied');
	$node->safe_psql('postgres', 'DROP TABLESPACE small');
}

$node->stop;
done_testing();
