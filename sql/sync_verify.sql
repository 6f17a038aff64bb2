-- ivm.sync and ivm.verify.
\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir /test/regress/oracle.sql
\set ECHO none
\i :oracle
\set ECHO all
create schema test_sync_verify;
set search_path = test_sync_verify, public;
create table t (id integer primary key, g integer, x integer);
create table u (id integer primary key);
create incremental view a as select g, count(*) as n from t group by g;
create incremental view b as select id, x from t where x > 10;
create incremental view c as select id from u;

-- after sync one reads one's own writes, each time
do $$
declare
	n integer;
begin
	for i in 1..30 loop
		insert into t values (i, i % 3, i);
		commit;
		perform ivm.sync('a');
		select sum(a.n) into n from a;
		if n <> i then
			raise 'after % rows the view counts %', i, n;
		end if;
	end loop;
end
$$;
select ivm.sync();
select ivm.sync('a'), ivm.sync('b'::regclass);
select ivm.sync('a', '10 s'), ivm.sync('test_sync_verify.a', timeout => interval '10 s'), ivm.sync(timeout => '10 s');
select ivm.sync(view => 'a');
-- also with nothing to do, and many times
select count(ivm.sync()) from generate_series(1, 100);

-- what the transaction itself has written cannot be there, and is not waited for
begin;
insert into t values (100, 100, 100);
select ivm.sync();
select count(*) from a where g = 100;
rollback;
-- under an older snapshot sync works, and one sees the old
begin isolation level repeatable read;
select count(*) from b;
select ivm.sync();
commit;
begin transaction read only;
select ivm.sync();
commit;
-- in a failed transaction it is what everything is
begin;
select 1 / 0;
select ivm.sync();
rollback;

-- time is up: the error says which view, how far behind, in which state
begin;
lock table t in access exclusive mode;
select ivm.sync('c');
rollback;
select ivm.sync('a', '0');

-- a large transaction
insert into t select i, i % 100, i from generate_series(1000, 60000) i;
select ivm.sync();
select sum(n) from a;
select count(*) from b;
update t set x = x + 1, g = g + 1;
delete from t where id % 2 = 0;
select ivm.sync();
select * from ivm.verify('a');
select * from ivm.verify('b');
select * from oracle();

-- verify sees what is wrong: rows that somebody took away or put in behind
-- everybody's back
create function damage(v regclass, statement text) returns void language plpgsql as $$
begin
	update pg_class set relkind = 'r' where oid = v;
	execute statement;
	update pg_class set relkind = 'm' where oid = v;
end
$$;
set allow_system_table_mods = on;
select damage('c', 'insert into c values (42), (43)');
select damage('a', 'delete from a where g < 10');
reset allow_system_table_mods;
select * from ivm.verify('c');
select * from ivm.verify('a');
select name, missing, extra from oracle();
-- a rebuild repairs it
refresh materialized view c;
refresh materialized view a;
select * from ivm.verify('c');
select * from ivm.verify('a');
insert into u values (1), (2);
-- verify in a transaction block, and of all views
begin;
select * from ivm.verify('c');
commit;
select relname, v.* from pg_class, ivm.verify(oid) v
	where relnamespace = current_schema::regnamespace and relkind = 'm' order by 1;
select * from oracle();

-- and it all goes away
set client_min_messages = warning;
drop schema test_sync_verify cascade;
