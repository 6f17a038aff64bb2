# min, max and whatever gives the first value in an order, exact after each change of data full of equal values: with
# everything in files, while allocations fail, and after kills on the way of a change.  No group is read for it.
#
# kills: apply workers, postmaster

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $node = new_node('extreme', 'ivm.apply_workers = 1', 'ivm.debug_check_old = on');

my %views = (
	ends => 'SELECT k, min(x), max(x) FROM e GROUP BY k',
	all_ends => 'SELECT min(n) AS a, max(n) AS b, min(s) AS c, max(s) AS d, count(*) FROM e',
	filtered => 'SELECT k, max(x) FILTER (WHERE n > 1), min(s) FILTER (WHERE x % 2 = 0), sum(x) FROM e GROUP BY k',
	with_having => 'SELECT k, min(x) FROM e GROUP BY k HAVING max(x) - min(x) > 3',
	by_index => 'SELECT y, max(z), min(z) FROM f GROUP BY y',
	of_join => 'SELECT e.k, max(f.z), min(f.y) FROM e JOIN f ON f.e_id = e.id GROUP BY e.k',
	of_groups => 'SELECT max(c), min(m) FROM (SELECT k, count(*) AS c, max(x) AS m FROM e GROUP BY k) q',
	of_firsts => 'SELECT max(x), min(id) FROM (SELECT id, x FROM e ORDER BY x DESC NULLS LAST, id LIMIT 30) q',
	looked_up => 'SELECT e.id, q.m FROM e JOIN (SELECT k, max(x) AS m FROM e GROUP BY k) q ON q.k = e.k AND q.m = e.x',
	long => 'SELECT k, max(l), min(l) FROM e GROUP BY k');

my @transactions = (
	['new extremes' => <<'EOS'],
INSERT INTO e SELECT 1000 + i, i % 7, 100 - i, i % 3 + 0.00, chr(96 + i), NULL FROM generate_series(1, 20) i;
INSERT INTO f SELECT 1000 + i, i, i % 5, -i FROM generate_series(1, 20) i;
EOS
	['they go' => 'DELETE FROM e WHERE x > 60 OR x = 0; DELETE FROM f WHERE z IN (SELECT max(z) FROM f UNION ALL SELECT min(z) FROM f)'],
	['equal values that look different, and NULL' => <<'EOS'],
UPDATE e SET n = n + 0.000 WHERE id % 3 = 0;
UPDATE e SET x = NULL, s = NULL WHERE k = 3;
UPDATE f SET z = NULL WHERE y = 2;
DELETE FROM e WHERE n = 1 AND id % 2 = 0;
EOS
	['what has the value comes and goes' => <<'EOS'],
UPDATE e SET s = upper(s), k = nullif(k + 1, 4);
UPDATE f SET e_id = e_id + 1, z = -z;
UPDATE e SET l = repeat('m', 2500) || id WHERE id % 3 = 1;
EOS
	['one value' => 'UPDATE e SET x = 5, n = 1.0; UPDATE f SET z = 1'],
	['little is left' => 'DELETE FROM e WHERE id % 16 > 0; DELETE FROM f WHERE id % 8 > 0'],
	['nothing is left' => 'DELETE FROM e; DELETE FROM f'],
	['and more again' => <<'EOS'],
INSERT INTO e SELECT 5000 + i, i % 9, i % 50, i % 5, 's' || i % 11, repeat('r', i * 10) FROM generate_series(1, 300) i;
INSERT INTO f SELECT 5000 + i, 5000 + i, i % 4, i FROM generate_series(1, 100) i;
EOS
);

sub make_tables
{
	$node->safe_psql('postgres', <<'EOS');
CREATE COLLATION IF NOT EXISTS ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE e (id int PRIMARY KEY, k int, x int, n numeric, s text COLLATE ci, l text);
CREATE TABLE f (id int PRIMARY KEY, e_id int, y int, z int);
CREATE INDEX ON f (y, z);
INSERT INTO e SELECT i, nullif(i % 9, 8), i % 40, i % 4, chr(97 + i % 5), repeat('l', 3000 * (i % 2)) || i % 50 FROM generate_series(1, 300) i;
INSERT INTO f SELECT i, i, nullif(i % 5, 4), i % 30 FROM generate_series(1, 200) i;
EOS
	$node->safe_psql('postgres', "CREATE INCREMENTAL VIEW $_ AS $views{$_}") foreach sort keys %views;
	return;
}

$node->safe_psql('postgres', 'CREATE EXTENSION ivm_ext');
exact_under_settings(
	$node,
	tables => 'e, f',
	transactions => \@transactions,
	make => \&make_tables,
	first => sub { like($node->safe_psql('postgres', "SELECT ivm.explain('by_index')"), qr/Extremes: by y, z  \(index f_y_z_idx\)/, 'an index serves') },
	last => sub { is_value($node, 'SELECT sum(recomputes) FROM pg_stat_ivm', 0, "no group was read, $_[0]") });

make_tables();
exact_after_kills($node, change => sub { 'DELETE FROM e WHERE (k, x) IN (SELECT k, max(x) FROM e GROUP BY k)' });

$node->stop;
done_testing();
