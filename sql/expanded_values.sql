-- Values that functions return expanded in memory, looked up several times in a batch and kept between batches.
\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir /test/regress/oracle.sql
\set ECHO none
\i :oracle
\set ECHO all
create schema test_expanded_values;
set search_path = test_expanded_values, public;
create table lists (id integer primary key, r integer[], long text);
alter table lists alter column long set storage external;
insert into lists select i, array_fill(i, array[1 + i % 4]), repeat('long ' || i, 1000) from generate_series(1, 40) i;
create table uses (id integer primary key, list integer, x integer);
insert into uses select i, i % 40, i from generate_series(1, 20) i;
create table keyed (r integer[], name text);
insert into keyed select array_append(array_fill(i, array[1 + i % 4]), 3), 'name ' || i from generate_series(1, 40) i;
create incremental view appended as
  select u.id, cardinality(l.r3) % 2 as odd, l.r3 from uses u join (select id, array_append(r, 3) as r3 from lists) l on l.id = u.list;
create incremental view by_value as
  select u.id, k.name from uses u join lists l on l.id = u.list join keyed k on k.r = array_append(l.r, 3);
create incremental view kept as
  select u.id, l.r3 from uses u left join (select id, array_append(r, 3) as r3 from lists) l on l.id = u.list and cardinality(l.r3) > u.x % 3;
create incremental view grouped as
  select array_append(r, 3) as r3, count(*), max(array_prepend(0, r)) as m from lists group by 1;
create incremental view of_groups as
  select u.id, g.r3 from uses u join (select id % 7 as k, array_append(array_agg(id order by id), 3) as r3 from lists group by 1) g on g.k = u.list % 7;
create incremental view first_ones as
  select array_append(r, 3) as r3, id from lists order by array_append(r, 3) desc, id limit 5;
create incremental view long_ones as
  select u.id, l.long from uses u join lists l on l.id = u.list;
select * from oracle();
insert into uses select 100 + i, 1 + i / 10, i from generate_series(0, 99) i;
select * from oracle();
update uses set list = 1 + list % 5 where id > 100;
select * from oracle();
insert into uses select 1000 + i, 1 + i % 3, i from generate_series(0, 99) i;
update lists set r = r || 7 where id % 3 = 0;
select * from oracle();
update lists set long = long || '!' where id < 4;
insert into uses select 2000 + i, 1 + i % 3, i from generate_series(0, 99) i;
delete from lists where id % 4 = 1;
select * from oracle();
delete from uses where id % 3 = 0;
insert into lists select i, array_fill(i, array[1 + i % 4]), repeat('other ' || i, 1000) from generate_series(1, 37, 4) i;
select * from oracle();

-- and it all goes away
set client_min_messages = warning;
drop schema test_expanded_values cascade;
