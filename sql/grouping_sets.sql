-- GROUPING SETS, ROLLUP, CUBE and GROUPING(), by deltas: an aggregate for each set.
\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir /test/regress/oracle.sql
\set ECHO none
\i :oracle
\set ECHO all
create schema test_grouping_sets;
set search_path = test_grouping_sets, public;
set client_min_messages = warning;
create function plan(view regclass) returns setof text language sql as $$
	select line from ivm.explain(view) with ordinality e (line, number)
	where line ~ '->|From | by | every row |Reason|Group Key|Key:|Filter:|Output' order by number
$$;
create collation nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
create table t (id integer primary key, a integer, b integer, c text collate nocase, n numeric, f float8, bits bit(3), wide text);
create table u (a integer primary key, name text);
insert into t select i, nullif(i % 4, 3), nullif(i % 3, 2), chr(97 + i % 2), (i % 5)::numeric(4, 1), i % 7, (i % 6)::bit(3), 'w' || i from generate_series(1, 30) i;
insert into u values (0, 'zero'), (1, 'one'), (2, 'two');

create incremental view g_sets as select a, b, count(*), sum(n) from t group by grouping sets ((a, b), (a), ());
create incremental view g_rollup as select a, b, c, count(*) as m from t group by rollup (a, b, c);
create incremental view g_cube as select a, b, grouping(a), grouping(b, a) as ba, grouping(a, b) as ab, sum(n) from t group by cube (a, b);
-- in which order they are named, twice, crossed, within each other; of one set
create incremental view g_twice as select a, count(*) from t group by grouping sets ((a), (a), (), ());
create incremental view g_crossed as select a, b, c, count(*) from t group by a, rollup (b), cube (c);
create incremental view g_distinct as select a, b, count(*) from t group by distinct rollup (a, b), rollup (a);
create incremental view g_within as select a, b, c, count(*), grouping(a, b, c) from t group by grouping sets (rollup (a, b), cube (c), (b, c));
create incremental view g_one as select a, sum(n) from t group by grouping sets ((a));
create incremental view g_empty as select count(*), sum(n), grouping(a) from t where id < 0 group by a, () having true;
create incremental view g_nothing as select count(*), sum(b) from t where id < 0 group by ();
create incremental view g_nothing_twice as select count(*) as m, a from t where id < 0 group by grouping sets ((), (a), ());
-- NULL of a set without the column, in expressions and in HAVING; not in what is summed up
create incremental view x_expression as select coalesce(a, -1) + coalesce(b, -10) as e, a is null as no_a, sum(a * 100 + b) as s, count(*) filter (where a = 1) as ones, case grouping(a, b) when 0 then 'both' when 3 then 'none' else 'some' end as which
	from t group by cube (a, b);
create incremental view x_having as select a, b, count(*) from t group by cube (a, b) having a is not null or grouping(a) = 1 and count(*) > 2;
create incremental view x_having_null as select a, sum(n) as s from t group by grouping sets ((a), (b), ()) having a is null;
create incremental view x_grouping_only as select grouping(a, b) as g, count(*) from t group by rollup (a, b);
create incremental view x_no_column as select count(*) from t group by cube (a, b);
create incremental view x_of_expression as select a + b as ab, a % 2 as odd, grouping(a + b), sum(f) from t group by rollup (a + b, a % 2);
create incremental view x_constant as select 1 as one, a, count(*) from t group by grouping sets ((1), (a));
create incremental view x_row_wise as select a, b, count(*) from t group by rollup ((a, b), c);
create incremental view x_where as select * from (select a, b, count(*) as m from t group by rollup (a, b)) g where a = 1 and m > 1;
create incremental view x_dependent as select id, n, a, count(*) from t group by grouping sets ((id, a), (id, b));
-- of several images
create incremental view i_image as select n, c, count(*), sum(a) from t group by cube (n, c);
-- sorted, since it cannot be hashed, and both ways at once
create incremental view s_sorted as select bits, a, count(*) from t group by rollup (bits, a);
create incremental view s_mixed as select bits, a, b, count(*), grouping(bits, a, b) from t group by grouping sets ((bits, a), (b), (a, b), (b, bits), ());
create incremental view s_chained as select bits, c, count(*) from t group by grouping sets ((bits), (c), (bits, c), ());
-- below and above others
create incremental view j_below as select g.a, g.m, u.name from (select a, b, count(*) as m from t group by rollup (a, b)) g join u on u.a = g.a;
create incremental view j_grouped as select m, count(*), sum(a) from (select a, count(*) as m from t group by cube (a, b)) g group by m;
create incremental view j_above as select u.name, t.b, count(*), sum(t.n) from t join u using (a) group by rollup (u.name, t.b);
create incremental view j_rollups as select g.a, h.b, g.m, h.m as hm from (select a, count(*) as m from t group by rollup (a)) g join (select b, a, sum(n) as m from t group by cube (a, b)) h on h.a = g.a or g.m = h.m;
create incremental view j_sets_of_sets as select s, grouping(s), count(*) from (select a, count(*) as s from t group by cube (a, b)) g group by rollup (s);
create incremental view j_union as select a, count(*) from t group by rollup (a) union all select a, 0 from u union select b, 1 from t group by cube (b, c);
create incremental view j_except as select a, b, count(*) from t group by rollup (a, b) except all select a, b, count(*) from t where id > 5 group by cube (a, b);
create incremental view j_cte as with g as (select a, b, count(*) as m from t group by cube (a, b)) select x.a, y.b, x.m from g x join g y on x.a = y.a and x.m >= y.m;
select plan('g_sets');
select plan('g_twice');
select plan('g_cube');
select plan('x_having_null');
select plan('s_mixed');
select plan('j_below');
select plan('x_where');
-- columns that nobody reads are not read from the table
select line from ivm.explain('g_rollup') line where line ~ 'Output';
-- is there one with a part that is recomputed?
select distinct relname from pg_stat_ivm, ivm.explain(relid) line where schemaname = 'test_grouping_sets' and line ~ 'Recompute';
select * from g_cube order by a, b, ba;
select * from g_nothing_twice;
select * from x_expression order by 1, 2, 3, 4, 5;
select * from oracle();

create function all_is_well() returns table (view name, missing bigint, extra bigint) language sql as $$
	select name, missing, extra from oracle() where missing <> 0 or extra <> 0
$$;
-- a group comes and goes in some sets, the one row of the empty set stays
insert into t values (100, 50, 50, 'z', 5, 5, '101', 'w');
select * from all_is_well();
delete from t where id = 100;
select * from all_is_well();
update t set a = b, b = a where id % 2 = 0;
select * from all_is_well();
update t set n = n * 1.000, c = upper(c) where id % 3 = 0;
select * from all_is_well();
update t set wide = wide || 'x';
select * from all_is_well();
begin;
update u set a = a + 1 where a = 2;
delete from t where a = 1 and b = 1;
insert into t select i, i % 2, i % 5, 'B', 1.00, 'NaN', '010', '' from generate_series(40, 60) i;
commit;
select * from all_is_well();
delete from t where f = 'NaN' and id > 50;
select * from all_is_well();
create procedure changes(steps integer) language plpgsql as $$
declare
	bad text;
begin
	for i in 1 .. steps loop
		for j in 0 .. (random() * 2)::integer loop
			case (random() * 4)::integer
				when 0 then
					delete from t where id % 13 = (random() * 12)::integer;
				when 1 then
					update t set a = nullif((a + 1) % 4, 3), n = case when n::text like '%0' then trunc(n) else n * 1.0 end where id % 5 = i % 5;
				when 2 then
					update t set b = nullif(i % 4, 3), bits = (i % 4)::bit(3), c = case when c::bytea = 'a'::bytea then 'A' else 'a' end where id % 7 = i % 7;
				else
					insert into t select k, nullif(k % 5, 4), nullif(i % 3, 2), (array['a', 'A', 'b', 'B', null])[1 + k % 5], (array[1, 1.0, 1.00, null])[1 + i % 4], (array['0', '-0', 'NaN', '1'])[1 + k % 4]::float8, (k % 5)::bit(3), 'n'
						from generate_series(i * 2, i * 2 + 5) k on conflict (id) do update set a = excluded.a, n = excluded.n, c = excluded.c;
			end case;
		end loop;
		commit;
		select string_agg(format('%s %s %s', w.view, w.missing, w.extra), ', ') into bad from all_is_well() w;
		commit;
		if bad is not null then
			raise warning 'after step %: %', i, bad;
			exit;
		end if;
	end loop;
end
$$;
select setseed(0.7);
call changes(40);
select relname, rebuilds, error_count from pg_stat_ivm
	where schemaname = 'test_grouping_sets' and (rebuilds > 0 or error_count > 0 or recomputes > 0 and relname ~ '^[gj]' and relname !~ 'rollup|crossed|within') order by 1;
-- what has no delta rule in one set has none in any
create incremental view r_window as select a, b, m from (select a, b, count(*) over (order by a) as m from t) w group by rollup (a, b, m);
select plan('r_window');
select * from all_is_well();
delete from t;
select * from all_is_well();
select * from g_rollup;
select * from g_twice;
truncate t;
insert into t select i, i % 40, i % 7, chr(97 + i % 5), i % 9, i % 5, (i % 8)::bit(3), 'w' from generate_series(1, 3000) i;
select * from oracle();

-- and it all goes away
drop schema test_grouping_sets cascade;
