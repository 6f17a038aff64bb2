# What most views of a database have left behind when they are dropped, and batches that fail: the tables that nobody
# reads any more are not decoded, and the processes are as small as before.  A table that
# somebody reads stays, whoever else lets go of it.
#
# kills: nothing

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $few = 10;
my $many = 200;
my $node = new_node('registry', 'autovacuum = off', 'ivm.apply_workers = 1', 'max_locks_per_transaction = 512');

sub run
{
	$node->safe_psql('postgres', join "\n", 'SET client_min_messages = error;', @_);
	return;
}

# kB that the kernel has given to a process and nobody shares, when it is at most so much, or after a while.
sub private_memory
{
	my ($pid, $limit) = @_;
	my $memory;

	eval {
		wait_until_true(
			sub {
				($memory) = slurp_file("/proc/$pid/smaps_rollup") =~ /^Anonymous:\s+(\d+) kB/m;
				return $memory <= $limit;
			},
			'memory is given back');
	};
	return $memory;
}

sub create_views
{
	run(map { "CREATE INCREMENTAL VIEW v$_ AS SELECT a, count(*), sum(b) FROM t$_ GROUP BY a;" } @_);
	sync($node);
	return;
}

# ---- most views go ----

run('CREATE EXTENSION ivm_ext;', map { "CREATE TABLE t$_ (id int PRIMARY KEY, a int, b int); INSERT INTO t$_ VALUES (1, 1, 1);" } 1 .. $many);
create_views(1 .. $few);
my ($worker) = worker_pids($node, 'apply worker');
my ($decoder) = worker_pids($node, 'decoder');
my $worker_before = contexts($node, $worker);
my $decoder_before = contexts($node, $decoder);
my $private_before = private_memory($worker, 0 + 'inf');

create_views($few + 1 .. $many);
cmp_ok(contexts($node, $decoder)->{'ivm registry'}, '>', $decoder_before->{'ivm registry'}, "$many tables are registered");
run(map { "DROP MATERIALIZED VIEW v$_;" } 2 .. $many);
run('UPDATE t1 SET b = b + 1;');
is_exact($node, 'v1', 'the last view is maintained');
is((worker_pids($node, 'apply worker'))[0], $worker, 'by the same process');

my $decoder_after = contexts($node, $decoder);
my @grown = grep { /^ivm / && $decoder_after->{$_} > ($decoder_before->{$_} // 0) } sort keys %$decoder_after;
is("@grown", '', 'the decoder has forgotten the tables that nobody reads');
my $worker_after = contexts($node, $worker);
cmp_ok($worker_after->{CacheMemoryContext}, '<=', 1.2 * 1024 * 1024 + $worker_before->{CacheMemoryContext},
	"the apply worker's caches hold no more than they may");
my $limit = $private_before + 1536;
SKIP:
{
	skip 'this server takes more memory', 1 if patience() > 1;
	my $private_after = private_memory($worker, $limit);
	cmp_ok($private_after, '<=', $limit, "and its memory has been given back ($private_before kB before, $private_after kB after)");
}

# ---- a table stays as long as anybody reads it ----

# Another worker, the same one, nobody, while the table is written to.
$node->append_conf('postgresql.conf', 'ivm.apply_workers = 3');
$node->restart;
my $writer = connection($node);
$writer->query_until(qr/begun/, <<'EOS');
\echo begun
DO $$ BEGIN LOOP UPDATE t2 SET b = b + 1; INSERT INTO t2 SELECT max(id) + 1, max(id) % 5, 1 FROM t2; COMMIT; PERFORM pg_sleep(0.001); END LOOP; END $$;
EOS
run('CREATE INCREMENTAL VIEW stays AS SELECT count(*), sum(b) FROM t2;');
foreach my $round (1 .. 8)
{
	run(map { "CREATE INCREMENTAL VIEW comes$_ AS SELECT a, count(*), sum(b) FROM t2 GROUP BY a;" } 1 .. 3);
	is_value($node, "SELECT string_agg(v || ' ' || missing || '/' || extra, ' ') FROM unnest(ARRAY['comes1', 'comes2', 'comes3', 'stays']) v, ivm.verify(v)",
		'comes1 0/0 comes2 0/0 comes3 0/0 stays 0/0', "exact in round $round") or last;
	run(map { "DROP MATERIALIZED VIEW comes$_;" } 1 .. 3);
	# now and then nobody is left
	run('DROP MATERIALIZED VIEW stays;', 'CREATE INCREMENTAL VIEW stays AS SELECT count(*), sum(b) FROM t2;') if $round % 3 == 0;
}
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'DO %'");
leave($writer);
are_exact($node, 'all are exact in the end');

# a view in state error is tried again when its table changes, though another view of the table is dropped
run('CREATE TABLE e (a int); INSERT INTO e VALUES (1);', 'CREATE INCREMENTAL VIEW divided AS SELECT 1 / a AS a FROM e;',
	'CREATE INCREMENTAL VIEW other AS SELECT a FROM e;', 'INSERT INTO e VALUES (0);');
wait_for_state($node, 'divided', 'error');
run('DROP MATERIALIZED VIEW other;', 'DELETE FROM e WHERE a = 0;');
wait_for_state($node, 'divided', 'active');
is_exact($node, 'divided', 'a view in state error comes back');

# ---- errors ----

# Bytes in use in the context that nothing is ever freed with.
sub top_used
{
	my @pids = worker_pids($node, 'apply worker');
	my $used = 0;
	foreach my $pid (@pids)
	{
		my $from = -s $node->logfile;
		$node->safe_psql('postgres', "SELECT pg_log_backend_memory_contexts($pid)");
		$node->wait_for_log(qr/\[$pid\].*Grand total/, $from);
		slurp_file($node->logfile, $from) =~ /\[$pid\][^\n]*; TopMemoryContext: [^\n]* (\d+) used/ or die 'no top context';
		$used += $1;
	}
	return $used;
}

sub fail_batches
{
	foreach (1 .. $_[0])
	{
		run('INSERT INTO e VALUES (0);');
		wait_for_state($node, 'divided', 'error');
		run('DELETE FROM e WHERE a = 0;', 'REFRESH INCREMENTAL VIEW divided;');
	}
	sync($node);
	return;
}
fail_batches(3);
my $top = top_used();
fail_batches(20);
cmp_ok(top_used(), '<', $top + 1500, 'batches that fail leave nothing behind');

# a process that ends on its way, and what its successor finds
my @workers = worker_pids($node, 'apply worker');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($_)") foreach @workers;
run('UPDATE t1 SET b = b + 1; UPDATE t2 SET b = b + 1 WHERE id = 1; INSERT INTO e VALUES (3);');
are_exact($node, 'exact with new workers');

$node->stop;
done_testing();
