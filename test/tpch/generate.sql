-- Fills the tables of the TPC-H benchmark: CALL tpch.fill(scale).
--
-- The keys, the domains of the values and what depends on what are those of the
-- specification; the texts are made of words of our own, and of those that the
-- queries look for.  Scale 1 has 6,000,000 rows in lineitem.
--
-- Every value is a function of the key of its row and of a number that says what
-- the value is for.  So the same rows come at each run, in whatever order they
-- are made, and two scales agree in what they have in common.
--
-- At a small scale chance alone would leave the results of some queries empty.
-- Therefore rows with the first keys are made to have what a query looks for;
-- there are always as many of them, so that they do not count at a large scale.

CREATE SCHEMA tpch;

-- How many rows there are at first, one row.
CREATE TABLE tpch.size (scale numeric, suppliers int, parts int, customers int, orders int);

-- ----- values -----------------------------------------------------------------

-- A number from 0 to n - 1, for a key and a purpose.
CREATE FUNCTION tpch.draw(key bigint, purpose bigint, n int) RETURNS int
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN ((hashint8extended(key, purpose) & 9223372036854775807) % n)::int;

-- Two decimals, from low to high cents.
CREATE FUNCTION tpch.money(key bigint, purpose bigint, low int, high int) RETURNS numeric
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN (low + tpch.draw(key, purpose, high - low + 1)) / 100.00;

CREATE FUNCTION tpch.adjective(key bigint, purpose bigint) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN (ARRAY['special', 'cheap', 'dusty', 'early', 'fragile', 'gentle', 'heavy', 'honest', 'idle', 'late',
		'lost', 'narrow', 'odd', 'plain', 'quick', 'round', 'solid', 'tall', 'urgent', 'warm'])[1 + tpch.draw(key, purpose, 20)];

CREATE FUNCTION tpch.noun(key bigint, purpose bigint) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN (ARRAY['requests', 'barges', 'boxes', 'claims', 'cranes', 'crates', 'drivers', 'forms', 'goods', 'invoices',
		'letters', 'pallets', 'parcels', 'planes', 'receipts', 'sacks', 'stamps', 'trains', 'trucks', 'wagons'])[1 + tpch.draw(key, purpose, 20)];

CREATE FUNCTION tpch.verb(key bigint, purpose bigint) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN (ARRAY['arrive', 'break', 'depart', 'follow', 'hold', 'leave', 'lie', 'move', 'pass', 'remain',
		'return', 'roll', 'sail', 'stack', 'stay', 'turn', 'vanish', 'wait'])[1 + tpch.draw(key, purpose, 18)];

CREATE FUNCTION tpch.sentence(key bigint, purpose bigint) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN tpch.adjective(key, purpose) || ' ' || tpch.noun(key, purpose + 1) || ' ' || tpch.verb(key, purpose + 2);

CREATE FUNCTION tpch.colour(key bigint, purpose bigint) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN (ARRAY['green', 'forest', 'amber', 'ash', 'bone', 'brick', 'bronze', 'carmine', 'charcoal', 'cherry',
		'clay', 'cobalt', 'copper', 'coral', 'cream', 'crimson', 'dove', 'ebony', 'emerald', 'fawn',
		'fern', 'flax', 'garnet', 'gold', 'grape', 'grey', 'hazel', 'honey', 'indigo', 'ink',
		'ivory', 'jade', 'jet', 'lead', 'lemon', 'lilac', 'lime', 'mauve', 'mint', 'moss',
		'mustard', 'ochre', 'olive', 'onyx', 'opal', 'orange', 'pearl', 'pink', 'plum', 'rose',
		'ruby', 'rust', 'sand', 'scarlet', 'silver', 'slate', 'straw', 'teal', 'umber', 'wine'])[1 + tpch.draw(key, purpose, 60)];

CREATE FUNCTION tpch.address(key bigint, purpose bigint) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN substr(md5((key * 10000 + purpose)::text), 1, 10 + tpch.draw(key, purpose, 22));

-- The country's code is ten more than the nation's key.
CREATE FUNCTION tpch.phone(key bigint, purpose bigint, nation int) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN (nation + 10) || '-' || (100 + tpch.draw(key, purpose, 900)) || '-' || (100 + tpch.draw(key, purpose + 1, 900)) ||
		'-' || (1000 + tpch.draw(key, purpose + 2, 9000));

CREATE FUNCTION tpch.segment(key bigint, purpose bigint) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN (ARRAY['AUTOMOBILE', 'BUILDING', 'FURNITURE', 'HOUSEHOLD', 'MACHINERY'])[1 + tpch.draw(key, purpose, 5)];

CREATE FUNCTION tpch.priority(key bigint, purpose bigint) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN (ARRAY['1-URGENT', '2-HIGH', '3-MEDIUM', '4-NOT SPECIFIED', '5-LOW'])[1 + tpch.draw(key, purpose, 5)];

CREATE FUNCTION tpch.mode(key bigint, purpose bigint) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN (ARRAY['AIR', 'FOB', 'MAIL', 'RAIL', 'REG AIR', 'SHIP', 'TRUCK'])[1 + tpch.draw(key, purpose, 7)];

CREATE FUNCTION tpch.instruction(key bigint, purpose bigint) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN (ARRAY['COLLECT COD', 'DELIVER IN PERSON', 'NONE', 'TAKE BACK RETURN'])[1 + tpch.draw(key, purpose, 4)];

CREATE FUNCTION tpch.type(key bigint, purpose bigint) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN (ARRAY['ECONOMY', 'LARGE', 'MEDIUM', 'PROMO', 'SMALL', 'STANDARD'])[1 + tpch.draw(key, purpose, 6)] || ' ' ||
		(ARRAY['ANODIZED', 'BRUSHED', 'BURNISHED', 'PLATED', 'POLISHED'])[1 + tpch.draw(key, purpose + 1, 5)] || ' ' ||
		(ARRAY['BRASS', 'COPPER', 'NICKEL', 'STEEL', 'TIN'])[1 + tpch.draw(key, purpose + 2, 5)];

CREATE FUNCTION tpch.container(key bigint, purpose bigint) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN (ARRAY['JUMBO', 'LG', 'MED', 'SM', 'WRAP'])[1 + tpch.draw(key, purpose, 5)] || ' ' ||
		(ARRAY['BAG', 'BOX', 'CAN', 'CASE', 'DRUM', 'JAR', 'PACK', 'PKG'])[1 + tpch.draw(key, purpose + 1, 8)];

-- The supplier that is the i-th (0 to 3) of a part.  They have to differ, also
-- where there are fewer suppliers than the specification knows of.
CREATE FUNCTION tpch.supplier_of(part bigint, i int, suppliers int) RETURNS bigint
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN (part + i * (suppliers / 4 + (part - 1) / suppliers % greatest(suppliers / 12, 1))) % suppliers + 1;

CREATE FUNCTION tpch.retail_price(part bigint) RETURNS numeric
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN (90000 + part / 10 % 20001 + 100 * (part % 1000)) / 100.00;

-- Orders' keys are sparse: of each 32 the first 8 are used by the first orders, the
-- next 8 by those of refreshes (series 1), the rest by nobody.
CREATE FUNCTION tpch.order_key(number bigint, series int) RETURNS bigint
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN number / 8 * 32 + series * 8 + number % 8;

-- ----- rows -------------------------------------------------------------------

-- Orders with their line items, of the numbers from first to last in a series.
CREATE PROCEDURE tpch.add_orders(first bigint, last bigint, series int)
LANGUAGE sql AS $$
	WITH o AS MATERIALIZED (
		SELECT key, number <= 1000 AND number % 100 = 3 AS huge,
			date '1992-01-01' + tpch.draw(key, 101, 2406) AS ordered,
			-- a third of the customers orders nothing
			tpch.draw(key, 102, customers / 3 * 2) AS c,
			parts, suppliers, scale
		FROM generate_series(first, last) AS number, tpch.order_key(number, series) AS key, tpch.size
	), drawn AS MATERIALIZED (
		SELECT o.key, o.ordered, o.suppliers, line, o.key * 8 + line AS id,
			1 + tpch.draw(o.key * 8 + line, 111, parts) AS part,
			(CASE WHEN huge THEN 44 + tpch.draw(o.key * 8 + line, 112, 7) ELSE 1 + tpch.draw(o.key * 8 + line, 112, 50) END)::numeric AS quantity,
			tpch.draw(o.key * 8 + line, 113, 11) / 100.00 AS discount,
			tpch.draw(o.key * 8 + line, 114, 9) / 100.00 AS tax,
			ordered + 1 + tpch.draw(o.key * 8 + line, 115, 121) AS shipped
		FROM o, generate_series(1, CASE WHEN huge THEN 7 ELSE 1 + tpch.draw(o.key, 103, 7) END) AS line
	), lines AS MATERIALIZED (
		SELECT d.*, quantity * tpch.retail_price(part) AS price,
			shipped + 1 + tpch.draw(id, 116, 30) AS received,
			CASE WHEN shipped > date '1995-06-17' THEN 'O' ELSE 'F' END AS status
		FROM drawn d
	), inserted AS (
		INSERT INTO lineitem
		SELECT key, part, tpch.supplier_of(part, tpch.draw(id, 117, 4), suppliers), line, quantity, price, discount, tax,
			CASE WHEN received > date '1995-06-17' THEN 'N' WHEN tpch.draw(id, 118, 2) = 0 THEN 'R' ELSE 'A' END,
			status, shipped, ordered + 30 + tpch.draw(id, 119, 61), received,
			tpch.instruction(id, 120), tpch.mode(id, 121), tpch.sentence(id, 122)
		FROM lines
	)
	INSERT INTO orders
	SELECT key, o.c / 2 * 3 + o.c % 2 + 1, l.status, l.total, o.ordered, tpch.priority(key, 104),
		'Clerk#' || lpad((1 + tpch.draw(key, 105, greatest((scale * 1000)::int, 1)))::text, 9, '0'), 0,
		tpch.sentence(key, 131) || ', ' || tpch.sentence(key, 134)
	FROM o JOIN (
		SELECT key, sum(round(price * (1 + tax) * (1 - discount), 2)) AS total,
			CASE WHEN min(status) = max(status) THEN min(status) ELSE 'P' END AS status
		FROM lines GROUP BY key) AS l USING (key)
$$;

CREATE PROCEDURE tpch.add_suppliers(first bigint, last bigint)
LANGUAGE sql AS $$
	INSERT INTO supplier
	SELECT key, 'Supplier#' || lpad(key::text, 9, '0'), tpch.address(key, 201), nation, tpch.phone(key, 202, nation),
		tpch.money(key, 205, -99999, 999999),
		-- five in 10,000 each, and supplier 7
		CASE key % 2000 WHEN 7 THEN 'Customer ' || tpch.noun(key, 206) || ' have Complaints'
			WHEN 8 THEN 'Customer ' || tpch.noun(key, 206) || ' give Recommends' ELSE tpch.sentence(key, 207) END
	FROM generate_series(first, last) AS key,
		-- the first have one nation each
		LATERAL (SELECT CASE WHEN key <= 25 THEN key - 1 ELSE tpch.draw(key, 210, 25) END::int AS nation OFFSET 0) AS n
$$;

CREATE PROCEDURE tpch.add_customers(first bigint, last bigint)
LANGUAGE sql AS $$
	INSERT INTO customer
	SELECT key, 'Customer#' || lpad(key::text, 9, '0'), tpch.address(key, 301), nation, tpch.phone(key, 302, nation),
		tpch.money(key, 305, -99999, 999999), tpch.segment(key, 306), tpch.sentence(key, 307) || ', ' || tpch.sentence(key, 310)
	FROM generate_series(first, last) AS key, LATERAL (SELECT tpch.draw(key, 313, 25) AS nation OFFSET 0) AS n
$$;

-- Parts and, with four suppliers each, what these have of them.
CREATE PROCEDURE tpch.add_parts(first bigint, last bigint)
LANGUAGE sql AS $$
	INSERT INTO part
	SELECT key, name, 'Manufacturer#' || substr(brand, 7, 1), brand, type, size, container, tpch.retail_price(key), tpch.adjective(key, 401) || ' ' || tpch.noun(key, 402)
	FROM generate_series(first, last) AS key, LATERAL (
		SELECT CASE WHEN key <= 4 THEN 'forest ' WHEN key <= 8 THEN 'green ' ELSE tpch.colour(key, 411) || ' ' END ||
				tpch.colour(key, 412) || ' ' || tpch.colour(key, 413) || ' ' || tpch.colour(key, 414) || ' ' || tpch.colour(key, 415) AS name,
			-- the queries about quantities of one brand (17) and of three brands (19)
			CASE WHEN key <= 8 THEN 'Brand#23' WHEN key <= 28 THEN 'Brand#12' WHEN key <= 48 THEN 'Brand#34'
				ELSE 'Brand#' || (1 + tpch.draw(key, 421, 5)) || (1 + tpch.draw(key, 422, 5)) END AS brand,
			CASE WHEN key <= 8 THEN 'MED BOX' WHEN key <= 28 THEN 'SM CASE' WHEN key <= 48 THEN 'LG BOX'
				ELSE tpch.container(key, 431) END AS container,
			-- the cheapest suppliers of a type (2) and the share of one (8)
			CASE WHEN key % 8 = 1 AND key <= 80 THEN 'LARGE PLATED BRASS' WHEN key % 8 = 2 AND key <= 80 THEN 'ECONOMY ANODIZED STEEL'
				ELSE tpch.type(key, 441) END AS type,
			CASE WHEN key BETWEEN 9 AND 48 THEN 1 + tpch.draw(key, 451, 5) WHEN key % 8 = 1 AND key <= 80 THEN 15
				ELSE 1 + tpch.draw(key, 451, 50) END AS size
		OFFSET 0) AS p;
	INSERT INTO partsupp
	SELECT part, tpch.supplier_of(part, i, suppliers),
		1 + tpch.draw(part * 4 + i, 461, 9999), tpch.money(part * 4 + i, 462, 100, 100000),
		tpch.sentence(part * 4 + i, 463) || ', ' || tpch.sentence(part * 4 + i, 466)
	FROM tpch.size, generate_series(first, last) AS part, generate_series(0, 3) AS i
$$;

CREATE PROCEDURE tpch.add_nations()
LANGUAGE sql AS $$
	INSERT INTO region
	SELECT key - 1, name, tpch.sentence(key, 501)
	FROM unnest('{AFRICA,AMERICA,ASIA,EUROPE,MIDDLE EAST}'::text[]) WITH ORDINALITY AS r (name, key);
	INSERT INTO nation
	SELECT key - 1, split_part(name, ':', 1), split_part(name, ':', 2)::int, tpch.sentence(key, 511)
	FROM unnest('{ALGERIA:0,ARGENTINA:1,BRAZIL:1,CANADA:1,EGYPT:4,ETHIOPIA:0,FRANCE:3,GERMANY:3,INDIA:2,INDONESIA:2,IRAN:4,IRAQ:4,JAPAN:2,
		JORDAN:4,KENYA:0,MOROCCO:0,MOZAMBIQUE:0,PERU:1,CHINA:2,ROMANIA:3,SAUDI ARABIA:4,VIETNAM:2,RUSSIA:3,UNITED KINGDOM:3,UNITED STATES:1}'::text[])
		WITH ORDINALITY AS n (name, key)
$$;

-- Primary keys, and indexes on foreign keys and dates.
CREATE PROCEDURE tpch.add_indexes()
LANGUAGE sql AS $$
	ALTER TABLE region ADD PRIMARY KEY (r_regionkey);
	ALTER TABLE nation ADD PRIMARY KEY (n_nationkey);
	ALTER TABLE supplier ADD PRIMARY KEY (s_suppkey);
	ALTER TABLE part ADD PRIMARY KEY (p_partkey);
	ALTER TABLE partsupp ADD PRIMARY KEY (ps_partkey, ps_suppkey);
	ALTER TABLE customer ADD PRIMARY KEY (c_custkey);
	ALTER TABLE orders ADD PRIMARY KEY (o_orderkey);
	ALTER TABLE lineitem ADD PRIMARY KEY (l_orderkey, l_linenumber);
	CREATE INDEX ON nation (n_regionkey);
	CREATE INDEX ON supplier (s_nationkey);
	CREATE INDEX ON partsupp (ps_suppkey);
	CREATE INDEX ON customer (c_nationkey);
	CREATE INDEX ON orders (o_custkey);
	CREATE INDEX ON orders (o_orderdate);
	CREATE INDEX ON lineitem (l_partkey, l_suppkey);
	CREATE INDEX ON lineitem (l_suppkey);
	CREATE INDEX ON lineitem (l_shipdate);
	CREATE INDEX ON lineitem (l_commitdate);
	CREATE INDEX ON lineitem (l_receiptdate);
$$;

-- Everything.  Commits on the way: it is to be called outside of a block.
CREATE PROCEDURE tpch.fill(scale numeric)
LANGUAGE plpgsql AS $$
DECLARE
	size tpch.size;
BEGIN
	INSERT INTO tpch.size VALUES (scale, greatest(scale * 10000, 25), greatest(scale * 200000, 100), greatest(scale * 150000, 30), greatest(scale * 1500000, 100))
	RETURNING * INTO size;
	CALL tpch.add_nations();
	CALL tpch.add_suppliers(1, size.suppliers);
	CALL tpch.add_customers(1, size.customers);
	CALL tpch.add_parts(1, size.parts);
	COMMIT;
	FOR number IN 1 .. size.orders BY 50000 LOOP
		CALL tpch.add_orders(number, least(number + 49999, size.orders), 0);
		COMMIT;
	END LOOP;
	CALL tpch.add_indexes();
END
$$;
