# From a failed run to a short script.
#
# The log of a run is a list of units: { type, statements, session }, type one
# of object, transaction, maintenance, sync.  What the failed view does not
# read goes first; then pieces of what is left are taken out as long as the
# failure can still be seen, each time in a new schema, for as many seconds as
# there are.  Trials run in one session, the second session's transactions at
# the place of their commit.  A failure that needs the very timing cannot be
# seen in that way, and the whole list of units is the script.

package Oracle::Reduce;

use strict;
use warnings;

use Oracle::Psql;
use Oracle::Schema;

# SQL that prints missing|extra for a view.
sub comparison
{
	my ($view) = @_;
	return "set timezone = '$view->{timezone}';\n"
	  . "with q as materialized ($view->{sql}), v as materialized (table $view->{name})\n"
	  . "select (select count(*) from (table q except all table v) x),"
	  . " (select count(*) from (table v except all table q) x);\n"
	  . "set timezone = 'UTC';";
}

# The lines of the script.
sub script
{
	my ($database, $run, $view, $seconds) = @_;
	my @log = @{ $run->{log} };
	@log = @log[ 0 .. $view->{failed_at} - 1 ] if defined $view->{failed_at};
	my @units = _relevant($run, $view, @log);
	my @setup = ('set search_path = r;', "set timezone = 'UTC';", 'set client_min_messages = warning;');
	my @lines;

	my $deadline = time + $seconds;
	my $session = eval { $seconds > 0 ? Oracle::Psql->new($database) : undef };
	if ($session && eval { _fails($session, $view, @units) })
	{
		eval { @units = _shorter($session, $view, $deadline, @units); 1 } or push @lines, "-- $@";
	}
	else
	{
		push @lines, '-- not seen again by one session alone; this is everything that happened';
	}
	eval { $session->run('rollback; drop schema if exists oracle_r cascade;') if $session; };
	push @lines, @Oracle::Schema::types, 'create schema r;', @setup;
	foreach my $unit (@units)
	{
		push @lines, '-- second session, began before the transactions above' if $unit->{session} == 2;
		push @lines, @{ $unit->{statements} };
	}
	push @lines, 'select ivm.sync();', comparison($view);
	return @lines;
}

# Without objects that the view does not need, and what is done to them.
sub _relevant
{
	my ($run, $view, @log) = @_;
	my %needed = ($view->{name} => 1);
	foreach my $unit (reverse grep { $_->{type} eq 'object' } @log)
	{
		next if !$needed{ $unit->{object}{name} };
		$needed{$_} = 1 foreach @{ $unit->{object}{reads} };
		$needed{$_} = 1 foreach "@{ $unit->{statements} }" =~ /\b(r?[tv]+\d+)\b/g;
	}
	my @units;
	foreach my $unit (@log)
	{
		if ($unit->{type} eq 'object')
		{
			push @units, $unit if $needed{ $unit->{object}{name} };
			next;
		}
		my @statements = grep {
			my ($table) = /^(?:insert into|update|delete from|truncate|vacuum(?: full)?|analyze|alter table|reindex table|create index \w+ on)\s+(t\d+)/;
			($table) = /^drop index if exists (t\d+)_i/ if !$table;
			!$table || $needed{$table};
		} @{ $unit->{statements} };
		next if !grep { !/^(?:begin|commit|rollback|prepare|savepoint|release|set local)/ } @statements;
		push @units, { %$unit, statements => \@statements };
	}
	return @units;
}

# True if the view is wrong, in any way, after the units.
sub _fails
{
	my ($session, $view, @units) = @_;
	$session->run('rollback;');
	$session->must("set client_min_messages = warning; set statement_timeout = '70s';"
		  . 'drop schema if exists oracle_r cascade; create schema oracle_r; set search_path = oracle_r;'
		  . "set timezone = 'UTC';");
	foreach my $unit (@units)
	{
		$session->run($_) foreach @{ $unit->{statements} };
	}
	$session->run("rollback; select ivm.sync('$view->{name}');");
	return 1 if $session->{error} =~ /incremental view/;
	my @answer = $session->run(comparison($view));
	return $answer[-1] =~ /^\d+\|\d+$/ ? $answer[-1] ne '0|0' : $session->{error} !~ /does not exist/;
}

# Takes out pieces, large ones first: units, then statements of transactions.
sub _shorter
{
	my ($session, $view, $deadline, @units) = @_;

	my $size = int((1 + @units) / 2);
	while ($size >= 1)
	{
		for (my $at = 0; $at < @units;)
		{
			return @units if time > $deadline;
			my $end = $at + $size - 1;
			$end = $#units if $end > $#units;
			my @trial = @units;
			my @out = splice @trial, $at, $end - $at + 1;
			if (!grep({ $_->{type} eq 'object' && $_->{object}{name} eq $view->{name} } @out)
				&& _fails($session, $view, @trial))
			{
				@units = @trial;
			}
			else
			{
				$at += $size;
			}
		}
		$size = int($size / 2);
	}
	for my $i (0 .. $#units)
	{
		next if $units[$i]{type} eq 'object';
		for (my $s = $#{ $units[$i]{statements} }; $s >= 0; $s--)
		{
			return @units if time > $deadline;
			my @statements = @{ $units[$i]{statements} };
			my $out = splice @statements, $s, 1;
			next if $out =~ /^(?:begin|commit|rollback|prepare)/ || !@statements;
			my @trial = @units;
			$trial[$i] = { %{ $units[$i] }, statements => \@statements };
			@units = @trial if _fails($session, $view, @trial);
		}
	}
	return @units;
}

1;
