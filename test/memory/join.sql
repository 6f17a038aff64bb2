-- A fact table, two dimensions, and an aggregate over their join.  The columns that are
-- joined by have indexes.
CREATE TABLE fact (id int NOT NULL, a int NOT NULL, b int NOT NULL, v int NOT NULL);
CREATE INDEX ON fact (a);
CREATE INDEX ON fact (b);
CREATE TABLE dim_a (id int PRIMARY KEY, g int NOT NULL, name text NOT NULL);
CREATE TABLE dim_b (id int PRIMARY KEY, h int NOT NULL, name text NOT NULL);
INSERT INTO dim_a SELECT i, i % 100, 'a ' || i % 77 FROM generate_series(0, 999) i;
INSERT INTO dim_b SELECT i, i % 100, 'b ' || i % 77 FROM generate_series(0, 999) i;
ANALYZE;
CREATE INCREMENTAL VIEW joined AS
	SELECT a.g, b.h, count(*) AS n, sum(f.v) AS total
	FROM fact f JOIN dim_a a ON a.id = f.a JOIN dim_b b ON b.id = f.b GROUP BY a.g, b.h;

-- One transaction that the view gets that many rows of.
CREATE PROCEDURE add_facts(number int) LANGUAGE sql AS $$
	INSERT INTO fact SELECT i, i % 1000, i / 7 % 1000, i FROM generate_series(1, number) i
$$;
