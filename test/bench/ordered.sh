# shellcheck shell=bash
# The time of a batch after one changed row of views of the first rows in an order, of min and max, with tables a
# hundred times larger: it must not matter.  Each change takes the first row, or the largest value, away, or puts
# one in front.  And the fill of such views over that of a plain materialized view.

small=$(scaled 10000)
large=$(scaled 1000000)

make_table() # rows
{
	query <<-END
		DROP TABLE IF EXISTS o CASCADE;
		CREATE TABLE o (id int PRIMARY KEY, g int, x int, s text);
		INSERT INTO o SELECT i, i % 100, (i::bigint * 7919 % $1)::int, md5(i::text) FROM generate_series(0, $1 - 1) i;
		VACUUM ANALYZE o;
		CHECKPOINT;
	END
}

declare -A views=(
	[first]='SELECT id, x, s FROM o ORDER BY x, id LIMIT 10'
	[ties]='SELECT id, x FROM o ORDER BY x FETCH FIRST 10 ROWS WITH TIES'
	[each]='SELECT DISTINCT ON (g) g, x, id FROM o ORDER BY g, x, id'
	[extreme]='SELECT g, min(x), max(x), count(*) FROM o GROUP BY g'
	[index]='SELECT id, s FROM o ORDER BY id LIMIT 10'
	[any]='SELECT id, s FROM o LIMIT 10'
	[median]='SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY x) AS m, percentile_disc(array[0.01, 0.99]) WITHIN GROUP (ORDER BY x) AS p FROM o'
)
declare -A names=([first]='first rows' [ties]='first rows with ties' [each]='DISTINCT ON' [extreme]='min and max'
	[index]='first rows by an index' [any]='rows without an order'
	[median]='percentiles of all rows')

# The change number i, of one row (batch_time).
change='IF i % 2 = 0 THEN
	DELETE FROM o WHERE id = -i + 1;
ELSE
	INSERT INTO o VALUES (-i, i % 100, -i, '\''new'\'');
END IF;'

for shape in first ties each extreme index any median; do
	times=()
	for size in "$small" "$large"; do
		make_table "$size"
		filled=$(seconds_of query -c "CREATE INCREMENTAL VIEW v AS ${views[$shape]}")
		times+=("$(median_batch_time "$change")")
	done
	state=$(value "SELECT pg_size_pretty(coalesce(sum(state_bytes), 0)) FROM pg_stat_ivm_operator WHERE relid = 'v'::regclass")
	# a plain view of these stops at the tenth row
	[ "$shape" != any ] || continue
	query -c "CREATE MATERIALIZED VIEW plain AS ${views[$shape]}"
	plain=$(seconds_of query -c 'REFRESH MATERIALIZED VIEW plain')
	batch_row "${names[$shape]}" "${times[1]}" "${times[0]}" "state $state"
	row "fill of ${names[$shape]} over plain" "$(divide "$filled" "$plain")" "<= 2" "s $filled/$plain"
done
