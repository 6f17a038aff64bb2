# Whose what is: default privileges do not reach what belongs to the extension,
# the owner of a view sees how it does and nobody else's errors, and whoever owns
# a database can dump it.
#
# kills: nothing

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $node = new_node('privileges');

# A test: what a role gets to see, or the error.
sub is_for
{
	my ($role, $query, $expected, $name) = @_;
	my ($ret, $stdout, $stderr) = $node->psql('app', "SET ROLE $role; $query");

	$stdout .= $1 if $stderr =~ /ERROR:  (.*)/;
	return is($stdout, $expected, "$name, for $role");
}

# ---- default privileges that were there before the extension ----

$node->safe_psql('postgres', <<'EOS');
CREATE EXTENSION ivm_ext;
CREATE ROLE web;
CREATE ROLE "Odd ""Role""";
CREATE ROLE keeper;
CREATE ROLE other;
CREATE ROLE watcher IN ROLE pg_monitor;
CREATE ROLE landlord LOGIN;
CREATE DATABASE app OWNER landlord;
EOS
$node->safe_psql('app', <<'EOS');
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO web WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO web, "Odd ""Role""";
ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO web;
ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO web;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE USAGE ON TYPES FROM PUBLIC;
CREATE EXTENSION ivm_ext;
CREATE SCHEMA keeper AUTHORIZATION keeper;
CREATE SCHEMA other AUTHORIZATION other;
EOS
$node->safe_psql('app', $_) foreach (
	'SET ROLE keeper; CREATE TABLE keeper.t (id int, g int, secret text)',
	q{INSERT INTO keeper.t SELECT i, i % 3, 'secret ' || i FROM generate_series(1, 50) i},
	'SET ROLE keeper; CREATE INCREMENTAL VIEW keeper.groups AS SELECT g, count(*) AS n, max(secret) AS last FROM keeper.t GROUP BY g',
	'SET ROLE keeper; CREATE INCREMENTAL VIEW keeper.bag AS SELECT g FROM keeper.t',
	'SET ROLE keeper; CREATE INCREMENTAL VIEW keeper.casts AS SELECT id, 100 / (id - 1000) AS q, secret::text FROM keeper.t',
	'SET ROLE other; CREATE TABLE other.t (id int)',
	'SET ROLE other; CREATE INCREMENTAL VIEW other.v AS SELECT count(*) AS n FROM other.t');
my $state = $node->safe_psql('app', q{SELECT min(relname) FROM pg_class WHERE relnamespace = 'ivm_state'::regnamespace AND relkind = 'm'});

my $acls = q{SELECT string_agg(DISTINCT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END || ' ' || privilege_type, ', ')
	FROM (SELECT tableoid, oid, nspowner, nspacl FROM pg_namespace UNION ALL SELECT tableoid, oid, relowner, relacl FROM pg_class
		UNION ALL SELECT tableoid, oid, proowner, coalesce(proacl, acldefault('f', proowner)) FROM pg_proc) o (classid, objid, owner, acl)
	JOIN pg_depend d USING (classid, objid), aclexplode(acl)
	WHERE d.deptype = 'e' AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'ivm_ext') AND grantee <> owner};
is_value($node, $acls, 'PUBLIC EXECUTE, PUBLIC SELECT, PUBLIC USAGE, pg_monitor EXECUTE, pg_monitor SELECT',
	'nobody has anything by default privileges', 'app');
foreach my $role ('web', '"Odd ""Role"""')
{
	is_for($role, 'SELECT count(*) FROM ivm.view', 'permission denied for materialized view view', 'ivm.view is not to be read');
	is_for($role, 'DELETE FROM ivm.view', 'permission denied for materialized view view', 'nor written');
	is_for($role, 'UPDATE ivm.applied SET xip = xip', 'permission denied for materialized view applied', 'nor is ivm.applied');
	is_for($role, "TABLE ivm_state.$state", 'permission denied for schema ivm_state', 'nor is what the views remember');
	is_for($role, 'CREATE VIEW ivm.v AS SELECT 1', 'permission denied for schema ivm', 'nothing is made in our schemas');
	is_for($role, 'SELECT ivm.trim()', 'permission denied for function trim', 'what is not for everybody is not');
	is_for($role, 'SELECT ivm.stat_reset()', 'permission denied for function stat_reset', 'nor this');
}
$node->safe_psql('app', 'GRANT USAGE ON SCHEMA ivm_state TO web');
is_for('web', "TABLE ivm_state.$state", "permission denied for materialized view $state", 'not even with the schema open');
$node->safe_psql('app', 'REVOKE USAGE ON SCHEMA ivm_state FROM web');
is_for('keeper', q{SELECT ivm.sync('keeper.groups'); SELECT * FROM ivm.verify('keeper.bag'); SELECT count(*) > 0 FROM ivm.explain('keeper.bag')}, "\n0|0\nt",
	'what is for everybody is, whatever the default privileges have taken');
$node->safe_psql('app', q{INSERT INTO keeper.t SELECT i, i % 5, 'more' FROM generate_series(100, 200) i; DELETE FROM keeper.t WHERE id < 10});
are_exact($node, 'and the views are maintained', 'app');

# even who was granted everything cannot write what no statement can
$node->safe_psql('app', 'GRANT ALL ON ALL TABLES IN SCHEMA ivm TO web; GRANT ALL ON SCHEMA ivm TO web');
is_for('web', 'DELETE FROM ivm.view', 'cannot change materialized view "view"', 'with all rights granted');
is_for('web', 'TRUNCATE ivm.applied', '"applied" is not a table', 'with all rights granted');
$node->safe_psql('app', 'REVOKE ALL ON ALL TABLES IN SCHEMA ivm FROM web; REVOKE ALL ON SCHEMA ivm FROM web');

# ---- who sees what ----

$node->safe_psql('app', q{INSERT INTO keeper.t VALUES (1000, 1, 'the secret of all')});
wait_for_state($node, 'keeper.casts', 'error', 'app');
my $rows = 'SELECT string_agg(schemaname || $$.$$ || relname, $$ $$ ORDER BY relname) FROM pg_stat_ivm';
is_for('keeper', $rows, 'keeper.bag keeper.casts keeper.groups', 'the owner sees his views');
is_for('keeper', q{SELECT last_error FROM pg_stat_ivm WHERE relname = 'casts'}, 'division by zero', 'and their errors');
is_for('other', $rows, 'other.v', 'the owner sees his view');
is_for('web', $rows, '', 'others see nothing');
is_for('watcher', 'SELECT count(*), count(last_error) FROM pg_stat_ivm', '4|1', 'a monitor sees all');
is_for('other', 'SELECT count(*), count(DISTINCT relid) FROM ivm.stat_views()', '1|1', 'by the functions behind the views as well');
is_for('other', 'SELECT DISTINCT relid::regclass FROM pg_stat_ivm_operator', 'v', 'operators');
is_for('other', 'SELECT DISTINCT relid::regclass FROM ivm.stat_operators()', 'v', 'operators, by the function');
is_for('other', 'SELECT count(*) FROM pg_stat_progress_ivm_build', '0', 'builds');
is_for('other', 'SELECT count(*) FROM pg_stat_ivm_worker', 'permission denied for view pg_stat_ivm_worker', 'processes are for monitors');
is_for('other', 'SELECT count(*) FROM pg_stat_ivm_memory', 'permission denied for view pg_stat_ivm_memory', 'and so is memory');
is_for('watcher', 'SELECT count(*) > 2 FROM pg_stat_ivm_worker', 't', 'processes');
$node->safe_psql('app', 'GRANT keeper TO other');
is_for('other', 'SELECT count(*) FROM pg_stat_ivm', '4', 'a member of the owner sees what the owner does');
$node->safe_psql('app', 'REVOKE keeper FROM other');

# a build that is running
set_points($node, 'build-filled=wait');
my $session = connection($node, 'app');
$session->query_until(qr/begun/, "\\echo begun\nREFRESH INCREMENTAL VIEW keeper.groups;\n");
wait_for_point($node, 'build-filled');
is_for('keeper', 'SELECT relid::regclass FROM pg_stat_progress_ivm_build', 'groups', 'the build of a view');
is_for('other', 'SELECT count(*) FROM pg_stat_progress_ivm_build', '0', 'the build of a view');
is_for('other', 'SELECT count(*) FROM ivm.stat_builds()', '0', 'the build of a view, by the function');
is_for('watcher', 'SELECT count(*) FROM pg_stat_progress_ivm_build', '1', 'the build of a view');
is_value($node, 'SET ROLE other; SELECT count(*) FROM pg_stat_progress_ivm_build', '0', 'nor from another database');
set_points($node, '');
$session->query('SELECT 1');
leave($session);

# ---- owners that go ----

$node->safe_psql('app', q{DELETE FROM keeper.t WHERE id = 1000; REFRESH MATERIALIZED VIEW keeper.casts; CREATE ROLE heir; REASSIGN OWNED BY keeper TO heir});
are_exact($node, 'REASSIGN OWNED', 'app');
$node->safe_psql('app', q{DROP OWNED BY other; DROP ROLE other; DROP OWNED BY keeper; DROP ROLE keeper; INSERT INTO keeper.t VALUES (300, 1, 'new')});
are_exact($node, 'DROP OWNED', 'app');
my $left = q{SELECT count(*) FROM pg_class c WHERE relnamespace = 'ivm_state'::regnamespace AND relkind = 'm' AND
	NOT EXISTS (SELECT FROM pg_stat_ivm WHERE c.relname ~ ('^v' || relid || '_'))};
is_value($node, $left, 0, 'and nothing is left of the views that went', 'app');

# ---- a dump by somebody who is no superuser ----

my $dir = $node->basedir;
$node->safe_psql('app', 'REASSIGN OWNED BY heir TO landlord; ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM PUBLIC');
$node->command_ok([ 'pg_dump', '-U', 'landlord', '-f', "$dir/by_landlord.sql", 'app' ], 'the owner of a database dumps it');
unlike(slurp_file("$dir/by_landlord.sql"), qr/ivm_state|ON (TABLE|FUNCTION|SCHEMA) (ivm|pg_catalog)\b/, 'and nothing of ours is in the dump, nor rights on it');

# ---- an extension that another superuser has made ----

$node->safe_psql('postgres', q{CREATE ROLE boss SUPERUSER; CREATE DATABASE bossy});
$node->safe_psql('bossy', 'SET ROLE boss; CREATE EXTENSION ivm_ext');
make_sales($node, 'bossy');
my ($ret, $stdout, $stderr) = $node->psql('bossy', 'ALTER EXTENSION ivm_ext SET SCHEMA public');
like($stderr, qr/does not support SET SCHEMA/, 'the extension stays where it is');
$node->safe_psql('bossy', 'REASSIGN OWNED BY boss TO ' . $node->safe_psql('postgres', 'SELECT current_user'));
$node->safe_psql('bossy', 'DROP ROLE boss');
change_sales($node, 'bossy');
are_exact($node, 'the views are maintained, whoever owns the extension', 'bossy');
$node->safe_psql('bossy', 'DROP EXTENSION ivm_ext CASCADE');
is_value($node, q{SELECT count(*) FROM pg_namespace WHERE nspname ~ '^ivm'}, 0, 'and all of it goes', 'bossy');

$node->stop;
done_testing();
