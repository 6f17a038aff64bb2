# Transactions that are decoded while they are written, since they do not fit the decoder's share of memory:
# what of them was rolled back is not in the views, whatever they contain, and the reorder buffer writes no file.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

# the share is 256 kB
my $node = new_node('open', 'ivm.apply_workers = 1', 'logical_decoding_work_mem = 256kB', 'ivm.naptime = 100ms');

$node->safe_psql('postgres', <<'EOS');
CREATE EXTENSION ivm_ext;
CREATE TABLE t (id int, grp int, filler text);
CREATE TABLE keyed (id int PRIMARY KEY, n int, filler text);
ALTER TABLE keyed ALTER filler SET STORAGE EXTERNAL;
CREATE TABLE parted (id int, grp int) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (1000000);
CREATE TABLE nobody (id int, filler text);
EOS
$node->safe_psql('postgres', "CREATE INCREMENTAL VIEW $_") foreach
  'grouped AS SELECT grp, count(*) AS n, sum(id) AS ids, sum(length(filler)) AS length FROM t GROUP BY grp',
  'listed AS SELECT id, filler FROM t WHERE id % 50 = 0',
  'keys AS SELECT id, n, md5(filler) AS hash FROM keyed WHERE n >= 0',
  'parts AS SELECT grp, count(*) AS n, sum(id) AS ids FROM parted GROUP BY grp';

# How often something was decoded while it was open, and what the reorder buffer wrote to files.
sub statistics
{
	return split /\|/, $node->safe_psql('postgres', 'SELECT stream_count, spill_bytes FROM pg_stat_replication_slots');
}

my $session = connection($node);
$session->query_safe('SET client_min_messages = warning');
my $id = 0;

# So many rows as a statement.
sub rows
{
	my ($count, $grp) = @_;
	$id += $count;
	return "INSERT INTO t SELECT $id - g, $grp + g % 3, repeat('x', g % 200) FROM generate_series(1, $count) g";
}

# A transaction of these statements is exact, is decoded while it is open, and nothing of it goes to files of the server's.
# With each wait the decoder comes to its end before it goes on.
sub transaction
{
	my ($name, @statements) = @_;
	foreach my $wait (0, 1)
	{
		my ($before, $spilled) = statistics();
		$session->query_safe('BEGIN');
		foreach my $statement (@statements)
		{
			$session->query_safe(ref $statement ? $statement->() : $statement);
			wait_until_decoded($node) if $wait;
		}
		are_exact($node, "$name: exact" . ($wait ? ', decoded step by step' : ''));
		# the statistics come with the decoder's next word
		wait_until($node, "SELECT stream_count > $before FROM pg_stat_replication_slots", "$name is decoded while it is open");
		is((statistics())[1], $spilled, "$name: nothing went to files of the server's");
	}
	return;
}

transaction('one insert', sub { rows(5000, 1) }, 'COMMIT');
transaction('updates and deletes', sub { rows(3000, 1) }, 'UPDATE t SET grp = grp + 1 WHERE id % 3 = 0', 'DELETE FROM t WHERE id % 5 = 0',
	"UPDATE t SET filler = filler || 'y' WHERE id % 7 = 0", 'COMMIT');
transaction('rolled back', sub { rows(5000, 1) }, 'ROLLBACK');
transaction('savepoints', sub { rows(1000, 1) }, 'SAVEPOINT a', sub { rows(2000, 2) }, 'ROLLBACK TO a', sub { rows(1000, 3) }, 'SAVEPOINT b',
	sub { rows(2000, 4) }, 'SAVEPOINT c', sub { rows(2000, 5) }, 'RELEASE c', sub { rows(10, 6) }, 'ROLLBACK TO b', sub { rows(20, 7) },
	'RELEASE b', sub { rows(2000, 8) }, 'COMMIT');
transaction('all of it in a subtransaction', 'SAVEPOINT a', sub { rows(4000, 1) }, 'RELEASE a', 'COMMIT');
transaction('nothing is left', 'SAVEPOINT a', sub { rows(4000, 1) }, 'ROLLBACK TO a', 'COMMIT');
transaction('deep', (map { ("SAVEPOINT s$_", sub { rows(800, 1) }) } 1 .. 10), 'ROLLBACK TO s8', sub { rows(100, 1) }, 'RELEASE s5', sub { rows(100, 2) },
	'ROLLBACK TO s3', sub { rows(500, 3) }, 'COMMIT');
transaction('many subtransactions', sub { 'DO $$ BEGIN FOR i IN 1..1000 LOOP BEGIN ' . rows(7, 1) . '; PERFORM 1 / (i % 2); EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END $$' }, 'COMMIT');
transaction('speculative inserts', 'INSERT INTO keyed SELECT g, g, repeat(md5(g::text), 3) FROM generate_series(1, 3000) g ON CONFLICT (id) DO UPDATE SET n = keyed.n + 1', 'SAVEPOINT a',
	'INSERT INTO keyed SELECT g, g, md5(g::text) FROM generate_series(2000, 5000) g ON CONFLICT (id) DO NOTHING', 'ROLLBACK TO a',
	'INSERT INTO keyed SELECT g, g, md5(g::text) FROM generate_series(2500, 4000) g ON CONFLICT (id) DO UPDATE SET n = -1', 'COMMIT');
transaction('speculative inserts in subtransactions',
	'DO $$ BEGIN FOR i IN 1..20 LOOP BEGIN INSERT INTO keyed SELECT g, g, md5(g::text) FROM generate_series(i * 500, i * 500 + 700) g ON CONFLICT (id) DO UPDATE SET n = keyed.n + 1; PERFORM 1 / (i % 3); EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END $$', 'COMMIT');
# values of 8 kB
transaction('values out of line', 'DELETE FROM keyed', 'INSERT INTO keyed SELECT g, g, repeat(md5(g::text), 250) FROM generate_series(1, 100) g', 'SAVEPOINT a',
	'UPDATE keyed SET n = n + 1', 'UPDATE keyed SET filler = filler || n WHERE id % 2 = 0', 'ROLLBACK TO a', 'UPDATE keyed SET n = n + 1 WHERE id % 2 = 0',
	'INSERT INTO keyed SELECT g, g, repeat(md5(g::text), 250) FROM generate_series(50, 150) g ON CONFLICT (id) DO UPDATE SET filler = EXCLUDED.filler || 1', 'COMMIT');
$node->safe_psql('postgres', 'CREATE TABLE source AS SELECT g AS id, g AS n, repeat(md5(g::text), 250) AS filler FROM generate_series(1000, 1150) g');
transaction('copied values out of line', "DELETE FROM keyed", "COPY source TO '" . $node->basedir . "/copied'", "COPY keyed FROM '" . $node->basedir . "/copied'", 'COMMIT');
transaction('truncate', sub { rows(3000, 1) }, 'SAVEPOINT a', 'TRUNCATE t', sub { rows(3000, 1) }, 'ROLLBACK TO a', sub { rows(3000, 2) }, 'COMMIT');
is_value($node, "SELECT sum(rebuilds) FROM pg_stat_ivm", 0, 'nothing was rebuilt');
transaction('truncate that stays', sub { rows(3000, 1) }, 'TRUNCATE t', sub { rows(3000, 1) }, 'COMMIT');
transaction('a table that no view reads', q{INSERT INTO nobody SELECT g, repeat('x', 100) FROM generate_series(1, 5000) g}, 'COMMIT');

# ---- the definition of tables changes meanwhile ----

my $column = 0;
transaction('columns', sub { rows(2000, 1) }, sub { $column++; "ALTER TABLE t ADD COLUMN more_$column int DEFAULT 5" }, sub { rows(2000, 2) }, 'SAVEPOINT a',
	sub { "ALTER TABLE t ADD COLUMN less_$column text" }, sub { rows(2000, 3) }, sub { "UPDATE t SET less_$column = 'x' WHERE grp < 3" }, 'ROLLBACK TO a', sub { rows(2000, 4) },
	sub { "ALTER TABLE t DROP COLUMN more_$column" }, sub { rows(2000, 5) }, 'COMMIT');
$node->safe_psql('postgres', 'CREATE INDEX by_id ON t (id)');
transaction('rewritten', sub { rows(2000, 1) }, 'CLUSTER t USING by_id', sub { rows(2000, 1) }, 'COMMIT');
my $part = 1;
transaction('partitions', 'INSERT INTO parted SELECT g, g % 4 FROM generate_series(1, 3000) g', sub { $part++; "CREATE TABLE parted_$part PARTITION OF parted FOR VALUES FROM (${part}000000) TO (${part}900000)" },
	sub { "INSERT INTO parted SELECT ${part}000000 + g, g % 4 FROM generate_series(1, 3000) g" }, 'COMMIT');
transaction('temporary tables', (map { ("CREATE TEMPORARY TABLE temporary_$_ (i int) ON COMMIT DROP", sub { rows(300, 1) }) } 1 .. 20), 'COMMIT');

# ---- prepared transactions ----

transaction('prepared', sub { rows(3000, 1) }, q{PREPARE TRANSACTION 'p'}, q{COMMIT PREPARED 'p'});
transaction('prepared and rolled back', sub { rows(3000, 1) }, q{PREPARE TRANSACTION 'p'}, q{ROLLBACK PREPARED 'p'});

# ---- several at once, in the order of their commits ----

my @sessions = map { connection($node) } 1 .. 4;
foreach my $round (1 .. 5)
{
	foreach my $number (0 .. 3)
	{
		$sessions[$number]->query_safe('BEGIN') if $round == 1;
		$sessions[$number]->query_safe(rows(1000, $number));
	}
	wait_until_decoded($node);
}
foreach my $number (2, 0, 3, 1)
{
	$sessions[$number]->query_safe($number == 3 ? 'ROLLBACK' : 'COMMIT');
	are_exact($node, "one of several has ended");
}
$_->quit foreach @sessions;

# ---- a subtransaction whose abort is not told: more than 4096 changes that went through one of the server's files ----

foreach my $wait (0, 1)
{
	$session->query_safe('BEGIN');
	$session->query_safe(rows(1, 1));
	$session->query_safe('SAVEPOINT a');
	$session->query_safe(rows(100, 2));
	$session->query_safe('INSERT INTO t SELECT -1, 100, string_agg(md5(g::text), \'\') FROM generate_series(1, 390000) g');
	wait_until_decoded($node) if $wait;
	$session->query_safe('ROLLBACK TO a');
	$session->query_safe(rows(10, 3));
	$session->query_safe('COMMIT');
	are_exact($node, 'a large value that was rolled back' . ($wait ? ' after it was decoded' : ''));
}
$session->quit;

ok(wait_until($node, "SELECT log_disk_bytes = 0 FROM pg_stat_ivm_worker WHERE worker_type = 'decoder'", 'nothing on disk'), 'nothing is left on disk');
my @left;
eval { wait_until_true(sub { return !(@left = glob($node->data_dir . '/base/pgsql_tmp/*')) }, 'files to go') };
is(join(' ', @left), '', 'and no file');
unlike(slurp_file($node->logfile), qr/ERROR:.*output plugin|PANIC:|terminated by signal/, 'the decoder had no trouble');

$node->stop;
done_testing();
