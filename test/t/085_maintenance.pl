# What an administrator does at night: REINDEX in all its forms, also one that is
# stopped in the middle, VACUUM FULL, CLUSTER, pg_amcheck, and indexes of his own
# on what belongs to the extension.  The views go on, and are not rebuilt.
#
# kills: nothing

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $node = new_node('maintained', 'ivm.apply_workers = 1');

make_sales($node, 'postgres', 6000);
$node->safe_psql('postgres', <<'EOS');
CREATE EXTENSION amcheck;
CREATE TABLE wide (id int PRIMARY KEY, k int, pad char(200) DEFAULT '');
INSERT INTO wide SELECT i, i % 700 FROM generate_series(1, 6000) i;
EOS
$node->safe_psql('postgres', $_) foreach (
	'CREATE INCREMENTAL VIEW shared AS SELECT w.id, s.note FROM wide w JOIN sale s ON s.amount = w.k',
	'CREATE INCREMENTAL VIEW per_k AS SELECT k, count(*) AS n FROM wide GROUP BY k');
is_value($node, q{SELECT count(*) > 0 FROM ivm.view WHERE kind = 'a'}, 't', 'there is a shared arrangement');

my $invalid = q{SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE NOT indisvalid AND indisready};

# Two transactions: so the first one's row versions are the second one's to find.
sub change
{
	change_sales($node);
	$node->safe_psql('postgres', 'UPDATE wide SET k = k + 1 WHERE id % 7 = 3; DELETE FROM wide WHERE id % 501 = 500');
	change_sales($node);
	return;
}

sub is_well
{
	my ($name) = @_;
	change();
	are_exact($node, $name);
	return;
}

# ---- REINDEX CONCURRENTLY, which waits for an old snapshot with a second index made ----

my $reader = connection($node);
my $admin = connection($node);
my $pid = $admin->query_safe('SELECT pg_backend_pid()');

sub begin_reindex
{
	my ($statement) = @_;
	$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM region');
	$admin->query_until(qr/begun/, "\\echo begun\n$statement;\n");
	wait_until($node, "SELECT ($invalid) > 0", "$statement has a second index");
	return;
}

sub end_reindex
{
	$reader->query_safe('COMMIT');
	$admin->query('SELECT 1');
	$admin->{stderr} = '';
	return;
}

foreach my $what ('SCHEMA CONCURRENTLY ivm_state', 'SCHEMA CONCURRENTLY ivm', 'TABLE CONCURRENTLY notes', 'TABLE CONCURRENTLY per_name')
{
	begin_reindex("REINDEX $what");
	is_well("while REINDEX $what");
	end_reindex();
	is_value($node, $invalid, 0, 'all indexes are valid again');
	is_well("after REINDEX $what");
}
$node->command_ok([ 'pg_amcheck', '--heapallindexed', 'postgres' ], 'indexes that were made meanwhile have every entry');

# stopped in the middle, it leaves an index that may not be searched and has to be kept
foreach my $what ('SCHEMA CONCURRENTLY ivm_state', 'SCHEMA CONCURRENTLY ivm', 'TABLE CONCURRENTLY notes', 'TABLE CONCURRENTLY per_name')
{
	begin_reindex("REINDEX $what");
	$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
	end_reindex();
	is_value($node, "SELECT ($invalid) > 0", 't', "REINDEX $what has left an index");
	is_well('which harms nobody');
}

# ---- indexes that nobody asked for ----

my @state = split /\n/, $node->safe_psql('postgres', q{SELECT oid::regclass FROM pg_class WHERE relnamespace = 'ivm_state'::regnamespace AND relkind = 'm'});
foreach my $table (@state)
{
	$node->safe_psql('postgres', "CREATE INDEX ON $table (hash, image)");
	$node->safe_psql('postgres', "CREATE INDEX ON $table (weight, (hash % 10)) WHERE image <> 0 OR length(row) > 3");
}
$node->safe_psql('postgres', 'CREATE INDEX ON ivm.applied (lsn); CREATE INDEX ON ivm.view ((upper(state::text)), kind) WHERE reason IS NULL');
is_well('indexes of an administrator');
$node->safe_psql('postgres', 'REFRESH MATERIALIZED VIEW per_region; CREATE INCREMENTAL VIEW late AS SELECT count(*) FROM wide');
is_well('also for what builds views');
$node->command_ok([ 'pg_amcheck', '--heapallindexed', 'postgres' ], 'they have every entry');
$node->safe_psql('postgres', 'DROP INCREMENTAL VIEW late');

# any of two that fit can go, the last one cannot
my ($ret, $stdout, $stderr);
$node->safe_psql('postgres', "DROP INDEX $state[0]_hash_image_idx");
is_well('without the first index of a state table');
my $last = $node->safe_psql('postgres', "SELECT indexrelid::regclass FROM pg_index WHERE indrelid = '$state[0]'::regclass AND indisvalid AND indkey = '1 2'");
foreach my $index ($last, 'ivm.view_pkey', 'ivm.applied_pkey')
{
	($ret, $stdout, $stderr) = $node->psql('postgres', "DROP INDEX $index");
	like($stderr, qr/cannot alter relation/, "$index is needed");
}
($ret, $stdout, $stderr) = $node->psql('postgres', 'ALTER INDEX ivm.applied_pkey RENAME TO a');
like($stderr, qr/cannot alter relation/, 'and keeps its name');

# ---- the tools ----

my $rebuilds = $node->safe_psql('postgres', 'SELECT sum(rebuilds) FROM pg_stat_ivm');
$node->safe_psql('postgres', "CLUSTER $state[0] USING " . ($last =~ s/.*\.//r) . '; CLUSTER per_region USING per_region_ivm_key; ALTER MATERIALIZED VIEW ivm.applied CLUSTER ON applied_pkey');
foreach my $command (
	[ 'reindexdb', '--all' ], [ 'reindexdb', '--all', '--concurrently' ], [ 'reindexdb', '--system', 'postgres' ],
	[ 'vacuumdb', '--all', '-z' ], [ 'vacuumdb', '--all', '-f' ], [ 'vacuumdb', '--all', '-F', '--jobs=2' ], [ 'clusterdb', '--all' ])
{
	$node->command_ok($command, "@$command");
	is_well("after @$command");
}
is_value($node, 'SELECT sum(rebuilds) FROM pg_stat_ivm', $rebuilds, 'nothing of that was a reason to rebuild');
$node->command_ok([ 'pg_amcheck', '--all', '--heapallindexed', '--rootdescend' ], 'pg_amcheck');

# ---- one view's state table is locked: the others go on ----

my $own = $node->safe_psql('postgres', q{SELECT oid::regclass FROM pg_class WHERE relname ~ ('^v' || 'per_k'::regclass::oid || '_') AND relkind = 'm'});
$admin->query_safe("BEGIN; REINDEX TABLE $own");
change();
is_exact($node, $_, "$_ goes on") foreach ('per_region', 'notes');
wait_for_state($node, 'per_k', 'waiting for lock');
$admin->query_safe('COMMIT');
are_exact($node, 'and so does the one that waited');

leave($_) foreach ($reader, $admin);
$node->stop;
done_testing();
