# Roles that are made, granted and altered: views that these do not concern are
# not even compiled again, those that they do are.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $node = new_node('roles', 'ivm.apply_workers = 1');

$node->safe_psql('postgres', <<'EOS');
CREATE EXTENSION ivm_ext;
CREATE ROLE owner;
CREATE ROLE app;
CREATE ROLE analyst;
GRANT CREATE ON SCHEMA public TO owner;
CREATE TABLE t (id int PRIMARY KEY, g int);
ALTER TABLE t REPLICA IDENTITY FULL, ENABLE ROW LEVEL SECURITY;
INSERT INTO t SELECT i, i % 3 FROM generate_series(1, 99) AS i;
GRANT SELECT ON t TO owner;
CREATE POLICY p ON t TO owner USING (g = 0);
CREATE POLICY q ON t TO analyst USING (g = 1);
SET ROLE owner;
CREATE MATERIALIZED VIEW v USING incremental AS SELECT g, count(*) FROM t GROUP BY g;
EOS
sync($node);

# who compiles is found out
set_points($node, 'compile-planned=error');
$node->safe_psql('postgres', $_) foreach
  'CREATE ROLE lease LOGIN',
  'GRANT app TO lease',
  q{ALTER ROLE lease PASSWORD 'x' VALID UNTIL '2050-01-01' CREATEDB},
  'CREATE ROLE other SUPERUSER; GRANT analyst TO lease; REVOKE analyst FROM lease',
  'ALTER ROLE owner CONNECTION LIMIT 5',
  'DROP ROLE lease';
$node->safe_psql('postgres', 'INSERT INTO t VALUES (100, 0)');
sync($node);
is_value($node, q{SELECT state, error_count, rebuilds FROM pg_stat_ivm}, 'active|0|0', 'roles that do not concern it');
is_value($node, 'SELECT * FROM v', '0|34', 'and it is maintained');
set_points($node, '');

$node->safe_psql('postgres', 'GRANT analyst TO owner');
sync($node);
is_value($node, 'SELECT * FROM v ORDER BY 1', "0|34\n1|33", 'one that does');

# both in one breath
$node->safe_psql('postgres', 'CREATE ROLE more; GRANT app TO more; REVOKE analyst FROM owner; GRANT app TO other');
sync($node);
is_value($node, 'SELECT * FROM v', '0|34', 'one that does among others that do not');

# what concerns it changes while it is being compiled
set_points($node, 'compile-planned=wait');
$node->safe_psql('postgres', 'ALTER TABLE t SET (autovacuum_enabled = off)');
wait_for_point($node, 'compile-planned');
$node->safe_psql('postgres', 'GRANT analyst TO owner');
set_points($node, '');
sync($node);
is_value($node, 'SELECT * FROM v ORDER BY 1', "0|34\n1|33", 'granted in the middle of a compilation');

# and comes back before anybody has looked
$node->safe_psql('postgres', 'BEGIN; REVOKE analyst FROM owner; GRANT analyst TO owner; COMMIT');
$node->safe_psql('postgres', 'ALTER ROLE owner BYPASSRLS');
sync($node);
is_value($node, 'SELECT * FROM v ORDER BY 1', "0|34\n1|33\n2|33", 'an attribute');
is_value($node, q{SELECT state, error_count FROM pg_stat_ivm}, 'active|0', 'at peace');

$node->stop;
done_testing();
