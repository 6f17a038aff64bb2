# What a process holds does not grow with the batches that it has done.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $node = new_node('memory', 'ivm.apply_workers = 1', 'ivm.batch_interval = 0');

$node->safe_psql('postgres', <<'EOS');
CREATE EXTENSION ivm_ext;
CREATE TABLE a (id int PRIMARY KEY, n int, v int);
INSERT INTO a SELECT i, i % 7, i FROM generate_series(1, 100) AS i;
-- one batch for each commit: waits for what it has written
CREATE PROCEDURE batches(number int) LANGUAGE plpgsql AS $$
DECLARE
	wanted int;
BEGIN
	FOR i IN 1 .. number LOOP
		UPDATE a SET v = v + 1 WHERE id = 1 RETURNING v INTO wanted;
		COMMIT;
		WHILE NOT EXISTS (SELECT FROM plain WHERE id = 1 AND v = wanted) LOOP
			COMMIT;
		END LOOP;
	END LOOP;
END
$$;
EOS
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW plain AS SELECT id, v FROM a');
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW grouped AS SELECT n, count(*), sum(v), max(v) FROM a GROUP BY n');
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW joined AS SELECT x.id, y.v FROM a AS x JOIN a AS y ON x.id = y.n');

# Bytes in each of our memory contexts of a process, all of one name together.
sub contexts
{
	my ($pid) = @_;
	my $from = -s $node->logfile;
	$node->safe_psql('postgres', "SELECT pg_log_backend_memory_contexts($pid)");
	$node->wait_for_log(qr/\[$pid\].*Grand total/, $from);
	my $log = slurp_file($node->logfile, $from);
	my %bytes;
	$bytes{$2} += $3 while $log =~ /\[$pid\][^\n]*level: (\d+); (ivm [^:]*|TopMemoryContext|CacheMemoryContext): \d+ total[^\n]*; (\d+) used/g;
	return \%bytes;
}

my ($apply) = worker_pids($node, 'apply worker');
my ($decoder) = worker_pids($node, 'decoder');
$node->safe_psql('postgres', 'CALL batches(500)');
sync($node);
my %before = map { $_ => contexts($_) } ($apply, $decoder);
cmp_ok(scalar(keys %{ $before{$apply} }), '>', 3, 'there is something to look at');
$node->safe_psql('postgres', 'CALL batches(2000)');
sync($node);
my %after = map { $_ => contexts($_) } ($apply, $decoder);
foreach my $pid ($apply, $decoder)
{
	my @grown = grep { $after{$pid}{$_} > ($before{$pid}{$_} // 0) + 32 * 1024 } sort keys %{ $after{$pid} };
	is(join(', ', map { "$_ by " . ($after{$pid}{$_} - ($before{$pid}{$_} // 0)) } @grown),
		'', 'nothing has grown in the ' . ($pid == $apply ? 'apply worker' : 'decoder'));
}
is_value($node, 'SELECT min(batches) >= 2000 FROM pg_stat_ivm', 't', 'with a batch for each commit');
are_exact($node, 'exact at the end');

$node->stop;
done_testing();
