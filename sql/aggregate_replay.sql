-- Aggregates whose result is stored and computed from the rows of the group.
\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir /test/regress/oracle.sql
\set ECHO none
\i :oracle
\set ECHO all
create schema test_replay;
create schema test_open;
set search_path = test_replay, public;
create collation ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
create table t (id integer primary key, g integer, h text, x integer, y numeric, f double precision, s text, j json, c text collate ci);
create index on t (g);
insert into t select i, nullif(i % 4, 3), chr(97 + i % 2), i % 5, (i % 3)::numeric(10, 2), nullif(i % 3, 1) * -0.0, 'v' || i % 4,
	json_build_object('a', i % 3), case when i % 2 = 0 then 'ab' else 'AB' end
	from generate_series(1, 24) i;
insert into t values (100, 1, null, null, null, null, null, null, null), (101, 1, 'a', 3, 1.0, 0, 'v1', '{"a": 1}', 'Ab'),
	(102, 1, 'a', 3, 1.000, 0, 'v1', '{"a":1}', 'aB');

create function longest_state(text, text) returns text immutable language sql
	as $$ select case when length($2) > length(coalesce($1, '')) then $2 else $1 end $$;
create aggregate longest(text) (sfunc = longest_state, stype = text);
create function total_state(bigint, integer) returns bigint immutable strict language sql as 'select $1 + $2';
create aggregate total(integer) (sfunc = total_state, stype = bigint, initcond = 0, combinefunc = int8pl);

create incremental view r_string as select g, string_agg(s, ',' order by id) as a, string_agg(h, '' order by x desc, id) as b, count(*) as n, sum(x) as sx from t group by g;
create incremental view r_ties as select g, string_agg(y::text, ',' order by y, id) as a, array_agg(c order by c, id) as cs, array_agg(f order by f, id) as fs from t group by g;
create incremental view r_array as select g, array_agg(x order by id) as a, array_agg(distinct x) as d, array_agg(x order by id) filter (where h = 'a') as fa from t group by g;
create incremental view r_json as select g, json_agg(j order by id) as j, jsonb_object_agg(id, x order by id) as o, json_object_agg(s, x order by id) filter (where s is not null) as p, xmlagg(xmlelement(name v, x) order by id)::text as xm from t group by g;
create incremental view r_percentile as select g, percentile_cont(0.5) within group (order by x) as m, percentile_disc(0.25) within group (order by s) as q,
	percentile_cont(array[0.1, 0.9]) within group (order by f) as pf, mode() within group (order by x) as md from t group by g;
create incremental view r_direct as select g, percentile_disc(coalesce(g, 0) / 10.0) within group (order by x) as p, rank(2, 'v1') within group (order by x, s) as r,
	dense_rank(g) within group (order by x desc nulls last) as dr, cume_dist(3) within group (order by x) as cd from t group by g;
create incremental view r_distinct as select g, count(distinct x) as c, sum(distinct x) as s, count(distinct c) as cc, string_agg(distinct s, ',') as a,
	string_agg(distinct s, ',' order by s desc) as b, avg(distinct x) filter (where h = 'b') as av, count(distinct (g, h)) as row_count from t group by g;
create incremental view r_own as select g, longest(s order by id) as l, total(x) as t, total(x) filter (where h = 'a') as ta, total(distinct x) as td from t group by g;
create incremental view r_forward as select g, min(x), max(s), min(y) as my, bit_and(x), bit_or(x), max(f) as mf, min(c) is null as cn, regr_count(f, x) as rc from t group by g;
create incremental view r_bits as select g, bit_and(x) as a, bit_or(x - 3) as o, bit_xor(x) as x, bit_and(id::bigint - 100) as b8, bit_xor(id::smallint) as x2, bit_or(distinct x) as od, bit_xor(distinct x) as xd, bit_or(x::bit(4)) as ob from t group by g;
create incremental view r_grand as select string_agg(s, ',' order by id) as a, percentile_cont(0.5) within group (order by x) as m, count(distinct x) as d, max(x) as mx, count(*) as n from t;
create incremental view r_grand_none as select array_agg(x) as a, count(distinct x) as d, max(x) as mx, mode() within group (order by x) as md from t where x > 1000;
create incremental view r_having as select g, max(x) as mx from t group by g having count(distinct x) > 3;
create incremental view r_streams as select g, count(distinct x) as c, count(distinct y) as cy, sum(distinct y) as sy, avg(distinct x) filter (where h = 'b') as a, count(distinct c) as cc, sum(distinct f) as sf, count(distinct id) as i, bool_or(distinct x > 2) as bo, min(distinct x) as mi, count(*) as n, string_agg(s, ',' order by id) as sa, max(y) as my from t group by g;
create incremental view r_stream_y as select y, count(distinct x) as c, count(distinct g) as cg, sum(distinct id) as si from t group by y;
create incremental view r_stream_grand as select count(distinct y) as c, sum(distinct x) filter (where h = 'a') as s, percentile_disc(0.5) within group (order by x) as p from t;
create incremental view r_stream_sets as select g, h, count(distinct x) as c, count(distinct s) as d from t group by rollup (g, h);
select delta_plan('r_stream_grand');
-- groups that only say whether there is a match, by an expression
create incremental view r_semi as select id, count(*) as n from t where exists (select from (select x * 2 as x2 from t u) q where q.x2 - 1 = t.id) group by id;
create incremental view r_over_join as select a.g, string_agg(b.s, ',' order by a.id, b.id) as s, count(distinct b.x) as d from t a join t b on a.x = b.id group by a.g;
create incremental view r_over_group as select n, array_agg(g order by g) as gs from (select g, count(*) as n from t group by g) q group by n;
create incremental view r_above as select q.g, q.m, t.id from (select g, percentile_disc(0.5) within group (order by x) as m from t group by g) q join t on t.g = q.g and t.x = q.m;
create incremental view r_by_text as select c, string_agg(s, ',' order by id) as s from t group by c;
-- what the query leaves open is settled
create incremental view test_open.r_open as select g, string_agg(s, ',') as a, array_agg(y) as ys, json_agg(j) as js, array_agg(c order by x) as cs, longest(s) as l from t group by g;
select delta_plan('test_open.r_open');
select delta_plan('r_over_join');
select * from r_string order by g;
select * from test_open.r_open order by g;
select * from r_grand_none;
select * from oracle();
select * from ivm.verify('test_open.r_open');

insert into t values (200, 2, 'b', 4, 2, 1, 'v9', '[1]', 'ab'), (201, 9, 'a', 1, 1, 1, 'v1', null, 'x');
select * from oracle();
select * from ivm.verify('test_open.r_open');
update t set x = x + 1 where id % 5 = 0;
select * from oracle();
select * from ivm.verify('test_open.r_open');
update t set s = s || 'x', y = y + 0.0 where g = 1;
select * from oracle();
select * from ivm.verify('test_open.r_open');
-- rows that change their group, NULL among them
update t set g = case when g is null then 0 when g = 0 then null else g end where id % 3 = 0;
select * from oracle();
select * from ivm.verify('test_open.r_open');
delete from t where id in (100, 101);
select * from oracle();
select * from ivm.verify('test_open.r_open');
-- the same row twice, and ties that come and go
insert into t values (101, 1, 'a', 3, 1.0, 0, 'v1', '{"a": 1}', 'Ab'), (103, 1, 'a', 3, 1.00, -0.0, 'v1', '{"a": 1}', 'AB');
select * from oracle();
select * from ivm.verify('test_open.r_open');
delete from t where id = 102;
select * from oracle();
select * from ivm.verify('test_open.r_open');
delete from t where g = 9;
update t set x = null where g = 2;
select * from oracle();
select * from ivm.verify('test_open.r_open');
-- only rows that a filter refuses
update t set h = 'b' where g = 0 and h = 'b';
delete from t where g = 1 and h = 'b';
select * from oracle();
select * from ivm.verify('test_open.r_open');
select * from test_open.r_open order by g;
truncate t;
select * from oracle();
select * from ivm.verify('test_open.r_open');
select * from r_grand;
insert into t values (1, 1, 'a', 1, 1, 1, 'z', null, 'c'), (2, 1, 'a', 2, 1, 1, 'y', null, 'C');
select * from oracle();
select * from ivm.verify('test_open.r_open');
select * from test_open.r_open;
set client_min_messages = warning;
drop schema test_replay, test_open cascade;
