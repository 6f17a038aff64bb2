-- min, max and whatever gives the first value in an order: a value that goes is replaced by the next one, which one walk finds.
\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir /test/regress/oracle.sql
\set ECHO none
\i :oracle
\set ECHO all
create schema test_extreme;
set search_path = test_extreme, public;
set client_min_messages = warning;
create collation ignoring_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
create type mood as enum ('sad', 'calm', 'glad');
-- not by a prefix of the values, but by their length
create function shorter(text, text) returns boolean language sql immutable as $$ select (length($1), $1) < (length($2), $2) $$;
create function longer(text, text) returns boolean language sql immutable as $$ select (length($1), $1) > (length($2), $2) $$;
create function as_long(text, text) returns boolean language sql immutable as $$ select $1 = $2 $$;
create function by_length(text, text) returns integer language sql immutable as
	$$ select case when (length($1), $1) < (length($2), $2) then -1 when $1 = $2 then 0 else 1 end $$;
create operator <<< (function = shorter, leftarg = text, rightarg = text, commutator = >>>);
create operator >>> (function = longer, leftarg = text, rightarg = text, commutator = <<<);
create operator === (function = as_long, leftarg = text, rightarg = text, commutator = ===, merges);
create operator <<= (function = text_le, leftarg = text, rightarg = text);
create operator >>= (function = text_ge, leftarg = text, rightarg = text);
create operator class length_ops for type text using btree as
	operator 1 <<<, operator 2 <<=, operator 3 ===, operator 4 >>=, operator 5 >>>, function 1 by_length(text, text);
create function the_shorter(text, text) returns text language sql immutable strict as
	$$ select case when (length($1), $1) < (length($2), $2) then $1 else $2 end $$;
create aggregate shortest(text) (sfunc = the_shorter, stype = text, sortop = <<<);

create table t (id integer primary key, g integer, x integer, n numeric, s text collate ignoring_case, m mood, f float8, a integer[]);
create table u (id integer primary key, t_id integer, y integer);
create incremental view ends as select g, min(x), max(x) from t group by g;
create incremental view of_all as select min(x), max(n), count(*), sum(x) from t;
create incremental view mixed as select g, count(*) as c, min(n), max(n), sum(n), avg(x) as avg from t group by g;
create incremental view filtered as select g, max(x) filter (where x % 2 = 0), min(x) filter (where s is not null) from t group by g;
create incremental view having_more as select g, min(x) from t group by g having max(x) > 5 and count(*) > 1;
create incremental view by_text as select g, min(s) as s0, max(s) as s1, max(m) as m1, min(m) as m0 from t group by g;
create incremental view by_float as select max(f) as f1, min(f) as f0, max(a) as a1 from t;
create incremental view by_length as select g, shortest(s) from t group by g;
create incremental view by_expression as select s, max(x + coalesce(g, 0)), min(x) from t group by s;
create incremental view of_distinct as select g, max(distinct x), min(x order by n) from t group by g;
create incremental view of_groups as select max(c), min(least) from (select g, count(*) as c, min(x) as least from t group by g) q;
create incremental view of_join as select t.g, max(u.y), min(u.y) from t join u on t.id = u.t_id group by t.g;
create incremental view joined as select t.id, q.max from t join (select g, max(x) from t group by g) q on q.g = t.g and q.max = t.x;
create incremental view with_replay as select g, max(x), string_agg(id::text, ',' order by id), min(x) from t group by g;
create incremental view by_sets as select g, s, max(x) from t group by grouping sets ((g), (s), ());

select delta_plan('ends');
select delta_plan('filtered');
select delta_plan('of_join');
select * from oracle();
insert into t select i, nullif(i % 5, 4), nullif(i % 9, 8), (array['1', '1.0', '1.00', '2.50'])[1 + i % 4]::numeric,
	(array['a', 'A', 'bb', 'BB', null])[1 + i % 5], (array['sad', 'calm', 'glad'])[1 + i % 3]::mood,
	(array['-0', '0', 'nan', '1', '-inf'])[1 + i % 5]::float8, array[i % 4, null, i % 3] from generate_series(1, 40) i;
insert into u select i, i, i % 6 from generate_series(1, 30) i;
select * from oracle();
-- one after the other
insert into t values (100, 1, 99, 99.0, 'zzz', 'glad', 99, '{99}');
select * from oracle();
delete from t where id = 100;
select * from oracle();
delete from t where x = 0;
select * from oracle();
update t set n = n + 0.000 where id % 3 = 0;
select * from oracle();
delete from t where n = 1 and id % 2 = 0;
select * from oracle();
update t set x = 20 - x, s = upper(s);
select * from oracle();
update t set x = null where g = 2;
select * from oracle();
update t set g = g + 1 where g < 3;
select * from oracle();
update u set y = y - 3 where y > 2;
select * from oracle();
delete from t where g is null;
select * from oracle();
delete from t where f <> 'nan';
select * from oracle();
begin;
insert into t select i, 1, i, i, i::text, 'sad', i, null from generate_series(200, 260) i;
delete from t where id > 230;
update t set x = -x where id > 220;
commit;
select * from oracle();
delete from t;
select * from oracle();
insert into t select i, i % 2, i, i, repeat('x', i), 'calm', i, array[i] from generate_series(1, 12) i;
select * from oracle();

-- of equal values that look different the same one whichever way the view came to it
create table ties (id integer, n numeric);
create incremental view some_tie as select max(n), min(n) from ties;
insert into ties select i, (array['1', '1.0', '1.00', '1.000'])[1 + i % 4]::numeric from generate_series(1, 8) i;
create temporary table before as select max::text, min::text from some_tie limit 0;
insert into before select max::text, min::text from some_tie where ivm.sync() is not null;
delete from ties where id % 4 = 1;
insert into ties select 100, n from ties where id = 2;
insert into ties values (101, 1.0);
delete from ties where id = 101;
insert into ties values (5, 1.0);
select ivm.sync();
truncate before;
insert into before select max::text, min::text from some_tie;
refresh materialized view some_tie;
select max::text, min::text from some_tie except all table before;

-- an index of the table's takes the place of the ordered table
create index on t (g, x);
create incremental view by_index as select g, min(x), max(x), count(*) from t group by g;
create incremental view over_index as select g, max(x) from t where id > 2 group by g;
create index on t (x desc nulls last);
create incremental view all_by_index as select max(x), min(x) from t;
select delta_plan('by_index');
select delta_plan('all_by_index');
update t set x = null where id in (1, 11);
delete from t where id = 12;
select * from oracle() where name like '%index';
insert into t (id, g, x) values (50, null, 3), (51, null, null), (52, 1, -4);
select * from oracle() where name like '%index';
delete from t where id = 52 or g is null;
select * from oracle() where name like '%index';
delete from t where id > 2 and g = 1;
select * from oracle() where name like '%index';

-- values that are too long for an index
create table long (id integer, s text);
create incremental view of_long as select max(s), min(s) from long;
insert into long select i, repeat(chr(97 + i % 5), 3000 * (i % 2) + 1) || i from generate_series(1, 20) i;
select * from oracle() where name = 'of_long';
delete from long where s = (select max(s) from long) or s = (select min(s) from long);
select * from oracle() where name = 'of_long';
delete from long where s = (select max(s) from long) or s = (select min(s) from long);
select * from oracle() where name = 'of_long';
delete from long where id % 2 = 0;
select * from oracle() where name = 'of_long';
delete from long;
select * from oracle() where name = 'of_long';

select relname, recomputes from pg_stat_ivm where schemaname = 'test_extreme' and recomputes > 0 order by relname;
drop schema test_extreme cascade;
