-- Shared state tables: made when there is no index, gone when there is one.
\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir /test/regress/oracle.sql
\set ECHO none
\i :oracle
\set ECHO all
create schema test_state_table;
set search_path = test_state_table, public;
create table a (id integer primary key, k integer, x integer);
create table b (id integer primary key, k integer, y integer);
create function lookups(view regclass) returns setof text language sql as
	$$ select trim(line) from ivm.explain(view) line where line ~ ' by k ' $$;
create function rebuilds() returns table (relname name, rebuilds bigint, last_rebuild_reason text, last_error text) language sql as
	$$ select relname, rebuilds, last_rebuild_reason, last_error from pg_stat_ivm
	   where schemaname = 'test_state_table' order by relname $$;
create function state_tables() returns bigint language sql as
	$$ select count(*) from ivm.view where kind = 'a' $$;

-- small tables are read whole, until they have grown
create incremental view joined as select a.id as aid, b.id as bid, x + y as s from a join b using (k);
create incremental view counted as select b.id, count(*) as n from a join b using (k) group by b.id;
select lookups('joined');
select state_tables();
insert into a select i, i % 5000, i from generate_series(1, 40000) i;
insert into b select i, i, i from generate_series(1, 40000) i;
select ivm.sync(timeout => '5 min');
analyze a, b;
update a set x = x + 1, k = k + 1 where id = 5;
update b set y = y + 1, k = k + 1 where id = 7;
select * from oracle();
select lookups('joined');
select state_tables();
select * from rebuilds();

-- with the indexes that were advised they are not needed any more, at once
create index on a (k);
create index on b (k);
update a set x = x + 1, k = k + 1 where id = 6;
update b set y = y + 1, k = k + 1 where id = 8;
select * from oracle();
select lookups('joined');
select state_tables();
select * from rebuilds();

-- and without one of them again
drop index a_k_idx;
update a set x = x + 1, k = k + 1 where id = 7;
update b set y = y + 1, k = k + 1 where id = 9;
select * from oracle();
select lookups('counted');
select state_tables();

-- the last reader takes it along
drop incremental view joined;
select state_tables();
update a set k = k + 1 where id < 100;
delete from b where id between 10 and 20;
select * from oracle();
drop incremental view counted;
select state_tables();

-- A private state table is named by what it holds: the groups of the same subquery have the same name, but for the
-- view, whatever stands above and beside them.
create function digests(view regclass) returns setof text language sql as
	$$ select split_part(relname, '_', 2) from pg_class
	   where relnamespace = 'ivm_state'::regnamespace and relkind = 'm' and relname like 'v' || view::oid || '\_%' $$;
create incremental view groups as select k, sum(x) as s from a group by k;
create incremental view over_groups as
	with g as materialized (select k, sum(x) as s from a group by k)
	select b.id, g.s, d.y from (select distinct y, k from b) d join g using (k) join b using (k);
create incremental view other_groups as select k, sum(x + 0) as s from a group by k;
select (select count(*) from digests('groups')) as tables,
	(select count(*) from digests('groups') d where d in (select digests('over_groups'))) as same,
	(select count(*) from digests('groups') d where d in (select digests('other_groups'))) as others;
drop materialized view groups, over_groups, other_groups;

set client_min_messages = warning;
drop schema test_state_table cascade;
