# What the server lacks: the library, wal_level, replication slots, background
# worker slots.  Each is said by name with what to do, leaves nothing half made,
# and is no more than an interruption for views that are there already.  And
# what no setting helps against: PREPARE TRANSACTION after a creation.
#
# kills: nothing

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $node = new_node('settings', 'ivm.refresh = rebuild', 'ivm.apply_workers = 2');

$node->safe_psql('postgres', <<'EOS');
CREATE TABLE sale (id int PRIMARY KEY, region int, amount numeric NOT NULL, note text);
INSERT INTO sale SELECT i, i % 7, i % 100, 'note ' || i % 7 FROM generate_series(1, 1000) i;
EOS

# Restarts the server with other values of some parameters.
sub restart_with
{
	my (%settings) = @_;
	$node->adjust_conf('postgresql.conf', $_, $settings{$_}) foreach sort keys %settings;
	$node->restart;
	return;
}

# A test: the statement fails with that error and hint, and leaves nothing.
sub is_refused
{
	my ($statement, $error, $hint, $name) = @_;
	my ($ret, $stdout, $stderr) = $node->psql('postgres', $statement);

	like($stderr, qr/ERROR:  $error/, "refused: $name");
	like($stderr, qr/HINT:  $hint/, 'with a hint');
	return;
}

# A test: there is nothing of a view, neither in the catalogs nor besides.
sub is_clean
{
	my ($name) = @_;
	my $query = q{
		SELECT (SELECT count(*) FROM pg_class c JOIN pg_am a ON a.oid = c.relam WHERE amname = 'incremental') || ' views, ' ||
		(SELECT count(*) FROM ivm.view) || ' rows, ' ||
		(SELECT count(*) FROM ivm.applied) || ' positions, ' ||
		(SELECT count(*) FROM pg_class WHERE relnamespace = 'ivm_state'::regnamespace) || ' state tables, ' ||
		(SELECT count(*) FROM pg_replication_slots WHERE slot_name ~ '^ivm') || ' slots, ' ||
		(SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ '^ivm' AND datname IS NOT NULL) || ' processes'};
	my $nothing = '0 views, 0 rows, 0 positions, 0 state tables, 0 slots, 0 processes';

	# processes and slot go a moment after the statement
	wait_until($node, "SELECT ($query) = '$nothing'", "nothing is left: $name");
	is_value($node, $query, $nothing, "nothing is left: $name");
	return;
}

my $create = 'CREATE INCREMENTAL VIEW v AS SELECT region, count(*) AS n, sum(amount) AS total FROM sale GROUP BY region';
my $native = 'CREATE MATERIALIZED VIEW v USING incremental AS SELECT region, max(amount) AS n FROM sale GROUP BY region';
my $block = "BEGIN; $native; COMMIT";

# ---- the library ----

restart_with('shared_preload_libraries' => "''");
is_refused('CREATE EXTENSION ivm_ext', 'ivm_ext must be loaded via shared_preload_libraries',
	'Add ivm_ext to shared_preload_libraries and restart the server', 'CREATE EXTENSION without the library');
is_value($node, q{SELECT count(*) FROM pg_extension WHERE extname = 'ivm_ext'}, 0, 'and no extension');

restart_with('shared_preload_libraries' => "'ivm_ext'");
$node->safe_psql('postgres', 'CREATE EXTENSION ivm_ext');
restart_with('shared_preload_libraries' => "''");
is_refused($native, 'ivm_ext must be loaded via shared_preload_libraries',
	'Add ivm_ext to shared_preload_libraries and restart the server', 'a view without the library');
is_clean('without the library');

# ---- wal_level ----

restart_with('shared_preload_libraries' => "'ivm_ext'", 'wal_level' => 'replica');
is_refused($_, 'incremental views require wal_level to be "logical"',
	'Set wal_level to "logical" and restart the server', 'wal_level replica')
  foreach ($create, $native, $block);
is_clean('wal_level replica');

# ---- replication slots ----

restart_with('wal_level' => 'logical', 'max_replication_slots' => 2);
$node->safe_psql('postgres', "SELECT pg_create_physical_replication_slot('other$_', true)") foreach (1, 2);
is_refused($_, 'no free replication slot for incremental views of database "postgres"',
	'Free a replication slot or increase max_replication_slots', 'all slots are taken')
  foreach ($create, $native, $block);
is_clean('all slots are taken');

restart_with('max_replication_slots' => 4, 'max_wal_senders' => 0);
$node->safe_psql('postgres', $create);
are_exact($node, 'a view needs no walsender');
$node->safe_psql('postgres', 'DROP MATERIALIZED VIEW v');
is_clean('the view is dropped');
restart_with('max_wal_senders' => 4);

# ---- background worker slots ----

# Ours are the launcher, one that looks into a database, two apply workers, the
# decoder and the builder; the server's launcher for subscriptions needs another.
foreach my $slots (1 .. 5)
{
	restart_with('max_worker_processes' => $slots, 'max_parallel_workers' => 0);
	is_refused($_, 'no free background worker slot for incremental views', 'Increase max_worker_processes',
		"max_worker_processes = $slots")
	  foreach ($slots == 1 ? $create : ($create, $native));
	is_clean("max_worker_processes = $slots");
}

# While an inspector has a slot it is too early to say that there are too few.
$node->append_conf('postgresql.conf', "ivm.debug_points = 'inspect=wait'\nlog_min_messages = debug1");
restart_with('max_worker_processes' => 6);
my $creator = connection($node);
my $before = -s $node->logfile;
$creator->{stdin} .= "$create;\n\\echo the end\n";
$creator->{run}->pump_nb;
$node->wait_for_log(qr/no free background worker slot for process "ivm [a-z ]+" while an inspector has one/, $before);
$node->adjust_conf('postgresql.conf', 'ivm.debug_points', "''");
$node->adjust_conf('postgresql.conf', 'log_min_messages', 'warning');
reload($node);
wait_until_true(sub { $creator->{run}->pump_nb; return $creator->{stdout} =~ /the end/ }, 'the statement ends');
is($creator->{stderr} =~ /ERROR/ ? $creator->{stderr} : '', '', 'a slot that an inspector has is waited for');
$creator->quit;
are_exact($node, 'so many are enough');

# ---- what is there already waits and goes on ----

sub write_sales
{
	$node->safe_psql('postgres', q{UPDATE sale SET amount = amount + 1, region = (region + 1) % 9 WHERE id % 3 = 0});
	return;
}

# there is nothing to build: one slot less is enough
foreach my $slots (1 .. 4)
{
	my $offset = -s $node->logfile;

	restart_with('max_worker_processes' => $slots);
	$node->wait_for_log(qr/could not start process|too many background workers/, $offset);
	write_sales();
	is_refused(q{SELECT ivm.sync('v', '300 ms')}, 'incremental view "v" did not reach the current position in time',
		'See pg_stat_ivm', "a view that is not maintained, max_worker_processes = $slots");
}
my $log = -s $node->logfile;
restart_with('max_worker_processes' => 5);
are_exact($node, 'exact when there are enough again');
is(rebuilds($node, $log), 0, 'by the deltas');
restart_with('max_worker_processes' => 8);

# ---- what is done without the library is found afterwards ----

$node->safe_psql('postgres', <<'EOS');
CREATE TABLE kept (a int, b int);
INSERT INTO kept SELECT i, i % 5 FROM generate_series(1, 100) i;
CREATE TABLE cut (a int, b int);
INSERT INTO cut SELECT i, i % 5 FROM generate_series(1, 100) i;
-- without an index, and too large to be read whole
CREATE TABLE wide (b int, f text);
INSERT INTO wide SELECT i % 100, repeat('x', 700) FROM generate_series(1, 2000) i;
EOS
$node->safe_psql('postgres', $_) foreach (
	'CREATE INCREMENTAL VIEW of_kept AS SELECT b, count(*) AS n FROM kept GROUP BY b',
	'CREATE INCREMENTAL VIEW of_cut AS SELECT b, count(*) AS n FROM cut GROUP BY b',
	'CREATE INCREMENTAL VIEW of_note AS SELECT note, max(amount) AS amount FROM sale GROUP BY note',
	'CREATE INCREMENTAL VIEW dropped AS SELECT note, max(amount) AS amount FROM sale GROUP BY note',
	'CREATE INCREMENTAL VIEW plain_again AS SELECT note, max(amount) AS amount, count(*) AS n FROM sale GROUP BY note',
	'CREATE INCREMENTAL VIEW joined AS SELECT k.a, w.f FROM kept k JOIN wide w USING (b)');
is_value($node, q{SELECT count(*) FROM ivm.view WHERE kind = 'a'}, 1, 'one of the views shares what it reads a table by');
$log = -s $node->logfile;
restart_with('shared_preload_libraries' => "''");
$node->safe_psql('postgres', <<'EOS');
DROP MATERIALIZED VIEW dropped, joined;
ALTER MATERIALIZED VIEW plain_again SET ACCESS METHOD heap;
DELETE FROM sale WHERE id % 10 = 3;
ALTER TABLE sale RENAME COLUMN note TO remark;
-- deletes that say nothing of what is deleted
ALTER TABLE kept REPLICA IDENTITY DEFAULT;
DELETE FROM kept WHERE a % 3 = 0;
ALTER TABLE kept REPLICA IDENTITY FULL;
INSERT INTO kept VALUES (1, 1);
TRUNCATE cut;
INSERT INTO cut VALUES (1, 1);
EOS
write_sales();
is_refused($_, 'ivm_ext must be loaded via shared_preload_libraries',
	'Add ivm_ext to shared_preload_libraries and restart the server', "$_, without the library")
  foreach ('REFRESH MATERIALIZED VIEW of_cut', 'REFRESH MATERIALIZED VIEW ivm.view', 'ALTER MATERIALIZED VIEW of_cut RENAME TO renamed', q{SELECT ivm.sync('of_cut')});
my $plain = $node->safe_psql('postgres', 'SELECT * FROM plain_again ORDER BY 1');
restart_with('shared_preload_libraries' => "'ivm_ext'");
are_exact($node, 'exact after changes of all kinds without the library');
wait_until($node, q{SELECT count(*) = 0 FROM ivm.view WHERE relid = 'plain_again'::regclass}, 'what has become an ordinary view is forgotten');
write_sales();
are_exact($node, 'and goes on');
is_value($node, q{SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_stat_ivm}, 'of_cut of_kept of_note v',
	'the views are those that are there');
is_value($node, 'SELECT * FROM plain_again ORDER BY 1', $plain, 'nobody writes to one that is a view no more');
is_value($node, q{SELECT count(*) FROM ivm.view v WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = v.relid)}, 0,
	'nothing is left of the one that was dropped');
is_value($node, q{SELECT count(*) FROM ivm.applied v WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = v.relid)}, 0,
	'nor of its position');
is_value($node, q{SELECT count(*) FROM ivm.view WHERE kind = 'a'}, 0, 'nor of what only it read');
is_value($node, q{SELECT count(*) FROM pg_class c WHERE relnamespace = 'ivm_state'::regnamespace AND relkind = 'm' AND
	NOT EXISTS (SELECT FROM pg_stat_ivm WHERE c.relname ~ ('^v' || relid || '_'))}, 0, 'nor of what it remembered');
is_value($node, q{SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_stat_ivm WHERE rebuilds > 0},
	'of_cut of_kept', 'rebuilt was what had to be');
$node->safe_psql('postgres', 'DROP TABLE kept, cut, wide CASCADE; DROP MATERIALIZED VIEW of_note, plain_again');

# the slot is needed by somebody else
restart_with('shared_preload_libraries' => "''");
my $name = $node->safe_psql('postgres', q{SELECT slot_name FROM pg_replication_slots WHERE slot_name ~ '^ivm'});
$node->safe_psql('postgres', "SELECT pg_drop_replication_slot('$name')");
$node->safe_psql('postgres', "SELECT pg_create_physical_replication_slot('other$_', true)") foreach (3, 4);
write_sales();
$log = -s $node->logfile;
restart_with('shared_preload_libraries' => "'ivm_ext'");
$node->wait_for_log(qr/all replication slots are in use/, $log);
is_refused(q{SELECT ivm.sync('v', '300 ms')}, 'incremental view "v" did not reach the current position in time',
	'See pg_stat_ivm', 'a view without a slot');
is_refused(q{REFRESH MATERIALIZED VIEW v}, 'no free replication slot for incremental views',
	'Free a replication slot or increase max_replication_slots', 'REFRESH without a slot');
is_refused(q{SELECT ivm.verify('v')}, 'no free replication slot for incremental views',
	'Free a replication slot or increase max_replication_slots', 'a verification without a slot');
write_sales();
$node->safe_psql('postgres', q{SELECT pg_drop_replication_slot('other3')});
are_exact($node, 'exact when there is a slot again');
is_value($node, q{SELECT last_rebuild_reason ~ 'replication slot was lost' FROM pg_stat_ivm}, 't', 'after a rebuild');

# wal_level is lowered
restart_with('shared_preload_libraries' => "''");
$node->safe_psql('postgres', 'SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots');
$log = -s $node->logfile;
restart_with('wal_level' => 'replica', 'shared_preload_libraries' => "'ivm_ext'");
$node->wait_for_log(qr/logical decoding requires wal_level >= logical/, $log);
write_sales();
is_refused(q{SELECT ivm.sync('v', '300 ms')}, 'incremental view "v" did not reach the current position in time',
	'See pg_stat_ivm', 'a view with wal_level replica');
is_refused(q{SELECT ivm.verify('v')}, 'incremental views require wal_level to be "logical"',
	'Set wal_level to "logical" and restart the server', 'a verification with wal_level replica');
restart_with('wal_level' => 'logical');
are_exact($node, 'exact when wal_level is logical again');

# ---- a transaction that creates a view cannot be prepared ----

sub is_not_prepared
{
	my ($statements, $name) = @_;
	my ($ret, $stdout, $stderr) =
	  $node->psql('postgres', "BEGIN; $statements; PREPARE TRANSACTION 'p'");

	like($stderr, qr/cannot PREPARE a transaction that has created, refreshed or altered an incremental view/,
		"not prepared: $name");
	is_value($node, 'SELECT count(*) FROM pg_prepared_xacts', 0, 'nor is it there');
	return;
}

is_not_prepared('CREATE MATERIALIZED VIEW w USING incremental AS SELECT remark, count(*) FROM sale GROUP BY remark', 'a creation');
is_not_prepared('REFRESH MATERIALIZED VIEW v', 'REFRESH');
is_not_prepared('SAVEPOINT a; REFRESH MATERIALIZED VIEW v; RELEASE a', 'REFRESH in a savepoint');
is_value($node, q{SELECT to_regclass('w') IS NULL}, 't', 'the view is not there');
$node->safe_psql('postgres',
	q{BEGIN; SAVEPOINT a; REFRESH MATERIALIZED VIEW v; ROLLBACK TO a; DELETE FROM sale WHERE id < 10; PREPARE TRANSACTION 'p'});
are_exact($node, 'what was rolled back before does not count');
$node->safe_psql('postgres', q{COMMIT PREPARED 'p'});
are_exact($node, 'a prepared transaction is committed');

# a drop can be prepared: the view goes with the commit
$node->safe_psql('postgres', q{BEGIN; DROP MATERIALIZED VIEW v; PREPARE TRANSACTION 'p'});
$node->safe_psql('postgres', q{ROLLBACK PREPARED 'p'});
write_sales();
are_exact($node, 'the view stays when its drop is rolled back');
$node->safe_psql('postgres', q{BEGIN; DROP MATERIALIZED VIEW v; PREPARE TRANSACTION 'p'});
write_sales();
$node->restart;
$node->safe_psql('postgres', q{COMMIT PREPARED 'p'});
is_clean('the view is dropped by a prepared transaction');

$node->stop;
done_testing();
