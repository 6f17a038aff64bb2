# Whatever one view's batch does, the others follow: it reads for long, sleeps, waits for a
# lock, loops, or catches the cancel.  One worker has them all, so they would wait.
#
# alone: how old the others become is measured

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use IvmTest;

my $node = new_node('slow', 'ivm.apply_workers = 1', 'ivm.naptime = 200ms', 'ivm.batch_patience = 200ms', 'autovacuum = off');

$node->safe_psql('postgres', <<'EOS');
CREATE EXTENSION ivm_ext;
CREATE TABLE a (i int);
CREATE ROLE other LOGIN;
GRANT CREATE, USAGE ON SCHEMA public TO other;
SET ROLE other;
CREATE FUNCTION sleeps(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
	$$ BEGIN IF i = 7 THEN PERFORM pg_sleep(3600); END IF; RETURN i; END $$;
CREATE FUNCTION waits(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
	$$ BEGIN IF i = 7 THEN PERFORM pg_advisory_xact_lock(42); END IF; RETURN i; END $$;
CREATE FUNCTION loops(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
	$$ BEGIN WHILE i = 7 LOOP NULL; END LOOP; RETURN i; END $$;
CREATE FUNCTION catches(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
	$$ BEGIN WHILE i = 7 LOOP BEGIN PERFORM pg_sleep(3600); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; RETURN i; END $$;
CREATE FUNCTION takes(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
	$$ BEGIN IF i = 7 THEN PERFORM pg_advisory_lock(43); END IF; RETURN i; END $$;
EOS
$node->safe_psql('postgres', "CREATE INCREMENTAL VIEW quick_$_ AS SELECT count(*) AS n FROM a WHERE i > 0") foreach 1 .. 3;

sub level_workers
{
	return $node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_ivm_worker WHERE worker_type = 'apply worker'});
}

my $rows = 0;

# Rows come; each quick view has them soon, whoever works at what.
sub others_follow
{
	my ($what) = @_;
	my $longest = 0;

	foreach (1 .. 5)
	{
		my $start = time;

		$node->safe_psql('postgres', 'INSERT INTO a VALUES (1)');
		$rows++;
		$node->safe_psql('postgres', "SELECT ivm.sync('quick_$_', '20 s')") foreach 1 .. 3;
		$longest = time - $start if time - $start > $longest;
	}
	is_value($node, 'SELECT string_agg(n::text, $$ $$) FROM (TABLE quick_1 UNION ALL TABLE quick_2 UNION ALL TABLE quick_3) q', "$rows $rows $rows",
		"the others follow: $what");
	note(sprintf 'longest: %.2f s', $longest);
	return $longest;
}

sub make_view
{
	my ($name, $function) = @_;

	$node->safe_psql('postgres', "CREATE TABLE t_$name (i int); ALTER TABLE t_$name OWNER TO other");
	$node->safe_psql('postgres', "SET ROLE other; CREATE MATERIALIZED VIEW $name USING incremental AS SELECT public.$function(i) AS i FROM t_$name");
	return;
}

others_follow('nothing happens');
is(level_workers(), 1, 'one worker is enough');

# ---- each kind of harm ----

my $lock = connection($node);
$lock->query_safe('SELECT pg_advisory_lock(42)');
foreach my $function (qw(sleeps waits loops catches))
{
	make_view("v_$function", $function);
	$node->safe_psql('postgres', "INSERT INTO t_v_$function VALUES (7)");
	others_follow("a function $function");
	wait_for_state($node, "v_$function", 'slow');
	others_follow("a function $function, and is known as slow");
	is_value($node, q{SELECT string_agg(relname, ' ') FROM pg_stat_ivm WHERE state <> 'active' OR lag_time > '2 s'}, "v_$function", 'it is named, and it alone');
	my $start = time;
	$node->safe_psql('postgres', "DROP MATERIALIZED VIEW v_$function");
	cmp_ok(time - $start, '<', 5, sprintf 'DROP need not wait for it: %.2f s', time - $start);
}
$lock->quit;
wait_until($node, q{SELECT count(*) = 1 FROM pg_stat_ivm_worker WHERE worker_type = 'apply worker'}, 'the worker for slow views ends when there are none');

# ---- a recompute that does not end; what is in its way ----

$node->safe_psql('postgres', <<'EOS');
CREATE TABLE edge (id int PRIMARY KEY, parent int);
INSERT INTO edge VALUES (1, NULL), (2, 1), (3, 2);
CREATE MATERIALIZED VIEW tree USING incremental AS
	WITH RECURSIVE q AS (SELECT id FROM edge WHERE id = 1 UNION ALL SELECT t.id FROM q JOIN edge t ON t.parent = q.id) SELECT id, count(*) AS n FROM q GROUP BY id;
EOS
$node->safe_psql('postgres', 'UPDATE edge SET parent = 3 WHERE id = 1');
others_follow('a query that does not end');
wait_for_state($node, 'tree', 'slow');
foreach my $statement ('ALTER MATERIALIZED VIEW tree RENAME COLUMN n TO m', 'CREATE INDEX ON tree (m)',
	'BEGIN; LOCK TABLE edge; UPDATE edge SET parent = NULL WHERE id = 1; COMMIT')
{
	my $start = time;

	wait_until($node, q{SELECT count(*) > 0 FROM pg_locks l JOIN pg_stat_ivm_worker USING (pid) WHERE relation = 'tree'::regclass AND mode = 'RowExclusiveLock'}, 'it runs');
	$node->safe_psql('postgres', "SET statement_timeout = '60s'; $statement");
	cmp_ok(time - $start, '<', 8, sprintf "it makes way for %s: %.2f s", $statement, time - $start);
}
is_exact($node, 'tree', 'its end is the right one');
$node->safe_psql('postgres', 'DROP MATERIALIZED VIEW tree');

# ---- slow ones among each other ----

# one that sleeps for ever, and one that takes a second each time
$node->safe_psql('postgres', <<'EOS');
CREATE FUNCTION naps(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
	$$ BEGIN IF i >= 7 THEN PERFORM pg_sleep(1); END IF; RETURN i; END $$;
EOS
make_view('v_forever', 'sleeps');
make_view('v_naps', 'naps');
$node->safe_psql('postgres', 'INSERT INTO t_v_forever VALUES (7)');
others_follow('one sleeps');
wait_for_state($node, 'v_forever', 'slow');
foreach my $i (8 .. 10)
{
	$node->safe_psql('postgres', "INSERT INTO t_v_naps VALUES ($i)");
	is($node->safe_psql('postgres', "SELECT ivm.sync('v_naps', '90 s')"), '', 'one that is slow is done beside one that never is');
	others_follow('two are slow');
}
is_exact($node, 'v_naps', 'what takes a second is exact');
is(level_workers(), 3, 'what is too slow for the slow ones has another worker');
$node->safe_psql('postgres', 'DELETE FROM t_v_forever');
$node->safe_psql('postgres', 'DROP MATERIALIZED VIEW v_forever');

# ---- they return ----

wait_until($node, q{SELECT count(*) = 1 FROM pg_stat_ivm_worker WHERE worker_type = 'apply worker'}, 'what is quick for long returns');
$node->safe_psql('postgres', 'INSERT INTO t_v_naps VALUES (1)');
is_exact($node, 'v_naps', 'and is exact there');

# ---- locks of the session ----

make_view('v_takes', 'takes');
$node->safe_psql('postgres', 'INSERT INTO t_v_takes VALUES (7)');
is_exact($node, 'v_takes', 'a batch that takes an advisory lock of the session');
is_value($node, q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'}, 0, 'does not keep it');
$node->safe_psql('postgres', 'REFRESH MATERIALIZED VIEW v_takes; SELECT * FROM ivm.verify($$v_takes$$)');
is_value($node, q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'}, 0, 'nor does a rebuild or a verification');

# ---- a limit of time ----

make_view('v_limit', 'sleeps');
foreach my $set ('ALTER ROLE other', 'ALTER DATABASE postgres', 'ALTER ROLE other IN DATABASE postgres')
{
	$node->safe_psql('postgres', "$set SET ivm.view_timeout = '600ms'");
	$node->poll_query_until('postgres', 'SELECT true FROM pg_sleep(1.2)');
	$node->safe_psql('postgres', 'INSERT INTO t_v_limit VALUES (7)');
	wait_for_state($node, 'v_limit', 'error');
	is_value($node, q{SELECT last_error ~ 'ivm.view_timeout' FROM pg_stat_ivm WHERE relname = 'v_limit'}, 't', "ivm.view_timeout ends a batch: $set");
	$node->safe_psql('postgres', "$set RESET ivm.view_timeout; DELETE FROM t_v_limit; REFRESH MATERIALIZED VIEW v_limit");
	is_exact($node, 'v_limit', 'REFRESH when the cause is gone');
}
others_follow('at the end');
are_exact($node, 'all are exact');

$node->stop;
done_testing();
