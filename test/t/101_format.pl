# State in a format that is not this library's is never read: the views are rebuilt, and say why.
# Shared and private state tables of the other format go.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $node = new_node('format', 'ivm.apply_workers = 1', 'autovacuum = off');

sub query { return $node->safe_psql('postgres', $_[0]); }

# too large to be read whole, and without an index on k: a shared state table; the groups of two columns by one of
# them: a private one
query(<<'EOS');
CREATE EXTENSION ivm_ext;
CREATE TABLE facts (id int PRIMARY KEY, k int, kind int, x int, filler text);
CREATE TABLE names (k int PRIMARY KEY, name text);
INSERT INTO facts SELECT i, i % 50, i % 3, i, repeat('x', 200) FROM generate_series(1, 6000) i;
INSERT INTO names SELECT i, 'n' || i FROM generate_series(0, 49) i;
EOS
query($_) foreach (
	'CREATE INCREMENTAL VIEW joined AS SELECT f.id, n.name, f.x FROM facts f JOIN names n USING (k)',
	'CREATE INCREMENTAL VIEW grouped AS SELECT n.name, g.kind, g.s FROM names n JOIN'
	  . ' (SELECT k, kind, sum(x) AS s FROM facts GROUP BY k, kind) g USING (k)',
	'CREATE INCREMENTAL VIEW recomputed AS SELECT DISTINCT kind, max(x) OVER (PARTITION BY kind) AS m FROM facts');

sub change
{
	query('UPDATE facts SET x = x + 1, k = (k + 1) % 50 WHERE id % 10 = 0; UPDATE names SET name = name || 1 WHERE k < 5');
	return;
}

my $state_tables = q{SELECT count(*) FILTER (WHERE relname LIKE 'a\_%') || ' shared, '
	|| count(*) FILTER (WHERE relname LIKE 'v%') || ' private' FROM pg_class
	WHERE relnamespace = 'ivm_state'::regnamespace AND relkind = 'm'};
my $made = query($state_tables);
like($made, qr/^1 shared, [3-9] private$/, 'there is state of all kinds');
change();
are_exact($node, 'views before');

# The names of tables would have been others, too.
foreach my $format ('4', '99')
{
	my $begin = -s $node->logfile;

	# a worker that sees the change before the restart would begin at once
	$node->append_conf('postgresql.conf', "ivm.debug_points = 'build-locked=wait'");
	reload($node);
	write_metadata($node, 'ivm.view', <<"EOS");
UPDATE ivm.view SET plan_text = regexp_replace(plan_text, '^format \\d+', 'format $format'),
	definition = regexp_replace(definition, '^format \\d+', 'format $format');
UPDATE pg_class SET relname = substr(relname, 1, 40) || '_$format'
	WHERE relnamespace = 'ivm_state'::regnamespace AND relkind = 'm';
UPDATE pg_type SET typname = substr(typname, 1, 40) || '_$format'
	WHERE typnamespace = 'ivm_state'::regnamespace AND typtype = 'c'
EOS
	$node->restart;
	wait_for_point($node, 'build-locked');
	wait_until($node, q{SELECT count(*) > 0 FROM pg_stat_ivm WHERE state = 'rebuild'
		AND last_rebuild_reason = 'its state is in the format of another version of the extension'},
		"format $format: views say that they wait for a rebuild, and why");
	is(query('SELECT count(*) FROM joined'), 6000, 'and they can be read');
	$node->append_conf('postgresql.conf', "ivm.debug_points = ''");
	reload($node);
	sync($node);
	like(slurp_file($node->logfile, $begin), qr/is going to be rebuilt: its state is in the format of another version/,
		'the log says so');
	is(query("SELECT count(*) FROM ivm.view WHERE plan_text !~ '^format 5\n'"), 0, 'then their state has the present format');
	change();
	are_exact($node, 'views are exact and go on');

	# the worker drops a shared one that nobody reads when it finds it
	wait_until($node, "SELECT ($state_tables) = '$made'", 'state tables of the other format are gone');
	is(query("SELECT count(*) FROM pg_class WHERE relname LIKE '%\\_$format' AND relnamespace = 'ivm_state'::regnamespace"),
		0, 'none is left');
}
$node->stop;
done_testing();
