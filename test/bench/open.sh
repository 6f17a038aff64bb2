# shellcheck shell=bash
# Large transactions through an aggregate view, decoded while they are written, under a budget of 64 MB, of which the decoder's share is 4:
# the time from the commit until it is visible over what the transaction itself took; with the processor time of decoder and apply
# workers, and what the server's reorder buffer wrote to files.  Then the decoder's memory at most, over its share, 8 MB and 450 bytes for each
# subtransaction.

share=4
query -c "ALTER SYSTEM SET ivm.memory_budget = '64MB'" -c 'SELECT pg_reload_conf()' >/dev/null
nrows=$(scaled 1000000)
query <<END
CREATE TABLE t (id int, g int, v int, pad text);
CREATE TABLE nobody (id int, g int, v int, pad text);
CREATE INCREMENTAL VIEW totals AS SELECT g, count(*), sum(v) FROM t GROUP BY g;
END

# Statements of many subtransactions.
subtransactions() # table, how many, rows of each
{
	echo "DO \$\$ BEGIN FOR i IN 1..$2 LOOP BEGIN
		INSERT INTO $1 SELECT j, j % 100, 1, 'x' FROM generate_series(1, $3) j;
		EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END \$\$"
}

processes() { value "SELECT pid FROM pg_stat_ivm_worker WHERE worker_type = '$1' ORDER BY pid"; }

# Milliseconds, of all of them.
processor_time()
{
	local pid
	for pid in $1; do
		cat "/proc/$pid/stat"
	done | awk '{ ms += ($14 + $15) * 10 } END { print ms }'
}
sync() { query -c "SELECT ivm.sync('totals', '10 min')"; }
spilled() { value 'SELECT sum(spill_bytes) FROM pg_stat_replication_slots'; }

# open WHAT STATEMENT
open()
{
	local ratios=() detail= round decoder workers before spill own visible

	for ((round = 1; round <= rounds; round++)); do
		query -c 'TRUNCATE t' -c "INSERT INTO t SELECT i, i % 100, 0, 'x' FROM generate_series(1, $nrows) i" -c 'VACUUM t' -c CHECKPOINT
		sync >/dev/null
		sleep 2
		decoder=$(processes decoder)
		workers=$(processes 'apply worker')
		before=($(processor_time "$decoder") $(processor_time "$workers"))
		spill=$(spilled)
		own=$(seconds_of query -c "$2")
		visible=$(seconds_of sync)
		ratios+=("$(divide "$visible" "$own")")
		sleep 1
		spill=$(($(spilled) - spill))
		detail+="${detail:+; }$(printf '%.2f/%.2f s, ms of decoder %d, of apply workers %d' "$visible" "$own" \
			$(($(processor_time "$decoder") - before[0])) $(($(processor_time "$workers") - before[1])))"
		[ "$spill" = 0 ] || detail+=", $spill bytes spilled by the server"
	done
	row "commit to visible, $1" "$(median "${ratios[@]}")" "<= 0.5" "$detail"
}

open "$nrows rows inserted" "INSERT INTO t SELECT i, i % 100, 1, 'x' FROM generate_series(1, $nrows) i"
open "$nrows rows updated" 'UPDATE t SET v = v + 1'
open "$nrows rows in 1000 subtransactions" "$(subtransactions t 1000 $((nrows / 1000)))"

# open_memory WHAT SUBTRANSACTIONS STATEMENT
open_memory()
{
	local decoder sampler most before spill lsn

	# another decoder, as small as at first, which does not decode the last transaction again
	lsn=$(value 'SELECT pg_current_wal_lsn()')
	until [ "$(value "SELECT bool_and(confirmed_flush_lsn >= '$lsn') FROM pg_replication_slots")" = t ]; do
		query -c "SELECT pg_logical_emit_message(true, '', '')" -c 'SELECT ivm.sync()' >/dev/null
		sleep 0.5
	done
	query -c "SELECT pg_terminate_backend($(processes decoder))" >/dev/null
	decoder=
	until [ -n "$decoder" ] && [ "$(value "SELECT state FROM pg_stat_ivm_worker WHERE worker_type = 'decoder'")" = running ]; do
		sleep 0.1
		decoder=$(processes decoder)
	done
	sync >/dev/null
	sleep 1
	spill=$(spilled)
	before=$(processor_time "$decoder")
	perl -MTime::HiRes=usleep -e '$SIG{TERM} = sub { print "$most\n"; exit }; $most = 0;
		for (;;) { open(my $in, "<", "/proc/$ARGV[0]/status") or last; while (<$in>) { $most = $1 if /^RssAnon:\s+(\d+)/ && $1 > $most } usleep(10_000) }' \
		"$decoder" >"$dir/most" &
	sampler=$!
	query -c "$3" >/dev/null
	query -c "SELECT pg_logical_emit_message(true, '', '')" >/dev/null
	sync >/dev/null
	sleep 2
	kill -TERM "$sampler"
	wait "$sampler" || :
	most=$(cat "$dir/most")
	row "decoder's memory, $1" "$(divide "$most" $(((share + 8) * 1024 + $2 * 450 / 1024)))" "<= 1" \
		"MB $(divide "$most" 1024), ms of decoder $(($(processor_time "$decoder") - before)), bytes spilled by the server $(($(spilled) - spill))"
}

for table in t nobody; do
	open_memory "300 subtransactions of 4200 rows, $table" 300 "$(subtransactions "$table" 300 4200)"
	open_memory "40000 of one row, $table" 40000 "$(subtransactions "$table" 40000 1)"
done
[ "$(value "SELECT sum(missing + extra) FROM ivm.verify('totals')")" = 0 ] || die "the view differs from its query"
query -c 'ALTER SYSTEM RESET ivm.memory_budget' -c 'SELECT pg_reload_conf()' >/dev/null
