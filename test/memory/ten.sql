-- With the view of join.sql, ten over the same join: few groups, many groups, one.
CREATE INCREMENTAL VIEW joined_2 AS
	SELECT a.g, count(*) AS n, sum(f.v) AS total
	FROM fact f JOIN dim_a a ON a.id = f.a JOIN dim_b b ON b.id = f.b GROUP BY a.g;
CREATE INCREMENTAL VIEW joined_3 AS
	SELECT b.h, count(*) AS n, sum(f.v) AS total
	FROM fact f JOIN dim_a a ON a.id = f.a JOIN dim_b b ON b.id = f.b GROUP BY b.h;
CREATE INCREMENTAL VIEW joined_4 AS
	SELECT a.id AS a, b.id AS b, count(*) AS n, sum(f.v) AS total
	FROM fact f JOIN dim_a a ON a.id = f.a JOIN dim_b b ON b.id = f.b GROUP BY a.id, b.id;
CREATE INCREMENTAL VIEW joined_5 AS
	SELECT f.id % 10007 AS r, count(*) AS n, sum(f.v + a.g - b.h) AS total
	FROM fact f JOIN dim_a a ON a.id = f.a JOIN dim_b b ON b.id = f.b GROUP BY f.id % 10007;
CREATE INCREMENTAL VIEW joined_6 AS
	SELECT a.name AS a, b.name AS b, count(*) AS n, avg(f.v) AS mean
	FROM fact f JOIN dim_a a ON a.id = f.a JOIN dim_b b ON b.id = f.b GROUP BY a.name, b.name;
CREATE INCREMENTAL VIEW joined_7 AS
	SELECT count(*) AS n, sum(f.v) AS total
	FROM fact f JOIN dim_a a ON a.id = f.a JOIN dim_b b ON b.id = f.b;
CREATE INCREMENTAL VIEW joined_8 AS
	SELECT f.v % 100 AS v, count(*) AS n, sum(a.g * b.h) AS total
	FROM fact f JOIN dim_a a ON a.id = f.a JOIN dim_b b ON b.id = f.b GROUP BY f.v % 100;
CREATE INCREMENTAL VIEW joined_9 AS
	SELECT f.id / 10 AS r, count(*) AS n, sum(f.v::numeric) AS total
	FROM fact f JOIN dim_a a ON a.id = f.a JOIN dim_b b ON b.id = f.b GROUP BY f.id / 10;
CREATE INCREMENTAL VIEW joined_10 AS
	SELECT a.g, count(*) AS n, sum(b.h) AS total
	FROM fact f JOIN dim_a a ON a.id = f.a JOIN dim_b b ON b.id = f.b WHERE b.h < 50 GROUP BY a.g;
