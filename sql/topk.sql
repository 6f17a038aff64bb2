-- ORDER BY with LIMIT and OFFSET, WITH TIES: the first rows in an order, by one walk.
\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir /test/regress/oracle.sql
\set ECHO none
\i :oracle
\set ECHO all
create schema test_topk;
set search_path = test_topk, public;
create collation ignoring_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
create type mood as enum ('sad', 'calm', 'glad');
set client_min_messages = warning;
create table t (id integer primary key, a integer, n numeric, s text collate ignoring_case, m mood, pad text);
create table u (id integer primary key, t_id integer, y integer);

create incremental view first_rows as select id, a from t order by a, id limit 5;
create incremental view descending as select a, id from t order by a desc, id desc limit 4 offset 3;
create incremental view nulls_first as select a, id from t order by a desc nulls last, id limit 4;
create incremental view hidden_order as select id, pad from t order by a nulls first, id limit 3;
create incremental view skipped as select id, a from t order by a, id offset 8;
create incremental view nothing as select id, a from t order by a, id limit 0;
create incremental view with_ties as select id, a from t order by a fetch first 3 rows with ties;
create incremental view ties_after as select a from t order by a desc nulls last offset 2 fetch first 2 rows with ties;
create incremental view by_number as select n from t order by n desc limit 6;
create incremental view by_text as select s, m, id from t order by s, m desc, id limit 6;
create incremental view by_group as select a, count(*) as c, sum(n) as sum from t group by a order by c desc, a limit 3;
create incremental view by_join as select t.id, u.y from t join u on t.id = u.t_id order by u.y desc, u.id limit 4;
create incremental view by_both as (select id, a from t order by a, id limit 3) union all (select id, y from u order by y, id limit 3);
create incremental view joined_to as select q.id, u.y from (select id, a from t order by a, id limit 5) q join u on u.t_id = q.id;
create incremental view counted as select a, count(*) from (select a from t order by id desc limit 6) q group by a;
create incremental view of_first as select id from (select id, a from t order by a, id limit 8) q order by id limit 2;
create incremental view small_pages as select b.id, c.id as other from
	(select id, a from t order by id limit 4) b join (select id, a from t order by id desc limit 4) c using (a);

select delta_plan('first_rows');
select delta_plan('ties_after');
select delta_plan('by_group');
select delta_plan('joined_to');
select * from oracle();

insert into t select i, i % 5, (i % 4) + 0.0, chr(97 + i % 3), (array['sad', 'calm', 'glad'])[1 + i % 3]::mood, 'x' from generate_series(1, 12) i;
insert into u select i, i % 7, i % 4 from generate_series(1, 10) i;
select * from oracle();
-- one change after the other: in front, behind, at the border
insert into t values (13, 0, 3.00, 'A', 'sad', 'y');
select * from oracle();
insert into t values (14, null, null, null, null, 'y'), (15, null, 3.000, 'B', null, null);
select * from oracle();
delete from t where id = 5;
select * from oracle();
update t set a = a + 1 where id in (1, 6);
select * from oracle();
update t set id = id + 100 where id < 4;
select * from oracle();
update t set n = 3, s = upper(s) where id > 8;
select * from oracle();
delete from t where a = 0;
select * from oracle();
insert into t select i, 2, 1, 'c', 'glad', 'z' from generate_series(200, 210) i;
select * from oracle();
update u set y = 9 - y;
select * from oracle();
delete from u where id % 2 = 0;
delete from t where id % 2 = 0;
select * from oracle();
delete from t where id > 9;
select * from oracle();
delete from t;
select * from oracle();
insert into t select i, i % 3, i, 'd', 'calm', 'w' from generate_series(1, 30) i;
insert into u select i, i, i from generate_series(21, 40) i;
select * from oracle();
truncate u;
select * from oracle();

-- equal values that look different, and rows that are there more than once: some rows of those that the order
-- leaves open, and the same ones whichever way the view came to them
create table ties (n numeric, s text);
create incremental view some_ties as select n, s from ties order by n limit 4;
create incremental view less as select n from ties order by n limit 3 offset 1;
insert into ties select (array['1', '1.0', '1.00'])[1 + i % 3]::numeric, (i % 3)::text from generate_series(1, 9) i;
select * from ivm.verify('some_ties');
delete from ties where ctid in (select min(ctid) from ties group by s);
select * from ivm.verify('some_ties');
select * from ivm.verify('less');
insert into ties values (1.0, '0'), (1.00, '0'), (1, '0'), (0.0, 'first');
select * from ivm.verify('some_ties');
delete from ties where s = '0';
select * from ivm.verify('some_ties');
select * from ivm.verify('less');
create temporary table before as select n::text, s from some_ties;
refresh materialized view some_ties;
select n::text, s from some_ties except all table before;

-- without an order any rows will do: the same ones whichever way the view came to them
create incremental view any_rows as select n, s from ties limit 3 offset 1;
create incremental view any_joined as select q.s, count(*) from (select s from ties limit 4) q join ties using (s) group by q.s;
select delta_plan('any_rows');
insert into ties select i, 'any' from generate_series(1, 20) i;
select ivm.sync();
select count(*) from any_rows;
select * from ivm.verify('any_rows');
delete from ties where (n, s) in (table any_rows);
select ivm.sync();
select count(*) from any_rows;
select * from ivm.verify('any_rows');
select * from ivm.verify('any_joined');
delete from ties where n > 2;
select ivm.sync();
select count(*) from any_rows;
select * from ivm.verify('any_rows');
select * from ivm.verify('any_joined');

-- and only the first of them are kept, of whatever input; when they have gone the next ones are read
create table many (id integer, x integer, s text);
create incremental view any_of_many as select s, x from many limit 5;
create incremental view any_page as select s, x from many limit 700 offset 20;
create incremental view any_pair as select m.s, t.n from many m join ties t on t.n = m.x limit 50;
create incremental view any_group as select x, count(*) as c, sum(id) as sum from many group by x limit 8 offset 2;
create incremental view any_counted as select x, count(*) from (select id, x from many limit 600) q group by x;
-- (which rows of equal hashes are the first is left open)
create function any_verify(view regclass) returns record language sql as $$
	select case when coalesce(current_setting('ivm.debug_hash_bits', true), '64') = '64' then ivm.verify(view) else row(0::bigint, 0::bigint) end $$;
create function any_are_right() returns table (name text, n_rows bigint, missing bigint, extra bigint) language plpgsql as $$
begin
	perform ivm.sync();
	foreach name in array array['any_counted', 'any_group', 'any_of_many', 'any_page', 'any_pair'] loop
		execute format('select %s from %I', case name when 'any_counted' then 'sum(count)' else 'count(*)' end, name) into n_rows;
		select v.missing, v.extra into missing, extra from any_verify(name::regclass) v (missing bigint, extra bigint);
		return next;
	end loop;
end $$;
create function is_kept_small(view regclass) returns boolean language sql as
	$$select sum(pg_relation_size(c.oid)) < 800000 from pg_class c where c.relname like 'v' || view::oid || '\_%' and c.relkind = 'm'$$;
insert into many select i, i % 4000, 'row ' || i / 2 from generate_series(1, 40000) i;
select * from any_are_right();
select delta_plan('any_group');
create incremental view any_later as select s, x from many limit 5;
select missing, extra from any_verify('any_later') v (missing bigint, extra bigint);
select is_kept_small('any_later');
-- one row or a few, then nearly all
delete from many where (s, x) in (table any_of_many);
select * from any_are_right();
update many set s = s || '+' where (s, x) in (table any_page);
select * from any_are_right();
delete from many where id % 64 > 0;
select * from any_are_right();
delete from many where id % 1024 > 0;
select * from any_are_right();
insert into many select i, i % 4000, 'new ' || i / 3 from generate_series(1, 50000) i;
select * from any_are_right();
select missing, extra from any_verify('any_later') v (missing bigint, extra bigint);
begin;
delete from many where id % 100 > 0;
insert into many select i, i % 10, 'same' from generate_series(1, 3000) i;
delete from many where (s, x) in (table any_of_many);
commit;
select * from any_are_right();
delete from many;
select * from any_are_right();

-- values that are too long for an index
create table long (id integer primary key, s text);
create incremental view of_long as select s, id from long order by s, id limit 3;
create incremental view last_long as select id, s from long order by s desc nulls last, id limit 3;
insert into long select i, repeat(chr(97 + i % 5), 3000 * (i % 2)) || i from generate_series(1, 10) i;
select name, n_rows, missing, extra from oracle() where name like '%long';
delete from long where id in (6, 2, 5);
select name, n_rows, missing, extra from oracle() where name like '%long';
insert into long values (20, repeat('a', 4000)), (21, repeat('e', 5000)), (22, null), (23, 'a');
select name, n_rows, missing, extra from oracle() where name like '%long';
update long set s = s || repeat('z', 2000);
select name, n_rows, missing, extra from oracle() where name like '%long';
delete from long where s > 'b';
select name, n_rows, missing, extra from oracle() where name like '%long';

-- what is recomputed
create incremental view not_constant as select id from t order by id limit (select 2);
create type pair as (x integer, y integer);
create table pairs (x integer, y integer);
create incremental view of_rows as select x from pairs order by row(x, y)::pair limit 2;
select line from ivm.explain('not_constant') line where line ~ 'Reason';
select line from ivm.explain('of_rows') line where line ~ 'Reason';
-- the row type can still be changed
alter type pair add attribute z integer;

-- several columns of one type and collation
create table twice (id integer, m mood, n mood, x text collate ignoring_case, y text collate ignoring_case);
insert into twice values (1, 'sad', 'calm', 'a', 'B'), (2, 'sad', 'glad', 'A', 'b'), (3, 'calm', 'sad', null, 'c'), (4, 'glad', 'sad', 'b', 'a');
create incremental view by_two as select m, n, x, y, id from twice order by m desc, n, x nulls first, y desc, id limit 2;
create incremental view on_two as select distinct on (x) x, y, m, n, id from twice order by x, y, m desc, n, id;
update twice set n = 'glad' where id > 2;
delete from twice where id = 2;
select name, missing, extra from oracle() where name in ('by_two', 'on_two');
drop materialized view by_two, on_two;
drop table twice;

-- an index on the value that a group or all rows have at an end: not for the first rows, equal ones of which it has in
-- no order; and not where the value is what is grouped by
create table ends (g integer, x integer);
create index on ends (g);
create index on ends (x);
insert into ends select i / 4, i from generate_series(1, 40) i;
create incremental view end_and_first as select max(x) from ends union all (select x from ends order by x limit 5);
create incremental view end_of_group as select g, max(g), count(*) from ends group by g;
select line from ivm.explain('end_and_first') line where line ~ 'Extremes|Rows';
select line from ivm.explain('end_of_group') line where line ~ 'Extremes|Rows';
insert into ends values (0, 0), (0, 0), (0, 0);
select name, missing, extra from oracle() where name like 'end%';
delete from ends where x % 4 = 1;
select name, missing, extra from oracle() where name like 'end%';
select relname, last_rebuild_reason from pg_stat_ivm where relname like 'end%' and rebuilds > 0;
drop table ends cascade;

reset client_min_messages;
-- the types of an order belong to what the table of it depends on
do $$
declare
	told text;
begin
	drop type mood;
exception when dependent_objects_still_exist then
	get stacked diagnostics told = pg_exception_detail;
	raise notice '%', regexp_replace(told, 'v[0-9]+_[0-9a-f]+', 'v0_0');
end
$$;
set client_min_messages = warning;
drop type mood cascade;
select relname from pg_class where relname = 'by_text' and relnamespace = 'test_topk'::regnamespace;
select count(*) from pg_class where relnamespace = 'ivm_state'::regnamespace and relkind = 'm'
	and substring(relname from '^v([0-9]+)_')::oid not in (select oid from pg_class);
select name from oracle() where missing + extra > 0 and name not like 'any%';
drop schema test_topk cascade;
