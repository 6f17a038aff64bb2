# One in a hundred allocations in arenas fails.  Nothing is lost by that, and nobody
# dies of it.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;
use MemoryTest;

my $node = new_node('alloc_failures', 'ivm.apply_workers = 2', 'ivm.memory_budget = 64MB', 'max_wal_size = 4GB');

make_sales($node, 'postgres', 3000);
make_join($node);
make_skew($node);
make_ten($node);
sync($node);
my @pids = (worker_pids($node, 'decoder'), worker_pids($node, 'apply worker'), worker_pids($node, 'launcher'));

set($node, 'ivm.debug_alloc_failures' => 0.01);
foreach my $round (1 .. 5)
{
	change_sales($node, 'postgres', 500) foreach 1 .. 10;
	$node->safe_psql('postgres', 'CALL add_facts(5000)');
	$node->safe_psql('postgres', 'UPDATE fact SET v = v + 1, b = (b + 1) % 1000 WHERE id % 10 = 3; UPDATE dim_a SET g = (g + 1) % 100 WHERE id < 50');
	$node->safe_psql('postgres', 'CALL add_skew(40); CALL add_product(30); DELETE FROM product_r WHERE w % 3 = 0');
	are_exact($node, "exact in spite of it, round $round");
}
oracle($node, 'the oracle finds nothing', ORACLE_RUNS => 1);

set($node, 'ivm.debug_alloc_failures' => 0);
change_sales($node);
are_exact($node, 'exact when it is over');
# one for slow views may have come meanwhile
my %now = map { $_ => 1 } worker_pids($node, 'decoder'), worker_pids($node, 'apply worker'), worker_pids($node, 'launcher');
is(join(' ', grep { !$now{$_} } @pids), '', 'all processes are still there');

$node->stop;
done_testing();
