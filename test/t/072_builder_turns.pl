# One view's fill does not hold up another's: the builder takes turns.  It gives way to who waits for
# its locks, and is bounded by ivm.view_timeout.  A view that is rebuilt again and again pauses.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use IvmTest;

my $node = new_node('turns', 'ivm.apply_workers = 1', 'ivm.naptime = 500ms', 'ivm.batch_patience = 100ms', 'autovacuum = off');

$node->safe_psql('postgres', <<'EOS');
CREATE EXTENSION ivm_ext;
CREATE TABLE a (i int);
INSERT INTO a VALUES (1), (7);
CREATE TABLE b (i int);
INSERT INTO b VALUES (1), (7);
CREATE FUNCTION sleeps(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
	$$ BEGIN IF i = 7 THEN PERFORM pg_sleep(3600); END IF; RETURN i; END $$;
CREATE FUNCTION takes(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
	$$ BEGIN IF i = 7 THEN PERFORM pg_sleep(4); END IF; RETURN i; END $$;
EOS

sub is_filled
{
	my ($name, $query) = @_;
	my $start = time;

	$node->safe_psql('postgres', "SET statement_timeout = '60s'; CREATE MATERIALIZED VIEW $name USING incremental AS $query");
	is_exact($node, $name, sprintf "%s is filled beside one that never is: %.1f s", $name, time - $start);
	return;
}

# ---- turns ----

my $endless = connection($node);
$endless->query_until(qr/begun/, "\\echo begun\nCREATE MATERIALIZED VIEW endless USING incremental AS SELECT public.sleeps(i) AS i FROM a;\n");
wait_until($node, q{SELECT count(*) = 1 FROM pg_stat_progress_ivm_build WHERE relid = 'endless'::regclass AND phase = 'running query'}, 'it is being filled');
is_filled("v$_", 'SELECT count(*) AS n FROM a') foreach 1 .. 3;
is_filled('long', 'SELECT public.takes(i) AS i FROM b');
my $start = time;
$node->safe_psql('postgres', 'REFRESH MATERIALIZED VIEW v1');
cmp_ok(time - $start, '<', 20, 'a rebuild has its turn as well');

# ---- locks ----

wait_until($node, q{SELECT count(*) = 1 FROM pg_stat_progress_ivm_build WHERE relid = 'endless'::regclass AND phase = 'running query'}, 'it has another turn');
foreach my $statement ('ALTER TABLE a ADD COLUMN c int', 'TRUNCATE b')
{
	$start = time;
	$node->safe_psql('postgres', "SET statement_timeout = '60s'; $statement");
	cmp_ok(time - $start, '<', 8, sprintf "a fill makes way for %s: %.2f s", $statement, time - $start);
}
$start = time;
$node->safe_psql('postgres', "SET statement_timeout = '60s'; DROP MATERIALIZED VIEW endless");
cmp_ok(time - $start, '<', 8, sprintf "and for the view's own drop: %.2f s", time - $start);
$endless->query('SELECT 1');
$endless->quit;
are_exact($node, 'the others are exact');

# ---- a limit of time ----

# the builder has just asked how long it may take
$node->safe_psql('postgres', <<'EOS');
BEGIN; TRUNCATE a; INSERT INTO a VALUES (1); COMMIT;
SELECT ivm.sync();
ALTER DATABASE postgres SET ivm.view_timeout = '2s';
CREATE MATERIALIZED VIEW limited USING incremental AS SELECT public.sleeps(i) AS i FROM a;
BEGIN; TRUNCATE a; INSERT INTO a VALUES (7); COMMIT;
EOS
wait_for_state($node, 'limited', 'error');
is_value($node, q{SELECT last_error ~ 'ivm.view_timeout' FROM pg_stat_ivm WHERE relname = 'limited'}, 't', 'ivm.view_timeout ends a rebuild that nobody waits for');
$node->safe_psql('postgres', 'TRUNCATE a');
wait_for_state($node, 'limited', 'active');
are_exact($node, 'and it comes back by itself');

# ---- a view that is rebuilt again and again ----

# its function is not what it says: each process that plans it finds another constant
$node->safe_psql('postgres', <<'EOS');
CREATE FUNCTION process() RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN pg_backend_pid(); END $$;
ALTER DATABASE postgres RESET ivm.view_timeout;
EOS
my $offset = -s $node->logfile;
my $created = connection($node);
$created->query_until(qr/begun/, "\\echo begun\nCREATE MATERIALIZED VIEW restless USING incremental AS SELECT i + public.process() AS i FROM a;\n");
wait_for_state($node, 'restless', 'paused');
my $rebuilds = $node->safe_psql('postgres', q{SELECT rebuilds FROM pg_stat_ivm WHERE relname = 'restless'});
is_filled("w$_", 'SELECT count(*) AS n FROM a') foreach 1 .. 3;
wait_until($node, "SELECT rebuilds > $rebuilds + 1 FROM pg_stat_ivm WHERE relname = 'restless'", 'it is rebuilt all the same, now and then');
$rebuilds = $node->safe_psql('postgres', q{SELECT rebuilds FROM pg_stat_ivm WHERE relname = 'restless'});
cmp_ok($rebuilds, '<', 12, 'which is not often');
my @lines = slurp_file($node->logfile, $offset) =~ /rebuilt again and again/g;
is(scalar @lines, 1, 'the log says so once');
$node->safe_psql('postgres', 'DROP MATERIALIZED VIEW restless');
$created->quit;

# a table that is emptied all day is none
foreach my $i (1 .. 8)
{
	$node->safe_psql('postgres', "BEGIN; TRUNCATE a; INSERT INTO a VALUES ($i); COMMIT");
	$node->safe_psql('postgres', q{SELECT ivm.sync('v1', '20 s')});
}
isnt($node->safe_psql('postgres', q{SELECT state FROM pg_stat_ivm WHERE relname = 'v1'}), 'paused', 'TRUNCATE makes no view pause');
are_exact($node, 'all are exact');

$node->stop;
done_testing();
