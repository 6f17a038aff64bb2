-- pg_dump and pg_restore: an incremental view comes back as one.
\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir /test/regress/oracle.sql
\set ECHO none
\i :oracle
\set ECHO all
create schema test_dump;
set search_path = test_dump, public;
create table t (id integer primary key, g integer, x numeric);
insert into t select i, i % 3, i from generate_series(1, 9) i;
create incremental view v as select g, count(*) as n, sum(x) as s from t group by g;
create incremental view "Quoted" (a, "B b") with (fillfactor = 77) as select id, g from t where x > 2;
create incremental view on_v as select count(*) as groups from v;
create incremental view bag as select g from t;
create incremental view recomputed as select distinct g, max(x) over (partition by g) from t;
create incremental view no_data as select id from t with no data;
create materialized view plain as select id from t;
create index v_n on v (n);
create unique index quoted_a on "Quoted" (a) where a > 3;
comment on materialized view v is 'groups of t';
grant select on v to public;

-- what is written
\setenv IVM_DUMP_DB :DBNAME
\! pg_dump --schema-only --no-owner --schema=test_dump "$IVM_DUMP_DB" | grep -A2 -E '^(CREATE (MATERIALIZED|TABLE|INDEX|UNIQUE)|REFRESH|COMMENT ON MAT|SET default_table_access)' | grep -v -E '^(--|$)'
-- nothing of ours is in it
\! pg_dump --no-owner "$IVM_DUMP_DB" | grep -c ivm_state

-- restored in another database: as text
\set home :DBNAME
\! createdb ivm_dump_1 && pg_dump "$IVM_DUMP_DB" | psql -X -q -d ivm_dump_1 -v ON_ERROR_STOP=1 2>&1 | grep -v -E '^( *|\(1 row\)| set_config .*|-+)$'
\c ivm_dump_1
set search_path = test_dump, public;
select * from oracle();
insert into t values (10, 5, 10);
delete from t where g = 1;
select * from oracle();
select * from v order by g;
select c.relname, a.amname, c.relispopulated, c.reloptions from pg_class c join pg_am a on a.oid = c.relam
	where c.relnamespace = 'test_dump'::regnamespace and c.relkind in ('m', 'r') order by 1;
select c.relname, c.relacl is not null as granted, obj_description(c.oid, 'pg_class') as comment from pg_class c
	where c.oid = 'v'::regclass;
select relname, relreplident from pg_class where oid = 't'::regclass;
select indexdef from pg_indexes where schemaname = 'test_dump' and tablename in ('v', 'Quoted', 'bag') order by indexname;
\c :home
-- in one transaction
\! createdb ivm_dump_2 && pg_dump -Fc "$IVM_DUMP_DB" | pg_restore --single-transaction --exit-on-error -d ivm_dump_2
\c ivm_dump_2
set search_path = test_dump, public;
insert into t values (10, 5, 10);
delete from t where g = 1;
select * from oracle();
\c :home
drop database ivm_dump_2;
-- in parallel
\! createdb ivm_dump_3 && pg_dump -Fc -f "${TMPDIR:-/tmp}/ivm_dump.$PPID" "$IVM_DUMP_DB" && pg_restore --jobs=2 --exit-on-error -d ivm_dump_3 "${TMPDIR:-/tmp}/ivm_dump.$PPID"; rm -f "${TMPDIR:-/tmp}/ivm_dump.$PPID"
\c ivm_dump_3
set search_path = test_dump, public;
insert into t values (10, 5, 10);
delete from t where g = 1;
select * from oracle();
\c :home
drop database ivm_dump_3;
-- as text in one transaction
\! createdb ivm_dump_4 && pg_dump "$IVM_DUMP_DB" | psql -X -q -1 -d ivm_dump_4 -v ON_ERROR_STOP=1 -o /dev/null
\c ivm_dump_4
set search_path = test_dump, public;
insert into t values (10, 5, 10);
delete from t where g = 1;
select * from oracle();
\c :home
drop database ivm_dump_4;

-- a database with views is copied and dropped
create database ivm_dump_copy template ivm_dump_1;
\c ivm_dump_copy
set search_path = test_dump, public;
select * from oracle();
insert into t values (11, 5, 11);
update t set g = 7 where id = 3;
select * from oracle();
\c ivm_dump_1
set search_path = test_dump, public;
insert into t values (12, 5, 12);
select * from oracle();
\c :home
drop database ivm_dump_1;
drop database ivm_dump_copy;
select count(*) from pg_replication_slots where slot_name ~ '^ivm_' and database ~ '^ivm_dump';
set search_path = test_dump, public;
select * from oracle();

-- and it all goes away
set client_min_messages = warning;
drop schema test_dump cascade;
