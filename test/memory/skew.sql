-- Joins whose rows can all have one and the same key: into an aggregate, and as they are.
CREATE TABLE skew_l (k int NOT NULL, v int NOT NULL);
CREATE TABLE skew_r (k int NOT NULL, w int NOT NULL);
CREATE TABLE product_l (k int NOT NULL, v int NOT NULL);
CREATE TABLE product_r (k int NOT NULL, w int NOT NULL);
CREATE INDEX ON skew_l (k);
CREATE INDEX ON skew_r (k);
CREATE INDEX ON product_l (k);
CREATE INDEX ON product_r (k);
CREATE INCREMENTAL VIEW skewed AS
	SELECT l.k, count(*) AS n, sum(l.v + r.w) AS total FROM skew_l l JOIN skew_r r ON r.k = l.k GROUP BY l.k;
CREATE INCREMENTAL VIEW product AS
	SELECT l.v, r.w FROM product_l l JOIN product_r r ON r.k = l.k;

-- One transaction that changes both sides.
CREATE PROCEDURE add_skew(number int) LANGUAGE sql AS $$
	INSERT INTO skew_l SELECT 1, i FROM generate_series(1, number) i;
	INSERT INTO skew_r SELECT 1, i FROM generate_series(1, number) i;
$$;
CREATE PROCEDURE add_product(number int) LANGUAGE sql AS $$
	INSERT INTO product_l SELECT 1, i FROM generate_series(1, number) i;
	INSERT INTO product_r SELECT 1, i FROM generate_series(1, number) i;
$$;
