# A session that is cancelled or terminated while a view is built for it, at each
# step: nothing half made is there when the error comes, or, if the session has
# gone, soon after; and no process goes on for it.
#
# kills: nothing

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $node = new_node('interrupt');
make_sales($node);
$node->safe_psql('postgres', <<'EOS');
CREATE MATERIALIZED VIEW plain AS SELECT region, count(*) AS n FROM sale GROUP BY region;
CREATE MATERIALIZED VIEW empty USING incremental AS SELECT region, sum(amount) FROM sale GROUP BY region WITH NO DATA;
CREATE FUNCTION made() RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(c.relname || ' ' || a.amname || ' ' || c.relispopulated || ' ' || coalesce(v.state::text, '-'), ', ' ORDER BY c.relname)
	FROM pg_class c JOIN pg_am a ON a.oid = c.relam LEFT JOIN ivm.view v ON v.relid = c.oid
	WHERE c.relname IN ('new', 'plain', 'empty') $$;
CREATE FUNCTION leftovers() RETURNS bigint LANGUAGE sql AS $$
	SELECT (SELECT count(*) FROM ivm.view v WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = v.relid)) +
		(SELECT count(*) FROM pg_class c WHERE c.relnamespace = 'ivm_state'::regnamespace AND c.relkind = 'm' AND
			c.relname ~ 'new') $$;
EOS
my $before = $node->safe_psql('postgres', 'SELECT made()');
is($before, 'empty incremental false u, plain heap true -', 'what there is');

# Begins a statement in a session of its own, and acts when it is at the point.
sub interrupt
{
	my ($statement, $point, $function) = @_;
	my ($stdout, $stderr) = ('', '');

	set_points($node, "$point=wait");
	my $session = IPC::Run::start(
		[ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', $statement ],
		'>', \$stdout, '2>', \$stderr);
	wait_for_point($node, $point);
	$node->safe_psql('postgres',
		"SELECT $function(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND query LIKE '${statement}%'");

	# what is committed cannot be cancelled, only undone afterwards
	set_points($node, '') if $point eq 'build-committed' && $function eq 'pg_cancel_backend';
	$session->finish;
	return $stderr;
}

my %statements = (
	'CREATE INCREMENTAL VIEW new AS SELECT region, count(*) AS n FROM sale GROUP BY region' => 1,
	'CREATE INCREMENTAL VIEW new AS SELECT max(s.amount) FROM sale s JOIN region r ON r.id = s.region' => 1,
	'REFRESH INCREMENTAL VIEW empty' => 0,
	'ALTER INCREMENTAL VIEW plain SET ACCESS METHOD incremental' => 0);

foreach my $point ('build-locked', 'build-filled', 'build-committed')
{
	foreach my $statement (sort keys %statements)
	{
		my $stderr = interrupt($statement, $point, 'pg_cancel_backend');
		like($stderr, qr/canceling statement due to user request/, "cancelled at $point: $statement");
		next if $point eq 'build-committed' && $statement =~ /REFRESH/;
		is_value($node, 'SELECT made()', $before, 'at once all is as it was');
		is_value($node, 'SELECT leftovers()', '0', 'with nothing left over');
	}
	$node->safe_psql('postgres', 'REFRESH MATERIALIZED VIEW empty WITH NO DATA');

	foreach my $statement (sort grep { $statements{$_} } keys %statements)
	{
		my $stderr = interrupt($statement, $point, 'pg_terminate_backend');
		like($stderr, qr/terminating connection/, "terminated at $point: $statement");
		set_points($node, '') if $point eq 'build-committed';
		wait_until($node, "SELECT made() = '$before' AND leftovers() = 0", 'all is as it was');
	}
	set_points($node, '');
}

# A statement whose session has gone goes on if it is not to be undone.
interrupt('ALTER INCREMENTAL VIEW plain SET ACCESS METHOD incremental', 'build-filled', 'pg_terminate_backend');
set_points($node, '');
wait_for_state($node, 'plain', 'active');
interrupt('REFRESH INCREMENTAL VIEW plain', 'build-filled', 'pg_cancel_backend');
set_points($node, '');
wait_for_state($node, 'plain', 'active');

# The same by statement_timeout, and what was interrupted can be done again.
set_points($node, 'build-locked=wait');
my ($ret, $stdout, $stderr) = $node->psql('postgres', <<'EOS', on_error_stop => 0);
SET statement_timeout = '100ms';
REFRESH INCREMENTAL VIEW empty;
RESET statement_timeout;
SELECT made();
EOS
like($stderr, qr/canceling statement due to statement timeout/, 'statement_timeout');
like($stdout, qr/empty incremental false u/, 'ends a REFRESH');
set_points($node, '');
$node->safe_psql('postgres', $_)
  foreach ('REFRESH INCREMENTAL VIEW empty', sort grep { /count/ } keys %statements);
change_sales($node);
are_exact($node, 'all views are exact');

# Verifications that are given up leave nothing behind either.
my $lock = connection($node);
$lock->query_safe('BEGIN; LOCK TABLE sale');
$node->psql('postgres', "SET statement_timeout = '10ms';\n" . "SELECT ivm.verify('new');\n" x 100, on_error_stop => 0);
$lock->query_safe('COMMIT');
$lock->quit;
is_value($node, "SELECT * FROM ivm.verify('new')", '0|0', 'a hundred verifications that were given up are no hindrance');

# One that waits for its turn and is dropped, or emptied, meanwhile.
set_points($node, 'build-locked=wait');
my @sessions;
foreach my $view ('first', 'second', 'third')
{
	my %session = (out => '', err => '');
	$session{handle} = IPC::Run::start(
		[ 'psql', '-XAt', '-d', $node->connstr('postgres'), '-c', "CREATE INCREMENTAL VIEW $view AS SELECT note FROM sale" ],
		'>', \$session{out}, '2>', \$session{err}, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	push @sessions, \%session;
	wait_for_point($node, 'build-locked');
	wait_until($node, "SELECT count(*) = 1 FROM ivm.view WHERE relid = to_regclass('$view') AND state = 'b'", "$view waits");
}
$node->safe_psql('postgres', 'DROP INCREMENTAL VIEW second');
$node->safe_psql('postgres', 'REFRESH INCREMENTAL VIEW third WITH NO DATA');
$_->{handle}->finish foreach @sessions[ 1, 2 ];
set_points($node, '');
$sessions[0]->{handle}->finish;
like($sessions[0]->{out}, qr/^SELECT \d+$/, 'the first is filled');
like($sessions[1]->{err}, qr/incremental view "second" was dropped/, 'the second has been dropped');
like($sessions[2]->{err}, qr/incremental view "third" was emptied/, 'the third has been emptied');
is_value($node, "SELECT concat_ws(' ', to_regclass('first'), to_regclass('second'), to_regclass('third'))", 'first', 'that is all');

# ivm.sync() is about the views that there are: one that goes meanwhile is no error.
$node->safe_psql('postgres', 'CREATE TABLE going (a int); CREATE MATERIALIZED VIEW goes USING incremental AS SELECT a FROM going');
sync($node);
set_points($node, 'apply-before=wait');
my $drop = connection($node);
$drop->query_safe('BEGIN; DROP MATERIALIZED VIEW goes');
change_sales($node);
my ($out, $err) = ('', '');
my $waiting = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', 'SELECT ivm.sync()' ],
	'>', \$out, '2>', \$err);
wait_for_point($node, 'apply-before');
wait_until($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE query = 'SELECT ivm.sync()' AND wait_event_type = 'Extension'",
	'a session synchronizes');
$drop->query_safe('COMMIT');
$drop->quit;
set_points($node, '');
$waiting->finish;
is($err, '', 'ivm.sync() while a view is dropped');

# No counters are left of what was dropped while a process had it in hand.
wait_until($node, 'SELECT count(*) = 0 FROM ivm.stat_views() s WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = s.relid)',
	'counters of views that are gone are gone');
pass('counters of views that are gone are gone');

done_testing();
