# The 22 queries of the TPC-H benchmark as views (test/tpch), at a small scale: exact when
# they have been filled, and after each of ten rounds of the refresh functions and of changes
# in every table.
#
# Which of them have a part that is recomputed is part of the test: a query that is in the
# list and needs not be is to be taken out of it.

use strict;
use warnings;

use File::Basename;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my @recomputed = qw(02 11 15 16 17 20 22);

my $scale = 0.001;
# there are more suppliers than the scale says, so that each nation has one; Q11 is about the share of one of them
my $scale_of_suppliers = 0.0025;
my $rounds = 10;
my $files = dirname(__FILE__) . '/../tpch';

my $node = new_node('tpch', 'autovacuum = off');

sub query { return $node->safe_psql('postgres', $_[0]); }

query('CREATE EXTENSION ivm_ext');
query(slurp_file("$files/$_.sql")) foreach qw(tables generate change);
query("CALL tpch.fill($scale)");
query('VACUUM ANALYZE');

# ---- the views ----

my @queries = map { sprintf '%02d', $_ } 1 .. 22;
my (@empty, @found);
foreach my $number (@queries)
{
	my $definition = slurp_file("$files/queries/$number.sql");

	$definition =~ s/:scale\b/$scale_of_suppliers/;
	query("CREATE INCREMENTAL VIEW q$number AS $definition");
	push @empty, $number unless query("SELECT count(*) FROM q$number") > 0;
	my $plan = query("SELECT ivm.explain('q$number')");
	next unless $plan =~ /->  Recompute/;
	push @found, $number;
	diag("Q$number: $_") foreach $plan =~ /^ *Reason: (.*)/mg;
}
is("@empty", '', 'each query finds something');
is("@found", "@recomputed", 'the queries with a part that is recomputed');
# groups of few rows are not stored: of these there is one table each, of the rows of the first ones, or of Q13's last groups
is(query(join(' UNION ALL ', map { "SELECT 'q$_ ' || count(*) FROM pg_class WHERE relnamespace = 'ivm_state'::regnamespace
	AND relkind = 'm' AND relname LIKE 'v' || 'q$_'::regclass::oid || '\\_%'" } qw(03 10 13 18))), "q03 1\nq10 1\nq13 1\nq18 1", 'state tables');
are_exact($node, 'exact when filled');

# ---- the rounds ----

my %changed;

# A line with a hash of its contents for each view.
sub contents
{
	return split /\n/, query(join(";\n", map { "SELECT 'q$_', sum(hashtextextended(q::text, 0)) FROM q$_ q" } @queries));
}

my @before = contents();
foreach my $round (1 .. $rounds)
{
	query("CALL tpch.refresh_insert($round, 0.01)");
	query("CALL tpch.refresh_delete($round, 0.01)");
	query("CALL tpch.change_all($round, @{[$round % 2 ? 'true' : 'false']})");
	are_exact($node, "exact after round $round");
	my @after = contents();
	$changed{$_} += $before[$_] ne $after[$_] foreach 0 .. $#queries;
	@before = @after;
}
diag('rounds that changed each: ' . join(' ', map { $changed{$_} } 0 .. $#queries));
is(join(' ', map { $queries[$_] } grep { $changed{$_} < 3 } 0 .. $#queries), '', 'each view has changed in many rounds');
is_value($node, 'SELECT sum(rebuilds), sum(error_count) FROM pg_stat_ivm', '0|0', 'and none was rebuilt');

$node->stop;
done_testing();
