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
create incremental view r as select g, max(x) from t group by g;
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

-- caught up: no lag
select relname, lag_time, lag_bytes >= 0 as lag_bytes, applied_lsn <= pg_current_wal_lsn() as applied
	from pg_stat_ivm where relname = 'm' and schemaname = 'test_monitoring';

-- a rebuild, and why
truncate t;
select ivm.sync();
select rebuilds, last_rebuild_reason from pg_stat_ivm where relname = 'm' and schemaname = 'test_monitoring';

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
select worker_type, count(*) >= 1 as there, count(distinct pid) = count(*) as pids
	from pg_stat_ivm_worker where worker_type in ('launcher', 'decoder', 'apply')
		and (datname = current_database() or datname is null)
	group by 1 order by 1;
select datname = current_database() as here, slot_name = 'ivm_' || d.oid as slot
	from pg_stat_ivm_worker join pg_database d using (datname) where worker_type = 'decoder' and datname = current_database();
select count(*) from pg_replication_slots s join pg_database d on d.datname = s.database
	where d.datname = current_database() and slot_type = 'logical' and active;
select bool_and(resident_bytes >= active_bytes and active_bytes >= allocated_bytes and peak_bytes >= 0) as memory
	from pg_stat_ivm_worker;
select backend_type, count(*) > 0 as there from pg_stat_activity
	where backend_type ~ 'ivm' group by 1 order by 1;

-- the operators
insert into t select i, i % 4, i from generate_series(1, 100) i;
select ivm.sync();
select count(*) > 0 as operators, bool_and(rows_in >= 0 and rows_out >= 0 and total_time >= 0) as counters
	from pg_stat_ivm_operator where relid = 'm'::regclass;
select operator, parent_id is null or parent_id >= 0 as parent from pg_stat_ivm_operator where relid = 'm'::regclass order by node_id;
-- no build runs
select count(*) from pg_stat_progress_ivm_build;

-- explain: the plan as text, what is recomputed and why
select ivm.explain('m');
select ivm.explain('r');

-- other statistics
select pg_stat_force_next_flush();
select n_tup_ins > 0 as inserted from pg_stat_all_tables where relid = 'm'::regclass;
-- dropped with the view
drop materialized view m;
select count(*) from pg_stat_ivm where relname = 'm' and schemaname = 'test_monitoring';
select count(*) from pg_stat_ivm_operator where relid not in (select oid from pg_class);
select * from oracle();

-- and it all goes away
set client_min_messages = warning;
drop schema test_monitoring cascade;
