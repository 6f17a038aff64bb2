# A transaction that drops, alters or refreshes a view and stays open stops that
# view, and neither another one nor the process that has them all; also while
# positions of idle views are stored, as after each 16 MB of WAL of something else.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $node = new_node('open', 'ivm.apply_workers = 1', 'ivm.naptime = 100ms', 'autovacuum = off');

$node->safe_psql('postgres', 'CREATE EXTENSION ivm_ext; CREATE TABLE a (i int); CREATE TABLE filler (t text)');
$node->safe_psql('postgres', "CREATE INCREMENTAL VIEW $_ AS SELECT count(*) AS n FROM a WHERE i > 0") foreach qw(gone altered refreshed other);
$node->safe_psql('postgres', 'SELECT ivm.sync()');

my $pid = $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_ivm_worker WHERE worker_type = 'apply worker'});
my $rows = 0;
my $offset = -s $node->logfile;

# WAL that concerns no view, until the position of a view that nobody has in hand is stored.
sub position_is_stored
{
	my ($view) = @_;
	my $before = $node->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()');

	$node->safe_psql('postgres', 'INSERT INTO filler SELECT repeat(md5(g::text), 30) FROM generate_series(1, 25000) g');
	wait_until($node, "SELECT lsn > '$before' FROM ivm.applied WHERE relid = '$view'::regclass", "the position of $view is stored");
	pass("the position of $view is stored");
	return;
}

foreach my $statement (
	'DROP MATERIALIZED VIEW gone',
	'ALTER MATERIALIZED VIEW altered SET ACCESS METHOD heap',
	'REFRESH MATERIALIZED VIEW refreshed')
{
	foreach my $end ('ROLLBACK', 'COMMIT')
	{
		my $session = connection($node);

		$session->query_safe("BEGIN; $statement");
		position_is_stored('other');
		$node->safe_psql('postgres', 'INSERT INTO a SELECT 1 FROM generate_series(1, 10)');
		$rows += 10;
		$node->safe_psql('postgres', q{SELECT ivm.sync('other', '20 s')});
		is_value($node, 'SELECT n FROM other', $rows, "the other view follows: $statement, before $end");
		is_value($node, qq{SELECT count(*) FROM pg_locks WHERE pid = $pid AND NOT granted}, 0, 'and nobody waits');
		$session->query_safe($end);
		$session->quit;
		position_is_stored('other');
	}
}
$node->safe_psql('postgres', q{SELECT ivm.sync()});
is_value($node, 'SELECT n FROM refreshed', $rows, 'what was refreshed is maintained again');
is_value($node, q{SELECT pid FROM pg_stat_ivm_worker WHERE worker_type = 'apply worker'}, $pid, 'by the process that it was');
unlike(slurp_file($node->logfile, $offset), qr/changed concurrently/, 'no conflict in the log');

$node->stop;
done_testing();
