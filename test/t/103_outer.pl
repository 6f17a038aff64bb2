# Joins that keep rows without a match, or ask for one, are exact after each transaction, image for image: with everything
# in files, while allocations fail, with kills in the midst of it.  All of it by deltas.
#
# kills: apply workers, decoder, postmaster

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $node = new_node('outer', 'ivm.apply_workers = 1', 'ivm.debug_check_old = on');

my $d = 'd AS MATERIALIZED (SELECT a.k, a.id, b.id AS bid, b.y FROM a LEFT JOIN b ON a.k = b.k AND a.f <= b.f)';
my $e = 'e AS MATERIALIZED (SELECT c.id, c.k, c.f FROM c WHERE NOT EXISTS (SELECT FROM d WHERE d.bid = c.id))';
my %views = (
	l => 'SELECT a.*, b.k AS bk, b.t AS bt, b.id AS bid FROM a LEFT JOIN b USING (k)',
	f => 'SELECT a.*, b.id AS bid, b.k AS bk, b.t AS bt FROM a FULL JOIN b ON a.k = b.k AND a.t = b.t',
	semi => 'SELECT * FROM a WHERE EXISTS (SELECT FROM b WHERE b.k = a.k)',
	ins => 'SELECT * FROM a WHERE (k, t) IN (SELECT k, t FROM b)',
	anti => 'SELECT * FROM a WHERE NOT EXISTS (SELECT FROM b WHERE b.k = a.k AND b.t = a.t)',
	l_more => 'SELECT a.id, a.f, b.id AS bid, b.f AS bf FROM a LEFT JOIN b ON a.k = b.k AND a.f < b.f',
	f_more => 'SELECT a.id, a.f, b.id AS bid, b.f AS bf FROM a FULL JOIN b ON a.k = b.k AND (a.f > 0 OR b.t = a.t)',
	semi_more => 'SELECT * FROM a WHERE EXISTS (SELECT FROM b WHERE b.k = a.k AND b.id <> a.id AND b.f >= a.f)',
	anti_more => 'SELECT * FROM a WHERE NOT EXISTS (SELECT FROM b WHERE b.k = a.k AND b.f > a.f)',
	l_none => 'SELECT a.id, c.id AS cid FROM a LEFT JOIN c ON a.id > c.id + 120',
	anti_none => 'SELECT a.* FROM a WHERE NOT EXISTS (SELECT FROM c WHERE c.id > a.id + 30 AND c.f IS NOT NULL)',
	merged => 'SELECT k, a.id, b.id AS bid, c.id AS cid FROM a FULL JOIN b USING (k) FULL JOIN c USING (k)',
	nested => "WITH $d SELECT d.*, c.f FROM d RIGHT JOIN c ON c.id = d.bid",
	deep => "WITH $d, $e SELECT e.id, e.f, g.n FROM e LEFT JOIN (SELECT k, count(*) AS n, count(bid) AS m FROM d GROUP BY k) g ON g.k = e.k",
	groups => 'SELECT a.t, count(*) AS n, count(b.id) AS m FROM a LEFT JOIN b ON a.k = b.k GROUP BY a.t');

my @transactions = (
	['one side' => <<'EOS'],
INSERT INTO b SELECT 1000 + i, i % 29, 'a', -0.0::float8, i FROM generate_series(1, 40) i;
EOS
	['the other' => <<'EOS'],
INSERT INTO a SELECT 1000 + i, i % 31, 'B', 0, i FROM generate_series(1, 40) i;
EOS
	['all tables' => <<'EOS'],
INSERT INTO a SELECT 1100 + i, 40 + i % 5, 'a', i % 3, i FROM generate_series(1, 20) i;
INSERT INTO b SELECT 1100 + i, 40.0 + i % 7, 'A', i % 4, i FROM generate_series(1, 20) i;
INSERT INTO c SELECT 1100 + i, 40 + i % 9, '-0' FROM generate_series(1, 20) i;
EOS
	['equal values that look different, and NULL' => <<'EOS'],
UPDATE b SET k = k + 0.00 WHERE id % 3 = 0;
UPDATE a SET k = NULL WHERE k = 3;
UPDATE b SET t = upper(t), f = -f WHERE id % 5 = 0;
UPDATE c SET k = NULL WHERE id % 17 = 0;
EOS
	['last matches go, first ones come' => <<'EOS'],
DELETE FROM b WHERE k BETWEEN 5 AND 8;
DELETE FROM a WHERE k BETWEEN 7 AND 10;
UPDATE b SET k = 5.000 WHERE k = 9;
UPDATE a SET k = 6.0 WHERE k = 11;
EOS
	['keys are exchanged' => <<'EOS'],
UPDATE a SET k = -k WHERE k IN (1, 2);
UPDATE a SET k = 3 + k WHERE k < 0;
UPDATE b SET k = -k WHERE k IN (1, 2);
UPDATE b SET k = 3 + k WHERE k < 0;
UPDATE c SET k = (k + 1) % 23;
EOS
	['what matters to no match' => 'UPDATE b SET y = y + 1; UPDATE a SET v = v - 1;'],
	['one key everywhere' => <<'EOS'],
UPDATE a SET k = 5 WHERE id % 9 = 0;
INSERT INTO b SELECT 2000 + i, 5.0, 'a', i % 3, i FROM generate_series(1, 60) i;
UPDATE c SET k = 5 WHERE id % 11 = 0;
EOS
	['and nowhere' => 'DELETE FROM b WHERE k = 5; UPDATE a SET k = 13.0 WHERE k = 5.00 AND id % 2 = 0;'],
);

# Rows that are equal and look different: each has the image that it has in its table.
sub look_the_same
{
	my ($name) = @_;
	my @lines = split /\n/, $node->safe_psql('postgres', <<'EOS');
SELECT format('WITH wanted AS NOT MATERIALIZED (SELECT r::text FROM (%s) r), found AS NOT MATERIALIZED (SELECT r::text FROM %s r)
	SELECT %2$L, (SELECT count(*) FROM (TABLE wanted EXCEPT ALL TABLE found) m), (SELECT count(*) FROM (TABLE found EXCEPT ALL TABLE wanted) e)',
	rtrim(pg_get_viewdef(relid), ';'), relid::regclass)
FROM pg_stat_ivm WHERE relname NOT IN ('deep', 'groups') ORDER BY 1
\gexec
EOS
	is(join("\n", grep { !m{\|0\|0$} } @lines), '', "$name, image for image");
	return;
}

sub make_views
{
	$node->safe_psql('postgres', <<'EOS');
CREATE TABLE a (id int, k numeric, t text COLLATE lowered, f float8, v int);
CREATE TABLE b (id int, k numeric, t text COLLATE lowered, f float8, y int);
CREATE TABLE c (id int PRIMARY KEY, k int, f float8);
CREATE INDEX ON a (k);
CREATE INDEX ON b (k);
INSERT INTO a SELECT i % 150, nullif(i % 23, 0), substr('aAbB', i % 5, 1), nullif(i % 4, 3), i FROM generate_series(1, 130) i;
INSERT INTO b SELECT i % 150, nullif(i % 27, 1)::numeric(9, 1), substr('AaBb', i % 5, 1), nullif(i % 3, 2), i FROM generate_series(1, 130) i;
INSERT INTO c SELECT i, nullif(i % 25, 0), nullif(i % 3, 0) FROM generate_series(1, 130) i;
EOS
	$node->safe_psql('postgres', "CREATE INCREMENTAL VIEW $_ AS $views{$_}") foreach sort keys %views;
	return;
}

$node->safe_psql('postgres', <<'EOS');
CREATE EXTENSION ivm_ext;
CREATE COLLATION lowered (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
EOS
sub look
{
	my ($name) = @_;
	are_exact($node, $name);
	look_the_same($name);
	return;
}

exact_under_settings(
	$node,
	tables => 'a, b, c',
	transactions => \@transactions,
	make => \&make_views,
	check => \&look,
	first => sub {
		is_value($node, "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_stat_ivm, ivm.explain(relid) e (line) WHERE line ~ 'Recompute'", '',
			'no part is recomputed');
		is_value($node, "SELECT count(*) FROM pg_stat_ivm, ivm.explain(relid) e (line) WHERE line ~ 'state table' AND relname NOT IN ('groups', 'deep')", 0,
			'and nothing is stored');
	});

make_views();
exact_after_kills(
	$node,
	points => [ 'decoder-after-decode', 'apply-snapshot', 'apply-before', 'apply-after', 'apply-committed' ],
	check => \&look,
	meanwhile => sub { $node->safe_psql('postgres', 'UPDATE a SET k = k + 1 WHERE id % 11 = 2') },
	change => sub {
		my $key = 50 + 7 * $_[0];
		return <<"EOS";
BEGIN;
INSERT INTO a SELECT 5000 + i, $key + i % 3, 'b', i % 3, i FROM generate_series(1, 6) i;
INSERT INTO b SELECT 5000 + i, $key.0 + i % 4, 'B', i % 2, i FROM generate_series(1, 6) i;
UPDATE b SET k = k + 1 WHERE id % 7 = 3;
DELETE FROM a WHERE ctid IN (SELECT ctid FROM a ORDER BY id, k LIMIT 5);
COMMIT;
EOS
	});
$node->stop;
done_testing();
