# Random tables, and random changes of their rows.
#
# Every table has the columns
#
#	id	integer, unique in some tables, with duplicates in others
#	a	integer, few different values, may be NULL
#	b	bigint, more different values, may be NULL
#
# and some of the columns in @extra.  Some tables are partitioned, and updates
# move rows between partitions; some have children that inherit from them.
# Partitions and children do not always have their columns in the order of the
# parent.  Some tables have indexes by which the extension can look rows up,
# some have none.
#
# Two sessions write.  The second one keeps its transactions open while the
# first one goes on, so neither may wait for the other: rows with an id of at
# least $second_base belong to the second session alone.

package Oracle::Schema;

use strict;
use warnings;

use Oracle::Random;

our $second_base = 500_000_000;

# name, type, kind for the query generator
my @extra = (
	[ 'n', 'numeric', 'num' ],
	[ 's', 'text', 'text' ],
	[ 'd', 'date', 'date' ],
	[ 'f', 'double precision', 'float' ],
	[ 'o', 'boolean', 'bool' ],
	[ 't', 'timestamp with time zone', 'tstz' ],
	[ 'i', 'interval', 'ivl' ],
	[ 'c', 'character(4)', 'char' ],
	[ 'k', 'bigint', 'big' ],
	[ 'w', 'numeric(12,2)', 'num' ],
	[ 'm', 'smallint', 'int' ],
	[ 'y', 'real', 'float' ],
	[ 'v', 'character varying(6)', 'text' ],
	[ 'x', 'text collate public.ignore_case', 'ci' ],
	[ 'j', 'jsonb', 'json' ],
	[ 'r', 'integer[]', 'arr' ],
	[ 'e', 'public.mood', 'enum' ],
	[ 'p', 'public.pair', 'pair' ],
	[ 'l', 'int4range', 'range' ],
	[ 'h', 'bytea', 'bytes' ],);

# What a database needs for these.
our @types = (
	"create collation public.ignore_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);",
	"create type public.mood as enum ('sad', 'calm', 'glad');",
	"create type public.pair as (x integer, y text);",);

my @words = ('', 'a', 'apple', 'Apple', 'b', 'bee', 'c', 'cherry', 'date', 'e f', "it''s", 'ü');

# The definition of table number $number.
sub new
{
	my ($class, $number) = @_;
	my $self = bless {
		name => "t$number",
		columns => [
			{ name => 'id', type => 'integer', kind => 'int' },
			{ name => 'a', type => 'integer', kind => 'int' },
			{ name => 'b', type => 'bigint', kind => 'big' } ],
		unique => chance(70),
		next_id => 1,
		next_second_id => $second_base,
		moves => 0,
		indexes => 0,
		added => 0,
		away => 0,				# a partition or child is, for a while
		split => 0,				# a partition was replaced by two
		made => 0,
		names => {},			# of partitions that took another's place
		domain_a => pick(3, 8, 25),
		domain_b => pick(10, 40, 200),
		partition => weighted(58, '', 12, 'list', 12, 'range', 11, 'hash', 7, 'inherit') }, $class;

	foreach my $column (sort { $a->[0] cmp $b->[0] } pick_some(between(2, 6), @extra))
	{
		push @{ $self->{columns} },
		  { name => $column->[0], type => $column->[1], kind => $column->[2] };
	}
	$self->{create} = [ $self->_create ];
	return $self;
}

sub _create
{
	my ($self) = @_;
	my $name = $self->{name};
	my @columns = map { "$_->{name} $_->{type}" . ($_->{name} eq 'id' ? ' not null' : '') } @{ $self->{columns} };
	my $columns = join ', ', @columns;
	my $other_order = join ', ', 'gone integer', reverse @columns;
	my @sql;

	if ($self->{partition} eq '')
	{
		my $key = $self->{unique} ? pick(', primary key (id)', ', unique (id)') : '';
		push @sql, "create table $name ($columns$key);";
	}
	elsif ($self->{partition} eq 'list')
	{
		# a key of the whole table would have to contain a, which may be NULL
		$self->{unique} = 0;
		push @sql, "create table $name ($columns) partition by list (a);",
		  "create table ${name}_p0 partition of $name for values in (0, 1, NULL);",
		  "create table ${name}_p1 ($other_order);",
		  "alter table ${name}_p1 drop column gone;",
		  "alter table $name attach partition ${name}_p1 for values in (2, 3, 4);",
		  "create table ${name}_p2 partition of $name default;";
	}
	elsif ($self->{partition} eq 'range')
	{
		my $key = $self->{unique} ? ', primary key (id)' : '';
		push @sql, "create table $name ($columns$key) partition by range (id);",
		  "create table ${name}_p0 partition of $name for values from (minvalue) to (60);",
		  "create table ${name}_p1 partition of $name for values from (60) to (1000000)"
		  . (chance(50)
			? ";"
			: " partition by hash (id);\n"
			  . "create table ${name}_p1a partition of ${name}_p1 for values with (modulus 2, remainder 0);\n"
			  . "create table ${name}_p1b partition of ${name}_p1 for values with (modulus 2, remainder 1);"
		  ),
		  "create table ${name}_p2 partition of $name for values from (1000000) to (maxvalue);";
	}
	elsif ($self->{partition} eq 'inherit')
	{
		# a key would be one of the parent alone
		$self->{unique} = 0;
		push @sql, "create table $name ($columns);",
		  "create table ${name}_c0 (more integer) inherits ($name);",
		  "create table ${name}_c1 ($other_order);",
		  "alter table ${name}_c1 drop column gone;",
		  "alter table ${name}_c1 inherit $name;";
	}
	else
	{
		my $key = $self->{unique} ? ', primary key (id)' : '';
		push @sql, "create table $name ($columns$key) partition by hash (id);",
		  map { "create table ${name}_p$_ partition of $name for values with (modulus 3, remainder $_);" } 0 .. 2;
	}

	# long values are stored out of line, as they are
	push @sql, "alter table $name alter column s set storage external;"
	  if $self->column('s') && $self->{partition} eq '' && chance(50);
	for (1 .. between(0, 2))
	{
		push @sql, $self->create_index;
	}
	return @sql;
}

sub column
{
	my ($self, $name) = @_;
	return (grep { $_->{name} eq $name } @{ $self->{columns} })[0];
}

sub create_index
{
	my ($self) = @_;
	my $number = ++$self->{indexes};
	my @keys = ('a', 'b', 'id', 'a, b', 'b, a', '(a + 1)', '(b % 5)');
	push @keys, '(md5(s))', '(lower(left(s, 20)))' if $self->column('s');
	push @keys, 'd' if $self->column('d');
	push @keys, grep { $self->column($_) } qw(c m y v x r e p l h);

	# a B-tree could not hold the long values
	return "create index $self->{name}_i$number on $self->{name} using hash (" . pick('s', '(lower(s))') . ');'
	  if $self->column('s') && chance(20);
	my $where = chance(10) ? ' where a > 1' : '';
	return "create index $self->{name}_i$number on $self->{name} (" . pick(@keys) . ")$where;";
}

# A literal for the column; NULL now and then.
sub literal
{
	my ($self, $column) = @_;
	my $name = $column->{name};
	my $kind = $column->{kind};

	return 'null' if $name ne 'id' && chance(8);
	return between(0, $self->{domain_a} - 1) if $name eq 'a';
	return between(0, $self->{domain_b} - 1) if $name eq 'b';
	return between(-3, 90) if $kind eq 'int';
	return "'" . pick('', 'a', 'ab', 'apple', 'x y') . "'" if $name eq 'v';
	return "'" . pick('anna', 'Anna', 'ANNA', 'bob', 'Bob', 'cy') . "'" if $kind eq 'ci';
	return "'" . pick('null', '[]', '{}', '{"a": ' . between(0, 3) . '}', '{"a": 1, "b": [1, 2]}', between(0, 3)) . "'"
	  if $kind eq 'json';
	return "'{" . join(',', map { pick(1, 2, 'null') } 1 .. between(0, 3)) . "}'" if $kind eq 'arr';
	return "'" . pick('sad', 'calm', 'glad') . "'" if $kind eq 'enum';
	return 'row(' . pick(1, 2, 'null') . ", '" . pick('a', 'b') . "')" if $kind eq 'pair';
	return "'" . pick('empty', '[1,5)', '(,3]', '[2,)', '[' . between(0, 4) . ',9)') . "'" if $kind eq 'range';
	return "'\\x" . pick('', '00', '0001', 'ff') . "'" if $kind eq 'bytes';
	return pick(between(-5, 60), between(-4_000_000_000, 4_000_000_000), 9_000_000_000_000_000_000)
	  if $kind eq 'big';
	return between(-50, 50) . pick('', '', '.5', '.25', '.10', '.000') if $kind eq 'num';
	return between(-200, 200) . pick('.0', '.25', '.5', '.75') if $kind eq 'float';
	return pick('true', 'false') if $kind eq 'bool';
	return sprintf("'2024-%02d-%02d'", between(1, 12), pick(1, 2, 15, 28)) if $kind eq 'date';
	return sprintf("'2024-03-%02d %02d:%02d:00+00'", between(28, 31), between(0, 23), pick(0, 30))
	  if $kind eq 'tstz';
	return "'" . between(-3, 40) . ' ' . pick('hours', 'days', 'seconds') . "'"
	  if $kind eq 'ivl';
	return "'" . pick('', 'a', 'ab', 'ab  ', 'b', 'wxyz') . "'" if $kind eq 'char';
	return sprintf("(select string_agg(md5((%d + x)::text), '') from generate_series(1, %d) x)",
		between(1, 5), pick(70, 100))
	  if chance(4);
	return "'" . pick(@words) . "'";
}

# An expression with the series' value g for a row of a bulk insert.
sub _series_expression
{
	my ($self, $column) = @_;
	my $name = $column->{name};
	my $kind = $column->{kind};
	my $factor = pick(7, 13, 31, 101);

	return "(g::bigint * $factor) % $self->{domain_a}" if $name eq 'a';
	return "nullif((g::bigint * $factor) % $self->{domain_b}, 0)" if $name eq 'b';
	return "(g::bigint * $factor) % 5000000000" if $kind eq 'big';
	return "((g::bigint * $factor) % 1000) / 8.0" if $kind eq 'num';
	return "((g::bigint * $factor) % 100) / 4.0::double precision" if $kind eq 'float';
	return "(g::bigint * $factor) % 3 = 0" if $kind eq 'bool';
	return "date '2024-01-01' + ((g::bigint * $factor) % 300)::integer" if $kind eq 'date';
	return "timestamptz '2024-03-30 00:00:00+00' + ((g::bigint * $factor) % 60) * interval '1 hour'"
	  if $kind eq 'tstz';
	return "((g::bigint * $factor) % 50) * interval '1 hour'" if $kind eq 'ivl';
	return "(g::bigint * $factor) % 90" if $kind eq 'int';
	return "array[((g::bigint * $factor) % 4)::integer, 1]" if $kind eq 'arr';
	return "int4range(0, ((g::bigint * $factor) % 6)::integer)" if $kind eq 'range';
	return "jsonb_build_object('a', (g::bigint * $factor) % 4)" if $kind eq 'json';
	return $self->literal($column) . "::$column->{type}" if $kind eq 'enum' || $kind eq 'pair' || $kind eq 'bytes';
	return "chr((97 + (g::bigint * $factor) % 5)::integer)";
}

# An expression for UPDATE ... SET column =.
sub _set_expression
{
	my ($self, $column) = @_;
	my $name = $column->{name};
	my $kind = $column->{kind};

	return $self->literal($column) if chance(40);
	return "(coalesce(a, 0) + " . between(1, 3) . ") % $self->{domain_a}" if $name eq 'a';
	return "(coalesce(b, 5) + " . between(1, 9) . ") % $self->{domain_b}" if $name eq 'b';
	return "$name + 1" if $kind eq 'big' && $name ne 'k';
	return $self->literal($column) if $name eq 'v';
	return "upper($name)" if $kind eq 'ci' && chance(50);
	return "$name || 1" if $kind eq 'arr' && chance(50);
	return "$name + " . pick('1', '0.5', '-0.25') if $kind eq 'num' || $kind eq 'float';
	return "not $name" if $kind eq 'bool';
	return "$name + 1" if $kind eq 'date';
	return "$name + interval '5 hours'" if $kind eq 'tstz' || $kind eq 'ivl';
	return "left($name || 'x', 20)" if $kind eq 'text';
	return $self->literal($column);
}

# Which rows a statement of the first session touches.
sub _where
{
	my ($self) = @_;
	my $from = between(0, $self->{next_id});
	return weighted(
		4, "id = $from",
		4, "id between $from and " . ($from + between(1, 20)),
		2, "a = " . between(0, $self->{domain_a} - 1),
		2, "b = " . between(0, $self->{domain_b} - 1),
		1, "a is null",
		1, "id % 11 = " . between(0, 10),
		1, "a > " . between(0, $self->{domain_a}))
	  . " and id < $second_base";
}

sub _insert
{
	my ($self, $second, $rows) = @_;
	my $ids = $second ? 'next_second_id' : 'next_id';
	my @columns = @{ $self->{columns} };
	my $names = join ', ', map { $_->{name} } @columns;
	my $into = $self->{name};
	$into .= pick('', '_c0', '_c1') if $self->{partition} eq 'inherit';

	if ($rows > 40)
	{
		my $from = $self->{$ids};
		my $to = ($self->{$ids} += $rows) - 1;
		my $list = join ', ', map { $_->{name} eq 'id' ? 'g' : $self->_series_expression($_) } @columns;
		return "insert into $into ($names) select $list from generate_series($from, $to) g;";
	}
	my @values;
	for (1 .. $rows)
	{
		my $id = $self->{$ids}++;
		$id = between(1, 20) if !$self->{unique} && !$second && chance(30);
		push @values,
		  '(' . join(', ', map { $_->{name} eq 'id' ? $id : $self->literal($_) } @columns) . ')';

		# the same row once more
		push @values, $values[-1] if !$self->{unique} && chance(15);
	}
	return "insert into $into ($names) values " . join(', ', @values) . ';';
}

# Rows to begin with.
sub fill
{
	my ($self) = @_;
	my @sql;
	push @sql, $self->_insert(0, between(20, 40));
	push @sql, $self->_insert(0, between(41, 150)) if chance(60);
	return @sql;
}

# One statement that changes rows.  "size" is how many the table has now:
# large tables shrink, small ones grow.
sub change
{
	my ($self, $second, $size) = @_;
	my $name = $self->{name};
	my $grow = $size < 80 ? 60 : $size < 250 ? 35 : 12;
	my $shrink = $size < 40 ? 5 : $size < 250 ? 20 : 45;
	my $where = $second ? "id >= $second_base and id % 7 = " . between(0, 6) : $self->_where;

	my $what = weighted($grow, 'insert', $shrink, 'delete', 50, 'update', 6, 'key', 3, 'all',
		$size > 400 ? 25 : 0, 'shrink');
	if ($what eq 'insert')
	{
		return $self->_insert($second, weighted(50, between(1, 5), 35, between(6, 25), 15, between(41, 150)));
	}
	elsif ($what eq 'delete')
	{
		return "delete from $name where $where;";
	}
	elsif ($what eq 'shrink' && !$second)
	{
		return "delete from $name where id % 3 = " . between(0, 2) . " and id < $second_base;";
	}
	elsif ($what eq 'key' && !$second)
	{
		# to where no other row is, which is another partition
		my $offset = 1_000_000 * ++$self->{moves};
		return "update $name set id = id + $offset where $where and id < 1000000;";
	}
	my @columns = grep { $_->{name} ne 'id' } @{ $self->{columns} };
	my @set = map { "$_->{name} = " . $self->_set_expression($_) } pick_some(between(1, 3), @columns);
	$where = "id < $second_base" if $what eq 'all' && !$second;
	return "update $name set " . join(', ', @set) . " where $where;";
}

# Statements by which partitions and children go, come back, with other rows at times, and are made and dropped.
sub members
{
	my ($self) = @_;
	my $name = $self->{name};
	my $columns = join ', ', map { $_->{name} } @{ $self->{columns} };
	my $kind = $self->{partition};

	if ($kind eq 'list' || $kind eq 'inherit')
	{
		my $member = $name . ($kind eq 'list' ? '_p1' : '_c1');

		$self->{away} = !$self->{away};
		return ("alter table $member " . ($self->{away} ? 'no inherit' : 'inherit') . " $name;",
			$self->{away} ? $self->_write($member) : ()) if $kind eq 'inherit';
		return ("alter table $name detach partition $member;", $self->_write($member)) if $self->{away};

		# what went to the default meanwhile
		return ('begin;', "with gone as (delete from ${name}_p2 where a in (2, 3, 4) returning *)"
			  . " insert into $member ($columns) select $columns from gone;",
			"alter table $name attach partition $member for values in (2, 3, 4);", 'commit;');
	}
	if ($kind eq 'hash' && !$self->{split} && chance(30))
	{
		$self->{split} = 1;
		return ('begin;', "alter table $name detach partition ${name}_p1;",
			"create table ${name}_p1a partition of $name for values with (modulus 6, remainder 1);",
			"create table ${name}_p1b partition of $name for values with (modulus 6, remainder 4);",
			"insert into $name ($columns) select $columns from ${name}_p1;", pick('', "drop table ${name}_p1;"), 'commit;');
	}

	# a place without a partition may not be left: rows could come for it
	my $number = pick(0, 2);
	my $member = $self->{names}{$number} || "${name}_p$number";
	my $bounds = $kind eq 'hash' ? "with (modulus 3, remainder $number)" :
	  $number == 0 ? 'from (minvalue) to (60)' : 'from (1000000) to (maxvalue)';
	return ("alter table $name detach partition $member concurrently;", $self->_write($member),
		"alter table $name attach partition $member for values $bounds;") if chance(30);
	return ('begin;', $self->_write($name), "alter table $name detach partition $member;", $self->_write($member),
		"alter table $name attach partition $member for values $bounds;", $self->_write($name), 'commit;') if chance(50);
	my $new = "${name}_p${number}_m" . ++$self->{made};
	$self->{names}{$number} = $new;
	return ('begin;', "alter table $name detach partition $member;", "create table $new partition of $name for values $bounds;",
		"insert into $name ($columns) select $columns from $member where id % 4 <> 0;", 'commit;', pick('', "drop table $member;"));
}

# A change of rows that stay where they are.
sub _write
{
	my ($self, $table) = @_;
	return pick("update $table set b = coalesce(b, 3) + 1 where id % 3 = 0;", "delete from $table where id % 19 = 0;",
		"update $table set b = 1;", '');
}

# A statement that keeps the rows as they are (or, for TRUNCATE, keeps none).
# It takes locks that writers wait for.
sub maintenance
{
	my ($self) = @_;
	my $name = $self->{name};
	my $column = 'z' . ++$self->{added};
	return weighted(
		4, "vacuum $name;",
		4, "analyze $name;",
		3, $self->create_index,
		$self->{indexes} ? 3 : 0, "drop index if exists ${name}_i" . between(1, $self->{indexes} || 1) . ";",
		2, "vacuum full $name;",
		$self->{away} ? 0 : 2, "alter table $name add column $column integer default " . between(1, 9) . ";",
		1, "reindex table $name;",
		1, "truncate $name;");
}

1;
