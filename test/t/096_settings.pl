# Settings of a database or a role that could end or bend a process of ours.
#
# Every setting that can be set so has a kind, in process/process.c; here are
# their names.  A setting of a newer server that is in none of them makes the
# first test fail: somebody has to think about it.  Then all of them get another
# value than they have, and the views are maintained all the same.
#
# kills: nothing

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

# What our processes have, whatever is set; 1: what the server has by default.
my %overridden = (
	(map { $_ => 1 } qw(exit_on_error statement_timeout transaction_timeout lock_timeout
		idle_in_transaction_session_timeout idle_session_timeout deadlock_timeout restrict_nonsystem_relation_kind
		default_transaction_isolation default_transaction_read_only default_transaction_deferrable
		session_replication_role row_security check_function_bodies transform_null_equals backslash_quote
		standard_conforming_strings default_tablespace default_table_access_method
		zero_damaged_pages ignore_checksum_failure composite_type_mismatch track_counts ignore_system_indexes
		post_auth_delay max_stack_depth)),
	'synchronous_commit' => 'off',
	'search_path' => 'pg_catalog, pg_temp',
	'synchronize_seqscans' => 'off',
	'jit' => 'off');

my %kinds = (
	'overridden' => [ keys %overridden ],
	'of each view' => [ qw(array_nulls bytea_output DateStyle default_text_search_config extra_float_digits
		  gin_fuzzy_search_limit
		  IntervalStyle lc_monetary lc_numeric lc_time quote_all_identifiers TimeZone timezone_abbreviations
		  xmlbinary xmloption) ],
	'set where needed' => [ qw(output_plugin_libraries logical_decoding_work_mem
		  recursive_worktable_factor) ],
	'resources and costs' => [ qw(work_mem hash_mem_multiplier maintenance_work_mem temp_buffers
		  temp_file_limit temp_tablespaces backend_flush_after effective_io_concurrency maintenance_io_concurrency
		  io_combine_limit max_parallel_workers max_parallel_workers_per_gather max_parallel_maintenance_workers
		  parallel_leader_participation commit_delay commit_siblings wal_compression wal_init_zero wal_recycle
		  wal_skip_threshold gin_pending_list_limit vacuum_cost_delay vacuum_cost_limit vacuum_cost_page_dirty
		  vacuum_cost_page_hit vacuum_cost_page_miss default_toast_compression file_copy_method) ],
	'ways to the same result' => [ qw(constraint_exclusion cursor_tuple_fraction default_statistics_target
		  from_collapse_limit join_collapse_limit geqo geqo_effort geqo_generations geqo_pool_size geqo_seed
		  geqo_selection_bias geqo_threshold plan_cache_mode cpu_index_tuple_cost cpu_operator_cost cpu_tuple_cost
		  effective_cache_size jit_above_cost jit_inline_above_cost jit_optimize_above_cost jit_expressions
		  jit_tuple_deforming min_parallel_index_scan_size min_parallel_table_scan_size parallel_setup_cost
		  parallel_tuple_cost random_page_cost seq_page_cost force_parallel_mode debug_parallel_query
		  enable_async_append enable_bitmapscan enable_distinct_reordering enable_gathermerge
		  enable_group_by_reordering enable_hashagg enable_hashjoin enable_incremental_sort enable_indexonlyscan
		  enable_indexscan enable_material enable_memoize enable_mergejoin enable_nestloop enable_parallel_append
		  enable_parallel_hash enable_partition_pruning enable_partitionwise_aggregate
		  enable_partitionwise_join enable_presorted_aggregate enable_self_join_elimination enable_seqscan
		  enable_sort enable_tidscan debug_discard_caches debug_logical_replication_streaming
		  logical_replication_mode) ],
	'logging, tracing and measuring' => [ qw(client_min_messages application_name backtrace_functions debug_pretty_print
		  debug_print_parse debug_print_plan debug_print_rewritten log_connections log_disconnections log_duration
		  log_error_verbosity log_lock_failures log_lock_waits log_parameter_max_length
		  log_parameter_max_length_on_error log_replication_commands log_statement log_temp_files
		  log_min_duration_sample log_min_duration_statement log_min_error_statement log_min_messages
		  log_statement_sample_rate log_transaction_sample_rate log_executor_stats log_parser_stats
		  log_planner_stats log_statement_stats lc_messages trace_notify trace_sort trace_syncscan track_activities
		  track_cost_delay_timing track_functions track_io_timing track_wal_io_timing compute_query_id
		  stats_fetch_consistency update_process_title jit_debugging_support jit_dump_bitcode
		  jit_profiling_support wal_consistency_checking) ],
	'clients' => [ qw(client_encoding client_connection_check_interval tcp_keepalives_count tcp_keepalives_idle
		  tcp_keepalives_interval tcp_user_timeout wal_sender_timeout password_encryption scram_iterations
		  md5_password_warnings escape_string_warning) ],
	'commands that we do not run' => [ qw(allow_in_place_tablespaces allow_system_table_mods createrole_self_grant
		  event_triggers icu_validation_level lo_compat_privileges vacuum_buffer_usage_limit vacuum_failsafe_age
		  vacuum_freeze_min_age vacuum_freeze_table_age vacuum_multixact_failsafe_age
		  vacuum_multixact_freeze_min_age vacuum_multixact_freeze_table_age vacuum_max_eager_freeze_failure_rate
		  vacuum_truncate) ],
	'anew in each transaction' => [qw(transaction_deferrable transaction_isolation transaction_read_only)],
	'where libraries are' => [ qw(dynamic_library_path extension_control_path extension_destdir
		  local_preload_libraries session_preload_libraries) ]);

my $node = new_node('settings', 'allow_in_place_tablespaces = on');
my $bootstrap = $node->safe_psql('postgres', 'SELECT current_user');

# What is set for the bootstrap superuser is for our processes, not for the test's sessions.  (What only a
# connection can set comes from the server's configuration alone.)
$node->safe_psql('postgres', 'CREATE ROLE tester SUPERUSER LOGIN');
$ENV{PGUSER} = 'tester';
my %has = map { split /=/, $_, 2 } split /\n/, $node->safe_psql('postgres', <<'EOS');
SELECT name || '=' || current_setting(name) FROM pg_settings
WHERE context IN ('user', 'superuser', 'backend', 'superuser-backend')
EOS

# ---- the list ----

my %kind_of;
my @twice;
foreach my $kind (sort keys %kinds)
{
	foreach my $name (@{ $kinds{$kind} })
	{
		push @twice, $name if $kind_of{$name};
		$kind_of{$name} = $kind;
	}
}
is(join(' ', grep { !$kind_of{$_} && !/^ivm\./ } sort keys %has), '', 'every setting of the server has a kind');
is(join(' ', @twice), '', 'and only one');

# ---- another value for each ----

$node->safe_psql('postgres', 'CREATE EXTENSION ivm_ext');
$node->safe_psql('postgres', "CREATE TABLESPACE hostile LOCATION ''");
my %hostile = (
	'application_name' => 'hostile',
	'backtrace_functions' => 'errfinish',
	'client_encoding' => 'LATIN1',
	'DateStyle' => 'SQL, DMY',
	'deadlock_timeout' => '1ms',
	'default_table_access_method' => 'incremental',
	'default_tablespace' => 'hostile',
	'default_text_search_config' => 'pg_catalog.german',
	'dynamic_library_path' => '/nowhere',
	'extension_control_path' => '/nowhere',
	'extension_destdir' => '/nowhere',
	'gin_fuzzy_search_limit' => '1',
	'local_preload_libraries' => 'nothing',
	'log_min_messages' => 'log',
	'output_plugin_libraries' => 'pgoutput',
	'restrict_nonsystem_relation_kind' => 'view, foreign-table',
	'search_path' => 'hostile',
	'session_preload_libraries' => 'nothing',
	'session_replication_role' => 'replica',
	'statement_timeout' => '1ms',
	'lock_timeout' => '1ms',
	'idle_in_transaction_session_timeout' => '1ms',
	'idle_session_timeout' => '1ms',
	'temp_file_limit' => '1MB',
	'temp_tablespaces' => 'hostile',
	'TimeZone' => 'Asia/Tokyo',
	'timezone_abbreviations' => 'Australia',
	'wal_consistency_checking' => 'all');
# (A server with assertions that throws its caches away at each chance takes minutes for what is done here.)
my @others = split /\n/, $node->safe_psql('postgres', <<'EOS');
SELECT name || '=' ||
	CASE vartype WHEN 'bool' THEN CASE boot_val WHEN 'on' THEN 'off' ELSE 'on' END
		WHEN 'enum' THEN (SELECT v FROM unnest(enumvals) v WHERE v NOT IN (setting, boot_val) LIMIT 1)
		ELSE CASE WHEN setting::numeric = min_val::numeric THEN max_val ELSE min_val END END
FROM pg_settings WHERE context IN ('user', 'superuser') AND name NOT LIKE 'ivm.debug%' AND name <> 'debug_discard_caches' AND vartype <> 'string' AND
	(max_val IS NULL OR min_val <> max_val)
EOS
foreach my $other (@others)
{
	my ($name, $value) = split /=/, $other, 2;
	$hostile{$name} //= $value if exists $has{$name};
}

make_sales($node);
$node->safe_psql('postgres', $_) foreach (
	'CREATE VIEW plain AS SELECT id, region, amount FROM sale WHERE amount > 20',
	'CREATE INCREMENTAL VIEW on_plain AS SELECT region, count(*) AS n FROM plain GROUP BY region',
	'CREATE TABLE divisor (id int PRIMARY KEY, x int)',
	'CREATE INCREMENTAL VIEW quotient AS SELECT id, 100 / x AS y FROM divisor',
	'CREATE TABLE name (name text PRIMARY KEY, n int)',
	q{INSERT INTO name SELECT name, 0 FROM pg_settings WHERE context IN ('user', 'superuser', 'backend', 'superuser-backend')},
	# it is not, which is what makes it useful here: it tells what the process that calls it has
	q{CREATE FUNCTION seen(name text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN current_setting(name); END'},
	'CREATE INCREMENTAL VIEW as_seen AS SELECT name, n, public.seen(name) AS value FROM name');
are_exact_but_seen('exact at the beginning');

# For the database, for all roles, for the processes' role, in turns; the test's own has what it had.  A list
# of quoted names cannot be set so easily to that.
my $turn = 0;
my $set = '';
foreach my $name (sort grep { exists $has{$_} } keys %hostile)
{
	my $mine = "ROLE \"$bootstrap\"";
	my $for = $name =~ /^(search_path|temp_tablespaces|.*_libraries)$/ ? $mine : ('DATABASE postgres', 'ROLE ALL', $mine)[ $turn++ % 3 ];

	$set .= "ALTER ROLE tester SET $name = '$has{$name}';\n" if $for ne $mine;
	$set .= "ALTER $for SET $name = '$hostile{$name}';\n";
}
my ($ret, $stdout, $stderr) = $node->psql('postgres', $set, on_error_stop => 0);
is($ret, 0, 'all of them are set') or diag($stderr);
cmp_ok($node->safe_psql('postgres', 'SELECT sum(cardinality(setconfig)) FROM pg_db_role_setting WHERE setrole <> ' .
		q{(SELECT oid FROM pg_roles WHERE rolname = 'tester')}), '>', 150, 'for the database or roles');
$node->restart;

# ---- views are maintained ----

change_sales($node);
are_exact_but_seen('exact by batches');
$node->safe_psql('postgres', "REFRESH INCREMENTAL VIEW $_") foreach sales_views();
change_sales($node);
are_exact_but_seen('exact after rebuilds');
$node->safe_psql('postgres', 'CREATE INCREMENTAL VIEW later AS SELECT r.name, s.note, count(*) AS n FROM sale s JOIN region r ON r.id = s.region GROUP BY 1, 2');
$node->safe_psql('postgres', 'TRUNCATE sale');
change_sales($node);
are_exact_but_seen('exact after a creation and a truncation');

sub are_exact_but_seen
{
	my ($name) = @_;
	$node->safe_psql('postgres', "SELECT ivm.sync('$_', '3 min')") foreach sales_views(), 'on_plain';
	my $bad = '';
	foreach my $view (sales_views(), 'on_plain')
	{
		my $difference = IvmTest::difference($node, $view, 'postgres');
		$bad .= "$view lacks/has too much $difference\n" if $difference ne '0/0';
	}
	return is($bad, '', $name);
}

# ---- what the processes have ----

sub is_seen
{
	my ($process) = @_;
	my %seen = map { split /=/, $_, 2 } split /\n/,
	  $node->safe_psql('postgres', q{SELECT name || '=' || value FROM as_seen});
	my @bad;

	# a name that is said is qualified and quoted
	$seen{default_text_search_config} =~ s/"//g;
	foreach my $name (grep { exists $has{$_} } sort @{ $kinds{'overridden'} }, @{ $kinds{'of each view'} })
	{
		my $wanted = $overridden{$name} // 1;
		$wanted = $has{$name} if $wanted eq '1';
		push @bad, "$name is $seen{$name}" if $seen{$name} ne $wanted;
	}
	is(join("\n", @bad), '', "the $process has what it needs");
	# the test itself: the values are there
	is($seen{'work_mem'}, '64kB', "what concerns only its speed is as it was set, in the $process");
}

$node->safe_psql('postgres', 'REFRESH INCREMENTAL VIEW as_seen');
is_seen('builder');
$node->safe_psql('postgres', q{UPDATE name SET n = n + 1; SELECT ivm.sync('as_seen', '1 min')});
is_seen('apply worker');

# ---- an error ends nothing ----

my @before = map { worker_pids($node, $_) } ('apply worker', 'decoder');
$node->safe_psql('postgres', 'INSERT INTO divisor VALUES (1, 0)');
wait_until($node, "SELECT state <> 'active' AND error_count > 0 FROM pg_stat_ivm WHERE relid = 'quotient'::regclass", 'a view that fails');
change_sales($node);
are_exact_but_seen('others go on beside a view that fails');
is(join(' ', map { worker_pids($node, $_) } ('apply worker', 'decoder')), "@before", 'in the same processes');

$node->stop;
done_testing();
