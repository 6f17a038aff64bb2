# pg_upgrade, by copying and by linking, without special options: the views are
# readable as they were, and maintained as soon as the new cluster has a slot.
#
# kills: nothing

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $old = new_node('old');
my $bindir = $old->config_data('--bindir');

# A cluster to upgrade to: made, and not started.
sub new_cluster
{
	my ($name, $library) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init;
	$node->append_conf('postgresql.conf', <<"EOC");
shared_preload_libraries = '$library'
wal_level = logical
max_replication_slots = 8
max_worker_processes = 24
ivm.naptime = 1s
EOC
	return $node;
}

sub upgrade
{
	my ($node, @options) = @_;

	# it leaves scripts where it is run
	chdir($node->basedir) || die;
	return [ 'pg_upgrade', '-b', $bindir, '-B', $bindir, '-d', $old->data_dir, '-D', $node->data_dir,
		'-U', scalar(getpwuid($<)), '-s', $node->host, '-p', $old->port, '-P', $node->port, @options ];
}

# Another database than the one that everybody has, and oids that will be others:
# what refers to functions is stored by number.
$old->safe_psql('postgres', 'CREATE DATABASE app');
make_sales($old, $_, 4000) foreach ('app', 'postgres');
$old->safe_psql('app', <<'EOS');
CREATE ROLE keeper;
CREATE FUNCTION public.gone() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION public.twice(numeric) RETURNS numeric LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN 2 * $1; END';
CREATE FUNCTION public.add_twice(numeric, numeric) RETURNS numeric LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1 + 2 * $2; END';
CREATE AGGREGATE public.sum_twice(numeric) (sfunc = public.add_twice, stype = numeric, initcond = '0');
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE TABLE wide (id int PRIMARY KEY, k int, m mood, pad char(200) DEFAULT '');
INSERT INTO wide SELECT i, i % 700, 'happy' FROM generate_series(1, 6000) i;
EOS
$old->safe_psql('app', $_) foreach (
	'CREATE INCREMENTAL VIEW doubled AS SELECT note, twice(sum(amount)) AS total, sum_twice(amount) AS again FROM sale GROUP BY note',
	'CREATE INCREMENTAL VIEW moods AS SELECT m, count(*) AS n FROM wide GROUP BY m',
	'CREATE INCREMENTAL VIEW without_index AS SELECT w.id, s.note FROM wide w JOIN sale s ON s.id = w.k',
	'CREATE INCREMENTAL VIEW empty AS SELECT note FROM sale WITH NO DATA',
	'CREATE UNIQUE INDEX mine ON listed (id) WHERE id > 100',
	'GRANT SELECT ON listed TO keeper');
$old->safe_psql('app', 'DROP FUNCTION gone()');
is_value($old, q{SELECT count(*) > 0 FROM ivm.view WHERE kind = 'a'}, 't', 'there is a shared arrangement', 'app');
change_sales($old, $_) foreach ('app', 'postgres');
sync($old, $_) foreach ('app', 'postgres');
my @views = (sales_views(), 'doubled', 'moods', 'without_index');
my $contents = 'SELECT ' . join(" || ' ' || ", map { "(SELECT count(*) || '/' || coalesce(sum(hashtext(v::text)), 0) FROM $_ v)" } @views);
my $before = $old->safe_psql('app', $contents);
my $stored = q{SELECT string_agg(c.oid || coalesce(c.relacl::text, ''), ' ' ORDER BY c.oid) FROM pg_class c
	JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e' WHERE relkind IN ('m', 'v')};
my $members = $old->safe_psql('app', $stored);
$old->stop;

# what is missing in the new cluster is said before anything is done
my $bare = new_cluster('bare', '');
my ($out, $err) = ('', '');
ok(!IPC::Run::run(upgrade($bare, '--check'), '>', \$out, '2>', \$err), 'not to a cluster without the library');
my ($report) = glob($bare->data_dir . '/pg_upgrade_output.d/*/loadable_libraries.txt');
like(slurp_file($report // '/dev/null'), qr/ivm_ext must be loaded via shared_preload_libraries/, 'which is said at once');

foreach my $mode ('copy', 'link')
{
	my $new = new_cluster($mode, 'ivm_ext');

	command_ok(upgrade($new, $mode eq 'link' ? '--link' : ()), "pg_upgrade, $mode");
	# nothing is rebuilt before that was looked at, nor was while it was upgraded
	$new->append_conf('postgresql.conf', 'wal_level = replica');
	$new->start;
	is_value($new, 'SELECT count(*) FROM pg_replication_slots', 0, "no process of ours was there meanwhile, $mode");
	is_value($new, $contents, $before, "the views are as they were, $mode", 'app');
	is_value($new, $stored, $members, "what belongs to the extension still does, with its rights, $mode", 'app');
	$new->append_conf('postgresql.conf', 'wal_level = logical');
	$new->restart;
	change_sales($new, $_) foreach ('app', 'postgres');
	$new->safe_psql('app', q{UPDATE wide SET k = k + 1, m = 'sad' WHERE id % 5 = 1});
	wait_for_state($new, $_, 'active', 'app') foreach (@views);
	is_exact($new, $_, "$_ is exact, $mode", 'app') foreach (@views);
	are_exact($new, "and so are those of the other database, $mode");
	is_value($new, q{SELECT state FROM pg_stat_ivm WHERE relname = 'empty'}, 'unpopulated', "one without data is without data, $mode", 'app');
	$new->safe_psql('app', 'DROP MATERIALIZED VIEW doubled; REFRESH MATERIALIZED VIEW empty');
	$new->safe_psql('app', 'DROP MATERIALIZED VIEW without_index');
	change_sales($new, 'app');
	are_exact($new, "after a drop and a refresh, $mode", 'app');
	is_value($new, q{SELECT count(*) FROM ivm.view v WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = v.relid)}, 0, "no rows are left over, $mode", 'app');
	is_value($new, q{SELECT count(*) FROM pg_class c WHERE relnamespace = 'ivm_state'::regnamespace AND relkind = 'm' AND
		NOT EXISTS (SELECT FROM pg_class v WHERE relnamespace <> 'ivm_state'::regnamespace AND c.relname ~ ('^v' || v.oid || '_')) AND
		NOT EXISTS (SELECT FROM ivm.view WHERE c.oid = any (arrangements))}, 0, "nor state tables, $mode", 'app');
	$new->safe_psql('app', 'DROP EXTENSION ivm_ext CASCADE');
	is_value($new, q{SELECT count(*) FROM pg_namespace WHERE nspname ~ '^ivm'}, 0, "all goes with the extension, $mode", 'app');
	$new->stop;
}

done_testing();
