-- Aggregates that have an inverse, over every type that they take.
\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir /test/regress/oracle.sql
\set ECHO none
\i :oracle
\set ECHO all
create schema test_aggregate_types;
set search_path = test_aggregate_types, public;
create table t (id integer primary key, g integer, i2 smallint, i4 integer, i8 bigint, n numeric,
	f4 real, f8 double precision, m money, iv interval, b boolean, bits bit(4));
insert into t
	select i, i % 3, i, i * 1000, i * 10000000000, i + 0.25, i / 2.0, i / 4.0, i::numeric::money,
		i * interval '1 hour', i % 2 = 0, (i % 16)::bit(4)
	from generate_series(1, 15) i;
insert into t (id, g) values (100, 0), (101, 5);

create incremental view s_int as select g, sum(i2) s2, sum(i4) s4, sum(i8) s8, avg(i2) a2, avg(i4) a4, avg(i8) a8 from t group by g;
create incremental view s_numeric as select g, sum(n), avg(n), count(n) from t group by g;
create incremental view s_variance as
	select g, variance(i2) v2, var_pop(i4) v4, var_samp(i8) v8, stddev(i4) d4, stddev_pop(i8) d8, stddev_samp(n) dn, var_pop(n) vn
	from t group by g;
create incremental view s_money as select g, sum(m) from t group by g;
create incremental view s_interval as select g, sum(iv), avg(iv) from t group by g;
create incremental view s_float as select g, sum(f4) s4, sum(f8) s8, avg(f4) a4, avg(f8) a8, count(f8) from t group by g;
create incremental view s_bool as select g, bool_and(b), bool_or(b), every(b) from t group by g;
create incremental view s_grand as select sum(i2) s2, sum(i8) s8, sum(n) n, sum(f8) f8, avg(iv) iv, stddev(n) dn, bool_or(b) b from t;
create incremental view s_bits as select g, bit_and(i4) a, bit_or(i8) o, bit_xor(i2) x, bit_or(bits) bits from t group by g;
-- each one that has an inverse in pg_aggregate: no NOTICE may appear
select format('create incremental view all_%s as select g, %s from t group by g', argument,
		string_agg(format('%s(%s) as %1$s', proname, argument), ', ' order by proname))
	from (select proname, case proargtypes[0]
			when 'smallint'::regtype then 'i2' when 'integer'::regtype then 'i4' when 'bigint'::regtype then 'i8'
			when 'numeric'::regtype then 'n' when 'money'::regtype then 'm' when 'interval'::regtype then 'iv'
			when 'boolean'::regtype then 'b' when '"any"'::regtype then 'bits' end as argument
		from pg_aggregate join pg_proc p on p.oid = aggfnoid where aggminvtransfn <> 0 and pronargs > 0) a
	group by argument order by argument \gexec
-- the digits of a numeric are the query's too
create view other_digits as
	select r::text from all_n r
	except all
	select r::text from (select g, avg(n), stddev(n), stddev_pop(n), stddev_samp(n), sum(n), var_pop(n), var_samp(n), variance(n)
		from t group by g) r;
select * from s_int order by g;
select * from s_interval order by g;
select * from oracle();
update t set i2 = i2 + 1, i4 = -i4, i8 = i8 / 3, n = n * 1.5, f4 = f4 + 1, f8 = f8 - 2, m = m * 2, iv = iv * 3, b = not b;
select * from oracle();
update t set g = (g + 1) % 3 where id % 2 = 0;
delete from t where id in (3, 4, 5);
select * from oracle();

-- a sum of bigint beyond bigint, there and back
insert into t (id, g, i8) values (200, 9, 9223372036854775807), (201, 9, 9223372036854775807), (202, 9, -9223372036854775808);
select ivm.sync();
select g, s8, a8 from s_int where g = 9;
insert into t (id, g, i8) select 300 + i, 9, 9223372036854775807 from generate_series(1, 50) i;
select ivm.sync();
select g, s8 from s_int where g = 9;
delete from t where id > 202;
select ivm.sync();
select g, s8 from s_int where g = 9;
select * from oracle();
delete from t where g = 9;

-- numeric: the widest scale comes and leaves, and the result shows it
insert into t (id, g, n) values (210, 10, 1.5), (211, 10, 2.125000), (212, 10, 3);
select ivm.sync();
select * from s_numeric where g = 10;
delete from t where id = 211;
select ivm.sync();
select * from s_numeric where g = 10;
update t set n = 1.50000000 where id = 210;
select ivm.sync();
select * from s_numeric where g = 10;
update t set n = 7 where id = 210;
select ivm.sync();
select * from s_numeric where g = 10;
select * from oracle();
select * from other_digits;
-- numeric: NaN and infinities, and what is left when they go
insert into t (id, g, n) values (220, 11, 'NaN'), (221, 11, 'Infinity'), (222, 11, '-Infinity'), (223, 11, 1);
select ivm.sync();
select * from s_numeric where g = 11;
delete from t where id = 220;
select ivm.sync();
select * from s_numeric where g = 11;
delete from t where id = 222;
select ivm.sync();
select * from s_numeric where g = 11;
delete from t where id = 221;
select ivm.sync();
select * from s_numeric where g = 11;
select * from oracle();
select * from other_digits;
-- numeric: large and small ones
insert into t (id, g, n) values (230, 12, 1e100), (231, 12, 1e-50), (232, 12, -1e100);
delete from t where id in (230, 232);
select * from oracle();
select * from other_digits;

-- float: a sum never drifts, whatever came and went
insert into t (id, g, f8, f4) values (240, 13, 1e16, 1), (241, 13, 1, 1e8), (242, 13, -1e16, -1e8), (243, 13, 0.5, 0.25);
select ivm.sync();
select g, s8, s4 from s_float where g = 13;
delete from t where id in (240, 242);
select ivm.sync();
select g, s8, s4 from s_float where g = 13;
insert into t (id, g, f8) select 1000 + i, 14, 0.1 from generate_series(1, 1000) i;
select ivm.sync();
delete from t where id > 1001;
select ivm.sync();
select g, s8, a8 from s_float where g = 14;
delete from t where id = 1001;
-- float: NaN, infinities, and what is left when they go
insert into t (id, g, f8) values (250, 15, 'NaN'), (251, 15, 'Infinity'), (252, 15, '-Infinity'), (253, 15, 2.5);
select ivm.sync();
select g, s8, a8 from s_float where g = 15;
delete from t where id in (250, 251);
select ivm.sync();
select g, s8, a8 from s_float where g = 15;
delete from t where id = 252;
select ivm.sync();
select g, s8, a8 from s_float where g = 15;
-- float: minus zero, the smallest and the largest (which the query's avg() cannot do, so they go again)
insert into t (id, g, f8) values (260, 16, '-0'), (261, 17, 5e-324), (262, 17, 1.7976931348623157e308), (263, 17, -1.7976931348623157e308);
select ivm.sync();
select g, s8 from s_float where g in (16, 17) order by g;
delete from t where id in (262, 263);
select * from oracle();

-- interval: months, days and seconds apart, and negative ones
insert into t (id, g, iv) values (270, 18, '1 month -3 days 04:05:06.789'), (271, 18, '-1 year'), (272, 18, '40 days');
select ivm.sync();
select * from s_interval where g = 18;
delete from t where id = 271;
select * from oracle();

-- an overflow is an error of the query, of that view alone
create table o (id integer primary key, x integer);
insert into o values (1, 1);
create incremental view s_overflow as select id, x + 1 as x1 from o;
create incremental view s_other as select sum(x) from o;
insert into o values (2, 2147483647);
select ivm.sync('s_other');
select * from s_other;
select ivm.sync('s_overflow');
select state, last_error from pg_stat_ivm where relname = 's_overflow';
-- and when its cause has gone, the view can be made right again
delete from o where id = 2;
refresh materialized view s_overflow;
insert into o values (3, 3);
select * from oracle();

-- aggregates of one's own: with an inverse, and without
create function int_add(integer, integer) returns integer immutable strict language sql as 'select $1 + $2';
create function int_subtract(integer, integer) returns integer immutable strict language sql as 'select $1 - $2';
create aggregate my_sum(integer) (sfunc = int_add, stype = integer, initcond = '0',
	msfunc = int_add, minvfunc = int_subtract, mstype = integer, minitcond = '0');
create aggregate my_product(integer) (sfunc = int4mul, stype = integer, initcond = '1');
create incremental view s_own as select g, my_sum(i4) from t group by g;
create incremental view s_own_without as select g, my_product(i2) from t where i2 < 5 group by g;
update t set i4 = i4 + 1, i2 = i2 % 6;
select * from oracle();
-- a state of type internal goes on when it has been stored, or its aggregate is recomputed: what the
-- second one stores lacks the squares, the third one's inverse is none, the fourth one has nothing to
-- make a state of what was stored
create aggregate own_variance(numeric) (sfunc = numeric_accum, stype = internal, finalfunc = numeric_var_samp,
	combinefunc = numeric_combine, serialfunc = numeric_serialize, deserialfunc = numeric_deserialize,
	msfunc = numeric_accum, minvfunc = numeric_accum_inv, mstype = internal, mfinalfunc = numeric_var_samp);
create aggregate lossy_variance(integer) (sfunc = int4_accum, stype = internal, finalfunc = numeric_poly_var_samp,
	combinefunc = numeric_poly_combine, serialfunc = int8_avg_serialize, deserialfunc = int8_avg_deserialize,
	msfunc = int4_accum, minvfunc = int4_accum_inv, mstype = internal, mfinalfunc = numeric_poly_var_samp);
create aggregate crooked_sum(bigint) (sfunc = int8_avg_accum, stype = internal, finalfunc = numeric_poly_sum,
	combinefunc = int8_avg_combine, serialfunc = int8_avg_serialize, deserialfunc = int8_avg_deserialize,
	msfunc = int8_avg_accum, minvfunc = int8_avg_accum, mstype = internal, mfinalfunc = numeric_poly_sum);
create aggregate single_variance(numeric) (sfunc = numeric_accum, stype = internal, finalfunc = numeric_var_samp,
	serialfunc = numeric_serialize, deserialfunc = numeric_deserialize,
	msfunc = numeric_accum, minvfunc = numeric_accum_inv, mstype = internal, mfinalfunc = numeric_var_samp);
create incremental view s_own_variance as select g, own_variance(n) from t group by g;
create incremental view s_lossy as select g, lossy_variance(i4) from t group by g;
create incremental view s_crooked as select g, crooked_sum(i8) from t group by g;
create incremental view s_single as select g, single_variance(n) from t group by g;
select line from ivm.explain('s_lossy') line where line ~ 'Recompute|Reason|Accumulators';
update t set n = n + 1, i4 = i4 + 1, i8 = i8 + 1;
select * from oracle();
update t set n = n * 2, i4 = i4 * 2, i8 = i8 * 2, g = (g + 1) % 4 where g < 4;
select * from oracle();
delete from t where g = 1;
select * from oracle();
-- aggregates with more than one argument
create incremental view s_regr as select g, regr_count(f8, f4), count(*) from t group by g;
create incremental view s_any as select g, array_agg(id order by id) as ids, string_agg(i4::text, ',' order by id) as s,
	max(i4), min(f8) from t group by g;
create incremental view s_distinct as select g, count(distinct i2), sum(distinct i2) from t group by g;
update t set i2 = 3, f4 = 2 where id % 5 = 0;
select * from oracle();
select * from other_digits;
-- no view has been rebuilt, but the one of the overflow
select relname, rebuilds > 0 as rebuilt, error_count > 0 as failed from pg_stat_ivm
	where schemaname = 'test_aggregate_types' and (rebuilds > 0 or error_count > 0);

-- and it all goes away
set client_min_messages = warning;
drop schema test_aggregate_types cascade;
