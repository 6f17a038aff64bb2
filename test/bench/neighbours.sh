# shellcheck shell=bash
# How old a quick view gets beside one whose batches sleep, recompute for five
# seconds, or fail.  There are four quick ones, so that some sit in the same
# process as the other at first; the oldest of them counts.  A session commits a
# change to their table each ten milliseconds, and looks how old the oldest
# commit is that one of them lacks, without waiting for it: so a stretch in
# which nothing moves counts for as long as it lasts.

query <<'SQL'
CREATE TABLE quick (id int PRIMARY KEY, n int NOT NULL);
INSERT INTO quick VALUES (1, 0);
CREATE INCREMENTAL VIEW quick_1 AS SELECT max(n) AS n FROM quick;
CREATE INCREMENTAL VIEW quick_2 AS SELECT sum(n) AS n FROM quick;
CREATE INCREMENTAL VIEW quick_3 AS SELECT id, n FROM quick;
CREATE INCREMENTAL VIEW quick_4 AS SELECT n, count(*) FROM quick GROUP BY n;
CREATE TABLE age (beside text, ms float8);
CREATE PROCEDURE watch(beside text, seconds float8) LANGUAGE plpgsql AS $$
DECLARE
	finish timestamptz := clock_timestamp() + seconds * interval '1 s';
	i int := (SELECT n FROM quick);
	first int := i;
	seen int;
	committed timestamptz[] := '{}';
	ages float8[] := '{}';
BEGIN
	WHILE clock_timestamp() < finish LOOP
		i := i + 1;
		UPDATE quick SET n = i;
		COMMIT;
		committed := committed || clock_timestamp();
		PERFORM pg_sleep(0.01);
		SELECT min(n) INTO seen FROM (SELECT n FROM quick_1 UNION ALL SELECT n FROM quick_2
			UNION ALL SELECT n FROM quick_3 UNION ALL SELECT n FROM quick_4) q;
		ages := ages || CASE WHEN seen >= i THEN 0
			ELSE extract(epoch FROM clock_timestamp() - committed[seen + 1 - first])::float8 * 1000 END;
		COMMIT;
	END LOOP;
	INSERT INTO age SELECT beside, unnest(ages);
END
$$;

-- They are not what they say, which is what makes them useful here.
CREATE FUNCTION dream(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
	$$ BEGIN PERFORM pg_catalog.pg_sleep(1); RETURN i; END $$;
CREATE FUNCTION work(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
	finish timestamptz := pg_catalog.clock_timestamp() + interval '1 s';
BEGIN
	WHILE pg_catalog.clock_timestamp() < finish LOOP END LOOP;
	RETURN i;
END $$;
CREATE TABLE other (id int GENERATED ALWAYS AS IDENTITY, x int);
SQL

# Repeats a script for another view, from one second after the quick ones begin to be watched: so the
# moment in which nobody knows yet what that one is like counts, too.
watch_beside() # what, name of the other view, script
{
	local what=$1 looks detail

	if [ -n "$2" ]; then
		printf '%s\n' "$3" >"$dir/beside.sql"
		{
			sleep 1
			pgbench -n -c 1 -T "$((seconds - 1))" -f "$dir/beside.sql" >/dev/null
		} &
		child=$!
	fi
	query -c "CALL watch('$what', $seconds)"
	looks=$(value "SELECT count(*) FROM age WHERE beside = '$what'")
	detail="$looks looks"
	if [ -n "$2" ]; then
		wait "$child" || :
		child=
		detail+=$(value "SELECT ', its batches ' || batches || ', errors ' || error_count FROM pg_stat_ivm WHERE relid = '$2'::regclass")
	fi
	row "age $what, 99th percentile: ms" \
		"$(value "SELECT round(percentile_cont(0.99) WITHIN GROUP (ORDER BY ms)::numeric, 1) FROM age WHERE beside = '$what'")" \
		"<= 1000" "$detail"
	row "age $what, at most: ms" \
		"$(value "SELECT round(max(ms)::numeric, 1) FROM age WHERE beside = '$what'")" "<= 1000" "$detail"
}

watch_beside 'alone' '' ''

query -c 'CREATE INCREMENTAL VIEW sleeper AS SELECT id, dream(x) AS x FROM other'
watch_beside 'beside a sleeper' sleeper $'INSERT INTO other (x) VALUES (1);\n\\sleep 500 ms'
query -c 'DROP MATERIALIZED VIEW sleeper' -c 'TRUNCATE other'

query -c 'INSERT INTO other (x) SELECT generate_series(1, 5)' \
	-c 'CREATE INCREMENTAL VIEW recomputed AS SELECT x, work(x) AS y, rank() OVER (ORDER BY x) FROM other'
watch_beside 'beside a recompute' recomputed $'UPDATE other SET x = x + 10;\n\\sleep 500 ms'
query -c 'DROP MATERIALIZED VIEW recomputed' -c 'TRUNCATE other'

query -c 'CREATE INCREMENTAL VIEW failing AS SELECT id, 100 / x AS y FROM other'
watch_beside 'beside a failing one' failing \
	$'INSERT INTO other (x) VALUES (0);\n\\sleep 300 ms\nDELETE FROM other;\nREFRESH MATERIALIZED VIEW failing;'
