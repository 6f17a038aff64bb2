# shellcheck shell=bash
# How long after its commit a change is visible in a view, while pgbench's
# load commits 500 times a second.  A session of its own changes an account
# that nobody else touches, commits, and looks at the view until it is there.

pgbench -q -i -s 10
query <<'SQL'
INSERT INTO pgbench_accounts VALUES (0, 0, 0, '');
CREATE INCREMENTAL VIEW totals AS
	SELECT bid, count(*), sum(abalance) AS balance FROM pgbench_accounts GROUP BY bid;
CREATE TABLE latency (round int, ms float8);
CREATE PROCEDURE probe(round int, finish timestamptz) LANGUAGE plpgsql AS $$
DECLARE
	i int := 0;
	committed timestamptz;
	latencies float8[] := '{}';
BEGIN
	WHILE clock_timestamp() < finish LOOP
		i := i + 1;
		UPDATE pgbench_accounts SET abalance = i WHERE aid = 0;
		COMMIT;
		committed := clock_timestamp();
		WHILE NOT EXISTS (SELECT FROM totals WHERE bid = 0 AND balance = i) LOOP
			-- no sleep: the shortest one takes a millisecond
		END LOOP;
		latencies := latencies || extract(epoch FROM clock_timestamp() - committed)::float8 * 1000;
		COMMIT;
		PERFORM pg_sleep(0.01 + 0.02 * random());
	END LOOP;
	INSERT INTO latency SELECT round, unnest(latencies);
	UPDATE pgbench_accounts SET abalance = 0 WHERE aid = 0;
	COMMIT;
END
$$;
SQL

medians=()
tails=()
for ((round = 1; round <= rounds; round++)); do
	pgbench -n -c "$clients" -j "$clients" -R 500 -T "$((seconds + 2))" >/dev/null &
	child=$!
	sleep 1
	query -c "CALL probe($round, clock_timestamp() + '$seconds s')"
	wait "$child"
	child=
	query -c 'SELECT ivm.sync()' >/dev/null
	medians+=("$(value "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) FROM latency WHERE round = $round")")
	tails+=("$(value "SELECT percentile_cont(0.99) WITHIN GROUP (ORDER BY ms) FROM latency WHERE round = $round")")
done
samples=$(value 'SELECT count(*) FROM latency')
row "freshness at 500 commits/s, median: ms" "$(median "${medians[@]}")" "<= 3" "$samples commits timed"
row "freshness at 500 commits/s, 99th percentile: ms" "$(median "${tails[@]}")" "<= 30" "$samples commits timed"
