-- DISTINCT, and rows that are the same.
\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir /test/regress/oracle.sql
\set ECHO none
\i :oracle
\set ECHO all
create schema test_distinct;
set search_path = test_distinct, public;
create table t (a integer, b text, c numeric);
insert into t values (1, 'x', 1.0), (1, 'x', 1.00), (1, 'y', 2), (2, 'x', 3), (null, null, null), (null, null, null);

create incremental view d_one as select distinct a from t;
create incremental view d_two as select distinct a, b from t;
create incremental view d_all as select distinct * from t;
create incremental view d_expression as select distinct a % 2 as odd, upper(b) as u from t;
create incremental view d_filtered as select distinct b from t where a > 1;
create incremental view d_join as select distinct l.b, r.a from t l join t r on l.a = r.a;
create incremental view d_count as select count(*) from (select distinct a from t) d;
create incremental view d_over_group as select distinct n from (select a, count(*) as n from t group by a) g;
create incremental view d_group as select a, b from t group by a, b;
create incremental view d_constant as select distinct 1 as one from t;
create incremental view d_none as select a, b from t;
create incremental view d_none_joined as select l.a from t l join t r using (a);
create incremental view d_ordered as select distinct b from t order by b desc;
select * from d_two order by a, b;
select * from d_none order by a, b;
select * from oracle();

-- the second of two equal rows comes: nothing; it goes: nothing; the first goes: the row goes
insert into t values (5, 'z', 5);
select * from oracle();
insert into t values (5, 'z', 5);
select ivm.sync();
select * from d_one order by a;
select * from oracle();
delete from t where ctid = (select max(ctid) from t where a = 5);
select ivm.sync();
select * from d_one order by a;
select * from oracle();
delete from t where a = 5;
select ivm.sync();
select * from d_one order by a;
select * from oracle();
-- NULLs are the same here
delete from t where ctid = (select max(ctid) from t where a is null);
select * from oracle();
delete from t where a is null;
select * from oracle();
insert into t values (null, 'n', null), (null, null, 7);
select * from oracle();
-- to another value and back in one transaction
begin;
update t set a = a + 100;
update t set a = a - 100;
commit;
select * from oracle();
update t set b = 'x' where b = 'y';
update t set a = 1;
select * from oracle();
-- equal, but not the same: 1.0 and 1.00
create incremental view d_numeric as select distinct c from t;
insert into t values (9, 'n', 4.0), (9, 'n', 4.00);
select ivm.sync();
select count(*) from d_numeric where c = 4;
delete from t where c::text = '4.0';
select * from oracle();
select count(*) from d_numeric where c = 4;
delete from t where c = 4;
select * from oracle();
-- all this by deltas, but for the view of which it was said, and groups of numerics
select relname, rebuilds, recomputes > 0 as recomputed, error_count from pg_stat_ivm
	where schemaname = 'test_distinct' and (rebuilds > 0 or error_count > 0 or
		recomputes > 0 and relname not in ('d_all', 'd_numeric')) order by 1;
truncate t;
select * from oracle();
insert into t select i % 7, chr(97 + i % 3), i % 2 from generate_series(1, 500) i;
select * from oracle();

-- and it all goes away
set client_min_messages = warning;
drop schema test_distinct cascade;
