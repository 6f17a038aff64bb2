-- Whose rights count, and what a view's expressions may do.
\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir /test/regress/oracle.sql
\set ECHO none
\i :oracle
\set ECHO all
create schema test_security;
set search_path = test_security, public;
create role regress_ivm_owner;
create role regress_ivm_reader;
create role regress_ivm_other;
grant usage, create on schema test_security to regress_ivm_owner, regress_ivm_other;
grant usage on schema test_security to regress_ivm_reader;
create table t (id integer primary key, secret integer, public_part text);
insert into t select i, i * 100, 'p' || i from generate_series(1, 3) i;
alter table t owner to regress_ivm_owner;

-- the owner of the table makes a view; readers need rights on the view alone
set role regress_ivm_owner;
create incremental view v as select id, public_part from t;
grant select on v to regress_ivm_reader;
reset role;
set role regress_ivm_reader;
select count(*) from v;
select count(*) from t;
select ivm.sync('v');
select count(*) > 0 as explained from ivm.explain('v');
select * from ivm.verify('v');
refresh materialized view v;
drop materialized view v;
alter materialized view v set access method heap;
select ivm.stat_reset('v');
select ivm.trim();
reset role;
-- who may not read the view learns nothing of it
set role regress_ivm_other;
select ivm.sync('v');
select * from ivm.explain('v');
select * from ivm.verify('v');
select ivm.sync();
reset role;
-- no right on the table: no view
set role regress_ivm_other;
create incremental view x as select id from t;
reset role;
-- a right on some columns is one on those
grant select (id, public_part) on t to regress_ivm_other;
set role regress_ivm_other;
create incremental view x as select id, public_part from t;
create incremental view y as select secret from t;
create incremental view y as select count(*) from t where secret > 0;
reset role;
-- the owner loses it: the view stops, and says so
revoke select (public_part) on t from regress_ivm_other;
insert into t values (4, 400, 'p4');
select ivm.sync('v');
select count(*) from v;
select ivm.sync('x');
select relname, state, last_error from pg_stat_ivm where relname in ('v', 'x') order by 1;
select count(*) from x where id = 4;
-- and gets it back
grant select on t to regress_ivm_other;
refresh materialized view x;
insert into t values (5, 500, 'p5');
select * from oracle();
-- another owner
alter materialized view v owner to regress_ivm_other;
insert into t values (6, 600, 'p6');
select * from oracle();
drop materialized view x, v;

-- expressions run as the owner, not as who writes
create function whoami(integer) returns text immutable language plpgsql as 'begin return current_user || $1; end';
set role regress_ivm_owner;
create incremental view who as select whoami(id) as w from t;
reset role;
insert into t values (7, 700, 'p7');
select ivm.sync('who');
select w from who order by w;
-- also those of an index on the view
create function owner_index(text) returns text immutable language plpgsql as 'begin return current_user; end';
set role regress_ivm_owner;
create index who_i on who (owner_index(w));
reset role;
insert into t values (8, 800, 'p8');
select ivm.sync('who');
set enable_seqscan = off;
set enable_bitmapscan = off;
select count(*) from who where owner_index(w) = 'regress_ivm_owner';
reset enable_seqscan;
reset enable_bitmapscan;
drop materialized view who;
-- a function that would do more than compute
create table loot (who text);
grant insert on loot to public;
create function thief(integer) returns integer immutable language plpgsql as
	'begin insert into test_security.loot values (current_user); return $1; end';
create function climber(text) returns text immutable language plpgsql as
	'begin if $1 like ''%climb'' then perform set_config(''role'', ''none'', false); end if; return current_user; end';
create function other_climber(text) returns text immutable language plpgsql as
	'begin if $1 like ''%climb'' then perform set_config(''session_authorization'', session_user, false); end if; return current_user; end';
create function setter(integer) returns integer immutable language plpgsql as
	'begin perform set_config(''search_path'', ''nowhere'', false), set_config(''timezone'', ''Asia/Tokyo'', false); return $1; end';
set role regress_ivm_owner;
create incremental view stealing as select thief(id) as c from t;
create incremental view climbing as select id, climber(public_part) as c from t;
create incremental view climbing_index as select id, public_part as c from t;
create index climbing_index_i on climbing_index (other_climber(c));
create incremental view setting as select setter(id) as c from t;
reset role;
show search_path;
select current_setting('timezone') = 'Asia/Tokyo' as changed;
set timezone = 'UTC';
create incremental view set as select id, extract(hour from timestamptz '2024-01-01 00:00+00' + id * interval '1 day') = 9 as in_tokyo from t;
insert into t values (9, 900, 'p9');
select ivm.sync();
select * from climbing where id = 9;
-- a worker has no more rights than the owner, and cannot get any
update t set public_part = 'climb' where id = 9;
select ivm.sync('climbing');
select ivm.sync('climbing_index');
set role regress_ivm_owner;
refresh materialized view climbing;
refresh materialized view climbing_index;
create incremental view climbing_too as select climber(public_part) as c from t;
create index climbing_too_i on climbing_index (other_climber(c));
reset role;
update t set public_part = 'down' where id = 9;
set role regress_ivm_owner;
refresh materialized view climbing;
refresh materialized view climbing_index;
reset role;
select * from climbing where id = 9;
select current_user = session_user as still_me, count(*) as stolen from loot;
drop materialized view climbing, climbing_index;
-- what the function of one owner's view sets is not in force for another's
insert into t values (10, 1000, 'p10');
select ivm.sync();
select count(*) from setting;
drop materialized view setting;
select * from oracle();
drop materialized view set;
delete from t where id = 10;

-- names are not looked up in schemas that others write to: not in those of
-- the session, nor in those of the owner
create schema regress_ivm_evil;
grant usage, create on schema regress_ivm_evil to public;
set role regress_ivm_other;
create function regress_ivm_evil.upper(text) returns text immutable language plpgsql as 'begin return ''evil''; end';
reset role;
create function shout(text) returns text immutable language plpgsql as 'begin return upper($1) || ''!''; end';
create function public.regress_ivm_helper(text) returns text immutable language sql as 'select $1';
create function lost(text) returns text immutable language plpgsql as 'begin return regress_ivm_helper($1); end';
alter role regress_ivm_owner set search_path = regress_ivm_evil, pg_catalog;
set role regress_ivm_owner;
set search_path = regress_ivm_evil, pg_catalog, test_security, public;
select shout('p');
create incremental view test_security.named as select id, shout(public_part) as s, pg_catalog.upper(public_part) as u from t;
-- a function has to say where it finds another one
create incremental view test_security.lost as select id, lost(public_part) as s from t;
set search_path = test_security, public;
reset role;
update t set public_part = public_part || 'x' where id = 1;
select ivm.sync('named');
select s, u from named where id < 3 order by id;
drop schema regress_ivm_evil cascade;
alter role regress_ivm_owner reset search_path;
drop function public.regress_ivm_helper(text);
drop materialized view named;

-- row security is that of the owner
create table rows (id integer primary key, who text);
insert into rows values (1, 'regress_ivm_other'), (2, 'regress_ivm_owner'), (3, 'regress_ivm_other'), (4, 'nobody');
alter table rows enable row level security;
create policy mine on rows using (who = current_user);
create policy fixed on rows to regress_ivm_other using (id < 2);
grant select on rows to regress_ivm_other, regress_ivm_owner;
alter table rows replica identity full;
create incremental view all_rows as select id from rows;
set role regress_ivm_other;
create incremental view some_rows as select id from rows;
-- elsewhere the name of the user is what it is: of the session
create incremental view named as select id from rows where who = current_user;
reset role;
insert into rows values (0, 'x'), (5, 'regress_ivm_other'), (6, 'regress_ivm_owner'), (7, 'nobody');
select ivm.sync();
select id from all_rows order by id;
select id from some_rows order by id;
set role regress_ivm_other;
select id from rows order by id;
-- those who read it see what the owner sees
grant select on some_rows to regress_ivm_reader;
set role regress_ivm_reader;
select id from some_rows order by id;
reset role;
-- another owner
alter materialized view some_rows owner to regress_ivm_owner;
select ivm.sync();
select id from some_rows order by id;
alter materialized view some_rows owner to regress_ivm_other;
-- other policies
drop policy mine on rows;
select ivm.sync();
select id from some_rows order by id;
alter policy fixed on rows using (id > 1);
insert into rows values (8, 'x');
select ivm.sync();
select id from some_rows order by id;
select missing, extra from ivm.verify('some_rows');
alter table rows disable row level security;
insert into rows values (9, 'x');
select ivm.sync();
select id from some_rows order by id;
alter table rows enable row level security, force row level security;
drop policy fixed on rows;
select ivm.sync();
select id from some_rows order by id;
select missing, extra from ivm.verify('some_rows');
drop materialized view some_rows;

-- leaks: a view with a barrier
create view barrier with (security_barrier) as select id, public_part from t where secret < 500;
grant select on barrier to regress_ivm_other;
create function spy(text) returns boolean immutable cost 0.0001 language plpgsql as
	'begin if $1 like ''secret%'' then raise ''saw "%"'', $1; end if; return true; end';
set role regress_ivm_other;
create incremental view over_barrier as select id, public_part from barrier;
create incremental view spying as select id from barrier where spy(public_part);
reset role;
insert into t values (10, 5, 'p10'), (11, 5000, 'secret');
select * from oracle();
create view invoker with (security_invoker) as select secret from t;
grant select on invoker to regress_ivm_reader;
grant create on schema test_security to regress_ivm_reader;
set role regress_ivm_reader;
create incremental view over_invoker as select secret from invoker;
reset role;

-- the extension's own tables and functions
set role regress_ivm_reader;
select count(*) from ivm.view;
insert into ivm.view select * from ivm.view limit 0;
select count(*) from pg_stat_ivm;
select * from pg_stat_ivm_worker;
select count(*) from ivm.stat_views();
select ivm.guard_command();
select ivm.check_preloaded();
reset role;
set role pg_monitor;
select count(*) > 0 as ok from pg_stat_ivm;
select count(*) > 0 as ok from pg_stat_ivm_worker;
select count(*) > 0 as ok from pg_stat_ivm_operator;
select count(*) = 1 as ok from pg_stat_ivm_memory;
select count(*) >= 0 as ok from pg_stat_progress_ivm_build;
select count(*) > 0 as ok from ivm.view;
select ivm.stat_reset();
reset role;
-- nobody else may decode with our plugin, or take our slot
do $$
begin
	-- where the server itself would refuse it, it is talked into it
	perform set_config(name, 'ivm_ext', false) from pg_settings where name = 'output_plugin_libraries';
	perform pg_create_logical_replication_slot('regress_ivm_stolen', 'ivm_ext');
end
$$;
select count(*) from pg_replication_slots where slot_name = 'regress_ivm_stolen';
do $$
begin
	perform pg_drop_replication_slot(slot_name) from pg_replication_slots
		where database = current_database() and slot_name like 'ivm%';
exception when object_in_use then
	raise notice 'the slot is in use';
end
$$;

set client_min_messages = warning;
drop owned by regress_ivm_owner, regress_ivm_reader, regress_ivm_other cascade;
drop role regress_ivm_owner, regress_ivm_reader, regress_ivm_other;

-- and it all goes away
set client_min_messages = warning;
drop schema test_security cascade;
