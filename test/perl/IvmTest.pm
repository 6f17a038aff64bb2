# What the tests of crashes, restarts and lost things share.
#
# The judge is the same everywhere: after ivm.sync() a view is compared with
# its query, as multisets and both ways, in one statement.  Nothing here
# sleeps for luck: whoever waits, waits for a condition, with a deadline.

package IvmTest;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(
  new_node kill_server connection leave set_points forget_points reload wait_for_point
  worker_pids wait_until wait_until_true wait_for_end kill_held kill_process terminate_process wait_for_restart
  sync is_exact are_exact is_value rebuilds wait_for_state make_sales change_sales
  sales_views slot_names wait_for_no_workers write_metadata patience contexts lose_slot
  exact_under_settings exact_after_kills wal_end wait_until_decoded streamed
);

my $deadline = $PostgreSQL::Test::Utils::timeout_default;

# A running server with the library; further lines of configuration follow.
sub new_node
{
	my ($name, @lines) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init;
	$node->append_conf('postgresql.conf', join("\n", <<'EOC', @lines, $ENV{CHECK_SETTINGS} // '') . "\n");
shared_preload_libraries = 'ivm_ext'
wal_level = logical
max_replication_slots = 8
max_wal_senders = 4
max_worker_processes = 24
max_prepared_transactions = 4
restart_after_crash = on
log_statement = ddl
ivm.naptime = 1s
EOC
	$node->start;
	return $node;
}

# kill -9 of the postmaster.  Its children end by themselves within a moment;
# until they are gone the shared memory is taken.
sub kill_server
{
	my ($node) = @_;
	my @pids = split /\n/, $node->safe_psql('postgres', 'SELECT pid FROM pg_stat_activity');

	$node->kill9;
	wait_for_end(@pids);
	return;
}

# A session of its own, which goes on after errors.
sub connection
{
	my ($node, $dbname) = @_;
	return $node->background_psql($dbname || 'postgres', on_error_stop => 0);
}

# Ends a session whose server is gone; it has most often noticed by itself.
sub leave
{
	my ($session) = @_;
	eval { $session->quit };
	return;
}

# ---- waiting ----

# Times that tests allow on a quiet machine are to be multiplied by this: a server with
# assertions and sanitizers is slower.
sub patience
{
	return $ENV{CHECK_PATIENCE} || 1;
}

# Waits until a query that yields one boolean says true.  The query may fail
# meanwhile, since the server may be restarting.
sub wait_until
{
	my ($node, $query, $what, $dbname) = @_;
	my $end = time + $deadline;
	my ($stdout, $stderr);

	while (time < $end)
	{
		# a psql that cannot connect ends without having read the query
		undef $stdout;
		eval { $node->psql($dbname || 'postgres', $query, stdout => \$stdout, stderr => \$stderr); 1; }
		  or $@ =~ /Broken pipe/ or die $@;
		return 1 if defined $stdout && $stdout eq 't';
		usleep(20_000);
	}
	diag("waited in vain: $what; the last answer was: "
		  . ($stdout // '') . ($stderr // ''));
	diag($node->safe_psql($dbname || 'postgres', 'SELECT * FROM pg_stat_ivm_worker'));
	die "waited in vain: $what";
}

# The end of the WAL until now, which is flushed.
sub wal_end
{
	my ($node) = @_;
	# a commit flushes it
	return (split /\n/, $node->safe_psql('postgres', q{SELECT pg_logical_emit_message(true, 't', ''); SELECT pg_current_wal_flush_lsn()}))[1];
}

# Waits until what was written until now is decoded.
sub wait_until_decoded
{
	my ($node) = @_;
	my $end = wal_end($node);
	wait_until($node, "SELECT position_lsn >= '$end' FROM pg_stat_ivm_worker WHERE worker_type = 'decoder'", 'it is decoded');
	return;
}

# Runs statements in a session, and waits until rows of its open transaction were decoded.
sub streamed
{
	my ($node, $session, @statements) = @_;
	my $before = $node->safe_psql('postgres', 'SELECT stream_count FROM pg_stat_replication_slots');

	$session->query_safe($_) foreach @statements;
	wal_end($node);
	wait_until($node, "SELECT stream_count > $before FROM pg_stat_replication_slots", 'rows were decoded while the transaction is open');
	return;
}

# Waits until a function says true.
sub wait_until_true
{
	my ($function, $what) = @_;
	my $end = time + $deadline;

	until ($function->())
	{
		die "waited in vain: $what" if time > $end;
		usleep(20_000);
	}
	return;
}

# Waits until a process that we do not own the parent of is gone.
sub wait_for_end
{
	my (@pids) = @_;
	my $end = time + $deadline;

	foreach my $pid (@pids)
	{
		while (kill(0, $pid))
		{
			die "process $pid does not end" if time > $end;
			usleep(10_000);
		}
	}
	return;
}

# ---- debug points ----

# Arms points (a list as in ivm.debug_points; empty: none), now.
sub set_points
{
	my ($node, $points) = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM SET ivm.debug_points = '$points'");
	reload($node);
	return;
}

# The server's next start will have no points; those armed stay until then.
sub forget_points
{
	my ($node) = @_;
	$node->safe_psql('postgres', 'ALTER SYSTEM RESET ivm.debug_points');
	return;
}

# Makes all processes read the configuration.  The postmaster does so in its own time and tells
# the others then; a new session is told when it did.
sub reload
{
	my ($node) = @_;
	my $before = $node->safe_psql('postgres', 'SELECT pg_conf_load_time() FROM pg_reload_conf()');

	wait_until($node, "SELECT pg_conf_load_time() > '$before'", 'the configuration is read');
	return;
}

# Waits until some process is held at the point; returns its pid.
sub wait_for_point
{
	my ($node, $point) = @_;
	wait_until($node, "SELECT count(*) > 0 FROM pg_stat_ivm_worker WHERE state = '$point'",
		"a process at $point");
	return $node->safe_psql('postgres',
		"SELECT min(pid) FROM pg_stat_ivm_worker WHERE state = '$point'");
}

# ---- processes ----

# The pids of our processes of a type (decoder, apply, builder, launcher).
sub worker_pids
{
	my ($node, $type, $dbname) = @_;
	my $where = $dbname ? "AND datname = '$dbname'" : '';
	return split /\n/,
	  $node->safe_psql('postgres',
		"SELECT pid FROM pg_stat_ivm_worker WHERE worker_type = '$type' $where ORDER BY pid");
}

# kill -9.  The postmaster then restarts everybody; this returns when sessions
# are accepted again.
sub kill_process
{
	my ($node, $pid) = @_;
	my $before = $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'");

	kill('KILL', $pid) or die "cannot kill $pid: $!";
	wait_until($node, "SELECT pid <> $before FROM pg_stat_activity WHERE backend_type = 'checkpointer'",
		'the server has restarted all processes');
	return;
}

# Asks one process to end, and waits for that.
sub terminate_process
{
	my ($node, $pid) = @_;
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	wait_for_end($pid);
	return;
}

# Kills who is held at a point: the process, or with $all the whole server.  Held again when it comes back,
# a process is let go; a server starts without points.
sub kill_held
{
	my ($node, $point, $pid, $all) = @_;

	forget_points($node);
	if ($all)
	{
		kill_server($node);
		$node->start;
	}
	else
	{
		kill_process($node, $pid);
		wait_for_point($node, $point);
		reload($node);
	}
	return;
}

# Waits until processes of a type run that are none of these.
sub wait_for_restart
{
	my ($node, $type, @old) = @_;
	my $list = join(', ', -1, @old);
	wait_until($node,
		"SELECT count(*) > 0 FROM pg_stat_ivm_worker WHERE worker_type = '$type' AND pid NOT IN ($list)",
		"a new $type");
	return;
}

# Waits until nothing of ours works in a database.
sub wait_for_no_workers
{
	my ($node, $dbname) = @_;
	wait_until($node,
		"SELECT count(*) = 0 FROM pg_stat_ivm_worker WHERE datname = '$dbname'",
		"no processes in $dbname");
	return;
}

sub slot_names
{
	my ($node) = @_;
	return $node->safe_psql('postgres', 'SELECT slot_name FROM pg_replication_slots ORDER BY 1');
}

# ---- judging ----

sub sync
{
	my ($node, $dbname) = @_;
	# the launcher may still be on its way after a restart
	$node->safe_psql($dbname || 'postgres', "SELECT ivm.sync(timeout => '${deadline}s')");
	return;
}

# How many rows a view lacks and how many it has too much, as "missing/extra".
sub difference
{
	my ($node, $view, $dbname) = @_;
	my $query = $node->safe_psql($dbname, "SELECT rtrim(pg_get_viewdef('$view'), ';')");

	return $node->safe_psql(
		$dbname, "WITH wanted AS NOT MATERIALIZED ($query)
			SELECT (SELECT count(*) FROM (TABLE wanted EXCEPT ALL TABLE $view) m) || '/' ||
			(SELECT count(*) FROM (TABLE $view EXCEPT ALL TABLE wanted) e)");
}

# A test: after a sync of the view it equals its query.
sub is_exact
{
	my ($node, $view, $name, $dbname) = @_;

	$dbname ||= 'postgres';
	$node->safe_psql($dbname, "SELECT ivm.sync('$view', '${deadline}s')");
	my $difference = difference($node, $view, $dbname);
	my $good = is($difference, '0/0', $name);
	diag($node->safe_psql($dbname, "SELECT * FROM pg_stat_ivm WHERE relid = '$view'::regclass"))
	  unless $good;
	return $good;
}

# The same for all incremental views of a database, as one test.
sub are_exact
{
	my ($node, $name, $dbname) = @_;

	$dbname ||= 'postgres';
	sync($node, $dbname);
	# one program and one session for all of them
	my @lines = split /\n/, $node->safe_psql($dbname, <<'EOS');
SELECT format('WITH wanted AS NOT MATERIALIZED (%s) SELECT %L, (SELECT count(*) FROM (TABLE wanted EXCEPT ALL TABLE %3$s) m) || ''/'' ||
	(SELECT count(*) FROM (TABLE %3$s EXCEPT ALL TABLE wanted) e)', rtrim(pg_get_viewdef(relid), ';'), relid::regclass, relid::regclass)
FROM pg_stat_ivm ORDER BY relid::regclass
\gexec
EOS
	my @bad = map { s/\|/ lacks\/has too much /r } grep { !m{\|0/0$} } @lines;
	my $states = $node->safe_psql($dbname,
		"SELECT DISTINCT state FROM pg_stat_ivm ORDER BY 1");
	push @bad, "states: $states" if $states ne 'active';
	push @bad, 'no views' unless @lines;
	my $good = is(join("\n", @bad), '', $name);
	diag($node->safe_psql($dbname, 'SELECT * FROM pg_stat_ivm')) unless $good;
	return $good;
}

# A test: the one value that a query yields.
sub is_value
{
	my ($node, $query, $value, $name, $dbname) = @_;
	return is($node->safe_psql($dbname || 'postgres', $query), $value, $name);
}

# How often the server's log speaks of a rebuild, from an offset on.
sub rebuilds
{
	my ($node, $offset) = @_;
	my $log = slurp_file($node->logfile, $offset || 0);
	my @found = $log =~ /is going to be rebuilt/g;
	return scalar @found;
}

sub wait_for_state
{
	my ($node, $view, $state, $dbname) = @_;
	wait_until($node, "SELECT state = '$state' FROM pg_stat_ivm WHERE relid = '$view'::regclass",
		"$view is $state", $dbname);
	return;
}

# Changes ivm.view or ivm.applied, which no statement can while it is what it is.
sub write_metadata
{
	my ($node, $table, $statement, $dbname) = @_;
	$node->safe_psql($dbname || 'postgres', <<"EOS");
BEGIN;
SET LOCAL allow_system_table_mods = on;
UPDATE pg_class SET relkind = 'r', relhasrules = false WHERE oid = '$table'::regclass;
$statement;
UPDATE pg_class SET relkind = 'm', relhasrules = true WHERE oid = '$table'::regclass;
COMMIT;
EOS
	return;
}

# ---- views through changes, whatever forces what is rare ----

# Makes tables and views and changes them step by step: as it is by default, with everything in files, and while
# allocations fail.  make() makes them, check(name) looks at them after each step, first() at the beginning,
# last(setting) at the end; transactions are pairs of name and statements; tables are dropped then.
sub exact_under_settings
{
	my ($node, %of) = @_;
	my $first = $of{first};
	my $check = $of{check} // sub { are_exact($node, $_[0]) };

	foreach my $how ('', "ivm.debug_spill = 'log', 'zset', 'aggregate', 'lookup', 'output'", 'ivm.debug_alloc_failures = 0.2')
	{
		my $begin = -s $node->logfile;

		if ($how ne '')
		{
			$node->safe_psql('postgres', "ALTER SYSTEM SET $how");
			reload($node);
		}
		$of{make}->();
		$check->("population, $how");
		$first->() if defined $first;
		undef $first;
		foreach (@{ $of{transactions} })
		{
			my ($name, $statements) = @$_;

			$node->safe_psql('postgres', "BEGIN; $statements; COMMIT;");
			$check->("$name, $how");
		}
		is(rebuilds($node, $begin), 0, "by deltas, $how");
		unlike(slurp_file($node->logfile, $begin), qr/WARNING/, "no file was left open, $how");
		$of{last}->($how) if defined $of{last};
		$node->safe_psql('postgres', "DROP TABLE $of{tables} CASCADE");
		next if $how eq '';
		$node->safe_psql('postgres', 'ALTER SYSTEM RESET ' . (split / /, $how)[0]);
		reload($node);
	}
	return;
}

# Kills the worker, or the whole server, on the way of a change, which is a function of the number of the kill; all is
# done in the end, and by deltas.
sub exact_after_kills
{
	my ($node, %of) = @_;
	my $check = $of{check} // sub { are_exact($node, $_[0]) };
	my $begin = -s $node->logfile;
	my $kills = 0;

	foreach my $point (@{ $of{points} // [ 'apply-before', 'apply-after' ] })
	{
		foreach my $victim ('the process', 'the postmaster')
		{
			set_points($node, "$point=wait");
			$node->safe_psql('postgres', $of{change}->($kills++));
			my $pid = wait_for_point($node, $point);
			$of{meanwhile}->() if defined $of{meanwhile};
			kill_held($node, $point, $pid, $victim eq 'the postmaster');
			$check->("exact after $victim was killed at $point");
		}
	}
	is(rebuilds($node, $begin), 0, 'no view had to be rebuilt after a kill');
	return;
}

# ---- tables with everything that can go wrong ----

# A fact table, a dimension, and views of each kind: groups, a join in groups, a
# join that keeps its rows, rows without a key that come several times, a
# recomputed one, and a view on a view.
sub make_sales
{
	my ($node, $dbname, $rows) = @_;

	$dbname ||= 'postgres';
	$rows ||= 2000;
	$node->safe_psql($dbname, <<"EOS");
CREATE EXTENSION IF NOT EXISTS ivm_ext;
CREATE TABLE region (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE sale (id int PRIMARY KEY, region int, amount numeric NOT NULL, note text);
CREATE INDEX ON sale (region);
INSERT INTO region SELECT i, 'region ' || i FROM generate_series(1, 20) i;
INSERT INTO sale SELECT i, 1 + i % 25, i % 100, 'note ' || i % 7 FROM generate_series(1, $rows) i;
EOS
	$node->safe_psql($dbname, $_) foreach (
		'CREATE INCREMENTAL VIEW per_region AS SELECT region, count(*) AS n, sum(amount) AS total FROM sale GROUP BY region',
		'CREATE INCREMENTAL VIEW per_name AS SELECT r.name, count(*) AS n, sum(s.amount) AS total FROM sale s JOIN region r ON r.id = s.region GROUP BY r.name',
		'CREATE INCREMENTAL VIEW listed AS SELECT s.id, r.name, s.amount FROM sale s JOIN region r ON r.id = s.region WHERE s.amount < 50',
		'CREATE INCREMENTAL VIEW notes AS SELECT note, amount FROM sale WHERE amount < 10',
		'CREATE INCREMENTAL VIEW on_view AS SELECT n, count(*) AS regions FROM per_region GROUP BY n',
		'CREATE INCREMENTAL VIEW largest AS SELECT max(amount) AS amount, count(*) AS n FROM sale');
	return;
}

sub sales_views
{
	return qw(per_region per_name listed notes on_view largest);
}

my $change = 0;

# A transaction with all kinds of changes, another one each time.  Returns up to
# where the WAL is flushed when it has committed.
sub change_sales
{
	my ($node, $dbname, $rows) = @_;
	my $from = 1_000_000 + 1000 * ++$change;

	$rows ||= 50;
	return $node->safe_psql($dbname || 'postgres', <<"EOS");
BEGIN;
INSERT INTO sale SELECT $from + i, 1 + i % 25, (i + $change) % 100, 'note ' || i % 7 FROM generate_series(1, $rows) i;
UPDATE sale SET amount = amount + 1, region = 1 + (region + 1) % 25 WHERE id % 40 = $change % 40;
DELETE FROM sale WHERE id % 97 = $change % 97;
UPDATE region SET name = 'region ' || id || ' as of $change' WHERE id = 1 + $change % 20;
COMMIT;
SELECT pg_current_wal_flush_lsn();
EOS
}

# Bytes in each memory context of a process, all of one name together.
sub contexts
{
	my ($node, $pid) = @_;
	my $from = -s $node->logfile;

	$node->safe_psql('postgres', "SELECT pg_log_backend_memory_contexts($pid)");
	$node->wait_for_log(qr/\[$pid\].*Grand total/, $from);
	my $log = slurp_file($node->logfile, $from);
	my %bytes;
	$bytes{$1} += $2 while $log =~ /\[$pid\][^\n]*level: \d+; ([^:\n]*): (\d+) total/g;
	return \%bytes;
}

# Drops a slot that is in use, faster than the decoder comes back, and runs further
# statements in that transaction.
sub lose_slot
{
	my ($node, $slot, $then) = @_;

	$then //= '';
	$node->safe_psql('postgres', <<"EOS");
DO \$\$
DECLARE
	deadline timestamptz := clock_timestamp() + interval '20s';
BEGIN
	LOOP
		BEGIN
			PERFORM pg_terminate_backend(active_pid) FROM pg_replication_slots
				WHERE slot_name = '$slot' AND active_pid IS NOT NULL;
			PERFORM pg_drop_replication_slot('$slot');
			EXIT;
		EXCEPTION WHEN object_in_use OR undefined_object THEN
			IF clock_timestamp() > deadline THEN
				RAISE;
			END IF;
		END;
	END LOOP;
	$then
END
\$\$;
EOS
	return;
}

1;
