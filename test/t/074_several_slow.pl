# Several views that each take less than ivm.batch_patience, and together much more: the others
# do not wait for all of them, whether they get done or fail.  One worker has them all.
#
# alone: how long the others wait is measured

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use IvmTest;

my $node = new_node('several', 'ivm.apply_workers = 1', 'autovacuum = off');

$node->safe_psql('postgres', <<'EOS');
CREATE EXTENSION ivm_ext;
CREATE TABLE a (i int);
CREATE TABLE other (i int);
CREATE FUNCTION naps(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
	$$ BEGIN PERFORM pg_sleep(0.3); RETURN i; END $$;
CREATE FUNCTION naps_and_fails(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
	$$ BEGIN PERFORM pg_sleep(0.3); IF i = 0 THEN RAISE 'zero'; END IF; RETURN i; END $$;
EOS
$node->safe_psql('postgres', "CREATE INCREMENTAL VIEW quick_$_ AS SELECT count(*) AS n FROM a WHERE i <> $_") foreach 1 .. 2;

# For some seconds: the longest that a commit takes to be in the quick views, while a statement comes every second.
sub longest_wait
{
	my ($what, $statement, $seconds, $limit) = @_;
	my $session = connection($node);
	my ($start, $next, $longest) = (time, 0, 0);

	while (time - $start < $seconds)
	{
		if (time >= $next)
		{
			$node->safe_psql('postgres', $statement);
			$next = time + 1;
		}
		my $begin = time;
		$session->query_safe(q{INSERT INTO a VALUES (9); SELECT ivm.sync('quick_1', '60 s'), ivm.sync('quick_2', '60 s')});
		$longest = time - $begin if time - $begin > $longest;
	}
	$session->quit;
	cmp_ok($longest, '<', $limit * patience(), sprintf '%s: the others wait for %.2f s at most', $what, $longest);
	return;
}

$node->safe_psql('postgres', "CREATE INCREMENTAL VIEW naps_$_ AS SELECT i, naps(i + $_) AS j FROM other") foreach 1 .. 6;
# Compared with what the function returns: a call of it takes as long here.
sub naps_are_exact
{
	my ($what) = @_;

	$node->safe_psql('postgres', 'SELECT ivm.sync()');
	is_value($node, join(' UNION ALL ', map { "SELECT $_ FROM ((TABLE naps_$_ EXCEPT ALL SELECT i, i + $_ FROM other) UNION ALL (SELECT i, i + $_ FROM other EXCEPT ALL TABLE naps_$_)) q" } 1 .. 6),
		'', $what);
	return;
}

longest_wait('six that nobody knows take 0.3 s each', 'INSERT INTO other VALUES (1)', 1.5, 1.6);
naps_are_exact('all are exact');
longest_wait('now they are known', 'INSERT INTO other VALUES (2)', 1.5, 1.2);
naps_are_exact('and still');
$node->safe_psql('postgres', "DROP MATERIALIZED VIEW naps_$_") foreach 1 .. 6;

$node->safe_psql('postgres', "TRUNCATE other");
$node->safe_psql('postgres', "CREATE INCREMENTAL VIEW fails_$_ AS SELECT i, naps_and_fails(i) AS j FROM other WHERE i <> $_") foreach 1 .. 6;
longest_wait('six fail after 0.3 s each', 'INSERT INTO other VALUES (0)', 1.5, 1.2);
$node->safe_psql('postgres', 'DELETE FROM other');
wait_for_state($node, "fails_$_", 'active') foreach 1 .. 6;
are_exact($node, 'they come back, exact');

$node->stop;
done_testing();
