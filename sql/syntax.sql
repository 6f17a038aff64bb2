-- CREATE, DROP, ALTER and REFRESH INCREMENTAL VIEW on a server whose grammar
-- does not know them.
\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir /test/regress/oracle.sql
\set ECHO none
\i :oracle
\set ECHO all
create schema test_syntax;
set search_path = test_syntax, public;
create table t (a integer primary key, b text);
insert into t values (1, 'one'), (2, 'two'), (3, 'three');
-- completion tags are of interest here
\set QUIET off

-- any case, any white space, comments everywhere
CREATE INCREMENTAL VIEW v1 AS SELECT a, b FROM t;
create /* one */ incremental -- two
	/* three /* nested */ */ view
v2
	as -- four
select a from t where a > 1;
/* before */ Create Incremental View if not exists v3 As select count(*) from t;
-- names: quoted, qualified, keywords in quotes, letters of all kinds
create incremental view "My ""View""" as select a from t;
create incremental view test_syntax.v4 as select a from t;
create incremental view "test_syntax" . "create incremental view" as select a from t;
create incremental view ünïcode as select a as ä from t;
create incremental view U&"d\0061ta" as select a from t;
create incremental view incremental as select a from t;
create incremental view view as select a from t;
-- strings that contain the words, in each kind of quotes
create incremental view v5 as
	select a, 'create incremental view x as select 1; -- no comment' as s,
		E'it\'s /* no comment */' as e, $$drop incremental view v5;$$ as d, $x$ $$ $x$ as x
	from t;
select s, e, d, x from v5 where a = 1;
-- every form of query
create incremental view v6 as table t;
create incremental view v7 as values (1, 'x'), (2, 'y');
create incremental view v8 as (select a from t);
create incremental view v9 as with w as (select a from t) select a from w;
create incremental view v10 (x, "Y z") with (fillfactor = 90, autovacuum_enabled = false) tablespace pg_default
	as select a, b from t with data;
create incremental view v11 as select a from t with no data;
-- IF NOT EXISTS
create incremental view v1 as select 1;
create incremental view t as select 1;
create incremental view if not exists v1 as select 1;
-- without the last semicolon; psql sends it as it is
create incremental view v12 as select a from t\g
-- REFRESH
refresh incremental view v11;
refresh incremental view v1 with no data;
Refresh Incremental View v1;
create unique index on v1 (a);
refresh incremental view concurrently v1;
refresh incremental view nothing_there;
-- ALTER
alter incremental view v2 rename to v2b;
alter incremental view v2b rename column a to c;
alter incremental view v2b set (fillfactor = 60);
alter incremental view v2b reset (fillfactor);
alter incremental view if exists nothing_there rename to x;
alter incremental view nothing_there rename to x;
alter incremental view v2b owner to current_user;
alter incremental view v2b set schema public;
alter incremental view public.v2b set schema test_syntax;
alter incremental view v2b alter column c set statistics 10;
-- DROP
drop incremental view if exists nothing_there;
drop incremental view nothing_there;
drop incremental view v2b, test_syntax.v4 cascade;
drop incremental view "create incremental view" restrict;
-- a table is not a view
drop incremental view t;
-- neither the other way round
drop view v1;
drop table v1;

-- PostgreSQL's own statements are what they were
create view plain as select 'create incremental view' as words;
select * from plain;
select 1 as incremental;

-- errors have the position in the statement as it was written
create incremental view e1 as select a, nothing_there from t;
create incremental view e1 as
	select a
	from nothing_there;
create incremental view e1 as select a, b + 1 from t;
create incremental view e1 as select 'äöü€' as s, nothing_there from t;
/* çà */ create incremental view "é" as select nothing_there();
create incremental view e1 as select a fromm t where;
create incremental view e1 as selekt a from t;
create incremental view e1 as select (a from t\g
create incremental view e1 as select a) from t;
create incremental view e1 select a from t;
create incremental view e1;
create incremental view;
create incremental view select as select 1;
create incremental view "" as select 1;
create incremental view e1 as insert into t values (9) returning a;
create incremental view e1 as update t set a = 1;
create incremental view if exists e1 as select 1;
drop incremental view;
drop incremental view v1 v3;
alter incremental view v1 nonsense;
-- not ours: PostgreSQL's error alone
create incremental table e1 (a integer);
create incremental;
create incremantal view e1 as select 1;
create or replace incremental view e1 as select 1;
incremental view e1;

-- in a block the native spelling is needed
begin;
create incremental view e2 as select a from t;
rollback;
begin;
drop incremental view v3;
rollback;
\set AUTOCOMMIT off
refresh incremental view v1;
rollback;
alter incremental view v1 rename to v1b;
rollback;
\set AUTOCOMMIT on
-- as with other statements in one string
create incremental view e2 as select a from t \; select 1 as one;
select 1 as one \; create incremental view e2 as select a from t;
-- as in everything that is prepared, or runs in a function
prepare e2 as create incremental view e2 as select a from t;
do $$ begin execute 'create incremental view e2 as select a from t'; end $$;
select 1 \; drop incremental view v3;
explain create incremental view e2 as select a from t;
-- and what is only parsed, in the extended protocol
create incremental view e2 as select a from t \gdesc
drop incremental view v3 \gdesc
select to_regclass('e2') as e2, to_regclass('v3') as v3;
-- the session is in order afterwards
select 1 as one;

-- it can be switched off
set ivm.statement_syntax = off;
create incremental view e3 as select a from t;
create materialized view v13 using incremental as select a from t;
reset ivm.statement_syntax;
create incremental view v14 as select a from t;

-- a transaction of its own, with the settings of the session
set default_transaction_read_only = on;
create incremental view e5 as select a from t;
reset default_transaction_read_only;
set default_transaction_isolation = serializable;
create incremental view v15 tablespace pg_default as select a from t;
reset default_transaction_isolation;
set role pg_read_all_data;
create incremental view e5 as select a from t;
reset role;
-- a statement that takes too long is ended, and leaves nothing
set statement_timeout = '300ms';
create incremental view e4 as select count(*) from generate_series(1, 2000000000) x, t where x % 7 = a;
reset statement_timeout;
select to_regclass('e4') as e4;
-- nor goes on where nobody sees it
do $$
begin
	while exists (select from pg_stat_progress_ivm_build where datname = current_database()) loop
		perform pg_sleep(0.01);
	end loop;
end
$$;
-- settings and messages are those of the session
set client_min_messages = error;
create incremental view if not exists v1 as select 1;
reset client_min_messages;

\set QUIET on
insert into t values (4, 'four');
select * from oracle();
select to_regclass('e1') as e1, to_regclass('e3') as e3, to_regclass('e5') as e5;

-- and it all goes away
set client_min_messages = warning;
drop schema test_syntax cascade;
