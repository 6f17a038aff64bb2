-- Where rows of the other side are looked up: an index of the base table, the
-- whole table if it is small, or a state table; and what becomes of the choice.
\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir /test/regress/oracle.sql
\set ECHO none
\i :oracle
\set ECHO all
create schema test_arrangement;
set search_path = test_arrangement, public;
-- a plan, and only what it says about lookups
create function plan(view regclass) returns setof text language sql as $$
	select line from ivm.explain(view) with ordinality e (line, number)
	where number < (select number from ivm.explain(view) with ordinality e (line, number) where line ~ '^ *Settings: ')
	order by number
$$;
create function lookups(view regclass) returns setof text language sql as $$
	select ltrim(line) from plan(view) with ordinality e (line, number) where line ~ '^ +[a-z]+ by ' order by number
$$;
-- state tables: of one's own, and shared by how many views
create view state as
	select view.relname as of_view, (select count(*) from ivm.view v where c.oid = any (v.arrangements)) as readers
	from pg_class c
		left join pg_class view on c.relname ~ ('^v' || view.oid || '_')
	where c.relnamespace = 'ivm_state'::regnamespace and c.relkind = 'm'
	order by 1, 2;
create table fact (id integer primary key, k integer, l integer, x text, pad char(200) default '');
create table dim (id integer primary key, k integer, l integer, name text, pad char(200) default '');
-- large enough not to be read as a whole, whatever the statistics
insert into fact select i, i % 500, i % 7, 'x' || i % 50 from generate_series(1, 6000) i;
insert into dim select i, i % 700, i % 5, 'x' || i from generate_series(1, 6000) i;
create index dim_k on dim (k);
create index fact_k on fact (k);

create incremental view b_key as select f.id, d.name from fact f join dim d on d.id = f.k;
create incremental view b_index as select f.id, d.id as did from fact f join dim d on d.k = f.k where f.l = 3;
select plan('b_key');
select plan('b_index');
select * from oracle();
insert into fact values (10001, 4, 3, 'new');
insert into dim values (10001, 4, 1, 'new');
update dim set k = k + 1 where id < 20;
update fact set k = k + 1 where id % 100 = 0;
delete from dim where id between 100 and 120;
select * from oracle();

-- no index: a state table, and which index would do
create incremental view s_one as select f.id, d.id as did from fact f join dim d on d.l = f.l and d.name = f.x;
select plan('s_one');
-- the same need again: the state table is shared
create incremental view s_two as
	select d.id as did, count(*), sum(f.id) from fact f join dim d on d.l = f.l and d.name = f.x group by d.id;
select plan('s_two');
select * from state;
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
select * from state;
update dim set name = 'x4' where id = 10003;
select * from oracle();
-- an index that makes one of them unnecessary, while the view is maintained
create index dim_l_name on dim (l, name);
insert into dim values (10004, 4, 3, 'x5');
select * from oracle();
select lookups('s_two');
update fact set x = 'x5' where id < 50;
select * from oracle();
-- and goes again
drop index dim_l_name;
update fact set x = 'x6' where id < 50;
select * from oracle();
select lookups('s_two');
-- REFRESH finds the new index as well
create index dim_l_name on dim (l, name);
refresh materialized view s_two;
update fact set x = 'x5' where id < 50;
select * from oracle();

-- an index goes while a view uses it
drop index dim_k;
insert into fact values (10005, 5, 3, 'x');
update dim set k = 5 where id = 700;
select * from oracle();
select lookups('b_index');
create index dim_k2 on dim (k);
insert into fact values (10006, 5, 3, 'x');
select * from oracle();
select lookups('b_index');
-- indexes that cannot be used: partial, of other columns, not the first column, invalid
create table p (id integer, k integer, v integer, pad char(250) default '');
insert into p select i, i % 800, i from generate_series(1, 5000) i;
create index p_partial on p (k) where v > 2500;
create index p_second on p (v, k);
\set VERBOSITY terse
create unique index concurrently p_invalid on p (k);
\set VERBOSITY default
create incremental view b_partial as select f.id, p.v from fact f join p on p.k = f.k where f.l = 1;
create incremental view b_partial_implied as select f.id, p.v from fact f join p on p.k = f.k where f.l = 1 and p.v > 2500;
select lookups('b_partial');
select lookups('b_partial_implied');
insert into p values (0, 5, 1), (0, 5, 3000);
insert into fact values (10007, 5, 1, 'x');
update p set v = v + 2000 where k = 5;
select * from oracle() where name like 'b_partial%';

-- an expression index, an index of several columns, a hash index
create table e (id integer, a text, b integer, c integer, pad char(250) default '');
insert into e select i, 'A' || i % 900, i % 30, i from generate_series(1, 5000) i;
create index e_lower on e (lower(a));
create index e_bc on e (b, c);
create index e_hash on e using hash (c);
create incremental view b_lower as select f.id, e.id as eid from fact f join e on lower(e.a) = 'a' || f.k where f.l = 2;
create incremental view b_two as select f.id, e.id as eid from fact f join e on e.b = f.l and e.c = f.id;
create incremental view b_hash as select f.id, e.id as eid from fact f join e on e.c = f.id;
select lookups('b_lower');
select lookups('b_two');
select lookups('b_hash');
insert into e values (9000, 'A7', 3, 10007);
insert into fact values (10008, 7, 3, 'x');
update e set a = upper(a) || 'b', c = c + 1 where id % 50 = 0;
update fact set id = id + 20000 where id % 90 = 0;
select * from oracle() where name in ('b_lower', 'b_two', 'b_hash');

-- partitioned tables, each partition by its own index
create table part (id integer, k integer, v text, pad char(500) default '') partition by hash (id);
create table part_0 partition of part for values with (modulus 2, remainder 0);
create table part_1 partition of part for values with (modulus 2, remainder 1);
insert into part select i, i % 600, 'v' || i from generate_series(1, 5000) i;
create index on part (k);
create incremental view b_part as select f.id, part.v from fact f join part on part.k = f.k where f.l = 4;
select lookups('b_part');
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
select lookups('s_group');
select lookups('s_union');
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
create table small (id integer, name text, pad char(100) default '');
insert into small values (1, 'one'), (2, 'two');
create incremental view b_small as select f.id, s.name from fact f join small s on s.id = f.k;
select lookups('b_small');
insert into small select i, 'n' || i from generate_series(3, 20000) i;
select * from oracle() where name = 'b_small';
analyze small;
insert into fact values (10013, 19999, 1, 'x');
insert into small values (19999, 'twice');
select * from oracle() where name = 'b_small';
-- statistics make no other plan
select string_agg(plan, e'\n') as plan from plan('b_index') plan \gset
vacuum analyze fact, dim;
select * from oracle();
select string_agg(plan, e'\n') = :'plan' as same from plan('b_index') plan;

-- what is dropped takes its state along
select * from state;
drop materialized view s_two, s_group, s_union;
select * from state;
select name from oracle() where missing + extra > 0;

-- nothing was an error, whatever indexes came and went
select relname, last_error from pg_stat_ivm where schemaname = 'test_arrangement' and error_count > 0;

-- and it all goes away
set client_min_messages = warning;
drop schema test_arrangement cascade;
select count(*) from pg_class where relnamespace = 'ivm_state'::regnamespace and relkind = 'm';
