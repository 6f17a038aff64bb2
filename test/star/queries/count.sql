-- A bare count.
SELECT count(*) FROM sale
