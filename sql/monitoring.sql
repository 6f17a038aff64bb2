-- What the monitoring views show.
\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir /test/regress/oracle.sql
\set ECHO none
\i :oracle
\set ECHO all
create schema test_monitoring;
set search_path = test_monitoring, public;
create table t (id integer primary key, g integer, x integer);
insert into t select i, i % 4, i from generate_series(1, 100) i;
create incremental view m as select g, count(*) as n, sum(x) as s from t group by g;
create incremental view r as select distinct g, max(x) over (partition by g) from t;
create incremental view no_data as select id from t with no data;

-- their columns
select c.relname, string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' order by a.attnum)
	from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
	where c.relname ~ '^pg_stat_(progress_)?ivm' and c.relnamespace = 'pg_catalog'::regnamespace
	group by c.relname order by c.relname;

-- a row for each view
select schemaname, relname, state, state_since <= now() as since, rebuilds, error_count, last_error
	from pg_stat_ivm where schemaname = 'test_monitoring' order by relname;

-- counters of a change: two groups change, one comes, one goes
create function shown(out n_tup_ins bigint, out n_tup_upd bigint, out n_tup_del bigint, out changes_received bigint, out batches bigint)
	language sql as $$
	select n_tup_ins, n_tup_upd, n_tup_del, changes_received, batches from pg_stat_ivm where relid = 'test_monitoring.m'::regclass
$$;
create temporary table before as select * from shown();
begin;
update t set x = x + 1 where id in (1, 2);
insert into t values (101, 77, 1);
delete from t where g = 0;
commit;
select ivm.sync();
select a.n_tup_ins - b.n_tup_ins as ins, a.n_tup_upd - b.n_tup_upd as upd, a.n_tup_del - b.n_tup_del as del,
	a.changes_received - b.changes_received as changes, a.batches - b.batches >= 1 as batches
	from shown() a, before b;
select relname, recomputes > 0 as recomputed, last_apply_time > state_since as applied, apply_time > 0 as took, max_apply_time <= apply_time as max
	from pg_stat_ivm where schemaname = 'test_monitoring' and state = 'active' order by 1;
-- of what no view reads nothing is received
create table not_read (id integer primary key);
update t set x = x where id < 50;
insert into not_read values (1);
select ivm.sync();
select a.n_tup_ins - b.n_tup_ins as ins, a.n_tup_upd - b.n_tup_upd as upd, a.n_tup_del - b.n_tup_del as del,
	a.changes_received - b.changes_received as changes
	from shown() a, before b;

-- caught up: no lag, as soon as the decoder has read what others write
set statement_timeout = '1 min';
do $$
begin
	while (select lag_time from pg_stat_ivm where relid = 'm'::regclass) <> '0' loop
		perform pg_sleep(0.01);
	end loop;
end
$$;
reset statement_timeout;
select relname, lag_bytes >= 0 as lag_bytes, applied_lsn <= pg_current_wal_lsn() as applied
	from pg_stat_ivm where relname = 'm' and schemaname = 'test_monitoring';

-- a rebuild, and why
truncate t;
select ivm.sync();
select rebuilds, last_rebuild_reason from pg_stat_ivm where relname = 'm' and schemaname = 'test_monitoring';

-- the counters of one view, or of all, from zero
select ivm.stat_reset('m');
select relname, batches, changes_received, n_tup_ins, n_tup_upd, n_tup_del, apply_time, max_apply_time, recomputes, rebuilds, last_rebuild_reason,
	last_apply_time, error_count, stats_reset <= clock_timestamp() as reset
	from pg_stat_ivm where schemaname = 'test_monitoring' and relname in ('m', 'r') and stats_reset is not null;
select state, applied_lsn is not null as applied from pg_stat_ivm where schemaname = 'test_monitoring' and relname = 'm';
insert into t values (1, 1, 1), (2, 1, 1);
select ivm.sync();
select batches >= 1 as batches, changes_received, n_tup_ins, n_tup_upd, n_tup_del, rebuilds from pg_stat_ivm where schemaname = 'test_monitoring' and relname = 'm';
select ivm.stat_reset();
select count(*), count(stats_reset) from pg_stat_ivm where schemaname = 'test_monitoring' and state = 'active';
delete from t;
select ivm.sync();

-- an error
create incremental view broken as select id, 100 / x as y from t;
insert into t values (1, 1, 0);
select ivm.sync('broken', '20 s');
select relname, state, error_count > 0 as errors, last_error, last_error_time <= clock_timestamp() as time
	from pg_stat_ivm where schemaname = 'test_monitoring' and relname = 'broken';
delete from t;
refresh materialized view broken;
select ivm.sync();
select state from pg_stat_ivm where schemaname = 'test_monitoring' and relname = 'broken';

-- the processes
select worker_type, count(*) = case worker_type when 'apply worker' then current_setting('ivm.apply_workers')::integer else 1 end as all,
	bool_and(pid in (select pid from pg_stat_activity a where a.backend_type = 'ivm ' || w.worker_type and a.datname is not distinct from w.datname)) as pids,
	bool_and(state <> '') as states, bool_and(slot_name is null) as no_slot
	from pg_stat_ivm_worker w where (datname = current_database() or datname is null) and worker_type <> 'builder'
	group by 1 order by 1;
select slot_name = 'ivm_' || d.oid as slot, position_lsn <= pg_current_wal_lsn() as decoded, confirmed_lsn <= position_lsn as confirmed,
	restart_lsn <= confirmed_lsn as restart, log_memory_bytes >= 0 as memory, log_disk_bytes = 0 as disk
	from pg_stat_ivm_worker join pg_database d using (datname) where worker_type = 'decoder' and datname = current_database();
select count(*) from pg_replication_slots s join pg_database d on d.datname = s.database
	where d.datname = current_database() and slot_type = 'logical' and active and plugin = 'ivm_ext';
select bool_and(resident_bytes >= active_bytes and active_bytes >= allocated_bytes and peak_bytes >= resident_bytes) as memory,
	bool_and(resident_bytes > 0) filter (where worker_type = 'apply worker' and datname = current_database()) as used
	from pg_stat_ivm_worker;
select bool_and(granted_bytes >= guaranteed_bytes and stalls >= 0 and stall_time >= 0 and spills >= 0 and spill_bytes >= 0) as shares,
	bool_and(process_bytes > resident_bytes) as process,
	bool_and(guaranteed_bytes = 4 * 1024 * 1024) filter (where worker_type = 'apply worker') as apply,
	bool_and(guaranteed_bytes >= 1024 * 1024) filter (where worker_type = 'decoder') as decoder,
	bool_and(guaranteed_bytes = 0) filter (where worker_type = 'launcher') as launcher
	from pg_stat_ivm_worker;
select budget_bytes = 1024 * (select setting::bigint from pg_settings where name = 'ivm.memory_budget') as budget,
	guaranteed_bytes >= (select sum(guaranteed_bytes) from pg_stat_ivm_worker) as guaranteed,
	granted_bytes >= guaranteed_bytes as granted, free_bytes = budget_bytes - granted_bytes as free,
	waiters = 0 as waiters, overdraft_pid is null as overdraft
	from pg_stat_ivm_memory;
select ivm.trim() >= 0 as trimmed;
select processes >= 2 + current_setting('ivm.apply_workers')::integer as processes, resident_bytes >= active_bytes as memory, peak_bytes >= resident_bytes as peak,
	log_memory_bytes >= 0 as log from pg_stat_ivm_memory;

-- the operators, as explain numbers them; workers report them once in a second
create incremental view j as select t.id, b.g from t join t b on b.id = t.x where t.g > 0;
create incremental view d as select distinct x % 10 as digit from t;
create incremental view w as select g, rank() over (order by id) as n from t;
create function reported(rows bigint) returns void language plpgsql as $$
begin
	while (select sum(rows_in) from pg_stat_ivm_operator where relid in ('j'::regclass, 'd'::regclass, 'w'::regclass)) is distinct from rows loop
		perform pg_sleep(0.01);
	end loop;
end
$$;
set statement_timeout = '1 min';
select reported(0);
insert into t select i, i % 4, i from generate_series(1, 100) i;
select reported((100 + 100 + 175) + (100 + 100) + (100 + 100));
select c.relname, o.node_id, o.parent_id, o.operator, o.rows_in, o.rows_out, o.state_bytes > 0 as has_state, o.total_time >= 0 as took
	from pg_stat_ivm_operator o join pg_class c on c.oid = o.relid
	where c.oid in ('j'::regclass, 'd'::regclass, 'w'::regclass) order by c.relname, o.node_id;
-- a plan that is made anew goes on counting
analyze t;
update t set x = x + 1 where id = 1;
select reported((102 + 102 + 179) + (102 + 102) + (102 + 100));
select ivm.stat_reset('j');
select relid::regclass, sum(rows_in) from pg_stat_ivm_operator where relid in ('d'::regclass, 'j'::regclass) group by relid order by relid::regclass::text;
reset statement_timeout;
select delta_plan('j');
select delta_plan('d');
select delta_plan('w');
-- no build runs
select count(*) from pg_stat_progress_ivm_build where datname = current_database();

-- other statistics
select * from ivm.verify('m');
select n_tup_ins > 0 as inserted from pg_stat_all_tables where relid = 'm'::regclass;
-- dropped with the view
drop materialized view m;
select count(*) from pg_stat_ivm where relname = 'm' and schemaname = 'test_monitoring';
select count(*) from pg_stat_ivm_operator where relid not in (select oid from pg_class);
select * from oracle();

-- and it all goes away
set client_min_messages = warning;
drop schema test_monitoring cascade;
