# shellcheck shell=bash
# What the views cost the sessions that write: pgbench's TPC-B load with two
# views over its accounts, over the same load without any view and with the
# default replica identity.  The processes that maintain the views share the
# cores with the load.

pgbench -q -i -s 10

load()
{
	query -c 'TRUNCATE pgbench_history' -c 'VACUUM pgbench_branches, pgbench_tellers' -c CHECKPOINT
	pgbench -n -c "$clients" -j "$clients" -T "$seconds" | awk '/^tps/ { print $3 }'
}

make_views()
{
	query <<-'END'
		CREATE INCREMENTAL VIEW totals AS
			SELECT bid, count(*), sum(abalance) FROM pgbench_accounts GROUP BY bid;
		CREATE INCREMENTAL VIEW branch_totals AS
			SELECT b.bid, count(*), sum(a.abalance)
			FROM pgbench_accounts a JOIN pgbench_branches b ON b.bid = a.bid GROUP BY b.bid;
	END
}

drop_views()
{
	query <<-'END'
		DROP MATERIALIZED VIEW totals, branch_totals;
		ALTER TABLE pgbench_accounts REPLICA IDENTITY DEFAULT;
		ALTER TABLE pgbench_branches REPLICA IDENTITY DEFAULT;
	END
}

for commit in on off; do
	query -c "ALTER DATABASE bench SET synchronous_commit = $commit"
	ratios=()
	detail=
	for ((round = 1; round <= rounds; round++)); do
		without=$(load)
		make_views
		with=$(load)
		query -c 'SELECT ivm.sync()' >/dev/null
		drop_views
		ratios+=("$(divide "$with" "$without")")
		detail+="${detail:+, }${with%.*}/${without%.*}"
	done
	row "free writes, synchronous_commit $commit: tps" "$(median "${ratios[@]}")" ">= 0.8" "tps $detail"
done
query -c "ALTER DATABASE bench RESET synchronous_commit"
