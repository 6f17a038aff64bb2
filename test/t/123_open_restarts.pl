# kills: the decoder while it decodes a transaction that is open, and the server
# Ends of the decoder and of the server while large transactions are open: what was open then is decoded again,
# whole, and nothing of what was held is left.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $node = new_node('restarts', 'ivm.apply_workers = 1', 'logical_decoding_work_mem = 64kB', 'ivm.naptime = 100ms',
	'ivm.delta_log_memory = 256kB', 'log_temp_files = 0');

$node->safe_psql('postgres', <<'EOS');
CREATE EXTENSION ivm_ext;
CREATE TABLE t (id int, grp int, filler text);
CREATE INCREMENTAL VIEW v AS SELECT grp, count(*) AS n, sum(id) AS ids, sum(length(filler)) AS length FROM t GROUP BY grp;
EOS

my $id = 0;

sub rows
{
	my ($count, $grp) = @_;
	$id += $count;
	return "INSERT INTO t SELECT $id - g, $grp + g % 3, repeat('x', g % 200) FROM generate_series(1, $count) g";
}

# A new decoder in the place of the old one.
sub replaced
{
	my ($pid) = @_;
	wait_until($node, "SELECT count(*) = 1 FROM pg_stat_ivm_worker WHERE worker_type = 'decoder' AND state = 'running' AND pid <> $pid", 'another decoder');
	return;
}

my $session = connection($node);
my $other = connection($node);

# ---- the decoder ends, by order and by an error; one transaction is open, one prepared, one has a subtransaction rolled back before and one after ----

foreach my $how ('terminate', 'error')
{
	my ($pid) = worker_pids($node, 'decoder');

	$other->query_safe('BEGIN');
	streamed($node, $other, rows(3000, 4));
	$other->query_safe("PREPARE TRANSACTION 'p'");
	$session->query_safe('BEGIN');
	streamed($node, $session, rows(3000, 1), 'SAVEPOINT a', rows(3000, 2), 'SAVEPOINT b', rows(1000, 3), 'ROLLBACK TO b');
	if ($how eq 'terminate')
	{
		terminate_process($node, $pid);
	}
	else
	{
		set_points($node, 'decoder-in-open-transaction=error');
		$session->query_safe(rows(3000, 3));
		wal_end($node);
		wait_for_end($pid);
		set_points($node, '');
	}
	replaced($pid);
	$session->query_safe('ROLLBACK TO a');
	$session->query_safe(rows(3000, 3));
	$node->safe_psql('postgres', rows(10, 1));
	is_exact($node, 'v', "$how: a small transaction goes through");
	$session->query_safe('COMMIT');
	is_exact($node, 'v', "$how: exact when the open one has committed");
	$other->query_safe("COMMIT PREPARED 'p'");
	is_exact($node, 'v', "$how: and the prepared one");
}

# ---- the server is killed: what was open then has never happened, and is not told of ----

$session->query_safe('BEGIN');
streamed($node, $session, rows(3000, 1));
$other->query_safe('BEGIN');
streamed($node, $other, rows(3000, 4));
$other->query_safe("PREPARE TRANSACTION 'p'");
kill_server($node);
leave($session);
leave($other);
$node->start;
$node->safe_psql('postgres', rows(3000, 2));
is_exact($node, 'v', 'exact after a crash of the server');
$node->safe_psql('postgres', "COMMIT PREPARED 'p'");
is_exact($node, 'v', 'with what was prepared before');

# ---- the server is restarted while one is prepared ----

$session = connection($node);
$session->query_safe('BEGIN');
streamed($node, $session, rows(3000, 1), 'SAVEPOINT a', rows(3000, 1), 'ROLLBACK TO a', rows(3000, 1));
$session->query_safe("PREPARE TRANSACTION 'p'");
$session->quit;
$node->restart;
$node->safe_psql('postgres', rows(10, 2));
is_exact($node, 'v', 'exact after a restart');
$node->safe_psql('postgres', "COMMIT PREPARED 'p'");
is_exact($node, 'v', 'with what was prepared before the restart');

# ---- a transaction that is open, or rolled back, is left to rest; then nothing is left on disk ----

$session = connection($node);
$session->query_safe('BEGIN');
streamed($node, $session, rows(20000, 1));
wait_until($node, "SELECT log_disk_bytes > 0 AND log_memory_bytes = 0 FROM pg_stat_ivm_worker WHERE worker_type = 'decoder'",
	'what is open lies on disk when all is quiet');
pass('what is open lies on disk when all is quiet');
is(scalar(my @sets = glob($node->data_dir . '/base/pgsql_tmp/*.fileset')), 1, 'in one set of files');
$session->query_safe('ROLLBACK');
$session->quit;
wait_until($node, "SELECT log_disk_bytes = 0 FROM pg_stat_ivm_worker WHERE worker_type = 'decoder'", 'nothing is left on disk');
my @left;
eval { wait_until_true(sub { return !(@left = glob($node->data_dir . '/base/pgsql_tmp/*')) }, 'files to go') };
is(join(' ', @left), '', 'no file is left');
is(rebuilds($node), 0, 'nothing was rebuilt');

$node->stop;
done_testing();
