#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Debian's kernels, to build netio.ko against and to boot it in QEMU. Says what
# it installs and fetches, and does nothing when all is there.
#
#   hack/kernels.sh [SERIES...]    install QEMU and tools, fetch these kernels (default: all)
#   hack/kernels.sh --source NAME  fetch the sources linux-source-6.1, and what compiling them needs
#   hack/kernels.sh --static       install what `make kmod-check` needs
#   hack/kernels.sh --list         the series, and what is there of them
#   hack/kernels.sh --names        the names of those that can be fetched
#   hack/kernels.sh --refresh ...  fetch again, to have the newest of each series
#
# Only QEMU and a few tools are installed. The kernels come through apt with a
# root of its own (lists, cache, and a system where nothing is installed), from the
# mirror that this machine uses, and are unpacked without being installed; so
# are the compilers of a newer Debian, where a kernel needs those. All of it is
# in ${NETIO_CACHE:-~/.cache/netio}/kernels.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=hack/kernels-env.sh
. hack/kernels-env.sh
export HOME=${HOME:-/root} DEBIAN_FRONTEND=noninteractive

# series, suite, flavour, compiler, suite whose tools build for it. 5.10 was
# built with the gcc of bullseye; that of bookworm does as well. Cloud kernels
# are small and boot fast; 6.1 is the one with all modules.
readonly SERIES='
5.10 bullseye cloud-amd64 gcc-12 bookworm
6.1 bookworm amd64 gcc-12 bookworm
6.12 bookworm-backports cloud-amd64 gcc-12 bookworm
6.12-trixie trixie cloud-amd64 gcc-14 trixie
newest trixie-backports cloud-amd64 gcc-14 trixie
'

# what it is looked for by : Debian package
readonly NEEDS='
qemu-system-x86_64:qemu-system-x86
depmod:kmod
xz:xz-utils
zstd:zstd
make:make
gcc:gcc
bc:bc
unshare:util-linux
flock:util-linux
/usr/share/keyrings/debian-archive-keyring.gpg:debian-archive-keyring
'
readonly SOURCE_NEEDS='
flex:flex
bison:bison
perl:perl
/usr/include/libelf.h:libelf-dev
'
readonly STATIC_NEEDS='
sparse:sparse
spatch:coccinelle
clang:clang
ld.lld:lld
'

present() {
	case $1 in
	/*) [ -e "$1" ] ;;
	*) PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null ;;
	esac
}

install_missing() {
	local need missing=()
	for need in "$@"; do
		present "${need%%:*}" || missing+=("${need##*:}")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	command -v apt-get >/dev/null || die "this is not Debian or Ubuntu; install with your own package manager: ${missing[*]}"
	[ "$(id -u)" = 0 ] || die "run as root to install: ${missing[*]}"
	say "installing with apt-get: ${missing[*]}"
	apt-get -qq update
	apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
}

# mirror: the Debian mirror of this machine.
mirror() {
	local uri
	# shellcheck disable=SC2016 # expanded by apt-get
	uri=${NETIO_DEBIAN_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' | grep -m 1 '/debian/\?$' || true)}
	[ -n "$uri" ] || die "this machine's apt knows no Debian mirror; name one in NETIO_DEBIAN_MIRROR"
	echo "$uri"
}

# private_apt SUITE COMMAND...: apt-get or apt-cache in a root of its own that
# knows this suite alone, and where nothing is installed.
private_apt() {
	local root=$kernels/apt/$1 command=$2
	shift 2
	"$command" -qq \
		-o Dir::State="$root" -o Dir::State::Lists="$root/lists" -o Dir::State::Status="$root/status" \
		-o Dir::Cache="$root/cache" -o Dir::Etc::SourceList="$root/sources.list" -o Dir::Etc::SourceParts=/dev/null \
		-o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null \
		-o Acquire::Languages=none -o APT::Sandbox::User=root -o APT::Get::AllowUnauthenticated=false "$@"
}

# update SUITE: once in a run of this script; also when called in a subshell.
update() {
	local suite=$1 root=$kernels/apt/$1
	[ "$(cat "$root/updated-by" 2>/dev/null)" != $$ ] || return 0
	mkdir -p "$root"/{lists,cache/archives}/partial
	: >"$root/status"
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(mirror) $suite main" >"$root/sources.list"
	private_apt "$suite" apt-get update
	echo $$ >"$root/updated-by"
}

# kernel_packages SUITE NAME...: these metapackages, and all that they stand
# for which belongs to the kernel.
kernel_packages() {
	local suite=$1
	shift
	private_apt "$suite" apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts \
		--no-breaks --no-replaces --no-enhances "$@" |
		grep -E '^linux-(headers|image|kbuild|modules|binary)-' | grep -v -e '-unsigned$' | sort -u
}

# unpack SUITE ROOT PACKAGE...: fetched, and unpacked into ROOT.
unpack() {
	local suite=$1 root=$2 debs
	shift 2
	debs=$(mktemp -d "$kernels/debs.XXXXXX")
	(cd "$debs" && private_apt "$suite" apt-get download "$@")
	mkdir -p "$root"
	find "$debs" -name '*.deb' -exec dpkg -x {} "$root" ';'
	rm -rf "$debs"
}

# relocate ROOT: the files of linux-headers packages name each other by
# absolute paths; let them be those below ROOT.
relocate() {
	local root=$1 file link target
	for file in "$root"/usr/src/linux-headers-*/{Makefile,.kernelvariables}; do
		[ ! -f "$file" ] || sed -i -E "s@(^|[^.[:alnum:]])(/usr/(src/linux-headers|lib/linux-kbuild))@\1$root\2@g" "$file"
	done
	for link in "$root"/usr/src/linux-headers-*/*; do
		[ -L "$link" ] || continue
		target=$(readlink "$link")
		case $target in /usr/*) ln -sfn "$root$target" "$link" ;; esac
	done
}

# tools SUITE COMPILER: prints the folder with the tools of that suite, empty
# if they are those of this machine. Unpacked packages do: no package's
# script has to run for a compiler to work in a chroot.
tools() {
	local suite=$1 compiler=$2 root=$kernels/tools/$1 packages
	if [ "$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)" = "$suite" ] && present "$compiler"; then
		return
	fi
	if [ ! -e "$root/.complete" ]; then
		say "fetching $compiler of $suite, with all that it needs" >&2
		update "$suite"
		packages=$(private_apt "$suite" apt-get install --simulate --no-install-recommends \
			"$compiler" make libelf1t64 coreutils findutils diffutils sed grep mawk dash bash bc kmod |
			sed -n 's/^Inst \([^ ]*\).*/\1/p')
		rm -rf "$root"
		mkdir -p "$root"/usr/{bin,lib,lib64,sbin} "$root"/{proc,dev,tmp}
		ln -s usr/bin usr/lib usr/lib64 usr/sbin "$root/"
		# shellcheck disable=SC2086 # a list of names
		unpack "$suite" "$root" $packages
		ln -sf mawk "$root/usr/bin/awk"
		[ -e "$root/usr/bin/sh" ] || ln -s dash "$root/usr/bin/sh"
		: >"$root/.complete"
	fi
	echo "$root"
}

# fetch SERIES SUITE FLAVOUR COMPILER TOOLS
fetch() {
	local series=$1 suite=$2 flavour=$3 compiler=$4 tools=$5 packages kdir release root image
	tools=$(tools "$tools" "$compiler")
	update "$suite"
	packages=$(kernel_packages "$suite" "linux-headers-$flavour" "linux-image-$flavour")
	root=$kernels/series/$series
	say "fetching $series: $(xargs <<<"$packages")"
	rm -rf "$root"
	# shellcheck disable=SC2086 # a list of names
	unpack "$suite" "$root" $packages
	relocate "$root"
	kdir=$(find "$root/usr/src" -maxdepth 1 -name "linux-headers-*$flavour" | sort -V | tail -n 1)
	release=${kdir##*/linux-headers-}
	if [ ! -d "$root/lib/modules/$release" ]; then
		mkdir -p "$root/lib"
		ln -s ../usr/lib/modules "$root/lib/modules"
	fi
	image=$root/boot/vmlinuz-$release
	[ -e "$image" ] || image=$root/lib/modules/$release/vmlinuz
	[ -e "$image" ] || die "no kernel image in the packages of $series: $packages"
	PATH=$PATH:/usr/sbin:/sbin depmod -b "$root" "$release" 2>/dev/null
	cat >"$root/about.new" <<-EOT
		series=$series
		release=$release
		kdir=$kdir
		image=$image
		modules=$root/lib/modules/$release
		cc=$compiler
		tools=$tools
		arch=x86_64
	EOT
	# Last: this file says that all the rest is there.
	mv "$root/about.new" "$root/about"
}

# fetch_source NAME: a package linux-source-VERSION.
fetch_source() {
	local name=$1 src=$kernels/src
	[ ! -e "$src/$name/Makefile" ] || return 0
	say "fetching $name"
	update bookworm
	unpack bookworm "$src/package" "$name"
	tar -C "$src" -xf "$src/package/usr/src/$name.tar.xz"
	rm -rf "$src/package"
}

list() {
	local series suite flavour compiler tools release
	while read -r series suite flavour compiler tools; do
		[ -n "$series" ] || continue
		release=$(about "$series" release)
		printf '%-12s %-20s %-12s %s\n' "$series" "$suite" "$flavour" "${release:-not there}"
	done <<<"$SERIES"
	for series in $debug_series; do
		release=$(about "$series" release)
		printf '%-12s %-20s %-12s %s\n' "$series" 'compiled here' debug "${release:-not there}"
	done
}

refresh='' source='' wanted=()
while [ $# -gt 0 ]; do
	case $1 in
	--list)
		list
		exit
		;;
	--names)
		awk 'NF { print $1 }' <<<"$SERIES"
		exit
		;;
	--static)
		read -ra needs <<<"$(xargs <<<"$STATIC_NEEDS")"
		install_missing "${needs[@]}"
		exit
		;;
	--source)
		source=${2:?a name like linux-source-6.1}
		shift
		;;
	--refresh) refresh=1 ;;
	-*) die "usage: hack/kernels.sh [--list | --names | --static | --source NAME | --refresh] [SERIES...]" ;;
	*)
		grep -q "^$1 " <<<"$SERIES" || die "no series $1; there are: $(awk '{print $1}' <<<"$SERIES" | xargs)"
		wanted+=("$1")
		;;
	esac
	shift
done
[ ${#wanted[@]} -gt 0 ] || read -ra wanted <<<"$(awk '{print $1}' <<<"$SERIES" | xargs)"

read -ra needs <<<"$(xargs <<<"$NEEDS")"
install_missing "${needs[@]}"
mkdir -p "$kernels"
exec 9>"$kernels/lock"
flock 9
if [ -n "$source" ]; then
	read -ra needs <<<"$(xargs <<<"$SOURCE_NEEDS")"
	install_missing "${needs[@]}"
	fetch_source "$source"
	exit
fi
failed=()
for series in "${wanted[@]}"; do
	if [ -z "$refresh" ] && have "$series"; then
		continue
	fi
	# A subshell, with errors fatal in it: one mirror that has dropped a suite
	# does not keep the other series away.
	set +e
	(
		set -e
		read -r name suite flavour compiler tools <<<"$(grep "^$series " <<<"$SERIES")"
		fetch "$name" "$suite" "$flavour" "$compiler" "$tools"
	)
	status=$?
	set -e
	[ $status = 0 ] || failed+=("$series")
done
list
[ ${#failed[@]} = 0 ] || die "could not be fetched: ${failed[*]}"
