# Open transactions whose rows exceed what the log may have on disk, or whose disk is full: rows are not taken up, which
# concerns the tables of these transactions only if they commit.
#
# small disk: 2m

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $node = new_node('open_limit', 'ivm.apply_workers = 1', 'ivm.delta_log_memory = 64kB', 'ivm.delta_log_limit = 1MB',
	'logical_decoding_work_mem = 64kB', 'ivm.naptime = 100ms', 'max_prepared_transactions = 20');

my $reason = 'the delta log exceeded ivm.delta_log_limit, or its disk was full';

$node->safe_psql('postgres', "CREATE EXTENSION ivm_ext");
foreach my $table (qw(t other small))
{
	$node->safe_psql('postgres', "CREATE TABLE $table (id int, grp int, filler text)");
	$node->safe_psql('postgres', "CREATE INCREMENTAL VIEW v_$table AS SELECT grp, count(*) AS n, sum(length(filler)) AS bytes FROM $table GROUP BY grp");
}

sub insert
{
	my ($table, $rows) = @_;
	return "INSERT INTO $table SELECT i, i % 10, repeat('x', 100) FROM generate_series(1, $rows) i";
}

sub rebuilt
{
	my ($table) = @_;
	return $node->safe_psql('postgres', "SELECT rebuilds || ' ' || coalesce(last_rebuild_reason, '') FROM pg_stat_ivm WHERE relname = 'v_$table'");
}

# What was written until now is decoded; what the log has on disk then.
sub decoded
{
	wait_until_decoded($node);
	return $node->safe_psql('postgres', "SELECT log_disk_bytes FROM pg_stat_ivm_worker WHERE worker_type = 'decoder'");
}

# Rows are taken up again, and nothing is in the log: not as it was told before what was written until now was decoded.
sub wait_until_empty
{
	my $end = wal_end($node);
	wait_until($node, "SELECT log_disk_bytes = 0 AND state = 'running' AND position_lsn >= '$end' FROM pg_stat_ivm_worker WHERE worker_type = 'decoder'",
		'an empty log');
	return;
}

my ($decoder) = worker_pids($node, 'decoder');
my $session = connection($node);
my $other = connection($node);

# ---- nearly all that is allowed ----

$session->query_safe('BEGIN');
$session->query_safe(insert('t', 5000));
cmp_ok(decoded(), '>', 512 * 1024, 'an open transaction has most of what is allowed');
$session->query_safe('COMMIT');
are_exact($node, 'exact when it has committed');
is(rebuilt('t'), '0 ', 'nothing was rebuilt');
wait_until_empty();

# ---- more than that, which is rolled back, or commits ----

foreach my $end ('ROLLBACK', 'COMMIT')
{
	$session->query_safe('BEGIN');
	$session->query_safe(insert('t', 20_000));
	cmp_ok(decoded(), '<=', 1024 * 1024 + 64 * 1024, "$end: the log has no more than it may");
	is_value($node, q{SELECT state FROM pg_stat_ivm_worker WHERE worker_type = 'decoder'}, 'delta log at limit', 'its state says so');
	$session->query_safe($end);
	are_exact($node, "exact after $end");
	wait_until_empty();
}
is(rebuilt('t'), "1 $reason", 'the view was rebuilt after the commit, and says why');
is(rebuilt('other'), '0 ', 'a view of another table was not');

# ---- small ones beside a large one ----

$other->query_safe('BEGIN');
$other->query_safe(insert('small', 200));
$other->query_safe(q{PREPARE TRANSACTION 'p'});
$session->query_safe('BEGIN');
$session->query_safe('SAVEPOINT a');
$session->query_safe(insert('t', 20_000));
decoded();
$session->query_safe('ROLLBACK TO a');
$session->query_safe(insert('other', 1000));
$session->query_safe('COMMIT');
$other->query_safe(q{COMMIT PREPARED 'p'});
are_exact($node, 'exact when all have ended');
is(rebuilt('small'), '0 ', 'what had its place was applied');
wait_until_empty();
foreach my $table (qw(t other small))
{
	my $before = rebuilt($table);
	wait_until_empty();
	$node->safe_psql('postgres', insert($table, 3000));
	is_exact($node, "v_$table", "$table: exact afterwards");
	is(rebuilt($table), $before, "$table: and not by a rebuild");
}

# ---- a full disk ----

SKIP:
{
	my $space = $ENV{SMALL_DISK};
	skip 'no small file system: it takes root, and the right to mount', 9 unless $space;

	$node->safe_psql('postgres', "CREATE TABLESPACE small LOCATION '$space'");
	$node->safe_psql('postgres', qq{ALTER SYSTEM SET $_}) foreach "temp_tablespaces = 'small'", "ivm.delta_log_limit = '1GB'";
	reload($node);
	wait_until_empty();
	foreach my $round (1, 2)
	{
		# several that share a file and the buffer, and a large one
		foreach my $number (1 .. 8)
		{
			$other->query_safe('BEGIN');
			$other->query_safe(insert('small', 150));
			$other->query_safe(insert('other', 150));
			$other->query_safe("PREPARE TRANSACTION 'p$number'");
		}
		$session->query_safe('BEGIN');
		$session->query_safe(insert('t', 30_000));
		decoded();
		like(slurp_file($node->logfile), qr/delta log cannot be written: no space left on device/, 'the disk is full') if $round == 1;
		$other->query_safe(($_ % 3 == 0 ? 'ROLLBACK' : 'COMMIT') . " PREPARED 'p$_'") foreach 1 .. 8;
		$session->query_safe($round == 1 ? 'COMMIT' : 'ROLLBACK');
		are_exact($node, "exact after round $round on a full disk");
	}
	like(rebuilt('t'), qr/ \Q$reason\E$/, 'it was rebuilt, and says why');
	# a row larger than the disk, in a transaction that is open
	$session->query_safe('BEGIN');
	$session->query_safe(insert('t', 1000));
	$session->query_safe(q{INSERT INTO t SELECT 900000, 1, string_agg(md5(i::text), '') FROM generate_series(1, 100000) i});
	decoded();
	$session->query_safe('COMMIT');
	are_exact($node, 'exact after a row that was too large for the disk');

	$node->safe_psql('postgres', 'ALTER SYSTEM RESET temp_tablespaces');
	reload($node);
	wait_until_empty();
	my $before = rebuilt('t');
	$session->query_safe('BEGIN');
	$session->query_safe(insert('t', 5000));
	decoded();
	$session->query_safe('COMMIT');
	are_exact($node, 'exact with room');
	is(rebuilt('t'), $before, 'and applied');
	$node->safe_psql('postgres', 'DROP TABLESPACE small');
	ok(1, 'nothing is left of the files');
	is_value($node, "SELECT log_disk_bytes FROM pg_stat_ivm_worker WHERE worker_type = 'decoder'", 0, 'nor is it counted')
	  if wait_until($node, "SELECT log_disk_bytes = 0 FROM pg_stat_ivm_worker WHERE worker_type = 'decoder'", 'nothing on disk');
}

is(join(' ', worker_pids($node, 'decoder')), $decoder, 'by the same decoder');
$session->quit;
$other->quit;
$node->stop;
done_testing();
