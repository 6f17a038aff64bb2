# Many transactions are open at once, large and small ones, and many subtransactions: they need neither a file nor a buffer
# each, and the decoder's memory stays near its share.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;
use MemoryTest;

my $large = 100;
my $small = 10_000;
my $node = new_node('open_many', 'ivm.apply_workers = 1', "max_prepared_transactions = " . ($large + $small), 'ivm.naptime = 100ms', 'ivm.memory_budget = 64MB',
	'logical_decoding_work_mem = 1MB', 'ivm.delta_log_memory = 1MB', 'autovacuum = off');

$node->safe_psql('postgres', <<'EOS');
CREATE EXTENSION ivm_ext;
CREATE TABLE t (id int, grp int, filler text);
CREATE INCREMENTAL VIEW v AS SELECT grp, count(*) AS n, sum(id) AS ids FROM t GROUP BY grp;
CREATE TABLE nobody (id int, filler text);
EOS

my $pid = (worker_pids($node, 'decoder'))[0];
my $most = 0;

# What was written until now is decoded; looks at the decoder's memory meanwhile.
sub decoded
{
	my $end = wal_end($node);
	wait_until_true(sub {
			my $now = anonymous($pid);
			$most = $now if $now > $most;
			return $node->safe_psql('postgres', "SELECT position_lsn >= '$end' FROM pg_stat_ivm_worker WHERE worker_type = 'decoder'") eq 't';
		}, 'it is decoded');
	return;
}

sub files
{
	my @found = glob($node->data_dir . '/base/pgsql_tmp/*/*');
	return scalar @found;
}

sub script
{
	my (@statements) = @_;
	$node->safe_psql('postgres', join(";\n", @statements));
	return;
}

my $base = anonymous($pid);

# ---- all at once ----

script(map { ('BEGIN', "INSERT INTO t SELECT g, g % 10, repeat('x', 100) FROM generate_series(1, 1500) g", "PREPARE TRANSACTION 'large$_'") } 1 .. $large);
script(map { ('BEGIN', "INSERT INTO t SELECT g, $_ % 10, repeat('x', 100) FROM generate_series(1, 10) g", "PREPARE TRANSACTION 'small$_'") } 1 .. $small);
decoded();
# the decoder rests: all of it is on disk
wait_until($node, "SELECT log_disk_bytes > 0 AND log_memory_bytes = 0 FROM pg_stat_ivm_worker WHERE worker_type = 'decoder'", 'what is open lies on disk');
cmp_ok(files(), '<=', 3 * $large, 'small ones share files');
script(map { $_ % 5 == 0 ? "ROLLBACK PREPARED 'small$_'" : "COMMIT PREPARED 'small$_'" } 1 .. $small);
is_exact($node, 'v', 'exact when small ones have ended');
script(map { $_ % 5 == 0 ? "ROLLBACK PREPARED 'large$_'" : "COMMIT PREPARED 'large$_'" } reverse 1 .. $large);
is_exact($node, 'v', 'exact when all have ended');
is((worker_pids($node, 'decoder'))[0], $pid, 'by the same decoder');

# ---- subtransactions, in a table that a view reads and in one that none does ----

foreach my $table ('t (id, filler)', 'nobody')
{
	$node->safe_psql('postgres', "DO \$\$ BEGIN FOR i IN 1..60 LOOP BEGIN INSERT INTO $table SELECT g, repeat('x', 100) FROM generate_series(1, 4200) g; EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END \$\$");
	decoded();
}
$node->safe_psql('postgres', "DO \$\$ BEGIN FOR i IN 1..10000 LOOP BEGIN INSERT INTO t VALUES (i, i % 10, 'x'); EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END \$\$");
decoded();
is_exact($node, 'v', 'exact with subtransactions');
is_value($node, 'SELECT spill_bytes FROM pg_stat_replication_slots', 0, 'nothing went to files of the server\'s');
diag("decoder: $base bytes at first, $most at most");
# its share, 450 bytes for each subtransaction, 700 for each open transaction
cmp_ok($most - $base, '<', (1 + 8) * 1024 * 1024 + 10_000 * 450, 'the decoder took no more than its share and 8 MB') if kernel_knows();

wait_until($node, "SELECT log_disk_bytes = 0 FROM pg_stat_ivm_worker WHERE worker_type = 'decoder'", 'nothing on disk');
wait_until_true(sub { return files() == 0 }, 'files to go');
pass('no file is left');

$node->stop;
done_testing();
