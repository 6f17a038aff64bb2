# Aggregates that do not fit in memory: groups absorb their rows, and rows of
# groups that find no room wait in files.  Forced by a setting, and by size.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

# ---- forced: four groups are open at most ----

my $node = new_node('spill', "ivm.debug_spill = 'aggregate'", 'log_temp_files = 0', 'ivm.apply_workers = 1');

# Number of temporary files that processes of a kind have removed since then.
sub files
{
	my ($type, $from) = @_;
	my $log = slurp_file($node->logfile, $from);
	my $number = () = $log =~ /^[^\n]*\] $type[^\n]*temporary file: path/mg;
	return $number;
}
$node->append_conf('postgresql.conf', "log_line_prefix = '%m [%p] %b '\n");
reload($node);

my $icu = $node->safe_psql('postgres', q{SELECT count(*) > 0 FROM pg_collation WHERE collprovider = 'i'}) eq 't';
my $nocase = $icu ? 'COLLATE nocase' : '';
$node->safe_psql('postgres', q{CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)})
  if $icu;
$node->safe_psql('postgres', <<"EOS");
CREATE EXTENSION ivm_ext;
-- tsvector has no hash function: all groups have one hash
CREATE TABLE t (id int PRIMARY KEY, g int, n numeric, f float8, b bool, word text $nocase, v tsvector);
CREATE TABLE pair (g int, x int);
CREATE INDEX ON pair (g);
CREATE FUNCTION fill(first int, last int) RETURNS void LANGUAGE sql AS \$\$
	INSERT INTO t SELECT i, CASE WHEN i % 13 = 0 THEN NULL ELSE i % 150 END,
		CASE WHEN i % 9 = 0 THEN NULL ELSE (i % 40)::numeric * CASE i % 3 WHEN 0 THEN 1 WHEN 1 THEN 1.0 ELSE 1.00 END END,
		i / 8.0, i % 3 = 0, CASE WHEN i % 2 = 0 THEN 'word' ELSE 'WORD' END || i % 31, to_tsvector('simple', 'w' || i % 50)
	FROM generate_series(first, last) i
\$\$;
SELECT fill(1, 1000);
INSERT INTO pair SELECT i % 3, i FROM generate_series(1, 60) i;
EOS
my %views = (
	groups => 'SELECT g, count(*), count(n) AS some, sum(n) AS n, avg(n), sum(f) AS f, bool_or(b), bool_and(b), sum(id) AS ids FROM t GROUP BY g',
	looks => 'SELECT n, count(*), sum(id) FROM t GROUP BY n',
	words => 'SELECT word, sum(n), count(*) FROM t GROUP BY word',
	vectors => 'SELECT v, count(*), sum(n) FROM t GROUP BY v',
	two => 'SELECT g % 20 AS a, n, ids / 2 AS c, count(*) FROM (SELECT g, n, sum(id) AS ids FROM t GROUP BY g, n) q GROUP BY 1, 2, 3',
	grand => 'SELECT count(*) AS rows, sum(n) AS n, sum(f) AS f, count(*) FILTER (WHERE b) AS yes FROM t',
	nothing => 'SELECT count(*), sum(id) FROM t WHERE id < 0',
	different => 'SELECT DISTINCT g, b FROM t',
	different_words => 'SELECT DISTINCT word FROM t',
	skewed => 'SELECT p.g, p.x % 7 AS r, count(*), sum(p.x + q.x) FROM pair p JOIN pair q ON q.g = p.g GROUP BY 1, 2');
my $from = -s $node->logfile;
$node->safe_psql('postgres', "CREATE INCREMENTAL VIEW $_ AS $views{$_}") foreach sort keys %views;
are_exact($node, 'populated');
cmp_ok(files('ivm builder', $from), '>', 5, 'by files');

# The columns that a group shows are those of one of its rows.
sub shows_what_is_there
{
	my ($name) = @_;
	is_value($node, 'SELECT count(*) FROM looks WHERE n IS NOT NULL AND n::text NOT IN (SELECT n::text FROM t WHERE n IS NOT NULL)',
		'0', "numbers are shown like one of them: $name");
	is_value($node, q{SELECT count(*) FROM words w WHERE NOT EXISTS
		(SELECT FROM t WHERE t.word::text COLLATE "C" = w.word::text COLLATE "C")},
		'0', "words are shown like one of them: $name");
	return;
}
shows_what_is_there('populated');

my @changes = (
	[ 'many rows come', 'SELECT fill(1001, 1600)' ],
	[ 'one row comes', 'SELECT fill(1601, 1601)' ],
	[ 'all change', 'UPDATE t SET n = n + 0.001, f = f * 1.5, b = NOT b' ],
	[ 'the widest scale goes', 'UPDATE t SET n = round(n)' ],
	[ 'they change looks', 'UPDATE t SET n = round(n) * 1.0, word = lower(word)' ],
	[ 'some change looks', 'UPDATE t SET n = trunc(n), word = upper(word) WHERE id % 3 = 0' ],
	[ 'groups vanish', 'DELETE FROM t WHERE g BETWEEN 20 AND 90' ],
	[ 'and come back', 'SELECT fill(2001, 2300)' ],
	[ 'groups vanish and come back', 'BEGIN; DELETE FROM t; SELECT fill(1, 700); DELETE FROM t WHERE g < 50; SELECT fill(701, 900); COMMIT' ],
	[ 'rows change many times', 'BEGIN; ' . ('UPDATE t SET n = n + 1, g = (g + 1) % 150, word = upper(word); ' x 4) . 'COMMIT' ],
	[ 'they come and go', 'BEGIN; SELECT fill(3001, 3400); DELETE FROM t WHERE id > 3000; COMMIT' ],
	[ 'a join becomes large', 'BEGIN; INSERT INTO pair SELECT i % 30, i FROM generate_series(100, 400) i; DELETE FROM pair WHERE x < 50; COMMIT' ],
	[ 'and small', 'DELETE FROM pair WHERE x > 60' ],
	[ 'everything goes', 'BEGIN; DELETE FROM t; DELETE FROM pair; COMMIT' ],
	[ 'and comes back', 'SELECT fill(1, 500)' ]);
foreach my $change (@changes)
{
	my ($name, $statement) = @$change;
	my $before = -s $node->logfile;

	$node->safe_psql('postgres', $statement);
	are_exact($node, $name);
	shows_what_is_there($name);
	cmp_ok(files('ivm apply worker', $before), '>', 0, 'by files') if $name eq 'all change';
}
is_value($node, 'SELECT sum(rebuilds) FROM pg_stat_ivm', '0', 'no view was computed anew meanwhile');
# a round reads the input for four of them
is_value($node, q{SELECT recomputes > 10 FROM pg_stat_ivm WHERE relid = 'groups'::regclass}, 't',
	'groups that refused were computed in rounds');

# The look of a row that came is no use if the row has gone again.
$node->safe_psql('postgres', 'CREATE TABLE look (id int, n numeric)');
$node->safe_psql('postgres', 'INSERT INTO look VALUES (1, 1.0)');
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW look_view AS SELECT n, count(*) FROM look GROUP BY n');
$node->safe_psql('postgres', 'INSERT INTO look VALUES (2, 1.000)');
sync($node);
$node->safe_psql('postgres', 'BEGIN; INSERT INTO look VALUES (3, 1.00); DELETE FROM look WHERE id <> 2; COMMIT');
are_exact($node, 'a row came and went, and so did the one that was shown');
is_value($node, 'SELECT n FROM look_view', '1.000', 'the one that is left is shown');

# Numeric's inverse refuses when the widest scale leaves; but here one comes as well.
$node->safe_psql('postgres', 'CREATE TABLE wide (id int, n numeric)');
$node->safe_psql('postgres', 'INSERT INTO wide VALUES (1, 1), (2, 1.5), (3, 1)');
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW wide_view AS SELECT sum(n) FROM wide');
sync($node);
$node->safe_psql('postgres', 'UPDATE wide SET n = n + 0.1 WHERE id = 2');
are_exact($node, 'the row of widest scale is another one');
is_value($node, q{SELECT recomputes FROM pg_stat_ivm WHERE relid = 'wide_view'::regclass}, '0',
	'what comes is added before anything is taken away');
$node->stop;

# ---- by size ----

$node = new_node('size', 'ivm.apply_workers = 1', 'ivm.memory_budget = 64MB', 'log_temp_files = 0');
$node->append_conf('postgresql.conf', "log_line_prefix = '%m [%p] %b '\n");
reload($node);
$node->safe_psql('postgres', <<'EOS');
CREATE EXTENSION ivm_ext;
CREATE TABLE t (id int, g int, v int, n numeric);
CREATE INCREMENTAL VIEW totals AS
	SELECT count(*) AS groups, sum(c) AS c, sum(s) AS s, sum(g * s) AS gs FROM
		(SELECT g, count(*) AS c, sum(v) AS s, sum(n) AS n FROM t GROUP BY g) q;
EOS
sync($node);

# The bytes of all contexts in which groups are.
sub group_bytes
{
	my ($pid) = @_;
	my $before = -s $node->logfile;
	$node->safe_psql('postgres', "SELECT pg_log_backend_memory_contexts($pid)");
	$node->wait_for_log(qr/\[$pid\].*Grand total/, $before);
	my $log = slurp_file($node->logfile, $before);
	my $bytes = 0;
	$bytes += $1 while $log =~ /level: \d+; ivm groups: (\d+) total/g;
	return $bytes;
}

foreach my $statement (
	'INSERT INTO t SELECT i, i % 100000, i % 1000, i FROM generate_series(1, 200000) i',
	'UPDATE t SET v = v + 1, g = g / 2')
{
	my $before = -s $node->logfile;

	set_points($node, 'apply-before=wait');
	$node->safe_psql('postgres', $statement);
	my $pid = wait_for_point($node, 'apply-before');
	my $bytes = group_bytes($pid);
	# some 60 MB would be needed for all
	cmp_ok($bytes, '>', 1024 * 1024, "groups are open: $statement");
	cmp_ok($bytes, '<', 10 * 1024 * 1024, 'and within bounds');
	set_points($node, '');
	are_exact($node, 'exact');
	cmp_ok(files('ivm apply worker', $before), '>', 0, 'the rest was in files');
}

# few groups: their states do not grow with the rows
$node->safe_psql('postgres', q{CREATE TABLE m (id int, g int, i interval, x numeric)});
$node->safe_psql('postgres', q{CREATE INCREMENTAL VIEW few AS SELECT g, count(*), sum(i) AS i, sum(x) AS x FROM m GROUP BY g});
sync($node);
set_points($node, 'apply-before=wait');
$node->safe_psql('postgres', q{INSERT INTO m SELECT i, i % 5, i * interval '1 second', i FROM generate_series(1, 200000) i});
my $bytes = group_bytes(wait_for_point($node, 'apply-before'));
cmp_ok($bytes, '<', 100 * 1024, 'many rows of few groups leave nothing behind');
set_points($node, '');
are_exact($node, 'exact');
forget_points($node);
wait_until($node, 'SELECT granted_bytes < guaranteed_bytes + 1024 * 1024 FROM pg_stat_ivm_memory',
	'all that groups held is given back');

$from = -s $node->logfile;
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW late AS SELECT g, count(*), sum(v) AS v, sum(n) AS n FROM t GROUP BY g');
are_exact($node, 'a view that is populated within bounds');
cmp_ok(files('ivm builder', $from), '>', 0, 'by files');
$node->stop;

done_testing();
