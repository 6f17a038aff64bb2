# Dump and restore, in each format: the views come back as incremental views,
# are filled by the dump's REFRESH, and maintained from then on.
#
# kills: nothing

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $node = new_node('dump');
my $other = new_node('restored');

make_sales($node);
$node->safe_psql('postgres', <<'EOS');
CREATE ROLE keeper;
CREATE SCHEMA "Odd Name";
SET search_path = "Odd Name", public;
CREATE MATERIALIZED VIEW "Odd View" USING incremental AS SELECT amount AS "Odd Column", count(*) AS n FROM public.sale GROUP BY amount;
CREATE UNIQUE INDEX mine ON "Odd View" ("Odd Column");
CREATE INDEX ON public.per_name (total DESC);
GRANT SELECT ON "Odd View" TO keeper;
COMMENT ON MATERIALIZED VIEW "Odd View" IS 'said by the user';
CREATE MATERIALIZED VIEW public.empty USING incremental AS SELECT region FROM public.sale WITH NO DATA;
CREATE VIEW public.plain AS SELECT * FROM public.per_region WHERE n > 10;
EOS
$other->safe_psql('postgres', 'CREATE ROLE keeper');
my $dir = $node->basedir;

# An order that does not depend on physical places.
my $contents = q{SELECT string_agg(v::text, ',' ORDER BY v::text COLLATE "C") FROM listed v};

sub is_restored
{
	my ($server, $dbname, $how) = @_;

	wait_until($server,
		q{SELECT bool_and(state = CASE relname WHEN 'empty' THEN 'unpopulated' ELSE 'active' END) FROM pg_stat_ivm},
		"the views are active, $how", $dbname);
	is_value($server, 'SELECT count(*) FROM pg_stat_ivm', 8, "all views are there: $how", $dbname);
	change_sales($server, $dbname);
	sync($server, $dbname);
	is_exact($server, $_, "$_ is maintained: $how", $dbname) foreach ('per_name', 'listed', 'on_view', '"Odd Name"."Odd View"');
	is_value($server, q{SELECT has_table_privilege('keeper', '"Odd Name"."Odd View"', 'SELECT') AND
		obj_description('"Odd Name"."Odd View"'::regclass) = 'said by the user' AND
		(SELECT indisunique FROM pg_index WHERE indexrelid = '"Odd Name".mine'::regclass)}, 't',
		"with index, grant and comment: $how", $dbname);
	is_value($server, q{SELECT count(*) FROM pg_class WHERE relname = 'empty' AND NOT relispopulated}, 1,
		"one without data is without data: $how", $dbname);
	return;
}

my $before = $node->safe_psql('postgres', $contents);

$node->command_ok([ 'pg_dump', '-f', "$dir/plain.sql", 'postgres' ], 'pg_dump');
unlike(slurp_file("$dir/plain.sql"), qr/ivm_state|COPY ivm\./, 'nothing of ours is in the dump');
like(slurp_file("$dir/plain.sql"), qr/SET default_table_access_method = incremental/, 'but the access method');

# into another server
$other->command_ok([ 'psql', '-X', '-v', 'ON_ERROR_STOP=1', '-q', '-d', 'postgres', '-f', "$dir/plain.sql" ], 'restored by psql');
is_restored($other, 'postgres', 'psql on another server');

# into the same one, beside it
$node->safe_psql('postgres', 'CREATE DATABASE by_psql');
$node->command_ok([ 'psql', '-X', '-v', 'ON_ERROR_STOP=1', '-q', '-1', '-d', 'by_psql', '-f', "$dir/plain.sql" ], 'restored by psql -1');
is_restored($node, 'by_psql', 'psql -1');

$node->command_ok([ 'pg_dump', '-Fc', '-f', "$dir/custom", 'postgres' ], 'pg_dump -Fc');
foreach my $options ([ '--single-transaction' ], [ '-j', '2' ], [ '--exit-on-error' ])
{
	my $how = "pg_restore @$options";
	$node->safe_psql('postgres', 'CREATE DATABASE by_restore');
	$node->command_ok([ 'pg_restore', @$options, '-d', 'by_restore', "$dir/custom" ], $how);
	is_restored($node, 'by_restore', $how);
	$node->safe_psql('postgres', 'DROP DATABASE by_restore');
}

# a dump of the restored one is the same
$node->command_ok([ 'pg_dump', '--schema-only', '-f', "$dir/schema1", 'postgres' ], 'schema dumped');
$node->command_ok([ 'pg_dump', '--schema-only', '-f', "$dir/schema2", 'by_psql' ], 'schema of the restored one dumped');
my ($one, $two) = map {
	my $text = slurp_file("$dir/$_");
	$text =~ s/^\\(un)?restrict .*$//mg;
	$text;
} ('schema1', 'schema2');
is($two, $one, 'both are the same');

# --clean over living views
$node->command_ok([ 'pg_restore', '--clean', '--if-exists', '-d', 'by_psql', "$dir/custom" ], 'pg_restore --clean over living views');
is_restored($node, 'by_psql', 'pg_restore --clean');

change_sales($node);
$node->safe_psql('postgres', 'DROP MATERIALIZED VIEW empty');
are_exact($node, 'the dumped database goes on');

$node->stop;
$other->stop;
done_testing();
