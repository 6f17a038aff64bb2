-- UNION ALL, partitioned tables and inheritance.
\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir /test/regress/oracle.sql
\set ECHO none
\i :oracle
\set ECHO all
create schema test_append_partition;
set search_path = test_append_partition, public;
-- UNION ALL
create table a (x integer, y text);
create table b (p bigint, q text);
insert into a values (1, 'a1'), (2, 'a2'), (2, 'a2');
insert into b values (2, 'a2'), (3, 'b3');
create incremental view u_all as select x, y from a union all select p, q from b;
create incremental view u_filtered as select x from a where x > 1 union all select p from b where q like 'b%' union all select 99;
create incremental view u_self as select x, y from a union all select x, y from a;
create incremental view u_grouped as select x, count(*) from (select x, y from a union all select p, q from b) u group by x;
create incremental view u_joined as select u.x, a.y from (select x from a union all select p from b) u join a using (x);
create incremental view u_joins as select a.x, b.q from a join b on a.x = b.p union all select x, y from a where x < 2;
create incremental view u_distinct as select distinct x from (select x from a union all select p from b) u;
select * from u_all order by x, y;
begin;
insert into a values (3, 'a3');
insert into b values (3, 'b3');
delete from b where p = 2;
update a set x = x + 1 where x = 1;
commit;
select * from oracle();
-- all this by deltas
select relname from pg_stat_ivm where schemaname = 'test_append_partition' and rebuilds + recomputes + error_count > 0;
truncate b;
select * from oracle();
insert into b values (3, 'back');
select * from oracle();

-- a table partitioned by list, and one by range whose partitions are partitioned
create table l (id integer, k text, v integer) partition by list (k);
create table l_a partition of l for values in ('a');
create table l_b partition of l for values in ('b', null);
create table l_rest partition of l default;
create table r (id integer primary key, v integer) partition by range (id);
create table r_1 partition of r for values from (0) to (100);
create table r_2 partition of r for values from (100) to (200) partition by hash (id);
create table r_2a partition of r_2 for values with (modulus 2, remainder 0);
create table r_2b partition of r_2 for values with (modulus 2, remainder 1);
insert into l select i, chr(97 + i % 4), i from generate_series(1, 20) i;
insert into l values (100, null, 0);
insert into r select i * 10, i from generate_series(1, 15) i;
create incremental view p_list as select id, k, v from l;
create incremental view p_pruned as select id, v from l where k = 'a';
create incremental view p_grouped as select k, count(*), sum(v) from l group by k;
create incremental view p_joined as select l.id, r.v from l join r on l.v * 10 = r.id;
create incremental view p_joined_count as select k, count(*) from l join r on l.v * 10 = r.id group by k;
create incremental view p_leaf as select * from l_b;
create incremental view p_middle as select count(*), sum(v) from r_2;
create incremental view p_tableoid as select tableoid, count(*) from r group by tableoid;
-- every partition has the old rows in the log
select relname, relreplident from pg_class where relname ~ '^[lr](_|$)' and relkind in ('r', 'p')
	and relnamespace = 'test_append_partition'::regnamespace order by 1;
select * from oracle();
-- rows that stay, and rows that move to another partition
insert into l values (21, 'a', 1), (22, 'zz', 2);
update l set v = v + 1 where k = 'a';
update l set k = 'b' where id < 5;
update l set k = null where k = 'c';
update l set k = 'zz' where k is null;
update r set id = id + 95 where id < 60;
update r set id = id + 1 where id > 100;
delete from l where k = 'd';
select * from oracle();
select relname from pg_stat_ivm where schemaname = 'test_append_partition' and relname like 'p%'
	and rebuilds + recomputes + error_count > 0;
-- one partition is emptied
truncate l_a;
select * from oracle();
truncate r;
select * from oracle();
insert into r select i * 10, i from generate_series(1, 15) i;
insert into l select 200 + i, chr(97 + i % 5), i from generate_series(1, 20) i;
-- partitions that come: with rows and without, whose columns are in another order
create table r_3 partition of r for values from (200) to (300);
insert into r values (250, 25);
select * from oracle();
create table l_new (v integer, dropped integer, k text, id integer);
alter table l_new drop column dropped;
insert into l_new values (7, 'n', 300), (8, 'n', 301);
alter table l attach partition l_new for values in ('n');
select * from oracle();
insert into l values (302, 'n', 9);
update l set k = 'a' where id = 300;
update l set k = 'n' where id = 201;
select * from oracle();
select relname, relreplident from pg_class where oid in ('l_new'::regclass, 'r_3'::regclass) order by 1;
-- and partitions that go
alter table l detach partition l_b;
select * from oracle();
insert into l_b values (400, 'b', 1);
select * from oracle();
drop table l_a;
select * from oracle();
alter table l attach partition l_b for values in ('b', null);
select * from oracle();
drop table r_2;
select * from oracle();
-- dropping what a view names itself is refused
drop table l_b;
-- detached concurrently
alter table r detach partition r_3 concurrently;
insert into r_3 values (251, 26);
select * from oracle();

-- inheritance: the parent has rows of its own
create table parent (a integer, b text);
create table child1 (c integer) inherits (parent);
create table child2 (b text, a integer, d integer);
insert into parent values (1, 'parent');
insert into child1 values (2, 'child1', 5);
insert into child2 values ('child2', 3, 7);
create incremental view i_all as select * from parent;
create incremental view i_only as select * from only parent;
create incremental view i_sum as select sum(a) from parent;
select * from i_all order by a;
alter table child2 inherit parent;
select * from oracle();
insert into child2 values ('child2', 4, 8);
update parent set a = a + 10;
delete from child1;
insert into child1 values (6, 'again', 6);
select ivm.sync();
select * from i_all order by a;
select * from oracle();
-- a child of a child
create table grandchild (e integer) inherits (child1);
insert into grandchild values (8, 'grandchild', 8, 8);
update parent set b = upper(b) where a in (6, 8);
select * from oracle();
alter table child1 no inherit parent;
insert into child1 values (7, 'no more', 7);
select * from oracle();
drop table child2;
select * from oracle();

-- a subquery for each row, of which only some partitions would be read
create table asked (k integer);
create table answers (k integer, x integer) partition by range (k);
create table answers1 partition of answers for values from (0) to (10);
create table answers2 partition of answers for values from (10) to (20);
insert into answers select i, i * i from generate_series(1, 19) i;
insert into asked select i from generate_series(1, 25, 3) i;
create incremental view answered as select k, (select sum(x) from answers a where a.k = asked.k) from asked;
update answers set x = x + 1 where k % 2 = 0;
insert into asked values (12), (null);
select * from oracle();

-- and it all goes away
set client_min_messages = warning;
drop schema test_append_partition cascade;
