# shellcheck shell=bash
# TPC-H (test/tpch): what it takes to bring a refresh of 0.1 % of the orders, the
# two refresh functions in a transaction each, into a view of each query, over
# REFRESH of a plain materialized view of it.  The time is that from each commit until
# the view has it.  One view at a time; each is compared with its query afterwards.
#
# Beside that: rows of the view's tables that come in a second, the size of the view's
# state tables with their indexes over that of the tables that it reads without
# theirs, and the first fill over the query.
#
# The goals are for the views of which no part is recomputed.
#
#	BENCH_TPCH_SCALE	scale, default BENCH_SCALE; 1 has 6,000,000 rows in lineitem
#	BENCH_TPCH_QUERIES	numbers of queries, default all 22
#	BENCH_TPCH_PATIENCE	seconds after which a fill, or a refresh, is given up, default 600

tpch_scale=${BENCH_TPCH_SCALE:-$scale}
patience=${BENCH_TPCH_PATIENCE:-600}

query <<'SQL'
DROP SCHEMA IF EXISTS tpch CASCADE;
SQL
for file in tables generate change; do query <"$top/test/tpch/$file.sql"; done
query -c "CALL tpch.fill($tpch_scale)" -c 'VACUUM ANALYZE'
query <<SQL
CREATE INCREMENTAL VIEW first_of_the_database AS SELECT r_regionkey FROM region;

-- the ms that a statement takes
CREATE FUNCTION tpch.time_of(statement text) RETURNS float8 LANGUAGE plpgsql AS \$\$
DECLARE
	start timestamptz := clock_timestamp();
BEGIN
	EXECUTE statement;
	RETURN 1000 * extract(epoch FROM clock_timestamp() - start);
END
\$\$;

-- the ms until a refresh is in the view
CREATE PROCEDURE tpch.time_refresh(round int, INOUT ms float8) LANGUAGE plpgsql AS \$\$
DECLARE
	start timestamptz;
BEGIN
	CALL tpch.refresh_insert(round);
	COMMIT;
	start := clock_timestamp();
	PERFORM ivm.sync('v', '$patience s');
	ms := 1000 * extract(epoch FROM clock_timestamp() - start);
	COMMIT;
	CALL tpch.refresh_delete(round);
	COMMIT;
	start := clock_timestamp();
	PERFORM ivm.sync('v', '$patience s');
	ms := ms + 1000 * extract(epoch FROM clock_timestamp() - start);
END
\$\$;
SQL

refreshes=0
by_deltas=()

measure_query() # number
{
	local definition name="TPC-H Q$((10#$1))" times=() round plain full fill received refresh sizes kind ratio

	definition=$(sed "s/:scale\b/$tpch_scale/" "$top/test/tpch/queries/$1.sql")
	query -c "CREATE MATERIALIZED VIEW plain AS $definition"
	for ((round = 0; round < rounds; round++)); do
		times+=("$(value "SELECT tpch.time_of('REFRESH MATERIALIZED VIEW plain')")")
	done
	full=$(median "${times[@]}")
	query -c 'DROP MATERIALIZED VIEW plain'
	plain=$(value "SELECT tpch.time_of(\$query\$$definition\$query\$)")

	query -c CHECKPOINT
	fill=$(seconds_of query -c "SET statement_timeout = '$patience s'" -c "CREATE INCREMENTAL VIEW v AS $definition" || :)
	if [ "$(value "SELECT to_regclass('v') IS NULL")" = t ]; then
		row "$name" - "" "given up: cannot be filled in $patience s; the query takes $plain ms"
		return
	fi
	kind=deltas
	[ "$(value "SELECT count(*) FROM ivm.explain('v') AS line WHERE line LIKE '%->  Recompute%'")" = 0 ] || kind=recomputed
	sizes=$(value "SELECT round((SELECT coalesce(sum(pg_total_relation_size(oid)), 0) FROM pg_class
				WHERE relnamespace = 'ivm_state'::regnamespace AND relkind = 'm') /
			(SELECT sum(pg_table_size(refobjid)) FROM (SELECT DISTINCT refobjid FROM pg_depend JOIN pg_rewrite r ON r.oid = objid
				WHERE classid = 'pg_rewrite'::regclass AND refclassid = 'pg_class'::regclass
					AND ev_class = 'v'::regclass AND refobjid <> ev_class) t), 5)")

	times=()
	query -c "SELECT ivm.stat_reset('v')" >/dev/null
	for ((round = 0; round < rounds; round++)); do
		refreshes=$((refreshes + 1))
		refresh=$(value "CALL tpch.time_refresh($refreshes, 0)" || :)
		if [ -z "$refresh" ]; then
			row "$name" - "" "$kind; given up: a refresh takes longer than $patience s; REFRESH takes $full ms"
			query -c 'DROP MATERIALIZED VIEW v'
			return
		fi
		times+=("$refresh")
	done
	received=$(value "SELECT changes_received FROM pg_stat_ivm WHERE relid = 'v'::regclass")
	[ "$(value "SELECT missing + extra FROM ivm.verify('v')")" = 0 ] || die "$name differs from its query"
	query -c 'DROP MATERIALIZED VIEW v'
	sizes="state $sizes of the tables, fill $(awk -v f="$fill" -v q="$plain" 'BEGIN { printf "%.1f", 1000 * f / q }') of the query (s $fill/$(divide "$plain" 1000))"
	if [ "$received" = 0 ]; then
		row "$name" - "" "$kind; a refresh changes none of its tables; $sizes"
		return
	fi

	refresh=$(median "${times[@]}")
	ratio=$(divide "$refresh" "$full")
	[ $kind = recomputed ] || by_deltas+=("$ratio")
	row "$name" "$ratio" "" "$kind; ms $refresh/$full, rows a second $(printf '%s\n' "${times[@]}" |
		awk -v n="$received" '{ t += $1 } END { printf "%.0f", 1000 * n / t }'), $sizes"
}

for number in ${BENCH_TPCH_QUERIES:-$(seq 22)}; do
	measure_query "$(printf %02d "$((10#$number))")"
done
if [ ${#by_deltas[@]} -gt 0 ]; then
	row "TPC-H, refresh over REFRESH: geometric mean" "$(printf '%s\n' "${by_deltas[@]}" |
		awk '{ s += log($1) } END { printf "%.4f", exp(s / NR) }')" "<= 0.02" "${#by_deltas[@]} queries by deltas, scale $tpch_scale"
	row "TPC-H, refresh over REFRESH: the worst" "$(printf '%s\n' "${by_deltas[@]}" | sort -g | tail -n 1)" "<= 0.1" \
		"${#by_deltas[@]} queries by deltas, scale $tpch_scale"
fi
query -c 'DROP SCHEMA tpch CASCADE'
