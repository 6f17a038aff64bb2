# A worker that starts while a table is locked: the views of that table wait,
# all others go on.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $node = new_node('locked', 'ivm.apply_workers = 1');

$node->safe_psql('postgres', <<'EOS');
CREATE EXTENSION ivm_ext;
CREATE TABLE a (id int PRIMARY KEY, n int);
CREATE TABLE b (id int PRIMARY KEY, n int);
INSERT INTO a SELECT i, i % 7 FROM generate_series(1, 100) AS i;
INSERT INTO b SELECT i, i % 7 FROM generate_series(1, 100) AS i;
EOS
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW on_a AS SELECT n, count(*), sum(id) FROM a GROUP BY n');
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW on_b AS SELECT n, count(*), sum(id) FROM b GROUP BY n');
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW above_a AS SELECT sum(count) FROM on_a');
are_exact($node, 'exact at the beginning');

# Exact with a table locked: what reads it waits, what does not follows.
sub others_go_on
{
	my ($what) = @_;

	$node->safe_psql('postgres', q{INSERT INTO b SELECT max(id) + 1, 3 FROM b; DELETE FROM b WHERE id = (SELECT min(id) FROM b)});
	my ($ret, $stdout, $stderr) = $node->psql('postgres', q{SELECT ivm.sync('on_b', '30s')});
	is($ret, 0, "a view of another table follows $what") or diag($stderr);
	is_value($node, q{SELECT count(*) FROM ((SELECT n, count(*), sum(id) FROM b GROUP BY n) EXCEPT ALL TABLE on_b) AS d}, '0', 'exactly');
	($ret, $stdout, $stderr) = $node->psql('postgres', q{SELECT ivm.sync('on_a', '200ms')});
	like($stderr, qr/did not reach the current position/, 'who waits for the other one is told');
}

# ---- one worker starts ----

my ($apply) = worker_pids($node, 'apply worker');
$node->safe_psql('postgres', q{INSERT INTO a VALUES (1000, 1)});
my $session = connection($node);
$session->query_safe('BEGIN; INSERT INTO a VALUES (1001, 2); LOCK TABLE a IN ACCESS EXCLUSIVE MODE');
terminate_process($node, $apply);
wait_for_restart($node, 'apply worker', $apply);
others_go_on('when the worker was started again');
wait_until($node, q{SELECT bool_and(state = 'waiting for lock') FROM pg_stat_ivm WHERE relname = 'on_a'}, 'the view says what it waits for');
$session->query_safe('COMMIT');
are_exact($node, 'all are exact when the lock is gone');

# ---- the server starts, and the lock is a prepared transaction's ----

$session->query_safe(q{BEGIN; UPDATE a SET n = n + 1 WHERE id < 50; LOCK TABLE a IN ACCESS EXCLUSIVE MODE; PREPARE TRANSACTION 'p'});
$session->quit;
my $log = -s $node->logfile;
$node->restart;
others_go_on('when the server was started again');
$node->safe_psql('postgres', q{COMMIT PREPARED 'p'});
are_exact($node, 'all are exact when the transaction is committed');
is(rebuilds($node, $log), 0, 'without a rebuild');

$node->stop;
done_testing();
