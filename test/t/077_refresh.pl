# REFRESH of a view that is maintained waits for what was committed before, and
# does no work of its own; in a block it shows what the block has written; of a
# view that is not maintained it repairs.  And what ivm.materialized_views makes of
# plain statements.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $node = new_node('refresh');
make_sales($node);
$node->safe_psql('postgres', <<'EOS');
CREATE TABLE other (a int);
CREATE UNIQUE INDEX ON per_region (region);
CREATE FUNCTION builds(v regclass) RETURNS text LANGUAGE sql AS
	$$ SELECT xmin::text || ' ' || ctid FROM ivm.view WHERE relid = v $$;
EOS
are_exact($node, 'exact at the beginning');

# A builder that did anything has written the view's row.
my $row = $node->safe_psql('postgres', q{SELECT builds('per_region')});

sub is_untouched
{
	my ($name) = @_;
	return is_value($node, q{SELECT builds('per_region') || ' ' || state::text FROM ivm.view WHERE relid = 'per_region'::regclass}, "$row a", $name);
}

# ---- alone ----

foreach my $statement ('REFRESH MATERIALIZED VIEW per_region', 'REFRESH MATERIALIZED VIEW CONCURRENTLY per_region')
{
	my $missed = 0;
	foreach (1 .. 20)
	{
		$node->safe_psql('postgres', 'INSERT INTO sale SELECT max(id) + 1, 999, 1 FROM sale');
		$node->safe_psql('postgres', $statement);
		$missed++
		  if $node->safe_psql('postgres',
			'SELECT (SELECT count(*) FROM sale WHERE region = 999) IS DISTINCT FROM (SELECT n FROM per_region WHERE region = 999)') eq 't';
	}
	is($missed, 0, "after $statement every earlier commit is in the view");
}
is_untouched('and it was not rebuilt for that');

# it waits, and a cancel ends that
set_points($node, 'apply-before=wait');
$node->safe_psql('postgres', 'INSERT INTO sale SELECT max(id) + 1, 1, 1 FROM sale');
wait_for_point($node, 'apply-before');
my ($ret, $stdout, $stderr) =
  $node->psql('postgres', q{SET statement_timeout = '300ms'; REFRESH MATERIALIZED VIEW per_region});
like($stderr, qr/canceling statement due to statement timeout/, 'a refresh waits for the process that has the view');
my $session = connection($node);
my $started = time;
$session->query_safe('BEGIN; SELECT 1 FROM per_region LIMIT 1; INSERT INTO other VALUES (1)');
$session->query_safe('SET statement_timeout = 0');
$session->{stdin} .= "REFRESH MATERIALIZED VIEW per_region;\n";
$session->{run}->pump_nb;
set_points($node, '');
is($session->query_safe('SELECT 1'), '1', 'so does one in a block that has written to something else');
$session->query_safe('COMMIT');
is_untouched('which rebuilds nothing either');

# ---- in blocks ----

$node->safe_psql('postgres', 'BEGIN; REFRESH MATERIALIZED VIEW per_region; COMMIT');
$node->safe_psql('postgres', 'BEGIN; REFRESH MATERIALIZED VIEW CONCURRENTLY per_region; COMMIT');
$node->safe_psql('postgres', 'BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM sale; REFRESH MATERIALIZED VIEW per_region; COMMIT');
$node->safe_psql('postgres', 'DO $$ BEGIN REFRESH MATERIALIZED VIEW per_region; END $$');
is_untouched('a block that has written nothing rebuilds nothing');

# a block sees in the view what others have committed
$node->safe_psql('postgres', 'INSERT INTO sale SELECT max(id) + 1, 998, 5 FROM sale');
is_value($node, 'BEGIN; REFRESH MATERIALIZED VIEW per_region; SELECT total FROM per_region WHERE region = 998; COMMIT', '5',
	'in a block, too, earlier commits are in the view');

foreach my $concurrently ('', 'CONCURRENTLY ')
{
	is($session->query_safe("BEGIN; INSERT INTO sale SELECT max(id) + 1, 777, 7 FROM sale; REFRESH MATERIALIZED VIEW ${concurrently}per_region; SELECT total FROM per_region WHERE region = 777"),
		'7', "REFRESH ${concurrently}shows a block what it has written");
	$session->query_safe('ROLLBACK');
	is_untouched('nothing is left of that after a rollback');
}
is($session->query_safe("BEGIN; INSERT INTO sale SELECT max(id) + 1, 777, 7, 'of a block' FROM sale; REFRESH MATERIALIZED VIEW CONCURRENTLY notes; SELECT amount FROM notes WHERE note = 'of a block'"),
	'7', 'also of a view without a unique index');
$session->query_safe('ROLLBACK');
is($session->query_safe('BEGIN; SAVEPOINT s; INSERT INTO sale SELECT max(id) + 1, 777, 7 FROM sale; REFRESH MATERIALIZED VIEW per_region; SELECT total FROM per_region WHERE region = 777'),
	'7', 'a subtransaction, too');
is($session->query_safe('ROLLBACK TO s; REFRESH MATERIALIZED VIEW per_region; SELECT count(*) FROM per_region WHERE region = 777'),
	'0', 'and the block does not see it any more when it is rolled back');
$session->query_safe('COMMIT');
is_untouched('and nothing is left of that either');

is($session->query_safe('BEGIN; INSERT INTO sale SELECT max(id) + 1, 777, 7 FROM sale; REFRESH MATERIALIZED VIEW per_region; INSERT INTO sale SELECT max(id) + 1, 777, 8 FROM sale; REFRESH MATERIALIZED VIEW per_region; SELECT total FROM per_region WHERE region = 777'),
	'15', 'twice in one block');
$session->query_safe('COMMIT');
are_exact($node, 'exact after the commit');
$node->safe_psql('postgres', 'DELETE FROM sale WHERE region = 777');
are_exact($node, 'and maintained');

# what the block has made of the query, it sees as well
$node->safe_psql('postgres', <<'EOS');
CREATE FUNCTION twice(numeric) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2';
CREATE VIEW doubled AS SELECT region, twice(amount) AS d FROM sale;
EOS
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW sums AS SELECT count(*) AS n, sum(d) AS d FROM doubled');
is_value($node, 'BEGIN; CREATE OR REPLACE VIEW doubled AS SELECT region, 3.0 AS d FROM sale; REFRESH MATERIALIZED VIEW sums; SELECT d = 3 * n FROM sums; ROLLBACK',
	't', 'a view below that the block has replaced');
is_value($node, q{BEGIN; CREATE OR REPLACE FUNCTION twice(numeric) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 0 + 4'; REFRESH MATERIALIZED VIEW sums; SELECT d = 4 * n FROM sums; ROLLBACK},
	't', 'and a function');
are_exact($node, 'exact after the rollbacks');

# a block that stands in the way of the view's process does not wait for itself
foreach my $lock ('LOCK TABLE sale IN ACCESS EXCLUSIVE MODE', 'CREATE INDEX ON per_region (n)')
{
	($ret, $stdout, $stderr) = $node->psql('postgres',
		"INSERT INTO sale SELECT max(id) + 1, 1, 1 FROM sale; SET statement_timeout = '60s'; BEGIN; $lock; REFRESH MATERIALIZED VIEW per_region; COMMIT");
	is("$ret $stderr", '0 ', "after $lock a block does not wait for itself");
}
# nor does one that keeps what the view reads, or its memory, from being written
my $state = $node->safe_psql('postgres', q{SELECT min(oid)::regclass FROM pg_class WHERE relname ~ ('^v' || 'per_region'::regclass::oid || '_')});
foreach my $lock ('CREATE INDEX ON per_region (n)', "REINDEX TABLE $state")
{
	my $blocker = connection($node);

	$blocker->query_safe("SET statement_timeout = '60s'; BEGIN; $lock");
	$node->safe_psql('postgres', 'INSERT INTO sale SELECT max(id) + 1, 1, 1 FROM sale');
	$blocker->query_safe('SAVEPOINT s');
	$blocker->query(q{SELECT * FROM ivm.verify('on_view')});
	like($blocker->{stderr}, qr/locked.*in this transaction.*HINT:  Commit first/s, "after $lock a view that reads it is not verified in the block");
	$blocker->{stderr} = '';
	$blocker->query_safe('ROLLBACK TO s');
	$blocker->query_safe('REFRESH MATERIALIZED VIEW on_view');
	$blocker->query_safe('COMMIT');
	$blocker->quit;
}
are_exact($node, 'exact after that');

# ---- rebuilding all the same ----

sub seen_builds
{
	return $node->safe_psql('postgres', q{SELECT builds('per_region')});
}
$row = seen_builds();
$node->safe_psql('postgres', 'REFRESH INCREMENTAL VIEW per_region');
isnt(seen_builds(), $row, 'REFRESH INCREMENTAL VIEW rebuilds');
$row = seen_builds();
$node->safe_psql('postgres', 'SET ivm.refresh = rebuild; REFRESH MATERIALIZED VIEW per_region');
isnt(seen_builds(), $row, 'so does REFRESH MATERIALIZED VIEW with ivm.refresh = rebuild');
$row = seen_builds();
$node->safe_psql('postgres', 'REFRESH MATERIALIZED VIEW per_region WITH NO DATA');
is_value($node, q{SELECT state FROM pg_stat_ivm WHERE relid = 'per_region'::regclass}, 'unpopulated', 'WITH NO DATA empties it');
$node->safe_psql('postgres', 'REFRESH MATERIALIZED VIEW per_region');
$node->safe_psql('postgres', 'REFRESH MATERIALIZED VIEW on_view');
are_exact($node, 'and the next one fills it');
($ret, $stdout, $stderr) = $node->psql('postgres', 'BEGIN READ ONLY; REFRESH MATERIALIZED VIEW per_region');
like($stderr, qr/cannot execute REFRESH MATERIALIZED VIEW in a read-only transaction/, 'not in a read-only transaction');

# ---- a view that is not healthy ----

$node->safe_psql('postgres', 'CREATE TABLE d (id int, v int); INSERT INTO d VALUES (1, 1)');
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW quotients AS SELECT id, 1 / v AS q FROM d');
$node->safe_psql('postgres', 'INSERT INTO d VALUES (2, 0)');
wait_for_state($node, 'quotients', 'error');
($ret, $stdout, $stderr) = $node->psql('postgres', 'REFRESH MATERIALIZED VIEW quotients');
like($stderr, qr/division by zero/, 'REFRESH of a broken view tries it, and says what is wrong');
$node->safe_psql('postgres', 'DELETE FROM d WHERE v = 0');
$node->safe_psql('postgres', 'REFRESH MATERIALIZED VIEW quotients');
is_value($node, q{SELECT state FROM pg_stat_ivm WHERE relid = 'quotients'::regclass}, 'active', 'and repairs it when it can');
$node->safe_psql('postgres', q{DO $$ DECLARE i regclass; BEGIN FOR i IN SELECT indexrelid FROM pg_index WHERE indrelid = 'listed'::regclass LOOP EXECUTE 'DROP INDEX ' || i; END LOOP; END $$});
$node->safe_psql('postgres', 'REFRESH MATERIALIZED VIEW listed');
is_value($node, q{SELECT count(*) FROM pg_index WHERE indrelid = 'listed'::regclass}, '1', 'one that lost the index that its rows are found by gets another');

# ---- whose it is ----

$node->safe_psql('postgres', 'CREATE ROLE somebody; GRANT SELECT ON per_region TO somebody');
foreach my $refresh ('sync', 'rebuild')
{
	($ret, $stdout, $stderr) = $node->psql('postgres', "SET ivm.refresh = $refresh; SET ROLE somebody; REFRESH MATERIALIZED VIEW per_region");
	like($stderr, qr/must be owner of materialized view per_region/, "$refresh: only for the owner");
}

# ---- ivm.materialized_views ----

sub method_of
{
	my ($relation) = @_;
	return $node->safe_psql('postgres', "SELECT amname FROM pg_class c JOIN pg_am a ON a.oid = relam WHERE c.oid = '$relation'::regclass");
}
$node->safe_psql('postgres', 'ALTER DATABASE postgres SET ivm.materialized_views = on');
$node->safe_psql('postgres', 'CREATE MATERIALIZED VIEW m1 AS SELECT region, count(*) AS n FROM sale GROUP BY region');
is(method_of('m1'), 'incremental', 'a plain statement makes an incremental view');
$node->safe_psql('postgres', 'BEGIN; CREATE MATERIALIZED VIEW m2 AS SELECT region, count(*) AS n FROM sale GROUP BY region; COMMIT');
is(method_of('m2'), 'incremental', 'in a block');
$node->safe_psql('postgres', 'DO $$ BEGIN CREATE MATERIALIZED VIEW IF NOT EXISTS m3 AS SELECT region, count(*) AS n FROM sale GROUP BY region; END $$');
is(method_of('m3'), 'incremental', 'in a function, IF NOT EXISTS');
$node->safe_psql('postgres', 'CREATE MATERIALIZED VIEW m4 AS SELECT region, count(*) AS n FROM sale GROUP BY region WITH NO DATA');
is(method_of('m4'), 'incremental', 'WITH NO DATA');
$node->safe_psql('postgres', 'REFRESH MATERIALIZED VIEW m4');
are_exact($node, 'they are maintained');
($ret, $stdout, $stderr) = $node->psql('postgres', 'CREATE MATERIALIZED VIEW IF NOT EXISTS m1 AS SELECT 1');
like($stderr, qr/NOTICE:  relation "m1" already exists, skipping/, 'one that is there is left');
($ret, $stdout, $stderr) = $node->psql('postgres', 'CREATE MATERIALIZED VIEW p1 AS SELECT now() AS t, count(*) FROM sale');
is($ret, 0, 'what cannot be maintained is made all the same');
like($stderr, qr/NOTICE:  materialized view "p1" will not be maintained incrementally.*DETAIL:.*now\(\)/s, 'and one is told why');
is(method_of('p1'), 'heap', 'as an ordinary materialized view');
($ret, $stdout, $stderr) = $node->psql('postgres', 'BEGIN; CREATE TEMP TABLE tt (a int); INSERT INTO other VALUES (1); CREATE MATERIALIZED VIEW p2 AS SELECT random() AS r FROM other; CREATE MATERIALIZED VIEW p3 AS SELECT count(*) FROM other; COMMIT');
is(method_of('p2') . ' ' . method_of('p3'), 'heap incremental', 'also within a block, which goes on');
$node->safe_psql('postgres', 'CREATE MATERIALIZED VIEW p4 USING heap AS SELECT count(*) FROM sale; CREATE TABLE p5 AS SELECT count(*) FROM sale; SELECT count(*) INTO p6 FROM sale');
is(method_of('p4') . ' ' . method_of('p5') . ' ' . method_of('p6'), 'heap heap heap', 'USING heap stays that, and tables are tables');
($ret, $stdout, $stderr) = $node->psql('postgres', 'CREATE MATERIALIZED VIEW p7 AS SELECT 1 / (id - id) FROM d');
like($stderr, qr/division by zero/, 'what no materialized view can be is refused');
is_value($node, q{SELECT count(*) FROM pg_class WHERE relname = 'p7'}, '0', 'and leaves nothing');
$node->safe_psql('postgres', q{SET check_function_bodies = off; SET default_table_access_method = heap; CREATE MATERIALIZED VIEW p8 AS SELECT count(*) FROM sale WITH NO DATA});
is(method_of('p8'), 'heap', 'and what a dump creates is what it was');
are_exact($node, 'exact at the end');
$session->quit;
$node->stop;
done_testing();
