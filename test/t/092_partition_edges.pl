# What partitions are used with: defaults, generated columns, foreign keys, shared arrangements,
# concurrent detaching that is broken off and finished, a restart in between, writers in an open
# transaction, a member that cannot be brought in.
#
# kills: nothing

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $node = new_node('partition_edges', 'autovacuum = off', 'ivm.apply_workers = 1');

sub run
{
	$node->safe_psql('postgres', join "\n", 'SET client_min_messages = error;', @_);
	return;
}

# A test: what was rebuilt since the last one, as a list of views.
my %known;
sub are_rebuilt
{
	my ($expected, $name) = @_;
	my %now = map { split /\|/ } split /\n/, $node->safe_psql('postgres', 'SELECT relname, rebuilds FROM pg_stat_ivm');
	my $rebuilt = join ' ', sort grep { $now{$_} > ($known{$_} // 0) } keys %now;
	is($rebuilt, $expected, $name);
	%known = %now;
	return;
}

run('CREATE EXTENSION ivm_ext;');

# ---- a restart between the detaching and the batch ----

run('CREATE TABLE p (k int, v int) PARTITION BY RANGE (k);',
	(map { "CREATE TABLE p$_ PARTITION OF p FOR VALUES FROM (${_}00) TO (${_}99);" } 1 .. 4),
	'INSERT INTO p SELECT i, i FROM generate_series(100, 480) i WHERE i % 100 < 90;',
	'CREATE INCREMENTAL VIEW p_rows AS SELECT k, v FROM p;',
	'CREATE INCREMENTAL VIEW p_sum AS SELECT k / 100 AS h, count(*), sum(v) FROM p GROUP BY 1;');
sync($node);
set_points($node, 'apply-look=wait');
run('UPDATE p SET v = v + 1 WHERE k < 300;');
wait_for_point($node, 'apply-look');
run('INSERT INTO p SELECT i, 0 FROM generate_series(190, 194) i; DELETE FROM p WHERE k IN (150, 250);',
	'ALTER TABLE p DETACH PARTITION p1; UPDATE p1 SET v = 7 WHERE k < 120; INSERT INTO p1 VALUES (1000, 1);');
forget_points($node);
$node->restart;
are_exact($node, 'exact when one was written to and detached before a restart');
are_rebuilt('', 'without a rebuild');

# the same with nothing but the worker ending
set_points($node, 'apply-look=wait');
run('UPDATE p SET v = v + 1;');
wait_for_point($node, 'apply-look');
run('DELETE FROM p WHERE k = 260; ALTER TABLE p DETACH PARTITION p2; UPDATE p2 SET v = 7 WHERE k < 220;');
my ($worker) = worker_pids($node, 'apply worker');
forget_points($node);
terminate_process($node, $worker);
reload($node);
are_exact($node, 'exact when the worker ended before it had seen that one was detached');
are_rebuilt('', 'without a rebuild');

# ---- a member that cannot be brought in, and nothing else to do ----

run('CREATE TABLE b (k int, v int) PARTITION BY RANGE (k);', 'CREATE TABLE b1 PARTITION OF b FOR VALUES FROM (0) TO (100);',
	'INSERT INTO b SELECT i, i FROM generate_series(1, 9) i;',
	'CREATE TABLE b2 (k int, v int); INSERT INTO b2 VALUES (101, 0), (102, 2); ALTER TABLE b2 REPLICA IDENTITY FULL;',
	'CREATE INCREMENTAL VIEW b_good AS SELECT k, v FROM b;', 'CREATE INCREMENTAL VIEW b_bad AS SELECT k, 100 / v AS d FROM b;',
	'CREATE INCREMENTAL VIEW b_sum AS SELECT count(*), sum(v) FROM b;');
sync($node);
run('ALTER TABLE b ATTACH PARTITION b2 FOR VALUES FROM (100) TO (200);');
is_exact($node, 'b_good', 'a member is in one view');
is_exact($node, 'b_sum', 'and in another');
wait_for_state($node, 'b_bad', 'error');
pass('though a third one cannot have it');
run('UPDATE b2 SET v = 5 WHERE v = 0;');
wait_for_state($node, 'b_bad', 'active');
are_exact($node, 'and all are exact when that was repaired');
$known{b_bad} = $node->safe_psql('postgres', q{SELECT rebuilds FROM pg_stat_ivm WHERE relname = 'b_bad'});
are_rebuilt('', 'only that one was rebuilt');
run('DROP TABLE b CASCADE;');

# ---- a default partition ----

run('CREATE TABLE d (k int, v int) PARTITION BY LIST (k);', 'CREATE TABLE d_other PARTITION OF d DEFAULT;',
	'CREATE TABLE d1 PARTITION OF d FOR VALUES IN (1);', 'INSERT INTO d SELECT i % 6, i FROM generate_series(1, 60) i;',
	'CREATE INCREMENTAL VIEW d_rows AS SELECT k, v FROM d;',
	'CREATE INCREMENTAL VIEW d_groups AS SELECT k, count(*), sum(v) FROM d GROUP BY k;',
	'CREATE INCREMENTAL VIEW d_of AS SELECT tableoid AS t, count(*) FROM d GROUP BY tableoid;');
run('BEGIN; CREATE TABLE d2 (v int, k int); WITH gone AS (DELETE FROM d_other WHERE k = 2 RETURNING *) INSERT INTO d2 (k, v) SELECT k, v FROM gone;',
	'ALTER TABLE d ATTACH PARTITION d2 FOR VALUES IN (2); COMMIT;');
are_exact($node, 'exact when rows of the default went to a new partition');
run('CREATE TABLE d7 PARTITION OF d FOR VALUES IN (7); INSERT INTO d VALUES (7, 7), (8, 8); UPDATE d SET k = 7 WHERE k = 8;');
are_exact($node, 'exact when one was made beside the default');
run('ALTER TABLE d DETACH PARTITION d_other;');
are_exact($node, 'exact without the default');
run('DELETE FROM d_other WHERE k = 3; CREATE TABLE d3 PARTITION OF d FOR VALUES IN (3); ALTER TABLE d ATTACH PARTITION d_other DEFAULT;',
	'INSERT INTO d SELECT i % 9, i FROM generate_series(1, 18) i;');
are_exact($node, 'exact when it is back, with other rows');
are_rebuilt('', 'without a rebuild');

# ---- generated columns, at other places ----

run('CREATE TABLE g (k int NOT NULL, v int, w int GENERATED ALWAYS AS (v * 2) STORED, c text DEFAULT \'none\') PARTITION BY RANGE (k);',
	'CREATE TABLE g1 PARTITION OF g FOR VALUES FROM (0) TO (100);',
	'CREATE TABLE g2 (c text DEFAULT \'two\', gone int, w int GENERATED ALWAYS AS (v * 2) STORED, v int, k int NOT NULL); ALTER TABLE g2 DROP COLUMN gone;',
	'INSERT INTO g1 (k, v) SELECT i, i FROM generate_series(1, 20) i; INSERT INTO g2 (k, v) SELECT 100 + i, i FROM generate_series(1, 20) i;',
	'CREATE INCREMENTAL VIEW g_sum AS SELECT w % 5 AS m, count(*), sum(w) AS w, sum(v) AS v FROM g GROUP BY 1;',
	'CREATE INCREMENTAL VIEW g_rows AS SELECT k, w, c FROM g WHERE w > 4;',
	'ALTER TABLE g ATTACH PARTITION g2 FOR VALUES FROM (100) TO (200);');
are_exact($node, 'exact with a generated column at another place');
run('UPDATE g SET v = v + 1 WHERE k % 3 = 0; INSERT INTO g (k, v) VALUES (50, 5), (150, 5); UPDATE g SET k = k + 100 WHERE k = 50; DELETE FROM g WHERE k % 7 = 0;');
are_exact($node, 'exact when rows were changed and moved');
run('ALTER TABLE g DETACH PARTITION g2; UPDATE g2 SET v = v + 1; INSERT INTO g2 (k, v) VALUES (199, 9); ALTER TABLE g ATTACH PARTITION g2 FOR VALUES FROM (100) TO (200);');
are_exact($node, 'exact when it was away for a while');
are_rebuilt('', 'without a rebuild');

# ---- a shared arrangement ----

run('CREATE TABLE s (k int, r int, v int, pad text DEFAULT repeat(\'x\', 1500)) PARTITION BY RANGE (k);', (map { "CREATE TABLE s$_ PARTITION OF s FOR VALUES FROM (${_}00) TO (${_}99);" } 1 .. 3),
	'CREATE TABLE f (id int, name text); INSERT INTO f SELECT i, \'n\' || i % 4 FROM generate_series(1, 30) i;',
	'INSERT INTO s SELECT 100 * (1 + i % 3) + i % 50, i % 30, i FROM generate_series(1, 900) i;',
	'CREATE INCREMENTAL VIEW s_names AS SELECT f.name, count(*), sum(s.v) FROM s JOIN f ON f.id = s.r GROUP BY f.name;',
	'CREATE INCREMENTAL VIEW s_rows AS SELECT s.k, s.v, f.name FROM s JOIN f ON f.id = s.r WHERE f.id < 20;');
cmp_ok($node->safe_psql('postgres', q{SELECT count(*) FROM ivm.view WHERE kind = 'a'}), '>', 0, 'an arrangement is shared');
run('CREATE TABLE s5 (v int, k int, r int, pad text); INSERT INTO s5 SELECT i, 500 + i, i % 30 FROM generate_series(1, 50) i;',
	'ALTER TABLE s ATTACH PARTITION s5 FOR VALUES FROM (500) TO (600); UPDATE f SET name = \'n9\' WHERE id % 5 = 0;');
are_exact($node, 'exact with an arrangement over a partitioned table that got one');
run('BEGIN; UPDATE s SET r = r + 1; ALTER TABLE s DETACH PARTITION s2; INSERT INTO f VALUES (7, \'again\'); DELETE FROM f WHERE id = 9; COMMIT;',
	'UPDATE s2 SET v = 0;');
are_exact($node, 'and lost one');
run('ALTER TABLE s DETACH PARTITION s5 CONCURRENTLY; ALTER TABLE s ATTACH PARTITION s2 FOR VALUES FROM (200) TO (300); UPDATE f SET name = \'n8\' WHERE id = 3;');
are_exact($node, 'and lost one and got one back');
are_rebuilt('', 'without a rebuild');

# ---- detaching that is broken off, and finished ----

my $reader = connection($node);
$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM s;');
my ($status, $out, $error) = $node->psql('postgres', q{SET statement_timeout = '300ms'; ALTER TABLE s DETACH PARTITION s3 CONCURRENTLY});
like($error // '', qr/timeout/, 'a detach is broken off');
run('UPDATE s SET v = v + 1; UPDATE s3 SET v = v + 10;');
are_exact($node, 'exact with one that is half detached');
$reader->query_safe('COMMIT');
$reader->quit;
run('UPDATE s3 SET v = v + 10 WHERE k % 2 = 0; ALTER TABLE s DETACH PARTITION s3 FINALIZE; INSERT INTO s3 VALUES (301, 1, 1);');
are_exact($node, 'exact when it is detached');
run('UPDATE s3 SET v = 1; ALTER TABLE s ATTACH PARTITION s3 FOR VALUES FROM (300) TO (400);');
are_exact($node, 'and attached again');
are_rebuilt('', 'without a rebuild');

# ---- foreign keys from and to partitioned tables ----

run('CREATE TABLE parent (id int PRIMARY KEY, name text) PARTITION BY RANGE (id);',
	'CREATE TABLE parent1 PARTITION OF parent FOR VALUES FROM (0) TO (100);',
	'CREATE TABLE child (id int, parent int REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE, v int) PARTITION BY RANGE (id);',
	'CREATE TABLE child1 PARTITION OF child FOR VALUES FROM (0) TO (1000);',
	'INSERT INTO parent SELECT i, \'p\' || i % 3 FROM generate_series(1, 20) i; INSERT INTO child SELECT i, 1 + i % 20, i FROM generate_series(1, 100) i;',
	'CREATE INCREMENTAL VIEW family AS SELECT p.name, count(*), sum(c.v) FROM parent p JOIN child c ON c.parent = p.id GROUP BY p.name;',
	'CREATE INCREMENTAL VIEW children AS SELECT id, parent FROM child;');
run('CREATE TABLE parent2 (name text, id int PRIMARY KEY); INSERT INTO parent2 SELECT \'q\', i FROM generate_series(100, 110) i;',
	'ALTER TABLE parent ATTACH PARTITION parent2 FOR VALUES FROM (100) TO (200);',
	'CREATE TABLE child2 (v int, id int, parent int); INSERT INTO child2 SELECT i, 1000 + i, 100 + i % 11 FROM generate_series(1, 50) i;',
	'ALTER TABLE child ATTACH PARTITION child2 FOR VALUES FROM (1000) TO (2000);',
	'DELETE FROM parent WHERE id IN (5, 105); UPDATE parent SET id = 120 WHERE id = 110;');
are_exact($node, 'exact with foreign keys between partitioned tables');
run('ALTER TABLE child DETACH PARTITION child2; DELETE FROM parent WHERE id = 106;');
are_exact($node, 'exact when one of the children was detached');
are_rebuilt('', 'without a rebuild');

# ---- a writer in an open transaction ----

my $writer = connection($node);
$writer->query_safe('BEGIN; INSERT INTO s VALUES (110, 4, 1); UPDATE s SET v = v + 1 WHERE k < 200;');
$node->safe_psql('postgres', 'UPDATE s5 SET r = r + 1; INSERT INTO s5 VALUES (3, 511, 5)');
my $attacher = connection($node);
$attacher->query_until(qr/begun/, "\\echo begun\nALTER TABLE s ATTACH PARTITION s5 FOR VALUES FROM (500) TO (600);\n");
$writer->query_safe('UPDATE s SET r = 3 WHERE k = 110; DELETE FROM s WHERE k = 111; COMMIT;');
$attacher->query_safe('UPDATE s SET v = v + 1 WHERE k > 500;');
$attacher->quit;
are_exact($node, 'exact when one was attached beside a writer');
$writer->query_safe('BEGIN; UPDATE s5 SET v = v + 1; INSERT INTO s VALUES (520, 5, 5);');
my $detacher = connection($node);
$detacher->query_until(qr/begun/, "\\echo begun\nALTER TABLE s DETACH PARTITION s5;\n");
$writer->query_safe('DELETE FROM s WHERE k = 512; COMMIT; UPDATE s5 SET v = 0 WHERE k = 513;');
$detacher->query_safe('UPDATE s5 SET v = v + 1;');
$detacher->quit;
$writer->quit;
are_exact($node, 'exact when one was detached beside a writer');
are_rebuilt('', 'without a rebuild');

# ---- parts that are recomputed ----

run('CREATE TABLE r (v int, k int, c text) PARTITION BY RANGE (k);', 'CREATE TABLE r1 PARTITION OF r FOR VALUES FROM (100) TO (200);',
	'CREATE TABLE r2 (c text, k int, v int); ALTER TABLE r ATTACH PARTITION r2 FOR VALUES FROM (200) TO (300);',
	'INSERT INTO r SELECT i, 100 + i * 3 % 200, \'c\' || i % 3 FROM generate_series(1, 60) i;',
	'CREATE TABLE o (k int, name text); INSERT INTO o SELECT i, \'o\' || i FROM generate_series(120, 340, 20) i;',
	'CREATE INCREMENTAL VIEW r_max AS SELECT DISTINCT c, max(v) OVER (PARTITION BY c) FROM r;',
	'CREATE INCREMENTAL VIEW r_left AS SELECT o.name, r.v FROM o LEFT JOIN r ON r.k = o.k;',
	'CREATE INCREMENTAL VIEW r_rank AS SELECT k, rank() OVER (PARTITION BY c ORDER BY k, v) AS rank FROM r WHERE v > 3;',
	'CREATE INCREMENTAL VIEW r_both AS SELECT r.v, m.most FROM r JOIN (SELECT DISTINCT c, max(k) OVER (PARTITION BY c) AS most FROM r) m ON m.c = r.c;',
	'CREATE INCREMENTAL VIEW r_twice AS SELECT DISTINCT max(v) OVER () AS m FROM r UNION ALL SELECT DISTINCT min(k) OVER () FROM r WHERE c <> \'c1\';',
	'CREATE INCREMENTAL VIEW r_sum AS SELECT count(*), sum(v) FROM r;');
my $recomputes = q{SELECT sum(recomputes) FROM pg_stat_ivm WHERE relname LIKE 'r\_%'};
sync($node);
my $before = $node->safe_psql('postgres', $recomputes);
run('CREATE TABLE r3 PARTITION OF r FOR VALUES FROM (300) TO (400);');
are_exact($node, 'exact with an empty one');
is_value($node, $recomputes, $before, 'for which nothing is recomputed');
run('INSERT INTO r VALUES (500, 320, \'c1\'), (1, 340, \'c9\');');
are_exact($node, 'exact with rows in it');
run('CREATE TABLE r4 (gone int, v int, k int, c text); ALTER TABLE r4 DROP COLUMN gone; INSERT INTO r4 VALUES (900, 410, \'c2\'), (3, 420, \'c0\');',
	'ALTER TABLE r ATTACH PARTITION r4 FOR VALUES FROM (400) TO (500); INSERT INTO o VALUES (410, \'late\');');
are_exact($node, 'exact when one with rows was attached');
run('BEGIN; UPDATE r SET v = v + 1; ALTER TABLE r DETACH PARTITION r3; UPDATE r3 SET v = 0; INSERT INTO r3 VALUES (1000, 399, \'c1\'); COMMIT;');
are_exact($node, 'exact when one was written to and detached');
run('DELETE FROM r3 WHERE v = 0; ALTER TABLE r ATTACH PARTITION r3 FOR VALUES FROM (300) TO (400); ALTER TABLE r DETACH PARTITION r4 CONCURRENTLY;');
are_exact($node, 'exact when it is back, and another one gone');
run('DROP TABLE r4;');
are_rebuilt('', 'without a rebuild');

# away only while a view cannot be written to, but the worker has seen it: then it has the same members as before
my $holder = connection($node);
foreach my $way ('', 'CONCURRENTLY')
{
	foreach my $change ('DELETE FROM r3 WHERE k = 340', 'INSERT INTO r3 SELECT i, 340, \'c1\' FROM generate_series(1, 9) i',
		'TRUNCATE r3', 'INSERT INTO r3 VALUES (77, 340, \'c2\')', 'UPDATE r3 SET v = v + 1000')
	{
		sync($node);
		$holder->query_safe('BEGIN; CREATE INDEX ON r_max (max); CREATE INDEX ON r_twice (m); CREATE INDEX ON r_rank (k)');
		run("ALTER TABLE r DETACH PARTITION r3 $way; SELECT ivm.sync('r_sum');");
		run("$change; SELECT ivm.sync('r_sum');");
		run('ALTER TABLE r ATTACH PARTITION r3 FOR VALUES FROM (300) TO (400);');
		$holder->query_safe('ROLLBACK');
		are_exact($node, "exact when one was away $way for: $change");
	}
}
run('ALTER TABLE r ADD x int DEFAULT 5;');
# what is done to it then has no row in the log, but for the first
foreach my $change ('DELETE FROM r3', 'ALTER TABLE r3 RENAME v TO w; ALTER TABLE r3 RENAME x TO v; ALTER TABLE r3 RENAME w TO x',
	'ALTER TABLE r3 ALTER v TYPE int USING v + 5000',
	'TRUNCATE r3; INSERT INTO r3 SELECT i, 340, \'c2\' FROM generate_series(1, 9) i')
{
	run('INSERT INTO r (v, k, c) SELECT i + 300, 301 + i, \'c1\' FROM generate_series(1, 90) i;');
	are_exact($node, "exact before: $change");
	run("BEGIN; ALTER TABLE r DETACH PARTITION r3; $change; ALTER TABLE r ATTACH PARTITION r3 FOR VALUES FROM (300) TO (400); COMMIT;");
	are_exact($node, "exact when one was away in one transaction for: $change");
}
# by a parent that was away with it
run('CREATE TABLE r9 (v int, k int, c text, x int) PARTITION BY RANGE (k); CREATE TABLE r9a PARTITION OF r9 FOR VALUES FROM (900) TO (950);',
	'INSERT INTO r9 VALUES (6, 910, \'c1\'), (7, 920, \'c2\'); ALTER TABLE r ATTACH PARTITION r9 FOR VALUES FROM (900) TO (1000);');
are_exact($node, 'exact with a partition of a partition');
run('BEGIN; ALTER TABLE r DETACH PARTITION r9; ALTER TABLE r9 ALTER v TYPE int USING v + 9000; ALTER TABLE r ATTACH PARTITION r9 FOR VALUES FROM (900) TO (1000); COMMIT;');
are_exact($node, 'exact when its parent was away, and rewritten');
$holder->quit;
%known = map { split /\|/ } split /\n/, $node->safe_psql('postgres', 'SELECT relname, rebuilds FROM pg_stat_ivm');
run('DROP TABLE r2;');
are_exact($node, 'exact when one with rows was dropped');
are_rebuilt('r_both r_left r_sum', 'for which only what needs its rows is rebuilt');

# ---- a partition a day ----

run('CREATE TABLE days (day date, v int) PARTITION BY RANGE (day);',
	(map { "CREATE TABLE day$_ PARTITION OF days FOR VALUES FROM ('2024-01-0$_') TO ('2024-01-0" . ($_ + 1) . "'); INSERT INTO days VALUES ('2024-01-0$_', $_);" } 1 .. 3),
	'CREATE INCREMENTAL VIEW per_day AS SELECT day, count(*), sum(v) FROM days GROUP BY day;',
	'CREATE INCREMENTAL VIEW totals AS SELECT count(*), sum(v) FROM days;', 'CREATE INCREMENTAL VIEW newest AS SELECT max(day) FROM days;');
foreach my $day (4 .. 7)
{
	my $old = $day - 3;
	run("CREATE TABLE day$day PARTITION OF days FOR VALUES FROM ('2024-01-0$day') TO ('2024-01-0" . ($day + 1) . "');",
		"INSERT INTO days SELECT '2024-01-0$day', i FROM generate_series(1, 9) i;", "ALTER TABLE days DETACH PARTITION day$old;");
	sync($node);
	run("DROP TABLE day$old;");
}
are_exact($node, 'exact after some days');
are_rebuilt('', 'without a rebuild');

# ---- what rebuilds, and is exact ----

run('TRUNCATE s1;');
are_exact($node, 'exact when one was emptied');
run('DROP TABLE d7; INSERT INTO d VALUES (7, 1);');
are_exact($node, 'exact when one with rows was dropped');
run('DROP TABLE g1;');
are_exact($node, 'exact when one of two was dropped');

$node->stop;
done_testing();
