# Joins whose inputs are in files, and keys that come again and again, give the
# same rows as the query.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $node = new_node('join_spill', 'ivm.apply_workers = 1', 'log_temp_files = 0');

# No table but c has an index that the joins could use: a is kept in a state
# table or read whole, as b is.
sub make_tables
{
	$node->safe_psql('postgres', <<'EOS');
CREATE TABLE a (k int, v int, t text);
CREATE TABLE b (k bigint, v int, t text);
CREATE TABLE c (id int PRIMARY KEY, k int, v numeric);
CREATE INDEX ON c (k);
INSERT INTO a SELECT nullif(i % 23, 0), i, 'a' || i % 7 FROM generate_series(1, 300) i;
INSERT INTO b SELECT nullif(i % 31, 0), i % 50, repeat('b', i % 40) || i % 7 FROM generate_series(1, 300) i;
INSERT INTO c SELECT i, nullif(i % 19, 0), i FROM generate_series(1, 300) i;
ANALYZE;
EOS
	return;
}

my %views = (
	two => 'SELECT a.v AS av, b.v AS bv, a.t FROM a JOIN b ON a.k = b.k',
	three => 'SELECT a.v AS av, b.t, c.v AS cv FROM a JOIN b ON a.k = b.k JOIN c ON c.k = b.k WHERE a.v % 3 = 0',
	indexed => 'SELECT c.id, a.v FROM c JOIN a ON a.v = c.k',
	two_keys => 'SELECT a.v AS av, c.id FROM a JOIN c ON a.k = c.k AND a.v % 10 = c.v % 10',
	by_text => q{SELECT a.v AS av, count(*) AS n FROM a JOIN b ON a.t = 'a' || right(b.t, 1) GROUP BY a.v},
	grouped => 'SELECT a.k, count(*) AS n, sum(b.v) AS s FROM a JOIN b ON a.k = b.k GROUP BY a.k',
	itself => 'SELECT x.v AS xv, y.v AS yv FROM a x JOIN a y ON x.k = y.k AND x.v < y.v',
	thrice => 'SELECT x.id AS x, y.id AS y, z.id AS z FROM c x JOIN c y ON x.k = y.k JOIN c z ON y.id = z.k',
	crossed => 'SELECT a.k AS ak, count(*) AS n, sum(c.v) AS s FROM a CROSS JOIN c WHERE c.id % 5 = 0 GROUP BY a.k',
	unequal => 'SELECT count(*) AS n FROM a, b WHERE a.k = b.k AND a.v < b.v');

sub make_views
{
	foreach my $view (sort keys %views)
	{
		$node->safe_psql('postgres', "CREATE INCREMENTAL VIEW $view AS $views{$view}");
	}
	return;
}

# Each transaction changes several inputs.
my @transactions = (
	['all inputs' => <<'EOS'],
INSERT INTO a SELECT nullif(i % 23, 0), 1000 + i, 'a' || i % 7 FROM generate_series(1, 40) i;
INSERT INTO b SELECT nullif(i % 31, 0), i % 50, 'b' || i % 7 FROM generate_series(1, 40) i;
INSERT INTO c SELECT 1000 + i, nullif(i % 19, 0), i FROM generate_series(1, 40) i;
EOS
	['rows that come twice, and NULL' => <<'EOS'],
INSERT INTO a SELECT 5, 7, 'a1' FROM generate_series(1, 4);
INSERT INTO b SELECT 5, 7, 'a1' FROM generate_series(1, 3);
INSERT INTO a VALUES (NULL, 1, NULL), (NULL, NULL, NULL);
INSERT INTO b VALUES (NULL, 1, NULL), (NULL, NULL, NULL);
UPDATE a SET k = NULL WHERE k = 3;
UPDATE b SET k = 3 WHERE k IS NULL;
EOS
	['one key on all sides' => <<'EOS'],
INSERT INTO a SELECT 77, 2000 + i, 'a' || i % 3 FROM generate_series(1, 30) i;
INSERT INTO b SELECT 77, i, 'b' || i % 3 FROM generate_series(1, 30) i;
INSERT INTO c SELECT 2000 + i, 77, i FROM generate_series(1, 6) i;
EOS
	['a key that was there grows and shrinks' => <<'EOS'],
DELETE FROM a WHERE k = 77 AND v % 2 = 0;
UPDATE b SET v = v + 1 WHERE k = 77 AND v % 3 = 0;
INSERT INTO a SELECT 77, 3000 + i, 'a' || i % 3 FROM generate_series(1, 15) i;
DELETE FROM b WHERE k = 77 AND v % 5 = 0;
INSERT INTO b SELECT 77, 100 + i, 'b' || i % 3 FROM generate_series(1, 15) i;
UPDATE c SET k = 76 WHERE k = 77 AND id % 2 = 0;
EOS
	['keys move' => <<'EOS'],
UPDATE a SET k = (k + 1) % 23 WHERE v % 4 = 0;
UPDATE b SET k = (k + 1) % 31 WHERE v % 4 = 1;
UPDATE c SET k = (k + 1) % 19 WHERE id % 4 = 2;
EOS
	['all of a goes' => <<'EOS'],
DELETE FROM a WHERE k <> 77;
DELETE FROM b WHERE v % 2 = 0;
UPDATE c SET v = v + 1;
EOS
);

# Temporary files that our processes have removed, by the log.
sub files
{
	my ($from, $process) = @_;
	my $log = slurp_file($node->logfile, $from);
	my @found = $log =~ /ivm $process[^\n]*LOG:\s+temporary file: path/g;
	return scalar @found;
}

$node->append_conf('postgresql.conf', "log_line_prefix = '%m [%p] %b '");
$node->restart;
$node->safe_psql('postgres', 'CREATE EXTENSION ivm_ext');

foreach my $kinds ('', 'lookup', 'lookup,zset')
{
	my $what = $kinds eq '' ? 'in memory' : "spilled: $kinds";
	my $from;

	$node->append_conf('postgresql.conf', "ivm.debug_spill = '$kinds'");
	$node->restart;
	$from = -s $node->logfile;
	make_tables();
	make_views();
	are_exact($node, "$what: population");
	foreach (@transactions)
	{
		my ($name, $statements) = @$_;

		$node->safe_psql('postgres', "BEGIN; $statements COMMIT;");
		are_exact($node, "$what: $name");
	}

	# an input that is replaced as a whole
	$node->safe_psql('postgres', "BEGIN; TRUNCATE a; COMMIT");
	are_exact($node, "$what: rebuilt");
	if ($kinds eq '')
	{
		is(files($from, 'apply worker'), 0, "$what: no files");
	}
	else
	{
		cmp_ok(files($from, 'apply worker'), '>', 20, "$what: joins had files");
	}
	unlike(slurp_file($node->logfile, $from), qr/WARNING/, "$what: no file was left open");
	$node->safe_psql('postgres', 'DROP TABLE a, b, c CASCADE');
}

$node->stop;
done_testing();
