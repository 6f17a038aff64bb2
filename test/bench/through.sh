# shellcheck shell=bash
# The time of a batch after one changed row of a view over joined groups, and of one over five levels
# of joins, groups and unions that are looked up in one another, with tables a hundred times
# larger: it must not matter.  Nothing is stored but the groups, whose size is told.

small=$(scaled 10000)
large=$(scaled 1000000)

make_tables() # rows
{
	query <<-END
		DROP TABLE IF EXISTS a, b, c CASCADE;
		CREATE TABLE a (id int PRIMARY KEY, k int, v int);
		CREATE TABLE b (id int PRIMARY KEY, k int, v int);
		CREATE TABLE c (id int PRIMARY KEY, a_id int, v int);
		INSERT INTO a SELECT i, i / 10, i % 100 FROM generate_series(0, $1 - 1) i;
		INSERT INTO b SELECT i, i / 10, i % 100 FROM generate_series(0, $1 - 1) i;
		INSERT INTO c SELECT i, i, i % 100 FROM generate_series(0, $1 - 1) i;
		CREATE INDEX ON a (k);
		CREATE INDEX ON b (k);
		CREATE INDEX ON c (a_id);
		VACUUM ANALYZE;
		CHECKPOINT;
	END
}

declare -A views=(
	[groups]='SELECT a.id, g.n, g.s FROM a JOIN (SELECT k, count(*) AS n, sum(v) AS s FROM b GROUP BY k) g USING (k)'
	[nest]='WITH j1 AS MATERIALIZED (SELECT a.id, a.k, c.v FROM a JOIN c ON c.a_id = a.id),
		j2 AS MATERIALIZED (SELECT j1.id, j1.k, b.v FROM j1 JOIN b ON b.id = j1.id UNION ALL SELECT id, k, v FROM b),
		j3 AS MATERIALIZED (SELECT k, count(*) AS n, sum(v) AS s FROM j2 GROUP BY k),
		j4 AS MATERIALIZED (SELECT j3.k, j3.n, j1.v FROM j3 JOIN j1 ON j1.id = j3.k)
		SELECT j2.id, j2.v, j4.n, j4.v AS w FROM j2 JOIN j4 ON j4.k = j2.k'
)

# The change number i, of one row (batch_time).
change='IF i % 2 = 0 THEN
	UPDATE a SET v = v + 1, k = (k + 1) % 1000 WHERE id = i * 7;
ELSE
	UPDATE b SET v = v + 1 WHERE id = i * 11;
END IF;'

declare -A names=([groups]='lookups in groups' [nest]='lookups five deep')
for shape in groups nest; do
	times=()
	for size in "$small" "$large"; do
		make_tables "$size"
		query -c "CREATE INCREMENTAL VIEW v AS ${views[$shape]}"
		times+=("$(median_batch_time "$change")")
		state=$(value "SELECT pg_size_pretty(sum(state_bytes)) FROM pg_stat_ivm_operator WHERE relid = 'v'::regclass")
	done
	batch_row "${names[$shape]}" "${times[1]}" "${times[0]}" "state $state"
done
