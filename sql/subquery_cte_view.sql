-- Subqueries in FROM, common table expressions, views, and views on views.
\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir /test/regress/oracle.sql
\set ECHO none
\i :oracle
\set ECHO all
create schema test_subquery_cte_view;
set search_path = test_subquery_cte_view, public;
create table t (id integer primary key, g integer, x integer);
create table u (id integer primary key, name text);
insert into t select i, i % 4, i * 3 from generate_series(1, 20) i;
insert into u select i, 'u' || i from generate_series(0, 5) i;

-- subqueries
create incremental view q_simple as select s.x2 from (select x * 2 as x2, g from t) s where s.g > 1;
create incremental view q_nested as select y from (select x + 1 as y from (select x from t where g = 1) a) b where y > 10;
create incremental view q_group_join as
	select u.name, s.n, s.total from (select g, count(*) as n, sum(x) as total from t group by g) s join u on u.id = s.g;
create incremental view q_group_group as
	select n, count(*) as groups, sum(total) from (select g, count(*) as n, sum(x) as total from t group by g) s group by n;
create incremental view q_having_outside as
	select g from (select g, sum(x) as s from t group by g having count(*) > 2) q where s > 100;
create incremental view q_distinct_join as
	select d.g, t.id from (select distinct g from t where x > 20) d join t on t.g = d.g;
create incremental view q_two_groups as
	select a.g, a.n, b.s from (select g, count(*) as n from t group by g) a
		join (select g, sum(x) as s from t where x > 10 group by g) b on a.g = b.g;
create incremental view q_grand_join as select t.id, t.x, s.total from t, (select sum(x) as total from t) s where t.g = 1;
create incremental view q_lateral as select t.id, l.y from t, lateral (select t.x + 1 as y) l where l.y > 30;
select * from q_group_join order by name;
select * from oracle();

-- common table expressions
create incremental view c_once as with w as (select g, count(*) as n from t group by g) select n, g from w where n > 4;
create incremental view c_twice as
	with w as (select g, sum(x) as s from t group by g)
	select a.g as g1, b.g as g2, a.s - b.s as d from w a join w b on a.s > b.s;
create incremental view c_twice_materialized as
	with w as materialized (select id, g, x from t where x > 15)
	select a.id, b.x from w a join w b on a.id = b.id + 1;
create incremental view c_not_materialized as
	with w as not materialized (select g, x from t) select a.g, count(*) from w a join w b on a.g = b.x group by a.g;
create incremental view c_chain as
	with a as (select g, x from t where g < 3), b as (select g, sum(x) as s from a group by g), c as (select max_s.s from b max_s where s > 50)
	select * from c;
create incremental view c_union as
	with w as (select g, count(*) as n from t group by g) select g, n from w union all select -1, n from w where n > 4;
create incremental view c_shadow as with t as (select id as g from u) select g from t;
create incremental view c_unused as with w as (select 1) select id from u;
select * from oracle();

-- regular views, also nested
create view plain as select id, g, x from t where x > 5;
create view plain_group as select g, count(*) as n, sum(x) as s from plain group by g;
create view plain_join as select p.g, p.n, u.name from plain_group p join u on u.id = p.g;
create incremental view v_plain as select * from plain;
create incremental view v_nested as select name, n from plain_join where n > 1;
create incremental view v_twice as select a.g, b.id from plain_group a join plain b using (g);
select * from oracle();

-- incremental views on incremental views, and on a materialized view
create materialized view still as select id, x from t where g = 0;
create incremental view on_view as select g1, count(*) as n from c_twice group by g1;
create incremental view on_on_view as select o.n, c.g, c.n as m from on_view o join c_once c on o.g1 = c.g;
create incremental view on_both as select on_on_view.g, u.name from on_on_view join u on u.id = on_on_view.g;
create incremental view on_still as select count(*), sum(x) from still;
create incremental view on_still_join as select s.id, t.g from still s join t using (id);
select * from oracle();

insert into t values (30, 1, 7), (31, 9, 100), (32, 0, 50);
select * from oracle();
begin;
update t set x = x + 1 where g = 1;
update u set name = upper(name) where id < 3;
delete from t where id < 4;
commit;
select * from oracle();
update t set g = g + 1 where id % 3 = 0;
delete from u where id = 2;
insert into u values (9, 'nine');
select * from oracle();
select * from on_on_view order by g, n, m;
-- a REFRESH of the one below
select * from on_still;
refresh materialized view still;
select ivm.sync();
select * from on_still;
select id from on_still_join order by id;
select * from oracle();
-- and one that writes the changes alone
create unique index on still (id);
update t set x = x + 1 where g = 0 and id < 10;
refresh materialized view concurrently still;
select ivm.sync();
select * from on_still;
select relname, rebuilds from pg_stat_ivm where relname = 'on_still' and schemaname = 'test_subquery_cte_view';
select * from oracle();
-- a sub-view that becomes another one
create or replace view plain as select id, g, x from t where x > 30;
select * from oracle();
insert into t values (33, 2, 31), (34, 2, 29);
select * from oracle();
truncate t;
select * from oracle();
insert into t select i, i % 4, i * 3 from generate_series(1, 20) i;
refresh materialized view still;
select * from oracle();

-- and it all goes away
set client_min_messages = warning;
drop schema test_subquery_cte_view cascade;

-- a CTE that nothing reads any more, since the planner found that there are no rows
CREATE TABLE read_by_none (a int NOT NULL, k int);
CREATE TABLE without_null (id int NOT NULL, k int) PARTITION BY LIST (k);
CREATE TABLE without_null_1 PARTITION OF without_null DEFAULT;
CREATE INCREMENTAL VIEW none AS
	WITH w AS MATERIALIZED (SELECT DISTINCT k FROM read_by_none)
	SELECT w.k, count(*) AS n FROM without_null t JOIN w ON w.k = t.k WHERE t.id IS NULL GROUP BY w.k;
INSERT INTO read_by_none VALUES (1, 1);
INSERT INTO without_null VALUES (1, 1);
SELECT ivm.sync();
SELECT * FROM none;
DROP TABLE read_by_none, without_null CASCADE;
