# A psql that stays open: statements go in, lines come out.
#
# psql alone is enough to talk to the server, so that the tests need nothing
# but Perl itself.  What psql writes to its standard error comes in between
# the rows, in the order in which things happened.  The end of an answer is
# recognised by a line that psql is asked to echo after the statements.

package Oracle::Psql;

use strict;
use warnings;

use IO::Handle;
use IO::Select;

my $marker = 'oracle-end-of-answer';

# Opens a session of its own; the PG* variables of the environment say where.
sub new
{
	my ($class, $database) = @_;

	pipe(my $from_psql, my $answer) or die "pipe: $!";
	pipe(my $statements, my $to_psql) or die "pipe: $!";
	my $pid = fork() // die "fork: $!";
	if ($pid == 0)
	{
		open(STDIN, '<&', $statements) or die "stdin: $!";
		open(STDOUT, '>&', $answer) or die "stdout: $!";
		open(STDERR, '>&', $answer) or die "stderr: $!";
		close $_ foreach ($from_psql, $to_psql, $statements, $answer);
		my $psql = $ENV{PSQL} || 'psql';
		exec($psql, '-X', '-q', '-A', '-t', '-d', $database)
		  or die "cannot execute $psql: $!";
	}
	close $statements;
	close $answer;
	$to_psql->autoflush(1);
	return bless {
		pid => $pid,
		in => $to_psql,
		out => $from_psql,
		select => IO::Select->new($from_psql),
		buffer => '',
		timeout => 180 }, $class;
}

# Runs statements, each with its semicolon.  Returns the lines of the answer;
# the errors among them are in $self->{error} (empty: none).  Dies when the
# session is lost, or when the answer does not come in time.
sub run
{
	my ($self, $sql) = @_;
	my $in = $self->{in};
	my @lines;

	local $SIG{PIPE} = 'IGNORE';
	print $in "$sql\n\\echo $marker\n";
	$self->{error} = '';
	my $deadline = time + $self->{timeout};
	while (1)
	{
		while ($self->{buffer} =~ s/^(.*)\n//)
		{
			my $line = $1;
			if ($line eq $marker)
			{
				my @errors = grep { /^(?:ERROR|FATAL|PANIC):/ } @lines;
				$self->{error} = join("\n", @errors);
				return @lines;
			}
			push @lines, $line;
		}
		my $left = $deadline - time;
		die "no answer within $self->{timeout} s to:\n$sql\n"
		  if $left <= 0;
		next unless $self->{select}->can_read($left);
		my $got = sysread($self->{out}, $self->{buffer}, 65536,
			length $self->{buffer});
		die "connection lost:\n", join("\n", @lines, $self->{buffer}), "\nafter:\n$sql\n"
		  unless $got;
	}
}

# The only line of the answer, or an error.
sub value
{
	my ($self, $sql) = @_;
	my @lines = $self->run($sql);
	die "$self->{error}\nin: $sql\n" if $self->{error} ne '';
	die "expected one line, got: @lines\nfor: $sql\n" if @lines != 1;
	return $lines[0];
}

# Statements that must work.
sub must
{
	my ($self, $sql) = @_;
	my @lines = $self->run($sql);
	die "$self->{error}\nin: $sql\n" if $self->{error} ne '';
	return @lines;
}

sub close
{
	my ($self) = @_;
	close $self->{in};
	close $self->{out};
	waitpid($self->{pid}, 0);
	return;
}

1;
