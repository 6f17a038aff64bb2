-- What changes in the tables: the two refresh functions of the specification,
-- and changes of every kind in every table.  All of it depends on the number of
-- the round alone, like the data on their keys (generate.sql).

-- How many orders a refresh brings, or takes: a fraction of those there were at first.
CREATE FUNCTION tpch.refreshed(fraction numeric) RETURNS int
	LANGUAGE sql STABLE
	BEGIN ATOMIC SELECT greatest((orders * fraction)::int, 1) FROM tpch.size; END;

-- RF1: new orders, whose keys lie between the others'.
CREATE PROCEDURE tpch.refresh_insert(round int, fraction numeric DEFAULT 0.001)
LANGUAGE sql AS $$
	CALL tpch.add_orders(1 + (round - 1) * tpch.refreshed(fraction), round * tpch.refreshed(fraction), 1)
$$;

-- RF2: as many of the first orders go.
CREATE PROCEDURE tpch.refresh_delete(round int, fraction numeric DEFAULT 0.001)
LANGUAGE sql AS $$
	WITH gone AS (
		SELECT tpch.order_key(number, 0) AS key
		FROM generate_series(1 + (round - 1) * tpch.refreshed(fraction), round * tpch.refreshed(fraction)) AS number
	), lines AS (
		DELETE FROM lineitem USING gone WHERE l_orderkey = key
	)
	DELETE FROM orders USING gone WHERE o_orderkey = key
$$;

-- Whether a row is one of those, per_mille in 1,000, that something happens to in a round.
CREATE FUNCTION tpch.hit(key bigint, round int, what int, per_mille int) RETURNS boolean
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN tpch.draw(key, 100000 * round + what, 1000) < per_mille;

-- Updates, inserts and deletes in every table, in one transaction or in one for each table
-- (then to be called outside of a block).  There are no foreign keys: rows lose and find what they refer to.
CREATE PROCEDURE tpch.change_all(round int, apart boolean)
LANGUAGE plpgsql AS $$
DECLARE
	size tpch.size;
BEGIN
	SELECT * INTO size FROM tpch.size;

	-- names are no keys: for two rounds there are two regions, and nations, of a name
	DELETE FROM region WHERE r_regionkey = 3 + round AND r_regionkey > 4;
	INSERT INTO region VALUES (5 + round, (ARRAY['EUROPE', 'ASIA', 'AMERICA'])[1 + round % 3], tpch.sentence(round, 601));
	UPDATE region SET r_comment = tpch.sentence(r_regionkey, round) WHERE r_regionkey = round % 5;
	IF round % 4 = 2 THEN
		UPDATE region SET r_name = other.r_name FROM region AS other
		WHERE region.r_regionkey IN (0, 3) AND other.r_regionkey = 3 - region.r_regionkey;
	END IF;
	DELETE FROM nation WHERE n_nationkey = 23 + round AND n_nationkey > 24;
	INSERT INTO nation VALUES (25 + round, (ARRAY['GERMANY', 'FRANCE', 'BRAZIL', 'CANADA', 'SAUDI ARABIA'])[1 + round % 5],
		tpch.draw(round, 602, 5), tpch.sentence(round, 603));
	UPDATE nation SET n_regionkey = tpch.draw(n_nationkey, round, 6 + round) WHERE tpch.hit(n_nationkey, round, 11, 60);
	IF apart THEN COMMIT; END IF;

	DELETE FROM supplier WHERE tpch.hit(s_suppkey, round, 20, 10);
	CALL tpch.add_suppliers(size.suppliers + round, size.suppliers + round);
	UPDATE supplier SET s_nationkey = tpch.draw(s_suppkey, round, 26 + round) WHERE tpch.hit(s_suppkey, round, 21, 40);
	-- to a nation that the queries name
	UPDATE supplier SET s_nationkey = (ARRAY[2, 3, 6, 7, 20])[1 + tpch.draw(s_suppkey, round, 5)] WHERE tpch.hit(s_suppkey, round, 24, 60);
	UPDATE supplier SET s_acctbal = s_acctbal + 100, s_phone = tpch.phone(s_suppkey, round, s_nationkey) WHERE tpch.hit(s_suppkey, round, 22, 50);
	UPDATE supplier SET s_comment = CASE WHEN s_comment LIKE '%Complaints%' THEN tpch.sentence(s_suppkey, round) ELSE 'Customer heard Complaints' END
	WHERE tpch.hit(s_suppkey, round, 23, 40);
	IF apart THEN COMMIT; END IF;

	DELETE FROM customer WHERE tpch.hit(c_custkey, round, 30, 10);
	CALL tpch.add_customers(size.customers + 5 * round, size.customers + 5 * round + 4);
	UPDATE customer SET c_acctbal = 5000 - c_acctbal WHERE tpch.hit(c_custkey, round, 31, 20);
	UPDATE customer SET c_mktsegment = tpch.segment(c_custkey, round) WHERE tpch.hit(c_custkey, round, 32, 20);
	UPDATE customer SET c_nationkey = nation, c_phone = tpch.phone(c_custkey, round, nation)
	FROM (SELECT c_custkey AS key, tpch.draw(c_custkey, round, 26 + round) AS nation FROM customer) AS n
	WHERE key = c_custkey AND tpch.hit(c_custkey, round, 33, 20);
	IF apart THEN COMMIT; END IF;

	DELETE FROM part WHERE tpch.hit(p_partkey, round, 40, 5);
	DELETE FROM partsupp WHERE tpch.hit(ps_partkey * 16 + ps_suppkey, round, 41, 5);
	CALL tpch.add_parts(size.parts + 2 * round, size.parts + 2 * round + 1);
	INSERT INTO partsupp SELECT p_partkey, size.suppliers + round, 100 * round, 20 + p_size, tpch.sentence(p_partkey, round)
	FROM part WHERE tpch.hit(p_partkey, round, 42, 20) ON CONFLICT DO NOTHING;
	UPDATE part SET p_type = tpch.type(p_partkey, round) WHERE tpch.hit(p_partkey, round, 43, 10);
	UPDATE part SET p_size = CASE WHEN p_size = 15 THEN 49 WHEN p_size < 6 THEN 6 ELSE 15 END WHERE tpch.hit(p_partkey, round, 44, 20);
	UPDATE part SET p_brand = 'Brand#23', p_container = 'MED BOX' WHERE tpch.hit(p_partkey, round, 45, 3);
	UPDATE part SET p_brand = 'Brand#45', p_container = tpch.container(p_partkey, round) WHERE tpch.hit(p_partkey, round, 46, 10);
	UPDATE part SET p_name = CASE WHEN p_name LIKE 'forest%' THEN 'pale ' || p_name ELSE 'forest green ' || tpch.colour(p_partkey, round) END
	WHERE tpch.hit(p_partkey, round, 47, 10);
	UPDATE partsupp SET ps_supplycost = CASE WHEN ps_supplycost > 500 THEN 1.5 ELSE 999 END WHERE tpch.hit(ps_partkey * 16 + ps_suppkey, round, 48, 20);
	UPDATE partsupp SET ps_availqty = 10000 - ps_availqty WHERE tpch.hit(ps_partkey * 16 + ps_suppkey, round, 49, 20);
	UPDATE partsupp SET ps_availqty = CASE ps_availqty WHEN 10 THEN 10000 ELSE 10 END WHERE tpch.hit(ps_partkey * 16 + ps_suppkey, round, 50, 20);
	UPDATE partsupp SET ps_availqty = 9999, ps_supplycost = 990 WHERE tpch.hit(ps_partkey * 16 + ps_suppkey, round, 51, 10);
	IF apart THEN COMMIT; END IF;

	-- some orders lose their lines, some lines their order
	DELETE FROM orders WHERE tpch.hit(o_orderkey, round, 60, 3);
	UPDATE orders SET o_custkey = 1 + tpch.draw(o_orderkey, round, size.customers + 10) WHERE tpch.hit(o_orderkey, round, 61, 15);
	UPDATE orders SET o_orderdate = date '1993-06-01' + tpch.draw(o_orderkey, round, 1300) WHERE tpch.hit(o_orderkey, round, 62, 15);
	UPDATE orders SET o_orderpriority = tpch.priority(o_orderkey, round), o_totalprice = o_totalprice + round WHERE tpch.hit(o_orderkey, round, 63, 15);
	UPDATE orders SET o_comment = CASE WHEN o_comment LIKE '%special%requests%' THEN 'none' ELSE 'a special case of requests' END
	WHERE tpch.hit(o_orderkey, round, 64, 15);
	UPDATE orders SET o_orderstatus = CASE o_orderstatus WHEN 'F' THEN 'O' ELSE 'F' END WHERE tpch.hit(o_orderkey, round, 65, 15);
	IF apart THEN COMMIT; END IF;

	DELETE FROM lineitem WHERE tpch.hit(l_orderkey * 8 + l_linenumber, round, 70, 3);
	DELETE FROM lineitem WHERE tpch.hit(l_orderkey, round, 71, 1);
	INSERT INTO lineitem
	SELECT l_orderkey, l_partkey, l_suppkey, 10 * round + l_linenumber, l_quantity + 1, l_extendedprice, l_discount, l_tax, l_returnflag,
		l_linestatus, l_shipdate, l_commitdate, l_receiptdate, l_shipinstruct, l_shipmode, l_comment
	FROM lineitem WHERE tpch.hit(l_orderkey * 8 + l_linenumber, round, 72, 10) ON CONFLICT DO NOTHING;
	UPDATE lineitem SET l_quantity = 1 + tpch.draw(l_orderkey, round, 50), l_discount = 0.06 WHERE tpch.hit(l_orderkey * 8 + l_linenumber, round, 73, 10);
	UPDATE lineitem SET l_partkey = p_partkey, l_suppkey = ps_suppkey
	FROM (SELECT p_partkey, ps_suppkey, row_number() OVER (ORDER BY p_partkey, ps_suppkey) AS n
		FROM part JOIN partsupp ON ps_partkey = p_partkey WHERE tpch.hit(p_partkey, round, 74, 20)) AS p
	WHERE tpch.hit(l_orderkey * 8 + l_linenumber, round, 75, 10) AND n = 1 + tpch.draw(l_orderkey, round, 40);
	UPDATE lineitem SET l_suppkey = 1 + tpch.draw(l_orderkey, round, size.suppliers + round) WHERE tpch.hit(l_orderkey * 8 + l_linenumber, round, 76, 10);
	UPDATE lineitem SET l_receiptdate = l_receiptdate + 60 - tpch.draw(l_orderkey, round, 90) WHERE tpch.hit(l_orderkey, round, 77, 20);
	UPDATE lineitem SET l_shipdate = date '1994-01-01' + tpch.draw(l_orderkey, round, 900), l_returnflag = 'R'
	WHERE tpch.hit(l_orderkey * 8 + l_linenumber, round, 78, 10);
	UPDATE lineitem SET l_shipmode = tpch.mode(l_orderkey, round), l_shipinstruct = tpch.instruction(l_orderkey, round)
	WHERE tpch.hit(l_orderkey * 8 + l_linenumber, round, 79, 10);
	-- the first parts are those that the queries look for
	UPDATE lineitem SET l_shipmode = CASE l_shipmode WHEN 'AIR' THEN 'SHIP' ELSE 'AIR' END, l_quantity = 1 + tpch.draw(l_orderkey, round, 30)
	WHERE l_partkey <= 80 AND tpch.hit(l_orderkey * 8 + l_linenumber, round, 80, 60);
	UPDATE lineitem SET l_suppkey = s_suppkey FROM (SELECT min(s_suppkey) AS s_suppkey FROM supplier WHERE s_nationkey = 2) AS s
	WHERE l_partkey <= 80 AND s_suppkey IS NOT NULL AND tpch.hit(l_orderkey * 8 + l_linenumber, round, 81, 60);
	-- suppliers of nation 20 come to be the only ones who are late with an order, or the only ones who are not
	UPDATE lineitem SET l_receiptdate = l_commitdate + CASE WHEN (l_suppkey IN (SELECT s_suppkey FROM supplier WHERE s_nationkey = 20)) =
		(tpch.draw(l_orderkey, round, 3) > 0) THEN 3 ELSE -3 END
	WHERE l_orderkey IN (SELECT l_orderkey FROM lineitem JOIN supplier ON s_suppkey = l_suppkey WHERE s_nationkey = 20)
		AND tpch.hit(l_orderkey, round, 82, 100);
END
$$;
