#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Install what building and testing NetIO needs, on Debian or Ubuntu, as root.
# Says what it installs, and does nothing when all is there.
#
#   hack/bootstrap.sh            install what is missing
#   hack/bootstrap.sh --check    only tell; exit 1 if something is missing
#
# Go. go.mod names the Go that NetIO needs, which is newer than any that Debian
# or Ubuntu ships. Its toolchains are modules (golang.org/toolchain) of the Go
# module proxy, checked against the checksum database like any module. A go
# command from 1.21 on fetches them by itself (GOTOOLCHAIN), those of Debian 12
# (1.19) and Ubuntu 22.04 (1.18) do not; but every go command can download a
# module. So one way serves all of them: whatever go there is (else apt's
# golang-go) downloads the toolchain into the module cache, it is made
# executable there as a newer go command would do, and build/go points at it.
# The Makefile puts build/go/bin first in PATH.
set -euo pipefail
cd "$(dirname "$0")/.."
export HOME=${HOME:-/root} DEBIAN_FRONTEND=noninteractive

# what it is looked for by : Debian package
readonly NEEDS='
gcc:gcc
/usr/include/stdio.h:libc6-dev
/usr/include/linux/types.h:linux-libc-dev
make:make
git:git
/etc/ssl/certs/ca-certificates.crt:ca-certificates
protoc:protobuf-compiler
nft:nftables
ip:iproute2
iperf3:iperf3
tcpdump:tcpdump
ethtool:ethtool
ping:iputils-ping
sysctl:procps
jq:jq
strace:strace
shellcheck:shellcheck
'

say() { echo "bootstrap: $*"; }
die() {
	echo "bootstrap: $*" >&2
	exit 1
}

present() {
	case $1 in
	/*) [ -e "$1" ] ;;
	*) PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null ;;
	esac
}

missing_packages() {
	local need
	for need in $NEEDS; do
		present "${need%%:*}" || echo "${need##*:}"
	done
}

apt_install() {
	command -v apt-get >/dev/null ||
		die "this is not Debian or Ubuntu; install with your own package manager what is named above"
	[ "$(id -u)" = 0 ] || die "run as root to install: $*"
	say "installing with apt-get: $*"
	apt-get -qq update
	apt-get -qq install -y --no-install-recommends "$@" >/dev/null
}

wanted_go() { sed -n 's/^go \([0-9.]*\).*/\1/p' go.mod; }

# go_version FILE: of a go command without letting it switch to another.
go_version() { (cd / && GOTOOLCHAIN=local "$1" version 2>/dev/null) | sed -n 's/^go version go\([0-9.]*\).*/\1/p'; }

at_least() { [ "$(printf '%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# any_go: the newest go command there is.
any_go() {
	local go version
	for go in "$PWD/build/go/bin/go" "$(command -v go || true)" /usr/local/go/bin/go /usr/lib/go/bin/go; do
		[ -x "$go" ] || continue
		version=$(go_version "$go")
		[ -z "$version" ] || echo "$version $(realpath -s "$go")"
	done | sort -V | tail -n 1 | cut -d' ' -f2
}

# fetch_toolchain GO VERSION: by the go command GO, into build/go.
fetch_toolchain() {
	local go=$1 version=$2 module answer dir empty
	module=golang.org/toolchain@v0.0.1-go$version.$("$go" env GOHOSTOS)-$("$go" env GOHOSTARCH)
	say "downloading Go $version with $go as the module $module"
	empty=$(mktemp -d)
	# What goes wrong is a field of the JSON, not on standard error.
	answer=$(cd "$empty" && GOTOOLCHAIN=local GOFLAGS='' GO111MODULE=on "$go" mod download -json "$module") || true
	rmdir "$empty"
	field() { sed -n 's/^[[:space:]]*"'"$1"'": "\(.*\)",\{0,1\}$/\1/p' <<<"$answer"; }
	dir=$(field Dir)
	[ -d "$dir" ] || die "cannot download $module: $(field Error)"

	# Modules have no executable files, and none that is named go.mod below
	# their top. The same as cmd/go/internal/toolchain does; bin/go last, since
	# its mode tells other go commands that all is done.
	chmod -R u+w "$dir"
	find "$dir" -name _go.mod -execdir cp _go.mod go.mod ';'
	chmod -R a+x "$dir/pkg/tool"
	find "$dir/lib" -name 'go_?*_?*_exec' -exec chmod a+x {} +
	chmod a+x "$dir/bin/gofmt"
	chmod a+x "$dir/bin/go"
	mkdir -p build
	ln -sfn "$dir" build/go
}

check=
case ${1-} in
--check) check=1 ;;
'') ;;
*) die "usage: hack/bootstrap.sh [--check]" ;;
esac

read -ra packages < <(missing_packages | sort -u | xargs)
want=$(wanted_go)
[ -n "$want" ] || die "go.mod has no go line"
go=$(any_go)
go_ok=
if [ -n "$go" ] && at_least "$(go_version "$go")" "$want"; then
	go_ok=1
elif [ -z "$go" ]; then
	packages+=(golang-go)
fi

if [ -n "$check" ]; then
	[ ${#packages[@]} -eq 0 ] || say "missing packages: ${packages[*]}"
	[ -n "$go_ok" ] || say "missing: Go $want or newer"
	[ ${#packages[@]} -eq 0 ] && [ -n "$go_ok" ]
	exit
fi

[ ${#packages[@]} -eq 0 ] || apt_install "${packages[@]}"
[ -n "$go_ok" ] || fetch_toolchain "$(any_go)" "$want"

go=$(any_go)
version=$(go_version "$go")
at_least "$version" "$want" || die "$go is Go $version after all that; NetIO needs $want"
# A go command outside PATH (sudo's secure_path) is found by the same link.
if [ "$(PATH=build/go/bin:$PATH command -v go || true)" = "" ]; then
	mkdir -p build
	ln -sfn "$(realpath "$("$go" env GOROOT)")" build/go
fi
say "all there: Go $version, $(gcc -dumpfullversion -dumpversion | sed 's/^/gcc /'), $(protoc --version)"
