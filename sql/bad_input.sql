-- A clear error, a hint, and nothing half made.
\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir /test/regress/oracle.sql
\set ECHO none
\i :oracle
\set ECHO all
create schema test_bad_input;
set search_path = test_bad_input, public;
create table t (id integer primary key, a integer, at timestamptz, w text);
insert into t values (1, 1, '2024-01-01 00:00+00', 'x');
create table u (id integer);
create function wait_until(condition text) returns boolean language plpgsql as $$
declare
	result boolean;
begin
	for i in 1..1200 loop
		execute 'select ' || condition into result;
		exit when result;
		perform pg_sleep(0.05);
	end loop;
	return result;
end
$$;
-- what must not be there after an error
create view made as
	select (select count(*) from ivm.view) as views, (select count(*) from ivm.applied) as snapshots,
		(select count(*) from pg_class where relnamespace = 'ivm_state'::regnamespace) as state_tables,
		(select count(*) from pg_class where relkind = 'm' and relnamespace = 'test_bad_input'::regnamespace) as materialized_views,
		(select count(*) from pg_class where relreplident = 'f' and relnamespace = 'test_bad_input'::regnamespace) as identities;
select * from made;
-- the slot of earlier views goes when their processes have ended
select wait_until($$not exists (select from pg_replication_slots where database = current_database())$$);

-- relations of which changes cannot be read
create temporary table temporary (a integer);
create incremental view x as select a from temporary;
create unlogged table unlogged (a integer);
create incremental view x as select a from unlogged;
create incremental view x as select relname from pg_class;
create incremental view x as select t.id, s.setting from t, pg_settings s;
create incremental view x as select table_name from information_schema.tables;
create sequence seq;
create incremental view x as select last_value from seq;
create incremental view x as select * from pg_sequences;
create foreign data wrapper nothing;
create server nowhere foreign data wrapper nothing;
create foreign table foreign_table (a integer) server nowhere;
create incremental view x as select a from foreign_table;
create table parts (a integer) partition by list (a);
create table parts_1 partition of parts for values in (1);
create unlogged table parts_2 partition of parts for values in (2);
create incremental view x as select a from parts;
create incremental view x as select * from ivm.view;
create incremental view x as select lsn from ivm.applied;
create incremental view x as select count(*) from pg_stat_ivm;

-- functions: volatile ones, those of the clock, of the session, of tables; also where they hide
create incremental view x as select id, random() from t;
create incremental view x as select id from t where a > random() * 10;
create incremental view x as select nextval('seq'), id from t;
create incremental view x as select id, clock_timestamp() from t;
create incremental view x as select id from t where at > now();
create incremental view x as select id, current_date from t;
create incremental view x as select id, age(at) from t;
create incremental view x as select id, localtime from t;
create incremental view x as select id, current_user from t;
create incremental view x as select id, current_schema from t;
create incremental view x as select id, current_setting('work_mem') from t;
create incremental view x as select id, pg_backend_pid() from t;
create incremental view x as select id, w::regclass from t;
create incremental view x as select tableoid::regclass::text, id from t;
create incremental view x as select id, 'tomorrow'::timestamptz > at, now() from t;
create incremental view x as select count(*) from t group by random();
create incremental view x as select a, sum(a * random()) from t group by a;
create incremental view x as select count(*) filter (where random() < 0.5) from t;
create incremental view x as select a from t group by a having random() < 0.5;
create incremental view x as select t.id from t join u on t.id = u.id + (random() * 10)::integer;
create incremental view x as select t.id from t left join u on t.id = u.id + (random() * 10)::integer;
create incremental view x as select id from t where exists (select from u where u.id = t.id and random() < 0.5);
create incremental view x as select id, (select max(u.id * random()) from u) from t;
create incremental view x as with r as materialized (select random() as r) select id, r from t, r;
create incremental view x as select id from t order by random() limit 1;
create incremental view x as select id from t limit (random() * 10)::integer;
create incremental view x as select distinct on (a) id from t order by a, random();
create incremental view x as select row_number() over (order by random()) from t;
create incremental view x as select id, generate_series(1, (random() * 10)::integer) from t;
create incremental view x as values (random());
create function volatile_function() returns integer volatile language plpgsql as 'begin return 1; end';
create function stable_function() returns integer stable language plpgsql as 'begin return 1; end';
create function of_random() returns double precision volatile language sql as 'select random()';
create function volatile_step(integer, integer) returns integer volatile language sql as 'select $1 + $2';
create aggregate volatile_sum(integer) (sfunc = volatile_step, stype = integer);
create function volatile_equal(integer, integer) returns boolean volatile language plpgsql as 'begin return $1 = $2; end';
create operator === (leftarg = integer, rightarg = integer, function = volatile_equal);
create view hides as select id, random() as r from t;
create incremental view x as select id, volatile_function() from t;
create incremental view x as select id, stable_function() from t;
create incremental view x as select id, of_random() from t;
create incremental view x as select volatile_sum(id) from t;
create incremental view x as select id from t where id === a;
create incremental view x as select r from hides;
create incremental view x as select id from hides;
create incremental view x as select query_to_xml('select 1', true, true, ''), id from t;

-- statements that are no queries over tables as they are
create incremental view x as select id, ctid from t;
create incremental view x as select xmin, id from t;
create incremental view x as select id from t where cmin = '0';
create incremental view x as select id from t for update;
create incremental view x as select id from (select id from t for share) s;
create incremental view x as select id from t tablesample bernoulli (50);
create incremental view x as with w as (insert into u values (1) returning id) select id from w;
create incremental view x as insert into u values (1) returning id;
create incremental view x as select $1::integer as p from t;
create incremental view x as select id into y from t;
create incremental view x as select nothing_there from t;
create incremental view x as select id from nothing_there;
create incremental view x as select nothing_there(id) from t;
create incremental view select as select id from t;
create incremental view x as select id from select;
create incremental view x as selec id from t;
create incremental view x as table t where;
create incremental view x;
create incremental view x as values (1),;
create incremental view x as explain select id from t;
create incremental view x as select id from t with nothing;
create incremental view x as select 1 / 0 as z from t;
create incremental view x (a, b, c) as select id, a from t;
create incremental view x (a, a) as select id, a from t;
create incremental view x as select id as same, a as same from t;
create incremental view pg_catalog.x as select id from t;
create incremental view nothing_there.x as select id from t;
create incremental view t as select id from u;
create temporary incremental view x as select id from t;
create incremental view x with (nonsense = 1) as select id from t;
create incremental view x tablespace nothing_there as select id from t;
create incremental view pg_temp.x as select id from t;
create unlogged materialized view x using incremental as select id from t;
create materialized view x using nothing_there as select id from t;
-- the native spelling is no different
create materialized view x using incremental as select id, random() from t;
create materialized view x using incremental as select a from unlogged;
begin;
create materialized view x using incremental as select id, random() from t;
rollback;
prepare p (integer) as create materialized view x using incremental as select id from t where id = $1;
explain (costs off) create materialized view x using incremental as select id from t;
explain analyze create materialized view x using incremental as select id from t;
-- other relations cannot be incremental
create table x (a integer) using incremental;
create table x using incremental as select id from t;
set default_table_access_method = incremental;
create table x (a integer);
create temporary table x (a integer);
select id into x from t;
create table x partition of parts for values in (3);
reset default_table_access_method;
alter table t set access method incremental;

-- nothing is left of all this
select * from made;
select to_regclass('x') as x;
select wait_until($$not exists (select from pg_replication_slots where database = current_database())$$);
-- nor if the query fails in the middle of the work; the table's replica identity, of which the NOTICE tells, stays
create incremental view x as select id / (a - 1) as z from t;
create incremental view x as select id, w::date as d from t;
create materialized view x using incremental as select count(*) / 0 as n from t join u on u.id = t.a;
begin;
create materialized view x using incremental as select id / (a - 1) as z from t;
rollback;
select * from made;
select wait_until($$not exists (select from pg_replication_slots where database = current_database())$$);

-- what depends on settings alone works, and the view keeps to those it was made under
create incremental view day as
	select id, at::date as day, to_char(at, 'HH24:MI') as clock, date_trunc('day', at) as start from t;
set timezone = 'Asia/Tokyo';
insert into t values (2, 2, '2024-01-01 00:00+00', 'y');
select ivm.sync();
reset timezone;
select * from day order by id;
select * from oracle();

-- a view is not to be written to
insert into day values (3);
update day set id = 3;
delete from day;
merge into day using u on u.id = day.id when matched then delete;
copy day from stdin;
\.
truncate day;
select id from day for update;
alter materialized view day add column x integer;
drop table day;
drop view day;

-- functions that are called by hand
select ivm.sync('t');
select ivm.sync(0);
select ivm.sync('nothing_there');
select ivm.sync(null::regclass);
select ivm.sync(timeout => '-1 s');
select ivm.verify('t');
select ivm.verify('pg_class');
select ivm.verify(null);
select ivm.explain('t');
select ivm.explain('nothing_there');
create materialized view plain as select id from t;
select ivm.sync('plain');
select ivm.verify('plain');
select ivm.explain('plain');
refresh materialized view concurrently day;
create incremental view empty as select id from t with no data;
select ivm.verify('empty');
select ivm.sync('empty');
-- that can be explained
select e from ivm.explain('empty') with ordinality e (e, n) where n < 3;

-- a sync that does not get there says which view, its state and how far it is behind
create incremental view behind as select t.id from t join u on u.id = t.id;
\setenv IVM_DATABASE :DBNAME
begin;
lock table t in access exclusive mode;
\! psql -X -q -d "$IVM_DATABASE" -c 'insert into test_bad_input.u values (1)'
select wait_until($$exists (select from pg_stat_ivm where relname = 'behind' and state = 'waiting for lock')$$);
do $$
declare
	detail text;
	hint text;
begin
	perform ivm.sync('behind', '100 ms');
exception when query_canceled then
	get stacked diagnostics detail = pg_exception_detail, hint = pg_exception_hint;
	raise info '% %', sqlstate, sqlerrm using detail = regexp_replace(detail, '[0-9]+', 'N'), hint = hint;
end
$$;
rollback;
select ivm.sync('behind');
select * from behind;

-- settings
set ivm.fallback = nonsense;
set ivm.statement_syntax = 5;
set ivm.apply_workers = 3;
set ivm.nonsense = 1;

-- a materialized view that cannot become an incremental one stays what it is
create materialized view volatile as select id, random() as r from t;
alter materialized view volatile set access method incremental;
select a.amname from pg_class c join pg_am a on a.oid = c.relam where c.oid = 'volatile'::regclass;
select count(*) from volatile;
-- nor does one over a table that becomes unreadable
create table stops (id integer primary key);
create incremental view stopped as select id from stops;
alter materialized view stopped set access method heap;
alter table stops set unlogged;
alter materialized view stopped set access method incremental;

-- a table that is not ours to change
create role ivm_bad_input;
grant usage, create on schema test_bad_input to ivm_bad_input;
create table theirs (id integer primary key);
grant select on theirs to ivm_bad_input;
set role ivm_bad_input;
create incremental view x as select id from t;
create incremental view x as select id from theirs;
create materialized view x as select id from theirs;
alter materialized view x set access method incremental;
drop materialized view x;
reset role;
alter table theirs replica identity full;
set role ivm_bad_input;
create incremental view x as select id from theirs;
reset role;
insert into theirs values (2);
select * from oracle();
drop owned by ivm_bad_input;
drop role ivm_bad_input;

-- and it all goes away
set client_min_messages = warning;
drop schema test_bad_input cascade;
drop server nowhere;
drop foreign data wrapper nothing;
