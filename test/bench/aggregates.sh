# shellcheck shell=bash
# The time of a batch after one changed row in groups of ten rows, by kind of aggregate, with a table a hundred times
# larger: it must not matter.

small=$(scaled 10000)
large=$(scaled 1000000)

declare -A kinds=(
	[distinct]='count(DISTINCT v), sum(DISTINCT v) FILTER (WHERE v < 50)'
	[bits]='bit_and(v), bit_or(v), bit_xor(v)'
	[replay]="percentile_cont(0.5) WITHIN GROUP (ORDER BY v), string_agg(v::text, ',' ORDER BY v, id)"
	[forward]='max(v), min(v), stddev(v::float8)'
)

make_table() # rows, aggregates
{
	query <<-END
		DROP TABLE IF EXISTS t CASCADE;
		CREATE TABLE t (id int PRIMARY KEY, k int, v int);
		INSERT INTO t SELECT i, i / 10, i % 100 FROM generate_series(0, $1 - 1) i;
		CREATE INDEX ON t (k);
		VACUUM ANALYZE;
		CHECKPOINT;
		CREATE INCREMENTAL VIEW v AS SELECT k, $2 FROM t GROUP BY k;
	END
}

# The mean time of a batch in ms, over changes of one row that come one by one.
batch_time()
{
	query <<-'SQL'
		DO $$
		BEGIN
			FOR i IN 1 .. 300 LOOP
				IF i = 101 THEN
					PERFORM ivm.stat_reset('v');
				END IF;
				UPDATE t SET v = (v * 7 + 1) % 100 WHERE id = i * 31 % 10000;
				COMMIT;
				PERFORM ivm.sync('v');
				COMMIT;
			END LOOP;
		END
		$$;
	SQL
	value "SELECT apply_time / batches FROM pg_stat_ivm WHERE relname = 'v'"
}

for kind in distinct bits replay forward; do
	small_times=()
	large_times=()
	ratios=()
	for ((round = 1; round <= rounds; round++)); do
		make_table "$small" "${kinds[$kind]}"
		small_times+=("$(batch_time)")
	done
	make_table "$large" "${kinds[$kind]}"
	for ((round = 0; round < rounds; round++)); do
		large_times+=("$(batch_time)")
		ratios+=("$(divide "${large_times[round]}" "${small_times[round]}")")
	done
	row "aggregates ($kind), $large over $small rows" "$(median "${ratios[@]}")" "<= 1.5" \
		"ms a batch $(median "${large_times[@]}")/$(median "${small_times[@]}")"
done
