# shellcheck shell=bash
# Dashboards over a star schema (test/star): rows of the fact table that get into a
# view in a second, in batches of 1,000, each view alone.  The time is that
# from the commit of 1,000 rows until the view has them.  Beside it the rows that can
# be decoded in a second, with the result thrown away (pgoutput without a table
# in its publication).  Each view is loaded for BENCH_SECONDS at most.

sales=$(scaled 1000000)
batches=$(scaled 100)

query <<'SQL'
DROP SCHEMA IF EXISTS star CASCADE;
SQL
query <"$top/test/star/tables.sql"
query -c "CALL star.fill($sales)" -c 'VACUUM ANALYZE'
query <<'SQL'
CREATE PUBLICATION nothing;
CREATE INCREMENTAL VIEW first_of_the_database AS SELECT s_id FROM store;

-- Sells 1,000 rows at a time, and waits until they are in the view.
CREATE PROCEDURE star.load(batches int, seconds float8, INOUT number bigint, INOUT loaded bigint, INOUT ms float8) LANGUAGE plpgsql AS $$
DECLARE
	start timestamptz;
BEGIN
	FOR i IN 1 .. batches LOOP
		EXIT WHEN ms > 1000 * seconds;
		CALL star.sell(number, number + 999);
		number := number + 1000;
		COMMIT;
		start := clock_timestamp();
		PERFORM ivm.sync('v', '10 min');
		ms := ms + 1000 * extract(epoch FROM clock_timestamp() - start);
		loaded := loaded + 1000;
		COMMIT;
	END LOOP;
END
$$;
SQL

sold=$sales
measure_dashboard() # name
{
	local applied=() decoded=() round loaded ms kind alone

	query -c "CREATE INCREMENTAL VIEW v AS $(cat "$top/test/star/queries/$1.sql")"
	kind=deltas
	[ "$(value "SELECT count(*) FROM ivm.explain('v') AS line WHERE line LIKE '%->  Recompute%'")" = 0 ] || kind=recomputed
	# what the first rows bring with them: caches, and whether the view is slow
	IFS='|' read -r sold loaded ms < <(value "CALL star.load(3, 10, $((sold + 1)), 0, 0)")
	for ((round = 0; round < rounds; round++)); do
		query -c "SELECT pg_create_logical_replication_slot('discard', 'pgoutput')" >/dev/null
		IFS='|' read -r sold loaded ms < <(value "CALL star.load($batches, $seconds, $((sold + 1)), 0, 0)")
		applied+=("$(awk -v n="$loaded" -v t="$ms" 'BEGIN { printf "%.0f", 1000 * n / t }')")
		alone=$(value "WITH start AS MATERIALIZED (SELECT clock_timestamp() AS time),
				changes AS MATERIALIZED (SELECT count(*) AS n FROM start, LATERAL pg_logical_slot_get_binary_changes('discard', NULL,
					CASE WHEN time IS NULL THEN 1 END, 'proto_version', '1', 'publication_names', 'nothing') AS c)
			SELECT extract(epoch FROM clock_timestamp() - time) FROM start, changes WHERE n >= 0")
		query -c "SELECT pg_drop_replication_slot('discard')" >/dev/null
		decoded+=("$(divide "$loaded" "$alone")")
	done
	[ "$(value "SELECT missing + extra FROM ivm.verify('v')")" = 0 ] || die "dashboard \"$1\" differs from its query"
	query -c 'DROP MATERIALIZED VIEW v'
	row "star schema, $1: rows a second" "$(printf '%.0f' "$(median "${applied[@]}")")" "" \
		"$kind; decoding alone $(printf '%.0f' "$(median "${decoded[@]}")")"
}

for dashboard in count half_hours promotions brands growth; do
	measure_dashboard $dashboard
done
query -c 'DROP SCHEMA star CASCADE'
