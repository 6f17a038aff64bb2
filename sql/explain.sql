-- ivm.explain and ivm.explain_query: the delta plan as text and as JSON, of a view and of a query before there is one.
\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir /test/regress/oracle.sql
\set ECHO none
\i :oracle
\set ECHO all
create schema test_explain;
set search_path = test_explain, public;
create table t (id integer primary key, k integer, n numeric);
create table u (id integer primary key, k integer, "odd ""name""" text);
create index t_k on t (k);
insert into t select i, i % 100, i from generate_series(1, 5000) i;
insert into u select i, i % 100, 'u' || i from generate_series(1, 5000) i;
-- what would otherwise be said of the settings, which are the server's
create function plan_of(query text) returns setof text language sql as $$
	select line from (select line, n, min(n) filter (where line like '  Settings: %') over () as settings
		from ivm.explain_query(query) with ordinality e (line, n)) p where n < settings order by n
$$;

-- text, as a view has it
select plan_of('select k, count(*) as m, sum(n) from t group by k');
select plan_of('select t.id, u.k, "odd ""name""" from t join u using (k) where t.n > 1');
select plan_of('select id, rank() over (order by n) as r from t');
select plan_of('with g as (select k, count(*) as m from t group by rollup (k)) table g');
select plan_of('values (1), (2)');
-- nothing has been made, and nothing changed
select count(*) from pg_class c join pg_am a on a.oid = c.relam where amname = 'incremental' and relnamespace = 'test_explain'::regnamespace;
select relname, relreplident from pg_class where relname in ('t', 'u') and relnamespace = 'test_explain'::regnamespace order by 1;
begin read only;
select count(*) > 3 as planned from ivm.explain_query('select count(*) from t');
commit;
-- the view then has the same plan
create incremental view v as select t.id, u.k, u."odd ""name""" from t join u using (k) where t.n > 1;
select a.line = b.line as same, count(*) > 10 as enough from (select line, n from ivm.explain('v') with ordinality e (line, n)) a
	full join (select line, n from ivm.explain_query('select t.id, u.k, u."odd ""name""" from t join u using (k) where t.n > 1') with ordinality e (line, n)) b using (n)
	where n > 1 group by 1;

-- json: a document in one row
select count(*), bool_and(e::json is not null) as valid from ivm.explain('v', format => 'json') e;
select jsonb_pretty(e::jsonb - 'settings') from ivm.explain('v', 'json') e;
select jsonb_pretty(e::jsonb - 'settings') from ivm.explain_query('select id, rank() over (order by n) as r from t', format => 'JSON') e;
-- state tables are those that are there, and have no names before
select jsonb_path_query_array(e::jsonb, '$.state_tables[*].name') from ivm.explain_query('select k, count(*) from u group by k', 'json') e;
create incremental view g as
	select g.k, g.m, u.id from (select k, n, count(*) as m from t group by k, n) g join u on u.k = g.k;
select count(*) as tables, count(to_regclass(s ->> 'name')) as there
	from ivm.explain('g', 'json') e, jsonb_array_elements(e::jsonb -> 'state_tables') s;
select format('%s of %s by %s: %s', a -> 'arrangement', a -> 'rows_of', a ->> 'by', a ->> 'kind')
	from ivm.explain('g', 'json') e, jsonb_array_elements(e::jsonb -> 'arrangements') a;
-- numbers are those of pg_stat_ivm_operator
select count(*) as different from (
	select (n ->> 'node_id')::int as node_id, n ->> 'kind' as operator from ivm.explain('g', 'json') e, jsonb_array_elements(e::jsonb -> 'nodes') n
	except select node_id, operator from (select ivm.sync('g')) s, pg_stat_ivm_operator where relid = 'g'::regclass) d;
-- every reference is to something that is there, in documents of all kinds of plans
create function references_of(document jsonb) returns table (bad text) language sql as $$
	select 'input ' || i::text from jsonb_array_elements(document -> 'nodes') n, jsonb_array_elements(n -> 'inputs') i
		where i::int >= (n -> 'node_id')::int or i::int < 0
	union all select 'lookup ' || l::text from jsonb_array_elements(document -> 'nodes') n, jsonb_array_elements(n -> 'lookups') l
		where not n -> 'inputs' @> (l -> 'from') or not n -> 'inputs' @> (l -> 'rows_of')
			or document -> 'arrangements' -> (l -> 'arrangement')::int -> 'rows_of' is distinct from l -> 'rows_of'
	union all select 'through ' || a::text from jsonb_array_elements(document -> 'arrangements') a
		where a ->> 'kind' = 'through' and (jsonb_array_length(a -> 'through') = 0
			or exists (select from jsonb_array_elements(a -> 'through') b where b::int >= jsonb_array_length(document -> 'arrangements')))
	union all select 'number ' || a::text from jsonb_array_elements(document -> 'arrangements') with ordinality x (a, n) where (a -> 'arrangement')::int <> n - 1
	union all select 'recomputed ' || r::text from jsonb_array_elements(document -> 'recomputed') r
		where document -> 'nodes' -> (r -> 'node_id')::int ->> 'kind' <> 'Recompute' or r ->> 'code' is null
	union all select 'incremental' where (document -> 'incremental')::bool <> (document -> 'recomputed' = '[]')
	union all select 'root' where (document -> 'root')::int <> jsonb_array_length(document -> 'nodes') - 1
$$;
create table queries (id integer primary key, query text);
insert into queries values
	(1, 'select k, count(*) from t group by cube (k, n)'),
	(2, 'select k from t intersect all (select k from u except select id from t)'),
	(3, 'select t.id from t left join u on u.k = t.k where not exists (select from u x where x.id = t.id)'),
	(4, 'select a.k, b.m from (select k, count(*) as m from t group by k) a join (select k, count(*) as m from u group by k union all select k, 1 from t) b on a.k = b.k and a.m > b.m'),
	(5, 'select distinct k from (select k, row_number() over (partition by k order by id) as r from t) w where r < 3'),
	(6, 'select count(*) from t'),
	(7, 'select (select max(n) from t where t.k = u.k) from u'),
	(8, 'with recursive r as (select 1 as x union select k from t join r on r.x = t.id) table r'),
	(9, 'select id, generate_series(1, k) from t'),
	(10, 'select t.id, f from t, unnest(array[k]) f'),
	(11, 'select t.id, l.id as u from t, lateral (select id from u where u.k = t.k order by n limit 1) l'),
	(12, 'select 1 as one'),
	(13, 'with w as materialized (select t.k, count(*) as m from t join u using (k) group by t.k) select a.k, b.m from w a join w b on a.k = b.m'),
	(14, 'select k, percentile_cont(0.5) within group (order by n), min(n), count(distinct id) from t group by k'),
	(15, 'select id, n from t order by n desc, id limit 3'),
	(16, 'select distinct on (k) k, n from t order by k, n'),
	(17, 'select k, string_agg(distinct n::text, '','') from (select k, n from t union all select k, id from u) x group by k');
select q.id, b.bad from queries q, ivm.explain_query(query, 'json') e, references_of(e::jsonb) b order by 1;
select q.id, r ->> 'code' as code, r ->> 'reason' as reason from queries q, ivm.explain_query(query, 'json') e, jsonb_array_elements(e::jsonb -> 'recomputed') r order by 1, 2;

select q.id, n ->> 'title' as title, n -> 'lookups' as lookups, a ->> 'by' as by, a ->> 'order' as in_order, a ->> 'kind' as kind
	from queries q, ivm.explain_query(query, 'json') e, jsonb_array_elements(e::jsonb -> 'nodes') n, jsonb_array_elements(n -> 'lookups') l,
		jsonb_array_elements(e::jsonb -> 'arrangements') a
	where q.id >= 14 and a -> 'arrangement' = l -> 'arrangement' order by 1, 2;

-- no name comes twice in an object
select q.id, k from queries q, ivm.explain_query(query, 'json') e, json_array_elements(e::json -> 'nodes') n, json_object_keys(n) k
	group by q.id, n ->> 'node_id', k having count(*) > 1
union all
select q.id, k from queries q, ivm.explain_query(query, 'json') e, json_object_keys(e::json) k group by q.id, k having count(*) > 1;

-- as CREATE INCREMENTAL VIEW answers
create incremental view refused as select random() from t;
select ivm.explain_query('select random() from t');
select ivm.explain_query('select now(), k from t');
select ivm.explain_query('select xmin from t');
select ivm.explain_query('select id as xmin from t');
select ivm.explain_query('select relname from pg_class');
select ivm.explain_query('select id from t for update');
select ivm.explain_query('select id from t tablesample system (1)');
select ivm.explain_query('select from t');
select ivm.explain_query('select id, k as id from t');
select ivm.explain_query('select array_agg(r) from (select row(id, k) from t) r');
create temp table temporary_one (a integer);
select ivm.explain_query('select a from temporary_one');
select ivm.explain_query('select a.relname collate "C" || b.relname collate "POSIX" from pg_stat_ivm a, pg_stat_ivm b');
-- what is no query, or not one
select ivm.explain_query('');
select ivm.explain_query(' ; ');
select ivm.explain_query('select 1; select 2');
select ivm.explain_query('insert into t values (1)');
select ivm.explain_query('create incremental view x as select 1');
select ivm.explain_query('create materialized view x as select 1');
select ivm.explain_query('drop table t');
select ivm.explain_query('explain select 1');
select ivm.explain_query('select 1 as a into new_table');
select ivm.explain_query('with d as (delete from t returning id) select id from d');
select ivm.explain_query('select id from t where k = $1');
prepare p (integer) as select ivm.explain_query('select id from t where k = $1');
execute p (1);
select ivm.explain_query('select id form t');
select ivm.explain_query('select id from t where no_column = 1');
select ivm.explain_query('select nothing from nowhere');
select count(*) from ivm.explain_query(null);
select ivm.explain_query('select 1', 'xml');
select ivm.explain('v', 'yaml');
select ivm.explain('t', 'json');
-- one statement may end
select count(*) from ivm.explain_query('select 1 as a;');
-- a part that is recomputed is no error, whatever ivm.fallback says: that is what is asked for
set ivm.fallback = error;
select e::jsonb -> 'recomputed' from ivm.explain_query('select id, rank() over (order by n) from t', 'json') e;
reset ivm.fallback;

-- by the caller's rights, settings, and search_path
create role regress_ivm_explain;
grant usage on schema test_explain to regress_ivm_explain;
grant select (id, k) on t to regress_ivm_explain;
create view through_view as select id, n from t;
grant select on through_view to regress_ivm_explain;
set role regress_ivm_explain;
select count(*) > 3 as planned from ivm.explain_query('select id, k from t');
select ivm.explain_query('select n from t');
select ivm.explain_query('select k from u');
select count(*) > 3 as planned from ivm.explain_query('select sum(n) from through_view');
reset role;
set timezone = 'Asia/Tokyo';
select e::jsonb -> 'settings' ->> 'TimeZone' from ivm.explain_query('select 1 as a', 'json') e;
reset timezone;
set search_path = public;
select ivm.explain_query('select id from t where false');
select count(*) > 3 as planned from ivm.explain_query('select id from test_explain.t');
set search_path = test_explain, public;
show search_path;
-- row security is the caller's, too
create table guarded (id integer primary key, who name);
alter table guarded enable row level security;
create policy own on guarded using (who = current_user);
grant select on guarded to regress_ivm_explain;
set role regress_ivm_explain;
select line from ivm.explain_query('select id from guarded') line where line ~ 'Filter';
reset role;
drop policy own on guarded;
drop owned by regress_ivm_explain;
drop role regress_ivm_explain;

-- and it all goes away
set client_min_messages = warning;
drop schema test_explain cascade;
