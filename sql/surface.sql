-- What a stranger tries: other programs that watch statements, waits for
-- oneself, odd places for a semicolon.
\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir /test/regress/oracle.sql
\set ECHO none
\i :oracle
\set ECHO all
create schema test_surface;
set search_path = test_surface, public;
create table t (id integer primary key, a integer);
create table u (id integer primary key, b integer);
insert into t select i, i % 3 from generate_series(1, 9) i;
insert into u select i, i % 3 from generate_series(1, 3) i;
\set QUIET off

-- a semicolon in parentheses ends no statement: the mistake is the missing one
create incremental view e as select (a from t; select 1);
create rule r as on insert to u do also (select 1; select 2) \; create incremental view e as select a from t;

-- event triggers see the statements, but nothing of what our processes do
create table seen (n serial, tag text, object text);
create function see() returns event_trigger language plpgsql as $$
begin
	if tg_event = 'ddl_command_end' then
		insert into seen (tag, object) select command_tag, object_identity from pg_event_trigger_ddl_commands();
	else
		insert into seen (tag) values (tg_event || ' ' || tg_tag);
	end if;
end $$;
create event trigger see_start on ddl_command_start execute function see();
create event trigger see_end on ddl_command_end execute function see();
create incremental view v as select distinct a, max(id) over (partition by a) as largest from t;
create incremental view j as select t.id, u.id as uid from t join u on t.a = u.b;
create incremental view e as select id / (a - 1) as x from t;
refresh incremental view v;
refresh incremental view v with no data;
refresh incremental view v;
drop event trigger see_start;
drop event trigger see_end;
select tag, object from seen order by n;
insert into t values (10, 1), (11, 5);
insert into u values (4, 5);
select * from oracle();
-- and can refuse them
create function no() returns event_trigger language plpgsql as $$ begin raise exception 'no %', tg_tag; end $$;
create event trigger no_end on ddl_command_end
	when tag in ('CREATE MATERIALIZED VIEW', 'REFRESH MATERIALIZED VIEW', 'ALTER MATERIALIZED VIEW') execute function no();
create incremental view e as select a from t;
refresh incremental view v;
alter incremental view v set access method heap;
drop event trigger no_end;
insert into t values (12, 5);
select * from oracle();

-- nobody waits for the end of the own transaction
begin;
set local ivm.refresh = rebuild;
refresh materialized view v;
select ivm.sync('v');
rollback;
begin;
set local ivm.refresh = rebuild;
refresh materialized view v;
select ivm.sync();
rollback;
begin;
create materialized view w using incremental as select a from t;
select ivm.verify('w');
rollback;
begin;
lock table t;
insert into t values (13, 5);
select ivm.verify('v');
rollback;
begin;
create index own on v (a);
select ivm.verify('v');
rollback;
begin;
alter materialized view v rename to v2;
select ivm.verify('v2');
rollback;
begin;
insert into t values (13, 5);
select ivm.sync('v');
select ivm.verify('v');
commit;
select * from oracle();

-- nothing is refreshed in a read-only transaction
set default_transaction_read_only = on;
refresh incremental view v;
select ivm.sync('v');
reset default_transaction_read_only;

-- a foreign table does not come into a tree that a view reads, from either side
create foreign data wrapper nothing;
create server nowhere foreign data wrapper nothing;
create table parent (a integer);
create incremental view p as select a from parent;
create foreign table kid (a integer) server nowhere;
alter foreign table kid inherit parent;
alter table kid inherit parent;

\set QUIET on
-- and it all goes away
set client_min_messages = warning;
drop foreign data wrapper nothing cascade;
drop schema test_surface cascade;
