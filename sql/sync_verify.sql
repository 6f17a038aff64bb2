-- ivm.sync and ivm.verify.
\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir /test/regress/oracle.sql
\set ECHO none
\i :oracle
\set ECHO all
create schema test_sync_verify;
set search_path = test_sync_verify, public;
create table t (id integer primary key, g integer, x integer);
create table u (id integer primary key);
create incremental view a as select g, count(*) as n from t group by g;
create incremental view b as select id, x from t where x > 10;
create incremental view c as select id from u;

-- after sync one reads one's own writes, each time
do $$
declare
	n integer;
begin
	for i in 1..30 loop
		insert into t values (i, i % 3, i);
		commit;
		perform ivm.sync('a');
		select sum(a.n) into n from a;
		if n <> i then
			raise 'after % rows the view counts %', i, n;
		end if;
	end loop;
end
$$;
select ivm.sync();
select ivm.sync('a'), ivm.sync('b'::regclass);
select ivm.sync('a', '10 s'), ivm.sync('test_sync_verify.a', timeout => interval '10 s'), ivm.sync(timeout => '10 s');
select ivm.sync(view => 'a');
-- also with nothing to do, and many times
select count(ivm.sync()) from generate_series(1, 100);

-- what the transaction itself has written cannot be there, and is not waited for
begin;
insert into t values (100, 100, 100);
select ivm.sync();
select count(*) from a where g = 100;
rollback;
-- under an older snapshot sync works, and one sees the old
begin isolation level repeatable read;
select count(*) from b;
select ivm.sync();
commit;
begin transaction read only;
select ivm.sync();
commit;
-- in a failed transaction it is what everything is
begin;
select 1 / 0;
select ivm.sync();
rollback;

-- a lock on what one view reads is no concern of another one
begin;
lock table t in access exclusive mode;
select ivm.sync('c');
rollback;
-- what it is asked for
insert into t values (200, 1, 1);
select ivm.sync('a');
select ivm.sync('a', null);
select ivm.sync('a', '-1 s');
select ivm.sync(null, '1 min');
-- time is up: the error says which view, how far behind, in which state
create function late(v regclass) returns text language plpgsql as $$
declare
	detail text;
	hint text;
begin
	perform ivm.sync(v, '100 ms');
	return 'reached';
exception when query_canceled then
	get stacked diagnostics detail = pg_exception_detail, hint = pg_exception_hint;
	return concat_ws(e'\n', sqlerrm, regexp_replace(detail, '[0-9]+', 'N'), hint);
end
$$;
alter system set ivm.debug_points = 'apply-before=wait';
select pg_reload_conf();
-- until the worker stands there
do $$
begin
	while not exists (select from pg_stat_ivm_worker where datname = current_database() and state = 'apply-before') loop
		update t set x = -abs(x) - 1 where id = 1;
		commit;
		perform pg_sleep(0.01);
	end loop;
end
$$;
insert into t values (201, 1, 1);
\t on
\a
select late('a');
\t off
\a
select lag_time > '0' as lags, lag_bytes > 0 as behind from pg_stat_ivm where relid = 'a'::regclass;
alter system reset ivm.debug_points;
select pg_reload_conf();
select ivm.sync('a');
delete from t where id > 100;

-- what comes without a row in the WAL, just after a worker looked for such
-- things, and before it looked at the log
create materialized view m as select count(*) as n from t;
create incremental view d as select n from m;
create function held(point text) returns void language plpgsql as $$
begin
	while (select count(*) from pg_stat_ivm_worker where datname = current_database() and state = point) <
		current_setting('ivm.apply_workers')::integer loop
		perform pg_sleep(0.01);
	end loop;
end
$$;
set statement_timeout = '1 min';
insert into t values (202, 1, 1);
select ivm.sync();
alter system set ivm.debug_points = 'apply-looked=wait';
select pg_reload_conf();
select held('apply-looked');
refresh materialized view m;
do $$
begin
	while (select position_lsn from pg_stat_ivm_worker where worker_type = 'decoder' and datname = current_database()) < pg_current_wal_flush_lsn() loop
		perform pg_sleep(0.01);
	end loop;
end
$$;
alter system set ivm.debug_points = 'apply-look=wait';
select pg_reload_conf();
select held('apply-look');
select late('d') <> 'reached' as late;
alter system reset ivm.debug_points;
select pg_reload_conf();
select ivm.sync('d');
select d.n = m.n as same from d, m;
reset statement_timeout;
drop materialized view d, m;
delete from t where id > 100;

-- a large transaction
insert into t select i, i % 100, i from generate_series(1000, 60000) i;
select ivm.sync();
select sum(n) from a;
select count(*) from b;
update t set x = x + 1, g = g + 1;
delete from t where id % 2 = 0;
select ivm.sync();
select * from ivm.verify('a');
select * from ivm.verify('b');
select * from oracle();

-- verify sees what is wrong: rows that somebody took away or put in behind
-- everybody's back
create function damage(v regclass, statement text) returns void language plpgsql as $$
begin
	update pg_class set relkind = 'r', relhasrules = false where oid = v;
	execute statement;
	update pg_class set relkind = 'm', relhasrules = true where oid = v;
end
$$;
set allow_system_table_mods = on;
select damage('c', 'insert into c values (42), (43)');
select damage('a', 'delete from a where g < 10');
reset allow_system_table_mods;
select * from ivm.verify('c');
select * from ivm.verify('a');
select name, missing, extra from oracle();
-- a rebuild repairs it
refresh incremental view c;
refresh incremental view a;
select * from ivm.verify('c');
select * from ivm.verify('a');
insert into u values (1), (2);
-- verify in a transaction block, and of all views; what is not committed does not count
begin;
insert into u values (3);
select * from ivm.verify('c');
commit;
select relname, v.* from pg_class, ivm.verify(oid) v
	where relnamespace = current_schema::regnamespace and relkind = 'm' order by 1;
select * from oracle();

-- and it all goes away
set client_min_messages = warning;
drop schema test_sync_verify cascade;
