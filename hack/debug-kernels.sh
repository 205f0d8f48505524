#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Compile the kernels that find mistakes in netio.ko, of Debian's sources and
# the settings in test/vm/kernels. About ten minutes of CPU time each; does
# nothing when they are there and their settings have not changed.
#
#   hack/debug-kernels.sh [uml-debug | kasan | kcsan]...
#
# uml-debug: KASAN, lockdep, kmemleak, fault injection, in User Mode Linux.
# kasan: the same for QEMU with several CPUs and with NICs, which User Mode Linux
# does not have. It is many times slower.
# kcsan: data races, for QEMU with several CPUs.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=hack/kernels-env.sh
. hack/kernels-env.sh

readonly SOURCE=linux-source-6.1
configs=$PWD/test/vm/kernels

# settings SERIES: the files with its settings.
settings() {
	case $1 in
	uml-debug) echo "$configs"/{network,uml,memory}.config ;;
	kasan) echo "$configs"/{network,x86,memory}.config ;;
	kcsan) echo "$configs"/{network,x86,races}.config ;;
	*) die "usage: hack/debug-kernels.sh [uml-debug | kasan | kcsan]..." ;;
	esac
}

compile() {
	local series=$1 tree=$kernels/src/$SOURCE out=$kernels/series/$1 arch=x86_64 target=bzImage image files sum
	local make=(nice -n 19 make -C "$tree" "O=$out/build" "-j$(nproc)")
	read -ra files <<<"$(settings "$series")"
	sum=$(cat "${files[@]}" | sha256sum | cut -d' ' -f1)
	[ "$(about "$series" settings)" != "$sum" ] || return 0
	[ -e "$tree/Makefile" ] || hack/kernels.sh --source "$SOURCE"
	say "compiling $series; this takes its time"
	image=$out/build/arch/x86/boot/bzImage
	if [ "$series" = uml-debug ]; then
		arch=um target=linux image=$out/build/linux
		make+=(ARCH=um SUBARCH=x86_64)
	fi
	mkdir -p "$out/build"
	rm -f "$out/about"
	{
		"${make[@]}" tinyconfig
		(cd "$tree" && scripts/kconfig/merge_config.sh -O "$out/build" -m "$out/build/.config" "${files[@]}")
		"${make[@]}" olddefconfig
		"${make[@]}" "$target" modules
	} >"$out/build.log" 2>&1 || die "compiling $series failed; see $out/build.log"
	# What the kernel's configuration dropped, because something it needs is
	# not set, is a kernel that finds less than it seems to.
	grep -hE '^CONFIG_.*=' "${files[@]}" | while read -r line; do
		grep -qx "$line" "$out/build/.config" || say "$series does not have $line"
	done
	cat >"$out/about.new" <<-EOT
		series=$series
		release=$(cat "$out/build/include/config/kernel.release")
		kdir=$out/build
		image=$image
		modules=
		cc=gcc
		tools=
		arch=$arch
		settings=$sum
	EOT
	mv "$out/about.new" "$out/about"
	say "$series: $(about "$series" release)"
}

[ $# -gt 0 ] || set -- uml-debug kasan kcsan
mkdir -p "$kernels"
exec 8>"$kernels/lock-debug"
flock 8
hack/kernels.sh --source "$SOURCE"
for series in "$@"; do
	compile "$series"
done
