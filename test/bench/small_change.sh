# shellcheck shell=bash
# The time of a batch after one changed row, with a base table a thousand times
# larger: it must not matter.  The view joins a table of 1,000 rows with ten
# rows each of the large one, found by an index.

small=$(scaled 10000)
large=$(scaled 10000000)

make_table() # rows
{
	query <<-END
		DROP TABLE IF EXISTS t, d CASCADE;
		CREATE TABLE t (id int PRIMARY KEY, k int, v int);
		INSERT INTO t SELECT i, i / 10, i % 100 FROM generate_series(0, $1 - 1) i;
		CREATE INDEX ON t (k);
		CREATE TABLE d (k int PRIMARY KEY, factor int);
		INSERT INTO d SELECT i, 1 FROM generate_series(0, 999) i;
		VACUUM ANALYZE;
		CHECKPOINT;
		CREATE INCREMENTAL VIEW v AS
			SELECT d.k, count(*), sum(t.v * d.factor) FROM d JOIN t ON t.k = d.k GROUP BY d.k;
	END
}

# The change number i, of one row (batch_time).
change='IF i % 2 = 0 THEN
	UPDATE d SET factor = factor + 1 WHERE k = i % 1000;
ELSE
	UPDATE t SET v = v + 1 WHERE id = i % 10000;
END IF;'

small_times=()
large_times=()
ratios=()
for ((round = 1; round <= rounds; round++)); do
	make_table "$small"
	small_times+=("$(batch_time "$change")")
done
make_table "$large"
for ((round = 0; round < rounds; round++)); do
	large_times+=("$(batch_time "$change")")
	ratios+=("$(divide "${large_times[round]}" "${small_times[round]}")")
done
row "small change, $large over $small rows" "$(median "${ratios[@]}")" "<= 1.5" \
	"ms a batch $(divide "$(median "${large_times[@]}")" 1000)/$(divide "$(median "${small_times[@]}")" 1000)"
