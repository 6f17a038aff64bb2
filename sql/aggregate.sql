-- GROUP BY, grand aggregates, FILTER, HAVING and expressions over aggregates.
\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir /test/regress/oracle.sql
\set ECHO none
\i :oracle
\set ECHO all
create schema test_aggregate;
set search_path = test_aggregate, public;
create table t (id integer primary key, g integer, h text, x integer, y numeric);
insert into t select i, i % 3, chr(97 + i % 2), i * 10, i / 4.0 from generate_series(1, 12) i;
insert into t values (20, null, null, null, null), (21, null, 'a', 5, 5), (22, 7, null, 7, 7);

create incremental view g_one as select g, count(*) as n, count(x) as nx, sum(x) as sx, avg(x) as ax from t group by g;
create incremental view g_two as select g, h, count(*), sum(y) from t group by g, h;
create incremental view g_no_aggregate as select g from t group by g;
create incremental view g_hidden_key as select count(*) as n, sum(x) as s from t group by g, h;
create incremental view g_expression as select x / 50 as bucket, upper(h) as hh, count(*) from t group by x / 50, upper(h);
create incremental view g_over as
	select g + 1 as g1, sum(x) * 2 + count(*) as a, round(avg(y), 2) as m, coalesce(sum(y), 0) as s,
		case when count(*) > 3 then 'many' else 'few' end as c
	from t group by g;
create incremental view g_filter as
	select g, count(*) filter (where x > 50) as big, sum(x) filter (where h = 'a') as sa, count(*) from t group by g;
create incremental view g_having as select g, count(*) as n from t group by g having count(*) > 3;
create incremental view g_having_other as select g from t group by g having sum(x) > 100 and avg(y) < 3;
create incremental view g_having_key as select g, sum(x) from t group by g having g > 0;
create incremental view g_primary_key as select id, h, count(*), sum(x) from t group by id;
create incremental view g_grand as select count(*), count(h) as ch, sum(x), sum(y) as sy, avg(x) from t;
create incremental view g_grand_filter as select count(*) filter (where x > 1000) as n, sum(x) filter (where x > 1000) as s from t;
create incremental view g_grand_where as select count(*), sum(x) from t where x > 1000;
create incremental view g_grand_having as select count(*), sum(x) from t having count(*) > 14;
create incremental view g_grand_expression as select count(*) + 1 as n, 'k' as k, sum(x) is null as empty from t where g = 99;
create incremental view g_empty_set as select count(*), sum(x) from t group by ();
create incremental view g_constant as select 'k' as k, count(*) from t group by 'k'::text;
create incremental view g_constant_args as select g, sum(1) as s1, count(1) as c1, sum(null::integer) as sn from t group by g;
create incremental view g_same_twice as select g, sum(x) as s1, sum(x) as s2, sum(x) + sum(x) as s3 from t group by g;
create incremental view g_bool as select g, bool_and(x > 40), bool_or(x > 110), every(h = 'a') from t group by g;
select * from g_one order by g;
select * from g_grand;
select * from oracle();

insert into t values (30, 1, 'a', 100, 1), (31, 7, 'b', null, null), (32, 8, 'c', 2000, 1.25);
select * from oracle();
update t set x = x + 1, y = y * 2 where g = 1;
select ivm.sync();
select * from g_one order by g;
select * from oracle();
-- rows that change their group
update t set g = g + 1 where id % 2 = 0;
update t set h = case h when 'a' then 'b' else 'a' end where id % 3 = 0;
update t set g = null where g = 7;
select * from oracle();
-- a group that is emptied, and comes back in a later transaction
delete from t where g = 8;
select * from oracle();
insert into t values (40, 8, 'c', 1, 1);
select ivm.sync();
select * from g_one where g = 8;
delete from t where g = 8;
insert into t values (41, 8, 'd', 2, 2);
begin;
delete from t where g = 8;
insert into t values (42, 8, 'e', 3, 3);
commit;
select ivm.sync();
select * from g_one where g = 8;
select * from oracle();
-- a group that came and went within one batch
begin;
insert into t values (50, 50, 'x', 1, 1);
delete from t where id = 50;
commit;
select * from oracle();
-- all values of a group become NULL, and values again
update t set x = null, y = null where g = 1;
select ivm.sync();
select * from g_one where g = 1;
select * from oracle();
update t set x = 4, y = 0.5 where g = 1;
select * from oracle();
-- HAVING: in and out
insert into t select i, 1, 'h', 1, 1 from generate_series(60, 64) i;
select * from oracle();
delete from t where id between 60 and 64;
select * from oracle();
-- a grand aggregate over no rows has its row
delete from t;
select ivm.sync();
select * from g_grand;
select * from g_grand_expression;
select * from g_empty_set;
select * from oracle();
insert into t values (1, 1, 'a', 1, 1);
select ivm.sync();
select * from g_grand;
select * from oracle();
-- so far no view has failed or been rebuilt
select relname, rebuilds, error_count from pg_stat_ivm
	where schemaname = 'test_aggregate' and (rebuilds > 0 or error_count > 0) order by 1;
truncate t;
select ivm.sync();
select * from g_grand;
select * from oracle();
insert into t select i, i % 10, chr(97 + i % 5), i, i from generate_series(1, 3000) i;
select * from oracle();
update t set x = -x, g = (g + id) % 11;
select * from oracle();

-- groups of a join, of more than one table's columns
create table r (g integer primary key, name text);
insert into r select i, 'name ' || i % 4 from generate_series(0, 11) i;
create incremental view g_join as select r.name, t.h, count(*), sum(t.x), avg(t.y) from t join r using (g) group by r.name, t.h;
create incremental view g_join_key as select r.g, r.name, count(*) from t join r using (g) group by r.g;
update r set name = 'renamed' where g in (1, 5);
update t set g = 5 where id <= 10;
delete from r where g = 3;
select * from oracle();

-- and it all goes away
set client_min_messages = warning;
drop schema test_aggregate cascade;
