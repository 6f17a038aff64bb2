-- Left, right, full, semi and anti joins by deltas: what has a match, what has none, and what changes from one to the other.
\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir /test/regress/oracle.sql
\set ECHO none
\i :oracle
\set ECHO all
create schema test_outer;
set search_path = test_outer, public;
set client_min_messages = warning;
create function plan(view regclass) returns setof text language sql as $$
	select line from ivm.explain(view) with ordinality e (line, number)
	where line ~ '->|From | by | every row |Advice|Cond|Filter' order by number
$$;
create function state_tables(view regclass) returns bigint language sql as $$
	select count(*) from pg_class where relnamespace = 'ivm_state'::regnamespace and relkind = 'm'
		and relname like 'v' || view::oid || '\_%'
$$;
-- what the oracle finds, and rows that only look different: equal values keep the image that they have in the table
create function differences() returns table (name name, missing bigint, extra bigint) language plpgsql as $$
begin
	return query select o.name, o.missing, o.extra from oracle() o where o.missing + o.extra > 0;
	for name in
		select c.relname from pg_class c join pg_am a on a.oid = c.relam
		where c.relkind = 'm' and a.amname = 'incremental' and c.relnamespace = current_schema()::regnamespace
			and c.relname !~ 'group|float' order by c.relname
	loop
		execute format('with q as materialized (select r::text from (%s) r), v as materialized (select r::text from %I r)'
			' select (select count(*) from (table q except all table v) x), (select count(*) from (table v except all table q) x)',
			rtrim(pg_get_viewdef(name::text::regclass), ';'), name) into missing, extra;
		if missing + extra > 0 then
			return next;
		end if;
	end loop;
end
$$;
-- equal values that look different, NULLs, duplicates
create collation if not exists lowered (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
create table a (id integer, k numeric, t text collate lowered, x integer);
create table b (id integer, k numeric, t text collate lowered, y integer);
create table c (id integer primary key, k integer, f float8);
insert into a select i % 40, case i % 7 when 6 then null when 5 then 1.00 else i % 7 end, substr('aAbB', i % 5, 1), i % 5 from generate_series(1, 60) i;
insert into b select i % 35, case i % 8 when 7 then null when 6 then 1.0 else i % 8 end, substr('AaBb', i % 5, 1), i % 4 from generate_series(1, 50) i;
insert into c select i, nullif(i % 9, 8), case i % 4 when 0 then '-0' when 1 then 0 when 2 then null else i end from generate_series(1, 40) i;
create index a_k on a (k);
create index b_k on b (k);
create index c_k on c (k);

-- equality alone
create incremental view o_left as select a.*, b.id as bid, b.k as bk, b.t as bt, b.y from a left join b on a.k = b.k;
create incremental view o_right as select a.id, a.k, b.id as bid, b.k as bk from a right join b on a.k = b.k;
create incremental view o_full as select a.id, a.k, b.id as bid, b.k as bk from a full join b on a.k = b.k;
create incremental view o_semi as select a.* from a where exists (select from b where b.k = a.k);
create incremental view o_anti as select a.* from a where not exists (select from b where b.k = a.k);
create incremental view o_anti_null as select a.*, b.y from a left join b on a.k = b.k where b.k is null;
create incremental view o_in as select a.id, a.k from a where a.k in (select k from b where y < 3);
create incremental view o_two_types as select a.id, a.k, c.id as cid from a left join c on a.k = c.k;
create incremental view o_three_types as select c.id, c.k, d.id as did from c full join (select id::bigint as id from c where f is null) d on c.k = d.id;
create incremental view o_text as select a.id, a.t, b.t as bt from a full join b on a.t = b.t and a.k = b.k;
create incremental view o_float as select c.id, d.f from c left join (select distinct f from c where id > 20) d on d.f = c.f;
select plan('o_left');
select plan('o_right');
select plan('o_full');
select plan('o_semi');
select plan('o_anti');
select plan('o_anti_null');
select plan('o_in');
select plan('o_two_types');
select plan('o_text');

-- the planner makes joins with groups of these
create incremental view o_in_two as select a.* from a where (k, t) in (select k, t from b);
create incremental view o_in_expression as select a.* from a where x + 1 in (select y from b where t = 'A');
create incremental view o_in_join as select a.*, c.f from a join c on c.k = a.x where a.k in (select b.k from b join c on c.id = b.id where c.f is not null);
create incremental view o_in_in as select a.* from a where k in (select k from b where y in (select k from c where f > 2));
create incremental view o_in_union as select a.* from a where k in (select k from b union all select k from c);
create incremental view o_in_distinct as select a.id, d.y from a join (select distinct y from b) d on d.y = a.x;
create incremental view o_in_having as select a.id from a join (select y from b group by y) d on d.y = a.x where d.y > 1;
create incremental view o_in_dropped as select c.id, d.k from (select distinct k, y from b) d join c on c.id = d.y and c.k = d.k;
-- of groups that are shown, and may look different, and of a part of their columns
create incremental view o_group_shown as select a.id, d.k from a join (select distinct k from b) d on d.k = a.k;
create incremental view o_group_collation as select a.id from a join (select distinct t collate "C" as t from b) d on d.t = a.t collate lowered;
create incremental view o_group_part as select a.id from a join (select distinct k, y from b) d on d.k = a.k;
select plan('o_in_two');
select plan('o_in_expression');
select plan('o_in_join');
select plan('o_in_in');
select plan('o_in_distinct');
select plan('o_in_having');
select plan('o_in_dropped');
select plan('o_group_shown');
select plan('o_group_part');

-- further conditions, on what matches and on what comes out
create incremental view o_residual as select a.id, a.x, b.id as bid, b.y from a left join b on a.k = b.k and a.x < b.y;
create incremental view o_residual_full as select a.id, a.x, b.id as bid, b.y from a full join b on a.k = b.k and a.x + b.y <> 3 and (a.x > 1 or b.y > 1);
create incremental view o_residual_semi as select a.* from a where exists (select from b where b.k = a.k and b.id <> a.id);
create incremental view o_residual_anti as select a.* from a where not exists (select from b where b.k = a.k and (b.y > a.x) is not true);
create incremental view o_one_side as select a.id, b.id as bid from a left join b on a.k = b.k and a.x > 2;
create incremental view o_one_side_full as select a.id, b.id as bid from a full join b on a.k = b.k and a.x > 2 and b.y < 3;
create incremental view o_filter as select a.id, b.y from a left join b on a.k = b.k where b.y is distinct from 2 and coalesce(b.y, a.x) > 0;
select plan('o_residual');
select plan('o_one_side_full');
select plan('o_filter');

-- without an equality
create incremental view o_range as select a.id, c.id as cid from a left join c on a.id > c.id + 37;
create incremental view o_range_semi as select a.* from a where exists (select from c where c.id > a.id + 35);
create incremental view o_range_anti as select a.* from a where not exists (select from c where c.f > a.x);
create incremental view o_cross as select a.id, d.id as did from a left join (select id from b where y = 3 and id > 30) d on true;
create incremental view o_any as select a.id from a where exists (select from b where b.id > 33);
select plan('o_range');

-- one in the other
create incremental view o_nest as
	select a.id, b.id as bid, c.id as cid from a left join (b left join c on b.y = c.k) on a.k = b.k;
create incremental view o_nest_right as
	select a.id, b.id as bid, c.id as cid from a left join b on a.k = b.k right join c on c.id = b.id;
create incremental view o_nest_full as
	select k, a.x, b.y, c.f from a full join b using (k) full join c using (k);
create incremental view o_nest_two as
	select k, t, a.x, b.y, d.x as dx from a full join b using (k, t) left join a d using (k, t);
create incremental view o_nest_semi as
	select a.id, b.id as bid from a left join b on a.k = b.k
	where exists (select from c where c.id = b.id) or a.x > 3;
create incremental view o_nest_anti as
	select a.id from a where not exists (select from b left join c on c.k = b.y where b.k = a.k and c.id is null);
create incremental view o_inner as
	select a.id, d.bid, d.cid from a join (select b.k, b.id as bid, c.id as cid from b left join c on c.id = b.id) d on d.k = a.k;
create incremental view o_inner_other as
	with d as materialized (select b.k, b.id as bid, c.id as cid from b left join c on c.k = b.y)
	select c.f, d.k, d.bid from c join d on d.cid = c.id;
create incremental view o_inner_shown as
	with d as materialized (select a.id, coalesce(b.y, 7) as y from a left join b on a.k = b.k)
	select c.id, d.id as did from c join d on d.y = c.k;
create incremental view o_inner_both as
	with d as materialized (select a.x, b.y from a left join b on a.k = b.k)
	select c.id, d.x from c join d on d.x = c.k and d.y = c.id;
create incremental view o_full_shown as
	with d as materialized (select coalesce(b.k, a.k) as k, a.id, b.id as bid from a full join b on a.id = b.id)
	select c.id, d.id as did, d.bid from c left join d on d.k = c.k;
create incremental view o_full_shown_other as
	with d as materialized (select coalesce(a.k, b.k) as k, a.id, b.id as bid from a full join b on a.id = b.id)
	select c.id, d.id as did, d.bid from c left join d on d.k = c.k;
create incremental view o_array_group as
	select coalesce(a.id % 5, g.n) as m, array_agg(a.id order by a.id) as ids, array_agg(g.n order by g.n) as ns
	from a full join (select k, count(*) as n from b group by k) g on g.k = a.k group by coalesce(a.id % 5, g.n);
create incremental view o_array_group_other as
	select g.n, array_agg(a.id order by a.id) as ids
	from a left join (select k, count(*) as n from b group by k) g on g.k = a.k group by g.n;
create incremental view o_group as
	select a.k, count(*) as n, count(b.id) as m, sum(b.y) as s from a left join b on a.k = b.k group by a.k;
create incremental view o_group_other as
	select b.k, count(*) as n from a left join b on a.k = b.k group by b.k;
create incremental view o_of_group as
	select a.id, g.n from a left join (select k, count(*) as n from b group by k) g on g.k = a.k;
create incremental view o_of_group_full as
	select g.k, h.k as hk, g.n, h.n as hn from (select k, count(*) as n from b group by k) g full join (select k, count(*) as n from a group by k having count(*) > 2) h on g.k = h.k;
create incremental view o_union as
	select a.id, u.id as uid from a left join (select id, k from b union all select id, k from c) u on u.k = a.k;
create incremental view o_self as
	select p.id, q.id as qid from c p left join c q on p.k = q.id where p.f is null or q.f is null;
create incremental view o_self_semi as
	select p.* from a p where exists (select from a q where q.k = p.k and q.x > p.x);
create incremental view o_static as
	select v.k, a.id from (values (1), (3), (99), (null)) v (k) left join a on a.k = v.k;
create incremental view o_static_other as
	select a.id, v.n from a left join (values (1, 'one'), (3, 'three')) v (k, n) on a.k = v.k;
create incremental view o_static_full as
	select a.id, v.n from a full join (values (1, 'one'), (3, 'three'), (99, 'none')) v (k, n) on a.k = v.k;
create incremental view o_recomputed as
	select a.id, m.r from a left join (select id, rank() over (order by y) as r from b) m on m.id = a.id;
select plan('o_nest');
select plan('o_nest_full');
select plan('o_nest_two');
select plan('o_nest_anti');
select plan('o_inner');
select plan('o_inner_other');
select plan('o_inner_shown');
select plan('o_inner_both');
select plan('o_full_shown');
select plan('o_group_other');
select plan('o_array_group_other');
select plan('o_of_group');
select plan('o_static_full');
select sum(state_tables(oid)) from pg_class where relname in ('o_left', 'o_full', 'o_semi', 'o_anti', 'o_residual_full', 'o_nest', 'o_nest_full', 'o_nest_two', 'o_inner_other', 'o_self_semi');
select * from oracle();

-- one side, the other, both
insert into a values (101, 3, 'a', 1), (102, null, 'B', 2), (103, 77, 'q', 4), (101, 3, 'a', 1);
select * from differences();
insert into b values (101, 77.0, 'A', 3), (101, 77.00, 'A', 3), (102, null, null, 2), (103, 3, 'a', 1);
select * from differences();
begin;
insert into a values (104, 78, 'a', 1), (105, 79, 'b', null);
insert into b values (104, 78.00, 'A', 0), (105, 80, 'b', 3);
insert into c values (104, 78, '-0'), (105, 3, 0), (106, null, 'nan');
commit;
select * from differences();
-- the last match goes, and comes again with another image
delete from b where k = 77;
select * from differences();
insert into b values (101, 77, 'a', 2);
update b set k = 77.000 where k = 77;
select * from differences();
begin;
update a set k = k + 1, x = x - 1 where id % 3 = 0;
update b set k = (k + 1.0) % 8 where id % 4 = 0;
update c set k = (k + 2) % 9, f = -f where id % 5 = 0;
delete from a where id between 10 and 14;
delete from b where id between 12 and 16;
insert into c values (110, 11, 3), (111, 12, 'infinity');
commit;
select * from differences();
-- what matters to no match
update b set y = y, t = upper(t);
select * from differences();
update b set y = (y + 1) % 4;
select * from differences();
begin;
delete from a where k = 1;
update b set k = null where k = 2;
update a set k = 1.000 where k = 3;
insert into b select * from b where k = 1;
commit;
select * from differences();
-- keys are exchanged
begin;
update a set k = 100 where k = 1;
update a set k = 1 where k = 4;
update a set k = 4 where k = 100;
update b set k = 100 where k = 1.0;
update b set k = 1 where k = 4;
update b set k = 4 where k = 100;
commit;
select * from differences();
select relname, rebuilds, last_error from pg_stat_ivm where schemaname = 'test_outer' and (rebuilds > 0 or error_count > 0);
-- empty
delete from b;
select * from differences();
insert into b select i, i % 6, 'b', i % 4 from generate_series(1, 20) i;
select * from differences();
truncate a;
select * from differences();
insert into a select i, i % 6, 'B', i % 4 from generate_series(1, 20) i;
truncate c;
select * from differences();
delete from a;
delete from b;
select * from oracle();

drop schema test_outer cascade;
