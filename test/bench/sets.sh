# shellcheck shell=bash
# Set operations and grouping sets: the time of a batch after one changed row, with tables a hundred
# times larger (it must not matter); and the first fill, over that of a plain materialized view.

small=$(scaled 10000)
large=$(scaled 1000000)

make_tables() # rows
{
	query <<-END
		DROP TABLE IF EXISTS l, r CASCADE;
		CREATE TABLE l (id int PRIMARY KEY, k int, g int, v int);
		CREATE TABLE r (id int PRIMARY KEY, k int, g int, v int);
		ALTER TABLE l REPLICA IDENTITY FULL;
		ALTER TABLE r REPLICA IDENTITY FULL;
		INSERT INTO l SELECT i, i / 2, i % 100, i % 1000 FROM generate_series(0, $1 - 1) i;
		INSERT INTO r SELECT i, i / 3, i % 100, i % 1000 FROM generate_series(0, $1 - 1) i;
		CREATE INDEX ON l (k);
		VACUUM ANALYZE;
		CHECKPOINT;
	END
}

declare -A views=(
	[union]='SELECT k, v FROM l UNION SELECT k, v FROM r'
	[intersect]='SELECT k FROM l INTERSECT SELECT k FROM r'
	[except_all]='SELECT k FROM l EXCEPT ALL SELECT k FROM r'
	[nested]='SELECT l.id, d.k FROM l JOIN (SELECT k FROM l INTERSECT ALL (SELECT k FROM r EXCEPT SELECT v FROM l)) d USING (k)'
	[rollup]='SELECT g, v, count(*), sum(k) FROM l GROUP BY ROLLUP (g, v)'
	[cube]='SELECT g, v % 10 AS w, id % 10 AS x, count(*), avg(k), grouping(g) FROM l GROUP BY CUBE (g, v % 10, id % 10)'
)
order='union intersect except_all nested rollup cube'

# The change number i, of one row (batch_time).
change='IF i % 2 = 0 THEN
	UPDATE l SET v = (v + 1) % 1000, k = k + 7 WHERE id = i * 7;
ELSE
	UPDATE l SET k = k + 1, g = (g + 1) % 100 WHERE id = i * 11;
END IF;'

declare -A times=() fills=() states=()
for size in "$small" "$large"; do
	make_tables "$size"
	query -c 'CREATE INCREMENTAL VIEW first_of_the_database AS SELECT id FROM r WHERE id < 0'
	for shape in $order; do
		measured=()
		for ((round = 0; round < rounds; round++)); do
			if [ "$size" = "$large" ]; then
				query -c CHECKPOINT
				index=
				case $shape in
				union) index='CREATE UNIQUE INDEX ON m (k, v)' ;;
				intersect) index='CREATE UNIQUE INDEX ON m (k)' ;;
				esac
				plain=$(seconds_of query -c "CREATE MATERIALIZED VIEW m AS ${views[$shape]}" -c "$index")
				query -c 'DROP MATERIALIZED VIEW m' -c CHECKPOINT
				ours=$(seconds_of query -c "CREATE INCREMENTAL VIEW v AS ${views[$shape]}")
				fills[$shape]+=" $(divide "$ours" "$plain")"
			else
				query -c "CREATE INCREMENTAL VIEW v AS ${views[$shape]}"
			fi
			measured+=("$(batch_time "$change")")
			states[$shape]=$(value "SELECT pg_size_pretty(sum(state_bytes)) FROM pg_stat_ivm_operator WHERE relid = 'v'::regclass")
			query -c 'DROP MATERIALIZED VIEW v'
		done
		times[$shape]+=" $(median "${measured[@]}")"
	done
done
for shape in $order; do
	# shellcheck disable=SC2086
	set -- ${times[$shape]}
	batch_row "${shape/_/ }" "$2" "$1" "state ${states[$shape]}"
	# shellcheck disable=SC2086
	row "${shape/_/ }, population of $large rows" "$(median ${fills[$shape]})" "<= 2" "ratios${fills[$shape]}"
done
