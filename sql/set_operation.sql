-- UNION, INTERSECT and EXCEPT, with and without ALL, by deltas.
\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir /test/regress/oracle.sql
\set ECHO none
\i :oracle
\set ECHO all
create schema test_set_operation;
set search_path = test_set_operation, public;
set client_min_messages = warning;
create function plan(view regclass) returns setof text language sql as $$
	select line from ivm.explain(view) with ordinality e (line, number)
	where line ~ '->|From | by | every row |Reason|Group Key|Key:' order by number
$$;
create collation nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
create table l (id integer primary key, k integer, n numeric, f float8, c text collate nocase);
create table r (id integer primary key, k integer, n numeric, f float8, c text collate nocase);
insert into l values (1, 1, 1.0, 0.0, 'a'), (2, 1, 1.00, '-0.0', 'A'), (3, 2, 2, 1, 'b'), (4, null, null, null, null), (5, null, null, null, null),
	(6, 3, 3.0, 'NaN', 'c'), (7, 2, 2, 1, 'b'), (8, 5, 5, 5, 'e');
insert into r values (1, 1, 1.000, '-0.0', 'A'), (2, 2, 2.0, 1, 'B'), (3, null, null, null, null), (4, 4, 4, 4, 'd'), (5, 4, 4, 4, 'd'), (6, 2, 2.00, 1, 'b');

create incremental view u_one as select k from l union select k from r;
create incremental view u_all as select k, n from l union all select k, n from r;
create incremental view i_one as select k from l intersect select k from r;
create incremental view i_all as select k from l intersect all select k from r;
create incremental view e_one as select k from l except select k from r;
create incremental view e_all as select k from l except all select k from r;
-- equal, but of several images: one of a left row is shown
create incremental view u_image as select k, n, f, c from l union select k, n, f, c from r;
create incremental view i_image as select k, n, f, c from l intersect select k, n, f, c from r;
create incremental view i_all_image as select n, c from l intersect all select n, c from r;
-- the planner puts the side first that it thinks smaller
create incremental view i_right_image as select n, c from l intersect all select n, c from r where k between -10 and 10 and id < 1000;
create incremental view e_image as select n, f, c from l except select n, f, c from r where k is not null;
create incremental view e_all_image as select n, c from l except all select n, c from r;
-- sorted: a type without hash function, on either side the smaller one first
create incremental view s_sorted as select n, k::bit(4) as b from l except all select n, k::bit(4) from r;
create incremental view s_sorted_intersect as select k::bit(4) as b from l where k is not null intersect select k::bit(4) from r where k is not null;
create incremental view s_grouped_left as select k from l intersect select k from r group by k;
create incremental view s_grouped_right as select k from l group by k intersect all select k from r;
-- a side is empty, without tables, or the other side
create incremental view n_left as select k from l where false except select k from r;
create incremental view n_right as select k from l except all select k from r where false;
create incremental view n_both as select k, n from l where 1 = 0 intersect select k, n from r;
create incremental view n_values as select k from l except values (1), (4), (null);
create incremental view n_values_all as values (1), (1), (2), (null), (null) except all select k from r;
create incremental view n_self as select k from l except all select k from l;
create incremental view n_self_filtered as select k, n from l except all select k, n from l where id > 3;
-- nested, of different column types, with a constant column, below and above others
create incremental view x_left as (select k from l union all select k from r) except all select k from r where id < 4;
create incremental view x_right as select k::bigint from l except (select k from r intersect select k + 1 from l);
create incremental view x_three as ((select k from l except all select k from r) intersect all select k from l) union select n from r;
create incremental view x_except_union as select k, n from l union (select k, n from r except select k, n from l where id % 2 = 0);
create incremental view x_constant as select 1 as one, k from l intersect select id % 3, k from r;
create incremental view x_group as select k, count(*) as m, sum(n) as s from (select k, n from l except all select k, n from r) d group by k;
create incremental view x_of_groups as select k, count(*) from l group by k intersect select k, count(*) from r group by k;
create incremental view x_narrow as select count(*) from (select k, n, f from l intersect all select k, n, f from r) d;
create incremental view x_filter as select n + 1 as n from (select k, n from l except select k, n from r) d where k > 1 or k is null;
create incremental view x_cte as with d as (select k from l except all select k from r) select a.k, b.k as kk from d a join d b on a.k = b.k;
-- a key of the left side is one of the result
create incremental view k_left as select id, k from l except all select id, k from r;
create incremental view k_right as select k, id from l intersect all select k, id from r;
select plan('i_one');
select plan('e_all');
select plan('i_image');
select plan('i_right_image');
select plan('k_left');
select plan('x_three');
select plan('x_narrow');
select plan('u_one');
-- is there one with a part that is recomputed?
select relname from pg_stat_ivm, ivm.explain(relid) line where schemaname = 'test_set_operation' and line ~ 'Recompute';

-- looked up: by all columns, in any order, in its own groups; by a part of them, in a table; all of it
create incremental view j_all as select l.id, d.k from l join (select k, n from l intersect all select k, n from r) d on d.n = l.n and l.k = d.k;
select plan('j_all');
create incremental view j_one as select r.id, d.k from r join (select k from l except select k from r where id = 2) d on d.k = r.k;
select plan('j_one');
create incremental view j_part as select l.id, d.n from l join (select k, n from l except all select k, n from r) d on d.k = l.k;
select plan('j_part');
create incremental view j_every as select l.id, d.k from l join (select k from l intersect all select k from r) d on d.k < l.k;
select plan('j_every');
create incremental view j_union as select l.id, d.k from l join (select k from l where id < 5 union select k from r) d using (k);
select plan('j_union');
create incremental view j_three as
	select a.k, b.m from (select k from l intersect select k from r) a
		join (select k, count(*) as m from (select k, n from l except all select k, n from r) e group by k) b using (k);
select plan('j_three');
select * from i_all order by 1;
select * from e_all order by 1;
select * from oracle();

-- the images that are shown are those of left rows that are there
create function not_there() returns table (view text, row_text text) language sql as $$
	select 'i_image', v::text from i_image v where not exists (select from l where (k, n, f, c)::text = v::text)
	union all select 'i_all_image', v::text from i_all_image v where not exists (select from l where (n, c)::text = v::text)
	union all select 'i_right_image', v::text from i_right_image v where not exists (select from l where (n, c)::text = v::text)
	union all select 'e_image', v::text from e_image v where not exists (select from l where (n, f, c)::text = v::text)
	union all select 'e_all_image', v::text from e_all_image v where not exists (select from l where (n, c)::text = v::text)
$$;
-- the row whose image is shown goes, others that are equal stay; and the same with what is left on the right only
create function all_is_well() returns table (view name, missing bigint, extra bigint) language sql as $$
	select name, missing, extra from oracle() where missing <> 0 or extra <> 0
	union all select view::name, 1, 1 from not_there()
$$;
select * from all_is_well();
delete from l where id = 1;
select * from all_is_well();
insert into l values (1, 1, 1.0000, 0.0, 'a');
select * from all_is_well();
delete from l where id = 2;
select * from all_is_well();
select n, c from i_all_image where n = 1;
delete from l where id = 1;
select * from all_is_well();
-- other left rows come to a group that had none
insert into l values (1, 1, 1, '-0.0', 'A'), (2, 1, 1.0, 0.0, 'a');
select * from all_is_well();
delete from r where k = 1;
select * from all_is_well();
-- both sides in one transaction, in both directions
begin;
insert into r values (1, 1, 1.0, 0, 'a');
delete from l where id = 1;
commit;
select * from all_is_well();
begin;
update l set k = coalesce(k, 0) + 1;
update r set k = nullif(k, 4);
commit;
select * from all_is_well();
update r set n = n * 1.00, c = upper(c);
select * from all_is_well();

-- many small steps: each compared
create function change(step integer) returns void language plpgsql as $$
declare
	side text := case when random() < 0.5 then 'l' else 'r' end;
	id integer := (random() * 12)::integer;
begin
	for i in 0 .. (random() * 3)::integer loop
		case (random() * 3)::integer
			when 0 then
				execute format('delete from %I where id %% 13 = %s', side, id);
			when 1 then
				execute format('update %I set k = nullif((k + 1) %% 4, 3), n = case when n::text like ''%%0'' then trunc(n) else n * 1.0 end where id %% 5 = %s', side, id % 5);
			else
				execute format($s$insert into %I values (%s, %s, %s, %L, %L) on conflict (id) do update set k = excluded.k, n = excluded.n, f = excluded.f, c = excluded.c$s$,
							   side, id, coalesce(nullif((random() * 4)::integer, 4)::text, 'null'),
							   (array['1.0', '1', '1.00', '2', '2.0', 'null'])[1 + (random() * 5)::integer],
							   (array['0', '-0', '1', 'NaN', null])[1 + (random() * 4)::integer],
							   (array['a', 'A', 'b', 'B', null])[1 + (random() * 4)::integer]);
		end case;
		side := case when side = 'l' then 'r' else 'l' end;
		id := (random() * 12)::integer;
	end loop;
end
$$;
create procedure changes(steps integer) language plpgsql as $$
declare
	bad text;
begin
	for i in 1 .. steps loop
		perform change(i);
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
select setseed(0.42);
call changes(60);

-- all by deltas, but for groups of several images
select relname, rebuilds, error_count from pg_stat_ivm
	where schemaname = 'test_set_operation' and (rebuilds > 0 or error_count > 0 or recomputes > 0 and relname ~ '^[ie]_(one|all)$|^k_|^x_(left|right)$') order by 1;
truncate l;
select * from all_is_well();
insert into l select i, i % 40, (i % 7)::numeric(5, 1), i % 3, chr(97 + i % 5) from generate_series(1, 700) i;
insert into r select i, i % 60, (i % 6)::numeric(5, 0), i % 4, chr(65 + i % 4) from generate_series(1000, 1600) i;
select * from all_is_well();
delete from l where id % 3 = 0;
select * from all_is_well();
select * from oracle();

-- and it all goes away
drop schema test_set_operation cascade;
