# shellcheck shell=bash
# The first fill of a view, over that of a plain materialized view of the same
# query.  Where ours gets a unique index (its query has a key, and rows are
# found by it), the time to make that index counts for the plain one too.

accounts=$(scaled 5000000)
query <<END
CREATE TABLE branches (bid int PRIMARY KEY, name text);
CREATE TABLE accounts (aid int PRIMARY KEY, bid int, balance int, filler char(50));
INSERT INTO branches SELECT i, 'branch ' || i FROM generate_series(1, 100) i;
INSERT INTO accounts SELECT i, i % 100 + 1, i % 1000, '' FROM generate_series(1, $accounts) i;
ALTER TABLE branches REPLICA IDENTITY FULL;
ALTER TABLE accounts REPLICA IDENTITY FULL;
CREATE INDEX ON accounts (bid);
VACUUM ANALYZE;
CREATE INCREMENTAL VIEW first_of_the_database AS SELECT bid FROM branches;

END

populate() # WHAT QUERY [INDEX]
{
	local ratios=() detail= round plain ours

	for ((round = 1; round <= rounds; round++)); do
		query -c CHECKPOINT
		plain=$(seconds_of query -c "CREATE MATERIALIZED VIEW m AS $2" ${3:+-c "CREATE UNIQUE INDEX ON m $3"})
		query -c 'DROP MATERIALIZED VIEW m' -c CHECKPOINT
		ours=$(seconds_of query -c "CREATE INCREMENTAL VIEW v AS $2")
		query -c 'DROP MATERIALIZED VIEW v'
		ratios+=("$(divide "$ours" "$plain")")
		detail+="${detail:+, }$(printf '%.2f/%.2f' "$ours" "$plain")"
	done
	row "$1" "$(median "${ratios[@]}")" "<= 2" "seconds $detail"
}

populate "population, aggregate of $accounts rows" \
	"SELECT bid, count(*), sum(balance) FROM accounts GROUP BY bid" "(bid)"
populate "population, join of $accounts rows" \
	"SELECT a.aid, a.balance, b.name FROM accounts a JOIN branches b ON b.bid = a.bid" "(aid)"
populate "population, join with groups of $accounts rows" \
	"SELECT a.aid, a.balance, g.s FROM accounts a JOIN (SELECT bid, sum(balance) AS s FROM accounts GROUP BY bid) g ON g.bid = a.bid" "(aid)"
