-- Views on views: never ahead of what their queries name, and stopped with it.
\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir /test/regress/oracle.sql
\set ECHO none
\i :oracle
\set ECHO all
create schema test_view_on_view;
set search_path = test_view_on_view, public;
create table t (id integer primary key, x integer);
insert into t select i, i from generate_series(1, 10) i;
create incremental view first as select id, 100 / x as y from t;
create view plain as select id, y * 2 as z from first;
create incremental view second as select count(*) as n, sum(z) as s from plain;
create incremental view third as select n + 1 as n1 from second;
create incremental view apart as select count(*) as n from t;
insert into t values (11, 1);
update t set x = x + 1 where id < 4;
select * from oracle();

-- one that fails takes those along that read it, and no other
insert into t values (12, 0);
select ivm.sync('first');
select ivm.sync('second');
select ivm.sync('third');
select ivm.sync('apart');
select relname, state, last_error from pg_stat_ivm where relid::regclass::name ~ '^(first|second|third|apart)$' order by relname;
-- which cannot be had before it
refresh materialized view third;
create incremental view fourth as select y from first;
select relname from pg_class where relname = 'fourth';
delete from t where id = 12;
refresh materialized view first;
refresh materialized view second;
refresh materialized view third;
insert into t values (13, 5);
select * from oracle();

-- the same where it has no contents any more
refresh materialized view first with no data;
select ivm.sync('third');
select relname, state, last_error from pg_stat_ivm where relid::regclass::name ~ '^(first|second|third|apart)$' order by relname;
create incremental view fourth as select y from first;
begin;
create materialized view fourth using incremental as select y from first;
rollback;
refresh materialized view first;
refresh materialized view second;
refresh materialized view third;
update t set x = 7 where id = 1;
select * from oracle();

drop incremental view first;
set client_min_messages = warning;
drop schema test_view_on_view cascade;
