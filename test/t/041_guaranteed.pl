# A budget of just what the processes are guaranteed: everything goes, on files.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;
use MemoryTest;

# with no process for slow views, which would come and end
my $node = new_node('guaranteed', 'ivm.refresh = rebuild', 'ivm.apply_workers = 2', 'ivm.batch_patience = 0', 'max_wal_size = 4GB', 'logical_decoding_work_mem = 1MB');

make_join($node);
make_skew($node);
sync($node);
set_budget($node, guaranteed($node));

add($node, 'add_facts', 250_000, '250,000 rows through a join');
add($node, 'add_skew', 1_000, '1,000,000 joined rows of one key');
add($node, 'add_product', 350, '122,500 joined rows of one key, all in the view');

# there is room for a builder
$node->safe_psql('postgres', 'REFRESH MATERIALIZED VIEW joined');
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW made_within AS SELECT count(*) FROM dim_a');
are_exact($node, 'views are filled and refreshed as well');

is_value($node, 'SELECT spills > 0 AND peak_bytes <= budget_bytes FROM pg_stat_ivm_memory', 't',
	'rows have gone to files, and the highest that was held is within the budget');
is_value($node, 'SELECT max(error_count) FROM pg_stat_ivm', 0, 'no view has failed');
is_alive($node, 'nobody was killed');

$node->stop;
done_testing();
