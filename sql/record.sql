-- Anonymous row types: each process numbers them in the order in which it meets
-- them, and no plan may depend on that.
\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir /test/regress/oracle.sql
\set ECHO none
\i :oracle
\set ECHO all
create schema test_record;
set search_path = test_record, public;
create table t (id integer primary key, x integer, y text);
insert into t select i, i % 3, 'y' || i % 2 from generate_series(1, 12) i;

-- the builder meets these, one after the other; a worker, when it has all of them
create materialized view made_first using incremental as
	select row_to_json(q)::text as j from (select 1 as a, 'b'::text as b, 2.5 as c) q;
create materialized view named using incremental as
	select row_to_json(q)::text as j from (select x, y from t) q;
create materialized view nested using incremental as
	select id, row_to_json(row(row(1, 'a'), array[row(1, 2), null, row(3, 4)], x))::text as j from t;
create materialized view nested_constant using incremental as
	select id, row(row(1, array[row('z'::text)]), array[row(1, 2), null, row(3, 4)])::text as r from t;
create materialized view elements using incremental as
	select x from t where row(x, y) = any (array[row(1, 'y1'::text), row(3, 'c')]);
create materialized view joined using incremental as
	select a.id, b.id as other from t a join t b on row(a.x, 1) = row(b.x, 1) and row(b.x, b.y) <> row(2, 'y0'::text);
create materialized view choice using incremental as
	select id, case when row(x, 'q'::text) = row(1, 'q'::text) then row(1, 2) else row(3, null) end::text as r from t;
create materialized view grouped using incremental as
	select row(x, 7)::text as r, count(*) as n from t group by row(x, 7), row(8, 9, 10);
create materialized view counted using incremental as
	select count(*) filter (where row(x, 1) < row(1, 2)) as n from t;
select ivm.sync();
update t set x = (x + 1) % 3 where id < 6;
delete from t where id = 7;
select * from public.oracle();

-- in a process that knows none of them they get other numbers
drop materialized view made_first;
do $$
declare
	pids integer[] := array(select pid from pg_stat_ivm_worker where worker_type = 'apply worker' and datname = current_database());
begin
	perform pg_terminate_backend(pid) from unnest(pids) pid;
	while exists (select from pg_stat_activity where pid = any (pids)) loop
		perform pg_sleep(0.01), pg_stat_clear_snapshot();
	end loop;
end
$$;
update t set x = (x + 1) % 3;
select * from public.oracle();
select relname, state, rebuilds, last_rebuild_reason from pg_stat_ivm where schemaname = 'test_record' order by relname collate "C";

-- constants that differ are different plans
create materialized view one using incremental as select id, row(1, 2)::text = row(x, 2)::text as b, row(1, 2) = row(x, 2) as c from t;
create materialized view two using incremental as select id, row(1, 2)::text = row(x, 2)::text as b, row(1, 3) = row(x, 2) as c from t;
select * from public.oracle() where name in ('one', 'two');
drop schema test_record cascade;
