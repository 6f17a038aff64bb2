# What an operator reads of the old state of its input is new minus delta.  If the delta
# does not have the images that the input gives its rows in, ivm.debug_check_old says so, and the
# view is rebuilt; without it the view goes on, and is wrong.
#
# says: was there -1 times before the batch

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $node = new_node('old_rows', 'ivm.apply_workers = 1', 'ivm.debug_check_old = off', 'autovacuum = off');

sub query { return $node->safe_psql('postgres', $_[0]); }

# What it gives it never gives again.  A materialized CTE has it computed below the joins, and nobody shows it.
query(<<'EOS');
CREATE EXTENSION ivm_ext;
CREATE FUNCTION fickle(x int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	PERFORM set_config('test.calls', (coalesce(nullif(current_setting('test.calls', true), ''), '0')::int + 1)::text, false);
	RETURN 1000 * x + current_setting('test.calls')::int;
END $$;
CREATE TABLE a (k int PRIMARY KEY, x int);
CREATE TABLE b (k int PRIMARY KEY, y int);
INSERT INTO a SELECT i, i FROM generate_series(1, 5) i;
INSERT INTO b SELECT i, i FROM generate_series(1, 5) i;
EOS
sub create_view
{
	my ($name, $function) = @_;
	query(<<"EOS");
CREATE INCREMENTAL VIEW $name AS
WITH fa AS MATERIALIZED (SELECT k, $function(x) AS f FROM a), fb AS MATERIALIZED (SELECT k, $function(y) AS f FROM b)
SELECT fa.k FROM fa JOIN fb USING (k) WHERE fa.f + fb.f IS NOT NULL
EOS
	return;
}
create_view('of_fickle', 'fickle');
create_view('of_steady', 'abs');

# equal rows come and go, on both sides of the join and in one batch
my @changes = (
	'UPDATE a SET x = 7; UPDATE b SET y = 7',
	'UPDATE a SET x = 8 WHERE k < 3; UPDATE b SET y = 8 WHERE k > 2; DELETE FROM a WHERE k = 5; INSERT INTO a VALUES (5, 8)');
my $begin = -s $node->logfile;

foreach my $change (@changes)
{
	query("BEGIN; $change; COMMIT");
	sync($node);
}
unlike(slurp_file($node->logfile, $begin), qr/times before the batch/, 'nobody looks unless asked to');
are_exact($node, 'both views are exact by luck');

$node->safe_psql('postgres', 'ALTER SYSTEM SET ivm.debug_check_old = on');
reload($node);
foreach my $change (@changes)
{
	query("BEGIN; $change; COMMIT");
	sync($node);
}
like(slurp_file($node->logfile, $begin), qr/a row of node \d+ \(Scan\) was there -1 times before the batch/,
	'a row that was never there is found');
is(query('SELECT string_agg(relname, NULL) FROM pg_stat_ivm WHERE rebuilds > 0'), 'of_fickle', 'and its view is rebuilt');
are_exact($node, 'both views are exact again');
$node->stop;
done_testing();
