-- How rows of a view are found and written; indexes on it, the user's too.
\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir /test/regress/oracle.sql
\set ECHO none
\i :oracle
\set ECHO all
create schema test_view_writing;
set search_path = test_view_writing, public;
create table t (id integer primary key, g integer, x integer, s text);
insert into t select i, i % 5, i, 's' || i from generate_series(1, 20) i;

-- by a key where the query has one, by the row's hash otherwise
create incremental view w_key as select id, x from t;
create incremental view w_group as select g, count(*), sum(x) from t group by g;
create incremental view w_two as select g, x % 2 as odd, count(*) from t group by 1, 2;
create incremental view w_rows as select g, s from t;
create incremental view w_grand as select count(*), sum(x) from t;
create incremental view w_join as select a.id, b.x from t a join t b on a.id = b.g;
create incremental view w_product as select a.id, b.id as other from t a join t b on a.x < b.x and a.g = 1;
create incremental view w_hash_only as select s::xid as x, count(*) from (select (id % 3)::text as s from t) q group by 1;
create function indexes() returns table (name name, is_unique boolean, definition text) language sql as $$
	select c.relname, i.indisunique, regexp_replace(pg_get_indexdef(i.indexrelid), '.* USING ', '')
	from pg_class c join pg_index i on i.indrelid = c.oid
	where c.relnamespace = current_schema::regnamespace and c.relkind = 'm' order by 1, 3 $$;
select * from indexes();
update t set x = x + 1 where id < 10;
select * from oracle();

-- a changed row of one key is one update
create function counters(v regclass, out ins bigint, out upd bigint, out del bigint) language sql as
	$$ select n_tup_ins, n_tup_upd, n_tup_del from pg_stat_ivm where relid = v $$;
create incremental view w_counted as select id, x from t where id <= 10;
update t set x = x + 1 where id <= 4;
select ivm.sync();
insert into t values (0, 0, 0, '0');
delete from t where id = 10;
select ivm.sync();
select * from counters('w_counted');
-- also where the row went and came again, and nothing where it is the same as before
begin;
delete from t where id = 7;
insert into t values (7, 7, 77, '7');
delete from t where id = 8;
insert into t select 8, 8, x, '8' from w_counted where id = 8;
commit;
select ivm.sync();
select * from counters('w_counted');
-- HOT where no indexed column changed
create incremental view w_hot with (fillfactor = 50) as select id, x from t;
update t set x = x + 1 where id in (1, 2);
select ivm.sync();
-- the worker reports what it did before it begins another batch
select * from ivm.verify('w_hot');
select n_tup_upd, n_tup_hot_upd
	from pg_stat_all_tables where relid = 'w_hot'::regclass;

-- duplicate rows: the right number of each
create incremental view w_twins as select g, x % 3 as m from t;
update t set g = 1 where id > 10;
update t set x = 3 where id > 15;
select ivm.sync();
select g, m, count(*) from w_twins group by g, m order by g, m;
select * from oracle();
delete from t where id in (17, 18);
insert into t values (17, 1, 3, 'x'), (18, 1, 3, 'x'), (19000, 1, 3, 'x');
select * from oracle();

-- keys that change places
update t set x = case id when 1 then (select x from t where id = 2) else (select x from t where id = 1) end where id in (1, 2);
create table swap (id integer primary key, v integer);
insert into swap values (1, 10), (2, 20), (3, 30);
create incremental view w_swap as select id, v from swap;
begin;
update swap set id = -id;
update swap set id = -id % 3 + 1;
commit;
select * from oracle();
select * from w_swap order by id;
select * from counters('w_swap');

-- the user's own indexes are kept up: plain, unique, partial, of an expression, hash
create index w_key_x on w_key (x);
create unique index w_key_id on w_key (id);
create index w_key_partial on w_key (x) where id % 2 = 0;
create index w_key_expression on w_key ((x * 2));
create index w_rows_hash on w_rows using hash (s);
create index concurrently w_rows_lower on w_rows (lower(s));
update t set x = x + 100 where id < 5;
insert into t values (21, 2, 21, 'S21');
delete from t where id = 6;
select ivm.sync();
set enable_seqscan = off;
set enable_bitmapscan = off;
explain (costs off) select id from w_key where x = 104;
select id from w_key where x = 104;
select id from w_key where x * 2 = 42;
select id, x from w_key where x > 100 and id % 2 = 0 order by id;
select s from w_rows where lower(s) = 's21';
select s from w_rows where s = 'S21';
reset enable_seqscan;
reset enable_bitmapscan;
select * from oracle();
create extension if not exists amcheck;
select c.relname, count(bt_index_check(i.indexrelid, true)) from pg_index i join pg_class c on c.oid = i.indrelid
	join pg_class x on x.oid = i.indexrelid join pg_am a on a.oid = x.relam
	where c.relnamespace = current_schema::regnamespace and c.relkind = 'm' and a.amname = 'btree' group by 1 order by 1;
-- the index that the view is found by goes
do $$
declare i regclass;
begin
	for i in select indexrelid from pg_index where indrelid = 'w_group'::regclass loop
		execute 'drop index ' || i;
	end loop;
end
$$;
update t set x = x + 1;
select * from oracle();
select * from indexes() where name = 'w_group';
-- a REFRESH makes one again
refresh materialized view w_group;
select * from indexes() where name = 'w_group';
-- unless the user has one that does
select format('drop index %s', indexrelid::regclass) from pg_index where indrelid = 'w_two'::regclass \gexec
create unique index on w_two (odd, g);
refresh materialized view w_two;
update t set x = x + 1;
select * from oracle();
select * from indexes() where name = 'w_two';

-- a unique index of the user's that the query's rows do not keep
create incremental view w_unique as select id, s from t;
create incremental view w_bystander as select id, s from t;
create unique index w_unique_s on w_unique (s);
update t set s = 's' || id;
select ivm.sync();
create unique index w_unique_s on w_unique (s);
-- values that change places, and one that is there twice in between
update t set s = case id when 1 then 's2' else 's1' end where id in (1, 2);
select ivm.sync();
select * from w_unique where id < 3 order by id;
update t set s = 'same' where id in (1, 2);
select ivm.sync('w_bystander');
select count(*) from w_bystander where s = 'same';
select ivm.sync('w_unique');
select relname, state, last_error from pg_stat_ivm where relname in ('w_unique', 'w_bystander') order by 1;
-- its last contents can be read
select count(*) from w_unique where s = 'same';
-- and when it is made right, it goes on
drop index w_unique_s;
refresh materialized view w_unique;
update t set s = 'other' where id = 2;
select * from oracle();
-- a unique index that is there when the rows arrive in an order of their own
create unique index w_unique_id on w_unique (id);
begin;
delete from t where id = 3;
insert into t values (3, 3, 3, 'again');
commit;
select * from oracle();

-- long values, also as a key and as a group: longer than a page of an index takes
create table long (id integer primary key, s text, n integer);
alter table long alter column s set storage external;
insert into long select i, string_agg(md5((i % 3 * 1000 + j)::text), ''), i from generate_series(1, 6) i, generate_series(1, 300) j group by i;
create incremental view w_long as select s, n from long;
create incremental view w_long_group as select s, count(*), sum(n) from long group by s;
create incremental view w_long_distinct as select distinct s from long;
update long set n = n + 1 where id = 1;
update long set s = s || 'x' where id in (1, 2);
delete from long where id = 3;
insert into long values (10, repeat('compressible', 1000), 10), (11, repeat('compressible', 1000), 11);
select * from oracle();
select length(s), count from w_long_group order by 1, 2;
select * from indexes() where name like 'w_long%';

-- wide rows
do $$
begin
	execute (select 'create table broad (id integer primary key, ' || string_agg(format('c%s integer', i), ', ') || ')' from generate_series(1, 400) i);
end
$$;
insert into broad (id, c1, c400) values (1, 1, 1), (2, 2, 2);
create incremental view w_broad as select * from broad;
update broad set c200 = 7, c400 = null where id = 1;
select * from oracle();
select id, c1, c200, c400 from w_broad order by id;

-- nobody else writes to it
insert into w_key values (1, 1);
update w_key set x = 1;
delete from w_key;
truncate w_key;
copy w_key from stdin;
\.
select id from w_key for update;
begin;
lock table w_key in access share mode;
rollback;
-- maintenance of the view
vacuum w_key;
vacuum full w_rows;
cluster w_key using w_key_x;
reindex table w_rows;
analyze w_group;
alter materialized view w_group set (fillfactor = 70);
update t set x = x - 1, s = s || '.';
select * from oracle();

-- and it all goes away
set client_min_messages = warning;
drop schema test_view_writing cascade;
