-- What a view's expressions read in the catalogs when they are evaluated: it is
-- rebuilt when that changes, and only then.
\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir /test/regress/oracle.sql
\set ECHO none
\i :oracle
-- Which views were rebuilt since the last call, and which differ from their queries.
create function public.rebuilt(out views text, out wrong text) language plpgsql as $$
begin
	select coalesce(string_agg(o.name, ' ' order by o.name collate "C"), '-') into wrong
	from public.oracle() o where o.missing + o.extra > 0;
	select coalesce(string_agg(s.relname, ' ' order by s.relname collate "C"), '-') into views
	from pg_stat_ivm s left join rebuilds_seen r on r.relid = s.relid
	where s.schemaname = current_schema() and s.rebuilds > coalesce(r.rebuilds, 0);
	delete from rebuilds_seen;
	insert into rebuilds_seen select relid, rebuilds from pg_stat_ivm;
end
$$;
\set ECHO all
create schema test_catalog_changes;
set search_path = test_catalog_changes, public;
set client_min_messages = warning;
create temp table rebuilds_seen (relid oid, rebuilds bigint);

-- enums: labels, wherever they are hidden
create type st as enum ('open', 'shut');
create type c as (s st, n integer);
create domain dst as st;
create type rst as range (subtype = st);
create table t (id integer primary key, s st, ar st[], co c, d dst, ra rst, txt text);
insert into t select i, x, array[x, 'shut'], row(x, i)::c, x, rst(x, 'shut', '[]'), 'shut'
from (select i, (array['open', 'shut'])[i % 2 + 1]::st x from generate_series(1, 6) i) q;
create materialized view e_agg using incremental as select id % 2 as g, json_object_agg(id, s order by id)::text as x, string_agg(s::text, ',' order by id) as y from t group by 1;
create materialized view e_array using incremental as select id, ar::text as x, array_to_string(ar, ',') as y from t;
create materialized view e_composite using incremental as select id, co::text as x, to_json(co)::text as y from t;
create materialized view e_concat using incremental as select id, concat(s, '-', id) as x, format('%s', s) as y from t;
create materialized view e_domain using incremental as select id, d::text as x from t;
create materialized view e_json using incremental as select id, to_jsonb(s) as x, jsonb_build_object('s', s) as y from t;
create materialized view e_multirange using incremental as select id, multirange(ra)::text as x from t;
create materialized view e_parsed using incremental as select id, txt::st = s as same, (array[txt])::st[] as a from t where txt <> 'open';
create materialized view e_populated using incremental as select id, (jsonb_populate_record(null::c, jsonb_build_object('s', txt))).s = s as same from t;
create materialized view e_range using incremental as select id, ra::text as x from t;
create materialized view e_record using incremental as select id, row(s, id)::text as x, row(row(1, s), array[row(2, 'shut'::st)])::text as y from t;
create materialized view e_row using incremental as select id, t::text as x from t;
create materialized view e_window using incremental as select id, string_agg(s::text, ',') over (order by id) as x, json_agg(s) over (order by id)::text as y from t;
create materialized view e_xml using incremental as select id, xmlelement(name x, xmlattributes(s as a), s)::text as x, xmlforest(s as b)::text as y from t;
create materialized view e_none using incremental as select id, s, ar, co from t where s > 'open' and ar <> array['open']::st[];
select * from rebuilt();
alter type st rename value 'open' to 'opened';
select * from rebuilt();
update t set id = id + 10 where id in (2, 4);
select * from rebuilt();
-- their order among each other stays
alter type st add value 'ajar' before 'shut';
select views like '%e_none%' as none, wrong from rebuilt();
insert into t values (20, 'ajar', '{ajar}', row('ajar', 1), 'ajar', null, 'ajar');
select * from rebuilt();
drop materialized view e_agg, e_array, e_composite, e_concat, e_domain, e_json, e_multirange, e_parsed, e_populated, e_range, e_record, e_row, e_window, e_xml, e_none;

-- names of columns that a row shows
create table w (id integer primary key, n integer, co c);
insert into w select i, i, row('shut', i)::c from generate_series(1, 4) i;
create materialized view r_table using incremental as select id, row_to_json(w)::text as x from w;
create materialized view r_type using incremental as select id, to_jsonb(co) as x from w;
create materialized view r_none using incremental as select id, n + 1 as x from w;
create materialized view r_null using incremental as select id from w where w is not null;
select * from rebuilt();
alter table w rename column n to m;
select * from rebuilt();
alter type c rename attribute n to k;
select * from rebuilt();
alter table w add column more integer;
select * from rebuilt();
drop materialized view r_table, r_type, r_none, r_null;

-- functions: what they do counts, not what they are called or cost
create function plus(integer) returns integer language plpgsql immutable as 'begin return $1 + 1; end';
create function folded() returns integer language plpgsql immutable as 'begin return 1; end';
create function nested() returns integer language sql immutable as 'select test_catalog_changes.folded() + 1';
create function step(integer, integer) returns integer language plpgsql immutable as 'begin return coalesce($1, 0) + $2; end';
create function last_step(integer) returns integer language plpgsql immutable as 'begin return $1; end';
create aggregate total(integer) (sfunc = step, stype = integer, finalfunc = last_step, initcond = '0');
create materialized view f_call using incremental as select id, plus(n) as x from (select id, m as n from w) q;
create materialized view f_folded using incremental as select id from w where m > folded();
create materialized view f_nested using incremental as select id from w where m > nested();
create materialized view f_total using incremental as select id % 2 as g, total(m) as x from w group by 1;
create materialized view f_none using incremental as select id, m as x from w;
select * from rebuilt();
create or replace function plus(integer) returns integer language plpgsql immutable as 'begin return $1 + 2; end';
select * from rebuilt();
alter function plus(integer) cost 7;
alter function plus(integer) rename to added;
create or replace function added(integer) returns integer language plpgsql immutable as 'begin return $1 + 2; end';
select * from rebuilt();
create or replace function folded() returns integer language plpgsql immutable as 'begin return 2; end';
select * from rebuilt();
create or replace function nested() returns integer language sql immutable as 'select 0';
select * from rebuilt();
create or replace function step(integer, integer) returns integer language plpgsql immutable as 'begin return coalesce($1, 0) + $2 * 2; end';
select * from rebuilt();
create or replace function last_step(integer) returns integer language plpgsql immutable as 'begin return $1 + 100; end';
select * from rebuilt();
create or replace aggregate total(integer) (sfunc = step, stype = integer, finalfunc = last_step, initcond = '5');
select * from rebuilt();
drop materialized view f_call, f_folded, f_nested, f_total, f_none;

-- how values of a type are compared inside of others, and shown by JSON
create type pair as (a integer, b integer);
create type box1 as (a integer);
create function pair_shown(pair) returns json language sql immutable as $$select '"pair"'::json$$;
create domain small as integer constraint limit_1 check (value < 100);
create materialized view d_checked using incremental as select id, m::small as x from w;
create materialized view d_parsed using incremental as select id, x from w, json_to_record(json_build_object('x', m)) as r (x small);
create materialized view d_none using incremental as select id, m as x from w;
select * from rebuilt();
alter domain small add constraint limit_2 check (value <> 77);
select * from rebuilt();
alter domain small drop constraint limit_1;
select * from rebuilt();
drop materialized view d_checked, d_parsed, d_none;
create type shown as enum ('a', 'b');
create table v (id integer primary key, s shown);
insert into v values (1, 'a'), (2, 'b');
create function shown_as(shown) returns json language sql immutable as $$select '{"shown": true}'::json$$;
create materialized view j_cast using incremental as select id, to_json(s)::text as x from v;
create materialized view j_none using incremental as select id, s from v;
select * from rebuilt();
create cast (shown as json) with function shown_as(shown);
select * from rebuilt();
drop cast (shown as json);
select * from rebuilt();
drop materialized view j_cast, j_none;

-- any type may have an operator class of the user's: by it values are compared inside of others, and a view's rows are found
create type pt as (a integer);
create function pt_lt(pt, pt) returns boolean language plpgsql immutable as 'begin return $1.a < $2.a; end';
create function pt_le(pt, pt) returns boolean language plpgsql immutable as 'begin return $1.a <= $2.a; end';
create function pt_eq(pt, pt) returns boolean language plpgsql immutable as 'begin return $1.a = $2.a; end';
create function pt_ge(pt, pt) returns boolean language plpgsql immutable as 'begin return $1.a >= $2.a; end';
create function pt_gt(pt, pt) returns boolean language plpgsql immutable as 'begin return $1.a > $2.a; end';
create function pt_cmp(pt, pt) returns integer language plpgsql immutable as 'begin return $1.a - $2.a; end';
create operator <# (leftarg = pt, rightarg = pt, function = pt_lt);
create operator <=# (leftarg = pt, rightarg = pt, function = pt_le);
create operator =# (leftarg = pt, rightarg = pt, function = pt_eq, merges);
create operator >=# (leftarg = pt, rightarg = pt, function = pt_ge);
create operator ># (leftarg = pt, rightarg = pt, function = pt_gt);
create operator class pt_ops default for type pt using btree as
	operator 1 <#, operator 2 <=#, operator 3 =#, operator 4 >=#, operator 5 >#, function 1 pt_cmp(pt, pt);
create table p (id integer primary key, x pt);
insert into p select i, row(i)::pt from generate_series(1, 50) i;
create materialized view o_array using incremental as select id from p where array[x] = array[row(1)::pt];
create materialized view o_greatest using incremental as select id, greatest(x, row(2)::pt) as g from p;
create materialized view o_group using incremental as select x, count(*) as n from p group by x;
create materialized view o_none using incremental as select id from p;
select * from rebuilt();
create or replace function pt_eq(pt, pt) returns boolean language plpgsql immutable as 'begin return $1.a % 10 = $2.a % 10; end';
create or replace function pt_cmp(pt, pt) returns integer language plpgsql immutable as 'begin return $1.a % 10 - $2.a % 10; end';
select * from rebuilt();
create or replace function pt_eq(pt, pt) returns boolean language plpgsql immutable as 'begin return $1.a = $2.a; end';
create or replace function pt_cmp(pt, pt) returns integer language plpgsql immutable as 'begin return $2.a - $1.a; end';
select * from rebuilt();
-- the order of the index by which the rows are found has become another one
update p set x = row(51 - id) where id % 3 = 0;
select wrong from rebuilt();
delete from p where id % 2 = 0;
select * from rebuilt();
drop materialized view o_array, o_greatest, o_group, o_none;

-- text search: configurations and dictionaries, named, set, or in the row
create text search configuration mine (copy = pg_catalog.simple);
create text search dictionary stop (template = pg_catalog.simple, stopwords = english);
create table d (id integer primary key, body text, cfg regconfig);
insert into d values (1, 'the cats', 'mine'), (2, 'running', 'english');
set default_text_search_config = 'test_catalog_changes.mine';
create materialized view s_default using incremental as select id, to_tsvector(body) as x from d;
create materialized view s_named using incremental as select id, to_tsvector('test_catalog_changes.mine', body)::text as x from d;
create materialized view s_folded using incremental as select id from d where to_tsvector('english', body) @@ to_tsquery('test_catalog_changes.mine', 'the | running');
create materialized view s_row using incremental as select id, to_tsvector(cfg, body) as x from d;
create materialized view s_other using incremental as select id, to_tsvector('simple', body) as x from d;
create materialized view s_lexize using incremental as select id, ts_lexize('test_catalog_changes.stop', body) as x from d;
select * from rebuilt();
alter text search configuration mine alter mapping for asciiword with stop;
select * from rebuilt();
alter text search dictionary stop (stopwords = russian);
select * from rebuilt();
alter text search configuration mine drop mapping for word;
select * from rebuilt();
create text search configuration another (copy = pg_catalog.english);
select * from rebuilt();
reset default_text_search_config;
drop materialized view s_default, s_named, s_folded, s_row, s_other, s_lexize;

-- names of objects are no values
create table names (id integer primary key, r regclass, a regtype[]);
create materialized view n_concat using incremental as select concat(r) as x from names;
create materialized view n_array using incremental as select a::text as x from names;
create materialized view n_row using incremental as select to_json(names)::text as x from names;
create materialized view n_record using incremental as select row(1, tableoid::regclass)::text as x from names;
create materialized view n_populated using incremental as select r.x::oid as x from json_populate_record(null::names, '{"r": "pg_class"}') as p, lateral (select p.r as x) r;
create materialized view n_oid using incremental as select id, r::oid as x, concat(r::oid) as y, r = 'names'::regclass as z from names;
insert into names values (1, 'names', '{int4}');
select * from rebuilt();
drop schema test_catalog_changes cascade;
drop function public.rebuilt;
