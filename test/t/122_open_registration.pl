# A view of a table is created while a transaction is open that was decoded, in part, without the table: its rows would
# be missing.  Who builds the view waits for that transaction, and nobody else does.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);
use IvmTest;

my $node = new_node('registration', 'ivm.apply_workers = 1', 'logical_decoding_work_mem = 64kB', 'ivm.naptime = 100ms');

$node->safe_psql('postgres', <<'EOS');
CREATE EXTENSION ivm_ext;
CREATE TABLE t (id int, grp int, more int DEFAULT 1);
CREATE TABLE other (id int, grp int);
CREATE TABLE parted (id int, grp int) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (1000000);
CREATE TABLE late (id int, grp int);
ALTER TABLE t REPLICA IDENTITY FULL;
ALTER TABLE other REPLICA IDENTITY FULL;
ALTER TABLE parted_1 REPLICA IDENTITY FULL;
ALTER TABLE late REPLICA IDENTITY FULL;
INSERT INTO t SELECT g, g % 10 FROM generate_series(1, 1000) g;
CREATE INCREMENTAL VIEW first AS SELECT grp, count(*) AS n FROM other GROUP BY grp;
EOS

# Begins to create a view, and waits until that waits for transactions.
sub create_waits
{
	my ($view, $name) = @_;
	my $session = connection($node);

	$session->query_until(qr/begins/, "\\echo begins\nCREATE INCREMENTAL VIEW $view;\n");
	wait_until($node, "SELECT count(*) = 1 FROM pg_stat_progress_ivm_build WHERE phase = 'waiting for open transactions'", $name);
	pass("$name: waits for the open transaction, and says so");
	return $session;
}

my $writer = connection($node);

# ---- a table that was not registered ----

$writer->query_safe('BEGIN');
streamed($node, $writer, 'INSERT INTO t SELECT g, g % 10 FROM generate_series(1001, 4000) g');
my $creator = create_waits('v AS SELECT grp, count(*) AS n, sum(id) AS ids FROM t GROUP BY grp', 'a new table');
# of another table; a rebuild, which registers nothing new, is not held up either, when the builder comes to it
$node->safe_psql('postgres', 'INSERT INTO other SELECT g, g % 3 FROM generate_series(1, 10) g');
is_exact($node, 'first', 'views of other tables go on');
$writer->query_safe('INSERT INTO t SELECT g, g % 10 FROM generate_series(4001, 5000) g');
$writer->query_safe('COMMIT');
$creator->query_safe('SELECT 1');
$creator->quit;
are_exact($node, 'exact with what the transaction wrote');

# ---- more columns of one that was, and a transaction that is prepared ----

$writer->query_safe('BEGIN');
streamed($node, $writer, 'UPDATE t SET more = more + 1');
$writer->query_safe(q{PREPARE TRANSACTION 'p'});
$creator = create_waits('w AS SELECT grp, sum(more) AS more FROM t GROUP BY grp', 'more columns');
# somebody else who needs nothing new that the transaction has touched
$node->safe_psql('postgres', 'INSERT INTO t VALUES (1, 1, 1)');
$writer->query_safe(q{COMMIT PREPARED 'p'});
$creator->query_safe('SELECT 1');
$creator->quit;
are_exact($node, 'exact with what was prepared');

# ---- a partition of what is registered ----

$writer->query_safe('BEGIN');
streamed($node, $writer, 'INSERT INTO parted SELECT g, g % 10 FROM generate_series(1, 3000) g');
$creator = create_waits('x AS SELECT grp, count(*) AS n FROM parted GROUP BY grp', 'a partition');
$writer->query_safe('ROLLBACK');
$creator->query_safe('SELECT 1');
$creator->quit;
are_exact($node, 'exact without what was rolled back');

# ---- who is not concerned does not wait ----

$writer->query_safe('BEGIN');
streamed($node, $writer, 'INSERT INTO t SELECT g, g % 10, 7 FROM generate_series(5001, 8000) g');
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW y AS SELECT grp, count(*) AS n FROM late GROUP BY grp');
pass('a view of another table is created at once');
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW z AS SELECT grp, min(more) AS least FROM t GROUP BY grp');
pass('and one that needs nothing that was not decoded');
$node->safe_psql('postgres', 'REFRESH MATERIALIZED VIEW v');
pass('and a rebuild');
is_exact($node, $_, "$_ is exact without it") foreach qw(v w y z);
$writer->query_safe('COMMIT');
are_exact($node, 'exact with it');

# ---- an aborted subtransaction makes looking at catalogs an error, after which decoding goes on in the same process ----

my $views = 0;
my ($pid) = worker_pids($node, 'decoder');
$node->safe_psql('postgres', 'CREATE TABLE new (i int)');
foreach my $end ('ROLLBACK TO a; INSERT INTO t VALUES (-1, -1, -1); COMMIT', 'ROLLBACK')
{
	$node->safe_psql('postgres', 'INSERT INTO t VALUES (0, 0, 0)');
	are_exact($node, 'the table is known');
	# a registration: the decoder has to look tables up again, but for what PostgreSQL remembers
	$views++;
	$node->safe_psql('postgres', "CREATE INCREMENTAL VIEW n$views AS SELECT count(*) AS n FROM new WHERE i > $views");
	set_points($node, 'decoder-in-open-transaction=wait');
	$writer->query_safe('BEGIN; INSERT INTO t VALUES (-2, -2, -2); SAVEPOINT a; INSERT INTO t SELECT g, g % 10 FROM generate_series(9001, 12000) g');
	wal_end($node);
	wait_for_point($node, 'decoder-in-open-transaction');
	$writer->query_safe($end);
	set_points($node, '');
	are_exact($node, "exact after $end");
	$node->safe_psql('postgres', 'INSERT INTO t SELECT g, g % 10, 3 FROM generate_series(1, 1000) g; UPDATE t SET more = 4 WHERE id < 10');
	are_exact($node, 'and what comes then is not lost');
	is((worker_pids($node, 'decoder'))[0], $pid, 'by the same process');
}

# ---- a decoder that has nothing to do is told of what begins to be written, by INSERT and by COPY, and nobody commits ----

$node->safe_psql('postgres', q{ALTER SYSTEM SET ivm.naptime = '1h'});
reload($node);
$node->safe_psql('postgres', 'COPY (SELECT g, g % 10, 3 FROM generate_series(1, 5000) g) TO \'' . $node->basedir . '/rows\'');
foreach my $statement ('INSERT INTO t SELECT g, g % 10, 3 FROM generate_series(1, 5000) g', "COPY t FROM '" . $node->basedir . "/rows'")
{
	$node->safe_psql('postgres', 'INSERT INTO t VALUES (0, 0, 0)');
	are_exact($node, 'exact before');
	# it dozes after a second of quiet
	usleep(1_500_000);
	my $before = $node->safe_psql('postgres', 'SELECT stream_count FROM pg_stat_replication_slots');
	$writer->query_safe("BEGIN; $statement");
	wait_until($node, "SELECT stream_count > $before FROM pg_stat_replication_slots", 'rows were decoded while the transaction is open');
	pass('decoded before anything commits: ' . substr($statement, 0, 6));
	$writer->query_safe('COMMIT');
	are_exact($node, 'exact after it');
}
$writer->quit;
$node->stop;
done_testing();
