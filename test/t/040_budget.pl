# Transactions whose rows do not fit in the budget, by a join into an aggregate, by
# a key that all rows have, and into ten views at once.  Looked at from outside
# every 10 ms: arenas and delta log stay within the budget, other sessions go on, results
# are exact, and the memory is given back.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;
use MemoryTest;

# with no process for slow views, which would come and end
my $node = new_node('budget', 'ivm.apply_workers = 2', 'ivm.batch_patience = 0', 'ivm.memory_budget = 64MB', 'max_wal_size = 4GB');

make_join($node);
make_skew($node);
sync($node);

add($node, 'add_facts', 600_000, '600,000 rows through a join');
add($node, 'add_skew', 1_500, '2,250,000 joined rows of one key');
add($node, 'add_product', 500, '250,000 joined rows of one key, all in the view');

make_ten($node);
add($node, 'add_facts', 150_000, '150,000 rows into ten views');

is_value($node, 'SELECT spills > 0 AND peak_bytes <= budget_bytes FROM pg_stat_ivm_memory', 't',
	'rows have gone to files, and the highest that was held is within the budget');
is_value($node, 'SELECT min(rebuilds) = 0 AND max(error_count) = 0 FROM pg_stat_ivm', 't', 'no view has failed');
is_alive($node, 'nobody was killed');

$node->stop;
done_testing();
