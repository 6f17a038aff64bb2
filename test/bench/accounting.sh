# shellcheck shell=bash
# What the accounting of memory costs where there is plenty of it: how long a
# backlog takes to get into a view, with a build that has no accounting
# (IVM_NO_ACCOUNTING) over this one.  The builds take turns on one cluster.

accounts=$(scaled 1000000)
mkdir "$dir/source"
(cd "$top" && tar cf - --exclude=.git --exclude='*.[od]' --exclude='*.so' .) | tar xf - -C "$dir/source"
say "building without accounting"
make -s --no-print-directory -C "$dir/source" -j "$(nproc)" PG_CONFIG="$pg_config" COPT=-DIVM_NO_ACCOUNTING all
library=$dir/pg$("$pg_config" --pkglibdir)/ivm_ext.so
cp "$library" "$dir/with.so"
cp "$dir/source/ivm_ext.so" "$dir/without.so"
! cmp -s "$dir/with.so" "$dir/without.so" || die "IVM_NO_ACCOUNTING makes no difference"

use() # with, without
{
	stop_cluster "$dir"
	cp "$dir/$1.so" "$library"
	start_cluster "$dir"
}

query <<END
CREATE TABLE t (id int PRIMARY KEY, g int, v int) WITH (fillfactor = 50);
INSERT INTO t SELECT i, i % 100, 0 FROM generate_series(1, $accounts) i;
CREATE TABLE d (g int PRIMARY KEY, name text);
INSERT INTO d SELECT i, 'group ' || i / 3 FROM generate_series(0, 99) i;
VACUUM ANALYZE;
CREATE INCREMENTAL VIEW totals AS SELECT d.name, count(*), sum(t.v) FROM t JOIN d ON d.g = t.g GROUP BY d.name;
CREATE INCREMENTAL VIEW listed AS SELECT id, v FROM t WHERE id % 10 = 0;
END

# The decoder is held while the backlog is made.
drain()
{
	local decoder

	query -c 'VACUUM t' -c CHECKPOINT
	query -c "SELECT ivm.sync(timeout => '10 min')" >/dev/null
	decoder=$(value "SELECT pid FROM pg_stat_ivm_worker WHERE worker_type = 'decoder'")
	as_server_user kill -STOP "$decoder"
	query -c 'UPDATE t SET v = v + 1'
	as_server_user kill -CONT "$decoder"
	seconds_of query -c "SELECT ivm.sync(timeout => '10 min')"
}

ratios=()
detail=
for ((round = 0; round <= 2 * rounds; round++)); do
	for build in with without; do
		use $build
		# caches are filled
		drain >/dev/null
		declare "$build=$(drain)"
	done
	# shellcheck disable=SC2154
	ratios+=("$(divide "$without" "$with")")
	detail+="${detail:+, }$(printf '%.2f/%.2f' "$without" "$with")"
done
use with
row "accounting, throughput with over without" "$(median "${ratios[@]}")" ">= 0.97" "seconds $detail"
