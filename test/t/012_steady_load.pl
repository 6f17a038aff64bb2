# Under a steady load the slot moves all the same: the commit of each batch is
# followed by another one that is not flushed yet, and nothing ever happens to
# some of the views.

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

# Nobody flushes the WAL but the commits of the load.
my $node = new_node('steady', 'autovacuum = off', 'max_wal_size = 2GB', 'ivm.apply_workers = 1',
	'checkpoint_timeout = 1h', 'wal_writer_delay = 10s', 'bgwriter_delay = 10s');
$node->safe_psql('postgres', <<'EOS');
CREATE EXTENSION ivm_ext;
CREATE TABLE busy (id int PRIMARY KEY, a int, filler text);
CREATE TABLE quiet (id int PRIMARY KEY, a int);
INSERT INTO busy SELECT i, i % 10, repeat('x', 1000) FROM generate_series(1, 100) i;
INSERT INTO quiet SELECT i, i % 10 FROM generate_series(1, 100) i;
EOS
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW busy_sums AS SELECT a, count(*), sum(length(filler)) FROM busy GROUP BY a');
sync($node);

my $dir = $node->basedir;
append_to_file("$dir/small.sql", "UPDATE busy SET a = (a + 1) % 10 WHERE id = 1;\n");
append_to_file("$dir/large.sql", "UPDATE busy SET filler = repeat(chr(97 + (ascii(filler) + 1) % 26), 1000 + id), a = (a + 1) % 10;\n");

# Begins a load, and waits until the slot has passed so many bytes of it.
sub slot_follows
{
	my ($script, $bytes, $what) = @_;
	my ($in, $out) = ('', '');
	my $load = IPC::Run::start(
		[ 'pgbench', '-n', '-c', '1', '-R', '20', '-T', '300', '-f', "$dir/$script", '-h', $node->host, '-p', $node->port, 'postgres' ],
		\$in, \$out, \$out);
	my $start = $node->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()');

	wait_until($node, "SELECT confirmed_flush_lsn - '$start' > $bytes FROM pg_replication_slots", $what);
	ok($load->pumpable, "$what, while it goes on");
	$load->signal('INT');
	$load->finish;
	are_exact($node, 'exact after it');
	return;
}

slot_follows('small.sql', 1000, 'the slot follows a load of small changes');

# twice the distance at which positions of views without changes are stored
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW quiet_sums AS SELECT a, count(*) FROM quiet GROUP BY a');
slot_follows('large.sql', 32 * 1024 * 1024, 'it does with a view that nothing happens to');
is_value($node, q{SELECT batches FROM pg_stat_ivm WHERE relname = 'quiet_sums'}, 0, 'and nothing has happened to that');

is(rebuilds($node), 0, 'no view had to be rebuilt');
$node->stop;
done_testing();
