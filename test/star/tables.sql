-- A star schema: what was sold in stores, by catalogue and on the web, with its
-- dimensions.  CALL star.fill(sales) fills it, with half as many rows in
-- catalog_sale and a quarter as many in web_sale.  Every value depends on the row's number alone.

CREATE TABLE item (i_id int PRIMARY KEY, i_code text NOT NULL, i_manufacturer text NOT NULL, i_brand text NOT NULL);
CREATE TABLE promotion (p_id int PRIMARY KEY, p_email boolean NOT NULL, p_event boolean NOT NULL);
CREATE TABLE day (d_id int PRIMARY KEY, d_date date NOT NULL, d_year int NOT NULL, d_month int NOT NULL);
CREATE TABLE time_of_day (t_id int PRIMARY KEY, t_hour int NOT NULL, t_minute int NOT NULL);
CREATE TABLE store (s_id int PRIMARY KEY, s_name text NOT NULL);
CREATE TABLE household (h_id int PRIMARY KEY, h_dependents int NOT NULL, h_vehicles int NOT NULL);
CREATE TABLE customer (c_id int PRIMARY KEY, c_code text NOT NULL, c_name text NOT NULL, c_country text NOT NULL);

CREATE TABLE sale (
	item int, promotion int, day int, time_of_day int, store int, household int, customer int,
	quantity int, list_price numeric(9, 2), coupon numeric(9, 2), price numeric(9, 2)
);
CREATE TABLE catalog_sale (
	item int, day int, customer int, quantity int, list_price numeric(9, 2), price numeric(9, 2)
);
CREATE TABLE web_sale (
	item int, day int, customer int, quantity int, list_price numeric(9, 2), price numeric(9, 2)
);

CREATE SCHEMA star;

-- A number from 0 to n - 1, for a row and a purpose.
CREATE FUNCTION star.draw(key bigint, purpose bigint, n int) RETURNS int
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN ((hashint8extended(key, purpose) & 9223372036854775807) % n)::int;

-- Sales with these numbers.
CREATE PROCEDURE star.sell(first bigint, last bigint)
LANGUAGE sql AS $$
	INSERT INTO sale
	SELECT star.draw(n, 1, 18000), star.draw(n, 2, 300), star.draw(n, 3, 1826), star.draw(n, 4, 86400), star.draw(n, 5, 12),
		star.draw(n, 6, 7200), star.draw(n, 7, 20000), 1 + star.draw(n, 8, 100), (100 + star.draw(n, 9, 20000)) / 100.00,
		star.draw(n, 10, 500) / 100.00, (100 + star.draw(n, 11, 20000)) / 100.00
	FROM generate_series(first, last) AS n
$$;

CREATE PROCEDURE star.fill(sales bigint)
LANGUAGE sql AS $$
	INSERT INTO item SELECT n, 'item ' || n, 'manufacturer ' || star.draw(n, 21, 1000), 'brand ' || star.draw(n, 22, 500) FROM generate_series(0, 17999) AS n;
	INSERT INTO promotion SELECT n, star.draw(n, 31, 2) = 0, star.draw(n, 32, 2) = 0 FROM generate_series(0, 299) AS n;
	INSERT INTO day SELECT n, date '1998-01-01' + n, extract(year FROM date '1998-01-01' + n), extract(month FROM date '1998-01-01' + n)
	FROM generate_series(0, 1825) AS n;
	INSERT INTO time_of_day SELECT n, n / 3600, n / 60 % 60 FROM generate_series(0, 86399) AS n;
	INSERT INTO store SELECT n, 'store ' || n FROM generate_series(0, 11) AS n;
	INSERT INTO household SELECT n, n % 10, n / 10 % 6 - 1 FROM generate_series(0, 7199) AS n;
	INSERT INTO customer SELECT n, 'C' || lpad(n::text, 9, '0'), 'name ' || star.draw(n, 41, 5000), 'country ' || star.draw(n, 42, 200)
	FROM generate_series(0, 19999) AS n;
	CALL star.sell(1, sales);
	INSERT INTO catalog_sale
	SELECT star.draw(n, 51, 18000), star.draw(n, 52, 1826), star.draw(n, 53, 20000), 1 + star.draw(n, 54, 100),
		(100 + star.draw(n, 55, 20000)) / 100.00, (100 + star.draw(n, 56, 20000)) / 100.00
	FROM generate_series(1, sales / 2) AS n;
	INSERT INTO web_sale
	SELECT star.draw(n, 61, 18000), star.draw(n, 62, 1826), star.draw(n, 63, 20000), 1 + star.draw(n, 64, 100),
		(100 + star.draw(n, 65, 20000)) / 100.00, (100 + star.draw(n, 66, 20000)) / 100.00
	FROM generate_series(1, sales / 4) AS n;
	CREATE INDEX ON sale (item);
	CREATE INDEX ON sale (promotion);
	CREATE INDEX ON sale (day);
	CREATE INDEX ON sale (time_of_day);
	CREATE INDEX ON sale (store);
	CREATE INDEX ON sale (household);
	CREATE INDEX ON sale (customer);
	CREATE INDEX ON catalog_sale (item);
	CREATE INDEX ON catalog_sale (day);
	CREATE INDEX ON catalog_sale (customer);
	CREATE INDEX ON web_sale (item);
	CREATE INDEX ON web_sale (day);
	CREATE INDEX ON web_sale (customer);
$$;
