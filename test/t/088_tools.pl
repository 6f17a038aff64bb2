# What other programs do with a database that has incremental views: dumps in
# every format and by sections, dumps of all databases, copies of databases, and
# logical replication of all tables.
#
# kills: nothing

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $node = new_node('source');
my $other = new_node('target');
my $dir = $node->basedir;

make_sales($node, 'postgres', 3000);
$node->safe_psql('postgres', <<'EOS');
CREATE TABLE wide (id int PRIMARY KEY, k int, pad char(200) DEFAULT '');
INSERT INTO wide SELECT i, i % 700 FROM generate_series(1, 6000) i;
EOS
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW shared AS SELECT w.id, s.note FROM wide w JOIN sale s ON s.amount = w.k');

# A test: the views of a database are there, and maintained.
sub is_restored
{
	my ($server, $dbname, $how) = @_;

	wait_until($server, q{SELECT count(*) = 7 AND bool_and(state = 'active') FROM pg_stat_ivm}, "the views are active: $how", $dbname);
	change_sales($server, $dbname);
	are_exact($server, "the views are maintained: $how", $dbname);
	return;
}

sub target
{
	$node->safe_psql('postgres', 'DROP DATABASE IF EXISTS target');
	$node->safe_psql('postgres', 'CREATE DATABASE target');
	return;
}

# ---- formats ----

foreach my $format ('custom', 'directory', 'tar')
{
	my @jobs = $format eq 'tar' ? () : ('--jobs=2');

	target();
	$node->command_ok([ 'pg_dump', "--format=$format", '-f', "$dir/$format", $format eq 'directory' ? '--jobs=2' : (), 'postgres' ], "pg_dump as $format");
	my ($list) = run_command([ 'pg_restore', '-l', "$dir/$format" ]);
	unlike($list, qr/ivm_state|\bivm\b/, "nothing of ours is in it: $format");
	$node->command_ok([ 'pg_restore', @jobs, '--exit-on-error', '-d', 'target', "$dir/$format" ], 'pg_restore');
	is_restored($node, 'target', $format);
}

# ---- sections, and schema and data apart ----

foreach my $parts ([ '--section=pre-data', '--section=data', '--section=post-data' ], [ '--schema-only', '--data-only' ])
{
	target();
	foreach my $part (@$parts)
	{
		my $file = "$dir/part";
		$node->command_ok([ 'pg_dump', $part, '-f', $file, 'postgres' ], "pg_dump $part");
		unlike(slurp_file($file), qr/ivm_state|COPY ivm/, "nothing of ours is in it: $part");
		$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', 'target', '-f', $file ], "restored: $part");
	}
	# only a whole dump refreshes
	if ($parts->[0] eq '--schema-only')
	{
		is_value($node, q{SELECT DISTINCT state FROM pg_stat_ivm}, 'unpopulated', 'the views of a schema have no data', 'target');
		$node->safe_psql('target', "REFRESH MATERIALIZED VIEW $_") foreach (sales_views(), 'shared');
	}
	is_restored($node, 'target', "@$parts");
}
my ($binary) = run_command([ 'pg_dump', '--binary-upgrade', '--schema-only', '-d', $node->connstr('postgres') ]);
like($binary, qr/ALTER EXTENSION ivm_ext ADD MATERIALIZED VIEW ivm_state\./, 'for pg_upgrade state tables are members of the extension');

# ---- a copy, while its source is at work ----

$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE target');
is_restored($node, 'copy', 'a copy');
is_restored($node, 'target', 'what was copied');
$node->safe_psql('postgres', 'DROP DATABASE copy');
$node->safe_psql('postgres', 'DROP DATABASE target');

# ---- all databases ----

make_sales($node, 'template1');
$node->command_ok([ 'pg_dumpall', '-f', "$dir/all" ], 'pg_dumpall');
unlike(slurp_file("$dir/all"), qr/ivm_state|COPY ivm/, 'nothing of ours is in it');
# a role of that name is there
$other->command_ok([ 'psql', '-X', '-q', '-d', 'postgres', '-f', "$dir/all" ], 'restored');
is_restored($other, 'postgres', 'pg_dumpall');
$other->safe_psql('postgres', 'SELECT ivm.sync()');
$other->safe_psql('template1', 'DROP EXTENSION ivm_ext CASCADE; DROP TABLE sale, region');
$node->safe_psql('template1', 'DROP EXTENSION ivm_ext CASCADE; DROP TABLE sale, region');

# ---- logical replication of all tables ----

# a subscriber with views of its own over what it receives, one with the same
# names and numbers perhaps, and state tables of its own
$other->safe_psql('postgres', 'DROP EXTENSION ivm_ext CASCADE; TRUNCATE sale, region, wide');
$other->safe_psql('postgres', 'CREATE EXTENSION ivm_ext');
$other->safe_psql('postgres', $_) foreach (
	'CREATE INCREMENTAL VIEW received AS SELECT region, count(*) AS n, sum(amount) AS total FROM sale GROUP BY region',
	'CREATE INCREMENTAL VIEW joined AS SELECT s.id, w.k FROM sale s JOIN wide w ON w.k = s.amount');
$node->safe_psql('postgres', 'CREATE PUBLICATION everything FOR ALL TABLES');
is_value($node, q{SELECT string_agg(tablename, ' ' ORDER BY tablename) FROM pg_publication_tables WHERE schemaname ~ '^ivm' OR tablename ~ 'per_'}, '',
	'all tables are not those of the extension, nor views');
my ($ret, $out, $err) = $node->psql('postgres', 'CREATE PUBLICATION ours FOR TABLE ivm.view');
like($err, qr/cannot add relation/, 'they cannot be published at all');
$other->safe_psql('postgres', "CREATE SUBSCRIPTION everything CONNECTION '" . $node->connstr . " dbname=postgres application_name=everything' PUBLICATION everything");
$other->wait_for_subscription_sync($node, 'everything');
change_sales($node);
$node->safe_psql('postgres', 'UPDATE wide SET k = k + 1 WHERE id % 9 = 0; CREATE INCREMENTAL VIEW later AS SELECT k, count(*) FROM wide GROUP BY k');
change_sales($node);
$node->wait_for_catchup('everything');
is($other->safe_psql('postgres', 'SELECT count(*), sum(amount) FROM sale'), $node->safe_psql('postgres', 'SELECT count(*), sum(amount) FROM sale'), 'the tables are replicated');
are_exact($other, 'and the views over them are maintained');
are_exact($node, 'as are those of the publisher');
is_value($other, q{SELECT count(*) FROM pg_stat_subscription WHERE pid IS NOT NULL AND subname = 'everything'}, 1, 'the subscription goes on');
$other->safe_psql('postgres', 'DROP SUBSCRIPTION everything');

$_->stop foreach ($node, $other);
done_testing();
