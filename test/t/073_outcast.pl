# While there is no room for the process of slow views the others follow all the same:
# a slow view gets what time they leave, and all that it needs when there is room.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use IvmTest;

# room for a worker, a decoder, a delta log and a builder
my $node = new_node('outcast', 'ivm.apply_workers = 1', 'ivm.naptime = 200ms', 'ivm.batch_patience = 200ms',
	'ivm.memory_budget = 12MB', 'autovacuum = off');

$node->safe_psql('postgres', <<'EOS');
CREATE EXTENSION ivm_ext;
CREATE TABLE a (i int);
CREATE TABLE b (i int);
CREATE TABLE c (i int);
CREATE FUNCTION sleeps(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
	$$ BEGIN IF i = 7 THEN PERFORM pg_sleep(3600); END IF; RETURN i; END $$;
CREATE FUNCTION naps(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
	$$ BEGIN IF i = 7 THEN PERFORM pg_sleep(1); END IF; RETURN i; END $$;
EOS
$node->safe_psql('postgres', $_) foreach (
	'CREATE INCREMENTAL VIEW quick AS SELECT count(*) AS n FROM a',
	'CREATE INCREMENTAL VIEW sleeper AS SELECT public.sleeps(i) AS i FROM b',
	'CREATE INCREMENTAL VIEW napper AS SELECT public.naps(i) AS i FROM c');

my $rows = 0;

sub others_follow
{
	my ($what) = @_;

	foreach (1 .. 8)
	{
		$node->safe_psql('postgres', q{INSERT INTO a VALUES (1); SELECT ivm.sync('quick', '20 s')});
		$rows++;
	}
	is_value($node, 'SELECT n FROM quick', $rows, "the other follows: $what");
	return;
}

sub workers
{
	return $node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_ivm_worker WHERE worker_type = 'apply worker'});
}

$node->safe_psql('postgres', 'INSERT INTO b VALUES (7)');
others_follow('one sleeps');
wait_for_state($node, 'sleeper', 'slow');
others_follow('one sleeps, and is known as slow');
is(workers(), 1, 'there is no room for another process');
my $start = time;
$node->safe_psql('postgres', 'DROP MATERIALIZED VIEW sleeper');
cmp_ok(time - $start, '<', 8, sprintf 'it makes way for its drop: %.2f s', time - $start);
$node->safe_psql('postgres', 'TRUNCATE b');
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW sleeper AS SELECT public.sleeps(i) AS i FROM b');

# one that takes longer than others could wait is done when nobody does
$node->safe_psql('postgres', 'INSERT INTO c VALUES (7), (8)');
others_follow('one naps');
is_exact($node, 'napper', 'a slow view is done when nobody waits');
is(workers(), 1, 'still there is no other process');

my ($quick) = worker_pids($node, 'apply worker');
$node->safe_psql('postgres', 'INSERT INTO b VALUES (7)');
others_follow('one sleeps again');
$node->safe_psql('postgres', q{ALTER SYSTEM SET ivm.memory_budget = '64MB'});
reload($node);
wait_until($node, q{SELECT count(*) > 1 FROM pg_stat_ivm_worker WHERE worker_type = 'apply worker'}, 'a process for slow views when there is room');
others_follow('one sleeps, elsewhere');

# It dies, and there is no room for another one: all is as before it came.
$node->safe_psql('postgres', q{ALTER SYSTEM SET ivm.memory_budget = '12MB'});
reload($node);
wait_until($node, q{SELECT budget_bytes = 12 * 1024 * 1024 FROM pg_stat_ivm_memory}, 'less memory');
my ($slow) = grep { $_ != $quick } worker_pids($node, 'apply worker');
terminate_process($node, $slow);
others_follow('the process of slow views is gone');
$node->safe_psql('postgres', 'DROP MATERIALIZED VIEW sleeper');
$node->safe_psql('postgres', 'INSERT INTO c VALUES (7)');
my $lsn = $node->safe_psql('postgres', 'SELECT pg_current_wal_lsn()');
$node->safe_psql('postgres', q{SELECT ivm.sync('napper', '60 s')});
is_exact($node, 'napper', 'its views are maintained all the same');
is(workers(), 1, 'by who is there');
# the position of a view that nothing happens to is stored now and then
$node->safe_psql('postgres', q{SELECT pg_logical_emit_message(false, 'nobody', repeat('x', 1000000)) FROM generate_series(1, 40)});
wait_until($node, "SELECT confirmed_flush_lsn >= '$lsn' FROM pg_replication_slots", 'nothing keeps the WAL');
$node->safe_psql('postgres', 'TRUNCATE b');
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW sleeper AS SELECT public.sleeps(i) AS i FROM b');
$node->safe_psql('postgres', q{ALTER SYSTEM SET ivm.memory_budget = '64MB'});
reload($node);
$node->safe_psql('postgres', 'INSERT INTO b VALUES (7)');
wait_until($node, q{SELECT count(*) > 1 FROM pg_stat_ivm_worker WHERE worker_type = 'apply worker'}, 'there is room again');
others_follow('one sleeps, elsewhere again');
$node->safe_psql('postgres', 'DROP MATERIALIZED VIEW sleeper');
are_exact($node, 'all are exact');

$node->stop;
done_testing();
