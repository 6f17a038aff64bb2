# Choices.  Everything random in the oracle comes from here, so that a seed
# determines a run.  (Perl's generator is the same on every machine; the order
# of a hash's keys is not, so nobody may choose from unsorted keys.)

package Oracle::Random;

use strict;
use warnings;

use Exporter 'import';

our @EXPORT = qw(between chance pick pick_some shuffled weighted);

# An integer from $low to $high, both possible.
sub between
{
	my ($low, $high) = @_;
	return $low + int(rand($high - $low + 1));
}

# True in $percent of a hundred cases.
sub chance
{
	my ($percent) = @_;
	return rand(100) < $percent;
}

sub pick
{
	return $_[ int(rand(scalar @_)) ];
}

sub shuffled
{
	my @list = @_;
	for (my $i = $#list; $i > 0; $i--)
	{
		my $j = int(rand($i + 1));
		@list[ $i, $j ] = @list[ $j, $i ];
	}
	return @list;
}

# $n different elements (fewer if there are not so many), in random order.
sub pick_some
{
	my ($n, @list) = @_;
	@list = shuffled(@list);
	return @list <= $n ? @list : @list[ 0 .. $n - 1 ];
}

# One of the values of (weight, value, weight, value, ...).
sub weighted
{
	my @pairs = @_;
	my $sum = 0;
	for (my $i = 0; $i < @pairs; $i += 2)
	{
		$sum += $pairs[$i];
	}
	my $at = rand($sum);
	for (my $i = 0; $i < @pairs; $i += 2)
	{
		return $pairs[ $i + 1 ] if ($at -= $pairs[$i]) < 0;
	}
	return $pairs[-1];
}

1;
