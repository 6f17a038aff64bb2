# Texts that are too long for their places in shared memory are cut at
# characters: what a client gets is valid in any encoding.
#
# kills: nothing

use strict;
use warnings;

use Encode ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IvmTest;

my $node = new_node('text');

sub is_valid
{
	my ($text, $name) = @_;
	my $copy = $text;
	return ok(eval { Encode::decode('UTF-8', $copy, Encode::FB_CROAK); 1 }, $name);
}

# characters of two, three and four bytes in UTF-8; those of EUC_JP have two or three
$node->safe_psql('postgres', q{CREATE DATABASE euc ENCODING 'EUC_JP' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'});
my %characters = (postgres => [ 228, 8364, 128512 ], euc => [ 12354, 20118 ]);

foreach my $dbname (sort keys %characters)
{
	$node->safe_psql($dbname, <<'EOS');
CREATE EXTENSION ivm_ext;
CREATE FUNCTION fail(what text, shift int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	IF what IS NULL THEN RETURN 1; END IF;
	RAISE EXCEPTION USING MESSAGE = repeat('x', shift) || repeat(what, 2000), DETAIL = repeat('x', shift) || repeat(what, 2000),
		HINT = repeat('x', shift) || repeat(what, 2000);
END $$;
CREATE TABLE t (what text, shift int);
EOS
	foreach my $code (@{ $characters{$dbname} })
	{
		foreach my $shift (0 .. 3)
		{
			my $name = "character $code after $shift others in $dbname";
			# what chr() means depends on the encoding of the database
			my $bytes = unpack('H*', Encode::encode('UTF-8', chr($code)));
			my $character = "convert_from('\\x$bytes', 'UTF8')";

			$node->safe_psql($dbname, "INSERT INTO t VALUES ($character, $shift)");
			my ($ret, $stdout, $stderr) = $node->psql($dbname, "SET client_encoding = 'UTF8';\nCREATE INCREMENTAL VIEW v AS SELECT fail(public.t.what, public.t.shift) FROM public.t");
			my ($message) = $stderr =~ /ERROR:  (.*)/;
			my ($detail) = $stderr =~ /DETAIL:  (x*[^\nx]{100,})/;
			my ($hint) = $stderr =~ /HINT:  (.*)/;
			ok(length($message) > 500 && length($detail) > 500 && length($hint) > 300, "the error comes with all its parts: $name");
			is_valid($stderr, "the error is valid: $name");

			$node->safe_psql($dbname, 'DELETE FROM t; CREATE INCREMENTAL VIEW w AS SELECT fail(public.t.what, public.t.shift) FROM public.t');
			$node->safe_psql($dbname, "INSERT INTO t VALUES ($character, $shift)");
			wait_for_state($node, 'w', 'error', $dbname);
			my $shown = $node->safe_psql($dbname, "SET client_encoding = 'UTF8'; SELECT last_error, last_rebuild_reason FROM pg_stat_ivm");
			ok(length($shown) > 200, "the error is shown: $name");
			is_valid($shown, "and valid: $name");
			$node->safe_psql($dbname, 'DROP MATERIALIZED VIEW w; DELETE FROM t');
		}
	}
}

$node->stop;
done_testing();
