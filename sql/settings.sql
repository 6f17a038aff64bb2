-- A view keeps the settings under which it was made, whatever those of
-- sessions and workers are.
\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir /test/regress/oracle.sql
\set ECHO none
\i :oracle
\set ECHO all
create schema test_settings;
set search_path = test_settings, public;
-- what other servers may have set otherwise
set default_text_search_config = 'simple';
set extra_float_digits = 1;
set xmlbinary = base64;
set xmloption = content;
set quote_all_identifiers = off;
set array_nulls = on;
set timezone = 'America/New_York';
set datestyle = 'ISO, MDY';
set intervalstyle = 'postgres';
create table t (id integer primary key, at timestamptz, d date, iv interval, f double precision, m money, s text);
insert into t values (1, '2024-03-10 04:30:00+00', '2024-03-10', '1 day 2 hours', 0.1, 1.5, 'The cats');

create incremental view ny as select date_trunc('day', at) as day, at::date as date, count(*) from t group by 1, 2;
create incremental view ny_text as select id, to_char(at, 'YYYY-MM-DD HH24:MI TZ') as c, at::text as t, extract(hour from at) as h from t;
set timezone = 'Asia/Tokyo';
create incremental view tokyo as select date_trunc('day', at) as day, at::date as date, count(*) from t group by 1, 2;
create incremental view tokyo_text as select id, to_char(at, 'YYYY-MM-DD HH24:MI TZ') as c, at::text as t, extract(hour from at) as h from t;
set datestyle = 'German';
set intervalstyle = 'iso_8601';
set extra_float_digits = 0;
set default_text_search_config = 'english';
create incremental view styled as select id, d::text as d, iv::text as iv, f::text as f, to_tsvector(s) as s from t;
set bytea_output = 'escape';
set array_nulls = off;
create incremental view more_styles as select id, s::bytea::text as b, ('{null,' || id || '}')::text[] as n, m::text as m, at::timestamp::time as time from t;
reset bytea_output;
set array_nulls = on;
-- what is read from text is read as where the view was made
create table p (id integer primary key, s text);
insert into p values (1, '01/02/2024'), (2, '2024-05-06 12:00 EST'), (3, '2024-07-01 12:00');
set datestyle = 'ISO, DMY';
create incremental view parsed as select id, s::date as d, s::timestamptz as tz, s::timestamptz at time zone 'UTC' as utc from p;
create materialized view turned as select id, s::date as d from p;
alter materialized view turned set access method incremental;
set datestyle = 'German';
-- literals mean what they mean where the view is made
create incremental view literal as select id from t where at >= '2024-03-10 13:00' and d < '11.03.2024';

-- other settings in the session that writes
set timezone = 'UTC';
set datestyle = 'ISO, YMD';
set intervalstyle = 'sql_standard';
set extra_float_digits = 3;
set default_text_search_config = 'simple';
insert into t values (2, '2024-03-10 15:30:00+00', '2024-03-09', '-3 hours', 0.30000000000000004, 2.5, 'The dogs'),
	(3, '2024-03-10 23:59:59+00', '2024-03-12', '1 year', 1e-7, -3, 'of mice');
update t set at = at + interval '1 hour' where id = 1;
set datestyle = 'ISO, MDY';
insert into p values (4, '03/02/2024');
update p set s = '04/02/2024' where id = 1;
set datestyle = 'ISO, YMD';
select ivm.sync();
select day, date, count from ny order by day;
select * from ny_text order by id;
select day, date, count from tokyo order by day;
select * from tokyo_text order by id;
select * from styled order by id;
select * from more_styles order by id;
select * from parsed order by id;
select * from turned order by id;
select id from literal order by id;
-- each equals its query under its own settings
set timezone = 'America/New_York';
set datestyle = 'ISO, MDY';
set intervalstyle = 'postgres';
select * from oracle() where name like 'ny%';
set timezone = 'Asia/Tokyo';
select * from oracle() where name in ('tokyo', 'tokyo_text');
set datestyle = 'German';
set intervalstyle = 'iso_8601';
set extra_float_digits = 0;
set default_text_search_config = 'english';
select * from oracle() where name in ('tokyo', 'styled', 'literal');
set datestyle = 'ISO, DMY';
select * from oracle() where name in ('parsed', 'turned');
-- and says so whatever those of the session are
set timezone = 'UTC';
reset datestyle;
reset intervalstyle;
reset extra_float_digits;
reset default_text_search_config;
select relname, missing, extra
	from pg_class, ivm.verify(oid) where relnamespace = current_schema::regnamespace and relkind = 'm' order by 1;
select ivm.explain('tokyo');
select line from ivm.explain('more_styles') line where line ~ 'bytea_output|array_nulls|DateStyle';

-- REFRESH in a session with others, a rebuild after TRUNCATE
refresh materialized view ny_text;
select * from ny_text order by id;
truncate t;
insert into t values (4, '2024-07-01 03:00:00+00', '2024-07-01', '1 mon', 5, 5, 'four');
select ivm.sync();
select * from ny_text;
select * from tokyo_text;
select * from more_styles;
select relname, missing, extra
	from pg_class, ivm.verify(oid) where relnamespace = current_schema::regnamespace and relkind = 'm' order by 1;

-- settings of the session that are none of ours
set search_path = pg_catalog;
create incremental view test_settings.by_path as select id from test_settings.t where s like 'f%';
set search_path = test_settings, public;
set default_transaction_isolation = serializable;
set default_transaction_read_only = on;
select ivm.sync();
select * from by_path;
reset default_transaction_read_only;
insert into t values (5, '2024-07-02 03:00:00+00', '2024-07-02', '1 s', 6, 6, 'five');
select ivm.sync();
begin isolation level repeatable read;
select count(*) from by_path;
select ivm.sync();
select id from by_path order by id;
commit;
reset default_transaction_isolation;
set work_mem = '64kB';
set enable_hashjoin = off;
set enable_hashagg = off;
set enable_seqscan = off;
set from_collapse_limit = 1;
set join_collapse_limit = 1;
set plan_cache_mode = force_generic_plan;
set session_replication_role = replica;
create incremental view odd_settings as select a.id, b.s, count(*) from t a join t b using (id) join t c using (id) group by 1, 2;
insert into t values (6, '2024-07-02 03:00:00+00', '2024-07-02', '1 s', 6, 6, 'six');
reset session_replication_role;
reset enable_seqscan;
select name, missing, extra from oracle() where name in ('odd_settings', 'by_path');
-- a view made with asynchronous commit, and changes so committed
set synchronous_commit = off;
create incremental view asynchronous as select id, f from t;
insert into t (id, f) values (7, 7);
select ivm.sync();
select id, f from asynchronous order by id;
reset synchronous_commit;

select * from oracle() where name in ('asynchronous', 'by_path', 'odd_settings');
select relname, missing, extra
	from pg_class, ivm.verify(oid) where relnamespace = current_schema::regnamespace and relkind = 'm' order by 1;

-- and it all goes away
set client_min_messages = warning;
drop schema test_settings cascade;
