# A standby shows views: as old as they are, and ivm.sync() waits for what is
# here to be replayed.
#
# kills: nothing

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);
use IvmTest;

my $primary = new_node('primary', 'autovacuum = off', 'ivm.apply_workers = 1', 'hot_standby = on');
$primary->safe_psql('postgres', <<'EOS');
CREATE EXTENSION ivm_ext;
CREATE TABLE base (a int);
CREATE INCREMENTAL VIEW v AS SELECT count(*) AS n FROM public.base;
CREATE INCREMENTAL VIEW w AS SELECT sum(1 / a) AS n FROM public.base;
EOS

my $standby = PostgreSQL::Test::Cluster->new('standby');
$primary->backup('copy');
$standby->init_from_backup($primary, 'copy', has_streaming => 1);
$standby->start;

sub is_shown
{
	my ($value, $name) = @_;
	is($standby->safe_psql('postgres', 'SELECT n FROM v'), $value, $name);
	return;
}

# Changes the table, waits for the view on the primary and for the WAL on the standby.
sub change
{
	my ($statement) = @_;
	$primary->safe_psql('postgres', $statement);
	my $lsn = $primary->safe_psql('postgres', q{SELECT ivm.sync('v'); SELECT pg_switch_wal(); SELECT pg_current_wal_lsn()});
	($lsn) = (split /\n/, $lsn)[-1];
	wait_until($standby, "SELECT pg_last_wal_receive_lsn() >= '$lsn'", 'the standby has got it');
	return;
}

change('INSERT INTO base VALUES (1)');
$standby->safe_psql('postgres', q{SELECT ivm.sync('v'); SELECT ivm.sync()});
is_shown(1, 'what the primary had applied is there after a sync');
is($standby->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_ivm WHERE state = 'standby' AND lag_time IS NOT NULL}), 2,
	'the state says that it is a standby');

# replay stands still
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
wait_until($standby, q{SELECT pg_get_wal_replay_pause_state() = 'paused'}, 'replay is paused');
my $before = $primary->safe_psql('postgres', 'SELECT clock_timestamp()');
change('INSERT INTO base VALUES (1)');
my $commit = $primary->safe_psql('postgres', 'SELECT clock_timestamp()');
my ($ret, $stdout, $stderr) = $standby->psql('postgres', q{SELECT ivm.sync('v', '300 ms')});
like($stderr, qr/incremental view "v" did not reach the current position in time/, 'a sync does not wait for ever');
like($stderr, qr/Recovery is paused on this standby/, 'and says why');
is_shown(1, 'the view is as old as that');
usleep(1_000_000);
is($standby->safe_psql('postgres', "SELECT bool_and(lag_time >= now() - '$commit'::timestamptz) FROM pg_stat_ivm"), 't',
	'so is its lag');
my $session = $standby->background_psql('postgres');
$session->query_until(qr/started/, "\\echo started\nSELECT ivm.sync('v');\n\\echo ended\n");
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_resume()');
$session->quit;
is_shown(2, 'a sync ends when it goes on');
is($standby->safe_psql('postgres', "SELECT lag_time < now() - '$before'::timestamptz FROM pg_stat_ivm WHERE relname = 'v'"), 't',
	'and the lag is less');

# what is not maintained on the primary
$primary->safe_psql('postgres', 'INSERT INTO base VALUES (0)');
wait_until($primary, q{SELECT state = 'error' FROM pg_stat_ivm WHERE relname = 'w'}, 'an error');
change('INSERT INTO base VALUES (2)');
$standby->safe_psql('postgres', q{SELECT ivm.sync('v')});
is_shown(4, 'others go on');
wait_until($standby, q{SELECT state = 'error' FROM pg_stat_ivm WHERE relname = 'w'}, 'the standby knows');
($ret, $stdout, $stderr) = $standby->psql('postgres', q{SELECT ivm.sync('w')});
like($stderr, qr/incremental view "w" is (in state error|not maintained)/, 'a sync of a view in state error says so');

# it becomes the primary
$primary->stop;
$standby->promote;
$standby->safe_psql('postgres', 'DELETE FROM base WHERE a = 0');
$standby->safe_psql('postgres', q{SELECT ivm.sync('v', '180 s')});
is($standby->safe_psql('postgres', 'SELECT n = (SELECT count(*) FROM base) FROM v'), 't', 'maintained after the promotion');
wait_until($standby, q{SELECT state = 'active' AND lag_time = '0' FROM pg_stat_ivm WHERE relname = 'v'}, 'and it says so');

$standby->stop;
done_testing();
