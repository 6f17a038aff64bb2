-- Views on views: never ahead of what their queries name, and stopped with it.
\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir /test/regress/oracle.sql
\set ECHO none
\i :oracle
\set ECHO all
create schema test_view_on_view;
set search_path = test_view_on_view, public;
create table t (id integer primary key, x integer);
insert into t select i, i from generate_series(1, 10) i;
create incremental view first as select id, 100 / x as y from t;
create view plain as select id, y * 2 as z from first;
create incremental view second as select count(*) as n, sum(z) as s from plain;
create incremental view third as select n + 1 as n1 from second;
create incremental view apart as select count(*) as n from t;
insert into t values (11, 1);
update t set x = x + 1 where id < 4;
select * from oracle();

-- one that fails takes those along that read it, and no other
insert into t values (12, 0);
select ivm.sync('first');
select ivm.sync('second');
select ivm.sync('third');
select ivm.sync('apart');
select relname, state, last_error from pg_stat_ivm where relid::regclass::name ~ '^(first|second|third|apart)$' order by relname;
-- which cannot be had before it
refresh materialized view third;
create incremental view fourth as select y from first;
select relname from pg_class where relname = 'fourth';
delete from t where id = 12;
refresh materialized view first;
refresh materialized view second;
refresh materialized view third;
insert into t values (13, 5);
select * from oracle();

-- the same where it has no contents any more
refresh materialized view first with no data;
select ivm.sync('third');
select relname, state, last_error from pg_stat_ivm where relid::regclass::name ~ '^(first|second|third|apart)$' order by relname;
create incremental view fourth as select y from first;
begin;
create materialized view fourth using incremental as select y from first;
rollback;
refresh materialized view first;
refresh materialized view second;
refresh materialized view third;
update t set x = 7 where id = 1;
select * from oracle();

-- A view that a policy names is one that the query reads: whichever worker they
-- would be given to, they have the same one.
set client_min_messages = warning;
create role regress_ivm_reader;
create table guarded (id integer primary key, g integer, x integer);
create table allowed_group (g integer primary key);
insert into guarded select i, i % 3, i from generate_series(1, 30) i;
insert into allowed_group values (1), (2);
create incremental view allowed as select g, count(*) as n from allowed_group group by g;
alter table guarded replica identity full;
alter table guarded enable row level security;
create policy p on guarded using (exists (select from test_view_on_view.allowed a where a.g = guarded.g));
grant usage, create on schema test_view_on_view to regress_ivm_reader;
grant select on guarded, allowed_group, allowed to regress_ivm_reader;
set role regress_ivm_reader;
create incremental view guarded_1 as select g, sum(x) as s from guarded group by g;
create incremental view guarded_2 as select g, sum(x) + 1 as s from guarded group by g;
create incremental view guarded_3 as select g, sum(x) + 2 as s from guarded group by g;
create incremental view guarded_4 as select g, sum(x) + 3 as s from guarded group by g;
create incremental view guarded_5 as select g, sum(x) + 4 as s from guarded group by g;
create incremental view guarded_6 as select g, sum(x) + 5 as s from guarded group by g;
reset role;
reset client_min_messages;
update guarded set x = x + 1;
insert into allowed_group values (0);
select ivm.sync(('guarded_' || i)::regclass, '30s') from generate_series(1, 6) i;
select g, s from guarded_1
union all select g, s - 1 from guarded_2 union all select g, s - 2 from guarded_3
union all select g, s - 3 from guarded_4 union all select g, s - 4 from guarded_5
union all select g, s - 5 from guarded_6 order by 1, 2;

-- what a function reads is not replaced by what it stands for
create function reads_view() returns setof bigint language sql immutable as 'select n from test_view_on_view.allowed';
create incremental view through_function as select n from reads_view() as n;
create function reads_table() returns setof integer language sql immutable as 'select x from test_view_on_view.t';
create incremental view through_function as select x from reads_table() as x;
insert into t values (14, 6);
select ivm.sync('through_function');
select count(*) from ((select x from t except all table through_function) union all (table through_function except all select x from t)) d;

drop incremental view first;
set client_min_messages = warning;
drop schema test_view_on_view cascade;
drop role regress_ivm_reader;
