# The disk is full while rows are written to temporary files.  The batch is tried
# again, or its view says why it is in error; what needs no files goes on; and all
# is right again when there is room.
#
# small disk: 32m

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;
use MemoryTest;

my $disk = $ENV{SMALL_DISK};
plan skip_all => 'only root can mount a small file system for temporary files' if !$disk;

my $node = new_node('disk_full', 'ivm.apply_workers = 2', 'max_wal_size = 4GB', 'logical_decoding_work_mem = 1MB');

make_join($node);
make_ten($node);
make_skew($node);
make_sales($node, 'postgres', 1000);
sync($node);

# Temporary files go to a disk that has 1 or 2 MB left.
mkdir("$disk/tablespace") or die "$disk/tablespace: $!";
$node->safe_psql('postgres', "CREATE TABLESPACE small LOCATION '$disk/tablespace'");
sub fill_disk
{
	open(my $out, '>', "$disk/ballast") or die "$disk/ballast: $!";
	my $free = 1024 * (split ' ', (split /\n/, `df -k --output=avail $disk`)[1])[0];
	my $megabyte = 'x' x 1048576;
	for (; $free > 2 * 1048576; $free -= 1048576)
	{
		syswrite($out, $megabyte) == 1048576 or die "$disk/ballast: $!";
	}
	close($out);
	return;
}
fill_disk();
set($node, 'temp_tablespaces' => 'small');
# a builder is guaranteed something as well
set_budget($node, guaranteed($node) + 5 * 1024);

foreach my $load ([ 'add_product', 500, 'product', 'zset' ], [ 'add_facts', 100_000, 'joined_9', 'aggregate' ])
{
	my ($procedure, $number, $view, $forced) = @$load;
	my $log = -s $node->logfile;

	# PostgreSQL looks at temp_tablespaces again with the second transaction after a reload
	set($node, 'ivm.debug_spill' => $forced);
	foreach (1 .. 2)
	{
		$node->safe_psql('postgres', "CALL $procedure(1)");
		sync($node);
	}

	# the session needs no files of its own
	$node->safe_psql('postgres', "SET work_mem = '256MB'; CALL $procedure($number)");
	$node->wait_for_log(qr/No space left on device/, $log);
	ok(1, "$procedure: the disk is full");
	wait_until($node, "SELECT state IN ('retrying', 'error', 'rebuild') AND concat(last_error, last_rebuild_reason) ~ 'No space left on device|disk was full' FROM pg_stat_ivm WHERE relname = '$view'",
		"$view says why it is behind");

	change_sales($node);
	is_exact($node, $_, "$procedure: $_ goes on") foreach qw(per_region listed largest);

	# there is room: it is tried again, after its pause; or somebody who reads the error helps
	unlink("$disk/ballast") or die "$disk/ballast: $!";
	wait_until($node, "SELECT state IN ('active', 'error') FROM pg_stat_ivm WHERE relname = '$view'", "$view has recovered");
	diag("$view: " . $node->safe_psql('postgres', "SELECT state, error_count, rebuilds, last_error FROM pg_stat_ivm WHERE relname = '$view'"));
	$node->safe_psql('postgres', "REFRESH MATERIALIZED VIEW $view")
	  if $node->safe_psql('postgres', "SELECT state FROM pg_stat_ivm WHERE relname = '$view'") eq 'error';
	are_exact($node, "$procedure: exact when there is room");
	fill_disk();
}

# Nothing is left of the files when the decoder and those who read its log have come to rest: neither of
# theirs nor of the batches'.  A directory, too, would keep the tablespace from being dropped.
unlink("$disk/ballast");
set($node, 'ivm.debug_spill' => 'log');
change_sales($node);
sync($node);
my @left;
eval { wait_until_true(sub { return !(@left = map { glob("$_/*") } glob("$disk/tablespace/PG_*/pgsql_tmp")) }, 'files to go') };
is(join(' ', @left), '', 'no temporary file is left');
$node->safe_psql('postgres', 'DROP TABLESPACE small');
ok(1, 'the tablespace can be dropped');

# The decoder that had its files there ends with an error; the next one has others.
my $rebuilds = rebuilds($node);
change_sales($node) foreach 1 .. 3;
are_exact($node, 'the delta log does without it');
is(rebuilds($node), $rebuilds, 'with no view rebuilt');
unlike(slurp_file($node->logfile), qr/terminated by signal|PANIC:/, 'nobody was killed');

$node->stop;
done_testing();
