-- How many sales there were in each half hour, by store and size of the household.
SELECT t_hour, t_minute / 30 AS half, s_name, h_dependents, count(*)
FROM sale
	JOIN time_of_day ON t_id = time_of_day
	JOIN store ON s_id = store
	JOIN household ON h_id = household
GROUP BY t_hour, t_minute / 30, s_name, h_dependents
