# shellcheck shell=bash
# Loads that are larger than the memory budget, with the views of test/memory: one
# transaction through a three-way join into an aggregate (a), a key that all rows of
# both sides have (b), into an aggregate and as it is, and ten views that all get (a)
# at once (c).  Two apply workers.
#
# Meanwhile test/memory/sample looks at the memory every 10 ms from outside and
# repeats a query in another session.  "held" is the most that arenas and delta log
# had, over the budget; "kept" is what the process that grew most has of the kernel's memory
# 5 s after the last row was applied, above what it had at the beginning, in MB;
# "others" is the longest that the query took, in ms.  A view that differs from its
# query, or a process that ended, ends all.
#
#	BENCH_JOIN_ROWS		rows of (a), default 5,000,000
#	BENCH_SKEW_ROWS		rows on each side of (b), default 10,000
#	BENCH_PRODUCT_ROWS	the same without aggregate, default 2,000
#	BENCH_FORCED_ROWS	rows of (a) where files are forced, default 100,000

join_rows=${BENCH_JOIN_ROWS:-$(scaled 5000000)}
skew_rows=${BENCH_SKEW_ROWS:-$(scaled 10000)}
product_rows=${BENCH_PRODUCT_ROWS:-$(scaled 2000)}
forced_rows=${BENCH_FORCED_ROWS:-$(scaled 100000)}

sync() { query -c "SELECT ivm.sync(timeout => '2 h')" >/dev/null; }

set_budget() # as a value of ivm.memory_budget
{
	query -c "ALTER SYSTEM SET ivm.memory_budget = '$1'" -c 'SELECT pg_reload_conf()' >/dev/null
	until [ "$(value "SELECT budget_bytes = pg_size_bytes('$1') FROM pg_stat_ivm_memory")" = t ]; do
		sleep 0.05
	done
}

force() # kinds of files
{
	query -c "ALTER SYSTEM SET ivm.debug_spill = '$1'" -c 'SELECT pg_reload_conf()' >/dev/null
}

make_views() # file of test/memory ...
{
	local file

	fresh_start
	# what the processes are guaranteed depends on the budget, and leaves no room for a builder
	set_budget 64MB
	for file in "$@"; do query <"$top/test/memory/$file.sql"; done
	sync
}

# The kernel's word: "pid bytes" of each decoder and apply worker.
anonymous()
{
	local pid

	for pid in $(value "SELECT pid FROM pg_stat_ivm_worker WHERE worker_type IN ('decoder', 'apply worker')"); do
		awk -v pid="$pid" '/^Anonymous:/ { print pid, $2 * 1024 }' "/proc/$pid/smaps_rollup"
	done
}

# Each view against its query, as multisets and both ways.
require_exact()
{
	local view query differ

	for view in $(value "SELECT relid::regclass FROM pg_stat_ivm"); do
		query=$(value "SELECT rtrim(pg_get_viewdef('$view'), ';')")
		differ=$(value "WITH wanted AS NOT MATERIALIZED ($query)
			SELECT (SELECT count(*) FROM (TABLE wanted EXCEPT ALL TABLE $view) m) +
				(SELECT count(*) FROM (TABLE $view EXCEPT ALL TABLE wanted) e)")
		[ "$differ" = 0 ] || die "$view differs from its query in $differ rows"
	done
	[ "$(value "SELECT count(*) FROM pg_stat_ivm WHERE state <> 'active' OR rebuilds > 0")" = 0 ] ||
		die "a view is not active, or was rebuilt"
}

# sampled NAME STATEMENT: runs it, waits until all views have it, and adds rows to the table.
# Sets drain to the seconds from the commit on.
sampled()
{
	local spills

	anonymous | sort >"$dir/before"
	spills=$(value 'SELECT spills FROM pg_stat_ivm_memory')
	PGHOST=$dir PGPORT=5432 PGUSER=postgres PGDATABASE=bench PSQL=$staged_bindir/psql \
		perl "$top/test/memory/sample" -q 'SELECT count(*) FROM pg_class' >"$dir/sample" &
	child=$!
	query -c "$2"
	drain=$(seconds_of sync)
	kill -TERM "$child"
	wait "$child" || die "the memory could not be sampled"
	child=
	spills=$(($(value 'SELECT spills FROM pg_stat_ivm_memory') - spills))

	sleep 5
	anonymous | sort >"$dir/after"
	kept=$(join "$dir/before" "$dir/after" | awk '{ d = ($3 - $2) / 1048576; if (NR == 1 || d > m) m = d } END { printf "%.1f", m }')
	[ "$(join "$dir/before" "$dir/after" | wc -l)" = "$(wc -l <"$dir/before")" ] || die "a process has ended"
	require_exact
	! grep -q -E 'terminated by signal|PANIC:' "$dir/log" || die "a process was killed"

	# shellcheck disable=SC2046
	local $(cat "$dir/sample")
	row "$1: held" "$(divide "$largest_held" "$budget")" "<= 1" \
		"$((largest_held / 1048576)) MB of $((budget / 1048576)), ${drain%??} s, $spills spills, $samples samples"
	row "$1: kept, MB" "$kept" "<= 8" "workers had $((largest_kernel / 1048576)) MB more meanwhile"
	row "$1: others, ms" "$longest_query" "<= 1000" "$queries queries"
}

# all_loads NAME ROWS SKEW PRODUCT
all_loads()
{
	sampled "$1 (a)" "CALL add_facts($2)"
	sampled "$1 (b)" "CALL add_skew($3)"
	sampled "$1 (b) rows" "CALL add_product($4)"
}

drains=()
for memory in 4GB 64MB; do
	make_views join skew
	set_budget $memory
	sampled "$memory (a)" "CALL add_facts($join_rows)"
	drains+=("$drain")
done
row "(a) under 64 MB over under 4 GB: seconds" "$(divide "${drains[1]}" "${drains[0]}")" "<= 3" "${drains[1]}/${drains[0]}"
sampled "64MB (b)" "CALL add_skew($skew_rows)"
sampled "64MB (b) rows" "CALL add_product($product_rows)"
make_views join ten
sampled "64MB (c)" "CALL add_facts($join_rows)"

make_views join skew
guaranteed=$(value 'SELECT guaranteed_bytes / 1024 FROM pg_stat_ivm_memory')
set_budget "${guaranteed}kB"
all_loads "guaranteed $((guaranteed / 1024)) MB" "$join_rows" "$skew_rows" "$product_rows"

make_views join ten skew
for kind in log zset aggregate lookup output; do
	force $kind
	all_loads "files for $kind" "$forced_rows" $((skew_rows / 20 + 1)) $((product_rows / 10 + 1))
done
query -c 'ALTER SYSTEM RESET ivm.debug_spill' -c 'ALTER SYSTEM RESET ivm.memory_budget' -c 'SELECT pg_reload_conf()' >/dev/null
