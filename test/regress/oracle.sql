-- What every test ends with: after ivm.sync(), each incremental view of the
-- current schema has the rows of its query, each the same number of times.
-- Both are compared by EXCEPT ALL, both ways; rows with a column type that
-- knows no equality are compared as text.

create or replace function public.oracle(out name name, out n_rows bigint, out missing bigint, out extra bigint)
	returns setof record
	language plpgsql
as $$
declare
	v regclass;
	query text;
	columns text := '*';
begin
	perform ivm.sync();
	for v, name in
		select c.oid, c.relname
		from pg_class c join pg_am a on a.oid = c.relam
		where c.relkind = 'm' and a.amname = 'incremental' and c.relispopulated
			and c.relnamespace = current_schema()::regnamespace
		order by c.relname
	loop
		query := rtrim(pg_get_viewdef(v), ';');
		columns := '*';
		loop
			begin
				execute format('with q as materialized (select %1$s from (%2$s) r),'
							   ' v as materialized (select %1$s from %3$s r)'
							   ' select (select count(*) from v),'
							   ' (select count(*) from (table q except all table v) x),'
							   ' (select count(*) from (table v except all table q) x)',
							   columns, query, v)
					into n_rows, missing, extra;
				exit;
			exception when undefined_function then
				if columns <> '*' then
					raise;
				end if;
				columns := 'r::text';
			end;
		end loop;
		return next;
	end loop;
end
$$;

-- The delta plan without the settings, which are the server's and not the
-- test's.
create or replace function public.delta_plan(view regclass) returns setof text
	language sql
as $$
	with plan as materialized (select line, n from ivm.explain(view) with ordinality p (line, n))
	select line from plan
	where n < (select min(n) from plan where line like '  Settings: %')
	order by n
$$;
