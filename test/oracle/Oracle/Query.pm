# Random queries over a run's tables and views.
#
# A query is built from sources.  A source is something that can stand in
# FROM: a table, a view, a subquery; it has an alias and columns of known
# kinds:
#
#	int big num float text char bool date tstz ivl ci json arr enum pair range
#	bytes		as Oracle::Schema has them
#	inexact		a float whose last digits depend on the order of summation:
#				it may be shown, but neither compared nor summed up again
#
# What is built has exactly one result: ties in an ORDER BY with LIMIT are
# between equal rows, and so on.  A numeric is never cast to text, since
# grouping may give any of 1.0 and 1.00.

package Oracle::Query;

use strict;
use warnings;

use Oracle::Random;

# $tables: Oracle::Schema objects; $views: list of { name, columns } that may
# be read as well (regular and incremental views).
sub new
{
	my ($class, $tables, $views) = @_;
	return bless { tables => $tables, views => $views, aliases => 0, nested => 0, sizes => [] }, $class;
}

# The families of queries, the weight of each, and whether it is maintained by
# deltas.
my @families = (
	[ 8, 1, 'filter', \&_q_filter ],
	[ 14, 1, 'join', \&_q_join ],
	[ 14, 1, 'aggregate', \&_q_aggregate ],
	[ 10, 1, 'join and aggregate', \&_q_join_aggregate ],
	[ 5, 1, 'distinct', \&_q_distinct ],
	[ 6, 1, 'union all', \&_q_union_all ],
	[ 5, 1, 'common table expression', \&_q_cte ],
	[ 6, 1, 'aggregate of aggregates', \&_q_nested_aggregate ],
	[ 4, 1, 'self join', \&_q_self_join ],
	[ 8, 1, 'lookups through operators', \&_q_through ],
	[ 7, 1, 'set operation', \&_q_set_operation ],
	[ 6, 1, 'grouping sets', \&_q_grouping_sets ],
	[ 12, 1, 'outer join', \&_q_outer_join ],
	[ 8, 1, 'semi join', \&_q_semi_join ],
	[ 1, 0, 'not in', \&_q_not_in ],
	[ 3, 0, 'window', \&_q_window ],
	[ 8, 1, 'aggregates that need rows', \&_q_row_aggregates ],
	[ 6, 1, 'limit', \&_q_limit ],
	[ 5, 1, 'distinct on', \&_q_distinct_on ],
	[ 2, 0, 'correlated subquery', \&_q_correlated ],
	[ 2, 0, 'set-returning function', \&_q_srf ],
	[ 1, 0, 'recursion', \&_q_recursive ],);

# Returns { sql, family, delta, columns => [[name, kind], ...], sizes }: "sizes"
# are queries for the rows of each join in it.
sub make
{
	my ($self) = @_;
	$self->{sizes} = [];
	$self->{nested} = 0;
	my $family = weighted(map { ($_->[0], $_) } @families);
	my ($sql, @kinds) = $family->[3]->($self);
	my $number = 0;
	return {
		sql => $sql,
		family => $family->[2],
		delta => $family->[1],
		sizes => $self->{sizes},
		columns => [ map { [ 'c' . ++$number, $_ ] } @kinds ] };
}

# ----- expressions ------------------------------------------------------------

# Columns of one of the kinds.
sub _columns
{
	my ($columns, @kinds) = @_;
	my %wanted = map { $_ => 1 } @kinds;
	return grep { $wanted{ $_->[1] } } @$columns;
}

sub _constant
{
	my ($kind) = @_;
	return between(-2, 20) if $kind eq 'int' || $kind eq 'big';
	return pick('0', '2.5', '-7.25', '10.00') if $kind eq 'num';
	return pick('0.0', '12.5', '-3.75') . '::double precision' if $kind eq 'float';
	return pick("'a'", "'apple'", "'b'", "''", "'x'") if $kind eq 'text';
	return pick("'a'", "'ab'", "''") . '::character(4)' if $kind eq 'char';
	return pick('true', 'false') if $kind eq 'bool';
	return pick("date '2024-02-15'", "date '2024-07-01'") if $kind eq 'date';
	return "timestamptz '2024-03-30 12:00:00+00'" if $kind eq 'tstz';
	return pick("'ANNA'", "'b'") if $kind eq 'ci';
	return pick(q('{"a": 1}'), "'2'") . '::jsonb' if $kind eq 'json';
	return pick("'{1}'", "'{2,NULL}'") . '::integer[]' if $kind eq 'arr';
	return pick("'sad'", "'calm'") . '::public.mood' if $kind eq 'enum';
	return pick("row(1, 'b')", "row(2, null)") . '::public.pair' if $kind eq 'pair';
	return pick("'[1,5)'", "'empty'") . '::int4range' if $kind eq 'range';
	return pick("'\\x00'", "'\\x'") . '::bytea' if $kind eq 'bytes';
	return pick("interval '3 hours'", "interval '10 days'");
}

# A scalar expression over the columns: (SQL, kind).
sub _expression
{
	my ($columns) = @_;
	my ($name, $kind) = @{ pick(@$columns) };

	return ($name, $kind) if $kind eq 'inexact' || chance(50);
	if ($kind eq 'int')
	{
		return weighted(
			2, [ "$name + " . between(1, 5), 'int' ],
			2, [ "$name % " . between(2, 6), 'int' ],
			1, [ "$name % 1000 * 2", 'int' ],
			1, [ "coalesce($name, -1)", 'int' ],
			1, [ "-abs($name)", 'int' ],
			1, [ "$name\::numeric / 4", 'num' ],
			1, [ "$name\::text", 'text' ],
			1, [ "case when $name > 4 then 'high' when $name is null then null else 'low' end", 'text' ],
			1, [ "$name > 3", 'bool' ])->@*;
	}
	elsif ($kind eq 'big')
	{
		return weighted(
			2, [ "$name % 10", 'big' ],
			1, [ "coalesce($name, 0)", 'big' ],
			1, [ "nullif($name, 7)", 'big' ],
			1, [ "$name / 3", 'big' ],
			1, [ "$name\::text", 'text' ],
			1, [ "$name is null", 'bool' ])->@*;
	}
	elsif ($kind eq 'num')
	{
		return weighted(
			1, [ "$name * 2", 'num' ],
			1, [ "round($name, 1)", 'num' ],
			1, [ "$name > 0", 'bool' ],
			1, [ "coalesce($name, 0.00)", 'num' ],
			1, [ "trunc($name)", 'num' ])->@*;
	}
	elsif ($kind eq 'float')
	{
		return weighted(
			1, [ "$name * 2", 'float' ],
			1, [ "abs($name)", 'float' ],
			1, [ "coalesce($name, 0.5)", 'float' ],
			1, [ "floor($name)", 'float' ])->@*;
	}
	elsif ($kind eq 'text')
	{
		return weighted(
			1, [ "upper($name)", 'text' ],
			1, [ "left($name, 1)", 'text' ],
			1, [ "length($name)", 'int' ],
			1, [ "coalesce($name, '?') || '/'", 'text' ],
			1, [ "md5($name)", 'text' ])->@*;
	}
	elsif ($kind eq 'char')
	{
		return pick([ "$name\::text", 'text' ], [ "length($name)", 'int' ])->@*;
	}
	elsif ($kind eq 'date')
	{
		return pick(
			[ "$name - date '2024-01-01'", 'int' ],
			[ "$name + 7", 'date' ],
			[ "extract(month from $name)::integer", 'int' ],
			[ "date_trunc('month', $name)", 'tstz' ])->@*;
	}
	elsif ($kind eq 'tstz')
	{
		# these depend on the time zone in which the view was made
		return pick(
			[ "date_trunc('day', $name)", 'tstz' ],
			[ "$name\::date", 'date' ],
			[ "to_char($name, 'YYYY-MM-DD HH24')", 'text' ],
			[ "extract(hour from $name)::integer", 'int' ])->@*;
	}
	elsif ($kind eq 'ivl')
	{
		return ("$name + interval '1 day'", 'ivl');
	}
	elsif ($kind eq 'ci')
	{
		return pick([ "lower($name)", 'ci' ], [ "coalesce($name, 'Cy')", 'ci' ], [ "length($name)", 'int' ])->@*;
	}
	elsif ($kind eq 'json')
	{
		return pick(
			[ "$name -> 'a'", 'json' ],
			[ "$name ->> 'a'", 'text' ],
			[ "jsonb_typeof($name)", 'text' ],
			[ "$name ? 'b'", 'bool' ])->@*;
	}
	elsif ($kind eq 'arr')
	{
		return pick([ "$name\[1]", 'int' ], [ "cardinality($name)", 'int' ], [ "array_append($name, 3)", 'arr' ])->@*;
	}
	elsif ($kind eq 'enum')
	{
		return pick([ "$name\::text", 'text' ], [ "coalesce($name, 'glad')", 'enum' ])->@*;
	}
	elsif ($kind eq 'pair')
	{
		return pick([ "($name).x", 'int' ], [ "($name).y", 'text' ])->@*;
	}
	elsif ($kind eq 'range')
	{
		return pick([ "lower($name)", 'int' ], [ "isempty($name)", 'bool' ], [ "$name * int4range(1, 4)", 'range' ])->@*;
	}
	elsif ($kind eq 'bytes')
	{
		return pick([ "length($name)", 'int' ], [ "encode($name, 'hex')", 'text' ])->@*;
	}
	return ("not $name", 'bool');
}

# An expression that may be grouped, sorted and compared.
sub _key_expression
{
	my ($columns) = @_;
	for (1 .. 20)
	{
		my ($sql, $kind) = _expression($columns);
		return ($sql, $kind) if $kind ne 'inexact';
	}
	return ('1 + 0', 'int');
}

sub _predicate
{
	my ($columns, $depth) = @_;
	$depth //= 0;

	return '(' . _predicate($columns, 1) . pick(' and ', ' or ') . _predicate($columns, 1) . ')'
	  if $depth == 0 && chance(25);
	return 'not ' . _predicate($columns, 1) if $depth == 0 && chance(8);
	my ($sql, $kind) = _key_expression($columns);
	$sql = "($sql)" if $sql =~ m{\s};
	return $sql if $kind eq 'bool' && chance(60);
	my @same = _columns($columns, $kind);
	return "$sql is " . pick('null', 'not null') if chance(10);
	return "$sql " . pick('=', '<>', '<', '>=') . ' ' . pick(@same)->[0]
	  if @same > 1 && chance(15);
	return "$sql in (" . join(', ', map { _constant($kind) } 1 .. 3) . ')'
	  if ($kind eq 'int' || $kind eq 'big' || $kind eq 'text') && chance(25);
	return "$sql like '" . pick('a%', '%e', '%a%') . "'" if $kind eq 'text' && chance(40);
	return "$sql " . pick('<', '<=', '>', '>=', '<>', '=') . ' ' . _constant($kind);
}

sub _where
{
	my ($columns, $percent) = @_;
	return chance($percent) ? ' where ' . _predicate($columns) : '';
}

# ----- sources ----------------------------------------------------------------

sub _alias
{
	my ($self) = @_;
	return 'q' . ++$self->{aliases};
}

sub _source_of
{
	my ($item, $alias, @columns) = @_;
	return { sql => "$item $alias", columns => [ map { [ "$alias.$_->[0]", $_->[1] ] } @columns ] };
}

sub _table
{
	my ($self, $table) = @_;
	$table //= pick(@{ $self->{tables} });
	return _source_of($table->{name}, $self->_alias,
		map { [ $_->{name}, $_->{kind} ] } @{ $table->{columns} });
}

# A subquery as a source: its text has columns c1, c2, ... of the kinds.
sub _subquery
{
	my ($self, $sql, @kinds) = @_;
	my $number = 0;
	my $alias = $self->_alias;
	my $source = _source_of("($sql)", $alias, map { [ 'c' . ++$number, $_ ] } @kinds);
	$source->{sql} = "($sql) $alias (c1, c2)" if $sql =~ /^values/;
	return $source;
}

sub _source
{
	my ($self, $depth) = @_;
	$depth //= 0;

	return $self->_table if $depth > 1 || chance(68);
	if (@{ $self->{views} } && chance(40))
	{
		my $view = pick(@{ $self->{views} });
		return _source_of($view->{name}, $self->_alias, @{ $view->{columns} });
	}

	# what has no delta rule below what has one, once in a query
	if (!$self->{nested} && $depth == 0 && chance(20))
	{
		$self->{nested} = 1;
		my $method = pick(
			\&_q_window, \&_q_limit, \&_q_distinct_on,
			\&_q_not_in, \&_q_correlated, \&_q_srf);
		return $self->_subquery($method->($self));
	}
	my @made = weighted(
		4, [ sub { $self->_select($self->_source($depth + 1), 30) } ],
		3, [ sub { $self->_group($self->_source($depth + 1)) } ],
		3, [ sub { $self->_outer_select(2, map { $self->_source($depth + 1) } 1 .. 2) } ],
		2, [ sub { $self->_semi_select($self->_source($depth + 1), $depth + 1) } ],
		2, [ sub { $self->_union_all($depth + 1) } ],
		2, [ sub { $self->_set_operation($self->_source($depth + 1), $self->_source($depth + 1)) } ],
		1, [ sub { $self->_grouping_sets($self->_source($depth + 1)) } ],
		1, [ sub { $self->_distinct($self->_source($depth + 1)) } ],
		1, [ sub { return ("select x as c1, chr(97 + x) as c2 from generate_series(0, 6) x", 'int', 'text') } ],
		1, [ sub { return ("values (1, 'a'), (2, 'apple'), (2, null), (null, 'b')", 'int', 'text') } ]
	)->[0]->();
	return $self->_subquery(@made);
}

# select list: ("e1 as c1, e2 as c2", kinds)
sub _list
{
	my ($expressions) = @_;
	my $number = 0;
	return (join(', ', map { "$_->[0] as c" . ++$number } @$expressions), map { $_->[1] } @$expressions);
}

sub _select
{
	my ($self, $source, $filter) = @_;
	my @columns = @{ $source->{columns} };
	my @expressions;

	# a column that may be unique first, quite often
	push @expressions, $columns[0] if chance(50);
	push @expressions, [ _expression(\@columns) ] for 1 .. between(1, 4);
	my ($list, @kinds) = _list(\@expressions);
	return ("select $list from $source->{sql}" . _where(\@columns, $filter), @kinds);
}

sub _distinct
{
	my ($self, $source) = @_;
	my @expressions = map { [ _key_expression($source->{columns}) ] } 1 .. between(1, 3);
	my ($list, @kinds) = _list(\@expressions);
	return ("select distinct $list from $source->{sql}" . _where($source->{columns}, 40), @kinds);
}

# Both sides get columns of the same kinds.
sub _same_kinds
{
	my ($left, $right, $most) = @_;
	my (@left, @right);
	foreach my $column (shuffled(@{ $left->{columns} }))
	{
		my @fitting = _columns($right->{columns}, $column->[1]);
		next if !@fitting || $column->[1] eq 'inexact';
		push @left, $column;
		push @right, pick(@fitting);
		last if @left >= $most;
	}
	return (\@left, \@right);
}

sub _union_all
{
	my ($self, $depth, @sources) = @_;
	push @sources, $self->_source($depth) while @sources < 2;
	my ($left, $right) = @sources;
	my ($l, $r) = _same_kinds($left, $right, between(1, 4));

	# two sources without a common kind: one column is made for both
	if (!@$l)
	{
		$l = [ [ '1', 'int' ] ];
		$r = [ [ '2', 'int' ] ];
	}
	my ($l_list, @kinds) = _list($l);
	my ($r_list) = _list($r);
	return ("select $l_list from $left->{sql}" . _where($left->{columns}, 40)
		  . " union all select $r_list from $right->{sql}" . _where($right->{columns}, 40), @kinds);
}

# One or two of UNION, INTERSECT and EXCEPT.
sub _set_operation
{
	my ($self, $left, $right) = @_;
	my ($l, $r) = _same_kinds($left, $right, between(1, 3));
	if (!@$l)
	{
		$l = [ [ '1', 'int' ] ];
		$r = [ [ '2', 'int' ] ];
	}
	my ($l_list, @kinds) = _list($l);
	my ($r_list) = _list($r);
	my $sides = sub {
		return "select $l_list from $left->{sql}" . _where($left->{columns}, 40) if $_[0];
		return "select $r_list from $right->{sql}" . _where($right->{columns}, 40);
	};
	my $operation = sub { pick('union', 'intersect', 'except', 'intersect all', 'except all', 'union all') };
	my $sql = $sides->(1) . ' ' . $operation->() . ' ' . $sides->(0);
	if (chance(35))
	{
		my $third = $sides->(chance(50));
		$sql = chance(50) ? "($sql) " . $operation->() . " $third" : "$third " . $operation->() . " ($sql)";
	}
	return ($sql, @kinds);
}

# ----- joins ------------------------------------------------------------------

# An equality between the two column lists, or an inequality, or ''.
sub _join_clause
{
	my ($left, $right, $hashable) = @_;

	# most joins are by columns of the same name
	if (chance(45))
	{
		foreach my $suffix (shuffled('id', 'a', 'b'))
		{
			my ($l) = grep { $_->[0] =~ /\.\Q$suffix\E$/ } shuffled(@$left);
			my ($r) = grep { $_->[0] =~ /\.\Q$suffix\E$/ } @$right;
			return "$l->[0] = $r->[0]" if $l && $r;
		}
	}
	foreach my $l (shuffled(@$left))
	{
		my @kinds = $l->[1] eq 'int' || $l->[1] eq 'big' ? ('int', 'big') : ($l->[1]);
		my @fitting = _columns($right, @kinds);
		next if $l->[1] eq 'inexact' || $l->[1] eq 'bool' || !@fitting;
		my $r = pick(@fitting);
		if ($l->[1] eq 'int' && chance(25))
		{
			my $add = between(1, 3);
			return "$l->[0] + $add = $r->[0]" if chance(50);
			return "$l->[0] = $r->[0] - $add";
		}
		if ($l->[1] eq 'text' && chance(40))
		{
			my $function = pick('lower', 'md5');
			return "$function($l->[0]) = $function($r->[0])";
		}
		return "$l->[0] " . pick('<', '>=') . " $r->[0]" if !$hashable && chance(6);
		return "$l->[0] = $r->[0]";
	}
	return '';
}

# n sources joined: a source whose columns are all of theirs.
sub _join
{
	my ($self, $n, @sources) = @_;
	push @sources, $self->_source while @sources < $n;
	my $sql = $sources[0]{sql};
	my @columns = @{ $sources[0]{columns} };
	my $commas = chance(30);
	my @where;

	foreach my $source (@sources[ 1 .. $#sources ])
	{
		my @clauses;
		my $clause = chance(4) ? '' : _join_clause(\@columns, $source->{columns});
		push @clauses, $clause if $clause ne '';
		if ($clause ne '' && chance(25))
		{
			my $second = _join_clause(\@columns, $source->{columns});
			push @clauses, $second if $second ne '' && $second ne $clause;
		}
		if (!@clauses)
		{
			# a cross join, of not too many rows
			$sql .= ", " . $source->{sql} if $commas;
			$sql .= " cross join " . $source->{sql} if !$commas;
			push @where, _predicate($source->{columns});
		}
		elsif ($commas)
		{
			$sql .= ", $source->{sql}";
			push @where, @clauses;
		}
		else
		{
			push @clauses, _predicate($source->{columns}) if chance(15);
			$sql .= " join $source->{sql} on " . join(' and ', @clauses);
		}
		push @columns, @{ $source->{columns} };
	}
	push @where, _predicate(\@columns) if chance(30);
	my $where = join(' and ', @where);
	push @{ $self->{sizes} }, "select from $sql" . ($where ne '' ? " where $where" : '');
	return { sql => $sql, columns => \@columns, where => $where };
}

sub _join_select
{
	my ($join, @expressions) = @_;
	my ($list, @kinds) = _list(\@expressions);
	return ("select $list from $join->{sql}" . ($join->{where} ne '' ? " where $join->{where}" : ''), @kinds);
}

# ----- joins that keep rows without a match, or ask for one -------------------

# n sources joined one after the other, most of them so that rows without a match are kept.
sub _outer_join
{
	my ($self, $n, @sources) = @_;
	push @sources, $self->_source while @sources < $n;
	my $join = shift @sources;
	my ($sql, @columns) = ($join->{sql}, @{ $join->{columns} });

	foreach my $source (@sources)
	{
		my $type = pick('left', 'left', 'left', 'right', 'full', 'full', 'inner');
		my $right = $source->{sql};
		my $clause = _join_clause(\@columns, $source->{columns}, $type eq 'full' || chance(85));
		my @all = (@columns, @{ $source->{columns} });
		my @clauses = $clause eq '' ? ('false') : ($clause);
		if ($clause ne '' && chance(30))
		{
			my $second = chance(50) ? _join_clause(\@columns, $source->{columns}) : _predicate(\@all);
			push @clauses, $second if $second ne '' && $second ne $clause;
		}
		$sql .= " $type join $right on " . join(' and ', @clauses);
		@columns = @all;
	}
	my $where = chance(25) ? _predicate(\@columns) : '';
	push @{ $self->{sizes} }, "select from $sql" . ($where ne '' ? " where $where" : '');
	return { sql => $sql, columns => \@columns, where => $where };
}

sub _outer_select
{
	my ($self, $n, @sources) = @_;
	my $join = $self->_outer_join($n, @sources);
	return $self->_group($join) if chance(25);
	return _join_select($join, pick_some(between(1, 3), @{ $join->{columns} }),
		map { [ _expression($join->{columns}) ] } 1 .. 2);
}

# Columns of one that have a match in the other, or none.
sub _semi_select
{
	my ($self, $outer, $depth, $inner) = @_;
	$inner //= $self->_source($depth);
	my @columns = @{ $outer->{columns} };
	my $clause = _join_clause(\@columns, $inner->{columns}, chance(85));
	my @more;
	push @more, _predicate($inner->{columns}) if chance(35);
	push @more, _predicate([ @columns, @{ $inner->{columns} } ]) if chance(25);
	my @in = $clause =~ /^(\S+) = (\S+)$/;
	my $where = join(' and ', grep { $_ ne '' } $clause, @more);
	my $semi = "exists (select from $inner->{sql}" . ($where ne '' ? " where $where" : '') . ')';

	if (@in && chance(35))
	{
		$semi = "$in[0] in (select $in[1] from $inner->{sql}"
		  . (@more && $more[0] !~ /\b(?:@{[ join '|', map { $_->[0] =~ s{\..*}{}r } @columns ]})\./ ? " where $more[0]" : '') . ')';
	}
	elsif (chance(45))
	{
		$semi = "not $semi";
	}
	$semi .= ' and ' . _predicate(\@columns) if chance(20);
	my ($list, @kinds) = _list([ $columns[0], map { [ _expression(\@columns) ] } 1 .. 2 ]);
	return ("select $list from $outer->{sql} where $semi", @kinds);
}

sub _q_outer_join
{
	my ($self) = @_;
	return $self->_outer_select(weighted(50, 2, 35, 3, 15, 4));
}

sub _q_semi_join
{
	my ($self) = @_;
	return $self->_semi_select($self->_source, 1) if chance(70);
	my $inner = $self->_subquery($self->_outer_select(2, $self->_source(1), $self->_table));
	return $self->_semi_select($self->_source, 1, $inner);
}

# ----- aggregates -------------------------------------------------------------

# An aggregate that deltas maintain: [SQL, kind].
sub _aggregate
{
	my ($columns) = @_;
	my $filter = chance(15) ? ' filter (where ' . _predicate($columns) . ')' : '';

	return _row_aggregate($columns, $filter) if chance(12);
	return [ "count(*)$filter", 'big' ] if chance(25);
	my ($sql, $kind) = _key_expression($columns);
	return [ "count($sql)$filter", 'big' ] if chance(15);
	if ($kind eq 'int')
	{
		return pick(
			[ "sum($sql)$filter", 'big' ],
			[ "avg($sql)$filter", 'num' ],
			[ pick('variance', 'var_pop', 'stddev', 'stddev_pop') . "($sql)$filter", 'num' ]);
	}
	elsif ($kind eq 'big' || $kind eq 'num')
	{
		return pick(
			[ "sum($sql)$filter", 'num' ],
			[ "avg($sql)$filter", 'num' ],
			# how many digits it has hangs on those of its arguments, and a group shows any one of equal values
			[ 'round(' . pick('variance', 'var_samp', 'stddev', 'stddev_pop') . "($sql)$filter, 6)", 'num' ]);
	}
	elsif ($kind eq 'float')
	{
		# values are multiples of a quarter: every order gives the same sum
		return pick([ "sum($sql)$filter", 'float' ], [ "avg($sql)$filter", 'inexact' ]);
	}
	elsif ($kind eq 'ivl')
	{
		return pick([ "sum($sql)$filter", 'ivl' ], [ "avg($sql)$filter", 'ivl' ]);
	}
	elsif ($kind eq 'bool')
	{
		return [ pick('bool_and', 'bool_or', 'every') . "($sql)$filter", 'bool' ];
	}
	return [ "count($sql)$filter", 'big' ];
}

# One that needs the rows of its group.
sub _row_aggregate
{
	my ($columns, $filter) = @_;
	my ($sql, $kind) = _key_expression($columns);

	return [ "count(distinct $sql)$filter", 'big' ] if chance(25) && $kind ne 'pair';
	if ($kind eq 'int' || $kind eq 'big' || $kind eq 'date' || $kind eq 'text')
	{
		return pick(
			[ pick('min', 'max') . "($sql)$filter", $kind ],
			[ "array_agg($sql order by $sql" . pick('', ' desc', ' nulls first') . ")${filter}::text", 'text' ],
			[ "array_agg(distinct $sql)${filter}::text", 'text' ],
			[ "string_agg(($sql)::text, ',' order by $sql)$filter", 'text' ],
			[ "percentile_disc(0.5) within group (order by $sql)$filter", $kind ],
			[ "mode() within group (order by $sql)$filter", $kind ],
			[ "json_agg($sql order by $sql)${filter}::text", 'text' ]);
	}
	if ($kind eq 'num' || $kind eq 'float')
	{
		return pick(
			[ pick('min', 'max') . "($sql)$filter", $kind ],
			[ "sum(distinct $sql)$filter", $kind ],
			[ "percentile_cont(0.5) within group (order by $sql)$filter", 'float' ],
			[ "rank(2.5) within group (order by $sql)$filter", 'big' ]);
	}
	return [ "count($sql)$filter", 'big' ];
}

# GROUP BY (or a grand aggregate) over a source; "where" is its join's.
sub _group
{
	my ($self, $source, @more) = @_;
	my $columns = $source->{columns};
	my @groups = map { [ _key_expression($columns) ] } 1 .. weighted(15, 0, 55, 1, 25, 2, 5, 3);
	my @aggregates = map { _aggregate($columns) } 1 .. between(@groups ? 0 : 1, 3);
	push @aggregates, @more;

	# an expression over aggregates
	my ($big) = _columns($columns, 'big');
	push @aggregates, [ "count(*) * 2 + coalesce(sum($big->[0]), 0)", 'num' ] if $big && chance(12);

	# group columns are not always the first
	my @list = chance(75) ? (@groups, @aggregates) : (@aggregates, @groups);
	@list = ([ 'count(*)', 'big' ]) if !@list;
	my ($list, @kinds) = _list(\@list);
	my $sql = "select $list from $source->{sql}";
	$sql .= " where $source->{where}" if defined $source->{where} && $source->{where} ne '';
	$sql .= _where($columns, 25) if !defined $source->{where};
	$sql .= ' group by ' . join(', ', map { "($_->[0])" } @groups) if @groups;
	$sql .= ' having ' . pick('count(*) > 1', 'count(*) between 2 and 6', 'count(*) % 2 = 0')
	  if chance(18);
	return ($sql, @kinds);
}

# Grouping sets over a source; "where" is its join's.
sub _grouping_sets
{
	my ($self, $source) = @_;
	my $columns = $source->{columns};
	my @keys = map { [ _key_expression($columns) ] } 1 .. between(1, 3);
	my @sql = map { "($_->[0])" } @keys;
	my $all = join ', ', @sql;
	my @list = (@keys, map { _aggregate($columns) } 1 .. between(0, 2));
	push @list, [ 'grouping(' . join(', ', shuffled(@sql)) . ')', 'int' ] if chance(40);
	my ($number) = grep { $_->[1] eq 'int' } @keys;
	push @list, [ "coalesce($number->[0], 77)", 'int' ] if $number && chance(30);
	my ($list, @kinds) = _list(\@list);
	my $sql = "select $list from $source->{sql}";
	$sql .= " where $source->{where}" if defined $source->{where} && $source->{where} ne '';
	$sql .= _where($columns, 25) if !defined $source->{where};
	$sql .= ' group by ' . pick(
		"rollup ($all)", "cube ($all)",
		"grouping sets (($all), ($sql[0]), ())", "grouping sets (($sql[-1]), ($sql[0]), ($all))",
		"$sql[0], rollup ($all)", "grouping sets (cube ($all), ($sql[0]), ())");
	$sql .= ' having ' . pick('count(*) > 1', "grouping($sql[0]) = 1", "($keys[0][0]) is not null") if chance(20);
	return ($sql, @kinds);
}

# ----- families that deltas maintain ------------------------------------------

sub _q_filter
{
	my ($self) = @_;
	return $self->_select($self->_source, 75);
}

sub _q_join
{
	my ($self) = @_;
	my $join = $self->_join(weighted(55, 2, 35, 3, 10, 4));
	my @expressions = map { [ _expression($join->{columns}) ] } 1 .. between(2, 5);
	unshift @expressions, $join->{columns}[0] if chance(40);
	return _join_select($join, @expressions);
}

sub _q_self_join
{
	my ($self) = @_;
	my $table = pick(@{ $self->{tables} });
	my $n = weighted(75, 2, 25, 3);
	my $join = $self->_join($n, map { $self->_table($table) } 1 .. $n);
	return $self->_group($join) if chance(40);
	return _join_select($join, map { [ _expression($join->{columns}) ] } 1 .. 3);
}

sub _q_aggregate
{
	my ($self) = @_;
	return $self->_group($self->_source);
}

sub _q_row_aggregates
{
	my ($self) = @_;
	my $source = chance(50) ? $self->_join(2) : $self->_source;
	my @more = map { _row_aggregate($source->{columns}, chance(20) ? ' filter (where ' . _predicate($source->{columns}) . ')' : '') } 1 .. between(1, 3);
	my ($number) = _columns($source->{columns}, 'int', 'big');
	push @more, [ pick('bit_and', 'bit_or', 'bit_xor') . "($number->[0])", $number->[1] ] if $number && chance(30);
	push @more, [ "sum(distinct $number->[0])", $number->[1] eq 'int' ? 'big' : 'num' ] if $number && chance(30);
	push @more, [ "array_length(array_agg($number->[0]), 1)", 'int' ] if $number && chance(20);
	return $self->_group($source, @more);
}

sub _q_join_aggregate
{
	my ($self) = @_;
	return $self->_group($self->_join(weighted(65, 2, 35, 3)));
}

sub _q_distinct
{
	my ($self) = @_;
	return $self->_distinct($self->_source) if chance(60);
	my $join = $self->_join(2);
	my ($sql, @kinds) =
	  _join_select($join, map { [ _key_expression($join->{columns}) ] } 1 .. between(1, 2));
	$sql =~ s/^select /select distinct /;
	return ($sql, @kinds);
}

sub _q_union_all
{
	my ($self) = @_;
	my @made = $self->_union_all(0);
	return @made if chance(60);
	return $self->_group($self->_subquery(@made));
}

# A common table expression that is read once or twice.
sub _q_cte
{
	my ($self) = @_;
	my ($with, @kinds) = chance(60) ? $self->_group($self->_source(1)) : $self->_select($self->_source(1), 60);
	my $number = 0;
	my @columns = map { [ 'c' . ++$number, $_ ] } @kinds;
	my $materialized = pick('', '', 'materialized ', 'not materialized ');
	my @sources = (_source_of('w', $self->_alias, @columns));
	push @sources, chance(75) ? _source_of('w', $self->_alias, @columns) : $self->_table;
	my $sizes = @{ $self->{sizes} };
	my $join = $self->_join(2, @sources);
	s/^/with w as $materialized($with) / foreach @{ $self->{sizes} }[ $sizes .. $#{ $self->{sizes} } ];
	my ($sql, @result) =
	  chance(40)
	  ? $self->_group($join)
	  : _join_select($join, map { [ _expression($join->{columns}) ] } 1 .. between(2, 4));
	return ("with w as $materialized($with) $sql", @result);
}

sub _q_nested_aggregate
{
	my ($self) = @_;
	my $inner = $self->_subquery($self->_group($self->_source(1)));
	return $self->_group($inner) if chance(60);
	my $join = $self->_join(2, $inner, $self->_table);
	return _join_select($join, map { [ _expression($join->{columns}) ] } 1 .. 3);
}

# Joins of what is computed and read more than once: their rows are looked up in one another, down to
# the tables.  Each of the levels may read those before it.
sub _q_through
{
	my ($self) = @_;
	my (@with, @readable);

	foreach my $level (1 .. between(2, 3))
	{
		my $before = @with ? 'with ' . join(', ', @with) . ' ' : '';
		my $sizes = @{ $self->{sizes} };
		my ($sql, @kinds) = $self->_level(@readable);
		# tables grow, and what is multiplied grows faster
		push @{ $self->{sizes} }, "select from ($sql) s, generate_series(1, 20) g";
		s/^/$before/ foreach @{ $self->{sizes} }[ $sizes .. $#{ $self->{sizes} } ];
		my $number = 0;
		my @columns = map { [ 'c' . ++$number, $_ ] } @kinds;
		push @with, "w$level as materialized ($sql)";
		push @readable, sub { _source_of("w$level", $self->_alias, @columns) };
	}
	my $with = 'with ' . join(', ', @with);
	my @sources = map { $_->() } $readable[-1], pick(@readable);
	push @sources, $self->_table if chance(35);
	my $sizes = @{ $self->{sizes} };
	my $join = $self->_join(scalar @sources, @sources);
	push @{ $self->{sizes} },
	  "select from (select from $join->{sql}" . ($join->{where} ne '' ? " where $join->{where}" : '') . ') s, generate_series(1, 10) g';
	s/^/$with / foreach @{ $self->{sizes} }[ $sizes .. $#{ $self->{sizes} } ];
	my ($sql, @result) =
	  chance(30)
	  ? $self->_group($join)
	  : _join_select($join, map { [ _expression($join->{columns}) ] } 1 .. between(2, 4));
	return ("$with $sql", @result);
}

# Set operations of joins of aggregates, and the other way round.
sub _q_set_operation
{
	my ($self) = @_;
	my $side = sub {
		return weighted(
			4, sub { $self->_source },
			2, sub { $self->_subquery($self->_group($self->_source(1))) },
			2, sub {
				my $join = $self->_join(2, $self->_subquery($self->_group($self->_source(1))), $self->_table);
				return $self->_subquery(_join_select($join, map { [ _expression($join->{columns}) ] } 1 .. 3));
			})->();
	};
	my ($sql, @kinds) = $self->_set_operation($side->(), $side->());
	return ($sql, @kinds) if chance(40);
	my $operation = $self->_subquery($sql, @kinds);
	return $self->_group($operation) if chance(40);
	my $join = $self->_join(2, $operation, $self->_source(1));
	return $self->_group($join) if chance(30);
	return _join_select($join, map { [ _expression($join->{columns}) ] } 1 .. 3);
}

sub _q_grouping_sets
{
	my ($self) = @_;
	my $source = weighted(
		4, sub { $self->_source },
		3, sub { $self->_join(2) },
		2, sub { $self->_subquery($self->_group($self->_source(1))) },
		1, sub { $self->_subquery($self->_set_operation($self->_source(1), $self->_source(1))) })->();
	my ($sql, @kinds) = $self->_grouping_sets($source);
	return ($sql, @kinds) if chance(50);
	my $sets = $self->_subquery($sql, @kinds);
	return $self->_group($sets) if chance(35);
	return $self->_set_operation($sets, $self->_source(1)) if chance(25);
	my $join = $self->_join(2, $sets, $self->_source(1));
	return $self->_group($join) if chance(30);
	return _join_select($join, map { [ _expression($join->{columns}) ] } 1 .. 3);
}

sub _level
{
	my ($self, @readable) = @_;
	my $source = sub { @readable && chance(75) ? pick(@readable)->() : $self->_table };
	my $joined = sub {
		my $join = $self->_join(2, $source->(), $source->());
		return _join_select($join, pick_some(between(2, 4), @{ $join->{columns} }), [ _expression($join->{columns}) ]);
	};
	return weighted(
		4, $joined,
		3, sub { $self->_group($source->()) },
		2, sub { $self->_group($self->_join(2, $source->(), $source->())) },
		3, sub { $self->_union_all(0, $source->(), $source->()) },
		4, sub { $self->_outer_select(2, $source->(), $source->()) },
		2, sub { $self->_semi_select($source->(), 2, $source->()) },
		1, sub { $self->_distinct($source->()) },
		2, sub { $self->_set_operation($source->(), $source->()) },
		1, sub { $self->_grouping_sets($source->()) },
		1, sub { $self->_select($source->(), 60) })->();
}

# ----- families that are recomputed (some of them, until they have a rule) -----

sub _q_window
{
	my ($self) = @_;
	my $source = $self->_source(1);
	my @keys = map { [ _key_expression($source->{columns}) ] } 1 .. 2;
	my $partition = "partition by $keys[0][0]";
	my $order = join ', ', map { $_->[0] } @keys;
	my $window = pick(
		[ "row_number() over ($partition order by $order)", 'big' ],
		[ "rank() over ($partition order by $keys[1][0])", 'big' ],
		[ "count(*) over ($partition)", 'big' ],
		[ "dense_rank() over (order by $order)", 'big' ]);
	my ($list, @kinds) = _list([ @keys, $window ]);
	return ("select $list from $source->{sql}" . _where($source->{columns}, 30), @kinds);
}

sub _q_limit
{
	my ($self) = @_;
	my $source = $self->_source(between(0, 1));
	my @keys = map { [ _key_expression($source->{columns}) ] } 1 .. between(1, 3);
	my ($list, @kinds) = _list(\@keys);
	my $order = join ', ', map { "$_" . pick('', ' desc', ' nulls first') } 1 .. @keys;
	my $sql = "select $list from $source->{sql}" . _where($source->{columns}, 40) . " order by ";

	# all rows that tie with the last one, whatever else they show
	return ($sql . '1' . pick('', ' desc', ' nulls first') . ' fetch first ' . between(1, 8) . ' rows with ties', @kinds)
	  if chance(25);
	return $self->_any_rows($source) if chance(20);
	$sql .= "$order limit " . between(1, 20) . pick('', ' offset 2');
	return ($sql, @kinds) if chance(60);

	# in the midst of a query
	my $rows = $self->_subquery($sql, @kinds);
	return $self->_group($rows) if chance(30);
	my $other = $self->_table;
	my $clause = _join_clause($rows->{columns}, $other->{columns}, 1);
	return ($sql, @kinds) if $clause eq '';
	my @shown = (@{ $rows->{columns} }, $other->{columns}[0]);
	my ($shown, @shown_kinds) = _list(\@shown);
	return ("select $shown from $rows->{sql} " . pick('join', 'left join') . " $other->{sql} on $clause", @shown_kinds);
}

# Without an order: as many rows as there are, up to the limit, each of them one of the source's.  Which ones is open.
sub _any_rows
{
	my ($self, $source) = @_;
	my ($column) = pick(@{ $source->{columns} });
	my $any = "select $column->[0] as c1 from $source->{sql}";
	my $limit = 'limit ' . between(1, 12) . pick('', ' offset 2');
	my $rows = $self->_alias;
	return ("select count(*) as c1 from ($any" . _where($source->{columns}, 40) . " $limit) $rows", 'big')
	  if $source->{sql} =~ /\(/ || !(grep { $_ eq $column->[1] } qw(int big text num)) || chance(50);
	return ("select count(*) as c1 from ($any where $column->[0] is not null $limit) $rows where $rows.c1 in ($any)", 'big');
}

sub _q_distinct_on
{
	my ($self) = @_;
	my $source = $self->_source(between(0, 1));
	my @keys = map { [ _key_expression($source->{columns}) ] } 1 .. 3;
	my ($list, @kinds) = _list(\@keys);
	my ($on, $order) = pick([ 'c1', 'c1' . pick('', ' desc') . ', c2' . pick('', ' desc', ' nulls first') . ', c3' ],
		[ 'c2, c1', 'c1, c2 desc, c3' ])->@*;
	return ("select distinct on ($on) c1, c2, c3 from (select $list from $source->{sql}"
		  . _where($source->{columns}, 30) . ") q order by $order", @kinds);
}

sub _q_not_in
{
	my ($self) = @_;
	my ($outer, $inner) = ($self->_source(1), $self->_table);
	my ($o) = _columns($outer->{columns}, 'int', 'big');
	my ($i) = pick(_columns($inner->{columns}, 'int', 'big'));
	return $self->_q_filter if !$o;
	my $condition = _where($inner->{columns}, 50);
	my $and = $condition eq '' ? ' where ' : "$condition and ";
	my ($list, @kinds) = _list([ $o, map { [ _expression($outer->{columns}) ] } 1 .. 2 ]);
	return ("select $list from $outer->{sql} where $o->[0] not in (select $i->[0] from $inner->{sql}${and}$i->[0] is not null)", @kinds);
}

sub _q_correlated
{
	my ($self) = @_;
	my ($outer, $inner) = ($self->_source(1), $self->_table);
	my ($o) = _columns($outer->{columns}, 'int', 'big');
	return $self->_q_filter if !$o;
	my ($i) = pick(_columns($inner->{columns}, 'int', 'big'));
	my $where = chance(75) ? " where $i->[0] = $o->[0]" : '';
	my $aggregate = pick('count(*)', "sum($i->[0])", "max($i->[0])");
	my ($list, @kinds) = _list([
		$o, [ _expression($outer->{columns}) ],
		[ "(select $aggregate from $inner->{sql}$where)", $aggregate =~ /sum/ ? 'num' : 'big' ] ]);
	return ("select $list from $outer->{sql}" . _where($outer->{columns}, 30), @kinds);
}

sub _q_srf
{
	my ($self) = @_;
	my $source = $self->_source(1);
	my @numbers = _columns($source->{columns}, 'int');
	return $self->_q_filter if @numbers < 1;
	my $x = $numbers[0][0];
	return ("select $x as c1, u.x as c2 from $source->{sql}, lateral unnest(array[$x, $x + 1, null]) u (x)",
		'int', 'int')
	  if chance(50);
	return ("select $x as c1, generate_series(1, least(abs($x), 4)) as c2 from $source->{sql}", 'int', 'int');
}

sub _q_recursive
{
	my ($self) = @_;
	my $edges = $self->_table;
	my ($alias) = $edges->{columns}[0][0] =~ /^(\w+)\./;
	return ("with recursive r (c1) as (select 1 union select ($alias.b % 50)::integer"
		  . " from r join $edges->{sql} on $alias.a = r.c1 where $alias.b is not null) select c1 from r", 'int');
}

1;
