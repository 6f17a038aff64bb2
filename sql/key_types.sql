-- Types, collations and NULL in keys of joins, groups and DISTINCT; values of
-- types that know no equality.
\getenv abs_srcdir PG_ABS_SRCDIR
\set oracle :abs_srcdir /test/regress/oracle.sql
\set ECHO none
\i :oracle
\set ECHO all
create schema test_key_types;
set search_path = test_key_types, public;
-- NULL
create table n1 (id integer primary key, k integer, l text);
create table n2 (id integer primary key, k integer, l text);
insert into n1 values (1, 1, 'a'), (2, null, 'a'), (3, null, null), (4, 1, null);
insert into n2 values (1, 1, 'a'), (2, null, 'a'), (3, null, null), (4, 1, null);
create incremental view n_join as select n1.id as i, n2.id as j from n1 join n2 on n1.k = n2.k and n1.l = n2.l;
create incremental view n_join_null as select n1.id as i, n2.id as j from n1 join n2 on n1.k is not distinct from n2.k;
create incremental view n_group as select k, l, count(*) from n1 group by k, l;
create incremental view n_distinct as select distinct k from n1;
insert into n1 values (5, null, null), (6, null, 'b');
update n1 set k = null where id = 1;
update n2 set k = 1 where id = 3;
delete from n1 where id = 3;
select * from oracle();

-- character(n): blanks at the end count for nothing
create table c1 (id integer primary key, c character(5), v varchar(10));
create table c2 (id integer primary key, c character(8), t text);
insert into c1 values (1, 'ab', 'ab'), (2, 'ab   ', 'ab '), (3, 'cd', 'cd');
insert into c2 values (1, 'ab', 'ab'), (2, 'ab  ', 'ab '), (3, 'x', 'x');
create incremental view c_join as select c1.id as i, c2.id as j from c1 join c2 on c1.c = c2.c;
create incremental view c_join_text as select c1.id as i, c2.id as j from c1 join c2 on c1.c = c2.t;
create incremental view c_join_varchar as select c1.id as i, c2.id as j from c1 join c2 on c1.v = c2.t;
create incremental view c_group as select c, count(*) from c1 group by c;
create incremental view c_distinct as select distinct c from c2;
insert into c1 values (4, 'x  ', 'x'), (5, 'ab ', 'ab');
update c2 set c = 'cd ' where id = 2;
delete from c1 where id = 1;
select * from oracle();
select c::text || '|' as c, count from c_group order by c;
select c_distinct.c = 'ab' as same, octet_length(c) as length from c_distinct order by c;

-- equal, but not the same: a collation that does not know case
create collation ignore_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
create table i1 (id integer primary key, name text collate ignore_case);
create table i2 (id integer primary key, name text collate ignore_case);
insert into i1 values (1, 'Anna'), (2, 'anna'), (3, 'Bob');
insert into i2 values (1, 'ANNA'), (2, 'bob');
create incremental view i_join as select i1.id as i, i2.id as j from i1 join i2 using (name);
create incremental view i_group as select name, count(*) from i1 group by name;
create incremental view i_distinct as select distinct name from i1;
create incremental view i_rows as select name from i1;
create incremental view i_filter as select id from i1 where name = 'ANNA';
select lower(name collate "C") as name, count from i_group order by 1;
insert into i1 values (4, 'BOB'), (5, 'ANNa');
update i1 set name = 'ANNA' where id = 1;
update i2 set name = 'Bob' where id = 2;
select ivm.sync();
select name collate "C" as name, count(*) from i_rows group by 1 order by 1;
select * from oracle();
delete from i1 where id in (1, 2);
delete from i2 where id = 2;
select ivm.sync();
select lower(name collate "C") as name, count from i_group order by 1;
select * from oracle();
-- of the rows themselves each is the one that it was
select name collate "C" as name from i_rows except all select name collate "C" from i1;
delete from i1;
select * from oracle();
insert into i1 values (1, 'aNNa'), (2, 'Anna');
select * from oracle();

-- numbers of several types, and the many spellings of one
create table d1 (id integer primary key, s smallint, i integer, b bigint, n numeric, f double precision, r real);
insert into d1 values (1, 1, 1, 1, 1.0, 1, 1), (2, 2, 2, 2, 2.00, '-0', 0), (3, null, 3, 3, 'NaN', 'NaN', 'NaN'),
	(4, 4, 4, 4, 'Infinity', 'Infinity', '-Infinity');
create incremental view d_small as select l.id as i, r.id as j from d1 l join d1 r on l.s = r.b;
create incremental view d_numeric as select l.id as i, r.id as j from d1 l join d1 r on l.n = r.n;
create incremental view d_mixed as select l.id as i, r.id as j from d1 l join d1 r on l.i = r.n;
create incremental view d_float as select l.id as i, r.id as j from d1 l join d1 r on l.f = r.r;
create incremental view d_group as select n, count(*) from d1 group by n;
create incremental view d_group_float as select f, count(*) from d1 group by f;
create incremental view d_distinct as select distinct n, f from d1;
create incremental view d_rows as select n, f from d1;
insert into d1 values (5, 1, 1, 1, 1.000, 0, 0), (6, 2, 2, 2, 'NaN', 'NaN', 'NaN'), (7, 7, 7, 7, 'Infinity', '-Infinity', '-Infinity');
select ivm.sync();
select n, count from d_group where n in (1, 'NaN', 'Infinity') order by n::text collate "C";
update d1 set n = 1.00 where id = 1;
delete from d1 where id = 3;
select ivm.sync();
select id, n::text from d1 where n = 1 order by id;
select n::text from d_rows where n = 1 order by n::text collate "C";
select * from oracle();
update d1 set f = '-0' where id = 5;
update d1 set f = '0' where id = 2;
select * from oracle();
select n::text, f::text from d_rows except all select n::text, f::text from d1;

-- dates, times, intervals: '1 month' equals '30 days'
create table w (id integer primary key, d date, t timestamp, tz timestamptz, ti time, i interval);
insert into w values (1, '2024-01-01', '2024-01-01', '2024-01-01 00:00+00', '12:00', '1 month'),
	(2, 'infinity', '-infinity', 'infinity', '24:00', '30 days'), (3, '2024-02-29', '2024-02-29 12:00', '2024-02-29 12:00+05', '00:00', '720 hours');
create incremental view w_interval as select i, count(*) from w group by i;
create incremental view w_date as select l.id as i, r.id as j from w l join w r on l.d = r.t;
create incremental view w_all as select d, t, tz, ti, i from w;
insert into w values (4, '2024-01-01', '2024-01-01', '2024-01-01', '12:00', '30 days');
update w set i = '1 mon' where id = 2;
select * from oracle();
select i::text from w_all order by i::text collate "C";
delete from w where id in (1, 3);
select * from oracle();

-- arrays, composite types, domains, enums, ranges, jsonb and others
create type color as enum ('red', 'green', 'blue');
create type pair as (a integer, b text);
create domain positive as integer check (value > 0);
create domain pairs as pair[];
create table k (id integer primary key, ar integer[], tx text[], pr pair, po positive, ps pairs, co color, ra int4range, mr int4multirange,
	jb jsonb, u uuid, ip inet, by bytea, bi bit varying, mo money, na name, ts tsvector, ar2 integer[][]);
insert into k values
	(1, '{1,2}', '{a,b}', '(1,x)', 5, '{"(1,x)"}', 'red', '[1,5)', '{[1,2)}', '{"a": 1, "b": [1, 2]}', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
		'10.0.0.1', '\x00ff', '101', '12.50', 'name', 'a b', '{{1,2},{3,4}}'),
	(2, '{2,1}', '{}', null, 5, null, 'blue', '[1,4]', '{}', '{"b": [1, 2], "a": 1.0}', null, '10.0.0.1/32', '', '', '0', '', '', '{}'),
	(3, '[0:1]={1,2}', '{a,NULL}', '(,)', 7, '{}', null, 'empty', '{[1,3),[5,7)}', 'null', null, null, null, null, null, null, null, null);
create incremental view k_array as select ar, count(*) from k group by ar;
create incremental view k_array_join as select l.id as i, r.id as j from k l join k r on l.ar = r.ar;
create incremental view k_texts as select distinct tx from k;
create incremental view k_pair as select pr, count(*) from k group by pr;
create incremental view k_pair_join as select l.id as i, r.id as j from k l join k r on l.pr = r.pr;
create incremental view k_domain as select po, ps, count(*) from k group by po, ps;
create incremental view k_enum as select l.id as i, r.id as j from k l join k r on l.co = r.co;
create incremental view k_range as select ra, mr, count(*) from k group by ra, mr;
create incremental view k_jsonb as select jb, count(*) from k group by jb;
create incremental view k_jsonb_join as select l.id as i, r.id as j from k l join k r on l.jb = r.jb;
create incremental view k_other as select u, ip, by, bi, mo, na, count(*) from k group by u, ip, by, bi, mo, na;
create incremental view k_all as select * from k;
insert into k select id + 10, ar, tx, pr, po, ps, co, ra, mr, jb, u, ip, by, bi, mo, na, ts, ar2 from k;
insert into k (id, ar, pr, jb, co, by) values (30, '{1,2}', '(1,x)', '{"a": 1.00, "b": [1, 2]}', 'red', '\x00ff');
update k set po = 6, pr = '(2,)', co = 'green', tx = tx || 'z'::text where id = 1;
update k set ar = '{9}', jb = jb || '{"c": null}' where id = 12;
delete from k where id in (3, 11);
select * from oracle();
select ar, count from k_array order by ar;
select jb - 'a' as jb, count from k_jsonb where jb <> 'null' order by jb;
-- 1.0 and 1 are equal in jsonb too
select k::text from k_all k except all select k::text from k;
alter type color add value 'yellow';
update k set co = 'yellow' where id = 2;
select * from oracle();

-- no equality at all: json, xml, point; and box, of which equality means size
create table x (id integer primary key, j json, p point, b box, c circle, po polygon);
insert into x values (1, '{"a": 1}', '(1,2)', '(0,0),(1,1)', '<(0,0),1>', '((0,0),(1,1))'), (2, '{"a" : 1}', '(1,2)', '(0,0),(2,0.5)', '<(5,5),1>', null), (3, null, null, null, null, null);
create incremental view x_all as select id, j, p, b, c, po from x;
create incremental view x_rows as select j, p, b, c from x;
create incremental view x_extract as select j ->> 'a' as a, p[0] as px, count(*) from x group by 1, 2;
create incremental view x_distinct as select distinct j from x;
create incremental view x_group as select j, count(*) from x group by j;
create incremental view x_point_join as select l.id as i, r.id as j from x l join x r on l.p ~= r.p;
create incremental view x_box_join as select l.id as i, r.id as j from x l join x r on l.b = r.b;
insert into x values (4, '{"a": 1}', '(1,2)', '(0,0),(1,1)', null, null), (5, '{"a":2}', '(3,4)', null, null, '((0,0),(1,1))');
update x set j = '{"a":  1}', p = '(1,2.5)' where id = 2;
update x set b = '(0,0),(4,0.25)' where id = 1;
delete from x where id = 4;
select ivm.sync();
select j, p, b from x_rows order by j::text collate "C";
select * from oracle();

create table xm (id integer primary key, d xml);
insert into xm values (1, '<a>1</a>'), (2, '<a>1</a>'), (3, null);
create incremental view x_xml as select d from xm;
create incremental view x_xml_filter as select id, d from xm where d is document;
insert into xm values (4, '<a>1</a>');
update xm set d = '<b/>' where id = 1;
delete from xm where id = 2;
select ivm.sync();
select d from x_xml order by d::text collate "C";
select * from oracle() where name like 'x_xml%';

-- equality by a hash alone, or by an order alone
create table e (id integer primary key, x xid, v tsvector, q tsquery, l pg_lsn, o oid, r regclass, bp "char");
insert into e values (1, '7', 'a b', 'a & b', '0/1', 1, 'e', 'c'), (2, '7', 'b a', 'b & a', null, 1, null, ''), (3, null, null, null, '0/1', 2, 'x', null);
create incremental view e_xid as select x, count(*) from e group by x;
create incremental view e_xid_distinct as select distinct x from e;
create incremental view e_xid_join as select l.id as i, r.id as j from e l join e r on l.x = r.x;
create incremental view e_vector as select v, q, count(*) from e group by v, q;
create incremental view e_vector_join as select l.id as i, r.id as j from e l join e r on l.v = r.v;
create incremental view e_other as select l, o, r, bp, count(*) from e group by l, o, r, bp;
create incremental view e_name_text as select k.id as i, n1.id as j from k join n1 on k.na = n1.l;
create incremental view e_composite_join as select l.id as i, r.id as j from k l join k r on (l.pr, l.ps) = (r.pr, r.ps);
insert into e select id + 10, x, v, q, l, o, r, bp from e;
update e set x = '8', v = 'c', bp = 'x' where id = 11;
update e set x = '9' where id = 2;
update n1 set l = 'name' where id = 2;
update k set ps = '{"(1,x)"}', pr = '(1,x)' where id = 2;
delete from e where id = 3;
select * from oracle() where name like 'e\_%';
truncate e;
insert into e (id, x, v) values (1, '7', 'a');
select * from oracle() where name like 'e\_%';

-- a key of many columns
create incremental view m_many as select id, po, co, ip, mo, na, ra, u, count(*) from k group by id, po, co, ip, mo, na, ra, u;
create incremental view m_join as select l.id as i, r.id as j from k l join k r
	on l.po = r.po and l.mo = r.mo and l.na = r.na and l.ra = r.ra and l.by = r.by;
update k set mo = '12.50', na = 'name', by = '\x01', ra = '[1,5)';
select * from oracle();

-- and it all goes away
set client_min_messages = warning;
drop schema test_key_types cascade;
