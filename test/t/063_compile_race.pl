# What is replaced while a view is being compiled, after the planner has looked
# at it: nobody may go on with the plan that was made of it.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $node = new_node('race', 'ivm.apply_workers = 1');

$node->safe_psql('postgres', <<'EOS');
CREATE EXTENSION ivm_ext;
CREATE TABLE t (id int PRIMARY KEY, n int);
INSERT INTO t SELECT i, i % 7 FROM generate_series(1, 100) AS i;
-- one that the planner puts in place, one that it does not, and one whose rows are taken apart
CREATE FUNCTION inlined(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1';
CREATE FUNCTION called(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1 + 1; END';
CREATE TYPE pair AS (a int, b int);
CREATE FUNCTION paired(int) RETURNS pair LANGUAGE sql IMMUTABLE AS 'SELECT $1, $1 + 1';
EOS

# Name, definition, and what is done to it in the middle, and back.
my @cases = (
	['of_inlined', 'SELECT id, inlined(n) AS x FROM t',
		q{CREATE OR REPLACE FUNCTION inlined(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + %d'}],
	['of_called', 'SELECT called(n) AS x, count(*) FROM t GROUP BY 1',
		q{CREATE OR REPLACE FUNCTION called(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1 + %d; END'}],
	['of_pair', 'SELECT id, (paired(n)).b AS x FROM t',
		q{CREATE OR REPLACE FUNCTION paired(int) RETURNS pair LANGUAGE sql IMMUTABLE AS 'SELECT $1, $1 + %d'}],
	['of_label', 'SELECT id, s::text AS x FROM labelled',
		q{DO $$ BEGIN EXECUTE format('ALTER TYPE st RENAME VALUE %%L TO %%L', enum_first(null::st), 'open%d'); END $$}],
);

$node->safe_psql('postgres', <<'EOS');
CREATE TYPE st AS ENUM ('open', 'shut');
CREATE TABLE labelled (id int PRIMARY KEY, s st);
INSERT INTO labelled SELECT i, CASE i % 2 WHEN 0 THEN 'open' ELSE 'shut' END::st FROM generate_series(1, 100) AS i;
EOS

sub right
{
	my ($name, $what) = @_;

	is_exact($node, $name, $what);
	is_value($node, "SELECT missing + extra FROM ivm.verify('$name')", '0', "$what, says ivm.verify");
	return;
}

my $value = 1;

foreach my $case (@cases)
{
	my ($name, $definition, $change) = @$case;

	$node->safe_psql('postgres', "CREATE INCREMENTAL VIEW $name AS $definition");
	right($name, "$name: right at first");

	# the worker compiles it anew, since somebody has touched its table
	set_points($node, 'compile-planned=wait');
	my $table = $name eq 'of_label' ? 'labelled' : 't';
	$node->safe_psql('postgres', "ALTER TABLE $table SET (autovacuum_enabled = on); ALTER TABLE $table RESET (autovacuum_enabled)");
	wait_for_point($node, 'compile-planned');
	$node->safe_psql('postgres', sprintf($change, ++$value));
	set_points($node, '');
	right($name, "$name: changed in the middle of a recompilation");
	if ($name eq 'of_called' || $name eq 'of_pair')
	{
		# that is enough for these
		$node->safe_psql('postgres', "DROP MATERIALIZED VIEW $name");
		next;
	}

	# the builder, and the worker that takes over from it
	my $session = connection($node);
	set_points($node, 'build-committed=wait');
	$session->query_until(qr/asked/, "\\echo asked\nREFRESH INCREMENTAL VIEW $name;\n");
	wait_for_point($node, 'build-committed');
	set_points($node, 'compile-planned=wait');
	wait_for_point($node, 'compile-planned');
	$node->safe_psql('postgres', sprintf($change, ++$value));
	set_points($node, '');
	$session->quit;
	right($name, "$name: changed while a worker took it over");

	# a worker that begins
	set_points($node, 'compile-planned=wait');
	my ($apply) = worker_pids($node, 'apply worker');
	terminate_process($node, $apply);
	wait_for_point($node, 'compile-planned');
	$node->safe_psql('postgres', sprintf($change, ++$value));
	set_points($node, '');
	right($name, "$name: changed while a worker was beginning");
	$node->safe_psql('postgres', "DROP MATERIALIZED VIEW $name");
}

# ---- what does not concern it ----

# Tables and functions come and go while a view is being compiled: it is ready
# all the same, and at the first try.
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW quiet AS SELECT n, count(*) FROM t GROUP BY n');
my $log = -s $node->logfile;
set_points($node, 'compile-planned=wait');
my ($apply) = worker_pids($node, 'apply worker');
terminate_process($node, $apply);
wait_for_point($node, 'compile-planned');
$node->safe_psql('postgres', q{DO $$ BEGIN FOR i IN 1..20 LOOP EXECUTE format('CREATE TABLE other_%s (id int)', i); END LOOP; END $$});
set_points($node, '');
$node->safe_psql('postgres', 'INSERT INTO t VALUES (1000, 3)');
are_exact($node, 'exact when other tables were made meanwhile');
is(rebuilds($node, $log), 0, 'without a rebuild');

$node->stop;
done_testing();
