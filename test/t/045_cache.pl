# What is cached of hot keys is what the tables hold, whatever comes between
# two batches.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

# The counters are those of one process: no view goes to another one, however slow the machine is.
my $node = new_node('cache', 'ivm.refresh = rebuild', 'ivm.apply_workers = 1', 'ivm.batch_patience = 0',
	'ivm.batch_interval = 0', 'autovacuum = off');

# Keys whose equality is not that of their bytes, and one of two types.
$node->safe_psql('postgres', <<'EOS');
CREATE EXTENSION ivm_ext;
CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE f (id int PRIMARY KEY, k int, n numeric, t text COLLATE nocase, v int);
CREATE INDEX ON f (k);
CREATE TABLE whole (k bigint PRIMARY KEY, c int, note text);
CREATE TABLE exact (n numeric, c int);
CREATE INDEX ON exact (n);
CREATE TABLE word (t text COLLATE nocase, c int, note text);
CREATE INDEX ON word (t);
-- no index: rows of it are kept in a state table, with weights
CREATE TABLE bare (k int, c int, filler text);
INSERT INTO whole SELECT i, i % 5, repeat('note ', i % 3) FROM generate_series(1, 40) AS i;
INSERT INTO exact SELECT i / 10.0, i FROM generate_series(1, 40) AS i;
INSERT INTO exact SELECT (i / 10.0)::numeric(10, 4), -i FROM generate_series(1, 40, 3) AS i;
INSERT INTO word SELECT 'Word ' || i, i, NULL FROM generate_series(1, 40) AS i;
INSERT INTO bare SELECT i % 40, i % 3, repeat('x', 1000) FROM generate_series(1, 2000) AS i;
INSERT INTO f SELECT i, i % 45, (i % 45) / 10.0, 'wORD ' || i % 45, i FROM generate_series(1, 200) AS i;
ANALYZE;
EOS
my %views = (
	of_whole => 'SELECT f.id, f.v, w.c, w.note FROM f JOIN whole w ON w.k = f.k',
	of_exact => 'SELECT f.id, e.c, e.n FROM f JOIN exact e ON e.n = f.n',
	of_word => 'SELECT f.id, w.c, w.t, w.note FROM f JOIN word w ON w.t = f.t',
	of_bare => 'SELECT f.id, b.c FROM f JOIN bare b ON b.k = f.k',
	star => 'SELECT w.c, e.c AS e, count(*), sum(f.v * t.c) FROM f JOIN whole w ON w.k = f.k
		JOIN exact e ON e.n = f.n JOIN word t ON t.t = f.t GROUP BY 1, 2',
	itself => 'SELECT a.id, b.id AS other FROM f a JOIN f b ON b.k = a.k JOIN whole w ON w.k = a.k WHERE w.c > 1');
$node->safe_psql('postgres', "CREATE INCREMENTAL VIEW $_ AS $views{$_}") foreach sort keys %views;

my $next = 1000;
srand(7);

sub one_of { return $_[ int(rand(@_)) ]; }

sub fact
{
	my $k = int(rand(45));
	$next++;
	return one_of("INSERT INTO f VALUES ($next, $k, $k / 10.0, 'WORD $k', $next % 10)",
		"INSERT INTO f VALUES ($next, $k, trunc($k / 10.0, 4)::numeric(10, 3), 'word $k', 1)",
		"INSERT INTO f VALUES ($next, NULL, NULL, NULL, 1)",
		"UPDATE f SET k = k + 1, n = n + 0.1 WHERE id % 45 = $k",
		"DELETE FROM f WHERE id % 90 = $k");
}

sub dimension
{
	my $k = int(rand(45));
	return one_of("INSERT INTO whole VALUES ($k, $k, 'new') ON CONFLICT (k) DO UPDATE SET c = whole.c + 1",
		"DELETE FROM whole WHERE k = $k",
		"UPDATE whole SET note = note || 'x' WHERE k = $k",
		"UPDATE whole SET k = k + 100 WHERE k = $k",
		"INSERT INTO exact VALUES ($k / 10.0, 7), (($k / 10.0)::numeric(10, 5), 8), (NULL, 1)",
		"UPDATE exact SET n = n::numeric(10, 6) WHERE n = $k / 10.0",
		"DELETE FROM exact WHERE n = $k / 10.0",
		"UPDATE word SET t = upper(t), note = repeat('long', 3000) WHERE t = 'word $k'",
		"INSERT INTO word VALUES ('wOrD $k', $k, NULL), (NULL, 1, NULL)",
		"DELETE FROM word WHERE t = 'word $k'",
		"INSERT INTO bare VALUES ($k, 1), ($k, 1), (NULL, 1)",
		"DELETE FROM bare WHERE k = $k AND c = 1",
		"UPDATE bare SET k = NULL WHERE k = $k AND c = 2");
}

# Transactions of facts, of dimensions, of both, and some that come to nothing;
# a batch may take several.
sub changes
{
	my ($number) = @_;
	foreach (1 .. $number)
	{
		my @transactions = map {
			my @statements = map { one_of(\&fact, \&fact, \&dimension)->() } 1 .. 1 + int(rand(4));
			join('; ', 'BEGIN', @statements, one_of('COMMIT', 'COMMIT', 'COMMIT', 'ROLLBACK')) . ';'
		} 1 .. 1 + int(rand(3));
		$node->safe_psql('postgres', join("\n", @transactions));
		sync($node);
	}
	return;
}

sub counter
{
	my ($what) = @_;
	return $node->safe_psql('postgres', "SELECT sum($what) FROM pg_stat_ivm_worker WHERE worker_type = 'apply worker'");
}

changes(10);
foreach (1 .. 6)
{
	changes(8);
	are_exact($node, "exact after changes of facts and dimensions, $_");
}
cmp_ok(counter('cache_hits'), '>', 300, 'with rows from the cache');
cmp_ok(counter('cache_bytes'), '>', 1000, 'which has some');

# One by one: an entry for each way in which a key is written.
sub row_of
{
	my ($id) = @_;
	return $node->safe_psql('postgres', "SELECT string_agg(note, ',') FROM of_whole WHERE id = $id");
}
sub fact_of_key
{
	my ($id) = @_;
	return "INSERT INTO f VALUES ($id, 500, 77.0, 'key', 1);";
}
$node->safe_psql('postgres', "INSERT INTO whole VALUES (500, 2, 'old');" . fact_of_key(5001));
sync($node);
$node->safe_psql('postgres', fact_of_key(5002));
sync($node);
my $hits = counter('cache_hits');
$node->safe_psql('postgres', fact_of_key(5003));
sync($node);
is(row_of(5003), 'old', 'the row that was there before');
cmp_ok(counter('cache_hits'), '>', $hits, 'comes from the cache');

# A batch that is rolled back has seen rows that nothing of its successor's
# delta speaks of: they were changed back.  It is done again in parts, the first of
# which comes to the point, too.
set_points($node, 'apply-after=wait');
$node->safe_psql('postgres', "BEGIN; UPDATE whole SET note = 'new' WHERE k = 500;" . fact_of_key(5004) . 'COMMIT;');
my $pid = wait_for_point($node, 'apply-after');
$node->safe_psql('postgres', "BEGIN; UPDATE whole SET note = 'old' WHERE k = 500;" . fact_of_key(5005) . 'COMMIT;');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET ivm.debug_points');
my $xid = $node->safe_psql('postgres', "SELECT backend_xid FROM pg_stat_activity WHERE pid = $pid");
$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
wait_until($node, "SELECT a.backend_xid <> '$xid' AND w.state = 'apply-after' FROM pg_stat_activity a
	JOIN pg_stat_ivm_worker w USING (pid) WHERE pid = $pid", 'the batch is rolled back, and begun again');
reload($node);
sync($node);
is(row_of($_), 'old', "a batch that was rolled back leaves nothing, $_") foreach (5004, 5005);
are_exact($node, 'exact after a batch that was rolled back');

# A REFRESH brings the view past changes that the worker has not seen.
changes(3);
$node->safe_psql('postgres', fact_of_key(5006));
sync($node);
set_points($node, 'apply-look=wait');
$pid = wait_for_point($node, 'apply-look');
$node->safe_psql('postgres', "UPDATE whole SET note = 'newer' WHERE k = 500");
my $session = connection($node);
$session->query_until(qr/begun/, "\\echo begun\nREFRESH MATERIALIZED VIEW of_whole;\n");
wait_until($node, "SELECT count(*) > 0 FROM of_whole WHERE id = 5006 AND note = 'newer'", 'the REFRESH');
wait_until($node, "SELECT state <> 'b' AND state <> 'r' FROM ivm.view WHERE relid = 'of_whole'::regclass", 'its end');
set_points($node, '');
$node->safe_psql('postgres', fact_of_key(5007));
sync($node);
$session->quit;
is(row_of(5007), 'newer', 'what a REFRESH took over is not found as it was before');
are_exact($node, 'exact after a REFRESH');

# Contents and shapes that change as a whole.
$node->safe_psql('postgres', "BEGIN; TRUNCATE whole; INSERT INTO whole VALUES (500, 1, 'again'), (1, 1, 'one'); COMMIT;");
$node->safe_psql('postgres', fact_of_key(5008));
sync($node);
is(row_of(5008), 'again', 'after a TRUNCATE');
changes(4);
are_exact($node, 'exact after a TRUNCATE');
$node->safe_psql('postgres', 'ALTER TABLE whole ADD COLUMN more int DEFAULT 3; ALTER TABLE word ADD CHECK (c IS NOT NULL); CLUSTER exact USING exact_n_idx');
changes(4);
sync($node);
are_exact($node, 'exact after ALTER TABLE');
$node->safe_psql('postgres', 'DROP INDEX exact_n_idx; DROP INDEX word_t_idx');
changes(4);
are_exact($node, 'exact without indexes');
$node->safe_psql('postgres', 'CREATE INDEX ON exact (n); CREATE INDEX ON word (t)');
changes(4);
are_exact($node, 'exact with other indexes');
terminate_process($node, (worker_pids($node, 'apply worker'))[0]);
changes(4);
are_exact($node, 'exact after another worker took over');

# Not enough room for all of them.
$node->safe_psql('postgres', "ALTER SYSTEM SET ivm.cache_memory = '12kB'");
reload($node);
foreach (1 .. 3)
{
	changes(6);
	are_exact($node, "exact while entries are evicted, $_");
}
cmp_ok(counter('cache_evictions'), '>', 50, 'which happens');
cmp_ok(counter('cache_bytes'), '<=', 12 * 1024 + 8192, 'as the setting says');

$node->safe_psql('postgres', 'ALTER SYSTEM SET ivm.cache_memory = 0');
reload($node);
changes(4);
$hits = counter('cache_hits');
changes(4);
is(counter('cache_hits'), $hits, 'nothing is cached if it is turned off');
is(counter('cache_bytes'), 0, 'nor kept');
are_exact($node, 'exact without a cache');

# Everybody is asked to give back what is not needed.
$node->safe_psql('postgres', 'ALTER SYSTEM RESET ivm.cache_memory');
reload($node);
changes(6);
cmp_ok(counter('cache_bytes'), '>', 0, 'it is there again');
$node->safe_psql('postgres', 'SELECT ivm.trim()');
wait_until($node, "SELECT sum(cache_bytes) = 0 FROM pg_stat_ivm_worker WHERE worker_type = 'apply worker'", 'the cache is dropped');
changes(4);
are_exact($node, 'exact after the cache was dropped');

$node->stop;
done_testing();
