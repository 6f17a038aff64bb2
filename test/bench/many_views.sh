# shellcheck shell=bash
# A thousand views over twenty tables: how long it takes to make them, what an idle one takes
# in memory, what a commit costs that concerns none of them, whom a commit to one table
# wakes, and when a commit that concerns all is in all.  The commits that concern none are compared with those in a database of
# one view, in turn.

many=$(scaled 1000)
tables=20

query <<SQL
CREATE TABLE elsewhere (id int PRIMARY KEY, v int);
INSERT INTO elsewhere VALUES (1, 0);
DO \$\$
BEGIN
	FOR t IN 0 .. $tables - 1 LOOP
		EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY, a int, b int, c text, r int)', t);
		EXECUTE format('INSERT INTO t%s SELECT i, i %% 10, i %% 100, ''x'' || i %% 7, i * 7 %% 200 + 1 '
			'FROM generate_series(1, 200) i', t);
	END LOOP;
END
\$\$;
SQL

# CREATE statements of some views, of seven shapes.
view_statements() # from, to
{
	local i t u v
	for ((i = $1; i <= $2; i++)); do
		t=t$((i % tables)) u=t$(((i * 7 + 3) % tables)) v=t$(((i * 11 + 5) % tables))
		echo "CREATE INCREMENTAL VIEW v$i AS"
		case $((i % 7)) in
		0) echo "SELECT id, a, b FROM $t WHERE b > $((i % 50));" ;;
		1) echo "SELECT x.id, x.a, y.c, y.id AS y FROM $t x JOIN $u y ON y.id = x.r WHERE x.b > $((i % 30));" ;;
		2) echo "SELECT a, count(*) AS n, sum(b) AS s FROM $t GROUP BY a;" ;;
		3) echo "SELECT y.a, count(*) AS n, sum(x.b) AS s, avg(x.b) AS v FROM $t x JOIN $u y ON y.id = x.r GROUP BY y.a;" ;;
		4) echo "SELECT DISTINCT a, c FROM $t;" ;;
		5) echo "SELECT id, a FROM $t WHERE b < 50 UNION ALL SELECT id, b FROM $u WHERE a < 50;" ;;
		6) echo "SELECT x.id, y.id AS y, z.id AS z, z.c FROM $t x JOIN $u y ON y.id = x.r JOIN $v z ON z.id = y.r;" ;;
		esac
	done
}

# Our processes of a database, and the launcher.
pids() # database
{
	value "SELECT pid FROM pg_stat_ivm_worker WHERE datname = '$1' OR worker_type = 'launcher'"
}

# kB that the kernel has given to them and nobody shares, when nothing has changed for three seconds.
private_memory()
{
	local sum last=-1 equal=0 pid database=bench
	while [ "$equal" -lt 30 ]; do
		sum=0
		for pid in $(pids "$database"); do
			sum=$((sum + $(awk '/^Anonymous:/ { print $2 }' "/proc/$pid/smaps_rollup" 2>/dev/null || echo 0)))
		done
		if [ "$sum" = "$last" ]; then equal=$((equal + 1)); else equal=0; fi
		last=$sum
		sleep 0.1
	done
	echo "$sum"
}

# CPU that they have used, in 10 ms.
cpu_ticks() # database
{
	local sum=0 pid database=$1
	for pid in $(pids "$database"); do
		sum=$((sum + $(awk '{ print $14 + $15 }' "/proc/$pid/stat" 2>/dev/null || echo 0)))
	done
	echo "$sum"
}

echo 'UPDATE elsewhere SET v = v + 1 WHERE id = 1;' >"$dir/elsewhere.sql"
[ "$(id -u)" != 0 ] || chown "$server_user" "$dir/elsewhere.sql"

# many short turns: what else the machine does then concerns both
turn=$(((seconds + 3) / 4))

# Sets "ms", of a commit that concerns no view, and "ticks" for 1,000 of them.
unconcerned() # database
{
	local before after commits
	cluster_psql "$dir" -q -d "$1" -c 'VACUUM elsewhere'
	before=$(cpu_ticks "$1")
	commits=$(PGOPTIONS='-c synchronous_commit=off' PGHOST=$dir PGPORT=5432 PGUSER=postgres as_server_user \
		"$staged_bindir/pgbench" -n -c 1 -T "$turn" -f "$dir/elsewhere.sql" "$1" 2>>"$dir/messages" |
		sed -n 's/^number of transactions actually processed: \([0-9]*\).*/\1/p')
	after=$(cpu_ticks "$1")
	ms=$(divide "$((turn * 1000))" "$commits")
	ticks=$(divide "$(((after - before) * 1000))" "$commits")
}

cluster_psql "$dir" -q -d postgres -c 'CREATE DATABASE one'
{
	echo 'CREATE EXTENSION ivm_ext; CREATE TABLE elsewhere (id int PRIMARY KEY, v int);'
	echo 'INSERT INTO elsewhere VALUES (1, 0); CREATE TABLE t (id int PRIMARY KEY, a int);'
	echo 'CREATE INCREMENTAL VIEW v AS SELECT a, count(*) FROM t GROUP BY a;'
} | cluster_psql "$dir" -q -d one 2>>"$dir/messages"

# each shape once, so that catalogs are cached
view_statements 1 20 | query
query -c 'SELECT ivm.sync()' >/dev/null
base=$(private_memory)
view_statements 21 "$many" >"$dir/views.sql"
created=$(seconds_of query -f - <"$dir/views.sql")
row "$many views made: s for each 1,000" "$(median "$(divide "$created" "$((many - 20))e-3")")" "<= 30" "$created s for all but 20"
query -c 'SELECT ivm.sync()' >/dev/null
memory=$(private_memory)
row "memory of an idle view, of $many: kB" "$(median "$(divide "$((memory - base))" "$((many - 20))")")" "<= 64" \
	"$memory kB with $many, $base kB with 20 views"

many_times=() many_ticks=() one_times=() one_ticks=() ratios=()
for ((round = 0; round < rounds * 4; round++)); do
	unconcerned bench
	many_times+=("$ms")
	many_ticks+=("$ticks")
	unconcerned one
	one_times+=("$ms")
	one_ticks+=("$ticks")
	ratios+=("$(divide "${many_times[round]}" "${one_times[round]}")")
done
row "commit that concerns no view, $many over 1 view" "$(median "${ratios[@]}")" "<= 1.1" \
	"us $(median "${many_times[@]/%/e3}")/$(median "${one_times[@]/%/e3}"), CPU of ours $(median "${many_ticks[@]/%/e1}")/$(median "${one_ticks[@]/%/e1}")"
cluster_psql "$dir" -q -d one -c 'DROP EXTENSION ivm_ext CASCADE' 2>>"$dir/messages"
cluster_psql "$dir" -q -d postgres -c 'DROP DATABASE one'

# One commit to each table in turn, and the batches that views have had.
ratios=()
for ((round = 0; round < tables; round++)); do
	before=$(value 'SELECT sum(batches) FROM pg_stat_ivm')
	query -c "UPDATE t$round SET b = b + 1 WHERE id = 1" -c 'SELECT ivm.sync()' >/dev/null
	readers=$(value "SELECT count(DISTINCT r.ev_class) FROM pg_rewrite r JOIN pg_depend d
		ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid WHERE d.refobjid = 't$round'::regclass")
	ratios+=("$(divide "$(($(value 'SELECT sum(batches) FROM pg_stat_ivm') - before))" "$readers")")
done
row "views with a batch over readers of the table" "$(median "${ratios[@]}")" "<= 1" \
	"a commit to each of $tables tables, $readers readers of the last"

# One commit to all tables: until it is in all views, which rest before it.
times=()
for ((round = 0; round < rounds; round++)); do
	private_memory >/dev/null
	sleep 5
	{
		echo 'BEGIN;'
		for ((t = 0; t < tables; t++)); do echo "UPDATE t$t SET b = b + 1, a = (a + 1) % 10;"; done
		echo 'COMMIT;'
	} | query
	times+=("$(seconds_of query -c 'SELECT ivm.sync()')")
done
row "one commit to all tables, in $many views after: s" "$(median "${times[@]}")" "<= 2" \
	"every row of each table; ${times[*]}"

started=$EPOCHREALTIME
for ((view = 1; view <= many; view++)); do
	echo "DROP MATERIALIZED VIEW v$view;"
done | query
echo "    $many views dropped in $(awk -v a="$started" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f\n", b - a }') s"
