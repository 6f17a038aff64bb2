-- Ways to make, change and drop an incremental view.
\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir /test/regress/oracle.sql
\set ECHO none
\i :oracle
\set ECHO all
create schema test_create;
set search_path = test_create, public;
create table region (id integer primary key, name text not null);
create table sale (id integer primary key, region_id integer references region, amount numeric);
insert into region values (1, 'north'), (2, 'south'), (3, 'east');
insert into sale values (1, 1, 10), (2, 1, 5.5), (3, 2, 7), (4, null, 1);

-- the statement of this extension, and PostgreSQL's own
create incremental view by_region as
	select r.name, count(*) as n, sum(s.amount) as total
	from sale s join region r on r.id = s.region_id
	group by r.name;
create materialized view big_sale using incremental as
	select id, amount from sale where amount >= 5;
select * from by_region order by name;
select * from big_sale order by id;

-- it is filled, and being maintained
select relname, state from pg_stat_ivm where schemaname = 'test_create' order by 1;
-- it is a materialized view with an access method of its own
select c.relname, c.relkind, a.amname, c.relispopulated
	from pg_class c join pg_am a on a.oid = c.relam
	where c.relnamespace = 'test_create'::regnamespace and c.relkind = 'm'
	order by 1;

-- the tables' old rows have to be in the write-ahead log
select relname, relreplident from pg_class
	where oid in ('region'::regclass, 'sale'::regclass) order by 1;

-- it follows the tables
insert into sale values (5, 3, 100), (6, 2, 3);
update sale set amount = amount + 1 where region_id = 1;
delete from sale where id = 3;
update region set name = 'centre' where id = 2;
select ivm.sync();
select * from by_region order by name;
select * from big_sale order by id;

-- a list of columns, storage parameters, a tablespace
create incremental view named (region, sales) with (fillfactor = 80) tablespace pg_default as
	select region_id, count(*) from sale group by region_id;
select * from named order by region;
select reloptions from pg_class where oid = 'named'::regclass;
-- too many of them, or twice the same
create incremental view toomany (a, b, c) as select id, amount from sale;
create incremental view twice (a, a) as select id, amount from sale;
create incremental view nameless as select id, id from sale;

-- IF NOT EXISTS
create incremental view if not exists named as select 1 as x;
create incremental view named as select 1 as x;
create incremental view sale as select 1 as x;

-- WITH NO DATA: made now, filled later
create incremental view later as select region_id, sum(amount) from sale group by region_id with no data;
select relispopulated from pg_class where oid = 'later'::regclass;
select * from later;
insert into sale values (7, 3, 1);
refresh materialized view later;
insert into sale values (8, 3, 2);
select ivm.sync('later');
select * from later order by region_id;
-- back to where it was, and filled again
refresh materialized view later with no data;
insert into sale values (9, 3, 4);
select ivm.sync();
select * from later;
refresh materialized view later;
select * from later order by region_id;
-- REFRESH of one that is maintained changes nothing that can be seen
refresh materialized view by_region;
select * from by_region order by name;

-- an ordinary materialized view becomes an incremental one, and is one no more
create materialized view turned as select id, amount * 2 as twice from sale where amount > 4;
insert into sale values (10, 1, 50);
alter materialized view turned set access method incremental;
select ivm.sync();
select * from turned order by id;
insert into sale values (11, 1, 60);
select ivm.sync();
select count(*) from turned;
alter materialized view turned set access method heap;
insert into sale values (12, 1, 70);
select ivm.sync();
select count(*) from turned;
refresh materialized view turned;
select count(*) from turned;
alter materialized view turned set access method incremental;
-- rolled back it stays what it was; in a block it is filled anew at the end
begin;
alter materialized view turned set access method heap;
rollback;
insert into sale values (21, 1, 75);
select * from oracle() where name = 'turned';
alter materialized view turned set access method heap;
begin;
insert into sale values (22, 1, 76);
alter materialized view turned set access method incremental;
insert into sale values (23, 1, 77);
commit;
select * from oracle() where name = 'turned';
-- an index and the rows that somebody sees are kept on the way
create index turned_twice on turned (twice);
alter materialized view turned set access method heap;
delete from sale where id > 20;
alter materialized view turned set access method incremental;
select * from oracle() where name = 'turned';
select indexname from pg_indexes where schemaname = 'test_create' and tablename = 'turned' order by 1;

-- there and back many times: an ordinary one is never taken for one of ours
select 'alter materialized view turned set access method ' || a
	from generate_series(1, 10) i, unnest(array['heap', 'incremental']) with ordinality m (a, n) order by i, n \gexec
alter materialized view turned set access method heap;
select state, reason from ivm.view where relid = 'turned'::regclass;
alter materialized view turned set access method incremental;
select * from oracle() where name = 'turned';

-- in a transaction block, after writes to the same tables: the block's own
-- eyes see them, and afterwards it is maintained
begin;
insert into sale values (13, 2, 80);
create materialized view in_block using incremental as
	select region_id, count(*) as n from sale group by region_id;
select * from in_block order by region_id;
insert into sale values (14, 2, 90);
commit;
select ivm.sync();
select * from in_block order by region_id;
insert into sale values (15, 2, 90);

-- rolled back, alone and in a savepoint
begin;
create materialized view never using incremental as select id from sale;
rollback;
begin;
savepoint s;
create materialized view never using incremental as select id from sale;
rollback to s;
create materialized view kept using incremental as select id % 3 as x, count(*) from sale group by 1;
commit;
select to_regclass('never') as never, to_regclass('kept') as kept;

-- a transaction with one can not be prepared
begin;
create materialized view prepared using incremental as select id from sale;
prepare transaction 'ivm_create';
select to_regclass('prepared') as prepared;

-- in a function
do $$
begin
	insert into sale values (16, 1, 1);
	create materialized view in_function using incremental as
		select region_id, avg(amount) as mean from sale group by region_id;
	insert into sale values (17, 1, 2);
end
$$;

-- without a table, and without rows
create incremental view constant as select 1 as one, 'x'::text as x;
create incremental view none as select id from sale where false;
create incremental view empty_group as select region_id, count(*) from sale where amount < -1 group by region_id;
create incremental view empty_grand as select count(*) as n, sum(amount) as s from sale where amount < -1;
select * from constant;
select * from empty_grand;
insert into sale values (18, 1, -5);
select ivm.sync();
select * from empty_group;
select * from empty_grand;
delete from sale where id = 18;

-- what a relation can have
alter materialized view in_block rename to renamed;
alter materialized view renamed rename column n to number;
comment on materialized view renamed is 'one that was renamed';
create index on renamed (number);
create schema test_create_other;
alter materialized view renamed set schema test_create_other;
insert into sale values (19, 2, 1);
select ivm.sync('test_create_other.renamed');
select * from test_create_other.renamed order by region_id;
\set HIDE_TABLEAM off
\d+ test_create_other.renamed
\set HIDE_TABLEAM on
alter materialized view test_create_other.renamed set schema test_create;
drop schema test_create_other;

-- other relations cannot be incremental
create table not_a_view (a integer) using incremental;
create table not_a_view using incremental as select 1 as a;
alter table sale set access method incremental;
set default_table_access_method = incremental;
create table not_a_view (a integer);
reset default_table_access_method;

select * from oracle();

-- dropping: views, and a table with what depends on it
drop incremental view big_sale;
drop incremental view if exists big_sale;
drop incremental view big_sale;
drop materialized view constant, none;
drop table region;
drop table region cascade;
select to_regclass('by_region') as by_region;
insert into sale values (20, 1, 3);
select * from oracle();

-- and it all goes away
set client_min_messages = warning;
drop schema test_create cascade;
