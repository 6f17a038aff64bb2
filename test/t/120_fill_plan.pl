# The first fill is planned with indexes and statistics, whatever the view's constructs are, and its rows are those
# of the plan that the view was compiled from.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $node = new_node('fill_plan');

$node->safe_psql('postgres', <<'EOS');
CREATE EXTENSION ivm_ext;
CREATE TABLE orders (id int PRIMARY KEY, customer int, day int, note text);
CREATE TABLE lines (order_id int, part int, price numeric);
CREATE INDEX ON lines (order_id);
CREATE INDEX ON orders (day);
CREATE TABLE days (day int, name text) PARTITION BY RANGE (day);
CREATE TABLE days_1 PARTITION OF days FOR VALUES FROM (0) TO (500);
CREATE TABLE days_2 PARTITION OF days FOR VALUES FROM (500) TO (1000);
INSERT INTO orders SELECT i, i % 10, i % 1000, 'order ' || i % 7 FROM generate_series(1, 20000) i;
INSERT INTO lines SELECT i % 15000, (i / 7) % 50, i % 3 + 0.50 FROM generate_series(1, 150000) i;
INSERT INTO days SELECT i, 'day ' || i FROM generate_series(0, 999) i;
VACUUM ANALYZE;
EOS

# Few orders are asked for; no more lines are read than theirs.
my %views = (
	inner_join => 'SELECT customer, sum(price) FROM orders JOIN lines ON order_id = id WHERE day = 7 GROUP BY customer',
	left_join => 'SELECT customer, count(price) FROM orders LEFT JOIN lines ON order_id = id AND part < 30 WHERE day = 7 GROUP BY customer',
	semi_join => 'SELECT customer, count(*) FROM orders o WHERE day = 7 AND EXISTS (SELECT FROM lines WHERE order_id = o.id AND part > customer) GROUP BY customer',
	anti_join => 'SELECT count(*) FROM orders o WHERE day = 7 AND NOT EXISTS (SELECT FROM lines WHERE order_id = o.id AND part > customer)',
	anti_by_null => 'SELECT customer, count(*) FROM orders LEFT JOIN lines ON order_id = id WHERE day = 7 AND order_id IS NULL GROUP BY customer',
	appended => 'SELECT count(*), sum(price) FROM (SELECT id FROM orders WHERE day = 7 UNION ALL SELECT id FROM orders WHERE day = 8) o
		JOIN lines ON order_id = id',
	with_partitions => 'SELECT name, count(*) FROM orders o JOIN days d USING (day) JOIN lines ON order_id = id WHERE day = 7 GROUP BY name',
	whole_rows => 'SELECT o, count(*) FROM orders o JOIN lines ON order_id = id WHERE day = 7 GROUP BY o',
	no_columns => 'SELECT count(*) FROM orders JOIN lines ON order_id = id WHERE day = 7',
	nested => 'SELECT s, count(*) FROM (SELECT o.id, note || part AS s FROM orders o LEFT JOIN lines ON order_id = o.id WHERE day = 7) a
		WHERE EXISTS (SELECT FROM orders p WHERE p.id = a.id + 1000) GROUP BY s');

sub scans { return $node->safe_psql('postgres', "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'lines'"); }

foreach my $name (sort keys %views)
{
	my $before = scans();

	$node->safe_psql('postgres', "CREATE INCREMENTAL VIEW $name AS $views{$name}");
	# a builder counts when it ends its work, and that is after the view is there
	wait_until($node, "SELECT state = 'active' FROM pg_stat_ivm WHERE relname = '$name'", 'the view is filled');
	is(scans() - $before, 0, "$name: the table is not read whole");
	is_value($node, "SELECT count(*) > 0 FROM $name", 't', "$name: it has rows");
}
are_exact($node, 'all are filled with the right rows');
$node->safe_psql('postgres', 'UPDATE orders SET day = 7 WHERE day = 8; DELETE FROM lines WHERE part = 3; DELETE FROM orders WHERE id % 2000 = 7');
are_exact($node, 'and maintained from there');
is($node->safe_psql('postgres', 'SELECT sum(missing + extra) FROM pg_stat_ivm, ivm.verify(relid)'), '0', 'which the plan that they were compiled from says, too');

# what says in which order conditions are tested keeps the order
$node->safe_psql('postgres', <<'EOS');
CREATE ROLE somebody;
GRANT ALL ON SCHEMA public TO somebody;
GRANT SELECT ON lines, orders TO somebody;
ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY few ON orders TO somebody USING (customer = 7);
SET ROLE somebody;
CREATE INCREMENTAL VIEW guarded AS SELECT customer, sum(price) FROM orders JOIN lines ON order_id = id WHERE day IN (7, 17) GROUP BY customer;
EOS
is_value($node, 'SELECT string_agg(customer::text, $$,$$) FROM guarded', '7', 'row security holds in the fill');

# rights are asked for on what the query names
$node->safe_psql('postgres', 'CREATE ROLE other; GRANT ALL ON SCHEMA public TO other; GRANT SELECT ON days_1, days_2, lines TO other');
my ($result, $out, $error) = $node->psql('postgres', 'SET ROLE other; CREATE INCREMENTAL VIEW refused AS SELECT name, count(*) FROM days JOIN lines ON order_id = day GROUP BY name');
like($error, qr/permission denied for table days/, 'rights on partitions are none on their parent');

$node->stop;
done_testing();
