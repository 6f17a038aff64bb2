# shellcheck shell=bash
# What the measurements of memory share; to be read by them.
#
# Meanwhile test/memory/sample looks at the memory every 10 ms from outside and
# repeats a query in another session.  "held" is the most that arenas and delta log
# had, over the budget; "kept" is what the process that grew most has of the kernel's memory
# 5 s after the last row was applied, above what it had at the beginning, in MB;
# "others" is the longest that the query took, in ms.  A view that differs from its
# query, or a process that ended, ends all.

sync() { query -c "SELECT ivm.sync(timeout => '2 h')" >/dev/null; }

set_budget() # as a value of ivm.memory_budget
{
	query -c "ALTER SYSTEM SET ivm.memory_budget = '$1'" -c 'SELECT pg_reload_conf()' >/dev/null
	until [ "$(value "SELECT budget_bytes = pg_size_bytes('$1') FROM pg_stat_ivm_memory")" = t ]; do
		sleep 0.05
	done
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
