# Under load: no reader ever sees half a transaction in a view, and whoever is
# killed in the middle of it all, nothing is lost and nothing comes twice.
#
# Money moves between accounts, so that sums over all of them never change; the
# seed of what is killed when is printed.
#
# kills: decoder, apply workers, postmaster

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;
use Time::HiRes qw(time);

my $seed = $ENV{IVM_SEED} || int(rand(1_000_000));
srand($seed);
diag("IVM_SEED=$seed");

my $node = new_node('load', 'autovacuum_naptime = 1s', 'max_wal_size = 2GB');
$node->safe_psql('postgres', <<'EOS');
CREATE EXTENSION ivm_ext;
CREATE TABLE branch (id int PRIMARY KEY, region int NOT NULL);
CREATE TABLE account (id int PRIMARY KEY, branch int NOT NULL, balance numeric NOT NULL);
CREATE INDEX ON account (branch);
INSERT INTO branch SELECT i, i % 5 FROM generate_series(1, 20) i;
INSERT INTO account SELECT i, 1 + i % 20, 100 FROM generate_series(1, 1000) i;
INSERT INTO account SELECT i, 1 + i % 20, 0 FROM generate_series(1001, 2000) i;
EOS
$node->safe_psql('postgres', $_) foreach (
	'CREATE INCREMENTAL VIEW per_branch AS SELECT branch, count(*) AS n, sum(balance) AS total FROM account GROUP BY branch',
	'CREATE INCREMENTAL VIEW per_region AS SELECT b.region, count(*) AS n, sum(a.balance) AS total FROM account a JOIN branch b ON b.id = a.branch GROUP BY b.region',
	'CREATE INCREMENTAL VIEW listed AS SELECT a.id, b.region, a.balance FROM account a JOIN branch b ON b.id = a.branch',
	'CREATE INCREMENTAL VIEW balances AS SELECT balance FROM account WHERE balance <> 100',
	'CREATE INCREMENTAL VIEW grand AS SELECT count(*) AS n, sum(total) AS total FROM per_branch');

my $dir = $node->basedir;
append_to_file("$dir/transfer.sql", <<'EOS');
\set a random(1, 1000)
\set b random(1, 1000)
\set x random(1, 50)
BEGIN;
UPDATE account SET balance = balance - :x WHERE id = least(:a, :b);
UPDATE account SET balance = balance + :x WHERE id = greatest(:a, :b);
COMMIT;
EOS
# one account moves, an empty one is closed and opened elsewhere; a branch changes
# its region
append_to_file("$dir/move.sql", <<'EOS');
\set a random(1, 1000)
\set b random(1, 20)
BEGIN;
SAVEPOINT s;
UPDATE account SET balance = 0 WHERE id = :a;
ROLLBACK TO s;
UPDATE account SET branch = :b WHERE id = :a;
SELECT pg_advisory_xact_lock(:a);
DELETE FROM account WHERE id = 1000 + :a;
INSERT INTO account VALUES (1000 + :a, :b, 0);
UPDATE branch SET region = region % 5 + 1 WHERE id = :b;
COMMIT;
EOS

my @load;

# It goes on until it is stopped, or the server is killed.
sub start_load
{
	my $output = '';

	push @load,
	  IPC::Run::start([ 'pgbench', '-n', '-c', 3, '-T', 600, '--max-tries=100',
			'-f', "$dir/transfer.sql\@9", '-f', "$dir/move.sql\@1",
			'-h', $node->host, '-p', $node->port, 'postgres' ], '>', \$output, '2>', \$output);
	return;
}

sub stop_load
{
	$_->kill_kill foreach splice @load;
	return;
}

# What of these sums is not as it always is: a text, empty if all is well.
my $sums = q{
	SELECT concat_ws(', ',
		(SELECT 'per_branch ' || sum(n) || ' ' || sum(total) FROM per_branch HAVING (sum(n), sum(total)) <> (2000, 100000)),
		(SELECT 'per_region ' || sum(n) || ' ' || sum(total) FROM per_region HAVING (sum(n), sum(total)) <> (2000, 100000)),
		(SELECT 'listed ' || count(*) || ' ' || sum(balance) FROM listed HAVING (count(*), sum(balance)) <> (2000, 100000)),
		(SELECT 'balances ' || sum(balance - 100) FROM balances HAVING sum(balance - 100) <> -100000),
		(SELECT 'grand ' || total FROM grand WHERE total <> 100000))};

my $log = -s $node->logfile;

foreach my $commit ('on', 'off')
{
	$node->safe_psql('postgres', "ALTER SYSTEM SET synchronous_commit = $commit");
	reload($node);
	my %seen;

	start_load();
	foreach my $look (1 .. 150)
	{
		my $wrong = $node->safe_psql('postgres', $sums);
		$seen{$wrong}++ if $wrong ne '';
		$node->safe_psql('postgres', 'VACUUM account, per_region, listed') if $look % 50 == 25;
	}
	wait_until($node, 'SELECT min(batches) > 20 FROM pg_stat_ivm', 'it was not applied in one piece');
	stop_load();
	is(join("\n", sort keys %seen), '', "no reader saw half a transaction, synchronous_commit = $commit");
	are_exact($node, "exact after the load, synchronous_commit = $commit");
}

foreach my $victim ('decoder', 'apply worker', 'postmaster', 'decoder', 'postmaster')
{
	my $batches = int(rand(200));

	$node->safe_psql('postgres', 'SELECT ivm.stat_reset()');
	start_load();
	wait_until($node, "SELECT max(batches) >= $batches FROM pg_stat_ivm", "$batches batches");
	if ($victim eq 'postmaster')
	{
		kill_server($node);
		$node->start;
	}
	else
	{
		my @pids = worker_pids($node, $victim);
		kill_process($node, $pids[ int(rand(@pids)) ]);
	}
	stop_load();
	is_value($node, $sums, '', "no half transaction is left when the $victim was killed after $batches batches");
	are_exact($node, 'and all is exact');
}
is(rebuilds($node, $log), 0, 'no view had to be rebuilt');

$node->stop;
done_testing();
