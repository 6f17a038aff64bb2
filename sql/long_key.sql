-- A key that grows too long for a B-tree: its unique index gives way to a hash.
\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir /test/regress/oracle.sql
\set ECHO none
\i :oracle
\set ECHO all
create schema test_long_key;
set search_path = test_long_key, public;
create table t (id integer primary key, g text, n numeric, x integer);
insert into t select i, 'g' || i % 10, i % 7, i from generate_series(1, 100) i;
create incremental view by_text as select g, count(*) as c, sum(x) as s from t group by g;
create incremental view by_both as select g, n, count(*) as c from t group by g, n;
create function indexes() returns table (name regclass, is_unique boolean, columns text) language sql as
	$$ select indexrelid::regclass, indisunique, substring(pg_get_indexdef(indexrelid) from 'btree (.*)')
	   from pg_index where indrelid in ('by_text'::regclass, 'by_both'::regclass) order by indexrelid::regclass::text $$;
select * from indexes();
-- one that is long and can be compressed stays, one that cannot goes
insert into t values (101, repeat('long', 3000), 1, 1);
select * from oracle();
select * from indexes();
create table hashes as select string_agg(md5(i::text), '') as h from generate_series(1, 400) i;
insert into t select 102, h, 1, 1 from hashes;
select * from oracle();
select * from indexes();
select relname, state, rebuilds from pg_stat_ivm where schemaname = 'test_long_key' order by 1;
update t set x = x + 1;
update t set g = g || 'x' where id in (5, 101, 102);
select * from oracle();
select relname, state, rebuilds from pg_stat_ivm where schemaname = 'test_long_key' order by 1;
-- it is a hash from the beginning where such a value is there already
create incremental view later as select g, sum(x) from t group by g;
select substring(pg_get_indexdef(indexrelid) from 'btree (.*)') from pg_index where indrelid = 'later'::regclass;
-- a unique index of the user's is the user's business
delete from t where id in (101, 102);
select ivm.sync();
-- an index that is built has an entry for a row that is deleted too, as long as somebody may see it
create procedure no_older_snapshots() language plpgsql as $$
declare
	own xid := pg_current_xact_id()::xid;
begin
	commit;
	while exists (select from pg_stat_activity where pid <> pg_backend_pid() and age(backend_xmin) >= age(own)) loop
		perform pg_sleep(0.01);
		commit;
	end loop;
end $$;
call no_older_snapshots();
create unique index mine on by_text (g);
select * from oracle();
insert into t select 103, h, 1, 1 from hashes;
select ivm.sync('by_text');
select ivm.sync('by_both');
drop index mine;
refresh materialized view by_text;
select * from oracle();
-- another limit than an index's is an error as ever
create function many(integer) returns integer immutable language plpgsql as
	$$ begin if $1 > 1000 then raise program_limit_exceeded using message = 'too many'; end if; return $1; end $$;
create incremental view limited as select id, many(x) as m from t;
insert into t values (200, 'g', 1, 1001);
select ivm.sync('limited');
delete from t where id = 200;
refresh materialized view limited;
select * from oracle();

set client_min_messages = warning;
drop schema test_long_key cascade;
