-- Whose rows a view shows: policies go by membership in roles, and by attributes of
-- the owner's; rights come with membership.
\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir /test/regress/oracle.sql
\set ECHO none
\i :oracle
\set ECHO all
create schema test_catalog_roles;
set search_path = test_catalog_roles, public;
set client_min_messages = warning;
create role regress_ivm_owner;
create role regress_ivm_reader;
create role regress_ivm_group;
create role regress_ivm_above;
create role regress_ivm_other;
grant create, usage on schema test_catalog_roles to regress_ivm_owner;
grant usage on schema test_catalog_roles to regress_ivm_reader;
create table t (id integer primary key, g integer);
alter table t replica identity full;
insert into t select i, i % 3 from generate_series(1, 9) i;
alter table t enable row level security;
create policy own on t to regress_ivm_owner, regress_ivm_reader using (g = 0);
create policy grouped on t to regress_ivm_group using (g = 1);
grant select on t to regress_ivm_owner, regress_ivm_reader;
create table u (id integer primary key);
alter table u replica identity full;
insert into u select generate_series(1, 3);
grant select on u to regress_ivm_above;
create view through with (security_barrier) as select id, g from t;
alter view through owner to regress_ivm_reader;
grant select on through to regress_ivm_owner;

-- What the owner sees, what the view has, and how often it was rebuilt.
create function public.compared(out view text, out sees bigint, out has bigint, out rebuilds bigint, out state text)
	returns setof record language plpgsql as $$
begin
	perform ivm.sync();
	for view, rebuilds, state in select s.relname, s.rebuilds, s.state from pg_stat_ivm s
		where s.schemaname = current_schema() order by s.relname collate "C"
	loop
		execute format('select count(*) from %I', view) into has;
		begin
			set local role regress_ivm_owner;
			execute format('select count(*) from (%s) q', rtrim(pg_get_viewdef(view::regclass), ';')) into sees;
			reset role;
		exception when insufficient_privilege then
			sees := null;
		end;
		return next;
	end loop;
end
$$;
set role regress_ivm_owner;
create materialized view direct using incremental as select id, g from t;
create materialized view counted using incremental as select g, count(*) as n from t group by g;
create materialized view viewed using incremental as select id from through;
reset role;
select * from compared();

-- members come and go, also of the role whose view is read, and through another role
grant regress_ivm_group to regress_ivm_owner;
select * from compared();
revoke regress_ivm_group from regress_ivm_owner;
select * from compared();
grant regress_ivm_group to regress_ivm_above;
select * from compared();
grant regress_ivm_above to regress_ivm_reader;
select * from compared();
grant regress_ivm_above to regress_ivm_owner;
select * from compared();

-- a right that comes with it
set role regress_ivm_owner;
create materialized view righted using incremental as select id from u;
reset role;
alter role regress_ivm_owner noinherit;
do $$
begin
	while not exists (select from pg_stat_ivm where relid = 'righted'::regclass and state = 'error') loop
		perform pg_sleep(0.01);
	end loop;
end
$$;
grant select on u to regress_ivm_owner;
refresh materialized view righted;
select * from compared();
alter role regress_ivm_owner inherit;
select * from compared();

-- who is above policies
alter role regress_ivm_owner bypassrls;
select * from compared();
alter role regress_ivm_owner nobypassrls;
select * from compared();
alter role regress_ivm_reader superuser;
select * from compared();
alter role regress_ivm_reader nosuperuser;
select * from compared();
alter table t owner to regress_ivm_owner;
select * from compared();
alter table t force row level security;
select * from compared();

-- what does not concern it
select sum(rebuilds) as before from compared() \gset
create role regress_ivm_new;
grant regress_ivm_group to regress_ivm_other;
alter role regress_ivm_other bypassrls password 'secret' createdb;
grant regress_ivm_other to regress_ivm_new;
alter role regress_ivm_owner connection limit 7;
drop role regress_ivm_new;
select sum(rebuilds) - :before as rebuilds, bool_and(sees = has) as equal from compared();
drop schema test_catalog_roles cascade;
drop function public.compared;
drop role regress_ivm_owner, regress_ivm_reader, regress_ivm_group, regress_ivm_above, regress_ivm_other;
