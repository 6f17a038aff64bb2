# A function in a view's query that ends its process, without a crash: the view is known after
# three times, and the others go on.
#
# modules: ends

use strict;
use warnings;

use Cwd;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $module = getcwd() . '/test/modules/ends/ends';

foreach my $case ([ 'exit', 2 ], [ 'a fatal error', 3 ])
{
	my ($what, $value) = @$case;
	my $node = new_node("ends_$value", 'ivm.apply_workers = 1', 'autovacuum = off');

	$node->safe_psql('postgres', <<"EOS");
CREATE EXTENSION ivm_ext;
CREATE FUNCTION ends(int) RETURNS int IMMUTABLE LANGUAGE c AS '$module';
CREATE TABLE a (i int);
CREATE TABLE other (i int);
EOS
	$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW quick AS SELECT count(*) AS n FROM other');
	$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW culprit AS SELECT ends(i) AS i FROM a');
	$node->safe_psql('postgres', "INSERT INTO a VALUES ($value); INSERT INTO other VALUES (1)");
	wait_for_state($node, 'culprit', 'error');
	is_value($node, q{SELECT last_error FROM pg_stat_ivm WHERE relname = 'culprit'}, 'the process that maintained it died three times in a row', "$what: it is known");
	wait_until($node, q{SELECT state_detail ~ 'REFRESH MATERIALIZED VIEW tries again' FROM pg_stat_ivm WHERE relname = 'culprit'}, 'it is not tried again');
	$node->safe_psql('postgres', 'INSERT INTO other VALUES (2)');
	is_exact($node, 'quick', 'the other view goes on');
	$node->safe_psql('postgres', 'DELETE FROM a; REFRESH MATERIALIZED VIEW culprit');
	is_exact($node, 'culprit', 'REFRESH repairs it');
	$node->stop;
}
done_testing();
