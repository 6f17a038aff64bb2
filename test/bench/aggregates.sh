# shellcheck shell=bash
# The time of a batch after one changed row in groups of ten rows, by kind of aggregate, with a table a hundred times
# larger: it must not matter.  With statistics such groups are not stored (keyed); the others are made without.

small=$(scaled 10000)
large=$(scaled 1000000)

declare -A kinds=(
	[distinct]='count(DISTINCT v), sum(DISTINCT v) FILTER (WHERE v < 50)'
	[bits]='bit_and(v), bit_or(v), bit_xor(v)'
	[replay]="percentile_cont(0.5) WITHIN GROUP (ORDER BY v), string_agg(v::text, ',' ORDER BY v, id)"
	[extremes]='max(v), min(v), stddev(v::float8)'
	[keyed]='count(*), sum(v), max(v), stddev(v::float8)'
)

make_table() # rows, kind
{
	local vacuum=VACUUM

	[ "$2" != keyed ] || vacuum='VACUUM ANALYZE'
	query <<-END
		DROP TABLE IF EXISTS t CASCADE;
		CREATE TABLE t (id int PRIMARY KEY, k int, v int);
		INSERT INTO t SELECT i, i / 10, i % 100 FROM generate_series(0, $1 - 1) i;
		CREATE INDEX ON t (k);
		$vacuum;
		CHECKPOINT;
		CREATE INCREMENTAL VIEW v AS SELECT k, ${kinds[$2]} FROM t GROUP BY k;
	END
}

# The change number i, of one row (batch_time).
change='UPDATE t SET v = (v * 7 + 1) % 100 WHERE id = i * 31 % 10000;'

for kind in distinct bits replay extremes keyed; do
	times=()
	for size in "$small" "$large"; do
		make_table "$size" "$kind"
		times+=("$(median_batch_time "$change")")
	done
	batch_row "aggregates ($kind)" "${times[1]}" "${times[0]}"
done
