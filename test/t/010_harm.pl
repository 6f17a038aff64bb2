# What stands still or fails harms nothing else: neither those who write and
# alter tables, nor the other views.  And two processes never apply to one view.
#
# kills: nothing

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

# One worker: what fails or cannot be locked is in one batch with the others.
my $node = new_node('harm', 'ivm.refresh = rebuild', 'ivm.apply_workers = 1', 'ivm.naptime = 100ms');
make_sales($node);
are_exact($node, 'exact at the beginning');

sub state_of
{
	my ($view, $state, $name) = @_;
	return is_value($node, "SELECT state FROM pg_stat_ivm WHERE relid = '$view'::regclass", $state, $name);
}

# ---- locks ----

# The modes of the locks that our processes hold on these relations.
sub lock_modes
{
	my (@relations) = @_;
	my $list = join(', ', map { "'$_'::regclass" } @relations);
	return $node->safe_psql('postgres', <<"EOS");
SELECT string_agg(DISTINCT mode, ' ' ORDER BY mode) FROM pg_locks l JOIN pg_stat_ivm_worker w USING (pid)
WHERE l.granted AND l.locktype = 'relation' AND l.database = (SELECT oid FROM pg_database WHERE datname = 'postgres') AND
	(l.relation IN ($list) OR l.relation IN (SELECT indexrelid FROM pg_index WHERE indrelid IN ($list)))
EOS
}

set_points($node, 'apply-after=wait');
change_sales($node);
wait_for_point($node, 'apply-after');
is(lock_modes('sale', 'region'), 'AccessShareLock', 'a batch locks what it reads as SELECT does');
is(lock_modes(sales_views()), 'RowExclusiveLock', 'and what it writes as INSERT does');

# none of these waits for the batch
$node->safe_psql('postgres', <<'EOS');
SET statement_timeout = '20s';
INSERT INTO sale VALUES (-1, 1, 1, 'meanwhile');
SELECT count(*) FROM (SELECT FROM sale FOR UPDATE) s;
BEGIN; LOCK TABLE sale IN EXCLUSIVE MODE; UPDATE sale SET amount = 3 WHERE id = -1; COMMIT;
CREATE INDEX meanwhile ON sale (amount);
ANALYZE sale;
VACUUM sale;
EOS
pass('writing, indexing, vacuuming and a lock against all writers go on meanwhile');
set_points($node, '');
are_exact($node, 'exact afterwards');

foreach my $point ('build-locked', 'build-filled')
{
	set_points($node, "$point=wait");
	my $creating = connection($node);
	$creating->query_until(qr/begun/, <<'EOS');
\echo begun
CREATE MATERIALIZED VIEW made USING incremental AS SELECT r.name, s.note, sum(s.amount) AS total FROM sale s JOIN region r ON r.id = s.region GROUP BY 1, 2;
EOS
	wait_for_point($node, $point);
	is(lock_modes('sale', 'region'), 'AccessShareLock', "a population locks what it reads as SELECT does, $point");
	set_points($node, '');
	$creating->query('SELECT 1');
	$creating->quit;
	set_points($node, "$point=wait");
	my $refreshing = connection($node);
	$refreshing->query_until(qr/begun/, "\\echo begun\nREFRESH MATERIALIZED VIEW made;\n");
	wait_for_point($node, $point);
	is(lock_modes('sale', 'region'), 'AccessShareLock', "so does a rebuild, $point");
	unlike(lock_modes('made'), qr/AccessExclusiveLock/, "which lets the view be read, $point");
	set_points($node, '');
	$refreshing->query('SELECT 1');
	$refreshing->quit;
	$node->safe_psql('postgres', 'DROP MATERIALIZED VIEW made');
}

# ---- no lock is held through a wait ----

# The decoder does not come on.  The batch that waits for it has locks; who wants
# a stronger one gets it soon, and those who write queue behind that one.
set_points($node, 'decoder-after-decode=wait');
change_sales($node);
wait_for_point($node, 'decoder-after-decode');
my $altering = connection($node);
foreach my $n (1 .. 5)
{
	$altering->query_until(qr/begun/, "\\echo begun\nSET statement_timeout = '20s'; ALTER TABLE sale ADD COLUMN c$n int;\n");
	$node->safe_psql('postgres', "SET statement_timeout = '20s'; UPDATE sale SET amount = amount + 1 WHERE id = $n");
	$altering->query_safe('SELECT 1');
}
is_value($node, q{SELECT count(*) FROM pg_attribute WHERE attrelid = 'sale'::regclass AND attname ~ '^c\d$' AND NOT attisdropped}, 5,
	'ALTER TABLE, and writers behind it, do not wait for a batch that waits for the decoder');
is_value($node, q{SELECT count(*) FROM pg_stat_ivm_worker WHERE state = 'decoder-after-decode'}, 1, 'which is still held');
$altering->quit;
set_points($node, '');
are_exact($node, 'exact afterwards');

# ---- what cannot be locked is left behind, with what reads it ----

my $log = -s $node->logfile;

sub is_left_behind
{
	my ($lock, $behind, $name) = @_;
	my $locker = connection($node);
	my %is_behind = map { $_ => 1 } @$behind;

	$locker->query_safe("BEGIN; $lock");
	change_but_not_view();
	foreach my $view (sort { $a cmp $b } sales_views())
	{
		next if $is_behind{$view};
		is($node->safe_psql('postgres', "SELECT ivm.sync('$view', '20s')"), '', "$view goes on: $name");
		is(IvmTest::difference($node, $view, 'postgres'), '0/0', "and is exact") if $lock !~ /LOCK/;
	}
	foreach my $view (@$behind)
	{
		my ($ret, $stdout, $stderr) = $node->psql('postgres', "SELECT ivm.sync('$view', '200ms')");

		like($stderr, qr/incremental view "$view" did not reach the current position in time/, "$view does not: $name");
		state_of($view, 'waiting for lock', 'and says why');
	}
	$locker->query_safe('COMMIT');
	$locker->quit;
	are_exact($node, "all are exact when the lock is released: $name");
	return;
}

# the locked table cannot be written
sub change_but_not_view
{
	$node->safe_psql('postgres', 'UPDATE sale SET amount = amount + 1, region = 1 + (region + 3) % 25 WHERE id % 10 = 3; INSERT INTO sale SELECT min(id) - 1, 3, 4, $$new$$ FROM sale');
	return;
}

is_left_behind('LOCK TABLE region', ['per_name', 'listed'], 'a table is locked');
is_left_behind('CREATE INDEX ON per_region (n)', ['per_region', 'on_view'], 'an index is being made on a view');
is_left_behind('CREATE INDEX ON on_view (n)', ['on_view'], 'an index is being made on a view that reads a view');
is(rebuilds($node, $log), 0, 'all that by the deltas');

# ---- what fails ----

$node->safe_psql('postgres', <<'EOS');
CREATE TABLE ratio (id int PRIMARY KEY, part int, whole int);
INSERT INTO ratio SELECT i, i % 10, 1 + i % 3 FROM generate_series(1, 50) i;
CREATE TABLE rate (id int PRIMARY KEY, r int);
INSERT INTO rate SELECT i, 1 FROM generate_series(1, 50) i;
EOS
$node->safe_psql('postgres', $_) foreach (
	'CREATE INCREMENTAL VIEW quotient AS SELECT id, part / whole AS q FROM ratio',
	'CREATE INCREMENTAL VIEW per_quotient AS SELECT q, count(*) AS n FROM quotient GROUP BY q',
	'CREATE INCREMENTAL VIEW whole AS SELECT whole, count(*) AS n FROM ratio GROUP BY whole',
	'CREATE INCREMENTAL VIEW pair AS SELECT id, part / (whole - r) AS q FROM ratio JOIN rate USING (id) WHERE whole > 2');
are_exact($node, 'exact before something fails');
$node->safe_psql('postgres', 'SELECT ivm.stat_reset()');
$log = -s $node->logfile;

# the query itself fails; the same transaction concerns the others
$node->safe_psql('postgres', 'BEGIN; INSERT INTO ratio VALUES (100, 1, 0); UPDATE sale SET amount = amount + 1 WHERE id < 100; COMMIT');
wait_for_state($node, 'quotient', 'error');
wait_for_state($node, 'per_quotient', 'error');
is_value($node, q{SELECT last_error FROM pg_stat_ivm WHERE relname = 'quotient'}, 'division by zero', 'the error is kept');
is_value($node, q{SELECT error_count > 0 AND last_error_time > now() - interval '1 minute' FROM pg_stat_ivm WHERE relname = 'quotient'}, 't', 'with its time');
is_exact($node, $_, "$_ goes on when another one fails") foreach sales_views(), 'whole', 'pair';
is_value($node, q{SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_stat_ivm WHERE rebuilds > 0 AND relname NOT IN ('quotient', 'per_quotient')}, '',
	'none of them had to be rebuilt');
my ($ret, $stdout, $stderr) = $node->psql('postgres', q{SELECT ivm.sync('quotient')});
like($stderr, qr/"quotient" is in state error.*division by zero.*REFRESH MATERIALIZED VIEW/s, 'ivm.sync says it at once');

# it lets its place in the log and in the WAL go
my $position = $node->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()');
$node->safe_psql('postgres', 'CREATE TABLE other (a text)');
$node->safe_psql('postgres', q{INSERT INTO other SELECT repeat('x', 1000) FROM generate_series(1, 30000)});
change_sales($node);
wait_until($node, "SELECT confirmed_flush_lsn > '$position' FROM pg_replication_slots", 'the slot moves');
pass('the slot moves while a view is in error');
$node->restart;
wait_for_state($node, 'quotient', 'error');
$node->safe_psql('postgres', "SELECT ivm.sync('$_')") foreach sales_views();
pass('a view that failed stays so over a restart, and the others go on');

$node->safe_psql('postgres', 'DELETE FROM ratio WHERE whole = 0');
$node->safe_psql('postgres', 'REFRESH MATERIALIZED VIEW quotient; REFRESH MATERIALIZED VIEW per_quotient');
$node->safe_psql('postgres', 'UPDATE ratio SET part = part + 1');
are_exact($node, 'REFRESH brings it back when the cause is gone');

# An error on a pair of rows that never existed: the new row of one table meets
# the old one of the other.  The query has no error.
$node->safe_psql('postgres', 'SELECT ivm.stat_reset()');
$node->safe_psql('postgres', 'BEGIN; UPDATE rate SET r = 3; UPDATE ratio SET whole = 5; UPDATE sale SET amount = amount + 1 WHERE id < 50; COMMIT');
are_exact($node, 'exact after an error that is of the way, not of the query');
is_value($node, q{SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_stat_ivm WHERE rebuilds > 0}, 'pair', 'by a rebuild of that view alone');

# a unique index of the user's
$node->safe_psql('postgres', 'SELECT ivm.stat_reset(); CREATE UNIQUE INDEX one_each ON whole (n)');
$node->safe_psql('postgres', 'BEGIN; INSERT INTO ratio VALUES (200, 1, 7), (201, 1, 8); UPDATE sale SET amount = amount + 1 WHERE id < 50; COMMIT');
wait_for_state($node, 'whole', 'error');
is_value($node, q{SELECT last_error ~ 'one_each' FROM pg_stat_ivm WHERE relname = 'whole'}, 't', q{a violated unique index of the user's is an error of that view});
$node->safe_psql('postgres', "SELECT ivm.sync('$_')") foreach sales_views(), 'pair', 'quotient', 'per_quotient';
is_value($node, q{SELECT count(*) FROM pg_stat_ivm WHERE rebuilds > 0 AND relname <> 'whole'}, 0, 'and of no other');
$node->safe_psql('postgres', 'DROP INDEX one_each');
$node->safe_psql('postgres', 'REFRESH MATERIALIZED VIEW whole');
are_exact($node, 'exact without that index');

# ---- two processes never apply to one view ----

# A rebuild is asked for while a batch is open, and a batch is due in a rebuild.
$log = -s $node->logfile;
set_points($node, 'apply-after=wait');
change_sales($node);
wait_for_point($node, 'apply-after');
my $refreshing = connection($node);
my $pid = $refreshing->query_safe('SELECT pg_backend_pid()');
$refreshing->query_until(qr/begun/, "\\echo begun\nREFRESH MATERIALIZED VIEW per_name;\n");
wait_until($node, "SELECT count(*) > 0 FROM pg_locks WHERE pid = $pid AND NOT granted AND locktype = 'object'", 'REFRESH waits for the claim');
is_value($node, q{SELECT count(*) FROM pg_stat_progress_ivm_build}, 0, 'no rebuild begins while a batch is open');
set_points($node, 'build-filled=wait');
wait_for_point($node, 'build-filled');
change_sales($node);
foreach my $view (grep { $_ ne 'per_name' } sales_views())
{
	$node->safe_psql('postgres', "SELECT ivm.sync('$view', '20s')");
}
pass('the others go on while one is rebuilt');
wait_for_state($node, 'per_name', 'rebuild');
set_points($node, '');
$refreshing->query('SELECT 1');
$refreshing->quit;
are_exact($node, 'exact after both');
unlike(slurp_file($node->logfile, $log), qr/changed concurrently|could not store/, 'and neither came into the way of the other');

$node->stop;
done_testing();
