# A view in state error is tried again by itself, and is maintained again when what it
# named has been repaired: data, an index, a right, a function, the disk.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use IvmTest;

my $node = new_node('heal', 'ivm.apply_workers = 2', 'ivm.naptime = 500ms', 'autovacuum = off');

$node->safe_psql('postgres', <<'EOS');
CREATE EXTENSION ivm_ext;
CREATE ROLE owner LOGIN;
GRANT CREATE ON SCHEMA public TO owner;
CREATE TABLE ratio (id int PRIMARY KEY, part int, whole int);
INSERT INTO ratio SELECT i, i % 10, 1 + i % 3 FROM generate_series(1, 50) i;
CREATE TABLE item (k int, v int);
INSERT INTO item VALUES (1, 1), (2, 2);
CREATE TABLE granted (id int);
ALTER TABLE granted REPLICA IDENTITY FULL;
INSERT INTO granted VALUES (1);
GRANT SELECT ON granted TO owner;
CREATE FUNCTION checked(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN IF i < 0 THEN RAISE 'negative'; END IF; RETURN i; END $$;
EOS
$node->safe_psql('postgres', $_) foreach (
	'CREATE INCREMENTAL VIEW quotient AS SELECT id, part / whole AS q FROM ratio',
	'CREATE INCREMENTAL VIEW per_quotient AS SELECT q, count(*) AS n FROM quotient GROUP BY q',
	'CREATE INCREMENTAL VIEW whole AS SELECT k, sum(v) AS n FROM item GROUP BY k',
	'CREATE INCREMENTAL VIEW checked_part AS SELECT id, public.checked(part) AS p FROM ratio',
	'SET ROLE owner; CREATE MATERIALIZED VIEW mine USING incremental AS SELECT count(*) AS n FROM public.granted');
are_exact($node, 'exact before something fails');

my $offset = -s $node->logfile;

sub log_lines
{
	my ($pattern) = @_;
	my @lines = slurp_file($node->logfile, $offset) =~ /^.*$pattern.*$/mg;
	return scalar @lines;
}

sub oid_of
{
	my ($view) = @_;
	return $node->safe_psql('postgres', "SELECT '$view'::regclass::oid");
}

# The view comes back by itself, soon after the repair.
sub heals
{
	my ($what, @views) = @_;
	my $start = time;

	wait_for_state($node, $_, 'active') foreach @views;
	cmp_ok(time - $start, '<', 15, sprintf "%s: %s back after %.1f s", $what, join(' and ', @views), time - $start);
	is_exact($node, $_, "$_ is exact") foreach @views;
	$node->safe_psql('postgres', "INSERT INTO ratio SELECT max(id) + 1, 1, 1 FROM ratio; INSERT INTO granted VALUES (2); INSERT INTO item SELECT max(k) + 1, max(v) + 10 FROM item WHERE k < 90");
	is_exact($node, $_, "and maintained") foreach @views;
	return;
}

# ---- bad data whose repair arrives ----

$node->safe_psql('postgres', 'INSERT INTO ratio VALUES (100, 1, 0)');
wait_for_state($node, 'quotient', 'error');
wait_for_state($node, 'per_quotient', 'error');
# some tries, which find it as it was
my $oid = oid_of('quotient');
wait_until($node, q{SELECT count(*) = 1 FROM pg_stat_ivm WHERE relname = 'quotient' AND state = 'error' AND state_since < now() - interval '4 s'}, 'it stays so for some tries');
is(log_lines("view with OID $oid is in state error: division by zero"), 1, 'the log says once that it is in error');
is(log_lines("ERROR:  division by zero"), 0, 'and not with each try');
$node->safe_psql('postgres', 'DELETE FROM ratio WHERE whole = 0');
heals('bad data was deleted', 'quotient', 'per_quotient');
is(log_lines("view with OID $oid is maintained again"), 1, 'which the log says once');
is_value($node, q{SELECT string_agg(relname, ' ') FROM pg_stat_ivm WHERE rebuilds > 1 AND relname NOT IN ('quotient', 'per_quotient')}, '', 'nothing else was rebuilt');

# ---- a unique index of the user's ----

$node->safe_psql('postgres', 'CREATE UNIQUE INDEX one_each ON whole (n)');
$node->safe_psql('postgres', 'INSERT INTO item VALUES (99, 1)');
wait_for_state($node, 'whole', 'error');
$node->safe_psql('postgres', 'DELETE FROM item WHERE k = 99');
wait_for_state($node, 'whole', 'active');
is_exact($node, 'whole', 'a duplicate that went away');
$node->safe_psql('postgres', 'INSERT INTO item VALUES (99, 1)');
wait_for_state($node, 'whole', 'error');
$node->safe_psql('postgres', 'DROP INDEX one_each');
heals('the index was dropped', 'whole');

# ---- a right ----

$node->safe_psql('postgres', 'REVOKE SELECT ON granted FROM owner');
wait_for_state($node, 'mine', 'error');
$node->safe_psql('postgres', 'GRANT SELECT ON granted TO owner');
heals('a right was granted again', 'mine');
$node->safe_psql('postgres', 'CREATE ROLE readers; GRANT SELECT ON granted TO readers; GRANT readers TO owner; REVOKE SELECT ON granted FROM owner');
is_exact($node, 'mine', 'a right by way of a role');
$node->safe_psql('postgres', 'REVOKE SELECT ON granted FROM readers');
wait_for_state($node, 'mine', 'error');
$node->safe_psql('postgres', 'GRANT pg_read_all_data TO owner');
heals('a role was granted', 'mine');

# ---- a function ----

$node->safe_psql('postgres', 'INSERT INTO ratio VALUES (300, -1, 1)');
wait_for_state($node, 'checked_part', 'error');
$node->safe_psql('postgres', 'CREATE OR REPLACE FUNCTION checked(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN i; END $$');
heals('the function was replaced', 'checked_part');

# ---- REFRESH tries at once, whatever the pauses are ----

$node->safe_psql('postgres', 'INSERT INTO ratio VALUES (101, 1, 0)');
wait_for_state($node, 'quotient', 'error');
my ($ret, $stdout, $stderr) = $node->psql('postgres', 'REFRESH MATERIALIZED VIEW quotient');
like($stderr, qr/division by zero/, 'REFRESH tries, and says what is wrong');
$node->safe_psql('postgres', 'DELETE FROM ratio WHERE whole = 0; REFRESH MATERIALIZED VIEW quotient');
is_exact($node, 'quotient', 'REFRESH when the cause is gone');
wait_for_state($node, 'per_quotient', 'active');
is_exact($node, 'per_quotient', 'and what reads it comes by itself');

# ---- what the server lacks is not the view's fault ----

set_points($node, 'build-reading=io');
$node->safe_psql('postgres', 'TRUNCATE granted; INSERT INTO granted VALUES (1), (2)');
wait_until($node, q{SELECT last_error ~ 'build-reading' FROM pg_stat_ivm WHERE relname = 'mine'}, 'a rebuild fails with an I/O error');
wait_until($node, q{SELECT error_count > 4 FROM pg_stat_ivm WHERE relname = 'mine'}, 'again and again');
is_value($node, q{SELECT state FROM pg_stat_ivm WHERE relname = 'mine'}, 'rebuild', 'it is not in error for that');
$oid = oid_of('mine');
is(log_lines("could not rebuild incremental view with OID $oid"), 1, 'the log says it once');
set_points($node, '');
is_exact($node, 'mine', 'and it is rebuilt when that is over');

# ---- over a restart ----

$node->safe_psql('postgres', 'INSERT INTO ratio VALUES (102, 1, 0)');
wait_for_state($node, 'quotient', 'error');
$node->restart;
wait_for_state($node, 'quotient', 'error');
$node->safe_psql('postgres', 'DELETE FROM ratio WHERE whole = 0');
heals('bad data was deleted after a restart', 'quotient', 'per_quotient');

are_exact($node, 'all are exact');
$node->stop;
done_testing();
