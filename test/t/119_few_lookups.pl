# What a join does not look up: rows with a unique key that came or went in the batch itself, and rows of
# which another input's filter leaves nothing.  What it may conclude from that only if the key was unique before, too.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $node = new_node('few_lookups', 'ivm.apply_workers = 1', 'ivm.debug_check_old = off');

# How often the apply worker has read an index meanwhile.
my %seen;
sub scans
{
	my ($index) = @_;
	my $now = $node->safe_psql('postgres', "SELECT pg_stat_get_numscans('$index'::regclass)");
	my $before = $seen{$index} || 0;

	$seen{$index} = $now;
	return $now - $before;
}

# Makes a change, and forgets how often indexes were read for it.
sub change
{
	my ($statements) = @_;

	# what the session has read itself is counted when it ends
	$node->safe_psql('postgres', "SET enable_indexscan = off; SET enable_bitmapscan = off; SET enable_indexonlyscan = off; BEGIN; $statements COMMIT;");
	return sync($node);
}

$node->safe_psql('postgres', <<'EOS');
CREATE EXTENSION ivm_ext;
CREATE TABLE orders (id int PRIMARY KEY, customer int, day int);
CREATE TABLE lines (order_id int, part int, price int);
CREATE INDEX lines_order ON lines (order_id);
CREATE TABLE parts (id int PRIMARY KEY, kind text);
INSERT INTO orders SELECT i, i % 10, i % 30 FROM generate_series(1, 3000) i;
INSERT INTO lines SELECT i % 3000 + 1, i % 5000 + 1, i FROM generate_series(1, 9000) i;
INSERT INTO parts SELECT i, 'kind ' || i % 500 FROM generate_series(1, 50000) i;
VACUUM ANALYZE;
CREATE INCREMENTAL VIEW v AS SELECT o.customer, l.price FROM orders o, lines l WHERE l.order_id = o.id;
CREATE INCREMENTAL VIEW w AS SELECT l.price, o.day, p.kind FROM lines l, orders o, parts p
	WHERE l.order_id = o.id AND p.id = l.part AND p.kind = 'kind 7';
CREATE INCREMENTAL VIEW s AS SELECT * FROM orders o WHERE EXISTS (SELECT FROM lines l WHERE l.order_id = o.id);
EOS

# ----- the delta says it -----

my $new = 'INSERT INTO orders SELECT i, i % 10, i % 30 FROM generate_series(%1$d, %1$d + 99) i;
	INSERT INTO lines SELECT i, i, i FROM generate_series(%1$d, %1$d + 99) i;';
my $gone = 'DELETE FROM orders WHERE id + 0 BETWEEN %1$d AND %1$d + 99; DELETE FROM lines WHERE order_id + 0 BETWEEN %1$d AND %1$d + 99;';

change(sprintf($new, 4000));
are_exact($node, 'exact after new orders with their lines');
scans('orders_pkey');
change(sprintf($new, 5000));
is(scans('orders_pkey'), 0, 'an order that came is not looked up');
are_exact($node, 'exact after more of them');
scans('orders_pkey');
change(sprintf($gone, 4000));
is(scans('orders_pkey'), 0, 'nor is one that went');
are_exact($node, 'exact after some have gone');

change('UPDATE orders SET day = day + 1 WHERE id < 50; UPDATE lines SET price = -price WHERE order_id < 60;');
are_exact($node, 'exact after both sides of a pair were updated');
change('UPDATE orders SET id = id + 100000 WHERE id < 20; INSERT INTO orders SELECT i, 5, 5 FROM generate_series(1, 10) i;
	DELETE FROM lines WHERE order_id BETWEEN 5 AND 8; INSERT INTO lines VALUES (3, 507, 1), (100003, 7, 2), (12, 1007, 3);');
are_exact($node, 'exact after keys have moved from row to row');
change('DELETE FROM orders WHERE id < 40; INSERT INTO lines SELECT i, 7, i FROM generate_series(1, 60) i;');
are_exact($node, 'exact after lines came for orders that went');

# ----- the most selective one first -----

scans('orders_pkey');
change('INSERT INTO lines SELECT i, 8, i FROM generate_series(1, 200) i;');
is($node->safe_psql('postgres', "SELECT count(*) FROM ivm.explain('w') AS line WHERE line ~ 'From l:'"), 1, 'a path from lines');
like($node->safe_psql('postgres', "SELECT ivm.explain('w')"), qr/From l:\s+p by id  \(index parts_pkey\)\s+o by id/, 'parts come first');
are_exact($node, 'exact after lines of parts that are not asked for');

# ----- which keys have rows -----

# Of 50,000 parts 100 are asked for.
my $vain = 'INSERT INTO lines SELECT i, %1$d + i, i FROM generate_series(1, 2000) i WHERE mod(%1$d + i, 500) <> 7;';

change(sprintf($vain, $_)) foreach 0, 2000, 4000;
are_exact($node, 'exact after many lookups in vain');
scans('parts_pkey');
change(sprintf($vain, 6000));
SKIP:
{
	skip 'where hashes are cut many keys have one', 1 if $node->safe_psql('postgres', "SELECT coalesce(current_setting('ivm.debug_hash_bits', true), '64')") < 64;
	is(scans('parts_pkey'), 0, 'then it is known which parts are asked for');
}
are_exact($node, 'exact after that');
change("INSERT INTO lines SELECT i, i, i FROM generate_series(1, 1500) i;");
cmp_ok(scans('parts_pkey'), '>', 0, 'those are looked up');
are_exact($node, 'exact with them');
change("UPDATE parts SET kind = 'kind 7' WHERE id + 0 IN (10, 11); INSERT INTO parts VALUES (60000, 'kind 7'), (60001, 'kind 8');
	INSERT INTO lines SELECT 100, p, p FROM unnest('{10, 12, 60000, 60001}'::int[]) p;");
are_exact($node, 'exact after other parts came to be asked for');
change("INSERT INTO lines SELECT 101, p, p FROM unnest('{11, 13, 60000, 60001}'::int[]) p; DELETE FROM parts WHERE id + 0 = 10;
	UPDATE parts SET kind = 'kind 7' WHERE id + 0 = 60001;");
are_exact($node, 'exact when those had been there before');

# A batch that is rolled back leaves nothing: what it knew was of a state that nobody has applied.
set_points($node, 'apply-after=error');
$node->safe_psql('postgres', "UPDATE parts SET kind = 'kind 7' WHERE id + 0 = 14; INSERT INTO lines VALUES (102, 14, 1)");
wait_until($node, "SELECT sum(error_count) > 0 FROM pg_stat_ivm", 'a batch has failed');
set_points($node, '');
change('INSERT INTO lines VALUES (103, 14, 2), (104, 15, 3);');
are_exact($node, 'exact after a batch that failed');

# ----- a key that was not unique before the batch -----

# The rows that are left after a duplicate went are there, though the delta says of their key only that a row went.
$node->safe_psql('postgres', <<'EOS');
CREATE TABLE d (id int NOT NULL, t text);
CREATE TABLE f (d_id int, n int);
CREATE INDEX d_id ON d (id);
CREATE INDEX f_id ON f (d_id);
INSERT INTO d SELECT i, 'one ' || i FROM generate_series(1, 1000) i;
INSERT INTO d SELECT i, 'two ' || i FROM generate_series(1, 1000) i;
INSERT INTO f SELECT i, i FROM generate_series(1, 1000) i;
VACUUM ANALYZE d, f;
CREATE INCREMENTAL VIEW u AS SELECT f.n, d.t FROM f JOIN d ON d.id = f.d_id;
CREATE INCREMENTAL VIEW e AS SELECT * FROM f WHERE EXISTS (SELECT FROM d WHERE d.id = f.d_id AND d.t > 'a');
EOS
change('UPDATE f SET n = n + 1 WHERE n < 10; UPDATE d SET t = t WHERE id < 10;');
are_exact($node, 'exact before');
set_points($node, 'apply-begin=wait');
$node->safe_psql('postgres', 'INSERT INTO f VALUES (1, 0)');
wait_for_point($node, 'apply-begin');
$node->safe_psql('postgres', $_)
	foreach ("DELETE FROM d WHERE t LIKE 'two%'",
	'DROP INDEX d_id',
	'CREATE UNIQUE INDEX d_id ON d (id)',
	'UPDATE f SET n = -n WHERE d_id <= 20');
set_points($node, '');
are_exact($node, 'exact after duplicates have gone and the index has become unique');
change("DELETE FROM d WHERE id % 3 = 0; UPDATE f SET n = n - 1 WHERE d_id < 30;");
are_exact($node, 'exact in the batch after that');

# and not afterwards
set_points($node, 'apply-begin=wait');
$node->safe_psql('postgres', 'INSERT INTO f VALUES (2, 0)');
wait_for_point($node, 'apply-begin');
$node->safe_psql('postgres', $_)
	foreach ('DROP INDEX d_id',
	'CREATE INDEX d_id ON d (id)',
	"INSERT INTO d SELECT id, 'again ' || id FROM d",
	'UPDATE f SET n = -n WHERE d_id <= 20');
set_points($node, '');
are_exact($node, 'exact after duplicates have come');

$node->stop;
done_testing();
