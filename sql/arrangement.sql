-- Where rows of the other side are looked up: an index of the base table, the
-- whole table if it is small, or a state table; and what becomes of the choice.
\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir /test/regress/oracle.sql
\set ECHO none
\i :oracle
\set ECHO all
create schema test_arrangement;
set search_path = test_arrangement, public;
create table fact (id integer primary key, k integer, l integer, x text);
create table dim (id integer primary key, k integer, l integer, name text);
-- large enough not to be read as a whole, whatever the statistics
insert into fact select i, i % 500, i % 7, 'x' || i % 50 from generate_series(1, 6000) i;
insert into dim select i, i % 700, i % 5, 'x' || i from generate_series(1, 6000) i;
create index dim_k on dim (k);
create index fact_k on fact (k);

create incremental view b_key as select f.id, d.name from fact f join dim d on d.id = f.k;
create incremental view b_index as select f.id, d.id as did from fact f join dim d on d.k = f.k where f.l = 3;
select ivm.explain('b_key');
select ivm.explain('b_index');
select * from oracle();
insert into fact values (10001, 4, 3, 'new');
insert into dim values (10001, 4, 1, 'new');
update dim set k = k + 1 where id < 20;
update fact set k = k + 1 where id % 100 = 0;
delete from dim where id between 100 and 120;
select * from oracle();

-- no index: a state table, and which index would do
create incremental view s_one as select f.id, d.id as did from fact f join dim d on d.l = f.l and d.name = f.x;
select ivm.explain('s_one');
-- the same need again: the state table is shared
create incremental view s_two as select d.name, count(*) from fact f join dim d on d.l = f.l and d.name = f.x group by d.name;
select ivm.explain('s_two');
select count(*) from pg_class where relnamespace = 'pg_ivm'::regnamespace and relkind = 'r';
insert into fact values (10002, 4, 3, 'x3');
insert into dim values (10002, 4, 3, 'x3'), (10003, 4, 3, 'x3');
begin;
update dim set l = 2 where id = 10002;
update fact set l = 2 where x = 'x3' and id < 100;
delete from fact where id = 10002;
commit;
select * from oracle();
-- one of the two goes, the other lives on
drop materialized view s_one;
update dim set name = 'x4' where id = 10003;
select * from oracle();
-- an index that makes it unnecessary
create index dim_l_name on dim (l, name);
insert into dim values (10004, 4, 3, 'x5');
select * from oracle();
refresh materialized view s_two;
update fact set x = 'x5' where id < 50;
select * from oracle();

-- an index goes while a view uses it
drop index dim_k;
insert into fact values (10005, 5, 3, 'x');
update dim set k = 5 where id = 700;
select * from oracle();
create index dim_k2 on dim (k);
insert into fact values (10006, 5, 3, 'x');
select * from oracle();
-- indexes that cannot be used: partial, of other columns, not the first column, invalid
create table p (id integer, k integer, v integer);
insert into p select i, i % 800, i from generate_series(1, 5000) i;
create index p_partial on p (k) where v > 2500;
create index p_second on p (v, k);
create incremental view b_partial as select f.id, p.v from fact f join p on p.k = f.k where f.l = 1;
create incremental view b_partial_implied as select f.id, p.v from fact f join p on p.k = f.k where f.l = 1 and p.v > 2500;
insert into p values (0, 5, 1), (0, 5, 3000);
insert into fact values (10007, 5, 1, 'x');
update p set v = v + 2000 where k = 5;
select * from oracle() where name like 'b_partial%';

-- an expression index, an index of several columns, a hash index
create table e (id integer, a text, b integer, c integer);
insert into e select i, 'A' || i % 900, i % 30, i from generate_series(1, 5000) i;
create index e_lower on e (lower(a));
create index e_bc on e (b, c);
create index e_hash on e using hash (c);
create incremental view b_lower as select f.id, e.id as eid from fact f join e on lower(e.a) = 'a' || f.k where f.l = 2;
create incremental view b_two as select f.id, e.id as eid from fact f join e on e.b = f.l and e.c = f.id;
create incremental view b_hash as select f.id, e.id as eid from fact f join e on e.c = f.id;
insert into e values (9000, 'A7', 3, 10007);
insert into fact values (10008, 7, 3, 'x');
update e set a = upper(a) || 'b', c = c + 1 where id % 50 = 0;
update fact set id = id + 20000 where id % 90 = 0;
select * from oracle() where name in ('b_lower', 'b_two', 'b_hash');

-- partitioned tables, each partition by its own index
create table part (id integer, k integer, v text) partition by hash (id);
create table part_0 partition of part for values with (modulus 2, remainder 0);
create table part_1 partition of part for values with (modulus 2, remainder 1);
insert into part select i, i % 600, 'v' || i from generate_series(1, 5000) i;
create index on part (k);
create incremental view b_part as select f.id, part.v from fact f join part on part.k = f.k where f.l = 4;
insert into part values (9001, 5, 'new'), (9002, 5, 'new');
insert into fact values (10009, 5, 4, 'x');
update part set id = id + 1 where k = 5;
select * from oracle() where name = 'b_part';
drop index part_k_idx;
insert into part values (9003, 5, 'new');
insert into fact values (10010, 5, 4, 'x');
select * from oracle() where name = 'b_part';

-- the other side is no table: a group, a subquery, a union
create incremental view s_group as
	select f.id, g.n from fact f join (select k, count(*) as n from dim group by k) g on g.k = f.k where f.l = 5;
create incremental view s_union as
	select f.id, u.name from fact f join (select id, name from dim union all select id, x from fact where l = 1) u on u.id = f.k where f.l = 6;
insert into dim values (10011, 5, 5, 'x');
insert into fact values (10011, 5, 5, 'x'), (10012, 5, 6, 'x');
update dim set k = 6 where k = 5;
delete from fact where l = 1 and id < 500;
select * from oracle();

-- more than can be looked up one by one
update fact set k = (k + 1) % 500;
select * from oracle();
update dim set k = (k + 3) % 700, l = (l + 1) % 5;
select * from oracle();

-- a table that was small when the view was made, and has grown since
create table small (id integer, name text);
insert into small values (1, 'one'), (2, 'two');
create incremental view b_small as select f.id, s.name from fact f join small s on s.id = f.k;
insert into small select i, 'n' || i from generate_series(3, 20000) i;
select * from oracle() where name = 'b_small';
analyze small;
insert into fact values (10013, 19999, 1, 'x');
insert into small values (19999, 'twice');
select * from oracle() where name = 'b_small';
-- statistics make no other plan
vacuum analyze fact, dim;
select * from oracle();

-- what is dropped takes its state along
drop materialized view s_two, s_group, s_union;
select count(*) from pg_class c where relnamespace = 'pg_ivm'::regnamespace and relkind = 'r'
	and not exists (select from pg_depend d where d.objid = c.oid and d.refclassid = 'pg_class'::regclass);
select name from oracle() where missing + extra > 0;

-- and it all goes away
set client_min_messages = warning;
drop schema test_arrangement cascade;
