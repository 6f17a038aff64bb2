# A view whose plan takes longer to compile than others may wait moves from process to
# process before it has ever been loaded: what it needs of the log is kept for it while the next one
# is busy, so that it is not rebuilt.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $columns = 900;
my $node = new_node('moves', 'ivm.batch_patience = 10ms');

$node->safe_psql('postgres', 'CREATE EXTENSION ivm_ext; CREATE TABLE wide (id int PRIMARY KEY, g int, '
	  . join(', ', map { "c$_ int2" } 1 .. $columns) . ')');
$node->safe_psql('postgres', 'INSERT INTO wide SELECT i, i % 3, ' . join(', ', map { "i + $_" } 1 .. $columns) . ' FROM generate_series(1, 40) i');
my @views = map { "v$_" } 1 .. 4;
foreach my $view (@views)
{
	$node->safe_psql('postgres', "CREATE INCREMENTAL VIEW $view AS SELECT g, " . join(', ', map { "sum(c$_) AS c$_" } 1 .. $columns) . ' FROM wide GROUP BY g');
	$node->safe_psql('postgres', 'UPDATE wide SET c1 = c1 + 1, g = (g + 1) % 3 WHERE id < 20');
	$node->safe_psql('postgres', 'UPDATE wide SET c2 = c2 + 1 WHERE id > 30');
}
sync($node);
like(slurp_file($node->logfile), qr/takes longer than others can wait/, 'a view has moved');
is(rebuilds($node), 0, 'none was rebuilt');
is_exact($node, $_, "$_ is exact") foreach @views;

$node->stop;
done_testing();
