-- Changes of the tables that views read: what is refused, what just works.
\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir /test/regress/oracle.sql
\set ECHO none
\i :oracle
\set ECHO all
create schema test_ddl_guard;
set search_path = test_ddl_guard, public;
create table t (id integer primary key, a integer, b text, unused integer);
create table u (id integer primary key, a integer);
insert into t select i, i % 3, 'b' || i, i from generate_series(1, 10) i;
insert into u select i, i from generate_series(0, 5) i;
create incremental view v as select id, a, b from t where a > 0;
create incremental view g as select a, count(*) as n from t group by a;
create incremental view j as select t.id, u.id as uid from t join u on t.a = u.a;

-- columns that a view uses
alter table t drop column a;
alter table t alter column b type varchar(10);
drop table t;
-- and that none uses
alter table t drop column unused;
insert into t values (11, 1, 'b11');
select * from oracle();
-- old rows have to stay in the log
alter table t replica identity default;
alter table t replica identity nothing;
alter table t replica identity using index t_pkey;
alter table t replica identity full;
alter table t set unlogged;
-- once nothing reads it
create table free (id integer primary key, x integer);
create incremental view free_view as select x from free;
alter table free replica identity default;
drop materialized view free_view;
alter table free replica identity default;
alter table free set unlogged;
alter table free set logged;
create incremental view free_view as select x from free;
insert into free values (1, 1);
select * from oracle();
drop table free cascade;

-- the same through an ordinary view, a view on a view, a partition, a child
create table far (id integer primary key, x integer);
create table far_parts (id integer, x integer) partition by list (x);
create table far_part partition of far_parts for values in (1);
create table far_parent (id integer);
create table far_child () inherits (far_parent);
create view near as select * from far;
create incremental view over_view as select id, x from near;
create incremental view over_over as select count(*) from over_view;
create incremental view over_parts as select id from far_parts where x = 1;
create incremental view over_parent as select id from far_parent;
drop view near;
alter table far drop column x;
alter table far replica identity default;
alter table far_part replica identity nothing;
alter table far_child set unlogged;
alter table far_child replica identity full, replica identity default;
drop materialized view over_view;
-- what cannot be read does not come in by a tree
create unlogged table far_unlogged (id integer, x integer);
create temporary table far_temporary (id integer, x integer);
create foreign data wrapper ddl_guard_nothing;
create server ddl_guard_nowhere foreign data wrapper ddl_guard_nothing;
create foreign table far_foreign (id integer, x integer) server ddl_guard_nowhere;
alter table far_parts attach partition far_unlogged for values in (2);
alter table far_parts attach partition far_foreign for values in (2);
alter table far_unlogged inherit far_parent;
alter table far_foreign inherit far_parent;
create unlogged table far_new partition of far_parts for values in (2);
create foreign table far_new partition of far_parts for values in (2) server ddl_guard_nowhere;
create unlogged table far_new () inherits (far_parent);
create temporary table far_new () inherits (far_parent);
-- and what can, just comes and goes
create table far_2 (x integer, id integer);
insert into far_2 values (2, 20);
alter table far_parts attach partition far_2 for values in (2);
insert into far_parts values (1, 1), (21, 2);
select * from oracle() where name = 'over_parts';
alter table far_parts detach partition far_part;
insert into far_part values (2, 1);
insert into far_child values (1);
insert into far values (1);
insert into far_part values (3, 1);
select * from oracle() where name like 'over%';
drop materialized view over_over, over_view, over_parts, over_parent;
alter table far replica identity default;
drop server ddl_guard_nowhere cascade;
drop foreign data wrapper ddl_guard_nothing;

-- columns come, get other names, defaults and constraints
alter table t add column c integer;
alter table t add column d integer default 7;
alter table t add column e timestamptz default clock_timestamp();
update t set c = 1, d = 8 where id = 1;
alter table t rename column b to bb;
alter table t rename to tt;
insert into tt (id, a, bb, d) values (12, 2, 'b12', 9);
select * from oracle();
select pg_get_viewdef('v');
alter table tt rename to t;
alter table t rename column bb to b;
alter table t alter column d drop default, alter column d set not null;
alter table t add check (a is null or a < 100), alter column c type bigint;
alter table t drop column c, drop column d, drop column e;
update t set b = b || 'x' where id < 3;
create incremental view late as select * from t;
alter table t add column f text default 'f';
insert into t values (13, 1, 'b13', 'ff');
select ivm.sync();
select * from late order by id;
select * from oracle();

-- the table is written anew
vacuum full t;
select * from oracle();
update t set a = a + 1 where id % 2 = 0;
cluster t using t_pkey;
select * from oracle();
reindex table t;
alter table t add column g integer default (random() * 10)::integer;
insert into t (id, a, b) values (14, 0, 'b14');
select * from oracle();
alter table t alter column g type text;
delete from t where id = 14;
select * from oracle();
alter table t set tablespace pg_default;
alter table t set access method heap;
vacuum freeze t;
analyze t;
select * from oracle();
-- all in one transaction with changes before and after
begin;
insert into t (id, a, b) values (15, 1, 'before');
alter table t add column h integer default 5;
update t set b = 'after' where id = 15;
alter table t drop column h;
insert into t (id, a, b) values (16, 1, 'last');
commit;
select * from oracle();
begin;
truncate t;
insert into t (id, a, b) values (1, 1, 'one'), (2, 2, 'two');
commit;
select * from oracle();
begin;
truncate t;
rollback;
begin;
savepoint s;
truncate t;
insert into t (id, a, b) values (5, 5, 'not here');
rollback to s;
insert into t (id, a, b) values (6, 1, 'six');
commit;
select * from oracle();

-- the table goes to another schema
create schema test_ddl_guard_other;
alter table u set schema test_ddl_guard_other;
insert into test_ddl_guard_other.u values (9, 1);
select * from oracle();
alter table test_ddl_guard_other.u set schema test_ddl_guard;
drop schema test_ddl_guard_other;

-- triggers, rules and foreign keys see nothing of us, nor we of them
create function upper_b() returns trigger language plpgsql as $$ begin new.b := upper(new.b); return new; end $$;
create trigger upper_b before insert on t for each row execute function upper_b();
insert into t (id, a, b) values (20, 2, 'lower');
alter table t disable trigger all;
create table child (id integer references t on delete cascade on update cascade, x integer);
insert into child values (1, 1), (20, 2);
create incremental view cv as select c.x, t.b from child c join t on t.id = c.id;
alter table t enable trigger all;
delete from t where id = 1;
update t set id = 21 where id = 20;
select ivm.sync();
select * from cv;
select * from oracle();
-- COPY, MERGE, ON CONFLICT, UPDATE FROM, DELETE USING, a modifying CTE
copy t (id, a, b) from stdin;
40	1	copied
41	2	copied
\.
merge into t using (values (40, 3), (42, 4)) s (id, a) on t.id = s.id
	when matched then update set a = s.a when not matched then insert (id, a, b) values (s.id, s.a, 'merged');
insert into t (id, a, b) values (42, 5, 'x'), (43, 5, 'x') on conflict (id) do update set b = excluded.b || '!';
update t set a = u.a + 1 from u where u.id = t.id;
delete from u using t where t.id = u.id and t.a = 3;
with moved as (delete from u where a = 4 returning *) insert into t (id, a, b) select id + 100, a, 'moved' from moved;
select * from oracle();

-- the key by which rows of a view are found goes, and comes back
create table keyed (id integer primary key, x integer);
insert into keyed values (1, 10), (2, 20);
create incremental view keyed_view as select id, x from keyed;
create incremental view keyed_group as select id, x, count(*) from keyed group by id;
select ivm.explain('keyed_view') limit 2;
alter table keyed drop constraint keyed_pkey;
drop materialized view keyed_group;
alter table keyed drop constraint keyed_pkey;
insert into keyed values (1, 10), (1, 11);
select * from oracle() where name = 'keyed_view';
delete from keyed where x = 11;
update keyed set x = 12 where id = 1;
select * from oracle() where name = 'keyed_view';
select ivm.explain('keyed_view') limit 2;
delete from keyed where id = 1;
alter table keyed add primary key (id);
insert into keyed values (1, 13);
select * from oracle() where name = 'keyed_view';
begin;
alter table keyed drop constraint keyed_pkey;
insert into keyed values (1, 13);
alter table keyed alter column id drop not null;
insert into keyed values (null, 14), (null, 14);
commit;
select * from oracle() where name = 'keyed_view';

-- functions that a view uses
create function twice(integer) returns integer immutable language plpgsql as 'begin return $1 * 2; end';
create function plus(x integer) returns integer immutable language sql as 'select x + 1';
create incremental view f as select id, twice(a) as x, plus(a) as y from t;
select * from oracle() where name = 'f';
-- another body: the view is made anew
create or replace function twice(integer) returns integer immutable language plpgsql as 'begin return $1 * 200; end';
insert into t (id, a, b) values (50, 1, 'fifty');
select * from oracle() where name = 'f';
create or replace function plus(x integer) returns integer immutable language sql as 'select x + 1000';
select * from oracle() where name = 'f';
alter function twice(integer) volatile;
insert into t (id, a, b) values (51, 1, 'fifty-one');
select ivm.sync('f');
select state from pg_stat_ivm where relname = 'f';
alter function twice(integer) immutable;
refresh materialized view f;
select * from oracle() where name = 'f';
drop function twice(integer);

-- the view itself
alter materialized view g add column x integer;
alter table g rename column n to number;
alter materialized view g alter column number set statistics 100;
alter materialized view g set unlogged;
alter materialized view g set logged;
alter materialized view g replica identity nothing;
create trigger no before insert on g for each row execute function upper_b();
create rule no as on select to g do instead select 1;
-- what one cannot do to the extension's own tables and state
drop access method incremental;
drop schema ivm_state cascade;
drop materialized view ivm.view;
update ivm.applied set lsn = '0/0';
alter materialized view ivm.view rename to views;
alter materialized view ivm.applied set schema public;
alter schema ivm rename to ivm2;
alter schema ivm_state rename to ivm2;
alter function ivm.row_hash(record) rename to hash;
alter routine ivm.row_hash(record) rename to hash;
alter function ivm.row_hash set schema public;
alter materialized view ivm.applied set access method incremental;
refresh materialized view ivm.view;
refresh materialized view concurrently ivm.applied;
select relname as state from pg_class where relnamespace = 'ivm_state'::regnamespace and relkind = 'm' order by oid limit 1 \gset
-- the names of state tables have oids in them
\set VERBOSITY sqlstate
drop materialized view ivm_state.:state;
delete from ivm_state.:state;
alter materialized view ivm_state.:state set schema public;
alter materialized view ivm_state.:state set access method incremental;
alter materialized view ivm_state.:state rename column hash to h;
\set VERBOSITY default
set client_min_messages = warning;
refresh materialized view ivm_state.:state;
reset client_min_messages;
-- nor put beside them
create table ivm.t (id integer);
create view ivm_state.t as select 1;
create incremental view ivm_state.t as select id from t;
create table t_ivm (id integer);
alter table t_ivm set schema ivm;
alter materialized view g set schema ivm_state;
create type ivm_type as enum ('a');
alter type ivm_type set schema ivm;
alter extension plpgsql set schema ivm;
select * from oracle();

-- and it all goes away
set client_min_messages = warning;
drop schema test_ddl_guard cascade;
