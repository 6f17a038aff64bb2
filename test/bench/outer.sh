# shellcheck shell=bash
# The time of a batch after one changed row of views over joins that keep rows without a match or ask
# for one, alone and in one another, with tables a hundred times larger: it must not matter.  It grows with the
# rows that have the key of the changed one (ten here).  Nothing is stored.

small=$(scaled 10000)
large=$(scaled 1000000)

make_tables() # rows
{
	query <<-END
		DROP TABLE IF EXISTS a, b, c CASCADE;
		CREATE TABLE a (id int PRIMARY KEY, k int, v int);
		CREATE TABLE b (id int PRIMARY KEY, k int, v int);
		CREATE TABLE c (id int PRIMARY KEY, k int, v int);
		INSERT INTO a SELECT i, i / 10, i % 100 FROM generate_series(0, $1 - 1) i;
		INSERT INTO b SELECT i, i / 10 * 2, i % 100 FROM generate_series(0, $1 - 1) i;
		INSERT INTO c SELECT i, i / 5 * 3, i % 100 FROM generate_series(0, $1 - 1) i;
		CREATE INDEX ON a (k);
		CREATE INDEX ON b (k);
		CREATE INDEX ON c (k);
		VACUUM ANALYZE;
		CHECKPOINT;
	END
}

shapes=('left join' 'full join' 'semi join' 'anti join, residual' 'outer joins, nested')
declare -A views=(
	['left join']='SELECT a.id, a.v, b.id AS bid, b.v AS bv FROM a LEFT JOIN b ON a.k = b.k'
	['full join']='SELECT k, a.id, b.id AS bid FROM a FULL JOIN b USING (k)'
	['semi join']='SELECT * FROM a WHERE k IN (SELECT k FROM b)'
	['anti join, residual']='SELECT * FROM a WHERE NOT EXISTS (SELECT FROM b WHERE b.k = a.k AND b.v > a.v)'
	['outer joins, nested']='WITH d AS MATERIALIZED (SELECT k, a.id, b.id AS bid FROM a FULL JOIN b USING (k)),
		e AS MATERIALIZED (SELECT d.k, d.id, c.id AS cid FROM d LEFT JOIN c USING (k))
		SELECT c.id, e.id AS eid FROM c LEFT JOIN e ON e.k = c.k
		WHERE NOT EXISTS (SELECT FROM e x WHERE x.cid = c.id AND x.id % 7 = c.v % 7)'
)

# The change number i, of one row (batch_time).
change='IF i % 3 = 0 THEN
	UPDATE a SET v = v + 1, k = (k + 1) % 1000 WHERE id = i * 7;
ELSIF i % 3 = 1 THEN
	UPDATE b SET v = v + 1, k = (k + 1) % 1000 WHERE id = i * 11;
ELSE
	UPDATE c SET v = v + 1 WHERE id = i * 13;
	UPDATE b SET v = v + 1 WHERE id = i * 13;
END IF;'

declare -A times states
for size in "$small" "$large"; do
	make_tables "$size"
	for shape in "${shapes[@]}"; do
		query -c "CREATE INCREMENTAL VIEW v AS ${views[$shape]}"
		times[$shape $size]=$(median_batch_time "$change")
		states[$shape]=$(value "SELECT pg_size_pretty(coalesce(sum(state_bytes), 0)) FROM pg_stat_ivm_operator WHERE relid = 'v'::regclass")
		query -c 'DROP MATERIALIZED VIEW v'
	done
done
for shape in "${shapes[@]}"; do
	batch_row "$shape" "${times[$shape $large]}" "${times[$shape $small]}" "state ${states[$shape]}"
done
