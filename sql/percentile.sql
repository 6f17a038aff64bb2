-- Percentiles: the places of values in an order are kept, and walked on from; small groups are computed from their rows.
\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir /test/regress/oracle.sql
\set ECHO none
\i :oracle
\set ECHO all
create schema test_percentile;
set search_path = test_percentile, public;
create collation ignoring_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
set client_min_messages = warning;
create table t (id integer primary key, g integer, x integer, n numeric, f float8, s text collate ignoring_case, i interval, l text);
create table u (id integer primary key, t_id integer, p float8);

create incremental view medians as select g, percentile_cont(0.5) within group (order by x) as m, count(*) as c from t group by g;
create incremental view discs as select g, percentile_disc(0.25) within group (order by n) as q1, percentile_disc(0.75) within group (order by n desc) as q3,
	percentile_disc(0) within group (order by s desc nulls last) as last, percentile_disc(1) within group (order by s) as s1 from t group by g;
create incremental view several as select g, percentile_cont(array[0, 0.1, null, 0.9, 1, 0.1]) within group (order by f) as c,
	percentile_disc(array[[0.3, 0.7], [1, 0]]) within group (order by x) as d, percentile_disc(array[]::float8[]) within group (order by x) as e from t group by g;
create incremental view filtered as select g, percentile_disc(0.5) within group (order by x) filter (where s < 'd') as p, percentile_cont(0.9) within group (order by x * 2 + 1) as q,
	sum(distinct x) as d from t group by g;
create incremental view intervals as select percentile_cont(0.4) within group (order by i) as c, percentile_disc(array[0.4, 0.6]) within group (order by i desc) as d from t;
create incremental view by_group as select g, percentile_disc(g / 10.0) within group (order by x) as p, percentile_cont(null) within group (order by x) as n from t where g between 0 and 10 group by g;
create incremental view mixed as select g, percentile_disc(0.5) within group (order by x) as p, mode() within group (order by x) as m, min(x) as mn, max(n) as mx, sum(x) as s, array_agg(x order by x) as a from t group by g;
create incremental view of_join as select u.p, percentile_cont(0.5) within group (order by t.x) as m, percentile_disc(0.5) within group (order by t.n) as n from t join u on u.t_id = t.id group by u.p;
create incremental view of_long as select g, percentile_disc(array[0.2, 0.5, 0.8]) within group (order by l) as l from t group by g;
create incremental view by_sets as select g, x, percentile_disc(0.5) within group (order by id) as p from t group by grouping sets ((g), (x), ());
create incremental view above as select q.m, count(*) as c from (select g, percentile_disc(0.5) within group (order by x) as m from t group by g having count(*) > 1) q group by q.m;

select delta_plan('medians');
select delta_plan('filtered');
select * from oracle();
insert into t select i, i % 3, i * 7 % 20, ((i % 5) || repeat('.0', (i % 2)))::numeric, (array[1.5, '-0', 0, 'nan', '-infinity', 3])[1 + i % 6], chr(97 + i % 6),
	make_interval(days => i % 4, hours => 24 * (i % 2)), repeat(chr(97 + i % 7), 1 + 2500 * (i % 13 / 12)) || i % 5 from generate_series(1, 60) i;
insert into u select i, i, (i % 3) / 2.0 from generate_series(1, 40) i;
select * from oracle();
-- in front, behind, in the middle; values and NULLs
insert into t values (100, 0, -5, -1, -2, 'A', '-1 day', 'a');
select * from oracle();
insert into t values (101, 0, 500, 100, 'infinity', 'Z', '1 year', 'zzz'), (102, 1, null, null, null, null, null, null), (103, null, 3, 1.00, 0, 'C', '24:00', 'm');
select * from oracle();
delete from t where id in (3, 7, 12);
select * from oracle();
update t set x = x + 3, n = n * 1.0, f = -f, s = upper(s) where id % 4 = 0;
select * from oracle();
-- equal values that look different, to which the one that is shown belongs
update t set n = 1.000, s = 'c', i = '24:00' where id % 2 = 0;
select * from oracle();
update t set n = 1.0, s = 'C', i = '1 day' where id % 4 = 2;
select * from oracle();
select q.g from discs q where not exists (select from t where t.g is not distinct from q.g and t.n::text = q.q1::text);
delete from t where n::text = '1.000' and id % 8 = 0;
select * from oracle();
select q.g from discs q where not exists (select from t where t.g is not distinct from q.g and t.n::text = q.q1::text);
-- groups that go, come back, and change all at once
update t set g = g + 1 where id % 3 = 0;
select * from oracle();
begin;
delete from t where g = 1;
insert into t select i, 1, i, i, i, 'new', make_interval(days => i), repeat('q', i * 20) from generate_series(201, 230) i;
update t set x = 1 where g = 2;
commit;
select * from oracle();
delete from t where id < 200;
select * from oracle();
delete from t;
select * from oracle();
-- many rows, and then one after the other
insert into t select i, i % 2, i * 7919 % 5000, i % 50, i % 300, chr(97 + i % 20), make_interval(hours => i % 1000), null from generate_series(1, 10000) i;
insert into u select i, i, 0.5 from generate_series(1001, 3000) i;
select * from oracle();
do $$ begin for k in 1 .. 12 loop
	insert into t values (20000 + k, k % 2, -k, k, k, 'a', '1 hour', null);
	commit;
	perform ivm.sync();
	if (select m from medians where g = k % 2) is distinct from (select percentile_cont(0.5) within group (order by x) from t where g = k % 2) then raise 'median % is wrong', k; end if;
	delete from t where id = 10000 - k * 3;
	commit;
	perform ivm.sync();
	if (select p from filtered where g = k % 2) is distinct from (select percentile_disc(0.5) within group (order by x) filter (where s < 'd') from t where g = k % 2) then raise 'percentile % is wrong', k; end if;
end loop; end $$;
select * from oracle();
update t set x = 5000 - x where id % 3 = 0;
select * from oracle();
delete from t where x < 2500;
select * from oracle();
-- (rows for array_agg are read from the table as long as that is small)
select relname, last_rebuild_reason from pg_stat_ivm where schemaname = 'test_percentile' and rebuilds > 0 and last_rebuild_reason !~ 'outgrown';

-- an index on the group, and statistics: groups of few rows are computed from these, and large ones are not
create table small (g integer, x integer);
create table large (g integer, x integer);
insert into small select i / 5, i from generate_series(1, 5000) i;
insert into large select i % 3, i from generate_series(1, 5000) i;
create index on small (g);
create index on large (g);
analyze small, large;
create incremental view of_small as select g, percentile_disc(0.5) within group (order by x) as p from small group by g;
create incremental view of_large as select g, percentile_disc(0.5) within group (order by x) as p from large group by g;
select delta_plan('of_small');
select delta_plan('of_large');
delete from small where x % 7 = 0;
delete from large where x % 7 = 0;
select name, missing, extra from oracle() where name in ('of_small', 'of_large');

-- a fraction that is none
create incremental view no_fraction as select g, percentile_disc(g * 1.0) within group (order by x) as p from large group by g;
drop schema test_percentile cascade;
