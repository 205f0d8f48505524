#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Build kmod/ against kernels that hack/kernels.sh fetched, into
# build/kmod/SERIES, and check its source. Warnings are errors.
#
#   hack/kmod.sh build SERIES... | all
#   hack/kmod.sh check
#
# KMOD names another folder than kmod.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=hack/kernels-env.sh
. hack/kernels-env.sh

source=${KMOD:-kmod}

# mirror_source DIR: makes DIR hold the same source files, and keeps the times of
# those that have not changed, so that only what changed is compiled. The tree
# itself stays free of object files.
mirror_source() {
	local dir=$1 file
	(cd "$source" && find . -type f) | while read -r file; do
		cmp -s "$source/$file" "$dir/$file" || install -D -m 0644 "$source/$file" "$dir/$file"
	done
	(cd "$dir" && find . -name '*.[ch]' ! -name '*.mod.c') | while read -r file; do
		[ -e "$source/$file" ] || rm -f "$dir/$file"
	done
}

# make_modules SERIES DIR [MAKE-ARGUMENT...]. Without BTF, which would need the
# pahole that the kernel was built with, and with a check of documentation
# comments (a part of W=1) only where there is a Perl for it.
make_modules() {
	local series=$1 dir=$2 tools
	shift 2
	tools=$(about "$series" tools)
	[ "$(about "$series" arch)" != um ] || set -- ARCH=um SUBARCH=x86_64 "$@"
	[ -z "$tools" ] || set -- cmd_checkdoc= "$@"
	# What the compiler adds to find mistakes is on the stack too.
	[ -z "$(about "$series" settings)" ] || set -- CONFIG_FRAME_WARN=4096 "$@"
	with_tools "$tools" \
		make -C "$(about "$series" kdir)" "M=$dir" "CC=$(about "$series" cc)" CONFIG_DEBUG_INFO_BTF_MODULES= \
		"-j$(nproc)" "$@" modules
}

# warnings LOG: lines that say that something is wrong, though make succeeded.
# That a tool is of another release than the kernel's was is none of it.
warnings() {
	grep -iE 'warning:|error:' "$1" | grep -vE '(compiler|pahole version) differs from the one used to build the kernel'
}

build() {
	local series=$1 dir=$PWD/build/kmod/$1 log=$PWD/build/kmod/$1.log
	have "$series" || die "kernel series $series is not there; run: make vm-bootstrap"
	mkdir -p "$dir"
	exec 9>"$dir.lock"
	flock 9
	mirror_source "$dir"
	if ! make_modules "$series" "$dir" W=1 KCFLAGS=-Werror >"$log" 2>&1; then
		cat "$log" >&2
		die "$series: does not build"
	fi
	! warnings "$log" >&2 || die "$series: builds with warnings"
	say "$series: $(about "$series" release), $(cd "$dir" && echo *.ko)"
}

# All that are there; that is what hack/kernels.sh --list says.
all_series() {
	local about
	for about in "$kernels"/series/*/about; do
		[ -e "$about" ] && sed -n 's/^series=//p' "$about"
	done
}

case ${1-} in
build)
	shift
	[ "${*:-}" != all ] || read -ra all <<<"$(all_series | xargs)"
	[ $# -gt 0 ] || die "usage: hack/kmod.sh build SERIES... | all"
	[ "$*" != all ] || set -- "${all[@]}"
	[ -e "$source/Kbuild" ] || die "there is no $source/Kbuild"
	failed=()
	for series in "$@"; do
		(build "$series") || failed+=("$series")
	done
	[ ${#failed[@]} = 0 ] || die "failed: ${failed[*]}"
	;;
check) exec hack/kmod-check.sh ;;
*) die "usage: hack/kmod.sh build SERIES... | all, or check" ;;
esac
