# shellcheck shell=bash
# How long a backlog takes to get into an aggregate view, over how long it
# takes to decode the same WAL, with enough memory that nothing goes to files, and throw the result away (pgoutput
# without a table in its publication).  The decoder is held while the backlog is made, so
# that both begin at the same place, with the same WAL in the page cache.

updated=$(scaled 1000000)
small=$(scaled 200000)
query <<END
CREATE TABLE t (id int PRIMARY KEY, g int, v int) WITH (fillfactor = 50);
INSERT INTO t SELECT i, i % 100, 0 FROM generate_series(1, $updated) i;
VACUUM ANALYZE t;
CREATE INCREMENTAL VIEW totals AS SELECT g, count(*), sum(v) FROM t GROUP BY g;
CREATE PUBLICATION nothing;
END
cat >"$dir/small.sql" <<END
\set id random(1, $updated)
UPDATE t SET v = v + 1 WHERE id = :id;
END

one_large() { query -c 'UPDATE t SET v = v + 1'; }
many_small()
{
	PGOPTIONS='-c synchronous_commit=off' pgbench -n -M prepared -f "$dir/small.sql" -c "$clients" -j "$clients" \
		-t $((small / clients)) >/dev/null
}
discard()
{
	PGOPTIONS='-c logical_decoding_work_mem=2GB' value "SELECT count(*) FROM pg_logical_slot_get_binary_changes('discard', NULL, NULL,
		'proto_version', '1', 'publication_names', 'nothing')"
}
sync() { query -c "SELECT ivm.sync('totals', '10 min')"; }

# keep_up WHAT COMMAND GOAL
keep_up()
{
	local ratios=() detail= round decoder alone drain

	for ((round = 1; round <= rounds; round++)); do
		query -c 'VACUUM t' -c CHECKPOINT
		sync >/dev/null
		query -c "SELECT pg_create_logical_replication_slot('discard', 'pgoutput')" >/dev/null
		sync >/dev/null
		# it sleeps now, and holds no lock that anybody could wait for
		decoder=$(value "SELECT pid FROM pg_stat_ivm_worker WHERE worker_type = 'decoder'")
		sleep 0.5
		as_server_user kill -STOP "$decoder"
		"$2"
		query -c 'SELECT pg_switch_wal()' >/dev/null
		alone=$(seconds_of discard)
		as_server_user kill -CONT "$decoder"
		drain=$(seconds_of sync)
		query -c "SELECT pg_drop_replication_slot('discard')" >/dev/null
		ratios+=("$(divide "$drain" "$alone")")
		detail+="${detail:+, }$(printf '%.2f/%.2f' "$drain" "$alone")"
	done
	row "$1" "$(median "${ratios[@]}")" "<= $3" "seconds $detail"
}

keep_up "keeping up, $updated rows in one transaction" one_large 1.5
keep_up "keeping up, $small transactions" many_small 1.3
[ "$(value "SELECT sum(missing + extra) FROM ivm.verify('totals')")" = 0 ] || die "the view differs from its query"
