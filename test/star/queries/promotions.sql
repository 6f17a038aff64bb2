-- What was sold of each item, on average, by promotions that used e-mail or an event.
SELECT i_code, avg(quantity) AS quantity, avg(list_price) AS list_price, avg(coupon) AS coupon, avg(price) AS price
FROM sale
	JOIN item ON i_id = item
	JOIN promotion ON p_id = promotion
	JOIN day ON d_id = day
WHERE (p_email OR p_event) AND d_year = 2000
GROUP BY i_code
