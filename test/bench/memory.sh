# shellcheck shell=bash
# Loads that are larger than the memory budget, with the views of test/memory: one
# transaction through a three-way join into an aggregate (a), a key that all rows of
# both sides have (b), into an aggregate and as it is, and ten views that all get (a)
# at once (c).  Two apply workers.
#
# What is measured meanwhile is said in test/memory/sampled.sh.
#
#	BENCH_JOIN_ROWS		rows of (a), default 5,000,000
#	BENCH_SKEW_ROWS		rows on each side of (b), default 10,000
#	BENCH_PRODUCT_ROWS	the same without aggregate, default 2,000
#	BENCH_FORCED_ROWS	rows of (a) where files are forced, default 100,000

join_rows=${BENCH_JOIN_ROWS:-$(scaled 5000000)}
skew_rows=${BENCH_SKEW_ROWS:-$(scaled 10000)}
product_rows=${BENCH_PRODUCT_ROWS:-$(scaled 2000)}
forced_rows=${BENCH_FORCED_ROWS:-$(scaled 100000)}

. "$top/test/memory/sampled.sh"

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
