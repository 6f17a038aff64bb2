-- What has no rule of its own is run again and compared; the user is told.
\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir /test/regress/oracle.sql
\set ECHO none
\i :oracle
\set ECHO all
create schema test_recompute;
set search_path = test_recompute, public;
create table t (id integer primary key, g integer, x integer);
create table u (id integer primary key, t_id integer, name text);
insert into t select i, i % 4, (i * 7) % 11 from generate_series(1, 20) i;
insert into u select i, i * 2, 'u' || i % 3 from generate_series(1, 8) i;

create incremental view r_semi as select id from t where exists (select from u where u.t_id = t.id);
create incremental view r_in as select id from t where id in (select t_id from u where name = 'u1');
create incremental view r_not_in as select id from t where id not in (select t_id from u where t_id is not null);
create incremental view r_min_max as select g, min(x), max(x), count(*) from t group by g;
create incremental view r_count_distinct as select g, count(distinct x) from t group by g;
create incremental view r_ordered as select g, string_agg(x::text, ',' order by x, id), array_agg(id order by id desc) from t group by g;
create incremental view r_window as select id, row_number() over (partition by g order by x, id), sum(x) over (partition by g) from t;
create incremental view r_limit as select id, x from t order by x desc, id limit 5;
create incremental view r_offset as select id from t order by id offset 15;
create incremental view r_distinct_on as select distinct on (g) g, id, x from t order by g, x, id;
create incremental view r_union as select x from t union select id from u;
create incremental view r_correlated as select id, (select count(*) from u where u.t_id = t.id) as n from t;
create incremental view r_scalar as select id, x - (select avg(x) from t) as d from t;
create incremental view r_srf as select id, generate_series(1, x % 3) as s from t;
create incremental view r_unnest as select id, v from t, unnest(array[id, x]) v;
create incremental view r_recursive as
	with recursive w (id, depth) as (select id, 0 from t where id < 3 union all select w.id + u.t_id, depth + 1 from w join u on u.id = w.id where depth < 4)
	select * from w;
create incremental view r_percentile as select g, percentile_cont(0.5) within group (order by x) from t group by g;
create incremental view r_hypothetical as select g, rank(5) within group (order by x) from t group by g;
create incremental view r_all as select id from t where x > all (select t_id from u where t_id < 8);
create incremental view r_exists as select id, exists (select from u where u.t_id = t.id) as e, array(select u.id from u where u.t_id = t.id order by 1) as a from t;
create incremental view r_lateral as select t.id, l.name from t, lateral (select name from u where u.id <= t.x order by u.id desc limit 1) l;
create incremental view r_grand_max as select max(x), min(id) filter (where g = 1) from t;
create incremental view r_having as select g from t group by g having max(x) > 9;
create incremental view r_frame as select id, avg(x) over (order by id rows between 1 preceding and 1 following) from t;
create incremental view r_with_ties as select g from t order by g fetch first 3 rows with ties;
create incremental view r_function as select s from generate_series(1, 5) s where s not in (select x from t where x is not null);
-- the part that is recomputed is the smallest one
create incremental view r_part as
	select w.id, u.name from (select id, rank() over (order by x, id) as r from t) w join u on u.t_id = w.id where w.r < 10;
create incremental view r_below as select g, n from (select g, count(*) as n from t group by g) s order by n desc, g limit 2;
create incremental view r_above as select m, count(*) from (select g, max(x) over (partition by g) as m from t) s group by m;
select delta_plan('r_part');
select delta_plan('r_below');
select delta_plan('r_above');
select * from r_min_max order by g;
select * from oracle();

insert into t values (21, 1, 100), (22, 9, -5);
insert into u values (9, 21, 'u9'), (10, 500, 'nowhere'), (11, null, 'null');
select * from oracle();
-- the largest and the smallest leave
delete from t where id = 21;
update t set x = x + 1 where x = (select min(x) from t);
select * from oracle();
update u set t_id = t_id + 1;
select * from oracle();
begin;
delete from u where id < 5;
update t set g = 3 where g = 2;
insert into t values (23, 2, 2);
commit;
select * from oracle();
-- nothing that is read changed
update u set name = name;
select * from oracle();
truncate u;
select * from oracle();
insert into u select i, i, 'u' || i from generate_series(1, 25) i;
select * from oracle();
truncate t;
select * from oracle();
select * from r_scalar;

-- one who wants deltas only gets an error instead
set ivm.fallback = error;
create incremental view r_refused as select g, row_number() over (order by id) from t;
create incremental view r_accepted as select g, count(*) from t group by g;
select to_regclass('r_refused') as refused;
create incremental view r_refused as select g, rank() over (order by id) from t with no data;
create materialized view r_refused as select max(x) over () from t;
alter materialized view r_refused set access method incremental;
select a.amname from pg_class c join pg_am a on a.oid = c.relam where c.oid = 'r_refused'::regclass;
-- which views that are there do not mind
insert into t values (1, 1, 1), (2, 1, 5);
reset ivm.fallback;
select * from oracle();

-- and it all goes away
set client_min_messages = warning;
drop schema test_recompute cascade;
