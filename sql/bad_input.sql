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
-- what is there before
select count(*) as views from ivm.view;

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
create foreign table parts_2 partition of parts for values in (2) server nowhere;
create incremental view x as select a from parts;
create incremental view x as select a from parts_1;
create unlogged table parts_3 partition of parts for values in (3);
create incremental view x as select * from ivm.view;

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
create incremental view x as select id, current_setting('work_mem') from t;
create incremental view x as select id, pg_backend_pid() from t;
create incremental view x as select id, w::regclass from t;
create incremental view x as select id, 'today'::timestamptz < at, w::timestamptz from t;
create incremental view x as select id, w::date from t;
create incremental view x as select count(*) from t group by random();
create incremental view x as select a, sum(a * random()) from t group by a;
create incremental view x as select t.id from t join u on t.id = u.id + (random() * 10)::integer;
create incremental view x as select id from t order by random() limit 1;
create incremental view x as select row_number() over (order by random()) from t;
create function hidden() returns integer volatile language sql as 'select 1';
create function hidden_stable() returns integer stable language plpgsql as 'begin return 1; end';
create function not_hidden() returns integer immutable language sql as 'select 1';
create incremental view x as select id, hidden() from t;
create incremental view x as select id, hidden_stable() from t;
create view hides as select id, random() as r from t;
create incremental view x as select id from hides;
create incremental view x as select r from hides;
create incremental view x as select id from t tablesample bernoulli (50);
create incremental view x as select query_to_xml('select 1', true, true, ''), id from t;

-- statements that are no queries over tables as they are
create incremental view x as select id, ctid from t;
create incremental view x as select xmin, id from t;
create incremental view x as select id from t where cmin = '0';
create incremental view x as select id from t for update;
create incremental view x as select id from (select id from t for share) s;
create incremental view x as with w as (insert into u values (1) returning id) select id from w;
create incremental view x as select $1::integer as p from t;
create incremental view x as select id into y from t;
create incremental view x as select nothing_there from t;
create incremental view x as select id from nothing_there;
create incremental view x as select nothing_there(id) from t;
create incremental view x as select 1 / 0 as z from t;
create incremental view x as select id / (a - 1) from t;
create incremental view x as select 'a' as unknown_type, id from t;
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
explain analyze create materialized view x using incremental as select id from t;
drop materialized view if exists x;

-- nothing is left of all this
select count(*) as views from ivm.view;
select to_regclass('x') as x;
select relname, relreplident from pg_class where oid in ('t'::regclass, 'u'::regclass) order by 1;

-- functions that are called by hand
select ivm.sync('t');
select ivm.sync(0);
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
create incremental view empty as select id from t with no data;
select ivm.verify('empty');
select ivm.sync('empty');
select ivm.explain('empty');

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

-- a table that is not ours to change
create role ivm_bad_input;
grant usage, create on schema test_bad_input to ivm_bad_input;
grant select on t to ivm_bad_input;
set role ivm_bad_input;
create incremental view x as select id from t;
reset role;
alter table t replica identity full;
set role ivm_bad_input;
create incremental view x as select id from t;
reset role;
insert into t values (2, 2, now(), 'y');
select * from oracle();
drop owned by ivm_bad_input;
drop role ivm_bad_input;

-- and it all goes away
set client_min_messages = warning;
drop schema test_bad_input cascade;
