# Other extensions in the same server: hooks that rely on each other, before and
# after ours, and those that watch every statement.
#
# modules: planner_hooks

use strict;
use warnings;

use Cwd;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $directory = getcwd() . '/test/modules/planner_hooks';
my $module = "$directory/planner_hooks";

my $node = new_node('others', 'ivm.apply_workers = 1', <<'EOC');
compute_query_id = on
pg_stat_statements.track = all
auto_explain.log_min_duration = 0
auto_explain.log_nested_statements = on
auto_explain.log_analyze = on
auto_explain.log_verbose = on
auto_explain.log_buffers = on
auto_explain.log_triggers = on
auto_explain.log_settings = on
EOC

$node->safe_psql('postgres', 'CREATE EXTENSION ivm_ext');

# All that a view goes through, with the hooks called as ever before, in the
# middle and after it.
sub goes_well
{
	my ($libraries) = @_;

	$node->append_conf('postgresql.conf', "shared_preload_libraries = '$libraries'\n");
	$node->restart;
	my $name = $libraries =~ s{\Q$directory\E/}{}r;

	$node->safe_psql('postgres', <<EOS);
CREATE TABLE t (id int PRIMARY KEY, n int, x float8);
CREATE TABLE u (n int PRIMARY KEY, label text);
INSERT INTO t SELECT i, i % 7, i FROM generate_series(1, 200) AS i;
INSERT INTO u SELECT i, 'label ' || i FROM generate_series(0, 6) AS i;
CREATE FUNCTION limit_of() RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN (SELECT max(n) FROM public.u); END';
CREATE FUNCTION broken() RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN (SELECT 1 / (count(*) - count(*)) FROM public.u); END';
EOS
	$node->safe_psql('postgres', "CREATE FUNCTION hook_calls(text) RETURNS bigint LANGUAGE c AS '$module'")
	  if $libraries =~ /planner_hooks/;
	$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW sums AS SELECT n, count(*), sum(x) FROM t GROUP BY n');
	$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW joined AS SELECT t.id, u.label FROM t JOIN u USING (n) WHERE t.n <= limit_of()');
	$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW ranks AS SELECT id, rank() OVER (PARTITION BY n ORDER BY x) FROM t');
	$node->safe_psql('postgres', 'CREATE MATERIALIZED VIEW above USING incremental AS SELECT count(*) FROM sums');
	my ($ret, $stdout, $stderr) = $node->psql('postgres', 'CREATE INCREMENTAL VIEW never AS SELECT n, count(*) FROM t WHERE n > broken() GROUP BY n');
	like($stderr, qr/division by zero/, "$name: an error while planning is an error");

	$node->safe_psql('postgres', 'UPDATE t SET n = n + 1 WHERE id % 3 = 0 AND n < 6; DELETE FROM t WHERE id % 10 = 0');
	are_exact($node, "$name: the views are exact");
	is_value($node, "SELECT count(*) FROM pg_stat_ivm WHERE state <> 'active' OR rebuilds > 0", '0', "$name: and at peace");
	$node->safe_psql('postgres', 'REFRESH INCREMENTAL VIEW sums');
	$node->safe_psql('postgres', 'REFRESH MATERIALIZED VIEW joined');
	is_value($node, "SELECT sum(missing + extra) FROM pg_stat_ivm, ivm.verify(relid)", '0', "$name: verified");
	$node->safe_psql('postgres', "SELECT ivm.explain('ranks')");
	$node->safe_psql('postgres', 'ALTER MATERIALIZED VIEW above SET ACCESS METHOD heap');

	is($node->safe_psql('postgres', <<'EOS'), "t|t|t|t", "$name: and the hooks are called as ever") if $libraries =~ /planner_hooks/;
CREATE TEMP TABLE calls AS SELECT n, hook_calls(n) AS c FROM unnest(array['planner', 'upper paths', 'relations', 'executions', 'utilities']) n;
DO $$ BEGIN PERFORM ivm.explain('sums'); BEGIN EXECUTE 'CREATE INCREMENTAL VIEW never AS SELECT n FROM t WHERE n > broken()'; EXCEPTION WHEN OTHERS THEN NULL; END; END $$;
SELECT * FROM calls LIMIT 0;
INSERT INTO calls SELECT 'after ' || n, hook_calls(n) FROM unnest(array['planner', 'upper paths', 'relations', 'executions', 'utilities']) n;
SELECT count(*) FROM t GROUP BY n LIMIT 0;
SELECT hook_calls('planner') > (SELECT c FROM calls WHERE n = 'after planner'),
	hook_calls('upper paths') > (SELECT c FROM calls WHERE n = 'after upper paths'),
	hook_calls('relations') > (SELECT c FROM calls WHERE n = 'after relations'),
	hook_calls('executions') > (SELECT c FROM calls WHERE n = 'after executions');
EOS
	if ($libraries =~ /pg_stat_statements/)
	{
		$node->safe_psql('postgres', 'CREATE EXTENSION pg_stat_statements; SELECT pg_stat_statements_reset()');
		$node->safe_psql('postgres', 'CREATE MATERIALIZED VIEW counted USING incremental AS SELECT count(*) FROM t');
		$node->safe_psql('postgres', 'REFRESH MATERIALIZED VIEW counted');
		$node->safe_psql('postgres', 'ALTER MATERIALIZED VIEW counted SET (fillfactor = 50)');
		$node->safe_psql('postgres', 'DROP MATERIALIZED VIEW counted');

		# what is behind us in the chain does not get to see a REFRESH that is ours
		foreach my $verb ('CREATE', $libraries =~ /^ivm_ext/ ? 'REFRESH' : (), 'ALTER', 'DROP')
		{
			is_value($node, "SELECT sum(calls) FROM pg_stat_statements WHERE query LIKE '$verb MATERIALIZED VIEW counted%'",
				'1', "$name: $verb is counted, once");
		}
		$node->safe_psql('postgres', 'DROP EXTENSION pg_stat_statements');
	}
	$node->safe_psql('postgres', 'DROP TABLE t, u CASCADE; DROP FUNCTION limit_of, broken; DROP FUNCTION IF EXISTS hook_calls');
	return;
}

goes_well("$module, ivm_ext");
goes_well("ivm_ext, $module");
goes_well('pg_stat_statements, auto_explain, ivm_ext');
goes_well("ivm_ext, auto_explain, pg_stat_statements, $module");

$node->stop;
done_testing();
