# shellcheck shell=bash
# One group, and one order, that are larger than the memory budget of 64 MB: the fill of a view, a batch of one row, and
# one of many.  What is measured meanwhile is said in test/memory/sampled.sh.
#
#	BENCH_GROUP_ROWS	rows of the group, default 5,000,000

group_rows=${BENCH_GROUP_ROWS:-$(scaled 5000000)}
. "$top/test/memory/sampled.sh"

declare -A views=(
	[percentile]='SELECT g, percentile_cont(0.5) WITHIN GROUP (ORDER BY x) AS m FROM large GROUP BY g'
	[mode]='SELECT g, mode() WITHIN GROUP (ORDER BY y) AS m FROM large GROUP BY g'
	[first]='SELECT id, x FROM large ORDER BY x, id LIMIT 10'
	[extreme]='SELECT g, min(x), max(x) FROM large GROUP BY g'
)
for shape in percentile mode first extreme; do
	fresh_start
	query <<-END
		CREATE TABLE large (id int PRIMARY KEY, g int, x float8, y int);
		INSERT INTO large SELECT i, 1, i::bigint * 7919 % 1000003, i % 1009 FROM generate_series(1, $group_rows) i;
		VACUUM ANALYZE large;
		CREATE TABLE other (i int);
		CREATE INCREMENTAL VIEW small AS SELECT count(*) FROM other;
	END
	set_budget 64MB
	sampled "$shape, fill" "CREATE INCREMENTAL VIEW v AS ${views[$shape]}"
	sampled "$shape, one row" 'INSERT INTO large VALUES (0, 1, -1, 0)'
	took=$drain
	sampled "$shape, all of 1/10" 'UPDATE large SET x = x - 2, y = y + 1 WHERE id % 10 = 0'
	row "$shape: seconds for one row" "$took" "<= 0.5" "$drain s for $((group_rows / 10)) rows"
done
query -c 'ALTER SYSTEM RESET ivm.memory_budget' -c 'SELECT pg_reload_conf()' >/dev/null
