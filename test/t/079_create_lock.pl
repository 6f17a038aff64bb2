# REPLICA IDENTITY FULL takes an exclusive lock: nobody queues behind a statement that waits for it,
# the client is told whom it waits for, and a cancel leaves nothing.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);
use IvmTest;

my $node = new_node('create_lock');
$node->safe_psql('postgres', <<'EOS');
CREATE EXTENSION ivm_ext;
CREATE TABLE first (id int);
INSERT INTO first SELECT generate_series(1, 10);
EOS
# the slot is there from now on
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW first_v AS SELECT count(*) AS n FROM first');

# The longest of some reads of the tables, in seconds.
sub longest_read
{
	my ($session, @tables) = @_;
	my $longest = 0;

	foreach (1 .. 15)
	{
		foreach my $table (@tables)
		{
			my $start = time;
			$session->query_safe("SELECT count(*) FROM $table");
			$longest = time - $start if time - $start > $longest;
		}
		usleep(100_000);
	}
	return $longest;
}

my $number = 0;
my $reader = connection($node);

# Runs a statement while somebody has written to the last of the tables and stays in his
# transaction.
sub try_statement
{
	my ($name, $statement, $tables, $condition) = @_;
	my $writer = connection($node);
	my $creator = connection($node);
	my $writer_pid = $writer->query_safe('SELECT pg_backend_pid()');
	my $creator_pid = $creator->query_safe('SELECT pg_backend_pid()');
	my $last = $$tables[-1];

	$writer->query_safe("BEGIN; INSERT INTO $last VALUES (1)");
	$creator->{stdin} .= "$statement;\n\\echo the end\n";
	$creator->{run}->pump_nb;
	wait_until_true(
		sub {
			$creator->{run}->pump_nb;
			return $creator->{stderr} =~ /NOTICE:  waiting for a lock on "[a-z_0-9]+"\nDETAIL:  Process $writer_pid has it in use/;
		},
		"$name: the client is told whom it waits for");
	cmp_ok(longest_read($reader, @$tables), '<', 1, "$name: readers do not queue behind it");
	wait_until($node, "SELECT backend_xid IS NULL FROM pg_stat_activity WHERE pid = $creator_pid", "$name holds no xid between its tries")
	  if $statement !~ /BEGIN/;
	$writer->query_safe('COMMIT');
	wait_until_true(sub { $creator->{run}->pump_nb; return $creator->{stdout} =~ /the end/ }, "$name: the statement ends");
	$writer->quit;
	$creator->quit;
	is_value($node, $condition, 't', "$name: and has done its work");
	return;
}

sub make_table
{
	my ($name, $more) = @_;
	$node->safe_psql('postgres', "CREATE TABLE $name (id int)" . ($more // ''));
	return $name;
}
my $maintained = q{SELECT state = 'active' FROM pg_stat_ivm WHERE relname = };

make_table('t1');
try_statement('CREATE', 'CREATE INCREMENTAL VIEW v1 AS SELECT count(*) AS n FROM t1', ['t1'], "$maintained 'v1'");
make_table('t2');
make_table('t3');
try_statement('two tables', 'CREATE MATERIALIZED VIEW v2 USING incremental AS SELECT count(*) AS n FROM t2 JOIN t3 USING (id)', [ 't2', 't3' ], "$maintained 'v2'");
make_table('t4');
make_table('t5');
try_statement('a block', "BEGIN;\nCREATE MATERIALIZED VIEW v3 USING incremental AS SELECT count(*) AS n FROM t4 JOIN t5 USING (id);\nCOMMIT",
	[ 't4', 't5' ], q{SELECT relreplident = 'f' FROM pg_class WHERE relname = 't5'});
make_table('t6', ' PARTITION BY LIST (id)');
$node->safe_psql('postgres', 'CREATE TABLE t6_1 PARTITION OF t6 FOR VALUES IN (1); CREATE TABLE t6_2 PARTITION OF t6 DEFAULT');
try_statement('a partition', 'CREATE INCREMENTAL VIEW v6 AS SELECT count(*) AS n FROM t6', ['t6_1'], "$maintained 'v6'");
make_table('t7');
$node->safe_psql('postgres', 'CREATE TABLE t7_child () INHERITS (t7)');
try_statement('a child', 'CREATE INCREMENTAL VIEW v7 AS SELECT count(*) AS n FROM t7', [ 't7', 't7_child' ], "$maintained 'v7'");
make_table('t8');
$node->safe_psql('postgres', 'CREATE MATERIALIZED VIEW v8 AS SELECT count(*) AS n FROM t8');
try_statement('SET ACCESS METHOD', 'ALTER MATERIALIZED VIEW v8 SET ACCESS METHOD incremental', ['t8'], "$maintained 'v8'");
make_table('t9');
try_statement('WITH NO DATA', 'CREATE MATERIALIZED VIEW v9 USING incremental AS SELECT count(*) AS n FROM t9 WITH NO DATA', ['t9'],
	q{SELECT relreplident = 'f' FROM pg_class WHERE relname = 't9'});
$node->safe_psql('postgres', 'CREATE TABLE t10 (id int)');
$node->safe_psql('postgres', 'CREATE MATERIALIZED VIEW v10 USING incremental AS SELECT count(*) AS n FROM t10 WITH NO DATA');
$node->safe_psql('postgres', 'DROP MATERIALIZED VIEW v10; ALTER TABLE t10 REPLICA IDENTITY DEFAULT');
$node->safe_psql('postgres', q{SET check_function_bodies = off; CREATE MATERIALIZED VIEW v10 USING incremental AS SELECT count(*) AS n FROM t10 WITH NO DATA});
try_statement('REFRESH', 'REFRESH MATERIALIZED VIEW v10', ['t10'], "$maintained 'v10'");

# ---- no lock where it is FULL already ----

my $writer = connection($node);
$writer->query_safe('BEGIN; INSERT INTO t1 VALUES (1)');
$node->safe_psql('postgres', q{SET statement_timeout = '60s'; CREATE INCREMENTAL VIEW v1_again AS SELECT sum(id) AS n FROM t1});
$node->safe_psql('postgres', q{SET statement_timeout = '60s'; BEGIN; CREATE MATERIALIZED VIEW v1_block USING incremental AS SELECT sum(id) AS n FROM t1; COMMIT});
pass('a table that has the identity is not locked');
$writer->query_safe('COMMIT');

# ---- timeouts and cancels ----

make_table('c1');
make_table('c2');
$writer->query_safe('BEGIN; INSERT INTO c2 VALUES (1)');
foreach my $limit ('statement_timeout', 'lock_timeout')
{
	foreach my $form ('CREATE INCREMENTAL VIEW c AS SELECT count(*) AS n FROM c1 JOIN c2 USING (id)',
		'BEGIN; CREATE MATERIALIZED VIEW c USING incremental AS SELECT count(*) AS n FROM c1 JOIN c2 USING (id); COMMIT')
	{
		my ($ret, $stdout, $stderr) = (0, '', '');
		my $start = time;
		foreach my $part ("SET $limit = '700ms'")
		{
			my $caller = connection($node);
			$caller->query_safe($part);
			$caller->{stdin} .= "$form;\n\\echo the end\n";
			wait_until_true(sub { $caller->{run}->pump_nb; return $caller->{stdout} =~ /the end/ }, 'it ends');
			$stderr = $caller->{stderr};
			$caller->quit;
		}
		my $what = $limit eq 'lock_timeout' ? 'lock' : 'statement';
		like($stderr, qr/canceling statement due to $what timeout/, "$limit ends it: " . substr($form, 0, 6));
		cmp_ok(time - $start, '<', 5, 'in time');
		is_value($node, q{SELECT count(*) FROM pg_class WHERE relname = 'c'}, '0', 'nothing is left');
		is_value($node, 'SELECT count(*) FROM ivm.view WHERE relid NOT IN (SELECT oid FROM pg_class)', '0', 'nor in our tables');
	}
}
$writer->query_safe('COMMIT');

# ---- two statements, each with what the other one wants ----

make_table('d1');
make_table('d2');
my @sessions = map { connection($node) } (1, 2);
$sessions[0]->query_safe('BEGIN; INSERT INTO d1 VALUES (1)');
$sessions[1]->query_safe('BEGIN; INSERT INTO d2 VALUES (1)');
$sessions[0]->{stdin} .= "CREATE MATERIALIZED VIEW on_d2 USING incremental AS SELECT count(*) AS n FROM d2;\n\\echo the end\n";
$sessions[1]->{stdin} .= "CREATE MATERIALIZED VIEW on_d1 USING incremental AS SELECT count(*) AS n FROM d1;\n\\echo the end\n";
wait_until_true(
	sub {
		$_->{run}->pump_nb foreach @sessions;
		return $sessions[0]->{stderr} =~ /deadlock detected/ || $sessions[1]->{stderr} =~ /deadlock detected/;
	},
	'a deadlock is found');
pass('two blocks do not wait for each other for ever');
wait_until_true(
	sub {
		$_->{run}->pump_nb foreach @sessions;
		return $sessions[0]->{stdout} =~ /the end/ && $sessions[1]->{stdout} =~ /the end/;
	},
	'both statements end');
$_->quit foreach (@sessions, $reader, $writer);
$node->safe_psql('postgres', 'REFRESH MATERIALIZED VIEW v9');
are_exact($node, 'exact at the end');
$node->stop;
done_testing();
