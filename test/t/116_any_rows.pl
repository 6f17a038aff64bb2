# LIMIT without an order: of the input only the first rows by hash are kept, in a state table, and when too many of
# them have gone the input is read for more.  Exact after each change, with everything in files, while allocations
# fail, after kills and after a restart; and a row that is not kept is not looked for.
#
# kills: apply workers, postmaster

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $node = new_node('any_rows', 'ivm.apply_workers = 1', 'ivm.debug_check_old = on');

my %views = (
	few => 'SELECT id, s FROM t LIMIT 3',
	page => 'SELECT a, s FROM t LIMIT 400 OFFSET 30',
	of_some => q{SELECT id FROM t WHERE a = 3 LIMIT 10},
	of_join => 'SELECT t.s, u.y FROM t JOIN u ON u.t_id = t.id LIMIT 20',
	of_groups => 'SELECT a, count(*) AS c FROM t GROUP BY a LIMIT 4',
	counted => 'SELECT a, count(*) AS c, min(id) AS m FROM (SELECT id, a FROM t LIMIT 500) q GROUP BY a',
	joined => 'SELECT q.id, u.y FROM (SELECT id FROM t LIMIT 50) q LEFT JOIN u ON u.t_id = q.id');

my $cut;
my @transactions = (
	[ 'more' => 'INSERT INTO t SELECT i, i % 9, i / 4 FROM generate_series(20001, 24000) i' ],
	[ 'what is shown goes' => <<'EOS' ],
DELETE FROM t WHERE id IN (SELECT id FROM few) OR id IN (SELECT id FROM of_some);
UPDATE t SET s = s || '+' WHERE (a, s) IN (TABLE page);
EOS
	[ 'most of what is kept goes' => 'DELETE FROM t WHERE id % 97 > 0; DELETE FROM u WHERE id % 5 > 0' ],
	[ 'fewer than there should be' => 'DELETE FROM t WHERE id % 970 > 0' ],
	[ 'and more again' => <<'EOS' ],
INSERT INTO t SELECT i, i % 7, i % 100 FROM generate_series(30001, 45000) i;
INSERT INTO u SELECT i, i, 3 FROM generate_series(30001, 31000) i;
EOS
	[ 'all go and others come' => <<'EOS' ],
DELETE FROM t;
INSERT INTO t SELECT i, i % 5, 'same' FROM generate_series(50001, 62000) i;
EOS
	[ 'all go' => 'DELETE FROM t' ]);

sub are_right
{
	my ($name) = @_;
	my @bad;

	sync($node);
	foreach my $view (sort keys %views)
	{
		# which rows of equal hashes are the first is left open
		my $answer = $cut ? '0|0' : $node->safe_psql('postgres', "SELECT * FROM ivm.verify('$view')");
		my ($limit, $offset) = $views{$view} =~ /LIMIT (\d+)(?: OFFSET (\d+))?/;
		push @bad, "$view: $answer" if $answer ne '0|0';
		next if $view =~ /counted|joined/;
		# as many as there are, up to the limit, and all of them rows of the query without it
		my ($all) = $views{$view} =~ /^(.*) LIMIT/;
		$answer = $node->safe_psql('postgres', "SELECT (SELECT count(*) FROM $view) = greatest(least((SELECT count(*) FROM ($all) q) - "
			. ($offset || 0) . ", $limit), 0), NOT EXISTS (TABLE $view EXCEPT ALL ($all))");
		push @bad, "$view has not as many or other rows: $answer" if $answer ne 't|t';
	}
	my $states = $node->safe_psql('postgres', "SELECT DISTINCT state FROM pg_stat_ivm");
	push @bad, "states: $states" if $states ne 'active';
	return is(join("\n", @bad), '', $name);
}

sub make_tables
{
	$node->safe_psql('postgres', <<'EOS');
CREATE TABLE t (id int PRIMARY KEY, a int, s text);
CREATE TABLE u (id int PRIMARY KEY, t_id int, y int);
INSERT INTO t SELECT i, i % 9, i / 3 FROM generate_series(1, 12000) i;
INSERT INTO u SELECT i, i, i % 5 FROM generate_series(1, 5000) i;
CREATE INDEX ON u (t_id);
EOS
	$node->safe_psql('postgres', "CREATE INCREMENTAL VIEW $_ AS $views{$_}") foreach sort keys %views;
	return;
}

$node->safe_psql('postgres', 'CREATE EXTENSION ivm_ext');
$cut = $node->safe_psql('postgres', "SELECT coalesce(current_setting('ivm.debug_hash_bits', true), '64') <> '64'") eq 't';
exact_under_settings(
	$node,
	tables => 't, u',
	transactions => \@transactions,
	make => \&make_tables,
	check => \&are_right);

# ---- what is kept, and what is not looked for ----

make_tables();
my $begin = -s $node->logfile;
my $kept = $node->safe_psql('postgres',
	"SELECT relname FROM pg_class WHERE relname LIKE 'v' || 'few'::regclass::oid || '\\_%' AND relkind = 'm'");
my $rows = $node->safe_psql('postgres', "SELECT count(*) FROM ivm_state.$kept");
cmp_ok($rows, '>=', 500, 'some more rows are kept than are shown');
cmp_ok($rows, '<=', 2100, 'but far from all') if !$cut;

# one after the other is taken away of those that are shown, until more have to be read
foreach my $i (1 .. 12)
{
	$node->safe_psql('postgres', 'DELETE FROM t WHERE id IN (SELECT id FROM few)');
	sync($node);
}
are_right('one after the other');
is($node->safe_psql('postgres', "SELECT count(*) FROM ivm_state.$kept") + 36, $rows, 'and no others had to be read');

# ---- kills, and a restart: where the kept rows end is in the table ----

exact_after_kills(
	$node,
	change => sub { 'DELETE FROM t WHERE id IN (SELECT id FROM few) OR id % 3 = 0' },
	check => sub {
		are_right($_[0]);
		$node->safe_psql('postgres', 'INSERT INTO t SELECT i, i % 9, i / 3 FROM generate_series(3, 12000, 3) i ON CONFLICT DO NOTHING');
		are_right('and after the next one');
	});
is(rebuilds($node, $begin), 0, 'no view had to be rebuilt');
set_points($node, 'apply-after=error');
$node->safe_psql('postgres', 'DELETE FROM t WHERE id % 12 > 0');
set_points($node, '');
are_right('exact after a batch that failed when it was done');
$begin = -s $node->logfile;
$node->restart;
$node->safe_psql('postgres', 'DELETE FROM t WHERE id % 24 > 0');
are_right('and after a restart');
is(rebuilds($node, $begin), 0, 'by deltas');

$node->stop;
done_testing();
