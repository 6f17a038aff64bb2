# shellcheck shell=bash
#
# What the scripts share that build something from one of the distribution's
# source packages: where the result is kept, the source, and how the result
# gets into its place.
#
# The source is fetched with apt's private state: nothing outside our own
# directories changes, and no privilege is needed.
#
# The results are kept outside the source tree, by version and by a hash of
# all that goes into them, so that another clone need not build them again.
# They are moved into place in one step: two builds at once do no harm.

set -euo pipefail
umask 022
unset MAKEFLAGS MAKELEVEL MFLAGS CFLAGS CPPFLAGS LDFLAGS

export CC=${CC:-gcc}
compiler=$("$CC" --version 2>/dev/null | head -n 1) || compiler=
machine=$("$CC" -dumpmachine 2>/dev/null) || machine=

say() { echo "${0##*/}: $*" >&2; }
die() { say "$@"; exit 1; }
[ -n "$machine" ] || die "no C compiler ($CC)"

# ----- where the results are kept ---------------------------------------------

# After sudo, HOME may still be the other user's; leave no files of ours there.
home=${HOME:-}
if [ ! -O "$home" ]; then
	home=$(getent passwd "$(id -u)" | cut -d: -f6)
fi
cache=${XDG_CACHE_HOME:-$home/.cache}/ivm_ext
if ! mkdir -p "$cache" 2>/dev/null || [ ! -w "$cache" ]; then
	cache=${TMPDIR:-/tmp}/ivm_ext-cache-$(id -u)
	mkdir -p "$cache"
	[ -O "$cache" ] || die "$cache belongs to somebody else; set XDG_CACHE_HOME"
fi

# A hash of the arguments and of the compiler.
hash_of() { printf '%s\n' "$@" "$compiler" "$machine" | sha256sum | cut -c 1-12; }

# The newest result there is, by "name-version-hash"; the version may be "*".
find_result()
{
	find "$cache" -maxdepth 1 -name "$1" | sort -V | tail -n 1
}

# ----- the source -------------------------------------------------------------

# Sets work: a directory that goes away with this process.
make_build_dir()
{
	work=$(mktemp -d "$cache/build-XXXXXX")
	trap 'rm -rf "$work"' EXIT
	trap 'exit 1' HUP INT TERM
}

# Runs a command and shows what it said only if it fails.
quietly()
{
	"$@" >>"$work/log" 2>&1 </dev/null || {
		tail -n 40 "$work/log" >&2
		die "failed: $*"
	}
}

# The machine's own apt sources, asked for source packages instead of binary
# ones; both formats.
write_source_lists()
{
	local parts=$work/apt/parts file
	mkdir -p "$parts" "$work/apt/state/lists/partial" "$work/apt/cache/archives/partial"
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
		[ ! -f "$file" ] || sed -n -E 's/^[[:space:]]*deb([[:space:]].*)$/deb-src\1/p' \
			"$file" >"$parts/${file##*/}.list"
	done
	for file in /etc/apt/sources.list.d/*.sources; do
		[ ! -f "$file" ] || sed -E 's/^Types:.*/Types: deb-src/' \
			"$file" >"$parts/${file##*/}"
	done
}

# Runs one of apt's programs on its private state.
private_apt() # program, argument ...
{
	local program=$1
	shift
	"$program" -q \
		-o Dir::Etc::SourceList=/dev/null \
		-o Dir::Etc::SourceParts="$work/apt/parts" \
		-o Dir::State="$work/apt/state" \
		-o Dir::State::status=/var/lib/dpkg/status \
		-o Dir::Cache="$work/apt/cache" \
		-o APT::Sandbox::User="$(id -un)" \
		-o Acquire::Retries=3 \
		"$@"
}

# Unpacks the source package into $work/source.  A mirror may list a version
# whose files it does not have (any more, or yet): then the next older one.
fetch_source() # package, variable that names a source tree instead, option of dpkg-source ...
{
	local package=$1 version

	type -P apt-get apt-cache dpkg-source >/dev/null ||
		die "need apt-get and dpkg-source, or $2=directory"
	shift 2
	say "fetching the distribution's source package"
	write_source_lists
	# An unreachable list among many is no matter if the package is found.
	private_apt apt-get update >>"$work/log" 2>&1 </dev/null || :
	for version in $(private_apt apt-cache showsrc --only-source "$package" 2>>"$work/log" |
		sed -n 's/^Version: //p' | sort -V -r -u); do
		rm -f "$work"/*.dsc
		if (cd "$work" && private_apt apt-get source --download-only "$package=$version") \
			>>"$work/log" 2>&1 </dev/null; then
			(cd "$work" && quietly dpkg-source --no-check "$@" -x ./*.dsc source)
			return
		fi
		say "the source of $package $version cannot be had"
	done
	tail -n 40 "$work/log" >&2
	die "no source package $package"
}

# ----- the result -------------------------------------------------------------

# Who comes second finds the same thing in place already.
move_into_place() # directory, where it belongs
{
	if [ ! -d "$2" ]; then
		mv -T "$1" "$2" 2>/dev/null || [ -d "$2" ] || die "could not move the result to $2"
	fi
}
