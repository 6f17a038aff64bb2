# shellcheck shell=bash
#
# What the scripts share: finding the server's programs, a private copy of
# its installation, throw-away clusters, and leaving root behind.
#
# A throw-away cluster lives in one directory:
#
#	pg/		a copy of PostgreSQL's installation with ivm_ext in it
#	data/	the cluster
#	log		the server's log
#
# and the socket, for it listens on nothing else: no port can collide, and a
# server that runs on the machine is neither touched nor found by accident.
#
# PostgreSQL finds its libraries and shared files relative to its own binary
# (and libpq by LD_LIBRARY_PATH), so a copy that keeps the layout works anywhere.  Tests therefore need no
# right to write to the system's directories, several can run at once with
# different builds, and nothing is left behind.

set -euo pipefail
umask 022

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# What the caller's environment says about servers is meant for others.
for variable in $(compgen -e PG); do
	case $variable in
	PG_CONFIG | PG_TEST_*) ;;
	*) unset "$variable" ;;
	esac
done
unset variable

# Of make's flags only the variables set on its command line are for us.
case ${MAKEFLAGS:-} in
*'-- '*) export MAKEFLAGS="-- ${MAKEFLAGS#*-- }" ;;
*) unset MAKEFLAGS ;;
esac
unset MFLAGS MAKELEVEL

say() { echo "==> $*"; }
die()
{
	echo "${0##*/}: $*" >&2
	exit 1
}

# Sets pg_config, and where the extension is built for it, and how.  Which
# server that is, says SERVER:
#
#	packaged	the distribution's, or that of PG_CONFIG (the default)
#	sanitized	one with assertions and sanitizers (scripts/sanitized-server), and a
#				debug build of the extension
#
# install-packages installs PostgreSQL 15; where several versions are
# installed, "pg_config" may be another one's.
server=${SERVER:-packaged}
find_pg_config()
{
	local found

	build_dir=$top
	build_flags=()
	case $server in
	packaged)
		pg_config=${PG_CONFIG:-}
		if [ -z "$pg_config" ]; then
			pg_config=/usr/lib/postgresql/15/bin/pg_config
			[ -x "$pg_config" ] || pg_config=pg_config
		fi
		;;
	sanitized)
		found=$("$top/scripts/sanitized-server") || die "the sanitized server could not be built"
		pg_config=$found/bin/pg_config
		build_dir=$top/.build-sanitized
		build_flags=(IVM_DEBUG=1 COPT=-fsanitize=nonnull-attribute)
		mkdir -p "$build_dir"
		;;
	*) die "there is no server \"$server\"; there are packaged and sanitized" ;;
	esac
	command -v "$pg_config" >/dev/null || die "cannot find $pg_config; set PG_CONFIG"
	bindir=$("$pg_config" --bindir)
	[ -x "$bindir/postgres" ] || die "no server in $bindir; set PG_CONFIG"
	find_server_user
}

# Calls make for the server, one call at a time.
make_in_tree()
{
	(
		flock 9
		make -s --no-print-directory -C "$build_dir" -f "$top/Makefile" PG_CONFIG="$pg_config" \
			"${build_flags[@]}" "$@"
	) 9<"$build_dir"
}

# ----- leaving root behind ----------------------------------------------------

# initdb, postgres and pg_regress refuse to run as root.  Sets server_user, for
# clusters that are yet to be made: the distribution's packages bring a user
# with them, so the server is looked for first.
find_server_user()
{
	if [ "$(id -u)" != 0 ]; then
		server_user=$(id -un)
	elif id postgres >/dev/null 2>&1; then
		server_user=postgres
	else
		server_user=nobody
	fi
}

# Runs a command as the user that owns the clusters.  The caller has made
# sure that the current directory is readable to that user.
as_server_user()
{
	if [ "$(id -u)" = 0 ]; then
		setpriv --reuid "$server_user" --regid "$(id -g "$server_user")" --clear-groups -- "$@"
	else
		"$@"
	fi
}

# Makes a directory for us and the server's user, in the place of an older one.
make_work_dir()
{
	local dir=$1

	remove_work_dir "$dir"
	mkdir -m 700 "$dir" || die "cannot create $dir"
	: >"$dir/.ivm_ext-work"
	[ "$(id -u)" != 0 ] || chown "$server_user" "$dir"
}

# Nothing is run or removed in a directory that these scripts did not make:
# its name can be guessed, and others may write to the directory it is in.
# The mark is a file that only we can have made.  Whose the directory is says
# no more than as which user the server runs in it; sets server_user to that.
require_work_dir()
{
	local dir=$1 mark=$1/.ivm_ext-work

	if [ -L "$dir" ] || [ -L "$mark" ] || [ ! -f "$mark" ] || [ ! -O "$mark" ]; then
		die "$dir is in the way, and it is none of ours"
	fi
	server_user=$(stat -c %U "$dir")
}

remove_work_dir()
{
	local server_user

	[ -e "$1" ] || [ -L "$1" ] || return 0
	require_work_dir "$1"
	rm -rf -- "$1"
}

# ----- the installation -------------------------------------------------------

# Copies the server's installation to DIR/pg and installs the build there.
# From the directory of programs only PostgreSQL's own are taken: it may be
# /usr/bin.
stage()
{
	local dir=$1 path file

	mkdir -p "$dir/pg$bindir"
	for file in "$bindir"/{postgres,initdb,psql,pgbench,pg_*,{create,drop}{db,user},{vacuum,reindex,cluster}db}; do
		[ ! -e "$file" ] || cp -R -P "$file" "$dir/pg$bindir/"
	done
	for path in "$("$pg_config" --pkglibdir)" "$("$pg_config" --sharedir)"; do
		mkdir -p "$dir/pg$path"
		for file in "$path"/*; do
			case ${file##*/} in
			bitcode | man) ;;
			*) [ -e "$dir/pg$file" ] || cp -R -P "$file" "$dir/pg$path/" ;;
			esac
		done
	done
	for path in "$("$pg_config" --libdir)" "$("$pg_config" --localedir)"; do
		if [ ! -e "$dir/pg$path" ]; then
			mkdir -p "$dir/pg${path%/*}"
			ln -s "$path" "$dir/pg$path"
		fi
	done
	# where libpq is copied, that is the one
	path=$dir/pg$("$pg_config" --libdir)
	[ -L "$path" ] || export LD_LIBRARY_PATH=$path
	make_in_tree DESTDIR="$dir/pg" install >/dev/null
	staged_bindir=$dir/pg$bindir
	echo "$staged_bindir" >"$dir/.ivm_ext-work"
}

# ----- clusters ---------------------------------------------------------------

# create_cluster DIR [line of postgresql.conf ...]
create_cluster()
{
	local dir=$1
	shift

	# a socket's name has to fit into a sockaddr_un
	[ ${#dir} -le 80 ] || die "the path $dir is too long for a socket; set TMPDIR"
	as_server_user "$staged_bindir/initdb" -D "$dir/data" -U postgres -A trust \
		--no-sync --locale=C --encoding=UTF8 >"$dir/initdb.log" 2>&1 </dev/null ||
		{
			cat "$dir/initdb.log" >&2
			die "initdb failed"
		}
	as_server_user tee -a "$dir/data/postgresql.conf" >/dev/null <<-END
		listen_addresses = ''
		port = 5432
		unix_socket_directories = '$dir'
		shared_preload_libraries = 'ivm_ext'
		wal_level = logical
		max_replication_slots = 16
		max_wal_senders = 16
		max_worker_processes = 32
		max_prepared_transactions = 10
		log_line_prefix = '%m [%p] %b %q%a '
		$(printf '%s\n' "$@")
		${CHECK_SETTINGS:-}
	END
	start_cluster "$dir"
}

start_cluster()
{
	as_server_user "$staged_bindir/pg_ctl" -D "$1/data" -l "$1/log" -s -w -t 60 start </dev/null ||
		{
			tail -n 30 "$1/log" >&2
			die "the server did not start"
		}
}

# stop_cluster DIR [mode]: no error if there is none or it does not run.
stop_cluster()
{
	local ctl server_user

	[ -f "$1/data/postmaster.pid" ] || return 0
	require_work_dir "$1"
	ctl=$(cat "$1/.ivm_ext-work")/pg_ctl
	as_server_user "$ctl" -D "$1/data" -s -w -t 60 -m "${2:-fast}" stop >/dev/null 2>&1 ||
		as_server_user "$ctl" -D "$1/data" -s -w -m immediate stop >/dev/null 2>&1 || :
}

# Ends what still runs in a work directory, whoever started it there.
end_processes_in()
{
	local signal pid found server_user

	[ -e "$1" ] || return 0
	require_work_dir "$1"
	for signal in QUIT QUIT KILL; do
		found=
		for pid in /proc/[0-9]*; do
			case $(readlink "$pid/cwd" 2>/dev/null || :) in
			"$1" | "$1"/*)
				pid=${pid#/proc/}
				if [ "$pid" != $$ ] && [ "$pid" != "$BASHPID" ]; then
					kill -"$signal" "$pid" 2>/dev/null || :
					found=yes
				fi
				;;
			esac
		done
		[ -n "$found" ] || return 0
		sleep 1
	done
}

# psql against the cluster in DIR, as its superuser, with no one's psqlrc.
cluster_psql()
{
	local dir=$1
	shift
	PGHOST=$dir PGPORT=5432 PGUSER=postgres \
		as_server_user "$staged_bindir/psql" -X -v ON_ERROR_STOP=1 "$@"
}
