# The statements that tools send, in their transactions, twice over, on a server
# where ivm.materialized_views is on: dbt's materialized_view, Rails with scenic, Django,
# Drizzle.  Each view has to become an incremental one, and to be exact after each step.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $node = new_node('tools', 'ivm.materialized_views = on');
$node->safe_psql('postgres', <<'EOS');
CREATE EXTENSION ivm_ext;
CREATE ROLE reporting;
CREATE SCHEMA analytics;
CREATE SCHEMA "drizzle";
CREATE TABLE orders (id int PRIMARY KEY, region text NOT NULL, amount numeric NOT NULL);
INSERT INTO orders SELECT i, 'region ' || i % 7, i % 100 FROM generate_series(1, 2000) i;
CREATE TABLE schema_migrations (version text PRIMARY KEY);
CREATE TABLE django_migrations (id serial PRIMARY KEY, app text, name text, applied timestamptz);
CREATE TABLE drizzle.__drizzle_migrations (id serial PRIMARY KEY, hash text NOT NULL, created_at bigint);
EOS

my $runs = 0;

# Others write meanwhile.
sub write_some
{
	$node->safe_psql('postgres', "INSERT INTO orders SELECT m + i, 'region ' || i % 9, i FROM (SELECT max(id) AS m FROM orders) o, generate_series(1, 5) i; UPDATE orders SET amount = amount + 1 WHERE id % 50 = 3");
	return;
}

# What a client sends as one simple query each, in one session; an error is a failure.
sub client
{
	my ($name, @strings) = @_;

	# psql sends a string with \; as one query
	my $script = join("\n", map { my $s = $_; $s =~ s/;\s*$//; $s =~ s/;/\\;/g; "$s;" } @strings);
	my ($ret, $stdout, $stderr) = $node->psql('postgres', $script, on_error_stop => 1);
	is($ret, 0, $name) or diag($stderr);
	return $stdout;
}

sub is_incremental
{
	my ($view, $name) = @_;
	is_value($node, "SELECT amname FROM pg_class c JOIN pg_am a ON a.oid = relam WHERE c.oid = '$view'::regclass", 'incremental', "$name: it is incremental");
	wait_until($node, "SELECT state = 'active' FROM pg_stat_ivm WHERE relid = '$view'::regclass", "$view is maintained");
	write_some();
	is_exact($node, $view, "$name: it is exact");
	return;
}

# ---- dbt ----

# dbt compares the indexes that it finds with those of the model, without regard to their names, and drops what the model does not have.
sub dbt_run
{
	my ($model, $index, $full_refresh) = @_;
	my $query = 'select region, count(*) as n, sum(amount) as total from "postgres"."public"."orders" group by region';
	my $relation = qq{"postgres"."analytics"."$model"};
	my $exists = $node->safe_psql('postgres', "select count(*) from pg_catalog.pg_matviews where schemaname ilike 'analytics' and matviewname ilike '$model'");
	my $create_index = $index ? qq{
        create unique index if not exists
  "${index}"
  on %s
  (region);} : '';
	my $build;

	if (!$exists)
	{
		$build = qq{
    create materialized view if not exists $relation as $query;
    } . sprintf($create_index, $relation);
	}
	elsif ($full_refresh)
	{
		my $temporary = qq{"postgres"."analytics"."${model}__dbt_tmp"};
		$build = qq{
    drop materialized view if exists $temporary cascade;
    create materialized view if not exists $temporary as $query;
    } . sprintf($create_index =~ s/"${index}"/"${index}_@{[++$runs]}"/r, $temporary) . qq{
    ;
    drop materialized view if exists "postgres"."analytics"."${model}__dbt_backup" cascade;
    alter materialized view $relation rename to "${model}__dbt_backup";
    alter materialized view $temporary rename to "$model";
    drop materialized view if exists "postgres"."analytics"."${model}__dbt_backup" cascade
    };
	}
	else
	{
		my @found = split /\n/, $node->safe_psql('postgres', qq{
    select i.relname, m.amname, ix.indisunique, array_to_string(array_agg(a.attname), ',') as column_names
    from pg_index ix
    join pg_class i on i.oid = ix.indexrelid
    join pg_am m on m.oid = i.relam
    join pg_class t on t.oid = ix.indrelid
    join pg_namespace n on n.oid = t.relnamespace
    join pg_attribute a on a.attrelid = t.oid and a.attnum = ANY(ix.indkey)
    where t.relname = '$model' and n.nspname = 'analytics' and t.relkind in ('r', 'm')
    group by 1, 2, 3 order by 1, 2, 3});
		my @drop = grep { !$index || !/\|btree\|t\|region$/ } @found;
		$build = @drop ?
		  join(";\n", map { my ($i) = split /\|/; qq{drop index if exists "analytics"."$i"} } @drop) :
		  "\n    refresh materialized view $relation\n";
	}
	write_some();
	client("dbt $model",
		qq{drop materialized view if exists "postgres"."analytics"."${model}__dbt_backup" cascade},
		qq{drop materialized view if exists "postgres"."analytics"."${model}__dbt_tmp" cascade},
		'BEGIN',
		qq{/* {"app": "dbt", "dbt_version": "1.9.0", "node_id": "model.x.$model"} */\n$build},
		qq{grant select on $relation to reporting},
		qq{comment on materialized view $relation is \$dbt_comment_literal_block\$totals\$dbt_comment_literal_block\$},
		'COMMIT',
		qq{drop materialized view if exists "postgres"."analytics"."${model}__dbt_backup" cascade});
	is_incremental("analytics.$model", "dbt $model" . ($full_refresh ? ', full refresh' : ''));
	return;
}

foreach my $round (1, 2)
{
	dbt_run('by_region', '', 0) foreach (1 .. 3);
	dbt_run('by_region', '', 1);
	dbt_run('by_region_indexed', '5f0b1c2d3e4f', 0) foreach (1 .. 3);
	dbt_run('by_region_indexed', '5f0b1c2d3e4f', 1);
	dbt_run('by_region_indexed', '5f0b1c2d3e4f', 0);
	is_value($node, q{SELECT relacl::text LIKE '%reporting=r/%' FROM pg_class WHERE oid = 'analytics.by_region'::regclass}, 't', 'with the rights that it grants');
	$node->safe_psql('postgres', 'DROP MATERIALIZED VIEW analytics.by_region CASCADE; DROP MATERIALIZED VIEW analytics.by_region_indexed CASCADE');
}

# ---- Rails with scenic ----

my $scenic_indexes = q{SELECT
              t.relname as object_name,
              i.relname as index_name,
              pg_get_indexdef(d.indexrelid) AS definition
            FROM pg_class t
            INNER JOIN pg_index d ON t.oid = d.indrelid
            INNER JOIN pg_class i ON d.indexrelid = i.oid
            LEFT JOIN pg_namespace n ON n.oid = i.relnamespace
            WHERE i.relkind = 'i'
              AND d.indisprimary = 'f'
              AND t.relname = '%s'
              AND n.nspname = ANY (current_schemas(false))
            ORDER BY i.relname};

# The index statements that scenic sends one by one, each in a savepoint that it rolls back to if the index cannot be made.
sub create_indexes
{
	my ($session, $where, @indexes) = @_;
	foreach my $index (@indexes)
	{
		my ($view, $name, $definition) = split /\|/, $index, 3;
		$definition =~ s/ON (.*)\.\Q$view\E/"ON $1.$where "/e;
		$session->query("SAVEPOINT $name");
		$session->query($definition);
		if ($session->{stderr} =~ /ERROR/)
		{
			$session->{stderr} = '';
			$session->query("ROLLBACK TO SAVEPOINT $name");
		}
		else
		{
			$session->query("RELEASE SAVEPOINT $name");
		}
	}
	return;
}

sub scenic_create
{
	my ($name, $query, $no_data) = @_;
	return qq{  CREATE MATERIALIZED VIEW "$name" AS\n  $query\n  @{[$no_data ? 'WITH NO DATA' : '']};};
}
my $keyed = 'SELECT region, count(*) AS n, sum(amount) AS total FROM orders GROUP BY region';
my $unkeyed = 'SELECT region, amount FROM orders WHERE amount < 50';

foreach my $round (1, 2)
{
	foreach my $query ($keyed, $unkeyed)
	{
		my $what = $query eq $keyed ? 'a key' : 'no key';

		write_some();
		client("scenic, $what: a migration creates",
			'BEGIN', scenic_create('totals', $query, 0), 'CREATE INDEX "index_totals_on_region" ON "totals" ("region")',
			qq{INSERT INTO "schema_migrations" ("version") VALUES ('$round$what') RETURNING "version"}, 'COMMIT');
		is_incremental('totals', "scenic, $what");

		foreach my $concurrently ($what eq 'a key' ? ('', 'CONCURRENTLY ') : (''))
		{
			my $n = $node->safe_psql('postgres', "INSERT INTO orders SELECT max(id) + 1, 'new', 1 FROM orders; SELECT count(*) FROM orders");
			client('scenic: populated?', q{SELECT relispopulated FROM pg_class WHERE relname = 'totals'},
				qq{REFRESH MATERIALIZED VIEW $concurrently"totals"});
			is_value($node, $what eq 'a key' ? 'SELECT sum(n) FROM totals' : 'SELECT (SELECT count(*) FROM totals) + count(*) FROM orders WHERE amount >= 50',
				$n, "scenic, $what: after REFRESH $concurrently it is fresh");
		}

		# update_materialized_view
		my $session = connection($node);
		my @indexes = split /\n/, $session->query_safe(sprintf($scenic_indexes, 'totals'));
		$session->query_safe('BEGIN');
		$session->query_safe('DROP MATERIALIZED VIEW "totals";');
		$session->query_safe(scenic_create('totals', $query, 0));
		create_indexes($session, 'totals', @indexes);
		$session->query_safe('COMMIT');
		is_incremental('totals', "scenic, $what: dropped and created");

		# the same side by side
		my $temporary = '_scenic_sbs_8a03f467c615b126f59617cc510d2abd2296d834';
		@indexes = split /\n/, $session->query_safe(sprintf($scenic_indexes, 'totals'));
		$session->query_safe('BEGIN');
		$session->query_safe(scenic_create($temporary, $query, 0));
		my $n = 0;
		foreach my $index (@indexes)
		{
			my (undef, $name) = split /\|/, $index;
			$session->query_safe(qq{ALTER INDEX "$name" RENAME TO "_scenic_sbs_@{[++$n]}"});
		}
		create_indexes($session, $temporary, @indexes);
		$session->query_safe('DROP MATERIALIZED VIEW "totals";');
		$session->query_safe("ALTER MATERIALIZED VIEW $temporary RENAME TO totals");
		$session->query_safe('COMMIT');
		$session->quit;
		is_incremental('totals', "scenic, $what: side by side");
		is_value($node, q{SELECT count(*) FROM pg_indexes WHERE tablename = 'totals' AND indexname = 'index_totals_on_region'}, '1', 'with its index');

		client('scenic drops it', 'BEGIN', 'DROP MATERIALIZED VIEW "totals"', 'COMMIT');
		client('scenic: created with no data', 'BEGIN', scenic_create('totals', $query, 1), 'COMMIT');
		client('scenic: filled', 'REFRESH MATERIALIZED VIEW "totals"');
		is_incremental('totals', "scenic, $what: created without data");
		client('scenic drops it', 'BEGIN', 'DROP MATERIALIZED VIEW "totals"', 'COMMIT');
	}
}

# ---- Django ----

foreach my $round (1, 2)
{
	client('Django: a migration',
		'BEGIN',
		"CREATE MATERIALIZED VIEW app_totals AS $keyed",
		'CREATE UNIQUE INDEX app_totals_region ON app_totals (region)',
		qq{INSERT INTO "django_migrations" ("app", "name", "applied") VALUES ('app', '0002_totals', now()) RETURNING "django_migrations"."id"},
		'COMMIT');
	is_incremental('app_totals', 'Django');
	foreach my $concurrently ('', 'CONCURRENTLY ')
	{
		write_some();
		client('Django: a refresh', "REFRESH MATERIALIZED VIEW ${concurrently}app_totals");
		is_value($node, 'SELECT (SELECT sum(n) FROM app_totals) = count(*) FROM orders', 't', "after REFRESH $concurrently it is fresh");
		write_some();
		client('Django: a refresh in atomic()', 'BEGIN', "REFRESH MATERIALIZED VIEW ${concurrently}app_totals", 'COMMIT');
		is_value($node, 'SELECT (SELECT sum(n) FROM app_totals) = count(*) FROM orders', 't', 'in atomic(), too');
		my $before = $node->safe_psql('postgres', q{SELECT xmin FROM ivm.view WHERE relid = 'app_totals'::regclass});
		is(client('Django: a test case',
				'BEGIN', 'SAVEPOINT "s140_x1"',
				q{INSERT INTO "orders" ("id", "region", "amount") VALUES (-1, 'of a test', 12)},
				"REFRESH MATERIALIZED VIEW ${concurrently}app_totals",
				q{SELECT total FROM app_totals WHERE region = 'of a test'},
				'SAVEPOINT "s140_x2"',
				q{UPDATE "orders" SET "amount" = 13 WHERE "id" = -1},
				"REFRESH MATERIALIZED VIEW ${concurrently}app_totals",
				q{SELECT total FROM app_totals WHERE region = 'of a test'},
				'ROLLBACK TO SAVEPOINT "s140_x2"', 'RELEASE SAVEPOINT "s140_x2"',
				q{SELECT total FROM app_totals WHERE region = 'of a test'},
				'ROLLBACK TO SAVEPOINT "s140_x1"', 'RELEASE SAVEPOINT "s140_x1"', 'ROLLBACK'),
			"12\n13\n12", "a test case sees its own rows after REFRESH $concurrently");
		is_value($node, q{SELECT xmin FROM ivm.view WHERE relid = 'app_totals'::regclass}, $before, 'and leaves nothing to be rebuilt');
	}
	client('Django: the migration back', 'BEGIN', 'DROP MATERIALIZED VIEW app_totals',
		q{DELETE FROM "django_migrations" WHERE ("django_migrations"."app" = 'app' AND "django_migrations"."name" = '0002_totals')}, 'COMMIT');
}

# ---- Drizzle ----

my $drizzle = 'select "region", count(*) as "n", sum("amount") as "total" from "orders" group by "region"';
foreach my $round (1, 2)
{
	client('Drizzle: a migration',
		'begin',
		qq{CREATE MATERIALIZED VIEW "public"."totals_mv" AS ($drizzle);},
		qq{CREATE MATERIALIZED VIEW "public"."filled_later" WITH (fillfactor = 80, autovacuum_enabled = true) AS ($drizzle) WITH NO DATA;},
		qq{CREATE MATERIALIZED VIEW "public"."plain_mv" USING "heap" AS ($drizzle);},
		qq{insert into "drizzle"."__drizzle_migrations" ("hash", "created_at") values('abc', 1)},
		'commit');
	is_incremental('totals_mv', 'Drizzle');
	is_value($node, q{SELECT amname FROM pg_class c JOIN pg_am a ON a.oid = relam WHERE c.oid = 'plain_mv'::regclass}, 'heap', 'what names another access method has it');
	client('Drizzle: refreshes', 'refresh materialized view "totals_mv"', 'refresh materialized view concurrently "totals_mv"',
		'refresh materialized view "filled_later"', 'refresh materialized view "plain_mv"');
	is_incremental('filled_later', 'Drizzle, filled later');
	client('Drizzle: alterations', 'begin',
		'ALTER MATERIALIZED VIEW "public"."totals_mv" SET (fillfactor = 90, autovacuum_enabled = false);',
		'ALTER MATERIALIZED VIEW "public"."totals_mv" RESET (fillfactor);',
		'ALTER MATERIALIZED VIEW "public"."totals_mv" SET TABLESPACE pg_default;',
		'ALTER MATERIALIZED VIEW "public"."totals_mv" RENAME TO "renamed_mv";',
		'ALTER MATERIALIZED VIEW "public"."renamed_mv" SET SCHEMA "analytics";',
		'ALTER MATERIALIZED VIEW "public"."plain_mv" SET ACCESS METHOD "incremental";',
		'ALTER MATERIALIZED VIEW "public"."filled_later" SET ACCESS METHOD "heap";',
		'commit');
	is_incremental('analytics.renamed_mv', 'Drizzle, altered');
	is_incremental('plain_mv', 'Drizzle, another access method');
	is_value($node, q{SELECT count(*) FROM pg_stat_ivm WHERE relname = 'filled_later'}, '0', 'and back');
	client('Drizzle: emptied', 'refresh materialized view "plain_mv" with no data', 'refresh materialized view "plain_mv"');
	is_incremental('plain_mv', 'Drizzle, emptied and filled');
	client('Drizzle: dropped', 'begin', 'DROP MATERIALIZED VIEW "analytics"."renamed_mv";', 'DROP MATERIALIZED VIEW "public"."plain_mv";',
		'DROP MATERIALIZED VIEW "public"."filled_later";', 'commit');
}

# ---- the extended protocol, prepared and not ----

my $script = $node->basedir . '/refresh.pgbench';
foreach my $mode ('extended', 'prepared')
{
	PostgreSQL::Test::Utils::append_to_file("$script.$mode", <<"EOS");
CREATE MATERIALIZED VIEW IF NOT EXISTS of_$mode AS $keyed;
INSERT INTO orders SELECT max(id) + 1, 'of pgbench', 1 FROM orders;
REFRESH MATERIALIZED VIEW of_$mode;
SELECT 1 / (sum(n) = (SELECT count(*) FROM orders))::int FROM of_$mode;
BEGIN;
INSERT INTO orders SELECT max(id) + 1, 'of pgbench', 1 FROM orders;
REFRESH MATERIALIZED VIEW of_$mode;
SELECT 1 / (sum(n) = (SELECT count(*) FROM orders))::int FROM of_$mode;
COMMIT;
REFRESH MATERIALIZED VIEW CONCURRENTLY of_$mode;
SELECT 1 / (sum(n) = (SELECT count(*) FROM orders))::int FROM of_$mode;
EOS
	$node->command_ok([ 'pgbench', '-n', '-t', '5', '-M', $mode, '-f', "$script.$mode", '-d', $node->connstr('postgres') ], "protocol: $mode");
	is_incremental("of_$mode", "protocol: $mode");
}

are_exact($node, 'all are exact at the end');
$node->stop;
done_testing();
