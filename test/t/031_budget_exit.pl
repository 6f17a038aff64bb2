# What a process holds of the budget, and the overdraft token, are free when it ends,
# however it ends; and a row that is larger than a process's minimum goes through.
#
# kills: an apply worker that holds memory and the token
# alone: what is held has to be free within a second

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);
use IvmTest;

my $MB = 1024 * 1024;

# minimums: workers 2 * 4 MB, decoder 1 MB, log 2 MB; the builder 4 MB more
my $node = new_node('budget_exit', 'ivm.apply_workers = 2', 'autovacuum = off', 'ivm.memory_budget = 16MB',
	'ivm.cache_memory = 0', 'ivm.naptime = 500ms', 'ivm.batch_patience = 0');

sub memory
{
	my ($column) = @_;
	return $node->safe_psql('postgres', "SELECT $column FROM pg_stat_ivm_memory");
}

# A row that has so many megabytes and is not made smaller by compression.
sub insert_large
{
	my ($table, $megabytes) = @_;
	$node->safe_psql('postgres', <<"EOS");
INSERT INTO $table SELECT (SELECT coalesce(max(id), 0) + 1 FROM $table), string_agg(md5(i::text), '') FROM generate_series(1, $megabytes * 32768) i
EOS
	return;
}

$node->safe_psql('postgres', 'CREATE EXTENSION ivm_ext');
foreach my $i (1 .. 4)
{
	$node->safe_psql('postgres', "CREATE TABLE t$i (id int, filler text)");
	$node->safe_psql('postgres', "ALTER TABLE t$i ALTER filler SET STORAGE EXTERNAL");
	$node->safe_psql('postgres', "CREATE INCREMENTAL VIEW v$i AS SELECT id, filler FROM t$i");
}
wait_until($node, q{SELECT count(*) = 0 FROM pg_stat_ivm_worker WHERE worker_type = 'builder'}, 'the builder has ended');

# ---- two rows, one token ----

set_points($node, 'apply-before=wait');
insert_large('t1', 20);
my $holder = wait_for_point($node, 'apply-before');
is(memory('overdraft_pid'), $holder, 'a row that is larger than what may be had takes the token');
cmp_ok(memory('free_bytes'), '<', 0, 'and exceeds the budget');

# of the others, some are the other worker's
insert_large($_, 20) foreach qw(t2 t3 t4);
# it looks now and then what else there is
my ($waiter) = grep { $_ != $holder } worker_pids($node, 'apply worker');
wait_until($node, "SELECT state = 'waiting for memory' FROM pg_stat_ivm_worker WHERE pid = $waiter", 'the other worker waits');
pass('the other worker waits for the token');
wait_until($node, 'SELECT waiters = 1 FROM pg_stat_ivm_memory', 'it is seen to wait');
cmp_ok($node->safe_psql('postgres', "SELECT granted_bytes FROM pg_stat_ivm_worker WHERE pid = $waiter"), '<=', 4 * $MB, 'it holds its minimum at most');
is_value($node, "SELECT count(*) FROM pg_locks WHERE pid = $waiter AND locktype = 'relation'", 0, 'and no lock');
is_value($node, "SELECT backend_xid IS NULL AND backend_xmin IS NULL FROM pg_stat_activity WHERE pid = $waiter", 't', 'nor a transaction');
set_points($node, '');
sync($node);
are_exact($node, 'both go through');
wait_until($node, 'SELECT overdraft_pid IS NULL AND waiters = 0 AND granted_bytes = guaranteed_bytes FROM pg_stat_ivm_memory', 'all is given back');
pass('nothing is held afterwards');
cmp_ok(memory('stalls'), '>', 0, 'the wait was counted');
unlike(slurp_file($node->logfile), qr/ERROR:  out of memory/, 'and is no news for the log');

# ---- ends ----

my @ends = (
	[ 'an error', 'error', sub { } ],
	[ 'the end of the process', 'fatal', sub { } ],
	[ 'kill -9', 'wait', sub { kill_process($node, $_[0]) } ]);
my $n = 1;
foreach my $end (@ends)
{
	my ($name, $action, $do) = @$end;
	my $start;

	set_points($node, 'apply-before=wait');
	insert_large("t$n", 20);
	my $pid = wait_for_point($node, 'apply-before');
	is(memory('overdraft_pid'), $pid, "the token is held: $name");
	cmp_ok(memory('granted_bytes - guaranteed_bytes'), '>', 8 * $MB, "and memory beyond the minimum: $name");
	if ($action eq 'wait')
	{
		forget_points($node);
		$do->($pid);
		$start = time;
	}
	else
	{
		# the process that is held goes on, and meets the next point
		set_points($node, "apply-after=$action");
		$start = time;
	}
	wait_until($node, "SELECT overdraft_pid IS DISTINCT FROM $pid AND NOT EXISTS (SELECT FROM pg_stat_ivm_worker WHERE pid = $pid AND granted_bytes > guaranteed_bytes) FROM pg_stat_ivm_memory", 'all is free');
	cmp_ok(time - $start, '<', 1, "both are free within a second: $name") if $action eq 'wait';
	pass("both are free: $name");
	set_points($node, '');
	sync($node);
	are_exact($node, "and the row is there at last: $name");
	wait_until($node, 'SELECT overdraft_pid IS NULL AND granted_bytes = guaranteed_bytes FROM pg_stat_ivm_memory', "nothing is held: $name");
	$n++;
}

$node->stop;
done_testing();
