# shellcheck shell=bash
# What the cache of hot keys gives to a star join: a fact table and three
# dimensions that are indexed, in a view with groups.  Facts are inserted in
# transactions of 1,000, each of which is a batch.  With the cache and without
# take turns; what counts is the time in which batches are applied.

dimension=10000
facts=1000
transactions=$(scaled 60)

query <<SQL
CREATE TABLE d1 (k int PRIMARY KEY, c int, name text);
CREATE TABLE d2 (k int PRIMARY KEY, c int, name text);
CREATE TABLE d3 (k int PRIMARY KEY, c int, name text);
INSERT INTO d1 SELECT i, i % 10, 'number ' || i FROM generate_series(1, $dimension) i;
INSERT INTO d2 SELECT i, i % 10, 'number ' || i FROM generate_series(1, $dimension) i;
INSERT INTO d3 SELECT i, i % 10, 'number ' || i FROM generate_series(1, $dimension) i;
CREATE TABLE f (k1 int, k2 int, k3 int, v int);
CREATE INDEX ON f (k1);
CREATE INDEX ON f (k2);
CREATE INDEX ON f (k3);
VACUUM ANALYZE;
CREATE INCREMENTAL VIEW star AS
	SELECT d1.c AS c1, d2.c AS c2, count(*), sum(f.v * d3.c)
	FROM f JOIN d1 ON d1.k = f.k1 JOIN d2 ON d2.k = f.k2 JOIN d3 ON d3.k = f.k3
	GROUP BY 1, 2;
CREATE PROCEDURE load(transactions int, facts int) LANGUAGE plpgsql AS \$\$
BEGIN
	FOR i IN 1 .. transactions LOOP
		INSERT INTO f SELECT 1 + random() * ($dimension - 1), 1 + random() * ($dimension - 1),
			1 + random() * ($dimension - 1), n % 100 FROM generate_series(1, facts) n;
		COMMIT;
		PERFORM ivm.sync('star', '1 min');
		COMMIT;
	END LOOP;
END
\$\$;
SQL

# The rows a second, with that much memory for the cache.
rows_a_second() # memory
{
	query -c "ALTER SYSTEM SET ivm.cache_memory = '$1'" -c 'SELECT pg_reload_conf()' >/dev/null
	# warms what there is: each key comes
	query -c "CALL load(3, $((dimension * 10)))" -c "SELECT ivm.stat_reset('star')" >/dev/null
	query -c "CALL load($transactions, $facts)"
	value "SELECT 1000 * changes_received / apply_time FROM pg_stat_ivm WHERE relname = 'star'"
}

ratios=()
details=
for ((round = 0; round < rounds; round++)); do
	without=$(rows_a_second 0)
	with=$(rows_a_second 4MB)
	ratios+=("$(divide "$with" "$without")")
	details+="${details:+, }$(printf '%.0f/%.0f' "$with" "$without")"
done
query -c 'ALTER SYSTEM RESET ivm.cache_memory' -c 'SELECT pg_reload_conf()' >/dev/null
row 'star join, with a warm cache over without' "$(median "${ratios[@]}")" '>= 1.5' "rows a second $details"
