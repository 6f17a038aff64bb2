# Rules that other tests pass by: each of these cases goes wrong, or costs what it
# should not, if one condition in the code is left out.
#
# kills: nothing

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $node = new_node('narrow', 'ivm.apply_workers = 1', 'autovacuum = off', 'ivm.naptime = 100ms');

sub query { return $node->safe_psql('postgres', $_[0]); }

sub sync_one { return query("SELECT ivm.sync('$_[0]', '1 min')"); }

query('CREATE EXTENSION ivm_ext');

# ---- an index that is too young for the snapshot ----

# Its chains of versions are broken: it has no entry for what older snapshots see, so that it is
# not used while a transaction is about that may have one.
query(<<'EOS');
CREATE TABLE wide (id int, k int, pad char(250) DEFAULT '') WITH (fillfactor = 50);
INSERT INTO wide SELECT i, i FROM generate_series(1, 6000) i;
CREATE TABLE fact (id int PRIMARY KEY, k int);
INSERT INTO fact SELECT i, i FROM generate_series(1, 20) i;
EOS
query('CREATE INCREMENTAL VIEW joined AS SELECT f.id, w.id AS wid FROM fact f JOIN wide w ON w.k = f.k');

my $old = connection($node);
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pg_current_xact_id(); SELECT count(*) FROM wide');
query('UPDATE wide SET k = 0 WHERE id = 10');
query('CREATE INDEX wide_k ON wide (k)');
is_value($node, q{SELECT indcheckxmin FROM pg_index WHERE indexrelid = 'wide_k'::regclass}, 't', 'an index with broken chains');

sub index_scans { return query(q{SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'wide_k'}); }

query('INSERT INTO fact VALUES (100, 0), (101, 10)');
is_exact($node, 'joined', 'a view that looks rows up there');
is(index_scans(), 0, 'does not use it while an older transaction is about');
$old->query_safe('COMMIT');
$old->quit;
query('INSERT INTO fact VALUES (102, 0), (103, 11)');
is_exact($node, 'joined', 'the view later');
cmp_ok(index_scans(), '>', 0, 'uses it when that has gone');

# ---- an operator leaves the family of an index ----

# int4 = int8 finds rows by the index as long as the family says so.
query(<<'EOS');
CREATE OPERATOR FAMILY some_ops USING btree;
CREATE OPERATOR CLASS some_int8_ops FOR TYPE int8 USING btree FAMILY some_ops AS
	OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 btint8cmp(int8, int8);
ALTER OPERATOR FAMILY some_ops USING btree ADD OPERATOR 3 = (int8, int4), FUNCTION 1 (int8, int4) btint84cmp(int8, int4);
CREATE TABLE other (id int, k int8, pad char(250) DEFAULT '');
INSERT INTO other SELECT i, i FROM generate_series(1, 6000) i;
CREATE INDEX other_k ON other (k some_int8_ops);
EOS
query('CREATE INCREMENTAL VIEW crossed AS SELECT f.id, o.id AS oid FROM fact f JOIN other o ON o.k = f.k');
is_value($node, q{SELECT count(*) FROM ivm.explain('crossed') e WHERE e ~ 'other_k'}, 1, 'a view that uses an index by an operator of its family');
query('ALTER OPERATOR FAMILY some_ops USING btree DROP OPERATOR 3 (int8, int4)');
wait_until($node, q{SELECT last_rebuild_reason ~ 'has lost an index' FROM pg_stat_ivm WHERE relid = 'crossed'::regclass},
	'the view is compiled anew when the operator leaves the family');
query('INSERT INTO fact VALUES (200, 200)');
is_exact($node, 'crossed', 'and exact');

# ---- an index of another collation ----

# Its order puts equal names apart.
query(<<'EOS');
CREATE COLLATION ignoring_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE named (id int, name text, pad char(250) DEFAULT '');
INSERT INTO named SELECT i, 'N' || i FROM generate_series(1, 6000) i;
CREATE INDEX ON named (name);
CREATE TABLE asked (id int PRIMARY KEY, name text);
EOS
query('CREATE INCREMENTAL VIEW answered AS SELECT a.id, n.id AS nid FROM asked a JOIN named n ON n.name = a.name COLLATE ignoring_case');
query(q{INSERT INTO asked VALUES (1, 'n5'), (2, 'N7'), (3, 'none')});
is_exact($node, 'answered', 'names are looked up by the collation of the query');
is_value($node, 'SELECT count(*) FROM answered', 2, 'which finds them');

# ---- indexes of some of the rows ----

# That a query has a condition is not enough: the index has to have all rows that satisfy it.
query('CREATE INDEX other_part ON other (id) WHERE k > 3000');
query('CREATE INCREMENTAL VIEW partly AS SELECT f.id, o.k FROM fact f JOIN other o ON o.id = f.k WHERE o.k > 100');
query('INSERT INTO fact VALUES (1001, 150), (1002, 4000)');
is_exact($node, 'partly', 'an index that lacks rows of the query is not used');

# the same of an index on the view, when it is the only one
query('CREATE INCREMENTAL VIEW found AS SELECT id, k FROM fact');
query(q{DO $$ BEGIN EXECUTE 'DROP INDEX ' || (SELECT indexrelid::regclass FROM pg_index WHERE indrelid = 'found'::regclass); END $$});
query('CREATE UNIQUE INDEX found_part ON found (id) WHERE k > 3000');
query('DELETE FROM fact WHERE id IN (1, 1002); UPDATE fact SET k = k + 1 WHERE id < 5');
is_exact($node, 'found', 'rows of a view are found without the help of an index that lacks them');
is_value($node, q{SELECT rebuilds FROM pg_stat_ivm WHERE relid = 'found'::regclass}, 0, 'and without a rebuild');

# ---- an owner who is no superuser any more ----

query('CREATE ROLE owner SUPERUSER; CREATE TABLE secret (id int PRIMARY KEY)');
query('CREATE INCREMENTAL VIEW revealing AS SELECT id FROM secret; ALTER MATERIALIZED VIEW revealing OWNER TO owner');
query('INSERT INTO secret VALUES (1)');
is_exact($node, 'revealing', 'a view of a superuser');
query('ALTER ROLE owner NOSUPERUSER');
wait_for_state($node, 'revealing', 'error');
query('INSERT INTO secret VALUES (2)');
query(q{INSERT INTO fact VALUES (300, 300)});
is_exact($node, 'joined', 'others go on');
is_value($node, 'SELECT count(*) FROM revealing', 1, 'the view of one who is no superuser any more shows nothing new');

# ---- a row of the view that is not the one looked for ----

# Somebody has changed the view's rows by hand: what is at the place of a row is not taken for it.
query('CREATE TABLE kept (id int PRIMARY KEY, x int); INSERT INTO kept VALUES (1, 10), (2, 20), (3, 30)');
query('CREATE INCREMENTAL VIEW shown AS SELECT id, x FROM kept');
query('CREATE INCREMENTAL VIEW summed AS SELECT sum(x) AS x, count(*) AS n FROM kept');
foreach my $view ('shown', 'summed')
{
	my $column = $view eq 'shown' ? 'x' : 'n';
	query(<<"EOS");
BEGIN;
SET allow_system_table_mods = on;
UPDATE pg_class SET relkind = 'r', relhasrules = false WHERE oid = '$view'::regclass;
UPDATE $view SET $column = -1;
UPDATE pg_class SET relkind = 'm', relhasrules = true WHERE oid = '$view'::regclass;
COMMIT;
EOS
}
query('UPDATE kept SET x = x + 1 WHERE id = 1');
is_exact($node, 'shown', 'rows that were changed by hand are put right');
is_exact($node, 'summed', 'a single row, too');
foreach my $view ('shown', 'summed')
{
	is_value($node, "SELECT last_rebuild_reason ~ 'lacks a row that is to be deleted' FROM pg_stat_ivm WHERE relid = '$view'::regclass", 't',
		"since $view lacked a row");
}

# ---- a view that cannot be compiled at the moment ----

# It is not known whether its contents are right, whatever position the worker has come to.
query(<<'EOS');
CREATE TABLE source (id int PRIMARY KEY);
INSERT INTO source VALUES (1);
CREATE MATERIALIZED VIEW plain AS SELECT id FROM source;
CREATE TABLE locked (id int PRIMARY KEY);
INSERT INTO locked VALUES (1), (2);
EOS
query('CREATE INCREMENTAL VIEW on_plain AS SELECT p.id FROM plain p JOIN locked l ON l.id = p.id');
my $locker = connection($node);
$locker->query_safe('BEGIN; LOCK TABLE locked');
query('INSERT INTO source VALUES (2); REFRESH MATERIALIZED VIEW plain');
my ($ret, $stdout, $stderr) = $node->psql('postgres', q{SELECT ivm.sync('on_plain', '1 s')});
like($stderr, qr/incremental view "on_plain" did not reach the current position in time/, 'a sync of a view that cannot be compiled waits');
query(q{SELECT ivm.sync('joined', '20 s')});
pass('one of another view does not wait for it');
$locker->query_safe('COMMIT');
$locker->quit;
is_exact($node, 'on_plain', 'it is compiled when it can be');

# ---- what our own processes write is not decoded ----

query('DROP MATERIALIZED VIEW revealing');
sync($node);
my $before = query('SELECT total_txns FROM pg_stat_replication_slots');
foreach my $i (1 .. 20)
{
	query("INSERT INTO kept VALUES (1000 + $i, 1)");
	sync_one('shown');
}
my $decoded = query('SELECT total_txns FROM pg_stat_replication_slots') - $before;
cmp_ok($decoded, '>=', 20, 'transactions of sessions are decoded');
cmp_ok($decoded, '<', 30, 'and not those of batches');

$node->stop;
done_testing();
