-- Variances, covariances and regression of floats.
\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir /test/regress/oracle.sql
\set ECHO none
\i :oracle
\set ECHO all
create schema test_moments;
set search_path = test_moments, public;
create table t (id integer primary key, g integer, x double precision, y double precision, r real);
create function digits(double precision) returns numeric immutable language sql
	as $$ select case when abs($1) < 1e-12 then 0 when $1 = 'NaN' or abs($1) = 'infinity' then $1::numeric else $1::numeric(38, 7) end $$;
insert into t select i, i % 4, case when i % 11 = 0 then null else (i * 37 % 101) / 7.0 end, (i * 53 % 89) / 3.0 - 10, (i % 13) / 3.0 from generate_series(1, 60) i;
-- one row; all the same; far from zero
insert into t values (100, 10, 0.1, 2, 3), (101, 11, 0.1, 1, 5), (102, 11, 0.1, 2, 5), (103, 11, 0.1, 3, 5),
	(104, 12, 1e9 + 0.25, 1e9, 1), (105, 12, 1e9 + 0.5, 1e9 + 4, 2), (106, 12, 1e9 + 0.75, 1e9 - 8, 3), (107, 13, null, 1, null);
create incremental view m_variance as select g, digits(var_pop(x)) as vp, digits(var_samp(x)) as vs, digits(variance(x)) as v, digits(stddev_pop(x)) as sp,
	digits(stddev_samp(x)) as ss, digits(stddev(x)) as s, digits(variance(r)) as vr, digits(stddev_pop(r) filter (where id > 5)) as sr from t group by g;
create incremental view m_regression as select g, regr_count(y, x) as n, digits(regr_sxx(y, x)) as sxx, digits(regr_syy(y, x)) as syy, digits(regr_sxy(y, x)) as sxy,
	digits(regr_avgx(y, x)) as ax, digits(regr_avgy(y, x)) as ay, digits(covar_pop(y, x)) as cp, digits(covar_samp(y, x)) as cs, digits(corr(y, x)) as c,
	digits(regr_r2(y, x)) as r2, digits(regr_slope(y, x)) as sl, digits(regr_intercept(y, x)) as ic from t where g <> 11 and g <> 12 and g <> 20 group by g;
create incremental view m_constant as select g, corr(y, r) as c, digits(regr_r2(r, y)) as r2, digits(regr_slope(r, y)) as s from t where g = 11 group by g;
create incremental view m_grand as select digits(stddev(x)) as s, digits(variance(distinct x)) as v, digits(corr(x, y)) as c, count(*) from t where g < 10;
create incremental view m_raw as select g, stddev(x) as s, var_pop(r) as v, corr(x, y) as c from t where g < 10 group by g;
create incremental view m_nothing as select var_pop(x) as v, stddev(x) as s, corr(x, y) as c, regr_count(x, y) as n from t where g > 1000;
select line from ivm.explain('m_variance') line where line ~ 'Recompute|Rows of';
select * from m_variance where g >= 10 order by g;
select * from oracle() where name <> 'm_raw';
update t set x = x * 1.1 where id % 3 = 0;
select * from oracle() where name <> 'm_raw';
delete from t where id % 7 = 0;
select * from oracle() where name <> 'm_raw';
-- what is not finite comes and goes
insert into t values (200, 1, 'infinity', 1, 1), (201, 2, 1, 'NaN', 2), (202, 3, '-infinity', 'infinity', 'NaN'), (203, 14, 'NaN', 1, 1);
select * from oracle() where name <> 'm_raw';
select * from m_variance where g in (1, 3, 14) order by g;
delete from t where id between 200 and 203;
select * from oracle() where name <> 'm_raw';
-- all that is left of a group is one row, none, and many again
delete from t where g = 2 and id <> (select min(id) from t where g = 2);
update t set g = 3 where g = 1;
select * from oracle() where name <> 'm_raw';
insert into t select i, 1, i / 9.0, -i / 7.0, i from generate_series(300, 340) i;
select * from oracle() where name <> 'm_raw';
select * from ivm.verify('m_raw');
select * from m_nothing;
-- a square that is too large
create incremental view m_large as select g, var_pop(x) as v from t where g = 20 group by g;
insert into t values (400, 20, 1e200, 1, 1);
select ivm.sync('m_large');
select * from m_large;
drop schema test_moments cascade;
