-- Whose rights count, and what a view's expressions may do.
\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir /test/regress/oracle.sql
\set ECHO none
\i :oracle
\set ECHO all
create schema test_security;
set search_path = test_security, public;
create role ivm_owner;
create role ivm_reader;
create role ivm_other;
grant usage, create on schema test_security to ivm_owner, ivm_other;
grant usage on schema test_security to ivm_reader;
create table t (id integer primary key, secret integer, public_part text);
insert into t select i, i * 100, 'p' || i from generate_series(1, 3) i;
alter table t owner to ivm_owner;

-- the owner of the table makes a view; readers need rights on the view alone
set role ivm_owner;
create incremental view v as select id, public_part from t;
grant select on v to ivm_reader;
reset role;
set role ivm_reader;
select count(*) from v;
select count(*) from t;
select ivm.sync('v');
select count(*) > 0 as explained from ivm.explain('v');
select * from ivm.verify('v');
refresh materialized view v;
drop materialized view v;
reset role;
-- no right on the table: no view
set role ivm_other;
create incremental view x as select id from t;
reset role;
-- a right on some columns is one on those
grant select (id, public_part) on t to ivm_other;
set role ivm_other;
create incremental view x as select id, public_part from t;
create incremental view y as select secret from t;
create incremental view y as select count(*) from t where secret > 0;
reset role;
-- the owner loses it: the view stops, and says so
revoke select (public_part) on t from ivm_other;
insert into t values (4, 400, 'p4');
select ivm.sync('v');
select count(*) from v;
select ivm.sync('x');
select relname, state, last_error from pg_stat_ivm where relname in ('v', 'x') order by 1;
select count(*) from x where id = 4;
-- and gets it back
grant select on t to ivm_other;
refresh materialized view x;
insert into t values (5, 500, 'p5');
select * from oracle();
-- another owner
alter materialized view v owner to ivm_other;
insert into t values (6, 600, 'p6');
select * from oracle();
drop materialized view x, v;

-- expressions run as the owner, not as who writes
create function whoami(integer) returns text immutable language plpgsql as 'begin return current_user || $1; end';
set role ivm_owner;
create incremental view who as select whoami(id) as w from t;
reset role;
insert into t values (7, 700, 'p7');
select ivm.sync('who');
select w from who order by w;
-- also those of an index on the view
create function owner_index(text) returns text immutable language plpgsql as 'begin return current_user; end';
set role ivm_owner;
create index who_i on who (owner_index(w));
reset role;
insert into t values (8, 800, 'p8');
select ivm.sync('who');
set enable_seqscan = off;
set enable_bitmapscan = off;
select count(*) from who where owner_index(w) = 'ivm_owner';
reset enable_seqscan;
reset enable_bitmapscan;
drop materialized view who;
-- a function that would do more than compute
create table loot (who text);
grant insert on loot to public;
create function thief(integer) returns integer immutable language plpgsql as
	'begin insert into test_security.loot values (current_user); return $1; end';
create function climber(integer) returns integer immutable language plpgsql as
	'begin execute ''reset session authorization''; execute ''reset role''; return $1; end';
create function setter(integer) returns integer immutable language plpgsql as
	'begin perform set_config(''search_path'', ''nowhere'', false); return $1; end';
set role ivm_owner;
create incremental view climbing as select climber(id) as c from t;
create incremental view setting as select setter(id) as c from t;
reset role;
select to_regclass('climbing') as climbing;
insert into t values (9, 900, 'p9');
show search_path;
select * from oracle();
drop materialized view if exists setting;

-- names are looked up where the view was made, not where its owner likes
create schema ivm_evil;
grant usage, create on schema ivm_evil to public;
set role ivm_other;
create function ivm_evil.upper(text) returns text immutable language plpgsql as 'begin return ''evil''; end';
reset role;
set role ivm_owner;
create incremental view named as select id, upper(public_part) as u from t;
reset role;
alter role ivm_owner set search_path = ivm_evil, pg_catalog;
update t set public_part = public_part || 'x' where id = 1;
select ivm.sync('named');
select u from named where id = 1;
drop schema ivm_evil cascade;
drop materialized view named;

-- row security is that of the owner
create table rows (id integer primary key, who text);
insert into rows values (1, 'ivm_other'), (2, 'ivm_owner'), (3, 'ivm_other');
alter table rows enable row level security;
create policy mine on rows using (who = current_user);
create policy fixed on rows to ivm_other using (id < 3);
grant select on rows to ivm_other;
alter table rows replica identity full;
create incremental view all_rows as select id from rows;
set role ivm_other;
create incremental view some_rows as select id from rows;
reset role;
drop policy mine on rows;
set role ivm_other;
create incremental view some_rows as select id from rows;
reset role;
insert into rows values (0, 'x'), (4, 'ivm_other');
select ivm.sync();
select id from all_rows order by id;
select id from some_rows order by id;
-- another policy
alter policy fixed on rows using (id > 1);
insert into rows values (5, 'x');
select ivm.sync();
select id from some_rows order by id;
select missing, extra from ivm.verify('some_rows');
drop materialized view some_rows;

-- leaks: a view with a barrier
create view barrier with (security_barrier) as select id, public_part from t where secret < 500;
grant select on barrier to ivm_other;
set role ivm_other;
create incremental view over_barrier as select id, public_part from barrier;
reset role;
insert into t values (10, 5, 'p10'), (11, 5000, 'p11');
select * from oracle();
create view invoker with (security_invoker) as select secret from t;
grant select on invoker to ivm_reader;
grant create on schema test_security to ivm_reader;
set role ivm_reader;
create incremental view over_invoker as select secret from invoker;
reset role;

-- the extension's own tables and functions
set role ivm_reader;
select count(*) from ivm.view;
insert into ivm.view select * from ivm.view limit 0;
select count(*) >= 0 as ok from pg_stat_ivm;
create temporary table x (a integer);
reset role;
set role pg_monitor;
select count(*) > 0 as ok from pg_stat_ivm_worker;
reset role;
-- nobody else may decode with our plugin, or take our slot
select pg_create_logical_replication_slot('ivm_test_stolen', 'ivm_ext');
select count(*) from pg_replication_slots where slot_name = 'ivm_test_stolen';

set client_min_messages = warning;
drop owned by ivm_owner, ivm_reader, ivm_other cascade;
drop role ivm_owner, ivm_reader, ivm_other;

-- and it all goes away
set client_min_messages = warning;
drop schema test_security cascade;
