# Functions in views' queries that do what no expression should: they write, or lock what others need.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use IvmTest;

my $node = new_node('functions', 'ivm.apply_workers = 1', 'autovacuum = off');

$node->safe_psql('postgres', <<'EOS');
CREATE EXTENSION ivm_ext;
CREATE TABLE a (i int);
CREATE TABLE written (i int);
CREATE TABLE needed (i int);
CREATE FUNCTION writes_now(i int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.written VALUES (i); RETURN i; END $$;
CREATE FUNCTION writes(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN public.writes_now(i); END $$;
CREATE FUNCTION locks_now(i int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN LOCK TABLE public.needed; PERFORM pg_sleep(600); RETURN i; END $$;
CREATE FUNCTION locks(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN IF i = 7 THEN PERFORM public.locks_now(i); END IF; RETURN i; END $$;
CREATE FUNCTION advisory(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
	$$ BEGIN IF i = 8 THEN PERFORM pg_advisory_xact_lock(42); PERFORM pg_sleep(600); END IF; RETURN i; END $$;
EOS

# ---- writing: our processes' own writes are in no log ----

$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW of_written AS SELECT count(*) AS n FROM written');
my ($ret, $stdout, $stderr) = $node->psql('postgres', 'INSERT INTO a VALUES (1); CREATE INCREMENTAL VIEW writer AS SELECT writes(i) AS i FROM a');
like($stderr, qr/cannot execute INSERT in a read-only transaction/, 'a view whose fill would write is refused');
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW writer AS SELECT writes(i) AS i FROM a WHERE i > 1');
$node->safe_psql('postgres', 'INSERT INTO a VALUES (2)');
wait_for_state($node, 'writer', 'error');
is_value($node, q{SELECT last_error FROM pg_stat_ivm WHERE relname = 'writer'}, 'cannot execute INSERT in a read-only transaction', 'a function that writes is an error');
is_exact($node, 'of_written', 'what a function would write is not missing in a view');
is_value($node, 'SELECT count(*) FROM written', 0, 'since it is not written');
$node->safe_psql('postgres', 'DROP MATERIALIZED VIEW writer; DELETE FROM a');

# ---- locking ----

$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW of_needed AS SELECT count(*) AS n FROM needed');
foreach my $case ([ 'locks', 7, 'INSERT INTO needed VALUES (1)' ], [ 'advisory', 8, 'SELECT pg_advisory_xact_lock(42)' ])
{
	my ($function, $value, $statement) = @$case;

	$node->safe_psql('postgres', "CREATE INCREMENTAL VIEW locker AS SELECT $function(i) AS i FROM a");
	$node->safe_psql('postgres', "INSERT INTO a VALUES ($value)");
	wait_until($node, q{SELECT count(*) = 1 FROM pg_locks WHERE granted AND (locktype = 'advisory' OR relation = 'needed'::regclass AND mode = 'AccessExclusiveLock')}, 'it holds the lock');
	foreach my $i (1 .. 3)
	{
		my $start = time;

		$node->safe_psql('postgres', $statement);
		cmp_ok(time - $start, '<', 5 * patience(), sprintf '%s: who needs the lock has it after %.2f s', $function, time - $start);
	}
	wait_until($node, q{SELECT last_error ~ 'holds a lock' FROM pg_stat_ivm WHERE relname = 'locker'}, 'the culprit is named');
	is_exact($node, 'of_needed', 'the other view is exact');
	$node->safe_psql('postgres', "DELETE FROM a; DROP MATERIALIZED VIEW locker");
}

$node->stop;
done_testing();
