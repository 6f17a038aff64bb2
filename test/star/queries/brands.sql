-- Revenue and the dearest sale of each manufacturer, brand and month.
SELECT i_manufacturer, i_brand, d_year, d_month, sum(price * quantity) AS revenue, max(price) AS dearest
FROM sale
	JOIN item ON i_id = item
	JOIN day ON d_id = day
GROUP BY i_manufacturer, i_brand, d_year, d_month
