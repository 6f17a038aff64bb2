# Partitions and children come and go, with rows and without, while all of them are written
# to: their rows come into the views and leave them, and no view is built anew.  PARTITION_ROUNDS and
# PARTITION_SEED say how many rounds, and which.
#
# kills: nothing

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $rounds = $ENV{PARTITION_ROUNDS} // 4;
my $seed = $ENV{PARTITION_SEED} // int(rand(1_000_000));
my $ranges = 6;
my $node = new_node('partitions', 'autovacuum = off', 'ivm.apply_workers = 2');

srand($seed);
note("seed $seed");

sub run
{
	$node->safe_psql('postgres', join "\n", 'SET client_min_messages = error;', @_);
	return;
}

# Each table that can be a partition has its columns in another order.
my @columns = ('id int NOT NULL, gone text, k int NOT NULL, v numeric, c text',
	'c text, v numeric, k int NOT NULL, gone int, id int NOT NULL', 'gone int, k int NOT NULL, id int NOT NULL, c text, v numeric');
my $bounds = sub { my ($i) = @_; 'FROM (' . 100 * $i . ') TO (' . 100 * ($i + 1) . ')' };

run('CREATE EXTENSION ivm_ext;',
	'CREATE TABLE p (id int, k int NOT NULL, v numeric, c text) PARTITION BY RANGE (k);',
	'CREATE TABLE f (k int PRIMARY KEY, name text); INSERT INTO f SELECT i, \'f\' || i % 4 FROM generate_series(0, 999) i;',
	'CREATE TABLE h (id int, k int NOT NULL, v numeric, c text); INSERT INTO h SELECT i, i, i, \'h\' FROM generate_series(1, 20) i;',
	(map { "CREATE TABLE q$_ ($columns[$_ % 3]); ALTER TABLE q$_ DROP COLUMN gone;" .
		  " ALTER TABLE q$_ ADD CHECK (k >= 100 * $_ AND k < 100 * ($_ + 1));" .
		  " INSERT INTO q$_ (id, k, v, c) SELECT i, 100 * $_ + i % 100, i, 'q' || i % 3 FROM generate_series(1, 60) i;" .
		  " ALTER TABLE q$_ REPLICA IDENTITY FULL;" } 0 .. $ranges - 1),
	# a partition that has partitions
	'CREATE TABLE s (c text, v numeric, k int NOT NULL, id int) PARTITION BY LIST (c);',
	'CREATE TABLE s_a PARTITION OF s FOR VALUES IN (\'a\'); CREATE TABLE s_b (k int NOT NULL, id int, c text, v numeric);',
	'ALTER TABLE s ATTACH PARTITION s_b DEFAULT;',
	'INSERT INTO s SELECT chr(97 + i % 3), i, 600 + i % 100, i FROM generate_series(1, 50) i;',
	'ALTER TABLE p ATTACH PARTITION q0 FOR VALUES ' . $bounds->(0) . ';',
	'ALTER TABLE q5 INHERIT h;',
	# an index for joins
	'CREATE INDEX ON p (k); CREATE INDEX ON h (k); CREATE INDEX ON q5 (k);');

my %queries = (
	plain => 'SELECT id, k, v, c FROM p WHERE v > 5',
	tables => 'SELECT tableoid AS t, count(*) AS n FROM p GROUP BY tableoid',
	grouped => 'SELECT c, count(*) AS n, sum(v) AS s, avg(v) AS a FROM p GROUP BY c',
	total => 'SELECT count(*), sum(v) FROM p',
	pruned => 'SELECT id, v FROM p WHERE k >= 50 AND k < 350',
	joined => 'SELECT f.name, count(*) AS n, sum(p.v) AS s FROM p JOIN f USING (k) GROUP BY f.name',
	itself => 'SELECT x.id AS x, y.id AS y, y.c FROM p x JOIN p y USING (k) WHERE x.v < 30',
	unindexed => 'SELECT x.id AS x, y.k FROM p x JOIN p y ON y.id = x.k WHERE x.c = \'q1\'',
	kinds => 'SELECT DISTINCT c, k / 100 AS h FROM p',
	twice => 'SELECT id, k FROM p UNION ALL SELECT id, k FROM p',
	union_all => 'SELECT id, k, 1 AS n FROM p UNION ALL SELECT id, k, 2 FROM h UNION ALL SELECT k, k, 3 FROM f WHERE k < 5',
	children => 'SELECT c, count(*) AS n, sum(v) AS s FROM h GROUP BY c',
	halves => 'SELECT h.id, p.v FROM h JOIN p USING (k)');
run(map { "CREATE INCREMENTAL VIEW $_ AS $queries{$_};" } sort keys %queries);
run('CREATE INCREMENTAL VIEW above AS SELECT n, count(*) AS m FROM grouped GROUP BY n;');
are_exact($node, 'all are exact at first');
my $offset = -s $node->logfile;

# ---- one day after the other ----

run('CREATE TABLE p_day1 PARTITION OF p FOR VALUES FROM (700) TO (800);');
are_exact($node, 'exact after a partition was made');
run('INSERT INTO p SELECT i, 700 + i, i, \'day\' FROM generate_series(0, 50) i;');
run('BEGIN; CREATE TABLE p_day2 (LIKE p); INSERT INTO p_day2 SELECT i, 800 + i, i, \'day\' FROM generate_series(0, 50) i;',
	'ALTER TABLE p ATTACH PARTITION p_day2 FOR VALUES FROM (800) TO (900); UPDATE p SET v = v + 1 WHERE k > 750; COMMIT;');
are_exact($node, 'exact after one with rows was attached in a block');
# what a view does not have yet of its changes must not be taken out of it
run('BEGIN; UPDATE p SET v = v + 1 WHERE k >= 700 AND k < 730; DELETE FROM p_day1 WHERE k > 745; ALTER TABLE p DETACH PARTITION p_day1;',
	'UPDATE p_day1 SET v = v + 1; INSERT INTO p_day1 VALUES (1, 799, 1, \'late\'); COMMIT;');
are_exact($node, 'exact after one was written to and detached');
# nor must what came with it be counted twice
run('BEGIN; UPDATE p_day1 SET v = v + 1; ALTER TABLE p ATTACH PARTITION p_day1 FOR VALUES FROM (700) TO (800); UPDATE p SET v = v + 1 WHERE k > 720; COMMIT;');
are_exact($node, 'exact after one was written to and attached');
run('ALTER TABLE p DETACH PARTITION p_day1;');
are_exact($node, 'exact after one was detached');
run('ALTER TABLE p DETACH PARTITION p_day2 CONCURRENTLY;');
are_exact($node, 'exact after one was detached concurrently');
run('DROP TABLE p_day1, p_day2; ALTER TABLE p ATTACH PARTITION s FOR VALUES FROM (600) TO (700);');
are_exact($node, 'exact with a partition that has partitions');
run('CREATE TABLE s_c PARTITION OF s FOR VALUES IN (\'new\'); INSERT INTO p VALUES (1, 601, 1, \'new\'), (2, 602, 2, \'a\');');
are_exact($node, 'exact with one more below it');

# ---- at random, while others write ----

my %attached = (0 => 1);
my %inherits = (5 => 1);

sub random_step
{
	my $i = 1 + int(rand($ranges - 2));
	my $kind = rand();

	if ($kind < 0.15)
	{
		my $j = 5;
		$inherits{$j} = !$inherits{$j};
		return 'ALTER TABLE q5 ' . ($inherits{$j} ? 'INHERIT h;' : 'NO INHERIT h;');
	}
	$attached{$i} = !$attached{$i};
	return "ALTER TABLE p DETACH PARTITION q$i" . ($kind < 0.3 ? ' CONCURRENTLY;' : ';') if !$attached{$i};
	return "ALTER TABLE p ATTACH PARTITION q$i FOR VALUES " . $bounds->($i) . ';';
}

run(<<'EOS');
CREATE PROCEDURE write(seed float8, n int) LANGUAGE plpgsql AS $$
DECLARE
	i int;
	t text;
BEGIN
	PERFORM setseed(seed);
	FOR j IN 1 .. n LOOP
		i := floor(random() * 6);
		t := 'q' || i;
		CASE floor(random() * 5)
		WHEN 0 THEN EXECUTE format('INSERT INTO %I (id, k, v, c) SELECT j, $1 + j * 7 %% 100, j, ''w'' || j %% 4 FROM generate_series($2, $2 + 3) j', t) USING 100 * i, j;
		WHEN 1 THEN EXECUTE format('UPDATE %I SET v = v + 1, k = $1 + (k + 1) %% 100 WHERE id %% 10 = $2 %% 10', t) USING 100 * i, j;
		WHEN 2 THEN EXECUTE format('DELETE FROM %I WHERE id %% 17 = $1 %% 17', t) USING j;
		WHEN 3 THEN UPDATE f SET name = 'f' || (k + j) % 4 WHERE k % 50 = j % 50;
		ELSE
			IF random() < 0.2 THEN
				ROLLBACK;
			END IF;
		END CASE;
		COMMIT;
	END LOOP;
END
$$;
EOS

foreach my $round (1 .. $rounds)
{
	my @writers = map { connection($node) } 1 .. 2;
	my @steps = map { random_step() } 1 .. 3;

	$_->query_safe('SET lock_timeout = 0') foreach @writers;
	$_->query_until(qr/begun/, "\\echo begun\nCALL write(" . rand() . ", 60);\n\\echo written\n") foreach @writers;
	run("SET lock_timeout = 0; $_") foreach @steps;
	$_->quit foreach @writers;
	are_exact($node, "exact after round $round of seed $seed: @steps") or last;
}
is_value($node, 'SELECT string_agg(relname || \': \' || last_rebuild_reason, \', \') FROM pg_stat_ivm WHERE rebuilds > 0', '',
	'no view was built anew');
is(rebuilds($node, $offset), 0, 'nor does the log speak of that');

# ---- what cannot be told ----

my ($gone) = grep { $attached{$_} } 1 .. $ranges - 2;
if (!defined $gone)
{
	$gone = 1;
	run('ALTER TABLE p ATTACH PARTITION q1 FOR VALUES ' . $bounds->(1) . ';');
	are_exact($node, 'exact after one more was attached');
}
run("BEGIN; ALTER TABLE p DETACH PARTITION q$gone; ALTER TABLE q$gone ALTER COLUMN v TYPE numeric USING v + 1; COMMIT;");
are_exact($node, 'exact after a partition was detached and rewritten');
run("ALTER TABLE q$gone ALTER COLUMN v TYPE numeric USING v - 1; ALTER TABLE p ATTACH PARTITION q$gone FOR VALUES " . $bounds->($gone) . ';');
are_exact($node, 'and attached again');
run("BEGIN; ALTER TABLE p DETACH PARTITION q$gone; ALTER TABLE q$gone RENAME COLUMN id TO x; ALTER TABLE q$gone RENAME COLUMN k TO id;",
	"ALTER TABLE q$gone RENAME COLUMN x TO k; COMMIT;");
are_exact($node, 'exact after one was detached and had its columns renamed');
run('TRUNCATE q0;');
are_exact($node, 'exact after one was emptied');
run('DROP TABLE q0;');
are_exact($node, 'exact after one was dropped');

$node->stop;
done_testing();
