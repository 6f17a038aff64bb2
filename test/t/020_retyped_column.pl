# Rows that were written before a column was retyped, read after it.
#
# A table's rows keep, in the log, what any view has needed since the
# decoder's start.  A column that no view needs any more can be retyped; rows
# of before have its old values in the place of the new type's.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $node = new_node('retyped');

$node->safe_psql('postgres', <<'EOS');
CREATE EXTENSION ivm_ext;
CREATE TABLE item (id int PRIMARY KEY, n int, name text);
INSERT INTO item SELECT i, i, 'item ' || i FROM generate_series(1, 100) AS i;
EOS
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW by_n AS SELECT n, count(*) FROM item GROUP BY n');
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW names AS SELECT id, name FROM item');
$node->safe_psql('postgres', 'DROP MATERIALIZED VIEW by_n');

# to a type of another length, between two writes of one transaction
$node->safe_psql('postgres', <<'EOS');
BEGIN;
INSERT INTO item VALUES (1000, 100, 'before'), (1001, 1000000, 'before'), (1002, 3, 'before');
DELETE FROM item WHERE id = 7;
ALTER TABLE item ALTER n TYPE text USING n::text;
INSERT INTO item VALUES (1003, 'a text', 'after');
UPDATE item SET name = 'updated' WHERE id = 1001;
COMMIT;
EOS
is_exact($node, 'names', 'exact after a retyped column in one transaction');
is_value($node, q{SELECT count(*) FROM names WHERE name IN ('before', 'after', 'updated')}, '4', 'all rows are there');

# the same with a batch that comes late
set_points($node, 'apply-locked=wait');
$node->safe_psql('postgres', q{INSERT INTO item VALUES (2000, repeat('x', 100), 'before')});
wait_for_point($node, 'apply-locked');
$node->safe_psql('postgres', q{INSERT INTO item VALUES (2001, repeat('y', 100), 'before')});
set_points($node, '');
$node->safe_psql('postgres', 'ALTER TABLE item ALTER n TYPE int8 USING length(n)');
$node->safe_psql('postgres', q{INSERT INTO item VALUES (2002, 5, 'after')});
is_exact($node, 'names', 'exact after a retyped column between transactions');

# a dropped column keeps its place: nothing has to be rebuilt for it
my $log = -s $node->logfile;
$node->safe_psql('postgres', <<'EOS');
BEGIN;
INSERT INTO item VALUES (3000, 1, 'before');
ALTER TABLE item DROP n, ADD m text DEFAULT 'm';
INSERT INTO item VALUES (3001, 'after');
UPDATE item SET m = 'n' WHERE id = 3000;
DELETE FROM item WHERE id = 2002;
COMMIT;
EOS
is_exact($node, 'names', 'exact after dropped and added columns');
is(rebuilds($node, $log), 0, 'without a rebuild');

# rows as values: what the view's index knows of them does not outlive a column
$node->safe_psql('postgres', <<'EOS');
CREATE TABLE whole (id int PRIMARY KEY, n int);
INSERT INTO whole SELECT i, i FROM generate_series(1, 2000) AS i;
EOS
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW whole_rows AS SELECT whole, n FROM whole');
$node->safe_psql('postgres', 'ALTER TABLE whole ADD c text');
$node->safe_psql('postgres', q{INSERT INTO whole SELECT i, i, 'c' FROM generate_series(2001, 2010) AS i});
is_exact($node, 'whole_rows', 'exact after a column was added to rows that are values');
$node->safe_psql('postgres', 'ALTER TABLE whole DROP c');
is_exact($node, 'whole_rows', 'exact after it was dropped');
$log = -s $node->logfile;
$node->safe_psql('postgres', 'DELETE FROM whole WHERE id = 2005');
is_exact($node, 'whole_rows', 'exact after the delete of a row that had a value there');
is(rebuilds($node, $log), 0, 'without a rebuild');

$node->stop;
done_testing();
