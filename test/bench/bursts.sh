# shellcheck shell=bash
# Draws what an apply worker has of the kernel's memory, and what of it is
# allocated, over ten minutes of bursts of different sizes with rest in between, under
# a budget of 64 MB: doc/bursts.svg.
#
#	BENCH_BURST_SECONDS		default 600

burst_seconds=${BENCH_BURST_SECONDS:-600}
query <"$top/test/memory/join.sql"
query <"$top/test/memory/ten.sql"
query -c "ALTER SYSTEM SET ivm.memory_budget = '64MB'" -c 'SELECT pg_reload_conf()' >/dev/null

PGHOST=$dir PGPORT=5432 PGUSER=postgres PGDATABASE=bench PSQL=$staged_bindir/psql \
	perl "$top/test/memory/sample" -i 100 -o "$dir/points" >"$dir/sample" &
child=$!
RANDOM=1
for ((end = SECONDS + burst_seconds; SECONDS < end; )); do
	query -c "CALL add_facts($(scaled $((1000 << RANDOM % 9))))"
	query -c 'DELETE FROM fact' -c 'VACUUM fact'
	sleep $((RANDOM % 10)).$((RANDOM % 10))
done
query -c "SELECT ivm.sync(timeout => '1 h')" >/dev/null
sleep 5
kill -TERM "$child"
wait "$child" || die "the memory could not be sampled"
child=
query -c 'ALTER SYSTEM RESET ivm.memory_budget' -c 'SELECT pg_reload_conf()' >/dev/null

# the worker that had most; of each half second the largest
worker=$(awk '{ for (i = 6; i < NF; i += 4) if ($(i + 2) > m) { m = $(i + 2); w = $i } } END { print w }' "$dir/points")
curve() # column after the pid
{
	awk -v worker="$worker" -v c="$1" '
		function put() { if (n) printf "%.1f %.3f\n", slice / 2, m / 1048576; m = 0 }
		{ for (i = 6; i < NF; i += 4) if ($i == worker) {
			if (n && int($1 * 2) != slice) put()
			slice = int($1 * 2); n++
			if ($(i + c) > m) m = $(i + c) } }
		END { put() }' "$dir/points"
}
curve 1 >"$dir/allocated"
curve 2 >"$dir/resident"
row "bursts, resident at the end over the peak" \
	"$(awk '{ if ($2 > m) m = $2; last = $2 } END { printf "%.2f", last / m }' "$dir/resident")" "<= 0.2" \
	"$(awk '{ if ($2 > m) m = $2; last = $2 } END { printf "%.1f of %.1f MB", last, m }' "$dir/resident"), $burst_seconds s"
draw bursts "An apply worker under bursts, budget 64 MB" "seconds" "MB" \
	"resident=$dir/resident" "allocated=$dir/allocated"
