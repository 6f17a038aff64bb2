-- Rows of operators are looked up in what those keep or read; what cannot be is in a private state table.
\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir /test/regress/oracle.sql
\set ECHO none
\i :oracle
\set ECHO all
create schema test_through;
set search_path = test_through, public;
set client_min_messages = warning;
create function plan(view regclass) returns setof text language sql as $$
	select line from ivm.explain(view) with ordinality e (line, number)
	where line ~ '->|From | by | every row |Advice' order by number
$$;
-- a view's own state tables: one for each node that keeps groups or an output, and private arrangements
create function state_tables(view regclass) returns bigint language sql as $$
	select count(*) from pg_class where relnamespace = 'ivm_state'::regnamespace and relkind = 'm'
		and relname like 'v' || view::oid || '\_%'
$$;
create table a (id integer primary key, k integer, x integer);
create table b (id integer primary key, k integer, y numeric);
create table c (id integer primary key, a_id integer, t text collate "C");
insert into a select i, nullif(i % 7, 6), i % 5 from generate_series(1, 60) i;
insert into b select i, nullif(i % 8, 7), (i % 3)::numeric(10, 0) from generate_series(1, 60) i;
insert into c select i, nullif(i % 50, 49), 't' || i % 4 from generate_series(1, 60) i;
create index a_k on a (k);
create index b_k on b (k);
create index c_a on c (a_id);

-- groups are looked up in their own state table, by all group columns, in any order and by any of the equalities
create incremental view t_group as
	select a.id, g.s from a join (select k, sum(y) as s from b group by k) g using (k);
select plan('t_group');
select state_tables('t_group');
create incremental view t_two as
	select a.id, g.n from a join (select x, k, count(*) as n from a group by x, k) g on g.k = a.k and a.x = g.x;
select plan('t_two');
create incremental view t_type as
	select g.n, c.id from (select k::bigint as k, count(*) as n from a group by k::bigint having count(*) > 1) g join c on c.id = g.k;
select plan('t_type');
-- a group shows one of several images of its columns
create incremental view t_varies as
	select d.id, g.y, g.n from (select y, count(*) as n from b group by y) g join b d on d.y = g.y;
select plan('t_varies');
create incremental view t_distinct as
	select a.id, d.y from a join (select distinct y from b) d on d.y = a.x;
select plan('t_distinct');
-- the one group of a grand aggregate, and every group
create incremental view t_grand as
	select a.id, g.s from a join (select count(*) as n, sum(y) as s from b) g on g.n > a.x;
select plan('t_grand');
create incremental view t_grand_key as
	select a.id, g.s from a join (select count(*) as n, sum(y) as s from b) g on g.n = a.id;
select plan('t_grand_key');
create incremental view t_all as
	select a.id, g.s from a join (select k, sum(y) as s from b group by k) g on g.s > a.id;
select plan('t_all');
-- a part of the group columns, a result, another equality: a table of the groups' rows
create incremental view t_part as
	select a.id, g.n from a join (select k, x, count(*) as n from a group by k, x) g on g.k = a.k;
select plan('t_part');
select state_tables('t_part');
create incremental view t_result as
	select a.id, g.k from a join (select k, count(*) as n from b group by k) g on g.n = a.id;
select plan('t_result');
create collation if not exists lowered (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
create incremental view t_collation as
	select c.id, g.n from c join (select t, count(*) as n from c group by t) g on g.t = c.t collate lowered;
select plan('t_collation');
-- blanks at the end count for the grouping, and not for the join
create incremental view t_blanks as
	select c.id, g.t || '|' as t, g.n from c join (select t, count(*) as n from c group by t) g on g.t::bpchar = c.t::bpchar;
select plan('t_blanks');

-- joins, maps and appends are looked up in their inputs
create incremental view t_join as
	with j as materialized (select a.id, a.k, c.t, c.id as cid from a join c on c.a_id = a.id)
	select j.id, j.t, b.id as bid, j2.cid from j join b on b.k = j.k join j j2 on j2.id = b.id;
select plan('t_join');
select state_tables('t_join');
-- a key that an equality of the join gives
create incremental view t_equal as
	with j as materialized (select c.a_id, c.t, a.x from a join c on c.a_id = a.id)
	select b.id, j.t, j.x from b join j on j.a_id = b.id;
select plan('t_equal');
create incremental view t_union as
	with u as materialized (select k, id from a union all select k, count(*) from b group by k)
	select u.id, u2.id as id2 from u join u u2 on u.k = u2.k where u.id < u2.id;
select plan('t_union');
create incremental view t_map as
	with u as materialized (select a.id, a.k, c.t from a join c on c.a_id = a.id)
	select u.id, v.t from u join (select id, t || 'x' as t from u where t < 't3') v on u.id + 1 = v.id;
select plan('t_map');
-- five levels of it
create incremental view t_nest as
	with j1 as materialized (select a.id, a.k, c.t from a join c on c.a_id = a.id),
		j2 as materialized (select j1.id, j1.k, b.y from j1 join b on b.id = j1.id union all select id, x, k from a),
		j3 as materialized (select k, count(*) as n, sum(y) as s from j2 group by k),
		j4 as materialized (select j3.k, j3.n, j1.t from j3 join j1 on j1.id = j3.k)
	select j2.id, j2.y, j4.n, j4.t from j2 join j4 on j4.k = j2.k;
select plan('t_nest');
-- a key of both inputs cannot be looked up in either
create incremental view t_both as
	with j as materialized (select a.id, a.k + c.id as s from a join c on c.a_id = a.id)
	select b.id, j.id as jid from b join j on j.s = b.id;
select plan('t_both');
select state_tables('t_both');
-- nor can a key of two inputs, if it is of no unique one
create incremental view t_two_inputs as
	with j as materialized (select a.k, c.t, a.x from a join c on c.a_id = a.id)
	select b.id, j.x from b join j on j.k = b.k and j.t = 't' || b.id;
select plan('t_two_inputs');
-- not in more than some places
create incremental view t_deep as
	with j1 as materialized (select x.id, y.k from a x join a y on x.id = y.id),
		j2 as materialized (select x.id, y.k from j1 x join j1 y on x.id = y.id),
		j3 as materialized (select x.id, y.k from j2 x join j2 y on x.id = y.id),
		j4 as materialized (select x.id, y.k from j3 x join j3 y on x.id = y.id),
		j5 as materialized (select x.id, y.k from j4 x join j4 y on x.id = y.id),
		j6 as materialized (select x.id, y.k from j5 x join j5 y on x.id = y.id)
	select x.id, y.k from j6 x join j6 y on x.id = y.id;
select state_tables('t_deep');
-- what is recomputed
create incremental view t_recompute as
	select a.id, m.y from a join (select k, max(y) over (partition by k) as y from b) m using (k);
select plan('t_recompute');
select state_tables('t_recompute');
-- by two keys, and without one
create incremental view t_recompute_twice as
	with m as materialized (select k, max(y) over (partition by k) as y from b)
	select a.id, m.y, n.k from a join m on m.k = a.k join m n on n.y = a.x;
select plan('t_recompute_twice');
select state_tables('t_recompute_twice');
create incremental view t_recompute_all as
	select a.id, m.y from a join (select max(y) over () as y from b) m on m.y > a.x;
select plan('t_recompute_all');
-- tables without indexes
create incremental view t_bare as
	with u as materialized (select a.id, b.y from a join b on b.k = a.x)
	select u.id, v.y from u join u v on u.y = v.y where v.id < 6;
select plan('t_bare');
select * from oracle();

-- every table, and several at once
insert into a values (101, 3, 1), (102, null, 2), (103, 4, 4);
insert into b values (101, 3, 1.0), (102, null, 2.00), (103, 3, 1.00);
insert into c values (101, 3, 't1'), (102, null, 'T1'), (103, 101, 't2'), (104, 4, 't1 '), (105, 5, 't1  ');
select * from oracle() where missing + extra > 0;
begin;
update a set k = k + 1, x = x - 1 where id % 3 = 0;
update b set y = y + 1.0, k = (k + 1) % 8 where id % 4 = 0;
update c set t = upper(t), a_id = a_id + 1 where id % 5 = 0;
delete from a where id between 10 and 14;
delete from b where id between 12 and 16;
insert into c values (110, 11, 't3'), (111, 12, 't3');
commit;
select * from oracle() where missing + extra > 0;
begin;
update b set y = 1.0 where y = 1;
delete from b where y = 1.00 and id % 2 = 0;
update a set k = null where k = 2;
commit;
select * from oracle() where missing + extra > 0;
-- by deltas alone
select relname, rebuilds, last_error from pg_stat_ivm where schemaname = 'test_through' and (rebuilds > 0 or error_count > 0);
delete from b where k = 3;
truncate c;
insert into c select i, i % 50, 't' || i % 3 from generate_series(1, 30) i;
delete from a where id > 100;
select * from oracle();
delete from b;
select * from oracle() where missing + extra > 0;
delete from a;
delete from c;
select * from oracle();

drop schema test_through cascade;
