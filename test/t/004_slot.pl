# The deltas cannot be had: the slot is dropped by hand, invalidated, or another
# one stands in its place.  The views are rebuilt by themselves, and say so.
#
# kills: the processes of the server

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $node = new_node('slot', 'min_wal_size = 32MB', 'max_wal_size = 64MB');
make_sales($node);
are_exact($node, 'exact at the beginning');
my $name = slot_names($node);
like($name, qr/^ivm_\d+$/, 'the slot has its name');

my ($ret, $stdout, $stderr) = $node->psql('postgres', "SELECT pg_drop_replication_slot('$name')");
like($stderr, qr/is active for PID/, 'it cannot be dropped while it is used');

sub is_rebuilt
{
	my ($what, $reason) = @_;
	are_exact($node, "exact after $what");
	is_value($node, "SELECT bool_and(rebuilds > 0) FROM pg_stat_ivm", 't', 'every view was rebuilt');
	is_value($node, "SELECT bool_and(last_rebuild_reason ~ '$reason') FROM pg_stat_ivm", 't', 'and says why');
	change_sales($node);
	are_exact($node, "and goes on after $what");
}

# ---- dropped while the server runs ----

# who drops it is faster than the decoder that comes back
$node->safe_psql('postgres', 'SELECT ivm.stat_reset()');
lose_slot($node, $name);
change_sales($node);
wait_until($node, 'SELECT count(*) = 1 FROM pg_replication_slots', 'there is a slot again');
is_rebuilt('the slot was dropped', 'replication slot was lost');
is(slot_names($node), $name, 'it has the same name');

# ---- dropped while nobody looks ----

$node->stop;
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->start;
$node->safe_psql('postgres', "SELECT pg_drop_replication_slot('$name')");
$node->safe_psql('postgres', q{UPDATE sale SET amount = amount + 7 WHERE id % 3 = 0; DELETE FROM sale WHERE id % 11 = 0});
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "'ivm_ext'");
$node->restart;
is_rebuilt('the slot was dropped while the library was not there', 'replication slot was lost');

# ---- kept, but the library was not there: then nothing is lost ----

my $log = -s $node->logfile;
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "''");
$node->restart;
$node->safe_psql('postgres', q{UPDATE sale SET amount = amount + 7 WHERE id % 3 = 1});
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "'ivm_ext'");
$node->restart;
are_exact($node, 'exact after a time without the library, by the deltas');
is(rebuilds($node, $log), 0, 'no rebuild');

# ---- somebody else's slot has the name ----

$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "''");
$node->restart;
$node->safe_psql('postgres', "SELECT pg_drop_replication_slot('$name')");
$node->safe_psql('postgres', q{UPDATE sale SET amount = amount + 7 WHERE id % 3 = 2});
$node->safe_psql('postgres', "SELECT pg_create_physical_replication_slot('$name', true)");
$log = -s $node->logfile;
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "'ivm_ext'");
$node->restart;
$node->wait_for_log(qr/replication slot "$name" was not made by this extension/, $log);
pass('a slot that is not ours is left alone, with a message');
foreach my $statement (q{SELECT * FROM ivm.verify('per_region')}, 'REFRESH MATERIALIZED VIEW per_region')
{
	($ret, $stdout, $stderr) = $node->psql('postgres', "SET statement_timeout = '100s'; $statement");
	like($stderr, qr/(?:changes of the tables cannot be read from the WAL.*DETAIL: *|ERROR: *)replication slot "$name" was not made by this extension/s, "who waits without a limit is told: $statement");
}
($ret, $stdout, $stderr) = $node->psql('postgres', q{SELECT ivm.sync('per_region', '1s')});
like($stderr, qr/Its state is "no decoder"/, 'so is who waits for some time');
$node->safe_psql('postgres', "SELECT pg_drop_replication_slot('$name')");
is_rebuilt('a strange slot was dropped', 'replication slot was lost');

# ---- invalidated ----

$node->append_conf('postgresql.conf', 'max_slot_wal_keep_size = 1MB');
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "''");
$node->restart;
$node->safe_psql('postgres', q{CREATE TABLE other (a text); UPDATE sale SET amount = amount + 9});
foreach (1 .. 8)
{
	$node->safe_psql('postgres', q{INSERT INTO other SELECT repeat('x', 1000) FROM generate_series(1, 20000); SELECT pg_switch_wal(); CHECKPOINT});
}
is_value($node, 'SELECT wal_status FROM pg_replication_slots', 'lost', 'the slot has lost its WAL');
$log = -s $node->logfile;
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "'ivm_ext'");
$node->restart;
$node->wait_for_log(qr/replication slot "$name" was invalidated and is made anew/, $log);
is_rebuilt('the slot was invalidated', 'replication slot was lost');
is_value($node, 'SELECT wal_status <> $$lost$$ FROM pg_replication_slots', 't', 'and the slot is a new one');

$node->stop;
done_testing();
