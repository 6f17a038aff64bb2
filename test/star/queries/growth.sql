-- Customers who bought more from one year to the next, by catalogue more so than in stores and on the web.
WITH year_total AS (
	SELECT c_code AS code, c_name AS name, c_country AS country, d_year AS year, sum(quantity * (list_price - coupon)) AS total, 's' AS channel
	FROM sale JOIN customer ON c_id = customer JOIN day ON d_id = day
	GROUP BY c_code, c_name, c_country, d_year
	UNION ALL
	SELECT c_code, c_name, c_country, d_year, sum(quantity * list_price), 'c'
	FROM catalog_sale JOIN customer ON c_id = customer JOIN day ON d_id = day
	GROUP BY c_code, c_name, c_country, d_year
	UNION ALL
	SELECT c_code, c_name, c_country, d_year, sum(quantity * list_price), 'w'
	FROM web_sale JOIN customer ON c_id = customer JOIN day ON d_id = day
	GROUP BY c_code, c_name, c_country, d_year)
SELECT s2.code, s2.name, s2.country
FROM year_total s1, year_total s2, year_total c1, year_total c2, year_total w1, year_total w2
WHERE s2.code = s1.code AND c1.code = s1.code AND c2.code = s1.code AND w1.code = s1.code AND w2.code = s1.code
	AND s1.channel = 's' AND s2.channel = 's' AND c1.channel = 'c' AND c2.channel = 'c' AND w1.channel = 'w' AND w2.channel = 'w'
	AND s1.year = 2000 AND s2.year = 2001 AND c1.year = 2000 AND c2.year = 2001 AND w1.year = 2000 AND w2.year = 2001
	AND s1.total > 0 AND c1.total > 0 AND w1.total > 0
	AND c2.total / c1.total > s2.total / s1.total
	AND c2.total / c1.total > w2.total / w1.total
