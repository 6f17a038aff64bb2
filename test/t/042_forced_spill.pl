# Each kind of rows that collect goes to files as early as it can, while views
# of all shapes are maintained; then all kinds at once, with the oracle.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;
use MemoryTest;

my $node = new_node('forced_spill', 'ivm.refresh = rebuild', 'ivm.apply_workers = 2', 'ivm.memory_budget = 64MB', 'max_wal_size = 4GB');

make_sales($node, 'postgres', 3000);
make_join($node);
make_skew($node);
make_ten($node);
sync($node);

my @kinds = qw(log zset aggregate lookup output);
foreach my $kind (@kinds, join(', ', @kinds))
{
	set($node, 'ivm.debug_spill' => $kind);
	my $spills = $node->safe_psql('postgres', 'SELECT spills FROM pg_stat_ivm_memory');

	change_sales($node, 'postgres', 300);
	$node->safe_psql('postgres', 'CALL add_facts(2000)');
	$node->safe_psql('postgres', 'CALL add_skew(40)');
	$node->safe_psql('postgres', 'CALL add_product(30)');
	$node->safe_psql('postgres', 'UPDATE fact SET v = v + 1, b = (b + 1) % 1000 WHERE id % 10 = 3; DELETE FROM fact WHERE id % 50 = 7');
	$node->safe_psql('postgres', 'UPDATE dim_a SET g = (g + 1) % 100 WHERE id < 50; UPDATE fact SET v = v - 1 WHERE id < 100');
	$node->safe_psql('postgres', 'UPDATE skew_l SET v = v + 1; DELETE FROM product_r WHERE w % 3 = 0');
	are_exact($node, "exact, with files for: $kind");
	cmp_ok($node->safe_psql('postgres', 'SELECT spills FROM pg_stat_ivm_memory'), '>', $spills, "there were such: $kind");

	# a population, too
	$node->safe_psql('postgres', 'REFRESH MATERIALIZED VIEW listed; REFRESH MATERIALIZED VIEW joined_4; REFRESH MATERIALIZED VIEW product');
	are_exact($node, "exact after a REFRESH, with files for: $kind");
}
is_value($node, 'SELECT max(error_count) FROM pg_stat_ivm', 0, 'no view has failed');

# before the oracle, which has tables truncated and partitions dropped
is_alive($node, 'nobody was killed');
oracle($node, 'the oracle finds nothing, with files for all', ORACLE_RUNS => 2);

$node->stop;
done_testing();
