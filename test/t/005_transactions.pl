# Transactions of every kind: savepoints rolled back, a prepared one over a
# restart, values kept out of line, a very large one, commits that nobody waits
# for, TRUNCATE; readers and VACUUM while a batch is open.
#
# kills: the server by an immediate stop, and by kill -9

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $node = new_node('transactions', 'autovacuum_naptime = 1s', 'max_wal_size = 4GB');
make_sales($node);
are_exact($node, 'exact at the beginning');
my $log = -s $node->logfile;

# ---- savepoints ----

$node->safe_psql('postgres', <<'EOS');
BEGIN;
INSERT INTO sale VALUES (-1, 1, 5, 'kept');
SAVEPOINT a;
INSERT INTO sale VALUES (-2, 1, 5, 'rolled back');
DELETE FROM sale WHERE id <= 100;
SAVEPOINT b;
UPDATE sale SET amount = amount + 1000;
RELEASE b;
ROLLBACK TO a;
INSERT INTO sale VALUES (-2, 2, 6, 'instead');
SAVEPOINT c;
UPDATE region SET name = 'kept, too' WHERE id = 3;
RELEASE c;
COMMIT;
EOS
are_exact($node, 'exact after savepoints were rolled back');
is_value($node, q{SELECT count(*) FROM notes WHERE note IN ('kept', 'instead')}, 2, 'with what was kept');
is_value($node, q{SELECT count(*) FROM listed WHERE name = 'kept, too'}, 
	$node->safe_psql('postgres', 'SELECT count(*) FROM sale WHERE region = 3 AND amount < 50'), 'and what was released');

# many of them
$node->safe_psql('postgres', <<'EOS');
DO $$
BEGIN
	FOR i IN 1 .. 300 LOOP
		BEGIN
			INSERT INTO sale VALUES (-1000 - i, i % 20, i % 60, 'sub');
			UPDATE sale SET amount = amount + 1 WHERE id = -1000 - i / 2;
			IF i % 3 = 0 THEN
				RAISE division_by_zero;
			END IF;
		EXCEPTION WHEN division_by_zero THEN
			NULL;
		END;
	END LOOP;
END
$$;
EOS
are_exact($node, 'exact after 300 subtransactions');
$node->psql('postgres', 'BEGIN; UPDATE sale SET amount = 1; ROLLBACK');
are_exact($node, 'exact after a rollback');

# ---- prepared transactions ----

foreach my $mode ('fast', 'immediate')
{
	$node->safe_psql('postgres', <<"EOS");
BEGIN;
UPDATE sale SET amount = amount + 2 WHERE id % 5 = 0;
UPDATE region SET name = name || '!' WHERE id = 4;
SAVEPOINT s;
DELETE FROM sale WHERE id % 50 = 0;
PREPARE TRANSACTION 'commit $mode';
BEGIN;
DELETE FROM region WHERE id = 5;
PREPARE TRANSACTION 'rollback $mode';
EOS
	$node->safe_psql('postgres', 'INSERT INTO sale SELECT max(id) + 1, 7, 7, $$meanwhile$$ FROM sale');
	are_exact($node, "a prepared transaction is not there yet ($mode)");
	$node->stop($mode);
	$node->start;
	are_exact($node, "nor after a restart ($mode)");
	$node->safe_psql('postgres', 'INSERT INTO sale SELECT max(id) + 1, 8, 8, $$meanwhile$$ FROM sale');
	$node->safe_psql('postgres', "COMMIT PREPARED 'commit $mode'");
	are_exact($node, "when it is committed it is ($mode)");
	$node->safe_psql('postgres', "ROLLBACK PREPARED 'rollback $mode'");
	are_exact($node, "and is not when it is rolled back ($mode)");
}

# ---- values out of line ----

$node->safe_psql('postgres', <<'EOS');
CREATE TABLE doc (id int PRIMARY KEY, kind int, body text, title text);
ALTER TABLE doc ALTER body SET STORAGE EXTERNAL;
INSERT INTO doc SELECT i, i % 3, repeat('body ' || i, 2000), 'title ' || i FROM generate_series(1, 20) i;
EOS
$node->safe_psql('postgres', $_) foreach (
	'CREATE INCREMENTAL VIEW bodies AS SELECT id, body, title FROM doc WHERE kind < 2',
	'CREATE INCREMENTAL VIEW per_body AS SELECT md5(body) AS hash, count(*) AS n, sum(length(body)) AS len FROM doc GROUP BY body',
	'CREATE INCREMENTAL VIEW joined AS SELECT d.id, d.body, r.name FROM doc d JOIN region r ON r.id = d.kind + 1');
# the body is not in the new row's WAL
$node->safe_psql('postgres', q{UPDATE doc SET title = 'new ' || title WHERE id % 2 = 0});
are_exact($node, 'exact after an update that leaves a large value alone');
$node->safe_psql('postgres', q{UPDATE doc SET kind = (kind + 1) % 3; UPDATE doc SET kind = kind + 1 WHERE id > 15; DELETE FROM doc WHERE id % 7 = 0});
are_exact($node, 'and moves its row in and out of a view');
$node->safe_psql('postgres', q{BEGIN; UPDATE doc SET body = repeat('other ' || id, 3000) WHERE id % 3 = 0; UPDATE doc SET title = 'last'; COMMIT});
are_exact($node, 'and after it was changed');
$node->safe_psql('postgres', q{UPDATE region SET name = 'joined ' || name WHERE id < 4});
are_exact($node, 'and when the other side of the join changes');

# ---- commits that nobody waits for ----

$node->safe_psql('postgres', q{ALTER SYSTEM SET synchronous_commit = off; ALTER SYSTEM SET wal_writer_delay = '10s'; SELECT pg_reload_conf()});
change_sales($node) foreach 1 .. 10;
are_exact($node, 'exact with synchronous_commit = off');
# what is lost with the server is lost in the views
foreach (1 .. 3)
{
	change_sales($node);
	kill_server($node);
	$node->start;
	are_exact($node, 'exact after the server was killed with commits unflushed');
}
foreach (1 .. 3)
{
	change_sales($node) foreach 1 .. 2;
	$node->stop('immediate');
	$node->start;
	are_exact($node, 'exact after an immediate stop with commits unflushed');
}
$node->safe_psql('postgres', 'ALTER SYSTEM RESET ALL; SELECT pg_reload_conf()');

# ---- readers and VACUUM while a batch is open ----

change_sales($node);
sync($node);
set_points($node, 'apply-after=wait');
my $all = q{SELECT (SELECT sum(hashtext(v::text)) FROM per_region v), (SELECT sum(hashtext(v::text)) FROM listed v),
	(SELECT sum(hashtext(v::text)) FROM notes v), (SELECT sum(hashtext(v::text)) FROM per_name v)};
my $before = $node->safe_psql('postgres', $all);
my $reader = connection($node);
$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
is($reader->query_safe($all), $before, 'a reader with a snapshot');
change_sales($node);
wait_for_point($node, 'apply-after');
is_value($node, $all, $before, 'nobody sees half a batch');
$node->safe_psql('postgres', "VACUUM $_") foreach ('sale', 'region', 'per_region', 'listed', 'ivm.applied');
is_value($node, $all, $before, 'nor after a VACUUM');
set_points($node, '');
sync($node);
isnt($node->safe_psql('postgres', $all), $before, 'the batch is there');
is($reader->query_safe($all), $before, 'but not for the reader with the older snapshot');
$reader->query_safe('COMMIT');
$reader->quit;
$node->safe_psql('postgres', "VACUUM FREEZE $_") foreach ('sale', 'region', 'per_region', 'listed');
change_sales($node);
are_exact($node, 'exact after VACUUM');

# ---- a large one ----

is(rebuilds($node, $log), 0, 'no view had to be rebuilt until here');
$node->safe_psql('postgres', 'ALTER SYSTEM SET ivm.delta_log_memory = $$1MB$$; ALTER SYSTEM SET logical_decoding_work_mem = $$1MB$$; SELECT pg_reload_conf()');
$node->safe_psql('postgres', 'CREATE TABLE big (id int PRIMARY KEY, grp int, amount int)');
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW big_groups AS SELECT grp, count(*) AS n, sum(amount) AS total FROM big GROUP BY grp');
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW big_rows AS SELECT amount FROM big WHERE id % 1000 = 0');
$node->safe_psql('postgres', 'INSERT INTO big SELECT i, i % 1000, i % 77 FROM generate_series(1, 1000000) i');
are_exact($node, 'exact after a transaction of a million rows');
$node->safe_psql('postgres', 'UPDATE big SET amount = amount + 1 WHERE id <= 200000');
kill_server($node);
$node->start;
are_exact($node, 'exact after a crash behind a large update');

# ---- TRUNCATE ----

$node->safe_psql('postgres', 'TRUNCATE big');
are_exact($node, 'exact after TRUNCATE');
is_value($node, 'SELECT count(*) FROM big_groups', 0, 'the view is empty');
$node->safe_psql('postgres', 'BEGIN; TRUNCATE sale; INSERT INTO sale SELECT i, 1 + i % 20, i % 100, $$again$$ FROM generate_series(1, 500) i; COMMIT');
are_exact($node, 'exact after TRUNCATE and INSERT in one transaction');
$node->safe_psql('postgres', 'BEGIN; INSERT INTO sale VALUES (-1, 1, 1, $$x$$); TRUNCATE sale; ROLLBACK; INSERT INTO sale VALUES (-1, 1, 1, $$y$$)');
are_exact($node, 'exact after a TRUNCATE that was rolled back');
is_value($node, q{SELECT last_rebuild_reason ~ 'truncated' FROM pg_stat_ivm WHERE relname = 'per_region'}, 't', 'the view says so');
$node->safe_psql('postgres', 'TRUNCATE region, sale');
kill_server($node);
$node->start;
are_exact($node, 'exact after TRUNCATE and a crash');
is_value($node, 'SELECT n FROM largest', 0, 'a grand aggregate keeps its row');

$node->stop;
done_testing();
